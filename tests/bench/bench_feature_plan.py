"""The compiled feature plan against its slow reading and scikit-learn: ``python -m tests.bench.bench_feature_plan``.

Two pages: housing (8 numbers imputed and scaled, 1 one-hot) and flights (8 such numbers, 3 one-hots of 16, 3 and 105
categories, 3 cyclic encodings of one timestamp). Prints nanoseconds a row of the loop itself and, from Python, the
ratio to each of the others in the same process.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from gateway._fast.feature_plan import nanoseconds_a_run_for_bench
from gateway.config.features import FeatureSpec, parse_features
from gateway.features import Plan
from gateway.features.from_sklearn import from_sklearn
from loadtests.made_rows import NUMBERS, flights_page, made_rows
from tests.reference.features import transform_row

ROUNDS = 7
ROWS = 10_000


def housing(frame: pd.DataFrame) -> ColumnTransformer:
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return ColumnTransformer([("numbers", numbers, NUMBERS), ("ocean", OneHotEncoder(), ["ocean"])]).fit(frame)


def nanoseconds(call, times: int) -> float:
    def once() -> float:
        started = time.perf_counter_ns()
        for _ in range(times):
            call()
        return (time.perf_counter_ns() - started) / times

    return median(once() for _ in range(ROUNDS))


def report_loop(name: str, plan: Plan, columns: dict[str, object]) -> None:
    for rows in (1, 32, ROWS):
        few = first(rows, columns)
        runs = [nanoseconds_a_run_for_bench(plan.compiled, few, max(1, 100_000 // rows)) for _ in range(ROUNDS)]
        print(f"{name}, loop, {rows} row(s): {median(runs) / rows:.0f} ns a row (best {min(runs) / rows:.0f})")


def report_slow_reading(name: str, plan: Plan, spec: FeatureSpec, columns: dict[str, object]) -> None:
    one = first(1, columns)
    row = {column: values[0] for column, values in one.items()}
    fast = nanoseconds(lambda: plan.transform(one), 2000)
    slow = nanoseconds(lambda: transform_row(spec, row), 20)
    print(f"{name}, Python, 1 row: {fast / 1000:.1f} µs; slow reading {slow / fast:.0f}x")


def report_scikit_learn(estimator: ColumnTransformer, plan: Plan, frame: pd.DataFrame) -> None:
    for rows in (1, ROWS):
        few = frame[:rows]
        theirs = nanoseconds(lambda few=few: estimator.transform(few), 3)
        for label, table in (("arrays", arrays_of(plan, few)), ("DataFrame", few)):
            ours = nanoseconds(lambda table=table: plan.transform(table), 20)
            print(
                f"housing, {rows} row(s) from {label}: {ours / 1000:.1f} µs; "
                f"ColumnTransformer {theirs / 1000:.0f} µs, {theirs / ours:.0f}x"
            )


def arrays_of(plan: Plan, frame: pd.DataFrame) -> dict[str, object]:
    columns = {spec.name: frame[spec.name].to_numpy() for spec in plan.columns}
    return {name: values.tolist() if values.dtype == object else values.copy() for name, values in columns.items()}


def first(rows: int, columns: dict[str, object]) -> dict[str, object]:
    return {name: values[:rows] for name, values in columns.items()}


def main() -> None:
    frame = pd.DataFrame(made_rows(np.random.default_rng(1), ROWS))
    estimator = housing(frame)
    specs = {"housing": from_sklearn(estimator).spec, "flights": parse_features(flights_page())}
    plans = {name: Plan.from_spec(spec) for name, spec in specs.items()}
    for name, plan in plans.items():
        columns = arrays_of(plan, frame)
        report_loop(name, plan, columns)
        report_slow_reading(name, plan, specs[name], columns)
    report_scikit_learn(estimator, plans["housing"], frame)


if __name__ == "__main__":
    main()
