"""The Open Inference Protocol over HTTP; what tests call. The C contract is json_wire.pxd."""

from typing import Any

from gateway._fast.exchange import Dialect, Exchange
from gateway._fast.tensor_binding import InputTable

class InferDialect(Dialect):
    """JSON, and JSON with binary tensors behind it."""

class RawInferDialect(InferDialect):
    """A body that is one tensor's bytes."""

def prepare_for_test(
    exchange: Exchange,
    *,
    json_size: int = -1,
    coding: int = 0,
    limit: int = 67108864,
    table: InputTable | None = None,
) -> Exchange:
    """Give ``exchange`` what the transport gives a request of this dialect."""

def scan_for_test(exchange: Exchange, **how: Any) -> dict[str, Any]:
    """Scan and settle as the pipeline does; returns what Python otherwise cannot see of the exchange."""
