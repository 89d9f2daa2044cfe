"""pyproject.toml says what is needed, constraints.txt which version of it was tested."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source_tree import ROOT


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {
        canonicalize_name(name): version
        for name, separator, version in (line.partition("==") for line in lines if not line.startswith("#"))
        if separator
    }


def requirements() -> list[str]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = document["project"]["optional-dependencies"].values()
    return sorted({*document["project"]["dependencies"], *(requirement for extra in extras for requirement in extra)})


@pytest.mark.parametrize("requirement", requirements())
def test_every_requirement_is_pinned_to_a_version_that_it_allows(requirement: str) -> None:
    parsed = Requirement(requirement)
    pin = pins().get(canonicalize_name(parsed.name))
    assert pin is not None, f"{parsed.name} has no line in constraints.txt"
    assert parsed.specifier.contains(pin, prereleases=True)


def test_set_up_asks_for_the_packages_that_the_readers_are_told() -> None:
    """The design's list stands in one place; a new one needs a probe, or the script says so."""
    script = (ROOT / "scripts" / "setup").read_text(encoding="utf-8")
    named = re.search(r"^PACKAGES=\((.*)\)$", script, re.MULTILINE)
    assert named is not None
    for package in named[1].split():
        assert re.search(rf"^        (.*\| )?{re.escape(package)}( \|.*)?\)", script, re.MULTILINE), package
