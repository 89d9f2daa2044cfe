"""The record as of one moment: the manifest's parts, and every later frame, read where it lies.

A frame is in exactly one of three places that follow each other in its stream: before the manifest's ``consumed``
position it is rows of a part; from there to the segments' end it is in a segment; after that it is in the ring. Reading
in this order, each place from where the one before ended, gives every row once, while a recorder goes on moving frames
from right to left. Where it moved one out of our sight, we begin again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gateway._fast.record_frames import RecordSchema, leading_schemas, scan_frames
from gateway._fast.record_ring import ONLOOKER, RingReader
from gateway.core.errors import RecordCorrupt, Unavailable
from gateway.recording.locations import configured_database, ring_folders
from gateway.recording.manifest import Contents, Manifest
from gateway.recording.segments import Segment, SegmentName, list_segments

log = logging.getLogger(__name__)

#: How often a reading may begin again; a recorder moves a segment about once a second at most.
ATTEMPTS = 50
_RING_BYTES = 4 << 20

Read = TypeVar("Read")


@dataclass
class Stretch:
    """The frames of one stream that are in no part, in order."""

    epoch: bytes
    ring: str
    end: int
    """Position past the last of them."""
    chunks: list[memoryview] = field(default_factory=list)
    rows: int = 0
    schemas: dict[int, RecordSchema] = field(default_factory=dict)
    """Those told before the first chunk."""

    def know(self, schemas: Sequence[RecordSchema]) -> None:
        self.schemas.update((schema.id, schema) for schema in schemas)

    def take(self, frames: memoryview, rows: int) -> None:
        self.chunks.append(frames)
        self.rows += rows


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway's record is."""

    state_dir: Path
    database_url: str
    ring_folders: tuple[Path, ...]

    @staticmethod
    def of(state_dir: Path, database_url: str | None = None) -> Place:
        """The places that belong to a state directory. Raises Unavailable where there is no such directory."""
        if not state_dir.is_dir():
            raise Unavailable(f"there is no state directory {state_dir}", hint="name the gateway's with --state-dir")
        return Place(state_dir, database_url or configured_database(state_dir), tuple(ring_folders(state_dir)))

    @property
    def segments(self) -> Path:
        return self.state_dir / "segments"


def read_moment(place: Place, keep: ExitStack) -> tuple[Contents, list[Stretch]]:
    """Everything that is recorded now. What the stretches point to lives as long as ``keep``. Raises Unavailable."""

    def read(manifest: Manifest | None, attempt: ExitStack) -> tuple[Contents, list[Stretch]]:
        contents = manifest.contents() if manifest else Contents.nothing()
        check = _Consumed(place, manifest, contents.consumed)
        return contents, _read_stretches(place, contents.consumed, attempt, check)

    return _until_still(place, keep, read)


def count_rows(place: Place) -> int:
    """Rows of the whole record, without looking at one that is in a part. Raises Unavailable."""

    def count(manifest: Manifest | None, attempt: ExitStack) -> int:
        rows, consumed = manifest.totals() if manifest else (0, {})
        check = _Consumed(place, manifest, consumed)
        return rows + sum(stretch.rows for stretch in _read_stretches(place, consumed, attempt, check))

    with ExitStack() as keep:
        return _until_still(place, keep, count)


def _until_still(place: Place, keep: ExitStack, read: Callable[[Manifest | None, ExitStack], Read]) -> Read:
    """``read``, again and again until no frame was moved from under it."""
    for _ in range(ATTEMPTS):
        manifest = Manifest.existing(place.database_url)
        with contextlib.suppress(_Moved), ExitStack() as attempt:
            if manifest is not None:
                attempt.callback(manifest.close)
            result = read(manifest, attempt)
            keep.enter_context(attempt.pop_all())
            return result
    raise Unavailable("the recorder moved the newest rows on faster than they could be read; ask again")


class _Moved(Exception):
    pass


class _Consumed:
    """Where frames are missing between what is consumed and the next segment: lost, or a part by now?"""

    def __init__(self, place: Place, manifest: Manifest | None, consumed: dict[bytes, int]) -> None:
        self._place = place
        self._manifest = manifest
        self._consumed = consumed

    def __call__(self, epoch: bytes) -> None:
        manifest = self._manifest or Manifest.existing(self._place.database_url)
        if manifest is not None and manifest.consumed(epoch) != self._consumed.get(epoch, 0):
            raise _Moved


def read_from(place: Place, positions: dict[bytes, int], keep: ExitStack) -> list[Stretch]:
    """The frames of every stream from these positions on (0 where none is given), as far as they are in no part yet.

    For following: frames that became a part since the last look are missing.
    """

    def read(_manifest: Manifest | None, attempt: ExitStack) -> list[Stretch]:
        return _read_stretches(place, positions, attempt, lambda _epoch: None)

    return _until_still(place, keep, read)


def _read_stretches(
    place: Place, positions: dict[bytes, int], keep: ExitStack, on_missing: Callable[[bytes], None]
) -> list[Stretch]:
    # Rings first: a ring that is replaced while we read is replaced by one whose frames are younger than this moment.
    rings = _open_rings(place.ring_folders)
    streams = list_segments(place.segments)
    stretches = []
    for epoch in {**streams, **rings}:
        name = streams[epoch][0].ring if epoch in streams else Path(rings[epoch].path).stem
        stretch = Stretch(epoch, name, positions.get(epoch, 0))
        for segment in streams.get(epoch, ()):
            if not _read_segment(stretch, segment, keep):
                on_missing(epoch)
        if epoch in rings:
            _read_ring(stretch, rings[epoch])
        stretches.append(stretch)
    return stretches


def _open_rings(folders: Sequence[Path]) -> dict[bytes, RingReader]:
    rings = {}
    for path in (path for folder in folders if folder.is_dir() for path in folder.glob("*.ring")):
        with contextlib.suppress(Unavailable, RecordCorrupt):  # gone since, or not made to its end: it has no frames
            reader = RingReader(path, ONLOOKER)
            rings[reader.epoch] = reader
    return rings


def _read_segment(stretch: Stretch, name: SegmentName, keep: ExitStack) -> bool:
    """Take the segment's frames from the stretch's end on; False where frames before the segment are missing."""
    try:
        segment = keep.enter_context(Segment(name))
    except FileNotFoundError:
        raise _Moved from None
    except RecordCorrupt as problem:
        log.warning("%s", problem)
        return True
    whole = name.start <= stretch.end
    stretch.know(leading_schemas(segment.preamble, name.epoch))
    offset = max(stretch.end - name.start, 0)
    while 0 <= offset < len(segment.data):
        scan = scan_frames(segment.data, name.epoch, name.start + offset, offset)
        if scan.end > offset:
            stretch.take(segment.data[offset : scan.end], scan.rows)
            stretch.end = name.start + scan.end
        offset = segment.next_whole(scan.end)
    return whole


def _read_ring(stretch: Stretch, ring: RingReader) -> None:
    if stretch.end > ring.head:
        return
    ring.seek(stretch.end)
    while not ring.is_overtaken():
        frames = memoryview(ring.read(_RING_BYTES))
        if not frames.nbytes:
            # Only where no segment told them: a ring remembers the schemas of its newest third, a segment all of them.
            stretch.know([schema for schema in ring.schemas() if schema.id not in stretch.schemas])
            return
        stretch.take(frames, scan_frames(frames, ring.epoch, stretch.end, verify=False).rows)
        stretch.end += frames.nbytes
        ring.seek(stretch.end)
    raise _Moved  # the recorder has brought it to a segment that was not there when we looked
