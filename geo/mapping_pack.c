/* SPDX-License-Identifier: Apache-2.0
 *
 * mapping_pack.c - DEFLATE for rasters of few, large, flat patches. Declared in mapping_pack.h.
 *
 * A map of a county at half a metre is gigabytes of ground between buildings: prob.tif of 20000 x 20000 pixels is 8 GB
 * of bytes that a general compressor has to see one by one (451 MB/s with zlib's fastest level, 21 s in all) only to
 * find that they repeat. Where they repeat is known here before they are bytes: pixels with the same number are equal.
 * So the LZ77 matches are read off the numbers and the bytes of a run never exist:
 *
 *   as the pixel before   distance: one record; the ground, if it repeats every 4 bytes (a NaN a band), or 1: that
 *   as the row above      distance: one row of the tile
 *   neither               the record's bytes, as literals
 *
 * The Huffman code is one for all tiles, so that nothing is counted: a match of 258 bytes costs 1 bit, a ground distance
 * 1 bit, the others 2, every other symbol 9 or 10. Adler-32 of a run has a closed form. RFC 1951 sections 3.2.3 to
 * 3.2.7, RFC 1950 section 2.2; zlib's inflate is what the tests hold it to. One thread a pack. */
#include "geo/mapping_pack.h"

#include "models/base/mem.h"
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    N_SYMBOLS = 286,
    N_DISTANCES = 30,
    N_NINE = 227, /* symbols of 9 bits beside the one of 1 bit; the other 58 have 10: the code is complete */
    END_OF_BLOCK = 256,
    LONGEST = 285,
    MATCH_MIN = 3,
    MATCH_MAX = 258,
    ADLER_BASE = 65521
};

enum { GROUND, BEFORE, ABOVE, N_REACHES };

struct code {
    uint32_t bits; /* first bit lowest */
    int n;
};

struct pack {
    int width, height, size;
    const uint8_t *records;
    struct code symbol[N_SYMBOLS], match[MATCH_MAX + 1], reach[N_REACHES];
    int ground_period;
    uint8_t *out;
    size_t room, n;
    uint64_t pending; /* bits not written yet, first lowest */
    int n_pending;
};

/* ---- bits */

static void put(struct pack *p, struct code c)
{
    p->pending |= (uint64_t)c.bits << p->n_pending;
    p->n_pending += c.n;
    while (p->n_pending >= 8) {
        p->out[p->n++] = (uint8_t)p->pending;
        p->pending >>= 8;
        p->n_pending -= 8;
    }
}

static uint32_t reversed(uint32_t v, int n)
{
    uint32_t r = 0;
    for (int i = 0; i < n; i++)
        r |= (v >> i & 1) << (n - 1 - i);
    return r;
}

/* Canonical codes from their lengths (RFC 1951, 3.2.2), ready to be put. */
static void assign(const uint8_t *length, int n, struct code *out)
{
    uint32_t code = 0;
    for (int bits = 1; bits <= 15; bits++, code <<= 1)
        for (int i = 0; i < n; i++)
            if (length[i] == bits)
                out[i] = (struct code){reversed(code++, bits), bits};
}

/* ---- the code */

/* Literals that maps hold most (all of them nearly) come first among the 9-bit symbols. */
static void symbol_lengths(uint8_t length[N_SYMBOLS])
{
    int nine = N_NINE;
    memset(length, 10, N_SYMBOLS);
    length[LONGEST] = 1;
    for (int s = END_OF_BLOCK; s < LONGEST; s++, nine--)
        length[s] = 9;
    for (int s = 0; s < END_OF_BLOCK && nine > 0; s++, nine--)
        length[s] = 9;
}

/* Length of a match -> symbol and extra bits (3.2.5). */
static void match_codes(struct pack *p)
{
    static const uint8_t extra[28] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2,
                                      2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5};
    int length = MATCH_MIN;
    for (int k = 0; k < 28; k++)
        for (uint32_t x = 0; x < 1u << extra[k] && length < MATCH_MAX; x++, length++) {
            struct code c = p->symbol[257 + k];
            p->match[length] = (struct code){c.bits | x << c.n, c.n + extra[k]};
        }
    p->match[MATCH_MAX] = p->symbol[LONGEST];
}

static int distance_symbol(int distance, uint32_t *extra, int *n_extra)
{
    int first = 1, s = 0;
    for (;; s++) {
        *n_extra = s < 4 ? 0 : s / 2 - 1;
        if (distance < first + (1 << *n_extra))
            break;
        first += 1 << *n_extra;
    }
    *extra = (uint32_t)(distance - first);
    return s;
}

/* Writes the header of the one block and fills the tables; distances that coincide share a code. */
static void begin_block(struct pack *p)
{
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t meta[19] = {[9] = 1, [10] = 2, [0] = 3, [1] = 4, [2] = 4}; /* lengths that occur */
    uint8_t length[N_SYMBOLS], far[N_DISTANCES] = {0};
    struct code meta_code[19] = {0}, far_code[N_DISTANCES] = {0};
    const int distance[N_REACHES] = {p->ground_period, p->size, p->width * p->size};
    uint32_t extra[N_REACHES];
    int n_extra[N_REACHES], s[N_REACHES], spare = 0;
    for (int k = 0; k < N_REACHES; k++)
        s[k] = distance_symbol(distance[k], &extra[k], &n_extra[k]);
    /* 1 + 2 + 2 bits; where two coincide, the spare code goes to a distance that never occurs */
    while (spare == s[GROUND] || spare == s[BEFORE] || spare == s[ABOVE])
        spare++;
    far[s[ABOVE]] = 2;
    far[s[BEFORE]] = 2;
    far[s[GROUND]] = 1;
    if (s[BEFORE] == s[GROUND] || s[BEFORE] == s[ABOVE])
        far[spare] = 2;
    symbol_lengths(length);
    assign(meta, 19, meta_code);
    assign(length, N_SYMBOLS, p->symbol);
    assign(far, N_DISTANCES, far_code);
    match_codes(p);
    for (int k = 0; k < N_REACHES; k++)
        p->reach[k] =
            (struct code){far_code[s[k]].bits | extra[k] << far_code[s[k]].n, far_code[s[k]].n + n_extra[k]};
    put(p, (struct code){1, 1}); /* the last block, */
    put(p, (struct code){2, 2}); /* with a code of its own */
    put(p, (struct code){N_SYMBOLS - 257, 5});
    put(p, (struct code){N_DISTANCES - 1, 5});
    put(p, (struct code){19 - 4, 4});
    for (int i = 0; i < 19; i++)
        put(p, (struct code){meta[order[i]], 3});
    for (int i = 0; i < N_SYMBOLS; i++)
        put(p, meta_code[length[i]]);
    for (int i = 0; i < N_DISTANCES; i++)
        put(p, meta_code[far[i]]);
}

struct pack *pack_create(int width, int height, const uint8_t *records, int size, struct err *e)
{
    struct pack *p = mem_array(1, sizeof *p, "a raster tile", e);
    if (!p)
        return NULL;
    assert(size >= 1 && size <= 64 && width >= 1 && height >= 1 && width * size <= 32768 &&
           width * size >= MATCH_MIN);
    *p = (struct pack){
        .width = width, .height = height, .size = size, .records = records, .ground_period = size};
    for (int period = 4; period >= 1; period -= 3) {
        bool repeats = size % period == 0;
        for (int i = period; i < size; i++)
            repeats = repeats && records[i] == records[i - period];
        if (repeats)
            p->ground_period = period;
    }
    return p;
}

void pack_free(struct pack *p)
{
    if (!p)
        return;
    free(p->out);
    free(p);
}

/* ---- the tile */

static void put_literals(struct pack *p, const uint8_t *bytes, int n)
{
    for (int i = 0; i < n; i++)
        put(p, p->symbol[bytes[i]]);
}

/* A match of n bytes, n 0 or at least MATCH_MIN, in pieces none of which is too short. */
static void put_match(struct pack *p, int n, int reach)
{
    while (n > 0) {
        int here = n <= MATCH_MAX ? n : n - MATCH_MAX < MATCH_MIN ? MATCH_MAX - MATCH_MIN : MATCH_MAX;
        put(p, p->match[here]);
        put(p, p->reach[reach]);
        n -= here;
    }
}

/* n more pixels as the one before, whose number is `index`. What is too short for a match is literal. */
static void put_run(struct pack *p, int32_t index, int n)
{
    const uint8_t *record = p->records + (size_t)index * (size_t)p->size;
    if (n * p->size >= MATCH_MIN)
        put_match(p, n * p->size, index == 0 ? GROUND : BEFORE);
    else
        for (; n > 0; n--)
            put_literals(p, record, p->size);
}

/* The first pixel of a run, and with ground the rest of it. */
static int put_first(struct pack *p, int32_t index, int run)
{
    const uint8_t *record = p->records + (size_t)index * (size_t)p->size;
    const int rest = run * p->size - p->ground_period;
    if (index == 0 && rest >= MATCH_MIN) {
        put_literals(p, record, p->ground_period);
        put_match(p, rest, GROUND);
        return run;
    }
    put_literals(p, record, p->size);
    return 1;
}

/* Adler-32 over n copies of a record: a is the sum of the bytes, b the sum of all a. */
struct adler {
    uint64_t a, b;
};

static void adler_run(struct adler *sum, const uint8_t *record, int size, uint64_t n)
{
    uint64_t s = 0, w = 0, k = (uint64_t)size;
    for (int i = 0; i < size; i++) {
        s += record[i];
        w += (k - (uint64_t)i) * record[i];
    }
    sum->b = (sum->b + n * k * sum->a + n * w + k * s * (n * (n - 1) / 2 % ADLER_BASE)) % ADLER_BASE;
    sum->a = (sum->a + n * s) % ADLER_BASE;
}

/* Appends what was summed from zero over n bytes. */
static void adler_append(struct adler *sum, struct adler part, uint64_t n)
{
    sum->b = (sum->b + n * sum->a + part.b) % ADLER_BASE;
    sum->a = (sum->a + part.a) % ADLER_BASE;
}

static struct adler adler_row(const struct pack *p, const int32_t *row)
{
    struct adler sum = {0};
    for (int x = 0, end; x < p->width; x = end) {
        for (end = x + 1; end < p->width && row[end] == row[x]; end++)
            ;
        adler_run(&sum, p->records + (size_t)row[x] * (size_t)p->size, p->size, (uint64_t)(end - x));
    }
    return sum;
}

/* A row's symbols: which pixels are as the one before, which as those above. */
static void put_row(struct pack *p, const int32_t *row, const int32_t *above)
{
    const int w = p->width;
    for (int x = 0; x < w;) {
        int run = x, copy = x;
        while (run < w && row[run] == row[x])
            run++;
        while (above && copy < w && row[copy] == above[copy])
            copy++;
        const bool goes_on = x > 0 ? row[x - 1] == row[x] : above && above[w - 1] == row[x];
        if (copy > run && (copy - x) * p->size >= MATCH_MIN) {
            put_match(p, (copy - x) * p->size, ABOVE);
            x = copy;
        } else if (goes_on) {
            put_run(p, row[x], run - x);
            x = run;
        } else if (copy > x && (copy - x) * p->size >= MATCH_MIN) {
            put_match(p, (copy - x) * p->size, ABOVE);
            x = copy;
        } else {
            x += put_first(p, row[x], run - x);
        }
    }
}

const uint8_t *pack_tile(struct pack *p, const int32_t *index, size_t *n, struct err *e)
{
    /* The dearest byte costs 10 bits, the shortest match 3 bytes in at most 10 + 2 + 13. */
    const size_t most = (size_t)p->width * (size_t)p->height * (size_t)p->size * 5 / 4 + 512;
    if (!p->out && !mem_grow(&p->out, most, 1, "a raster tile", e))
        return NULL;
    struct adler sum = {1, 0};
    p->n = 0;
    p->pending = 0;
    p->n_pending = 0;
    put(p, (struct code){0x0178, 16}); /* deflate, 32 KiB window; no dictionary, fastest level, check bits */
    begin_block(p);
    struct adler row_sum = {0};
    for (int y = 0; y < p->height; y++) {
        const int32_t *row = index + (size_t)y * (size_t)p->width, *above = y ? row - p->width : NULL;
        const size_t bytes = (size_t)p->width * sizeof *row;
        /* Most rows are all ground, or as the row above. */
        const bool is_even = memcmp(row, row + 1, bytes - sizeof *row) == 0;
        const bool is_same = above && memcmp(row, above, bytes) == 0;
        if (!is_same)
            row_sum = adler_row(p, row);
        adler_append(&sum, row_sum, (uint64_t)p->width * (uint64_t)p->size);
        if (is_same && is_even)
            put_run(p, row[0], p->width);
        else if (is_same)
            put_match(p, p->width * p->size, ABOVE);
        else
            put_row(p, row, above);
    }
    put(p, p->symbol[END_OF_BLOCK]);
    put(p, (struct code){0, (8 - p->n_pending) % 8});
    const uint32_t check = (uint32_t)(sum.b << 16 | sum.a);
    for (int i = 3; i >= 0; i--)
        put(p, (struct code){check >> (8 * i) & 255, 8});
    assert(p->n <= most && p->n_pending == 0);
    *n = p->n;
    return p->out;
}
