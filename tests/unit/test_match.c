/* SPDX-License-Identifier: Apache-2.0
 * The likeness channel: against a direct sum over windows in double, against what light and shifts must not change, and
 * what views do with it. */
#include "models/data/augment_ops.h"
#include "models/data/match.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    SIZE = 64,
    CELL = 2,
    SIDE = SIZE / CELL,
    N_PX = SIZE * SIZE,
    CIN = 8,
    STORED = 8,
    RADIUS = 3,
    REACH = 2
};
static const struct imageset_layout pair = {
    .size = SIZE, .n_dates = 2, .n_bands = 3, .has_masks = true, .use_footprint = true, .use_match = true};

static float noise(uint64_t seed, uint64_t i)
{
    struct rng r;
    rng_init(&r, seed, RNG_METHOD, i);
    return (float)rng_uniform(&r) - 0.5f;
}

/* A texture of cells at (x + dx, y + dy), the same in all bands. */
static float texture(uint64_t seed, int x, int y)
{
    return noise(seed, (uint64_t)((y + 64) / CELL) * 4096 + (uint64_t)((x + 64) / CELL));
}

/* Footprint over everything; both dates of one texture, the later one moved and relit. */
static float *pair_of(uint64_t pre, uint64_t post, int dx, int dy, float gain, float offset)
{
    float *x = calloc((size_t)N_PX * CIN, sizeof *x);
    assert_non_null(x);
    for (int p = 0; p < N_PX; p++) {
        for (int b = 0; b < 3; b++) {
            x[p * CIN + b] = 0.1f + texture(pre, p % SIZE, p / SIZE);
            x[p * CIN + 3 + b] = gain * texture(post, p % SIZE - dx, p / SIZE - dy) + offset;
        }
        x[p * CIN + 6] = 1.0f;
    }
    return x;
}

static double likeness(const float *x)
{
    double sum = 0;
    int n = 0;
    for (int y = 16; y < 48; y++)
        for (int at = 16; at < 48; at++, n++)
            sum += (double)x[(y * SIZE + at) * CIN + CIN - 1] / MATCH_GAIN;
    return sum / n;
}

/* r of one cell by its definition. */
static double direct(const float *x, int cx, int cy, int dx, int dy)
{
    const double floor_var = (2.0 / 127.5) * (2.0 / 127.5);
    double s[5] = {0}, n[3] = {0};
    for (int date = 0; date < 2; date++)
        for (int y = cy - RADIUS; y <= cy + RADIUS; y++)
            for (int at = cx - RADIUS; at <= cx + RADIUS; at++) {
                const int py = (y + (date ? dy : 0)) * CELL, px = (at + (date ? dx : 0)) * CELL;
                if (py < 0 || px < 0 || py >= SIZE || px >= SIZE)
                    continue;
                const double v = (double)x[(py * SIZE + px) * CIN + 3 * date];
                s[date] += v;
                s[2 + date] += v * v;
                n[date]++;
            }
    for (int y = cy - RADIUS; y <= cy + RADIUS; y++)
        for (int at = cx - RADIUS; at <= cx + RADIUS; at++) {
            if (y < 0 || at < 0 || y >= SIDE || at >= SIDE)
                continue;
            n[2]++;
            const int py = y + dy, px = at + dx;
            if (py >= 0 && px >= 0 && py < SIDE && px < SIDE)
                s[4] += (double)x[(y * CELL * SIZE + at * CELL) * CIN] *
                        (double)x[(py * CELL * SIZE + px * CELL) * CIN + 3];
        }
    const double a = s[0] / n[0], b = s[1] / n[1];
    return (s[4] / n[2] - a * b) /
           sqrt((s[2] / n[0] - a * a + floor_var) * (s[3] / n[1] - b * b + floor_var));
}

static void test_equals_its_definition(void **state)
{
    (void)state;
    float *x = pair_of(1, 1, 2, -4, 0.7f, 0.1f);
    match_fill(&pair, x);
    for (int cy = 6; cy < SIDE - 6; cy++)
        for (int cx = 6; cx < SIDE - 6; cx++)
            assert_float_equal(x[(cy * CELL * SIZE + cx * CELL) * CIN + CIN - 1] / MATCH_GAIN,
                               direct(x, cx, cy, 1, -2), 2e-5);
    free(x);
}

static void test_light_and_shift_do_not_matter(void **state)
{
    (void)state;
    static const struct {
        int dx, dy;
        float gain, offset;
    } case_[] = {{0, 0, 1, 0.1f}, {4, 0, 1, 0.1f}, {-2, 4, 1, 0}, {2, -4, 0.5f, 0.3f}, {0, 0, 0.3f, -0.4f}};
    for (size_t k = 0; k < sizeof case_ / sizeof *case_; k++) {
        float *x = pair_of(2, 2, case_[k].dx, case_[k].dy, case_[k].gain, case_[k].offset);
        match_fill(&pair, x);
        assert_true(likeness(x) > 0.95);
        free(x);
    }
    float *x = pair_of(2, 3, 0, 0, 1, 0); /* another place: alike by chance only */
    match_fill(&pair, x);
    assert_true(likeness(x) < 0.25);
    free(x);
    x = pair_of(2, 2, 0, 0, 0, 0.4f); /* one date without contrast */
    match_fill(&pair, x);
    assert_float_equal(likeness(x), 0, 1e-3);
    free(x);
}

static void test_gate_and_gaps(void **state)
{
    (void)state;
    float *x = pair_of(4, 4, 0, 0, 1, 0.2f);
    for (int p = 0; p < N_PX; p++) {
        x[p * CIN + 6] = p % SIZE < 32 ? 1.0f : -1.0f;
        if (p / SIZE >= 48)
            memset(x + p * CIN + 3, 0, 3 * sizeof *x); /* the later date has no data */
    }
    match_fill(&pair, x);
    for (int y = 0; y < SIZE; y++)
        for (int at = 0; at < SIZE; at++) {
            const float v = x[(y * SIZE + at) * CIN + CIN - 1];
            assert_true(fabsf(v) <= MATCH_GAIN);
            if (at >= 32 || y >= 48 + (RADIUS + 1) * CELL)
                assert_float_equal(v, 0, 1e-6);
            else if (y < 40)
                assert_true(v > 0.9f * MATCH_GAIN);
        }
    free(x);
}

/* Every kind of view has the channel that its own bands give, and hiding takes bands, not the channel. */
static void test_views_carry_it(void **state)
{
    (void)state;
    static uint8_t px[N_PX * STORED];
    for (int p = 0; p < N_PX; p++) {
        for (int b = 0; b < 6; b++)
            px[p * STORED + b] = (uint8_t)(128.0f + 100.0f * texture(5, p % SIZE, p / SIZE));
        px[p * STORED + 6] = 3;
        px[p * STORED + 7] = 255;
    }
    struct augment_config c = {.layout = pair, .cutout = true};
    void *scratch = malloc(augment_scratch_bytes(&c));
    float *x = malloc(sizeof *x * N_PX * CIN), *again = malloc(sizeof *x * N_PX * CIN);
    assert_non_null(scratch);
    assert_non_null(x);
    assert_non_null(again);
    for (int kind = AUGMENT_NONE; kind <= AUGMENT_STRONG; kind++) {
        int hidden = 0;
        for (int i = 0; i < 400; i++) {
            struct rng r;
            c.hide_bands = i >= 4;
            rng_init(&r, 7, RNG_STRONG, (uint64_t)i);
            augment_view(&c, (enum augment_kind)kind, px, &r, x, scratch);
            if (i < 4) {
                memcpy(again, x, sizeof *x * N_PX * CIN);
                match_fill(&pair, again);
                assert_memory_equal(again, x, sizeof *x * N_PX * CIN);
                continue;
            }
            double bands = 0, match = 0;
            for (int p = 0; p < N_PX; p++) {
                bands += (double)fabsf(x[p * CIN]) + (double)fabsf(x[p * CIN + 5]);
                match += (double)fabsf(x[p * CIN + CIN - 1]);
            }
            assert_true(match > 0);
            hidden += bands == 0;
        }
        const double share = hidden / 396.0, want = kind == AUGMENT_NONE   ? 0
                                                    : kind == AUGMENT_WEAK ? 0.3
                                                                           : 0.5;
        assert_true(fabs(share - want) <= want * 0.25);
    }
    free(scratch);
    free(x);
    free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_its_definition), cmocka_unit_test(test_light_and_shift_do_not_matter),
        cmocka_unit_test(test_gate_and_gaps), cmocka_unit_test(test_views_carry_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
