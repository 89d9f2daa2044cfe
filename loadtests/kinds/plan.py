"""A feature plan from Python, beside the scikit-learn pipeline it was made from and that pipeline under ONNX Runtime.

No server: all of them run in this process, in turns, on its one CPU. What they give is compared before anything counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loadtests.findings import Bench, Findings
from loadtests.rounds import Figure
from loadtests.scenario import Scenario
from loadtests.turns import Call, microseconds_in_turns

MANY_ROWS = 10_000
NUMBERS = [f"n{i}" for i in range(8)]


def run(scenario: Scenario, bench: Bench) -> Findings:
    """Time every contestant in each round, then the loop alone."""
    findings = Findings()
    try:
        housing = _Housing()
    except ImportError as error:
        return Findings(skipped=f"{error.name} is not installed")
    findings.void += housing.differences()
    taken = microseconds_in_turns(housing.contestants(), scenario.rounds, bench.say)
    findings.figures = {f"{name}_us": Figure.of(values, "µs") for name, values in taken.items()}
    for rows in ("one", "many"):
        for table in ("arrays", "frame"):
            ours = taken[f"plan_{rows}_{table}"]
            findings.figures[f"sklearn_{rows}_{table}"] = Figure.ratios(taken[f"sklearn_{rows}"], ours)
        findings.figures[f"onnx_{rows}"] = Figure.ratios(taken[f"onnx_{rows}"], taken[f"plan_{rows}_arrays"])
    findings.figures["loop_one_us"] = Figure.of((housing.loop_us(1) for _ in range(scenario.rounds)), "µs")
    return findings


class _Housing:
    """California housing's pipeline, fitted on made rows: 8 numbers imputed and scaled, 1 category one-hot."""

    def __init__(self) -> None:
        # The demo's packages, which only this kind needs.
        import onnxruntime  # noqa: PLC0415
        import pandas as pd  # noqa: PLC0415
        from skl2onnx import convert_sklearn  # noqa: PLC0415
        from skl2onnx.common.data_types import FloatTensorType, StringTensorType  # noqa: PLC0415
        from sklearn.compose import ColumnTransformer  # noqa: PLC0415
        from sklearn.impute import SimpleImputer  # noqa: PLC0415
        from sklearn.pipeline import make_pipeline  # noqa: PLC0415
        from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: PLC0415

        from gateway.features import Plan  # noqa: PLC0415

        random = np.random.default_rng(1)
        columns: dict[str, Any] = {
            # Values that float32 holds, which is what the exported graph takes.
            name: np.where(random.random(MANY_ROWS) < 0.05, np.nan, random.normal(size=MANY_ROWS)).astype(np.float32)
            for name in NUMBERS
        }
        columns = {name: values.astype(np.float64) for name, values in columns.items()}
        columns["ocean"] = random.choice(["<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN"], MANY_ROWS)
        self.columns = columns
        self.frame = pd.DataFrame(columns)
        numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        self.pipeline = ColumnTransformer(
            [("numbers", numbers, NUMBERS), ("ocean", OneHotEncoder(sparse_output=False), ["ocean"])]
        ).fit(self.frame)
        self.plan = Plan.from_sklearn(self.pipeline)
        inputs = [(name, FloatTensorType([None, 1])) for name in NUMBERS]
        graph = convert_sklearn(self.pipeline, initial_types=[*inputs, ("ocean", StringTensorType([None, 1]))])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # it has one CPU, like the others
        self.session = onnxruntime.InferenceSession(graph.SerializeToString(), options)

    def arrays(self, rows: int) -> dict[str, Any]:
        """As the plan takes them."""
        return {name: values[:rows].copy() for name, values in self.columns.items()}

    def fed(self, rows: int) -> dict[str, Any]:
        """As the exported graph takes them."""
        return {
            name: values[:rows, np.newaxis].astype(object if name == "ocean" else np.float32)
            for name, values in self.columns.items()
        }

    def contestants(self) -> dict[str, Call]:
        """By name: a call without arguments, over rows that are there already."""
        calls: dict[str, Call] = {}
        for rows, name in ((1, "one"), (MANY_ROWS, "many")):
            arrays, frame, fed = self.arrays(rows), self.frame[:rows], self.fed(rows)
            calls[f"plan_{name}_arrays"] = lambda arrays=arrays: self.plan.transform(arrays)  # type: ignore[misc]
            calls[f"plan_{name}_frame"] = lambda frame=frame: self.plan.transform(frame)  # type: ignore[misc]
            calls[f"sklearn_{name}"] = lambda frame=frame: self.pipeline.transform(frame)  # type: ignore[misc]
            calls[f"onnx_{name}"] = lambda fed=fed: self.session.run(None, fed)  # type: ignore[misc]
        return calls

    def differences(self) -> list[str]:
        """What one of the contestants gives that is not what the plan gives."""
        ours = self.plan.transform(self.arrays(MANY_ROWS))
        others = {
            "scikit-learn": (self.pipeline.transform(self.frame).astype(np.float32), 2e-7),
            "the plan from a frame": (self.plan.transform(self.frame), 0.0),
            "ONNX Runtime": (self.session.run(None, self.fed(MANY_ROWS))[0], 1e-5),
        }
        return [
            f"{name} gives other features than the plan"
            for name, (theirs, tolerance) in others.items()
            if not np.allclose(theirs, ours, rtol=tolerance, atol=tolerance)
        ]

    def loop_us(self, rows: int) -> float:
        """The loop with no Python around it, a row."""
        from gateway._fast.feature_plan import nanoseconds_a_run_for_bench  # noqa: PLC0415

        return nanoseconds_a_run_for_bench(self.plan.compiled, self.arrays(rows), 100_000 // rows) / rows / 1000
