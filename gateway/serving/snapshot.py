"""Snapshot documents → what the pipeline serves. Two phases: prepare (load, warm, compile), then commit.

A version that the new snapshot shares with the running one (same files and settings) is not loaded again; one
that it no longer names is dropped, and freed when the last exchange that points to it is released.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from gateway._fast.served import ServedModel, ServedVersion
from gateway._fast.slot_table import SlotTable
from gateway.core.errors import GatewayError, Quarantined
from gateway.core.quarantine import Quarantines, quarantine_reason
from gateway.serving.loading import VersionEntry, describe, load_version

Document = dict[str, Any]
Loaded = dict[tuple[str, str], ServedVersion | GatewayError]
#: Give a version its handle for the ring's frames; None when nothing is recorded.
RegisterSchema = Callable[[ServedVersion], object]
#: Of a slot table.
SLOTS = 10_000
#: A slot that no counter page has.
NOT_COUNTED = -1


@dataclass(frozen=True)
class Prepared:
    """A snapshot that is loaded and can be committed at any moment."""

    number: int
    document: Document
    loaded: Loaded
    entries: dict[tuple[str, str], VersionEntry]
    report: dict[str, dict[str, Any]]


#: Before the first snapshot.
NOTHING = Prepared(0, {"number": 0, "models": {}}, {}, {}, {})


def prepare(
    document: Document,
    running: Prepared,
    *,
    shadows: bool = False,
    register: RegisterSchema | None = None,
    held_back: Quarantines = MappingProxyType({}),
) -> Prepared:
    """Load what ``document`` names and ``running`` has not. A broken version is an answer in the report, not a failure.

    ``shadows``: load the versions that only shadow (a scorer) instead of those that answer (a worker). ``held_back``:
    versions that must not run although the document names them. Nothing that ``running`` has is changed: it serves
    until the commit, and the commit may never come.
    """
    loaded: Loaded = {}
    entries: dict[tuple[str, str], VersionEntry] = {}
    report: dict[str, dict[str, Any]] = {}
    for model, part in document["models"].items():
        report[model] = {}
        for version in part["versions"]:
            if not _wanted(part, version, shadows=shadows):
                continue
            key = (model, version)
            entries[key] = VersionEntry.of(model, part, version)
            started = time.monotonic()
            if key in held_back:
                loaded[key] = Quarantined(quarantine_reason(held_back[key]))
            else:
                loaded[key] = _reuse(key, entries[key], running) or _load(entries[key], register)
            report[model][version] = describe(loaded[key], (time.monotonic() - started) * 1e3)
    return Prepared(document["number"], document, loaded, entries, report)


def compile_models(
    prepared: Prepared,
    *,
    register: RegisterSchema,
    recording: bool,
    salt: int = 0,
    before: Mapping[str, ServedModel] | None = None,
) -> dict[str, ServedModel]:
    """The models that the pipeline adopts: those with at least one loaded version that may answer.

    ``salt`` gives each worker another place to begin dealing requests without a key; ``before``, the models that served
    until now, says where dealing stands.
    """
    answering: dict[str, dict[str, ServedVersion]] = {}
    for (name, version), served in prepared.loaded.items():
        if isinstance(served, ServedVersion):
            answering.setdefault(name, {})[version] = served
    models: dict[str, ServedModel] = {}
    for name, versions in answering.items():
        part = prepared.document["models"][name]
        models[name] = _model(name, part, versions, _dealt_so_far(before, name, salt))
        block = part.get("recording", {}) if recording else {"mode": "off"}
        for served in (*versions.values(), models[name].unrouted):
            served.set_recording(block)
            served.schema = register(served) if served.schema is None else served.schema
            counted_as = served.version or models[name].default.version  # a request that no version took
            served.counters = part["versions"][counted_as].get("counters", NOT_COUNTED)
    return models


def _model(name: str, part: Document, versions: dict[str, ServedVersion], position: int) -> ServedModel:
    traffic = part.get("traffic") or {}
    split = traffic.get("order", [])
    order = [version for version in split if version in versions]
    default = part.get("default_version")
    if default not in versions:
        default = order[0] if order else next(iter(versions))
    slots = None
    if len(order) < len(split):  # loaded elsewhere and not here: what is left of the split would be no split
        order = [default]
    elif len(order) > 1:
        table = base64.b64decode(traffic["slots"])
        slots = SlotTable(table, int(traffic.get("salt", "0"), 16), len(order), position)
    return ServedModel(
        name,
        versions,
        default=default,
        labels=part.get("labels") or {},
        order=order,
        slots=slots,
        sticky=traffic.get("sticky"),
        override_header=traffic.get("override_header"),
    )


def _dealt_so_far(before: Mapping[str, ServedModel] | None, name: str, salt: int) -> int:
    slots = before[name].slots if before and name in before else None
    return slots.next_position if slots is not None else salt * 2654435761 % SLOTS


def unavailable(prepared: Prepared) -> dict[str, dict[str, str]]:
    """Why versions do not answer, for those who ask for them: what control knows, and what did not load here."""
    reasons: dict[str, dict[str, str]] = {
        model: dict(why) for model, why in prepared.document.get("unavailable", {}).items()
    }
    for (model, version), served in prepared.loaded.items():
        if isinstance(served, GatewayError):
            reasons.setdefault(model, {})[version] = served.message
    return reasons


def _wanted(part: Document, version: str, *, shadows: bool) -> bool:
    if shadows:
        return any(shadow["version"] == version for shadow in part.get("shadows", ()))
    return bool(part["versions"][version].get("serving", True))


def _reuse(key: tuple[str, str], entry: VersionEntry, running: Prepared) -> ServedVersion | None:
    old = running.loaded.get(key)
    if not isinstance(old, ServedVersion):
        return None
    # The digest is of all files: where they lie makes no difference.
    return old if replace(running.entries[key], path=entry.path) == entry else None


def _load(entry: VersionEntry, register: RegisterSchema | None) -> ServedVersion | GatewayError:
    try:
        served = load_version(entry)
        if register is not None:
            served.schema = register(served)
        return served
    except GatewayError as error:
        return error
