"""Tiny ONNX models of every form that clients meet, and what ONNX Runtime itself says of them.

Each writer makes ``<root>/<model>/<version>/model.onnx``. Shapes are ONNX's: a name is an open dimension.
"""

import json
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, save_model

_OPSETS = [helper.make_opsetid("", 17)]

#: OIP datatype → ONNX element type, for everything that ONNX Runtime takes.
ELEMENT_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
    "BF16": TensorProto.BFLOAT16,
}
INTEGERS = tuple(name for name in ELEMENT_TYPES if "INT" in name)
FLOATS = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BF16": ml_dtypes.bfloat16}

#: OIP datatype → numpy dtype of an array of it.
NUMPY_TYPES = {"BOOL": np.bool_, "BYTES": np.object_} | {name: np.dtype(name.lower()) for name in INTEGERS} | FLOATS


def extreme_values(datatype: str, rows: int = 2) -> np.ndarray:
    """An array [rows, 4] with the datatype's outermost values; every value is exact in JSON, too."""
    if datatype == "BOOL":
        values = [True, False, False, True]
    elif datatype == "BYTES":
        values = [b"", b"plain", "größer ≠ 0 \U0001f600".encode(), b'line\nquote" back\\slash\ttab']
    elif datatype in INTEGERS:
        limits = np.iinfo(NUMPY_TYPES[datatype])
        values = [limits.min, limits.max, 0, 1]
    else:
        limits = ml_dtypes.finfo(FLOATS[datatype])
        values = [float(limits.max), float(limits.tiny), -0.0, 1.5]
    row = np.array(values, dtype=NUMPY_TYPES[datatype])
    return np.stack([np.roll(row, turn) for turn in range(rows)])


# Writing.


def write_add_sub(root: Path, name: str = "simple", version: str = "1", rows: int | str = "n") -> None:
    """OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 − INPUT1, INT32 [rows, 16]: Triton's `simple`."""
    write_graph(
        root,
        name,
        version,
        [
            helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
            helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
        ],
        {"INPUT0": ("INT32", [rows, 16]), "INPUT1": ("INT32", [rows, 16])},
        {"OUTPUT0": ("INT32", [rows, 16]), "OUTPUT1": ("INT32", [rows, 16])},
    )


def write_identity(root: Path, datatype: str, name: str | None = None, shape: list | None = None) -> None:
    """``y = x`` of any datatype; [n, 4] unless told."""
    shape = ["n", 4] if shape is None else shape
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    write_graph(
        root, name or f"identity_{datatype.lower()}", "1", nodes, {"x": (datatype, shape)}, {"y": (datatype, shape)}
    )


def write_scaling(root: Path, name: str, version: str = "1", factor: float = 2.0, shape: list | None = None) -> None:
    """``y = factor · x``, FP32, [n, 4] unless told."""
    shape = ["n", 4] if shape is None else shape
    write_graph(
        root,
        name,
        version,
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        {"x": ("FP32", shape)},
        {"y": ("FP32", shape)},
        [numpy_helper.from_array(np.float32(factor), "factor")],
    )


def write_keyed_scaling(root: Path, name: str, version: str, factor: float) -> None:
    """``y = factor · x`` for x FP32 [n, 4]; ``user`` BYTES [n, 1] is handed back as ``same_user``."""
    write_graph(
        root,
        name,
        version,
        [helper.make_node("Mul", ["x", "factor"], ["y"]), helper.make_node("Identity", ["user"], ["same_user"])],
        {"user": ("BYTES", ["n", 1]), "x": ("FP32", ["n", 4])},
        {"y": ("FP32", ["n", 4]), "same_user": ("BYTES", ["n", 1])},
        [numpy_helper.from_array(np.float32(factor), "factor")],
    )


def write_many_kinds(root: Path, name: str = "many_kinds") -> None:
    """Three inputs and four outputs, no two alike: ``total`` = row sums of ``a``, ``positive`` = a > 0, ``b`` and ``c``
    as they came."""
    write_graph(
        root,
        name,
        "1",
        [
            helper.make_node("ReduceSum", ["a", "axis"], ["total"], keepdims=1),
            helper.make_node("Greater", ["a", "zero"], ["positive"]),
            helper.make_node("Identity", ["b"], ["same_b"]),
            helper.make_node("Identity", ["c"], ["same_c"]),
        ],
        {"a": ("FP32", ["n", 3]), "b": ("INT64", ["n", 2]), "c": ("BYTES", ["n", 1])},
        {
            "total": ("FP32", ["n", 1]),
            "positive": ("BOOL", ["n", 3]),
            "same_b": ("INT64", ["n", 2]),
            "same_c": ("BYTES", ["n", 1]),
        },
        [numpy_helper.from_array(np.int64([1]), "axis"), numpy_helper.from_array(np.float32(0), "zero")],
    )


def write_column_sums(root: Path, name: str = "column_sums") -> None:
    """``y`` [m] = sums over the first dimension of ``x`` [k, m]: open, and yet no batch."""
    write_graph(
        root,
        name,
        "1",
        [helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=0)],
        {"x": ("FP32", ["k", "m"])},
        {"y": ("FP32", ["m"])},
        [numpy_helper.from_array(np.int64([0]), "axis")],
    )


def write_lookup(root: Path, name: str = "lookup", size: int = 1000) -> None:
    """``y = 10 · i`` for i INT64 [n, 1] below ``size``; any other i fails inside ONNX Runtime."""
    write_graph(
        root,
        name,
        "1",
        [helper.make_node("Gather", ["table", "i"], ["y"])],
        {"i": ("INT64", ["n", 1])},
        {"y": ("FP32", ["n", 1])},
        [numpy_helper.from_array(np.arange(size, dtype=np.float32) * 10, "table")],
    )


def write_patient(root: Path, name: str = "patient", version: str = "1") -> None:
    """``y = x + 1`` for x FP32 [n, 4], after about 2 µs for each unit of the largest element of x."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still_on"]), helper.make_node("Identity", ["seen"], ["next_seen"])],
        "body",
        [_info("turn", "INT64", []), _info("on", "BOOL", []), _info("seen", "FP32", None)],
        [_info("still_on", "BOOL", []), _info("next_seen", "FP32", None)],
    )
    write_graph(
        root,
        name,
        version,
        [
            helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["turns"], to=TensorProto.INT64),
            helper.make_node("Loop", ["turns", "", "x"], ["unchanged"], body=body),
            helper.make_node("Add", ["unchanged", "one"], ["y"]),
        ],
        {"x": ("FP32", ["n", 4])},
        {"y": ("FP32", ["n", 4])},
        [numpy_helper.from_array(np.float32(1), "one")],
    )


def write_model_yaml(root: Path, name: str, text: str) -> None:
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name / "model.yaml").write_text(text)


def write_graph(
    root: Path, name: str, version: str, nodes, inputs: dict, outputs: dict, constants: list | None = None
) -> None:
    folder = root / name / version
    folder.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        nodes,
        name,
        [_info(tensor, *kind) for tensor, kind in inputs.items()],
        [_info(tensor, *kind) for tensor, kind in outputs.items()],
        constants or [],
    )
    save_model(helper.make_model(graph, opset_imports=_OPSETS, ir_version=8), folder / "model.onnx")


def _info(name: str, datatype: str, shape: list | None):
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[datatype], shape)


# What the answers must be.


@cache
def _session(path: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def expected(root: Path, name: str, feeds: dict[str, np.ndarray], version: str = "1") -> dict[str, np.ndarray]:
    """ONNX Runtime's own answer to exactly this request. bfloat16, which its numpy binding lacks, is not for it."""
    session = _session(str(root / name / version / "model.onnx"))
    # The binding takes texts; it would spell bytes as "b'…'".
    feeds = {
        name: np.vectorize(bytes.decode, "O")(array) if array.dtype == object else array
        for name, array in feeds.items()
    }
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, feeds), strict=True))


def json_data(array: np.ndarray) -> list:
    """A tensor's elements, flat, as they stand in JSON."""
    if array.dtype == np.object_:
        return [value.decode() for value in array.ravel()]
    return json.loads(
        json.dumps(
            array.astype(np.float64).ravel().tolist() if array.dtype == ml_dtypes.bfloat16 else array.ravel().tolist()
        )
    )
