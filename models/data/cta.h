/* SPDX-License-Identifier: Apache-2.0
 *
 * cta.h - CTAugment: strong augmentation whose magnitudes are learnt while training runs (Berthelot, Carlini,
 * Cubuk, Kurakin, Sohn, Zhang, Raffel: "ReMixMatch", ICLR 2020, section 3.2.2; google-research/fixmatch).
 *
 * Each parameter of each operation has a vector of bins, each bin a rate in [0,1]: how well the averaged
 * model recognises labelled images that went through it. A strong view draws CTA_DEPTH operations uniformly
 * and their bins in proportion to the rates, bins far below the best left out. A probe is a weakly augmented
 * labelled image with a policy drawn without regard to rates; what the averaged model, in evaluation mode,
 * says about it moves the rates of the bins it used.
 *
 * How a method uses it, each step:
 *   1. strong rows: cta_strong_view(); one probe row for each labelled item: cta_probe_view(), whose policy
 *      is kept (both are functions of the random key, so any thread may make any row; rates are only read);
 *   2. probe rows through the averaged weights in evaluation mode -> softmax;
 *   3. in row order: cta_update(cta, policy of the probe, p, n_classes, label).
 * State to save with a checkpoint: cta->rate, cta->n_rates floats, one tensor.
 *
 * Plain layouts (augment.h) have the 19 published operations in Pillow's semantics. Pairs have a set of their
 * own: geometry drawn once and shared by both dates and the masks, photometry drawn once a date from rates
 * that the dates share, unless per_date. Operations that change the meaning of a pair (invert, solarize,
 * posterize, saturation, equalize) are not in it. Threads: rates are read by many, updated by one in between.
 */
#ifndef AM_CTA_H
#define AM_CTA_H

#include "models/data/augment.h"

enum {
    CTA_DEPTH = 2,
    CTA_MAX_CHOICES = 2 * CTA_DEPTH,
    CTA_MAX_PARAMS = 2,
    CTA_MAX_OPS = 20,
    CTA_MAX_RATES = 640
};

struct cta_options {
    double decay;     /* rho, 0.99 */
    double threshold; /* 0.80: bins below this share of the best bin are never drawn */
    double translate; /* largest translation of plain images: a share of the side (0.3, the paper's), or the
                         released programs' 0.3 pixels, which moves nothing, with translate_px */
    bool translate_px;
    bool per_date; /* pairs: each date has photometric rates of its own; for more than 500 labels */
};

/* One operation with its magnitudes: v in [0,1), one for each parameter. */
struct cta_choice {
    int op;
    int date; /* pairs: the date a photometric operation acts on; else 0 */
    double v[CTA_MAX_PARAMS];
};

struct cta_policy {
    int n;
    struct cta_choice choice[CTA_MAX_CHOICES];
};

struct cta {
    struct augment_config augment;
    struct cta_options options;
    bool pair;
    int n_ops;
    int first[CTA_MAX_OPS]
             [IMAGESET_MAX_DATES]; /* start of an operation's bins in rate; parameter 2's follow 1's */
    size_t n_rates;
    float rate[CTA_MAX_RATES]; /* the whole state */
};

void cta_defaults(struct cta_options *o);
/* All rates 1. augment.cutout: strong views (never probes) end in cutout, as FixMatch's and AdaMatch's do and
 * ReMixMatch's do not. options NULL: the defaults. */
void cta_init(struct cta *c, const struct augment_config *augment, const struct cta_options *options);

int cta_op_count(const struct cta *c);
const char *cta_op_name(const struct cta *c, int op);
int cta_op_bins(const struct cta *c, int op, int param); /* 0: there is no such parameter */

/* Policies. r: freshly initialised with the view's key, or further along; any stream. */
void cta_sample(const struct cta *c, struct rng *r, struct cta_policy *p);
void cta_sample_probe(const struct cta *c, struct rng *r, struct cta_policy *p);

/* Bytes of scratch a view needs; one for each thread. */
size_t cta_scratch_bytes(const struct augment_config *augment);

/* px: stored image -> x: network input: weak augmentation, a drawn policy, and for strong views the cutout.
 * used receives what was drawn (and for pairs accepted: a policy that would push the building out of the
 * patch is drawn anew); strong views may pass NULL. */
void cta_strong_view(const struct cta *c, const uint8_t *px, struct rng *r, float *x, void *scratch,
                     struct cta_policy *used);
void cta_probe_view(const struct cta *c, const uint8_t *px, struct rng *r, float *x, void *scratch,
                    struct cta_policy *used);

/* Moves the rates of the bins that the probe's policy used towards w = 1 - sum_c |p_c - y_c| / 2, which for a
 * one-hot label is the probability of the true class: right answers raise a bin. p: softmax [n_classes] of
 * the averaged model on the probe. */
void cta_update(struct cta *c, const struct cta_policy *probe, const float *p, int n_classes, int label);

#endif
