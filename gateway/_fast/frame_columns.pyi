from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from typing_extensions import Buffer

from gateway._fast.record_frames import RecordSchema

FIXED: Final[tuple[str, ...]]
TEXTS: Final[tuple[str, ...]]

class Taken(NamedTuple):
    """Arrow buffers of one column: ``values`` (and ``offsets``, ``lists`` where it has them)."""

    values: Buffer
    validity: Buffer
    nulls: int
    offsets: Buffer = ...
    lists: Buffer = ...
    elements: int = 0

class TakenColumns(NamedTuple):
    """Everything that was in a FrameColumns, and now belongs to the taker; ``fixed`` as FIXED, ``texts`` as TEXTS."""

    rows: int
    fixed: list[Taken]
    texts: list[Taken]
    inputs: list[Taken]
    outputs: list[Taken]

class FrameColumns:
    """Rows of exchanges with the same columns.

    ``inputs`` and ``outputs`` are ``[(datatype number, scalar), …]`` in the order of the schemas that it will be fed.
    """

    def __init__(
        self, inputs: Sequence[tuple[int, bool]], outputs: Sequence[tuple[int, bool]], owner: object = None
    ) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def first_ts(self) -> int:
        """Earliest arrival among the rows, microseconds since 1970; likewise ``last_ts``. Kept over ``take``."""
    @property
    def last_ts(self) -> int: ...
    @property
    def owner(self) -> Any:
        """Whatever its maker wants to find again."""
    def take(self) -> TakenColumns:
        """All rows as Arrow buffers; afterwards the columns are empty."""

class FrameSorter:
    """Walks the stream of one ring and hands every exchange to the columns it belongs to.

    ``open_columns(schema, day)`` is asked once for each pair (day = days since 1970-01-01, UTC) and answers
    ``(FrameColumns, index of the schema in that part)``.

    Columns are full at ``rows_max`` rows, and before they would hold more than ``bytes_max`` bytes (128 MiB at most, so
    that no offset of Arrow's overflows), or their share of ``bytes_in_all`` where there are many; a row that takes more
    is alone. An exchange's rows may go into several. Where one value could take more than ``value_max`` bytes (1 GiB at
    most), the fingerprint of its tensor is told.
    """

    def __init__(
        self,
        epoch: bytes,
        open_columns: Callable[[RecordSchema, int], tuple[FrameColumns, int]],
        *,
        rows_max: int = ...,
        bytes_max: int = ...,
        bytes_in_all: int = ...,
        value_max: int = ...,
    ) -> None: ...
    @property
    def schemas(self) -> dict[int, RecordSchema]:
        """The schemas told so far, by id."""
    @property
    def full(self) -> FrameColumns | None:
        """The columns that made the last feed stop."""
    @property
    def next_seq(self) -> int: ...
    @property
    def exchanges(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def repeated(self) -> int:
        """Frames met again, dropped."""
    @property
    def malformed(self) -> int:
        """Whole frames that contradict themselves, or name a schema never told."""
    @property
    def holes(self) -> int:
        """Times that bytes of the stream were missing."""
    @property
    def gaps(self) -> list[tuple[int, int, int]]:
        """``(exchanges answered without a frame, first, last Unix ns)``."""
    def expect(self, seq: int) -> None:
        """The stream goes on at ``seq``: frames before it are repetitions."""
    def know(self, schema: RecordSchema) -> None:
        """Take a schema that was told before this stretch of the stream."""
    def feed(self, data: Buffer, start: int = 0) -> int:
        """Sort the frames of ``data`` from byte ``start`` on; returns where it stopped.

        It stops before the end at a frame that is cut off or damaged, and at one whose rows do not all fit into their
        columns (``full`` says which; take them and feed the rest, which begins with that frame).
        """
