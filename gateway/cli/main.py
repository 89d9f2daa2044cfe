"""The `gateway` command. Each noun's module is imported when that noun is used: `gateway traffic` starts fast."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

import typer
from typer.core import TyperGroup

from gateway.core.errors import GatewayError

#: Noun → what it is for. Its commands are the Typer `app` of ``gateway.cli.<noun>``.
NOUNS = {
    "serve": "Serve a folder of models.",
    "check": "Check a folder of models: every problem, and an exit code for CI.",
    "models": "List, load, unload and verify model versions.",
    "traffic": "Split live traffic between versions of a model, and take it back.",
    "shadow": "Show copies of live requests to a candidate.",
    "log": "Ask the record of predictions.",
    "features": "Make, check and explain features.yaml.",
    "diff": "Show where the gateway differs from its files.",
    "audit": "Show who changed what.",
}


class Nouns(TyperGroup):
    """The commands, without importing those that are not used."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002 - click's signature
        """The nouns that this installation has."""
        return [noun for noun in NOUNS if find_spec(f"gateway.cli.{noun}")]

    def get_command(self, ctx: object, cmd_name: str) -> typer.core.click.Command | None:  # type: ignore[name-defined]
        """The command of a noun; None where there is no such noun."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = typer.main.get_command(import_module(f"gateway.cli.{cmd_name}").app)
        command.name = cmd_name
        command.short_help = NOUNS[cmd_name]
        return command


app = typer.Typer(cls=Nouns, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.callback(epilog="Example: gateway serve ./models, then: curl localhost:8000/v2/health/ready")
def root() -> None:
    """Serve ONNX models: split live traffic, shadow candidates, record every prediction."""


def main() -> None:
    """The program. Exit code 0: done; 1: refused or failed, the reason is on standard error; 2: not understood."""
    try:
        app()
    except GatewayError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
