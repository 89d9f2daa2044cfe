# The program of a feature plan: instructions over the registers of a block of rows. This page says what each instruction
# does; the loops stand in the header of each family, feature_….pxd.
#
# A register holds one value of each row of the block: numbers (double), integers (int64_t), texts (Span), lists of texts
# (a Span over the Spans of texts, none of them empty) or lists of codes (a Span over int64_t). Missing is one value per
# kind: NaN, INT64_MIN, the empty text, the empty list. The compiler gives every register a place (slot) in the memory of
# the run, and one that is no longer read may give its place to a result of the same instruction: an instruction reads
# the operands of a row before it writes the row's result, and makes no second pass over its operands.
from libc.stdint cimport int32_t, int64_t, uint8_t

from gateway._fast.category_table cimport Table
from gateway._fast.exchange cimport Span
from gateway._fast.text_arena cimport Arena
from gateway._fast.text_terms cimport TermScratch

cdef enum:
    BLOCK_ROWS = 64                    # rows per pass
    SLOT_BYTES = 512                   # BLOCK_ROWS numbers or integers; texts, lists and codes take two slots
    MAX_SPLINE_DEGREE = 15
    LIST_TEXTS_MAX = 16384             # a longer list fails its row, so that no row takes the memory of its neighbours
    DTYPE_MICROSECONDS = 64            # INT64 microseconds since the epoch: how Python hands over datetime64; never sent

cpdef enum ColumnType:
    COLUMN_FLOAT = 0
    COLUMN_INT = 1
    COLUMN_BOOL = 2
    COLUMN_STRING = 3
    COLUMN_TIMESTAMP = 4
    COLUMN_STRINGS = 5

cpdef enum Failure:                     # why a row failed; words for each in features/compiler.py
    FAILURE_NONE = 0
    FAILURE_ABSENT = 1                 # a required column was not sent
    FAILURE_DTYPE = 2                  # a data type that the column does not take
    FAILURE_MISSING = 3                # missing, where the column or a step says `missing: error`
    FAILURE_INFINITE = 4               # infinite, where the column says `infinite: error`
    FAILURE_UNSEEN = 5                 # a category that the step was not fitted on, and `unknown: error`
    FAILURE_NOT_INTEGER = 6            # an int column's value with a fraction, or outside int64
    FAILURE_NOT_BOOL = 7               # a bool column's value other than 0 and 1
    FAILURE_TIMESTAMP = 8              # no ISO 8601 instant, or outside years 0001 to 9999
    FAILURE_NO_INT64 = 9               # missing, on its way into an int64 output
    FAILURE_MEMORY = 10                # no memory for the run
    FAILURE_NOT_UTF8 = 11              # a text that is no UTF-8, where a step looks at characters, and in string outputs
    FAILURE_TEXT_SIZE = 12             # a longer text than the step takes
    FAILURE_PATTERN = 13               # a regular expression took too many steps over the text
    FAILURE_OUTSIDE = 14               # beyond the range of a spline, and `extrapolation: error`
    FAILURE_DEGREES = 15               # no latitude or longitude, and `out_of_range: error`
    FAILURE_LONG_LIST = 16             # more than LIST_TEXTS_MAX texts

# Below, x is the register `of`, y the register `by`, and "->" goes to the register `to`.
# A family is a range of 64; FeaturePlan finds the loop by it.
cpdef enum Operation:
    # columns
    OP_LOAD = 0                        # rows of `column`, as its type says ->
    # numbers
    OP_NUMBER = 64                     # the constant a -> (folded chains end so)
    OP_TO_NUMBER = 65                  # integer x -> number
    OP_FILL_NUMBER = 66                # a where x is missing, else x ->
    OP_FILL_INTEGER = 67               # i where x is missing, else x ->
    OP_NUMBER_MISSING = 68             # number x -> integer: 1 where missing, else 0
    OP_INTEGER_MISSING = 69
    OP_SUBTRACT_DIVIDE = 70            # (x - a) / b ->
    OP_MULTIPLY_ADD = 71               # x * a + b ->
    OP_CLIP = 72                       # x into [a, b] ->
    OP_LOG1P = 73
    OP_BUCKETIZE = 74                  # number x -> integer: how many of the `length` constants, ascending, are <= x
    OP_SINE = 75                       # sin, cos of a turn: x by the period a ->
    OP_COSINE = 76
    OP_ADD = 77                        # x + y ->
    OP_SUBTRACT = 78
    OP_MULTIPLY = 79
    OP_DIVIDE = 80                     # a where y is 0 and x is not missing, else x / y ->
    OP_IS_CODE = 81                    # integer x -> integer: 1 where x is i, else 0
    OP_SQUARE_ROOT = 82
    OP_ABSOLUTE = 83
    OP_EXPONENTIAL = 84
    OP_LOGARITHM = 85
    OP_ABOVE = 86                      # number x -> integer: 1 where x > a, else 0
    # categories
    OP_LOOKUP_NUMBER = 128             # number x -> integer: code of the category, `i` if unseen, `j` if missing
    OP_LOOKUP_INTEGER = 129
    OP_LOOKUP_TEXT = 130
    OP_HASH_INTEGER = 131              # integer x -> integer: bucket * 2 + (1 if the sign is minus), of its decimal text
    OP_HASH_TEXT = 132                 # text x -> integer, likewise; `i` buckets, seed `j`, signed if a != 0
    OP_CODE_NUMBER = 133               # code x -> number: constant x of the `length`; NaN for a code that is none of them
    OP_ID_INTEGER = 134                # integer x -> integer: code of the category; `i` + h % `length` if unseen, where h
    OP_ID_TEXT = 135                   # is its MurmurHash3; `j` if missing. Text x, likewise
    OP_LOOKUP_LIST = 136               # list x -> codes of those of its texts that have one; `i`, `j` as of OP_LOOKUP_TEXT
    OP_HASH_LIST = 137                 # list x -> codes: OP_HASH_TEXT of each of its texts
    OP_HAS_CODE = 138                  # codes x -> integer: 1 where i is one of them, else 0
    # times
    OP_TIMESTAMP_PART = 192            # microseconds x -> integer; which part: `i`, a TimestampPart
    OP_LOCAL_TIME = 193                # microseconds x -> microseconds as a clock shows them: x + its offset from UTC.
                                       # `length` transitions in seconds, ascending, then the offsets around them, in
                                       # seconds; from second i on the offsets are those of 400 years before
    OP_ELAPSED = 194                   # (x - y) / a, of microseconds -> number; a microseconds are the unit
    OP_ELAPSED_SINCE = 195             # (x - i) / a, likewise
    # texts
    OP_FILL_TEXT = 256                 # `text` where x is missing, else x ->
    OP_TEXT_MISSING = 257              # text or list x -> integer
    # Below, missing stays missing, and an empty result is missing.
    OP_MAP_TEXT = 258                  # each character of x as the CharacterMap `tool` has it ->
    OP_STRIP_TEXT = 259                # x without space at its ends or, if i != 0, the characters of `text` -> (tool: any)
    OP_TEXT_LENGTH = 260               # characters of text x -> integer
    OP_EXTRACT_TEXT = 261              # what the TextPattern `tool` finds first in x ->
    OP_REPLACE_TEXT = 262              # x with the other bytes of `text` in place of its first i ->
    OP_SPLIT = 300                     # text x -> list: the pieces between occurrences of `text` that are not empty
    # elements of an output, from `offset` of a row on
    EMIT_NUMBER = 320                  # number x: one element
    EMIT_INTEGER = 321                 # integer x: one element
    EMIT_ONE_HOT = 322                 # code x: `length` elements, 1 at the code; none set below 0
    EMIT_HASHED = 323                  # bucket x of OP_HASH_…: `length` elements, 1 or -1; none set for missing
    EMIT_TERMS = 324                   # text x: `length` elements, those that the TermVectorizer `tool` gives; others zero
    EMIT_TEXT = 330                    # text x: one element of a string output
    EMIT_HOT_CODES = 331               # codes x of OP_LOOKUP_LIST: `length` elements, 1 at each of the codes
    EMIT_SUMMED_CODES = 332            # codes x of OP_HASH_LIST: `length` elements, 1 or -1 added for each of them
    # combinations
    OP_NORM_L1 = 384                   # of `length` numbers -> their norm, or 1 where that is next to nothing
    OP_NORM_L2 = 385
    OP_NORM_MAX = 386
    # curves
    OP_YEO_JOHNSON = 448               # x by the power a ->
    OP_BOX_COX = 449
    OP_QUANTILE = 450                  # the share, 0 to 1, of x among `length` constants, quantiles that do not descend;
                                       # 0 and 1 if within a > 0 of the ends ->
    OP_NORMAL_DEVIATE = 451            # where the standard normal distribution has the share x, held in [a, b], which is
                                       # within [-7.6, 7.6] ->
    OP_WRAP = 452                      # x moved by whole periods b into [a, a + b] ->
    OP_SPLINE = 453                    # the B-spline i of degree j at x, b where x is missing -> `length` constants are
                                       # knots, four more its values and slopes at the ends of the range; beyond it: a, a
                                       # SplineBeyond
    # places
    OP_DEGREES = 512                   # x where it is in [-a, a], else missing or, if i != 0, the row fails ->
    OP_DISTANCE = 513                  # a times the angle between two points on a sphere, of four numbers in radians:
                                       # latitude and longitude of one, then of the other ->
    OP_DISTANCE_TO = 514               # likewise between latitude x, longitude y and those that are the two constants
    OP_GEOHASH = 515                   # the i characters for latitude x and longitude y, in degrees within the globe ->
    # operators
    OP_INTEGER = 640                   # the integer i ->
    OP_TEXT = 641                      # `text` ->
    OP_COMPARE_NUMBERS = 642           # x and y -> integer: 1 if they are in the Relation i, else 0; missing if one is
    OP_COMPARE_INTEGERS = 643
    OP_COMPARE_TEXTS = 644             # byte by byte; RELATION_EQUAL or RELATION_NOT_EQUAL
    OP_FIRST_NUMBER = 645              # x, or y where x is missing ->
    OP_FIRST_INTEGER = 646
    OP_FIRST_TEXT = 647

cpdef enum SplineBeyond:
    SPLINE_CONTINUE = 0                # the polynomials as they are
    SPLINE_ERROR = 1                   # the row fails
    SPLINE_LINE = 2                    # along the value and slope
    SPLINE_PERIODIC = 3                # x is wrapped; the last `j` B-splines are the first ones

cpdef enum Relation:
    RELATION_EQUAL = 0
    RELATION_NOT_EQUAL = 1
    RELATION_LESS = 2
    RELATION_LESS_OR_EQUAL = 3
    RELATION_GREATER = 4
    RELATION_GREATER_OR_EQUAL = 5

cdef enum:
    FAMILY_BITS = 6
    FAMILY_COLUMNS = 0
    FAMILY_NUMBERS = 1
    FAMILY_CATEGORIES = 2
    FAMILY_TIMES = 3
    FAMILY_TEXTS = 4
    FAMILY_ELEMENTS = 5
    FAMILY_COMBINATIONS = 6
    FAMILY_CURVES = 7
    FAMILY_PLACES = 8
    FAMILY_OPERATORS = 10

cdef enum:
    # Codes that a lookup gives besides positions (>= 0) and INT64_MIN (missing).
    CODE_ZEROS = -1                    # known or tolerated, but without a position: a one-hot of zeros
    # As an outcome of a lookup only.
    CODE_ERROR = -2147483648           # the row fails

cdef struct Instruction:
    int32_t operation                  # Operation
    int32_t column                     # index, for the error of a row that fails here
    int32_t to                         # slots
    int32_t of
    int32_t by
    int32_t output                     # index, of an emission
    int64_t offset                     # of its first element in a row of the output
    int64_t length                     # of constants, or of elements
    double a
    double b
    int64_t i
    int64_t j
    const double* constants            # owned by the plan
    const int32_t* slots               # owned by the plan: further operands
    const Table* table                 # borrowed from a Vocabulary that the plan keeps
    Span text                          # borrowed from a bytes object that the plan keeps
    const void* tool                   # the table, pattern or weighing of an object that the plan keeps; see Operation


# --- a run

cdef struct RowError:
    int32_t column                     # index, -1 = none
    int32_t kind                       # Failure

cdef enum:
    TEXT_ARENA_BYTES = 268435456       # that texts and lists made of one row may take; then FAILURE_MEMORY

cdef struct TextMemory:                # begun and freed by the run
    Arena arena                        # texts and lists that the instructions made; emptied behind every block
    TermScratch terms

cdef struct Block:
    int64_t first                      # row of the batch
    int rows
    RowError* errors                   # borrowed from the caller of run: of its first row
    int64_t failed                     # rows of the batch so far
    uint8_t* registers                 # borrowed from the run
    TextMemory* memory                 # borrowed from the run; NULL in a plan that needs none


cdef inline double* numbers_at(const Block* block, int32_t slot) noexcept nogil:
    return <double*>(block.registers + slot * SLOT_BYTES)


cdef inline int64_t* integers_at(const Block* block, int32_t slot) noexcept nogil:
    return <int64_t*>(block.registers + slot * SLOT_BYTES)


cdef inline Span* texts_at(const Block* block, int32_t slot) noexcept nogil:
    return <Span*>(block.registers + slot * SLOT_BYTES)


cdef inline const Span* texts_of(const Span* items) noexcept nogil:
    # Those of a list of texts.
    return <const Span*>items.at


cdef inline const int64_t* codes_of(const Span* items) noexcept nogil:
    return <const int64_t*>items.at


cdef inline void fail(Block* block, int row, int32_t column, int kind) noexcept nogil:
    # The first failure of a row is the one told.
    if block.errors[row].kind == FAILURE_NONE:
        block.errors[row].kind = kind
        block.errors[row].column = column
        block.failed += 1
