"""What scikit-learn asks of a transformer, answered without scikit-learn.

It finds all of this by name (its "duck typing" contract), so a plan stands in its pipelines, searches and
cross-validations without the gateway depending on it. It is imported only where it has imported itself before.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from gateway.core.errors import FeatureInputInvalid

Container = Literal["default", "pandas", "polars", "sparse"]
_CONTAINERS = ("default", "pandas", "polars", "sparse")


class TransformerApi(ABC):
    """``fit`` learns nothing: everything that was fitted stands in the page."""

    #: As ``set_output`` said; None: for frames and tables, as scikit-learn's ``set_config(transform_output=…)`` says.
    _container: Container | None = None

    @abstractmethod
    def transform(self, data: Any) -> Any:
        """The outputs for the rows of ``data``."""

    @abstractmethod
    def feature_names(self) -> dict[str, list[str]]:
        """Names of the elements of each output."""

    @abstractmethod
    def column_names(self) -> list[str]:
        """Of the columns that it takes."""

    def fit(self, X: Any = None, y: Any = None, **params: Any) -> Self:  # noqa: ARG002 - scikit-learn's names
        """Nothing is learned; itself."""
        return self

    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:  # noqa: ARG002
        """The same as ``transform``."""
        return self.transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:  # noqa: ARG002
        """Names of the elements of the one output. ValueError if the plan has several: ``feature_names`` has all."""
        names = self.feature_names()
        if len(names) != 1:
            raise ValueError(f"the plan has {len(names)} outputs ({', '.join(names)}): ask feature_names()")
        return np.array(next(iter(names.values())), dtype=object)

    @property
    def feature_names_in_(self) -> npt.NDArray[np.object_]:
        """Names of the columns."""
        return np.array(self.column_names(), dtype=object)

    @property
    def n_features_in_(self) -> int:
        """How many columns."""
        return len(self.column_names())

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """None: what can be set stands in the page."""
        return {}

    def set_params(self, **params: Any) -> Self:
        """ValueError for any parameter."""
        if params:
            raise ValueError(f"a plan has no parameters, but {', '.join(params)} came: change its page instead")
        return self

    def set_output(self, *, transform: Container | None = None) -> Self:
        """What ``transform`` gives: "default" (an array), "pandas", "polars" or "sparse" (``scipy.sparse.csr_matrix``).

        None leaves it as it is.
        """
        if transform is not None and transform not in _CONTAINERS:
            raise ValueError(f"transform must be one of {', '.join(_CONTAINERS)}, not {transform!r}")
        self._container = transform or self._container
        return self

    def _contained(self, result: npt.NDArray[Any], data: Any) -> Any:
        """``result`` as the container that is asked for, with the index of ``data`` where both have one."""
        container = self._container or _global_container()
        if container in ("default", "sparse"):
            return result
        names = self.get_feature_names_out()
        if container == "pandas":
            import pandas as pd  # noqa: PLC0415 - who asks for its frames has it

            return pd.DataFrame(result, index=getattr(data, "index", None), columns=names, copy=False)
        if container == "polars":
            import polars  # type: ignore[import-not-found]  # noqa: PLC0415 - likewise

            return polars.DataFrame(result, schema=list(names), orient="row")
        raise FeatureInputInvalid(f"transform_output is {container!r}: expected one of {', '.join(_CONTAINERS)}")

    # What else scikit-learn looks for.

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> Self:
        # All that a clone could change is its container.
        clone: Self = object.__new__(type(self))
        clone.__dict__.update(self.__dict__)
        return clone

    def __sklearn_tags__(self) -> Any:
        # Asked for by scikit-learn from 1.6 on, whose classes these are.
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags  # noqa: PLC0415

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(two_d_array=True, string=True, categorical=True, allow_nan=True),
            requires_fit=False,
        )


def _global_container() -> Any:
    # Of this thread, if scikit-learn is there at all.
    sklearn = sys.modules.get("sklearn")
    return "default" if sklearn is None else sklearn.get_config().get("transform_output", "default")
