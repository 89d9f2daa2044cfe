from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.process.placement_of_connections import HeartbeatWatch, WorkerLoad, least_loaded_first


def best(*loads):
    return least_loaded_first(loads)[0].worker


def test_fewest_open_connections_win_whatever_is_in_flight():
    assert best(WorkerLoad(0, 2, 0, 2), WorkerLoad(1, 1, 90, 1)) == 1


def test_requests_in_flight_break_the_tie():
    assert best(WorkerLoad(0, 1, 9, 1), WorkerLoad(1, 1, 3, 1)) == 1


def test_short_connections_one_by_one_go_round():
    handed = [0, 0, 0]
    for _ in range(9):
        handed[best(*(WorkerLoad(worker, 0, 0, handed[worker]) for worker in range(3)))] += 1
    assert handed == [3, 3, 3]


def test_an_unresponsive_worker_comes_last_but_is_better_than_nobody():
    hung = WorkerLoad(0, 0, 0, 0, responsive=False)
    assert best(hung, WorkerLoad(1, 50, 50, 50)) == 1
    assert best(hung) == 0


@given(st.integers(1, 16), st.lists(st.integers(0, 200), min_size=1, max_size=200))
def test_long_lived_connections_never_differ_by_more_than_one(workers, in_flight):
    """Whatever is in flight, connections that stay open are spread to within one of each other."""
    opened = Counter(dict.fromkeys(range(workers), 0))
    for busy in in_flight:
        loads = [WorkerLoad(w, opened[w], (busy * (w + 1)) % 7, opened[w]) for w in range(workers)]
        opened[best(*loads)] += 1
    assert max(opened.values()) - min(opened.values()) <= 1


def test_a_loop_that_stands_still_is_seen_after_as_many_looks():
    watch = HeartbeatWatch()
    assert [watch.look(0, 5), watch.look(0, 5), watch.look(0, 5)] == [0, 1, 2]
    assert watch.looks_without_beat(0) == 2
    assert watch.look(0, 6) == 0


def test_a_worker_that_has_not_begun_to_beat_is_not_suspected():
    watch = HeartbeatWatch()
    assert [watch.look(0, 0) for _ in range(5)] == [0] * 5
    assert watch.looks_without_beat(1) == 0
