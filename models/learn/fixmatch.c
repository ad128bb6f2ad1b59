/* SPDX-License-Identifier: Apache-2.0
 *
 * fixmatch.c - FixMatch (Sohn, Berthelot, Li, Zhang, Carlini, Cubuk, Kurakin, Zhang, Raffel: "FixMatch:
 * Simplifying Semi-Supervised Learning with Consistency and Confidence", NeurIPS 2020, algorithm 1;
 * google-research/fixmatch).
 *
 *   one forward pass over a_w(x) [B], a_w(u) [mu B], a_s(u) [mu B]: one batch, one set of batch statistics
 *   L_s = (1/B) sum H(y, z(a_w x))
 *   q = softmax z(a_w u), m = 1[max q >= tau], h = argmax q            (no gradient through q)
 *   L_u = (1/(mu B)) sum m H(h, z(a_s u))                              over all mu B, not those kept
 *   L = L_s + lambda_u L_u                                      (+ weight decay, which the optimiser adds)
 *
 * Symbols: tau, lambda_u, mu, B = config.tau, .lambda_u, .mu, .batch. The weak rows get no gradient at their
 * logits, but they share the batch statistics, as in the published code. The published interleave only
 * spreads labelled rows over devices; with one batch-norm group it is the identity and is left out. mu = 0
 * leaves the labelled stream alone, which is supervised training bit for bit (a test says so).
 *
 * The released programs' variants are settings, all off: weak_only (a_s = a_w), teacher (guesses of the
 * averaged weights, on batch or on running statistics), align (guesses aligned as in align.c before the
 * threshold, to the marginal of the labels or a prior). Sharpened labels are uda.c. Ours is a threshold of its
 * own for each class guessed: with rare damage one for all keeps mostly the easy negatives.
 *
 * Scalars: loss_s, loss_u, mask (share kept), and up to five classes kept.C (share of mu B kept as class C);
 * with more classes kept_classes, how many classes were kept at all. Whether pseudo-labels are right is
 * unknown and not reported. */
#include "models/base/mem.h"
#include "models/learn/align.h"

#include <stdlib.h>
#include <string.h>

enum { SHOWN_CLASSES = METHOD_MAX_SCALARS - 3 };

static int streams(const struct train_config *c, struct method_stream out[METHOD_MAX_STREAMS])
{
    out[0] =
        (struct method_stream){.pool = METHOD_LABELED, .per_batch = 1, .n_views = 1, .view = {AUGMENT_WEAK}};
    if (c->mu == 0)
        return 1;
    out[1] = (struct method_stream){
        .pool = METHOD_UNLABELED, .per_batch = c->mu, .n_views = 2, .view = {AUGMENT_WEAK, AUGMENT_STRONG}};
    if (c->weak_only)
        out[1].view[1] = AUGMENT_WEAK;
    return 2;
}

static void scalar(struct method_scalars *out, const char *name, double value)
{
    out->name[out->n] = name;
    out->value[out->n++] = value;
}

/* Alignment's marginals; without it nothing is saved. */
static void *state_create(const struct method_step *shape, struct err *e)
{
    struct align *a = mem_array(1, sizeof *a, "the method's state", e);
    if (a && shape->config->align != METHOD_ALIGN_OFF && !align_create(a, shape, e)) {
        free(a);
        return NULL;
    }
    return a;
}

static void state_free(void *state)
{
    align_free(state);
    free(state);
}

static int state_tensors(void *state, struct method_state_tensor out[8])
{
    struct align *a = state;
    size_t classes = (size_t)a->n_classes;
    out[0] = (struct method_state_tensor){"p_model", ALIGN_RING * classes, a->ring};
    out[1] = (struct method_state_tensor){"p_data", classes, a->want};
    return a->ring ? 2 : 0;
}

/* Another teacher's guesses wait in the targets of the weak rows. */
static void prepare(struct method_step *s)
{
    if (s->items[1] == 0 || s->config->teacher == METHOD_TEACHER_SELF)
        return;
    enum net_bn bn = s->config->teacher == METHOD_TEACHER_EMA ? NET_BN_BATCH : NET_BN_RUNNING;
    const float *x = s->x + (size_t)s->offset[1] * s->x_stride;
    semi_guess(s, semi_ema_forward(s, x, s->items[1], bn), s->items[1]);
}

/* Guesses that the variants change, in the targets: the teacher's, then aligned. */
static void change_guesses(struct method_step *s, const float *logits)
{
    const int n = s->items[1], n_classes = s->n_classes;
    double ratio[METHOD_MAX_CLASSES], mean[METHOD_MAX_CLASSES] = {0}, labels[METHOD_MAX_CLASSES] = {0};
    float *guess = s->target + (size_t)s->offset[1] * (size_t)n_classes;
    if (s->config->teacher == METHOD_TEACHER_SELF)
        semi_guess(s, logits + (size_t)s->offset[1] * (size_t)n_classes, n);
    if (s->config->align == METHOD_ALIGN_OFF)
        return;
    align_ratio(s->state, s, ratio);
    for (int i = 0; i < n; i++) {
        float *q = guess + (size_t)i * (size_t)n_classes;
        for (int c = 0; c < n_classes; c++)
            mean[c] += (double)q[c] / n;
        align_apply(ratio, n_classes, q);
    }
    for (int i = 0; i < s->items[0]; i++)
        labels[s->label[0][i]] += 1.0 / s->items[0];
    align_push(s->state, s->step, mean);
    align_average(s->state, labels);
}

static double confidence_of(const float *q, int n_classes, int *top_class)
{
    int top = 0;
    for (int c = 1; c < n_classes; c++)
        top = q[c] > q[top] ? c : top;
    *top_class = top;
    return (double)q[top];
}

static double loss(struct method_step *s, const float *logits, float *dlogits, struct method_scalars *out)
{
    static const char *const kept_name[SHOWN_CLASSES] = {"kept.0", "kept.1", "kept.2", "kept.3", "kept.4"};
    const double lambda_u = s->config->lambda_u;
    const int n_u = s->items[1], n_classes = s->n_classes;
    int kept = 0, kept_of[METHOD_MAX_CLASSES] = {0};
    double loss_s = semi_labeled_loss(s, logits, dlogits), loss_u = 0;

    const bool is_changed = s->config->teacher != METHOD_TEACHER_SELF || s->config->align != METHOD_ALIGN_OFF;
    if (n_u > 0 && is_changed)
        change_guesses(s, logits);
    for (int i = 0; i < n_u; i++) {
        size_t weak = (size_t)(s->offset[1] + i) * (size_t)n_classes;
        size_t strong = (size_t)(s->offset[1] + n_u + i) * (size_t)n_classes;
        int h;
        double confidence = is_changed ? confidence_of(s->target + weak, n_classes, &h)
                                       : semi_confidence(logits + weak, n_classes, &h);
        if (confidence < semi_tau(s->config, h))
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
    .prepare = prepare,
    .loss = loss,
    .takes_soft = true,
    .state_create = state_create,
    .state_tensors = state_tensors,
    .state_free = state_free,
    .defaults = defaults,
    .check = align_check,
};
