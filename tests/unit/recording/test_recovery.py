"""What a killed gateway left becomes safe before anything serves, however often that is begun."""

import fcntl
import json
import os

import pytest

from gateway._fast.record_ring import RECORDER, RingReader, create_ring
from gateway.core.errors import Conflict, Unavailable
from gateway.recording.recovery import recover
from tests.unit.recording.record_places import each_once


def run(record):
    return recover(record.state_dir, record.shm_dir, record.database_url)


def test_frames_left_in_a_ring_are_brought_to_a_segment(record):
    record.commit(range(20))
    del record.writer
    report = run(record)
    assert list(report.rings) == ["w0"]
    assert report.rings["w0"] > 20 * 200
    reader = RingReader(record.ring_path, RECORDER)
    assert reader.position == reader.head
    del reader
    record.ring_path.unlink()
    assert record.numbers() == each_once(range(20))
    assert json.loads((record.state_dir / "run" / "recovery-report.json").read_text())["rings"] == report.rings


def test_recovering_again_changes_nothing(record):
    record.commit(range(20))
    run(record)
    assert run(record).rings == {"w0": 0}
    assert record.numbers() == each_once(range(20))


def test_a_new_gateway_has_nothing_to_recover(tmp_path):
    report = recover(tmp_path / "state", tmp_path / "shm", f"sqlite:///{tmp_path}/state/gateway.db")
    assert (report.rings, report.orphans_removed) == ({}, 0)


def test_files_that_no_transaction_listed_are_removed_and_no_others(record):
    record.commit(range(5))
    record.copy()
    record.build()
    (part,) = record.part_files()
    orphan = record.state_dir / part.replace("part-", "part-orphan-")
    orphan.write_bytes(b"half a file")
    assert run(record).orphans_removed == 1
    assert record.part_files() == [part]


def test_it_keeps_its_hands_off_while_a_recorder_is_at_work(record):
    lock = os.open(record.segments / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    with pytest.raises(Conflict, match="a recorder is at work"):
        run(record)
    os.close(lock)
    run(record)


def test_of_a_damaged_ring_what_is_whole_is_kept_and_the_ring_put_aside(record):
    record.commit(range(10))
    with open(record.ring_path, "r+b") as ring:
        ring.seek(4096 + record.writer.head_position - 300)
        ring.write(b"torn")
    report = run(record)
    assert report.damaged_rings == ["w0"]
    assert len(list((record.segments / "quarantine").glob("w0.ring-*"))) == 1
    record.ring_path.unlink()
    assert record.numbers() == each_once(range(8))


def test_a_file_that_is_no_ring_is_put_aside(record):
    (record.shm_dir / "w1.ring").write_bytes(b"no ring")
    record.commit(range(3))
    report = run(record)
    assert report.damaged_rings == ["w1"]
    assert record.numbers() == each_once(range(3))


def test_every_ring_is_recovered(record):
    create_ring(record.shm_dir / "w1.ring", 1 << 16)
    record.commit(range(3))
    assert set(run(record).rings) == {"w0", "w1"}


def test_a_state_directory_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(Unavailable, match="cannot be recovered"):
        recover(tmp_path / "state", tmp_path / "shm", "sqlite://")
