"""What deploy/ promises fits what the gateway does."""

import re
from typing import Any

import pytest
import yaml

from gateway.config.server import ServerConfig
from tests.architecture.source_tree import ROOT

DRAIN_SECONDS = ServerConfig.model_fields["drain_seconds"].default


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text(encoding="utf-8"))
    (stateful_set,) = (document for document in documents if document["kind"] == "StatefulSet")
    return stateful_set["spec"]["template"]["spec"]


def test_kubernetes_waits_longer_than_a_drain_takes(pod: dict[str, Any]) -> None:
    pre_stop = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > DRAIN_SECONDS + pre_stop


def test_systemd_waits_longer_than_a_drain_takes() -> None:
    unit = (ROOT / "deploy" / "onnx-gateway.service").read_text(encoding="utf-8")
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert stop is not None
    assert int(stop[1]) > DRAIN_SECONDS


def test_the_image_runs_as_the_user_that_kubernetes_expects(pod: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"USER {pod['securityContext']['runAsUser']}\n" in dockerfile
