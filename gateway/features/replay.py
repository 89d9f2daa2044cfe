"""A fitted pipeline and a plan over the same rows: cell by cell, as far apart as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.core.errors import ConfigurationError, FeatureInputInvalid, Problem
from gateway.features.plan import Plan
from gateway.features.table_file import Progress, typed_batches

Array = npt.NDArray[Any]
#: Distance of two values that no number of steps connects: one is missing or infinite and the other is not.
APART = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Cell:
    """Where the two differ, and how: ``ulps`` counts the values of the output's type between them."""

    row: int  #: of the file, from 0
    feature: str
    pipeline: float
    plan: float
    ulps: int

    def __str__(self) -> str:
        apart = "not to be counted in ulps" if self.ulps == APART else f"{self.ulps} ulp"
        return (
            f"row {self.row}, {self.feature}: pipeline {_exactly(self.pipeline)}, plan {_exactly(self.plan)} ({apart})"
        )


@dataclass(slots=True)
class Replay:
    """What a replay found. ``first`` is past the bound that it was given, ``largest`` may be within it; None: none."""

    rows: int = 0
    cells: int = 0
    differing: int = 0
    refused: int = 0  #: rows that both refuse
    first: Cell | None = None
    largest: Cell | None = None
    #: The first row that one refuses and the other does not, with what it said.
    refusal: str = ""

    @property
    def equal(self) -> bool:
        """Whether the two agree on every row."""
        return self.first is None and not self.refusal


@dataclass(slots=True)
class _Comparison:
    plan: Plan
    pipeline: Any
    ulps: int
    found: Replay = field(default_factory=Replay)
    names: list[str] = field(default_factory=list)

    def batch(self, batch: Any) -> None:
        """Compare the rows of a record batch, one by one if either refuses any."""
        try:
            theirs, ours = _theirs(self.pipeline, batch), self.plan.compiled.transform(_columns(batch))[0]
        except Exception:  # noqa: BLE001 - whatever a pipeline raises; each row tells which of the two it was
            for i in range(batch.num_rows):
                self.row(batch.slice(i, 1))
            return
        self.cells(theirs, ours)

    def row(self, batch: Any) -> None:
        theirs: Array | str
        ours: Array | str
        try:
            theirs = _theirs(self.pipeline, batch)
        except Exception as error:  # noqa: BLE001 - likewise
            theirs = f"{type(error).__name__}: {error}"
        try:
            ours = self.plan.compiled.transform(_columns(batch))[0]
        except FeatureInputInvalid as error:
            ours = str(error).removeprefix("row 0: ")
        if isinstance(theirs, str) and isinstance(ours, str):
            self.found.refused += 1
            self.found.rows += 1
        elif isinstance(theirs, str) or isinstance(ours, str):
            who, words = ("pipeline", theirs) if isinstance(theirs, str) else ("plan", ours)
            self.found.refusal = self.found.refusal or f"row {self.found.rows}: only the {who} refuses it: {words}"
            self.found.rows += 1
        else:
            self.cells(theirs, ours)

    def cells(self, theirs: Array, ours: Array) -> None:
        if theirs.shape != ours.shape:
            raise ConfigurationError(
                [Problem("pipeline", "", f"gives {theirs.shape[1]} features, the plan {ours.shape[1]}")]
            )
        distance = ulps_between(theirs.astype(ours.dtype), ours)
        past = distance > self.ulps
        if past.any() and self.found.first is None:
            # In the order of the file: the first row, and in it the first feature.
            self.found.first = self.cell(int(np.argmax(past)), theirs, ours, distance)
        largest = int(np.argmax(distance)) if distance.size else 0
        before = self.found.largest.ulps if self.found.largest is not None else 0
        if distance.size and distance.flat[largest] > before:
            self.found.largest = self.cell(largest, theirs, ours, distance)
        self.found.differing += int(past.sum())
        self.found.cells += distance.size
        self.found.rows += len(ours)

    def cell(self, k: int, theirs: Array, ours: Array, distance: npt.NDArray[np.int64]) -> Cell:
        row, column = divmod(k, ours.shape[1])
        theirs = theirs.astype(ours.dtype)
        return Cell(
            self.found.rows + row, self.names[column], theirs.flat[k].item(), ours.flat[k].item(), int(distance.flat[k])
        )


def replay(plan: Plan, pipeline: Any, data: Path, *, ulps: int, progress: Progress) -> Replay:
    """Run the fitted ``pipeline`` (a model at its end left out) and ``plan`` over every row of ``data``.

    Cells that are at most ``ulps`` apart count as equal, the pipeline's rounded to the output's type first. The plan
    has one output. Memory is that of a few thousand rows.
    """
    if len(plan.outputs) != 1:
        raise ConfigurationError([Problem("plan", "outputs", "a pipeline has one output to compare, the plan several")])
    comparison = _Comparison(plan, without_model(pipeline), ulps, names=plan.feature_names()[plan.outputs[0].name])
    # The pipeline may ask for columns that no feature comes from.
    types = dict.fromkeys(map(str, getattr(pipeline, "feature_names_in_", ())), "")
    types |= dict(zip(plan.column_names(), map(_type_name, plan.compiled.column_types), strict=True))
    for batch in typed_batches(data, types, progress):
        comparison.batch(batch)
    return comparison.found


def without_model(pipeline: Any) -> Any:
    """A pipeline without its last step, if that is a model."""
    last = pipeline.steps[-1][1] if getattr(pipeline, "steps", None) else None
    return pipeline[:-1] if hasattr(last, "predict") and not hasattr(last, "transform") else pipeline


def _type_name(kind: int) -> str:
    return ("float", "int", "bool", "string", "timestamp")[kind]


def _columns(batch: Any) -> dict[str, Any]:
    from gateway._fast.lent_columns import arrow_table  # noqa: PLC0415 - with the loop it is for

    return dict(arrow_table(batch))


def _theirs(pipeline: Any, batch: Any) -> Array:
    frame = batch.to_pandas()
    # Fitted on an array, it takes one.
    result = pipeline.transform(frame if hasattr(pipeline, "feature_names_in_") else frame.to_numpy())
    if hasattr(result, "toarray"):
        result = result.toarray()
    return np.asarray(result.to_numpy() if hasattr(result, "to_numpy") else result, np.float64)


# Distances.


def ulps_between(left: Array, right: Array) -> npt.NDArray[np.int64]:
    """How many values of their type lie between each two: 0 if they are equal or both NaN, APART if they never meet."""
    if left.dtype.kind != "f":
        distance = np.abs(left.astype(np.float64) - right.astype(np.float64))
        return np.where(left == right, 0, np.maximum(np.minimum(distance, float(2**53)), 1)).astype(np.int64)
    places = _places(left), _places(right)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    apart = np.isfinite(left) != np.isfinite(right)
    with np.errstate(over="ignore"):
        distance = np.maximum(*places) - np.minimum(*places)
    distance = np.where(distance < 0, APART, distance)  # of opposite ends of float64
    return np.where(same, 0, np.where(apart | np.isnan(left) | np.isnan(right), APART, distance))


def _places(values: Array) -> npt.NDArray[np.int64]:
    # Floats in order are integers in order, but for those below zero, which run backwards.
    bits = values.view(np.int32 if values.dtype.itemsize == 4 else np.int64).astype(np.int64)
    low = -(2 ** (8 * values.dtype.itemsize - 1))
    return np.where(bits < 0, low - bits, bits)


def _exactly(value: float) -> str:
    return repr(value) if isinstance(value, int) or math.isfinite(value) else str(value)
