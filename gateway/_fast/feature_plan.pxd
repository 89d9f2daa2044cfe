# The compiled feature plan: a program (feature_program) and the loop that runs it over the named columns of a batch.
#
# Rows are taken in blocks; each instruction runs over all rows of a block before the next one does. Two threads may run
# one plan at once: what a run keeps stands on its stack or, for programs of many registers, in memory of its own.
from libc.stdint cimport int32_t, int64_t, uint8_t

from gateway._fast.exchange cimport Span
from gateway._fast.feature_columns cimport Column, PlanColumn
from gateway._fast.feature_program cimport Block, Instruction, RowError
from gateway._fast.lent_columns cimport LentColumns
from gateway._fast.sparse_rows cimport SparseRows
from gateway._fast.text_arena cimport Arena

cdef enum:
    STACK_SLOTS = 32                   # registers of a run that stand on its stack (16 KB)
    FEW_OUTPUTS = 16                   # of a run from Python that stand on its stack
    FEW_ROWS = 16                      # likewise their errors
    MAX_DIMENSIONS = 32                # of an output, which numpy holds

cdef struct PlanOutput:
    int32_t dtype                      # DT_FP32, DT_FP64, DT_INT64 or DT_BYTES, whose elements are Spans
    int64_t width                      # elements of one row
    bint sparse                        # has elements that only a hit sets, so zeroed before a run

cdef class FeaturePlan:
    cdef readonly int column_count
    cdef readonly int output_count
    cdef readonly int instruction_count
    cdef readonly int slot_count
    cdef bint makes_texts              # has instructions that need TextMemory
    cdef bint gives_texts              # has a string output
    cdef bint takes_lists              # has a column of lists
    cdef PlanColumn* columns           # owned: freed in __dealloc__
    cdef int32_t* types                # owned: freed in __dealloc__; ColumnType of each column
    cdef PlanOutput* outputs           # owned: freed in __dealloc__
    cdef Instruction* program          # owned: freed in __dealloc__
    cdef double* constants             # owned: freed in __dealloc__; of all instructions
    cdef int32_t* slots                # owned: freed in __dealloc__; of all instructions
    cdef list kept                     # vocabularies and bytes that instructions point to
    cdef readonly list column_specs    # core.tensors.TensorSpec, as published
    cdef readonly list output_specs    # core.tensors.TensorSpec
    cdef list expectations             # per column, {failure kind: what was expected}
    cdef list column_names
    cdef list names                    # per output, a function that gives those of its elements
    cdef readonly list column_types    # ColumnType of each

    # Fill `outputs[i]` (caller-owned, aligned to its elements, rows * outputs[i].width of them) from `columns` (in plan
    # order). Returns how many rows failed. `errors` has one entry a row; a failed row's outputs are zeros.
    # Of a string output each element is a Span into `columns`, the plan or `made`, an arena without a limit that is
    # empty before and that the caller frees.
    cdef int64_t run(
        self, const Column* columns, int64_t rows, void** outputs, RowError* errors, Arena* made
    ) noexcept nogil

    # Likewise; with `sparse`, one for each output, only string outputs are filled (`outputs[i]` of the others is NULL),
    # and a failed row has no elements.
    cdef int64_t run_into(
        self, const Column* columns, int64_t rows, void** outputs, SparseRows* sparse, RowError* errors, Arena* made
    ) noexcept nogil

    # Room for an output of so many rows: the array itself or, of a string output, where its Spans go.
    cdef object room_of_output(self, int output, int64_t rows)
    # The array of an output whose room was filled: of a string output, an array of Python's texts.
    cdef object array_in_room(self, int output, object room)

    # Whether the column takes that data type.
    cdef bint accepts(self, int column, int32_t dtype) noexcept nogil

    # The FeatureInputInvalid of a failed row, naming row and column, what was expected and what came.
    # `row` indexes `columns`; `shown_row` is the number that the caller knows the row by.
    cdef object failure(self, const Column* columns, int64_t row, int64_t shown_row, RowError error)

    # Its own steps: of construction, of a run, and for Python's callers.
    cdef int fill_columns(self, list columns) except -1
    cdef int fill_outputs(self, list outputs) except -1
    cdef int fill_program(self, list program) except -1
    cdef void run_block(self, Block* block, const Column* columns, void** outputs, SparseRows* sparse) noexcept nogil
    cdef void run_rows_alone(
        self, Block* block, const Column* columns, int64_t rows, void** outputs, SparseRows* sparse, Arena* made
    ) noexcept nogil
    cdef void end_block(
        self, Block* block, int64_t rows, void** outputs, SparseRows* sparse, Arena* made
    ) noexcept nogil
    cdef void keep_texts(self, Block* block, int64_t rows, void** outputs, Arena* made) noexcept nogil
    cdef void emit(self, Block* block, const Instruction* step, void** outputs) noexcept nogil
    cdef void emit_sparse(self, Block* block, const Instruction* step, SparseRows* out) noexcept nogil
    cdef int64_t fail_for_memory(self, int64_t rows, void** outputs, RowError* errors) noexcept nogil
    cdef void zero_failed_rows(self, int64_t rows, void** outputs, const RowError* errors) noexcept nogil
    cdef void zero_row(self, int64_t row, void** outputs) noexcept nogil
    cdef object invalid(self, int64_t row, int column, int kind, value)
    cdef str describe(self, int column, int kind, value)
    cdef LentColumns borrow(self, columns)
    cdef list run_lent(self, LentColumns columns, list failures, bint is_sparse)
    cdef object room_of_ends(self, int64_t rows)
    cdef object sparse_arrays(self, int output, object room, const SparseRows* rows)
    cdef int tell_failures(self, LentColumns columns, const RowError* errors, list failures) except -1
