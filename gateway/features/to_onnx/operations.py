"""What each instruction of a plan is in ONNX's operators; those that are not here have no exact form."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gateway._fast.feature_program import ERROR_CODE, Operation, Relation
from gateway.features.program import Emission, Value
from gateway.features.to_onnx.calendar import part_of
from gateway.features.to_onnx.graph import BOOL, DOUBLE, INT64, MISSING_INTEGER, TEXT, Graph, Tensor

#: (value, operands, graph) → its tensor; None if this one has no exact form.
Form = Callable[[Value, Sequence[Tensor], Graph], Tensor | None]

#: What no code of a category is: a text or integer that the lookup does not know.
_UNSEEN = -3
#: Categories and edges that a value is compared with one by one.
MAX_COMPARED = 10_000


# Numbers.


def _number(value: Value, _: Sequence[Tensor], graph: Graph) -> Tensor:
    return graph.in_every_row(graph.constant(value.a, DOUBLE))


def _integer(value: Value, _: Sequence[Tensor], graph: Graph) -> Tensor:
    return graph.in_every_row(graph.constant(value.i, INT64))


def _text(value: Value, _: Sequence[Tensor], graph: Graph) -> Tensor:
    assert value.text is not None  # of its instruction
    return graph.in_every_row(graph.constant(value.text.decode()))


def _to_number(_: Value, operands: Sequence[Tensor], __: Graph) -> Tensor:
    (x,) = operands
    return x.is_missing().where(math.nan, x.cast(DOUBLE))


def _filled_number(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor:
    (x,) = operands
    return x.is_missing().where(value.a, x)


def _filled_integer(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor:
    (x,) = operands
    return x.is_missing().where(value.i, x)


def _filled_text(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor:
    (x,) = operands
    assert value.text is not None  # of its instruction
    return x.is_missing().where(value.text.decode(), x)


def _missing(_: Value, operands: Sequence[Tensor], __: Graph) -> Tensor:
    return operands[0].is_missing().cast(INT64)


def _subtracted_divided(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor:
    return (operands[0] - value.a) / value.b


def _multiplied_added(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor:
    return operands[0] * value.a + value.b


def _clipped(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor:
    (x,) = operands  # not ONNX's Clip: what becomes of NaN and -0.0 is to be ours
    low = (x < value.a).where(value.a, x)
    return (low > value.b).where(value.b, low)


def _log1p(_: Value, operands: Sequence[Tensor], graph: Graph) -> Tensor:
    # ln(1 + x), of which the addition loses digits, times what they make: x / ((1 + x) - 1).
    (x,) = operands
    u = x + 1.0
    scaled = graph.op("Log", u, type=DOUBLE) * x / (u - 1.0)
    return (u.equals(1.0) | x.equals(math.inf)).where(x, scaled)


def _turned(operator: str) -> Form:
    def form(value: Value, operands: Sequence[Tensor], graph: Graph) -> Tensor:
        (x,) = operands
        period = graph.constant(value.a, DOUBLE)
        turn = graph.op("Mod", x, period, type=DOUBLE, fmod=1) / period * (2.0 * math.pi)
        return graph.op(operator, turn, type=DOUBLE)

    return form


def _bucket(value: Value, operands: Sequence[Tensor], graph: Graph) -> Tensor | None:
    (x,) = operands
    edges = np.array([value.constants[: value.length]])
    if edges.size > MAX_COMPARED:
        return None
    return x.is_missing().where(MISSING_INTEGER, (x >= graph.array(edges)).cast(INT64).summed())


def _of_two(operator: str) -> Form:
    def form(_: Value, operands: Sequence[Tensor], graph: Graph) -> Tensor:
        return graph.op(operator, *operands, type=DOUBLE)

    return form


def _divided(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor:
    x, y = operands
    return y.equals(0.0).where(value.a, x / y)


def _is_code(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor:
    return operands[0].equals(value.i).cast(INT64)


def _of_one(operator: str) -> Form:
    def form(_: Value, operands: Sequence[Tensor], graph: Graph) -> Tensor:
        return graph.op(operator, operands[0], type=DOUBLE)

    return form


def _above(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor:
    (x,) = operands
    return x.is_missing().where(MISSING_INTEGER, (x > value.a).cast(INT64))


# Several values.


def _first(_: Value, operands: Sequence[Tensor], __: Graph) -> Tensor:
    x, y = operands
    return x.is_missing().where(y, x)


def _compared_numbers(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor:
    x, y = operands
    related = {
        Relation.RELATION_EQUAL: x.equals,
        Relation.RELATION_NOT_EQUAL: lambda y: ~x.equals(y),
        Relation.RELATION_LESS: x.__lt__,
        Relation.RELATION_LESS_OR_EQUAL: lambda y: y >= x,
        Relation.RELATION_GREATER: x.__gt__,
        Relation.RELATION_GREATER_OR_EQUAL: x.__ge__,
    }[Relation(value.i)](y)
    return (x.is_missing() | y.is_missing()).where(MISSING_INTEGER, related.cast(INT64))


def _compared_texts(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor | None:
    # With a constant: two texts are compared by the newest runtimes alone.
    for i, operand in enumerate(value.operands):
        if operand.text is not None and operand.operation == Operation.OP_TEXT:
            other = operands[1 - i]
            equal = int(value.i == Relation.RELATION_EQUAL)
            found = other.looked_up({operand.text.decode(): equal}, 1 - equal)
            return other.is_missing().where(MISSING_INTEGER, found)
    return None


def _norm(power: int) -> Form:
    def form(_: Value, operands: Sequence[Tensor], graph: Graph) -> Tensor:
        norm = graph.in_every_row(graph.constant(0.0))
        for x in operands:
            norm = norm + (graph.op("Abs", x, type=DOUBLE) if power == 1 else x * x)
        if power != 1:
            norm = graph.op("Sqrt", norm, type=DOUBLE)
        # As scikit-learn: what is next to nothing is not divided by.
        return (norm < 10.0 * 2.0**-52).where(1.0, norm)

    return form


# Categories.


def _looked_up(value: Value, operands: Sequence[Tensor], graph: Graph) -> Tensor | None:
    (x,) = operands
    assert value.vocabulary is not None  # of its instruction
    entries: list[tuple[Any, int]] = [*value.vocabulary.entries()]
    if x.type == DOUBLE:
        found = _compared(x, dict(entries), graph)
    elif x.type == TEXT:
        found = x.looked_up({entry.decode(): code for entry, code in entries}, _UNSEEN)
    else:
        found = x.looked_up(dict(entries), _UNSEEN)
    if found is None:
        return None
    missing = x.is_missing()
    known = found.equals(_UNSEEN).where(_outcome(value.i, found.equals(_UNSEEN) & ~missing, graph), found)
    return missing.where(_outcome(value.j, missing, graph), known)


def _compared(x: Tensor, codes: dict[float, int], graph: Graph) -> Tensor | None:
    # Codes are counted from 1 for the sum, so that nothing found is nothing.
    if len(codes) > MAX_COMPARED:
        return None
    if not codes:
        return x.is_missing().cast(INT64) * 0 + _UNSEEN
    lowest = min(codes.values())
    places = graph.array(np.array([[code - lowest + 1 for code in codes.values()]], np.int64))
    hits = x.equals(graph.array(np.array([list(codes)], np.float64))).cast(INT64)
    place = graph.op("Mul", hits, places, type=INT64).summed()
    return place.equals(0).where(_UNSEEN, place + (lowest - 1))


def _number_of_code(value: Value, operands: Sequence[Tensor], graph: Graph) -> Tensor:
    (code,) = operands
    numbers = graph.array(np.array([*value.constants[: value.length], math.nan]))
    known = ~(code < 0) & (code < value.length)
    return graph.op("Gather", numbers, known.where(code, value.length), type=DOUBLE, axis=0)


def _outcome(code: int, where: Tensor, graph: Graph) -> int:
    if code == ERROR_CODE:
        graph.fail_where(where)
        return -1
    return code


# Instants.


def _part(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor | None:
    (micros,) = operands
    missing = micros.is_missing()
    part = part_of(missing.where(0, micros), value.i)
    return None if part is None else missing.where(MISSING_INTEGER, part)


def _elapsed(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor:
    x, y = operands
    return (x.is_missing() | y.is_missing()).where(math.nan, (x - y).cast(DOUBLE) / value.a)


def _elapsed_since(value: Value, operands: Sequence[Tensor], _: Graph) -> Tensor:
    (x,) = operands
    return x.is_missing().where(math.nan, (x - value.i).cast(DOUBLE) / value.a)


FORMS: dict[int, Form] = {
    Operation.OP_NUMBER: _number,
    Operation.OP_INTEGER: _integer,
    Operation.OP_TEXT: _text,
    Operation.OP_TO_NUMBER: _to_number,
    Operation.OP_FILL_NUMBER: _filled_number,
    Operation.OP_FILL_INTEGER: _filled_integer,
    Operation.OP_FILL_TEXT: _filled_text,
    Operation.OP_NUMBER_MISSING: _missing,
    Operation.OP_INTEGER_MISSING: _missing,
    Operation.OP_TEXT_MISSING: _missing,
    Operation.OP_SUBTRACT_DIVIDE: _subtracted_divided,
    Operation.OP_MULTIPLY_ADD: _multiplied_added,
    Operation.OP_CLIP: _clipped,
    Operation.OP_LOG1P: _log1p,
    Operation.OP_SINE: _turned("Sin"),
    Operation.OP_COSINE: _turned("Cos"),
    Operation.OP_BUCKETIZE: _bucket,
    Operation.OP_ADD: _of_two("Add"),
    Operation.OP_SUBTRACT: _of_two("Sub"),
    Operation.OP_MULTIPLY: _of_two("Mul"),
    Operation.OP_DIVIDE: _divided,
    Operation.OP_IS_CODE: _is_code,
    Operation.OP_SQUARE_ROOT: _of_one("Sqrt"),
    Operation.OP_ABSOLUTE: _of_one("Abs"),
    Operation.OP_EXPONENTIAL: _of_one("Exp"),
    Operation.OP_LOGARITHM: _of_one("Log"),
    Operation.OP_ABOVE: _above,
    Operation.OP_FIRST_NUMBER: _first,
    Operation.OP_FIRST_INTEGER: _first,
    Operation.OP_FIRST_TEXT: _first,
    Operation.OP_COMPARE_NUMBERS: _compared_numbers,
    Operation.OP_COMPARE_INTEGERS: _compared_numbers,
    Operation.OP_COMPARE_TEXTS: _compared_texts,
    Operation.OP_NORM_L1: _norm(1),
    Operation.OP_NORM_L2: _norm(2),
    Operation.OP_LOOKUP_NUMBER: _looked_up,
    Operation.OP_LOOKUP_INTEGER: _looked_up,
    Operation.OP_LOOKUP_TEXT: _looked_up,
    Operation.OP_CODE_NUMBER: _number_of_code,
    Operation.OP_TIMESTAMP_PART: _part,
    Operation.OP_ELAPSED: _elapsed,
    Operation.OP_ELAPSED_SINCE: _elapsed_since,
}
#: The last digits of these are the C library's here and the runtime's there: so many values of float64 may lie between.
INEXACT_ULPS = {Operation.OP_LOG1P: 4, Operation.OP_EXPONENTIAL: 4, Operation.OP_LOGARITHM: 4}
#: And sines and cosines so far apart: ONNX Runtime's lose digits near their zeros.
INEXACT_BY = {Operation.OP_SINE: 2.0**-50, Operation.OP_COSINE: 2.0**-50}


# Elements of the outputs.


def element_form(emission: Emission, *, integers: bool) -> Callable[[Tensor, Graph], Tensor] | None:
    """How an emission's elements come from its value; None if they have no exact form."""
    if emission.operation in (Operation.EMIT_NUMBER, Operation.EMIT_TEXT):
        return lambda value, _: value
    if emission.operation == Operation.EMIT_INTEGER:
        return _whole if integers else _whole_as_number
    if emission.operation == Operation.EMIT_ONE_HOT:
        places = np.arange(emission.length, dtype=np.int64)[np.newaxis]
        return lambda code, graph: graph.op("Equal", code, graph.array(places), type=BOOL)
    return None


def _whole(value: Tensor, graph: Graph) -> Tensor:
    graph.fail_where(value.is_missing())
    return value


def _whole_as_number(value: Tensor, _: Graph) -> Tensor:
    return value.is_missing().where(math.nan, value.cast(DOUBLE))


#: Those without a form, for the message.
STEP_OF_EMISSION: dict[int, str] = {
    Operation.EMIT_HASHED: "`hash`",
    Operation.EMIT_TERMS: "a vectorizer",
    Operation.EMIT_HOT_CODES: "`multi_hot`",
    Operation.EMIT_SUMMED_CODES: "`hash`",
}
