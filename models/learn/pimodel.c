/* SPDX-License-Identifier: Apache-2.0
 *
 * pimodel.c - the Pi-model (Laine & Aila: "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017) as
 * the baseline of the MixMatch family (google-research/fixmatch, `pi_model`).
 *
 *   L = (1/B) sum H(y, z(a_w x)) + lambda_u ramp(t) (1/(n C)) sum ||q - p||^2
 *   q = softmax z(a_1 u), no gradient;  p = softmax z(a_2 u);  a_1, a_2 weak, drawn apart
 *
 * Each of the three batches has its own statistics; the labelled one moves the running ones. mu = 0 is
 * supervised training bit for bit.
 *
 * Scalars: loss_s, loss_u. */
#include "models/learn/method.h"

static int streams(const struct train_config *c, struct method_stream out[METHOD_MAX_STREAMS])
{
    return semi_two_streams(c, 2, out);
}

static void prepare(struct method_step *s)
{
    if (s->items[1] == 0)
        return;
    const float *x = s->x + (size_t)s->offset[1] * s->x_stride;
    semi_guess(s, net_forward(s->net, x, s->items[1], NET_BN_BATCH), s->items[1]);
}

static void defaults(struct train_config *c, bool plain_images)
{
    semi_baseline_defaults(c, plain_images);
    c->lambda_u = 10;
}

const struct method method_pimodel = {
    .name = "pimodel",
    .summary = "two weak views of an unlabelled item shall be predicted alike",
    .source = "Laine & Aila 2017, as a baseline of Sohn et al. 2020",
    .streams = streams,
    .passes = semi_two_passes,
    .prepare = prepare,
    .loss = semi_consistency_loss,
    .defaults = defaults,
};
