"""h2load and wrk against the gateway: do they, our generator and the record agree?"""

from __future__ import annotations

from loadtests.drivers.external import ExternalOutcome, ToolMissing, h2load, wrk
from loadtests.findings import Bench, Findings
from loadtests.measure import connect, random_payload
from loadtests.requests import grpc_messages, json_bodies, random_rows
from loadtests.rounds import Figure
from loadtests.scenario import Scenario
from loadtests.servers import Server


def run(scenario: Scenario, bench: Bench) -> Findings:
    """Alternate the external tool and our generator; the record must hold a row for each answer both counted."""
    findings = Findings()
    payload = random_payload(scenario.load, bench.models)
    tool_rates, our_rates = [], []
    with bench.gateway() as server, connect(server, scenario.load, payload) as client:
        for number in range(scenario.rounds):
            bench.say(f"round {number + 1} of {scenario.rounds}")
            try:
                told = _external(scenario, bench, server)
            except ToolMissing as missing:
                findings.skipped = str(missing)
                return findings
            # The tools leave without waiting for what is in flight: those rows are in the record, not in their count.
            in_flight = scenario.load.connections * scenario.load.streams
            surplus = _settled_rows(server) - server.rows_sent - told.answered
            if not 0 <= surplus <= in_flight:
                findings.void.append(f"the tool counted {told.answered} answers, the record has {surplus:+} to that")
            if told.failed:
                findings.void.append(f"the tool saw {told.failed} failures")
            server.rows_sent = server.count_rows()
            tool_rates.append(told.rate)
            our_rates.append(client.run(scenario.seconds).rate)
            server.wait_until_recorded()
    findings.figures = {
        "tool_rate": Figure.of(tool_rates, "/s"),
        "our_rate": Figure.of(our_rates, "/s"),
        "our_client_to_tool": Figure.ratios(our_rates, tool_rates),
    }
    return findings


def _external(scenario: Scenario, bench: Bench, server: Server) -> ExternalOutcome:
    load = scenario.load
    rows = random_rows()
    if load.protocol == "grpc":
        message = grpc_messages(load.model, rows[:1])[0]
        return h2load(
            server.grpc_port, message, connections=load.connections, streams=load.streams,
            seconds=scenario.seconds, cpu=bench.client_cpu,
        )  # fmt: skip
    path = f"/v2/models/{load.model}/infer"
    return wrk(
        server.http_port, path, json_bodies(rows), connections=load.connections,
        seconds=scenario.seconds, cpu=bench.client_cpu,
    )  # fmt: skip


def _settled_rows(server: Server) -> int:
    """Rows in the record once two counts agree."""
    before, now = -1, server.count_rows()
    while now != before:
        before, now = now, server.count_rows()
    return now
