"""Open Inference Protocol data types and tensor specifications."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import prod

#: Most dimensions a tensor may have; deeper ones are refused with a message.
MAX_RANK = 8


class DataType(IntEnum):
    """OIP data types; the numbers are those of Triton's ``model_config.proto`` ``DataType``."""

    BOOL = 1
    UINT8 = 2
    UINT16 = 3
    UINT32 = 4
    UINT64 = 5
    INT8 = 6
    INT16 = 7
    INT32 = 8
    INT64 = 9
    FP16 = 10
    FP32 = 11
    FP64 = 12
    BYTES = 13
    BF16 = 14

    @property
    def itemsize(self) -> int:
        """Bytes of one element; 0 for BYTES, whose elements carry a 4-byte length each."""
        return _ITEMSIZE[self]

    @property
    def numpy(self) -> str:
        """numpy dtype string, little-endian; BF16 travels as uint16, BYTES as object."""
        return _NUMPY[self]


_ITEMSIZE = {
    DataType.BOOL: 1, DataType.UINT8: 1, DataType.UINT16: 2, DataType.UINT32: 4, DataType.UINT64: 8,
    DataType.INT8: 1, DataType.INT16: 2, DataType.INT32: 4, DataType.INT64: 8,
    DataType.FP16: 2, DataType.FP32: 4, DataType.FP64: 8, DataType.BYTES: 0, DataType.BF16: 2,
}  # fmt: skip
_NUMPY = {
    DataType.BOOL: "?", DataType.UINT8: "u1", DataType.UINT16: "<u2", DataType.UINT32: "<u4", DataType.UINT64: "<u8",
    DataType.INT8: "i1", DataType.INT16: "<i2", DataType.INT32: "<i4", DataType.INT64: "<i8",
    DataType.FP16: "<f2", DataType.FP32: "<f4", DataType.FP64: "<f8", DataType.BYTES: "O", DataType.BF16: "<u2",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A named tensor of a model: ``-1`` in the shape is a dynamic dimension."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    optional: bool = False

    def row_elements(self) -> int:
        """Elements of one row, i.e. of everything past the first dimension; -1 if that is dynamic."""
        tail = self.shape[1:]
        return -1 if any(dim < 0 for dim in tail) else prod(tail)

    def __str__(self) -> str:
        return f"{self.name} {self.datatype.name}{list(self.shape)}"
