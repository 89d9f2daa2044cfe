"""`gateway diff`: where the gateway differs from its files."""

from __future__ import annotations

import typer

from gateway.cli.admin_client import AdminClient, on_gateway
from gateway.cli.output import AsJson, show

app = typer.Typer()


@app.command(epilog="Example: gateway diff")
@on_gateway
def diff(client: AdminClient, as_json: AsJson = False) -> None:
    """Show where what is served differs from what model.yaml and the folders say now. Exit code 1 if anything does."""
    rows = client.get("diff")
    columns = {"model": "MODEL", "setting": "SETTING", "files": "FILES", "desired": "GATEWAY"}
    show(rows, columns, as_json=as_json)
    if rows:
        raise typer.Exit(1)
