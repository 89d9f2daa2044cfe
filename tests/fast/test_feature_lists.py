"""Lists of texts, from the column to the elements, and outputs of texts."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from gateway._fast.feature_program import LONGEST_LIST, Failure
from gateway._fast.unicode_text import TEXT_LIMIT
from gateway.config.features import parse_features
from gateway.core.errors import ConfigurationError, FeatureInputInvalid
from gateway.core.tensors import DataType, TensorSpec
from gateway.features import Plan
from gateway.features.compiler import compile_plan
from tests.fast.feature_outcomes import outcome, plan_of
from tests.reference.features import murmur3_32

MULTI_HOT = {"multi_hot": {"categories": ["a", "b", "é"], "unknown": "ignore"}}
MEGABYTE = 1 << 20


# The column.


def test_column_of_lists_is_published_as_texts_side_by_side():
    (spec,) = plan_of("strings", MULTI_HOT).column_specs
    assert (spec.datatype, spec.shape) == (DataType.BYTES, (-1, -1))


@pytest.mark.parametrize(
    "lists",
    [
        [["a", "é"], ["b"], [], None, ["a", "x"]],
        [("a", "é"), {"b"}, (), None, ("a", "x")],
        [[b"a", "é".encode()], [b"b"], [], None, ["a", b"x"]],
        [["a", "", None, "é"], ["b", ""], [""], [None], ["x", "", "a"]],
        [np.array(["a", "é"]), np.array(["b"], object), np.array([], str), float("nan"), ["a", "x"]],
        np.array([["a", "é"], ["b", ""], ["", ""], ["", ""], ["x", "a"]]),
        np.array([["a", "é"], ["b", None], [None, None], [None, None], ["x", "a"]], object),
        pd.Series([["a", "é"], ["b"], [], None, ["a", "x"]]),
    ],
)
def test_lists_come_as_sequences_or_as_an_array_with_padding(lists):
    page = {"columns": {"c": "strings"}, "outputs": {"x": {"features": [{"column": "c", "steps": [MULTI_HOT]}]}}}
    plan = Plan.from_spec(parse_features(page))
    want = [[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_array_equal(plan.transform({"c": lists}), want)


def test_lists_come_from_frames_and_arrow_tables():
    page = {
        "columns": {"c": "strings", "n": "float"},
        "outputs": {"x": {"features": [{"column": "c", "steps": [MULTI_HOT]}, "n"]}},
    }
    plan = Plan.from_spec(parse_features(page))
    lists, want = [["a", "é"], [], None, ["b"]], [[1, 0, 1, 1], [0, 0, 0, 2], [0, 0, 0, 3], [0, 1, 0, 4]]
    table = pa.table({"n": [1.0, 2.0, 3.0, 4.0], "c": lists})
    nested = pd.ArrowDtype(pa.list_(pa.string()))
    frame = pd.DataFrame({"c": pd.Series(lists, dtype=object), "n": [1.0, 2.0, 3.0, 4.0]})
    for data in (table, frame, frame.astype({"c": nested}), {"c": table["c"], "n": table["n"]}):
        np.testing.assert_array_equal(plan.transform(data), want)


@pytest.mark.parametrize("lists", [["a", "b"], [["a"], "b"], [[1], ["a"]], [3, ["a"]], "ab", np.array(["a"])])
def test_what_is_no_list_of_texts_is_refused(lists):
    page = {"columns": {"c": "strings"}, "outputs": {"x": {"features": [{"column": "c", "steps": [MULTI_HOT]}]}}}
    with pytest.raises(FeatureInputInvalid, match=r"column 'c'.*expected"):
        Plan.from_spec(parse_features(page)).transform({"c": lists})


def test_list_with_a_lone_surrogate_names_its_row():
    with pytest.raises(FeatureInputInvalid, match=r"row 1: column 'c'.*lone surrogate"):
        plan_of("strings", MULTI_HOT).transform({"c": [["a"], ["a", "\ud800"]]})


@pytest.mark.parametrize(
    ("steps", "column", "want"),
    [
        ([MULTI_HOT], {"missing": "error"}, [[1, 0, 0], "FAILURE_MISSING", "FAILURE_MISSING"]),
        (["missing_indicator"], {}, [0, 1, 1]),
        ([{"multi_hot": {"categories": ["a"], "missing": "error"}}], {}, [1, "FAILURE_MISSING", "FAILURE_MISSING"]),
        ([{"hash": {"buckets": 1}}], {}, [1, 0, 0]),
    ],
)
def test_list_without_texts_is_missing(steps, column, want):
    assert outcome(plan_of("strings", *steps, **column), ["a"], [], [""]) == want


def test_optional_column_of_lists_may_be_left_out():
    plan = plan_of("strings", MULTI_HOT, optional=True)
    assert plan.evaluate().tolist() == [[0, 0, 0]]


def test_failed_list_is_shown_in_short():
    plan = plan_of("strings", {"multi_hot": {"categories": ["a", "b"]}})
    with pytest.raises(FeatureInputInvalid) as refused:
        plan.transform({"c": [["a"], ["a", "z" * 100, *"bcdefghij"]]})
    assert str(refused.value).startswith("row 1: column 'c': expected a known category (a, b), came ['a', 'zzz")
    assert str(refused.value).endswith("'b', 'c', 'd', 'e', 'f', 'g', …]")
    assert len(str(refused.value)) < 300


# multi_hot and hash.


def test_unknown_text_of_a_list_fails_its_row_or_does_not_count():
    strict = plan_of("strings", {"multi_hot": {"categories": ["a", "b"]}})
    assert outcome(strict, ["a", "x"], ["b", "b"], []) == ["FAILURE_UNSEEN", [0, 1], [0, 0]]
    tolerant = plan_of("strings", MULTI_HOT, dtype="int64")
    assert outcome(tolerant, ["a", "x"], ["b", "b"], [b"\xff", "é"]) == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert tolerant.feature_names(0) == ["c_a", "c_b", "c_é"]


def test_steps_may_follow_multi_hot_but_not_the_hash_of_a_list():
    scaled = plan_of("strings", MULTI_HOT, {"standard_scale": {"mean": [1, 2, 3]}})
    assert outcome(scaled, ["a"], ["b", "é"], []) == [[0, -2, -3], [-1, -1, -2], [-1, -2, -3]]
    with pytest.raises(ConfigurationError, match="nothing can follow"):
        plan_of("strings", {"hash": {"buckets": 4}}, "log1p")


def test_null_is_no_category_of_a_list():
    with pytest.raises(ConfigurationError, match="`null` cannot be a category"):
        plan_of("strings", {"multi_hot": {"categories": ["a", None]}})


@pytest.mark.parametrize(
    ("kind", "steps", "dtype", "message"),
    [
        ("strings", [], "float32", "ends as a strings, which is no number: add multi_hot or hash"),
        ("strings", [], "string", "a string output takes single texts, but this gives strings"),
        ("strings", [{"one_hot": {"categories": ["a"]}}], "float32", "or bool or string, but is given strings"),
        ("strings", [{"impute": {"value": "a"}}], "float32", "but is given strings"),
        ("string", [{"multi_hot": {"categories": ["a"]}}], "float32", "takes strings, but is given string"),
        ("float", [{"split": {"separator": "|"}}], "float32", "takes string, but is given float"),
        ("float", [], "string", "a string output takes single texts, but this gives float"),
        ("string", [{"one_hot": {"categories": ["a"]}}], "string", "this gives numbers"),
    ],
)  # fmt: skip
def test_list_where_none_fits_is_refused(kind, steps, dtype, message):
    with pytest.raises(ConfigurationError, match=message):
        plan_of(kind, *steps, dtype=dtype)


@given(st.lists(st.lists(st.text(), max_size=6), min_size=1, max_size=70), st.integers(1, 9), st.booleans())
def test_hash_of_a_list_sums_the_signs_of_its_texts(lists, buckets, signed):
    plan = plan_of("strings", {"hash": {"buckets": buckets, "signed": signed}}, dtype="int64")
    want = np.zeros((len(lists), buckets), np.int64)
    for row, texts in enumerate(lists):
        for text in filter(None, texts):
            h = murmur3_32(text.encode(), 0)
            h = h - 2**32 if h >= 2**31 else h
            want[row, abs(h) % buckets] += -1 if h < 0 and signed else 1
    np.testing.assert_array_equal(plan.transform({"c": lists})[0], want)


def test_ten_thousand_unseen_texts_in_a_list():
    plan = plan_of("strings", MULTI_HOT)
    texts = [f"unseen {i}" for i in range(10_000)]
    assert outcome(plan, [*texts, "b"], texts) == [[0, 1, 0], [0, 0, 0]]
    hashed = plan_of("strings", {"hash": {"buckets": 8, "signed": False}})
    assert sum(outcome(hashed, texts)[0]) == 10_000


# split


@pytest.mark.parametrize(
    ("separator", "text", "want"),
    [
        ("|", "a|b|a", {"a": 2, "b": 1}),
        ("|", "|a||b|", {"a": 1, "b": 1}),
        ("|", "a", {"a": 1}),
        ("|", "|", {}),
        (", ", "a, b,a, b", {"a": 1, "b,a": 1, "b": 1}),
        ("aa", "aaabaa", {"ab": 1}),
        ("é", "aéb", {"a": 1, "b": 1}),
        ("ab", "a", {"a": 1}),
        ("ab", "aab", {"a": 1}),
    ],
)
def test_text_is_split_at_separators_from_the_left(separator, text, want):
    assert Counter(piece for piece in text.split(separator) if piece) == want  # as Python has it
    plan = plan_of("string", {"split": {"separator": separator}}, {"hash": {"buckets": 1 << 16, "signed": False}})
    (row,) = plan.transform({"c": [text]})[0]
    counted = {abs(h if h < 2**31 else h - 2**32) % (1 << 16): n for h, n in hashes(want)}
    assert {int(i): int(row[i]) for i in np.flatnonzero(row)} == counted


def hashes(counts):
    return [(murmur3_32(text.encode(), 0), n) for text, n in counts.items()]


@given(st.lists(st.text("ab|é", max_size=12), min_size=1, max_size=130), st.sampled_from(["|", "a", "ab", "é|", "bb"]))
def test_every_text_is_split_as_python_splits_it(texts, separator):
    known = ["a", "b", "ab", "é", "|", "éa"]
    plan = plan_of(
        "string", {"split": {"separator": separator}}, {"multi_hot": {"categories": known, "unknown": "ignore"}}
    )
    want = [[piece in text.split(separator) for piece in known] for text in texts]
    np.testing.assert_array_equal(plan.transform({"c": texts})[0], np.array(want, float))


def test_split_text_without_pieces_is_missing():
    plan = plan_of("string", {"split": {"separator": "|"}}, "missing_indicator")
    assert outcome(plan, "", "|", "a|", "||") == [1, 1, 0, 1]


def test_list_is_as_long_as_it_may_be_and_fails_its_row_when_it_is_longer():
    plan = plan_of("string", {"split": {"separator": "|"}}, {"hash": {"buckets": 4, "signed": False}})
    whole, longer = "|".join(["word"] * LONGEST_LIST), "a|" * (MEGABYTE // 2)
    got = outcome(plan, *[whole, longer] * 40, "a|b")
    assert [row if isinstance(row, str) else sum(row) for row in got] == [LONGEST_LIST, "FAILURE_LONG_LIST"] * 40 + [2]
    sent = plan_of("strings", MULTI_HOT)
    assert outcome(sent, ["a"] * LONGEST_LIST, ["a"] * (LONGEST_LIST + 1)) == [[1, 0, 0], "FAILURE_LONG_LIST"]


def test_lists_of_a_block_that_are_too_large_together_are_computed_row_by_row():
    # A list of 16,384 texts and their codes take 384 KiB of a row: 16 columns of them do not fit into 64 rows' 256 MiB.
    steps = [{"split": {"separator": "|"}}, {"hash": {"buckets": 2, "signed": False}}]
    page = {
        "columns": {f"c{i}": "string" for i in range(16)},
        "outputs": {"x": {"features": [{"column": f"c{i}", "steps": steps} for i in range(16)]}},
    }
    texts = ["a|" * LONGEST_LIST] * 63 + ["a|b", "a|b|c"]
    plan, columns = compile_plan(parse_features(page), Path()), {f"c{i}": texts for i in range(16)}
    (result,) = plan.transform(columns)
    ((values, elements, ends),) = plan.transform_sparse(columns)
    assert np.array_equal(csr_matrix((values, elements, ends), shape=result.shape).toarray(), result)
    assert result.reshape(65, 16, 2).sum(axis=2).tolist() == [[LONGEST_LIST] * 16] * 63 + [[2] * 16, [3] * 16]


# String outputs.


def test_string_output_gives_the_texts():
    plan = plan_of("string", dtype="string")
    assert plan.output_specs[0].datatype == DataType.BYTES
    (result,) = plan.transform({"c": ["a", "", "日本", "x" * MEGABYTE]})
    assert result.dtype == object
    assert result.tolist() == [["a"], [""], ["日本"], ["x" * MEGABYTE]]
    assert plan.transform({"c": []})[0].shape == (0, 1)


def test_string_and_number_outputs_stand_side_by_side():
    page = {
        "columns": {"c": "string", "d": {"type": "string", "optional": True}},
        "outputs": {
            "x": {"dtype": "string", "features": ["c", {"column": "d", "steps": [{"impute": {"value": "filled"}}]}]},
            "y": {"dtype": "int64", "features": [{"column": "c", "steps": [{"hash": {"buckets": 1}}]}]},
        },
    }
    got = Plan.from_spec(parse_features(page)).transform({"c": ["a"] * 1000})
    assert got["x"].tolist() == [["a", "filled"]] * 1000
    assert got["y"].tolist() == [[1]] * 1000


def test_text_that_is_no_utf8_fails_its_row_of_a_string_output():
    plan = plan_of("string", dtype="string")
    failures: list = []
    (result,) = plan.transform({"c": [b"a", b"\xff", b"\xed\xa0\x80", b"b"]}, failures)
    assert result[:, 0].tolist() == ["a", "", "", "b"]
    assert [(row, kind) for row, _, kind, _ in failures] == [
        (1, Failure.FAILURE_NOT_UTF8),
        (2, Failure.FAILURE_NOT_UTF8),
    ]
    assert re.search(r"expected text in UTF-8, came '\\\\xff'", str(failures[0][3]))


def test_texts_of_a_string_output_have_a_limit_together_past_which_each_row_has_its_share():
    """256 MiB in all. Of 40 rows each may have 6 MiB, whatever its neighbours take; 16 MiB are more than that."""
    plan = plan_of("string", {"replace": {"old": "x", "new": "yy"}}, dtype="string")
    large, small = "x" * (TEXT_LIMIT // 2), "x" * (2 * MEGABYTE)
    failures: list = []
    (result,) = plan.transform({"c": [large] * 20 + [small] * 20}, failures)
    assert [(row, kind) for row, _, kind, _ in failures] == [(row, Failure.FAILURE_MEMORY) for row in range(16, 20)]
    sizes = [len(text) for text in result[:, 0]]
    assert sizes == [TEXT_LIMIT] * 16 + [0] * 4 + [4 * MEGABYTE] * 20


def test_string_output_needs_a_graph_that_takes_texts():
    page = {"columns": {"c": "string"}, "outputs": {"x": {"dtype": "string", "features": ["c"]}}}

    spec = parse_features(page)
    plan = compile_plan(spec, Path(), [TensorSpec("x", DataType.BYTES, (-1,))])
    assert plan.transform({"c": ["a", "b"]})[0].tolist() == ["a", "b"]
    with pytest.raises(ConfigurationError, match="is string, but the graph's input is FP32"):
        compile_plan(spec, Path(), [TensorSpec("x", DataType.FP32, (-1, 1))])
