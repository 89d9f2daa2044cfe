"""A state directory with a ring, and what became of the exchanges committed to it."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pyarrow.parquet as pq

from gateway.process.builder import command_line
from gateway.recording.builder import BuilderCommand
from gateway.recording.copier import RingCopier, Rotation
from gateway.recording.manifest import Manifest, sqlite_url
from gateway.recording.moment import Place, read_moment
from gateway.recording.parquet import consume_segment
from gateway.recording.segments import SegmentName, list_segments
from gateway.recording.unbuilt import tables_of
from tests.fast.record_makers import commit_numbers, mlp_ring

LARGE = Rotation(size=1 << 40, seconds=1e9)


class RecordPlace:
    """A gateway's directories, its first ring, and a recorder's pieces to be used one by one."""

    def __init__(self, folder: Path, capacity: int = 1 << 20) -> None:
        self.state_dir = folder / "state"
        self.shm_dir = folder / "shm"
        self.segments = self.state_dir / "segments"
        for path in (self.segments, self.state_dir / "run", self.shm_dir):
            path.mkdir(parents=True)
        self.database_url = sqlite_url(self.state_dir)
        self.writer, self.handle = mlp_ring(self.shm_dir, capacity=capacity)
        self.ring_path = self.shm_dir / "w0.ring"
        self.closed: list[SegmentName] = []

    @property
    def place(self) -> Place:
        return Place(self.state_dir, self.database_url, (self.shm_dir,))

    def commit(self, numbers: range, **fields: object) -> list[int]:
        return commit_numbers(self.writer, self.handle, numbers, **fields)

    def manifest(self) -> Manifest:
        return Manifest.open(self.database_url)

    def copier(self, **options: object) -> RingCopier:
        manifest = self.manifest()
        given = {
            "rotation": LARGE,
            "on_closed": self.closed.append,
            "consumed": manifest.consumed,
            "known": manifest.schemas,
        }
        copier = RingCopier(self.ring_path, self.segments, **(given | options))  # type: ignore[arg-type]
        manifest.close()
        return copier

    def copy(self) -> None:
        """Everything committed is in closed segments."""
        copier = self.copier()
        while copier.step():
            pass
        copier.close()

    def builder_command(self, fault: str = "", *, index: int = 0, idle: bool | None = False) -> BuilderCommand:
        """How a builder of this place is started, with a fault of ``faulty_builder``; None: as idle as it is asked."""

        def command(asked: bool) -> list[str]:
            real = command_line(self.state_dir, self.database_url, index, asked if idle is None else idle)
            python, module, _, *arguments = real
            return [python, module, "tests.unit.recording.faulty_builder", fault, *arguments] if fault else real

        return command

    def build(self) -> int:
        """Every segment becomes Parquet; the rows that did."""
        manifest = self.manifest()
        names = [name for stream in list_segments(self.segments).values() for name in stream]
        rows = sum(consume_segment(name, self.state_dir, manifest).rows for name in names)
        manifest.close()
        return rows

    def listed_parts(self) -> list[str]:
        manifest = self.manifest()
        try:
            return [part.path for part in manifest.contents().parts]
        finally:
            manifest.close()

    def part_files(self) -> list[str]:
        return sorted(str(path.relative_to(self.state_dir)) for path in self.state_dir.glob("log/*/*/*.parquet"))

    def numbers(self) -> Counter[int]:
        """How often each exchange is in the record, as of now."""
        with ExitStack() as keep:
            contents, stretches = read_moment(self.place, keep)
            tables = [pq.read_table(self.state_dir / part.path, partitioning=None) for part in contents.parts]
            tables += [rows for _, rows in tables_of(stretches)]
        return Counter(
            int.from_bytes(id.bytes[12:], "big") for rows in tables for id in rows["prediction_id"].to_pylist()
        )


def each_once(numbers: range) -> Counter[int]:
    return Counter(numbers)
