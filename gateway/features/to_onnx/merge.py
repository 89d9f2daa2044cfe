"""A plan's graph in front of the model that it feeds: one graph, from columns to predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.core.errors import ConfigurationError, LoadFailed, Problem
from gateway.features.to_onnx import import_onnx
from gateway.features.to_onnx.graph import Versions

#: What the operators of a plan's graph need.
LEAST_OPERATORS, LEAST_MACHINE_LEARNING = 13, 2
#: In front of the model's own names, which may be those of columns.
PREFIX = "model/"


def read_model(path: Path) -> Any:
    """The model in that file. LoadFailed if it is none."""
    onnx = import_onnx()
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf and the operating system, each with exceptions of its own
        raise LoadFailed(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error


def merged(make_plan: Callable[[Versions], Any], model: Any) -> Any:
    """The plan that ``make_plan`` makes for the model's versions, and the model behind it.

    Inputs are the columns and what of the model no output feeds; outputs are the model's. ConfigurationError if they do
    not fit.
    """
    onnx = import_onnx()
    model = _modern(model)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    plan = make_plan(Versions(versions[""], versions.get("ai.onnx.ml", Versions.machine_learning), model.ir_version))
    fed = {output.name for output in plan.graph.output}
    if stray := fed - {entry.name for entry in model.graph.input}:
        raise ConfigurationError([Problem("model", "inputs", f"none is called {', '.join(sorted(stray))}")])
    outputs = {entry.name for entry in model.graph.output}
    if shared := outputs & {entry.name for entry in plan.graph.input}:
        raise ConfigurationError([Problem("model", "outputs", f"named as a column is: {', '.join(sorted(shared))}")])
    model = onnx.compose.add_prefix(model, PREFIX, rename_outputs=False)
    plan = onnx.compose.add_prefix(plan, "plan/", rename_inputs=False)
    try:
        joined = onnx.compose.merge_models(plan, model, [(f"plan/{name}", PREFIX + name) for name in sorted(fed)])
    except (ValueError, onnx.checker.ValidationError) as error:
        raise ConfigurationError([Problem("model", "", f"does not fit behind the plan: {error}")]) from error
    return joined


def _modern(model: Any) -> Any:
    """The model with operator sets that the plan's operators are in. ConfigurationError if it cannot be."""
    onnx = import_onnx()
    versions = {entry.domain or "": entry for entry in model.opset_import}
    if versions[""].version < LEAST_OPERATORS:
        try:
            model = onnx.version_converter.convert_version(model, LEAST_OPERATORS)
        except Exception as error:  # RuntimeError and others, from C++
            raise ConfigurationError(
                [
                    Problem(
                        "model",
                        "opset_import",
                        f"is of operator set {versions[''].version}, at least {LEAST_OPERATORS} is needed, "
                        f"and it cannot be converted: {error}",
                    )
                ]
            ) from error
    for entry in model.opset_import:
        if entry.domain == "ai.onnx.ml" and entry.version < LEAST_MACHINE_LEARNING:
            _check_label_encoders(model)
            entry.version = LEAST_MACHINE_LEARNING  # only LabelEncoder is another one there
    return model


def _check_label_encoders(model: Any) -> None:
    if any(node.op_type == "LabelEncoder" for node in model.graph.node):
        raise ConfigurationError(
            [Problem("model", "opset_import", "has a LabelEncoder of ai.onnx.ml 1: export it anew")]
        )
