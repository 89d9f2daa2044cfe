"""What a step is: an entry of the catalogue that takes lanes and gives lanes, or elements of the output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from gateway._fast.feature_program import Operation
from gateway.features.program import Kind, Program, Tool, Value

#: A step's record has the fields of its class in the grammar, which is what the functions of the steps say they take.
Arguments: TypeAlias = Any
Argument = TypeVar("Argument")

#: An outcome that the step's input cannot ask for.
NOTHING = "cannot come"
NUMBERS = (Kind.FLOAT, Kind.INT, Kind.BOOL)
WHOLE = (Kind.INT, Kind.BOOL)
#: Elements that another step may follow: each becomes a value of its own.
MAX_LANES = 4_096


class Unfit(Exception):
    """A step that does not fit its place in the plan; the message goes into a Problem."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One value a row on its way to the output, and what its element will be called."""

    value: Value
    name: str

    @property
    def kind(self) -> Kind:
        return self.value.kind

    def then(self, value: Value) -> Lane:
        """The same lane, taken further."""
        return replace(self, value=value)


@dataclass(frozen=True, slots=True)
class Elements:
    """Several elements of the output that one value stands for; only those that it hits are ever touched."""

    value: Value
    operation: Operation
    width: int
    #: Of the elements; made when somebody asks.
    names: Callable[[], list[str]]
    #: None but whole numbers, so that an int64 output takes them.
    whole: bool = True
    #: What the operation needs to find the elements of a value.
    tool: Tool | None = None

    def lanes(self, program: Program) -> list[Lane]:
        """Each element as a value of its own. Unfit if that cannot be."""
        test = {Operation.EMIT_ONE_HOT: Operation.OP_IS_CODE, Operation.EMIT_HOT_CODES: Operation.OP_HAS_CODE}
        if self.operation not in test:
            raise Unfit("nothing can follow a step that spreads its elements by hash or by terms")
        if self.width > MAX_LANES:
            raise Unfit(f"{self.width} elements come before it; at most {MAX_LANES} can be taken further")
        return [
            Lane(program.compute(test[self.operation], Kind.BOOL, self.value, i=place), name)
            for place, name in enumerate(self.names())
        ]


Part: TypeAlias = Lane | Elements


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step is given: lanes, the program to compute in, and the folder of its files."""

    lanes: tuple[Lane, ...]
    program: Program
    folder: Path

    def one(self) -> Lane:
        """The only lane. Unfit if there are several."""
        if len(self.lanes) != 1:
            raise Unfit(f"takes one value, but is given {len(self.lanes)}: {named(self.lanes)}")
        return self.lanes[0]

    def number(self, lane: Lane) -> Value:
        """The lane in float64."""
        return self.program.number(lane.value)

    def each_number(self, operation: Operation, kind: Kind = Kind.FLOAT, **fields: Sequence[Any] | Any) -> list[Part]:
        """Every lane as a number through an operation. A field that is a list has one for each lane."""
        parts: list[Part] = []
        for i, lane in enumerate(self.lanes):
            own = {name: value[i] if isinstance(value, list) else value for name, value in fields.items()}
            parts.append(lane.then(self.program.compute(operation, kind, self.number(lane), **own)))
        return parts

    def for_each(self, name: str, argument: Argument | tuple[Argument, ...]) -> list[Argument]:
        """An argument that is one for all or a list with one for each lane. Unfit if the list is of another length."""
        if not isinstance(argument, tuple):
            return [argument] * len(self.lanes)
        if len(argument) != len(self.lanes):
            raise Unfit(f"`{name}` lists {len(argument)}, but {len(self.lanes)} values are given: {named(self.lanes)}")
        return list(argument)


def named(lanes: Sequence[Lane]) -> str:
    """Their names, the first few."""
    return ", ".join(lane.name for lane in lanes[:5]) + (", …" if len(lanes) > 5 else "")


@dataclass(frozen=True)
class Outcomes:
    """What becomes of odd values; each is a test."""

    missing: str
    infinite: str
    unseen: str = NOTHING
    #: Beyond the range that the step is for.
    beyond: str = NOTHING


@dataclass(frozen=True)
class StepEntry:
    """One step of the catalogue.

    ``compile(arguments, taken)`` gives the parts that come out, or raises :class:`Unfit`. ``example_columns`` are those
    that the example is for: what ``takes`` names first, if none are given.
    """

    name: str
    takes: tuple[Kind, ...]
    gives: str
    formula: str
    outcomes: Outcomes
    example: str
    compile: Callable[[Arguments, Taken], list[Part]]
    twin: str | None = None
    #: What to go on with after Unfit; None: as before the step.
    fallback: Kind | None = field(default=None)
    example_columns: tuple[str, ...] = ()
