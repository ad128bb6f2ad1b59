/* SPDX-License-Identifier: Apache-2.0
 * Distances of sets of images against values worked out by hand: Gaussians with closed forms, kernels of four points,
 * projections of two, shifts, collapsed modes, copies. */
#include "models/learn/distance.h"

#include "models/base/rng.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* cmocka's own compares floats. */
#define assert_close(a, b, within) assert_true(fabs((a) - (b)) <= (within))

static struct err e;

static float *normals(size_t n, int d, double shift, uint64_t seed)
{
    float *x = malloc(n * (size_t)d * sizeof *x);
    struct rng r;
    rng_init(&r, seed, RNG_METHOD, 0);
    for (size_t i = 0; i < n * (size_t)d; i++)
        x[i] = (float)(rng_normal(&r) + shift);
    return x;
}

static void test_gaussians_have_closed_forms(void **state)
{
    (void)state;
    double out;
    /* diagonal: |m1-m2|^2 + sum (s1-s2)^2 */
    const double m1[3] = {1, 0, -2}, m2[3] = {0, 2, -2};
    const double c1[9] = {4, 0, 0, 0, 9, 0, 0, 0, 0}, c2[9] = {1, 0, 0, 0, 16, 0, 0, 0, 25};
    assert_true(distance_frechet_gauss(m1, c1, m2, c2, 3, &out, &e));
    assert_close(out, 5.0 + 1 + 1 + 25, 1e-10);
    /* two dimensions, axes askew: tr sqrt M = sqrt(tr M + 2 sqrt det M), tr M = sum S1 S2 = 9, det M = 5 * 3 */
    const double a[4] = {2, 1, 1, 3}, b[4] = {4, -1, -1, 1}, at[2] = {1, -2}, zero[2] = {0, 0};
    assert_true(distance_frechet_gauss(at, a, zero, b, 2, &out, &e));
    assert_close(out, 5 + 5 + 5 - 2 * sqrt(9 + 2 * sqrt(15.0)), 1e-10);
    assert_true(distance_frechet_gauss(zero, b, at, a, 2, &out, &e));
    assert_close(out, 5 + 5 + 5 - 2 * sqrt(9 + 2 * sqrt(15.0)), 1e-10);
}

static void test_frechet_of_samples(void **state)
{
    (void)state;
    enum { N = 4000, D = 8 };
    float *a = normals(N, D, 0, 1), *b = normals(N, D, 0.5, 2), *few = normals(5, D, 0, 3);
    double out, limit;
    assert_true(distance_frechet(a, N, a, N, D, &out, &e));
    assert_close(out, 0, 1e-8);
    assert_true(distance_frechet(few, 5, few, 5, D, &out, &e)); /* a singular covariance */
    assert_close(out, 0, 1e-6);
    assert_true(distance_frechet(a, N, b, N, D, &out, &e));
    assert_close(out, D * 0.25, 0.15);
    /* few rows exaggerate; the limit does so less */
    float *c = normals(400, D, 0, 4), *d = normals(400, D, 0, 5);
    assert_true(distance_frechet(c, 400, d, 400, D, &out, &e) &&
                distance_frechet_limit(c, d, 400, D, 1, &limit, &e));
    assert_true(out > 0.02 && fabs(limit) < out);
    free(a);
    free(b);
    free(c);
    free(d);
    free(few);
}

static void test_kernel_of_four_points(void **state)
{
    (void)state;
    const float a[2] = {0, 0}, b[2] = {1, 1};
    struct distance_kernel k;
    assert_true(distance_kernel(a, 2, b, 2, 1, 1, &k, &e)); /* (0+1)^3 + (1+1)^3 - 2 (0+1)^3 */
    assert_close(k.mean, 7, 1e-12);
    assert_close(k.deviation, 0, 1e-6);
    /* nothing between halves of one law, and something between two */
    enum { N = 1000, D = 6 };
    float *x = normals(N, D, 0, 7), *y = normals(N, D, 0, 8), *z = normals(N, D, 0.3, 9);
    assert_true(distance_kernel(x, N, y, N, D, 1, &k, &e));
    assert_close(k.mean, 0, 2 * k.deviation);
    struct distance_kernel far;
    assert_true(distance_kernel(x, N, z, N, D, 1, &far, &e));
    assert_true(far.mean > 10 * fabs(k.mean) && far.mean > 0.1);
    free(x);
    free(y);
    free(z);
}

static void test_sliced_by_hand(void **state)
{
    (void)state;
    const float a[2] = {0, 2}, b[2] = {5, 1}, b_turned[2] = {1, 5};
    double out, again;
    assert_true(distance_sliced(a, b, 2, 1, 7, 1, &out, &e));
    assert_close(out, sqrt((1.0 + 9) / 2), 1e-6);
    assert_true(distance_sliced(a, b_turned, 2, 1, 7, 1, &again, &e));
    assert_close(out, again, 0);
    /* a shift m in d dimensions: the root of the mean of (v.m)^2 is |m|/sqrt d */
    enum { N = 300, D = 5 };
    float *x = normals(N, D, 0, 1), *y = malloc(N * D * sizeof *y);
    for (int i = 0; i < N * D; i++)
        y[i] = x[i] + (i % D == 0 ? 3 : 0);
    assert_true(distance_sliced(x, y, N, D, 2000, 1, &out, &e));
    assert_close(out, 3 / sqrt(5.0), 0.06);
    omp_set_num_threads(3);
    assert_true(distance_sliced(x, y, N, D, 2000, 1, &again, &e));
    omp_set_num_threads(1);
    assert_true(memcmp(&out, &again, sizeof out) == 0);
    free(x);
    free(y);
}

static void test_patches_see_brightness_and_detail(void **state)
{
    (void)state;
    enum { N = 60, SIZE = 16, C = 2, ALL = N * SIZE * SIZE * C };
    uint8_t *a = malloc(ALL), *bright = malloc(ALL), *blurred = malloc(ALL);
    struct rng r;
    double out, sum = 0, square = 0;
    rng_init(&r, 5, RNG_METHOD, 0);
    for (int i = 0; i < ALL; i++) {
        a[i] = (uint8_t)(60 + rng_below(&r, 100));
        bright[i] = (uint8_t)(a[i] + 20);
    }
    for (int i = 0; i < N; i++)
        for (int y = 0; y < SIZE; y++)
            for (int x = 0; x < SIZE; x++)
                for (int c = 0; c < C; c++) {
                    const uint8_t *at = a + ((i * SIZE + y / 2 * 2) * SIZE + x / 2 * 2) * C + c;
                    const double mean = (at[0] + at[C] + at[SIZE * C] + at[SIZE * C + C]) / 4.0;
                    blurred[((i * SIZE + y) * SIZE + x) * C + c] = (uint8_t)lround(mean);
                    sum += mean;
                    square += mean * mean;
                }
    const double deviation = sqrt(square / ALL - sum / ALL * (sum / ALL));
    assert_true(distance_patches(a, a, N, SIZE, C, 1, &out, &e));
    assert_close(out, 0, 0);
    /* two levels: detail is the same, means are 20 grey levels off in every number of a patch */
    assert_true(distance_patches(a, bright, N, SIZE, C, 1, &out, &e));
    assert_close(out, 20 / deviation / 2, 0.15 * 20 / deviation / 2);
    /* only detail is lost: white noise of deviation 1 against nothing, half of it in the mean of both levels */
    assert_true(distance_patches(a, blurred, N, SIZE, C, 1, &out, &e));
    assert_close(out, 0.5, 0.05);
    free(a);
    free(bright);
    free(blurred);
}

static void test_manifold_tells_lies_from_collapse(void **state)
{
    (void)state;
    enum { N = 200, D = 3 };
    float *real = normals(N, D, 0, 1), *made = malloc(N * D * sizeof *made);
    double precision, recall;
    for (int i = 0; i < N * D; i++) /* two modes */
        real[i] = 0.1f * real[i] + (i / D % 2 ? 10 : 0);
    assert_true(distance_manifold(real, N, real, N, D, &precision, &recall, &e));
    assert_close(precision, 1, 0);
    assert_close(recall, 1, 0);
    for (int i = 0; i < N * D; i++) /* half of it nowhere near */
        made[i] = i / D < N / 2 ? real[i] : real[i] + 100;
    assert_true(distance_manifold(real, N, made, N, D, &precision, &recall, &e));
    assert_close(precision, 0.5, 0);
    float *law = normals(N, D, 0, 2);
    for (int i = 0; i < N * D; i++) /* one mode of the two */
        made[i] = 0.1f * law[i];
    assert_true(distance_manifold(real, N, made, N, D, &precision, &recall, &e));
    assert_true(precision > 0.8 && recall > 0.4 && recall <= 0.5);
    free(real);
    free(made);
    free(law);
}

static void test_memory_of_copies(void **state)
{
    (void)state;
    const float made[1] = {0}, learnt[1] = {3}, held[1] = {-2};
    double out;
    assert_true(distance_memory(made, 1, learnt, held, 1, 1, &out, &e));
    assert_close(out, 1.5, 1e-12);
    enum { N = 300, D = 4 };
    float *a = normals(N, D, 0, 1), *b = normals(N, D, 0, 2), *c = normals(N, D, 0, 3);
    assert_true(distance_memory(c, N, a, b, N, D, &out, &e));
    assert_close(out, 1, 0.1);
    assert_true(distance_memory(a, N, a, b, N, D, &out, &e));
    assert_close(out, 0, 0);
    free(a);
    free(b);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gaussians_have_closed_forms),
        cmocka_unit_test(test_frechet_of_samples),
        cmocka_unit_test(test_kernel_of_four_points),
        cmocka_unit_test(test_sliced_by_hand),
        cmocka_unit_test(test_patches_see_brightness_and_detail),
        cmocka_unit_test(test_manifold_tells_lies_from_collapse),
        cmocka_unit_test(test_memory_of_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
