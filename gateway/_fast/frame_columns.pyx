"""Frames sorted into columns: one pass, no Python object per row, memory handed to Arrow without a copy."""
from cpython.buffer cimport PyBuffer_FillInfo
from libc.math cimport isfinite
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from gateway._fast.decimal_text cimport FLOAT_TEXT_BYTES, write_double, write_float, write_int64, write_uint64
from gateway._fast.dtypes cimport (
    DT_BF16, DT_BOOL, DT_BYTES, DT_FP16, DT_FP32, DT_FP64, DT_INT8, DT_INT16, DT_INT32, DT_INT64, DT_UINT8, DT_UINT16,
    DT_UINT32, DT_UINT64, dtype_itemsize, dtype_name,
)
from gateway._fast.exchange cimport Span
from gateway._fast.json_text cimport is_utf8, string_room, write_string
from gateway._fast.record_frames cimport (
    EXCHANGE_INPUTS_DIGEST, EXCHANGE_INPUTS_NAMED, FINGERPRINT_BYTES, FRAME_EXCHANGE, FRAME_GAP, FRAME_SCHEMA,
    TENSOR_ABSENT, TENSOR_FINGERPRINT, TENSOR_RAW, ExchangeBody, ExchangeFrame, FrameHeader, FrameTensor, GapBody,
    RecordSchema, epoch_seed, fingerprint128, next_frame, next_tensor, open_exchange, open_gap, schema_from_frame,
)

from typing import NamedTuple

from gateway.core.errors import RecordCorrupt
from gateway.core.words import GRPC_CODES, ROLES, RULES

cdef enum:
    UNKNOWN_STATUS = 2           # gRPC's name for what nobody knows
    DAY_SECONDS = 86400
    FIXED_BYTES = 144            # of a row in the fixed columns, and of the ends and bits of its texts
    SMALL_NUMBER_TEXT = 6        # "-128," and "false,": the most that a number of one byte takes in JSON
    ELEMENT_TEXT = 20            # what JSON puts around a text, its comma and the words of base64 included
    MEMBER_TEXT = 8              # what it puts around a tensor: quotes, colon, brackets, comma
    DIGEST_BYTES = FINGERPRINT_BYTES + 8

cdef int STATUS_COUNT = len(GRPC_CODES)
cdef int ROLE_COUNT = len(ROLES)
cdef int RULE_COUNT = len(RULES)
cdef size_t[FIXED_COLUMNS] WIDTHS
WIDTHS = [16, 4, 8, 4, 1, 1, 1, 1, 16, 8, 8, 1, 8, 8, 8, 8, 4, 4, 8]

#: Names of the fixed columns in the order of ``TakenColumns.fixed``, and of ``TakenColumns.texts``.
FIXED = (
    "prediction_id", "row", "ts", "schema", "role", "rule", "status", "protocol", "trace_id", "span_id",
    "parent_span_id", "trace_flags", "queue_ns", "features_ns", "infer_ns", "total_ns", "rows", "batch_rows", "snapshot",
)  # fmt: skip
TEXTS = ("request_id", "caller", "error", "inputs_json", "outputs_json")


class Taken(NamedTuple):
    """Arrow buffers of one column: ``values`` (and ``offsets``, ``lists`` where it has them)."""

    values: object
    validity: object
    nulls: int
    offsets: object = None
    lists: object = None
    elements: int = 0


class TakenColumns(NamedTuple):
    """Everything that was in a FrameColumns, and now belongs to the taker."""

    rows: int
    fixed: list
    texts: list
    inputs: list
    outputs: list


cdef class OwnedBuffer:
    # Memory that a column gave away; freed with the last Arrow array that uses it.
    cdef uint8_t* at             # owned: freed in __dealloc__
    cdef Py_ssize_t n

    def __dealloc__(self):
        free(self.at)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        # Arrow takes no NULL, not even for nothing.
        PyBuffer_FillInfo(buffer, self, self.at if self.at != NULL else <uint8_t*>b"", self.n, True, flags)


cdef OwnedBuffer give(Grow* grow):
    cdef OwnedBuffer owned = OwnedBuffer.__new__(OwnedBuffer)
    owned.at, owned.n = grow.at, <Py_ssize_t>grow.used
    grow.at, grow.used, grow.capacity = NULL, 0, 0
    return owned


# --- buffers

cdef int widen(Grow* grow, size_t more) noexcept nogil:
    # Room for `more` bytes behind what is used. -2 = out of memory.
    cdef size_t capacity = grow.capacity
    cdef uint8_t* grown
    if grow.capacity - grow.used >= more:
        return 0
    capacity = max(grow.used + more, capacity * 2, <size_t>4096)
    grown = <uint8_t*>realloc(grow.at, capacity)
    if grown == NULL:
        return -2
    grow.at, grow.capacity = grown, capacity
    return 0


cdef int append(Grow* grow, const void* data, size_t n) noexcept nogil:
    if widen(grow, n) < 0:
        return -2
    if n:
        memcpy(grow.at + grow.used, data, n)
    grow.used += n
    return 0


cdef int append_int32(Grow* grow, int32_t value) noexcept nogil:
    return append(grow, &value, 4)


cdef int append_bits(Grow* grow, int64_t index, int64_t count, bint value) noexcept nogil:
    # Bits index … index+count-1; those before index are there already.
    cdef size_t bytes_needed = <size_t>((index + count + 7) // 8)
    cdef int64_t i
    if bytes_needed > grow.used:
        if widen(grow, bytes_needed - grow.used) < 0:
            return -2
        memset(grow.at + grow.used, 0, bytes_needed - grow.used)
        grow.used = bytes_needed
    if value:
        for i in range(index, index + count):
            grow.at[i >> 3] |= <uint8_t>(1 << (i & 7))
    return 0


# --- columns

cdef int append_text(TextColumn* column, int64_t row, int64_t rows, Span text) noexcept nogil:
    # The same text in each of `rows` rows; empty = NULL.
    cdef int64_t r
    cdef bint present = text.n > 0
    if append_bits(&column.validity, row, rows, present) < 0:
        return -2
    column.nulls += 0 if present else rows
    for r in range(rows):
        if present and append_valid_text(&column.data, text) < 0:
            return -2
        if append_int32(&column.offsets, <int32_t>column.data.used) < 0:
            return -2
    return 0


cdef int append_valid_text(Grow* data, Span text) noexcept nogil:
    # Arrow strings are UTF-8; what a caller sent may be anything: other bytes become question marks.
    cdef size_t start = data.used
    cdef size_t i
    if append(data, text.at, text.n) < 0:
        return -2
    if not is_utf8(data.at + start, text.n):
        for i in range(start, data.used):
            if data.at[i] >= 0x80:
                data.at[i] = c"?"
    return 0


cdef int start_text(TextColumn* column) noexcept nogil:
    return append_int32(&column.offsets, 0) if column.offsets.used == 0 else 0


cdef bint by_rows(const FrameTensor* tensor, int64_t rows) noexcept nogil:
    # Whether each row has its own slice of the tensor.
    return rows == 1 or (tensor.rank > 0 and tensor.shape[0] == rows)


cdef bint fits(const FrameTensor* tensor, const TensorColumn* column, int64_t rows) noexcept nogil:
    if tensor.form == TENSOR_ABSENT:
        return True
    if tensor.form != TENSOR_RAW or tensor.dtype != column.dtype or not by_rows(tensor, rows):
        return False
    if column.scalar and tensor.elements != rows:
        return False
    return tensor.dtype != DT_BYTES or all_utf8(tensor)


cdef bint all_utf8(const FrameTensor* tensor) noexcept nogil:
    cdef size_t at = 0
    cdef uint32_t n
    while at < tensor.size:
        memcpy(&n, tensor.data + at, 4)
        if not is_utf8(tensor.data + at + 4, n):
            return False
        at += 4 + n
    return True


cdef int append_tensor(
    TensorColumn* column, const FrameTensor* tensor, size_t* cursor, int64_t row, int64_t rows, int64_t total
) noexcept nogil:
    # The next `rows` of the request's `total`.
    cdef int64_t each = tensor.elements // total
    if append_bits(&column.validity, row, rows, True) < 0:
        return -2
    if append_elements(column, tensor.data + cursor[0], each * rows, cursor) < 0:
        return -2
    return append_lists(column, each, rows)


cdef int append_absent(TensorColumn* column, int64_t row, int64_t rows) noexcept nogil:
    cdef size_t unused = 0
    column.nulls += rows
    if append_bits(&column.validity, row, rows, False) < 0:
        return -2
    if column.scalar and append_elements(column, NULL, rows, &unused) < 0:
        return -2
    return append_lists(column, 1 if column.scalar else 0, rows)


cdef int append_lists(TensorColumn* column, int64_t each, int64_t rows) noexcept nogil:
    # The ends of `rows` more rows, of so many elements each.
    cdef int64_t r
    if not column.scalar:
        for r in range(1, rows + 1):
            if append_int32(&column.lists, <int32_t>(column.elements + each * r)) < 0:
                return -2
    column.elements += each * rows
    return 0


cdef int append_elements(TensorColumn* column, const uint8_t* data, int64_t elements, size_t* cursor) noexcept nogil:
    # data NULL: zeros, behind a validity bit that hides them. Moves the cursor by what was read.
    cdef size_t width = arrow_width(column.dtype)
    if elements == 0:
        return 0
    if column.dtype == DT_BYTES:
        return append_strings(column, data, elements, cursor)
    cursor[0] += <size_t>elements * dtype_itemsize(column.dtype)
    if column.dtype == DT_BOOL:
        return append_bools(column, data, elements)
    if widen(&column.values, <size_t>elements * width) < 0:
        return -2
    if data == NULL:
        memset(column.values.at + column.values.used, 0, <size_t>elements * width)
    elif column.dtype == DT_FP16 or column.dtype == DT_BF16:
        widen_halves(<float*>(column.values.at + column.values.used), data, elements, column.dtype)
    else:
        memcpy(column.values.at + column.values.used, data, <size_t>elements * width)
    column.values.used += <size_t>elements * width
    return 0


cdef size_t arrow_width(int dtype) noexcept nogil:
    return 4 if dtype == DT_FP16 or dtype == DT_BF16 else dtype_itemsize(dtype)


cdef int append_strings(TensorColumn* column, const uint8_t* data, int64_t elements, size_t* cursor) noexcept nogil:
    cdef uint32_t n
    cdef int64_t i
    for i in range(elements):
        if data != NULL:
            memcpy(&n, data, 4)
            if append(&column.values, data + 4, n) < 0:
                return -2
            data += 4 + n
            cursor[0] += 4 + n
        if append_int32(&column.offsets, <int32_t>column.values.used) < 0:
            return -2
    return 0


cdef int append_bools(TensorColumn* column, const uint8_t* data, int64_t elements) noexcept nogil:
    cdef int64_t i
    for i in range(elements):
        if append_bits(&column.values, column.elements + i, 1, data != NULL and data[i] != 0) < 0:
            return -2
    return 0


cdef void widen_halves(float* out, const uint8_t* data, int64_t elements, int dtype) noexcept nogil:
    cdef uint16_t half
    cdef int64_t i
    for i in range(elements):
        memcpy(&half, data + 2 * i, 2)
        out[i] = half_to_float(half) if dtype == DT_FP16 else brain_to_float(half)


cdef float brain_to_float(uint16_t half) noexcept nogil:
    cdef uint32_t bits = <uint32_t>half << 16
    cdef float value
    memcpy(&value, &bits, 4)
    return value


cdef float half_to_float(uint16_t half) noexcept nogil:
    cdef uint32_t sign = <uint32_t>(half & 0x8000) << 16
    cdef uint32_t exponent = (half >> 10) & 0x1F
    cdef uint32_t fraction = half & 0x3FF
    cdef uint32_t bits
    cdef float value
    if exponent == 0:            # zero and subnormals: fraction * 2**-24
        value = <float>fraction * <float>5.9604644775390625e-08
        return -value if sign else value
    bits = sign | ((exponent + 112) << 23 if exponent != 31 else <uint32_t>0x7F800000) | fraction << 13
    memcpy(&value, &bits, 4)
    return value


cdef void free_tensor_columns(TensorColumn* columns, int count) noexcept:
    cdef int i
    for i in range(count):
        free(columns[i].values.at)
        free(columns[i].offsets.at)
        free(columns[i].lists.at)
        free(columns[i].validity.at)
    free(columns)


cdef class FrameColumns:
    """Rows of exchanges with the same columns.

    ``inputs`` and ``outputs`` are ``[(datatype number, scalar), …]`` in the order of the schemas that it will be fed.
    """

    def __cinit__(self, inputs, outputs, owner=None):
        cdef int i
        self.owner = owner
        self.inputs = <TensorColumn*>calloc(len(inputs) + 1, sizeof(TensorColumn))
        self.outputs = <TensorColumn*>calloc(len(outputs) + 1, sizeof(TensorColumn))
        if self.inputs == NULL or self.outputs == NULL:
            raise MemoryError
        self.input_count, self.output_count = len(inputs), len(outputs)
        for i, (dtype, scalar) in enumerate(inputs):
            self.inputs[i].dtype, self.inputs[i].scalar = dtype, scalar
        for i, (dtype, scalar) in enumerate(outputs):
            self.outputs[i].dtype, self.outputs[i].scalar = dtype, scalar

    def __dealloc__(self):
        cdef int i
        for i in range(FIXED_COLUMNS):
            free(self.fixed[i].at)
        for i in range(TEXT_COLUMNS):
            free(self.texts[i].offsets.at)
            free(self.texts[i].data.at)
            free(self.texts[i].validity.at)
        free(self.parent_validity.at)
        free(self.trace_validity.at)
        if self.inputs != NULL:
            free_tensor_columns(self.inputs, self.input_count)
        if self.outputs != NULL:
            free_tensor_columns(self.outputs, self.output_count)
        free(self.tensors)
        free(self.cursors)
        free(self.digests)

    cdef int64_t add(
        self, const ExchangeFrame* frame, RecordSchema schema, int schema_index, int64_t first,
        const ColumnLimits* limits,
    ) noexcept nogil:
        cdef const ExchangeBody* body = frame.body
        cdef int64_t row = self.rows
        cdef int64_t total = body.rows
        cdef int64_t rows
        cdef Side inputs, outputs
        cdef int fault = self.open_tensors(frame, <int>body.input_count + body.output_count)
        if fault < 0:
            return fault
        self.open_inputs(&inputs, body, schema)
        self.open_outputs(&outputs, body, schema)
        settle_side(&inputs, total, limits.value)
        settle_side(&outputs, total, limits.value)
        pass_rows(&inputs, first, total)
        pass_rows(&outputs, first, total)
        rows = self.rows_within(frame, &inputs, &outputs, first, limits)
        if rows == 0:
            return 0
        if self.make_room(rows) < 0 or self.begin() < 0:
            return -2
        self.write_fixed(body, row, rows, first, schema_index)
        if (
            self.append_ids(body, row, rows) < 0
            or append_text(&self.texts[COLUMN_REQUEST_ID], row, rows, frame.request_id) < 0
            or append_text(&self.texts[COLUMN_CALLER], row, rows, frame.caller) < 0
            or append_text(&self.texts[COLUMN_ERROR], row, rows, frame.error) < 0
            or append_side(&inputs, row, rows, first, total) < 0
            or append_side(&outputs, row, rows, first, total) < 0
        ):
            return -2
        self.note_time(body.arrival_unix_ns)
        self.rows += rows
        return rows

    cdef int open_tensors(self, const ExchangeFrame* frame, int count) noexcept nogil:
        cdef size_t offset = 0
        cdef int i
        if self.find_scratch(count) < 0:
            return -2
        for i in range(count):
            if next_tensor(frame, &offset, &self.tensors[i]) < 0:
                return -1
            self.cursors[i] = 0
        return 0

    cdef int find_scratch(self, int count) noexcept nogil:
        cdef void* grown
        if count <= self.scratch:
            return 0
        grown = realloc(self.tensors, count * sizeof(FrameTensor))
        if grown == NULL:
            return -2
        self.tensors = <FrameTensor*>grown
        grown = realloc(self.cursors, 2 * count * sizeof(size_t))
        if grown == NULL:
            return -2
        self.cursors = <size_t*>grown
        grown = realloc(self.digests, count * DIGEST_BYTES)
        if grown == NULL:
            return -2
        self.digests = <uint8_t*>grown
        self.scratch = count
        return 0

    cdef void open_inputs(self, Side* side, const ExchangeBody* body, RecordSchema schema) noexcept nogil:
        side.columns, side.count, side.json = self.inputs, self.input_count, &self.texts[COLUMN_INPUTS_JSON]
        side.names, side.name_count = schema.input_names, schema.input_count
        side.named = (body.flags & EXCHANGE_INPUTS_NAMED) != 0
        self.open_sent(side, 0, body.input_count)

    cdef void open_outputs(self, Side* side, const ExchangeBody* body, RecordSchema schema) noexcept nogil:
        side.columns, side.count, side.json = self.outputs, self.output_count, &self.texts[COLUMN_OUTPUTS_JSON]
        side.names, side.name_count = schema.output_names, schema.output_count
        side.named = False
        self.open_sent(side, body.input_count, body.output_count)

    cdef void open_sent(self, Side* side, int at, int sent) noexcept nogil:
        side.tensors, side.sent = self.tensors + at, sent
        side.cursors, side.ahead = self.cursors + at, self.cursors + self.scratch + at
        side.digests = self.digests + at * DIGEST_BYTES

    cdef int64_t rows_within(
        self, const ExchangeFrame* frame, const Side* inputs, const Side* outputs, int64_t first,
        const ColumnLimits* limits,
    ) noexcept nogil:
        # How many of the exchange's rows from `first` on there is room for; one at least where there is none yet.
        cdef size_t held = self.size()
        cdef size_t budget = limits.bytes - held if held < limits.bytes else 0
        cdef int64_t total = frame.body.rows
        cdef int64_t most = min(total - first, limits.rows - self.rows)
        cdef int64_t rows = 0
        cdef RowBound bound
        bound.each = FIXED_BYTES + frame.request_id.n + frame.caller.n + frame.error.n
        bound.first = bound.texts = 0
        bound_side(inputs, total, &bound)
        bound_side(outputs, total, &bound)
        if most > 0:
            rows = rows_of_bytes(&bound, inputs, outputs, first, most, total, budget)
        return 1 if rows == 0 and self.rows == 0 else rows

    cdef int make_room(self, int64_t rows) noexcept nogil:
        cdef int64_t room
        cdef int i
        if self.rows + rows <= self.room:
            return 0
        room = max(self.rows + rows, self.room * 2, <int64_t>1024)
        for i in range(FIXED_COLUMNS):
            self.fixed[i].used = <size_t>self.rows * WIDTHS[i]
            if widen(&self.fixed[i], <size_t>(room - self.rows) * WIDTHS[i]) < 0:
                return -2
        self.room = room
        return 0

    cdef int begin(self) noexcept nogil:
        # The zero that stands before all offsets.
        cdef int i
        if self.rows:
            return 0
        for i in range(TEXT_COLUMNS):
            if start_text(&self.texts[i]) < 0:
                return -2
        for i in range(self.input_count):
            if start_tensor(&self.inputs[i]) < 0:
                return -2
        for i in range(self.output_count):
            if start_tensor(&self.outputs[i]) < 0:
                return -2
        return 0

    cdef void write_fixed(
        self, const ExchangeBody* body, int64_t row, int64_t rows, int64_t first, int schema_index
    ) noexcept nogil:
        cdef Grow* fixed = self.fixed
        cdef int64_t r
        for r in range(row, row + rows):
            memcpy(fixed[COLUMN_PREDICTION_ID].at + 16 * r, body.prediction_id, 16)
            (<int32_t*>fixed[COLUMN_ROW].at)[r] = <int32_t>(first + r - row)
            (<int64_t*>fixed[COLUMN_TS].at)[r] = body.arrival_unix_ns // 1000
            (<int32_t*>fixed[COLUMN_SCHEMA].at)[r] = schema_index
            fixed[COLUMN_ROLE].at[r] = body.role if body.role < ROLE_COUNT else 0
            fixed[COLUMN_RULE].at[r] = body.rule if body.rule < RULE_COUNT else 0
            fixed[COLUMN_STATUS].at[r] = <uint8_t>body.status if 0 <= body.status < STATUS_COUNT else UNKNOWN_STATUS
            fixed[COLUMN_PROTOCOL].at[r] = body.protocol if body.protocol <= 2 else 0
            memcpy(fixed[COLUMN_TRACE_ID].at + 16 * r, body.trace_id, 16)
            memcpy(fixed[COLUMN_SPAN_ID].at + 8 * r, body.span_id, 8)
            memcpy(fixed[COLUMN_PARENT_SPAN_ID].at + 8 * r, body.parent_span_id, 8)
            fixed[COLUMN_TRACE_FLAGS].at[r] = body.trace_flags
            (<int64_t*>fixed[COLUMN_QUEUE_NS].at)[r] = body.queue_ns
            (<int64_t*>fixed[COLUMN_FEATURES_NS].at)[r] = body.features_ns
            (<int64_t*>fixed[COLUMN_INFER_NS].at)[r] = body.infer_ns
            (<int64_t*>fixed[COLUMN_TOTAL_NS].at)[r] = body.total_ns
            (<int32_t*>fixed[COLUMN_ROWS].at)[r] = <int32_t>body.rows
            (<int32_t*>fixed[COLUMN_BATCH_ROWS].at)[r] = <int32_t>body.batch_rows
            (<int64_t*>fixed[COLUMN_SNAPSHOT].at)[r] = <int64_t>body.snapshot

    cdef int append_ids(self, const ExchangeBody* body, int64_t row, int64_t rows) noexcept nogil:
        # A zero id is "none" (W3C Trace Context).
        cdef bint parent = not all_zero(body.parent_span_id, 8)
        cdef bint trace = not all_zero(body.trace_id, 16)
        self.parent_nulls += 0 if parent else rows
        self.trace_nulls += 0 if trace else rows
        if append_bits(&self.parent_validity, row, rows, parent) < 0:
            return -2
        return append_bits(&self.trace_validity, row, rows, trace)

    cdef void note_time(self, int64_t unix_ns) noexcept nogil:
        if self.rows == 0 or unix_ns // 1000 < self.first_ts:
            self.first_ts = unix_ns // 1000
        if self.rows == 0 or unix_ns // 1000 > self.last_ts:
            self.last_ts = unix_ns // 1000

    cdef size_t size(self) noexcept nogil:
        cdef size_t n = <size_t>self.rows * FIXED_BYTES
        cdef int i
        for i in range(TEXT_COLUMNS):
            n += self.texts[i].data.used
        for i in range(self.input_count):
            n += self.inputs[i].values.used + self.inputs[i].offsets.used + self.inputs[i].lists.used
        for i in range(self.output_count):
            n += self.outputs[i].values.used + self.outputs[i].offsets.used + self.outputs[i].lists.used
        return n

    def take(self):
        """All rows as Arrow buffers; afterwards the columns are empty."""
        cdef list fixed = []
        cdef list texts = []
        cdef list inputs, outputs
        cdef int i
        self.begin()
        for i in range(FIXED_COLUMNS):
            self.fixed[i].used = <size_t>self.rows * WIDTHS[i]
            validity, nulls = None, 0
            if i == COLUMN_PARENT_SPAN_ID:
                validity, nulls = give(&self.parent_validity), self.parent_nulls
            elif i == COLUMN_TRACE_ID:
                validity, nulls = give(&self.trace_validity), self.trace_nulls
            fixed.append(Taken(give(&self.fixed[i]), validity, nulls))
        for i in range(TEXT_COLUMNS):
            texts.append(Taken(
                give(&self.texts[i].data), give(&self.texts[i].validity), self.texts[i].nulls,
                give(&self.texts[i].offsets),
            ))
            self.texts[i].nulls = 0
        inputs = take_tensors(self.inputs, self.input_count)
        outputs = take_tensors(self.outputs, self.output_count)
        taken = TakenColumns(self.rows, fixed, texts, inputs, outputs)
        self.rows = self.room = self.parent_nulls = self.trace_nulls = 0
        return taken


cdef int start_tensor(TensorColumn* column) noexcept nogil:
    if column.dtype == DT_BYTES and column.offsets.used == 0 and append_int32(&column.offsets, 0) < 0:
        return -2
    return append_int32(&column.lists, 0) if not column.scalar and column.lists.used == 0 else 0


cdef list take_tensors(TensorColumn* columns, int count):
    cdef list taken = []
    cdef int i
    for i in range(count):
        taken.append(Taken(
            give(&columns[i].values), give(&columns[i].validity), columns[i].nulls, give(&columns[i].offsets),
            give(&columns[i].lists), columns[i].elements,
        ))
        columns[i].elements = columns[i].nulls = 0
    return taken


cdef bint all_zero(const uint8_t* at, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        if at[i]:
            return False
    return True


cdef Span no_text() noexcept nogil:
    cdef Span text
    text.at, text.n = NULL, 0
    return text


# --- one side of an exchange: its inputs, or its outputs

cdef void settle_side(Side* side, int64_t total, size_t value_max) noexcept nogil:
    # Typed columns where all fit, else JSON. What could be larger there than a reader takes is told by its fingerprint.
    cdef int i
    side.typed = side.sent == side.count and not side.named
    for i in range(side.sent):
        side.typed = side.typed and fits(&side.tensors[i], &side.columns[i], total)
    side.typed = side.typed and row_at_most(side, total) <= value_max
    if side.typed or row_at_most(side, total) <= value_max:
        return
    for i in range(side.sent):
        if side.tensors[i].form == TENSOR_RAW:
            digest_tensor(&side.tensors[i], side.digests + i * DIGEST_BYTES)


cdef void digest_tensor(FrameTensor* tensor, uint8_t* digest) noexcept nogil:
    # As if its frame held the fingerprint.
    cdef uint64_t size = tensor.size
    fingerprint128(tensor.data, tensor.size, digest)
    memcpy(digest + FINGERPRINT_BYTES, &size, 8)
    tensor.form, tensor.data, tensor.size = TENSOR_FINGERPRINT, digest, DIGEST_BYTES


cdef void pass_rows(Side* side, int64_t rows, int64_t total) noexcept nogil:
    # The cursors go past rows that are in an earlier table.
    cdef const FrameTensor* tensor
    cdef int i
    if rows == 0:
        return
    for i in range(side.sent):
        tensor = &side.tensors[i]
        if tensor.form != TENSOR_RAW or not by_rows(tensor, total):
            continue
        if tensor.dtype == DT_BYTES:
            pass_texts(tensor, &side.cursors[i], tensor.elements // total * rows)
        else:
            side.cursors[i] = <size_t>(tensor.elements // total * rows) * dtype_itemsize(tensor.dtype)


cdef size_t pass_texts(const FrameTensor* tensor, size_t* cursor, int64_t elements) noexcept nogil:
    # Returns the bytes of the texts alone.
    cdef size_t start = cursor[0]
    cdef uint32_t n
    cdef int64_t i
    for i in range(elements):
        memcpy(&n, tensor.data + cursor[0], 4)
        cursor[0] += 4 + n
    return cursor[0] - start - 4 * <size_t>elements


cdef int append_side(Side* side, int64_t row, int64_t rows, int64_t first, int64_t total) noexcept nogil:
    # Rows `first` … `first`+`rows`-1 of the request, as rows `row` … of the columns.
    cdef int fault = 0
    cdef int i
    for i in range(side.count):
        if side.typed and side.tensors[i].form == TENSOR_RAW:
            fault = append_tensor(&side.columns[i], &side.tensors[i], &side.cursors[i], row, rows, total)
        else:
            fault = append_absent(&side.columns[i], row, rows)
        if fault < 0:
            return -2
    if side.typed or side.sent == 0:
        return append_text(side.json, row, rows, no_text())
    if append_bits(&side.json.validity, row, rows, True) < 0:
        return -2
    return append_objects(side, rows, first, total)


# --- how much rows take, before they are taken

cdef void bound_side(const Side* side, int64_t total, RowBound* bound) noexcept nogil:
    cdef int i
    # A row's end, or the zero behind a NULL, in each column; and the braces of JSON.
    bound.each += 8 * <size_t>side.count + MEMBER_TEXT
    for i in range(side.sent):
        if side.typed:
            bound_typed(&side.tensors[i], total, bound)
        else:
            bound_json(&side.tensors[i], name_in(side, i).n, total, bound)


cdef void bound_typed(const FrameTensor* tensor, int64_t total, RowBound* bound) noexcept nogil:
    if tensor.form != TENSOR_RAW:
        return
    if tensor.dtype == DT_BYTES:
        bound.texts += tensor.size     # the lengths in the frame weigh what the offsets will
    else:
        bound.each += <size_t>(tensor.elements // total) * arrow_width(tensor.dtype)


cdef void bound_json(const FrameTensor* tensor, size_t name_bytes, int64_t total, RowBound* bound) noexcept nogil:
    cdef size_t whole
    bound.each += string_room(name_bytes) + MEMBER_TEXT
    if tensor.form == TENSOR_FINGERPRINT:
        bound.each += fingerprint_room(tensor)
    elif tensor.form == TENSOR_RAW:
        whole = json_room(tensor.dtype, tensor.size, tensor.elements)
        if not by_rows(tensor, total):
            bound.first += whole
        elif tensor.dtype == DT_BYTES:
            bound.texts += whole
        else:
            bound.each += whole // <size_t>total


cdef size_t json_room(int dtype, size_t size, int64_t elements) noexcept nogil:
    # Most that elements of so many bytes take in JSON.
    if dtype == DT_BYTES:
        return 6 * size + ELEMENT_TEXT * <size_t>elements
    return <size_t>elements * (SMALL_NUMBER_TEXT if dtype_itemsize(dtype) == 1 else FLOAT_TEXT_BYTES + 1)


cdef size_t row_at_most(const Side* side, int64_t total) noexcept nogil:
    # Bytes of one row of the side. Where it holds texts, one row may have them all.
    cdef RowBound bound
    bound.first = bound.each = bound.texts = 0
    bound_side(side, total, &bound)
    return bound.first + bound.each + bound.texts


cdef int64_t rows_of_bytes(
    const RowBound* bound, const Side* inputs, const Side* outputs, int64_t first, int64_t most, int64_t total,
    size_t budget,
) noexcept nogil:
    # How many of `most` rows from `first` on take `budget` bytes at most.
    cdef size_t once = bound.first if first == 0 else 0
    cdef int64_t r
    if once + bound.texts + bound.each * <size_t>most <= budget:
        return most
    if once > budget:
        return 0
    if bound.texts == 0:
        return min(most, <int64_t>((budget - once) // bound.each))
    memcpy(inputs.ahead, inputs.cursors, inputs.sent * sizeof(size_t))
    memcpy(outputs.ahead, outputs.cursors, outputs.sent * sizeof(size_t))
    for r in range(most):
        once += bound.each + texts_of_row(inputs, total) + texts_of_row(outputs, total)
        if once > budget:
            return r
    return most


cdef size_t texts_of_row(const Side* side, int64_t total) noexcept nogil:
    # Most that the texts of the next row ahead take.
    cdef const FrameTensor* tensor
    cdef size_t n = 0
    cdef size_t texts
    cdef int64_t elements
    cdef int i
    for i in range(side.sent):
        tensor = &side.tensors[i]
        if tensor.form != TENSOR_RAW or tensor.dtype != DT_BYTES or not by_rows(tensor, total):
            continue
        elements = tensor.elements // total
        texts = pass_texts(tensor, &side.ahead[i], elements)
        n += texts + 4 * <size_t>elements if side.typed else json_room(DT_BYTES, texts, elements)
    return n


# --- JSON for what has no typed column

cdef int append_objects(Side* side, int64_t rows, int64_t first, int64_t total) noexcept nogil:
    # One object a row. A tensor that has no slice for each row stands whole in the first.
    cdef Grow* out = &side.json.data
    cdef int64_t r
    cdef int i
    for r in range(first, first + rows):
        if append(out, b"{", 1) < 0:
            return -2
        for i in range(side.sent):
            if append_member(out, name_in(side, i), &side.tensors[i], &side.cursors[i], r, total) < 0:
                return -2
        if out.at[out.used - 1] == c",":
            out.used -= 1
        if append(out, b"}", 1) < 0 or append_int32(&side.json.offsets, <int32_t>out.used) < 0:
            return -2
    return 0


cdef Span name_in(const Side* side, int i) noexcept nogil:
    if side.named:
        return side.tensors[i].name
    return side.names[i] if i < side.name_count else no_text()


cdef int append_member(
    Grow* out, Span name, const FrameTensor* tensor, size_t* cursor, int64_t row, int64_t rows
) noexcept nogil:
    cdef bint sliced = by_rows(tensor, rows)
    if tensor.form == TENSOR_ABSENT or (row > 0 and not sliced and tensor.form == TENSOR_RAW):
        return 0
    if append_json_string(out, name.at, name.n) < 0 or append(out, b":", 1) < 0:
        return -2
    if tensor.form == TENSOR_FINGERPRINT:
        if append_fingerprint(out, tensor) < 0:
            return -2
    elif append_slice(out, tensor, cursor, tensor.elements // rows if sliced else tensor.elements) < 0:
        return -2
    return append(out, b",", 1)


cdef int append_slice(Grow* out, const FrameTensor* tensor, size_t* cursor, int64_t elements) noexcept nogil:
    # The next `elements` of the tensor: one alone as a scalar, others as a flat list.
    cdef int64_t i
    if elements == 1:
        return append_element(out, tensor, cursor)
    if append(out, b"[", 1) < 0:
        return -2
    for i in range(elements):
        if (i > 0 and append(out, b",", 1) < 0) or append_element(out, tensor, cursor) < 0:
            return -2
    return append(out, b"]", 1)


cdef int append_element(Grow* out, const FrameTensor* tensor, size_t* cursor) noexcept nogil:
    cdef const uint8_t* at = tensor.data + cursor[0]
    cdef uint32_t n
    if tensor.dtype == DT_BYTES:
        memcpy(&n, at, 4)
        cursor[0] += 4 + n
        return append_json_string(out, at + 4, n)
    cursor[0] += dtype_itemsize(tensor.dtype)
    if widen(out, FLOAT_TEXT_BYTES + 1) < 0:
        return -2
    out.used += write_number(out.at + out.used, at, tensor.dtype)
    return 0


cdef size_t write_number(uint8_t* out, const uint8_t* at, int dtype) noexcept nogil:
    # JSON has neither NaN nor infinity: null, as the view has it.
    cdef uint64_t unsigned = 0
    cdef uint16_t half
    cdef float single
    cdef double value
    if dtype == DT_BOOL:
        memcpy(out, b"true" if at[0] else b"false", 5)
        return 4 if at[0] else 5
    if dtype == DT_FP64:
        memcpy(&value, at, 8)
        return write_double(out, value) - out if isfinite(value) else write_null(out)
    if dtype == DT_FP32 or dtype == DT_FP16 or dtype == DT_BF16:
        if dtype == DT_FP32:
            memcpy(&single, at, 4)
        else:
            memcpy(&half, at, 2)
            single = half_to_float(half) if dtype == DT_FP16 else brain_to_float(half)
        return write_float(out, single) - out if isfinite(single) else write_null(out)
    if dtype == DT_UINT8 or dtype == DT_UINT16 or dtype == DT_UINT32 or dtype == DT_UINT64:
        memcpy(&unsigned, at, dtype_itemsize(dtype))
        return write_uint64(out, unsigned) - out
    return write_int64(out, load_signed(at, dtype)) - out


cdef size_t write_null(uint8_t* out) noexcept nogil:
    memcpy(out, b"null", 4)
    return 4


cdef int64_t load_signed(const uint8_t* at, int dtype) noexcept nogil:
    cdef uint64_t bits = 0
    cdef int unused = 64 - 8 * <int>dtype_itemsize(dtype)
    if dtype_itemsize(dtype) == 0:
        return 0
    memcpy(&bits, at, dtype_itemsize(dtype))
    return <int64_t>(bits << unused) >> unused


cdef int append_json_string(Grow* out, const uint8_t* text, size_t n) noexcept nogil:
    if not is_utf8(text, n):
        return append_base64(out, text, n)
    if widen(out, string_room(n)) < 0:
        return -2
    out.used = <size_t>(write_string(out.at + out.used, text, n) - out.at)
    return 0


cdef int append_base64(Grow* out, const uint8_t* data, size_t n) noexcept nogil:
    # {"base64": "…"}: bytes that are no text, whole.
    cdef const char* digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    cdef uint32_t three
    cdef uint8_t* to
    cdef size_t i
    if append(out, b'{"base64":"', 11) < 0 or widen(out, (n + 2) // 3 * 4 + 2) < 0:
        return -2
    to = out.at + out.used
    for i in range(0, n, 3):
        three = <uint32_t>data[i] << 16
        three |= <uint32_t>data[i + 1] << 8 if i + 1 < n else 0
        three |= data[i + 2] if i + 2 < n else 0
        to[0] = digits[three >> 18]
        to[1] = digits[three >> 12 & 63]
        to[2] = digits[three >> 6 & 63] if i + 1 < n else c"="
        to[3] = digits[three & 63] if i + 2 < n else c"="
        to += 4
    memcpy(to, b'"}', 2)
    out.used = <size_t>(to + 2 - out.at)
    return 0


cdef size_t fingerprint_room(const FrameTensor* tensor) noexcept nogil:
    return 128 + 24 * <size_t>tensor.rank


cdef int append_fingerprint(Grow* out, const FrameTensor* tensor) noexcept nogil:
    # {"fingerprint": "32 hex digits", "datatype": "FP32", "shape": [1, 3], "bytes": 12}
    cdef const char* digits = b"0123456789abcdef"
    cdef const char* datatype = dtype_name(tensor.dtype)
    cdef uint8_t* to
    cdef uint64_t size
    cdef int i
    if widen(out, fingerprint_room(tensor)) < 0:
        return -2
    to = out.at + out.used
    memcpy(to, b'{"fingerprint":"', 16)
    to += 16
    for i in range(FINGERPRINT_BYTES):
        to[0], to[1] = digits[tensor.data[i] >> 4], digits[tensor.data[i] & 15]
        to += 2
    memcpy(to, b'","datatype":"', 14)
    to += 14
    while datatype[0]:
        to[0] = datatype[0]
        to, datatype = to + 1, datatype + 1
    memcpy(to, b'","shape":[', 11)
    to += 11
    for i in range(tensor.rank):
        if i:
            to[0] = c","
            to += 1
        to = write_int64(to, tensor.shape[i])
    memcpy(to, b'],"bytes":', 10)
    to += 10
    memcpy(&size, tensor.data + FINGERPRINT_BYTES, 8)
    to = write_uint64(to, size)
    to[0] = c"}"
    out.used = <size_t>(to + 1 - out.at)
    return 0


# --- sorting

cdef class FrameSorter:
    """Walks the stream of one ring and hands every exchange to the columns it belongs to.

    ``open_columns(schema, day)`` is asked once for each pair (day = days since 1970-01-01, UTC) and answers
    ``(FrameColumns, index of the schema in that part)``.
    """

    def __init__(self, const uint8_t[::1] epoch, open_columns, *, int64_t rows_max=1 << 62, size_t bytes_max=BYTES_MAX,
                 size_t bytes_in_all=1 << 62, size_t value_max=VALUE_MAX):
        if epoch.shape[0] != 16:
            raise ValueError(f"an epoch has 16 bytes, not {epoch.shape[0]}")
        self.seed = epoch_seed(&epoch[0])
        self.open_columns = open_columns
        self.schemas_by_id = {}
        self.kept = []
        self.gaps = []
        self.limits.rows = rows_max
        self.limits.bytes = self.bytes_max = min(bytes_max, <size_t>BYTES_MAX)
        self.bytes_in_all = bytes_in_all
        self.limits.value = min(value_max, <size_t>VALUE_MAX)

    def __dealloc__(self):
        free(self.routes)

    @property
    def schemas(self):
        """The schemas told so far, by id."""
        return self.schemas_by_id

    def expect(self, uint64_t seq):
        """The stream goes on at ``seq``: frames before it are repetitions."""
        self.next_seq, self.begun = seq, 0

    def know(self, RecordSchema schema):
        """Take a schema that was told before this stretch of the stream."""
        self.schemas_by_id.setdefault(schema.id, schema)

    def feed(self, const uint8_t[::1] data, size_t start=0):
        """Sort the frames of ``data`` from byte ``start`` on; returns where it stopped.

        It stops before the end at a frame that is cut off or damaged, and at one whose rows do not all fit into their
        columns (``full`` says which; take them and feed the rest, which begins with that frame).
        Damage raises nothing here: who fed knows what comes next.
        """
        cdef const uint8_t* at = &data[0] if data.shape[0] else NULL
        cdef size_t n = data.shape[0]
        cdef size_t offset = start
        cdef const FrameHeader* unrouted = NULL
        cdef int stop
        self.full = None
        while True:
            with nogil:
                stop = self.run_frames(at, n, &offset, &unrouted)
            if stop == -2:
                raise MemoryError(f"no memory for the rows of {n} bytes of frames")
            if stop == 0:
                return offset
            # A schema, a gap, or an exchange with a schema or of a day not met before: rare, and done in Python.
            if self.take_rare(unrouted):
                self.meet_again(unrouted, &offset)

    cdef int run_frames(
        self, const uint8_t* at, size_t n, size_t* offset, const FrameHeader** unrouted
    ) noexcept nogil:
        # 0: stopped for good (see feed). 1: unrouted[0] wants Python. -2: out of memory.
        cdef const FrameHeader* header
        cdef ExchangeFrame frame
        cdef Route* route
        cdef int fault
        while next_frame(at, n, offset, self.seed, True, &header) == 1:
            if header.seq < self.next_seq:
                self.repeated += 1
                continue
            if header.seq > self.next_seq:
                self.holes += 1
                self.begun = 0
            self.next_seq = header.seq + header.length
            if header.kind != FRAME_EXCHANGE:
                unrouted[0] = header
                return 1
            if open_exchange(header, &frame) < 0:
                self.malformed += 1
                continue
            route = self.find_route(header.schema_id, day_of(frame.body.arrival_unix_ns))
            if route == NULL:
                unrouted[0] = header
                return 1
            fault = self.add_rows(route, &frame)
            if fault < 0:
                return fault
            if fault > 0:
                self.meet_again(header, offset)
                return 0
        return 0

    cdef void meet_again(self, const FrameHeader* header, size_t* offset) noexcept nogil:
        # The next frame is this one once more.
        offset[0] -= header.length
        self.next_seq = header.seq

    cdef int add_rows(self, Route* route, const ExchangeFrame* frame) noexcept nogil:
        # 1: the columns are full, and `begun` of its rows in them or in what was taken from them.
        cdef int64_t rows = (<FrameColumns>route.columns).add(
            frame, <RecordSchema>route.schema, route.schema_index, self.begun, &self.limits
        )
        if rows == -2:
            return -2
        if rows < 0:
            self.malformed += 1
            self.begun = 0
            return 0
        self.rows += rows
        self.begun += rows
        if self.begun < <int64_t>frame.body.rows:
            with gil:
                self.full = <FrameColumns>route.columns
            return 1
        self.exchanges += 1
        self.begun = 0
        return 0

    cdef Route* find_route(self, uint64_t schema_id, int64_t day) noexcept nogil:
        cdef Route* route
        cdef int i
        if self.last_route < self.route_count:
            route = &self.routes[self.last_route]
            if route.schema_id == schema_id and route.day == day:
                return route
        for i in range(self.route_count):
            if self.routes[i].schema_id == schema_id and self.routes[i].day == day:
                self.last_route = i
                return &self.routes[i]
        return NULL

    cdef bint take_rare(self, const FrameHeader* header) except -1:
        # True: it has a route now, and is to be met again.
        cdef GapBody gap
        if header.kind == FRAME_SCHEMA:
            self.tell(header)
        elif header.kind == FRAME_GAP and open_gap(header, &gap) == 0:
            self.gaps.append((gap.lost, gap.first_unix_ns, gap.last_unix_ns))
        elif header.kind == FRAME_EXCHANGE:
            return self.open_route(header)
        else:
            self.malformed += 1
        return False

    cdef int tell(self, const FrameHeader* header) except -1:
        if header.schema_id not in self.schemas_by_id:
            try:
                self.schemas_by_id[header.schema_id] = schema_from_frame(header)
            except RecordCorrupt:
                self.malformed += 1
        return 0

    cdef bint open_route(self, const FrameHeader* header) except -1:
        # False: it names a schema never told.
        cdef ExchangeFrame frame
        cdef RecordSchema schema = self.schemas_by_id.get(header.schema_id)
        cdef FrameColumns columns
        cdef Route* grown
        cdef Route* route
        if schema is None:
            self.malformed += 1
            return False
        open_exchange(header, &frame)
        day = day_of(frame.body.arrival_unix_ns)
        columns, index = self.open_columns(schema, day)
        if columns.input_count != schema.input_count or columns.output_count != schema.output_count:
            raise ValueError(f"columns of {schema!r} must be made for its inputs and outputs")
        grown = <Route*>realloc(self.routes, (self.route_count + 1) * sizeof(Route))
        if grown == NULL:
            raise MemoryError
        self.routes = grown
        route = &self.routes[self.route_count]
        route.schema_id, route.day, route.schema_index = header.schema_id, day, index
        # Borrowed: `kept` holds both for as long as the sorter lives.
        route.columns, route.schema = <void*>columns, <void*>schema
        self.kept.append((columns, schema))
        self.route_count += 1
        self.limits.bytes = min(self.bytes_max, self.bytes_in_all // <size_t>self.route_count)
        return True


cdef int64_t day_of(int64_t unix_ns) noexcept nogil:
    return unix_ns // 1000000000 // DAY_SECONDS if unix_ns > 0 else 0
