"""The recorder: rings → segments here, segments → Parquet in a child process, so that building never lets a ring fill.

Nothing here waits for the child. Failures of the disk or the database are waited out: the frames stay in the
ring or the segments meanwhile, and how far behind we are is published for all to see.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway._fast.record_ring import ONLOOKER, RingReader
from gateway.recording.build_queue import BuildRule
from gateway.recording.builder import Builder, BuilderCommand
from gateway.recording.copier import OnFrames, RingCopier, Rotation
from gateway.recording.manifest import Manifest
from gateway.recording.segments import LOCK_NAME, list_segments

log = logging.getLogger(__name__)

#: Pauses between looks at the rings: after traffic, while somebody waits for a sync, and after none for a while.
BUSY_SECONDS = 0.005
SYNC_SECONDS = 0.0005
IDLE_SECONDS = 0.05
#: After a failed write.
RETRY_SECONDS = 0.25
STATUS_SECONDS = 1.0
#: With rings behind by more than this the recorder is as important as a worker. Segments that wait do not make it so:
#: it could do nothing about them.
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
    builder_command: BuilderCommand
    rings: tuple[str, ...] = ()
    """Names of its rings, none = all that there are; those whose file is not there yet are looked for each second."""
    index: int = 0
    """Recorder 0 also builds the segments of rings that are no more, and merges parts."""
    rotation: Rotation = field(default_factory=Rotation)
    doorbells: Mapping[str, int] = field(default_factory=dict)
    """Ring name → eventfd to ring when its synced position has moved."""
    on_frames: OnFrames | None = None
    """Shown all frames as they are copied: the exporter of spans."""
    build_rule: BuildRule = field(default_factory=BuildRule)

    @property
    def segments(self) -> Path:
        return self.state_dir / "segments"

    @property
    def status_path(self) -> Path:
        return self.state_dir / "run" / f"recorder-{self.index}.json"


class Recorder:
    """One recorder process: :meth:`run` until told to stop."""

    def __init__(self, settings: RecorderSettings) -> None:
        self._settings = settings
        self._builder = Builder(settings.builder_command, tidies=settings.index == 0, rule=settings.build_rule)
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
        self._builder.turn()
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

    def ring_lag_seconds(self) -> float:
        """Since when a ring has not been empty; the longest of all."""
        now = time.monotonic()
        behind = (now - self._drained_at[name] for name, copier in self._copiers.items() if copier.lag_bytes)
        return max(behind, default=0.0)

    def lag_seconds(self) -> float:
        """The same, or since when a closed segment has not been Parquet, if that is longer."""
        return max(self.ring_lag_seconds(), self._builder.lag_seconds())

    def _tell_status(self) -> None:
        self._status_at = time.monotonic()
        self._adjust_priority()
        status = {
            "pid": os.getpid(),
            "at": time.time(),
            "lag_seconds": round(self.lag_seconds(), 3),
            "rings": {name: self._ring_status(copier) for name, copier in self._copiers.items()},
            "segments_waiting": self._builder.waiting,
            "builder": {"pid": self._builder.pid, "idle": self._builder.idle},
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

    def _adjust_priority(self) -> None:
        """Below the workers, unless the rings fill: then beside them, where the system lets us."""
        nice = 0 if self.ring_lag_seconds() > LATE_SECONDS else NICE
        with contextlib.suppress(PermissionError):
            if os.getpriority(os.PRIO_PROCESS, 0) != nice:
                os.setpriority(os.PRIO_PROCESS, 0, nice)

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
