# The counters of a gateway: one file of shared memory, a row for each process that counts, a slot in every row for each
# model version. Every word is a u64 that only rises, has one writer, and is read by anybody: readers sum the rows.
# A restarted worker goes on in its predecessor's row, so nothing that is shown ever falls.
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    COUNTERS_LAYOUT = 1
    COUNTERS_HEADER_BYTES = 4096
    SLOT_WORDS = 64
    STATUS_COUNT = 17            # gRPC codes
    LATENCY_BUCKETS = 14         # == len(core.instruments.LATENCY_BUCKETS_NS) + 1
    BATCH_BUCKETS = 9            # == len(core.instruments.BATCH_BUCKETS_ROWS) + 1
    REFUSALS_MAX = 48            # a row begins with refusals and spans, which take the room of one slot
    WORD_SPANS = 48              # by outcome
    SPAN_OUTCOMES_MAX = 8

cdef enum:                       # words of a slot
    WORD_STATUS = 0              # requests by gRPC status
    WORD_ROWS = 17               # of requests answered OK, like the four durations
    WORD_QUEUE_NS = 18
    WORD_FEATURES_NS = 19
    WORD_INFER_NS = 20           # a request counts the whole run of its batch
    WORD_OK_NS = 21              # first byte to record
    WORD_ALL_NS = 22             # the same, of every request
    WORD_RUNS = 23
    WORD_RUN_ROWS = 24
    WORD_RUN_NS = 25             # a batch counts once
    WORD_UNLOGGED = 26
    WORD_LATENCY = 27            # requests by bucket (not cumulative)
    WORD_BATCH = 41              # runs by bucket (not cumulative)
    WORDS_USED = 50

cdef struct CountersHeader:
    uint64_t magic
    uint64_t layout
    uint64_t rows
    uint64_t slots               # of a row
    uint64_t slot_words

# The writing end: one row. Its methods belong to one thread, the loop's. A slot that the file does not have is not
# counted: a control that numbers past the end must not cost anybody an answer.
cdef class CounterPage:
    cdef object memory           # the mmap; keeps `words` valid
    cdef uint64_t* words         # borrowed from memory: this row, its refusals and spans first
    cdef readonly int slots
    cdef readonly int row

    # The SLOT_WORDS words of a version; NULL if there is no such slot.
    cdef uint64_t* slot(self, int index) noexcept nogil
    # One request has its answer. Durations in ns; `status` is a gRPC code.
    cpdef void count_request(
        self, int slot, int status, int64_t rows, int64_t queue_ns, int64_t features_ns, int64_t infer_ns,
        int64_t total_ns,
    ) noexcept nogil
    # One run of a version is over.
    cpdef void count_run(self, int slot, int64_t rows, int64_t infer_ns) noexcept nogil
    # A request was answered without a record for want of room.
    cpdef void count_unlogged(self, int slot) noexcept nogil
    # A request that reached no known model; `code` is its error's.
    cpdef void count_refusal(self, str code) noexcept
    # What became of sampled spans; `outcome` is one of core.instruments.SPAN_OUTCOMES. KeyError for another.
    cpdef int count_spans(self, str outcome, int64_t n) except -1
