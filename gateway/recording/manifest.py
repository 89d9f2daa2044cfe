"""The manifest: which Parquet files are the record, and how far each ring's stream has become Parquet.

A part exists when, and only when, a row of ``record_parts`` names it. Segments turn into parts in one transaction that
adds the parts and moves the stream's ``consumed`` position, and that only takes place if ``consumed`` still is where
the segment begins: so every frame becomes rows exactly once, whoever dies when, and however often it is tried again.
Compaction swaps parts in one transaction likewise; files that it replaced stay a while for queries under way.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway._fast.record_frames import RecordSchema
from gateway.core.errors import Conflict, RecordCorrupt, Unavailable
from gateway.recording.layouts import Layout

MANIFEST_FORMAT = 1

_metadata = sa.MetaData()
_format = sa.Table("record_format", _metadata, sa.Column("format", sa.Integer, primary_key=True))
_layouts = sa.Table(
    "record_layouts",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),  # in the order in which they were first met
    sa.Column("key", sa.String(16), nullable=False, unique=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("first_version", sa.Text, nullable=False),
)
_parts = sa.Table(
    "record_parts",
    _metadata,
    sa.Column("path", sa.Text, primary_key=True),  # relative to the state directory
    sa.Column("layout", sa.String(16), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("date", sa.String(10), nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("first_ts", sa.BigInteger, nullable=False),  # microseconds since 1970
    sa.Column("last_ts", sa.BigInteger, nullable=False),
    sa.Index("record_parts_by_model", "model", "date"),
)
_streams = sa.Table(
    "record_streams",
    _metadata,
    sa.Column("epoch", sa.String(32), primary_key=True),
    sa.Column("ring", sa.Text, nullable=False),
    sa.Column("consumed", sa.BigInteger, nullable=False),
)
_schemas = sa.Table(
    "record_schemas",
    _metadata,
    sa.Column("epoch", sa.String(32), primary_key=True),
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
)
_gaps = sa.Table(
    "record_gaps",
    _metadata,
    sa.Column("epoch", sa.String(32), nullable=False),
    sa.Column("ring", sa.Text, nullable=False),
    sa.Column("lost", sa.BigInteger, nullable=False),
    sa.Column("first_unix_ns", sa.BigInteger, nullable=False),
    sa.Column("last_unix_ns", sa.BigInteger, nullable=False),
)
_damage = sa.Table(
    "record_damage",
    _metadata,
    sa.Column("epoch", sa.String(32), nullable=False),
    sa.Column("ring", sa.Text, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("quarantined", sa.Text, nullable=False),
)
_replaced = sa.Table(
    "record_replaced",
    _metadata,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("since_unix_ns", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of the record; ``path`` is relative to the state directory."""

    path: str
    layout: str
    model: str
    date: str
    rows: int
    bytes: int
    first_ts: int
    last_ts: int


@dataclass(frozen=True, slots=True)
class KnownLayout:
    """A layout and the version that first had it."""

    layout: Layout
    first_version: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Exchanges of a ring that were answered without a frame."""

    ring: str
    lost: int
    first_unix_ns: int
    last_unix_ns: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a stream that were not what was written, and where the file that held them was kept."""

    ring: str
    position: int
    bytes: int
    quarantined: str


@dataclass(frozen=True, slots=True)
class Contents:
    """The manifest at one moment."""

    parts: tuple[Part, ...]
    layouts: dict[str, KnownLayout]
    consumed: dict[bytes, int]
    schemas: dict[bytes, tuple[RecordSchema, ...]]
    gaps: tuple[Gap, ...]
    damage: tuple[Damage, ...]

    @staticmethod
    def nothing() -> Contents:
        """Of a gateway that has recorded nothing yet."""
        return Contents((), {}, {}, {}, (), ())


@dataclass(frozen=True, slots=True)
class Consumption:
    """What one stretch of a stream became: the argument of :meth:`Manifest.consume`."""

    epoch: bytes
    ring: str
    start: int
    end: int
    parts: Sequence[Part]
    layouts: Sequence[KnownLayout]
    schemas: Sequence[RecordSchema]
    gaps: Sequence[Gap] = ()
    damage: Sequence[Damage] = ()


def sqlite_url(state_dir: Path) -> str:
    """URL of the control database where none is configured."""
    return f"sqlite:///{state_dir / 'gateway.db'}"


class Manifest:
    """The record's tables in the control database (SQLite, or PostgreSQL by URL)."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)

    @staticmethod
    def open(url: str) -> Manifest:
        """The manifest, its tables made if they are not there. Raises Unavailable, RecordCorrupt (a newer format)."""
        manifest = Manifest(url)
        with manifest._transaction() as connection:
            _metadata.create_all(connection)
            stored = connection.execute(sa.select(_format.c.format)).scalar()
            if stored is None:
                connection.execute(_format.insert().values(format=MANIFEST_FORMAT))
            elif stored > MANIFEST_FORMAT:
                raise RecordCorrupt(
                    f"the record's manifest has format {stored}; this build reads up to {MANIFEST_FORMAT}",
                    hint="use the newer gateway that wrote it",
                )
        return manifest

    @staticmethod
    def existing(url: str) -> Manifest | None:
        """The manifest of a database that may not be there, or may have no record yet; changes nothing."""
        place = sa.make_url(url)
        if place.get_backend_name() == "sqlite" and not Path(place.database or "").exists():
            return None
        manifest = Manifest(url)
        with manifest._reading() as connection:
            return manifest if sa.inspect(connection).has_table(_parts.name) else None

    # Segments become parts.

    def consume(self, stretch: Consumption) -> None:
        """Parts and position in one transaction. Raises Conflict where the stream is not at ``stretch.start``."""
        epoch = stretch.epoch.hex()
        with self._transaction() as connection:
            at = connection.execute(sa.select(_streams.c.consumed).where(_streams.c.epoch == epoch)).scalar()
            if (at or 0) != stretch.start:
                raise Conflict(
                    f"stream {epoch} of ring {stretch.ring} is consumed up to {at or 0}, not {stretch.start}: "
                    "another recorder was there first"
                )
            self._advance(connection, epoch, stretch, known=at is not None)
            _insert_missing(connection, _layouts, _layouts.c.key, map(_layout_row, stretch.layouts))
            for schema in stretch.schemas:
                _insert_schema(connection, epoch, schema)
            _insert(connection, _parts, map(_part_row, stretch.parts))
            _insert(connection, _gaps, ({"epoch": epoch, **_fields(gap)} for gap in stretch.gaps))
            _insert(connection, _damage, ({"epoch": epoch, **_fields(damage)} for damage in stretch.damage))

    @staticmethod
    def _advance(connection: Connection, epoch: str, stretch: Consumption, *, known: bool) -> None:
        if known:
            move = _streams.update().where(_streams.c.epoch == epoch).values(consumed=stretch.end)
            connection.execute(move)
        else:
            connection.execute(_streams.insert().values(epoch=epoch, ring=stretch.ring, consumed=stretch.end))

    def consumed(self, epoch: bytes) -> int:
        """Position up to which the stream is Parquet."""
        query = sa.select(_streams.c.consumed).where(_streams.c.epoch == epoch.hex())
        with self._reading() as connection:
            return connection.execute(query).scalar() or 0

    def schemas(self, epoch: bytes) -> list[RecordSchema]:
        """The schemas that the consumed part of the stream has told of."""
        query = sa.select(_schemas.c.document).where(_schemas.c.epoch == epoch.hex())
        with self._reading() as connection:
            return [RecordSchema.from_json(document.encode()) for document in connection.execute(query).scalars()]

    # Parts become fewer.

    def compactable(self, smaller_than: int, at_least: int) -> list[list[Part]]:
        """Groups of ``at_least`` or more parts of one layout and day, each below ``smaller_than`` bytes, by age."""
        query = sa.select(_parts).where(_parts.c.bytes < smaller_than)
        groups: dict[tuple[str, str], list[Part]] = {}
        with self._reading() as connection:
            for row in connection.execute(query.order_by(_parts.c.first_ts, _parts.c.path)):
                groups.setdefault((row.layout, row.date), []).append(Part(**row._mapping))
        return [group for group in groups.values() if len(group) >= at_least]

    def layout(self, key: str) -> Layout:
        """The layout of that key."""
        with self._reading() as connection:
            return Layout.from_json(
                connection.execute(sa.select(_layouts.c.document).where(_layouts.c.key == key)).scalar_one()
            )

    def replace(self, old: Sequence[Part], new: Part) -> None:
        """``new`` in the place of ``old``. Raises Conflict where one of these is no part any more."""
        paths = [part.path for part in old]
        since = time.time_ns()
        with self._transaction() as connection:
            gone = connection.execute(_parts.delete().where(_parts.c.path.in_(paths))).rowcount
            if gone != len(paths):
                raise Conflict(f"{len(paths) - gone} of {len(paths)} parts to be merged were merged before")
            _insert(connection, _parts, [_part_row(new)])
            _insert(connection, _replaced, ({"path": path, "since_unix_ns": since} for path in paths))

    def replaced_before(self, unix_ns: int) -> list[str]:
        """Files that were replaced before that time and may go now."""
        query = sa.select(_replaced.c.path).where(_replaced.c.since_unix_ns < unix_ns)
        with self._reading() as connection:
            return list(connection.execute(query).scalars())

    def forget_replaced(self, paths: Sequence[str]) -> None:
        """These files are gone."""
        with self._transaction() as connection:
            connection.execute(_replaced.delete().where(_replaced.c.path.in_(paths)))

    # Asked by queries and recovery.

    def contents(self) -> Contents:
        """Everything, as of one moment."""
        with self._reading() as connection:
            layouts = {
                row.key: KnownLayout(Layout.from_json(row.document), row.first_version)
                for row in connection.execute(sa.select(_layouts).order_by(_layouts.c.id))
            }
            parts = connection.execute(sa.select(_parts).order_by(_parts.c.first_ts, _parts.c.path))
            schemas: dict[bytes, list[RecordSchema]] = {}
            for row in connection.execute(sa.select(_schemas)):
                schemas.setdefault(bytes.fromhex(row.epoch), []).append(RecordSchema.from_json(row.document.encode()))
            return Contents(
                parts=tuple(Part(**row._mapping) for row in parts),
                layouts=layouts,
                consumed=_consumed(connection),
                schemas={epoch: tuple(told) for epoch, told in schemas.items()},
                gaps=tuple(
                    Gap(row.ring, row.lost, row.first_unix_ns, row.last_unix_ns)
                    for row in connection.execute(sa.select(_gaps))
                ),
                damage=tuple(
                    Damage(row.ring, row.position, row.bytes, row.quarantined)
                    for row in connection.execute(sa.select(_damage))
                ),
            )

    def totals(self) -> tuple[int, dict[bytes, int]]:
        """Rows in all parts, and how far each stream is among them; as of one moment."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(_parts.c.rows), 0))).scalar_one()
            return int(rows), _consumed(connection)

    def files(self) -> set[str]:
        """Paths of all files that are parts or were, and are still known."""
        with self._reading() as connection:
            parts = connection.execute(sa.select(_parts.c.path)).scalars()
            return {*parts, *connection.execute(sa.select(_replaced.c.path)).scalars()}

    def close(self) -> None:
        self._engine.dispose()

    def _reading(self) -> AbstractContextManager[Connection]:
        return self._transaction(read=True)

    @contextmanager
    def _transaction(self, *, read: bool = False) -> Iterator[Connection]:
        try:
            with self._engine.execution_options(gateway_read=read).begin() as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise Unavailable(f"the control database cannot be used: {_reason(problem)}") from problem


def _reason(problem: SQLAlchemyError) -> str:
    return str(getattr(problem, "orig", None) or problem).splitlines()[0]


def _engine(url: str) -> Engine:
    # PostgreSQL by the driver that the [postgres] extra brings.
    engine = sa.create_engine(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url))
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own idea of when a transaction begins is off: ours begin where we say (see _begin_immediate).
    connection.isolation_level = None
    for pragma in ("busy_timeout = 10000", "journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    # Compare-and-set needs the write lock from the first read on; who only reads waits for nobody.
    read = connection.get_execution_options().get("gateway_read", False)
    connection.exec_driver_sql("BEGIN" if read else "BEGIN IMMEDIATE")


def _consumed(connection: Connection) -> dict[bytes, int]:
    streams = connection.execute(sa.select(_streams.c.epoch, _streams.c.consumed))
    return {bytes.fromhex(row.epoch): row.consumed for row in streams}


def _insert(connection: Connection, table: sa.Table, rows: Iterable[dict[str, Any]]) -> None:
    values = list(rows)
    if values:
        connection.execute(table.insert(), values)


def _insert_missing(
    connection: Connection, table: sa.Table, key: sa.Column[Any], rows: Iterable[dict[str, Any]]
) -> None:
    for row in rows:
        if connection.execute(sa.select(key).where(key == row[key.name])).first() is None:
            connection.execute(table.insert().values(**row))


def _insert_schema(connection: Connection, epoch: str, schema: RecordSchema) -> None:
    row = {"epoch": epoch, "id": f"{schema.id:016x}", "document": schema.json.decode()}
    known = sa.select(_schemas.c.id).where(_schemas.c.epoch == epoch, _schemas.c.id == row["id"])
    if connection.execute(known).first() is None:
        connection.execute(_schemas.insert().values(**row))


def _layout_row(known: KnownLayout) -> dict[str, Any]:
    return {"key": known.layout.key, "document": known.layout.json, "first_version": known.first_version}


def _part_row(part: Part) -> dict[str, Any]:
    return _fields(part)


def _fields(record: Part | Gap | Damage) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}
