"""Desired state, its history and the audit, in SQLite or PostgreSQL: one code path through SQLAlchemy Core.

Every write compares and sets the head's number first. That decides between two writers, and holds the lock under which
the rest of the transaction appends to the audit's chain. Methods block; control calls them from a thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gateway.control.audit import BEGINNING, AuditEntry, AuditRow, chain
from gateway.control.desired_state import DesiredState, ModelState
from gateway.core.errors import Conflict, NotFound, Unavailable

FORMAT = 1

_metadata = MetaData()
_formats = Table(
    "control_format",
    _metadata,
    Column("name", String(32), primary_key=True),
    Column("format", Integer, nullable=False),
)
_head = Table(
    "desired_head",
    _metadata,
    Column("name", String(32), primary_key=True),
    Column("number", Integer, nullable=False),
)
_model_states = Table(
    "model_states",
    _metadata,
    Column("model", String(192), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("restores", Integer),  # number of the state that this one brought back
    Column("document", Text, nullable=False),
)
_counter_slots = Table(
    "counter_slots",
    _metadata,
    Column("model", String(192), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("slot", Integer, nullable=False, unique=True),
)
_audit = Table(
    "audit",
    _metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
_DESIRED = "desired"


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A state that a model has been in."""

    number: int
    at: str
    actor: str
    action: str
    restores: int | None
    state: ModelState


@dataclass(frozen=True, slots=True)
class Change:
    """The next desired state, and why."""

    number: int
    models: Mapping[str, ModelState]
    entry: AuditEntry
    restores: int | None = None
    counters: Mapping[tuple[str, str], int] | None = None


class StateStore:
    """The control database. Raises Unavailable when it cannot be reached or written."""

    def __init__(self, url: str) -> None:
        with _translated("open"):
            self._engine = create_engine(_with_driver(url))
            if self._engine.dialect.name == "sqlite":
                event.listen(self._engine, "connect", _prepare_sqlite)
            try:
                self._create()
            except BaseException:
                self._engine.dispose()
                raise

    def _create(self) -> None:
        with self._engine.begin() as db:
            _metadata.create_all(db)
            known = db.execute(select(_formats.c.format).where(_formats.c.name == _DESIRED)).scalar()
            if known is None:
                db.execute(insert(_formats).values(name=_DESIRED, format=FORMAT))
                db.execute(insert(_head).values(name=_DESIRED, number=0))
            elif known > FORMAT:
                raise Unavailable(f"the control database has format {known}, this release reads up to {FORMAT}")

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def load(self) -> DesiredState:
        """The newest desired state; the empty one, number 0, of a new database."""
        newest = select(_model_states.c.model, func.max(_model_states.c.number).label("number"))
        newest_of = newest.group_by(_model_states.c.model).subquery()
        rows = select(_model_states).join(
            newest_of,
            (_model_states.c.model == newest_of.c.model) & (_model_states.c.number == newest_of.c.number),
        )
        with _translated("read"), self._engine.connect() as db:
            number = db.execute(select(_head.c.number).where(_head.c.name == _DESIRED)).scalar_one()
            models = {row.model: ModelState.from_json(json.loads(row.document)) for row in db.execute(rows)}
        return DesiredState(number, models)

    def counters(self) -> dict[tuple[str, str], int]:
        """Counter slot of every version there ever was."""
        with _translated("read"), self._engine.connect() as db:
            return {(row.model, row.version): row.slot for row in db.execute(select(_counter_slots))}

    def replace(self, expected: int, change: Change) -> None:
        """Store the next state if the newest is still ``expected``, with its audit row, or nothing at all.

        Conflict if somebody else was first.
        """
        with _translated("write"), self._engine.begin() as db:
            head = update(_head).where(_head.c.name == _DESIRED, _head.c.number == expected)
            if db.execute(head.values(number=change.number)).rowcount != 1:
                raise Conflict(f"the desired state is not number {expected} any more", hint="look again, then repeat")
            at = _now()
            for model, state in change.models.items():
                row = {
                    "model": model,
                    "number": change.number,
                    "at": at,
                    "actor": change.entry.actor,
                    "action": change.entry.action,
                    "restores": change.restores,
                    "document": json.dumps(state.to_json()),
                }
                db.execute(insert(_model_states).values(row))
            self._store_counters(db, change.counters or {})
            _append_audit(db, at, change.entry)

    def _store_counters(self, db: Connection, counters: Mapping[tuple[str, str], int]) -> None:
        known = {(row.model, row.version) for row in db.execute(select(_counter_slots))}
        fresh = [
            {"model": model, "version": version, "slot": slot}
            for (model, version), slot in counters.items()
            if (model, version) not in known
        ]
        if fresh:
            db.execute(insert(_counter_slots), fresh)

    def note(self, entry: AuditEntry) -> None:
        """An audit row for what changed nothing, e.g. a refused attempt."""
        with _translated("write"), self._engine.begin() as db:
            db.execute(update(_head).where(_head.c.name == _DESIRED).values(number=_head.c.number))  # take the lock
            _append_audit(db, _now(), entry)

    def history(self, model: str) -> list[HistoryEntry]:
        """Every state of a model, oldest first."""
        query = select(_model_states).where(_model_states.c.model == model).order_by(_model_states.c.number)
        with _translated("read"), self._engine.connect() as db:
            return [
                HistoryEntry(
                    row.number,
                    row.at,
                    row.actor,
                    row.action,
                    row.restores,
                    ModelState.from_json(json.loads(row.document)),
                )
                for row in db.execute(query)
            ]

    def state_at(self, model: str, number: int) -> ModelState:
        """The state that a model got with ``number``. NotFound if it got none then."""
        key = (_model_states.c.model == model) & (_model_states.c.number == number)
        with _translated("read"), self._engine.connect() as db:
            document = db.execute(select(_model_states.c.document).where(key)).scalar()
        if document is None:
            raise NotFound(f"model {model} has no change number {number}", hint="`gateway traffic history` lists them")
        return ModelState.from_json(json.loads(document))

    def audit(self, limit: int | None = None) -> list[AuditRow]:
        """The newest rows, or all of them, oldest first."""
        query = select(_audit).order_by(_audit.c.sequence.desc()).limit(limit)
        with _translated("read"), self._engine.connect() as db:
            rows = [
                AuditRow(
                    row.sequence,
                    row.at,
                    AuditEntry(row.actor, row.action, row.target, row.outcome, json.loads(row.detail)),
                    row.previous_hash,
                    row.hash,
                )
                for row in db.execute(query)
            ]
        return rows[::-1]


def _append_audit(db: Connection, at: str, entry: AuditEntry) -> None:
    last = db.execute(select(_audit.c.sequence, _audit.c.hash).order_by(_audit.c.sequence.desc()).limit(1)).first()
    row = chain(last.sequence + 1 if last else 1, at, entry, last.hash if last else BEGINNING)
    db.execute(
        insert(_audit).values(
            sequence=row.sequence,
            at=at,
            actor=entry.actor,
            action=entry.action,
            target=entry.target,
            outcome=entry.outcome,
            detail=json.dumps(dict(entry.detail)),
            previous_hash=row.previous_hash,
            hash=row.hash,
        )
    )


def _with_driver(url: str) -> str:
    """The URL as people write it, with the driver that we bring."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if separator and scheme in ("postgresql", "postgres") else url


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The recorders' manifest lives in the same file: readers must not wait for writers, nor writers fail at once.
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA busy_timeout = 10000")
    cursor.close()


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise Conflict("somebody else changed the control database at the same moment") from error
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise Unavailable(f"cannot {doing} the control database: {reason}") from error
    except ImportError as error:  # the driver of the URL
        raise Unavailable(
            f"cannot {doing} the control database: {error}", hint="install onnx-gateway[postgres]"
        ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
