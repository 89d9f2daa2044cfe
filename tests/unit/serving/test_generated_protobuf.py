"""The checked-in protobuf classes are those of proto/, and share a process with other people's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GENERATED = ROOT / "gateway" / "serving" / "_generated"


def test_checked_in_classes_are_what_make_proto_writes(tmp_path):
    pytest.importorskip("grpc_tools", reason="the test extra brings protoc")
    subprocess.run([sys.executable, ROOT / "proto" / "generate.py", tmp_path], check=True)
    fresh = {file.name: file.read_text() for file in tmp_path.iterdir()}
    kept = {file.name: file.read_text() for file in GENERATED.glob("*_pb2.py*")}
    assert fresh == kept
    assert all("Generated from proto/" in text.splitlines()[0] for text in kept.values())


@pytest.mark.parametrize("first", ["gateway.serving._generated.inference_pb2", "tritonclient.grpc.service_pb2"])
def test_the_protocols_own_client_can_be_imported_beside_them(first):
    pytest.importorskip("tritonclient", reason="the test extra brings tritonclient")
    program = (
        f"import {first}\n"
        "from gateway.serving._generated import inference_pb2 as ours\n"
        "from tritonclient.grpc import service_pb2 as theirs\n"
        "message = ours.ModelInferRequest(model_name='m', raw_input_contents=[b'x'])\n"
        "assert theirs.ModelInferRequest.FromString(message.SerializeToString()).model_name == 'm'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
