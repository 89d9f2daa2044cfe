"""What one run of a load generator saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.latency import Latency


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """Counts, times and a sample of the answers; `latency` and `lateness` are histograms in nanoseconds."""

    seconds: float  #: first request sent to last answer read
    ok: int  #: answered with the protocol's OK: grpc-status 0, HTTP 200
    failed: int  #: answered with anything else
    lost: int  #: never answered: connection gone, stream reset, or given up
    statuses: dict[int, int]
    latency: NDArray[np.int64]  #: of OK answers, from when the request was meant to be sent
    lateness: NDArray[np.int64]  #: open loop: how late requests were sent
    client_cpu_seconds: float
    kept: list[tuple[int, bytes]]  #: (index of the body sent, reply body as received)

    @property
    def rate(self) -> float:
        """OK answers a second."""
        return self.ok / self.seconds if self.seconds else 0.0

    @property
    def client_busy(self) -> float:
        """Share of the time that the generator itself was on a CPU; near 1 it was the bottleneck."""
        return self.client_cpu_seconds / self.seconds if self.seconds else 0.0

    @property
    def percentiles(self) -> Latency:
        """Latency of the OK answers."""
        return Latency.of(self.latency)
