"""What the arguments of steps and columns may be: strict types, and what a constant of the page is."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Discriminator, Field, PlainValidator, Tag

from gateway.config.feature_page import Scalar
from gateway.config.spec import Spec

Filled = TypeVar("Filled", bound="tuple[object, ...] | dict[str, Any]")

#: Longer vocabularies stand in a file of their own, so that the page stays one that people review.
MAX_INLINE_CATEGORIES = 1_000
#: Numbers in one list of a page.
MAX_NUMBERS = 100_000


class Strict(Spec):
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
    raise ValueError(f"expected a finite number, a text, true or false, not {shown(value)}")


def _optional_scalar(value: object) -> Scalar | None:
    return None if value is None else _scalar(value)


def _category(value: object) -> Scalar | None:
    if value is None:
        return None
    if value == "" and isinstance(value, str):
        raise ValueError("the empty text is a missing value: write null for it")
    return _scalar(value)


def _missing_code(value: object) -> str | float:
    return _code(value, ("nan", "error"))


def _unknown_code(value: object) -> str | float:
    return _code(value, ("error", "nan", "infrequent"))


def _code(value: object, words: tuple[str, ...]) -> str | float:
    if isinstance(value, str) and value in words:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and -(2**31) < value < 2**31:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError(f"expected {', '.join(words)}, an integer of 32 bits or a finite float, not {shown(value)}")


def _number_outcome(value: object) -> str | float:
    if isinstance(value, str) and value in ("error", "nan"):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError(f"expected error, nan or a finite number, not {shown(value)}")


def _missing_id(value: object) -> str | int:
    if isinstance(value, str) and value == "error":
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31:
        return value
    raise ValueError(f"expected error or an id from 0 to {2**31 - 1}, not {shown(value)}")


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def not_empty(value: Filled) -> Filled:
    # Not pydantic's min_length: that one counts only sound items, so one mistake would be told twice.
    if not value:
        raise ValueError("is empty")
    return value


Constant = Annotated[Scalar, PlainValidator(_scalar, json_schema_input_type=Scalar)]
OptionalConstant = Annotated[Scalar | None, PlainValidator(_optional_scalar, json_schema_input_type=Scalar | None)]
Category = Annotated[Scalar | None, PlainValidator(_category, json_schema_input_type=Scalar | None)]
Categories = Annotated[tuple[Category, ...], Field(strict=False, max_length=MAX_INLINE_CATEGORIES)]
MissingCode = Annotated[
    str | int | float, PlainValidator(_missing_code, json_schema_input_type=Literal["nan", "error"] | int | float)
]
UnknownCode = Annotated[
    str | int | float,
    PlainValidator(_unknown_code, json_schema_input_type=Literal["error", "nan", "infrequent"] | int | float),
]
NumberOutcome = Annotated[
    str | float, PlainValidator(_number_outcome, json_schema_input_type=Literal["error", "nan"] | float)
]
MissingId = Annotated[str | int, PlainValidator(_missing_id, json_schema_input_type=Literal["error"] | int)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _one_or_each(value: object) -> str:
    return "[each]" if isinstance(value, list | tuple) else "[one]"


#: One for all, or a list with one for each value that the step is given.
Numbers = Annotated[
    Annotated[Number, Tag("[one]")]
    | Annotated[tuple[Number, ...], Field(strict=False, max_length=MAX_NUMBERS), Tag("[each]")],
    Discriminator(_one_or_each),
]
Positives = Annotated[
    Annotated[Positive, Tag("[one]")]
    | Annotated[tuple[Positive, ...], Field(strict=False, max_length=MAX_NUMBERS), Tag("[each]")],
    Discriminator(_one_or_each),
]
Constants = Annotated[
    Annotated[Constant, Tag("[one]")]
    | Annotated[tuple[Constant, ...], Field(strict=False, max_length=MAX_NUMBERS), Tag("[each]")],
    Discriminator(_one_or_each),
]
Name = Annotated[str, Field(min_length=1, max_length=256)]
