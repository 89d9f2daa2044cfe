# The protobuf wire format, as inline pieces: a bounds-checked cursor to read with, sizes and puts to write with.
#
# Accepts and refuses what google.protobuf (upb) does: varints of at most 10 bytes, tags of at most 5, groups that
# close with their own number, at most WIRE_DEPTH levels deep, field number 0 never.
# Every take_* returns False on malformed bytes and then leaves the cursor anywhere inside its bounds.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from gateway._fast.exchange cimport Span

cdef enum WireType:
    WIRE_VARINT = 0
    WIRE_FIXED64 = 1
    WIRE_LENGTH = 2              # a varint length, then that many bytes
    WIRE_GROUP = 3
    WIRE_GROUP_END = 4
    WIRE_FIXED32 = 5

cdef enum:
    WIRE_DEPTH = 100             # messages and groups inside one another
    VARINT_BITS = 70             # ten bytes of seven bits
    TAG_BITS = 35                # five bytes of seven bits

cdef struct Cursor:
    const uint8_t* at            # borrowed, like every pointer here: whoever owns the message keeps it alive
    const uint8_t* end


# Reading.


cdef inline Cursor cursor_over(Span block) noexcept nogil:
    cdef Cursor cursor
    cursor.at = block.at
    cursor.end = block.at + block.n
    return cursor


cdef inline bint take_long_varint(Cursor* cursor, uint64_t* value, int bits) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint8_t byte
    cdef int shift = 0
    while shift < bits:
        if cursor.at == cursor.end:
            return False
        byte = cursor.at[0]
        cursor.at += 1
        total |= <uint64_t>(byte & 0x7F) << shift    # the tenth byte's upper bits fall off, as in upb
        if byte < 0x80:
            value[0] = total
            return True
        shift += 7
    return False


cdef inline bint take_varint(Cursor* cursor, uint64_t* value) noexcept nogil:
    if cursor.at != cursor.end and cursor.at[0] < 0x80:
        value[0] = cursor.at[0]
        cursor.at += 1
        return True
    return take_long_varint(cursor, value, VARINT_BITS)


# Field number and wire type in one word, as they stand in the tag.
cdef inline bint take_tag(Cursor* cursor, uint32_t* tag) noexcept nogil:
    cdef uint64_t value
    if cursor.at != cursor.end and cursor.at[0] < 0x80:
        value = cursor.at[0]
        cursor.at += 1
    elif not take_long_varint(cursor, &value, TAG_BITS) or value > 0xFFFFFFFFULL:
        return False
    tag[0] = <uint32_t>value
    return value >= 8                                # below: field number 0


cdef inline bint take_bytes(Cursor* cursor, size_t n, Span* block) noexcept nogil:
    if <size_t>(cursor.end - cursor.at) < n:
        return False
    block.at = cursor.at
    block.n = n
    cursor.at += n
    return True


cdef inline bint take_block(Cursor* cursor, Span* block) noexcept nogil:
    cdef uint64_t n
    return take_varint(cursor, &n) and take_bytes(cursor, n, block)


cdef inline bint take_text(Cursor* cursor, Span* text) noexcept nogil:
    return take_block(cursor, text) and is_utf8(text[0])


# Step over the value of a field that is not known here (or known with another wire type).
cdef inline bint skip_value(Cursor* cursor, uint32_t tag, int depth) noexcept nogil:
    cdef uint64_t ignored
    cdef Span block
    if (tag & 7) == WIRE_VARINT:
        return take_varint(cursor, &ignored)
    elif (tag & 7) == WIRE_FIXED64:
        return take_bytes(cursor, 8, &block)
    elif (tag & 7) == WIRE_LENGTH:
        return take_block(cursor, &block)
    elif (tag & 7) == WIRE_FIXED32:
        return take_bytes(cursor, 4, &block)
    elif (tag & 7) == WIRE_GROUP:
        return skip_group(cursor, tag >> 3, depth)
    return False                                     # a group's end without its start, or wire types 6 and 7


# Step over a group that has just been opened; `depth` levels may still be opened, this one included.
cdef inline bint skip_group(Cursor* cursor, uint32_t number, int depth) noexcept nogil:
    cdef uint32_t[WIRE_DEPTH] opened                 # field numbers of the groups we are in
    cdef int level = 0
    cdef uint32_t tag
    if depth < 1:
        return False
    opened[0] = number
    while level >= 0:
        if not take_tag(cursor, &tag):
            return False
        if (tag & 7) == WIRE_GROUP_END:
            if tag >> 3 != opened[level]:
                return False
            level -= 1
        elif (tag & 7) == WIRE_GROUP:
            level += 1
            if level >= depth:
                return False
            opened[level] = tag >> 3
        elif not skip_value(cursor, tag, 0):
            return False
    return True


cdef inline bint is_utf8(Span text) noexcept nogil:
    cdef const uint8_t* at = text.at
    cdef const uint8_t* end = text.at + text.n
    cdef uint64_t word
    while end - at >= 8:
        memcpy(&word, at, 8)
        if word & 0x8080808080808080ULL:
            break
        at += 8
    while at < end:
        if at[0] >= 0x80:
            return is_utf8_beyond_ascii(at, end)
        at += 1
    return True


# RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
cdef inline bint is_utf8_beyond_ascii(const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef uint8_t lead, low, high
    cdef int following
    while at < end:
        lead = at[0]
        at += 1
        if lead < 0x80:
            continue
        low = 0x80
        high = 0xBF
        if 0xC2 <= lead <= 0xDF:
            following = 1
        elif 0xE0 <= lead <= 0xEF:
            following = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif 0xF0 <= lead <= 0xF4:
            following = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            return False
        if end - at < following or not low <= at[0] <= high:
            return False
        at += 1
        following -= 1
        while following:
            if not 0x80 <= at[0] <= 0xBF:
                return False
            at += 1
            following -= 1
    return True


# Writing. The caller has sized the buffer; put_* return the place after what they wrote.


cdef inline size_t varint_size(uint64_t value) noexcept nogil:
    cdef size_t n = 1
    while value >= 0x80:
        value >>= 7
        n += 1
    return n


cdef inline uint8_t* put_varint(uint8_t* out, uint64_t value) noexcept nogil:
    while value >= 0x80:
        out[0] = <uint8_t>(value | 0x80)
        out += 1
        value >>= 7
    out[0] = <uint8_t>value
    return out + 1


cdef inline uint8_t* put_bytes(uint8_t* out, const void* data, size_t n) noexcept nogil:
    if n:                                            # data may be NULL then
        memcpy(out, data, n)
    return out + n


# Size of a length-delimited field with a one-byte tag (field numbers below 16).
cdef inline size_t block_size(size_t n) noexcept nogil:
    return 1 + varint_size(n) + n


cdef inline uint8_t* put_block_head(uint8_t* out, uint8_t tag, size_t n) noexcept nogil:
    out[0] = tag
    return put_varint(out + 1, n)
