"""A version that crashes its workers is held back from the third crash on, whether control can say so or not."""

import http.client
import json
import signal

import pytest
from supervised_tree import wait_until
from tiny_models import write_crashing

pytestmark = pytest.mark.timeout(240)
#: What version 2 cannot bear.
FATAL = 7.0


def ask(gateway, first, version=None):
    """Status and body of a row whose elements all are ``first``."""
    path = f"/v2/models/m/versions/{version}/infer" if version else "/v2/models/m/infer"
    data = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [first] * 4}
    status, _, body = gateway.http(path, {"inputs": [data]})
    return status, json.loads(body)


def crash(gateway):
    """The worker dies of version 2, and its successor serves."""
    old = gateway.pid_of("worker")
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(gateway, FATAL, version=2)
    gateway.wait_for_successor("worker", old)
    gateway.wait_until_worker_serves(0)


def state_of_version_2(gateway):
    listed = json.loads(gateway.run_command("models", "show", "m", "--json"))
    return next(row["state"] for row in listed if row["version"] == "2")


def test_no_worker_starts_with_a_version_that_crashed_three_before_control_has_heard_of_it(gateway):
    write_crashing(gateway.models / "m" / "2", int(FATAL))
    (gateway.models / "m" / "model.yaml").write_text("traffic: {weights: {1: 1, 2: 1}}\n")
    gateway.start("--workers", "1")
    gateway.kill("control", number=signal.SIGSTOP)
    for _ in range(3):
        crash(gateway)
    status, told = ask(gateway, FATAL, version=2)
    assert (status, "quarantined since" in told["error"]) == (503, True)
    assert {ask(gateway, 1.0)[1]["model_version"] for _ in range(10)} == {"1"}  # its share of the traffic
    gateway.kill("control", number=signal.SIGCONT)
    wait_until("control has heard of it", lambda: state_of_version_2(gateway) == "quarantined", 60)
    gateway.run_command("models", "load", "m@2")
    assert ask(gateway, 1.0, version=2)[0] == 200
    assert {ask(gateway, 1.0)[1]["model_version"] for _ in range(10)} == {"1", "2"}
    assert gateway.said().count("SIGFPE") == 3
