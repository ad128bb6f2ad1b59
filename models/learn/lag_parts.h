/* SPDX-License-Identifier: Apache-2.0
 *
 * lag_parts.h - what a run consists of, shared by lag_train.c (steps) and lag_file.c (files); nobody else includes
 * it. Index 0 is the generator, 1 the critic, as enum lagnet_kind. */
#ifndef AM_LAG_PARTS_H
#define AM_LAG_PARTS_H

#include "models/learn/lag.h"
#include "models/net/unet_file.h"

struct lag_run {
    struct lag_config config;
    struct unet_tensor *tensor[2]; /* of all stages */
    int n_tensors[2];
    size_t first[2][LAGNET_MAX_STAGES + 2]; /* where the weights of each stage begin (lagnet_list) */
    float *values[2], *grads[2], *slot[2], *square[2], *ema; /* square: Adam's, of all stages */
    uint64_t done, steps[LAGNET_MAX_STAGES + 1]; /* updates: of the run, of each stage's tensors */
    struct lag_step step;                        /* of the stage at work; zeroed before the first */
    struct lag_losses losses;
    float *full, *x, *y, *z, *u; /* a batch */
};

enum { LAG_BLOCKS = 5 }; /* the weight-like arrays a file holds */
void lag_blocks(const struct lag_run *r, struct unet_file_block block[LAG_BLOCKS]);

static inline size_t lag_full_size(const struct lagnet_config *c)
{
    const size_t side = (size_t)c->size << c->n_stages;
    return side * side * c->n_colors;
}

#endif
