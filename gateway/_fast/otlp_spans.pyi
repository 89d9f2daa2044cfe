from collections.abc import Mapping
from typing import Final, NamedTuple

from typing_extensions import Buffer

from gateway._fast.record_frames import RecordSchema

PROTOCOLS: Final[tuple[str, ...]]
SERVER_ERRORS: Final[set[str]]
"""gRPC codes that make a span an error; the others are the caller's mistakes."""

class EncodedSpans(NamedTuple):
    """Spans of a stretch of frames."""

    data: bytes
    """``spans`` fields of a ``ScopeSpans``, one behind the other."""
    spans: int
    unknown: int
    """Exchanges without a span because their schema was not known."""
    end: int
    """Where in the frames the next call goes on."""

class SpanEncoder:
    """Turns exchange frames into spans.

    ``ratio``: share of the traces that is sampled, decided by their ids as the SDK does it. ``parent_decides``: where
    the caller sent a trace context, its sampled flag decides instead.
    """

    def __init__(self, ratio: float = 1.0, *, parent_decides: bool = True) -> None: ...
    def encode(self, frames: Buffer, schemas: Mapping[int, RecordSchema], limit: int, start: int = 0) -> EncodedSpans:
        """At most ``limit`` spans of whole ``frames`` from byte ``start`` on; stops at a malformed frame.

        ``schemas`` by id; it has to hold those whose frames precede these exchanges, wherever they were read.
        """
    def count_sampled(self, frames: Buffer, start: int = 0) -> int:
        """How many spans ``frames`` would give from byte ``start`` on."""

def export_request(resource: Mapping[str, object], scope: str, version: str, spans: list[bytes]) -> bytes:
    """An ``ExportTraceServiceRequest``: one resource, one scope, and what :meth:`SpanEncoder.encode` gave."""

def attributes(pairs: Mapping[str, object], tag: int) -> bytes:
    """Attributes as repeated ``KeyValue`` fields with this one-byte tag: text, bool, int, float, or a list of these."""
