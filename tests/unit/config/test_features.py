"""features.yaml: every mistake at once, with file and path; no YAML hurts; specs round-trip through JSON and YAML."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.features import (
    MAX_DEPTH,
    MAX_PROBLEMS,
    STEPS,
    FeatureSpec,
    load_feature_spec,
    parse_features,
    read_page,
)
from gateway.config.yaml_reader import parse_yaml
from gateway.core.errors import ConfigurationError
from gateway.features.compiler import load_plan
from gateway.features.page_writer import page_text, write_page
from tests.fast.feature_pages import pages


def page_of(*steps, column="float", **output):
    return {"columns": {"c": column}, "outputs": {"x": {"features": [{"column": "c", "steps": list(steps)}], **output}}}


def problems_of(document):
    with pytest.raises(ConfigurationError) as caught:
        parse_features(document, "features.yaml")
    assert all(problem.file == "features.yaml" for problem in caught.value.problems)
    return {problem.path: problem.message for problem in caught.value.problems}


STEP = "outputs.x.features.0.steps.0"


@pytest.mark.parametrize(
    ("step", "path", "message"),
    [
        ("log2", STEP, "no step is called 'log2'; did you mean `log`?"),
        ("quux", STEP, f"no step is called 'quux'; known are {', '.join(STEPS)}"),
        ({"step": "log2"}, STEP, "no step is called 'log2'; did you mean `log`?"),
        (3, STEP, "a step is expected, such as `log1p` or `clip: {min: 0}`, not 3"),
        ({"clip": 3}, STEP, "the arguments of step 'clip' must be a mapping, not 3"),
        ({"clip": None}, f"{STEP}.clip", "give `min`, `max` or both"),
        ({"clip": {"min": 3, "max": 2}}, f"{STEP}.clip", "`min` 3.0 is above `max` 2.0"),
        ({"clip": {"min": "0"}}, f"{STEP}.clip.min", "input should be a valid number, not '0'"),
        ({"clip": {"min": True}}, f"{STEP}.clip.min", "input should be a valid number, not True"),
        ({"clip": {"mini": 0, "max": 1}}, f"{STEP}.clip.mini", "unknown key; did you mean `min`?"),
        ({"clip": {"zzz": 0, "max": 1}}, f"{STEP}.clip.zzz", "unknown key; known are min, max"),
        ({"impute": {}}, f"{STEP}.impute.value", "is required"),
        ({"impute": {"vlaue": 3}}, f"{STEP}.impute.vlaue", "unknown key; did you mean `value`?"),
        ({"impute": {"value": {}}}, f"{STEP}.impute.value",
         "expected a finite number, a text, true or false, not {}"),
        ({"impute": {"value": float("nan")}}, f"{STEP}.impute.value",
         "expected a finite number, a text, true or false, not nan"),
        ({"impute": {"value": 2**63}}, f"{STEP}.impute.value",
         f"expected a finite number, a text, true or false, not {2**63}"),
        ({"standard_scale": {"scale": 0}}, f"{STEP}.standard_scale.scale", "input should be greater than 0, not 0"),
        ({"standard_scale": {"mean": float("inf")}}, f"{STEP}.standard_scale.mean",
         "input should be a finite number, not inf"),
        ({"min_max_scale": {"data_min": 2, "data_max": 1}}, f"{STEP}.min_max_scale",
         "`data_min` 2.0 is above `data_max` 1.0"),
        (
            {"min_max_scale": {"data_min": 1, "data_max": 2, "feature_range": [1, 1]}},
            f"{STEP}.min_max_scale", "`feature_range` [1.0, 1.0] does not ascend",
        ),
        ({"bucketize": {"edges": [1, 1]}}, f"{STEP}.bucketize.edges",
         "must ascend, but edge 1 (1.0) is not above edge 0 (1.0)"),
        ({"one_hot": {"categories": [""]}}, f"{STEP}.one_hot.categories.0",
         "the empty text is a missing value: write null for it"),
        ({"one_hot": {"categories": []}}, f"{STEP}.one_hot", "`categories` is empty"),
        ({"one_hot": {}}, f"{STEP}.one_hot", "give either `categories` or `vocabulary`"),
        (
            {"one_hot": {"vocabulary": {"file": "../v.txt", "sha256": "0" * 64}}},
            f"{STEP}.one_hot.vocabulary.file",
            r"string should match pattern '^[A-Za-z0-9_][A-Za-z0-9_.\-]*$', not '../v.txt'",
        ),
        (
            {"one_hot": {"vocabulary": {"name": "v.txt", "file": "v", "sha256": "0" * 64}}},
            f"{STEP}.one_hot.vocabulary.name", "unknown key; known are file, sha256",
        ),
        ({"ordinal": {"categories": [1], "unknown": "ignore"}}, f"{STEP}.ordinal.unknown",
         "expected error, nan, infrequent, an integer of 32 bits or a finite float, not 'ignore'"),
        ({"ordinal": {"categories": [1], "missing": 2**31}}, f"{STEP}.ordinal.missing",
         f"expected nan, error, an integer of 32 bits or a finite float, not {2**31}"),
        ({"hash": {"buckets": 0}}, f"{STEP}.hash.buckets", "input should be greater than or equal to 1, not 0"),
        ({"cyclic": {"period": -1}}, f"{STEP}.cyclic.period", "input should be greater than 0, not -1"),
        ({"replace": {"old": ""}}, f"{STEP}.replace.old", "string should have at least 1 character, not ''"),
        ({"count_vectorize": {}}, f"{STEP}.count_vectorize", "give either `terms` or `vocabulary`"),
        ({"count_vectorize": {"terms": []}}, f"{STEP}.count_vectorize.terms", "is empty"),
        ({"count_vectorize": {"terms": ["a"], "ngram_range": [2, 1]}}, f"{STEP}.count_vectorize",
         "`ngram_range` [2, 1] does not ascend"),
        ({"count_vectorize": {"terms": ["a"], "ngram_range": [0, 1]}}, f"{STEP}.count_vectorize.ngram_range.0",
         "input should be greater than or equal to 1, not 0"),
        ({"count_vectorize": {"terms": ["a"], "analyzer": "char", "stop_words": ["b"]}}, f"{STEP}.count_vectorize",
         "`token_pattern` and `stop_words` are of words, but `analyzer` is char"),
        ({"tfidf_vectorize": {"terms": ["a"], "idf": [1.0, 2.0]}}, f"{STEP}.tfidf_vectorize",
         "`idf` has 2 weights for 1 terms"),
        (
            {"tfidf_vectorize": {"terms": ["a"], "idf": [1.0], "idf_file": {"file": "v", "sha256": "0" * 64}}},
            f"{STEP}.tfidf_vectorize", "give either `idf` or `idf_file`",
        ),
        (
            {"tfidf_vectorize": {"terms": ["a"], "idf_file": {"name": "v", "file": "v", "sha256": "0" * 64}}},
            f"{STEP}.tfidf_vectorize.idf_file.name", "unknown key; known are file, sha256",
        ),
    ],
)  # fmt: skip
def test_mistake_in_a_step_is_told_at_its_path(step, path, message):
    assert problems_of(page_of(step)) == {path: message}


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        (None, "", "a mapping is expected, not None"),
        ([], "", "a mapping is expected, not []"),
        ({"outputs": {"x": {"features": ["c"]}}}, "columns", "is required"),
        ({**page_of(), "format": 2}, "format", "input should be 1, not 2"),
        ({**page_of(), "colums": {}}, "colums", "unknown key; did you mean `columns`?"),
        (page_of(column="flaot"), "columns.c.type",
         "input should be 'float', 'int', 'string', 'bool', 'timestamp' or 'strings', not 'flaot'"),
        (page_of(column={"type": "int", "kind": 1}), "columns.c.kind",
         "unknown key; known are type, optional, missing, infinite, unit"),
        (page_of(column={"type": "int", "unit": "ms"}), "columns.c", "`unit` is for timestamp columns, not int"),
        (page_of(column={"type": "int", "infinite": "error"}), "columns.c", "`infinite` is for float columns, not int"),
        (
            page_of(column={"type": "int", "optional": True, "missing": "error"}), "columns.c",
            "an optional column is missing where it is left out: it cannot say `missing: error`",
        ),
        (page_of(dtype="float16"), "outputs.x.dtype",
         "input should be 'float32', 'float64', 'int64' or 'string', not 'float16'"),
        (page_of(typ="float16"), "outputs.x.typ", "unknown key; did you mean `dtype`?"),
        ({**page_of(), "outputs": {"x": {"features": [{"column": "c", "step": []}]}}}, "outputs.x.features.0.step",
         "unknown key; did you mean `steps`?"),
        ({**page_of(), "outputs": {"x": {"features": []}}}, "outputs.x.features", "is empty"),
        ({**page_of(), "outputs": {}}, "outputs", "is empty"),
        (page_of({"bucketize": {"edges": []}}), f"{STEP}.bucketize.edges", "is empty"),
        ({**page_of(), "outputs": {"x": ["c"]}}, "outputs.x", "a mapping is expected, not ['c']"),
        ({**page_of(), "columns": {1: "int"}}, "columns.1", "input should be a valid string, not 1"),
    ],
)  # fmt: skip
def test_mistake_in_the_page_is_told_at_its_path(document, path, message):
    assert problems_of(document) == {path: message}


def test_five_mistakes_are_five_problems():
    document = page_of("log2", {"clip": {"min": 2, "max": 1}}, {"hash": {"bucket": 3}}, dtype="float16")
    document["columns"]["d"] = "text"
    assert len(problems_of(document)) == 5


def test_over_a_thousand_categories_belong_into_a_file():
    known = list(range(1001))
    ((path, message),) = problems_of(page_of({"one_hot": {"categories": known}}, column="int")).items()
    assert path == f"{STEP}.one_hot.categories"
    assert message == "has 1001 entries, but at most 1000 are taken"


# YAML that means harm.


def _page_with(step):
    return f"columns: {{c: float}}\noutputs: {{x: {{features: [{{column: c, steps: [{step}]}}]}}}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [x]\nb: [*a, *a]", "anchors and aliases are not taken"),
        ("a: &a [*a]", "anchors and aliases are not taken"),
        ("columns: {c: float, c: int}", "key 'c' stands twice"),
        ("columns: !!python/object/apply:os.system [ls]", "tags are not taken, but 'tag:yaml.org,2002:python/object"),
        ("columns: !!binary aGVsbG8=", "tags are not taken, but 'tag:yaml.org,2002:binary' came"),
        ("columns: !!timestamp now", "tags are not taken, but 'tag:yaml.org,2002:timestamp' came"),
        ("columns: !!float ''", "tags are not taken"),
        ("columns: !!set {a, b}", "tags are not taken"),
        ("columns: [", "line 2, column 1: did not find expected node content"),
        ("[" * 20_000, "line 1, column 101: nested deeper than 100 levels"),
        ("{a: " * 20_000, "line 1, column 401: nested deeper than 100 levels"),
        ("- " * 20_000, "nested deeper than 100 levels"),
        ("\x00", "not YAML"),
        ("? {a: 1}\n: x", "a key must be plain text"),
        ("---\na: 1\n---\nb: 2", "line 3, column 1: a second document begins here"),
        ("<<: {columns: {c: float}}\noutputs: {x: {features: [c]}}", "<<: unknown key"),
        ("columns: {c: float, 1: float}\noutputs: {x: {features: [c]}}", "columns.1: input should be a valid string"),
        (
            "columns: {c: float, ~: float}\noutputs: {x: {features: [c]}}",
            "columns.None: input should be a valid string",
        ),
        (_page_with("clip: {min: .nan}"), "min: input should be a finite number, not nan"),
        (_page_with("clip: {min: -.inf}"), "min: input should be a finite number, not -inf"),
        (_page_with("clip: {min: 1e400}"), "min: input should be a finite number, not inf"),
        (_page_with("impute: {value: 1e400}"), "expected a finite number"),
        (_page_with("impute: {value: 9223372036854775808}"), "expected a finite number"),
        (_page_with("impute: {value: " + "9" * 5_000 + "}"), "9… is no number that can be read"),
        (_page_with("hash: {buckets: 1000000000000}"), "buckets: input should be less than or equal to 1048576"),
        (_page_with("one_hot: {categories: [0x" + "f" * 100 + "]}"), "one_hot: the category '0xffff"),
    ],
)
def test_hostile_yaml_is_a_problem_with_its_place(tmp_path, text, message):
    path = tmp_path / "features.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_plan(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def nested(depth):
    feature = "c"
    for _ in range(depth):
        feature = {"features": [feature], "steps": ["log1p"]}
    return page_of() | {"outputs": {"x": {"features": ["c", feature]}}}


def test_features_lie_within_features_to_a_stated_depth(tmp_path):
    parse_features(nested(MAX_DEPTH))
    path = "outputs.x.features.1" + ".features.0" * (MAX_DEPTH + 1)
    for depth in (MAX_DEPTH + 1, 5_000):
        assert problems_of(nested(depth)) == {path: f"features lie deeper than {MAX_DEPTH} within features"}
    (tmp_path / "features.yaml").write_text(json.dumps(nested(MAX_DEPTH + 1)))
    with pytest.raises(ConfigurationError, match="features lie deeper than 16 within features"):
        read_page(tmp_path / "features.yaml")


def test_a_flood_of_mistakes_is_cut_short():
    problems = problems_of(page_of() | {f"k{i}": i for i in range(100_000)})
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[""] == f"and {100_000 - MAX_PROBLEMS} more"


def test_huge_page_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "features.yaml"
    path.write_bytes(b"#" * (5 << 20))
    with pytest.raises(ConfigurationError, match="larger than 4 MiB"):
        load_feature_spec(path)


def test_file_that_is_not_there_is_a_problem(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_page(tmp_path / "features.yaml")


# Round trips.


@settings(max_examples=60, deadline=None)
@given(pages())
def test_spec_survives_json_and_yaml(document):
    """Whatever the page: its JSON form and its YAML form are read as the same spec."""
    spec = parse_features(document)
    assert FeatureSpec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec
    assert parse_features(parse_yaml(page_text(spec), "page")) == spec


@given(
    st.one_of(st.text(min_size=1), st.sampled_from(["no", "1e5", "0o7", "007", "12:30", "2013-01-01", "~", "- a", "é"]))
)
def test_every_text_survives_the_written_page(text):
    document = page_of({"one_hot": {"categories": [text]}}, column="string")
    spec = parse_features(document)
    assert parse_features(parse_yaml(page_text(spec), "page")) == spec


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_survives_the_written_page(number):
    spec = parse_features(page_of({"standard_scale": {"mean": number}}))
    assert parse_features(parse_yaml(page_text(spec), "page")) == spec


def test_written_page_is_short(tmp_path: Path):
    spec = parse_features(
        page_of("log1p", {"clip": {"min": 0.0, "max": 1.0}}, column={"type": "float", "missing": "error"})
    )
    write_page(spec, tmp_path / "features.yaml")
    assert (tmp_path / "features.yaml").read_text() == (
        "format: 1\n"
        "columns:\n"
        "  c: {type: float, missing: error}\n"
        "outputs:\n"
        "  x:\n"
        "    dtype: float32\n"
        "    features:\n"
        "    - column: c\n"
        "      steps:\n"
        "      - log1p\n"
        "      - clip: {min: 0.0, max: 1.0}\n"
    )
