"""Whether versions accept each other's requests."""

import pytest

from gateway.control.compatibility import differences

X = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
Y = {"name": "y", "datatype": "INT64", "shape": [-1]}


def test_equal_inputs_in_any_order_are_compatible():
    assert differences("1", [X, Y], "2", [Y, X]) == []
    assert differences("1", [], "2", []) == []


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ([X, Y], [X], ["version 1 takes input y, version 2 does not"]),
        ([X], [Y], ["version 1 takes input x, version 2 does not", "version 2 takes input y, version 1 does not"]),
        ([X], [X | {"datatype": "FP64"}], ["input x is FP32[-1, 4] in version 1 and FP64[-1, 4] in version 2"]),
        ([X], [X | {"shape": [8, 4]}], ["input x is FP32[-1, 4] in version 1 and FP32[8, 4] in version 2"]),
        ([X], [X | {"shape": [-1, 4, 1]}], ["input x is FP32[-1, 4] in version 1 and FP32[-1, 4, 1] in version 2"]),
        ([X], [X | {"optional": True}], ["input x is FP32[-1, 4] in version 1 and optional FP32[-1, 4] in version 2"]),
    ],
)
def test_any_request_that_one_takes_and_the_other_refuses_is_a_difference(one, other, told):
    assert differences("1", one, "2", other) == told
