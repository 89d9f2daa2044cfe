"""Interleaved rounds: what each one measured, whether it can be believed, and what they say together."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Above these a round is marked: somebody else had the CPU, or the client was the bottleneck.
MOST_STEAL = 0.02
MOST_CLIENT_BUSY = 0.95
MOST_FOREIGN = 0.05
#: Open loop: requests sent this much later than due, at p99, are the client's fault and not the server's.
MOST_LATE_US = 200.0


@dataclass(frozen=True, slots=True)
class Round:
    """One run of a load against one server."""

    server: str
    rate: float  #: OK answers a second
    ok: int
    failed: int
    lost: int
    worker_us: float  #: CPU of the process that answers, per OK request, in microseconds
    tree_us: float  #: of all the server's processes, until the record has caught up
    recorder_us: float  #: of the recorder, per OK request; 0 without one
    p50_us: float
    p99_us: float
    p999_us: float
    late_p99_us: float  #: open loop: how late requests were sent; 0 in a closed loop
    client_busy: float  #: share of a CPU
    steal: float  #: share of the machine's time that the hypervisor gave to others
    foreign: float  #: share of the server's CPU that processes which are not ours took

    @property
    def marks(self) -> tuple[str, ...]:
        """Reasons to doubt this round."""
        found = []
        if self.steal > MOST_STEAL:
            found.append(f"steal {self.steal:.1%}")
        if self.client_busy > MOST_CLIENT_BUSY:
            found.append(f"client {self.client_busy:.0%} busy")
        if self.late_p99_us > MOST_LATE_US:
            found.append(f"sent {self.late_p99_us:,.0f} µs late")
        if self.foreign > MOST_FOREIGN:
            found.append(f"others {self.foreign:.0%}")
        if self.failed or self.lost:
            found.append(f"{self.failed} failed, {self.lost} lost")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Figure:
    """A median with its range over rounds."""

    median: float
    low: float
    high: float
    unit: str = ""

    @classmethod
    def of(cls, values: Iterable[float], unit: str = "") -> Figure:
        """Summarise `values`; raises ValueError without any."""
        found = list(values)
        if not found:
            raise ValueError("a figure needs at least one round")
        return cls(statistics.median(found), min(found), max(found), unit)

    @classmethod
    def ratios(cls, above: Sequence[float], below: Sequence[float]) -> Figure:
        """Ratio round by round, so that what slowed both servers in one round cancels out."""
        return cls.of((a / b for a, b in zip(above, below, strict=True)), "x")
