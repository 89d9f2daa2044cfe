"""From the named columns of a batch to the graph's inputs, without a Python object a value."""
cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport NAN, cos, floor, fmod, isinf, isnan, log1p, sin
from libc.stddef cimport size_t
from libc.stdint cimport (
    INT64_MAX, INT64_MIN, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from collections import namedtuple

import numpy

from gateway._fast.dtypes cimport (
    DT_BF16, DT_BOOL, DT_BYTES, DT_FP16, DT_FP32, DT_FP64, DT_INT8, DT_INT16, DT_INT32, DT_INT64, DT_NONE, DT_UINT8,
    DT_UINT16, DT_UINT32, DT_UINT64, DTYPE_COUNT, dtype_itemsize, dtype_name,
)
from gateway.core.errors import FeatureInputInvalid
from gateway.core.tensors import DataType, TensorSpec

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    int PyUnicode_CheckExact(object value) noexcept
    int PyBytes_CheckExact(object value) noexcept

# What the compiler hands to FeaturePlan; documented in feature_plan.pyi.
StepCode = namedtuple("StepCode", "operation a b i j text edges vocabulary", defaults=(0.0, 0.0, 0, 0, None, (), None))
ChainCode = namedtuple("ChainCode", "steps emission output offset period", defaults=(0.0,))
ColumnCode = namedtuple("ColumnCode", "spec type missing_fails infinite_fails unit chains expectations")
OutputCode = namedtuple("OutputCode", "spec width")

ERROR_CODE = CODE_ERROR
MISSING_INTEGER = INT64_MIN

cdef enum:
    BLOCK_TEXT_SHOWN = 64                # bytes of a text that an error message shows

cdef int64_t SECONDS_A_DAY = 86400
cdef int64_t MICROS = 1000000            # a second
cdef int64_t FIRST_SECOND = -62135596800 # 0001-01-01T00:00:00Z
cdef int64_t LAST_SECOND = 253402300799  # 9999-12-31T23:59:59Z
cdef double INT64_BOUND = 9223372036854775808.0
cdef double TWO_PI = 6.283185307179586

cdef struct Registers:
    # The present value of a block of rows; which of the three is live follows from the step table.
    double[BLOCK_ROWS] number
    int64_t[BLOCK_ROWS] integer
    Span[BLOCK_ROWS] text

cdef struct Block:
    int64_t first                        # row of the batch
    int rows
    int column
    RowError* errors                     # of its first row
    int64_t failed                       # rows of the batch so far

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

ctypedef fused element:
    float
    double
    int64_t


cdef inline void fail(Block* block, int row, int kind) noexcept nogil:
    # The first failure of a row is the one told.
    if block.errors[row].kind == FAILURE_NONE:
        block.errors[row].kind = kind
        block.errors[row].column = block.column
        block.failed += 1


# --- columns to registers. Every value is fetched by memcpy: a column may begin at any byte of a request.


cdef inline void widen(number zero, const uint8_t* values, int rows, double* out) noexcept nogil:
    cdef int row
    for row in range(rows):
        memcpy(&zero, values + row * sizeof(number), sizeof(number))
        out[row] = <double>zero


cdef inline void widen_integers(narrow_integer zero, const uint8_t* values, int rows, int64_t* out) noexcept nogil:
    cdef int row
    for row in range(rows):
        memcpy(&zero, values + row * sizeof(narrow_integer), sizeof(narrow_integer))
        out[row] = <int64_t>zero


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


cdef void widen_halves(const uint8_t* values, int rows, double* out) noexcept nogil:
    cdef uint16_t half
    cdef int row
    for row in range(rows):
        memcpy(&half, values + row * 2, 2)
        out[row] = half_to_double(half)


cdef void widen_bfloats(const uint8_t* values, int rows, double* out) noexcept nogil:
    cdef uint16_t bits
    cdef int row
    for row in range(rows):
        memcpy(&bits, values + row * 2, 2)
        out[row] = float_of_bits(<uint32_t>bits << 16)


cdef void widen_bools(const uint8_t* values, int rows, double* out) noexcept nogil:
    cdef int row
    for row in range(rows):
        out[row] = 1.0 if values[row] else 0.0


cdef bint load_doubles(int32_t dtype, const uint8_t* values, int rows, double* out) noexcept nogil:
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


cdef bint load_wide_integers(int32_t dtype, const uint8_t* values, int rows, int64_t* out) noexcept nogil:
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


cdef void load_integers(Block* block, int32_t dtype, const uint8_t* values, Registers* to) noexcept nogil:
    cdef uint64_t unsigned
    cdef double value
    cdef int row
    if load_wide_integers(dtype, values, block.rows, to.integer):
        return
    if dtype == DT_UINT64:
        for row in range(block.rows):
            memcpy(&unsigned, values + row * 8, 8)
            to.integer[row] = <int64_t>(unsigned & <uint64_t>INT64_MAX)
            if unsigned > <uint64_t>INT64_MAX:
                fail(block, row, FAILURE_NOT_INTEGER)
        return
    load_doubles(dtype, values, block.rows, to.number)
    for row in range(block.rows):
        value = to.number[row]
        to.integer[row] = INT64_MIN
        if isnan(value):
            continue
        # -2**63 itself is out: as an int64 it would stand for missing.
        if value == floor(value) and -INT64_BOUND < value < INT64_BOUND:
            to.integer[row] = <int64_t>value
        else:
            fail(block, row, FAILURE_NOT_INTEGER)


cdef void load_bools(Block* block, int32_t dtype, const uint8_t* values, Registers* to) noexcept nogil:
    cdef int row
    cdef double value
    if dtype == DT_INT64:
        # As float64, -2**63 would no longer be told from its neighbours.
        memcpy(to.integer, values, block.rows * sizeof(int64_t))
        for row in range(block.rows):
            if not (0 <= to.integer[row] <= 1) and to.integer[row] != INT64_MIN:
                to.integer[row] = INT64_MIN
                fail(block, row, FAILURE_NOT_BOOL)
        return
    load_doubles(dtype, values, block.rows, to.number)
    for row in range(block.rows):
        value = to.number[row]
        if value == 0.0 or value == 1.0:
            to.integer[row] = <int64_t>value
        else:
            to.integer[row] = INT64_MIN
            if not isnan(value):
                fail(block, row, FAILURE_NOT_BOOL)


cdef void load_timestamps(
    Block* block, int64_t unit, int32_t dtype, const uint8_t* values, const Span* strings, Registers* to
) noexcept nogil:
    # To microseconds since the epoch.
    cdef int row
    if dtype == DT_BYTES:
        for row in range(block.rows):
            if not parse_timestamp(&strings[row], &to.integer[row]):
                to.integer[row] = INT64_MIN
                fail(block, row, FAILURE_TIMESTAMP)
    elif load_wide_integers(dtype, values, block.rows, to.integer):
        unit = MICROS if dtype == DTYPE_MICROSECONDS else unit
        for row in range(block.rows):
            if not integer_timestamp(to.integer[row], unit, &to.integer[row]):
                to.integer[row] = INT64_MIN
                fail(block, row, FAILURE_TIMESTAMP)
    else:
        load_doubles(dtype, values, block.rows, to.number)
        for row in range(block.rows):
            if not float_timestamp(to.number[row], unit, &to.integer[row]):
                to.integer[row] = INT64_MIN
                fail(block, row, FAILURE_TIMESTAMP)


cdef inline bint integer_timestamp(int64_t value, int64_t unit, int64_t* micros) noexcept nogil:
    cdef int64_t seconds, rest
    if value == INT64_MIN:
        micros[0] = INT64_MIN
        return True
    seconds = floor_divide(value, unit)
    if not (FIRST_SECOND <= seconds <= LAST_SECOND):
        return False
    rest = value - seconds * unit
    micros[0] = seconds * MICROS + (rest * (MICROS // unit) if unit <= MICROS else rest // (unit // MICROS))
    return True


cdef inline bint float_timestamp(double value, int64_t unit, int64_t* micros) noexcept nogil:
    cdef double seconds = value / <double>unit
    if isnan(value):
        micros[0] = INT64_MIN
        return True
    if not (<double>FIRST_SECOND <= seconds < <double>LAST_SECOND + 1.0):
        return False
    micros[0] = <int64_t>floor(value / <double>unit * <double>MICROS)
    return True


cdef inline int64_t floor_divide(int64_t value, int64_t by) noexcept nogil:
    # Python's //, for a positive divisor; C's rounds towards zero.
    return value // by - (1 if value % by < 0 else 0)


cdef bint load(
    PlanColumn* column, const Column* sent, Block* block, Registers* to
) noexcept nogil:
    # The block's rows of a column into the register of its type. False: nothing to go on with, every row failed.
    cdef const uint8_t* values = NULL
    cdef const Span* strings = NULL
    cdef bint absent = sent.values == NULL and sent.strings == NULL
    cdef int row
    if absent:
        if not column.optional:
            return fail_all(block, FAILURE_ABSENT)
        load_missing(column, block, to)
    else:
        if not takes(column.type, sent.dtype) or (sent.strings == NULL) == (sent.dtype == DT_BYTES):
            return fail_all(block, FAILURE_DTYPE)
        if sent.dtype == DT_BYTES:
            strings = sent.strings + block.first
        else:
            values = sent.values + block.first * sent_itemsize(sent.dtype)
        if column.type == COLUMN_FLOAT:
            load_doubles(sent.dtype, values, block.rows, to.number)
            if sent.dtype == DT_INT64:
                restore_missing(values, block.rows, to.number)
        elif column.type == COLUMN_INT:
            load_integers(block, sent.dtype, values, to)
        elif column.type == COLUMN_BOOL:
            load_bools(block, sent.dtype, values, to)
        elif column.type == COLUMN_STRING:
            memcpy(to.text, strings, block.rows * sizeof(Span))
        else:
            load_timestamps(block, column.unit, sent.dtype, values, strings, to)
    if column.missing_fails:
        check_missing(column, block, to)
    if column.infinite_fails:
        for row in range(block.rows):
            if isinf(to.number[row]):
                fail(block, row, FAILURE_INFINITE)
    return True


cdef inline void copy_register(int32_t type, int rows, const Registers* source, Registers* to) noexcept nogil:
    if type == COLUMN_FLOAT:
        memcpy(to.number, source.number, rows * sizeof(double))
    elif type == COLUMN_STRING:
        memcpy(to.text, source.text, rows * sizeof(Span))
    else:
        memcpy(to.integer, source.integer, rows * sizeof(int64_t))


cdef bint fail_all(Block* block, int kind) noexcept nogil:
    cdef int row
    for row in range(block.rows):
        fail(block, row, kind)
    return False


cdef void load_missing(PlanColumn* column, Block* block, Registers* to) noexcept nogil:
    cdef int row
    if column.type == COLUMN_FLOAT:
        for row in range(block.rows):
            to.number[row] = NAN
    elif column.type == COLUMN_STRING:
        memset(to.text, 0, block.rows * sizeof(Span))
    else:
        for row in range(block.rows):
            to.integer[row] = INT64_MIN


cdef void restore_missing(const uint8_t* values, int rows, double* out) noexcept nogil:
    # INT64_MIN is missing in a float column too; as float64 it cannot be told from its neighbours.
    cdef int64_t value
    cdef int row
    for row in range(rows):
        memcpy(&value, values + row * 8, 8)
        if value == INT64_MIN:
            out[row] = NAN


cdef void check_missing(PlanColumn* column, Block* block, Registers* to) noexcept nogil:
    cdef int row
    cdef bint missing
    for row in range(block.rows):
        if column.type == COLUMN_FLOAT:
            missing = isnan(to.number[row])
        elif column.type == COLUMN_STRING:
            missing = to.text[row].n == 0
        else:
            missing = to.integer[row] == INT64_MIN
        if missing:
            fail(block, row, FAILURE_MISSING)


cdef inline bint takes(int32_t type, int32_t dtype) noexcept nogil:
    if type == COLUMN_STRING:
        return dtype == DT_BYTES
    if type == COLUMN_TIMESTAMP:
        return (dtype == DT_BYTES or dtype == DT_FP64 or dtype == DTYPE_MICROSECONDS or dtype == DT_INT8
                or dtype == DT_INT16 or dtype == DT_INT32 or dtype == DT_INT64 or dtype == DT_UINT8
                or dtype == DT_UINT16 or dtype == DT_UINT32)
    return DT_NONE < dtype < DTYPE_COUNT and dtype != DT_BYTES


cdef inline size_t sent_itemsize(int32_t dtype) noexcept nogil:
    return 8 if dtype == DTYPE_MICROSECONDS else dtype_itemsize(dtype)


# --- timestamps


cdef inline int digits(const uint8_t* at, int count) noexcept nogil:
    # The number that `count` ASCII digits spell, or -1.
    cdef int value = 0
    cdef int k
    for k in range(count):
        if not (48 <= at[k] <= 57):
            return -1
        value = value * 10 + (at[k] - 48)
    return value


cdef inline int64_t days_of_date(int64_t year, int64_t month, int64_t day) noexcept nogil:
    # Days since 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that the leap day is
    # a year's last; 400 years have 146,097 days, and 719,468 days lie between 0000-03-01 and the epoch.
    cdef int64_t y = year - (1 if month <= 2 else 0)
    cdef int64_t era = floor_divide(y, 400)
    cdef int64_t of_era = y - era * 400
    cdef int64_t of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


cdef inline void date_of_days(int64_t days, int64_t* year, int64_t* month, int64_t* day) noexcept nogil:
    cdef int64_t shifted = days + 719468
    cdef int64_t era = floor_divide(shifted, 146097)
    cdef int64_t of_era = shifted - era * 146097
    cdef int64_t year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    cdef int64_t of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    cdef int64_t from_march = (5 * of_year + 2) // 153
    day[0] = of_year - (153 * from_march + 2) // 5 + 1
    month[0] = from_march + 3 if from_march < 10 else from_march - 9
    year[0] = year_of_era + era * 400 + (1 if month[0] <= 2 else 0)


cdef inline bint leap(int64_t year) noexcept nogil:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


cdef inline int days_in_month(int year, int month) noexcept nogil:
    if month == 2:
        return 29 if leap(year) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


cdef bint parse_timestamp(const Span* text, int64_t* micros) noexcept nogil:
    # ISO 8601 extended form: YYYY-MM-DD, then [T or space] HH:MM[:SS[.fraction of 1 to 9 digits]] [Z or ±HH[[:]MM]].
    # Without an offset it is UTC. Digits past the microsecond are cut off. False: malformed.
    cdef const uint8_t* at = text.at
    cdef const uint8_t* end
    cdef int year, month, day, hour = 0, minute = 0, second = 0
    cdef int64_t fraction = 0, seconds
    cdef int offset = 0
    cdef int read
    if text.n == 0:
        micros[0] = INT64_MIN
        return True
    if text.n < 10:
        return False
    end = at + text.n
    year = digits(at, 4)
    month = digits(at + 5, 2)
    day = digits(at + 8, 2)
    if year < 1 or not (1 <= month <= 12) or at[4] != c"-" or at[7] != c"-":
        return False
    if not (1 <= day <= days_in_month(year, month)):
        return False
    at += 10
    if at < end:
        if (at[0] != c"T" and at[0] != c"t" and at[0] != c" ") or end - at < 6 or at[3] != c":":
            return False
        hour = digits(at + 1, 2)
        minute = digits(at + 4, 2)
        at += 6
        if end - at >= 3 and at[0] == c":":
            second = digits(at + 1, 2)
            at += 3
            if end - at >= 2 and at[0] == c".":
                read = parse_fraction(at + 1, end, &fraction)
                if read == 0:
                    return False
                at += 1 + read
        if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
            return False
        if not parse_offset(at, end, &offset):
            return False
    seconds = days_of_date(year, month, day) * SECONDS_A_DAY + hour * 3600 + minute * 60 + second - offset
    if not (FIRST_SECOND <= seconds <= LAST_SECOND):
        return False
    micros[0] = seconds * MICROS + fraction
    return True


def parse_timestamp_text(str text):
    """Microseconds since the epoch of an ISO 8601 text, or None if it is malformed or empty."""
    cdef bytes encoded = text.encode()
    cdef Span span
    cdef int64_t micros
    span.at = <const uint8_t*>PyBytes_AS_STRING(encoded)
    span.n = PyBytes_GET_SIZE(encoded)
    return micros if span.n and parse_timestamp(&span, &micros) else None


cdef inline int parse_fraction(const uint8_t* at, const uint8_t* end, int64_t* micros) noexcept nogil:
    # Digits of a second, in microseconds. Returns how many digits there are; 0: none, or more than 9.
    cdef int64_t scale = MICROS
    cdef int count = 0
    while at + count < end and 48 <= at[count] <= 57:
        scale //= 10
        micros[0] += (at[count] - 48) * scale
        count += 1
        if count > 9:
            return 0
    return count


cdef inline bint parse_offset(const uint8_t* at, const uint8_t* end, int* seconds) noexcept nogil:
    cdef int sign, hours, minutes = 0
    if at == end:
        return True
    if at[0] == c"Z" or at[0] == c"z":
        return end - at == 1
    if at[0] != c"+" and at[0] != c"-":
        return False
    sign = -1 if at[0] == c"-" else 1
    if end - at == 3:
        hours = digits(at + 1, 2)
    elif end - at == 5:
        hours = digits(at + 1, 2)
        minutes = digits(at + 3, 2)
    elif end - at == 6 and at[3] == c":":
        hours = digits(at + 1, 2)
        minutes = digits(at + 4, 2)
    else:
        return False
    if not (0 <= hours <= 23 and 0 <= minutes <= 59):
        return False
    seconds[0] = sign * (hours * 3600 + minutes * 60)
    return True


cdef int64_t part_of(int64_t micros, int64_t part) noexcept nogil:
    cdef int64_t seconds = floor_divide(micros, MICROS)
    cdef int64_t days = floor_divide(seconds, SECONDS_A_DAY)
    cdef int64_t of_day = seconds - days * SECONDS_A_DAY
    cdef int64_t of_week = days + 3 - floor_divide(days + 3, 7) * 7    # 1970-01-01 was a Thursday; Monday is 0
    cdef int64_t year, month, day, of_year
    # The clock's parts need no calendar.
    if part == PART_HOUR:
        return of_day // 3600
    if part == PART_MINUTE:
        return of_day // 60 % 60
    if part == PART_SECOND:
        return of_day % 60
    if part == PART_MINUTE_OF_DAY:
        return of_day // 60
    if part == PART_SECOND_OF_DAY:
        return of_day
    if part == PART_DAY_OF_WEEK:
        return of_week
    if part == PART_IS_WEEKEND:
        return 1 if of_week >= 5 else 0
    if part == PART_EPOCH_SECONDS:
        return seconds
    date_of_days(days, &year, &month, &day)
    if part == PART_YEAR:
        return year
    if part == PART_QUARTER:
        return (month + 2) // 3
    if part == PART_MONTH:
        return month
    if part == PART_DAY:
        return day
    of_year = days - days_of_date(year, 1, 1) + 1
    if part == PART_DAY_OF_YEAR:
        return of_year
    return iso_week(year, of_year, of_week)


cdef inline int64_t iso_week(int64_t year, int64_t of_year, int64_t of_week) noexcept nogil:
    # ISO 8601: the week belongs to the year that holds its Thursday.
    cdef int64_t thursday = of_year + 3 - of_week
    if thursday < 1:
        return (thursday + (366 if leap(year - 1) else 365) + 6) // 7
    if thursday > (366 if leap(year) else 365):
        return 1
    return (thursday + 6) // 7


# --- categories


cdef inline uint64_t mix(uint64_t h, uint64_t word) noexcept nogil:
    h = (h ^ word) * <uint64_t>0x9E3779B97F4A7C15
    return h ^ (h >> 32)


cdef inline uint64_t hash_text(const uint8_t* at, size_t n) noexcept nogil:
    # Of our tables only, never stored. Eight bytes at a time, the last ones overlapping.
    # A crafted text can do no harm: it meets a finished table, whose longest run of slots is what it is.
    cdef uint64_t h = mix(0x2545F4914F6CDD1D, n)
    cdef uint64_t word = 0
    cdef uint32_t low, high
    while n > 8:
        memcpy(&word, at, 8)
        h = mix(h, word)
        at += 8
        n -= 8
    if n >= 4:
        memcpy(&low, at, 4)
        memcpy(&high, at + n - 4, 4)
        word = low | <uint64_t>high << 32
    elif n:
        word = at[0] | <uint64_t>at[n >> 1] << 8 | <uint64_t>at[n - 1] << 16
    else:
        word = 0
    return mix(h, word)


cdef inline uint64_t hash_key(int64_t key) noexcept nogil:
    return mix(0x2545F4914F6CDD1D, <uint64_t>key)


cdef inline int64_t find_text(const Table* table, const Span* text, int64_t unseen) noexcept nogil:
    cdef uint64_t h, slot
    cdef int32_t entry
    if text.n > table.longest:
        return unseen
    h = hash_text(text.at, text.n)
    slot = h & table.mask
    while table.texts[slot].entry >= 0:
        entry = table.texts[slot].entry
        if (table.texts[slot].hash == <uint32_t>(h >> 32) and table.sizes[entry] == text.n
                and memcmp(table.bytes + table.starts[entry], text.at, text.n) == 0):
            return entry if table.codes == NULL else table.codes[entry]
        slot = (slot + 1) & table.mask
    return unseen


cdef inline int64_t find_number(const Table* table, int64_t key, int64_t unseen) noexcept nogil:
    cdef uint64_t slot = hash_key(key) & table.mask
    while table.numbers[slot].used:
        if table.numbers[slot].key == key:
            return table.numbers[slot].code
        slot = (slot + 1) & table.mask
    return unseen


cdef inline int64_t key_of_double(double value) noexcept nogil:
    cdef int64_t key
    value += 0.0                                     # -0.0 becomes 0.0, which it equals
    memcpy(&key, &value, 8)
    return key


cdef inline uint32_t rotate(uint32_t value, int by) noexcept nogil:
    return (value << by) | (value >> (32 - by))


cdef uint32_t murmur3(const uint8_t* at, size_t n, uint32_t seed) noexcept nogil:
    # MurmurHash3 x86 32-bit.
    cdef uint32_t h = seed
    cdef uint32_t k
    cdef size_t whole = n // 4
    cdef size_t rest = n & 3
    cdef size_t i
    for i in range(whole):
        memcpy(&k, at + 4 * i, 4)
        h ^= rotate(k * <uint32_t>0xCC9E2D51, 15) * <uint32_t>0x1B873593
        h = rotate(h, 13) * 5 + <uint32_t>0xE6546B64
    at += 4 * whole
    k = 0
    if rest == 3:
        k ^= <uint32_t>at[2] << 16
    if rest >= 2:
        k ^= <uint32_t>at[1] << 8
    if rest >= 1:
        k ^= at[0]
        h ^= rotate(k * <uint32_t>0xCC9E2D51, 15) * <uint32_t>0x1B873593
    h ^= <uint32_t>n
    h = (h ^ (h >> 16)) * <uint32_t>0x85EBCA6B
    h = (h ^ (h >> 13)) * <uint32_t>0xC2B2AE35
    return h ^ (h >> 16)


cdef inline int64_t hashed_bucket(const uint8_t* at, size_t n, const Step* step) noexcept nogil:
    # The signed 32-bit hash gives the sign; its magnitude the bucket (that of -2**31 is 2**31).
    cdef uint32_t h = murmur3(at, n, <uint32_t>step.j)
    cdef uint32_t negative = h >> 31
    cdef uint32_t magnitude = 0 - h if negative else h
    return <int64_t>(magnitude % <uint32_t>step.i) * 2 + (negative if step.a != 0.0 else 0)


cdef inline size_t write_decimal(int64_t value, uint8_t* out) noexcept nogil:
    # As Python's str(value); `out` has room for 20 bytes. Returns how many.
    cdef uint8_t[20] reversed_digits
    cdef uint64_t magnitude = 0 - <uint64_t>value if value < 0 else <uint64_t>value
    cdef size_t count = 0
    cdef size_t n = 0
    while True:
        reversed_digits[count] = <uint8_t>(48 + magnitude % 10)
        count += 1
        magnitude //= 10
        if magnitude == 0:
            break
    if value < 0:
        out[0] = c"-"
        n = 1
    while count:
        count -= 1
        out[n] = reversed_digits[count]
        n += 1
    return n


# --- the steps, each over a block


cdef inline void take_code(Block* block, int row, int64_t code, bint missing, Registers* at) noexcept nogil:
    # A lookup's answer; CODE_ERROR fails the row, as missing or as unseen.
    at.integer[row] = code
    if code == CODE_ERROR:
        fail(block, row, FAILURE_MISSING if missing else FAILURE_UNSEEN)


cdef int64_t bucket_of(const double* edges, int count, double value) noexcept nogil:
    # How many edges are <= value; `edges` ascend.
    cdef int low = 0
    cdef int high = count
    cdef int middle
    while low < high:
        middle = (low + high) >> 1
        if edges[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low


cdef void lookup_texts(Block* block, const Step* step, Registers* at) noexcept nogil:
    cdef int row
    for row in range(block.rows):
        if at.text[row].n == 0:
            take_code(block, row, step.j, True, at)
        else:
            take_code(block, row, find_text(step.table, &at.text[row], step.i), False, at)


cdef void lookup_integers(Block* block, const Step* step, Registers* at) noexcept nogil:
    cdef int row
    for row in range(block.rows):
        if at.integer[row] == INT64_MIN:
            take_code(block, row, step.j, True, at)
        else:
            take_code(block, row, find_number(step.table, at.integer[row], step.i), False, at)


cdef void lookup_numbers(Block* block, const Step* step, Registers* at) noexcept nogil:
    cdef int row
    for row in range(block.rows):
        if isnan(at.number[row]):
            take_code(block, row, step.j, True, at)
        else:
            take_code(block, row, find_number(step.table, key_of_double(at.number[row]), step.i), False, at)


cdef void hash_integers(Block* block, const Step* step, Registers* at) noexcept nogil:
    cdef uint8_t[20] text
    cdef int row
    for row in range(block.rows):
        if at.integer[row] != INT64_MIN:
            at.integer[row] = hashed_bucket(text, write_decimal(at.integer[row], text), step)


cdef void take_step(Block* block, const Step* step, Registers* at) noexcept nogil:
    cdef int rows = block.rows
    cdef int row
    cdef double value
    if step.operation == OP_FILL_NUMBER:
        for row in range(rows):
            at.number[row] = step.a if isnan(at.number[row]) else at.number[row]
    elif step.operation == OP_SUBTRACT_DIVIDE:
        for row in range(rows):
            at.number[row] = (at.number[row] - step.a) / step.b
    elif step.operation == OP_MULTIPLY_ADD:
        for row in range(rows):
            at.number[row] = at.number[row] * step.a + step.b
    elif step.operation == OP_LOOKUP_TEXT:
        lookup_texts(block, step, at)
    elif step.operation == OP_TO_NUMBER:
        for row in range(rows):
            at.number[row] = NAN if at.integer[row] == INT64_MIN else <double>at.integer[row]
    elif step.operation == OP_FILL_INTEGER:
        for row in range(rows):
            if at.integer[row] == INT64_MIN:
                at.integer[row] = step.i
    elif step.operation == OP_FILL_TEXT:
        for row in range(rows):
            if at.text[row].n == 0:
                at.text[row] = step.text
    elif step.operation == OP_NUMBER_MISSING:
        for row in range(rows):
            at.integer[row] = 1 if isnan(at.number[row]) else 0
    elif step.operation == OP_INTEGER_MISSING:
        for row in range(rows):
            at.integer[row] = 1 if at.integer[row] == INT64_MIN else 0
    elif step.operation == OP_TEXT_MISSING:
        for row in range(rows):
            at.integer[row] = 1 if at.text[row].n == 0 else 0
    elif step.operation == OP_CLIP:
        for row in range(rows):
            value = at.number[row]
            value = step.a if value < step.a else value
            at.number[row] = step.b if value > step.b else value
    elif step.operation == OP_LOG1P:
        for row in range(rows):
            at.number[row] = log1p(at.number[row])
    elif step.operation == OP_BUCKETIZE:
        for row in range(rows):
            value = at.number[row]
            at.integer[row] = INT64_MIN if isnan(value) else bucket_of(step.edges, step.edge_count, value)
    elif step.operation == OP_LOOKUP_NUMBER:
        lookup_numbers(block, step, at)
    elif step.operation == OP_LOOKUP_INTEGER:
        lookup_integers(block, step, at)
    elif step.operation == OP_HASH_INTEGER:
        hash_integers(block, step, at)
    elif step.operation == OP_HASH_TEXT:
        for row in range(rows):
            at.integer[row] = (
                hashed_bucket(at.text[row].at, at.text[row].n, step) if at.text[row].n else INT64_MIN
            )
    elif step.operation == OP_TIMESTAMP_PART:
        for row in range(rows):
            if at.integer[row] != INT64_MIN:
                at.integer[row] = part_of(at.integer[row], step.i)


# --- registers to elements, rounded once. `out` is the first element of the block's first row.


cdef inline void emit_numbers(element* out, int64_t width, int rows, const double* values) noexcept nogil:
    cdef int row
    for row in range(rows):
        out[row * width] = <element>values[row]


cdef inline void emit_integers(element* out, int64_t width, Block* block, const int64_t* values) noexcept nogil:
    cdef int row
    for row in range(block.rows):
        if element is int64_t:
            out[row * width] = values[row]
            if values[row] == INT64_MIN:
                fail(block, row, FAILURE_NO_INT64)
        else:
            out[row * width] = <element>(NAN if values[row] == INT64_MIN else <double>values[row])


cdef inline void emit_one_hot(element* out, int64_t width, int rows, const int64_t* codes) noexcept nogil:
    cdef int row
    for row in range(rows):
        if codes[row] >= 0:
            out[row * width + codes[row]] = 1


cdef inline void emit_hashed(element* out, int64_t width, int rows, const int64_t* codes) noexcept nogil:
    cdef int row
    for row in range(rows):
        if codes[row] >= 0:
            out[row * width + (codes[row] >> 1)] = -1 if codes[row] & 1 else 1


cdef inline void emit_cyclic(element* out, int64_t width, int rows, const double* values, double period) noexcept nogil:
    cdef double angle
    cdef int row
    for row in range(rows):
        angle = values[row]
        if not (0.0 <= angle < period):
            angle = fmod(angle, period)              # exact, so far-off values keep their phase; NaN if infinite
        angle = angle / period * TWO_PI
        out[row * width] = <element>sin(angle)
        out[row * width + 1] = <element>cos(angle)


cdef inline void emit(
    element* out, int64_t width, const Chain* chain, Block* block, const Registers* at
) noexcept nogil:
    out += block.first * width + chain.offset
    if chain.emission == EMIT_NUMBER:
        if element is not int64_t:                   # the compiler lets no number into an int64 output
            emit_numbers(out, width, block.rows, at.number)
    elif chain.emission == EMIT_INTEGER:
        emit_integers(out, width, block, at.integer)
    elif chain.emission == EMIT_ONE_HOT:
        emit_one_hot(out, width, block.rows, at.integer)
    elif chain.emission == EMIT_HASHED:
        emit_hashed(out, width, block.rows, at.integer)
    elif chain.emission == EMIT_CYCLIC:
        if element is not int64_t:
            emit_cyclic(out, width, block.rows, at.number, chain.period)


# --- the tables


@cython.final
cdef class Vocabulary:
    def __cinit__(self):
        memset(&self.table, 0, sizeof(Table))

    def __init__(self):
        raise TypeError("vocabularies are made by of_texts, of_lines or of_numbers")

    def __dealloc__(self):
        free(self.table.texts)
        free(self.table.numbers)
        free(<void*>self.table.starts)
        free(<void*>self.table.sizes)
        free(<void*>self.table.codes)

    @staticmethod
    def of_texts(list texts, codes=None):
        cdef Vocabulary vocabulary = Vocabulary.__new__(Vocabulary)
        cdef uint32_t start = 0
        cdef int entry
        vocabulary.blob = b"".join(texts)
        vocabulary.make_text_room(len(texts))
        for entry in range(vocabulary.size):
            vocabulary.add_text(entry, start, len(texts[entry]))
            start += len(texts[entry])
        vocabulary.set_codes(codes)
        return vocabulary

    @staticmethod
    def of_lines(bytes lines, codes=None):
        cdef Vocabulary vocabulary = Vocabulary.__new__(Vocabulary)
        cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(lines)
        cdef size_t total = PyBytes_GET_SIZE(lines)
        cdef size_t start = 0
        cdef const void* newline
        cdef size_t end
        cdef int entry = 0
        vocabulary.blob = lines
        vocabulary.make_text_room(lines.count(b"\n") + (1 if total and at[total - 1] != c"\n" else 0))
        while start < total:
            newline = memchr(at + start, c"\n", total - start)
            end = total if newline == NULL else <size_t>(<const uint8_t*>newline - at)
            vocabulary.add_text(entry, <uint32_t>start, <uint32_t>(end - start))
            entry += 1
            start = end + 1
        vocabulary.set_codes(codes)
        return vocabulary

    @staticmethod
    def of_numbers(list numbers, codes=None):
        cdef Vocabulary vocabulary = Vocabulary.__new__(Vocabulary)
        cdef uint64_t slot
        cdef int64_t key
        cdef int entry
        vocabulary.size = len(numbers)
        vocabulary.table.mask = slots_for(vocabulary.size) - 1
        vocabulary.table.numbers = <NumberSlot*>calloc(vocabulary.table.mask + 1, sizeof(NumberSlot))
        if vocabulary.table.numbers == NULL:
            raise MemoryError
        for entry in range(vocabulary.size):
            item = numbers[entry]
            key = key_of_double(item) if isinstance(item, float) else <int64_t>item
            slot = hash_key(key) & vocabulary.table.mask
            while vocabulary.table.numbers[slot].used:
                if vocabulary.table.numbers[slot].key == key:
                    raise ValueError(f"the category {item!r} stands twice")
                slot = (slot + 1) & vocabulary.table.mask
            vocabulary.table.numbers[slot].key = key
            vocabulary.table.numbers[slot].code = entry if codes is None else codes[entry]
            vocabulary.table.numbers[slot].used = 1
        return vocabulary

    cdef int make_text_room(self, Py_ssize_t count) except -1:
        cdef uint64_t slot
        if len(self.blob) > 0xFFFFFFFF or count > 0x3FFFFFFF:
            raise ValueError("a vocabulary holds at most 4 GiB and 2**30 entries")
        self.size = <int>count
        self.table.bytes = <const uint8_t*>PyBytes_AS_STRING(self.blob)
        self.table.mask = slots_for(count) - 1
        self.table.texts = <TextSlot*>malloc((self.table.mask + 1) * sizeof(TextSlot))
        self.table.starts = <uint32_t*>malloc((count + 1) * sizeof(uint32_t))
        self.table.sizes = <uint32_t*>malloc((count + 1) * sizeof(uint32_t))
        if self.table.texts == NULL or self.table.starts == NULL or self.table.sizes == NULL:
            raise MemoryError
        for slot in range(self.table.mask + 1):
            self.table.texts[slot].entry = -1
        return 0

    cdef int add_text(self, int entry, uint32_t start, uint32_t size) except -1:
        cdef const uint8_t* at = self.table.bytes + start
        cdef uint64_t h = hash_text(at, size)
        cdef uint64_t slot = h & self.table.mask
        cdef int32_t other
        (<uint32_t*>self.table.starts)[entry] = start
        (<uint32_t*>self.table.sizes)[entry] = size
        while self.table.texts[slot].entry >= 0:
            other = self.table.texts[slot].entry
            if self.table.sizes[other] == size and memcmp(self.table.bytes + self.table.starts[other], at, size) == 0:
                raise ValueError(f"the category {shown_text(at, size)} stands twice (entries {other} and {entry})")
            slot = (slot + 1) & self.table.mask
        self.table.texts[slot].hash = <uint32_t>(h >> 32)
        self.table.texts[slot].entry = entry
        if size > self.table.longest:
            self.table.longest = size
        return 0

    cdef int set_codes(self, codes) except -1:
        cdef int32_t* copied
        cdef int entry
        if codes is None:
            return 0
        if len(codes) != self.size:
            raise ValueError(f"{len(codes)} codes for {self.size} entries")
        copied = <int32_t*>malloc((self.size + 1) * sizeof(int32_t))
        if copied == NULL:
            raise MemoryError
        self.table.codes = copied
        for entry in range(self.size):
            copied[entry] = codes[entry]
        return 0


cdef uint64_t slots_for(Py_ssize_t count) noexcept:
    # A power of two, at most three quarters full.
    cdef uint64_t slots = 4
    while slots * 3 < <uint64_t>count * 4:
        slots *= 2
    return slots


class UnplainColumn(TypeError):
    """A column that the compiled loop cannot borrow as it is; :mod:`gateway.features.plan` makes it plain."""


@cython.final
cdef class FeaturePlan:
    def __cinit__(self, list columns, list outputs):
        self.kept = []
        self.column_specs = [code.spec for code in columns]
        self.output_specs = [code.spec for code in outputs]
        self.expectations = [code.expectations for code in columns]
        self.column_names = [code.spec.name for code in columns]
        self.column_types = [code.type for code in columns]
        chains = [chain for code in columns for chain in code.chains]
        steps = [step for chain in chains for step in chain.steps]
        self.columns = <PlanColumn*>calloc(len(columns) + 1, sizeof(PlanColumn))
        self.outputs = <PlanOutput*>calloc(len(outputs) + 1, sizeof(PlanOutput))
        self.chains = <Chain*>calloc(len(chains) + 1, sizeof(Chain))
        self.steps = <Step*>calloc(len(steps) + 1, sizeof(Step))
        self.edges = <double*>calloc(sum(len(step.edges) for step in steps) + 1, sizeof(double))
        if (self.columns == NULL or self.outputs == NULL or self.chains == NULL or self.steps == NULL
                or self.edges == NULL):
            raise MemoryError
        self.fill_outputs(outputs)
        self.fill_steps(steps)
        self.fill_chains(chains)
        self.fill_columns(columns)

    def __dealloc__(self):
        free(self.columns)
        free(self.outputs)
        free(self.chains)
        free(self.steps)
        free(self.edges)

    cdef int fill_outputs(self, list outputs) except -1:
        self.output_count = len(outputs)
        for i, code in enumerate(outputs):
            self.outputs[i].dtype = code.spec.datatype
            self.outputs[i].width = code.width
        return 0

    cdef int fill_steps(self, list steps) except -1:
        cdef Step* step
        cdef double* edges = self.edges
        for i, code in enumerate(steps):
            step = &self.steps[i]
            step.operation, step.a, step.b, step.i, step.j = code.operation, code.a, code.b, code.i, code.j
            step.edges = edges
            step.edge_count = len(code.edges)
            for edge in code.edges:
                edges[0] = edge
                edges += 1
            if code.text is not None:
                self.kept.append(code.text)
                step.text.at = <const uint8_t*>PyBytes_AS_STRING(code.text)
                step.text.n = PyBytes_GET_SIZE(code.text)
            if code.vocabulary is not None:
                self.kept.append(code.vocabulary)
                step.table = &(<Vocabulary?>code.vocabulary).table
        return 0

    cdef int fill_chains(self, list chains) except -1:
        cdef Chain* chain
        cdef int first = 0
        for i, code in enumerate(chains):
            chain = &self.chains[i]
            chain.first_step = first
            chain.step_count = len(code.steps)
            first += chain.step_count
            chain.emission, chain.output, chain.offset, chain.period = (
                code.emission, code.output, code.offset, code.period
            )
            if chain.emission == EMIT_ONE_HOT or chain.emission == EMIT_HASHED:
                self.outputs[chain.output].sparse = True
        return 0

    cdef int fill_columns(self, list columns) except -1:
        cdef PlanColumn* column
        cdef int first = 0
        self.column_count = len(columns)
        for i, code in enumerate(columns):
            column = &self.columns[i]
            column.type = code.type
            column.optional = code.spec.optional
            column.missing_fails = code.missing_fails
            column.infinite_fails = code.infinite_fails
            column.unit = code.unit
            column.first_chain = first
            column.chain_count = len(code.chains)
            first += column.chain_count
        return 0

    cdef int64_t run(self, const Column* columns, int64_t rows, void** outputs, RowError* errors) noexcept nogil:
        cdef Block block
        cdef Registers loaded
        cdef Registers work
        cdef int64_t row
        cdef int i
        for row in range(rows):
            errors[row].column = -1
            errors[row].kind = FAILURE_NONE
        for i in range(self.output_count):
            if self.outputs[i].sparse:
                memset(outputs[i], 0, rows * self.outputs[i].width * dtype_itemsize(self.outputs[i].dtype))
        block.failed = 0
        block.first = 0
        while block.first < rows:
            block.rows = <int>min(rows - block.first, <int64_t>BLOCK_ROWS)
            block.errors = errors + block.first
            for i in range(self.column_count):
                block.column = i
                if load(&self.columns[i], &columns[i], &block, &loaded):
                    self.run_chains(&self.columns[i], &block, &loaded, &work, outputs)
            block.first += block.rows
        if block.failed:
            self.zero_failed_rows(rows, outputs, errors)
        return block.failed

    cdef void run_chains(
        self, const PlanColumn* column, Block* block, Registers* loaded, Registers* work, void** outputs
    ) noexcept nogil:
        cdef int i, k
        cdef const Chain* chain
        cdef Registers* at
        for i in range(column.chain_count):
            chain = &self.chains[column.first_chain + i]
            at = loaded
            if i + 1 < column.chain_count:           # the last chain may spoil what was loaded
                copy_register(column.type, block.rows, loaded, work)
                at = work
            for k in range(chain.step_count):
                take_step(block, &self.steps[chain.first_step + k], at)
            if self.outputs[chain.output].dtype == DT_FP32:
                emit[float](<float*>outputs[chain.output], self.outputs[chain.output].width, chain, block, at)
            elif self.outputs[chain.output].dtype == DT_FP64:
                emit[double](<double*>outputs[chain.output], self.outputs[chain.output].width, chain, block, at)
            else:
                emit[int64_t](<int64_t*>outputs[chain.output], self.outputs[chain.output].width, chain, block, at)

    cdef void zero_failed_rows(self, int64_t rows, void** outputs, const RowError* errors) noexcept nogil:
        cdef int64_t row
        cdef size_t size
        cdef int i
        for i in range(self.output_count):
            size = self.outputs[i].width * dtype_itemsize(self.outputs[i].dtype)
            for row in range(rows):
                if errors[row].kind != FAILURE_NONE:
                    memset(<uint8_t*>outputs[i] + row * size, 0, size)

    cdef bint accepts(self, int column, int32_t dtype) noexcept nogil:
        return dtype != DTYPE_MICROSECONDS and takes(self.columns[column].type, dtype)

    cdef object failure(self, const Column* columns, int64_t row, int64_t shown_row, RowError error):
        value = shown_value(&columns[error.column], row)
        return self.invalid(shown_row, error.column, error.kind, value)

    cdef object invalid(self, int64_t row, int column, int kind, value):
        return FeatureInputInvalid(
            f"row {row}: {self.describe(column, kind, value)}", row=row, column=self.column_names[column]
        )

    cdef str describe(self, int column, int kind, value):
        cdef str name = self.column_names[column]
        came = "nothing" if value is None else value if isinstance(value, str) else repr(value)
        return f"column {name!r}: expected {self.expectations[column].get(kind, 'another value')}, came {came}"

    # --- for Python

    def accepted_dtypes(self, int column):
        if not 0 <= column < self.column_count:
            raise IndexError(f"column {column} of {self.column_count}")
        return [dtype for dtype in DataType if self.accepts(column, dtype)]

    def describe_error(self, row_error, value=None):
        column, kind = row_error
        return self.describe(column, kind, value)

    def transform(self, columns, list failures=None):
        """See feature_plan.pyi."""
        cdef Borrowed borrowed = Borrowed.__new__(Borrowed, self.column_count)
        cdef list results = []
        cdef int i
        for i in range(self.column_count):
            borrowed.take_column(i, self.column_names[i], columns.get(self.column_names[i]))
        if borrowed.rows < 0:
            borrowed.rows = 0
        for i in range(self.output_count):
            spec = self.output_specs[i]
            shape = (borrowed.rows, *spec.shape[1:])
            results.append(numpy.empty(shape, spec.datatype.numpy))
        self.run_borrowed(borrowed, results, failures)
        return results

    cdef int run_borrowed(self, Borrowed borrowed, list results, list failures) except -1:
        cdef void** outputs = <void**>calloc(self.output_count + 1, sizeof(void*))
        cdef RowError* errors = <RowError*>malloc((borrowed.rows + 1) * sizeof(RowError))
        cdef Py_buffer[1] view
        cdef int i
        cdef int64_t row
        try:
            if outputs == NULL or errors == NULL:
                raise MemoryError
            for i in range(self.output_count):
                PyObject_GetBuffer(results[i], view, PyBUF_ND | PyBUF_WRITABLE)
                outputs[i] = view[0].buf
                PyBuffer_Release(view)               # `results` keeps the memory, and nobody else has it yet
            # With the GIL: objects of a caller's array must not be swapped under the loop.
            if self.run(borrowed.columns, borrowed.rows, outputs, errors):
                for row in range(borrowed.rows):
                    if errors[row].kind == FAILURE_NONE:
                        continue
                    failure = self.failure(borrowed.columns, row, row, errors[row])
                    if failures is None:
                        raise failure
                    failures.append((row, errors[row].column, errors[row].kind, failure))
        finally:
            free(outputs)
            free(errors)
        return 0

    def __repr__(self):
        columns = ", ".join(self.column_names)
        return f"<FeaturePlan [{columns}] -> {', '.join(map(str, self.output_specs))}>"


cdef object shown_text(const uint8_t* at, size_t n):
    cdef bytes head = PyBytes_FromStringAndSize(<const char*>at, min(n, <size_t>BLOCK_TEXT_SHOWN))
    shown = repr(head.decode("utf-8", "backslashreplace"))
    return shown if n <= BLOCK_TEXT_SHOWN else f"{shown}… ({n} bytes)"


cdef object shown_value(const Column* column, int64_t row):
    # The value as sent, for a message.
    cdef double value
    cdef int64_t integer
    cdef uint64_t unsigned
    if column.strings != NULL:
        if column.strings[row].n == 0:
            return "the empty text"
        return shown_text(column.strings[row].at, column.strings[row].n)
    if column.values == NULL:
        return None
    if column.dtype == DT_UINT64:
        memcpy(&unsigned, column.values + row * 8, 8)
        return unsigned
    if load_wide_integers(column.dtype, column.values + row * sent_itemsize(column.dtype), 1, &integer):
        return integer
    if not load_doubles(column.dtype, column.values + row * sent_itemsize(column.dtype), 1, &value):
        return None
    return value


# --- columns lent by Python


@cython.final
cdef class Borrowed:
    def __cinit__(self, int count):
        self.held = []
        self.rows = -1
        self.count = count
        self.columns = <Column*>calloc(count + 1, sizeof(Column))
        self.views = <Py_buffer*>calloc(count + 1, sizeof(Py_buffer))
        self.spans = <Span**>calloc(count + 1, sizeof(Span*))
        if self.columns == NULL or self.views == NULL or self.spans == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int i
        for i in range(self.count):
            if self.views != NULL and self.views[i].buf != NULL:
                PyBuffer_Release(&self.views[i])
            if self.spans != NULL:
                free(self.spans[i])
        free(self.columns)
        free(self.views)
        free(self.spans)

    cdef int take_column(self, int i, str name, values) except -1:
        if values is None:
            return 0
        if isinstance(values, list):
            self.take_texts(i, name, values)
        elif isinstance(values, numpy.ndarray) and values.dtype.kind in "OU" and values.size == len(values):
            self.take_texts(i, name, values.ravel().tolist())
        elif isinstance(values, tuple):              # (microseconds as an int64 array,)
            self.take_buffer(i, values[0])
            self.columns[i].dtype = DTYPE_MICROSECONDS
        else:
            self.take_buffer(i, values)
        return 0

    cdef int set_rows(self, int64_t rows) except -1:
        if self.rows >= 0 and self.rows != rows:
            raise FeatureInputInvalid(f"columns of unlike length: {self.rows} rows and {rows} rows")
        self.rows = rows
        return 0

    cdef int take_buffer(self, int i, values) except -1:
        cdef Py_buffer* view = &self.views[i]
        try:
            PyObject_GetBuffer(values, view, PyBUF_ND | PyBUF_FORMAT)
        except (TypeError, BufferError, ValueError) as error:
            raise UnplainColumn(str(error)) from error
        if view.ndim != 1 and not (view.ndim == 2 and view.shape[1] == 1):
            raise UnplainColumn(f"a column has shape [rows] or [rows, 1], not {view.ndim} dimensions")
        self.columns[i].dtype = dtype_of_format(view.format, view.itemsize)
        if self.columns[i].dtype == DT_NONE:
            raise UnplainColumn(f"buffer format {view.format.decode()!r}")
        self.set_rows(view.shape[0])
        self.columns[i].values = <const uint8_t*>view.buf
        return 0

    cdef int take_texts(self, int i, str name, list texts) except -1:
        cdef Py_ssize_t rows = len(texts)
        cdef Py_ssize_t row, size
        cdef Span* spans = <Span*>malloc((rows + 1) * sizeof(Span))
        if spans == NULL:
            raise MemoryError
        self.spans[i] = spans
        self.held.append(texts)
        self.set_rows(rows)
        for row in range(rows):
            value = texts[row]
            if PyUnicode_CheckExact(value):
                spans[row].at = <const uint8_t*>utf8_of(value, &size, row, name)
                spans[row].n = size
            elif PyBytes_CheckExact(value):
                spans[row].at = <const uint8_t*>PyBytes_AS_STRING(value)
                spans[row].n = PyBytes_GET_SIZE(value)
            elif value is None:
                spans[row].at = NULL
                spans[row].n = 0
            else:
                raise UnplainColumn(f"a {type(value).__name__} among texts")
        self.columns[i].dtype = DT_BYTES
        self.columns[i].strings = spans
        return 0


cdef const char* utf8_of(object text, Py_ssize_t* size, Py_ssize_t row, str name) except NULL:
    try:
        return PyUnicode_AsUTF8AndSize(text, size)
    except UnicodeEncodeError as error:
        raise FeatureInputInvalid(
            f"row {row}: column {name!r}: expected text, came one with a lone surrogate", row=row, column=name
        ) from error


cdef int32_t dtype_of_format(const char* format, Py_ssize_t itemsize) noexcept:
    # Of one native item; DT_NONE for records, objects, foreign byte order.
    cdef char code
    if format == NULL or format[0] == 0 or format[1] != 0:
        return DT_NONE
    code = format[0]
    if code == c"?":
        return DT_BOOL
    if code == c"e":
        return DT_FP16
    if code == c"f":
        return DT_FP32
    if code == c"d":
        return DT_FP64
    if code == c"b" or code == c"h" or code == c"i" or code == c"l" or code == c"q":
        return DT_INT8 if itemsize == 1 else DT_INT16 if itemsize == 2 else DT_INT32 if itemsize == 4 else DT_INT64
    if code == c"B" or code == c"H" or code == c"I" or code == c"L" or code == c"Q":
        return DT_UINT8 if itemsize == 1 else DT_UINT16 if itemsize == 2 else DT_UINT32 if itemsize == 4 else DT_UINT64
    return DT_NONE


def nanoseconds_a_run(FeaturePlan plan, columns, int64_t runs):
    """Mean nanoseconds of ``run`` over the rows of ``columns``, for the benchmark: no Python between the runs."""
    cdef Borrowed borrowed = Borrowed.__new__(Borrowed, plan.column_count)
    cdef list results = []
    cdef void* outputs[16]
    cdef RowError* errors
    cdef Py_buffer[1] view
    cdef timespec before, after
    cdef int64_t k, failed = 0
    cdef int i
    for i in range(plan.column_count):
        borrowed.take_column(i, plan.column_names[i], columns.get(plan.column_names[i]))
    for i in range(min(plan.output_count, 16)):
        spec = plan.output_specs[i]
        results.append(numpy.empty((borrowed.rows, *spec.shape[1:]), spec.datatype.numpy))
        PyObject_GetBuffer(results[i], view, PyBUF_ND | PyBUF_WRITABLE)
        outputs[i] = view[0].buf
        PyBuffer_Release(view)
    errors = <RowError*>malloc((borrowed.rows + 1) * sizeof(RowError))
    if errors == NULL:
        raise MemoryError
    with nogil:
        clock_gettime(CLOCK_MONOTONIC, &before)
        for k in range(runs):
            failed += plan.run(borrowed.columns, borrowed.rows, outputs, errors)
        clock_gettime(CLOCK_MONOTONIC, &after)
    free(errors)
    if failed:
        raise ValueError(f"{failed} rows failed")
    return ((after.tv_sec - before.tv_sec) * 1e9 + (after.tv_nsec - before.tv_nsec)) / runs
