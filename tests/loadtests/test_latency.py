"""Invariant: a percentile read from the histogram is never under the exact one and less than 1 % over it."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.latency import SUB_BITS, Latency, bucket_bounds, percentile_ns

BUCKETS = (40 - SUB_BITS + 1) << SUB_BITS


def histogram(durations):
    lows = np.array([bucket_bounds(bucket)[0] for bucket in range(BUCKETS)])
    counts = np.zeros(BUCKETS, np.int64)
    np.add.at(counts, np.searchsorted(lows, durations, side="right") - 1, 1)
    return counts


def test_buckets_follow_each_other_without_gap_or_overlap():
    bounds = [bucket_bounds(bucket) for bucket in range(BUCKETS)]
    assert bounds[0][0] == 0
    assert all(low == high for (_, high), (low, _) in itertools.pairwise(bounds))
    assert bounds[-1][1] == 2**40


@given(st.lists(st.integers(0, 2**40 - 1), min_size=1, max_size=200), st.sampled_from([50, 90, 99, 99.9, 100]))
def test_percentiles_are_within_one_percent_of_the_exact_ones(durations, percent):
    exact = sorted(durations)[max(1, math.ceil(len(durations) * percent / 100)) - 1]
    found = percentile_ns(histogram(durations), percent)
    assert exact < found <= exact * 1.008 + 1


def test_nothing_counted_has_no_percentile():
    assert math.isnan(percentile_ns(np.zeros(BUCKETS, np.int64), 99))


def test_a_summary_is_in_microseconds():
    latency = Latency.of(histogram([100_000] * 99 + [5_000_000]))
    assert latency.count == 100
    assert latency.p50_us == pytest.approx(100, rel=0.01)
    assert latency.p999_us == pytest.approx(5000, rel=0.01)
