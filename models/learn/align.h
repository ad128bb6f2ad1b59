/* SPDX-License-Identifier: Apache-2.0
 *
 * align.h - distribution alignment, as two methods use it (align.c). The two arrays are the state to save. */
#ifndef AM_ALIGN_H
#define AM_ALIGN_H

#include "models/learn/method.h"

enum { ALIGN_RING = 128 };

struct align {
    int n_classes;
    float *ring; /* [ALIGN_RING, n_classes] batch means of guesses before alignment */
    float *want; /* [n_classes] */
};

/* All uniform. False leaves nothing allocated. */
bool align_create(struct align *a, const struct method_step *shape, struct err *e);
void align_free(struct align *a);
void align_push(struct align *a, int64_t step, const double *mean);
void align_average(struct align *a, const double *mean); /* moves `want` */
/* What guesses are multiplied by, under config.align; ratio [n_classes]. */
void align_ratio(const struct align *a, const struct method_step *s, double *ratio);
void align_apply(const double *ratio, int n_classes, float *q); /* in place, normalised */
bool align_check(const struct train_config *c, struct err *e);

#endif
