"""The vocabulary of feature programs: what :mod:`gateway.features` hands to a FeaturePlan."""
from libc.stdint cimport INT64_MIN

from collections import namedtuple

InstructionCode = namedtuple(
    "InstructionCode",
    "operation column to of by output offset length a b i j constants slots text vocabulary tool",
    defaults=(0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0, 0, (), (), None, None, None),
)
ColumnCode = namedtuple("ColumnCode", "spec type missing_fails infinite_fails unit expectations")
OutputCode = namedtuple("OutputCode", "spec width")

ERROR_CODE = CODE_ERROR
ZEROS_CODE = CODE_ZEROS
MICROSECONDS = DTYPE_MICROSECONDS
MISSING_INTEGER = INT64_MIN
LONGEST_LIST = LIST_TEXTS_MAX
