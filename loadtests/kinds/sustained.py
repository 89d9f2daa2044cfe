"""How fast predictions are answered *and* remembered, everything on one core."""

from __future__ import annotations

import time

from loadtests.findings import Bench, Findings
from loadtests.measure import connect, measured_round, random_payload, warmed_up
from loadtests.rounds import Figure
from loadtests.scenario import Scenario


def run(scenario: Scenario, bench: Bench) -> Findings:
    """Rows of a saturating load ÷ time from its first request until ``gateway log count`` equals them."""
    findings = Findings()
    payload = random_payload(scenario.load, bench.models)
    bursts, sustained, baseline_rates = [], [], []
    with (
        bench.gateway() as ours,
        bench.baseline(scenario) as theirs,
        connect(ours, scenario.load, payload) as our_client,
        connect(theirs, scenario.load, payload) as their_client,
    ):
        for client in (our_client, their_client):
            warmed_up(client, findings)
        ours.wait_until_recorded()
        for number in range(scenario.rounds):
            bench.say(f"round {number + 1} of {scenario.rounds}")
            begin = time.monotonic()
            burst = our_client.run(scenario.seconds)
            sustained.append(burst.ok * our_client.payload.rows_each / (ours.wait_until_recorded() - begin))
            bursts.append(burst.rate)
            theirs_now = measured_round(their_client, scenario.seconds, server_cpu=bench.server_cpu)
            findings.rounds.append(theirs_now)
            baseline_rates.append(theirs_now.rate)
        findings.judge_record(ours)
    findings.judge_rounds()
    findings.judge_baseline(theirs.name, Figure.of(baseline_rates).median)
    findings.figures = {
        "burst_rate": Figure.of(bursts, "/s"),
        "sustained_rate": Figure.of(sustained, "/s"),
        "baseline_rate": Figure.of(baseline_rates, "/s"),
        "sustained_advantage": Figure.ratios(sustained, baseline_rates),
    }
    return findings
