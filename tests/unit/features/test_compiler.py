"""The compiler: every type checked at load, against the columns, the vocabulary files and the graph, all at once."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.features import parse_features
from gateway.core.errors import ConfigurationError, FeatureInputInvalid
from gateway.core.tensors import DataType, TensorSpec
from gateway.features.compiler import MAX_ROW_ELEMENTS, compile_plan, load_plan, parts_of


def page_of(*steps, column="float", **output):
    return {"columns": {"c": column}, "outputs": {"x": {"features": [{"column": "c", "steps": list(steps)}], **output}}}


def problems_of(document, folder, graph=None):
    with pytest.raises(ConfigurationError) as caught:
        compile_plan(parse_features(document), folder, graph, "v/features.yaml")
    assert all(problem.file == "v/features.yaml" for problem in caught.value.problems)
    return [(problem.path, problem.message) for problem in caught.value.problems]


FEATURE = "outputs.x.features.0"


@pytest.mark.parametrize(
    ("column", "steps", "path", "message"),
    [
        ("string", ["log1p"], ".steps.0.log1p", "takes float or int or bool, but is given string"),
        ("float", [{"hash": {"buckets": 2}}], ".steps.0.hash", "takes string or int or strings, but is given float"),
        ("float", [{"timestamp_part": {"part": "day"}}], ".steps.0.timestamp_part",
         "takes timestamp, but is given float"),
        ("string", [{"hash": {"buckets": 2}}, "log1p"], ".steps.1.log1p",
         "nothing can follow a step that spreads its elements by hash or by terms"),
        ("string", [], "", "ends as a string, which is no number: add one_hot, ordinal, hash or a vectorizer"),
        ("timestamp", [], "", "ends as a timestamp, which is no number: add timestamp_part"),
        ("string", [{"impute": {"value": ""}}], ".steps.0.impute",
         "`value` must be a text that is not empty for a string"),
        ("string", [{"impute": {"value": 3}}], ".steps.0.impute", "`value` must be a text"),
        ("timestamp", [{"impute": {"value": "now"}}], ".steps.0.impute", "`value` must be an instant such as"),
        ("bool", [{"impute": {"value": 1}}], ".steps.0.impute", "`value` must be true or false for a bool, not 1"),
        ("int", [{"impute": {"value": "1"}}], ".steps.0.impute", "`value` must be a number for an int, not '1'"),
        ("float", [{"impute": {"value": True}}], ".steps.0.impute", "`value` must be a number for a float, not True"),
        ("string", [{"one_hot": {"categories": [1]}}], ".steps.0.one_hot", "the category 1 is no string"),
        ("int", [{"one_hot": {"categories": [True]}}], ".steps.0.one_hot", "the category True is no int"),
        ("int", [{"one_hot": {"categories": [1.0]}}], ".steps.0.one_hot", "the category 1.0 is no int"),
        ("bool", [{"one_hot": {"categories": [1]}}], ".steps.0.one_hot", "the category 1 is no bool"),
        ("int", [{"one_hot": {"categories": [1, 2, 1]}}], ".steps.0.one_hot", "a category stands twice: 1"),
        ("int", [{"ordinal": {"categories": [1, None], "infrequent": [None]}}], ".steps.0.ordinal",
         "stands twice: null"),
        ("int", [{"one_hot": {"categories": [1], "drop": [2]}}], ".steps.0.one_hot",
         "`drop` names 2, which is not among"),
        ("int", [{"one_hot": {"categories": [1], "unknown": "infrequent"}}], ".steps.0.one_hot",
         "`infrequent` names no cat"),
        ("int", [{"ordinal": {"categories": [1], "unknown": "infrequent"}}], ".steps.0.ordinal",
         "`infrequent` names no cat"),
    ],
)  # fmt: skip
def test_step_that_does_not_fit_is_told_at_its_path(column, steps, path, message, tmp_path):
    ((where, told),) = problems_of(page_of(*steps, column=column), tmp_path)
    assert where == FEATURE + path
    assert message in told


@pytest.mark.parametrize(
    ("constant", "steps"),
    [
        ("x", [{"one_hot": {"categories": ["a"]}}]),
        ("x", [{"ordinal": {"categories": ["a"], "unknown": "error"}}]),
        ("x", [{"vocabulary_id": {"categories": ["a"], "oov_buckets": 0}}]),
        ("a|x", [{"split": {"separator": "|"}}, {"multi_hot": {"categories": ["a"], "unknown": "error"}}]),
        (3, [{"target_encode": {"categories": [1], "encodings": [0.5], "mean": 0.1, "unknown": "error"}}]),
        (3.5, [{"frequency_encode": {"categories": [1.0], "counts": [5], "unknown": "error"}}]),
        (9.0, ["sqrt", {"spline": {"knots": [-1.0, 0.0, 1.0, 2.0], "degree": 1, "extrapolation": "error"}}]),
    ],
)
def test_constant_that_a_step_refuses_is_told_at_load_and_not_row_by_row(constant, steps, tmp_path):
    page = {"columns": {"c": "float"}, "outputs": {"x": {"features": ["c", {"constant": constant, "steps": steps}]}}}
    name = next(iter(steps[-1]))
    path = f"outputs.x.features.1.steps.{len(steps) - 1}.{name}"
    ((where, message),) = problems_of(page, tmp_path)
    assert where == path
    assert message.startswith("refuses the constant that it is given, so that every row would fail")


def test_constant_that_a_step_refuses_inside_of_a_combination_is_told(tmp_path):
    sources = ["c", "c", {"constant": 95.0}, {"constant": 0.0}]
    feature = {"features": sources, "steps": [{"haversine": {"out_of_range": "error"}}, "log1p"]}
    page = {"columns": {"c": "float"}, "outputs": {"x": {"features": [feature]}}}
    ((where, message),) = problems_of(page, tmp_path)
    assert where == "outputs.x.features.0.steps.0.haversine"
    assert "refuses the constant" in message


def test_missing_constant_of_an_int64_output_is_told(tmp_path):
    feature = {"constant": "x", "steps": [{"ordinal": {"categories": ["a"], "unknown": "nan"}}]}
    page = {"columns": {"c": "int"}, "outputs": {"x": {"dtype": "int64", "features": ["c", feature]}}}
    ((path, message),) = problems_of(page, tmp_path)
    assert path == "outputs.x.features.1"
    assert message == "is a missing value in every row, which an int64 output cannot hold: change the constant"


def test_one_unfit_step_does_not_make_problems_of_those_behind_it(tmp_path):
    steps = [{"timestamp_part": {"part": "hour"}}, {"cyclic": {"period": 24}}]
    assert len(problems_of(page_of(*steps, column="string"), tmp_path)) == 1
    two = ["log1p", {"one_hot": {"categories": [1, 1]}}]
    assert len(problems_of(page_of(*two, column="string"), tmp_path)) == 2


def test_unknown_column_is_told_with_those_there_are(tmp_path):
    document = page_of()
    document["outputs"]["x"]["features"] = ["d"]
    assert problems_of(document, tmp_path) == [
        (f"{FEATURE}.column", "no column is called 'd'; known are c"),
    ]
    document["columns"] = {f"c{i}": "float" for i in range(20)}
    assert problems_of(document, tmp_path)[0][1].endswith("known are c0, c1, c2, c3, c4, c5, c6, c7, …")


@pytest.mark.parametrize("steps", [[], ["log1p"], [{"cyclic": {"period": 2}}]])
def test_int64_output_takes_no_floats(steps, tmp_path):
    ((path, message),) = problems_of(page_of(*steps, dtype="int64"), tmp_path)
    assert (path, message) == (
        FEATURE,
        "an int64 output takes int, bool, one_hot, multi_hot, hash and counts, but this gives float",
    )


def test_output_without_an_element_is_told(tmp_path):
    document = page_of({"one_hot": {"categories": [1], "drop": [1]}})
    assert problems_of(document, tmp_path) == [("outputs.x.features", "give no element: every category is dropped")]


def test_row_of_too_many_elements_is_refused(tmp_path):
    document = page_of({"hash": {"buckets": 1 << 20}}, column="string")
    compile_plan(parse_features(document), tmp_path)
    document["outputs"]["x"]["features"] *= 2
    assert problems_of(document, tmp_path) == [("outputs", f"a row has {2 << 20} elements, over {MAX_ROW_ELEMENTS}")]


def test_indicator_of_impute_gives_one_more_element_untouched_by_later_steps(tmp_path):
    steps = [{"impute": {"value": 4, "indicator": True}}, {"standard_scale": {"mean": 2, "scale": 2}}]
    plan = compile_plan(parse_features(page_of(*steps)), tmp_path)
    (result,) = plan.transform({"c": np.array([6.0, float("nan")])})
    assert result.tolist() == [[2.0, 0.0], [1.0, 1.0]]


# Columns and features side by side.


def group_page(feature, **columns):
    return parse_features({"columns": columns, "outputs": {"x": {"dtype": "float64", "features": [feature]}}})


def test_steps_of_a_group_are_taken_by_each_value_with_its_own_arguments(tmp_path):
    feature = {
        "columns": ["a", "b"],
        "steps": [{"impute": {"value": [1, 2]}}, {"standard_scale": {"mean": [1, 0], "scale": 2}}],
    }
    plan = compile_plan(group_page(feature, a="float", b="float"), tmp_path)
    (result,) = plan.transform({"a": np.array([5.0, np.nan]), "b": np.array([np.nan, 6.0])})
    assert result.tolist() == [[2.0, 1.0], [0.0, 3.0]]
    assert plan.feature_names(0) == ["a", "b"]


def test_features_within_a_feature_stand_side_by_side_and_go_on_together(tmp_path):
    inner = {"column": "s", "steps": [{"one_hot": {"categories": ["u", "v"]}}], "prefix": "cat__"}
    feature = {"features": ["a", inner], "steps": [{"standard_scale": {"mean": [1, 0, 0.5], "scale": [2, 1, 0.5]}}]}
    plan = compile_plan(group_page(feature, a="float", s="string"), tmp_path)
    (result,) = plan.transform({"a": np.array([5.0, 1.0]), "s": ["u", "v"]})
    assert result.tolist() == [[2.0, 1.0, -1.0], [0.0, 0.0, 1.0]]
    assert plan.feature_names(0) == ["a", "cat__s_u", "cat__s_v"]


def test_an_argument_that_lists_too_few_is_told_with_the_values_there_are(tmp_path):
    feature = {"columns": ["a", "b", "c"], "steps": [{"standard_scale": {"mean": [1, 0]}}]}
    spec = group_page(feature, a="float", b="float", c="float")
    with pytest.raises(ConfigurationError, match=r"`mean` lists 2, but 3 values are given: a, b, c"):
        compile_plan(spec, tmp_path)


def test_mistakes_within_a_group_have_their_paths(tmp_path):
    document = {
        "columns": {"a": "float", "s": "string"},
        "outputs": {
            "x": {
                "features": [
                    {"features": [{"column": "s", "steps": ["log1p"]}, {"columns": ["a", "q"]}], "steps": ["log1p"]},
                    {"columns": ["a", "s"], "steps": ["log1p"]},
                ]
            }
        },
    }
    assert problems_of(document, tmp_path) == [
        (f"{FEATURE}.features.0.steps.0.log1p", "takes float or int or bool, but is given string"),
        (f"{FEATURE}.features.1.columns.1.column", "no column is called 'q'; known are a, s"),
        ("outputs.x.features.1.steps.0.log1p", "takes float or int or bool, but is given string (s)"),
    ]


def test_what_is_computed_twice_is_computed_once(tmp_path):
    steps = [{"impute": {"value": 1}}, "log1p", {"standard_scale": {"mean": 1}}]
    once = compile_plan(parse_features(page_of(*steps)), tmp_path)
    document = page_of(*steps)
    document["outputs"]["x"]["features"] *= 3
    assert compile_plan(parse_features(document), tmp_path).instruction_count == once.instruction_count + 2
    document["outputs"]["x"]["features"][2] = {"column": "c", "steps": [*steps[:2], {"standard_scale": {"mean": -0.0}}]}
    assert compile_plan(parse_features(document), tmp_path).instruction_count == once.instruction_count + 3


def test_many_columns_need_few_registers(tmp_path):
    names = [f"c{i}" for i in range(500)]
    features = [{"column": name, "steps": ["log1p", {"clip": {"max": i}}]} for i, name in enumerate(names)]
    document = {"columns": dict.fromkeys(names, "float"), "outputs": {"x": {"features": features}}}
    assert compile_plan(parse_features(document), tmp_path).slot_count == 1


# The graph.


def graph(*shape, name="x", datatype=DataType.FP32, optional=False):
    return TensorSpec(name, datatype, shape, optional)


def test_plan_that_fits_the_graph_has_its_shapes(tmp_path):
    spec = parse_features(page_of({"hash": {"buckets": 6}}, column="string"))
    for shape, given_shape in [((-1, 6), (-1, 6)), ((-1, -1), (-1, 6)), ((-1, 2, 3), (-1, 2, 3)), ((1, 6), (-1, 6))]:
        plan = compile_plan(spec, tmp_path, [graph(*shape), graph(-1, 2, name="y", optional=True)])
        assert plan.output_specs == [graph(*given_shape)]
    one = parse_features(page_of())
    assert compile_plan(one, tmp_path, [graph(-1)]).output_specs == [graph(-1)]


def test_every_difference_from_the_graph_is_told_at_once(tmp_path):
    document = page_of(dtype="float64")
    document["outputs"]["z"] = {"features": ["c"]}
    inputs = [graph(-1, 3), graph(-1, 2, name="y")]
    assert problems_of(document, tmp_path, inputs) == [
        ("outputs.x.dtype", "is float64, but the graph's input is FP32"),
        ("outputs.x.features", "give 1 elements, but the graph's input x FP32[-1, 3] takes 3"),
        ("outputs.z", "the graph has no input of that name; it has x, y"),
        ("outputs", "the graph's input y FP32[-1, 2] is filled by no output"),
    ]
    assert ("outputs.x", "the graph has no input of that name; it has none") in problems_of(page_of(), tmp_path, [])


def test_mistakes_of_grammar_of_types_and_against_the_graph_come_together(tmp_path):
    path = tmp_path / "features.yaml"
    path.write_text(
        "columns: {a: float, b: flaot, s: string}\n"
        "outputs:\n"
        "  x:\n"
        "    features:\n"
        "    - {column: a, steps: [log2]}\n"
        "    - {column: s, steps: [log1p]}\n"
        "    - {column: b}\n"
        "    - {column: q}\n"
        "  y: {dtype: int64, features: [a]}\n"
        "  z: {dtype: float16, features: [a]}\n"
        "  w: nothing\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        load_plan(path, [graph(-1, 9), graph(-1, 1, name="y", datatype=DataType.INT64), graph(-1, 1, name="z")])
    assert all(problem.file == str(path) for problem in caught.value.problems)
    assert [problem.path for problem in caught.value.problems] == [
        "columns.b.type", "outputs.x.features.0.steps.0", "outputs.z.dtype", "outputs.w",
        "outputs.x.features.1.steps.0.log1p", "outputs.x.features.3.column", "outputs.y.features.0", "outputs.w",
    ]  # fmt: skip


def test_page_that_is_no_mapping_is_one_problem(tmp_path):
    path = tmp_path / "features.yaml"
    path.write_text("- columns\n")
    with pytest.raises(ConfigurationError, match="a mapping is expected"):
        load_plan(path)


# Vocabulary files.


def vocabulary_page(lines: bytes, folder, column="string", step="ordinal", **arguments):
    (folder / "v.txt").write_bytes(lines)
    file = {"file": "v.txt", "sha256": hashlib.sha256(lines).hexdigest()}
    return page_of({step: {"vocabulary": file, **arguments}}, column=column)


@given(lines=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n")), min_size=1, unique=True))
def test_vocabulary_file_gives_what_the_same_list_in_place_gives(lines, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    document = vocabulary_page(("\n".join(lines) + "\n").encode(), folder, unknown=-1)
    by_file = compile_plan(parse_features(document), folder)
    in_place = page_of({"ordinal": {"categories": [line or None for line in lines], "unknown": -1}}, column="string")
    by_list = compile_plan(parse_features(in_place), folder)
    asked = [*lines, "no such line", ""]
    got, want = (plan.transform({"c": asked})[0] for plan in (by_file, by_list))
    np.testing.assert_array_equal(got, want)


def test_vocabulary_file_may_hold_numbers_and_a_place_for_missing(tmp_path):
    document = vocabulary_page(b"10\n\n-3\n", tmp_path, column="int", infrequent=[7], unknown="infrequent")
    plan = compile_plan(parse_features(document), tmp_path)
    values = np.array([10, -(2**63), -3, 7, 8])
    assert plan.transform({"c": values})[0][:, 0].tolist() == [0, 1, 2, 3, 3]
    document = vocabulary_page(b"0.5\n2\n", tmp_path, column="float", unknown=-1)
    plan = compile_plan(parse_features(document), tmp_path)
    assert plan.transform({"c": np.array([2.0, 0.5, 0.25])})[0][:, 0].tolist() == [1, 0, -1]


def test_vocabulary_file_with_infrequent_and_dropped_entries(tmp_path):
    document = vocabulary_page(
        b"a\nb\nc\n", tmp_path, step="one_hot", infrequent=["d"], drop=["b"], unknown="infrequent", missing="ignore"
    )
    plan = compile_plan(parse_features(document), tmp_path)
    (result,) = plan.transform({"c": ["a", "b", "c", "d", "e", ""]})
    assert result.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]]


CATEGORIES = {
    "string": (["a", "b", None, "c", "d\re"], ["x", "y\nz"], ["b", None]),
    "int": ([7, -7, None, 2**62, 0], [8, 9], [0, None]),
    "float": ([0.5, -1.25, None, 1e300, 3.0], [0.25, 4.0], [3.0, None]),
}


@pytest.mark.parametrize("column", CATEGORIES)
@pytest.mark.parametrize("infrequent", [False, True])
@pytest.mark.parametrize("drop", [False, True])
def test_vocabulary_file_gives_the_elements_that_the_same_list_in_place_gives(column, infrequent, drop, tmp_path):
    known, rare, dropped = CATEGORIES[column]
    arguments = {"unknown": "ignore", "missing": "ignore"}
    arguments |= {"infrequent": rare} if infrequent else {}
    arguments |= {"drop": dropped} if drop else {}
    lines = "".join("\n" if value is None else f"{value}\n" for value in known).encode()
    by_file = parse_features(vocabulary_page(lines, tmp_path, column, "one_hot", **arguments))
    by_list = parse_features(page_of({"one_hot": {"categories": known, **arguments}}, column=column))
    if column == "string":
        asked = [value or "" for value in [*known, *rare, "none of them"]]
    else:
        missing = np.nan if column == "float" else -(2**63)
        asked = np.array([missing if value is None else value for value in [*known, *rare, 11]])
    got, want = (compile_plan(spec, tmp_path).transform({"c": asked})[0] for spec in (by_file, by_list))
    np.testing.assert_array_equal(got, want)
    ((got,),), ((want,),) = (parts_of(spec, "x", tmp_path) for spec in (by_file, by_list))
    assert got.names() == want.names()


def test_steps_with_the_same_file_share_its_table(tmp_path):
    document = vocabulary_page(b"a\nb\n", tmp_path)
    step = document["outputs"]["x"]["features"][0]["steps"][0]
    document["columns"]["d"] = "string"
    document["outputs"]["x"]["features"] = [{"column": name, "steps": [step]} for name in "cd"]
    document["outputs"]["y"] = {"features": [{"column": "c", "steps": [{"one_hot": step["ordinal"]}]}]}
    spec = parse_features(document)
    tables = {part.value.vocabulary for parts in parts_of(spec, "x", tmp_path) for part in parts}
    assert len(tables) == 1
    assert compile_plan(spec, tmp_path).transform({"c": ["b"], "d": ["a"]})[0].tolist() == [[1, 0]]


@pytest.mark.parametrize("drop", [["z"], [None]])
def test_dropping_what_is_not_in_the_vocabulary_file_is_refused(drop, tmp_path):
    ((_, message),) = problems_of(vocabulary_page(b"a\nb\n", tmp_path, step="one_hot", drop=drop), tmp_path)
    assert message == f"`drop` names {'null' if drop == [None] else drop[0]}, which is not among the categories"


def test_values_of_a_vocabulary_file_are_told_where_another_fails_a_row(tmp_path):
    lines = b"a\n\n" + b"x" * 999 + b"".join(b"\n%d" % i for i in range(1000))
    plan = compile_plan(parse_features(vocabulary_page(lines, tmp_path)), tmp_path)
    with pytest.raises(FeatureInputInvalid, match=r"\(a, x{64}, 0, 1, 1002 in all\), came 'b'"):
        plan.transform({"c": ["b"]})


@pytest.mark.parametrize(
    ("lines", "column", "message"),
    [
        (b"", "string", "the vocabulary 'v.txt' is empty"),
        (b"a\n\xff\n", "string", "is not UTF-8 at byte 2"),
        (b"a\nb\na\n", "string", "the category 'a' stands twice (lines 1 and 3)"),
        (b"a\n\n\n", "string", "the missing value stands twice (lines 2 and 3)"),
        (b"1\ntwo\n", "int", "line 2 of the vocabulary, 'two', is no int"),
        (b"1\n9223372036854775808\n", "int", "line 2 of the vocabulary, '9223372036854775808', is outside int64"),
        (b"1\nnan\n", "float", "line 2 of the vocabulary, 'nan', is no finite number"),
        (b"true\n", "bool", "is no bool"),
    ],
)
def test_vocabulary_file_that_is_not_as_it_should_be_is_a_problem(lines, column, message, tmp_path):
    ((path, told),) = problems_of(vocabulary_page(lines, tmp_path, column=column), tmp_path)
    assert path == f"{FEATURE}.steps.0.ordinal"
    assert message in told


def test_vocabulary_file_of_another_digest_is_refused(tmp_path):
    document = vocabulary_page(b"a\n", tmp_path)
    (tmp_path / "v.txt").write_bytes(b"b\n")
    ((_, message),) = problems_of(document, tmp_path)
    assert "has SHA-256 0263829989b6fd954f72baaf2fc64bc2e2f01d692d4de72986ea808f6e99813f, not 87428fc5" in message


def test_vocabulary_file_that_is_missing_or_elsewhere_is_refused(tmp_path):
    document = vocabulary_page(b"a\n", tmp_path)
    (tmp_path / "v.txt").unlink()
    ((_, message),) = problems_of(document, tmp_path)
    assert message == "the vocabulary 'v.txt' cannot be read: No such file or directory"
    outside = tmp_path / "outside.txt"
    outside.write_bytes(b"a\n")
    folder = tmp_path / "version"
    folder.mkdir()
    (folder / "v.txt").symlink_to(outside)
    ((_, message),) = problems_of(document, folder)
    assert message == "the vocabulary 'v.txt' lies outside the folder of the plan"


def test_vocabulary_file_that_is_too_large_is_refused_unread(tmp_path):
    document = vocabulary_page(b"a\n", tmp_path)
    with (tmp_path / "v.txt").open("r+b") as file:
        file.truncate((256 << 20) + 1)
    ((_, message),) = problems_of(document, tmp_path)
    assert message == "the vocabulary 'v.txt' is larger than 256 MiB"


# Texts.


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"regex_extract": {"pattern": "(a"}}, "`pattern`: Python does not take the pattern: missing )"),
        ({"regex_extract": {"pattern": "a", "group": 1}}, "`pattern`: the pattern has no group 1; it has 0"),
        (
            {"count_vectorize": {"terms": ["a"], "token_pattern": r"(a)(b)"}},
            "`token_pattern`: expected at most one group",
        ),
        ({"count_vectorize": {"terms": ["a"], "token_pattern": r"(?>a)"}}, "`token_pattern`: an atomic group"),
        ({"count_vectorize": {"terms": ["a", "b", "a"]}}, "stands twice"),
    ],
)
def test_text_step_that_cannot_be_is_told_at_its_path(step, message, tmp_path):
    ((path, told),) = problems_of(page_of(step, column="string"), tmp_path)
    assert path == f"{FEATURE}.steps.0.{next(iter(step))}"
    assert message in told


@pytest.mark.parametrize(
    ("terms", "weights", "message"),
    [
        (b"a\nb\n", b"1.0\n", "there are 1 weights (`idf`) for 2 terms"),
        (b"a\nb\n", b"1.0\ninf\n", "line 2 of the weights, 'inf', is no finite number"),
        (b"a\nb\n", b"1.0\ntwo\n", "line 2 of the weights, 'two', is no finite number"),
        (b"a\n\nb\n", b"1.0\n", "line 2 of the vocabulary is empty, but every term has characters"),
        (b"a\na\n", b"1.0\n2.0\n", "stands twice"),
    ],
)
def test_files_of_terms_and_weights_that_do_not_go_together_are_told(terms, weights, message, tmp_path):
    ((_, told),) = problems_of(_tfidf_page(terms, weights, tmp_path), tmp_path)
    assert message in told


def test_terms_and_weights_in_files_give_what_the_same_lists_give(tmp_path):
    by_file = compile_plan(parse_features(_tfidf_page(b"late\non time\n", b"1.5\n0.25\n", tmp_path)), tmp_path)
    lists = {"terms": ["late", "on time"], "idf": [1.5, 0.25], "ngram_range": [1, 2]}
    by_list = compile_plan(parse_features(page_of({"tfidf_vectorize": lists}, column="string")), tmp_path)
    asked = {"c": ["late, not on time", "on time", ""]}
    np.testing.assert_array_equal(by_file.transform(asked)[0], by_list.transform(asked)[0])
    assert by_file.feature_names(0) == by_list.feature_names(0) == ["late", "on time"]


def _tfidf_page(terms: bytes, weights: bytes, folder):
    def file(name, lines):
        (folder / name).write_bytes(lines)
        return {"file": name, "sha256": hashlib.sha256(lines).hexdigest()}

    step = {"vocabulary": file("terms.txt", terms), "idf_file": file("idf.txt", weights), "ngram_range": [1, 2]}
    return page_of({"tfidf_vectorize": step}, column="string")


def test_parts_of_an_unsound_spec_are_not_to_be_had(tmp_path):
    with pytest.raises(ConfigurationError, match="takes float or int or bool"):
        parts_of(parse_features(page_of("log1p", column="string")), "x", tmp_path)
