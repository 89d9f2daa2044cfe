"""Latency under a load that does not wait for answers, each server at fractions of its own peak."""

from __future__ import annotations

from collections import defaultdict

from loadtests.arrivals import poisson_arrivals
from loadtests.findings import Bench, Findings
from loadtests.latency import Latency
from loadtests.measure import WARM_UP_SECONDS, Client, connect, random_payload
from loadtests.outcome import LoadOutcome
from loadtests.rounds import Figure
from loadtests.scenario import Scenario

PEAK_RUNS = 3
#: Room for what piles up in a hiccup; the closed loop that finds the peak uses the scenario's own streams.
OPEN_STREAMS = 128


def run(scenario: Scenario, bench: Bench) -> Findings:
    """Find each server's peak by closed loop, then interleave open-loop rounds at the scenario's fractions of it."""
    findings = Findings()
    payload = random_payload(scenario.load, bench.models)
    found: defaultdict[str, list[Latency]] = defaultdict(list)
    with (
        bench.gateway() as ours,
        bench.baseline(scenario) as theirs,
    ):
        peaks = {}
        for server in (ours, theirs):
            with connect(server, scenario.load, payload) as client:
                bench.say(f"peak of {server.name}")
                peaks[server.name] = peak_rate(client, scenario.seconds / 2)
                findings.figures[f"{_side(server.name)}_peak"] = Figure.of([peaks[server.name]], "/s")
        findings.judge_baseline(theirs.name, peaks[theirs.name])
        ours.wait_until_recorded()
        streams = OPEN_STREAMS if scenario.load.protocol == "grpc" else 1
        with (
            connect(ours, scenario.load, payload, streams=streams) as our_client,
            connect(theirs, scenario.load, payload, streams=streams) as their_client,
        ):
            for number in range(scenario.rounds):
                for fraction in scenario.fractions:
                    bench.say(f"round {number + 1} of {scenario.rounds}, {fraction:.0%} of peak")
                    for client in (our_client, their_client):
                        name = client.server.name
                        arrivals = poisson_arrivals(peaks[name] * fraction, scenario.seconds, seed=number)
                        outcome = client.run_open(arrivals)
                        _judge(findings, name, outcome)
                        found[f"{_side(name)}_{fraction * 100:.0f}"].append(outcome.percentiles)
                    ours.wait_until_recorded()
    findings.figures |= percentile_figures(found)
    findings.figures["p99_ratio_half"] = Figure.ratios(
        [latency.p99_us for latency in found["gateway_50"]], [latency.p99_us for latency in found["baseline_50"]]
    )
    return findings


def peak_rate(client: Client, seconds: float) -> float:
    """Median rate of a few closed loops."""
    client.run(WARM_UP_SECONDS)
    return Figure.of(client.run(seconds).rate for _ in range(PEAK_RUNS)).median


def percentile_figures(found: dict[str, list[Latency]]) -> dict[str, Figure]:
    """``<side>_<percent of peak>_p50_us`` and so on, each over the rounds."""
    figures = {}
    for key, latencies in found.items():
        figures[f"{key}_p50_us"] = Figure.of((latency.p50_us for latency in latencies), "µs")
        figures[f"{key}_p99_us"] = Figure.of((latency.p99_us for latency in latencies), "µs")
        figures[f"{key}_p999_us"] = Figure.of((latency.p999_us for latency in latencies), "µs")
    return figures


def _side(server: str) -> str:
    return "gateway" if server == "gateway" else "baseline"


def _judge(findings: Findings, server: str, outcome: LoadOutcome) -> None:
    if outcome.failed or outcome.lost:
        findings.void.append(f"{server}: {outcome.failed} requests failed, {outcome.lost} were lost")
