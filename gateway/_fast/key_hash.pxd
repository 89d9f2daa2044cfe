# Stable 64-bit hash of a sticky key, salted: XXH64 as published in the xxHash specification
# (github.com/Cyan4973/xxHash, doc/xxhash_spec.md), with the salt as its seed.
#
# Stable means: the same bytes and salt give the same number on every machine, in every process and release.
# Slot tables in databases and records of years ago depend on it, so it is never exchanged for a better one.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t

# `key` is borrowed for the call and may be NULL when n == 0. Reads exactly n bytes, at any alignment.
cdef uint64_t key_hash(const uint8_t* key, size_t n, uint64_t salt) noexcept nogil
