"""What the supervisor does to the file system: folders, locks, the place of the shared memory, small atomic files.

Standard library only: the supervisor imports it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator

_FOLDERS = ("run", "snapshots", "segments", "log", "shm")
_SHARED_MEMORY_ROOT = "/dev/shm"
#: Shared memory besides the rings: control page, a row of counters a process, and room to breathe.
_MARGIN_BYTES = 16 << 20
_COUNTER_ROW_BYTES = 2 << 20
_LOG_BYTES = 4 << 20


class StartError(Exception):
    """The gateway cannot start; the message says what to do. (`core.errors` costs 10 ms to import; this is printed.)"""


class StateDirectory:
    """One gateway's state directory, locked for this process."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        self.run = os.path.join(self.path, "run")

    def prepare(self) -> None:
        """Create what is missing, private to this user. StartError where it belongs to somebody else."""
        try:
            for folder in (self.path, *(os.path.join(self.path, name) for name in _FOLDERS)):
                os.makedirs(folder, mode=0o700, exist_ok=True)
                os.chmod(folder, 0o700)
        except OSError as error:
            raise StartError(f"state directory {self.path}: {error.strerror} ({error.filename})") from error

    # Two locks: the first says "a supervisor is here", the second is inherited by every child and so says
    # "processes of an earlier supervisor are still writing here".

    def check_free(self) -> None:
        """StartError if a gateway runs here; for who is about to write what that gateway's children would read."""
        if os.path.isdir(self.run):
            lock = self._try_lock("supervisor.lock")
            if lock is None:
                raise self._occupied()
            os.close(lock)

    def _occupied(self) -> StartError:
        other = self.read_json("runtime.json").get("supervisor", "unknown")
        return StartError(
            f"another gateway (pid {other}) uses state directory {self.path}; "
            "stop it, or start this one with another --state-dir"
        )

    def lock(self, patience: float) -> int:
        """Become the only gateway here; return the descriptor that children must inherit.

        Children of a killed supervisor may still be answering their last requests: they get ``patience`` seconds,
        then they are killed. StartError if another gateway runs here.
        """
        if self._try_lock("supervisor.lock") is None:
            raise self._occupied()
        for deadline in (time.monotonic() + patience, time.monotonic() + patience + 5.0):
            while time.monotonic() < deadline:
                tree_lock = self._try_lock("tree.lock")
                if tree_lock is not None:
                    return tree_lock
                time.sleep(0.02)
            self._kill_orphans()
        raise StartError(
            f"processes of an earlier gateway still use {self.path} and cannot be killed: {sorted(self._orphans())}"
        )

    def _try_lock(self, name: str) -> int | None:
        # The lock lasts as long as a process holds this open file, so the caller keeps it.
        descriptor = os.open(os.path.join(self.run, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _orphans(self) -> Iterator[int]:
        runtime = self.read_json("runtime.json")
        places = [{"pid": runtime.get("control")}]
        for role in ("workers", "recorders", "scorers"):
            places += runtime.get(role, [])
        for place in places:
            pid = place.get("pid")
            if isinstance(pid, int) and self._holds_tree_lock(pid):
                yield pid

    def _holds_tree_lock(self, pid: int) -> bool:
        # The pid may have been given to a stranger since; a child of ours has our lock file open.
        tree_lock = os.path.join(self.run, "tree.lock")
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            return False
        return any(_link(f"/proc/{pid}/fd/{descriptor}") == tree_lock for descriptor in descriptors)

    def _kill_orphans(self) -> None:
        for pid in list(self._orphans()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # Shared memory.

    def shared_memory(self, ring_bytes: int, counting_processes: int) -> str:
        """Path of the directory for rings and pages, existing and private.

        /dev/shm where all of it fits, else the state directory; where rings of an earlier run are left, there.
        """
        name = f"onnx-gateway-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]}"
        fast = os.path.join(_SHARED_MEMORY_ROOT, name)
        slow = os.path.join(self.path, "shm")
        for place in (fast, slow):
            if leftover_rings(place):
                return _private_directory(place)
        needed = ring_bytes + counting_processes * _COUNTER_ROW_BYTES + _MARGIN_BYTES
        if _free_bytes(_SHARED_MEMORY_ROOT) >= needed:
            return _private_directory(fast)
        if _free_bytes(slow) < needed:
            raise StartError(
                f"rings and counters need {needed >> 20} MiB, and neither {_SHARED_MEMORY_ROOT} nor {slow} "
                "has that much room"
            )
        return _private_directory(slow)

    # Small files under run/.

    def read_json(self, name: str) -> dict:  # type: ignore[type-arg]
        """A JSON object under run/; empty where there is none or it is damaged."""
        try:
            with open(os.path.join(self.run, name), encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_json(self, name: str, content: dict) -> None:  # type: ignore[type-arg]
        """Replace a file under run/ so that a reader sees either the old content or the new."""
        path = os.path.join(self.run, name)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.write("\n")
        os.replace(f"{path}.new", path)

    def append_line(self, name: str, content: dict) -> None:  # type: ignore[type-arg]
        """Append one JSON object as a line to a file under run/; a large file is set aside as ``NAME.1`` first."""
        path = os.path.join(self.run, name)
        with contextlib.suppress(FileNotFoundError):
            if os.path.getsize(path) > _LOG_BYTES:
                os.replace(path, f"{path}.1")
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")


def leftover_rings(directory: str) -> list[str]:
    """Names (without ``.ring``) of the rings in a directory that need not exist."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(name.removesuffix(".ring") for name in names if name.endswith(".ring"))


def remove_shared_memory(directory: str) -> None:
    """Forget a directory of shared memory whose record is safe on disk."""
    shutil.rmtree(directory, ignore_errors=True)


def _private_directory(path: str) -> str:
    # In /dev/shm anybody may have made a directory of that name first, to read what we put there.
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if found.st_uid != os.geteuid() or not os.path.isdir(path) or os.path.islink(path):
            raise StartError(f"{path} exists and is not a directory of ours; remove it") from None
        os.chmod(path, 0o700)
    except OSError as error:
        raise StartError(f"shared memory {path}: {error.strerror}") from error
    return path


def _free_bytes(path: str) -> int:
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
