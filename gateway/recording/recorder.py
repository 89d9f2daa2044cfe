"""The recorder: rings → segments in one thread, segments → Parquet in another, so that building never lets a ring fill.

Both threads spend their time in calls that give up the GIL. Failures of the disk or the database are waited out: the
frames stay in the ring or the segments meanwhile, and how far behind we are is published for all to see.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway._fast.record_ring import ONLOOKER, RingReader
from gateway.core.errors import Conflict, RecordCorrupt, Unavailable
from gateway.recording.compaction import CompactionRule, compact, remove_replaced
from gateway.recording.copier import OnFrames, RingCopier, Rotation
from gateway.recording.manifest import Manifest
from gateway.recording.parquet import consume_segment
from gateway.recording.segments import LOCK_NAME, SegmentName, list_segments, quarantine

log = logging.getLogger(__name__)

#: Pauses between looks at the rings: after traffic, while somebody waits for a sync, and after none for a while.
BUSY_SECONDS = 0.005
SYNC_SECONDS = 0.0005
IDLE_SECONDS = 0.05
#: After a failed write, build or commit.
RETRY_SECONDS = 0.25
STATUS_SECONDS = 1.0
#: Behind by more than this the recorder is as important as a worker.
LATE_SECONDS = 5.0
NICE = 5
#: How long the end waits for Parquet; what is left stays in segments, which are as good.
BUILD_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """What a recorder has to know."""

    state_dir: Path
    shm_dir: Path
    database_url: str
    rings: tuple[str, ...]
    """Names of its rings, none = all that there are; those whose file is not there yet are looked for each second."""
    index: int = 0
    """Recorder 0 also builds the segments of rings that are no more, and merges parts."""
    rotation: Rotation = field(default_factory=Rotation)
    doorbells: Mapping[str, int] = field(default_factory=dict)
    """Ring name → eventfd to ring when its synced position has moved."""
    on_frames: OnFrames | None = None
    """Shown all frames as they are copied: the exporter of spans."""

    @property
    def segments(self) -> Path:
        return self.state_dir / "segments"

    @property
    def status_path(self) -> Path:
        return self.state_dir / "run" / f"recorder-{self.index}.json"


class Builder:
    """Turns closed segments into parts, in the order in which they were closed, in a thread of its own."""

    def __init__(self, settings: RecorderSettings) -> None:
        self._settings = settings
        self._closed: queue.SimpleQueue[SegmentName | None] = queue.SimpleQueue()
        self._waiting: dict[Path, float] = {}
        self._abandon = threading.Event()
        self.thread = threading.Thread(target=self._run, name="parquet")
        self.rows = self.damage = self.malformed = self.failures = 0
        self.last_failure = ""

    def start(self) -> None:
        self.thread.start()

    def submit(self, name: SegmentName) -> None:
        """A segment that will not grow any more; those of one stream come in its order."""
        self._waiting[name.path] = time.time()
        self._closed.put(name)

    def finish(self, give_up_after: float) -> bool:
        """Build what waits, then end. False if ``give_up_after`` seconds passed first: the segments keep the rest."""
        self._closed.put(None)
        self.thread.join(give_up_after)
        self._abandon.set()
        self.thread.join()
        return not self._waiting

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def lag_seconds(self, now: float) -> float:
        """Since when the oldest segment that is not Parquet yet has been closed."""
        return now - min(list(self._waiting.values()), default=now)

    # In the thread.

    def _run(self) -> None:
        manifest: Manifest | None = None
        while manifest is None and not self._abandon.is_set():
            with self._failures_told():
                manifest = Manifest.open(self._settings.database_url)
        while manifest is not None and (name := self._closed.get()) is not None and not self._abandon.is_set():
            while name.path in self._waiting and not self._abandon.is_set():
                with self._failures_told():
                    self._build(name, manifest)
            if self._settings.index == 0 and self._closed.empty():
                with self._failures_told():
                    self._tidy(manifest)
        if manifest is not None:
            manifest.close()

    def _build(self, name: SegmentName, manifest: Manifest) -> None:
        try:
            consumed = consume_segment(name, self._settings.state_dir, manifest)
            self.rows += consumed.rows
            self.damage += consumed.damage
            self.malformed += consumed.malformed
        except Conflict as problem:
            log.warning("%s", problem)
        except RecordCorrupt as problem:
            self.damage += 1
            log.error("%s; moved to %s", problem, quarantine(name.path))
        del self._waiting[name.path]

    def _tidy(self, manifest: Manifest) -> None:
        compact(self._settings.state_dir, manifest, CompactionRule())
        remove_replaced(self._settings.state_dir, manifest, CompactionRule())

    @contextlib.contextmanager
    def _failures_told(self) -> Iterator[None]:
        # A full disk or a busy database: nothing was lost, and it is tried again.
        try:
            yield
        except (OSError, Unavailable) as problem:
            self.failures += 1
            self.last_failure = str(problem)
            log.error("cannot build parts: %s", problem)
            self._abandon.wait(RETRY_SECONDS)


class Recorder:
    """One recorder process: :meth:`run` until told to stop."""

    def __init__(self, settings: RecorderSettings) -> None:
        self._settings = settings
        self._builder = Builder(settings)
        self._copiers: dict[str, RingCopier] = {}
        self._drained_at: dict[str, float] = {}
        self._failed_at: dict[str, float] = {}
        self._status_at = 0.0
        self._busy_at = 0.0
        self.copied_bytes = self.failures = 0
        self.last_failure = ""

    def run(self, stop: Callable[[float], bool]) -> None:
        """Record until ``stop(seconds)``, which waits that long at most, says that it is time; then drain and build.

        Raises OSError where the rest of a ring cannot be written.
        """
        self._settings.segments.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._settings.status_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._present():
            self._attach()
            if self._settings.index == 0:
                self._adopt_orphans()
            self._builder.start()
            try:
                while not stop(self._pause()):
                    self._turn()
                self._drain()
            finally:
                self._close()

    # What there is to record.

    @contextlib.contextmanager
    def _present(self) -> Iterator[None]:
        """Hold the lock that tells recovery to keep its hands off."""
        fd = os.open(self._settings.segments / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            yield
        finally:
            os.close(fd)

    def _attach(self) -> None:
        named = [self._settings.shm_dir / f"{name}.ring" for name in self._settings.rings]
        for path in named or self._settings.shm_dir.glob("*.ring"):
            if path.stem not in self._copiers and path.exists():
                self._copiers[path.stem] = self._copier(path)
                self._drained_at[path.stem] = time.monotonic()

    def _copier(self, path: Path) -> RingCopier:
        manifest = Manifest.open(self._settings.database_url)
        try:
            return RingCopier(
                path,
                self._settings.segments,
                rotation=self._settings.rotation,
                on_closed=self._builder.submit,
                consumed=manifest.consumed,
                known=manifest.schemas,
                doorbell=self._settings.doorbells.get(path.stem),
                on_frames=self._settings.on_frames,
            )
        finally:
            manifest.close()

    def _adopt_orphans(self) -> None:
        """Segments whose ring is no more: nobody else will build them."""
        alive = {RingReader(path, ONLOOKER).epoch for path in self._settings.shm_dir.glob("*.ring")}
        for epoch, names in list_segments(self._settings.segments).items():
            if epoch not in alive:
                for name in names:
                    self._builder.submit(name)

    # Turn by turn.

    def _turn(self) -> None:
        copied = 0
        for name, copier in self._copiers.items():
            copied += self._step(name, copier)
        if copied:
            self._busy_at = time.monotonic()
        if time.monotonic() - self._status_at >= STATUS_SECONDS:
            self._attach()
            self._tell_status()

    def _step(self, name: str, copier: RingCopier) -> int:
        if name in self._failed_at and time.monotonic() - self._failed_at[name] < RETRY_SECONDS:
            return 0
        try:
            copied = copier.step()
        except OSError as problem:
            # The ring holds what could not be written; the workers say what happens when it is full.
            self.failures += 1
            self.last_failure = f"ring {name}: {problem}"
            if name not in self._failed_at:
                log.error("cannot copy ring %s: %s; tried again until it can be", name, problem)
            self._failed_at[name] = time.monotonic()
            return 0
        if self._failed_at.pop(name, None) is not None:
            log.info("ring %s is copied again", name)
        self.copied_bytes += copied
        if copier.lag_bytes == 0:
            self._drained_at[name] = time.monotonic()
        return copied

    def _pause(self) -> float:
        if any(copier.wants_sync for copier in self._copiers.values()):
            return SYNC_SECONDS
        return BUSY_SECONDS if time.monotonic() - self._busy_at < 1.0 else IDLE_SECONDS

    def lag_seconds(self) -> float:
        """Since when a ring has not been empty, or a closed segment not Parquet; the longest of all."""
        now = time.monotonic()
        behind = (now - self._drained_at[name] for name, copier in self._copiers.items() if copier.lag_bytes)
        return max(*behind, self._builder.lag_seconds(time.time()), 0.0)

    def _tell_status(self) -> None:
        self._status_at = time.monotonic()
        lag = self.lag_seconds()
        self._adjust_priority(lag)
        status = {
            "pid": os.getpid(),
            "at": time.time(),
            "lag_seconds": round(lag, 3),
            "rings": {name: self._ring_status(copier) for name, copier in self._copiers.items()},
            "segments_waiting": self._builder.waiting,
            "copied_bytes": self.copied_bytes,
            "rows_built": self._builder.rows,
            "malformed_frames": self._builder.malformed,
            "damaged_segments": self._builder.damage,
            "failures": self.failures + self._builder.failures,
            "last_failure": self.last_failure or self._builder.last_failure,
        }
        making = self._settings.status_path.with_suffix(".making")
        try:
            making.write_text(json.dumps(status), encoding="utf-8")
            making.replace(self._settings.status_path)
        except OSError as problem:
            log.error("cannot write %s: %s", self._settings.status_path, problem)

    @staticmethod
    def _ring_status(copier: RingCopier) -> dict[str, object]:
        return {
            "lag_bytes": copier.lag_bytes,
            "fill": round(copier.lag_bytes / copier.capacity, 4),
            "unlogged": copier.unlogged,
            "sync_broken": copier.sync_broken,
        }

    def _adjust_priority(self, lag: float) -> None:
        """Below the workers, unless the record falls behind: then beside them, where the system lets us."""
        nice = 0 if lag > LATE_SECONDS else NICE
        for thread in (threading.main_thread(), self._builder.thread):
            with contextlib.suppress(PermissionError, ProcessLookupError):
                if thread.native_id is not None and os.getpriority(os.PRIO_PROCESS, thread.native_id) != nice:
                    os.setpriority(os.PRIO_PROCESS, thread.native_id, nice)

    # The end.

    @property
    def has_writers(self) -> bool:
        """Whether a process still commits to one of our rings."""
        return any(copier.has_writer for copier in self._copiers.values())

    def _drain(self) -> None:
        self._attach()
        for copier in self._copiers.values():
            while copier.step():
                pass

    def _close(self) -> None:
        for copier in self._copiers.values():
            copier.close_segment()
        if not self._builder.finish(BUILD_SECONDS):
            log.warning("%d segments are left for the next start", self._builder.waiting)
        self._tell_status()
        for copier in self._copiers.values():
            copier.close()
        self._copiers.clear()
