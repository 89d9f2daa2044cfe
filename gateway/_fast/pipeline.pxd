# The spine of a worker (and of a scorer): admit, route, queue, run, commit, release. Everything around it is injected:
# ports, lanes, ring, counters, the time. See docs/life_of_a_request.md.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

from gateway._fast.batch cimport Batch
from gateway._fast.breadcrumbs cimport Breadcrumbs
from gateway._fast.counters cimport CounterPage
from gateway._fast.exchange cimport Exchange, ReplyPort, Span
from gateway._fast.exchange_sink cimport ExchangeSink
from gateway._fast.identifiers cimport IdGenerator
from gateway._fast.record_ring cimport RingWriter
from gateway._fast.served cimport ServedModel, ServedVersion

cdef class Pipeline(ExchangeSink):
    # --- injected
    cdef object wake                 # () -> None: call step() soon; the loop's call_soon in a worker
    cdef object placement            # serving.placement.place
    cdef object inline_rows          # serving.placement.inline_rows; None: every request is a long one
    cdef object inline_lane          # run(batch): now, on this thread
    cdef object open_lane            # (version) -> a lane with submit(job): on another thread, then `completed`;
                                     # the version keeps it, and whatever ends with the lane ends with the version
    cdef object scan_lane            # lane for bodies too large to scan on the loop
    cdef RingWriter ring             # None: recording is off
    cdef CounterPage counters        # None: nothing is counted
    cdef Breadcrumbs crumbs          # None: native runs leave no trace
    cdef IdGenerator ids
    cdef dict grpc_status            # error code -> gRPC status number
    cdef object on_epoch             # called at tick start when the epoch word is not the running snapshot's number
    cdef object epoch_page           # keeps `epoch` valid
    cdef const uint64_t* epoch       # first word of epoch_page; NULL = never changes
    # --- the snapshot in force
    cdef dict models                 # bytes -> ServedModel
    cdef dict unavailable            # model name -> {version: why it is not served}; for the message alone
    cdef ServedModel last_model      # of the last request: most requests ask for the same
    cdef readonly uint64_t snapshot
    # --- work in hand
    cdef object ready                # deque of ServedVersions with something to run, one turn each
    cdef set on_lanes                # ServedVersions of which a lane holds a batch
    cdef int lanes_opened            # beside the loop's own, which is number 0
    cdef list dirty                  # ports to flush at the end of this tick
    cdef list unsynced               # exchanges that wait for their frame's fdatasync, by sequence
    cdef bint scheduled              # wake() was called and step() has not begun
    cdef readonly int64_t in_flight  # exchanges submitted and not yet released
    cdef public bint draining
    cdef public int64_t queue_limit  # exchanges that may wait for one version
    cdef public int64_t tick_ns      # inline work of one tick
    cdef public size_t scan_inline_bytes
    cdef public int64_t now_ns       # CLOCK_MONOTONIC as last told, and what this tick's runs have taken since

    cdef int take_in(self, Exchange exchange) except -1
    cdef int admit(self, Exchange exchange) except -1
    # Run `version` on an exchange that needs no routing: a scorer's.
    cdef int run_as(self, Exchange exchange, ServedVersion version) except -1
    cdef int queue(self, Exchange exchange, ServedVersion version) except -1
    cdef int line_up(self, ServedVersion version) except -1
    cdef int status_of(self, object error) except -1
    cdef ServedModel find_model(self, Span name)
    cdef object no_such_model(self, str name)
    cdef object no_such_version(self, ServedModel model, str version)
    cdef int take_turn(self, ServedVersion version, int64_t* spent) except -1
    cdef int finish_dropped(self, list dropped) except -1
    cdef int send_away(self, Batch batch) except -1
    cdef int come_back(self, Batch batch) except -1
    cdef int settle(self, Batch batch) except -1
    # The exchange has its outputs or its error: it is answered, whatever goes wrong on the way.
    cdef int finish(self, Exchange exchange, int64_t done_ns) except -1
    cdef int conclude(self, Exchange exchange, int64_t done_ns) except -1
    cdef int commit(self, Exchange exchange, ServedVersion version) except -1
    cdef int release(self, Exchange exchange) except -1
    cdef int schedule(self) except -1
