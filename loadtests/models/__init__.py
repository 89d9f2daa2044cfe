"""The small ONNX models that the load tests serve."""
