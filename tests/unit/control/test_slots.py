"""The slots of a split: exact shares, fewest moves, nobody moves who need not."""

import base64

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway._fast.slot_table import SlotTable
from gateway.control.traffic.slots import SLOTS, SlotPlan, first_plan, move, moved, normalised, without
from gateway.core.errors import InvalidRequest

versions = st.sampled_from(["1", "2", "3", "10", "beta", "v2"])
weights = st.dictionaries(versions, st.integers(0, 1_000) | st.floats(0.01, 1_000), min_size=1)
whole_percents = st.dictionaries(versions, st.integers(1, 100), min_size=2, max_size=2)


def shares_of(weights):
    assume(sum(weights.values()) > 0)
    total = sum(weights.values())
    assume(all(weight == 0 or weight / total * SLOTS >= 1.01 for weight in weights.values()))
    return normalised(weights)


@given(weights)
def test_shares_are_exact_to_less_than_one_slot(weights):
    shares = shares_of(weights)
    counts = first_plan(shares).counts()
    assert sum(counts.values()) == SLOTS
    assert all(abs(counts.get(version, 0) - share * SLOTS) < 1 for version, share in shares.items())


@given(st.lists(weights, min_size=2, max_size=5))
def test_shares_stay_exact_to_less_than_one_slot_through_any_changes(history):
    plan, shares = None, {}
    for weights in history:
        previous, shares = shares, shares_of(weights)
        plan = move(plan, shares, previous)
        counts = plan.counts()
        assert all(abs(counts.get(version, 0) - share * SLOTS) < 1 for version, share in shares.items())


@given(st.lists(weights, min_size=2, max_size=5))
def test_a_change_takes_only_from_whoever_has_too_much_and_gives_only_to_whoever_has_too_little(history):
    plan, shares = None, {}
    for weights in history:
        previous, shares = shares, shares_of(weights)
        before, plan = plan, move(plan, shares, previous)
        if before is None:
            continue
        had, moves = before.counts(), moved(before, plan)
        for giver, taker in moves:
            assert shares.get(giver, 0) * SLOTS < had[giver] + 1e-6
            assert shares.get(taker, 0) * SLOTS > had.get(taker, 0) - 1e-6
        assert not {giver for giver, _ in moves} & {taker for _, taker in moves}


@given(whole_percents, whole_percents)
def test_slots_leave_falling_versions_for_rising_ones(old, new):
    old_shares, new_shares = normalised(old), normalised(new)
    before = first_plan(old_shares)
    after = move(before, new_shares, old_shares)
    for giver, taker in moved(before, after):
        assert new_shares.get(giver, 0) < old_shares[giver]
        assert new_shares[taker] > old_shares.get(taker, 0)


@given(weights, weights)
def test_as_few_slots_move_as_the_counts_allow(old, new):
    old_shares, new_shares = shares_of(old), shares_of(new)
    before = first_plan(old_shares)
    after = move(before, new_shares, old_shares)
    had, has = before.counts(), after.counts()
    assert sum(moved(before, after).values()) == sum(max(0, count - has.get(v, 0)) for v, count in had.items())


@given(weights)
def test_the_same_weights_move_nothing(weights):
    shares = shares_of(weights)
    plan = first_plan(shares)
    assert move(plan, shares, shares) == plan
    assert move(plan, normalised({version: 7 * share for version, share in shares.items()}), shares) == plan


def test_a_ramp_keeps_every_key_that_has_reached_the_candidate():
    plan, shares, on_candidate = first_plan({"1": 1.0}), {"1": 1.0}, set()
    keys = [f"customer-{i}".encode() for i in range(2_000)]
    for percent in (1, 10, 25, 50, 100):
        previous, shares = shares, normalised({"1": 100 - percent, "2": percent})
        plan = move(plan, shares, previous)
        table = SlotTable(plan.slots, 7, len(plan.order))
        answered_by_candidate = {key for key in keys if plan.order[table.choose_by_key(key)] == "2"}
        assert on_candidate <= answered_by_candidate
        on_candidate = answered_by_candidate
    assert len(on_candidate) == len(keys)


def test_an_unchanged_share_keeps_its_rounding():
    # Thirds: one of the three was rounded up. The third that does not change keeps its 3,333 or 3,334 slots.
    old = normalised({"1": 1, "2": 1, "3": 1})
    before = first_plan(old)
    after = move(before, normalised({"1": 1, "2": 1.5, "3": 0.5}), old)
    assert after.counts()["1"] == before.counts()["1"]


def test_slots_of_a_missing_version_go_to_the_others_by_their_shares_and_nobody_else_moves():
    shares = normalised({"1": 60, "2": 20, "3": 20})
    plan = first_plan(shares)
    degraded, remaining = without(plan, shares, frozenset({"3"}))
    assert remaining == {"1": 0.75, "2": 0.25}
    assert degraded.counts() == {"1": 7_500, "2": 2_500}
    assert moved(plan, degraded) == {("3", "1"): 1_500, ("3", "2"): 500}
    with pytest.raises(ValueError, match="no version is left"):
        without(plan, shares, frozenset({"1", "2", "3"}))


@given(weights)
def test_a_plan_survives_its_text(weights):
    plan = first_plan(shares_of(weights))
    assert SlotPlan.from_base64(plan.order, plan.to_base64()) == plan


@pytest.mark.parametrize(
    ("order", "slots"),
    [(("1",), bytes(9_999)), (("1",), b"\1" * SLOTS), ((), bytes(SLOTS)), (("1",), b"")],
    ids=["too short", "names a version that is not there", "no versions", "empty"],
)
def test_a_text_that_is_no_plan_is_refused(order, slots):
    with pytest.raises(ValueError, match="are no plan"):
        SlotPlan.from_base64(order, base64.b64encode(slots).decode())


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ({"1": -1, "2": 2}, "weight of version 1 is -1"),
        ({"1": float("nan")}, "weight of version 1 is nan"),
        ({"1": float("inf"), "2": 1}, "weight of version 1 is inf"),
        ({"1": 0}, "at least one version needs a weight above 0"),
        ({}, "at least one version needs a weight above 0"),
        ({"1": 99.999, "2": 0.001}, "version 2 would get 0.001000% of the traffic"),
        ({str(i): 1 for i in range(257)}, "257 versions cannot share traffic"),
    ],
)
def test_weights_that_make_no_split_are_refused(weights, complaint):
    with pytest.raises(InvalidRequest, match=complaint):
        normalised(weights)


def test_huge_weights_are_shares_like_any_others():
    assert normalised({"1": 1.5e308, "2": 1.5e308}) == {"1": 0.5, "2": 0.5}
    assert normalised({"1": 5e-324, "2": 5e-324}) == {"1": 0.5, "2": 0.5}


def test_versions_are_ordered_by_number_then_by_name():
    plan = first_plan(normalised({"10": 1, "9": 1, "beta": 1, "alpha": 1}))
    assert plan.order == ("alpha", "beta", "9", "10")
