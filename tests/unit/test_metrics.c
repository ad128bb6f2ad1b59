/* SPDX-License-Identifier: Apache-2.0
 *
 * test_metrics.c - figures against hand-worked examples, against brute force over pairs and thresholds, and
 * the weighted bootstrap against samples that are really drawn and evaluated one by one. */
#include "models/base/rng.h"
#include "models/learn/calibrate.h"
#include "models/learn/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct metrics_options no_bootstrap = {
    .operating_point = 0.5, .fixed_recall = 0.8, .level = 0.95};

static void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("got %.12g, want %.12g within %g", got, want, tolerance);
}

/* P(score of a positive above a negative's), counted pair by pair. */
static double pairwise_auroc(const float *score, const uint8_t *positive, size_t n)
{
    double wins = 0, pairs = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            if (!positive[i] || positive[j])
                continue;
            pairs += 1;
            wins += score[i] > score[j] ? 1 : score[i] == score[j] ? 0.5 : 0;
        }
    return wins / pairs;
}

/* Precision and recall of "called when score >= threshold". */
static void at_threshold(const float *score, const uint8_t *positive, size_t n, float threshold,
                         double *precision, double *recall)
{
    double tp = 0, called = 0, truth = 0;
    for (size_t i = 0; i < n; i++) {
        called += score[i] >= threshold;
        truth += positive[i];
        tp += score[i] >= threshold && positive[i];
    }
    *precision = tp / called;
    *recall = tp / truth;
}

/* Thresholds are k/10 in these tests, so they can be walked from the top. */
static double threshold_auprc(const float *score, const uint8_t *positive, size_t n, double fixed_recall,
                              double *precision_at_recall)
{
    double ap = 0, before = 0;
    *precision_at_recall = 0;
    for (int k = 10; k >= 0; k--) {
        double precision, recall;
        at_threshold(score, positive, n, (float)k / 10.0f, &precision, &recall);
        if (isnan(precision))
            continue;
        ap += (recall - before) * precision;
        before = recall;
        if (recall >= fixed_recall && precision > *precision_at_recall)
            *precision_at_recall = precision;
    }
    return ap;
}

static void test_ranking_examples(void **state)
{
    (void)state;
    const float score[] = {0.1f, 0.4f, 0.35f, 0.8f};
    const uint8_t positive[] = {0, 0, 1, 1};
    /* Falling: P N P N. Pairs won 3 of 4; precision 1 at recall 1/2, 2/3 at recall 1. */
    assert_near(metrics_auroc(score, positive, 4), 0.75, 1e-12);
    assert_near(metrics_auprc(score, positive, 4), 0.5 + 0.5 * 2 / 3, 1e-12);
    const float equal[] = {0.3f, 0.3f, 0.3f, 0.3f, 0.3f};
    const uint8_t some[] = {1, 0, 0, 1, 0};
    assert_near(metrics_auroc(equal, some, 5), 0.5, 1e-12);
    assert_near(metrics_auprc(equal, some, 5), 0.4, 1e-12);
    const uint8_t none[] = {0, 0, 0, 0};
    assert_true(isnan(metrics_auroc(score, none, 4)) && isnan(metrics_auprc(score, none, 4)));
    const uint8_t all[] = {1, 1, 1, 1};
    assert_true(isnan(metrics_auroc(score, all, 4)));
    assert_near(metrics_auprc(score, all, 4), 1, 1e-12);
}

enum { N = 300 };

struct sample {
    float probs[N * 2], score[N];
    int16_t truth[N];
    uint8_t positive[N];
    int32_t block[N];
};

/* Scores on a grid of tenths, hence with many ties; truth leans towards the score. Blocks of uneven size. */
static void draw_sample(struct sample *s, uint64_t seed)
{
    struct rng r;
    rng_init(&r, seed, RNG_METHOD, 0);
    for (int i = 0; i < N; i++) {
        s->score[i] = (float)rng_below(&r, 11) / 10.0f;
        s->positive[i] = rng_uniform(&r) < 0.2 + 0.6 * (double)s->score[i];
        s->truth[i] = s->positive[i];
        s->probs[2 * i] = 1.0f - s->score[i];
        s->probs[2 * i + 1] = s->score[i];
        s->block[i] = (int32_t)rng_below(&r, 30) * (int32_t)rng_below(&r, 3) - 7;
    }
}

static void test_ranking_brute_force(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct sample s;
        struct metrics m;
        struct err e;
        double at_recall;
        draw_sample(&s, seed);
        double ap = threshold_auprc(s.score, s.positive, N, 0.8, &at_recall);
        assert_near(metrics_auroc(s.score, s.positive, N), pairwise_auroc(s.score, s.positive, N), 1e-12);
        assert_near(metrics_auprc(s.score, s.positive, N), ap, 1e-12);
        assert_true(
            metrics_compute(s.probs, 2, s.truth, s.positive, s.score, s.block, N, &no_bootstrap, &m, &e));
        assert_near(m.auroc.value, pairwise_auroc(s.score, s.positive, N), 1e-12);
        assert_near(m.auprc.value, ap, 1e-12);
        assert_near(m.precision_at_recall.value, at_recall, 1e-12);
        double precision, recall;
        at_threshold(s.score, s.positive, N, 0.5f, &precision, &recall);
        assert_near(m.precision.value, precision, 1e-12);
        assert_near(m.recall.value, recall, 1e-12);
        assert_near(m.f1.value, 2 * precision * recall / (precision + recall), 1e-12);
        assert_true(isnan(m.auroc.low) && isnan(m.auroc.high));
    }
}

/* Items of a 2x2 table, one block each: truth row, predicted column, at the given confidence. */
static size_t table_items(const int table[2][2], float confidence, float *probs, int16_t *truth,
                          int32_t *block)
{
    size_t n = 0;
    for (int t = 0; t < 2; t++)
        for (int p = 0; p < 2; p++)
            for (int k = 0; k < table[t][p]; k++) {
                probs[2 * n + (size_t)p] = confidence;
                probs[2 * n + (size_t)(1 - p)] = 1 - confidence;
                truth[n] = (int16_t)t;
                block[n] = (int32_t)n;
                n++;
            }
    return n;
}

static void test_class_figures(void **state)
{
    (void)state;
    /* The textbook table of Cohen's kappa: 20 and 15 agreements, 5 and 10 disagreements; p_o 0.7, p_e 0.5,
     * kappa 0.4. */
    const int table[2][2] = {{20, 5}, {10, 15}};
    float probs[100];
    int16_t truth[50];
    int32_t block[50];
    struct metrics m;
    struct err e;
    size_t n = table_items(table, 0.9f, probs, truth, block);
    assert_int_equal(n, 50);
    assert_true(metrics_compute(probs, 2, truth, NULL, NULL, block, n, &no_bootstrap, &m, &e));
    assert_near(m.accuracy.value, 0.7, 1e-12);
    assert_near(m.kappa.value, 0.4, 1e-12);
    assert_near(m.balanced_accuracy.value, 0.5 * (20.0 / 25 + 15.0 / 25), 1e-12);
    assert_near(m.ece.value, 0.2, 1e-6); /* one bin: confidence 0.9, right 0.7 */
    assert_int_equal(m.confusion[1][0], 10);
    assert_int_equal(m.confusion[0][1], 5);
    /* Macro: class 0 precision 20/30, recall 20/25; class 1 15/20, 15/25. */
    assert_near(m.precision.value, 0.5 * (2.0 / 3 + 0.75), 1e-12);
    assert_near(m.recall.value, 0.5 * (0.8 + 0.6), 1e-12);
    assert_near(m.f1.value, 0.5 * (40.0 / 55 + 30.0 / 45), 1e-12);
    assert_int_equal(m.n_positive, 0);
}

static void test_ece_bins(void **state)
{
    (void)state;
    /* Confidences 0.61 and 0.65 share the bin (9/15, 10/15]; 0.99 sits in the last. One of the two, and all
     * three, right. */
    const float top[] = {0.61f, 0.65f, 0.99f, 0.99f, 0.99f};
    const int16_t truth[] = {0, 1, 0, 0, 0};
    const int32_t block[] = {0, 1, 2, 3, 4};
    float probs[10];
    struct metrics m;
    struct err e;
    for (int i = 0; i < 5; i++) {
        probs[2 * i] = top[i];
        probs[2 * i + 1] = 1 - top[i];
    }
    assert_true(metrics_compute(probs, 2, truth, NULL, NULL, block, 5, &no_bootstrap, &m, &e));
    assert_near(m.ece.value, (fabs(1 - 1.26) + fabs(3 - 2.97)) / 5, 1e-6);
}

static void test_macro_ranking(void **state)
{
    (void)state;
    enum { M = 120, C = 4 };
    float probs[M * C], score[M];
    int16_t truth[M];
    uint8_t positive[M];
    int32_t block[M];
    struct metrics m;
    struct err e;
    struct rng r;
    rng_init(&r, 3, RNG_METHOD, 0);
    for (int i = 0; i < M; i++) {
        float sum = 0;
        truth[i] = (int16_t)rng_below(&r, C - 1); /* the last class does not occur and must not count */
        block[i] = i;
        for (int c = 0; c < C; c++) {
            probs[i * C + c] = (float)(1 + rng_below(&r, 4)) + (c == truth[i] ? 1.0f : 0.0f);
            sum += probs[i * C + c];
        }
        for (int c = 0; c < C; c++)
            probs[i * C + c] /= sum;
    }
    double want = 0;
    for (int c = 0; c < C - 1; c++) {
        for (int i = 0; i < M; i++) {
            score[i] = probs[i * C + c];
            positive[i] = truth[i] == c;
        }
        want += pairwise_auroc(score, positive, M) / (C - 1);
    }
    assert_true(metrics_compute(probs, C, truth, NULL, NULL, block, M, &no_bootstrap, &m, &e));
    assert_near(m.auroc.value, want, 1e-9);
}

static int by_value(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

/* Draws the replicates' blocks as metrics.c documents, builds each sample item by item and evaluates it
 * afresh. */
static void test_bootstrap_is_resampling(void **state)
{
    (void)state;
    enum { R = 101 }; /* 2.5 % and 97.5 % of 101 fall on order statistics 2.5 and 97.5 */
    struct metrics_options o = no_bootstrap;
    struct sample s;
    struct metrics m, one;
    struct err e;
    int32_t ids[N];
    size_t n_blocks = 0;
    double auroc[R], f1[R], kappa[R], ece[R];
    draw_sample(&s, 9);
    for (int32_t id = -100; id < 100; id++)
        for (int i = 0; i < N; i++)
            if (s.block[i] == id) {
                ids[n_blocks++] = id;
                break;
            }
    o.n_bootstrap = R;
    o.seed = 77;
    assert_true(metrics_compute(s.probs, 2, s.truth, s.positive, s.score, s.block, N, &o, &m, &e));
    assert_int_equal(m.n_blocks, n_blocks);
    float *probs = malloc(sizeof *probs * 2 * N * N), *score = malloc(sizeof *score * N * N);
    int16_t *truth = malloc(sizeof *truth * N * N);
    uint8_t *positive = malloc((size_t)N * N);
    int32_t *block = calloc((size_t)N * N, sizeof *block);
    for (int k = 0; k < R; k++) {
        struct rng r;
        size_t n = 0;
        rng_init(&r, o.seed, RNG_BOOTSTRAP, (uint64_t)k);
        for (size_t b = 0; b < n_blocks; b++) {
            int32_t id = ids[rng_below(&r, (uint32_t)n_blocks)];
            for (int i = 0; i < N; i++) {
                if (s.block[i] != id)
                    continue;
                probs[2 * n] = s.probs[2 * i];
                probs[2 * n + 1] = s.probs[2 * i + 1];
                score[n] = s.score[i];
                truth[n] = s.truth[i];
                positive[n++] = s.positive[i];
            }
        }
        assert_true(metrics_compute(probs, 2, truth, positive, score, block, n, &no_bootstrap, &one, &e));
        auroc[k] = one.auroc.value;
        f1[k] = one.f1.value;
        kappa[k] = one.kappa.value;
        ece[k] = one.ece.value;
    }
    double *const rows[] = {auroc, f1, kappa, ece};
    const struct metric *const got[] = {&m.auroc, &m.f1, &m.kappa, &m.ece};
    for (int f = 0; f < 4; f++) {
        qsort(rows[f], R, sizeof(double), by_value);
        assert_near(got[f]->low, 0.5 * (rows[f][2] + rows[f][3]), 1e-9);
        assert_near(got[f]->high, 0.5 * (rows[f][97] + rows[f][98]), 1e-9);
        assert_true(got[f]->low < got[f]->value && got[f]->value < got[f]->high);
    }
    free(probs);
    free(score);
    free(truth);
    free(positive);
    free(block);
}

/* Items that come four at a time in a block are no more evidence than one: the interval is that of n/4 items.
 */
static void test_interval_width(void **state)
{
    (void)state;
    enum { M = 1600 };
    float *probs = malloc(sizeof *probs * 2 * M);
    int16_t *truth = calloc(M, sizeof *truth);
    int32_t *block = malloc(sizeof *block * M);
    struct metrics_options o = no_bootstrap;
    struct metrics m;
    struct err e;
    o.n_bootstrap = 1000;
    for (int i = 0; i < M; i++) {
        bool right = (i / 4) % 5 != 0; /* 80 % */
        probs[2 * i] = right ? 0.9f : 0.1f;
        probs[2 * i + 1] = right ? 0.1f : 0.9f;
        block[i] = i / 4;
    }
    truth[0] = truth[1] = truth[2] = truth[3] = 1;
    probs[0] = probs[2] = probs[4] = probs[6] = 0.9f;
    probs[1] = probs[3] = probs[5] = probs[7] = 0.1f;
    assert_true(metrics_compute(probs, 2, truth, NULL, NULL, block, M, &o, &m, &e));
    double half = 0.5 * (m.accuracy.high - m.accuracy.low), want = 1.96 * sqrt(0.8 * 0.2 / (M / 4.0));
    assert_near(m.accuracy.value, 0.8, 1e-9);
    assert_near(half, want, 0.12 * want);
    free(probs);
    free(truth);
    free(block);
}

static void test_undefined_and_refused(void **state)
{
    (void)state;
    float probs[] = {0.9f, 0.1f, 0.8f, 0.2f};
    const float score[] = {0.1f, 0.2f};
    const uint8_t positive[] = {0, 0};
    const int16_t truth[] = {0, 0}, beyond[] = {0, 2};
    const int32_t block[] = {5, 5};
    struct metrics_options o = no_bootstrap;
    struct metrics m;
    struct err e;
    o.n_bootstrap = 50;
    assert_true(metrics_compute(probs, 2, truth, positive, score, block, 2, &o, &m, &e));
    assert_true(isnan(m.auroc.value) && isnan(m.precision.value) && isnan(m.recall.value) &&
                isnan(m.kappa.value));
    assert_near(m.accuracy.value, 1, 0);
    assert_true(isnan(m.accuracy.low)); /* one block tells no spread */
    assert_false(metrics_compute(probs, 2, beyond, positive, score, block, 2, &o, &m, &e));
    assert_int_equal(e.code, ERR_INPUT);
    assert_false(metrics_compute(probs, 2, truth, positive, score, block, 0, &o, &m, &e));
    assert_int_equal(e.code, ERR_INPUT);
    probs[3] = NAN;
    assert_false(metrics_compute(probs, 2, truth, positive, score, block, 2, &o, &m, &e));
    assert_int_equal(e.code, ERR_INPUT);
}

/* All items say the same logit difference d; a share q is right. The likelihood peaks where sigmoid(d/T) = q.
 */
static void test_temperature(void **state)
{
    (void)state;
    enum { M = 20 };
    float logits[2 * M];
    int16_t label[M];
    for (int i = 0; i < M; i++) {
        logits[2 * i] = 1.5f;
        logits[2 * i + 1] = 5.5f;
        label[i] = i < 15;
    }
    assert_near(calibrate_temperature(logits, label, M, 2), 4 / log(3.0), 1e-4);
    assert_near(calibrate_nll(logits, label, M, 2, 2.0), 0.75 * log(1 + exp(-2.0)) + 0.25 * log(1 + exp(2.0)),
                1e-12);
    for (int i = 0; i < M; i++)
        label[i] = 1; /* all right: certainty is bounded */
    assert_near(calibrate_temperature(logits, label, M, 2), 0.25, 1e-4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranking_examples), cmocka_unit_test(test_ranking_brute_force),
        cmocka_unit_test(test_class_figures),    cmocka_unit_test(test_ece_bins),
        cmocka_unit_test(test_macro_ranking),    cmocka_unit_test(test_bootstrap_is_resampling),
        cmocka_unit_test(test_interval_width),   cmocka_unit_test(test_undefined_and_refused),
        cmocka_unit_test(test_temperature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
