"""Random kills for as long as GATEWAY_SOAK_SECONDS says: `make soak`."""

import contextlib
import os
import random
import time

import pytest
from ledger import Ledger, Load, assert_record_is_whole
from tiny_models import write_scaling

SECONDS = float(os.environ.get("GATEWAY_SOAK_SECONDS", "0"))
SEED = int(os.environ.get("GATEWAY_SOAK_SEED", str(random.SystemRandom().randrange(1 << 32))))
VICTIMS = [("worker", 0), ("worker", 1), ("recorder", 0), ("control", 0), ("scorer", 0)]
#: What goes down at once: mostly one process, sometimes several, now and then all of them.
KINDS = ["one"] * 6 + ["some"] * 3 + ["supervisor", "all"]

pytestmark = [
    pytest.mark.skipif(SECONDS == 0, reason="GATEWAY_SOAK_SECONDS is not set"),
    pytest.mark.timeout(4 * SECONDS + 600),
]


def test_whatever_is_killed_however_often_nothing_acknowledged_is_lost_and_nothing_is_twice(gateway):
    print(f"GATEWAY_SOAK_SEED={SEED}")
    chance = random.Random(SEED)
    write_scaling(gateway.models / "m" / "2", 2.0)
    (gateway.models / "m" / "model.yaml").write_text("traffic: {weights: {1: 1}}\nshadows: [{version: 2}]\n")
    ledger = Ledger()
    kills = 0
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        gateway.start("--workers", "2", "--ring-bytes", "4MiB")
        with Load(gateway, ledger, pause=0.002) as load:
            kills += _kill_until_the_tree_is_down(gateway, load, chance, until)
        rows = assert_record_is_whole(gateway, ledger, kills=kills)
        print(f"{kills} kills, {len(rows)} rows, {len(ledger.acknowledged())} acknowledged", flush=True)
    gateway.start("--workers", "1")
    assert gateway.stop() == 0
    assert_record_is_whole(gateway, ledger, kills=kills)
    assert ledger.wrong == []


def _kill_until_the_tree_is_down(gateway, load, chance, until):
    kills = 0
    while True:
        load.wait_for_answers(chance.randrange(1, 200))
        kind = "all" if time.monotonic() > until else chance.choice(KINDS)
        kills += 1
        if kind in ("all", "supervisor"):
            if kind == "supervisor":
                gateway.kill("supervisor")
                gateway.wait_for_all_to_leave()
            gateway.kill_all()
            return kills
        for role, index in chance.sample(VICTIMS, 1 if kind == "one" else 3):
            # Already dead, or not started: then it is somebody else's turn.
            if (pid := gateway.pid_of(role, index)) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
