"""The admin API from outside: where it is, the token it takes, and its refusals as our errors.

Nothing but the standard library: a command should not take longer to start than to run.
"""

from __future__ import annotations

import functools
import getpass
import inspect
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Annotated, Any, get_type_hints
from urllib.parse import quote, urlsplit

import typer

from gateway.core.errors import GatewayError, InvalidRequest, Unauthenticated, Unavailable

DEFAULT_STATE_DIR = Path("gateway-state")
DEFAULT_ADMIN = "http://127.0.0.1:8002"
#: A change waits for every worker to load; the server gives up first.
TIMEOUT_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class AdminClient:
    """One gateway's admin API."""

    host: str
    port: int
    token: str | None = None

    def get(self, path: str) -> Any:
        """The answer to a GET under /v1/admin."""
        return self._call("GET", path)

    def post(self, path: str, body: object = None) -> Any:
        """The answer to a POST."""
        return self._call("POST", path, body)

    def put(self, path: str, body: object = None) -> Any:
        """The answer to a PUT."""
        return self._call("PUT", path, body)

    def delete(self, path: str) -> Any:
        """The answer to a DELETE."""
        return self._call("DELETE", path)

    def _call(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Content-Type": "application/json", "X-Gateway-Actor": _user()}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        status, answer = self.request(method, f"/v1/admin/{path}", headers, body)
        if status >= 400:
            raise _refusal(answer)
        return answer

    def request(self, method: str, path: str, headers: dict[str, str], body: object = None) -> tuple[int, Any]:
        """Status and JSON body. Unavailable if nobody answers there, or somebody who is no gateway."""
        connection = HTTPConnection(self.host, self.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, HTTPException) as error:
            raise Unavailable(
                f"no gateway answers at http://{self.host}:{self.port} ({error})",
                hint="is it running? --admin or --state-dir say where",
            ) from error
        except ValueError as error:
            raise Unavailable(f"what answers at http://{self.host}:{self.port} is no gateway's admin port") from error
        finally:
            connection.close()


def connect(admin: str | None, state_dir: Path | None, token_file: Path | None = None) -> AdminClient:
    """The gateway that the options mean: ``admin`` itself, the one of ``state_dir``, else the one on this machine.

    The token comes from ``token_file``, ``state_dir``, ./gateway-state, or the state directory that the gateway names,
    if that is this user's own and belongs to that port.
    """
    runtime_port = _admin_port_of(state_dir if state_dir is not None else DEFAULT_STATE_DIR)
    if admin is not None:
        host, port = _place(admin)
    elif runtime_port is not None:
        host, port = "127.0.0.1", runtime_port
    elif state_dir is not None:
        raise Unavailable(f"no gateway runs on state directory {state_dir}")
    else:
        host, port = _place(DEFAULT_ADMIN)
    if token_file is not None:
        return AdminClient(host, port, _read_token(token_file))
    if state_dir is not None:
        return AdminClient(host, port, _read_token(state_dir / "admin.token"))
    if runtime_port == port:
        return AdminClient(host, port, _read_token(DEFAULT_STATE_DIR / "admin.token"))
    return AdminClient(host, port, _token_of_local_gateway(host, port))


_OPTIONS: dict[str, Any] = {
    "admin": Annotated[str | None, typer.Option("--admin", metavar="URL", help="Admin port, e.g. http://host:8002.")],
    "state_dir": Annotated[
        Path | None, typer.Option("--state-dir", help="The gateway's state directory; it names port and token.")
    ],
    "token_file": Annotated[
        Path | None,
        typer.Option("--token-file", help="A file with the admin token.", show_default="STATE_DIR/admin.token"),
    ],
}


def on_gateway(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which gateway is meant, and the connected client as its first argument."""
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in list(inspect.signature(command).parameters.items())[1:]
    ]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _OPTIONS.items()
    ]

    @functools.wraps(command)
    def connected(
        *args: Any, admin: str | None, state_dir: Path | None, token_file: Path | None, **kwargs: Any
    ) -> None:
        command(connect(admin, state_dir, token_file), *args, **kwargs)

    connected.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]  # what typer reads
    connected.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *options)}
    return connected


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url if "//" in url else f"//{url}")
    try:
        if parts.hostname and parts.scheme in ("", "http"):
            return parts.hostname, parts.port or 8002
    except ValueError:  # the port is no number
        pass
    raise InvalidRequest(f"--admin {url!r} is no address", hint="e.g. http://127.0.0.1:8002")


def _admin_port_of(state_dir: Path) -> int | None:
    """Where the gateway of that directory listens, if one runs there."""
    try:
        runtime = json.loads((state_dir / "run" / "runtime.json").read_bytes())
        return int(runtime["ports"]["admin"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise Unauthenticated(f"{path}: the admin token cannot be read: {error}") from error


def _token_of_local_gateway(host: str, port: int) -> str | None:
    """The token in the state directory that the gateway itself names.

    Read only if that directory is this user's own and says the same port of itself: whoever listens there must not be
    able to ask for the token of another gateway.
    """
    try:
        _, health = AdminClient(host, port).request("GET", "/health", {})
        state_dir = Path(health["state_dir"])
        facts = os.stat(state_dir)
    except (GatewayError, OSError, KeyError, TypeError):
        return None
    private = facts.st_uid == os.geteuid() and stat.S_IMODE(facts.st_mode) == 0o700
    if host not in ("127.0.0.1", "localhost", "::1") or not private or _admin_port_of(state_dir) != port:
        return None
    return _read_token(state_dir / "admin.token")


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in a container
        return str(os.geteuid())


def _refusal(answer: Any) -> GatewayError:
    """The error that the server raised, as far as its answer tells."""
    error = answer.get("error", {}) if isinstance(answer, dict) else {}
    kinds = {kind.code: kind for kind in _leaves(GatewayError) if kind.code != "configuration"}
    kind = kinds.get(str(error.get("code")), GatewayError)
    return kind(str(error.get("message", "refused without a reason")), hint=error.get("hint"))


def _leaves(kind: type[GatewayError]) -> list[type[GatewayError]]:
    return [kind, *(leaf for below in kind.__subclasses__() for leaf in _leaves(below))]
