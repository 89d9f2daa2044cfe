# The loops of the places family: latitudes and longitudes. See feature_program for what each does.
from libc.math cimport NAN, asin, cos, floor, isnan, sin, sqrt
from libc.stdint cimport int64_t, uint8_t

from gateway._fast.exchange cimport Span
from gateway._fast.feature_program cimport (
    FAILURE_DEGREES, FAILURE_MEMORY, OP_DEGREES, OP_DISTANCE, OP_DISTANCE_TO, Block, Instruction, fail, numbers_at,
    texts_at,
)
from gateway._fast.text_arena cimport arena_take

cdef extern from *:
    """
    /* Digits and small letters without a, i, l and o. */
    static const unsigned char GEOHASH_DIGITS[] = "0123456789bcdefghjkmnpqrstuvwxyz";
    """
    const uint8_t* GEOHASH_DIGITS


cdef inline double angle_between(
    double latitude, double longitude, double other_latitude, double other_longitude
) noexcept nogil:
    # The haversine formula, all in radians, in the order in which scikit-learn rounds. The argument of asin may come
    # out above 1 for points that lie opposite each other.
    cdef double up = sin(0.5 * (latitude - other_latitude))
    cdef double along = sin(0.5 * (longitude - other_longitude))
    cdef double h = up * up + cos(latitude) * cos(other_latitude) * along * along
    return 2.0 * asin(sqrt(1.0 if h > 1.0 else h))


cdef inline int64_t cell_of(double degrees, double half, int64_t bits) noexcept nogil:
    # Which of the 2**bits equal parts of [-half, half] holds the value: those closed below, the last one also above.
    # The bounds of parts are exact in float64; what the division is off by, they put right.
    cdef int64_t last = (<int64_t>1 << bits) - 1
    cdef double part = 2.0 * half / <double>(last + 1)
    cdef int64_t cell = <int64_t>floor((degrees + half) / part)
    if cell > last:
        return last
    if <double>cell * part - half > degrees:
        return cell - 1
    if cell < last and <double>(cell + 1) * part - half <= degrees:
        return cell + 1
    return cell


cdef inline void write_geohash(uint8_t* to, int64_t length, double latitude, double longitude) noexcept nogil:
    # Five bits a character, longitude's and latitude's by turns, longitude's first.
    cdef int64_t bits = 5 * length
    cdef int64_t along = cell_of(longitude, 180.0, (bits + 1) // 2)
    cdef int64_t up = cell_of(latitude, 90.0, bits // 2)
    cdef int64_t digit = 0
    cdef int64_t k
    for k in range(bits):
        # The k-th bit from the last: both cells end with the same character, whose last bit is latitude's if the
        # number of bits is even.
        if (bits - k) % 2 == 0:
            digit |= (up & 1) << (k % 5)
            up >>= 1
        else:
            digit |= (along & 1) << (k % 5)
            along >>= 1
        if k % 5 == 4:
            to[length - 1 - k // 5] = GEOHASH_DIGITS[digit]
            digit = 0


cdef inline void geohashes(Block* block, const Instruction* step) noexcept nogil:
    cdef const double* latitudes = numbers_at(block, step.of)
    cdef const double* longitudes = numbers_at(block, step.by)
    cdef Span* to = texts_at(block, step.to)
    cdef uint8_t* at
    cdef int row
    for row in range(block.rows):
        at = NULL
        if not isnan(latitudes[row]) and not isnan(longitudes[row]):
            at = arena_take(&block.memory.arena, step.i)
            if at == NULL:
                fail(block, row, step.column, FAILURE_MEMORY)
            else:
                write_geohash(at, step.i, latitudes[row], longitudes[row])
        to[row].at = at
        to[row].n = 0 if at == NULL else step.i


cdef inline void degrees_within(Block* block, const Instruction* step) noexcept nogil:
    cdef const double* x = numbers_at(block, step.of)
    cdef double* to = numbers_at(block, step.to)
    cdef int row
    for row in range(block.rows):
        if -step.a <= x[row] <= step.a or isnan(x[row]):
            to[row] = x[row]
        else:
            to[row] = NAN
            if step.i:
                fail(block, row, step.column, FAILURE_DEGREES)


cdef inline void run_places(Block* block, const Instruction* step) noexcept nogil:
    cdef int operation = step.operation
    cdef const double* x = numbers_at(block, step.of)
    cdef const double* y = numbers_at(block, step.by)
    cdef const double* other_x
    cdef const double* other_y
    cdef double* to = numbers_at(block, step.to)
    cdef int row
    if operation == OP_DISTANCE_TO:
        for row in range(block.rows):
            to[row] = angle_between(x[row], y[row], step.constants[0], step.constants[1]) * step.a
    elif operation == OP_DISTANCE:
        other_x = numbers_at(block, step.slots[2])
        other_y = numbers_at(block, step.slots[3])
        for row in range(block.rows):
            to[row] = angle_between(x[row], y[row], other_x[row], other_y[row]) * step.a
    elif operation == OP_DEGREES:
        degrees_within(block, step)
    else:
        geohashes(block, step)
