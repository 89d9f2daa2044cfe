"""``FeaturePage`` → ``FeaturePlan``: checked at load against the columns and the graph, all mistakes at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gateway._fast.feature_plan import ChainCode, ColumnCode, Emission, Failure, FeaturePlan, OutputCode
from gateway.config.feature_page import FeaturePage, PageColumn, PageFeature, step_record
from gateway.core.errors import ConfigurationError, Problem
from gateway.core.tensors import DataType, TensorSpec
from gateway.features.steps import CATALOGUE, WHOLE, Draft, Kind, Unfit, compile_step

if TYPE_CHECKING:
    from gateway.config.features import FeatureSpec

#: Elements of one row over all outputs: 8 MiB of float64.
MAX_ROW_ELEMENTS = 1 << 20

OUTPUT_TYPES = {"float32": DataType.FP32, "float64": DataType.FP64, "int64": DataType.INT64}
COLUMN_TYPES = {
    "float": (Kind.FLOAT, DataType.FP64),
    "int": (Kind.INT, DataType.INT64),
    "bool": (Kind.BOOL, DataType.BOOL),
    "string": (Kind.STRING, DataType.BYTES),
    "timestamp": (Kind.TIMESTAMP, DataType.BYTES),
}
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
#: What an impute step's `indicator` stands for.
INDICATOR = step_record(step="missing_indicator")


def compile_plan(
    spec: FeatureSpec,
    folder: Path,
    graph_inputs: Sequence[TensorSpec] | None = None,
    file: str = "features.yaml",
) -> FeaturePlan:
    """Like :func:`compile_page`, for a spec as the grammar gives it."""
    return compile_page(_page_of(spec, file), folder, graph_inputs)


def _page_of(spec: FeatureSpec, file: str = "features.yaml") -> FeaturePage:
    return FeaturePage.of_document(spec.model_dump(mode="json"), file)


def load_plan(path: Path, graph_inputs: Sequence[TensorSpec] | None = None) -> FeaturePlan:
    """The plan of the ``features.yaml`` at ``path``; problems of its grammar and of its meaning come together."""
    # Imported here: the grammar brings pydantic and PyYAML, and workers compile pages that control has read.
    from gateway.config.features import read_page  # noqa: PLC0415

    return compile_page(read_page(path), path.parent, graph_inputs)


def widths_of(spec: FeatureSpec, output: str, folder: Path) -> list[int]:
    """Elements of each feature of an output of a sound ``spec``, in order."""
    compilation = _Compilation(_page_of(spec), folder)
    features = compilation.page.outputs[output].features
    drafts = [_compile_feature(path, feature, compilation) for path, feature in features]
    if compilation.problems:
        raise ConfigurationError(compilation.problems)
    return [sum(draft.width for draft in found or ()) for found in drafts]


@dataclass
class _Element:
    """A finished chain and where its elements begin in a row of its output."""

    column: str
    draft: Draft
    output: str
    offset: int


@dataclass
class _Compilation:
    page: FeaturePage
    folder: Path
    elements: list[_Element] = field(default_factory=list)
    widths: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: str, message: str) -> None:
        self.problems.append(Problem(self.page.file, path, message))


def compile_page(page: FeaturePage, folder: Path, graph_inputs: Sequence[TensorSpec] | None = None) -> FeaturePlan:
    """The plan of ``page``, whose vocabulary files lie in ``folder``.

    With ``graph_inputs``, the outputs must be exactly those, in name, data type and elements of a row.
    ConfigurationError with every problem, each with the page's file and the path inside it.
    """
    compilation = _Compilation(page, folder, problems=list(page.problems))
    for name in page.outputs:
        _compile_output(name, compilation)
    shapes = _check_graph(compilation, graph_inputs) if graph_inputs is not None else {}
    if sum(compilation.widths.values()) > MAX_ROW_ELEMENTS:
        compilation.problem(
            "outputs", f"a row has {sum(compilation.widths.values())} elements, over {MAX_ROW_ELEMENTS}"
        )
    if compilation.problems:
        raise ConfigurationError(compilation.problems)
    return _assemble(compilation, shapes)


# Chains.


def _compile_output(name: str, compilation: _Compilation) -> None:
    part = compilation.page.outputs[name]
    offset = 0
    complete = part.complete
    for path, feature in part.features:
        drafts = _compile_feature(path, feature, compilation)
        complete = complete and drafts is not None
        for draft in drafts or ():
            if part.dtype == "int64" and not _whole(draft):
                compilation.problem(path, "an int64 output takes int, bool, one_hot and hash, but this gives float")
            compilation.elements.append(_Element(feature.column, draft, name, offset))
            offset += draft.width
    if complete:
        compilation.widths[name] = offset
        if not offset:
            compilation.problem(f"outputs.{name}.features", "give no element: every category is dropped")


def _whole(draft: Draft) -> bool:
    return draft.emission in (Emission.EMIT_INTEGER, Emission.EMIT_ONE_HOT, Emission.EMIT_HASHED)


def _compile_feature(path: str, feature: PageFeature, compilation: _Compilation) -> list[Draft] | None:
    """The feature's chain and, if its impute says so, that of the indicator. None after a problem."""
    columns = compilation.page.columns
    if feature.column not in columns:
        compilation.problem(f"{path}.column", f"no column is called {feature.column!r}; known are {_known(columns)}")
        return None
    column = columns[feature.column]
    if column is None:
        return None
    draft = Draft(COLUMN_TYPES[column.type][0])
    indicators: list[Draft] = []
    sound = True
    for i, step in enumerate(feature.steps):
        before = draft
        try:
            draft = compile_step(step, before, compilation.folder)
        except Unfit as error:
            compilation.problem(f"{path}.steps.{i}.{step.step}", str(error))
            draft = replace(before, kind=_kind_after(step.step, before.kind))
            sound = False
            continue
        if step.step == "impute" and step.indicator:
            indicators.append(compile_step(INDICATOR, before, compilation.folder))
    if not sound:
        return None
    try:
        return [_emitted(chain) for chain in (draft, *indicators)]
    except Unfit as error:
        compilation.problem(path, str(error))
        return None


def _kind_after(step: str, kind: Kind) -> Kind:
    # So that one unfit step does not make problems of those behind it.
    fallback = CATALOGUE[step].fallback
    return kind if fallback is None else fallback


def _emitted(draft: Draft) -> Draft:
    if draft.emission is not None or draft.kind == Kind.ELEMENTS:
        return draft
    if draft.kind == Kind.FLOAT:
        return replace(draft, emission=Emission.EMIT_NUMBER)
    if draft.kind in WHOLE:
        return replace(draft, emission=Emission.EMIT_INTEGER)
    hint = "timestamp_part" if draft.kind == Kind.TIMESTAMP else "one_hot, ordinal or hash"
    raise Unfit(f"ends as a {draft.kind}, which is no number: add {hint}")


def _known(columns: dict[str, PageColumn | None]) -> str:
    names = list(columns)
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


# The graph.


def _check_graph(compilation: _Compilation, graph_inputs: Sequence[TensorSpec]) -> dict[str, tuple[int, ...]]:
    """Shapes of the outputs as the graph has them, for those that fit."""
    shapes = {}
    taken = {spec.name: spec for spec in graph_inputs}
    for name, part in compilation.page.outputs.items():
        spec = taken.get(name)
        if spec is None:
            known = ", ".join(taken) or "none"
            compilation.problem(f"outputs.{name}", f"the graph has no input of that name; it has {known}")
            continue
        if part.dtype is not None and OUTPUT_TYPES[part.dtype] != spec.datatype:
            compilation.problem(
                f"outputs.{name}.dtype", f"is {part.dtype}, but the graph's input is {spec.datatype.name}"
            )
        width = compilation.widths.get(name)
        if width is not None and spec.row_elements() not in (-1, width):
            compilation.problem(
                f"outputs.{name}.features",
                f"give {width} elements, but the graph's input {spec} takes {spec.row_elements()}",
            )
        shapes[name] = _output_shape(spec, width or 0)
    for name, spec in taken.items():
        if name not in compilation.page.outputs and not spec.optional:
            compilation.problem("outputs", f"the graph's input {spec} is filled by no output")
    return shapes


def _output_shape(spec: TensorSpec, width: int) -> tuple[int, ...]:
    # As the graph has it where that is fixed; a graph that leaves its width open gets [rows, width].
    return (-1, *spec.shape[1:]) if spec.row_elements() == width else (-1, width)


# The tables.


def _assemble(compilation: _Compilation, shapes: dict[str, tuple[int, ...]]) -> FeaturePlan:
    page = compilation.page
    output_index = {name: i for i, name in enumerate(page.outputs)}
    outputs = [
        OutputCode(
            TensorSpec(name, OUTPUT_TYPES[str(part.dtype)], shapes.get(name, (-1, compilation.widths[name]))),
            compilation.widths[name],
        )
        for name, part in page.outputs.items()
    ]
    elements: dict[str, list[_Element]] = {name: [] for name in page.columns}
    for element in compilation.elements:
        elements[element.column].append(element)
    columns = [
        _column_code(name, column, elements[name], output_index)
        for name, column in page.columns.items()
        if column is not None
    ]
    return FeaturePlan(columns, outputs)


def _column_code(name: str, column: PageColumn, elements: list[_Element], output_index: dict[str, int]) -> ColumnCode:
    kind, datatype = COLUMN_TYPES[column.type]
    chains = [
        ChainCode(
            element.draft.codes,
            int(element.draft.emission or 0),
            output_index[element.output],
            element.offset,
            element.draft.period,
        )
        for element in elements
    ]
    return ColumnCode(
        spec=TensorSpec(name, datatype, (-1,), column.optional),
        type=int(kind),
        missing_fails=column.missing == "error",
        infinite_fails=column.infinite == "error",
        unit=UNITS[column.unit],
        chains=chains,
        expectations=_expectations(column, elements),
    )


def _expectations(column: PageColumn, elements: list[_Element]) -> dict[int, str]:
    """What a row's value should have been, by the failure; words of the error message."""
    known = next((element.draft.categories for element in elements if element.draft.categories), ())
    texts = {
        "float": "any numeric data type", "int": "any numeric data type", "bool": "BOOL, or a numeric data type",
        "string": "BYTES", "timestamp": "BYTES with ISO 8601 text, an integer data type or FP64",
    }  # fmt: skip
    return {
        Failure.FAILURE_ABSENT: f"a {column.type} in every row, as the column is required",
        Failure.FAILURE_DTYPE: texts[column.type],
        Failure.FAILURE_MISSING: f"a {column.type}, as it may not be missing",
        Failure.FAILURE_INFINITE: "a finite number",
        Failure.FAILURE_UNSEEN: f"a known category ({', '.join(known)})",
        Failure.FAILURE_NOT_INTEGER: "an integer within int64",
        Failure.FAILURE_NOT_BOOL: "0 or 1",
        Failure.FAILURE_TIMESTAMP: "an instant of the years 0001 to 9999, in ISO 8601 (2013-01-31T05:15:00Z)"
        f" or as a number of {column.unit} since 1970",
        Failure.FAILURE_NO_INT64: "a value, as an int64 output cannot hold a missing one",
    }
