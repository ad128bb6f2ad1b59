/* SPDX-License-Identifier: Apache-2.0
 *
 * unet.c - a denoiser's memory and its two passes (unet.h). Everything it keeps lies in one arena: outputs of
 * all nodes, their gradients when it trains, and the convolutions' prepared weights. */
#include "models/net/unet_parts.h"

#include "models/base/rng.h"
#ifndef UNET_DOUBLE
#include "models/kernels/kernels.h"
#endif

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static bool config_check_points(const struct unet_config *c, struct err *e)
{
    if (c->size != 1)
        return err_set(e, ERR_USAGE, "a denoiser of points has size 1, not %d", c->size);
    if (c->base < 1 || c->base > 4096 || c->n_blocks < 1 || c->n_blocks > 16)
        return err_set(e, ERR_USAGE, "a denoiser of points has 1..16 layers of 1..4096 units, not %d of %d",
                       c->n_blocks, c->base);
    return true;
}

static bool config_check_level(const struct unet_config *c, int l, struct err *e)
{
    const int m = c->multiplier[l], k = m >= 1 && m <= 16 ? c->base * m : 0;
    if (k < 1 || k > 1024 || k % c->groups)
        return err_set(e, ERR_USAGE,
                       "level %d of the denoiser would have %d channels: not 1..1024 in %d groups", l, k,
                       c->groups);
    if (c->head_width > 0 && ((c->attention & 1u << l) || l == c->n_levels - 1) && k % c->head_width)
        return err_set(e, ERR_USAGE, "level %d has %d channels, no multiple of the attention heads' %d", l, k,
                       c->head_width);
    const long pixels = (long)(c->size >> l) * (c->size >> l);
    if (((c->attention & 1u << l) || l == c->n_levels - 1) && pixels > 4096)
        return err_set(e, ERR_USAGE, "attention over %ld pixels at level %d is too large: 4096 at most",
                       pixels, l);
    return true;
}

bool unet_config_check(const struct unet_config *c, struct err *e)
{
    if (c->c_in < 1 || c->c_in > 64 || c->c_out < 1 || c->c_out > 64)
        return err_set(e, ERR_USAGE, "a denoiser takes 1..64 channels, not %d to %d", c->c_in, c->c_out);
    if (c->n_classes < 0 || c->n_classes > 1000)
        return err_set(e, ERR_USAGE, "a denoiser knows 0..1000 classes, not %d", c->n_classes);
    if (c->kind == UNET_POINTS)
        return config_check_points(c, e);
    if (c->kind != UNET_IMAGE)
        return err_set(e, ERR_USAGE, "no such kind of denoiser: %d", (int)c->kind);
    if (c->n_levels < 1 || c->n_levels > UNET_MAX_LEVELS)
        return err_set(e, ERR_USAGE, "a U-Net has 1..%d levels, not %d", UNET_MAX_LEVELS, c->n_levels);
    if (c->size < 2 || c->size > UNET_MAX_SIZE || c->size % (1 << (c->n_levels - 1)))
        return err_set(
            e, ERR_USAGE,
            "images of %d pixels a side do not fit a U-Net of %d levels: it takes multiples of %d up "
            "to %d",
            c->size, c->n_levels, 1 << (c->n_levels - 1), UNET_MAX_SIZE);
    if (c->base < 2 || c->base > 1024 || c->base % 2 || c->embed < 1 || c->embed > 4096)
        return err_set(e, ERR_USAGE,
                       "a U-Net's width must be even and 2..1024, its embedding 1..4096, not %d, %d", c->base,
                       c->embed);
    if (c->n_blocks < 1 || c->n_blocks > 16 || c->groups < 1 || c->head_width < 0)
        return err_set(e, ERR_USAGE, "a U-Net has 1..16 blocks a level and at least 1 group, not %d, %d",
                       c->n_blocks, c->groups);
    for (int l = 0; l < c->n_levels; l++)
        if (!config_check_level(c, l, e))
            return false;
    return true;
}

static void unet_clear(struct unet *u)
{
    free(u->nodes);
    free(u->tensors);
    memset(u, 0, sizeof *u);
}

size_t unet_count(const struct unet_config *c)
{
    struct unet u = {.config = *c};
    size_t n = 0;
    if (unet_config_check(c, NULL) && unet_build(&u, NULL))
        n = u.n_values;
    unet_clear(&u);
    return n;
}

static size_t prepared_floats(const struct unet *u)
{
    size_t most = 0;
#ifdef UNET_DOUBLE
    (void)u;
#else
    for (int i = 0; i < u->n_nodes; i++) {
        const struct unet_node *o = &u->nodes[i];
        if (o->op != UNET_CONV)
            continue;
        for (int folded = 0; folded < 2; folded++) {
            const struct conv_shape s = {1,
                                         o->h,
                                         folded && o->w == 1 && u->max_batch >= 16 ? u->max_batch / 16 : o->w,
                                         u->nodes[o->a].c,
                                         o->c,
                                         o->ksize,
                                         1};
            const size_t n = conv_prepared_size(&s);
            most = n > most ? n : most;
        }
    }
#endif
    return most;
}

static void plan(struct unet *u, struct arena *a)
{
    const size_t n = (size_t)u->max_batch;
    for (int i = 0; i < u->n_nodes; i++) {
        struct unet_node *o = &u->nodes[i];
        const bool part = o->part_count && (u->train || o->op == UNET_NORM);
        o->y = arena_take(a, n * unet_node_size(o), sizeof *o->y);
        o->g = u->train ? arena_take(a, n * unet_node_size(o), sizeof *o->g) : NULL;
        o->aux = o->aux_count ? arena_take(a, n * o->aux_count, sizeof *o->aux) : NULL;
        o->part = part ? arena_take(a, n * o->part_count, sizeof *o->part) : NULL;
    }
    u->angle = arena_take(a, n, sizeof *u->angle);
    u->label = arena_take(a, n, sizeof *u->label);
    u->prepared = arena_take(a, prepared_floats(u), sizeof *u->prepared);
}

struct unet *unet_finish(struct unet *u, int max_batch, bool train, struct err *e)
{
    struct arena count = {0};
    u->max_batch = max_batch;
    u->train = train;
    plan(u, &count);
    if (!arena_open(&u->arena, count.used_bytes, e)) {
        err_prefix(e, "a network for batches of %d", max_batch);
        goto fail;
    }
    plan(u, &u->arena);
    if (unet_conv_open(u, e))
        return u;
fail:
    unet_free(u);
    return NULL;
}

struct unet *unet_create(const struct unet_config *c, int max_batch, bool train, struct err *e)
{
    assert(max_batch > 0);
    if (!unet_config_check(c, e))
        return NULL;
    struct unet *u = mem_array(1, sizeof *u, "a denoiser", e);
    if (!u)
        return NULL;
    u->config = *c;
#ifndef UNET_DOUBLE
    if (!kernels_init(e))
        goto fail;
#endif
    if (!unet_build(u, e))
        goto fail;
    return unet_finish(u, max_batch, train, e);
fail:
    unet_free(u);
    return NULL;
}

void unet_free(struct unet *u)
{
    if (!u)
        return;
    unet_conv_close(u);
    arena_close(&u->arena);
    unet_clear(u);
    free(u);
}

const struct unet_config *unet_get_config(const struct unet *u)
{
    return &u->config;
}

size_t unet_bytes(const struct unet *u)
{
    return u->arena.size_bytes;
}

const struct unet_tensor *unet_tensors(const struct unet *u, int *n)
{
    *n = u->n_tensors;
    return u->tensors;
}

void unet_init(const struct unet *u, uint64_t seed, unet_real *values)
{
    for (int i = 0; i < u->n_tensors; i++) {
        const struct unet_tensor *t = &u->tensors[i];
        struct rng r;
        rng_init(&r, seed, RNG_INIT, (uint64_t)i);
        for (size_t k = 0; k < t->count; k++)
            values[t->start + k] = (unet_real)(t->limit > 0 ? t->limit * (2 * rng_uniform(&r) - 1) : t->fill);
    }
}

void unet_run_forward(struct unet *u, const unet_real *values, int n)
{
    assert(n > 0 && n <= u->max_batch);
    u->last_n = n;
    for (int i = 0; i < u->n_nodes; i++) {
        const struct unet_node *o = &u->nodes[i];
        if (o->op == UNET_CONV)
            unet_conv_forward(u, o, values, n);
        else if (o->op == UNET_ATTEND)
            unet_attend_forward(u, o, n);
        else if (o->op != UNET_INPUT)
            unet_op_forward(u, o, values, n);
    }
}

const unet_real *unet_forward(struct unet *u, const unet_real *values, const unet_real *x,
                              const double *angle, const int *label, int n)
{
    assert(n > 0 && n <= u->max_batch);
    for (int i = 0; i < n; i++) {
        u->angle[i] = angle[i];
        u->label[i] = label && u->config.n_classes > 0 ? label[i] : -1;
        assert(u->label[i] < u->config.n_classes || u->label[i] < 0);
    }
    for (int i = 0; i < u->n_nodes; i++)
        if (u->nodes[i].op == UNET_INPUT)
            memcpy(u->nodes[i].y, x, (size_t)n * unet_node_size(&u->nodes[i]) * sizeof *x);
    unet_run_forward(u, values, n);
    return u->nodes[u->n_nodes - 1].y;
}

void unet_clear_grads(struct unet *u)
{
    for (int i = 0; i < u->n_nodes; i++)
        memset(u->nodes[i].g, 0, (size_t)u->last_n * unet_node_size(&u->nodes[i]) * sizeof *u->nodes[i].g);
}

void unet_run_backward(struct unet *u, const unet_real *values, unet_real *grads)
{
    const int n = u->last_n;
    assert(u->train && n > 0);
    for (int i = u->n_nodes - 1; i >= 0; i--) {
        const struct unet_node *o = &u->nodes[i];
        if (o->op == UNET_CONV)
            unet_conv_backward(u, o, values, grads, n);
        else if (o->op == UNET_ATTEND)
            unet_attend_backward(u, o, n);
        else if (o->op != UNET_INPUT)
            unet_op_backward(u, o, values, grads, n);
    }
}

void unet_backward(struct unet *u, const unet_real *values, const unet_real *dy, unet_real *grads,
                   unet_real *dx)
{
    const struct unet_node *last = &u->nodes[u->n_nodes - 1];
    unet_clear_grads(u);
    memcpy(last->g, dy, (size_t)u->last_n * unet_node_size(last) * sizeof *dy);
    for (int i = 0; i < u->n_nodes; i++)
        if (u->nodes[i].op == UNET_INPUT)
            u->nodes[i].needs_grad = dx;
    unet_run_backward(u, values, grads);
    for (int i = 0; dx && i < u->n_nodes; i++)
        if (u->nodes[i].op == UNET_INPUT)
            memcpy(dx, u->nodes[i].g, (size_t)u->last_n * unet_node_size(&u->nodes[i]) * sizeof *dx);
}
