/* SPDX-License-Identifier: Apache-2.0
 *
 * pseudolabel.c - pseudo-labels (Lee: "Pseudo-Label", ICML workshop 2013) as the baseline of the MixMatch
 * family (google-research/fixmatch, `pseudo_label`).
 *
 *   L = (1/B) sum H(y, z(a_w x)) + lambda_u ramp(t) (1/n) sum 1[max q > tau] H(argmax q, z),  z = z(a_w u)
 *
 * q = softmax z: guess and prediction come from one view, and the gradient flows through the prediction
 * alone. The mean is over all n unlabelled items. The mask belongs to the item: the published programs
 * multiply a [n,1] mask into [n] losses, which trains on unconfident items too; that is not followed. The
 * labelled batch alone moves the running statistics; the unlabelled one has its own. mu = 0 is supervised
 * training bit for bit.
 *
 * Scalars: loss_s, loss_u, mask (share kept). */
#include "models/learn/method.h"

static int streams(const struct train_config *c, struct method_stream out[METHOD_MAX_STREAMS])
{
    return semi_two_streams(c, 1, out);
}

static double loss(struct method_step *s, const float *logits, float *dlogits, struct method_scalars *out)
{
    if (s->pass == 0)
        return semi_supervised_pass(s, logits, dlogits, out);
    const int n = s->items[1];
    const double weight = s->config->lambda_u * semi_ramp(s->step, s->n_steps, s->config->ramp) / n;
    double loss_u = 0;
    int kept = 0;
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * (size_t)s->n_classes;
        int h;
        if (!(semi_confidence(logits + at, s->n_classes, &h) > s->config->tau))
            continue;
        kept++;
        loss_u += semi_cross_entropy(logits + at, s->n_classes, h, 0.0, weight, dlogits + at);
    }
    semi_scalar(out, "loss_u", loss_u);
    semi_scalar(out, "mask", (double)kept / n);
    return loss_u;
}

static void defaults(struct train_config *c, bool plain_images)
{
    semi_baseline_defaults(c, plain_images);
    c->tau = 0.95;
    c->lambda_u = 1;
}

const struct method method_pseudolabel = {
    .name = "pseudolabel",
    .summary = "confident guesses are taken for labels, on the same view",
    .source = "Lee 2013, as a baseline of Berthelot et al. 2019",
    .streams = streams,
    .passes = semi_two_passes,
    .loss = loss,
    .defaults = defaults,
};
