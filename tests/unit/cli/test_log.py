"""`gateway log`: what it prints from a state directory alone, and how it ends."""

import csv
import json
from itertools import count

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gateway.cli import log
from gateway.cli import main as cli
from gateway.core.errors import GatewayError, InvalidRequest, NotFound, Unavailable
from tests.unit.recording.record_places import RecordPlace

ID = "01936d5e-7c1a-7c3e-9f6b-00000000000{}"


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Seven exchanges in all three places; number 3 failed."""
    record = RecordPlace(tmp_path_factory.mktemp("record"))
    (record.state_dir / "run" / "runtime.json").write_text(json.dumps({"shm": str(record.shm_dir)}))
    record.commit(range(3))
    record.copy()
    record.build()
    record.commit(range(3, 4), error=RuntimeError("boom"), outputs=[])
    record.copy()
    record.commit(range(4, 7))
    return record


def run(record, *arguments):
    result = CliRunner().invoke(cli.app, ["log", *map(str, arguments), "--state-dir", str(record.state_dir)])
    if isinstance(result.exception, GatewayError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_query_prints_one_array_of_objects(record):
    out = run(record, "query", "SELECT version, count(*) AS n FROM predictions GROUP BY version", "--json")
    assert json.loads(out) == [{"version": "1", "n": 7}]


def test_an_empty_answer_is_an_empty_array(record):
    assert json.loads(run(record, "query", "SELECT 1 WHERE false", "--json")) == []


def test_query_prints_a_table_for_people(record):
    lines = run(record, "query", "SELECT row, inputs FROM predictions ORDER BY prediction_id LIMIT 1").splitlines()
    assert lines[0].split() == ["row", "inputs"]
    assert lines[1].startswith("0")
    assert '{"x": [0.0, 1.0, 2.0, 3.0]}' in lines[1]


def test_a_question_that_is_none_ends_with_the_reason(record):
    with pytest.raises(InvalidRequest, match="exactly one SELECT"):
        run(record, "query", "DROP VIEW predictions")


def test_count_counts_every_row_wherever_it_is(record):
    assert run(record, "count") == "7\n"
    assert json.loads(run(record, "count", "--json")) == [{"count": 7}]


def test_count_takes_a_condition_even_with_a_comment_in_it(record):
    assert run(record, "count", "--where", "outputs IS NULL") == "1\n"
    assert run(record, "count", "--where", "outputs IS NULL -- failed") == "1\n"


def test_show_tells_everything_of_one_prediction(record):
    (row,) = json.loads(run(record, "show", ID.format(3), "--json"))
    assert (row["error"], row["outputs"], row["inputs"]) == ("RuntimeError: boom", None, {"x": [3, 4, 5, 6]})
    out = run(record, "show", ID.format(3))
    assert "RuntimeError: boom" in out
    assert "outputs" not in out


def test_show_says_what_it_does_not_find(record):
    with pytest.raises(NotFound, match="no prediction"):
        run(record, "show", "00000000-0000-7000-8000-000000000000")
    with pytest.raises(InvalidRequest, match="is not a prediction id"):
        run(record, "show", "' OR 1=1 --")


def test_tail_shows_the_newest_last(record):
    rows = json.loads(run(record, "tail", "-n", "3", "--json"))
    assert [row["prediction_id"] for row in rows] == [ID.format(number) for number in (4, 5, 6)]
    assert list(rows[0]) == list(log.TAIL_COLUMNS)
    assert len(run(record, "tail", "-n", "2").splitlines()) == 3


def test_tail_follows_until_interrupted_and_tells_no_row_twice(tmp_path, monkeypatch):
    record = RecordPlace(tmp_path)
    (record.state_dir / "run" / "runtime.json").write_text(json.dumps({"shm": str(record.shm_dir)}))
    record.commit(range(3))
    turns = count()

    def between_looks(_seconds):
        if next(turns) == 3:
            raise KeyboardInterrupt
        record.commit(next(new))

    new = iter([range(3, 5), range(5, 5), range(5, 8)])
    monkeypatch.setattr(log.time, "sleep", between_looks)
    monkeypatch.setattr(log, "FOLLOW_ROWS", 2)
    result = CliRunner().invoke(
        cli.app, ["log", "tail", "-n", "1", "-f", "--json", "--state-dir", str(record.state_dir)]
    )
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [int(row["prediction_id"][-1]) for row in rows] == [2, 3, 4, 5, 6]
    assert "… and 1 more rows" in result.stderr


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_export_writes_every_row(record, tmp_path, suffix):
    file = tmp_path / f"rows.{suffix}"
    run(record, "export", file, "--where", "prediction_id IS NOT NULL")
    if suffix == "parquet":
        rows = pq.read_table(file).to_pylist()
    elif suffix == "csv":
        rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    else:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert sorted(str(row["prediction_id"])[-1] for row in rows) == list("0123456")
    inputs = [row["inputs"] if isinstance(row["inputs"], dict) else json.loads(row["inputs"]) for row in rows]
    assert {"x": [6, 7, 8, 9]} in inputs


def test_export_of_a_model_is_typed(record, tmp_path):
    run(record, "export", tmp_path / "rows.parquet", "--model", "mlp")
    assert pq.read_table(tmp_path / "rows.parquet")["in_x"].to_pylist()[0] == [0, 1, 2, 3]


def test_export_writes_no_other_files(record, tmp_path):
    with pytest.raises(InvalidRequest, match=r"\.parquet, \.csv, \.jsonl"):
        run(record, "export", tmp_path / "rows.xlsx")


def test_a_state_directory_that_is_not_there_is_said(tmp_path):
    result = CliRunner().invoke(cli.app, ["log", "count", "--state-dir", str(tmp_path / "none")])
    assert isinstance(result.exception, Unavailable)
    assert "--state-dir" in str(result.exception)


@pytest.mark.parametrize("command", ["query", "show", "tail", "count", "export"])
def test_help_has_an_example(command):
    assert "Example: gateway log" in CliRunner().invoke(cli.app, ["log", command, "--help"]).stdout
