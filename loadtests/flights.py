"""Real flights as requests of named columns, and the model's own answers to them."""

from __future__ import annotations

import contextlib
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from examples.flights.data import COLUMNS, NUMBERS, Source, read_flights
from gateway.features import Plan
from loadtests.baselines import stubs
from loadtests.baselines.onnx_session import open_session
from loadtests.measure import Payload
from loadtests.requests import DISTINCT_ROWS, AnswerChecker, run_model

MODEL = "flight_delay"
VERSION = "2"
SEED = 7
TIMED_SECONDS = 0.5


def sample_of_flights(count: int = DISTINCT_ROWS) -> pd.DataFrame:
    """Flights drawn from the whole year; raises DataMissing without the package that carries them."""
    return read_flights(Source.find()).sample(count, random_state=SEED, ignore_index=True)


@contextlib.contextmanager
def without_shadows(models: Path) -> Iterator[Path]:
    """A copy of the demo's repository that mirrors nothing: a scorer would share the core with what is measured."""
    with tempfile.TemporaryDirectory(prefix="loadtest-models-") as folder:
        copy = Path(shutil.copytree(models, Path(folder) / "models"))
        page = copy / MODEL / "model.yaml"
        settings = yaml.safe_load(page.read_text())
        settings.pop("shadows", None)
        page.write_text(yaml.safe_dump(settings))
        yield copy


def flights_payload(models: Path, flights: pd.DataFrame) -> Payload:
    """One flight a request, a tensor a column, pinned to version 2."""
    bodies = [flight_message(flight) for flight in flights[COLUMNS].to_dict("records")]
    return Payload(bodies, 1, lambda: AnswerChecker({VERSION: run_model(_graph(models), features(models, flights))}))


def flight_message(flight: Mapping[str, object]) -> bytes:
    """ModelInfer request: numbers as FP64, text as BYTES."""
    request = stubs.messages().ModelInferRequest(model_name=MODEL, model_version=VERSION)
    for column in COLUMNS:
        value = flight[column]
        number = column in NUMBERS
        request.inputs.add(name=column, datatype="FP64" if number else "BYTES", shape=[1])
        request.raw_input_contents.append(struct.pack("<d", value) if number else _bytes_element(str(value)))
    return bytes(request.SerializeToString())


def features(models: Path, flights: pd.DataFrame) -> NDArray[np.float32]:
    """What the version's plan makes of the columns, FP32 [rows, width]."""
    plan = Plan.from_yaml(models / MODEL / VERSION / "features.yaml")
    return np.asarray(plan.transform(flights[COLUMNS]), np.float32)


def own_cost_us(models: Path, flights: pd.DataFrame, rows_a_run: float) -> float:
    """CPU µs a row of ONNX Runtime alone on this model, in runs of `rows_a_run` rows.

    The runs go through all of `flights`, as the load does: given the same rows over and over, the processor learns the
    way of each through the trees, and a row costs half.
    """
    session = open_session(str(_graph(models)))
    name = session.get_inputs()[0].name
    size = max(1, round(rows_a_run))
    rows = features(models, flights)
    batches = [{name: rows[start : start + size]} for start in range(0, len(rows) - size + 1, size)]
    for batch in batches:
        session.run(None, batch)
    runs, begin = 0, time.thread_time()
    while (spent := time.thread_time() - begin) < TIMED_SECONDS:
        session.run(None, batches[runs % len(batches)])
        runs += 1
    return spent * 1e6 / (runs * size)


def _graph(models: Path) -> Path:
    return models / MODEL / VERSION / "model.onnx"


def _bytes_element(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<I", len(encoded)) + encoded
