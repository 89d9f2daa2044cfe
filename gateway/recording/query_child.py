"""The short-lived process that answers one question about the record.

    python -m gateway.recording.query_child < question.json > answer

It gathers the record of the moment, lays views over it, takes every right from the database that it does not need any
more, and only then looks at the question. Standard output is one JSON line (``{"columns": {name: SQL type}}`` or
``{"error": {"code", "message", "hint"}}``), followed, where there are columns, by an Arrow IPC stream.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa

from gateway.core.errors import GatewayError, InvalidRequest
from gateway.recording.manifest import Gap, KnownLayout
from gateway.recording.moment import Place, read_moment
from gateway.recording.parquet import PartFile, part_name
from gateway.recording.unbuilt import tables_of
from gateway.recording.views import Source, relation_of_parts, view_statements

#: Rows that are in no part yet are held in memory up to this size; more go through Parquet files of the query's.
UNBUILT_IN_MEMORY = 256 << 20
#: Rows of an answer's batch: DuckDB computes so many at a time, however large they are.
BATCH_ROWS = 2048


def main() -> int:
    """The program. Exit code 1 = an error was told."""
    question = json.load(sys.stdin)
    answer = sys.stdout.buffer
    try:
        with ExitStack() as keep:
            _answer(question, answer, keep)
    except GatewayError as problem:
        told = {"error": {"code": problem.code, "message": problem.message, "hint": problem.hint}}
        answer.write(json.dumps(told).encode() + b"\n")
        return 1
    return 0


def _answer(question: dict[str, Any], answer: BinaryIO, keep: ExitStack) -> None:
    place = Place(Path(question["state_dir"]), question["database_url"], tuple(map(Path, question["ring_folders"])))
    scratch = Path(question["scratch"])
    database = keep.enter_context(_open(question, scratch))
    lay_out_record(database, place, scratch, keep)
    _lock(database, [place.state_dir / "log", scratch])
    with _faults_told():
        relation = _ask(database, question["sql"])
        columns = {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}
        reader = relation.to_arrow_reader(BATCH_ROWS)
        answer.write(json.dumps({"columns": columns}).encode() + b"\n")
        with pa.ipc.new_stream(answer, reader.schema) as stream:
            for batch in reader:
                stream.write_batch(batch)


# The database: everything it may touch first, then nothing else.


def _open(question: dict[str, Any], scratch: Path) -> duckdb.DuckDBPyConnection:
    settings = {
        "memory_limit": question["memory_limit"],
        "threads": question["threads"],
        "temp_directory": str(scratch / "spill"),
        "max_temp_directory_size": question["spill_limit"],
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        # Long texts: a batch may hold more than 2 GiB of them.
        "arrow_large_buffer_size": True,
    }
    database = duckdb.connect(":memory:", config=settings)
    # Names in a query are the views', never variables of this program.
    database.execute("SET python_enable_replacements = false")
    database.execute("SET TimeZone = 'UTC'")
    return database


def _lock(database: duckdb.DuckDBPyConnection, folders: Sequence[Path]) -> None:
    database.execute("SET allowed_directories = $folders", {"folders": [str(folder) for folder in folders]})
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")


def _ask(database: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation:
    statements = database.extract_statements(sql)
    if len(statements) != 1 or statements[0].type is not duckdb.StatementType.SELECT:
        kinds = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise InvalidRequest(f"exactly one SELECT is answered, not {kinds}", hint="the record is only read here")
    return database.sql(statements[0].query)


@contextlib.contextmanager
def _faults_told() -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as problem:
        raise InvalidRequest(
            f"the query needs more memory than it may have: {problem}", hint="ask for less, or raise --memory"
        ) from problem
    except duckdb.Error as problem:
        raise InvalidRequest(str(problem)) from problem


# The record, as relations.


def lay_out_record(database: duckdb.DuckDBPyConnection, place: Place, scratch: Path, keep: ExitStack) -> None:
    """Create the views over everything that is recorded now; ``scratch`` takes what does not fit in memory."""
    contents, stretches = read_moment(place, keep)
    sources = []
    for key, known in contents.layouts.items():
        paths = [str(place.state_dir / part.path) for part in contents.parts if part.layout == key]
        if paths:
            sources.append(Source(known.layout, known.first_version, relation_of_parts(paths)))
    told = {epoch: list(schemas) for epoch, schemas in contents.schemas.items()}
    for stretch in stretches:
        stretch.know(told.get(stretch.epoch, []))
    gaps = list(contents.gaps)
    sources += _unbuilt_sources(database, tables_of(stretches, gaps.append), scratch)
    words = database.execute("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'")
    for statement in view_statements(sources, [word for (word,) in words.fetchall()]):
        database.execute(statement)
    _create_gaps(database, gaps)


def _unbuilt_sources(
    database: duckdb.DuckDBPyConnection, tables: Iterable[tuple[KnownLayout, pa.Table]], scratch: Path
) -> Iterator[Source]:
    """What comes first is held in memory, up to UNBUILT_IN_MEMORY; what comes then is in files of ``scratch``."""
    held: dict[str, tuple[KnownLayout, list[pa.Table]]] = {}
    files: dict[str, tuple[KnownLayout, PartFile]] = {}
    size = 0
    for known, rows in tables:
        key = known.layout.key
        size += rows.nbytes
        if size <= UNBUILT_IN_MEMORY:
            held.setdefault(key, (known, []))[1].append(rows)
            continue
        if key not in files:
            files[key] = known, PartFile(scratch, part_name(known.layout, "unbuilt", "query"), known.layout)
        files[key][1].write(rows)
    for number, (known, batches) in enumerate(held.values()):
        database.register(f"unbuilt_{number}", pa.concat_tables(batches).unify_dictionaries())
        yield Source(known.layout, known.first_version, f"unbuilt_{number}")
    for known, file in files.values():
        file.finish()
        yield Source(known.layout, known.first_version, relation_of_parts([str(file.path)]))


def _create_gaps(database: duckdb.DuckDBPyConnection, gaps: Sequence[Gap]) -> None:
    database.execute("CREATE TABLE gaps (ring VARCHAR, lost BIGINT, first_ts TIMESTAMPTZ, last_ts TIMESTAMPTZ)")
    for gap in gaps:
        database.execute(
            "INSERT INTO gaps VALUES (?, ?, make_timestamptz(?), make_timestamptz(?))",
            [gap.ring, gap.lost, gap.first_unix_ns // 1000, gap.last_unix_ns // 1000],
        )


if __name__ == "__main__":
    sys.exit(main())
