"""Feature plans inside a worker: the loop over rows of many columns, and rows of JSON on their way to features.

No server: the scan of a request's body and the loop are called as a worker calls them, in this process, beside
`orjson.loads` of the same bytes. What comes out is compared before anything counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from gateway._fast.exchange import Exchange, exchange_for_test
from gateway._fast.feature_plan import nanoseconds_a_run_for_bench
from gateway._fast.predict_wire import prepare_for_test, scan_for_bench, scan_for_test
from gateway._fast.tensor_binding import InputTable
from gateway.config.features import parse_features
from gateway.features import Plan
from loadtests.findings import Bench, Findings
from loadtests.made_rows import (
    Columns,
    flights_features,
    flights_page,
    housing_features,
    housing_page,
    made_rows,
    some_rows,
)
from loadtests.rounds import Figure
from loadtests.scenario import Scenario
from loadtests.turns import seconds_a_call

BATCH = 32
JSON_ROWS = (1, 32, 1024)
WIDTHS = (100, 500, 2000)
#: Rows that each measurement takes in a round, in batches or bodies of so many.
ROWS_A_ROUND = 8192
#: Requests that hold memory at once.
IN_FLIGHT = 32


def run(scenario: Scenario, bench: Bench) -> Findings:
    """Compare first; then each round times every loop, and each body's scan and loop beside orjson."""
    findings = Findings()
    rows = made_rows(np.random.default_rng(1), ROWS_A_ROUND)
    housing, flights = _plan(housing_page()), _plan(flights_page())
    wide = {width: _WidePlan.made(width) for width in WIDTHS}
    bodies = {
        f"{name}_{count}": _Body.made(plan, rows, count)
        for name, plan in (("housing", housing), ("flights", flights))
        for count in JSON_ROWS
    }
    same = {
        "housing": np.allclose(housing.transform(rows), housing_features(rows), rtol=1e-6, atol=1e-6),
        "flights": np.allclose(flights.transform(rows), flights_features(rows), rtol=1e-6, atol=1e-6),
        **{f"{width} columns": plan.is_sound() for width, plan in wide.items()},
        **{f"JSON of {name}": body.is_sound() for name, body in bodies.items()},
    }
    findings.void += [f"{what}: other features than expected" for what, is_same in same.items() if not is_same]
    taken: dict[str, list[float]] = {}
    for number in range(scenario.rounds):
        bench.say(f"round {number + 1} of {scenario.rounds}")
        batch = some_rows(rows, number * BATCH, BATCH)
        taken.setdefault("flights_us", []).append(_loop_ns(flights, batch, ROWS_A_ROUND // BATCH) / BATCH / 1000)
        for width, plan in wide.items():
            taken.setdefault(f"column_of_{width}_ns", []).append(plan.nanoseconds_a_column())
        for name, body in bodies.items():
            taken.setdefault(f"json_{name}_ns", []).append(body.nanoseconds_to_features())
            taken.setdefault(f"orjson_{name}_ns", []).append(body.nanoseconds_of_orjson())
    findings.figures = {name: Figure.of(values, _unit(name)) for name, values in taken.items()}
    findings.figures |= {
        f"json_{name}": Figure.ratios(taken[f"json_{name}_ns"], taken[f"orjson_{name}_ns"]) for name in bodies
    }
    narrow, middle, widest = (taken[f"column_of_{width}_ns"] for width in WIDTHS)
    findings.figures["linear_500"] = Figure.ratios(middle, narrow)
    findings.figures["linear_2000"] = Figure.ratios(widest, narrow)
    return findings


def _unit(figure: str) -> str:
    return "µs" if figure.endswith("_us") else "ns"


def _plan(page: dict[str, Any]) -> Plan:
    return Plan.from_spec(parse_features(page))


def _loop_ns(plan: Plan, columns: Columns, times: int) -> float:
    return nanoseconds_a_run_for_bench(plan.compiled, columns, times)


@dataclass(frozen=True)
class _WidePlan:
    """So many numbers, each filled and scaled, of a batch."""

    plan: Plan
    columns: Columns

    @classmethod
    def made(cls, width: int) -> _WidePlan:
        random = np.random.default_rng(width)
        columns = {
            f"c{i}": np.where(random.random(BATCH) < 0.05, np.nan, random.normal(size=BATCH)) for i in range(width)
        }
        steps = [{"impute": {"strategy": "mean", "value": 0.5}}, {"standard_scale": {"mean": 0.25, "scale": 2.0}}]
        features = [{"column": name, "steps": steps} for name in columns]
        page = {"columns": dict.fromkeys(columns, "float"), "outputs": {"input": {"features": features}}}
        return cls(_plan(page), columns)

    def is_sound(self) -> bool:
        """Whether it computes what numpy does."""
        values = np.stack(list(self.columns.values()), axis=1)
        expected = ((np.where(np.isnan(values), 0.5, values) - 0.25) / 2.0).astype(np.float32)
        return np.array_equal(self.plan.transform(self.columns), expected)

    def nanoseconds_a_column(self) -> float:
        """Of one row of the batch."""
        values = BATCH * len(self.columns)
        return _loop_ns(self.plan, self.columns, 2_000_000 // values) / values


@dataclass(frozen=True)
class _Body:
    """Rows as a V1 request sends them, objects by name, and as columns."""

    plan: Plan
    columns: Columns
    json: bytes
    rows: int

    @classmethod
    def made(cls, plan: Plan, rows: Columns, count: int) -> _Body:
        few = some_rows({name: rows[name] for name in plan.column_names()}, 0, count)
        # orjson writes NaN as null.
        records = [dict(zip(few, row, strict=True)) for row in zip(*map(list, few.values()), strict=True)]
        body = orjson.dumps({"instances": records}, option=orjson.OPT_SERIALIZE_NUMPY)
        return cls(plan, few, body, count)

    def is_sound(self) -> bool:
        """Whether the scanned columns give the features of the arrays."""
        exchange = exchange_for_test(self.json)
        scan_for_test(exchange, self._table())
        scanned = {name: _values(datatype, data) for name, datatype, _, data in exchange.input_tensors}
        return np.array_equal(self.plan.transform(scanned), self.plan.transform(self.columns))

    def nanoseconds_to_features(self) -> float:
        """Of the scan and the loop, all rows."""
        times = ROWS_A_ROUND // self.rows
        table = self._table()
        scan = sum(scan_for_bench(self._requests(size, table)) for size in _sizes(times)) / times
        return scan + _loop_ns(self.plan, self.columns, times)

    def _requests(self, count: int, table: InputTable) -> list[Exchange]:
        return [prepare_for_test(exchange_for_test(self.json), table) for _ in range(count)]

    def nanoseconds_of_orjson(self) -> float:
        """Of its parse alone."""
        return 1e9 * seconds_a_call(lambda: orjson.loads(self.json), ROWS_A_ROUND // self.rows)

    def _table(self) -> InputTable:
        accepts = [set(self.plan.compiled.accepted_dtypes(i)) for i in range(len(self.plan.columns))]
        return InputTable("m", self.plan.columns, outputs=["y"], batchable=True, columns=True, accepts=accepts)


def _sizes(times: int) -> list[int]:
    """So many requests in groups of no more than are in flight at once: their memory is used again, as in a worker."""
    return [min(IN_FLIGHT, times - i) for i in range(0, times, IN_FLIGHT)]


def _values(datatype: str, data: bytes) -> Any:
    """Of a tensor of numbers, or of texts, each behind its size."""
    if datatype == "FP64":
        return np.frombuffer(data, "<f8")
    texts, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        texts.append(data[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return texts
