/* SPDX-License-Identifier: Apache-2.0
 *
 * fixmatch.c - FixMatch (Sohn, Berthelot, Li, Zhang, Carlini, Cubuk, Kurakin, Zhang, Raffel: "FixMatch:
 * Simplifying Semi-Supervised Learning with Consistency and Confidence", NeurIPS 2020, algorithm 1;
 * google-research/fixmatch).
 *
 *   one forward pass over a_w(x) [B], a_w(u) [mu B], a_s(u) [mu B]: one batch, one set of batch statistics
 *   L_s = (1/B) sum H(y, z(a_w x))
 *   q = softmax z(a_w u), m = 1[max q >= tau], h = argmax q            (no gradient through q)
 *   L_u = (1/(mu B)) sum m H(h, z(a_s u))                              divided by all mu B, never by the
 * number kept L = L_s + lambda_u L_u (+ weight decay, which the optimiser adds)
 *
 * Symbols: tau, lambda_u, mu, B = config.tau, .lambda_u, .mu, .batch. The weak rows get no gradient at their
 * logits, but they share the batch statistics, as in the published code. The published interleave only
 * spreads labelled rows over devices; with one batch-norm group it is the identity and is left out. mu = 0
 * leaves the labelled stream alone, which is supervised training bit for bit (a test says so).
 *
 * Scalars: loss_s, loss_u, mask (share kept), and up to five classes kept.C (share of mu B kept as class C);
 * with more classes kept_classes, how many classes were kept at all. Whether pseudo-labels are right is
 * unknown and not reported. */
#include "models/learn/method.h"

enum { SHOWN_CLASSES = METHOD_MAX_SCALARS - 3 };

static int streams(const struct train_config *c, struct method_stream out[METHOD_MAX_STREAMS])
{
    out[0] =
        (struct method_stream){.pool = METHOD_LABELED, .per_batch = 1, .n_views = 1, .view = {AUGMENT_WEAK}};
    if (c->mu == 0)
        return 1;
    out[1] = (struct method_stream){
        .pool = METHOD_UNLABELED, .per_batch = c->mu, .n_views = 2, .view = {AUGMENT_WEAK, AUGMENT_STRONG}};
    return 2;
}

static void scalar(struct method_scalars *out, const char *name, double value)
{
    out->name[out->n] = name;
    out->value[out->n++] = value;
}

static double loss(struct method_step *s, const float *logits, float *dlogits, struct method_scalars *out)
{
    static const char *const kept_name[SHOWN_CLASSES] = {"kept.0", "kept.1", "kept.2", "kept.3", "kept.4"};
    const double tau = s->config->tau, lambda_u = s->config->lambda_u;
    const int n_u = s->items[1], n_classes = s->n_classes;
    int kept = 0, kept_of[METHOD_MAX_CLASSES] = {0};
    double loss_s = semi_labeled_loss(s, logits, dlogits), loss_u = 0;

    for (int i = 0; i < n_u; i++) {
        size_t weak = (size_t)(s->offset[1] + i) * (size_t)n_classes;
        size_t strong = (size_t)(s->offset[1] + n_u + i) * (size_t)n_classes;
        int h;
        if (semi_confidence(logits + weak, n_classes, &h) < tau)
            continue;
        kept++;
        kept_of[h]++;
        loss_u += semi_cross_entropy(logits + strong, n_classes, h, 0.0, lambda_u / n_u, dlogits + strong);
    }
    out->n = 0;
    if (n_u > 0) {
        int n_kept_classes = 0;
        scalar(out, "loss_s", loss_s);
        scalar(out, "loss_u", loss_u);
        scalar(out, "mask", (double)kept / n_u);
        for (int c = 0; c < n_classes; c++)
            n_kept_classes += kept_of[c] > 0;
        if (n_classes > SHOWN_CLASSES)
            scalar(out, "kept_classes", n_kept_classes);
        else
            for (int c = 0; c < n_classes; c++)
                scalar(out, kept_name[c], (double)kept_of[c] / n_u);
    }
    return loss_s + loss_u;
}

static void defaults(struct train_config *c, bool plain_images)
{
    c->batch = plain_images ? 64 : 16;
    c->mu = plain_images ? 7 : 3;
    c->tau = 0.95;
    c->lambda_u = 1.0;
    c->label_smoothing = 0.0;
}

const struct method method_fixmatch = {
    .name = "fixmatch",
    .summary = "confident pseudo-labels of weak views teach the strong views of unlabelled items",
    .source = "Sohn et al. 2020, algorithm 1",
    .streams = streams,
    .loss = loss,
    .defaults = defaults,
};
