/* SPDX-License-Identifier: Apache-2.0
 *
 * adamatch.c - AdaMatch (Berthelot, Roelofs, Sohn, Carlini, Kurakin: "AdaMatch: A Unified Approach to
 * Semi-Supervised Learning and Domain Adaptation", ICLR 2022, section 3; google-research/adamatch).
 *
 * The data say which of three problems is solved: source labels and target images (UDA), target labels and
 * images (SSL: the labels take the source's place), or source and target labels and target images (SSDA).
 *
 *   L rows: weak and strong views of labelled items, source first; t rows: those of mu B unlabelled targets
 *   Z'' = z(L)            batch statistics of the labelled rows alone
 *   [Z', Zt] = z(L ++ t)  of all rows; this pass alone moves the running statistics
 *   Zs = Z' + lam (Z'' - Z'),  lam ~ U[0,1) for every single logit; gradients flow through both passes
 *   c_tau = tau * mean_b max softmax(Zs_weak), of the first labelled stream; no gradient
 *   P_s = running mean (0.999) of mean softmax(Zs_weak), P_t = mean over 128 steps of mean softmax(Zt_weak),
 *         both with this step's; no gradient
 *   q = Normalize(softmax(Zt_weak) (1e-6 + P_s)/(1e-6 + P_t));  m = 1[max q >= c_tau];  h = argmax q
 *   L_s = 1/2 (mean H(y, Zs_weak) + mean H(y, Zs_strong)), and the same for target labels in SSDA
 *   L_t = (1/(mu B)) sum m H(h, Zt_strong)
 *   L = L_s + lambda_u mu_w(k) L_t,  mu_w = 1/2 - cos(min(pi, 2 pi k))/2,  k = step/steps
 *
 * How two passes that depend on each other fit a loop of independent ones: prepare makes Z'' without
 * gradient; the pass over all rows uses it, gives Z' its (1 - lam) of the gradient and keeps lam of it; a
 * last pass over L has Z'' again, bit for bit, and hands that part on. P_s is the model's marginal, never the
 * labels'.
 *
 * Ours: tau may differ by the class guessed. With two classes c_tau is kept at 0.6 or more: a share of a mean confidence near 1/2 would keep everything.
 * Pairs: alignment off, as the source's labels are usually enriched with damage. `ramp` is the share of the
 * run in which mu_w rises (1/2). Ablations are settings: interpolate, relative_tau, align.
 *
 * Scalars: loss_s, loss_u, mask, c_tau (of the first class), and with up to four classes kept.C (share of mu B kept as C). */
#include "models/base/mem.h"
#include "models/learn/align.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double LEAST_BINARY_TAU = 0.6;
enum { SHOWN_CLASSES = 4 };

struct adamatch_state {
    struct align align; /* want = P_s */
    int n_labeled;      /* rows of L */
    float *alone;       /* [n_labeled, n_classes] Z'' */
    float *kept;        /* [n_labeled, n_classes] its gradient */
};

/* Streams of labelled items: 1, or 2 in SSDA. The unlabelled stream follows. */
static int labeled_streams(const struct train_config *c)
{
    return c->has_source && c->has_labels ? 2 : 1;
}

static int streams(const struct train_config *c, struct method_stream out[METHOD_MAX_STREAMS])
{
    int n = labeled_streams(c);
    for (int s = 0; s <= n; s++) {
        enum method_pool labeled = s == 0 && c->has_source ? METHOD_SOURCE : METHOD_LABELED;
        out[s] = (struct method_stream){.pool = s == n ? METHOD_UNLABELED : labeled,
                                        .per_batch = s == n ? c->mu : 1,
                                        .n_views = 2,
                                        .view = {AUGMENT_WEAK, AUGMENT_STRONG}};
    }
    return n + 1;
}

static int labeled_rows(const struct method_step *s)
{
    return s->offset[labeled_streams(s->config)];
}

static int passes(const struct method_step *s, struct method_pass out[METHOD_MAX_PASSES])
{
    out[0] = (struct method_pass){.first = 0, .n = s->n_rows, .update = true};
    out[1] = (struct method_pass){.first = 0, .n = labeled_rows(s)};
    return s->config->interpolate ? 2 : 1;
}

static void state_free(void *state)
{
    struct adamatch_state *v = state;
    align_free(&v->align);
    free(v->alone);
    free(v->kept);
    free(v);
}

static void *state_create(const struct method_step *shape, struct err *e)
{
    struct adamatch_state *v = mem_array(1, sizeof *v, "the method's state", e);
    if (!v)
        return NULL;
    v->n_labeled = labeled_rows(shape);
    size_t n = (size_t)v->n_labeled, row = (size_t)shape->n_classes * sizeof(float);
    bool ok = align_create(&v->align, shape, e);
    v->alone = ok ? mem_array(n, row, "the labelled logits", e) : NULL;
    v->kept = v->alone ? mem_array(n, row, "the labelled logits", e) : NULL;
    if (!v->kept) {
        state_free(v);
        return NULL;
    }
    return v;
}

static int state_tensors(void *state, struct method_state_tensor out[8])
{
    struct adamatch_state *v = state;
    size_t classes = (size_t)v->align.n_classes;
    out[0] = (struct method_state_tensor){"p_target", ALIGN_RING * classes, v->align.ring};
    out[1] = (struct method_state_tensor){"p_source", classes, v->align.want};
    return 2;
}

static void prepare(struct method_step *s)
{
    struct adamatch_state *v = s->state;
    size_t bytes = (size_t)v->n_labeled * (size_t)s->n_classes * sizeof *v->alone;
    if (s->config->interpolate)
        memcpy(v->alone, net_forward(s->net, s->x, v->n_labeled, NET_BN_BATCH), bytes);
}

/* Rows of L in order: stream, view, item. Zs goes into the targets, which nothing else uses. */
static void interpolate(struct method_step *s, const float *logits)
{
    const struct adamatch_state *v = s->state;
    size_t n = (size_t)v->n_labeled * (size_t)s->n_classes;
    struct rng r;
    memcpy(s->target, logits, n * sizeof *logits);
    rng_init(&r, s->seed, RNG_METHOD, (uint64_t)s->step);
    for (size_t i = 0; s->config->interpolate && i < n; i++) {
        float lam = (float)rng_uniform(&r);
        s->target[i] += lam * (v->alone[i] - logits[i]);
    }
}

/* The gradient by Zs, in dlogits, becomes that by Z'; that by Z'' is kept. */
static void divide_gradient(const struct method_step *s, float *dlogits)
{
    struct adamatch_state *v = s->state;
    size_t n = (size_t)v->n_labeled * (size_t)s->n_classes;
    struct rng r;
    rng_init(&r, s->seed, RNG_METHOD, (uint64_t)s->step);
    for (size_t i = 0; s->config->interpolate && i < n; i++) {
        float lam = (float)rng_uniform(&r);
        v->kept[i] = lam * dlogits[i];
        dlogits[i] -= v->kept[i];
    }
}

static double labeled_loss(const struct method_step *s, float *dlogits)
{
    double sum = 0;
    for (int stream = 0; stream < labeled_streams(s->config); stream++)
        for (int view = 0; view < 2; view++)
            for (int i = 0; i < s->items[stream]; i++) {
                int row = s->offset[stream] + view * s->items[stream] + i;
                size_t at = (size_t)row * (size_t)s->n_classes;
                sum += semi_cross_entropy(s->target + at, s->n_classes, s->label[stream][i],
                                          s->config->label_smoothing, 0.5 / s->items[stream], dlogits + at);
            }
    return sum;
}

/* Mean prediction of n rows; returns their mean confidence. */
static double marginal(const float *logits, int n, int n_classes, double *mean)
{
    double confidence = 0;
    float p[METHOD_MAX_CLASSES];
    for (int c = 0; c < n_classes; c++)
        mean[c] = 0;
    for (int i = 0; i < n; i++) {
        int top;
        const float *z = logits + (size_t)i * (size_t)n_classes;
        semi_softmax(z, n_classes, p);
        confidence += semi_confidence(z, n_classes, &top) / n;
        for (int c = 0; c < n_classes; c++)
            mean[c] += (double)p[c] / n;
    }
    return confidence;
}

static double threshold(const struct train_config *c, int n_classes, double confidence, int guess)
{
    double tau = semi_tau(c, guess), c_tau = c->relative_tau ? tau * confidence : tau;
    return n_classes == 2 && c_tau < LEAST_BINARY_TAU ? LEAST_BINARY_TAU : c_tau;
}

static double weight_at(const struct method_step *s)
{
    const double pi = 3.14159265358979323846;
    return 0.5 - 0.5 * cos(pi * semi_ramp(s->step, s->n_steps, s->config->ramp));
}

static double target_loss(struct method_step *s, const float *logits, float *dlogits,
                          struct method_scalars *out)
{
    static const char *const kept_name[SHOWN_CLASSES] = {"kept.0", "kept.1", "kept.2", "kept.3"};
    struct adamatch_state *v = s->state;
    const int u = labeled_streams(s->config), n = s->items[u], n_classes = s->n_classes;
    const float *weak = logits + (size_t)s->offset[u] * (size_t)n_classes;
    double mean[METHOD_MAX_CLASSES], ratio[METHOD_MAX_CLASSES], sum = 0;
    const double confidence = marginal(s->target, s->items[0], n_classes, mean);
    double weight = s->config->lambda_u * weight_at(s) / n;
    int kept = 0, kept_of[METHOD_MAX_CLASSES] = {0};
    align_average(&v->align, mean);
    marginal(weak, n, n_classes, mean);
    align_push(&v->align, s->step, mean);
    align_ratio(&v->align, s, ratio);
    for (int i = 0; i < n; i++) {
        size_t strong = (size_t)(s->offset[u] + n + i) * (size_t)n_classes;
        float q[METHOD_MAX_CLASSES];
        int h = 0;
        semi_softmax(weak + (size_t)i * (size_t)n_classes, n_classes, q);
        align_apply(ratio, n_classes, q);
        for (int c = 1; c < n_classes; c++)
            h = q[c] > q[h] ? c : h;
        if ((double)q[h] < threshold(s->config, n_classes, confidence, h))
            continue;
        kept++;
        kept_of[h]++;
        sum += semi_cross_entropy(logits + strong, n_classes, h, 0.0, weight, dlogits + strong);
    }
    semi_scalar(out, "loss_u", sum);
    semi_scalar(out, "mask", (double)kept / n);
    semi_scalar(out, "c_tau", threshold(s->config, n_classes, confidence, 0));
    for (int c = 0; n_classes <= SHOWN_CLASSES && c < n_classes; c++)
        semi_scalar(out, kept_name[c], (double)kept_of[c] / n);
    return sum;
}

static double loss(struct method_step *s, const float *logits, float *dlogits, struct method_scalars *out)
{
    const struct adamatch_state *v = s->state;
    if (s->pass == 1) {
        memcpy(dlogits, v->kept, (size_t)v->n_labeled * (size_t)s->n_classes * sizeof *dlogits);
        return 0;
    }
    interpolate(s, logits);
    double loss_s = labeled_loss(s, dlogits);
    semi_scalar(out, "loss_s", loss_s);
    divide_gradient(s, dlogits);
    return loss_s + target_loss(s, logits, dlogits, out);
}

static void defaults(struct train_config *c, bool plain_images)
{
    c->batch = plain_images ? 64 : 16;
    c->mu = 3;
    c->tau = 0.9;
    c->lambda_u = 1;
    c->label_smoothing = 0;
    c->ramp = 0.5;
    c->interpolate = 1;
    c->relative_tau = 1;
    c->align = plain_images ? METHOD_ALIGN_LABELS : METHOD_ALIGN_OFF;
    c->cta = plain_images;
    c->optim.nesterov = false;
    c->optim.schedule = OPTIM_COS_QUARTER;
    c->optim.weight_decay = 1e-3f;
}

static bool check(const struct train_config *c, struct err *e)
{
    if (c->mu < 1)
        return err_set(e, ERR_USAGE, "adamatch needs unlabelled images of the target; mu must be 1 or more");
    return align_check(c, e);
}

const struct method method_adamatch = {
    .name = "adamatch",
    .summary = "FixMatch across domains: aligned guesses, a relative threshold, interpolated logits",
    .source = "Berthelot et al. 2022, section 3",
    .streams = streams,
    .passes = passes,
    .prepare = prepare,
    .loss = loss,
    .state_create = state_create,
    .state_tensors = state_tensors,
    .state_free = state_free,
    .defaults = defaults,
    .check = check,
    .separates_source = true,
};
