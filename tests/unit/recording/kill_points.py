"""Runs work in a forked child that dies by SIGKILL at its n-th step."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any


def killed_at(point: int, work: Callable[[], None], steps: Sequence[tuple[Any, str]]) -> bool:
    """Run ``work`` in a child that is killed at its ``point``-th point; False if it ended before it came so far.

    Each call of one of ``steps`` (owner, name of a function) has two points: before it begins and after it is done.
    """
    child = os.fork()
    if child == 0:
        try:
            _arm(point, steps)
            work()
            os._exit(0)
        finally:
            os._exit(99)  # by an exception: the parent's tests must not go on in the child
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), f"the child failed by itself ({code})"
    return code != 0


def _arm(point: int, steps: Sequence[tuple[Any, str]]) -> None:
    points = itertools.count(1)

    def pass_point() -> None:
        if next(points) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def armed(original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            pass_point()
            result = original(*args, **options)
            pass_point()
            return result

        return step

    for owner, name in steps:
        setattr(owner, name, armed(getattr(owner, name)))
