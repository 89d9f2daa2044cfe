"""What the steps that know categories make of odd values; each outcome that the catalogue states."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import ConfigurationError
from tests.fast.feature_outcomes import outcome, plan_of
from tests.reference.features import murmur3_32

NAN, INF, MISSING = math.nan, math.inf, -(2**63)


def same(got, want):
    """Row by row: a failure's name, or elements, of which NaN is the same as NaN."""
    return len(got) == len(want) and all(
        one == other if isinstance(one, str) or isinstance(other, str) else np.array_equal(one, other, equal_nan=True)
        for one, other in zip(got, want, strict=True)
    )


# one_hot


@pytest.mark.parametrize(
    ("arguments", "names", "want"),
    [
        ({}, ["c_a", "c_b", "c_infrequent_sklearn"], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]),
        ({"drop": ["a"]}, ["c_b", "c_infrequent_sklearn"], [[0, 0], [1, 0], [0, 1], [0, 1]]),
        ({"drop": ["x"]}, ["c_a", "c_b"], [[1, 0], [0, 1], [0, 0], [0, 0]]),
        ({"drop": ["y", "a"]}, ["c_b"], [[0], [1], [0], [0]]),
    ],
)
def test_drop_and_infrequent_together_take_away_the_place_of_what_is_dropped(arguments, names, want):
    step = {"one_hot": {"categories": ["a", "b"], "infrequent": ["x", "y"], "unknown": "infrequent", **arguments}}
    plan = plan_of("string", step)
    assert plan.feature_names(0) == names
    np.testing.assert_array_equal(plan.transform({"c": ["a", "b", "x", "unseen"]})[0], want)


@pytest.mark.parametrize(
    ("kind", "categories", "arguments", "names"),
    [
        ("float", [0.5, 2, None], {}, ["c_0.5", "c_2.0", "c_nan"]),
        ("int", [1, None], {}, ["c_1", "c_None"]),
        ("bool", [False, True], {}, ["c_False", "c_True"]),
        ("string", ["é", None], {"missing_name": "nan"}, ["c_é", "c_nan"]),
        ("string", ["é", None], {"missing_name": ""}, ["c_é", "c_"]),
    ],
)
def test_elements_are_named_as_scikit_learn_names_them(kind, categories, arguments, names):
    assert plan_of(kind, {"one_hot": {"categories": categories, **arguments}}).feature_names(0) == names


# ordinal


def test_ordinal_with_a_fraction_among_its_outcomes_gives_floats():
    step = {"ordinal": {"categories": ["a", "b"], "infrequent": ["x"], "unknown": -0.5, "missing": 2.0**40}}
    assert outcome(plan_of("string", step), "a", "b", "x", "unseen", "") == [0.0, 1.0, 2.0, -0.5, 2.0**40]
    known_missing = {"ordinal": {"categories": [None, "a"], "unknown": 0.25, "missing": "error"}}
    assert outcome(plan_of("string", known_missing), "", "a", "unseen") == [0.0, 1.0, 0.25]
    one_fails = {"ordinal": {"categories": ["a"], "unknown": 0.5, "missing": "error"}}
    assert outcome(plan_of("string", one_fails), "a", "", "b") == [0.0, "FAILURE_MISSING", 0.5]
    with pytest.raises(ConfigurationError, match="an int64 output takes"):
        plan_of("string", step, dtype="int64")


# target_encode, frequency_encode

TARGET = {"categories": ["a", "b"], "encodings": [1.5, -2.0], "mean": 0.25}


@pytest.mark.parametrize(
    ("arguments", "values", "want"),
    [
        (TARGET, ["a", "b", "unseen", "", "b" * 9], [1.5, -2.0, 0.25, 0.25, 0.25]),
        ({**TARGET, "categories": ["a", None]}, ["a", "", "unseen"], [1.5, -2.0, 0.25]),
        ({**TARGET, "unknown": "error"}, ["a", "unseen", ""], [1.5, "FAILURE_UNSEEN", 0.25]),
        ({**TARGET, "missing": "error"}, ["a", "unseen", ""], [1.5, 0.25, "FAILURE_MISSING"]),
    ],
)
def test_target_encode_gives_the_numbers_of_training_and_the_mean(arguments, values, want):
    assert outcome(plan_of("string", {"target_encode": arguments}), *values) == want


def test_target_encode_of_numbers_takes_zeros_of_both_signs_and_infinity_as_unseen():
    step = {"target_encode": {**TARGET, "categories": [0, 2.5]}}
    assert outcome(plan_of("float", step), 0.0, -0.0, 2.5, INF, -INF, NAN) == [1.5, 1.5, -2.0, 0.25, 0.25, 0.25]
    step = {"target_encode": {**TARGET, "categories": [False, True]}}
    assert outcome(plan_of("bool", step), 0, 1, MISSING, dtype="i8") == [1.5, -2.0, 0.25]


def test_target_encode_of_several_classes_gives_an_element_for_each():
    step = {"target_encode": {"categories": ["a", "b"], "encodings": [[1, 2], [3, 4]], "mean": [5, 6],
                              "classes": ["no", "yes"]}}  # fmt: skip
    plan = plan_of("string", step)
    assert plan.feature_names(0) == ["c_no", "c_yes"]
    assert outcome(plan, "a", "b", "unseen") == [[1, 3], [2, 4], [5, 6]]


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        ({}, [6.0, 2.0, 0.0, 0.0]),
        ({"normalize": True}, [0.75, 0.25, 0.0, 0.0]),
        ({"unknown": "error", "missing": "nan"}, [6.0, 2.0, "FAILURE_UNSEEN", NAN]),
        ({"unknown": 0.5, "missing": "error"}, [6.0, 2.0, 0.5, "FAILURE_MISSING"]),
        ({"categories": ["a", None]}, [6.0, 0.0, 0.0, 2.0]),
    ],
)
def test_frequency_encode_gives_counts_or_shares(arguments, want):
    step = {"frequency_encode": {"categories": ["a", "b"], "counts": [6, 2], **arguments}}
    got = outcome(plan_of("string", step), "a", "b", "unseen", "")
    assert all(g == w or (g != g and w != w) for g, w in zip(got, want, strict=True))


def in_file(folder, name, text):
    (folder / name).write_bytes(text.encode())
    return {"file": name, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def test_encodings_of_many_categories_stand_in_a_file(tmp_path):
    vocabulary = in_file(tmp_path, "v.txt", "".join(f"k{i}\n" for i in range(5000)))
    encodings = in_file(tmp_path, "e.txt", "".join(f"{i / 7!r} {-i}\n" for i in range(5000)))
    step = {"target_encode": {"vocabulary": vocabulary, "encodings": encodings, "mean": [1, 2], "classes": ["p", "q"]}}
    plan = plan_of("string", step, folder=tmp_path)
    assert outcome(plan, "k4999", "k7", "k5000") == [[4999 / 7, -4999], [1.0, -7.0], [1.0, 2.0]]
    counts = in_file(tmp_path, "c.txt", "".join(f"{i}\n" for i in range(5000)))
    plan = plan_of("string", {"frequency_encode": {"vocabulary": vocabulary, "counts": counts}}, folder=tmp_path)
    assert outcome(plan, "k4999", "k0", "?") == [4999.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"target_encode": {**TARGET, "encodings": [1.0]}}, "`encodings` has 1 numbers for 2 categories"),
        ({"target_encode": {**TARGET, "mean": [1, 2]}}, "`encodings` are for 1 classes, `mean` is for 2"),
        ({"target_encode": {**TARGET, "classes": ["p", "q"]}}, "`classes` names 2"),
        ({"target_encode": {**TARGET, "encodings": [[1, 2], [3, 4]], "mean": [1, 2]}}, "`classes` names 0"),
        ({"frequency_encode": {"categories": ["a"], "counts": [-1]}}, "`counts` has -1.0, which no count is"),
        ({"frequency_encode": {"categories": ["a"], "counts": [0], "normalize": True}}, "all 0"),
        (
            {"frequency_encode": {"categories": ["a", "b"], "counts": [1e308, 1e308], "normalize": True}},
            "together are more than a float64 holds",
        ),
        (
            {"vocabulary_id": {"categories": ["a", "b"], "first_oov_id": 1}},
            "from 1 on, are those of categories, 0 to 1",
        ),
        ({"vocabulary_id": {"categories": ["a"], "first_id": 2, "first_oov_id": 1, "oov_buckets": 2}}, "2 to 2"),
        ({"vocabulary_id": {"categories": ["a", "a"]}}, "a category stands twice: a"),
    ],
)
def test_encoder_whose_arguments_do_not_fit_each_other_is_refused(step, message):
    with pytest.raises(ConfigurationError, match=message):
        plan_of("string", step)


@pytest.mark.parametrize("text", ["1\nx\n", "1\n\n", "1\nnan\n", "1\ninf\n", "1\n2 3\n", "1\n"])
def test_file_of_numbers_that_is_not_one_of_numbers_is_refused(text, tmp_path):
    counts = in_file(tmp_path, "c.txt", text)
    with pytest.raises(ConfigurationError, match=r"finite numbers|unlike counts|has 1 numbers for 2"):
        plan_of("string", {"target_encode": {"categories": ["a", "b"], "encodings": counts, "mean": 1}},
                folder=tmp_path)  # fmt: skip


# vocabulary_id


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        ({}, [0, 1, 2, "FAILURE_MISSING"]),
        ({"oov_buckets": 0}, [0, 1, "FAILURE_UNSEEN", "FAILURE_MISSING"]),
        ({"first_id": 2, "first_oov_id": 1, "missing": 0}, [2, 3, 1, 0]),
        ({"categories": ["a", None]}, [0, 2, 2, 1]),
        ({"missing": 99}, [0, 1, 2, 99]),
    ],
)
def test_vocabulary_id_gives_ids_as_embeddings_take_them(arguments, want):
    step = {"vocabulary_id": {"categories": ["a", "b"], **arguments}}
    assert outcome(plan_of("string", step, dtype="int64"), "a", "b", "unseen", "") == want


@given(st.text(min_size=1), st.integers(1, 1000))
def test_unseen_value_gets_the_id_that_its_hash_says(text, buckets):
    step = {"vocabulary_id": {"categories": ["a word"], "oov_buckets": buckets}}
    (got,) = outcome(plan_of("string", step, dtype="int64"), text)
    assert got == (0 if text == "a word" else 1 + murmur3_32(text.encode(), 0) % buckets)


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_unseen_integer_is_hashed_as_its_decimal_text(value):
    step = {"vocabulary_id": {"categories": [7], "first_id": 100, "first_oov_id": 0, "oov_buckets": 10}}
    (got,) = outcome(plan_of("int", step, dtype="int64"), value, dtype="i8")
    assert got == (100 if value == 7 else murmur3_32(str(value).encode(), 0) % 10)


def test_ten_thousand_unseen_values_spread_over_their_buckets():
    step = {"vocabulary_id": {"categories": ["a"], "oov_buckets": 16}}
    plan = plan_of("string", step, dtype="int64")
    ids = plan.transform({"c": [f"unseen {i}" for i in range(10_000)]})[0][:, 0]
    counts = np.bincount(ids, minlength=17)
    assert counts[0] == 0
    assert counts[1:].min() > 400


def test_megabyte_text_and_invalid_utf8_are_unseen():
    step = {"vocabulary_id": {"categories": ["a"], "oov_buckets": 7}}
    texts = [b"x" * (1 << 20), b"\xff\xfe", b"a\x00"]
    got = plan_of("string", step, dtype="int64").transform({"c": texts})[0][:, 0].tolist()
    assert got == [1 + murmur3_32(text, 0) % 7 for text in texts]
    assert outcome(plan_of("string", {"target_encode": TARGET}), *texts) == [0.25] * 3


TEXTS = {"categories": ["a", "b"]}
FLOATS = {"categories": [0.0, 2.5]}
INTS = {"categories": [0, 3]}
BOOLS = {"categories": [True]}
ENCODED = {"encodings": [0.5, 1.5], "mean": 9.0}


@pytest.mark.parametrize(
    ("kind", "step", "values", "want"),
    [
        ("float", {"one_hot": FLOATS}, [INF, -0.0], ["FAILURE_UNSEEN", [1, 0]]),
        ("float", {"one_hot": FLOATS | {"missing": "error"}}, [NAN], ["FAILURE_MISSING"]),
        ("float", {"one_hot": FLOATS | {"infrequent": [7.0], "unknown": "infrequent"}}, [-INF, 7.0], [[0, 0, 1]] * 2),
        ("int", {"one_hot": INTS | {"missing": "error"}}, [MISSING, 3], ["FAILURE_MISSING", [0, 1]]),
        ("int", {"one_hot": INTS | {"unknown": "ignore"}}, [2**63 - 1, -(2**63) + 1], [[0, 0]] * 2),
        ("bool", {"one_hot": BOOLS | {"missing": "ignore"}}, [MISSING, 1, 0], [0, 1, "FAILURE_UNSEEN"]),
        ("string", {"one_hot": TEXTS | {"missing": "error"}}, ["", "b", "c"],
         ["FAILURE_MISSING", [0, 1], "FAILURE_UNSEEN"]),
        ("float", {"ordinal": FLOATS | {"missing": "error"}}, [NAN, INF, -0.0],
         ["FAILURE_MISSING", "FAILURE_UNSEEN", 0]),
        ("float", {"ordinal": FLOATS | {"unknown": "nan"}}, [INF, 1.0, 2.5], [NAN, NAN, 1]),
        ("int", {"ordinal": INTS | {"unknown": -1, "missing": -2}}, [MISSING, 7, 3], [-2, -1, 1]),
        ("bool", {"ordinal": BOOLS | {"unknown": -1, "missing": -2}}, [MISSING, 0, 1], [-2, -1, 0]),
        ("string", {"ordinal": TEXTS | {"infrequent": ["r"], "unknown": "infrequent"}}, ["", "r", "z", "a"],
         [NAN, 2, 2, 0]),
        ("float", {"is_in": FLOATS}, [NAN, INF, -0.0, 1.0], [NAN, 0, 1, 0]),
        ("int", {"is_in": {"categories": [0, None]}}, [MISSING, 0, 5], [1, 1, 0]),
        ("bool", {"is_in": BOOLS}, [MISSING, 0, 1], [NAN, 0, 1]),
        ("int", {"target_encode": INTS | ENCODED}, [MISSING, 2**63 - 1, 3], [9, 9, 1.5]),
        ("int", {"target_encode": INTS | ENCODED | {"missing": "error", "unknown": "error"}}, [MISSING, 1, 0],
         ["FAILURE_MISSING", "FAILURE_UNSEEN", 0.5]),
        ("float", {"frequency_encode": FLOATS | {"counts": [3, 1], "unknown": "nan", "missing": 7}}, [NAN, INF, 2.5],
         [7, NAN, 1]),
        ("float", {"frequency_encode": FLOATS | {"counts": [3, 1], "unknown": "error", "missing": "error"}},
         [NAN, -INF, -0.0], ["FAILURE_MISSING", "FAILURE_UNSEEN", 3]),
        ("bool", {"frequency_encode": BOOLS | {"counts": [4]}}, [MISSING, 0, 1], [0, 0, 4]),
        ("bool", {"vocabulary_id": BOOLS | {"oov_buckets": 0, "missing": 5}}, [MISSING, 0, 1],
         [5, "FAILURE_UNSEEN", 0]),
        ("int", {"vocabulary_id": INTS}, [MISSING, 3, 2**63 - 1], ["FAILURE_MISSING", 1, 2]),
    ],
)  # fmt: skip
def test_missing_infinite_and_unseen_values_have_their_stated_outcome(kind, step, values, want):
    dtypes = {"float": np.float64, "int": np.int64, "bool": np.int64, "string": None}
    got = outcome(plan_of(kind, step), *values, dtype=dtypes[kind])
    assert same(got, want), got
