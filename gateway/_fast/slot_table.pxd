# The split of one model, ready for the request path: 10,000 slots of 0.01 % each.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    SLOTS = 10000                # == control.traffic.slots.SLOTS
    SLOT_TABLE_VERSIONS = 256    # a slot is one byte

cdef class SlotTable:
    # --- the table, immutable after __init__
    cdef uint8_t[SLOTS] slots    # slot -> index into the snapshot's `order`
    cdef uint8_t[SLOTS] deals    # the same shares in dealing order, see deal_evenly
    cdef uint64_t salt
    cdef readonly int versions   # entries of `order`; every slot is below it

    # --- the dealer, used by the loop thread only
    cdef uint32_t position       # next of `deals`, below SLOTS

    # Index into `order` for a sticky key: its slot depends on the bytes and the salt alone.
    # `key` is borrowed for the call; n == 0 is a key like any other.
    cdef int by_key(self, const uint8_t* key, size_t n) noexcept nogil
    # Index into `order` for a request without a key. Among any n consecutive calls each version gets its
    # share of n to within less than 2, and in any 10,000 exactly its slots.
    cdef int by_counter(self) noexcept nogil
