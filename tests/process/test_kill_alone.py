"""One gateway a state directory; a worker needs nobody to come back."""

import os
import signal

import pytest
from running_gateway import RunningGateway
from tiny_models import write_scaling

pytestmark = pytest.mark.timeout(240)


def test_a_second_gateway_on_the_same_state_directory_is_refused_and_harms_nothing(gateway):
    gateway.start("--workers", "1")
    second = RunningGateway(gateway.state_dir.parent)
    second.said_path = gateway.state_dir.parent / "second"
    second.start(wait=False)
    assert second.wait_for_exit() == 1
    assert f"another gateway (pid {gateway.pid}) uses state directory" in second.said()
    assert gateway.infer("m", 2.0)[2] == [4.0] * 4
    assert gateway.stop() == 0


def test_a_worker_restarted_while_control_is_away_runs_the_newest_committed_snapshot(gateway):
    write_scaling(gateway.models / "m" / "2", 20.0)
    gateway.start("--workers", "1")
    gateway.run_command("traffic", "set", "m", "1=100")
    gateway.run_command("traffic", "set", "m", "2=100")
    gateway.run_command("traffic", "set", "m", "1=100")
    control = gateway.kill("control", number=signal.SIGSTOP)  # there, and silent: killed, it would come back
    old = gateway.kill("worker")
    gateway.wait_for_successor("worker", old)
    gateway.wait_until_worker_serves(0)
    status, headers, outputs = gateway.infer("m", 3.0)
    assert (status, headers["x-model-version"], outputs) == (200, "1", [6.0] * 4)
    os.kill(control, signal.SIGCONT)
    gateway.run_command("traffic", "set", "m", "2=100")
    assert gateway.infer("m", 3.0)[2] == [60.0] * 4
