"""One transaction makes parts and moves the stream, or nothing happens."""

import sqlite3

import pytest

from gateway._fast.record_frames import RecordSchema
from gateway.core.errors import Conflict, RecordCorrupt, Unavailable
from gateway.recording.layouts import Layout
from gateway.recording.manifest import Consumption, Contents, KnownLayout, Manifest, Part, sqlite_url
from tests.fast.record_makers import MLP

EPOCH = bytes(range(16))
SCHEMA = RecordSchema.new(*MLP)
LAYOUT = Layout.of(SCHEMA)


def part(name, rows=10):
    return Part(f"log/{name}.parquet", LAYOUT.key, "mlp", "2026-11-23", rows, 1000, 5, 9)


def consumption(start, end, *names):
    layouts = [KnownLayout(LAYOUT, "1")]
    return Consumption(EPOCH, "w0", start, end, [part(name) for name in names], layouts, [SCHEMA])


@pytest.fixture
def manifest(tmp_path):
    opened = Manifest.open(sqlite_url(tmp_path))
    yield opened
    opened.close()


def test_what_was_entered_is_there_with_its_layout_and_schema(manifest):
    manifest.consume(consumption(0, 100, "a", "b"))
    contents = manifest.contents()
    assert [one.path for one in contents.parts] == ["log/a.parquet", "log/b.parquet"]
    assert contents.layouts == {LAYOUT.key: KnownLayout(LAYOUT, "1")}
    assert contents.consumed == {EPOCH: 100}
    assert manifest.consumed(EPOCH) == 100
    assert [schema.id for schema in manifest.schemas(EPOCH)] == [SCHEMA.id]
    assert manifest.totals() == (20, {EPOCH: 100})


def test_a_stream_nobody_consumed_is_at_its_start(manifest):
    assert manifest.consumed(EPOCH) == 0
    assert manifest.contents() == Contents.nothing()


def test_a_stretch_that_does_not_begin_where_the_stream_is_enters_nothing(manifest):
    manifest.consume(consumption(0, 100, "a"))
    for start in (0, 50, 101):
        with pytest.raises(Conflict, match="consumed up to 100"):
            manifest.consume(consumption(start, 200, "b"))
    manifest.consume(consumption(100, 200, "c"))
    assert [one.path for one in manifest.contents().parts] == ["log/a.parquet", "log/c.parquet"]


def test_a_name_entered_twice_takes_the_whole_transaction_back(manifest):
    manifest.consume(consumption(0, 100, "a"))
    with pytest.raises(Unavailable, match="UNIQUE"):
        manifest.consume(consumption(100, 200, "b", "a"))
    assert manifest.consumed(EPOCH) == 100
    assert len(manifest.contents().parts) == 1


def test_parts_are_replaced_all_or_none(manifest):
    manifest.consume(consumption(0, 100, "a", "b"))
    with pytest.raises(Conflict, match="1 of 2"):
        manifest.replace([part("a"), part("gone")], part("merged", 20))
    assert manifest.totals()[0] == 20
    manifest.replace([part("a"), part("b")], part("merged", 20))
    assert [one.path for one in manifest.contents().parts] == ["log/merged.parquet"]
    assert manifest.files() == {"log/a.parquet", "log/b.parquet", "log/merged.parquet"}


def test_looking_makes_no_database(tmp_path):
    assert Manifest.existing(sqlite_url(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_others_holds_no_record_yet(tmp_path):
    sqlite3.connect(tmp_path / "gateway.db").execute("CREATE TABLE desired_state (x)").connection.close()
    assert Manifest.existing(sqlite_url(tmp_path)) is None


def test_a_database_that_is_none_is_unavailable(tmp_path):
    (tmp_path / "gateway.db").write_bytes(b"no database, but long enough to be one" * 100)
    with pytest.raises(Unavailable, match="not a database"):
        Manifest.open(sqlite_url(tmp_path))


def test_a_newer_format_is_refused(tmp_path, manifest):
    with sqlite3.connect(tmp_path / "gateway.db") as database:
        database.execute("UPDATE record_format SET format = 99")
    database.close()
    with pytest.raises(RecordCorrupt, match="format 99"):
        Manifest.open(sqlite_url(tmp_path))


def test_a_reader_waits_for_no_writer(tmp_path, manifest):
    manifest.consume(consumption(0, 100, "a"))
    other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert manifest.totals()[0] == 10
    other.close()


def test_a_layout_that_cannot_be_read_says_so():
    for text in ("", "{}", '{"model":"m","inputs":[[1]],"outputs":[]}'):
        with pytest.raises(RecordCorrupt):
            Layout.from_json(text)
    assert Layout.from_json(LAYOUT.json) == LAYOUT
