"""Small parts become one without a row missing or double, and files stay for queries that still read them."""

import pytest

from gateway.core.errors import Conflict
from gateway.recording.compaction import CompactionRule, compact, remove_replaced
from gateway.recording.manifest import Manifest
from tests.fast.record_makers import NOON
from tests.unit.recording.record_places import each_once

RULE = CompactionRule(smaller_than=1 << 20, at_least=3, bytes_at_once=1 << 20, grace_seconds=900.0)


def parts(record, count, **fields):
    for number in range(count):
        record.commit(range(number * 10, number * 10 + 10), **fields)
        record.copy()
        record.build()


def test_a_group_of_small_parts_becomes_one(record):
    parts(record, 4)
    manifest = record.manifest()
    assert compact(record.state_dir, manifest, RULE) == 4
    (part,) = manifest.contents().parts
    assert part.rows == 40
    assert (part.last_ts - part.first_ts, part.path.count("merged")) == (39, 1)
    assert record.numbers() == each_once(range(40))
    assert compact(record.state_dir, manifest, RULE) == 0


def test_few_or_large_parts_are_left_alone(record):
    parts(record, 2)
    assert compact(record.state_dir, record.manifest(), RULE) == 0
    parts(record, 2)
    assert compact(record.state_dir, record.manifest(), CompactionRule(smaller_than=100, at_least=2)) == 0


def test_days_and_columns_are_never_mixed(record):
    parts(record, 2)
    parts(record, 2, arrival_unix_ns=NOON + 86_400 * 10**9)
    assert compact(record.state_dir, record.manifest(), RULE) == 0


def test_no_more_is_merged_at_once_than_the_rule_allows(record):
    parts(record, 4)
    manifest = record.manifest()
    rule = CompactionRule(at_least=2, bytes_at_once=manifest.contents().parts[0].bytes * 2 + 1000)
    assert compact(record.state_dir, manifest, rule) == 2
    assert record.numbers() == each_once(range(40))


def test_replaced_files_stay_for_the_grace_and_go_after_it(record):
    parts(record, 3)
    manifest = record.manifest()
    compact(record.state_dir, manifest, RULE)
    assert remove_replaced(record.state_dir, manifest, RULE) == 0
    assert len(record.part_files()) == 4
    assert remove_replaced(record.state_dir, manifest, CompactionRule(grace_seconds=-1.0)) == 3
    assert record.part_files() == record.listed_parts()
    assert remove_replaced(record.state_dir, manifest, CompactionRule(grace_seconds=-1.0)) == 0


def test_a_merge_that_came_too_late_leaves_no_file(record, monkeypatch):
    parts(record, 3)
    manifest = record.manifest()

    def too_late(self, old, new):
        raise Conflict("merged before")

    monkeypatch.setattr(Manifest, "replace", too_late)
    assert compact(record.state_dir, manifest, RULE) == 0
    assert record.part_files() == sorted(record.listed_parts())


def test_a_merge_that_fails_leaves_no_file(record, monkeypatch):
    parts(record, 3)
    monkeypatch.setattr("gateway.recording.parquet.sync_file", lambda path: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        compact(record.state_dir, record.manifest(), RULE)
    assert len(record.part_files()) == 3
