# Columns that Python lends to a run: numpy's arrays, lists, Arrow's arrays and packed rows, as the loop wants them.
#
# What is lent is not copied where its memory is rows already. The lender's objects must not change until the run is over:
# it keeps the GIL, and the caller keeps the mapping that the columns stand in.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t

from cpython.object cimport PyObject

from gateway._fast.arrow_c cimport ArrowArray, ArrowSchema
from gateway._fast.feature_columns cimport Column

cdef enum:
    FEW_COLUMNS = 32                   # that lie within the object

cdef class LentColumns:
    cdef Column* columns               # `few`, or owned: freed in __dealloc__
    cdef Column[FEW_COLUMNS] few
    cdef const int32_t* types          # borrowed from the plan: ColumnType of each
    cdef int count
    cdef int64_t rows                  # -1: not known yet
    cdef list held                     # what the columns point into, besides the objects of the caller's mapping
    cdef void** blocks                 # owned, and each block too: freed in __dealloc__; texts' spans, filled copies
    cdef int block_count

    # One column. UnplainColumn if the loop cannot take it as it is.
    cdef int take(self, int i, str name, object values) except -1
    # A block of the object's own, not initialised; never NULL.
    cdef void* block(self, int64_t items, size_t itemsize) except NULL

    # Its own steps, by what is lent.
    cdef int set_rows(self, int64_t rows) except -1
    cdef int hold(self, object values) except -1
    cdef int take_array(self, int i, str name, object array) except -1
    cdef int take_packed(self, int i, object data, int32_t dtype) except -1
    cdef int take_buffer(self, int i, object values) except -1
    cdef int take_objects(self, int i, str name, PyObject** items, int64_t rows) except -1
    cdef int take_texts(self, int i, str name, PyObject** items, int64_t rows) except -1
    cdef int take_lists(self, int i, str name, PyObject** items, int64_t rows) except -1
    cdef int take_numbers(self, int i, PyObject** items, int64_t rows) except -1
    cdef int take_integers(self, int i, PyObject** items, int64_t rows) except -1
    cdef int take_wide_text(self, int i, str name, object array) except -1
    cdef int take_narrow_text(self, int i, object array) except -1
    cdef int take_arrow(self, int i, str name, ArrowColumn values) except -1
    cdef int fill_from(self, int i, int form, ArrowColumn values) except -1
    cdef int fill_coded(
        self, int form, const ArrowSchema* schema, const ArrowArray* chunk, uint8_t* out
    ) except -1

cdef LentColumns lent(int count, const int32_t* types)

# --- Arrow

cdef class ArrowChunks:
    # What a library gave away: a type, and arrays of it. Released when it goes.
    cdef ArrowSchema schema
    cdef ArrowArray* arrays            # owned: each released, and all freed, in __dealloc__
    cdef int count
    cdef int take_stream(self, object capsule) except -1
    cdef int take_array(self, object schema, object array) except -1
    cdef ArrowArray* room(self) except NULL

cdef class ArrowColumn:
    # One column of a table, or an array with all its chunks.
    cdef ArrowChunks chunks
    cdef int child                     # of each array, which are records then; -1: the arrays themselves
    cdef ArrowSchema* schema(self) noexcept
    cdef ArrowArray chunk(self, int i) noexcept
