"""Deficit round robin over versions in measured nanoseconds. Pure.

Shreedhar & Varghese, "Efficient fair queueing using deficit round robin", 1995, doi:10.1145/217382.217453.
Runs cannot be interrupted and their cost is known only afterwards, so an account may go into debt; a debtor's turns
pass without a run until the debt is paid.
"""

from __future__ import annotations

#: Time one turn is worth.
QUANTUM_NS = 100_000
#: Most debt that is remembered, in turns: a run of a second does not silence a version for good.
MOST_TURNS_OWED = 20


class Account:
    """One version's share of the loop."""

    __slots__ = ("balance_ns",)

    def __init__(self) -> None:
        self.balance_ns = 0

    def begin_turn(self) -> int:
        """Nanoseconds that this turn may use; 0 or less: none, the debt is not paid yet."""
        self.balance_ns = min(self.balance_ns + QUANTUM_NS, QUANTUM_NS)
        return self.balance_ns

    def end_turn(self, used_ns: int, waiting: bool) -> None:
        """Settle the turn. Whoever has nothing waiting saves nothing, and keeps its debt."""
        self.balance_ns = max(self.balance_ns - used_ns, -MOST_TURNS_OWED * QUANTUM_NS)
        if not waiting:
            self.balance_ns = min(self.balance_ns, 0)
