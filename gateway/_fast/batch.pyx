"""One run of a version for the rows of several exchanges.

Only rows enter a batch: parameters, requested outputs and replies stay with their exchange, and one row's failure
stays its own.
"""
import numpy as np

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from gateway._fast.clock cimport monotonic_ns
from gateway._fast.dtypes cimport DT_BYTES, DTYPE_COUNT, dtype_itemsize
from gateway._fast.exchange cimport DONE, MAX_RANK, RUNNING, Span, TensorView
from gateway._fast.feature_plan cimport FeaturePlan
from gateway._fast.served cimport GraphTensor
from gateway._fast.tensor_binding cimport InputTable

from gateway.core.errors import GatewayError, InferenceFailed, InternalError, TensorMismatch
from gateway.core.tensors import DataType

cdef list NUMPY_TYPES = [None] * DTYPE_COUNT         # DType -> numpy dtype; None: not one that numpy holds
for _datatype in DataType:
    if _datatype is not DataType.BYTES:
        NUMPY_TYPES[int(_datatype)] = np.dtype(_datatype.numpy)


cdef class Batch:
    """Made by the pipeline; ``run`` may be called on a lane thread."""

    def __init__(self):
        raise TypeError("batches are made by the pipeline")

    def __dealloc__(self):
        free(self.scratch)

    @staticmethod
    cdef Batch of(ServedVersion version, list exchanges):
        cdef Batch batch = Batch.__new__(Batch)
        cdef Exchange exchange
        batch.version = version
        batch.exchanges = exchanges
        for exchange in exchanges:
            batch.rows += exchange.rows
        return batch

    def run(self):
        """Bring every exchange to its outputs or its error. Raises nothing that a model or a request can cause."""
        cdef Exchange exchange
        try:
            if self.crumbs is not None:
                self.crumbs.enter(self.lane, self.version.model, self.version.version, self.rows, self.exchanges)
            self.run_together()
        except GatewayError as error:
            self.run_apart(error)
        except Exception as error:
            bug = InternalError("the run failed inside the server")
            bug.__cause__ = error
            self.fail_all(bug)
        if self.crumbs is not None:
            self.crumbs.leave(self.lane)
        for exchange in self.exchanges:
            exchange.batch_rows = self.rows
            exchange.features_ns = self.features_ns
            exchange.infer_ns = self.infer_ns
            exchange.state = DONE
            if self.off_loop and exchange.error is None:
                write_reply_or_fail(exchange)

    def fail_all(self, error):
        """Give every exchange that has no error yet this one."""
        cdef Exchange exchange
        for exchange in self.exchanges:
            exchange.fail(error)

    def run_apart(self, error):
        """After a failed run: the batch mates of a poisonous row get another one each, alone."""
        cdef Exchange exchange
        cdef Batch single
        if len(self.exchanges) == 1:
            self.fail_all(error)
            return
        for exchange in self.exchanges:
            if exchange.error is not None:
                continue
            single = Batch.of(self.version, [exchange])
            try:
                single.run_together()
            except GatewayError as own:
                exchange.fail(own)

    def run_together(self):
        """One pass over all rows, in slices of at most ``max_rows``."""
        cdef Exchange first = <Exchange>self.exchanges[0]
        cdef int64_t started = monotonic_ns()
        cdef dict feeds
        if self.version.plan is not None and not first.raw_features:
            feeds = self.gather_columns()
            self.features_ns = monotonic_ns() - started
            started += self.features_ns
        else:
            feeds = self.gather_tensors()
        self.feeds = feeds
        arrays = self.infer(feeds)
        self.infer_ns = monotonic_ns() - started
        self.scatter(arrays)
        self.feeds = None

    def infer(self, dict feeds):
        """Outputs of the session, as a list of arrays."""
        cdef int64_t limit = self.version.max_rows
        if not self.version.batchable or self.rows <= limit:
            return self.run_session(feeds)
        parts = [
            self.run_session({name: array[start:start + limit] for name, array in feeds.items()})
            for start in range(0, self.rows, limit)
        ]
        return [np.concatenate(slices) for slices in zip(*parts, strict=True)]

    def run_session(self, dict feeds):
        """One ``session.run``; whatever the model throws is an InferenceFailed."""
        try:
            return self.version.session.run(self.version.output_names, feeds)
        except Exception as error:
            raise InferenceFailed(
                f"model '{self.version.model}' version {self.version.version} failed: {first_line(error)}") from error

    # Gathering.

    cdef dict gather_tensors(self):
        """``{input name: array of all rows}``, copied: request bodies are not aligned, and die with their request."""
        cdef ServedVersion version = self.version
        cdef Exchange first = <Exchange>self.exchanges[0]
        cdef Exchange exchange
        cdef TensorView* view
        cdef Py_buffer target
        cdef uint8_t* at
        cdef int spec, source
        cdef dict feeds = {}
        for spec in range(len(version.input_names)):
            source = first.input_of_spec[spec]
            if source < 0:
                continue
            view = &first.inputs[source]
            if view.dtype == DT_BYTES:
                feeds[version.input_names[spec]] = self.gather_strings(spec)
                continue
            array = np.empty(self.batch_shape(first, spec), NUMPY_TYPES[view.dtype])
            PyObject_GetBuffer(array, &target, PyBUF_SIMPLE | PyBUF_WRITABLE)
            at = <uint8_t*>target.buf
            for exchange in self.exchanges:
                view = &exchange.inputs[exchange.input_of_spec[spec]]
                memcpy(at, view.data, view.size)
                at += view.size
            PyBuffer_Release(&target)
            feeds[version.input_names[spec]] = array
        return feeds

    def batch_shape(self, Exchange first, int spec):
        """Shape of input ``spec`` over the whole batch."""
        cdef TensorView* view = &first.inputs[first.input_of_spec[spec]]
        cdef list shape = [view.shape[d] for d in range(view.rank)]
        if self.version.batchable and shape:
            shape[0] = self.rows
        return tuple(shape)

    def gather_strings(self, int spec):
        """A string tensor: Python texts, which is all that ONNX Runtime's binding takes and gives.

        Raises TensorMismatch for bytes that are no UTF-8; their owner is found by running all apart.
        """
        cdef Exchange exchange
        cdef list values = []
        for exchange in self.exchanges:
            bytes_elements(&exchange.inputs[exchange.input_of_spec[spec]], values)
        array = np.empty(len(values), dtype=object)
        for element, value in enumerate(values):
            try:
                array[element] = value.decode()
            except UnicodeDecodeError as error:
                raise TensorMismatch(
                    f"element {element} of input '{self.version.input_names[spec]}' for model '{self.version.model}' is "
                    f"not UTF-8: {error.reason} at byte {error.start}", hint="send text, or base64 of it") from error
        return array.reshape(self.batch_shape(<Exchange>self.exchanges[0], spec))

    cdef dict gather_columns(self):
        """``{graph input: features of all rows}`` through the version's plan."""
        cdef FeaturePlan plan = self.version.plan
        cdef InputTable table = self.version.inputs
        cdef int64_t rows = self.rows, failed
        cdef Column* columns
        cdef RowError* errors
        cdef void* outputs[MAX_OUTPUTS]
        cdef Py_buffer target
        cdef int i
        cdef dict feeds = {}
        if plan.output_count > MAX_OUTPUTS:
            raise InternalError(f"a plan of {plan.output_count} outputs; at most {MAX_OUTPUTS} are laid out")
        self.scratch = <uint8_t*>malloc(columns_size(self, plan))
        if self.scratch == NULL:
            raise MemoryError
        columns = <Column*>self.scratch
        errors = <RowError*>(columns + plan.column_count)
        lay_out_columns(self, plan, columns, <uint8_t*>(errors + rows))
        for i in range(plan.output_count):
            array = np.empty((rows, *plan.output_specs[i].shape[1:]), NUMPY_TYPES[plan.outputs[i].dtype])
            PyObject_GetBuffer(array, &target, PyBUF_SIMPLE | PyBUF_WRITABLE)
            outputs[i] = target.buf
            PyBuffer_Release(&target)         # the array stays alive in feeds
            feeds[plan.output_specs[i].name] = array
        with nogil:
            failed = plan.run(columns, rows, outputs, errors)
        if failed:
            self.fail_rows(columns, errors)
        return feeds

    cdef int fail_rows(self, const Column* columns, const RowError* errors) except -1:
        # Rows that the plan refused are zeros in its outputs; they run along, and only their owner gets the error.
        cdef Exchange exchange
        cdef int64_t row, start = 0
        for exchange in self.exchanges:
            for row in range(start, start + exchange.rows):
                if errors[row].kind:
                    exchange.fail(self.version.plan.failure(columns, row, row - start, errors[row]))
                    break
            start += exchange.rows
        return 0

    # Scattering.

    cdef int scatter(self, list arrays) except -1:
        """Point every exchange's outputs at its rows."""
        cdef ServedVersion version = self.version
        cdef Exchange exchange
        cdef GraphTensor* spec
        cdef TensorView* view
        cdef Py_buffer source
        cdef const uint8_t* base
        cdef int64_t row_bytes, row, first_row
        cdef int count = len(arrays)
        cdef int i, d
        cdef int64_t shape[MAX_RANK]
        cdef int rank
        self.arrays = arrays
        for exchange in self.exchanges:
            exchange.outputs = <TensorView*>exchange.take(<size_t>count * sizeof(TensorView))
            if exchange.outputs == NULL:
                raise MemoryError
            memset(exchange.outputs, 0, <size_t>count * sizeof(TensorView))
            exchange.keepalive = arrays
        for i in range(count):
            spec = &version.graph_outputs[i]
            array = arrays[i]
            if spec.dtype == DT_BYTES:
                self.scatter_strings(i, array)
                continue
            if array.dtype != NUMPY_TYPES[spec.dtype]:
                raise InferenceFailed(f"model '{version.model}' version {version.version} gave output "
                                      f"'{version.output_names[i]}' as {array.dtype}, not as its graph says")
            if not array.flags.c_contiguous:
                array = arrays[i] = np.ascontiguousarray(array)
            rank = array.ndim
            if rank > MAX_RANK:
                raise InferenceFailed(f"output '{version.output_names[i]}' has {rank} dimensions, at most {MAX_RANK}")
            for d in range(rank):
                shape[d] = array.shape[d]
            self.check_rows(i, rank, shape[0] if rank else 1)
            PyObject_GetBuffer(array, &source, PyBUF_SIMPLE)
            base = <const uint8_t*>source.buf
            row_bytes = source.len // self.rows if version.batchable and self.rows else source.len
            PyBuffer_Release(&source)             # the array stays alive in arrays
            row = 0
            for exchange in self.exchanges:
                view = &exchange.outputs[i]
                view.dtype = spec.dtype
                view.rank = rank
                view.elements = 1
                for d in range(rank):
                    view.shape[d] = shape[d]
                if version.batchable:
                    view.shape[0] = exchange.rows
                for d in range(rank):
                    view.elements *= view.shape[d]
                view.data = base + row * row_bytes
                view.size = <size_t>view.elements * dtype_itemsize(spec.dtype)
                row += exchange.rows
        for exchange in self.exchanges:
            exchange.output_count = count
        return 0

    def check_rows(self, int output, int rank, int64_t got):
        """A batchable model must give one row out for one row in."""
        if self.version.batchable and (rank == 0 or got != self.rows):
            raise InferenceFailed(
                f"model '{self.version.model}' version {self.version.version} gave {got} rows of output "
                f"'{self.version.output_names[output]}' for {self.rows} rows of input",
                hint="its first dimension is dynamic but not a batch: set batching.max_rows: 0 in model.yaml")

    def scatter_strings(self, int output, array):
        """A string output: re-encoded as OIP raw BYTES in each exchange's arena."""
        cdef Exchange exchange
        cdef TensorView* view
        cdef uint8_t* at
        cdef bytes raw
        cdef int64_t row = 0
        cdef int d
        self.check_rows(output, array.ndim, array.shape[0] if array.ndim else 1)
        for exchange in self.exchanges:
            part = array[row:row + exchange.rows] if self.version.batchable else array
            raw = b"".join([len(text).to_bytes(4, "little") + text for text in
                            [value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
                             for value in part.ravel()]])
            at = <uint8_t*>exchange.take(<size_t>len(raw))
            if at == NULL:
                raise MemoryError
            memcpy(at, <const char*>raw, <size_t>len(raw))
            view = &exchange.outputs[output]
            view.dtype = DT_BYTES
            view.rank = part.ndim
            view.elements = part.size
            for d in range(part.ndim):
                view.shape[d] = part.shape[d]
            view.data = at
            view.size = <size_t>len(raw)
            row += exchange.rows

    def __repr__(self):
        return f"<Batch {self.version.model}@{self.version.version} exchanges={len(self.exchanges)} rows={self.rows}>"


cdef int write_reply_or_fail(Exchange exchange) except -1:
    try:
        exchange.dialect.write_reply(exchange)
    except GatewayError as error:
        exchange.fail(error)
    except Exception as error:
        bug = InternalError("the reply could not be written")
        bug.__cause__ = error
        exchange.fail(bug)
    return 0


cdef enum:
    MAX_OUTPUTS = 64


cdef str first_line(object error):
    cdef str text = str(error).strip()
    return text.split("\n", 1)[0][:500]


cdef int bytes_elements(TensorView* view, list values) except -1:
    # Append the elements of a checked BYTES tensor.
    cdef const uint8_t* at = view.data
    cdef int64_t i
    cdef size_t n
    for i in range(view.elements):
        n = element_size(at)
        values.append(at[4:4 + n])
        at += 4 + n
    return 0


cdef inline size_t element_size(const uint8_t* at) noexcept nogil:
    return at[0] | (<size_t>at[1] << 8) | (<size_t>at[2] << 16) | (<size_t>at[3] << 24)


cdef size_t columns_size(Batch batch, FeaturePlan plan) noexcept:
    # Column headers, a RowError a row, then 8 bytes (numbers) or a Span (texts) for every value.
    cdef size_t rows = <size_t>batch.rows
    cdef size_t columns = <size_t>plan.column_count
    return columns * sizeof(Column) + rows * sizeof(RowError) + rows * columns * sizeof(Span) + 64


cdef int lay_out_columns(Batch batch, FeaturePlan plan, Column* columns, uint8_t* room) except -1:
    cdef Exchange first = <Exchange>batch.exchanges[0]
    cdef Exchange exchange
    cdef TensorView* view
    cdef Span* texts
    cdef const uint8_t* at
    cdef int64_t i
    cdef int c
    cdef bint alone = len(batch.exchanges) == 1
    for c in range(plan.column_count):
        columns[c].values = NULL
        columns[c].strings = NULL
        columns[c].dtype = 0
        if first.input_of_spec[c] < 0:
            continue
        view = &first.inputs[first.input_of_spec[c]]
        columns[c].dtype = view.dtype
        if view.dtype == DT_BYTES:
            texts = <Span*>room
            columns[c].strings = texts
            for exchange in batch.exchanges:
                view = &exchange.inputs[exchange.input_of_spec[c]]
                at = view.data
                for i in range(view.elements):
                    texts.n = element_size(at)
                    texts.at = at + 4
                    at += 4 + texts.n
                    texts += 1
            room = <uint8_t*>texts
        elif alone:
            columns[c].values = view.data     # any alignment will do
        else:
            columns[c].values = room
            for exchange in batch.exchanges:
                view = &exchange.inputs[exchange.input_of_spec[c]]
                memcpy(room, view.data, view.size)
                room += view.size
            room += -<size_t>room & 7
    return 0
