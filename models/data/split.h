/* SPDX-License-Identifier: Apache-2.0
 *
 * split.h - train and test sets that share no ground. Buildings within link_m of each other (SKAI uses 77 m) form connected
 * components; when the scene falls apart into enough of them they are the blocks, otherwise a grid of block_m cells is, and
 * training items nearer than buffer_m to any test item are dropped (IMAGESET_BUFFER). Test blocks are chosen by seed so
 * that the test share and the class shares come as near as space allows. Arrays in, arrays out: coordinates are metres in
 * any local metric frame. */
#ifndef AM_SPLIT_H
#define AM_SPLIT_H

#include "models/base/err.h"
#include <stddef.h>
#include <stdint.h>

struct split_options {
    double link_m;     /* 77: components are closed under this distance */
    double block_m;    /* 100: cell side when the town is contiguous */
    double buffer_m;   /* no training item nearer than this to a test item; at least the chip's diagonal */
    double test_share; /* 0.3 */
    bool random;       /* leaks ground between the sets; only when the caller insists */
    uint64_t seed;
};

struct split_report {
    int n_blocks, n_test_blocks;
    bool components; /* blocks are connected components, else grid cells */
    size_t n_train, n_test, n_buffer;
};

/* x, y [n] metres; level [n] damage level or -1 (any small class code); block [n] and split [n] (enum imageset_split) are
 * filled. ERR_INPUT when there is nothing to split (n < 2, or a single block). */
bool split_blocks(const double *x, const double *y, const int16_t *level, size_t n, const struct split_options *o,
                  int32_t *block, uint8_t *split, struct split_report *r, struct err *e);

#endif
