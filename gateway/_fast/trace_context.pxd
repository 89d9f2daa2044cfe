# W3C Trace Context level 1 (www.w3.org/TR/trace-context-1 §3.2): the caller's trace that a request belongs to.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from gateway._fast.exchange cimport Exchange

# Fill trace_id, parent_span_id, trace_flags and `traced` from the value of a `traceparent` header. 0, or -1 with the
# exchange untouched if the value is not valid: the request then starts a trace of its own (§4.3).
cdef int read_traceparent(Exchange exchange, const uint8_t* value, size_t n) noexcept nogil
