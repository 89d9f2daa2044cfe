"""Copies one ring's committed frames to segments, at once and in order, and says when they are on disk."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway._fast.record_frames import RecordSchema, scan_frames, schema_at
from gateway._fast.record_ring import RECORDER, RingReader
from gateway.core.errors import RecordCorrupt
from gateway.recording.segments import Segment, SegmentName, SegmentWriter, list_segments, quarantine, sync_file

log = logging.getLogger(__name__)

#: Bytes copied in one step, so that several rings get their turns.
CHUNK_BYTES = 4 << 20

#: Shown whole frames that were just copied, with the schemas known so far, by id.
OnFrames = Callable[[memoryview, Mapping[int, RecordSchema]], None]


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a segment is closed and may become Parquet: at this size, or this old with something in it."""

    size: int = 64 << 20
    seconds: float = 60.0


class RingCopier:
    """The recorder of one ring. Frames are given free in the ring only after their bytes are in the segment."""

    def __init__(
        self,
        ring_path: Path,
        folder: Path,
        *,
        rotation: Rotation,
        on_closed: Callable[[SegmentName], None],
        consumed: Callable[[bytes], int] = lambda _epoch: 0,
        known: Callable[[bytes], Iterable[RecordSchema]] = lambda _epoch: (),
        doorbell: int | None = None,
        on_frames: OnFrames | None = None,
        verify: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the ring over where its last recorder left it.

        ``consumed`` and ``known`` tell of a stream's past (the manifest); ``on_closed`` gets every segment that will
        not grow any more, those that are there already first; ``doorbell`` is an eventfd to ring after each sync,
        a failed one too; ``on_frames`` is shown what was copied, and must not keep it; ``verify`` checks every
        frame's CRC before it is copied (a ring that a power failure may have torn).
        Raises Conflict where another recorder has the ring, Unavailable, RecordCorrupt.
        """
        self.name = ring_path.stem
        self._folder = folder
        self._rotation = rotation
        self._on_closed = on_closed
        self._doorbell = doorbell
        self._on_frames = on_frames
        self._clock = clock
        self._verify = verify
        self._reader = RingReader(ring_path, RECORDER)
        self.epoch = self._reader.epoch
        self._schemas = {schema.id: schema for schema in known(self.epoch)}
        self._segment: SegmentWriter | None = None
        self._opened_at = 0.0
        self._unsynced: list[Path] = []
        self.sync_broken = False
        self._resume(consumed(self.epoch))
        self._began_at = self._reader.position

    # Where the last recorder stopped.

    def _resume(self, consumed: int) -> None:
        # A recorder killed between its write and moving the cursor has left frames in a segment that are still in the
        # ring: the segment's end, not the cursor, says what is safe.
        end = max(self._reader.position, consumed)
        for name in list_segments(self._folder).get(self.epoch, ()):
            end = max(end, self._take_over(name))
        self._schemas.update((schema.id, schema) for schema in self._reader.schemas())
        self._reader.advance(min(end, self._reader.head))

    def _take_over(self, name: SegmentName) -> int:
        """Close a segment of the last recorder; return the position past its last whole frame."""
        try:
            with Segment(name) as segment:
                self._schemas.update((schema.id, schema) for schema in segment.schemas())
                end = segment.start + segment.scan().end
        except RecordCorrupt as problem:
            log.warning("%s; moved to %s", problem, quarantine(name.path))
            return 0
        if end == name.start:
            # Killed before its first frame was whole. Gone before it is closed: its name may be needed again.
            name.path.unlink()
            return end
        self._unsynced.append(name.path)
        self._on_closed(name)
        return end

    # The copy.

    def step(self) -> int:
        """Copy what is there, up to CHUNK_BYTES; returns how much.

        Raises OSError (nothing was given free then) and RecordCorrupt (the ring's bytes are no frames).
        """
        frames = self._reader.read(CHUNK_BYTES)
        assert isinstance(frames, memoryview)
        copied = self._copy(frames) if frames.nbytes else 0
        if copied and self._on_frames is not None:
            self._on_frames(frames[:copied], self._schemas)
        frames.release()
        if copied:
            self._reader.advance(self._reader.position + copied)
        self._sync_if_wanted()
        self._rotate_if_due()
        return copied

    def _copy(self, frames: memoryview) -> int:
        position = self._reader.position
        scan = scan_frames(frames, self.epoch, position, verify=self._verify)
        if scan.damaged and scan.end == 0:
            raise RecordCorrupt(f"ring {self.name} holds no frame at position {position}")
        frames = frames[: scan.end]
        if self._segment is None:
            self._segment = SegmentWriter(self._folder, self.name, self.epoch, position, self._schemas.values())
            self._opened_at = self._clock()
        self._segment.append(frames)
        for schema_id, offset, _ in scan.schemas:
            if schema_id not in self._schemas:
                self._schemas[schema_id] = schema_at(frames, offset)
        return scan.end

    # On disk.

    def _sync_if_wanted(self) -> None:
        if self.sync_broken or self._reader.sync_wanted <= self._reader.synced:
            return
        position = self._reader.position
        try:
            self._sync()
        except OSError as problem:
            # The kernel may have dropped the pages that it could not write, and would call the next sync a success.
            self.sync_broken = True
            self._reader.publish_sync_failed()
            log.error(
                "ring %s: %s; requests of models with durability fsync are refused until this recorder is restarted",
                self.name,
                problem,
            )
        else:
            self._publish_synced(position)
        if self._doorbell is not None:
            os.write(self._doorbell, (1).to_bytes(8, "little"))

    def _publish_synced(self, position: int) -> None:
        if self._reader.sync_failed:
            # Only our own segments count: of our predecessor's, for the same reason, no sync tells anything any more.
            self._reader.end_sync_failure(self._began_at)
        self._reader.publish_synced(position)

    def _sync(self) -> None:
        for path in self._unsynced:
            # Gone, perhaps this very moment: it is Parquet, which was synced before the segment went.
            with contextlib.suppress(FileNotFoundError):
                sync_file(path)
        self._unsynced.clear()
        if self._segment is not None:
            self._segment.sync()

    # The next segment.

    def _rotate_if_due(self) -> None:
        if self._segment is None or self._segment.size == 0:
            return
        old = self._clock() - self._opened_at >= self._rotation.seconds
        if old or self._segment.size >= self._rotation.size:
            self.close_segment()

    def close_segment(self) -> None:
        """Let what has been copied become Parquet."""
        if self._segment is None:
            return
        segment, self._segment = self._segment, None
        segment.close()
        self._unsynced.append(segment.path)
        self._on_closed(SegmentName(self.epoch, segment.start, self.name, segment.path))

    def close(self) -> None:
        """Give the ring back; the segment at hand is closed."""
        self.close_segment()
        del self._reader

    # What others ask.

    @property
    def wants_sync(self) -> bool:
        """Whether somebody is waiting for frames to be on disk, or was at the last sync."""
        return self._reader.sync_wanted > 0 and not self.sync_broken

    @property
    def lag_bytes(self) -> int:
        """Committed bytes that are not in a segment yet."""
        return self._reader.head - self._reader.position

    @property
    def capacity(self) -> int:
        return self._reader.capacity

    @property
    def position(self) -> int:
        return self._reader.position

    @property
    def unlogged(self) -> int:
        return self._reader.unlogged

    @property
    def has_writer(self) -> bool:
        """Whether a process still commits to the ring."""
        return self._reader.has_writer
