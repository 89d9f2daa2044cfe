from collections.abc import Collection, Iterable, Sequence
from typing import TypedDict

from gateway._fast.exchange import Exchange
from gateway.core.tensors import DataType, TensorSpec

class InputTable:
    """What one version takes, compiled once; immutable, shared by all its requests."""

    model: str
    specs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    batchable: bool
    columns: bool

    def __init__(
        self,
        model: str,
        inputs: Iterable[TensorSpec],
        *,
        outputs: Iterable[str],
        batchable: bool,
        columns: bool = False,
        accepts: Sequence[Collection[DataType]] | None = None,
    ) -> None:
        """``inputs`` and ``outputs`` in the model's order; ``batchable``: the first dimension of each input is rows.

        ``columns``: inputs are named columns, of shape [rows] or [rows, 1] each (a scalar if there is one row).
        ``accepts``: the datatypes taken for each input; its own alone if not given. Raises ValueError for an input of
        more than MAX_RANK dimensions.
        """

    def is_rigid(self, spec: int) -> bool:
        """Whether all requests that bind agree in this input's presence, datatype and shape past the rows."""

    def missing_text(self, exchange: Exchange) -> str:
        """Which inputs came and which did not, in the words that Triton's users look for."""

    def datatypes_text(self, spec: int) -> str:
        """The datatypes that an input takes, the published one first."""

    def shapes_text(self, spec: int) -> str:
        """The shapes that an input takes."""

class _Bound(TypedDict):
    rows: int
    inputs: list[int]
    outputs: list[int]
    key: int

def bind_for_test(table: InputTable, exchange: Exchange) -> _Bound | None:
    """Bind a scanned exchange and settle; returns what Python otherwise cannot see of it."""

def same_layout_for_test(table: InputTable, one: Exchange, other: Exchange) -> bool:
    """Whether two bound exchanges may share a batch."""

def bind_for_bench(table: InputTable, exchanges: list[Exchange]) -> int:
    """Nanoseconds to bind each of ``exchanges`` (scanned) once."""
