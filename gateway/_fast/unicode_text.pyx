"""Characters as Python knows them, for code without the GIL."""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport SIZE_MAX
from libc.stdlib cimport malloc
from libc.string cimport memchr, memcmp, memset

import unicodedata

from gateway._fast.text_arena cimport arena_free, arena_open, arena_take

cdef extern from "Python.h":
    bint Py_UNICODE_ISALNUM(uint32_t code) noexcept nogil
    bint Py_UNICODE_ISSPACE(uint32_t code) noexcept nogil

cdef enum:
    PAGE_SIZE = 1 << PAGE_BITS
    CODE_SIGMA = 0x3A3                  # Σ
    MADE_SIZE_MAX = 63                  # bytes that one character becomes at most; U+FDFA's 33 under NFKD are the most

# Python's pages of characters: planes 4 to 13 have none, 15 and 16 only private ones, which have no case, no accents and
# are neither words nor space. tests/fast/test_unicode_text.py asks of all of them.
PAGES_WITH_CHARACTERS = (*range(0x400), *range(0xE00, 0xF00))
PAGES_OF_SURROGATES = range(0xD8, 0xE0)

TEXT_LIMIT = TEXT_BYTES_MAX


# --- the tables


cdef uint16_t* flag_pages = NULL        # of the process, never freed
cdef uint8_t* flags = NULL


cdef class PagePool:
    # Pages of a table, each kind stored once.
    cdef dict numbers
    cdef list pages

    def __cinit__(self):
        self.numbers = {}
        self.pages = []

    cdef int number(self, bytes page) except -1:
        found = self.numbers.setdefault(page, len(self.pages))
        if found == len(self.pages):
            self.pages.append(page)
        return found


cdef str page_text(int page):
    return "".join([chr(code) for code in range(page * PAGE_SIZE, (page + 1) * PAGE_SIZE)])


cdef int find_case_flags(str text, uint8_t* found) except -1:
    # Cased, case-ignorable: asked of str.lower by what it makes of a Σ behind each character.
    cdef Py_ssize_t i
    if "ς" not in ("A" + "Σ A".join(text) + "Σ").lower():
        return 0
    for i in range(PAGE_SIZE):
        if (text[i] + "Σ").lower().endswith("ς"):
            found[i] |= IS_CASED
        elif ("A" + text[i] + "Σ").lower().endswith("ς"):
            found[i] |= IS_CASE_IGNORABLE
    return 0


cdef bytes page_flags(int page):
    cdef uint8_t[PAGE_SIZE] found
    cdef uint32_t first = page * PAGE_SIZE
    cdef int i
    memset(found, 0, PAGE_SIZE)
    find_case_flags(page_text(page), found)
    for i in range(PAGE_SIZE):
        if Py_UNICODE_ISALNUM(first + i) or first + i == c"_":
            found[i] |= IS_WORD
        if Py_UNICODE_ISSPACE(first + i):
            found[i] |= IS_SPACE
    return PyBytes_FromStringAndSize(<const char*>found, PAGE_SIZE)


cdef int fill_flags() except -1:
    global flag_pages, flags
    cdef PagePool pool = PagePool()
    cdef uint16_t* numbers = <uint16_t*>malloc(PAGE_COUNT * sizeof(uint16_t))
    cdef bytes filled
    cdef int page
    if numbers == NULL:
        raise MemoryError
    memset(numbers, 0, PAGE_COUNT * sizeof(uint16_t))
    pool.number(bytes(PAGE_SIZE))
    for page in PAGES_WITH_CHARACTERS:
        if page not in PAGES_OF_SURROGATES:
            numbers[page] = pool.number(page_flags(page))
    filled = b"".join(pool.pages)
    flags = <uint8_t*>malloc(PyBytes_GET_SIZE(filled))
    if flags == NULL:
        raise MemoryError
    memcpy(flags, PyBytes_AS_STRING(filled), PyBytes_GET_SIZE(filled))
    flag_pages = numbers
    return 0


def strip_no_accents(str text):
    return text


def strip_accents_unicode(str text):
    return "".join([mark for mark in unicodedata.normalize("NFKD", text) if not unicodedata.combining(mark)])


def strip_accents_ascii(str text):
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


ACCENTS = {None: strip_no_accents, "unicode": strip_accents_unicode, "ascii": strip_accents_ascii}
CASES = {None: str, "lower": str.lower, "upper": str.upper}
MAPS = {}                               # (case, accents) -> CharacterMap: of the process, as there are few


@cython.final
cdef class CharacterMap:
    def __init__(self):
        raise TypeError("character maps are made by CharacterMap.of")

    @staticmethod
    def of(case=None, strip_accents=None):
        cdef CharacterMap made = MAPS.get((case, strip_accents))
        if made is None:
            if strip_accents not in ACCENTS:
                raise ValueError(f"expected strip_accents to be None, 'ascii' or 'unicode', got {strip_accents!r}")
            change, strip = CASES[case], ACCENTS[strip_accents]
            made = CharacterMap.__new__(CharacterMap)
            made.fill(lambda text: strip(change(text)))
            MAPS[case, strip_accents] = made
        return made

    cdef int fill(self, function) except -1:
        cdef PagePool pool = PagePool()
        cdef bytearray made = bytearray()
        cdef int code, page
        if flags == NULL:
            fill_flags()
        self.table.flag_pages = flag_pages
        self.table.flags = flags
        for code in range(128):
            self.table.ascii[code] = ord(function(chr(code)))
        unchanged = b"\xff" * (4 * PAGE_SIZE)
        dropped = bytes(4 * PAGE_SIZE)
        elsewhere = unchanged if function("\U000F0000") else dropped
        for page in range(PAGE_COUNT):
            self.table.pages[page] = pool.number(elsewhere)
        for page in PAGES_WITH_CHARACTERS:
            if page not in PAGES_OF_SURROGATES:
                text = page_text(page)
                becomes = function(text)
                if becomes == text:
                    self.table.pages[page] = pool.number(unchanged)
                elif becomes:
                    self.table.pages[page] = pool.number(page_entries(text, function, made))
                else:
                    self.table.pages[page] = pool.number(dropped)
        self.entries = b"".join(pool.pages)
        self.made = bytes(made)
        self.table.entries = <const uint32_t*>PyBytes_AS_STRING(self.entries)
        self.table.made = <const uint8_t*>PyBytes_AS_STRING(self.made)
        self.table.lowers_sigma = function("Σ") == "σ" and function("AΣ").endswith("ς")
        return 0

    # --- for tests, and for Python's callers

    def map(self, text):
        cdef Arena arena
        cdef Span span = span_of(text)
        cdef Span result
        cdef int status
        arena_open(&arena, SIZE_MAX)
        with nogil:
            status = map_text(&self.table, &span, &arena, &result)
        return answer(status, &result, &arena)

    def strip(self, text, characters=None):
        cdef Arena arena
        cdef Span span = span_of(text)
        cdef bytes encoded = b"" if characters is None else characters.encode()
        cdef Span stripped = span_of(encoded)
        cdef Span result
        arena_open(&arena, SIZE_MAX)
        status = strip_text(&self.table, NULL if characters is None else &stripped, &span, &result)
        return answer(status, &result, &arena)

    def flags(self, int code):
        return flags_of(&self.table, code) if 0 <= code < 0x110000 else 0


cdef bytes page_entries(str text, function, bytearray made):
    cdef uint32_t[PAGE_SIZE] entries
    cdef Py_ssize_t i
    for i in range(PAGE_SIZE):
        becomes = function(text[i])
        if becomes == text[i]:
            entries[i] = UNCHANGED
            continue
        encoded = becomes.encode()
        if len(encoded) > MADE_SIZE_MAX or len(made) >= 1 << 25:
            raise ValueError(f"{text[i]!r} becomes more than the table has room for")
        # What is dropped has entry 0 wherever it stands, so that pages of nothing else are one page.
        entries[i] = <uint32_t>(len(made) * 64 + len(encoded)) if encoded else 0
        made += encoded
    return PyBytes_FromStringAndSize(<const char*>entries, sizeof(entries))


# --- mapping


cdef int64_t mapped_size(const CharacterTable* table, const Span* text, bint* changes) noexcept nogil:
    cdef const uint8_t* at = text.at
    cdef const uint8_t* end = text.at + text.n
    cdef uint32_t code = 0
    cdef uint32_t entry
    cdef size_t size
    cdef int64_t total = 0
    changes[0] = False
    while at < end:
        if at[0] < 0x80:
            changes[0] |= table.ascii[at[0]] != at[0]
            at += 1
            total += 1
            continue
        size = decode_character(at, end, &code)
        if size == 0:
            return -1
        at += size
        entry = entry_of(table, code)
        if entry == UNCHANGED:
            total += size
        else:
            total += entry & 63
            changes[0] = True
    return total


cdef void write_mapped(const CharacterTable* table, const Span* text, uint8_t* to) noexcept nogil:
    cdef const uint8_t* at = text.at
    cdef const uint8_t* end = text.at + text.n
    cdef uint32_t code = 0
    cdef uint32_t entry
    cdef size_t size
    while at < end:
        if at[0] < 0x80:
            to[0] = table.ascii[at[0]]
            at += 1
            to += 1
            continue
        size = decode_character(at, end, &code)
        entry = entry_of(table, code)
        if entry == UNCHANGED:
            memcpy(to, at, size)
            to += size
        elif code == CODE_SIGMA and table.lowers_sigma:
            to[0] = 0xCF
            to[1] = 0x82 if is_final_sigma(table, text, at) else 0x83
            to += 2
        else:
            memcpy(to, table.made + (entry >> 6), entry & 63)
            to += entry & 63
        at += size


cdef bint is_final_sigma(const CharacterTable* table, const Span* text, const uint8_t* at) noexcept nogil:
    # Unicode's Final_Sigma (section 3.13): behind a cased character and not in front of one, case-ignorable ones apart.
    cdef const uint8_t* end = text.at + text.n
    cdef const uint8_t* other = at
    cdef uint32_t code = 0
    cdef uint8_t found = IS_CASE_IGNORABLE
    while other > text.at and found & IS_CASE_IGNORABLE:
        other = character_before(other)
        decode_character(other, end, &code)
        found = flags_of(table, code)
    if not found & IS_CASED:
        return False
    other = at + 2
    found = IS_CASE_IGNORABLE
    while other < end and found & IS_CASE_IGNORABLE:
        other += decode_character(other, end, &code)
        found = flags_of(table, code)
    return not found & IS_CASED


# --- the string steps


cdef int map_text(const CharacterTable* table, const Span* text, Arena* arena, Span* result) noexcept nogil:
    cdef bint changes
    cdef int64_t size
    cdef uint8_t* to
    if text.n > TEXT_BYTES_MAX:
        return TEXT_TOO_LONG
    size = mapped_size(table, text, &changes)
    if size < 0:
        return TEXT_NOT_UTF8
    if not changes:
        result[0] = text[0]
        return TEXT_OK
    to = arena_take(arena, size)
    if to == NULL:
        return TEXT_NO_MEMORY
    write_mapped(table, text, to)
    result.at = to
    result.n = size
    return TEXT_OK


cdef inline bint is_stripped(const CharacterTable* table, const Span* stripped, uint32_t code) noexcept nogil:
    cdef const uint8_t* at
    cdef const uint8_t* end
    cdef uint32_t other = 0
    if stripped == NULL:
        return flags_of(table, code) & IS_SPACE != 0
    at = stripped.at
    end = stripped.at + stripped.n
    while at < end:
        at += decode_character(at, end, &other)
        if other == code:
            return True
    return False


cdef int strip_text(
    const CharacterTable* table, const Span* stripped, const Span* text, Span* result
) noexcept nogil:
    cdef const uint8_t* start = text.at
    cdef const uint8_t* end = text.at + text.n
    cdef const uint8_t* last
    cdef uint32_t code = 0
    cdef size_t size
    cdef int64_t length
    cdef int status = text_length(text, &length)
    if status != TEXT_OK:
        return status
    while start < end:
        size = decode_character(start, end, &code)
        if not is_stripped(table, stripped, code):
            break
        start += size
    while end > start:
        last = character_before(end)
        decode_character(last, end, &code)
        if not is_stripped(table, stripped, code):
            break
        end = last
    result.at = start
    result.n = end - start
    return TEXT_OK


cdef int text_length(const Span* text, int64_t* length) noexcept nogil:
    cdef const uint8_t* at = text.at
    cdef const uint8_t* end = text.at + text.n
    cdef uint32_t code = 0
    cdef size_t size
    length[0] = 0
    if text.n > TEXT_BYTES_MAX:
        return TEXT_TOO_LONG
    while at < end:
        size = ascii_eights(at, end)
        length[0] += size
        at += size
        if at == end:
            break
        size = decode_character(at, end, &code)
        if size == 0:
            return TEXT_NOT_UTF8
        at += size
        length[0] += 1
    return TEXT_OK


cdef inline const uint8_t* find_bytes(const uint8_t* at, const uint8_t* end, const Span* what) noexcept nogil:
    # Where `what` (not empty) is next, NULL = nowhere. A character of UTF-8 never begins inside another one.
    while <size_t>(end - at) >= what.n:
        at = <const uint8_t*>memchr(at, what.at[0], <size_t>(end - at) - what.n + 1)
        if at == NULL or memcmp(at, what.at, what.n) == 0:
            return at
        at += 1
    return NULL


cdef int replace_text(const Span* old, const Span* new, const Span* text, Arena* arena, Span* result) noexcept nogil:
    cdef const uint8_t* at = text.at
    cdef const uint8_t* end = text.at + text.n
    cdef const uint8_t* found
    cdef uint8_t* to
    cdef size_t count = 0
    cdef int64_t length
    cdef int status = text_length(text, &length)
    if status != TEXT_OK:
        return status
    found = find_bytes(at, end, old)
    while found != NULL:
        count += 1
        found = find_bytes(found + old.n, end, old)
    if count == 0:
        result[0] = text[0]
        return TEXT_OK
    result.n = text.n - count * old.n
    if new.n and count > (<size_t>TEXT_BYTES_MAX - result.n) // new.n:
        return TEXT_TOO_LONG
    result.n += count * new.n
    to = arena_take(arena, result.n)
    if to == NULL:
        return TEXT_NO_MEMORY
    result.at = to
    while count:
        found = find_bytes(at, end, old)
        memcpy(to, at, found - at)
        to += found - at
        memcpy(to, new.at, new.n)
        to += new.n
        at = found + old.n
        count -= 1
    memcpy(to, at, end - at)
    return TEXT_OK


# --- for Python's callers


cdef answer(int status, const Span* result, Arena* arena):
    # The result as bytes, or the status where there is none. Frees the arena.
    try:
        return PyBytes_FromStringAndSize(<const char*>result.at, result.n) if status == TEXT_OK else TextStatus(status)
    finally:
        arena_free(arena)


def length(bytes text):
    cdef Span span = span_of(text)
    cdef int64_t characters
    cdef int status = text_length(&span, &characters)
    return characters if status == TEXT_OK else TextStatus(status)


def replace(bytes text, bytes old, bytes new, size_t limit=SIZE_MAX):
    cdef Arena arena
    cdef Span span = span_of(text)
    cdef Span old_span = span_of(old)
    cdef Span new_span = span_of(new)
    cdef Span result
    cdef int status
    if not old:
        raise ValueError("expected a text to replace, got the empty one")
    arena_open(&arena, limit)
    with nogil:
        status = replace_text(&old_span, &new_span, &span, &arena, &result)
    return answer(status, &result, &arena)
