"""Arguments of the steps that know categories."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from gateway.config.feature_steps.values import (
    MAX_INLINE_CATEGORIES,
    Categories,
    MissingCode,
    MissingId,
    Number,
    NumberOutcome,
    Numbers,
    Strict,
    UnknownCode,
)

#: Elements that a hash is spread over.
MAX_BUCKETS = 1 << 20
#: Of a target.
MAX_CLASSES = 1_000


class VocabularyFile(Strict):
    """A vocabulary in a file beside the page: UTF-8, an entry a line (CR is part of it), an empty line for missing."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$", max_length=128)]
    """Its name; it lies in the folder of ``features.yaml``."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of its bytes, in lower-case hexadecimal."""


# A step's docstring and fields are its entry in docs/features.md, beside what the catalogue says.


class Known(Strict):
    categories: Categories | None = None
    """Up to 1,000 known values in order; ``null`` stands for a missing value."""
    vocabulary: VocabularyFile | None = None
    """Instead of ``categories``: the values in a file (``file``, ``sha256``)."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.categories is None) == (self.vocabulary is None):
            raise ValueError("give either `categories` or `vocabulary`")
        if self.categories is not None and not self.categories and not self.further_categories():
            raise ValueError("`categories` is empty")
        return self

    def further_categories(self) -> Categories:
        """Known values besides ``categories``."""
        return ()


class _Categorical(Known):
    infrequent: Categories = ()
    """Further known values that share the one place after all others."""

    def further_categories(self) -> Categories:
        return self.infrequent


class OneHot(_Categorical):
    """One element per category, 1 at the value's own."""

    step: Literal["one_hot"] = "one_hot"
    unknown: Literal["error", "ignore", "infrequent"] = "error"
    """For a value that is none of the known: the row fails, zeros, or the place of the infrequent."""
    missing: Literal["error", "ignore", "infrequent"] = "error"
    """Likewise for a missing value, unless ``null`` is among the known."""
    drop: Categories = ()
    """Known values without an element of their own: zeros. An infrequent one takes the place of all of them away."""
    missing_name: Annotated[str, Field(max_length=256)] | None = None
    """What ``null`` is called in the names of the elements; if left out, ``nan`` for a float and else ``None``."""


class Ordinal(_Categorical):
    """The position of the value among the categories."""

    step: Literal["ordinal"] = "ordinal"
    unknown: UnknownCode = "error"
    """For a value that is none of the known: the row fails, NaN, the place of the infrequent, or this number. A number
    with a point makes floats of all positions."""
    missing: MissingCode = "nan"
    """For a missing value, unless ``null`` is among the known: NaN, the row fails, or this number."""


class Hash(Strict):
    """The value's hash picks one of a fixed number of elements, and its sign; of a list, the hash of each text does."""

    step: Literal["hash"] = "hash"
    buckets: Annotated[int, Field(ge=1, le=MAX_BUCKETS)]
    """How many elements."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Of the hash."""
    signed: bool = True
    """Set the element to -1 where the hash is negative, else always to 1."""


class IsIn(Known):
    """Whether the value is one of a list."""

    step: Literal["is_in"] = "is_in"


def _kind_of_numbers(value: object) -> str:
    if isinstance(value, dict | VocabularyFile):
        return "[file]"
    return "[each]" if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple) else "[one]"


#: One for each category.
_Inline = Annotated[tuple[Number, ...], Field(strict=False, max_length=MAX_INLINE_CATEGORIES)]
#: In place or in a file.
CategoryNumbers = Annotated[
    Annotated[_Inline, Tag("[one]")] | Annotated[VocabularyFile, Tag("[file]")], Discriminator(_kind_of_numbers)
]
#: Likewise, or such a list for each class.
ClassNumbers = Annotated[
    Annotated[_Inline, Tag("[one]")]
    | Annotated[tuple[_Inline, ...], Field(strict=False, max_length=MAX_CLASSES), Tag("[each]")]
    | Annotated[VocabularyFile, Tag("[file]")],
    Discriminator(_kind_of_numbers),
]


class TargetEncode(Known):
    """What the target came to in training where the value was this one."""

    step: Literal["target_encode"] = "target_encode"
    encodings: ClassNumbers
    """One number for each category, or a list of them for each class of the target. In a file (``file``, ``sha256``): a
    line for each category, with a number for each class between spaces."""
    mean: Numbers
    """Of the target over all of training: one number, or one for each class."""
    classes: Annotated[tuple[str, ...], Field(strict=False, max_length=MAX_CLASSES)] = ()
    """Names of the classes, if there are several; each gives an element."""
    unknown: Literal["mean", "error"] = "mean"
    """For a value that is none of the known: the mean, or the row fails."""
    missing: Literal["mean", "error"] = "mean"
    """Likewise for a missing value, unless ``null`` is among the known."""


class FrequencyEncode(Known):
    """How often the value came in training."""

    step: Literal["frequency_encode"] = "frequency_encode"
    counts: CategoryNumbers
    """One number for each category, in place or in a file (``file``, ``sha256``), one a line."""
    normalize: bool = False
    """Give the share of all counts together."""
    unknown: NumberOutcome = 0
    """For a value that is none of the known: the row fails, NaN, or this number."""
    missing: NumberOutcome = 0
    """Likewise for a missing value, unless ``null`` is among the known."""


class VocabularyId(Known):
    """The id of the value, as embeddings take it; unseen ones share ids by their hash."""

    step: Literal["vocabulary_id"] = "vocabulary_id"
    first_id: Annotated[int, Field(ge=0, lt=2**30)] = 0
    """Of the first category; the others follow."""
    oov_buckets: Annotated[int, Field(ge=0, le=MAX_BUCKETS)] = 1
    """How many ids are for values that are none of the known; 0: the row fails."""
    first_oov_id: Annotated[int, Field(ge=0, lt=2**30)] | None = None
    """Of the first of them; if left out, the one after the last category."""
    missing: MissingId = "error"
    """For a missing value, unless ``null`` is among the known: the row fails, or this id."""
