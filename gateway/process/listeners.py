"""The data ports: bound once, for the life of the gateway. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import socket

from gateway.process.state_directory import StartError

_BACKLOG = 4096
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class OutOfDescriptors(Exception):
    """No room for another connection now; those that wait in the kernel's queue keep waiting."""


def listen(host: str, port: int, *, what: str) -> socket.socket:
    """A listening socket that does not block. StartError where the address cannot be had."""
    return _bound(host, port, what=what, listening=True)


def reserve(host: str, port: int, *, what: str) -> socket.socket:
    """A port held for workers that bind it themselves with SO_REUSEPORT; this socket never gets a connection."""
    return _bound(host, port, what=what, listening=False)


def _bound(host: str, port: int, *, what: str, listening: bool) -> socket.socket:
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartError(f"{what} address {host}: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not listening:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        if listening:
            listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(f"{what} port {port} on {host}: {error.strerror}; choose another port or free it") from error
    listener.setblocking(False)
    return listener


def accept_waiting(listener: socket.socket, limit: int = 64) -> list[socket.socket]:
    """Connections that wait, at most ``limit``.

    OutOfDescriptors if there is no room for even one; with some accepted, the next call tells.
    """
    accepted: list[socket.socket] = []
    for _ in range(limit):
        try:
            accepted.append(listener.accept()[0])
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                if accepted:
                    break
                raise OutOfDescriptors(str(error)) from error
            # accept(2) passes on errors of the connection that was just lost: on to the next.
            continue
    return accepted


def port_of(listener: socket.socket) -> int:
    """The port that the system chose, or was given."""
    return int(listener.getsockname()[1])


def close_all(listeners: list[socket.socket]) -> None:
    """Close, whatever state they are in."""
    for listener in listeners:
        with contextlib.suppress(OSError):
            listener.close()
