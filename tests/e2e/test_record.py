"""What `gateway log` says of a prediction is what its client sent and received."""

import json

import grpc
import httpx
import numpy as np
import pytest
from supervised_tree import wait_until

from tests.e2e import models
from tests.e2e.serving import CALL_SECONDS, GrpcCalls, json_request, raw_request

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
ARRAYS = {
    "a": np.float32([[0.1, -2, 3], [1e-30, 0, 7]]),
    "b": np.int64([[1, 2], [-(2**63), 2**63 - 1]]),
    "c": np.array([["größe \U0001f600".encode()], [b""]], dtype=object),
}
#: Its two rows, as the record must have them.
INPUTS = [
    {"a": [0.1, -2.0, 3.0], "b": [1, 2], "c": "größe \U0001f600"},
    {"a": [1e-30, 0.0, 7.0], "b": [-(2**63), 2**63 - 1], "c": ""},
]
OUTPUTS = [
    {"total": 1.1, "positive": [True, False, True], "same_b": [1, 2], "same_c": "größe \U0001f600"},
    {"total": 7.0, "positive": [True, False, True], "same_b": [-(2**63), 2**63 - 1], "same_c": ""},
]


RECORDED_TYPES = [name for name in models.ELEMENT_TYPES if name not in ("BYTES", "BF16")]
NO_TRACEPARENTS = [None, "", "00-zz-yy-01", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"]
ONE = np.ones((1, 4), np.float32)
TOO_WIDE = np.ones((1, 5), np.float32)


class Calls:
    """Sends a request of every kind, by name; then looks all of them up at once, which takes as long as one."""

    def __init__(self, gateway) -> None:
        self.gateway = gateway
        self.ids = {}
        with (
            GrpcCalls(gateway.port("grpc")) as self._grpc,
            httpx.Client(base_url=f"http://127.0.0.1:{gateway.port('http')}", timeout=CALL_SECONDS) as self._http,
        ):
            self._send_all()
        rows = gateway.query("SELECT * FROM records ORDER BY row")
        self.rows = {
            name: [row for row in rows if row["prediction_id"] == prediction_id]
            for name, prediction_id in self.ids.items()
        }

    def _send_all(self) -> None:
        self._by_grpc("many kinds, grpc", raw_request("many_kinds", **ARRAYS))
        self._by_http("many kinds, http", "/v2/models/many_kinds/infer", json_request(**ARRAYS))
        instances = [
            {"a": ARRAYS["a"][row].tolist(), "b": ARRAYS["b"][row].tolist(), "c": [INPUTS[row]["c"]]} for row in (0, 1)
        ]
        self._by_http("many kinds, predict", "/v1/models/many_kinds:predict", {"instances": instances})
        for datatype in RECORDED_TYPES:
            array = models.extreme_values(datatype, rows=1)
            self._by_grpc(datatype, raw_request(f"identity_{datatype.lower()}", x=array))
        ours, theirs = raw_request("twice", request_id="order 66", x=ONE), json_request(x=ONE) | {"id": "order 66"}
        self._by_grpc("traced, grpc", ours, metadata=[("traceparent", TRACEPARENT)])
        self._by_http("traced, http", "/v2/models/twice/infer", theirs, headers={"traceparent": TRACEPARENT})
        for number, traceparent in enumerate(NO_TRACEPARENTS):
            headers = {} if traceparent is None else {"traceparent": traceparent}
            self._by_http(f"untraced {number}", "/v2/models/twice/infer", json_request(x=ONE), headers=headers)
        with pytest.raises(grpc.RpcError) as refused:
            self._by_grpc("failed, grpc", raw_request("twice", request_id="bad", x=TOO_WIDE))
        self.ids["failed, grpc"] = dict(refused.value.trailing_metadata())["x-prediction-id"]
        body = json_request(x=TOO_WIDE) | {"id": "bad"}
        self._by_http("failed, http", "/v2/models/twice/infer", body, status=400)
        self._cancel()

    def _by_grpc(self, name: str, request, **how) -> None:
        _, told = self._grpc.infer(request, **how)
        self.ids[name] = told["x-prediction-id"]

    def _by_http(self, name: str, path: str, body: dict, *, status=200, **how) -> None:
        answer = self._http.post(path, json=body, **how)
        assert answer.status_code == status, answer.text
        self.ids[name] = answer.headers["x-prediction-id"]

    def _cancel(self) -> None:
        """Give up a call while its model runs; returns when the gateway has noted it."""
        # Long enough to be seen: workers tell how much they have in hand ten times a second.
        request = raw_request("patient", request_id="given up", x=np.float32([[1_000_000, 0, 0, 0]]))
        call = self._grpc.channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", request_serializer=type(request).SerializeToString
        ).future(request, timeout=CALL_SECONDS)
        wait_until("the run begins", lambda: in_flight(self.gateway) > 0)
        call.cancel()
        wait_until("the run ends", lambda: in_flight(self.gateway) == 0)


def in_flight(gateway) -> float:
    """Requests that the workers have in hand."""
    _, _, text = gateway.http("/metrics", port="admin")
    lines = [line for line in text.decode().splitlines() if line.startswith("gateway_requests_in_flight")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.fixture(scope="module")
def sent(gateway):
    return Calls(gateway)


@pytest.mark.parametrize("how", ["grpc", "http", "predict"])
def test_inputs_and_outputs_are_those_sent_and_received_whatever_the_protocol(sent, how):
    rows = sent.rows[f"many kinds, {how}"]
    assert [row["row"] for row in rows] == [0, 1]
    assert [row["request_rows"] for row in rows] == [2, 2]
    assert [row["inputs"] for row in rows] == INPUTS
    assert [row["outputs"] for row in rows] == OUTPUTS
    assert {(row["model"], row["version"], row["role"], row["rule"], row["status"]) for row in rows} == {
        ("many_kinds", "1", "primary", "default", "OK")
    }


@pytest.mark.parametrize("datatype", RECORDED_TYPES)
def test_every_datatype_is_recorded_exactly(sent, datatype):
    (row,) = sent.rows[datatype]
    want = models.extreme_values(datatype, rows=1)[0]
    assert np.array(row["inputs"]["x"], want.dtype).tobytes() == want.tobytes()
    assert row["outputs"]["y"] == row["inputs"]["x"]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_request_id_and_trace_are_the_callers(sent, protocol):
    (row,) = sent.rows[f"traced, {protocol}"]
    assert row["request_id"] == "order 66"
    assert (row["trace_id"], row["parent_span_id"], row["trace_flags"]) == (TRACE, PARENT, 1)
    assert len(row["span_id"]) == 16
    assert row["span_id"] != PARENT
    assert row["protocol"] == protocol


@pytest.mark.parametrize("number", range(len(NO_TRACEPARENTS)), ids=map(str, NO_TRACEPARENTS))
def test_without_a_valid_traceparent_a_trace_of_its_own_begins(sent, number):
    (row,) = sent.rows[f"untraced {number}"]
    assert len(row["trace_id"]) == 32
    assert row["trace_id"] not in (TRACE, "0" * 32)
    assert row["parent_span_id"] is None


def test_times_add_up_and_the_digest_is_that_of_the_file(gateway, sent):
    (row,) = sent.rows["untraced 0"]
    assert row["total_us"] >= row["queue_us"] + row["features_us"] + row["infer_us"] > 0
    (version,) = json.loads(gateway.run_command("models", "show", "twice@1", "--json"))
    assert row["digest"] == version["digest"]
    assert row["batch_rows"] == 1


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_failure_is_recorded_with_its_status_and_error(sent, protocol):
    (row,) = sent.rows[f"failed, {protocol}"]
    assert (row["status"], row["request_id"], row["model"]) == ("INVALID_ARGUMENT", "bad", "twice")
    assert "Expected [-1,4], got [1,5]" in row["error"]
    assert row["outputs"] is None


def test_a_call_given_up_is_recorded_as_cancelled(gateway, sent):
    rows = gateway.query("SELECT status FROM predictions WHERE request_id = 'given up'")
    assert rows == [{"status": "CANCELLED"}]


def test_log_show_prints_a_prediction_by_its_id(gateway, sent):
    prediction_id = sent.ids["traced, http"]
    (row,) = json.loads(gateway.run_command("log", "show", prediction_id, "--json"))
    assert row == sent.rows["traced, http"][0]
    printed = gateway.run_command("log", "show", prediction_id)
    assert prediction_id in printed
    assert "order 66" in printed
