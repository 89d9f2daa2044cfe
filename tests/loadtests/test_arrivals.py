import numpy as np
import pytest

from loadtests.arrivals import poisson_arrivals


def test_arrivals_keep_the_rate_and_never_go_back():
    arrivals = poisson_arrivals(10_000, 2.0)
    assert len(arrivals) == 20_000
    assert arrivals[-1] == pytest.approx(2e9, rel=0.05)
    assert (np.diff(arrivals) >= 0).all()


def test_gaps_vary_as_those_of_independent_callers():
    gaps = np.diff(poisson_arrivals(1000, 20.0))
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


def test_the_same_seed_gives_the_same_schedule():
    np.testing.assert_array_equal(poisson_arrivals(100, 1, seed=3), poisson_arrivals(100, 1, seed=3))
    assert not np.array_equal(poisson_arrivals(100, 1, seed=3), poisson_arrivals(100, 1, seed=4))


def test_the_slowest_schedule_still_has_one_request():
    assert len(poisson_arrivals(0.1, 1.0)) == 1
