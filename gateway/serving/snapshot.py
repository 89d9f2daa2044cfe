"""Snapshot documents → what the pipeline serves. Two phases: prepare (load, warm, compile), then commit.

A version that the new snapshot shares with the running one (same folder, digest and settings) is not loaded again; one
that it no longer names is dropped, and freed when the last exchange that points to it is released.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gateway._fast.served import ServedModel, ServedVersion
from gateway._fast.slot_table import SlotTable
from gateway.core.errors import GatewayError
from gateway.serving.loading import VersionEntry, describe, load_version

Document = dict[str, Any]
Loaded = dict[tuple[str, str], ServedVersion | GatewayError]
#: Give a version its handle for the ring's frames; None when nothing is recorded.
RegisterSchema = Callable[[ServedVersion], object]


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


def prepare(document: Document, running: Prepared, *, shadows: bool = False) -> Prepared:
    """Load what ``document`` names and ``running`` has not. A broken version is an answer in the report, not a failure.

    ``shadows``: load the versions that only shadow (a scorer) instead of those that answer (a worker).
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
            loaded[key] = _reuse(key, entries[key], running) or _load(entries[key])
            report[model][version] = describe(loaded[key], (time.monotonic() - started) * 1e3)
    return Prepared(document["number"], document, loaded, entries, report)


def compile_models(
    prepared: Prepared, *, register: RegisterSchema, recording: bool, salt: int = 0
) -> dict[str, ServedModel]:
    """The models that the pipeline adopts: those with at least one loaded version that may answer.

    ``salt`` gives each worker another place to begin dealing requests without a key.
    """
    models: dict[str, ServedModel] = {}
    for name, part in prepared.document["models"].items():
        versions = {
            version: served
            for (model, version), served in prepared.loaded.items()
            if model == name and isinstance(served, ServedVersion)
        }
        if not versions:
            continue
        models[name] = _model(name, part, versions, salt)
        block = part.get("recording", {}) if recording else {"mode": "off"}
        for served in (*versions.values(), models[name].unrouted):
            served.set_recording(block)
            served.schema = register(served) if served.schema is None else served.schema
            counted_as = served.version or models[name].default.version  # a request that no version took
            served.counters = part["versions"][counted_as].get("counters", 0)
    return models


def _model(name: str, part: Document, versions: dict[str, ServedVersion], salt: int) -> ServedModel:
    traffic = part.get("traffic") or {}
    order = [version for version in traffic.get("order", []) if version in versions]
    default = part.get("default_version")
    if default not in versions:
        default = order[0] if order else next(iter(versions))
    slots = None
    if len(order) > 1 and len(order) == len(traffic["order"]):
        table = base64.b64decode(traffic["slots"])
        slots = SlotTable(table, int(traffic.get("salt", "0"), 16), len(order), (salt * 2654435761) % len(table))
    else:
        order = [default]
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


def _wanted(part: Document, version: str, *, shadows: bool) -> bool:
    if shadows:
        return any(shadow["version"] == version for shadow in part.get("shadows", ()))
    return bool(part["versions"][version].get("serving", True))


def _reuse(key: tuple[str, str], entry: VersionEntry, running: Prepared) -> ServedVersion | None:
    old = running.loaded.get(key)
    if not isinstance(old, ServedVersion):
        return None
    known = running.entries[key]
    return old if replace(known, path=entry.path) == entry and known.digest == entry.digest else None


def _load(entry: VersionEntry) -> ServedVersion | GatewayError:
    try:
        return load_version(entry)
    except GatewayError as error:
        return error
