"""What Python calls of the compiled feature plan; the C contract is feature_plan.pxd."""

from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
import numpy.typing as npt

from gateway._fast.feature_program import ColumnCode, Failure, InstructionCode, OutputCode
from gateway.core.errors import FeatureInputInvalid
from gateway.core.tensors import DataType, TensorSpec

@final
class FeaturePlan:
    """The compiled plan. The loop itself, `run`, is for C callers."""

    column_count: int
    output_count: int
    column_specs: list[TensorSpec]
    """Name, published data type and whether optional, of each column; shape [rows]."""
    column_types: list[int]
    """`gateway.features.program.Kind` of each column."""
    output_specs: list[TensorSpec]
    """Name, data type and shape of each output."""

    instruction_count: int
    slot_count: int
    """Of 512 bytes each: the registers that a run keeps for a block of 64 rows."""

    def __init__(
        self,
        columns: list[ColumnCode],
        outputs: list[OutputCode],
        program: list[InstructionCode],
        slots: int,
        names: list[Callable[[], list[str]]],
    ) -> None:
        """`slots` are those that `program` uses; `names` gives those of an output's elements."""

    def feature_names(self, output: int) -> list[str]:
        """Names of the elements of an output (its index), in order. IndexError for no such output."""

    def evaluate(self) -> npt.NDArray[Any] | None:
        """One row of the only output, for which no column is sent. None if such a row fails."""

    def accepted_dtypes(self, column: int) -> list[DataType]:
        """The data types that a client may send the column as. IndexError for no such column."""

    def describe_error(self, row_error: tuple[int, int], value: object = None) -> str:
        """Words for a failed row's (column, Failure): the column, what was expected, and `value`, what came."""

    def transform(
        self, columns: Mapping[str, Any], failures: list[tuple[int, int, Failure, FeatureInputInvalid]] | None = None
    ) -> list[npt.NDArray[Any]]:
        """One array an output, from arrays, lists (None: missing), ArrowColumn or PackedRows.
        UnplainColumn for other values. FeatureInputInvalid for the first row that fails; with `failures`
        these take (row, column, failure, error) of each failed row instead, and its outputs are zeros."""

    def transform_sparse(
        self, columns: Mapping[str, Any], failures: list[tuple[int, int, Failure, FeatureInputInvalid]] | None = None
    ) -> list[npt.NDArray[Any] | tuple[npt.NDArray[Any], npt.NDArray[np.int32], npt.NDArray[Any]]]:
        """Likewise, without zeros: for each output its values, the element of its row that each is, and where each row
        ends behind a first 0 (int32 if they fit, else int64), as scipy's `csr_matrix` takes them. A row that fails has
        no elements; a string output is the array that `transform` gives."""

def parse_timestamp_text(text: str) -> int | None: ...
def nanoseconds_a_run_for_bench(plan: FeaturePlan, columns: Mapping[str, Any], runs: int) -> float: ...
