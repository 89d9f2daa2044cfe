# Memory for texts and lists that a run makes: taken piece by piece, given back all at once. Bounded by `limit`.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cdef enum:
    ARENA_CHUNK_BYTES = 4096           # of an ordinary chunk; a larger text has one of its own

cdef struct ArenaChunk:
    ArenaChunk* older
    size_t used
    size_t room                        # bytes behind this header

cdef struct Arena:                     # between arena_open and arena_free, both called by whoever has it
    ArenaChunk* newest                 # owned
    size_t taken                       # bytes of all chunks
    size_t limit                       # that `taken` may reach
    bint refused                       # since it was emptied: there was no memory, or the limit did not let it have any


cdef inline void arena_open(Arena* arena, size_t limit) noexcept nogil:
    memset(arena, 0, sizeof(Arena))
    arena.limit = limit


# `n` bytes, unaligned, valid until arena_free. NULL = out of memory, or past the limit.
cdef inline uint8_t* arena_take(Arena* arena, size_t n) noexcept nogil:
    cdef ArenaChunk* chunk = arena.newest
    cdef uint8_t* at
    cdef size_t room = n if n > ARENA_CHUNK_BYTES else ARENA_CHUNK_BYTES
    if chunk == NULL or chunk.room - chunk.used < n:
        if room > arena.limit or arena.taken > arena.limit - room:
            arena.refused = True
            return NULL
        chunk = <ArenaChunk*>malloc(sizeof(ArenaChunk) + room)
        if chunk == NULL:
            arena.refused = True
            return NULL
        chunk.older = arena.newest
        chunk.used = 0
        chunk.room = room
        arena.newest = chunk
        arena.taken += room
    at = <uint8_t*>(chunk + 1) + chunk.used
    chunk.used += n
    return at


# Likewise, for `n` bytes of 8-byte words: aligned to them.
cdef inline void* arena_take_words(Arena* arena, size_t n) noexcept nogil:
    cdef uint8_t* at = arena_take(arena, n + 7)
    return NULL if at == NULL else <void*>((<size_t>at + 7) & ~(<size_t>7))


# Everything that was taken is void; a chunk stays for what comes.
cdef inline void arena_empty(Arena* arena) noexcept nogil:
    cdef ArenaChunk* older
    arena.refused = False
    while arena.newest != NULL and (arena.newest.older != NULL or arena.newest.room > ARENA_CHUNK_BYTES):
        older = arena.newest.older
        arena.taken -= arena.newest.room
        free(arena.newest)
        arena.newest = older
    if arena.newest != NULL:
        arena.newest.used = 0


cdef inline void arena_free(Arena* arena) noexcept nogil:
    cdef ArenaChunk* older
    while arena.newest != NULL:
        older = arena.newest.older
        free(arena.newest)
        arena.newest = older
    arena.taken = 0
