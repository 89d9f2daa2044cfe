def hash_key(key: bytes | bytearray | memoryview, salt: int) -> int:
    """XXH64 of ``key`` with ``salt`` (0 … 2**64 - 1) as its seed: the same number everywhere, for ever."""
