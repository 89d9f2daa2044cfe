"""Every row of every exchange arrives in its columns as the frame has it, or as JSON where no column takes it."""

import base64
import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway._fast.exchange import exchange_for_test
from gateway._fast.frame_columns import FrameColumns, FrameSorter
from gateway._fast.record_frames import RecordSchema, fill_exchange_for_test, fingerprint
from gateway._fast.record_ring import ONLOOKER, RingReader, RingWriter, create_ring
from gateway.core.tensors import DataType, TensorSpec
from gateway.recording.columns import table
from gateway.recording.layouts import Layout
from tests.fast.record_makers import (
    MLP_INPUTS,
    MLP_OUTPUTS,
    NOON,
    commit_numbers,
    mlp_exchange,
    mlp_ring,
    numbered_id,
    oip_bytes,
    raw,
)
from tests.reference import record_frames as oracle


class Collected:
    """Columns by layout and day, as a recorder would open them."""

    def __init__(self):
        self.opened = {}

    def __call__(self, schema, day):
        layout = Layout.of(schema)
        columns, schemas = self.opened.setdefault((layout.key, day), (layout.new_columns(layout), []))
        schemas.append(schema)
        return columns, len(schemas) - 1

    def tables(self):
        return [table(columns.owner, columns.take(), schemas) for columns, schemas in self.opened.values()]

    def rows(self):
        return [row for rows in self.tables() for row in rows.to_pylist()]


def sorted_rows(writer):
    collected = Collected()
    sorter = FrameSorter(writer.epoch, collected)
    data = bytes(RingReader(writer.path, ONLOOKER).read(1 << 30))
    assert sorter.feed(data) == len(data)
    assert (sorter.malformed, sorter.repeated, sorter.holes) == (0, 0, 0)
    return collected.rows()


def rows_of(tmp_path, inputs, outputs, exchange, mode="full"):
    """The rows of one exchange of a model with these specs."""
    create_ring(tmp_path / "w0.ring", 1 << 20)
    writer = RingWriter(tmp_path / "w0.ring")
    handle = writer.register_schema("m", "1", "d", inputs, outputs)
    assert writer.commit_for_test(fill_exchange_for_test(exchange_for_test(), **exchange), handle, inputs=mode) >= 0
    return sorted_rows(writer)


def test_each_row_of_a_request_is_a_row_with_its_slice(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    writer.commit_for_test(
        mlp_exchange(3, rows=2, request_id=b"r", caller=b"c", batch_rows=9, snapshot=5, rule=1, trace_flags=1,
                     queued_ns=10, started_ns=1_234, features_ns=7, infer_ns=8), handle, 0,
    )  # fmt: skip
    first, second = sorted_rows(writer)
    assert first["in_x"] == [3, 4, 5, 6]
    assert (first["out_y"], second["out_y"]) == (3.0, 3.5)
    assert second["in_x"] == [7, 8, 9, 10]
    assert second["ts"] == datetime.fromtimestamp((NOON + 3000) / 1e9, UTC)
    expected = {
        "row": 1, "model": "mlp", "version": "1", "digest": "d1", "role": "primary", "rule": "split", "status": "OK",
        "protocol": "grpc", "trace_id": bytes(15) + b"\1", "span_id": bytes(7) + b"\2", "parent_span_id": None,
        "trace_flags": 1, "queue_ns": 1_224, "features_ns": 7, "infer_ns": 8, "rows": 2, "batch_rows": 9,
        "snapshot": 5, "request_id": "r", "caller": "c", "error": None, "inputs_json": None, "outputs_json": None,
    }  # fmt: skip
    assert {name: second[name] for name in expected} == expected
    assert second["prediction_id"].bytes == numbered_id(3)


def test_ids_of_zeros_are_null(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    writer.commit_for_test(mlp_exchange(trace_id=bytes(16), parent_span_id=bytes(7) + b"\5"), handle)
    (row,) = sorted_rows(writer)
    assert (row["trace_id"], row["parent_span_id"]) == (None, bytes(7) + b"\5")


def test_texts_that_are_no_utf8_lose_only_their_strange_bytes(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    writer.commit_for_test(mlp_exchange(request_id=b"a\xffb\x00c", caller="Zoë".encode()), handle)
    (row,) = sorted_rows(writer)
    assert (row["request_id"], row["caller"]) == ("a?b\x00c", "Zoë")


@pytest.mark.parametrize(("status", "name"), [(0, "OK"), (16, "UNAUTHENTICATED"), (17, "UNKNOWN"), (-1, "UNKNOWN")])
def test_statuses_have_the_names_that_grpc_gives_them(tmp_path, status, name):
    writer, handle = mlp_ring(tmp_path)
    writer.commit_for_test(mlp_exchange(), handle, status)
    assert sorted_rows(writer)[0]["status"] == name


NUMBERS = {
    "BOOL": ("?", [True, False, True]), "UINT8": ("u1", [0, 255, 1]), "UINT16": ("<u2", [0, 65535, 1]),
    "UINT32": ("<u4", [0, 2**32 - 1, 1]), "UINT64": ("<u8", [0, 2**64 - 1, 1]), "INT8": ("i1", [-128, 127, 0]),
    "INT16": ("<i2", [-(2**15), 2**15 - 1, 0]), "INT32": ("<i4", [-(2**31), 2**31 - 1, 0]),
    "INT64": ("<i8", [-(2**63), 2**63 - 1, 0]), "FP16": ("<f2", [1.5, -65504.0, 6e-8]),
    "FP32": ("<f4", [1.5, math.inf, -0.0]), "FP64": ("<f8", [0.1, -math.inf, 1e300]),
}  # fmt: skip


@pytest.mark.parametrize("kind", NUMBERS)
def test_every_number_type_has_scalar_and_list_columns(tmp_path, kind):
    dtype, values = NUMBERS[kind]
    data = np.array(values, dtype)
    specs = [TensorSpec("s", DataType[kind], (-1,)), TensorSpec("l", DataType[kind], (-1, 2, 2))]
    lists = np.resize(data, 12)
    rows = rows_of(tmp_path, specs, [], {
        "inputs": [("s", kind, (3,), data.tobytes()), ("l", kind, (3, 2, 2), lists.tobytes())],
        "bound": [0, 1], "rows": 3,
    })  # fmt: skip
    assert [row["in_s"] for row in rows] == data.tolist()
    assert [row["in_l"] for row in rows] == lists.reshape(3, 4).tolist()


def test_brain_floats_are_widened(tmp_path):
    bits = (np.array([1.5, -2.0], "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    rows = rows_of(tmp_path, [TensorSpec("b", DataType.BF16, (-1,))], [], {
        "inputs": [("b", "BF16", (2,), bits)], "bound": [0], "rows": 2,
    })  # fmt: skip
    assert [row["in_b"] for row in rows] == [1.5, -2.0]


@given(st.integers(0, 65535))
@settings(max_examples=300)
def test_half_floats_widen_as_numpy_widens_them(tmp_path_factory, bits):
    data = bits.to_bytes(2, "little")
    (row,) = rows_of(tmp_path_factory.mktemp("ring"), [TensorSpec("h", DataType.FP16, (-1,))], [], {
        "inputs": [("h", "FP16", (1,), data)], "bound": [0],
    })  # fmt: skip
    expected = float(np.frombuffer(data, "<f2")[0])
    assert row["in_h"] == expected or (math.isnan(row["in_h"]) and math.isnan(expected))


def test_strings_have_scalar_and_list_columns(tmp_path):
    specs = [TensorSpec("carrier", DataType.BYTES, (-1,)), TensorSpec("tags", DataType.BYTES, (-1, 2))]
    rows = rows_of(tmp_path, specs, [], {
        "inputs": [("carrier", "BYTES", (2,), oip_bytes(b"UA", "Zoë".encode())),
                   ("tags", "BYTES", (2, 2), oip_bytes(b"", b"b", b"c", b"d"))],
        "bound": [0, 1], "rows": 2,
    })  # fmt: skip
    assert [row["in_carrier"] for row in rows] == ["UA", "Zoë"]
    assert [row["in_tags"] for row in rows] == [["", "b"], ["c", "d"]]


def test_a_model_without_a_batch_has_its_whole_tensor_in_one_row(tmp_path):
    specs = [TensorSpec("x", DataType.FP32, (4,)), TensorSpec("n", DataType.INT64, (1,))]
    rows = rows_of(tmp_path, specs, [], {
        "inputs": [("x", "FP32", (4,), raw([1, 2, 3, 4])), ("n", "INT64", (1,), (5).to_bytes(8, "little"))],
        "bound": [0, 1],
    })  # fmt: skip
    assert [(row["in_x"], row["in_n"]) for row in rows] == [([1, 2, 3, 4], 5)]


def test_rows_of_different_lengths_have_lists_of_different_lengths(tmp_path):
    create_ring(tmp_path / "w0.ring", 1 << 20)
    writer = RingWriter(tmp_path / "w0.ring")
    handle = writer.register_schema("m", "1", "d", [TensorSpec("x", DataType.FP32, (-1, -1))], [])
    for length in (3, 0, 1):
        exchange = fill_exchange_for_test(
            exchange_for_test(), inputs=[("x", "FP32", (2, length), raw(range(2 * length)))], bound=[0], rows=2
        )
        writer.commit_for_test(exchange, handle)
    assert [row["in_x"] for row in sorted_rows(writer)] == [[0, 1, 2], [3, 4, 5], [], [], [0], [1]]


def test_an_absent_optional_input_is_null(tmp_path):
    specs = [TensorSpec(name, DataType.INT64, shape, True) for name, shape in (("a", (-1,)), ("b", (-1, 3)))]
    rows = rows_of(tmp_path, specs, [], {"bound": [-1, -1], "rows": 2})
    assert [(row["in_a"], row["in_b"], row["inputs_json"]) for row in rows] == [(None, None, None)] * 2


# What no column takes.

X = [TensorSpec("x", DataType.FP32, (-1, 2))]


def json_of(rows, side="inputs"):
    assert all(row["in_x"] is None for row in rows if side == "inputs" and "in_x" in row)
    return [None if row[f"{side}_json"] is None else json.loads(row[f"{side}_json"]) for row in rows]


def test_inputs_never_bound_are_json_under_the_names_sent(tmp_path):
    rows = rows_of(tmp_path, X, [], {
        "inputs": [("x", "FP32", (2, 2), raw([1, 2, 3, 4])), ("who?", "INT8", (2,), b"\1\xff"),
                   ("b", "BOOL", (2, 2), b"\1\0\0\1"), ("s", "BYTES", (2,), oip_bytes(b'"q"', b"\n"))],
        "rows": 2,
    })  # fmt: skip
    assert json_of(rows) == [
        {"x": [1, 2], "who?": 1, "b": [True, False], "s": '"q"'},
        {"x": [3, 4], "who?": -1, "b": [False, True], "s": "\n"},
    ]


def test_json_has_neither_nan_nor_infinity(tmp_path):
    for number, (kind, dtype) in enumerate([("FP32", "<f4"), ("FP64", "<f8"), ("FP16", "<f2")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        data = np.array([math.nan, math.inf, -math.inf, 0.5], dtype).tobytes()
        rows = rows_of(folder, X, [], {"inputs": [("x", kind, (1, 4), data)]})
        assert json_of(rows) == [{"x": [None, None, None, 0.5]}]


def test_single_floats_are_spelled_with_their_own_digits(tmp_path):
    rows = rows_of(tmp_path, X, [], {"inputs": [("x", "FP32", (1,), raw([0.1]))]})
    assert rows[0]["inputs_json"] == '{"x":0.1}'


@pytest.mark.parametrize("kind", ["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"])
def test_integers_are_exact_in_json(tmp_path, kind):
    dtype, values = NUMBERS[kind]
    rows = rows_of(tmp_path, X, [], {"inputs": [("i", kind, (1, 3), np.array(values, dtype).tobytes())]})
    assert json_of(rows) == [{"i": values}]


@pytest.mark.parametrize("size", range(7))
def test_bytes_that_are_no_text_are_whole_in_base64(tmp_path, size):
    data = b"\xff" + bytes(range(250, 250 + size))
    specs = [TensorSpec("image", DataType.BYTES, (-1,))]
    (row,) = rows_of(tmp_path, specs, [], {"inputs": [("image", "BYTES", (1,), oip_bytes(data))], "bound": [0]})
    assert row["in_image"] is None
    assert base64.b64decode(json.loads(row["inputs_json"])["image"]["base64"]) == data


def test_fingerprints_are_told_for_every_row(tmp_path):
    data = raw([1, 2, 3, 4])
    exchange = {"inputs": [("x", "FP32", (2, 2), data)], "bound": [0], "rows": 2}
    rows = rows_of(tmp_path, X, [], exchange, "digest")
    told = {"fingerprint": fingerprint(data).hex(), "datatype": "FP32", "shape": [2, 2], "bytes": 16}
    assert json_of(rows) == [{"x": told}] * 2


def test_inputs_that_are_off_are_null(tmp_path):
    exchange = {"inputs": [("x", "FP32", (1, 2), raw([1, 2]))], "bound": [0]}
    (row,) = rows_of(tmp_path, X, [], exchange, "off")
    assert (row["in_x"], row["inputs_json"]) == (None, None)


def test_an_output_without_a_slice_for_each_row_stands_whole_in_the_first(tmp_path):
    rows = rows_of(tmp_path, [], X, {"outputs": [("x", "FP32", (3, 2), raw(range(6)))], "rows": 2})
    assert json_of(rows, "outputs") == [{"x": [0, 1, 2, 3, 4, 5]}, {}]


@pytest.mark.parametrize(
    "sent",
    [
        [("x", "FP64", (1, 2), bytes(16))],
        [("x", "FP32", (1, 2), bytes(8)), ("y", "FP32", (1,), bytes(4))],
    ],
)
def test_outputs_of_another_type_or_number_are_json(tmp_path, sent):
    (row,) = rows_of(tmp_path, [], X, {"outputs": sent})
    assert row["out_x"] is None
    assert json.loads(row["outputs_json"])["x"] == [0, 0]


def test_a_failure_has_its_inputs_and_no_outputs(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    writer.commit_for_test(mlp_exchange(outputs=[], error=RuntimeError("boom")), handle, 13)
    (row,) = sorted_rows(writer)
    assert (row["in_x"], row["out_y"], row["outputs_json"]) == ([0, 1, 2, 3], None, None)
    assert (row["status"], row["error"]) == ("INTERNAL", "RuntimeError: boom")


def test_typed_and_untyped_rows_share_their_columns(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    for number in range(40):
        fields = {"bound": None} if number % 3 == 0 else {}
        writer.commit_for_test(mlp_exchange(number, rows=1 + number % 2, **fields), handle)
    for row in sorted_rows(writer):
        number = int.from_bytes(row["prediction_id"].bytes[12:], "big")
        expected = [number + row["row"] * 4 + i for i in range(4)]
        assert (row["in_x"] or json.loads(row["inputs_json"])["x"]) == expected
        assert (row["in_x"] is None) == (number % 3 == 0)


def test_graph_tensors_sent_past_the_features_have_columns_of_their_own(tmp_path):
    writer, _ = mlp_ring(tmp_path)
    columns = [TensorSpec("a", DataType.FP64, (-1, 1))]
    handle = writer.register_schema("mlp", "1", "d1", columns, MLP_OUTPUTS, raw_inputs=MLP_INPUTS)
    by_column = {"inputs": [("a", "FP64", (1, 1), raw([5], "<f8"))], "bound": [0]}
    for number in range(6):
        fields = {"raw_features": True} if number % 2 else by_column
        writer.commit_for_test(mlp_exchange(number, **fields), handle)
    for row in sorted_rows(writer):
        number = int.from_bytes(row["prediction_id"].bytes[12:], "big")
        assert row["inputs_json"] is None
        assert (row.get("in_a"), row.get("in_x")) == (None, [number + i for i in range(4)]) if number % 2 else (5, None)
    layouts = [Layout.of(handle.schema), Layout.of(handle.raw.schema)]
    assert [Layout.from_json(layout.json) for layout in layouts] == layouts
    assert layouts[0].key != layouts[1].key != Layout("mlp", layouts[1].inputs, layouts[1].outputs).key


SHAPES = st.lists(st.integers(0, 3), max_size=3)


@settings(max_examples=80)
@given(st.lists(st.tuples(st.integers(1, 4), SHAPES, st.sampled_from(["FP32", "INT16", "BYTES", "BOOL"])), max_size=6))
def test_any_mixture_of_shapes_gives_the_rows_that_numpy_slices(tmp_path_factory, requests):
    # Invariant: row r of a request holds slice r of its tensor, flat, wherever the slice lands.
    path, expected = tmp_path_factory.mktemp("ring") / "w0.ring", {}
    create_ring(path, 1 << 20)
    writer = RingWriter(path)
    for number, (rows, tail, kind) in enumerate(requests):
        spec = TensorSpec("x", DataType[kind], (-1, *([-1] * len(tail))))
        handle = writer.register_schema(f"m-{kind}", "1", "", [spec], [])
        shape = (rows, *tail)
        count = math.prod(shape)
        if kind == "BYTES":
            values = np.array([f"v{i}" for i in range(count)], object).reshape(shape)
            data = oip_bytes(*[value.encode() for value in values.ravel()])
        else:
            values = (np.arange(count) % 2).astype(DataType[kind].numpy).reshape(shape)
            data = values.tobytes()
        exchange = fill_exchange_for_test(
            exchange_for_test(),
            inputs=[("x", kind, shape, data)],
            bound=[0],
            rows=rows,
            prediction_id=numbered_id(number),
        )
        writer.commit_for_test(exchange, handle)
        flat = values.reshape(rows, math.prod(tail)).tolist()
        expected |= {(number, r): flat[r] if tail else flat[r][0] for r in range(rows)}
    found = {(row["prediction_id"].bytes[-1], row["row"]): row["in_x"] for row in sorted_rows(writer)}
    assert found == expected


# Sorting.


def test_versions_with_the_same_columns_share_a_table_and_keep_their_names(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    second = writer.register_schema("mlp", "2", "d2", handle.schema.inputs, handle.schema.outputs)
    for number in range(6):
        writer.commit_for_test(mlp_exchange(number), second if number % 2 else handle)
    collected = Collected()
    FrameSorter(writer.epoch, collected).feed(RingReader(writer.path, ONLOOKER).read(1 << 20))
    (rows,) = collected.tables()
    assert rows["version"].to_pylist() == ["1", "2"] * 3
    assert rows["digest"].to_pylist() == ["d1", "d2"] * 3


def test_days_are_kept_apart(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    for day in (0, 1, 0, 2):
        writer.commit_for_test(mlp_exchange(arrival_unix_ns=NOON + day * 86_400 * 10**9), handle)
    collected = Collected()
    FrameSorter(writer.epoch, collected).feed(RingReader(writer.path, ONLOOKER).read(1 << 20))
    assert [rows.num_rows for rows in collected.tables()] == [2, 1, 1]
    assert sorted(day - NOON // 10**9 // 86_400 for _, day in collected.opened) == [0, 1, 2]


def test_feeding_stops_where_columns_are_full_and_goes_on_after_they_are_taken(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, range(25))
    collected = Collected()
    sorter = FrameSorter(writer.epoch, collected, rows_max=10)
    data, at, sizes = RingReader(writer.path, ONLOOKER).read(1 << 20), 0, []
    while (at := sorter.feed(data, at)) < len(data):
        sizes.append(sorter.full.take().rows)
    assert (sizes, sorter.full, sorter.rows, sorter.next_seq) == ([10, 10], None, 25, len(data))
    ((columns, _),) = collected.opened.values()
    assert columns.rows == 5
    assert columns.last_ts - columns.first_ts == 4


def test_a_limit_of_bytes_stops_it_too(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, range(25))
    sorter = FrameSorter(writer.epoch, Collected(), bytes_max=500)
    sorter.feed(RingReader(writer.path, ONLOOKER).read(1 << 20))
    assert 0 < sorter.full.rows < 25


# However many rows a request has, and however much is said of each.


def tables_within(writer, **limits):
    """The tables of everything committed, under these limits of each; and the sorter, at the end of it."""
    collected, tables = Collected(), []
    sorter = FrameSorter(writer.epoch, collected, **limits)
    data, at = bytes(RingReader(writer.path, ONLOOKER).read(1 << 30)), 0
    while (at := sorter.feed(data, at)) < len(data) or sorter.full is not None:
        (schemas,) = {
            id(schemas): schemas for columns, schemas in collected.opened.values() if columns is sorter.full
        }.values()
        tables.append(table(sorter.full.owner, sorter.full.take(), schemas))
    tables += [rows for rows in collected.tables() if rows.num_rows]
    for rows in tables:
        rows.validate(full=True)
    return tables, sorter


def committed(tmp_path, exchanges, specs, **options):
    create_ring(tmp_path / "w0.ring", 1 << 22)
    writer = RingWriter(tmp_path / "w0.ring")
    handle = writer.register_schema("m", "1", "d", specs, [])
    for exchange in exchanges:
        assert writer.commit_for_test(fill_exchange_for_test(exchange_for_test(), **exchange), handle, **options) >= 0
    return writer


MIXED = [
    TensorSpec("n", DataType.FP32, (-1, 3)), TensorSpec("b", DataType.BOOL, (-1,)),
    TensorSpec("h", DataType.FP16, (-1,)), TensorSpec("s", DataType.BYTES, (-1,)),
    TensorSpec("t", DataType.BYTES, (-1, 2)),
]  # fmt: skip


def mixed(rows, number=0, text="v{}", **fields):
    texts = [(text.format(i) * (i % 5)).encode() for i in range(3 * rows)]
    return {
        "inputs": [("n", "FP32", (rows, 3), raw(range(3 * rows))),
                   ("b", "BOOL", (rows,), bytes(i % 2 for i in range(rows))),
                   ("h", "FP16", (rows,), raw(range(rows), "<f2")), ("s", "BYTES", (rows,), oip_bytes(*texts[:rows])),
                   ("t", "BYTES", (rows, 2), oip_bytes(*texts[rows:]))],
        "bound": list(range(5)), "rows": rows, "prediction_id": numbered_id(number), "arrival_unix_ns": NOON,
    } | fields  # fmt: skip


@pytest.mark.parametrize("fields", [{}, {"bound": None}, {"request_id": b"r" * 200}], ids=["typed", "json", "texts"])
@pytest.mark.parametrize("limits", [{"rows_max": 7}, {"bytes_max": 2000}, {"bytes_max": 1}], ids=str)
def test_a_request_of_many_rows_goes_into_several_tables_and_each_row_is_there_once(tmp_path, fields, limits):
    exchanges = [mixed(rows, number, **fields) for number, rows in enumerate((1, 40, 2, 40))]
    writer = committed(tmp_path, exchanges, MIXED)
    (whole,), _ = tables_within(writer)
    tables, sorter = tables_within(writer, **limits)
    assert len(tables) > 10
    assert [row for rows in tables for row in rows.to_pylist()] == whole.to_pylist()
    assert [row["row"] for row in whole.to_pylist()] == [0, *range(40), 0, 1, *range(40)]
    assert (sorter.rows, sorter.exchanges, sorter.malformed, sorter.repeated, sorter.holes) == (83, 4, 0, 0, 0)
    most = limits.get("rows_max", 83)
    assert all(rows.num_rows <= most for rows in tables)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.sampled_from([{}, {"bound": None}, {"error": RuntimeError("boom")}])),
        max_size=4,
    ),
    st.integers(1, 20_000),
)
def test_no_table_passes_its_limit_but_of_one_row(tmp_path_factory, requests, bytes_max):
    exchanges = [mixed(rows, number, **fields) for number, (rows, fields) in enumerate(requests)]
    tables, sorter = tables_within(committed(tmp_path_factory.mktemp("ring"), exchanges, MIXED), bytes_max=bytes_max)
    assert sorter.rows == sum(rows for rows, _ in requests) == sum(rows.num_rows for rows in tables)
    for rows in tables:
        texts = sum(rows[name].nbytes for name in ("inputs_json", "request_id", "error", "in_s"))
        assert rows.num_rows == 1 or texts <= bytes_max


def test_many_models_share_what_memory_there_is(tmp_path):
    create_ring(tmp_path / "w0.ring", 1 << 22)
    writer = RingWriter(tmp_path / "w0.ring")
    for number in range(40):
        handle = writer.register_schema(f"m{number % 10}", "1", "d", X, [])
        exchange = {"inputs": [("x", "FP32", (50, 2), bytes(400))], "bound": [0], "rows": 50}
        writer.commit_for_test(fill_exchange_for_test(exchange_for_test(), **exchange), handle)
    tables, _ = tables_within(writer, bytes_max=1 << 20)
    assert len(tables) == 10
    tables, sorter = tables_within(writer, bytes_max=1 << 20, bytes_in_all=30_000)
    assert sorter.rows == sum(rows.num_rows for rows in tables) == 2000
    # A tenth each, once all ten are known; the dictionaries of statuses and the like come on top.
    assert max(rows.nbytes for rows in tables[len(tables) // 2 :]) <= 30_000 // 10 + 1000


def test_fingerprints_told_for_ten_thousand_rows_are_spread_over_tables(tmp_path):
    # What overflowed: a frame of 400 bytes whose rows take a megabyte and more.
    rows = 10_000
    exchange = {"inputs": [("x", "FP32", (rows, 2), bytes(8 * rows))], "bound": [0], "rows": rows}
    tables, _ = tables_within(committed(tmp_path, [exchange], X, inputs="digest"), bytes_max=1 << 20)
    assert len(tables) > 1
    assert sum(rows.num_rows for rows in tables) == rows
    assert all(rows.nbytes <= 1 << 20 for rows in tables)


def test_a_tensor_that_stands_whole_in_row_0_does_so_in_the_first_table_only(tmp_path):
    exchange = {"outputs": [("x", "FP32", (3, 2), raw(range(6)))], "rows": 9}
    create_ring(tmp_path / "w0.ring", 1 << 20)
    writer = RingWriter(tmp_path / "w0.ring")
    handle = writer.register_schema("m", "1", "d", [], X)
    writer.commit_for_test(fill_exchange_for_test(exchange_for_test(), **exchange), handle)
    tables, _ = tables_within(writer, rows_max=2)
    rows = [row for rows in tables for row in rows.to_pylist()]
    assert json_of(rows, "outputs") == [{"x": [0, 1, 2, 3, 4, 5]}] + [{}] * 8


def test_a_value_that_no_column_takes_is_told_by_its_fingerprint(tmp_path):
    data = raw(range(300))
    exchange = {"inputs": [("x", "FP32", (1, 300), data)]}
    writer = committed(tmp_path, [exchange, exchange | {"bound": [0]}], [TensorSpec("x", DataType.FP32, (-1, -1))])
    (rows,), _ = tables_within(writer, value_max=1000)
    told = {"fingerprint": fingerprint(data).hex(), "datatype": "FP32", "shape": [1, 300], "bytes": 1200}
    assert json_of(rows.to_pylist()) == [{"x": told}] * 2
    (rows,), _ = tables_within(writer, value_max=1500)
    assert [json_of([row]) if row["in_x"] is None else row["in_x"] for row in rows.to_pylist()] == [
        [{"x": told}],
        list(range(300)),
    ]


def test_two_streams_may_share_columns_in_the_middle_of_a_request(tmp_path):
    collected, taken, readers = Collected(), [], []
    for number in range(2):
        (folder := tmp_path / str(number)).mkdir()
        writer = committed(folder, [mixed(20, number, text=f"{number}-{{}}", bound=None)], MIXED)
        data = bytes(RingReader(writer.path, ONLOOKER).read(1 << 30))
        readers.append([FrameSorter(writer.epoch, collected, rows_max=3), data, 0])
    while any(at < len(data) for _, data, at in readers):
        for reader in readers:
            sorter, data, at = reader
            reader[2] = sorter.feed(data, at)
            if sorter.full is not None:
                taken.append(sorter.full.take().rows)
    assert sum(taken) + sum(columns.rows for columns, _ in collected.opened.values()) == 40


def test_frames_met_again_are_dropped_and_missing_ones_noticed(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, range(10))
    data = RingReader(writer.path, ONLOOKER).read(1 << 20)
    starts = [frame.seq for frame in oracle.decode(data, writer.epoch)]
    collected = Collected()
    sorter = FrameSorter(writer.epoch, collected)
    sorter.feed(data[: starts[6]])
    sorter.feed(data[starts[3] : starts[7]])
    sorter.feed(data[starts[8] :])
    assert (sorter.repeated, sorter.holes, sorter.exchanges) == (3, 1, 9)


def test_a_stream_may_be_taken_up_in_its_middle(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, range(10))
    data = RingReader(writer.path, ONLOOKER).read(1 << 20)
    start = oracle.decode(data, writer.epoch)[4].seq
    sorter = FrameSorter(writer.epoch, Collected())
    sorter.know(handle.schema)
    sorter.expect(start)
    sorter.feed(data)
    assert (sorter.repeated, sorter.exchanges, sorter.malformed) == (4, 7, 0)


def test_exchanges_of_a_schema_never_told_are_counted_not_guessed(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, range(10))
    data = RingReader(writer.path, ONLOOKER).read(1 << 20)
    start = oracle.decode(data, writer.epoch)[1].seq
    sorter = FrameSorter(writer.epoch, Collected())
    assert sorter.feed(data, start) == len(data)
    assert (sorter.malformed, sorter.exchanges) == (10, 0)


def test_gaps_are_kept_with_their_times(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, [1])
    writer.note_unlogged_for_test(7)
    commit_numbers(writer, handle, [2])
    sorter = FrameSorter(writer.epoch, Collected())
    sorter.feed(RingReader(writer.path, ONLOOKER).read(1 << 20))
    ((lost, first, last),) = sorter.gaps
    assert lost == 7
    assert 0 < first <= last


def test_columns_that_do_not_belong_to_the_schema_are_refused(tmp_path):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, [1])
    sorter = FrameSorter(writer.epoch, lambda schema, day: (FrameColumns([], []), 0))
    with pytest.raises(ValueError, match="must be made for its inputs"):
        sorter.feed(RingReader(writer.path, ONLOOKER).read(1 << 20))


def test_an_epoch_has_sixteen_bytes():
    with pytest.raises(ValueError, match="16 bytes"):
        FrameSorter(b"short", Collected())


@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_no_rows(data):
    sorter = FrameSorter(bytes(16), Collected())
    sorter.know(RecordSchema.new("m", "1", "", [], []))
    assert sorter.feed(data) == 0
    assert sorter.rows == 0
