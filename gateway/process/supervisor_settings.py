"""What the supervisor reads of ``run/server.json``. Standard library only; ``config/server.py`` owns the file."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from gateway.core.shared_page import MAX_SCORERS, MAX_WORKERS
from gateway.process.state_directory import StartError


class SupervisorSettings(NamedTuple):
    """The few settings that concern the process tree."""

    config_path: str
    state_dir: str
    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    admin_port: int = 8002
    admin_host: str = "127.0.0.1"
    workers: int = 1
    recorders: int = 1
    #: Most scorers at a time; how many run is control's wish.
    scorers: int = 1
    recording: bool = True
    grpc_transport: str = "native"
    ring_bytes: int = 32 << 20
    drain_seconds: float = 30.0

    @property
    def rings(self) -> list[str]:
        """Names of the rings, one for each process that commits frames; none when nothing is recorded."""
        if not self.recording:
            return []
        return [f"w{index}" for index in range(self.workers)] + [f"s{index}" for index in range(self.scorers)]

    @property
    def counter_rows(self) -> int:
        """Rows of the counter pages: workers first, then scorers, then recorders."""
        return self.workers + self.scorers + self.recorders

    def counter_row_of_recorder(self, index: int) -> int:
        """The row that recorder ``index`` writes."""
        return self.workers + self.scorers + index

    def rings_of_recorder(self, index: int) -> list[str]:
        """The share of one recorder: every ring has exactly one reader that keeps its frames."""
        return self.rings[index :: self.recorders]


def read_settings(config_path: str) -> SupervisorSettings:
    """Settings from the JSON that `gateway serve` wrote. StartError with file and field if it is not right."""
    try:
        with open(config_path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError) as error:
        raise StartError(f"{config_path}: cannot be read as JSON: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("state_dir"), str):
        raise StartError(f"{config_path}: an object with at least `state_dir` is expected; `gateway serve` writes it")
    known = {name: found[name] for name in SupervisorSettings._fields if found.get(name) is not None}
    known["recording"] = known.get("recording", True) not in (False, "off")
    settings = SupervisorSettings(**{**known, "config_path": os.path.abspath(config_path)})
    for field, least, most in (
        ("workers", 1, MAX_WORKERS),
        ("recorders", 1, MAX_WORKERS),
        ("scorers", 0, MAX_SCORERS),
        ("http_port", 0, 65535),
        ("grpc_port", 0, 65535),
        ("admin_port", 0, 65535),
    ):
        value = getattr(settings, field)
        if not isinstance(value, int) or not least <= value <= most:
            raise StartError(f"{config_path}: {field}: {value!r} is not a number from {least} to {most}")
    return settings
