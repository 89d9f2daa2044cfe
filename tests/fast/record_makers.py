"""Exchanges, rings and schemas for the record's tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gateway._fast.exchange import Exchange, exchange_for_test
from gateway._fast.record_frames import fill_exchange_for_test
from gateway._fast.record_ring import RingWriter, SchemaHandle, create_ring
from gateway.core.tensors import DataType, TensorSpec

MLP_INPUTS = [TensorSpec("x", DataType.FP32, (-1, 4))]
MLP_OUTPUTS = [TensorSpec("y", DataType.FP32, (-1, 1))]
MLP = ("mlp", "1", "d1", MLP_INPUTS, MLP_OUTPUTS)
NOON = 1_795_400_000_000_000_000  # 2026-11-23, some time of the day


def numbered_id(number: int) -> bytes:
    """A version 7 UUID whose last bytes are ``number``."""
    return bytes.fromhex("01936d5e7c1a7c3e9f6b0000") + number.to_bytes(4, "big")


def raw(values: Sequence[float], dtype: str = "<f4") -> bytes:
    return np.asarray(values, dtype).tobytes()


def oip_bytes(*elements: bytes) -> bytes:
    """BYTES as OIP raw: a length before each element."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def mlp_exchange(number: int = 0, rows: int = 1, **fields: object) -> Exchange:
    """An answered exchange of the MLP schema; its inputs and outputs are multiples of its number."""
    inputs = np.arange(rows * 4, dtype="<f4") + number
    outputs = np.arange(rows, dtype="<f4") * 0.5 + number
    given: dict[str, object] = {
        "inputs": [("x", "FP32", (rows, 4), inputs.tobytes())],
        "outputs": [("y", "FP32", (rows, 1), outputs.tobytes())],
        "bound": [0],
        "rows": rows,
        "prediction_id": numbered_id(number),
        "trace_id": bytes(15) + b"\1",
        "span_id": bytes(7) + b"\2",
        "protocol": b"grpc",
        "arrival_unix_ns": NOON + number * 1000,
    }
    return fill_exchange_for_test(exchange_for_test(), **(given | fields))  # type: ignore[arg-type]


def mlp_ring(folder: Path, name: str = "w0", capacity: int = 1 << 20) -> tuple[RingWriter, SchemaHandle]:
    """A fresh ring and its writer, with the MLP schema registered."""
    path = folder / f"{name}.ring"
    create_ring(path, capacity)
    writer = RingWriter(path)
    return writer, writer.register_schema(*MLP)


def commit_numbers(writer: RingWriter, handle: SchemaHandle, numbers: Sequence[int], **fields: object) -> list[int]:
    """Commit an exchange for each number; the numbers that found room."""
    return [n for n in numbers if writer.commit_for_test(mlp_exchange(n, **fields), handle) >= 0]
