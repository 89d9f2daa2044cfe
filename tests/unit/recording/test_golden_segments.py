"""Segments that earlier releases wrote are read for ever: one golden file for each format there was."""

import json
import shutil
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gateway.recording.manifest import Manifest, sqlite_url
from gateway.recording.moment import Place, read_moment
from gateway.recording.parquet import consume_segment
from gateway.recording.segments import Segment, SegmentHeader, SegmentName, segment_name
from gateway.recording.unbuilt import tables_of
from tests.reference import record_frames as oracle

GOLDEN = Path(__file__).parents[2] / "golden" / "segment-v1.seg"
NOON = datetime.fromisoformat("2026-11-23T02:13:20+00:00")


@pytest.fixture
def name(tmp_path):
    header = SegmentHeader.unpack(GOLDEN.read_bytes()[:128], GOLDEN)
    path = tmp_path / "segments" / segment_name(header.ring, header.epoch, header.start)
    path.parent.mkdir()
    shutil.copy(GOLDEN, path)
    return SegmentName(header.epoch, header.start, header.ring, path)


def check_rows(rows):
    rows = sorted(rows, key=lambda row: (row["prediction_id"], row["role"], row["row"]))
    assert [(row["prediction_id"].hex[-1], row["role"], row["row"]) for row in rows] == [
        ("1", "primary", 0), ("1", "primary", 1), ("1", "shadow", 0), ("1", "shadow", 1), ("2", "primary", 0),
    ]  # fmt: skip
    first, second, shadow, _, failed = rows
    common = {"model": "flights", "version": "2", "digest": "0" * 64, "ts": NOON, "snapshot": 7}
    for row in rows:
        assert {field: row[field] for field in common} == common
    assert (first["in_carrier"], first["in_distance"], first["out_p"]) == ("UA", 1.5, [0.25, 0.75])
    assert (second["in_carrier"], str(second["in_distance"]), second["out_p"]) == ("Zoë", "nan", [0.5, 0.5])
    assert (first["queue_ns"], first["infer_ns"], first["batch_rows"], first["rule"]) == (2000, 9000, 5, "sticky")
    assert (first["request_id"], first["caller"], first["protocol"]) == ("r-1", "127.0.0.1", "grpc")
    assert (first["trace_flags"], first["parent_span_id"]) == (1, bytes(range(1, 9)))
    assert (shadow["in_carrier"], shadow["rule"]) == (None, "shadow")
    assert json.loads(shadow["inputs_json"])["carrier"] == {
        "fingerprint": "1a3972d570e00c0315731ce8706f710c", "datatype": "BYTES", "shape": [2], "bytes": 14,
    }  # fmt: skip
    assert (failed["status"], failed["error"]) == ("INVALID_ARGUMENT", "tensor_mismatch: no such input")
    assert (failed["inputs_json"], failed["out_p"], failed["protocol"]) == ('{"nonsense":5}', None, "http")


def test_the_golden_segment_is_what_the_page_says(name):
    with Segment(name) as segment:
        frames = oracle.decode(bytes(segment.data), segment.epoch)
    kinds = [frame.kind for frame in frames]
    assert kinds == [oracle.SCHEMA, oracle.EXCHANGE, oracle.EXCHANGE, oracle.GAP, oracle.EXCHANGE]
    assert frames[3].gap[0] == 4


def test_the_golden_segment_is_read_where_it_lies(name, tmp_path):
    with ExitStack() as keep:
        _, stretches = read_moment(Place(tmp_path, sqlite_url(tmp_path), ()), keep)
        gaps = []
        ((_, rows),) = tables_of(stretches, gaps.append)
    check_rows(rows.to_pylist())
    assert [gap.lost for gap in gaps] == [4]


def test_the_golden_segment_becomes_a_part(name, tmp_path):
    manifest = Manifest.open(sqlite_url(tmp_path))
    assert consume_segment(name, tmp_path, manifest).rows == 5
    (part,) = manifest.contents().parts
    manifest.close()
    check_rows(pq.read_table(tmp_path / part.path, partitioning=None).to_pylist())
