"""Open Inference Protocol JSON over FastAPI: uvicorn, uvloop, httptools, onnxruntime; one run a request.

.venv/bin/python -m loadtests.baselines.fastapi_app MODEL.onnx --port 9000
"""

from __future__ import annotations

import argparse
import socket
from typing import Any

import numpy as np
import orjson
import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response

from loadtests.baselines.onnx_session import open_session

NUMPY = {
    "BOOL": "?", "UINT8": "u1", "INT32": "i4", "INT64": "i8", "FP16": "f2", "FP32": "f4", "FP64": "f8",
}  # fmt: skip
DATATYPE = {np.dtype(dtype): name for name, dtype in NUMPY.items()}


def application(path: str) -> FastAPI:
    """One model under the Open Inference Protocol's two infer routes."""
    session = open_session(path)
    names = [output.name for output in session.get_outputs()]
    app = FastAPI()

    # The body is read as bytes and parsed by orjson, as one does who cares: pydantic models would cost more.
    @app.post("/v2/models/{model}/infer")
    @app.post("/v2/models/{model}/versions/{version}/infer")
    async def infer(request: Request, model: str, version: str = "1") -> Response:
        body = orjson.loads(await request.body())
        try:
            outputs = session.run(names, {tensor["name"]: _array(tensor) for tensor in body["inputs"]})
        except Exception as error:  # noqa: BLE001  (whatever ONNX Runtime raises is the caller's to see)
            return _json({"error": str(error)}, status=400)
        return _json(
            {
                "model_name": model,
                "model_version": version,
                "id": body.get("id", ""),
                "outputs": [_tensor(name, output) for name, output in zip(names, outputs, strict=True)],
            }
        )

    return app


def _array(tensor: dict[str, Any]) -> np.ndarray:
    return np.array(tensor["data"], NUMPY[tensor["datatype"]]).reshape(tensor["shape"])


def _tensor(name: str, output: np.ndarray) -> dict[str, Any]:
    return {"name": name, "datatype": DATATYPE[output.dtype], "shape": output.shape, "data": output.ravel()}


def _json(content: dict[str, Any], *, status: int = 200) -> Response:
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")


async def serve(path: str, port: int) -> None:
    """Serve until the process is stopped; prints the port once it listens."""
    listener = socket.create_server(("127.0.0.1", port))
    # It waits for its turns longer than the 5 s after which uvicorn would close the load's connections.
    config = uvicorn.Config(
        application(path), http="httptools", access_log=False, log_level="warning", timeout_keep_alive=600
    )
    print(f"listening {listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.model, arguments.port))
