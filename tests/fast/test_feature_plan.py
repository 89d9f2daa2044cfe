"""The compiled loop against the slow reading of the same page, and what it makes of odd values."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from gateway._fast import feature_plan, lent_columns
from gateway._fast.feature_plan import parse_timestamp_text
from gateway._fast.feature_program import Failure
from gateway._fast.lent_columns import PackedRows
from gateway._fast.unicode_text import TEXT_LIMIT
from gateway.config.feature_page import TIMESTAMP_PARTS
from gateway.config.features import parse_features
from gateway.core.errors import ConfigurationError, FeatureInputInvalid
from gateway.core.tensors import DataType
from gateway.features.compiler import compile_plan
from tests.fast.feature_outcomes import outcome, outcomes, plan_across, plan_of, plan_of_features, same
from tests.fast.feature_pages import pages_with_rows
from tests.reference import features as reference

ARRAY_TYPES = {"float": np.float64, "int": np.int64, "bool": np.int64}
DTYPES = {"float32": np.float32, "float64": np.float64, "int64": np.int64, "string": object}
MISSING = -(2**63)


def test_the_compiled_module_is_the_one_loaded():
    assert feature_plan.__file__.endswith(".so")


@settings(max_examples=300, deadline=None)
@given(pages_with_rows())
def test_every_page_gives_what_its_slow_reading_gives(case):
    """Whatever the page and the rows: the same elements, bit for bit but for NaN's, and the same rows refused."""
    assert_read_as_slowly(case)


@settings(max_examples=100, deadline=None)
@given(pages_with_rows(groups=True))
def test_every_page_with_features_of_features_gives_what_its_slow_reading_gives(case):
    assert_read_as_slowly(case)


def assert_read_as_slowly(case):
    document, count, rows = case
    spec = parse_features(document)
    try:
        plan = compile_plan(spec, Path())
    except ConfigurationError as error:
        # A made constant may be one that its step or its output refuses, which is told at load.
        if any("change the constant" not in problem.message for problem in error.problems):
            raise
        reject()
    columns = {name: plain(values, spec.columns[name].type) for name, values in rows.items()}
    expected, refused = read_slowly(spec, plan, count if rows else 0, rows)

    failures: list = []
    results = plan.transform(columns, failures)

    for output, result in zip(plan.output_specs, results, strict=True):
        dtype = DTYPES[spec.outputs[output.name].dtype]
        want = np.array(expected[output.name], dtype).reshape(result.shape)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, want)
        if dtype not in (np.int64, object):
            np.testing.assert_array_equal(np.signbit(result[result == 0]), np.signbit(want[want == 0]))
    assert [row for row, *_ in failures] == sorted(refused)
    for row, column, kind, _ in failures:
        assert Failure(kind).name in refused[row], (plan.column_specs[column].name, row)
    assert_the_same_without_zeros(plan, columns, results, failures)


def assert_the_same_without_zeros(plan, columns, results, failures):
    """Sparse outputs hold what the dense ones hold, in order, each element once; the same rows fail."""
    failures_again: list = []
    for dense, sparse in zip(results, plan.transform_sparse(columns, failures_again), strict=True):
        if dense.dtype == object:
            np.testing.assert_array_equal(sparse, dense)
            continue
        values, elements, ends = sparse
        assert values.dtype == dense.dtype
        assert elements.dtype == ends.dtype == np.int32
        rows = np.repeat(np.arange(len(dense)), np.diff(ends))
        np.testing.assert_array_equal(np.argwhere(dense != 0).reshape(-1, 2), np.stack([rows, elements], axis=1))
        np.testing.assert_array_equal(values, dense[rows, elements])
    assert [failure[:3] for failure in failures_again] == [failure[:3] for failure in failures]


def plain(values, kind):
    if kind == "strings":
        return values
    return [str(value) for value in values] if kind in ("string", "timestamp") else np.array(values, ARRAY_TYPES[kind])


def read_slowly(spec, plan, count, rows):
    """Elements by output, zeros for refused rows, and the reasons by refused row."""
    expected: dict = {name: [] for name in spec.outputs}
    refused = {}
    widths = {output.name: output.shape[1] for output in plan.output_specs}
    read: dict = {}  # rows repeat themselves
    for i in range(count):
        row = {name: values[i] for name, values in rows.items()}
        if repr(row) not in read:
            reasons = all_reasons(spec, row)
            zeros = {name: [zero_of(output)] * widths[name] for name, output in spec.outputs.items()}
            read[repr(row)] = reasons, zeros if reasons else reference.transform_row(spec, row)
        reasons, elements = read[repr(row)]
        if reasons:
            refused[i] = reasons
        for name, values in elements.items():
            expected[name].append(values)
    return expected, refused


def zero_of(output):
    return "" if output.dtype == "string" else 0


def all_reasons(spec, row):
    # A row may fail for several reasons; which is told first is the loop's affair.
    reasons = set()
    values = {}
    for name, column in spec.columns.items():
        try:
            values[name] = reference.read_value(column, row.get(name, ...))
        except reference.RowFails as fails:
            reasons |= fails.reasons
            values[name] = None  # as the loop goes on with it, for the other columns of its features
    for output in spec.outputs.values():
        for feature in output.features:
            try:
                for element in reference.elements_of(feature, spec, values, Path()):
                    reference.output_element(element, output.dtype)
            except reference.RowFails as fails:
                reasons |= fails.reasons
    return reasons


# Columns as sent.


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])
def test_float_column_takes_every_numeric_dtype(dtype):
    assert outcome(plan_of("float"), 0, 1, 1, 0, dtype=dtype) == [0.0, 1.0, 1.0, 0.0]


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=80))
def test_every_half_float_widens_as_numpy_widens_it(bits):
    halves = np.array(bits, np.uint16).view(np.float16)
    (result,) = plan_of("float").transform({"c": halves})
    np.testing.assert_array_equal(result[:, 0], halves.astype(np.float64))


@given(st.lists(st.floats(width=32), min_size=1, max_size=80))
def test_every_bfloat16_widens_to_the_float32_of_its_bits(values):
    bits = (np.array(values, "<f4").view("<u4") >> 16).astype("<u2")
    (result,) = plan_of("float").transform({"c": PackedRows(bits, DataType.BF16)})
    np.testing.assert_array_equal(result[:, 0], (bits.astype("<u4") << 16).view("<f4").astype("<f8"))


@pytest.mark.parametrize("dtype", [dtype for dtype in DataType if dtype != DataType.BYTES])
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_columns_may_begin_at_any_byte(dtype, offset):
    ones = {DataType.FP16: 0x3C00, DataType.BF16: 0x3F80}.get(dtype, 1)
    packed = np.full(70, ones, dtype.numpy if dtype != DataType.FP16 else "<u2").tobytes()
    moved = memoryview(bytes(offset) + packed)[offset:]
    for kind in ("float", "int", "bool"):
        (result,) = plan_of(kind).transform({"c": PackedRows(moved, dtype)})
        assert result[:, 0].tolist() == [1.0] * 70


def test_bytes_that_are_no_packed_rows_are_refused():
    for data, dtype in ((b"1234567", DataType.FP64), (b"12", DataType.BYTES), (b"12", 99)):
        with pytest.raises(lent_columns.UnplainColumn, match=f"{len(data)} bytes are no packed rows"):
            plan_of("float").transform({"c": PackedRows(data, dtype)})


@pytest.mark.parametrize(("kind", "taken"), [
    ("float", set(DataType) - {DataType.BYTES}),
    ("int", set(DataType) - {DataType.BYTES}),
    ("bool", set(DataType) - {DataType.BYTES}),
    ("string", {DataType.BYTES}),
    ("timestamp", set(DataType) - {DataType.BOOL, DataType.UINT64, DataType.FP16, DataType.FP32, DataType.BF16}),
])  # fmt: skip
def test_accepted_dtypes_are_those_that_lose_nothing(kind, taken):
    steps = {"string": [{"hash": {"buckets": 2}}], "timestamp": [{"timestamp_part": {"part": "day"}}]}.get(kind, [])
    plan = plan_of(kind, *steps)
    assert set(plan.accepted_dtypes(0)) == taken
    with pytest.raises(IndexError):
        plan.accepted_dtypes(1)


def test_int_column_keeps_every_int64_exactly():
    values = [2**53 + 1, -(2**63) + 1, 2**63 - 1]
    assert outcome(plan_of("int", dtype="int64"), *values, dtype="i8") == values


def test_int_column_refuses_fractions_and_values_outside_int64():
    plan = plan_of("int")
    refused = "FAILURE_NOT_INTEGER"
    assert outcome(plan, 3.0, 3.5, math.inf, 2.0**63, -(2.0**63), 2.0**62, dtype="f8") == [
        3.0, refused, refused, refused, refused, 2.0**62
    ]  # fmt: skip
    assert outcome(plan, 2**63, 2**63 - 1, dtype="u8") == [refused, float(2**63 - 1)]
    assert same(outcome(plan, math.nan, dtype="f8"), [math.nan])


def test_bool_column_takes_zero_and_one_in_any_dtype():
    refused = "FAILURE_NOT_BOOL"
    assert outcome(plan_of("bool"), 0, 1, 2, -1, dtype="i4") == [0.0, 1.0, refused, refused]
    assert outcome(plan_of("bool"), 0.0, 1.0, 0.5, math.inf, dtype="f8") == [0.0, 1.0, refused, refused]
    assert same(outcome(plan_of("bool"), MISSING, 1, 2**62, dtype="i8"), [math.nan, 1.0, refused])
    assert outcome(plan_of("bool"), True, False) == [1.0, 0.0]


@pytest.mark.parametrize("kind", ["float", "int", "bool", "timestamp"])
def test_smallest_int64_is_missing_in_every_column(kind):
    assert outcome(plan_of(kind, "missing_indicator"), MISSING, 0, dtype="i8") == [1.0, 0.0]


def test_column_of_another_dtype_fails_every_row_with_what_was_expected():
    with pytest.raises(FeatureInputInvalid, match=r"row 0: column 'c': expected any numeric data type, came 'x'"):
        plan_of("float").transform({"c": np.array(["x"])})
    with pytest.raises(FeatureInputInvalid, match=r"column 'c': expected BYTES, came 1\.0"):
        plan_of("string", {"hash": {"buckets": 2}}).transform({"c": np.array([1.0])})


def test_required_column_left_out_fails_and_optional_one_is_missing():
    two = {
        "columns": {"a": "float", "b": {"type": "float", "optional": True}},
        "outputs": {"x": {"features": ["a", "b"]}},
    }
    plan = compile_plan(parse_features(two), Path())
    with pytest.raises(FeatureInputInvalid, match="column 'a': expected a float in every row, as the column is req"):
        plan.transform({"b": np.array([1.0])})
    (result,) = plan.transform({"a": np.array([1.0])})
    assert same(result[0].tolist(), [1.0, math.nan])


def test_columns_of_unlike_length_are_refused():
    two = {"columns": {"a": "float", "b": "float"}, "outputs": {"x": {"features": ["a", "b"]}}}
    with pytest.raises(FeatureInputInvalid, match="unlike length: 2 rows and 1 rows"):
        compile_plan(parse_features(two), Path()).transform({"a": np.zeros(2), "b": np.zeros(1)})


def test_no_rows_give_no_rows():
    (result,) = plan_of("float").transform({"c": np.zeros(0)})
    assert result.shape == (0, 1)


def test_failed_row_is_zeros_and_its_neighbours_are_answered():
    plan = plan_of("float", {"standard_scale": {"mean": 1.0}}, missing="error")
    failures: list = []
    (result,) = plan.transform({"c": np.array([3.0, np.nan, 4.0])}, failures)
    assert result[:, 0].tolist() == [2.0, 0.0, 3.0]
    assert [(row, column, kind) for row, column, kind, _ in failures] == [(1, 0, Failure.FAILURE_MISSING)]
    assert str(failures[0][3]) == "row 1: column 'c': expected a float, as it may not be missing, came nan"
    assert failures[0][3].facts == {"row": 1, "column": "c"}


# Numbers: missing, infinite and signed zero.

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("steps", "values", "want"),
    [
        (["passthrough"], [NAN, INF, -INF, -0.0], [NAN, INF, -INF, -0.0]),
        ([{"impute": {"value": 7}}], [NAN, INF, -INF], [7.0, INF, -INF]),
        (["missing_indicator"], [NAN, INF, 0.0], [1.0, 0.0, 0.0]),
        ([{"standard_scale": {"mean": 1, "scale": 2}}], [NAN, INF, -INF, 5.0], [NAN, INF, -INF, 2.0]),
        ([{"robust_scale": {"center": 1, "scale": 2}}], [NAN, INF, -INF, 5.0], [NAN, INF, -INF, 2.0]),
        ([{"min_max_scale": {"data_min": 0, "data_max": 4}}], [NAN, INF, -INF, 5.0], [NAN, INF, -INF, 1.25]),
        ([{"min_max_scale": {"data_min": 0, "data_max": 4, "clip": True}}], [NAN, INF, -INF], [NAN, 1.0, 0.0]),
        ([{"min_max_scale": {"data_min": 3, "data_max": 3}}], [3.0, 4.0], [0.0, 1.0]),
        ([{"multiply": {"by": -2}}], [NAN, INF, -INF, 0.0, -0.0, 3.0], [NAN, -INF, INF, -0.0, 0.0, -6.0]),
        ([{"multiply": {"by": 0}}], [INF, -3.0], [NAN, -0.0]),
        (["log1p", {"select": {"places": [0, 0]}}], [NAN, INF, -0.0], [[NAN, NAN], [INF, INF], [-0.0, -0.0]]),
        ([{"clip": {"min": -1, "max": 1}}], [NAN, INF, -INF, 0.5], [NAN, 1.0, -1.0, 0.5]),
        ([{"clip": {"min": -1}}], [NAN, INF, -INF], [NAN, INF, -1.0]),
        (["log1p"], [NAN, INF, -INF, -1.0, -2.0, 0.0], [NAN, INF, NAN, -INF, NAN, 0.0]),
        (["log1p", {"impute": {"value": 9}}], [-2.0], [9.0]),
        ([{"bucketize": {"edges": [0, 1]}}], [NAN, INF, -INF, -0.0, 0.5, 1.0], [NAN, 2.0, 0.0, 1.0, 1.0, 2.0]),
        ([{"k_bins": {"edges": [0, 1]}}], [NAN, INF, -0.0], [[0, 0, 0], [0, 0, 1], [0, 1, 0]]),
        ([{"k_bins": {"edges": [0, 1], "encode": "ordinal"}}], [NAN, INF, -INF, 0.5], [NAN, 2.0, 0.0, 1.0]),
        ([{"k_bins": {"edges": []}}], [NAN, INF, 3.0], [0.0, 1.0, 1.0]),
        ([{"max_abs_scale": {"scale": 4}}], [NAN, INF, -INF, -2.0], [NAN, INF, -INF, -0.5]),
        ([{"max_abs_scale": {"scale": 4, "clip": True}}], [NAN, INF, -INF, 5.0], [NAN, 1.0, -1.0, 1.0]),
        (["log"], [NAN, INF, -INF, 0.0, -1.0, 1.0], [NAN, INF, NAN, -INF, NAN, 0.0]),
        (["exp"], [NAN, INF, -INF, 0.0, 800.0], [NAN, INF, 0.0, 1.0, INF]),
        (["sqrt"], [NAN, INF, -INF, -0.0, -1.0, 4.0], [NAN, INF, NAN, -0.0, NAN, 2.0]),
        (["abs"], [NAN, INF, -INF, -0.0, -1.5], [NAN, INF, INF, 0.0, 1.5]),
        (["binarize"], [NAN, INF, -INF, 0.0, 0.5], [NAN, 1.0, 0.0, 0.0, 1.0]),
        ([{"power_transform": {"lambdas": 0.5}}], [NAN, INF, -INF, 3.0, 0.0], [NAN, INF, -INF, 2.0, 0.0]),
        ([{"power_transform": {"lambdas": -1}}], [INF], [1.0]),
        ([{"power_transform": {"lambdas": 2}}], [0.0, -INF], [0.0, -INF]),
        (
            [{"power_transform": {"method": "box-cox", "lambdas": 0}}],
            [NAN, INF, -INF, 0.0, -1.0, 1.0],
            [NAN, INF, NAN, NAN, NAN, 0.0],
        ),
        ([{"power_transform": {"method": "box-cox", "lambdas": 200}}], [1e3, 0.5], [INF, -0.005]),
        ([{"power_transform": {"lambdas": 1, "mean": 2, "scale": 4}}], [0.0, NAN], [-0.5, NAN]),
        (
            [{"quantile_transform": {"quantiles": [0, 1, 1, 3, 5]}}],
            [NAN, INF, -INF, 0.0, 1.0, 2.0, 5.0, 9.0],
            [NAN, 1.0, 0.0, 0.0, 0.375, 0.625, 1.0, 1.0],
        ),
        ([{"quantile_transform": {"quantiles": [7]}}], [NAN, INF, -INF, 7.0], [NAN, 0.0, 0.0, 0.0]),
        (
            [{"quantile_transform": {"quantiles": [0, 4], "output_distribution": "normal"}}],
            [NAN, INF, -INF, 5e-8, 2.0],
            [NAN, 5.19933758270342, -5.199337582605575, -5.199337582605575, 0.0],
        ),
        (
            [{"spline": {"degree": 1, "knots": [-1, 0, 1, 2]}}],
            [NAN, INF, -INF, 0.25],
            [[NAN] * 2, [0, 1], [1, 0], [0.75, 0.25]],
        ),
        ([{"spline": {"degree": 1, "knots": [-1, 0, 1, 2], "missing": "zeros"}}], [NAN], [[0, 0]]),
        (
            [{"spline": {"degree": 1, "knots": [-1, 0, 1, 2], "extrapolation": "linear"}}],
            [INF, -INF, 3.0],
            [[-INF, INF], [INF, -INF], [-2, 3]],
        ),
        (
            [{"spline": {"degree": 1, "knots": [-1, 0, 1, 2], "extrapolation": "continue"}}],
            [INF, -INF, 3.0],
            [[NAN] * 2, [NAN] * 2, [-2, 3]],
        ),
        (
            [{"spline": {"degree": 1, "knots": [-1, 0, 1, 2], "extrapolation": "periodic"}}],
            [INF, NAN, 7.25],
            [NAN, NAN, 1.0],
        ),
        (["normalize"], [NAN, INF, -2.0, 0.0, 1e-17], [NAN, NAN, -1.0, 0.0, 1e-17]),
        ([{"polynomial": {"degree": [2, 3]}}], [NAN, INF, -2.0], [[1, NAN, NAN], [1, INF, INF], [1, 4, -8]]),
        ([{"cyclic": {"period": 4}}], [NAN, INF, -INF], [[NAN, NAN]] * 3),
        ([{"ordinal": {"categories": [0, 2.5], "unknown": -1}}], [NAN, INF, -0.0, 2.5], [NAN, -1.0, 0.0, 1.0]),
        ([{"one_hot": {"categories": [0, None], "unknown": "ignore"}}], [NAN, INF, -0.0], [[0, 1], [0, 0], [1, 0]]),
    ],
)
def test_missing_infinite_and_signed_zero_have_their_stated_outcome(steps, values, want):
    got, expected = np.array(outcome(plan_of("float", *steps), *values)), np.array(want)
    np.testing.assert_array_equal(got, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(expected[number]))


def test_value_beyond_a_spline_fails_its_row_where_that_is_asked_for():
    plan = plan_of("float", {"spline": {"degree": 1, "knots": [-1, 0, 1, 2], "extrapolation": "error"}})
    got = outcome(plan, 0.0, 1.0, -0.01, 1.01, INF, NAN)
    assert got[:2] == [[1, 0], [0, 1]]
    assert got[2:5] == ["FAILURE_OUTSIDE"] * 3
    assert same(got[5], [NAN, NAN])


def test_one_missing_value_makes_a_vector_missing_and_an_infinite_one_makes_the_others_zero():
    columns = {"a": "float", "b": "float", "c": "float"}
    rows = {"a": np.array([3.0, NAN, INF, NAN]), "b": np.array([-4.0, 1.0, 2.0, INF]), "c": np.array([0.0, 2.0, -1, 1])}
    for norm, first in (("l1", [3 / 7, -4 / 7, 0.0]), ("l2", [0.6, -0.8, 0.0]), ("max", [0.75, -1.0, 0.0])):
        (got,) = plan_across(columns, {"normalize": {"norm": norm}}).transform(rows)
        np.testing.assert_array_equal(got, [first, [NAN] * 3, [NAN, 0.0, -0.0], [NAN] * 3])


def test_value_that_nothing_takes_fails_no_row():
    one_hot = {"one_hot": {"categories": [1]}}
    page = {"columns": {"a": "int", "b": "int"}, "outputs": {"x": {"features": [
        {"features": [{"column": "a", "steps": [one_hot]}, {"column": "b", "steps": [one_hot]}],
         "steps": [{"select": {"places": [1]}}]}]}}}  # fmt: skip
    plan = compile_plan(parse_features(page), Path())
    failures: list = []
    (result,) = plan.transform({"a": np.array([2, 1]), "b": np.array([1, 2])}, failures)
    assert result.tolist() == [[1.0], [0.0]]
    assert [(row, Failure(kind)) for row, _, kind, _ in failures] == [(1, Failure.FAILURE_UNSEEN)]


def test_infinite_error_refuses_infinity_and_nothing_else():
    got = outcome(plan_of("float", infinite="error"), INF, -INF, NAN, 1e308)
    assert same(got, ["FAILURE_INFINITE", "FAILURE_INFINITE", NAN, 1e308])


def test_value_beyond_float32_becomes_infinite_when_rounded_once():
    assert outcome(plan_of("float", dtype="float32"), 1e39, -1e39, 16777217.0) == [INF, -INF, 16777216.0]


def test_missing_into_an_int64_output_fails_its_row():
    plan = plan_of("int", dtype="int64")
    assert outcome(plan, 5, MISSING, dtype="i8") == [5, "FAILURE_NO_INT64"]


def test_cyclic_keeps_its_phase_far_from_zero():
    plan = plan_of("float", {"cyclic": {"period": 7}})
    near, far, below = outcome(plan, 3.0, 3.0 + 7 * 2**49, 3.0 - 7 * 2**49)
    assert near == far
    np.testing.assert_allclose(below, near, atol=1e-12)


# Texts.


def test_texts_are_compared_byte_by_byte():
    plan = plan_of("string", {"ordinal": {"categories": ["é", "e\u0301", "A"], "unknown": -1}})
    assert outcome(plan, "é", "e\u0301", "a", "A ", b"\xff\xfe") == [0.0, 1.0, -1.0, -1.0, -1.0]


def test_empty_text_is_missing():
    plan = plan_of("string", {"one_hot": {"categories": ["a", None], "unknown": "error"}})
    assert outcome(plan, "", "a", b"") == [[0, 1], [1, 0], [0, 1]]
    assert outcome(plan_of("string", {"impute": {"value": "a"}}, {"ordinal": {"categories": ["b", "a"]}}), "", "b") == [
        1.0, 0.0
    ]  # fmt: skip


def test_invalid_utf8_is_an_unseen_category_and_is_shown_escaped():
    plan = plan_of("string", {"one_hot": {"categories": ["a"]}})
    with pytest.raises(FeatureInputInvalid, match=r"expected a known category \(a\), came '\\\\xff'"):
        plan.transform({"c": [b"\xff"]})


TEXT_TO_NUMBER = {"ordinal": {"categories": ["a", "A", "ab", "b", "σας"], "unknown": -1}}


@pytest.mark.parametrize(
    ("steps", "values", "want"),
    [
        (["lower"], ["A", "ΣΑΣ", "", "É"], [0, 4, MISSING, -1]),
        (["upper"], ["a", "", "ß"], [1, MISSING, -1]),
        (["strip"], [" ab\u3000", "  ", ""], [2, MISSING, MISSING]),
        ([{"strip": {"characters": "xé"}}], ["éxaé", "xx", " a"], [0, MISSING, -1]),
        ([{"replace": {"old": "é", "new": "a"}}], ["é", "b", ""], [0, 3, MISSING]),
        ([{"replace": {"old": "x"}}], ["xaxbx", "xx"], [2, MISSING]),
        ([{"regex_extract": {"pattern": "[ab]+"}}], ["-ab-a", "c", ""], [2, MISSING, MISSING]),
        ([{"regex_extract": {"pattern": "(a)|(b)", "group": 2}}], ["b", "a"], [3, MISSING]),
        (["strip", "lower", {"regex_extract": {"pattern": r"(\w)\d", "group": 1}}], [" x B7 ", "7"], [3, MISSING]),
    ],
)
def test_text_steps_have_their_stated_outcome(steps, values, want):
    plan = plan_of(
        "string", *steps, {**TEXT_TO_NUMBER, "ordinal": {**TEXT_TO_NUMBER["ordinal"], "missing": MISSING_CODE}}
    )
    assert outcome(plan, *values) == [MISSING_CODE if value == MISSING else value for value in want]


MISSING_CODE = 99


def test_text_length_counts_characters_and_keeps_missing():
    assert outcome(plan_of("string", "text_length", dtype="int64"), "é😀", "a", "") == [2, 1, "FAILURE_NO_INT64"]


def test_count_of_terms_fills_every_output_dtype_and_nothing_but_what_it_hits():
    step = {"count_vectorize": {"terms": ["cat", "on mat", "dog"], "ngram_range": [1, 2]}}
    for dtype in ("float32", "float64", "int64"):
        plan = plan_of("string", step, dtype=dtype)
        rows = outcome(plan, "The cat sat on mat, cat", "", "birds", *["dog"] * 70)
        assert rows == [[2, 1, 0], [0, 0, 0], [0, 0, 0], *[[0, 0, 1]] * 70]


TEXT_CHAINS = [
    ["lower", TEXT_TO_NUMBER], ["upper", TEXT_TO_NUMBER], ["strip", TEXT_TO_NUMBER], ["text_length"],
    [{"replace": {"old": "a", "new": "b"}}, TEXT_TO_NUMBER], [{"regex_extract": {"pattern": "a"}}, TEXT_TO_NUMBER],
    [{"count_vectorize": {"terms": ["a"]}}], [{"tfidf_vectorize": {"terms": ["a"], "analyzer": "char"}}],
    [{"hashing_vectorize": {"buckets": 1, "token_pattern": "a"}}],
]  # fmt: skip


@pytest.mark.parametrize("steps", TEXT_CHAINS, ids=str)
def test_text_that_is_no_utf8_fails_its_row_where_characters_are_looked_at(steps):
    plan = plan_of("string", *steps)
    assert outcome(plan, b"a\xff", b"", b"\xc3")[::2] == ["FAILURE_NOT_UTF8", "FAILURE_NOT_UTF8"]
    with pytest.raises(FeatureInputInvalid, match=r"expected text in UTF-8, came 'a\\\\xff'"):
        plan.transform({"c": [b"a\xff"]})


@pytest.mark.parametrize("steps", TEXT_CHAINS, ids=str)
def test_text_that_is_too_long_fails_its_row(steps):
    plan = plan_of("string", *steps)
    assert outcome(plan, b"a" * (TEXT_LIMIT + 1)) == ["FAILURE_TEXT_SIZE"]
    with pytest.raises(FeatureInputInvalid, match="expected a text of at most 16 MiB, or 1 MiB where"):
        plan.transform({"c": [b"a" * (TEXT_LIMIT + 1)]})


def test_text_that_takes_an_expression_too_many_steps_fails_its_row_alone():
    slow = r"(?:a+)+[bc]"
    texts = ["xab", "a" * 5000, "ac"]
    plan = plan_of("string", {"regex_extract": {"pattern": slow}}, "text_length")
    assert outcome(plan, *texts) == [2, "FAILURE_PATTERN", 2]
    plan = plan_of("string", {"hashing_vectorize": {"buckets": 1, "token_pattern": slow, "signed": False}})
    assert outcome(plan, *texts) == [1, "FAILURE_PATTERN", 1]


def test_rows_whose_texts_are_too_large_together_are_computed_one_by_one():
    """16 MiB each, of which the arena holds sixteen: the rows of a block come from many requests, and none fails."""
    text = b"A" * TEXT_LIMIT
    plan = plan_of("string", "lower", "text_length")
    assert outcome(plan, *[text] * 20, *[b"a"] * 44, text) == [*[TEXT_LIMIT] * 20, *[1.0] * 44, TEXT_LIMIT]


def test_row_whose_texts_are_too_large_fails_alone():
    """Seventeen texts of 16 MiB are made of it. Its neighbours are answered, also where elements are summed."""
    steps = [[{"replace": {"old": "x", "new": f"{i:02}"}}, "text_length"] for i in range(17)]
    features = [{"column": "c", "steps": replaced} for replaced in steps]
    words = {"column": "c", "steps": [{"split": {"separator": "|"}}, {"hash": {"buckets": 1, "signed": False}}]}
    plan = plan_of_features({"c": "string"}, *features, words)
    rows = ["x|a", "x" * (TEXT_LIMIT // 2), "|x", "", b"\xff"]
    got = outcomes(plan, c=rows)
    assert got[0] == [4.0] * 17 + [2.0]
    assert got[1] == "FAILURE_MEMORY"
    assert got[2] == [3.0] * 17 + [1.0]
    assert got[4] == "FAILURE_NOT_UTF8"
    assert np.isnan(got[3][:17]).all()
    assert got[3][17] == 0.0
    failures: list = []
    results = plan.transform({"c": rows}, failures)
    assert_the_same_without_zeros(plan, {"c": rows}, results, failures)


def test_megabyte_text_is_unseen_or_hashed_and_cut_in_messages():
    long = "x" * 1_000_000
    assert outcome(plan_of("string", {"ordinal": {"categories": ["x"], "unknown": -1}}), long) == [-1.0]
    assert outcome(plan_of("string", {"ordinal": {"categories": ["x", long], "unknown": -1}}), long, long[1:]) == [
        1,
        -1,
    ]
    (hashed,) = outcome(plan_of("string", {"hash": {"buckets": 4}}), long)
    assert hashed == reference.hash_step(parse_step({"buckets": 4}), long.encode(), None, None)
    with pytest.raises(FeatureInputInvalid) as refused:
        plan_of("string", {"one_hot": {"categories": ["x"]}}).transform({"c": [long]})
    assert "(1000000 bytes)" in str(refused.value)
    assert len(str(refused.value)) < 250


def parse_step(arguments):
    page = {
        "columns": {"c": "string"},
        "outputs": {"x": {"features": [{"column": "c", "steps": [{"hash": arguments}]}]}},
    }
    return parse_features(page).outputs["x"].features[0].steps[0]


def test_ten_thousand_unseen_categories_leave_the_vocabulary_as_it_is():
    plan = plan_of("string", {"one_hot": {"categories": ["a", "b"], "unknown": "ignore"}})
    (result,) = plan.transform({"c": [f"unseen {i}" for i in range(10_000)]})
    assert not result.any()


@given(st.lists(st.binary(min_size=0, max_size=24), unique=True, max_size=200), st.lists(st.binary(max_size=24)))
def test_vocabulary_finds_what_is_in_it_and_nothing_else(known, asked):
    known = [text for text in known if text]
    asked = [*known, *asked]
    if not known:
        return
    categories = [text.hex() for text in known]
    plan = plan_of("string", {"ordinal": {"categories": categories, "unknown": -1, "missing": -2}}, dtype="int64")
    got = outcome(plan, *[text.hex() for text in asked])
    assert got == [known.index(text) if text in known else -1 if text else -2 for text in asked]


# Timestamps.


@given(st.datetimes(), st.sampled_from(["T", " "]), st.sampled_from(["", "Z", "+05:30", "-0800", "+14"]))
def test_timestamps_are_read_as_python_reads_them(instant, separator, offset):
    text = instant.isoformat(separator) + offset
    try:
        want = reference.instant_of_text(text)
    except reference.RowFails:
        want = None
    assert parse_timestamp_text(text) == want


@given(st.text("0123456789-:.TZ+ ", max_size=32))
def test_malformed_timestamps_are_refused_and_nothing_read_past_their_end(text):
    """Whatever the text: we refuse it, or Python reads the same instant."""
    micros = parse_timestamp_text(text)
    assert micros is None or micros == reference.instant_of_text(text)


@pytest.mark.parametrize("text", [
    "2013-02-29", "2013-13-01", "2013-00-10", "2013-01-32", "0000-01-01", "2013-01-01T", "2013-01-01T5:15",
    "2013-01-01T24:00", "2013-01-01T23:60", "2013-01-01T23:59:60", "2013-01-01T05:15:00.",
    "2013-01-01T05:15:00.1234567890",
    "2013-01-01T05:15+24:00", "2013-01-01T05:15+05:60", "2013-01-01T05:15ZZ", "2013-01-01X05:15", "20130101T051500Z",
    "2013-01-01T05:15 UTC", "now", "0001-01-01T00:00+00:01", "9999-12-31T23:59-00:01", "2013/01/01", "2013-01-01T05.15",
])  # fmt: skip
def test_malformed_timestamp_fails_its_row_and_is_shown(text):
    plan = plan_of("timestamp", {"timestamp_part": {"part": "hour"}})
    assert outcome(plan, "2013-01-01T05:15", text, "") == [5.0, "FAILURE_TIMESTAMP", pytest.approx(NAN, nan_ok=True)]
    with pytest.raises(FeatureInputInvalid, match=r"expected an instant of the years 0001 to 9999, in ISO 8601"):
        plan.transform({"c": [text]})


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_timestamps_as_numbers_count_units_since_1970(unit, per_second):
    plan = plan_of("timestamp", {"timestamp_part": {"part": "epoch_seconds"}}, dtype="int64", unit=unit)
    assert outcome(plan, 86399 * per_second, -1, dtype="i8") == [86399, -1]
    assert outcome(plan, 86399.0 * per_second, -0.5 * per_second, dtype="f8") == [86399, -1]
    first, last = -62135596800, 253402300799
    if last * per_second < 2**63:
        assert outcome(plan, first * per_second, last * per_second, dtype="i8") == [first, last]
        too_far = "FAILURE_TIMESTAMP"
        assert outcome(plan, first * per_second - 1, (last + 1) * per_second, dtype="i8") == [too_far, too_far]
    assert outcome(plan, INF, 1e300, dtype="f8") == ["FAILURE_TIMESTAMP"] * 2


@settings(max_examples=200)
@given(st.datetimes(), st.sampled_from(TIMESTAMP_PARTS))
def test_timestamp_parts_are_those_of_the_calendar(instant, part):
    plan = plan_of("timestamp", {"timestamp_part": {"part": part}}, dtype="int64")
    want = reference.timestamp_part(
        reference.steps.TimestampPartStep(part=part), reference.instant_of_text(instant.isoformat()), None, None
    )
    assert outcome(plan, instant.isoformat()) == [want]


# Hashing.


@pytest.mark.parametrize(("data", "seed", "want"), [
    (b"", 0, 0), (b"", 1, 0x514E28B7), (b"", 0xFFFFFFFF, 0x81F16F39), (b"\0\0\0\0", 0, 0x2362F9DE),
    (b"aaaa", 0x9747B28C, 0x5A97808A), (b"abc", 0, 0xB3DD93FA), (b"Hello, world!", 0x9747B28C, 0x24884CBA),
])  # fmt: skip
def test_the_reference_hash_gives_the_published_values(data, seed, want):
    assert reference.murmur3_32(data, seed) == want


@given(st.binary(min_size=1, max_size=40), st.integers(0, 2**32 - 1), st.integers(1, 50), st.booleans())
def test_hash_step_gives_the_reference_bucket_and_sign(data, seed, buckets, signed):
    arguments = {"buckets": buckets, "seed": seed, "signed": signed}
    plan = plan_of("string", {"hash": arguments})
    failures: list = []
    (result,) = plan.transform({"c": [data]}, failures)
    assert result[0].tolist() == reference.hash_step(parse_step(arguments), data, None, None)


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_integers_are_hashed_as_their_decimal_text(value):
    arguments = {"buckets": 1000, "seed": 0, "signed": True}
    by_number = outcome(plan_of("int", {"hash": arguments}), value, dtype="i8")
    assert by_number == outcome(plan_of("string", {"hash": arguments}), str(value))


def test_one_plan_runs_on_two_threads_at_once():
    steps = [{"impute": {"value": 1}}, {"bucketize": {"edges": [0, 1, 2]}}, {"one_hot": {"categories": [0, 1, 2, 3]}}]
    plan = plan_of("float", *steps)
    here, there = ({"c": np.arange(100) % 4 + offset} for offset in (0.5, -0.5))
    (want,) = plan.transform(here)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(feature_plan.nanoseconds_a_run_for_bench, plan, there, 2_000)  # without the GIL
        while not other.done():
            np.testing.assert_array_equal(plan.transform(here)[0], want)
    assert other.result() > 0
