"""The feature plan, slow and obvious: one row, one value at a time, from the FeatureSpec alone.

Missing is None here, whatever the column's type; a number is a Python float or int, a list of texts a tuple.
"""

from __future__ import annotations

import calendar
import datetime
import functools
import itertools
import math
import operator
import re
import struct
import unicodedata
import zoneinfo
from collections import Counter
from pathlib import Path

import numpy as np
import tzdata
from scipy.special import ndtri

from gateway.config import feature_steps as steps
from gateway.config import features as page


class RowFails(Exception):
    """The row has no features; ``reasons`` are the names of the Failures, of which the plan tells one."""

    def __init__(self, *reasons: str):
        super().__init__(*reasons)
        self.reasons = set(reasons)


def of_each(function, items):
    """The lists of the items, joined. RowFails with the reasons of all of them."""
    found, reasons = [], []
    for item in items:
        try:
            found += function(item)
        except RowFails as fails:
            reasons += fails.reasons
    if reasons:
        raise RowFails(*reasons)
    return found


def transform_row(spec: page.FeatureSpec, row: dict[str, object], folder: Path = Path()) -> dict[str, list[float]]:
    """Elements by output. RowFails for a row that the plan refuses."""
    values = {name: read_value(column, row.get(name, ...)) for name, column in spec.columns.items()}
    return {
        name: [
            output_element(element, output.dtype)
            for feature in output.features
            for element in elements_of(feature, spec, values, folder)
        ]
        for name, output in spec.outputs.items()
    }


def read_value(column: page.ColumnSpec, value: object) -> object:
    if value is ...:
        if not column.optional:
            raise RowFails("FAILURE_ABSENT")
        return None
    value = {"float": read_float, "int": read_int, "bool": read_bool, "string": read_text, "strings": read_list,
             "timestamp": lambda v: read_instant(v, column.unit)}[column.type](value)  # fmt: skip
    if value is None and column.missing == "error":
        raise RowFails("FAILURE_MISSING")
    if column.infinite == "error" and value is not None and math.isinf(value):
        raise RowFails("FAILURE_INFINITE")
    return value


def is_missing_number(value):
    return (value == -(2**63) and isinstance(value, int)) or value != value


def read_float(value):
    return None if is_missing_number(value) else float(value)


def read_int(value):
    if is_missing_number(value):
        return None
    if math.isinf(value) or value != int(value) or not -(2**63) < value < 2**63:
        raise RowFails("FAILURE_NOT_INTEGER")
    return int(value)


def read_bool(value):
    if is_missing_number(value):
        return None
    if value not in (0, 1):
        raise RowFails("FAILURE_NOT_BOOL")
    return int(value)


def read_text(value):
    value = value.encode() if isinstance(value, str) else value
    return value or None


def read_list(value):
    texts = [text.encode() if isinstance(text, str) else text for text in value or ()]
    return tuple(text for text in texts if text) or None


EPOCH = datetime.datetime(1970, 1, 1)
YEAR_1 = (datetime.datetime(1, 1, 1) - EPOCH) // datetime.timedelta(microseconds=1)
YEAR_9999 = (datetime.datetime.max - EPOCH) // datetime.timedelta(microseconds=1)


def read_instant(value, unit):
    """Microseconds since the epoch, from what ``datetime.fromisoformat`` makes of a text or from a number."""
    if isinstance(value, str | bytes):
        text = value if isinstance(value, str) else value.decode("latin-1")
        return instant_of_text(text) if text else None
    if is_missing_number(value):
        return None
    if isinstance(value, float):
        micros = (
            math.floor(value / {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit] * 1e6) if math.isfinite(value) else None
        )
    else:
        micros = value * 1_000_000 // {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    if micros is None or not YEAR_1 <= micros <= YEAR_9999:
        raise RowFails("FAILURE_TIMESTAMP")
    return micros


def instant_of_text(text):
    try:
        instant = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise RowFails("FAILURE_TIMESTAMP") from None
    offset = instant.utcoffset() or datetime.timedelta(0)
    micros = (instant.replace(tzinfo=None) - EPOCH - offset) // datetime.timedelta(microseconds=1)
    if not YEAR_1 <= micros <= YEAR_9999:
        raise RowFails("FAILURE_TIMESTAMP")
    return micros


def elements_of(feature, spec, values, folder):
    """The values that the feature comes to, side by side."""
    if feature.constant is not None:
        found = [as_value(feature.constant)]
    elif feature.features is not None:
        found = of_each(lambda inner: elements_of(inner, spec, values, folder), feature.features)
    else:
        found = [values[name] for name in feature.columns or (feature.column,)]
    # Of what steps do with the values' types, the column's says enough: only lone columns have vocabulary files here.
    columns = [spec.columns[name] for name in feature.column_names()]
    column = columns[0] if columns else page.ColumnSpec(type=kind_of(feature.constant))
    indicators = []
    for step in feature.steps:
        if isinstance(step, steps.Impute) and step.indicator:
            indicators += [1 if value is None else 0 for value in found]
        found = STEPS[type(step)](step, found, column, folder)
    return [*found, *indicators]


def kind_of(constant):
    return {bool: "bool", int: "int", float: "float"}.get(type(constant), "string")


def output_element(value, dtype):
    if dtype == "string":
        try:
            return (value or b"").decode()
        except UnicodeDecodeError:
            raise RowFails("FAILURE_NOT_UTF8") from None
    if dtype == "int64":
        if value is None:
            raise RowFails("FAILURE_NO_INT64")
        return int(value)
    value = math.nan if value is None else float(value)
    if dtype == "float64":
        return value
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


# Steps: (arguments, values, column, folder) -> values. Most take each value for itself.


def each(function):
    """A step from (arguments, value, column, folder) -> value or list of values; an argument may list one for each."""

    def apply(step, values, column, folder):
        def of_one(place):
            result = function(Own(step, place), values[place], column, folder)
            return result if isinstance(result, list) else [result]

        return of_each(of_one, range(len(values)))

    return apply


class Own:
    """The arguments of the i-th value."""

    LISTED = ("mean", "center", "scale", "data_min", "data_max", "value", "by", "lambdas")

    def __init__(self, step, i):
        self.step, self.i = step, i

    def __getattr__(self, name):
        argument = getattr(self.step, name)
        return argument[self.i] if isinstance(argument, tuple) and name in self.LISTED else argument


def impute(step, value, column, folder):
    if value is not None:
        return value
    if column.type == "timestamp" and isinstance(step.value, str):
        return instant_of_text(step.value)
    return step.value.encode() if isinstance(step.value, str) else step.value


def on_numbers(function):
    def apply(step, value, column, folder):
        if value is None:
            return None
        value = function(step, float(value))
        return None if value != value else value  # a NaN is missing, wherever it comes from

    return apply


def standard_scale(step, value):
    return (value - step.mean) / step.scale


def robust_scale(step, value):
    return (value - step.center) / step.scale


def min_max_scale(step, value):
    low, high = step.feature_range
    extent = step.data_max - step.data_min
    factor = (high - low) / (extent if extent >= 10 * 2.220446049250313e-16 else 1.0)
    value = value * factor + (low - step.data_min * factor)
    if value != value:
        return value
    return min(max(value, low), high) if step.clip else value


def max_abs_scale(step, value):
    value = value / step.scale
    return min(max(value, -1.0), 1.0) if step.clip else value


def log(step, value):
    if value == 0:
        return -math.inf
    return math.nan if value < 0 else math.log(value)


def sqrt(step, value):
    return math.nan if value < 0 else math.sqrt(value)


def binarize(step, value, column, folder):
    return None if value is None or value != value else int(value > step.threshold)


def multiply(step, value):
    return value * step.by


def clip(step, value):
    if step.min is not None and value < step.min:
        return step.min
    if step.max is not None and value > step.max:
        return step.max
    return value


def log1p(step, value):
    if value == -1:
        return -math.inf
    return math.nan if value < -1 else math.log1p(value)


def bucketize(step, value):
    return sum(edge <= value for edge in step.edges)


def k_bins(step, value, column, folder):
    place = None if value is None or value != value else sum(edge <= value for edge in step.edges)
    if step.encode == "ordinal":
        return place
    return [1 if place == i else 0 for i in range(len(step.edges) + 1)]


def known_values(step, column, folder):
    """What ``null`` and each category stand for, in order."""
    if step.categories is not None:
        values = step.categories
    else:
        lines = (folder / step.vocabulary.file).read_text().removesuffix("\n").split("\n")
        read = {"string": str, "int": int, "float": float, "strings": str}[column.type]
        values = [read(line) if line else None for line in lines]
    return [as_value(value) for value in values]


def as_value(value):
    return value.encode() if isinstance(value, str) else value


def one_hot(step, value, column, folder):
    known = known_values(step, column, folder)
    dropped = [as_value(v) for v in step.drop]
    kept = [v for v in known if v not in dropped]
    infrequent = [as_value(v) for v in step.infrequent]
    places = kept if not infrequent or set(infrequent) & set(dropped) else [*kept, "infrequent"]
    elements = [0] * len(places)
    if value not in known and value not in infrequent:
        value = failed(step, value)
    if value in infrequent:
        value = "infrequent"
    if value in places:
        elements[places.index(value)] = 1
    return elements


def failed(step, value):
    """What becomes of a value that is none of the known. RowFails if that is so."""
    outcome = step.missing if value is None else step.unknown
    if outcome == "error":
        raise RowFails("FAILURE_MISSING" if value is None else "FAILURE_UNSEEN")
    return outcome


def ordinal(step, value, column, folder):
    known = known_values(step, column, folder)
    if value in known:
        return known.index(value)
    if value in [as_value(v) for v in step.infrequent]:
        return len(known)
    outcome = failed(step, value)
    return {"nan": None, "infrequent": len(known)}.get(outcome, outcome)


def target_encode(step, value, column, folder):
    known = known_values(step, column, folder)
    of_classes = step.encodings if step.classes else [step.encodings]
    means = step.step.mean if step.classes else (step.step.mean,)  # of all classes, not one for each value
    if value in known:
        return [numbers[known.index(value)] for numbers in of_classes]
    failed(step, value)
    return list(means)


def frequency_encode(step, value, column, folder):
    known = known_values(step, column, folder)
    if value in known:
        return step.counts[known.index(value)] / (math.fsum(step.counts) if step.normalize else 1)
    outcome = failed(step, value)
    return None if outcome == "nan" else outcome


def vocabulary_id(step, value, column, folder):
    known = known_values(step, column, folder)
    if value in known:
        return step.first_id + known.index(value)
    if value is None:
        return failed(step, value)
    if not step.oov_buckets:
        raise RowFails("FAILURE_UNSEEN")
    first = step.first_id + len(known) if step.first_oov_id is None else step.first_oov_id
    return first + murmur3_32(value if isinstance(value, bytes) else str(value).encode(), 0) % step.oov_buckets


def multi_hot(step, value, column, folder):
    known = known_values(step, column, folder)
    if value is None:
        failed(step, value)
    for text in value or ():
        if text not in known:
            failed(step, text)
    return [int(text in (value or ())) for text in known]


def split(step, value, column, folder):
    return tuple(piece for piece in (value or b"").split(step.separator.encode()) if piece) or None


def hash_step(step, value, column, folder):
    elements = [0] * step.buckets
    for item in value if isinstance(value, tuple) else [value] if value is not None else []:
        h = murmur3_32(item if isinstance(item, bytes) else str(item).encode(), step.seed)
        signed = h - 2**32 if h >= 2**31 else h
        elements[abs(signed) % step.buckets] += -1 if signed < 0 and step.signed else 1
    return elements


def murmur3_32(data, seed):
    """MurmurHash3 x86 32-bit, from its published description."""

    def scramble(k):
        k = k * 0xCC9E2D51 % 2**32
        k = (k << 15 | k >> 17) % 2**32
        return k * 0x1B873593 % 2**32

    h = seed
    whole = len(data) // 4 * 4
    for i in range(0, whole, 4):
        h ^= scramble(int.from_bytes(data[i : i + 4], "little"))
        h = ((h << 13 | h >> 19) * 5 + 0xE6546B64) % 2**32
    h ^= scramble(int.from_bytes(data[whole:], "little"))
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
    h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
    return h ^ h >> 16


#: 400 years, after which the calendar repeats: what lies outside datetime's years is looked up inside them.
CYCLE = 146_097 * 86_400 * 10**6
DAY = 86_400 * 10**6


@functools.cache
def zone_info(name):
    with Path(tzdata.__file__).parent.joinpath("zoneinfo", name).open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file)


def local_micros(micros, zone):
    """Microseconds since 1970 by the zone's clock."""
    inside = micros + 2 * DAY if micros < YEAR_1 + 2 * DAY else micros  # before there were time zones
    inside = micros - CYCLE if micros > YEAR_9999 - 2 * DAY else inside
    instant = EPOCH.replace(tzinfo=datetime.UTC) + datetime.timedelta(microseconds=inside)
    return micros + instant.astimezone(zone_info(zone)).utcoffset() // datetime.timedelta(microseconds=1)


# Texts.


def on_texts(function):
    def apply(step, value, column, folder):
        if value is None:
            return None
        try:
            result = function(step, value.decode())
        except UnicodeDecodeError:
            raise RowFails("FAILURE_NOT_UTF8") from None
        return result.encode() or None if isinstance(result, str) else result

    return apply


def regex_extract(step, text):
    found = re.search(step.pattern, text)
    return (found[step.group] if found else None) or ""


def strip_accents(text, how):
    decomposed = unicodedata.normalize("NFKD", text)
    if how == "ascii":
        return decomposed.encode("ascii", "ignore").decode()
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def terms_of(step, text):
    """All terms of a text, as scikit-learn's documentation of the arguments has it."""
    text = text.lower() if step.lowercase else text
    text = strip_accents(text, step.strip_accents) if step.strip_accents else text
    sizes = range(step.ngram_range[0], step.ngram_range[1] + 1)
    if step.analyzer == "word":
        tokens = re.findall(step.token_pattern or r"\b\w\w+\b", text)
        tokens = [token for token in tokens if token not in step.stop_words]
        return [" ".join(tokens[i : i + n]) for n in sizes for i in range(len(tokens) - n + 1)]
    text = re.sub(r"\s\s+", " ", text)
    if step.analyzer == "char":
        return [text[i : i + n] for n in sizes for i in range(len(text) - n + 1)]
    found = []
    for word in (f" {word} " for word in text.split()):
        for n in sizes:
            found += [word[i : i + n] for i in range(max(len(word) - n, 0) + 1)]
            if n >= len(word):
                break
    return found


def read_lines(file, folder):
    return (folder / file.file).read_text().removesuffix("\n").split("\n")


def known_terms(step, value, folder):
    """The known terms, and how often each occurs, by column."""
    known = list(step.terms) if step.vocabulary is None else read_lines(step.vocabulary, folder)
    if value is None:
        return known, {}
    counts = Counter(terms_of(step, decoded(value)))
    return known, {i: 1 if step.binary else counts[term] for i, term in enumerate(known) if term in counts}


def decoded(value):
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise RowFails("FAILURE_NOT_UTF8") from None


def count_vectorize(step, value, column, folder):
    known, counts = known_terms(step, value, folder)
    return [counts.get(i, 0) for i in range(len(known))]


def tfidf_vectorize(step, value, column, folder):
    known, counts = known_terms(step, value, folder)
    idf = step.idf if step.idf_file is None else [float(line) for line in read_lines(step.idf_file, folder)]
    for i, count in counts.items():
        weight = math.log(count) + 1 if step.sublinear_tf else count
        counts[i] = weight * idf[i] if idf is not None else weight
    return spread(counts, len(known), step.norm)


def hashing_vectorize(step, value, column, folder):
    counts = {}
    for term in [] if value is None else terms_of(step, decoded(value)):
        h = murmur3_32(term.encode(), 0)
        signed = h - 2**32 if h >= 2**31 else h
        place = abs(signed) % step.buckets
        counts[place] = counts.get(place, 0) + (-1 if signed < 0 and step.signed else 1)
    if step.binary:
        counts = dict.fromkeys(counts, 1)
    return spread(counts, step.buckets, step.norm)


def spread(counts, width, norm):
    values = [counts[i] for i in sorted(counts)]
    total = 0.0
    for value in values:  # in this order: it shows in the last bit
        total += abs(value) if norm == "l1" else value * value
    divisor = 1 if norm is None or total == 0 else math.sqrt(total) if norm == "l2" else total
    return [counts[i] / divisor if i in counts else 0 for i in range(width)]


def timestamp_part(step, value, column, folder):
    if value is None:
        return None
    micros = local_micros(value, step.time_zone)
    cycles = 1 if micros < YEAR_1 else -1 if micros > YEAR_9999 else 0
    t = EPOCH + datetime.timedelta(microseconds=micros + cycles * CYCLE)
    of_day = t.hour * 3600 + t.minute * 60 + t.second
    tomorrow = t + datetime.timedelta(days=1) if t.date() != datetime.date.max else datetime.datetime(1, 1, 1)
    month_length = calendar.monthrange(t.year, t.month)[1]
    return {
        "year": t.year - 400 * cycles, "quarter": (t.month + 2) // 3, "month": t.month, "week": t.isocalendar().week,
        "day": t.day, "day_of_week": t.weekday(), "day_of_year": t.timetuple().tm_yday, "hour": t.hour,
        "minute": t.minute, "second": t.second, "minute_of_day": of_day // 60, "second_of_day": of_day,
        "is_weekend": int(t.weekday() > 4), "epoch_seconds": value // 1_000_000, "microsecond": t.microsecond,
        "epoch_days": micros // DAY, "iso_year": t.isocalendar().year - 400 * cycles, "days_in_month": month_length,
        "is_month_start": int(t.day == 1), "is_month_end": int(tomorrow.day == 1),
        "is_quarter_start": int(t.day == 1 and t.month in (1, 4, 7, 10)),
        "is_quarter_end": int(tomorrow.day == 1 and tomorrow.month in (1, 4, 7, 10)),
        "is_year_start": int(t.timetuple().tm_yday == 1), "is_year_end": int((tomorrow.month, tomorrow.day) == (1, 1)),
        "is_leap_year": int(calendar.isleap(t.year)),
    }[step.part]  # fmt: skip


def elapsed_since(step, values, column, folder):
    micros = {"us": 1, "ms": 1e3, "s": 1e6, "minutes": 6e7, "hours": 3.6e9, "days": 8.64e10}[step.unit]
    pairs = [values] if step.instant is None else [(value, instant_of_text(step.instant)) for value in values]
    return [None if None in pair else float(pair[0] - pair[1]) / micros for pair in pairs]


def holiday(step, value, column, folder):
    if value is None:
        return None
    dates = step.dates or (folder / step.vocabulary.file).read_text().removesuffix("\n").split("\n")
    days = [(datetime.date.fromisoformat(date) - EPOCH.date()).days for date in dates]
    return int(local_micros(value, step.time_zone) // DAY in days)


def number(value):
    """The value in float64; None if that is NaN."""
    return None if value is None or value != value else float(value)


def ratio(step, values, column, folder):
    x, y = map(number, values)
    if y == 0:
        return [None if x is None or step.zero_division == "nan" else step.zero_division]
    return [None if x is None or y is None else number(x / y)]


def joined(operation):
    def apply(step, values, column, folder):
        found, *others = map(number, values)
        for other in others:
            found = None if found is None or other is None else number(operation(found, other))
        return [found]

    return apply


RELATIONS = {
    "equal": operator.eq, "not_equal": operator.ne, "less": operator.lt, "less_or_equal": operator.le,
    "greater": operator.gt, "greater_or_equal": operator.ge,
}  # fmt: skip


def compare(step, values, column, folder):
    if step.value is None:
        pairs = [values]
    else:
        instants = column.type == "timestamp" and isinstance(step.value, str)
        constant = instant_of_text(step.value) if instants else as_value(step.value)
        pairs = [(value, constant) for value in values]
    return [None if None in pair else int(RELATIONS[step.relation](*alike(pair))) for pair in pairs]


def alike(pair):
    # Python compares an int with a float exactly; the plan compares them in float64.
    return tuple(map(float, pair)) if any(isinstance(value, float) for value in pair) else pair


def coalesce(step, values, column, folder):
    return [next((value for value in values if value is not None), None)]


def is_in(step, value, column, folder):
    known = known_values(step, column, folder)
    return None if value is None and None not in known else int(value in known)


def in_range(step, values):
    """Degrees in turn; None where one is missing or out of range."""
    reasons = []
    found = [number(value) for value in values]
    for i, (value, most) in enumerate(zip(found, [90, 180] * 2, strict=False)):
        if value is not None and not -most <= value <= most:
            found[i] = None
            reasons += ["FAILURE_DEGREES"] if step.out_of_range == "error" else []
    if reasons:
        raise RowFails(*reasons)
    return found


def haversine(step, values, column, folder):
    radius = {"km": 6371.0088, "m": 6371008.8, "miles": 6371.0088 / 1.609344}[step.unit]
    degrees = in_range(step, values)
    others = [degrees[2:]] if step.points is None else step.points.values()
    return [distance([*degrees[:2], *other], radius) for other in others]


def distance(degrees, radius):
    if None in degrees:
        return None
    up, along, other_up, other_along = (x * (math.pi / 180) for x in degrees)
    sine_up, sine_along = math.sin(0.5 * (up - other_up)), math.sin(0.5 * (along - other_along))
    h = sine_up * sine_up + math.cos(up) * math.cos(other_up) * sine_along * sine_along
    return 2 * math.asin(math.sqrt(min(h, 1.0))) * radius


def geohash(step, values, column, folder):
    """By halving, as it is usually told."""
    latitude, longitude = in_range(step, values)
    if latitude is None or longitude is None:
        return [None]
    bits, bounds = [], {0: [-180.0, 180.0], 1: [-90.0, 90.0]}
    for k in range(5 * step.precision):
        low, high = bounds[k % 2]
        upper = (longitude, latitude)[k % 2] >= (low + high) / 2
        bits.append(upper)
        bounds[k % 2] = [(low + high) / 2, high] if upper else [low, (low + high) / 2]
    places = [int("".join(str(int(bit)) for bit in bits[i : i + 5]), 2) for i in range(0, len(bits), 5)]
    return ["".join("0123456789bcdefghjkmnpqrstuvwxyz"[place] for place in places).encode()]


def cyclic(step, value, column, folder):
    if value is None or math.isinf(value):
        return [math.nan, math.nan]
    angle = math.fmod(value, step.period) / step.period * 2 * math.pi
    return [math.sin(angle), math.cos(angle)]


# Curves.


def power_transform(step, value):
    power = step.lambdas
    if step.method == "box-cox":
        if value <= 0:
            return math.nan
        if power == 0:
            bent = math.log(value)
        elif power * math.log(value) < 709.78:
            bent = math.expm1(power * math.log(value)) / power
        else:
            bent = math.copysign(exp(power * math.log(value) - math.log(abs(power))), power) - 1 / power
    elif value >= 0:
        bent = log1p_rounded(value) if abs(power) < 2**-52 else yeo_johnson(value, power)
    else:
        bent = -log1p_rounded(-value) if abs(2 - power) <= 2**-52 else -yeo_johnson(-value, 2 - power)
    return bent if (step.mean, step.scale) == (0, 1) else (bent - step.mean) / step.scale


def exp(x):
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def yeo_johnson(value, power):
    with np.errstate(over="ignore"):
        return float(np.expm1(np.longdouble(power * log1p_rounded(value)))) / power


def log1p_rounded(value):
    return float(np.log1p(np.longdouble(value)))


def quantile_transform(step, value):
    quantiles = np.array(step.quantiles)
    shares = np.linspace(0, 1, len(quantiles))
    share = 0.5 * (np.interp(value, quantiles, shares) - np.interp(-value, -quantiles[::-1], -shares[::-1]))
    if step.output_distribution == "uniform":
        return 0.0 if value == quantiles[0] else 1.0 if value == quantiles[-1] else float(share)
    share = 0.0 if value - 1e-7 < quantiles[0] else 1.0 if value + 1e-7 > quantiles[-1] else float(share)
    low, high = -5.199337582605575, 5.19933758270342
    if share in (0, 1):
        return high if share else low
    return min(max(float(ndtri(share)), low), high)


def spline(step, value, column, folder):
    knots, degree = step.knots, step.degree
    count = len(knots) - degree - 1
    low, high = knots[degree], knots[count]
    kept = (count - degree if step.extrapolation == "periodic" else count) - (not step.include_bias)
    if value is None:
        return [0.0 if step.missing == "zeros" else math.nan] * kept
    if step.extrapolation == "error" and not low <= value <= high:
        raise RowFails("FAILURE_OUTSIDE")
    if step.extrapolation == "periodic":
        value = low + math.fmod(value - low, high - low) % (high - low) if math.isfinite(value) else math.nan
    elif step.extrapolation != "continue" and not low <= value <= high:
        return [spline_beyond(step, i, value) for i in range(kept)]
    if not math.isfinite(value):
        return [math.nan] * kept
    elements = [b_spline(knots, i, degree, value, interval_of(knots, degree, value)) for i in range(count)]
    if step.extrapolation == "periodic":
        return [(elements[i] + elements[i + count - degree] if i < degree else elements[i]) for i in range(kept)]
    return elements[:kept]


def interval_of(knots, degree, x):
    count = len(knots) - degree - 1
    return max([i for i in range(degree, count) if knots[i] <= x], default=degree)


def b_spline(knots, i, degree, x, interval):
    """The i-th, as the recurrence of Cox and de Boor defines it; intervals at the ends reach to infinity."""
    if degree == 0:
        return 1.0 if i == interval else 0.0
    value = 0.0
    if knots[i + degree] != knots[i]:
        value += b_spline(knots, i, degree - 1, x, interval) / (knots[i + degree] - knots[i]) * (x - knots[i])
    if knots[i + degree + 1] != knots[i + 1]:
        share = b_spline(knots, i + 1, degree - 1, x, interval) / (knots[i + degree + 1] - knots[i + 1])
        value += share * (knots[i + degree + 1] - x)
    return value


def spline_beyond(step, i, x):
    knots, degree = step.knots, step.degree
    count = len(knots) - degree - 1
    below = x < knots[degree]
    bound = knots[degree] if below else knots[count]
    reach = 2 if step.extrapolation == "linear" and degree == 1 else degree
    if not (i < reach if below else i >= count - reach):
        return 0.0
    interval = interval_of(knots, degree, bound)
    value = b_spline(knots, i, degree, bound, interval)
    slope = spline_slope(knots, i, degree, bound, interval) if step.extrapolation == "linear" else 0.0
    return value if slope == 0 else value + (x - bound) * slope


def spline_slope(knots, i, degree, x, interval):
    slope = 0.0
    if knots[i + degree] != knots[i]:
        slope += degree * b_spline(knots, i, degree - 1, x, interval) / (knots[i + degree] - knots[i])
    if knots[i + degree + 1] != knots[i + 1]:
        slope -= degree * b_spline(knots, i + 1, degree - 1, x, interval) / (knots[i + degree + 1] - knots[i + 1])
    return slope


# Across the values.


def normalize(step, values, column, folder):
    numbers = [math.nan if value is None else float(value) for value in values]
    if any(number != number for number in numbers):
        return [math.nan] * len(numbers)
    if step.norm == "max":
        norm = max(abs(number) for number in numbers)
    elif step.norm == "l1":
        norm = one_by_one(abs(number) for number in numbers)
    else:
        norm = math.sqrt(one_by_one(number * number for number in numbers))
    norm = 1.0 if norm < 10 * 2.0**-52 else norm
    return [math.nan if math.isinf(number) else number / norm for number in numbers]


def one_by_one(numbers):
    # sum() of floats keeps more digits than a float has.
    total = 0.0
    for number in numbers:
        total += number
    return total


def polynomial(step, values, column, folder):
    fewest, most = step.degree
    choose = itertools.combinations if step.interaction_only else itertools.combinations_with_replacement
    numbers = [math.nan if value is None else float(value) for value in values]
    products = [1.0] if step.include_bias else []
    for degree in range(max(fewest, 1), most + 1):
        for factors in choose(numbers, degree):
            product = factors[-1]
            for factor in reversed(factors[:-1]):
                product *= factor
            products.append(product)
    return products


def select(step, values, column, folder):
    return [values[place] for place in step.places]


STEPS = {
    steps.Passthrough: each(lambda step, value, column, folder: value),
    steps.Impute: each(impute),
    steps.MissingIndicator: each(lambda step, value, column, folder: 1 if value is None else 0),
    steps.StandardScale: each(on_numbers(standard_scale)),
    steps.RobustScale: each(on_numbers(robust_scale)),
    steps.MinMaxScale: each(on_numbers(min_max_scale)),
    steps.MaxAbsScale: each(on_numbers(max_abs_scale)),
    steps.Log: each(on_numbers(log)),
    steps.Exp: each(on_numbers(lambda step, value: exp(value))),
    steps.Sqrt: each(on_numbers(sqrt)),
    steps.Abs: each(on_numbers(lambda step, value: abs(value))),
    steps.Binarize: each(binarize),
    steps.Multiply: each(on_numbers(multiply)),
    steps.Clip: each(on_numbers(clip)),
    steps.Log1p: each(on_numbers(log1p)),
    steps.Bucketize: each(on_numbers(bucketize)),
    steps.KBins: each(k_bins),
    steps.Haversine: haversine,
    steps.Geohash: geohash,
    steps.Ratio: ratio,
    steps.Difference: joined(operator.sub),
    steps.Product: joined(operator.mul),
    steps.Sum: joined(operator.add),
    steps.Compare: compare,
    steps.Coalesce: coalesce,
    steps.IsIn: each(is_in),
    steps.OneHot: each(one_hot),
    steps.Ordinal: each(ordinal),
    steps.Hash: each(hash_step),
    steps.TargetEncode: each(target_encode),
    steps.FrequencyEncode: each(frequency_encode),
    steps.VocabularyId: each(vocabulary_id),
    steps.MultiHot: each(multi_hot),
    steps.Split: each(split),
    steps.TimestampPartStep: each(timestamp_part),
    steps.ElapsedSince: elapsed_since,
    steps.Holiday: each(holiday),
    steps.Cyclic: each(cyclic),
    steps.Select: select,
    steps.Lower: each(on_texts(lambda step, text: text.lower())),
    steps.Upper: each(on_texts(lambda step, text: text.upper())),
    steps.Strip: each(on_texts(lambda step, text: text.strip(step.characters))),
    steps.Replace: each(on_texts(lambda step, text: text.replace(step.old, step.new))),
    steps.RegexExtract: each(on_texts(regex_extract)),
    steps.TextLength: each(on_texts(lambda step, text: len(text))),
    steps.CountVectorize: each(count_vectorize),
    steps.TfidfVectorize: each(tfidf_vectorize),
    steps.HashingVectorize: each(hashing_vectorize),
    steps.PowerTransform: each(on_numbers(power_transform)),
    steps.QuantileTransform: each(on_numbers(quantile_transform)),
    steps.Spline: each(spline),
    steps.Normalize: normalize,
    steps.Polynomial: polynomial,
}
