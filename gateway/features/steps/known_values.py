"""The values that a step was fitted on, from the page or from a file beside it, as the table that a lookup reads.

A file may have a million lines: it goes through the compiled reader whole, without a Python object for a line.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from gateway._fast.feature_program import ZEROS_CODE
from gateway._fast.vocabulary import Vocabulary, not_utf8_at
from gateway.features.program import Kind
from gateway.features.steps.entry import Taken, Unfit

if TYPE_CHECKING:
    from gateway._fast.vocabulary import Codes
    from gateway.config.feature_page import Scalar
    from gateway.config.feature_steps import categories as page

#: A vocabulary file is read whole; larger ones are refused before that.
MAX_VOCABULARY_BYTES = 256 << 20
#: What a message shows of them, and of one of them in a file.
SHOWN_VALUES = 4
SHOWN_BYTES = 64


@dataclass(frozen=True, slots=True)
class KnownValues:
    """A code for each: positions from 0 for those that are not dropped, which have -1; ``count`` for all infrequent.

    With a first code that is not 0, codes are so much more than positions.
    """

    vocabulary: Vocabulary
    kind: Kind
    count: int
    #: Code of the infrequent ones, if there are any; -1 if one of them is dropped.
    infrequent: int | None
    #: For messages.
    first: tuple[str, ...]

    @property
    def missing(self) -> int | None:
        """Code of the missing value, if it is one of them."""
        return self.vocabulary.missing

    def shown(self) -> tuple[str, ...]:
        """A few, and how many there are if that is not all."""
        count = self.vocabulary.size - (self.missing is not None)
        return (*self.first, f"{count} in all") if count > len(self.first) else self.first

    @property
    def width(self) -> int:
        """How many positions there are, that of the infrequent ones included."""
        return self.count + (self.infrequent == self.count)

    def names(self, missing: str | None = None) -> list[str]:
        """Of those with a position, as scikit-learn names the elements of an encoder."""
        names = [""] * self.count
        for value, code in self.vocabulary.entries():
            if 0 <= code < self.count:
                names[code] = _text_of(bool(value) if self.kind == Kind.BOOL else value)
        if self.missing is not None and 0 <= self.missing < self.count:
            names[self.missing] = missing if missing is not None else "nan" if self.kind == Kind.FLOAT else "None"
        return [*names, "infrequent_sklearn"] if self.width > self.count else names


def known_values(
    arguments: page.Known, kind: Kind, taken: Taken, drop: Iterable[Scalar | None] = (), first: int = 0
) -> KnownValues:
    """The step's known values, of ``kind``, with codes from ``first`` on.

    Unfit if they are of another kind, or their file is not as stated.
    """
    # Steps without infrequent values do not name the argument.
    infrequent = [_typed(value, kind) for value in getattr(arguments, "infrequent", ())]
    dropped = {_typed(value, kind) for value in drop}
    if arguments.categories is not None:
        return _listed_values([_typed(value, kind) for value in arguments.categories], dropped, infrequent, kind, first)
    assert arguments.vocabulary is not None  # the spec's validator
    file = arguments.vocabulary
    key = ("known values", file.file, file.sha256, kind, frozenset(dropped), tuple(infrequent), first)
    return taken.program.once(key, lambda: _values_of_file(file, taken.folder, dropped, infrequent, kind, first=first))


def _code_of_infrequent(infrequent: list[Any], dropped: set[Any], count: int) -> int | None:
    if not infrequent:
        return None
    return ZEROS_CODE if dropped & set(infrequent) else count


# Listed on the page.


def _listed_values(values: list[Any], dropped: set[Any], infrequent: list[Any], kind: Kind, first: int) -> KnownValues:
    if stray := dropped - {*values, *infrequent}:
        raise _stray(stray)
    entries = [*values, *infrequent]
    if len(set(entries)) != len(entries):
        raise Unfit(f"a category stands twice: {_listed(value for value, n in Counter(entries).items() if n > 1)}")
    count = len(values) - len(dropped & set(values))
    rare = _code_of_infrequent(infrequent, dropped, count)
    positions = iter(range(first, first + count))
    codes = [ZEROS_CODE if value in dropped else next(positions) for value in values] + [rare or 0] * len(infrequent)
    vocabulary = (Vocabulary.of_texts if kind == Kind.STRING else Vocabulary.of_numbers)(entries, codes)
    shown = [_text_of(value) for value in entries[: SHOWN_VALUES + 1] if value is not None]
    return KnownValues(vocabulary, kind, count, rare, tuple(shown[:SHOWN_VALUES]))


def _typed(value: Scalar | None, kind: Kind) -> Any:
    # As a lookup compares it: texts in UTF-8.
    if value is None:
        return None
    if kind == Kind.STRING and isinstance(value, str):
        return value.encode()
    if kind == Kind.BOOL and isinstance(value, bool):
        return int(value)
    if kind == Kind.INT and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind == Kind.FLOAT and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise Unfit(f"the category {value!r} is no {kind}, which is what the step is given")


# Listed in a file.


class _Reader(Protocol):
    def __call__(self, lines: bytes, *, codes: Codes | None = None, more: list[Any] = ...) -> Vocabulary: ...


def _values_of_file(
    file: page.VocabularyFile, folder: Path, dropped: set[Any], infrequent: list[Any], kind: Kind, *, first: int
) -> KnownValues:
    lines = read_vocabulary(file, folder)
    read = _reader_of(kind)
    try:
        vocabulary = read(lines)
        kept = _kept(vocabulary, dropped - set(infrequent))
        count = int(kept.sum())
        rare = _code_of_infrequent(infrequent, dropped, count)
        if dropped or infrequent or first:
            codes = np.where(kept, np.cumsum(kept, dtype=np.int32) + (first - 1), ZEROS_CODE)
            codes = np.append(codes, [rare or 0] * len(infrequent)).astype(np.int32)
            vocabulary = read(lines, codes=codes, more=infrequent)
    except ValueError as error:
        raise Unfit(str(error)) from error
    head = [line.removesuffix(b"\n") for line in islice(BytesIO(lines), SHOWN_VALUES + 1)]
    shown = [line[:SHOWN_BYTES].decode(errors="replace") for line in head if line]
    return KnownValues(vocabulary, kind, count, rare, tuple(shown[:SHOWN_VALUES]))


def _reader_of(kind: Kind) -> _Reader:
    if kind == Kind.STRING:
        return Vocabulary.of_lines
    if kind == Kind.BOOL:
        raise Unfit("what stands in a file is no bool; list true and false in place")
    return partial(Vocabulary.of_number_lines, floats=kind == Kind.FLOAT)


def _kept(vocabulary: Vocabulary, dropped: set[Any]) -> npt.NDArray[np.bool_]:
    # By position among all, which `vocabulary` gives.
    missing = -1 if vocabulary.missing is None else vocabulary.missing
    positions = {value: missing if value is None else vocabulary.codes_of([value])[0] for value in dropped}
    if stray := {value for value, position in positions.items() if position < 0}:
        raise _stray(stray)
    kept = np.ones(vocabulary.size, bool)
    kept[list(positions.values())] = False
    return kept


def read_vocabulary(file: page.VocabularyFile, folder: Path) -> bytes:
    """The bytes of a vocabulary file in ``folder``. Unfit unless it is there, of that digest, UTF-8, and not empty."""
    path = folder / file.file
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise Unfit(f"the vocabulary {file.file!r} lies outside the folder of the plan")
        if path.stat().st_size > MAX_VOCABULARY_BYTES:
            raise Unfit(f"the vocabulary {file.file!r} is larger than {MAX_VOCABULARY_BYTES >> 20} MiB")
        lines = path.read_bytes()
    except OSError as error:
        raise Unfit(f"the vocabulary {file.file!r} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(lines).hexdigest()
    if digest != file.sha256:
        raise Unfit(f"the vocabulary {file.file!r} has SHA-256 {digest}, not {file.sha256} as stated")
    if (wrong := not_utf8_at(lines)) is not None:
        raise Unfit(f"the vocabulary {file.file!r} is not UTF-8 at byte {wrong}")
    if not lines:
        raise Unfit(f"the vocabulary {file.file!r} is empty")
    return lines


# In messages and names.


def _stray(values: Iterable[Any]) -> Unfit:
    return Unfit(f"`drop` names {_listed(values)}, which is not among the categories")


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(sorted("null" if value is None else _text_of(value) for value in values)[:5])


def _text_of(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
