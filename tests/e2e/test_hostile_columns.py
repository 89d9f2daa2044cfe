"""What clients may send into columns besides what they should: each has its stated outcome, and nobody else pays."""

import json

import grpc
import httpx
import numpy as np
import psutil
import pytest

from gateway.serving._generated import inference_pb2 as pb
from tests.e2e import models
from tests.e2e.serving import CALL_SECONDS, GrpcCalls, grpc_outputs, raw_request, started

PAGE = """\
columns:
  number: float
  whole: {type: int, optional: true}
  text: {type: string, optional: true}
  tags: {type: strings, optional: true}
outputs:
  x:
    features:
      - number
      - column: whole
        steps: [{impute: {value: -1}}]
      - column: text
        steps: [lower, {hash: {buckets: 2, signed: false}}]
      - column: tags
        steps: [{multi_hot: {categories: [a, b], unknown: ignore}}]
"""
WIDTH = 6
MEGABYTE = 1 << 20
#: Unseen categories of all requests of a test may not be kept: this much does the heap move by itself.
MOST_GROWTH = 64 << 20


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    def write_models(root):
        models.write_identity(root, "FP32", "odd", ["n", WIDTH])
        (root / "odd" / "1" / "features.yaml").write_text(PAGE)

    with started(tmp_path_factory.mktemp("hostile"), write_models, "--workers", "1") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def grpc_calls(gateway):
    with GrpcCalls(gateway.port("grpc")) as calls:
        yield calls


@pytest.fixture(scope="module")
def http(gateway):
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port('http')}", timeout=CALL_SECONDS) as client:
        yield client


def texts(*rows):
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


def private_bytes(process):
    """Of its memory that which no ring of the record is in."""
    memory = process.memory_info()
    return memory.rss - memory.shared


def elements(grpc_calls, **columns):
    """Rows of the answer over gRPC."""
    count = len(next(iter(columns.values())))
    columns = {"number": np.zeros(count)} | columns
    reply, _ = grpc_calls.infer(raw_request("odd", **columns))
    return grpc_outputs(reply)["y"]


def refused(grpc_calls, **columns):
    with pytest.raises(grpc.RpcError) as caught:
        elements(grpc_calls, **columns)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return caught.value.details()


def predicted(http, **body):
    return http.post("/v1/models/odd:predict", content=json.dumps(body))


# Numbers.


def test_nan_infinities_and_the_signed_zero_arrive_as_they_are(grpc_calls):
    sent = np.array([np.nan, np.inf, -np.inf, -0.0, 1e300])
    got = elements(grpc_calls, number=sent)[:, 0]
    np.testing.assert_array_equal(got, np.float32([np.nan, np.inf, -np.inf, -0.0, np.inf]))
    assert np.signbit(got[3])
    assert elements(grpc_calls, whole=np.array([np.nan, 3.0]))[:, 1].tolist() == [-1, 3]


@pytest.mark.parametrize(
    "value", [np.float64(1e300), np.float64(np.inf), np.float64(2.0**63), np.uint64(2**63), np.float32(0.5)], ids=repr
)
def test_number_that_is_no_int64_fails_its_row_over_grpc(grpc_calls, value):
    message = refused(grpc_calls, whole=np.array([1, value], value.dtype))
    assert "row 1: column 'whole': expected an integer within int64, came " in message


@pytest.mark.parametrize("value", ["9223372036854775808", "1e19", "1e400", "-9223372036854775809", "9" * 400, "0.5"])
def test_number_that_is_no_int64_fails_its_row_in_json(http, value):
    body = f'{{"instances": [{{"number": 1, "whole": 1}}, {{"number": 1, "whole": {value}}}]}}'
    answer = http.post("/v1/models/odd:predict", content=body)
    assert answer.status_code == 400
    for words in ("row 1", "'whole'", "'odd'"):
        assert words in answer.json()["error"]


# Texts.


def test_empty_text_is_missing_and_a_megabyte_is_a_text_like_others(grpc_calls, http):
    for size in (MEGABYTE, 12 * MEGABYTE):
        sent = ["", "Ab" * (size // 2), "ab" * (size // 2), "ab"]
        got = elements(grpc_calls, text=texts(*[text.encode() for text in sent]))[:, 2:4]
        assert got.sum(axis=1).tolist() == [0, 1, 1, 1]
        assert got[1].tolist() == got[2].tolist()
        answer = predicted(http, instances=[{"number": 0, "text": text} for text in sent])
        assert answer.status_code == 200, answer.text[:500]
        assert [row[2:4] for row in answer.json()["predictions"]] == got.tolist()


def test_text_that_is_no_utf8_fails_its_row_where_it_is_read_and_the_body_in_json(grpc_calls, http):
    message = refused(grpc_calls, text=texts(b"ok", b"\xc3\x28\xff"))
    assert "row 1: column 'text': expected text in UTF-8, came " in message
    tags = np.array([[b"a", b"\xff\xfe"], [b"", b"b"]], object)
    assert elements(grpc_calls, tags=tags)[:, 4:].tolist() == [[1, 0], [0, 1]]
    body = b'{"instances": [{"number": 1, "text": "\xc3\x28"}]}'
    answer = http.post("/v1/models/odd:predict", content=body)
    assert answer.status_code == 400
    assert "UTF-8" in answer.json()["error"]


def test_ten_thousand_unseen_categories_are_forgotten_with_their_request(gateway, grpc_calls):
    worker = psutil.Process(gateway.pid_of("worker"))
    before = 0
    for turn in range(12):
        unseen = [f"{turn} {i} {'x' * 200}".encode() for i in range(10_000)]
        got = elements(grpc_calls, text=texts(*unseen), tags=texts(*unseen).reshape(-1, 1))
        assert got[:, 2:4].sum(axis=1).tolist() == [1] * 10_000
        assert not got[:, 4:].any()
        if turn == 3:
            before = private_bytes(worker)
    assert private_bytes(worker) - before < MOST_GROWTH


# Lists, by every way.


def by_grpc_raw(grpc_calls, _http, rows):
    width = max(map(len, rows))
    tags = np.array([[text.encode() for text in row] + [b""] * (width - len(row)) for row in rows], object)
    return elements(grpc_calls, tags=tags.reshape(len(rows), width))[:, 4:].tolist()


def by_grpc_typed(grpc_calls, _http, rows):
    width = max(map(len, rows))
    request = pb.ModelInferRequest(model_name="odd")
    number = request.inputs.add(name="number", datatype="FP64", shape=[len(rows)])
    number.contents.fp64_contents.extend([0.0] * len(rows))
    tags = request.inputs.add(name="tags", datatype="BYTES", shape=[len(rows), width])
    for row in rows:
        tags.contents.bytes_contents.extend([text.encode() for text in row] + [b""] * (width - len(row)))
    reply, _ = grpc_calls.infer(request)
    return np.array(reply.outputs[0].contents.fp32_contents).reshape(len(rows), WIDTH)[:, 4:].tolist()


def by_json(_grpc_calls, http, rows):
    width = max(map(len, rows))
    padded = [row + [""] * (width - len(row)) for row in rows]
    inputs = [
        {"name": "number", "datatype": "FP64", "shape": [len(rows)], "data": [0.0] * len(rows)},
        {"name": "tags", "datatype": "BYTES", "shape": [len(rows), width], "data": padded},
    ]
    answer = http.post("/v2/models/odd/infer", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["outputs"][0]["data"]).reshape(len(rows), WIDTH)[:, 4:].tolist()


def by_rows(key, body_of):
    def way(_grpc_calls, http, rows):
        answer = predicted(http, **{key: body_of(rows)})
        assert answer.status_code == 200, answer.text
        return [row[4:] for row in answer.json()["outputs" if key == "inputs" else "predictions"]]

    way.__name__ = f"by_{key}"
    return way


WAYS = [
    by_grpc_raw,
    by_grpc_typed,
    by_json,
    by_rows("instances", lambda rows: [{"number": 0, "tags": row} for row in rows]),
    by_rows("inputs", lambda rows: {"number": [0] * len(rows), "tags": rows}),
    by_rows("dataframe_records", lambda rows: [{"number": 0, "tags": row} for row in rows]),
    by_rows("dataframe_split", lambda rows: {"columns": ["tags", "number"], "data": [[row, 0] for row in rows]}),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_lists_come_by_every_way_and_mean_the_same(grpc_calls, http, way):
    rows = [["a", "é", "b"], [], ["b"], ["", "a"]]
    assert way(grpc_calls, http, rows) == [[1, 1], [0, 0], [0, 1], [1, 0]]


def test_metadata_and_the_record_have_the_lists(gateway, grpc_calls, http):
    inputs = {each["name"]: each for each in http.get("/v2/models/odd").json()["inputs"]}
    assert (inputs["tags"]["datatype"], inputs["tags"]["shape"]) == ("BYTES", [-1, -1])
    request = raw_request("odd", "", "lists", number=np.zeros(2), tags=np.array([[b"a", b"z"], [b"b", b""]], object))
    grpc_calls.infer(request)
    rows = gateway.query("SELECT inputs FROM records WHERE request_id = 'lists' ORDER BY row")
    assert [row["inputs"]["tags"] for row in rows] == [["a", "z"], ["b", ""]]
