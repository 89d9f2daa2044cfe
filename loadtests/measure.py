"""One round: a load against one server, and what the server's processes spent on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtests import proc_stat
from loadtests.drivers.grpc_load import GrpcLoad
from loadtests.drivers.http_load import HttpLoad
from loadtests.drivers.load_loop import LoadLoop
from loadtests.outcome import LoadOutcome
from loadtests.requests import DISTINCT_ROWS, AnswerChecker, Verdict, grpc_messages, json_bodies, random_rows
from loadtests.rounds import Round
from loadtests.scenario import LoadSpec
from loadtests.servers import Server

#: Answers compared with ONNX Runtime's before anything is measured.
ANSWERS_CHECKED = 10_000
WARM_UP_SECONDS = 0.5
BYTES_OF_A_JSON_ROW = 190


@dataclass(slots=True)
class Client:
    """A load generator connected to one server."""

    server: Server
    spec: LoadSpec
    loop: LoadLoop
    rows: NDArray[np.float32]
    rows_each: int

    def run(self, seconds: float, *, keep: int = 0) -> LoadOutcome:
        """Closed loop; counts the rows that the record must hold afterwards."""
        return self._counted(self.loop.run_closed(seconds, keep=keep))

    def run_requests(self, requests: int) -> LoadOutcome:
        """Closed loop of so many requests, all replies kept."""
        return self._counted(self.loop.run_closed(600, requests=requests, keep=requests))

    def run_open(self, arrivals_ns: NDArray[np.int64]) -> LoadOutcome:
        """Open loop."""
        return self._counted(self.loop.run_open(arrivals_ns))

    def check_answers(self, models: Path) -> Verdict:
        """Send ANSWERS_CHECKED requests and compare each answer with ONNX Runtime's."""
        checker = AnswerChecker(models / self.spec.model, self.rows, rows_each=self.rows_each)
        kept = self.run_requests(ANSWERS_CHECKED).kept
        return checker.check_grpc(kept) if self.spec.protocol == "grpc" else checker.check_json(kept)

    def _counted(self, outcome: LoadOutcome) -> LoadOutcome:
        self.server.rows_sent += outcome.ok * self.rows_each
        return outcome


@contextlib.contextmanager
def connect(server: Server, spec: LoadSpec, *, streams: int | None = None) -> Iterator[Client]:
    """A client of `spec`'s protocol that cycles through distinct rows."""
    rows_each = round(spec.json_megabytes * 1e6 / BYTES_OF_A_JSON_ROW) or spec.rows_each
    rows = random_rows(max(DISTINCT_ROWS, 2 * rows_each))
    with _loop(server, spec, rows, rows_each, streams or spec.streams) as loop:
        yield Client(server, spec, loop, rows, rows_each)


def _loop(server: Server, spec: LoadSpec, rows: NDArray[np.float32], rows_each: int, streams: int) -> LoadLoop:
    if spec.protocol == "grpc":
        messages = grpc_messages(spec.model, rows, rows_each=rows_each)
        return GrpcLoad("127.0.0.1", server.grpc_port, messages, connections=spec.connections, streams=streams)
    bodies = json_bodies(rows, rows_each=rows_each)
    path = f"/v2/models/{spec.model}/infer"
    return HttpLoad("127.0.0.1", server.http_port, bodies, connections=spec.connections, path=path)


def measured_round(client: Client, seconds: float, *, server_cpu: int) -> Round:
    """Run the closed loop for `seconds`, wait until the record has caught up, and account for all CPU spent."""
    server = client.server
    before = _Spent.now(server, server_cpu)
    outcome = client.run(seconds)
    answered = _Spent.now(server, server_cpu)
    if server.recording:
        server.wait_until_recorded()
    recorded = _Spent.now(server, server_cpu)
    per_request = 1e6 / max(1, outcome.ok)
    latency = outcome.percentiles
    return Round(
        server=server.name,
        rate=outcome.rate,
        ok=outcome.ok,
        failed=outcome.failed,
        lost=outcome.lost,
        worker_us=(answered.worker - before.worker) * per_request,
        tree_us=(recorded.tree - before.tree) * per_request,
        recorder_us=(recorded.recorder - before.recorder) * per_request,
        p50_us=latency.p50_us,
        p99_us=latency.p99_us,
        p999_us=latency.p999_us,
        client_busy=outcome.client_busy,
        steal=answered.steal_since(before),
        foreign=answered.foreign_since(before),
    )


@dataclass(frozen=True, slots=True)
class _Spent:
    worker: float
    tree: float
    recorder: float
    machine: proc_stat.CpuTimes
    cpu: proc_stat.CpuTimes

    @classmethod
    def now(cls, server: Server, server_cpu: int) -> _Spent:
        times = proc_stat.read_cpu_times()
        return cls(
            worker=proc_stat.cpu_seconds(server.workers),
            tree=proc_stat.family_cpu_seconds(server.root),
            recorder=proc_stat.cpu_seconds(server.recorders),
            machine=times["cpu"],
            cpu=times[f"cpu{server_cpu}"],
        )

    def steal_since(self, before: _Spent) -> float:
        return (self.machine.stolen - before.machine.stolen) / max(1e-9, self.machine.total - before.machine.total)

    def foreign_since(self, before: _Spent) -> float:
        others = (self.cpu.busy - before.cpu.busy) - (self.tree - before.tree)
        return max(0.0, others) / max(1e-9, self.cpu.total - before.cpu.total)
