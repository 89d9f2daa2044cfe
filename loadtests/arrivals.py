"""When the requests of an open loop are due."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def poisson_arrivals(rate: float, seconds: float, *, seed: int = 11) -> NDArray[np.int64]:
    """Nanoseconds from the start of a Poisson stream of `rate` a second; independent callers look like this."""
    count = max(1, round(rate * seconds))
    gaps = np.random.default_rng(seed).exponential(1e9 / rate, count)
    return np.cumsum(gaps).astype(np.int64)
