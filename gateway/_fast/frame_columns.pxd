# From frames to columns: what a Parquet part, a query and an Arrow table are made of, without an object per row.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from gateway._fast.exchange cimport Span
from gateway._fast.record_frames cimport ExchangeBody, ExchangeFrame, FrameHeader, FrameTensor, RecordSchema

cdef struct Grow:                # a buffer that grows
    uint8_t* at                  # owned by the struct's owner, until given away
    size_t used
    size_t capacity

cdef enum:                        # one value a row, no nulls but in the ids
    COLUMN_PREDICTION_ID
    COLUMN_ROW
    COLUMN_TS                    # microseconds
    COLUMN_SCHEMA                # index among the schemas of the part: names version and digest
    COLUMN_ROLE
    COLUMN_RULE
    COLUMN_STATUS
    COLUMN_PROTOCOL
    COLUMN_TRACE_ID
    COLUMN_SPAN_ID
    COLUMN_PARENT_SPAN_ID
    COLUMN_TRACE_FLAGS
    COLUMN_QUEUE_NS
    COLUMN_FEATURES_NS
    COLUMN_INFER_NS
    COLUMN_TOTAL_NS
    COLUMN_ROWS
    COLUMN_BATCH_ROWS
    COLUMN_SNAPSHOT
    FIXED_COLUMNS

cdef enum:                       # NULL = empty
    COLUMN_REQUEST_ID
    COLUMN_CALLER
    COLUMN_ERROR
    COLUMN_INPUTS_JSON           # inputs that do not fit the typed columns: see docs/formats.md
    COLUMN_OUTPUTS_JSON
    TEXT_COLUMNS

cdef struct TextColumn:
    Grow offsets                 # int32, one more than rows
    Grow data
    Grow validity                # a bit a row
    int64_t nulls

cdef struct TensorColumn:
    int dtype
    bint scalar                  # one element a row; else a list
    Grow values                  # elements; BOOL as bits; BYTES as characters
    Grow offsets                 # BYTES only: int32, one more than elements
    Grow lists                   # lists only: int32, one more than rows
    Grow validity                # a bit a row
    int64_t elements
    int64_t nulls

cdef enum:
    BYTES_MAX = 134217728        # of all columns together: Arrow's offsets are int32, and a column of bools has 8 a byte
    VALUE_MAX = 1073741824       # of one value: a page of Parquet is shorter than 2 GiB

cdef struct ColumnLimits:        # reached before the next row, never passed but by a row that is alone
    int64_t rows
    size_t bytes
    size_t value                 # a row that may have a larger one in JSON or a typed column tells its fingerprint

cdef struct Side:                # inputs or outputs of the exchange at hand, and the columns that take them
    TensorColumn* columns        # borrowed from the FrameColumns, like all that follows
    int count
    FrameTensor* tensors         # those sent
    size_t* cursors              # where the next row of each begins in its data
    size_t* ahead                # the same, for a look at what follows
    uint8_t* digests             # room for a fingerprint of each
    int sent
    const Span* names            # the schema's
    int name_count
    bint named                   # the tensors tell their names themselves
    TextColumn* json
    bint typed                   # all fit the typed columns; else they become JSON

cdef struct RowBound:            # most bytes that rows of the exchange at hand take
    size_t each
    size_t first                 # of row 0 alone: tensors that stand whole in it
    size_t texts                 # of tensors of BYTES, all rows together

cdef class FrameColumns:
    # Rows of exchanges with the same columns. Grows until taken.
    cdef readonly int64_t rows
    cdef int64_t room            # rows that the fixed columns have memory for
    cdef Grow fixed[FIXED_COLUMNS]
    cdef Grow parent_validity
    cdef Grow trace_validity
    cdef int64_t parent_nulls
    cdef int64_t trace_nulls
    cdef TextColumn texts[TEXT_COLUMNS]
    cdef TensorColumn* inputs    # owned
    cdef TensorColumn* outputs   # owned
    cdef int input_count
    cdef int output_count
    cdef FrameTensor* tensors    # owned scratch: the tensors of the exchange at hand, and where each row begins
    cdef size_t* cursors         # owned scratch, two a tensor: see Side.cursors and Side.ahead
    cdef uint8_t* digests        # owned scratch
    cdef int scratch             # tensors that the three have room for
    cdef readonly int64_t first_ts
    cdef readonly int64_t last_ts
    cdef readonly object owner   # whatever its maker wants to find again

    # Append rows of an exchange from row `first` on, as many as there is room for; of columns that are empty there is
    # always room for one. Returns how many; -1 = the frame contradicts itself, nothing was added; -2 = out of memory.
    cdef int64_t add(
        self, const ExchangeFrame* frame, RecordSchema schema, int schema_index, int64_t first,
        const ColumnLimits* limits,
    ) noexcept nogil
    cdef size_t size(self) noexcept nogil        # bytes held, roughly

    # add's own steps
    cdef int open_tensors(self, const ExchangeFrame* frame, int count) noexcept nogil
    cdef int find_scratch(self, int count) noexcept nogil
    cdef void open_inputs(self, Side* side, const ExchangeBody* body, RecordSchema schema) noexcept nogil
    cdef void open_outputs(self, Side* side, const ExchangeBody* body, RecordSchema schema) noexcept nogil
    cdef void open_sent(self, Side* side, int at, int sent) noexcept nogil
    cdef int64_t rows_within(
        self, const ExchangeFrame* frame, const Side* inputs, const Side* outputs, int64_t first,
        const ColumnLimits* limits,
    ) noexcept nogil
    cdef int make_room(self, int64_t rows) noexcept nogil
    cdef int begin(self) noexcept nogil
    cdef void write_fixed(
        self, const ExchangeBody* body, int64_t row, int64_t rows, int64_t first, int schema_index
    ) noexcept nogil
    cdef int append_ids(self, const ExchangeBody* body, int64_t row, int64_t rows) noexcept nogil
    cdef void note_time(self, int64_t unix_ns) noexcept nogil

cdef struct Route:               # exchanges of one schema and day
    uint64_t schema_id
    int64_t day
    void* columns                # borrowed FrameColumns, kept by FrameSorter.kept
    void* schema                 # borrowed RecordSchema, likewise
    int schema_index

cdef class FrameSorter:
    # Walks one ring's stream and hands every exchange to the columns it belongs to.
    cdef uint32_t seed
    cdef object open_columns     # (RecordSchema, day) -> (FrameColumns, schema index)
    cdef dict schemas_by_id
    cdef list kept
    cdef Route* routes           # owned
    cdef int route_count
    cdef int last_route
    cdef ColumnLimits limits     # of each columns; those of a fair share where there are many
    cdef size_t bytes_max
    cdef size_t bytes_in_all
    cdef int64_t begun           # rows that were taken of the frame at next_seq: the others did not fit
    cdef readonly object full    # the FrameColumns that made feed stop, or None
    cdef readonly uint64_t next_seq
    cdef readonly int64_t exchanges
    cdef readonly int64_t rows
    cdef readonly int64_t repeated    # frames met again, dropped
    cdef readonly int64_t malformed   # whole frames that contradict themselves, or name a schema never told
    cdef readonly int64_t holes       # times that bytes of the stream were missing
    cdef readonly list gaps           # (lost, first ns, last ns)

    # feed's own steps
    cdef int run_frames(
        self, const uint8_t* at, size_t n, size_t* offset, const FrameHeader** unrouted
    ) noexcept nogil
    cdef void meet_again(self, const FrameHeader* header, size_t* offset) noexcept nogil
    cdef int add_rows(self, Route* route, const ExchangeFrame* frame) noexcept nogil
    cdef Route* find_route(self, uint64_t schema_id, int64_t day) noexcept nogil
    cdef bint take_rare(self, const FrameHeader* header) except -1
    cdef int tell(self, const FrameHeader* header) except -1
    cdef bint open_route(self, const FrameHeader* header) except -1
