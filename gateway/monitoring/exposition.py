"""Prometheus text (0.0.4) from what the processes left in shared memory. Reading it disturbs nobody.

Written by hand, because Triton's counter names carry no ``_total`` and client libraries insist on one. Label values
come from the snapshot and the process tree alone, never from what a caller sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from gateway._fast.counters import CounterReader, VersionTotals
from gateway._fast.record_frames import scan_frames
from gateway._fast.record_ring import ONLOOKER, RingReader
from gateway.core import instruments
from gateway.core.errors import GatewayError
from gateway.core.instruments import FAILURE_REASONS, FAILURE_WORDS, INSTRUMENTS, Instrument
from gateway.core.shared_page import MAX_WORKERS, PAGE_NAME, ControlPage, SlotView, worker_slot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Bytes of a ring that are read to find the arrival of the oldest record in it.
_LOOK_BYTES = 1 << 16

Labels = tuple[str, ...]
#: (labels, value), the labels in the instrument's order.
Sample = tuple[Labels, float]
#: (labels, counts by bucket, sum); the counts are not cumulative, the last one is of values past every bound.
Distribution = tuple[Labels, tuple[int, ...], float]
Samples = dict[Instrument, list[Sample]]
Distributions = dict[Instrument, list[Distribution]]
Versions = list[tuple[Labels, VersionTotals]]


def render(shm_dir: Path | str, snapshot: Mapping[str, Any]) -> bytes:
    """All metrics as text.

    ``snapshot`` is the committed snapshot's document: which versions there are, and which counter slot each has.
    What is missing in ``shm_dir`` (a gateway that is just starting) is left out. Never raises for it.
    """
    shm_dir = Path(shm_dir)
    samples: Samples = {}
    distributions: Distributions = {}
    with suppress(GatewayError):
        counters = CounterReader(shm_dir / "counters")
        versions = _versions(snapshot, counters)
        samples |= _version_samples(versions)
        distributions |= _version_distributions(versions)
        samples[instruments.REFUSALS] = [((reason,), count) for reason, count in counters.refusals().items()]
        samples[instruments.SPANS] = [((outcome,), count) for outcome, count in counters.spans().items()]
    with suppress(OSError, ValueError), closing(ControlPage.open(str(shm_dir / PAGE_NAME))) as page:
        samples |= _process_samples(page)
    samples |= _ring_samples(shm_dir)
    return "".join(_lines(samples, distributions)).encode()


def _versions(snapshot: Mapping[str, Any], counters: CounterReader) -> Versions:
    return [
        ((model, version), counters.version(compiled["counters"]))
        for model, described in snapshot.get("models", {}).items()
        for version, compiled in described["versions"].items()
    ]


def _version_samples(versions: Versions) -> Samples:
    failures: list[Sample] = [
        ((*labels, word), count) for labels, totals in versions for word, count in failures_by_word(totals).items()
    ]
    return {
        instruments.REQUEST_SUCCESS: [(labels, totals.requests[0]) for labels, totals in versions],
        instruments.REQUEST_FAILURE: failures,
        instruments.INFERENCE_COUNT: [(labels, totals.rows) for labels, totals in versions],
        instruments.EXECUTION_COUNT: [(labels, totals.runs) for labels, totals in versions],
        instruments.REQUEST_DURATION: [(labels, totals.ok_ns // 1000) for labels, totals in versions],
        instruments.QUEUE_DURATION: [(labels, totals.queue_ns // 1000) for labels, totals in versions],
        instruments.COMPUTE_INPUT_DURATION: [(labels, totals.features_ns // 1000) for labels, totals in versions],
        instruments.COMPUTE_INFER_DURATION: [(labels, totals.infer_ns // 1000) for labels, totals in versions],
        instruments.RUN_SECONDS: [(labels, totals.run_ns / 1e9) for labels, totals in versions],
        instruments.UNLOGGED: [(labels, totals.unlogged) for labels, totals in versions],
    }


def failures_by_word(totals: VersionTotals) -> dict[str, int]:
    """Failed requests by Triton's word for the reason; every word is there."""
    failures = dict.fromkeys(FAILURE_WORDS, 0)
    for status, count in enumerate(totals.requests):
        if status != 0:
            failures[FAILURE_REASONS.get(status, "OTHER")] += count
    return failures


def _version_distributions(versions: Versions) -> Distributions:
    return {
        instruments.REQUEST_SECONDS: [(labels, totals.latency, totals.all_ns / 1e9) for labels, totals in versions],
        instruments.BATCH_ROWS: [(labels, totals.batches, totals.run_rows) for labels, totals in versions],
    }


def _process_samples(page: ControlPage) -> Samples:
    workers: list[tuple[Labels, SlotView]] = []
    for index in range(MAX_WORKERS):
        slot = page.slot(worker_slot(index))
        if slot.starts:
            workers.append(((str(index),), slot))
    return {
        instruments.CONNECTIONS_OPEN: [(labels, slot.connections_open) for labels, slot in workers],
        instruments.CONNECTIONS_ACCEPTED: [(labels, slot.connections_handed) for labels, slot in workers],
        instruments.IN_FLIGHT: [(labels, slot.in_flight) for labels, slot in workers],
        instruments.WORKER_STARTS: [(labels, slot.starts) for labels, slot in workers],
        instruments.WORKER_SNAPSHOT: [(labels, slot.running_epoch) for labels, slot in workers],
        instruments.SNAPSHOT: [((), page.epoch)],
        instruments.DRAINING: [((), page.draining)],
    }


def _ring_samples(shm_dir: Path) -> Samples:
    samples: Samples = {instruments.RING_UNREAD: [], instruments.RING_CAPACITY: [], instruments.RECORDER_LAG: []}
    for path in sorted(shm_dir.glob("*.ring")):
        with suppress(GatewayError):
            ring = RingReader(path, ONLOOKER)
            labels = (path.stem,)
            samples[instruments.RING_UNREAD].append((labels, ring.head - ring.recorder_position))
            samples[instruments.RING_CAPACITY].append((labels, ring.capacity))
            samples[instruments.RECORDER_LAG].append((labels, recorder_lag_seconds(ring, time.time_ns())))
    return samples


def recorder_lag_seconds(ring: RingReader, now_unix_ns: int) -> float:
    """Age of the oldest record in ``ring`` that is not yet on disk; 0 if there is none. Moves the reader."""
    position = ring.recorder_position
    if position >= ring.head:
        return 0.0
    ring.seek(position)
    oldest = scan_frames(ring.read(_LOOK_BYTES), ring.epoch, ring.position, verify=False).oldest_unix_ns
    return max(0, now_unix_ns - oldest) / 1e9 if oldest else 0.0


# Text.


def _lines(samples: Samples, distributions: Distributions) -> Iterator[str]:
    for instrument in INSTRUMENTS:
        if not samples.get(instrument) and not distributions.get(instrument):
            continue
        yield f"# HELP {instrument.name} {instrument.help}\n# TYPE {instrument.name} {instrument.kind}\n"
        for labels, value in samples.get(instrument, ()):
            yield f"{instrument.name}{_label_set(instrument.labels, labels)} {_number(value)}\n"
        for labels, counts, total in distributions.get(instrument, ()):
            yield from _histogram_lines(instrument, labels, counts, total)


def _histogram_lines(instrument: Instrument, labels: Labels, counts: tuple[int, ...], total: float) -> Iterator[str]:
    names = (*instrument.labels, "le")
    seen = 0
    for bound, count in zip((*(_number(bound) for bound in instrument.buckets), "+Inf"), counts, strict=True):
        seen += count
        yield f"{instrument.name}_bucket{_label_set(names, (*labels, bound))} {seen}\n"
    plain = _label_set(instrument.labels, labels)
    yield f"{instrument.name}_sum{plain} {_number(total)}\n{instrument.name}_count{plain} {seen}\n"


def _label_set(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    # Counters past 2**53 stay exact; seconds have the fewest digits that mean the same double.
    return str(int(value)) if value == int(value) else repr(value)
