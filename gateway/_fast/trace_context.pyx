"""W3C Trace Context: the caller's trace that a request belongs to."""
from libc.string cimport memcpy

from gateway._fast.exchange cimport Exchange

cdef enum:
    VERSION_00_BYTES = 55        # 00-<32 hex>-<16 hex>-<2 hex>
    FLAGS_KNOWN = 0x01           # sampled; the other bits mean nothing yet and are not passed on


cdef inline int hex_value(uint8_t c) noexcept nogil:
    # Lower case only: §3.2.2 takes no other.
    if <uint8_t>(c - c'0') < 10:
        return c - c'0'
    return c - c'a' + 10 if c'a' <= c <= c'f' else -1


cdef int read_hex(const uint8_t* text, int count, uint8_t* out) noexcept nogil:
    """``count`` bytes of two digits each. 1 if any is not zero, 0 if all are, -1 if they are no hexadecimal."""
    cdef int any_bit = 0
    cdef int i, value
    for i in range(count):
        value = hex_value(text[2 * i]) << 4 | hex_value(text[2 * i + 1])
        if value < 0:
            return -1
        out[i] = value
        any_bit |= value
    return any_bit != 0


cdef int read_traceparent(Exchange exchange, const uint8_t* value, size_t n) noexcept nogil:
    cdef uint8_t version
    cdef uint8_t flags
    cdef uint8_t trace_id[16]
    cdef uint8_t span_id[8]
    if n < VERSION_00_BYTES or value[2] != c'-' or value[35] != c'-' or value[52] != c'-':
        return -1
    if read_hex(value, 1, &version) < 0 or version == 0xFF:
        return -1
    # A higher version may go on, after another dash, with what we do not know (§4.2).
    if n > VERSION_00_BYTES and (version == 0 or value[VERSION_00_BYTES] != c'-'):
        return -1
    if read_hex(value + 3, 16, trace_id) <= 0 or read_hex(value + 36, 8, span_id) <= 0:
        return -1
    if read_hex(value + 53, 1, &flags) < 0:
        return -1
    memcpy(exchange.trace_id, trace_id, 16)
    memcpy(exchange.parent_span_id, span_id, 8)
    exchange.trace_flags = flags & FLAGS_KNOWN
    exchange.traced = True
    return 0


def traceparent_of(bytes value):
    """``(trace id, parent span id, flags)`` as a request with this header gets them; None if it is not valid."""
    cdef Exchange exchange = Exchange.new(None, None, 0)
    if read_traceparent(exchange, value, len(value)) < 0:
        return None
    return exchange.trace_id[:16], exchange.parent_span_id[:8], exchange.trace_flags
