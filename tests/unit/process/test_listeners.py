import errno
import socket

import pytest

from gateway.process.listeners import OutOfDescriptors, accept_waiting, listen, port_of, reserve
from gateway.process.state_directory import StartError


class Listener:
    """A listener whose accepts are scripted: an errno fails, anything else is a connection."""

    def __init__(self, *script):
        self.script = list(script)

    def accept(self):
        if not self.script:
            raise BlockingIOError
        outcome = self.script.pop(0)
        if isinstance(outcome, int):
            raise OSError(outcome, "scripted")
        return outcome, None


def test_a_connection_that_was_lost_while_waiting_is_passed_over():
    assert accept_waiting(Listener("a", errno.ECONNABORTED, errno.EPROTO, "b")) == ["a", "b"]


def test_without_descriptors_what_was_accepted_before_is_kept():
    listener = Listener("a", errno.EMFILE, errno.EMFILE)
    assert accept_waiting(listener) == ["a"]
    with pytest.raises(OutOfDescriptors):
        accept_waiting(listener)


def test_one_call_takes_no_more_than_its_limit():
    listener = Listener("a", "b", "c")
    assert accept_waiting(listener, 2) == ["a", "b"]
    assert listener.script == ["c"]


def test_port_zero_is_a_free_port_and_an_occupied_one_is_refused_with_advice():
    with listen("127.0.0.1", 0, what="HTTP") as first:
        assert port_of(first) > 0
        with pytest.raises(StartError, match=f"HTTP port {port_of(first)} on 127.0.0.1.*choose another port"):
            listen("127.0.0.1", port_of(first), what="HTTP")


def test_a_host_that_does_not_exist_is_refused():
    with pytest.raises(StartError, match=r"gRPC address no\.such\.host\.invalid"):
        listen("no.such.host.invalid", 0, what="gRPC")


def test_a_reserved_port_is_shared_with_workers_but_never_connects():
    with reserve("127.0.0.1", 0, what="gRPC") as held, socket.socket() as worker:
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(("127.0.0.1", port_of(held)))
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port_of(held))) == errno.ECONNREFUSED
