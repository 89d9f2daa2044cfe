"""From the named columns of a batch to the graph's inputs, without a Python object a value."""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stddef cimport size_t
from libc.stdint cimport INT32_MAX, SIZE_MAX, int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

cimport numpy

from gateway._fast.clock cimport monotonic_ns
from gateway._fast.dtypes cimport DT_BYTES, DT_FP32, DT_FP64, DT_INT64, DT_UINT64, dtype_itemsize
from gateway._fast.feature_categories cimport run_categories
from gateway._fast.feature_columns cimport load, load_doubles, load_wide_integers, sent_itemsize, takes
from gateway._fast.feature_combinations cimport run_combinations
from gateway._fast.feature_curves cimport run_curves
from gateway._fast.feature_elements cimport emit_texts, run_elements
from gateway._fast.feature_numbers cimport run_numbers
from gateway._fast.feature_operators cimport run_operators
from gateway._fast.feature_places cimport run_places
from gateway._fast.feature_program cimport (
    BLOCK_ROWS, COLUMN_STRINGS, DTYPE_MICROSECONDS, EMIT_HASHED, EMIT_HOT_CODES, EMIT_ONE_HOT, EMIT_SUMMED_CODES,
    EMIT_TERMS, FAILURE_MEMORY, FAILURE_NONE, FAMILY_BITS, FAMILY_CATEGORIES, FAMILY_COLUMNS, FAMILY_COMBINATIONS,
    FAMILY_CURVES, FAMILY_ELEMENTS, FAMILY_NUMBERS, FAMILY_OPERATORS, FAMILY_PLACES, FAMILY_TEXTS, FAMILY_TIMES,
    OP_GEOHASH, OP_HASH_LIST, OP_LOOKUP_LIST, OP_MAP_TEXT, OP_REPLACE_TEXT, OP_SPLIT, SLOT_BYTES, TEXT_ARENA_BYTES,
    TextMemory, fail, texts_of,
)
from gateway._fast.feature_sparse cimport end_sparse_block, run_sparse_elements
from gateway._fast.feature_texts cimport run_texts
from gateway._fast.feature_times cimport run_times
from gateway._fast.instants cimport parse_timestamp
from gateway._fast.lent_columns cimport LentColumns, lent
from gateway._fast.shown_text cimport shown_text
from gateway._fast.sparse_rows cimport SparseRows, free_sparse_rows
from gateway._fast.text_arena cimport Arena, arena_empty, arena_free, arena_open, arena_take
from gateway._fast.text_pattern cimport TextPattern
from gateway._fast.text_terms cimport TermVectorizer, free_scratch
from gateway._fast.unicode_text cimport CharacterMap
from gateway._fast.vocabulary cimport Vocabulary
from gateway.core.errors import FeatureInputInvalid
from gateway.core.tensors import DataType

cdef extern from "Python.h":
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL
    PyObject* PyList_GET_ITEM(object items, Py_ssize_t i) noexcept

numpy.import_array()

cdef enum:
    SHOWN_BYTES = 64                # bytes of a text that an error message shows
    SHOWN_TEXTS = 8                 # of a list
    GIL_TEXTS = 512                 # Python texts made before others get a turn: about 50 µs


def parse_timestamp_text(str text):
    """Microseconds since the epoch of an ISO 8601 text, or None if it is malformed or empty."""
    cdef bytes encoded = text.encode()
    cdef Span span
    cdef int64_t micros
    span.at = <const uint8_t*>PyBytes_AS_STRING(encoded)
    span.n = PyBytes_GET_SIZE(encoded)
    return micros if span.n and parse_timestamp(&span, &micros) else None


@cython.final
cdef class FeaturePlan:
    def __cinit__(self, list columns, list outputs, list program, int slots, list names):
        self.kept = []
        self.slot_count = slots
        self.names = names
        self.column_specs = [code.spec for code in columns]
        self.output_specs = [code.spec for code in outputs]
        self.expectations = [code.expectations for code in columns]
        self.column_names = [code.spec.name for code in columns]
        self.column_types = [code.type for code in columns]
        self.columns = <PlanColumn*>calloc(len(columns) + 1, sizeof(PlanColumn))
        self.types = <int32_t*>calloc(len(columns) + 1, sizeof(int32_t))
        self.outputs = <PlanOutput*>calloc(len(outputs) + 1, sizeof(PlanOutput))
        self.program = <Instruction*>calloc(len(program) + 1, sizeof(Instruction))
        self.constants = <double*>calloc(sum(len(code.constants) for code in program) + 1, sizeof(double))
        self.slots = <int32_t*>calloc(sum(len(code.slots) for code in program) + 1, sizeof(int32_t))
        if (self.columns == NULL or self.types == NULL or self.outputs == NULL or self.program == NULL
                or self.constants == NULL or self.slots == NULL):
            raise MemoryError
        self.fill_columns(columns)
        self.fill_outputs(outputs)
        self.fill_program(program)

    def __dealloc__(self):
        free(self.columns)
        free(self.types)
        free(self.outputs)
        free(self.program)
        free(self.constants)
        free(self.slots)

    cdef int fill_columns(self, list columns) except -1:
        cdef PlanColumn* column
        self.column_count = len(columns)
        for i, code in enumerate(columns):
            column = &self.columns[i]
            self.types[i] = code.type
            column.index = i
            column.type = code.type
            column.optional = code.spec.optional
            column.missing_fails = code.missing_fails
            column.infinite_fails = code.infinite_fails
            column.unit = code.unit
            self.takes_lists |= column.type == COLUMN_STRINGS
        return 0

    cdef int fill_outputs(self, list outputs) except -1:
        self.output_count = len(outputs)
        for i, code in enumerate(outputs):
            self.outputs[i].dtype = code.spec.datatype
            self.outputs[i].width = code.width
            self.gives_texts |= code.spec.datatype == DT_BYTES
        return 0

    cdef int fill_program(self, list program) except -1:
        cdef Instruction* step
        cdef double* constants = self.constants
        cdef int32_t* slots = self.slots
        self.instruction_count = len(program)
        for k, code in enumerate(program):
            step = &self.program[k]
            step.operation, step.column, step.to, step.of, step.by = (
                code.operation, code.column, code.to, code.of, code.by
            )
            step.output, step.offset, step.length = code.output, code.offset, code.length
            step.a, step.b, step.i, step.j = code.a, code.b, code.i, code.j
            step.constants = constants
            for constant in code.constants:
                constants[0] = constant
                constants += 1
            step.slots = slots
            for slot in code.slots:
                slots[0] = slot
                slots += 1
            if code.text is not None:
                self.kept.append(code.text)
                step.text.at = <const uint8_t*>PyBytes_AS_STRING(code.text)
                step.text.n = PyBytes_GET_SIZE(code.text)
            if code.vocabulary is not None:
                self.kept.append(code.vocabulary)
                step.table = &(<Vocabulary?>code.vocabulary).table
            if code.tool is not None:
                self.kept.append(code.tool)
                step.tool = tool_of(code.tool)
            if is_sparse(step.operation):
                self.outputs[step.output].sparse = True
            if makes_texts(step.operation):
                self.makes_texts = True
        return 0

    cdef int64_t run(
        self, const Column* columns, int64_t rows, void** outputs, RowError* errors, Arena* made
    ) noexcept nogil:
        return self.run_into(columns, rows, outputs, NULL, errors, made)

    cdef int64_t run_into(
        self, const Column* columns, int64_t rows, void** outputs, SparseRows* sparse, RowError* errors, Arena* made
    ) noexcept nogil:
        cdef uint8_t[STACK_SLOTS * SLOT_BYTES] registers
        cdef TextMemory memory
        cdef Block block
        cdef int64_t row
        cdef int i
        block.registers = registers
        block.memory = NULL
        if self.slot_count > STACK_SLOTS:
            block.registers = <uint8_t*>malloc(<size_t>self.slot_count * SLOT_BYTES)
            if block.registers == NULL:
                return self.fail_for_memory(rows, outputs, errors)
        for row in range(rows):
            errors[row].column = -1
            errors[row].kind = FAILURE_NONE
        for i in range(self.output_count):
            if self.outputs[i].sparse and sparse == NULL:
                memset(outputs[i], 0, rows * self.outputs[i].width * element_size(self.outputs[i].dtype))
        if self.makes_texts:
            memset(&memory, 0, sizeof(TextMemory))
            arena_open(&memory.arena, TEXT_ARENA_BYTES)
            block.memory = &memory
        block.failed = 0
        block.first = 0
        while block.first < rows:
            block.rows = <int>min(rows - block.first, <int64_t>BLOCK_ROWS)
            block.errors = errors + block.first
            self.run_block(&block, columns, outputs, sparse)
            if block.memory != NULL and memory.arena.refused:
                self.run_rows_alone(&block, columns, rows, outputs, sparse, made)
            else:
                self.end_block(&block, rows, outputs, sparse, made)
            if block.memory != NULL:
                arena_empty(&memory.arena)
            block.first += block.rows
        if block.memory != NULL:
            arena_free(&memory.arena)
            free_scratch(&memory.terms)
        if block.registers != registers:
            free(block.registers)
        if block.failed:
            self.zero_failed_rows(rows, outputs, errors)
        return block.failed

    cdef void run_block(
        self, Block* block, const Column* columns, void** outputs, SparseRows* sparse
    ) noexcept nogil:
        cdef const Instruction* step = self.program
        cdef const Instruction* end = self.program + self.instruction_count
        cdef int family
        while step < end:
            family = step.operation >> FAMILY_BITS
            if family == FAMILY_NUMBERS:
                run_numbers(block, step)
            elif family == FAMILY_COLUMNS:
                load(block, &self.columns[step.column], &columns[step.column], step.to)
            elif family == FAMILY_ELEMENTS:
                if sparse == NULL or self.outputs[step.output].dtype == DT_BYTES:
                    self.emit(block, step, outputs)
                else:
                    self.emit_sparse(block, step, &sparse[step.output])
            elif family == FAMILY_CATEGORIES:
                run_categories(block, step)
            elif family == FAMILY_TIMES:
                run_times(block, step)
            elif family == FAMILY_TEXTS:
                run_texts(block, step)
            elif family == FAMILY_COMBINATIONS:
                run_combinations(block, step)
            elif family == FAMILY_CURVES:
                run_curves(block, step)
            elif family == FAMILY_PLACES:
                run_places(block, step)
            elif family == FAMILY_OPERATORS:
                run_operators(block, step)
            step += 1

    cdef void run_rows_alone(
        self, Block* block, const Column* columns, int64_t rows, void** outputs, SparseRows* sparse, Arena* made
    ) noexcept nogil:
        # The block again, which had no memory left: each row has all of it, so that none fails for its neighbours.
        cdef Block alone = block[0]
        cdef int row, i
        for row in range(block.rows):
            if block.errors[row].kind != FAILURE_NONE:
                block.failed -= 1
        if sparse != NULL:
            for i in range(self.output_count):
                sparse[i].hit_count = 0
        alone.failed = block.failed
        alone.rows = 1
        for row in range(block.rows):
            alone.first = block.first + row
            alone.errors = block.errors + row
            alone.errors.column = -1
            alone.errors.kind = FAILURE_NONE
            self.zero_row(alone.first, outputs)
            arena_empty(&alone.memory.arena)
            self.run_block(&alone, columns, outputs, sparse)
            self.end_block(&alone, rows, outputs, sparse, made)
        block.failed = alone.failed

    cdef void end_block(
        self, Block* block, int64_t rows, void** outputs, SparseRows* sparse, Arena* made
    ) noexcept nogil:
        # What was made of the block goes where it outlives it.
        cdef int i
        if self.gives_texts and block.memory != NULL:
            self.keep_texts(block, rows, outputs, made)
        if sparse != NULL:
            for i in range(self.output_count):
                if self.outputs[i].dtype != DT_BYTES:
                    end_sparse_block(&sparse[i], block)

    cdef void keep_texts(self, Block* block, int64_t rows, void** outputs, Arena* made) noexcept nogil:
        # The texts of string outputs out of the block's arena. Past the limit of all rows together only those fail that
        # take more than a row's share of it.
        cdef size_t share = <size_t>TEXT_ARENA_BYTES // <size_t>rows
        cdef Span* texts
        cdef size_t taken
        cdef int64_t width, k
        cdef int i, row
        for row in range(block.rows):
            taken = 0
            for i in range(self.output_count):
                width = self.outputs[i].width if self.outputs[i].dtype == DT_BYTES else 0
                texts = <Span*>outputs[i] + (block.first + row) * width
                for k in range(width):
                    if block.errors[row].kind == FAILURE_NONE and not keep_text(&texts[k], share, &taken, made):
                        fail(block, row, 0, FAILURE_MEMORY)

    cdef void emit(self, Block* block, const Instruction* step, void** outputs) noexcept nogil:
        cdef const PlanOutput* output = &self.outputs[step.output]
        if output.dtype == DT_FP32:
            run_elements[float](<float*>outputs[step.output], output.width, block, step)
        elif output.dtype == DT_FP64:
            run_elements[double](<double*>outputs[step.output], output.width, block, step)
        elif output.dtype == DT_INT64:
            run_elements[int64_t](<int64_t*>outputs[step.output], output.width, block, step)
        else:
            emit_texts(<Span*>outputs[step.output], output.width, block, step)

    cdef void emit_sparse(self, Block* block, const Instruction* step, SparseRows* out) noexcept nogil:
        cdef int32_t dtype = self.outputs[step.output].dtype
        if dtype == DT_FP32:
            run_sparse_elements[float](out, block, step, 0)
        elif dtype == DT_FP64:
            run_sparse_elements[double](out, block, step, 0)
        else:
            run_sparse_elements[int64_t](out, block, step, 0)

    cdef int64_t fail_for_memory(self, int64_t rows, void** outputs, RowError* errors) noexcept nogil:
        cdef int64_t row
        for row in range(rows):
            errors[row].column = 0
            errors[row].kind = FAILURE_MEMORY
        self.zero_failed_rows(rows, outputs, errors)
        return rows

    cdef void zero_failed_rows(self, int64_t rows, void** outputs, const RowError* errors) noexcept nogil:
        cdef int64_t row
        for row in range(rows):
            if errors[row].kind != FAILURE_NONE:
                self.zero_row(row, outputs)

    cdef void zero_row(self, int64_t row, void** outputs) noexcept nogil:
        cdef size_t size
        cdef int i
        for i in range(self.output_count):
            if outputs[i] == NULL:
                continue
            size = self.outputs[i].width * element_size(self.outputs[i].dtype)
            memset(<uint8_t*>outputs[i] + row * size, 0, size)

    cdef bint accepts(self, int column, int32_t dtype) noexcept nogil:
        return dtype != DTYPE_MICROSECONDS and takes(self.columns[column].type, dtype)

    cdef object failure(self, const Column* columns, int64_t row, int64_t shown_row, RowError error):
        if self.types[error.column] == COLUMN_STRINGS:
            value = shown_list(&columns[error.column], row)
        else:
            value = shown_value(&columns[error.column], row)
        return self.invalid(shown_row, error.column, error.kind, value)

    cdef object invalid(self, int64_t row, int column, int kind, value):
        return FeatureInputInvalid(
            f"row {row}: {self.describe(column, kind, value)}", row=row, column=self.column_names[column]
        )

    cdef str describe(self, int column, int kind, value):
        cdef str name = self.column_names[column]
        came = "nothing" if value is None else value if isinstance(value, str) else repr(value)
        return f"column {name!r}: expected {self.expectations[column].get(kind, 'another value')}, came {came}"

    # --- for Python

    def accepted_dtypes(self, int column):
        if not 0 <= column < self.column_count:
            raise IndexError(f"column {column} of {self.column_count}")
        return [dtype for dtype in DataType if self.accepts(column, dtype)]

    def feature_names(self, int output):
        return self.names[output]()

    def describe_error(self, row_error, value=None):
        column, kind = row_error
        return self.describe(column, kind, value)

    def transform(self, columns, list failures=None):
        """See feature_plan.pyi."""
        return self.run_lent(self.borrow(columns), failures, False)

    def transform_sparse(self, columns, list failures=None):
        """See feature_plan.pyi."""
        return self.run_lent(self.borrow(columns), failures, True)

    def evaluate(self):
        """See feature_plan.pyi."""
        cdef LentColumns none = lent(self.column_count, self.types)
        cdef RowError error
        cdef Arena made
        cdef object room = self.room_of_output(0, 1)
        cdef void* output = numpy.PyArray_DATA(room)
        cdef int64_t failed
        arena_open(&made, SIZE_MAX)
        # A failure is not told as an error: there may be no column that it could name.
        failed = self.run(none.columns, 1, &output, &error, &made)
        result = None if failed else self.array_in_room(0, room)
        arena_free(&made)
        return result

    cdef LentColumns borrow(self, columns):
        cdef LentColumns columns_lent = lent(self.column_count, self.types)
        cdef bint plain = type(columns) is dict
        cdef PyObject* found
        cdef int i
        for i in range(self.column_count):
            name = <object>PyList_GET_ITEM(self.column_names, i)
            if plain:
                found = PyDict_GetItemWithError(columns, name)
                if found != NULL:
                    columns_lent.take(i, name, <object>found)
            else:
                columns_lent.take(i, name, columns.get(name))
        if columns_lent.rows < 0:                    # every column is optional and left out
            columns_lent.rows = 0
        return columns_lent

    cdef object room_of_output(self, int output, int64_t rows):
        cdef numpy.npy_intp[MAX_DIMENSIONS] shape
        cdef tuple tail = self.output_specs[output].shape
        cdef int k
        shape[0] = rows
        if self.outputs[output].dtype == DT_BYTES:
            shape[1] = self.outputs[output].width * sizeof(Span)
            return numpy.PyArray_SimpleNew(2, shape, numpy.NPY_UINT8)
        for k in range(1, len(tail)):
            shape[k] = tail[k]
        return numpy.PyArray_SimpleNew(len(tail), shape, type_of_array(self.outputs[output].dtype))

    cdef object array_in_room(self, int output, object room):
        cdef numpy.npy_intp count = numpy.PyArray_SIZE(room) // <numpy.npy_intp>sizeof(Span)
        cdef const Span* texts
        cdef object array
        cdef PyObject** elements
        cdef numpy.npy_intp i
        if self.outputs[output].dtype != DT_BYTES:
            return room
        texts = <const Span*>numpy.PyArray_DATA(room)
        array = numpy.PyArray_SimpleNew(1, &count, numpy.NPY_OBJECT)
        elements = <PyObject**>numpy.PyArray_DATA(array)          # NULL each, which numpy takes for None
        for i in range(count):
            text = PyUnicode_DecodeUTF8(<const char*>texts[i].at, texts[i].n, NULL) if texts[i].n else ""
            Py_INCREF(text)
            elements[i] = <PyObject*>text
            if i % GIL_TEXTS == GIL_TEXTS - 1:
                with nogil:                                      # compiled loops never give the GIL up by themselves
                    pass
        return array.reshape(len(room), *self.output_specs[output].shape[1:])

    cdef object room_of_ends(self, int64_t rows):
        cdef numpy.npy_intp[1] shape
        shape[0] = rows + 1
        return numpy.PyArray_ZEROS(1, shape, numpy.NPY_INT64, 0)

    cdef list run_lent(self, LentColumns columns, list failures, bint is_sparse):
        cdef list rooms = [
            self.room_of_ends(columns.rows) if is_sparse and self.outputs[i].dtype != DT_BYTES
            else self.room_of_output(i, columns.rows)
            for i in range(self.output_count)
        ]
        cdef Arena made
        cdef void* few[FEW_OUTPUTS]
        cdef RowError[FEW_ROWS] few_errors
        cdef void** outputs = few
        cdef SparseRows* sparse = NULL
        cdef RowError* errors = few_errors
        cdef int i
        arena_open(&made, SIZE_MAX)
        try:
            if self.output_count > FEW_OUTPUTS:
                outputs = <void**>malloc(self.output_count * sizeof(void*))
            if columns.rows > FEW_ROWS:
                errors = <RowError*>malloc(columns.rows * sizeof(RowError))
            if is_sparse:
                sparse = <SparseRows*>calloc(self.output_count, sizeof(SparseRows))
            if outputs == NULL or errors == NULL or is_sparse and sparse == NULL:
                raise MemoryError
            for i in range(self.output_count):
                outputs[i] = numpy.PyArray_DATA(rooms[i])
                if is_sparse and self.outputs[i].dtype != DT_BYTES:
                    sparse[i].itemsize = element_size(self.outputs[i].dtype)
                    sparse[i].ends = <int64_t*>outputs[i]
                    outputs[i] = NULL
            # With the GIL: objects of a caller's array must not be swapped under the loop.
            if self.run_into(columns.columns, columns.rows, outputs, sparse, errors, &made):
                self.tell_failures(columns, errors, failures)
            if is_sparse:
                return [self.sparse_arrays(i, room, &sparse[i]) for i, room in enumerate(rooms)]
            return [self.array_in_room(i, room) for i, room in enumerate(rooms)] if self.gives_texts else rooms
        finally:
            arena_free(&made)
            if sparse != NULL:
                for i in range(self.output_count):
                    free_sparse_rows(&sparse[i])
                free(sparse)
            if outputs != few:
                free(outputs)
            if errors != few_errors:
                free(errors)

    cdef object sparse_arrays(self, int output, object room, const SparseRows* rows):
        cdef numpy.npy_intp count = rows.count
        cdef object values, elements
        if self.outputs[output].dtype == DT_BYTES:
            return self.array_in_room(output, room)
        values = numpy.PyArray_SimpleNew(1, &count, type_of_array(self.outputs[output].dtype))
        elements = numpy.PyArray_SimpleNew(1, &count, numpy.NPY_INT32)
        if count:
            memcpy(numpy.PyArray_DATA(values), rows.values, count * rows.itemsize)
            memcpy(numpy.PyArray_DATA(elements), rows.elements, count * sizeof(int32_t))
        # scipy wants both kinds of places alike, and would go through them all to find out whether these fit.
        return values, elements, numpy.PyArray_Cast(room, numpy.NPY_INT32) if count <= INT32_MAX else room

    cdef int tell_failures(self, LentColumns columns, const RowError* errors, list failures) except -1:
        cdef int64_t row
        for row in range(columns.rows):
            if errors[row].kind == FAILURE_NONE:
                continue
            failure = self.failure(columns.columns, row, row, errors[row])
            if failures is None:
                raise failure
            failures.append((row, errors[row].column, errors[row].kind, failure))
        return 0

    def __repr__(self):
        columns = ", ".join(self.column_names)
        return f"<FeaturePlan [{columns}] -> {', '.join(map(str, self.output_specs))}>"


cdef inline bint is_sparse(int operation) noexcept:
    # Sets elements only where something hits them.
    return (operation == EMIT_ONE_HOT or operation == EMIT_HASHED or operation == EMIT_TERMS
            or operation == EMIT_HOT_CODES or operation == EMIT_SUMMED_CODES)


cdef inline bint makes_texts(int operation) noexcept:
    # Texts, lists, or codes of lists.
    return (OP_MAP_TEXT <= operation <= OP_REPLACE_TEXT or operation == EMIT_TERMS or operation == OP_GEOHASH
            or operation == OP_SPLIT or operation == OP_LOOKUP_LIST or operation == OP_HASH_LIST)


cdef inline bint keep_text(Span* text, size_t share, size_t* taken, Arena* made) noexcept nogil:
    # A copy that outlives the block. `taken`: bytes of the row so far. False: no memory.
    cdef uint8_t* at
    taken[0] += text.n
    if text.n == 0:
        return True
    if taken[0] > share and made.taken + text.n > <size_t>TEXT_ARENA_BYTES:
        return False
    at = arena_take(made, text.n)
    if at == NULL:
        return False
    memcpy(at, text.at, text.n)
    text.at = at
    return True


cdef inline size_t element_size(int32_t dtype) noexcept nogil:
    return sizeof(Span) if dtype == DT_BYTES else dtype_itemsize(dtype)


cdef const void* tool_of(tool) except NULL:
    # What an instruction points to of an object that the plan keeps.
    if isinstance(tool, CharacterMap):
        return &(<CharacterMap>tool).table
    if isinstance(tool, TextPattern):
        return &(<TextPattern>tool).pattern
    return &(<TermVectorizer?>tool).weighing


cdef int type_of_array(int32_t dtype) noexcept:
    return numpy.NPY_FLOAT if dtype == DT_FP32 else numpy.NPY_DOUBLE if dtype == DT_FP64 else numpy.NPY_INT64


cdef object shown_value(const Column* column, int64_t row):
    # The value as sent, for a message.
    cdef double value
    cdef int64_t integer
    cdef uint64_t unsigned
    if column.strings != NULL:
        if column.strings[row].n == 0:
            return "the empty text"
        return shown_text(column.strings[row].at, column.strings[row].n)
    if column.values == NULL:
        return None
    if column.dtype == DT_UINT64:
        memcpy(&unsigned, column.values + row * 8, 8)
        return unsigned
    if load_wide_integers(column.dtype, column.values + row * sent_itemsize(column.dtype), 1, &integer):
        return integer
    if not load_doubles(column.dtype, column.values + row * sent_itemsize(column.dtype), 1, &value):
        return None
    return value


cdef object shown_list(const Column* column, int64_t row):
    cdef const Span* texts
    cdef size_t i
    if column.strings == NULL:
        return None
    texts = texts_of(&column.strings[row])
    shown = [shown_text(texts[i].at, texts[i].n) for i in range(min(column.strings[row].n, <size_t>SHOWN_TEXTS))]
    more = ["…"] if column.strings[row].n > SHOWN_TEXTS else []
    return f"[{', '.join(shown + more)}]"


def nanoseconds_a_run_for_bench(FeaturePlan plan, columns, int64_t runs):
    """Mean nanoseconds of `run` over all rows of `columns`, with no Python in between."""
    cdef LentColumns columns_lent = plan.borrow(columns)
    cdef list results = [plan.room_of_output(i, columns_lent.rows) for i in range(plan.output_count)]
    cdef Arena made
    cdef void* outputs[FEW_OUTPUTS]
    cdef RowError* errors = <RowError*>malloc((columns_lent.rows + 1) * sizeof(RowError))
    cdef int64_t k, started, took
    if errors == NULL or len(results) > FEW_OUTPUTS:
        free(errors)
        raise MemoryError
    for k, result in enumerate(results):
        outputs[k] = numpy.PyArray_DATA(result)
    with nogil:
        started = monotonic_ns()
        for k in range(runs):
            arena_open(&made, SIZE_MAX)
            plan.run(columns_lent.columns, columns_lent.rows, outputs, errors, &made)
            arena_free(&made)
        took = monotonic_ns() - started
    free(errors)
    return took / <double>runs
