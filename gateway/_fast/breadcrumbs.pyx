"""Breadcrumbs: whom to suspect when native code takes the process down."""
cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.string cimport memcpy

from gateway._fast.exchange cimport ID_BYTES, Exchange
from gateway._fast.key_hash cimport key_hash

# The supervisor reads these stores after our death, from the same memory: the compiler alone could reorder them.
cdef extern from *:
    """
    #define COMPILER_FENCE() __atomic_signal_fence(__ATOMIC_SEQ_CST)
    """
    void COMPILER_FENCE() noexcept nogil


@cython.final
cdef class Breadcrumbs:

    def __init__(self, memory, size_t offset):
        cdef Py_buffer buffer
        cdef size_t needed = offset + LANES * CRUMB_BYTES
        PyObject_GetBuffer(memory, &buffer, PyBUF_WRITABLE)
        cdef size_t size = <size_t>buffer.len
        cdef uint8_t* base = <uint8_t*>buffer.buf
        PyBuffer_Release(&buffer)
        if offset % 8 or size < needed:
            raise ValueError(f"no breadcrumbs at offset {offset} of {size} bytes")
        self.memory = memory
        self.crumbs = base + offset

    cpdef int enter(self, int lane, str model, str version, int64_t rows, list exchanges) except -1:
        cdef Crumb* crumb = self.crumb(lane)
        cdef Exchange exchange
        cdef CrumbRequest* request
        cdef Py_ssize_t listed = min(<Py_ssize_t>CRUMB_REQUESTS, len(exchanges))
        cdef Py_ssize_t n
        crumb.requests = 0
        COMPILER_FENCE()
        crumb.rows = <uint64_t>rows
        crumb.model_bytes = copy_text(crumb.model, MODEL_BYTES, model)
        crumb.version_bytes = copy_text(crumb.version, VERSION_BYTES, version)
        crumb.listed = <uint32_t>listed
        for n in range(listed):
            exchange = <Exchange?>exchanges[n]
            request = &crumb.request[n]
            memcpy(request.prediction_id, exchange.prediction_id, ID_BYTES)
            request.fingerprint = 0 if exchange.body == NULL else key_hash(
                exchange.body, min(exchange.body_size, <size_t>FINGERPRINT_PREFIX), exchange.body_size)
        COMPILER_FENCE()
        crumb.requests = <uint64_t>len(exchanges)
        return 0

    cpdef void leave(self, int lane) noexcept:
        COMPILER_FENCE()
        self.crumb(lane).requests = 0

    cdef Crumb* crumb(self, int lane) noexcept:
        if lane < 0 or lane >= LANES:
            lane = LANES - 1
        return <Crumb*>(self.crumbs + lane * CRUMB_BYTES)


cdef uint16_t copy_text(uint8_t* to, Py_ssize_t room, str text) except? 0xFFFF:
    cdef Py_ssize_t n
    cdef const char* utf8 = PyUnicode_AsUTF8AndSize(text, &n)
    n = min(n, room)
    memcpy(to, utf8, <size_t>n)
    return <uint16_t>n
