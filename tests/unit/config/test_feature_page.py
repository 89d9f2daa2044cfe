"""Pages as snapshots carry them: read without the grammar, and compiled as if the grammar had read them."""

import json
from pathlib import Path

import numpy as np
import pytest

from gateway.config.feature_page import FeaturePage, PageColumn, step_record
from gateway.config.features import parse_features
from gateway.features.compiler import compile_page, compile_plan

#: What the first gateway put into a snapshot, with every step it knew. It never changes.
GOLDEN = Path(__file__).parents[2] / "golden" / "features-v1.json"
ROWS = {
    "amount": np.array([0.0, 3.5, np.nan, -0.25, 60.0]),
    "count": np.array([1, 2, 7, -(2**63), 99]),
    "flag": np.array([True, False, True, False, True]),
    "place": ["near", "far", "", "elsewhere", "nearer"],
    "at": ["2013-01-31T05:15:00Z", "2013-01-31", "", "2013-01-31T23:59:59Z", "1969-12-31T12:00:00-05:00"],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "places.txt").write_bytes(b"near\nfar\n")
    return tmp_path


def test_a_page_of_the_first_gateway_computes_what_it_computes_under_todays_grammar(folder):
    """A worker starts from the snapshot that is there, whichever gateway wrote it, before control writes another."""
    document = json.loads(GOLDEN.read_bytes())
    plan = compile_page(FeaturePage.of_document(document), folder)
    today = compile_plan(parse_features(document), folder)
    assert plan.output_specs == today.output_specs
    for got, expected in zip(plan.transform(ROWS), today.transform(ROWS), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_column_knows_what_its_page_does_not_say():
    page = FeaturePage.of_document({"columns": {"c": {"type": "float"}}, "outputs": {}})
    assert page.columns == {"c": PageColumn("float", optional=False, missing="allow", infinite="allow", unit="s")}


def test_features_are_found_by_their_path_in_the_page():
    output = {"dtype": "int64", "features": [{"column": "a", "steps": []}, {"column": "b", "steps": []}]}
    (part,) = FeaturePage.of_document({"columns": {}, "outputs": {"x": output}}).outputs.values()
    assert part.dtype == "int64"
    assert [(path, feature.column) for path, feature in part.features] == [
        ("outputs.x.features.0", "a"),
        ("outputs.x.features.1", "b"),
    ]


def test_lists_and_mappings_within_a_step_become_tuples_and_records():
    step = step_record(step="one_hot", categories=["a", None], vocabulary={"file": "v.txt", "sha256": "0"})
    assert step.categories == ("a", None)
    assert step.vocabulary.file == "v.txt"
