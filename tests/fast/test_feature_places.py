"""Distances and geohashes: against scikit-learn and published values, and what becomes of odd ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import haversine_distances

from gateway.config.features import parse_features
from gateway.config.yaml_reader import parse_yaml
from gateway.core.errors import FeatureInputInvalid
from gateway.features.compiler import compile_plan
from gateway.features.page_writer import page_text
from tests.fast.feature_outcomes import outcomes, plan_across, plan_of_features, problem_of

INF, NAN = math.inf, math.nan
KM = 6371.0088
TWO = {"latitude": "float", "longitude": "float"}
FOUR = {"latitude": "float", "longitude": "float", "to_latitude": "float", "to_longitude": "float"}
latitudes = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0, 0.0, -0.0, 45.0]))
longitudes = st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, 180.0, 0.0, -0.0, 11.25]))
places = st.lists(st.tuples(latitudes, longitudes), min_size=1, max_size=80)


def columns_of(rows):
    return dict(zip(TWO, np.array(rows, float).reshape(-1, 2).T.copy(), strict=True))


# Distances.


@settings(deadline=None)
@given(places, st.tuples(latitudes, longitudes))
def test_distances_to_points_are_those_of_scikit_learn(rows, point):
    plan = plan_across(TWO, {"haversine": {"points": {"here": [0.0, 0.0], "there": list(point)}}})
    (got,) = plan.transform(columns_of(rows))
    want = haversine_distances(np.radians(rows), np.radians([[0.0, 0.0], point])) * KM
    np.testing.assert_array_max_ulp(got, want, 1)


@settings(deadline=None)
@given(places, places)
def test_distances_of_two_points_are_those_of_scikit_learn(rows, others):
    count = min(len(rows), len(others))
    rows, others = rows[:count], others[:count]
    columns = np.hstack([rows, others]).T.copy()
    got = outcomes(plan_across(FOUR, "haversine"), **dict(zip(FOUR, columns, strict=True)))
    want = haversine_distances(np.radians(rows), np.radians(others)).diagonal() * KM
    np.testing.assert_array_max_ulp(np.array(got), want, 1)


def test_distances_have_their_unit_and_their_names():
    point = {"points": {"lax": [33.94, -118.41]}}
    jfk = columns_of([(40.64, -73.78)])
    got = {
        unit: outcomes(plan_across(TWO, {"haversine": {**point, "unit": unit}}), **jfk)[0]
        for unit in ("km", "m", "miles")
    }
    assert got["km"] == pytest.approx(3974, abs=3)  # as flight tables have it, which do not take a sphere
    assert got["m"] == pytest.approx(got["km"] * 1000, rel=1e-15)
    assert got["miles"] == pytest.approx(got["km"] / 1.609344, rel=1e-15)
    assert plan_across(TWO, {"haversine": point}).feature_names(0) == ["haversine_lax"]
    assert plan_across(FOUR, "haversine").feature_names(0) == ["haversine"]


def test_points_opposite_each_other_are_half_the_globe_apart():
    plan = plan_across(TWO, {"haversine": {"points": {"a": [90.0, 0.0], "b": [0.0, -90.0], "c": [-12.3, 45.6]}}})
    (got,) = plan.transform(columns_of([(-90.0, 17.0), (0.0, 90.0), (12.3, -134.4)]))
    np.testing.assert_allclose(got.diagonal(), math.pi * KM, rtol=1e-8)


OUT_OF_RANGE = [(90.1, 0), (-90.1, 0), (0, 180.1), (0, -180.1), (INF, 0), (0, -INF)]


@pytest.mark.parametrize("step", [
    {"haversine": {"points": {"a": [1, 2]}}}, {"geohash": {"precision": 5}},
])  # fmt: skip
def test_places_that_are_missing_or_out_of_range_are_missing_or_fail_their_row(step):
    ((name, arguments),) = step.items()
    ends = [] if name == "haversine" else ["missing_indicator"]
    plan = plan_across(TWO, step, *ends)
    missing = [(NAN, 0), (0, NAN), (NAN, NAN)]
    want = [NAN] * 9 if name == "haversine" else [1] * 9
    np.testing.assert_array_equal(outcomes(plan, **columns_of([*missing, *OUT_OF_RANGE])), want)
    strict = plan_across(TWO, {name: {**arguments, "out_of_range": "error"}}, *ends)
    got = outcomes(strict, **columns_of([*missing, *OUT_OF_RANGE]))
    assert got[3:] == ["FAILURE_DEGREES"] * 6
    np.testing.assert_array_equal(got[:3], want[:3])


def test_row_out_of_range_names_the_column_and_what_was_expected():
    plan = plan_across(TWO, {"haversine": {"points": {"a": [1, 2]}, "out_of_range": "error"}})
    message = (
        "row 1: column 'latitude': expected degrees: a latitude of -90 to 90, or a longitude of -180 to 180, came -91"
    )
    with pytest.raises(FeatureInputInvalid, match=message):
        plan.transform(columns_of([(1, 2), (-91, 2)]))


def test_points_share_the_angles_of_the_columns():
    points = {f"p{i}": [float(i), float(-i)] for i in range(20)}
    assert plan_across(TWO, {"haversine": {"points": points}}).instruction_count == 2 + 2 * 2 + 20 * 2


# Geohashes.


def reference_geohash(latitude, longitude, precision):
    """By halving."""
    bounds, digits = [[-180.0, 180.0], [-90.0, 90.0]], []
    for k in range(5 * precision):
        low, high = bounds[k % 2]
        middle = (low + high) / 2
        upper = (longitude, latitude)[k % 2] >= middle
        bounds[k % 2] = [middle, high] if upper else [low, middle]
        digits.append(int(upper))
    values = (int("".join(map(str, digits[i : i + 5])), 2) for i in range(0, len(digits), 5))
    return "".join("0123456789bcdefghjkmnpqrstuvwxyz"[value] for value in values)


@pytest.mark.parametrize(("latitude", "longitude", "text"), [
    (57.64911, 10.40744, "u4pruydqqvj"), (42.6, -5.6, "ezs42"), (0, 0, "s00000000000"), (-0.0, -0.0, "s00000000000"),
    (90, 180, "zzzzzzzzzzzz"), (-90, -180, "000000000000"), (-25.382708, -49.265506, "6gkzwgjzn820"),
    (37.7749, -122.4194, "9q8yyk8"), (51.5074, -0.1278, "gcpvj0d"),
])  # fmt: skip
def test_geohashes_are_the_published_ones(latitude, longitude, text):
    for precision in range(1, len(text) + 1):
        plan = plan_across(
            TWO, {"geohash": {"precision": precision}}, {"compare": {"relation": "equal", "value": text[:precision]}}
        )
        assert outcomes(plan, **columns_of([(latitude, longitude)])) == [1.0]


@settings(deadline=None)
@given(places, st.integers(1, 12))
def test_geohashes_are_those_of_halving(rows, precision):
    for row in rows:
        wanted = {"compare": {"relation": "equal", "value": reference_geohash(*row, precision)}}
        plan = plan_across(TWO, {"geohash": {"precision": precision}}, wanted)
        assert outcomes(plan, **columns_of([row])) == [1.0]


@settings(deadline=None)
@given(st.integers(1, 12), st.data())
def test_bounds_of_cells_belong_to_the_cell_above(precision, data):
    """At every bound, and at the numbers next to it."""
    bits = 5 * precision
    rows = []
    for half, share in ((90.0, bits // 2), (180.0, (bits + 1) // 2)):
        bound = data.draw(st.integers(0, 2**share)) * (2 * half / 2**share) - half
        rows.append([x for x in (np.nextafter(bound, -INF), bound, np.nextafter(bound, INF)) if -half <= x <= half])
    pairs = [(latitude, longitude) for latitude in rows[0] for longitude in rows[1]]
    for pair in pairs:
        wanted = {"compare": {"relation": "equal", "value": reference_geohash(*pair, precision)}}
        plan = plan_across(TWO, {"geohash": {"precision": precision}}, wanted)
        assert outcomes(plan, **columns_of([pair])) == [1.0]


def test_geohashes_of_many_blocks_keep_their_texts():
    rows = [(k % 90, -(k % 180)) for k in range(1000)]
    cells = sorted({reference_geohash(*row, 3) for row in rows})
    plan = plan_across(TWO, {"geohash": {"precision": 3}}, {"ordinal": {"categories": cells}}, dtype="int64")
    assert outcomes(plan, **columns_of(rows)) == [cells.index(reference_geohash(*row, 3)) for row in rows]


def test_two_geohashes_of_a_row_stand_side_by_side():
    features = [
        {"columns": list(TWO), "steps": [{"geohash": {"precision": p}}, "text_length"], "prefix": f"p{p}_"}
        for p in (2, 9)
    ]
    plan = plan_of_features(TWO, *features, dtype="int64")
    assert outcomes(plan, **columns_of([(1, 2)])) == [[2, 9]]
    assert plan.feature_names(0) == ["p2_geohash", "p9_geohash"]


@pytest.mark.parametrize(("columns", "step", "path", "message"), [
    (TWO, "haversine", "haversine", "takes two latitudes and longitudes, or `points` and one of each, but is given 2: "
     "latitude, longitude"),
    (FOUR, {"haversine": {"points": {"a": [1, 2]}}}, "haversine", "takes a latitude and a longitude, but is given 4: "
     "latitude, longitude, to_latitude, to_longitude"),
    (FOUR, {"geohash": {"precision": 3}}, "geohash", "takes a latitude and a longitude, but is given 4: "
     "latitude, longitude, to_latitude, to_longitude"),
    (TWO, {"haversine": {"points": {"a": [91, 2]}}}, "haversine.points.a.0",
     "input should be less than or equal to 90, not 91"),
    (TWO, {"haversine": {"points": {"a": [1, -181]}}}, "haversine.points.a.1",
     "input should be greater than or equal to -180, not -181"),
    (TWO, {"haversine": {"points": {}}}, "haversine.points", "is empty"),
    (TWO, {"geohash": {"precision": 13}}, "geohash.precision", "input should be less than or equal to 12, not 13"),
])  # fmt: skip
def test_place_that_cannot_be_is_told(columns, step, path, message):
    assert problem_of(columns, {"columns": list(columns), "steps": [step]}) == (
        f"outputs.x.features.0.steps.0.{path}", message
    )  # fmt: skip


def test_page_with_points_is_written_as_it_was_read():
    points = {"Newark, NJ": [40.69, -74.17], "2": [0, -0.0]}
    features = [{"columns": list(TWO), "steps": [{"haversine": {"points": points, "unit": "m"}}]}]
    spec = parse_features({"columns": TWO, "outputs": {"x": {"features": features}}})
    assert parse_features(parse_yaml(page_text(spec), "written")) == spec
    assert parse_features(spec.model_dump(mode="json")) == spec
    assert compile_plan(spec, Path()).feature_names(0) == ["haversine_Newark, NJ", "haversine_2"]
