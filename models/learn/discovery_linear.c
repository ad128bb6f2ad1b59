/* SPDX-License-Identifier: Apache-2.0
 *
 * discovery_linear.c - the learner of discovery.h: Fisher's linear discriminant with one covariance for all classes,
 * shrunk towards a multiple of the identity (Friedman 1989) because views often have more columns than a small
 * class has rows, and columns that never move. By a tenth at least, by half where there are as many rows as columns: a
 * choice, not a measured optimum.
 *
 * Why no logistic regression: both draw straight borders, but this one has no step size and no stopping rule, and
 * the loop fits it some hundred times. Its covariance is also the one of the Mahalanobis distances.
 *
 * Sums are double. The covariance is made row by row, each by one thread over all items in order, so its bits do not
 * depend on the number of threads. */
#include "models/learn/discovery.h"

#include "models/base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double least_shrink = 0.1;

/* In place, lower triangle: a = root root^T. False when a is not positive definite. */
static bool factorise(double *a, int d)
{
    for (int i = 0; i < d; i++)
        for (int j = 0; j <= i; j++) {
            double sum = a[(size_t)i * (size_t)d + (size_t)j];
            for (int k = 0; k < j; k++)
                sum -= a[(size_t)i * (size_t)d + (size_t)k] * a[(size_t)j * (size_t)d + (size_t)k];
            if (i == j && !(sum > 0))
                return false;
            a[(size_t)i * (size_t)d + (size_t)j] =
                i == j ? sqrt(sum) : sum / a[(size_t)j * (size_t)d + (size_t)j];
        }
    return true;
}

static void solve_lower(const double *root, int d, double *y)
{
    for (int i = 0; i < d; i++) {
        double sum = y[i];
        for (int k = 0; k < i; k++)
            sum -= root[(size_t)i * (size_t)d + (size_t)k] * y[k];
        y[i] = sum / root[(size_t)i * (size_t)d + (size_t)i];
    }
}

static void solve_upper(const double *root, int d, double *y)
{
    for (int i = d - 1; i >= 0; i--) {
        double sum = y[i];
        for (int k = i + 1; k < d; k++)
            sum -= root[(size_t)k * (size_t)d + (size_t)i] * y[k];
        y[i] = sum / root[(size_t)i * (size_t)d + (size_t)i];
    }
}

/* Rows of known label, less their class's mean, side by side: z [m,d]. */
static bool centred(const float *x, size_t n, int d, const int16_t *label, int n_classes, double *mean,
                    double *count, double **z, size_t *m, struct err *e)
{
    size_t rows = 0, at = 0;
    for (size_t i = 0; i < n; i++) {
        if (label[i] < 0)
            continue;
        assert(label[i] < n_classes);
        rows++;
        count[label[i]]++;
        for (int j = 0; j < d; j++)
            mean[(size_t)label[i] * (size_t)d + (size_t)j] += (double)x[i * (size_t)d + (size_t)j];
    }
    for (int c = 0; c < n_classes; c++)
        for (int j = 0; j < d && count[c] > 0; j++)
            mean[(size_t)c * (size_t)d + (size_t)j] /= count[c];
    if (!(*z = mem_array(rows * (size_t)d, sizeof **z, "the views", e)))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (label[i] < 0)
            continue;
        for (int j = 0; j < d; j++)
            (*z)[at * (size_t)d + (size_t)j] =
                (double)x[i * (size_t)d + (size_t)j] - mean[(size_t)label[i] * (size_t)d + (size_t)j];
        at++;
    }
    *m = rows;
    return true;
}

static void scatter(const double *z, size_t m, int d, double *s)
{
#pragma omp parallel for schedule(dynamic, 4)
    for (int i = 0; i < d; i++)
        for (size_t r = 0; r < m; r++) {
            const double v = z[r * (size_t)d + (size_t)i];
            const double *row = z + r * (size_t)d;
            double *out = s + (size_t)i * (size_t)d;
            for (int j = 0; j <= i; j++)
                out[j] += v * row[j];
        }
}

bool discovery_linear_fit(struct discovery_linear *l, const float *x, size_t n, int d, const int16_t *label,
                          int n_classes, struct err *e)
{
    const size_t cells = (size_t)n_classes * (size_t)d, square = (size_t)d * (size_t)d;
    double *z = NULL, *count = NULL, trace = 0, rows = 0;
    int present = 0;
    size_t m;
    bool ok = false;
    assert(d >= 1 && n_classes >= 1 && n_classes <= DISCOVERY_MAX_CLASSES);
    *l = (struct discovery_linear){.d = d, .n_classes = n_classes};
    if (!(l->w = mem_array(cells, sizeof *l->w, "the learner", e)) ||
        !(l->mean = mem_array(cells, sizeof *l->mean, "the learner", e)) ||
        !(l->b = mem_array((size_t)n_classes, sizeof *l->b, "the learner", e)) ||
        !(l->root = mem_array(square, sizeof *l->root, "the learner", e)) ||
        !(count = mem_array((size_t)n_classes, sizeof *count, "the learner", e)) ||
        !centred(x, n, d, label, n_classes, l->mean, count, &z, &m, e))
        goto out;
    scatter(z, m, d, l->root);
    for (int c = 0; c < n_classes; c++) {
        present += count[c] > 0;
        rows += count[c];
    }
    assert(present > 0);
    for (int i = 0; i < d; i++)
        trace += l->root[(size_t)i * (size_t)d + (size_t)i];
    const double scale = 1 / fmax(1, rows - present), ridge = trace * scale / d;
    const double shrink = fmax(least_shrink, d / (d + rows));
    for (size_t i = 0; i < square; i++)
        l->root[i] *= scale * (1 - shrink);
    for (int i = 0; i < d; i++) /* views without any spread: a unit covariance */
        l->root[(size_t)i * (size_t)d + (size_t)i] += ridge > 0 ? shrink * ridge : 1;
    if (!factorise(l->root, d)) {
        err_set(e, ERR_RUNTIME,
                "a view holds values that are not finite, so no distance can be measured in it");
        goto out;
    }
    for (int c = 0; c < n_classes; c++) {
        double *w = l->w + (size_t)c * (size_t)d, half = 0;
        const double *mean = l->mean + (size_t)c * (size_t)d;
        memcpy(w, mean, (size_t)d * sizeof *w);
        solve_lower(l->root, d, w);
        for (int j = 0; j < d; j++)
            half += w[j] * w[j];
        solve_upper(l->root, d, w);
        l->b[c] = count[c] > 0 ? log(count[c] / rows) - half / 2 : -INFINITY;
    }
    ok = true;
out:
    free(z);
    free(count);
    return ok;
}

void discovery_linear_free(struct discovery_linear *l)
{
    free(l->w);
    free(l->b);
    free(l->mean);
    free(l->root);
    *l = (struct discovery_linear){0};
}

int discovery_linear_score(const struct discovery_linear *l, const float *x, double *score)
{
    int best = 0;
    for (int c = 0; c < l->n_classes; c++) {
        const double *w = l->w + (size_t)c * (size_t)l->d;
        double sum = 0;
        for (int j = 0; j < l->d; j++)
            sum += w[j] * (double)x[j];
        score[c] = sum + l->b[c];
        best = score[c] > score[best] ? c : best;
    }
    return best;
}

void discovery_linear_whiten(const struct discovery_linear *l, const float *x, double *y)
{
    for (int j = 0; j < l->d; j++)
        y[j] = (double)x[j];
    solve_lower(l->root, l->d, y);
}

double discovery_f1(const int16_t *label, const int16_t *predicted, size_t n, int c)
{
    size_t hit = 0, sum = 0; /* F1 = 2 TP / (2 TP + FP + FN): sum counts the class once in each column */
    for (size_t i = 0; i < n; i++) {
        hit += label[i] == c && predicted[i] == c;
        sum += (size_t)(label[i] == c) + (size_t)(predicted[i] == c);
    }
    return sum ? 2.0 * (double)hit / (double)sum : 0;
}
