"""The split on the request path: keys stay where they are, dealing keeps every share at every moment."""

from collections import Counter
from itertools import accumulate
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway._fast.key_hash import hash_key
from gateway._fast.slot_table import SlotTable

SLOTS = 10_000

cuts = st.lists(st.integers(0, SLOTS), min_size=0, max_size=7)
layouts = st.integers(0, 2**32)  # seeds of a shuffle


def table_of(cuts, layout=None):
    """A table whose shares are the gaps between the cuts, in random places if asked."""
    edges = [0, *sorted(cuts), SLOTS]
    slots = [version for version in range(len(edges) - 1) for _ in range(edges[version + 1] - edges[version])]
    if layout is not None:
        Random(layout).shuffle(slots)
    return bytes(slots), len(edges) - 1


@given(st.binary(max_size=64), st.integers(0, 2**64 - 1), cuts)
def test_a_key_falls_into_the_slot_of_its_hash(key, salt, cuts):
    slots, versions = table_of(cuts)
    table = SlotTable(slots, salt, versions)
    slot = hash_key(key, salt) * SLOTS >> 64
    assert table.slot_of_key(key) == slot
    assert table.choose_by_key(key) == slots[slot]


def test_keys_spread_evenly_over_the_slots():
    table = SlotTable(bytes(SLOTS), 42, 1)
    in_tenth = Counter(table.slot_of_key(f"customer-{i}".encode()) // 1_000 for i in range(100_000))
    # 10,000 expected in each tenth, standard deviation 95: five of them.
    assert all(abs(n - 10_000) < 475 for n in in_tenth.values())


def test_another_salt_is_another_assignment():
    keys = [f"customer-{i}".encode() for i in range(1_000)]
    one, other = (SlotTable(bytes(SLOTS), salt, 1) for salt in (1, 2))
    assert sum(one.slot_of_key(key) == other.slot_of_key(key) for key in keys) < 10


@settings(max_examples=60)
@given(cuts, layouts)
def test_dealing_keeps_every_share_to_within_one_request_after_any_number(cuts, layout):
    slots, versions = table_of(cuts, layout)
    share = Counter(slots)
    table = SlotTable(slots, 0, versions)
    dealt = [table.choose_by_counter() for _ in range(SLOTS)]
    assert Counter(dealt) == share
    for version in range(versions):
        running = accumulate(choice == version for choice in dealt)
        assert all(abs(n * SLOTS - step * share[version]) < SLOTS for step, n in enumerate(running, start=1))


@settings(max_examples=60)
@given(cuts, layouts, st.integers(0, SLOTS - 1), st.integers(1, 500))
def test_any_stretch_of_requests_has_its_shares_to_within_two(cuts, layout, start, length):
    slots, versions = table_of(cuts, layout)
    share = Counter(slots)
    table = SlotTable(slots, 0, versions, start)
    dealt = Counter(table.choose_by_counter() for _ in range(length))
    assert all(abs(dealt[version] * SLOTS - length * share[version]) < 2 * SLOTS for version in range(versions))


def test_any_ten_thousand_requests_are_dealt_exactly():
    slots, versions = table_of([9_000, 9_999])
    table = SlotTable(slots, 0, versions, 1_234)
    assert Counter(table.choose_by_counter() for _ in range(SLOTS)) == {0: 9_000, 1: 999, 2: 1}


def test_dealing_goes_on_where_the_predecessor_stood():
    slots, versions = table_of([5_000])
    first = SlotTable(slots, 0, versions)
    ahead = [first.choose_by_counter() for _ in range(7)]
    second = SlotTable(slots, 0, versions, first.next_position)
    assert second.next_position == 7
    assert [second.choose_by_counter() for _ in range(7)] != ahead


def test_a_version_without_slots_is_never_chosen():
    table = SlotTable(bytes([1]) * SLOTS, 0, 3)
    assert {table.choose_by_counter() for _ in range(SLOTS)} == {1}


@pytest.mark.parametrize(
    ("slots", "versions", "complaint"),
    [
        (bytes(9_999), 1, "10000 slots, got 9999"),
        (b"", 1, "10000 slots, got 0"),
        (bytes(SLOTS), 0, "1 to 256 versions, got 0"),
        (bytes(SLOTS), 257, "1 to 256 versions, got 257"),
        (bytes(SLOTS - 1) + b"\x02", 2, "slot 9999 names version 2 of 2"),
    ],
)
def test_a_table_that_is_not_one_is_refused(slots, versions, complaint):
    with pytest.raises(ValueError, match=complaint):
        SlotTable(slots, 0, versions)


def test_256_versions_fit():
    slots = bytes(i % 256 for i in range(SLOTS))
    table = SlotTable(slots, 0, 256)
    assert len({table.choose_by_counter() for _ in range(SLOTS)}) == 256
