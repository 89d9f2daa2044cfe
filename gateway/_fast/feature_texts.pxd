# The loops of the texts family. See feature_program for what each does.
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, int32_t, int64_t, uint8_t
from libc.string cimport memchr, memcmp

from gateway._fast.exchange cimport Span
from gateway._fast.feature_program cimport (
    FAILURE_LONG_LIST, FAILURE_MEMORY, FAILURE_NONE, FAILURE_NOT_UTF8, FAILURE_PATTERN, FAILURE_TEXT_SIZE,
    LIST_TEXTS_MAX, OP_EXTRACT_TEXT, OP_FILL_TEXT, OP_MAP_TEXT, OP_REPLACE_TEXT, OP_SPLIT, OP_STRIP_TEXT,
    OP_TEXT_LENGTH, OP_TEXT_MISSING, Block, Instruction, fail, integers_at, texts_at,
)
from gateway._fast.text_arena cimport Arena, arena_take_words
from gateway._fast.text_pattern cimport Pattern, extract_text
from gateway._fast.unicode_text cimport (
    TEXT_NO_MEMORY, TEXT_NOT_UTF8, TEXT_OK, TEXT_TOO_LONG, CharacterTable, map_text, replace_text, strip_text,
    text_length,
)


cdef inline void fail_text(Block* block, int row, int32_t column, int status) noexcept nogil:
    # `status`: a TextStatus other than TEXT_OK.
    if status == TEXT_NOT_UTF8:
        fail(block, row, column, FAILURE_NOT_UTF8)
    elif status == TEXT_TOO_LONG:
        fail(block, row, column, FAILURE_TEXT_SIZE)
    elif status == TEXT_NO_MEMORY:
        fail(block, row, column, FAILURE_MEMORY)
    else:
        fail(block, row, column, FAILURE_PATTERN)


cdef inline int change_text(Block* block, const Instruction* step, const Span* x, Span* to) noexcept nogil:
    # One text, not empty, through the instruction. TextStatus.
    cdef Span old
    cdef Span new
    if step.operation == OP_MAP_TEXT:
        return map_text(<const CharacterTable*>step.tool, x, &block.memory.arena, to)
    if step.operation == OP_STRIP_TEXT:
        return strip_text(<const CharacterTable*>step.tool, &step.text if step.i else NULL, x, to)
    if step.operation == OP_EXTRACT_TEXT:
        return extract_text(<const Pattern*>step.tool, x, &block.memory.terms.pattern, to)
    old.at = step.text.at
    old.n = step.i
    new.at = step.text.at + step.i
    new.n = step.text.n - step.i
    return replace_text(&old, &new, x, &block.memory.arena, to)


cdef inline Span next_piece(Span* rest, const Span* separator) noexcept nogil:
    # The text up to the separator, or to the end; `rest` becomes what is behind it, rest.at NULL where nothing is.
    cdef const uint8_t* end = rest.at + rest.n
    cdef const uint8_t* found = rest.at
    cdef Span piece = rest[0]
    while <size_t>(end - found) >= separator.n:
        found = <const uint8_t*>memchr(found, separator.at[0], <size_t>(end - found) - separator.n + 1)
        if found == NULL:
            break
        if memcmp(found, separator.at, separator.n) == 0:
            piece.n = <size_t>(found - rest.at)
            rest.at = found + separator.n
            rest.n = <size_t>(end - rest.at)
            return piece
        found += 1
    rest.at = NULL
    return piece


cdef inline size_t pieces_in(Span rest, const Span* separator) noexcept nogil:
    # Those that are not empty.
    cdef size_t count = 0
    while rest.at != NULL:
        if next_piece(&rest, separator).n:
            count += 1
    return count


cdef inline int split_text(Span rest, const Span* separator, Arena* arena, Span* to) noexcept nogil:
    # A Failure; the list is empty then.
    cdef size_t count = pieces_in(rest, separator)
    cdef Span* texts
    cdef Span piece
    to.at = NULL
    to.n = 0
    if count == 0:
        return FAILURE_NONE
    if count > LIST_TEXTS_MAX:
        return FAILURE_LONG_LIST
    texts = <Span*>arena_take_words(arena, count * sizeof(Span))
    if texts == NULL:
        return FAILURE_MEMORY
    to.at = <const uint8_t*>texts
    to.n = count
    while rest.at != NULL:
        piece = next_piece(&rest, separator)
        if piece.n:
            texts[0] = piece
            texts += 1
    return FAILURE_NONE


cdef inline void run_texts(Block* block, const Instruction* step) noexcept nogil:
    cdef int operation = step.operation
    cdef const Span* x = texts_at(block, step.of)
    cdef Span* to = texts_at(block, step.to)
    cdef int64_t* whole = integers_at(block, step.to)
    cdef Span changed
    cdef int64_t length
    cdef int failure, status, row
    if operation == OP_FILL_TEXT:
        for row in range(block.rows):
            to[row] = x[row] if x[row].n else step.text
    elif operation == OP_TEXT_MISSING:
        for row in range(block.rows):
            whole[row] = 1 if x[row].n == 0 else 0
    elif operation == OP_TEXT_LENGTH:
        for row in range(block.rows):
            status = text_length(&x[row], &length)
            whole[row] = length if x[row].n and status == TEXT_OK else INT64_MIN
            if status != TEXT_OK:
                fail_text(block, row, step.column, status)
    elif operation == OP_SPLIT:
        for row in range(block.rows):
            failure = split_text(x[row], &step.text, &block.memory.arena, &to[row])
            if failure != FAILURE_NONE:
                fail(block, row, step.column, failure)
    else:
        for row in range(block.rows):
            changed = x[row]
            status = change_text(block, step, &x[row], &changed) if x[row].n else TEXT_OK
            if status != TEXT_OK:
                fail_text(block, row, step.column, status)
                changed.n = 0
            to[row] = changed
