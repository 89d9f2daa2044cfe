"""CSV and Parquet files as batches of rows whose columns have the types of a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.core.errors import FeatureInputInvalid

#: How far a reading has come: from 0 to 1.
Progress = Callable[[float], None]
#: Fields of a CSV file that are missing in a column of any type but text, where only the empty one is.
MISSING_FIELDS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "#N/A"]
BATCH_ROWS = 10_000


def typed_batches(path: Path, types: Mapping[str, str], progress: Progress, rows: int = BATCH_ROWS) -> Iterator[Any]:
    """The rows of ``path`` as record batches of Arrow with the columns that ``types`` names.

    Their types are those of a page; "" leaves it to the file. A column that the file has not is left out. Texts of CSV
    that are empty are missing. FeatureInputInvalid if the file cannot be read as those types.
    """
    import pyarrow as pa  # noqa: PLC0415 - serving does without

    batches = _parquet(path, types, progress, rows) if is_parquet(path) else _csv(path, types, progress)
    try:
        for batch in batches:
            for first in range(0, batch.num_rows, rows):
                yield batch.slice(first, rows)
    except (OSError, pa.ArrowException) as error:
        raise FeatureInputInvalid(f"{path} cannot be read: {error}") from error
    progress(1.0)


def is_parquet(path: Path) -> bool:
    """Whether it is a Parquet file, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise FeatureInputInvalid(f"{path} cannot be read: {error.strerror}") from error


def _parquet(path: Path, types: Mapping[str, str], progress: Progress, rows: int) -> Iterator[Any]:
    import pyarrow.parquet as pq  # noqa: PLC0415

    with pq.ParquetFile(path) as file:
        wanted = [name for name in types if name in file.schema_arrow.names]
        total, done = file.metadata.num_rows, 0
        for batch in file.iter_batches(rows, columns=wanted):
            yield batch
            done += batch.num_rows
            progress(done / total)


def _csv(path: Path, types: Mapping[str, str], progress: Progress) -> Iterator[Any]:
    from pyarrow import csv  # noqa: PLC0415

    with path.open("rb") as file:
        found = csv.open_csv(file, read_options=csv.ReadOptions(block_size=1 << 20)).schema
    wanted = [name for name in types if name in found.names]
    size = path.stat().st_size or 1
    with path.open("rb") as file:
        reader = csv.open_csv(
            file,
            read_options=csv.ReadOptions(block_size=4 << 20),
            convert_options=csv.ConvertOptions(
                column_types={name: _arrow_type(types[name], found.field(name).type) for name in wanted if types[name]},
                include_columns=wanted,
                null_values=MISSING_FIELDS,
                strings_can_be_null=False,
            ),
        )
        for batch in reader:
            yield _without_empty_texts(batch)
            progress(min(1.0, file.tell() / size))


def _arrow_type(type_: str, found: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    if type_ in ("float", "int") and pa.types.is_boolean(found):
        return found  # True and False, which a plan takes as 1 and 0
    return {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}.get(type_, pa.string())


def _without_empty_texts(batch: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    for i, field in enumerate(batch.schema):
        if pa.types.is_string(field.type):
            column = batch.column(i)
            filled = pc.if_else(pc.equal(pc.binary_length(column), 0), None, column)
            batch = batch.set_column(i, field.name, filled)
    return batch
