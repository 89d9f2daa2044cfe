"""A drafted page compiles, transforms the rows that it was drafted from, and says beside each column why."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gateway.config.yaml_reader import parse_yaml
from gateway.core.errors import FeatureInputInvalid
from gateway.features import Plan
from gateway.features.draft import BUCKETS, FEW_TEXTS, draft

ROWS = 400
RANDOM = np.random.default_rng(5)


@pytest.fixture(params=["csv", "parquet"])
def drafted(request, tmp_path):
    """Drafts a page from a frame written as a file of each format, and gives page, plan and frame."""

    def make(**columns):
        frame = pd.DataFrame(columns)
        path = tmp_path / f"rows.{request.param}"
        frame.to_csv(path, index=False) if request.param == "csv" else frame.to_parquet(path)
        found = draft(path)
        found.write(tmp_path / "features.yaml")
        return found, Plan.from_yaml(tmp_path / "features.yaml")

    return make


def steps_of(found, i=0):
    feature = parse_yaml(found.text, "page")["outputs"]["input"]["features"][i]
    return feature["steps"]


def types_of(found):
    return {name: column.type for name, column in found.spec.columns.items()}


def test_types_are_those_of_the_whole_file(drafted):
    whole = np.arange(ROWS) % 90
    found, _ = drafted(
        number=np.where(np.arange(ROWS) == ROWS - 1, 0.5, whole),
        whole=whole,
        flag=np.arange(ROWS) % 3 == 0,
        text=[f"t{i % 7}" for i in range(ROWS)],
        instant=[f"2020-01-{i % 28 + 1:02d}T05:15:00+02:00" for i in range(ROWS)],
        nearly=["2020-01-01"] * (ROWS - 1) + ["soon"],
    )
    assert types_of(found) == {
        "number": "float", "whole": "int", "flag": "bool", "text": "string", "instant": "timestamp", "nearly": "string"
    }  # fmt: skip


def test_missing_values_are_filled_as_scikit_learn_fills_them(tmp_path):
    frame = pd.DataFrame({"a": np.where(RANDOM.random(ROWS) < 0.2, np.nan, RANDOM.normal(3, 2, ROWS))})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    draft(tmp_path / "rows.csv", scale=True).write(tmp_path / "features.yaml")
    pipeline = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()).fit(frame)
    ours = Plan.from_yaml(tmp_path / "features.yaml").transform(frame)
    np.testing.assert_allclose(ours, pipeline.transform(frame), rtol=1e-6, atol=1e-6)


def test_few_texts_are_categories_and_a_missing_one_is_the_commonest(drafted):
    found, plan = drafted(c=[["b", "a", "a", None][i % 4] for i in range(ROWS)])
    assert steps_of(found) == [
        {"impute": {"strategy": "most_frequent", "value": "a"}},
        {"one_hot": {"categories": ["a", "b"], "unknown": "ignore", "missing": "ignore"}},
    ]
    assert plan.transform({"c": ["b", None, "z"]}).tolist() == [[0, 1], [1, 0], [0, 0]]


def test_lists_of_few_texts_are_multi_hot_and_those_of_many_are_hashed(tmp_path):
    few = [[["b", "a"], ["", None], ["c"], None][i % 4] for i in range(ROWS)]
    many = [[f"t{i}", f"t{i + 1}"] for i in range(ROWS)]
    frame = pd.DataFrame({"few": few, "many": many, "none": [[""]] * ROWS})
    frame.to_parquet(tmp_path / "rows.parquet")
    found = draft(tmp_path / "rows.parquet")
    found.write(tmp_path / "features.yaml")
    assert types_of(found) == {"few": "strings", "many": "strings"}
    assert steps_of(found) == [{"multi_hot": {"categories": ["a", "b", "c"], "unknown": "ignore"}}]
    assert steps_of(found, 1) == [{"hash": {"buckets": BUCKETS}}]
    assert any("none, as every value is missing" in line for line in found.comments.head)
    assert "few: strings  # 3 distinct values in 400 rows, 25 % missing" in found.text
    got = Plan.from_yaml(tmp_path / "features.yaml").transform(frame)
    assert got[:4, :3].tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_columns_that_are_no_features_are_left_out(tmp_path):
    pd.DataFrame({"a": [1.0, 2.0], "target": [3.0, 4.0]}).to_csv(tmp_path / "rows.csv", index=False)
    assert types_of(draft(tmp_path / "rows.csv", leave_out=["target"])) == {"a": "float"}
    with pytest.raises(FeatureInputInvalid, match="has no column targets; it has a, target"):
        draft(tmp_path / "rows.csv", leave_out=["targets", "a"])


def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"\x08\x08\x12\x00\xff," * 300)
    with pytest.raises(FeatureInputInvalid) as refused:
        draft(tmp_path / "rows.csv")
    assert "cannot be read" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_more_texts_that_come_again_and_again_are_a_vocabulary(drafted):
    found, plan = drafted(c=[f"t{i % (FEW_TEXTS + 10):02d}" for i in range(ROWS)])
    (name,) = found.vocabularies
    assert re.fullmatch(r"c\.[0-9a-f]{8}\.txt", name)
    assert plan.transform({"c": ["t00", "t59", "new", None]})[:, 0].tolist() == [0, 59, 60, 60]


def test_texts_that_seldom_come_again_are_hashed(drafted):
    found, plan = drafted(c=[f"t{i % (ROWS // 2)}" for i in range(ROWS)])
    assert steps_of(found) == [{"hash": {"buckets": BUCKETS}}]
    assert plan.outputs[0].shape == (-1, BUCKETS)


def test_a_bool_that_may_be_missing_is_the_commoner_value(drafted):
    found, _ = drafted(c=pd.array([[True, True, False, None][i % 4] for i in range(ROWS)], dtype="boolean"))
    assert steps_of(found) == [{"impute": {"strategy": "most_frequent", "value": True}}]


def test_an_instant_becomes_places_on_circles(drafted):
    found, plan = drafted(
        day=[f"2020-{i % 12 + 1:02d}-05" for i in range(ROWS)],
        instant=[None if i % 9 == 0 else f"2020-01-05T{i % 24:02d}:00:00Z" for i in range(ROWS)],
    )
    parts = [steps_of(found, i) for i in range(len(found.spec.outputs["input"].features))]
    assert [steps[-2]["timestamp_part"]["part"] for steps in parts] == [
        "month",
        "day_of_week",
        "month",
        "day_of_week",
        "minute_of_day",
    ]
    assert parts[4][0] == {"impute": {"strategy": "median", "value": "2020-01-05T11:00:00.000000Z"}}
    assert not np.isnan(plan.transform({"day": ["2020-01-05"], "instant": [None]})).any()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (range(ROWS), "c, as it looks like an identifier"),
        ([f"u{i * 37}" for i in range(ROWS)], "c, as it looks like an identifier"),
        ([3] * ROWS, "c, as it has one value alone"),
        ([None if i else "x" for i in range(ROWS)], "c, as it has one value alone where it is there"),
        (pd.array([None] * ROWS, dtype="Float64"), "c, as every value is missing"),
        (
            [f"A long tale of {i} men who went to the sea to find gold" for i in range(ROWS)],
            "c, as it looks like prose",
        ),
    ],
)
def test_columns_of_no_use_are_left_out_with_the_reason(drafted, values, reason):
    found, _ = drafted(c=values, kept=np.arange(ROWS) % 5)
    assert list(found.spec.columns) == ["kept"]
    assert f"# Left out: {reason}" in found.text


def test_a_type_that_no_column_takes_is_left_out(tmp_path):
    pd.DataFrame({"c": [[1, 2]] * 30, "kept": range(0, 60, 2)}).to_parquet(tmp_path / "rows.parquet")
    assert "Left out: c, as no column of a page takes BIGINT[]" in draft(tmp_path / "rows.parquet").text


def test_every_column_and_feature_has_its_comment(drafted):
    found, _ = drafted(a=np.where(np.arange(ROWS) % 4 == 0, np.nan, np.arange(ROWS) % 9), b=np.arange(ROWS) % 5)
    assert "  a: float  # 9 distinct values in 400 rows, 25 % missing\n" in found.text
    assert "    # the median where it is missing" in found.text
    assert "    # as it is, only 5 values: if they are codes, one_hot instead\n    - b\n" in found.text


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_whatever_a_column_is_called_the_page_can_be_read(tmp_path_factory, name):
    """A name never breaks out of its comment or its key."""
    path = tmp_path_factory.mktemp("draft") / "rows.parquet"
    pd.DataFrame({name: [0.5, 1.5, np.nan], f"{name}2": ["x", "x", "x"]}).to_parquet(path)
    found = draft(path)
    assert parse_yaml(found.text, "page")["columns"] == {name: "float"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows|cannot be read"),
        (b"a,b\n", "has no rows"),
        (b"PAR1", "cannot be read"),
        (b"a\n1\n1\n", "no column is of use: a"),
    ],
)
def test_a_file_of_no_use_is_told(tmp_path, content, message):
    (tmp_path / "rows").write_bytes(content)
    with pytest.raises(FeatureInputInvalid, match=message):
        draft(tmp_path / "rows")


def test_progress_goes_up_to_the_end(tmp_path):
    pd.DataFrame({"a": [1.0, 2.0], "b": [1.5, 2.0]}).to_csv(tmp_path / "rows.csv", index=False)
    told = []
    draft(tmp_path / "rows.csv", progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
