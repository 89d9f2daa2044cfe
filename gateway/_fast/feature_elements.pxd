# The elements family: registers to elements of an output, rounded once into its data type.
from libc.math cimport NAN
from libc.stdint cimport INT64_MIN, int32_t, int64_t

from gateway._fast.exchange cimport Span
from gateway._fast.feature_program cimport (
    EMIT_HASHED, EMIT_HOT_CODES, EMIT_INTEGER, EMIT_NUMBER, EMIT_ONE_HOT, EMIT_SUMMED_CODES, EMIT_TERMS,
    FAILURE_NO_INT64, FAILURE_NOT_UTF8, Block, Instruction, codes_of, fail, integers_at, numbers_at, texts_at,
)
from gateway._fast.feature_texts cimport fail_text
from gateway._fast.protobuf_wire cimport is_utf8
from gateway._fast.text_terms cimport TermScratch, Weighing, vectorize

ctypedef fused element:
    float
    double
    int64_t


cdef inline void emit_numbers(element* out, int64_t width, int rows, const double* values) noexcept nogil:
    cdef int row
    for row in range(rows):
        out[row * width] = <element>values[row]


cdef inline void emit_integers(
    element* out, int64_t width, Block* block, int32_t column, const int64_t* values
) noexcept nogil:
    cdef int row
    for row in range(block.rows):
        if element is int64_t:
            out[row * width] = values[row]
            if values[row] == INT64_MIN:
                fail(block, row, column, FAILURE_NO_INT64)
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


cdef inline void emit_terms(element* out, int64_t width, Block* block, const Instruction* step) noexcept nogil:
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
            out[row * width + scratch.columns[i]] = <element>scratch.values[i]


cdef inline void emit_hot_codes(element* out, int64_t width, int rows, const Span* lists) noexcept nogil:
    cdef size_t k
    cdef int row
    for row in range(rows):
        for k in range(lists[row].n):
            out[row * width + codes_of(&lists[row])[k]] = 1


cdef inline void emit_summed_codes(element* out, int64_t width, int rows, const Span* lists) noexcept nogil:
    cdef int64_t code
    cdef size_t k
    cdef int row
    for row in range(rows):
        for k in range(lists[row].n):
            code = codes_of(&lists[row])[k]
            out[row * width + (code >> 1)] += -1 if code & 1 else 1


cdef inline void emit_texts(Span* out, int64_t width, Block* block, const Instruction* step) noexcept nogil:
    # A text goes on as it lies: in the request, the plan or the arena. Whoever takes it out makes characters of it.
    cdef const Span* texts = texts_at(block, step.of)
    cdef int row
    out += block.first * width + step.offset
    for row in range(block.rows):
        out[row * width] = texts[row]
        if not is_utf8(texts[row]):
            out[row * width].n = 0
            fail(block, row, step.column, FAILURE_NOT_UTF8)


cdef inline void run_elements(element* out, int64_t width, Block* block, const Instruction* step) noexcept nogil:
    # `out`: the output's first element; `width`: elements of one of its rows.
    cdef int operation = step.operation
    out += block.first * width + step.offset
    if operation == EMIT_NUMBER:
        if element is not int64_t:                   # the compiler lets no number into an int64 output
            emit_numbers(out, width, block.rows, numbers_at(block, step.of))
    elif operation == EMIT_INTEGER:
        emit_integers(out, width, block, step.column, integers_at(block, step.of))
    elif operation == EMIT_ONE_HOT:
        emit_one_hot(out, width, block.rows, integers_at(block, step.of))
    elif operation == EMIT_HASHED:
        emit_hashed(out, width, block.rows, integers_at(block, step.of))
    elif operation == EMIT_TERMS:
        emit_terms(out, width, block, step)
    elif operation == EMIT_HOT_CODES:
        emit_hot_codes(out, width, block.rows, texts_at(block, step.of))
    elif operation == EMIT_SUMMED_CODES:
        emit_summed_codes(out, width, block.rows, texts_at(block, step.of))
