"""Tensors against what they say of themselves, and against what the model takes."""
cimport cython
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from gateway._fast.clock cimport monotonic_ns
from gateway._fast.dtypes cimport DT_BOOL, DT_BYTES, dtype_itemsize, dtype_name
from gateway._fast.exchange cimport MAX_RANK, Exchange, Mistake, Span, TensorView, span_text

import os

from gateway.core.errors import Overloaded, TensorMismatch
from gateway.core.tensors import DataType

cdef enum:
    QUOTED_CHARACTERS = 120
    MOST_EMPTY_ROWS = 1024       # each is a row of a run and of the record, and costs its sender nothing

cdef extern from *:
    """
    static inline int multiply_overflows(int64_t a, int64_t b, int64_t *product) {
        return __builtin_mul_overflow(a, b, product);
    }
    """
    bint multiply_overflows(int64_t a, int64_t b, int64_t* product) nogil


# A tensor by itself.


cdef int measure_shape(Exchange exchange, int input) noexcept nogil:
    cdef TensorView* view = &exchange.inputs[input]
    cdef int64_t elements = 1
    cdef bint empty = False
    cdef int i
    if view.rank > MAX_RANK:
        return note_mistake(exchange, RANK_TOO_HIGH, input, view.name, MAX_RANK, view.rank)
    for i in range(view.rank):
        if view.shape[i] < 0:
            return note_mistake(exchange, NEGATIVE_DIMENSION, input, view.name, i, view.shape[i])
        if view.shape[i] == 0:
            empty = True
        # Zero dimensions are left out of the product: the others must be countable all the same.
        elif multiply_overflows(elements, view.shape[i], &elements):
            return note_mistake(exchange, SHAPE_TOO_LARGE, input, view.name, 0, 0)
    view.elements = 0 if empty else elements
    return 0


cdef int claim_data(Exchange exchange, int input, const uint8_t* data, size_t size) noexcept nogil:
    cdef TensorView* view = &exchange.inputs[input]
    cdef int64_t expected
    if view.dtype == DT_BYTES:
        if check_elements(exchange, input, data, size) < 0:
            return -1
    else:
        if multiply_overflows(view.elements, <int64_t>dtype_itemsize(view.dtype), &expected):
            return note_mistake(exchange, SHAPE_TOO_LARGE, input, view.name, 0, 0)
        if <uint64_t>expected != size:
            return note_mistake(exchange, WRONG_BYTE_COUNT, input, view.name, expected, <int64_t>size)
        if view.dtype == DT_BOOL and check_bits(exchange, input, data, size) < 0:
            return -1
    view.data = data
    view.size = size
    return 0


# BYTES: `elements` times a 4-byte little-endian length and that many bytes, and nothing after them.
cdef int check_elements(Exchange exchange, int input, const uint8_t* data, size_t size) noexcept nogil:
    cdef TensorView* view = &exchange.inputs[input]
    cdef size_t at = 0
    cdef int64_t found = 0
    cdef uint32_t length
    while at < size and found < view.elements:
        if size - at < 4:
            return note_mistake(exchange, ELEMENT_CUT_SHORT, input, view.name, found, <int64_t>(size - at))
        memcpy(&length, data + at, 4)
        at += 4
        if size - at < length:
            return note_mistake(exchange, ELEMENT_CUT_SHORT, input, view.name, found, <int64_t>(size - at))
        at += length
        found += 1
    if found != view.elements or at != size:
        return note_mistake(exchange, WRONG_ELEMENT_COUNT, input, view.name, view.elements, -1 if at != size else found)
    return 0


# Another byte than 0 or 1 in a C++ bool is undefined behaviour inside the runtime.
cdef int check_bits(Exchange exchange, int input, const uint8_t* data, size_t size) noexcept nogil:
    cdef size_t i
    for i in range(size):
        if data[i] > 1:
            return note_mistake(exchange, BOOL_NOT_BIT, input, exchange.inputs[input].name, <int64_t>i, data[i])
    return 0


cdef str quoted(Span name):
    cdef str text
    name.n = min(name.n, <size_t>(4 * QUOTED_CHARACTERS))
    text = span_text(name)
    return repr(text if len(text) <= QUOTED_CHARACTERS else text[:QUOTED_CHARACTERS] + "…")


cdef int settle_tensor_mistake(Exchange exchange) except -1:
    cdef Mistake* mistake = &exchange.mistake
    cdef str of_input = f"input {quoted(mistake.name)} for model {quoted(exchange.model_name)}"
    cdef str datatype = ""
    if mistake.input >= 0:
        datatype = dtype_name(exchange.inputs[mistake.input].dtype).decode()
    if mistake.kind == OUT_OF_MEMORY:
        return exchange.fail(Overloaded(
            f"out of memory while reading a request for model {quoted(exchange.model_name)}", hint="send smaller requests"
        ))
    if mistake.kind == UNKNOWN_DATATYPE:
        names = ", ".join(member.name for member in DataType)
        return exchange.fail(TensorMismatch(
            f"unknown datatype {quoted(mistake.other)} of {of_input}", hint=f"one of {names}"
        ))
    if mistake.kind == RANK_TOO_HIGH:
        text = f"unexpected shape for {of_input}: {mistake.got} dimensions, at most {mistake.expected} are taken"
    elif mistake.kind == NEGATIVE_DIMENSION:
        text = f"unexpected shape for {of_input}: dimension {mistake.expected} is {mistake.got}, expected 0 or more"
    elif mistake.kind == SHAPE_TOO_LARGE:
        text = f"unexpected shape for {of_input}: its elements are more than can be counted"
    elif mistake.kind == WRONG_BYTE_COUNT:
        text = (
            f"input byte size mismatch for {of_input}. Expected {mistake.expected} bytes for {datatype}"
            f"{shape_text(&exchange.inputs[mistake.input])}, got {mistake.got}"
        )
    elif mistake.kind == ELEMENT_CUT_SHORT:
        text = (
            f"input byte size mismatch for {of_input}: BYTES element {mistake.expected} is cut short, "
            f"{mistake.got} bytes are left where its 4-byte length and its bytes should be"
        )
    elif mistake.kind == WRONG_ELEMENT_COUNT:
        found = "more" if mistake.got < 0 else mistake.got
        text = f"expected {mistake.expected} string elements for {of_input}, got {found}"
    else:  # BOOL_NOT_BIT
        text = f"element {mistake.expected} of {of_input} is the byte {mistake.got}, expected 0 or 1 for BOOL"
    return exchange.fail(TensorMismatch(text))


cdef str shape_text(TensorView* view):
    return "[" + ",".join([str(view.shape[i]) for i in range(view.rank)]) + "]"


# A tensor against the model.


cdef uint64_t name_hash(Span name) noexcept nogil:
    # FNV-1a; callers cannot lengthen a chain, since only the model's own names are in the index.
    cdef uint64_t total = 0xCBF29CE484222325ULL
    cdef size_t i
    for i in range(name.n):
        total = (total ^ name.at[i]) * 0x100000001B3ULL
    return total ^ (total >> 32)


cdef int build_index(NameIndex* index, const Span* names, int count) except -1:
    cdef uint64_t capacity = 2
    cdef uint64_t at
    cdef int i
    while capacity < 2 * <uint64_t>count:
        capacity *= 2
    index.names = names
    index.count = count
    index.mask = capacity - 1
    index.slots = <int32_t*>malloc(capacity * sizeof(int32_t))
    if index.slots == NULL:
        raise MemoryError
    memset(index.slots, 0xFF, capacity * sizeof(int32_t))
    for i in range(count):
        at = name_hash(names[i]) & index.mask
        while index.slots[at] >= 0:
            at = (at + 1) & index.mask
        index.slots[at] = i
    return 0


cdef inline bint same_name(Span one, Span other) noexcept nogil:
    return one.n == other.n and memcmp(one.at, other.at, one.n) == 0


# `likely` is tried first: callers mostly send in the model's order.
cdef inline int find_name(const NameIndex* index, Span name, int likely) noexcept nogil:
    cdef uint64_t at
    if likely < index.count and same_name(index.names[likely], name):
        return likely
    at = name_hash(name) & index.mask
    while index.slots[at] >= 0:
        if same_name(index.names[index.slots[at]], name):
            return index.slots[at]
        at = (at + 1) & index.mask
    return -1


cdef uint64_t layout_seed = int.from_bytes(os.urandom(8), "little")    # so that nobody can prepare equal keys


cdef inline uint64_t mixed(uint64_t key, uint64_t word) noexcept nogil:
    key = (key ^ word) * 0x9E3779B97F4A7C15ULL
    return key ^ (key >> 29)


# Rows of an input whose shape the spec takes; 1 where there is no row dimension; -1: the spec does not take it.
cdef inline int64_t rows_of(InputTable table, const InputSpec* taken, const TensorView* view) noexcept nogil:
    cdef int i
    if table.columns:
        if view.rank == 0:
            return 1
        return view.shape[0] if view.rank == 1 or (view.rank == 2 and (view.shape[1] == 1 or takes_lists(taken))) else -1
    if view.rank != taken.rank:
        return -1
    for i in range(view.rank):
        if taken.shape[i] >= 0 and taken.shape[i] != view.shape[i]:
            return -1
    return view.shape[0] if table.batchable else 1


cdef inline uint64_t mixed_layout(InputTable table, uint64_t key, const TensorView* view) noexcept nogil:
    cdef int i
    if table.columns:
        return mixed(key, <uint64_t>view.dtype)
    key = mixed(key, <uint64_t>view.dtype | <uint64_t>view.rank << 8)
    for i in range(1 if table.batchable else 0, view.rank):
        key = mixed(key, <uint64_t>view.shape[i])
    return key


@cython.final
cdef class InputTable:
    def __cinit__(self, str model, inputs, *, outputs, bint batchable, bint columns=False, accepts=None):
        self.model = model
        self.specs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.batchable = batchable or columns
        self.columns = columns
        if accepts is None:
            accepts = [{spec.datatype} for spec in self.specs]
        self.encoded_names = tuple([name.encode() for name in [*[spec.name for spec in self.specs], *self.outputs]])
        self.input_count = len(self.specs)
        self.inputs = <InputSpec*>calloc(self.input_count + 1, sizeof(InputSpec))
        self.input_names = <Span*>calloc(self.input_count + 1, sizeof(Span))
        self.output_names = <Span*>calloc(len(self.outputs) + 1, sizeof(Span))
        if self.inputs == NULL or self.input_names == NULL or self.output_names == NULL:
            raise MemoryError
        for i, (spec, taken) in enumerate(zip(self.specs, accepts, strict=True)):
            fill_spec(&self.inputs[i], spec, taken)
            fill_span(&self.input_names[i], self.encoded_names[i])
        for i in range(len(self.outputs)):
            fill_span(&self.output_names[i], self.encoded_names[self.input_count + i])
        build_index(&self.input_index, self.input_names, self.input_count)
        build_index(&self.output_index, self.output_names, <int>len(self.outputs))
        self.rigid = all(self.is_rigid(i) for i in range(self.input_count))

    def __dealloc__(self):
        free(self.inputs)
        free(self.input_names)
        free(self.output_names)
        free(self.input_index.slots)
        free(self.output_index.slots)

    def is_rigid(self, int spec):
        """Whether all requests that bind agree in this input's presence, datatype and shape past the rows."""
        cdef InputSpec* taken = &self.inputs[spec]
        one_datatype = taken.accepted & (taken.accepted - 1) == 0
        fixed = self.columns or all(taken.shape[i] >= 0 for i in range(1 if self.batchable else 0, taken.rank))
        return one_datatype and fixed and not taken.optional

    cdef int find_input(self, Span name) noexcept nogil:
        return find_name(&self.input_index, name, 0)

    cdef int bind(self, Exchange exchange) noexcept nogil:
        exchange.output_names = self.output_names
        if self.place_inputs(exchange) < 0 or self.check_inputs(exchange) < 0 or self.place_outputs(exchange) < 0:
            return -1
        return 0

    cdef int place_inputs(self, Exchange exchange) noexcept nogil:
        cdef int* placed = <int*>exchange.take(<size_t>(self.input_count + 1) * sizeof(int))
        cdef Span name
        cdef int i, spec
        if placed == NULL:
            return note_mistake(exchange, OUT_OF_MEMORY, -1, exchange.model_name, 0, 0)
        memset(placed, 0xFF, <size_t>self.input_count * sizeof(int))
        for i in range(exchange.input_count):
            name = exchange.inputs[i].name
            spec = find_name(&self.input_index, name, i)
            if spec < 0:
                return note_mistake(exchange, UNEXPECTED_INPUT, i, name, 0, 0)
            if placed[spec] >= 0:
                return note_mistake(exchange, REPEATED_INPUT, i, name, 0, 0)
            placed[spec] = i
        for spec in range(self.input_count):
            if placed[spec] < 0 and not self.inputs[spec].optional:
                return note_mistake(exchange, MISSING_INPUT, -1, self.input_names[spec], 0, 0)
        exchange.input_of_spec = placed
        return 0

    cdef int check_inputs(self, Exchange exchange) noexcept nogil:
        cdef uint64_t key = layout_seed
        cdef int64_t rows = -1
        cdef int64_t its_rows
        cdef int64_t elements = 0            # not 0 if any input has one
        cdef Span compared
        cdef TensorView* view
        cdef int spec, i
        for spec in range(self.input_count):
            i = exchange.input_of_spec[spec]
            if i < 0:
                key = mixed(key, 0)
                continue
            view = &exchange.inputs[i]
            if not (self.inputs[spec].accepted >> view.dtype) & 1:
                return note_mistake(exchange, WRONG_DATATYPE, i, view.name, spec, view.dtype)
            its_rows = rows_of(self, &self.inputs[spec], view)
            if its_rows < 0:
                return note_mistake(exchange, WRONG_SHAPE, i, view.name, spec, 0)
            if self.batchable:
                if rows < 0:
                    rows = its_rows
                    compared = view.name
                elif rows != its_rows:
                    exchange.mistake.other = compared
                    return note_mistake(exchange, ROWS_DIFFER, i, view.name, rows, its_rows)
            elements |= view.elements
            if not self.rigid:
                key = mixed_layout(self, key, view)
        if elements == 0 and rows > MOST_EMPTY_ROWS:
            return note_mistake(exchange, EMPTY_ROWS, -1, compared, MOST_EMPTY_ROWS, rows)
        exchange.rows = rows if rows >= 0 else 1
        exchange.shape_key = key
        return 0

    cdef int place_outputs(self, Exchange exchange) noexcept nogil:
        cdef int count = exchange.wanted_count
        cdef int* placed
        cdef uint8_t* seen
        cdef int i, output
        if count == 0:
            return 0
        placed = <int*>exchange.take(<size_t>count * sizeof(int))
        seen = <uint8_t*>exchange.take(<size_t>self.output_index.count + 1)
        if placed == NULL or seen == NULL:
            return note_mistake(exchange, OUT_OF_MEMORY, -1, exchange.model_name, 0, 0)
        memset(seen, 0, <size_t>self.output_index.count)
        for i in range(count):
            output = find_name(&self.output_index, exchange.wanted[i].name, i)
            if output < 0:
                return note_mistake(exchange, UNEXPECTED_OUTPUT, -1, exchange.wanted[i].name, 0, 0)
            if seen[output]:
                return note_mistake(exchange, REPEATED_OUTPUT, -1, exchange.wanted[i].name, 0, 0)
            seen[output] = 1
            placed[i] = output
        exchange.output_of_wanted = placed
        return 0

    cdef bint same_layout(self, Exchange one, Exchange other) noexcept nogil:
        cdef const TensorView* mine
        cdef const TensorView* yours
        cdef int spec, i
        if self.rigid:
            return True
        for spec in range(self.input_count):
            if one.input_of_spec[spec] < 0 or other.input_of_spec[spec] < 0:
                if one.input_of_spec[spec] != other.input_of_spec[spec]:
                    return False
                continue
            mine = &one.inputs[one.input_of_spec[spec]]
            yours = &other.inputs[other.input_of_spec[spec]]
            if mine.dtype != yours.dtype:
                return False
            if self.columns:
                continue
            for i in range(1 if self.batchable else 0, self.inputs[spec].rank):
                if mine.shape[i] != yours.shape[i]:
                    return False
        return True

    cdef int settle(self, Exchange exchange) except -1:
        cdef Mistake* mistake = &exchange.mistake
        cdef str name = quoted(mistake.name)
        cdef str model = repr(self.model)
        hint = None
        if mistake.kind < UNEXPECTED_INPUT:
            return settle_tensor_mistake(exchange)
        if mistake.kind == UNEXPECTED_INPUT:
            text = f"unexpected inference input {name} for model {model}"
            hint = "it takes " + ", ".join([repr(spec.name) for spec in self.specs])
        elif mistake.kind == REPEATED_INPUT:
            text = f"input {name} for model {model} is given more than once"
        elif mistake.kind == MISSING_INPUT:
            text = self.missing_text(exchange)
        elif mistake.kind == WRONG_DATATYPE:
            text = (
                f"input {name} data-type is '{dtype_name(<int32_t>mistake.got).decode()}' "
                f"but model {model} expects {self.datatypes_text(mistake.expected)}"
            )
        elif mistake.kind == WRONG_SHAPE:
            text = (
                f"unexpected shape for input {name} for model {model}. Expected {self.shapes_text(mistake.expected)}, "
                f"got {shape_text(&exchange.inputs[mistake.input])}"
            )
        elif mistake.kind == ROWS_DIFFER:
            text = (
                f"unexpected shape for input {name} for model {model}: it has {mistake.got} rows, "
                f"but input {quoted(mistake.other)} has {mistake.expected}"
            )
        elif mistake.kind == EMPTY_ROWS:
            text = (
                f"unexpected shape for input {name} for model {model}: {mistake.got} rows of tensors without elements, "
                f"at most {mistake.expected} are taken"
            )
        elif mistake.kind == UNEXPECTED_OUTPUT:
            text = f"unexpected inference output {name} for model {model}"
            hint = "it gives " + ", ".join([repr(output) for output in self.outputs])
        else:  # REPEATED_OUTPUT
            text = f"output {name} for model {model} is asked for more than once"
        return exchange.fail(TensorMismatch(text, hint=hint))

    def missing_text(self, Exchange exchange):
        """Which inputs came and which did not, in the words that Triton's users look for."""
        sent = {span_text(exchange.inputs[i].name) for i in range(exchange.input_count)}
        required = [spec.name for i, spec in enumerate(self.specs) if not self.inputs[i].optional]
        missing = [name for name in required if name not in sent]
        got = [spec.name for spec in self.specs if spec.name in sent]
        return (
            f"expected {len(required)} inputs but got {len(got)} inputs for model {self.model!r}. "
            f"Got input(s) {got}, but missing required input(s) {missing}. Please provide all required input(s)."
        )

    def datatypes_text(self, int spec):
        """The datatypes that an input takes, the published one first."""
        published = self.specs[spec].datatype
        accepted = [member for member in DataType if (self.inputs[spec].accepted >> <int>member) & 1]
        others = [member.name for member in accepted if member != published]
        return f"'{published.name}'" + (f" (or {', '.join(others)})" if others else "")

    def shapes_text(self, int spec):
        """The shapes that an input takes."""
        cdef InputSpec* taken = &self.inputs[spec]
        if self.columns:
            return "[rows,any], with empty texts behind a short row's" if takes_lists(taken) else "[rows] or [rows,1]"
        return "[" + ",".join([str(taken.shape[i]) for i in range(taken.rank)]) + "]"

    def __repr__(self):
        return f"<InputTable {self.model!r} [{', '.join([str(spec) for spec in self.specs])}]>"


cdef int fill_spec(InputSpec* spec, object tensor, object taken) except -1:
    cdef int i
    if len(tensor.shape) > MAX_RANK:
        raise ValueError(f"input {tensor.name!r} has {len(tensor.shape)} dimensions, at most {MAX_RANK} are taken")
    for datatype in taken:
        spec.accepted |= <uint32_t>1 << <int>datatype
    spec.rank = <int32_t>len(tensor.shape)
    for i in range(spec.rank):
        spec.shape[i] = tensor.shape[i]
    spec.dtype = tensor.datatype
    spec.optional = tensor.optional
    return 0


cdef int fill_span(Span* span, bytes name) except -1:
    span.at = <const uint8_t*><char*>name
    span.n = len(name)
    return 0


# For tests.


def bind_for_test(InputTable table, Exchange exchange):
    """Bind a scanned exchange and settle; returns what Python otherwise cannot see of it."""
    cdef int outcome
    with nogil:
        outcome = table.bind(exchange)
    if outcome < 0:
        table.settle(exchange)
        return None
    return {
        "rows": exchange.rows,
        "inputs": [exchange.input_of_spec[i] for i in range(table.input_count)],
        "outputs": [exchange.output_of_wanted[i] for i in range(exchange.wanted_count)],
        "key": exchange.shape_key,
    }


def same_layout_for_test(InputTable table, Exchange one, Exchange other):
    """Whether two bound exchanges may share a batch."""
    return bool(table.same_layout(one, other))


def bind_for_bench(InputTable table, list exchanges):
    """Nanoseconds to bind each of ``exchanges`` (scanned) once."""
    cdef Exchange exchange
    cdef int64_t total = 0
    cdef int64_t started = monotonic_ns()
    for exchange in exchanges:
        total += table.bind(exchange)
    if total:
        raise ValueError("a request of the benchmark does not bind")
    return monotonic_ns() - started
