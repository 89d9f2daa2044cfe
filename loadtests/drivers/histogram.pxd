# Log-linear histogram of durations, as HdrHistogram's: fixed memory, each bucket under 0.8 % wide.
# loadtests/latency.py reads the counts; its bounds and bucket_of here must agree (a test compares them).
from libc.stdint cimport int64_t

cdef extern from *:
    int __builtin_clzll(unsigned long long) noexcept nogil

cdef enum:
    SUB_BITS = 7                     # 128 buckets to a power of two
    LONGEST_BITS = 40                # durations from 2**40 ns (18 minutes) share the last bucket
    BUCKETS = (LONGEST_BITS - SUB_BITS + 1) << SUB_BITS

cdef inline int bucket_of(int64_t ns) noexcept nogil:
    cdef int shift
    if ns < 1 << SUB_BITS:
        return <int>ns if ns > 0 else 0
    shift = 63 - __builtin_clzll(<unsigned long long>ns) - SUB_BITS
    if shift >= LONGEST_BITS - SUB_BITS:
        return BUCKETS - 1
    return (shift << SUB_BITS) + <int>(ns >> shift)
