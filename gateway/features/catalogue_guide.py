"""The parts of ``docs/features.md`` that no catalogue has: how pages are made, called and compared."""

from __future__ import annotations

GROUPS = """\
A feature takes the values of a `column`, of several `columns`, of other `features`, or a `constant`, side by side.
Steps that are for one value are taken by each; steps across values take all of them:

```yaml
features:
  - columns: [rooms, beds]                      # rooms / beds, one element
    steps: [ratio]
  - features:                                   # scaled first, then multiplied with each other
      - columns: [income, age]
        steps:
          - standard_scale: {mean: [3.87, 28.6], scale: [1.9, 12.6]}
    steps:
      - polynomial: {degree: [1, 2], interaction_only: true}
    prefix: poly_
```

An argument of numbers is one for all values, or a list with one for each. What two features compute alike is computed
once. An element's name is that of its column, and what steps make of it, as `get_feature_names_out` of scikit-learn
has it (`carrier_AA`, `missingindicator_distance`, `a b`); `prefix` stands in front. `gateway features explain` shows
them."""

COMMANDS = """\
| command | does |
|---|---|
| `from-sklearn FILE --out features.yaml` | the page of a fitted pipeline; what has no step is named, never \
approximated |
| `from-dataframe ROWS --out features.yaml` | drafts a page from CSV or Parquet: types of the whole file, and beside \
each \
column a comment with what was decided and why; constants, identifiers and what `--leave-out` names are left out |
| `explain features.yaml` | a row for each feature: its elements, their names, its columns and steps |
| `check features.yaml` | every mistake, also against `model.onnx` beside it |
| `check features.yaml --pipeline FILE --data ROWS` | runs pipeline and plan over the rows of a CSV or Parquet file: \
the \
first cell that differs, with row, name, both values and the distance in ulps, and the largest difference; exit code 1 |
| `to-onnx features.yaml --out plan.onnx` | the plan as ONNX's operators, for servers that know no plans; with \
`--merge \
model.onnx`, in front of the model |
| `schema` | the JSON Schema of the page |

In the graph of `to-onnx` a column is [rows, 1] of float64, int64 (also bools, and instants as microseconds since 1970
in UTC) or text; missing is NaN, -2**63 and the empty text; optional columns are required. Under ONNX Runtime its
outputs are the plan's to the last bit, but for `log1p`, `log` and `exp` (4 ulps of float64) and `cyclic` (2**-50). A
graph cannot fail one row: where the plan would, its run fails. `hash`, the vectorizers, steps of texts, time zones
and curves have no exact form in its operators and are named."""

PYTHON = """\
```python
from gateway.features import Plan

plan = Plan.from_yaml("models/housing/1/features.yaml")  # or Plan.from_sklearn(fitted)
plan.transform({"income": [8.3], "ocean": ["NEAR BAY"]})  # an array [1, width]; a dict of them if there are several
plan.transform(frame)  # pandas, polars, or an Arrow table
make_pipeline(plan, LogisticRegression()).fit(frame, y)  # a transformer that is fitted already
```

A plan is a scikit-learn transformer (1.4 and later: pipelines, `ColumnTransformer`, searches, `clone`, `set_output`,
`get_feature_names_out`) by answering what scikit-learn asks, so the gateway does not depend on it. `fit` learns
nothing. A pickle of it, as joblib sends it to processes, holds the page and its vocabularies as data, never code, and
is compiled where it is loaded.

`plan.set_output(transform="sparse")` makes `transform` give `scipy.sparse.csr_matrix`, for training on wide one-hots
or terms: zeros are never written. `"pandas"` and `"polars"` give frames. A gateway always gives graphs dense tensors.

Memory that holds rows already is not copied: numpy's arrays, and Arrow's arrays of numbers without gaps (from
pyarrow, polars or pandas, through Arrow's C interface; texts stay where they lie in any case). Taken are numpy arrays
of numbers, `datetime64`, texts and objects, masked arrays, lists, `array.array`, pandas' nullable, categorical and
Arrow types, Arrow arrays and chunked arrays (dictionaries and views too). None, NaN, NaT, `pandas.NA`, masked and
null values are missing. `plan.transform` holds the GIL; it may be called from several threads."""

IMPORT = """\
| scikit-learn | step |
|---|---|"""


def containers() -> dict[str, str]:
    """What holds other estimators, or chooses among columns, and what becomes of it."""
    return {
        "Pipeline": "steps one behind the other; a model at its end is left out",
        "ColumnTransformer": "a feature for each column of each part",
        "FeatureUnion": "features side by side",
        "FunctionTransformer": "`log1p`, `log`, `exp`, `sqrt`, `abs`, `clip`, by numpy's function; others are refused",
        "TfidfTransformer": "`tfidf_vectorize`, with the `CountVectorizer` before it",
    }
