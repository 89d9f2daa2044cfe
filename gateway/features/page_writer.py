"""A ``FeatureSpec`` as the page that people review: short forms, no defaults, one line a step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from gateway.config.features import ColumnSpec, FeatureEntry, FeatureSpec
from gateway.config.features_schema import schema_comment

_LINE_WIDTH = 120
#: Texts that every YAML reader takes for texts; all others are quoted.
_PLAIN_TEXT = re.compile(r"(?!(?i:true|false|yes|no|on|off|null|y|n)$)[A-Za-z_][A-Za-z0-9_]*")


class _Inline(dict[str, Any]):
    """A mapping on one line."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the same constants twice are written twice
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if _PLAIN_TEXT.fullmatch(text) else '"')


def _represent_inline(dumper: yaml.SafeDumper, mapping: _Inline) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", mapping, flow_style=True)


def _represent_sequence(dumper: yaml.SafeDumper, items: tuple[object, ...]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(_Inline, _represent_inline)
_Dumper.add_representer(tuple, _represent_sequence)


def write_page(spec: FeatureSpec, path: Path) -> None:
    """Write ``spec`` to ``path``; reading it again gives an equal spec."""
    path.write_text(schema_comment(path) + page_text(spec), encoding="utf-8")


@dataclass(frozen=True)
class Comments:
    """What is said in a page beside its own words: above all, behind a column, above a feature (output, index)."""

    head: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[tuple[str, int], str] = field(default_factory=dict)


def commented_text(spec: FeatureSpec, comments: Comments) -> str:
    """The page as text, with comments."""
    lines = [*map(_comment, comments.head), f"format: {spec.format}", "columns:"]
    for name, column in spec.columns.items():
        entry = _indented({name: _column(column)}, 2)
        lines += (
            entry if name not in comments.columns else [*entry[:-1], f"{entry[-1]}  {_comment(comments.columns[name])}"]
        )
    lines.append("outputs:")
    for name, output in spec.outputs.items():
        lines += [*_indented({name: {"dtype": output.dtype}}, 2), "    features:"]
        for i, feature in enumerate(output.features):
            if (name, i) in comments.features:
                lines.append(f"    {_comment(comments.features[name, i])}")
            lines += _indented([_feature(feature)], 4)
    return "\n".join(lines) + "\n"


def _comment(words: str) -> str:
    # On one line, of characters that a page may have.
    return "# " + "".join(c if c.isprintable() else "\ufffd" for c in " ".join(words.split()))


def _indented(part: object, spaces: int) -> list[str]:
    return [" " * spaces + line for line in _dumped(part).splitlines()]


def _dumped(part: object) -> str:
    return yaml.dump(part, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_LINE_WIDTH)


def page_text(spec: FeatureSpec) -> str:
    """The page as text."""
    document = {
        "format": spec.format,
        "columns": {name: _column(column) for name, column in spec.columns.items()},
        "outputs": {
            name: {"dtype": output.dtype, "features": [_feature(feature) for feature in output.features]}
            for name, output in spec.outputs.items()
        },
    }
    return _dumped(document)


def _column(column: ColumnSpec) -> object:
    given = _given(column)
    return column.type if list(given) == ["type"] else _Inline(given)


def _feature(feature: FeatureEntry) -> object:
    written: dict[str, object] = {}
    if feature.column is not None:
        written["column"] = feature.column
    elif feature.columns is not None:
        written["columns"] = feature.columns
    elif feature.features is not None:
        written["features"] = [_feature(inner) for inner in feature.features]
    else:
        written["constant"] = feature.constant
    if feature.prefix:
        written["prefix"] = feature.prefix
    if feature.steps:
        written["steps"] = [_step(step) for step in feature.steps]
    return feature.column if list(written) == ["column"] else written


def _step(step: Any) -> object:
    given = _given(step)
    given.pop("step", None)
    return {step.step: _Inline(given)} if given else step.step


def _given(model: BaseModel) -> dict[str, Any]:
    # Python values, so that tuples stay tuples; nested specs (a vocabulary) become mappings on their line.
    given = model.model_dump(exclude_defaults=True)
    return {key: _Inline(value) if isinstance(value, dict) else value for key, value in given.items()}
