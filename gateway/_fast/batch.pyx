"""One run of a version for the rows of several exchanges.

Only rows enter a batch: parameters, requested outputs and replies stay with their exchange, and one row's failure
stays its own.
"""
import numpy as np

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport SIZE_MAX, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from gateway._fast.clock cimport monotonic_ns
from gateway._fast.dtypes cimport DT_BYTES, DTYPE_COUNT, dtype_itemsize
from gateway._fast.exchange cimport MAX_RANK, TensorView
from gateway._fast.feature_plan cimport FeaturePlan
from gateway._fast.feature_program cimport COLUMN_STRINGS
from gateway._fast.record_frames cimport fingerprint_ahead
from gateway._fast.served cimport GraphTensor
from gateway._fast.text_arena cimport Arena, arena_free, arena_open

from gateway.core.errors import GatewayError, InferenceFailed, InternalError, Overloaded, TensorMismatch
from gateway.core.tensors import DataType

cdef enum:
    GIL_BYTES = 65536            # more than this is copied without the GIL: about 10 µs
    COPIED_BYTES = 65536         # smaller tensors are copied: that is quicker than a view of them is made
    GIL_TEXTS = 512              # Python texts made before others get a turn: about 50 µs
    PARTS_JOINED = 256           # runs whose outputs are joined at once: joining and freeing them holds the GIL
    LARGE_RUN_BYTES = 4194304    # feeds of a run after which the runtime gives its memory back

cdef const uint8_t* NOTHING = b""                    # where the data of a tensor without elements is
cdef list NUMPY_TYPES = [None] * DTYPE_COUNT         # DType -> numpy dtype; None: not one that numpy holds
for _datatype in DataType:
    if _datatype is not DataType.BYTES:
        NUMPY_TYPES[int(_datatype)] = np.dtype(_datatype.numpy)


cdef class BodyPiece:
    """Bytes of a request's body as a buffer, which keeps the request alive."""

    cdef Exchange exchange
    cdef Span piece

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, <void*>self.piece.at, <Py_ssize_t>self.piece.n, 1, flags)


cdef class Batch:
    """Made by the pipeline; ``run`` may be called on a lane thread."""

    def __init__(self):
        raise TypeError("batches are made by the pipeline")

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
        """Bring every exchange to its outputs or its error, on a lane thread to its reply."""
        cdef int64_t began = monotonic_ns()
        cdef Exchange exchange
        cdef int i
        self.attempt()
        for exchange in self.exchanges:
            exchange.batch_rows = self.rows
            if self.off_loop and exchange.error is None:
                write_reply_or_fail(exchange)
                with nogil:
                    for i in range(exchange.output_count):
                        fingerprint_ahead(exchange, &exchange.outputs[i])
        self.took_ns = monotonic_ns() - began

    cdef int fail_all(self, object error) except -1:
        cdef Exchange exchange
        for exchange in self.exchanges:
            exchange.fail(error)
        return 0

    cdef int attempt(self) except -1:
        cdef Exchange exchange
        try:
            if self.crumbs is not None:
                self.crumbs.enter(self.lane, self.version.model, self.version.version, self.rows, self.exchanges)
            self.run_together()
        except Exception as error:
            self.failed = True
            if len(self.exchanges) > 1:
                return self.run_halves()
            self.fail_all(own_error(error))
        finally:
            if self.crumbs is not None:
                self.crumbs.leave(self.lane)
        for exchange in self.exchanges:
            exchange.features_ns = self.features_ns
            exchange.infer_ns = self.infer_ns
        return 0

    cdef int run_halves(self) except -1:
        # Halving finds a poisonous row among n in about 2 * log2(n) runs, and answers everybody else.
        cdef Batch half
        cdef list left = [exchange for exchange in self.exchanges if (<Exchange>exchange).error is None]
        cdef Py_ssize_t middle = (len(left) + 1) // 2
        for part in (left[:middle], left[middle:]):
            if part:
                half = Batch.of(self.version, part)
                half.crumbs = self.crumbs
                half.lane = self.lane
                half.attempt()
                self.features_ns += half.features_ns
                self.infer_ns += half.infer_ns
        return 0

    cdef int run_together(self) except -1:
        cdef int64_t began = monotonic_ns()
        cdef Exchange exchange = <Exchange>self.exchanges[0]
        cdef dict feeds
        if self.version.plan is not None and not exchange.raw_features:
            feeds = self.gather_columns()
            self.features_ns = monotonic_ns() - began
            began += self.features_ns
        else:
            feeds = self.gather_tensors()
        for exchange in self.exchanges:
            if exchange.error is None:
                break
        else:
            return 0                     # the plan has refused them all
        try:
            arrays = self.infer(feeds)
        finally:
            self.infer_ns = monotonic_ns() - began
        self.scatter(arrays)
        for array in feeds.values():
            let_go_of_texts(array)
        return 0

    def infer(self, dict feeds):
        """Outputs of the session, as a list of arrays; of more rows than one run takes, in slices."""
        cdef int64_t limit = self.version.rows_of_run
        cdef int64_t start
        if limit == 0 or self.rows <= limit:
            return self.run_session(feeds)
        parts = []
        joined = []
        for start in range(0, self.rows, limit):
            parts.append(self.run_session({name: array[start:start + limit] for name, array in feeds.items()}))
            if len(parts) == PARTS_JOINED:
                joined.append(self.joined(parts))
                parts = []
        return self.joined(joined + parts)

    def joined(self, list parts):
        """Outputs of runs one after the other, as those of one run."""
        try:
            return [np.concatenate(slices) for slices in zip(*parts, strict=True)]
        except ValueError as error:
            raise InferenceFailed(f"outputs of model '{self.version.model}' version {self.version.version} for slices of "
                                  f"{self.version.rows_of_run} rows cannot be joined: {error}") from error

    def run_session(self, dict feeds):
        """One run of the session; whatever the model throws is an InferenceFailed."""
        session = self.version.session
        try:
            if self.input_bytes > LARGE_RUN_BYTES:
                return session.run_large(self.version.output_names, feeds)
            return session.run(self.version.output_names, feeds)
        except Exception as error:
            raise InferenceFailed(
                f"model '{self.version.model}' version {self.version.version} failed: {first_line(error)}") from error

    # Gathering.

    cdef dict gather_tensors(self):
        # {input name: array of all rows}. Copied, but for a large tensor that makes up the run alone and lies where its
        # elements may: the model reads that in the request's body.
        cdef ServedVersion version = self.version
        cdef Exchange first = <Exchange>self.exchanges[0]
        cdef Py_ssize_t count = len(self.exchanges)
        cdef int spec, dtype
        cdef size_t size
        cdef uint8_t* target
        cdef dict feeds = {}
        cdef Span* pieces = <Span*>malloc(<size_t>count * sizeof(Span))
        if pieces == NULL:
            raise MemoryError
        try:
            for spec in range(len(version.input_names)):
                if first.input_of_spec[spec] < 0:
                    continue                 # optional and absent
                dtype = first.inputs[first.input_of_spec[spec]].dtype
                size = self.pieces_of(spec, pieces)
                self.input_bytes += size
                if dtype == DT_BYTES:
                    feeds[version.input_names[spec]] = self.gather_strings(spec)
                    continue
                if count == 1 and size > COPIED_BYTES and <size_t>pieces.at % dtype_itemsize(dtype) == 0:
                    feeds[version.input_names[spec]] = self.array_in_body(first, pieces, spec, dtype)
                    continue
                array = self.empty_array(self.batch_shape(spec), dtype)
                target = bytes_of(array)
                if size > GIL_BYTES:
                    with nogil:
                        join(pieces, count, target)
                else:
                    join(pieces, count, target)
                feeds[version.input_names[spec]] = array
        finally:
            free(pieces)
        return feeds

    cdef object array_in_body(self, Exchange exchange, const Span* piece, int spec, int dtype):
        cdef BodyPiece owner = BodyPiece.__new__(BodyPiece)
        owner.exchange = exchange
        owner.piece = piece[0]
        return np.frombuffer(owner, NUMPY_TYPES[dtype]).reshape(self.batch_shape(spec))

    cdef object empty_array(self, tuple shape, int dtype):
        return np.empty(shape, NUMPY_TYPES[dtype])

    cdef size_t pieces_of(self, int spec, Span* pieces) noexcept:
        # Where each exchange holds its rows of an input. Returns their bytes together.
        cdef Exchange exchange
        cdef TensorView* view
        cdef size_t size = 0
        for exchange in self.exchanges:
            view = &exchange.inputs[exchange.input_of_spec[spec]]
            pieces.at = view.data
            pieces.n = view.size
            size += view.size
            pieces += 1
        return size

    def batch_shape(self, int spec):
        """Shape of input ``spec`` over the whole batch."""
        cdef Exchange first = <Exchange>self.exchanges[0]
        cdef TensorView* view = &first.inputs[first.input_of_spec[spec]]
        cdef list shape = [view.shape[d] for d in range(view.rank)]
        if self.version.batchable and shape:
            shape[0] = self.rows
        return tuple(shape)

    def gather_strings(self, int spec):
        """A string tensor: Python texts, which is all that ONNX Runtime's binding takes and gives.

        Raises TensorMismatch for bytes that are no UTF-8; their owner is found by running the others apart.
        """
        cdef Exchange exchange
        cdef int64_t count = 0
        cdef object[::1] texts
        for exchange in self.exchanges:
            count += exchange.inputs[exchange.input_of_spec[spec]].elements
        array = np.empty(count, dtype=object)
        if count:
            texts = array
            count = 0
            for exchange in self.exchanges:
                count = self.take_texts(spec, exchange, texts, count)
        return array.reshape(self.batch_shape(spec))

    cdef int64_t take_texts(self, int spec, Exchange exchange, object[::1] texts, int64_t at) except -1:
        # One exchange's elements of an input into the batch's, from `at`; returns where they end.
        cdef TensorView* view = &exchange.inputs[exchange.input_of_spec[spec]]
        cdef const uint8_t* element = view.data
        cdef uint32_t n
        cdef int64_t i
        for i in range(view.elements):
            n = text_size(element)
            try:
                texts[at + i] = PyUnicode_DecodeUTF8(<const char*>element + 4, n, NULL)
            except UnicodeDecodeError as error:
                raise TensorMismatch(
                    f"element {i} of input '{self.version.input_names[spec]}' for model "
                    f"'{self.version.model}' is not UTF-8: {error.reason} at byte {error.start}",
                    hint="send text, or base64 of it") from error
            element += 4 + n
            let_others_run(i)
        return at + view.elements

    cdef dict gather_columns(self):
        # {graph input: features of all rows} through the version's plan.
        cdef FeaturePlan plan = self.version.plan
        cdef int64_t rows = self.rows, failed
        cdef Py_ssize_t count = len(self.exchanges)
        cdef Column* columns
        cdef RowError* errors
        cdef void** outputs
        cdef Span* pieces
        cdef Arena made
        cdef size_t size
        cdef int i
        cdef dict feeds = {}
        cdef uint8_t* scratch = <uint8_t*>malloc(columns_size(plan, rows, count) + self.texts_in_lists() * sizeof(Span))
        if scratch == NULL:
            raise MemoryError
        arena_open(&made, SIZE_MAX)
        try:
            columns = <Column*>scratch
            outputs = <void**>(columns + plan.column_count)
            pieces = <Span*>(outputs + plan.output_count)
            errors = <RowError*>(pieces + count * plan.column_count)
            size = self.lay_out_columns(columns, pieces, <uint8_t*>(errors + rows))
            for i in range(plan.output_count):
                array = plan.room_of_output(i, rows)
                outputs[i] = bytes_of(array)
                self.input_bytes += <size_t>array.nbytes
                feeds[plan.output_specs[i].name] = array
            if rows * plan.column_count > GIL_TEXTS or size > GIL_BYTES:
                with nogil:
                    failed = plan.run(columns, rows, outputs, errors, &made)
            else:
                failed = plan.run(columns, rows, outputs, errors, &made)
            if failed:
                self.fail_rows(columns, errors)
            if plan.gives_texts:
                for i in range(plan.output_count):
                    name = plan.output_specs[i].name
                    feeds[name] = plan.array_in_room(i, feeds[name])
        finally:
            arena_free(&made)
            free(scratch)
        return feeds

    cdef size_t lay_out_columns(self, Column* columns, Span* pieces, uint8_t* room) except? 0:
        # Each column over all rows: numbers packed at any alignment, texts as spans into the requests. Bytes of them.
        cdef Exchange first = <Exchange>self.exchanges[0]
        cdef Py_ssize_t count = len(self.exchanges)
        cdef TensorView* view
        cdef size_t size
        cdef size_t total = 0
        cdef int c
        self.note_pieces(pieces)
        for c in range(self.version.plan.column_count):
            columns[c].values = NULL
            columns[c].strings = NULL
            columns[c].dtype = 0
            if first.input_of_spec[c] < 0:
                continue                     # optional and absent: from all of them, for they are alike
            view = &first.inputs[first.input_of_spec[c]]
            columns[c].dtype = view.dtype
            size = bytes_together(pieces + c * count, count)
            total += size
            if self.version.plan.columns[c].type == COLUMN_STRINGS and view.dtype == DT_BYTES:
                columns[c].strings = <Span*>room
                room = self.split_lists(c, room)
            elif view.dtype == DT_BYTES:
                columns[c].strings = <Span*>room
                if size > GIL_BYTES:
                    with nogil:
                        room = split_texts(pieces + c * count, count, room)
                else:
                    room = split_texts(pieces + c * count, count, room)
            elif count == 1:
                columns[c].values = view.data
            else:
                columns[c].values = room
                if size > GIL_BYTES:
                    with nogil:
                        join(pieces + c * count, count, room)
                else:
                    join(pieces + c * count, count, room)
                room += (size + 7) & ~(<size_t>7)
        return total

    cdef size_t texts_in_lists(self) except? 0:
        # Of all columns of lists, padding included.
        cdef FeaturePlan plan = self.version.plan
        cdef Exchange exchange
        cdef size_t count = 0
        cdef int c
        if not plan.takes_lists:
            return 0
        for exchange in self.exchanges:
            for c in range(plan.column_count):
                if plan.columns[c].type == COLUMN_STRINGS and exchange.input_of_spec[c] >= 0:
                    count += <size_t>exchange.inputs[exchange.input_of_spec[c]].elements
        return count

    cdef uint8_t* split_lists(self, int column, uint8_t* room) except NULL:
        # A span for the list of each row, then one for each of their texts. Returns the end of what was written.
        cdef Exchange exchange
        cdef TensorView* view
        cdef Span* lists = <Span*>room
        cdef Span* text = lists + self.rows
        for exchange in self.exchanges:
            view = &exchange.inputs[exchange.input_of_spec[column]]
            if view.size > GIL_BYTES:
                with nogil:
                    text = split_rows(view, exchange.rows, lists, text)
            else:
                text = split_rows(view, exchange.rows, lists, text)
            lists += exchange.rows
        return <uint8_t*>text

    cdef void note_pieces(self, Span* pieces) noexcept:
        # Where each exchange holds its rows of each column: [column][exchange]. One exchange after the other, for its
        # views lie side by side.
        cdef Py_ssize_t count = len(self.exchanges)
        cdef int column_count = self.version.plan.column_count
        cdef Exchange exchange
        cdef TensorView* view
        cdef Span* piece
        cdef int c
        for exchange in self.exchanges:
            for c in range(column_count):
                if exchange.input_of_spec[c] < 0:
                    continue
                view = &exchange.inputs[exchange.input_of_spec[c]]
                piece = pieces + c * count
                piece.at = view.data
                piece.n = view.size
            pieces += 1

    cdef int fail_rows(self, const Column* columns, const RowError* errors) except -1:
        # Rows that the plan refused are zeros in its outputs; they run along, and only their owner gets the error.
        cdef Exchange exchange
        cdef int64_t row, start = 0
        for exchange in self.exchanges:
            for row in range(start, start + exchange.rows):
                if errors[row].kind:
                    error = self.version.plan.failure(columns, row, row - start, errors[row])
                    error.message = f"model '{self.version.model}' version {self.version.version}, {error.message}"
                    exchange.fail(error)
                    break
            start += exchange.rows
        return 0

    # Scattering.

    cdef int scatter(self, list arrays) except -1:
        # Point every exchange's outputs at its rows. `output_count` comes last: until then there are none to record.
        cdef ServedVersion version = self.version
        cdef Exchange exchange
        cdef int count = len(version.output_names)
        cdef int i
        if len(arrays) != count:
            raise InferenceFailed(f"model '{version.model}' version {version.version} gave {len(arrays)} outputs, "
                                  f"not the {count} of its graph")
        for exchange in self.exchanges:
            exchange.outputs = <TensorView*>exchange.take(<size_t>count * sizeof(TensorView))
            if exchange.outputs == NULL:
                raise MemoryError
            memset(exchange.outputs, 0, <size_t>count * sizeof(TensorView))
        for i in range(count):
            if version.graph_outputs[i].dtype == DT_BYTES:
                self.scatter_strings(i, arrays[i])
                let_go_of_texts(arrays[i])
                arrays[i] = None
            else:
                arrays[i] = self.scatter_numbers(i, arrays[i])
        for exchange in self.exchanges:
            if exchange.error is None:
                exchange.keepalive = arrays
                exchange.output_count = count
        return 0

    def scatter_numbers(self, int output, array):
        """Point every exchange at its rows of an output; returns the array that they lie in."""
        cdef ServedVersion version = self.version
        cdef GraphTensor* spec = &version.graph_outputs[output]
        cdef Exchange exchange
        cdef TensorView* view
        cdef const uint8_t* at
        cdef int64_t[MAX_RANK] shape
        cdef int64_t elements = 1                # past the rows, or of the whole
        cdef int rank = array.ndim
        cdef int d
        if array.dtype != NUMPY_TYPES[spec.dtype]:
            raise InferenceFailed(f"model '{version.model}' version {version.version} gave output "
                                  f"'{version.output_names[output]}' as {array.dtype}, not as its graph says")
        if rank > MAX_RANK:
            raise InferenceFailed(f"output '{version.output_names[output]}' of model '{version.model}' has {rank} "
                                  f"dimensions, at most {MAX_RANK} are served")
        for d in range(rank):
            shape[d] = array.shape[d]
        if version.batchable:
            self.check_rows(output, shape[0] if rank else -1)
        for d in range(1 if version.batchable else 0, rank):
            elements *= shape[d]
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        at = bytes_of(array)
        for exchange in self.exchanges:
            view = &exchange.outputs[output]
            view.dtype = spec.dtype
            view.rank = rank
            memcpy(view.shape, shape, <size_t>rank * sizeof(int64_t))
            view.elements = elements
            if version.batchable:
                view.shape[0] = exchange.rows
                view.elements *= exchange.rows
            view.data = at
            view.size = <size_t>view.elements * dtype_itemsize(spec.dtype)
            at += view.size
        return array

    cdef int check_rows(self, int output, int64_t got) except -1:
        # A batchable model must give one row out for one row in.
        if got != self.rows:
            raise InferenceFailed(
                f"model '{self.version.model}' version {self.version.version} gave {'no' if got < 0 else got} rows of "
                f"output '{self.version.output_names[output]}' for {self.rows} rows of input",
                hint="its first dimension is dynamic but not a batch: set batching.max_rows: 0 in model.yaml")
        return 0

    cdef int scatter_strings(self, int output, array) except -1:
        # A string output, written as OIP raw BYTES into each exchange's arena.
        cdef Exchange exchange
        cdef TensorView* view
        cdef int64_t row = 0
        cdef int d
        cdef int rank = array.ndim
        if rank > MAX_RANK:
            raise InferenceFailed(f"output '{self.version.output_names[output]}' of model '{self.version.model}' has "
                                  f"{rank} dimensions, at most {MAX_RANK} are served")
        if self.version.batchable:
            self.check_rows(output, array.shape[0] if rank else -1)
        for exchange in self.exchanges:
            part = array[row:row + exchange.rows] if self.version.batchable else array
            row += exchange.rows
            view = &exchange.outputs[output]
            view.dtype = DT_BYTES
            view.rank = rank
            view.elements = part.size
            for d in range(rank):
                view.shape[d] = part.shape[d]
            put_texts(exchange, view, part.ravel().tolist())
        return 0

    def __repr__(self):
        return f"<Batch {self.version.model}@{self.version.version} exchanges={len(self.exchanges)} rows={self.rows}>"


cdef int answer_no_rows(Exchange exchange, ServedVersion version) except -1:
    cdef int count = len(version.output_names)
    cdef TensorView* outputs = <TensorView*>exchange.take(<size_t>count * sizeof(TensorView))
    cdef int i, d
    if outputs == NULL:
        raise MemoryError
    memset(outputs, 0, <size_t>count * sizeof(TensorView))
    for i in range(count):
        outputs[i].dtype = version.graph_outputs[i].dtype
        outputs[i].rank = version.graph_outputs[i].rank
        for d in range(1, outputs[i].rank):
            outputs[i].shape[d] = max(0, version.graph_outputs[i].shape[d])
        outputs[i].data = NOTHING
    exchange.outputs = outputs
    exchange.output_count = count
    return 0


cdef int write_reply_or_fail(Exchange exchange) except -1:
    try:
        exchange.dialect.write_reply(exchange)
    except Exception as error:
        exchange.fail(own_error(error))
    return 0


cdef object own_error(object error):
    """``error`` as one of ours: what a request or a model causes already is."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, MemoryError):
        return Overloaded("the worker has no memory left for this request", hint="send fewer rows")
    bug = InternalError("the request failed inside the server")
    bug.__cause__ = error
    return bug


cdef str first_line(object error):
    cdef str text = str(error).strip()
    return text.split("\n", 1)[0][:500]


cdef uint8_t* bytes_of(array) except? NULL:
    # The memory of a contiguous array; valid as long as the array.
    cdef Py_buffer buffer
    PyObject_GetBuffer(array, &buffer, PyBUF_SIMPLE)
    cdef uint8_t* at = <uint8_t*>buffer.buf
    PyBuffer_Release(&buffer)
    return at


cdef size_t bytes_together(const Span* pieces, Py_ssize_t count) noexcept nogil:
    cdef size_t size = 0
    cdef Py_ssize_t i
    for i in range(count):
        size += pieces[i].n
    return size


cdef void join(const Span* pieces, Py_ssize_t count, uint8_t* at) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        if pieces[i].n:
            memcpy(at, pieces[i].at, pieces[i].n)
            at += pieces[i].n


cdef inline uint32_t text_size(const uint8_t* at) noexcept nogil:
    cdef uint32_t n
    memcpy(&n, at, 4)
    return n


cdef uint8_t* split_texts(const Span* pieces, Py_ssize_t count, uint8_t* room) noexcept nogil:
    # The elements of checked BYTES tensors, one after the other. Returns the end of what was written.
    cdef Span* text = <Span*>room
    cdef const uint8_t* at
    cdef const uint8_t* end
    cdef Py_ssize_t i
    for i in range(count):
        at = pieces[i].at
        end = at + pieces[i].n
        while at < end:
            text.n = text_size(at)
            text.at = at + 4
            at += 4 + text.n
            text += 1
    return <uint8_t*>text


cdef Span* split_rows(const TensorView* view, int64_t rows, Span* lists, Span* text) noexcept nogil:
    # A checked BYTES tensor of so many texts a row. Empty ones are padding. Returns behind the last text.
    cdef const uint8_t* at = view.data
    cdef int64_t width = view.elements // rows if rows else 0
    cdef int64_t row, k
    for row in range(rows):
        lists[row].at = <const uint8_t*>text
        for k in range(width):
            text.n = text_size(at)
            text.at = at + 4
            at += 4 + text.n
            if text.n:
                text += 1
        lists[row].n = text - <const Span*>lists[row].at
    return text


cdef inline int let_others_run(Py_ssize_t done) except -1:
    # Making Python objects needs the GIL, and compiled loops never give it up by themselves.
    if done % GIL_TEXTS == GIL_TEXTS - 1:
        with nogil:
            pass
    return 0


cdef int let_go_of_texts(array) except -1:
    # In portions: a large array's texts would all die in one go otherwise, with the GIL held.
    cdef Py_ssize_t start
    if array.dtype == object and array.size > GIL_TEXTS and array.flags.writeable:
        texts = array.reshape(-1)
        for start in range(0, len(texts), GIL_TEXTS):
            texts[start:start + GIL_TEXTS] = None
            let_others_run(GIL_TEXTS - 1)
    return 0


cdef int put_texts(Exchange exchange, TensorView* view, list texts) except -1:
    # A view's data from texts, in the exchange's arena. Raises UnicodeEncodeError for what is no text.
    cdef Py_ssize_t i, n
    cdef const char* utf8
    cdef size_t size = 0
    cdef uint32_t length
    cdef uint8_t* at
    for i in range(len(texts)):
        PyUnicode_AsUTF8AndSize(texts[i], &n)
        size += 4 + <size_t>n
        let_others_run(i)
    at = <uint8_t*>exchange.take(size)
    if at == NULL:
        raise MemoryError
    view.data = at
    view.size = size
    for i in range(len(texts)):
        utf8 = PyUnicode_AsUTF8AndSize(texts[i], &n)       # kept by the text since the first time
        length = <uint32_t>n
        memcpy(at, &length, 4)
        memcpy(at + 4, utf8, <size_t>n)
        at += 4 + n
        let_others_run(i)
    return 0


cdef size_t columns_size(FeaturePlan plan, int64_t rows, Py_ssize_t count) noexcept:
    # Column headers, output pointers, a piece an exchange and column, a RowError a row, then at most a Span for every
    # value: numbers need half of it, so their rounding up to 8 bytes fits too.
    cdef size_t values = <size_t>rows * <size_t>plan.column_count
    return (<size_t>plan.column_count * sizeof(Column) + <size_t>plan.output_count * sizeof(void*)
            + <size_t>count * <size_t>plan.column_count * sizeof(Span) + <size_t>rows * sizeof(RowError)
            + values * sizeof(Span) + 8)
