"""One SELECT over everything recorded so far, and no way to anything else."""

import json
import math
import os
from contextlib import ExitStack
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from gateway._fast.exchange import exchange_for_test
from gateway._fast.record_frames import fill_exchange_for_test
from gateway.core.errors import DeadlineExceeded, InvalidRequest, Unavailable
from gateway.core.tensors import DataType, TensorSpec
from gateway.recording import query as query_module
from gateway.recording import query_child, unbuilt
from gateway.recording.query import Limits, ask, plain
from gateway.recording.views import PREDICTIONS, model_view_names
from tests.fast.record_makers import MLP_INPUTS, MLP_OUTPUTS, NOON, mlp_exchange, numbered_id, oip_bytes, raw

CONTRACT = [
    "prediction_id", "row", "request_id", "ts", "model", "version", "role", "rule", "status", "caller", "trace_id",
    "span_id", "queue_us", "features_us", "infer_us", "total_us", "batch_rows", "snapshot", "digest", "inputs",
    "outputs",
]  # fmt: skip


class Questions:
    """The views of a record in a database of this process: what the child has, without its start."""

    def __init__(self, record, keep):
        self.database = keep.enter_context(duckdb.connect(":memory:"))
        self.database.execute("SET TimeZone = 'UTC'")
        scratch = record.state_dir.parent / "scratch"
        scratch.mkdir(exist_ok=True)
        query_child.lay_out_record(self.database, record.place, scratch, keep)

    def __call__(self, sql):
        relation = self.database.sql(sql)
        return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


@pytest.fixture
def questions(record):
    with ExitStack() as keep:
        yield lambda: Questions(record, keep)


def in_three_places(record):
    """Ten exchanges: four in a part, three in a segment, three in the ring."""
    record.commit(range(4))
    record.copy()
    record.build()
    record.commit(range(4, 7))
    record.copy()
    record.commit(range(7, 10))


# The views.


def test_predictions_has_the_promised_columns_and_types_even_when_empty(record, questions):
    columns = questions()("DESCRIBE predictions")
    assert [column["column_name"] for column in columns] == CONTRACT == list(PREDICTIONS)
    types = {column["column_name"]: column["column_type"] for column in columns}
    assert (types["ts"], types["version"], types["inputs"]) == ("TIMESTAMP WITH TIME ZONE", "VARCHAR", "JSON")
    record.commit(range(1))
    assert questions()("DESCRIBE predictions") == columns


def test_rows_of_all_three_places_are_there_once(record, questions):
    in_three_places(record)
    rows = questions()("SELECT prediction_id, row, role, version FROM predictions")
    assert len({tuple(row.values()) for row in rows}) == len(rows) == 10


def test_a_row_reads_as_what_happened(record, questions):
    fields = {"request_id": b"r", "caller": b"c", "queued_ns": 1000, "started_ns": 3500, "rule": 2, "snapshot": 4}
    record.commit(range(3, 4), rows=2, **fields)
    first, second = questions()("SELECT * FROM predictions ORDER BY row")
    assert json.loads(first["inputs"]) == {"x": [3, 4, 5, 6]}
    assert json.loads(second["outputs"]) == {"y": 3.5}
    expected = {
        "row": 1, "request_id": "r", "caller": "c", "queue_us": 2.5, "rule": "sticky", "status": "OK", "snapshot": 4,
        "model": "mlp", "version": "1", "role": "primary", "span_id": "0000000000000002", "digest": "d1",
    }  # fmt: skip
    assert {name: second[name] for name in expected} == expected
    assert str(second["prediction_id"]) == "01936d5e-7c1a-7c3e-9f6b-000000000003"


def test_a_failures_reason_is_in_records(record, questions):
    record.commit(range(1), error=RuntimeError("boom"), outputs=[])
    (row,) = questions()("SELECT status, error, outputs, protocol FROM records")
    assert row == {"status": "OK", "error": "RuntimeError: boom", "outputs": None, "protocol": "grpc"}


def test_what_fits_no_column_is_still_in_the_json(record, questions):
    record.commit(range(1), bound=None)
    record.commit(range(1, 2))
    record.copy()
    record.build()
    rows = questions()("SELECT inputs FROM predictions ORDER BY prediction_id")
    assert [json.loads(row["inputs"]) for row in rows] == [{"x": [0, 1, 2, 3]}, {"x": [1, 2, 3, 4]}]


@pytest.mark.parametrize("built", [False, True])
def test_finished_tensors_are_told_from_columns(record, questions, built):
    columns = [TensorSpec("a", DataType.FP64, (-1, 1))]
    handle = record.writer.register_schema("mlp", "2", "d2", columns, MLP_OUTPUTS, raw_inputs=MLP_INPUTS)
    record.writer.commit_for_test(mlp_exchange(1, raw_features=True), handle)
    record.writer.commit_for_test(mlp_exchange(2, inputs=[("a", "FP64", (1, 1), raw([5], "<f8"))]), handle)
    record.writer.commit_for_test(mlp_exchange(3, raw_features=True, bound=None), handle)
    if built:
        record.copy()
        record.build()
    ask_ = questions()
    rows = ask_("SELECT features, inputs FROM records ORDER BY prediction_id")
    assert [row["features"] for row in rows] == ["raw", None, "raw"]
    assert [json.loads(row["inputs"]) for row in rows] == [{"x": [1, 2, 3, 4]}, {"a": 5}, {"x": [3, 4, 5, 6]}]
    typed = ask_("SELECT features, in_a, in_x FROM mlp ORDER BY prediction_id")
    assert [tuple(row.values()) for row in typed] == [("raw", None, [1, 2, 3, 4]), (None, 5, None), ("raw", None, None)]


def commit_one(record, model, version, inputs, tensors, number=0, **fields):
    handle = record.writer.register_schema(model, version, "", inputs, [])
    exchange = fill_exchange_for_test(
        exchange_for_test(), inputs=tensors, bound=list(range(len(tensors))), prediction_id=numbered_id(number),
        arrival_unix_ns=NOON, **fields,
    )  # fmt: skip
    assert record.writer.commit_for_test(exchange, handle) >= 0


def test_json_has_no_nan_and_few_digits(record, questions):
    specs = [TensorSpec("s", DataType.FP32, (-1,)), TensorSpec("l", DataType.FP64, (-1, 3))]
    tensors = [("s", "FP32", (1,), raw([0.1])), ("l", "FP64", (1, 3), raw([math.nan, math.inf, 0.1], "<f8"))]
    commit_one(record, "m", "1", specs, tensors)
    assert questions()("SELECT inputs FROM predictions")[0]["inputs"] == '{"s":0.1,"l":[null,null,0.1]}'


def test_a_models_view_is_typed(record, questions):
    kinds = {"b": DataType.BOOL, "n": DataType.INT64, "s": DataType.BYTES, "l": DataType.FP32}
    specs = [TensorSpec(name, kind, (-1, 2) if name == "l" else (-1,)) for name, kind in kinds.items()]
    tensors = [("b", "BOOL", (1,), b"\1"), ("n", "INT64", (1,), bytes(8)), ("s", "BYTES", (1,), oip_bytes(b"UA")),
               ("l", "FP32", (1, 2), raw([1, 2]))]  # fmt: skip
    commit_one(record, "flight-delay", "1", specs, tensors)
    ask_ = questions()
    assert ask_("SELECT in_b, in_n, in_s, in_l FROM flight_delay") == [
        {"in_b": True, "in_n": 0, "in_s": "UA", "in_l": [1.0, 2.0]}
    ]
    assert [row["column_type"] for row in ask_("DESCRIBE SELECT in_b, in_n, in_s, in_l FROM flight_delay")] == [
        "BOOLEAN", "BIGINT", "VARCHAR", "FLOAT[]",
    ]  # fmt: skip


@pytest.mark.parametrize("built", [False, True])
def test_where_versions_disagree_the_newer_column_is_named_after_its_version(record, questions, built):
    one, two = [[TensorSpec("age", kind, (-1,))] for kind in (DataType.INT64, DataType.FP32)]
    commit_one(record, "m", "1", one, [("age", "INT64", (1,), (7).to_bytes(8, "little"))], 1)
    commit_one(record, "m", "2", two, [("age", "FP32", (1,), raw([7.5]))], 2)
    if built:
        record.copy()
        record.build()
    rows = questions()("SELECT version, in_age, in_age__v2 FROM m ORDER BY version")
    assert rows == [
        {"version": "1", "in_age": 7, "in_age__v2": None},
        {"version": "2", "in_age": None, "in_age__v2": 7.5},
    ]


def test_names_of_views_need_no_quotes_and_differ():
    names = model_view_names(["iris", "flight-delay", "flight_delay", "2nd", "select", "Predictions"], ["select"])
    assert names == {
        "iris": "iris", "flight-delay": "flight_delay", "flight_delay": "flight_delay_2", "2nd": "model_2nd",
        "select": "model_select", "Predictions": "Predictions_2",
    }  # fmt: skip


def test_names_with_quotes_break_nothing(record, questions):
    commit_one(record, "a\"b'c", "1", [TensorSpec("x'\"y", DataType.INT8, (-1,))], [("x'\"y", "INT8", (1,), b"\5")])
    ask_ = questions()
    assert ask_("SELECT in_x__y FROM a_b_c") == [{"in_x__y": 5}]
    assert json.loads(ask_("SELECT inputs FROM predictions")[0]["inputs"]) == {"x'\"y": 5}


def test_gaps_are_asked_for_like_rows(record, questions):
    record.commit(range(1))
    record.writer.note_unlogged_for_test(2)
    record.commit(range(1, 2))
    record.copy()
    record.build()
    record.writer.note_unlogged_for_test(3)
    record.commit(range(2, 3))
    rows = questions()("SELECT ring, lost, first_ts <= last_ts AS ordered FROM gaps ORDER BY lost")
    assert rows == [{"ring": "w0", "lost": lost, "ordered": True} for lost in (2, 3)]


@pytest.mark.parametrize("size", [0, 2000, 1 << 30], ids=["files", "some of both", "memory"])
def test_more_rows_than_fit_in_memory_go_through_files(record, questions, monkeypatch, size):
    monkeypatch.setattr(query_child, "UNBUILT_IN_MEMORY", size)
    monkeypatch.setattr(unbuilt.tables_of, "__defaults__", (lambda _gap: None, 1000))
    in_three_places(record)
    second = record.writer.register_schema("mlp", "2", "d2", MLP_INPUTS, MLP_OUTPUTS)
    record.writer.commit_for_test(mlp_exchange(10, rows=30), second)
    record.writer.commit_for_test(mlp_exchange(11, rows=30, bound=None), record.handle)
    ask_ = questions()
    assert ask_("SELECT version, count(*) AS n FROM predictions GROUP BY version ORDER BY version") == [
        {"version": "1", "n": 40},
        {"version": "2", "n": 30},
    ]
    rows = ask_("SELECT row, inputs FROM predictions WHERE request_id IS NULL ORDER BY prediction_id, row")
    assert [json.loads(row["inputs"])["x"][0] for row in rows[10:]] == [
        number + 4 * r for number in (10, 11) for r in range(30)
    ]
    files = list((record.state_dir.parent / "scratch").rglob("*.parquet"))
    assert len(files) == (size < 1 << 30)


# The child.


def answered(record, sql, **limits):
    with ask(record.place, sql, Limits(**limits)) as answer:
        return list(answer.objects())


def test_an_answer_comes_in_batches_that_hold_any_texts(record):
    with ask(record.place, "SELECT range AS n, range::VARCHAR AS text FROM range(10000)") as answer:
        assert answer.schema.field("text").type == pa.large_string()
        sizes = [batch.num_rows for batch in answer.batches]
    assert sum(sizes) == 10_000
    assert max(sizes) <= 2048


def test_rows_come_back_as_json_can_hold_them(record):
    in_three_places(record)
    rows = answered(record, "SELECT * FROM predictions ORDER BY prediction_id")
    assert len(rows) == 10
    assert json.loads(json.dumps(rows[3]))["inputs"] == {"x": [3, 4, 5, 6]}
    assert rows[3]["ts"].startswith("2026-11-23T")
    assert rows[3]["prediction_id"] == "01936d5e-7c1a-7c3e-9f6b-000000000003"


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT 1; SELECT 2", "exactly one SELECT is answered, not SELECT, SELECT"),
        ("", "not nothing"),
        ("DROP VIEW predictions", "not DROP"),
        ("COPY predictions TO '/tmp/stolen.csv'", "not COPY"),
        ("SET memory_limit = '9TB'", "not SET"),
        ("SELECT nonsense FROM predictions", "nonsense"),
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM read_text('/etc/passwd')", "disabled by configuration"),
        ("SELECT * FROM '/etc/passwd'", "does not exist|disabled by configuration"),
        ("SELECT * FROM place", "does not exist"),
        ("SELECT 1 / 'x'", "Could not convert"),
        ("SELECT error('stop') FROM predictions", "stop"),
    ],
)
def test_a_question_that_is_none_is_answered_with_the_reason(record, sql, told):
    record.commit(range(1))
    with pytest.raises(InvalidRequest, match=told):
        answered(record, sql)


def test_the_database_of_the_control_plane_cannot_be_read(record):
    record.manifest().close()
    with pytest.raises(InvalidRequest, match="disabled by configuration"):
        answered(record, f"SELECT * FROM read_blob('{record.state_dir}/gateway.db')")


def test_a_query_that_needs_more_memory_than_it_may_have_is_ended(record):
    sql = "SELECT list(a.range) FROM range(100000000) a"
    with pytest.raises(InvalidRequest, match="more memory"):
        answered(record, sql, memory="100MB", spill="1MB")


def test_a_query_that_takes_too_long_is_ended(record):
    with pytest.raises(DeadlineExceeded, match="within 1 seconds"):
        answered(record, "SELECT sum(a.range * b.range) FROM range(1000000000) a, range(1000000000) b", seconds=1.0)


def test_an_answer_that_is_not_read_to_its_end_leaves_no_process(record):
    with ask(record.place, "SELECT * FROM range(100000000)") as answer:
        next(answer.objects())
        child = int(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1])
    assert not os.path.exists(f"/proc/{child}")


def test_a_child_that_dies_is_not_taken_for_the_end_of_its_answer(record, monkeypatch):
    monkeypatch.setattr(query_module, "_COMMAND", ["-c", "import os, sys; sys.stdin.read(); os.kill(os.getpid(), 9)"])
    with pytest.raises(Unavailable, match="ended with -9"):
        answered(record, "SELECT 1")


def test_a_child_that_dies_in_the_middle_is_noticed_too(record, monkeypatch):
    half = (
        "import sys, os, pyarrow as pa\nsys.stdin.read()\nout = sys.stdout.buffer\n"
        'out.write(b\'{"columns": {"n": "BIGINT"}}\\n\')\nbatch = pa.record_batch({\'n\': [1]})\n'
        "pa.ipc.new_stream(out, batch.schema).write_batch(batch)\nout.flush()\nos.kill(os.getpid(), 9)"
    )
    monkeypatch.setattr(query_module, "_COMMAND", ["-c", half])
    with pytest.raises(Unavailable, match="ended with -9"):
        answered(record, "SELECT 1")


def test_values_that_json_lacks_have_a_stated_form(record):
    row = answered(
        record,
        "SELECT 'nan'::DOUBLE AS a, '\\x01\\xff'::BLOB AS c, 1.5::DECIMAL(4,2) AS d, DATE '2026-01-02' AS e, "
        "[1, 'nan'::FLOAT] AS f, {'k': 'inf'::FLOAT} AS g, INTERVAL 1 HOUR AS h, MAP {1: 2} AS i, NULL AS j",
    )[0]
    assert row["a"] is None
    assert row["c"] == "01ff"
    assert (row["d"], row["e"], row["f"], row["g"]) == (1.5, "2026-01-02", [1.0, None], {"k": None})
    json.dumps(row)


def test_plain_leaves_what_json_has_alone():
    assert plain({"a": [1, "x", None, True, 1.5]}) == {"a": [1, "x", None, True, 1.5]}
