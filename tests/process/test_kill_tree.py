"""SIGKILL of the supervisor, and of every process at once, under load: the next life has all that was acknowledged."""

import pytest
from ledger import Ledger, Load, assert_record_is_whole

KILLS = 2
pytestmark = pytest.mark.timeout(240)


def test_after_sigkill_of_every_process_at_once_all_that_was_acknowledged_is_in_the_record(gateway):
    ledger = Ledger()
    for _ in range(KILLS):
        gateway.start("--workers", "2")
        with Load(gateway, ledger) as load:
            load.wait_for_answers(100)
            gateway.kill_all()
    assert gateway.tree() == {}
    assert_record_is_whole(gateway, ledger, kills=KILLS)  # as the dead left it
    gateway.start("--workers", "1")  # fewer than before: the rings of all are recovered nevertheless
    assert_record_is_whole(gateway, ledger, kills=KILLS)
    assert gateway.stop() == 0
    assert_record_is_whole(gateway, ledger, kills=KILLS)
    assert ledger.wrong == []


def test_when_the_supervisor_is_killed_the_rest_answers_what_it_has_and_leaves(gateway):
    ledger = Ledger()
    for _ in range(KILLS):
        gateway.start("--workers", "2")
        ports = gateway.runtime()["ports"]
        with Load(gateway, ledger) as load:
            load.wait_for_answers(100)
            gateway.kill("supervisor")
            gateway.wait_for_all_to_leave()
        assert all(gateway.refuses_connections(port) for port in ports.values())
    assert ledger.wrong == []
    assert {kind for kind in ledger.failed if kind.isupper() or kind.isdigit()} <= {"UNAVAILABLE", "503"}
    gateway.start("--workers", "2")
    assert_record_is_whole(gateway, ledger, kills=0)
