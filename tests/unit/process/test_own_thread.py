"""One piece of work beside the loop, on a thread that is gone afterwards."""

import asyncio
import os
import threading

import pytest

from gateway.process.own_thread import in_thread_of_its_own


def test_work_runs_beside_the_loop_at_a_lower_priority_and_gives_its_result():
    def work():
        thread = threading.get_native_id()
        return thread, os.getpriority(os.PRIO_PROCESS, thread)

    thread, niceness = asyncio.run(in_thread_of_its_own(work))
    assert thread != threading.get_native_id()
    assert niceness > os.getpriority(os.PRIO_PROCESS, 0)


def test_what_the_work_raises_is_raised_where_it_is_awaited():
    def work():
        raise LookupError("not there")

    with pytest.raises(LookupError, match="not there"):
        asyncio.run(in_thread_of_its_own(work))


def test_the_thread_ends_with_the_work():
    async def run():
        return await in_thread_of_its_own(threading.current_thread)

    thread = asyncio.run(run())
    thread.join(10)
    assert not thread.is_alive()


def test_nobody_waiting_any_more_is_no_error():
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        assert go_on.wait(10)

    async def run():
        waiting = asyncio.create_task(in_thread_of_its_own(work))
        await asyncio.to_thread(begun.wait, 10)
        waiting.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0)

    asyncio.run(run())


def test_work_that_ends_after_its_loop_is_no_error(monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    threads = []

    def work():
        threads.append(threading.current_thread())
        begun.set()
        assert go_on.wait(10)

    async def run():
        waiting = asyncio.create_task(in_thread_of_its_own(work))
        await asyncio.to_thread(begun.wait, 10)
        waiting.cancel()

    asyncio.run(run())
    go_on.set()
    threads[0].join(10)
    assert not threads[0].is_alive()
    assert told == []
