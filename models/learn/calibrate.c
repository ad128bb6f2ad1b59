/* SPDX-License-Identifier: Apache-2.0
 *
 * calibrate.c - temperature scaling as calibrate.h says. The likelihood is convex in 1/T, hence has one
 * minimum in log T; golden-section search (Kiefer 1953) finds it without derivatives, on a bracket it cannot
 * leave. */
#include "models/learn/calibrate.h"

#include <assert.h>
#include <math.h>

double calibrate_nll(const float *logits, const int16_t *label, size_t n, int n_classes, double temperature)
{
    double total = 0;
    for (size_t i = 0; i < n; i++) {
        const float *z = logits + i * (size_t)n_classes;
        double top = z[0], sum = 0;
        for (int c = 1; c < n_classes; c++)
            top = z[c] > top ? z[c] : top;
        for (int c = 0; c < n_classes; c++)
            sum += exp((z[c] - top) / temperature);
        total += log(sum) - (z[label[i]] - top) / temperature;
    }
    return total / (double)n;
}

double calibrate_temperature(const float *logits, const int16_t *label, size_t n, int n_classes)
{
    const double shrink = 0.5 * (sqrt(5.0) - 1.0);
    double lo = log(0.25), hi = log(16.0);
    assert(n > 0);
    double a = hi - shrink * (hi - lo), b = lo + shrink * (hi - lo);
    double fa = calibrate_nll(logits, label, n, n_classes, exp(a));
    double fb = calibrate_nll(logits, label, n, n_classes, exp(b));
    while (hi - lo > 1e-6) {
        if (fa <= fb) {
            hi = b;
            b = a;
            fb = fa;
            a = hi - shrink * (hi - lo);
            fa = calibrate_nll(logits, label, n, n_classes, exp(a));
        } else {
            lo = a;
            a = b;
            fa = fb;
            b = lo + shrink * (hi - lo);
            fb = calibrate_nll(logits, label, n, n_classes, exp(b));
        }
    }
    return exp(0.5 * (lo + hi));
}
