"""The HTTP/2 transport alone: answers every ModelInfer with its own message (gate A: `h2load -c8 -m16`)."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from gateway._fast.echo_sink import EchoDialect, EchoSink
from gateway._fast.h2_connection import H2Connection, H2Service
from gateway.core.errors import MethodUnimplemented
from gateway.serving.error_replies import GRPC_STATUS


def no_call(path: str, _message: bytes) -> bytes:
    """Nothing but inference is answered."""
    raise MethodUnimplemented(f"no call {path!r} here")


async def serve(port: int) -> None:
    """Echo on 127.0.0.1:``port`` until killed."""
    loop = asyncio.get_running_loop()
    service = H2Service(loop, EchoSink(loop), EchoDialect(), no_call, GRPC_STATUS)
    server = await loop.create_server(lambda: H2Connection(service), "127.0.0.1", port)
    print(f"echo on {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
