# One run of a version for the rows of several exchanges: gather, features, run, scatter.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t

from gateway._fast.breadcrumbs cimport Breadcrumbs
from gateway._fast.exchange cimport Exchange, Span
from gateway._fast.feature_columns cimport Column
from gateway._fast.feature_program cimport RowError
from gateway._fast.served cimport ServedVersion

cdef class Batch:
    cdef readonly ServedVersion version
    cdef readonly list exchanges         # alike: see ServedVersion.take
    cdef readonly int64_t rows
    cdef readonly int64_t features_ns    # of this run; 0 without a plan
    cdef readonly int64_t infer_ns
    cdef readonly int64_t took_ns        # of all that run() did: what it is charged for
    cdef readonly bint failed            # it had to be run in parts: what it took says nothing about later runs
    cdef bint off_loop                   # run by a lane thread: also write the replies there
    cdef Breadcrumbs crumbs              # None: leave no trace
    cdef int lane                        # number of the lane that runs it; the loop's is 0
    cdef size_t input_bytes              # of its feeds

    @staticmethod
    cdef Batch of(ServedVersion version, list exchanges)
    # Everybody gets this error who has none yet.
    cdef int fail_all(self, object error) except -1

    # run's own steps, in their order
    cdef int attempt(self) except -1
    cdef int run_together(self) except -1
    cdef int run_halves(self) except -1
    cdef dict gather_tensors(self)
    cdef dict gather_columns(self)
    cdef int64_t take_texts(self, int spec, Exchange exchange, object[::1] texts, int64_t at) except -1
    cdef object array_in_body(self, Exchange exchange, const Span* piece, int spec, int dtype)
    cdef object empty_array(self, tuple shape, int dtype)
    cdef size_t pieces_of(self, int spec, Span* pieces) noexcept
    cdef void note_pieces(self, Span* pieces) noexcept
    cdef size_t texts_in_lists(self) except? 0
    cdef uint8_t* split_lists(self, int column, uint8_t* room) except NULL
    cdef size_t lay_out_columns(self, Column* columns, Span* pieces, uint8_t* room) except? 0
    cdef int fail_rows(self, const Column* columns, const RowError* errors) except -1
    cdef int scatter(self, list arrays) except -1
    cdef int scatter_strings(self, int output, array) except -1
    cdef int check_rows(self, int output, int64_t got) except -1

# The outputs of a batchable version for a request of no rows, which no run is made for: a model is never tried on nothing.
# Of a dimension that the graph leaves open, there are none either.
cdef int answer_no_rows(Exchange exchange, ServedVersion version) except -1
# The dialect's reply, or the error that takes its place (an output that the dialect cannot carry; a bug of ours).
cdef int write_reply_or_fail(Exchange exchange) except -1
# Any exception as a GatewayError: itself, out of memory, or a bug of ours with its cause.
cdef object own_error(object error)
