"""How evenly long-lived connections fall on several workers."""

from __future__ import annotations

from loadtests import proc_stat
from loadtests.findings import Bench, Findings
from loadtests.measure import connect, random_payload
from loadtests.rounds import Figure
from loadtests.scenario import Scenario


def run(scenario: Scenario, bench: Bench) -> Findings:
    """Open the connections anew each round and count what each worker holds; busiest ÷ mean."""
    findings = Findings()
    payload = random_payload(scenario.load, bench.models)
    uneven, cpu_uneven = [], []
    for number in range(scenario.rounds):
        bench.say(f"round {number + 1} of {scenario.rounds}")
        with bench.gateway(workers=scenario.workers) as server:
            with connect(server, scenario.load, payload) as client:
                before = [proc_stat.cpu_seconds([pid]) for pid in server.workers]
                outcome = client.run(scenario.seconds)
                spent = [proc_stat.cpu_seconds([pid]) - cpu for pid, cpu in zip(server.workers, before, strict=True)]
                held = list(proc_stat.sockets_by_process(server.workers, server.grpc_port).values())
            if len(held) != scenario.workers:
                findings.void.append(f"{scenario.workers} workers were asked for, {len(held)} run")
            if outcome.failed or outcome.lost:
                findings.void.append(f"{outcome.failed} requests failed, {outcome.lost} were lost")
        findings.notes.append(f"connections by worker: {held}; CPU seconds: {[round(cpu, 2) for cpu in spent]}")
        uneven.append(_busiest_to_mean(held))
        cpu_uneven.append(_busiest_to_mean(spent))
    findings.figures = {
        "busiest_to_mean": Figure.of(uneven, "x"),
        "busiest_to_mean_cpu": Figure.of(cpu_uneven, "x"),
    }
    return findings


def _busiest_to_mean(values: list[int] | list[float]) -> float:
    mean = sum(values) / len(values)
    return max(values) / mean if mean else float("nan")
