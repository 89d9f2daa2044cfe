"""Everything in one go: train, serve, play, show the record, keep serving.

.venv/bin/python examples/flights/demo.py [--once]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from data import DataMissing, Source, read_flights
from play import RequestFailed, choose_flights, play
from report import Cli, ReportFailed, show
from rich.console import Console
from train import MODEL, WrongExport, train_if_needed

ROOT = Path(__file__).resolve().parents[2]
GATEWAY = ROOT / ".venv" / "bin" / "gateway"
READY_SECONDS = 60.0
STOP_SECONDS = 45.0


class ServeFailed(Exception):
    """The gateway did not start, or did not stop as it should."""


@dataclass(frozen=True)
class Endpoint:
    """Where the gateway answers."""

    http: str
    grpc: str
    admin: str


def demo(arguments: argparse.Namespace, console: Console) -> None:
    console.rule("1. train")
    train_if_needed(arguments.models_dir, console)

    console.rule("2. serve")
    with serving(arguments.models_dir, arguments.state_dir, console) as (endpoint, gateway):
        console.rule("3. play July to December")
        with console.status("reading the flights"):
            flights = choose_flights(read_flights(Source.find()), arguments.requests)
        since = datetime.now(UTC).isoformat()
        played = asyncio.run(play(flights, endpoint.grpc, endpoint.http, console))

        console.rule("4. what the record says")
        show(Cli(GATEWAY, arguments.state_dir), played, since, console)
        if not arguments.once:
            console.print(invitation(endpoint, arguments.state_dir), highlight=False)
            gateway.wait()


@contextmanager
def serving(models_dir: Path, state_dir: Path, console: Console) -> Iterator[tuple[Endpoint, subprocess.Popen[bytes]]]:
    """`gateway serve` on free ports until the end of the block, then the orderly stop."""
    log = state_dir.with_suffix(".log")
    command = [str(GATEWAY), "serve", str(models_dir), "--state-dir", str(state_dir)]
    for port in ("--http-port", "--grpc-port", "--admin-port"):
        command += [port, "0"]
    with log.open("wb") as output:
        gateway = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        with console.status("gateway serve"):
            endpoint, seconds = wait_until_ready(gateway, state_dir, log)
        where = f"HTTP {endpoint.http}, gRPC {endpoint.grpc}, admin {endpoint.admin}"
        console.print(f"ready after {seconds:.1f} s: {where}; its log is {log}", soft_wrap=True)
        yield endpoint, gateway
    finally:
        stop(gateway, log)


def wait_until_ready(gateway: subprocess.Popen[bytes], state_dir: Path, log: Path) -> tuple[Endpoint, float]:
    began = time.monotonic()
    while time.monotonic() < began + READY_SECONDS:
        if gateway.poll() is not None:
            raise ServeFailed(f"gateway serve ended with {gateway.returncode}:\n{tail(log)}")
        endpoint = endpoint_of(state_dir, gateway.pid)
        if endpoint is not None and is_ready(endpoint):
            return endpoint, time.monotonic() - began
        time.sleep(0.05)
    raise ServeFailed(f"not ready after {READY_SECONDS:.0f} s:\n{tail(log)}")


def endpoint_of(state_dir: Path, pid: int) -> Endpoint | None:
    """The ports that this supervisor wrote down; None before it has."""
    try:
        runtime = json.loads((state_dir / "run" / "runtime.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if runtime["supervisor"] != pid:  # of an earlier run
        return None
    ports = runtime["ports"]
    return Endpoint(
        f"http://127.0.0.1:{ports['http']}", f"127.0.0.1:{ports['grpc']}", f"http://127.0.0.1:{ports['admin']}"
    )


def is_ready(endpoint: Endpoint) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint.http}/v2/health/ready", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def stop(gateway: subprocess.Popen[bytes], log: Path) -> None:
    """SIGTERM, and the exit code that an orderly stop has."""
    if gateway.poll() is None:
        gateway.send_signal(signal.SIGTERM)
    try:
        code = gateway.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired as error:
        gateway.kill()
        raise ServeFailed(f"still there {STOP_SECONDS:.0f} s after SIGTERM, killed:\n{tail(log)}") from error
    if code != 0:
        raise ServeFailed(f"gateway serve ended with {code}:\n{tail(log)}")


def tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def invitation(endpoint: Endpoint, state_dir: Path) -> str:
    state = state_dir.relative_to(Path.cwd()) if state_dir.is_relative_to(Path.cwd()) else state_dir
    return f"""
The gateway keeps serving until Ctrl-C. In another terminal:

  curl -s {endpoint.http}/v1/models/{MODEL}:predict -d '{{"instances": [{{"carrier": "UA", "origin": "EWR",
    "dest": "SFO", "sched_dep": "2013-12-23T18:00:00", "distance": 2565, "temp": 40, "humid": 80, "wind_speed": 12,
    "precip": 0, "pressure": 1010, "visib": 4}}]}}'
  .venv/bin/gateway traffic set {MODEL} 1=50 2=50 --state-dir {state}
  .venv/bin/gateway log query "SELECT version, role, count(*), avg(total_us) FROM predictions GROUP BY ALL" --state-dir {state}
  .venv/bin/gateway log tail --state-dir {state}
"""  # noqa: E501 - a command to copy stays on one line


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true", help="stop after the tables instead of serving on")
    parser.add_argument("--requests", type=int, default=24_000, help="flights to play (default %(default)s)")
    parser.add_argument("--models-dir", type=Path, default=ROOT / "models")
    parser.add_argument("--state-dir", type=Path, default=ROOT / "demo-state")
    console = Console()
    try:
        demo(parser.parse_args(), console)
    except (DataMissing, WrongExport, ServeFailed, RequestFailed, ReportFailed) as error:
        console.print(f"[bold red]demo:[/] {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
