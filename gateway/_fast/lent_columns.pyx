"""Columns that Python lends to a plan's run, without a copy where their memory is rows already."""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport NAN, isnan
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memset

from collections import namedtuple

import numpy as np

cimport numpy

from gateway._fast.arrow_c cimport ArrowArray, ArrowArrayStream, ArrowSchema
from gateway._fast.arrow_columns cimport (
    FORM_INSTANTS, FORM_INTEGERS, FORM_NONE, FORM_NOTHING, FORM_NUMBERS, FORM_TEXTS, dtype_of, fill, fill_integers,
    fill_nothing, form_of, has_nulls, item_bytes, past_int64, spread,
)
from gateway._fast.dtypes cimport (
    DT_BOOL, DT_BYTES, DT_FP16, DT_FP32, DT_FP64, DT_INT8, DT_INT16, DT_INT32, DT_INT64, DT_NONE, DT_UINT8, DT_UINT16,
    DT_UINT32, DT_UINT64,
)
from gateway._fast.exchange cimport Span
from gateway._fast.feature_columns cimport Column, sent_itemsize
from gateway._fast.feature_program cimport (
    COLUMN_FLOAT, COLUMN_STRING, COLUMN_STRINGS, COLUMN_TIMESTAMP, DTYPE_MICROSECONDS,
)
from gateway.core.errors import FeatureInputInvalid

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    bint PyUnicode_CheckExact(PyObject* value) noexcept
    bint PyBytes_CheckExact(PyObject* value) noexcept
    bint PyFloat_Check(PyObject* value) noexcept
    double PyFloat_AS_DOUBLE(PyObject* value) noexcept
    bint PyLong_CheckExact(PyObject* value) noexcept
    bint PyBool_Check(PyObject* value) noexcept
    double PyLong_AsDouble(PyObject* value) except? -1.0
    long long PyLong_AsLongLongAndOverflow(PyObject* value, int* overflow) except? -1
    PyObject** PySequence_Fast_ITEMS(PyObject* sequence) noexcept
    PyObject* Py_None

numpy.import_array()

PackedRows = namedtuple("PackedRows", "data dtype")


class UnplainColumn(TypeError):
    """See lent_columns.pyi."""


cdef LentColumns lent(int count, const int32_t* types):
    cdef LentColumns columns = LentColumns.__new__(LentColumns)
    columns.count = count
    columns.types = types
    columns.rows = -1
    columns.columns = columns.few
    if count > FEW_COLUMNS:
        columns.columns = <Column*>malloc(count * sizeof(Column))
        if columns.columns == NULL:
            raise MemoryError
    memset(columns.columns, 0, count * sizeof(Column))
    return columns


@cython.final
cdef class LentColumns:
    def __dealloc__(self):
        cdef int i
        for i in range(self.block_count):
            free(self.blocks[i])
        free(self.blocks)
        if self.columns != self.few:
            free(self.columns)

    cdef void* block(self, int64_t items, size_t itemsize) except NULL:
        cdef void** blocks = <void**>realloc(self.blocks, (self.block_count + 1) * sizeof(void*))
        if blocks == NULL:
            raise MemoryError
        self.blocks = blocks
        blocks[self.block_count] = malloc(items * itemsize + 1)
        if blocks[self.block_count] == NULL:
            raise MemoryError
        self.block_count += 1
        return blocks[self.block_count - 1]

    cdef int set_rows(self, int64_t rows) except -1:
        if self.rows >= 0 and self.rows != rows:
            raise FeatureInputInvalid(f"columns of unlike length: {self.rows} rows and {rows} rows")
        self.rows = rows
        return 0

    cdef int hold(self, values) except -1:
        if self.held is None:
            self.held = []
        self.held.append(values)
        return 0

    cdef int take(self, int i, str name, object values) except -1:
        if values is None:
            return 0
        if self.types[i] == COLUMN_STRINGS and not has_objects(values):
            raise UnplainColumn("no lists of texts")
        if numpy.PyArray_CheckExact(values):
            self.take_array(i, name, values)
        elif type(values) is list:
            self.take_objects(i, name, PySequence_Fast_ITEMS(<PyObject*>values), len(values))
        elif isinstance(values, ArrowColumn):
            self.take_arrow(i, name, values)
        elif isinstance(values, PackedRows):
            self.take_packed(i, values.data, values.dtype)
        elif isinstance(values, np.ma.MaskedArray):
            raise UnplainColumn("a masked array")
        else:
            self.take_buffer(i, values)
        return 0

    # --- numpy's arrays

    cdef int take_array(self, int i, str name, object array) except -1:
        cdef int kind = numpy.PyArray_TYPE(array)
        cdef int32_t dtype = dtype_of_array(kind)
        if numpy.PyArray_NDIM(array) != 1:
            array = column_of(array)
        if not numpy.PyArray_ISNOTSWAPPED(array):
            raise UnplainColumn("foreign byte order")
        if dtype != DT_NONE:
            if not numpy.PyArray_IS_C_CONTIGUOUS(array):
                array = np.ascontiguousarray(array)
                self.hold(array)
            self.columns[i].values = <const uint8_t*>numpy.PyArray_DATA(array)
            self.columns[i].dtype = dtype
            return self.set_rows(numpy.PyArray_DIM(array, 0))
        if kind == numpy.NPY_OBJECT:
            if not numpy.PyArray_IS_C_CONTIGUOUS(array):
                array = np.ascontiguousarray(array)
                self.hold(array)
            return self.take_objects(
                i, name, <PyObject**>numpy.PyArray_DATA(array), numpy.PyArray_DIM(array, 0)
            )
        if kind == numpy.NPY_DATETIME:
            array = np.ascontiguousarray(array, "M8[us]")
            self.hold(array)
            self.columns[i].values = <const uint8_t*>numpy.PyArray_DATA(array)
            self.columns[i].dtype = DTYPE_MICROSECONDS
            return self.set_rows(numpy.PyArray_DIM(array, 0))
        if kind == numpy.NPY_UNICODE:
            return self.take_wide_text(i, name, array)
        if kind == numpy.NPY_STRING:
            return self.take_narrow_text(i, array)
        raise UnplainColumn(f"an array of {array.dtype}")

    cdef int take_wide_text(self, int i, str name, object array) except -1:
        # UTF-32 to UTF-8: four bytes a character are enough.
        cdef int64_t rows = numpy.PyArray_DIM(array, 0)
        cdef int64_t characters = numpy.PyArray_ITEMSIZE(array) // 4
        cdef Span* spans = <Span*>self.block(rows, sizeof(Span))
        cdef uint8_t* to = <uint8_t*>self.block(rows * characters, 4)
        cdef const uint8_t* values = <const uint8_t*>numpy.PyArray_DATA(array)
        cdef int64_t stride = numpy.PyArray_STRIDE(array, 0)
        cdef int64_t row
        cdef Py_ssize_t n
        for row in range(rows):
            n = utf8_of_wide(<const uint32_t*>(values + row * stride), characters, to)
            if n < 0:
                raise lone_surrogate(row, name)
            spans[row].at = to
            spans[row].n = n
            to += n
        self.columns[i].dtype = DT_BYTES
        self.columns[i].strings = spans
        return self.set_rows(rows)

    cdef int take_narrow_text(self, int i, object array) except -1:
        # Bytes of one width; zeros at the end are none of them, as numpy has it.
        cdef int64_t rows = numpy.PyArray_DIM(array, 0)
        cdef int64_t width = numpy.PyArray_ITEMSIZE(array)
        cdef const uint8_t* values = <const uint8_t*>numpy.PyArray_DATA(array)
        cdef int64_t stride = numpy.PyArray_STRIDE(array, 0)
        cdef Span* spans = <Span*>self.block(rows, sizeof(Span))
        cdef int64_t row
        cdef int64_t n
        for row in range(rows):
            n = width
            while n and values[row * stride + n - 1] == 0:
                n -= 1
            spans[row].at = values + row * stride
            spans[row].n = n
        self.columns[i].dtype = DT_BYTES
        self.columns[i].strings = spans
        return self.set_rows(rows)

    # --- objects of Python: the items of a list, or of an array of objects

    cdef int take_objects(self, int i, str name, PyObject** items, int64_t rows) except -1:
        if self.types[i] == COLUMN_STRINGS:
            return self.take_lists(i, name, items, rows)
        if self.types[i] == COLUMN_STRING:
            return self.take_texts(i, name, items, rows)
        if self.types[i] == COLUMN_FLOAT:
            return self.take_numbers(i, items, rows)
        if self.types[i] == COLUMN_TIMESTAMP:
            if numbers_alone(items, rows):
                raise UnplainColumn("numbers for instants")
            return self.take_texts(i, name, items, rows)
        return self.take_integers(i, items, rows)

    cdef int take_texts(self, int i, str name, PyObject** items, int64_t rows) except -1:
        cdef Span* spans = <Span*>self.block(rows, sizeof(Span))
        cdef int64_t row
        for row in range(rows):
            point_at_text(&spans[row], items[row], row, name)
        self.columns[i].dtype = DT_BYTES
        self.columns[i].strings = spans
        return self.set_rows(rows)

    cdef int take_lists(self, int i, str name, PyObject** items, int64_t rows) except -1:
        # A span for each list, and in a block of their own one for each of their texts that is not empty.
        cdef Span* lists = <Span*>self.block(rows, sizeof(Span))
        cdef PyObject** texts
        cdef int64_t count = 0
        cdef int64_t row, k
        cdef Span* text
        for row in range(rows):
            if items[row] != NULL and type(<object>items[row]) is list:
                count += len(<list><object>items[row])
            elif not is_missing(items[row]):
                raise UnplainColumn(f"a {type(<object>items[row]).__name__} among lists")
        text = <Span*>self.block(count, sizeof(Span))
        for row in range(rows):
            lists[row].at = <const uint8_t*>text
            if not is_missing(items[row]):
                texts = PySequence_Fast_ITEMS(items[row])
                for k in range(len(<list><object>items[row])):
                    point_at_text(text, texts[k], row, name)
                    if text.n:
                        text += 1
            lists[row].n = text - <const Span*>lists[row].at
        self.columns[i].dtype = DT_BYTES
        self.columns[i].strings = lists
        return self.set_rows(rows)

    cdef int take_numbers(self, int i, PyObject** items, int64_t rows) except -1:
        cdef double* numbers = <double*>self.block(rows, sizeof(double))
        cdef PyObject* item
        cdef int64_t row
        for row in range(rows):
            item = items[row]
            if item != NULL and PyFloat_Check(item):
                numbers[row] = PyFloat_AS_DOUBLE(item)
            elif item != NULL and (PyLong_CheckExact(item) or PyBool_Check(item)):
                try:
                    numbers[row] = PyLong_AsDouble(item)
                except OverflowError:
                    raise UnplainColumn("an integer past float64") from None
            elif is_missing(item):
                numbers[row] = NAN
            else:
                raise UnplainColumn(f"a {type(<object>item).__name__} among numbers")
        self.columns[i].dtype = DT_FP64
        self.columns[i].values = <const uint8_t*>numbers
        return self.set_rows(rows)

    cdef int take_integers(self, int i, PyObject** items, int64_t rows) except -1:
        cdef int64_t* integers = <int64_t*>self.block(rows, sizeof(int64_t))
        cdef PyObject* item
        cdef int64_t row
        cdef int overflow
        for row in range(rows):
            item = items[row]
            if item != NULL and (PyLong_CheckExact(item) or PyBool_Check(item)):
                integers[row] = PyLong_AsLongLongAndOverflow(item, &overflow)
                if overflow or integers[row] == INT64_MIN:
                    raise UnplainColumn("an integer outside int64")
            elif is_missing(item):
                integers[row] = INT64_MIN
            else:
                raise UnplainColumn(f"a {type(<object>item).__name__} among integers")
        self.columns[i].dtype = DT_INT64
        self.columns[i].values = <const uint8_t*>integers
        return self.set_rows(rows)

    # --- bytes

    cdef int take_packed(self, int i, object data, int32_t dtype) except -1:
        cdef Py_ssize_t itemsize = sent_itemsize(dtype)
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        PyBuffer_Release(&view)                          # the caller's mapping holds it
        if itemsize == 0 or view.len % itemsize:
            raise UnplainColumn(f"{view.len} bytes are no packed rows of data type {dtype}")
        self.columns[i].dtype = dtype
        self.columns[i].values = <const uint8_t*>view.buf
        return self.set_rows(view.len // itemsize)

    cdef int take_buffer(self, int i, object values) except -1:
        # Of whatever lends its memory: array.array, memoryview, an array of a class of its own.
        if isinstance(values, bytes | bytearray):
            raise UnplainColumn(f"a {type(values).__name__}")
        try:
            array = np.asarray(memoryview(values))
        except (TypeError, BufferError, ValueError) as error:
            raise UnplainColumn(str(error)) from error
        if not numpy.PyArray_ISNUMBER(array) and not numpy.PyArray_ISBOOL(array):
            raise UnplainColumn(f"a {type(values).__name__}")
        self.hold(array)
        return self.take_array(i, "", array)

    # --- Arrow

    cdef int take_arrow(self, int i, str name, ArrowColumn values) except -1:
        cdef const ArrowSchema* schema = values.schema()
        cdef int form = checked_form(name, schema)
        cdef int32_t dtype = DT_NONE if schema.dictionary != NULL else dtype_of(schema.format)
        cdef bint nulls = False
        cdef int64_t rows = 0
        cdef ArrowArray chunk
        cdef int k
        for k in range(values.chunks.count):
            chunk = values.chunk(k)
            rows += chunk.length
            nulls = nulls or has_nulls(&chunk)
        self.set_rows(rows)
        self.hold(values)
        if values.chunks.count == 1 and not nulls and dtype != DT_NONE and rows:
            self.columns[i].dtype = dtype
            self.columns[i].values = <const uint8_t*>chunk.buffers[1] + chunk.offset * <int64_t>sent_itemsize(dtype)
            return 0
        if form == FORM_INTEGERS and is_past_int64(values):
            form = FORM_NUMBERS                          # as float64 they fail an int column's rows, as they should
        if form == FORM_NOTHING:
            texts = self.types[i] == COLUMN_STRING or self.types[i] == COLUMN_TIMESTAMP
            form = FORM_TEXTS if texts else FORM_NUMBERS
        return self.fill_from(i, form, values)

    cdef int fill_from(self, int i, int form, ArrowColumn values) except -1:
        # The rows of all chunks in one block.
        cdef uint8_t* out = <uint8_t*>self.block(self.rows, item_bytes(form))
        cdef const ArrowSchema* schema = values.schema()
        cdef ArrowArray chunk
        cdef int k
        if form == FORM_TEXTS:
            self.columns[i].dtype = DT_BYTES
            self.columns[i].strings = <Span*>out
        else:
            self.columns[i].dtype = (
                DT_FP64 if form == FORM_NUMBERS else DT_INT64 if form == FORM_INTEGERS else DTYPE_MICROSECONDS
            )
            self.columns[i].values = out
        for k in range(values.chunks.count):
            chunk = values.chunk(k)
            if form_of(value_format(schema)) == FORM_NOTHING:
                fill_nothing(form, chunk.length, out)
            elif schema.dictionary == NULL:
                fill(form, schema.format, &chunk, 0, chunk.length, out)
            else:
                self.fill_coded(form, schema, &chunk, out)
            out += chunk.length * item_bytes(form)
        return 0

    cdef int fill_coded(self, int form, const ArrowSchema* schema, const ArrowArray* chunk, uint8_t* out) except -1:
        cdef const ArrowArray* entries = chunk.dictionary
        cdef void* known = self.block(entries.length, item_bytes(form))
        cdef int64_t* codes = <int64_t*>self.block(chunk.length, sizeof(int64_t))
        fill(form, schema.dictionary.format, entries, 0, entries.length, known)
        fill_integers(schema.format, chunk, 0, chunk.length, codes)
        spread(form, known, entries.length, codes, chunk.length, out)
        return 0


cdef const char* value_format(const ArrowSchema* schema) noexcept:
    return schema.format if schema.dictionary == NULL else schema.dictionary.format


cdef int checked_form(str name, const ArrowSchema* schema) except -1:
    cdef int form = form_of(value_format(schema))
    if form == FORM_NONE or (schema.dictionary != NULL and schema.dictionary.dictionary != NULL):
        raise FeatureInputInvalid(
            f"column {name!r}: Arrow's type {(<bytes>value_format(schema)).decode()!r} is not taken: cast it to a "
            "float, an integer, a text or a timestamp", column=name,
        )
    return form


cdef bint is_past_int64(ArrowColumn values) noexcept:
    cdef const ArrowSchema* schema = values.schema()
    cdef ArrowArray chunk
    cdef int k
    if dtype_of(value_format(schema)) != DT_UINT64:
        return False
    for k in range(values.chunks.count):
        chunk = values.chunk(k)
        if past_int64(&chunk if schema.dictionary == NULL else chunk.dictionary):
            return True
    return False


# --- what Python's objects are


cdef object column_of(array):
    # [rows, 1] as [rows].
    if array.ndim != 2 or array.shape[1] != 1:
        raise UnplainColumn(f"a column has shape [rows] or [rows, 1], not {list(array.shape)}")
    return array[:, 0]


cdef int32_t dtype_of_array(int kind) noexcept:
    # Of numpy's types that are rows as we take them; DT_NONE for all others.
    if kind == numpy.NPY_DOUBLE:
        return DT_FP64
    if kind == numpy.NPY_FLOAT:
        return DT_FP32
    if kind == numpy.NPY_LONG or kind == numpy.NPY_LONGLONG:
        return DT_INT64
    if kind == numpy.NPY_INT:
        return DT_INT32
    if kind == numpy.NPY_BOOL:
        return DT_BOOL
    if kind == numpy.NPY_BYTE:
        return DT_INT8
    if kind == numpy.NPY_SHORT:
        return DT_INT16
    if kind == numpy.NPY_UBYTE:
        return DT_UINT8
    if kind == numpy.NPY_USHORT:
        return DT_UINT16
    if kind == numpy.NPY_UINT:
        return DT_UINT32
    if kind == numpy.NPY_ULONG or kind == numpy.NPY_ULONGLONG:
        return DT_UINT64
    if kind == numpy.NPY_FLOAT16:
        return DT_FP16
    return DT_NONE


cdef bint is_missing(PyObject* item) noexcept:
    # None or NaN, or nothing at all, which an array of objects may hold.
    return item == NULL or item == Py_None or (PyFloat_Check(item) and isnan(PyFloat_AS_DOUBLE(item)))


cdef bint has_objects(values) noexcept:
    return type(values) is list or (numpy.PyArray_CheckExact(values) and numpy.PyArray_TYPE(values) == numpy.NPY_OBJECT)


cdef int point_at_text(Span* span, PyObject* item, int64_t row, str name) except -1:
    # At what a str or bytes holds, which the object keeps; missing is empty.
    cdef Py_ssize_t n
    if item != NULL and PyUnicode_CheckExact(item):
        span.at = <const uint8_t*>utf8_of(<object>item, &n, row, name)
        span.n = n
    elif item != NULL and PyBytes_CheckExact(item):
        span.at = <const uint8_t*>PyBytes_AS_STRING(<object>item)
        span.n = PyBytes_GET_SIZE(<object>item)
    elif is_missing(item):
        span.at = NULL
        span.n = 0
    else:
        raise UnplainColumn(f"a {type(<object>item).__name__} among texts")
    return 0


cdef bint numbers_alone(PyObject** items, int64_t rows) noexcept:
    # Whether the first value that is there is a number.
    cdef int64_t row
    for row in range(rows):
        if not is_missing(items[row]):
            return PyFloat_Check(items[row]) or PyLong_CheckExact(items[row])
    return False


cdef const char* utf8_of(object text, Py_ssize_t* size, int64_t row, str name) except NULL:
    try:
        return PyUnicode_AsUTF8AndSize(text, size)
    except UnicodeEncodeError as error:
        raise lone_surrogate(row, name) from error


cdef object lone_surrogate(int64_t row, str name):
    return FeatureInputInvalid(
        f"row {row}: column {name!r}: expected text, came one with a lone surrogate", row=row, column=name
    )


cdef Py_ssize_t utf8_of_wide(const uint32_t* text, int64_t characters, uint8_t* to) noexcept nogil:
    # The length in UTF-8; -1 for a lone surrogate. Zeros at the end are no characters, as numpy has it.
    cdef uint8_t* start = to
    cdef uint32_t c
    cdef int64_t k
    while characters and text[characters - 1] == 0:
        characters -= 1
    for k in range(characters):
        c = text[k]
        if c < 0x80:
            to[0] = <uint8_t>c
            to += 1
        elif c < 0x800:
            to[0] = <uint8_t>(0xC0 | c >> 6)
            to[1] = <uint8_t>(0x80 | c & 0x3F)
            to += 2
        elif 0xD800 <= c < 0xE000 or c > 0x10FFFF:
            return -1
        elif c < 0x10000:
            to[0] = <uint8_t>(0xE0 | c >> 12)
            to[1] = <uint8_t>(0x80 | c >> 6 & 0x3F)
            to[2] = <uint8_t>(0x80 | c & 0x3F)
            to += 3
        else:
            to[0] = <uint8_t>(0xF0 | c >> 18)
            to[1] = <uint8_t>(0x80 | c >> 12 & 0x3F)
            to[2] = <uint8_t>(0x80 | c >> 6 & 0x3F)
            to[3] = <uint8_t>(0x80 | c & 0x3F)
            to += 4
    return to - start


# --- Arrow


def arrow_column(values):
    cdef ArrowColumn column = ArrowColumn.__new__(ArrowColumn)
    column.chunks = chunks_of(values)
    column.child = -1
    return column


def arrow_table(table):
    cdef ArrowChunks chunks = chunks_of(table)
    cdef ArrowColumn column
    cdef int i
    if chunks.schema.format[0] != c"+" or chunks.schema.format[1] != c"s":
        raise FeatureInputInvalid(f"a table of named columns is expected, but {type(table).__name__} is one column")
    columns = {}
    for i in range(<int>chunks.schema.n_children):
        column = ArrowColumn.__new__(ArrowColumn)
        column.chunks = chunks
        column.child = i
        columns[(<bytes>chunks.schema.children[i].name).decode()] = column
    return columns


cdef ArrowChunks chunks_of(values):
    cdef ArrowChunks chunks = ArrowChunks.__new__(ArrowChunks)
    if hasattr(values, "__arrow_c_stream__"):
        chunks.take_stream(values.__arrow_c_stream__())
    else:
        schema, array = values.__arrow_c_array__()
        chunks.take_array(schema, array)
    return chunks


@cython.final
cdef class ArrowChunks:
    def __dealloc__(self):
        cdef int i
        for i in range(self.count):
            if self.arrays[i].release != NULL:
                self.arrays[i].release(&self.arrays[i])
        free(self.arrays)
        if self.schema.release != NULL:
            self.schema.release(&self.schema)

    cdef ArrowArray* room(self) except NULL:
        # For one more array, marked as released.
        cdef ArrowArray* arrays = <ArrowArray*>realloc(self.arrays, (self.count + 1) * sizeof(ArrowArray))
        if arrays == NULL:
            raise MemoryError
        self.arrays = arrays
        memset(&arrays[self.count], 0, sizeof(ArrowArray))
        return &arrays[self.count]

    cdef int take_stream(self, object capsule) except -1:
        # The capsule releases the stream itself when it goes.
        cdef ArrowArrayStream* stream = <ArrowArrayStream*>PyCapsule_GetPointer(capsule, "arrow_array_stream")
        cdef ArrowArray* array
        if stream.get_schema(stream, &self.schema):
            raise stream_error(stream)
        while True:
            array = self.room()
            if stream.get_next(stream, array):
                raise stream_error(stream)
            if array.release == NULL:
                return 0
            self.count += 1

    cdef int take_array(self, object schema, object array) except -1:
        # Moved out of the capsules: what they hold counts as released from here on.
        cdef ArrowSchema* given_schema = <ArrowSchema*>PyCapsule_GetPointer(schema, "arrow_schema")
        cdef ArrowArray* given = <ArrowArray*>PyCapsule_GetPointer(array, "arrow_array")
        self.schema = given_schema[0]
        given_schema.release = NULL
        self.room()[0] = given[0]
        given.release = NULL
        self.count = 1
        return 0


cdef object stream_error(ArrowArrayStream* stream):
    cdef const char* words = stream.get_last_error(stream)
    return FeatureInputInvalid(
        f"the Arrow stream failed: {(<bytes>words).decode(errors='replace') if words != NULL else 'no reason given'}"
    )


@cython.final
cdef class ArrowColumn:
    cdef ArrowSchema* schema(self) noexcept:
        return &self.chunks.schema if self.child < 0 else self.chunks.schema.children[self.child]

    cdef ArrowArray chunk(self, int i) noexcept:
        cdef ArrowArray records = self.chunks.arrays[i]
        cdef ArrowArray array
        if self.child < 0:
            return records
        array = records.children[self.child][0]
        if records.offset or records.length != array.length:
            array.null_count = -1
        array.offset += records.offset
        array.length = records.length
        return array
