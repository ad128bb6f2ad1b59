/* SPDX-License-Identifier: Apache-2.0
 *
 * method.h - what a learning method is: settings, a few hooks, and the one list of methods. There is one
 * training loop (train.c); a method never loops over steps itself.
 *
 *   streams  which pools it draws from, how many views of each item and which augmentation
 *   prepare  before any pass: may run the net without gradient and write targets and blank views (guessing)
 *   mix      rewrites views and targets as a function of both, the seed and the step alone (MixUp,
 *            interleaving); also runs when the averaged weights' statistics are made, prepare does not
 *   passes   which rows go through the net together, each with batch statistics of its own, and which pass
 *            moves the running ones; without it one pass takes all rows and moves them
 *   loss     once a pass: its logits -> their gradient + named scalars; gradients of all passes add up
 *   state    tensors that must be saved with a checkpoint (marginals, rates, ring buffers)
 *
 * A new method = one file + one line in METHODS (method.c) + one test. */
#ifndef AM_METHOD_H
#define AM_METHOD_H

#include "models/data/augment.h"
#include "models/data/imageset.h"
#include "models/net/net.h"
#include "models/net/optim.h"

/* Towards what the marginal of guesses is pushed. Labelled sets are usually enriched with damage, and a map
 * pushed to their marginal would overstate it: off unless asked for, but for plain images as published. */
enum method_align {
    METHOD_ALIGN_OFF,
    METHOD_ALIGN_LABELS, /* as published: running marginal of the labels (ReMixMatch), of the model's
                            predictions on the labelled or source domain (AdaMatch) */
    METHOD_ALIGN_PRIOR,  /* config.prior */
    METHOD_ALIGN_SAMPLE  /* class shares of all labels of the run, which are a random sample of the area */
};

/* Whose guesses teach. */
enum method_teacher {
    METHOD_TEACHER_SELF,    /* the weights being trained, in the same batch */
    METHOD_TEACHER_EMA,     /* the averaged weights, on the statistics of the weak views */
    METHOD_TEACHER_EMA_EVAL /* the averaged weights, on running statistics */
};

/* UDA's annealing of the training signal: how the confidence beyond which a label stops teaching rises. */
enum method_tsa { METHOD_TSA_OFF, METHOD_TSA_LINEAR, METHOD_TSA_EXP, METHOD_TSA_LOG };

enum { METHOD_MAX_TAUS = 16 };

struct train_watch;
struct train_config {
    const char *method;   /* name in the list */
    const char *preset;   /* net_config_preset name */
    int labels_per_class; /* 0: all labelled training items; -1: none, a source has to teach */
    uint64_t seed;
    int64_t steps;        /* > 0, or 0 when budget_s rules */
    double budget_s;      /* wall-clock budget; steps are fixed from the measured speed of the first ones, see
                             train.h */
    int batch;            /* B, labelled items a step */
    int mu;               /* unlabelled items a step = mu*B */
    double tau, lambda_u; /* FixMatch: confidence threshold, weight of the unlabelled loss */
    double label_smoothing;
    bool balance; /* labelled batches drawn class-balanced (sampling, not weighting) */
    /* The unlabelled pool also holds the images (never the labels) of test and buffer items. Figures on the
     * test items are then transductive, and the model says so. */
    bool transductive;
    bool mirror, cutout, hide_bands; /* see augment.h */
    double still_share;              /* of undamaged draws that become pairs of one date (batches.h) */
    struct optim_config optim;
    double checkpoint_every_s; /* wall-clock between resumable checkpoints */
    double calibrate_share;    /* share of labelled training items held out for temperature scaling when there
                                  are >= 40 a class */

    /* Settings that only some methods have. 0 is what a method without them has, and what a model file
     * leaves out. */
    int n_guesses;          /* K, views of an unlabelled item */
    double sharpen;         /* T, temperature of guesses */
    double mixup;           /* alpha of MixUp's Beta(alpha, alpha); 0: no mixing */
    double ramp;            /* share of the run over which the unlabelled weight rises from 0; 0: at once */
    double vat_radius;      /* VAT: length of the adversarial step */
    double vat_probe;       /* VAT: xi, length of the step that finds its direction */
    int weak_only;          /* FixMatch: 1: the strong view is a second weak one */
    int teacher;            /* FixMatch: enum method_teacher */
    int interpolate;        /* AdaMatch: 1: labelled logits between two batches' statistics */
    int relative_tau;       /* AdaMatch: 1: tau is a share of the confidence on labelled items */
    int cta;                /* 1: strong views by CTAugment instead of RandAugment */
    double lambda_strong;   /* ReMixMatch: weight of the first strong view, unmixed */
    double lambda_rotation; /* ReMixMatch: weight of telling how an image was turned */
    int align;              /* enum method_align */
    double prior;           /* METHOD_ALIGN_PRIOR, two classes: share of the second */
    bool has_source, has_labels; /* found in the data by train_run: items of a source, labels of the target */
    double lambda_entropy;       /* weight of the entropy of predictions on unlabelled items, never ramped */
    int tsa;                     /* UDA: enum method_tsa */
    /* FixMatch, UDA, AdaMatch: thresholds by the class guessed, in the place of tau; n is 0 or all classes. */
    int n_class_tau;
    double class_tau[METHOD_MAX_TAUS];
    const struct train_watch *watch; /* who looks at the last checkpoints (train.h), or NULL; no setting */
};

/* A stream: what is drawn each step. */
enum { METHOD_MAX_STREAMS = 4, METHOD_MAX_VIEWS = 16, METHOD_MAX_PASSES = 24, METHOD_MAX_SCALARS = 8 };
/* Labelled items of a source join METHOD_LABELED, unless the method separates them. */
enum method_pool { METHOD_LABELED, METHOD_UNLABELED, METHOD_SOURCE };
struct method_stream {
    enum method_pool pool;
    int per_batch;                            /* items a step = per_batch * B */
    int n_views;                              /* 1..METHOD_MAX_VIEWS */
    enum augment_kind view[METHOD_MAX_VIEWS]; /* AUGMENT_NONE also serves as room that the method fills */
};

/* Rows of x that go through the net together. */
struct method_pass {
    int first, n;
    bool update; /* moves the running statistics; exactly one pass does */
};

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
    const uint32_t *item[METHOD_MAX_STREAMS]; /* [items], index in the set */
    const float *soft; /* NULL, or another model's answers by index in the set [n,n_classes] (imageset.h) */
    float *target;     /* [n_rows,n_classes] scratch a method may fill in prepare */
    uint32_t *order;   /* [2*n_rows] scratch */
    float *share;      /* [n_rows] scratch */
    struct net *net;
    struct net *ema_net;     /* for semi_ema_forward() */
    const float *ema;        /* averaged weights in the order of net_tensors() */
    int max_pass_rows;       /* most rows that one call of net_forward takes */
    const float *dembedding; /* loss may set it to [rows of the pass, embedding]: a gradient beside dlogits */
    const double
        *class_share;  /* [n_classes] shares among the labels of the run, each class counted once more */
    int64_t n_updates; /* of the running statistics so far */
    int pass;          /* loss: which one, in the order that passes() gave */
    void *state;       /* what state_create returned */
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
    int (*passes)(const struct method_step *s, struct method_pass out[METHOD_MAX_PASSES]); /* or NULL */
    void (*prepare)(struct method_step *s);                                                /* or NULL */
    void (*mix)(struct method_step *s);                                                    /* or NULL */
    /* logits, dlogits: rows of this pass [n,n_classes]; dlogits arrives zeroed. Returns this pass's part of
     * the loss, without weight decay. out is empty before the first pass and may be added to by each. */
    double (*loss)(struct method_step *s, const float *logits, float *dlogits, struct method_scalars *out);
    /* shape: a step with everything but data. NULL: stateless. */
    void *(*state_create)(const struct method_step *shape, struct err *e);
    int (*state_tensors)(void *state, struct method_state_tensor out[8]);
    void (*state_free)(void *state);
    void (*defaults)(struct train_config *c, bool plain_images); /* fills every setting the method rules */
    bool takes_soft;       /* labelled items may teach another model's answers (method_step.soft) */
    bool separates_source; /* has streams of METHOD_SOURCE when there is one */
    bool (*check)(const struct train_config *c, struct err *e); /* settings it cannot work with; or NULL */
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

/* The threshold for guesses of a class: its own where there are such, else tau. */
double semi_tau(const struct train_config *c, int guess);

void semi_scalar(struct method_scalars *out, const char *name, double value);
void semi_scalar_add(struct method_scalars *out, const char *name, double value); /* makes it when missing */
/* q^(1/T), normalised; T -> 0 is one-hot, ties stay tied. In place. */
void semi_sharpen(float *q, int n_classes, double temperature);
/* weight * H(q, softmax z) for a soft target q. */
double semi_soft_cross_entropy(const float *logits, int n_classes, const float *q, double weight,
                               float *dlogits);
/* weight * sum_c (q_c - softmax(z)_c)^2; the gradient goes through the softmax, not through q. */
double semi_squared_error(const float *logits, int n_classes, const float *q, double weight, float *dlogits);
/* weight * entropy of softmax z. */
double semi_entropy(const float *logits, int n_classes, double weight, float *dlogits);
/* weight * KL(softmax z || q): prediction first; q > 0 is clipped below at 1e-12. */
double semi_reverse_kl(const float *logits, int n_classes, const float *q, double weight, float *dlogits);
/* 0 to 1 over the first `share` of the run, then 1. */
double semi_ramp(int64_t step, int64_t n_steps, double share);
/* The averaged weights with batch statistics, or with running ones freed of their starting values; logits
 * valid until the next call. */
const float *semi_ema_forward(const struct method_step *s, const float *x, int n, enum net_bn bn);

/* d := length * e / sqrt(1e-6 + sum e^2), e = d / (1e-12 + max |d|). */
void semi_normalise(float *d, size_t n, double length);

/* What the baselines share: a labelled batch and an unlabelled one of mu*B items with n_views weak views, in
 * passes of their own; only the labelled one moves the running statistics. mu = 0 leaves it alone. */
int semi_two_streams(const struct train_config *c, int n_views, struct method_stream out[METHOD_MAX_STREAMS]);
int semi_two_passes(const struct method_step *s, struct method_pass out[METHOD_MAX_PASSES]); /* last view */
void semi_baseline_defaults(struct train_config *c, bool plain_images);
/* Softmax of n rows into the targets of stream 1's first view, whose start is returned. */
const float *semi_guess(struct method_step *s, const float *logits, int n);
double semi_supervised_pass(struct method_step *s, const float *logits, float *dlogits,
                            struct method_scalars *out);
/* Pass 0: labelled. Pass 1: ramp * lambda_u * mean over items and classes of (guess - prediction)^2. */
double semi_consistency_loss(struct method_step *s, const float *logits, float *dlogits,
                             struct method_scalars *out);

/* MixUp and interleaving (mixup.c). */
/* Rows first..first+n-1 of views and targets, each mixed with a random partner among them by a share of its
 * own, l' = max(l, 1-l), l ~ Beta(alpha, alpha); alpha 0 leaves all as it is. */
void mixup_rows(struct method_step *s, int first, int n, double alpha);
/* n_lists lists of n rows from `first` on: group i of list 0 and group i of list i trade places, i >= 1. An
 * involution. */
void mixup_interleave(struct method_step *s, int first, int n_lists, int n);
/* First position of group g of a list (g = n_lists: its end): sizes differ by one, larger ones last. */
int mixup_group(int n, int n_lists, int g);
/* Whether position i of interleaved list `list` came from list 0. */
bool mixup_is_first(int n, int n_lists, int list, int i);

#endif
