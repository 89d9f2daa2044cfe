"""``features.yaml``: named columns, and how they become the graph's inputs.

This module is the page's grammar; what each step means stands in :mod:`gateway.features.steps`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from gateway.config.feature_page import (
    TIMESTAMP_PARTS,
    FeaturePage,
    OutputPart,
    PageColumn,
    PageFeature,
    Scalar,
    feature_path,
)
from gateway.config.load import read_yaml
from gateway.config.spec import Spec
from gateway.core.errors import ConfigurationError, Problem

Filled = TypeVar("Filled", bound="tuple[object, ...] | dict[str, Any]")

#: Longer vocabularies stand in a file of their own, so that the page stays one that people review.
MAX_INLINE_CATEGORIES = 1_000
MAX_COLUMNS = 10_000
MAX_BUCKETS = 1 << 20

ColumnKind = Literal["float", "int", "string", "bool", "timestamp"]
OutputKind = Literal["float32", "float64", "int64"]


class _Strict(Spec):
    # Text is never guessed to be a number, nor 1 to be true.
    model_config = ConfigDict(strict=True)


# Constants.


def _scalar(value: object) -> Scalar:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int) and -(2**63) < value < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError(f"expected a finite number, a text, true or false, not {_shown(value)}")


def _category(value: object) -> Scalar | None:
    if value is None:
        return None
    if value == "" and isinstance(value, str):
        raise ValueError("the empty text is a missing value: write null for it")
    return _scalar(value)


def _missing_code(value: object) -> str | int:
    return _code(value, ("nan", "error"))


def _unknown_code(value: object) -> str | int:
    return _code(value, ("error", "nan", "infrequent"))


def _code(value: object, words: tuple[str, ...]) -> str | int:
    if isinstance(value, str) and value in words:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and -(2**31) < value < 2**31:
        return value
    raise ValueError(f"expected {', '.join(words)} or an integer of 32 bits, not {_shown(value)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _not_empty(value: Filled) -> Filled:
    # Not pydantic's min_length: that one counts only sound items, so one mistake would be told twice.
    if not value:
        raise ValueError("is empty")
    return value


Constant = Annotated[Scalar, PlainValidator(_scalar, json_schema_input_type=Scalar)]
Category = Annotated[Scalar | None, PlainValidator(_category, json_schema_input_type=Scalar | None)]
Categories = Annotated[tuple[Category, ...], Field(strict=False, max_length=MAX_INLINE_CATEGORIES)]
MissingCode = Annotated[str | int, PlainValidator(_missing_code, json_schema_input_type=str | int)]
UnknownCode = Annotated[str | int, PlainValidator(_unknown_code, json_schema_input_type=str | int)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=256)]


class VocabularyFile(_Strict):
    """A vocabulary in a file beside the page: UTF-8, one entry a line; an empty line stands for a missing value."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$", max_length=128)]
    """Its name; it lies in the folder of ``features.yaml``."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of its bytes, in lower-case hexadecimal."""


# Steps. A step's docstring and fields are its entry in docs/features.md, beside what the catalogue says.


class _Categorical(_Strict):
    categories: Categories | None = None
    """Up to 1,000 known values in order; ``null`` stands for a missing value."""
    vocabulary: VocabularyFile | None = None
    """Instead of ``categories``: the values in a file (``file``, ``sha256``)."""
    infrequent: Categories = ()
    """Further known values that share the one place after all others."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.categories is None) == (self.vocabulary is None):
            raise ValueError("give either `categories` or `vocabulary`")
        if self.categories is not None and not self.categories and not self.infrequent:
            raise ValueError("`categories` is empty")
        return self


class Passthrough(_Strict):
    """The value as it is."""

    step: Literal["passthrough"] = "passthrough"


class Impute(_Strict):
    """A fitted value in place of a missing one."""

    step: Literal["impute"] = "impute"
    strategy: Literal["constant", "mean", "median", "most_frequent"] = "constant"
    """How the value was found; for the reader."""
    value: Constant
    """What missing becomes."""
    indicator: bool = False
    """Also give one more element, after those of this feature: 1 where the value was missing, else 0. Later steps do
    not touch it."""


class MissingIndicator(_Strict):
    """1 where the value is missing, else 0."""

    step: Literal["missing_indicator"] = "missing_indicator"


class StandardScale(_Strict):
    """Zero mean and unit variance."""

    step: Literal["standard_scale"] = "standard_scale"
    mean: Number = 0.0
    """Taken off."""
    scale: Positive = 1.0
    """Divided by; the standard deviation."""


class MinMaxScale(_Strict):
    """The range seen in training onto another one."""

    step: Literal["min_max_scale"] = "min_max_scale"
    data_min: Number
    """The least value seen in training."""
    data_max: Number
    """The greatest."""
    feature_range: Annotated[tuple[Number, Number], Field(strict=False)] = (0.0, 1.0)
    """Where they go: [low, high]."""
    clip: bool = False
    """Hold values within ``feature_range``."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        if self.data_min > self.data_max:
            raise ValueError(f"`data_min` {self.data_min} is above `data_max` {self.data_max}")
        if self.feature_range[0] >= self.feature_range[1]:
            raise ValueError(f"`feature_range` {list(self.feature_range)} does not ascend")
        return self


class RobustScale(_Strict):
    """Zero median and unit interquartile range."""

    step: Literal["robust_scale"] = "robust_scale"
    center: Number = 0.0
    """Taken off; the median."""
    scale: Positive = 1.0
    """Divided by; the interquartile range."""


class Clip(_Strict):
    """Values held within bounds."""

    step: Literal["clip"] = "clip"
    min: Number | None = None
    """The lower bound; none if left out."""
    max: Number | None = None
    """The upper bound; none if left out."""

    @model_validator(mode="after")
    def _bounds_ascend(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` {self.min} is above `max` {self.max}")
        return self


class Log1p(_Strict):
    """The natural logarithm of one plus the value."""

    step: Literal["log1p"] = "log1p"


class Bucketize(_Strict):
    """The number of the interval that the value falls into."""

    step: Literal["bucketize"] = "bucketize"
    edges: Annotated[tuple[Number, ...], Field(strict=False, max_length=100_000), AfterValidator(_not_empty)]
    """Inner edges, ascending; n edges make n + 1 intervals, each closed on the left."""

    @model_validator(mode="after")
    def _edges_ascend(self) -> Self:
        for i, (low, high) in enumerate(zip(self.edges, self.edges[1:], strict=False)):
            if low >= high:
                raise ValueError(f"`edges` must ascend, but edge {i + 1} ({high}) is not above edge {i} ({low})")
        return self


class OneHot(_Categorical):
    """One element per category, 1 at the value's own."""

    step: Literal["one_hot"] = "one_hot"
    unknown: Literal["error", "ignore", "infrequent"] = "error"
    """For a value that is none of the known: the row fails, zeros, or the place of the infrequent."""
    missing: Literal["error", "ignore", "infrequent"] = "error"
    """Likewise for a missing value, unless ``null`` is among the known."""
    drop: Categories = ()
    """Known values without an element of their own: zeros."""


class Ordinal(_Categorical):
    """The position of the value among the categories."""

    step: Literal["ordinal"] = "ordinal"
    unknown: UnknownCode = "error"
    """For a value that is none of the known: the row fails, NaN, the place of the infrequent, or this integer."""
    missing: MissingCode = "nan"
    """For a missing value, unless ``null`` is among the known: NaN, the row fails, or this integer."""


class Hash(_Strict):
    """The value's hash picks one of a fixed number of elements, and its sign."""

    step: Literal["hash"] = "hash"
    buckets: Annotated[int, Field(ge=1, le=MAX_BUCKETS)]
    """How many elements."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Of the hash."""
    signed: bool = True
    """Set the element to -1 where the hash is negative, else always to 1."""


class TimestampPartStep(_Strict):
    """A part of the instant, as a clock and calendar in UTC show it."""

    step: Literal["timestamp_part"] = "timestamp_part"
    part: Literal[TIMESTAMP_PARTS]  # type: ignore[valid-type]  # the tuple is the one list of parts
    """Which one."""


class Cyclic(_Strict):
    """Sine and cosine of a value that comes round again."""

    step: Literal["cyclic"] = "cyclic"
    period: Positive
    """After how much the value is back where it was, e.g. 24 for hours."""


StepSpec = (
    Passthrough | Impute | MissingIndicator | StandardScale | MinMaxScale | RobustScale | Clip | Log1p | Bucketize
    | OneHot | Ordinal | Hash | TimestampPartStep | Cyclic
)  # fmt: skip
STEPS: dict[str, type[BaseModel]] = {member.model_fields["step"].default: member for member in get_args(StepSpec)}


def _step_from_page(value: object) -> object:
    """``log1p`` and ``clip: {min: 0}`` are short for ``step: log1p`` and ``step: clip, min: 0``."""
    if isinstance(value, Mapping) and "step" in value:
        return _known_step(value["step"], value)
    if isinstance(value, str):
        return _known_step(value, {"step": value})
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, arguments),) = value.items()
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, Mapping):
            raise ValueError(f"the arguments of step {name!r} must be a mapping, not {_shown(arguments)}")
        return _known_step(name, {**arguments, "step": name})
    if isinstance(value, BaseModel):
        return value
    raise ValueError(f"a step is expected, such as `log1p` or `clip: {{min: 0}}`, not {_shown(value)}")


def _known_step(name: object, value: object) -> object:
    if name in STEPS:
        return value
    close = difflib.get_close_matches(str(name), STEPS, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(STEPS)}"
    raise ValueError(f"no step is called {_shown(name)}; {hint}")


Step = Annotated[StepSpec, Field(discriminator="step"), BeforeValidator(_step_from_page)]


# The page.


class ColumnSpec(_Strict):
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


class FeatureEntry(_Strict):
    """A column taken through its steps."""

    column: Name
    """Its name."""
    steps: Annotated[tuple[Step, ...], Field(strict=False, max_length=64)] = ()
    """In order; none: the value as it is."""


def _feature_from_page(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


Feature = Annotated[FeatureEntry, BeforeValidator(_feature_from_page)]


class OutputSpec(_Strict):
    """One input of the graph: the elements of its features, one after the other."""

    dtype: OutputKind = "float32"
    """Of the tensor."""
    features: Annotated[tuple[Feature, ...], Field(strict=False), AfterValidator(_not_empty)]
    """In order; a bare name is a column as it is."""


class FeatureSpec(_Strict):
    """The whole page. ``model_dump(mode="json")`` and ``model_validate`` round-trip."""

    format: Literal[1] = 1
    """Of this page; a later gateway reads every earlier one."""
    columns: Annotated[dict[Name, Column], Field(max_length=MAX_COLUMNS), AfterValidator(_not_empty)]
    """What clients send, by name; a bare type is a column without options."""
    outputs: Annotated[dict[Name, OutputSpec], AfterValidator(_not_empty)]
    """By the name of the graph's input that each fills."""


# Reading, with every problem at once.


def load_feature_spec(path: Path) -> FeatureSpec:
    """The ``features.yaml`` at ``path``. ConfigurationError with every problem of its grammar."""
    return parse_features(read_yaml(path), str(path))


def parse_features(document: object, file: str = "features.yaml") -> FeatureSpec:
    """``document`` as a spec. ConfigurationError with every problem, each with ``file`` and the path inside it."""
    try:
        return FeatureSpec.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError(_problems(error, file)) from None


def read_page(path: Path) -> FeaturePage:
    """Like :func:`load_feature_spec`, but problems of the grammar are in the page. Raises if it is no YAML at all."""
    document = read_yaml(path)
    try:
        spec = FeatureSpec.model_validate(document)
    except ValidationError as error:
        return _sound_parts(document, str(path), _problems(error, str(path)))
    return FeaturePage.of_document(spec.model_dump(mode="json"), str(path))


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
    meant = {(*item["loc"][:-1], _meant_key(item["loc"])) for item in items if item["type"] == "extra_forbidden"}
    return [
        Problem(file, _path(item["loc"]), _message(dict(item)))
        for item in items
        if not (item["type"] == "missing" and item["loc"] in meant)
    ]


def _path(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc if part != "[key]")


def _message(item: dict[str, Any]) -> str:
    match item["type"]:
        case "extra_forbidden":
            return _unknown_key(item["loc"])
        case "missing":
            return "is required"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"a mapping is expected, not {_shown(item['input'])}"
        case "value_error":
            return str(item["ctx"]["error"])
    message = str(item["msg"])
    return f"{message[0].lower()}{message[1:]}, not {_shown(item['input'])}"


def _unknown_key(loc: tuple[int | str, ...]) -> str:
    meant = _meant_key(loc)
    return f"unknown key; did you mean `{meant}`?" if meant else f"unknown key; known are {', '.join(_known_keys(loc))}"


def _meant_key(loc: tuple[int | str, ...]) -> str | None:
    return next(iter(difflib.get_close_matches(str(loc[-1]), _known_keys(loc), n=1)), None)


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    # columns.NAME.key, outputs.NAME.key, outputs.NAME.features.0.key, ….steps.0.STEP.key, ….vocabulary.key
    model: type[BaseModel]
    match loc:
        case (*_, "vocabulary", _):
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
