# gRPC over HTTP/2 on one connection: nghttp2 does framing, HPACK and flow control; gRPC's thin layer is ours
# (gRPC over HTTP/2, github.com/grpc/grpc doc/PROTOCOL-HTTP2.md).
from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from gateway._fast.exchange cimport Dialect, Exchange, ReplyPort
from gateway._fast.exchange_sink cimport ExchangeSink
from gateway._fast.nghttp2 cimport nghttp2_nv, nghttp2_session

cdef enum CallKind:
    CALL_NONE = 0            # no :path seen yet
    CALL_INFER = 1           # ModelInfer: parsed, queued and answered without Python code per request
    CALL_OTHER = 2           # a path for H2Service.call

cdef enum MessageEncoding:
    ENCODING_IDENTITY = 0
    ENCODING_GZIP = 1
    ENCODING_DEFLATE = 2
    ENCODING_UNKNOWN = 3

cdef struct H2Stream:
    H2Stream* previous       # list of the connection's open streams, for connection_lost
    H2Stream* next
    PyObject* exchange       # strong: taken in on_begin_headers, released in drop_stream
    int32_t id
    CallKind call
    MessageEncoding encoding
    bint is_post
    bint is_grpc             # content-type application/grpc, +proto, ;charset …
    bint answered            # submit_response was called: a second call could crash the library
    bint reply_ended         # our END_STREAM was sent
    uint8_t prefix[5]        # the message prefix as far as received
    int prefix_size
    size_t message_size      # as the prefix says
    size_t header_bytes      # names + values + 32 each (RFC 9113 §6.5.2), as decoded
    size_t sent              # reply bytes given to nghttp2
    char prediction_id[36]   # text form, for the trailer; lives as long as the stream

cdef class H2Service:
    # What all gRPC connections of a worker share. Limits are set once, before the first connection.
    cdef object loop
    cdef ExchangeSink sink
    cdef Dialect dialect
    cdef object call                 # (path: str, message: bytes) -> bytes; raises GatewayError
    cdef dict grpc_status            # error code -> gRPC status number
    cdef public size_t message_limit         # bytes of one message, inflated
    cdef public size_t memory_limit          # bytes all exchanges may hold together
    cdef public uint32_t stream_limit        # concurrent streams a connection
    cdef public size_t header_limit          # bytes of one header list
    cdef public set connections              # open H2Connections, for drain and the sweep
    cdef public bint draining
    cdef uint8_t* out                # owned: freed in __dealloc__; scratch of one flush, never kept across calls
    cdef size_t out_capacity

    cdef int reserve_out(self, size_t n) except -1

cdef class H2Connection(ReplyPort):
    # Made by a listener, used by uvloop as a Protocol. All on the loop thread.
    cdef nghttp2_session* session    # owned: deleted in connection_lost
    cdef H2Service service
    cdef object transport
    cdef H2Stream* streams           # owned list
    cdef readonly int in_flight      # exchanges handed to the sink and not yet answered; a reset does not lower it
    cdef readonly bint writing_paused
    cdef bint closing                # GOAWAY sent; closed when in_flight is 0
    cdef bint receiving              # inside mem_recv: submit only, pump later
    cdef object callback_error       # exception raised in a callback; raised again after mem_recv
    cdef double control_tokens       # budget of frames that are cheap to send and carry no call
    cdef int64_t tokens_ns           # when it was last refilled
    cdef int64_t received_ns         # monotonic time of the read being handled
    cdef int64_t received_unix_ns
    cdef public int64_t progress_ns  # last time bytes moved; the sweep closes what is stuck

    cdef int begin_stream(self, int32_t stream_id) except -1
    cdef int take_header(self, H2Stream* stream, const uint8_t* name, size_t name_size,
                         const uint8_t* value, size_t value_size) except -1
    cdef int headers_done(self, H2Stream* stream) except -1
    cdef int take_data(self, H2Stream* stream, const uint8_t* data, size_t n) except -1
    cdef int request_done(self, H2Stream* stream) except -1
    cdef int hand_over(self, H2Stream* stream, Exchange exchange) except -1
    cdef int inflate_message(self, H2Stream* stream, Exchange exchange) except -1
    cdef int answer_call(self, H2Stream* stream, Exchange exchange) except -1
    cdef int answer_ok(self, H2Stream* stream, Exchange exchange) except -1
    cdef int answer_error(self, H2Stream* stream, Exchange exchange, object error) except -1
    cdef int answer_http_status(self, H2Stream* stream, bytes status) except -1
    cdef int charge_control_frame(self) except -1
    cdef int drop_stream(self, H2Stream* stream, bint cancelled) except -1
    cdef int pump(self) except -1
