"""The admin API on a real port, over stand-in workers."""

import asyncio
import json
import os
import socket
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from gateway.control.admin.api import admin_app
from gateway.control.admin.security import ensure_token
from tests.unit.control.stand_in_tree import tree


class Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self):
        yield


@asynccontextmanager
async def admin_port(folders, state_dir, **settings):
    """A stand-in tree whose admin API listens at ``t.url``. The state directory names the port, as a real one does."""
    state_dir.chmod(0o700)
    async with tree(folders, state_dir, **settings) as t:
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        (state_dir / "run" / "runtime.json").write_text(
            json.dumps({"ports": {"admin": port}, "supervisor": os.getpid()})
        )
        t.token = ensure_token(state_dir)
        t.url = f"http://127.0.0.1:{port}"
        app = admin_app(t.controller, t.token, str(state_dir / "no-shared-memory"))
        server = Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield t
        finally:
            server.should_exit = True
            await serving
            listening.close()
