"""Steps that bend numbers to another distribution, or spread them over splines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from gateway._fast.feature_program import Operation, SplineBeyond
from gateway.features.program import Kind, Value
from gateway.features.steps.entry import NUMBERS, Lane, Outcomes, Part, StepEntry, Taken

if TYPE_CHECKING:
    from gateway.config.feature_steps import curves as page

#: scikit-learn takes shares within this of 0 and 1 for 0 and 1 where it makes a normal distribution of them, ...
NORMAL_MARGIN = 1e-7
#: ... and bounds the deviates by those of the shares 1e-7 - 2**-52 and 1 - (1e-7 - 2**-52).
NORMAL_BOUNDS = (float.fromhex("-0x1.4cc1f26b89e5bp+2"), float.fromhex("0x1.4cc1f26ba4caep+2"))


def _power_transform(arguments: page.PowerTransform, taken: Taken) -> list[Part]:
    operation = Operation.OP_BOX_COX if arguments.method == "box-cox" else Operation.OP_YEO_JOHNSON
    powers = taken.for_each("lambdas", arguments.lambdas)
    means, scales = taken.for_each("mean", arguments.mean), taken.for_each("scale", arguments.scale)
    parts: list[Part] = []
    for lane, power, mean, scale in zip(taken.lanes, powers, means, scales, strict=True):
        value = taken.program.compute(operation, Kind.FLOAT, taken.number(lane), a=power)
        if (mean, scale) != (0.0, 1.0):
            value = taken.program.compute(Operation.OP_SUBTRACT_DIVIDE, Kind.FLOAT, value, a=mean, b=scale)
        parts.append(lane.then(value))
    return parts


def _quantile_transform(arguments: page.QuantileTransform, taken: Taken) -> list[Part]:
    normal = arguments.output_distribution == "normal"
    quantiles = arguments.quantiles
    parts: list[Part] = []
    for lane in taken.lanes:
        value = taken.program.compute(
            Operation.OP_QUANTILE, Kind.FLOAT, taken.number(lane), constants=quantiles, length=len(quantiles),
            a=NORMAL_MARGIN if normal else 0.0,
        )  # fmt: skip
        if normal:
            low, high = NORMAL_BOUNDS
            value = taken.program.compute(Operation.OP_NORMAL_DEVIATE, Kind.FLOAT, value, a=low, b=high)
        parts.append(lane.then(value))
    return parts


def _spline(arguments: page.Spline, taken: Taken) -> list[Part]:
    basis = _Basis(arguments.knots, arguments.degree)
    count = basis.count - (arguments.degree if arguments.extrapolation == "periodic" else 0)
    kept = count if arguments.include_bias else count - 1
    lines = basis.lines_beyond(arguments.extrapolation)
    return [part for lane in taken.lanes for part in _splines_of(lane, arguments, lines[:kept], taken)]


def _splines_of(lane: Lane, arguments: page.Spline, lines: Sequence[tuple[float, ...]], taken: Taken) -> list[Part]:
    x = taken.number(lane)
    beyond = _BEYOND.get(arguments.extrapolation, SplineBeyond.SPLINE_LINE)
    if beyond == SplineBeyond.SPLINE_PERIODIC:
        x = _wrapped(x, arguments, taken)
    return [
        Lane(
            taken.program.compute(
                Operation.OP_SPLINE, Kind.FLOAT, x, constants=(*arguments.knots, *line), length=len(arguments.knots),
                i=place, j=arguments.degree, a=float(beyond), b=0.0 if arguments.missing == "zeros" else float("nan"),
            ),
            f"{lane.name}_sp_{place}",
        )
        for place, line in enumerate(lines)
    ]  # fmt: skip


_BEYOND = {
    "continue": SplineBeyond.SPLINE_CONTINUE,
    "error": SplineBeyond.SPLINE_ERROR,
    "periodic": SplineBeyond.SPLINE_PERIODIC,
}


def _wrapped(x: Value, arguments: page.Spline, taken: Taken) -> Value:
    low, high = arguments.knots[arguments.degree], arguments.knots[-arguments.degree - 1]
    return taken.program.compute(Operation.OP_WRAP, Kind.FLOAT, x, a=low, b=high - low)


@dataclass(frozen=True)
class _Basis:
    """The B-splines of ``knots``."""

    knots: tuple[float, ...]
    degree: int

    @property
    def count(self) -> int:
        return len(self.knots) - self.degree - 1

    def lines_beyond(self, extrapolation: str) -> list[tuple[float, ...]]:
        """Value and slope of each B-spline at the lower end of the range, then at the upper one.

        As in scikit-learn, those that are 0 at an end are so exactly, whatever rounding says.
        """
        if extrapolation not in ("constant", "linear"):
            return [(0.0,) * 4] * self.count
        # The second B-spline of straight pieces begins to rise at the end of the range.
        reach = max(self.degree, 2) if extrapolation == "linear" else self.degree
        first, last = self.knots[self.degree], self.knots[self.count]
        ends = [
            (self._last_interval_from(first), first, range(reach)),
            (self.count - 1, last, range(self.count - reach, self.count)),
        ]
        columns = []
        for interval, x, near in ends:
            slopes = self._slopes(interval, x) if extrapolation == "linear" else [0.0] * (self.degree + 1)
            for values in (self._values(interval, x, self.degree), slopes):
                of_place = dict(enumerate(values, interval - self.degree))
                columns.append([of_place.get(i, 0.0) if i in near else 0.0 for i in range(self.count)])
        return list(zip(*columns, strict=True))

    def _last_interval_from(self, knot: float) -> int:
        return max(i for i in range(self.degree, self.count) if self.knots[i] <= knot)

    def _values(self, interval: int, x: float, degree: int) -> list[float]:
        """Those that are not 0 in the interval, by the recurrence that ``feature_curves.pxd`` names."""
        values = [1.0]
        for order in range(1, degree + 1):
            shares = self._shares(values, interval, order)
            ends = [self.knots[interval + 1 + k] for k in range(order)]
            starts = [self.knots[interval + 1 + k - order] for k in range(order)]
            falling = [share * (end - x) for share, end in zip(shares, ends, strict=True)]
            rising = [share * (x - start) for share, start in zip(shares, starts, strict=True)]
            values = [left + right for left, right in zip([0.0, *rising], [*falling, 0.0], strict=True)]
        return values

    def _slopes(self, interval: int, x: float) -> list[float]:
        """Their derivatives: differences of the shares of the B-splines of one degree less, times the degree."""
        values = [self.degree * value for value in self._values(interval, x, self.degree - 1)]
        return [left - right for left, right in pairwise([0.0, *self._shares(values, interval, self.degree), 0.0])]

    def _shares(self, values: Sequence[float], interval: int, order: int) -> list[float]:
        """B-splines of the order below by the width of their support, 0 where that is empty."""
        found = []
        for k, value in enumerate(values):
            width = self.knots[interval + 1 + k] - self.knots[interval + 1 + k - order]
            found.append(value / width if width else 0.0)
        return found


ENTRIES = [
    StepEntry(
        name="power_transform",
        takes=NUMBERS,
        gives="float",
        formula="with p of `lambdas`: ((1 + x)^p - 1) / p from 0 on (ln(1 + x) if p = 0), "
        "-((1 - x)^(2 - p) - 1) / (2 - p) below (-ln(1 - x) if p = 2); "
        "box-cox: (x^p - 1) / p (ln x if p = 0); then (… - mean) / scale",
        outcomes=Outcomes(
            missing="stays missing", infinite="the formula's limit", beyond="box-cox: NaN at 0 and below"
        ),
        example="power_transform: {lambdas: 0.4, mean: 1.3, scale: 0.6}",
        compile=_power_transform,
        twin="`PowerTransformer`; its last digits depend on the processor, here they do not: docs/decisions/0009",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="quantile_transform",
        takes=NUMBERS,
        gives="float",
        formula="s, interpolated between the quantiles, in the middle of a step where they repeat; "
        "normal: the z with Φ(z) = s, held within ±5.2",
        outcomes=Outcomes(
            missing="stays missing",
            infinite="as beyond the quantiles",
            beyond="s is 0 or 1, with `normal` also within 1e-7 of the first and last quantile",
        ),
        example="quantile_transform: {quantiles: [0, 1.5, 2, 2, 7]}",
        compile=_quantile_transform,
        twin="`QuantileTransformer`",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="spline",
        takes=NUMBERS,
        gives="a float per B-spline: knots - degree - 1, `degree` fewer if periodic",
        formula="B-splines by the recurrence of Cox and de Boor",
        outcomes=Outcomes(
            missing="as `missing` says",
            infinite="as beyond the range; NaN with `continue` and `periodic`",
            beyond="as `extrapolation` says",
        ),
        example="spline: {degree: 2, knots: [-2, -1, 0, 1, 2, 3, 4]}",
        compile=_spline,
        twin="`SplineTransformer`",
        fallback=Kind.FLOAT,
    ),
]
