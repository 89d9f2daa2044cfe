"""Steps that know categories: values to places, to positions, to buckets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gateway._fast.feature_program import ERROR_CODE, MISSING_INTEGER, ZEROS_CODE, Operation, Relation
from gateway.features.program import Kind, Value
from gateway.features.steps.entry import NOTHING, Elements, Lane, Outcomes, Part, StepEntry, Taken, Unfit
from gateway.features.steps.known_values import KnownValues, known_values
from gateway.features.steps.operators import compared, integer

if TYPE_CHECKING:
    from gateway.config.feature_steps import categories as page


def _one_hot(arguments: page.OneHot, taken: Taken) -> list[Part]:
    return [_places(arguments, lane, taken) for lane in taken.lanes]


def _places(arguments: page.OneHot, lane: Lane, taken: Taken) -> Elements:
    known = known_values(arguments, lane.kind, taken, arguments.drop)
    codes = {"error": ERROR_CODE, "ignore": ZEROS_CODE, "infrequent": known.infrequent}
    code = lookup(lane, known, taken, unknown=codes[arguments.unknown], missing=codes[arguments.missing])

    def names() -> list[str]:
        return [f"{lane.name}_{name}" for name in known.names(getattr(arguments, "missing_name", None))]

    return Elements(code, Operation.EMIT_ONE_HOT, known.width, names)


def _ordinal(arguments: page.Ordinal, taken: Taken) -> list[Part]:
    return [lane.then(_position(arguments, lane, taken)) for lane in taken.lanes]


def _position(arguments: page.Ordinal, lane: Lane, taken: Taken) -> Value:
    known = known_values(arguments, lane.kind, taken)
    codes = {"error": ERROR_CODE, "nan": MISSING_INTEGER, "infrequent": known.infrequent}
    given: tuple[str | float, str | float] = (arguments.unknown, arguments.missing)
    if not any(isinstance(outcome, float) for outcome in given):
        unknown, missing = (codes[outcome] if isinstance(outcome, str) else int(outcome) for outcome in given)
        return lookup(lane, known, taken, unknown=unknown, missing=missing)
    # Each position stands for itself; numbers that are no positions stand behind them.
    numbers = [float(place) for place in range(known.width)]
    unknown, missing = (place_behind(numbers, outcome, codes) for outcome in given)
    return number_of_code(lookup(lane, known, taken, unknown=unknown, missing=missing), numbers, taken)


def place_behind(numbers: list[float], outcome: str | float, codes: Mapping[str, int | None]) -> int | None:
    """The code of an outcome. One that is a number becomes the last of ``numbers``, and its place is the code."""
    if isinstance(outcome, str):
        return codes[outcome]
    numbers.append(float(outcome))
    return len(numbers) - 1


def number_of_code(code: Value, numbers: Sequence[float], taken: Taken) -> Value:
    """That of ``numbers`` which stands at the code; missing for a code that is none of their places."""
    constants = tuple(numbers)
    return taken.program.compute(Operation.OP_CODE_NUMBER, Kind.FLOAT, code, constants=constants, length=len(constants))


def _vocabulary_id(arguments: page.VocabularyId, taken: Taken) -> list[Part]:
    return [lane.then(_id(arguments, lane, taken)) for lane in taken.lanes]


def _id(arguments: page.VocabularyId, lane: Lane, taken: Taken) -> Value:
    first = arguments.first_id
    known = known_values(arguments, lane.kind, taken, first=first)
    behind = first + known.count
    first_oov = behind if arguments.first_oov_id is None else arguments.first_oov_id
    if arguments.oov_buckets and first_oov < behind and first_oov + arguments.oov_buckets > first:
        raise Unfit(f"the ids of unknown values, from {first_oov} on, are those of categories, {first} to {behind - 1}")
    missing = ERROR_CODE if arguments.missing == "error" else int(arguments.missing)
    if not arguments.oov_buckets:
        return lookup(lane, known, taken, unknown=ERROR_CODE, missing=missing)
    return taken.program.compute(
        Operation.OP_ID_TEXT if lane.kind == Kind.STRING else Operation.OP_ID_INTEGER,
        Kind.INT,
        lane.value,
        i=first_oov,
        j=missing if known.missing is None else known.missing,
        length=arguments.oov_buckets,
        vocabulary=known.vocabulary,
    )


def _is_in(arguments: page.IsIn, taken: Taken) -> list[Part]:
    return [lane.then(_is_known(arguments, lane, taken)) for lane in taken.lanes]


def _is_known(arguments: page.IsIn, lane: Lane, taken: Taken) -> Value:
    known = known_values(arguments, lane.kind, taken)
    position = lookup(lane, known, taken, unknown=ZEROS_CODE, missing=MISSING_INTEGER)
    return compared(position, integer(0, taken.program), Relation.RELATION_GREATER_OR_EQUAL, taken.program)


HASHES = {Kind.STRING: Operation.OP_HASH_TEXT, Kind.STRINGS: Operation.OP_HASH_LIST}
LOOKUPS = {Kind.STRING: Operation.OP_LOOKUP_TEXT, Kind.FLOAT: Operation.OP_LOOKUP_NUMBER}


def lookup(lane: Lane, known: KnownValues, taken: Taken, *, unknown: int | None, missing: int | None) -> Value:
    """The code of the lane's value, ``unknown`` if it is none of the known, ``missing`` unless that is one of them.

    None is the code of infrequent values where there are none: Unfit.
    """
    if known.missing is not None:
        missing = known.missing
    if unknown is None or missing is None:
        raise Unfit("`infrequent` names no categories, so nothing can take their place")
    return taken.program.compute(
        LOOKUPS.get(lane.kind, Operation.OP_LOOKUP_INTEGER),
        Kind.INT,
        lane.value,
        i=unknown,
        j=missing,
        vocabulary=known.vocabulary,
        expected=known.shown() if unknown == ERROR_CODE else (),
    )


def _hash(arguments: page.Hash, taken: Taken) -> list[Part]:
    return [_buckets(arguments, lane, taken) for lane in taken.lanes]


def _buckets(arguments: page.Hash, lane: Lane, taken: Taken) -> Elements:
    is_list = lane.kind == Kind.STRINGS
    bucket = taken.program.compute(
        HASHES.get(lane.kind, Operation.OP_HASH_INTEGER),
        Kind.CODES if is_list else Kind.INT,
        lane.value,
        a=float(arguments.signed),
        i=arguments.buckets,
        j=arguments.seed,
    )

    def names() -> list[str]:
        return [f"{lane.name}_{i}" for i in range(arguments.buckets)]

    operation = Operation.EMIT_SUMMED_CODES if is_list else Operation.EMIT_HASHED
    return Elements(bucket, operation, arguments.buckets, names)


ENTRIES = [
    StepEntry(
        name="one_hot",
        takes=(Kind.FLOAT, Kind.INT, Kind.BOOL, Kind.STRING),
        gives="one element per category that is not dropped, then one for the infrequent if there are any",
        formula="1 at the place of x, else 0",
        outcomes=Outcomes(
            missing="its place if `null` is a category, else as `missing` says",
            infinite="unseen",
            unseen="as `unknown` says: the row fails, zeros, or the place of the infrequent",
        ),
        example="one_hot: {categories: [EWR, JFK, LGA], unknown: ignore, missing: ignore}",
        compile=_one_hot,
        twin="`OneHotEncoder`",
        fallback=Kind.INT,
    ),
    StepEntry(
        name="ordinal",
        takes=(Kind.FLOAT, Kind.INT, Kind.BOOL, Kind.STRING),
        gives="int; float if `unknown` or `missing` is a number with a point",
        formula="the position of x among the categories, from 0",
        outcomes=Outcomes(
            missing="its position if `null` is a category, else as `missing` says; NaN fails a row of an int64 output",
            infinite="unseen",
            unseen="as `unknown` says: the row fails, NaN, the position after all others, or the number",
        ),
        example="ordinal: {categories: [low, middle, high], unknown: -1}",
        compile=_ordinal,
        twin="`OrdinalEncoder`",
        fallback=Kind.INT,
    ),
    StepEntry(
        name="vocabulary_id",
        takes=(Kind.STRING, Kind.INT, Kind.BOOL),
        gives="int",
        formula="`first_id` + the position of x; if x is none of the known, `first_oov_id` + h mod `oov_buckets`, "
        "h = MurmurHash3 (x86, 32 bits, unsigned, seed 0) of its UTF-8 text, an int's in decimal",
        outcomes=Outcomes(
            missing="its id if `null` is a category, else as `missing` says: the row fails, or the id",
            infinite=NOTHING,
            unseen="one of the `oov_buckets` ids; without any the row fails",
        ),
        example="vocabulary_id: {categories: [EWR, JFK, LGA], first_id: 2, first_oov_id: 1, missing: 0}",
        compile=_vocabulary_id,
        fallback=Kind.INT,
    ),
    StepEntry(
        name="hash",
        takes=(Kind.STRING, Kind.INT, Kind.STRINGS),
        gives="`buckets` elements",
        formula="h = MurmurHash3 (x86, 32 bits, signed) of the UTF-8 text, an int's in decimal; "
        "element |h| mod buckets becomes 1, or -1 if h < 0 and `signed`; of a list, the sum over its texts",
        outcomes=Outcomes(missing="zeros", infinite=NOTHING, unseen="hashed like any other"),
        example="hash: {buckets: 64}",
        compile=_hash,
        twin="`FeatureHasher(input_type='string')` (seed 0); of a string, as of a list of one",
        fallback=Kind.INT,
    ),
    StepEntry(
        name="is_in",
        takes=(Kind.FLOAT, Kind.INT, Kind.BOOL, Kind.STRING),
        gives="bool",
        formula="1 if x is among the categories, else 0",
        outcomes=Outcomes(missing="1 if `null` is a category, else stays missing", infinite="0", unseen="0"),
        example="is_in: {categories: [EWR, JFK]}",
        compile=_is_in,
        twin="pandas' `Series.isin`",
        fallback=Kind.BOOL,
    ),
]
