"""TensorFlow Serving's predict request and reply: bytes → Exchange → bytes."""
from libc.math cimport NAN
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, memset, strlen

from gateway._fast.dtypes cimport (
    DT_BF16, DT_BYTES, DT_FP16, DT_FP32, DT_FP64, DT_INT64, dtype_itemsize, dtype_name,
)
from gateway._fast.exchange cimport (
    FORM_BOTH, FORM_OUTPUTS, FORM_PREDICTIONS, MAX_RANK, Dialect, Exchange, Mistake, Span, TensorView,
)
from gateway._fast.json_text cimport (
    SCALAR_BYTES, SCALAR_OK, SCALAR_RANGE, SCALAR_SYNTAX, SCALAR_TYPE, Reader, ScalarResult, close_document,
    has_json_form, is_text, json_error, next_element, next_member, note, note_type, open_body, open_document, peek,
    read_scalar, read_string, scan_string, shown_token, shown_words, skip_value, static_span, string_room, unescape,
    write_scalar, write_string,
)
from gateway._fast.tensor_binding cimport OUT_OF_MEMORY, InputTable, note_mistake, quoted, settle_tensor_mistake

from gateway.core.errors import MalformedBody, TensorMismatch

cdef enum:
    FIRST_ROOM = 32                  # bytes of a column's first buffer
    NOGIL_BYTES = 16384              # of reply text: from here on it is written without the GIL
    UNKNOWN = -1                     # a dimension or depth not seen yet
    NESTED = MAX_RANK - 1            # dimensions inside a row


cdef struct Column:
    # What the rows have given for one input so far. The buffers lie in the arena and double as they fill.
    Span name
    int32_t dtype
    int64_t rows
    int64_t elements
    int depth                        # dimensions inside a row; UNKNOWN before the first
    int64_t dims[NESTED]             # their sizes
    uint8_t* data
    size_t size
    size_t room


cdef struct Rows:
    Column* columns                  # in the arena, one for each input of the model
    int* order                       # in the arena: position of a key in the row before -> input
    int count
    int64_t row                      # row being read; UNKNOWN in {"inputs": {…}}
    bint named_columns               # the version takes columns, so what is missing may be filled in


cdef class PredictDialect(Dialect):
    cdef int scan(self, Exchange exchange) noexcept nogil:
        if open_body(exchange) < 0:
            return -1
        exchange.form = FORM_PREDICTIONS
        if exchange.input_table is None:
            return 0
        return scan_predict(exchange, <InputTable>exchange.input_table)

    cdef int settle(self, Exchange exchange) except -1:
        error = json_error(exchange)
        if error is None:
            error = predict_error(exchange)
        exchange.input_count = 0                         # half-read columns are nobody's input
        if error is None:
            return settle_tensor_mistake(exchange)
        return exchange.fail(error)

    cdef int write_reply(self, Exchange exchange) except -1:
        check_outputs(exchange)
        return write_predictions(exchange) if exchange.error is None else 0


# The request


cdef int scan_predict(Exchange exchange, InputTable table) noexcept nogil:
    cdef Reader reader
    cdef Rows rows
    if open_rows(exchange, table, &rows) < 0:
        return -1
    open_document(&reader, exchange, exchange.body_size)
    if read_request(&reader, exchange, table, &rows) < 0 or close_document(&reader) < 0:
        return -1
    return close_rows(&reader, exchange, table, &rows)


cdef int open_rows(Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    cdef int i
    rows.count = table.input_count
    rows.row = 0
    rows.named_columns = table.columns
    rows.columns = <Column*>exchange.take(<size_t>rows.count * sizeof(Column))
    rows.order = <int*>exchange.take(<size_t>rows.count * sizeof(int))
    if rows.columns == NULL or rows.order == NULL:
        return note_mistake(exchange, OUT_OF_MEMORY, -1, exchange.model_name, 0, 0)
    memset(rows.columns, 0, <size_t>rows.count * sizeof(Column))
    for i in range(rows.count):
        rows.columns[i].name = table.input_names[i]
        rows.columns[i].dtype = table.inputs[i].dtype
        rows.columns[i].depth = UNKNOWN
        rows.order[i] = i
    return 0


cdef int read_request(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    cdef bint begun = False
    cdef int found = 0
    cdef Span key
    cdef int more
    if peek(reader) != c'{':
        return note_type(reader, b"the request", b"an object")
    reader.at += 1
    while True:
        more = next_member(reader, exchange, &begun, &key)
        if more < 0:
            return -1
        if more == 0:
            break
        if is_text(key, b"instances"):
            found += 1
            if found == 1 and read_instances(reader, exchange, table, rows, b"instances") < 0:
                return -1
        elif is_text(key, b"inputs"):
            found += 1
            if found == 1 and read_inputs(reader, exchange, table, rows) < 0:
                return -1
        elif skip_value(reader) < 0:
            return -1
        if found > 1:
            break
    if found != 1:
        return note(reader, PREDICT_KEYS, static_span(b""), static_span(b""), 1, found)
    return 0


cdef int read_inputs(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    if peek(reader) != c'{':
        exchange.form = FORM_BOTH
        return read_instances(reader, exchange, table, rows, b"inputs")
    exchange.form = FORM_OUTPUTS
    return read_tensors(reader, exchange, table, rows)


cdef int read_instances(
    Reader* reader, Exchange exchange, InputTable table, Rows* rows, const char* key
) noexcept nogil:
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
    if is_object and not (rows.count == 1 and rows.columns[0].dtype == DT_BYTES and opens_base64(reader)):
        return read_row_object(reader, exchange, table, rows)
    if rows.count != 1:
        return note(reader, ROW_NOT_OBJECT, static_span(b""), shown_token(reader), rows.row, rows.count)
    return read_value(reader, exchange, rows, &rows.columns[0])


cdef int read_row_object(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
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
    if position < rows.count:
        return check_row(reader, table, rows)
    return 0


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
    """Every input that is not optional came, in this row or (UNKNOWN) at all."""
    cdef bint missing
    cdef int i
    for i in range(rows.count):
        missing = rows.columns[i].depth == UNKNOWN if rows.row == UNKNOWN else rows.columns[i].rows <= rows.row
        if missing and not table.inputs[i].optional:
            return note(reader, ROW_MISSING, rows.columns[i].name, static_span(b""), rows.row, 0)
    return 0


cdef int read_tensors(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    """``{"inputs": {name: tensor}}``: each input's rows together."""
    cdef bint begun = False
    cdef bint row_begun
    cdef Column* column
    cdef Span key
    cdef int more, index
    cdef int found = 0
    reader.at += 1
    rows.row = UNKNOWN
    while True:
        more = next_member(reader, exchange, &begun, &key)
        if more < 0:
            return -1
        if more == 0:
            break
        index = find_column(table, rows, key, found)
        found += 1
        if index < 0:
            return note(reader, ROW_UNKNOWN, key, key, UNKNOWN, 0)
        column = &rows.columns[index]
        if column.depth != UNKNOWN:
            return note(reader, ROW_TWICE, key, key, UNKNOWN, 0)
        if peek(reader) != c'[':
            return note(reader, INPUT_NOT_ARRAY, key, key, 0, 0)
        reader.at += 1
        column.depth = 0 if peek(reader) == c']' else UNKNOWN
        row_begun = False
        while True:
            more = next_element(reader, &row_begun)
            if more < 0:
                return -1
            if more == 0:
                break
            if read_value(reader, exchange, rows, column) < 0:
                return -1
    return check_row(reader, table, rows) if found < rows.count else 0


# One row's value of one input


cdef inline int64_t row_of(Rows* rows, Column* column) noexcept nogil:
    return column.rows if rows.row == UNKNOWN else rows.row


cdef int read_value(Reader* reader, Exchange exchange, Rows* rows, Column* column) noexcept nogil:
    """A scalar, or arrays that are as deep and as long as those of the rows before."""
    cdef int64_t counts[NESTED]
    cdef bint begun[NESTED]
    cdef int depth = 0
    cdef int more
    if column.dtype == DT_FP16 or column.dtype == DT_BF16:
        return note(reader, PREDICT_ONLY_BINARY, column.name, column.name, 0, column.dtype)
    if peek(reader) != c'[':
        if column.depth > 0:
            return note(reader, ROW_LAYOUT, column.name, column.name, row_of(rows, column), 0)
        column.depth = 0
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
                return note(reader, TOO_MANY_COLUMNS_DEEP, column.name, column.name, row_of(rows, column), 0)
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


cdef inline int read_leaf(Reader* reader, Exchange exchange, Rows* rows, Column* column) noexcept nogil:
    cdef ScalarResult result
    cdef size_t itemsize = dtype_itemsize(column.dtype)
    if itemsize == 0:
        return read_text(reader, exchange, rows, column)
    if column.room - column.size < itemsize and widen_room(reader, exchange, column, itemsize) < 0:
        return -1
    result = read_scalar(reader, column.dtype, column.data + column.size)
    if result == SCALAR_TYPE and rows.named_columns and column.dtype == DT_INT64 and is_number_or_null(reader):
        widen(column)
        result = read_scalar(reader, DT_FP64, column.data + column.size)
    if result == SCALAR_SYNTAX:
        return -1
    if result != SCALAR_OK:
        return note(
            reader, ROW_RANGE if result == SCALAR_RANGE else ROW_ELEMENT, column.name, shown_token(reader),
            row_of(rows, column), column.dtype,
        )
    column.size += itemsize
    column.elements += 1
    return 0


cdef inline bint is_number_or_null(Reader* reader) noexcept nogil:
    cdef uint8_t c = peek(reader)
    return c != c'"' and c != c't' and c != c'f' and c != c'[' and c != c'{'


cdef void widen(Column* column) noexcept nogil:
    """An integer column in which a fraction or a null turned up: its values so far become FP64, in place."""
    cdef int64_t integer
    cdef double value
    cdef int64_t i
    for i in range(column.elements):
        memcpy(&integer, column.data + 8 * i, 8)
        value = <double>integer
        memcpy(column.data + 8 * i, &value, 8)
    column.dtype = DT_FP64


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
    """Whether the object at the reader is {"b64": …}."""
    cdef Reader ahead = reader[0]
    ahead.at += 1
    return peek(&ahead) == c'"' and ahead.end - ahead.at >= 5 and memcmp(ahead.at, b'"b64"', 5) == 0


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


cdef int fill_missing(Reader* reader, Exchange exchange, Rows* rows, Column* column, int64_t until) noexcept nogil:
    """Missing values for a column's rows up to ``until``."""
    cdef double nan = NAN
    cdef float short_nan = NAN
    if not rows.named_columns or column.depth > 0:
        return note(reader, ROW_MISSING, column.name, column.name, column.rows, 0)
    column.depth = 0
    if column.dtype == DT_INT64:
        widen(column)
    while column.rows < until:
        if column.dtype == DT_BYTES:
            if append_element(reader, exchange, column, NULL, 0) < 0:
                return -1
        elif column.dtype == DT_FP64 or column.dtype == DT_FP32:
            if column.room - column.size < 8 and widen_room(reader, exchange, column, 8) < 0:
                return -1
            if column.dtype == DT_FP64:
                memcpy(column.data + column.size, &nan, 8)
            else:
                memcpy(column.data + column.size, &short_nan, 4)
            column.size += dtype_itemsize(column.dtype)
            column.elements += 1
        else:
            return note(reader, ROW_MISSING, column.name, column.name, column.rows, 0)
        column.rows += 1
    return 0


cdef int close_rows(Reader* reader, Exchange exchange, InputTable table, Rows* rows) noexcept nogil:
    """The columns become the exchange's inputs, in the model's order; those that never came stay out."""
    cdef Column* column
    cdef TensorView* view
    cdef int i, d
    for i in range(rows.count):
        column = &rows.columns[i]
        if column.depth == UNKNOWN:
            continue
        if column.rows < rows.row and fill_missing(reader, exchange, rows, column, rows.row) < 0:
            return -1
        view = exchange.add_input()
        if view == NULL:
            return note(reader, OUT_OF_MEMORY, column.name, column.name, 0, 0)
        view.name = column.name
        view.dtype = column.dtype
        view.rank = 1 + column.depth
        view.shape[0] = column.rows
        for d in range(column.depth):
            view.shape[1 + d] = column.dims[d]
        fit_rank(view, table.inputs[i].rank)
        view.elements = column.elements
        view.data = column.data
        view.size = column.size
    return 0


cdef inline void fit_rank(TensorView* view, int32_t rank) noexcept nogil:
    """A scalar a row also fits [rows, 1], and a list of one a row also fits [rows]."""
    if view.rank == 1 and rank == 2:
        view.rank = 2
        view.shape[1] = 1
    elif view.rank == 2 and rank == 1 and view.shape[1] == 1:
        view.rank = 1


# Words for what was refused


cdef object predict_error(Exchange exchange):
    cdef Mistake* mistake = &exchange.mistake
    cdef str model = quoted(exchange.model_name)
    cdef str name = quoted(mistake.name)
    cdef str row = f"row {mistake.expected}" if mistake.expected >= 0 else "\"inputs\""
    if mistake.kind < PREDICT_KEYS:
        return None
    if mistake.kind == PREDICT_KEYS:
        return MalformedBody(f"expected exactly one of \"instances\" and \"inputs\", found {mistake.got}")
    if mistake.kind == NO_INSTANCES:
        return MalformedBody(f"{name} for model {model} has no rows")
    if mistake.kind == ROW_NOT_OBJECT:
        return TensorMismatch(
            f"{row} for model {model} is {shown_words(mistake.other)}: expected an object, "
            f"since the model takes {mistake.got} inputs"
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
            f"which is no {dtype_name(<int32_t>mistake.got).decode()}"
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
    if mistake.kind == PREDICT_ONLY_BINARY:
        return TensorMismatch(
            f"input {name} for model {model} is {dtype_name(<int32_t>mistake.got).decode()}, which has no JSON form",
            hint="send it to the v2 infer route with the binary tensor extension",
        )
    return TensorMismatch(f"input {name} in {row} for model {model} has more than {MAX_RANK} dimensions")


# The reply


cdef int check_outputs(Exchange exchange) except -1:
    """Fail the exchange if an output has no JSON form, or the outputs do not share their rows."""
    cdef TensorView* view
    cdef int i
    for i in range(exchange.output_count):
        view = &exchange.outputs[i]
        name = quoted(exchange.output_names[i])
        if not has_json_form(view):
            what = "bytes that are not UTF-8" if view.dtype == DT_BYTES else dtype_name(view.dtype).decode()
            exchange.fail(TensorMismatch(
                f"output {name} of model {quoted(exchange.model_name)} is {what}, which has no JSON form",
                hint="ask the v2 infer route for binary data",
            ))
            return 0
        if exchange.form != FORM_OUTPUTS and rows_of(view) != rows_of(&exchange.outputs[0]):
            exchange.fail(TensorMismatch(
                f"the outputs of model {quoted(exchange.model_name)} do not share their first dimension, "
                f"so they cannot be told row by row",
                hint="send {\"inputs\": {…}} or use the v2 infer route",
            ))
            return 0
    return 0


cdef inline int64_t rows_of(const TensorView* view) noexcept nogil:
    return view.shape[0] if view.rank else 1


cdef int write_predictions(Exchange exchange) except -1:
    cdef size_t room = reply_room(exchange)
    cdef uint8_t* begin = exchange.reserve_reply(room)
    cdef const uint8_t** cursors = <const uint8_t**>exchange.take(exchange.output_count * sizeof(uint8_t*))
    cdef uint8_t* end
    if cursors == NULL:
        raise MemoryError
    if room > NOGIL_BYTES:
        with nogil:
            end = put_predictions(exchange, begin, cursors)
    else:
        end = put_predictions(exchange, begin, cursors)
    exchange.reply_size = end - begin
    return 0


cdef size_t reply_room(Exchange exchange) noexcept nogil:
    """An upper bound: per row its names and brackets, per element its longest text, comma and brackets."""
    cdef size_t room = 64
    cdef size_t names = 4
    cdef int64_t rows = 1
    cdef TensorView* view
    cdef int i
    for i in range(exchange.output_count):
        view = &exchange.outputs[i]
        names += string_room(exchange.output_names[i].n) + 2 * MAX_RANK + 4
        rows = max(rows, rows_of(view))
        room += string_room(view.size) if view.dtype == DT_BYTES else 0
        room += arrays_in(view) * 3 + <size_t>view.elements * (SCALAR_BYTES + 3)
    room += names * <size_t>(rows + 1)
    return 2 * room if exchange.form == FORM_BOTH else room


cdef size_t arrays_in(const TensorView* view) noexcept nogil:
    """How many arrays its nested form has; more than elements if a dimension is zero."""
    cdef size_t total = 1
    cdef size_t level = 1
    cdef int d
    for d in range(view.rank):
        level *= view.shape[d]
        total += level
    return total


cdef inline uint8_t* put(uint8_t* out, const char* text) noexcept nogil:
    cdef size_t n = strlen(text)
    memcpy(out, text, n)
    return out + n


cdef uint8_t* put_predictions(Exchange exchange, uint8_t* out, const uint8_t** cursors) noexcept nogil:
    out = put(out, b"{")
    if exchange.form != FORM_OUTPUTS:
        out = put(out, b'"predictions":')
        out = put_rows(exchange, out, cursors)
    if exchange.form == FORM_BOTH:
        out = put(out, b",")
    if exchange.form != FORM_PREDICTIONS:
        out = put(out, b'"outputs":')
        out = put_tensors(exchange, out, cursors)
    return put(out, b"}")


cdef uint8_t* put_rows(Exchange exchange, uint8_t* out, const uint8_t** cursors) noexcept nogil:
    cdef int64_t rows = rows_of(&exchange.outputs[0])
    cdef int64_t row
    cdef int i
    for i in range(exchange.output_count):
        cursors[i] = exchange.outputs[i].data
    out = put(out, b"[")
    for row in range(rows):
        if row:
            out = put(out, b",")
        if exchange.output_count == 1:
            out = put_row_value(&exchange.outputs[0], out, &cursors[0])
            continue
        for i in range(exchange.output_count):
            out = put(out, b"," if i else b"{")
            out = put_name(exchange, i, out)
            out = put_row_value(&exchange.outputs[i], out, &cursors[i])
        out = put(out, b"}")
    return put(out, b"]")


cdef inline uint8_t* put_name(Exchange exchange, int output, uint8_t* out) noexcept nogil:
    out = write_string(out, exchange.output_names[output].at, exchange.output_names[output].n)
    return put(out, b":")


cdef inline uint8_t* put_row_value(const TensorView* view, uint8_t* out, const uint8_t** cursor) noexcept nogil:
    """A scalar where a row has one element by shape ([rows] or [rows, 1]), else its arrays."""
    if view.rank == 2 and view.shape[1] == 1:
        return put_element(view, out, cursor)
    return put_nested(view, 1, out, cursor)


cdef uint8_t* put_tensors(Exchange exchange, uint8_t* out, const uint8_t** cursors) noexcept nogil:
    cdef int i
    for i in range(exchange.output_count):
        cursors[i] = exchange.outputs[i].data
    if exchange.output_count == 1:
        return put_nested(&exchange.outputs[0], 0, out, &cursors[0])
    for i in range(exchange.output_count):
        out = put(out, b"," if i else b"{")
        out = put_name(exchange, i, out)
        out = put_nested(&exchange.outputs[i], 0, out, &cursors[i])
    return put(out, b"}")


cdef uint8_t* put_nested(const TensorView* view, int dimension, uint8_t* out, const uint8_t** cursor) noexcept nogil:
    """Arrays from ``dimension`` on; at most MAX_RANK calls deep."""
    cdef int64_t i
    if dimension >= view.rank:
        return put_element(view, out, cursor)
    out = put(out, b"[")
    for i in range(view.shape[dimension]):
        if i:
            out = put(out, b",")
        out = put_nested(view, dimension + 1, out, cursor)
    return put(out, b"]")


cdef inline uint8_t* put_element(const TensorView* view, uint8_t* out, const uint8_t** cursor) noexcept nogil:
    cdef const uint8_t* at = cursor[0]
    cdef uint32_t length
    if view.dtype != DT_BYTES:
        cursor[0] = at + dtype_itemsize(view.dtype)
        return write_scalar(out, view.dtype, at)
    memcpy(&length, at, 4)
    cursor[0] = at + 4 + length
    return write_string(out, at + 4, length)


# What tests call.


def prepare_for_test(Exchange exchange, InputTable table, *, coding=0, limit=64 << 20):
    """Give ``exchange`` what the transport gives a request of this dialect."""
    exchange.dialect = PredictDialect()
    exchange.body_coding = coding
    exchange.body_limit = limit
    exchange.input_table = table
    return exchange


def scan_for_test(Exchange exchange, InputTable table):
    """Scan and settle as the pipeline does; returns the key or keys that the reply will have."""
    cdef int outcome
    cdef Dialect dialect
    prepare_for_test(exchange, table)
    dialect = exchange.dialect
    with nogil:
        outcome = dialect.scan(exchange)
    if outcome < 0:
        dialect.settle(exchange)
    return {<int>FORM_PREDICTIONS: "predictions", <int>FORM_OUTPUTS: "outputs", <int>FORM_BOTH: "both"}[exchange.form]
