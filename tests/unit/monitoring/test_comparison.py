"""Outputs of two versions side by side."""

import pytest

from gateway.monitoring.comparison import OutputComparison, compare_outputs


def compared(*pairs):
    comparison = OutputComparison()
    for primary, shadow in pairs:
        comparison.add(primary, shadow)
    return comparison


def test_numbers_that_are_near_are_the_same_and_others_are_measured():
    found = compared((1.0, 1.0000001), (2.0, 2.5), (0, 0.0), (3, 1))
    assert (found.compared, found.same, found.incomparable) == (4, 2, 0)
    assert found.mean_difference == pytest.approx((1e-7 + 0.5 + 0 + 2) / 4)
    assert found.largest_difference == 2.0


def test_a_row_is_the_same_only_if_all_its_elements_are():
    found = compared(([1.0, 2.0], [1.0, 2.0]), ([[1.0], [2.0]], [[1.0], [3.0]]), (["a"], ["a"]), (["a", 1], ["b", 1]))
    assert (found.compared, found.same) == (4, 2)
    assert found.largest_difference == 1.0


def test_other_forms_are_counted_and_not_compared():
    found = compared(([1.0], [1.0, 2.0]), ("a", 1.0), ([], 1.0))
    assert (found.compared, found.incomparable, found.mean_difference) == (0, 3, 0.0)


def test_nan_is_the_same_as_nan_and_different_from_any_number():
    found = compared((None, None), (None, 1.0), (float("inf"), 1.0))
    assert (found.compared, found.same, found.largest_difference) == (3, 1, 0.0)


def test_each_output_is_compared_by_name():
    found = compare_outputs([({"p": 0.5, "label": "x"}, {"p": 0.25, "label": "x"}), ({"p": 1.0}, {"q": 1.0})])
    assert set(found) == {"p", "label", "q"}
    assert (found["p"].compared, found["p"].incomparable, found["label"].same) == (1, 1, 1)
