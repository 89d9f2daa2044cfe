import socket

import pytest

from gateway.process.handoff import Handoff, take_connections


@pytest.fixture
def handoff():
    pair = Handoff.open()
    yield pair
    pair.close()


def test_a_connection_arrives_with_its_port_and_still_works(handoff):
    client, server = socket.socketpair()
    with client, server:
        assert handoff.send(server, b"g")
        (taken,) = take_connections(handoff.worker)
        assert taken.port == b"g"
        assert not taken.connection.get_inheritable()
        server.close()
        client.sendall(b"hello")
        assert taken.connection.recv(5) == b"hello"
        taken.connection.close()


def test_what_nobody_took_is_counted(handoff):
    one, other = socket.socketpair()
    with one, other:
        assert [handoff.send(one, b"h"), handoff.send(other, b"g"), handoff.send(other, b"h")] == [True] * 3
        assert handoff.waiting() == 3
        assert [handed.port for handed in _taken(handoff, 2)] == [b"h", b"g"]
        assert handoff.waiting() == 1
        assert [handed.port for handed in _taken(handoff, 9)] == [b"h"]
        assert (handoff.waiting(), _taken(handoff, 9)) == (0, [])


def test_a_full_queue_is_said_not_waited_for(handoff):
    one, other = socket.socketpair()
    with one, other:
        sent = 0
        while handoff.send(one, b"h"):
            sent += 1
        assert handoff.waiting() == sent > 100
        while _taken(handoff, 64):
            pass
        assert handoff.send(one, b"h")


def test_the_end_of_the_supervisor_reads_as_an_empty_queue(handoff):
    handoff.supervisor.close()
    assert take_connections(handoff.worker) == []


def _taken(handoff, limit):
    taken = take_connections(handoff.worker, limit)
    for handed in taken:
        handed.connection.close()
    return taken
