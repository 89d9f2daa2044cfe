# Whether a request's tensors are what they say (bytes against shape and datatype), and whether they are what the
# model takes (names, datatypes, shapes, rows). Shared by both protocols; works without the GIL and notes mistakes in
# the exchange.
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from gateway._fast.exchange cimport MAX_RANK, Exchange, Span

cdef enum TensorMistake:         # Exchange.mistake.kind
    NO_MISTAKE = 0
    # of a tensor by itself; worded by settle_tensor_mistake
    UNKNOWN_DATATYPE = 1         # other: as sent
    RANK_TOO_HIGH = 2            # got: dimensions
    NEGATIVE_DIMENSION = 3       # expected: which dimension; got: its value
    SHAPE_TOO_LARGE = 4          # more elements than can be counted
    WRONG_BYTE_COUNT = 5         # expected, got: bytes
    ELEMENT_CUT_SHORT = 6        # of BYTES; expected: index of the element; got: bytes left
    WRONG_ELEMENT_COUNT = 7      # of BYTES; expected: elements; got: those found, -1 = more
    BOOL_NOT_BIT = 8             # expected: index of the element; got: its byte
    OUT_OF_MEMORY = 9
    # of a tensor against the model; worded by InputTable.settle
    UNEXPECTED_INPUT = 20
    REPEATED_INPUT = 21
    MISSING_INPUT = 22
    WRONG_DATATYPE = 23          # expected: spec index
    WRONG_SHAPE = 24             # expected: spec index
    ROWS_DIFFER = 25             # other: the input compared with; expected: its rows; got: rows of this one
    EMPTY_ROWS = 26              # got: rows of a request whose tensors have no elements; expected: as many as are taken
    UNEXPECTED_OUTPUT = 27
    REPEATED_OUTPUT = 28

# Keep the first mistake; always -1, so that callers can `return note_mistake(…)`.
cdef inline int note_mistake(
    Exchange exchange, int kind, int input, Span name, int64_t expected, int64_t got
) noexcept nogil:
    if exchange.mistake.kind == NO_MISTAKE:
        exchange.mistake.kind = kind
        exchange.mistake.input = input
        exchange.mistake.name = name
        exchange.mistake.expected = expected
        exchange.mistake.got = got
    return -1

# A tensor by itself. All return 0, or -1 with the mistake noted.

# Check rank and dimensions as sent, and fill `elements`.
cdef int measure_shape(Exchange exchange, int input) noexcept nogil
# Give a measured input its data in canonical form, after checking that bytes and elements agree.
cdef int claim_data(Exchange exchange, int input, const uint8_t* data, size_t size) noexcept nogil
# exchange.mistake -> exchange.fail(…).
cdef int settle_tensor_mistake(Exchange exchange) except -1

# How a caller's name stands in a message: quoted, control characters escaped, cut where nobody reads on.
cdef str quoted(Span name)

cdef struct NameIndex:           # names -> their positions; open addressing, at most half full
    const Span* names            # borrowed from whoever built the index
    int count
    int32_t* slots               # owned by the InputTable: freed in __dealloc__; -1 = empty
    uint64_t mask

cdef struct InputSpec:
    uint32_t accepted            # bit `1 << DType` for each datatype taken
    int32_t dtype                # as published; what JSON values without a datatype of their own are read as
    int32_t rank
    int64_t[MAX_RANK] shape      # -1: any
    bint optional

# Of named columns: whether a row is a list of any number of texts.
cdef inline bint takes_lists(const InputSpec* column) noexcept nogil:
    return column.rank == 2 and column.shape[1] < 0

@cython.final
cdef class InputTable:
    # What one version takes, compiled once; immutable, shared by all its requests.
    cdef readonly str model
    cdef readonly tuple specs        # of TensorSpec
    cdef readonly tuple outputs      # of str, the model's order
    cdef readonly bint batchable     # first dimension = rows
    cdef readonly bint columns       # named columns: [rows] or [rows, 1] each
    cdef tuple encoded_names         # keeps alive what input_names and output_names point to
    cdef int input_count
    cdef InputSpec* inputs           # owned: freed in __dealloc__
    cdef Span* input_names           # owned: freed in __dealloc__; their bytes borrowed from encoded_names
    cdef Span* output_names          # likewise
    cdef NameIndex input_index
    cdef NameIndex output_index
    cdef bint rigid                  # no request can differ from another in datatypes or in shapes past the rows
    # Position of an input among the specs; -1 = none of that name.
    cdef int find_input(self, Span name) noexcept nogil
    # Fill input_of_spec, output_of_wanted, output_names, rows (which may be none) and shape_key. 0, or -1 with the mistake noted.
    cdef int bind(self, Exchange exchange) noexcept nogil
    cdef int place_inputs(self, Exchange exchange) noexcept nogil
    cdef int check_inputs(self, Exchange exchange) noexcept nogil
    cdef int place_outputs(self, Exchange exchange) noexcept nogil
    # Whether two bound exchanges agree in all that shape_key is made of; for equal keys, which could collide.
    cdef bint same_layout(self, Exchange one, Exchange other) noexcept nogil
    # After bind returned -1: exchange.mistake -> exchange.fail(TensorMismatch).
    cdef int settle(self, Exchange exchange) except -1
