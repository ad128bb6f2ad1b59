/* SPDX-License-Identifier: Apache-2.0
 *
 * method.h - what a learning method is: settings, up to four hooks, and the one list of methods. There is one
 * training loop (train.c); a method never loops over steps itself.
 *
 *   streams  which pools it draws from, how many views of each item and which augmentation
 *   prepare  before the forward pass: may run the net without gradient and rewrite views and targets
 * (guessing, MixUp) loss     logits -> gradient of the logits + named scalars state    tensors that must be
 * saved with a checkpoint (marginals, rates, ring buffers)
 *
 * A new method = one file + one line in METHODS (method.c) + one test. */
#ifndef AM_METHOD_H
#define AM_METHOD_H

#include "models/data/augment.h"
#include "models/data/imageset.h"
#include "models/net/net.h"
#include "models/net/optim.h"

struct train_config {
    const char *method;   /* name in the list */
    const char *preset;   /* net_config_preset name */
    int labels_per_class; /* 0: all labelled training items */
    uint64_t seed;
    int64_t steps;        /* > 0, or 0 when budget_s rules */
    double budget_s;      /* wall-clock budget; steps are fixed from the measured speed of the first ones, see
                             train.h */
    int batch;            /* B, labelled items a step */
    int mu;               /* unlabelled items a step = mu*B */
    double tau, lambda_u; /* FixMatch: confidence threshold, weight of the unlabelled loss */
    double label_smoothing;
    bool balance;        /* labelled batches drawn class-balanced (sampling, not weighting) */
    bool mirror, cutout; /* see augment.h */
    struct optim_config optim;
    double checkpoint_every_s; /* wall-clock between resumable checkpoints */
    double calibrate_share;    /* share of labelled training items held out for temperature scaling when there
                                  are >= 40 a class */
};

/* A stream: what is drawn each step. */
enum method_pool { METHOD_LABELED, METHOD_UNLABELED };
struct method_stream {
    enum method_pool pool;
    int per_batch; /* items a step = per_batch * B */
    int n_views;   /* 1..4 */
    enum augment_kind view[4];
};

enum { METHOD_MAX_STREAMS = 3, METHOD_MAX_SCALARS = 8 };

struct method_scalars {
    int n;
    const char *name[METHOD_MAX_SCALARS];
    double value[METHOD_MAX_SCALARS];
};

/* What prepare and loss see. Rows of x are stream by stream, view by view, item by item:
 * row(stream s, view v, item i) = offset[s] + v*items[s] + i. */
struct method_step {
    const struct train_config *config;
    int64_t step, n_steps;
    int n_classes, n_rows;
    int offset[METHOD_MAX_STREAMS], items[METHOD_MAX_STREAMS];
    float *x;                                 /* [n_rows,size,size,c] views */
    size_t x_stride;                          /* floats of one row */
    const int16_t *label[METHOD_MAX_STREAMS]; /* [items], IMAGESET_NO_LABEL for unlabelled streams */
    float *target;                            /* [n_rows,n_classes] scratch a method may fill in prepare */
    struct net *net;
    void *state; /* what state_create returned */
    uint64_t seed;
};

struct method_state_tensor {
    const char *name;
    size_t count;
    float *data;
};

struct method {
    const char *name, *summary, *source; /* source: paper and section, for help */
    int (*streams)(const struct train_config *c, struct method_stream out[METHOD_MAX_STREAMS]);
    void (*prepare)(struct method_step *s); /* NULL: nothing to prepare */
    /* dlogits [n_rows,n_classes] arrives zeroed; returns the loss without weight decay. */
    double (*loss)(struct method_step *s, const float *logits, float *dlogits, struct method_scalars *out);
    void *(*state_create)(const struct train_config *c, int n_classes, struct err *e); /* NULL: stateless */
    int (*state_tensors)(void *state, struct method_state_tensor out[8]);
    void (*state_free)(void *state);
    void (*defaults)(struct train_config *c, bool plain_images); /* fills every setting the method rules */
};

const struct method *method_find(const char *name, struct err *e); /* ERR_USAGE lists the names */
const struct method *const *method_list(int *n);

enum { METHOD_MAX_CLASSES = 1000 }; /* as net.h */

/* Shared numerics (semi.c). */
void semi_softmax(const float *logits, int n_classes, float *p);
/* Largest softmax probability, in double; the class it belongs to (the lowest index of equals). */
double semi_confidence(const float *logits, int n_classes, int *top_class);
/* weight * H(q, softmax z), q = one-hot label smoothed; weight * (softmax - q) is added to dlogits
 * [n_classes], if given. */
double semi_cross_entropy(const float *logits, int n_classes, int label, double smoothing, double weight,
                          float *dlogits);
/* Mean cross-entropy of stream 0's first view against its labels, with config.label_smoothing; adds to
 * dlogits. */
double semi_labeled_loss(const struct method_step *s, const float *logits, float *dlogits);

#endif
