/* SPDX-License-Identifier: Apache-2.0
 *
 * train.h - the only training loop: draws batches, makes views, forward, the method's loss, backward,
 * optimiser, moving average, checkpoint. Resumable: a run stopped at any step and resumed ends in the same
 * bits as an unbroken one, on any thread count, because every random number is a function of (seed, stream,
 * step, row) and all state is in the checkpoint.
 *
 * Unlabelled pool = all training-split items (labels ignored), labelled ones included; test and buffer items
 * only when the configuration says transductive, and never their labels.
 *
 * Three choices for short runs, where published settings assume a million steps:
 *   1. The moving average warms up: its decay at step t (from 0) is min(ema_decay, (1+t)/(10+t)), so that it
 * spans the last tenth of a short run, not its random start.
 *   2. Batch-norm running statistics with momentum 0.999 would be stale; the averaged weights get population
 * statistics instead, averaged over about a thousand training views in batches composed as in training
 * (precise batch norm, Wu & Johnson 2021), each time a checkpoint is written. net.* keeps the raw running
 * statistics.
 *   3. A wall-clock budget is turned into a number of steps by timing a few steps, which are then thrown
 * away: the run is bit for bit the run that `steps` of that number gives, and schedules know their end. */
#ifndef AM_TRAIN_H
#define AM_TRAIN_H

#include "models/base/progress.h"
#include "models/learn/method.h"
#include "models/net/checkpoint.h"

struct train_report {
    int64_t steps;
    size_t n_labeled, n_unlabeled, n_source, n_calibration;
    double seconds, final_loss, temperature;
    bool calibrated;
};

/* Somebody who looks at the last checkpoints of a run (train_config.watch): n of them, the last of them the
 * finished run, evenly spaced over the last `share` of the steps. seen() is called for all but the finished
 * one, when `path` holds that step's model whole; false, with e filled, ends the run, which can be resumed.
 * The run's bits are those of a run that nobody watches. */
struct train_watch {
    int n;
    double share;
    bool (*seen)(void *ctx, const char *path, int64_t step, struct err *e);
    void *ctx;
};

/* Defaults of a method for pairs or plain images, then the caller overrides single fields. */
bool train_defaults(struct train_config *c, const char *method, bool plain_images, struct err *e);

/* Adds the labelled training items of another place to a set, as IMAGESET_SOURCE: they teach, but are neither
 * part of the unlabelled pool nor ever tested or calibrated on; its own test items stay unseen. Each keeps
 * the 8-bit samples its own scaling made. Layouts and classes must be the same; ERR_INPUT says what differs.
 */
bool train_add_source(struct imageset *set, const struct imageset *source, struct err *e);

/* Trains on set and writes `out_path` (a checkpoint.h file that predict.h loads): net.*, ema.*, opt.*,
 * state.* tensors, state.labeled_ids [i64], trivial.* (the colour-statistics baseline fitted on the same
 * labels), and metadata (predict.h lists the keys). extra_meta: pairs the caller adds (event, scaling,
 * digests). With `resume`, an existing out_path continues (ERR_MODEL when its settings or data differ). With
 * budget_s, the first steps are timed, the step count is fixed from them and stored, so that schedules know
 * their end and a resumed run keeps it. On progress_stopped(): writes the checkpoint and fails with
 * ERR_INTERRUPTED. */
bool train_run(const struct imageset *set, const struct train_config *c, const char *out_path, bool resume,
               const struct checkpoint_meta *extra_meta, int n_extra, const struct progress *progress,
               struct train_report *report, struct err *e);

#endif
