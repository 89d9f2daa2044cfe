"""Asking the record: one SELECT, answered by a child process that can read the record and nothing else."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import json
import math
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from gateway.core.errors import DeadlineExceeded, GatewayError, InvalidRequest, Unavailable
from gateway.recording.moment import Place

_COMMAND = ["-m", "gateway.recording.query_child"]
_ERRORS = {kind.code: kind for kind in (InvalidRequest, Unavailable)}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query may cost."""

    memory: str = "1GB"
    spill: str = "4GB"
    threads: int = 2
    seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A query's result: Arrow batches that arrive while it runs, and the SQL type of each column."""

    columns: dict[str, str]
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]

    def objects(self) -> Iterator[dict[str, Any]]:
        """Each row as what JSON can hold: see :func:`plain`; columns of type JSON as what they say."""
        for batch in self.batches:
            for row in batch.to_pylist():
                yield {name: self._object(name, value) for name, value in row.items()}

    def _object(self, name: str, value: object) -> object:
        return json.loads(value) if self.columns[name] == "JSON" and isinstance(value, str) else plain(value)


@contextlib.contextmanager
def ask(place: Place, sql: str, limits: Limits | None = None) -> Iterator[Answer]:
    """Answer one SELECT over the record as it is now.

    Raises InvalidRequest (what is wrong with the question), DeadlineExceeded (it took longer than it may) and
    Unavailable (the record cannot be read, or the child was killed).
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="gateway-query-") as scratch, _Child(limits.seconds) as child:
        child.send(
            {
                "sql": sql,
                "state_dir": str(place.state_dir),
                "database_url": place.database_url,
                "ring_folders": [str(folder) for folder in place.ring_folders],
                "scratch": scratch,
                "memory_limit": limits.memory,
                "spill_limit": limits.spill,
                "threads": limits.threads,
            }
        )
        yield child.answer()


class _Child:
    """The answering process. However the question ends, it is gone afterwards."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._late = False

    def __enter__(self) -> Self:
        # Its errors are answers; what is on its standard error is for whoever debugs it, and passed through.
        self._process = subprocess.Popen([sys.executable, *_COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions, self._answers = self._process.stdin, self._process.stdout
        self._timer = threading.Timer(self._seconds, self._give_up)
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        self._answers.close()

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def send(self, question: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError), self._questions:
            self._questions.write(json.dumps(question).encode())

    def answer(self) -> Answer:
        head = self._answers.readline()
        if not head:
            raise self._broken_off()
        told = json.loads(head)
        if "error" in told:
            error = told["error"]
            raise _ERRORS.get(error["code"], GatewayError)(error["message"], hint=error["hint"])
        try:
            reader = pa.ipc.open_stream(self._answers)
        except pa.ArrowInvalid:
            raise self._broken_off() from None
        return Answer(told["columns"], reader.schema, self._batches(reader))

    def _batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except (pa.ArrowInvalid, OSError):
            raise self._broken_off() from None
        # A stream that ends because its writer died looks like one that ends.
        if self._process.wait() != 0:
            raise self._broken_off()

    def _broken_off(self) -> GatewayError:
        if self._late:
            return DeadlineExceeded(
                f"the query was not answered within {self._seconds:g} seconds", hint="ask for less, or raise --timeout"
            )
        return Unavailable(
            f"the query's process ended with {self._process.wait()}", hint="it may have run out of memory"
        )


def plain(value: object) -> object:
    """``value`` as JSON can hold it: times in ISO 8601, bytes in hex, NaN and infinities as null."""
    match value:
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    return _plain_scalar(value)


def _plain_scalar(value: object) -> object:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case decimal.Decimal():
            return float(value)
        case uuid.UUID() | datetime.timedelta():
            return str(value)
    return value
