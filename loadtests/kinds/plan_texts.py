"""TF-IDF of short texts over many terms: a plan beside the TfidfVectorizer that it was made from.

scikit-learn gives a sparse matrix of float64; a graph takes a dense tensor of float32; a plan gives either. Both forms
are measured of both: scikit-learn's is dense by `toarray()`, not even cast. Of many texts a dense answer is mostly the
writing of zeros (200 KB a text), which nobody does twenty times as fast.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from loadtests.findings import Bench, Findings
from loadtests.rounds import Figure
from loadtests.scenario import Scenario
from loadtests.turns import Call, microseconds_in_turns

TERMS = 50_000
WORDS = 20
MANY_TEXTS = 32


def run(scenario: Scenario, bench: Bench) -> Findings:
    """Time plan and vectorizer, one text and many, dense and sparse."""
    findings = Findings()
    try:
        contest = _Contest()
    except ImportError as error:
        return Findings(skipped=f"{error.name} is not installed")
    findings.void += contest.differences()
    taken = microseconds_in_turns(contest.calls(), scenario.rounds, bench.say)
    findings.figures = {f"{name}_us": Figure.of(values, "µs") for name, values in taken.items()}
    for rows in ("one", "many"):
        for form in ("dense", "sparse"):
            ratio = Figure.ratios(taken[f"sklearn_{rows}_{form}"], taken[f"plan_{rows}_{form}"])
            findings.figures[f"{rows}_{form}"] = ratio
        findings.figures[f"{rows}_dense_to_sparse"] = Figure.ratios(
            taken[f"sklearn_{rows}_sparse"], taken[f"plan_{rows}_dense"]
        )
    return findings


class _Contest:
    """Texts of made words, each of the terms in one of them at least."""

    def __init__(self) -> None:
        # The demo's packages, which only this kind needs.
        from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415

        from gateway.features import Plan  # noqa: PLC0415

        random = np.random.default_rng(1)
        terms = sorted({"".join(letters) for letters in random.choice([*"abcdefghijklmnopqrstuvwxyz"], (TERMS * 2, 8))})
        terms = [str(term) for term in random.permutation(terms)[:TERMS]]
        fitted_on = [" ".join(terms[i : i + WORDS]) for i in range(0, TERMS, WORDS)]
        self.texts = [" ".join(random.choice(terms, WORDS)) for _ in range(MANY_TEXTS)]
        self.vectorizer: Any = TfidfVectorizer().fit([*fitted_on, *self.texts])
        self.plan = Plan.from_sklearn(self.vectorizer)
        self.sparse_plan = copy(self.plan).set_output(transform="sparse")
        (self.column,) = self.plan.column_names()

    def calls(self) -> dict[str, Call]:
        """By name: whose, how many texts, in which form."""
        calls: dict[str, Call] = {}
        for count, name in ((1, "one"), (MANY_TEXTS, "many")):
            texts = self.texts[:count]
            columns = {self.column: texts}
            calls |= {
                f"plan_{name}_dense": lambda columns=columns: self.plan.transform(columns),
                f"plan_{name}_sparse": lambda columns=columns: self.sparse_plan.transform(columns),
                f"sklearn_{name}_dense": lambda texts=texts: self.vectorizer.transform(texts).toarray(),
                f"sklearn_{name}_sparse": lambda texts=texts: self.vectorizer.transform(texts),
            }
        return calls

    def differences(self) -> list[str]:
        """What is not what scikit-learn gives."""
        theirs = self.vectorizer.transform(self.texts).astype(np.float32)
        columns = {self.column: self.texts}
        found = []
        if not np.allclose(self.plan.transform(columns), theirs.toarray(), rtol=2e-7, atol=0):
            found.append("the plan gives other features than scikit-learn")
        if abs(self.sparse_plan.transform(columns) - theirs).max() > 1e-7:
            found.append("the plan's sparse matrix is not scikit-learn's")
        return found
