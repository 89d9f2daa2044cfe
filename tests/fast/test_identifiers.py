"""Ids: valid, unique, and prediction ids never go backwards, whatever the wall clock does."""

import uuid

import pytest

from gateway._fast.identifiers import IdGenerator

NOON = 1_795_400_000_000_000_000
MILLISECOND = 1_000_000


def test_a_million_ids_ascend_within_one_moment():
    ids = IdGenerator()
    previous = ""
    for _ in range(1_000_000):
        following = ids.prediction_id(NOON)
        assert following > previous
        previous = following


def test_ids_ascend_though_the_clock_goes_back():
    ids = IdGenerator()
    times = [NOON, NOON + 5 * MILLISECOND, NOON - 3_600_000 * MILLISECOND, NOON, 0, NOON + 6 * MILLISECOND]
    given = [ids.prediction_id(unix_ns) for unix_ns in times for _ in range(3000)]
    assert given == sorted(set(given))


def test_an_id_is_a_uuid_of_version_7_that_tells_its_millisecond():
    ids = IdGenerator()
    for step in range(1000):
        text = ids.prediction_id(NOON + step * MILLISECOND)
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert parsed.version == 7
        assert parsed.variant == uuid.RFC_4122
        assert parsed.int >> 80 == NOON // MILLISECOND + step


def test_past_4096_ids_a_millisecond_the_next_one_is_borrowed():
    ids = IdGenerator()
    moments = [uuid.UUID(ids.prediction_id(NOON)).int >> 80 for _ in range(10_000)]
    assert moments[0] == NOON // MILLISECOND
    assert 2 <= moments[-1] - moments[0] <= 3
    assert uuid.UUID(ids.prediction_id(NOON + 100 * MILLISECOND)).int >> 80 == NOON // MILLISECOND + 100


def test_generators_of_different_processes_do_not_meet():
    given = {IdGenerator().prediction_id(NOON) for _ in range(1000)}
    assert len(given) == 1000


def test_a_seed_decides_everything():
    assert IdGenerator(b"s" * 16).prediction_id(NOON) == IdGenerator(b"s" * 16).prediction_id(NOON)
    assert IdGenerator(bytes(16)).prediction_id(NOON) != IdGenerator(b"s" * 16).prediction_id(NOON)
    with pytest.raises(ValueError, match="16 bytes, got 3"):
        IdGenerator(b"abc")


def test_trace_and_span_ids_are_never_all_zero_and_do_not_repeat():
    ids = IdGenerator(bytes(16))
    given = [ids.trace_ids_for_test() for _ in range(10_000)]
    traces, spans = {trace for trace, _ in given}, {span for _, span in given}
    assert len(traces) == len(spans) == 10_000
    assert bytes(16) not in traces
    assert bytes(8) not in spans
