"""One real gateway for many tests, and the calls they share."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
from running_gateway import RunningGateway

from gateway.serving._generated import inference_pb2

SERVICE = "/inference.GRPCInferenceService/"
CALL_SECONDS = 60.0


@contextlib.contextmanager
def started(folder: Path, write_models, *options: str) -> Iterator[RunningGateway]:
    """A ready gateway over what ``write_models(root)`` writes; what it said is printed at its end."""
    gateway = RunningGateway(folder)
    gateway.models.mkdir(parents=True)
    write_models(gateway.models)
    try:
        yield gateway.start(*options)
    finally:
        gateway.clean_up()
        print(f"--- the gateway on {folder} said:\n{gateway.said()}")


class GrpcCalls:
    """Plain grpcio, without anybody's client on top."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{port}",
            # A connection of its own: else channels to one address share one.
            [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20)],
        )

    def __enter__(self) -> "GrpcCalls":
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, method: str, request, reply_type, **how):
        """(reply, trailing metadata) of one unary call."""
        unary = self.channel.unary_unary(
            SERVICE + method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply_type.FromString,
        )
        reply, outcome = unary.with_call(request, timeout=how.pop("timeout", CALL_SECONDS), **how)
        return reply, dict(outcome.trailing_metadata())

    def infer(self, request: inference_pb2.ModelInferRequest, **how):
        return self.call("ModelInfer", request, inference_pb2.ModelInferResponse, **how)

    def send_bytes(self, message: bytes, method: str = "ModelInfer", **how) -> bytes:
        """The reply's bytes to a message that need not be one."""
        return self.channel.unary_unary(SERVICE + method)(message, timeout=CALL_SECONDS, **how)


def raw_request(model: str, version: str = "", request_id: str = "", **arrays: np.ndarray):
    """A ModelInferRequest with raw contents; datatypes by numpy's names, FP32 for the rest."""
    request = inference_pb2.ModelInferRequest(model_name=model, model_version=version, id=request_id)
    for name, array in arrays.items():
        request.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        request.raw_input_contents.append(raw_bytes(array))
    return request


def json_request(**arrays: np.ndarray) -> dict:
    """The same request as the JSON body of `/infer`."""
    inputs = [
        {"name": name, "datatype": datatype_of(array), "shape": list(array.shape), "data": json_elements(array)}
        for name, array in arrays.items()
    ]
    return {"inputs": inputs}


def json_elements(array: np.ndarray) -> list:
    elements = array.ravel().tolist()
    return [element.decode() for element in elements] if array.dtype == object else elements


def datatype_of(array: np.ndarray) -> str:
    kinds = {"b": "BOOL", "O": "BYTES", "f": "FP", "i": "INT", "u": "UINT"}
    kind = kinds[array.dtype.kind]
    return kind if kind in ("BOOL", "BYTES") else f"{kind}{8 * array.dtype.itemsize}"


def raw_bytes(array: np.ndarray) -> bytes:
    """A tensor as OIP's raw contents have it."""
    if array.dtype == object:
        return b"".join(len(element).to_bytes(4, "little") + element for element in array.ravel())
    return array.tobytes()


def array_of(datatype: str, shape, raw: bytes) -> np.ndarray:
    """The reverse of :func:`raw_bytes`."""
    if datatype == "BYTES":
        elements = []
        while raw:
            size = int.from_bytes(raw[:4], "little")
            elements.append(raw[4 : 4 + size])
            raw = raw[4 + size :]
        array = np.empty(len(elements), dtype=object)
        array[:] = elements
        return array.reshape(shape)
    dtype = {"BOOL": "?", "BF16": "<u2"}.get(datatype) or datatype.lower().replace("fp", "float")
    return np.frombuffer(raw, dtype).reshape(shape)


def grpc_outputs(reply) -> dict[str, np.ndarray]:
    """Outputs of a reply with raw contents, by name."""
    pairs = zip(reply.outputs, reply.raw_output_contents, strict=True)
    return {output.name: array_of(output.datatype, output.shape, raw) for output, raw in pairs}


def json_outputs(body: bytes) -> dict[str, np.ndarray]:
    """Outputs of a JSON reply, by name; BYTES as bytes."""
    outputs = {}
    for output in json.loads(body)["outputs"]:
        if output["datatype"] == "BYTES":
            array = np.empty(len(output["data"]), dtype=object)
            array[:] = [text.encode() for text in output["data"]]
        else:
            dtype = {"BOOL": "?"}.get(output["datatype"]) or output["datatype"].lower().replace("fp", "float")
            array = np.array(output["data"], dtype)
        outputs[output["name"]] = array.reshape(output["shape"])
    return outputs


def assert_same(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    """Equal to the bit: the gateway moves numbers, the model makes them."""
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert got[name].shape == array.shape, name
        if array.dtype == object:
            texts = [text.encode() if isinstance(text, str) else text for text in array.ravel()]
            assert got[name].ravel().tolist() == texts, name
        else:
            assert got[name].dtype == array.dtype, name
            assert got[name].tobytes() == array.tobytes(), f"{name}: {got[name]} is not {array}"
