"""What the record costs: the gateway against itself with recording off."""

from __future__ import annotations

from loadtests.findings import Bench, Findings
from loadtests.kinds.compare import interleaved
from loadtests.measure import connect, random_payload, warmed_up
from loadtests.rounds import Figure
from loadtests.scenario import Scenario


def run(scenario: Scenario, bench: Bench) -> Findings:
    """Interleave rounds with recording on and off, on one CPU."""
    findings = Findings()
    payload = random_payload(scenario.load, bench.models)
    with (
        bench.gateway() as on,
        bench.gateway(recording=False) as off,
        connect(on, scenario.load, payload) as on_client,
        connect(off, scenario.load, payload) as off_client,
    ):
        for client in (on_client, off_client):
            warmed_up(client, findings)
        on.wait_until_recorded()
        pairs = interleaved(scenario, bench, on_client, off_client)
        findings.judge_record(on)
    with_record, without = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    findings.rounds = [round_ for pair in pairs for round_ in pair]
    findings.judge_rounds()
    findings.figures = {
        "worker_us_on": Figure.of((round_.worker_us for round_ in with_record), "µs"),
        "worker_us_off": Figure.of((round_.worker_us for round_ in without), "µs"),
        "recording_cost": Figure.ratios([r.worker_us for r in with_record], [r.worker_us for r in without]),
        "recorder_us": Figure.of((round_.recorder_us for round_ in with_record), "µs"),
    }
    return findings
