"""Which quarantines a process has to heed by itself: those that its snapshot does not know."""

import json

import pytest

from gateway.core.quarantine import known_quarantines, quarantines_json, quarantines_to_come, read_quarantines

EARLY, LATE = "2026-11-23T06:00:00Z", "2026-11-23T07:00:00Z"


@pytest.fixture
def condemn(tmp_path):
    """Writes what the supervisor writes."""
    (tmp_path / "run").mkdir()

    def write(*entries):
        listed = [{"model": model, "version": version, "since": since} for model, version, since in entries]
        (tmp_path / "run" / "quarantine.json").write_text(json.dumps({"versions": listed}))

    return write


def test_without_a_file_nothing_is_held_back(tmp_path):
    assert read_quarantines(tmp_path) == {}


@pytest.mark.parametrize("damaged", ["", '{"versions": [', "\xff"])
def test_a_damaged_file_holds_nothing_back(condemn, tmp_path, damaged):
    condemn()
    (tmp_path / "run" / "quarantine.json").write_text(damaged, encoding="latin-1")
    assert read_quarantines(tmp_path) == {}


def test_of_a_version_that_was_quarantined_again_the_latest_counts(condemn, tmp_path):
    condemn(("m", "2", EARLY), ("n", "1", EARLY), ("m", "2", LATE))
    assert read_quarantines(tmp_path) == {("m", "2"): LATE, ("n", "1"): EARLY}


def test_a_snapshot_carries_what_control_knew():
    known = {("m", "2"): EARLY, ("m", "3"): LATE, ("n", "1"): EARLY}
    snapshot = json.loads(json.dumps({"quarantined": quarantines_json(known)}))
    assert known_quarantines(snapshot) == known
    assert known_quarantines({"number": 1}) == {}


def test_what_a_snapshot_knows_is_for_control_to_decide_and_the_rest_is_held_back(condemn, tmp_path):
    condemn(("m", "2", EARLY), ("m", "3", EARLY), ("m", "3", LATE), ("n", "1", EARLY))
    snapshot = {"quarantined": {"m": {"2": EARLY, "3": EARLY}}}
    assert quarantines_to_come(snapshot, tmp_path) == {("m", "3"): LATE, ("n", "1"): EARLY}
