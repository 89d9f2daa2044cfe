import pytest

from loadtests import turns


def test_calls_are_timed_in_turns_round_by_round(monkeypatch):
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
    called, said = [], []
    calls = {"one": lambda: called.append("one"), "other": lambda: called.append("other")}
    taken = turns.microseconds_in_turns(calls, 3, said.append)
    assert called == ["one", "other"] * 4  # once before, for how often a turn has it
    assert {name: len(values) for name, values in taken.items()} == {"one": 3, "other": 3}
    assert said == ["round 1 of 3", "round 2 of 3", "round 3 of 3"]


@pytest.mark.parametrize(("seconds", "times"), [(0.1, 1), (0.05, 1), (0.001, 50), (1e-6, 50_000)])
def test_a_turn_has_as_many_calls_as_fit_and_one_at_least(seconds, times):
    assert turns.times_in_a_turn(seconds) == pytest.approx(times, abs=1)


def test_a_call_takes_the_mean_of_its_times(monkeypatch):
    clock = iter([10.0, 16.0])
    monkeypatch.setattr(turns.time, "perf_counter", lambda: next(clock))
    assert turns.seconds_a_call(lambda: None, 3) == 2.0
