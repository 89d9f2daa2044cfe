"""The steps of ``features.yaml`` and their arguments: one class a step, by what the step works on.

What each step means, and what becomes of odd values, stands in :mod:`gateway.features.steps`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import BaseModel, BeforeValidator, Field

from gateway.config.feature_steps.categories import (
    FrequencyEncode,
    Hash,
    IsIn,
    OneHot,
    Ordinal,
    TargetEncode,
    VocabularyId,
)
from gateway.config.feature_steps.combinations import Normalize, Polynomial, Select
from gateway.config.feature_steps.curves import PowerTransform, QuantileTransform, Spline
from gateway.config.feature_steps.lists import MultiHot, Split
from gateway.config.feature_steps.numbers import (
    Abs,
    Binarize,
    Bucketize,
    Clip,
    Cyclic,
    Exp,
    Impute,
    KBins,
    Log,
    Log1p,
    MaxAbsScale,
    MinMaxScale,
    MissingIndicator,
    Multiply,
    Passthrough,
    RobustScale,
    Sqrt,
    StandardScale,
)
from gateway.config.feature_steps.operators import Coalesce, Compare, Difference, Product, Ratio, Sum
from gateway.config.feature_steps.places import Geohash, Haversine
from gateway.config.feature_steps.texts import (
    CountVectorize,
    HashingVectorize,
    Lower,
    RegexExtract,
    Replace,
    Strip,
    TextLength,
    TfidfVectorize,
    Upper,
)
from gateway.config.feature_steps.times import ElapsedSince, Holiday, TimestampPartStep
from gateway.config.feature_steps.values import shown

StepSpec = (
    # Numbers, each for itself.
    Passthrough
    | Impute
    | MissingIndicator
    | StandardScale
    | MinMaxScale
    | MaxAbsScale
    | RobustScale
    | Multiply
    | Clip
    | Log1p
    | Log
    | Exp
    | Sqrt
    | Abs
    | Binarize
    | Bucketize
    | KBins
    | Cyclic
    # Curves.
    | PowerTransform
    | QuantileTransform
    | Spline
    # Categories.
    | OneHot
    | Ordinal
    | TargetEncode
    | FrequencyEncode
    | VocabularyId
    | Hash
    | IsIn
    # Lists of texts.
    | Split
    | MultiHot
    # Instants.
    | TimestampPartStep
    | ElapsedSince
    | Holiday
    # Texts.
    | Lower
    | Upper
    | Strip
    | Replace
    | RegexExtract
    | TextLength
    | CountVectorize
    | TfidfVectorize
    | HashingVectorize
    # Several values at once.
    | Select
    | Normalize
    | Polynomial
    | Ratio
    | Difference
    | Product
    | Sum
    | Compare
    | Coalesce
    | Haversine
    | Geohash
)
STEPS: dict[str, type[BaseModel]] = {member.model_fields["step"].default: member for member in get_args(StepSpec)}


def _step_from_page(value: object) -> object:
    """``log1p`` and ``clip: {min: 0}`` are short for ``step: log1p`` and ``step: clip, min: 0``."""
    if isinstance(value, Mapping) and "step" in value:
        return _known_step(value["step"], value)
    if isinstance(value, str):
        return _known_step(value, {"step": value})
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, arguments),) = value.items()
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, Mapping):
            raise ValueError(f"the arguments of step {name!r} must be a mapping, not {shown(arguments)}")
        return _known_step(name, {**arguments, "step": name})
    if isinstance(value, BaseModel):
        return value
    raise ValueError(f"a step is expected, such as `log1p` or `clip: {{min: 0}}`, not {shown(value)}")


def _known_step(name: object, value: object) -> object:
    if name in STEPS:
        return value
    close = difflib.get_close_matches(str(name), STEPS, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(STEPS)}"
    raise ValueError(f"no step is called {shown(name)}; {hint}")


Step = Annotated[StepSpec, Field(discriminator="step"), BeforeValidator(_step_from_page)]
