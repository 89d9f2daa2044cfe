"""XXH64 read from its specification line by line: slow, obvious, the oracle of ``gateway._fast.key_hash``."""

P1, P2, P3, P4, P5 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
WORD = (1 << 64) - 1


def hash_key(key: bytes, salt: int) -> int:
    stripes, tail = divmod(len(key), 32)
    if stripes:
        lanes = [salt + P1 + P2, salt + P2, salt, salt - P1]
        for at in range(0, stripes * 32, 8):
            lane = at // 8 % 4
            lanes[lane] = _round(lanes[lane], int.from_bytes(key[at : at + 8], "little"))
        state = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True))
        for lane in lanes:
            state = (state ^ _round(0, lane)) * P1 + P4 & WORD
    else:
        state = salt + P5
    state = state + len(key) & WORD
    rest = key[len(key) - tail :]
    while len(rest) >= 8:
        state = _rotate(state ^ _round(0, int.from_bytes(rest[:8], "little")), 27) * P1 + P4 & WORD
        rest = rest[8:]
    if len(rest) >= 4:
        state = _rotate(state ^ int.from_bytes(rest[:4], "little") * P1, 23) * P2 + P3 & WORD
        rest = rest[4:]
    for byte in rest:
        state = _rotate(state ^ byte * P5, 11) * P1 & WORD
    state = (state ^ state >> 33) * P2 & WORD
    state = (state ^ state >> 29) * P3 & WORD
    return state ^ state >> 32


def _round(lane: int, word: int) -> int:
    return _rotate(lane + word * P2, 31) * P1 & WORD


def _rotate(x: int, bits: int) -> int:
    x &= WORD
    return (x << bits | x >> 64 - bits) & WORD
