"""Parts of instants in ONNX's integer operators; the calendar is the proleptic Gregorian one.

Years are counted from 1 March for as long as they are, so that the leap day is a year's last: then days and months
follow from each other by whole divisions (the algorithm that C++'s ``<chrono>`` documents for civil days).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from gateway.config.feature_page import TIMESTAMP_PARTS
from gateway.features.to_onnx.graph import INT64, Tensor

MICROS = 1_000_000
DAY_SECONDS = 86_400
DAYS_OF_400_YEARS = 146_097
#: From 1 March of year 0 to 1 January 1970.
DAYS_TO_1970 = 719_468


def part_of(micros: Tensor, part: int) -> Tensor | None:
    """The part (its index in ``TIMESTAMP_PARTS``) of instants that are not missing; None for one not known here."""
    form = _PARTS.get(TIMESTAMP_PARTS[part])
    return None if form is None else form(_Instant(micros))


class _Instant:
    """What the parts are made of; the graph keeps one node of those that are alike."""

    def __init__(self, micros: Tensor) -> None:
        self.micros = micros
        self.seconds = micros // MICROS
        self.of_day = self.seconds % DAY_SECONDS
        self.days = self.seconds // DAY_SECONDS
        self.weekday = (self.days + 3) % 7  # 1 January 1970 was a Thursday
        self.thursday = self.days - self.weekday + 3  # whose year is that of its ISO week

    @cached_property
    def year(self) -> Tensor:
        return _civil(self.days)[0]

    @cached_property
    def month(self) -> Tensor:
        return _civil(self.days)[1]

    @cached_property
    def day(self) -> Tensor:
        return _civil(self.days)[2]

    @cached_property
    def iso_year(self) -> Tensor:
        return _civil(self.thursday)[0]

    @cached_property
    def is_leap_year(self) -> Tensor:
        return _first_day(self.year + 1) - _first_day(self.year) - 365

    @cached_property
    def month_length(self) -> Tensor:
        # 30, or 31 in the odd months up to July and the even ones after it.
        others = (self.month + self.month // 8) % 2 + 30
        return self.month.equals(2).where(self.is_leap_year + 28, others)

    @cached_property
    def is_first(self) -> Tensor:
        return self.day.equals(1)

    @cached_property
    def is_last(self) -> Tensor:
        return self.day.equals(self.month_length)


_PARTS: dict[str, Callable[[_Instant], Tensor]] = {
    "hour": lambda t: t.of_day // 3600,
    "minute": lambda t: t.of_day // 60 % 60,
    "second": lambda t: t.of_day % 60,
    "minute_of_day": lambda t: t.of_day // 60,
    "second_of_day": lambda t: t.of_day,
    "microsecond": lambda t: t.micros % MICROS,
    "epoch_seconds": lambda t: t.seconds,
    "epoch_days": lambda t: t.days,
    "day_of_week": lambda t: t.weekday,
    "is_weekend": lambda t: (t.weekday > 4).cast(INT64),
    "year": lambda t: t.year,
    "quarter": lambda t: (t.month + 2) // 3,
    "month": lambda t: t.month,
    "day": lambda t: t.day,
    "day_of_year": lambda t: t.days - _first_day(t.year) + 1,
    "week": lambda t: (t.thursday - _first_day(t.iso_year)) // 7 + 1,
    "iso_year": lambda t: t.iso_year,
    "is_leap_year": lambda t: t.is_leap_year,
    "days_in_month": lambda t: t.month_length,
    "is_month_start": lambda t: t.is_first.cast(INT64),
    "is_month_end": lambda t: t.is_last.cast(INT64),
    "is_quarter_start": lambda t: (t.is_first & (t.month % 3).equals(1)).cast(INT64),
    "is_quarter_end": lambda t: (t.is_last & (t.month % 3).equals(0)).cast(INT64),
    "is_year_start": lambda t: (t.is_first & t.month.equals(1)).cast(INT64),
    "is_year_end": lambda t: (t.is_last & t.month.equals(12)).cast(INT64),
}


def _civil(days: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Year, month and day of days since 1970."""
    since = days + DAYS_TO_1970
    cycle = since // DAYS_OF_400_YEARS
    of_cycle = since % DAYS_OF_400_YEARS
    year_of_cycle = (of_cycle - of_cycle // 1460 + of_cycle // 36_524 - of_cycle // 146_096) // 365
    day_of_year = of_cycle - (year_of_cycle * 365 + year_of_cycle // 4 - year_of_cycle // 100)
    month = (day_of_year * 5 + 2) // 153  # March is 0
    day = day_of_year - (month * 153 + 2) // 5 + 1
    in_spring = month < 10
    return (
        year_of_cycle + cycle * 400 + (~in_spring).cast(INT64),
        in_spring.where(month + 3, month - 9),
        day,
    )


def _first_day(year: Tensor) -> Tensor:
    """1 January, in days since 1970."""
    before = year - 1
    return before * 365 + before // 4 - before // 100 + before // 400 - 719_162
