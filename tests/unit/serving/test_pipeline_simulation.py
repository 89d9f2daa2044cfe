"""Whatever the order of events, every request is answered once, with its own rows' answer, after its record.

Ten thousand seeds of a worker without sockets, threads or a clock (see ``simulated_worker``): lanes complete in any
order, callers cancel in every state, deadlines pass, snapshots change, the record fills up and is drained.
"""

from __future__ import annotations

import gc
import os

import numpy as np
import pytest

from gateway._fast.exchange import live_exchanges_for_test
from gateway._fast.record_frames import scan_frames
from gateway._fast.record_ring import RingReader, RingWriter, create_ring
from gateway.core.errors import GatewayError
from gateway.serving._generated import inference_pb2
from tests.unit.serving.simulated_worker import POISON, Sent, SimulatedWorker

SEEDS = int(os.environ.get("SIMULATED_SEEDS", "10000"))
PARTS = 10
EVENTS = 40
SEEDS_BETWEEN_DRAINS = 500  # enough requests to fill the smallest ring
COMMITTED, RELEASED = 4, 5


@pytest.fixture
def ring_path(tmp_path):
    path = tmp_path / "w0.ring"
    create_ring(path, 1 << 16)
    return path


@pytest.mark.parametrize("part", range(PARTS))
def test_every_request_has_one_outcome_whatever_the_order(part, ring_path):
    gc.collect()  # what other tests left behind is not counted
    before = live_exchanges_for_test()
    reader, writer = RingReader(ring_path, 0), RingWriter(ring_path)
    committed = unlogged = 0
    for seed in range(part, SEEDS, PARTS):
        worker = SimulatedWorker(seed, writer)
        sent = worker.run(EVENTS)
        try:
            check(worker, sent)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        committed += sum(each.exchange.ring_seq >= 0 for each in sent)
        unlogged += sum(each.exchange.ring_seq < 0 and each.model != "unknown" for each in sent)
        if seed % SEEDS_BETWEEN_DRAINS < PARTS:
            committed -= frames_drained(reader)
            assert committed == 0, "a frame for each committed request, and no other"
    del worker, sent
    gc.collect()
    assert live_exchanges_for_test() == before
    assert unlogged, "the record never filled up: these seeds do not test that"


def check(worker: SimulatedWorker, sent: list[Sent]) -> None:
    assert worker.pipeline.in_flight == 0
    assert sorted(map(id, worker.port.sent)) == sorted(id(each.exchange) for each in sent), "one reply each"
    assert set(worker.port.states_at_send) <= {COMMITTED}, "the record comes before the reply"
    for each in sent:
        assert each.states == sorted(each.states), f"moved back: {each.states}"
        assert int(each.exchange.state) == RELEASED
        check_answer(each)


def check_answer(each: Sent) -> None:
    exchange = each.exchange
    if exchange.error is not None:
        assert isinstance(exchange.error, GatewayError)
        return
    assert each.model != "unknown"
    assert each.rows[:, 0].min() != POISON, "a poisoned request was answered"
    reply = inference_pb2.ModelInferResponse.FromString(exchange.reply_bytes[5:])
    got = np.frombuffer(reply.raw_output_contents[0], "<f4")
    expected = each.rows.sum(axis=1, dtype=np.float32) * np.float32(int(reply.model_version))
    assert np.array_equal(got, expected), f"{got} is not the answer to {each.rows}"


def frames_drained(reader: RingReader) -> int:
    """Exchange frames since the last call; the recorder's cursor moves past them."""
    count = 0
    while chunk := reader.read(1 << 20):
        scan = scan_frames(chunk, reader.epoch, reader.position)
        count += scan.exchanges
        reader.advance(reader.position + len(chunk))
    return count
