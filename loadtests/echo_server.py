"""The HTTP/2 transport alone: answers every unary call with its own message (gate A: `h2load -c8 -m16`)."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from gateway._fast.echo_sink import EchoSink, plain_dialect
from gateway._fast.h2_connection import H2Connection, H2Service


async def serve(port: int) -> None:
    """Echo on 127.0.0.1:``port`` until killed."""
    loop = asyncio.get_running_loop()
    service = H2Service(loop, EchoSink(loop), plain_dialect(), None, {})
    server = await loop.create_server(lambda: H2Connection(service), "127.0.0.1", port)
    print(f"echo on {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
