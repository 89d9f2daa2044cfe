# Spans as OTLP protobuf (opentelemetry/proto/trace/v1/trace.proto), written straight from the record's frames.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t

from gateway._fast.record_frames cimport ExchangeFrame

cdef enum:
    SPAN_BYTES_MAX = 8192        # of one span; see span_of for the sum
    GROW_BYTES = 262144

cdef class SchemaPrefix:         # of one model version: what all its spans have in common, encoded
    cdef bytes encoded

cdef class SpanEncoder:
    # --- which traces are sampled
    cdef bint parent_decides     # a caller's sampled flag wins over what follows
    cdef uint64_t bound          # a trace is sampled if the low 64 bits of its id are below it ...
    cdef bint everything         # ... or always
    # --- encoded once
    cdef dict prefixes           # schema id -> SchemaPrefix
    cdef list rules              # bytes of the attribute, by number
    cdef list roles
    cdef list statuses           # attribute, and the span's status where it is an error
    cdef list protocols
    # --- the text being made
    cdef uint8_t* out            # owned: freed in __dealloc__
    cdef size_t size
    cdef size_t capacity

    cdef bint sampled(self, const ExchangeFrame* frame) noexcept
    cdef SchemaPrefix prefix_of(self, uint64_t schema_id, schemas)
    cdef int append(self, const ExchangeFrame* frame, SchemaPrefix prefix) except -1
    cdef uint8_t* span_of(self, uint8_t* out, const ExchangeFrame* frame, SchemaPrefix prefix) except NULL
    cdef bytes entry(self, list table, int index)
    cdef int make_room(self, size_t n) except -1
