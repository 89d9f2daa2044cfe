"""Committed frames → runs of shadow candidates.

Only primaries that succeeded are run again. A candidate's share of the traffic is picked by the prediction id, so every
scorer and every replay picks the same requests.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from gateway._fast.exchange cimport PRIMARY, RELEASED
from gateway._fast.key_hash cimport key_hash
from gateway._fast.record_frames cimport (
    FRAME_EXCHANGE, FRAME_SCHEMA, ExchangeFrame, FrameHeader, RecordSchema, exchange_from_frame, next_frame,
    open_exchange, schema_from_frame,
)

from gateway.core.errors import RecordCorrupt

cdef enum:
    MOST_WAITING = 4096          # runs that may wait for one candidate


cdef class SilentPort(ReplyPort):
    """Takes answers that nobody waits for."""

    cdef int send_reply(self, Exchange exchange) except -1:
        exchange.state = RELEASED
        return 0

    cdef int flush(self) except -1:
        return 0


cdef class SilentDialect(Dialect):
    """Writes no reply."""

    cdef int write_reply(self, Exchange exchange) except -1:
        exchange.reserve_reply(0)
        return 0


cdef class Candidate:
    """A loaded version and the share of its model's traffic, in percent, that it is run on."""

    def __init__(self, ServedVersion version not None, double percent):
        if not 0 < percent <= 100:
            raise ValueError(f"a shadow takes more than 0 and at most 100 percent, not {percent}")
        self.version = version
        self.threshold = <uint64_t>0xFFFFFFFFFFFFFFFF if percent == 100 else <uint64_t>(percent / 100 * 2.0 ** 64)
        self.salt = <uint64_t>hash_text(f"{version.model}@{version.version}")


cdef uint64_t hash_text(str text) except? 0:
    cdef bytes raw = text.encode()
    return key_hash(<const uint8_t*><char*>raw, <size_t>len(raw), 0)


cdef class ShadowFeed:
    """Reads one worker's ring and gives the pipeline what the candidates shall run."""

    def __init__(self, Pipeline pipeline not None, RingReader reader not None):
        self.pipeline = pipeline
        self.reader = reader
        self.port = SilentPort.__new__(SilentPort)
        self.dialect = SilentDialect.__new__(SilentDialect)
        # Those told before this reader came: a schema is told again only after half a ring.
        self.schemas = {schema.id: schema for schema in reader.schemas()}
        self.candidates = {}

    def adopt(self, dict candidates not None):
        """``{model: [Candidate, …]}`` from now on."""
        self.candidates = candidates

    @property
    def overwritten(self):
        """Exchanges that were gone before this reader came to them."""
        return self.reader.skipped

    def take(self, size_t max_bytes):
        """Submit what the next frames ask for. Returns how many bytes of frames were taken; 0 when there was nothing."""
        cdef const uint8_t* chunk = NULL
        cdef size_t n = 0, offset = 0
        cdef const FrameHeader* header = NULL
        cdef RecordSchema schema
        cdef uint64_t end = 0
        self.reader.poll(max_bytes, &chunk, &n)
        while next_frame(chunk, n, &offset, self.reader.map.seed, False, &header) == 1:
            end = header.seq + header.length
            if header.kind == FRAME_SCHEMA:
                if header.schema_id not in self.schemas:
                    schema = schema_from_frame(header)
                    self.schemas[schema.id] = schema
            elif header.kind == FRAME_EXCHANGE and self.candidates:
                try:
                    self.shadow(<size_t>header)
                except RecordCorrupt:
                    self.damaged += 1       # one frame; those after it are whole
        if n and end == 0:
            raise RecordCorrupt(f"the ring {self.reader.map.path} holds no frame where its reader stands")
        if n:
            self.reader.move_to(end)
        return n

    def shadow(self, size_t header_address):
        """Run the candidates of one committed exchange."""
        cdef const FrameHeader* header = <const FrameHeader*>header_address
        cdef ExchangeFrame frame
        cdef RecordSchema schema = self.schemas.get(header.schema_id)
        cdef Candidate candidate
        cdef Exchange exchange
        cdef uint64_t draw
        if schema is None:
            self.without_schema += 1
            return
        candidates = self.candidates.get(schema.model)
        if candidates is None or open_exchange(header, &frame) < 0:
            return
        if frame.body.role != PRIMARY or frame.body.status != 0:
            return
        memcpy(&draw, frame.body.prediction_id + 8, 8)
        draw = draw * <uint64_t>0x9E3779B97F4A7C15        # the id's variant bits are fixed: spread them
        for candidate in candidates:
            if draw > candidate.threshold:
                continue
            if candidate.version.waiting_count() >= MOST_WAITING:
                candidate.skipped += 1      # slow or hanging: its fellows do not wait for it
                continue
            exchange = exchange_from_frame(&frame, schema, self.port, self.dialect, candidate.salt)
            if exchange is None:
                self.without_inputs += 1
                return
            candidate.taken += 1
            self.pipeline.run_as(exchange, candidate.version)
