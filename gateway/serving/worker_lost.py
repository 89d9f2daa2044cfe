"""What became of the requests that a dead worker had in native code: rows with status UNAVAILABLE, written once.

The supervisor finds their prediction ids in the dead worker's breadcrumbs and appends them to ``run/crashes.jsonl``.
Only the successor may write that worker's ring, so the successor tells it, before it serves. A note beside the
obituaries says how far this was done; where a successor died between its frames and that note, the ring itself still
has the frames: they are the newest ones in it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway._fast.lost_requests import commit_lost, recorded_in
from gateway._fast.record_ring import RingWriter, SchemaHandle
from gateway.core.errors import WorkerLost
from gateway.serving.error_replies import GRPC_STATUS

log = logging.getLogger(__name__)

OBITUARIES = "crashes.jsonl"
#: (model, version) → handle of the frames to be committed; None for a model that is not recorded.
SchemaOf = Callable[[str, str], SchemaHandle | None]


@dataclass(frozen=True, slots=True)
class LostRequest:
    """A request that was in native code when its worker died."""

    prediction_id: bytes
    model: str
    version: str


class Obituaries:
    """The deaths of one worker's predecessors within the life of one supervisor."""

    def __init__(self, run_dir: Path, index: int, supervisor_started: str) -> None:
        """An earlier supervisor's are left alone: its rings are closed chapters by now."""
        self._path = run_dir / OBITUARIES
        self._note = run_dir / f"told-worker-{index}.json"
        self._index = index
        self._started = supervisor_started

    def untold(self) -> list[dict[str, Any]]:
        """Those that :meth:`remember` was not called for, oldest first."""
        found = [entry for entry in self._entries() if self._concerns_us(entry)]
        told = self._last_told()
        for position, entry in enumerate(found):
            if _name(entry) == told:
                return found[position + 1 :]
        return found

    def remember(self, entry: dict[str, Any]) -> None:
        """This one and those before it have been told."""
        making = self._note.with_suffix(".making")
        making.write_text(json.dumps(_name(entry)), encoding="utf-8")
        making.replace(self._note)

    def _concerns_us(self, entry: dict[str, Any]) -> bool:
        return (entry.get("role"), entry.get("index"), entry.get("started")) == ("worker", self._index, self._started)

    def _entries(self) -> Iterator[dict[str, Any]]:
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                log.warning("%s has a line that is no JSON: %.100s", self._path, line)

    def _last_told(self) -> list[object] | None:
        try:
            told: list[object] = json.loads(self._note.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return told


def _name(entry: dict[str, Any]) -> list[object]:
    return [entry["started"], entry["ts"], entry["pid"]]


def lost_requests(obituary: dict[str, Any]) -> list[LostRequest]:
    """The requests that an obituary names."""
    return [
        LostRequest(bytes.fromhex(request["prediction_id"]), suspect["model"], suspect["version"])
        for suspect in obituary["suspects"]
        for request in suspect["requests"]
    ]


def tell_lost_requests(obituaries: Obituaries, ring: RingWriter, schema_of: SchemaOf) -> int:
    """Commit a frame for each request that died with a predecessor and has none; returns how many.

    To be called by the ring's writer before it commits anything else. OSError where the note cannot be written.
    """
    untold = obituaries.untold()
    if not untold:
        return 0
    lost = {request.prediction_id: request for obituary in untold for request in lost_requests(obituary)}
    recorded = recorded_in(ring.path, lost.keys()) if lost else set()
    told = 0
    for prediction, request in lost.items():
        schema = schema_of(request.model, request.version)
        if schema is None or prediction in recorded:
            continue
        error = WorkerLost(f"the worker died while it ran model '{request.model}' version {request.version}")
        told += commit_lost(ring, schema, prediction, GRPC_STATUS[error.code], error)
    obituaries.remember(untold[-1])
    return told
