from gateway._fast.exchange import Exchange
from gateway._fast.served import ServedVersion

class Batch:
    """One run of a version for the rows of several exchanges; made by the pipeline, a job of lanes."""

    version: ServedVersion
    exchanges: list[Exchange]
    rows: int
    features_ns: int
    infer_ns: int
    took_ns: int
    failed: bool

    def run(self) -> None:
        """Bring every exchange to its outputs or its error, on a lane thread to its reply."""
