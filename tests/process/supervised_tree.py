"""A supervisor whose children are stand-ins (``stand_in.py``), driven from outside."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.core.shared_page import ControlPage

RUNNER = str(Path(__file__).with_name("supervisor_of_stand_ins.py"))
REPOSITORY = Path(__file__).parents[2]


def wait_until(what, condition, seconds=20.0):
    """Look until ``condition()`` is truthy, and return that; fails with ``what`` was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    return pytest.fail(f"not seen within {seconds} s: {what}")


class Tree:
    """One supervised tree of stand-ins."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.process = None
        self.connections = []
        self.pages = []

    def start(self, *, descriptors=None, wait=True, **settings):
        (self.state_dir / "run").mkdir(parents=True, exist_ok=True)
        config = self.state_dir / "run" / "server.json"
        settings = {"http_port": 0, "grpc_port": 0, "admin_port": 0, "ring_bytes": 4096, "drain_seconds": 20} | settings
        config.write_text(json.dumps({"state_dir": str(self.state_dir), **settings}))
        # Into a file: a pipe would stay open as long as any child of a killed supervisor holds it.
        with open(self.state_dir / "said", "w") as said:
            self.process = subprocess.Popen(
                [sys.executable, RUNNER, str(config), *([str(descriptors)] if descriptors else [])],
                cwd=REPOSITORY,
                stderr=said,
                env={**os.environ, "PYTHONPATH": "."},
            )
        if wait:
            workers = settings.get("workers", 1)
            expected = {f"worker {index}: started" for index in range(workers)}
            wait_until("all workers", lambda: expected <= set(self.events()))

    def runtime(self):
        return json.loads((self.state_dir / "run" / "runtime.json").read_text())

    def events(self):
        path = self.state_dir / "events"
        return path.read_text().splitlines() if path.exists() else []

    def worker_pid(self, index):
        return next((w["pid"] for w in self.runtime()["workers"] if w["index"] == index), None)

    def connect(self, port="http"):
        """A connection, not yet known to be with a worker."""
        connection = socket.create_connection(("127.0.0.1", self.runtime()["ports"][port]), timeout=20)
        connection.settimeout(20)
        self.connections.append(connection)
        return connection

    def page(self):
        """The control page, opened as a child would."""
        self.pages.append(ControlPage.open(os.path.join(self.runtime()["shm"], "control")))
        return self.pages[-1]

    def said(self):
        """What the supervisor (and its children) wrote to stderr, less the two lines that are always there."""
        lines = [line.removeprefix("gateway supervisor: ") for line in self.everything_said()]
        return [line for line in lines if not line.startswith(("HTTP ", "ready after "))]

    def everything_said(self):
        return (self.state_dir / "said").read_text().splitlines()

    def stop(self, number=signal.SIGTERM):
        """Signal the supervisor; return its exit code and what it said."""
        self.process.send_signal(number)
        return self.process.wait(40), self.said()

    def kill(self):
        """SIGKILL to the supervisor alone."""
        self.process.kill()
        self.process.wait()

    def clean_up(self):
        for resource in (*self.connections, *self.pages):
            resource.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()
        with contextlib.suppress(FileNotFoundError):
            runtime = self.runtime()
            for place in runtime["workers"] + runtime["recorders"] + [{"pid": runtime["control"]}]:
                with contextlib.suppress(ProcessLookupError, TypeError):
                    os.kill(place["pid"], signal.SIGCONT)
            shutil.rmtree(runtime["shm"])


def greeting(connection):
    """(worker, pid, port) that a stand-in worker tells its client."""
    said = b""
    while not said.endswith(b"\n"):
        more = connection.recv(100)
        if not more:
            return None
        said += more
    worker, pid, port = said.split()
    return int(worker), int(pid), port.decode()
