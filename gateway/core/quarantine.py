"""Versions held back because they crashed their processes: ``STATE_DIR/run/quarantine.json``. Standard library only.

The supervisor writes the file before it starts the successor of whoever crashed. A snapshot carries the quarantines
that control knew of when it made it, and heeds them, except for those that an admin has lifted. What the file has
besides, every process holds back by itself: it must not load a version that is quarantined already only because control
has not heard of it yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: (model, version) → since when it is held back.
Quarantines = Mapping[tuple[str, str], str]


def read_quarantines(state_dir: Path) -> dict[tuple[str, str], str]:
    """What the supervisor has written, the latest of each version; empty where there is no file or it is damaged."""
    try:
        listed = json.loads((state_dir / "run" / "quarantine.json").read_bytes())["versions"]
    except (OSError, ValueError):
        return {}
    return {(item["model"], item["version"]): item["since"] for item in listed}


def quarantines_json(quarantines: Quarantines) -> dict[str, dict[str, str]]:
    """The form that a snapshot carries: model → version → since."""
    document: dict[str, dict[str, str]] = {}
    for (model, version), since in sorted(quarantines.items()):
        document.setdefault(model, {})[version] = since
    return document


def known_quarantines(snapshot: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Those that control knew of when it made the snapshot, lifted ones included."""
    known: Mapping[str, Mapping[str, str]] = snapshot.get("quarantined", {})
    return {(model, version): since for model, versions in known.items() for version, since in versions.items()}


def quarantines_to_come(snapshot: Mapping[str, Any], state_dir: Path) -> dict[tuple[str, str], str]:
    """Those that control did not know of when it made the snapshot."""
    known = known_quarantines(snapshot)
    return {key: since for key, since in read_quarantines(state_dir).items() if known.get(key) != since}


def quarantine_reason(since: str) -> str:
    """What callers are told of a version that is held back."""
    return f"quarantined since {since}: it crashed its processes"
