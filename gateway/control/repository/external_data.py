"""Where an ONNX file says that tensors lie outside of it, read without the onnx package.

ONNX Runtime opens such files itself, so a model could name any file of the machine. Whoever loads a version checks the
names first: relative, and inside the version's folder after every link is followed.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from gateway.core.errors import LoadFailed

# Where tensors are found in onnx.proto: message → field number → message inside.
_NESTED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_VARINT, _FIXED_8, _BYTES, _FIXED_4 = 0, 1, 2, 5
_KEY, _VALUE = 1, 2  # of StringStringEntryProto


class _Truncated(Exception):
    """The bytes end inside a field, or are no protobuf."""


def external_data_files(onnx_file: Path) -> set[str]:
    """The ``location`` of every tensor kept outside of ``onnx_file``, as written.

    LoadFailed for a file that cannot be read, is empty, or mentions locations but is no protobuf.
    """
    try:
        with onnx_file.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            # Every outside tensor carries the key "location"; nearly all files have none, and need no walk.
            if content.find(b"location") < 0:
                return set()
            return set(_locations(content))
    except (OSError, ValueError) as error:  # mmap: ValueError for an empty file
        reason = "is empty" if isinstance(error, ValueError) else f"cannot be read: {error.strerror}"
        raise LoadFailed(f"{onnx_file.name} {reason}") from error
    except (_Truncated, UnicodeDecodeError) as error:
        raise LoadFailed(f"{onnx_file.name} is not an ONNX model, or is truncated") from error


def check_stays_inside(folder: Path, location: str) -> None:
    """LoadFailed unless ``location`` is a file inside ``folder``, links followed."""
    parts = PurePosixPath(location).parts
    if not parts or location.startswith("/") or "\\" in location or ".." in parts:
        raise LoadFailed(f"external data {location!r} leaves the version's folder; only files inside it are loaded")
    if any(part.startswith(".") for part in parts):
        raise LoadFailed(f"external data {location!r} is hidden; hidden files are not part of a version")
    target = (folder / location).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise LoadFailed(f"external data {location!r} is a link that leaves the version's folder")
    if not target.is_file():
        raise LoadFailed(f"external data {location!r} is missing")


def _locations(content: mmap.mmap) -> Iterator[str]:
    waiting = [("model", 0, len(content))]
    while waiting:
        message, start, end = waiting.pop()
        nested = _NESTED[message]
        for number, at, size in _length_delimited(content, start, end):
            inside = nested.get(number)
            if inside == "entry":
                entry = {
                    field: content[begin : begin + n] for field, begin, n in _length_delimited(content, at, at + size)
                }
                if entry.get(_KEY) == b"location":
                    yield entry.get(_VALUE, b"").decode("utf-8")
            elif inside is not None:
                waiting.append((inside, at, at + size))


def _length_delimited(content: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Field number, first byte and size of each field of bytes between ``at`` and ``end``; others are stepped over."""
    while at < end:
        tag, at = _varint(content, at, end)
        wire = tag & 7
        size = 0
        if wire == _VARINT:
            _, at = _varint(content, at, end)
        elif wire == _BYTES:
            size, at = _varint(content, at, end)
        elif wire in (_FIXED_8, _FIXED_4):
            at += 8 if wire == _FIXED_8 else 4
        else:
            raise _Truncated
        if at + size > end:
            raise _Truncated
        if wire == _BYTES:
            yield tag >> 3, at, size
        at += size


def _varint(content: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _Truncated
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Truncated
