"""scikit-learn's encoders and the plans made from them: the same elements, under the same names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction import FeatureHasher
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MultiLabelBinarizer,
    OneHotEncoder,
    OrdinalEncoder,
    TargetEncoder,
)

from gateway.config.features import parse_features
from gateway.core.errors import ConfigurationError, FeatureInputInvalid
from gateway.features import Plan
from gateway.features.from_sklearn import from_sklearn

HOUSING = Path(__file__).parents[3] / ".." / "shared" / "data" / "california_housing.csv"


def plan_of(estimator, folder=None, **options) -> Plan:
    imported = from_sklearn(estimator, dtype="float64", **options)
    if folder is None:
        return Plan.from_spec(imported.spec)
    imported.write(Path(folder) / "features.yaml")
    return Plan.from_yaml(Path(folder) / "features.yaml")


def dense(matrix):
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)


def assert_same(estimator, frame, folder=None):
    """In every bit, and in every name."""
    plan = plan_of(estimator, folder)
    np.testing.assert_array_equal(plan.transform(frame), dense(estimator.transform(frame)).astype(float))
    assert list(plan.get_feature_names_out()) == list(estimator.get_feature_names_out())


words = st.sampled_from(["a", "b", "c", "d", "é", "NEAR BAY", ""])
halves = st.integers(-3, 3).map(lambda i: i / 2)
COLUMNS = {
    "texts": (st.sampled_from(["a", "b", "c", "d", "é", "NEAR BAY"]), "str"),
    "texts, one empty": (words, object),
    "objects and None": (st.one_of(st.sampled_from("abcd"), st.none()), object),
    "objects and NaN": (st.one_of(st.sampled_from("abcd"), st.just(np.nan)), object),
    "str and missing": (st.one_of(st.sampled_from("abcd"), st.none()), "str"),
    "integers": (st.integers(-3, 3), "int64"),
    "small integers": (st.integers(0, 3), "int8"),
    "integers as objects": (st.one_of(st.integers(-3, 3), st.none()), object),
    "floats": (halves, "float64"),
    "floats and NaN": (st.one_of(halves, st.just(np.nan)), "float64"),
    "bools": (st.booleans(), "bool"),
}


def frames(values):
    draw, dtype = COLUMNS[values]
    rows = st.lists(st.tuples(draw, draw), min_size=3, max_size=30)
    return rows.map(
        lambda rows: pd.DataFrame({n: pd.Series([row[i] for row in rows], dtype=dtype) for i, n in enumerate("pq")})
    )


ONE_HOT = {
    "ignore": {"handle_unknown": "ignore"},
    "warn": {"handle_unknown": "warn", "min_frequency": 2},
    "first": {"handle_unknown": "ignore", "drop": "first"},
    "if binary": {"handle_unknown": "ignore", "drop": "if_binary"},
    "infrequent": {"handle_unknown": "infrequent_if_exist", "min_frequency": 3},
    "infrequent, share": {"handle_unknown": "ignore", "min_frequency": 0.3},
    "few": {"handle_unknown": "infrequent_if_exist", "max_categories": 2},
    "one": {"handle_unknown": "infrequent_if_exist", "max_categories": 1},
    "first and infrequent": {"handle_unknown": "infrequent_if_exist", "drop": "first", "min_frequency": 3},
    "first and few": {"handle_unknown": "ignore", "drop": "first", "max_categories": 2},
    "first and warn": {"handle_unknown": "warn", "drop": "first", "max_categories": 3},
    "if binary and infrequent": {"handle_unknown": "infrequent_if_exist", "drop": "if_binary", "max_categories": 2},
}


def fitted(estimator, frame):
    """What has no sense to scikit-learn itself is no case."""
    try:
        return ColumnTransformer([("t", estimator, ["p", "q"])], sparse_threshold=0).fit(frame)
    except (ValueError, TypeError):
        assume(False)


def assume_values(*frames):
    # A column of missing values alone tells no type; nor does it, as objects, tell scikit-learn.
    for frame in frames:
        assume(frame.notna().any().all())


def test_a_column_of_empty_texts_alone_is_one_of_texts():
    train = pd.DataFrame({"p": ["a", "b"], "q": ["", ""]})
    estimator = fitted(OneHotEncoder(sparse_output=False, handle_unknown="ignore"), train)
    assert_same(estimator, pd.DataFrame({"p": ["b", "a"], "q": ["", "z"]}))


@pytest.mark.parametrize("name", ONE_HOT)
@settings(max_examples=20, deadline=None)
@given(values=st.sampled_from(sorted(COLUMNS)), data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_one_hot_encoder_and_its_plan_agree(name, values, data):
    train, served = (data.draw(frames(values)) for _ in range(2))
    assume_values(train, served)
    estimator = fitted(OneHotEncoder(sparse_output=False, **ONE_HOT[name]), train)
    assume(len(estimator.get_feature_names_out()))
    try:
        want = estimator.transform(served)
    except (ValueError, TypeError):
        assume(False)  # a comparison that its categories refuse
    assert want.shape[0] == len(served)
    assert_same(estimator, served)


ORDINAL = {
    "as integer": {"unknown_value": -1},
    "far away": {"unknown_value": 2**40, "encoded_missing_value": -(2**33)},
    "as NaN": {"unknown_value": np.nan},
    "missing has a code": {"unknown_value": -1, "encoded_missing_value": -2},
    "missing has a fraction": {"unknown_value": -7, "encoded_missing_value": -0.25},
    "few": {"unknown_value": -1, "max_categories": 2},
    "infrequent, missing has a code": {"unknown_value": -1, "min_frequency": 2, "encoded_missing_value": 99},
    "in float32": {"unknown_value": -1, "encoded_missing_value": -0.1, "dtype": np.float32},
    "in int32": {"unknown_value": -1, "encoded_missing_value": -2, "dtype": np.int32},
}


@pytest.mark.parametrize("name", ORDINAL)
@settings(max_examples=20, deadline=None)
@given(values=st.sampled_from(sorted(COLUMNS)), data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_ordinal_encoder_and_its_plan_agree(name, values, data):
    train, served = (data.draw(frames(values)) for _ in range(2))
    assume_values(train, served)
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", **ORDINAL[name])
    assert_same(fitted(encoder, train), served)


TARGETS = {
    "binary": (st.booleans(), {}),
    "binary texts": (st.sampled_from(["no", "yes"]), {"smooth": 3.0}),
    "continuous": (st.floats(-100, 100), {}),
    "continuous, unsmoothed": (st.integers(-9, 9).map(lambda i: i / 7), {"target_type": "continuous", "smooth": 0.0}),
    "multiclass": (st.sampled_from(["low", "middle", "high"]), {"target_type": "multiclass"}),
    "multiclass of integers": (st.integers(0, 3), {"target_type": "multiclass"}),
}


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=20, deadline=None)
@given(values=st.sampled_from(sorted(COLUMNS)), data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_target_encoder_and_its_plan_agree(name, values, data):
    train, served = (data.draw(frames(values)) for _ in range(2))
    assume_values(train, served)
    draw, options = TARGETS[name]
    target = data.draw(st.lists(draw, min_size=len(train), max_size=len(train)))
    assume(len(set(target)) > (2 if "multiclass" in name else 1))
    estimator = ColumnTransformer([("t", TargetEncoder(cv=2, **options), ["p", "q"])])
    try:
        estimator.fit(train, target)
    except (ValueError, TypeError):
        assume(False)
    assert_same(estimator, served)


def test_target_encoder_of_the_housing_data_and_its_plan_agree_in_every_row(tmp_path):
    if not HOUSING.exists():
        pytest.skip("the California housing CSV is not beside this repository")
    frame = pd.read_csv(HOUSING)
    encoders = [
        ("price", TargetEncoder(target_type="continuous"), ["ocean_proximity", "housing_median_age"]),
        ("one hot", OneHotEncoder(drop="first", min_frequency=10, handle_unknown="infrequent_if_exist"),
         ["ocean_proximity", "housing_median_age"]),
    ]  # fmt: skip
    estimator = ColumnTransformer(encoders, sparse_threshold=0).fit(frame, frame["median_house_value"])
    assert_same(estimator, frame, tmp_path)


def test_target_encoder_of_many_categories_goes_into_files(tmp_path):
    frame = pd.DataFrame({"p": [f"k{i % 1500}" for i in range(4500)]})
    target = [["a", "b", "c"][i * i % 3 if i % 7 else 2] for i in range(4500)]
    for estimator in (TargetEncoder(), TargetEncoder(target_type="continuous")):
        numbers = target if estimator.target_type == "auto" else np.arange(4500.0)
        fitted = ColumnTransformer([("t", estimator, ["p"])]).fit(frame, numbers)
        assert_same(fitted, pd.concat([frame, pd.DataFrame({"p": ["unseen"]})]), tmp_path)
    assert len(list(tmp_path.glob("p.*.txt"))) == 3  # one vocabulary, and the numbers of either


# Encoders behind encoders: scikit-learn has floats between its steps, which shows in the names.


def test_one_hot_behind_steps_that_give_integers_has_the_names_of_floats(tmp_path):
    frame = pd.DataFrame({"p": ["a", "b", "c", "a"], "q": [1.0, 2.0, 3.0, 9.0]})
    chains = [
        ("codes", make_pipeline(OrdinalEncoder(), OneHotEncoder(handle_unknown="ignore")), ["p"]),
        ("bins", make_pipeline(KBinsDiscretizer(3, encode="ordinal", strategy="uniform", subsample=None),
                               OneHotEncoder(handle_unknown="ignore")), ["q"]),
    ]  # fmt: skip
    assert_same(ColumnTransformer(chains, sparse_threshold=0).fit(frame), frame, tmp_path)


def test_missing_category_is_called_as_scikit_learn_calls_it(tmp_path):
    for missing, name in ((None, "p_None"), (np.nan, "p_nan"), ("", "p_")):
        frame = pd.DataFrame({"p": pd.Series(["x", missing], dtype=object)})
        estimator = ColumnTransformer([("t", OneHotEncoder(), ["p"])], verbose_feature_names_out=False).fit(frame)
        assert_same(estimator, frame, tmp_path)
        assert name in estimator.get_feature_names_out()


# Lists of texts.

lists = st.lists(st.lists(st.sampled_from(["a", "b", "c", "é", "a b"]), max_size=5), min_size=1, max_size=20)


@given(train=lists, served=lists)
@settings(max_examples=30, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_multi_label_binarizer_and_its_plan_agree(train, served):
    binarizer = MultiLabelBinarizer().fit(train)
    assume(len(binarizer.classes_))
    plan = plan_of(binarizer, columns=["tags"])
    np.testing.assert_array_equal(plan.transform({"tags": served}), binarizer.transform(served))
    assert list(plan.get_feature_names_out()) == [f"tags_{name}" for name in binarizer.classes_]


@given(
    st.lists(st.lists(st.text(min_size=1, max_size=8), max_size=5), min_size=1, max_size=9),
    st.integers(1, 64),
    st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_feature_hasher_of_lists_and_its_plan_agree(texts, buckets, signed):
    hasher = FeatureHasher(buckets, input_type="string", alternate_sign=signed)
    frame = pd.DataFrame({"tags": pd.Series(texts, dtype=object), "n": 1.0})
    estimator = ColumnTransformer([("h", hasher, "tags"), ("n", "passthrough", ["n"])]).fit(frame)
    plan = plan_of(estimator)
    np.testing.assert_array_equal(plan.transform(frame), dense(estimator.transform(frame)))


@pytest.mark.parametrize(
    ("estimator", "options", "message"),
    [
        (FeatureHasher(4), {"columns": ["tags"]}, "FeatureHasher of input_type 'dict': only lists of texts"),
        (FeatureHasher(4, input_type="string"), {"columns": ["a", "b"]}, "takes one column of lists, not 2"),
        (FeatureHasher(4, input_type="string"), {}, "takes one column of lists, not 0"),
        (MultiLabelBinarizer().fit([[1, 2], [3]]), {"columns": ["tags"]}, "classes that are no texts"),
        (MultiLabelBinarizer(), {"columns": ["tags"]}, "is not fitted"),
        (OneHotEncoder(feature_name_combiner=lambda f, c: f + c).fit([["a"]]), {}, "by a function, <lambda>"),
        (OrdinalEncoder().fit(pd.DataFrame({"p": pd.Series(["a", None, np.nan], dtype=object)})), {},
         "several categories for missing"),
        (TargetEncoder().fit(pd.DataFrame({"p": pd.Series(["a", None, np.nan], dtype=object)}), [1.5, 2.5, 4.0]), {},
         "several categories for missing"),
    ],
)  # fmt: skip
def test_encoder_that_no_step_can_be_is_refused(estimator, options, message):
    with pytest.raises(ConfigurationError, match=message):
        from_sklearn(estimator, **options)


def test_unseen_value_fails_a_target_encoder_only_where_the_page_says_so():
    frame = pd.DataFrame({"p": ["a", "b", "a", "b"]})
    estimator = ColumnTransformer([("t", TargetEncoder(cv=2), ["p"])]).fit(frame, [0.0, 1.5, 2.0, 3.25])
    page = from_sklearn(estimator).spec.model_dump(mode="json")
    assert Plan.from_spec(parse_features(page)).transform({"p": ["z"]})[0, 0] == 1.6875
    page["outputs"]["input"]["features"][0]["steps"][0]["unknown"] = "error"
    with pytest.raises(FeatureInputInvalid, match="expected a known category"):
        Plan.from_spec(parse_features(page)).transform({"p": ["z"]})
