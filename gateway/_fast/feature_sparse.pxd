# The elements family once more, into the rows of a sparse matrix: what feature_elements writes, without the zeros.
from libc.math cimport NAN
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, int64_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy

from gateway._fast.exchange cimport Span
from gateway._fast.feature_elements cimport element
from gateway._fast.feature_program cimport (
    EMIT_HASHED, EMIT_HOT_CODES, EMIT_INTEGER, EMIT_NUMBER, EMIT_ONE_HOT, EMIT_SUMMED_CODES, EMIT_TERMS,
    FAILURE_MEMORY, FAILURE_NO_INT64, FAILURE_NONE, Block, Instruction, codes_of, fail, integers_at, numbers_at,
    texts_at,
)
from gateway._fast.feature_texts cimport fail_text
from gateway._fast.sparse_rows cimport SparseRows, make_sparse_room, order_hits, put_row, take_hit
from gateway._fast.text_arena cimport arena_take_words
from gateway._fast.text_terms cimport TermScratch, Weighing, vectorize


cdef inline void put(
    SparseRows* out, Block* block, const Instruction* step, int row, int64_t place, element value
) noexcept nogil:
    # NaN is no zero. Elements past those of the step before begin at its offset.
    if value == 0:
        return
    if not take_hit(out, row, step.offset + place, &value):
        fail(block, row, step.column, FAILURE_MEMORY)


cdef inline void put_terms(SparseRows* out, Block* block, const Instruction* step, element zero) noexcept nogil:
    cdef const Span* texts = texts_at(block, step.of)
    cdef TermScratch* scratch = &block.memory.terms
    cdef int64_t count, i
    cdef int row
    for row in range(block.rows):
        if texts[row].n == 0:
            continue
        count = vectorize(<const Weighing*>step.tool, &texts[row], scratch)
        if count < 0:
            fail_text(block, row, step.column, <int>-count)
        for i in range(count):
            put[element](out, block, step, row, scratch.columns[i], <element>scratch.values[i])


cdef inline int compare_codes(const void* one, const void* other) noexcept nogil:
    cdef int64_t a = (<const int64_t*>one)[0]
    cdef int64_t b = (<const int64_t*>other)[0]
    return (a > b) - (a < b)


cdef inline const int64_t* sorted_codes(Block* block, const Instruction* step, int row, Span codes) noexcept nogil:
    # A copy: other instructions read them as they came. NULL after a failure.
    cdef size_t size = codes.n * sizeof(int64_t)
    cdef void* copy = arena_take_words(&block.memory.arena, size)
    if copy == NULL:
        fail(block, row, step.column, FAILURE_MEMORY)
        return NULL
    memcpy(copy, codes.at, size)
    qsort(copy, codes.n, sizeof(int64_t), compare_codes)
    return <const int64_t*>copy


cdef inline void put_lists(SparseRows* out, Block* block, const Instruction* step, element zero) noexcept nogil:
    # Hot codes set their element once, however often they come; summed ones (place * 2, + 1 for a minus) add up.
    cdef const Span* lists = texts_at(block, step.of)
    cdef int shift = 1 if step.operation == EMIT_SUMMED_CODES else 0
    cdef const int64_t* codes
    cdef int64_t place, total
    cdef size_t k
    cdef int row
    for row in range(block.rows):
        codes = sorted_codes(block, step, row, lists[row]) if lists[row].n else NULL
        if codes == NULL:
            continue
        k = 0
        while k < lists[row].n:
            place = codes[k] >> shift
            total = 0
            while k < lists[row].n and codes[k] >> shift == place:
                total += -1 if shift and codes[k] & 1 else 1
                k += 1
            put[element](out, block, step, row, place, <element>(total if shift else 1))


cdef inline void put_numbers(SparseRows* out, Block* block, const Instruction* step, element zero) noexcept nogil:
    cdef const double* values = numbers_at(block, step.of)
    cdef int row
    for row in range(block.rows):
        put[element](out, block, step, row, 0, <element>values[row])


cdef inline void put_integers(SparseRows* out, Block* block, const Instruction* step, element zero) noexcept nogil:
    cdef const int64_t* values = integers_at(block, step.of)
    cdef int row
    for row in range(block.rows):
        if element is int64_t:
            put[element](out, block, step, row, 0, values[row])
            if values[row] == INT64_MIN:
                fail(block, row, step.column, FAILURE_NO_INT64)
        else:
            put[element](out, block, step, row, 0, <element>(NAN if values[row] == INT64_MIN else <double>values[row]))


cdef inline void put_codes(SparseRows* out, Block* block, const Instruction* step, element zero) noexcept nogil:
    # Of a one-hot, or of a hash: place * 2, + 1 for a minus.
    cdef const int64_t* codes = integers_at(block, step.of)
    cdef int row
    for row in range(block.rows):
        if codes[row] < 0:
            continue
        if step.operation == EMIT_ONE_HOT:
            put[element](out, block, step, row, codes[row], 1)
        else:
            put[element](out, block, step, row, codes[row] >> 1, -1 if codes[row] & 1 else 1)


cdef inline void run_sparse_elements(
    SparseRows* out, Block* block, const Instruction* step, element zero
) noexcept nogil:
    # `zero` is there for its type.
    cdef int operation = step.operation
    if operation == EMIT_NUMBER:
        if element is not int64_t:                   # the compiler lets no number into an int64 output
            put_numbers[element](out, block, step, zero)
    elif operation == EMIT_INTEGER:
        put_integers[element](out, block, step, zero)
    elif operation == EMIT_ONE_HOT or operation == EMIT_HASHED:
        put_codes[element](out, block, step, zero)
    elif operation == EMIT_TERMS:
        put_terms[element](out, block, step, zero)
    elif operation == EMIT_HOT_CODES or operation == EMIT_SUMMED_CODES:
        put_lists[element](out, block, step, zero)


cdef inline void end_sparse_block(SparseRows* out, Block* block) noexcept nogil:
    # Its rows behind those before; a failed row has no elements.
    cdef size_t k = 0
    cdef int row
    cdef bint has_room = make_sparse_room(out)
    order_hits(out)
    for row in range(block.rows):
        if not has_room:
            fail(block, row, 0, FAILURE_MEMORY)
        k = put_row(out, block.first, row, k, block.errors[row].kind != FAILURE_NONE)
    out.hit_count = 0
