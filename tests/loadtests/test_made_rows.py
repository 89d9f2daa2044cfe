import numpy as np
import pytest

from gateway.config.features import parse_features
from gateway.features import Plan
from loadtests import made_rows


@pytest.mark.parametrize(
    ("page", "features", "columns", "width"),
    [
        (made_rows.housing_page, made_rows.housing_features, 9, 13),
        (made_rows.flights_page, made_rows.flights_features, 12, 138),
    ],
)
def test_a_plan_gives_what_numpy_says_of_its_page(page, features, columns, width):
    rows = made_rows.made_rows(np.random.default_rng(3), 500)
    plan = Plan.from_spec(parse_features(page()))
    found = plan.transform(rows)
    assert len(plan.columns) == columns
    assert found.shape == (500, width)
    assert np.allclose(found, features(rows), rtol=1e-6, atol=1e-6)


def test_some_rows_are_copies():
    rows = made_rows.made_rows(np.random.default_rng(3), 8)
    few = made_rows.some_rows(rows, 2, 3)
    assert few["dest"] == rows["dest"][2:5]
    few["n0"][:] = 0
    few["dest"][0] = "elsewhere"
    assert rows["n0"].any()
    assert "elsewhere" not in rows["dest"]
