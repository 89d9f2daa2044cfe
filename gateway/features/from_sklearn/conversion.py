"""What converters share: the problems so far, what is known of the columns' types, and the files of vocabularies."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gateway.config.feature_steps.values import MAX_INLINE_CATEGORIES
from gateway.core.errors import Problem
from gateway.features.from_sklearn.parts import Lane, Part, Step, lanes_of
from gateway.features.plain_columns import is_missing

#: What scikit-learn's estimators are is not typed; each converter knows the one it is for.
Estimator: TypeAlias = Any
#: (conversion, estimator, parts, path) -> what the estimator makes of the parts; None after a problem.
Converter: TypeAlias = "Callable[[Conversion, Estimator, list[Part], str], list[Part] | None]"

#: Estimators that may come after a vectorizer: they look at its step, not at its terms.
TAKES_TERMS = {
    "sklearn.pipeline.Pipeline", "sklearn.pipeline.FeatureUnion", "sklearn.feature_extraction.text.TfidfTransformer",
}  # fmt: skip
KIND_OF_TYPE: dict[type, str] = {str: "string", int: "int", float: "float", bool: "bool"}


@dataclass
class Conversion:
    """One import. ``source`` is what problems name as the file."""

    source: str
    converters: Mapping[str, Converter]
    problems: list[Problem] = field(default_factory=list)
    vocabularies: dict[str, bytes] = field(default_factory=dict)
    _evidence: dict[str, set[str]] = field(default_factory=dict)

    def problem(self, path: str, message: str) -> None:
        """Note a problem; for ``return conversion.problem(…)``."""
        self.problems.append(Problem(self.source, path, message))

    def convert(self, estimator: Estimator, parts: list[Part], path: str) -> list[Part] | None:
        """``parts`` taken through the estimator; None, with a problem noted, if it cannot be imported."""
        if estimator is None or (isinstance(estimator, str) and estimator == "passthrough"):
            return parts
        if not self.knows(estimator, path):
            return None
        if not _is_fitted(estimator):
            self.problem(path, f"{type(estimator).__name__} is not fitted; call fit before saving it")
            return None
        if class_name(estimator) not in TAKES_TERMS and self.has_terms(parts, type(estimator).__name__, path):
            return None
        return self.converters[class_name(estimator)](self, estimator, parts, path)

    def knows(self, estimator: Estimator, path: str) -> bool:
        """Whether it can be imported at all; a problem is noted if not."""
        if class_name(estimator) in self.converters:
            return True
        self.problem(
            path,
            f"{type(estimator).__name__} has no step in the catalogue; leave it to the graph, with the model, "
            "or do its work before the request",
        )
        return False

    def has_terms(self, parts: Iterable[Part], follower: str, path: str) -> bool:
        """Whether a vectorizer's terms are among ``parts``; a problem is noted then, for nothing can follow one."""
        found = any(lane.kind == "term" for lane in lanes_of(parts))
        if found:
            hint = "leave it to the graph, with the model"
            self.problem(path, f"{follower} comes after a vectorizer, and no step can follow one; {hint}")
        return found

    # The columns' types.

    def tell(self, lanes: Iterable[Lane], kind: str) -> None:
        """A step takes ``lanes`` for values of ``kind``: so are the columns that they still are."""
        for lane in lanes:
            if lane.kind is None:
                self._evidence.setdefault(lane.column, set()).add(kind)

    def column_kinds(self) -> dict[str, str]:
        """By column, for those that a step has told of."""
        return {column: self._column_kind(column, told) for column, told in self._evidence.items()}

    def _column_kind(self, column: str, told: set[str]) -> str:
        if len(told) == 1:
            return next(iter(told))
        if told != {"float", "int"}:
            self.problem(self.source, f"column {column!r} is used as {' and as '.join(sorted(told))}")
        return "float"

    # Steps.

    def each(
        self,
        path: str,
        parts: Sequence[Part],
        step: str,
        same: Mapping[str, object] | None = None,
        /,
        **own: Iterable[float],
    ) -> list[Part] | None:
        """Every lane through a step that makes a number of a number.

        ``same`` are its arguments that are the same for all, ``own`` those that have one for each lane. None, with a
        problem noted, if one of these is no number: scikit-learn fits them so on a column that had no value.
        """
        lanes = lanes_of(parts)
        self.tell(lanes, "float")
        listed = {name: list(values) for name, values in own.items()}
        odd = [lanes[i].column for values in listed.values() for i, value in enumerate(values) if math.isnan(value)]
        if odd:
            self.problem(path, f"column {odd[0]!r} had no value in training, so {step} has nothing to go by; drop it")
            return None
        found = []
        first = 0
        for part in parts:
            end = first + len(part.lanes)
            given = {name: one_or_each(values[first:end]) for name, values in listed.items()}
            found.append(part.carrying(_step(step, {**(same or {}), **given}), "float"))
            first = end
        return found

    # Categories.

    def categories(self, values: Iterable[object], lane: Lane, path: str) -> list[object] | None:
        """An encoder's categories as a page lists them. None if one is no constant of a page.

        None and NaN stand for missing.
        """
        fitted = list(values)
        plain = [plain_value(value) for value in fitted]
        if sum(value is None for value in plain) > 1:
            self.problem(path, f"column {lane.column!r} has several categories for missing (None, NaN, the empty text)")
            return None
        kinds = {type(value) for value in plain if value is not None}
        if not kinds and any(isinstance(value, str) for value in fitted):
            kinds = {str}  # the empty text alone
        if kinds == {int, float}:
            plain = [float(value) if isinstance(value, int) else value for value in plain]
            kinds = {float}
        if len(kinds) != 1 or not kinds <= set(KIND_OF_TYPE):
            shown = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
            self.problem(path, f"column {lane.column!r} has categories of the types {shown}; all must be of one")
            return None
        self.tell([lane], KIND_OF_TYPE[kinds.pop()])
        return as_carried(plain, lane)

    def known(self, values: list[object], lane: Lane, path: str) -> dict[str, object]:
        """The argument that lists them: in place, or in a file if there are many."""
        if len(values) <= MAX_INLINE_CATEGORIES:
            return {"categories": values}
        texts = ["" if value is None else repr(value) if isinstance(value, float) else str(value) for value in values]
        if any("\n" in text for text in texts):
            self.problem(
                path, f"column {lane.column!r} has over {MAX_INLINE_CATEGORIES} categories, one with a line break"
            )
        return {"vocabulary": self.file(lane.column, texts)}

    def numbers(self, of_classes: list[list[float]], lane: Lane) -> object:
        """The argument that lists, for each class, a number for each category: in place, or in a file if they are many.

        A single class has no list around its own.
        """
        rows = list(zip(*of_classes, strict=True))
        if len(rows) > MAX_INLINE_CATEGORIES:
            return self.file(lane.column, (" ".join(map(repr, row)) for row in rows))
        return of_classes if len(of_classes) > 1 else of_classes[0]

    def file(self, name: str, texts: Iterable[str]) -> dict[str, str]:
        """A file of lines beside the page, called after ``name``, as an argument states it."""
        lines = "".join(f"{text}\n" for text in texts).encode()
        digest = hashlib.sha256(lines).hexdigest()
        file = f"{re.sub(r'[^A-Za-z0-9_]', '_', name)[:64]}.{digest[:8]}.txt"
        self.vocabularies[file] = lines
        return {"file": file, "sha256": digest}


def _step(name: str, arguments: dict[str, object]) -> Step:
    return {name: arguments} if arguments else name


def one_or_each(values: Sequence[Any]) -> object:
    """An argument of the values of one part: a list only where they differ."""
    plain = [plain_value(value) for value in values]
    return plain[0] if all(repr(value) == repr(plain[0]) for value in plain) else plain


def plain_value(value: Any) -> object:
    """numpy's constants as Python's; missing is None."""
    if is_missing(value) or (isinstance(value, str) and value == ""):
        return None
    if hasattr(value, "item"):
        value = value.item()
    return str(value) if isinstance(value, str) else value


def as_carried(values: list[object], lane: Lane) -> list[object]:
    """Categories in the type of the lane: scikit-learn has floats between its steps where ours have integers."""
    if lane.kind == "int":
        return [int(value) if isinstance(value, float) else value for value in values]
    if lane.kind == "bool":
        return [bool(value) if value is not None else None for value in values]
    return values


def as_code(value: Any) -> object:
    """An encoder's code for unknown or missing values."""
    number = float(value)
    if math.isnan(number):
        return "nan"
    return int(number) if number.is_integer() and abs(number) < 2**31 else number


def class_name(estimator: Estimator) -> str:
    """The public path: sklearn.preprocessing._data.StandardScaler is sklearn.preprocessing.StandardScaler."""
    module = ".".join(part for part in type(estimator).__module__.split(".") if not part.startswith("_"))
    return f"{module}.{type(estimator).__name__}"


def _is_fitted(estimator: Estimator) -> bool:
    from sklearn.exceptions import NotFittedError  # noqa: PLC0415 - only who imports a pipeline has scikit-learn
    from sklearn.utils.validation import check_is_fitted  # noqa: PLC0415

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True
