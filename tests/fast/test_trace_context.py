"""traceparent (W3C Trace Context §3.2): a valid one is taken, any other starts a new trace."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway._fast.trace_context import traceparent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_valid_header_gives_trace_span_and_sampling():
    assert traceparent_of(f"00-{TRACE}-{SPAN}-01".encode()) == (bytes.fromhex(TRACE), bytes.fromhex(SPAN), 1)
    assert traceparent_of(f"00-{TRACE}-{SPAN}-00".encode())[2] == 0


def test_flags_that_mean_nothing_yet_are_not_passed_on():
    assert traceparent_of(f"00-{TRACE}-{SPAN}-ff".encode())[2] == 1


@pytest.mark.parametrize("tail", ["", "-what-comes-later"])
def test_a_later_version_is_read_as_far_as_it_is_known(tail):
    assert traceparent_of(f"cc-{TRACE}-{SPAN}-01{tail}".encode()) is not None


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0",
        f"00-{TRACE}-{SPAN}-0g",
        f"0-{TRACE}-{SPAN}-01x",
        f"00_{TRACE}-{SPAN}-01",
        f"00-{TRACE}_{SPAN}-01",
        f"00-{TRACE}-{SPAN}_01",
        f" 00-{TRACE}-{SPAN}-01",
    ],
)
def test_an_invalid_header_is_ignored(value):
    assert traceparent_of(value.encode()) is None


@given(st.binary(max_size=80))
def test_any_bytes_are_taken_or_ignored(value):
    traceparent_of(value)
