# The loops of the categories family: values to their codes. See feature_program for what each does.
from libc.math cimport NAN, isnan
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint32_t

from gateway._fast.category_table cimport (
    find_integer_or_bucket, find_number, find_text, find_text_or_bucket, hashed_bucket, key_of_double, write_decimal,
)
from gateway._fast.exchange cimport Span
from gateway._fast.feature_program cimport (
    CODE_ERROR, FAILURE_MEMORY, FAILURE_MISSING, FAILURE_UNSEEN, OP_CODE_NUMBER, OP_HAS_CODE,
    OP_HASH_INTEGER, OP_HASH_LIST, OP_HASH_TEXT, OP_ID_INTEGER, OP_ID_TEXT, OP_LOOKUP_INTEGER, OP_LOOKUP_LIST,
    OP_LOOKUP_NUMBER, OP_LOOKUP_TEXT, Block, Instruction, codes_of, fail, integers_at, numbers_at, texts_at, texts_of,
)
from gateway._fast.text_arena cimport arena_take_words


cdef inline int64_t checked_code(
    Block* block, const Instruction* step, int row, int64_t code, bint missing
) noexcept nogil:
    # CODE_ERROR fails the row, as missing or as unseen.
    if code == CODE_ERROR:
        fail(block, row, step.column, FAILURE_MISSING if missing else FAILURE_UNSEEN)
    return code


cdef inline int64_t step_bucket(const Instruction* step, const uint8_t* at, size_t n) noexcept nogil:
    return hashed_bucket(at, n, <uint32_t>step.i, <uint32_t>step.j, step.a != 0.0)


cdef inline Span list_codes(Block* block, const Instruction* step, int row, Span texts) noexcept nogil:
    # The codes of a list's texts.
    cdef int64_t* codes = <int64_t*>arena_take_words(&block.memory.arena, texts.n * sizeof(int64_t)) if texts.n else NULL
    cdef int64_t code
    cdef size_t k
    cdef Span found
    found.at = <const uint8_t*>codes
    found.n = 0
    if texts.n and codes == NULL:
        fail(block, row, step.column, FAILURE_MEMORY)
        return found
    if texts.n == 0:
        checked_code(block, step, row, step.j, True)
    for k in range(texts.n):
        code = checked_code(block, step, row, find_text(step.table, &texts_of(&texts)[k], step.i), False)
        if code >= 0:
            codes[found.n] = code
            found.n += 1
    return found


cdef inline Span list_buckets(Block* block, const Instruction* step, int row, Span texts) noexcept nogil:
    # The buckets of a list's texts.
    cdef int64_t* codes = <int64_t*>arena_take_words(&block.memory.arena, texts.n * sizeof(int64_t)) if texts.n else NULL
    cdef const Span* text
    cdef size_t k
    cdef Span found
    found.at = <const uint8_t*>codes
    found.n = 0
    if texts.n and codes == NULL:
        fail(block, row, step.column, FAILURE_MEMORY)
        return found
    for k in range(texts.n):
        text = &texts_of(&texts)[k]
        codes[k] = step_bucket(step, text.at, text.n)
    found.n = texts.n
    return found


cdef inline int64_t has_code(const Span* codes, int64_t code) noexcept nogil:
    cdef size_t k
    for k in range(codes.n):
        if codes_of(codes)[k] == code:
            return 1
    return 0


cdef inline void run_lists(Block* block, const Instruction* step) noexcept nogil:
    # Those of the family that take a list or give one.
    cdef const Span* x = texts_at(block, step.of)
    cdef Span* to = texts_at(block, step.to)
    cdef int64_t* whole = integers_at(block, step.to)
    cdef int row
    if step.operation == OP_LOOKUP_LIST:
        for row in range(block.rows):
            to[row] = list_codes(block, step, row, x[row])
    elif step.operation == OP_HASH_LIST:
        for row in range(block.rows):
            to[row] = list_buckets(block, step, row, x[row])
    elif step.operation == OP_HAS_CODE:
        for row in range(block.rows):
            whole[row] = has_code(&x[row], step.i)


cdef inline void run_categories(Block* block, const Instruction* step) noexcept nogil:
    cdef int operation = step.operation
    cdef const double* x = numbers_at(block, step.of)
    cdef const int64_t* n = integers_at(block, step.of)
    cdef const Span* texts = texts_at(block, step.of)
    cdef int64_t* to = integers_at(block, step.to)
    cdef double* number = numbers_at(block, step.to)
    cdef uint8_t[20] decimal
    cdef bint missing
    cdef int row
    if operation == OP_LOOKUP_TEXT:
        for row in range(block.rows):
            missing = texts[row].n == 0
            to[row] = checked_code(
                block, step, row, step.j if missing else find_text(step.table, &texts[row], step.i), missing
            )
    elif operation == OP_LOOKUP_INTEGER:
        for row in range(block.rows):
            missing = n[row] == INT64_MIN
            to[row] = checked_code(
                block, step, row, step.j if missing else find_number(step.table, n[row], step.i), missing
            )
    elif operation == OP_LOOKUP_NUMBER:
        for row in range(block.rows):
            missing = isnan(x[row])
            to[row] = checked_code(
                block, step, row,
                step.j if missing else find_number(step.table, key_of_double(x[row]), step.i), missing,
            )
    elif operation == OP_HASH_TEXT:
        for row in range(block.rows):
            to[row] = step_bucket(step, texts[row].at, texts[row].n) if texts[row].n else INT64_MIN
    elif operation == OP_HASH_INTEGER:
        for row in range(block.rows):
            to[row] = n[row]
            if n[row] != INT64_MIN:
                to[row] = step_bucket(step, decimal, write_decimal(n[row], decimal))
    elif operation == OP_CODE_NUMBER:
        for row in range(block.rows):
            number[row] = step.constants[n[row]] if 0 <= n[row] < step.length else NAN
    elif operation == OP_ID_TEXT:
        for row in range(block.rows):
            missing = texts[row].n == 0
            to[row] = checked_code(
                block, step, row,
                step.j if missing else find_text_or_bucket(step.table, &texts[row], step.i, <uint32_t>step.length), missing,
            )
    elif operation == OP_ID_INTEGER:
        for row in range(block.rows):
            missing = n[row] == INT64_MIN
            to[row] = checked_code(
                block, step, row,
                step.j if missing else find_integer_or_bucket(step.table, n[row], step.i, <uint32_t>step.length), missing,
            )
    else:
        run_lists(block, step)
