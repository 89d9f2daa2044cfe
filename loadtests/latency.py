"""Percentiles of the load generators' log-linear histograms (``drivers/histogram.pxd``)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SUB_BITS = 7


def bucket_bounds(bucket: int) -> tuple[int, int]:
    """Nanoseconds [low, high) that fall into `bucket`."""
    if bucket < 1 << SUB_BITS:
        return bucket, bucket + 1
    shift = (bucket >> SUB_BITS) - 1
    mantissa = bucket - (shift << SUB_BITS)
    return mantissa << shift, (mantissa + 1) << shift


def percentile_ns(counts: NDArray[np.int64], percent: float) -> float:
    """The duration that `percent` of the counted ones do not exceed (upper bound of its bucket); NaN without any."""
    total = int(counts.sum())
    if total == 0:
        return float("nan")
    rank = max(1, int(np.ceil(total * percent / 100)))
    bucket = int(np.searchsorted(np.cumsum(counts), rank))
    return float(bucket_bounds(bucket)[1])


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in microseconds, and how many answers they describe."""

    count: int
    p50_us: float
    p99_us: float
    p999_us: float

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> Latency:
        """Summarise one histogram."""
        p50, p99, p999 = (percentile_ns(counts, percent) / 1000 for percent in (50, 99, 99.9))
        return cls(int(counts.sum()), p50, p99, p999)
