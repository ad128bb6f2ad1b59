/* SPDX-License-Identifier: Apache-2.0
 *
 * split.h - train and test sets that share no ground. Buildings within link_m of each other (SKAI uses 77 m)
 * form connected components; when the scene falls apart into enough of them (8 or more, the largest with at
 * most half of the items) they are the blocks, otherwise the cells of a grid of block_m are. Test blocks are
 * chosen by seed so that the test share of all items and of every level come as near to test_share as space
 * allows while little is lost to the buffer. Training items within buffer_m of any test item are then dropped
 * (IMAGESET_BUFFER). Arrays in, arrays out: coordinates are metres in any local metric frame. Same input and
 * seed, same split; no threads. */
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
    bool
        random; /* items at random within each level, no buffer: leaks ground; only when the caller insists */
    uint64_t seed;
};

struct split_report {
    int n_blocks, n_test_blocks;
    bool components; /* blocks are connected components, else grid cells */
    size_t n_train, n_test, n_buffer;
};

/* x, y [n] metres; level [n] damage level or -1 (any small class code); block [n] and split [n] (enum
 * imageset_split) are filled, blocks numbered from 0 in order of their first item. ERR_INPUT when there is
 * nothing to split (n < 2, a single block, or a buffer that leaves no training item); ERR_USAGE for options
 * that make no sense. Beside each failure stands what to change. */
bool split_blocks(const double *x, const double *y, const int16_t *level, size_t n,
                  const struct split_options *o, int32_t *block, uint8_t *split, struct split_report *r,
                  struct err *e);

#endif
