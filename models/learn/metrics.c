/* SPDX-License-Identifier: Apache-2.0
 *
 * metrics.c - the figures declared in metrics.h and their block bootstrap.
 *
 * Every figure is written as a function of integer item weights. The point estimate has weight 1 everywhere;
 * a bootstrap replicate draws n_blocks blocks with replacement and gives each item the count of its block
 * (Efron & Tibshirani 1993, chapter 8, for the block as unit). So the ranking is sorted once, and a replicate
 * is one linear walk.
 *
 * Definitions
 *   AUROC  P(score of a positive > score of a negative) + P(equal)/2 (Hanley & McNeil 1982).
 *   AUPRC  average precision: sum over distinct scores, falling, of (recall gained) * (precision at that
 * score). precision at fixed recall: the best precision among all thresholds whose recall is at least the
 * fixed one. balanced accuracy: mean recall over the classes that occur in the truth. kappa: (p_o - p_e)/(1 -
 * p_e), Cohen 1960; NAN where p_e = 1. ECE: 15 bins (i/15, (i+1)/15] of the top probability, sum of |correct
 * - confidence| over n (Guo et al. 2017). Plain sets: damaged figures are means over the classes that occur,
 * each against the rest, predicted = argmax; a class that was never predicted counts with precision 0. An
 * interval is the pair of percentiles (linear interpolation between order statistics) over the replicates in
 * which the figure is defined; NAN when fewer than half of them, or a single block, can tell.
 *
 * Threads: replicates run in parallel; replicate r draws from (seed, RNG_BOOTSTRAP, r) and writes its own
 * row, so the result does not depend on the thread count. */
#include "models/learn/metrics.h"

#include "models/base/mem.h"
#include "models/base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ECE_BINS = 15 };

enum figure {
    F_AUROC,
    F_AUPRC,
    F_F1,
    F_PRECISION,
    F_RECALL,
    F_PRECISION_AT_RECALL,
    F_ACCURACY,
    F_BALANCED,
    F_KAPPA,
    F_ECE,
    F_COUNT
};

/* One binary problem, sorted by falling score: entry = block << 2 | positive << 1 | last of its tie group. */
struct ranking {
    uint32_t *entry;
};

struct item {
    uint32_t block;
    uint16_t truth, predicted;
    uint8_t bin, is_positive, is_called;
    float confidence;
};

struct problem {
    size_t n, n_blocks;
    int n_classes, n_rankings;
    bool one_vs_rest; /* rankings are per class, else a single one of "damaged" */
    double fixed_recall;
    struct item *items;
    struct ranking *rankings;
    uint32_t *entries; /* storage of all rankings */
};

struct keyed {
    float score;
    uint32_t index;
};

static int by_falling_score(const void *pa, const void *pb)
{
    const struct keyed *a = pa, *b = pb;
    if (a->score != b->score)
        return a->score < b->score ? 1 : -1;
    return a->index < b->index ? -1 : 1;
}

/* keys [n] is scratch. stride: score[i*stride]. */
static void rank(const float *score, size_t stride, const uint8_t *positive, const struct item *items,
                 size_t n, struct keyed *keys, uint32_t *entry)
{
    for (size_t i = 0; i < n; i++)
        keys[i] = (struct keyed){score[i * stride], (uint32_t)i};
    qsort(keys, n, sizeof *keys, by_falling_score);
    for (size_t i = 0; i < n; i++) {
        uint32_t k = keys[i].index, last = i + 1 == n || keys[i + 1].score != keys[i].score;
        entry[i] = (items ? items[k].block : 0) << 2 | (uint32_t)(positive[k] != 0) << 1 | last;
    }
}

struct curve {
    double auroc, auprc, precision_at_recall;
};

/* One walk down the ranking. `weight` is per block; n_positive the weighted number of positives (for the
 * recall). */
static struct curve walk(const uint32_t *entry, size_t n, const uint32_t *weight, double n_positive,
                         double fixed_recall)
{
    struct curve c = {NAN, NAN, NAN};
    double above = 0, ap = 0, best = 0;
    uint64_t tp = 0, fp = 0, group_p = 0, group_n = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t w = weight[entry[i] >> 2];
        if (entry[i] & 2)
            group_p += w;
        else
            group_n += w;
        if (!(entry[i] & 1) || group_p + group_n == 0)
            continue;
        above += (double)group_p * ((double)fp + 0.5 * (double)group_n);
        tp += group_p;
        fp += group_n;
        double precision = (double)tp / (double)(tp + fp);
        ap += (double)group_p * precision;
        if ((double)tp >= fixed_recall * n_positive * (1 - 1e-12) && precision > best)
            best = precision;
        group_p = group_n = 0;
    }
    if (tp > 0) {
        c.auprc = ap / (double)tp;
        c.precision_at_recall = best;
        if (fp > 0)
            c.auroc = 1.0 - above / ((double)tp * (double)fp);
    }
    return c;
}

struct sums {
    uint64_t n, correct, tp, fp, fn;
    uint64_t bin_correct[ECE_BINS];
    double bin_confidence[ECE_BINS];
    uint64_t truth[METRICS_MAX_CLASSES], predicted[METRICS_MAX_CLASSES], hit[METRICS_MAX_CLASSES];
};

static void add_up(const struct problem *p, const uint32_t *weight, struct sums *s)
{
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < p->n; i++) {
        const struct item *it = &p->items[i];
        uint32_t w = weight[it->block];
        if (w == 0)
            continue;
        uint32_t hit = it->truth == it->predicted ? w : 0;
        s->n += w;
        s->correct += hit;
        s->truth[it->truth] += w;
        s->predicted[it->predicted] += w;
        s->hit[it->truth] += hit;
        s->bin_correct[it->bin] += hit;
        s->bin_confidence[it->bin] += (double)w * it->confidence;
        s->tp += it->is_called && it->is_positive ? w : 0;
        s->fp += it->is_called && !it->is_positive ? w : 0;
        s->fn += !it->is_called && it->is_positive ? w : 0;
    }
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : NAN;
}

static void class_figures(const struct problem *p, const struct sums *s, double out[F_COUNT])
{
    double n = (double)s->n, recall = 0, chance = 0, ece = 0;
    int present = 0;
    for (int c = 0; c < p->n_classes; c++) {
        chance += (double)s->truth[c] * (double)s->predicted[c];
        if (s->truth[c] > 0) {
            recall += (double)s->hit[c] / (double)s->truth[c];
            present++;
        }
    }
    for (int b = 0; b < ECE_BINS; b++)
        ece += fabs((double)s->bin_correct[b] - s->bin_confidence[b]);
    chance /= n * n;
    out[F_ACCURACY] = (double)s->correct / n;
    out[F_BALANCED] = ratio(recall, present);
    out[F_KAPPA] = ratio(out[F_ACCURACY] - chance, 1 - chance);
    out[F_ECE] = ece / n;
}

static void damage_figures(const struct problem *p, const uint32_t *weight, const struct sums *s,
                           double out[F_COUNT])
{
    double tp = (double)s->tp, fp = (double)s->fp, fn = (double)s->fn;
    struct curve c = walk(p->rankings[0].entry, p->n, weight, tp + fn, p->fixed_recall);
    out[F_AUROC] = c.auroc;
    out[F_AUPRC] = c.auprc;
    out[F_PRECISION_AT_RECALL] = c.precision_at_recall;
    out[F_F1] = ratio(2 * tp, 2 * tp + fp + fn);
    out[F_PRECISION] = ratio(tp, tp + fp);
    out[F_RECALL] = ratio(tp, tp + fn);
}

static void macro_figures(const struct problem *p, const uint32_t *weight, const struct sums *s,
                          double out[F_COUNT])
{
    double sum[F_COUNT] = {0};
    int present = 0, ranked = 0;
    for (int c = 0; c < p->n_classes; c++) {
        double tp = (double)s->hit[c], truth = (double)s->truth[c], called = (double)s->predicted[c];
        if (truth == 0)
            continue;
        struct curve v = walk(p->rankings[c].entry, p->n, weight, truth, p->fixed_recall);
        present++;
        sum[F_AUPRC] += v.auprc;
        sum[F_PRECISION_AT_RECALL] += v.precision_at_recall;
        sum[F_F1] += 2 * tp / (truth + called);
        sum[F_PRECISION] += called > 0 ? tp / called : 0;
        sum[F_RECALL] += tp / truth;
        if (!isnan(v.auroc)) {
            sum[F_AUROC] += v.auroc;
            ranked++;
        }
    }
    out[F_AUROC] = ratio(sum[F_AUROC], ranked);
    out[F_AUPRC] = ratio(sum[F_AUPRC], present);
    out[F_PRECISION_AT_RECALL] = ratio(sum[F_PRECISION_AT_RECALL], present);
    out[F_F1] = ratio(sum[F_F1], present);
    out[F_PRECISION] = ratio(sum[F_PRECISION], present);
    out[F_RECALL] = ratio(sum[F_RECALL], present);
}

static void figures(const struct problem *p, const uint32_t *weight, double out[F_COUNT])
{
    struct sums s;
    add_up(p, weight, &s);
    class_figures(p, &s, out);
    if (p->one_vs_rest)
        macro_figures(p, weight, &s, out);
    else
        damage_figures(p, weight, &s, out);
}

static int by_value(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

static double quantile(const double *sorted, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t i = (size_t)floor(at);
    if (i + 1 >= n)
        return sorted[n - 1];
    return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}

/* rows [n_bootstrap, F_COUNT] -> low and high of figure f; column [n_bootstrap] is scratch. */
static void interval(const double *rows, int n_bootstrap, int f, double level, double *column,
                     struct metric *m)
{
    size_t n = 0;
    for (int r = 0; r < n_bootstrap; r++) {
        double v = rows[(size_t)r * F_COUNT + (size_t)f];
        if (!isnan(v))
            column[n++] = v;
    }
    if (n == 0 || 2 * n < (size_t)n_bootstrap)
        return;
    qsort(column, n, sizeof *column, by_value);
    m->low = quantile(column, n, (1 - level) / 2);
    m->high = quantile(column, n, (1 + level) / 2);
}

static bool bootstrap(const struct problem *p, const struct metrics_options *o,
                      struct metric *const out[F_COUNT], struct err *e)
{
    bool ok = false;
    size_t n_rows = (size_t)o->n_bootstrap;
    double *rows = mem_array(n_rows, F_COUNT * sizeof *rows, "the bootstrap", e);
    double *column = rows ? mem_array(n_rows, sizeof *column, "the bootstrap", e) : NULL;
    bool short_of_memory = false;
    if (!rows || !column)
        goto out;
#pragma omp parallel
    {
        uint32_t *weight = malloc((p->n_blocks ? p->n_blocks : 1) * sizeof *weight);
        if (!weight) {
#pragma omp atomic write
            short_of_memory = true;
        }
#pragma omp for schedule(static)
        for (int r = 0; r < o->n_bootstrap; r++) {
            if (!weight)
                continue;
            struct rng g;
            rng_init(&g, o->seed, RNG_BOOTSTRAP, (uint64_t)r);
            memset(weight, 0, p->n_blocks * sizeof *weight);
            for (size_t b = 0; b < p->n_blocks; b++)
                weight[rng_below(&g, (uint32_t)p->n_blocks)]++;
            figures(p, weight, rows + (size_t)r * F_COUNT);
        }
        free(weight);
    }
    if (short_of_memory) {
        err_set(e, ERR_RESOURCE,
                "not enough memory for the bootstrap of %zu blocks; free some or ask for no intervals",
                p->n_blocks);
        goto out;
    }
    for (int f = 0; f < F_COUNT; f++)
        interval(rows, o->n_bootstrap, f, o->level, column, out[f]);
    ok = true;
out:
    free(rows);
    free(column);
    return ok;
}

static int by_int32(const void *pa, const void *pb)
{
    int32_t a = *(const int32_t *)pa, b = *(const int32_t *)pb;
    return (a > b) - (a < b);
}

/* Block ids of any value -> 0..n_blocks-1 in the items. */
static bool number_blocks(struct problem *p, const int32_t *block, struct err *e)
{
    int32_t *sorted = mem_array(p->n, sizeof *sorted, "the blocks", e);
    if (!sorted)
        return false;
    memcpy(sorted, block, p->n * sizeof *sorted);
    qsort(sorted, p->n, sizeof *sorted, by_int32);
    size_t m = 0;
    for (size_t i = 0; i < p->n; i++)
        if (m == 0 || sorted[m - 1] != sorted[i])
            sorted[m++] = sorted[i];
    for (size_t i = 0; i < p->n; i++) {
        const int32_t *at = bsearch(&block[i], sorted, m, sizeof *sorted, by_int32);
        p->items[i].block = (uint32_t)(at - sorted);
    }
    p->n_blocks = m;
    free(sorted);
    return true;
}

static bool fill_items(struct problem *p, const float *probs, const int16_t *truth, const uint8_t *positive,
                       const float *score, double operating_point, struct metrics *m, struct err *e)
{
    int n_classes = p->n_classes;
    for (size_t i = 0; i < p->n; i++) {
        const float *q = probs + i * (size_t)n_classes;
        struct item *it = &p->items[i];
        int top = 0;
        bool finite = !score || isfinite(score[i]);
        for (int c = 0; c < n_classes; c++) {
            finite = finite && isfinite(q[c]);
            if (q[c] > q[top])
                top = c;
        }
        if (!finite)
            return err_set(e, ERR_INPUT, "prediction %zu of %zu is not a number; predict again", i + 1, p->n);
        if (truth[i] < 0 || truth[i] >= n_classes)
            return err_set(e, ERR_INPUT,
                           "item %zu has the true class %d where 0..%d are known; leave unlabelled items out",
                           i + 1, truth[i], n_classes - 1);
        double bin = ceil((double)q[top] * ECE_BINS) - 1;
        it->truth = (uint16_t)truth[i];
        it->predicted = (uint16_t)top;
        it->confidence = q[top];
        it->bin = (uint8_t)(bin < 0 ? 0 : bin >= ECE_BINS ? ECE_BINS - 1 : bin);
        it->is_positive = positive && positive[i];
        it->is_called = score && score[i] >= operating_point;
        m->confusion[truth[i]][top]++;
        m->n_positive += it->is_positive;
    }
    return true;
}

static bool fill_rankings(struct problem *p, const float *probs, const uint8_t *positive, const float *score,
                          struct err *e)
{
    bool ok = false;
    struct keyed *keys = mem_array(p->n, sizeof *keys, "the ranking", e);
    uint8_t *is_class = keys ? mem_array(p->n, 1, "the ranking", e) : NULL;
    if (!keys || !is_class)
        goto out;
    for (int k = 0; k < p->n_rankings; k++) {
        uint32_t *entry = p->entries + (size_t)k * p->n;
        p->rankings[k].entry = entry;
        if (!p->one_vs_rest) {
            rank(score, 1, positive, p->items, p->n, keys, entry);
            continue;
        }
        for (size_t i = 0; i < p->n; i++)
            is_class[i] = p->items[i].truth == k;
        rank(probs + k, (size_t)p->n_classes, is_class, p->items, p->n, keys, entry);
    }
    ok = true;
out:
    free(keys);
    free(is_class);
    return ok;
}

bool metrics_compute(const float *probs, int n_classes, const int16_t *truth, const uint8_t *positive,
                     const float *score, const int32_t *block, size_t n, const struct metrics_options *o,
                     struct metrics *m, struct err *e)
{
    assert(!positive == !score);
    memset(m, 0, sizeof *m);
    struct metric *const out[F_COUNT] = {&m->auroc,    &m->auprc,
                                         &m->f1,       &m->precision,
                                         &m->recall,   &m->precision_at_recall,
                                         &m->accuracy, &m->balanced_accuracy,
                                         &m->kappa,    &m->ece};
    for (int f = 0; f < F_COUNT; f++)
        *out[f] = (struct metric){NAN, NAN, NAN};
    if (n == 0)
        return err_set(e, ERR_INPUT,
                       "no item has both a prediction and a known label; nothing can be evaluated");
    if (n_classes < 2 || n_classes > METRICS_MAX_CLASSES)
        return err_set(e, ERR_INPUT, "cannot evaluate %d classes; 2 to %d are supported", n_classes,
                       METRICS_MAX_CLASSES);
    if (n > UINT32_MAX / 8)
        return err_set(e, ERR_INPUT, "cannot evaluate %zu items at once; the limit is %u", n, UINT32_MAX / 8);
    bool ok = false;
    struct problem p = {.n = n,
                        .n_classes = n_classes,
                        .n_rankings = score ? 1 : n_classes,
                        .one_vs_rest = !score,
                        .fixed_recall = o->fixed_recall};
    uint32_t *ones = NULL;
    double value[F_COUNT];
    p.items = mem_array(n, sizeof *p.items, "the evaluation", e);
    p.rankings = p.items ? mem_array((size_t)p.n_rankings, sizeof *p.rankings, "the ranking", e) : NULL;
    p.entries = p.rankings ? mem_array(n, (size_t)p.n_rankings * sizeof *p.entries, "the ranking", e) : NULL;
    if (!p.entries || !fill_items(&p, probs, truth, positive, score, o->operating_point, m, e) ||
        !number_blocks(&p, block, e) || !fill_rankings(&p, probs, positive, score, e))
        goto out;
    ones = mem_array(p.n_blocks, sizeof *ones, "the evaluation", e);
    if (!ones)
        goto out;
    for (size_t b = 0; b < p.n_blocks; b++)
        ones[b] = 1;
    figures(&p, ones, value);
    for (int f = 0; f < F_COUNT; f++)
        out[f]->value = value[f];
    m->n = n;
    m->n_blocks = p.n_blocks;
    m->n_classes = n_classes;
    m->operating_point = o->operating_point;
    m->fixed_recall = o->fixed_recall;
    ok = o->n_bootstrap <= 0 || p.n_blocks < 2 || bootstrap(&p, o, out, e);
out:
    free(p.items);
    free(p.rankings);
    free(p.entries);
    free(ones);
    return ok;
}

static struct curve curve_of(const float *score, const uint8_t *positive, size_t n)
{
    struct curve c = {NAN, NAN, NAN};
    const uint32_t one = 1;
    struct keyed *keys = mem_array(n, sizeof *keys, "the ranking", NULL);
    uint32_t *entry = keys ? mem_array(n, sizeof *entry, "the ranking", NULL) : NULL;
    if (entry) {
        rank(score, 1, positive, NULL, n, keys, entry);
        c = walk(entry, n, &one, 1, 1);
    }
    free(keys);
    free(entry);
    return c;
}

double metrics_auroc(const float *score, const uint8_t *positive, size_t n)
{
    return curve_of(score, positive, n).auroc;
}

double metrics_auprc(const float *score, const uint8_t *positive, size_t n)
{
    return curve_of(score, positive, n).auprc;
}
