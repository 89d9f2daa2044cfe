"""Runners of h2load (package nghttp2-client) and wrk: second opinions on what our own generators count."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROWS_LUA = Path(__file__).with_name("rows.lua")
GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"


class ToolMissing(RuntimeError):
    """The external load generator is not installed; says the package that has it."""


@dataclass(frozen=True, slots=True)
class ExternalOutcome:
    """What the tool itself counted. h2load counts any HTTP 200 as success, a gRPC error too."""

    rate: float
    answered: int
    failed: int


def h2load(port: int, message: bytes, *, connections: int, streams: int, seconds: float, cpu: int) -> ExternalOutcome:
    """One gRPC request over and over; `message` is serialized protobuf. h2load can not cycle bodies."""
    program = _installed("h2load", "nghttp2-client")
    with tempfile.NamedTemporaryFile() as body:
        body.write(struct.pack(">BI", 0, len(message)) + message)
        body.flush()
        command = [
            "taskset", "-c", str(cpu), program,
            "-t1", f"-c{connections}", f"-m{streams}", f"-D{max(1, round(seconds))}",
            "-H", "content-type: application/grpc", "-H", "te: trailers", "-d", body.name,
            f"http://127.0.0.1:{port}{GRPC_PATH}",
        ]  # fmt: skip
        return parse_h2load(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parse_h2load(output: str) -> ExternalOutcome:
    """Read h2load's summary; raises ValueError when it printed none."""
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", output)
    counts = re.search(r"requests: .*? (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    if rate is None or counts is None:
        raise ValueError(f"h2load printed no summary:\n{output}")
    succeeded, *bad = (int(count) for count in counts.groups())
    return ExternalOutcome(float(rate[1]), succeeded, sum(bad))


def wrk(
    port: int, path: str, bodies: Iterable[bytes], *, connections: int, seconds: float, cpu: int
) -> ExternalOutcome:
    """The JSON `bodies` in turn over kept HTTP/1.1 connections."""
    program = _installed("wrk", "wrk")
    with tempfile.NamedTemporaryFile() as lines:
        lines.write(b"\n".join(bodies))
        lines.flush()
        command = [
            "taskset", "-c", str(cpu), program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s",
            "-s", str(ROWS_LUA), f"http://127.0.0.1:{port}{path}", "--", lines.name,
        ]  # fmt: skip
        return parse_wrk(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parse_wrk(output: str) -> ExternalOutcome:
    """Read the line that ``rows.lua`` prints; raises ValueError when it is missing."""
    line = re.search(r"^result (\{.*\})$", output, re.MULTILINE)
    if line is None:
        raise ValueError(f"wrk printed no result:\n{output}")
    result = json.loads(line[1])
    bad = result["refused"] + result["broken"]
    answered = result["requests"] - result["refused"]
    return ExternalOutcome(answered * 1e6 / result["microseconds"], answered, bad)


def _installed(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise ToolMissing(f"{program} is not installed; apt-get install {package}")
    return path
