"""Steps that put a number of training in the place of a category."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway._fast.feature_program import ERROR_CODE, MISSING_INTEGER
from gateway.features.program import Kind
from gateway.features.steps.categories import lookup, number_of_code, place_behind
from gateway.features.steps.entry import Lane, Outcomes, Part, StepEntry, Taken, Unfit
from gateway.features.steps.known_values import known_values, read_vocabulary

if TYPE_CHECKING:
    from gateway.config.feature_steps import categories as page


def _target_encode(arguments: page.TargetEncode, taken: Taken) -> list[Part]:
    return [part for lane in taken.lanes for part in _encoded(arguments, lane, taken)]


def _encoded(arguments: page.TargetEncode, lane: Lane, taken: Taken) -> list[Part]:
    known = known_values(arguments, lane.kind, taken)
    of_classes = _numbers_of_classes("encodings", arguments.encodings, known.count, taken.folder)
    means = arguments.mean if isinstance(arguments.mean, tuple) else (arguments.mean,)
    names = [lane.name]
    if len(of_classes) > 1 or arguments.classes:
        names = [f"{lane.name}_{name}" for name in arguments.classes]
    if not len(of_classes) == len(means) == len(names):
        raise Unfit(
            f"`encodings` are for {len(of_classes)} classes, `mean` is for {len(means)}, and `classes` names "
            f"{len(arguments.classes)}"
        )
    # The mean's place is behind those of the categories.
    codes = {"error": ERROR_CODE, "mean": known.count}
    code = lookup(lane, known, taken, unknown=codes[arguments.unknown], missing=codes[arguments.missing])
    return [
        Lane(number_of_code(code, [*numbers, mean], taken), name)
        for name, numbers, mean in zip(names, of_classes, means, strict=True)
    ]


def _frequency_encode(arguments: page.FrequencyEncode, taken: Taken) -> list[Part]:
    return [_counted(arguments, lane, taken) for lane in taken.lanes]


def _counted(arguments: page.FrequencyEncode, lane: Lane, taken: Taken) -> Lane:
    known = known_values(arguments, lane.kind, taken)
    of_classes = _numbers_of_classes("counts", arguments.counts, known.count, taken.folder)
    if len(of_classes) != 1:
        raise Unfit(f"`counts` has {len(of_classes)} numbers a line, not one")
    counts = of_classes[0]
    if min(counts) < 0:
        raise Unfit(f"`counts` has {min(counts)}, which no count is")
    try:
        total = math.fsum(counts) if arguments.normalize else 1.0
    except OverflowError as error:
        raise Unfit("`counts` together are more than a float64 holds") from error
    if total == 0:
        raise Unfit("`counts` are all 0, so there are no shares of them")
    numbers = [count / total for count in counts]
    codes = {"error": ERROR_CODE, "nan": MISSING_INTEGER}
    unknown, missing = (place_behind(numbers, outcome, codes) for outcome in (arguments.unknown, arguments.missing))
    return lane.then(number_of_code(lookup(lane, known, taken, unknown=unknown, missing=missing), numbers, taken))


def _numbers_of_classes(
    name: str, numbers: tuple[Any, ...] | page.VocabularyFile, count: int, folder: Path
) -> list[list[float]]:
    """For each class, a number for each of ``count`` categories. Unfit for other than one each."""
    if isinstance(numbers, tuple):
        nested = bool(numbers) and isinstance(numbers[0], list | tuple)
        of_classes = [list(row) for row in numbers] if nested else [list(numbers)]
    else:
        lines = read_vocabulary(numbers, folder).removesuffix(b"\n").split(b"\n")
        rows = [_numbers_of_line(line, i, numbers.file) for i, line in enumerate(lines)]
        if len({len(row) for row in rows}) > 1:
            raise Unfit(f"the lines of {numbers.file!r} hold unlike counts of numbers")
        of_classes = [list(column) for column in zip(*rows, strict=True)]
    for row in of_classes:
        if len(row) != count:
            raise Unfit(f"`{name}` has {len(row)} numbers for {count} categories")
    return of_classes


def _numbers_of_line(line: bytes, index: int, file: str) -> list[float]:
    try:
        numbers = [float(text) for text in line.split()]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise Unfit(f"line {index + 1} of {file!r}, {line[:60].decode(errors='replace')!r}, must be finite numbers")
    return numbers


ENTRIES = [
    StepEntry(
        name="target_encode",
        takes=(Kind.FLOAT, Kind.INT, Kind.BOOL, Kind.STRING),
        gives="float; one for each of the classes, if there are several",
        formula="the number of x in `encodings`",
        outcomes=Outcomes(
            missing="its number if `null` is a category, else as `missing` says",
            infinite="unseen",
            unseen="as `unknown` says: the mean, or the row fails",
        ),
        example="target_encode: {categories: [EWR, JFK, LGA], encodings: [12.5, 14.1, 9.8], mean: 12.6}",
        compile=_target_encode,
        twin="`TargetEncoder`, as it is served (`transform`)",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="frequency_encode",
        takes=(Kind.FLOAT, Kind.INT, Kind.BOOL, Kind.STRING),
        gives="float",
        formula="the count of x, with `normalize` by the sum of all counts",
        outcomes=Outcomes(
            missing="its count if `null` is a category, else as `missing` says",
            infinite="unseen",
            unseen="as `unknown` says: the row fails, NaN, or the number",
        ),
        example="frequency_encode: {categories: [EWR, JFK, LGA], counts: [3, 5, 2], normalize: true}",
        compile=_frequency_encode,
        fallback=Kind.FLOAT,
    ),
]
