"""Models of a few nodes whose answers anybody can compute, written with the `onnx` package."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save_model

_OPSETS = [helper.make_opsetid("", 17)]


def write_scaling(folder: Path, factor: float) -> None:
    """``y = factor · x`` for x of shape [n, 4], FP32: some microseconds, so it runs on the worker's loop."""
    _write(folder, [helper.make_node("Mul", ["x", "factor"], ["y"])], {"factor": np.float32(factor)})


def write_counting(folder: Path, turns_per_unit: float = 1.0, *, rows: int | str = 1) -> None:
    """``y = x + turns`` for x of shape [rows, 4], FP32, counted up one by one, some 2 µs each.

    The caller decides how long a run takes: turns = turns_per_unit · x[0, 0]. Warming up, with zeros, takes no time.
    """
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
        helper.make_node("Mul", ["first", "turns_per_unit"], ["product"]),
        helper.make_node("Cast", ["product"], ["turns"], to=TensorProto.INT64),
        helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body),
    ]
    constants = {"one": np.float32(1), "zero": np.int64(0), "turns_per_unit": np.float32(turns_per_unit)}
    _write(folder, nodes, constants, rows)


def write_hanging(folder: Path) -> None:
    """Loads and warms up like any other, and does not come back from a run with a positive x[0, 0] for days."""
    write_counting(folder, 1e12, rows="n")


def write_crashing(folder: Path, remainder: int = 7) -> None:
    """Takes its process along, with SIGFPE, when an element of x is 20·n + ``remainder``, else computes something.

    ONNX Runtime divides int64 by int64 as the machine does, which cannot divide the smallest number by -1.
    """
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mod", ["whole", "twenty"], ["remainder"]),
        helper.make_node("Sub", ["remainder", "fatal"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["squared"]),
        helper.make_node("Sub", ["minus_one", "squared"], ["divisor"]),
        helper.make_node("Div", ["smallest", "divisor"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["y"], to=TensorProto.FLOAT),
    ]
    constants = {"twenty": 20, "fatal": remainder, "minus_one": -1, "smallest": np.iinfo(np.int64).min}
    _write(folder, nodes, {name: np.int64(value) for name, value in constants.items()})


def _write(folder: Path, nodes: list, constants: dict[str, np.generic], rows: int | str = "n") -> None:
    folder.mkdir(parents=True)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    save_model(helper.make_model(graph, opset_imports=_OPSETS, ir_version=8), folder / "model.onnx")
