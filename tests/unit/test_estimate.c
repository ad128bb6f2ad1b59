/* SPDX-License-Identifier: Apache-2.0
 * test_estimate.c - the interval statistics of models/learn/estimate.h against published and hand-worked values,
 * against enumeration of every sample of small populations, and by simulated coverage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "models/base/rng.h"
#include "models/learn/estimate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CLOSE(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

static struct estimate exact(uint32_t N, uint32_t n, uint32_t x)
{
    struct estimate out;
    const struct estimate_cell c = {N, n, x};
    estimate_exact(&c, 1, 0.95, &out);
    return out;
}

static struct estimate assisted(const struct estimate_cell *c, int n)
{
    struct estimate out;
    struct err e;
    assert_true(estimate_assisted(c, n, 0.95, &out, &e));
    return out;
}

/* Clopper and Pearson's limits as any table of them has them. */
static void test_binomial(void **state)
{
    (void)state;
    static const struct {
        uint32_t n, x;
        double low, high;
    } known[] = {{10, 0, 0, 0.3084971},
                 {10, 5, 0.1870860, 0.8129140},
                 {20, 1, 0.0012651, 0.2487328},
                 {200, 2, 0.0012133, 0.0356547},
                 {50, 50, 0.9288783, 1},
                 {1, 0, 0, 0.975},
                 {1, 1, 0.025, 1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        double low, high;
        estimate_binomial(known[i].n, known[i].x, 0.95, &low, &high);
        CLOSE(low, known[i].low, 1e-6);
        CLOSE(high, known[i].high, 1e-6);
    }
}

static void test_hypergeometric_by_hand(void **state)
{
    (void)state;
    /* 10 buildings, 5 drawn, none damaged: C(10-K,5)/C(10,5) is 126, 56, 21, 6 of 252 for K = 1..4, and only
     * the last is below 0.025. */
    CLOSE(estimate_lower_tail(10, 3, 5, 0), 21.0 / 252, 1e-12);
    CLOSE(estimate_upper_tail(10, 4, 5, 1), 1 - 6.0 / 252, 1e-12);
    struct estimate a = exact(10, 5, 0);
    assert_true(a.low == 0 && a.high == 3);
    /* the mirror image */
    a = exact(10, 5, 5);
    assert_true(a.low == 7 && a.high == 10);
    /* 20000 buildings, 200 drawn, none damaged: prod_{i<200} (20000-K-i)/(20000-i) */
    a = exact(20000, 200, 0);
    double p[2] = {1, 1};
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < 200; i++)
            p[side] *= (20000 - (a.high + side) - i) / (20000.0 - i);
    assert_true(p[0] > 0.025 && p[1] <= 0.025);
    assert_true(a.low == 0 && a.high > 355 && a.high < 370);
    /* values of R's and SciPy's hypergeometric distribution, inverted */
    static const double known[][5] = {{50, 10, 3, 5, 31},          {500, 60, 7, 26, 109},
                                      {5000, 200, 0, 0, 89},       {5000, 200, 2, 7, 175},
                                      {1000, 100, 100, 966, 1000}, {1000, 100, 37, 281, 467}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        a = exact((uint32_t)known[i][0], (uint32_t)known[i][1], (uint32_t)known[i][2]);
        assert_true(a.low == known[i][3] && a.high == known[i][4]);
    }
    /* far beyond what the sample can tell apart, it is Clopper and Pearson's */
    double low, high;
    a = exact(400000000, 200, 2);
    estimate_binomial(200, 2, 0.95, &low, &high);
    CLOSE(a.low / 4e8, low, 1e-6);
    CLOSE(a.high / 4e8, high, 1e-6);
    /* a census knows */
    a = exact(37, 37, 5);
    assert_true(a.low == 5 && a.high == 5 && a.total == 5);
}

/* Every K and every x of small populations: the exact interval covers at least its level, the assisted one of
 * a single cell covers it on average, both stay within what is possible. */
static void test_enumerated_coverage(void **state)
{
    (void)state;
    static const uint32_t sizes[][2] = {{12, 4}, {30, 12}, {60, 20}, {90, 85}, {200, 40}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const uint32_t N = sizes[s][0], n = sizes[s][1];
        double mean = 0, smallest = 1;
        for (uint32_t K = 0; K <= N; K++) {
            double covered = 0, covered_mid = 0, all = 0;
            for (uint32_t x = 0; x <= n; x++) {
                const struct estimate_cell c = {N, n, x};
                const double p =
                    estimate_lower_tail(N, K, n, x) - (x ? estimate_lower_tail(N, K, n, x - 1) : 0);
                const struct estimate a = exact(N, n, x), b = assisted(&c, 1);
                assert_true(b.low >= a.low && b.high <= a.high);
                assert_true(a.low >= x && a.high <= N - (n - x) && b.low >= x && b.high <= N - (n - x));
                assert_true(a.high > 0 && a.low < N && b.high > 0 && b.low < N);
                covered += p * (a.low <= K && K <= a.high);
                covered_mid += p * (b.low <= K && K <= b.high);
                all += p;
            }
            CLOSE(all, 1, 1e-9);
            smallest = fmin(smallest, covered);
            mean += covered_mid / (N + 1);
        }
        assert_true(smallest >= 0.95 - 1e-9);
        /* where so few values of x are likely that tails jump, it errs to the safe side */
        assert_true(mean > 0.94 && (N < 60 || n > N / 2 || mean < 0.985));
    }
}

/* Two strata, every pair of totals and of samples: the guarantee holds for the sum. */
static void test_exact_strata(void **state)
{
    (void)state;
    const uint32_t N[2] = {14, 25}, n[2] = {6, 5};
    struct estimate table[7][6];
    for (uint32_t x = 0; x <= n[0]; x++)
        for (uint32_t y = 0; y <= n[1]; y++) {
            const struct estimate_cell c[2] = {{N[0], n[0], x}, {N[1], n[1], y}};
            estimate_exact(c, 2, 0.95, &table[x][y]);
        }
    for (uint32_t a = 0; a <= N[0]; a++)
        for (uint32_t b = 0; b <= N[1]; b++) {
            double covered = 0;
            for (uint32_t x = 0; x <= n[0]; x++)
                for (uint32_t y = 0; y <= n[1]; y++) {
                    const double p = estimate_lower_tail(N[0], a, n[0], x) -
                                     (x ? estimate_lower_tail(N[0], a, n[0], x - 1) : 0),
                                 q = estimate_lower_tail(N[1], b, n[1], y) -
                                     (y ? estimate_lower_tail(N[1], b, n[1], y - 1) : 0);
                    covered += p * q * (table[x][y].low <= a + b && a + b <= table[x][y].high);
                }
            assert_true(covered >= 0.95 - 1e-9);
        }
    /* a stratum that was graded whole costs no width */
    const struct estimate_cell c[2] = {{10, 5, 0}, {8, 8, 3}};
    struct estimate out;
    estimate_exact(c, 2, 0.95, &out);
    assert_true(out.low == 3 && out.high == 6 && out.total == 3);
}

static void test_assisted_cells(void **state)
{
    (void)state;
    /* Nothing damaged in any group: cutting the population into groups must not widen the answer. */
    const struct estimate_cell one = {1000, 100, 0},
                               four[4] = {{250, 25, 0}, {250, 25, 0}, {250, 25, 0}, {250, 25, 0}};
    struct estimate a = assisted(&one, 1), b = assisted(four, 4);
    assert_true(a.total == 0 && b.total == 0 && a.low == 0 && b.low == 0 && b.high > 0);
    CLOSE(a.high, b.high, 3);
    /* Groups that tell hits from misses narrow it; the total is the weighted sum by hand:
     * 800 * 2 / 80 + 200 * 18 / 20 = 20 + 180 */
    const struct estimate_cell mixed = {1000, 100, 20}, sharp[2] = {{800, 80, 2}, {200, 20, 18}};
    a = assisted(&mixed, 1);
    b = assisted(sharp, 2);
    CLOSE(b.total, 200, 1e-9);
    assert_true(b.high - b.low < 0.6 * (a.high - a.low) && b.low < 200 && b.high > 200);
    /* For a large sample it is the normal interval of stratified sampling with the finite population factor:
     * var = sum N_g^2 (1 - n_g / N_g) p (1 - p) / (n_g - 1) */
    const struct estimate_cell large[2] = {{30000, 3000, 600}, {10000, 2000, 1200}};
    const double p[2] = {0.2, 0.6};
    double var = 0;
    for (int g = 0; g < 2; g++)
        var += (double)large[g].n_population * large[g].n_population *
               (1 - (double)large[g].n_sample / large[g].n_population) * p[g] * (1 - p[g]) /
               (large[g].n_sample - 1);
    b = assisted(large, 2);
    CLOSE(b.total, 12000, 1e-6);
    CLOSE(b.low, 12000 - 1.96 * sqrt(var), 0.03 * 1.96 * sqrt(var));
    CLOSE(b.high, 12000 + 1.96 * sqrt(var), 0.03 * 1.96 * sqrt(var));
    /* hits and misses change places: the mirror image */
    const struct estimate_cell mirror[2] = {{800, 80, 78}, {200, 20, 2}};
    a = assisted(sharp, 2);
    b = assisted(mirror, 2);
    CLOSE(a.low + b.high, 1000, 1.01);
    CLOSE(a.high + b.low, 1000, 1.01);
    /* never beyond what was seen */
    const struct estimate_cell nearly[2] = {{20, 19, 19}, {30, 29, 0}};
    b = assisted(nearly, 2);
    assert_true(b.low >= 19 && b.high <= 21);
    /* a census of both */
    const struct estimate_cell census[2] = {{20, 20, 7}, {30, 30, 1}};
    b = assisted(census, 2);
    assert_true(b.low == 8 && b.high == 8 && b.total == 8);
}

static void test_groups(void **state)
{
    (void)state;
    uint32_t population[ESTIMATE_BINS] = {0}, sample[ESTIMATE_BINS] = {0};
    int first[ESTIMATE_MAX_GROUPS];
    /* two heaps are two groups, cut between them */
    population[4] = 900;
    population[190] = 100;
    sample[4] = 90;
    sample[190] = 10;
    assert_int_equal(estimate_groups(population, sample, 8, first), 2);
    assert_true(first[0] == 0 && first[1] > 4 && first[1] <= 190);
    /* too few graded in the second heap: one group */
    sample[190] = 3;
    assert_int_equal(estimate_groups(population, sample, 8, first), 1);
    /* a model that says the same of all */
    memset(population, 0, sizeof population);
    memset(sample, 0, sizeof sample);
    population[100] = 1000;
    sample[100] = 100;
    assert_int_equal(estimate_groups(population, sample, 8, first), 1);
    /* spread scores: several groups, each with its share */
    for (int b = 0; b < ESTIMATE_BINS; b++) {
        population[b] = 20;
        sample[b] = 2;
    }
    const int n = estimate_groups(population, sample, 8, first);
    assert_true(n >= 3 && n <= ESTIMATE_MAX_GROUPS && first[0] == 0);
    for (int g = 1; g < n; g++)
        assert_true(first[g] - first[g - 1] >= 4);
}

static void test_draw(void **state)
{
    (void)state;
    struct err e;
    uint32_t a[300], b[1000], seen[1000] = {0}, zero = 0;
    assert_true(estimate_draw(5, 0, 1000, 300, a, &e) && estimate_draw(5, 0, 1000, 1000, b, &e));
    assert_memory_equal(a, b, sizeof a); /* the longer draw begins with the shorter */
    for (int i = 0; i < 1000; i++)
        seen[b[i]]++;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(seen[i], 1);
    assert_true(estimate_draw(6, 0, 1000, 300, b, &e));
    assert_memory_not_equal(a, b, sizeof a);
    /* every building is as likely: 2000 draws of 5 of 20, 500 expected each, sd 19 */
    uint32_t hits[20] = {0};
    for (uint64_t seed = 0; seed < 2000; seed++) {
        assert_true(estimate_draw(seed, 1, 20, 5, a, &e));
        for (int i = 0; i < 5; i++)
            hits[a[i]]++;
    }
    for (int i = 0; i < 20; i++)
        zero += hits[i] < 410 || hits[i] > 590;
    assert_int_equal(zero, 0);
}

static void test_sizes(void **state)
{
    (void)state;
    struct err e;
    /* the answer does what it says, and one building fewer does not */
    const uint32_t n = estimate_size_exact(20000, 0.1, 600, 0.95);
    struct estimate a = exact(20000, n, (uint32_t)(n * 0.1 + 0.5));
    assert_true((a.high - a.low) / 2 <= 600);
    /* normal theory: n0 = 1.96^2 p q / 0.03^2 = 384, less 2 % for the finite population; exact wants a bit more */
    assert_true(n > 376 && n < 440);
    assert_int_equal(estimate_size_exact(50, 0.5, 0, 0.95), 50); /* certainty costs a census */
    const uint32_t N[2] = {18000, 2000};
    const double sharp[2] = {0.01, 0.91}, blunt[2] = {0.1, 0.1};
    uint32_t less, more;
    assert_true(estimate_size_assisted(N, sharp, 2, 600, 0.95, &less, &e));
    assert_true(estimate_size_assisted(N, blunt, 2, 600, 0.95, &more, &e));
    assert_true(less < 0.5 * n && more > 0.8 * n && more <= n + 8);
}

/* Simulated events; samples/experiments/estimate_coverage.c is the long form. */
static void test_simulated_coverage(void **state)
{
    (void)state;
    enum { EVENTS = 1200, N = 2000, n = 120 };
    static const double shares[3] = {0.01, 0.1, 0.6};
    for (int s = 0; s < 3; s++) {
        int covered[2] = {0};
        double width[2] = {0};
        for (int event = 0; event < EVENTS; event++) {
            struct rng r;
            uint32_t bins[2][ESTIMATE_BINS] = {{0}}, pick[n], x = 0;
            static uint16_t bin[N];
            const uint32_t K = (uint32_t)(shares[s] * N + 0.5);
            int first[ESTIMATE_MAX_GROUPS];
            struct estimate_cell cell[ESTIMATE_MAX_GROUPS] = {{0}};
            struct err e;
            rng_init(&r, 11, RNG_SCENE, (uint64_t)(s * EVENTS + event));
            for (uint32_t i = 0; i < N; i++) { /* an overconfident model of AUROC 0.92 */
                const double score =
                    4 * (rng_normal(&r) + (i < K ? 1 : -1)) + log(shares[s] / (1 - shares[s]));
                bin[i] = (uint16_t)fmin(ESTIMATE_BINS / (1 + exp(-score)), ESTIMATE_BINS - 1);
                bins[0][bin[i]]++;
            }
            assert_true(estimate_draw((uint64_t)event, (uint32_t)s, N, n, pick, &e));
            for (int i = 0; i < n; i++) {
                bins[1][bin[pick[i]]]++;
                x += pick[i] < K;
            }
            const int groups = estimate_groups(bins[0], bins[1], 8, first);
            for (int g = 0; g < groups; g++) {
                const int end = g + 1 < groups ? first[g + 1] : ESTIMATE_BINS;
                for (int b = first[g]; b < end; b++) {
                    cell[g].n_population += bins[0][b];
                    cell[g].n_sample += bins[1][b];
                }
                for (int i = 0; i < n; i++)
                    cell[g].n_hit += bin[pick[i]] >= first[g] && bin[pick[i]] < end && pick[i] < K;
            }
            const struct estimate out[2] = {exact(N, n, x), assisted(cell, groups)};
            for (int m = 0; m < 2; m++) {
                covered[m] += out[m].low <= K && K <= out[m].high;
                width[m] += (out[m].high - out[m].low) / EVENTS;
                assert_true(out[m].high > 0 && out[m].low < N && out[m].low >= x &&
                            out[m].high <= N - (n - x));
            }
        }
        /* one standard error of the count is 0.6 % */
        assert_true(covered[0] >= 0.94 * EVENTS);
        assert_true(covered[1] >= 0.93 * EVENTS && covered[1] <= (shares[s] < 0.05 ? 0.995 : 0.97) * EVENTS);
        assert_true(width[1] < (shares[s] < 0.05 ? 0.95 : 0.85) * width[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_binomial),
        cmocka_unit_test(test_hypergeometric_by_hand),
        cmocka_unit_test(test_enumerated_coverage),
        cmocka_unit_test(test_exact_strata),
        cmocka_unit_test(test_assisted_cells),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_draw),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_simulated_coverage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
