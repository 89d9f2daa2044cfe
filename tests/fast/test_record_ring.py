"""A ring hands over every committed frame in order, or says how many it did not; nothing half-written is ever seen."""

import os
import signal
import struct
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway._fast.record_frames import scan_frames
from gateway._fast.record_ring import ONLOOKER, RECORDER, RingReader, RingWriter, create_ring
from gateway.core.errors import ConfigurationError, Conflict, RecordCorrupt, Unavailable
from gateway.core.tensors import DataType, TensorSpec
from tests.fast.record_makers import MLP, commit_numbers, mlp_exchange, mlp_ring
from tests.reference import record_frames as oracle

SMALL = 1 << 16


def read_all(reader):
    """Everything that is next, in one piece; the reader has moved past it."""
    chunks = []
    while chunk := bytes(reader.read(1 << 16)):
        chunks.append(chunk)
        reader.advance(reader.position + len(chunk))
    return b"".join(chunks)


def numbers(data, epoch):
    """The exchanges' numbers, as mlp_exchange gave them."""
    frames = oracle.decode(data, epoch)
    return [int.from_bytes(f.fields["prediction_id"][12:], "big") for f in frames if f.kind == oracle.EXCHANGE]


def fill(writer, handle, start=0):
    """Commit until the ring is full; the first number that found no room."""
    while writer.commit_for_test(mlp_exchange(start), handle) >= 0:
        start += 1
    return start


# Making and opening.


@pytest.mark.parametrize("capacity", [0, 4096, 65536 + 1, -4096])
def test_an_unfit_capacity_is_refused_with_the_rule(tmp_path, capacity):
    with pytest.raises(ConfigurationError, match="multiple of 4096"):
        create_ring(tmp_path / "w0.ring", capacity)


def test_a_ring_is_allocated_whole_and_private(tmp_path):
    create_ring(tmp_path / "w0.ring", SMALL)
    status = os.stat(tmp_path / "w0.ring")
    assert (status.st_size, status.st_mode & 0o777) == (SMALL + 4096, 0o600)
    assert status.st_blocks * 512 >= SMALL


def test_no_room_for_a_ring_is_said_at_once_and_leaves_nothing(tmp_path):
    with pytest.raises(Unavailable, match="cannot make a ring"):
        create_ring(tmp_path / "w0.ring", 1 << 50)
    assert list(tmp_path.iterdir()) == []


def test_a_new_ring_in_the_place_of_an_old_one_has_an_epoch_of_its_own(tmp_path):
    create_ring(tmp_path / "w0.ring", SMALL)
    old = RingReader(tmp_path / "w0.ring", ONLOOKER)
    create_ring(tmp_path / "w0.ring", SMALL)
    assert RingReader(tmp_path / "w0.ring", ONLOOKER).epoch != old.epoch


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "not a ring"),
        (lambda data: b"no ring".ljust(8192), "not a ring"),
        (lambda data: data[:8] + struct.pack("<I", 9) + data[12:], "format 9"),
        (lambda data: data[:-1], "was cut"),
    ],
)
def test_a_file_that_is_no_whole_ring_is_refused(tmp_path, damage, message):
    path = tmp_path / "w0.ring"
    create_ring(path, SMALL)
    path.write_bytes(damage(path.read_bytes()))
    for opened in (lambda: RingWriter(path), lambda: RingReader(path, ONLOOKER)):
        with pytest.raises(RecordCorrupt, match=message):
            opened()


def test_a_missing_ring_is_unavailable(tmp_path):
    with pytest.raises(Unavailable, match="No such file"):
        RingReader(tmp_path / "none.ring", ONLOOKER)


def test_a_ring_has_one_writer_and_each_cursor_one_reader(tmp_path):
    writer, _ = mlp_ring(tmp_path)
    reader = RingReader(writer.path, RECORDER)
    with pytest.raises(Conflict, match="already has a writer"):
        RingWriter(writer.path)
    with pytest.raises(Conflict, match="already has a recorder"):
        RingReader(writer.path, RECORDER)
    assert reader.has_writer
    del writer
    assert not reader.has_writer


@pytest.mark.parametrize("cursor", [-2, 8])
def test_there_are_eight_cursors(tmp_path, cursor):
    create_ring(tmp_path / "w0.ring", SMALL)
    with pytest.raises(ValueError, match="readers 0 to 7"):
        RingReader(tmp_path / "w0.ring", cursor)


def test_a_schema_too_large_for_a_frame_is_refused_when_it_is_registered(tmp_path):
    writer, _ = mlp_ring(tmp_path, capacity=SMALL)
    many = [TensorSpec(f"input number {n}", DataType.FP32, (-1, 1)) for n in range(500)]
    with pytest.raises(ConfigurationError, match="schema takes"):
        writer.register_schema("wide", "1", "", many, [])


# Handing over.


def test_a_frames_sequence_is_its_place_in_the_stream_and_the_schema_comes_first(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    sequences = [writer.commit_for_test(mlp_exchange(n), handle) for n in range(5)]
    frames = oracle.decode(read_all(RingReader(writer.path, RECORDER)), writer.epoch)
    assert [frame.kind for frame in frames] == [oracle.SCHEMA] + [oracle.EXCHANGE] * 5
    assert [frame.seq for frame in frames[1:]] == sequences
    assert [frame.ordinal for frame in frames] == [0, 0, 1, 2, 3, 4]


def test_nothing_committed_nothing_read(tmp_path):
    writer, _ = mlp_ring(tmp_path)
    for cursor in (RECORDER, 1, ONLOOKER):
        assert bytes(RingReader(writer.path, cursor).read(1000)) == b""


def test_a_chunk_holds_whole_frames_and_at_least_one(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, range(10))
    for cursor in (RECORDER, 1, ONLOOKER):
        reader = RingReader(writer.path, cursor)
        first = oracle.decode(bytes(reader.read(1)), writer.epoch)
        assert [frame.kind for frame in first] == [oracle.SCHEMA]
        size = first[0].length + 300
        assert sum(frame.length for frame in oracle.decode(bytes(reader.read(size)), writer.epoch)) <= size


def test_a_full_ring_refuses_and_writes_nothing_until_the_recorder_has_made_room(tmp_path):
    writer, handle = mlp_ring(tmp_path, capacity=SMALL)
    recorder = RingReader(writer.path, RECORDER)
    refused = fill(writer, handle)
    head = writer.head_position
    assert writer.commit_for_test(mlp_exchange(refused), handle) == -1
    assert writer.head_position == head
    assert numbers(read_all(recorder), writer.epoch) == list(range(refused))
    assert writer.commit_for_test(mlp_exchange(refused), handle) == head


def test_no_other_reader_holds_the_writer_back(tmp_path):
    writer, handle = mlp_ring(tmp_path, capacity=SMALL)
    slow = RingReader(writer.path, 1)
    recorder = RingReader(writer.path, RECORDER)
    for number in range(2000):
        assert writer.commit_for_test(mlp_exchange(number), handle) >= 0
        read_all(recorder)
    assert slow.position == 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9000)), max_size=60))
def test_a_ring_behaves_as_a_bounded_queue_over_any_number_of_turns(tmp_path_factory, steps):
    # Model: a deque of numbers. Commits append where there is room, reads take whole frames from the front.
    writer, handle = mlp_ring(tmp_path_factory.mktemp("ring"), capacity=SMALL)
    recorder = RingReader(writer.path, RECORDER)
    queue, number, refused = deque(), 0, 0
    for commits, take in steps:
        for _ in range(commits):
            if writer.commit_for_test(mlp_exchange(number, rows=1 + number % 40), handle) >= 0:
                queue.append(number)
            else:
                refused += 1
                assert recorder.head - recorder.position > SMALL - 3000
            number += 1
        chunk = bytes(recorder.read(take))
        read = numbers(chunk, writer.epoch)
        assert read == [queue.popleft() for _ in read]
        recorder.advance(recorder.position + len(chunk))
    assert numbers(read_all(recorder), writer.epoch) == list(queue)


def test_a_chunk_that_runs_over_the_rings_end_is_in_one_piece(tmp_path):
    writer, handle = mlp_ring(tmp_path, capacity=SMALL)
    recorder = RingReader(writer.path, RECORDER)
    number = fill(writer, handle)
    read_all(recorder)
    more = fill(writer, handle, number)
    chunk = recorder.read(1 << 30)
    assert recorder.position // SMALL < (recorder.position + len(chunk)) // SMALL
    assert numbers(bytes(chunk), writer.epoch) == list(range(number, more))


def test_a_view_of_the_ring_outlives_its_reader(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, [1])
    epoch = writer.epoch
    chunk = RingReader(writer.path, RECORDER).read(1000)
    del writer
    assert numbers(bytes(chunk), epoch) == [1]


def test_a_reader_cannot_advance_past_the_head_or_back(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, [1])
    reader = RingReader(writer.path, RECORDER)
    with pytest.raises(ValueError, match="cannot advance"):
        reader.advance(writer.head_position + 8)
    reader.advance(writer.head_position)
    with pytest.raises(ValueError, match="cannot advance"):
        reader.advance(0)


# Being overtaken.


def overtaken_by(tmp_path, count):
    """A reader that read 3 exchanges, then the recorder and the writer went ``count`` on."""
    writer, handle = mlp_ring(tmp_path, capacity=SMALL)
    recorder, scorer = RingReader(writer.path, RECORDER), RingReader(writer.path, 1)
    commit_numbers(writer, handle, range(3))
    assert numbers(read_all(scorer), writer.epoch) == [0, 1, 2]
    for number in range(3, 3 + count):
        read_all(recorder)
        commit_numbers(writer, handle, [number])
    return writer, scorer


def test_an_overtaken_reader_goes_on_at_the_recorder_and_counts_what_it_missed(tmp_path):
    writer, scorer = overtaken_by(tmp_path, 1000)
    assert scorer.is_overtaken()
    read = numbers(read_all(scorer), writer.epoch)
    assert read == list(range(1003 - len(read), 1003))
    assert scorer.skipped == 1000 - len(read) > 0


def test_a_reader_that_kept_up_missed_nothing(tmp_path):
    writer, scorer = overtaken_by(tmp_path, 100)
    assert numbers(read_all(scorer), writer.epoch) == list(range(3, 103))
    assert scorer.skipped == 0


def test_what_a_reader_missed_while_it_was_down_is_counted_too(tmp_path):
    writer, scorer = overtaken_by(tmp_path, 1000)
    del scorer
    again = RingReader(writer.path, 1)
    read = numbers(read_all(again), writer.epoch)
    assert again.skipped == 1000 - len(read)
    del again
    assert RingReader(writer.path, 1).skipped == 1000 - len(read)


def test_an_onlooker_begins_with_the_oldest_frame_that_is_whole(tmp_path):
    writer, _ = overtaken_by(tmp_path, 1000)
    onlooker = RingReader(writer.path, ONLOOKER)
    read = numbers(read_all(onlooker), writer.epoch)
    assert read == list(range(read[0], 1003))
    assert len(read) > 150  # at least three quarters of the ring


def test_a_reader_may_begin_with_what_comes_next(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, range(5))
    late = RingReader(writer.path, 2, start="newest")
    commit_numbers(writer, handle, [5])
    assert numbers(read_all(late), writer.epoch) == [5]


def test_whoever_comes_late_still_finds_the_schema(tmp_path):
    writer, _ = overtaken_by(tmp_path, 5000)
    late = RingReader(writer.path, 2, start="newest")
    assert [schema.model for schema in late.schemas()] == ["mlp"]
    assert late.position == writer.head_position


def test_every_exchange_in_a_ring_that_turns_finds_its_schema_within_half_a_ring_before_it(tmp_path):
    writer, handle = mlp_ring(tmp_path, capacity=SMALL)
    rare = writer.register_schema("rare", *MLP[1:])
    recorder = RingReader(writer.path, RECORDER)
    told = {}
    for number in range(3000):
        commit_numbers(writer, rare if number % 400 == 0 else handle, [number])
        for frame in oracle.decode(read_all(recorder), writer.epoch):
            if frame.kind == oracle.SCHEMA:
                told[frame.schema_id] = frame.seq
            else:
                assert frame.seq - told[frame.schema_id] <= SMALL // 2 + 1000


def test_the_start_of_a_reader_has_three_spellings(tmp_path):
    writer, _ = mlp_ring(tmp_path)
    with pytest.raises(ValueError, match="newest"):
        RingReader(writer.path, 1, start="yesterday")


# Restarts.


def test_a_restarted_writer_goes_on_where_its_predecessor_stopped(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, range(3))
    path, head = writer.path, writer.head_position
    del writer
    writer = RingWriter(path)
    assert writer.head_position == head
    commit_numbers(writer, writer.register_schema(*MLP), range(3, 6))
    frames = oracle.decode(read_all(RingReader(path, RECORDER)), writer.epoch)
    assert [frame.ordinal for frame in frames if frame.kind == oracle.EXCHANGE] == list(range(6))


@pytest.mark.parametrize("torn", [b"\0" * 8, b"\xff" * 5000, os.urandom(200)])
def test_a_half_written_frame_is_written_over(tmp_path, torn):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, range(3))
    writer.tear_for_test(torn)
    path = writer.path
    del writer
    reader = RingReader(path, RECORDER)
    assert numbers(bytes(reader.read(1 << 20)), reader.epoch) == [0, 1, 2]
    writer = RingWriter(path)
    commit_numbers(writer, writer.register_schema(*MLP), [3])
    assert numbers(read_all(reader), writer.epoch) == [0, 1, 2, 3]


def test_a_ring_whose_newest_frame_is_damaged_is_not_written_on(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, [0])
    path, head = writer.path, writer.head_position
    del writer
    with open(path, "r+b") as file:
        file.seek(4096 + head - 248)
        file.write(bytes(248))
    with pytest.raises(RecordCorrupt, match="does not end at its head"):
        RingWriter(path)
    with pytest.raises(RecordCorrupt, match="no frame at position"):
        read_all(RingReader(path, 1))


@pytest.mark.parametrize("kills", range(8))
def test_a_writer_killed_at_any_moment_has_committed_a_prefix_that_covers_what_it_said(tmp_path, kills):
    # Invariant: said to be committed ⊆ readable, in order, each once; at most one more than was said.
    writer, handle = mlp_ring(tmp_path, capacity=1 << 24)
    path = writer.path
    told_read, told_write = os.pipe()
    child = os.fork()
    if child == 0:
        number = 0
        while True:
            if writer.commit_for_test(mlp_exchange(number), handle) < 0:
                os._exit(0)
            os.write(told_write, struct.pack("<I", number))
            number += 1
    os.close(told_write)
    del writer
    for _ in range(100 * kills + 1):
        os.read(told_read, 4)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    rest = b"".join(iter(lambda: os.read(told_read, 1 << 16), b""))
    os.close(told_read)
    said = 100 * kills + 1 + len(rest) // 4
    reader = RingReader(path, RECORDER)
    read = numbers(read_all(reader), reader.epoch)
    assert read == list(range(len(read)))
    assert said <= len(read) <= said + 1
    successor = RingWriter(path)
    commit_numbers(successor, successor.register_schema(*MLP), [len(read)])
    assert numbers(read_all(reader), reader.epoch) == [len(read)]


# What is owed besides frames.


def test_exchanges_without_a_frame_are_told_when_there_is_room_again(tmp_path):
    writer, handle = mlp_ring(tmp_path, capacity=SMALL)
    recorder = RingReader(writer.path, RECORDER)
    number = fill(writer, handle)
    for _ in range(3):
        writer.note_unlogged_for_test(2)
    assert recorder.unlogged == writer.unlogged == 6
    read_all(recorder)
    commit_numbers(writer, handle, [number])
    frames = oracle.decode(read_all(recorder), writer.epoch)
    gap = next(frame for frame in frames if frame.kind == oracle.GAP)
    assert gap.gap[0] == 6
    assert 0 < gap.gap[1] <= gap.gap[2]
    commit_numbers(writer, handle, [number + 1])
    assert oracle.GAP not in [frame.kind for frame in oracle.decode(read_all(recorder), writer.epoch)]


def test_a_gap_is_told_by_the_next_writer_if_the_one_who_owes_it_dies(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, [0])
    writer.note_unlogged_for_test(4)
    path = writer.path
    del writer
    writer = RingWriter(path)
    commit_numbers(writer, writer.register_schema(*MLP), [1])
    frames = oracle.decode(read_all(RingReader(path, RECORDER)), writer.epoch)
    assert [frame.gap[0] for frame in frames if frame.kind == oracle.GAP] == [4]


def test_synced_is_what_the_recorder_says_and_wanted_what_the_writer_asks(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    recorder = RingReader(writer.path, RECORDER)
    first, second = [writer.commit_for_test(mlp_exchange(n), handle) for n in range(2)]
    assert (writer.synced, recorder.sync_wanted) == (-1, 0)
    writer.want_sync_for_test(second)
    writer.want_sync_for_test(first)
    assert recorder.sync_wanted == second + 1
    recorder.publish_synced(second)
    assert first <= writer.synced < second
    recorder.publish_synced(writer.head_position)
    assert writer.synced >= second


def test_a_failed_sync_leaves_out_what_was_not_synced_and_what_comes_until_a_later_one(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    recorder = RingReader(writer.path, RECORDER)

    def left_out():
        return [writer.left_out_of_sync_for_test(seq) for seq in seqs]

    seqs = [writer.commit_for_test(mlp_exchange(n), handle) for n in range(2)]
    assert (recorder.sync_failed, left_out()) == (False, [False, False])
    recorder.publish_synced(seqs[1])
    recorder.publish_sync_failed()
    seqs.append(writer.commit_for_test(mlp_exchange(2), handle))
    assert (recorder.sync_failed, left_out()) == (True, [False, True, True])
    seqs.append(writer.commit_for_test(mlp_exchange(3), handle))
    recorder.end_sync_failure(seqs[3])
    recorder.publish_synced(writer.head_position)
    assert (recorder.sync_failed, left_out()) == (False, [False, True, True, False])


def test_a_second_failed_sync_does_not_forget_the_first(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    recorder = RingReader(writer.path, RECORDER)
    first = writer.commit_for_test(mlp_exchange(0), handle)
    recorder.publish_sync_failed()
    recorder.end_sync_failure(writer.head_position)
    recorder.publish_synced(writer.head_position)
    recorder.publish_sync_failed()
    assert recorder.sync_failed
    assert writer.left_out_of_sync_for_test(first), "a writer that was held up meanwhile must not call it synced"


def test_readers_see_exactly_what_a_scan_of_the_file_sees(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, range(50))
    data = read_all(RingReader(writer.path, 3))
    with open(writer.path, "rb") as file:
        file.seek(4096)
        assert scan_frames(file.read(), writer.epoch, 0).end == len(data) == writer.head_position
