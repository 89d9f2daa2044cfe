# Committed frames → runs of shadow candidates, inside a scorer. Live shadowing and replay are this one path.
from libc.stdint cimport uint64_t

from gateway._fast.exchange cimport Dialect, Exchange, ReplyPort
from gateway._fast.pipeline cimport Pipeline
from gateway._fast.record_ring cimport RingReader
from gateway._fast.served cimport ServedVersion

cdef class Candidate:
    cdef readonly ServedVersion version
    cdef uint64_t threshold      # takes a prediction whose draw, a number made from its id, is not above it
    cdef uint64_t salt           # of its spans' ids
    cdef readonly long taken     # exchanges given to it
    cdef readonly long skipped   # exchanges it was too far behind for

cdef class ShadowFeed:
    cdef Pipeline pipeline
    cdef RingReader reader
    cdef ReplyPort port          # nobody waits for a shadow's answer
    cdef Dialect dialect
    cdef dict schemas            # schema id -> RecordSchema seen in this ring
    cdef dict candidates         # model name -> list of Candidate
    cdef readonly long without_schema   # frames passed over because this reader came after their schema
    cdef readonly long without_inputs   # frames that hold no inputs to run on (digest, off, too large)
    cdef readonly long damaged          # frames that contradict themselves or their schema
