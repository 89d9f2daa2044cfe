"""Control with stand-ins for its workers and scorers, over the real channel in one event loop.

A stand-in reads the snapshot's file as a real one would, and answers what the test says each version does.
"""

import asyncio
import json
from contextlib import asynccontextmanager
from types import SimpleNamespace

from gateway.control.controller import Controller
from gateway.control.publisher import Publisher
from gateway.control.state_store import StateStore
from gateway.core.snapshot_files import SnapshotFiles
from gateway.process.channel import ChannelServer, ControlLink

INPUTS = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]


class Behaviour:
    """What versions do when they are loaded: by default they load and take INPUTS."""

    def __init__(self):
        self.broken = {}  # (model, version) -> reason
        self.inputs = {}  # (model, version) -> input specs
        self.deadly = set()  # (model, version) whose loading kills the process
        self.probed = []

    def report(self, model, version):
        if (model, version) in self.broken:
            return {"ok": False, "reason": self.broken[model, version]}
        return {"ok": True, "inputs": self.inputs.get((model, version), INPUTS), "outputs": [], "load_ms": 1.5}

    def probe(self, model, versions):
        """Stands in for the child process that tries versions."""
        self.probed += [(model.name, offered.version) for offered in versions]
        return {
            offered.version: {"ok": False, "reason": "loading it crashes the process (SIGSEGV)"}
            if (model.name, offered.version) in self.deadly
            else self.report(model.name, offered.version)
            for offered in versions
        }


class StandIn:
    """A worker or scorer."""

    def __init__(self, state_dir, page, behaviour, role="worker", index=0):
        self.state_dir, self.page, self.behaviour, self.role, self.index = state_dir, page, behaviour, role, index
        self.running, self.prepared, self.hold, self.deaf = 0, {}, asyncio.Event(), False
        self.hold.set()
        self.preparing = asyncio.Event()
        self.connect()

    def connect(self):
        self.link = ControlLink(
            self.state_dir, self.role, self.index,
            running=lambda: self.running, prepare=self.prepare, commit=self.commit,
            abandon=lambda number: self.prepared.pop(number, None),
        )  # fmt: skip
        self.link.start()

    async def prepare(self, number, path):
        document = json.loads(path.read_bytes())
        self.preparing.set()
        await self.hold.wait()
        report = {}
        for model, part in document["models"].items():
            for version, facts in part["versions"].items():
                if facts["serving"] != (self.role == "worker"):
                    continue
                if (model, version) in self.behaviour.deadly:
                    asyncio.get_running_loop().call_soon(self.die)
                    await asyncio.Event().wait()
                report.setdefault(model, {})[version] = self.behaviour.report(model, version)
        self.prepared[number] = document
        return report

    async def commit(self, number):
        assert number in self.prepared, "committed without having been prepared"
        assert self.page.epoch == number, "told to commit before the word said so"
        if not self.deaf:
            self.running = number

    def die(self):
        """As the supervisor sees to it, another one comes at once."""
        link = self.link
        self.running, self.prepared = 0, {}
        self._burial = asyncio.ensure_future(link.close())
        self.connect()

    @property
    def snapshot(self):
        return self.prepared[self.running]

    def split(self, model):
        return self.snapshot["models"][model]["traffic"]


@asynccontextmanager
async def tree(folders, state_dir, *, workers=2, scorer=False, url=None, page=None, wait=True, **settings):
    """Control and its stand-ins, started unless ``wait`` is false; stopped at the end."""
    (state_dir / "run").mkdir(parents=True, exist_ok=True)
    page = page or SimpleNamespace(epoch=0)
    behaviour = settings.pop("behaviour", None) or Behaviour()
    files, store = SnapshotFiles(state_dir), StateStore(url or f"sqlite:///{state_dir}/gateway.db")
    shadows = []
    publisher = Publisher(page, files)
    controller = Controller(
        models_dir=folders.path, state_dir=state_dir, store=store, files=files, publisher=publisher,
        workers=workers, on_shadows=shadows.append, probe=behaviour.probe, **settings,
    )  # fmt: skip
    channel = ChannelServer(state_dir / "run" / "control.sock", publisher)
    await channel.start()
    crew = [StandIn(state_dir, page, behaviour, index=i) for i in range(workers)]
    if scorer:
        crew.append(StandIn(state_dir, page, behaviour, "scorer"))
    try:
        if wait:
            async with asyncio.timeout(20):
                await controller.start()
        yield SimpleNamespace(
            controller=controller, publisher=publisher, behaviour=behaviour, crew=crew, page=page, files=files,
            store=store, shadows=shadows, folders=folders, state_dir=state_dir,
        )  # fmt: skip
    finally:
        for member in crew:
            await member.link.close()
        await channel.close()
        store.close()
