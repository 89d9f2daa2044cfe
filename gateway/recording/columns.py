"""The columns of the record in Arrow, and how the buffers of ``frame_columns`` become them without a copy.

Exchanges whose tensors do not fit the typed columns (never bound to the version, recorded as fingerprints, bytes that
are no text) leave these NULL and have ``inputs_json`` or ``outputs_json`` instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from gateway._fast.frame_columns import FIXED, TEXTS, Taken, TakenColumns
from gateway._fast.record_frames import RecordSchema
from gateway.core.tensors import DataType
from gateway.core.words import GRPC_CODES, ROLES, RULES
from gateway.recording.layouts import Layout, TensorColumn

#: Version of the columns; kept in every part's metadata. Readers accept every earlier one.
PARTS_FORMAT = 1

_PROTOCOLS = ("", "grpc", "http")
_WORDS = {"role": ROLES, "rule": RULES, "status": GRPC_CODES, "protocol": _PROTOCOLS}
_TYPES = {
    "prediction_id": pa.uuid(),
    "row": pa.int32(),
    "ts": pa.timestamp("us", tz="UTC"),
    "trace_id": pa.binary(16),
    "span_id": pa.binary(8),
    "parent_span_id": pa.binary(8),
    "trace_flags": pa.uint8(),
    "queue_ns": pa.int64(),
    "features_ns": pa.int64(),
    "infer_ns": pa.int64(),
    "total_ns": pa.int64(),
    "rows": pa.int32(),
    "batch_rows": pa.int32(),
    "snapshot": pa.int64(),
}
_WORD_TYPE = pa.dictionary(pa.int8(), pa.string())
_NAME_TYPE = pa.dictionary(pa.int32(), pa.string())
#: Columns stored as dictionaries; building one for any other would cost more than it saves.
DICTIONARIES = ("model", "version", "digest", *_WORDS)

_ARROW = {
    DataType.BOOL: pa.bool_(), DataType.UINT8: pa.uint8(), DataType.UINT16: pa.uint16(), DataType.UINT32: pa.uint32(),
    DataType.UINT64: pa.uint64(), DataType.INT8: pa.int8(), DataType.INT16: pa.int16(), DataType.INT32: pa.int32(),
    DataType.INT64: pa.int64(), DataType.FP16: pa.float32(), DataType.FP32: pa.float32(), DataType.FP64: pa.float64(),
    DataType.BYTES: pa.string(), DataType.BF16: pa.float32(),
}  # fmt: skip

#: Names of the fixed columns as stored: the frames' schema index has become model, version and digest.
FIXED_NAMES = tuple(
    name for stored in FIXED for name in (("model", "version", "digest") if stored == "schema" else (stored,))
)
_NULLABLE = ("trace_id", "parent_span_id")


def _fixed_type(name: str) -> pa.DataType:
    if name in _WORDS:
        return _WORD_TYPE
    return _NAME_TYPE if name in DICTIONARIES else _TYPES[name]


def arrow_schema(layout: Layout) -> pa.Schema:
    """The columns of that layout's parts."""
    fields = [pa.field(name, _fixed_type(name), nullable=name in _NULLABLE) for name in FIXED_NAMES]
    fields += [pa.field(name, pa.string()) for name in TEXTS]
    fields += [pa.field(column.name, arrow_type(column)) for column in (*layout.inputs, *layout.outputs)]
    return pa.schema(fields, metadata={"gateway.parts_format": str(PARTS_FORMAT), "gateway.layout": layout.json})


def arrow_type(column: TensorColumn) -> pa.DataType:
    """Type of a typed column. FP16 and BF16 are widened."""
    element = _ARROW[column.datatype]
    return element if column.scalar else pa.list_(pa.field("item", element, nullable=False))


def table(layout: Layout, taken: TakenColumns, schemas: Sequence[RecordSchema]) -> pa.Table:
    """The rows of ``taken``; ``schemas`` in the order of the indices under which they were sorted."""
    arrays = [*_fixed_arrays(taken, layout.model, schemas)]
    arrays += [_string_array(column, taken.rows) for column in taken.texts]
    arrays += _tensor_arrays(layout.inputs, taken.inputs, taken.rows)
    arrays += _tensor_arrays(layout.outputs, taken.outputs, taken.rows)
    return pa.Table.from_arrays(arrays, schema=arrow_schema(layout))


# Arrays over the buffers, without a copy.


def _fixed_arrays(taken: TakenColumns, model: str, schemas: Sequence[RecordSchema]) -> Iterable[pa.Array]:
    for name, column in zip(FIXED, taken.fixed, strict=True):
        values = pa.py_buffer(column.values)
        if name == "schema":
            yield from _schema_arrays(values, taken.rows, model, schemas)
        elif name in _WORDS:
            indices = pa.Array.from_buffers(pa.int8(), taken.rows, [None, values])
            yield pa.DictionaryArray.from_arrays(indices, pa.array(_WORDS[name], pa.string()))
        else:
            yield _plain_array(_TYPES[name], taken.rows, column, values)


def _schema_arrays(values: pa.Buffer, rows: int, model: str, schemas: Sequence[RecordSchema]) -> Iterable[pa.Array]:
    indices = pa.Array.from_buffers(pa.int32(), rows, [None, values])
    for names in (
        [model] * len(schemas),
        [schema.version for schema in schemas],
        [schema.digest for schema in schemas],
    ):
        yield pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


def _plain_array(kind: pa.DataType, rows: int, column: Taken, values: pa.Buffer) -> pa.Array:
    storage = kind.storage_type if isinstance(kind, pa.ExtensionType | pa.BaseExtensionType) else kind
    array = pa.Array.from_buffers(storage, rows, [_validity(column), values], null_count=column.nulls)
    return array if storage is kind else pa.ExtensionArray.from_storage(kind, array)


def _validity(column: Taken) -> pa.Buffer | None:
    return pa.py_buffer(column.validity) if column.nulls else None


def _string_array(column: Taken, rows: int) -> pa.Array:
    buffers = [_validity(column), pa.py_buffer(column.offsets), pa.py_buffer(column.values)]
    return pa.Array.from_buffers(pa.string(), rows, buffers, null_count=column.nulls)


def _tensor_arrays(columns: Sequence[TensorColumn], taken: Sequence[Taken], rows: int) -> list[pa.Array]:
    return [_tensor_array(column, buffers, rows) for column, buffers in zip(columns, taken, strict=True)]


def _tensor_array(column: TensorColumn, taken: Taken, rows: int) -> pa.Array:
    element = _ARROW[column.datatype]
    strings = column.datatype is DataType.BYTES
    inner = [pa.py_buffer(taken.offsets)] if strings else []
    inner.append(pa.py_buffer(taken.values))
    if column.scalar:
        return pa.Array.from_buffers(element, rows, [_validity(taken), *inner], null_count=taken.nulls)
    elements = pa.Array.from_buffers(element, taken.elements, [None, *inner])
    lists = [_validity(taken), pa.py_buffer(taken.lists)]
    return pa.Array.from_buffers(arrow_type(column), rows, lists, null_count=taken.nulls, children=[elements])
