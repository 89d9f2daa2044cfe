"""``docs/features.md``, from the catalogue: ``python -m gateway.features.catalogue_page > docs/features.md``."""

from __future__ import annotations

import json
import re
import typing
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway._fast.feature_program import LONGEST_LIST
from gateway.config.feature_steps import STEPS
from gateway.config.feature_steps.categories import VocabularyFile
from gateway.config.features import MAX_DEPTH, MAX_PROBLEMS, ColumnSpec, FeatureEntry, FeatureSpec, OutputSpec
from gateway.config.yaml_reader import MAX_FILE_BYTES, MAX_NESTING
from gateway.features import catalogue_guide
from gateway.features.from_sklearn import CONVERTERS
from gateway.features.steps import CATALOGUE
from gateway.features.steps.entry import NOTHING, Outcomes, StepEntry

_EXAMPLE = """\
```yaml
columns:
  distance: {type: float, missing: error}
  carrier: string
  departure: {type: timestamp, optional: true}
outputs:
  input:                      # the graph's input
    features:
      - column: distance
        steps:
          - log1p
          - standard_scale: {mean: 6.5, scale: 0.7}
      - column: carrier
        steps:
          - one_hot: {categories: [AA, DL, UA], unknown: ignore, missing: ignore}
      - column: departure
        steps:
          - timestamp_part: {part: hour}
          - cyclic: {period: 24}
```"""

_YAML = f"""\
The file is YAML with the scalars of its version 1.2: `on`, `no`, `007` and `2013-01-31` are texts. Mistakes are:
anchors, aliases, tags, a second document, keys that stand twice, are unknown or no plain text, NaN, infinities and
numbers beyond their range, more than {MAX_FILE_BYTES >> 20} MiB, {MAX_NESTING} mappings and lists within each other, \
{MAX_DEPTH} features within features.
All mistakes are told at once, each with its place; of more than {MAX_PROBLEMS}, the first {MAX_PROBLEMS}."""

_EDITORS = """\
`gateway features schema > models/features.schema.json` writes the page's JSON Schema (2020-12), made from the grammar:
editors complete keys from it and mark those that are misspelt. Pages that the gateway writes below a folder with it
begin with `# yaml-language-server: $schema=../../features.schema.json`, the line by which editors find it; put it into
pages of your own, or name the file in the editor's settings (`yaml.schemas` in VS Code)."""

_COLUMNS = """\
| type | published as | taken | missing |
|---|---|---|---|
| `float` | FP64 | any numeric data type, BOOL | NaN; -2**63 as INT64 |
| `int` | INT64 | any numeric data type, BOOL; a fraction, or outside int64, fails the row | -2**63 as INT64; NaN |
| `bool` | BOOL | BOOL, any numeric data type; other than 0 and 1 fails the row | -2**63 as INT64; NaN |
| `string` | BYTES | BYTES, compared byte by byte: text that is no UTF-8 is a category like any other, and fails the \
row where a step looks at characters | the empty text |
| `timestamp` | BYTES | ISO 8601 text; integers (not UINT64) or FP64, counting `unit` since 1970 | the empty text; \
-2**63; NaN |
| `strings` | BYTES | lists of texts: BYTES of shape [rows, k], where an empty text is padding and does not count | no \
text in the list |"""

_TIMESTAMPS = """\
A timestamp's text is ISO 8601 in its extended form: `2013-01-31`, `2013-01-31T05:15`, `2013-01-31 05:15:00.25Z`,
`2013-01-31T05:15:00-05:00`. Without an offset it is UTC; with one it is moved to UTC: instants keep no zone.
Up to nine digits of a fraction are read and kept to the microsecond. Years 0001 to 9999; no second 60, no hour 24.

Steps with `time_zone` take the clock of that zone as the IANA time zone database has it, in the past and, by the rule
in force last, in the future. Near the ends of year 0001 and year 9999 a local date may lie in year 0 or 10000. The
database is that of the Python package `tzdata`, never the machine's: governments change their clocks, so to have one
plan mean one thing in training and serving, install the same version of `tzdata` in both (`pip show tzdata`)."""

_RULES = """\
Steps compute in float64 and are rounded once, into the output's data type; a value beyond float32 becomes infinite.
Integers stay integers, exactly, until a step computes with them or a float output takes them.
A NaN that a step makes (`log1p` of -2) counts as missing to the steps behind it. -0.0 keeps its sign and equals 0.0.
A row that fails gets its error, naming row, column, what was expected and what came; its neighbours are answered.
A missing value in a float output is NaN; in an int64 output it fails its row; in a string output it is the empty text.
A string output holds the texts themselves, for graphs that take strings; a text that is no UTF-8 fails its row.
A list has at most {longest_list} texts; a longer one fails its row."""


def render() -> str:
    """The whole page."""
    parts = [
        "# Features",
        "`features.yaml` names the columns that clients send and how they become the graph's inputs. It lies in the "
        "version's folder, beside `model.onnx`. This page is written from the catalogue by "
        "`python -m gateway.features.catalogue_page`; a test keeps it current.",
        _EXAMPLE,
        "`gateway features from-sklearn pipeline.joblib --out features.yaml` writes it from a fitted pipeline; in "
        "training, `gateway.features.Plan` runs the loop that serves.",
        "## On the command line: `gateway features …`",
        catalogue_guide.COMMANDS,
        "## From Python",
        catalogue_guide.PYTHON,
        "## From scikit-learn",
        _import_table(),
        "## The page",
        _table(FeatureSpec, "columns", "outputs", "format"),
        _YAML,
        "### `columns.NAME`",
        _table(ColumnSpec),
        _COLUMNS,
        _TIMESTAMPS,
        "### `outputs.NAME`",
        _table(OutputSpec),
        "### `outputs.NAME.features`",
        _table(FeatureEntry),
        "A step is its name (`log1p`), or its name with arguments (`clip: {min: 0}`).",
        catalogue_guide.GROUPS,
        "### `vocabulary`",
        str(VocabularyFile.__doc__),
        _table(VocabularyFile),
        "### Editors",
        _EDITORS,
        "## Rules of every step",
        _RULES.format(longest_list=f"{LONGEST_LIST:,}"),
        "## Steps",
        *[_step(entry) for entry in CATALOGUE.values()],
    ]
    return "\n\n".join(parts) + "\n"


def _step(entry: StepEntry) -> str:
    spec = STEPS[entry.name]
    facts = [
        f"- takes: {', '.join(str(kind) for kind in entry.takes)}",
        f"- gives: {entry.gives}",
        f"- formula: {entry.formula}",
    ]
    if entry.twin:
        facts.append(f"- scikit-learn: {entry.twin}")
    parts = [f"### `{entry.name}`", str(spec.__doc__), "\n".join(facts), _outcomes(entry.outcomes)]
    if len(spec.model_fields) > 1:
        parts.append(_table(spec))
    parts.append(f"```yaml\n- {entry.example}\n```")
    return "\n\n".join(parts)


def _outcomes(outcomes: Outcomes) -> str:
    """What becomes of odd values; those that cannot come are left out."""
    rows = {
        "missing": outcomes.missing, "infinite": outcomes.infinite, "unseen": outcomes.unseen,
        "out of range": outcomes.beyond,
    }  # fmt: skip
    lines = [f"| {value} | {_cell(outcome)} |" for value, outcome in rows.items() if outcome != NOTHING]
    return "\n".join(["| a value that is | becomes |", "|---|---|", *lines])


def _import_table() -> str:
    """By the estimators that are imported: the steps that have them for their twin."""
    steps = catalogue_guide.containers()
    for path in CONVERTERS:
        name = path.rpartition(".")[2]
        twins = [f"`{entry.name}`" for entry in CATALOGUE.values() if re.search(rf"`{name}\b", entry.twin or "")]
        steps.setdefault(name, ", ".join(twins))
    rows = [f"| `{path.removeprefix('sklearn.')}` | {steps[path.rpartition('.')[2]]} |" for path in CONVERTERS]
    return "\n".join([catalogue_guide.IMPORT, *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(spec: type[BaseModel], *names: str) -> str:
    annotations = typing.get_type_hints(spec)
    rows = [_row(name, spec.model_fields[name], annotations[name]) for name in names or spec.model_fields]
    lines = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    return "\n".join(lines + [row for row in rows if not row.startswith("| `step` ")])


def _row(name: str, field: FieldInfo, annotation: Any) -> str:
    meaning = " ".join((field.description or "").replace("``", "`").split())
    default = "required" if field.is_required() else _default(field.default)
    return f"| `{name}` | {_takes(annotation)} | {default} | {meaning} |"


def _default(value: Any) -> str:
    if value is None:
        return "none"
    if value == "":
        return "the empty text"
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`".replace('"', "")


def _takes(annotation: Any) -> str:
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        words = dict.fromkeys(_takes(argument) for argument in arguments if argument is not NoneType)
        return " or ".join(word for word in words)
    if origin is tuple:
        return "list"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "mapping"
    return {bool: "true or false", int: "integer", float: "number", str: "text"}[annotation]


if __name__ == "__main__":
    print(render(), end="")
