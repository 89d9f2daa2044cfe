"""Reading the record of one moment: every row once, while frames are on their way from place to place."""

import threading

import pytest

from gateway.core.errors import Unavailable
from gateway.recording import moment, unbuilt
from gateway.recording.copier import RingCopier, Rotation
from gateway.recording.locations import configured_database, ring_folders
from gateway.recording.moment import Place, count_rows
from gateway.recording.parquet import consume_segment
from gateway.recording.unbuilt import Follower
from tests.fast.record_makers import mlp_exchange, mlp_ring
from tests.unit.recording.record_places import RecordPlace, each_once


def test_nothing_recorded_is_no_row(record):
    assert count_rows(record.place) == 0


def test_rows_in_a_ring_a_segment_and_a_part_are_counted_once_each(record):
    record.commit(range(10))
    record.copy()
    record.build()
    record.commit(range(10, 15))
    record.copy()
    record.commit(range(15, 18))
    assert count_rows(record.place) == 18
    assert record.numbers() == each_once(range(18))


def test_rows_not_requests_are_counted(record):
    record.commit(range(3), rows=5, inputs=[], outputs=[], bound=None)
    assert count_rows(record.place) == 15


def test_frames_that_are_in_a_segment_and_still_in_the_ring_count_once(record):
    record.commit(range(5))
    copier = record.copier()
    copier.step()
    record.commit(range(5, 8))
    assert record.numbers() == each_once(range(8))


def test_the_record_of_a_stopped_gateway_is_read_without_its_rings(record):
    record.commit(range(5))
    record.copy()
    record.ring_path.unlink()
    assert record.numbers() == each_once(range(5))


def test_rings_of_an_earlier_gateway_and_of_this_one_are_two_streams(record):
    record.commit(range(5))
    record.copy()
    record.writer, record.handle = mlp_ring(record.shm_dir)
    record.commit(range(5, 9))
    assert record.numbers() == each_once(range(9))


def test_a_ring_that_is_none_is_passed_over(record):
    record.commit(range(5))
    (record.shm_dir / "w1.ring").write_bytes(b"half made")
    assert record.numbers() == each_once(range(5))


def test_a_segment_whose_header_is_damaged_hides_only_itself(record):
    record.commit(range(5))
    record.copy()
    record.commit(range(5, 8))
    record.closed[0].path.write_bytes(b"x" * 1000)
    record.copy()
    record.ring_path.unlink()
    assert record.numbers() == each_once(range(5, 8))


def test_damage_inside_a_segment_hides_only_its_frame(record):
    record.commit(range(5))
    record.copy()
    data = bytearray(record.closed[0].path.read_bytes())
    data[-2 * 240] ^= 1
    record.closed[0].path.write_bytes(data)
    assert sum(record.numbers().values()) == count_rows(record.place) == 4


def test_counts_never_miss_or_double_a_row_while_a_recorder_moves_them(tmp_path):
    # Invariant: committed before the count began ≤ count ≤ committed when it ended, at every one of many moments.
    record = RecordPlace(tmp_path, capacity=1 << 16)
    manifest = record.manifest()
    committed, stop, counts = [0], threading.Event(), []

    def commit_and_record():
        copier = RingCopier(
            record.ring_path,
            record.segments,
            rotation=Rotation(size=10_000),
            on_closed=lambda name: consume_segment(name, record.state_dir, manifest),
        )
        exchange = mlp_exchange()
        while not stop.is_set():
            committed[0] += record.writer.commit_many_for_test(exchange, record.handle, 20)
            copier.step()

    thread = threading.Thread(target=commit_and_record)
    thread.start()
    try:
        for _ in range(60):
            before = committed[0]
            rows = count_rows(record.place)
            # Rows are counted after the fact: the writer may be in the middle of its next twenty.
            counts.append((before, rows, committed[0] + 20))
    finally:
        stop.set()
        thread.join()
    assert all(before <= rows <= after for before, rows, after in counts), counts
    assert counts[-1][0] > 200
    assert len(record.part_files()) > 2


def test_a_record_that_moves_on_too_fast_is_said_to_be_so(record, monkeypatch):
    record.commit(range(5))
    record.copy()

    def vanished(name):
        raise FileNotFoundError(name.path)

    monkeypatch.setattr(moment, "Segment", vanished)
    with pytest.raises(Unavailable, match="faster than they could be read"):
        count_rows(record.place)


def test_a_lost_segment_is_no_reason_to_give_up(record):
    record.commit(range(5))
    record.copy()
    record.commit(range(5, 8))
    record.copy()
    record.closed[0].path.unlink()
    record.ring_path.unlink()
    assert record.numbers() == each_once(range(5, 8))


# Following.


def followed(follower):
    rows, more = follower.poll(1000)
    assert more == 0
    return [int(row["prediction_id"][-8:], 16) for row in rows]


def test_a_follower_tells_each_new_row_once(record):
    record.commit(range(5))
    follower = Follower(record.place)
    assert followed(follower) == []
    record.commit(range(5, 8))
    assert followed(follower) == [5, 6, 7]
    record.copy()
    assert followed(follower) == []
    record.commit(range(8, 9))
    record.copy()
    record.commit(range(9, 10))
    assert followed(follower) == [8, 9]


def test_a_follower_meets_a_gateway_that_starts_again(record):
    record.commit(range(2))
    follower = Follower(record.place)
    record.writer, record.handle = mlp_ring(record.shm_dir)
    record.commit(range(2, 4))
    assert followed(follower) == [2, 3]


def test_a_followed_row_is_plain(record):
    follower = Follower(record.place)
    record.commit(range(1, 2), request_id=b"r")
    record.commit(range(2, 3), bound=None)
    record.commit(range(3, 4), inputs=[], outputs=[], bound=None)
    (first, second, third), _ = follower.poll(1000)
    assert (first["inputs"], first["outputs"]) == ({"x": [1, 2, 3, 4]}, {"y": 1})
    assert (second["inputs"], third["inputs"]) == ({"x": [2, 3, 4, 5]}, None)
    assert first["ts"].startswith("2026-11-23T")


def test_a_follower_holds_no_more_rows_than_are_asked_for(record, monkeypatch):
    monkeypatch.setattr(unbuilt.tables_of, "__defaults__", (lambda _gap: None, 300))
    follower = Follower(record.place)
    record.commit(range(9, 4, -1))
    record.commit(range(5))
    rows, more = follower.poll(3)
    assert [int(row["prediction_id"][-8:], 16) for row in rows] == [0, 1, 2]
    assert more == 7
    assert follower.poll(3) == ([], 0)


# Where things lie.


def test_a_state_directory_tells_where_everything_is(tmp_path):
    assert configured_database(tmp_path) == f"sqlite:///{tmp_path}/gateway.db"
    assert ring_folders(tmp_path)[0].parent.name == "shm"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "server.json").write_text('{"database_url": "postgresql://db/x"}')
    (tmp_path / "run" / "runtime.json").write_text('{"shm": "/somewhere"}')
    assert configured_database(tmp_path) == "postgresql://db/x"
    assert str(ring_folders(tmp_path)[0]) == "/somewhere"
    (tmp_path / "run" / "runtime.json").write_text("half")
    assert len(ring_folders(tmp_path)) == 2


def test_a_state_directory_that_is_not_there_is_said(tmp_path):
    with pytest.raises(Unavailable, match="no state directory"):
        Place.of(tmp_path / "none")
