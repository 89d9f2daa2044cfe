"""W3C Trace Context; what tests call. The C contract is trace_context.pxd."""

def traceparent_of(value: bytes) -> tuple[bytes, bytes, int] | None:
    """Trace id, parent span id and flags as a request with this header gets them; None if it is not valid."""
