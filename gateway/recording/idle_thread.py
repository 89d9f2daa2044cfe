"""Work that has the CPU only while nobody else wants it, and never keeps anybody waiting for it.

An idle thread may be stopped for seconds at any instruction. Whatever it holds then, others wait for: so it must hold
nothing that they want. It takes no lock of the database and runs while the thread that asked for it does nothing, and
it is gone, the GIL with it, before that thread goes on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

Made = TypeVar("Made")


class Runner(Protocol):
    """Runs work to its end, somewhere, and hands on its result or what it raised."""

    def __call__(self, work: Callable[[], Made], /) -> Made: ...


def directly(work: Callable[[], Made], /) -> Made:
    """Here and now."""
    return work()


def in_idle_thread(work: Callable[[], Made], /) -> Made:
    """In a thread of its own under SCHED_IDLE; threads that the work starts inherit that. Raises OSError if refused."""
    outcome: Future[Made] = Future()

    def body() -> None:
        try:
            # 0 means this thread, not the process. Without privilege there is no way back: so it ends with its work.
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            outcome.set_result(work())
        except BaseException as problem:  # noqa: BLE001 - handed to whoever asked for the work
            outcome.set_exception(problem)

    thread = threading.Thread(target=body, name="idle")
    thread.start()
    thread.join()
    return outcome.result()
