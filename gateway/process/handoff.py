"""Accepted connections on their way from the supervisor to a worker: one descriptor and one byte a message.

A SOCK_SEQPACKET pair per worker. The supervisor keeps both ends open, so what a dead worker had not taken yet
waits for its successor. Standard library only.
"""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct
import termios
from typing import NamedTuple

HTTP_PORT = b"h"
GRPC_PORT = b"g"

_DESCRIPTOR = struct.Struct("i")
_ROOM_FOR_ONE = socket.CMSG_SPACE(_DESCRIPTOR.size)


class Handed(NamedTuple):
    """A connection that arrived at a worker, and which port it came in by."""

    connection: socket.socket
    port: bytes


class Handoff(NamedTuple):
    """Both ends of one worker's queue of connections."""

    supervisor: socket.socket
    worker: socket.socket

    @classmethod
    def open(cls) -> Handoff:
        """A fresh pair; neither end blocks."""
        pair = cls(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        pair.supervisor.setblocking(False)
        pair.worker.setblocking(False)
        return pair

    def send(self, connection: socket.socket, port: bytes) -> bool:
        """Put a connection into the queue; the caller closes its own copy. False: the queue is full."""
        try:
            socket.send_fds(self.supervisor, [port], [connection.fileno()])
        except BlockingIOError:
            return False
        except OSError as error:
            # The kernel bounds the descriptors that are under way (ETOOMANYREFS); memory may be short as well.
            if error.errno in (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM):
                return False
            raise
        return True

    def waiting(self) -> int:
        """Connections that the worker has not taken yet."""
        # FIONREAD adds up all messages of a SEQPACKET queue, and each of ours is one byte.
        count = array.array("i", [0])
        fcntl.ioctl(self.worker.fileno(), termios.FIONREAD, count)
        return count[0]

    def close(self) -> None:
        """Close both ends; connections that nobody took are reset."""
        self.supervisor.close()
        self.worker.close()


def take_connections(handoff: socket.socket, limit: int = 64) -> list[Handed]:
    """Up to ``limit`` connections from the worker's end, which must not block. Empty: nothing waits.

    A worker that drains calls this until it is empty before it closes shop: those clients were accepted.
    OSError EMFILE does not show here: the kernel drops a descriptor that has no room, and the message without it
    is passed over.
    """
    taken: list[Handed] = []
    while len(taken) < limit:
        try:
            # Not socket.recv_fds: it drops its flags, and the descriptor would be inherited by later children.
            port, ancillary, _flags, _address = handoff.recvmsg(1, _ROOM_FOR_ONE, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            break
        if not port:
            break  # the supervisor closed the pair
        for _level, _kind, data in ancillary:
            taken.append(Handed(socket.socket(fileno=_DESCRIPTOR.unpack(data)[0]), port))
    return taken
