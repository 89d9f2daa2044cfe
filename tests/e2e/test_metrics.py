"""`/metrics` as Prometheus reads it, against what was sent."""

import grpc
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.serving import GrpcCalls, json_request, raw_request

ROW = np.ones((1, 4), np.float32)


def samples(gateway) -> dict[str, dict[tuple[str, ...], float]]:
    """Metric name → label values (in the order of the labels' names) → value."""
    status, headers, text = gateway.http("/metrics", port="admin")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            # The parser calls every counter `…_total`, whatever it is called.
            name = family.name if sample.name == f"{family.name}_total" else sample.name
            found.setdefault(name, {})[labels] = sample.value
    return found


class Change:
    """What a block of requests adds to each metric."""

    def __init__(self, gateway) -> None:
        self._gateway = gateway

    def __enter__(self) -> "Change":
        self._before = samples(self._gateway)
        return self

    def __exit__(self, *_: object) -> None:
        self._after = samples(self._gateway)

    def of(self, metric: str, *labels: str) -> float:
        return self._after[metric].get(labels, 0) - self._before.get(metric, {}).get(labels, 0)


def test_counts_are_those_of_the_requests_and_rows_sent(gateway):
    with Change(gateway) as change, GrpcCalls(gateway.port("grpc")) as calls:
        for _ in range(30):
            calls.infer(raw_request("twice", x=ROW))
        for _ in range(5):
            calls.infer(raw_request("twice", x=np.ones((7, 4), np.float32)))
        for _ in range(4):
            assert gateway.http("/v2/models/twice/versions/2/infer", json_request(x=ROW))[0] == 200
        for _ in range(3):
            assert gateway.http("/v2/models/twice/infer", json_request(x=np.ones((1, 5), np.float32)))[0] == 400
        for _ in range(2):
            with pytest.raises(grpc.RpcError):
                calls.infer(raw_request("lookup", i=np.int64([[9999]])))
    assert change.of("nv_inference_request_success", "twice", "1") == 35
    assert change.of("nv_inference_request_success", "twice", "2") == 4
    assert change.of("nv_inference_count", "twice", "1") == 30 + 5 * 7
    assert change.of("nv_inference_exec_count", "twice", "1") == 35  # one after the other: nothing to share
    assert change.of("nv_inference_request_failure", "twice", "OTHER", "1") == 3
    assert change.of("nv_inference_request_failure", "lookup", "BACKEND", "1") == 2
    assert change.of("nv_inference_request_success", "lookup", "1") == 0
    assert change.of("gateway_request_seconds_count", "twice", "1") == 38
    assert change.of("gateway_batch_rows_count", "twice", "1") == 35
    assert change.of("gateway_batch_rows_sum", "twice", "1") == 65
    text = gateway.http("/metrics", port="admin")[2].decode()
    assert '\nnv_inference_request_success{model="twice",version="1"} ' in text  # Triton's very name
    for duration in ("request", "queue", "compute_infer"):
        assert change.of(f"nv_inference_{duration}_duration_us", "twice", "1") > 0
    assert change.of("nv_inference_request_duration_us", "twice", "1") >= change.of(
        "nv_inference_compute_infer_duration_us", "twice", "1"
    )


def test_a_model_that_is_not_there_makes_no_series(gateway):
    with Change(gateway) as change:
        for number in range(20):
            assert gateway.http(f"/v2/models/stranger-{number}/infer", json_request(x=ROW))[0] == 404
    assert change.of("gateway_refusals", "model_not_found") == 20
    assert "stranger" not in gateway.http("/metrics", port="admin")[2].decode()


def test_histogram_buckets_rise_to_their_count(gateway):
    with Change(gateway) as change:
        gateway.http("/v2/models/twice/infer", json_request(x=ROW))
    text = gateway.http("/metrics", port="admin")[2].decode()
    for family in text_string_to_metric_families(text):
        if family.name != "gateway_request_seconds":
            continue
        buckets = [
            sample for sample in family.samples if sample.labels.get("model") == "twice" and "le" in sample.labels
        ]
        first = [sample.value for sample in buckets if sample.labels["version"] == "1"]
        assert first == sorted(first)
        assert any(float(sample.labels["le"]) < 0.001 for sample in buckets), "sub-millisecond buckets"
        assert first[-1] == samples(gateway)["gateway_request_seconds_count"]["twice", "1"]
    assert change.of("gateway_request_seconds_bucket", "+Inf", "twice", "1") == 1
