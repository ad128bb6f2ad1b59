/* SPDX-License-Identifier: Apache-2.0
 *
 * test_augment_plain.c - the 14 plain operations against Pillow's own bytes (golden/pillow_ops.bin.gz, made
 * by golden/make_pillow_golden.py), hand-worked values and FixMatch's level table. */
#include "models/data/augment_ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

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

struct golden {
    uint8_t *bytes;
    size_t size, at;
};

static const uint8_t *take(struct golden *g, size_t n)
{
    assert_true(g->at + n <= g->size);
    g->at += n;
    return g->bytes + g->at - n;
}

static struct golden golden_read(void)
{
    const char *dir = getenv("TEST_SOURCE_DIR");
    const size_t room = 4 << 20;
    struct golden g = {need(room, 1), 0, 0};
    char path[4096];
    snprintf(path, sizeof path, "%s/golden/pillow_ops.bin.gz", dir ? dir : "tests");
    gzFile f = gzopen(path, "rb");
    assert_non_null(f);
    int n = gzread(f, g.bytes, (unsigned)room);
    assert_int_equal(gzclose_r(f), Z_OK);
    assert_true(n > 0 && (size_t)n < room);
    g.size = (size_t)n;
    return g;
}

static enum augment_plain_op find_op(const uint8_t *name, size_t length)
{
    for (int op = 0; op < AUGMENT_PLAIN_COUNT; op++) {
        const char *own = augment_plain_name((enum augment_plain_op)op);
        if (strlen(own) == length && memcmp(own, name, length) == 0)
            return (enum augment_plain_op)op;
    }
    fail_msg("the golden file names an operation that does not exist: %.*s", (int)length, (const char *)name);
    return AUGMENT_PLAIN_COUNT;
}

static void test_pillow_bytes(void **state)
{
    struct golden g = golden_read();
    const int side = *take(&g, 1);
    const size_t n_px = (size_t)side * side;
    const uint8_t *input[3] = {take(&g, 3 * n_px), take(&g, 3 * n_px), take(&g, n_px)};
    uint8_t *px = need(n_px, 3), *cover = need(n_px, 1), *scratch = need(n_px, 4);
    int n_cases = 0, seen[AUGMENT_PLAIN_COUNT] = {0};
    (void)state;
    while (g.at < g.size) {
        const int bands = *take(&g, 1), steps = *take(&g, 1);
        struct augment_image im = {.size = side, .n_bands = bands, .px = px, .cover = cover};
        struct {
            enum augment_plain_op op;
            int level, sign;
        } step[4];
        assert_in_range(steps, 1, 4);
        for (int k = 0; k < steps; k++) {
            size_t length = *take(&g, 1);
            step[k].op = find_op(take(&g, length), length);
            step[k].level = *take(&g, 1);
            step[k].sign = *take(&g, 1) ? 1 : -1;
            seen[step[k].op]++;
        }
        memcpy(px, input[*take(&g, 1)], n_px * (size_t)bands);
        memset(cover, 255, n_px);
        for (int k = 0; k < steps; k++)
            augment_plain_apply(step[k].op, augment_plain_argument(step[k].op, step[k].level, step[k].sign),
                                &im, scratch);
        const uint8_t *want = take(&g, n_px * (size_t)(bands + 1));
        for (size_t p = 0; p < n_px; p++)
            for (int c = 0; c <= bands; c++) {
                int got = c < bands ? px[p * (size_t)bands + (size_t)c] : cover[p],
                    pillow = want[p * (size_t)(bands + 1) + (size_t)c];
                if (got != pillow)
                    fail_msg("%s level %d sign %d (step 1 of %d): pixel %zu channel %d is %d, Pillow says %d",
                             augment_plain_name(step[0].op), step[0].level, step[0].sign, steps, p, c, got,
                             pillow);
            }
        n_cases++;
    }
    assert_true(n_cases > 100);
    for (int op = 0; op < AUGMENT_PLAIN_COUNT; op++)
        assert_true(seen[op] > 0);
    free(px);
    free(cover);
    free(scratch);
    free(g.bytes);
}

/* Published values for the colour (100, 50, 200). */
static void test_pillow_by_hand(void **state)
{
    static const struct {
        enum augment_plain_op op;
        double argument;
        uint8_t want[3];
    } cases[] = {{AUGMENT_COLOR, 0.0, {82, 82, 82}},        {AUGMENT_BRIGHTNESS, 0.5, {50, 25, 100}},
                 {AUGMENT_POSTERIZE, 1, {0, 0, 128}},       {AUGMENT_POSTERIZE, 4, {96, 48, 192}},
                 {AUGMENT_SOLARIZE, 128, {100, 50, 55}},    {AUGMENT_POSTERIZE, 8, {100, 50, 200}},
                 {AUGMENT_SOLARIZE, 256, {100, 50, 200}},   {AUGMENT_ROTATE, 0, {100, 50, 200}},
                 {AUGMENT_SHEAR_X, 0, {100, 50, 200}},      {AUGMENT_TRANSLATE_X, 0.49, {100, 50, 200}},
                 {AUGMENT_SHARPNESS, 1.0, {100, 50, 200}},  {AUGMENT_CONTRAST, 1.0, {100, 50, 200}},
                 {AUGMENT_AUTOCONTRAST, 0, {100, 50, 200}}, {AUGMENT_EQUALIZE, 0, {100, 50, 200}}};
    uint8_t px[4 * 4 * 3], cover[16], scratch[64];
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct augment_image im = {4, 3, px, cover};
        memset(cover, 255, sizeof cover);
        for (int i = 0; i < 16; i++)
            memcpy(px + 3 * i, "\x64\x32\xc8", 3);
        augment_plain_apply(cases[k].op, cases[k].argument, &im, scratch);
        for (int i = 0; i < 16; i++) {
            assert_memory_equal(px + 3 * i, cases[k].want, 3);
            assert_int_equal(cover[i], 255);
        }
    }
}

/* Python's double arithmetic falls one short of the whole-number answer in places; these three are Pillow's.
 */
static void test_autocontrast_rounding(void **state)
{
    uint8_t px[16] = {55, 125, 111}, cover[16], scratch[32];
    struct augment_image im = {4, 1, px, cover};
    (void)state;
    memset(px + 3, 60, 13);
    augment_plain_apply(AUGMENT_AUTOCONTRAST, 0.0, &im, scratch);
    assert_memory_equal(px, ((uint8_t[]){0, 254, 203, 18}), 4);
    memset(px, 10, 16);
    px[0] = 0;
    px[1] = 25;
    augment_plain_apply(AUGMENT_AUTOCONTRAST, 0.0, &im, scratch);
    assert_memory_equal(px, ((uint8_t[]){0, 254, 102}), 3);
}

static void test_level_table(void **state)
{
    static const int bits[9] = {4, 4, 3, 3, 2, 2, 2, 1, 1},
                     threshold[9] = {231, 205, 180, 154, 128, 103, 77, 52, 26};
    (void)state;
    for (int level = 1; level <= 9; level++) {
        assert_int_equal(augment_plain_argument(AUGMENT_POSTERIZE, level, 1), bits[level - 1]);
        assert_int_equal(augment_plain_argument(AUGMENT_SOLARIZE, level, 1), threshold[level - 1]);
        assert_near(augment_plain_argument(AUGMENT_ROTATE, level, -1), -3 * level, 0);
        assert_near(augment_plain_argument(AUGMENT_TRANSLATE_Y, level, -1), -level, 0);
        assert_near(augment_plain_argument(AUGMENT_SHEAR_X, level, 1), 0.03 * level, 1e-12);
        assert_near(augment_plain_argument(AUGMENT_COLOR, level, 1), 0.1 + 0.18 * level, 1e-12);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pillow_bytes),
        cmocka_unit_test(test_pillow_by_hand),
        cmocka_unit_test(test_autocontrast_rounding),
        cmocka_unit_test(test_level_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
