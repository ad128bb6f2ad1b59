/* SPDX-License-Identifier: Apache-2.0
 *
 * metrics.h - what a prediction is worth, each figure with a bootstrap interval over spatial blocks (never
 * over single buildings, which are not independent). The score is p(damaged), never the probability of the
 * true class.
 *
 * AUROC: Mann-Whitney with ties at one half (Hanley & McNeil 1982). AUPRC: average precision, ties grouped.
 * ECE: 15 equal- width bins of the top probability (Guo et al. 2017). Kappa: Cohen 1960 on the classes. */
#ifndef AM_METRICS_H
#define AM_METRICS_H

#include "models/base/err.h"
#include <stddef.h>
#include <stdint.h>

struct metric {
    double value, low, high; /* NAN where it cannot be told (one class only) */
};

enum { METRICS_MAX_CLASSES = 64 };

struct metrics {
    size_t n, n_positive, n_blocks;
    struct metric auroc, auprc, f1, precision, recall,
        precision_at_recall;                               /* of "damaged" at the operating point */
    struct metric accuracy, balanced_accuracy, kappa, ece; /* of the classes */
    double operating_point, fixed_recall;
    int n_classes;
    size_t confusion[METRICS_MAX_CLASSES][METRICS_MAX_CLASSES]; /* [truth][predicted] */
};

struct metrics_options {
    double operating_point; /* damaged when score >= this; 0.5 */
    double fixed_recall;    /* 0.8 */
    double level;           /* 0.95 */
    int n_bootstrap;        /* 1000; 0: no intervals (low = high = NAN) */
    uint64_t seed;
};

/* probs [n,n_classes]; truth [n] class index; positive [n] 0/1 and score [n] = p(damaged) (for plain sets:
 * pass NULL for both; the damaged figures become macro one-vs-rest AUROC/AUPRC/F1). block [n] resampling
 * unit. */
bool metrics_compute(const float *probs, int n_classes, const int16_t *truth, const uint8_t *positive,
                     const float *score, const int32_t *block, size_t n, const struct metrics_options *o,
                     struct metrics *m, struct err *e);

double metrics_auroc(const float *score, const uint8_t *positive, size_t n); /* NAN with one class */
double metrics_auprc(const float *score, const uint8_t *positive, size_t n);

#endif
