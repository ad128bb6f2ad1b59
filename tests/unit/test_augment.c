/* SPDX-License-Identifier: Apache-2.0
 *
 * test_augment.c - what a view may never do: move the dates apart, darken what has no data, hide the
 * building, depend on anything but its key, write out of bounds; and each photometric operation against its
 * formula. Pillow's operations have their own file, test_augment_plain.c. */
#include "models/data/augment_ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const struct imageset_layout pair64 = {
    .size = 64, .n_dates = 2, .n_bands = 3, .has_masks = true, .use_footprint = true};

#define assert_near(got, want, tolerance) check_near((double)(got), (double)(want), tolerance, #got, __LINE__)

static void check_near(double got, double want, double tolerance, const char *what, int line)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("line %d: %s is %.9g, wanted %.9g within %g", line, what, got, want, tolerance);
}

static void *need(size_t n, size_t size)
{
    void *p = calloc(n, size);
    assert_non_null(p);
    return p;
}

/* A stored image whose samples are all `v`, whose pixels all have data, with a building of 20 x 16 in the
 * middle. */
static uint8_t *make_pair(const struct imageset_layout *l, int v)
{
    const int n = imageset_stored_channels(l), bands = l->n_dates * l->n_bands;
    uint8_t *px = need((size_t)l->size * l->size, (size_t)n);
    memset(px, v, (size_t)l->size * l->size * n);
    for (int y = 0; l->has_masks && y < l->size; y++)
        for (int x = 0; x < l->size; x++) {
            uint8_t *p = px + (y * l->size + x) * n + bands;
            p[0] = (uint8_t)((1 << l->n_dates) - 1);
            p[1] = abs(2 * x - l->size + 1) < 20 && abs(2 * y - l->size + 1) < 16 ? 255 : 0;
        }
    return px;
}

static struct augment_pair neutral(void)
{
    struct augment_pair d;
    memset(&d, 0, sizeof d);
    d.a[0][0] = d.a[1][1] = 1.0f;
    return d;
}

/* ---- views of every layout: bounds and keys ---- */

static const struct augment_config configs[] = {
    {{32, 1, 3, false, false, false}, true, true, false},
    {{28, 1, 1, false, false, false}, false, true, false},
    {{64, 2, 3, true, true, false}, true, true, false},
    {{64, 2, 3, true, false, false}, true, true, false},
    {{32, 2, 4, true, true, false}, true, true, false},
    {{16, 2, 8, true, true, false}, true, true, false},
    {{12, 1, 3, true, true, false}, true, true, false},
    {{4, 2, 1, true, true, false}, true, true, false},
    {{8, 2, 3, false, false, false}, true, false, false},
    {{8, 1, 5, false, false, false}, true, true, false},
};
enum { N_CONFIGS = sizeof configs / sizeof *configs, CANARY = 64 };

static uint8_t *random_image(const struct imageset_layout *l, uint64_t key)
{
    const int n = imageset_stored_channels(l), bands = l->n_dates * l->n_bands;
    uint8_t *px = make_pair(l, 0);
    struct rng r;
    rng_init(&r, key, RNG_METHOD, 0);
    for (int p = 0; p < l->size * l->size; p++) {
        for (int c = 0; c < bands; c++)
            px[p * n + c] = (uint8_t)rng_below(&r, 256);
        if (l->has_masks && rng_below(&r, 10) == 0)
            px[p * n + bands] = (uint8_t)rng_below(&r, 1u << l->n_dates);
    }
    return px;
}

static void test_bounds_and_keys(void **state)
{
    (void)state;
    for (int k = 0; k < N_CONFIGS; k++) {
        const struct augment_config *c = &configs[k];
        const size_t stored = (size_t)c->layout.size * c->layout.size * imageset_stored_channels(&c->layout);
        const size_t n = (size_t)c->layout.size * c->layout.size * imageset_input_channels(&c->layout);
        const size_t scratch_size = augment_scratch_bytes(c);
        uint8_t *px = random_image(&c->layout, 5), *before = need(stored, 1);
        /* exact heap blocks, so that a sanitizer sees what the canaries do not */
        uint8_t *x_block = need(n * sizeof(float) + 2 * CANARY, 1),
                *scratch = need(scratch_size + 2 * CANARY, 1);
        float *x = (float *)(x_block + CANARY), *again = need(n, sizeof *again),
              *other = need(n, sizeof *other);
        memcpy(before, px, stored);
        for (uint64_t key = 0; key < 300; key++) {
            const enum augment_kind kind = key % 2 ? AUGMENT_STRONG : AUGMENT_WEAK;
            struct rng r;
            memset(x_block, 0xA5, n * sizeof(float) + 2 * CANARY);
            memset(scratch, (int)(key & 255), scratch_size + 2 * CANARY);
            rng_init(&r, 9, RNG_STRONG, key);
            augment_view(c, kind, px, &r, x, scratch + CANARY - (key % 16)); /* any alignment */
            for (int i = 0; i < CANARY; i++) {
                assert_int_equal(x_block[i], 0xA5);
                assert_int_equal(x_block[CANARY + n * sizeof(float) + i], 0xA5);
                if (i < CANARY - 16)
                    assert_int_equal(scratch[i], key & 255);
                assert_int_equal(scratch[CANARY + scratch_size + i], key & 255);
            }
            for (size_t i = 0; i < n; i++)
                if (!(x[i] >= -1.0f && x[i] <= 1.0f))
                    fail_msg("config %d key %d: input %zu is %g", k, (int)key, i, (double)x[i]);
            memset(scratch, 0x77, scratch_size + 2 * CANARY);
            rng_init(&r, 9, RNG_STRONG, key);
            augment_view(c, kind, px, &r, again, scratch + CANARY);
            assert_memory_equal(x, again, n * sizeof(float));
        }
        int same = 0;
        for (uint64_t key = 0; key < 20; key++) {
            struct rng r;
            rng_init(&r, 9, RNG_STRONG, key);
            augment_view(c, AUGMENT_STRONG, px, &r, again, scratch + CANARY);
            rng_init(&r, 9, RNG_STRONG, key + 1);
            augment_view(c, AUGMENT_STRONG, px, &r, other, scratch + CANARY);
            same += memcmp(again, other, n * sizeof(float)) == 0;
        }
        assert_true(same <= 4);
        assert_memory_equal(px, before, stored);
        augment_view(c, AUGMENT_NONE, px, NULL, x, NULL);
        imageset_to_input(&c->layout, px, again);
        assert_memory_equal(x, again, n * sizeof(float));
        free(px);
        free(before);
        free(x_block);
        free(scratch);
        free(again);
        free(other);
    }
}

/* ---- weak views ---- */

static void test_weak_constant(void **state)
{
    (void)state;
    for (int k = 0; k < N_CONFIGS; k++) {
        const struct augment_config *c = &configs[k];
        const int cin = imageset_input_channels(&c->layout), nb = c->layout.n_bands;
        const size_t n_px = (size_t)c->layout.size * c->layout.size;
        uint8_t *px = make_pair(&c->layout, 180);
        float *x = need(n_px * (size_t)cin, sizeof *x);
        const float plain = 180.0f / 127.5f - 1.0f;
        const bool is_pair = c->layout.has_masks || nb > 3 || c->layout.n_dates > 1;
        for (uint64_t key = 0; key < 40; key++) {
            struct rng r;
            rng_init(&r, 1, RNG_WEAK, key);
            augment_view(c, AUGMENT_WEAK, px, &r, x, NULL);
            for (size_t p = 1; p < n_px; p++)
                for (int b = 0; b < c->layout.n_dates * nb; b++)
                    assert_true(x[p * (size_t)cin + (size_t)b] == x[b / nb * nb]);
            for (int d = 0; d < c->layout.n_dates; d++) {
                float gain = (x[d * nb] + 1.0f) / (plain + 1.0f);
                assert_true(is_pair ? gain > 0.9499f && gain < 1.0501f : x[d * nb] == plain);
            }
        }
        free(px);
        free(x);
    }
}

/* Every weak view of a plain image is one of mirror x offsets of the reflect-padded image, and all of them
 * turn up. */
static void test_weak_plain_is_crop(void **state)
{
    const struct augment_config c = {{8, 1, 1, false, false, false}, true, true, false};
    uint8_t px[64];
    float x[64];
    int hits[2][3][3] = {{{0}}}, n_hits = 0;
    (void)state;
    for (int i = 0; i < 64; i++)
        px[i] = (uint8_t)(i * 3);
    for (uint64_t key = 0; key < 600; key++) {
        struct rng r;
        bool found = false;
        rng_init(&r, 3, RNG_WEAK, key);
        augment_view(&c, AUGMENT_WEAK, px, &r, x, NULL);
        for (int v = 0; v < 18 && !found; v++) {
            const int mirror = v / 9, dx = v / 3 % 3 - 1, dy = v % 3 - 1;
            found = true;
            for (int i = 0; i < 64 && found; i++) {
                int sx = i % 8 + dx, sy = i / 8 + dy;
                sx = sx < 0 ? 1 : sx > 7 ? 6 : sx;
                sy = sy < 0 ? 1 : sy > 7 ? 6 : sy;
                sx = mirror ? 7 - sx : sx;
                found = fabsf(x[i] - ((float)px[sy * 8 + sx] / 127.5f - 1.0f)) < 1e-6f;
            }
            if (found)
                hits[mirror][dx + 1][dy + 1]++;
        }
        assert_true(found);
    }
    for (int v = 0; v < 18; v++)
        n_hits += hits[v / 9][v / 3 % 3][v % 3] > 10; /* 33 expected of each */
    assert_int_equal(n_hits, 18);
}

static void test_digits_are_not_mirrored(void **state)
{
    const struct augment_config c = {{8, 1, 1, false, false, false}, false, true, false};
    uint8_t px[64];
    float x[64];
    (void)state;
    for (int i = 0; i < 64; i++)
        px[i] = (uint8_t)(i % 8 * 30);
    for (uint64_t key = 0; key < 100; key++) {
        struct rng r;
        rng_init(&r, 3, RNG_WEAK, key);
        augment_view(&c, AUGMENT_WEAK, px, &r, x, NULL);
        assert_true(x[3] < x[4]);
    }
}

/* The brightest pixel of a channel. */
static int brightest(const float *x, int n_px, int cin, int c)
{
    int best = 0;
    for (int p = 1; p < n_px; p++)
        if (x[p * cin + c] > x[best * cin + c])
            best = p;
    return best;
}

static void paint(uint8_t *px, const struct imageset_layout *l, int x, int y, int radius, uint8_t v)
{
    const int n = imageset_stored_channels(l);
    for (int j = y - radius; j <= y + radius; j++)
        for (int i = x - radius; i <= x + radius; i++)
            memset(px + (j * l->size + i) * n, v, (size_t)(l->n_dates * l->n_bands));
}

/* A weak pair view: the mark lies at one place on both dates, and the footprint mask moves with it. */
static void test_weak_pair_keeps_dates_together(void **state)
{
    const struct augment_config c = {pair64, true, true, false};
    const int n_px = 64 * 64, stored = 8;
    uint8_t *px = make_pair(&pair64, 60);
    float *x = need((size_t)n_px * 7, sizeof *x);
    int places[64 * 64] = {0}, n_places = 0;
    (void)state;
    paint(px, &pair64, 37, 29, 0, 250);
    for (int p = 0; p < n_px; p++)
        px[p * stored + 7] = p == 29 * 64 + 37 ? 255 : 0;
    for (uint64_t key = 0; key < 500; key++) {
        struct rng r;
        rng_init(&r, 4, RNG_WEAK, key);
        augment_view(&c, AUGMENT_WEAK, px, &r, x, NULL);
        const int at = brightest(x, n_px, 7, 0);
        for (int ch = 1; ch < 7; ch++)
            assert_int_equal(brightest(x, n_px, 7, ch), at);
        n_places += places[at]++ == 0;
    }
    assert_true(n_places > 250); /* of 8 * 81 */
    free(px);
    free(x);
}

/* ---- strong views of pairs ---- */

static void test_neutral_render_is_identity(void **state)
{
    (void)state;
    for (int k = 0; k < N_CONFIGS; k++) {
        const struct imageset_layout *l = &configs[k].layout;
        const size_t n = (size_t)l->size * l->size * imageset_input_channels(l);
        uint8_t *px = random_image(l, 11);
        float *x = need(n, sizeof *x), *want = need(n, sizeof *want);
        void *scratch = need(augment_pair_scratch_bytes(l), 1);
        struct augment_pair d = neutral();
        augment_pair_render(l, px, &d, x, scratch);
        imageset_to_input(l, px, want);
        for (size_t i = 0; i < n; i++)
            assert_near(x[i], want[i], 2e-6);
        free(px);
        free(x);
        free(want);
        free(scratch);
    }
}

/* All eight symmetries through the resampler equal augment_d4 of the input. */
static void test_symmetries_agree(void **state)
{
    static const float a[8][2][2] = {{{1, 0}, {0, 1}},   {{-1, 0}, {0, 1}}, {{1, 0}, {0, -1}},
                                     {{-1, 0}, {0, -1}}, {{0, 1}, {1, 0}},  {{0, -1}, {1, 0}},
                                     {{0, 1}, {-1, 0}},  {{0, -1}, {-1, 0}}};
    const size_t n = 64 * 64 * 7;
    uint8_t *px = random_image(&pair64, 12);
    float *x = need(n, sizeof *x), *base = need(n, sizeof *x), *want = need(n, sizeof *x);
    void *scratch = need(augment_pair_scratch_bytes(&pair64), 1);
    (void)state;
    imageset_to_input(&pair64, px, base);
    for (int g = 0; g < 8; g++) {
        struct augment_pair d = neutral();
        memcpy(d.a, a[g], sizeof d.a);
        augment_pair_render(&pair64, px, &d, x, scratch);
        augment_d4(&pair64, base, g, want);
        for (size_t i = 0; i < n; i++)
            assert_near(x[i], want[i], 2e-6);
    }
    free(px);
    free(x);
    free(base);
    free(want);
    free(scratch);
}

static void test_d4_is_a_group(void **state)
{
    const struct imageset_layout l = {8, 1, 1, false, false, false};
    float x[64], view[8][64], both[64];
    (void)state;
    for (int i = 0; i < 64; i++)
        x[i] = (float)(i * i % 97);
    for (int g = 0; g < 8; g++)
        augment_d4(&l, x, g, view[g]);
    assert_memory_equal(view[0], x, sizeof x);
    for (int g = 0; g < 8; g++) {
        int hit[8] = {0};
        for (int h = 0; h < 8; h++) {
            int found = 0, which = -1;
            augment_d4(&l, view[g], h, both);
            for (int k = 0; k < 8; k++)
                if (memcmp(both, view[k], sizeof both) == 0) {
                    found++;
                    which = k;
                }
            assert_int_equal(found, 1); /* closed, and the eight differ */
            hit[which]++;
        }
        for (int k = 0; k < 8; k++)
            assert_int_equal(hit[k], 1); /* each row of the table is a permutation: inverses exist */
    }
}

/* A linear ramp in post is shifted by exactly the jitter, half pixels included; pre stays. */
static void test_jitter_is_subpixel(void **state)
{
    const struct imageset_layout l = {.size = 32, .n_dates = 2, .n_bands = 1, .has_masks = true};
    uint8_t *px = make_pair(&l, 0);
    float *x = need(32 * 32 * 2, sizeof *x);
    void *scratch = need(augment_pair_scratch_bytes(&l), 1);
    struct augment_pair d = neutral();
    (void)state;
    for (int p = 0; p < 32 * 32; p++) {
        px[p * 4] = (uint8_t)(4 * (p % 32) + 2 * (p / 32));
        px[p * 4 + 1] = (uint8_t)(4 * (p % 32) + 2 * (p / 32));
    }
    d.jitter[0] = 1.25f;
    d.jitter[1] = -0.5f;
    augment_pair_render(&l, px, &d, x, scratch);
    for (int y = 2; y < 30; y++)
        for (int i = 2; i < 30; i++) {
            float pre = 4.0f * (float)i + 2.0f * (float)y, post = pre + 4.0f * 1.25f - 2.0f * 0.5f;
            assert_near(x[(y * 32 + i) * 2], pre / 127.5f - 1.0f, 1e-5);
            assert_near(x[(y * 32 + i) * 2 + 1], post / 127.5f - 1.0f, 1e-5);
        }
    free(px);
    free(x);
    free(scratch);
}

/* Drawn strong geometry with jitter and photometry off: the mark lies at one place on both dates, where the
 * matrix says, and the footprint goes there too. */
static void test_strong_geometry_is_shared(void **state)
{
    const int n_px = 64 * 64;
    uint8_t *px = make_pair(&pair64, 60);
    float *x = need((size_t)n_px * 7, sizeof *x);
    void *scratch = need(augment_pair_scratch_bytes(&pair64), 1);
    (void)state;
    paint(px, &pair64, 36, 28, 1, 250);
    paint(px, &pair64, 36, 28, 0, 255);
    for (uint64_t key = 0; key < 300; key++) {
        struct rng r;
        struct augment_pair d;
        rng_init(&r, 4, RNG_STRONG, key);
        augment_pair_draw(&pair64, px, &r, &d);
        memset(d.photo, 0, sizeof d.photo);
        memset(d.jitter, 0, sizeof d.jitter);
        augment_pair_render(&pair64, px, &d, x, scratch);
        const int at = brightest(x, n_px, 7, 0);
        for (int ch = 1; ch < 6; ch++)
            assert_int_equal(brightest(x, n_px, 7, ch), at);
        const float ox = (float)(at % 64) - 31.5f, oy = (float)(at / 64) - 31.5f;
        assert_near(d.a[0][0] * ox + d.a[0][1] * oy + d.t[0], 36 - 31.5, 1.3);
        assert_near(d.a[1][0] * ox + d.a[1][1] * oy + d.t[1], 28 - 31.5, 1.3);
        assert_true(x[at * 7 + 6] == 1.0f); /* the mark is on the building */
    }
    free(px);
    free(x);
    free(scratch);
}

/* White image with a hole in post's validity: no view is ever darker than white where it has data, whatever
 * the geometry, blur and resampling; the hole and the outside are exactly 0. */
static void test_no_data_never_darkens(void **state)
{
    const int n_px = 64 * 64;
    uint8_t *px = make_pair(&pair64, 255);
    float *x = need((size_t)n_px * 7, sizeof *x);
    void *scratch = need(augment_pair_scratch_bytes(&pair64), 1);
    long n_zero[2] = {0, 0};
    (void)state;
    for (int y = 10; y < 30; y++)
        for (int i = 40; i < 60; i++) {
            memset(px + (y * 64 + i) * 8, 0, 6); /* what lies under "no data" is black */
            px[(y * 64 + i) * 8 + 6] = 0;
        }
    for (uint64_t key = 0; key < 200; key++) {
        struct rng r;
        struct augment_pair d;
        rng_init(&r, 8, RNG_STRONG, key);
        augment_pair_draw(&pair64, px, &r, &d);
        for (int date = 0; date < 2; date++)
            for (int k = 0; k < AUGMENT_PAIR_OPS; k++)
                if (d.photo[date][k].op != AUGMENT_PHOTO_BLUR)
                    d.photo[date][k] = (struct augment_photo){.op = AUGMENT_PHOTO_RESOLUTION, .m = 1.4f};
        augment_pair_render(&pair64, px, &d, x, scratch);
        for (int p = 0; p < n_px; p++)
            for (int c = 0; c < 6; c++) {
                const float v = x[p * 7 + c];
                if (v != 0.0f && v < 0.99999f)
                    fail_msg("key %d pixel %d channel %d is %g", (int)key, p, c, (double)v);
                n_zero[c / 3] += v == 0.0f;
            }
    }
    for (int d = 0; d < 2; d++)
        assert_in_range(n_zero[d], 200 * 3 * 200, 200 * 3 * 2500);
    free(px);
    free(x);
    free(scratch);
}

/* Each photometric operation against its formula on a view that does not move. */
static float photo_of(enum augment_photo_op op, float m, float v, uint8_t px_value)
{
    const struct imageset_layout l = {.size = 16, .n_dates = 2, .n_bands = 3, .has_masks = true};
    uint8_t *px = make_pair(&l, px_value);
    float *x = need(16 * 16 * 6, sizeof *x);
    void *scratch = need(augment_pair_scratch_bytes(&l), 1);
    struct augment_pair d = neutral();
    d.photo[1][0] = (struct augment_photo){.op = op, .m = m, .u = {v, v, v, v, v, v, v, v}, .seed = 77};
    augment_pair_render(&l, px, &d, x, scratch);
    float out = (x[(5 * 16 + 7) * 6 + 4] + 1.0f) / 2.0f;
    for (int p = 0; p < 256; p++)
        for (int c = 0; c < 6; c++) {
            float want = c < 3 ? (float)px_value / 255.0f : out;
            assert_near((x[p * 6 + c] + 1.0f) / 2.0f, want, 1e-5);
        }
    free(px);
    free(x);
    free(scratch);
    return out;
}

static void test_photometry_by_formula(void **state)
{
    const float v = 102.0f / 255.0f; /* 0.4 */
    (void)state;
    assert_near(photo_of(AUGMENT_PHOTO_NOTHING, 0, 0, 102), 0.4, 1e-6);
    assert_near(photo_of(AUGMENT_PHOTO_GAIN, 1.25f, 0, 102), 0.5, 1e-6);
    assert_near(photo_of(AUGMENT_PHOTO_GAIN, 1.3f, 0, 250), 1.0, 1e-6);
    assert_near(photo_of(AUGMENT_PHOTO_OFFSET, -0.1f, 0, 102), 0.3, 1e-6);
    assert_near(photo_of(AUGMENT_PHOTO_SPREAD, 0.7f, 0, 102), 0.4, 1e-6); /* a constant is its own mean */
    assert_near(photo_of(AUGMENT_PHOTO_GAMMA, 1.4f, 0, 102), powf(v, 1.4f), 1e-5);
    assert_near(photo_of(AUGMENT_PHOTO_GAMMA, 0.7f, 0, 102), powf(v, 0.7f), 1e-5);
    assert_near(photo_of(AUGMENT_PHOTO_GAMMA, 0.7f, 0, 0), 0.0, 1e-6);
    assert_near(photo_of(AUGMENT_PHOTO_BAND_GAIN, 0.05f, 1.0f, 102), 0.42, 1e-6);
    assert_near(photo_of(AUGMENT_PHOTO_HAZE, 0.3f, 1.0f, 102), 0.4 + 0.3 * (1.0 - 0.4), 1e-5);
    assert_near(photo_of(AUGMENT_PHOTO_BLUR, 1.0f, 0, 102), 0.4, 1e-5);
    assert_near(photo_of(AUGMENT_PHOTO_RESOLUTION, 1.5f, 0, 102), 0.4, 1e-5);
}

/* A point spreads under blur as the normalised Gaussian says; noise has mean 0 and the sd asked for. */
static void test_blur_and_noise_in_numbers(void **state)
{
    const struct imageset_layout l = {.size = 64, .n_dates = 2, .n_bands = 1, .has_masks = true};
    uint8_t *px = make_pair(&l, 0);
    float *x = need(64 * 64 * 2, sizeof *x);
    void *scratch = need(augment_pair_scratch_bytes(&l), 1);
    struct augment_pair d = neutral();
    double sum = 0.0, sum2 = 0.0, cross = 0.0, bell = 0.0;
    (void)state;
    px[(20 * 64 + 30) * 4 + 1] = 255;
    d.photo[1][0] = (struct augment_photo){.op = AUGMENT_PHOTO_BLUR, .m = 0.8f};
    augment_pair_render(&l, px, &d, x, scratch);
    for (int k = -3; k <= 3; k++)
        bell += exp(-k * k / (2 * 0.64));
    for (int j = -4; j <= 4; j++)
        for (int i = -4; i <= 4; i++) {
            double want = abs(i) > 3 || abs(j) > 3 ? 0.0 : exp(-(i * i + j * j) / (2 * 0.64)) / (bell * bell);
            assert_near((x[((20 + j) * 64 + 30 + i) * 2 + 1] + 1.0f) / 2.0f, want, 1e-6);
        }
    free(px);
    px = make_pair(&l, 128);
    d.photo[1][0] = (struct augment_photo){.op = AUGMENT_PHOTO_NOISE, .m = 0.03f, .seed = 123};
    augment_pair_render(&l, px, &d, x, scratch);
    for (int p = 0; p < 4096; p++) {
        double e = (x[p * 2 + 1] + 1.0f) / 2.0f - 128.0 / 255.0,
               next = (x[(p + 1) % 4096 * 2 + 1] + 1.0f) / 2.0f - 128.0 / 255.0;
        sum += e;
        sum2 += e * e;
        cross += e * next;
    }
    assert_near(sum / 4096, 0.0, 0.002); /* four standard errors */
    assert_near(sqrt(sum2 / 4096), 0.03, 0.0015);
    assert_near(cross / sum2, 0.0, 0.07);
    free(px);
    free(x);
    free(scratch);
}

/* Cutout: one place, both dates, the band's own mean, at most a quarter of the side, at most 30 % of the
 * building. */
static void test_pair_cutout(void **state)
{
    const int n_px = 64 * 64;
    float *x = need((size_t)n_px * 7, sizeof *x), *without = need((size_t)n_px * 7, sizeof *x);
    void *scratch = need(augment_pair_scratch_bytes(&pair64), 1);
    int n_boxes = 0, widest = 0;
    (void)state;
    for (uint64_t key = 0; key < 300; key++) {
        uint8_t *px = random_image(&pair64, key);
        struct rng r;
        struct augment_pair d;
        rng_init(&r, 8, RNG_STRONG, key);
        augment_pair_view(&pair64, true, px, &r, x, scratch, &d);
        const int *b = d.box;
        if (b[2] > b[0]) {
            struct augment_pair open = d;
            int hidden = 0, total = 0;
            n_boxes++;
            assert_true(b[0] >= 0 && b[1] >= 0 && b[2] <= 64 && b[3] <= 64 && b[2] - b[0] == b[3] - b[1]);
            assert_in_range(b[2] - b[0], 8, 16);
            widest = b[2] - b[0] > widest ? b[2] - b[0] : widest;
            memset(open.box, 0, sizeof open.box);
            augment_pair_render(&pair64, px, &open, without, scratch);
            double mean[6] = {0};
            int n_valid[6] = {0};
            for (int p = 0; p < n_px; p++)
                for (int c = 0; c < 6; c++)
                    if (without[p * 7 + c] != 0.0f) {
                        mean[c] += without[p * 7 + c];
                        n_valid[c]++;
                    }
            for (int p = 0; p < n_px; p++) {
                const bool in = p % 64 >= b[0] && p % 64 < b[2] && p / 64 >= b[1] && p / 64 < b[3];
                total += x[p * 7 + 6] > 0;
                hidden += in && x[p * 7 + 6] > 0;
                for (int c = 0; c < 7; c++)
                    if (!in || c == 6 || without[p * 7 + c] == 0.0f)
                        assert_true(x[p * 7 + c] == without[p * 7 + c]);
                    else /* clipped samples make this mean a little different from the one before clipping */
                        assert_near(x[p * 7 + c], mean[c] / n_valid[c], 0.06);
            }
            assert_true(hidden <= 0.3 * total);
        }
        free(px);
    }
    assert_true(n_boxes > 280);
    assert_int_equal(widest, 16);
    free(x);
    free(without);
    free(scratch);
}

/* Draws stay in their ranges and reach near the ends; the building's middle stays in frame, wherever in the
 * patch it is. */
static void test_draws(void **state)
{
    uint8_t *px = make_pair(&pair64, 60);
    int ops[AUGMENT_PHOTO_COUNT] = {0};
    double zoom_lo = 9, zoom_hi = 0, turn = 0, jitter2 = 0, jitter_max = 0, shift = 0;
    const int n = 4000;
    (void)state;
    for (int k = 0; k < n; k++) {
        struct rng r;
        struct augment_pair d;
        rng_init(&r, 8, RNG_STRONG, (uint64_t)k);
        augment_pair_draw(&pair64, px, &r, &d);
        const double det = fabs((double)d.a[0][0] * d.a[1][1] - (double)d.a[0][1] * d.a[1][0]);
        zoom_lo = fmin(zoom_lo, det);
        zoom_hi = fmax(zoom_hi, det);
        /* the angle of the matrix' first column, modulo quarter turns */
        double angle = fabs(remainder(atan2(d.a[1][0], d.a[0][0]), M_PI / 2)) * 180 / M_PI;
        turn = fmax(turn, angle);
        for (int i = 0; i < 2; i++) {
            jitter2 += d.jitter[i] * d.jitter[i];
            jitter_max = fmax(jitter_max, fabs(d.jitter[i]));
            shift = fmax(shift, fabs(d.t[i]));
        }
        for (int date = 0; date < 2; date++)
            for (int i = 0; i < AUGMENT_PAIR_OPS; i++)
                ops[d.photo[date][i].op]++;
    }
    assert_true(zoom_lo > 0.977 / 1.44 - 1e-6 && zoom_lo < 0.75 && zoom_hi < 1.0225 / 0.64 + 1e-6 &&
                zoom_hi > 1.45);
    assert_true(turn > 25);
    assert_near(sqrt(jitter2 / (2 * n)), 0.987, 0.03); /* sd of a normal clipped at 3 */
    assert_true(jitter_max <= 3.0 && jitter_max > 2.9);
    assert_true(shift <= 0.12 * 64 + 1e-5 && shift > 7.0);
    /* four draws a view, each applied with probability one half */
    for (int op = 0; op < AUGMENT_PHOTO_COUNT; op++) {
        int expected = 4 * n / 20 + (op == AUGMENT_PHOTO_NOTHING ? 4 * n / 2 : 0);
        assert_in_range(ops[op], expected * 88 / 100, expected * 112 / 100);
    }
    free(px);

    px = make_pair(&pair64, 60); /* a small building in the corner */
    for (int p = 0; p < 64 * 64; p++)
        px[p * 8 + 7] = p % 64 >= 48 && p % 64 < 60 && p / 64 >= 46 && p / 64 < 58 ? 255 : 0;
    float *x = need(64 * 64 * 7, sizeof *x);
    void *scratch = need(augment_pair_scratch_bytes(&pair64), 1);
    for (int k = 0; k < 300; k++) {
        struct rng r;
        double seen = 0, area = 0;
        struct augment_pair d;
        rng_init(&r, 9, RNG_STRONG, (uint64_t)k);
        augment_pair_view(&pair64, true, px, &r, x, scratch, &d);
        for (int p = 0; p < 64 * 64; p++)
            seen += x[p * 7 + 6] > 0;
        area = 144.0 / fabs((double)d.a[0][0] * d.a[1][1] - (double)d.a[0][1] * d.a[1][0]);
        assert_true(seen > 0.65 * area);
    }
    free(px);
    free(x);
    free(scratch);
}

/* The share of pixels a plain strong view sets to 0 through cutout: half the side, cut off at the border. */
static void test_plain_cutout_share(void **state)
{
    const struct augment_config c = {{32, 1, 3, false, false, false}, true, true, false};
    uint8_t *px = make_pair(&c.layout, 200);
    float *x = need(32 * 32 * 3, sizeof *x);
    void *scratch = need(augment_scratch_bytes(&c), 1);
    long zero = 0, smallest = 32 * 32;
    (void)state;
    for (int k = 0; k < 2000; k++) {
        struct rng r;
        long own = 0;
        rng_init(&r, 8, RNG_STRONG, (uint64_t)k);
        augment_view(&c, AUGMENT_STRONG, px, &r, x, scratch);
        for (int p = 0; p < 1024; p++)
            own += x[p * 3] == 0.0f && x[p * 3 + 1] == 0.0f && x[p * 3 + 2] == 0.0f;
        zero += own;
        smallest = own < smallest ? own : smallest;
    }
    /* by hand: mean extent of [c-8, c+8) cut to 0..31 over c = 0..31 is 14, 14^2 = 196 of 1024; geometry adds
     * some */
    assert_in_range(zero / 2000, 190, 280);
    assert_true(smallest >= 64);
    free(px);
    free(x);
    free(scratch);
}

/* Says what a view costs; fails only when something is grossly wrong, so that slow machines and sanitizers
 * pass. */
static void test_speed(void **state)
{
    const struct augment_config c = {pair64, true, true, false};
    uint8_t *px = make_pair(&pair64, 77);
    float *x = need(64 * 64 * 7, sizeof *x);
    void *scratch = need(augment_scratch_bytes(&c), 1);
    (void)state;
    for (int kind = AUGMENT_WEAK; kind <= AUGMENT_STRONG; kind++) {
        struct timespec a, b;
        const int n = 200;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (int k = 0; k < n; k++) {
            struct rng r;
            rng_init(&r, 8, RNG_STRONG, (uint64_t)k);
            augment_view(&c, (enum augment_kind)kind, px, &r, x, scratch);
        }
        clock_gettime(CLOCK_MONOTONIC, &b);
        double ms = ((double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6) / n;
        print_message("%s view of a 64 x 64 pair: %.3f ms\n", kind == AUGMENT_WEAK ? "weak" : "strong", ms);
        assert_true(ms < 20.0);
    }
    free(px);
    free(x);
    free(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds_and_keys),
        cmocka_unit_test(test_weak_constant),
        cmocka_unit_test(test_weak_plain_is_crop),
        cmocka_unit_test(test_digits_are_not_mirrored),
        cmocka_unit_test(test_weak_pair_keeps_dates_together),
        cmocka_unit_test(test_neutral_render_is_identity),
        cmocka_unit_test(test_symmetries_agree),
        cmocka_unit_test(test_d4_is_a_group),
        cmocka_unit_test(test_jitter_is_subpixel),
        cmocka_unit_test(test_strong_geometry_is_shared),
        cmocka_unit_test(test_no_data_never_darkens),
        cmocka_unit_test(test_photometry_by_formula),
        cmocka_unit_test(test_blur_and_noise_in_numbers),
        cmocka_unit_test(test_pair_cutout),
        cmocka_unit_test(test_draws),
        cmocka_unit_test(test_plain_cutout_share),
        cmocka_unit_test(test_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
