"""Desired state + what loads → the snapshot that workers compile. Pure. Its form stands in ``docs/architecture.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config.model import RecordingSpec
from gateway.control.desired_state import DesiredState, ModelState, Split, salt_of
from gateway.control.repository.catalog import Catalog, OfferedModel
from gateway.control.traffic.slots import SlotPlan, first_plan, without
from gateway.core.quarantine import Quarantines, quarantines_json
from gateway.core.version_order import version_key

Document = dict[str, Any]
#: (model, version) → why it cannot serve at present.
Unavailable = Mapping[tuple[str, str], str]


class CounterSlots:
    """Which slot of the counter pages belongs to which version. A slot is never given to another one."""

    def __init__(self, taken: Mapping[tuple[str, str], int] | None = None) -> None:
        self._slots = dict(taken or {})

    def of(self, model: str, version: str) -> int:
        """The version's slot; the next free one if it has none yet."""
        return self._slots.setdefault((model, version), max(self._slots.values(), default=-1) + 1)

    def all(self) -> dict[tuple[str, str], int]:
        """Every slot given so far."""
        return dict(self._slots)


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """How a model can be served right now, as near to its desired state as what is available allows."""

    #: Versions that workers load, lowest first.
    serving: tuple[str, ...]
    #: Versions that only scorers load.
    shadowing: tuple[str, ...]
    split: Split
    #: What differs from the desired state, in words.
    notes: tuple[str, ...]

    @property
    def default_version(self) -> str:
        """The version that metadata without a version describes: the largest share, then the highest."""
        return max(self.split.shares, key=lambda version: (self.split.shares[version], version_key(version)))


def plan_model(state: ModelState, offered: OfferedModel, unavailable: Mapping[str, str]) -> ModelPlan | None:
    """The nearest plan; None if no version can serve. ``unavailable``: version → reason."""
    if offered.problems:
        return None
    wanted = [version for version in sorted(offered.versions, key=version_key) if version not in state.unloaded]
    there = [version for version in wanted if version not in unavailable]
    named = set(state.labels.values()) | set(state.split.shares if state.split else ())
    shadowing = tuple(version for version in there if version in state.shadows and version not in named)
    serving = tuple(version for version in there if version not in shadowing)
    if not serving:
        return None
    split, notes = _split_among(state, serving)
    return ModelPlan(serving, shadowing, split, tuple(notes))


def _split_among(state: ModelState, serving: tuple[str, ...]) -> tuple[Split, list[str]]:
    """The desired split without the versions that cannot serve; the highest version where there is nothing to keep."""
    if state.split is None:
        return everything_to(serving[-1]), []
    missing = frozenset(state.split.shares) - frozenset(serving)
    if not missing:
        return state.split, []
    gone = ", ".join(sorted(missing, key=version_key))
    if missing == frozenset(state.split.shares):
        return everything_to(serving[-1]), [f"version {gone} cannot serve: all traffic goes to {serving[-1]}"]
    plan, shares = without(state.split.plan, state.split.shares, missing)
    return Split(shares, plan), [f"version {gone} cannot serve: its traffic goes to the others"]


def everything_to(version: str) -> Split:
    """The split of a model that one version answers alone."""
    return Split({version: 1.0}, first_plan({version: 1.0}))


def build_snapshot(
    number: int,
    desired: DesiredState,
    catalog: Catalog,
    unavailable: Unavailable,
    counters: CounterSlots,
    *,
    quarantined: Quarantines,
) -> Document:
    """The snapshot with every model that can be served. The same arguments give the same document.

    ``quarantined``: what control has heard of, so that processes know which quarantines it has weighed.
    """
    models = {}
    absent = {}
    for name, offered in catalog.models.items():
        state = desired.model(name)
        reasons = {version: reason for (model, version), reason in unavailable.items() if model == name}
        plan = plan_model(state, offered, reasons)
        if plan is not None:
            models[name] = _model_document(offered, state, plan, counters)
        absent[name] = _why_absent(offered, state, plan, reasons)
    return {
        "number": number,
        "models": models,
        "unavailable": {name: why for name, why in absent.items() if why},
        "quarantined": quarantines_json(quarantined),
    }


def _why_absent(
    offered: OfferedModel, state: ModelState, plan: ModelPlan | None, reasons: Mapping[str, str]
) -> dict[str, str]:
    """Version → why it answers no requests; callers who ask for it are told."""
    if offered.problems:
        return {"any": "; ".join(map(str, offered.problems))}
    why = {version: "it is not loaded" for version in offered.versions if version in state.unloaded}
    why |= dict.fromkeys(plan.shadowing if plan else (), "it only shadows")
    why |= {version: reason for version, reason in reasons.items() if version in offered.versions}
    return dict(sorted((dict(offered.broken) | why).items(), key=lambda item: version_key(item[0])))


def _model_document(offered: OfferedModel, state: ModelState, plan: ModelPlan, counters: CounterSlots) -> Document:
    loaded = {*plan.serving, *plan.shadowing}
    return {
        "default_version": plan.default_version,
        "traffic": {
            "weights": dict(plan.split.shares),
            "slots": plan.split.plan.to_base64(),
            "order": list(plan.split.plan.order),
            "sticky": state.sticky and state.sticky.model_dump(),
            "salt": salt_of(offered.name),
            "override_header": state.override_header,
        },
        "labels": {label: version for label, version in state.labels.items() if version in plan.serving},
        "shadows": [
            {"version": version, "percent": percent} for version, percent in state.shadows.items() if version in loaded
        ],
        "recording": recording_document(offered.spec.recording),
        "batching": {"max_rows": _max_rows(offered)},
        "versions": {
            version: {
                "path": str(offered.versions[version].path),
                "file": offered.versions[version].model_file,
                "digest": offered.versions[version].digest,
                "serving": version in plan.serving,
                "counters": counters.of(offered.name, version),
                "lane": offered.spec.lane,
                "features": offered.versions[version].features,
            }
            for version in sorted(loaded, key=version_key)
        },
    }


def recording_document(spec: RecordingSpec) -> Document:
    """The recording block of a snapshot."""
    return spec.model_dump(mode="json")


def _max_rows(offered: OfferedModel) -> int:
    given = "max_rows" in offered.spec.batching.model_fields_set
    return offered.spec.batching.max_rows if given or offered.max_rows is None else offered.max_rows


def running_split(snapshot: Document, model: str) -> Split | None:
    """The split that a snapshot carries for a model."""
    if model not in snapshot["models"]:
        return None
    traffic = snapshot["models"][model]["traffic"]
    return Split(traffic["weights"], SlotPlan.from_base64(tuple(traffic["order"]), traffic["slots"]))
