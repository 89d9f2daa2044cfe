"""``config.pbtxt``: what we read of Triton's model configuration, so that existing repositories load as they are.

Read are the backend (to refuse what is no ONNX model), the file's name and the batch limit; tensors come from the graph
itself. Everything else concerns Triton's own scheduler and is left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gateway.core.errors import ConfigurationError, Problem

_BACKENDS = {"", "onnxruntime"}
_PLATFORMS = {"", "onnxruntime_onnx"}
_TOKEN = re.compile(
    r'\s+|#[^\n]*|"((?:[^"\\\n]|\\.)*)"|\'((?:[^\'\\\n]|\\.)*)\'|([{}\[\]<>:,;])|([^\s{}\[\]<>:,;"\'#]+)'
)


@dataclass(frozen=True, slots=True)
class TritonConfig:
    """The settings that matter here."""

    model_file: str = "model.onnx"
    #: Most rows of a run; 0: the model is not batched.
    max_batch_size: int | None = None


def read_triton_config(path: Path) -> TritonConfig:
    """The ``config.pbtxt`` at ``path``; ConfigurationError for one that is unreadable or no ONNX model's."""
    file = str(path)
    try:
        settings = top_level_scalars(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError([Problem(file, "", f"cannot be read: {error}")]) from error
    problems = []
    backend, platform = settings.get("backend", ""), settings.get("platform", "")
    if backend not in _BACKENDS:
        problems.append(Problem(file, "backend", f"{backend!r} is not served here, only onnxruntime"))
    if platform not in _PLATFORMS:
        problems.append(Problem(file, "platform", f"{platform!r} is not served here, only onnxruntime_onnx"))
    model_file = settings.get("default_model_filename", "") or "model.onnx"
    if "/" in model_file or model_file.startswith("."):
        problems.append(
            Problem(file, "default_model_filename", f"{model_file!r} is not the name of a file in the folder")
        )
    batch = settings.get("max_batch_size")
    if batch is not None and not batch.isdecimal():
        problems.append(Problem(file, "max_batch_size", f"a number from 0 is expected, not {batch!r}"))
    if problems:
        raise ConfigurationError(problems)
    return TritonConfig(model_file, int(batch) if batch is not None else None)


def top_level_scalars(text: str) -> dict[str, str]:
    """``name: value`` outside of any braces of a protobuf text. ValueError where braces or quotes do not match."""
    found: dict[str, str] = {}
    depth, name, expects_value = 0, "", False
    for token, quoted in _tokens(text):
        if not quoted and token in "{[<":
            depth += 1
            expects_value = False
        elif not quoted and token in "}]>":
            depth -= 1
            if depth < 0:
                raise ValueError(f"unexpected {token!r}")
        elif depth > 0 or (not quoted and token in ",;"):
            continue
        elif not quoted and token == ":":
            expects_value = True
        elif expects_value:
            found[name] = token
            expects_value = False
        else:
            name = token
    if depth:
        raise ValueError("a brace is not closed")
    return found


def _tokens(text: str) -> list[tuple[str, bool]]:
    tokens = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: {text[at]!r} is not expected")
        at = match.end()
        double, single, mark, word = match.groups()
        quoted = double if double is not None else single
        if quoted is not None:
            tokens.append((quoted, True))
        elif mark or word:
            tokens.append((mark or word, False))
    return tokens
