class SlotTable:
    """The split of one model: 10,000 slots, each an index into the snapshot's ``order``."""

    versions: int

    def __init__(self, slots: bytes | bytearray | memoryview, salt: int, versions: int, position: int = 0) -> None:
        """``slots`` is copied: 10,000 bytes, each below ``versions`` (1 … 256).

        ``salt`` is the 64-bit seed of the key hash. ``position`` is where dealing without a key begins: pass the
        predecessor's :attr:`next_position`, so that frequent changes do not deal the same first versions again, and
        another start to each worker. Raises ``ValueError`` for a table that is not one.
        """

    def choose_by_key(self, key: bytes | bytearray | memoryview) -> int:
        """Index into ``order`` of the version that answers this sticky key."""

    def choose_by_counter(self) -> int:
        """Index into ``order`` of the version that answers the next request without a key."""

    def slot_of_key(self, key: bytes | bytearray | memoryview) -> int:
        """The slot, 0 … 9,999, that the key falls into."""

    @property
    def next_position(self) -> int:
        """Where dealing stands, 0 … 9,999."""
