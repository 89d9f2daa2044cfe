"""JSON rows → features in a worker, against ``orjson.loads`` alone: ``python -m tests.bench.bench_json_rows``.

For the two pages of bench_feature_plan and each form that rows come in: nanoseconds a row to scan the body into
columns, those of the plan's loop over them, and both together as a multiple of what orjson takes to make Python objects
of the same bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import orjson
import pandas as pd

from gateway._fast.exchange import exchange_for_test
from gateway._fast.feature_plan import nanoseconds_a_run_for_bench
from gateway._fast.predict_wire import prepare_for_test, scan_for_bench
from gateway._fast.tensor_binding import InputTable
from gateway.config.features import parse_features
from gateway.features import Plan
from gateway.features.from_sklearn import from_sklearn
from loadtests.made_rows import flights_page, made_rows
from tests.bench.bench_feature_plan import arrays_of, housing

ROUNDS = 9
ROWS = (1, 32, 1024)
#: Rows of a round, in bodies of so many.
ROWS_A_ROUND = 8192

FORMS: dict[str, Callable[[pd.DataFrame], str]] = {
    "instances": lambda frame: json.dumps({"instances": json.loads(frame.to_json(orient="records"))}),
    "dataframe_split": lambda frame: f'{{"dataframe_split":{frame.to_json(orient="split")}}}',
}


def table_of(plan: Plan) -> InputTable:
    accepts = [set(plan.compiled.accepted_dtypes(i)) for i in range(plan.compiled.column_count)]
    return InputTable("m", plan.columns, outputs=["y"], batchable=True, columns=True, accepts=accepts)


def scan_ns(body: bytes, table: InputTable, times: int) -> float:
    return scan_for_bench([prepare_for_test(exchange_for_test(body), table) for _ in range(times)]) / times


def orjson_ns(body: bytes, times: int) -> float:
    started = time.perf_counter_ns()
    for _ in range(times):
        orjson.loads(body)
    return (time.perf_counter_ns() - started) / times


def report(name: str, plan: Plan, frame: pd.DataFrame) -> None:
    frame = frame[[spec.name for spec in plan.columns]]
    table = table_of(plan)
    for rows in ROWS:
        times = ROWS_A_ROUND // rows
        few = arrays_of(plan, frame[:rows])
        loop = median(nanoseconds_a_run_for_bench(plan.compiled, few, times) for _ in range(ROUNDS)) / rows
        for form, write in FORMS.items():
            body = write(frame[:rows]).encode()
            ours, theirs = [], []
            for _ in range(ROUNDS):  # in turns: whatever else the machine does befalls both
                ours.append(scan_ns(body, table, times))
                theirs.append(orjson_ns(body, times))
            scan, loads = median(ours) / rows, median(theirs) / rows
            print(
                f"{name}, {form}, {rows} row(s) of {len(body) // rows} bytes: scan {scan:.0f} + loop {loop:.0f} ns a "
                f"row; orjson.loads {loads:.0f}: {(scan + loop) / loads:.2f}x"
            )


def main() -> None:
    frame = pd.DataFrame(made_rows(np.random.default_rng(1), max(ROWS)))
    report("housing", Plan.from_spec(from_sklearn(housing(frame)).spec), frame)
    report("flights", Plan.from_spec(parse_features(flights_page())), frame)


if __name__ == "__main__":
    main()
