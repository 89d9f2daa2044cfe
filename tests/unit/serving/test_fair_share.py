from __future__ import annotations

from gateway.serving.fair_share import MOST_TURNS_OWED, QUANTUM_NS, Account


def time_of_each(costs: dict[str, int], turns: int) -> dict[str, int]:
    """Time that versions whose runs cost ``costs`` ns use in ``turns`` rounds, all of them always waiting."""
    accounts = {name: Account() for name in costs}
    used = dict.fromkeys(costs, 0)
    for _ in range(turns):
        for name, account in accounts.items():
            allowance, spent = account.begin_turn(), 0
            while spent < allowance:
                spent += costs[name]
            account.end_turn(spent, waiting=True)
            used[name] += spent
    return used


def test_versions_that_always_wait_get_equal_time_whatever_their_runs_cost():
    used = time_of_each({"quick": 10_000, "slow": 190_000}, turns=1_000)
    assert 0.8 < used["quick"] / used["slow"] < 1.25


def test_a_debtor_sits_out_until_the_debt_is_paid():
    account = Account()
    account.begin_turn()
    account.end_turn(3 * QUANTUM_NS, waiting=True)
    assert [account.begin_turn() > 0 for _ in range(3)] == [False, False, True]


def test_a_run_of_a_second_silences_a_version_for_twenty_turns_at_most():
    account = Account()
    account.end_turn(1_000_000_000, waiting=True)
    assert account.balance_ns == -MOST_TURNS_OWED * QUANTUM_NS


def test_an_idle_version_saves_nothing_for_later():
    account = Account()
    account.begin_turn()
    account.end_turn(0, waiting=False)
    assert account.begin_turn() == QUANTUM_NS


def test_debt_is_kept_while_idle():
    account = Account()
    account.begin_turn()
    account.end_turn(3 * QUANTUM_NS, waiting=False)
    assert account.balance_ns == -2 * QUANTUM_NS
