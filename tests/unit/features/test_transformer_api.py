"""A plan stands in scikit-learn's pipelines, searches and cross-validations as a transformer that is fitted already."""

import copy
import hashlib
import pickle
import pickletools

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted

from gateway.config.features import parse_features
from gateway.core.errors import ConfigurationError, FeatureInputInvalid
from gateway.features import Plan
from gateway.features.plan import FEW_ROWS

PAGE = {
    "columns": {"distance": "float", "carrier": "string"},
    "outputs": {
        "x": {
            "features": [
                {"column": "distance", "steps": [{"standard_scale": {"mean": 2.0, "scale": 4.0}}]},
                {"column": "carrier", "steps": [{"one_hot": {"categories": ["AA", "UA"], "unknown": "ignore"}}]},
            ]
        }
    },
}
NAMES = ["distance", "carrier_AA", "carrier_UA"]


@pytest.fixture
def plan():
    return Plan.from_spec(parse_features(PAGE))


@pytest.fixture
def frame():
    random = np.random.default_rng(1)
    return pd.DataFrame({"distance": random.normal(size=40), "carrier": random.choice(["AA", "UA", "DL"], 40)})


def test_fitting_changes_nothing(plan, frame):
    assert plan.fit(frame, [0] * 40) is plan
    np.testing.assert_array_equal(plan.fit_transform(frame), plan.transform(frame))
    check_is_fitted(plan)


def test_a_pipeline_with_a_plan_fits_predicts_and_names_its_features(plan, frame):
    pipeline = make_pipeline(plan, StandardScaler(), Ridge()).fit(frame, frame.distance)
    np.testing.assert_allclose(pipeline.predict(frame), frame.distance, atol=0.3)
    assert pipeline[:-1].get_feature_names_out().tolist() == NAMES
    assert "Plan" in repr(pipeline)
    assert "Plan" in pipeline._repr_html_()


def test_a_column_transformer_and_a_union_take_a_plan(plan, frame):
    both = FeatureUnion([("plan", plan), ("again", clone(plan))]).fit(frame)
    assert both.transform(frame).shape == (40, 6)
    chosen = ColumnTransformer([("plan", plan, ["distance", "carrier"])]).fit(frame)
    assert chosen.get_feature_names_out().tolist() == [f"plan__{name}" for name in NAMES]
    np.testing.assert_array_equal(chosen.transform(frame), plan.transform(frame))


def test_a_search_with_processes_of_its_own_takes_a_plan(plan, frame):
    pipeline = Pipeline([("plan", plan), ("model", Ridge())])
    search = GridSearchCV(pipeline, {"model__alpha": [0.1, 10.0]}, cv=2, n_jobs=2).fit(frame, frame.distance)
    assert search.best_params_ == {"model__alpha": 0.1}
    assert len(cross_val_score(pipeline, frame, frame.distance, cv=3)) == 3


def test_a_plan_has_no_parameters(plan):
    assert plan.get_params() == {}
    assert plan.set_params() is plan
    with pytest.raises(ValueError, match="a plan has no parameters, but mean came"):
        plan.set_params(mean=1)


def test_names_in_and_out_are_those_of_the_page(plan, frame):
    fitted = ColumnTransformer(
        [("d", StandardScaler(), ["distance"]), ("c", OneHotEncoder(), ["carrier"])], verbose_feature_names_out=False
    ).fit(frame)
    imported = Plan.from_sklearn(fitted)
    assert imported.get_feature_names_out().tolist() == fitted.get_feature_names_out().tolist()
    assert imported.feature_names_in_.tolist() == ["distance", "carrier"]
    assert plan.n_features_in_ == 2
    assert plan.feature_names() == {"x": NAMES}


def test_a_frame_is_given_where_it_was_asked_for(plan, frame):
    few = frame[10:13]
    table = clone(plan).set_output(transform="pandas").transform(few)
    assert table.columns.tolist() == NAMES
    assert table.index.tolist() == [10, 11, 12]
    np.testing.assert_array_equal(table.to_numpy(), plan.transform(few))
    assert isinstance(plan.transform(few), np.ndarray)  # the clone's output is its own
    assert plan.set_output(transform="pandas").set_output().transform({"distance": [1.0], "carrier": ["AA"]}).size == 3
    assert isinstance(plan.set_output(transform="default").transform(few), np.ndarray)
    with pytest.raises(ValueError, match="transform must be one of default, pandas, polars, sparse, not 'numpy'"):
        plan.set_output(transform="numpy")


def test_a_sparse_matrix_is_given_where_it_was_asked_for(plan, frame):
    sparse = clone(plan).set_output(transform="sparse")
    for data in (frame, frame[:0], {"distance": np.array([2.0, 6.0]), "carrier": ["AA", "DL"]}):
        matrix = sparse.transform(data)
        assert isinstance(matrix, csr_matrix)
        assert matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix.toarray(), plan.transform(data))
    assert matrix.nnz == 2  # a scaled 0 and an unseen carrier are not there
    assert isinstance(pickle.loads(pickle.dumps(sparse)).transform(frame), csr_matrix)
    scaled = make_pipeline(sparse, MaxAbsScaler()).fit_transform(frame)
    np.testing.assert_allclose(scaled.toarray(), MaxAbsScaler().fit_transform(plan.transform(frame)), rtol=1e-6)


@pytest.mark.parametrize("rows", [1, FEW_ROWS, FEW_ROWS + 1])
def test_a_sparse_matrix_is_as_scipy_makes_it_and_nobody_elses(plan, rows):
    distances = np.arange(rows) % 3 + 1.0
    sparse = clone(plan).set_output(transform="sparse")
    first = sparse.transform({"distance": distances, "carrier": ["AA"] * rows})
    dense = first.toarray()
    second = sparse.transform({"distance": distances + 10, "carrier": ["DL"] * rows})
    np.testing.assert_array_equal(first.toarray(), dense)
    first.check_format(full_check=True)
    assert first.shape == second.shape == dense.shape
    assert (first.has_canonical_format, first.indices.dtype) == (True, csr_matrix(dense).indices.dtype)
    assert (second - first).toarray().any()
    second.data[:] = 0
    np.testing.assert_array_equal(first.toarray(), dense)


def test_each_output_of_numbers_is_a_sparse_matrix_and_one_of_texts_an_array():
    outputs = {
        "ids": {"dtype": "int64", "features": ["c", "c"]},
        "words": {"dtype": "string", "features": ["s"]},
        "wide": {"dtype": "float64", "features": [{"column": "s", "steps": [{"hash": {"buckets": 1 << 18}}]}]},
    }
    plan = Plan.from_spec(parse_features({"columns": {"c": "int", "s": "string"}, "outputs": outputs}))
    columns = {"c": [0, 2**60 + 1] * 100, "s": ["one", ""] * 100}
    found = plan.set_output(transform="sparse").transform(columns)
    assert found["ids"].toarray().tolist() == [[0, 0], [2**60 + 1] * 2] * 100
    assert found["words"].tolist() == [["one"], [""]] * 100
    assert found["wide"].shape == (200, 1 << 18)
    assert abs(found["wide"]).sum(axis=1).ravel().tolist() == [[1, 0] * 100]


def test_a_row_that_fails_fails_a_sparse_transform():
    page = {
        "columns": {"c": "string"},
        "outputs": {"x": {"features": [{"column": "c", "steps": [{"one_hot": {"categories": ["AA"]}}]}]}},
    }
    sparse = Plan.from_spec(parse_features(page)).set_output(transform="sparse")
    with pytest.raises(FeatureInputInvalid, match="row 1: column 'c'"):
        sparse.transform({"c": ["AA", "DL"]})


def test_the_output_that_scikit_learn_is_configured_for_is_followed(plan, frame):
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(plan.transform(frame), pd.DataFrame)
        assert isinstance(make_pipeline(plan, StandardScaler()).fit_transform(frame), pd.DataFrame)
        assert isinstance(clone(plan).set_output(transform="default").transform(frame), np.ndarray)
        assert isinstance(plan.transform({"distance": [1.0], "carrier": ["AA"]}), np.ndarray)  # it knows no such input
    pipeline = make_pipeline(plan, StandardScaler()).set_output(transform="pandas")
    assert pipeline.fit_transform(frame).columns.tolist() == NAMES


def test_no_rows_are_a_frame_of_no_rows(plan, frame):
    assert plan.set_output(transform="pandas").transform(frame[:0]).shape == (0, 3)


def test_an_output_that_nobody_knows_is_refused(plan, frame, monkeypatch):
    monkeypatch.setattr(sklearn, "get_config", lambda: {"transform_output": "cupy"})
    with pytest.raises(FeatureInputInvalid, match="transform_output is 'cupy'"):
        plan.transform(frame)


def test_a_plan_of_several_outputs_has_no_one_list_of_names():
    plan = Plan.from_spec(
        parse_features({"columns": {"c": "int"}, "outputs": {"x": {"features": ["c"]}, "y": {"features": ["c", "c"]}}})
    )
    assert plan.feature_names() == {"x": ["c"], "y": ["c", "c"]}
    with pytest.raises(ValueError, match=r"the plan has 2 outputs \(x, y\)"):
        plan.get_feature_names_out()


# Pickles.


def test_a_pickle_carries_the_page_and_calls_one_function_of_ours(plan, frame):
    pickled = pickle.dumps(plan.set_output(transform="pandas"), protocol=4)
    restored = pickle.loads(pickled)
    pd.testing.assert_frame_equal(restored.transform(frame), plan.transform(frame))
    called = [argument for code, argument, _ in pickletools.genops(pickled) if "SHORT_BINUNICODE" in code.name]
    assert called[:2] == ["gateway.features.plan", "_restored"]
    assert [code.name for code, *_ in pickletools.genops(pickled)].count("REDUCE") == 1


def test_a_pickle_carries_vocabularies_by_value(tmp_path):
    frame = pd.DataFrame({"tail": [f"N{i}" for i in range(1200)]})
    imported = Plan.from_sklearn(OrdinalEncoder().fit(frame), dtype="int64")
    restored = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(imported))))
    assert restored.transform({"tail": ["N7"]}).tolist() == imported.transform({"tail": ["N7"]}).tolist()


def test_a_pickle_of_a_plan_from_a_file_needs_its_vocabulary_unchanged(tmp_path):
    (tmp_path / "v.txt").write_text("a\nb\n")
    digest = hashlib.sha256(b"a\nb\n").hexdigest()
    vocabulary = f"{{file: v.txt, sha256: {digest}}}"
    feature = f"{{column: c, steps: [ordinal: {{vocabulary: {vocabulary}}}]}}"
    (tmp_path / "features.yaml").write_text(f"columns: {{c: string}}\noutputs: {{x: {{features: [{feature}]}}}}")
    plan = Plan.from_yaml(tmp_path / "features.yaml")
    pickled = pickle.dumps(plan)
    (tmp_path / "v.txt").write_text("b\na\n")
    with pytest.raises(ConfigurationError, match="has changed since the plan was made"):
        pickle.dumps(plan)
    (tmp_path / "v.txt").unlink()
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        pickle.dumps(plan)
    assert pickle.loads(pickled).transform({"c": ["b"]}).tolist() == [[1.0]]


def test_copies_share_what_is_compiled(plan):
    assert copy.copy(plan).compiled is plan.compiled
    assert copy.deepcopy([plan])[0].compiled is plan.compiled
