/* SPDX-License-Identifier: Apache-2.0
 *
 * tract_parts.h - what a run consists of, shared by tract_train.c (steps) and tract_file.c (files); nobody else
 * includes it. */
#ifndef AM_TRACT_PARTS_H
#define AM_TRACT_PARTS_H

#include "models/learn/tract.h"
#include "models/net/unet_file.h"

struct tract_run {
    struct tract_config config;
    struct tract_schedule schedule;
    struct unet *net;
    size_t n_values, d; /* weights; numbers of an image */
    /* [n_values] each; teacher and self NULL while a teacher is trained */
    float *student, *ema, *teacher, *self, *grads, *slot[2];
    struct tract_average average, self_average;
    uint64_t done; /* updates, and Adam's counter */
    int phase;
    double loss; /* running mean */
    /* of one batch */
    struct tract_place *place;
    int *label, *time;
    double *x_t, *target, *work, *angle;
    float *x, *dy;
};

enum { TRACT_MAX_BLOCKS = 6 }; /* the weight-like arrays a file holds */
int tract_blocks(const struct tract_run *r, struct unet_file_block block[TRACT_MAX_BLOCKS]);

#endif
