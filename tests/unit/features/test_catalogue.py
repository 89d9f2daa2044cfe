"""The catalogue is whole: every step has its arguments, its example compiles, its page is current."""

import json
import re
from pathlib import Path

import pytest

from gateway._fast.feature_program import ColumnType
from gateway.config.feature_page import TIMESTAMP_PARTS
from gateway.config.feature_steps import STEPS
from gateway.config.features import parse_features
from gateway.config.features_schema import SCHEMA_FILE, schema_text
from gateway.config.yaml_reader import parse_yaml
from gateway.features import catalogue_page
from gateway.features.compiler import compile_plan
from gateway.features.from_sklearn import CONVERTERS
from gateway.features.program import Kind
from gateway.features.steps import CATALOGUE
from tests.reference import features as reference

PAGE = Path(__file__).parents[3] / "docs" / "features.md"


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == catalogue_page.render(), (
        "run: python -m gateway.features.catalogue_page > docs/features.md"
    )


def test_every_step_of_the_grammar_is_in_the_catalogue_and_has_a_slow_twin():
    assert set(CATALOGUE) == set(STEPS)
    assert {spec.model_fields["step"].default for spec in reference.STEPS} == set(STEPS)


def test_kinds_are_the_column_types_of_the_loop():
    columns = [kind for kind in Kind if kind != Kind.CODES]
    assert [f"COLUMN_{kind.name}" for kind in columns] == [member.name for member in ColumnType]
    assert [int(kind) for kind in columns] == [int(member) for member in ColumnType]


@pytest.mark.parametrize("name", CATALOGUE)
def test_example_of_a_step_compiles_for_the_first_type_that_it_takes(name):
    entry = CATALOGUE[name]
    column = "string" if "EWR" in entry.example or "middle" in entry.example else str(entry.takes[0])
    columns = {f"c{i}": kind for i, kind in enumerate(entry.example_columns or [column])}
    steps = [parse_yaml(entry.example, "example")]
    if entry.gives.startswith("string"):
        steps.append({"hash": {"buckets": 4}})  # for no output of numbers takes it as it is
    page = {"columns": columns, "outputs": {"x": {"features": [{"columns": list(columns), "steps": steps}]}}}
    assert compile_plan(parse_features(page), Path()).output_specs[0].shape[1] >= 1


@pytest.mark.parametrize("name", CATALOGUE)
def test_step_refuses_what_it_does_not_take_and_takes_what_it_says(name):
    told = catalogue_page.render().split(f"### `{name}`")[1].split("\n- takes: ")[1].split("\n")[0]
    assert told.split(", ") == [str(kind) for kind in CATALOGUE[name].takes]


def test_every_timestamp_part_is_one_of_the_loop():
    # Order matters: the number of a part is its place in the tuple.
    steps = [{"column": "t", "steps": [{"timestamp_part": {"part": part}}]} for part in TIMESTAMP_PARTS]
    page = {"columns": {"t": "timestamp"}, "outputs": {"x": {"dtype": "int64", "features": steps}}}
    (result,) = compile_plan(parse_features(page), Path()).transform({"t": ["2013-12-30T23:58:59.25Z"]})
    assert dict(zip(TIMESTAMP_PARTS, result[0].tolist(), strict=True)) == {
        "year": 2013, "quarter": 4, "month": 12, "week": 1, "day": 30, "day_of_week": 0, "day_of_year": 364,
        "hour": 23, "minute": 58, "second": 59, "minute_of_day": 1438, "second_of_day": 86339, "is_weekend": 0,
        "epoch_seconds": 1388447939, "microsecond": 250000, "epoch_days": 16069, "iso_year": 2014, "days_in_month": 31,
        "is_month_start": 0, "is_month_end": 0, "is_quarter_start": 0, "is_quarter_end": 0, "is_year_start": 0,
        "is_year_end": 0, "is_leap_year": 0,
    }  # fmt: skip


def test_the_schema_in_the_package_is_current():
    written = "run `python -m gateway.config.features_schema`, which writes it anew"
    assert SCHEMA_FILE.read_text() == schema_text(), written
    assert json.loads(schema_text())["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", CONVERTERS)
def test_every_estimator_that_is_imported_has_its_row(path):
    rows = dict(re.findall(r"^\| `([a-z_.]*\w+)` \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert rows[path.removeprefix("sklearn.")].strip()


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_step_has_its_table_of_outcomes(name):
    section = PAGE.read_text(encoding="utf-8").split(f"### `{name}`\n")[1].split("\n### ")[0]
    assert "| a value that is | becomes |" in section
    assert "\n| missing | " in section
