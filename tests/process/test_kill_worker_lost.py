"""A worker that dies while a model runs: the requests it had in hand stand in the record as lost, once."""

import threading

import pytest
from supervised_tree import wait_until
from tiny_models import write_counting

#: Turns of the loop: far longer than the test takes.
FOR_MINUTES = 200_000_000.0
pytestmark = pytest.mark.timeout(240)


def test_requests_in_native_code_when_their_worker_is_killed_become_rows_with_status_unavailable_once(gateway):
    write_counting(gateway.models / "counting" / "1")
    gateway.start("--workers", "1")
    for _ in range(2):
        caller = threading.Thread(target=_call_and_be_cut, args=(gateway,))
        caller.start()
        wait_until("the run", lambda: gateway.is_running("counting"), 60)
        old = gateway.kill("worker")
        caller.join(60)
        gateway.wait_for_successor("worker", old)
        gateway.wait_until_worker_serves(0)
    assert gateway.infer("counting", 3.0)[2] == [6.0] * 4  # short runs are answered as ever
    gateway.kill("worker")
    assert gateway.infer("counting", 4.0)[2] == [8.0] * 4  # by the successor, who has nothing to tell
    lost = gateway.query("SELECT prediction_id FROM predictions WHERE model = 'counting' AND status = 'UNAVAILABLE'")
    assert len({row["prediction_id"] for row in lost}) == len(lost) == 2
    told = gateway.run_command("log", "show", lost[0]["prediction_id"])
    assert "worker_lost: the worker died while it ran model 'counting' version 1" in told


def _call_and_be_cut(gateway):
    with pytest.raises((ConnectionError, OSError)):
        gateway.infer("counting", FOR_MINUTES)
