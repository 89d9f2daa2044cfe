"""``FeaturePage`` → ``FeaturePlan``: checked at load against the columns and the graph, all mistakes at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gateway._fast.feature_plan import FeaturePlan
from gateway._fast.feature_program import LONGEST_LIST, ColumnCode, Failure, Operation, OutputCode
from gateway._fast.text_pattern import PATTERN_TEXT_LIMIT
from gateway._fast.unicode_text import TEXT_LIMIT
from gateway.config.feature_page import FeaturePage, PageColumn, PageFeature
from gateway.core.errors import ConfigurationError, Problem
from gateway.core.tensors import DataType, TensorSpec
from gateway.features.program import EMIT_LANE, Emission, Kind, Program, Value, assembled, constant_fails
from gateway.features.steps import CATALOGUE, Elements, Lane, Part, Unfit, compile_step, lanes_of
from gateway.features.steps.entry import WHOLE
from gateway.features.steps.numbers import indicator
from gateway.features.steps.operators import constant

if TYPE_CHECKING:
    from gateway.config.features import FeatureSpec

#: Elements of one row over all outputs: 8 MiB of float64.
MAX_ROW_ELEMENTS = 1 << 20

OUTPUT_TYPES = {
    "float32": DataType.FP32,
    "float64": DataType.FP64,
    "int64": DataType.INT64,
    "string": DataType.BYTES,
}
COLUMN_TYPES = {
    "float": (Kind.FLOAT, DataType.FP64),
    "int": (Kind.INT, DataType.INT64),
    "bool": (Kind.BOOL, DataType.BOOL),
    "string": (Kind.STRING, DataType.BYTES),
    "timestamp": (Kind.TIMESTAMP, DataType.BYTES),
    "strings": (Kind.STRINGS, DataType.BYTES),
}
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


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


def parts_of(spec: FeatureSpec, output: str, folder: Path) -> list[list[Part]]:
    """What each feature of an output of a sound ``spec`` comes to, in order."""
    compilation = _Compilation(_page_of(spec), folder)
    found = [
        _compile_feature(path, feature, compilation, compilation.page.outputs[output].dtype)
        for path, feature in compilation.page.outputs[output].features
    ]
    if compilation.problems:
        raise ConfigurationError(compilation.problems)
    return [parts or [] for parts in found]


def names_of(parts: Sequence[Part]) -> list[str]:
    """Of the elements that they stand for."""
    return _names_of(parts)()


def width_of(parts: Sequence[Part]) -> int:
    """Elements of the output that they stand for."""
    return sum(part.width if isinstance(part, Elements) else 1 for part in parts)


@dataclass
class _Compilation:
    page: FeaturePage
    folder: Path
    program: Program = field(default_factory=Program)
    #: Of the outputs that are sound.
    parts: dict[str, list[Part]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        #: A column that is not sound has no value.
        self.loads = {
            name: self.program.load(i, COLUMN_TYPES[column.type][0])
            for i, (name, column) in enumerate(self.page.columns.items())
            if column is not None
        }

    def problem(self, path: str, message: str) -> None:
        self.problems.append(Problem(self.page.file, path, message))

    def widths(self) -> dict[str, int]:
        return {name: width_of(parts) for name, parts in self.parts.items()}


def compile_page(page: FeaturePage, folder: Path, graph_inputs: Sequence[TensorSpec] | None = None) -> FeaturePlan:
    """The plan of ``page``, whose vocabulary files lie in ``folder``.

    With ``graph_inputs``, the outputs must be exactly those, in name, data type and elements of a row.
    ConfigurationError with every problem, each with the page's file and the path inside it.
    """
    compilation = _compiled(page, folder)
    shapes = _check_graph(compilation, graph_inputs) if graph_inputs is not None else {}
    _raise_problems(compilation)
    return _assemble(compilation, shapes)


@dataclass(frozen=True)
class PlanValues:
    """A sound page before it becomes instructions: the rows of its columns, and what its outputs are made of."""

    page: FeaturePage
    loads: dict[str, Value]
    emissions: list[Emission]
    #: Of the elements of each output.
    names: dict[str, list[str]]


def compile_values(page: FeaturePage, folder: Path) -> PlanValues:
    """``page`` as far as it is the same for every target. ConfigurationError with every problem."""
    compilation = _compiled(page, folder)
    _raise_problems(compilation)
    names = {name: _names_of(parts)() for name, parts in compilation.parts.items()}
    return PlanValues(page, compilation.loads, _all_emissions(compilation), names)


def _compiled(page: FeaturePage, folder: Path) -> _Compilation:
    compilation = _Compilation(page, folder, problems=list(page.problems))
    for name in page.outputs:
        _compile_output(name, compilation)
    width = sum(compilation.widths().values())
    if width > MAX_ROW_ELEMENTS:
        compilation.problem("outputs", f"a row has {width} elements, over {MAX_ROW_ELEMENTS}")
    return compilation


def _raise_problems(compilation: _Compilation) -> None:
    if compilation.problems:
        raise ConfigurationError(compilation.problems)


# Features.


def _compile_output(name: str, compilation: _Compilation) -> None:
    output = compilation.page.outputs[name]
    found: list[Part] = []
    complete = output.complete
    for path, feature in output.features:
        parts = _compile_feature(path, feature, compilation, output.dtype)
        complete = complete and parts is not None
        found += parts or ()
    if complete:
        compilation.parts[name] = found
        if not width_of(found):
            compilation.problem(f"outputs.{name}.features", "give no element: every category is dropped")


def _compile_feature(
    path: str, feature: PageFeature, compilation: _Compilation, dtype: str | None
) -> list[Part] | None:
    """What the feature comes to in its output. None after a problem."""
    parts = _taken_through_steps(path, feature, compilation)
    for part in parts or ():
        if misfit := _misfit(part, dtype):
            compilation.problem(path, misfit)
            return None
    return parts


def _misfit(part: Part, dtype: str | None) -> str | None:
    """Why the part cannot be in an output of ``dtype``; None if it can."""
    kind = part.kind if isinstance(part, Lane) else None
    if dtype == "string":
        came = "numbers" if kind is None else kind
        return None if kind == Kind.STRING else f"a string output takes single texts, but this gives {came}"
    if kind in _NO_NUMBERS:
        return f"ends as a {kind}, which is no number: add {_NO_NUMBERS[kind]}"
    whole = part.whole if isinstance(part, Elements) else kind in WHOLE
    if dtype == "int64" and not whole:
        return "an int64 output takes int, bool, one_hot, multi_hot, hash and counts, but this gives float"
    if dtype == "int64" and isinstance(part, Lane) and _is_missing_constant(part.value):
        return "is a missing value in every row, which an int64 output cannot hold: change the constant"
    return None


def _is_missing_constant(value: Value) -> bool:
    return value.last_column < 0 and constant_fails(value, whole=True)


#: What cannot be an element of an output of numbers, and what makes elements of it.
_NO_NUMBERS: dict[Kind | None, str] = {
    Kind.TIMESTAMP: "timestamp_part",
    Kind.STRING: "one_hot, ordinal, hash or a vectorizer",
    Kind.STRINGS: "multi_hot or hash",
}


def _taken_through_steps(path: str, feature: PageFeature, compilation: _Compilation) -> list[Part] | None:
    parts = _source(path, feature, compilation)
    if parts is None:
        return None
    indicators: list[Part] = []
    sound = True
    for i, step in enumerate(feature.steps):
        before, values = parts, len(compilation.program.values())
        try:
            parts = compile_step(step, before, compilation.program, compilation.folder)
            if sound and compilation.program.fails_since(values):
                raise Unfit(_REFUSED_CONSTANT)
            if step.step == "impute" and step.indicator:
                indicators += [indicator(lane, compilation.program) for lane in lanes_of(before, compilation.program)]
        except Unfit as error:
            compilation.problem(f"{path}.steps.{i}.{step.step}", str(error))
            parts = _after_unfit(step.step, before)
            sound = False
    return [_prefixed(part, feature.prefix) for part in [*parts, *indicators]] if sound else None


_REFUSED_CONSTANT = (
    "refuses the constant that it is given, so that every row would fail: change the constant, or what the step does "
    "with such values"
)


def _source(path: str, feature: PageFeature, compilation: _Compilation) -> list[Part] | None:
    if feature.constant is not None:
        return [Lane(constant(feature.constant, compilation.program), "constant")]
    if feature.column is None:
        groups = [
            _taken_through_steps(f"{path}.{feature.key}.{i}", inner, compilation)
            for i, inner in enumerate(feature.features)
        ]
        sound = [group for group in groups if group is not None]
        return [part for group in sound for part in group] if len(sound) == len(groups) else None
    columns = compilation.page.columns
    if feature.column not in columns:
        compilation.problem(f"{path}.column", f"no column is called {feature.column!r}; known are {_known(columns)}")
        return None
    value = compilation.loads.get(feature.column)
    return None if value is None else [Lane(value, feature.column)]


def _after_unfit(step: str, parts: list[Part]) -> list[Part]:
    # So that one unfit step does not make problems of those behind it.
    fallback = CATALOGUE[step].fallback
    if fallback is None:
        return parts
    value = Value(Operation.OP_LOAD, fallback, last_column=0)  # stands for what the step would have given
    return [Lane(value, part.name) for part in parts if isinstance(part, Lane)] or [Lane(value, step)]


def _prefixed(part: Part, prefix: str) -> Part:
    if not prefix:
        return part
    if isinstance(part, Lane):
        return replace(part, name=prefix + part.name)
    return replace(part, names=lambda: [prefix + name for name in part.names()])


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
        width = compilation.widths().get(name)
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
    widths = compilation.widths()
    outputs = [
        OutputCode(
            TensorSpec(name, OUTPUT_TYPES[str(part.dtype)], shapes.get(name, (-1, widths[name]))),
            widths[name],
        )
        for name, part in page.outputs.items()
    ]
    emissions = _all_emissions(compilation)
    loads = list(compilation.loads.values())
    program, slots = assembled(loads, emissions)
    expected = _expected_categories(compilation.program)
    columns = [
        _column_code(name, column, expected.get(i, ()))
        for i, (name, column) in enumerate(page.columns.items())
        if column is not None
    ]
    names = [_names_of(compilation.parts[name]) for name in page.outputs]
    return FeaturePlan(columns, outputs, program, slots, names)


def _all_emissions(compilation: _Compilation) -> list[Emission]:
    outputs = enumerate(compilation.page.outputs)
    return [emission for i, name in outputs for emission in _emissions(i, compilation.parts[name])]


def _emissions(output: int, parts: Sequence[Part]) -> list[Emission]:
    found = []
    offset = 0
    for part in parts:
        if isinstance(part, Elements):
            found.append(Emission(part.operation, part.value, output, offset, part.width, part.tool))
            offset += part.width
        else:
            operation = EMIT_LANE.get(part.kind, Operation.EMIT_INTEGER)
            found.append(Emission(operation, part.value, output, offset))
            offset += 1
    return found


def _names_of(parts: Sequence[Part]) -> Callable[[], list[str]]:
    def names() -> list[str]:
        return [name for part in parts for name in (part.names() if isinstance(part, Elements) else [part.name])]

    return names


def _expected_categories(program: Program) -> dict[int, tuple[str, ...]]:
    """By column: those whose lack fails a row, of the first step that asks for any."""
    expected: dict[int, tuple[str, ...]] = {}
    for value in program.values():
        if value.expected:
            expected.setdefault(value.column, value.expected)
    return expected


def _column_code(name: str, column: PageColumn, expected: tuple[str, ...]) -> ColumnCode:
    kind, datatype = COLUMN_TYPES[column.type]
    return ColumnCode(
        spec=TensorSpec(name, datatype, (-1, -1) if kind == Kind.STRINGS else (-1,), column.optional),
        type=int(kind),
        missing_fails=column.missing == "error",
        infinite_fails=column.infinite == "error",
        unit=UNITS[column.unit],
        expectations=_expectations(column, expected),
    )


def _expectations(column: PageColumn, categories: tuple[str, ...]) -> dict[int, str]:
    """What a row's value should have been, by the failure; words of the error message."""
    texts = {
        "float": "any numeric data type", "int": "any numeric data type", "bool": "BOOL, or a numeric data type",
        "string": "BYTES", "timestamp": "BYTES with ISO 8601 text, an integer data type or FP64",
        "strings": "BYTES, the texts of a row side by side",
    }  # fmt: skip
    noun = "list of strings" if column.type == "strings" else column.type
    return {
        Failure.FAILURE_ABSENT: f"a {noun} in every row, as the column is required",
        Failure.FAILURE_DTYPE: texts[column.type],
        Failure.FAILURE_MISSING: f"a {noun}, as it may not be missing",
        Failure.FAILURE_INFINITE: "a finite number",
        Failure.FAILURE_UNSEEN: f"a known category ({', '.join(categories)})",
        Failure.FAILURE_NOT_INTEGER: "an integer within int64",
        Failure.FAILURE_NOT_BOOL: "0 or 1",
        Failure.FAILURE_TIMESTAMP: "an instant of the years 0001 to 9999, in ISO 8601 (2013-01-31T05:15:00Z)"
        f" or as a number of {column.unit} since 1970",
        Failure.FAILURE_NO_INT64: "a value, as an int64 output cannot hold a missing one",
        Failure.FAILURE_NOT_UTF8: "text in UTF-8",
        Failure.FAILURE_TEXT_SIZE: f"a text of at most {TEXT_LIMIT >> 20} MiB, or {PATTERN_TEXT_LIMIT >> 20} MiB where "
        "a regular expression searches it",
        Failure.FAILURE_PATTERN: "a text that the regular expression is done with in its limit of steps",
        Failure.FAILURE_DEGREES: "degrees: a latitude of -90 to 90, or a longitude of -180 to 180",
        Failure.FAILURE_OUTSIDE: "a number within the range of its spline",
        Failure.FAILURE_MEMORY: "memory for the run of the plan, of which none was left",
        Failure.FAILURE_LONG_LIST: f"a list of at most {LONGEST_LIST} texts",
    }
