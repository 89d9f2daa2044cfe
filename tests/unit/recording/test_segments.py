"""Segments: what is written is read back; what is damaged is said to be so."""

import os
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway._fast.record_frames import RecordSchema
from gateway._fast.record_ring import ONLOOKER, RingReader
from gateway.core.errors import RecordCorrupt
from gateway.recording.segments import (
    HEADER_BYTES,
    Segment,
    SegmentHeader,
    SegmentName,
    SegmentWriter,
    list_segments,
    quarantine,
    segment_name,
)
from tests.fast.record_makers import MLP, commit_numbers, mlp_ring

EPOCH = bytes(range(16))


def frames(tmp_path, count):
    writer, handle = mlp_ring(tmp_path)
    commit_numbers(writer, handle, range(count))
    return memoryview(RingReader(writer.path, ONLOOKER).read(1 << 30)), writer.epoch


@given(st.text(max_size=16), st.binary(min_size=16, max_size=16), *[st.integers(0, 2**63 - 1)] * 3)
def test_a_header_survives_its_bytes(ring, epoch, start, created, preamble):
    ring = ring.replace("\0", "")
    header = SegmentHeader(ring, epoch, start, created, preamble)
    assert SegmentHeader.unpack(header.pack(), Path("x")) == header


@given(st.integers(0, HEADER_BYTES - 5), st.integers(0, 7))
def test_a_header_with_any_flipped_bit_is_refused(at, bit):
    data = bytearray(SegmentHeader("w0", EPOCH, 7, 8, 9).pack())
    data[at] ^= 1 << bit
    with pytest.raises(RecordCorrupt):
        SegmentHeader.unpack(bytes(data), Path("x"))


def test_a_header_that_is_cut_is_refused():
    with pytest.raises(RecordCorrupt, match="does not begin with"):
        SegmentHeader.unpack(SegmentHeader("w0", EPOCH, 7, 8, 9).pack()[:-1], Path("x"))


def test_names_of_a_stream_sort_by_position_and_strangers_are_passed_over(tmp_path):
    for start in (5, 40, 1000, 0):
        (tmp_path / segment_name("w-0", EPOCH, start)).touch()
    for stranger in (".lock", "notes.txt", "w0-zz-1.seg", "w0-00-1.seg", "x.seg", f"w0-{EPOCH.hex()}-x.seg"):
        (tmp_path / stranger).touch()
    (stream,) = list_segments(tmp_path).values()
    assert [(name.ring, name.start) for name in stream] == [("w-0", 0), ("w-0", 5), ("w-0", 40), ("w-0", 1000)]


def test_a_folder_that_is_not_there_holds_no_segments(tmp_path):
    assert list_segments(tmp_path / "none") == {}


def test_frames_come_back_with_the_schemas_told_before_them(tmp_path):
    data, epoch = frames(tmp_path, 10)
    early = RecordSchema.new("early", *MLP[1:])
    writer = SegmentWriter(tmp_path, "w0", epoch, 0, [early])
    writer.append(data)
    writer.sync()
    writer.close()
    ((name,),) = list_segments(tmp_path).values()
    with Segment(name) as segment:
        assert bytes(segment.data) == bytes(data)
        assert segment.scan().exchanges == 10
        assert [schema.model for schema in segment.schemas()] == ["early", "mlp"]


def test_a_segment_that_ends_inside_its_preamble_is_refused(tmp_path):
    writer = SegmentWriter(tmp_path, "w0", EPOCH, 0, [RecordSchema.new(*MLP)])
    writer.close()
    os.truncate(writer.path, HEADER_BYTES + 8)
    with pytest.raises(RecordCorrupt, match="ends before its stream begins"):
        Segment(SegmentName(EPOCH, 0, "w0", writer.path))


def test_a_reader_sees_a_segment_as_long_as_it_was_when_opened(tmp_path):
    data, epoch = frames(tmp_path, 10)
    half = len(data) // 16 * 8
    writer = SegmentWriter(tmp_path, "w0", epoch, 0, [])
    writer.append(data[:half])
    ((name,),) = list_segments(tmp_path).values()
    with Segment(name) as segment:
        writer.append(data[half:])
        assert len(segment.data) == half
        assert 0 < segment.scan().exchanges < 10
    with Segment(name) as segment:
        assert segment.scan().exchanges == 10
    writer.close()


def limited_to(size, work):
    """Exit code of ``work`` in a child whose files may not grow past ``size`` bytes."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_write_cut_short_by_a_full_disk_counts_for_nothing_and_is_written_over(tmp_path):
    data, epoch = frames(tmp_path, 100)
    writer = SegmentWriter(tmp_path, "w0", epoch, 0, [])

    def fill():
        try:
            writer.append(data)
        except OSError:
            return 0 if writer.size == 0 and os.stat(writer.path).st_size == 5000 else 2
        return 1

    assert limited_to(5000, fill) == 0
    writer.append(data)
    writer.close()
    ((name,),) = list_segments(tmp_path).values()
    with Segment(name) as segment:
        assert segment.scan().exchanges == 100


def test_no_file_stays_where_not_even_the_header_fits(tmp_path):
    def begin():
        try:
            SegmentWriter(tmp_path, "w0", EPOCH, 0, [])
        except OSError:
            return 0
        return 1

    assert limited_to(10, begin) == 0
    assert list(tmp_path.iterdir()) == []


def test_quarantine_keeps_the_file_where_nobody_reads_it(tmp_path):
    path = tmp_path / segment_name("w0", EPOCH, 0)
    path.write_bytes(b"damaged")
    assert quarantine(path).read_bytes() == b"damaged"
    assert list_segments(tmp_path) == {}
