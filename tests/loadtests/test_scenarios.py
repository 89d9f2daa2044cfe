import pytest

from loadtests.scenario import Bar, ScenarioInvalid, load_scenarios, parse_scenario
from loadtests.servers import BASELINES


def test_every_scenario_of_the_folder_is_valid_and_named_once():
    scenarios = load_scenarios()
    names = [scenario.name for scenario in scenarios]
    assert "grpc_8x16" in names
    assert len(set(names)) == len(names)
    assert {scenario.against for scenario in scenarios} <= {"", *BASELINES}
    assert all(bar.at_least is not None or bar.at_most is not None for scenario in scenarios for bar in scenario.bars)


def test_an_unknown_field_is_refused_with_scenario_and_field():
    with pytest.raises(ScenarioInvalid, match=r"scenario odd: .*conections"):
        parse_scenario("odd", 'title = "t"\nkind = "compare"\n[load]\nconections = 3\n')


def test_broken_toml_is_refused_with_the_scenario():
    with pytest.raises(ScenarioInvalid, match="scenario odd"):
        parse_scenario("odd", "title = ")


@pytest.mark.parametrize(("value", "met"), [(59.9, False), (60.0, True), (61.0, True), (float("nan"), False)])
def test_a_lower_bar(value, met):
    assert Bar("f", "t", at_least=60).met_by(value) is met


@pytest.mark.parametrize(("value", "met"), [(1.15, True), (1.16, False), (float("nan"), False)])
def test_an_upper_bar(value, met):
    assert Bar("f", "t", at_most=1.15).met_by(value) is met
