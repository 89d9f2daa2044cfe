# Where a transport hands a request over: the pipeline in a worker, a stand-in in tests.
from gateway._fast.exchange cimport Exchange, ReplyPort, Span

cdef class ExchangeSink:
    # Take the exchange: received whole, not yet scanned by its dialect (the sink does that, here or on a lane), or
    # failed (error set). From here on it is the sink's. Its port gets exactly one send_reply, in this call or later
    # on the loop thread, and a flush at the end of that tick.
    cdef int submit(self, Exchange exchange) except -1
    # The InputTable (tensor_binding) of the version that a request for `model` would be decoded against: the version
    # asked for, or the model's default. None if there is no such model or version.
    cdef object lookup(self, Span model, Span version)
    # Flush `port` once at the end of this tick, whatever else is queued for it until then.
    cdef int flush_soon(self, ReplyPort port) except -1
    # A request was refused by its transport before it was known what it wanted: counted by the error's code, not
    # recorded. Does nothing unless the sink counts.
    cdef int count_refusal(self, object error) except -1
