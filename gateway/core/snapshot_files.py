"""The numbered snapshots of a state directory. Standard library only: workers start from them without control.

snapshots/000007.candidate.json    prepared, perhaps never committed
snapshots/000007.json              committed; what a process starts from
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

_COMMITTED = re.compile(r"(\d{6,})\.json")
_ANY = re.compile(r"(\d{6,})(\.candidate)?\.json(\.new)?")
#: Enough to look at what was in force when a record was written yesterday; all of them are in the database's history.
KEPT = 20


class SnapshotFiles:
    """Reads and writes ``STATE_DIR/snapshots``. OSErrors pass as the system says them."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._folder = state_dir / "snapshots"

    def write_candidate(self, document: dict[str, Any]) -> str:
        """Write a snapshot that shall be prepared; returns its path relative to the state directory."""
        name = f"{document['number']:06d}.candidate.json"
        self._write(name, document)
        return f"snapshots/{name}"

    def _write(self, name: str, document: dict[str, Any]) -> None:
        # Replaced as a whole: a process that starts meanwhile sees all of it or the one before.
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / name
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(document, file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.new", path)

    def commit(self, number: int) -> None:
        """A candidate becomes the snapshot to start from. It stays readable under its old name until the next one."""
        committed = self._folder / f"{number:06d}.json"
        with suppress(FileExistsError):
            os.link(self._folder / f"{number:06d}.candidate.json", committed)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._forget_old_ones(number)

    def _forget_old_ones(self, number: int) -> None:
        committed = sorted(self._numbers(_COMMITTED))
        kept = {*committed[-KEPT:], number}
        for name in os.listdir(self._folder):
            found = _ANY.fullmatch(name)
            if found is None:
                continue
            own, is_committed = int(found[1]), found[2] is None and found[3] is None
            if own < number and not (is_committed and own in kept):
                with suppress(FileNotFoundError):
                    (self._folder / name).unlink()

    def path_of(self, number: int) -> str:
        """Path of a committed snapshot relative to the state directory."""
        return f"snapshots/{number:06d}.json"

    def read(self, number: int) -> dict[str, Any]:
        """A committed snapshot. OSError if there is none of that number, ValueError if it is no JSON."""
        document: dict[str, Any] = json.loads((self._state_dir / self.path_of(number)).read_bytes())
        return document

    def newest(self) -> int:
        """Number of the newest committed snapshot; 0 if there is none."""
        return max(self._numbers(_COMMITTED), default=0)

    def newest_of_any_kind(self) -> int:
        """The highest number in use, committed or not; the next snapshot must be above it."""
        return max(self._numbers(_ANY), default=0)

    def _numbers(self, pattern: re.Pattern[str]) -> list[int]:
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        return [int(found[1]) for name in names if (found := pattern.fullmatch(name))]
