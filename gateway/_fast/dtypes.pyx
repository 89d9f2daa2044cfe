"""OIP data types ↔ sizes and names, without Python objects."""
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.string cimport strlen

cdef enum:
    LONGEST_NAME = 6                     # UINT16; its word has room for the length beside it


# A name and its length in one word.
cdef inline uint64_t name_word(const uint8_t* name, size_t n) noexcept nogil:
    cdef uint64_t word = n
    cdef size_t i
    for i in range(n):
        word = word << 8 | name[i]
    return word


cdef const char* NAMES[DTYPE_COUNT]
NAMES[:] = [
    "", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES", "BF16",
]
cdef size_t SIZES[DTYPE_COUNT]
SIZES[:] = [0, 1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 0, 2]
cdef uint64_t WORDS[DTYPE_COUNT]         # the names again, as words: one compare each


cdef void fill_words() noexcept:
    cdef int i
    for i in range(DTYPE_COUNT):
        WORDS[i] = name_word(<const uint8_t*>NAMES[i], strlen(NAMES[i]))


fill_words()


cdef size_t dtype_itemsize(int32_t dtype) noexcept nogil:
    return SIZES[dtype] if 0 <= dtype < DTYPE_COUNT else 0


cdef const char* dtype_name(int32_t dtype) noexcept nogil:
    return NAMES[dtype] if 0 <= dtype < DTYPE_COUNT else NAMES[0]


cdef int32_t dtype_parse(const uint8_t* name, size_t n) noexcept nogil:
    cdef uint64_t word
    cdef int32_t i
    if n > LONGEST_NAME:
        return DT_NONE
    word = name_word(name, n)
    for i in range(1, DTYPE_COUNT):
        if WORDS[i] == word:
            return i
    return DT_NONE


def table():
    """``{name: (number, itemsize)}`` as compiled, for the test that compares it with core.tensors."""
    return {NAMES[i].decode(): (i, SIZES[i]) for i in range(1, DTYPE_COUNT)}
