"""Texts to vectors, as scikit-learn's CountVectorizer, TfidfVectorizer and HashingVectorizer make them."""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport fabs, log, sqrt
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove, memset

import numpy

from gateway._fast.category_table cimport find_text, hashed_bucket
from gateway._fast.text_pattern cimport Match, find_match, free_pattern_scratch
from gateway._fast.unicode_text cimport (
    IS_SPACE, IS_WORD, TEXT_BYTES_MAX, TEXT_NO_MEMORY, TEXT_NOT_UTF8, TEXT_OK, TEXT_TOO_LONG,
    character_size, decode_character, flags_of, mapped_size, span_of, write_mapped,
)
from gateway._fast.vocabulary cimport Vocabulary

from gateway._fast.unicode_text import TextStatus

cdef enum:
    NGRAM_MAX = 64                     # so that a count stays below 2**31 in a text of any length
    HITS_BEFORE_MERGE = 8192           # more are merged by column before more room is made for them
    SORTED_BY_INSERTION = 32           # hits


# --- room. Each block grows by doubling; a status, for `noexcept nogil`.


cdef int make_room(void** block, size_t* room, size_t needed, size_t item) noexcept nogil:
    cdef size_t wanted = room[0] * 2
    cdef void* grown
    if needed <= room[0]:
        return TEXT_OK
    wanted = needed if wanted < needed else wanted
    wanted = 64 if wanted < 64 else wanted
    grown = realloc(block[0], wanted * item)
    if grown == NULL:
        return TEXT_NO_MEMORY
    block[0] = grown
    room[0] = wanted
    return TEXT_OK


cdef int make_hit_room(TermScratch* scratch) noexcept nogil:
    cdef size_t room = scratch.hit_room
    cdef int status = make_room(<void**>&scratch.sorted_hits, &room, room + 1, sizeof(uint64_t))
    if status == TEXT_OK:
        status = make_room(<void**>&scratch.hits, &scratch.hit_room, scratch.hit_room + 1, sizeof(uint64_t))
    return status


cdef int make_vector_room(TermScratch* scratch, size_t count) noexcept nogil:
    cdef size_t room = scratch.vector_room
    cdef int status = make_room(<void**>&scratch.columns, &room, count, sizeof(int32_t))
    if status == TEXT_OK:
        status = make_room(<void**>&scratch.values, &scratch.vector_room, count, sizeof(double))
    return status


cdef void free_scratch(TermScratch* scratch) noexcept nogil:
    free(scratch.prepared)
    free(scratch.joined)
    free(scratch.tokens)
    free(scratch.hits)
    free(scratch.sorted_hits)
    free(scratch.columns)
    free(scratch.values)
    free(scratch.terms)
    free_pattern_scratch(&scratch.pattern)
    memset(scratch, 0, sizeof(TermScratch))


# --- a term: counted at its column, or collected


cdef inline int take_term(const Weighing* weighing, TermScratch* scratch, const uint8_t* at, size_t n) noexcept nogil:
    cdef Span term
    cdef int64_t column
    term.at = at
    term.n = n
    if weighing == NULL:
        return collect_term(scratch, &term)
    if weighing.terms != NULL:
        column = find_text(weighing.terms, &term, -1)
        return TEXT_OK if column < 0 or column >= weighing.width else take_hit(weighing, scratch, column, 1)
    column = hashed_bucket(at, n, weighing.buckets, 0, weighing.signed)
    return take_hit(weighing, scratch, column >> 1, -1 if column & 1 else 1)


cdef int collect_term(TermScratch* scratch, const Span* term) noexcept nogil:
    cdef int status = make_room(<void**>&scratch.terms, &scratch.term_room, scratch.term_count + 1, sizeof(Span))
    if status == TEXT_OK:
        scratch.terms[scratch.term_count] = term[0]
        scratch.term_count += 1
    return status


cdef inline int take_hit(const Weighing* weighing, TermScratch* scratch, int64_t column, int32_t count) noexcept nogil:
    cdef int status
    if scratch.hit_count == scratch.hit_room:
        # A text has many more terms than different ones: what has been counted is merged first.
        if scratch.hit_room >= HITS_BEFORE_MERGE:
            merge_hits(scratch, weighing.width)
        if scratch.hit_count * 2 >= scratch.hit_room:
            status = make_hit_room(scratch)
            if status != TEXT_OK:
                return status
    scratch.hits[scratch.hit_count] = <uint64_t>column << 32 | <uint32_t>count
    scratch.hit_count += 1
    return TEXT_OK


cdef void merge_hits(TermScratch* scratch, int64_t width) noexcept nogil:
    # One hit a column, in ascending order.
    cdef size_t merged = 0
    cdef size_t i
    cdef uint64_t hit
    sort_hits(scratch, width)
    for i in range(scratch.hit_count):
        hit = scratch.hits[i]
        if merged and scratch.hits[merged - 1] >> 32 == hit >> 32:
            hit = (hit >> 32) << 32 | (<uint32_t>hit + <uint32_t>scratch.hits[merged - 1])
            merged -= 1
        scratch.hits[merged] = hit
        merged += 1
    scratch.hit_count = merged


cdef void sort_hits(TermScratch* scratch, int64_t width) noexcept nogil:
    cdef uint64_t hit
    cdef int64_t place
    cdef int64_t i
    cdef int shift = 32
    if scratch.hit_count > SORTED_BY_INSERTION:
        while width > 0:
            sort_by_byte(scratch, shift)
            shift += 8
            width >>= 8
        return
    for i in range(1, <int64_t>scratch.hit_count):
        hit = scratch.hits[i]
        place = i
        while place > 0 and scratch.hits[place - 1] > hit:
            scratch.hits[place] = scratch.hits[place - 1]
            place -= 1
        scratch.hits[place] = hit


cdef void sort_by_byte(TermScratch* scratch, int shift) noexcept nogil:
    # A pass of a radix sort from the lowest byte on: stable, so the passes before it stay in force.
    cdef size_t[256] places
    cdef size_t before = 0
    cdef size_t count, i
    memset(places, 0, sizeof(places))
    for i in range(scratch.hit_count):
        places[scratch.hits[i] >> shift & 255] += 1
    for i in range(256):
        count = places[i]
        places[i] = before
        before += count
    for i in range(scratch.hit_count):
        scratch.sorted_hits[places[scratch.hits[i] >> shift & 255]] = scratch.hits[i]
        places[scratch.hits[i] >> shift & 255] += 1
    scratch.hits, scratch.sorted_hits = scratch.sorted_hits, scratch.hits


# --- a text, prepared and cut into tokens


cdef int prepare(const Analysis* analysis, const Span* text, TermScratch* scratch, size_t* n) noexcept nogil:
    # A copy in any case: joining tokens and shortening space write into it.
    cdef bint changes
    cdef int64_t size
    cdef int status
    if text.n > TEXT_BYTES_MAX:
        return TEXT_TOO_LONG
    size = mapped_size(analysis.characters, text, &changes)
    if size < 0:
        return TEXT_NOT_UTF8
    status = make_room(<void**>&scratch.prepared, &scratch.prepared_room, size + 1, 1)
    if status == TEXT_OK:
        if changes:
            write_mapped(analysis.characters, text, scratch.prepared)
        elif text.n:                             # an empty text may have no memory
            memcpy(scratch.prepared, text.at, text.n)
        n[0] = size
    return status


cdef inline int take_token(
    const Analysis* analysis, TermScratch* scratch, const uint8_t* at, size_t n, uint8_t** to
) noexcept nogil:
    # Unless it is a stop word. Where tokens are joined, they are moved to `to`, single spaces between them.
    cdef Span token
    cdef int status
    token.at = at
    token.n = n
    if analysis.stop_words != NULL and find_text(analysis.stop_words, &token, -1) >= 0:
        return TEXT_OK
    status = make_room(<void**>&scratch.tokens, &scratch.token_room, scratch.token_count + 1, sizeof(Span))
    if status != TEXT_OK:
        return status
    if analysis.longest > 1:
        if scratch.token_count:
            to[0][0] = c" "
            to[0] += 1
        memmove(to[0], at, n)
        token.at = to[0]
        to[0] += n
    scratch.tokens[scratch.token_count] = token
    scratch.token_count += 1
    return TEXT_OK


cdef int cut_words(const Analysis* analysis, TermScratch* scratch, size_t n) noexcept nogil:
    # Runs of word characters. Joined in place: in front of each but the first there was at least one other character.
    cdef const CharacterTable* table = analysis.characters
    cdef const uint8_t* latin = table.flags + (<size_t>table.flag_pages[0] << 8)
    cdef uint8_t* to = scratch.prepared
    cdef const uint8_t* at = scratch.prepared
    cdef const uint8_t* end = at + n
    cdef const uint8_t* start
    cdef uint32_t code = 0
    cdef size_t size
    cdef int32_t length
    cdef int status
    while at < end:
        start = at
        length = 0
        size = 0                                 # of the character behind the word; none at the end
        while at < end:
            if at[0] < 0x80:
                if not latin[at[0]] & IS_WORD:
                    size = 1
                    break
                at += 1
            else:
                size = decode_character(at, end, &code)
                if not flags_of(table, code) & IS_WORD:
                    break
                at += size
                size = 0
            length += 1
        if length >= analysis.word_length:
            status = take_token(analysis, scratch, start, at - start, &to)
            if status != TEXT_OK:
                return status
        at += size
    return TEXT_OK


cdef int cut_matches(const Analysis* analysis, TermScratch* scratch, size_t n) noexcept nogil:
    # What the pattern finds, as re.findall: behind an empty match, the next one is not empty or lies further on.
    cdef Span text
    cdef Match match
    cdef uint8_t* to
    cdef int found
    cdef int status = make_room(<void**>&scratch.joined, &scratch.joined_room, 2 * n + 2, 1)
    if status != TEXT_OK:
        return status
    to = scratch.joined                          # matches do not overlap, and each is followed by one space at most
    text.at = scratch.prepared
    text.n = n
    match.end = 0
    match.start = 1
    while True:
        found = find_match(analysis.pattern, &text, match.end, match.start == match.end, &scratch.pattern, &match)
        if found <= 0:
            return -found
        status = take_token(analysis, scratch, match.text.at, match.text.n, &to)
        if status != TEXT_OK:
            return status


cdef int take_word_terms(const Analysis* analysis, const Weighing* weighing, TermScratch* scratch) noexcept nogil:
    cdef const Span* tokens = scratch.tokens
    cdef const Span* last
    cdef size_t size, i
    cdef int status
    for size in range(<size_t>analysis.shortest, <size_t>analysis.longest + 1):
        if size > scratch.token_count:
            break
        for i in range(scratch.token_count - size + 1):
            last = &tokens[i + size - 1]
            status = take_term(weighing, scratch, tokens[i].at, <size_t>(last.at - tokens[i].at) + last.n)
            if status != TEXT_OK:
                return status
    return TEXT_OK


# --- characters


cdef size_t shorten_space(const CharacterTable* table, uint8_t* text, size_t n) noexcept nogil:
    # Two or more characters of space become one space; a single one stays what it is. Returns the new size.
    cdef const uint8_t* at = text
    cdef const uint8_t* end = text + n
    cdef const uint8_t* start
    cdef uint8_t* to = text
    cdef uint32_t code = 0
    cdef size_t size
    while at < end:
        start = at
        size = 0
        while at < end:
            size = decode_character(at, end, &code)
            if not flags_of(table, code) & IS_SPACE:
                break
            at += size
            size = 0
        if at > start + character_size(start[0]):
            to[0] = c" "
            to += 1
        elif at > start:
            memmove(to, start, at - start)
            to += at - start
        memmove(to, at, size)                    # the character behind it; none at the end
        to += size
        at += size
    return to - text


cdef int take_character_terms(
    const Analysis* analysis, const Weighing* weighing, TermScratch* scratch, size_t n
) noexcept nogil:
    cdef const uint8_t* end = scratch.prepared + n
    cdef const uint8_t* first
    cdef const uint8_t* last
    cdef int32_t size, i
    cdef int status
    for size in range(analysis.shortest, analysis.longest + 1):
        first = scratch.prepared
        last = first
        for i in range(size):
            if last == end:
                return TEXT_OK                   # shorter than the n-gram, and than all that come
            last += character_size(last[0])
        while True:
            status = take_term(weighing, scratch, first, last - first)
            if status != TEXT_OK:
                return status
            if last == end:
                break
            first += character_size(first[0])
            last += character_size(last[0])
    return TEXT_OK


cdef int take_terms_in_words(
    const Analysis* analysis, const Weighing* weighing, TermScratch* scratch, size_t n
) noexcept nogil:
    cdef const CharacterTable* table = analysis.characters
    cdef const uint8_t* at = scratch.prepared
    cdef const uint8_t* end = at + n
    cdef const uint8_t* start
    cdef uint8_t* to
    cdef uint32_t code = 0
    cdef size_t size
    # A word has at least one character of its own in front of the next one's, and two spaces are put around it.
    cdef int status = make_room(<void**>&scratch.joined, &scratch.joined_room, 2 * n + 2, 1)
    if status != TEXT_OK:
        return status
    to = scratch.joined
    while at < end:
        start = at
        size = 0
        while at < end:
            size = decode_character(at, end, &code)
            if flags_of(table, code) & IS_SPACE:
                break
            at += size
        if at > start:
            to[0] = c" "
            memmove(to + 1, start, at - start)
            to += 1 + (at - start)
            to[0] = c" "
            to += 1
            status = take_terms_of_word(analysis, weighing, scratch, to - (at - start) - 2, to)
            if status != TEXT_OK:
                return status
        if at < end:
            at += size
    return TEXT_OK


cdef int take_terms_of_word(
    const Analysis* analysis, const Weighing* weighing, TermScratch* scratch, const uint8_t* start, const uint8_t* end
) noexcept nogil:
    # A word that is no longer than the n-gram is one term, and no longer n-gram of it is another.
    cdef const uint8_t* first
    cdef const uint8_t* last
    cdef int32_t size, i
    cdef int status
    for size in range(analysis.shortest, analysis.longest + 1):
        first = start
        last = start
        for i in range(size):
            if last < end:
                last += character_size(last[0])
        status = take_term(weighing, scratch, first, last - first)
        if status != TEXT_OK or last == end:
            return status
        while last < end:
            first += character_size(first[0])
            last += character_size(last[0])
            status = take_term(weighing, scratch, first, last - first)
            if status != TEXT_OK:
                return status
    return TEXT_OK


# --- a text to its terms, to its vector


cdef int analyze(
    const Analysis* analysis, const Weighing* weighing, const Span* text, TermScratch* scratch
) noexcept nogil:
    cdef size_t n = 0
    cdef int status = prepare(analysis, text, scratch, &n)
    scratch.token_count = 0
    scratch.hit_count = 0
    scratch.term_count = 0
    if status != TEXT_OK:
        return status
    if analysis.unit == UNIT_WORDS:
        status = cut_words(analysis, scratch, n) if analysis.pattern == NULL else cut_matches(analysis, scratch, n)
        return status if status != TEXT_OK else take_word_terms(analysis, weighing, scratch)
    n = shorten_space(analysis.characters, scratch.prepared, n)
    if analysis.unit == UNIT_CHARACTERS:
        return take_character_terms(analysis, weighing, scratch, n)
    return take_terms_in_words(analysis, weighing, scratch, n)


cdef int64_t vectorize(const Weighing* weighing, const Span* text, TermScratch* scratch) noexcept nogil:
    cdef int status = analyze(weighing.analysis, weighing, text, scratch)
    if status != TEXT_OK:
        return -status
    merge_hits(scratch, weighing.width)
    status = make_vector_room(scratch, scratch.hit_count)
    if status != TEXT_OK:
        return -status
    weigh(weighing, scratch)
    normalize(weighing.norm, scratch.values, scratch.hit_count)
    return scratch.hit_count


cdef void weigh(const Weighing* weighing, TermScratch* scratch) noexcept nogil:
    # In scikit-learn's order: counts, binary, 1 + ln, times idf.
    cdef int32_t column
    cdef double value
    cdef size_t i
    for i in range(scratch.hit_count):
        column = <int32_t>(scratch.hits[i] >> 32)
        value = 1.0 if weighing.binary else <double><int32_t>scratch.hits[i]
        if weighing.sublinear:
            value = log(value) + 1.0
        if weighing.idf != NULL:
            value *= weighing.idf[column]
        scratch.columns[i] = column
        scratch.values[i] = value


cdef void normalize(int32_t norm, double* values, size_t count) noexcept nogil:
    # Summed in the order of the columns, as scikit-learn sums a row. Nothing but zeros stays so.
    cdef double total = 0.0
    cdef size_t i
    if norm == NORM_NONE:
        return
    for i in range(count):
        total += fabs(values[i]) if norm == NORM_L1 else values[i] * values[i]
    if total == 0.0:
        return
    if norm == NORM_L2:
        total = sqrt(total)
    for i in range(count):
        values[i] /= total


# --- what Python makes of it


@cython.final
cdef class TermAnalyzer:
    def __cinit__(
        self, int unit=UNIT_WORDS, *, bint lowercase=True, strip_accents=None, int word_length=2,
        TextPattern pattern=None, Vocabulary stop_words=None, tuple ngram_range=(1, 1),
    ):
        shortest, longest = ngram_range
        if not 1 <= shortest <= longest <= NGRAM_MAX:
            raise ValueError(f"expected an n-gram range within 1 to {NGRAM_MAX}, got {shortest} to {longest}")
        if word_length < 1:
            raise ValueError(f"expected words of 1 character or more, got {word_length}")
        self.characters = CharacterMap.of("lower" if lowercase else None, strip_accents)
        self.pattern = pattern
        self.stop_words = stop_words
        self.analysis.characters = &self.characters.table
        self.analysis.pattern = NULL if pattern is None else &pattern.pattern
        self.analysis.stop_words = NULL if stop_words is None else &stop_words.table
        self.analysis.unit = unit
        self.analysis.word_length = word_length
        self.analysis.shortest = shortest
        self.analysis.longest = longest

    def terms(self, text):
        cdef TermScratch scratch
        cdef bytes encoded = encoded_text(text)
        cdef Span span = span_of(encoded)
        cdef int status
        cdef size_t i
        memset(&scratch, 0, sizeof(TermScratch))
        try:
            with nogil:
                status = analyze(&self.analysis, NULL, &span, &scratch)
            check(status)
            return [
                PyBytes_FromStringAndSize(<const char*>scratch.terms[i].at, scratch.terms[i].n).decode()
                for i in range(scratch.term_count)
            ]
        finally:
            free_scratch(&scratch)


@cython.final
cdef class TermVectorizer:
    def __cinit__(
        self, TermAnalyzer analyzer not None, *, Vocabulary vocabulary=None, uint32_t buckets=0, bint signed=True,
        bint binary=False, bint sublinear=False, idf=None, int norm=NORM_NONE,
    ):
        if (vocabulary is None) == (buckets == 0):
            raise ValueError("expected a vocabulary or a number of buckets")
        if buckets > 0x7FFFFFFF:
            raise ValueError(f"expected at most 2**31 - 1 buckets, got {buckets}")
        self.analyzer = analyzer
        self.vocabulary = vocabulary
        self.weighing.analysis = &analyzer.analysis
        self.weighing.terms = NULL if vocabulary is None else &vocabulary.table
        self.weighing.buckets = buckets
        self.weighing.signed = signed
        self.weighing.width = buckets if vocabulary is None else vocabulary.size
        self.weighing.binary = binary
        self.weighing.sublinear = sublinear
        self.weighing.norm = norm
        if idf is not None:
            self.idf = numpy.ascontiguousarray(idf, dtype=numpy.float64).tobytes()
            if len(self.idf) != self.weighing.width * <Py_ssize_t>sizeof(double):
                raise ValueError(f"expected {self.weighing.width} weights of terms, got {len(self.idf) // 8}")
            self.weighing.idf = <const double*>PyBytes_AS_STRING(self.idf)

    @property
    def width(self):
        return self.weighing.width

    def vector(self, text):
        cdef TermScratch scratch
        cdef int count
        memset(&scratch, 0, sizeof(TermScratch))
        try:
            count = self.take_row(encoded_text(text), &scratch)
            return [(scratch.columns[i], scratch.values[i]) for i in range(count)]
        finally:
            free_scratch(&scratch)

    def transform(self, texts, dtype=numpy.float64):
        cdef TermScratch scratch
        rows = numpy.zeros((len(texts), self.weighing.width), dtype=dtype)
        memset(&scratch, 0, sizeof(TermScratch))
        try:
            for i in range(len(texts)):
                for k in range(self.take_row(encoded_text(texts[i]), &scratch)):
                    rows[i, scratch.columns[k]] = scratch.values[k]
        finally:
            free_scratch(&scratch)
        return rows

    cdef int take_row(self, bytes text, TermScratch* scratch) except -2:
        cdef Span span = span_of(text)
        cdef int64_t count
        with nogil:
            count = vectorize(&self.weighing, &span, scratch)
        if count < 0:
            check(-count)
        return <int>count


cdef bytes encoded_text(text):
    return text if isinstance(text, bytes) else text.encode()


cdef int check(int status) except -1:
    if status == TEXT_NO_MEMORY:
        raise MemoryError
    if status != TEXT_OK:
        raise TextRefused(TextStatus(status))
    return 0


class TextRefused(ValueError):
    """A text without a vector: ``status`` says why."""

    def __init__(self, status):
        super().__init__(status.name)
        self.status = status
