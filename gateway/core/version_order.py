"""Which of two versions is the higher one."""

from __future__ import annotations


def version_key(version: str) -> tuple[int, int, str]:
    """Sort key: numbers by value and above all names, names alphabetically; ``10`` is above ``9`` is above ``beta``."""
    if version.isascii() and version.isdigit():
        return (1, int(version), version)
    return (0, 0, version)
