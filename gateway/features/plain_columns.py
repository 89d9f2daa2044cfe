"""Columns as training code has them (pandas, object arrays, lists) → arrays and lists that the loop can borrow."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway._fast.feature_program import MICROSECONDS, MISSING_INTEGER
from gateway._fast.lent_columns import ArrowColumn, PackedRows, arrow_column
from gateway.core.errors import FeatureInputInvalid
from gateway.features.program import Kind

#: What the loop borrows: a native array, a list of texts, an Arrow column, or packed rows.
Plain = npt.NDArray[Any] | list[Any] | ArrowColumn | PackedRows


def column_of_frame(name: str, frame: Any) -> Any:
    """What column ``name`` of a pandas DataFrame holds: numpy's array or an extension array, not to be written to.

    KeyError if the frame has no such column, FeatureInputInvalid if it has several.
    """
    place = frame.columns.get_loc(name)
    if not isinstance(place, int):
        raise FeatureInputInvalid(f"column {name!r}: the frame has several columns of that name", column=name)
    # pandas' own way to its blocks, in 2.x and 3.x. A Series on the way there takes 17 µs, most of a row's time.
    look = getattr(frame, "_get_column_array", None)
    return _values_of_series(frame[name]) if look is None else look(place)


def lent_values(values: Any) -> Any:
    """An array of numpy or pandas as the loop borrows it if it can: numpy's own, or Arrow's for all other types."""
    if isinstance(values.dtype, np.dtype):
        return values if isinstance(values, np.ndarray) else values.to_numpy()
    import pyarrow as pa  # noqa: PLC0415 - serving does without

    try:
        # Nullable and categorical types, texts and zoned timestamps: those of Arrow itself are lent as they lie.
        return arrow_column(pa.array(values, from_pandas=True))
    except pa.ArrowException:
        return values.to_numpy()  # intervals, or categories of several types: object by object


def _values_of_series(series: Any) -> Any:
    return series.to_numpy() if isinstance(series.dtype, np.dtype) else series.array


def plain_column(name: str, values: Any, kind: Kind) -> Plain:
    """``values`` of column ``name`` as the loop takes them. FeatureInputInvalid if they cannot be rows of ``kind``."""
    if kind == Kind.STRINGS:
        return [_plain_list(name, row, value) for row, value in enumerate(_lists_in(name, values))]
    if isinstance(values, ArrowColumn):
        return values
    if hasattr(values, "array") and hasattr(values, "dtype"):  # a Series
        values = lent_values(_values_of_series(values))
    elif hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__"):
        values = arrow_column(values)
    if isinstance(values, ArrowColumn):
        return values
    array = _one_dimension(name, values)
    match array.dtype.kind:
        case "M":
            instants = array.astype("datetime64[us]").astype(np.int64)
            return PackedRows(np.ascontiguousarray(instants), MICROSECONDS)
        case "O" | "U" | "S" | "T":
            return _plain_objects(name, array.tolist(), kind)
        case "b" | "i" | "u" | "f":
            native = np.float64 if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
            return np.ascontiguousarray(array, native)
    raise FeatureInputInvalid(f"column {name!r}: expected {kind} values, came an array of {array.dtype}")


def _one_dimension(name: str, values: Any) -> npt.NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(values)
        values = values.data.astype(object)
        values[masked] = None
    rows = values.to_numpy() if hasattr(values, "to_numpy") else values
    # A sequence as objects, so that numpy does not make texts of unlike values.
    array: npt.NDArray[Any] = rows if isinstance(rows, np.ndarray) else np.fromiter(_sequence(name, rows), dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise FeatureInputInvalid(
            f"column {name!r}: expected an array of shape [rows] or [rows, 1], came {list(array.shape)}"
        )
    return array


def _sequence(name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise FeatureInputInvalid(f"column {name!r}: expected an array or a sequence of rows, came {values!r:.60}")
    return list(values)


def _plain_objects(name: str, values: list[Any], kind: Kind) -> Plain:
    if kind == Kind.STRING or (kind == Kind.TIMESTAMP and not _all_numbers(values)):
        return [_plain_text(name, row, value, kind) for row, value in enumerate(values)]
    if kind == Kind.FLOAT:
        return np.array([_plain_float(name, row, value) for row, value in enumerate(values)], np.float64)
    if any(isinstance(value, float) and value % 1 for value in values if not is_missing(value)):
        # A fraction among integers: as float64 the loop tells which row.
        return np.array([_plain_float(name, row, value) for row, value in enumerate(values)], np.float64)
    return np.array([_plain_int(name, row, value, kind) for row, value in enumerate(values)], np.int64)


def lists_of_table(name: str, table: Any) -> list[Any]:
    """A column of lists of an Arrow table: lists are read object by object, wherever they lie."""
    import pyarrow as pa  # noqa: PLC0415 - serving does without

    found: list[Any] = pa.table(table).column(name).to_pylist()
    return found


def _lists_in(name: str, values: Any) -> list[Any]:
    if hasattr(values, "to_pylist"):
        values = values.to_pylist()
    rows = values.to_numpy() if hasattr(values, "to_numpy") else values
    # An array of shape [rows, k] is as good as rows lists of k texts.
    return rows.tolist() if isinstance(rows, np.ndarray) else _sequence(name, rows)


def _plain_list(name: str, row: int, value: Any) -> list[str | bytes | None] | None:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain_text(name, row, text, Kind.STRINGS) for text in value]
    if is_missing(value):
        return None
    raise _unfit(name, row, value, Kind.STRINGS)


def _all_numbers(values: list[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values if not is_missing(value))


def is_missing(value: object) -> bool:
    """None, NaN, NaT or pandas.NA."""
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124 - what NaN and NaT have in common
    except TypeError:
        return True  # pandas.NA is neither equal nor unequal


def _plain_text(name: str, row: int, value: Any, kind: Kind) -> str | bytes | None:
    if is_missing(value):
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return bytes(value)
    if kind == Kind.TIMESTAMP and isinstance(value, date):
        return value.isoformat()
    raise _unfit(name, row, value, kind)


def _plain_float(name: str, row: int, value: Any) -> float:
    if is_missing(value):
        return float("nan")
    try:
        number = float(value) if not isinstance(value, str | bytes) else None
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None:
        raise _unfit(name, row, value, Kind.FLOAT)
    return number


def _plain_int(name: str, row: int, value: Any, kind: Kind) -> int:
    if is_missing(value):
        return MISSING_INTEGER
    try:
        whole = int(value) if not isinstance(value, str | bytes) else None
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None or not -(2**63) < whole < 2**63:
        raise _unfit(name, row, value, kind)
    return whole


def _unfit(name: str, row: int, value: object, kind: Kind) -> FeatureInputInvalid:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return FeatureInputInvalid(
        f"row {row}: column {name!r}: expected {kind} values, came {shown}", row=row, column=name
    )
