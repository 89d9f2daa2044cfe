"""`gateway audit`: who changed what."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.admin_client import AdminClient, on_gateway
from gateway.cli.output import AsJson, show
from gateway.core.errors import GatewayError

app = typer.Typer()


@app.command(epilog="Example: gateway audit --last 20")
@on_gateway
def audit(
    client: AdminClient,
    last: Annotated[int, typer.Option(min=1, help="How many of the newest rows.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show every change and every refused attempt. Exit code 1 if somebody has tampered with the rows."""
    found = client.get(f"audit?limit={last}")
    columns = {"sequence": "#", "at": "AT", "actor": "BY", "action": "ACTION", "target": "TARGET",
               "outcome": "OUTCOME", "detail": "DETAIL"}  # fmt: skip
    show(found["rows"], columns, as_json=as_json)
    if found["first_broken"] is not None:
        raise GatewayError(f"row {found['first_broken']} of the audit is not what was written")
