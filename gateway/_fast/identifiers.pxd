# Prediction ids (UUIDv7, RFC 9562 §5.7) and W3C trace and span ids. One generator a process, loop thread only.
from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef class IdGenerator:
    cdef uint64_t state[2]           # xorshift128+; seeded from os.urandom
    cdef uint64_t last_ms            # never goes back, whatever the wall clock does
    cdef uint64_t sequence   # rand_a: 12 bits counting within the millisecond

    cdef uint64_t random(self) noexcept nogil
    # Write a UUIDv7 of `unix_ns`; greater than every one written before in this process.
    cdef void write_prediction_id(self, uint8_t* out, int64_t unix_ns) noexcept nogil
    # 16 / 8 random bytes, never all zero (W3C trace context §3.2.2).
    cdef void write_trace_id(self, uint8_t* out) noexcept nogil
    cdef void write_span_id(self, uint8_t* out) noexcept nogil

# The 36-character text form of 16 bytes; no terminating NUL.
cdef void write_uuid_text(char* out, const uint8_t* id) noexcept nogil
