"""PREPARE and COMMIT seen from control, peer by peer."""

import asyncio
from types import SimpleNamespace

import pytest

from gateway.control.publisher import Answer, Preparation, Publisher
from gateway.core.snapshot_files import SnapshotFiles

OK = {"m": {"1": {"ok": True}}}


class Peer:
    """Remembers what it was sent, and whether it was hung up on."""

    def __init__(self):
        self.sent, self.closed = [], False

    def send(self, message):
        self.sent.append(dict(message))

    def close(self):
        self.closed = True


def hello(publisher, role="worker", index=0, running=0):
    peer = Peer()
    publisher.on_message(peer, {"hello": role, "index": index, "pid": 1, "running": running})
    return peer


def run(state_dir, scenario):
    async def whole():
        await scenario(Publisher(SimpleNamespace(epoch=0), SnapshotFiles(state_dir)))

    asyncio.run(asyncio.wait_for(whole(), 20))


async def prepared(publisher, number, *peers, answer=OK):
    """Prepare a snapshot that all of these peers have no trouble with."""
    preparing = asyncio.ensure_future(publisher.prepare({"number": number}))
    for peer in peers:
        while {"prepare": number, "path": f"snapshots/{number:06d}.candidate.json"} not in peer.sent:
            await asyncio.sleep(0)
        publisher.on_message(peer, {"prepared": number, "versions": answer})
    return await preparing


def test_answers_of_all_workers_end_the_preparation(state_dir):
    async def scenario(publisher):
        one, two = hello(publisher), hello(publisher, index=1)
        preparation = await prepared(publisher, 1, one, two)
        assert [answer.name for answer in preparation.answers] == ["worker 0", "worker 1"]
        assert (preparation.troubles(), preparation.failures()) == ([], {})

    run(state_dir, scenario)


def test_without_any_worker_there_is_nothing_to_wait_for(state_dir):
    async def scenario(publisher):
        assert (await publisher.prepare({"number": 1})).answers == ()
        assert await publisher.commit(1) == []
        assert publisher.committed == 1

    run(state_dir, scenario)


def test_workers_that_must_come_are_waited_for_and_missed(state_dir):
    async def scenario(publisher):
        preparation = await publisher.prepare({"number": 1}, least_workers=2, seconds=0.01)
        assert preparation.troubles() == ["2 of 2 workers did not answer in time"]
        only = hello(publisher)
        waiting = asyncio.ensure_future(publisher.prepare({"number": 2}, least_workers=2, seconds=0.05))
        while not only.sent:
            await asyncio.sleep(0)
        publisher.on_message(only, {"prepared": 2, "versions": OK})
        assert (await waiting).troubles() == ["1 of 2 workers did not answer in time"]

    run(state_dir, scenario)


def test_a_silent_worker_is_named(state_dir):
    async def scenario(publisher):
        hello(publisher, index=3)
        preparation = await publisher.prepare({"number": 1}, seconds=0.01)
        assert preparation.troubles() == ["worker 3 did not answer in time"]

    run(state_dir, scenario)


def test_a_worker_that_answers_and_then_dies_must_answer_again(state_dir):
    async def scenario(publisher):
        one, two = hello(publisher), hello(publisher, index=1)
        preparing = asyncio.ensure_future(publisher.prepare({"number": 1}))
        while not one.sent:
            await asyncio.sleep(0)
        publisher.on_message(one, {"prepared": 1, "versions": OK})
        publisher.on_lost(one)
        again = hello(publisher)
        assert again.sent == [{"prepare": 1, "path": "snapshots/000001.candidate.json"}]
        publisher.on_message(two, {"prepared": 1, "versions": OK})
        publisher.on_message(again, {"prepared": 1, "versions": OK})
        assert (await preparing).troubles() == []

    run(state_dir, scenario)


def test_a_worker_that_cannot_read_the_snapshot_is_trouble(state_dir):
    async def scenario(publisher):
        peer = hello(publisher)
        preparing = asyncio.ensure_future(publisher.prepare({"number": 1}))
        while not peer.sent:
            await asyncio.sleep(0)
        publisher.on_message(peer, {"prepared": 1, "error": "no such file"})
        assert (await preparing).troubles() == ["worker 0: no such file"]

    run(state_dir, scenario)


def test_a_successor_takes_the_place_of_a_connection_not_yet_noticed_dead(state_dir):
    async def scenario(publisher):
        old = hello(publisher)
        hello(publisher)
        assert old.closed
        assert [member.name for member in publisher.members()] == ["worker 0"]
        publisher.on_lost(old)
        assert len(publisher.members()) == 1

    run(state_dir, scenario)


def test_scorers_run_what_is_committed_when_they_are_ready(state_dir):
    async def scenario(publisher):
        reports = []
        publisher.on_reports = reports.append
        early, late = hello(publisher, "scorer"), hello(publisher, "scorer", 1)
        await publisher.prepare({"number": 1})
        publisher.on_message(early, {"prepared": 1, "versions": OK})
        assert await publisher.commit(1) == []
        assert early.sent[-1] == {"commit": 1}
        assert {"commit": 1} not in late.sent
        publisher.on_message(late, {"prepared": 1, "versions": {"m": {"1": {"ok": False}}}})
        assert late.sent[-1] == {"commit": 1}
        assert [report.name for report in reports] == ["scorer 0", "scorer 1"]

    run(state_dir, scenario)


def test_an_answer_to_a_preparation_that_is_over_changes_nothing(state_dir):
    async def scenario(publisher):
        peer, scorer = hello(publisher), hello(publisher, "scorer")
        await publisher.prepare({"number": 1}, seconds=0.01)
        publisher.on_message(scorer, {"prepared": 1, "versions": OK})
        await prepared(publisher, 2, peer)
        publisher.on_message(peer, {"prepared": 1, "versions": {}})
        await publisher.commit(2, seconds=0)
        assert {"commit": 1} not in peer.sent + scorer.sent
        assert {"commit": 2} not in scorer.sent, "it has not prepared number 2"

    run(state_dir, scenario)


@pytest.mark.parametrize(
    "message",
    [{}, {"hello": "worker"}, {"hello": 5, "index": 0, "pid": 1, "running": 0}, {"prepared": 1}, {"running": 1},
     {"hello": "worker", "index": "0", "pid": 1, "running": 0}],
    ids=str,
)  # fmt: skip
def test_whoever_says_what_nobody_could_mean_is_hung_up_on(state_dir, message):
    async def scenario(publisher):
        peer = Peer()
        publisher.on_message(peer, message)
        assert peer.closed
        assert publisher.members() == []

    run(state_dir, scenario)


def test_failures_name_each_version_that_failed_anywhere():
    preparation = Preparation(
        1,
        (
            Answer("worker", "worker 0", {"m": {"1": {"ok": True}, "2": {"ok": False, "reason": "no"}}}),
            Answer("worker", "worker 1", {"m": {"1": {"ok": False}, "2": {"ok": True}}}),
        ),
    )
    assert preparation.failures() == {("m", "2"): "no", ("m", "1"): "no reason given"}
