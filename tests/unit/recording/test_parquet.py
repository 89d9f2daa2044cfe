"""Segments become parts exactly once, whoever is killed when; damage costs what is damaged and nothing else."""

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gateway.core.errors import Conflict, RecordCorrupt, Unavailable
from gateway.recording import compaction as compaction_module
from gateway.recording import parquet as parquet_module
from gateway.recording import segments as segments_module
from gateway.recording.compaction import CompactionRule, compact, remove_replaced
from gateway.recording.copier import RingCopier, Rotation
from gateway.recording.manifest import Manifest
from gateway.recording.moment import count_rows
from gateway.recording.parquet import PartFile, consume_segment
from gateway.recording.recovery import recover
from gateway.recording.segments import SegmentName, SegmentWriter
from tests.fast.record_makers import NOON
from tests.unit.recording.kill_points import killed_at
from tests.unit.recording.record_places import RecordPlace, each_once

STEPS = [
    (segments_module, "_write_all"),
    (SegmentWriter, "append"),
    (RingCopier, "_copy"),
    (PartFile, "write"),
    (PartFile, "finish"),
    (parquet_module, "sync_file"),
    (Manifest, "consume"),
    (Manifest, "replace"),
    (Manifest, "forget_replaced"),
    (Path, "unlink"),
]
EAGER = CompactionRule(smaller_than=1 << 30, at_least=2, grace_seconds=-1.0)


def record_everything(record):
    """A recorder's life: every few frames a segment, every segment a part, all parts one."""
    manifest = record.manifest()
    copier = RingCopier(
        record.ring_path,
        record.segments,
        rotation=Rotation(size=1),
        on_closed=lambda name: consume_segment(name, record.state_dir, manifest),
        consumed=manifest.consumed,
        known=manifest.schemas,
    )
    copier_chunks(copier)
    compact(record.state_dir, manifest, EAGER)
    remove_replaced(record.state_dir, manifest, EAGER)
    manifest.close()


def copier_chunks(copier):
    while copier.step():
        pass
    copier.close()


def test_a_recorder_killed_at_any_step_loses_nothing_and_doubles_nothing(tmp_path, monkeypatch):
    # Invariant: right after the kill, after recovery, and after a new recorder's work, each exchange is there once.
    monkeypatch.setattr("gateway.recording.copier.CHUNK_BYTES", 2000)
    point, kills = 1, 0
    while True:
        record = RecordPlace(tmp_path / str(point))
        record.commit(range(20))
        record.manifest().close()
        killed = killed_at(point, lambda record=record: record_everything(record), STEPS)
        assert record.numbers() == each_once(range(20)), f"after the kill at {point}"
        assert count_rows(record.place) == 20
        recover(record.state_dir, record.shm_dir, record.database_url)
        assert record.numbers() == each_once(range(20)), f"after recovery from {point}"
        record.build()
        assert record.numbers() == each_once(range(20)), f"after building what {point} left"
        assert list(record.segments.glob("*.seg")) == []
        assert set(record.listed_parts()) <= set(record.part_files())
        if not killed:
            break
        point, kills = point + 1, kills + 1
    assert kills > 50
    assert len(record.listed_parts()) == 1


def test_a_part_lies_where_its_model_and_day_say_and_says_so_itself(record):
    record.commit(range(3))
    tomorrow = {"arrival_unix_ns": NOON + 86_400 * 10**9}
    record.commit(range(3, 5), **tomorrow)
    record.copy()
    assert record.build() == 5
    parts = record.part_files()
    assert [path.rsplit("/", 1)[0] for path in parts] == [
        "log/model=mlp/date=2026-11-23",
        "log/model=mlp/date=2026-11-24",
    ]
    assert [pq.read_metadata(record.state_dir / path).num_rows for path in parts] == [3, 2]
    table = pq.read_table(record.state_dir / parts[0], partitioning=None)
    assert table["model"].to_pylist() == ["mlp"] * 3
    assert table.schema.metadata[b"gateway.parts_format"] == b"1"


def test_a_models_name_cannot_lead_out_of_the_log(record):
    handle = record.writer.register_schema(
        "../../etc/x y", "1", "", record.handle.schema.inputs, record.handle.schema.outputs
    )
    record.handle = handle
    record.commit(range(1))
    record.copy()
    record.build()
    assert [Path(path).parts[1] for path in record.part_files()] == ["model=..%2F..%2Fetc%2Fx%20y"]


def test_large_segments_are_written_in_row_groups(record, monkeypatch):
    monkeypatch.setattr(parquet_module, "ROWS_IN_MEMORY", 10)
    record.commit(range(25))
    record.copy()
    record.build()
    (path,) = record.part_files()
    assert pq.read_metadata(record.state_dir / path).num_row_groups == 3
    assert record.numbers() == each_once(range(25))


def test_a_request_of_more_rows_than_a_row_group_is_written_in_several(record, monkeypatch):
    # However many rows a request has, its builder lives: what is collected before it is written is bounded.
    monkeypatch.setattr(parquet_module, "BYTES_IN_MEMORY", 20_000)
    record.commit(range(2), rows=1000, bound=None)
    record.copy()
    assert record.build() == 2000
    (path,) = record.part_files()
    groups = pq.read_metadata(record.state_dir / path)
    sizes = [groups.row_group(i).total_byte_size for i in range(groups.num_row_groups)]
    assert groups.num_rows == 2000
    assert max(sizes) < 40_000
    rows = pq.read_table(record.state_dir / path, partitioning=None, columns=["row", "inputs_json"]).to_pylist()
    assert [row["row"] for row in rows] == [*range(1000), *range(1000)]
    assert json.loads(rows[1999]["inputs_json"]) == {"x": [3997, 3998, 3999, 4000]}


def test_parts_of_large_rows_are_merged_within_the_same_memory(record, monkeypatch):
    manifest = record.manifest()
    for number in range(4):
        record.commit(range(number, number + 1), rows=300, bound=None)
        record.copy()
        record.build()
    monkeypatch.setattr(compaction_module, "BYTES_IN_MEMORY", 20_000)
    assert compact(record.state_dir, manifest, EAGER) == 4
    (path,) = record.listed_parts()
    assert pq.read_metadata(record.state_dir / path).num_row_groups == 4
    manifest.close()


def closed(record, numbers):
    record.commit(numbers)
    record.copy()
    return record.closed[-1]


def test_a_segment_met_again_after_its_rows_were_entered_is_only_removed(record):
    name = closed(record, range(5))
    copy = name.path.read_bytes()
    manifest = record.manifest()
    assert consume_segment(name, record.state_dir, manifest).rows == 5
    name.path.write_bytes(copy)
    assert consume_segment(name, record.state_dir, manifest).rows == 0
    assert not name.path.exists()
    assert record.numbers() == each_once(range(5))


def test_who_comes_second_enters_nothing_and_leaves_no_file(record, monkeypatch):
    name = closed(record, range(5))
    manifest = record.manifest()
    monkeypatch.setattr(manifest, "consumed", lambda epoch: 0)
    kept = name.path.read_bytes()
    consume_segment(name, record.state_dir, manifest)
    name.path.write_bytes(kept)
    with pytest.raises(Conflict, match="another recorder was there first"):
        consume_segment(name, record.state_dir, manifest)
    assert record.part_files() == record.listed_parts()
    assert len(record.part_files()) == 1


def test_a_disk_that_fills_while_building_costs_a_retry_and_leaves_no_file(record, monkeypatch):
    name = closed(record, range(5))
    finish = PartFile.finish

    def full(self):
        raise OSError(28, "No space left on device")

    manifest = record.manifest()
    monkeypatch.setattr(PartFile, "finish", full)
    with pytest.raises(OSError, match="No space"):
        consume_segment(name, record.state_dir, manifest)
    assert (record.part_files(), name.path.exists()) == ([], True)
    monkeypatch.setattr(PartFile, "finish", finish)
    assert consume_segment(name, record.state_dir, manifest).rows == 5


def test_a_database_that_is_gone_costs_a_retry_and_leaves_no_file(record):
    name = closed(record, range(5))
    manifest = record.manifest()
    database = record.state_dir / "gateway.db"
    manifest.close()
    database.rename(record.state_dir / "away")
    database.mkdir()
    with pytest.raises(Unavailable, match="control database"):
        consume_segment(name, record.state_dir, manifest)
    assert (record.part_files(), name.path.exists()) == ([], True)


def test_a_torn_tail_is_left_to_the_segment_that_repeats_it(record):
    name = closed(record, range(5))
    os.truncate(name.path, name.path.stat().st_size - 10)
    consumed = consume_segment(name, record.state_dir, record.manifest())
    assert (consumed.rows, consumed.damage) == (4, 0)


def test_damage_in_the_middle_costs_the_frame_and_keeps_the_file_for_a_look(record):
    name = closed(record, range(5))
    data = bytearray(name.path.read_bytes())
    data[-2 * 240] ^= 1
    name.path.write_bytes(data)
    consumed = consume_segment(name, record.state_dir, record.manifest())
    assert (consumed.rows, consumed.damage) == (4, 1)
    (damage,) = record.manifest().contents().damage
    assert (damage.ring, damage.quarantined) == ("w0", name.path.name)
    assert damage.bytes > 0
    assert (record.segments / "quarantine" / name.path.name).exists()


def test_a_lost_segment_is_told_as_damage_and_what_follows_is_kept(record):
    first = closed(record, range(5))
    closed(record, range(5, 8))
    first.path.unlink()
    assert record.build() == 3
    (damage,) = record.manifest().contents().damage
    assert (damage.position, damage.bytes, damage.quarantined) == (0, record.closed[-1].start, "")


def test_a_segment_with_a_damaged_header_is_refused(record):
    name = closed(record, range(5))
    name.path.write_bytes(b"x" + name.path.read_bytes()[1:])
    with pytest.raises(RecordCorrupt):
        consume_segment(SegmentName.of(name.path), record.state_dir, record.manifest())


def test_gaps_are_entered_with_their_ring(record):
    record.commit(range(1))
    record.writer.note_unlogged_for_test(3)
    record.commit(range(1, 2))
    record.copy()
    record.build()
    assert [(gap.ring, gap.lost) for gap in record.manifest().contents().gaps] == [("w0", 3)]
