"""Where a transport hands a request over."""
from gateway._fast.exchange cimport Exchange, ReplyPort, Span


cdef class ExchangeSink:
    cdef int submit(self, Exchange exchange) except -1:
        raise NotImplementedError

    cdef object lookup(self, Span model, Span version):
        raise NotImplementedError

    cdef int flush_soon(self, ReplyPort port) except -1:
        raise NotImplementedError

    def submit_for_test(self, Exchange exchange not None):
        """``submit`` as Python may call it."""
        self.submit(exchange)

    cdef int count_refusal(self, object error) except -1:
        return 0
