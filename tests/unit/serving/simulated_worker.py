"""A pipeline without sockets, threads or a clock: every choice of order is the seed's."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

from gateway._fast.exchange import Exchange, KeptPort, exchange_for_test
from gateway._fast.oip_wire import OipDialect, ReplyTemplate
from gateway._fast.pipeline import Pipeline
from gateway._fast.record_ring import RingWriter
from gateway._fast.served import ServedModel, ServedVersion
from gateway._fast.slot_table import SlotTable
from gateway._fast.tensor_binding import InputTable
from gateway.core.tensors import DataType, TensorSpec
from gateway.serving._generated import inference_pb2
from gateway.serving.cost_model import CostModel
from gateway.serving.error_replies import GRPC_STATUS
from gateway.serving.fair_share import Account
from gateway.serving.lanes import InlineLane

POISON = -1.0  # a row that starts with it makes the model throw
WIDTH = 3


class HeldLane:
    """Takes jobs and lets the simulator say when, and in which order, they run."""

    def __init__(self) -> None:
        self.jobs: list = []

    def submit(self, job: object) -> None:
        self.jobs.append(job)


class SummingSession:
    """``y[i] = sum(x[i]) * version``: an answer that shows whose rows, and which version, it came from."""

    def __init__(self, version: int) -> None:
        self.version = version

    def run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        rows = feeds["x"]
        if (rows[:, 0] == POISON).any():
            raise RuntimeError("poison")
        return [(rows.sum(axis=1, dtype=np.float32) * self.version).astype(np.float32)]


def served_version(model: str, version: str, *, placement: str, durability: str, on_full: str) -> ServedVersion:
    inputs = [TensorSpec("x", DataType.FP32, (-1, -1))]
    outputs = [TensorSpec("y", DataType.FP32, (-1,))]
    served = ServedVersion(
        model=model,
        version=version,
        digest=f"digest-{version}",
        inputs=InputTable(model, inputs, outputs=["y"], batchable=True),
        session=SummingSession(int(version)),
        graph_inputs=inputs,
        graph_outputs=outputs,
        batchable=True,
        max_rows=8,
        reply_template=ReplyTemplate(model, version, outputs),
        cost=CostModel(),
        account=Account(),
    )
    served.placement = placement
    served.set_recording({"mode": "on", "durability": durability, "on_full": on_full})
    return served


def infer_request(model: str, rows: np.ndarray, version: str = "") -> bytes:
    request = inference_pb2.ModelInferRequest(model_name=model, model_version=version)
    request.inputs.add(name="x", datatype="FP32", shape=list(rows.shape))
    request.raw_input_contents.append(rows.astype("<f4").tobytes())
    return request.SerializeToString()


@dataclass
class Sent:
    """A request of the simulation and what must become of it."""

    exchange: Exchange
    rows: np.ndarray
    model: str
    cancelled: bool = False
    states: list[int] = field(default_factory=list)


class SimulatedWorker:
    """Random events against a real pipeline and a real ring; :meth:`run` returns what was sent."""

    def __init__(self, seed: int, ring: RingWriter) -> None:
        self.random = random.Random(seed)
        self.lane = HeldLane()
        self.port = KeptPort()
        self.wakes = 0
        self.now = 1_000_000_000
        self.sent: list[Sent] = []
        self.ring = ring
        self.number = 0
        self.pipeline = Pipeline(
            wake=self._wake,
            placement=lambda version, _rows: version.placement,
            inline_lane=InlineLane(),
            open_lane=lambda _version: self.lane,
            scan_lane=self.lane,
            ring=ring,
            counters=None,
            grpc_status=GRPC_STATUS,
        )
        self.pipeline.scan_inline_bytes = self.random.choice([32, 1 << 16])
        self.pipeline.queue_limit = self.random.choice([2, 1000])
        self.adopt_new_snapshot()

    def _wake(self) -> None:
        self.wakes += 1

    def run(self, events: int) -> list[Sent]:
        """``events`` random events, then everything is let finish."""
        for _ in range(events):
            self.random.choices(
                [self.submit, self.step, self.complete_a_job, self.cancel, self.adopt_new_snapshot, self.pass_time],
                weights=[8, 4, 4, 2, 1, 1],
            )[0]()
            self.watch()
        self.finish()
        return self.sent

    # Events.

    def submit(self) -> None:
        model = self.random.choice(["inline", "threaded", "unknown"])
        rows = np.array(
            [[self.random.randrange(100) for _ in range(self.random.choice([WIDTH, WIDTH + 1]))]]
            * self.random.choice([1, 1, 1, 2, 5, 20]),
            dtype=np.float32,
        )
        if self.random.random() < 0.05:
            rows[self.random.randrange(len(rows)), 0] = POISON
        body = infer_request(model, rows, self.random.choice(["", "", "", "1", "2", "9"]))
        if self.random.random() < 0.03:
            body = body[: self.random.randrange(len(body))]
        deadline = self.now + self.random.randrange(1, 50) if self.random.random() < 0.1 else 0
        exchange = exchange_for_test(body, self.port, OipDialect(), deadline)
        self.sent.append(Sent(exchange, rows, model))
        self.pipeline.submit_for_test(exchange)

    def step(self) -> None:
        self.pipeline.step(self.now)

    def complete_a_job(self) -> None:
        if self.lane.jobs:
            job = self.lane.jobs.pop(self.random.randrange(len(self.lane.jobs)))
            job.run()
            self.pipeline.completed([job])

    def cancel(self) -> None:
        if self.sent:
            victim = self.random.choice(self.sent)
            victim.exchange.cancelled = True
            victim.cancelled = True

    def pass_time(self) -> None:
        self.now += self.random.randrange(100)

    def adopt_new_snapshot(self) -> None:
        self.number += 1
        durability = self.random.choice(["process", "process", "best_effort"])
        on_full = self.random.choice(["serve_unlogged", "fail_closed"])
        models = {}
        for name, placement in (("inline", "inline"), ("threaded", "thread")):
            versions = {
                version: served_version(name, version, placement=placement, durability=durability, on_full=on_full)
                for version in ("1", "2")
            }
            slots = SlotTable(bytes([0] * 7000 + [1] * 3000), 7, 2)
            models[name] = ServedModel(name, versions, default="2", order=["1", "2"], slots=slots)
            for served in (*versions.values(), models[name].unrouted):
                served.schema = self.ring.register_schema(
                    name, served.version, served.digest, list(served.inputs.specs), served.outputs
                )
        self.pipeline.adopt(self.number, models, {})

    # Looking and finishing.

    def watch(self) -> None:
        """Remember every state that was seen; a request may only move forward."""
        for sent in self.sent:
            state = int(sent.exchange.state)
            if not sent.states or sent.states[-1] != state:
                sent.states.append(state)

    def finish(self) -> None:
        for _ in range(10_000):
            if not self.pipeline.in_flight:
                break
            self.step()
            self.complete_a_job()
        self.watch()
