"""The OTEL_* variables, read as OpenTelemetry describes them."""

import logging

import pytest
from opentelemetry.sdk.trace import TracerProvider

from gateway._fast.otlp_spans import SpanEncoder
from gateway.recording.span_settings import span_settings

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


def settings(**variables):
    return span_settings(ENDPOINT | variables)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        ENDPOINT | {"OTEL_SDK_DISABLED": "True"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_a_receiver_or_when_told_so_nothing_is_exported(environ, caplog):
    assert span_settings(environ) is None
    assert caplog.records == []


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTLP over grpc is not offered"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "collector:4318"}, "collector:4318 is no http"),
    ],
)
def test_what_is_not_offered_is_said_and_nothing_is_exported(variables, said, caplog):
    assert settings(**variables) is None
    assert said in caplog.text


def test_the_common_endpoint_is_a_base_and_the_one_for_traces_is_taken_as_it_is():
    assert settings().endpoint.geturl() == "http://collector:4318/v1/traces"
    base = settings(OTEL_EXPORTER_OTLP_ENDPOINT="https://c/otlp/")
    assert base.endpoint.geturl() == "https://c/otlp/v1/traces"
    special = settings(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://other/path?x=1")
    assert special.endpoint.geturl() == "http://other/path?x=1"


def test_variables_for_traces_win_over_those_for_all_signals():
    read = settings(
        OTEL_EXPORTER_OTLP_TIMEOUT="3",
        OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="4.5",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_EXPORTER_OTLP_TRACES_COMPRESSION="none",
        OTEL_EXPORTER_OTLP_CERTIFICATE="/ca.pem",
    )
    assert (read.timeout_seconds, read.gzip, read.certificate) == (4.5, False, "/ca.pem")


def test_headers_are_percent_decoded_and_bad_ones_left_out_without_telling_their_value(caplog):
    read = settings(OTEL_EXPORTER_OTLP_HEADERS="Api-Key=s%20ecret, x=1=2,,=nameless,bad=s%0Aecret,tenant=")
    assert read.headers == (("api-key", "s ecret"), ("x", "1=2"), ("tenant", ""))
    assert len(caplog.records) == 2
    assert "ecret" not in caplog.text


def test_the_batch_variables_are_the_sdks():
    read = settings(OTEL_BSP_MAX_QUEUE_SIZE="10", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="5", OTEL_BSP_SCHEDULE_DELAY="250")
    assert (read.queue_spans, read.batch_spans, read.delay_seconds) == (10, 5, 0.25)


@pytest.mark.parametrize("value", ["x", "-1", "nan", "inf"])
def test_a_number_that_is_none_gives_the_default_with_a_warning(value, caplog):
    assert settings(OTEL_EXPORTER_OTLP_TIMEOUT=value).timeout_seconds == 10
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("argument", ["", "0.25", "1", "nonsense"])
@pytest.mark.parametrize(
    "name",
    ["", "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off",
     "parentbased_traceidratio", "unheard_of"],
)  # fmt: skip
def test_the_sampler_is_the_one_that_the_sdk_would_make(name, argument, monkeypatch):
    """Both read the same two variables; roots with low, middle and high trace ids must be decided alike."""
    variables = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
    for key, value in variables.items():
        monkeypatch.setenv(key, value) if value else monkeypatch.delenv(key, raising=False)
    sampler = TracerProvider(shutdown_on_exit=False).sampler
    read = settings(**variables)
    assert read.parent_decides == sampler.get_description().startswith("ParentBased")
    for share in (0.0, 0.1, 0.24, 0.26, 0.9, 0.999):
        decision = sampler.should_sample(None, int(share * 2**64), "infer")
        assert (share < read.sampled_ratio) == decision.decision.is_sampled()
    SpanEncoder(read.sampled_ratio, parent_decides=read.parent_decides)
