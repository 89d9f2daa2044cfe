"""The numbered snapshot files that control writes and the other processes read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def newest_snapshot(folder: Path) -> Path | None:
    """The committed snapshot of the highest number; candidates (``000007.candidate.json``) are not committed."""
    numbered = [path for path in folder.glob("*.json") if path.stem.isdigit()]
    return max(numbered, key=lambda path: int(path.stem), default=None)


def read_snapshot(path: Path, number: int) -> dict[str, Any]:
    """The document. Raises OSError, and ValueError if it is not JSON or not the snapshot of that number."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if document.get("number") != number:
        raise ValueError(f"{path.name} is snapshot {document.get('number')}, not {number}")
    return document
