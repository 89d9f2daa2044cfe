# One epoll loop that keeps requests on their way, closed or open, whatever the protocol. All of it runs nogil;
# the protocol is a table of C functions.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from loadtests.drivers.histogram cimport BUCKETS

cdef enum:
    STATUSES = 600                     # gRPC statuses 0..16 and HTTP statuses 100..599 both fit

cdef struct Body:
    const uint8_t* at                  # borrowed from LoadLoop._bodies
    size_t n

cdef struct Call:
    # One request on its way.
    Connection* connection             # borrowed from Load.connections
    int64_t due_ns                     # when it was meant to be sent; latency counts from here
    uint32_t body                      # index into Load.bodies
    int32_t status                     # the protocol's status; -1 = not seen yet
    size_t sent                        # bytes of the body already taken by the transport
    bint keep                          # the reply is wanted
    uint8_t* reply                     # owned: freed with Load.calls; reused by later calls
    size_t reply_size
    size_t reply_capacity
    Call* next_free

cdef struct Connection:
    int fd                             # -1 = gone
    int in_flight
    bint dirty                         # has something to write
    bint waits_writable                # EPOLLOUT is armed
    uint8_t* out                       # owned: freed with Load.connections; bytes the socket has not taken
    size_t out_size
    size_t out_at
    size_t out_capacity
    void* protocol                     # owned by the protocol: made in `opened`, freed in `closed`
    Load* load                         # borrowed: the load it is part of

cdef struct Transport:
    int (*opened)(Connection* c) noexcept nogil                      # -1: no memory
    void (*closed)(Connection* c) noexcept nogil
    int (*begin)(Connection* c, Call* call) noexcept nogil           # -1: not possible on this connection any more
    int (*received)(Connection* c, const uint8_t* data, size_t n) noexcept nogil     # -1: close the connection
    int (*pump)(Connection* c) noexcept nogil                        # move what is to be sent into `out`

cdef struct Kept:
    uint32_t body
    uint8_t* reply                     # owned: freed by LoadLoop
    size_t n

cdef struct Load:
    Transport transport
    void* context                      # borrowed from the protocol's class: what its connections share
    int epoll
    Connection* connections            # owned
    int connection_count
    int streams                        # most calls in flight on one connection
    Body* bodies                       # owned (the array); used in turn
    size_t body_count
    size_t next_body
    Call* calls                        # owned: connection_count * streams of them
    Call* free_calls
    int in_flight
    int next_connection                # round robin of the open loop

    # the run under way
    bint replenish                     # closed loop: each answer starts the next request
    int64_t stop_ns                    # closed loop: no request is begun after this
    int64_t left_to_begin
    int64_t read_ns                    # when the bytes being parsed were read

    # what came of it
    int64_t ok
    int64_t failed                     # answered, not OK
    int64_t lost                       # never answered
    int64_t statuses[STATUSES]
    int64_t latency[BUCKETS]
    int64_t lateness[BUCKETS]          # open loop: sent - due
    int64_t first_ns
    int64_t last_ns
    int64_t keep_every                 # 0 = keep none
    int64_t kept_limit
    int64_t kept_count
    Kept* kept                         # owned

# For transports: the answer is complete (ok: status `ok_status` seen) or will never come.
cdef void finish_call(Connection* c, Call* call, bint ok) noexcept nogil
cdef void lose_call(Connection* c, Call* call) noexcept nogil
cdef int append_reply(Call* call, const uint8_t* data, size_t n) noexcept nogil
# Room for `n` more bytes at out + out_size. NULL = no memory.
cdef uint8_t* reserve_out(Connection* c, size_t n) noexcept nogil

cdef class LoadLoop:
    cdef Load load
    cdef object _bodies                # keeps what load.bodies points to
    cdef int open(self, Transport transport, str host, int port, list bodies, int connections, int streams) except -1
    cdef int _connect(self, str host, int port) except -1
    cdef int _start(self, int64_t requests, int64_t keep, int64_t keep_every) except -1
    cdef object _outcome(self, int64_t cpu_ns)
    cdef void _free_kept(self) noexcept
