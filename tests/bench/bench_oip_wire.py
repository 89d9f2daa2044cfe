"""Nanoseconds to read and write ModelInfer messages, beside google.protobuf doing the same: run it as a script."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from gateway._fast import oip_wire, tensor_binding
from gateway._fast.exchange import exchange_for_test
from gateway.core.tensors import DataType, TensorSpec
from gateway.serving._generated import inference_pb2 as pb

ROUNDS = 41
EXCHANGES = 500


def one_tensor() -> pb.ModelInferRequest:
    """One row of 16 floats."""
    message = pb.ModelInferRequest(model_name="mlp", raw_input_contents=[np.arange(16, dtype="<f4").tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 16])
    return message


def columns() -> pb.ModelInferRequest:
    """One row of 15 named columns."""
    message = pb.ModelInferRequest(model_name="flight_delay")
    for i in range(15):
        datatype = ("FP64", "INT64", "BYTES")[i % 3]
        message.inputs.add(name=f"column_{i}", datatype=datatype, shape=[1, 1])
        message.raw_input_contents.append(b"\x02\0\0\0UA" if datatype == "BYTES" else bytes(8))
    return message


def per_item(measure: Callable[[list[object]], int], make: Callable[[], list[object]]) -> float:
    """Median nanoseconds an exchange takes."""
    return median(measure(make()) / EXCHANGES for _ in range(ROUNDS))


def per_call(call: Callable[[], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter_ns()
        for _ in range(EXCHANGES):
            call()
        rounds.append((time.perf_counter_ns() - started) / EXCHANGES)
    return median(rounds)


def main() -> None:
    """Print one line a case."""
    print("| case | ours, ns | google.protobuf, ns | ratio |\n|---|---|---|---|")
    for name, message in (("read 1 tensor of 16 floats", one_tensor()), ("read 15 named columns", columns())):
        data = message.SerializeToString()
        ours = per_item(oip_wire.read_for_bench, lambda data=data: [exchange_for_test(data) for _ in range(EXCHANGES)])
        report(name, ours, per_call(lambda data=data: read_with_protobuf(data)))
        table = tensor_binding.InputTable(
            message.model_name,
            [TensorSpec(tensor.name, DataType[tensor.datatype], (-1, *tensor.shape[1:])) for tensor in message.inputs],
            outputs=["y"],
            batchable=True,
        )
        bound = per_item(
            lambda items, table=table: tensor_binding.bind_for_bench(table, items), lambda data=data: scanned(data)
        )
        print(f"| bind the same | {bound:.0f} | | |")
    template = oip_wire.ReplyTemplate("mlp", "1", [TensorSpec("y", DataType.FP32, (-1, 1))])
    ours = per_item(oip_wire.write_for_bench, lambda: [with_reply(template) for _ in range(EXCHANGES)])
    report("write 1 output of 1 float", ours, per_call(write_with_protobuf))


def report(name: str, ours: float, theirs: float) -> None:
    print(f"| {name} | {ours:.0f} | {theirs:.0f} | {theirs / ours:.0f} |")


def scanned(data: bytes) -> list[object]:
    exchanges = [exchange_for_test(data) for _ in range(EXCHANGES)]
    oip_wire.read_for_bench(exchanges)
    return exchanges


def with_reply(template: oip_wire.ReplyTemplate) -> object:
    exchange = exchange_for_test(b"")
    oip_wire.write_for_test(exchange, template, [(DataType.FP32, [1, 1], bytes(4))], bytes(16))
    return exchange


def read_with_protobuf(data: bytes) -> list[object]:
    """What a handler written by hand does before it has arrays."""
    request = pb.ModelInferRequest.FromString(data)
    return [
        (tensor.name, tensor.datatype, list(tensor.shape), raw)
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    ]


def write_with_protobuf() -> bytes:
    response = pb.ModelInferResponse(model_name="mlp", model_version="1", id="0" * 36, raw_output_contents=[bytes(4)])
    response.parameters["prediction_id"].string_param = "0" * 36
    response.outputs.add(name="y", datatype="FP32", shape=[1, 1])
    return response.SerializeToString()


if __name__ == "__main__":
    main()
