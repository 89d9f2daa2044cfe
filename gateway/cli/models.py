"""`gateway models`: what is served, and what shall be."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.admin_client import AdminClient, on_gateway, segment
from gateway.cli.output import AsJson, percent, show, tell
from gateway.core.errors import InvalidRequest, VersionNotFound

app = typer.Typer(help="List, load, unload and verify model versions.", no_args_is_help=True)

Target = Annotated[str, typer.Argument(metavar="MODEL[@VERSION]")]
_LIST = {
    "model": "MODEL", "version": "VERSION", "state": "STATE", "share": "TRAFFIC", "labels": "LABELS",
    "short": "DIGEST", "reason": "WHY",
}  # fmt: skip


@app.command("list", epilog="Example: gateway models list --json")
@on_gateway
def list_models(client: AdminClient, as_json: AsJson = False) -> None:
    """Every version of every model: its state, its share of the traffic, and why if it does not serve."""
    rows = client.get("models")
    show([_with_texts(row) for row in rows] if not as_json else rows, _LIST, as_json=as_json)


@app.command("show", epilog="Example: gateway models show flight_delay@2")
@on_gateway
def show_model(client: AdminClient, target: Target, as_json: AsJson = False) -> None:
    """Everything about a model or one of its versions: tensors, digest, folder, load time."""
    model, version = parse_target(target)
    rows = _rows_of(client, model, version)
    if as_json:
        show(rows, {}, as_json=True)
        return
    for row in rows:
        facts = {
            key: value for key, value in _with_texts(row).items() if key != "short" and value not in (None, [], "")
        }
        facts |= {key: [tensor_text(tensor) for tensor in row.get(key, [])] for key in ("inputs", "outputs")}
        show([{"fact": key, "value": value} for key, value in facts.items()], {"fact": "", "value": ""}, as_json=False)


@app.command(epilog="Example: gateway models load flight_delay@3")
@on_gateway
def load(client: AdminClient, target: Target, as_json: AsJson = False) -> None:
    """Read a version, or a whole model with its model.yaml, from its folder and serve it; again if it was changed.

    Requests go on with what was loaded before until every worker has the new one. Where no split is set, the highest
    version that loads takes all traffic.
    """
    _change(target, "load", {}, as_json, client)


@app.command(epilog="Example: gateway models unload flight_delay@1")
@on_gateway
def unload(
    client: AdminClient,
    target: Target,
    force: Annotated[bool, typer.Option(help="Also a version with traffic or a label: others take over.")] = False,
    as_json: AsJson = False,
) -> None:
    """Serve a version, or a whole model, no longer. Requests that are running are answered."""
    _change(target, "unload", {"force": force}, as_json, client)


@app.command(epilog="Example: gateway models verify && echo untouched")
@on_gateway
def verify(client: AdminClient, as_json: AsJson = False) -> None:
    """Compare every file with the digest taken when it was loaded. Exit code 1 if one differs."""
    rows = client.get("verification")
    columns = {"model": "MODEL", "version": "VERSION", "ok": "AS LOADED", "digest": "DIGEST", "differences": "DIFFERS"}
    show(rows, columns, as_json=as_json)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


def parse_target(target: str) -> tuple[str, str | None]:
    """``MODEL`` or ``MODEL@VERSION``. InvalidRequest for anything else."""
    model, separator, version = target.partition("@")
    if not model or (separator and not version):
        raise InvalidRequest(f"{target!r} is not MODEL or MODEL@VERSION")
    return model, version or None


def tensor_text(tensor: dict[str, Any]) -> str:
    """``x FP32[-1, 16]``."""
    optional = " (optional)" if tensor.get("optional") else ""
    return f"{tensor['name']} {tensor['datatype']}{tensor['shape']}{optional}"


def _change(target: str, action: str, body: dict[str, Any], as_json: bool, client: AdminClient) -> None:
    model, version = parse_target(target)
    place = f"models/{segment(model)}" + (f"/versions/{segment(version)}" if version else "")
    done = client.post(f"{place}/{action}", body)
    rows = _rows_of(client, model, version)
    show([_with_texts(row) for row in rows] if not as_json else rows, _LIST, as_json=as_json)
    tell_of_change(done)


def tell_of_change(done: dict[str, Any]) -> None:
    """What became of a change, for people."""
    tell(f"in force as number {done['number']}; {done['moved_slots'] / 100:g} % of the keys have another version now")
    if done["lagging"]:
        tell(f"warning: not yet run by {', '.join(done['lagging'])}")
    tell(*(f"warning: {problem}" for problem in done["problems"]))


def _rows_of(client: AdminClient, model: str, version: str | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client.get(f"models/{segment(model)}")
    found = [row for row in rows if version in (None, row["version"])]
    if not found:
        known = ", ".join(str(row["version"]) for row in rows)
        raise VersionNotFound(f"model {model} has no version {version}", hint=f"there is {known}")
    return found


def _with_texts(row: dict[str, Any]) -> dict[str, Any]:
    shadow = row.get("shadow_percent")
    share = f"shadow {shadow:g} %" if shadow is not None else percent(row["traffic"])
    return {**row, "share": share, "short": (row.get("digest") or "")[:12]}
