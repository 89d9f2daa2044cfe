from collections.abc import Mapping, Sequence

from gateway._fast.pipeline import Pipeline
from gateway._fast.record_ring import RingReader
from gateway._fast.served import ServedVersion

class Candidate:
    """A loaded version and the share of its model's traffic, in percent, that it is run on."""

    version: ServedVersion
    taken: int
    skipped: int

    def __init__(self, version: ServedVersion, percent: float) -> None:
        """Raises ValueError unless 0 < ``percent`` <= 100."""

class ShadowFeed:
    """Reads one worker's ring and gives the pipeline what the candidates shall run."""

    without_schema: int
    without_inputs: int
    damaged: int

    def __init__(self, pipeline: Pipeline, reader: RingReader) -> None: ...
    def adopt(self, candidates: Mapping[str, Sequence[Candidate]]) -> None:
        """``{model: [Candidate, …]}`` from now on."""
    @property
    def overwritten(self) -> int:
        """Exchanges that were gone before this reader came to them."""
    def take(self, max_bytes: int) -> int:
        """Submit what the next frames ask for. Bytes of frames taken; 0 when there was nothing."""
