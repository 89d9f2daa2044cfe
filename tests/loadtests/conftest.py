"""The load generators are compiled on first use; everything else here is pure."""

import pytest

from loadtests.drivers.build import build_drivers


@pytest.fixture(scope="session")
def drivers():
    """The generators' extensions, up to date."""
    build_drivers()
