"""Programs under construction: values that are computed from others, put in order, and given their registers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from gateway._fast.feature_plan import FeaturePlan
from gateway._fast.feature_program import InstructionCode, Operation, OutputCode
from gateway._fast.text_pattern import TextPattern
from gateway._fast.text_terms import TermVectorizer
from gateway._fast.unicode_text import CharacterMap
from gateway._fast.vocabulary import Vocabulary
from gateway.core.tensors import DataType, TensorSpec

Made = TypeVar("Made")


class Kind(IntEnum):
    """What a value is; those of a column's types (``ColumnType``) have their numbers."""

    FLOAT = 0
    INT = 1
    BOOL = 2
    STRING = 3
    TIMESTAMP = 4
    #: Lists of texts.
    STRINGS = 5
    #: Lists of codes; no column's type.
    CODES = 6

    def __str__(self) -> str:
        return self.name.lower()


#: What an instruction may need besides numbers and texts.
Tool: TypeAlias = CharacterMap | TextPattern | TermVectorizer

#: Slots that a register of the kind takes; one, if it is not here.
SLOTS = {Kind.STRING: 2, Kind.STRINGS: 2, Kind.CODES: 2}


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """One value a row: an operation on others.

    Fields are those of an instruction (``feature_program.pxd``); values that are computed alike are one object.
    """

    operation: int
    kind: Kind
    operands: tuple[Value, ...] = ()
    column: int = 0
    length: int = 0
    a: float = 0.0
    b: float = 0.0
    i: int = 0
    j: int = 0
    constants: tuple[float, ...] = ()
    text: bytes | None = None
    vocabulary: Vocabulary | None = None
    tool: Tool | None = None
    #: The highest index of the columns that it is computed from; -1: no column has a say in it.
    last_column: int = -1
    #: Some of the categories whose lack fails a row, for the error's message.
    expected: tuple[str, ...] = ()
    #: The step that asked for it first; "" for none.
    step: str = ""

    def key(self) -> tuple[object, ...]:
        """Equal for values that are computed alike. Floats by their bits: -0.0 is not 0.0, and NaN is NaN."""
        numbers = struct.pack(f"={2 + len(self.constants)}d", self.a, self.b, *self.constants)
        others = (self.length, self.i, self.j, self.text, id(self.vocabulary), id(self.tool))
        return (self.operation, self.kind, self.column, *map(id, self.operands), numbers, *others)


@dataclass(frozen=True, slots=True)
class Emission:
    """Elements of an output: ``operation`` is one of ``EMIT_…``."""

    operation: int
    value: Value
    output: int
    offset: int
    length: int = 1
    tool: Tool | None = None


#: What puts a value into an output: EMIT_INTEGER, if it is not here.
EMIT_LANE = {Kind.FLOAT: Operation.EMIT_NUMBER, Kind.STRING: Operation.EMIT_TEXT}


@dataclass
class Program:
    """The values of a plan. ``compute`` is the only way to make one."""

    _known: dict[tuple[object, ...], Value] = field(default_factory=dict)
    _folded: list[Value] = field(default_factory=list)  # kept: keys go by identity
    _shared: dict[Hashable, Any] = field(default_factory=dict)
    #: The step that is being compiled.
    step: str = ""

    def load(self, column: int, kind: Kind) -> Value:
        """The rows of a column."""
        return self.compute(Operation.OP_LOAD, kind, column=column, last_column=column)

    def compute(self, operation: int, kind: Kind, *operands: Value, **fields: Any) -> Value:
        """The value, which may be known already. A number that no column has a say in becomes a constant."""
        fields.setdefault("column", operands[0].column if operands else 0)
        fields.setdefault("last_column", max((operand.last_column for operand in operands), default=-1))
        value = Value(operation, kind, operands, step=self.step, **fields)
        key = value.key()
        if key not in self._known:
            self._known[key] = value
            if kind == Kind.FLOAT and operands and value.last_column < 0:
                constant = constant_number(value)
                if constant is not None:
                    self._folded.append(value)
                    self._known[key] = self.compute(Operation.OP_NUMBER, kind, a=constant)
        return self._known[key]

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What several steps share, such as a vocabulary: made for the first that asks."""
        if key not in self._shared:
            self._shared[key] = make()
        made: Made = self._shared[key]
        return made

    def values(self) -> Collection[Value]:
        """All there are, in the order in which they were asked for."""
        return self._known.values()

    def fails_since(self, count: int) -> bool:
        """Whether any of the values behind the first ``count`` is one that no column has a say in and fails its row."""
        made = islice(self._known.values(), count, None)
        return any(value.last_column < 0 and value.operands and constant_fails(value) for value in made)

    def number(self, value: Value) -> Value:
        """The same in float64, which is what steps compute in."""
        return value if value.kind == Kind.FLOAT else self.compute(Operation.OP_TO_NUMBER, Kind.FLOAT, value)


def constant_number(value: Value) -> float | None:
    """What a value that no column has a say in comes to, by the loop itself over one row. None if it fails rows."""
    row = _constant_row(Operation.EMIT_NUMBER, value, DataType.FP64)
    return None if row is None else float(row[0, 0])


def constant_fails(value: Value, *, whole: bool = False) -> bool:
    """Whether such a value of any kind fails its row; with ``whole``, as an integer of an int64 output."""
    if value.kind in _LOOKED_INTO:
        value = Value(_LOOKED_INTO[value.kind], Kind.INT, (value,))
    operation = EMIT_LANE.get(value.kind, Operation.EMIT_INTEGER)
    datatype = DataType.BYTES if value.kind == Kind.STRING else DataType.INT64 if whole else DataType.FP64
    return _constant_row(operation, value, datatype) is None


#: What makes one value of several.
_LOOKED_INTO = {Kind.STRINGS: Operation.OP_TEXT_MISSING, Kind.CODES: Operation.OP_HAS_CODE}


def _constant_row(operation: int, value: Value, datatype: DataType) -> Any:
    spec = OutputCode(TensorSpec("constant", datatype, (-1, 1)), 1)
    program, slots = assembled([], [Emission(operation, value, 0, 0)])
    return FeaturePlan([], [spec], program, slots, []).evaluate()


# The order of instructions, and their registers.


def assembled(loads: Sequence[Value], emissions: Sequence[Emission]) -> tuple[list[InstructionCode], int]:
    """The instructions that give ``emissions``, and how many slots their registers take.

    ``loads`` are all columns in plan order: each is loaded, whether it is used or not, for its rows may fail.
    """
    steps = list(_in_order(loads, emissions))
    registers = _Registers(steps)
    return [registers.place(k, step) for k, step in enumerate(steps)], registers.slots


def _in_order(loads: Sequence[Value], emissions: Sequence[Emission]) -> Iterator[Value | Emission]:
    """Every emission as soon as the last column that it needs is loaded, so that few registers live at once."""
    waiting: dict[int, list[Emission]] = {}
    for emission in emissions:
        waiting.setdefault(emission.value.last_column, []).append(emission)
    done: set[int] = set()
    for column in range(-1, len(loads)):
        if column >= 0:
            yield from _needed(loads[column], done)
        for emission in waiting.get(column, ()):
            yield from _needed(emission.value, done)
            yield emission


def _needed(value: Value, done: set[int]) -> Iterator[Value]:
    """The value and what it is computed from, operands first, without what is done. Not recursive: chains are long."""
    pending = [value]
    while pending:
        missing = [operand for operand in pending[-1].operands if id(operand) not in done]
        if missing:
            pending += reversed(missing)
            continue
        step = pending.pop()
        if id(step) not in done:
            done.add(id(step))
            yield step


class _Registers:
    """Hands out slots; a register's slots are free again behind the last instruction that reads it."""

    def __init__(self, steps: Iterable[Value | Emission]) -> None:
        self.slots = 0
        self._last_use: dict[int, int] = {}
        self._slot_of: dict[int, int] = {}
        self._free: dict[int, list[int]] = {1: [], 2: []}
        for k, step in enumerate(steps):
            if isinstance(step, Value):
                self._last_use.setdefault(id(step), k)
            for operand in _operands(step):
                self._last_use[id(operand)] = k

    def place(self, k: int, step: Value | Emission) -> InstructionCode:
        operands = [self._slot_of[id(operand)] for operand in _operands(step)]
        for operand in dict.fromkeys(_operands(step)):
            if self._last_use[id(operand)] == k:
                # Before the result is placed: it may stand where an operand of its size stood.
                self._free[SLOTS.get(operand.kind, 1)].append(self._slot_of[id(operand)])
        of, by = (*operands, 0, 0)[:2]
        if isinstance(step, Emission):
            return InstructionCode(
                step.operation, step.value.column, of=of, output=step.output, offset=step.offset, length=step.length,
                tool=step.tool,
            )  # fmt: skip
        return InstructionCode(
            step.operation, step.column, self._slot_for(k, step), of, by, length=step.length, a=step.a, b=step.b,
            i=step.i, j=step.j, constants=step.constants, slots=tuple(operands) if len(operands) > 2 else (),
            text=step.text, vocabulary=step.vocabulary, tool=step.tool,
        )  # fmt: skip

    def _slot_for(self, k: int, value: Value) -> int:
        size = SLOTS.get(value.kind, 1)
        if self._free[size]:
            slot = self._free[size].pop()
        else:
            slot, self.slots = self.slots, self.slots + size
        self._slot_of[id(value)] = slot
        if self._last_use[id(value)] == k:
            self._free[size].append(slot)  # a column that nothing reads
        return slot


def _operands(step: Value | Emission) -> tuple[Value, ...]:
    return step.operands if isinstance(step, Value) else (step.value,)
