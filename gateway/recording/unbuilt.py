"""Frames that are in no part yet, as Arrow tables and as rows for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pyarrow as pa

from gateway._fast.frame_columns import FrameColumns, FrameSorter
from gateway._fast.record_frames import RecordSchema
from gateway.recording.columns import table
from gateway.recording.layouts import Layout, TensorColumn
from gateway.recording.manifest import Gap, KnownLayout
from gateway.recording.moment import Place, Stretch, read_from
from gateway.recording.query import plain


def tables_of(stretches: Sequence[Stretch]) -> tuple[list[tuple[KnownLayout, pa.Table]], list[Gap]]:
    """One table for each layout among the frames, and the gaps that they tell of."""
    collected: dict[str, tuple[KnownLayout, FrameColumns, list[RecordSchema]]] = {}

    def open_columns(schema: RecordSchema, _day: int) -> tuple[FrameColumns, int]:
        layout = Layout.of(schema)
        if layout.key not in collected:
            collected[layout.key] = (KnownLayout(layout, schema.version), layout.new_columns(None), [])
        _, columns, schemas = collected[layout.key]
        schemas.append(schema)
        return columns, len(schemas) - 1

    gaps = []
    for stretch in stretches:
        sorter = FrameSorter(stretch.epoch, open_columns)
        for schema in stretch.schemas.values():
            sorter.know(schema)
        for chunk in stretch.chunks:
            sorter.feed(chunk)
        gaps += [Gap(stretch.ring, *gap) for gap in sorter.gaps]
    tables = [(known, table(known.layout, columns.take(), told)) for known, columns, told in collected.values()]
    return tables, gaps


class Follower:
    """New rows, as they are committed. Knows where each stream stood at the last look."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._positions: dict[bytes, int] = {}
        self._schemas: dict[bytes, dict[int, RecordSchema]] = {}
        with ExitStack() as keep:
            self._look(keep)

    def poll(self) -> list[dict[str, Any]]:
        """The rows since the last call, by time of arrival, as JSON can hold them. Raises Unavailable."""
        with ExitStack() as keep:
            tables, _ = tables_of(self._look(keep))
        rows = [row for known, rows in tables for row in _rows(known.layout, rows)]
        return sorted(rows, key=lambda row: row["ts"])

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
