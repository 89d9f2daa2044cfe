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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa

from gateway.core.errors import GatewayError, InvalidRequest
from gateway.recording.manifest import Gap
from gateway.recording.moment import Place, Stretch, read_moment
from gateway.recording.parquet import PartBuilder
from gateway.recording.unbuilt import tables_of
from gateway.recording.views import Source, relation_of_parts, view_statements

#: Frames that are in no part yet are laid out in memory up to this size; more go through Parquet files of the query's.
UNBUILT_IN_MEMORY = 256 << 20


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
        reader = relation.to_arrow_reader()
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
    if sum(chunk.nbytes for stretch in stretches for chunk in stretch.chunks) <= UNBUILT_IN_MEMORY:
        more, gaps = _unbuilt_tables(database, stretches)
    else:
        more, gaps = _unbuilt_parts(stretches, scratch)
    words = database.execute("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'")
    for statement in view_statements([*sources, *more], [word for (word,) in words.fetchall()]):
        database.execute(statement)
    _create_gaps(database, [*contents.gaps, *gaps])


def _unbuilt_tables(
    database: duckdb.DuckDBPyConnection, stretches: Sequence[Stretch]
) -> tuple[list[Source], list[Gap]]:
    tables, gaps = tables_of(stretches)
    sources = []
    for number, (known, rows) in enumerate(tables):
        database.register(f"unbuilt_{number}", rows)
        sources.append(Source(known.layout, known.first_version, f"unbuilt_{number}"))
    return sources, gaps


def _unbuilt_parts(stretches: Sequence[Stretch], scratch: Path) -> tuple[list[Source], list[Gap]]:
    gaps = []
    with PartBuilder(scratch, "unbuilt") as builder:
        for stretch in stretches:
            sorter = builder.sorter(stretch.epoch, stretch.schemas.values())
            for chunk in stretch.chunks:
                builder.drain(sorter, chunk, 0)
            gaps += [Gap(stretch.ring, *gap) for gap in sorter.gaps]
        parts, layouts = builder.finish()
    sources = []
    for known in layouts:
        paths = [str(scratch / part.path) for part in parts if part.layout == known.layout.key]
        sources.append(Source(known.layout, known.first_version, relation_of_parts(paths)))
    return sources, gaps


def _create_gaps(database: duckdb.DuckDBPyConnection, gaps: Sequence[Gap]) -> None:
    database.execute("CREATE TABLE gaps (ring VARCHAR, lost BIGINT, first_ts TIMESTAMPTZ, last_ts TIMESTAMPTZ)")
    for gap in gaps:
        database.execute(
            "INSERT INTO gaps VALUES (?, ?, make_timestamptz(?), make_timestamptz(?))",
            [gap.ring, gap.lost, gap.first_unix_ns // 1000, gap.last_unix_ns // 1000],
        )


if __name__ == "__main__":
    sys.exit(main())
