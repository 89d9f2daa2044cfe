"""A fitted scikit-learn pipeline and the plan made from it give the same features, to one ulp of the output's type."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)

from gateway.core.errors import ConfigurationError, FeatureInputInvalid
from gateway.features import Plan
from gateway.features.compiler import load_plan
from gateway.features.from_sklearn import from_sklearn
from tests.unit.features.sklearn_parity import assert_same_features, names_of, plan_of

# The real data.


def test_california_housing_pipeline_gives_equal_features_for_every_row(housing, tmp_path):
    frame = housing.drop(columns="median_house_value")
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    estimator = ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("ocean", OneHotEncoder(handle_unknown="ignore"), ["ocean_proximity"]),
        ]
    ).fit(frame)
    assert_same_features(estimator, frame, tmp_path)
    assert_same_features(estimator, frame, tmp_path, dtype="float64")


def test_california_housing_with_every_scaler_and_a_model_at_the_end(housing, tmp_path):
    frame = housing.drop(columns="median_house_value")
    preprocess = ColumnTransformer(
        [
            (
                "robust",
                make_pipeline(SimpleImputer(add_indicator=True), RobustScaler()),
                ["total_bedrooms", "latitude"],
            ),
            ("log", make_pipeline(FunctionTransformer(np.log1p), MinMaxScaler()), ["population", "households"]),
            (
                "bins",
                KBinsDiscretizer(5, encode="onehot-dense", quantile_method="averaged_inverted_cdf"),
                ["median_income"],
            ),
            ("ocean", OrdinalEncoder(), ["ocean_proximity"]),
        ],
        remainder="passthrough",
    )
    model = Pipeline([("preprocess", preprocess), ("model", LinearRegression())])
    model.fit(frame, housing["median_house_value"])
    assert_same_features(model.named_steps["preprocess"], frame, tmp_path)
    assert plan_of(model, tmp_path).transform(frame).shape == (20640, 14)


# Each step with a twin, over data that hypothesis makes.

numbers = st.one_of(st.floats(-1e6, 1e6), st.integers(-5, 5).map(float))
gappy = st.one_of(numbers, st.just(float("nan")))
words = st.sampled_from(["a", "b", "c", "d", "é", "NEAR BAY"])


def columns_of(values, min_size=3):
    return st.lists(st.tuples(values, values), min_size=min_size, max_size=30).map(
        lambda rows: pd.DataFrame(rows, columns=["p", "q"])
    )


NUMERIC = {
    "impute mean": SimpleImputer(strategy="mean"),
    "impute median with indicator": SimpleImputer(strategy="median", add_indicator=True),
    "impute most frequent": SimpleImputer(strategy="most_frequent"),
    "impute constant": SimpleImputer(strategy="constant", fill_value=-1.5),
    "impute all-missing columns kept": SimpleImputer(keep_empty_features=True),
    "missing indicator": MissingIndicator(features="all"),
    "standard": StandardScaler(),
    "standard without mean": StandardScaler(with_mean=False),
    "standard without scale": StandardScaler(with_std=False),
    "min-max": MinMaxScaler(),
    "min-max, clipped, onto a range": MinMaxScaler(feature_range=(-2, 3), clip=True),
    "robust": RobustScaler(),
    "robust, unit variance": RobustScaler(quantile_range=(10, 90), unit_variance=True),
    "robust without centre": RobustScaler(with_centering=False, with_scaling=False),
    "log1p": FunctionTransformer(np.log1p),
    "log": FunctionTransformer(np.log),
    "exp": FunctionTransformer(np.exp),
    "sqrt": FunctionTransformer(np.sqrt),
    "abs": FunctionTransformer(np.abs),
    "max-abs": MaxAbsScaler(),
    "max-abs, clipped": MaxAbsScaler(clip=True),
    "clip": FunctionTransformer(np.clip, kw_args={"a_min": -2, "a_max": 2.5}),
    "identity": FunctionTransformer(),
    "impute then scale": make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
    "union": FeatureUnion([("scaled", StandardScaler()), ("raw", "passthrough"), ("none", "drop")]),
}


@pytest.mark.parametrize("name", NUMERIC)
@settings(max_examples=12, deadline=None)
@given(train=columns_of(gappy), served=columns_of(gappy))
@pytest.mark.filterwarnings("ignore")
def test_numeric_estimator_and_its_plan_agree(name, train, served, tmp_path_factory):
    train.loc[0], train.loc[1] = [1.0, 2.0], [3.0, 5.0]
    estimator = ColumnTransformer([("t", NUMERIC[name], ["p", "q"])]).fit(train)
    assert_same_features(estimator, served, tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("encode", ["ordinal", "onehot", "onehot-dense"])
@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@settings(max_examples=12, deadline=None)
@given(train=columns_of(numbers), served=columns_of(numbers))
@pytest.mark.filterwarnings("ignore")
def test_bins_and_their_plan_agree(strategy, encode, train, served, tmp_path_factory):
    train.loc[0], train.loc[1], train.loc[2] = [1.0, 2.0], [3.0, 5.0], [7.0, 9.0]
    binner = KBinsDiscretizer(3, strategy=strategy, encode=encode, subsample=None)
    estimator = ColumnTransformer([("t", binner, ["p", "q"])]).fit(train)
    assume(all(len(edges) > 2 for edges in estimator.named_transformers_["t"].bin_edges_))
    assert_same_features(estimator, served, tmp_path_factory.getbasetemp())


ENCODERS = {
    "one-hot": OneHotEncoder(handle_unknown="ignore"),
    "one-hot, first dropped": OneHotEncoder(handle_unknown="ignore", drop="first"),
    "one-hot, binary dropped": OneHotEncoder(handle_unknown="ignore", drop="if_binary"),
    "one-hot, infrequent": OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=3),
    "one-hot, few": OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=2),
    "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "ordinal, unknown is NaN": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
    "ordinal, infrequent": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, max_categories=2),
    "ordinal, missing has a code": OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    ),
}
COLUMNS = {
    "texts": words,
    "texts and missing": st.one_of(words, st.none()),
    "integers": st.integers(-3, 3),
    "floats and missing": st.one_of(st.integers(-3, 3).map(lambda i: i / 2), st.just(float("nan"))),
    "bools": st.booleans(),
}


@pytest.mark.parametrize("values", COLUMNS)
@pytest.mark.parametrize("name", ENCODERS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_encoder_and_its_plan_agree(name, values, data, tmp_path_factory):
    train, served = (data.draw(columns_of(COLUMNS[values])) for _ in range(2))
    assume(train.nunique(dropna=False).min() > 1)  # scikit-learn fails where every category is dropped
    estimator = ColumnTransformer([("t", ENCODERS[name], ["p", "q"])]).fit(train)
    # A column of missing values alone loses its type on the way into scikit-learn.
    served = served.astype(train.dtypes)
    assert_same_features(estimator, served, tmp_path_factory.getbasetemp())


def test_unseen_category_fails_where_scikit_learn_fails(tmp_path):
    frame = pd.DataFrame({"p": ["a", "b"]})
    for encoder in (OneHotEncoder(), OrdinalEncoder()):
        plan = plan_of(ColumnTransformer([("t", encoder, ["p"])]).fit(frame), tmp_path)
        with pytest.raises(
            FeatureInputInvalid, match=r"row 1: column 'p': expected a known category \(a, b\), came 'z'"
        ):
            plan.transform(pd.DataFrame({"p": ["a", "z"]}))


@given(st.text(min_size=1, max_size=20), st.integers(1, 64), st.booleans())
def test_hash_step_is_scikit_learns_feature_hasher(text, buckets, signed):
    hasher = FeatureHasher(buckets, input_type="string", alternate_sign=signed)
    page = {"columns": {"p": "string"}, "outputs": {"x": {"features": [{"column": "p", "steps": [
        {"hash": {"buckets": buckets, "signed": signed}}]}]}}}  # fmt: skip
    from gateway.config.features import parse_features

    got = Plan.from_spec(parse_features(page)).transform({"p": [text]})
    np.testing.assert_array_equal(got, hasher.transform([[text]]).toarray())


# How estimators compose.

first_two, last = ["p", "q"], ["r"]
COMPOSED = {
    "scaler across a ColumnTransformer": make_pipeline(
        ColumnTransformer([("m", MinMaxScaler(), ["q"]), ("o", OneHotEncoder(), last), ("d", "drop", ["n"])],
                          remainder="passthrough"),
        StandardScaler(with_mean=False),
    ),
    "scaled one-hot": ColumnTransformer([("t", make_pipeline(OneHotEncoder(), StandardScaler(with_mean=False)), last)]),
    "indicators are scaled too": ColumnTransformer(
        [("t", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), first_two)]
    ),
    "imputer behind a one-hot": ColumnTransformer(
        [("t", make_pipeline(OneHotEncoder(sparse_output=False), SimpleImputer(add_indicator=True)), last)]
    ),
    "bins of a one-hot": ColumnTransformer(
        [("t", make_pipeline(OneHotEncoder(sparse_output=False), KBinsDiscretizer(2, strategy="uniform")), last)]
    ),
    "union of chains": ColumnTransformer(
        [("t", FeatureUnion([("s", StandardScaler()), ("m", MinMaxScaler()), ("as is", "passthrough")]), first_two)]
    ),
    "weights": ColumnTransformer(
        [("s", StandardScaler(), first_two), ("o", OneHotEncoder(), last)], transformer_weights={"s": -0.3, "o": 7.0}
    ),
    "weights of a union": ColumnTransformer(
        [("t", FeatureUnion([("s", StandardScaler())], transformer_weights={"s": 3.0}), first_two)]
    ),
    "nested transformers": ColumnTransformer(
        [
            ("outer", ColumnTransformer([("inner", StandardScaler(), ["q"])], remainder="passthrough"), first_two),
            ("o", OneHotEncoder(), last),
        ]
    ),
    "transformer behind a one-hot chooses some of its elements": make_pipeline(
        ColumnTransformer([("o", OneHotEncoder(sparse_output=False), last), ("p", "passthrough", first_two)]),
        ColumnTransformer([("some", StandardScaler(), [1, 0, 3]), ("rest", "passthrough", [2])]),
    ),
    "names without prefixes": ColumnTransformer(
        [("s", StandardScaler(), ["q"]), ("o", OneHotEncoder(), last)], verbose_feature_names_out=False
    ),
    "names of a format": ColumnTransformer(
        [("s", StandardScaler(), ["q"])], verbose_feature_names_out="of {transformer_name}: {feature_name}"
    ),
    "prefixes in front of an indicator's": make_pipeline(
        ColumnTransformer([("s", StandardScaler(), first_two)]).set_output(transform="pandas"),
        SimpleImputer(add_indicator=True),
    ),
    "bins of a constant": ColumnTransformer(
        [("t", make_pipeline(FunctionTransformer(np.clip, kw_args={"a_min": 0, "a_max": 0},
                                                 feature_names_out="one-to-one"),
                             KBinsDiscretizer(3)), ["q"])]
    ),
    "column of no value is dropped": make_pipeline(
        ColumnTransformer([("o", OneHotEncoder(sparse_output=False), last), ("p", "passthrough", ["n", "p"])]),
        SimpleImputer(),
    ),
}  # fmt: skip


@pytest.fixture
def composed_frame():
    random = np.random.default_rng(5)
    frame = pd.DataFrame(random.normal(size=(70, 2)), columns=["p", "q"])
    frame.loc[random.random(70) < 0.2, "p"] = np.nan
    frame["r"] = random.choice(["x", "y", "z"], 70)
    frame["n"] = np.nan
    return frame


@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.filterwarnings("ignore")
def test_composition_and_its_plan_agree_in_values_and_names(name, composed_frame, tmp_path):
    estimator = COMPOSED[name].fit(composed_frame)
    assert_same_features(estimator, composed_frame, tmp_path)
    assert names_of(tmp_path) == estimator.get_feature_names_out().tolist()


def test_steps_of_one_column_stay_a_chain(composed_frame):
    estimator = COMPOSED["scaler across a ColumnTransformer"].fit(composed_frame)
    features = from_sklearn(estimator).spec.outputs["input"].features
    assert [feature.column for feature in features] == ["q", "r", "p"]
    assert [[step.step for step in feature.steps] for feature in features] == [
        ["min_max_scale", "standard_scale"], ["one_hot", "standard_scale"], ["standard_scale"]
    ]  # fmt: skip
    assert [feature.prefix for feature in features] == ["m__", "o__", "remainder__"]


# How columns are named and chosen.


@pytest.mark.parametrize(
    "columns", [["b"], [1], slice(1, 2), slice("b", "b"), np.array([False, True, False]), [-2], lambda f: ["b"]]
)
def test_columns_are_chosen_as_scikit_learn_chooses_them(columns, tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0], "c": [7.0, 9.0]})
    estimator = ColumnTransformer([("t", StandardScaler(), columns)], remainder="passthrough").fit(frame)
    plan = plan_of(estimator, tmp_path)
    np.testing.assert_allclose(plan.transform(frame), estimator.transform(frame))


def test_pipeline_fitted_on_an_array_gets_names_or_those_it_is_given(tmp_path):
    estimator = make_pipeline(SimpleImputer(), StandardScaler()).fit(np.array([[1.0, 2.0], [3.0, 5.0]]))
    assert [spec.name for spec in plan_of(estimator, tmp_path).columns] == ["x0", "x1"]
    assert [spec.name for spec in plan_of(estimator, tmp_path, columns=["u", "v"]).columns] == ["u", "v"]


def test_columns_that_are_dropped_are_not_asked_for(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0]})
    plan = plan_of(ColumnTransformer([("t", StandardScaler(), ["b"]), ("d", "drop", ["a"])]).fit(frame), tmp_path)
    assert [spec.name for spec in plan.columns] == ["b"]


def test_long_vocabulary_goes_into_a_file_with_its_digest(tmp_path):
    frame = pd.DataFrame({"tail number": [f"N{i:05d}" for i in range(1500)]})
    estimator = ColumnTransformer([("t", OrdinalEncoder(), ["tail number"])]).fit(frame)
    assert_same_features(estimator, frame, tmp_path)
    (vocabulary,) = tmp_path.glob("*.txt")
    assert vocabulary.read_text().splitlines()[0] == "N00000"
    assert "sha256" in (tmp_path / "features.yaml").read_text()


# Texts.


DOCUMENTS = [
    "The cat sat on the mat.", "the dog, the dog and the CAT", "naïve café №5", "", "A a I 1 22 x_y", "ΣΑΣ σας", "mat",
]  # fmt: skip


@pytest.mark.parametrize(
    "vectorizer",
    [
        CountVectorizer(),
        CountVectorizer(lowercase=False, binary=True, ngram_range=(1, 3), stop_words="english"),
        CountVectorizer(token_pattern=r"(?u)\b\w+\b", strip_accents="unicode"),
        CountVectorizer(token_pattern=r"[^\W\d_]+|\d", strip_accents="ascii"),
        CountVectorizer(analyzer="char", ngram_range=(2, 3)),
        CountVectorizer(analyzer="char_wb", ngram_range=(1, 4), max_features=20),
        TfidfVectorizer(),
        TfidfVectorizer(sublinear_tf=True, norm="l1", smooth_idf=False),
        TfidfVectorizer(use_idf=False, norm=None, binary=True),
        HashingVectorizer(n_features=64),
        HashingVectorizer(n_features=7, alternate_sign=False, norm=None, binary=True),
        make_pipeline(CountVectorizer(ngram_range=(1, 2)), TfidfTransformer(sublinear_tf=True)),
        FeatureUnion([("words", TfidfVectorizer()), ("parts", HashingVectorizer(n_features=16, analyzer="char"))]),
    ],
    ids=str,
)
def test_vectorizer_and_its_plan_agree(vectorizer, tmp_path):
    frame = pd.DataFrame({"text": DOCUMENTS})
    estimator = ColumnTransformer([("t", vectorizer, "text")]).fit(frame)
    for dtype in ("float32", "float64"):
        assert_same_features(estimator, frame, tmp_path, dtype=dtype)


def test_vectorizers_stand_beside_other_features_under_their_names(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "title": ["one two", "two", "three"], "body": ["x yy", "yy zz", ""]})
    parts = [("title", CountVectorizer(), "title"), ("a", StandardScaler(), ["a"]), ("body", TfidfVectorizer(), "body")]
    estimator = ColumnTransformer(parts).fit(frame)
    assert_same_features(estimator, frame, tmp_path)
    names = load_plan(tmp_path / "features.yaml").feature_names(0)
    assert names == estimator.get_feature_names_out().tolist()
    assert names[:2] == ["title__one", "title__three"]


def test_names_of_terms_are_those_of_scikit_learn(tmp_path):
    vectorizer = TfidfVectorizer(ngram_range=(1, 2)).fit(DOCUMENTS)
    from_sklearn(vectorizer).write(tmp_path / "features.yaml")
    assert load_plan(tmp_path / "features.yaml").feature_names(0) == vectorizer.get_feature_names_out().tolist()


def test_vectorizer_fitted_on_texts_alone_takes_a_column_called_text(tmp_path):
    pipeline = make_pipeline(TfidfVectorizer(), LinearRegression()).fit(DOCUMENTS, range(len(DOCUMENTS)))
    plan = plan_of(pipeline, tmp_path, dtype="float64")
    want = pipeline[0].transform(DOCUMENTS).toarray()
    np.testing.assert_array_max_ulp(plan.transform({"text": DOCUMENTS}), want, maxulp=1)


def test_many_terms_and_their_weights_go_into_files(tmp_path):
    texts = [f"word{i} word{i * i % 1999}" for i in range(2000)]
    vectorizer = TfidfVectorizer().fit(texts)
    imported = from_sklearn(vectorizer)
    assert len(imported.vocabularies) == 2
    plan = plan_of(vectorizer, tmp_path)
    np.testing.assert_array_max_ulp(
        plan.transform({"text": texts}), vectorizer.transform(texts).toarray().astype("f4"), maxulp=1
    )


@pytest.mark.parametrize(
    ("vectorizer", "message"),
    [
        (CountVectorizer(preprocessor=str.lower), "`preprocessor` in Python, which no step can run"),
        (CountVectorizer(analyzer=str.split), "`analyzer` in Python"),
        (CountVectorizer(strip_accents=str.lower), "`strip_accents` in Python"),
        (CountVectorizer(token_pattern=r"(\w)(?=\1)"), "a reference back to a group cannot be said alike in PCRE2"),
        (CountVectorizer(token_pattern=r"\w*"), "the empty text among its terms"),
        (TfidfVectorizer(dtype=np.float32), "computes in float32, steps in float64"),
        (HashingVectorizer(dtype=np.float32), "computes in float32, steps in float64"),
        (make_pipeline(HashingVectorizer(), TfidfTransformer()), "only right after one CountVectorizer"),
        (make_pipeline(CountVectorizer(), StandardScaler(with_mean=False)), "StandardScaler comes after a vectorizer"),
        (
            FeatureUnion([("t", TfidfVectorizer())], transformer_weights={"t": 2}),
            "transformer_weights comes after a vect",
        ),
        (make_pipeline(CountVectorizer(dtype=np.float32), TfidfTransformer()), "computes in float32"),
    ],
)
def test_vectorizer_that_no_step_can_be_is_refused(vectorizer, message):
    estimator = vectorizer.fit(["aab bba", "aabb"])
    ((_, told),) = refusals(estimator)
    assert message in told


def test_vectorizer_of_files_and_of_several_columns_is_refused():
    reader = CountVectorizer(input="filename", vocabulary=["a"])
    reader._validate_vocabulary()
    assert "input='filename'; read the files upstream" in refusals(reader)[0][1]
    several = from_sklearn_problem(CountVectorizer(vocabulary=["a"]).fit(["a"]), columns=["a", "b"])
    assert "has 2 columns, and takes one of texts" in several


def from_sklearn_problem(estimator, **options):
    with pytest.raises(ConfigurationError) as refused:
        from_sklearn(estimator, **options)
    return refused.value.problems[0].message


# Refusals: every one named, all at once.


class Shifted(StandardScaler):
    """A subclass may do anything."""


class Own(BaseEstimator, TransformerMixin):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X


def refusals(estimator):
    with pytest.raises(ConfigurationError) as refused:
        from_sklearn(estimator)
    return [(problem.path, problem.message) for problem in refused.value.problems]


def test_every_part_without_a_step_is_named_at_once():
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [3.0, 5.0, 6.0], "c": ["one", "two", "three"]})
    estimator = ColumnTransformer(
        [
            ("own", Own(), ["a"]),
            ("sub", Shifted(), ["a"]),
            ("cosh", FunctionTransformer(np.cosh), ["a"]),
            ("chain", make_pipeline(Own(), StandardScaler(), Shifted()), ["b"]),
            ("zero", SimpleImputer(missing_values=0.0), ["b"]),
            ("flag", MissingIndicator(missing_values=0.0, features="all"), ["b"]),
            ("text", CountVectorizer(tokenizer=str.split, token_pattern=None), "c"),
        ],
        transformer_weights={"own": 2.0},
    ).fit(frame)
    problems = refusals(estimator)
    assert [path for path, _ in problems] == [
        "pipeline.own", "pipeline.sub", "pipeline.cosh", "pipeline.chain.own", "pipeline.chain.shifted",
        "pipeline.zero", "pipeline.flag", "pipeline.text",
    ]  # fmt: skip
    assert "Own has no step in the catalogue; leave it to the graph, with the model" in problems[0][1]


@pytest.mark.parametrize(
    ("frame", "transformer", "message"),
    [
        ({"a": [None, None]}, OneHotEncoder(), "of the types none"),
        ({"a": ["", "x", None]}, OneHotEncoder(), "several categories for missing"),
        ({"a": ["x", None]}, OneHotEncoder(feature_name_combiner=lambda f, c: f"{f}={c}"), "by a function, <lambda>"),
        ({"a": [f"{i}\n" for i in range(1001)]}, OneHotEncoder(), "one with a line break"),
    ],
)
def test_categories_that_no_step_can_hold_are_refused(frame, transformer, message):
    estimator = ColumnTransformer([("t", transformer, ["a"])]).fit(pd.DataFrame(frame))
    ((_, told),) = refusals(estimator)
    assert message in told


def test_column_used_as_text_and_as_number_is_refused():
    frame = pd.DataFrame({"a": ["1", "2"]})
    one_hot = ColumnTransformer([("t", OneHotEncoder(), ["a"]), ("s", StandardScaler(), ["a"])]).fit(frame)
    assert refusals(one_hot) == [("pipeline", "column 'a' is used as float and as string")]


@pytest.mark.filterwarnings("ignore")
def test_column_without_a_value_in_training_is_refused_by_its_scaler():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [np.nan, np.nan]})
    assert refusals(StandardScaler().fit(frame)) == [
        ("pipeline", "column 'b' had no value in training, so standard_scale has nothing to go by; drop it")
    ]


def test_unfitted_estimator_is_refused():
    assert refusals(StandardScaler()) == [("pipeline", "StandardScaler is not fitted; call fit before saving it")]


def test_names_that_a_prefix_cannot_make_are_refused():
    for template in (lambda transformer, feature: feature.upper(), "{feature_name}__{transformer_name}"):
        estimator = ColumnTransformer([("s", StandardScaler(), [0])], verbose_feature_names_out=template)
        ((_, told),) = refusals(estimator.fit(np.zeros((2, 1))))
        assert "set_params(verbose_feature_names_out=True)" in told
