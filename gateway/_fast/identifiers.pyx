"""Prediction ids (UUIDv7) and trace ids, without Python objects."""
import os

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef char[512] HEX_PAIRS             # two digits for each byte
for _byte in range(256):
    HEX_PAIRS[2 * _byte], HEX_PAIRS[2 * _byte + 1] = b"%02x" % _byte


cdef class IdGenerator:
    def __init__(self, bytes seed=None):
        """``seed``: 16 bytes, for tests; otherwise from the operating system."""
        seed = os.urandom(16) if seed is None else seed
        if len(seed) != 16:
            raise ValueError(f"a seed is 16 bytes, got {len(seed)}")
        memcpy(self.state, <const char*>seed, 16)
        if self.state[0] == 0 and self.state[1] == 0:
            self.state[0] = 1

    cdef uint64_t random(self) noexcept nogil:
        # xorshift128+ (Vigna 2017, doi:10.1016/j.cam.2016.11.006): unique, not secret
        cdef uint64_t x = self.state[0]
        cdef uint64_t y = self.state[1]
        self.state[0] = y
        x ^= x << 23
        self.state[1] = x ^ y ^ (x >> 17) ^ (y >> 26)
        return self.state[1] + y

    cdef void write_prediction_id(self, uint8_t* out, int64_t unix_ns) noexcept nogil:
        cdef uint64_t ms = <uint64_t>(unix_ns // 1000000)
        cdef uint64_t tail = self.random()
        cdef int i
        if ms > self.last_ms:
            self.last_ms = ms
            self.sequence = tail & 0x7FF          # starts in the lower half, so that it can count
            tail = self.random()
        else:
            self.sequence += 1
            if self.sequence > 0xFFF:             # over 2,048 ids in a millisecond: borrow from the next
                self.last_ms += 1
                self.sequence = 0
        for i in range(6):
            out[i] = <uint8_t>(self.last_ms >> (40 - 8 * i))
        out[6] = <uint8_t>(0x70 | (self.sequence >> 8))
        out[7] = <uint8_t>(self.sequence & 0xFF)
        memcpy(out + 8, &tail, 8)
        out[8] = (out[8] & 0x3F) | 0x80

    cdef void write_trace_id(self, uint8_t* out) noexcept nogil:
        cdef uint64_t words[2]
        words[0] = self.random() | 1
        words[1] = self.random()
        memcpy(out, words, 16)

    cdef void write_span_id(self, uint8_t* out) noexcept nogil:
        cdef uint64_t word = self.random() | 1
        memcpy(out, &word, 8)

    def prediction_id(self, int64_t unix_ns):
        """A new prediction id as text."""
        cdef uint8_t raw[16]
        cdef char text[36]
        self.write_prediction_id(raw, unix_ns)
        write_uuid_text(text, raw)
        return text[:36].decode()

    def trace_ids_for_test(self):
        """A new trace id and a new span id."""
        cdef uint8_t trace[16]
        cdef uint8_t span[8]
        self.write_trace_id(trace)
        self.write_span_id(span)
        return trace[:16], span[:8]


cdef inline char* write_hex(char* out, const uint8_t* at, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        memcpy(out, &HEX_PAIRS[2 * at[i]], 2)
        out += 2
    return out


cdef void write_uuid_text(char* out, const uint8_t* id) noexcept nogil:
    # 8-4-4-4-12 digits
    out = write_hex(out, id, 4)
    out[0] = c"-"
    out = write_hex(out + 1, id + 4, 2)
    out[0] = c"-"
    out = write_hex(out + 1, id + 6, 2)
    out[0] = c"-"
    out = write_hex(out + 1, id + 8, 2)
    out[0] = c"-"
    write_hex(out + 1, id + 10, 6)
