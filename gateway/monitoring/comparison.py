"""A candidate's outputs beside the primary's, pair by pair: how many are the same, how far apart the others are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Two numbers are the same if they are this near to each other, relative to the larger one.
SAME_RELATIVE = 1e-5


@dataclass(slots=True)
class OutputComparison:
    """One output over all pairs. A row's value may be a number, a text, or a list of them."""

    #: Rows in which both versions gave this output in the same form.
    compared: int = 0
    #: Of these, rows in which every element is the same.
    same: int = 0
    #: Rows in which only one version gave this output, or gave it in another form.
    incomparable: int = 0
    largest_difference: float = 0.0
    _differences: float = 0.0
    _numbers: int = 0

    def add(self, primary: object, shadow: object) -> None:
        """Take in one row."""
        left, right = list(_elements(primary)), list(_elements(shadow))
        if len(left) != len(right) or any(_kind(a) != _kind(b) for a, b in zip(left, right, strict=True)):
            self.incomparable += 1
            return
        self.compared += 1
        self.same += all(_is_same(a, b) for a, b in zip(left, right, strict=True))
        for a, b in zip(left, right, strict=True):
            if isinstance(a, float) and isinstance(b, float) and math.isfinite(difference := abs(a - b)):
                self._numbers += 1
                self._differences += difference
                self.largest_difference = max(self.largest_difference, difference)

    @property
    def mean_difference(self) -> float:
        """Mean absolute difference over all elements that are numbers."""
        return self._differences / self._numbers if self._numbers else 0.0


def compare_outputs(
    pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> dict[str, OutputComparison]:
    """Every output of (primary's outputs, shadow's outputs) pairs, by name."""
    found: dict[str, OutputComparison] = {}
    for primary, shadow in pairs:
        for name in {**primary, **shadow}:
            # An output that is not there has no elements, which fits no other.
            found.setdefault(name, OutputComparison()).add(primary.get(name, []), shadow.get(name, []))
    return found


def _elements(value: object) -> Iterator[float | str | None]:
    """The value's scalars, in order. JSON has no NaN: it arrives as None."""
    if isinstance(value, list):
        for item in value:
            yield from _elements(item)
    elif isinstance(value, bool | int | float):
        yield float(value)
    else:
        yield None if value is None else str(value)


def _kind(element: float | str | None) -> type:
    return str if isinstance(element, str) else float


def _is_same(a: float | str | None, b: float | str | None) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=SAME_RELATIVE, abs_tol=1e-12)
    return a == b
