import dataclasses

import pytest

from loadtests.rounds import Figure, Round

QUIET = Round(
    server="gateway", rate=1000.0, ok=1000, failed=0, lost=0, worker_us=5.0, tree_us=9.0, recorder_us=3.0,
    p50_us=100, p99_us=200, p999_us=300, late_p99_us=0.0, client_busy=0.5, steal=0.0, foreign=0.0,
)  # fmt: skip


def test_a_figure_is_the_median_with_its_range():
    assert Figure.of([5.0, 1.0, 3.0], "µs") == Figure(3.0, 1.0, 5.0, "µs")


def test_a_figure_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one round"):
        Figure.of([])


def test_ratios_pair_the_rounds_so_that_a_slow_minute_cancels_out():
    assert Figure.ratios([10, 20, 40], [1, 2, 4]) == Figure(10, 10, 10, "x")


def test_ratios_of_unequal_rounds_are_refused():
    with pytest.raises(ValueError, match="zip"):
        Figure.ratios([1, 2], [1])


def test_a_quiet_round_has_no_marks():
    assert QUIET.marks == ()


@pytest.mark.parametrize(
    ("change", "mark"),
    [
        ({"steal": 0.021}, "steal 2.1%"),
        ({"client_busy": 0.96}, "client 96% busy"),
        ({"late_p99_us": 1500.0}, "sent 1,500 µs late"),
        ({"foreign": 0.3}, "others 30%"),
        ({"failed": 2}, "2 failed, 0 lost"),
        ({"lost": 1}, "0 failed, 1 lost"),
    ],
)
def test_what_makes_a_round_doubtful_is_marked(change, mark):
    assert dataclasses.replace(QUIET, **change).marks == (mark,)
