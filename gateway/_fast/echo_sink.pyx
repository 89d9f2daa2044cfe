"""A sink that answers each message with itself: transport tests and the transport's own speed (`make bench`)."""
from libc.string cimport memcpy

from gateway._fast.exchange cimport COMMITTED, Dialect, Exchange, ReplyPort, Span
from gateway._fast.exchange_sink cimport ExchangeSink


cdef class EchoSink(ExchangeSink):
    """``hold=True`` keeps the exchanges in :attr:`held` until :meth:`answer` is called."""

    cdef object loop
    cdef bint hold
    cdef readonly list held
    cdef list dirty
    cdef bint scheduled
    cdef readonly long answered

    def __init__(self, loop, *, bint hold=False):
        self.loop = loop
        self.hold = hold
        self.held = []
        self.dirty = []

    cdef int submit(self, Exchange exchange) except -1:
        self.held.append(exchange)
        if not self.hold and not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.tick)
        return 0

    cdef int flush_soon(self, ReplyPort port) except -1:
        self.dirty.append(port)
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.tick)
        return 0

    cdef object lookup(self, Span model, Span version):
        return None

    def tick(self):
        """Answer what is held (unless told to hold) and flush."""
        cdef ReplyPort port
        self.scheduled = False
        if not self.hold:
            self.answer()
        dirty, self.dirty = self.dirty, []
        for port in dirty:
            if port.flush_wanted:
                port.flush()

    def answer(self):
        """Send every held exchange's body back."""
        cdef Exchange exchange
        cdef ReplyPort port
        held, self.held = self.held, []
        for exchange in held:
            exchange.reserve_reply(5 + exchange.body_size)
            exchange.reply[0] = 0
            exchange.reply[1] = <unsigned char>(exchange.body_size >> 24)
            exchange.reply[2] = <unsigned char>(exchange.body_size >> 16)
            exchange.reply[3] = <unsigned char>(exchange.body_size >> 8)
            exchange.reply[4] = <unsigned char>exchange.body_size
            memcpy(exchange.reply + 5, exchange.body, exchange.body_size)
            exchange.state = COMMITTED
            port = exchange.port
            exchange.port = None
            self.answered += 1
            port.send_reply(exchange)
            self.dirty.append(port)
        if held and not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.tick)


def plain_dialect():
    """A Dialect that reads nothing and writes nothing."""
    return Dialect.__new__(Dialect)
