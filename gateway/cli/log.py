"""`gateway log`: ask the record. Works from the state directory alone, while the gateway runs and when it does not."""

from __future__ import annotations

import contextlib
import csv
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from gateway.cli import output
from gateway.cli.output import AsJson, tell
from gateway.core.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from gateway.recording.moment import Place
    from gateway.recording.query import Answer

app = typer.Typer(help="Ask the record of predictions.", no_args_is_help=True)

StateDir = Annotated[Path, typer.Option("--state-dir", help="The gateway's state directory.")]
Where = Annotated[str | None, typer.Option(help="SQL condition on the columns.")]
Memory = Annotated[str, typer.Option(help="Most memory the query may take.")]
Timeout = Annotated[float, typer.Option(help="Seconds after which the query is given up.", min=0.1)]
Row = dict[str, Any]

DEFAULT_STATE_DIR = Path("gateway-state")
TAIL_COLUMNS = ("ts", "prediction_id", "model", "version", "role", "status", "total_us", "inputs", "outputs")
FOLLOW_SECONDS = 0.5
#: Rows that `tail --follow` prints of one look; the others are counted.
FOLLOW_ROWS = 1000


@app.command(epilog='Example: gateway log query "SELECT version, count(*) AS n FROM predictions GROUP BY version"')
def query(
    sql: Annotated[str, typer.Argument(metavar="SELECT", help="One SELECT.")],
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
    memory: Memory = "1GB",
    timeout: Timeout = 300.0,
) -> None:
    """Answer one SELECT over `predictions`, `records` (with errors), `gaps`, or the view named after a model.

    Rows of a moment ago are there, whether they are in Parquet yet or not. See docs/formats.md for the columns.
    """
    with _asked(state_dir, sql, memory, timeout) as answer:
        _print_rows(answer.columns, answer.objects(), as_json=as_json)


@app.command(epilog="Example: gateway log show 01936d5e-7c1a-7c3e-9f6b-2d4c8a1b0e5f")
def show(
    prediction_id: Annotated[str, typer.Argument(metavar="ID", help="As in the reply's x-prediction-id.")],
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Everything recorded about one prediction: its rows, those of its shadows, its error."""
    sql = f"SELECT * FROM records WHERE prediction_id = '{_checked_id(prediction_id)}' ORDER BY role, version, row"
    with _asked(state_dir, sql) as answer:
        rows = list(answer.objects())
    if not rows:
        raise NotFound(f"there is no prediction {prediction_id} in the record of {state_dir}")
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        fields = [{"field": name, "value": _shown(value)} for name, value in row.items() if value is not None]
        output.show(fields, {"field": "FIELD", "value": "VALUE"}, as_json=False)
        print()


@app.command(epilog="Example: gateway log tail -n 20 -f")
def tail(
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the newest rows.")] = 10,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Then new rows, until Ctrl-C.")] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="One array; with --follow an object a line.")] = False,
) -> None:
    """The newest rows."""
    # First, so that no row falls between the two; those seen twice are told once.
    follower = _follower(state_dir) if follow else None
    order = "ORDER BY ts DESC, prediction_id DESC, row DESC"
    with _asked(state_dir, f"SELECT {', '.join(TAIL_COLUMNS)}, row FROM predictions {order} LIMIT {lines}") as answer:
        rows = list(answer.objects())[::-1]
    if follower is None:
        columns = {name: answer.columns[name] for name in TAIL_COLUMNS}
        _print_rows(columns, ({name: row[name] for name in columns} for row in rows), as_json=as_json)
        return
    _print_lines(rows, as_json=as_json)
    seen = {_identity(row) for row in rows}
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            new, more = follower(FOLLOW_ROWS)
            _print_lines([row for row in new if _identity(row) not in seen], as_json=as_json)
            if more:
                tell(f"… and {more} more rows")
            time.sleep(FOLLOW_SECONDS)


@app.command(epilog="Example: gateway log count --where \"status = 'OK' AND role = 'primary'\"")
def count(where: Where = None, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """How many rows there are: exact, and quick where there is no condition."""
    from gateway.recording.moment import count_rows  # noqa: PLC0415 - the database's libraries take a while to load

    if where is None:
        rows = count_rows(_place(state_dir))
    else:
        with _asked(state_dir, f"SELECT count(*) AS rows FROM predictions WHERE {_condition(where)}") as answer:
            rows = next(answer.objects())["rows"]
    if as_json:
        _print_json([{"count": rows}])
    else:
        print(rows)


@app.command(epilog="Example: gateway log export may.parquet --model flight_delay --where \"ts >= '2026-05-01'\"")
def export(
    file: Annotated[Path, typer.Argument(help="A .parquet, .csv or .jsonl file to be written.")],
    model: Annotated[str | None, typer.Option(help="One model's view with typed columns; else `predictions`.")] = None,
    where: Where = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    memory: Memory = "1GB",
    timeout: Timeout = 3600.0,
) -> None:
    """Write rows to a file."""
    write = _WRITERS.get(file.suffix)
    if write is None:
        raise InvalidRequest(f"{file} ends in {file.suffix!r}", hint=f"one of {', '.join(_WRITERS)} can be written")
    view = '"' + model.replace('"', '""') + '"' if model else "predictions"
    condition = f" WHERE {_condition(where)}" if where else ""
    with _asked(state_dir, f"SELECT * FROM {view}{condition}", memory, timeout) as answer:
        rows = write(file, answer)
    tell(f"{rows} rows in {file}")


# Asking.


def _place(state_dir: Path) -> Place:
    from gateway.recording.moment import Place  # noqa: PLC0415

    return Place.of(state_dir)


def _asked(
    state_dir: Path, sql: str, memory: str = "1GB", timeout: float = 300.0
) -> contextlib.AbstractContextManager[Answer]:
    from gateway.recording.query import Limits, ask  # noqa: PLC0415

    return ask(_place(state_dir), sql, Limits(memory=memory, seconds=timeout))


def _follower(state_dir: Path) -> Callable[[int], tuple[list[Row], int]]:
    from gateway.recording.unbuilt import Follower  # noqa: PLC0415

    return Follower(_place(state_dir)).poll


def _checked_id(prediction_id: str) -> UUID:
    try:
        return UUID(prediction_id)
    except ValueError:
        raise InvalidRequest(
            f"{prediction_id!r} is not a prediction id", hint="32 hex digits, as in the reply's x-prediction-id"
        ) from None


def _condition(where: str) -> str:
    # On a line of its own, so that a comment in it does not swallow the bracket.
    return f"({where}\n)"


def _identity(row: Row) -> tuple[str, int, str, str]:
    return row["prediction_id"], row["row"], row["role"], row["version"]


# Printing.


def _print_rows(columns: dict[str, str], rows: Iterable[Row], *, as_json: bool) -> None:
    if as_json:
        _print_json(rows)
    else:
        shown = [{name: _shown(value) for name, value in row.items()} for row in rows]
        output.show(shown, {name: name for name in columns}, as_json=False)


def _print_json(rows: Iterable[Row]) -> None:
    """One array, row by row: a large answer is never held whole."""
    separator = "[\n"
    for row in rows:
        print(separator, json.dumps(row, ensure_ascii=False), sep="", end="")
        separator = ",\n"
    print("[]" if separator == "[\n" else "\n]")


def _print_lines(rows: Iterable[Row], *, as_json: bool) -> None:
    for row in rows:
        chosen = {name: row[name] for name in TAIL_COLUMNS}
        words = json.dumps(chosen, ensure_ascii=False) if as_json else "  ".join(map(_shown, chosen.values()))
        print(words, flush=True)


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else output.cell(value)


# Files.


def _write_parquet(file: Path, answer: Answer) -> int:
    import pyarrow.parquet as pq  # noqa: PLC0415

    rows = 0
    with pq.ParquetWriter(file, answer.schema, compression="zstd") as writer:
        for batch in answer.batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _write_csv(file: Path, answer: Answer) -> int:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(answer.columns)
        return _count(writer.writerow([_csv_cell(row[name]) for name in answer.columns]) for row in answer.objects())


def _csv_cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _write_jsonl(file: Path, answer: Answer) -> int:
    with file.open("w", encoding="utf-8") as stream:
        return _count(stream.write(json.dumps(row, ensure_ascii=False) + "\n") for row in answer.objects())


def _count(done: Iterable[object]) -> int:
    return sum(1 for _ in done)


_WRITERS: dict[str, Callable[[Path, Answer], int]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
}
