"""Where the pieces of a gateway's record lie, found from its state directory alone, running or not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def configured_database(state_dir: Path) -> str:
    """SQLAlchemy URL of the control database: that of ``run/server.json``, else ``gateway.db``."""
    return str(
        _settings(state_dir / "run" / "server.json").get("database_url") or f"sqlite:///{state_dir / 'gateway.db'}"
    )


def ring_folders(state_dir: Path) -> list[Path]:
    """The folders that may hold the gateway's rings, the likeliest first."""
    told = _settings(state_dir / "run" / "runtime.json").get("shm")
    name = f"onnx-gateway-{hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:12]}"
    folders = [Path("/dev/shm", name), state_dir / "shm"]
    return [Path(told), *folders] if told else folders


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
