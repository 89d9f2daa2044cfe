"""SIGTERM and SIGINT under load: what is in flight is answered, everything is recorded, nothing is left behind."""

import contextlib
import os
import signal
import threading

import pytest
from ledger import Ledger, Load, assert_record_is_whole
from supervised_tree import wait_until
from tiny_models import write_counting

#: About a second and a half of counting.
A_WHILE = 1_000_000.0
pytestmark = pytest.mark.timeout(240)


def to_the_supervisor(gateway):
    os.kill(gateway.pid, signal.SIGTERM)


def to_the_group(gateway):
    os.killpg(gateway.pid, signal.SIGINT)


def to_every_process(gateway):
    for pid in gateway.tree():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("send", [to_the_supervisor, to_the_group, to_every_process])
def test_a_stop_answers_what_is_in_flight_flushes_the_record_and_leaves_nothing_behind(gateway, send):
    write_counting(gateway.models / "counting" / "1")
    gateway.start("--workers", "2")
    runtime = gateway.runtime()
    replies = []
    long_call = threading.Thread(target=lambda: replies.append(gateway.infer("counting", A_WHILE)))
    ledger = Ledger()
    with Load(gateway, ledger) as load:
        load.wait_for_answers(50)
        long_call.start()
        wait_until("the long run", lambda: gateway.is_running("counting"), 60)
        send(gateway)
        # Not ready any more, while the long call is still under way.
        wait_until("new connections are refused", lambda: gateway.refuses_connections(runtime["ports"]["http"]), 60)
        assert replies == []
        code = gateway.wait_for_exit()
        long_call.join(60)
    assert code == 0
    status, headers, outputs = replies[0]
    assert (status, headers["connection"], outputs) == (200, "close", [2 * A_WHILE] * 4)
    assert headers["x-record-state"] == "committed"
    assert ledger.wrong == []
    assert {kind for kind in ledger.failed if kind.isupper() or kind.isdigit()} <= {"UNAVAILABLE", "503"}
    assert gateway.tree() == {}
    assert not os.path.exists(runtime["shm"])
    assert gateway.runtime() == {}
    ledger.told[headers["x-prediction-id"]] = "committed"
    gateway.start("--workers", "1")  # reads everything again
    assert_record_is_whole(gateway, ledger, kills=0)


def test_a_recorder_that_hangs_at_the_stop_is_killed_and_the_record_brought_to_disk_without_it(gateway):
    gateway.start("--workers", "1", "--drain-seconds", "3")
    shm = gateway.runtime()["shm"]
    ledger = Ledger()
    with Load(gateway, ledger) as load:
        load.wait_for_answers(20)
        gateway.kill("recorder", number=signal.SIGSTOP)
        load.wait_for_answers(20)
        assert gateway.stop() == 0
    assert "recorder 0 did not end in time and was killed" in gateway.said()
    assert not os.path.exists(shm)
    assert_record_is_whole(gateway, ledger, kills=0)
