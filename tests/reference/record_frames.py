"""The record's frames, decoded the obvious way from docs/formats.md: the oracle of ``gateway._fast.record_frames``."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any

_HEADER = struct.Struct("<IIQQQBBHI")
_BODY = struct.Struct("<16s16s8s8sqqqqqQIIhBBBBHHHHHHHI")
_BODY_FIELDS = (
    "prediction_id", "trace_id", "span_id", "parent_span_id", "arrival_unix_ns", "queue_ns", "features_ns", "infer_ns",
    "total_ns", "snapshot", "rows", "batch_rows", "status", "role", "rule", "trace_flags", "protocol", "flags",
    "input_count", "output_count", "request_id_bytes", "caller_bytes", "error_bytes", "reserved", "spare",
)  # fmt: skip
SCHEMA, EXCHANGE, GAP = 1, 2, 3
RAW, FINGERPRINT, ABSENT = 0, 1, 2
NAMED = 2


def crc32c(data: bytes, crc: int = 0) -> int:
    """Castagnoli's CRC, bit by bit."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@dataclass
class Tensor:
    datatype: int
    form: int
    shape: tuple[int, ...]
    name: str
    data: bytes


@dataclass
class Frame:
    seq: int
    ordinal: int
    schema_id: int
    kind: int
    length: int
    fields: dict[str, Any] = field(default_factory=dict)
    request_id: bytes = b""
    caller: bytes = b""
    error: str = ""
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    schema: Any = None
    gap: tuple[int, int, int] | None = None


def decode(data: bytes, epoch: bytes) -> list[Frame]:
    """Every frame of ``data``; an AssertionError tells of the first byte that is not as the page says."""
    frames, at, seed = [], 0, crc32c(epoch)
    while at < len(data):
        length, crc, seq, ordinal, schema_id, kind, version, reserved, spare = _HEADER.unpack_from(data, at)
        assert version == 1
        assert reserved == spare == 0
        assert length % 8 == 0
        assert crc == crc32c(data[at + 8 : at + length], seed)
        frame = Frame(seq, ordinal, schema_id, kind, length)
        _decode_payload(frame, data[at + _HEADER.size : at + length])
        frames.append(frame)
        at += length
    return frames


def _decode_payload(frame: Frame, payload: bytes) -> None:
    if frame.kind == SCHEMA:
        (n,) = struct.unpack_from("<Q", payload)
        frame.schema = json.loads(payload[8 : 8 + n])
        assert not any(payload[8 + n :])
    elif frame.kind == GAP:
        frame.gap = struct.unpack("<qqq", payload)
    else:
        _decode_exchange(frame, payload)


def _decode_exchange(frame: Frame, payload: bytes) -> None:
    frame.fields = dict(zip(_BODY_FIELDS, _BODY.unpack_from(payload), strict=True))
    at = _BODY.size
    for name in ("request_id", "caller", "error"):
        n = frame.fields[f"{name}_bytes"]
        text = payload[at : at + n]
        setattr(frame, name, text.decode() if name == "error" else text)
        at += n
    end = -(-at // 8) * 8
    assert not any(payload[at:end])
    at = end
    for side, count in (("inputs", "input_count"), ("outputs", "output_count")):
        for _ in range(frame.fields[count]):
            tensor, at = _decode_tensor(payload, at)
            getattr(frame, side).append(tensor)
    assert at == len(payload)


def _decode_tensor(payload: bytes, at: int) -> tuple[Tensor, int]:
    datatype, rank, form, name_bytes, size = struct.unpack_from("<BBBBI", payload, at)
    at += 8
    shape = struct.unpack_from(f"<{rank}q", payload, at)
    at += 8 * rank
    name = payload[at : at + name_bytes].decode()
    at += -(-name_bytes // 8) * 8
    data = payload[at : at + size]
    return Tensor(datatype, form, shape, name, data), at + -(-size // 8) * 8
