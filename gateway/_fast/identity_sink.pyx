"""A sink whose models give their inputs back as outputs: tests of the HTTP transport, and its own speed."""
from gateway._fast.exchange cimport (
    COMMITTED, DONE, RECORD_COMMITTED, Exchange, ReplyPort, Span, span_text,
)
from gateway._fast.exchange_sink cimport ExchangeSink
from gateway._fast.tensor_binding cimport InputTable

from gateway.core.errors import ModelNotFound


cdef class IdentitySink(ExchangeSink):
    """``hold=True`` keeps exchanges in :attr:`held` until :meth:`answer` is called for them."""

    cdef object loop
    cdef dict tables
    cdef bint hold
    cdef bint scheduled
    cdef list dirty
    cdef bytes version
    cdef readonly list held
    cdef readonly list refusals
    cdef readonly long answered

    def __init__(self, loop, dict tables not None, *, bint hold=False, str version="1"):
        self.loop = loop
        self.tables = {name.encode(): table for name, table in tables.items()}
        self.hold = hold
        self.version = version.encode()
        self.dirty = []
        self.held = []
        self.refusals = []

    cdef int submit(self, Exchange exchange) except -1:
        cdef InputTable table
        if exchange.error is None and exchange.dialect.scan(exchange) < 0:
            exchange.dialect.settle(exchange)
        found = self.lookup(exchange.model_name, exchange.model_version)
        if exchange.error is None and found is None:
            exchange.fail(ModelNotFound(f"Request for unknown model: '{span_text(exchange.model_name)}' is not found"))
        if exchange.error is None:
            table = <InputTable>found
            if table.bind(exchange) < 0:
                table.settle(exchange)
        if self.hold:
            self.held.append(exchange)
            return 0
        return self.release(exchange)

    cdef object lookup(self, Span model, Span version):
        return self.tables.get(model.at[:model.n])

    cdef int flush_soon(self, ReplyPort port) except -1:
        self.dirty.append(port)
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.tick)
        return 0

    cdef int count_refusal(self, object error) except -1:
        self.refusals.append(error.code)
        return 0

    cdef int release(self, Exchange exchange) except -1:
        cdef ReplyPort port = exchange.port
        exchange.state = DONE
        if exchange.error is None:
            exchange.outputs = exchange.inputs
            exchange.output_count = exchange.input_count
            exchange.version = self
            exchange.version_text.at = self.version
            exchange.version_text.n = len(self.version)
            exchange.record_state = RECORD_COMMITTED
            exchange.dialect.write_reply(exchange)
        exchange.state = COMMITTED
        exchange.port = None
        self.answered += 1
        port.send_reply(exchange)
        return self.flush_soon(port)

    def tick(self):
        """Flush what was answered since the last tick."""
        cdef ReplyPort port
        self.scheduled = False
        dirty, self.dirty = self.dirty, []
        for port in dirty:
            if port.flush_wanted:
                port.flush()

    def answer(self, int index=0):
        """Answer one of the held exchanges."""
        cdef Exchange exchange = self.held.pop(index)
        self.release(exchange)
