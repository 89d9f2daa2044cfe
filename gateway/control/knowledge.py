"""What control has seen of the world, as against what it wants: the folders, and how versions loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.control.compatibility import differences
from gateway.control.desired_state import DesiredState
from gateway.control.publisher import WORKER, Answer
from gateway.control.repository.catalog import Catalog, OfferedModel
from gateway.core.quarantine import quarantine_reason

Key = tuple[str, str]  # model, version
Report = Mapping[str, Any]


@dataclass(slots=True)
class Knowledge:
    """Changed by the controller only; views read it."""

    catalog: Catalog = field(default_factory=lambda: Catalog({}))
    #: Why a version on offer does not load.
    failures: dict[Key, str] = field(default_factory=dict)
    #: What a process last said of a version that it tried.
    reports: dict[Key, Report] = field(default_factory=dict)
    #: What could not be had as desired, by model.
    notes: dict[str, list[str]] = field(default_factory=dict)
    #: Since when a version is held back for crashing its processes.
    quarantined: dict[Key, str] = field(default_factory=dict)

    def copy(self) -> Knowledge:
        """A checkpoint to return to when a change is refused."""
        return Knowledge(
            self.catalog, dict(self.failures), dict(self.reports), dict(self.notes), dict(self.quarantined)
        )

    def learn(self, answers: Iterable[Answer]) -> None:
        """Take in what processes said of a candidate."""
        for answer in answers:
            for model, reports in answer.reports.items():
                self.learn_reports(model, reports)

    def learn_reports(self, model: str, reports: Mapping[str, Report]) -> None:
        """Take in what one process said of a model's versions."""
        for version, report in reports.items():
            self.reports[model, version] = report
            if not report.get("ok"):
                self.failures[model, version] = self._reason(model, version, report)

    def learn_from_joiner(self, answer: Answer) -> None:
        """A process that joined said how the running snapshot loads in it.

        A worker in which a version does not load that loads in the others is a machine's trouble, or its files are
        gone: the snapshot stays, and the trouble is told.
        """
        for model, reports in answer.reports.items():
            for version, report in reports.items():
                if report.get("ok") or answer.role != WORKER:
                    self.reports[model, version] = report
                else:
                    note = f"{answer.name} runs without version {version}: {self._reason(model, version, report)}"
                    self.notes[model] = [*(told for told in self.notes.get(model, ()) if told != note), note]

    def forget_failures(self, model: str, versions: Iterable[str]) -> None:
        """These versions are tried again."""
        for version in versions:
            self.failures.pop((model, version), None)

    def replace_model(self, offered: OfferedModel) -> None:
        """A model's folder as it is now."""
        self.catalog = self.catalog.replacing(offered)

    def unavailable(self, desired: DesiredState) -> dict[Key, str]:
        """Every version that cannot serve at present, with the reason."""
        held_back = {
            (model, version): quarantine_reason(since)
            for (model, version), since in self.quarantined.items()
            if desired.model(model).released.get(version) != since
        }
        return self.failures | held_back

    def quarantine_of(self, model: str) -> dict[str, str]:
        """Version → since when, of one model."""
        return {version: since for (name, version), since in self.quarantined.items() if name == model}

    def _reason(self, model: str, version: str, report: Report) -> str:
        """Why a version did not load; its files are named without their folder, since callers are told, too."""
        reason = str(report.get("reason") or "no reason given")
        offered = self.catalog.models.get(model)
        return reason.replace(f"{offered.path / version}/", "") if offered else reason

    def inputs(self, model: str, version: str) -> list[Mapping[str, Any]]:
        """The inputs that a version takes, as it reported them; empty while nobody has loaded it."""
        return list(self.reports.get((model, version), {}).get("inputs", ()))

    def differences(self, model: str, versions: Iterable[str]) -> list[str]:
        """Why these versions cannot share traffic; those that nobody has loaded yet are left out."""
        inputs = {version: specs for version in versions if (specs := self.inputs(model, version))}
        if not inputs:
            return []
        (first, of_first), *others = inputs.items()
        return [line for other, specs in others for line in differences(first, of_first, other, specs)]
