"""Memory of a worker after load, and the time from the command to ready."""

from __future__ import annotations

from loadtests import proc_stat
from loadtests.findings import Bench, Findings
from loadtests.measure import connect
from loadtests.rounds import Figure
from loadtests.scenario import Scenario


def run(scenario: Scenario, bench: Bench) -> Findings:
    """Start, load, look, stop, several times; the demo's models where they are, else the load tests' own."""
    findings = Findings()
    ready, memory, baseline = [], [], []
    models = bench.flights or bench.models
    findings.notes.append("with the demo's models" if bench.flights else "with the load tests' models (no --flights)")
    for number in range(scenario.rounds):
        bench.say(f"round {number + 1} of {scenario.rounds}")
        with bench.gateway(models=models) as server:
            ready.append(server.ready_seconds)
            if models == bench.models:
                with connect(server, scenario.load) as client:
                    client.run(scenario.seconds)
            memory.append(proc_stat.memory_of(server.workers[0]))
        with bench.baseline(scenario) as server:
            with connect(server, scenario.load) as client:
                client.run(scenario.seconds)
            baseline.append(proc_stat.memory_of(server.workers[0]).resident)
    findings.figures = {
        "ready_seconds": Figure.of(ready, "s"),
        "worker_mib": Figure.of((found.resident for found in memory), "MiB"),
        "worker_shared_mib": Figure.of((found.shared for found in memory), "MiB"),
        "baseline_mib": Figure.of(baseline, "MiB"),
    }
    return findings
