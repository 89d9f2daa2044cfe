"""The sticky key's hash is XXH64: published vectors, and the slow reading of the specification."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway._fast.key_hash import hash_key
from tests.reference import key_hash as reference

SEED = 2654435761


def sanity_buffer(n: int) -> bytes:
    """The bytes over which the xxHash project publishes its vectors."""
    state, filled = SEED, bytearray()
    for _ in range(n):
        filled.append(state >> 56)
        state = state * 11400714785074694797 % 2**64
    return bytes(filled)


@pytest.mark.parametrize(
    ("length", "seed", "expected"),
    [
        (0, 0, 0xEF46DB3751D8E999),
        (0, SEED, 0xAC75FDA2929B17EF),
        (1, 0, 0xE934A84ADB052768),
        (1, SEED, 0x5014607643A9B4C3),
        (4, 0, 0x9136A0DCA57457EE),
        (14, 0, 0x8282DCC4994E35C8),
        (14, SEED, 0xC3BD6BF63DEB6DF0),
        (222, 0, 0xB641AE8CB691C174),
        (222, SEED, 0x20CB8AB7AE10C14A),
    ],
)
def test_hash_equals_the_published_vectors(length, seed, expected):
    assert hash_key(sanity_buffer(length), seed) == expected


def test_hash_of_abc_is_the_one_everybody_quotes():
    assert hash_key(b"abc", 0) == 0x44BC2CF5AD770999


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1), st.integers(0, 7))
def test_hash_equals_the_reference_at_any_alignment(key, salt, offset):
    unaligned = memoryview(b"\xff" * offset + key)[offset:]
    assert hash_key(unaligned, salt) == reference.hash_key(key, salt)
