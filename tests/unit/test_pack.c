/* SPDX-License-Identifier: Apache-2.0
 * test_pack.c - what mapping_pack.c makes must be a zlib stream of just the tile's bytes: zlib says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "geo/mapping_pack.h"
#include "models/base/rng.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Packs a tile, inflates it, compares with the bytes laid out one by one; returns the stream's length. */
static size_t round_trip(int w, int h, const uint8_t *records, int size, const int32_t *index)
{
    struct err e = {0};
    struct pack *p = pack_create(w, h, records, size, &e);
    assert_non_null(p);
    size_t n = (size_t)w * (size_t)h, n_packed = 0;
    uLongf n_out = (uLongf)(n * (size_t)size + 16);
    uint8_t *want = malloc(n * (size_t)size), *got = malloc(n_out);
    for (size_t i = 0; i < n; i++)
        memcpy(want + i * (size_t)size, records + (size_t)index[i] * (size_t)size, (size_t)size);
    for (int again = 0; again < 2; again++) {
        const uint8_t *packed = pack_tile(p, index, &n_packed, &e);
        assert_non_null(packed);
        n_out = (uLongf)(n * (size_t)size + 16);
        assert_int_equal(uncompress(got, &n_out, packed, (uLong)n_packed), Z_OK);
        assert_int_equal(n_out, n * (size_t)size);
        assert_memory_equal(got, want, n * (size_t)size);
    }
    free(want);
    free(got);
    pack_free(p);
    return n_packed;
}

/* Rectangles of random numbers on ground, and noise in one corner. */
static void paint(int32_t *index, int w, int h, int n_records, int n_patches, uint64_t seed)
{
    struct rng r;
    rng_init(&r, seed, RNG_SHUFFLE, 0);
    memset(index, 0, (size_t)w * (size_t)h * sizeof *index);
    for (int k = 0; k < n_patches; k++) {
        int x0 = (int)rng_below(&r, (uint32_t)w), y0 = (int)rng_below(&r, (uint32_t)h);
        int32_t v = (int32_t)rng_below(&r, (uint32_t)n_records);
        for (int y = y0; y < h && y < y0 + 19; y++)
            for (int x = x0 + (y - y0) / 3; x < w && x < x0 + 23 - (y - y0) / 2; x++)
                index[y * w + x] = v;
    }
    for (int y = 0; y < h / 4; y++)
        for (int x = 0; x < w / 4; x++)
            index[y * w + x] = (int32_t)rng_below(&r, (uint32_t)n_records);
}

static void test_round_trip(void **state)
{
    (void)state;
    enum { RECORDS = 300, W = 97, H = 61 };
    uint8_t records[RECORDS * 64];
    int32_t *index = malloc(W * H * sizeof *index);
    static const int sizes[] = {1, 2, 3, 4, 5, 12, 20, 36, 64};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int ground = 0; ground < 3; ground++) {
            struct rng r;
            rng_init(&r, 7 + k, RNG_SHUFFLE, 1);
            for (size_t i = 0; i < sizeof records; i++)
                records[i] = (uint8_t)rng_below(&r, 256);
            for (int i = 0; ground && i < sizes[k]; i++) /* repeats every byte, or every four */
                records[i] = ground == 1 ? 255 : (uint8_t)("\0\0\xc0\x7f"[i % 4]);
            int n_records = sizes[k] == 1 ? 256 : RECORDS;
            for (int patches = 0; patches < 40; patches += 13) {
                paint(index, W, H, n_records, patches, k * 100 + (uint64_t)patches);
                round_trip(W, H, records, sizes[k], index);
            }
        }
    for (int i = 0; i < W * H; i++)
        index[i] = i % RECORDS; /* no pixel like its neighbour: the longest stream */
    for (int i = 0; i < 20; i++)
        for (int k = 0; k < RECORDS; k++)
            records[k * 20 + i] = (uint8_t)(255 - (k + i) % 8);
    round_trip(W, H, records, 20, index);
    free(index);
}

/* Every length of match there is. */
static void test_every_length(void **state)
{
    (void)state;
    uint8_t records[] = {9, 1, 2};
    int32_t index[600];
    for (int n = 1; n <= 600; n++)
        for (int v = 0; v < 2; v++) {
            for (int i = 0; i < 600; i++)
                index[i] = i < n ? v : 2;
            round_trip(600, 1, records, 1, index);
        }
}

/* Ground costs 2 bits for 258 bytes. */
static void test_ground_is_cheap(void **state)
{
    (void)state;
    uint8_t records[20];
    int32_t *index = calloc(512 * 512, sizeof *index);
    for (int i = 0; i < 20; i++)
        records[i] = (uint8_t)("\0\0\xc0\x7f"[i % 4]);
    size_t n = round_trip(512, 512, records, 20, index);
    assert_in_range(n, 100, 8000); /* of 5,242,880 bytes */
    free(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_ground_is_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
