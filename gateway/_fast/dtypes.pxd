# OIP data types at C level. gateway/core/tensors.py holds the same list for Python; a test compares the two.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t

cdef enum DType:
    DT_NONE = 0
    DT_BOOL = 1
    DT_UINT8 = 2
    DT_UINT16 = 3
    DT_UINT32 = 4
    DT_UINT64 = 5
    DT_INT8 = 6
    DT_INT16 = 7
    DT_INT32 = 8
    DT_INT64 = 9
    DT_FP16 = 10
    DT_FP32 = 11
    DT_FP64 = 12
    DT_BYTES = 13
    DT_BF16 = 14

cdef enum:
    DTYPE_COUNT = 15

# Bytes of one element; 0 for BYTES (each element is a 4-byte length and its bytes) and DT_NONE.
cdef size_t dtype_itemsize(int32_t dtype) noexcept nogil

# The OIP name ("FP32"); "" for an unknown number. Static storage.
cdef const char* dtype_name(int32_t dtype) noexcept nogil

# The data type of an OIP name; DT_NONE if there is no such name.
cdef int32_t dtype_parse(const uint8_t* name, size_t n) noexcept nogil
