"""Hypothesis strategies: pages of features.yaml that compile, and rows for them."""

from __future__ import annotations

from hypothesis import strategies as st

from gateway.config.feature_page import TIMESTAMP_PARTS

KINDS = ("float", "int", "bool", "string", "timestamp", "strings")
finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
modest = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))
positive = st.floats(1e-3, 1e6)
whole = st.integers(-(2**63) + 1, 2**63 - 1)
small = st.integers(-3, 6)
words = st.one_of(
    st.sampled_from(["a", "b", "ab", "ba", "abcd", "abcdefgh", "abcdefghi", "é", "日本", "NEAR BAY", "x" * 40]),
    st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=12),
)
VALUES = {
    "float": st.one_of(
        modest,
        st.floats(-100, 100),
        st.sampled_from([0.0, -0.0, 1.0, float("inf"), float("-inf"), float("nan")]),
        finite,
    ),
    "int": st.one_of(small, whole, st.just(-(2**63))),
    "bool": st.sampled_from([0, 1, 0, 1, -(2**63), 2]),
    "string": st.one_of(words, st.just("")),
    "timestamp": st.one_of(
        st.datetimes().map(lambda t: t.isoformat()),
        st.datetimes().map(lambda t: t.replace(microsecond=0).isoformat(" ") + "+05:30"),
        st.dates().map(lambda d: d.isoformat()),
        st.sampled_from(
            ["", "2013-02-29", "2013-01-01T24:00", "yesterday", "2013-01-01T05:15Z", "2012-02-29T23:59:59.5Z"]
        ),
    ),
}
VALUES["strings"] = st.lists(VALUES["string"], max_size=5)
CONSTANTS = {
    "float": modest, "int": small, "bool": st.booleans(), "string": words,
    "timestamp": st.datetimes().map(lambda t: t.isoformat()),
}  # fmt: skip
CATEGORIES = {"float": modest.map(abs), "int": small, "bool": st.booleans(), "string": words}


@st.composite
def categories(draw, kind):
    known = draw(st.lists(CATEGORIES[kind], min_size=1, max_size=8, unique=True))
    if draw(st.booleans()):
        known.insert(draw(st.integers(0, len(known))), None)
    split = draw(st.integers(1, len(known)))
    return known[:split], known[split:]


@st.composite
def one_hot(draw, kind):
    known, infrequent = draw(categories(kind))
    outcomes = ["error", "ignore"] + ["infrequent"] * bool(infrequent)
    drop = draw(st.lists(st.sampled_from(known), max_size=len(known) - 1, unique=True)) if len(known) > 1 else []
    if infrequent and len(drop) < len(known) and draw(st.booleans()):
        drop.append(draw(st.sampled_from(infrequent)))
    return {
        "one_hot": {
            "categories": known, "infrequent": infrequent, "drop": drop,
            "unknown": draw(st.sampled_from(outcomes)), "missing": draw(st.sampled_from(outcomes)),
        }
    }  # fmt: skip


@st.composite
def ordinal(draw, kind, whole_output):
    known, infrequent = draw(categories(kind))
    numbers = [] if whole_output else [-0.5, 2.0**40]
    unknown = st.sampled_from(["error", "nan", -1, 99, *numbers] + ["infrequent"] * bool(infrequent))
    return {
        "ordinal": {
            "categories": known, "infrequent": infrequent,
            "unknown": draw(unknown), "missing": draw(st.sampled_from(["error", "nan", -1, 7, *numbers])),
        }
    }  # fmt: skip


@st.composite
def target_encode(draw, kind):
    known, more = draw(categories(kind))
    known += more
    count = draw(st.integers(0, 3))
    of_classes = [[draw(modest) for _ in known] for _ in range(max(count, 1))]
    return {
        "target_encode": {
            "categories": known,
            "encodings": of_classes if count else of_classes[0],
            "mean": [draw(modest) for _ in range(count)] if count else draw(modest),
            "classes": [f"class {i}" for i in range(count)],
            "unknown": draw(st.sampled_from(["mean", "mean", "error"])),
            "missing": draw(st.sampled_from(["mean", "mean", "error"])),
        }
    }


@st.composite
def frequency_encode(draw, kind):
    known, more = draw(categories(kind))
    known += more
    outcomes = st.sampled_from(["error", "nan", 0, -1.5])
    return {
        "frequency_encode": {
            "categories": known, "counts": draw(st.lists(st.integers(1, 99), min_size=len(known), max_size=len(known))),
            "normalize": draw(st.booleans()), "unknown": draw(outcomes), "missing": draw(outcomes),
        }
    }  # fmt: skip


@st.composite
def vocabulary_id(draw, kind):
    known, more = draw(categories(kind))
    known += more
    buckets = draw(st.integers(0, 3))
    arguments = {
        "categories": known, "oov_buckets": buckets, "first_id": draw(st.integers(0, 9)) + buckets + 1,
        "missing": draw(st.sampled_from(["error", 0, 77])),
    }  # fmt: skip
    if draw(st.booleans()):
        arguments["first_oov_id"] = draw(st.sampled_from([0, 1, arguments["first_id"] + len(known) + 5]))
    return {"vocabulary_id": arguments}


@st.composite
def multi_hot(draw):
    known = draw(st.lists(words, min_size=1, max_size=8, unique=True))
    outcomes = st.sampled_from(["error", "ignore", "ignore"])
    return {"multi_hot": {"categories": known, "unknown": draw(outcomes), "missing": draw(outcomes)}}


POWER = st.fixed_dictionaries(
    {"lambdas": st.one_of(st.sampled_from([0, 1, 2]), st.floats(-3, 4)), "mean": modest, "scale": positive,
     "method": st.sampled_from(["yeo-johnson", "box-cox"])}
)  # fmt: skip
QUANTILES = st.fixed_dictionaries(
    {"quantiles": st.lists(st.one_of(small.map(float), modest), min_size=1, max_size=8).map(sorted),
     "output_distribution": st.sampled_from(["uniform", "normal"])}
)  # fmt: skip


@st.composite
def spline(draw):
    """Knots may repeat, though not so often that nothing is left of the range."""
    degree = draw(st.integers(1, 4))
    knots = sorted(draw(st.lists(st.integers(-9, 9).map(float), min_size=3 * degree + 2, max_size=3 * degree + 6)))
    knots[-degree - 1 :] = [knot + 1 for knot in knots[-degree - 1 :]]
    return {
        "knots": knots, "degree": degree, "include_bias": draw(st.booleans()),
        "extrapolation": draw(st.sampled_from(["constant", "linear", "continue", "periodic", "error"])),
        "missing": draw(st.sampled_from(["nan", "zeros"])),
    }  # fmt: skip


def is_in(kind):
    return categories(kind).map(lambda known: {"is_in": {"categories": known[0]}})


NUMBER_STEPS = st.one_of(
    st.sampled_from(["log1p", "log", "exp", "sqrt", "abs", "log1p"]),
    st.fixed_dictionaries({"power_transform": POWER}),
    st.fixed_dictionaries({"quantile_transform": QUANTILES}),
    st.tuples(positive, st.booleans()).map(lambda t: {"max_abs_scale": {"scale": t[0], "clip": t[1]}}),
    st.fixed_dictionaries({"standard_scale": st.fixed_dictionaries({"mean": modest, "scale": positive})}),
    st.fixed_dictionaries({"robust_scale": st.fixed_dictionaries({"center": modest, "scale": positive})}),
    st.tuples(modest, modest, st.booleans()).map(
        lambda t: {"min_max_scale": {"data_min": min(t[:2]), "data_max": max(t[:2]), "clip": t[2]}}
    ),
    modest.map(lambda by: {"multiply": {"by": by}}),
    st.tuples(modest, modest).map(lambda t: {"clip": {"min": min(t), "max": max(t)}}),
    modest.map(lambda x: {"clip": {"max": x}}),
)
BUCKETIZE = st.lists(modest, min_size=1, max_size=6, unique=True).map(lambda e: {"bucketize": {"edges": sorted(e)}})
K_BINS = st.tuples(st.lists(modest, max_size=6, unique=True), st.sampled_from(["onehot", "ordinal"])).map(
    lambda t: {"k_bins": {"edges": sorted(t[0]), "encode": t[1]}}
)
HASH = st.fixed_dictionaries(
    {"buckets": st.integers(1, 9), "seed": st.integers(0, 2**32 - 1), "signed": st.booleans()}
).map(lambda arguments: {"hash": arguments})
ZONES = st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca"])
ELAPSED = {"unit": st.sampled_from(["us", "ms", "s", "minutes", "hours", "days"])}
ELAPSED_SINCE = st.fixed_dictionaries({"instant": st.datetimes().map(lambda t: t.isoformat()), **ELAPSED})
HOLIDAY = st.fixed_dictionaries(
    {
        "dates": st.lists(st.sampled_from(["2012-02-29", "2012-03-01", "0001-01-01", "9999-12-31"]), min_size=1),
        "time_zone": ZONES,
    }
)
FILLED_TEXT = words.map(lambda text: {"impute": {"value": text}})
CYCLIC = positive.map(lambda period: {"cyclic": {"period": period}})


TEXT_STEPS = st.one_of(
    st.sampled_from(["lower", "upper", "strip"]),
    st.just({"strip": {"characters": "ab "}}),
    st.sampled_from(["a", "b", "ab", "é"]).map(lambda old: {"replace": {"old": old, "new": "x"}}),
    st.sampled_from([r"\w+", r"[ab]+(.)?", "(?i)^x*(a|b)"]).map(lambda p: {"regex_extract": {"pattern": p}}),
    st.just({"regex_extract": {"pattern": r"([a-z])(\w*)", "group": 2}}),
)


@st.composite
def vectorizer(draw, whole_output):
    """A step that counts terms; with ``whole_output``, without weights."""
    analyzer = draw(st.sampled_from(["word", "char", "char_wb"]))
    arguments = {
        "analyzer": analyzer, "lowercase": draw(st.booleans()), "binary": draw(st.booleans()),
        "strip_accents": draw(st.sampled_from([None, "ascii", "unicode"])),
        "ngram_range": sorted(draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))),
    }  # fmt: skip
    if analyzer == "word":
        arguments["token_pattern"] = draw(st.sampled_from([None, r"\w", r"[^\W\d_]+", r"\b\w+\b"]))
        arguments["stop_words"] = draw(st.lists(words, max_size=2))
    norm = None if whole_output else draw(st.sampled_from([None, "l1", "l2"]))
    if draw(st.booleans()):
        hashing = {"buckets": draw(st.integers(1, 9)), "signed": draw(st.booleans()), "norm": norm}
        return {"hashing_vectorize": arguments | hashing}
    arguments["terms"] = draw(st.lists(words, min_size=1, max_size=8, unique=True))
    if whole_output or draw(st.booleans()):
        return {"count_vectorize": arguments}
    idf = draw(st.none() | st.lists(positive, min_size=len(arguments["terms"]), max_size=len(arguments["terms"])))
    return {"tfidf_vectorize": arguments | {"idf": idf, "sublinear_tf": draw(st.booleans()), "norm": norm}}


@st.composite
def time_step(draw):
    """A step that takes an instant, and the kind that it gives."""
    match draw(st.sampled_from(["part", "part", "elapsed", "holiday", "compare"])):
        case "compare":
            return draw(compare("timestamp", {"value": CONSTANTS["timestamp"]})), "bool"
        case "elapsed":
            return {"elapsed_since": draw(ELAPSED_SINCE)}, "float"
        case "holiday":
            return {"holiday": draw(HOLIDAY)}, "bool"
    part = draw(st.sampled_from(TIMESTAMP_PARTS))
    zone = {} if part == "epoch_seconds" else {"time_zone": draw(ZONES)}
    return {"timestamp_part": {"part": part, **zone}}, "bool" if part.startswith("is_") else "int"


ORDERS = ["less", "less_or_equal", "greater", "greater_or_equal"]


def compare(kind, value):
    relations = ["equal", "not_equal"] if kind == "string" else ["equal", "not_equal", *ORDERS]
    return st.fixed_dictionaries({"relation": st.sampled_from(relations), **value}).map(lambda a: {"compare": a})


NUMBERS = ("float", "int", "bool")
ZERO_DIVISION = st.one_of(st.just("nan"), modest).map(lambda value: {"ratio": {"zero_division": value}})


@st.composite
def place(draw, names):
    """A distance or a cell, of columns that may well be out of range."""
    out_of_range = {"out_of_range": draw(st.sampled_from(["nan", "nan", "error"]))}
    pair = draw(st.lists(names, min_size=2, max_size=2))
    if draw(st.booleans()):
        return {
            "columns": pair,
            "steps": [{"geohash": {"precision": draw(st.integers(1, 12)), **out_of_range}}],
        }, "string"
    if draw(st.booleans()):
        step = {"unit": draw(st.sampled_from(["km", "m", "miles"])), **out_of_range}
        return {
            "columns": [*pair, *draw(st.lists(names, min_size=2, max_size=2))],
            "steps": [{"haversine": step}],
        }, "float"
    points = st.dictionaries(st.sampled_from("abc"), st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1)
    return {"columns": pair, "steps": [{"haversine": {"points": draw(points), **out_of_range}}]}, "float"


@st.composite
def across_columns(draw, columns):
    """A feature of several columns that comes to one value a row, and the kind of that."""
    kind = columns[draw(st.sampled_from(sorted(columns)))]["type"]
    alike = NUMBERS if kind in NUMBERS else (kind,)
    names = st.sampled_from([name for name, column in columns.items() if column["type"] in alike])
    step = draw(st.sampled_from(["two", "all", "compare", "coalesce", "place"]))
    if step == "place" and kind in NUMBERS:
        return draw(place(names))
    if step == "coalesce":
        several = draw(st.lists(names, min_size=1, max_size=4))
        kinds = {columns[name]["type"] for name in several}
        kind = kind if kind not in NUMBERS else "float" if "float" in kinds else "bool" if kinds == {"bool"} else "int"
        return {"columns": several, "steps": ["coalesce"]}, kind
    if step == "all" and kind in NUMBERS:
        several = st.lists(names, min_size=1, max_size=4)
        return {"columns": draw(several), "steps": [draw(st.sampled_from(["sum", "product"]))]}, "float"
    pair = draw(st.lists(names, min_size=2, max_size=2))
    if step == "compare" or kind == "string":
        return {"columns": pair, "steps": [draw(compare(kind, {}))]}, "bool"
    if kind == "timestamp":
        return {"columns": pair, "steps": [{"elapsed_since": draw(st.fixed_dictionaries(ELAPSED))}]}, "float"
    return {"columns": pair, "steps": [draw(st.one_of(ZERO_DIVISION, st.just("difference")))]}, "float"


@st.composite
def several_columns(draw, columns):
    """Columns of one kind side by side, perhaps in another order."""
    kind = columns[draw(st.sampled_from(sorted(columns)))]["type"]
    names = st.sampled_from([name for name, column in columns.items() if column["type"] == kind])
    several = draw(st.lists(names, min_size=1, max_size=3))
    places = st.lists(st.integers(0, len(several) - 1), min_size=1, max_size=4)
    select = [{"select": {"places": draw(places)}}] if draw(st.booleans()) else []
    return {"columns": several, "steps": select}, kind


@st.composite
def text_feature(draw, columns):
    """One feature that a string output takes, of columns that are texts."""
    return {"column": draw(st.sampled_from(columns)), "steps": draw(st.lists(FILLED_TEXT, max_size=1))}


@st.composite
def feature(draw, columns, whole_output, nested=True):
    """One feature that such an output takes."""
    single = {name: column for name, column in columns.items() if column["type"] != "strings"}
    match draw(st.sampled_from(["column", "column", "across", "several", "constant", "features"])):
        case "across" if single:
            entry, kind = draw(across_columns(single))
        case "several":
            entry, kind = draw(several_columns(columns))
        case "constant":
            kind = draw(st.sampled_from(["float", "int", "bool", "string"]))
            entry = {"constant": draw(CONSTANTS[kind]), "steps": []}
        case "features" if nested:
            return {"features": draw(st.lists(feature(columns, whole_output, nested=False), min_size=1, max_size=2))}
        case _:
            name = draw(st.sampled_from(sorted(columns)))
            entry, kind = {"column": name, "steps": []}, columns[name]["type"]
    return {**entry, "steps": [*entry["steps"], *draw(chain(kind, whole_output))]}


@st.composite
def chain(draw, kind, whole_output, last=True):
    """Steps that take a column of ``kind`` to elements that a float (or, with ``whole_output``, int64) output takes.

    Unless it is ``last``, further steps may follow.
    """
    steps = []
    if kind != "strings" and draw(st.booleans()):
        steps.append({"impute": {"value": draw(CONSTANTS[kind]), "indicator": draw(st.booleans())}})
    if kind == "string":
        steps += draw(st.lists(TEXT_STEPS, max_size=2))
    if kind == "string" and draw(st.booleans()):
        steps.append("text_length")
        kind = "int"
    elif kind == "string" and draw(st.integers(0, 2)) == 0:
        steps.append({"split": {"separator": draw(st.sampled_from(["|", "a", " B", "é", "ab"]))}})
        kind = "strings"
    if kind == "timestamp":
        step, kind = draw(time_step())
        steps.append(step)
    if kind not in ("string", "strings") and draw(st.booleans()):
        steps += draw(st.lists(NUMBER_STEPS, min_size=1, max_size=3))
        kind = "float"
    if kind not in ("string", "strings") and draw(st.booleans()):
        steps.append(draw(BUCKETIZE))
        kind = "int"
    if last and kind == "string" and draw(st.booleans()):
        return [*steps, draw(vectorizer(whole_output))]
    endings = [st.just("missing_indicator")]
    if kind == "strings":
        endings.append(multi_hot())
    else:
        endings += [one_hot(kind), ordinal(kind, whole_output), is_in(kind), compare(kind, {"value": CONSTANTS[kind]})]
    if last and kind in ("string", "int", "strings"):
        endings.append(HASH)
    if kind in ("string", "int", "bool"):
        endings.append(vocabulary_id(kind))
    if kind != "strings" and not whole_output:
        endings += [target_encode(kind), frequency_encode(kind)]
    if kind in ("int", "bool") or (kind == "float" and not whole_output):
        endings.append(st.just("passthrough"))
    if kind not in ("string", "strings"):
        endings.append(K_BINS)
    if kind not in ("string", "strings"):
        endings.append(modest.map(lambda threshold: {"binarize": {"threshold": threshold}}))
    if kind not in ("string", "strings") and not whole_output:
        endings += [CYCLIC, spline().map(lambda arguments: {"spline": arguments})]
    steps.append(draw(st.one_of(endings)))
    return steps


NORMALIZE = st.sampled_from(["l1", "l2", "max"]).map(lambda norm: {"normalize": {"norm": norm}})
POLYNOMIAL = st.tuples(st.integers(0, 1), st.integers(1, 2), st.booleans(), st.booleans()).map(
    lambda t: {"polynomial": {"degree": t[:2], "interaction_only": t[2], "include_bias": t[3]}}
)


@st.composite
def group(draw, columns, whole_output):
    """Features side by side, some of which are taken further together."""
    names = draw(st.lists(st.sampled_from(sorted(columns)), min_size=1, max_size=3))
    features = [{"column": c, "steps": draw(chain(columns[c]["type"], whole_output, last=False))} for c in names]
    steps = []
    if draw(st.booleans()):
        # What is not selected is not computed, so it must not be what fails a row.
        features = [{"column": c, "steps": ["missing_indicator"]} for c in names]
        places = st.lists(st.integers(0, len(names) - 1), min_size=1, max_size=4)
        steps.append({"select": {"places": draw(places)}})
    if not whole_output:
        steps += draw(st.lists(st.one_of(NUMBER_STEPS, NORMALIZE, POLYNOMIAL), max_size=2))
    return {"features": features, "steps": steps, "prefix": draw(st.sampled_from(["", "g__"]))}


@st.composite
def pages(draw, groups=False):
    """A page as YAML would give it."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    columns = {}
    for i, kind in enumerate(kinds):
        column = {"type": kind, "optional": draw(st.booleans())}
        if not column["optional"]:
            column["missing"] = draw(st.sampled_from(["allow", "allow", "error"]))
        if kind == "float":
            column["infinite"] = draw(st.sampled_from(["allow", "allow", "error"]))
        columns[f"c{i}"] = column
    outputs = {}
    for name in ["x", "y"][: draw(st.integers(1, 2))]:
        texts = [c for c, column in columns.items() if column["type"] == "string"]
        dtype = draw(st.sampled_from(["float32", "float64", "int64"] + ["string"] * bool(texts)))
        whole = dtype == "int64"
        features = draw(
            st.lists(text_feature(texts) if dtype == "string" else feature(columns, whole), min_size=1, max_size=4)
        )
        if groups and dtype != "string":
            features.append(draw(group(columns, whole)))
        outputs[name] = {"dtype": dtype, "features": features}
    return {"columns": columns, "outputs": outputs}


@st.composite
def pages_with_rows(draw, groups=False):
    """A page and ``{column: values}``; an optional column may be left out."""
    page = draw(pages(groups))
    count = draw(st.one_of(st.integers(0, 5), st.sampled_from([63, 64, 65, 130]) if not groups else st.just(65)))
    rows = {}
    for name, column in page["columns"].items():
        if column["optional"] and draw(st.booleans()):
            continue
        few = draw(st.lists(VALUES[column["type"]], min_size=1, max_size=6))
        rows[name] = [few[i % len(few)] for i in range(count)]
    return page, count, rows
