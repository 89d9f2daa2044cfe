"""`gateway traffic`: the split of a model, and back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.admin_client import AdminClient, on_gateway, segment
from gateway.cli.models import tell_of_change
from gateway.cli.output import AsJson, percent, show, tell
from gateway.core.errors import InvalidRequest

app = typer.Typer(help="Split live traffic between versions of a model, and take it back.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(metavar="MODEL")]
Weights = Annotated[list[str], typer.Argument(metavar="VERSION=WEIGHT...")]
_SHOW = {
    "version": "VERSION", "wanted": "WEIGHT", "slots": "SLOTS", "labels": "LABELS", "sticky": "STICKY KEY",
    "number": "NUMBER",
}  # fmt: skip
_PLAN = {
    "version": "VERSION", "wanted": "WEIGHT", "slots_before": "SLOTS NOW", "slots_after": "THEN", "gains": "GAINS",
    "loses": "LOSES",
}  # fmt: skip


@app.command("show", epilog="Example: gateway traffic show flight_delay")
@on_gateway
def show_traffic(client: AdminClient, model: Model, as_json: AsJson = False) -> None:
    """The split in force. 10,000 slots of 0.01 % each."""
    _show(client.get(f"traffic/{segment(model)}"), _SHOW, as_json)


@app.command(epilog="Example: gateway traffic plan flight_delay 1=80 2=20")
@on_gateway
def plan(client: AdminClient, model: Model, weights: Weights, as_json: AsJson = False) -> None:
    """What setting these weights would move, without doing it."""
    body = {"weights": parse_weights(weights)}
    _show(client.post(f"traffic/{segment(model)}/plan", body), _PLAN, as_json)


@app.command("set", epilog="Example: gateway traffic set flight_delay 1=90 2=10 --sticky header:x-user")
@on_gateway
def set_traffic(
    client: AdminClient,
    model: Model,
    weights: Weights,
    sticky: Annotated[
        str, typer.Option(metavar="header:NAME|column:NAME|none", help="The sticky key; left out: as it is.")
    ] = "keep",
    as_json: AsJson = False,
) -> None:
    """Split the traffic by these weights, any numbers, from now on. Returns when every worker does.

    Keys move only from versions whose share falls to versions whose share rises. `header:` also reads gRPC metadata.
    """
    body = {"weights": parse_weights(weights), "sticky": sticky}
    done = client.put(f"traffic/{segment(model)}", body)
    _show(done["traffic"], _SHOW, as_json)
    tell_of_change(done)


@app.command(epilog="Example: gateway traffic history flight_delay")
@on_gateway
def history(client: AdminClient, model: Model, as_json: AsJson = False) -> None:
    """Every split that the model has had, oldest first."""
    rows = client.get(f"traffic/{segment(model)}/history")
    columns = {"number": "NUMBER", "at": "AT", "actor": "BY", "action": "HOW", "restores": "BACK TO",
               "weights": "WEIGHTS", "sticky": "STICKY KEY"}  # fmt: skip
    show(rows, columns, as_json=as_json)


@app.command(epilog="Example: gateway traffic undo flight_delay")
@on_gateway
def undo(
    client: AdminClient,
    model: Model,
    number: Annotated[int | None, typer.Argument(help="Number in the history to go back to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Go back to the split before the present one, or to that of a number; every key where it was then.

    Undoing again goes back further.
    """
    done = client.post(f"traffic/{segment(model)}/undo", {"number": number})
    _show(done["traffic"], _SHOW, as_json)
    tell(f"the split of number {done['restored']} is back")
    tell_of_change(done)


def parse_weights(pairs: list[str]) -> dict[str, float]:
    """``["1=90", "2=10"]`` as version → weight. InvalidRequest for anything else."""
    weights: dict[str, float] = {}
    for pair in pairs:
        version, separator, number = pair.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            separator = ""
        if not separator or not version:
            raise InvalidRequest(f"{pair!r} is not VERSION=WEIGHT", hint="e.g. 1=90 2=10")
        if version in weights:
            raise InvalidRequest(f"version {version} stands twice")
        weights[version] = weight
    return weights


def _show(rows: list[dict[str, Any]], columns: dict[str, str], as_json: bool) -> None:
    texts = [{**row, "wanted": percent(row["weight"])} for row in rows]
    show(rows if as_json else texts, columns, as_json=as_json)
