/* SPDX-License-Identifier: Apache-2.0
 *
 * test_cta.c - CTAugment: its operations against Pillow's own bytes (golden/pillow_cta.bin.gz, made by
 * golden/make_pillow_golden.py), the sampling rule against its formula by chi-square, the update by hand,
 * views within bounds and functions of their keys, and that what the model fails on stops being drawn. */
#include "models/data/augment_ops.h"
#include "models/data/cta.h"

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

static const struct augment_config plain32 = {{32, 1, 3, false, false, false}, true, true, false};
static const struct augment_config pair64 = {{64, 2, 3, true, true, false}, true, true, false};

static int find_op(const struct cta *c, const char *name)
{
    for (int op = 0; op < cta_op_count(c); op++)
        if (strcmp(cta_op_name(c, op), name) == 0)
            return op;
    fail_msg("there is no operation %s", name);
    return -1;
}

/* ---- operations ---- */

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
    snprintf(path, sizeof path, "%s/golden/pillow_cta.bin.gz", dir ? dir : "tests");
    gzFile f = gzopen(path, "rb");
    assert_non_null(f);
    int n = gzread(f, g.bytes, (unsigned)room);
    assert_int_equal(gzclose_r(f), Z_OK);
    assert_true(n > 0 && (size_t)n < room);
    g.size = (size_t)n;
    return g;
}

static void test_pillow_bytes(void **state)
{
    struct golden g = golden_read();
    struct cta c;
    const int side = *take(&g, 1);
    const size_t n_px = (size_t)side * side;
    const uint8_t *input[3] = {take(&g, 3 * n_px), take(&g, 3 * n_px), take(&g, n_px)};
    uint8_t *px = need(n_px, 3), *cover = need(n_px, 1),
            *scratch = need(augment_cta_scratch_bytes(side, 3), 1);
    const struct augment_cta_extra extra = {.translate_px = 0.3 * side};
    int n_cases = 0, seen[AUGMENT_CTA_COUNT] = {0};
    (void)state;
    cta_init(&c, &plain32, NULL);
    while (g.at < g.size) {
        const int bands = *take(&g, 1), steps = *take(&g, 1);
        struct augment_image im = {.size = side, .n_bands = bands, .px = px, .cover = cover};
        int op[4];
        double v[4][2];
        assert_in_range(steps, 1, 4);
        for (int k = 0; k < steps; k++) {
            char name[32] = "";
            size_t length = *take(&g, 1);
            assert_true(length < sizeof name);
            memcpy(name, take(&g, length), length);
            op[k] = find_op(&c, name);
            memcpy(v[k], take(&g, sizeof v[k]), sizeof v[k]);
            seen[op[k]]++;
        }
        memcpy(px, input[*take(&g, 1)], n_px * (size_t)bands);
        for (int k = 0; k < steps; k++)
            augment_cta_apply((enum augment_cta_op)op[k], v[k], &extra, &im, scratch);
        const uint8_t *want = take(&g, n_px * (size_t)bands);
        for (size_t i = 0; i < n_px * (size_t)bands; i++)
            if (px[i] != want[i])
                fail_msg("%s(%.17g, %.17g), step 1 of %d: sample %zu is %d, Pillow says %d",
                         cta_op_name(&c, op[0]), v[0][0], v[0][1], steps, i, px[i], want[i]);
        n_cases++;
    }
    assert_true(n_cases > 350);
    for (int k = 0; k < AUGMENT_CTA_COUNT; k++)
        assert_true(k == AUGMENT_CTA_CUTOUT || seen[k] > 0);
    free(px);
    free(cover);
    free(scratch);
    free(g.bytes);
}

/* size 1 + int(0.499 v 32): 16 at v = 1, 8 at v = 0.5; a box of 2 (size / 2) cut off at the border. */
static void test_cutout_by_hand(void **state)
{
    static const struct {
        double v, centre[2];
        int x0, y0, x1, y1;
    } cases[] = {{1.0, {0.5, 0.25}, 8, 0, 24, 16},
                 {1.0, {0.0, 0.999}, 0, 23, 8, 32},
                 {0.5, {0.5, 0.5}, 12, 12, 20, 20},
                 {0.0, {0.5, 0.5}, 0, 0, 0, 0}}; /* size 1 has half 0: nothing */
    uint8_t px[32 * 32 * 3];
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct augment_image im = {32, 3, px, NULL};
        struct augment_cta_extra extra = {.centre = {cases[k].centre[0], cases[k].centre[1]}};
        memset(px, 9, sizeof px);
        augment_cta_apply(AUGMENT_CTA_CUTOUT, (double[2]){cases[k].v, 0}, &extra, &im, NULL);
        for (int i = 0; i < 32 * 32 * 3; i++) {
            int x = i / 3 % 32, y = i / 96;
            bool in = x >= cases[k].x0 && x < cases[k].x1 && y >= cases[k].y0 && y < cases[k].y1;
            assert_int_equal(px[i], in ? 127 : 9);
        }
    }
}

static void test_tables(void **state)
{
    struct cta c;
    (void)state;
    cta_init(&c, &plain32, NULL);
    assert_int_equal(cta_op_count(&c), 19);
    assert_int_equal(c.n_rates, 17 * 17 + 8 + 6); /* 17 operations of 17 bins, posterize, the filters */
    assert_int_equal(cta_op_bins(&c, find_op(&c, "posterize"), 0), 8);
    assert_int_equal(cta_op_bins(&c, find_op(&c, "rescale"), 1), 6);
    assert_int_equal(cta_op_bins(&c, find_op(&c, "identity"), 0), 0);
    for (size_t i = 0; i < c.n_rates; i++)
        assert_true(c.rate[i] == 1.0f);

    cta_init(&c, &pair64, NULL);
    assert_int_equal(c.n_rates, 17 * (9 + 6 + 2)); /* nine photometric, six geometric, jitter's two */
    const char *const absent[] = {"invert", "solarize", "posterize", "color", "equalize", "autocontrast"};
    for (int op = 0; op < cta_op_count(&c); op++)
        for (size_t k = 0; k < sizeof absent / sizeof *absent; k++)
            assert_string_not_equal(cta_op_name(&c, op), absent[k]);
    struct cta_options o;
    cta_defaults(&o);
    assert_near(o.decay, 0.99, 0);
    assert_near(o.threshold, 0.80, 0);
    o.per_date = true;
    cta_init(&c, &pair64, &o);
    assert_int_equal(c.n_rates, 17 * (2 * 9 + 6 + 2));
}

/* ---- sampling and update ---- */

static const float *rates_of(const struct cta *c, const char *name)
{
    return c->rate + c->first[find_op(c, name)][0];
}

/* A bin at 0.75 when the others are 1: q = 0.76/1.01 = 0.75248 -> 0. The others in proportion to q. */
static void test_sampling_rule(void **state)
{
    struct cta c;
    double expected[17], sum = 0, chi2 = 0;
    int count[17] = {0}, n = 0, ops[19] = {0}, n_ops = 0, low[10] = {0}, n_bins = 0;
    (void)state;
    cta_init(&c, &plain32, NULL);
    const int op = find_op(&c, "brightness");
    float *rate = c.rate + c.first[op][0];
    for (int i = 0; i < 17; i++)
        rate[i] = i == 3 ? 0.75f : i == 9 ? 0.05f : 1.0f - 0.01f * (float)i;
    for (int i = 0; i < 17; i++) {
        expected[i] = ((double)rate[i] + 0.01) / 1.01;
        expected[i] = expected[i] < 0.8 ? 0 : expected[i];
        sum += expected[i];
    }
    for (uint64_t key = 0; n < 20000; key++) {
        struct cta_policy p;
        struct rng r;
        rng_init(&r, 3, RNG_STRONG, key);
        cta_sample(&c, &r, &p);
        assert_int_equal(p.n, CTA_DEPTH);
        for (int k = 0; k < p.n; k++) {
            ops[p.choice[k].op]++;
            n_ops++;
            if (p.choice[k].op != op)
                continue;
            double at = p.choice[k].v[0] * 17;
            assert_true(at >= 0 && at < 17);
            count[(int)at]++;
            low[(int)((at - (int)at) * 10)]++;
            n++;
        }
    }
    assert_int_equal(count[3] + count[9], 0);
    for (int i = 0; i < 17; i++)
        if (expected[i] > 0) {
            double want = n * expected[i] / sum;
            chi2 += (count[i] - want) * (count[i] - want) / want;
            n_bins++;
        }
    assert_int_equal(n_bins, 15);
    assert_true(chi2 < 36.1); /* 14 degrees of freedom, p = 0.001 */
    for (chi2 = 0, n_bins = 0; n_bins < 10; n_bins++)
        chi2 += (low[n_bins] - n / 10.0) * (low[n_bins] - n / 10.0) / (n / 10.0);
    assert_true(chi2 < 27.9); /* uniform within the bin: 9 degrees */
    for (chi2 = 0, n_bins = 0; n_bins < 19; n_bins++)
        chi2 += (ops[n_bins] - n_ops / 19.0) * (ops[n_bins] - n_ops / 19.0) / (n_ops / 19.0);
    assert_true(chi2 < 42.3); /* operations uniform: 18 degrees */
}

static void test_probes_ignore_rates(void **state)
{
    struct cta c;
    int count[17] = {0}, n = 0;
    double chi2 = 0;
    (void)state;
    cta_init(&c, &plain32, NULL);
    const int op = find_op(&c, "shear_x");
    for (int i = 1; i < 17; i++)
        c.rate[c.first[op][0] + i] = 0.0f;
    for (uint64_t key = 0; n < 17000; key++) {
        struct cta_policy p;
        struct rng r;
        rng_init(&r, 4, RNG_WEAK, key);
        cta_sample_probe(&c, &r, &p);
        for (int k = 0; k < p.n; k++)
            if (p.choice[k].op == op) {
                count[(int)(p.choice[k].v[0] * 17)]++;
                n++;
            }
    }
    for (int i = 0; i < 17; i++)
        chi2 += (count[i] - n / 17.0) * (count[i] - n / 17.0) / (n / 17.0);
    assert_true(chi2 < 39.3); /* 16 degrees, p = 0.001 */
}

static void test_update_by_hand(void **state)
{
    struct cta c;
    const float right[3] = {0, 1, 0}, wrong[3] = {1, 0, 0}, unsure[3] = {0.3f, 0.6f, 0.1f};
    (void)state;
    cta_init(&c, &plain32, NULL);
    const struct cta_policy p = {
        2, {{find_op(&c, "blur"), 0, {0.5, 0}}, {find_op(&c, "rescale"), 0, {0.999, 0.2}}}};
    const float *blur = rates_of(&c, "blur"), *rescale = rates_of(&c, "rescale");
    cta_update(&c, &p, right, 3, 1); /* right answers leave a full bin full */
    assert_near(blur[8], 1.0, 1e-7);
    cta_update(&c, &p, unsure, 3, 1); /* w = p of the true class, also for soft answers */
    assert_near(blur[8], 0.99 + 0.01 * 0.6, 1e-7);
    assert_near(rescale[16], 0.99 + 0.01 * 0.6, 1e-7);
    assert_near(rescale[17 + 1], 0.99 + 0.01 * 0.6, 1e-7); /* 0.2 of 6 filters */
    cta_update(&c, &p, wrong, 3, 1);
    assert_near(blur[8], 0.99 * 0.996, 1e-7); /* wrong answers lower it */
    int changed = 0;
    for (size_t i = 0; i < c.n_rates; i++)
        changed += c.rate[i] != 1.0f;
    assert_int_equal(changed, 3);

    /* Twice the same bin in one policy: in sequence. Identity has nothing to update. */
    cta_init(&c, &plain32, NULL);
    const int op = find_op(&c, "posterize");
    const struct cta_policy twice = {2, {{op, 0, {0.99, 0}}, {op, 0, {0.95, 0}}}},
                            none = {1, {{find_op(&c, "identity"), 0, {0, 0}}}};
    cta_update(&c, &twice, wrong, 3, 1);
    cta_update(&c, &none, wrong, 3, 1);
    assert_near(c.rate[c.first[op][0] + 7], 0.99 * 0.99, 1e-7);

    /* int(v m 0.999): the very bottom of bin 8 is credited to bin 7, as published. */
    cta_init(&c, &plain32, NULL);
    const struct cta_policy edge = {1, {{find_op(&c, "blur"), 0, {8.0001 / 17, 0}}}};
    cta_update(&c, &edge, wrong, 3, 1);
    assert_near(rates_of(&c, "blur")[7], 0.99, 1e-7);

    for (int k = 0; k < 3000; k++)
        cta_update(&c, &p, k % 2 ? wrong : unsure, 3, 1);
    for (size_t i = 0; i < c.n_rates; i++)
        assert_true(c.rate[i] >= 0 && c.rate[i] <= 1);
}

/* A model that fails on strong darkening: in the end those bins are never drawn, the others are. */
static void test_learns_what_to_avoid(void **state)
{
    struct cta c;
    int drawn[17] = {0};
    (void)state;
    cta_init(&c, &plain32, NULL);
    const int op = find_op(&c, "brightness");
    for (uint64_t key = 0; key < 60000; key++) {
        struct cta_policy p;
        struct rng r;
        bool fails = false;
        rng_init(&r, 8, RNG_WEAK, key);
        cta_sample_probe(&c, &r, &p);
        for (int k = 0; k < p.n; k++)
            fails = fails || (p.choice[k].op == op && p.choice[k].v[0] < 4.0 / 17);
        cta_update(&c, &p, (float[2]){fails ? 0.9f : 0.05f, fails ? 0.1f : 0.95f}, 2, 1);
    }
    for (uint64_t key = 0; key < 20000; key++) {
        struct cta_policy p;
        struct rng r;
        rng_init(&r, 8, RNG_STRONG, key);
        cta_sample(&c, &r, &p);
        for (int k = 0; k < p.n; k++)
            if (p.choice[k].op == op)
                drawn[(int)(p.choice[k].v[0] * 17)]++;
    }
    for (int i = 0; i < 17; i++)
        assert_true(i < 4 ? drawn[i] == 0 : drawn[i] > 50);
}

/* ---- views ---- */

static uint8_t *random_image(const struct imageset_layout *l, uint64_t key)
{
    const int n = imageset_stored_channels(l), bands = l->n_dates * l->n_bands;
    uint8_t *px = need((size_t)l->size * l->size, (size_t)n);
    struct rng r;
    rng_init(&r, key, RNG_METHOD, 0);
    for (int p = 0; p < l->size * l->size; p++) {
        for (int c = 0; c < bands; c++)
            px[p * n + c] = (uint8_t)rng_below(&r, 256);
        if (!l->has_masks)
            continue;
        const int x = p % l->size, y = p / l->size;
        px[p * n + bands] = (uint8_t)(rng_below(&r, 10) ? (1u << l->n_dates) - 1 : rng_below(&r, 4));
        px[p * n + bands + 1] =
            abs(2 * x - l->size) < l->size / 3 && abs(2 * y - l->size) < l->size / 3 ? 255 : 0;
    }
    return px;
}

static const struct augment_config configs[] = {
    {{32, 1, 3, false, false, false}, true, true, false},
    {{28, 1, 1, false, false, false}, false, true, false},
    {{64, 2, 3, true, true, false}, true, true, false},
    {{32, 2, 4, true, false, false}, true, false, false},
    {{12, 1, 3, true, true, false}, true, true, false},
    {{8, 2, 3, false, false, false}, true, true, false},
};

static void test_bounds_and_keys(void **state)
{
    enum { CANARY = 64 };
    (void)state;
    for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
        const struct imageset_layout *l = &configs[k].layout;
        const size_t n = (size_t)l->size * l->size * (size_t)imageset_input_channels(l);
        const size_t room = cta_scratch_bytes(&configs[k]);
        struct cta c;
        uint8_t *px = random_image(l, 5), *scratch = need(room + CANARY, 1);
        float *x = need(n, sizeof *x), *again = need(n, sizeof *again);
        int differ = 0;
        cta_init(&c, &configs[k], NULL);
        for (uint64_t key = 0; key < 300; key++) {
            struct cta_policy p, q;
            struct rng r;
            bool probe = key % 2;
            memset(scratch, (int)(key & 255), room + CANARY);
            rng_init(&r, 9, RNG_STRONG, key);
            (probe ? cta_probe_view : cta_strong_view)(&c, px, &r, x, scratch, &p);
            for (int i = 0; i < CANARY; i++)
                assert_int_equal(scratch[room + (size_t)i], key & 255);
            for (size_t i = 0; i < n; i++)
                assert_true(x[i] >= -1.0f && x[i] <= 1.0f);
            memset(scratch, 0x5A, room);
            rng_init(&r, 9, RNG_STRONG, key);
            (probe ? cta_probe_view : cta_strong_view)(&c, px, &r, again, scratch, &q);
            assert_memory_equal(x, again, n * sizeof *x);
            assert_int_equal(p.n, q.n);
            rng_init(&r, 9, RNG_STRONG, key + 1000);
            cta_strong_view(&c, px, &r, again, scratch, NULL);
            differ += memcmp(x, again, n * sizeof *x) != 0;
            assert_true(p.n >= 0 && p.n <= CTA_MAX_CHOICES);
            for (int i = 0; i < p.n; i++)
                assert_true(p.choice[i].op < cta_op_count(&c) && p.choice[i].date < l->n_dates);
        }
        assert_true(differ > 295);
        free(px);
        free(scratch);
        free(x);
        free(again);
    }
}

/* Policy of two operations of no effect: the strong view is the weak view (same key) but for the cutout. */
static void test_identity_is_weak(void **state)
{
    struct cta c;
    struct augment_config config = plain32;
    const size_t n = 32 * 32 * 3;
    uint8_t *px = random_image(&plain32.layout, 2), *scratch = need(cta_scratch_bytes(&plain32), 1);
    float *x = need(n, sizeof *x), *weak = need(n, sizeof *weak);
    int tried = 0;
    (void)state;
    config.cutout = false;
    cta_init(&c, &config, NULL);
    for (uint64_t key = 0; tried < 3 && key < 20000; key++) {
        struct cta_policy p;
        struct rng r;
        rng_init(&r, 1, RNG_STRONG, key);
        cta_sample(&c, &r, &p);
        const int op = find_op(&c, "identity");
        if (p.choice[0].op != op || p.choice[1].op != op)
            continue;
        augment_view(&config, AUGMENT_WEAK, px, &r, weak, NULL); /* r stands where the view goes on */
        rng_init(&r, 1, RNG_STRONG, key);
        cta_strong_view(&c, px, &r, x, scratch, NULL);
        assert_memory_equal(x, weak, n * sizeof *x);
        c.augment.cutout = true;
        rng_init(&r, 1, RNG_STRONG, key);
        cta_strong_view(&c, px, &r, x, scratch, NULL);
        int hidden = 0;
        for (size_t i = 0; i < n; i += 3)
            hidden += memcmp(x + i, weak + i, 3 * sizeof *x) != 0;
        assert_in_range(hidden, 60, 256); /* 16 x 16, cut off at the border at most to a quarter */
        rng_init(&r, 1, RNG_STRONG, key);
        cta_probe_view(&c, px, &r, x, scratch, &p);
        assert_int_equal(p.choice[0].op, op); /* drawn alike up to here; probes are never cut out */
        c.augment.cutout = false;
        tried++;
    }
    assert_int_equal(tried, 3);
    free(px);
    free(scratch);
    free(x);
    free(weak);
}

/* The released programs' translations of 0.3 pixels move nothing; the paper's 0.3 of the side do. */
static void test_translation_option(void **state)
{
    (void)state;
    for (int as_pixels = 0; as_pixels < 2; as_pixels++) {
        uint8_t px[16 * 16], before[16 * 16], cover[16 * 16] = {0}, scratch[4096];
        struct augment_image im = {16, 1, px, cover};
        struct augment_cta_extra extra = {.translate_px = as_pixels ? 0.3 : 0.3 * 16};
        for (int i = 0; i < 256; i++)
            px[i] = before[i] = (uint8_t)i;
        assert_true(augment_cta_scratch_bytes(16, 1) <= sizeof scratch);
        augment_cta_apply(AUGMENT_CTA_TRANSLATE_X, (double[2]){1.0, 0}, &extra, &im, scratch);
        for (int i = 0; i < 256; i++) {
            int from = i % 16 + (as_pixels ? 0 : 5); /* 4.8 px + half a pixel, cut */
            assert_int_equal(px[i], from < 16 ? before[i / 16 * 16 + from] : 0);
        }
    }
}

/* One bright spot in both dates and under the footprint: wherever geometry takes it, both dates agree, up to
 * the jitter that the policy names. */
static void test_pair_geometry_is_shared(void **state)
{
    const int n = imageset_stored_channels(&pair64.layout), cin = imageset_input_channels(&pair64.layout);
    uint8_t *px = need(64 * 64, (size_t)n), *scratch = need(cta_scratch_bytes(&pair64), 1);
    float *x = need(64 * 64, (size_t)cin * sizeof *x);
    struct augment_config config = pair64;
    struct cta c;
    int moved = 0, photo[2] = {0, 0}, jittered = 0;
    (void)state;
    config.cutout = false;
    cta_init(&c, &config, NULL);
    const int jitter = find_op(&c, "jitter");
    for (int p = 0; p < 64 * 64; p++) {
        int dx = p % 64 - 36, dy = p / 64 - 28;
        int v = (int)(40 + 200 * exp(-(dx * dx + dy * dy) / 18.0));
        memset(px + p * n, v, 6);
        px[p * n + 6] = 3;
        px[p * n + 7] = abs(dx) < 9 && abs(dy) < 9 ? 255 : 0;
    }
    for (uint64_t key = 0; key < 400; key++) {
        struct cta_policy used;
        struct rng r;
        int at[2] = {0, 0};
        bool has_jitter = false, has_noise = false;
        rng_init(&r, 2, RNG_STRONG, key);
        cta_strong_view(&c, px, &r, x, scratch, &used);
        for (int k = 0; k < used.n; k++) {
            has_jitter |= used.choice[k].op == jitter;
            has_noise |= strcmp(cta_op_name(&c, used.choice[k].op), "noise") == 0;
            if (used.choice[k].op > jitter)
                photo[used.choice[k].date]++;
        }
        if (has_noise) /* the brightest pixel is then the noise's choice */
            continue;
        for (int date = 0; date < 2; date++)
            for (int p = 0; p < 64 * 64; p++)
                if (x[p * cin + 3 * date] > x[at[date] * cin + 3 * date])
                    at[date] = p;
        const double gap = hypot(at[0] % 64 - at[1] % 64, at[0] / 64 - at[1] / 64);
        assert_true(gap <= (has_jitter ? 7.5 : 3.0)); /* haze's slope moves a peak a little */
        jittered += has_jitter && gap >= 1;
        if (!has_jitter)
            assert_true(x[at[0] * cin + 6] == 1.0f); /* the outline goes with it */
        moved += at[0] != 28 * 64 + 36;
    }
    assert_true(moved > 250 && jittered > 10);
    assert_int_equal(photo[0], photo[1]);
    assert_true(photo[0] > 200);
    free(px);
    free(scratch);
    free(x);
}

/* With tables per date, what happens to one date's photometry says nothing about the other's. */
static void test_per_date(void **state)
{
    struct cta c;
    struct cta_options o;
    (void)state;
    cta_defaults(&o);
    for (int per_date = 0; per_date < 2; per_date++) {
        o.per_date = per_date;
        cta_init(&c, &pair64, &o);
        const int op = find_op(&c, "haze"), turn = find_op(&c, "rotate");
        const struct cta_policy p = {1, {{op, 1, {0.5, 0}}}};
        cta_update(&c, &p, (float[2]){1, 0}, 2, 1);
        assert_near(c.rate[c.first[op][1] + 8], 0.99, 1e-7);
        assert_near(c.rate[c.first[op][0] + 8], per_date ? 1.0 : 0.99, 1e-7);
        assert_int_equal(c.first[turn][0], c.first[turn][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pillow_bytes),
        cmocka_unit_test(test_cutout_by_hand),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_sampling_rule),
        cmocka_unit_test(test_probes_ignore_rates),
        cmocka_unit_test(test_update_by_hand),
        cmocka_unit_test(test_learns_what_to_avoid),
        cmocka_unit_test(test_bounds_and_keys),
        cmocka_unit_test(test_identity_is_weak),
        cmocka_unit_test(test_translation_option),
        cmocka_unit_test(test_pair_geometry_is_shared),
        cmocka_unit_test(test_per_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
