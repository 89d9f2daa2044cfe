"""Fixtures of the record's tests."""

import pytest

from tests.unit.recording.record_places import RecordPlace


@pytest.fixture
def record(tmp_path):
    """A fresh state directory with one ring, open for writing."""
    return RecordPlace(tmp_path)
