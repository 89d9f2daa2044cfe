"""`gateway shadow report`: every candidate, compared with what answered, from a state directory alone."""

import json

import pytest
from typer.testing import CliRunner

from gateway.cli import main as cli
from gateway.core.snapshot_files import SnapshotFiles
from tests.fast.record_makers import MLP_INPUTS, MLP_OUTPUTS, commit_numbers, mlp_exchange
from tests.unit.recording.record_places import RecordPlace

NO_ROWS = {
    "since": None, "requests": 0, "pairs": 0, "errors": 0, "primary_us": None, "shadow_us": None, "coverage": 0.0,
    "output": "", "compared": 0, "incomparable": 0, "same": 0.0, "mean_difference": 0.0, "largest_difference": 0.0,
}  # fmt: skip


@pytest.fixture
def record(tmp_path):
    """Four requests of ``mlp``; version 2 has seen two of them."""
    record = RecordPlace(tmp_path)
    (record.state_dir / "run" / "runtime.json").write_text(json.dumps({"shm": str(record.shm_dir)}))
    record.commit(range(4))
    commit_shadows(record, "2", [1, 2])
    return record


def commit_shadows(record, version, numbers):
    handle = record.writer.register_schema("mlp", version, f"d{version}", MLP_INPUTS, MLP_OUTPUTS)
    commit_numbers(record.writer, handle, numbers, role=1)


def shadow_now(record, *versions):
    """The snapshot in force when the gateway was stopped."""
    shadows = [{"version": version, "percent": 100.0} for version in versions]
    files = SnapshotFiles(record.state_dir)
    files.write_candidate({"number": 1, "models": {"mlp": {"shadows": shadows}}})
    files.commit(1)


def report(record, *options, model="mlp"):
    command = ["shadow", "report", model, *options, "--state-dir", str(record.state_dir)]
    return CliRunner().invoke(cli.app, command, catch_exceptions=False).stdout


def rows_of(record, **which):
    return json.loads(report(record, "--json", **which))


def test_a_candidate_without_rows_is_listed_with_zeros_beside_those_that_have_some(record):
    shadow_now(record, "2", "3", "it's new")
    second, third, quoted = rows_of(record)
    assert (second["version"], second["requests"], second["pairs"], second["coverage"]) == ("2", 3, 2, 2 / 3)
    assert (second["output"], second["compared"], second["same"]) == ("y", 2, 1.0)
    assert third == {"version": "3", **NO_ROWS}
    assert quoted == {"version": "it's new", **NO_ROWS}


def test_people_are_told_that_a_candidate_has_no_rows_yet(record):
    shadow_now(record, "2", "3")
    second, third = report(record).splitlines()[1:]
    assert "66.67 %" in second
    assert "no rows yet" not in second
    assert third.split()[0] == "3"
    assert "no rows yet" in third


def test_a_shadow_whose_primaries_all_failed_is_listed_too(record):
    record.writer.commit_for_test(mlp_exchange(7, error=RuntimeError("boom"), outputs=[]), record.handle, 13)
    commit_shadows(record, "3", [7])
    third = rows_of(record)[1]
    assert (third["version"], third["requests"], third["pairs"]) == ("3", 0, 0)
    assert third["since"] is not None


def test_what_shadowed_once_stays_in_the_report_and_other_models_have_none(record):
    shadow_now(record)
    assert [row["version"] for row in rows_of(record)] == ["2"]
    assert rows_of(record, model="other") == []


def test_without_any_snapshot_the_record_alone_is_asked(record):
    assert [row["version"] for row in rows_of(record)] == ["2"]
