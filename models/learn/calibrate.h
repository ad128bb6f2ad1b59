/* SPDX-License-Identifier: Apache-2.0
 *
 * calibrate.h - temperature scaling (Guo, Pleiss, Sun, Weinberger 2017): one number T > 0, p = softmax(z/T),
 * chosen to minimise the negative log-likelihood of labels the network did not train on. It changes no
 * ranking and no class. */
#ifndef AM_CALIBRATE_H
#define AM_CALIBRATE_H

#include <stddef.h>
#include <stdint.h>

/* Fewer labels than these tell nothing: the temperature stays 1 and the model says that it is not calibrated.
 */
enum { CALIBRATE_MIN_LABELS = 40, CALIBRATE_MIN_ITEMS = 20 };

/* Mean of -log softmax(z/T)_y. logits [n,n_classes]. */
double calibrate_nll(const float *logits, const int16_t *label, size_t n, int n_classes, double temperature);

/* The minimiser, kept within [1/4, 16]: when every held-out label is right the likelihood alone would go to T
 * = 0, i.e. to certainty, which a few dozen items cannot support. */
double calibrate_temperature(const float *logits, const int16_t *label, size_t n, int n_classes);

#endif
