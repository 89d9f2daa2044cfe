"""The tables, from a log that is made up."""

import io
import stat

import pytest
import report
from play import Answer, Played
from report import Cli, ReportFailed, probability, show
from rich.console import Console

ANSWERS = [Answer(f"id{n}", "2" if n == 9 else "1", "committed", 7 + n // 5, late=n % 2 == 0) for n in range(10)]
PLAYED = Played(ANSWERS, 2000.0, 400.0)


def row(answer, version, role, value):
    return {
        "prediction_id": answer.prediction_id, "version": version, "role": role, "infer_us": 10.0, "total_us": 50.0,
        "outputs": {"late_probability": [[value]]},
    }  # fmt: skip


def log(primaries=ANSWERS, shadows=ANSWERS):
    rows = [row(answer, answer.version, "primary", 0.9 if answer.late else 0.1) for answer in primaries]
    return rows + [row(answer, "3", "shadow", 0.4) for answer in shadows]


class FakeCli:
    def __init__(self, rows):
        self.rows = rows

    def json(self, *arguments):
        if arguments[:2] == ("traffic", "show"):
            return [{"version": "1", "weight": 90.0}, {"version": "2", "weight": 10.0}, {"version": "3", "weight": 0.0}]
        return [{"rows": len(self.rows)}] if "count(*)" in arguments[-1] else self.rows


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=100)


def shown(console, rows):
    show(FakeCli(rows), PLAYED, "2013-12-01T00:00:00+00:00", console)
    return console.file.getvalue()


def line(text, first):
    """Cells of the first table line that begins with `first`."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    return next(cells for cells in lines if cells[:1] == [first])


def test_the_split_seen_stands_beside_the_split_set(console):
    text = shown(console, log())
    assert line(text, "2") == ["2", "answers", "10.0%", "10.0%", "1"]
    assert line(text, "3") == ["3", "shadow", "100.0%", "100.0%", "10"]


def test_accuracy_is_by_month_and_version_shadow_included(console):
    text = shown(console, log())
    july = line(text, "Jul")
    assert july == ["Jul", "60.0%", "100.0% 1.000", "-", "40.0% 0.500"]
    assert line(text, "Aug")[3] == "100.0%"


def test_an_answer_that_is_not_in_the_log_fails_the_demo(console, monkeypatch):
    monkeypatch.setattr(report, "LOG_SECONDS", 0.0)
    with pytest.raises(ReportFailed, match="10 requests were answered, 9 of them are in the log"):
        shown(console, log(primaries=ANSWERS[:9]))


def test_shadows_that_lag_are_shown_as_coverage_and_fail_nothing(console, monkeypatch):
    monkeypatch.setattr(report, "LOG_SECONDS", 0.0)
    assert "80.0%" in shown(console, log(shadows=ANSWERS[:8]))


def test_a_shadow_that_never_ran_fails_the_demo(console, monkeypatch):
    monkeypatch.setattr(report, "LOG_SECONDS", 0.0)
    with pytest.raises(ReportFailed, match="version 3 is a shadow, but has not run once"):
        shown(console, log(shadows=[]))


@pytest.mark.parametrize(
    "cell", ['{"late_probability": [[0.25]]}', {"late_probability": [0.25]}, {"late_probability": 0.25}]
)
def test_the_probability_is_found_in_whatever_shape_the_cell_has(cell):
    assert probability(cell) == 0.25


def test_a_command_that_fails_is_quoted_with_what_it_said(tmp_path):
    program = tmp_path / "gateway"
    program.write_text("#!/bin/sh\necho no such state directory >&2\nexit 3\n")
    program.chmod(stat.S_IRWXU)
    with pytest.raises(ReportFailed, match=r"log count --json .* failed with 3: no such state directory"):
        Cli(program, tmp_path).json("log", "count")
