"""Many small parts become one, row group by row group, without a row being missing or double at any moment."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.core.errors import Conflict
from gateway.recording.layouts import Layout
from gateway.recording.manifest import Manifest, Part
from gateway.recording.parquet import BYTES_IN_MEMORY, ROWS_IN_MEMORY, PartFile, part_name
from gateway.recording.runners import Runner, directly

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompactionRule:
    """When parts are merged. Merging costs as much as writing did, so large parts are left alone."""

    smaller_than: int = 8 << 20
    at_least: int = 8
    bytes_at_once: int = 128 << 20
    #: How long replaced files stay for queries that were under way.
    grace_seconds: float = 900.0


#: What the names of merged parts begin with, after ``part-``.
MERGED = "merged"


def compact(state_dir: Path, manifest: Manifest, rule: CompactionRule, run: Runner = directly) -> int:
    """Merge one group of small parts, if there is one; returns how many parts went into it. Raises OSError.

    ``run`` runs the merging; the manifest's transaction is made by the caller's thread.
    """
    for group in manifest.compactable(rule.smaller_than, rule.at_least):
        batch = _first_bytes(group, rule.bytes_at_once)
        layout = manifest.layout(batch[0].layout)
        merged = run(functools.partial(_merge, state_dir, layout, batch))
        try:
            manifest.replace(batch, merged)
        except Conflict as problem:
            log.info("%s", problem)
            (state_dir / merged.path).unlink()
            continue
        return len(batch)
    return 0


def _first_bytes(group: Sequence[Part], limit: int) -> list[Part]:
    batch: list[Part] = []
    total = 0
    for part in group:
        total += part.bytes
        if batch and total > limit:
            break
        batch.append(part)
    return batch


def _merge(state_dir: Path, layout: Layout, batch: Sequence[Part]) -> Part:
    file = PartFile(state_dir, part_name(layout, batch[0].date, MERGED), layout)
    try:
        waiting: list[pa.Table] = []
        for part in batch:
            source = pq.ParquetFile(state_dir / part.path)
            for number in range(source.num_row_groups):
                waiting.append(source.read_row_group(number))
                if _fills_row_group(waiting):
                    _write_together(file, waiting)
        _write_together(file, waiting)
        size = file.finish()
    except BaseException:
        file.discard()
        raise
    return Part(
        path=file.name,
        layout=layout.key,
        model=layout.model,
        date=batch[0].date,
        rows=file.rows,
        bytes=size,
        first_ts=min(part.first_ts for part in batch),
        last_ts=max(part.last_ts for part in batch),
    )


def _fills_row_group(waiting: Sequence[pa.Table]) -> bool:
    rows: int = sum(table.num_rows for table in waiting)
    size: int = sum(table.nbytes for table in waiting)
    return rows >= ROWS_IN_MEMORY or size >= BYTES_IN_MEMORY


def _write_together(file: PartFile, waiting: list[pa.Table]) -> None:
    if waiting:
        file.write(pa.concat_tables(waiting).unify_dictionaries().cast(file.schema))
        waiting.clear()


def remove_replaced(state_dir: Path, manifest: Manifest, rule: CompactionRule) -> int:
    """Delete files that were merged away long enough ago; returns how many."""
    due = manifest.replaced_before(time.time_ns() - int(rule.grace_seconds * 1e9))
    for path in due:
        (state_dir / path).unlink(missing_ok=True)
    if due:
        manifest.forget_replaced(due)
    return len(due)
