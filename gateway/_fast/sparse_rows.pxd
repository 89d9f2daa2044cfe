# The elements of an output that are not zero, row by row, as a sparse matrix has them (CSR). For Python, which may ask
# for outputs so; requests never do.
#
# Emissions come instruction by instruction, each for all rows of a block. So the hits of a block are kept as they come,
# and put in order when it ends.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcpy, memset

cdef struct Hit:
    uint64_t place                     # row of the block << 32 | element of the row; each once
    uint8_t[8] value                   # of the output's data type, in the first bytes

cdef struct SparseRows:                # zeroed but for itemsize and ends, and freed, by the caller of a run
    size_t itemsize                    # of a value: 4 or 8
    int64_t* ends                      # borrowed, zeros: rows + 1 of them; where each row ends, behind the first 0
    int32_t* elements                  # owned: of all rows so far, ascending within each
    uint8_t* values                    # owned: as many
    size_t count
    size_t room
    Hit* hits                          # owned: of the block
    size_t hit_count
    size_t hit_room


cdef inline void free_sparse_rows(SparseRows* rows) noexcept nogil:
    free(rows.elements)
    free(rows.values)
    free(rows.hits)


# One hit of the block. `value`: itemsize bytes. False: out of memory.
cdef inline bint take_hit(SparseRows* rows, int row, int64_t element, const void* value) noexcept nogil:
    cdef Hit* hit
    if rows.hit_count == rows.hit_room and not grow_hits(rows):
        return False
    hit = &rows.hits[rows.hit_count]
    hit.place = <uint64_t>row << 32 | <uint64_t>element
    memcpy(hit.value, value, rows.itemsize)
    rows.hit_count += 1
    return True


cdef inline bint grow_hits(SparseRows* rows) noexcept nogil:
    cdef size_t room = max(<size_t>1024, 2 * rows.hit_room)
    cdef Hit* grown = <Hit*>realloc(rows.hits, room * sizeof(Hit))
    if grown == NULL:
        return False
    rows.hits = grown
    rows.hit_room = room
    return True


cdef inline int compare_hits(const void* one, const void* other) noexcept nogil:
    cdef uint64_t a = (<const Hit*>one).place
    cdef uint64_t b = (<const Hit*>other).place
    return (a > b) - (a < b)


cdef inline bint are_in_order(const Hit* hits, size_t count) noexcept nogil:
    cdef size_t i
    for i in range(1, count):
        if hits[i - 1].place > hits[i].place:
            return False
    return True


# Room for all hits of the block. False: out of memory.
cdef inline bint make_sparse_room(SparseRows* rows) noexcept nogil:
    cdef size_t room = rows.count + rows.hit_count
    cdef void* grown
    if room <= rows.room:
        return True
    room = max(room, 2 * rows.room)
    grown = realloc(rows.elements, room * sizeof(int32_t))
    if grown == NULL:
        return False
    rows.elements = <int32_t*>grown
    grown = realloc(rows.values, room * rows.itemsize)
    if grown == NULL:
        return False
    rows.values = <uint8_t*>grown
    rows.room = room
    return True


# The hits of the block in order; make_sparse_room comes before put_row.
cdef inline void order_hits(SparseRows* rows) noexcept nogil:
    if not are_in_order(rows.hits, rows.hit_count):
        qsort(rows.hits, rows.hit_count, sizeof(Hit), compare_hits)


# Behind the rows so far the next one: hits from `k` on. Returns where those of the one after it begin.
cdef inline size_t put_row(SparseRows* rows, int64_t first, int row, size_t k, bint is_empty) noexcept nogil:
    while k < rows.hit_count and rows.hits[k].place >> 32 == <uint64_t>row:
        if not is_empty:
            rows.elements[rows.count] = <int32_t>rows.hits[k].place
            memcpy(rows.values + rows.count * rows.itemsize, rows.hits[k].value, rows.itemsize)
            rows.count += 1
        k += 1
    rows.ends[first + row + 1] = <int64_t>rows.count
    return k
