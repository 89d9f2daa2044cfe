"""A model-serving gateway for ONNX models: split, shadow, compare and record every prediction."""

__version__ = "0.1.0"
