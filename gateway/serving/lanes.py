"""Lanes: where jobs run. A lane takes a job and, later, reports it completed; nothing above knows where it ran.

A job has ``run()``. After ``submit`` returned the lane owns the job until it reports it.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger("gateway.lanes")

#: Threads yield to the loop: on a busy core the scheduler wakes the loop first. Nice value of the thread.
THREAD_NICE = 5


class Job(Protocol):
    """Work for a lane."""

    def run(self) -> None:
        """Do it; on a lane thread, mostly without the GIL."""


class InlineLane:
    """Runs a job at once, on the caller's thread."""

    def run(self, job: Job) -> None:
        """Do it now."""
        job.run()


class Completions:
    """Finished jobs on their way from lane threads to the loop: a deque and an eventfd that the loop watches."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._finished: deque[Job] = deque()

    def add(self, job: Job) -> None:
        """Called on a lane thread."""
        self._finished.append(job)
        os.eventfd_write(self.descriptor, 1)

    def take(self) -> list[Job]:
        """All finished jobs; called on the loop thread."""
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            return []
        # The counter is read before the deque: a job added in between is taken now, and its wake-up finds nothing.
        return [self._finished.popleft() for _ in range(len(self._finished))]

    def close(self) -> None:
        """Release the descriptor; no lane may be running."""
        os.close(self.descriptor)


class ThreadLane:
    """One thread that runs jobs in order. It runs no other Python code than the job."""

    def __init__(self, name: str, completions: Completions) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._completions = completions
        self._thread = threading.Thread(target=self._work, name=f"lane {name}", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Hand a job over; it comes back through the completions."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Finish what was submitted, then end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + THREAD_NICE)
        while (job := self._jobs.get()) is not None:
            try:
                job.run()
            except Exception:
                log.exception("a job failed on its lane")  # a bug of ours: jobs keep their errors to themselves
            finally:
                self._completions.add(job)  # come what may: its requests wait for an answer


LaneOpener = Callable[[object], ThreadLane]
