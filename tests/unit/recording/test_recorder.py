"""The recorder as a whole: it keeps up, waits failures out, ends with everything safe, and says how it is."""

import json
import os
import threading
import time

import pytest

from gateway._fast.record_ring import RingWriter
from gateway.core.errors import RecordCorrupt
from gateway.recording import recorder as recorder_module
from gateway.recording.build_queue import BuildRule
from gateway.recording.copier import RingCopier, Rotation
from gateway.recording.recorder import Recorder, RecorderSettings
from tests.fast.record_makers import commit_numbers, mlp_ring
from tests.unit.recording.record_places import each_once

QUICK = BuildRule(retry=0.001)


def settings_of(record, *, fault="", index=0, **options):
    given = {"rings": ("w0",), "rotation": Rotation(size=1), "index": index}
    command = record.builder_command(fault, index=index)
    return RecorderSettings(record.state_dir, record.shm_dir, record.database_url, command, **(given | options))


def run_until(recorder, condition, turns=10_000):
    """Run the recorder until ``condition()`` holds between two turns, then let it end."""
    left = iter(range(turns))

    def stop(seconds):
        if condition():
            return True
        assert next(left, None) is not None, "the condition never came true"
        time.sleep(0.002)
        return False

    recorder.run(stop)


def has_status(record):
    return (record.state_dir / "run" / "recorder-0.json").exists()


def status(record, index=0):
    return json.loads((record.state_dir / "run" / f"recorder-{index}.json").read_text())


def test_what_is_committed_becomes_parquet_while_the_ring_goes_on(record):
    record.commit(range(10))
    recorder = Recorder(settings_of(record))
    run_until(recorder, lambda: record.listed_parts() and not list(record.segments.glob("*.seg")))
    assert record.numbers() == each_once(range(10))
    told = status(record)
    assert (told["pid"], told["rows_built"], told["segments_waiting"], told["failures"]) == (os.getpid(), 10, 0, 0)
    assert told["rings"]["w0"] == {"lag_bytes": 0, "fill": 0.0, "unlogged": 0, "sync_broken": False}
    assert told["lag_seconds"] == 0.0


def test_its_end_takes_in_what_was_committed_last(record):
    record.commit(range(10))
    Recorder(settings_of(record, rotation=Rotation())).run(lambda seconds: True)
    assert len(record.part_files()) == 1
    record.ring_path.unlink()
    assert record.numbers() == each_once(range(10))


def test_a_ring_that_comes_later_is_found(record, monkeypatch):
    monkeypatch.setattr(recorder_module, "STATUS_SECONDS", 0.0)
    recorder = Recorder(settings_of(record, rings=("w0", "w1")))
    late = []

    def found():
        if not late:
            late.append(mlp_ring(record.shm_dir, "w1"))
            commit_numbers(*late[0], range(100, 103))
        return has_status(record) and "w1" in status(record)["rings"]

    run_until(recorder, found)
    assert record.numbers() == each_once(range(100, 103))


def test_without_names_it_takes_every_ring(record):
    second = mlp_ring(record.shm_dir, "w1")
    record.commit(range(3))
    commit_numbers(*second, range(3, 5))
    Recorder(settings_of(record, rings=())).run(lambda seconds: True)
    assert set(status(record)["rings"]) == {"w0", "w1"}
    assert record.numbers() == each_once(range(5))


def test_segments_of_rings_that_are_no_more_are_built_by_the_first_recorder_alone(record):
    record.commit(range(5))
    record.copy()
    record.writer, record.handle = mlp_ring(record.shm_dir)
    Recorder(settings_of(record, index=1)).run(lambda seconds: True)
    assert record.part_files() == []
    Recorder(settings_of(record, index=0)).run(lambda seconds: True)
    assert len(record.part_files()) == 1
    assert record.numbers() == each_once(range(5))


def test_a_full_disk_is_waited_out(record, monkeypatch):
    record.commit(range(5))
    copy, failures = RingCopier._copy, []

    def full_twice(self, frames):
        if len(failures) < 2:
            failures.append(1)
            raise OSError(28, "No space left on device")
        return copy(self, frames)

    monkeypatch.setattr(RingCopier, "_copy", full_twice)
    recorder = Recorder(settings_of(record))
    run_until(recorder, lambda: bool(record.listed_parts()))
    assert (recorder.failures, "No space" in recorder.last_failure) == (2, True)
    assert record.numbers() == each_once(range(5))


def test_a_database_that_cannot_be_used_is_waited_out(record):
    record.commit(range(5))
    recorder = Recorder(settings_of(record, fault="busy-twice", build_rule=QUICK))
    run_until(recorder, lambda: bool(record.listed_parts()))
    assert (status(record)["failures"], "database is locked" in status(record)["last_failure"]) == (2, True)
    assert record.numbers() == each_once(range(5))


def test_a_database_that_never_works_leaves_the_rows_in_segments(record, monkeypatch):
    monkeypatch.setattr(recorder_module, "STATUS_SECONDS", 0.0)
    monkeypatch.setattr(recorder_module, "BUILD_SECONDS", 0.05)
    record.commit(range(5))
    recorder = Recorder(settings_of(record, fault="busy", build_rule=QUICK))
    run_until(recorder, lambda: has_status(record) and status(record)["failures"] >= 3)
    assert status(record)["segments_waiting"] == 1
    record.ring_path.unlink()
    assert record.numbers() == each_once(range(5))


def test_a_damaged_segment_is_put_aside_and_the_others_built(record):
    record.commit(range(5))
    record.copy()
    record.closed[0].path.write_bytes(b"x" * 300)
    record.writer, record.handle = mlp_ring(record.shm_dir)
    record.commit(range(5, 8))
    recorder = Recorder(settings_of(record))
    recorder.run(lambda seconds: True)
    assert status(record)["damaged_segments"] == 1
    assert record.numbers() == each_once(range(5, 8))


def test_a_ring_whose_bytes_are_no_frames_ends_the_recorder(record):
    record.commit(range(5))
    with open(record.ring_path, "r+b") as ring:
        ring.seek(4096)
        ring.write(bytes(1000))
    with pytest.raises(RecordCorrupt, match="no frame at position 0"):
        Recorder(settings_of(record)).run(lambda seconds: False)


def test_it_looks_more_often_while_somebody_waits_for_the_disk(record):
    pauses = []
    record.commit(range(3))
    record.writer.want_sync_for_test(record.writer.head_position - 1)

    def stop(seconds):
        pauses.append(seconds)
        return record.writer.synced == record.writer.head_position - 1

    Recorder(settings_of(record, rotation=Rotation())).run(stop)
    assert pauses[0] == recorder_module.SYNC_SECONDS


@pytest.fixture
def niceties(monkeypatch):
    """What the recorder, at nice 5, asks to be."""
    asked = []
    monkeypatch.setattr(os, "getpriority", lambda which, who: recorder_module.NICE)
    monkeypatch.setattr(os, "setpriority", lambda which, who, nice: asked.append((which, who, nice)))
    return asked


def test_rings_that_fill_are_told_and_make_it_more_important(record, monkeypatch, niceties):
    recorder = Recorder(settings_of(record))
    monkeypatch.setattr(recorder, "ring_lag_seconds", lambda: recorder_module.LATE_SECONDS + 1)
    recorder.run(lambda seconds: True)
    assert set(niceties) == {(os.PRIO_PROCESS, 0, 0)}
    assert status(record)["lag_seconds"] == recorder_module.LATE_SECONDS + 1


def test_segments_that_wait_are_told_but_do_not_make_it_more_important(record, monkeypatch, niceties):
    recorder = Recorder(settings_of(record))
    monkeypatch.setattr(recorder._builder, "lag_seconds", lambda: recorder_module.LATE_SECONDS + 1)
    recorder.run(lambda seconds: True)
    assert niceties == []
    assert status(record)["lag_seconds"] == recorder_module.LATE_SECONDS + 1


def test_who_may_not_become_more_important_goes_on_as_it_is(record, monkeypatch):
    def refused(which, who, nice):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "getpriority", lambda which, who: 5)
    monkeypatch.setattr(os, "setpriority", refused)
    recorder = Recorder(settings_of(record))
    monkeypatch.setattr(recorder, "ring_lag_seconds", lambda: recorder_module.LATE_SECONDS + 1)
    record.commit(range(3))
    recorder.run(lambda seconds: True)
    assert record.numbers() == each_once(range(3))


def test_everything_arrives_once_under_a_writer_that_never_pauses(record, monkeypatch):
    monkeypatch.setattr("gateway.recording.copier.CHUNK_BYTES", 20_000)
    recorder = Recorder(settings_of(record, rotation=Rotation(size=50_000)))
    committed = []

    def write():
        for number in range(3000):
            while record.writer is not None and commit_numbers(record.writer, record.handle, [number]) == []:
                time.sleep(0.0005)
            committed.append(number)

    thread = threading.Thread(target=write)
    thread.start()
    run_until(recorder, lambda: len(committed) == 3000, turns=100_000)
    thread.join()
    assert record.numbers() == each_once(range(3000))
    assert len(record.part_files()) > 3


def test_writers_are_seen_until_they_are_gone(record):
    recorder = Recorder(settings_of(record))
    seen = []

    def stop(seconds):
        seen.append(recorder.has_writers)
        if len(seen) == 2:
            record.writer = None
        return len(seen) > 2

    recorder.run(stop)
    assert seen == [True, True, False]
    RingWriter(record.ring_path)
