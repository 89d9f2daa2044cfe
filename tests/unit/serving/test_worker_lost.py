"""Requests that died with a worker: one row each, whatever dies when."""

import json

import pytest

from gateway._fast.record_frames import scan_frames
from gateway._fast.record_ring import ONLOOKER, RingReader, RingWriter, create_ring
from gateway.serving.worker_lost import OBITUARIES, Obituaries, tell_lost_requests

STARTED = "2026-11-23T10:00:00Z"
FIRST, SECOND = bytes.fromhex("01a20752ca7a76adb6d339058438f4b5"), bytes.fromhex("01a20752ca7b7000800000000000abcd")


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def ring(tmp_path):
    create_ring(tmp_path / "w0.ring", 1 << 16)
    return RingWriter(tmp_path / "w0.ring")


def note_death(run_dir, predictions, *, index=0, pid=100, started=STARTED, role="worker"):
    requests = [{"prediction_id": prediction.hex(), "fingerprint": "0"} for prediction in predictions]
    suspects = [{"model": "m", "version": "3", "rows": 1, "requests": requests}]
    entry = {"ts": STARTED, "role": role, "index": index, "pid": pid, "started": started, "suspects": suspects}
    with (run_dir / OBITUARIES).open("a") as file:
        file.write(json.dumps(entry) + "\n")


def tell(run_dir, ring, *, recorded=True):
    def schema_of(model, version):
        return ring.register_schema(model, version, "", [], []) if recorded else None

    return tell_lost_requests(Obituaries(run_dir, 0, STARTED), ring, schema_of)


def frames(ring):
    reader = RingReader(ring.path, ONLOOKER, start="oldest")
    return scan_frames(reader.read(1 << 20), ring.epoch, 0).exchanges


def test_each_lost_request_gets_one_frame_and_is_not_told_again(run_dir, ring):
    note_death(run_dir, [FIRST, SECOND])
    assert (tell(run_dir, ring), tell(run_dir, ring), frames(ring)) == (2, 0, 2)


def test_the_arrival_is_that_of_the_prediction_id(run_dir, ring):
    note_death(run_dir, [FIRST])
    tell(run_dir, ring)
    reader = RingReader(ring.path, ONLOOKER, start="oldest")
    assert scan_frames(reader.read(1 << 20), ring.epoch, 0).oldest_unix_ns == 0x01A20752CA7A * 1_000_000


def test_a_later_death_is_told_without_the_earlier_one(run_dir, ring):
    note_death(run_dir, [FIRST], pid=100)
    tell(run_dir, ring)
    note_death(run_dir, [SECOND], pid=101)
    assert (tell(run_dir, ring), frames(ring)) == (1, 2)


def test_a_successor_that_died_before_it_could_note_what_it_told_is_not_repeated(run_dir, ring):
    note_death(run_dir, [FIRST])
    tell(run_dir, ring)
    (run_dir / "told-worker-0.json").unlink()
    note_death(run_dir, [SECOND], pid=101)
    assert (tell(run_dir, ring), frames(ring)) == (1, 2)


def test_deaths_of_others_are_not_ours_to_tell(run_dir, ring):
    note_death(run_dir, [FIRST], index=1)
    note_death(run_dir, [FIRST], role="scorer")
    note_death(run_dir, [FIRST], started="2026-11-22T10:00:00Z")
    assert (tell(run_dir, ring), frames(ring)) == (0, 0)


def test_what_is_not_recorded_is_not_told(run_dir, ring):
    note_death(run_dir, [FIRST])
    assert (tell(run_dir, ring, recorded=False), frames(ring)) == (0, 0)


def test_a_torn_line_hides_no_other(run_dir, ring):
    (run_dir / OBITUARIES).write_text('{"role": "wor\n')
    note_death(run_dir, [FIRST])
    assert tell(run_dir, ring) == 1


def test_without_room_the_lost_are_counted_as_unlogged(run_dir, ring):
    note_death(run_dir, [(number).to_bytes(16, "big") for number in range(1000)])
    told = tell(run_dir, ring)
    assert 0 < told < 1000
    assert ring.unlogged == 1000 - told


def test_no_death_no_note(run_dir, ring):
    assert tell(run_dir, ring) == 0
    assert list(run_dir.iterdir()) == []


def test_a_prediction_id_of_another_length_is_refused(ring):
    from gateway._fast.lost_requests import commit_lost
    from gateway.core.errors import WorkerLost

    with pytest.raises(ValueError, match="16 bytes, not 3"):
        commit_lost(ring, ring.register_schema("m", "1", "", [], []), b"abc", 14, WorkerLost("died"))
