from typing import Self

import numpy as np
from numpy.typing import NDArray

from loadtests.outcome import LoadOutcome

class LoadLoop:
    """Connections of one thread that keeps requests on their way; made by ``GrpcLoad`` or ``HttpLoad``.

    Bodies are used in turn and the turn goes on from run to run. A run releases the GIL, so two loads may run in
    two threads. After a failure or a time-out the connection concerned is closed and stays so.
    """

    def run_closed(self, seconds: float, *, requests: int = ..., keep: int = 0, keep_every: int = 1) -> LoadOutcome:
        """Every stream sends its next request when its last one is answered, for `seconds` or `requests` in all.

        Keeps the first `keep` OK replies among every `keep_every`-th request. What is unanswered ten seconds after
        the end counts as lost. Raises ConnectionError when no connection is left from the run before.
        """

    def run_open(self, arrivals_ns: NDArray[np.int64], *, keep: int = 0, keep_every: int = 1) -> LoadOutcome:
        """Send request i `arrivals_ns[i]` nanoseconds after the start, answered or not the ones before it.

        Latency counts from that time, whenever the request could really be sent.
        """

    @property
    def live_connections(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
