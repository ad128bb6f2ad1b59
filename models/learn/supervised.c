/* SPDX-License-Identifier: Apache-2.0
 *
 * supervised.c - the reference every other method is measured against: cross-entropy on weakly augmented
 * labelled items, L = (1/B) sum_i H(y_i, z(a_w x_i)), labels smoothed by label_smoothing
 * (google-research/fixmatch, `fully_supervised`; SKAI `semi_supervised`). Optimiser and schedule are
 * FixMatch's (Sohn et al. 2020, table 4), so that a comparison with it differs in the unlabelled data alone.
 */
#include "models/learn/method.h"

static int streams(const struct train_config *c, struct method_stream out[METHOD_MAX_STREAMS])
{
    (void)c;
    out[0] =
        (struct method_stream){.pool = METHOD_LABELED, .per_batch = 1, .n_views = 1, .view = {AUGMENT_WEAK}};
    return 1;
}

static double loss(struct method_step *s, const float *logits, float *dlogits, struct method_scalars *out)
{
    out->n = 0;
    return semi_labeled_loss(s, logits, dlogits);
}

static void defaults(struct train_config *c, bool plain_images)
{
    (void)plain_images;
    c->batch = 64;
    c->mu = 0;
    c->label_smoothing = 0.001;
}

const struct method method_supervised = {
    .name = "supervised",
    .summary = "cross-entropy on the labelled items alone",
    .source = "the reference of Sohn et al. 2020 (FixMatch), section 4",
    .streams = streams,
    .loss = loss,
    .takes_soft = true,
    .defaults = defaults,
};
