/* SPDX-License-Identifier: Apache-2.0
 *
 * remixmatch.c - ReMixMatch (Berthelot, Carlini, Cubuk, Kurakin, Sohn, Zhang, Raffel: "ReMixMatch:
 * Semi-Supervised Learning with Distribution Alignment and Augmentation Anchoring", ICLR 2020;
 * google-research/remixmatch).
 *
 *   x strong; u^0 weak, u^1..u^K strong
 *   q = Sharpen(Normalize(softmax z(u^0) (1e-6 + p_data)/(1e-6 + p_model)), T)   own pass, no gradient
 *   MixUp over x, u^0..u^K with targets y, q, .., q; interleaved; K+2 passes of B rows
 *   L = mean H(p', z(X')) + w_U(t) mean H(q', z(U')) + w_U1(t) mean H(q, z(u^1))
 *       + w_r mean H(r, rot(e(Rotate(u^1, r))))
 *
 * p_model is the mean of the last 128 batch means of guesses before alignment, p_data the running marginal of
 * the labels; both are read before this step moves them (align.c). Four quarters of u^1 are turned by 0, 180,
 * 90 counter-clockwise and 90 clockwise; `rot` is a dense layer on the embedding, which lives here, is
 * trained by the run's optimiser and is thrown away with the run. Symbols: K, T, w_U, w_U1, w_r =
 * config.n_guesses, .sharpen, .lambda_u, .lambda_strong, .lambda_rotation; |U| = B. The last interleaved pass
 * moves the running statistics.
 *
 * Plain images use CTAugment and turn; pairs use the pair policy, and no rotation: seen from above, up is
 * nowhere. Their alignment is off, because labelled chips are usually enriched with damage.
 *
 * Scalars: loss_s, loss_u, loss_u1, loss_r (all weighted). */
#include "models/learn/remixmatch.h"
#include "models/base/mem.h"
#include "models/learn/align.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TURNS = REMIXMATCH_TURNS };

struct remixmatch_state {
    struct align align;
    int embedding;
    float *weights;    /* [embedding+1, TURNS]: rows of the kernel, then the bias */
    float *slot[2];    /* like weights */
    float *gradient;   /* like weights */
    float *dembedding; /* [B, embedding] */
};

static int streams(const struct train_config *c, struct method_stream out[METHOD_MAX_STREAMS])
{
    int n = 0;
    out[0] = (struct method_stream){
        .pool = METHOD_LABELED, .per_batch = 1, .n_views = 1, .view = {AUGMENT_STRONG}};
    out[1] = (struct method_stream){.pool = METHOD_UNLABELED, .per_batch = 1};
    out[1].view[n++] = AUGMENT_WEAK;
    for (int k = 0; k < c->n_guesses; k++)
        out[1].view[n++] = AUGMENT_STRONG;
    if (c->lambda_strong > 0)
        out[1].view[n++] = AUGMENT_NONE; /* u^1 before MixUp */
    if (c->lambda_rotation > 0)
        out[1].view[n++] = AUGMENT_NONE; /* u^1 turned */
    out[1].n_views = n;
    return 2;
}

static int passes(const struct method_step *s, struct method_pass out[METHOD_MAX_PASSES])
{
    int b = s->items[0], n = s->n_rows / b, n_lists = s->config->n_guesses + 2;
    for (int p = 0; p < n; p++)
        out[p] = (struct method_pass){.first = p * b, .n = b, .update = p == n_lists - 1};
    return n;
}

static void init_head(struct remixmatch_state *v, uint64_t seed)
{
    struct rng r;
    rng_init(&r, seed, RNG_METHOD, UINT64_C(1) << 60);
    for (int i = 0; i < v->embedding * TURNS; i++)
        v->weights[i] = (float)(sqrt(2.0 / (v->embedding + TURNS)) * rng_normal(&r));
}

static void state_free(void *state)
{
    struct remixmatch_state *v = state;
    align_free(&v->align);
    free(v->weights);
    free(v->slot[0]);
    free(v->slot[1]);
    free(v->gradient);
    free(v->dembedding);
    free(v);
}

static void *state_create(const struct method_step *shape, struct err *e)
{
    struct remixmatch_state *v = mem_array(1, sizeof *v, "the method's state", e);
    if (!v)
        return NULL;
    v->embedding = net_embedding_size(net_get_config(shape->net));
    size_t head = (size_t)(v->embedding + 1) * TURNS;
    bool ok = align_create(&v->align, shape, e);
    if (ok && shape->config->lambda_rotation > 0) {
        float **const parts[] = {&v->weights, &v->slot[0], &v->slot[1], &v->gradient};
        for (int i = 0; ok && i < 4; i++) {
            *parts[i] = mem_array(head, sizeof **parts[i], "the rotation head", e);
            ok = *parts[i] != NULL;
        }
        ok = ok && (v->dembedding = mem_array((size_t)shape->items[1] * (size_t)v->embedding,
                                              sizeof *v->dembedding, "the rotation head", e));
        if (ok)
            init_head(v, shape->seed);
    }
    if (!ok) {
        state_free(v);
        return NULL;
    }
    return v;
}

static int state_tensors(void *state, struct method_state_tensor out[8])
{
    struct remixmatch_state *v = state;
    size_t head = (size_t)(v->embedding + 1) * TURNS, classes = (size_t)v->align.n_classes;
    int n = 0;
    out[n++] = (struct method_state_tensor){"p_model", ALIGN_RING * classes, v->align.ring};
    out[n++] = (struct method_state_tensor){"p_data", classes, v->align.want};
    if (!v->weights)
        return n;
    out[n++] = (struct method_state_tensor){"rotation", head, v->weights};
    out[n++] = (struct method_state_tensor){"rotation_slot0", head, v->slot[0]};
    out[n++] = (struct method_state_tensor){"rotation_slot1", head, v->slot[1]};
    return n;
}

static void prepare(struct method_step *s)
{
    const int n = s->items[1], n_classes = s->n_classes, n_rows = s->n_rows;
    struct remixmatch_state *v = s->state;
    double ratio[METHOD_MAX_CLASSES], mean[METHOD_MAX_CLASSES] = {0}, labels[METHOD_MAX_CLASSES] = {0};
    float *guess = s->target + (size_t)s->offset[1] * (size_t)n_classes;
    size_t list = (size_t)n * (size_t)n_classes;
    memset(s->target, 0, (size_t)n_rows * (size_t)n_classes * sizeof *s->target);
    for (int i = 0; i < s->items[0]; i++) {
        s->target[i * n_classes + s->label[0][i]] = 1.0f;
        labels[s->label[0][i]] += 1.0 / s->items[0];
    }
    semi_guess(s, net_forward(s->net, s->x + (size_t)s->offset[1] * s->x_stride, n, NET_BN_BATCH), n);
    align_ratio(&v->align, s, ratio);
    for (int i = 0; i < n; i++) {
        float *q = guess + (size_t)i * (size_t)n_classes;
        for (int c = 0; c < n_classes; c++)
            mean[c] += (double)q[c] / n;
        align_apply(ratio, n_classes, q);
        semi_sharpen(q, n_classes, s->config->sharpen);
    }
    for (int row = s->offset[1] + n; row < n_rows; row += n)
        memcpy(s->target + (size_t)row * (size_t)n_classes, guess, list * sizeof *guess);
    align_push(&v->align, s->step, mean);
    align_average(&v->align, labels);
}

/* Quarter of a batch -> how its images are turned. */
static int turn_of(int i, int n)
{
    return (int)((int64_t)i * TURNS / n);
}

/* turn 0: as it is, 1: 180 degrees, 2: 90 counter-clockwise, 3: 90 clockwise. */
void remixmatch_turn(const float *x, int size, int channels, int turn, float *out)
{
    const int last = size - 1;
    for (int y = 0; y < size; y++)
        for (int at = 0; at < size; at++, out += channels) {
            int sy = turn == 1 ? last - y : turn == 2 ? at : turn == 3 ? last - at : y;
            int sx = turn == 1 ? last - at : turn == 2 ? last - y : turn == 3 ? y : at;
            memcpy(out, x + (size_t)(sy * size + sx) * (size_t)channels, (size_t)channels * sizeof *out);
        }
}

static void mix(struct method_step *s)
{
    const struct net_config *net = net_get_config(s->net);
    const int n = s->items[1], n_lists = s->config->n_guesses + 2;
    const float *u1 = s->x + (size_t)(s->offset[1] + n) * s->x_stride;
    float *room = s->x + (size_t)(n_lists * n) * s->x_stride;
    if (s->config->lambda_strong > 0) {
        memcpy(room, u1, (size_t)n * s->x_stride * sizeof *room);
        room += (size_t)n * s->x_stride;
    }
    if (s->config->lambda_rotation > 0) {
#pragma omp parallel for schedule(static)
        for (int i = 0; i < n; i++)
            remixmatch_turn(u1 + (size_t)i * s->x_stride, net->size, net->c_in, turn_of(i, n),
                            room + (size_t)i * s->x_stride);
    }
    mixup_rows(s, 0, n_lists * n, s->config->mixup);
    mixup_interleave(s, 0, n_lists, n);
}

double remixmatch_rotation(const float *embedding, int n, int size, const float *weights, double weight,
                           float *dweights, float *dembedding)
{
    double sum = 0;
    memset(dweights, 0, (size_t)(size + 1) * TURNS * sizeof *dweights);
    for (int i = 0; i < n; i++) {
        const float *e = embedding + (size_t)i * (size_t)size;
        float z[TURNS], dz[TURNS] = {0};
        for (int k = 0; k < TURNS; k++) {
            z[k] = weights[size * TURNS + k];
            for (int j = 0; j < size; j++)
                z[k] += e[j] * weights[j * TURNS + k];
        }
        sum += semi_cross_entropy(z, TURNS, turn_of(i, n), 0.0, weight / n, dz);
        for (int j = 0; j < size; j++) {
            float de = 0;
            for (int k = 0; k < TURNS; k++) {
                de += weights[j * TURNS + k] * dz[k];
                dweights[j * TURNS + k] += e[j] * dz[k];
            }
            dembedding[(size_t)i * (size_t)size + (size_t)j] = de;
        }
        for (int k = 0; k < TURNS; k++)
            dweights[size * TURNS + k] += dz[k];
    }
    return sum;
}

/* The head has no other gradient, so it is moved here and now. */
static double rotation_loss(struct method_step *s)
{
    struct remixmatch_state *v = s->state;
    const struct optim_config *o = &s->config->optim;
    const size_t kernel = (size_t)v->embedding * TURNS;
    const double lr = optim_lr(o, (double)s->step / (double)s->n_steps);
    double loss = remixmatch_rotation(net_embedding(s->net), s->items[1], v->embedding, v->weights,
                                      s->config->lambda_rotation, v->gradient, v->dembedding);
    optim_apply(o, (uint64_t)s->step + 1, lr, true, kernel, v->gradient, v->weights, v->slot[0], v->slot[1]);
    optim_apply(o, (uint64_t)s->step + 1, lr, false, TURNS, v->gradient + kernel, v->weights + kernel,
                v->slot[0] + kernel, v->slot[1] + kernel);
    s->dembedding = v->dembedding;
    return loss;
}

static double loss(struct method_step *s, const float *logits, float *dlogits, struct method_scalars *out)
{
    const int n = s->items[1], n_classes = s->n_classes, n_lists = s->config->n_guesses + 2;
    const double ramp = semi_ramp(s->step, s->n_steps, s->config->ramp);
    double loss_s = 0, loss_u = 0;
    bool is_strong = s->pass == n_lists && s->config->lambda_strong > 0;
    if (s->pass >= n_lists && !is_strong) {
        double loss_r = rotation_loss(s);
        semi_scalar(out, "loss_r", loss_r);
        return loss_r;
    }
    double weight = is_strong ? s->config->lambda_strong * ramp / n
                              : s->config->lambda_u * ramp / ((double)(n_lists - 1) * n);
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * (size_t)n_classes;
        const float *q = s->target + (size_t)(s->pass * n + i) * (size_t)n_classes;
        if (!is_strong && mixup_is_first(n, n_lists, s->pass, i))
            loss_s += semi_soft_cross_entropy(logits + at, n_classes, q, 1.0 / n, dlogits + at);
        else
            loss_u += semi_soft_cross_entropy(logits + at, n_classes, q, weight, dlogits + at);
    }
    if (!is_strong)
        semi_scalar_add(out, "loss_s", loss_s);
    semi_scalar_add(out, is_strong ? "loss_u1" : "loss_u", loss_u);
    return loss_s + loss_u;
}

static void defaults(struct train_config *c, bool plain_images)
{
    c->batch = plain_images ? 64 : 16;
    c->mu = 1;
    c->label_smoothing = 0;
    c->n_guesses = plain_images ? 8 : 2;
    c->sharpen = 0.5;
    c->mixup = 0.75;
    c->lambda_u = 1.5;
    c->lambda_strong = 0.5;
    c->lambda_rotation = plain_images ? 0.5 : 0;
    c->ramp = 1.0 / 64;
    c->cta = plain_images;
    c->align = plain_images ? METHOD_ALIGN_LABELS : METHOD_ALIGN_OFF;
    c->cutout = false;
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
                       "remixmatch draws one unlabelled item a labelled one; mu must be 1, not %d", c->mu);
    if (c->n_guesses < 1 || !(c->sharpen > 0))
        return err_set(e, ERR_USAGE, "remixmatch needs a strong view and a temperature above 0");
    return align_check(c, e);
}

const struct method method_remixmatch = {
    .name = "remixmatch",
    .summary = "aligned guesses of weak views teach several strong views, all mixed",
    .source = "Berthelot et al. 2020, algorithm 1",
    .streams = streams,
    .passes = passes,
    .prepare = prepare,
    .mix = mix,
    .loss = loss,
    .state_create = state_create,
    .state_tensors = state_tensors,
    .state_free = state_free,
    .defaults = defaults,
    .check = check,
};
