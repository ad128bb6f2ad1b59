/* SPDX-License-Identifier: Apache-2.0
 *
 * trivial.c - the colour-statistics baseline declared in trivial.h.
 *
 * Solver: limited-memory BFGS (Nocedal & Wright 2006, algorithm 7.4, memory 10) with Armijo backtracking. The
 * objective is smooth and convex, and the penalty makes its minimum finite even on separable labels; a
 * curvature pair that rounding made useless is skipped. Newton's method was left out: with many classes its
 * matrix costs more than the whole fit here. */
#include "models/learn/trivial.h"

#include "models/base/mem.h"
#include "models/learn/method.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MEMORY = 10, MAX_ITERATIONS = 1000, MAX_HALVINGS = 60, MAX_FEATURES = 512 };
static const double GRADIENT_TOLERANCE = 1e-8;
static const double NEVER = -1e3; /* constant of a class without a label: its probability is zero */

struct fit {
    const double *features; /* [n, d], standardised */
    const int16_t *label;   /* [n], 0..k-1 */
    const double *weight;   /* [k], class weights over n */
    size_t n;
    int d, k;
};

/* x [k, d+1] -> objective / n, gradient [k, d+1]. */
static double objective(const struct fit *f, const double *x, double *gradient)
{
    double value = 0, p[METHOD_MAX_CLASSES];
    int stride = f->d + 1;
    memset(gradient, 0, (size_t)f->k * (size_t)stride * sizeof *gradient);
    for (size_t i = 0; i < f->n; i++) {
        const double *v = f->features + i * (size_t)f->d;
        double top = -INFINITY, sum = 0, w = f->weight[f->label[i]];
        for (int c = 0; c < f->k; c++) {
            const double *xc = x + c * stride;
            p[c] = xc[f->d];
            for (int j = 0; j < f->d; j++)
                p[c] += xc[j] * v[j];
            top = p[c] > top ? p[c] : top;
        }
        double at_label = p[f->label[i]];
        for (int c = 0; c < f->k; c++)
            sum += p[c] = exp(p[c] - top);
        value += w * (log(sum) + top - at_label);
        for (int c = 0; c < f->k; c++) {
            double r = w * (p[c] / sum - (c == f->label[i]));
            double *g = gradient + c * stride;
            for (int j = 0; j < f->d; j++)
                g[j] += r * v[j];
            g[f->d] += r;
        }
    }
    for (int c = 0; c < f->k; c++)
        for (int j = 0; j < f->d; j++) {
            double xj = x[c * stride + j];
            value += 0.5 * xj * xj / (double)f->n;
            gradient[c * stride + j] += xj / (double)f->n;
        }
    return value;
}

static double dot(const double *a, const double *b, int n)
{
    double s = 0;
    for (int i = 0; i < n; i++)
        s += a[i] * b[i];
    return s;
}

struct lbfgs {
    double *g, *g_new, *x_new, *direction; /* [m] each */
    double *s, *y;                         /* [MEMORY, m], ring */
    double rho[MEMORY];
    int used, head; /* pairs held; slot of the next one */
};

/* direction = -H g by the two-loop recursion. */
static void two_loop(struct lbfgs *b, int m)
{
    double alpha[MEMORY];
    for (int j = 0; j < m; j++)
        b->direction[j] = -b->g[j];
    for (int k = 1; k <= b->used; k++) {
        int i = (b->head - k + MEMORY) % MEMORY;
        alpha[i] = b->rho[i] * dot(b->s + i * m, b->direction, m);
        for (int j = 0; j < m; j++)
            b->direction[j] -= alpha[i] * b->y[i * m + j];
    }
    if (b->used > 0) {
        int i = (b->head - 1 + MEMORY) % MEMORY;
        double gamma = 1.0 / (b->rho[i] * dot(b->y + i * m, b->y + i * m, m));
        for (int j = 0; j < m; j++)
            b->direction[j] *= gamma;
    }
    for (int k = b->used; k >= 1; k--) {
        int i = (b->head - k + MEMORY) % MEMORY;
        double beta = b->rho[i] * dot(b->y + i * m, b->direction, m);
        for (int j = 0; j < m; j++)
            b->direction[j] += (alpha[i] - beta) * b->s[i * m + j];
    }
}

static void remember(struct lbfgs *b, const double *x, int m)
{
    double *s = b->s + b->head * m, *y = b->y + b->head * m;
    for (int j = 0; j < m; j++) {
        s[j] = b->x_new[j] - x[j];
        y[j] = b->g_new[j] - b->g[j];
    }
    double sy = dot(s, y, m);
    if (sy <= 1e-12 * dot(y, y, m))
        return;
    b->rho[b->head] = 1.0 / sy;
    b->head = (b->head + 1) % MEMORY;
    b->used += b->used < MEMORY;
}

static bool minimise(const struct fit *f, double *x, struct err *e)
{
    int m = f->k * (f->d + 1);
    struct lbfgs b = {0};
    double *block = mem_array((size_t)m, (4 + 2 * MEMORY) * sizeof *block, "the colour baseline", e);
    if (!block)
        return false;
    b.g = block;
    b.g_new = b.g + m;
    b.x_new = b.g_new + m;
    b.direction = b.x_new + m;
    b.s = b.direction + m;
    b.y = b.s + MEMORY * m;
    double value = objective(f, x, b.g);
    for (int it = 0; it < MAX_ITERATIONS; it++) {
        double largest = 0;
        for (int j = 0; j < m; j++)
            largest = fmax(largest, fabs(b.g[j]));
        if (largest < GRADIENT_TOLERANCE)
            break;
        two_loop(&b, m);
        double slope = dot(b.g, b.direction, m),
               step = b.used ? 1.0 : 1.0 / fmax(1.0, sqrt(dot(b.g, b.g, m)));
        double value_new = value;
        int halvings = 0;
        for (; halvings < MAX_HALVINGS; halvings++, step *= 0.5) {
            for (int j = 0; j < m; j++)
                b.x_new[j] = x[j] + step * b.direction[j];
            value_new = objective(f, b.x_new, b.g_new);
            if (value_new <= value + 1e-4 * step * slope)
                break;
        }
        if (halvings == MAX_HALVINGS) /* rounding hides any further descent */
            break;
        remember(&b, x, m);
        memcpy(x, b.x_new, (size_t)m * sizeof *x);
        memcpy(b.g, b.g_new, (size_t)m * sizeof *x);
        value = value_new;
    }
    free(block);
    return true;
}

int trivial_feature_count(const struct imageset_layout *l)
{
    return 2 * l->n_dates * l->n_bands;
}

void trivial_features(const struct imageset_layout *l, const uint8_t *px, double *features)
{
    int stored = imageset_stored_channels(l), n_samples = l->n_dates * l->n_bands;
    int lo = l->n_dates > 1 ? l->size / 4 : 0, hi = l->size - lo;
    for (int s = 0; s < n_samples; s++) {
        unsigned valid_bit = 1u << (s / l->n_bands);
        double sum = 0, squares = 0, n = 0;
        for (int y = lo; y < hi; y++)
            for (int x = lo; x < hi; x++) {
                const uint8_t *q = px + ((size_t)y * (size_t)l->size + (size_t)x) * (size_t)stored;
                if (l->has_masks && !(q[n_samples] & valid_bit))
                    continue;
                sum += q[s];
                squares += (double)q[s] * q[s];
                n += 1;
            }
        double mean = n > 0 ? sum / n : NAN;
        features[2 * s] = mean;
        features[2 * s + 1] = n > 0 ? sqrt(fmax(0.0, squares / n - mean * mean)) : NAN;
    }
}

bool trivial_alloc(struct trivial *t, int n_features, int n_classes, struct err *e)
{
    memset(t, 0, sizeof *t);
    assert(n_features > 0 && n_features <= MAX_FEATURES && n_classes > 0 && n_classes <= METHOD_MAX_CLASSES);
    size_t d = (size_t)n_features;
    double *block = mem_array(2 * d + (size_t)n_classes * (d + 1), sizeof *block, "the colour baseline", e);
    if (!block)
        return false;
    *t = (struct trivial){n_features, n_classes, block, block + d, block + 2 * d};
    return true;
}

void trivial_free(struct trivial *t)
{
    free(t->mean);
    memset(t, 0, sizeof *t);
}

static double standardised(const struct trivial *t, int j, double v)
{
    return isnan(v) ? 0.0 : (v - t->mean[j]) / t->scale[j];
}

static void standardise(struct trivial *t, double *features, size_t n)
{
    int d = t->n_features;
    for (int j = 0; j < d; j++) {
        double sum = 0, squares = 0, m = 0;
        for (size_t i = 0; i < n; i++)
            if (!isnan(features[i * (size_t)d + (size_t)j])) {
                sum += features[i * (size_t)d + (size_t)j];
                m += 1;
            }
        t->mean[j] = m > 0 ? sum / m : 0;
        for (size_t i = 0; i < n; i++) {
            double v = features[i * (size_t)d + (size_t)j] - t->mean[j];
            squares += isnan(v) ? 0 : v * v;
        }
        t->scale[j] = m > 0 && squares > 0 ? sqrt(squares / m) : 1;
        for (size_t i = 0; i < n; i++)
            features[i * (size_t)d + (size_t)j] = standardised(t, j, features[i * (size_t)d + (size_t)j]);
    }
}

bool trivial_fit_features(struct trivial *t, double *features, const int16_t *label, size_t n, int n_features,
                          int n_classes, struct err *e)
{
    bool ok = false;
    int16_t *compact = NULL, index[METHOD_MAX_CLASSES];
    size_t count[METHOD_MAX_CLASSES] = {0};
    double weight[METHOD_MAX_CLASSES], *x = NULL;
    int k = 0, stride = n_features + 1;
    if (n == 0)
        return err_set(e, ERR_INPUT,
                       "the colour baseline has no labelled item to learn from; label some buildings");
    if (!trivial_alloc(t, n_features, n_classes, e))
        return false;
    standardise(t, features, n);
    for (size_t i = 0; i < n; i++) {
        assert(label[i] >= 0 && label[i] < n_classes);
        count[label[i]]++;
    }
    for (int c = 0; c < n_classes; c++)
        index[c] = (int16_t)(count[c] > 0 ? k++ : -1);
    for (int c = 0; c < n_classes; c++)
        if (count[c] > 0)
            weight[index[c]] = 1.0 / ((double)k * (double)count[c]);
    compact = mem_array(n, sizeof *compact, "the colour baseline", e);
    x = compact ? mem_array((size_t)k * (size_t)stride, sizeof *x, "the colour baseline", e) : NULL;
    if (!x)
        goto out;
    for (size_t i = 0; i < n; i++)
        compact[i] = index[label[i]];
    const struct fit f = {features, compact, weight, n, n_features, k};
    if (!minimise(&f, x, e))
        goto out;
    for (int c = 0; c < n_classes; c++) {
        double *row = t->weights + c * stride;
        if (index[c] >= 0)
            memcpy(row, x + index[c] * stride, (size_t)stride * sizeof *row);
        else
            row[n_features] = NEVER;
    }
    ok = true;
out:
    if (!ok)
        trivial_free(t);
    free(compact);
    free(x);
    return ok;
}

bool trivial_fit(struct trivial *t, const struct imageset *set, const uint32_t *items, size_t n,
                 struct err *e)
{
    bool ok = false;
    const struct imageset_layout *l = &set->layout;
    int d = trivial_feature_count(l);
    size_t image = (size_t)l->size * (size_t)l->size * (size_t)imageset_stored_channels(l);
    double *features = mem_array(n, (size_t)d * sizeof *features, "the colour baseline", e);
    int16_t *label = features ? mem_array(n, sizeof *label, "the colour baseline", e) : NULL;
    if (!label)
        goto out;
    for (size_t i = 0; i < n; i++) {
        trivial_features(l, set->px + items[i] * image, features + i * (size_t)d);
        label[i] = set->label[items[i]];
    }
    ok = trivial_fit_features(t, features, label, n, d, set->n_classes, e);
out:
    free(features);
    free(label);
    return ok;
}

void trivial_predict_features(const struct trivial *t, const double *features, float *probs)
{
    double z[METHOD_MAX_CLASSES], top = -INFINITY, sum = 0;
    for (int c = 0; c < t->n_classes; c++) {
        const double *w = t->weights + c * (t->n_features + 1);
        z[c] = w[t->n_features];
        for (int j = 0; j < t->n_features; j++)
            z[c] += w[j] * standardised(t, j, features[j]);
        top = fmax(top, z[c]);
    }
    for (int c = 0; c < t->n_classes; c++)
        sum += z[c] = exp(z[c] - top);
    for (int c = 0; c < t->n_classes; c++)
        probs[c] = (float)(z[c] / sum);
}

void trivial_predict(const struct trivial *t, const struct imageset_layout *l, const uint8_t *px,
                     float *probs)
{
    double features[MAX_FEATURES];
    assert(t->n_features == trivial_feature_count(l));
    trivial_features(l, px, features);
    trivial_predict_features(t, features, probs);
}
