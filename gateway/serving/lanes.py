"""Lanes: where jobs run. A lane takes a job and, later, reports it completed; nothing above knows where it ran.

A job has ``run()``. After ``submit`` returned the lane owns the job until it reports it.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections import deque
from typing import Protocol

from gateway._fast.thread_turns import take_long_turns

log = logging.getLogger("gateway.lanes")

#: How much nicer lane threads are than the loop.
THREAD_NICE = 10


class Job(Protocol):
    """Work for a lane."""

    def run(self) -> None:
        """Do it; on a lane thread, mostly without the GIL."""


Jobs = queue.SimpleQueue[Job | None]


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
    """One thread that runs jobs in order. It runs no other Python code than the job, and ends when its lane is dropped:
    a version takes its lane along.
    """

    def __init__(self, name: str, completions: Completions) -> None:
        self._jobs: Jobs = queue.SimpleQueue()
        # The thread knows the queue and not the lane, which could else never be dropped.
        self._thread = threading.Thread(
            target=_run_jobs, args=(self._jobs, completions), name=f"lane {name}", daemon=True
        )
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Hand a job over; it comes back through the completions."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Finish what was submitted, then end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def __del__(self) -> None:
        self._jobs.put(None)


def yield_to_loop() -> None:
    """Lower the calling thread's priority: on a busy core the scheduler wakes the loop first, and at once."""
    take_long_turns(THREAD_NICE)


def _run_jobs(jobs: Jobs, completions: Completions) -> None:
    yield_to_loop()
    while (job := jobs.get()) is not None:
        try:
            job.run()
        except Exception:
            log.exception("a job failed on its lane")  # a bug of ours: jobs keep their errors to themselves
        finally:
            completions.add(job)  # come what may: its requests wait for an answer
        del job  # a waiting thread must not keep the last batch, and with it the version
