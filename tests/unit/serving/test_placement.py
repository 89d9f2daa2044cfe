from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.serving.placement import INLINE_LIMIT_NS, place


@dataclass
class Version:
    placement: str
    nanoseconds: float

    @property
    def cost(self) -> Version:
        return self

    def predict(self, rows: int) -> float:
        return self.nanoseconds * rows


@pytest.mark.parametrize(
    ("placement", "nanoseconds", "rows", "expected"),
    [
        ("auto", 10_000, 1, "inline"),
        ("auto", INLINE_LIMIT_NS + 1, 1, "thread"),
        ("auto", 10_000, 128, "thread"),
        ("inline", 50_000_000, 1, "inline"),
        ("thread", 1, 1, "thread"),
    ],
)
def test_long_runs_leave_the_loop_unless_the_operator_says_otherwise(placement, nanoseconds, rows, expected):
    assert place(Version(placement, nanoseconds), rows) == expected
