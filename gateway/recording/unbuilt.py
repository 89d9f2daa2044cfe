"""Frames that are in no part yet, as Arrow tables and as rows for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gateway._fast.frame_columns import FrameColumns, FrameSorter
from gateway._fast.record_frames import RecordSchema
from gateway.recording.columns import table
from gateway.recording.layouts import Layout, TensorColumn
from gateway.recording.manifest import Gap, KnownLayout
from gateway.recording.moment import Place, Stretch, read_from
from gateway.recording.query import plain

#: Bytes of the tables that frames are read as. A request of few bytes may have many rows: these bound them, not those.
TABLE_BYTES = 32 << 20
#: The same of all tables that are being filled.
TABLES_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class _Collected:
    known: KnownLayout
    schemas: list[RecordSchema] = field(default_factory=list)

    def take(self, columns: FrameColumns) -> tuple[KnownLayout, pa.Table]:
        return self.known, table(self.known.layout, columns.take(), self.schemas)


def tables_of(
    stretches: Sequence[Stretch], on_gap: Callable[[Gap], None] = lambda _gap: None, table_bytes: int = TABLE_BYTES
) -> Iterator[tuple[KnownLayout, pa.Table]]:
    """The rows of the frames, a table of at most so many bytes at a time, each of one layout.

    ``on_gap`` is told every gap before the last table is given.
    """
    collected: dict[str, FrameColumns] = {}

    def open_columns(schema: RecordSchema, _day: int) -> tuple[FrameColumns, int]:
        layout = Layout.of(schema)
        if layout.key not in collected:
            collected[layout.key] = layout.new_columns(_Collected(KnownLayout(layout, schema.version)))
        columns = collected[layout.key]
        columns.owner.schemas.append(schema)
        return columns, len(columns.owner.schemas) - 1

    for stretch in stretches:
        sorter = FrameSorter(stretch.epoch, open_columns, bytes_max=table_bytes, bytes_in_all=TABLES_BYTES)
        for schema in stretch.schemas.values():
            sorter.know(schema)
        for chunk in stretch.chunks:
            yield from _drain(sorter, chunk)
        for gap in sorter.gaps:
            on_gap(Gap(stretch.ring, *gap))
    for columns in collected.values():
        if columns.rows:
            yield columns.owner.take(columns)


def _drain(sorter: FrameSorter, chunk: memoryview) -> Iterator[tuple[KnownLayout, pa.Table]]:
    at = sorter.feed(chunk)
    while sorter.full is not None:
        yield sorter.full.owner.take(sorter.full)
        at = sorter.feed(chunk, at)


class Follower:
    """New rows, as they are committed. Knows where each stream stood at the last look."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._positions: dict[bytes, int] = {}
        self._schemas: dict[bytes, dict[int, RecordSchema]] = {}
        with ExitStack() as keep:
            self._look(keep)

    def poll(self, most: int) -> tuple[list[dict[str, Any]], int]:
        """The first ``most`` rows since the last call, by time of arrival, as JSON can hold them; and how many more.

        Raises Unavailable.
        """
        first: list[dict[str, Any]] = []
        count = 0
        with ExitStack() as keep:
            for known, rows in tables_of(self._look(keep)):
                count += rows.num_rows
                earliest = rows.take(pc.sort_indices(rows["ts"])[:most])
                first = sorted([*first, *_rows(known.layout, earliest)], key=lambda row: row["ts"])[:most]
        return first, count - len(first)

    def _look(self, keep: ExitStack) -> list[Stretch]:
        stretches = read_from(self._place, self._positions, keep)
        for stretch in stretches:
            self._positions[stretch.epoch] = stretch.end
            stretch.know(list(self._schemas.get(stretch.epoch, {}).values()))
            self._schemas[stretch.epoch] = stretch.schemas
        return stretches


def _rows(layout: Layout, rows: pa.Table) -> Iterator[dict[str, Any]]:
    for row in rows.to_pylist():
        row["inputs"] = _side(row, layout.inputs, "inputs_json")
        row["outputs"] = _side(row, layout.outputs, "outputs_json")
        row["total_us"] = row["total_ns"] / 1000
        yield {name: plain(value) for name, value in row.items()}


def _side(row: dict[str, Any], columns: Sequence[TensorColumn], fallback: str) -> Any:
    if row[fallback] is not None:
        return json.loads(row[fallback])
    values = {column.tensor: row[column.name] for column in columns}
    return values if any(value is not None for value in values.values()) else None
