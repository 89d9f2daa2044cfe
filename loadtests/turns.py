"""Calls in this process, timed in turns: whatever else the machine does befalls all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

Call = Callable[[], object]

#: A turn of one call takes about so long.
TURN_SECONDS = 0.05


def microseconds_in_turns(calls: Mapping[str, Call], rounds: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """By name, what a call takes in each round, one CPU for all."""
    times = {name: times_in_a_turn(seconds_a_call(call, 1)) for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for name, call in calls.items():
            taken[name].append(1e6 * seconds_a_call(call, times[name]))
    return taken


def times_in_a_turn(seconds: float) -> int:
    """How often something that takes so long is done in a turn; at least once."""
    return max(1, int(TURN_SECONDS / seconds))


def seconds_a_call(call: Call, times: int) -> float:
    """The mean of so many."""
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times
