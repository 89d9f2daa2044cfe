"""A builder in which something goes wrong: ``python -m tests.unit.recording.faulty_builder FAULT [its arguments]``.

Faults: ``busy-twice``, ``busy`` (the database), ``crash:TEXT`` and ``crash-after:TEXT`` (SIGSEGV over the segment whose
name has that text, before or after all was done), ``raise:TEXT`` (an exception that nobody expects), ``deaf`` (takes
orders and never answers), ``talkative`` (prints while it builds), ``unready`` (ends before it takes orders).
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from gateway.core.errors import Unavailable
from gateway.process import builder
from gateway.recording import build
from gateway.recording.manifest import Manifest


def main(fault: str, arguments: list[str]) -> int:
    kind, _, text = fault.partition(":")
    match kind:
        case "unready":
            return 3
        case "busy" | "busy-twice":
            _refuse(Manifest, "consume", times=2 if kind == "busy-twice" else None)
        case _:
            consume = build.consume_segment
            build.consume_segment = _FAULTS[kind](consume, text)
    return builder.main(arguments)


def _refuse(owner: Any, name: str, times: int | None) -> None:
    original, calls = getattr(owner, name), itertools.count()

    def refused(*given: Any) -> Any:
        if times is None or next(calls) < times:
            raise Unavailable("database is locked")
        return original(*given)

    setattr(owner, name, refused)


def _crash(consume: Callable[..., Any], text: str) -> Callable[..., Any]:
    def faulty(name: Any, *given: Any) -> Any:
        if text in name.path.name:
            _die()
        return consume(name, *given)

    return faulty


def _crash_after(consume: Callable[..., Any], text: str) -> Callable[..., Any]:
    def faulty(name: Any, *given: Any) -> Any:
        consumed = consume(name, *given)
        if text in name.path.name:
            _die()
        return consumed

    return faulty


def _die() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)


def _raise(consume: Callable[..., Any], text: str) -> Callable[..., Any]:
    def faulty(name: Any, *given: Any) -> Any:
        if text in name.path.name:
            raise KeyError("a bug")
        return consume(name, *given)

    return faulty


def _never_answer(_consume: Callable[..., Any], _text: str) -> Callable[..., Any]:
    def faulty(*_given: Any) -> Any:
        while True:
            time.sleep(60)

    return faulty


def _talk(consume: Callable[..., Any], _text: str) -> Callable[..., Any]:
    def faulty(*given: Any) -> Any:
        print("a library has something to say")
        os.write(1, b"so has its native code\n")
        return consume(*given)

    return faulty


_FAULTS = {"crash": _crash, "crash-after": _crash_after, "raise": _raise, "deaf": _never_answer, "talkative": _talk}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
