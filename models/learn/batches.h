/* SPDX-License-Identifier: Apache-2.0
 *
 * batches.h - which items a step sees and how they look: a method's streams turned into rows of network
 * input.
 *
 * Order. Stream s draws its items at positions step*items .. of an endless sequence: the pool in a fresh
 * permutation each epoch, a pure function of (seed, stream, position). Batches may straddle epochs; a pool
 * smaller than a batch is passed several times. Balanced streams take the classes in turn, each class with a
 * sequence of its own. All views of an item come from the same draw, so weak and strong rows always belong
 * together.
 *
 * Views. Row r of step t is made from random key (seed, RNG_WEAK or RNG_STRONG, t*n_rows + r): any thread may
 * make it.
 *
 * CTAugment (config.cta): strong views draw from its rates, and streams of our own follow the method's: B
 * probes of labelled items, of the source and as many of the target where the method keeps both apart; rows
 * n_rows..n_all_rows-1, policies beside them. Rates are only read here.
 *
 * Still pairs (config.still_share, sets of pairs with a likeness channel). An undamaged item (class 0) drawn for
 * stream 0 is replaced, with that probability, by a pair known to be undamaged because both its dates are one
 * image: pre or post of any item of the unlabelled pool, under a strong view. Rubble that was rubble before is
 * no damage of this event, so appearance alone cannot be learnt for damage. No label is used for it.
 *
 * Memory: everything is allocated by batches_create(); batches_make() allocates nothing. Threads: one user at
 * a time; OpenMP inside. */
#ifndef AM_BATCHES_H
#define AM_BATCHES_H

#include "models/data/cta.h"
#include "models/learn/method.h"

enum { BATCHES_MAX_STREAMS = METHOD_MAX_STREAMS + 2 }; /* the method's, then the probes' */

struct batches_order; /* an endless permuted sequence over a pool */

struct batches {
    /* What batches_make() fills; rows as struct method_step describes. */
    int n_streams, n_rows;         /* the method's */
    int n_all_streams, n_all_rows; /* and the probes' */
    int offset[BATCHES_MAX_STREAMS], items[BATCHES_MAX_STREAMS];
    size_t row_floats;
    float *x;                            /* [n_all_rows, row_floats] */
    int16_t *label[BATCHES_MAX_STREAMS]; /* [items] */
    uint32_t *item[BATCHES_MAX_STREAMS]; /* [items], index in the set */
    uint8_t *still;                      /* [items of stream 0]: 0, or 1 + the date that stands for both */

    struct cta *cta;           /* NULL without */
    struct cta_policy *policy; /* [n_all_rows - n_rows] of the probes */

    /* Private. */
    const struct imageset *set;
    struct augment_config augment;
    struct method_stream streams[BATCHES_MAX_STREAMS];
    uint64_t seed;
    const uint32_t *unlabeled; /* [n_unlabeled] */
    size_t n_unlabeled;
    double still_share;
    struct batches_order *orders; /* of all streams */
    int first_order[BATCHES_MAX_STREAMS], n_orders[BATCHES_MAX_STREAMS];
    int n_all_orders;
    size_t image_bytes, scratch_bytes;
    int n_threads;
    char *scratch; /* [n_threads, scratch_bytes] */
};

struct batches_pools {
    const uint32_t *labeled, *unlabeled, *source; /* indices in the set; must outlive the batches */
    size_t n_labeled, n_unlabeled, n_source;
};

/* False leaves nothing allocated. The set and the pools must outlive the batches. */
bool batches_create(struct batches *b, const struct imageset *set, const struct train_config *c,
                    const struct method *method, const struct batches_pools *pools, struct err *e);
void batches_free(struct batches *b);  /* accepts a zeroed record */
void batches_reset(struct batches *b); /* CTAugment's rates to their start */
void batches_make(struct batches *b, int64_t step);

#endif
