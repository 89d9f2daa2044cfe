"""Stable 64-bit hash of a sticky key, salted: XXH64."""
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

# The five primes of the specification. Products wrap modulo 2**64, as C's unsigned arithmetic does.
cdef uint64_t PRIME_1 = <uint64_t>0x9E3779B185EBCA87u
cdef uint64_t PRIME_2 = <uint64_t>0xC2B2AE3D27D4EB4Fu
cdef uint64_t PRIME_3 = <uint64_t>0x165667B19E3779F9u
cdef uint64_t PRIME_4 = <uint64_t>0x85EBCA77C2B2AE63u
cdef uint64_t PRIME_5 = <uint64_t>0x27D4EB2F165667C5u

cdef enum:
    STRIPE_BYTES = 32        # four lanes of 8


cdef uint64_t key_hash(const uint8_t* key, size_t n, uint64_t salt) noexcept nogil:
    cdef const uint8_t* at = key
    cdef size_t left = n
    cdef uint64_t state
    cdef uint64_t[4] lanes
    cdef int i
    if n >= STRIPE_BYTES:
        lanes[0] = salt + PRIME_1 + PRIME_2
        lanes[1] = salt + PRIME_2
        lanes[2] = salt
        lanes[3] = salt - PRIME_1
        while left >= STRIPE_BYTES:
            for i in range(4):
                lanes[i] = mix_lane(lanes[i], read_8(at + 8 * i))
            at += STRIPE_BYTES
            left -= STRIPE_BYTES
        state = rotate(lanes[0], 1) + rotate(lanes[1], 7) + rotate(lanes[2], 12) + rotate(lanes[3], 18)
        for i in range(4):
            state = (state ^ mix_lane(0, lanes[i])) * PRIME_1 + PRIME_4
    else:
        state = salt + PRIME_5
    state += n
    return avalanche(mix_tail(state, at, left))


cdef inline uint64_t mix_tail(uint64_t state, const uint8_t* at, size_t left) noexcept nogil:
    # The last 0..31 bytes: by eights, then a four, then one by one.
    while left >= 8:
        state = rotate(state ^ mix_lane(0, read_8(at)), 27) * PRIME_1 + PRIME_4
        at += 8
        left -= 8
    if left >= 4:
        state = rotate(state ^ (read_4(at) * PRIME_1), 23) * PRIME_2 + PRIME_3
        at += 4
        left -= 4
    while left > 0:
        state = rotate(state ^ (at[0] * PRIME_5), 11) * PRIME_1
        at += 1
        left -= 1
    return state


cdef inline uint64_t avalanche(uint64_t state) noexcept nogil:
    state = (state ^ (state >> 33)) * PRIME_2
    state = (state ^ (state >> 29)) * PRIME_3
    return state ^ (state >> 32)


cdef inline uint64_t mix_lane(uint64_t lane, uint64_t word) noexcept nogil:
    return rotate(lane + word * PRIME_2, 31) * PRIME_1


cdef inline uint64_t rotate(uint64_t x, int bits) noexcept nogil:
    return (x << bits) | (x >> (64 - bits))


cdef inline uint64_t read_8(const uint8_t* at) noexcept nogil:
    # Little-endian, as every machine we build for; memcpy because keys lie at any alignment.
    cdef uint64_t word
    memcpy(&word, at, 8)
    return word


cdef inline uint64_t read_4(const uint8_t* at) noexcept nogil:
    cdef uint32_t word
    memcpy(&word, at, 4)
    return word


def hash_key(const uint8_t[::1] key not None, uint64_t salt):
    return key_hash(&key[0] if key.shape[0] else NULL, key.shape[0], salt)
