from __future__ import annotations

import os
import select
import threading
import weakref

from gateway.serving.lanes import Completions, ThreadLane


class Noted:
    """A job that notes the thread it ran on."""

    def __init__(self) -> None:
        self.thread: int | None = None

    def run(self) -> None:
        self.thread = threading.get_native_id()


def completed(completions: Completions, count: int) -> list[Noted]:
    jobs: list[Noted] = []
    while len(jobs) < count:
        assert select.select([completions.descriptor], [], [], 10)[0], "no completion in 10 s"
        jobs += completions.take()  # type: ignore[arg-type]
    return jobs


def test_jobs_run_in_order_on_one_thread_beside_the_loop():
    completions = Completions()
    lane = ThreadLane("test", completions)
    jobs = [Noted() for _ in range(100)]
    for job in jobs:
        lane.submit(job)
    assert completed(completions, 100) == jobs
    assert len({job.thread for job in jobs}) == 1
    assert jobs[0].thread != threading.get_native_id()
    lane.stop()
    completions.close()


def test_a_lane_thread_is_nicer_than_the_loop():
    niceness = []

    class Look:
        def run(self) -> None:
            niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    completions = Completions()
    lane = ThreadLane("test", completions)
    lane.submit(Look())
    completed(completions, 1)
    lane.stop()
    completions.close()
    assert niceness[0] > os.getpriority(os.PRIO_PROCESS, 0)


def test_taking_with_nothing_finished_gives_nothing():
    completions = Completions()
    assert completions.take() == []
    completions.close()


def test_a_lane_that_is_dropped_ends_its_thread():
    completions = Completions()
    lane = ThreadLane("test", completions)
    thread = lane._thread
    lane.submit(Noted())
    del lane
    thread.join(10)
    assert not thread.is_alive()
    assert len(completed(completions, 1)) == 1, "after what was submitted"
    completions.close()


def test_a_waiting_lane_keeps_nothing_of_the_last_job():
    completions = Completions()
    lane = ThreadLane("test", completions)
    job = Noted()
    gone = weakref.ref(job)
    lane.submit(job)
    completed(completions, 1)
    del job
    lane.submit(Noted())
    completed(completions, 1)  # the thread has been round once more
    assert gone() is None
    lane.stop()
    completions.close()


def test_a_job_that_raises_is_reported_and_the_lane_goes_on(caplog):
    class Broken:
        def run(self) -> None:
            raise ValueError("a bug")

    completions = Completions()
    lane = ThreadLane("test", completions)
    jobs = [Broken(), Noted()]
    for job in jobs:
        lane.submit(job)
    assert completed(completions, 2) == jobs
    assert "a job failed on its lane" in caplog.text
    lane.stop()
    completions.close()
