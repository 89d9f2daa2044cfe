"""Where a batch runs: on the loop or on a lane thread. Pure."""

from __future__ import annotations

from typing import Literal, Protocol

#: Work predicted to take longer leaves the loop, whose other connections would wait for it.
INLINE_LIMIT_NS = 200_000

Place = Literal["inline", "thread"]


class Cost(Protocol):
    """What placement asks of a cost model."""

    def predict(self, rows: int) -> float:
        """Nanoseconds of a run."""


class Placeable(Protocol):
    """What placement asks of a version."""

    @property
    def placement(self) -> str:
        """``auto``, or where the operator said that it runs."""

    @property
    def cost(self) -> Cost:
        """What its runs cost."""


def place(version: Placeable, rows: int) -> Place:
    """Where a run of ``rows`` rows of ``version`` belongs."""
    if version.placement != "auto":
        return "inline" if version.placement == "inline" else "thread"
    return "inline" if version.cost.predict(rows) <= INLINE_LIMIT_NS else "thread"
