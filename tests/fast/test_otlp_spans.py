"""Spans written straight from frames, as opentelemetry-proto reads them and as the SDK would sample them."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from gateway._fast.exchange import exchange_for_test
from gateway._fast.otlp_spans import SERVER_ERRORS, SpanEncoder, export_request
from gateway._fast.record_frames import RecordSchema, fill_exchange_for_test
from gateway._fast.record_ring import ONLOOKER, RingReader, RingWriter, create_ring
from gateway.core.errors import InferenceFailed
from gateway.core.tensors import DataType, TensorSpec
from gateway.core.words import GRPC_CODES, ROLES, RULES

SPECS = [TensorSpec("x", DataType.FP32, (-1, 1))]
PREDICTION = uuid.UUID("01932f00-1234-7abc-8def-0123456789ab")


class Recorded:
    """A ring with exchanges of one version, as an exporter sees it."""

    def __init__(self, folder, model="flights", version="2"):
        create_ring(folder / "w0.ring", 1 << 20)
        self.writer = RingWriter(folder / "w0.ring")
        self.handle = self.writer.register_schema(model, version, "d" * 64, SPECS, SPECS)
        self.reader = RingReader(folder / "w0.ring", ONLOOKER)
        self.schemas = {self.handle.schema.id: self.handle.schema}

    def commit(self, status=0, **filled):
        exchange = fill_exchange_for_test(exchange_for_test(), **filled)
        assert self.writer.commit_for_test(exchange, self.handle, status) >= 0

    @property
    def frames(self):
        self.reader.seek(0)
        return self.reader.read(1 << 20)


@pytest.fixture
def recorded(tmp_path):
    return Recorded(tmp_path)


def spans_of(encoded):
    return list(ScopeSpans.FromString(encoded.data).spans)


def attributes_of(span):
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value"))
        for pair in span.attributes
    }  # fmt: skip


def only_span(recorded, encoder=None):
    encoded = (encoder or SpanEncoder()).encode(recorded.frames, recorded.schemas, 100)
    (span,) = spans_of(encoded)
    return span


def test_a_span_tells_what_was_asked_which_version_answered_and_how_long_each_part_took(recorded):
    recorded.commit(
        prediction_id=PREDICTION.bytes, trace_id=bytes(range(16)), span_id=b"spanspan", parent_span_id=b"upstream",
        trace_flags=1, traced=True, request_id="r-7 ü".encode(), caller=b"10.0.0.9", protocol=b"grpc", snapshot=12,
        rule=2, rows=4, batch_rows=32, arrival_unix_ns=1_700_000_000_000_000_000, arrival_ns=1_000, queued_ns=2_000,
        started_ns=5_000, features_ns=700, infer_ns=900,
    )  # fmt: skip
    span = only_span(recorded)
    assert (span.trace_id, span.span_id, span.parent_span_id) == (bytes(range(16)), b"spanspan", b"upstream")
    assert (span.name, span.kind, span.status.code) == ("infer flights", ProtoSpan.SPAN_KIND_SERVER, 0)
    assert span.start_time_unix_nano == 1_700_000_000_000_000_000
    assert span.end_time_unix_nano > span.start_time_unix_nano
    assert span.flags == 0x301
    assert attributes_of(span) == {
        "gateway.model": "flights", "gateway.version": "2", "gateway.digest": "d" * 64,
        "gateway.prediction_id": str(PREDICTION), "gateway.request_id": "r-7 ü", "gateway.caller": "10.0.0.9",
        "gateway.protocol": "grpc", "gateway.snapshot": 12, "gateway.rule": "sticky", "gateway.role": "primary",
        "gateway.rows": 4, "gateway.batch_rows": 32, "gateway.status": "OK",
        "gateway.queue_ns": 3_000, "gateway.features_ns": 700, "gateway.infer_ns": 900,
    }  # fmt: skip


def test_a_span_without_a_caller_is_a_root(recorded):
    recorded.commit(trace_id=b"t" * 16, span_id=b"s" * 8, trace_flags=1)
    span = only_span(recorded)
    assert span.parent_span_id == b""
    assert span.flags == 0x101, "the parent is known not to be remote"


def test_a_shadows_span_is_internal_and_below_the_primarys(recorded):
    recorded.commit(trace_id=b"t" * 16, span_id=b"s" * 8, parent_span_id=b"primary!", role=1, rule=7, trace_flags=1)
    span = only_span(recorded)
    assert (span.kind, span.parent_span_id, span.flags) == (ProtoSpan.SPAN_KIND_INTERNAL, b"primary!", 0x101)
    assert attributes_of(span)["gateway.role"] == "shadow"


@pytest.mark.parametrize("status", range(len(GRPC_CODES)))
def test_a_span_is_an_error_when_the_server_is_to_blame(recorded, status):
    code = GRPC_CODES[status]
    error = InferenceFailed("the modèl failed") if status else None
    recorded.commit(status, error=error)
    span = only_span(recorded)
    attributes = attributes_of(span)
    assert attributes["gateway.status"] == code
    assert attributes.get("error.type") == (code if status else None)
    assert (span.status.code == 2) == (code in SERVER_ERRORS)
    assert span.status.message == ("inference_failed: the modèl failed" if code in SERVER_ERRORS else "")


@given(
    rule=st.integers(0, len(RULES) - 1),
    role=st.integers(0, len(ROLES) - 1),
    rows=st.integers(1, 2**31),
    snapshot=st.integers(0, 2**63 - 1),
    infer_ns=st.integers(0, 2**62),
    request_id=st.binary(max_size=300),
    caller=st.binary(max_size=300),
)
def test_any_exchange_gives_a_span_that_protobuf_reads(tmp_path_factory, request_id, caller, **filled):
    """Whatever a caller sent and however large the numbers: the bytes parse, and numbers come back."""
    recorded = Recorded(tmp_path_factory.mktemp("ring"), model="m" * 190, version="v" * 60)
    recorded.commit(request_id=request_id, caller=caller, **filled)
    attributes = attributes_of(only_span(recorded))
    assert attributes["gateway.rows"] == filled["rows"]
    assert attributes["gateway.snapshot"] == filled["snapshot"]
    assert attributes["gateway.infer_ns"] == filled["infer_ns"]
    if 0 < len(request_id) <= 256 and _is_utf8(request_id):
        assert attributes["gateway.request_id"] == request_id.decode()


def _is_utf8(data):
    try:
        return bool(data.decode())
    except UnicodeDecodeError:
        return False


def test_a_text_that_is_not_utf8_is_left_out_not_the_span(recorded):
    recorded.commit(request_id=b"\xff\xfe", caller=b"ok")
    attributes = attributes_of(only_span(recorded))
    assert "gateway.request_id" not in attributes
    assert attributes["gateway.caller"] == "ok"


@given(st.binary(min_size=16, max_size=16), st.floats(0, 1))
def test_a_trace_is_sampled_exactly_when_the_sdk_samples_it(tmp_path_factory, trace_id, ratio):
    """The decision by trace id equals TraceIdRatioBased's, so all services of a trace decide alike."""
    recorded = Recorded(tmp_path_factory.mktemp("ring"))
    recorded.commit(trace_id=trace_id)
    encoder = SpanEncoder(ratio)
    decision = TraceIdRatioBased(ratio).should_sample(None, int.from_bytes(trace_id), "infer")
    assert encoder.encode(recorded.frames, recorded.schemas, 9).spans == int(decision.decision.is_sampled())
    assert encoder.count_sampled(recorded.frames) == int(decision.decision.is_sampled())


@pytest.mark.parametrize(
    ("parent_decides", "flags", "ratio", "spans"),
    [(True, 1, 0.0, 1), (True, 0, 1.0, 0), (False, 1, 0.0, 0), (False, 0, 1.0, 1)],
)
def test_the_callers_flag_decides_if_it_may(recorded, parent_decides, flags, ratio, spans):
    recorded.commit(traced=True, trace_flags=flags, parent_span_id=b"upstream")
    encoder = SpanEncoder(ratio, parent_decides=parent_decides)
    assert encoder.encode(recorded.frames, recorded.schemas, 9).spans == spans


def test_spans_come_in_portions_that_join_up(recorded):
    for number in range(7):
        recorded.commit(snapshot=number)
    encoder, start, seen = SpanEncoder(), 0, []
    while start < len(recorded.frames):
        assert encoder.count_sampled(recorded.frames, start) == 7 - len(seen)
        portion = encoder.encode(recorded.frames, recorded.schemas, 3, start)
        seen += [attributes_of(span)["gateway.snapshot"] for span in spans_of(portion)]
        start = portion.end
    assert seen == list(range(7))


def test_without_its_schema_an_exchange_gives_no_span_but_is_told(recorded):
    recorded.commit()
    encoded = SpanEncoder().encode(recorded.frames, {}, 9)
    assert (encoded.data, encoded.spans, encoded.unknown, encoded.end) == (b"", 0, 1, len(recorded.frames))


@given(st.binary(max_size=400))
def test_bytes_that_are_no_frames_give_no_spans_and_an_end(data):
    """Whatever bytes are offered, encoding ends at their end and touches nothing else."""
    encoded = SpanEncoder().encode(data, {}, 9)
    assert (encoded.spans, encoded.end) == (0, len(data))
    assert SpanEncoder().count_sampled(data) >= 0


def test_frames_cut_anywhere_give_only_whole_spans(recorded):
    recorded.commit()
    recorded.commit()
    for cut in range(len(recorded.frames)):
        encoded = SpanEncoder().encode(recorded.frames[:cut], recorded.schemas, 9)
        assert len(spans_of(encoded)) == encoded.spans < 2


def test_a_request_carries_resource_scope_and_spans(recorded):
    recorded.commit()
    recorded.commit()
    encoded = SpanEncoder().encode(recorded.frames, recorded.schemas, 9)
    resource = {"service.name": "gätewäy", "n": -1, "big": 2**40, "yes": True, "ratio": 0.25, "list": ["a", 1]}
    request = ExportTraceServiceRequest.FromString(export_request(resource, "gateway", "1.2", [encoded.data] * 2))
    (of_resource,) = request.resource_spans
    (of_scope,) = of_resource.scope_spans
    assert (of_scope.scope.name, of_scope.scope.version, len(of_scope.spans)) == ("gateway", "1.2", 4)
    read = attributes_of(of_resource.resource)
    values = read.pop("list").values
    assert [values[0].string_value, values[1].int_value] == resource.pop("list")
    assert read == resource


def test_a_schema_read_from_its_json_serves_as_well(recorded):
    recorded.commit()
    schema = RecordSchema.from_json(recorded.handle.schema.json)
    assert SpanEncoder().encode(recorded.frames, {schema.id: schema}, 9).spans == 1
