"""ONNX Runtime as both baselines use it: one thread, no spinning, telemetry off."""

from __future__ import annotations

import onnxruntime as ort


def open_session(path: str) -> ort.InferenceSession:
    """A session tuned for small models on one core; raises what ONNX Runtime raises on a broken file."""
    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
