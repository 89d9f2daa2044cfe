"""What users of the Python API see; checked by mypy, never run."""

from pathlib import Path
from typing import assert_type

from gateway.config.features import FeatureSpec
from gateway.core.tensors import TensorSpec
from gateway.features import Plan
from gateway.features.from_sklearn import ImportedPlan, from_sklearn


def a_plan_comes_from_a_file_or_a_spec(path: Path, spec: FeatureSpec) -> None:
    assert_type(Plan.from_yaml(path), Plan)
    assert_type(Plan.from_yaml(str(path)), Plan)
    assert_type(Plan.from_spec(spec), Plan)


def its_columns_and_outputs_are_typed(plan: Plan) -> None:
    assert_type(plan.columns, list[TensorSpec])
    assert_type(plan.outputs, list[TensorSpec])


def an_import_is_a_spec_and_its_files(estimator: object) -> None:
    imported = from_sklearn(estimator)
    assert_type(imported, ImportedPlan)
    assert_type(imported.spec, FeatureSpec)
    assert_type(imported.vocabularies, dict[str, bytes])
