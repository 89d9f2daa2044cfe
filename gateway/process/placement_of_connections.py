"""Which worker gets the next connection. Pure: counts in, choice out. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class WorkerLoad(NamedTuple):
    """What the supervisor knows of a worker when a connection arrives."""

    worker: int
    open_connections: int
    in_flight: int
    handed: int
    responsive: bool = True


def least_loaded_first(loads: Iterable[WorkerLoad]) -> list[WorkerLoad]:
    """Workers in the order in which a connection should be offered to them.

    Open connections come first: an HTTP/2 client keeps one for hours, so their number is the load to come, while
    requests in flight are the load of this instant and break ties. The last tie goes to whoever was handed the
    fewest in all; without it, short connections that come one by one would all go to the first worker.
    Unresponsive workers come last; they are still better than nobody.
    """
    return sorted(loads, key=lambda load: (not load.responsive, load.open_connections, load.in_flight, load.handed))


class HeartbeatWatch:
    """Tells workers whose loop stands still, by how often in a row it was seen standing.

    Counting looks instead of comparing clocks means that a paused machine does not make everybody look dead:
    while it was paused nobody looked.
    """

    def __init__(self) -> None:
        self._last_beat: dict[int, int] = {}
        self._looks_without_beat: dict[int, int] = {}

    def look(self, worker: int, heartbeat_ns: int) -> int:
        """Note what ``worker`` shows now; return for how many looks in a row it has not moved.

        A worker without any heartbeat yet is still starting, however long that takes: 0.
        """
        moved = heartbeat_ns != self._last_beat.get(worker) or heartbeat_ns == 0
        self._last_beat[worker] = heartbeat_ns
        self._looks_without_beat[worker] = 0 if moved else self._looks_without_beat.get(worker, 0) + 1
        return self._looks_without_beat[worker]

    def looks_without_beat(self, worker: int) -> int:
        """Result of the last look at ``worker``; 0 if there was none."""
        return self._looks_without_beat.get(worker, 0)
