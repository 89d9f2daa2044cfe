"""Ring → segments: at once, in order, and given free in the ring only when it is in the file."""

import errno
import os
import struct
from contextlib import contextmanager

import pytest

from gateway._fast.record_ring import RECORDER, RingReader, RingWriter, create_ring
from gateway.core.errors import Conflict, RecordCorrupt
from gateway.recording import copier as copier_module
from gateway.recording.copier import Rotation
from gateway.recording.segments import Segment, SegmentWriter, list_segments, segment_name
from tests.fast.record_makers import MLP, commit_numbers, mlp_exchange
from tests.unit.recording.record_places import RecordPlace, each_once
from tests.unit.recording.test_segments import limited_to


def segments_of(record):
    return [name for stream in list_segments(record.segments).values() for name in stream]


def test_frames_are_in_a_segment_and_free_in_the_ring_after_a_step(record):
    record.commit(range(10))
    copier = record.copier()
    assert copier.step() == record.writer.head_position
    assert copier.lag_bytes == copier.step() == 0
    ((name,),) = list_segments(record.segments).values()
    with Segment(name) as segment:
        assert segment.scan().exchanges == 10
    assert record.closed == []


def test_nothing_committed_makes_no_segment(record):
    copier = record.copier()
    copier.step()
    copier.close()
    assert segments_of(record) == []


def test_a_segment_is_closed_when_it_is_large(record):
    copier = record.copier(rotation=Rotation(size=2000, seconds=1e9))
    for start in range(0, 30, 5):
        record.commit(range(start, start + 5))
        copier.step()
    assert [name.path for name in record.closed] == [name.path for name in segments_of(record)]
    assert len(record.closed) == 3
    assert record.numbers() == each_once(range(30))


def test_a_segment_is_closed_when_it_is_old_but_never_empty(record):
    now = [0.0]
    copier = record.copier(rotation=Rotation(seconds=60.0), clock=lambda: now[0])
    record.commit(range(2))
    copier.step()
    now[0] = 59.9
    copier.step()
    assert record.closed == []
    now[0] = 60.0
    copier.step()
    assert len(record.closed) == 1
    now[0] = 1000.0
    copier.step()
    assert len(record.closed) == 1


def test_every_segment_can_be_read_alone(record):
    copier = record.copier(rotation=Rotation(size=1))
    record.commit(range(1))
    copier.step()
    record.commit(range(1, 2))
    copier.step()
    with Segment(record.closed[1]) as segment:
        assert segment.scan().schemas == []
        assert [schema.model for schema in segment.schemas()] == ["mlp"]


def test_a_ring_has_one_recorder(record):
    copier = record.copier()
    with pytest.raises(Conflict):
        record.copier()
    copier.close()
    record.copier()


def test_a_successor_goes_on_where_a_recorder_stopped_and_tells_its_segments_first(record):
    copier = record.copier()
    record.commit(range(5))
    copier.step()
    del copier
    record.commit(range(5, 10))
    successor = record.copier()
    assert [name.path for name in record.closed] == [name.path for name in segments_of(record)]
    successor.step()
    successor.close()
    assert len(segments_of(record)) == 2
    assert record.numbers() == each_once(range(10))


def test_frames_written_but_not_given_free_are_not_written_again(record):
    # What a SIGKILL between the write and the cursor leaves: the same bytes in the segment and in the ring.
    record.commit(range(5))
    reader = RingReader(record.ring_path, RECORDER)
    writer = SegmentWriter(record.segments, "w0", reader.epoch, 0, [])
    writer.append(memoryview(reader.read(1 << 20)))
    writer.close()
    del reader
    record.commit(range(5, 8))
    record.copy()
    assert record.numbers() == each_once(range(8))
    assert sum(os.stat(name.path).st_size for name in segments_of(record)) < 2 * record.writer.head_position


@pytest.mark.parametrize("torn", [1, 7, 100])
def test_frames_torn_in_the_segment_are_copied_again_from_the_ring(record, torn):
    record.commit(range(5))
    reader = RingReader(record.ring_path, RECORDER)
    writer = SegmentWriter(record.segments, "w0", reader.epoch, 0, [])
    writer.append(memoryview(reader.read(1 << 20)))
    writer.close()
    os.truncate(writer.path, os.stat(writer.path).st_size - torn)
    del reader
    record.copy()
    assert record.numbers() == each_once(range(5))


@pytest.mark.parametrize("written", [b"", b"half a header"])
def test_a_segment_without_a_whole_frame_makes_way(record, written):
    record.commit(range(5))
    (record.segments / segment_name("w0", record.writer.epoch, 0)).write_bytes(written)
    record.copy()
    assert record.numbers() == each_once(range(5))


def test_a_segment_killed_after_its_header_makes_way(record):
    record.commit(range(5))
    SegmentWriter(record.segments, "w0", record.writer.epoch, 0, []).close()
    record.copy()
    assert len(record.closed) == 1
    assert record.numbers() == each_once(range(5))


def test_a_ring_older_than_its_manifest_is_not_copied_twice(record):
    # A ring on a disk after a power failure: its page with the cursor may be older than what became of its frames.
    record.commit(range(5))
    head = record.writer.head_position
    copier = record.copier(consumed=lambda epoch: head)
    record.commit(range(5, 6))
    copier.step()
    with Segment(next(iter(segments_of(record)))) as segment:
        assert (segment.start, segment.scan().exchanges) == (head, 1)


def test_a_full_disk_leaves_frames_in_the_ring_until_there_is_room(tmp_path):
    record = RecordPlace(tmp_path)
    copier = record.copier()
    record.commit(range(1))
    copier.step()
    record.commit(range(1, 50))

    def write_into_nothing():
        for _ in range(3):
            try:
                copier.step()
            except OSError:
                continue
            return 1
        return 0 if copier.lag_bytes > 5000 else 2

    assert limited_to(3000, write_into_nothing) == 0
    copier.step()
    copier.close()
    assert record.numbers() == each_once(range(50))


def test_frames_are_synced_when_somebody_waits_and_the_doorbell_rings(record):
    bell = os.eventfd(0, os.EFD_NONBLOCK)
    copier = record.copier(doorbell=bell)
    record.commit(range(3))
    copier.step()
    assert record.writer.synced == -1
    assert not copier.wants_sync
    record.writer.want_sync_for_test(record.writer.head_position - 1)
    assert copier.wants_sync
    copier.step()
    assert record.writer.synced == record.writer.head_position - 1
    assert struct.unpack("<Q", os.read(bell, 8)) == (1,)
    copier.step()
    with pytest.raises(BlockingIOError):
        os.read(bell, 8)
    os.close(bell)


def test_a_sync_covers_closed_segments_and_those_of_the_last_recorder(record, monkeypatch):
    synced = []

    def sync(path):
        path.stat()
        synced.append(path)

    monkeypatch.setattr(copier_module, "sync_file", sync)
    first = record.copier()
    record.commit(range(1))
    first.step()
    del first
    copier = record.copier(rotation=Rotation(size=1))
    record.commit(range(1, 2))
    copier.step()
    record.writer.want_sync_for_test(record.writer.head_position - 1)
    (record.segments / synced_gone(record)).unlink()
    copier.step()
    assert synced == [segments_of(record)[-1].path]


def synced_gone(record):
    """The oldest segment, which became Parquet meanwhile and needs no sync."""
    return segments_of(record)[0].path.name


def commit_one(record, number):
    """Returns its sequence."""
    return record.writer.commit_for_test(mlp_exchange(number), record.handle)


def want_sync_of_all(record):
    record.writer.want_sync_for_test(record.writer.head_position - 1)


@contextmanager
def broken_disk():
    def fail(self):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentWriter, "sync", fail)
        yield


def test_after_a_failed_sync_nothing_is_promised_any_more_and_whoever_waits_is_told(record, caplog):
    bell = os.eventfd(0, os.EFD_NONBLOCK)
    copier = record.copier(doorbell=bell)
    lost = commit_one(record, 0)
    copier.step()
    want_sync_of_all(record)
    with broken_disk():
        copier.step()
    assert struct.unpack("<Q", os.read(bell, 8)) == (1,)
    later = commit_one(record, 1)
    want_sync_of_all(record)
    copier.step()
    assert copier.sync_broken
    assert not copier.wants_sync
    assert record.writer.synced == -1
    assert all(record.writer.left_out_of_sync_for_test(seq) for seq in (lost, later))
    assert [entry.getMessage() for entry in caplog.records] == [
        "ring w0: [Errno 5] Input/output error; requests of models with durability fsync are refused "
        "until this recorder is restarted"
    ]
    os.close(bell)


def test_a_restarted_recorder_that_can_sync_promises_what_it_copied_itself(record):
    first = record.copier()
    lost = commit_one(record, 0)
    first.step()
    want_sync_of_all(record)
    with broken_disk():
        first.step()
    first.close()
    kept = commit_one(record, 1)
    copier = record.copier()
    copier.step()
    assert record.writer.synced >= kept
    assert record.writer.left_out_of_sync_for_test(lost)
    assert not record.writer.left_out_of_sync_for_test(kept)
    copier.close()
    assert record.numbers() == each_once(range(2))


def test_a_restarted_recorder_that_cannot_sync_either_leaves_the_failure_told(record):
    first = record.copier()
    lost = commit_one(record, 0)
    first.step()
    want_sync_of_all(record)
    with broken_disk():
        first.step()
        first.close()
        also_lost = commit_one(record, 1)
        copier = record.copier()
        copier.step()
    assert copier.sync_broken
    assert record.writer.synced == -1
    assert all(record.writer.left_out_of_sync_for_test(seq) for seq in (lost, also_lost))


def test_a_ring_torn_by_a_power_failure_is_copied_up_to_the_damage(record):
    record.commit(range(10))
    with open(record.ring_path, "r+b") as ring:
        ring.seek(4096 + record.writer.head_position - 300)
        ring.write(b"torn")
    copier = record.copier(verify=True)
    assert 0 < copier.step() < record.writer.head_position
    with pytest.raises(RecordCorrupt, match="no frame at position"):
        copier.step()
    copier.close()
    with Segment(record.closed[0]) as segment:
        assert segment.scan().exchanges == 8


def test_what_a_late_recorder_needs_it_learns_from_the_ring(tmp_path):
    create_ring(tmp_path / "w0.ring", 1 << 16)
    writer = RingWriter(tmp_path / "w0.ring")
    handle = writer.register_schema(*MLP)
    commit_numbers(writer, handle, range(3))
    reader = RingReader(tmp_path / "w0.ring", RECORDER)
    reader.advance(reader.head)
    del reader
    commit_numbers(writer, handle, range(3, 5))
    closed = []
    copier = copier_module.RingCopier(
        tmp_path / "w0.ring", tmp_path, rotation=Rotation(size=1), on_closed=closed.append
    )
    copier.step()
    with Segment(closed[0]) as segment:
        assert [schema.model for schema in segment.schemas()] == ["mlp"]
