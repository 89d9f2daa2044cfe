"""The catalogue of steps: name, arguments, types in and out, what becomes of odd values, and how each compiles.

A step that is added needs: its arguments in :mod:`gateway.config.feature_steps`, its entry in the module here of what
it works on, its loop in ``_fast/feature_….pxd`` and its twin in ``tests/reference/features.py``. ``docs/features.md``
and many of the tests follow from the catalogue.
"""

from __future__ import annotations

from pathlib import Path

from gateway.features.program import Kind, Program
from gateway.features.steps import (
    categories,
    combinations,
    curves,
    encodings,
    lists,
    numbers,
    operators,
    places,
    texts,
    times,
)
from gateway.features.steps.entry import Arguments, Elements, Lane, Part, StepEntry, Taken, Unfit

FAMILIES = (numbers, curves, categories, encodings, times, texts, lists, combinations, operators, places)
CATALOGUE: dict[str, StepEntry] = {entry.name: entry for family in FAMILIES for entry in family.ENTRIES}


def compile_step(arguments: Arguments, parts: list[Part], program: Program, folder: Path) -> list[Part]:
    """``parts`` taken through one step. Unfit if the step does not take what they carry, or cannot be so."""
    entry = CATALOGUE[arguments.step]
    lanes = lanes_of(parts, program)
    for lane in lanes:
        if lane.kind not in entry.takes:
            raise Unfit(f"takes {_kinds(entry.takes)}, but is given {lane.kind}{_of(lane, lanes)}")
    program.step = entry.name
    return entry.compile(arguments, Taken(lanes, program, folder))


def lanes_of(parts: list[Part], program: Program) -> tuple[Lane, ...]:
    """Every element that ``parts`` stand for as a value of its own. Unfit if there are too many."""
    lanes: list[Lane] = []
    for part in parts:
        lanes += part.lanes(program) if isinstance(part, Elements) else [part]
    return tuple(lanes)


def _of(lane: Lane, lanes: tuple[Lane, ...]) -> str:
    return f" ({lane.name})" if len(lanes) > 1 else ""


def _kinds(kinds: tuple[Kind, ...]) -> str:
    return " or ".join(str(kind) for kind in kinds)


__all__ = ["CATALOGUE", "Elements", "Lane", "Part", "Unfit", "compile_step", "lanes_of", "named"]
