"""The kinds of scenario; each has ``run(scenario, bench) -> Findings``."""

from __future__ import annotations

from collections.abc import Callable

from loadtests.findings import Bench, Findings
from loadtests.kinds import (
    balance,
    bulk,
    compare,
    features,
    footprint,
    forms,
    isolation,
    many_models,
    open_loop,
    plan,
    plan_rows,
    plan_texts,
    recording,
    second_opinion,
    sustained,
    vocabulary,
)
from loadtests.scenario import Scenario

KINDS: dict[str, Callable[[Scenario, Bench], Findings]] = {
    "balance": balance.run,
    "bulk": bulk.run,
    "compare": compare.run,
    "features": features.run,
    "footprint": footprint.run,
    "forms": forms.run,
    "isolation": isolation.run,
    "many_models": many_models.run,
    "open_loop": open_loop.run,
    "plan": plan.run,
    "plan_rows": plan_rows.run,
    "plan_texts": plan_texts.run,
    "recording": recording.run,
    "second_opinion": second_opinion.run,
    "sustained": sustained.run,
    "vocabulary": vocabulary.run,
}
