/* SPDX-License-Identifier: Apache-2.0
 *
 * optim.c - the updates declared in optim.h. Sources: momentum in TensorFlow's Nesterov form (Sutskever et
 * al., ICML 2013); Adam, algorithm 1 of Kingma & Ba, ICLR 2015; decoupled decay as in Loshchilov & Hutter,
 * ICLR 2019, except that it follows the update, as the MixMatch code does; moving average of Tarvainen &
 * Valpola, NeurIPS 2017.
 *
 * The weights are one contiguous block; it is cut once into pieces that belong to one tensor and fit a cache,
 * and a step is one pass over the pieces: every number is read and written once. Pieces are independent, so
 * threads cannot change a bit. Whether a piece decays is its tensor's role: kernels of convolutions and of
 * the dense layer, nothing else. */
#include "models/net/optim.h"

#include "models/base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_FLOATS = 8192 };

struct piece {
    size_t start, count; /* floats from the first weight */
    bool decays;
};

struct optim {
    struct net *net;
    struct optim_config config;
    size_t n_trainable, n_values;
    const float *grad;
    float *value;
    float *slot[2], *ema;
    struct piece *pieces;
    int n_pieces;
    double *piece_l2; /* [n_pieces] */
    uint64_t steps;
};

static bool config_check(const struct optim_config *c, struct err *e)
{
    if (!(c->lr > 0) || !isfinite(c->lr))
        return err_set(e, ERR_INPUT, "the learning rate must be above 0, not %g", (double)c->lr);
    if (c->kind == OPTIM_SGD && !(c->momentum >= 0 && c->momentum < 1))
        return err_set(e, ERR_INPUT, "the momentum must be 0 or more and below 1, not %g",
                       (double)c->momentum);
    if (c->kind == OPTIM_ADAM &&
        !(c->beta1 >= 0 && c->beta1 < 1 && c->beta2 >= 0 && c->beta2 < 1 && c->epsilon > 0))
        return err_set(e, ERR_INPUT,
                       "Adam needs beta1 and beta2 in [0,1) and an epsilon above 0, not %g, %g and %g",
                       (double)c->beta1, (double)c->beta2, (double)c->epsilon);
    if (!(c->weight_decay >= 0) || !isfinite(c->weight_decay))
        return err_set(e, ERR_INPUT, "the weight decay must be 0 or more, not %g", (double)c->weight_decay);
    if (!(c->ema_decay >= 0 && c->ema_decay < 1))
        return err_set(e, ERR_INPUT, "the decay of the moving average must be 0 or more and below 1, not %g",
                       (double)c->ema_decay);
    return true;
}

/* Counts the pieces when `out` is NULL. */
static int cut(const struct net_tensor *t, int n_tensors, struct piece *out)
{
    int n = 0;
    size_t start = 0;
    for (int i = 0; i < n_tensors && t[i].grad; i++) {
        for (size_t at = 0; at < t[i].count; at += PIECE_FLOATS, n++) {
            size_t left = t[i].count - at;
            if (out)
                out[n] = (struct piece){start + at, left < PIECE_FLOATS ? left : PIECE_FLOATS,
                                        t[i].role == NET_KERNEL};
        }
        start += t[i].count;
    }
    return n;
}

struct optim *optim_create(struct net *net, const struct optim_config *c, struct err *e)
{
    int n_tensors;
    const struct net_tensor *t = net_tensors(net, &n_tensors);
    assert(t[0].grad); /* a NET_INFER network cannot learn */
    if (!config_check(c, e))
        return NULL;
    struct optim *o = mem_array(1, sizeof *o, "the optimiser", e);
    if (!o)
        return NULL;
    o->net = net;
    o->config = *c;
    o->value = t[0].value;
    o->grad = t[0].grad;
    o->n_trainable = net_trainable_count(net);
    for (int i = 0; i < n_tensors; i++)
        o->n_values += t[i].count;
    o->n_pieces = cut(t, n_tensors, NULL);
    o->pieces = mem_array((size_t)o->n_pieces, sizeof *o->pieces, "the optimiser", e);
    o->piece_l2 = mem_array((size_t)o->n_pieces, sizeof *o->piece_l2, "the optimiser", e);
    o->ema = mem_array(o->n_values, sizeof *o->ema, "the moving average", e);
    if (!o->pieces || !o->piece_l2 || !o->ema)
        goto fail;
    for (int i = 0; i < optim_slots(o); i++) {
        o->slot[i] = mem_array(o->n_trainable, sizeof *o->slot[i], "the optimiser's state", e);
        if (!o->slot[i])
            goto fail;
    }
    cut(t, n_tensors, o->pieces);
    memcpy(o->ema, o->value, o->n_values * sizeof *o->ema);
    return o;
fail:
    optim_free(o);
    return NULL;
}

void optim_free(struct optim *o)
{
    if (!o)
        return;
    free(o->slot[0]);
    free(o->slot[1]);
    free(o->ema);
    free(o->pieces);
    free(o->piece_l2);
    free(o);
}

double optim_lr(const struct optim_config *c, double fraction_done)
{
    double k = fmin(fmax(fraction_done, 0.0), 1.0), lr = (double)c->lr;
    switch (c->schedule) {
    case OPTIM_COS_7_16:
        return lr * cos(7.0 * 3.14159265358979323846 / 16.0 * k);
    case OPTIM_COS_QUARTER:
        return lr * cos(acos(0.25) * k);
    case OPTIM_CONSTANT:
        break;
    }
    return lr;
}

static void sgd_piece(const struct optim_config *c, size_t n, float l2, float lr, const float *g, float *w,
                      float *m)
{
    float mu = c->momentum, ahead = c->nesterov ? mu : 1.0f, now = c->nesterov ? 1.0f : 0.0f;
    for (size_t i = 0; i < n; i++) {
        float gi = g[i] + l2 * w[i];
        m[i] = mu * m[i] + gi;
        w[i] -= lr * (now * gi + ahead * m[i]);
    }
}

/* correct1, correct2: 1/(1 - beta^t). */
static void adam_piece(const struct optim_config *c, size_t n, float l2, float lr, const float *g, float *w,
                       float *m, float *v, float correct1, float correct2)
{
    float b1 = c->beta1, b2 = c->beta2, eps = c->epsilon;
    for (size_t i = 0; i < n; i++) {
        float gi = g[i] + l2 * w[i];
        m[i] = b1 * m[i] + (1.0f - b1) * gi;
        v[i] = b2 * v[i] + (1.0f - b2) * gi * gi;
        w[i] -= lr * (m[i] * correct1) / (sqrtf(v[i] * correct2) + eps);
    }
}

/* Adam's bias corrections at update `step`, from 1. */
static void corrections(const struct optim_config *c, uint64_t step, float *correct1, float *correct2)
{
    double t = (double)step;
    *correct1 = *correct2 = 0.0f;
    if (c->kind == OPTIM_ADAM) {
        *correct1 = (float)(1.0 / (1.0 - pow((double)c->beta1, t)));
        *correct2 = (float)(1.0 / (1.0 - pow((double)c->beta2, t)));
    }
}

void optim_apply(const struct optim_config *c, uint64_t step, double lr, bool decays, size_t n,
                 const float *g, float *w, float *slot0, float *slot1)
{
    float wd = decays ? c->weight_decay : 0.0f, l2 = c->decay == OPTIM_DECAY_L2 ? wd : 0.0f, correct1,
          correct2;
    corrections(c, step, &correct1, &correct2);
    if (c->kind == OPTIM_SGD)
        sgd_piece(c, n, l2, (float)lr, g, w, slot0);
    else
        adam_piece(c, n, l2, (float)lr, g, w, slot0, slot1, correct1, correct2);
    if (c->decay == OPTIM_DECAY_DECOUPLED && wd > 0)
        for (size_t i = 0; i < n; i++)
            w[i] *= (float)(1.0 - (double)wd * lr);
}

void optim_step(struct optim *o, double lr)
{
    const struct optim_config *c = &o->config;
    o->steps++;
    float correct1, correct2, d = c->ema_decay;
    corrections(c, o->steps, &correct1, &correct2);
#pragma omp parallel for schedule(static)
    for (int p = 0; p < o->n_pieces; p++) {
        size_t at = o->pieces[p].start, n = o->pieces[p].count;
        float *w = o->value + at, *ema = o->ema + at;
        float wd = o->pieces[p].decays ? c->weight_decay : 0.0f, l2 = c->decay == OPTIM_DECAY_L2 ? wd : 0.0f;
        if (c->kind == OPTIM_SGD)
            sgd_piece(c, n, l2, (float)lr, o->grad + at, w, o->slot[0] + at);
        else
            adam_piece(c, n, l2, (float)lr, o->grad + at, w, o->slot[0] + at, o->slot[1] + at, correct1,
                       correct2);
        if (c->decay == OPTIM_DECAY_DECOUPLED && wd > 0) {
            float keep = (float)(1.0 - (double)wd * lr);
            for (size_t i = 0; i < n; i++)
                w[i] *= keep;
        }
        for (size_t i = 0; i < n; i++)
            ema[i] = d * ema[i] + (1.0f - d) * w[i];
    }
    /* The raw running statistics go with the averaged weights unless they are averaged too. */
    float ds = c->ema_running_stats ? d : 0.0f;
    for (size_t i = o->n_trainable; i < o->n_values; i++)
        o->ema[i] = ds * o->ema[i] + (1.0f - ds) * o->value[i];
    net_weights_changed(o->net);
}

double optim_l2(const struct optim *o)
{
    double total = 0.0;
#pragma omp parallel for schedule(static)
    for (int p = 0; p < o->n_pieces; p++) {
        const float *w = o->value + o->pieces[p].start;
        double sum = 0.0;
        if (o->pieces[p].decays)
            for (size_t i = 0; i < o->pieces[p].count; i++)
                sum += (double)w[i] * (double)w[i];
        o->piece_l2[p] = sum;
    }
    for (int p = 0; p < o->n_pieces; p++)
        total += o->piece_l2[p];
    return 0.5 * total;
}

const float *optim_ema(const struct optim *o)
{
    return o->ema;
}

float *optim_ema_writable(struct optim *o)
{
    return o->ema;
}

size_t optim_state_count(const struct optim *o)
{
    return o->n_trainable;
}

int optim_slots(const struct optim *o)
{
    return o->config.kind == OPTIM_ADAM ? 2 : 1;
}

float *optim_slot(struct optim *o, int slot)
{
    assert(slot >= 0 && slot < optim_slots(o));
    return o->slot[slot];
}

uint64_t optim_steps_taken(const struct optim *o)
{
    return o->steps;
}

void optim_set_steps_taken(struct optim *o, uint64_t steps)
{
    o->steps = steps;
}
