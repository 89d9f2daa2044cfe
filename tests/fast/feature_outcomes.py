"""Small plans, and what becomes of single values in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gateway._fast.feature_plan import FeaturePlan
from gateway._fast.feature_program import Failure
from gateway.config.features import parse_features
from gateway.core.errors import ConfigurationError
from gateway.features.compiler import compile_plan

#: The missing integer and instant.
MISSING = -(2**63)


def plan_of(kind, *steps, dtype="float64", folder=Path(), **column):
    """Of one column ``c`` and one output."""
    page = {
        "columns": {"c": {"type": kind, **column}},
        "outputs": {"x": {"dtype": dtype, "features": [{"column": "c", "steps": list(steps)}]}},
    }
    return compile_plan(parse_features(page), folder)


def plan_across(columns, *steps, dtype="float64"):
    """Of one feature of all ``columns`` (types by name)."""
    return plan_of_features(columns, {"columns": list(columns), "steps": list(steps)}, dtype=dtype)


def plan_of_features(columns, *features, dtype="float64", folder=Path()):
    """Of several features of one output."""
    page = {"columns": columns, "outputs": {"x": {"dtype": dtype, "features": list(features)}}}
    return compile_plan(parse_features(page), folder)


def problem_of(columns, *features, folder=Path()):
    """The one problem of such a plan: path and message."""
    try:
        plan_of_features(columns, *features, folder=folder)
    except ConfigurationError as error:
        (problem,) = error.problems
        return problem.path, problem.message
    raise AssertionError("no problem")


def outcome(plan, *values, dtype=None):
    """Elements of the one output, or the failure, of each value."""
    column = list(values) if isinstance(values[0], str | bytes | list | None) else np.array(values, dtype)
    return outcomes(plan, c=column)


def outcomes(plan: FeaturePlan, **columns):
    """Likewise, of rows of several columns."""
    failures: list = []
    (result,) = plan.transform(columns, failures)
    rows = [row[0] if len(row) == 1 else row for row in result.tolist()]
    for row, _, kind, _ in failures:
        rows[row] = Failure(kind).name
    return rows


def same(got, want):
    """Equal, where NaN equals NaN."""
    return len(got) == len(want) and all(g == w or (g != g and w != w) for g, w in zip(got, want, strict=True))
