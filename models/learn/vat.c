/* SPDX-License-Identifier: Apache-2.0
 *
 * vat.c - Virtual Adversarial Training with entropy minimisation (Miyato, Maeda, Koyama, Ishii, PAMI 2019) as
 * the baseline of the MixMatch family (google-research/mixmatch, `vat`).
 *
 *   q = softmax z(u), no gradient;  d ~ N(0,1) per pixel, d <- xi norm(d)
 *   r = eps norm(grad_d mean KL(q || p(u+d)))                        one power iteration
 *   L = (1/B) sum H(y, z(a_w x)) + lambda_u ramp(t) mean KL(p(u+r) || q) + lambda_entropy mean H(p(u))
 *   norm(d) = e / sqrt(1e-6 + sum e^2), e = d / (1e-12 + max |d|), for each image
 *
 * Symbols: eps, xi = config.vat_radius, .vat_probe; lambda_u .3, lambda_entropy .06, which is not ramped. The
 * final divergence is student || teacher as in the published program, the reverse of the paper's. xi is 1e-6
 * there, spread over all pixels of an image: below what float32 tells apart from the pixel, so that the
 * direction would be rounding noise. The default here is 1e-2, still far below eps = 6.
 * Batches: labelled, u, u + r, each with its own statistics; the labelled one moves the running ones. mu = 0
 * is supervised training bit for bit.
 *
 * Noise of step t is stream RNG_METHOD, index t * n + item. Scalars: loss_s, loss_u, entropy. */
#include "models/base/mem.h"
#include "models/learn/method.h"

#include <stdlib.h>
#include <string.h>

static int streams(const struct train_config *c, struct method_stream out[METHOD_MAX_STREAMS])
{
    int n = semi_two_streams(c, 2, out);
    out[1].view[1] = AUGMENT_NONE; /* becomes u + r */
    return n;
}

static int passes(const struct method_step *s, struct method_pass out[METHOD_MAX_PASSES])
{
    out[0] = (struct method_pass){.first = 0, .n = s->items[0], .update = true};
    if (s->items[1] == 0)
        return 1;
    out[1] = (struct method_pass){.first = s->offset[1], .n = s->items[1]};
    out[2] = (struct method_pass){.first = s->offset[1] + s->items[1], .n = s->items[1]};
    return 3;
}

struct vat_state {
    float *gradient; /* [n, x_stride] by the input; first the noise */
    float *dlogits;  /* [n, n_classes] */
};

static void state_free(void *state)
{
    struct vat_state *v = state;
    free(v->gradient);
    free(v->dlogits);
    free(v);
}

static void *state_create(const struct method_step *shape, struct err *e)
{
    struct vat_state *v = mem_array(1, sizeof *v, "the adversarial step", e);
    if (!v)
        return NULL;
    size_t n = shape->items[1] > 0 ? (size_t)shape->items[1] : 1;
    v->gradient = mem_array(n, shape->x_stride * sizeof *v->gradient, "the adversarial step", e);
    v->dlogits = v->gradient
                     ? mem_array(n, (size_t)shape->n_classes * sizeof *v->dlogits, "the adversarial step", e)
                     : NULL;
    if (!v->dlogits) {
        state_free(v);
        return NULL;
    }
    return v;
}

/* Scratch only: nothing outlives a step. */
static int state_tensors(void *state, struct method_state_tensor out[8])
{
    (void)state, (void)out;
    return 0;
}

/* moved = u + direction of every item. */
static void move(const struct method_step *s, float *moved, float *direction, double length)
{
    const float *u = s->x + (size_t)s->offset[1] * s->x_stride;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < s->items[1]; i++) {
        size_t at = (size_t)i * s->x_stride;
        semi_normalise(direction + at, s->x_stride, length);
        for (size_t j = at; j < at + s->x_stride; j++)
            moved[j] = u[j] + direction[j];
    }
}

static void prepare(struct method_step *s)
{
    const int n = s->items[1], n_classes = s->n_classes;
    struct vat_state *v = s->state;
    if (n == 0)
        return;
    float *moved = s->x + (size_t)(s->offset[1] + n) * s->x_stride;
    const float *q =
        semi_guess(s, net_forward(s->net, s->x + (size_t)s->offset[1] * s->x_stride, n, NET_BN_BATCH), n);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++) {
        struct rng r;
        rng_init(&r, s->seed, RNG_METHOD, (uint64_t)s->step * (uint64_t)n + (uint64_t)i);
        for (size_t j = 0; j < s->x_stride; j++)
            v->gradient[(size_t)i * s->x_stride + j] = (float)rng_normal(&r);
    }
    move(s, moved, v->gradient, s->config->vat_probe);
    const float *logits = net_forward(s->net, moved, n, NET_BN_BATCH);
    memset(v->dlogits, 0, (size_t)n * (size_t)n_classes * sizeof *v->dlogits);
    for (int i = 0; i < n; i++) { /* KL(q || p) and the cross-entropy have one gradient */
        size_t at = (size_t)i * (size_t)n_classes;
        semi_soft_cross_entropy(logits + at, n_classes, q + at, 1.0 / n, v->dlogits + at);
    }
    net_backward_extra(s->net, moved, v->dlogits, n, NET_BN_BATCH, false,
                       &(struct net_extra){.dx = v->gradient});
    move(s, moved, v->gradient, s->config->vat_radius);
}

static double loss(struct method_step *s, const float *logits, float *dlogits, struct method_scalars *out)
{
    if (s->pass == 0)
        return semi_supervised_pass(s, logits, dlogits, out);
    const int n = s->items[1], n_classes = s->n_classes;
    const double weight = s->config->lambda_u * semi_ramp(s->step, s->n_steps, s->config->ramp) / n;
    const float *q = s->target + (size_t)s->offset[1] * (size_t)n_classes;
    double sum = 0;
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * (size_t)n_classes;
        if (s->pass == 1)
            sum += semi_entropy(logits + at, n_classes, s->config->lambda_entropy / n, dlogits + at);
        else
            sum += semi_reverse_kl(logits + at, n_classes, q + at, weight, dlogits + at);
    }
    semi_scalar(out, s->pass == 1 ? "entropy" : "loss_u", sum);
    return sum;
}

static void defaults(struct train_config *c, bool plain_images)
{
    semi_baseline_defaults(c, plain_images);
    c->lambda_u = 0.3;
    c->lambda_entropy = 0.06;
    c->vat_radius = 6;
    c->vat_probe = 1e-2;
    c->optim.kind = OPTIM_ADAM;
    c->optim.decay = OPTIM_DECAY_DECOUPLED;
    c->optim.schedule = OPTIM_CONSTANT;
    c->optim.lr = 0.002f;
    c->optim.weight_decay = 0.02f;
}

const struct method method_vat = {
    .name = "vat",
    .summary = "predictions shall hold against the small change that sways them most",
    .source = "Miyato et al. 2019, as a baseline of Berthelot et al. 2019",
    .streams = streams,
    .passes = passes,
    .prepare = prepare,
    .loss = loss,
    .state_create = state_create,
    .state_tensors = state_tensors,
    .state_free = state_free,
    .defaults = defaults,
};
