"""`gateway shadow`: candidates that run on copies of live requests and never answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.admin_client import AdminClient, on_gateway, segment
from gateway.cli.models import tell_of_change
from gateway.cli.output import AsJson, percent, show
from gateway.core.snapshot_files import SnapshotFiles

app = typer.Typer(help="Show copies of live requests to a candidate.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(metavar="MODEL")]
Version = Annotated[str, typer.Argument(metavar="VERSION")]
_REPORT = {
    "version": "VERSION", "since": "SINCE", "requests": "REQUESTS", "pairs": "PAIRS", "covered": "COVERAGE",
    "errors": "ERRORS", "primary_us": "PRIMARY µs", "shadow_us": "SHADOW µs", "output": "OUTPUT",
    "agreement": "SAME", "mean_difference": "MEAN DIFF", "largest_difference": "LARGEST",
}  # fmt: skip
_COLUMNS = {"model": "MODEL", "version": "VERSION", "percent": "PERCENT", "state": "STATE", "reason": "WHY"}


@app.command(epilog="Example: gateway shadow add flight_delay 3 --percent 100")
@on_gateway
def add(
    client: AdminClient,
    model: Model,
    version: Version,
    percentage: Annotated[
        float, typer.Option("--percent", help="How many of the model's requests it is shown, in percent.")
    ] = 100.0,
    as_json: AsJson = False,
) -> None:
    """Run a version on recorded copies of live requests. It is tried in a process of its own first.

    It runs in a scorer, never in a worker: whatever it does, requests are answered as before.
    """
    done = client.put(f"shadows/{segment(model)}/{segment(version)}", {"percent": percentage})
    show(client.get(f"shadows/{segment(model)}"), _COLUMNS, as_json=as_json)
    tell_of_change(done)


@app.command(epilog="Example: gateway shadow remove flight_delay 3")
@on_gateway
def remove(client: AdminClient, model: Model, version: Version, as_json: AsJson = False) -> None:
    """Show a version no more requests."""
    done = client.delete(f"shadows/{segment(model)}/{segment(version)}")
    show(client.get(f"shadows/{segment(model)}"), _COLUMNS, as_json=as_json)
    tell_of_change(done)


@app.command(epilog="Example: gateway shadow report flight_delay")
def report(
    model: Model,
    last: Annotated[int, typer.Option(min=1, help="Of how many of the newest pairs outputs are compared.")] = 10_000,
    as_json: AsJson = False,
    state_dir: Annotated[Path, typer.Option(help="The gateway's state directory.")] = Path("gateway-state"),
) -> None:
    """Compare every shadow with the versions that answered: coverage, errors, run time, outputs.

    Read from the record, so it also works when the gateway is stopped. Requests count from the shadow's first on;
    times are medians of a run. A candidate that has not run yet is listed with zeros.
    """
    rows = _report(model, state_dir, last)
    show(rows if as_json else [_words(row) for row in rows], _REPORT, as_json=as_json)


def _words(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "covered": percent(row["coverage"]),
        "agreement": percent(row["same"]) if row["compared"] else "",
        "output": row["output"] if row["since"] is not None else "no rows yet",
    }


def _report(model: str, state_dir: Path, last: int) -> list[dict[str, Any]]:
    """One row for each shadow and output."""
    from gateway.monitoring.comparison import OutputComparison, compare_outputs  # noqa: PLC0415 - Arrow loads slowly
    from gateway.recording.moment import Place  # noqa: PLC0415
    from gateway.recording.query import ask  # noqa: PLC0415

    place = Place.of(state_dir)
    candidates = ", ".join(map(_quoted, _candidates(model, state_dir)))
    with ask(place, _COVERAGE.format(model=_quoted(model), candidates=candidates)) as answer:
        coverage = list(answer.objects())
    rows = []
    for covered in coverage:
        compared = {}
        if covered["pairs"]:
            question = _PAIRS.format(model=_quoted(model), version=_quoted(covered["version"]), last=last)
            with ask(place, question) as answer:
                compared = compare_outputs((pair["primary"], pair["shadow"]) for pair in answer.objects())
        covered["coverage"] = covered["pairs"] / covered["requests"] if covered["requests"] else 0.0
        rows += [
            {**covered, "output": output, **_figures(comparison)}
            for output, comparison in (compared or {"": OutputComparison()}).items()
        ]
    return rows


def _candidates(model: str, state_dir: Path) -> list[str]:
    """The versions that shadow the model now, or did when the gateway was stopped."""
    files = SnapshotFiles(state_dir)
    number = files.newest()
    models = files.read(number)["models"] if number else {}
    return [shadow["version"] for shadow in models.get(model, {}).get("shadows", ())]


def _quoted(text: str) -> str:
    """As a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _figures(comparison: Any) -> dict[str, Any]:
    return {
        "compared": comparison.compared,
        "incomparable": comparison.incomparable,
        "same": comparison.same / comparison.compared if comparison.compared else 0.0,
        "mean_difference": comparison.mean_difference,
        "largest_difference": comparison.largest_difference,
    }


_COVERAGE = """
WITH began AS (
    SELECT version, min(ts) AS since FROM (
        SELECT version, ts FROM predictions WHERE model = {model} AND role = 'shadow'
        UNION ALL SELECT unnest([{candidates}]::VARCHAR[]), NULL
    ) GROUP BY version
)
SELECT began.version, began.since, count(p.prediction_id) AS requests, count(s.prediction_id) AS pairs,
       count(*) FILTER (WHERE s.status <> 'OK') AS errors,
       median(p.infer_us) AS primary_us, median(s.infer_us) AS shadow_us
FROM began
LEFT JOIN predictions p ON p.model = {model} AND p.role = 'primary' AND p.status = 'OK' AND p.ts >= began.since
LEFT JOIN predictions s ON s.prediction_id = p.prediction_id AND s.row = p.row AND s.role = 'shadow'
    AND s.version = began.version
GROUP BY began.version, began.since ORDER BY began.version
"""
_PAIRS = """
SELECT p.outputs AS "primary", s.outputs AS shadow
FROM predictions s JOIN predictions p USING (prediction_id, row)
WHERE s.model = {model} AND s.role = 'shadow' AND s.version = {version} AND s.status = 'OK'
    AND p.role = 'primary' AND p.status = 'OK'
ORDER BY s.ts DESC LIMIT {last}
"""
