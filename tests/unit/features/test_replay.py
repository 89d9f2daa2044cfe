"""A replay finds the first cell that differs, the largest difference, and rows that only one of the two takes."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from gateway.config.features import parse_features
from gateway.core.errors import ConfigurationError, FeatureInputInvalid
from gateway.features import Plan
from gateway.features.replay import APART, replay, ulps_between


@pytest.fixture
def frame():
    random = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "unused": range(300),
            "distance": np.where(np.arange(300) % 7 == 0, np.nan, random.normal(size=300)),
            "carrier": random.choice(["AA", "UA", "007"], 300),
        }
    )


@pytest.fixture
def pipeline(frame):
    columns = [("d", StandardScaler(), ["distance"]), ("c", OneHotEncoder(), ["carrier"])]
    return make_pipeline(ColumnTransformer(columns)).fit(frame)


@pytest.fixture(params=["csv", "parquet"])
def rows(request, frame, tmp_path):
    """Writes a frame as a file of each format."""

    def written(frame=frame):
        path = tmp_path / f"rows.{request.param}"
        frame.to_csv(path, index=False) if request.param == "csv" else frame.to_parquet(path)
        return path

    return written


def replayed(plan, pipeline, path, ulps=0):
    told = []
    found = replay(plan, pipeline, path, ulps=ulps, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    return found


def test_the_plan_of_a_pipeline_gives_the_same_cells(pipeline, rows):
    found = replayed(Plan.from_sklearn(pipeline), pipeline, rows())
    assert (found.rows, found.cells, found.differing, found.equal) == (300, 1200, 0, True)
    assert found.largest is None


def test_a_model_at_the_end_is_left_out(pipeline, rows, frame):
    with_model = make_pipeline(*[step for _, step in pipeline.steps], LinearRegression())
    with_model.fit(frame.fillna(0), range(300))
    assert replayed(Plan.from_sklearn(with_model), with_model, rows()).equal


def test_the_first_and_the_largest_difference_are_told_with_their_place(pipeline, rows, frame):
    plan = Plan.from_sklearn(pipeline)
    pipeline[0].named_transformers_["d"].mean_ = pipeline[0].named_transformers_["d"].mean_ * 1.25
    found = replayed(plan, pipeline, rows())
    theirs = pipeline.transform(frame)[:, 0].astype(np.float32)
    ours = plan.transform(frame)[:, 0]
    assert found.first.row == 1  # row 0 is missing on both sides
    assert found.first.feature == plan.get_feature_names_out()[0]
    assert (found.first.pipeline, found.first.plan) == (theirs[1], ours[1])
    assert found.differing == np.sum((theirs != ours) & ~np.isnan(ours))
    assert found.largest.ulps == ulps_between(theirs, ours).max()
    assert not found.equal
    assert f"row 1, {found.first.feature}: pipeline {theirs[1].item()!r}, plan " in str(found.first)


def test_differences_within_the_bound_count_as_equal(pipeline, rows):
    plan = Plan.from_sklearn(pipeline)
    scaler = pipeline[0].named_transformers_["d"]
    scaler.scale_ = scaler.scale_ * (1 + 2e-7)
    found = replayed(plan, pipeline, rows(), ulps=8)
    assert found.equal
    assert 1 <= found.largest.ulps <= 8
    assert not replayed(plan, pipeline, rows(), ulps=0).equal


def test_rows_that_both_refuse_are_counted(pipeline, rows, frame):
    frame.loc[[5, 9], "carrier"] = "ZZ"
    found = replayed(Plan.from_sklearn(pipeline), pipeline, rows(frame))
    assert (found.rows, found.refused, found.equal) == (300, 2, True)


def test_a_row_that_only_one_refuses_is_told(pipeline, rows, frame):
    tolerant = make_pipeline(
        ColumnTransformer(
            [("d", StandardScaler(), ["distance"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["carrier"])]
        )
    ).fit(frame)
    frame.loc[7, "carrier"] = "ZZ"
    path = rows(frame)
    found = replayed(Plan.from_sklearn(pipeline), tolerant, path)
    assert found.refusal.startswith("row 7: only the plan refuses it: column 'carrier': expected a known category")
    assert not found.equal
    found = replayed(Plan.from_sklearn(tolerant), pipeline, path)
    assert found.refusal.startswith("row 7: only the pipeline refuses it: ValueError: Found unknown categories")


def test_a_pipeline_of_an_array_takes_one(tmp_path):
    values = np.random.default_rng(2).normal(size=(20, 2))
    scaler = StandardScaler().fit(values)
    path = tmp_path / "rows.csv"
    pd.DataFrame(values, columns=["x0", "x1"]).to_csv(path, index=False)
    assert replayed(Plan.from_sklearn(scaler), scaler, path).equal


def test_bools_that_a_pipeline_took_as_numbers_are_read_from_either_format(rows):
    frame = pd.DataFrame({"late": [True, False, True], "n": [1.0, 2.0, 3.5]})
    fitted = ColumnTransformer([("p", "passthrough", ["late"]), ("s", StandardScaler(), ["n"])]).fit(frame)
    found = replayed(Plan.from_sklearn(fitted), fitted, rows(frame), ulps=1)
    assert (found.equal, found.rows) == (True, 3)


def test_unlike_widths_are_told(pipeline, rows):
    plan = Plan.from_spec(
        parse_features({"columns": {"distance": "float"}, "outputs": {"x": {"features": ["distance"]}}})
    )
    with pytest.raises(ConfigurationError, match="gives 4 features, the plan 1"):
        replayed(plan, pipeline, rows())


def test_a_plan_of_several_outputs_is_refused(pipeline, rows):
    page = {"columns": {"c": "float"}, "outputs": {name: {"features": ["c"]} for name in "xy"}}
    with pytest.raises(ConfigurationError, match="a pipeline has one output to compare, the plan several"):
        replayed(Plan.from_spec(parse_features(page)), pipeline, rows())


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"distance,carrier\nten,AA\n", "conversion error"), (b"", "Empty CSV file"), (b"PAR1nonsense", "Parquet")],
)
def test_a_file_that_cannot_be_read_is_told(pipeline, tmp_path, content, message):
    path = tmp_path / "rows"
    path.write_bytes(content)
    with pytest.raises(FeatureInputInvalid, match=rf"rows cannot be read: .*(?i:{message})"):
        replay(Plan.from_sklearn(pipeline), pipeline, path, ulps=0, progress=float)
    with pytest.raises(FeatureInputInvalid, match="cannot be read: No such file"):
        replay(Plan.from_sklearn(pipeline), pipeline, tmp_path / "no", ulps=0, progress=float)


# Distances.

singles = arrays.arrays(np.float32, 20, elements=st.floats(width=32))


@given(singles, singles)
def test_a_distance_is_how_often_nextafter_leads_from_one_to_the_other(left, right):
    distance = ulps_between(left, right)
    assert (distance == ulps_between(right, left)).all()
    assert ((distance == 0) == ((left == right) | (np.isnan(left) & np.isnan(right)))).all()
    with np.errstate(over="ignore", under="ignore"):
        next_one = np.nextafter(left, np.float32(math.inf))
    finite = np.isfinite(left) & np.isfinite(next_one) & (left != 0)
    assert (ulps_between(left, next_one)[finite] == 1).all()


def test_distances_at_the_ends():
    def distance(left, right, dtype=np.float64):
        return ulps_between(np.array([left], dtype), np.array([right], dtype))[0]

    largest = np.finfo(np.float64).max
    assert distance(-0.0, 0.0) == 0
    assert distance(-5e-324, 5e-324) == 2
    assert distance(largest, -largest) == APART
    assert distance(math.nan, 1.0) == distance(math.inf, largest) == distance(math.inf, math.nan) == APART
    assert distance(math.inf, -math.inf) > 0
    assert distance(3, 5, np.int64) == 2
    assert distance(-(2**63), 2**63 - 1, np.int64) > 0
