"""Shadow candidates that crash or hang: neither callers nor other candidates are harmed."""

import json

import pytest
from ledger import Ledger, Load, assert_record_is_whole
from supervised_tree import wait_until
from tiny_models import write_crashing, write_hanging, write_scaling

pytestmark = pytest.mark.timeout(240)
#: Shadows run at low priority: callers leave them some of the machine.
GENTLE = 0.05


@pytest.fixture
def shadowed(gateway):
    """Model m: version 1 answers, 2 and 4 shadow it; 3 is there to be switched to. Version 4 is still to be written."""
    write_scaling(gateway.models / "m" / "2", 2.0)
    write_scaling(gateway.models / "m" / "3", 2.0)
    (gateway.models / "m" / "model.yaml").write_text(
        "traffic: {weights: {1: 1}}\nshadows: [{version: 2}, {version: 4}]\n"
    )
    return gateway


def test_a_candidate_that_crashes_onnx_runtime_is_quarantined_and_nobody_else_notices(shadowed):
    gateway = shadowed
    write_crashing(gateway.models / "m" / "4")
    gateway.start("--workers", "1", "--scorers", "2")
    ledger = Ledger()
    with Load(gateway, ledger, pause=GENTLE) as load:
        wait_until("a crash", lambda: "SIGFPE" in gateway.said(), 60)
        gateway.run_command("traffic", "set", "m", "1=50", "3=50")  # changes go through while it crashes
        wait_until("the quarantine", lambda: "4 keeps crashing its processes" in gateway.said(), 120)
        wait_until("its end as a shadow", lambda: _states(gateway)["4"] == "quarantined", 60)
        load.wait_for_answers(20)
        gateway.wait_for_frames("s0")  # of the other candidate
    assert (ledger.wrong, ledger.failed) == ([], {})
    assert gateway.said().count("SIGFPE") == 3
    rows = assert_record_is_whole(gateway, ledger, kills=0)
    assert {row["version"] for row in rows if row["role"] == "primary"} == {"1", "3"}
    coverage = _coverage(gateway)
    assert coverage["2"] > 0.5
    assert coverage.get("4", 0.0) < coverage["2"]


def test_a_candidate_that_hangs_holds_up_neither_callers_nor_the_other_candidate_nor_changes(shadowed):
    gateway = shadowed
    write_hanging(gateway.models / "m" / "4")
    gateway.start("--workers", "1")  # one scorer runs both
    ledger = Ledger()
    with Load(gateway, ledger, pause=GENTLE) as load:
        gateway.wait_for_frames("s0")
        for _ in range(3):
            load.wait_for_answers(50)
            gateway.wait_for_frames("s0")
        gateway.run_command("traffic", "set", "m", "1=50", "3=50")
        old = gateway.pid_of("scorer")
        gateway.run_command("shadow", "remove", "m", "4")
        load.wait_for_answers(50)
        gateway.wait_for_successor("scorer", old)  # the hanging thread could not be ended otherwise
        gateway.wait_for_frames("s0")
    assert (ledger.wrong, ledger.failed) == ([], {})
    assert_record_is_whole(gateway, ledger, kills=0)
    coverage = _coverage(gateway)
    assert coverage["2"] > 0.5
    assert "4" not in coverage  # not one run came back
    assert gateway.stop() == 0


def _coverage(gateway):
    report = json.loads(gateway.run_command("shadow", "report", "m", "--json"))
    return {row["version"]: row["coverage"] for row in report}


def _states(gateway):
    listed = json.loads(gateway.run_command("models", "show", "m", "--json"))
    return {row["version"]: row["state"] for row in listed}
