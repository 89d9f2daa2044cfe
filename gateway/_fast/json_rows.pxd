# Rows of requests without datatypes: what TensorFlow Serving calls instances, tensors by name, and examples, and what
# MLflow's clients make of a data frame. A row is an object of the model's inputs, or a bare value where the model takes
# one, or an array in the order of a head. Values are read as the version publishes its inputs, in one pass, straight
# into one buffer for each input.
#
# Stated outcomes: a number that the datatype cannot hold is refused; so is a fraction in an integer tensor unless it is
# whole (2.0, 1e3), except that a named column of integers with a fraction in it becomes FP64: then integers past 2**53 are
# refused, which could be told no longer from their neighbours. null is NaN in FP32 and FP64, -2**63 in a named column of
# integers, the empty string in BYTES; a named column of bools with a null in it becomes FP64. NaN is null in named
# columns of any type: data frames have it for whatever is missing. {"b64": "…"} stands for bytes. An optional input may
# be missing from some rows of named columns, which then hold a missing value. A named column of lists takes an array of
# texts of any length, or null; shorter ones are padded with empty texts. A key twice in a row, and a key that is no
# input, are refused.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t

from gateway._fast.exchange cimport MAX_RANK, Exchange, Span
from gateway._fast.json_text cimport Reader
from gateway._fast.tensor_binding cimport InputTable

cdef enum RowMistake:                # Exchange.mistake.kind, beside those of json_text and tensor_binding
    NO_INSTANCES = 200               # name: the key
    ROW_NOT_OBJECT = 201             # expected: row; got: inputs of the model; other: the value
    ROW_UNKNOWN = 202                # name: the key; expected: row, UNKNOWN_ROW or SHARED_ROW
    ROW_TWICE = 203                  # likewise
    ROW_MISSING = 204                # likewise
    ROW_ELEMENT = 205                # name: input; other: the value; expected: row; got: datatype
    ROW_RANGE = 206                  # likewise
    ROW_LAYOUT = 207                 # name: input; expected: row, whose value has another shape than the rows before
    ROW_RAGGED = 208                 # likewise; arrays of unlike length or depth inside the row
    ROW_BASE64 = 209                 # likewise; {"b64": …} that does not decode
    INPUT_NOT_ARRAY = 210            # name: input of {"inputs": {…}}
    ROW_ONLY_BINARY = 211            # name: input; got: datatype, which has no JSON form
    ROW_TOO_DEEP = 212               # name: input; more than MAX_RANK dimensions; expected: row
    SIGNATURE_UNKNOWN = 213          # name: the signature asked for
    SHARED_TOO_LARGE = 214           # name: input; got: the limit that it exceeds, once for each row
    FRAME_KEY = 215                  # name: a key that a split data frame does not have
    FRAME_ROW = 216                  # expected: row, which is no array; other: what it is
    FRAME_ROW_SHORT = 217            # name: input; expected: row, which ends before its value; got: columns
    FRAME_ROW_LONG = 218             # expected: row; got: columns
    FEATURES_ASKED = 219             # parameters: {"features": …}, which rows have no tensors for
    FILLED_TOO_LARGE = 220           # name: input; got: the limit that the values which rows leave out exceed
    LAST_ROW_MISTAKE = 220           # the dialects' own begin behind it

cdef enum:
    UNKNOWN = -1                     # a dimension or depth not seen yet
    UNKNOWN_ROW = -1                 # tensors are read by name, not row by row
    SHARED_ROW = -2                  # "context", which all rows share
    FRAME_HEAD = -3                  # "columns" of a split data frame
    NESTED = MAX_RANK - 1            # dimensions inside a row

cdef struct Column:
    # What the rows have given for one input so far. The buffers lie in the arena and double as they fill.
    Span name                        # borrowed from the InputTable
    int32_t dtype                    # of the values so far
    int32_t published
    int64_t rows
    int64_t elements
    bint scalar                      # one bare value for a tensor without dimensions
    int depth                        # dimensions inside a row; UNKNOWN before the first
    int64_t dims[NESTED]             # their sizes
    uint8_t* data
    size_t size
    size_t room
    bint lists                       # a named column of lists: rows may be of unlike length
    int32_t* lengths                 # of lists: how many texts each row has
    int64_t lengths_room

cdef struct Rows:
    Column* columns                  # in the arena, one for each input of the model
    int* order                       # in the arena: position of a key in the row before, or in the head -> input
    int count
    int64_t filled                   # bytes of the missing values that stand for what rows left out
    int64_t row                      # row being read, afterwards how many there are; or UNKNOWN_ROW
    bint named_columns               # the version takes columns, so what is missing may be filled in
    bint bare                        # a row may be the value of the only input itself
    bint flat                        # values are features: a list is flat whatever the input's shape, and 1 is [1]

# All return 0, or -1 with the mistake noted.

cdef int open_rows(Exchange exchange, InputTable table, Rows* rows) noexcept nogil
# The value of "signature_name": the only one there is, or `also`. An ONNX graph has no more than one.
cdef int read_signature(Reader* reader, Exchange exchange, const char* also) noexcept nogil
# The value of "parameters": whatever it holds is nobody's, but {"features": …} must not be passed over.
cdef int read_parameters(Reader* reader, Exchange exchange) noexcept nogil
# [row, …]; `key` names the array in messages. At least one row.
cdef int read_rows(Reader* reader, Exchange exchange, InputTable table, Rows* rows, const char* key) noexcept nogil
# MLflow's dataframe_records: [{name: value, …}, …].
cdef int read_records(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil
# MLflow's dataframe_split: {"columns": [name, …], "index"?: …, "data": [[value, …], …]}; what the index holds is nobody's.
cdef int read_split(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil
# {name: tensor, …}: each input's rows together.
cdef int read_tensors(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil
# The tensor of one input, which may be a bare value if the input has no dimensions.
cdef int read_tensor(Reader* reader, Exchange exchange, InputTable table, Rows* rows, int input) noexcept nogil
# {name: value, …}: one row's values, which all rows to come share.
cdef int read_shared(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil
# The columns become the exchange's inputs, in the model's order; those that never came stay out.
cdef int close_rows(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil

# Whether the object at the reader is {"b64": "…"}, not a row that begins with an input of that name.
cdef bint opens_base64(Reader* reader) noexcept nogil

# Words for the mistakes above; None for others.
cdef object rows_error(Exchange exchange)
