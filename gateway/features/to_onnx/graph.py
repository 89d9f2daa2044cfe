"""A graph of ONNX under construction: tensors that are written as formulas."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

#: Element types by their numbers in ``onnx.TensorProto``.
FLOAT, INT64, TEXT, BOOL, DOUBLE = 1, 7, 8, 9, 11
_NUMPY = {FLOAT: np.float32, INT64: np.int64, BOOL: np.bool_, DOUBLE: np.float64}
_TYPE_OF = {np.dtype(numpy_type): type_ for type_, numpy_type in _NUMPY.items()}
MISSING_INTEGER = -(2**63)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Versions:
    """Of the operator sets and of the format: those that most runtimes have, or those of a model to be joined with."""

    operators: int = 17
    machine_learning: int = 2
    format: int = 8


@dataclass(frozen=True, eq=False)
class Tensor:
    """Values of shape [rows, n]; n is 1 but for constants and comparisons with them."""

    name: str
    type: int
    graph: Graph = field(repr=False)

    def __add__(self, other: Tensor | float) -> Tensor:
        return self._with("Add", other)

    def __sub__(self, other: Tensor | float) -> Tensor:
        return self._with("Sub", other)

    def __mul__(self, other: Tensor | float) -> Tensor:
        return self._with("Mul", other)

    def __truediv__(self, other: Tensor | float) -> Tensor:
        return self._with("Div", other)

    def __mod__(self, other: int) -> Tensor:
        """Of integers, with the divisor's sign, as in Python."""
        return self._with("Mod", other)

    def __floordiv__(self, other: int) -> Tensor:
        """Of integers, downwards, as in Python; ONNX's own goes towards zero."""
        return (self - self % other) / other

    def __lt__(self, other: Tensor | float) -> Tensor:
        return self._with("Less", other, BOOL)

    def __gt__(self, other: Tensor | float) -> Tensor:
        return self._with("Greater", other, BOOL)

    def __ge__(self, other: Tensor | float) -> Tensor:
        return self._with("GreaterOrEqual", other, BOOL)

    def __and__(self, other: Tensor) -> Tensor:
        return self.graph.op("And", self, other, type=BOOL)

    def __or__(self, other: Tensor) -> Tensor:
        return self.graph.op("Or", self, other, type=BOOL)

    def __invert__(self) -> Tensor:
        return self.graph.op("Not", self, type=BOOL)

    def equals(self, other: Tensor | float) -> Tensor:
        """Not for texts: only newer runtimes compare those."""
        return self._with("Equal", other, BOOL)

    def is_missing(self) -> Tensor:
        if self.type == DOUBLE:
            return self.graph.op("IsNaN", self, type=BOOL)
        if self.type == TEXT:
            return self.looked_up({"": 1}, 0).equals(1)
        return self.equals(MISSING_INTEGER)

    def where(self, chosen: Tensor | float | str, other: Tensor | float | str) -> Tensor:
        """``chosen`` where this is true, else ``other``; one of them at least is a tensor."""
        typed = chosen if isinstance(chosen, Tensor) else other
        assert isinstance(typed, Tensor)
        sides = [
            side if isinstance(side, Tensor) else self.graph.constant(side, typed.type) for side in (chosen, other)
        ]
        return self.graph.op("Where", self, *sides, type=typed.type)

    def cast(self, type_: int) -> Tensor:
        return self if self.type == type_ else self.graph.op("Cast", self, type=type_, to=type_)

    def looked_up(self, codes: Mapping[Any, int], default: int) -> Tensor:
        """The code of each text or integer."""
        codes = codes or {"" if self.type == TEXT else MISSING_INTEGER: default}  # an attribute may not be empty
        keys = "keys_strings" if self.type == TEXT else "keys_int64s"
        arguments = {keys: list(codes), "values_int64s": list(codes.values()), "default_int64": default}
        return self.graph.op("LabelEncoder", self, type=INT64, domain="ai.onnx.ml", **arguments)

    def summed(self) -> Tensor:
        """Over what stands side by side: [rows, n] to [rows, 1]."""
        return self.graph.op("ReduceSum", self, self.graph.array(np.array([1], np.int64)), type=self.type, keepdims=1)

    def _with(self, operator: str, other: Tensor | float, type_: int | None = None) -> Tensor:
        other = other if isinstance(other, Tensor) else self.graph.constant(other, self.type)
        return self.graph.op(operator, self, other, type=type_ or self.type)


class Graph:
    """Nodes in order; the same node asked for twice is one."""

    def __init__(self, versions: Versions) -> None:
        self.versions = versions
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._known: dict[object, Tensor] = {}
        self._failing: list[Tensor] = []
        #: One of the columns, for how many rows there are.
        self.column: Tensor | None = None

    def op(self, operator: str, *operands: Tensor, type: int, domain: str = "", **attributes: Any) -> Tensor:
        from onnx import helper  # noqa: PLC0415 - see import_onnx

        key = (operator, domain, *(operand.name for operand in operands), repr(attributes))
        if key not in self._known:
            result = Tensor(self._new_name(operator), type, self)
            names = [operand.name for operand in operands]
            self._nodes.append(helper.make_node(operator, names, [result.name], domain=domain, **attributes))
            self._known[key] = result
        return self._known[key]

    def constant(self, value: float | str, type: int | None = None) -> Tensor:
        """One value, [1, 1]; without ``type`` that of Python's own."""
        if isinstance(value, str):
            return self._kept(("text", value), TEXT, lambda name: _text_proto(name, value))
        return self.array(np.array([[value]], _NUMPY[type] if type is not None else None))

    def array(self, values: Array) -> Tensor:
        """The values of an array, in its type."""
        from onnx import numpy_helper  # noqa: PLC0415

        key = (values.dtype, values.shape, values.tobytes())
        return self._kept(key, _TYPE_OF[values.dtype], lambda name: numpy_helper.from_array(values, name))

    def _kept(self, key: object, type_: int, make: Callable[[str], Any]) -> Tensor:
        if key not in self._known:
            self._known[key] = Tensor(self._new_name("constant"), type_, self)
            self._constants.append(make(self._known[key].name))
        return self._known[key]

    def in_every_row(self, value: Tensor) -> Tensor:
        """A constant as many times as the columns have rows."""
        assert self.column is not None  # every plan has one, and it is there before any value
        return self.op("Expand", value, self.op("Shape", self.column, type=INT64), type=value.type)

    # Runs that fail.

    def fail_where(self, condition: Tensor) -> None:
        """The run fails if this is true of any row."""
        self._failing.append(condition.cast(INT64))

    def guarded(self, tensor: Tensor, name: str, width: int) -> Tensor:
        """``tensor`` as the graph's output ``name``; if a row fails, the run does, instead of giving anything."""
        from onnx import helper  # noqa: PLC0415

        shape = self.array(np.array([-1, width], np.int64))
        if self._failing:
            # How many fail is a place in a list of one: any but 0 lies outside, which no runtime lets pass.
            nothing = self.op("Gather", self.array(np.array([0], np.int64)), self._failures(), type=INT64, axis=0)
            shape = self.op("Add", shape, nothing, type=INT64)
        self._nodes.append(helper.make_node("Reshape", [tensor.name, shape.name], [name]))
        return Tensor(name, tensor.type, self)

    def _failures(self) -> Tensor:
        """How often a row fails, a scalar."""
        axes = self.array(np.array([0, 1], np.int64))
        counts = [self.op("ReduceSum", failing, axes, type=INT64, keepdims=0) for failing in self._failing]
        return functools.reduce(lambda total, count: self.op("Add", total, count, type=INT64), counts)

    def model(self, inputs: Sequence[tuple[str, int, int]], outputs: Sequence[tuple[str, int, int]]) -> Any:
        """The finished ``ModelProto``; inputs and outputs are (name, type, width)."""
        from onnx import helper  # noqa: PLC0415

        infos = [
            [helper.make_tensor_value_info(name, type_, ["rows", width]) for name, type_, width in side]
            for side in (inputs, outputs)
        ]
        sets = [helper.make_opsetid("", self.versions.operators)]
        if any(node.domain == "ai.onnx.ml" for node in self._nodes):
            sets.append(helper.make_opsetid("ai.onnx.ml", self.versions.machine_learning))
        graph = helper.make_graph(self._nodes, "features", infos[0], infos[1], self._constants)
        return helper.make_model(
            graph, opset_imports=sets, ir_version=self.versions.format, producer_name="onnx-gateway"
        )

    def _new_name(self, operator: str) -> str:
        return f"features/{operator}_{len(self._nodes) + len(self._constants)}"


def _text_proto(name: str, text: str) -> Any:
    from onnx import helper  # noqa: PLC0415

    texts: Any = [text.encode()]  # as the format has them; the helper's own types know numbers alone
    return helper.make_tensor(name, TEXT, (1, 1), texts)
