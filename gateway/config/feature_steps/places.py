"""Arguments of the steps that take latitudes and longitudes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.config.feature_steps.values import Name, Strict, not_empty

#: Points of one step.
MAX_POINTS = 1_000
#: Characters of the finest geohash: cells of some centimetres.
MAX_PRECISION = 12

Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Point = Annotated[tuple[Latitude, Longitude], Field(strict=False)]
OutOfRange = Literal["nan", "error"]

# A step's docstring and fields are its entry in docs/features.md, beside what the catalogue says.


class Haversine(Strict):
    """Great-circle distances on a spherical Earth, from a latitude and a longitude in degrees."""

    step: Literal["haversine"] = "haversine"
    points: Annotated[dict[Name, Point], Field(max_length=MAX_POINTS), AfterValidator(not_empty)] | None = None
    """To these, ``name: [latitude, longitude]``; without them to the point that the third and fourth value are."""
    unit: Literal["km", "m", "miles"] = "km"
    """Of the distances; a mile has 1,609.344 m."""
    out_of_range: OutOfRange = "nan"
    """For a latitude beyond ±90 or a longitude beyond ±180: missing, or the row fails."""


class Geohash(Strict):
    """The cell of a grid over the Earth that a latitude and a longitude in degrees lie in, as text."""

    step: Literal["geohash"] = "geohash"
    precision: Annotated[int, Field(ge=1, le=MAX_PRECISION)]
    """How many characters: 5 for cells of some 5 km, 7 for 150 m."""
    out_of_range: OutOfRange = "nan"
    """For a latitude beyond ±90 or a longitude beyond ±180: missing, or the row fails."""
