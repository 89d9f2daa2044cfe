"""Whatever memory a column lies in, the loop reads the values that its library would give, one by one."""

from __future__ import annotations

import array
import datetime
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway._fast.lent_columns import arrow_column, arrow_table
from gateway.config.features import parse_features
from gateway.core.errors import FeatureInputInvalid
from gateway.features import Plan

WORDS = ["a", "b", "é", "日本", "x" * 13, "😀"]
STEPS = {
    "string": [{"ordinal": {"categories": WORDS, "unknown": -1}}],
    "timestamp": [{"timestamp_part": {"part": "epoch_seconds"}}],
}
NAN = math.nan


def plan_of(kind):
    feature = {"column": "c", "steps": STEPS.get(kind, [])}
    return Plan.from_spec(
        parse_features({"columns": {"c": kind}, "outputs": {"x": {"dtype": "float64", "features": [feature]}}})
    )


PLANS = {kind: plan_of(kind) for kind in ("float", "int", "bool", "string", "timestamp")}


def elements(kind, values):
    return PLANS[kind].transform({"c": values})[:, 0]


def assert_read_as(kind, values, want):
    np.testing.assert_array_equal(elements(kind, values), np.array(want, float).reshape(-1))


def places(texts):
    return [NAN if not text else WORDS.index(text) if text in WORDS else -1 for text in texts]


# Arrow, in every form it has.

NUMERIC = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
           pa.float16(), pa.float32(), pa.float64()]  # fmt: skip
TEXTUAL = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()]
small = st.lists(st.one_of(st.none(), st.integers(0, 100)), max_size=150)
words = st.lists(st.one_of(st.none(), st.sampled_from([*WORDS, "", "zzz"])), max_size=150)


@st.composite
def cut(draw, values, type_):
    """``values`` as an Arrow array of chunks and slices of longer arrays."""
    ends = sorted(draw(st.lists(st.integers(0, len(values)), max_size=3)))
    chunks = []
    for first, end in zip([0, *ends], [*ends, len(values)], strict=True):
        before, behind = draw(st.integers(0, 9)), draw(st.integers(0, 2))
        filler = values[:1] or [None]
        chunk = pa.array([*filler * before, *values[first:end], *filler * behind], type_)
        chunks.append(chunk.slice(before, end - first))
    return chunks[0] if len(chunks) == 1 else pa.chunked_array(chunks, type_)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_arrow_numbers_are_read_as_they_stand(data):
    """Chunks, slices, gaps, dictionaries: each row is Arrow's value as a float, or missing."""
    values = data.draw(small)
    type_ = data.draw(st.sampled_from(NUMERIC))
    column = data.draw(cut(values, type_))
    if data.draw(st.booleans()) and type_ != pa.float16():
        column = column.dictionary_encode()
    assert_read_as(data.draw(st.sampled_from(["float", "int"])), column, [NAN if v is None else v for v in values])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_arrow_texts_are_read_as_they_stand(data):
    values = data.draw(words)
    type_ = data.draw(st.sampled_from(TEXTUAL))
    column = data.draw(cut(values, type_))
    if data.draw(st.booleans()) and "view" not in str(type_):
        column = column.dictionary_encode()
    assert_read_as("string", column, places(values))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.booleans()), max_size=70), st.data())
def test_arrow_bools_are_read_as_they_stand(values, data):
    column = data.draw(cut(values, pa.bool_()))
    want = [NAN if v is None else v for v in values]
    assert_read_as("bool", column, want)
    assert_read_as("float", column, want)


SECONDS = [0, 1, -1, 86_400 * 365, -86_400 * 3]


@pytest.mark.parametrize(
    ("type_", "counts", "seconds"),
    [
        (pa.timestamp("s"), SECONDS, SECONDS),
        (pa.timestamp("ms"), [1000 * s for s in SECONDS], SECONDS),
        (pa.timestamp("us", "Europe/Berlin"), [10**6 * s for s in SECONDS], SECONDS),
        (pa.timestamp("ns"), [10**9 * s - (s < 0) for s in SECONDS], [s - (s < 0) for s in SECONDS]),
        (pa.date32(), [0, 365, -3], [0, 86_400 * 365, -86_400 * 3]),
        (pa.date64(), [0, 86_400_000 * 365], [0, 86_400 * 365]),
    ],
)
def test_arrow_instants_are_read_in_their_unit(type_, counts, seconds):
    column = pa.array([*counts, None], pa.int32() if type_ == pa.date32() else pa.int64()).view(type_)
    assert_read_as("timestamp", column, [*seconds, NAN])
    assert_read_as("timestamp", column.slice(1), [*seconds[1:], NAN])


def test_an_instant_past_the_calendar_fails_its_row():
    for seconds in (2**62, -(2**62)):
        with pytest.raises(FeatureInputInvalid, match="row 1: column 'c': expected an instant"):
            elements("timestamp", pa.array([0, seconds], pa.timestamp("s")))


def test_arrow_unsigned_integers_past_int64_are_the_floats_they_come_to():
    for values in ([2**63, 1], [2**63, 1, None]):
        assert_read_as("float", pa.array(values, pa.uint64()), [NAN if v is None else v for v in values])
        with pytest.raises(FeatureInputInvalid, match="row 0: column 'c': expected an integer within int64"):
            elements("int", pa.array(values, pa.uint64()))


def test_a_column_of_nothing_is_missing_in_every_kind():
    for kind in PLANS:
        assert_read_as(kind, pa.nulls(3), [NAN] * 3)


@pytest.mark.parametrize("type_", [pa.decimal128(5), pa.list_(pa.int32()), pa.duration("s"), pa.time32("s")])
def test_arrow_types_that_no_column_takes_are_named(type_):
    with pytest.raises(FeatureInputInvalid, match=r"column 'c': Arrow's type .* is not taken: cast it to a float"):
        elements("float", pa.array([None, None], type_))


def test_tables_batches_readers_and_slices_of_them_are_taken():
    plan = Plan.from_spec(
        parse_features(
            {
                "columns": {"n": "float", "t": {"type": "string", "optional": True}},
                "outputs": {"x": {"dtype": "float64", "features": ["n", {"column": "t", "steps": STEPS["string"]}]}},
            }
        )
    )
    table = pa.table({"other": [0, 0, 0, 0], "n": [1, None, 3, 4], "t": ["a", "b", None, "é"]})
    want = [[1, 0], [NAN, 1], [3, NAN], [4, 2]]
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1, 3)])
    for data in (table, table.to_batches()[0], chunked, chunked.to_reader()):
        np.testing.assert_array_equal(plan.transform(data), want)
    np.testing.assert_array_equal(plan.transform(table.slice(1)), want[1:])
    np.testing.assert_array_equal(plan.transform(table.to_batches()[0].slice(2)), want[2:])
    assert plan.transform(table.schema.empty_table()).shape == (0, 2)
    np.testing.assert_array_equal(plan.transform(table.drop_columns("t"))[:, 0], [1, NAN, 3, 4])


def test_a_lone_array_is_no_table():
    with pytest.raises(FeatureInputInvalid, match="a table of named columns is expected, but Int64Array is one column"):
        arrow_table(pa.array([1]))


def test_a_stream_that_fails_says_why():
    def batches():
        yield pa.record_batch({"c": [1.0]})
        raise OSError("the disk is gone")

    reader = pa.RecordBatchReader.from_batches(pa.schema({"c": pa.float64()}), batches())
    with pytest.raises(FeatureInputInvalid, match=r"the Arrow stream failed: .*the disk is gone"):
        PLANS["float"].transform(reader)


def test_arrow_memory_is_borrowed_and_given_back():
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    column = arrow_column(pa.array(np.arange(10_000.0)))
    assert_read_as("float", column, range(10_000))
    assert_read_as("float", column, range(10_000))  # any number of times
    del column
    assert pool.bytes_allocated() == before


# numpy, pandas and the rest.


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=15), max_size=30))
def test_arrays_of_wide_text_are_read_as_their_utf8(texts):
    """Every character of Unicode, but zeros at the end, which numpy does not keep."""
    known = sorted({text.rstrip("\0") for text in texts} - {""})
    steps = [{"ordinal": {"categories": known or ["-"], "unknown": -1}}]
    page = {"columns": {"c": "string"}, "outputs": {"x": {"features": [{"column": "c", "steps": steps}]}}}
    got = Plan.from_spec(parse_features(page)).transform({"c": np.array(texts, dtype=str)})
    want = [known.index(text.rstrip("\0")) if text.rstrip("\0") else NAN for text in texts]
    np.testing.assert_array_equal(got[:, 0], want)


def test_a_lone_surrogate_in_an_array_is_told():
    with pytest.raises(FeatureInputInvalid, match="row 1: column 'c': expected text, came one with a lone surrogate"):
        elements("string", np.array(["a", "\ud800"]))


@pytest.mark.parametrize(
    ("kind", "values", "want"),
    [
        ("float", array.array("d", [1.0, 2.5]), [1, 2.5]),
        ("float", memoryview(array.array("i", [1, 2])), [1, 2]),
        ("float", np.ma.masked_array([1.0, 2.0], [False, True]), [1, NAN]),
        ("int", np.ma.masked_array([1, 2], [True, False]), [NAN, 2]),
        ("string", np.ma.masked_array(["a", "b"], [False, True]), [0, NAN]),
        ("float", np.array([1.0, 2.0]).view(np.recarray), [1, 2]),
        ("float", np.array([[1.0, 9.0], [2.0, 9.0]])[:, :1], [1, 2]),
        ("float", [1, True, None, 2.5, np.float64(3), NAN], [1, 1, NAN, 2.5, 3, NAN]),
        ("float", np.array([np.float32(1.5), np.int8(2)], object), [1.5, 2]),
        ("int", np.array([1, None, True], object), [1, NAN, 1]),
        ("bool", [True, None, 0], [1, NAN, 0]),
        ("string", np.array(["a", "z", "é"])[::2], [0, 2]),
        ("string", np.array([b"a", b"b"])[::-1], [1, 0]),
        ("string", np.array([["a"], [None]], object), [0, NAN]),
        ("string", np.array(["a", "b"], ">U1"), [0, 1]),
        ("string", np.array(["a", "é"], np.dtypes.StringDType()), [0, 2]),
        ("timestamp", np.array(["1970-01-02", "NaT"], "datetime64[D]"), [86_400, NAN]),
        ("timestamp", np.array([10**9, -1], "datetime64[ns]"), [1, -1]),
        ("timestamp", [None, None], [NAN, NAN]),
        ("timestamp", [NAN, 5], [NAN, 5]),
        ("float", pd.Series([1, None], dtype="Int64"), [1, NAN]),
        ("float", pd.Series([1.5, None], dtype="double[pyarrow]"), [1.5, NAN]),
        ("bool", pd.Series([True, None], dtype="boolean"), [1, NAN]),
        ("string", pd.Series(["a", None], dtype="string[pyarrow]"), [0, NAN]),
        ("string", pd.Series(["a", None], dtype="string[python]"), [0, NAN]),
        ("string", pd.Series(["a", None, "é"], dtype="category"), [0, NAN, 2]),
        ("float", pd.Series([2.5, None], dtype="category"), [2.5, NAN]),
        ("string", pd.Series(["a", 3], dtype=object)[:1], [0]),
        ("timestamp", pd.Series(pd.to_datetime(["1970-01-02T00:00+02:00", None])), [86_400 - 7200, NAN]),
        ("timestamp", pd.Series([datetime.date(1970, 1, 2), None]), [86_400, NAN]),
        ("float", pd.Series(pd.arrays.SparseArray([0.0, 1.0])), [0, 1]),
    ],
)  # fmt: skip
def test_columns_are_read_from_whatever_holds_them(kind, values, want):
    assert_read_as(kind, values, want)
    if isinstance(values, pd.Series):
        np.testing.assert_array_equal(PLANS[kind].transform(pd.DataFrame({"c": values}))[:, 0], want)


def test_a_frame_with_one_name_twice_is_refused():
    frame = pd.DataFrame([[1.0, 2.0]], columns=["c", "c"])
    with pytest.raises(FeatureInputInvalid, match="column 'c': the frame has several columns of that name"):
        PLANS["float"].transform(frame)


class FrameOfItsOwn(pd.DataFrame):
    """A frame that has not pandas' inner ways."""

    _get_column_array = None


def test_a_frame_is_read_through_its_series_where_its_blocks_cannot_be_reached():
    whole = pd.DataFrame({"c": pd.Series([1.5, None], dtype="Float64"), "other": ["a", "b"]})
    np.testing.assert_array_equal(PLANS["float"].transform(FrameOfItsOwn(whole)), PLANS["float"].transform(whole))
    with pytest.raises(FeatureInputInvalid, match="column 'c': the frame has several columns of that name"):
        PLANS["float"].transform(FrameOfItsOwn([[1.0, 2.0]], columns=["c", "c"]))


def test_a_series_is_no_table():
    with pytest.raises(FeatureInputInvalid, match="a table of named columns is expected, but Series is one column"):
        PLANS["float"].transform(pd.Series([1.0], name="c"))


def test_more_columns_than_the_stack_holds_are_taken():
    names = [f"c{i}" for i in range(100)]
    page = {"columns": dict.fromkeys(names, "float"), "outputs": {"x": {"features": names}}}
    plan = Plan.from_spec(parse_features(page))
    result = plan.transform({name: np.array([float(i)]) for i, name in enumerate(names)})
    assert result.tolist() == [list(map(float, range(100)))]
