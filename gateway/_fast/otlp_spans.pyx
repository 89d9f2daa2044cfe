"""OTLP spans straight from frames: what never changes is encoded once, the rest is a few stores a span."""
import struct
from typing import NamedTuple

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from gateway._fast.exchange cimport SHADOW, Span
from gateway._fast.protobuf_wire cimport (
    block_size, is_utf8, put_block_head, put_bytes, put_varint, varint_size,
)
from gateway._fast.record_frames cimport (
    EXCHANGE_TRACED, FRAME_EXCHANGE, FrameHeader, RecordSchema, next_frame, open_exchange,
)

from gateway.core.words import GRPC_CODES, ROLES, RULES

# Tags of fields that this module writes: field number << 3 | wire type.
cdef enum:
    SPAN_TRACE_ID = 0x0A
    SPAN_SPAN_ID = 0x12
    SPAN_PARENT = 0x22
    SPAN_NAME = 0x2A
    SPAN_KIND = 0x30
    SPAN_START = 0x39
    SPAN_END = 0x41
    SPAN_ATTRIBUTE = 0x4A
    SPAN_STATUS = 0x7A
    STATUS_MESSAGE = 0x12
    STATUS_CODE = 0x18
    KEY = 0x0A
    VALUE = 0x12
    TEXT_VALUE = 0x0A
    INT_VALUE = 0x18
    SCOPE_SPAN = 0x12
    KIND_INTERNAL = 1
    KIND_SERVER = 2
    STATUS_ERROR = 2
    FLAGS_KNOW_REMOTE = 0x100    # Span.flags: the parent is known to be ...
    FLAGS_REMOTE = 0x200         # ... in another process
    UUID_TEXT = 36

#: Codes that make a server's span an error; the others are the caller's mistakes (OpenTelemetry, RPC conventions).
SERVER_ERRORS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
PROTOCOLS = ("", "grpc", "http")

# Keys of attributes whose values differ from span to span, encoded as the `key` field of a KeyValue.
cdef bytes KEY_PREDICTION = key_field("gateway.prediction_id")
cdef bytes KEY_REQUEST = key_field("gateway.request_id")
cdef bytes KEY_CALLER = key_field("gateway.caller")
cdef bytes KEY_ROWS = key_field("gateway.rows")
cdef bytes KEY_BATCH_ROWS = key_field("gateway.batch_rows")
cdef bytes KEY_SNAPSHOT = key_field("gateway.snapshot")
cdef bytes KEY_QUEUE = key_field("gateway.queue_ns")
cdef bytes KEY_FEATURES = key_field("gateway.features_ns")
cdef bytes KEY_INFER = key_field("gateway.infer_ns")


class EncodedSpans(NamedTuple):
    data: bytes
    spans: int
    unknown: int
    end: int


# What is encoded once, in Python.


cdef bytes varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


cdef bytes block(int tag, bytes content):
    return bytes((tag,)) + varint(len(content)) + content


cdef bytes key_field(str key):
    return block(KEY, key.encode())


def attributes(pairs, int tag):
    return b"".join([block(tag, key_field(key) + block(VALUE, any_value(value))) for key, value in pairs.items()])


cdef bytes any_value(value):
    if isinstance(value, bool):
        return b"\x10" + varint(int(value))
    if isinstance(value, int):
        return bytes((INT_VALUE,)) + varint(value & 0xFFFFFFFFFFFFFFFF)
    if isinstance(value, float):
        return b"\x21" + struct.pack("<d", value)
    if isinstance(value, (list, tuple)):
        return block(0x2A, b"".join([block(0x0A, any_value(item)) for item in value]))
    return block(TEXT_VALUE, str(value).encode())


def export_request(resource, str scope, str version, list spans):
    described = attributes(resource, 0x0A)
    scope_head = block(0x0A, block(0x0A, scope.encode()) + block(0x12, version.encode()))
    return block(0x0A, block(0x0A, described) + block(0x12, b"".join([scope_head, *spans])))


cdef class SchemaPrefix:
    pass


@cython.final
cdef class SpanEncoder:

    def __init__(self, double ratio=1.0, *, bint parent_decides=True):
        bound = round(ratio * 2**64)
        self.everything = bound >= 2**64
        self.bound = 0 if self.everything else bound
        self.parent_decides = parent_decides
        self.prefixes = {}
        self.rules = [attributes({"gateway.rule": rule}, SPAN_ATTRIBUTE) if rule else b"" for rule in RULES]
        self.roles = [attributes({"gateway.role": role}, SPAN_ATTRIBUTE) for role in ROLES]
        self.protocols = [attributes({"gateway.protocol": name}, SPAN_ATTRIBUTE) if name else b"" for name in PROTOCOLS]
        self.statuses = [
            attributes({"gateway.status": code} | ({} if code == "OK" else {"error.type": code}), SPAN_ATTRIBUTE)
            for code in GRPC_CODES
        ]

    def __dealloc__(self):
        free(self.out)

    def encode(self, const uint8_t[::1] frames, schemas, int64_t limit, size_t start=0):
        cdef const uint8_t* chunk = &frames[0] if frames.shape[0] else NULL
        cdef size_t n = frames.shape[0]
        cdef size_t offset = start
        cdef const FrameHeader* header
        cdef ExchangeFrame frame
        cdef SchemaPrefix prefix = None
        cdef uint64_t schema_id = 0
        cdef int64_t count = 0
        cdef int64_t unknown = 0
        self.size = 0
        while count < limit and next_frame(chunk, n, &offset, 0, False, &header) == 1:
            if header.kind != FRAME_EXCHANGE or open_exchange(header, &frame) < 0 or not self.sampled(&frame):
                continue
            if prefix is None or header.schema_id != schema_id:
                schema_id = header.schema_id
                prefix = self.prefix_of(schema_id, schemas)
            if prefix is None:
                unknown += 1
                continue
            self.append(&frame, prefix)
            count += 1
        data = PyBytes_FromStringAndSize(<char*>self.out, <Py_ssize_t>self.size) if self.size else b""
        return EncodedSpans(data, count, unknown, offset if count == limit else n)

    def count_sampled(self, const uint8_t[::1] frames, size_t start=0):
        cdef const uint8_t* chunk = &frames[0] if frames.shape[0] else NULL
        cdef size_t n = frames.shape[0]
        cdef const FrameHeader* header
        cdef ExchangeFrame frame
        cdef int64_t count = 0
        while next_frame(chunk, n, &start, 0, False, &header) == 1:
            if header.kind == FRAME_EXCHANGE and open_exchange(header, &frame) == 0 and self.sampled(&frame):
                count += 1
        return count

    cdef bint sampled(self, const ExchangeFrame* frame) noexcept:
        cdef uint64_t low = 0
        cdef int i
        if self.parent_decides and frame.body.flags & EXCHANGE_TRACED:
            return frame.body.trace_flags & 1
        if self.everything:
            return True
        for i in range(8, 16):
            low = low << 8 | frame.body.trace_id[i]
        return low < self.bound

    cdef SchemaPrefix prefix_of(self, uint64_t schema_id, schemas):
        cdef SchemaPrefix prefix = self.prefixes.get(schema_id)
        if prefix is None:
            schema = schemas.get(schema_id)
            if schema is None:
                return None
            prefix = SchemaPrefix.__new__(SchemaPrefix)
            prefix.encoded = block(SPAN_NAME, f"infer {schema.model}".encode()) + attributes(
                {"gateway.model": schema.model, "gateway.version": schema.version, "gateway.digest": schema.digest},
                SPAN_ATTRIBUTE,
            )
            self.prefixes[schema_id] = prefix
        return prefix

    cdef int append(self, const ExchangeFrame* frame, SchemaPrefix prefix) except -1:
        # The span is written past the room for its own length, whose size depends on it, then moved up to it.
        cdef uint8_t* head
        cdef uint8_t* body
        cdef uint8_t* end
        cdef size_t head_room = 1 + 3
        cdef size_t n
        self.make_room(head_room + SPAN_BYTES_MAX + <size_t>PyBytes_GET_SIZE(prefix.encoded))
        head = self.out + self.size
        body = head + head_room
        end = self.span_of(body, frame, prefix)
        n = <size_t>(end - body)
        head = put_block_head(head, SCOPE_SPAN, n)
        memmove(head, body, n)
        self.size = <size_t>(head - self.out) + n
        return 0

    cdef uint8_t* span_of(self, uint8_t* out, const ExchangeFrame* frame, SchemaPrefix prefix) except NULL:
        # Besides the prefix at most: ids 50, times and kind 20, the tables' attributes 300, nine attributes of 64,
        # request id and caller 256 each, error 500: below SPAN_BYTES_MAX.
        cdef bint shadow = frame.body.role == SHADOW
        cdef int status = frame.body.status if 0 <= frame.body.status < len(self.statuses) else 2
        out = put_block_head(out, SPAN_TRACE_ID, 16)
        out = put_bytes(out, frame.body.trace_id, 16)
        out = put_block_head(out, SPAN_SPAN_ID, 8)
        out = put_bytes(out, frame.body.span_id, 8)
        if not is_zero(frame.body.parent_span_id):
            out = put_block_head(out, SPAN_PARENT, 8)
            out = put_bytes(out, frame.body.parent_span_id, 8)
        out = put_object(out, prefix.encoded)
        out[0] = SPAN_KIND
        out[1] = KIND_INTERNAL if shadow else KIND_SERVER
        out = put_fixed64(out + 2, SPAN_START, frame.body.arrival_unix_ns)
        out = put_fixed64(out, SPAN_END, frame.body.arrival_unix_ns + frame.body.total_ns)
        out = put_flags(out, frame.body.trace_flags | FLAGS_KNOW_REMOTE | (
            FLAGS_REMOTE if frame.body.flags & EXCHANGE_TRACED and not shadow else 0))
        out = put_object(out, self.entry(self.rules, frame.body.rule))
        out = put_object(out, self.entry(self.roles, frame.body.role))
        out = put_object(out, self.entry(self.protocols, frame.body.protocol))
        out = put_object(out, <bytes>self.statuses[status])
        out = put_uuid(out, frame.body.prediction_id)
        out = put_number(out, KEY_ROWS, frame.body.rows)
        out = put_number(out, KEY_BATCH_ROWS, frame.body.batch_rows)
        out = put_number(out, KEY_SNAPSHOT, frame.body.snapshot)
        out = put_number(out, KEY_QUEUE, <uint64_t>frame.body.queue_ns)
        out = put_number(out, KEY_FEATURES, <uint64_t>frame.body.features_ns)
        out = put_number(out, KEY_INFER, <uint64_t>frame.body.infer_ns)
        out = put_text(out, KEY_REQUEST, frame.request_id)
        out = put_text(out, KEY_CALLER, frame.caller)
        if GRPC_CODES[status] in SERVER_ERRORS:
            out = put_status(out, frame.error)
        return out

    cdef bytes entry(self, list table, int index):
        return <bytes>table[index] if index < len(table) else b""

    cdef int make_room(self, size_t n) except -1:
        cdef uint8_t* grown
        if self.capacity - self.size >= n:
            return 0
        grown = <uint8_t*>realloc(self.out, self.capacity + n + GROW_BYTES)
        if grown == NULL:
            raise MemoryError()
        self.out = grown
        self.capacity += n + GROW_BYTES
        return 0


# Pieces of a span. Each returns the place after what it wrote.


cdef inline bint is_zero(const uint8_t* id) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, id, 8)
    return word == 0


cdef inline uint8_t* put_object(uint8_t* out, bytes encoded) noexcept:
    return put_bytes(out, PyBytes_AS_STRING(encoded), <size_t>PyBytes_GET_SIZE(encoded))


cdef inline uint8_t* put_fixed64(uint8_t* out, uint8_t tag, int64_t value) noexcept nogil:
    out[0] = tag
    memcpy(out + 1, &value, 8)
    return out + 9


cdef inline uint8_t* put_flags(uint8_t* out, unsigned int flags) noexcept nogil:
    # Field 16, fixed32: its tag takes two bytes.
    out[0] = 0x85
    out[1] = 0x01
    memcpy(out + 2, &flags, 4)
    return out + 6


cdef inline uint8_t* put_number(uint8_t* out, bytes key, uint64_t value) noexcept:
    cdef size_t inner = 1 + varint_size(value)
    out = put_block_head(out, SPAN_ATTRIBUTE, <size_t>PyBytes_GET_SIZE(key) + block_size(inner))
    out = put_object(out, key)
    out = put_block_head(out, VALUE, inner)
    out[0] = INT_VALUE
    return put_varint(out + 1, value)


cdef inline uint8_t* put_text(uint8_t* out, bytes key, Span text) noexcept:
    # protobuf's strings are UTF-8; a header that is not is left out rather than breaking the whole export.
    cdef size_t inner = block_size(text.n)
    if text.n == 0 or not is_utf8(text):
        return out
    out = put_block_head(out, SPAN_ATTRIBUTE, <size_t>PyBytes_GET_SIZE(key) + block_size(inner))
    out = put_object(out, key)
    out = put_block_head(out, VALUE, inner)
    out = put_block_head(out, TEXT_VALUE, text.n)
    return put_bytes(out, text.at, text.n)


cdef inline uint8_t* put_uuid(uint8_t* out, const uint8_t* id) noexcept:
    cdef uint8_t[UUID_TEXT] text
    cdef const char* digits = "0123456789abcdef"
    cdef uint8_t* at = text
    cdef Span span
    cdef int i
    for i in range(16):
        if i == 4 or i == 6 or i == 8 or i == 10:
            at[0] = c"-"
            at += 1
        at[0] = <uint8_t>digits[id[i] >> 4]
        at[1] = <uint8_t>digits[id[i] & 15]
        at += 2
    span.at = text
    span.n = UUID_TEXT
    return put_text(out, KEY_PREDICTION, span)


cdef inline uint8_t* put_status(uint8_t* out, Span message) noexcept nogil:
    cdef size_t n = message.n if is_utf8(message) else 0
    out = put_block_head(out, SPAN_STATUS, 2 + (block_size(n) if n else 0))
    if n:
        out = put_block_head(out, STATUS_MESSAGE, n)
        out = put_bytes(out, message.at, n)
    out[0] = STATUS_CODE
    out[1] = STATUS_ERROR
    return out + 2
