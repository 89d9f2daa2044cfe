import pytest

from loadtests.drivers.external import ExternalOutcome, parse_h2load, parse_wrk

H2LOAD = """\
finished in 4.00s, 86624.25 req/s, 10.00MB/s
requests: 346500 total, 346500 started, 346497 done, 346496 succeeded, 1 failed, 2 errored, 3 timeout
status codes: 346496 2xx, 0 3xx, 0 4xx, 1 5xx
"""
WRK = """\
Running 1s test

result {"requests": 1000, "microseconds": 500000, "refused": 10, "broken": 2, "p50_us": 5, "p99_us": 9}
"""


def test_h2load_counts_are_read():
    assert parse_h2load(H2LOAD) == ExternalOutcome(86624.25, 346496, 6)


def test_wrk_replies_that_are_not_2xx_are_failures():
    assert parse_wrk(WRK) == ExternalOutcome(1980.0, 990, 12)


@pytest.mark.parametrize("parse", [parse_h2load, parse_wrk])
def test_a_tool_that_printed_nothing_is_an_error_that_shows_what_it_did_print(parse):
    with pytest.raises(ValueError, match="could not connect"):
        parse("could not connect")
