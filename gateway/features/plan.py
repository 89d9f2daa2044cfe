"""The plan from Python: the loop that serves, for training code."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from gateway._fast.feature_plan import FeaturePlan
from gateway._fast.lent_columns import UnplainColumn, arrow_table
from gateway.core.errors import FeatureInputInvalid
from gateway.core.tensors import TensorSpec
from gateway.features.compiler import compile_page
from gateway.features.plain_columns import column_of_frame, lent_values, lists_of_table, plain_column
from gateway.features.plan_source import PlanSource
from gateway.features.program import Kind
from gateway.features.transformer_api import Container, TransformerApi

if TYPE_CHECKING:
    from gateway.config.features import FeatureSpec

#: A DataFrame, what Arrow's C interface takes for a table, or a mapping of column names to arrays or sequences.
Table = Any
Array = npt.NDArray[Any]
#: (data, indices, indptr) of a matrix of compressed sparse rows.
SparseArrays = tuple[Array, Array, Array]

#: Up to so many rows, making a matrix costs more than its rows do.
FEW_ROWS = 256


class Plan(TransformerApi):
    """A compiled ``features.yaml``, and a scikit-learn transformer that is fitted already.

    >>> plan = Plan.from_yaml("models/housing/1/features.yaml")
    >>> features = plan.transform({"median_income": [8.3], "ocean_proximity": ["NEAR BAY"]})

    It may be called from several threads at once. A pickle of it carries the page and its vocabularies, never code;
    who loads it compiles them again.
    """

    def __init__(self, compiled: FeaturePlan, source: PlanSource) -> None:
        self.compiled = compiled
        kinds = zip(self.column_names(), compiled.column_types, strict=True)
        self._list_columns = [name for name, kind in kinds if kind == Kind.STRINGS]
        self._source = source

    @classmethod
    def from_yaml(cls, path: str | Path) -> Plan:
        """The plan of that file. ConfigurationError with all its problems."""
        # Imported here: the grammar brings pydantic and PyYAML, which serving does without.
        from gateway.config.features import read_page  # noqa: PLC0415

        folder = Path(path).parent
        page = read_page(Path(path))
        compiled = compile_page(page, folder)
        assert page.document is not None  # it has compiled
        return cls(compiled, PlanSource(page.document, folder))

    @classmethod
    def from_spec(cls, spec: FeatureSpec, folder: str | Path = ".") -> Plan:
        """The plan of ``spec``, whose vocabulary files lie in ``folder``. ConfigurationError with all its problems."""
        return cls.from_source(PlanSource(spec.model_dump(mode="json"), Path(folder)))

    @classmethod
    def from_sklearn(cls, estimator: Any, *, output: str = "input", dtype: str = "float32") -> Plan:
        """The plan that transforms as the fitted ``estimator`` does, cast to ``dtype``; nothing is written.

        ConfigurationError names every part of the estimator that has no step.
        """
        from gateway.features.from_sklearn import from_sklearn  # noqa: PLC0415 - as in from_yaml

        imported = from_sklearn(estimator, output=output, dtype=dtype)
        return cls.from_source(PlanSource(imported.spec.model_dump(mode="json"), imported.vocabularies))

    @classmethod
    def from_source(cls, source: PlanSource) -> Plan:
        """The plan of a page and its vocabularies by value. ConfigurationError with all its problems."""
        return cls(source.compiled(), source)

    @property
    def columns(self) -> list[TensorSpec]:
        """Name, published data type and whether optional, of each column."""
        return self.compiled.column_specs

    @property
    def outputs(self) -> list[TensorSpec]:
        """Name, data type and shape of each output."""
        return self.compiled.output_specs

    def column_names(self) -> list[str]:
        """Of the columns, in the order of the page."""
        return [spec.name for spec in self.columns]

    def feature_names(self) -> dict[str, list[str]]:
        """Names of the elements of each output, as scikit-learn's ``get_feature_names_out`` would have them."""
        return {spec.name: self.compiled.feature_names(i) for i, spec in enumerate(self.outputs)}

    def transform(self, data: Table) -> Any:
        """The outputs for the rows of ``data``: the one array, or a dict by name if the plan has several.

        ``data`` is a DataFrame of pandas or polars, an Arrow table or record batch, or a mapping of column names to
        arrays (of numpy, pandas, Arrow) or lists of shape [rows] or [rows, 1]; further columns are ignored. What is
        rows in memory already is not copied. FeatureInputInvalid names the first row that fails, its column and value.
        ``set_output`` makes a DataFrame of the one array, or a sparse matrix of each that holds numbers.
        """
        is_mapping = type(data) is dict
        columns = data if is_mapping else self._columns_of(data)
        run = self._sparse if self._container == "sparse" else self.compiled.transform
        try:
            results = run(columns)
        except UnplainColumn:
            results = run(self._plain(columns))
        if len(results) == 1:
            # No data that scikit-learn knows: only what was asked of this plan makes a frame of it.
            return results[0] if is_mapping and self._container is None else self._contained(results[0], data)
        return {spec.name: result for spec, result in zip(self.outputs, results, strict=True)}

    def _sparse(self, columns: Mapping[str, Any]) -> list[Any]:
        results = zip(self.outputs, self.compiled.transform_sparse(columns), strict=True)
        return [
            _sparse_matrix(result, spec.row_elements()) if isinstance(result, tuple) else result
            for spec, result in results
        ]

    def _columns_of(self, table: Table) -> dict[str, Any]:
        if isinstance(table, Mapping):
            return {name: table[name] for name in self.column_names() if name in table}
        if hasattr(table, "iloc") and hasattr(table, "columns"):
            present = table.columns
            return {name: self._lent_column(name, table) for name in self.column_names() if name in present}
        if hasattr(table, "__arrow_c_stream__") or hasattr(table, "__arrow_c_array__"):
            columns = arrow_table(table)
            lists = {name: lists_of_table(name, table) for name in self._list_columns if name in columns}
            return {**columns, **lists}
        raise FeatureInputInvalid(
            "a DataFrame, an Arrow table or a mapping of column names to arrays is expected, not "
            f"{type(table).__name__}"
        )

    def _lent_column(self, name: str, frame: Any) -> Any:
        return frame[name].to_numpy() if name in self._list_columns else lent_values(column_of_frame(name, frame))

    def _plain(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        return {
            spec.name: plain_column(spec.name, columns[spec.name], Kind(kind))
            for spec, kind in zip(self.columns, self.compiled.column_types, strict=True)
            if columns.get(spec.name) is not None
        }

    def __repr__(self) -> str:
        return f"Plan({self.compiled!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (*self._source.by_value(), self._container)

    def __copy__(self) -> Plan:
        return self.__sklearn_clone__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Plan:
        return self.__sklearn_clone__()  # what it holds does not change


def _restored(page: str, vocabularies: dict[str, bytes], container: Container | None) -> Plan:
    # What a pickle calls: the page is read and compiled as any other.
    return Plan.from_source(PlanSource.of_json(page, vocabularies)).set_output(transform=container)


def _sparse_matrix(arrays: SparseArrays, width: int) -> Any:
    rows = len(arrays[2]) - 1
    if rows > FEW_ROWS:
        from scipy.sparse import csr_matrix  # noqa: PLC0415 - who asks for its matrices has it

        return csr_matrix(arrays, (rows, width))
    # csr_matrix looks at its arrays for 10 µs, most of what a short text takes. The loop has made them as they must be.
    matrix = copy(_empty_matrix(rows, width))
    matrix.data, matrix.indices, matrix.indptr = arrays
    return matrix


@lru_cache(maxsize=64)
def _empty_matrix(rows: int, width: int) -> Any:
    from scipy.sparse import csr_matrix  # noqa: PLC0415 - as above

    return csr_matrix((rows, width))
