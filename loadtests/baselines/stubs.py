"""The Open Inference Protocol's protobuf modules, generated from ``proto/inference.proto`` when first asked for."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto" / "inference.proto"
STUBS = ROOT / "build" / "loadtests" / "stubs"


def messages() -> Any:
    """Module ``inference_pb2``: ``ModelInferRequest``, ``ModelInferResponse`` and their parts."""
    return _generated("inference_pb2")


def service() -> Any:
    """Module ``inference_pb2_grpc``: stub, servicer and registration of ``GRPCInferenceService``."""
    return _generated("inference_pb2_grpc")


def _generated(name: str) -> Any:
    _generate_if_stale()
    if str(STUBS) not in sys.path:
        sys.path.insert(0, str(STUBS))
    return importlib.import_module(name)


def _generate_if_stale() -> None:
    target = STUBS / "inference_pb2_grpc.py"
    sources = (PROTO, Path(__file__))
    if target.exists() and target.stat().st_mtime >= max(source.stat().st_mtime for source in sources):
        return
    # Imported here: a run over generated stubs does not need the compiler.
    from grpc_tools import protoc  # type: ignore[import-untyped]  # noqa: PLC0415

    STUBS.mkdir(parents=True, exist_ok=True)
    command = ["protoc", f"-I{PROTO.parent}", f"--python_out={STUBS}", f"--grpc_python_out={STUBS}", str(PROTO)]
    if protoc.main(command) != 0:
        raise RuntimeError(f"grpc_tools.protoc failed on {PROTO}; run it by hand: {' '.join(command)}")
    # In a descriptor pool of its own: tritonclient registers the same names in the default one.
    module = STUBS / "inference_pb2.py"
    module.write_text(module.read_text().replace("_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()"))
