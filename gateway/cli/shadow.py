"""`gateway shadow`: candidates that run on copies of live requests and never answer."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.admin_client import AdminClient, on_gateway, segment
from gateway.cli.models import tell_of_change
from gateway.cli.output import AsJson, show

app = typer.Typer(help="Show copies of live requests to a candidate.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(metavar="MODEL")]
Version = Annotated[str, typer.Argument(metavar="VERSION")]
_COLUMNS = {"model": "MODEL", "version": "VERSION", "percent": "PERCENT", "state": "STATE", "reason": "WHY"}


@app.command(epilog="Example: gateway shadow add flight_delay 3 --percent 100")
@on_gateway
def add(
    client: AdminClient,
    model: Model,
    version: Version,
    percent: Annotated[float, typer.Option(help="How many of the model's requests it is shown, in percent.")] = 100.0,
    as_json: AsJson = False,
) -> None:
    """Run a version on recorded copies of live requests. It is tried in a process of its own first.

    It runs in a scorer, never in a worker: whatever it does, requests are answered as before.
    """
    done = client.put(f"shadows/{segment(model)}/{segment(version)}", {"percent": percent})
    show(client.get(f"shadows/{segment(model)}"), _COLUMNS, as_json=as_json)
    tell_of_change(done)


@app.command(epilog="Example: gateway shadow remove flight_delay 3")
@on_gateway
def remove(client: AdminClient, model: Model, version: Version, as_json: AsJson = False) -> None:
    """Show a version no more requests."""
    done = client.delete(f"shadows/{segment(model)}/{segment(version)}")
    show(client.get(f"shadows/{segment(model)}"), _COLUMNS, as_json=as_json)
    tell_of_change(done)
