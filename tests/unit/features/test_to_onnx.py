"""A plan as ONNX gives what the plan gives, bit for bit, under ONNX Runtime; what has no form there is named."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
import onnxruntime

from gateway._fast.feature_program import Operation
from gateway.config.feature_page import TIMESTAMP_PARTS, FeaturePage
from gateway.config.features import parse_features
from gateway.core.errors import ConfigurationError, LoadFailed
from gateway.features import Plan
from gateway.features.replay import ulps_between
from gateway.features.steps import CATALOGUE
from gateway.features.to_onnx import import_onnx, to_onnx
from gateway.features.to_onnx.merge import merged, read_model
from gateway.features.to_onnx.operations import FORMS, INEXACT_BY, INEXACT_ULPS
from tests.fast.feature_pages import pages_with_rows

MISSING = -(2**63)
FED = {
    "float": np.float64,
    "int": np.int64,
    "bool": np.int64,
    "string": object,
    "strings": object,
    "timestamp": np.int64,
}
# Steps whose last digits are the C library's: not bit for bit.
INEXACT_STEPS = {"log1p", "log", "exp", "cyclic", "function", "sine", "cosine"}


def page_of(spec):
    return FeaturePage.of_document(spec.model_dump(mode="json"))


def session_of(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def run(session, columns):
    names = {entry.name for entry in session.get_inputs()}
    feed = {name: values.reshape(-1, 1) for name, values in columns.items() if name in names}
    return session.run(None, feed)


def plan_of(steps, kind="float", dtype="float64", **column):
    feature = {"column": "c", "steps": steps}
    document = {"columns": {"c": {"type": kind, **column}}, "outputs": {"x": {"dtype": dtype, "features": [feature]}}}
    return parse_features(document)


def both(steps, values, kind="float", dtype="float64", **column):
    """What the plan and its graph make of a column."""
    spec = plan_of(steps, kind, dtype, **column)
    columns = {"c": np.array(values, FED[kind])}
    ours = Plan.from_spec(spec).transform({"c": instants(columns["c"]) if kind == "timestamp" else columns["c"]})
    (theirs,) = run(session_of(to_onnx(page_of(spec), Path())), columns)
    return ours, theirs


def instants(micros):
    return micros.astype("datetime64[us]")


def step_names(document):
    return {
        step if isinstance(step, str) else next(iter(step))
        for output in document["outputs"].values()
        for feature in output["features"]
        if not isinstance(feature, str)
        for step in feature.get("steps", [])
    }


def fed(spec, rows, count):
    """Columns as the graph takes them; None if a row has what it cannot be given, as it has no type for it."""
    columns = {}
    for name, column in spec.columns.items():
        values = rows.get(name)
        if column.type == "timestamp":
            values = None if values is None else [MISSING if not text else micros_of(text) for text in values]
            if values is not None and None in values:
                return None
        if values is None:
            values = [{"float": math.nan, "string": ""}.get(column.type, MISSING)] * count
        columns[name] = np.array(values, FED[column.type])
    return columns


def micros_of(text):
    from gateway._fast.feature_plan import parse_timestamp_text

    return parse_timestamp_text(text)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(pages_with_rows())
def test_the_graph_gives_what_the_plan_gives(case):
    """Whatever the page: it is refused by name, or gives the same bits, or fails where a row of the plan does."""
    document, count, rows = case
    spec = parse_features(document)
    try:
        model = to_onnx(page_of(spec), Path())
    except ConfigurationError as error:
        # A made constant may be one that its step or its output refuses, which is told at load.
        assume(all("change the constant" not in problem.message for problem in error.problems))
        for problem in error.problems:
            step = re.search(r": (`(\w+)`|a vectorizer|a list of texts) has no exact form", problem.message)
            assert step[1] in ("a vectorizer", "a list of texts") or step[2] in CATALOGUE
        return
    columns = fed(spec, rows, count)
    if columns is None or step_names(document) & INEXACT_STEPS:
        return
    lent = {n: instants(v) if spec.columns[n].type == "timestamp" else v for n, v in columns.items()}
    failures = []
    wanted = Plan.from_spec(spec).compiled.transform(lent, failures)
    session = session_of(model)
    if failures:
        with pytest.raises(Exception, match="indices element out of data bounds"):
            run(session, columns)
        return
    for ours, theirs in zip(wanted, run(session, columns), strict=True):
        assert theirs.dtype == ours.dtype
        np.testing.assert_array_equal(theirs, ours)
        if ours.dtype != object:
            np.testing.assert_array_equal(np.signbit(theirs), np.signbit(ours))


NUMBERS = [
    0.0,
    -0.0,
    1e-300,
    -1e-9,
    1e-3,
    0.1,
    1.0,
    23.99,
    24.0,
    1e6,
    -0.5,
    -1.0,
    -3.0,
    1e300,
    math.nan,
    math.inf,
    -math.inf,
]


def test_encoders_of_categories_and_string_outputs_have_a_form():
    categories = ["a", "b", None]
    ours, theirs = both(
        [{"target_encode": {"categories": categories, "encodings": [0.5, -2.25, 7.0], "mean": 0.125}}],
        ["b", "", "z", "a"],
        "string",
    )
    assert theirs.tolist() == ours.tolist() == [[-2.25], [7.0], [0.125], [0.5]]
    ours, theirs = both(["missing_indicator"], ["b", ""], "string")
    assert theirs.tolist() == ours.tolist() == [[0], [1]]
    ours, theirs = both([{"impute": {"strategy": "constant", "value": "none"}}], ["b", ""], "string", "string")
    assert theirs.tolist() == ours.tolist() == [["b"], ["none"]]


@pytest.mark.parametrize("period", [24, 0.1, 7.3])
def test_sines_and_cosines_are_as_near_as_stated(period):
    ours, theirs = both([{"cyclic": {"period": period}}], NUMBERS)
    assert (np.isnan(ours) == np.isnan(theirs)).all()
    assert np.nanmax(np.abs(ours - theirs)) <= INEXACT_BY[Operation.OP_SINE]


@given(st.lists(st.one_of(st.sampled_from(NUMBERS), st.floats(-0.999, 1e12)), min_size=1, max_size=50))
@settings(max_examples=30, deadline=None)
def test_log1p_is_as_near_as_stated(values):
    ours, theirs = both(["log1p"], values)
    assert ulps_between(ours, theirs).max() <= INEXACT_ULPS[Operation.OP_LOG1P]


@pytest.mark.parametrize("part", TIMESTAMP_PARTS)
def test_every_part_of_an_instant_is_the_plans(part):
    random = np.random.default_rng(3)
    days = np.concatenate([random.integers(-719_162, 2_932_896, 500), np.arange(-800, 800), [10_956, 10_957, 11_016]])
    micros = days * 86_400_000_000 + random.integers(0, 86_400_000_000, len(days))
    ours, theirs = both([{"timestamp_part": {"part": part}}], [*micros.tolist(), MISSING], "timestamp")
    np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize(
    ("kind", "values", "column", "steps"),
    [
        ("float", [1.0, math.nan], {"missing": "error"}, []),
        ("float", [1.0, -math.inf], {"infinite": "error"}, []),
        ("bool", [1, 2], {}, []),
        ("string", ["a", ""], {}, [{"one_hot": {"categories": ["a"]}}]),
        ("string", ["a", "b"], {}, [{"one_hot": {"categories": ["a"]}}]),
        ("float", [1.0, 2.0], {}, [{"ordinal": {"categories": [1.0]}}]),
    ],
)
def test_a_run_fails_where_a_row_does(kind, values, column, steps):
    spec = plan_of(steps, kind, **column)
    session = session_of(to_onnx(page_of(spec), Path()))
    run(session, {"c": np.array(values[:1], FED[kind])})
    with pytest.raises(Exception, match="indices element out of data bounds"):
        run(session, {"c": np.array(values, FED[kind])})


def test_a_missing_value_fails_the_run_of_an_int64_output():
    session = session_of(to_onnx(page_of(plan_of([], "int", "int64")), Path()))
    assert run(session, {"c": np.array([5])})[0].tolist() == [[5]]
    with pytest.raises(Exception, match="indices element out of data bounds"):
        run(session, {"c": np.array([5, MISSING])})


def test_no_rows_give_no_rows():
    ours, theirs = both([{"one_hot": {"categories": ["a", "b"]}}], [], "string")
    assert theirs.shape == ours.shape == (0, 2)


def test_steps_without_a_form_are_named_all_at_once():
    document = {
        "columns": {"s": "string", "t": "timestamp"},
        "outputs": {
            "x": {
                "features": [
                    {"column": "s", "steps": [{"hash": {"buckets": 3}}]},
                    {"column": "s", "steps": ["lower", {"one_hot": {"categories": ["a"]}}]},
                    {"column": "t", "steps": [{"timestamp_part": {"part": "hour", "time_zone": "Europe/Berlin"}}]},
                ]
            }
        },
    }
    with pytest.raises(ConfigurationError) as caught:
        to_onnx(page_of(parse_features(document)), Path())
    told = [str(problem) for problem in caught.value.problems]
    assert any("s_0: `hash` has no exact form" in problem for problem in told)
    assert any("s_a: `lower` has no exact form" in problem for problem in told)
    assert any("t: `timestamp_part` has no exact form" in problem for problem in told)


def test_every_operation_that_is_inexact_says_so():
    assert INEXACT_ULPS.keys() | INEXACT_BY.keys() <= FORMS.keys()


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(LoadFailed) as caught:
        import_onnx()
    assert "pip install 'onnx-gateway[onnx]'" in caught.value.hint


# In front of a model.


def model_of(inputs, opset=17, machine_learning=None, ir_version=8, output="y"):
    """y = x + x, in float32; a second input is added if there is one."""
    helper = onnx.helper
    total = helper.make_node("Add", [inputs[0], inputs[-1]], [output])
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 2]) for name in dict.fromkeys(inputs)]
    out = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["n", 2])
    sets = [helper.make_opsetid("", opset)]
    if machine_learning:
        sets.append(helper.make_opsetid("ai.onnx.ml", machine_learning))
    graph = helper.make_graph([total], "model", infos, [out])
    return helper.make_model(graph, opset_imports=sets, ir_version=ir_version)


def joined(model):
    document = {
        "columns": {"c": "float", "s": "string"},
        "outputs": {"x": {"features": ["c", {"column": "s", "steps": [{"ordinal": {"categories": ["a", "b"]}}]}]}},
    }
    page = page_of(parse_features(document))
    return merged(lambda versions: to_onnx(page, Path(), versions=versions), model)


COLUMNS = {"c": np.array([1.5, 2.5]), "s": np.array(["b", "a"], object)}


@pytest.mark.parametrize(("opset", "machine_learning"), [(17, None), (13, None), (21, 3), (11, None), (17, 1)])
def test_plan_and_model_become_one_graph(opset, machine_learning):
    session = session_of(joined(model_of(["x"], opset, machine_learning)))
    assert [entry.name for entry in session.get_inputs()] == ["c", "s"]
    assert [entry.name for entry in session.get_outputs()] == ["y"]
    assert run(session, COLUMNS)[0].tolist() == [[3.0, 2.0], [5.0, 0.0]]


def test_what_of_the_model_no_output_feeds_stays_an_input():
    session = session_of(joined(model_of(["x", "bias"])))
    assert [entry.name for entry in session.get_inputs()] == ["c", "s", "model/bias"]


def test_a_model_that_does_not_fit_is_told():
    with pytest.raises(ConfigurationError, match="model: inputs: none is called x"):
        joined(model_of(["z"]))
    with pytest.raises(ConfigurationError, match="model: outputs: named as a column is: c"):
        joined(model_of(["x"], output="c"))


def test_a_file_that_is_no_model_is_told(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(LoadFailed, match=r"m\.onnx cannot be loaded"):
        read_model(tmp_path / "m.onnx")
