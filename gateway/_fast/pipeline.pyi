from collections.abc import Callable, Mapping, Sequence
from typing import Any

from typing_extensions import Buffer

from gateway._fast.breadcrumbs import Breadcrumbs
from gateway._fast.counters import CounterPage
from gateway._fast.exchange import Exchange
from gateway._fast.exchange_sink import ExchangeSink
from gateway._fast.identifiers import IdGenerator
from gateway._fast.record_ring import RingWriter
from gateway._fast.served import ServedModel, ServedVersion

class ScanJob:
    """A large body to be scanned away from the loop."""

    exchange: Exchange
    result: int

    def __init__(self, exchange: Exchange) -> None: ...
    def run(self) -> None:
        """Scan without the GIL; the pipeline settles the result."""

class Pipeline(ExchangeSink):
    """Route, queue, run, commit and release exchanges; single-threaded, driven by :meth:`step`."""

    snapshot: int
    in_flight: int
    draining: bool
    queue_limit: int
    tick_ns: int
    scan_inline_bytes: int
    now_ns: int

    def __init__(
        self,
        *,
        wake: Callable[[], object],
        placement: Callable[[ServedVersion, int], str],
        inline_lane: Any,
        open_lane: Callable[[ServedVersion], Any] | None,
        scan_lane: Any,
        ring: RingWriter | None,
        counters: CounterPage | None,
        grpc_status: dict[str, int],
        ids: IdGenerator | None = None,
        on_epoch: Callable[[], object] | None = None,
        crumbs: Breadcrumbs | None = None,
        inline_rows: Callable[[ServedVersion], int] | None = None,
    ) -> None:
        """``wake``: call :meth:`step` soon. ``placement``: "inline" or "thread", for a version and a number of rows.
        ``inline_rows``: rows of a version's largest short request; without it none is short.

        Lanes: ``inline_lane.run(batch)`` at once; ``open_lane(version)`` and ``scan_lane`` have ``submit(job)``, and
        their jobs come back through :meth:`completed`. ``on_epoch``: called at the start of a step when the word that
        :meth:`watch_epoch` was given is not the snapshot's number.
        """
    def adopt(
        self, number: int, models: Mapping[str, ServedModel], unavailable: Mapping[str, Mapping[str, str]]
    ) -> None:
        """Serve snapshot ``number`` from now on: ``{name: ServedModel}``, and ``{name: {version: why not}}``.

        Exchanges already routed keep their version.
        """
    def watch_epoch(self, page: Buffer) -> None:
        """Compare the first word of the shared, writable ``page`` with the snapshot's number at each step."""
    def step(self, now_ns: int) -> bool:
        """Start what is ready within the tick's budget, release what was synced, flush. Whether work is left."""
    def completed(self, jobs: Sequence[Any]) -> None:
        """Jobs that lanes have finished, in any order."""
    def release_synced(self) -> None:
        """Answer the exchanges whose frames have reached the disk, and those whose frames may never."""
    def expire(self, now_ns: int) -> None:
        """Fail what has waited past its deadline, or was cancelled, behind a lane that is still busy."""
    def flush_ports(self) -> None:
        """One write for each port that was given replies since the last flush."""
    @property
    def awaiting_sync(self) -> int:
        """Exchanges whose reply waits for the disk."""
    def submit_for_test(self, exchange: Exchange) -> None:
        """``submit`` as Python may call it."""
