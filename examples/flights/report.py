"""What the gateway wrote down about a run, as tables for the terminal."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from play import Played
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score
from train import MODEL, OUTPUT, SHADOW

#: How long rows may take from the reply to the log, and shadows to be run.
LOG_SECONDS = 30.0
MONTHS = ["", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class ReportFailed(Exception):
    """The log could not be asked, or does not hold what was played."""


@dataclass(frozen=True)
class Cli:
    """The `gateway` command with one state directory."""

    program: Path
    state_dir: Path

    def json(self, *arguments: str) -> list[dict[str, Any]]:
        """The array of objects that `gateway ARGUMENTS --json` prints."""
        command = [str(self.program), *arguments, "--json", "--state-dir", str(self.state_dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ReportFailed(f"`{' '.join(command)}` failed with {done.returncode}: {done.stderr.strip()}")
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows


def show(cli: Cli, played: Played, since: str, console: Console) -> None:
    """Print the tables. ReportFailed if a request that was answered is not in the log, or no shadow ran."""
    weights = {row["version"]: row["weight"] for row in cli.json("traffic", "show", MODEL) if row["weight"] > 0}
    log = wait_for_log(cli, played, since)
    answers = pd.DataFrame([(a.prediction_id, a.month, a.late) for a in played.answers],
                           columns=["prediction_id", "month", "late"])  # fmt: skip
    primary, shadow = (log[log["role"] == role].merge(answers, on="prediction_id") for role in ("primary", "shadow"))
    console.print(traffic_table(primary, shadow, weights))
    console.print(record_table(played, primary, shadow))
    console.print(quality_table(pd.concat([primary, shadow])))
    if len(primary) != len(played.answers):
        raise ReportFailed(f"{len(played.answers):,} requests were answered, {len(primary):,} of them are in the log")
    if shadow.empty:
        raise ReportFailed(f"version {SHADOW} is a shadow, but has not run once; `gateway models list` may know why")


def wait_for_log(cli: Cli, played: Played, since: str) -> pd.DataFrame:
    """The log's rows of the run; after LOG_SECONDS as many as there are."""
    wanted = 2 * len(played.answers)  # each primary and its shadow
    until = time.monotonic() + LOG_SECONDS
    count = f"SELECT count(*) AS rows FROM predictions WHERE model = '{MODEL}' AND ts >= TIMESTAMPTZ '{since}'"
    while cli.json("log", "query", count)[0]["rows"] < wanted and time.monotonic() < until:
        time.sleep(0.2)
    columns = "prediction_id, version, role, infer_us, total_us, outputs"
    query = f"SELECT {columns} FROM predictions WHERE model = '{MODEL}' AND ts >= TIMESTAMPTZ '{since}'"
    log = pd.DataFrame(cli.json("log", "query", query), columns=columns.split(", "))
    log["probability"] = [probability(outputs) for outputs in log["outputs"]]
    return log


def probability(outputs: Any) -> float:
    """The one number of an `outputs` cell."""
    value = (json.loads(outputs) if isinstance(outputs, str) else outputs)[OUTPUT]
    while isinstance(value, list):
        (value,) = value
    return float(value)


def traffic_table(primary: pd.DataFrame, shadow: pd.DataFrame, weights: Mapping[str, float]) -> Table:
    table = Table("version", "role", "share set", "share seen", "predictions", title="Traffic")
    total = sum(weights.values())
    for version, weight in weights.items():
        seen = (primary["version"] == version).sum()
        table.add_row(version, "answers", f"{weight / total:.1%}", f"{seen / len(primary):.1%}", f"{seen:,}")
    coverage = len(shadow) / len(primary)
    table.add_row(SHADOW, "shadow", "100.0%", f"{coverage:.1%}", f"{len(shadow):,}")
    return right_aligned(table, after=2)


def record_table(played: Played, primary: pd.DataFrame, shadow: pd.DataFrame) -> Table:
    table = Table("", "", title="Record", show_header=False)
    states = pd.Series([answer.record for answer in played.answers]).value_counts()
    for fact, value in {
        "requests sent, all answered": f"{len(played.answers):,}",
        "rows logged for them": f"{len(primary):,}",
        "record state in the replies": ", ".join(f"{state} {count:,}" for state, count in states.items()),
        "shadow coverage": f"{len(shadow) / len(primary):.1%}",
        "gRPC requests a second, as this client plays": f"{played.grpc_per_second:,.0f}",
        "HTTP requests a second, at the same time": f"{played.http_per_second:,.0f}",
        "inside the gateway, median": f"{primary['total_us'].median():,.0f} µs",
        "of it inference, median": f"{primary['infer_us'].median():,.0f} µs",
    }.items():
        table.add_row(fact, value)
    return right_aligned(table, after=1)


def quality_table(log: pd.DataFrame) -> Table:
    """Accuracy, and how well late flights are ranked before punctual ones (AUC), once their delays are known."""
    versions = sorted(log["version"].unique())
    table = Table("month", "flights late", title="Accuracy and AUC by month, joined with what happened")
    for version in versions:
        table.add_column(f"version {version}{' (shadow)' if version == SHADOW else ''}")
    for month, of_month in log.groupby("month"):
        primary = of_month[of_month["role"] == "primary"]
        cells = [quality(of_month[of_month["version"] == version]) for version in versions]
        table.add_row(MONTHS[int(str(month))], f"{primary['late'].mean():.1%}", *cells)
    return right_aligned(table, after=1)


def quality(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "-"
    accuracy = ((rows["probability"] > 0.5) == rows["late"]).mean()
    if rows["late"].nunique() < 2:
        return f"{accuracy:.1%}"
    return f"{accuracy:.1%} {roc_auc_score(rows['late'], rows['probability']):.3f}"


def right_aligned(table: Table, after: int) -> Table:
    for column in table.columns[after:]:
        column.justify = "right"
    return table
