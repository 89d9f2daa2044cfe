"""Scalers, curves and combinations of scikit-learn and the plans made from them give the same features.

To one ulp after scikit-learn's float64 was rounded to the output's type; powers, quantiles and splines to four.

What powers are off by is told by ``allowed_of_powers`` and docs/decisions/0009.
"""

from __future__ import annotations

import platform
from decimal import Decimal, localcontext

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    MaxAbsScaler,
    Normalizer,
    OneHotEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)

from gateway.core.errors import ConfigurationError, FeatureInputInvalid
from gateway.features.from_sklearn import from_sklearn
from tests.fast.feature_outcomes import plan_of as plan_of_steps
from tests.unit.features.sklearn_parity import assert_same_features, dense, names_of, plan_of

EXACT = {
    "max-abs": MaxAbsScaler(),
    "binarize": Binarizer(threshold=1.5),
    "l1": Normalizer("l1"),
    "l2": Normalizer("l2"),
    "max": Normalizer("max"),
    "polynomial": PolynomialFeatures(),
    "interactions": PolynomialFeatures(3, interaction_only=True, include_bias=False),
    "polynomial of two to four factors": PolynomialFeatures((2, 4)),
    "polynomial of scaled": make_pipeline(StandardScaler(), PolynomialFeatures((0, 1)), StandardScaler()),
}
CURVES = {
    "quantile": QuantileTransformer(n_quantiles=9),
    "quantile, normal": QuantileTransformer(n_quantiles=9, output_distribution="normal"),
    "quantile, one": QuantileTransformer(n_quantiles=1),
    "spline": SplineTransformer(),
    "spline, linear": SplineTransformer(n_knots=4, degree=2, extrapolation="linear", include_bias=False),
    "spline, continue": SplineTransformer(extrapolation="continue"),
    "spline, periodic": SplineTransformer(n_knots=4, extrapolation="periodic"),
    "spline, as few knots as its degree takes": SplineTransformer(n_knots=4, degree=3, extrapolation="periodic"),
    "spline, quantile knots": SplineTransformer(knots="quantile", degree=1),
    "spline, missing is zeros": SplineTransformer(degree=2, handle_missing="zeros"),
}
ALLOWS_MISSING = {"max-abs", "spline, missing is zeros"} | {name for name in CURVES if name.startswith("quantile")}
numbers = st.one_of(st.floats(-1e3, 1e3).map(lambda x: round(x, 4)), st.integers(-4, 4).map(float))


@st.composite
def two_frames(draw, gaps):
    values = st.one_of(numbers, st.just(float("nan"))) if gaps else numbers
    rows = st.lists(st.tuples(values, values, values), min_size=1, max_size=20)
    train = [(1.0, 2.0, -3.0), (3.0, 5.0, 0.5), (4.0, 5.5, 7.0), *draw(rows)]
    return [pd.DataFrame(frame, columns=["p", "q", "r"]) for frame in (train, draw(rows))]


@pytest.mark.parametrize("name", [*EXACT, *CURVES])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_estimator_and_its_plan_agree_in_values_and_names(name, data, tmp_path_factory):
    train, served = data.draw(two_frames(name in ALLOWS_MISSING))
    estimator = ColumnTransformer([("t", {**EXACT, **CURVES}[name], ["p", "q", "r"])]).fit(train)
    folder = tmp_path_factory.getbasetemp()
    for dtype in ("float32", "float64"):
        assert_same_features(estimator, served, folder, maxulp=1 if name in EXACT else 4, dtype=dtype)
    assert names_of(folder) == estimator.get_feature_names_out().tolist()


@pytest.mark.parametrize("name", [*EXACT, *CURVES])
@pytest.mark.filterwarnings("ignore")
def test_california_housing_and_its_plan_agree(name, housing, tmp_path):
    frame = housing.drop(columns=["ocean_proximity", "median_house_value"])
    estimator = make_pipeline(SimpleImputer(), {**EXACT, **CURVES}[name]).fit(frame.iloc[::3])
    served = frame.iloc[1::7]
    for dtype in ("float32", "float64"):
        assert_same_features(estimator, served, tmp_path, maxulp=1 if name in EXACT else 4, dtype=dtype)


# Wide rows: more registers than a run has on its stack.


def test_polynomial_over_thirty_columns(tmp_path):
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(130, 30)), columns=[f"w{i}" for i in range(30)])
    estimator = PolynomialFeatures(3, interaction_only=True).fit(frame)
    assert_same_features(estimator, frame, tmp_path, dtype="float64")
    assert plan_of(estimator, tmp_path).compiled.slot_count > 32
    assert names_of(tmp_path) == estimator.get_feature_names_out().tolist()


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_normalize_over_two_hundred_columns(norm, tmp_path):
    random = np.random.default_rng(2)
    frame = pd.DataFrame(random.normal(size=(130, 200)), columns=[f"w{i}" for i in range(200)])
    frame.iloc[7] = 0.0
    frame.iloc[8] = 1e-17
    estimator = Normalizer(norm).fit(frame)
    assert_same_features(estimator, frame, tmp_path)
    assert plan_of(estimator, tmp_path).compiled.slot_count >= 200
    # Sums of two hundred numbers in another order.
    got = plan_of(estimator, tmp_path, dtype="float64").transform(frame)
    np.testing.assert_allclose(got, dense(estimator.transform(frame)), rtol=1e-14)


def test_vector_of_one_or_two_values_is_normalized(tmp_path):
    for columns in (["a"], ["a", "b"]):
        frame = pd.DataFrame(np.array([[3.0, 4.0], [0.0, 0.0], [-2.0, 1.0]])[:, : len(columns)], columns=columns)
        assert_same_features(Normalizer().fit(frame), frame, tmp_path)


# Composition with what is no number.


def test_products_of_a_one_hot_and_numbers_are_named_as_scikit_learn_names_them(tmp_path):
    frame = pd.DataFrame({"n": [1.0, 2.5, -3.0], "c": ["x", "y", "x"]})
    columns = ColumnTransformer([("n", StandardScaler(), ["n"]), ("c", OneHotEncoder(sparse_output=False), ["c"])])
    estimator = make_pipeline(columns, PolynomialFeatures(include_bias=False), Normalizer()).fit(frame)
    assert_same_features(estimator, frame, tmp_path)
    assert names_of(tmp_path) == estimator.get_feature_names_out().tolist()


def test_curves_behind_a_polynomial_take_its_products_one_by_one(tmp_path):
    frame = pd.DataFrame(np.random.default_rng(3).normal(size=(60, 3)), columns=["a", "b", "c"])
    for curve in (QuantileTransformer(n_quantiles=5), SplineTransformer(n_knots=3), PowerTransformer()):
        estimator = make_pipeline(PolynomialFeatures(interaction_only=True, include_bias=False), curve).fit(frame)
        assert_same_features(estimator, frame, tmp_path, maxulp=4)
        assert names_of(tmp_path) == estimator.get_feature_names_out().tolist()


# Powers.


def allowed_of_powers(estimator, frame, dtype):
    """Four ulp: of the output, or of the power before it was standardised, times the exponent of e in it.

    Near the mean the digits of the power cancel; and what a logarithm is off by grows by the exponent. scikit-learn on
    one processor is so far from scikit-learn on another.
    """
    bare = PowerTransformer(estimator.method, standardize=False)
    bare.lambdas_, bare.n_features_in_ = estimator.lambdas_, estimator.n_features_in_
    x = frame.to_numpy()
    if estimator.method == "box-cox":
        exponent = estimator.lambdas_ * np.log(x)
    else:
        exponent = np.where(x < 0, 2 - estimator.lambdas_, estimator.lambdas_) * np.log1p(np.abs(x))
    before = np.spacing(np.abs(bare.transform(x))) * np.maximum(1, np.abs(exponent))
    scale = estimator._scaler.scale_ if estimator.standardize else 1
    return 4 * np.maximum(before / scale, np.spacing(np.abs(estimator.transform(frame)).astype(dtype)))


def assert_same_powers(estimator, frame, folder, dtype):
    got = plan_of(estimator, folder, dtype=dtype).transform(frame)
    want = estimator.transform(frame)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    far = np.abs(got - want) > allowed_of_powers(estimator, frame, dtype)
    assert not far.any(), (frame.to_numpy()[far], got[far], want[far])


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_power_transformer_and_its_plan_agree(method, standardize, data, tmp_path_factory):
    frames = data.draw(two_frames(gaps=True))
    train, served = frames if method == "yeo-johnson" else [frame.abs() + 0.01 for frame in frames]
    estimator = PowerTransformer(method, standardize=standardize).fit(train)
    folder = tmp_path_factory.getbasetemp()
    for dtype in ("float32", "float64"):
        assert_same_powers(estimator, served, folder, dtype)
    assert names_of(folder) == estimator.get_feature_names_out().tolist()


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
def test_power_transformer_of_the_housing_data_and_its_plan_agree_in_every_row(method, standardize, housing, tmp_path):
    frame = housing.drop(columns=["ocean_proximity", "median_house_value"])
    frame = frame if method == "yeo-johnson" else frame.drop(columns="longitude")
    estimator = PowerTransformer(method, standardize=standardize).fit(frame)
    for dtype in ("float32", "float64"):
        assert_same_powers(estimator, frame, tmp_path, dtype)


@pytest.mark.skipif(
    not np._core._multiarray_umath.__cpu_features__.get("AVX512_SKX", False),
    reason="numpy rounds log1p and expm1 correctly only where the processor has AVX-512",
)
def test_powers_are_scikit_learns_to_the_last_bit_where_numpy_rounds_correctly(housing, tmp_path):
    frame = housing.drop(columns=["ocean_proximity", "median_house_value"]).dropna()
    estimator = PowerTransformer().fit(frame)
    got = plan_of(estimator, tmp_path, dtype="float64").transform(frame)
    assert (got == estimator.transform(frame)).mean() > 0.999


def rounded_one_by_one(x: float, power: float) -> float:
    """Yeo and Johnson's formula as scipy has it, every function and operation rounded correctly."""
    if x < 0:
        return -rounded_one_by_one(-x, 2 - power)
    exponent = power * float((1 + Decimal(x)).ln())
    return float(Decimal(exponent).exp() - 1) / power


def test_yeo_johnsons_functions_are_rounded_correctly_whatever_the_processor():
    random = np.random.default_rng(5)
    numbers = np.round(random.normal(0, 1, 1500) * 10 ** random.uniform(-3, 4, 1500), 6)
    for power in (-1.3, 0.3, 1.7, 3.2):
        plan = plan_of_steps("float", {"power_transform": {"lambdas": power}})
        (got,) = plan.transform({"c": numbers})
        with localcontext(prec=60):
            want = np.array([rounded_one_by_one(x, power) for x in numbers.tolist()])
        # Now and then the longer type rounds to the middle between two doubles.
        assert (got[:, 0] == want).mean() > 0.995
        np.testing.assert_allclose(got[:, 0], want, rtol=1e-14)


# The normal deviate.


def test_normal_deviates_are_those_of_scipy_to_the_last_bit():
    random = np.random.default_rng(4)
    shares = [*random.random(3000), *10 ** random.uniform(-6.9, -1, 2000), *1 - 10 ** random.uniform(-6.9, -1, 2000)]
    shares += [0.5, 0.5 + 1e-9, np.exp(-2), 1 - np.exp(-2), np.nextafter(np.exp(-2), 1), 1.1e-7, 1 - 1.1e-7]
    plan = plan_of_steps("float", {"quantile_transform": {"quantiles": [0, 1], "output_distribution": "normal"}})
    (got,) = plan.transform({"c": np.array(shares)})
    interpolated = 0.5 * (np.array(shares) - ((1.0 - np.array(shares)) - 1.0))
    # Elsewhere compilers fuse multiplications with additions in scipy.
    maxulp = 0 if platform.machine() == "x86_64" else 4
    np.testing.assert_array_max_ulp(got[:, 0], ndtri(interpolated), maxulp=maxulp)


# Refusals.


@pytest.mark.parametrize(
    ("estimator", "frame", "message"),
    [
        (SplineTransformer(degree=0), [[1.0], [2.0]], "degree 0 has no step"),
        (SplineTransformer(knots=np.array([[1.0, 1], [2, 2]]), degree=1, extrapolation="linear"), [[1.0, 1], [2, 2]],
         "goes wrong beyond the range of all columns but the first"),
        (SplineTransformer(), [[3.0], [3.0]], "column 'x0' had one value in training"),
        (QuantileTransformer(n_quantiles=2), [[np.nan], [np.nan]], "column 'x0' had no value in training"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_what_no_step_can_repeat_is_refused(estimator, frame, message):
    with pytest.raises(ConfigurationError, match=message):
        from_sklearn(estimator.fit(frame))


def test_quantile_references_of_ones_own_are_refused():
    estimator = QuantileTransformer(n_quantiles=3).fit([[1.0], [2.0], [4.0]])
    estimator.references_ = np.array([0, 0.9, 1])
    with pytest.raises(ConfigurationError, match="references_ of its own"):
        from_sklearn(estimator)


def test_spline_error_fails_the_row_where_scikit_learn_fails_the_batch(tmp_path):
    estimator = SplineTransformer(extrapolation="error").fit([[0.0], [4.0]])
    plan = plan_of(estimator, tmp_path)
    assert plan.transform({"x0": np.array([0.0, 4.0])}).shape == (2, 7)
    with pytest.raises(FeatureInputInvalid, match=r"row 1: .* expected a number within the range of its spline, came"):
        plan.transform({"x0": np.array([1.0, 4.5])})
