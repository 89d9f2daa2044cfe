"""``docs/settings.md``, written from the specs: ``python -m gateway.config.settings_page > docs/settings.md``."""

from __future__ import annotations

import re
import typing
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.config.model import ModelSpec
from gateway.config.server import ServerConfig

_DERIVED = {"workers": "usable cores less one", "recorders": "one for four workers"}
_COMPUTED = {"state_dir": "`./gateway-state`"}


def render() -> str:
    """The whole page."""
    parts = [
        "# Settings",
        "Written from the specs by `python -m gateway.config.settings_page`; a test keeps it current.",
        "## One gateway: `gateway serve`",
        "A setting is given as a flag (`--http-port 9000`) or as an environment variable (`GATEWAY_HTTP_PORT=9000`); "
        "the flag wins. `models_dir` is the command's argument.",
        _table(ServerConfig),
        "## One model: `model.yaml`",
        "Stands beside the version folders and is optional, as is everything in it. Unknown keys, and settings that "
        "have no effect, are errors; `gateway check` tells all of them at once. YAML is read by its version 1.2: "
        "`on` and `off` are words; anchors are not taken.",
        _table(ModelSpec),
    ]
    return "\n\n".join(parts) + "\n"


def _table(spec: type[BaseModel]) -> str:
    lines = ["| setting | takes | default | meaning |", "|---|---|---|---|"]
    return "\n".join(lines + _rows(spec, ""))


def _rows(spec: type[BaseModel], prefix: str) -> list[str]:
    rows = []
    for name, field in spec.model_fields.items():
        inner = _spec_inside(field.annotation)
        own_words = inner is None or inner.__name__ == "StickySpec"  # written as one word
        repeated = "[]" if get_origin(field.annotation) is tuple else ""
        if own_words:
            rows.append(f"| `{prefix}{name}` | {_takes(name, field)} | {_default(name, field)} | {_meaning(field)} |")
        elif inner is not None:
            rows += _rows(inner, f"{prefix}{name}{repeated}.")
    return rows


def _spec_inside(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _spec_inside(part))), None)


def _takes(name: str, field: FieldInfo) -> str:
    if name == "sticky":
        return "`header:NAME`, `column:NAME`, `none`"
    return _words(field.annotation)


def _words(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is typing.Annotated:
        return _words(get_args(annotation)[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (Union, UnionType):
        return ", ".join(_words(part) for part in get_args(annotation) if part is not NoneType)
    if origin is dict:
        key, value = get_args(annotation)
        return f"{_words(key)} → {_words(value)}"
    return {"int": "number", "float": "number", "str": "text", "Path": "path"}[annotation.__name__]


def _default(name: str, field: FieldInfo) -> str:
    if name in _COMPUTED:
        return _COMPUTED[name]
    if name in _DERIVED:
        return _DERIVED[name]
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value in (None, {}, ()):
        return "–"
    if isinstance(value, int) and value >= 1 << 10 and value % (1 << 10) == 0:
        return f"`{value >> 20}MiB`" if value % (1 << 20) == 0 else f"`{value >> 10}KiB`"
    return f"`{value}`"


def _meaning(field: FieldInfo) -> str:
    text = re.sub(r"\s+", " ", field.description or "").strip()
    return re.sub(r"``(.*?)``", r"`\1`", text).replace("|", "\\|")


if __name__ == "__main__":
    print(render(), end="")
