"""`gateway features`: from a pipeline to a page, every mistake told, every column explained."""

import json

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from typer.testing import CliRunner

from gateway.cli.features import app
from gateway.config.features_schema import features_schema
from gateway.core.errors import ConfigurationError, FeatureInputInvalid, LoadFailed
from gateway.features import Plan


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def frame():
    return pd.DataFrame({"carrier": ["AA", "UA", "DL"], "distance": [10.0, 20.0, 60.0]})


def test_from_sklearn_writes_a_page_that_transforms_like_the_pipeline(frame, tmp_path):
    pipeline = make_pipeline(
        ColumnTransformer([("c", OneHotEncoder(), ["carrier"]), ("d", StandardScaler(), ["distance"])])
    ).fit(frame)
    joblib.dump(pipeline, tmp_path / "pipeline.joblib")
    result = run("from-sklearn", tmp_path / "pipeline.joblib", "--out", tmp_path / "features.yaml", "--output", "x")
    assert result.exit_code == 0
    assert "2 columns -> x FP32[-1, 4]" in result.stderr
    features = Plan.from_yaml(tmp_path / "features.yaml").transform(frame)
    np.testing.assert_array_max_ulp(features, pipeline.transform(frame).astype(np.float32))


def test_from_sklearn_writes_long_vocabularies_beside_the_page(tmp_path):
    frame = pd.DataFrame({"tail": [f"N{i}" for i in range(1200)]})
    joblib.dump(OrdinalEncoder().fit(frame), tmp_path / "p.joblib")
    result = run("from-sklearn", tmp_path / "p.joblib", "--out", tmp_path / "features.yaml", "--dtype", "int64")
    assert "1 vocabulary file(s) beside it" in result.stderr
    assert run("check", tmp_path / "features.yaml").exit_code == 0


def test_from_sklearn_names_what_cannot_be_imported(frame, tmp_path):
    joblib.dump(PCA(1).fit(frame[["distance"]]), tmp_path / "p.joblib")
    result = run("from-sklearn", tmp_path / "p.joblib", "--out", tmp_path / "features.yaml")
    assert isinstance(result.exception, ConfigurationError)
    assert "PCA has no step in the catalogue" in str(result.exception)
    assert not (tmp_path / "features.yaml").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", b"cno_such_module\nThing\n."])
def test_file_that_is_no_pipeline_is_told(content, tmp_path):
    (tmp_path / "p.joblib").write_bytes(content)
    result = run("from-sklearn", tmp_path / "p.joblib", "--out", tmp_path / "features.yaml")
    assert isinstance(result.exception, LoadFailed)
    assert "p.joblib cannot be loaded" in str(result.exception)


PAGE = """\
columns: {distance: float, carrier: string}
outputs:
  x:
    features:
    - {column: distance, steps: [log1p, impute: {value: 0, indicator: true}]}
    - {column: carrier, steps: [one_hot: {categories: [AA, DL, UA, US, WN], unknown: ignore}]}
    - distance
"""


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "features.yaml"
    path.write_text(PAGE)
    return path


def test_explain_shows_the_elements_and_steps_of_each_column(page):
    rows = json.loads(run("explain", page, "--json").stdout)
    assert rows == [
        {
            "output": "x", "elements": "0-1", "names": "distance, missingindicator_distance", "column": "distance",
            "type": "float", "steps": "log1p -> impute(value=0, indicator=True)",
        },
        {
            "output": "x", "elements": "2-6", "names": "carrier_AA, carrier_DL, … carrier_WN (5)", "column": "carrier",
            "type": "string", "steps": "one_hot(categories=[AA, DL, UA, … 5 in all], unknown=ignore)",
        },
        {"output": "x", "elements": "7", "names": "distance", "column": "distance", "type": "float", "steps": ""},
    ]  # fmt: skip
    assert "one_hot" in run("explain", page).stdout


def test_explain_shows_constants_and_points(tmp_path):
    page = tmp_path / "features.yaml"
    page.write_text("""
columns: {lat: float, lon: float}
outputs:
  x:
    features:
      - {constant: 1.5}
      - {columns: [lat, lon], steps: [haversine: {points: {jfk: [40.6, -73.8], lax: [33.9, -118.4]}}]}
""")
    rows = json.loads(run("explain", page, "--json").stdout)
    assert [(row["elements"], row["column"], row["steps"]) for row in rows] == [
        ("0", "constant 1.5", ""), ("1-2", "lat, lon", "haversine(points=[jfk, lax])")
    ]  # fmt: skip


def test_explain_shows_groups_with_what_is_in_them(tmp_path):
    path = tmp_path / "features.yaml"
    path.write_text("""\
columns: {a: float, b: int}
outputs:
  x:
    features:
    - features: [{columns: [a, b], steps: [standard_scale]}, {column: a, steps: [log1p], prefix: log_}]
      steps: [polynomial: {degree: [1, 2], interaction_only: true}]
    - {constant: 1.5}
""")
    rows = json.loads(run("explain", path, "--json").stdout)
    assert [(row["elements"], row["column"], row["steps"]) for row in rows] == [
        ("0-6", "a, b", "polynomial(degree=[1, 2], interaction_only=True)"),
        ("", "  └ a, b", "standard_scale"),
        ("", "  └ a", "log1p"),
        ("7", "constant 1.5", ""),
    ]
    assert rows[0]["names"] == "1, a, … b log_a (7)"
    assert "└ a, b" in run("explain", path).stdout


def test_check_tells_every_mistake_and_fails(page):
    page.write_text(PAGE.replace("log1p", "log2").replace("- distance", "- origin"))
    result = run("check", page, "--json")
    assert result.exit_code == 1
    assert [row["path"] for row in json.loads(result.stdout)] == [
        "outputs.x.features.0.steps.0", "outputs.x.features.2.column"
    ]  # fmt: skip
    assert "2 problem(s)" in result.stderr


def test_check_of_a_sound_page_says_so(page):
    result = run("check", page)
    assert result.exit_code == 0
    assert result.stderr == f"{page}: no problems\n"
    assert result.stdout == ""
    assert run("check", page, "--json").stdout == "[]\n"


def write_identity(folder, width):
    """``model.onnx``: y = x, float32 [rows, width]."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", width])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["rows", width])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")


def test_check_reads_the_graph_beside_the_page(page):
    write_identity(page.parent, 7)
    result = run("check", page)
    assert result.exit_code == 1
    assert "give 8 elements" in " ".join(result.stdout.split())
    other = page.parent / "other.onnx"
    (page.parent / "model.onnx").rename(other)
    assert run("check", page).exit_code == 0
    assert run("check", page, "--model", other).exit_code == 1


def test_schema_prints_the_json_schema_of_the_page():
    assert json.loads(run("schema").stdout) == features_schema()


def test_check_replays_rows_through_the_pipeline_and_the_plan(frame, tmp_path):
    pipeline = ColumnTransformer([("c", OneHotEncoder(), ["carrier"]), ("d", StandardScaler(), ["distance"])]).fit(
        frame
    )
    joblib.dump(pipeline, tmp_path / "pipeline.joblib")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    page = tmp_path / "features.yaml"
    run("from-sklearn", tmp_path / "pipeline.joblib", "--out", page)
    arguments = ("check", page, "--pipeline", tmp_path / "pipeline.joblib", "--data", tmp_path / "rows.csv")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "give the same, to 1 ulp" in result.stderr
    page.write_text(page.read_text().replace("mean: 30.0", "mean: 31.0"))
    result = run(*arguments, "--json")
    assert result.exit_code == 1
    (row,) = json.loads(result.stdout)
    assert (row["rows"], row["cells"], row["differing"], row["first"]["row"]) == (3, 12, 3, 0)
    assert f"first difference: row 0, {row['first']['feature']}: pipeline " in result.stderr


def test_a_replay_needs_both_a_pipeline_and_rows(page):
    result = run("check", page, "--pipeline", "p.joblib")
    assert result.exit_code == 2
    assert "--pipeline and --data go together" in result.output.replace("\n", " ").replace("│ ", "")


def test_to_onnx_writes_the_plan_and_the_plan_before_its_model(tmp_path):
    onnx = pytest.importorskip("onnx")
    page = tmp_path / "features.yaml"
    page.write_text("columns: {a: float}\noutputs: {x: {features: [{column: a, steps: [clip: {min: 0}]}]}}")
    result = run("to-onnx", page, "--out", tmp_path / "plan.onnx")
    assert result.exit_code == 0, result.output
    assert result.stderr == f"{tmp_path}/plan.onnx: a -> x\n"
    infos = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", 1]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "g", infos[:1], infos[1:])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "model.onnx",
    )
    result = run("to-onnx", page, "--out", tmp_path / "both.onnx", "--merge", tmp_path / "model.onnx")
    assert result.stderr == f"{tmp_path}/both.onnx: a -> y\n"
    onnx.checker.check_model(onnx.load(tmp_path / "both.onnx"), full_check=True)


def test_to_onnx_names_what_has_no_form_there(tmp_path):
    page = tmp_path / "features.yaml"
    page.write_text("columns: {s: string}\noutputs: {x: {features: [{column: s, steps: [hash: {buckets: 2}]}]}}")
    result = run("to-onnx", page, "--out", tmp_path / "plan.onnx")
    assert isinstance(result.exception, ConfigurationError)
    assert "s_0: `hash` has no exact form in ONNX's operators" in str(result.exception)
    assert not (tmp_path / "plan.onnx").exists()


def test_from_dataframe_leaves_the_target_out_and_makes_the_folder(frame, tmp_path):
    frame.assign(price=[1, 2, 3]).to_csv(tmp_path / "rows.csv", index=False)
    out = tmp_path / "models" / "m" / "1" / "features.yaml"
    result = run("from-dataframe", tmp_path / "rows.csv", "--out", out, "--leave-out", "price")
    assert result.exit_code == 0, result.output
    assert Plan.from_yaml(out).transform(frame).shape == (3, 4)
    result = run("from-dataframe", tmp_path / "rows.csv", "--out", out, "--leave-out", "prize")
    assert isinstance(result.exception, FeatureInputInvalid)
    assert "rows.csv has no column prize; it has " in str(result.exception)


def test_pages_that_are_made_fill_the_only_input_of_the_graph_beside_them(frame, tmp_path):
    frame.to_csv(tmp_path / "rows.csv", index=False)
    joblib.dump(StandardScaler().fit(frame[["distance"]]), tmp_path / "pipeline.joblib")
    write_identity(tmp_path, 4)
    out = tmp_path / "features.yaml"
    assert "-> x FP32[-1, 4]" in run("from-dataframe", tmp_path / "rows.csv", "--out", out).stderr
    assert run("check", out).exit_code == 0
    assert "-> x FP32[-1, 1]" in run("from-sklearn", tmp_path / "pipeline.joblib", "--out", out).stderr
    assert "-> z FP32[-1, 1]" in run("from-sklearn", tmp_path / "pipeline.joblib", "--out", out, "--output", "z").stderr


def test_file_that_cannot_be_written_is_told(page, tmp_path):
    (tmp_path / "file").write_text("in the way of a folder")
    for arguments in (["to-onnx", page], ["from-dataframe", tmp_path / "rows.csv"]):
        (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,4\n")
        result = run(*arguments, "--out", tmp_path / "file" / "out")
        assert isinstance(result.exception, ConfigurationError)
        assert "cannot be written: " in str(result.exception)


def test_from_dataframe_drafts_a_page_with_its_reasons(frame, tmp_path):
    frame.to_csv(tmp_path / "rows.csv", index=False)
    result = run("from-dataframe", tmp_path / "rows.csv", "--out", tmp_path / "features.yaml", "--scale")
    assert result.exit_code == 0, result.output
    assert "2 columns -> input FP32[-1, 4]" in result.stderr
    assert "# 3 distinct values in 3 rows" in (tmp_path / "features.yaml").read_text()
    assert Plan.from_yaml(tmp_path / "features.yaml").transform(frame).shape == (3, 4)
