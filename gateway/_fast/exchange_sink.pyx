"""Where a transport hands a request over."""
from gateway._fast.exchange cimport Exchange, ReplyPort, Span


cdef class ExchangeSink:
    cdef int submit(self, Exchange exchange) except -1:
        raise NotImplementedError

    cdef object lookup(self, Span model, Span version):
        raise NotImplementedError

    cdef int flush_soon(self, ReplyPort port) except -1:
        raise NotImplementedError
