"""gRPC over HTTP/2 on one connection, as a uvloop protocol over nghttp2.

Rules of the library that shape this file: never receive or send from inside a callback (submit there, pump after);
`submit_response` once a stream; one `transport.write` for all frames of a flush, because uvloop writes to the socket
on every call.
"""
import zlib

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy

from gateway._fast.clock cimport monotonic_ns, wall_ns
from gateway._fast.exchange cimport (
    RELEASED, Exchange, Span, bytes_held,
)
from gateway._fast.identifiers cimport write_uuid_text
from gateway._fast.nghttp2 cimport *
from gateway._fast.trace_context cimport read_traceparent

from gateway.core.errors import (
    GatewayError, InternalError, MethodUnimplemented, Overloaded, PayloadTooLarge, TransportViolation,
)

cdef enum:
    PREFIX_BYTES = 5                  # compressed flag, big-endian length
    BODY_START_BYTES = 16384          # room made at once; more only as bytes really arrive
    FLUSH_BYTES = 262144              # most bytes given to one transport.write
    CONNECTION_WINDOW = 16777216
    STREAM_WINDOW = 1048576
    READ_BYTES = 256000               # uvloop's read buffer: a read of this size means that more is waiting
    CONTROL_BURST = 1000              # control frames a connection may send at once …
    CONTROL_REFILL_PER_S = 200        # … and per second; each frame of a call refills two
    MESSAGE_TEXT_LIMIT = 2048         # bytes of grpc-message before encoding
    MAX_KEPT_HEADERS = 100

cdef const char* INFER_PATH = b"/inference.GRPCInferenceService/ModelInfer"
cdef size_t INFER_PATH_SIZE = 42

cdef nghttp2_session_callbacks* callbacks = NULL     # made once, never freed: they live as long as the process
cdef nghttp2_option* options = NULL
cdef nghttp2_nv OK_HEADERS[2]
cdef const char* RECORD_STATES[3]
RECORD_STATES[:] = ["unlogged", "committed", "synced"]
cdef size_t RECORD_STATE_SIZES[3]
RECORD_STATE_SIZES[:] = [8, 9, 6]


cdef inline void set_nv(nghttp2_nv* nv, const char* name, size_t name_size, const char* value, size_t value_size,
                        int flags) noexcept:
    nv.name = <uint8_t*>name
    nv.namelen = name_size
    nv.value = <uint8_t*>value
    nv.valuelen = value_size
    nv.flags = <uint8_t>(flags | NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)


cdef inline bint same(const uint8_t* text, size_t n, const char* other, size_t other_size) noexcept nogil:
    return n == other_size and memcmp(text, other, n) == 0


# Callbacks of nghttp2. They only find the connection and the stream; a Python exception ends the session and is
# raised again by data_received.


cdef int on_begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* user) noexcept:
    cdef H2Connection connection = <H2Connection>user
    if frame.headers.cat != NGHTTP2_HCAT_REQUEST:
        return 0
    try:
        connection.begin_stream(frame.hd.stream_id)
    except BaseException as error:
        connection.callback_error = error
        return NGHTTP2_ERR_CALLBACK_FAILURE
    return 0


cdef int on_header_field(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                         const uint8_t* value, size_t value_size, uint8_t flags, void* user) noexcept:
    cdef H2Stream* stream
    cdef H2Connection connection = <H2Connection>user
    if frame.hd.type != NGHTTP2_HEADERS:
        return 0
    stream = <H2Stream*>nghttp2_session_get_stream_user_data(session, frame.hd.stream_id)
    if stream == NULL or frame.headers.cat != NGHTTP2_HCAT_REQUEST:
        return 0                      # trailers of a request carry nothing we use
    try:
        connection.take_header(stream, name, name_size, value, value_size)
    except BaseException as error:
        connection.callback_error = error
        return NGHTTP2_ERR_CALLBACK_FAILURE
    return 0


cdef int on_data(nghttp2_session* session, uint8_t flags, int32_t stream_id, const uint8_t* data, size_t n,
                 void* user) noexcept:
    cdef H2Connection connection = <H2Connection>user
    cdef H2Stream* stream = <H2Stream*>nghttp2_session_get_stream_user_data(session, stream_id)
    nghttp2_session_consume(session, stream_id, n)
    if stream == NULL:
        return 0
    try:
        connection.take_data(stream, data, n)
    except BaseException as error:
        connection.callback_error = error
        return NGHTTP2_ERR_CALLBACK_FAILURE
    return 0


cdef int on_frame_received(nghttp2_session* session, const nghttp2_frame* frame, void* user) noexcept:
    cdef H2Connection connection = <H2Connection>user
    cdef H2Stream* stream
    cdef uint8_t kind = frame.hd.type
    cdef bint ended = (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0
    try:
        if kind == NGHTTP2_DATA or kind == NGHTTP2_HEADERS:
            if kind == NGHTTP2_DATA and frame.hd.length == 0 and not ended:
                connection.charge_control_frame()
                return 0
            connection.control_tokens = min(<double>CONTROL_BURST, connection.control_tokens + 2)
            stream = <H2Stream*>nghttp2_session_get_stream_user_data(session, frame.hd.stream_id)
            if stream == NULL:
                return 0
            if kind == NGHTTP2_HEADERS and frame.headers.cat == NGHTTP2_HCAT_REQUEST:
                connection.headers_done(stream)
            if ended and not stream.answered:
                connection.request_done(stream)
        else:
            connection.charge_control_frame()
    except BaseException as error:
        connection.callback_error = error
        return NGHTTP2_ERR_CALLBACK_FAILURE
    return 0


cdef int on_frame_sent(nghttp2_session* session, const nghttp2_frame* frame, void* user) noexcept:
    # An answer before the request's end: tell the client to stop sending (RFC 9113 §8.1).
    if frame.hd.flags & NGHTTP2_FLAG_END_STREAM and (
        frame.hd.type == NGHTTP2_HEADERS or frame.hd.type == NGHTTP2_DATA
    ):
        if nghttp2_session_get_stream_remote_close(session, frame.hd.stream_id) == 0:
            nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_NO_ERROR)
    return 0


cdef int on_close(nghttp2_session* session, int32_t stream_id, uint32_t code, void* user) noexcept:
    cdef H2Connection connection = <H2Connection>user
    cdef H2Stream* stream = <H2Stream*>nghttp2_session_get_stream_user_data(session, stream_id)
    if stream == NULL:
        return 0
    try:
        connection.drop_stream(stream, code != NGHTTP2_NO_ERROR)
    except BaseException as error:
        connection.callback_error = error
        return NGHTTP2_ERR_CALLBACK_FAILURE
    return 0


cdef ssize_t read_reply(nghttp2_session* session, int32_t stream_id, uint8_t* out, size_t room, uint32_t* flags,
                        nghttp2_data_source* source, void* user) noexcept:
    cdef H2Stream* stream = <H2Stream*>source.ptr
    cdef Exchange exchange = <Exchange>stream.exchange
    cdef size_t n = exchange.reply_size - stream.sent
    if n > room:
        n = room
    memcpy(out, exchange.reply + stream.sent, n)
    stream.sent += n
    if stream.sent == exchange.reply_size:
        flags[0] |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM
        submit_ok_trailer(session, stream, exchange)
    return <ssize_t>n


cdef void submit_ok_trailer(nghttp2_session* session, H2Stream* stream, Exchange exchange) noexcept:
    cdef nghttp2_nv trailer[4]
    cdef size_t n = 1
    set_nv(&trailer[0], "grpc-status", 11, "0", 1, NGHTTP2_NV_FLAG_NONE)
    if exchange.version is not None:
        n = 4
        set_nv(&trailer[1], "x-prediction-id", 15, stream.prediction_id, 36, NGHTTP2_NV_FLAG_NO_INDEX)
        set_nv(&trailer[2], "x-model-version", 15, <char*>exchange.version_text.at, exchange.version_text.n,
               NGHTTP2_NV_FLAG_NONE)
        set_nv(&trailer[3], "x-record-state", 14, RECORD_STATES[<int>exchange.record_state],
               RECORD_STATE_SIZES[<int>exchange.record_state], NGHTTP2_NV_FLAG_NONE)
    nghttp2_submit_trailer(session, stream.id, trailer, n)


cdef int make_callbacks() except -1:
    global callbacks, options
    if nghttp2_session_callbacks_new(&callbacks) != 0 or nghttp2_option_new(&options) != 0:
        raise MemoryError
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers)
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header_field)
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data)
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_received)
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent)
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close)
    nghttp2_option_set_no_auto_window_update(options, 1)
    nghttp2_option_set_no_closed_streams(options, 1)
    nghttp2_option_set_max_outbound_ack(options, 1000)
    nghttp2_option_set_max_settings(options, 32)
    # A deadline that fires is a reset too, so honest clients reset in bursts; what a reset can cost is bounded by
    # in_flight, which a reset does not lower.
    option_set_reset_rate_limit(options, 5000, 1000)
    set_nv(&OK_HEADERS[0], ":status", 7, "200", 3, NGHTTP2_NV_FLAG_NONE)
    set_nv(&OK_HEADERS[1], "content-type", 12, "application/grpc", 16, NGHTTP2_NV_FLAG_NONE)
    return 0


make_callbacks()


def percent_encoded(str message) -> bytes:
    """``grpc-message``: bytes outside 0x20–0x7E and '%' as %XX (PROTOCOL-HTTP2, "Responses")."""
    cdef bytes raw = message.encode("utf-8", "replace")[:MESSAGE_TEXT_LIMIT]
    return b"".join([bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in raw])


cdef class H2Service:
    """What all gRPC connections of a worker share: the sink, the slow calls, the limits."""

    def __init__(self, loop, ExchangeSink sink not None, Dialect dialect not None, call, dict grpc_status not None, *,
                 size_t message_limit=64 << 20, size_t memory_limit=1 << 30, uint32_t stream_limit=1000,
                 size_t header_limit=16384):
        self.loop = loop
        self.sink = sink
        self.dialect = dialect
        self.call = call
        self.grpc_status = grpc_status
        self.message_limit = message_limit
        self.memory_limit = memory_limit
        self.stream_limit = stream_limit
        self.header_limit = header_limit
        self.connections = set()

    def __dealloc__(self):
        free(self.out)

    cdef int reserve_out(self, size_t n) except -1:
        cdef uint8_t* grown
        if n > self.out_capacity:
            n = max(n, 2 * self.out_capacity)
            grown = <uint8_t*>realloc(self.out, n)
            if grown == NULL:
                raise MemoryError
            self.out = grown
            self.out_capacity = n
        return 0

    def drain(self):
        """Tell every client to go elsewhere; each connection closes when its calls are answered."""
        self.draining = True
        for connection in list(self.connections):
            connection.announce_drain()

    def finish_drain(self):
        """Second GOAWAY, one round trip after :meth:`drain`: nothing newer will be answered."""
        for connection in list(self.connections):
            connection.refuse_new_streams()

    def sweep(self, int64_t now_ns, int64_t stuck_ns):
        """Abort connections whose peer has not taken a byte of its replies for ``stuck_ns``."""
        for connection in list(self.connections):
            if connection.writing_paused and now_ns - connection.progress_ns > stuck_ns:
                connection.abort()


cdef class H2Connection(ReplyPort):
    """One HTTP/2 connection; a uvloop Protocol."""

    def __init__(self, H2Service service not None):
        self.service = service
        self.control_tokens = CONTROL_BURST

    def __dealloc__(self):
        if self.session != NULL:
            nghttp2_session_del(self.session)

    # The life of the connection.

    def connection_made(self, transport):
        cdef nghttp2_settings_entry settings[4]
        self.transport = transport
        self.tokens_ns = self.progress_ns = monotonic_ns()
        if nghttp2_session_server_new2(&self.session, callbacks, <void*>self, options) != 0:
            raise MemoryError
        settings[0].settings_id = NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
        settings[0].value = self.service.stream_limit
        settings[1].settings_id = NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE
        settings[1].value = STREAM_WINDOW
        settings[2].settings_id = NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE
        settings[2].value = <uint32_t>self.service.header_limit
        settings[3].settings_id = NGHTTP2_SETTINGS_MAX_FRAME_SIZE
        settings[3].value = 65536
        nghttp2_submit_settings(self.session, NGHTTP2_FLAG_NONE, settings, 4)
        nghttp2_session_set_local_window_size(self.session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW)
        self.service.connections.add(self)
        if self.service.draining:
            self.announce_drain()
        self.pump()

    def data_received(self, bytes data not None):
        cdef ssize_t taken
        cdef size_t n = <size_t>PyBytes_GET_SIZE(data)
        if self.session == NULL:
            return
        self.received_ns = self.progress_ns = monotonic_ns()
        self.received_unix_ns = wall_ns()
        self.receiving = True
        taken = nghttp2_session_mem_recv(self.session, <const uint8_t*>PyBytes_AS_STRING(data), n)
        self.receiving = False
        if self.callback_error is not None:
            error, self.callback_error = self.callback_error, None
            self.transport.abort()
            raise error
        if taken < 0:
            # Not HTTP/2, or a peer that broke its rules: the library has queued the GOAWAY that says so.
            self.pump()
            self.transport.close()
            return
        if nghttp2_session_want_write(self.session) and not self.flush_wanted:
            self.flush_wanted = True
            self.service.sink.flush_soon(self)
        if n >= READ_BYTES:
            # One read a tick: a client that fills our buffer must not keep its neighbours waiting.
            self.transport.pause_reading()
            self.service.loop.call_soon(self.resume_reading)

    def eof_received(self):
        return False

    def connection_lost(self, error):
        cdef H2Stream* stream = self.streams
        cdef H2Stream* following
        self.service.connections.discard(self)
        while stream != NULL:
            following = stream.next
            self.drop_stream(stream, True)
            stream = following
        if self.session != NULL:
            nghttp2_session_del(self.session)
            self.session = NULL
        self.transport = None

    def pause_writing(self):
        self.writing_paused = True

    def resume_writing(self):
        self.writing_paused = False
        self.progress_ns = monotonic_ns()
        self.pump()

    def abort(self):
        """Close at once; what is unsent is lost."""
        if self.transport is not None:
            self.transport.abort()

    def resume_reading(self):
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    # Drain: two GOAWAYs (RFC 9113 §6.8), then close when the last call is answered.

    def announce_drain(self):
        if self.session != NULL:
            nghttp2_submit_shutdown_notice(self.session)
            self.pump()

    def refuse_new_streams(self):
        if self.session == NULL:
            return
        self.closing = True
        nghttp2_submit_goaway(self.session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(self.session),
                              NGHTTP2_NO_ERROR, NULL, 0)
        self.pump()

    # A request, as its frames come in.

    cdef int begin_stream(self, int32_t stream_id) except -1:
        cdef H2Stream* stream
        cdef Exchange exchange
        if self.in_flight >= <int>self.service.stream_limit:
            # Counted by what still runs, not by open streams: resetting does not buy room for more work.
            nghttp2_submit_rst_stream(self.session, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_REFUSED_STREAM)
            return 0
        stream = <H2Stream*>calloc(1, sizeof(H2Stream))
        if stream == NULL:
            raise MemoryError
        exchange = Exchange.new(self, self.service.dialect, stream_id)
        exchange.arrival_ns = self.received_ns
        exchange.arrival_unix_ns = self.received_unix_ns
        exchange.protocol.at = <const uint8_t*>"grpc"
        exchange.protocol.n = 4
        Py_INCREF(exchange)           # released in drop_stream
        stream.exchange = <PyObject*>exchange
        stream.id = stream_id
        stream.next = self.streams
        if self.streams != NULL:
            self.streams.previous = stream
        self.streams = stream
        nghttp2_session_set_stream_user_data(self.session, stream_id, stream)
        return 0

    cdef int take_header(self, H2Stream* stream, const uint8_t* name, size_t name_size,
                         const uint8_t* value, size_t value_size) except -1:
        cdef Exchange exchange = <Exchange>stream.exchange
        stream.header_bytes += name_size + value_size + 32
        if stream.header_bytes > self.service.header_limit:
            return 0                  # refused in headers_done; nothing more of it is kept
        if name[0] == c":":
            if same(name, name_size, ":path", 5):
                if same(value, value_size, INFER_PATH, INFER_PATH_SIZE):
                    stream.call = CALL_INFER
                else:
                    stream.call = CALL_OTHER
                    exchange.keep_header(name, name_size, value, value_size)
            elif same(name, name_size, ":method", 7):
                stream.is_post = same(value, value_size, "POST", 4)
        elif same(name, name_size, "content-type", 12):
            stream.is_grpc = value_size >= 16 and memcmp(value, <const char*>"application/grpc", 16) == 0 and (
                value_size == 16 or value[16] == c"+" or value[16] == c";")
        elif same(name, name_size, "te", 2) or same(name, name_size, "user-agent", 10):
            pass
        elif same(name, name_size, "grpc-timeout", 12):
            if read_grpc_timeout(value, value_size, exchange) < 0:
                exchange.fail(TransportViolation(
                    f"grpc-timeout {bytes(value[:value_size])!r} is not 1 to 8 digits and a unit of HMSmun"))
        elif same(name, name_size, "grpc-encoding", 13):
            stream.encoding = message_encoding(value, value_size)
        elif same(name, name_size, "grpc-accept-encoding", 20) or same(name, name_size, "accept-encoding", 15):
            pass
        elif same(name, name_size, "traceparent", 11):
            read_traceparent(exchange, value, value_size)
        elif exchange.header_count < MAX_KEPT_HEADERS:
            exchange.keep_header(name, name_size, value, value_size)
        return 0

    cdef int headers_done(self, H2Stream* stream) except -1:
        cdef Exchange exchange = <Exchange>stream.exchange
        if stream.header_bytes > self.service.header_limit:
            return self.answer_error(stream, exchange, PayloadTooLarge(
                f"request headers of {stream.header_bytes} bytes, over the limit of {self.service.header_limit}"))
        if not stream.is_post:
            return self.answer_http_status(stream, b"405")
        if not stream.is_grpc:
            return self.answer_http_status(stream, b"415")
        if exchange.error is not None:
            return self.answer_error(stream, exchange, exchange.error)
        return 0

    cdef int take_data(self, H2Stream* stream, const uint8_t* data, size_t n) except -1:
        cdef Exchange exchange = <Exchange>stream.exchange
        cdef size_t part, needed
        if stream.answered:
            return 0
        if stream.prefix_size < PREFIX_BYTES:
            part = min(n, <size_t>(PREFIX_BYTES - stream.prefix_size))
            memcpy(stream.prefix + stream.prefix_size, data, part)
            stream.prefix_size += <int>part
            data += part
            n -= part
            if stream.prefix_size < PREFIX_BYTES:
                return 0
            stream.message_size = ((<size_t>stream.prefix[1] << 24) | (<size_t>stream.prefix[2] << 16)
                                   | (<size_t>stream.prefix[3] << 8) | <size_t>stream.prefix[4])
            if stream.message_size > self.service.message_limit:
                return self.answer_error(stream, exchange, PayloadTooLarge(
                    f"a message of {stream.message_size} bytes, over the limit of {self.service.message_limit}"))
            if stream.prefix[0] > 1:
                return self.answer_error(stream, exchange, TransportViolation(
                    f"compressed flag {stream.prefix[0]}, expected 0 or 1"))
        if n == 0:
            return 0
        needed = exchange.body_size + n
        if needed > stream.message_size:
            return self.answer_error(stream, exchange, TransportViolation(
                "more bytes than the one message that a unary call carries"))
        if needed > exchange.body_capacity:
            if bytes_held() + needed > self.service.memory_limit:
                return self.answer_error(stream, exchange, Overloaded(
                    "the worker's memory budget for requests is used up", hint="retry with back-off"))
            # A declared length is a claim: room grows with what really came.
            part = max(needed, 2 * exchange.body_capacity)
            exchange.reserve_body(min(stream.message_size, max(part, <size_t>BODY_START_BYTES)))
        memcpy(exchange.body + exchange.body_size, data, n)
        exchange.body_size = needed
        return 0

    cdef int request_done(self, H2Stream* stream) except -1:
        cdef Exchange exchange = <Exchange>stream.exchange
        if stream.prefix_size < PREFIX_BYTES or exchange.body_size < stream.message_size:
            return self.answer_error(stream, exchange, TransportViolation(
                f"the stream ended after {exchange.body_size} of {stream.message_size} message bytes"
                if stream.prefix_size == PREFIX_BYTES else "the stream ended before a whole message prefix"))
        if stream.prefix[0] == 1:
            self.inflate_message(stream, exchange)
            if stream.answered:
                return 0
        if stream.call == CALL_INFER:
            return self.hand_over(stream, exchange)
        return self.answer_call(stream, exchange)

    cdef int hand_over(self, H2Stream* stream, Exchange exchange) except -1:
        self.in_flight += 1
        return self.service.sink.submit(exchange)

    cdef int inflate_message(self, H2Stream* stream, Exchange exchange) except -1:
        cdef bytes plain
        if stream.encoding == ENCODING_IDENTITY:
            return self.answer_error(stream, exchange, TransportViolation(
                "the message is flagged as compressed, but grpc-encoding is not set"))
        if stream.encoding == ENCODING_UNKNOWN:
            return self.answer_error(stream, exchange, MethodUnimplemented(
                "grpc-encoding is not one that this server takes: gzip, deflate, identity"))
        try:
            plain = inflate(exchange.body[:exchange.body_size], stream.encoding == ENCODING_GZIP,
                            self.service.message_limit)
        except GatewayError as error:
            return self.answer_error(stream, exchange, error)
        exchange.body_size = 0
        exchange.set_body(<const uint8_t*>PyBytes_AS_STRING(plain), <size_t>PyBytes_GET_SIZE(plain))
        return 0

    cdef int answer_call(self, H2Stream* stream, Exchange exchange) except -1:
        cdef bytes reply
        cdef Span path = exchange.header(<const uint8_t*>":path", 5)
        try:
            reply = self.service.call(path.at[:path.n].decode("utf-8", "replace"), exchange.body[:exchange.body_size])
        except GatewayError as error:
            return self.answer_error(stream, exchange, error)
        except Exception as error:
            self.answer_error(stream, exchange, InternalError("the call failed inside the server"))
            raise
        exchange.reserve_reply(PREFIX_BYTES + <size_t>PyBytes_GET_SIZE(reply))
        write_prefix(exchange.reply, <size_t>PyBytes_GET_SIZE(reply))
        memcpy(exchange.reply + PREFIX_BYTES, PyBytes_AS_STRING(reply), <size_t>PyBytes_GET_SIZE(reply))
        return self.answer_ok(stream, exchange)

    # The answer.

    cdef int send_reply(self, Exchange exchange) except -1:
        cdef H2Stream* stream
        exchange.state = RELEASED
        self.in_flight -= 1
        if self.session == NULL:
            return 0
        stream = <H2Stream*>nghttp2_session_get_stream_user_data(self.session, <int32_t>exchange.stream_id)
        if stream == NULL or stream.answered or stream.exchange != <PyObject*>exchange:
            return 0                  # the caller has gone
        if exchange.version is not None:
            write_uuid_text(stream.prediction_id, exchange.prediction_id)
        self.flush_wanted = True
        if exchange.error is not None:
            return self.answer_error(stream, exchange, exchange.error)
        return self.answer_ok(stream, exchange)

    cdef int answer_ok(self, H2Stream* stream, Exchange exchange) except -1:
        cdef nghttp2_data_provider provider
        provider.source.ptr = stream
        provider.read_callback = read_reply
        stream.answered = True
        if nghttp2_submit_response(self.session, stream.id, OK_HEADERS, 2, &provider) != 0:
            raise MemoryError
        return 0

    cdef int answer_error(self, H2Stream* stream, Exchange exchange, object error) except -1:
        # Trailers-Only (PROTOCOL-HTTP2, "Responses"): one HEADERS frame that ends the stream.
        cdef nghttp2_nv headers[7]
        cdef size_t n = 4
        cdef bytes status = b"%d" % self.service.grpc_status[error.code]
        cdef bytes message = percent_encoded(str(error))
        headers[0] = OK_HEADERS[0]
        headers[1] = OK_HEADERS[1]
        set_nv(&headers[2], "grpc-status", 11, status, <size_t>len(status), NGHTTP2_NV_FLAG_NONE)
        set_nv(&headers[3], "grpc-message", 12, message, <size_t>len(message), NGHTTP2_NV_FLAG_NO_INDEX)
        # status and message die with this call: these two values are copied
        headers[2].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME
        headers[3].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_INDEX
        if exchange.version is not None:
            n = 7
            set_nv(&headers[4], "x-prediction-id", 15, stream.prediction_id, 36, NGHTTP2_NV_FLAG_NO_INDEX)
            set_nv(&headers[5], "x-model-version", 15, <char*>exchange.version_text.at, exchange.version_text.n,
                   NGHTTP2_NV_FLAG_NONE)
            set_nv(&headers[6], "x-record-state", 14, RECORD_STATES[<int>exchange.record_state],
                   RECORD_STATE_SIZES[<int>exchange.record_state], NGHTTP2_NV_FLAG_NONE)
        stream.answered = True
        if nghttp2_submit_response(self.session, stream.id, headers, n, NULL) != 0:
            raise MemoryError
        return 0

    cdef int answer_http_status(self, H2Stream* stream, bytes status) except -1:
        cdef nghttp2_nv headers[1]
        set_nv(&headers[0], ":status", 7, status, 3, NGHTTP2_NV_FLAG_NONE)
        headers[0].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME
        stream.answered = True
        if nghttp2_submit_response(self.session, stream.id, headers, 1, NULL) != 0:
            raise MemoryError
        return 0

    cdef int flush(self) except -1:
        self.flush_wanted = False
        return self.pump()

    cdef int pump(self) except -1:
        # Everything nghttp2 has to say, in writes of at most FLUSH_BYTES; stops while the socket is full.
        cdef const uint8_t* piece
        cdef ssize_t n = 0
        cdef size_t size
        if self.session == NULL or self.receiving or self.transport is None:
            return 0
        while not self.writing_paused:
            size = 0
            while size < FLUSH_BYTES:
                n = nghttp2_session_mem_send(self.session, &piece)
                if n <= 0:
                    break
                self.service.reserve_out(size + <size_t>n)
                memcpy(self.service.out + size, piece, <size_t>n)
                size += <size_t>n
            if size:
                self.transport.write(PyBytes_FromStringAndSize(<char*>self.service.out, <Py_ssize_t>size))
            if n <= 0:
                break
        if self.callback_error is not None:
            error, self.callback_error = self.callback_error, None
            self.abort()
            raise error
        if (self.closing and self.in_flight == 0 and self.streams == NULL) or not (
            nghttp2_session_want_read(self.session) or nghttp2_session_want_write(self.session)
        ):
            self.transport.close()
        return 0

    # Bookkeeping.

    cdef int charge_control_frame(self) except -1:
        # PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, empty DATA: cheap to send, so they have a budget.
        cdef int64_t now = self.received_ns
        self.control_tokens = min(<double>CONTROL_BURST,
                                  self.control_tokens + (now - self.tokens_ns) * (CONTROL_REFILL_PER_S / 1e9))
        self.tokens_ns = now
        self.control_tokens -= 1
        if self.control_tokens < 0:
            nghttp2_session_terminate_session(self.session, NGHTTP2_ENHANCE_YOUR_CALM)
        return 0

    cdef int drop_stream(self, H2Stream* stream, bint cancelled) except -1:
        cdef Exchange exchange = <Exchange>stream.exchange
        if stream.previous != NULL:
            stream.previous.next = stream.next
        else:
            self.streams = stream.next
        if stream.next != NULL:
            stream.next.previous = stream.previous
        if self.session != NULL:
            nghttp2_session_set_stream_user_data(self.session, stream.id, NULL)
        if cancelled or not stream.answered:
            exchange.cancelled = True
        Py_DECREF(exchange)           # taken in begin_stream
        free(stream)
        return 0


cdef void write_prefix(uint8_t* out, size_t n) noexcept nogil:
    out[0] = 0
    out[1] = <uint8_t>(n >> 24)
    out[2] = <uint8_t>(n >> 16)
    out[3] = <uint8_t>(n >> 8)
    out[4] = <uint8_t>n


cdef MessageEncoding message_encoding(const uint8_t* value, size_t n) noexcept nogil:
    if same(value, n, "identity", 8):
        return ENCODING_IDENTITY
    if same(value, n, "gzip", 4):
        return ENCODING_GZIP
    if same(value, n, "deflate", 7):
        return ENCODING_DEFLATE
    return ENCODING_UNKNOWN


cdef int read_grpc_timeout(const uint8_t* value, size_t n, Exchange exchange) noexcept nogil:
    # TimeoutValue: 1 to 8 digits; TimeoutUnit: one of H M S m u n (PROTOCOL-HTTP2, "Requests")
    cdef int64_t amount = 0
    cdef int64_t unit
    cdef size_t i
    if n < 2 or n > 9:
        return -1
    for i in range(n - 1):
        if value[i] < c"0" or value[i] > c"9":
            return -1
        amount = amount * 10 + (value[i] - c"0")
    if value[n - 1] == c"H":
        unit = 3600000000000
    elif value[n - 1] == c"M":
        unit = 60000000000
    elif value[n - 1] == c"S":
        unit = 1000000000
    elif value[n - 1] == c"m":
        unit = 1000000
    elif value[n - 1] == c"u":
        unit = 1000
    elif value[n - 1] == c"n":
        unit = 1
    else:
        return -1
    if amount > <int64_t>31536000000000000 // unit:        # a year is as good as none
        return 0
    exchange.deadline_ns = exchange.arrival_ns + amount * unit
    return 0


def inflate(const uint8_t[:] packed not None, bint gzip, size_t limit) -> bytes:
    """Inflate one message, at most ``limit`` bytes of it.

    Raises PayloadTooLarge past the limit, TransportViolation for a corrupt or cut-off stream.
    """
    engine = zlib.decompressobj(wbits=31 if gzip else 15)
    try:
        plain = engine.decompress(packed, limit + 1)
    except zlib.error as error:
        raise TransportViolation(f"the compressed message is corrupt: {error}") from error
    if len(plain) > limit:
        raise PayloadTooLarge(f"the message inflates past the limit of {limit} bytes")
    if not engine.eof:
        raise TransportViolation("the compressed message is cut off")
    return plain
