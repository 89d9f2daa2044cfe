"""Read YAML, overlay the environment, validate: all problems in one ConfigurationError, with file and path.

The only module that reads environment variables.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from gateway.config.model import ModelSpec
from gateway.config.server import ServerConfig
from gateway.core.errors import ConfigurationError, Problem

S = TypeVar("S", bound=BaseModel)

#: A configuration is written by hand; anything larger is a mistake.
MAX_FILE_BYTES = 4 << 20
ENVIRONMENT_PREFIX = "GATEWAY_"


def load_model_spec(path: Path) -> ModelSpec:
    """The ``model.yaml`` at ``path``; ConfigurationError with all its problems."""
    return validate(ModelSpec, read_yaml(path), str(path))


def load_server_config(flags: Mapping[str, object], environ: Mapping[str, str] = os.environ) -> ServerConfig:
    """Flags of the command line over ``GATEWAY_<SETTING>`` variables over defaults.

    A flag of None was not given. ConfigurationError names the flag or variable that is wrong.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    variables = {
        name: environ[variable]
        for name in ServerConfig.model_fields
        if (variable := ENVIRONMENT_PREFIX + name.upper()) in environ and name not in given
    }
    try:
        config = ServerConfig.model_validate({**variables, **given})
    except ValidationError as error:
        problems = [_settings_problem(problem, variables) for problem in _problems(error, ServerConfig, "")]
        raise ConfigurationError(problems) from None
    if not config.models_dir.is_dir():  # not a rule of the spec: a folder may be away for a while later on
        raise ConfigurationError([Problem("settings", "MODELS_DIR", f"{config.models_dir} is not a folder")])
    return config


def _settings_problem(problem: Problem, variables: Mapping[str, str]) -> Problem:
    # An environment variable is named as it is set, a flag as it is typed.
    name = problem.path.partition(".")[0]
    if name in variables:
        return Problem("environment", ENVIRONMENT_PREFIX + name.upper(), problem.message)
    return Problem("settings", f"--{name.replace('_', '-')}" if name else "", problem.message)


def validate(spec: type[S], data: object, file: str) -> S:
    """``data`` as a frozen ``spec``; ConfigurationError with every problem, each with ``file`` and its path inside."""
    try:
        return spec.model_validate({} if data is None else data)
    except ValidationError as error:
        raise ConfigurationError(_problems(error, spec, file)) from None


def _problems(error: ValidationError, spec: type[BaseModel], file: str) -> list[Problem]:
    return [
        Problem(file, ".".join(str(part) for part in item["loc"] if part != "[key]"), _message(dict(item), spec))
        for item in error.errors(include_url=False)
        if item["type"] != "default_factory_not_called"  # follows from another problem
    ]


def _message(item: dict[str, Any], spec: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        return _unknown_key(item["loc"], spec)
    if item["type"] == "missing":
        return "is required"
    if item["type"] == "model_type":
        return f"a mapping is expected, not {_shown(item['input'])}"
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    message = str(item["msg"])
    return f"{message[0].lower()}{message[1:]}, not {_shown(item['input'])}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unknown_key(loc: tuple[str | int, ...], spec: type[BaseModel]) -> str:
    known = _known_keys(loc[:-1], spec)
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    if close:
        return f"unknown key; did you mean `{close[0]}`?"
    return f"unknown key; known are {', '.join(known)}"


def _known_keys(loc: tuple[str | int, ...], spec: type[BaseModel]) -> list[str]:
    """Keys of the spec that ``loc`` leads to: field names and, in between, list positions and mapping keys."""
    found = spec
    for part in loc:
        if part in found.model_fields:
            found = _spec_inside(found.model_fields[str(part)].annotation) or found
    return list(found.model_fields)


def _spec_inside(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, tuple, list, dict):
        return next((found for argument in get_args(annotation) if (found := _spec_inside(argument))), None)
    return None


# YAML as people expect it.


def read_yaml(path: Path) -> object:
    """The file's content. ConfigurationError for one that is missing, too large, or not YAML.

    Differs from YAML 1.1 where that surprises: ``on`` and ``off`` are words, ``007`` is one too, dates stay text, a key
    that stands twice is an error, and so are anchors (a few lines of them expand without end).
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from error
    if len(text) > MAX_FILE_BYTES:
        raise ConfigurationError([Problem(str(path), "", f"larger than {MAX_FILE_BYTES >> 20} MiB")])
    return parse_yaml(text, str(path))


def parse_yaml(text: bytes | str, file: str) -> object:
    """The content of YAML ``text``; ``file`` is what problems are reported under."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise ConfigurationError([Problem(file, _place(error.problem_mark), error.problem or "not YAML")]) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigurationError([Problem(file, "", f"not YAML: {error}")]) from error


def _place(mark: yaml.Mark | None) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema, unique keys and no anchors."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - declared so by yaml

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases are not taken: write the value out", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.MarkedYAMLError(problem="a key must be plain text", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)), 0)


# A number with leading zeros is neither int nor float: it stays the text that it is.
_NOT_ZERO_PADDED = r"(?![-+]?0[0-9]+$)"
_SCALARS = (  # tag, first characters ("" = empty scalar), form
    ("bool", "tTfF", r"true|True|TRUE|false|False|FALSE"),
    ("null", ["~", "n", "N", ""], r"~|null|Null|NULL|"),
    ("int", "-+0123456789", r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+"),
    ("float", "-+.0123456789", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"),
    ("float", "-+.", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"),
)
for _tag, _first, _form in _SCALARS:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^{_NOT_ZERO_PADDED}(?:{_form})$"), [*_first]
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
