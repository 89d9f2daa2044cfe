"""Snapshots on disk: candidates, committed ones, and what a process starts from."""

import json

import pytest

from gateway.core.snapshot_files import KEPT, SnapshotFiles


@pytest.fixture
def files(tmp_path):
    return SnapshotFiles(tmp_path)


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "snapshots").iterdir())


def test_there_is_nothing_at_first(files):
    assert (files.newest(), files.newest_of_any_kind()) == (0, 0)


def test_a_candidate_is_nothing_to_start_from_until_it_is_committed(files, tmp_path):
    path = files.write_candidate({"number": 7, "models": {}})
    assert path == "snapshots/000007.candidate.json"
    assert json.loads((tmp_path / path).read_bytes()) == {"number": 7, "models": {}}
    assert (files.newest(), files.newest_of_any_kind()) == (0, 7)
    files.commit(7)
    assert (files.newest(), files.read(7)) == (7, {"number": 7, "models": {}})
    assert files.path_of(7) == "snapshots/000007.json"
    assert (tmp_path / path).exists(), "whoever was told of the candidate can still read it"


def test_committing_twice_is_committing_once(files):
    files.write_candidate({"number": 1})
    files.commit(1)
    files.commit(1)
    assert files.newest() == 1


def test_old_ones_and_candidates_that_came_to_nothing_are_forgotten(files, tmp_path):
    for number in range(1, KEPT + 6):
        files.write_candidate({"number": number})
        if number != 3:
            files.commit(number)
    newest = KEPT + 5
    kept = [f"{number:06d}.json" for number in range(newest - KEPT + 1, newest + 1)]
    assert names(tmp_path) == sorted([*kept, f"{newest:06d}.candidate.json"])


def test_files_of_others_are_left_alone(files, tmp_path):
    files.write_candidate({"number": 1})
    (tmp_path / "snapshots" / "notes.txt").write_text("mine")
    (tmp_path / "snapshots" / "000001.json.new").write_text("half written by somebody who died")
    files.commit(1)
    files.write_candidate({"number": 2})
    files.commit(2)
    assert names(tmp_path) == ["000001.json", "000002.candidate.json", "000002.json", "notes.txt"]


def test_numbers_go_past_six_digits(files):
    files.write_candidate({"number": 1_234_567})
    files.commit(1_234_567)
    assert files.newest() == 1_234_567


def test_what_was_never_committed_cannot_be_read_or_committed(files):
    files.write_candidate({"number": 1})
    with pytest.raises(FileNotFoundError):
        files.read(1)
    with pytest.raises(FileNotFoundError):
        files.commit(2)
