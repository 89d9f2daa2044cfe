# The port of one call of the oracle transport: a coroutine of gRPC's own server waits for the reply.
from gateway._fast.exchange cimport Exchange, ReplyPort

cdef class FuturePort(ReplyPort):
    cdef readonly object future      # resolves to (message, GatewayError | None, trailers)
    cdef Exchange exchange           # from submit until the reply or cancel; None otherwise
