/* SPDX-License-Identifier: Apache-2.0
 *
 * meanteacher.c - Mean Teacher (Tarvainen & Valpola: "Mean teachers are better role models", NeurIPS 2017) as
 * the baseline of the MixMatch family (google-research/fixmatch, `mean_teacher`).
 *
 *   L = (1/B) sum H(y, z(a_w x)) + lambda_u ramp(t) (1/(n C)) sum ||q - p||^2
 *   q = softmax z_ema(a_1 u), no gradient;  p = softmax z(a_2 u)
 *
 * The Pi-model, but the guess comes from the averaged weights, with batch statistics. With ema_decay 0 and no
 * warm-up of the average the teacher is the student itself: the Pi-model bit for bit. mu = 0 is supervised
 * training bit for bit.
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
    semi_guess(s, semi_ema_forward(s, x, s->items[1], NET_BN_BATCH), s->items[1]);
}

static void defaults(struct train_config *c, bool plain_images)
{
    semi_baseline_defaults(c, plain_images);
    c->lambda_u = 50;
}

const struct method method_meanteacher = {
    .name = "meanteacher",
    .summary = "the averaged weights' prediction of one weak view teaches the other",
    .source = "Tarvainen & Valpola 2017, as a baseline of Sohn et al. 2020",
    .streams = streams,
    .passes = semi_two_passes,
    .prepare = prepare,
    .loss = semi_consistency_loss,
    .defaults = defaults,
};
