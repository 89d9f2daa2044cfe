"""SIGKILL of one process while clients keep calling: what was acknowledged stays, and the others do not notice."""

import pytest
from ledger import Ledger, Load, assert_record_is_whole
from tiny_models import write_scaling

KILLS = 3
pytestmark = pytest.mark.timeout(240)


def test_a_killed_worker_loses_only_what_it_had_in_hand_and_its_sibling_keeps_answering(gateway):
    gateway.start("--workers", "2")
    ledger = Ledger()
    with Load(gateway, ledger) as load:
        for kill in range(KILLS):
            load.wait_for_answers(50)
            old = gateway.kill("worker", kill % 2)
            load.wait_for_answers(20, "while a worker is away")
            gateway.wait_for_successor("worker", old, kill % 2)
            gateway.wait_until_worker_serves(kill % 2)
        load.wait_for_answers(50)
    assert ledger.wrong == []
    assert set(ledger.failed) <= {"UNAVAILABLE", "RemoteDisconnected", "ConnectionResetError", "IncompleteRead"}
    assert_record_is_whole(gateway, ledger, kills=KILLS)


def test_a_killed_recorder_is_not_noticed_by_clients_and_nothing_is_missing_or_twice(gateway):
    gateway.start("--workers", "1")
    ledger = Ledger()
    with Load(gateway, ledger) as load:
        for _ in range(KILLS):
            load.wait_for_answers(50)
            old = gateway.kill("recorder")
            load.wait_for_answers(20)
            gateway.wait_for_successor("recorder", old)
        load.wait_for_answers(50)
    assert (ledger.wrong, ledger.failed) == ([], {})
    assert_record_is_whole(gateway, ledger, kills=0)


def test_a_killed_control_is_not_noticed_by_clients_and_comes_back_able_to_change_things(gateway):
    write_scaling(gateway.models / "m" / "2", 2.0)
    gateway.start("--workers", "1")
    ledger = Ledger()
    with Load(gateway, ledger) as load:
        for kill in range(KILLS):
            old = gateway.kill("control")
            load.wait_for_answers(20, "without control")
            gateway.wait_for_successor("control", old)
            share = 10 * (kill + 1)
            gateway.run_command("traffic", "set", "m", f"1={100 - share}", f"2={share}")
            load.wait_for_answers(20)
    assert (ledger.wrong, ledger.failed) == ([], {})
    rows = assert_record_is_whole(gateway, ledger, kills=0)
    assert {row["version"] for row in rows} == {"1", "2"}


def test_a_killed_scorer_is_not_noticed_by_clients_and_no_shadow_row_is_twice(gateway):
    write_scaling(gateway.models / "m" / "2", 3.0)
    (gateway.models / "m" / "model.yaml").write_text("traffic: {weights: {1: 1}}\nshadows: [{version: 2}]\n")
    gateway.start("--workers", "1")
    ledger = Ledger()
    with Load(gateway, ledger, pause=0.05) as load:
        for _ in range(KILLS):
            gateway.wait_for_frames("s0")
            gateway.kill("scorer")
            load.wait_for_answers(20)
        gateway.wait_for_frames("s0")
    assert (ledger.wrong, ledger.failed) == ([], {})
    rows = assert_record_is_whole(gateway, ledger, kills=0)
    assert {row["role"] for row in rows} == {"primary", "shadow"}
