"""Our transport and gRPC's own server carry the same handlers: whatever is asked, both give the same answer.

Status, message, reply bytes and trailing metadata are compared, prediction ids masked.
"""

import struct
from dataclasses import dataclass

import grpc
import numpy as np
import pytest

from gateway.serving._generated import health_pb2, inference_pb2
from gateway.serving.grpc_service import HEALTH_SERVICE, INFER_PATH, OIP_SERVICE
from tests.contract.dialects import CALL_SECONDS, DIALECTS, Answer, Callers
from tests.contract.faults import FAULTS, GOOD, MALFORMED, MESSAGE_LIMIT
from tests.contract.test_bad_input import write_models
from tests.e2e.serving import raw_request, started

#: Refused by the transport itself, in its own words: only the status is compared.
OWN_WORDS = {"a message over the limit"}
OUR_TRAILERS = ("x-prediction-id", "x-model-version", "x-record-state")


@dataclass(frozen=True)
class Outcome:
    """All that a client sees of one call."""

    status: str
    details: str
    reply: bytes
    trailers: dict[str, str]


class Transport(Callers):
    """A gateway as seen by a grpcio client."""

    def outcome(self, message, path=INFER_PATH, **how) -> Outcome:
        how.setdefault("timeout", CALL_SECONDS)
        try:
            reply, call = self.channel.unary_unary(path).with_call(message, **how)
        except grpc.RpcError as error:
            return self._masked(error, b"")
        return self._masked(call, reply)

    def _masked(self, call, reply) -> Outcome:
        trailers = {key: value for key, value in call.trailing_metadata() or () if key in OUR_TRAILERS}
        known = trailers.get("x-prediction-id")
        if known is not None:
            assert (known.encode() in reply) == (call.code() is grpc.StatusCode.OK)
            reply = reply.replace(known.encode(), b"?" * len(known))  # it also stands for a request id not sent
            trailers["x-prediction-id"] = "?"
        return Outcome(call.code().name, call.details() or "", reply, trailers)


class Both:
    """Asks each transport the same; stands where the dialects expect a connection."""

    def __init__(self, native, grpcio):
        self.native, self.grpcio = native, grpcio
        self.outcomes = []

    def send_grpc(self, message, path=INFER_PATH, **how) -> Answer:
        self.outcomes.append((self.native.outcome(message, path, **how), self.grpcio.outcome(message, path, **how)))
        return Answer("", "", None)

    def agreed(self, message, path=INFER_PATH, **how) -> Outcome:
        """What both said."""
        self.send_grpc(message, path, **how)
        native, grpcio = self.outcomes.pop()
        assert native == grpcio
        return native


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    limit = ("--message-limit", str(MESSAGE_LIMIT), "--workers", "2")
    folder = tmp_path_factory.mktemp
    with (
        started(folder("native"), write_models, *limit) as native,
        started(folder("grpcio"), write_models, *limit, "--grpc-transport", "grpcio") as grpcio,
    ):
        sides = Transport(native.runtime()["ports"]), Transport(grpcio.runtime()["ports"])
        yield Both(*sides)
        for side in sides:
            side.close()


def only_outcomes(both):
    (pair,) = both.outcomes
    both.outcomes.clear()
    return pair


SAID_IN_DIALECTS = [
    (name, dialect) for name, fault in FAULTS.items() for dialect in fault.dialects if dialect.startswith("grpc")
]


@pytest.mark.parametrize(("name", "dialect"), SAID_IN_DIALECTS)
def test_a_fault_is_answered_alike(both, name, dialect):
    DIALECTS[dialect](both, FAULTS[name].ask)
    native, grpcio = only_outcomes(both)
    assert native == grpcio
    assert native.status == FAULTS[name].status


@pytest.mark.parametrize("name", [name for name, malformed in MALFORMED.items() if isinstance(malformed.status, str)])
def test_a_malformed_request_is_answered_alike(both, name):
    MALFORMED[name].send(both)
    native, grpcio = only_outcomes(both)
    assert native.status == grpcio.status == MALFORMED[name].status
    if name not in OWN_WORDS:
        assert native == grpcio


@pytest.mark.parametrize("dialect", ["grpc raw", "grpc typed"])
def test_a_good_request_is_answered_alike(both, dialect):
    DIALECTS[dialect](both, GOOD)
    native, grpcio = only_outcomes(both)
    assert native == grpcio
    assert native.status == "OK"
    assert native.trailers == {"x-prediction-id": "?", "x-model-version": "1", "x-record-state": "committed"}


@pytest.mark.parametrize("compression", list(grpc.Compression))
@pytest.mark.parametrize("rows", [1, 3, 4000])
def test_requests_of_every_size_and_coding_are_answered_alike(both, rows, compression):
    numbers = np.arange(rows * 16, dtype=np.int32).reshape(rows, 16)
    request = raw_request("simple", INPUT0=numbers, INPUT1=numbers[::-1].copy(), request_id="größe")
    outcome = both.agreed(request.SerializeToString(), compression=compression)
    assert outcome.status == "OK"
    reply = inference_pb2.ModelInferResponse.FromString(outcome.reply)
    assert reply.raw_output_contents[0] == (numbers + numbers[::-1]).tobytes()


def test_what_a_message_inflates_to_is_limited_alike(both):
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        both.send_grpc(bytes(2 * MESSAGE_LIMIT), compression=compression)
        native, grpcio = only_outcomes(both)
        assert native.status == grpcio.status == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(
    "metadata",
    [
        [("x-user", "ada")],
        [("blob-bin", bytes(range(256)))],
        [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")],
        [("traceparent", "nonsense")],
        [("x-user", "one"), ("x-user", "two")],
    ],
)
def test_metadata_changes_no_answer(both, metadata):
    numbers = np.ones((1, 16), np.int32)
    message = raw_request("simple", INPUT0=numbers, INPUT1=numbers).SerializeToString()
    assert both.agreed(message, metadata=metadata) == both.agreed(message)


def test_more_metadata_than_is_kept_is_refused_alike(both):
    numbers = np.ones((1, 16), np.int32)
    message = raw_request("simple", INPUT0=numbers, INPUT1=numbers).SerializeToString()
    many = [(f"x-{number}", "") for number in range(101)]
    assert both.agreed(message, metadata=many[:90]).status == "OK"
    assert both.agreed(message, metadata=many).status == "RESOURCE_EXHAUSTED"


CALLS = {
    "ServerLive": inference_pb2.ServerLiveRequest(),
    "ServerReady": inference_pb2.ServerReadyRequest(),
    "ModelReady": inference_pb2.ModelReadyRequest(name="simple"),
    "ServerMetadata": inference_pb2.ServerMetadataRequest(),
    "ModelMetadata": inference_pb2.ModelMetadataRequest(name="simple"),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_other_calls_are_answered_alike(both, call):
    path = f"/{OIP_SERVICE}/{call}"
    message = CALLS[call].SerializeToString()
    assert both.agreed(message, path).status == "OK"
    assert both.agreed(message, path, compression=grpc.Compression.Gzip).status == "OK"
    assert both.agreed(b"\xff\xff", path).status == "INVALID_ARGUMENT"


def test_what_is_not_there_is_answered_alike(both):
    assert both.agreed(CALLS["ModelReady"].SerializeToString(), "/no/such").status == "UNIMPLEMENTED"
    unknown = inference_pb2.ModelMetadataRequest(name="näme %").SerializeToString()
    assert both.agreed(unknown, f"/{OIP_SERVICE}/ModelMetadata").status == "NOT_FOUND"
    health = health_pb2.HealthCheckRequest(service="nobody").SerializeToString()
    assert both.agreed(health, f"/{HEALTH_SERVICE}/Check").status == "NOT_FOUND"
    assert both.agreed(b"", f"/{HEALTH_SERVICE}/Check").status == "OK"


def test_every_byte_of_a_request_may_be_wrong(both):
    """A request with one byte changed, at each place in turn."""
    numbers = np.ones((1, 16), np.int32)
    message = raw_request("simple", INPUT0=numbers, INPUT1=numbers).SerializeToString()
    for at in range(len(message)):
        both.agreed(message[:at] + struct.pack("B", message[at] ^ 0x15) + message[at + 1 :])
