"""V1 predict, the request: rows become the version's inputs, or are refused naming row and input."""

import base64
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway._fast.exchange import exchange_for_test
from gateway._fast.predict_wire import scan_for_test
from gateway._fast.tensor_binding import InputTable
from gateway.core.errors import InvalidRequest, MalformedBody, PayloadTooLarge
from gateway.core.tensors import DataType, TensorSpec

COLUMNS = InputTable(
    "flights",
    [
        TensorSpec("carrier", DataType.BYTES, (-1, 1)),
        TensorSpec("distance", DataType.FP64, (-1, 1)),
        TensorSpec("day", DataType.INT64, (-1, 1)),
        TensorSpec("late", DataType.BOOL, (-1, 1), optional=True),
        TensorSpec("wind", DataType.FP64, (-1, 1), optional=True),
        TensorSpec("note", DataType.BYTES, (-1, 1), optional=True),
        TensorSpec("seats", DataType.INT64, (-1, 1), optional=True),
    ],
    outputs=["y"],
    batchable=True,
    columns=True,
)


OPTIONAL = InputTable(
    "m", [TensorSpec("seats", DataType.INT64, (-1, 1), optional=True)], outputs=["y"], batchable=True, columns=True
)


def table(*specs):
    return InputTable("m", specs, outputs=["y"], batchable=True)


def one(datatype="FP32", shape=(-1, 2), name="x"):
    return table(TensorSpec(name, DataType[datatype], shape))


def scan(body, inputs):
    exchange = exchange_for_test(body if isinstance(body, bytes) else json.dumps(body).encode())
    return exchange, scan_for_test(exchange, inputs)


def arrays(body, inputs):
    exchange, _ = scan(body, inputs)
    assert exchange.error is None, exchange.error
    return {name: as_array(datatype, shape, raw) for name, datatype, shape, raw in exchange.input_tensors}


def as_array(datatype, shape, raw):
    if datatype != "BYTES":
        return np.frombuffer(raw, DataType[datatype].numpy).reshape(shape)
    values = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        values.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return np.array(values, object).reshape(shape)


def refusal(body, inputs=COLUMNS):
    exchange, _ = scan(body, inputs)
    assert isinstance(exchange.error, InvalidRequest)
    assert exchange.input_tensors == []
    return str(exchange.error)


def row(**changes):
    return {"carrier": "UA", "distance": 1400, "day": 3} | changes


# Rows of named columns


def test_rows_become_columns_of_the_published_datatypes():
    rows = [row(late=False), row(carrier='é"', distance=-2.5, day=-7, late=True)]
    got = arrays({"instances": rows}, COLUMNS)
    assert got["carrier"].tolist() == [[b"UA"], ['é"'.encode()]]
    assert got["distance"].dtype == "<f8"
    assert got["distance"].tolist() == [[1400.0], [-2.5]]
    assert (got["day"].dtype, got["day"].tolist()) == (np.dtype("<i8"), [[3], [-7]])
    assert got["late"].tolist() == [[False], [True]]
    assert "wind" not in got


COLUMN_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "carrier": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
            "distance": st.none() | st.booleans() | st.floats() | st.integers(-(2**60), 2**60),
            "day": st.integers(-(2**63), 2**63 - 1),
        },
        optional={"wind": st.floats(), "note": st.text(st.characters(exclude_categories=["Cs"]))},
    ),
    min_size=1,
    max_size=40,
)


@given(COLUMN_ROWS, st.randoms())
def test_any_rows_are_read_as_json_and_numpy_read_them(rows, random):
    """Keys in an order of their own in each row; optional ones come and go."""
    shuffled = [dict(random.sample(sorted(fields.items()), len(fields))) for fields in rows]
    got = arrays({"instances": shuffled}, COLUMNS)
    np.testing.assert_array_equal(
        got["distance"].ravel(),
        [float("nan") if fields["distance"] is None else float(fields["distance"]) for fields in rows],
    )
    assert got["day"].ravel().tolist() == [fields["day"] for fields in rows]
    assert got["carrier"].ravel().tolist() == [(fields["carrier"] or "").encode() for fields in rows]
    if any("wind" in fields for fields in rows):
        np.testing.assert_array_equal(got["wind"].ravel(), [fields.get("wind", float("nan")) for fields in rows])
    if any("note" in fields for fields in rows):
        assert got["note"].ravel().tolist() == [fields.get("note", "").encode() for fields in rows]


MISSING = -(2**63)


def test_an_integer_column_with_a_fraction_becomes_floats():
    got = arrays({"instances": [row(day=1), row(day=2.5), row(day=None), row(day=1e3)]}, COLUMNS)["day"].ravel()
    assert got.dtype == "<f8"
    np.testing.assert_array_equal(got, [1.0, 2.5, float("nan"), 1e3])


@pytest.mark.parametrize("missing", ["null", "NaN"])
def test_integers_stay_exact_beside_missing_and_whole_ones(missing):
    body = b'{"instances":[%s]}' % b",".join(
        json.dumps(row(day="@")).replace('"@"', day).encode()
        for day in (str(2**53 + 1), missing, str(-(2**63) + 1), "1e3", "7.0")
    )
    got = arrays(body, COLUMNS)["day"].ravel()
    assert got.dtype == "<i8"
    assert got.tolist() == [2**53 + 1, MISSING, -(2**63) + 1, 1000, 7]


@pytest.mark.parametrize("days", [[2**53 + 1, 0.5], [0.5, 2**53 + 1], [0.5, -(2**53) - 1]])
def test_integers_that_float64_cannot_tell_apart_are_refused_beside_a_fraction(days):
    assert "day" in refusal({"instances": [row(day=day) for day in days]}, COLUMNS)


def test_an_optional_integer_column_missing_from_some_rows_holds_the_missing_integer():
    got = arrays({"instances": [row(), row(seats=2**53 + 1), row()]}, COLUMNS)["seats"].ravel()
    assert got.tolist() == [MISSING, 2**53 + 1, MISSING]


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        ([row(), row(late=True)], [np.nan, 1.0]),
        ([row(late=True), row(late=False), row()], [1.0, 0.0, np.nan]),
        ([row(late=True), row(late=None), row(late=False), row(late=1)], [1.0, np.nan, 0.0, 1.0]),
        ([row(late=float("nan"))], [np.nan]),
    ],
)
def test_a_bool_column_with_a_missing_value_becomes_floats(rows, values):
    got = arrays({"instances": rows}, COLUMNS)["late"].ravel()
    assert got.dtype == "<f8"
    np.testing.assert_array_equal(got, values)


def test_a_graphs_bools_have_no_missing_value():
    assert "null, which is no BOOL" in refusal({"instances": [None]}, one("BOOL", (-1,)))
    assert "NaN, which is no BOOL" in refusal(b'{"instances":[NaN]}', one("BOOL", (-1,)))
    assert "NaN, which is no BYTES" in refusal(b'{"instances":[NaN]}', one("BYTES", (-1,)))


def test_rows_of_nothing_but_optional_columns_are_rows_of_missing_values():
    got = arrays({"instances": [{}, {}, {}]}, OPTIONAL)
    assert list(got) == ["seats"]
    assert got["seats"].ravel().tolist() == [MISSING] * 3


def test_values_that_rows_leave_out_cannot_grow_past_the_limit_of_a_body():
    names = [f"c{i}" for i in range(100)]
    specs = [TensorSpec(name, DataType.FP64, (-1, 1), optional=True) for name in names]
    inputs = InputTable("m", specs, outputs=["y"], batchable=True, columns=True)
    body = json.dumps({"instances": [dict.fromkeys(names, 1), *[{}] * 999]}).encode()

    def scanned(limit):
        exchange = exchange_for_test(body)
        scan_for_test(exchange, inputs, limit=limit)
        return exchange

    assert isinstance(scanned(8 * 100 * 999 - 1).error, PayloadTooLarge)
    assert "the last of input 'c99'" in str(scanned(8 * 100 * 999 - 1).error)
    exchange = scanned(8 * 100 * 999)
    assert exchange.error is None
    assert [shape for _, _, shape, _ in exchange.input_tensors] == [[1000, 1]] * 100


@pytest.mark.parametrize(
    ("name", "values", "want"),
    [
        ("distance", [True, 2.5, False, None], [1.0, 2.5, 0.0, math.nan]),
        ("day", [True, 3, False], [1, 3, 0]),
        ("day", [None, True], [-(2**63), 1]),
        ("day", [2**53 + 1, True, False], [2**53 + 1, 1, 0]),
        ("day", [1.5, True], [1.5, 1.0]),
    ],
)
def test_true_and_false_are_1_and_0_in_columns_of_numbers_as_numpy_has_them(name, values, want):
    got = arrays({"instances": [row(**{name: value}) for value in values]}, COLUMNS)[name].ravel()
    np.testing.assert_array_equal(got, want)


def test_a_word_that_begins_like_true_is_no_json():
    for word in (b"tru", b"fals", b"truth"):
        exchange, _ = scan(b'{"instances": [{"carrier": "UA", "day": 1, "distance": %b}]}' % word, COLUMNS)
        assert isinstance(exchange.error, MalformedBody)


def test_true_is_no_element_of_a_models_own_input_of_numbers():
    for datatype in ("FP64", "INT64"):
        assert f"true, which is no {datatype}" in refusal({"instances": [[1, True]]}, one(datatype))


def test_thousands_of_rows_keep_their_values():
    rows = [row(carrier=f"c{i}" * (i % 5), distance=i / 7, day=i) for i in range(5000)]
    got = arrays({"instances": rows}, COLUMNS)
    assert got["day"].ravel().tolist() == list(range(5000))
    assert got["distance"].ravel().tolist() == [i / 7 for i in range(5000)]
    assert got["carrier"].ravel().tolist() == [(f"c{i}" * (i % 5)).encode() for i in range(5000)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(), row(day="3")], "input 'day' in row 1 for model '' is \"3\", which is no INT64"),
        ([row(day=None), row(day="3")], "input 'day' in row 1 for model '' is \"3\", which is no INT64"),
        ([row(late=True), row(late="yes")], "input 'late' in row 1 for model '' is \"yes\", which is no BOOL"),
        ([row(late=None), row(late="yes")], "input 'late' in row 1 for model '' is \"yes\", which is no BOOL"),
        ([row(late=2)], "2, which is out of range for BOOL"),
        ([row(late=0.5)], "0.5, which is no BOOL"),
        ([row(day=2**63)], "9223372036854775808, which is out of range for INT64"),
        ([row(distance="far")], "which is no FP64"),
        ([row(distance=[1]), row(distance=[1, 2])], "input 'distance' in row 1"),
        ([row(), row(distance=[1])], "row 1 for model '' has another shape"),
        ([row(distance=[1]), row()], "row 1 for model '' has another shape"),
        ([row(carrier=5)], "5, which is no BYTES"),
        ([row(carrier=["a"], distance=1), row(carrier={})], "input 'carrier' in row 1"),
        ([row(), {"carrier": "UA", "day": 3}], "missing input 'distance' in row 1"),
        ([{}], "missing input 'carrier' in row 0"),
        ([row(), row(speed=1)], "unexpected input 'speed' in row 1"),
        ([row(), 5], "row 1 for model '' is 5: expected an object of the model's inputs, of which there are 7"),
        ([[1, 2]], "expected an object"),
        ([None], "expected an object"),
    ],
)
def test_a_bad_row_is_refused_naming_row_and_input(rows, words):
    assert words in refusal({"instances": rows})


def test_an_input_twice_in_a_row_is_refused():
    assert "'day' is given twice in row 0" in refusal(b'{"instances":[{"day":1,"day":2,"carrier":"","distance":1}]}')


def test_a_number_past_a_doubles_range_is_refused():
    assert "out of range for FP64" in refusal(b'{"instances":[{"day":1,"carrier":"","distance":1e999}]}')


# Tensors of a graph


def test_bare_values_are_rows_of_the_only_input():
    assert arrays({"instances": [[1, 2], [3, 4.5]]}, one())["x"].tolist() == [[1, 2], [3, 4.5]]
    assert arrays({"instances": [1, 2]}, one(shape=(-1,)))["x"].tolist() == [1, 2]
    assert arrays({"instances": [1, 2]}, one(shape=(-1, 1)))["x"].tolist() == [[1], [2]]
    assert arrays({"instances": [[1], [2]]}, one(shape=(-1,)))["x"].tolist() == [1, 2]
    assert arrays({"instances": [{"x": [1, 2]}]}, one())["x"].tolist() == [[1, 2]]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.sampled_from(["FP32", "INT8", "UINT16"]))
def test_nested_rows_take_the_shape_that_they_have(shape, datatype):
    array = np.arange(np.prod(shape), dtype=DataType[datatype].numpy).reshape(shape)
    got = arrays({"instances": array.tolist()}, one(datatype, tuple(shape)))["x"]
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype


def test_empty_arrays_keep_their_shape():
    assert arrays({"instances": [[], []]}, one(shape=(-1, -1)))["x"].shape == (2, 0)
    assert arrays({"instances": [[[], []]]}, one(shape=(-1, -1, -1)))["x"].shape == (1, 2, 0)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1, 2], [3]], "input 'x' in row 1"),
        ([[1, [2]]], "input 'x' in row 0"),
        ([[[1], 2]], "input 'x' in row 0"),
        ([[[1, 2], [3]]], "input 'x' in row 0"),
        ([[1, 2], 3], "input 'x' in row 1"),
        ([1, [2]], "input 'x' in row 1"),
        ([[], [1]], "input 'x' in row 1"),
        ([[[[[[[[[1]]]]]]]]], "more than 8 dimensions"),
    ],
)
def test_ragged_values_are_refused(rows, words):
    assert words in refusal({"instances": rows}, one())


def test_integers_are_never_rounded_into_a_tensor():
    assert "300, which is out of range for INT8" in refusal({"instances": [300]}, one("INT8", (-1,)))
    assert "300.0, which is out of range for INT8" in refusal({"instances": [300.0]}, one("INT8", (-1,)))
    assert "-1.0, which is out of range for UINT64" in refusal(b'{"instances":[-1.0]}', one("UINT64", (-1,)))
    assert "1e30, which is out of range for INT64" in refusal(b'{"instances":[1e30]}', one("INT64", (-1,)))
    assert "1.5, which is no INT8: it takes whole numbers only" in refusal({"instances": [1.5]}, one("INT8", (-1,)))
    assert "null, which is no INT64" in refusal({"instances": [None]}, one("INT64", (-1,)))
    assert "NaN, which is no INT64" in refusal(b'{"instances":[NaN]}', one("INT64", (-1,)))


@given(st.sampled_from(["INT8", "UINT8", "INT32", "UINT32", "INT64", "UINT64"]), st.data())
def test_a_whole_number_is_an_integer_however_it_is_written(datatype, data):
    limits = np.iinfo(DataType[datatype].numpy)
    # With a point or exponent 19 digits are read, which all but the largest of UINT64 fit into.
    value = data.draw(st.integers(int(limits.min), min(int(limits.max), 10**19 - 1)))
    shift = data.draw(st.integers(0, 5))
    digits = str(abs(value)).rjust(shift + 1, "0")
    point = f"{digits[: len(digits) - shift]}.{digits[len(digits) - shift :]}0e{shift}"
    text = "-" * (value < 0) + point
    got = arrays(f'{{"instances":[{text}]}}'.encode(), one(datatype, (-1,)))["x"]
    assert got.tolist() == [value]


def test_the_largest_integers_are_taken_without_a_point_and_refused_with_one():
    largest = 2**64 - 1
    assert arrays({"instances": [largest]}, one("UINT64", (-1,)))["x"].tolist() == [largest]
    assert "out of range for UINT64" in refusal(f'{{"instances":[{largest}.0]}}'.encode(), one("UINT64", (-1,)))


def test_half_floats_have_no_json_form():
    assert "FP16, which has no JSON form" in refusal({"instances": [1]}, one("FP16", (-1,)))


def test_bytes_may_come_in_base64():
    inputs = one("BYTES", (-1,))
    for raw in (b"", b"\xff", b"\xff\x00", b"abc", bytes(range(256))):
        for text in (base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode().rstrip("=")):
            assert arrays({"instances": [{"b64": text}, "z"]}, inputs)["x"].tolist() == [raw, b"z"]
            assert arrays({"instances": [{"x": {"b64": text}}]}, inputs)["x"].tolist() == [raw]


def test_an_input_may_be_called_b64():
    assert arrays({"instances": [{"b64": ["a"]}]}, one("BYTES", name="b64"))["b64"].tolist() == [[b"a"]]
    assert arrays({"instances": [{"b64": 1}]}, one("FP32", (-1,), name="b64"))["b64"].tolist() == [1]


@pytest.mark.parametrize("value", [{"b64": "?"}, {"b64": "a"}, {"b64": 1}, {"b64": "", "c": 1}, {"b": ""}, {}])
def test_an_object_that_is_no_base64_is_refused(value):
    assert 'not {"b64"' in refusal({"instances": [{"x": value}]}, one("BYTES", (-1,)))


# {"inputs": …}


def test_inputs_as_an_object_hold_whole_tensors():
    inputs = table(TensorSpec("a", DataType.FP32, (-1, 2)), TensorSpec("b", DataType.INT32, (-1,)))
    exchange, form = scan({"inputs": {"b": [1, 2], "a": [[1, 2], [3, 4]]}}, inputs)
    assert form == "outputs"
    assert [tensor[0] for tensor in exchange.input_tensors] == ["a", "b"]
    assert arrays({"inputs": {"b": [], "a": [[1, 2]]}}, inputs)["b"].shape == (0,)


def test_inputs_as_a_list_are_rows_and_answered_under_both_keys():
    exchange, form = scan({"inputs": [[1, 2]]}, one())
    assert (form, exchange.error) == ("both", None)
    assert scan({"instances": [[1, 2]]}, one())[1] == "predictions"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"inputs": {"x": 5}}, "input 'x' for model '' must be an array"),
        ({"inputs": {"y": [[1, 2]]}}, "unexpected input 'y' in \"inputs\""),
        ({"inputs": {}}, "missing input 'x' in \"inputs\""),
        ({"inputs": 5}, "'inputs' must be an array of rows"),
        ({"inputs": None}, "'inputs' must be an array of rows"),
        ({"instances": {}}, "'instances' must be an array of rows"),
        ({"instances": []}, "'instances' for model '' has no rows"),
        ({"inputs": []}, "'inputs' for model '' has no rows"),
        ({"instances": [[1, 2]], "inputs": [[1, 2]]}, 'exactly one of "instances", "inputs", "dataframe_split" and'),
        ({"instances": [[1, 2]], "inputs": [[1, 2]]}, "found 2"),
        ({"dataframe_records": [{"x": [1, 2]}], "instances": [[1, 2]]}, "found 2"),
        ({"dataframe_records": [{"x": [1, 2]}], "dataframe_split": {}}, "found 2"),
        ({"instances": [[1, 2]], "a": 1, "inputs": {"x": [[1, 2]]}}, "found 2"),
        ({"signature_name": "serving_default"}, "found 0"),
        ([], "must be an object"),
    ],
)
def test_a_request_of_another_form_is_refused(body, words):
    assert words in refusal(body, one())


SCALARS = table(TensorSpec("a", DataType.FP32, ()), TensorSpec("b", DataType.INT32, (-1,)))


def test_a_tensor_without_dimensions_is_a_bare_value():
    got = arrays({"inputs": {"a": 2.5, "b": [1, 2]}}, SCALARS)
    assert (got["a"].shape, got["a"], got["b"].tolist()) == ((), 2.5, [1, 2])
    exchange, form = scan({"inputs": 7}, one("INT8", ()))
    assert (form, exchange.input_tensors) == ("outputs", [("x", "INT8", [], b"\7")])
    assert arrays({"inputs": {"b64": "YQ=="}}, one("BYTES", ()))["x"] == b"a"
    assert "'b' for model '' must be an array" in refusal({"inputs": {"a": 1, "b": 2}}, SCALARS)
    assert "'a' is given twice" in refusal(b'{"inputs":{"a":1,"a":2,"b":[1]}}', SCALARS)


@pytest.mark.parametrize("name", ["", "serving_default", "tensorflow/serving/predict"])
@pytest.mark.parametrize("first", [True, False])
def test_the_one_signature_may_be_named(name, first):
    body = {"instances": [[1, 2]]}
    body = {"signature_name": name, **body} if first else {**body, "signature_name": name}
    assert arrays(body, one())["x"].tolist() == [[1, 2]]


@pytest.mark.parametrize("name", ["serving_defaults", "Serving_Default", 'a"b', "tensorflow/serving/regress"])
def test_another_signature_is_refused_in_tensorflow_servings_words(name):
    words = refusal({"instances": [[1, 2]], "signature_name": name}, one())
    assert words.startswith(f'Serving signature name: "{name}" not found in signature def')
    assert "'signature_name' must be a string, not 5" in refusal({"signature_name": 5, "instances": [[1, 2]]}, one())


@pytest.mark.parametrize("value", [None, 5, [1], {}, {"a": {"features": "raw"}}])
def test_parameters_beside_rows_are_nobodys(value):
    for body in ({"parameters": value, "instances": [[1, 2]]}, {"instances": [[1, 2]], "parameters": value}):
        assert arrays(body, one())["x"].tolist() == [[1, 2]]


@pytest.mark.parametrize("value", ["raw", "columns", None])
def test_rows_cannot_be_said_to_be_finished_tensors(value):
    told = {"parameters": {"a": 1, "features": value}}
    for body in (told | {"instances": [[1, 2]]}, {"inputs": {"x": [[1, 2]]}} | told):
        assert "the parameter 'features' is not taken with rows" in refusal(body, one())


def test_an_input_twice_is_refused():
    assert "given twice" in refusal(b'{"inputs":{"x":[[1,2]],"x":[[1,2]]}}', one())


@pytest.mark.parametrize("body", [b"", b"{", b'{"instances":[1', b'{"instances":[[1,2]]} x', b'{"instances":[[1,2],]}'])
def test_what_is_no_json_is_refused(body):
    exchange, _ = scan(body, one())
    assert isinstance(exchange.error, MalformedBody)


def test_without_a_model_nothing_is_read_and_routing_says_why():
    exchange, _ = scan(b"no JSON at all", None)
    assert (exchange.error, exchange.input_tensors) == (None, [])


FRAGMENTS = st.sampled_from(
    [
        *b'{ } [ ] , : "instances" "inputs" "carrier" "distance" "day" "b64" "UA" 1 -2.5 null true'.split(),
        *b'{"instances":[ {"inputs":{ {"carrier":"UA","distance":1,"day":'.split(),
    ]
)


@given(
    st.lists(st.one_of(FRAGMENTS, st.binary(max_size=3)), max_size=40), st.sampled_from([COLUMNS, one(), one("BYTES")])
)
def test_any_bytes_are_read_or_refused(pieces, inputs):
    exchange, _ = scan(b"".join(pieces), inputs)
    assert exchange.error is None or isinstance(exchange.error, InvalidRequest)


@given(st.integers(0, 200), st.binary(max_size=3))
def test_a_valid_request_with_any_bytes_changed_is_read_or_refused(at, junk):
    valid = json.dumps({"instances": [row(carrier="é\n", late=True), row(distance=None)]}).encode()
    body = valid[:at] + junk + valid[at + len(junk) :]
    exchange, _ = scan(body, COLUMNS)
    if exchange.error is None:
        json.loads(body)
