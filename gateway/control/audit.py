"""Who changed what, when, with which outcome: rows that each carry the hash of the one before. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: What the first row has for the hash of its predecessor.
BEGINNING = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One attempt to change something."""

    actor: str
    action: str
    target: str
    outcome: str = "done"
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An entry in its place in the chain."""

    sequence: int
    at: str
    entry: AuditEntry
    previous_hash: str
    hash: str

    def to_json(self) -> dict[str, Any]:
        """The row as the admin API shows it."""
        return {
            "sequence": self.sequence,
            "at": self.at,
            "actor": self.entry.actor,
            "action": self.entry.action,
            "target": self.entry.target,
            "outcome": self.entry.outcome,
            "detail": dict(self.entry.detail),
            "hash": self.hash,
        }


def chain(sequence: int, at: str, entry: AuditEntry, previous_hash: str) -> AuditRow:
    """The row that follows the one with ``previous_hash``."""
    content = [sequence, at, entry.actor, entry.action, entry.target, entry.outcome, dict(entry.detail), previous_hash]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return AuditRow(sequence, at, entry, previous_hash, hashlib.sha256(text.encode()).hexdigest())


def first_broken(rows: Iterable[AuditRow]) -> int | None:
    """Sequence of the first row, in order, that is not what was written or whose predecessor is gone; None if sound."""
    previous_hash = BEGINNING
    for sequence, row in enumerate(rows, start=1):
        if row != chain(sequence, row.at, row.entry, previous_hash):
            return sequence
        previous_hash = row.hash
    return None
