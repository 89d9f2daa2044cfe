class IdGenerator:
    """Prediction ids (UUIDv7, RFC 9562 §5.7), trace and span ids of one process; used by one thread.

    Prediction ids never go backwards, whatever the wall clock does.
    """

    def __init__(self, seed: bytes | None = None) -> None:
        """``seed``: 16 bytes, for tests; otherwise from the operating system. Raises ValueError for another length."""
    def prediction_id(self, unix_ns: int) -> str:
        """A new prediction id as text."""
    def trace_ids_for_test(self) -> tuple[bytes, bytes]:
        """A new trace id and a new span id."""
