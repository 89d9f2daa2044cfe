"""A plan as a graph of ONNX operators, for servers that know no plans.

Values of the plan become tensors of shape [rows, 1], in float64 and int64 as in our loop, with its missing values: NaN,
-2**63, the empty text. An instruction that standard operators cannot do exactly is refused by name; only what is the C
library's there and here (log1p, sine, cosine, exponential, logarithm) may be some units in the last place apart.

What a graph cannot do is fail one row. Where a row of ours would fail, its run fails, with all its rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.config.feature_page import FeaturePage
from gateway.core.errors import ConfigurationError, LoadFailed, Problem
from gateway.features.compiler import PlanValues, compile_values
from gateway.features.program import Emission, Kind, Value
from gateway.features.to_onnx.graph import BOOL, DOUBLE, FLOAT, INT64, TEXT, Graph, Tensor, Versions
from gateway.features.to_onnx.operations import FORMS, STEP_OF_EMISSION, element_form
from gateway.features.to_onnx.values import MISSING

#: As what a column of each type is fed.
INPUT_TYPES = {"float": DOUBLE, "int": INT64, "bool": INT64, "string": TEXT, "strings": TEXT, "timestamp": INT64}
OUTPUT_TYPES = {"float32": FLOAT, "float64": DOUBLE, "int64": INT64, "string": TEXT}


def to_onnx(page: FeaturePage, folder: Path, *, versions: Versions | None = None) -> Any:
    """The plan of ``page`` as an ``onnx.ModelProto``: an input [rows, 1] a column, an output [rows, width] each.

    Instants are int64 microseconds since 1970 in UTC, bools int64; columns that clients may leave out are required.
    ConfigurationError names every step without a form in ONNX; LoadFailed if the package ``onnx`` is not there.
    """
    onnx = import_onnx()
    values = compile_values(page, folder)
    export = _Export(values, Graph(versions or Versions()))
    outputs = [export.output(i, name) for i, name in enumerate(page.outputs)]
    if export.problems:
        raise ConfigurationError(export.problems)
    outputs = [export.guarded(name, output) for name, output in zip(page.outputs, outputs, strict=True)]
    model = export.graph.model(
        [(name, INPUT_TYPES[column.type], 1) for name, column in page.columns.items() if column is not None],
        [
            (output.name, output.type, len(values.names[name]))
            for name, output in zip(page.outputs, outputs, strict=True)
        ],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def import_onnx() -> Any:
    """The package ``onnx``, which this alone needs. LoadFailed with how to install it."""
    try:
        import onnx  # noqa: PLC0415
    except ImportError as error:
        raise LoadFailed("the package onnx is not installed", hint="pip install 'onnx-gateway[onnx]'") from error
    return onnx


class _Export:
    def __init__(self, values: PlanValues, graph: Graph) -> None:
        self.values = values
        self.graph = graph
        self.problems: list[Problem] = []
        self._known: dict[int, Tensor] = {}
        self._columns = {id(value): name for name, value in values.loads.items()}
        self._told: set[tuple[str, str]] = set()
        for value in values.loads.values():
            self.tensor(value, "", "")  # every column is loaded, used or not, for its rows may fail

    def output(self, index: int, name: str) -> Tensor:
        """The elements of an output, side by side."""
        dtype = OUTPUT_TYPES[str(self.values.page.outputs[name].dtype)]
        emissions = [emission for emission in self.values.emissions if emission.output == index]
        elements = [self.elements(emission, name).cast(dtype) for emission in emissions]
        return elements[0] if len(elements) == 1 else self.graph.op("Concat", *elements, type=dtype, axis=1)

    def elements(self, emission: Emission, output: str) -> Tensor:
        feature = self.values.names[output][emission.offset]
        value = self.tensor(emission.value, output, feature)
        form = element_form(emission, integers=self.values.page.outputs[output].dtype == "int64")
        if form is None:
            self.refuse(STEP_OF_EMISSION[emission.operation], f"outputs.{output}", feature)
            return value
        return form(value, self.graph)

    def guarded(self, name: str, output: Tensor) -> Tensor:
        """The same under its name, in a run that fails where a row does."""
        return self.graph.guarded(output, f"{name}", len(self.values.names[name]))

    def tensor(self, value: Value, output: str, feature: str) -> Tensor:
        """The value, whose operands come first. Not recursive: chains are long."""
        pending = [value]
        while pending:
            step = pending[-1]
            missing = [operand for operand in step.operands if id(operand) not in self._known]
            if missing:
                pending += missing
                continue
            pending.pop()
            if id(step) not in self._known:
                self._known[id(step)] = self.computed(step, output, feature)
        return self._known[id(value)]

    def computed(self, value: Value, output: str, feature: str) -> Tensor:
        if id(value) in self._columns:
            return self.loaded(self._columns[id(value)])
        form = FORMS.get(value.operation)
        operands = [self._known[id(operand)] for operand in value.operands]
        result = form(value, operands, self.graph) if form is not None else None
        if result is None:
            self.refuse(f"`{value.step}`", f"outputs.{output}", feature)
            return self.graph.constant(MISSING[value.kind])
        return result

    def loaded(self, name: str) -> Tensor:
        column = self.values.page.columns[name]
        assert column is not None  # the page is sound
        tensor = self.graph.column = Tensor(name, INPUT_TYPES[column.type], self.graph)
        if column.type == "strings":
            self.refuse("a list of texts", f"columns.{name}", name)
        if column.missing == "error":
            self.graph.fail_where(tensor.is_missing())
        if column.infinite == "error":
            self.graph.fail_where(self.graph.op("IsInf", tensor, type=BOOL))
        if column.type == "bool":
            self.graph.fail_where(~(tensor.equals(0) | tensor.equals(1) | tensor.is_missing()))
        return tensor

    def refuse(self, step: str, path: str, feature: str) -> None:
        if (step, feature) not in self._told:
            self._told.add((step, feature))
            self.problems.append(
                Problem(
                    self.values.page.file,
                    path,
                    f"{feature}: {step} has no exact form in ONNX's operators: take it out, or do its work upstream",
                )
            )


__all__ = ["INPUT_TYPES", "Kind", "import_onnx", "to_onnx"]
