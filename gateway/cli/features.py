"""`gateway features`: make, check and explain ``features.yaml``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.explained_features import explained
from gateway.cli.output import AsJson, progress_bar, show, tell
from gateway.config.features import load_feature_spec, read_page
from gateway.config.features_schema import schema_text
from gateway.core.errors import ConfigurationError, LoadFailed, Problem
from gateway.core.tensors import TensorSpec
from gateway.features.compiler import load_plan
from gateway.features.draft import draft
from gateway.features.from_sklearn import from_sklearn
from gateway.features.plan import Plan
from gateway.features.replay import Cell, Replay, replay
from gateway.features.to_onnx import to_onnx
from gateway.features.to_onnx.graph import Versions
from gateway.features.to_onnx.merge import merged, read_model

app = typer.Typer(no_args_is_help=True)

Page = Annotated[Path, typer.Argument(metavar="FILE", help="A features.yaml.")]
Output = Annotated[
    str | None,
    typer.Option(
        help="Name of the graph's input that the features fill; default: the only one of model.onnx beside the plan, "
        "else `input`."
    ),
]
Model = Annotated[Path | None, typer.Option(help="The graph to check against; default: model.onnx beside the file.")]


@app.command(
    "from-sklearn", epilog="Example: gateway features from-sklearn pipeline.joblib --out models/housing/1/features.yaml"
)
def import_pipeline(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A fitted pipeline, as joblib or pickle saved it.")],
    out: Annotated[Path, typer.Option(help="Where to write the plan; long vocabularies go beside it.")],
    output: Output = None,
    dtype: Annotated[str, typer.Option(help="float32, float64 or int64.")] = "float32",
) -> None:
    """Write the plan of a fitted ColumnTransformer or Pipeline. Loading FILE runs code in it: only your own files."""
    imported = from_sklearn(_load_estimator(file), output=output or _only_input(out), dtype=dtype, source=str(file))
    with _writing(out):
        imported.write(out)
    plan = load_plan(out)
    vocabularies = f", {len(imported.vocabularies)} vocabulary file(s) beside it" if imported.vocabularies else ""
    tell(f"{out}: {plan.column_count} columns -> {', '.join(map(str, plan.output_specs))}{vocabularies}")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Into a folder that is made if it is not there. ConfigurationError if that, or the file, cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ConfigurationError([Problem(str(out), "", f"cannot be written: {error.strerror}")]) from error


def _load_estimator(file: Path) -> Any:
    try:
        import joblib  # noqa: PLC0415 - comes with scikit-learn, which only this command needs
    except ImportError as error:
        raise LoadFailed("scikit-learn is not installed", hint="pip install scikit-learn") from error
    try:
        return joblib.load(file)
    except Exception as error:  # a pickle raises whatever its classes raise
        raise LoadFailed(f"{file} cannot be loaded: {type(error).__name__}: {error}") from error


@app.command(
    "from-dataframe",
    epilog="Example: gateway features from-dataframe rows.csv --leave-out price --out models/housing/1/features.yaml",
)
def draft_page(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or Parquet, with a row for each of training.")],
    out: Annotated[Path, typer.Option(help="Where to write the plan; long vocabularies go beside it.")],
    output: Output = None,
    scale: Annotated[bool, typer.Option(help="Bring numbers to mean 0 and variance 1.")] = False,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="A column that is no feature, such as the target; may be repeated."),
    ] = None,
) -> None:
    """Draft a plan from rows: types inferred, and beside each column a comment with what was decided and why."""
    with progress_bar("reading") as progress:
        drafted = draft(
            file, output=output or _only_input(out), scale=scale, leave_out=leave_out or (), progress=progress
        )
    with _writing(out):
        drafted.write(out)
    plan = load_plan(out)
    tell(f"{out}: {plan.column_count} columns -> {', '.join(map(str, plan.output_specs))}", *drafted.comments.head[1:])


@app.command(epilog="Example: gateway features explain models/housing/1/features.yaml")
def explain(file: Page, as_json: AsJson = False) -> None:
    """Show what becomes of each column: a row for each feature, in the order of the elements."""
    load_plan(file)  # every mistake before any row
    spec = load_feature_spec(file)
    columns = {
        "output": "OUTPUT", "elements": "ELEMENTS", "names": "NAMES", "column": "COLUMNS", "type": "TYPE",
        "steps": "STEPS",
    }  # fmt: skip
    show(explained(spec, file.parent), columns, as_json=as_json)


@app.command(
    epilog="Example: gateway features check models/housing/1/features.yaml --pipeline pipeline.joblib --data rows.csv"
)
def check(
    file: Page,
    model: Model = None,
    pipeline: Annotated[Path | None, typer.Option(help="Also replay the rows of --data through this pipeline.")] = None,
    data: Annotated[Path | None, typer.Option(help="CSV or Parquet with the columns of both.")] = None,
    ulps: Annotated[int, typer.Option(help="How far two cells may be apart, in values of the output's type.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Tell every mistake of a features.yaml, also against the graph it feeds. Exit code 1 if there is one.

    With --pipeline and --data, also compare a fitted pipeline and the plan, cell by cell: exit code 1 if they differ.
    Loading the pipeline runs code in it: only your own files.
    """
    if (pipeline is None) != (data is None):
        raise typer.BadParameter("--pipeline and --data go together")
    problems = _problems(file, model)
    rows = [{"file": problem.file, "path": problem.path, "message": problem.message} for problem in problems]
    if problems or (as_json and data is None):
        show(rows, {"file": "FILE", "path": "WHERE", "message": "WHAT"}, as_json=as_json)
    if problems:
        tell(f"{len(problems)} problem(s)")
        raise typer.Exit(1)
    if data is not None and pipeline is not None:
        _replay(file, pipeline, data, ulps, as_json=as_json)
    else:
        tell(f"{file}: no problems")


def _replay(file: Path, pipeline: Path, data: Path, ulps: int, *, as_json: bool) -> None:
    estimator = _load_estimator(pipeline)
    with progress_bar("replaying") as progress:
        found = replay(Plan.from_yaml(file), estimator, data, ulps=ulps, progress=progress)
    columns = {
        "rows": "ROWS", "refused": "REFUSED BY BOTH", "cells": "CELLS", "differing": "DIFFERENT",
        "largest": "LARGEST DIFFERENCE",
    }  # fmt: skip
    cells = {name: None if cell is None else asdict(cell) for name, cell in _cells(found).items()}
    shown = cells if as_json else {name: str(cell or "none") for name, cell in _cells(found).items()}
    show([{**asdict(found), **shown}], columns, as_json=as_json)
    if not found.equal:
        tell(*([found.refusal] if found.refusal else []))
        tell(*([f"first difference: {found.first}"] if found.first else []))
        raise typer.Exit(1)
    tell(f"{file} and {pipeline} give the same, to {ulps} ulp")


def _cells(found: Replay) -> dict[str, Cell | None]:
    return {"first": found.first, "largest": found.largest}


def _problems(file: Path, model: Path | None) -> list[Problem]:
    try:
        load_plan(file, _graph_inputs(file, model))
    except ConfigurationError as error:
        return list(error.problems)
    return []


def _only_input(page: Path) -> str:
    """Of the graph beside the page, if there is one; else the name that a page has for it."""
    inputs = _graph_inputs(page, None) or ()
    return inputs[0].name if len(inputs) == 1 else "input"


def _graph_inputs(file: Path, model: Path | None) -> list[TensorSpec] | None:
    beside = file.parent / "model.onnx"
    if model is None and not beside.exists():
        return None
    from gateway.serving.session import open_session  # noqa: PLC0415 - loads ONNX Runtime

    return list(open_session(model or beside).graph.inputs)


@app.command("to-onnx", epilog="Example: gateway features to-onnx models/housing/1/features.yaml --out plan.onnx")
def export(
    file: Page,
    out: Annotated[Path, typer.Option(help="Where to write the graph.")],
    merge: Annotated[Path | None, typer.Option(help="Put the plan in front of this model, from columns on.")] = None,
) -> None:
    """Write the plan as a graph of ONNX's operators, for other servers. Steps without an exact form there are named.

    Inputs are the columns, [rows, 1]: float64, int64 (also bools, and instants as microseconds since 1970 in UTC) or
    text, missing as NaN, -2**63 and the empty text. Where the gateway fails a row, the graph fails the whole run.
    """
    page = read_page(file)

    def plan(versions: Versions) -> Any:
        return to_onnx(page, file.parent, versions=versions)

    graph = plan(Versions()) if merge is None else merged(plan, read_model(merge))
    with _writing(out):
        out.write_bytes(graph.SerializeToString())
    sides = [", ".join(entry.name for entry in side) for side in (graph.graph.input, graph.graph.output)]
    tell(f"{out}: {sides[0]} -> {sides[1]}")


@app.command(epilog="Example: gateway features schema > models/features.schema.json")
def schema() -> None:
    """Print the JSON Schema of features.yaml, for editors: pages that are written below it point to it."""
    print(schema_text(), end="")
