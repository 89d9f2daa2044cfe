"""What `gateway features explain` shows of a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.config.features import FeatureEntry, FeatureSpec
from gateway.features.compiler import names_of, parts_of, width_of

#: Names of a feature that are listed; of more, the first and the last are.
LISTED_NAMES = 4


def explained(spec: FeatureSpec, folder: Path) -> list[dict[str, object]]:
    """A row for each feature of a sound ``spec``, in the order of the elements; under a group, what is in it."""
    rows: list[dict[str, object]] = []
    for name, output in spec.outputs.items():
        first = 0
        for feature, parts in zip(output.features, parts_of(spec, name, folder), strict=True):
            width = width_of(parts)
            row = _explained_feature(spec, feature)
            row |= {"output": name, "elements": _range_text(first, width), "names": _names_text(names_of(parts))}
            rows += [row, *_explained_inside(spec, feature, 1)]
            first += width
    return rows


def _explained_feature(spec: FeatureSpec, feature: FeatureEntry) -> dict[str, object]:
    columns = list(dict.fromkeys(feature.column_names()))
    return {
        "output": "",
        "elements": "",
        "names": "",
        "column": ", ".join(columns) or f"constant {feature.constant!r}",
        "type": ", ".join(dict.fromkeys(spec.columns[column].type for column in columns)),
        "steps": _steps_text(feature),
    }


def _explained_inside(spec: FeatureSpec, feature: FeatureEntry, depth: int) -> Iterator[dict[str, object]]:
    # What a group is made of: no elements of the output, but values that the group's steps take.
    for inner in feature.features or ():
        row = _explained_feature(spec, inner)
        yield {**row, "column": f"{'  ' * depth}└ {row['column']}"}
        yield from _explained_inside(spec, inner, depth + 1)


def _range_text(first: int, width: int) -> str:
    return str(first) if width == 1 else f"{first}-{first + width - 1}" if width else "none"


def _names_text(names: list[str]) -> str:
    if len(names) <= LISTED_NAMES:
        return ", ".join(names)
    return f"{names[0]}, {names[1]}, … {names[-1]} ({len(names)})"


def _steps_text(feature: FeatureEntry) -> str:
    return " -> ".join(_step_text(step.model_dump(exclude_defaults=True), step.step) for step in feature.steps)


def _step_text(arguments: dict[str, Any], name: str) -> str:
    shown = ", ".join(f"{key}={_argument_text(value)}" for key, value in arguments.items() if key != "step")
    return f"{name}({shown})" if shown else name


def _argument_text(value: object) -> str:
    if isinstance(value, tuple) and len(value) > 4:
        return f"[{', '.join(map(str, value[:3]))}, … {len(value)} in all]"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, dict):  # a vocabulary's file, or things by their names
        return str(value["file"]) if "sha256" in value else _argument_text(tuple(value))
    return f"{value}"
