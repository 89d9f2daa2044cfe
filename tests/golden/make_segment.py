"""Writes the golden segment of the present format: run once when a format is new, never again for it.

python tests/golden/make_segment.py tests/golden/segment-v1.seg
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from gateway._fast.exchange import exchange_for_test
from gateway._fast.record_frames import fill_exchange_for_test
from gateway._fast.record_ring import RingWriter, create_ring
from gateway.core.errors import TensorMismatch
from gateway.core.tensors import DataType, TensorSpec
from gateway.recording.copier import RingCopier, Rotation
from tests.fast.record_makers import NOON, numbered_id, oip_bytes, raw


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        create_ring(folder / "w0.ring", 1 << 20)
        writer = RingWriter(folder / "w0.ring")
        commit_exchanges(writer)
        closed = []
        copier = RingCopier(folder / "w0.ring", folder, rotation=Rotation(), on_closed=closed.append)
        copier.step()
        copier.close()
        target.write_bytes(closed[0].path.read_bytes())


def commit_exchanges(writer: RingWriter) -> None:
    """A batch of two, a failure that was never bound, fingerprints, and a gap."""
    inputs = [TensorSpec("carrier", DataType.BYTES, (-1,)), TensorSpec("distance", DataType.FP64, (-1,), optional=True)]
    handle = writer.register_schema("flights", "2", "0" * 64, inputs, [TensorSpec("p", DataType.FP32, (-1, 2))])
    sent = [
        ("carrier", "BYTES", (2,), oip_bytes(b"UA", "Zoë".encode())),
        ("distance", "FP64", (2,), raw([1.5, np.nan], "<f8")),
    ]
    out = [("p", "FP32", (2, 2), raw([0.25, 0.75, 0.5, 0.5]))]
    common = {"arrival_unix_ns": NOON, "trace_id": bytes(range(16)), "span_id": bytes(range(8)), "snapshot": 7}
    first = {"inputs": sent, "outputs": out, "bound": [0, 1], "rows": 2, "rule": 2, "batch_rows": 5, "infer_ns": 9000,
             "queued_ns": 1000, "started_ns": 3000, "request_id": b"r-1", "caller": b"127.0.0.1", "protocol": b"grpc",
             "parent_span_id": bytes(range(1, 9)), "trace_flags": 1, "traced": True}  # fmt: skip
    writer.commit_for_test(filled(numbered_id(1), **common, **first), handle, 0)
    failed = {
        "inputs": [("nonsense", "INT8", (1,), b"\5")],
        "error": TensorMismatch("no such input"),
        "protocol": b"http",
    }
    writer.commit_for_test(filled(numbered_id(2), **common, **failed), handle, 3)
    writer.note_unlogged_for_test(4)
    digested = {"inputs": sent[:1], "outputs": out, "bound": [0, -1], "rows": 2, "role": 1, "rule": 7}
    writer.commit_for_test(filled(numbered_id(1), **common, **digested), handle, 0, inputs="digest")


def filled(prediction_id: bytes, **fields):
    return fill_exchange_for_test(exchange_for_test(), prediction_id=prediction_id, **fields)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
