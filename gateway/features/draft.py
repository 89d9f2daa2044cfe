"""A first ``features.yaml`` for a file of rows: types inferred, and for each column a decision that says its reason.

It is where work begins, not where it ends: what a column means stands in no file.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gateway.config.features import FeatureSpec, parse_features
from gateway.config.features_schema import schema_comment
from gateway.core.errors import FeatureInputInvalid
from gateway.features.page_writer import Comments, commented_text
from gateway.features.table_file import MISSING_FIELDS, Progress, is_parquet

#: So many texts that differ stand in the page as categories; up to the second bound, in a vocabulary file.
FEW_TEXTS = 50
MANY_TEXTS = 100_000
#: A text must come back so often, on average, to be worth a place in a vocabulary.
LEAST_REPEATS = 5
#: Elements that more texts than that are hashed into.
BUCKETS = 256
#: Shorter files say nothing about identifiers.
LEAST_ROWS = 20
_LONG_TEXT = 40  # characters on average, of which texts are more likely prose than a category
_IDENTIFIER = re.compile(r"(?:^|_)(?:id|key|uuid|guid|index|unnamed: 0)$", re.IGNORECASE)
_ISO_INSTANT = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2})?)?"
_KINDS = {
    "BOOLEAN": "bool", "TINYINT": "int", "SMALLINT": "int", "INTEGER": "int", "BIGINT": "int", "UTINYINT": "int",
    "USMALLINT": "int", "UINTEGER": "int", "UBIGINT": "float", "HUGEINT": "float", "FLOAT": "float", "DOUBLE": "float",
    "VARCHAR": "string", "DATE": "timestamp", "TIMESTAMP": "timestamp", "TIMESTAMP_S": "timestamp",
    "TIMESTAMP_MS": "timestamp", "TIMESTAMP_NS": "timestamp", "TIMESTAMP WITH TIME ZONE": "timestamp",
    "VARCHAR[]": "strings",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """What a file says of a column. ``kind`` is that of the page, "" for a type that no column takes."""

    name: str
    type: str
    kind: str
    rows: int
    missing: int
    #: Values; of lists, texts in them.
    distinct: int
    low: Any = None
    high: Any = None
    #: Of numbers, and of instants as text.
    median: Any = None
    mean: float = 0.0
    deviation: float = 0.0
    #: The value that comes most often.
    mode: Any = None
    mean_length: float = 0.0
    #: The texts that differ, in order; none if they are too many, or one has a line break.
    texts: tuple[str, ...] = ()
    #: Whether instants differ in more than their day.
    has_clock: bool = False

    @property
    def present(self) -> int:
        """Rows that have a value."""
        return self.rows - self.missing

    def filled(self) -> tuple[float, float]:
        """Mean and standard deviation with the median in place of what is missing."""
        gap = self.missing / self.rows
        median = float(self.median)
        mean = (1 - gap) * self.mean + gap * median
        spread = (1 - gap) * (self.deviation**2 + (self.mean - mean) ** 2) + gap * (median - mean) ** 2
        return mean, math.sqrt(spread)


@dataclass(frozen=True)
class Draft:
    """The page with its comments, and the vocabulary files (name → bytes) that go beside it."""

    spec: FeatureSpec
    comments: Comments
    vocabularies: dict[str, bytes]

    @property
    def text(self) -> str:
        """The page."""
        return commented_text(self.spec, self.comments)

    def write(self, path: Path) -> None:
        """Write the page to ``path`` and its vocabularies into the same folder."""
        for name, lines in self.vocabularies.items():
            (path.parent / name).write_bytes(lines)
        path.write_text(schema_comment(path) + self.text, encoding="utf-8")


def draft(
    path: Path,
    *,
    output: str = "input",
    scale: bool = False,
    leave_out: Collection[str] = (),
    progress: Progress = lambda _: None,
) -> Draft:
    """A page for the rows of a CSV or Parquet file; with ``scale``, numbers are brought to mean 0 and variance 1.

    ``leave_out`` names columns that are no features, such as the target. FeatureInputInvalid if the file cannot be
    read, has no rows or not those columns, or if no column of it is of use.
    """
    drafting = _Drafting(scale)
    for column in _columns_of(path, leave_out, progress):
        drafting.column(column)
    if not drafting.features:
        reasons = "; ".join(drafting.left_out) or "it has none"
        raise FeatureInputInvalid(f"{path}: no column is of use: {reasons}")
    document = {"columns": drafting.columns, "outputs": {output: {"features": drafting.features}}}
    head = [
        f"Drafted from {path.name}: check every decision against what the columns mean.",
        *(f"Left out: {reason}" for reason in drafting.left_out),
    ]
    features = {(output, i): comment for i, comment in enumerate(drafting.comments)}
    return Draft(parse_features(document), Comments(head, drafting.column_comments, features), drafting.vocabularies)


# Decisions.


@dataclass
class _Drafting:
    scale: bool
    columns: dict[str, str] = field(default_factory=dict)
    features: list[Any] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    column_comments: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    vocabularies: dict[str, bytes] = field(default_factory=dict)

    def column(self, column: Column) -> None:
        reason = _reason_to_leave_out(column)
        if reason:
            self.left_out.append(f"{column.name}, {reason}")
            return
        self.columns[column.name] = column.kind
        share = f", {100 * column.missing / column.rows:.3g} % missing" if column.missing else ""
        self.column_comments[column.name] = f"{column.distinct} distinct values in {column.rows} rows{share}"
        {"string": self.text, "strings": self.texts, "timestamp": self.instant}.get(column.kind, self.number)(column)

    def feature(self, column: Column, steps: list[Any], comment: str) -> None:
        self.features.append({"column": column.name, "steps": steps} if steps else column.name)
        self.comments.append(comment)

    def number(self, column: Column) -> None:
        if column.kind == "bool":
            steps = [_impute(column, "most_frequent", column.mode)] if column.missing else []
            self.feature(column, steps, "as it is" + (", the commoner value where it is missing" if steps else ""))
            return
        steps = [_impute(column, "median", column.median)] if column.missing else []
        words = ["the median where it is missing" if steps else "as it is"]
        mean, deviation = column.filled()
        if self.scale and deviation > 0:
            steps.append({"standard_scale": {"mean": mean, "scale": deviation}})
            words.append("then to mean 0 and variance 1")
        if column.kind == "int" and column.distinct <= FEW_TEXTS:
            words.append(f"only {column.distinct} values: if they are codes, one_hot instead")
        self.feature(column, steps, ", ".join(words))

    def text(self, column: Column) -> None:
        steps = [_impute(column, "most_frequent", column.mode)] if column.missing else []
        words = ["the commonest where it is missing, then "] if steps else [""]
        outcomes = {"unknown": "ignore", "missing": "ignore"}
        if column.texts and column.distinct <= FEW_TEXTS:
            steps.append({"one_hot": {"categories": list(column.texts), **outcomes}})
            words.append("one element a category; none for others")
        elif column.texts and column.present >= LEAST_REPEATS * column.distinct:
            file = self.vocabulary(column)
            steps.append({"ordinal": {"vocabulary": file, "unknown": column.distinct, "missing": column.distinct}})
            words.append(f"its place in the vocabulary, {column.distinct} for others: for an embedding, or trees")
        else:
            steps.append({"hash": {"buckets": BUCKETS}})
            words.append(f"hashed, as too many values ({column.distinct}) come too seldom for a vocabulary")
        self.feature(column, steps, "".join(words))

    def texts(self, column: Column) -> None:
        if column.texts:
            steps: list[Any] = [{"multi_hot": {"categories": list(column.texts), "unknown": "ignore"}}]
            self.feature(column, steps, "one element a text that may be in the list; none for others")
        else:
            steps = [{"hash": {"buckets": BUCKETS}}]
            self.feature(column, steps, f"each text hashed, as there are {column.distinct} that differ")

    def vocabulary(self, column: Column) -> dict[str, str]:
        lines = ("\n".join(column.texts) + "\n").encode()
        digest = hashlib.sha256(lines).hexdigest()
        name = f"{re.sub(r'[^A-Za-z0-9_]', '_', column.name)[:64]}.{digest[:8]}.txt"
        self.vocabularies[name] = lines
        return {"file": name, "sha256": digest}

    def instant(self, column: Column) -> None:
        filled = [_impute(column, "median", column.median)] if column.missing else []
        parts = [("month", 12), ("day_of_week", 7), *([("minute_of_day", 1440)] if column.has_clock else [])]
        for part, period in parts:
            steps = [*filled, {"timestamp_part": {"part": part}}, {"cyclic": {"period": period}}]
            self.feature(column, steps, f"{part}, in UTC, as a place on a circle: its end is next to its beginning")


def _impute(column: Column, strategy: str, value: Any) -> dict[str, Any]:
    if column.kind == "int" and isinstance(value, float) and value.is_integer():
        value = int(value)
    return {"impute": {"strategy": strategy, "value": value}}


def _reason_to_leave_out(column: Column) -> str:
    if not column.kind:
        return f"as no column of a page takes {column.type}"
    if not column.present or not column.distinct:
        return "as every value is missing"
    if column.distinct == 1:
        return "as it has one value alone" + (" where it is there" if column.missing else "")
    if column.kind == "string" and column.mean_length > _LONG_TEXT and column.distinct > FEW_TEXTS:
        return "as it looks like prose: a vectorizer for it is to be fitted, see count_vectorize and tfidf_vectorize"
    if _is_identifier(column):
        return "as it looks like an identifier: every value is another one"
    return ""


def _is_identifier(column: Column) -> bool:
    if column.rows < LEAST_ROWS or column.distinct < column.present:
        return False
    if column.kind == "int":
        return bool(_IDENTIFIER.search(column.name)) or column.high - column.low + 1 == column.present
    return column.kind == "string"


# Facts.


def _columns_of(path: Path, leave_out: Collection[str], progress: Progress) -> Iterator[Column]:
    import duckdb  # noqa: PLC0415 - serving does without

    try:
        with (
            TemporaryDirectory(prefix="onnx-gateway-") as scratch,
            duckdb.connect(config=_settings(scratch)) as connection,
        ):
            _load(connection, path)
            described = connection.execute("DESCRIBE rows").fetchall()
            names = [name for name, *_ in described]
            if stray := sorted(set(leave_out) - set(names)):
                raise FeatureInputInvalid(f"{path} has no column {', '.join(stray)}; it has {', '.join(names)}")
            for i, (name, type_, *_) in enumerate(described):
                if name in leave_out:
                    continue
                progress((i + 1) / (len(described) + 1))  # reading is one of the steps
                yield _facts(connection, name, type_)
    except duckdb.Error as error:
        # Its first line says what is wrong; the others are about its own options.
        raise FeatureInputInvalid(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    progress(1.0)


def _settings(scratch: str) -> dict[str, Any]:
    # What does not fit into memory goes to the scratch folder; nothing is fetched from anywhere.
    never = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    return {"temp_directory": scratch, **never}


def _load(connection: Any, path: Path) -> None:
    if is_parquet(path):
        connection.execute("CREATE TABLE rows AS SELECT * FROM read_parquet(?)", [str(path)])
    else:
        # The whole file decides on the types, not its beginning.
        connection.execute(
            "CREATE TABLE rows AS SELECT * FROM read_csv(?, header = true, sample_size = -1, nullstr = ?)",
            [str(path), MISSING_FIELDS],
        )
    if not connection.execute("SELECT count(*) FROM rows").fetchone()[0]:
        raise FeatureInputInvalid(f"{path} has no rows")


def _facts(connection: Any, name: str, type_: str) -> Column:
    def ask(query: str, *arguments: object) -> tuple[Any, ...]:
        answer: tuple[Any, ...] = connection.execute(query, arguments).fetchone()
        return answer

    quoted = '"' + name.replace('"', '""') + '"'
    kind = "float" if type_.startswith("DECIMAL") else _KINDS.get(type_, "")
    if kind == "string" and _are_instants(quoted, ask):
        kind = "timestamp"
    if not kind:
        return Column(name, type_, "", rows=1, missing=1, distinct=0)
    value = f"(SELECT {_VALUES[kind].format(quoted)} AS v FROM rows)"
    rows, present, distinct = ask(f"SELECT count(*), count(v), count(DISTINCT v) FROM {value}")
    column = Column(name, type_, kind, rows, rows - present, distinct)
    return replace(column, **_OWN_FACTS[kind](value, distinct, ask)) if present else column


#: One row of an answer.
Ask = Callable[..., tuple[Any, ...]]
#: A column as values of a kind, NULL where they are missing; instants by their text, which has their offset from UTC.
_VALUES = {
    "bool": "{0}",
    "int": "CAST({0} AS BIGINT)",
    "float": "CASE WHEN isfinite(CAST({0} AS DOUBLE)) THEN CAST({0} AS DOUBLE) END",
    "string": "nullif({0}, '')",
    "strings": "CASE WHEN len({0}) > 0 THEN {0} END",
    "timestamp": "CAST(nullif(CAST({0} AS VARCHAR), '') AS TIMESTAMP)",
}


def _are_instants(quoted: str, ask: Ask) -> bool:
    texts = f"(SELECT nullif({quoted}, '') AS v FROM rows)"
    wellformed = "count(*) FILTER (regexp_full_match(v, ?) AND TRY_CAST(v AS TIMESTAMP) IS NOT NULL)"
    present, instants = ask(f"SELECT count(v), {wellformed} FROM {texts}", _ISO_INSTANT)
    return bool(present) and present == instants


def _number_facts(values: str, _distinct: int, ask: Ask) -> dict[str, Any]:
    low, high, median, mean, deviation = ask(f"SELECT min(v), max(v), median(v), avg(v), stddev_pop(v) FROM {values}")
    return {"low": low, "high": high, "median": median, "mean": mean, "deviation": deviation}


def _mode(values: str, ask: Ask) -> Any:
    return ask(f"SELECT v FROM {values} WHERE v IS NOT NULL GROUP BY v ORDER BY count(*) DESC, v LIMIT 1")[0]


def _bool_facts(values: str, _distinct: int, ask: Ask) -> dict[str, Any]:
    return {"mode": _mode(values, ask)}


def _text_facts(values: str, distinct: int, ask: Ask) -> dict[str, Any]:
    texts: list[str] = []
    if distinct <= MANY_TEXTS:
        (texts,) = ask(f"SELECT list(DISTINCT v ORDER BY v) FROM {values} WHERE v IS NOT NULL")
    broken = any("\n" in text for text in texts)
    (length,) = ask(f"SELECT avg(length(v)) FROM {values}")
    return {"mode": _mode(values, ask), "mean_length": length, "texts": () if broken else tuple(texts)}


def _list_facts(values: str, _distinct: int, ask: Ask) -> dict[str, Any]:
    texts = f"(SELECT nullif(unnest(v), '') AS v FROM {values})"
    (distinct,) = ask(f"SELECT count(DISTINCT v) FROM {texts}")
    known: list[str] = []
    if 0 < distinct <= FEW_TEXTS:
        (known,) = ask(f"SELECT list(DISTINCT v ORDER BY v) FROM {texts} WHERE v IS NOT NULL")
    return {"distinct": distinct, "texts": tuple(known)}


def _instant_facts(values: str, _distinct: int, ask: Ask) -> dict[str, Any]:
    median, clocks = ask(
        "SELECT strftime(quantile_disc(v, 0.5), '%Y-%m-%dT%H:%M:%S.%fZ'), "
        f"count(DISTINCT CAST(v AS TIME)) FROM {values}"
    )
    return {"median": median, "has_clock": clocks > 1}


_OWN_FACTS: dict[str, Callable[[str, int, Ask], dict[str, Any]]] = {
    "bool": _bool_facts, "int": _number_facts, "float": _number_facts, "string": _text_facts,
    "strings": _list_facts, "timestamp": _instant_facts,
}  # fmt: skip
