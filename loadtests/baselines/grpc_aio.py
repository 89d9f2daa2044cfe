"""Open Inference Protocol over ``grpc.aio``: protobuf, onnxruntime, uvloop; raw contents, one run a request.

.venv/bin/python -m loadtests.baselines.grpc_aio MODEL.onnx --port 9001
"""

from __future__ import annotations

import argparse
from typing import Any

import grpc
import numpy as np
import uvloop

from loadtests.baselines import stubs
from loadtests.baselines.onnx_session import open_session

NUMPY = {
    "BOOL": np.dtype("?"), "UINT8": np.dtype("u1"), "INT32": np.dtype("<i4"), "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
}  # fmt: skip
DATATYPE = {dtype: name for name, dtype in NUMPY.items()}

pb2 = stubs.messages()
pb2_grpc = stubs.service()


class InferenceService(pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc,name-defined]
    """One model; whatever name the request carries is answered by it."""

    def __init__(self, path: str) -> None:
        session = open_session(path)
        self._run = session.run
        self._outputs = [output.name for output in session.get_outputs()]

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """Answer one request by one run."""
        feeds = {
            tensor.name: np.frombuffer(raw, NUMPY[tensor.datatype]).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        try:
            outputs = self._run(self._outputs, feeds)
        except Exception as error:  # noqa: BLE001  (whatever ONNX Runtime raises is the caller's to see)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        reply = pb2.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
        for name, output in zip(self._outputs, outputs, strict=True):
            reply.outputs.add(name=name, datatype=DATATYPE[output.dtype], shape=output.shape)
            reply.raw_output_contents.append(output.tobytes())
        return reply


async def serve(path: str, port: int) -> None:
    """Serve until the process is stopped; prints the port once it answers."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    pb2_grpc.add_GRPCInferenceServiceServicer_to_server(InferenceService(path), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(f"listening {bound}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.model, arguments.port))
