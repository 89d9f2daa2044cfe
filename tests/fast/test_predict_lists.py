"""Rows with lists of texts of any length: they become the tensor that a client would have padded."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway._fast.exchange import exchange_for_test
from gateway._fast.predict_wire import scan_for_test
from gateway._fast.tensor_binding import InputTable
from gateway.core.tensors import DataType, TensorSpec
from tests.fast.test_predict_wire import arrays, refusal, scan


def table(*, optional=False):
    specs = [
        TensorSpec("tags", DataType.BYTES, (-1, -1), optional=optional),
        TensorSpec("price", DataType.FP64, (-1,), optional=True),
    ]
    return InputTable("m", specs, outputs=["y"], batchable=True, columns=True)


ALONE = InputTable("m", [TensorSpec("tags", DataType.BYTES, (-1, -1))], outputs=["y"], batchable=True, columns=True)


def padded(lists):
    width = max([1, *[len(texts or ()) for texts in lists]])
    rows = [[*[(text or "").encode() for text in texts or ()]] for texts in lists]
    return [row + [b""] * (width - len(row)) for row in rows]


texts = st.one_of(st.none(), st.text(max_size=6))
many_lists = st.lists(st.one_of(st.none(), st.lists(texts, max_size=5)), min_size=1, max_size=40)


@given(many_lists)
def test_lists_of_any_lengths_are_padded_whichever_way_they_come(lists):
    want = padded(lists)
    bodies = [
        {"instances": [{"tags": row, "price": 1.5} for row in lists]},
        {"dataframe_records": [{"price": 1.5, "tags": row} for row in lists]},
        {"dataframe_split": {"columns": ["price", "tags"], "data": [[1.5, row] for row in lists]}},
        {"inputs": {"tags": lists, "price": [1.5] * len(lists)}},
    ]
    for body in bodies:
        got = arrays(body, table())
        assert got["tags"].tolist() == want
        assert got["price"].tolist() == [1.5] * len(lists)
    if None not in lists:
        assert arrays({"instances": lists}, ALONE)["tags"].tolist() == want


def test_nan_is_a_list_without_texts_and_bytes_come_in_base64():
    body = b'{"instances": [{"tags": NaN}, {"tags": [{"b64": "/w=="}, "\\u00e9", null]}]}'
    assert arrays(body, table())["tags"].tolist() == [[b"", b"", b""], [b"\xff", "é".encode(), b""]]


def test_rows_may_leave_an_optional_list_out():
    rows = [{"price": 1}, {"price": 2, "tags": ["a", "b"]}, {"price": 3}]
    assert arrays({"instances": rows}, table(optional=True))["tags"].tolist() == [[b"", b""], [b"a", b"b"], [b"", b""]]
    assert "tags" not in arrays({"instances": [{"price": 1}]}, table(optional=True))
    assert "missing input 'tags' in row 1" in refusal({"instances": [{"tags": []}, {"price": 1}]}, table())


@pytest.mark.parametrize(
    ("value", "words"),
    [("a", "'tags' in row 1"), (1, "'tags' in row 1"), ([1], "'tags' in row 1"), ([["a"]], "'tags' in row 1"),
     (True, "'tags' in row 1"), ({"b64": "YQ=="}, "'tags' in row 1")],
)  # fmt: skip
def test_what_is_no_list_of_texts_is_refused_naming_its_row(value, words):
    message = refusal({"instances": [{"tags": ["a"]}, {"tags": value}]}, table())
    assert words in message
    assert "no BYTES" in message


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_body_that_ends_within_a_list_is_refused(cut):
    body = b'{"instances": [{"tags": ["a", "b"]}, {"tags": null}]}'
    exchange, _ = scan(body[:-cut], table())
    assert exchange.error is not None
    assert exchange.input_tensors == []


def test_one_long_list_does_not_multiply_a_body_past_its_limit():
    rows = [{"tags": []}] * 20_000 + [{"tags": ["a"] * 20_000}]
    message = refusal({"instances": rows}, table())
    assert "leave out so many values, the last of input 'tags'" in message


def test_lists_that_rows_leave_out_count_for_all_columns_together():
    """Each of a hundred columns comes but once, in a short list: none is too large by itself."""
    names = [f"c{i}" for i in range(100)]
    specs = [TensorSpec(name, DataType.BYTES, (-1, -1), optional=True) for name in names]
    inputs = InputTable("m", specs, outputs=["y"], batchable=True, columns=True)
    body = json.dumps({"instances": [{name: ["a", "b"] for name in names}, *[{}] * 999]}).encode()
    filled = 100 * 999 * (8 + 2 * 4)

    def scanned(limit):
        exchange = exchange_for_test(body)
        scan_for_test(exchange, inputs, limit=limit)
        return exchange

    assert "the last of input 'c99'" in str(scanned(filled - 1).error)
    assert [shape for _, _, shape, _ in scanned(filled).input_tensors] == [[1000, 2]] * 100


def test_thousands_of_lists_are_read_whole():
    lists = [[f"{row} {k}" for k in range(row % 7)] for row in range(5000)]
    got = arrays(json.dumps({"instances": [{"tags": row} for row in lists]}).encode(), table(optional=True))
    assert got["tags"].shape == (5000, 6)
    np.testing.assert_array_equal(got["tags"], np.array(padded(lists), object))
