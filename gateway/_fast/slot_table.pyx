"""The split of one model, ready for the request path: 10,000 slots of 0.01 % each."""
from cython cimport final

from libc.string cimport memcpy

from gateway._fast.key_hash cimport key_hash

cdef extern from *:
    """
    #include <stdint.h>
    /* The slot of a hash: floor(hash / 2^64 * slots). The high half of the product keeps all 64 bits in play
       and needs no division. */
    static inline uint32_t gateway_slot_of_hash(uint64_t hash, uint32_t slots) {
        return (uint32_t)(((unsigned __int128)hash * slots) >> 64);
    }
    """
    uint32_t gateway_slot_of_hash(uint64_t hash, uint32_t slots) noexcept nogil


@final
cdef class SlotTable:
    def __init__(self, const uint8_t[::1] slots not None, uint64_t salt, int versions, uint32_t position=0):
        cdef int i
        if slots.shape[0] != SLOTS:
            raise ValueError(f"a slot table has {SLOTS} slots, got {slots.shape[0]}")
        if not 1 <= versions <= SLOT_TABLE_VERSIONS:
            raise ValueError(f"a slot table serves 1 to {SLOT_TABLE_VERSIONS} versions, got {versions}")
        for i in range(SLOTS):
            if slots[i] >= versions:
                raise ValueError(f"slot {i} names version {slots[i]} of {versions}")
        memcpy(self.slots, &slots[0], SLOTS)
        self.salt = salt
        self.versions = versions
        self.position = position % SLOTS
        with nogil:
            run_deal_evenly(self.slots, versions, self.deals)

    cdef int by_key(self, const uint8_t* key, size_t n) noexcept nogil:
        return self.slots[gateway_slot_of_hash(key_hash(key, n, self.salt), SLOTS)]

    cdef int by_counter(self) noexcept nogil:
        cdef int dealt = self.deals[self.position]
        self.position += 1
        if self.position == SLOTS:
            self.position = 0
        return dealt

    def choose_by_key(self, const uint8_t[::1] key not None):
        return self.by_key(&key[0] if key.shape[0] else NULL, key.shape[0])

    def choose_by_counter(self):
        return self.by_counter()

    def slot_of_key(self, const uint8_t[::1] key not None):
        cdef uint64_t hashed = key_hash(&key[0] if key.shape[0] else NULL, key.shape[0], self.salt)
        return gateway_slot_of_hash(hashed, SLOTS)

    @property
    def next_position(self):
        return self.position


cdef void run_deal_evenly(const uint8_t* slots, int versions, uint8_t* deals) noexcept nogil:
    # The quota method of Balinski and Young (1975): at step t, among the versions still below their quota
    # (dealt < t * share), the one whose next deal falls due first ((dealt + 1) / share least) is dealt.
    # After every step each version has its exact share rounded down or up, so a stretch between two steps
    # is off by less than 2, and SLOTS steps deal each version exactly its slots. Integers throughout.
    cdef uint32_t[SLOT_TABLE_VERSIONS] share
    cdef uint32_t[SLOT_TABLE_VERSIONS] dealt
    cdef int step, version, due
    for version in range(versions):
        share[version] = 0
        dealt[version] = 0
    for step in range(SLOTS):
        share[slots[step]] += 1
    for step in range(SLOTS):
        due = -1
        for version in range(versions):
            if dealt[version] * SLOTS >= (<uint32_t>step + 1) * share[version]:
                continue         # at its quota already; also every version without a slot
            if due < 0 or (dealt[version] + 1) * share[due] < (dealt[due] + 1) * share[version]:
                due = version
        deals[step] = due        # some version is below its quota, since the quotas of step t add up to t
        dealt[due] += 1
