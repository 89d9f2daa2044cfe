"""Memory of a worker after load, and the time from the command to ready."""

from __future__ import annotations

from pathlib import Path

from loadtests import proc_stat
from loadtests.findings import Bench, Findings
from loadtests.measure import Payload, connect, random_payload
from loadtests.rounds import Figure
from loadtests.scenario import Scenario


def run(scenario: Scenario, bench: Bench) -> Findings:
    """Start, load, look, stop, several times."""
    findings = Findings()
    mlp = random_payload(scenario.load, bench.models)
    models, payload = _largest_models(bench, mlp)
    findings.notes.append(f"models: {', '.join(sorted(folder.name for folder in models.iterdir() if folder.is_dir()))}")
    ready, memory, baseline = [], [], []
    for number in range(scenario.rounds):
        bench.say(f"round {number + 1} of {scenario.rounds}")
        with bench.gateway(models=models) as server, connect(server, scenario.load, payload) as client:
            client.run(scenario.seconds)
            ready.append(server.ready_seconds)
            memory.append(proc_stat.memory_of(server.workers[0]))
        with bench.baseline(scenario) as server, connect(server, scenario.load, mlp) as client:
            client.run(scenario.seconds)
            baseline.append(proc_stat.memory_of(server.workers[0]).resident)
    findings.figures = {
        "ready_seconds": Figure.of(ready, "s"),
        "worker_mb": Figure.of((found.resident for found in memory), "MB"),
        "worker_shared_mb": Figure.of((found.shared for found in memory), "MB"),
        "baseline_mb": Figure.of(baseline, "MB"),
    }
    return findings


def _largest_models(bench: Bench, mlp: Payload) -> tuple[Path, Payload]:
    """The demo's models where they are, else the load tests' own."""
    if bench.flights is None:
        return bench.models, mlp
    # pandas and the demo's data are needed here alone.
    from loadtests import flights  # noqa: PLC0415

    return bench.flights, flights.flights_payload(bench.flights, flights.sample_of_flights())
