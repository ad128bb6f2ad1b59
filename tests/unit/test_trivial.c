/* SPDX-License-Identifier: Apache-2.0
 *
 * test_trivial.c - the colour baseline: its statistics by hand, its fit against an equation solved by
 * bisection and against the stated objective, written here a second time. */
#include "models/base/rng.h"
#include "models/learn/trivial.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("got %.12g, want %.12g within %g", got, want, tolerance);
}

/* An 8 x 8 pair with one band a date: window 2..5. Stored per pixel: pre, post, validity, footprint. */
static void test_features_of_a_pair(void **state)
{
    (void)state;
    const struct imageset_layout l = {.size = 8, .n_dates = 2, .n_bands = 1, .has_masks = true};
    uint8_t px[8 * 8 * 4];
    double f[4];
    assert_int_equal(trivial_feature_count(&l), 4);
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++) {
            uint8_t *q = px + (y * 8 + x) * 4;
            bool inside = y >= 2 && y < 6 && x >= 2 && x < 6;
            q[0] = inside ? (x % 2 ? 10 : 30)
                          : 255;              /* mean 20, deviation 10; what lies outside must not count */
            q[1] = inside && y < 4 ? 100 : 7; /* the lower half has no post data */
            q[2] = y < 4 ? 3 : 1;
            q[3] = 255;
        }
    trivial_features(&l, px, f);
    assert_near(f[0], 20, 1e-12);
    assert_near(f[1], 10, 1e-12);
    assert_near(f[2], 100, 1e-12);
    assert_near(f[3], 0, 1e-12);
    for (int i = 0; i < 64; i++)
        px[i * 4 + 2] = 1;
    trivial_features(&l, px, f);
    assert_near(f[0], 20, 1e-12);
    assert_true(isnan(f[2]) && isnan(f[3]));
}

static void test_features_of_a_plain_image(void **state)
{
    (void)state;
    const struct imageset_layout l = {.size = 4, .n_dates = 1, .n_bands = 3};
    uint8_t px[4 * 4 * 3];
    double f[6];
    for (int i = 0; i < 16; i++) {
        px[3 * i] = (uint8_t)(i < 8 ? 0 : 200);
        px[3 * i + 1] = 50;
        px[3 * i + 2] = (uint8_t)(i == 0 ? 160 : 0);
    }
    trivial_features(&l, px, f);
    assert_near(f[0], 100, 1e-12);
    assert_near(f[1], 100, 1e-12);
    assert_near(f[2], 50, 1e-12);
    assert_near(f[3], 0, 1e-12);
    assert_near(f[4], 10, 1e-12);
    assert_near(f[5], sqrt(160.0 * 160 / 16 - 100), 1e-9);
}

/* Two points at +-1: by symmetry the rows are -a, a, and 2 log(1+exp(-2a)) + a^2 is least where a (1+exp(2a))
 * = 2. */
static void test_fit_of_two_points(void **state)
{
    (void)state;
    double x[] = {3, 7}, lo = 0, hi = 2; /* standardised to -1 and 1 */
    const int16_t label[] = {0, 1};
    struct trivial t;
    struct err e;
    float p[2];
    for (int i = 0; i < 100; i++) {
        double a = 0.5 * (lo + hi);
        if (a * (1 + exp(2 * a)) > 2)
            hi = a;
        else
            lo = a;
    }
    assert_true(trivial_fit_features(&t, x, label, 2, 1, 2, &e));
    assert_near(t.weights[2], lo, 1e-6);
    assert_near(t.weights[0], -lo, 1e-6);
    assert_near(t.mean[0], 5, 1e-12);
    assert_near(t.scale[0], 2, 1e-12);
    const double at = 7, unknown = NAN;
    trivial_predict_features(&t, &at, p);
    assert_near(p[1], 1 / (1 + exp(-2 * lo)), 1e-6);
    trivial_predict_features(&t, &unknown, p); /* no data: no opinion */
    assert_near(p[1], 0.5, 1e-6);
    trivial_free(&t);
}

enum { N = 90, D = 3, C = 4, ROW = D + 1 };

/* The objective of trivial.h, over the classes that occur (not class 2). */
static double objective(const double *f, const int16_t *label, const double *w)
{
    double total = 0, count[C] = {0};
    for (int i = 0; i < N; i++)
        count[label[i]]++;
    for (int i = 0; i < N; i++) {
        double sum = 0, own = 0;
        for (int c = 0; c < C; c++) {
            if (count[c] == 0)
                continue;
            double z = w[c * ROW + D];
            for (int j = 0; j < D; j++)
                z += w[c * ROW + j] * f[i * D + j];
            sum += exp(z);
            own = c == label[i] ? z : own;
        }
        total += N / (3 * count[label[i]]) * (log(sum) - own);
    }
    for (int c = 0; c < C; c++)
        for (int j = 0; j < D; j++)
            total += 0.5 * w[c * ROW + j] * w[c * ROW + j];
    return total;
}

static void test_fit_is_the_minimum(void **state)
{
    (void)state;
    double f[N * D], again[N * D], w[C * ROW];
    int16_t label[N];
    struct trivial t, u;
    struct err e;
    struct rng r;
    float p[C];
    rng_init(&r, 5, RNG_METHOD, 0);
    for (int i = 0; i < N; i++) {
        label[i] = (int16_t)(i < 60 ? 0 : i < 80 ? 1 : 3);
        for (int j = 0; j < D; j++)
            f[i * D + j] = 100 + 20 * rng_normal(&r) + (j == label[i] % D ? 15 : 0);
    }
    memcpy(again, f, sizeof f);
    assert_true(trivial_fit_features(&t, f, label, N, D, C, &e)); /* leaves f standardised */
    memcpy(w, t.weights, sizeof w);
    double best = objective(f, label, w), gradient = 0;
    for (int k = 0; k < C * ROW; k++) {
        if (k / ROW == 2)
            continue;
        double keep = w[k], up, down;
        w[k] = keep + 1e-4;
        up = objective(f, label, w);
        w[k] = keep - 1e-4;
        down = objective(f, label, w);
        w[k] = keep;
        assert_true(up > best && down > best);
        gradient = fmax(gradient, fabs(up - down) / 2e-4);
    }
    assert_near(gradient, 0, 1e-4);
    const double raw[D] = {100, 100, 100};
    trivial_predict_features(&t, raw, p);
    assert_near(p[2], 0, 0); /* a class that was never seen */
    assert_near(p[0] + p[1] + p[3], 1, 1e-6);
    assert_true(trivial_fit_features(&u, again, label, N, D, C, &e));
    assert_memory_equal(t.weights, u.weights, sizeof w);
    trivial_free(&t);
    trivial_free(&u);
}

static void test_fit_of_images(void **state)
{
    (void)state;
    const struct imageset_layout l = {.size = 4, .n_dates = 1, .n_bands = 1};
    struct imageset set = {0};
    struct trivial t;
    struct err e;
    float p[2];
    const uint32_t items[] = {1, 2, 3, 4};
    assert_true(imageset_alloc(&set, 6, &l, &e));
    set.n_classes = 2;
    for (size_t i = 0; i < 6; i++) {
        set.label[i] = (int16_t)(i % 2);
        memset(set.px + i * 16, i % 2 ? 180 : 60, 16);
        set.px[i * 16] = (uint8_t)(60 + 10 * i);
    }
    assert_true(trivial_fit(&t, &set, items, 4, &e));
    trivial_predict(&t, &l, set.px, p); /* items 0 and 5 were not among those taught */
    assert_true(p[0] > 0.7f);
    trivial_predict(&t, &l, set.px + 5 * 16, p);
    assert_true(p[1] > 0.7f);
    trivial_free(&t);
    assert_false(trivial_fit(&t, &set, items, 0, &e));
    assert_int_equal(e.code, ERR_INPUT);
    imageset_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features_of_a_pair), cmocka_unit_test(test_features_of_a_plain_image),
        cmocka_unit_test(test_fit_of_two_points),  cmocka_unit_test(test_fit_is_the_minimum),
        cmocka_unit_test(test_fit_of_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
