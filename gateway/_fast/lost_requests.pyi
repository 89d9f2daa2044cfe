import os
from collections.abc import Set

from gateway._fast.record_ring import RingWriter, SchemaHandle
from gateway.core.errors import GatewayError

def recorded_in(ring_path: str | os.PathLike[str], wanted: Set[bytes]) -> set[bytes]:
    """Those of the prediction ids ``wanted`` (16 bytes each) that a frame still in the ring is about."""

def commit_lost(ring: RingWriter, schema: SchemaHandle, prediction_id: bytes, status: int, error: GatewayError) -> bool:
    """Commit a frame without tensors, or count it as unlogged where there is no room; returns which of the two.

    The arrival is what the id, a UUIDv7, remembers of it.
    """
