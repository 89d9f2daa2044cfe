"""How a connection ends: by its client, by a drain, by a lost socket; and what becomes of the calls in flight."""

import gc
import resource

import pytest
from hyperframe.frame import DataFrame, GoAwayFrame

from gateway._fast.exchange import live_exchanges_for_test
from gateway.core.errors import Overloaded
from tests.fast.h2_peer import H2_CANCEL, NO_ERROR, OK, SECOND, Peer, prefixed, request_headers

LAST_STREAM = 2**31 - 1


@pytest.fixture(autouse=True)
def no_exchange_stays():
    before = live_exchanges_for_test()
    yield
    assert live_exchanges_for_test() == before


# Cancelled.


def opened(peer):
    peer.open()


def begun(peer):
    peer.data(peer.open(), prefixed(b"message")[:8], end=False)


def whole(peer):
    peer.call(b"message")


def answered_early(peer):
    peer.open(("grpc-timeout", "soon"))


def refused_over_http(peer):
    peer.data(peer.open(content_type="text/html"), b"x" * 1000, end=False)


def refused_by_size(peer):
    peer.data(peer.open(), prefixed(b"", length=1 << 31), end=False)


@pytest.mark.parametrize("reach", [opened, begun, whole, answered_early, refused_over_http, refused_by_size])
@pytest.mark.parametrize("code", [H2_CANCEL, NO_ERROR])
def test_a_call_may_be_cancelled_in_every_state(reach, code):
    before = live_exchanges_for_test()
    peer = Peer(hold=True)
    reach(peer)
    peer.reset(1, code)
    assert all(exchange.cancelled for exchange in peer.sink.held)
    assert live_exchanges_for_test() == before + len(peer.sink.held)
    peer.sink.answer()
    peer.tick()
    assert peer.connection.in_flight == 0
    assert live_exchanges_for_test() == before
    stream = peer.call(b"next")
    peer.sink.answer()
    peer.tick()
    assert peer.replies[stream].message == b"next"
    peer.lose()


@pytest.mark.parametrize("taken", [0, 1, 70_000])
def test_a_call_may_be_cancelled_while_its_reply_leaves(taken):
    peer = Peer(hold=True, settings={4: taken})
    peer.gives_credit = False
    before = live_exchanges_for_test()
    stream = peer.call(bytes(200_000))
    peer.sink.answer(version=b"3")
    peer.tick()
    assert len(peer.replies[stream].data) == min(taken, 65535)
    peer.reset(stream)
    assert live_exchanges_for_test() == before
    assert peer.ping()
    peer.lose()


def test_a_reset_between_the_answer_and_its_flush_frees_what_was_queued():
    peer = Peer(hold=True)
    stream = peer.call(b"message")
    peer.sink.answer(version=b"3", prediction_id=bytes(range(16)))  # queued in the session, not flushed yet
    peer.reset(stream)
    assert not peer.replies.get(stream)
    assert peer.connection.in_flight == 0
    assert peer.ping()
    peer.lose()


def test_a_reset_between_two_writes_of_a_reply_frees_it():
    """The socket is full, so the library holds a frame of the stream that closes."""
    peer = Peer(hold=True, capacity=10_000, settings={4: 1 << 20})
    stream = peer.call(bytes(60_000))
    peer.reads = False
    peer.sink.answer(version=b"3")
    peer.tick()
    assert peer.connection.writing_paused
    peer.connection.data_received(b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08")
    peer.reads = True
    peer.tick()
    assert not peer.replies[stream].trailers or peer.replies[stream].status == OK
    assert peer.ping()
    peer.lose()


def test_a_hundred_thousand_cancelled_calls_leave_nothing_behind():
    peer = Peer(hold=True)
    before = live_exchanges_for_test()
    sizes = []
    for _ in range(5):
        for _ in range(200):
            bursts = []
            for number in range(100):
                stream = peer.stream()
                end = number % 3
                bursts.append(peer.headers_frame(stream, request_headers()).serialize())
                if end:
                    bursts.append(DataFrame(stream, prefixed(b"x" * 100)[: 105 - (end == 1)]).serialize())
                if end == 2:
                    bursts.append(DataFrame(stream, b"", flags=["END_STREAM"]).serialize())
                bursts.append(b"\x00\x00\x04\x03\x00" + stream.to_bytes(4, "big") + b"\x00\x00\x00\x08")
            peer.connection.data_received(b"".join(bursts))
            peer.sink.answer()
            peer.tick()
            if peer.transport.ended:  # resets have a budget: a new connection for the next
                peer.lose()
                peer.connect()
        assert live_exchanges_for_test() == before
        gc.collect()
        sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert sizes[-1] - sizes[1] < 2048  # KiB, of 60,000 calls
    peer.lose()


# Drained.


def test_a_drain_says_twice_that_the_connection_ends_and_answers_what_came_before():
    peer = Peer(hold=True)
    first = peer.call(b"first")
    peer.service.drain()
    peer.tick()
    assert peer.goaways == [(LAST_STREAM, NO_ERROR)]
    second = peer.call(b"second")  # on its way when the client read that
    peer.service.finish_drain()
    peer.tick()
    assert peer.goaways == [(LAST_STREAM, NO_ERROR), (second, NO_ERROR)]
    third = peer.call(b"third")
    assert len(peer.sink.held) == 2
    assert not peer.transport.ended
    peer.sink.answer()
    peer.tick()
    assert [peer.replies[stream].message for stream in (first, second)] == [b"first", b"second"]
    assert third not in peer.replies
    assert peer.transport.ended
    peer.lose()


def test_a_drained_connection_waits_for_the_client_to_close_but_not_for_ever():
    peer = Peer()
    peer.service.drain()
    peer.service.finish_drain()
    peer.tick()
    assert peer.transport.ended
    assert not peer.transport.is_closing()  # closing with bytes unread would reset what the client has not read
    peer.connection.data_received(b"x" * 1000)
    peer.sweep(peer.now() + SECOND)
    assert not peer.transport.is_closing()
    peer.sweep(peer.now() + 4 * SECOND)
    assert peer.transport.aborted
    assert not peer.service.connections


def test_a_drain_waits_for_no_call_whose_caller_has_gone():
    peer = Peer(hold=True)
    first, second = peer.call(b"message"), peer.call(b"message")
    peer.service.drain()
    peer.service.finish_drain()
    peer.reset(first)
    assert not peer.transport.ended
    peer.reset(second)
    assert peer.transport.ended
    peer.sink.answer()
    peer.tick()
    assert peer.connection.in_flight == 0
    peer.lose()


def test_a_drain_ends_when_the_last_unfinished_request_is_cancelled():
    peer = Peer()
    stream = peer.open()
    peer.service.drain()
    peer.service.finish_drain()
    peer.tick()
    assert not peer.transport.ended
    peer.reset(stream)
    assert peer.transport.ended
    peer.lose()


def test_a_connection_made_while_draining_is_told_at_once():
    peer = Peer()
    peer.lose()
    peer.service.drain()
    peer.connect()
    assert peer.goaways == [(LAST_STREAM, NO_ERROR)]
    assert peer.infer(b"still answered").message == b"still answered"
    peer.lose()
    peer.service.finish_drain()
    peer.connect(greeting=False)
    peer.tick()
    assert peer.goaways == [(LAST_STREAM, NO_ERROR), (0, NO_ERROR)]
    assert peer.transport.ended
    peer.lose()


def test_a_reply_that_waits_for_its_window_holds_the_end_back():
    peer = Peer(settings={4: 0})
    peer.gives_credit = False
    stream = peer.call(b"message")
    peer.service.drain()
    peer.service.finish_drain()
    peer.tick()
    assert not peer.transport.ended
    peer.raw(b"\x00\x00\x04\x08\x00" + stream.to_bytes(4, "big") + b"\x00\x00\xff\xff")
    assert peer.replies[stream].message == b"message"
    assert peer.transport.ended
    peer.lose()


# Ended by the client.


def test_a_client_that_says_goodbye_is_let_go():
    peer = Peer(hold=True)
    stream = peer.call(b"message")
    peer.send(GoAwayFrame(0, last_stream_id=0, error_code=0))
    assert not peer.transport.ended
    peer.sink.answer()
    peer.tick()
    assert peer.replies[stream].message == b"message"
    assert peer.transport.ended
    peer.lose()


def test_a_client_that_closes_its_side_is_gone():
    peer = Peer(hold=True)
    peer.call(b"message")
    peer.open()
    assert peer.connection.eof_received() is False  # so the transport closes
    (exchange,) = peer.sink.held
    assert exchange.cancelled
    peer.sink.answer()
    peer.tick()
    assert peer.connection.in_flight == 0
    peer.lose()


def test_a_half_closed_connection_that_does_not_close_is_cut():
    peer = Peer()
    peer.connection.eof_received()
    peer.sweep(peer.now() + 4 * SECOND)
    assert peer.transport.aborted


@pytest.mark.parametrize("error", [None, Overloaded("full")])
def test_exchanges_outlive_a_lost_connection(error):
    peer = Peer(hold=True)
    for _ in range(10):
        peer.call(b"message")
    peer.open()
    peer.data(peer.open(), prefixed(b"half")[:6], end=False)
    connection = peer.connection
    peer.lose()
    assert not peer.service.connections
    assert all(exchange.cancelled for exchange in peer.sink.held)
    assert connection.in_flight == 10
    peer.sink.answer(error=error, version=b"3")
    peer.tick()
    assert connection.in_flight == 0


def test_a_lost_connection_frees_replies_that_were_queued_or_half_sent():
    before = live_exchanges_for_test()
    peer = Peer(hold=True, settings={4: 100})
    peer.gives_credit = False
    for _ in range(10):
        peer.call(bytes(200))
    peer.sink.answer(version=b"3")
    peer.tick()
    peer.call(b"queued")
    peer.sink.answer(version=b"3")
    assert live_exchanges_for_test() > before
    peer.lose()
    assert live_exchanges_for_test() == before


def test_everything_may_be_said_to_a_lost_connection():
    peer = Peer()
    peer.lose()
    peer.connection.data_received(b"late")
    peer.connection.resume_writing()
    peer.connection.pause_writing()
    peer.connection.resume_reading()
    peer.connection.announce_drain()
    peer.connection.refuse_new_streams()
    peer.connection.check_time(peer.now() + 1000 * SECOND, SECOND)
    peer.connection.abort()
    peer.connection.connection_lost(None)


# A socket that acts within write().


def test_a_socket_that_is_lost_while_it_is_written_to():
    peer = Peer(hold=True)
    stream = peer.call(bytes(1000))
    peer.transport.write = lambda data: peer.connection.connection_lost(None)
    peer.sink.answer()
    peer.tick()
    assert stream not in peer.replies
    assert peer.connection.in_flight == 0


def test_a_socket_that_pauses_and_resumes_within_write_gets_every_byte_once():
    peer = Peer(hold=True, settings={4: 1 << 24})
    peer.raw(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\xff\xff\xff")
    stream = peer.call(bytes(range(256)) * 4000)
    keep = peer.transport.write

    def write(data):
        keep(data)
        peer.connection.pause_writing()
        peer.connection.resume_writing()

    peer.transport.write = write
    peer.sink.answer()
    peer.tick()
    assert peer.replies[stream].message == bytes(range(256)) * 4000
    peer.lose()
