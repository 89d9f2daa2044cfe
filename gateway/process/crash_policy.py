"""When a model version has crashed enough processes to be held back. Pure. Standard library only."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

CRASHES = 3
WINDOW_SECONDS = 60.0


class CrashPolicy:
    """Counts the crashes in which each version was in native code.

    A process that dies with several lanes busy suspects each of them: the culprit cannot be told from its
    neighbours, and holding both back beats losing workers for ever.
    """

    def __init__(self, crashes: int = CRASHES, window_seconds: float = WINDOW_SECONDS) -> None:
        self._limit = crashes
        self._window = window_seconds
        self._crashes: dict[tuple[str, str], deque[float]] = {}

    def on_crash(self, suspects: Iterable[tuple[str, str]], now: float) -> list[tuple[str, str]]:
        """Note that a process died while running these (model, version); return those to be quarantined now."""
        condemned = []
        for suspect in dict.fromkeys(suspects):
            crashes = self._crashes.setdefault(suspect, deque(maxlen=self._limit))
            crashes.append(now)
            if len(crashes) == self._limit and now - crashes[0] <= self._window:
                condemned.append(suspect)
                crashes.clear()  # a released version starts with a clean slate
        return condemned
