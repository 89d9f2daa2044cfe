"""Flights as requests, and requests in parallel."""

import asyncio
import math
import struct

import pandas as pd
import pytest
from data import COLUMNS, LIVE_MONTHS
from play import Answer, RequestFailed, answer, choose_flights, in_parallel, infer_request, record

FLIGHT = {
    "carrier": "UA", "origin": "EWR", "dest": "SFO", "sched_dep": "2013-07-04T18:05:00", "distance": 2565.0,
    "temp": 80.1, "humid": 60.0, "wind_speed": 10.0, "precip": 0.0, "pressure": math.nan, "visib": 10.0,
    "month": 7, "late": True,
}  # fmt: skip
HEADERS = {"x-prediction-id": "p", "x-model-version": "2", "x-record-state": "committed"}


def test_a_request_has_one_tensor_a_column_in_the_protocols_bytes():
    request = infer_request(FLIGHT)
    assert [tensor.name for tensor in request.inputs] == COLUMNS
    sent = dict(zip(COLUMNS, request.raw_input_contents, strict=True))
    assert sent["carrier"] == b"\x02\x00\x00\x00UA"
    assert sent["distance"] == struct.pack("<d", 2565.0)
    assert math.isnan(struct.unpack("<d", sent["pressure"])[0])


def test_a_row_of_json_has_null_where_a_value_is_missing_and_never_the_label():
    row = record(FLIGHT)
    assert list(row) == COLUMNS
    assert row["pressure"] is None
    assert row["distance"] == 2565.0


def test_every_later_month_gives_the_same_number_of_flights_in_order():
    rows = pd.DataFrame({"month": [month for month in range(1, 13) for _ in range(10)]})
    chosen = [flight["month"] for flight in choose_flights(rows, 18)]
    assert chosen == [month for month in LIVE_MONTHS for _ in range(3)]


def test_every_flight_is_sent_once_and_no_more_than_allowed_are_in_flight():
    flying = most = 0
    arrived = []

    async def ask(flight):
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0)
        flying -= 1
        return Answer(flight["id"], "1", "committed", 7, False)

    flights = [{"id": str(number)} for number in range(100)]
    asyncio.run(in_parallel(iter(flights), 8, ask, arrived.append))
    assert sorted(int(answer.prediction_id) for answer in arrived) == list(range(100))
    assert most == 8


def test_the_first_failure_ends_the_run_with_its_own_words():
    async def ask(flight):
        raise RequestFailed("gRPC: UNAVAILABLE")

    with pytest.raises(RequestFailed, match="UNAVAILABLE"):
        asyncio.run(in_parallel(iter([{}, {}, {}]), 2, ask, lambda answer: None))


def test_an_answer_keeps_what_the_reply_said_and_what_became_of_the_flight():
    assert answer(FLIGHT, HEADERS) == Answer("p", "2", "committed", 7, True)


@pytest.mark.parametrize("absent", HEADERS)
def test_a_reply_without_its_headers_is_a_failure(absent):
    with pytest.raises(RequestFailed, match=absent):
        answer(FLIGHT, {name: value for name, value in HEADERS.items() if name != absent})
