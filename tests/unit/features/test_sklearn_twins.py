"""Every step that scikit-learn has too is compared with it: a step that is added with such a twin needs a case here.

One plan a step, over made rows, in float32 and float64. Harder data is in the other tests of what is imported.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    MultiLabelBinarizer,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils import all_estimators

from gateway.features.from_sklearn import from_sklearn
from gateway.features.steps import CATALOGUE
from tests.unit.features.sklearn_parity import assert_close, dense, plan_of

ROWS = 300
HOLES = ["holed", "holed2"]
NUMBERS = ["n", "m"]
CURVE_ULP = 4


def made_rows() -> pd.DataFrame:
    random = np.random.default_rng(7)
    frame = pd.DataFrame(random.lognormal(size=(ROWS, 4)), columns=[*NUMBERS, *HOLES])
    for name in HOLES:
        frame.loc[random.random(ROWS) < 0.2, name] = np.nan
    words = ["one", "Two", "thrée", "日本", "fivefold"]
    frame["category"] = random.choice(words, ROWS)
    frame["other"] = random.choice(["x", "y", "z"], ROWS)
    frame["text"] = [" ".join(random.choice(words, 6)) for _ in range(ROWS)]
    frame["tags"] = pd.Series([list(random.choice(words, 3)) for _ in range(ROWS)], dtype=object)
    return frame


def function(numpy_function, **options):
    return FunctionTransformer(numpy_function, feature_names_out="one-to-one", **options)


#: By step: what scikit-learn has for it, and the columns that it is fitted on (one name: that column alone).
TWINS = {
    "passthrough": ("passthrough", NUMBERS),
    "impute": (SimpleImputer(strategy="median"), HOLES),
    "missing_indicator": (MissingIndicator(), HOLES),
    "standard_scale": (StandardScaler(), HOLES),
    "min_max_scale": (MinMaxScaler(clip=True), HOLES),
    "max_abs_scale": (MaxAbsScaler(), HOLES),
    "robust_scale": (RobustScaler(), HOLES),
    "clip": (function(np.clip, kw_args={"a_min": 0.5, "a_max": 2.0}), NUMBERS),
    "log1p": (function(np.log1p), NUMBERS),
    "log": (function(np.log), NUMBERS),
    "exp": (function(np.exp), NUMBERS),
    "sqrt": (function(np.sqrt), NUMBERS),
    "abs": (function(np.abs), NUMBERS),
    "binarize": (Binarizer(threshold=1.0), NUMBERS),
    "k_bins": (KBinsDiscretizer(4, subsample=None, quantile_method="averaged_inverted_cdf"), NUMBERS),
    "power_transform": (PowerTransformer(standardize=False), NUMBERS),
    "quantile_transform": (QuantileTransformer(n_quantiles=20, output_distribution="normal"), HOLES),
    "spline": (SplineTransformer(), NUMBERS),
    "one_hot": (OneHotEncoder(min_frequency=70, handle_unknown="infrequent_if_exist"), ["category", "other"]),
    "ordinal": (OrdinalEncoder(), ["category", "other"]),
    "target_encode": (TargetEncoder(target_type="continuous"), ["category", "other"]),
    "hash": (FeatureHasher(16, input_type="string"), "tags"),
    "multi_hot": (MultiLabelBinarizer(), "tags"),
    "count_vectorize": (CountVectorizer(ngram_range=(1, 2)), "text"),
    "tfidf_vectorize": (TfidfVectorizer(), "text"),
    "hashing_vectorize": (HashingVectorizer(n_features=64), "text"),
    "normalize": (Normalizer(), NUMBERS),
    "polynomial": (PolynomialFeatures(3), NUMBERS),
    "select": (make_pipeline(PolynomialFeatures(2), ColumnTransformer([("s", StandardScaler(), [1, 4])])), NUMBERS),
    "multiply": (
        ColumnTransformer([("w", StandardScaler(), NUMBERS)], transformer_weights={"w": 0.3}),
        NUMBERS,
    ),
}
#: What is no estimator: compared in tests/fast/test_feature_places.py.
FUNCTIONS_OF_METRICS = {"haversine"}


def test_every_step_that_scikit_learn_has_is_compared_with_it():
    classes = {name for name, _ in all_estimators()} | {"FeatureUnion", "metrics"}
    with_twin = {
        name for name, entry in CATALOGUE.items() if entry.twin and classes & set(re.findall(r"\w+", entry.twin))
    }
    assert with_twin == TWINS.keys() | FUNCTIONS_OF_METRICS


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("step", TWINS)
def test_step_gives_what_its_twin_gives_under_the_same_names(step, dtype, tmp_path):
    frame = made_rows()
    twin, columns = TWINS[step]
    if isinstance(twin, MultiLabelBinarizer):  # takes labels, so no ColumnTransformer takes it
        estimator, options, data = sklearn.base.clone(twin).fit(frame[columns]), {"columns": [columns]}, frame[columns]
        names = [f"{columns}_{name}" for name in estimator.classes_]
    else:
        parts = [("t", twin, columns)]
        estimator = ColumnTransformer(parts, verbose_feature_names_out=False, sparse_threshold=0)
        estimator.fit(frame, np.arange(float(ROWS)))
        options, data = {}, frame
        names = None if step in ("hash", "hashing_vectorize") else estimator.get_feature_names_out().tolist()
    plan = plan_of(estimator, tmp_path, dtype=dtype, **options)
    assert step == "passthrough" or step in steps_of(estimator, options)  # a column as it is needs no step
    curve = step in ("power_transform", "quantile_transform", "spline")
    assert_close(plan.transform(frame), dense(estimator.transform(data)), CURVE_ULP if curve else 1)
    if names is not None:
        assert list(plan.get_feature_names_out()) == names


def steps_of(estimator, options) -> set[str]:
    page = from_sklearn(estimator, **options).spec.model_dump(mode="json")
    found: set[str] = set()
    pending: list = [page["outputs"]]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            found |= {part["step"]} if "step" in part else part.keys()
            pending += part.values()
        elif isinstance(part, list):
            pending += part
    return found
