"""Rows and pages that are made, for measuring feature plans without a data set: like housing's and like flights'."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: By name, a column of numbers as an array and one of texts as a list.
Columns = dict[str, Any]

NUMBERS = [f"n{i}" for i in range(8)]
#: Categories of each text column.
CATEGORIES = {"ocean": 5, "carrier": 16, "origin": 3, "dest": 105}
FLIGHTS_TEXTS = ["carrier", "origin", "dest"]
PERIODS = {"minute_of_day": 1440, "day_of_week": 7, "day_of_year": 366}
FILLED, MEAN, SCALE = 0.1, 0.2, 1.5


def made_rows(random: np.random.Generator, rows: int) -> Columns:
    """Eight numbers of three decimals, one in twenty missing, four texts, and an instant of 2013 to the minute."""
    numbers = {
        name: np.where(random.random(rows) < 0.05, np.nan, random.normal(size=rows).round(3)) for name in NUMBERS
    }
    texts = {name: [f"C{i:03d}" for i in random.integers(0, count, rows)] for name, count in CATEGORIES.items()}
    instants = np.datetime64("2013-01-01T00:00:00") + random.integers(0, 525_600, rows) * np.timedelta64(60, "s")
    return {**numbers, **texts, "departure": np.datetime_as_string(instants).tolist()}


def some_rows(columns: Columns, start: int, count: int) -> Columns:
    """So many from `start` on, in arrays and lists of their own."""
    return {name: values[start : start + count].copy() for name, values in columns.items()}


def housing_page() -> dict[str, Any]:
    """9 columns to 13 elements: 8 numbers imputed and scaled, 1 one-hot of 5."""
    return _page([*_scaled_numbers(), _one_hot("ocean")], {"ocean": "string"})


def flights_page() -> dict[str, Any]:
    """12 columns to 138 elements: 8 such numbers, 3 one-hots (16, 3, 105), 1 instant cyclic in three ways."""
    cyclic = [
        {"column": "departure", "steps": [{"timestamp_part": {"part": part}}, {"cyclic": {"period": period}}]}
        for part, period in PERIODS.items()
    ]
    one_hots = [_one_hot(name) for name in FLIGHTS_TEXTS]
    types = {**dict.fromkeys(FLIGHTS_TEXTS, "string"), "departure": "timestamp"}
    return _page([*_scaled_numbers(), *one_hots, *cyclic], types)


def housing_features(columns: Columns) -> npt.NDArray[np.float32]:
    """What the page says, by numpy."""
    return np.hstack([_numbers_of(columns), _hits_of(columns, "ocean")]).astype(np.float32)


def flights_features(columns: Columns) -> npt.NDArray[np.float32]:
    """What the page says, by numpy."""
    instants = np.array(columns["departure"], "datetime64[m]")
    days = instants.astype("datetime64[D]")
    parts = [
        (instants - days).astype(int),
        (days.astype(int) + 3) % 7,  # the first day of 1970 was a Thursday
        (days - days.astype("datetime64[Y]")).astype(int) + 1,
    ]
    turns = [2 * np.pi * part / period for part, period in zip(parts, PERIODS.values(), strict=True)]
    cyclic = [function(turn)[:, np.newaxis] for turn in turns for function in (np.sin, np.cos)]
    hits = [_hits_of(columns, name) for name in FLIGHTS_TEXTS]
    return np.hstack([_numbers_of(columns), *hits, *cyclic]).astype(np.float32)


def _page(features: list[dict[str, Any]], types: dict[str, str]) -> dict[str, Any]:
    return {"columns": dict.fromkeys(NUMBERS, "float") | types, "outputs": {"input": {"features": features}}}


def _scaled_numbers() -> list[dict[str, Any]]:
    steps = [{"impute": {"strategy": "median", "value": FILLED}}, {"standard_scale": {"mean": MEAN, "scale": SCALE}}]
    return [{"column": name, "steps": steps} for name in NUMBERS]


def _one_hot(column: str) -> dict[str, Any]:
    return {"column": column, "steps": [{"one_hot": {"categories": _known(column), "unknown": "ignore"}}]}


def _known(column: str) -> list[str]:
    return [f"C{i:03d}" for i in range(CATEGORIES[column])]


def _numbers_of(columns: Columns) -> npt.NDArray[np.float64]:
    numbers = np.stack([columns[name] for name in NUMBERS], axis=1)
    filled: npt.NDArray[np.float64] = (np.where(np.isnan(numbers), FILLED, numbers) - MEAN) / SCALE
    return filled


def _hits_of(columns: Columns, column: str) -> npt.NDArray[np.bool_]:
    hits: npt.NDArray[np.bool_] = np.array(columns[column])[:, np.newaxis] == np.array(_known(column))
    return hits
