"""Segments: stretches of one ring's stream in files, until they are Parquet.

A segment is a header, the schemas told before it began (so that it can be read alone), and the stream's own bytes from
``start`` on, frame behind frame, exactly as they lay in the ring. A segment only ever grows at its end, by the one
recorder that writes it; nobody shortens or rewrites one. docs/formats.md describes the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gateway._fast.record_frames import (
    FrameScan,
    RecordSchema,
    find_frame,
    leading_schemas,
    scan_frames,
    schema_at,
    schema_frame,
)
from gateway.core.errors import RecordCorrupt

SEGMENT_FORMAT = 1
HEADER_BYTES = 128
_MAGIC = b"GWSEGM\r\n"
_HEADER = struct.Struct("<8sII16sQqQ64sI4x")  # magic format header_bytes epoch start created preamble ring crc
_SUFFIX = ".seg"
#: Recorders hold a shared lock of this file in the segments' folder, recovery an exclusive one.
LOCK_NAME = ".lock"
#: Builder i holds byte i of this file exclusively, for as long as it lives; recovery all of it.
BUILDERS_LOCK_NAME = ".builders"
assert _HEADER.size == HEADER_BYTES


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first 128 bytes of a segment."""

    ring: str
    epoch: bytes
    start: int
    created_unix_ns: int
    preamble_bytes: int

    def pack(self) -> bytes:
        """As stored, with the CRC (zlib's) of what precedes it."""
        return self._packed(zlib.crc32(self._packed(0)[: HEADER_BYTES - 8]))

    def _packed(self, crc: int) -> bytes:
        name = self.ring.encode()[:64]
        return _HEADER.pack(
            _MAGIC, SEGMENT_FORMAT, HEADER_BYTES, self.epoch, self.start, self.created_unix_ns, self.preamble_bytes,
            name, crc,
        )  # fmt: skip

    @staticmethod
    def unpack(data: bytes, path: Path) -> SegmentHeader:
        """The header at the front of ``data``. Raises RecordCorrupt."""
        if len(data) < HEADER_BYTES or not data.startswith(_MAGIC):
            raise RecordCorrupt(f"{path} is not a segment: it does not begin with a segment's header")
        _, version, size, epoch, start, created, preamble, ring, crc = _HEADER.unpack_from(data)
        if version != SEGMENT_FORMAT or size != HEADER_BYTES:
            raise RecordCorrupt(f"the segment {path} has format {version}; this build reads {SEGMENT_FORMAT}")
        header = SegmentHeader(ring.rstrip(b"\0").decode("utf-8", "replace"), epoch, start, created, preamble)
        if crc != zlib.crc32(data[: HEADER_BYTES - 8]):
            raise RecordCorrupt(f"the header of the segment {path} is damaged")
        return header


def segment_name(ring: str, epoch: bytes, start: int) -> str:
    """File name of a segment; names of one stream sort by position."""
    return f"{ring}-{epoch.hex()}-{start:020d}{_SUFFIX}"


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """What a segment's file name tells without opening it."""

    epoch: bytes
    start: int
    ring: str
    path: Path

    @staticmethod
    def of(path: Path) -> SegmentName | None:
        """The parts of the name; None for a file that is no segment."""
        pieces = path.name.removesuffix(_SUFFIX).rsplit("-", 2)
        if not path.name.endswith(_SUFFIX) or len(pieces) != 3:
            return None
        try:
            epoch, start = bytes.fromhex(pieces[1]), int(pieces[2])
        except ValueError:
            return None
        return SegmentName(epoch, start, pieces[0], path) if len(epoch) == 16 else None


def list_segments(folder: Path) -> dict[bytes, list[SegmentName]]:
    """The segments in ``folder`` by epoch, each list in the order of the stream."""
    streams: dict[bytes, list[SegmentName]] = {}
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:
        return streams
    for name in sorted(filter(None, map(SegmentName.of, paths))):
        streams.setdefault(name.epoch, []).append(name)
    return streams


class SegmentWriter:
    """One growing segment. Raises OSError as the system gives it: the caller decides whether to wait or to give up."""

    def __init__(self, folder: Path, ring: str, epoch: bytes, start: int, schemas: Iterable[RecordSchema]) -> None:
        preamble = b"".join(schema_frame(schema, epoch) for schema in schemas)
        header = SegmentHeader(ring, epoch, start, time.time_ns(), len(preamble))
        self.path = folder / segment_name(ring, epoch, start)
        self.start = self.position = start
        self._data_offset = HEADER_BYTES + len(preamble)
        self._named_on_disk = False
        # Truncated: a file of this name can only be left from an attempt that never got a whole frame behind it.
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(self._fd, memoryview(header.pack() + preamble), 0)
        except BaseException:
            os.close(self._fd)
            os.unlink(self.path)
            raise

    @property
    def size(self) -> int:
        """Bytes of the stream in it."""
        return self.position - self.start

    def append(self, frames: memoryview) -> None:
        """Write whole frames at the end. After an OSError nothing counts as written; the next try goes over it."""
        _write_all(self._fd, frames, self._data_offset + self.size)
        self.position += frames.nbytes

    def sync(self) -> None:
        """Everything written so far is on disk when this returns."""
        if self._named_on_disk:
            os.fdatasync(self._fd)
        else:
            sync_file(self.path)
            self._named_on_disk = True

    def close(self) -> None:
        os.close(self._fd)


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    # A full disk cuts a write short before it refuses one.
    while data.nbytes:
        written = os.pwrite(fd, data, offset)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        data, offset = data[written:], offset + written


def sync_file(path: Path) -> None:
    """Bring a file's bytes and its name to disk."""
    for target, flags in ((path, os.O_RDONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
        fd = os.open(target, flags | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def quarantine(path: Path) -> Path:
    """Move a damaged file out of the way, where a person can look at it; returns where."""
    folder = path.parent / "quarantine"
    folder.mkdir(mode=0o700, exist_ok=True)
    return path.rename(folder / path.name)


class Segment:
    """A segment open for reading, mapped as long as it was when it was opened. Use as a context manager."""

    def __init__(self, name: SegmentName) -> None:
        self.name = name
        with open(name.path, "rb") as file:
            self.header = SegmentHeader.unpack(file.read(HEADER_BYTES), name.path)
            size = os.fstat(file.fileno()).st_size
            if size < HEADER_BYTES + self.header.preamble_bytes:
                raise RecordCorrupt(f"the segment {name.path} ends before its stream begins")
            self._map = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
        whole = memoryview(self._map)
        self.preamble = whole[HEADER_BYTES : HEADER_BYTES + self.header.preamble_bytes]
        self.data = whole[HEADER_BYTES + self.header.preamble_bytes :]
        self._whole = whole

    @property
    def start(self) -> int:
        return self.header.start

    @property
    def epoch(self) -> bytes:
        return self.header.epoch

    def scan(self, position: int | None = None, *, verify: bool = True) -> FrameScan:
        """Walk the frames from ``position`` (default: the start) to the first that is not whole."""
        offset = 0 if position is None else position - self.start
        return scan_frames(self.data, self.epoch, self.start + offset, offset, verify=verify)

    def next_whole(self, offset: int) -> int:
        """Offset of the next whole frame after the damage at ``offset``; -1 if there is none: a torn tail."""
        return find_frame(self.data, self.epoch, self.start, offset + 8)

    def schemas(self) -> Iterator[RecordSchema]:
        """Every schema that the segment tells of, those told before it began first."""
        yield from leading_schemas(self.preamble, self.epoch)
        for _, offset, _ in self.scan(verify=False).schemas:
            yield schema_at(self.data, offset)

    def close(self) -> None:
        for view in (self.preamble, self.data, self._whole):
            view.release()
        # Slices that others took keep the mapping; it then goes with the last of them.
        with contextlib.suppress(BufferError):
            self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
