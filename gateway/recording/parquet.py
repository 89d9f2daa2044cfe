"""Frames become Parquet parts: ``log/model=…/date=…/part-….parquet``.

Every attempt writes under a name of its own, and only the manifest makes a file a part of the record. What a crash
leaves behind is therefore nobody's, can never be counted twice, and is removed by recovery.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from gateway._fast.frame_columns import FrameColumns, FrameSorter
from gateway._fast.record_frames import RecordSchema, leading_schemas
from gateway.recording.columns import DICTIONARIES, arrow_schema, table
from gateway.recording.layouts import Layout
from gateway.recording.manifest import Consumption, Damage, Gap, KnownLayout, Manifest, Part
from gateway.recording.runners import Runner, directly
from gateway.recording.segments import Segment, SegmentName, quarantine, sync_file

log = logging.getLogger(__name__)

#: Rows and bytes of a row group: what is held in memory before it is written. A request's rows may go into several.
ROWS_IN_MEMORY = 32768
BYTES_IN_MEMORY = 32 << 20
#: Bytes of the row groups of all parts together that frames are sorted into.
BYTES_IN_ALL = 256 << 20


class PartFile:
    """One Parquet file being written, row group by row group."""

    def __init__(self, state_dir: Path, name: str, layout: Layout) -> None:
        self.name = name
        self.path = state_dir / name
        self.schema = arrow_schema(layout)
        self.rows = 0
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(
            self.path, self.schema, compression="zstd", compression_level=1, use_dictionary=list(DICTIONARIES)
        )

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows)
        self.rows += rows.num_rows

    def finish(self) -> int:
        """The file is complete and on disk; returns its bytes."""
        self._writer.close()
        sync_file(self.path)
        return self.path.stat().st_size

    def discard(self) -> None:
        """Give up on it."""
        try:
            self._writer.close()
        except OSError as problem:  # the disk that was full still is
            log.debug("closing %s: %s", self.path, problem)
        self.path.unlink(missing_ok=True)


def part_name(layout: Layout, day: str, stem: str) -> str:
    """A fresh path, below the state directory, for a part of that layout and day."""
    return f"log/model={quote(layout.model, safe='')}/date={day}/part-{stem}-{secrets.token_hex(4)}.parquet"


@dataclass
class _Collector:
    """The rows of one layout and day on their way into a part."""

    layout: Layout
    date: str
    first_version: str
    schemas: list[RecordSchema] = field(default_factory=list)
    file: PartFile | None = None
    first_ts: int = 0
    last_ts: int = 0

    def write(self, columns: FrameColumns, state_dir: Path, stem: str) -> None:
        if self.file is None:
            self.file = PartFile(state_dir, part_name(self.layout, self.date, stem), self.layout)
            self.first_ts = columns.first_ts
        self.first_ts, self.last_ts = min(self.first_ts, columns.first_ts), max(self.last_ts, columns.last_ts)
        self.file.write(table(self.layout, columns.take(), self.schemas))

    def part(self) -> Part:
        assert self.file is not None
        return Part(
            path=self.file.name,
            layout=self.layout.key,
            model=self.layout.model,
            date=self.date,
            bytes=self.file.finish(),
            rows=self.file.rows,
            first_ts=self.first_ts,
            last_ts=self.last_ts,
        )


class PartBuilder:
    """Sorts frames into parts below ``state_dir``. A context manager: left by an exception, no file of it stays."""

    def __init__(self, state_dir: Path, stem: str) -> None:
        self._state_dir = state_dir
        self._stem = stem
        self._columns: dict[tuple[str, int], FrameColumns] = {}

    def sorter(self, epoch: bytes, known: Iterable[RecordSchema]) -> FrameSorter:
        """What :meth:`drain` sorts a stream's frames with."""
        sorter = FrameSorter(
            epoch, self._open, rows_max=ROWS_IN_MEMORY, bytes_max=BYTES_IN_MEMORY, bytes_in_all=BYTES_IN_ALL
        )
        for schema in known:
            sorter.know(schema)
        return sorter

    def _open(self, schema: RecordSchema, day: int) -> tuple[FrameColumns, int]:
        layout = Layout.of(schema)
        columns = self._columns.get((layout.key, day))
        if columns is None:
            columns = layout.new_columns(_Collector(layout, _day(day), schema.version))
            self._columns[layout.key, day] = columns
        columns.owner.schemas.append(schema)
        return columns, len(columns.owner.schemas) - 1

    def drain(self, sorter: FrameSorter, data: memoryview, start: int) -> int:
        """Feed ``data`` from byte ``start`` on, writing row groups as they fill; returns where its frames end."""
        while True:
            start = sorter.feed(data, start)
            if sorter.full is None:
                return start
            sorter.full.owner.write(sorter.full, self._state_dir, self._stem)

    def finish(self) -> tuple[list[Part], list[KnownLayout]]:
        """The parts, complete and on disk; they wait for the manifest."""
        collectors: list[_Collector] = []
        for columns in self._columns.values():
            collectors.append(columns.owner)
            if columns.rows:
                columns.owner.write(columns, self._state_dir, self._stem)
        layouts: dict[str, KnownLayout] = {}
        for one in collectors:
            layouts.setdefault(one.layout.key, KnownLayout(one.layout, one.first_version))
        return [one.part() for one in collectors if one.file is not None], list(layouts.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: object, trace: TracebackType | None) -> None:
        if kind is None:
            return
        for columns in self._columns.values():
            if columns.owner.file is not None:
                columns.owner.file.discard()


def _day(number: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat()


@dataclass(frozen=True, slots=True)
class Consumed:
    """What became of a segment."""

    rows: int = 0
    bytes: int = 0
    malformed: int = 0
    damage: int = 0


def part_stem(epoch: bytes, position: int) -> str:
    """What the names of all parts begin with that any attempt makes of the stream's bytes from ``position`` on."""
    return f"{epoch.hex()[:8]}-{position:012x}"


def consume_segment(name: SegmentName, state_dir: Path, manifest: Manifest, run: Runner = directly) -> Consumed:
    """Turn a closed segment into parts, enter them, and remove it: exactly once, whenever it is interrupted.

    ``run`` runs what takes long; what others may wait for, the manifest's transaction, is made by the caller's thread.
    Raises OSError (nothing was entered; try again), Conflict (another recorder was first), RecordCorrupt (its header is
    damaged) and Unavailable (the control database cannot be used).
    """
    result = Consumed()
    with Segment(name) as segment:
        start = manifest.consumed(name.epoch)
        if start < segment.start + len(segment.data):
            with PartBuilder(state_dir, part_stem(name.epoch, start)) as builder:
                stretch, result = run(lambda: _read(segment, builder, manifest, start))
                if stretch.end > start:
                    manifest.consume(stretch)
    if result.damage:
        log.error("%s was damaged; what was whole is in the record, the file is %s", name.path, quarantine(name.path))
    else:
        name.path.unlink()
    return result


def _read(segment: Segment, builder: PartBuilder, manifest: Manifest, start: int) -> tuple[Consumption, Consumed]:
    name = segment.name
    sorter = builder.sorter(name.epoch, [*manifest.schemas(name.epoch), *leading_schemas(segment.preamble, name.epoch)])
    sorter.expect(start)
    # Bytes between what was consumed and this segment were in a file that is lost.
    damage = [Damage(name.ring, start, name.start - start, "")] if name.start > start else []
    end = builder.drain(sorter, segment.data, max(start - name.start, 0))
    while (whole := segment.next_whole(end)) >= 0:
        damage.append(Damage(name.ring, name.start + end, whole - end, name.path.name))
        end = builder.drain(sorter, segment.data, whole)
    parts, layouts = builder.finish()
    gaps = [Gap(name.ring, *gap) for gap in sorter.gaps]
    stretch = Consumption(
        epoch=name.epoch,
        ring=name.ring,
        start=start,
        end=max(name.start + end, start),
        parts=parts,
        layouts=layouts,
        schemas=list(sorter.schemas.values()),
        gaps=gaps,
        damage=damage,
    )
    in_file = [one for one in damage if one.quarantined]
    return stretch, Consumed(sorter.rows, end, sorter.malformed, len(in_file))
