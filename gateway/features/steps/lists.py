"""Steps that make lists of texts and take them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway._fast.feature_program import ERROR_CODE, ZEROS_CODE, Operation
from gateway.features.program import Kind
from gateway.features.steps.entry import NOTHING, Elements, Lane, Outcomes, Part, StepEntry, Taken, Unfit
from gateway.features.steps.known_values import known_values

if TYPE_CHECKING:
    from gateway.config.feature_steps import lists as page


def _split(arguments: page.Split, taken: Taken) -> list[Part]:
    separator = arguments.separator.encode()
    return [
        lane.then(taken.program.compute(Operation.OP_SPLIT, Kind.STRINGS, lane.value, text=separator))
        for lane in taken.lanes
    ]


def _multi_hot(arguments: page.MultiHot, taken: Taken) -> list[Part]:
    return [_hits(arguments, lane, taken) for lane in taken.lanes]


def _hits(arguments: page.MultiHot, lane: Lane, taken: Taken) -> Elements:
    known = known_values(arguments, Kind.STRING, taken)
    if known.missing is not None:
        raise Unfit("`null` cannot be a category: lists hold no missing texts")
    outcome = {"error": ERROR_CODE, "ignore": ZEROS_CODE}
    codes = taken.program.compute(
        Operation.OP_LOOKUP_LIST,
        Kind.CODES,
        lane.value,
        i=outcome[arguments.unknown],
        j=outcome[arguments.missing],
        vocabulary=known.vocabulary,
        expected=known.shown() if arguments.unknown == "error" else (),
    )

    def names() -> list[str]:
        return [f"{lane.name}_{name}" for name in known.names()]

    return Elements(codes, Operation.EMIT_HOT_CODES, known.width, names)


ENTRIES = [
    StepEntry(
        name="split",
        takes=(Kind.STRING,),
        gives="strings",
        formula="the pieces of x between occurrences of `separator`, from the left; empty ones left out",
        outcomes=Outcomes(missing="a list without texts, which is missing", infinite=NOTHING),
        example="split: {separator: '|'}",
        compile=_split,
        fallback=Kind.STRINGS,
    ),
    StepEntry(
        name="multi_hot",
        takes=(Kind.STRINGS,),
        gives="one element per category",
        formula="1 at the places of all texts in x, else 0",
        outcomes=Outcomes(
            missing="as `missing` says: zeros, or the row fails",
            infinite=NOTHING,
            unseen="as `unknown` says: the row fails, or the text does not count",
        ),
        example="multi_hot: {categories: [action, comedy, drama], unknown: ignore}",
        compile=_multi_hot,
        twin="`MultiLabelBinarizer` of texts",
        fallback=Kind.INT,
    ),
]
