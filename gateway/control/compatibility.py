"""Whether versions may share traffic: each must accept every request that the other accepts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

InputSpec = Mapping[str, Any]


def differences(
    one: str, inputs_of_one: Sequence[InputSpec], other: str, inputs_of_other: Sequence[InputSpec]
) -> list[str]:
    """Why requests for version ``one`` do not fit version ``other``, or the other way round; empty if they do.

    Names, data types, shapes and what may be left out must be equal: a server refuses unknown inputs as well as
    missing ones. The order does not matter.
    """
    ours = {spec["name"]: spec for spec in inputs_of_one}
    theirs = {spec["name"]: spec for spec in inputs_of_other}
    found = [f"version {one} takes input {name}, version {other} does not" for name in ours if name not in theirs]
    found += [f"version {other} takes input {name}, version {one} does not" for name in theirs if name not in ours]
    for name in ours.keys() & theirs.keys():
        left, right = _described(ours[name]), _described(theirs[name])
        if left != right:
            found.append(f"input {name} is {left} in version {one} and {right} in version {other}")
    return sorted(found)


def _described(spec: InputSpec) -> str:
    text = f"{spec['datatype']}{list(spec['shape'])}"
    return f"optional {text}" if spec.get("optional") else text
