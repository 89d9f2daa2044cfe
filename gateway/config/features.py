"""``features.yaml``: named columns, and how they become the graph's inputs.

This module is the page's grammar, :mod:`gateway.config.feature_steps` that of its steps; what each step means stands in
:mod:`gateway.features.steps`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from gateway.config.feature_page import (
    FeaturePage,
    OutputPart,
    PageColumn,
    PageFeature,
    feature_path,
)
from gateway.config.feature_steps import STEPS, Step
from gateway.config.feature_steps.categories import VocabularyFile
from gateway.config.feature_steps.values import Name, OptionalConstant, Strict, not_empty, shown
from gateway.config.yaml_reader import read_yaml
from gateway.core.errors import ConfigurationError, Problem

MAX_COLUMNS = 10_000
#: Features within features.
MAX_DEPTH = 16
#: Told at once; nobody reads more, and each takes time to word.
MAX_PROBLEMS = 100

ColumnKind = Literal["float", "int", "string", "bool", "timestamp", "strings"]
OutputKind = Literal["float32", "float64", "int64", "string"]


class ColumnSpec(Strict):
    """A named column that clients send."""

    type: ColumnKind
    """What its values are."""
    optional: bool = False
    """Clients may leave the column out; then every row is missing."""
    missing: Literal["allow", "error"] = "allow"
    """``error``: a row fails where the value is missing."""
    infinite: Literal["allow", "error"] = "allow"
    """``error``: a row fails where a float is infinite."""
    unit: Literal["s", "ms", "us", "ns"] = "s"
    """Of timestamps that are sent as numbers since 1970-01-01T00:00:00Z."""

    @model_validator(mode="after")
    def _options_fit_the_type(self) -> Self:
        if self.infinite == "error" and self.type != "float":
            raise ValueError(f"`infinite` is for float columns, not {self.type}")
        if self.unit != "s" and self.type != "timestamp":
            raise ValueError(f"`unit` is for timestamp columns, not {self.type}")
        if self.optional and self.missing == "error":
            raise ValueError("an optional column is missing where it is left out: it cannot say `missing: error`")
        return self


def _column_from_page(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


Column = Annotated[ColumnSpec, BeforeValidator(_column_from_page)]


class FeatureEntry(Strict):
    """Values taken through steps: those of a column, of several columns, or of other features."""

    column: Name | None = None
    """A column by its name."""
    columns: Annotated[tuple[Name, ...], Field(strict=False), AfterValidator(not_empty)] | None = None
    """Or several, side by side, for steps that compute across them."""
    features: Annotated[tuple[Feature, ...], Field(strict=False), AfterValidator(not_empty)] | None = None
    """Or the values of other features, side by side."""
    constant: OptionalConstant = None
    """Or one value, the same in every row."""
    steps: Annotated[tuple[Step, ...], Field(strict=False, max_length=64)] = ()
    """In order; none: the values as they are. A step that is for one value is taken by each."""
    prefix: Annotated[str, Field(max_length=256)] = ""
    """In front of the names of this feature's elements."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = (self.column, self.columns, self.features, self.constant)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("give one of `column`, `columns`, `features` and `constant`")
        if self.constant == "" and isinstance(self.constant, str):
            raise ValueError("`constant` is the empty text, which is a missing value")
        return self

    def column_names(self) -> Iterator[str]:
        """Of all columns that it reads, in order; one that is read twice comes twice."""
        if self.features is not None:
            for feature in self.features:
                yield from feature.column_names()
        elif self.constant is None:
            yield from self.columns or (str(self.column),)


def _feature_from_page(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


Feature = Annotated[FeatureEntry, BeforeValidator(_feature_from_page)]
FeatureEntry.model_rebuild()


class OutputSpec(Strict):
    """One input of the graph: the elements of its features, one after the other."""

    dtype: OutputKind = "float32"
    """Of the tensor."""
    features: Annotated[tuple[Feature, ...], Field(strict=False), AfterValidator(not_empty)]
    """In order; a bare name is a column as it is."""


class FeatureSpec(Strict):
    """The whole page. ``model_dump(mode="json")`` and ``model_validate`` round-trip."""

    format: Literal[1] = 1
    """Of this page; a later gateway reads every earlier one."""
    columns: Annotated[dict[Name, Column], Field(max_length=MAX_COLUMNS), AfterValidator(not_empty)]
    """What clients send, by name; a bare type is a column without options."""
    outputs: Annotated[dict[Name, OutputSpec], AfterValidator(not_empty)]
    """By the name of the graph's input that each fills."""


# Reading, with every problem at once.


def load_feature_spec(path: Path) -> FeatureSpec:
    """The ``features.yaml`` at ``path``. ConfigurationError with every problem of its grammar."""
    return parse_features(read_yaml(path), str(path))


def parse_features(document: object, file: str = "features.yaml") -> FeatureSpec:
    """``document`` as a spec. ConfigurationError with every problem, each with ``file`` and the path inside it."""
    _check_depth(document, file)
    try:
        return FeatureSpec.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError(_problems(error, file)) from None


def read_page(path: Path) -> FeaturePage:
    """Like :func:`load_feature_spec`, but problems of the grammar are in the page.

    Raises if it is no YAML at all, or has features deeper within each other than ``MAX_DEPTH``.
    """
    document = read_yaml(path)
    _check_depth(document, str(path))
    try:
        spec = FeatureSpec.model_validate(document)
    except ValidationError as error:
        return _sound_parts(document, str(path), _problems(error, str(path)))
    return FeaturePage.of_document(spec.model_dump(mode="json"), str(path))


def _check_depth(document: object, file: str) -> None:
    """ConfigurationError if features lie too deep within features: what comes behind this goes down into them."""
    level = [
        (f"outputs.{name}", output) for name, output in _mapping_in(document, "outputs").items()
    ]  # of mappings that may have `features`, with their paths
    for _ in range(MAX_DEPTH + 2):
        level = [inner for path, holder in level for inner in _features_in(path, holder)]
    if level:
        raise ConfigurationError([Problem(file, level[0][0], f"features lie deeper than {MAX_DEPTH} within features")])


def _features_in(path: str, holder: object) -> list[tuple[str, object]]:
    entries = holder.get("features") if isinstance(holder, Mapping) else None
    entries = entries if isinstance(entries, list | tuple) else ()
    return [(f"{path}.features.{i}", entry) for i, entry in enumerate(entries)]


def _sound_parts(document: object, file: str, problems: list[Problem]) -> FeaturePage:
    columns = {str(name): _sound_column(column) for name, column in _mapping_in(document, "columns").items()}
    outputs = {str(name): _sound_output(str(name), output) for name, output in _mapping_in(document, "outputs").items()}
    return FeaturePage(file, columns, outputs, problems)


def _sound_column(column: object) -> PageColumn | None:
    sound = _sound(ColumnSpec, _column_from_page(column))
    return None if sound is None else PageColumn(**sound)


def _sound_output(name: str, output: object) -> OutputPart:
    entries = output.get("features") if isinstance(output, Mapping) else None
    entries = entries if isinstance(entries, list) else []
    parsed = [_sound(FeatureEntry, _feature_from_page(entry)) for entry in entries]
    dtype = output.get("dtype", "float32") if isinstance(output, Mapping) else None
    return OutputPart(
        dtype if dtype in get_args(OutputKind) else None,
        [(feature_path(name, i), PageFeature.of_document(entry)) for i, entry in enumerate(parsed) if entry],
        complete=bool(parsed) and None not in parsed,
    )


def _mapping_in(document: object, key: str) -> Mapping[object, object]:
    found = document.get(key) if isinstance(document, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _sound(model: type[BaseModel], value: object) -> dict[str, Any] | None:
    """A part of the page as JSON, None if the grammar refuses it."""
    try:
        return model.model_validate(value).model_dump(mode="json")
    except ValidationError:
        return None


def _problems(error: ValidationError, file: str) -> list[Problem]:
    items = error.errors(include_url=False)
    # A misspelt key is one mistake, not also the lack of the right one.
    told = items[:MAX_PROBLEMS]
    meant = {(*item["loc"][:-1], _meant_key(item["loc"])) for item in told if item["type"] == "extra_forbidden"}
    problems = [
        Problem(file, _path(item["loc"]), _message(dict(item)))
        for item in told
        if not (item["type"] == "missing" and item["loc"] in meant)
    ]
    if len(items) > len(told):
        problems.append(Problem(file, "", f"and {len(items) - len(told)} more"))
    return problems


def _path(loc: tuple[int | str, ...]) -> str:
    # Those in brackets are pydantic's and ours for the alternatives of one value.
    return ".".join(str(part) for part in loc if part not in ("[key]", "[one]", "[each]"))


def _message(item: dict[str, Any]) -> str:
    match item["type"]:
        case "extra_forbidden":
            return _unknown_key(item["loc"])
        case "missing":
            return "is required"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"a mapping is expected, not {shown(item['input'])}"
        case "too_long" | "too_short" as type_:
            bound, word = ("max_length", "most") if type_ == "too_long" else ("min_length", "least")
            return f"has {item['ctx']['actual_length']} entries, but at {word} {item['ctx'][bound]} are taken"
        case "value_error":
            return str(item["ctx"]["error"])
    message = str(item["msg"])
    return f"{message[0].lower()}{message[1:]}, not {shown(item['input'])}"


def _unknown_key(loc: tuple[int | str, ...]) -> str:
    meant = _meant_key(loc)
    return f"unknown key; did you mean `{meant}`?" if meant else f"unknown key; known are {', '.join(_known_keys(loc))}"


def _meant_key(loc: tuple[int | str, ...]) -> str | None:
    return next(iter(difflib.get_close_matches(str(loc[-1]), _known_keys(loc), n=1)), None)


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    # columns.NAME.key, outputs.NAME.key, outputs.NAME.features.0.key, ….steps.0.STEP.key, ….vocabulary.key
    model: type[BaseModel]
    match loc:
        case (*_, "vocabulary" | "idf_file", _):
            model = VocabularyFile
        case (*_, "steps", int(), str() as name, _) if name in STEPS:
            model = STEPS[name]
        case (*_, "features", int(), _):
            model = FeatureEntry
        case ("outputs", _, _):
            model = OutputSpec
        case ("columns", _, _):
            model = ColumnSpec
        case _:
            model = FeatureSpec
    return [key for key in model.model_fields if key != "step"]
