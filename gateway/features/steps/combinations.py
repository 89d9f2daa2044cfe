"""Steps that look at several values at once."""

from __future__ import annotations

import difflib
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway._fast.feature_program import Operation
from gateway.features.program import Kind, Value
from gateway.features.steps.entry import NUMBERS, Lane, Outcomes, Part, StepEntry, Taken, Unfit, named

if TYPE_CHECKING:
    from gateway.config.feature_steps import combinations as page

#: Products of one polynomial step.
MAX_PRODUCTS = 65_536


def _select(arguments: page.Select, taken: Taken) -> list[Part]:
    if arguments.places is not None:
        return [_at(place, taken.lanes) for place in arguments.places]
    return [_called(name, taken.lanes) for name in arguments.names or ()]


def _at(place: int, lanes: tuple[Lane, ...]) -> Lane:
    if place >= len(lanes):
        raise Unfit(f"`places` asks for {place}, but {len(lanes)} values are given: {named(lanes)}")
    return lanes[place]


def _called(name: str, lanes: tuple[Lane, ...]) -> Lane:
    found = [lane for lane in lanes if lane.name == name]
    if len(found) > 1:
        raise Unfit(f"{len(found)} values are called {name!r}: select by `places`, counted from 0")
    if not found:
        close = difflib.get_close_matches(name, [lane.name for lane in lanes], n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"given are {named(lanes)}"
        raise Unfit(f"no value is called {name!r}; {hint}")
    return found[0]


def _normalize(arguments: page.Normalize, taken: Taken) -> list[Part]:
    numbers = [taken.number(lane) for lane in taken.lanes]
    norm = taken.program.compute(_NORMS[arguments.norm], Kind.FLOAT, *numbers, length=len(numbers))
    return [
        lane.then(taken.program.compute(Operation.OP_DIVIDE, Kind.FLOAT, number, norm))
        for lane, number in zip(taken.lanes, numbers, strict=True)
    ]


_NORMS = {"l1": Operation.OP_NORM_L1, "l2": Operation.OP_NORM_L2, "max": Operation.OP_NORM_MAX}


def _polynomial(arguments: page.Polynomial, taken: Taken) -> list[Part]:
    fewest, most = arguments.degree
    count = sum(_product_count(len(taken.lanes), degree, arguments) for degree in range(1, most + 1))
    if count > MAX_PRODUCTS:
        raise Unfit(f"{len(taken.lanes)} values have {count} products of up to {most}; at most {MAX_PRODUCTS} can be")
    parts: list[Part] = []
    if arguments.include_bias:
        parts.append(Lane(taken.program.compute(Operation.OP_NUMBER, Kind.FLOAT, a=1.0), "1"))
    products: dict[tuple[int, ...], Value] = {}
    for degree in range(1, most + 1):
        for factors in _products(len(taken.lanes), degree, arguments):
            products[factors] = _product(factors, products, taken)
            if degree >= fewest:
                parts.append(Lane(products[factors], _product_name(factors, taken)))
    return parts


def _product_count(values: int, degree: int, arguments: page.Polynomial) -> int:
    return math.comb(values if arguments.interaction_only else values + degree - 1, degree)


def _products(values: int, degree: int, arguments: page.Polynomial) -> Iterator[tuple[int, ...]]:
    """The places of the factors of each, in scikit-learn's order."""
    choose = itertools.combinations if arguments.interaction_only else itertools.combinations_with_replacement
    return choose(range(values), degree)


def _product(factors: tuple[int, ...], products: dict[tuple[int, ...], Value], taken: Taken) -> Value:
    # The first factor by the product of the others, as scikit-learn rounds.
    first = taken.number(taken.lanes[factors[0]])
    if len(factors) == 1:
        return first
    return taken.program.compute(Operation.OP_MULTIPLY, Kind.FLOAT, products[factors[1:]], first)


def _product_name(factors: tuple[int, ...], taken: Taken) -> str:
    powers = Counter(factors)
    names = {place: taken.lanes[place].name for place in powers}
    return " ".join(f"{names[place]}^{power}" if power > 1 else names[place] for place, power in powers.items())


ENTRIES = [
    StepEntry(
        name="select",
        takes=(Kind.FLOAT, Kind.INT, Kind.BOOL, Kind.STRING, Kind.TIMESTAMP, Kind.STRINGS),
        gives="what it takes, `places` of it",
        formula="x[place] for each of `places`; `names` stand for their places",
        outcomes=Outcomes(missing="stays missing", infinite="x"),
        example="select: {places: [0]}",
        compile=_select,
        twin="the columns of a `ColumnTransformer` behind another step",
    ),
    StepEntry(
        name="normalize",
        takes=NUMBERS,
        gives="a float for each value",
        formula="x / n, n the norm of all values of the row; x / 1 if n < 10 * 2^-52",
        outcomes=Outcomes(
            missing="one makes all missing",
            infinite="NaN, the others 0; all missing if another is missing",
        ),
        example="normalize: {norm: l1}",
        compile=_normalize,
        twin="`Normalizer`",
        fallback=Kind.FLOAT,
        example_columns=("float", "float"),
    ),
    StepEntry(
        name="polynomial",
        takes=NUMBERS,
        gives="a float for each product",
        formula="1, x, y, x², x y, y², …: by how many factors, then by which",
        outcomes=Outcomes(
            missing="products of it are missing",
            infinite="products of it are infinite; NaN with a factor 0",
        ),
        example="polynomial: {degree: [1, 2], include_bias: false}",
        compile=_polynomial,
        twin="`PolynomialFeatures`",
        fallback=Kind.FLOAT,
        example_columns=("float", "float"),
    ),
]
