"""Models of a few nodes whose answers anybody can compute, written with the `onnx` package."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save_model

_OPSETS = [helper.make_opsetid("", 17)]


def write_scaling(folder: Path, factor: float) -> None:
    """``y = factor · x`` for x of shape [n, 4], FP32: some microseconds, so it runs on the worker's loop."""
    scale = numpy_helper.from_array(np.float32(factor), "factor")
    _write(folder, [helper.make_node("Mul", ["x", "factor"], ["y"])], [scale])


def write_counting(folder: Path, factor: float = 1.0) -> None:
    """``y = x + x[0, 0]`` for x of shape [1, 4], FP32, counted up one by one: about 2 µs for each unit of x[0, 0].

    The caller decides with x[0, 0] how long a run takes, while warming up (with zeros) takes no time.
    """
    one = numpy_helper.from_array(np.float32(factor), "one")
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still_on"]), helper.make_node("Add", ["sum", "one"], ["next_sum"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_sum", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Gather", ["x", "zero"], ["first_row"], axis=0),
        helper.make_node("Gather", ["first_row", "zero"], ["first"], axis=0),
        helper.make_node("Cast", ["first"], ["turns"], to=TensorProto.INT64),
        helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body),
    ]
    _write(folder, nodes, [one, numpy_helper.from_array(np.int64(0), "zero")], rows=1)


def _write(folder: Path, nodes: list, constants: list, rows: int | str = "n") -> None:
    folder.mkdir(parents=True)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 4])],
        constants,
    )
    save_model(helper.make_model(graph, opset_imports=_OPSETS, ir_version=8), folder / "model.onnx")
