"""The list of datatypes at C level is the one that Python has."""

from gateway._fast import dtypes
from gateway.core.tensors import DataType


def test_numbers_names_and_sizes_are_those_of_core_tensors():
    assert dtypes.table() == {member.name: (member.value, member.itemsize) for member in DataType}
