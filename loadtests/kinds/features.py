"""Named columns through a feature plan into a real model, beside the MLP that takes its tensor as it comes."""

from __future__ import annotations

from loadtests.findings import Bench, Findings
from loadtests.kinds.compare import interleaved
from loadtests.measure import connect, random_payload, warmed_up
from loadtests.rounds import Figure
from loadtests.scenario import Scenario
from loadtests.servers import Server


def run(scenario: Scenario, bench: Bench) -> Findings:
    """Interleave rounds of ``flight_delay`` version 2 with the MLP's; then time the model alone."""
    if bench.flights is None:
        return Findings(skipped="the demo's models are not there: make demo ONCE=1 trains them")
    # pandas and the demo's data are needed here alone.
    from loadtests import flights  # noqa: PLC0415

    findings = Findings()
    rows = flights.sample_of_flights()
    with (
        flights.without_shadows(bench.flights) as models,
        bench.gateway(models=models) as with_features,
        bench.gateway() as with_tensor,
        connect(with_features, scenario.load, flights.flights_payload(bench.flights, rows)) as flights_client,
        connect(with_tensor, scenario.load, random_payload(scenario.load, bench.models)) as mlp_client,
    ):
        for client in (flights_client, mlp_client):
            warmed_up(client, findings)
            client.server.wait_until_recorded()
        pairs = interleaved(scenario, bench, flights_client, mlp_client)
        findings.judge_record(with_features)
        batch = rows_a_run(with_features)
        own = flights.own_cost_us(bench.flights, rows, batch)
    findings.rounds = [round_ for pair in pairs for round_ in pair]
    findings.judge_rounds()
    findings.notes.append(f"ONNX Runtime alone, {batch:.0f} rows a run: {own:.2f} µs a row")
    findings.figures = {
        "flights_us": Figure.of((ours.worker_us for ours, _ in pairs), "µs"),
        "mlp_us": Figure.of((mlp.worker_us for _, mlp in pairs), "µs"),
        "own_cost_us": Figure.of([own], "µs"),
        "features_us": Figure.of((ours.worker_us - mlp.worker_us - own for ours, mlp in pairs), "µs"),
    }
    return findings


def rows_a_run(server: Server) -> float:
    """Mean rows of a run, from the record: every row of a run carries its size."""
    (answer,) = server.query("SELECT count(*) / sum(1.0 / batch_rows) AS size FROM predictions WHERE status = 'OK'")
    return float(str(answer["size"]))
