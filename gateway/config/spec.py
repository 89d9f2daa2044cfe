"""What all specs share: frozen, unknown keys refused, numbers never guessed from text."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_SIZE = re.compile(r"(\d+) ?(B|KiB|MiB|GiB|kB|KB|MB|GB)?")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9}

#: Names of models, versions and labels: they become folders, partitions and metric labels.
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.\-]*"
#: A header's name, lower case: gRPC metadata knows no other, HTTP does not care.
HEADER_NAME = r"[a-z0-9!#$%&'*+.^_`|~\-]+"


class Spec(BaseModel):
    """Base of every spec. Each field's docstring becomes its entry in ``docs/settings.md``."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, regex_engine="python-re")


def parse_size(value: object) -> object:
    """Bytes of ``64KiB``, ``16 MiB``, ``1GB``; numbers pass. ValueError for any other text."""
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"a size is expected, e.g. 65536 or 64KiB, not {value!r}")
    return int(found[1]) * _UNITS[found[2] or "B"]


def parse_version(value: object) -> object:
    """YAML reads ``1`` as a number; versions are names."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        raise ValueError(f"the version {value} was read as a decimal number: write it in quotes")
    return value


HeaderName = Annotated[str, Field(pattern=f"^{HEADER_NAME}$", max_length=128)]
Size = Annotated[int, BeforeValidator(parse_size), Field(strict=True, ge=0)]
Version = Annotated[str, BeforeValidator(parse_version), Field(pattern=f"^{NAME}$", max_length=64)]
Label = Version
Count = Annotated[int, Field(strict=True, ge=1)]
Weight = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Percent = Annotated[float, Field(strict=True, gt=0, le=100, allow_inf_nan=False)]
