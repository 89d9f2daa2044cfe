"""JSON rows and tensors without datatypes of their own → one buffer for each input of the version."""
from libc.math cimport NAN
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from gateway._fast.dtypes cimport (
    DT_BF16, DT_BOOL, DT_BYTES, DT_FP16, DT_FP32, DT_FP64, DT_INT64, DT_UINT8, dtype_itemsize, dtype_name,
)
from gateway._fast.exchange cimport MAX_RANK, Exchange, Mistake, Span, TensorView
from gateway._fast.json_text cimport (
    JSON_MISSING, JSON_TWICE, SCALAR_OK, SCALAR_RANGE, SCALAR_SYNTAX, SCALAR_TYPE, Reader, ScalarResult, is_text,
    next_element, next_member, note, note_type, peek, read_scalar, read_string, read_whole, scan_string, shown_token,
    shown_words, skip_value, static_span, unescape,
)
from gateway._fast.tensor_binding cimport OUT_OF_MEMORY, InputSpec, InputTable, note_mistake, quoted, takes_lists

from gateway.core.errors import InvalidRequest, MalformedBody, PayloadTooLarge, TensorMismatch

cdef enum:
    FIRST_ROOM = 32                  # bytes of a column's first buffer
    FIRST_LENGTHS = 16               # rows whose lengths the first buffer of them holds

cdef int64_t EXACT_IN_FP64 = 1 << 53  # up to here every integer is a float64 of its own
cdef int64_t SHARED = INT64_MAX      # Column.rows of a value that all rows share: no row may give it again


cdef int open_rows(Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    cdef int i
    rows.count = table.input_count
    rows.row = 0
    rows.filled = 0
    rows.named_columns = table.columns
    rows.bare = rows.count == 1
    rows.flat = False
    rows.columns = <Column*>exchange.take(<size_t>rows.count * sizeof(Column))
    rows.order = <int*>exchange.take(<size_t>rows.count * sizeof(int))
    if rows.columns == NULL or rows.order == NULL:
        return note_mistake(exchange, OUT_OF_MEMORY, -1, exchange.model_name, 0, 0)
    memset(rows.columns, 0, <size_t>rows.count * sizeof(Column))
    for i in range(rows.count):
        rows.columns[i].name = table.input_names[i]
        rows.columns[i].dtype = rows.columns[i].published = table.inputs[i].dtype
        rows.columns[i].depth = UNKNOWN
        rows.columns[i].lists = table.columns and takes_lists(&table.inputs[i])
        rows.order[i] = i
    return 0


cdef int read_signature(Reader* reader, Exchange exchange, const char* also) noexcept nogil:
    cdef Span name
    if peek(reader) != c'"':
        return note_type(reader, b"signature_name", b"a string")
    if read_string(reader, exchange, &name) < 0:
        return -1
    if name.n == 0 or is_text(name, b"serving_default") or is_text(name, also):
        return 0
    return note(reader, SIGNATURE_UNKNOWN, name, name, 0, 0)


cdef int read_parameters(Reader* reader, Exchange exchange) noexcept nogil:
    cdef bint begun = False
    cdef Span key
    cdef int more
    if peek(reader) != c'{':
        return skip_value(reader)
    reader.at += 1
    while True:
        more = next_member(reader, exchange, &begun, &key)
        if more <= 0:
            return more
        if is_text(key, b"features"):
            return note(reader, FEATURES_ASKED, key, key, 0, 0)
        if skip_value(reader) < 0:
            return -1


cdef int read_rows(Reader* reader, Exchange exchange, InputTable table, Rows* rows, const char* key) noexcept nogil:
    cdef bint begun = False
    cdef int more
    if peek(reader) != c'[':
        return note_type(reader, key, b"an array of rows")
    reader.at += 1
    while True:
        more = next_element(reader, &begun)
        if more < 0:
            return -1
        if more == 0:
            break
        if read_row(reader, exchange, table, rows) < 0:
            return -1
        rows.row += 1
    if rows.row == 0:
        return note(reader, NO_INSTANCES, static_span(key), static_span(b""), 0, 0)
    return 0


cdef inline int read_row(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    cdef bint is_object = peek(reader) == c'{'
    if is_object and not (rows.bare and rows.columns[0].dtype == DT_BYTES and opens_base64(reader)):
        return read_row_object(reader, exchange, table, rows)
    if not rows.bare:
        return note(reader, ROW_NOT_OBJECT, static_span(b""), shown_token(reader), rows.row, rows.count)
    return read_value(reader, exchange, rows, &rows.columns[0])


cdef inline int read_row_object(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    cdef int found = read_members(reader, exchange, table, rows)
    if found < 0:
        return -1
    return check_row(reader, table, rows) if found < rows.count else 0


cdef int read_members(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    """The values of the object at the reader, each to its column; how many there were."""
    cdef bint begun = False
    cdef int position = 0
    cdef Column* column
    cdef Span key
    cdef int more, index
    reader.at += 1
    while True:
        more = next_member(reader, exchange, &begun, &key)
        if more < 0:
            return -1
        if more == 0:
            break
        index = find_column(table, rows, key, position)
        if index < 0:
            return note(reader, ROW_UNKNOWN, key, key, rows.row, 0)
        column = &rows.columns[index]
        if column.rows > rows.row:
            return note(reader, ROW_TWICE, key, key, rows.row, 0)
        if column.rows < rows.row and fill_missing(reader, exchange, rows, column, rows.row) < 0:
            return -1
        if read_value(reader, exchange, rows, column) < 0:
            return -1
        position += 1
    return position


cdef inline int find_column(InputTable table, Rows* rows, Span key, int position) noexcept nogil:
    """Rows mostly have their keys in the order of the row before."""
    cdef int likely, index
    if position >= rows.count:
        return table.find_input(key)
    likely = rows.order[position]
    if rows.columns[likely].name.n == key.n and memcmp(rows.columns[likely].name.at, key.at, key.n) == 0:
        return likely
    index = table.find_input(key)
    if index >= 0:
        rows.order[position] = index
    return index


cdef int check_row(Reader* reader, InputTable table, Rows* rows) noexcept nogil:
    """Every input that is not optional came, in this row or (UNKNOWN_ROW) at all."""
    cdef bint missing
    cdef int i
    for i in range(rows.count):
        missing = rows.columns[i].depth == UNKNOWN if rows.row == UNKNOWN_ROW else rows.columns[i].rows <= rows.row
        if missing and not table.inputs[i].optional:
            return note(reader, ROW_MISSING, rows.columns[i].name, static_span(b""), rows.row, 0)
    return 0


# Data frames


cdef int read_records(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    rows.bare = False
    return read_rows(reader, exchange, table, rows, b"dataframe_records")


cdef struct Split:
    int width                        # of the head; UNKNOWN before it came
    bint filled                      # its rows were read …
    const uint8_t* data              # … or stand here, before the head; else NULL
    bint indexed


cdef int read_split(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    cdef const uint8_t* behind
    cdef Split split
    memset(&split, 0, sizeof(Split))
    split.width = UNKNOWN
    if read_split_members(reader, exchange, table, rows, &split) < 0:
        return -1
    if split.width == UNKNOWN:
        return note_key(reader, JSON_MISSING, b"columns of dataframe_split")
    if split.filled:
        return 0
    if split.data == NULL:
        return note_key(reader, JSON_MISSING, b"data of dataframe_split")
    behind = reader.at
    reader.at = split.data
    if read_frame_rows(reader, exchange, rows, split.width) < 0:
        return -1
    reader.at = behind
    return 0


cdef int read_split_members(
    Reader* reader, Exchange exchange, InputTable table, Rows* rows, Split* split
) noexcept nogil:
    cdef bint begun = False
    cdef Span key
    cdef int more
    if peek(reader) != c'{':
        return note_type(reader, b"dataframe_split", b"an object of columns and data")
    reader.at += 1
    while True:
        more = next_member(reader, exchange, &begun, &key)
        if more <= 0:
            return more
        if is_text(key, b"columns"):
            if split.width != UNKNOWN:
                return note_key(reader, JSON_TWICE, b"columns of dataframe_split")
            split.width = read_head(reader, exchange, table, rows)
            if split.width < 0:
                return -1
        elif is_text(key, b"data"):
            if split.filled or split.data != NULL:
                return note_key(reader, JSON_TWICE, b"data of dataframe_split")
            if read_or_defer(reader, exchange, rows, split) < 0:
                return -1
        elif is_text(key, b"index"):
            if split.indexed:
                return note_key(reader, JSON_TWICE, b"index of dataframe_split")
            split.indexed = True
            if skip_value(reader) < 0:
                return -1
        else:
            return note(reader, FRAME_KEY, key, key, 0, 0)


cdef inline int note_key(Reader* reader, int kind, const char* key) noexcept nogil:
    return note(reader, kind, static_span(key), static_span(b""), 0, 0)


cdef int read_or_defer(Reader* reader, Exchange exchange, Rows* rows, Split* split) noexcept nogil:
    if split.width == UNKNOWN:
        peek(reader)
        split.data = reader.at
        return skip_value(reader)
    split.filled = True
    return read_frame_rows(reader, exchange, rows, split.width)


cdef int read_head(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    """The names of a split data frame, each the next in ``rows.order``; how many there are."""
    cdef bint begun = False
    cdef int width = 0
    cdef Span name
    cdef uint8_t* named
    cdef int i, more, index
    if peek(reader) != c'[':
        return note_type(reader, b"columns of dataframe_split", b"an array of names")
    reader.at += 1
    named = <uint8_t*>exchange.take(<size_t>rows.count)
    if named == NULL:
        return note(reader, OUT_OF_MEMORY, exchange.model_name, exchange.model_name, 0, 0)
    memset(named, 0, <size_t>rows.count)
    while True:
        more = next_element(reader, &begun)
        if more < 0:
            return -1
        if more == 0:
            break
        if peek(reader) != c'"':
            return note_type(reader, b"each of columns of dataframe_split", b"a string")
        if read_string(reader, exchange, &name) < 0:
            return -1
        index = table.find_input(name)
        if index < 0:
            return note(reader, ROW_UNKNOWN, name, name, FRAME_HEAD, 0)
        if named[index]:
            return note(reader, ROW_TWICE, name, name, FRAME_HEAD, 0)
        named[index] = True
        rows.order[width] = index
        width += 1
    for i in range(rows.count):
        if not named[i] and not table.inputs[i].optional:
            return note(reader, ROW_MISSING, rows.columns[i].name, static_span(b""), FRAME_HEAD, 0)
    return width


cdef int read_frame_rows(Reader* reader, Exchange exchange, Rows* rows, int width) noexcept nogil:
    cdef bint begun = False
    cdef int more
    if peek(reader) != c'[':
        return note_type(reader, b"data of dataframe_split", b"an array of rows")
    reader.at += 1
    while True:
        more = next_element(reader, &begun)
        if more < 0:
            return -1
        if more == 0:
            break
        if read_frame_row(reader, exchange, rows, width) < 0:
            return -1
        rows.row += 1
    if rows.row == 0:
        return note(reader, NO_INSTANCES, static_span(b"dataframe_split"), static_span(b""), 0, 0)
    return 0


cdef inline int read_frame_row(Reader* reader, Exchange exchange, Rows* rows, int width) noexcept nogil:
    cdef bint begun = False
    cdef int position = 0
    cdef int more
    if peek(reader) != c'[':
        return note(reader, FRAME_ROW, static_span(b""), shown_token(reader), rows.row, 0)
    reader.at += 1
    while True:
        more = next_element(reader, &begun)
        if more < 0:
            return -1
        if more == 0:
            break
        if position == width:
            return note(reader, FRAME_ROW_LONG, static_span(b""), static_span(b""), rows.row, width)
        if read_value(reader, exchange, rows, &rows.columns[rows.order[position]]) < 0:
            return -1
        position += 1
    if position < width:
        return note(
            reader, FRAME_ROW_SHORT, rows.columns[rows.order[position]].name, static_span(b""), rows.row, width
        )
    return 0


# Tensors by name, and what all rows share


cdef int read_tensors(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    cdef bint begun = False
    cdef Span key
    cdef int more, input
    cdef int found = 0
    reader.at += 1
    rows.row = UNKNOWN_ROW
    while True:
        more = next_member(reader, exchange, &begun, &key)
        if more < 0:
            return -1
        if more == 0:
            break
        input = find_column(table, rows, key, found)
        found += 1
        if input < 0:
            return note(reader, ROW_UNKNOWN, key, key, UNKNOWN_ROW, 0)
        if rows.columns[input].depth != UNKNOWN:
            return note(reader, ROW_TWICE, key, key, UNKNOWN_ROW, 0)
        if read_tensor(reader, exchange, table, rows, input) < 0:
            return -1
    return check_row(reader, table, rows) if found < rows.count else 0


cdef int read_tensor(Reader* reader, Exchange exchange, InputTable table, Rows* rows, int input) noexcept nogil:
    cdef Column* column = &rows.columns[input]
    cdef bint begun = False
    cdef int more
    rows.row = UNKNOWN_ROW
    if peek(reader) != c'[':
        if table.inputs[input].rank:
            return note(reader, INPUT_NOT_ARRAY, column.name, column.name, 0, 0)
        column.scalar = True
        return read_value(reader, exchange, rows, column)
    reader.at += 1
    column.depth = 0 if peek(reader) == c']' else UNKNOWN
    while True:
        more = next_element(reader, &begun)
        if more <= 0:
            return more
        if read_value(reader, exchange, rows, column) < 0:
            return -1


cdef int read_shared(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    cdef int i
    if read_members(reader, exchange, table, rows) < 0:
        if reader.mistake.kind >= NO_INSTANCES:          # of a row; there is none yet
            reader.mistake.expected = SHARED_ROW
        return -1
    for i in range(rows.count):
        if rows.columns[i].rows:
            rows.columns[i].rows = SHARED
    return 0


cdef int spread(Reader* reader, Exchange exchange, Rows* rows, Column* column) noexcept nogil:
    """A shared value, once for each row."""
    cdef size_t size = column.size
    cdef uint8_t* data
    cdef int64_t row
    # As with missing values, all columns together.
    if <double>size * <double>rows.row + <double>rows.filled > <double>exchange.body_limit:
        return note(reader, SHARED_TOO_LARGE, column.name, column.name, SHARED_ROW, exchange.body_limit)
    data = <uint8_t*>exchange.take(size * <size_t>rows.row)
    if data == NULL:
        return note(reader, OUT_OF_MEMORY, column.name, column.name, 0, 0)
    for row in range(rows.row):
        memcpy(data + size * row, column.data, size)
    column.data = data
    column.size = size * <size_t>rows.row
    column.elements *= rows.row
    column.rows = rows.row
    rows.filled += <int64_t>column.size
    return 0


# One row's value of one input


cdef inline int64_t row_of(Rows* rows, Column* column) noexcept nogil:
    return column.rows if rows.row == UNKNOWN_ROW else rows.row


cdef inline void expect_scalars(Rows* rows, Column* column) noexcept nogil:
    column.depth = 0
    if rows.flat:
        column.depth = 1
        column.dims[0] = 1


cdef inline bint is_feature(Rows* rows, Column* column) noexcept nogil:
    """Whether the column's values are features of one element, of which 1 and [1] are the same."""
    return rows.flat and column.depth == 1 and column.dims[0] == 1


cdef int read_value(Reader* reader, Exchange exchange, Rows* rows, Column* column) noexcept nogil:
    """A scalar, or arrays that are as deep and as long as those of the rows before."""
    cdef int64_t counts[NESTED]
    cdef bint begun[NESTED]
    cdef int depth = 0
    cdef int more
    if column.lists:
        return read_list(reader, exchange, rows, column)
    if column.dtype == DT_FP16 or column.dtype == DT_BF16:
        return note(reader, ROW_ONLY_BINARY, column.name, column.name, 0, column.dtype)
    if peek(reader) != c'[':
        if column.depth == UNKNOWN:
            expect_scalars(rows, column)
        elif column.depth > 0 and not is_feature(rows, column):
            return note(reader, ROW_LAYOUT, column.name, column.name, row_of(rows, column), 0)
        if read_leaf(reader, exchange, rows, column) < 0:
            return -1
        column.rows += 1
        return 0
    if column.rows == 0 and column.depth == UNKNOWN:
        for depth in range(NESTED):
            column.dims[depth] = UNKNOWN
        depth = 0
    while True:
        # Stands before a value: pass the brackets that open it, or read it.
        if peek(reader) == c'[':
            if depth == NESTED:
                return note(reader, ROW_TOO_DEEP, column.name, column.name, row_of(rows, column), 0)
            if depth == column.depth:
                return note(reader, ROW_LAYOUT, column.name, column.name, row_of(rows, column), 0)
            reader.at += 1
            counts[depth] = 0
            begun[depth] = False
            depth += 1
        else:
            if column.depth == UNKNOWN:
                column.depth = depth
            if depth != column.depth:
                return note(reader, ROW_LAYOUT, column.name, column.name, row_of(rows, column), 0)
            if read_leaf(reader, exchange, rows, column) < 0:
                return -1
        # Stands after a value, or after an opening bracket: close what ends here.
        while depth:
            more = next_element(reader, &begun[depth - 1])
            if more < 0:
                return -1
            if more:
                counts[depth - 1] += 1
                break
            depth -= 1
            if column.dims[depth] == UNKNOWN:
                column.dims[depth] = counts[depth]
            elif column.dims[depth] != counts[depth]:
                return note(reader, ROW_RAGGED, column.name, column.name, row_of(rows, column), 0)
            if column.depth == UNKNOWN:
                column.depth = depth + 1                 # an empty array ends the depth
        if depth == 0:
            column.rows += 1
            return 0


# A row's list of a column of lists


cdef int read_list(Reader* reader, Exchange exchange, Rows* rows, Column* column) noexcept nogil:
    """An array of texts, as many as there are; null is one without any."""
    cdef int64_t before = column.elements
    cdef bint begun = False
    cdef int more = 0
    cdef ScalarResult result
    cdef double nan
    cdef uint8_t c = peek(reader)
    if c == c'[':
        reader.at += 1
        more = next_element(reader, &begun)
        while more > 0:
            if read_text(reader, exchange, rows, column) < 0:
                return -1
            more = next_element(reader, &begun)
    elif rows.flat:
        more = read_text(reader, exchange, rows, column)
    else:
        result = read_scalar(reader, DT_FP64, <uint8_t*>&nan) if c == c'n' or c == c'N' else SCALAR_TYPE
        if result == SCALAR_SYNTAX:
            return -1
        if result != SCALAR_OK:
            return note(reader, ROW_ELEMENT, column.name, shown_token(reader), row_of(rows, column), column.dtype)
    return -1 if more < 0 else end_list(reader, exchange, column, column.elements - before)


cdef int end_list(Reader* reader, Exchange exchange, Column* column, int64_t length) noexcept nogil:
    cdef int32_t* wider
    if column.rows == column.lengths_room:
        column.lengths_room = max(2 * column.lengths_room, <int64_t>FIRST_LENGTHS)
        wider = <int32_t*>exchange.take(<size_t>column.lengths_room * sizeof(int32_t))
        if wider == NULL:
            return note(reader, OUT_OF_MEMORY, column.name, column.name, 0, 0)
        if column.rows:
            memcpy(wider, column.lengths, <size_t>column.rows * sizeof(int32_t))
        column.lengths = wider
    column.lengths[column.rows] = <int32_t>length
    column.depth = 1
    column.rows += 1
    return 0


cdef int pad_lists(Reader* reader, Exchange exchange, Rows* rows, Column* column, int64_t count) noexcept nogil:
    """``count`` lists of unlike length become rows of the longest one's, at least 1: empty texts behind their own."""
    cdef int64_t longest = 1
    cdef int64_t padding, row, k
    cdef const uint8_t* at = column.data
    cdef uint8_t* out
    cdef uint32_t length
    cdef size_t size
    for row in range(count):
        longest = max(longest, <int64_t>column.lengths[row])
    column.dims[0] = longest
    padding = count * longest - column.elements
    if padding == 0:
        return 0
    if count_filled(reader, exchange, rows, column, 4 * padding) < 0:
        return -1
    size = column.size + 4 * <size_t>padding
    out = <uint8_t*>exchange.take(size)
    if out == NULL:
        return note(reader, OUT_OF_MEMORY, column.name, column.name, 0, 0)
    column.data = out
    column.size = size
    column.elements = count * longest
    for row in range(count):
        for k in range(column.lengths[row]):
            memcpy(&length, at, 4)
            memcpy(out, at, <size_t>length + 4)
            at += <size_t>length + 4
            out += <size_t>length + 4
        size = 4 * <size_t>(longest - column.lengths[row])
        memset(out, 0, size)
        out += size
    return 0


cdef inline int read_leaf(Reader* reader, Exchange exchange, Rows* rows, Column* column) noexcept nogil:
    cdef ScalarResult result
    cdef size_t itemsize = dtype_itemsize(column.dtype)
    if itemsize == 0:
        return read_text(reader, exchange, rows, column)
    if column.room - column.size < itemsize and widen_room(reader, exchange, column, itemsize) < 0:
        return -1
    result = read_scalar(reader, column.dtype, column.data + column.size)
    if result == SCALAR_TYPE:
        result = read_otherwise(reader, exchange, rows, column)
    if result == SCALAR_OK and column.dtype != column.published and is_inexact_double(column):
        result = SCALAR_RANGE
    if result == SCALAR_SYNTAX:
        return -1
    if result != SCALAR_OK:
        return note(
            reader, ROW_RANGE if result == SCALAR_RANGE else ROW_ELEMENT, column.name, shown_token(reader),
            row_of(rows, column), column.published,
        )
    column.size += dtype_itemsize(column.dtype)
    column.elements += 1
    return 0


cdef ScalarResult read_otherwise(Reader* reader, Exchange exchange, Rows* rows, Column* column) noexcept nogil:
    """A value that is not of the column's datatype as it stands, but may be one of its published type."""
    cdef uint8_t c = peek(reader)
    cdef const uint8_t* token = reader.at
    if c == c'"' or c == c'[' or c == c'{':
        return SCALAR_TYPE
    if c == c't' or c == c'f':
        return read_truth(reader, rows, column)
    if not rows.named_columns or (column.dtype != DT_INT64 and column.dtype != DT_BOOL):
        return read_whole(reader, column.dtype, column.data + column.size)
    if c == c'n' or c == c'N':
        if column.dtype == DT_INT64:
            return read_missing_integer(reader, <int64_t*>(column.data + column.size))
    elif column.dtype == DT_BOOL:
        return SCALAR_TYPE
    elif read_whole(reader, DT_INT64, column.data + column.size) == SCALAR_OK:
        return SCALAR_OK
    elif has_inexact(<int64_t*>column.data, column.elements):
        return SCALAR_TYPE
    reader.at = token
    if widen(reader, exchange, column) < 0:
        return SCALAR_SYNTAX
    return read_scalar(reader, DT_FP64, column.data + column.size)


cdef ScalarResult read_truth(Reader* reader, Rows* rows, Column* column) noexcept nogil:
    """true or false among numbers: 1 or 0 in a plan's column, as numpy has them; no element of a model's own input."""
    cdef uint8_t truth = 0
    cdef ScalarResult result
    if not rows.named_columns or (column.dtype != DT_INT64 and column.dtype != DT_FP64):
        return SCALAR_TYPE
    result = read_scalar(reader, DT_BOOL, &truth)
    if column.dtype == DT_INT64:
        (<int64_t*>(column.data + column.size))[0] = truth
    else:
        (<double*>(column.data + column.size))[0] = truth
    return result


cdef ScalarResult read_missing_integer(Reader* reader, int64_t* to) noexcept nogil:
    """null or NaN among integers, which stay as exact as they are."""
    cdef double nan
    cdef ScalarResult result = read_scalar(reader, DT_FP64, <uint8_t*>&nan)
    to[0] = INT64_MIN
    return result


cdef inline bint is_inexact(int64_t value) noexcept nogil:
    """Whether the integer may be another one as float64."""
    return (value > EXACT_IN_FP64 or value < -EXACT_IN_FP64) and value != INT64_MIN


cdef inline bint is_inexact_double(const Column* column) noexcept nogil:
    """Whether the value that was just read, of integers that became FP64, may stand for several integers."""
    cdef double value
    if column.published != DT_INT64 or column.dtype != DT_FP64:
        return False
    memcpy(&value, column.data + column.size, 8)
    return value >= EXACT_IN_FP64 or value <= -EXACT_IN_FP64   # the bound itself may have been its neighbour


cdef bint has_inexact(const int64_t* values, int64_t count) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        if is_inexact(values[i]):
            return True
    return False


cdef int widen(Reader* reader, Exchange exchange, Column* column) noexcept nogil:
    """Integers, or bools, among which a value turned up that only FP64 has: those so far become FP64."""
    cdef const uint8_t* narrow = column.data
    cdef int64_t* integers = <int64_t*>column.data       # of the arena, hence aligned; in place
    cdef double* wide
    cdef int64_t i
    if column.dtype == DT_INT64:
        wide = <double*>column.data
        for i in range(column.elements):
            wide[i] = NAN if integers[i] == INT64_MIN else <double>integers[i]
    else:
        column.size = 0                                  # nothing to be copied as it is
        column.room = 0
        if widen_room(reader, exchange, column, <size_t>(column.elements + 1) * sizeof(double)) < 0:
            return -1
        wide = <double*>column.data
        for i in range(column.elements):
            wide[i] = <double>narrow[i]
        column.size = <size_t>column.elements * sizeof(double)
    column.dtype = DT_FP64
    return 0


cdef int widen_room(Reader* reader, Exchange exchange, Column* column, size_t more) noexcept nogil:
    """At least ``more`` free bytes; what the text read so far suggests for the whole, so that buffers rarely double."""
    cdef size_t wider = max(2 * column.room, column.size + more)
    cdef double share
    cdef uint8_t* grown
    if column.size:
        share = <double>(reader.end - reader.start) / <double>(reader.at - reader.start)
        wider = max(wider, <size_t>(1.125 * share * column.size))
    wider = max(wider, <size_t>FIRST_ROOM)
    grown = <uint8_t*>exchange.take(wider)
    if grown == NULL:
        return note(reader, OUT_OF_MEMORY, column.name, column.name, 0, 0)
    if column.size:
        memcpy(grown, column.data, column.size)
    column.data = grown
    column.room = wider
    return 0


cdef int read_text(Reader* reader, Exchange exchange, Rows* rows, Column* column) noexcept nogil:
    """An element of BYTES: a string, null, or {"b64": …}."""
    cdef Span raw
    cdef bint escaped
    cdef uint8_t c = peek(reader)
    cdef uint8_t* out
    if c == c'n' and reader.end - reader.at >= 4 and memcmp(reader.at, b"null", 4) == 0:
        reader.at += 4
        return append_element(reader, exchange, column, NULL, 0)
    if c == c'N' and rows.named_columns and reader.end - reader.at >= 3 and memcmp(reader.at, b"NaN", 3) == 0:
        reader.at += 3
        return append_element(reader, exchange, column, NULL, 0)
    if c == c'{':
        return read_base64(reader, exchange, rows, column)
    if c != c'"':
        return note(reader, ROW_ELEMENT, column.name, shown_token(reader), row_of(rows, column), column.dtype)
    if scan_string(reader, &raw, &escaped) < 0:
        return -1
    if not escaped:
        return append_element(reader, exchange, column, raw.at, raw.n)
    out = <uint8_t*>exchange.take(raw.n)
    if out == NULL:
        return note(reader, OUT_OF_MEMORY, column.name, column.name, 0, 0)
    return append_element(reader, exchange, column, out, unescape(raw, out) - out)


cdef int append_element(
    Reader* reader, Exchange exchange, Column* column, const uint8_t* text, size_t n
) noexcept nogil:
    cdef uint32_t length = <uint32_t>n
    if column.room - column.size < n + 4 and widen_room(reader, exchange, column, n + 4) < 0:
        return -1
    memcpy(column.data + column.size, &length, 4)
    if n:
        memcpy(column.data + column.size + 4, text, n)
    column.size += n + 4
    column.elements += 1
    return 0


cdef bint opens_base64(Reader* reader) noexcept nogil:
    cdef Reader ahead = reader[0]
    ahead.at += 1
    if peek(&ahead) != c'"' or ahead.end - ahead.at < 5 or memcmp(ahead.at, b'"b64"', 5) != 0:
        return False
    ahead.at += 5
    if peek(&ahead) != c':':
        return False
    ahead.at += 1
    return peek(&ahead) == c'"'


cdef int read_base64(Reader* reader, Exchange exchange, Rows* rows, Column* column) noexcept nogil:
    cdef bint begun = False
    cdef Span key, text
    cdef uint8_t* out
    cdef int64_t n
    reader.at += 1
    if next_member(reader, exchange, &begun, &key) <= 0 or not is_text(key, b"b64") or peek(reader) != c'"':
        return note(reader, ROW_BASE64, column.name, column.name, row_of(rows, column), 0)
    if read_string(reader, exchange, &text) < 0:
        return -1
    if next_member(reader, exchange, &begun, &key) != 0:
        return note(reader, ROW_BASE64, column.name, column.name, row_of(rows, column), 0)
    out = <uint8_t*>exchange.take(text.n)
    if out == NULL:
        return note(reader, OUT_OF_MEMORY, column.name, column.name, 0, 0)
    n = decode_base64(text, out)
    if n < 0:
        return note(reader, ROW_BASE64, column.name, column.name, row_of(rows, column), 0)
    return append_element(reader, exchange, column, out, n)


cdef inline int base64_value(uint8_t c) noexcept nogil:
    if c'A' <= c <= c'Z':
        return c - c'A'
    if c'a' <= c <= c'z':
        return c - c'a' + 26
    if c'0' <= c <= c'9':
        return c - c'0' + 52
    if c == c'+' or c == c'-':                           # RFC 4648 §4, and the URL-safe alphabet of §5
        return 62
    if c == c'/' or c == c'_':
        return 63
    return -1


cdef int64_t decode_base64(Span text, uint8_t* out) noexcept nogil:
    """Bytes written, at most as many as characters; -1 if it is no base64. Padding may be left out."""
    cdef uint32_t group = 0
    cdef int64_t written = 0
    cdef size_t i
    cdef int value
    while text.n and text.at[text.n - 1] == c'=':
        text.n -= 1
    if text.n % 4 == 1:
        return -1
    for i in range(text.n):
        value = base64_value(text.at[i])
        if value < 0:
            return -1
        group = group << 6 | <uint32_t>value
        if i % 4:                                        # each character but a group's first completes a byte
            out[written] = <uint8_t>(group >> (6 - 2 * (i % 4)))
            written += 1
    return written


# Rows that lack an optional column


cdef int count_filled(Reader* reader, Exchange exchange, Rows* rows, Column* column, int64_t size) noexcept nogil:
    """Of many columns each need come but once to be filled in all rows: a small body must not grow without end."""
    rows.filled += size
    if rows.filled > <int64_t>exchange.body_limit:
        return note(reader, FILLED_TOO_LARGE, column.name, column.name, rows.row, <int64_t>exchange.body_limit)
    return 0


cdef int fill_missing(Reader* reader, Exchange exchange, Rows* rows, Column* column, int64_t until) noexcept nogil:
    """Missing values for a column's rows up to ``until``."""
    cdef double nan = NAN
    cdef float short_nan = NAN
    cdef int64_t missing = INT64_MIN
    if column.lists:
        if count_filled(reader, exchange, rows, column, 8 * (until - column.rows)) < 0:       # lengths, in two copies
            return -1
        while column.rows < until:
            if end_list(reader, exchange, column, 0) < 0:
                return -1
        return 0
    if not rows.named_columns or (column.depth > 0 and not is_feature(rows, column)):
        return note(reader, ROW_MISSING, column.name, column.name, column.rows, 0)
    if column.depth == UNKNOWN:
        expect_scalars(rows, column)
    if count_filled(reader, exchange, rows, column, (until - column.rows) * (4 if column.dtype == DT_BYTES else 8)) < 0:
        return -1
    if column.dtype == DT_BOOL and widen(reader, exchange, column) < 0:
        return -1
    while column.rows < until:
        if column.dtype == DT_BYTES:
            if append_element(reader, exchange, column, NULL, 0) < 0:
                return -1
        elif column.dtype == DT_FP64 or column.dtype == DT_FP32 or column.dtype == DT_INT64:
            if column.room - column.size < 8 and widen_room(reader, exchange, column, 8) < 0:
                return -1
            if column.dtype == DT_FP64:
                memcpy(column.data + column.size, &nan, 8)
            elif column.dtype == DT_INT64:
                memcpy(column.data + column.size, &missing, 8)
            else:
                memcpy(column.data + column.size, &short_nan, 4)
            column.size += dtype_itemsize(column.dtype)
            column.elements += 1
        else:
            return note(reader, ROW_MISSING, column.name, column.name, column.rows, 0)
        column.rows += 1
    return 0


cdef int close_rows(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    cdef int i
    for i in range(rows.count):
        if rows.columns[i].depth != UNKNOWN and add_column(reader, exchange, table, rows, i) < 0:
            return -1
    if exchange.input_count == 0 and rows.named_columns and rows.row > 0:
        # All are optional and none came: one of them says how many rows there are.
        return add_column(reader, exchange, table, rows, 0)
    return 0


cdef int add_column(Reader* reader, Exchange exchange, InputTable table, Rows* rows, int input) noexcept nogil:
    cdef Column* column = &rows.columns[input]
    cdef TensorView* view
    cdef int d
    if column.lists and column.rows == SHARED and pad_lists(reader, exchange, rows, column, 1) < 0:
        return -1
    if column.rows == SHARED:
        if spread(reader, exchange, rows, column) < 0:
            return -1
    elif column.rows < rows.row and fill_missing(reader, exchange, rows, column, rows.row) < 0:
        return -1
    if column.lists and column.dims[0] == 0 and pad_lists(reader, exchange, rows, column, column.rows) < 0:
        return -1
    view = exchange.add_input()
    if view == NULL:
        return note(reader, OUT_OF_MEMORY, column.name, column.name, 0, 0)
    view.name = column.name
    view.dtype = column.dtype
    view.rank = 0 if column.scalar else 1 + column.depth
    view.shape[0] = column.rows
    for d in range(column.depth):
        view.shape[1 + d] = column.dims[d]
    fit_rank(view, &table.inputs[input], rows.flat)
    view.elements = column.elements
    view.data = column.data
    view.size = column.size
    return 0


cdef inline void fit_rank(TensorView* view, const InputSpec* spec, bint flat) noexcept nogil:
    """A scalar a row also fits [rows, 1], and a list of one a row also fits [rows]; a flat list what it fills."""
    if view.rank == 1 and spec.rank == 2:
        view.rank = 2
        view.shape[1] = 1
    elif view.rank == 2 and spec.rank == 1 and view.shape[1] == 1:
        view.rank = 1
    elif flat and view.rank == 2 and spec.rank > 2:
        fold(view, spec)


cdef void fold(TensorView* view, const InputSpec* spec) noexcept nogil:
    """A row's flat list into the shape of the input, where that is fixed and as large."""
    cdef int64_t elements = 1
    cdef int d
    for d in range(1, spec.rank):
        if spec.shape[d] < 0 or elements > view.shape[1]:
            return
        elements *= spec.shape[d]
    if elements != view.shape[1]:
        return
    view.rank = spec.rank
    for d in range(1, spec.rank):
        view.shape[d] = spec.shape[d]


# Words for what was refused


cdef str place_words(int64_t row):
    if row >= 0:
        return f"row {row}"
    if row == FRAME_HEAD:
        return "the \"columns\" of \"dataframe_split\""
    return "\"context\"" if row == SHARED_ROW else "\"inputs\""


cdef object rows_error(Exchange exchange):
    cdef Mistake* mistake = &exchange.mistake
    cdef str model = quoted(exchange.model_name)
    cdef str name = quoted(mistake.name)
    cdef str row = place_words(mistake.expected)
    if mistake.kind < NO_INSTANCES or mistake.kind > LAST_ROW_MISTAKE:
        return None
    if mistake.kind == SIGNATURE_UNKNOWN:
        signature = quoted(mistake.name).strip("'")
        return InvalidRequest(
            f"Serving signature name: \"{signature}\" not found in signature def of model {model}",
            hint="leave signature_name out, or send \"serving_default\"")
    if mistake.kind == NO_INSTANCES:
        return MalformedBody(f"{name} for model {model} has no rows")
    if mistake.kind == ROW_NOT_OBJECT:
        return TensorMismatch(
            f"{row} for model {model} is {shown_words(mistake.other)}: expected an object of the model's inputs, "
            f"of which there are {mistake.got}"
        )
    if mistake.kind == ROW_UNKNOWN:
        return TensorMismatch(f"unexpected input {name} in {row} for model {model}")
    if mistake.kind == ROW_TWICE:
        return TensorMismatch(f"input {name} is given twice in {row} for model {model}")
    if mistake.kind == ROW_MISSING:
        return TensorMismatch(f"missing input {name} in {row} for model {model}")
    if mistake.kind == ROW_ELEMENT:
        return TensorMismatch(
            f"input {name} in {row} for model {model} is {shown_words(mistake.other)}, "
            f"which is no {dtype_name(<int32_t>mistake.got).decode()}{number_words(mistake)}"
        )
    if mistake.kind == ROW_RANGE:
        return TensorMismatch(
            f"input {name} in {row} for model {model} is {shown_words(mistake.other)}, "
            f"which is out of range for {dtype_name(<int32_t>mistake.got).decode()}"
        )
    if mistake.kind == ROW_LAYOUT or mistake.kind == ROW_RAGGED:
        return TensorMismatch(f"input {name} in {row} for model {model} has another shape than the values before it")
    if mistake.kind == ROW_BASE64:
        return TensorMismatch(
            f"input {name} in {row} for model {model} is an object, but not {{\"b64\": \"<base64>\"}}"
        )
    if mistake.kind == INPUT_NOT_ARRAY:
        return TensorMismatch(f"input {name} for model {model} must be an array, one element for each row")
    if mistake.kind == ROW_ONLY_BINARY:
        return TensorMismatch(
            f"input {name} for model {model} is {dtype_name(<int32_t>mistake.got).decode()}, which has no JSON form",
            hint="send it to the v2 infer route with the binary tensor extension",
        )
    if mistake.kind == SHARED_TOO_LARGE:
        return PayloadTooLarge(
            f"input {name} in {row} for model {model}, once for each row, is more than the limit of {mistake.got} bytes"
        )
    if mistake.kind == FILLED_TOO_LARGE:
        return PayloadTooLarge(
            f"rows for model {model} leave out so many values, the last of input {name}, that with these they are more "
            f"than the limit of {mistake.got} bytes", hint="send fewer rows at once")
    if mistake.kind == FEATURES_ASKED:
        return InvalidRequest(
            f"request for model {model}: the parameter 'features' is not taken with rows, which become features by the "
            f"model's own plan", hint="send finished tensors to the v2 infer route, or over gRPC")
    if mistake.kind == ROW_TOO_DEEP:
        return TensorMismatch(f"input {name} in {row} for model {model} has more than {MAX_RANK} dimensions")
    return frame_error(mistake, model, name, row)


cdef object frame_error(Mistake* mistake, str model, str name, str row):
    if mistake.kind == FRAME_KEY:
        return MalformedBody(
            f"\"dataframe_split\" for model {model} has the key {name}: expected columns, data and perhaps index"
        )
    if mistake.kind == FRAME_ROW:
        return TensorMismatch(
            f"{row} of \"dataframe_split\" for model {model} is {shown_words(mistake.other)}: expected an array"
        )
    if mistake.kind == FRAME_ROW_SHORT:
        return TensorMismatch(
            f"{row} of \"dataframe_split\" for model {model} ends before input {name}: expected a value for each of "
            f"the {mistake.got} columns"
        )
    return TensorMismatch(
        f"{row} of \"dataframe_split\" for model {model} has more values than the {mistake.got} columns"
    )


cdef str number_words(const Mistake* mistake):
    """Why a number was no element of an integer tensor."""
    cdef bint is_number = mistake.other.n and (mistake.other.at[0] == c'-' or c'0' <= mistake.other.at[0] <= c'9')
    return ": it takes whole numbers only" if is_number and DT_UINT8 <= mistake.got <= DT_INT64 else ""
