# Named columns as sent, any data type at any alignment, into registers of their type.
from libc.math cimport NAN, floor, isinf, isnan
from libc.stddef cimport size_t
from libc.stdint cimport (
    INT64_MAX, INT64_MIN, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.string cimport memcpy, memset

from gateway._fast.dtypes cimport (
    DT_BF16, DT_BOOL, DT_BYTES, DT_FP16, DT_FP32, DT_FP64, DT_INT8, DT_INT16, DT_INT32, DT_INT64, DT_NONE, DT_UINT8,
    DT_UINT16, DT_UINT32, DT_UINT64, DTYPE_COUNT, dtype_itemsize,
)
from gateway._fast.exchange cimport Span
from gateway._fast.feature_program cimport (
    COLUMN_BOOL, COLUMN_FLOAT, COLUMN_INT, COLUMN_STRING, COLUMN_STRINGS, COLUMN_TIMESTAMP, DTYPE_MICROSECONDS,
    FAILURE_ABSENT, FAILURE_DTYPE, FAILURE_INFINITE, FAILURE_LONG_LIST, FAILURE_MISSING, FAILURE_NOT_BOOL, FAILURE_NOT_INTEGER,
    FAILURE_TIMESTAMP, LIST_TEXTS_MAX, Block, fail, integers_at, numbers_at, texts_at,
)
from gateway._fast.instants cimport MICROS, float_timestamp, integer_timestamp, parse_timestamp

cdef struct Column:                    # one named column over the rows of a batch
    int32_t dtype                      # dtypes.DType as sent: any numeric type, BOOL or BYTES
    const uint8_t* values              # borrowed: packed rows of a numeric type, any alignment; NULL = absent, or BYTES
    const Span* strings                # borrowed: for BYTES one span per row, a text or a list of texts; else NULL

cdef struct PlanColumn:
    int32_t index                      # in the plan, for errors
    int32_t type                       # ColumnType
    bint optional
    bint missing_fails
    bint infinite_fails
    int64_t unit                       # timestamps sent as integers: units per second (1 to 10**9)

ctypedef fused narrow_integer:
    int8_t
    int16_t
    int32_t
    uint8_t
    uint16_t
    uint32_t

ctypedef fused number:
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    float

# Every value is fetched by memcpy: a column may begin at any byte of a request.


cdef inline void widen(number value, const uint8_t* values, int rows, double* out) noexcept nogil:
    # `value` is there for its type.
    cdef int row
    for row in range(rows):
        memcpy(&value, values + row * sizeof(number), sizeof(number))
        out[row] = <double>value


cdef inline void widen_integers(narrow_integer value, const uint8_t* values, int rows, int64_t* out) noexcept nogil:
    cdef int row
    for row in range(rows):
        memcpy(&value, values + row * sizeof(narrow_integer), sizeof(narrow_integer))
        out[row] = <int64_t>value


cdef inline float float_of_bits(uint32_t bits) noexcept nogil:
    cdef float value
    memcpy(&value, &bits, 4)
    return value


cdef inline double half_to_double(uint16_t half) noexcept nogil:
    # IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits.
    cdef uint32_t sign = (<uint32_t>half & 0x8000) << 16
    cdef uint32_t exponent = (half >> 10) & 0x1F
    cdef uint32_t fraction = half & 0x3FF
    cdef double magnitude
    if exponent == 0:
        magnitude = <double>fraction * 5.9604644775390625e-08          # 2**-24: subnormal or zero
        return -magnitude if sign else magnitude
    if exponent == 31:
        return float_of_bits(sign | 0x7F800000 | (fraction << 13))
    return float_of_bits(sign | ((exponent + 112) << 23) | (fraction << 13))


cdef inline void widen_halves(const uint8_t* values, int rows, double* out) noexcept nogil:
    cdef uint16_t half
    cdef int row
    for row in range(rows):
        memcpy(&half, values + row * 2, 2)
        out[row] = half_to_double(half)


cdef inline void widen_bfloats(const uint8_t* values, int rows, double* out) noexcept nogil:
    cdef uint16_t bits
    cdef int row
    for row in range(rows):
        memcpy(&bits, values + row * 2, 2)
        out[row] = float_of_bits(<uint32_t>bits << 16)


cdef inline void widen_bools(const uint8_t* values, int rows, double* out) noexcept nogil:
    cdef int row
    for row in range(rows):
        out[row] = 1.0 if values[row] else 0.0


cdef inline bint load_doubles(int32_t dtype, const uint8_t* values, int rows, double* out) noexcept nogil:
    # Any numeric data type as float64. Integers past 2**53 go to the nearest one.
    if dtype == DT_FP64:
        memcpy(out, values, rows * sizeof(double))
    elif dtype == DT_FP32:
        widen[float](0, values, rows, out)
    elif dtype == DT_INT64:
        widen[int64_t](0, values, rows, out)
    elif dtype == DT_INT32:
        widen[int32_t](0, values, rows, out)
    elif dtype == DT_INT16:
        widen[int16_t](0, values, rows, out)
    elif dtype == DT_INT8:
        widen[int8_t](0, values, rows, out)
    elif dtype == DT_UINT8:
        widen[uint8_t](0, values, rows, out)
    elif dtype == DT_UINT16:
        widen[uint16_t](0, values, rows, out)
    elif dtype == DT_UINT32:
        widen[uint32_t](0, values, rows, out)
    elif dtype == DT_UINT64:
        widen[uint64_t](0, values, rows, out)
    elif dtype == DT_BOOL:
        widen_bools(values, rows, out)
    elif dtype == DT_FP16:
        widen_halves(values, rows, out)
    elif dtype == DT_BF16:
        widen_bfloats(values, rows, out)
    else:
        return False
    return True


cdef inline bint load_wide_integers(int32_t dtype, const uint8_t* values, int rows, int64_t* out) noexcept nogil:
    # The data types of which every value is an int64.
    if dtype == DT_INT64 or dtype == DTYPE_MICROSECONDS:
        memcpy(out, values, rows * sizeof(int64_t))
    elif dtype == DT_INT32:
        widen_integers[int32_t](0, values, rows, out)
    elif dtype == DT_INT16:
        widen_integers[int16_t](0, values, rows, out)
    elif dtype == DT_INT8:
        widen_integers[int8_t](0, values, rows, out)
    elif dtype == DT_UINT8:
        widen_integers[uint8_t](0, values, rows, out)
    elif dtype == DT_UINT16:
        widen_integers[uint16_t](0, values, rows, out)
    elif dtype == DT_UINT32:
        widen_integers[uint32_t](0, values, rows, out)
    else:
        return False
    return True


cdef inline void load_integers(
    Block* block, const PlanColumn* column, int32_t dtype, const uint8_t* values, int64_t* to
) noexcept nogil:
    # `to` takes the values as float64 first where they come as such.
    cdef double* number = <double*>to
    cdef uint64_t unsigned
    cdef double value
    cdef int row
    if load_wide_integers(dtype, values, block.rows, to):
        return
    if dtype == DT_UINT64:
        for row in range(block.rows):
            memcpy(&unsigned, values + row * 8, 8)
            to[row] = <int64_t>(unsigned & <uint64_t>INT64_MAX)
            if unsigned > <uint64_t>INT64_MAX:
                fail(block, row, column.index, FAILURE_NOT_INTEGER)
        return
    load_doubles(dtype, values, block.rows, number)
    for row in range(block.rows):
        value = number[row]
        to[row] = INT64_MIN
        if isnan(value):
            continue
        # -2**63 itself is out: as an int64 it would stand for missing.
        if value == floor(value) and -9223372036854775808.0 < value < 9223372036854775808.0:
            to[row] = <int64_t>value
        else:
            fail(block, row, column.index, FAILURE_NOT_INTEGER)


cdef inline void load_bools(
    Block* block, const PlanColumn* column, int32_t dtype, const uint8_t* values, int64_t* to
) noexcept nogil:
    cdef double* number = <double*>to
    cdef int row
    cdef double value
    if dtype == DT_INT64:
        # As float64, -2**63 would no longer be told from its neighbours.
        memcpy(to, values, block.rows * sizeof(int64_t))
        for row in range(block.rows):
            if not (0 <= to[row] <= 1) and to[row] != INT64_MIN:
                to[row] = INT64_MIN
                fail(block, row, column.index, FAILURE_NOT_BOOL)
        return
    load_doubles(dtype, values, block.rows, number)
    for row in range(block.rows):
        value = number[row]
        if value == 0.0 or value == 1.0:
            to[row] = <int64_t>value
        else:
            to[row] = INT64_MIN
            if not isnan(value):
                fail(block, row, column.index, FAILURE_NOT_BOOL)


cdef inline void load_timestamps(
    Block* block, const PlanColumn* column, int32_t dtype, const uint8_t* values, const Span* strings, int64_t* to
) noexcept nogil:
    # To microseconds since the epoch.
    cdef double* number = <double*>to
    cdef int64_t unit = column.unit
    cdef int row
    if dtype == DT_BYTES:
        for row in range(block.rows):
            if not parse_timestamp(&strings[row], &to[row]):
                to[row] = INT64_MIN
                fail(block, row, column.index, FAILURE_TIMESTAMP)
    elif load_wide_integers(dtype, values, block.rows, to):
        unit = MICROS if dtype == DTYPE_MICROSECONDS else unit
        for row in range(block.rows):
            if not integer_timestamp(to[row], unit, &to[row]):
                to[row] = INT64_MIN
                fail(block, row, column.index, FAILURE_TIMESTAMP)
    else:
        load_doubles(dtype, values, block.rows, number)
        for row in range(block.rows):
            if not float_timestamp(number[row], unit, &to[row]):
                to[row] = INT64_MIN
                fail(block, row, column.index, FAILURE_TIMESTAMP)


cdef inline void fail_all(Block* block, int32_t column, int kind) noexcept nogil:
    cdef int row
    for row in range(block.rows):
        fail(block, row, column, kind)


cdef inline bint is_spans(int32_t type) noexcept nogil:
    # Texts, or lists of them: missing if empty.
    return type == COLUMN_STRING or type == COLUMN_STRINGS


cdef inline void load_missing(Block* block, const PlanColumn* column, int32_t slot) noexcept nogil:
    cdef int row
    if column.type == COLUMN_FLOAT:
        for row in range(block.rows):
            numbers_at(block, slot)[row] = NAN
    elif is_spans(column.type):
        memset(texts_at(block, slot), 0, block.rows * sizeof(Span))
    else:
        for row in range(block.rows):
            integers_at(block, slot)[row] = INT64_MIN


cdef inline void restore_missing(const uint8_t* values, int rows, double* out) noexcept nogil:
    # INT64_MIN is missing in a float column too; as float64 it cannot be told from its neighbours.
    cdef int64_t value
    cdef int row
    for row in range(rows):
        memcpy(&value, values + row * 8, 8)
        if value == INT64_MIN:
            out[row] = NAN


cdef inline void check_missing(Block* block, const PlanColumn* column, int32_t slot) noexcept nogil:
    cdef int row
    cdef bint missing
    for row in range(block.rows):
        if column.type == COLUMN_FLOAT:
            missing = isnan(numbers_at(block, slot)[row])
        elif is_spans(column.type):
            missing = texts_at(block, slot)[row].n == 0
        else:
            missing = integers_at(block, slot)[row] == INT64_MIN
        if missing:
            fail(block, row, column.index, FAILURE_MISSING)


cdef inline void check_lists(Block* block, const PlanColumn* column, Span* lists) noexcept nogil:
    cdef int row
    for row in range(block.rows):
        if lists[row].n > LIST_TEXTS_MAX:
            lists[row].n = 0
            fail(block, row, column.index, FAILURE_LONG_LIST)


cdef inline bint takes(int32_t type, int32_t dtype) noexcept nogil:
    if is_spans(type):
        return dtype == DT_BYTES
    if type == COLUMN_TIMESTAMP:
        return (dtype == DT_BYTES or dtype == DT_FP64 or dtype == DTYPE_MICROSECONDS or dtype == DT_INT8
                or dtype == DT_INT16 or dtype == DT_INT32 or dtype == DT_INT64 or dtype == DT_UINT8
                or dtype == DT_UINT16 or dtype == DT_UINT32)
    return DT_NONE < dtype < DTYPE_COUNT and dtype != DT_BYTES


cdef inline size_t sent_itemsize(int32_t dtype) noexcept nogil:
    return 8 if dtype == DTYPE_MICROSECONDS else dtype_itemsize(dtype)


cdef inline bint load_sent(Block* block, const PlanColumn* column, const Column* sent, int32_t slot) noexcept nogil:
    # False: of a data type that the column does not take.
    cdef const uint8_t* values = NULL
    cdef const Span* strings = NULL
    if not takes(column.type, sent.dtype) or (sent.strings == NULL) == (sent.dtype == DT_BYTES):
        return False
    if sent.dtype == DT_BYTES:
        strings = sent.strings + block.first
    else:
        values = sent.values + block.first * sent_itemsize(sent.dtype)
    if column.type == COLUMN_FLOAT:
        load_doubles(sent.dtype, values, block.rows, numbers_at(block, slot))
        if sent.dtype == DT_INT64:
            restore_missing(values, block.rows, numbers_at(block, slot))
    elif column.type == COLUMN_INT:
        load_integers(block, column, sent.dtype, values, integers_at(block, slot))
    elif column.type == COLUMN_BOOL:
        load_bools(block, column, sent.dtype, values, integers_at(block, slot))
    elif is_spans(column.type):
        memcpy(texts_at(block, slot), strings, block.rows * sizeof(Span))
        if column.type == COLUMN_STRINGS:
            check_lists(block, column, texts_at(block, slot))
    else:
        load_timestamps(block, column, sent.dtype, values, strings, integers_at(block, slot))
    return True


cdef inline void load(Block* block, const PlanColumn* column, const Column* sent, int32_t slot) noexcept nogil:
    # The block's rows of a column into a register of its type; missing where there is nothing to go on with.
    cdef bint absent = sent.values == NULL and sent.strings == NULL
    cdef int row
    if absent:
        load_missing(block, column, slot)
        if not column.optional:
            fail_all(block, column.index, FAILURE_ABSENT)
    elif not load_sent(block, column, sent, slot):
        load_missing(block, column, slot)
        fail_all(block, column.index, FAILURE_DTYPE)
    if column.missing_fails:
        check_missing(block, column, slot)
    if column.infinite_fails:
        for row in range(block.rows):
            if isinf(numbers_at(block, slot)[row]):
                fail(block, row, column.index, FAILURE_INFINITE)
