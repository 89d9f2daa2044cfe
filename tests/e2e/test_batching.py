"""Requests share runs and nothing else: every answer is ONNX Runtime's to exactly that request."""

import asyncio
import collections

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio
import tritonclient.http.aio

from tests.e2e import models
from tests.e2e.serving import CALL_SECONDS, GrpcCalls, assert_same, datatype_of, grpc_outputs, raw_request

CLIENTS = 200
REQUESTS_OF_EACH = 8


# 200 clients at once, of both protocols.


def make_request(rng: np.random.Generator) -> tuple[str, str, dict[str, np.ndarray]]:
    """(model, version asked for, inputs) of any kind; most are small, some have hundreds of rows."""
    rows = int(rng.integers(1, 6) if rng.random() < 0.8 else rng.integers(6, 301))
    model = str(rng.choice(["twice", "simple", "open_inside", "many_kinds", "lookup", "column_sums", "unbatched"]))
    if model == "twice":
        return model, str(rng.choice(["", "1", "2", "next"])), {"x": rng.random((rows, 4), np.float32)}
    if model == "simple":
        numbers = rng.integers(-(2**31), 2**31, (2, rows, 16)).astype(np.int32)
        return model, "", {"INPUT0": numbers[0], "INPUT1": numbers[1]}
    if model == "open_inside":
        return model, "", {"x": rng.random((rows, int(rng.integers(1, 5)), 3), np.float32)}
    if model == "many_kinds":
        texts = np.array([[f"row {rng.integers(1 << 40)}".encode()] for _ in range(rows)], dtype=object)
        numbers = rng.integers(-(2**63), 2**63 - 1, (rows, 2))
        return model, "", {"a": rng.random((rows, 3), np.float32) - 0.5, "b": numbers, "c": texts}
    if model == "lookup":
        return model, "", {"i": rng.integers(0, 1000, (rows, 1))}
    if model == "column_sums":
        return model, "", {"x": rng.random((rows, int(rng.integers(1, 4))), np.float32)}
    return model, "", {"x": rng.random(3, np.float32)}


async def be_a_client(gateway, seed: int) -> int:
    """Ask one after the other over a connection of one's own; returns how many answers were right."""
    rng = np.random.default_rng(seed)
    module, port, types = (
        (tritonclient.grpc.aio, "grpc", tritonclient.grpc)
        if seed % 2
        else (tritonclient.http.aio, "http", tritonclient.http)
    )
    right = 0
    async with module.InferenceServerClient(f"127.0.0.1:{gateway.port(port)}") as client:
        for number in range(REQUESTS_OF_EACH):
            model, version, arrays = make_request(rng)
            tensors = [types.InferInput(name, array.shape, datatype_of(array)) for name, array in arrays.items()]
            for tensor, array in zip(tensors, arrays.values(), strict=True):
                tensor.set_data_from_numpy(array)
            request_id = f"{seed}-{number}"
            result = await client.infer(model, tensors, model_version=version, request_id=request_id)
            told = result.get_response()
            assert (told["id"] if isinstance(told, dict) else told.id) == request_id
            folder = {"": "1", "next": "2"}.get(version, version)
            want = models.expected(gateway.models, model, arrays, folder)
            assert_same({name: result.as_numpy(name) for name in want}, want)
            right += 1
    return right


async def be_all_clients(gateway) -> list[int]:
    async with asyncio.timeout(100):
        return await asyncio.gather(*(be_a_client(gateway, seed) for seed in range(CLIENTS)))


def test_two_hundred_clients_at_once_get_their_own_answers_from_shared_runs(gateway):
    assert asyncio.run(be_all_clients(gateway)) == [REQUESTS_OF_EACH] * CLIENTS
    rows = gateway.query(
        "SELECT model, count(DISTINCT prediction_id) AS requests, count(*) FILTER (status <> 'OK') AS failures,"
        " max(batch_rows - request_rows) AS shared FROM records WHERE regexp_full_match(request_id, '[0-9]+-[0-9]')"
        " GROUP BY model"
    )
    assert sum(row["requests"] for row in rows) == CLIENTS * REQUESTS_OF_EACH
    assert sum(row["failures"] for row in rows) == 0
    shared = {row["model"]: row["shared"] for row in rows}
    assert shared.pop("column_sums") == 0
    assert shared.pop("unbatched") == 0
    assert max(shared.values()) > 0, "no request ever shared a run"


@pytest.mark.parametrize("rows", [128, 129, 10_000])
def test_a_request_of_more_rows_than_a_run_takes_is_answered_in_one_piece(gateway, grpc_calls, rows):
    arrays = {
        "INPUT0": np.arange(rows * 16, dtype=np.int32).reshape(rows, 16),
        "INPUT1": np.full((rows, 16), 5, np.int32),
    }
    reply, _ = grpc_calls.infer(raw_request("simple", **arrays))
    assert_same(grpc_outputs(reply), models.expected(gateway.models, "simple", arrays))


# One request's trouble is not its batch mates'.


def send_all(calls: GrpcCalls, requests: list, **how) -> list[grpc.Future]:
    unary = calls.channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=type(requests[0]).SerializeToString,
        response_deserializer=raw_reply,
    )
    return [unary.future(request, timeout=CALL_SECONDS, **how) for request in requests]


def raw_reply(message: bytes):
    from gateway.serving._generated import inference_pb2

    return inference_pb2.ModelInferResponse.FromString(message)


def test_a_row_that_makes_the_model_fail_fails_alone(gateway, grpc_calls):
    poisoned = set(range(3, 200, 20))
    requests = [
        raw_request("lookup", request_id="with poison", i=np.int64([[5000 if number in poisoned else number]]))
        for number in range(200)
    ]
    # Compressed messages are read on a thread and come back together: one batch, not one for each packet.
    calls = send_all(grpc_calls, requests, compression=grpc.Compression.Gzip)
    for number, call in enumerate(calls):
        if number in poisoned:
            assert call.code() is grpc.StatusCode.INTERNAL
            assert "model 'lookup' version 1 failed" in call.details()
        else:
            assert_same(grpc_outputs(call.result()), {"y": np.float32([[10 * number]])})
    rows = gateway.query("SELECT status, inputs, batch_rows FROM predictions WHERE request_id = 'with poison'")
    assert collections.Counter(row["status"] for row in rows) == {"OK": 190, "INTERNAL": 10}
    assert all((row["status"] == "INTERNAL") == (row["inputs"] == {"i": 5000}) for row in rows)
    assert max(row["batch_rows"] for row in rows if row["status"] == "INTERNAL") > 1, "nobody shared its run"


def test_text_that_is_no_utf_8_fails_alone(grpc_calls):
    texts = [b"\xff\xfe" if number % 10 == 3 else f"text {number}".encode() for number in range(50)]
    calls = send_all(
        grpc_calls, [raw_request("identity_bytes", x=np.array([[text] * 4], dtype=object)) for text in texts]
    )
    for text, call in zip(texts, calls, strict=True):
        if text.startswith(b"\xff"):
            assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "element 0 of input 'x' for model 'identity_bytes' is not UTF-8" in call.details()
        else:
            assert grpc_outputs(call.result())["y"].ravel().tolist() == [text] * 4


def test_cancelled_and_expired_requests_leave_their_batch_mates_answered(gateway, grpc_calls):
    def request(first: float, request_id: str):
        return raw_request("patient", request_id=request_id, x=np.float32([[first, 1, 2, 3]]))

    # While the first one runs, the others wait for the same run.
    (running,) = send_all(grpc_calls, [request(400_000, "mates: running")])
    grpc_calls.infer(raw_request("twice", x=np.ones((1, 4), np.float32)))  # answered: so the one before it runs
    waiting = {
        name: send_all(grpc_calls, [request(number, f"mates: {name}") for number in range(5)])
        for name in ("patient", "cancelled")
    }
    unary = grpc_calls.channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer", request_serializer=lambda message: message.SerializeToString()
    )
    waiting["expired"] = [unary.future(request(number, "mates: expired"), timeout=0.1) for number in range(5)]
    for call in waiting["cancelled"]:
        call.cancel()
    assert {call.code() for call in waiting["expired"]} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    for number, call in enumerate(waiting["patient"]):
        assert_same(grpc_outputs(call.result()), {"y": np.float32([[number + 1, 2, 3, 4]])})
    assert_same(grpc_outputs(running.result()), {"y": np.float32([[400_001, 2, 3, 4]])})

    rows = gateway.query(
        "SELECT request_id, status, infer_us, batch_rows FROM predictions WHERE request_id LIKE 'mates: %'"
    )
    seen = collections.defaultdict(list)
    for row in rows:
        seen[row["request_id"].removeprefix("mates: ")].append(row)
    assert {row["status"] for row in seen["patient"] + seen["running"]} == {"OK"}
    assert {row["batch_rows"] for row in seen["patient"]} == {5}, "their run was theirs alone"
    # A call cancelled before its message left the client was never here.
    assert {row["status"] for row in seen["cancelled"]} <= {"CANCELLED"}
    assert len(seen["expired"]) == 5
    assert {row["status"] for row in seen["expired"]} <= {"CANCELLED", "DEADLINE_EXCEEDED"}
    assert {row["infer_us"] for row in seen["cancelled"] + seen["expired"]} == {0}, "the model ran for nobody"
