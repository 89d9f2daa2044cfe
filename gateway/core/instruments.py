"""Every metric there is: name, kind, unit, labels, meaning. ``docs/metrics.md`` is generated from this list.

Names that begin with ``nv_`` are Triton's, to the letter (so their counters carry no ``_total``): dashboards,
autoscalers and load tools made for Triton find what they look for. Ours begin with ``gateway_``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from gateway.core import errors

Kind = Literal["counter", "gauge", "histogram"]

#: Upper bounds of the latency histograms' buckets, ns; a last bucket takes what is longer.
LATENCY_BUCKETS_NS: Final = (
    50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 100_000_000,
    500_000_000, 1_000_000_000, 10_000_000_000,
)  # fmt: skip
#: Upper bounds of the batch-size histogram's buckets, rows; a last bucket takes larger runs.
BATCH_BUCKETS_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128)

_NEVER_END_A_REQUEST = {"configuration", "load_failed", "record_corrupt"}
#: Codes of `core.errors` under which requests are counted that reached no known model: a stranger's requests are
#: no record's matter, and what the stranger typed is no label's. Position = index in the counter pages.
REFUSAL_REASONS: Final = tuple(
    dict.fromkeys(
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.GatewayError) and kind.code not in _NEVER_END_A_REQUEST
    )
)

#: What became of a sampled span. Position = index in the counter pages.
SPAN_OUTCOMES: Final = ("sent", "dropped", "failed", "rejected")

#: gRPC status number → Triton's word for why a request failed; every other failure is OTHER.
FAILURE_REASONS: Final = {1: "CANCELED", 4: "REJECTED", 8: "REJECTED", 14: "REJECTED", 13: "BACKEND"}
FAILURE_WORDS: Final = ("BACKEND", "CANCELED", "OTHER", "REJECTED")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One family of metrics."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


_VERSION = ("model", "version")

# Of each model version. Together these make at most 40 series a version.
REQUEST_SUCCESS = Instrument(
    "nv_inference_request_success", "counter", "requests", _VERSION, "Requests answered with a prediction"
)
REQUEST_FAILURE = Instrument(
    "nv_inference_request_failure", "counter", "requests", (*_VERSION, "reason"), "Requests answered with an error"
)
INFERENCE_COUNT = Instrument(
    "nv_inference_count", "counter", "rows", _VERSION, "Rows predicted; a request of n rows counts n"
)
EXECUTION_COUNT = Instrument(
    "nv_inference_exec_count", "counter", "runs", _VERSION, "Runs of the model; one run serves a whole batch"
)
REQUEST_DURATION = Instrument(
    "nv_inference_request_duration_us",
    "counter",
    "microseconds",
    _VERSION,
    "Time of answered requests from their first byte to their record, summed",
)
QUEUE_DURATION = Instrument(
    "nv_inference_queue_duration_us",
    "counter",
    "microseconds",
    _VERSION,
    "Time that answered requests waited for their batch, summed",
)
COMPUTE_INPUT_DURATION = Instrument(
    "nv_inference_compute_input_duration_us",
    "counter",
    "microseconds",
    _VERSION,
    "Time that answered requests spent in the feature plan of their batch, summed",
)
COMPUTE_INFER_DURATION = Instrument(
    "nv_inference_compute_infer_duration_us",
    "counter",
    "microseconds",
    _VERSION,
    "Time that answered requests spent in the run of their batch, summed",
)
REQUEST_SECONDS = Instrument(
    "gateway_request_seconds",
    "histogram",
    "seconds",
    _VERSION,
    "Time of every request, failed ones too, from its first byte to its record",
    tuple(bound / 1e9 for bound in LATENCY_BUCKETS_NS),
)
BATCH_ROWS = Instrument("gateway_batch_rows", "histogram", "rows", _VERSION, "Rows of each run", BATCH_BUCKETS_ROWS)
RUN_SECONDS = Instrument(
    "gateway_run_seconds_total", "counter", "seconds", _VERSION, "Time spent in the model's runs; a batch counts once"
)
UNLOGGED = Instrument(
    "gateway_unlogged_requests_total",
    "counter",
    "requests",
    _VERSION,
    "Requests answered without a record because there was no room for it",
)

# Of the gateway.
REFUSALS = Instrument(
    "gateway_refusals_total",
    "counter",
    "requests",
    ("reason",),
    "Requests that reached no known model, by error code; they are not recorded",
)
CONNECTIONS_OPEN = Instrument("gateway_connections", "gauge", "connections", ("worker",), "Open client connections")
CONNECTIONS_ACCEPTED = Instrument(
    "gateway_connections_accepted_total", "counter", "connections", ("worker",), "Client connections handed to a worker"
)
IN_FLIGHT = Instrument(
    "gateway_requests_in_flight", "gauge", "requests", ("worker",), "Requests received and not yet answered"
)
WORKER_STARTS = Instrument(
    "gateway_worker_starts_total",
    "counter",
    "starts",
    ("worker",),
    "Starts of the worker; every one but the first is a restart",
)
SNAPSHOT = Instrument("gateway_snapshot", "gauge", "number", (), "Number of the committed snapshot")
WORKER_SNAPSHOT = Instrument(
    "gateway_worker_snapshot", "gauge", "number", ("worker",), "Number of the snapshot that the worker runs"
)
DRAINING = Instrument("gateway_draining", "gauge", "0 or 1", (), "1 once the gateway is stopping")
RING_UNREAD = Instrument(
    "gateway_ring_unread_bytes", "gauge", "bytes", ("ring",), "Record committed but not yet copied to disk"
)
RING_CAPACITY = Instrument("gateway_ring_capacity_bytes", "gauge", "bytes", ("ring",), "Room for the record in memory")
RECORDER_LAG = Instrument(
    "gateway_recorder_lag_seconds", "gauge", "seconds", ("ring",), "Age of the oldest record not yet copied to disk"
)

SPANS = Instrument(
    "gateway_spans_total",
    "counter",
    "spans",
    ("outcome",),
    "Sampled spans: sent to the receiver, dropped because it was too slow, failed to arrive, or rejected by it",
)

INSTRUMENTS: Final = (
    REQUEST_SUCCESS, REQUEST_FAILURE, INFERENCE_COUNT, EXECUTION_COUNT, REQUEST_DURATION, QUEUE_DURATION,
    COMPUTE_INPUT_DURATION, COMPUTE_INFER_DURATION, REQUEST_SECONDS, BATCH_ROWS, RUN_SECONDS, UNLOGGED,
    REFUSALS, CONNECTIONS_OPEN, CONNECTIONS_ACCEPTED, IN_FLIGHT, WORKER_STARTS, SNAPSHOT, WORKER_SNAPSHOT, DRAINING,
    RING_UNREAD, RING_CAPACITY, RECORDER_LAG, SPANS,
)  # fmt: skip
