"""A small client's latency alone, and beside neighbours that take all they can get."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from loadtests.arrivals import poisson_arrivals
from loadtests.findings import Bench, Findings
from loadtests.measure import WARM_UP_SECONDS, Client, connect, measured_open_round, random_payload, warmed_up
from loadtests.outcome import LoadOutcome
from loadtests.rounds import Figure, Round
from loadtests.scenario import Scenario

OPEN_STREAMS = 64


def run(scenario: Scenario, bench: Bench) -> Findings:
    """Alternate rounds alone and beside the neighbours; the small client keeps to its schedule in both."""
    findings = Findings()
    payload = random_payload(scenario.load, bench.models)
    alone: list[Round] = []
    beside: list[Round] = []
    neighbour_rates: list[float] = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(bench.gateway())
        small = stack.enter_context(connect(server, scenario.load, payload, streams=OPEN_STREAMS))
        neighbours = [
            stack.enter_context(connect(server, spec, random_payload(spec, bench.models)))
            for spec in scenario.neighbours
        ]
        warmed_up(small, findings)
        for client in neighbours:
            client.run(WARM_UP_SECONDS)
        for number in range(scenario.rounds):
            bench.say(f"round {number + 1} of {scenario.rounds}")
            server.wait_until_recorded()
            arrivals = poisson_arrivals(scenario.load.rate, scenario.seconds, seed=number)
            alone.append(measured_open_round(small, arrivals, server_cpu=bench.server_cpu, label="alone"))
            with _busy(neighbours, scenario.seconds) as outcomes:
                beside.append(
                    measured_open_round(
                        small, arrivals, server_cpu=bench.server_cpu, label="beside neighbours", until_recorded=False
                    )
                )
            neighbour_rates.append(sum(outcome.rate for outcome in outcomes))
            findings.void += [f"neighbour: {o.failed} failed, {o.lost} lost" for o in outcomes if o.failed or o.lost]
        server.wait_until_recorded()
        findings.judge_record(server)
    findings.rounds = [*alone, *beside]
    findings.judge_rounds()
    findings.figures = {
        "solo_p50_us": Figure.of((round_.p50_us for round_ in alone), "µs"),
        "solo_p99_us": Figure.of((round_.p99_us for round_ in alone), "µs"),
        "beside_p50_us": Figure.of((round_.p50_us for round_ in beside), "µs"),
        "beside_p99_us": Figure.of((round_.p99_us for round_ in beside), "µs"),
        "neighbours_rate": Figure.of(neighbour_rates, "/s"),
        "p99_growth": Figure.ratios([round_.p99_us for round_ in beside], [round_.p99_us for round_ in alone]),
    }
    return findings


@contextlib.contextmanager
def _busy(clients: list[Client], seconds: float) -> Iterator[list[LoadOutcome]]:
    """The clients' closed loops in threads of their own, around the body; their outcomes are there after it."""
    outcomes: list[LoadOutcome] = []

    def press(client: Client) -> None:
        # The neighbours' generators share the client's CPU with the small client and must not delay it.
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
        outcomes.append(client.run(seconds))

    threads = [threading.Thread(target=press, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        for thread in threads:
            thread.join()
