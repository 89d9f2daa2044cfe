from gateway.process.crash_policy import CrashPolicy

V1, V2 = ("flights", "1"), ("flights", "2")


def test_the_third_crash_within_the_window_condemns_the_version_alone():
    policy = CrashPolicy(crashes=3, window_seconds=60)
    assert policy.on_crash([V1], 0) == []
    assert policy.on_crash([V1, V2], 30) == []
    assert policy.on_crash([V1], 60) == [V1]


def test_crashes_that_lie_further_apart_condemn_nobody():
    policy = CrashPolicy(crashes=3, window_seconds=60)
    assert [policy.on_crash([V1], now) for now in (0, 30, 61, 100)] == [[], [], [], []]
    assert policy.on_crash([V1], 110) == [V1]


def test_several_lanes_in_one_version_count_once_a_crash():
    policy = CrashPolicy(crashes=3, window_seconds=60)
    assert policy.on_crash([V1, V1, V1], 0) == []


def test_a_condemned_version_starts_anew_when_it_is_let_back():
    policy = CrashPolicy(crashes=2, window_seconds=60)
    policy.on_crash([V1], 0)
    assert policy.on_crash([V1], 1) == [V1]
    assert policy.on_crash([V1], 2) == []


def test_a_crash_without_suspects_condemns_nobody():
    policy = CrashPolicy(crashes=1)
    assert policy.on_crash([], 0) == []
