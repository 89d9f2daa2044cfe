"""Stands in for control, worker, recorder and scorer in tests of the supervisor: a real process, real descriptors.

It writes what happens to it into ``STATE_DIR/events`` and, as a worker, tells each client which worker it reached.
"""

import argparse
import json
import os
import select
import signal
import sys
import time

from gateway.core.shared_page import ControlPage, SlotView, scorer_slot, worker_slot
from gateway.process.handoff import take_connections


class StandIn:
    def __init__(self, role: str, arguments: argparse.Namespace) -> None:
        self.role = role
        self.arguments = arguments
        self.name = role if role == "control" else f"{role} {arguments.index}"
        if arguments.config:
            with open(arguments.config) as file:
                self.state_dir = json.load(file)["state_dir"]
        else:
            self.state_dir = arguments.state_dir
        self.stopping = False
        self.life = arguments.life_fd
        self.clients = {}

    def tell(self, event: str) -> None:
        with open(os.path.join(self.state_dir, "events"), "a") as file:
            file.write(f"{self.name}: {event}\n")

    def run(self) -> int:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        wake, held = os.pipe()
        os.set_blocking(held, False)
        signal.set_wakeup_fd(held)
        signal.signal(signal.SIGTERM, lambda number, frame: setattr(self, "stopping", True))
        signal.signal(signal.SIGUSR2, lambda number, frame: setattr(self, "silent", True))
        self.slot = self.map_slot()
        self.tell("started")
        sources = [self.life, wake]
        if self.role == "worker":
            import socket

            self.queue = socket.socket(fileno=self.arguments.handoff_fd)
            sources.append(self.queue)
        while not self.stopping:
            readable, _, _ = select.select([*sources, *self.clients], [], [], 0.2)
            self.beat()
            if self.life in readable:
                self.tell("orphaned")
                return 0
            for source in readable:
                if source in self.clients:
                    self.serve(source)
                elif source not in (self.life, wake):
                    self.take()
        if self.role == "worker":
            self.take()
            draining = ControlPage.open(self.page_path()).draining
            self.tell(f"draining={draining} clients={len(self.clients)}")
        self.tell("stopped")
        return 0

    def page_path(self) -> str:
        with open(os.path.join(self.state_dir, "run", "runtime.json")) as file:
            return os.path.join(json.load(file)["shm"], "control")

    def map_slot(self) -> SlotView | None:
        if self.role not in ("worker", "scorer"):
            return None
        self.page = ControlPage.open(self.page_path())
        number = worker_slot if self.role == "worker" else scorer_slot
        slot = self.page.slot(number(self.arguments.index))
        slot.running_epoch = 1
        return slot

    def beat(self) -> None:
        if self.slot is not None:
            self.slot.heartbeat_ns = time.monotonic_ns()

    def take(self) -> None:
        for connection, port in take_connections(self.queue):
            connection.setblocking(True)
            self.clients[connection] = port
            connection.sendall(f"{self.arguments.index} {os.getpid()} {port.decode()}\n".encode())

    def serve(self, client) -> None:
        said = client.recv(100)
        if said == b"crash":
            self.leave_breadcrumb("flights", "3")
            os.kill(os.getpid(), signal.SIGSEGV)
        if not said:
            client.close()
            del self.clients[client]
            self.slot.connections_closed += 1

    def leave_breadcrumb(self, model: str, version: str) -> None:
        from gateway.core import shared_page

        at = shared_page.CRUMBS_AT + self.arguments.index * shared_page.LANES * shared_page.CRUMB_BYTES
        memory = self.page.memory
        memory[at + 64 : at + 64 + len(model)] = model.encode()
        memory[at + 256 : at + 256 + len(version)] = version.encode()
        memory[at + 320 : at + 344] = bytes(range(16)) + (0xABC).to_bytes(8, "little")
        shared_page._CRUMB_HEAD.pack_into(memory, at, 1, 5, len(model), len(version), 1)


def main() -> int:
    role = sys.argv[1]
    parser = argparse.ArgumentParser()
    for option in ("--config", "--state-dir", "--shm-dir"):
        parser.add_argument(option)
    parser.add_argument("--ring", action="append", default=[])
    parser.add_argument("--recover", action="store_true")
    for option in ("--index", "--handoff-fd", "--life-fd", "--admin-fd", "--counter-row"):
        parser.add_argument(option, type=int, default=0)
    arguments = parser.parse_args(sys.argv[2:])
    stand_in = StandIn(role, arguments)
    if role == "rings":
        stand_in.name = role
        stand_in.tell(f"made {arguments.ring}")
        for ring in arguments.ring:
            with open(os.path.join(arguments.shm_dir, f"{ring}.ring"), "w"):
                pass
    if role in ("rings", "recovery"):
        stand_in.name = role
        if role == "recovery":
            stand_in.tell("ran")
        return int(os.path.exists(os.path.join(stand_in.state_dir, f"fail-{role}")))
    if os.path.exists(os.path.join(stand_in.state_dir, f"fail-{role}")):
        return 3
    return stand_in.run()


if __name__ == "__main__":
    sys.exit(main())
