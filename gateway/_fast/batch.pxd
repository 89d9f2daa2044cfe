# One run of a version for the rows of several exchanges: gather, features, run, scatter.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t

from gateway._fast.breadcrumbs cimport Breadcrumbs
from gateway._fast.exchange cimport Exchange
from gateway._fast.feature_plan cimport Column, RowError
from gateway._fast.served cimport ServedVersion

cdef class Batch:
    cdef readonly ServedVersion version
    cdef readonly list exchanges         # alike: see ServedVersion.take
    cdef readonly int64_t rows
    cdef readonly int64_t features_ns    # of this run; 0 without a plan
    cdef readonly int64_t infer_ns
    cdef bint off_loop                   # run by a lane thread: also write the replies there
    cdef Breadcrumbs crumbs              # None: leave no trace
    cdef int lane                        # number of the lane that runs it; the loop's is 0
    cdef uint8_t* scratch                # owned: freed in __dealloc__; gathered columns
    cdef object feeds                    # arrays that the run reads, kept until it is over
    cdef list arrays                     # outputs of the run: exchanges' outputs point into them

    @staticmethod
    cdef Batch of(ServedVersion version, list exchanges)
    cdef dict gather_tensors(self)
    cdef dict gather_columns(self)
    cdef int fail_rows(self, const Column* columns, const RowError* errors) except -1
    cdef int scatter(self, list arrays) except -1

# The dialect's reply, or the error that takes its place (an output that the dialect cannot carry; a bug of ours).
cdef int write_reply_or_fail(Exchange exchange) except -1
