/* SPDX-License-Identifier: Apache-2.0
 * Class discovery: the assignment against all permutations, Dataset Reconstruction Accuracy and Cramer's V by hand, the
 * learner against a known discriminant, learnability of cuts in one and in two views, and planted classes of two
 * conditionally independent Gaussian views, with the control that holds none. */
#include "models/learn/discovery.h"

#include "models/base/rng.h"
#include "models/learn/active.h"
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { D = 16, N_LABELED = 1000, N_POOL = 2000, N_ASIDE = 300, N = N_LABELED + N_POOL + N_ASIDE };

/* cmocka's own compares floats. */
#define assert_close(a, b, within) assert_true(fabs((a) - (b)) <= (within))

/* ---- assignment ---- */

static size_t best_by_trying(const size_t *count, int n_rows, int n_columns, int row, unsigned used)
{
    if (row == n_rows)
        return 0;
    size_t best = best_by_trying(count, n_rows, n_columns, row + 1, used); /* the row stays unmatched */
    for (int j = 0; j < n_columns; j++)
        if (!(used >> j & 1)) {
            const size_t with = count[row * n_columns + j] +
                                best_by_trying(count, n_rows, n_columns, row + 1, used | 1u << j);
            best = with > best ? with : best;
        }
    return best;
}

static void test_match_is_the_best_of_all(void **state)
{
    (void)state;
    for (uint64_t t = 0; t < 300; t++) {
        struct rng r;
        struct err e;
        size_t count[49], sum = 0;
        int match[7];
        unsigned used = 0;
        rng_init(&r, 7, RNG_METHOD, t);
        const int n = 1 + (int)rng_below(&r, 7), m = 1 + (int)rng_below(&r, 7);
        for (int i = 0; i < n * m; i++)
            count[i] = rng_below(&r, t % 3 ? 50 : 3); /* every third is full of ties and zeros */
        assert_true(discovery_match(count, n, m, match, &e));
        for (int i = 0; i < n; i++) {
            if (match[i] < 0)
                continue;
            assert_in_range(match[i], 0, m - 1);
            assert_false(used >> match[i] & 1);
            used |= 1u << match[i];
            assert_true(count[i * m + match[i]] > 0);
            sum += count[i * m + match[i]];
        }
        assert_int_equal(sum, best_by_trying(count, n, m, 0, 0));
    }
}

/* ---- Dataset Reconstruction Accuracy ---- */

/* Six points, two known classes (0, 1), two novel (2, 3), two found (2, 3 in assigned):
 *   truth     0  1  2  2  3  3
 *   assigned  0  R  3  3  3  2      R: rejected
 * counts: found 2 -> truth 3 once; found 3 -> truth 2 twice, truth 3 once. The best map is 2->3, 3->2: three hits, and
 * one known one. DRA 4/6, known 1/2, novel 3/4; many to one: found 3 is mostly 2 (2), found 2 is 3 (1), known 1: 4/6. */
static void test_six_points_by_hand(void **state)
{
    (void)state;
    const int16_t truth[] = {0, 1, 2, 2, 3, 3}, assigned[] = {0, DISCOVERY_REJECT, 3, 3, 3, 2};
    const int16_t renamed[] = {0, DISCOVERY_REJECT, 2, 2, 2, 3};
    struct discovery_accuracy a, b;
    struct err e;
    assert_true(discovery_score(assigned, truth, 6, 2, 2, 2, &a, &e));
    assert_close(a.dra, 4.0 / 6, 1e-12);
    assert_close(a.known, 0.5, 1e-12);
    assert_close(a.novel, 0.75, 1e-12);
    assert_close(a.lenient, 4.0 / 6, 1e-12);
    assert_close(a.rejected, 1.0 / 6, 1e-12);
    assert_int_equal(a.match[0], 3);
    assert_int_equal(a.match[1], 2);
    assert_true(discovery_score(renamed, truth, 6, 2, 2, 2, &b, &e));
    assert_close(b.dra, a.dra, 0);
    assert_close(b.lenient, a.lenient, 0);
    assert_int_equal(b.match[0], 2);
}

/* A found class that swallows a known one gains nothing by it, but in the lenient figure; two found classes of one
 * novel class count once; rows of truth -1 are not there. */
static void test_what_does_not_count(void **state)
{
    (void)state;
    const int16_t truth[] = {0, 0, 0, 1, 1, 1, -1}, assigned[] = {1, 1, 0, 2, 2, 3, 3};
    struct discovery_accuracy a;
    struct err e;
    assert_true(discovery_score(assigned, truth, 7, 1, 3, 1, &a, &e));
    assert_int_equal(a.n, 6);
    assert_close(a.dra, 3.0 / 6, 1e-12); /* one known, two of class 2 */
    assert_close(a.novel, 2.0 / 3, 1e-12);
    assert_close(a.lenient, 1, 1e-12); /* 2 + 2 + 1 + 1 */
    assert_int_equal(a.match[0], -1);
    assert_int_equal(a.match[2], -1);
}

static void test_perfect_and_closed(void **state)
{
    (void)state;
    const int16_t truth[] = {0, 1, 2, 3, 2}, renamed[] = {0, 1, 3, 2, 3}, closed[] = {0, 1, 0, 1, 1};
    struct discovery_accuracy a;
    struct err e;
    assert_true(discovery_score(renamed, truth, 5, 2, 2, 2, &a, &e));
    assert_close(a.dra, 1, 0);
    assert_close(a.lenient, 1, 0);
    const int16_t known[] = {0, 1, 0, 0, 1}; /* nothing novel: plain accuracy */
    assert_true(discovery_score(closed, known, 5, 2, 0, 0, &a, &e));
    assert_close(a.dra, 0.8, 1e-12);
    assert_true(isnan(a.novel));
}

static void test_cramers_v_by_hand(void **state)
{
    (void)state;
    /* 2 x 2 table 10 20 / 30 40: chi2 = 100 (10*40 - 20*30)^2 / (30*70*40*60) = 0.79365..., V = sqrt(chi2 / 100) */
    int a[100], b[100], n = 0;
    const int table[2][2] = {{10, 20}, {30, 40}};
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            for (int k = 0; k < table[i][j]; k++, n++) {
                a[n] = i;
                b[n] = j;
            }
    assert_close(discovery_cramers_v(a, 2, b, 2, 100), 0.0890870806374748, 1e-12);
    assert_close(discovery_cramers_v(a, 2, a, 2, 100), 1, 1e-12);
    memset(b, 0, sizeof b);
    assert_true(isnan(discovery_cramers_v(a, 2, b, 3, 100)));
}

static void test_quantile_and_f1(void **state)
{
    (void)state;
    double x[] = {4, 1, 3, 2};
    assert_close(discovery_quantile(x, 4, 0.95), 3.85, 1e-12); /* numpy.quantile([1, 2, 3, 4], 0.95) */
    assert_close(discovery_quantile(x, 4, 0), 1, 0);
    assert_close(discovery_quantile(x, 1, 0.5), 1, 0);
    const int16_t label[] = {1, 1, 1, 0, 0}, said[] = {1, 1, 0, 1, 0};
    assert_close(discovery_f1(label, said, 5, 1), 2.0 / 3, 1e-12); /* precision 2/3, recall 2/3 */
    assert_close(discovery_f1(label, said, 5, 7), 0, 0);
}

/* ---- the learner ---- */

/* Classes (+-1, 0) with covariance diag(1, 4) made of exact points. S = diag(s1, s2) over n - 2; shrunk S' =
 * (1 - s) S + s (s1 + s2) / 2 I with s = 2 / (2 + 8); the border is x = 0, and the score difference along x is 2 x / S'_11. */
static void test_discriminant_by_hand(void **state)
{
    (void)state;
    float x[16];
    int16_t label[8];
    struct discovery_linear l;
    struct err e;
    double score[2];
    for (int i = 0; i < 8; i++) {
        label[i] = (int16_t)(i / 4);
        x[2 * i] = (float)((i < 4 ? -1 : 1) + (i & 1 ? 1 : -1));
        x[2 * i + 1] = (float)(i & 2 ? 2 : -2);
    }
    assert_true(discovery_linear_fit(&l, x, 8, 2, label, 2, &e));
    const double s1 = 8.0 / 6, s2 = 32.0 / 6, v1 = 0.8 * s1 + 0.2 * (s1 + s2) / 2;
    const float at[] = {0.5f, 3};
    assert_int_equal(discovery_linear_score(&l, at, score), 1);
    assert_close(score[1] - score[0], 2 * 0.5 / v1, 1e-9);
    double y[2];
    discovery_linear_whiten(&l, at, y);
    assert_close(y[0], 0.5 / sqrt(v1), 1e-9);
    discovery_linear_free(&l);
    discovery_linear_free(&l);
}

/* A blob cut in two by k-means: learnable in the features it was cut from, not in another view of it. */
static void test_a_cut_is_no_class(void **state)
{
    (void)state;
    enum { M = 2000 };
    static float a[M * D], b[M * D];
    static int cluster[M];
    int16_t label[M], held[M], said[M];
    struct rng r;
    struct err e;
    rng_init(&r, 3, RNG_METHOD, 0);
    for (int i = 0; i < M * D; i++) {
        a[i] = (float)rng_normal(&r);
        b[i] = (float)rng_normal(&r);
    }
    assert_true(active_kmeans(a, M, D, 2, 1, 0, cluster, &e));
    double f1[2];
    for (int view = 0; view < 2; view++) {
        const float *x = view ? b : a;
        struct discovery_linear l;
        double score[2];
        for (int i = 0; i < M; i++) {
            label[i] = (int16_t)(i % 2 ? -1 : cluster[i]);
            held[i] = (int16_t)(i % 2 ? cluster[i] : -1);
        }
        assert_true(discovery_linear_fit(&l, x, M, D, label, 2, &e));
        for (int i = 0; i < M; i++)
            said[i] = i % 2 ? (int16_t)discovery_linear_score(&l, x + i * D, score) : -1;
        f1[view] = (discovery_f1(held, said, M, 0) + discovery_f1(held, said, M, 1)) / 2;
        discovery_linear_free(&l);
    }
    print_message("same view %.3f, other view %.3f\n", f1[0], f1[1]);
    assert_true(f1[0] > 0.95);
    assert_true(fabs(f1[1] - 0.5) < 0.05);
}

/* ---- the loop ---- */

/* 5 known classes and n_novel others, means of deviation `spread`, unit noise, in two independent views. */
struct toy {
    int16_t label[N], truth[N];
    uint8_t role[N];
    float x[2][N * D];
    bool has_once; /* give the views once and say the same after that */
    int n_calls;
};

static bool toy_views(void *ctx, const struct discovery_state *s, float *x[2], int d[2], bool *is_same,
                      struct err *e)
{
    struct toy *t = ctx;
    (void)e;
    t->n_calls++;
    if (s->round > 0 && t->has_once) {
        *is_same = true;
        return true;
    }
    for (int v = 0; v < 2; v++) {
        x[v] = malloc(sizeof t->x[v]);
        assert_non_null(x[v]);
        memcpy(x[v], t->x[v], sizeof t->x[v]);
        d[v] = D;
    }
    return true;
}

static void toy_make(struct toy *t, int n_novel, double spread, uint64_t seed)
{
    double mean[2][10][D];
    struct rng r;
    rng_init(&r, seed, RNG_METHOD, (uint64_t)n_novel);
    for (int v = 0; v < 2; v++)
        for (int c = 0; c < 10; c++)
            for (int j = 0; j < D; j++)
                mean[v][c][j] = spread * rng_normal(&r);
    for (int i = 0; i < N; i++) {
        const bool has_label = i < N_LABELED;
        t->truth[i] = (int16_t)rng_below(&r, has_label ? 5 : 5 + (uint32_t)n_novel);
        t->label[i] = has_label ? t->truth[i] : -1;
        t->role[i] = has_label ? DISCOVERY_TEACH : i < N_LABELED + N_POOL ? DISCOVERY_POOL : DISCOVERY_ASIDE;
        for (int v = 0; v < 2; v++)
            for (int j = 0; j < D; j++)
                t->x[v][i * D + j] = (float)(mean[v][t->truth[i]][j] + rng_normal(&r));
    }
    discovery_keep_aside(t->label, t->role, N, 0.3, seed);
}

static void toy_run(struct toy *t, int guess, uint64_t seed, struct discovery_result *r,
                    struct discovery_data *data)
{
    struct discovery_options o;
    struct err e = {0};
    discovery_defaults(&o);
    o.guess = guess;
    o.seed = seed;
    *data = (struct discovery_data){
        .n = N, .n_known = 5, .label = t->label, .role = t->role, .views = toy_views, .ctx = t};
    if (!discovery_run(data, &o, r, NULL, &e))
        fail_msg("%s", e.msg);
}

static void test_planted_classes_are_found(void **state)
{
    (void)state;
    static struct toy t;
    int right = 0, runs = 0;
    static const int novel[] = {1, 2, 5};
    for (int k = 0; k < 3; k++)
        for (uint64_t seed = 1; seed <= 2; seed++, runs++) {
            struct discovery_result r;
            struct discovery_data data;
            struct discovery_baselines b;
            struct err e;
            t = (struct toy){.has_once = seed == 1};
            toy_make(&t, novel[k], 1.2, seed);
            toy_run(&t, novel[k], seed, &r, &data);
            assert_true(discovery_compare(&data, &r, t.truth, novel[k], seed, &b, &e));
            print_message("%d novel, seed %d: found %d, DRA %.3f known %.3f novel %.3f reject %.3f | none "
                          "%.3f kmeans %.3f "
                          "supervised %.3f | second %.3f of %.3f, null %.3f\n",
                          novel[k], (int)seed, r.n_found, b.found.dra, b.found.known, b.found.novel,
                          b.found.rejected, b.none.dra, b.kmeans.dra, b.supervised, b.second,
                          b.second_supervised, r.null_f1);
            right += r.n_found == novel[k] && b.found.dra >= 0.85;
            assert_true(b.found.dra > b.none.dra);
            discovery_free(&r);
        }
    assert_true(right >= runs - 1);
}

static void test_nothing_is_found_where_nothing_is(void **state)
{
    (void)state;
    static struct toy t;
    static const double spread[] = {1.2, 0.8, 0.5};
    for (int k = 0; k < 3; k++)
        for (uint64_t seed = 1; seed <= 4; seed++) {
            struct discovery_result r;
            struct discovery_data data;
            t = (struct toy){.has_once = true};
            toy_make(&t, 0, spread[k], seed);
            toy_run(&t, 5, seed, &r, &data);
            assert_int_equal(r.n_found, 0);
            discovery_free(&r);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match_is_the_best_of_all),
        cmocka_unit_test(test_six_points_by_hand),
        cmocka_unit_test(test_what_does_not_count),
        cmocka_unit_test(test_perfect_and_closed),
        cmocka_unit_test(test_cramers_v_by_hand),
        cmocka_unit_test(test_quantile_and_f1),
        cmocka_unit_test(test_discriminant_by_hand),
        cmocka_unit_test(test_a_cut_is_no_class),
        cmocka_unit_test(test_planted_classes_are_found),
        cmocka_unit_test(test_nothing_is_found_where_nothing_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
