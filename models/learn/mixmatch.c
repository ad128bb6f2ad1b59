/* SPDX-License-Identifier: Apache-2.0
 *
 * mixmatch.c - MixMatch (Berthelot, Carlini, Goodfellow, Papernot, Oliver, Raffel: "MixMatch: A Holistic
 * Approach to Semi-Supervised Learning", NeurIPS 2019, algorithm 1; google-research/mixmatch).
 *
 *   X = a_w(x) [B], U_k = a_w(u) [B], k = 1..K
 *   q = Sharpen((1/K) sum_k softmax z(U_k), T)     K passes of their own, batch statistics, no gradient
 *   MixUp of all (K+1) B rows with partners among all of them, interleaved, K+1 passes of B rows
 *   L_X = (1/B) sum H(p', softmax z(X'))
 *   L_U = (1/(C K B)) sum ||q' - softmax z(U')||^2            mean over items and classes
 *   L = L_X + lambda_U(t) L_U,   lambda_U rising linearly over the first `ramp` of the run
 *
 * Symbols: K, T, alpha, lambda_U = config.n_guesses, .sharpen, .mixup, .lambda_u; |U| = B, so mu is 1.
 * Guesses come from the raw weights. The first interleaved pass moves the running statistics. The published
 * ramp is 1/64 of the published run; it stays that share of any run. The published code decays by 0.02 times
 * the rate, a tenth of what the paper says; the code is followed.
 *
 * Scalars: loss_s (L_X), loss_u (lambda_U L_U), lambda. */
#include "models/learn/method.h"

#include <string.h>

static int streams(const struct train_config *c, struct method_stream out[METHOD_MAX_STREAMS])
{
    out[0] =
        (struct method_stream){.pool = METHOD_LABELED, .per_batch = 1, .n_views = 1, .view = {AUGMENT_WEAK}};
    out[1] = (struct method_stream){.pool = METHOD_UNLABELED, .per_batch = 1, .n_views = c->n_guesses};
    for (int k = 0; k < c->n_guesses; k++)
        out[1].view[k] = AUGMENT_WEAK;
    return 2;
}

static int passes(const struct method_step *s, struct method_pass out[METHOD_MAX_PASSES])
{
    int n = s->items[0], n_lists = s->config->n_guesses + 1;
    for (int p = 0; p < n_lists; p++)
        out[p] = (struct method_pass){.first = p * n, .n = n, .update = p == 0};
    return n_lists;
}

static void prepare(struct method_step *s)
{
    const int n = s->items[1], n_classes = s->n_classes, k_views = s->config->n_guesses;
    const size_t list = (size_t)n * (size_t)n_classes;
    float p[METHOD_MAX_CLASSES], *guess = s->target + (size_t)s->offset[1] * (size_t)n_classes;
    memset(s->target, 0, (size_t)s->n_rows * (size_t)n_classes * sizeof *s->target);
    for (int i = 0; i < s->items[0]; i++)
        if (s->soft)
            memcpy(s->target + i * n_classes, s->soft + (size_t)s->item[0][i] * (size_t)n_classes,
                   (size_t)n_classes * sizeof *s->target);
        else
            s->target[i * n_classes + s->label[0][i]] = 1.0f;
    for (int k = 0; k < k_views; k++) {
        const float *x = s->x + (size_t)(s->offset[1] + k * n) * s->x_stride;
        const float *logits = net_forward(s->net, x, n, NET_BN_BATCH);
        for (int i = 0; i < n; i++) {
            semi_softmax(logits + (size_t)i * (size_t)n_classes, n_classes, p);
            for (int c = 0; c < n_classes; c++)
                guess[i * n_classes + c] += p[c] / (float)k_views;
        }
    }
    for (int i = 0; i < n; i++)
        semi_sharpen(guess + (size_t)i * (size_t)n_classes, n_classes, s->config->sharpen);
    for (int k = 1; k < k_views; k++)
        memcpy(guess + (size_t)k * list, guess, list * sizeof *guess);
}

static void mix(struct method_step *s)
{
    int n = s->items[0], n_lists = s->config->n_guesses + 1;
    mixup_rows(s, 0, n_lists * n, s->config->mixup);
    mixup_interleave(s, 0, n_lists, n);
}

static double loss(struct method_step *s, const float *logits, float *dlogits, struct method_scalars *out)
{
    const int n = s->items[0], k_views = s->config->n_guesses, n_classes = s->n_classes;
    const double lambda = s->config->lambda_u * semi_ramp(s->step, s->n_steps, s->config->ramp);
    const double weight_u = 1.0 / ((double)n_classes * k_views * n);
    double loss_x = 0, loss_u = 0;
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * (size_t)n_classes;
        const float *q = s->target + (size_t)(s->pass * n + i) * (size_t)n_classes;
        if (mixup_is_first(n, k_views + 1, s->pass, i))
            loss_x += semi_soft_cross_entropy(logits + at, n_classes, q, 1.0 / n, dlogits + at);
        else
            loss_u += semi_squared_error(logits + at, n_classes, q, lambda * weight_u, dlogits + at);
    }
    semi_scalar_add(out, "loss_s", loss_x);
    semi_scalar_add(out, "loss_u", loss_u);
    if (s->pass == 0)
        semi_scalar(out, "lambda", lambda);
    return loss_x + loss_u;
}

static void defaults(struct train_config *c, bool plain_images)
{
    c->batch = plain_images ? 64 : 16;
    c->mu = 1;
    c->label_smoothing = 0;
    c->n_guesses = 2;
    c->sharpen = 0.5;
    c->mixup = 0.75;
    c->lambda_u = 75;
    c->ramp = 1.0 / 64;
    c->optim.kind = OPTIM_ADAM;
    c->optim.decay = OPTIM_DECAY_DECOUPLED;
    c->optim.schedule = OPTIM_CONSTANT;
    c->optim.lr = 0.002f;
    c->optim.weight_decay = 0.02f;
}

static bool check(const struct train_config *c, struct err *e)
{
    if (c->mu != 1)
        return err_set(e, ERR_USAGE,
                       "mixmatch draws one unlabelled item a labelled one; mu must be 1, not %d", c->mu);
    if (c->n_guesses < 1 || !(c->sharpen > 0))
        return err_set(e, ERR_USAGE, "mixmatch needs at least one guess an item and a temperature above 0");
    return true;
}

const struct method method_mixmatch = {
    .name = "mixmatch",
    .summary = "sharpened guesses of unlabelled items, mixed with the labelled ones",
    .source = "Berthelot et al. 2019, algorithm 1",
    .streams = streams,
    .passes = passes,
    .prepare = prepare,
    .mix = mix,
    .loss = loss,
    .takes_soft = true,
    .defaults = defaults,
    .check = check,
};
