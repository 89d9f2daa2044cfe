"""Steps that take latitudes and longitudes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gateway._fast.feature_program import Operation
from gateway.features.program import Kind, Value
from gateway.features.steps.entry import NUMBERS, Lane, Outcomes, Part, StepEntry, Taken, Unfit, named

if TYPE_CHECKING:
    from gateway.config.feature_steps import places as page

#: The mean radius R1 of the Earth (IUGG; H. Moritz, Geodetic Reference System 1980), 6371.0088 km, by unit.
EARTH_RADIUS = {"km": 6371.0088, "m": 6371008.8, "miles": 6371.0088 / 1.609344}
_RADIANS = math.pi / 180.0


def _haversine(arguments: page.Haversine, taken: Taken) -> list[Part]:
    radius = EARTH_RADIUS[arguments.unit]
    if arguments.points is None:
        angles = _angles(arguments, taken, 4, "takes two latitudes and longitudes, or `points` and one of each")
        return [Lane(taken.program.compute(Operation.OP_DISTANCE, Kind.FLOAT, *angles, a=radius), "haversine")]
    latitude, longitude = _angles(arguments, taken, 2, "takes a latitude and a longitude")
    parts: list[Part] = []
    for name, point in vars(arguments.points).items():
        there = tuple(degrees * _RADIANS for degrees in point)
        distance = taken.program.compute(
            Operation.OP_DISTANCE_TO, Kind.FLOAT, latitude, longitude, constants=there, a=radius
        )
        parts.append(Lane(distance, f"haversine_{name}"))
    return parts


def _geohash(arguments: page.Geohash, taken: Taken) -> list[Part]:
    degrees = _degrees(arguments, taken, 2, "takes a latitude and a longitude")
    cell = taken.program.compute(Operation.OP_GEOHASH, Kind.STRING, *degrees, i=arguments.precision)
    return [Lane(cell, "geohash")]


def _angles(arguments: page.Haversine, taken: Taken, count: int, expectation: str) -> list[Value]:
    return [
        taken.program.compute(Operation.OP_MULTIPLY_ADD, Kind.FLOAT, degrees, a=_RADIANS)
        for degrees in _degrees(arguments, taken, count, expectation)
    ]


def _degrees(arguments: page.Haversine | page.Geohash, taken: Taken, count: int, expectation: str) -> list[Value]:
    """Latitudes and longitudes by turns, of which none lies beyond the globe. Unfit if there are not ``count``."""
    if len(taken.lanes) != count:
        raise Unfit(f"{expectation}, but is given {len(taken.lanes)}: {named(taken.lanes)}")
    fails = int(arguments.out_of_range == "error")
    return [
        taken.program.compute(Operation.OP_DEGREES, Kind.FLOAT, taken.number(lane), a=most, i=fails)
        for lane, most in zip(taken.lanes, [90.0, 180.0] * (count // 2), strict=True)
    ]


_INFINITE = "out of range: missing, or the row fails, as `out_of_range` says"

ENTRIES = [
    StepEntry(
        name="haversine",
        takes=NUMBERS,
        gives="float, named `haversine_NAME` for each point, `haversine` for the distance of two",
        formula="2 R asin √(sin²((φ₁ - φ₂) / 2) + cos φ₁ cos φ₂ sin²((λ₁ - λ₂) / 2)), latitudes φ and longitudes λ; "
        "R = 6371.0088 km, the Earth's mean radius R₁ of the IUGG",
        outcomes=Outcomes(missing="missing if one of them is", infinite=_INFINITE),
        example="haversine: {points: {jfk: [40.6398, -73.7789]}, unit: km}",
        compile=_haversine,
        twin="`metrics.pairwise.haversine_distances` of radians, times R",
        example_columns=("float", "float"),
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="geohash",
        takes=NUMBERS,
        gives="string, named `geohash`",
        formula="base 32 of the bits of the longitude's and the latitude's cell by turns, each cell closed below",
        outcomes=Outcomes(missing="missing if one of them is", infinite=_INFINITE),
        example="geohash: {precision: 6}",
        compile=_geohash,
        example_columns=("float", "float"),
        fallback=Kind.STRING,
    ),
]
