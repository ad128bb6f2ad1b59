/* SPDX-License-Identifier: Apache-2.0
 *
 * trivial.h - the baseline that every model must beat: what the colours alone say. Features are each date's
 * mean and standard deviation per band in a window around the building (pairs: the middle half of the chip,
 * pixels with data only; plain images: the whole image); the classifier is multinomial logistic regression
 * with balanced class weights and a small L2. It is fitted on the same labels as the model and stored beside
 * it, so that no figure is ever shown without it.
 *
 *   minimise  sum_i n/(K n_y(i)) H(y_i, softmax(W f_i + b)) + 0.5 ||W||^2   over the K classes that occur
 *
 * f standardised by the labelled items' mean and deviation; a feature that cannot be told (no data) is 0,
 * i.e. average. The objective is convex and solved to convergence: the result depends on the data alone. */
#ifndef AM_TRIVIAL_H
#define AM_TRIVIAL_H

#include "models/data/imageset.h"

struct trivial {
    int n_features, n_classes;
    double *mean, *scale; /* [n_features] */
    double *weights;      /* [n_classes, n_features + 1], the constant last */
};

int trivial_feature_count(const struct imageset_layout *l); /* 2 * dates * bands */

/* px: stored image -> features [count], NAN where a date has no data in the window. */
void trivial_features(const struct imageset_layout *l, const uint8_t *px, double *features);

/* Zeroed weights of the given size; false leaves nothing allocated. */
bool trivial_alloc(struct trivial *t, int n_features, int n_classes, struct err *e);
void trivial_free(struct trivial *t); /* accepts a zeroed record */

/* Fits on the given items of the set, all of which have labels. */
bool trivial_fit(struct trivial *t, const struct imageset *set, const uint32_t *items, size_t n,
                 struct err *e);
/* The same from features [n, n_features] (standardised in place) and labels in 0..n_classes-1. */
bool trivial_fit_features(struct trivial *t, double *features, const int16_t *label, size_t n, int n_features,
                          int n_classes, struct err *e);

/* probs [n_classes] of a stored image, or of raw features. */
void trivial_predict(const struct trivial *t, const struct imageset_layout *l, const uint8_t *px,
                     float *probs);
void trivial_predict_features(const struct trivial *t, const double *features, float *probs);

#endif
