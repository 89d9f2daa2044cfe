"""Arguments of the steps that make lists of texts and take them apart."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.feature_steps.categories import Known
from gateway.config.feature_steps.values import Strict

# A step's docstring and fields are its entry in docs/features.md, beside what the catalogue says.


class Split(Strict):
    """The list of a text's pieces between separators; empty ones do not count."""

    step: Literal["split"] = "split"
    separator: Annotated[str, Field(min_length=1, max_length=64)]
    """The text between two pieces."""


class MultiHot(Known):
    """One element per category, 1 at each of those in the list."""

    step: Literal["multi_hot"] = "multi_hot"
    unknown: Literal["error", "ignore"] = "error"
    """For a text that is none of the known: the row fails, or the text does not count."""
    missing: Literal["error", "ignore"] = "ignore"
    """For a list without texts: the row fails, or zeros."""
