/* SPDX-License-Identifier: Apache-2.0
 *
 * lagnet.c - the generator and the critic of lagnet.h as lists of layers (unet_parts.h). Tensors are made stage by
 * stage, before the layers that use them: a smaller stage's are a front part of a larger one's.
 *
 * The critic reads its stages from the largest down: features of stage s join what comes from stage s+1, and at
 * the last but one stage what comes from the new one is faded in. */
#include "models/net/lagnet.h"

#include "models/base/rng.h"
#include "models/net/unet_parts.h"
#ifndef UNET_DOUBLE
#include "models/kernels/kernels.h"
#endif

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NODES = 256, MAX_BLOCKS = 16, LAGNET_MAX_SIZE = 1024 };

struct lagnet {
    struct lagnet_config config;
    enum lagnet_kind kind;
    struct unet *u;
    double gain[LAGNET_MAX_TENSORS];
    unet_real *scaled, *slopes; /* weights times their gain; the same without biases */
    int image, told, blend;     /* nodes: input, the critic's y, what alpha fades in; -1: none */
};

void lagnet_config_defaults(struct lagnet_config *c)
{
    *c = (struct lagnet_config){.n_noise = 64, .width = 256, .narrow = 64, .n_blocks = 8};
}

bool lagnet_config_check(const struct lagnet_config *c, struct err *e)
{
    if (c->n_stages < 1 || c->n_stages > LAGNET_MAX_STAGES)
        return err_set(e, ERR_USAGE, "a generator enlarges 2 to %d times, by doubling",
                       1 << LAGNET_MAX_STAGES);
    if (c->size < 2 || c->size << c->n_stages > LAGNET_MAX_SIZE)
        return err_set(e, ERR_USAGE,
                       "a generator enlarges images of 2 pixels a side and more to at most %d, not %d to %d",
                       LAGNET_MAX_SIZE, c->size, c->size << c->n_stages);
    if (c->n_colors < 1 || c->n_colors > 16 || c->n_noise < 1 || c->n_noise > 256)
        return err_set(e, ERR_USAGE,
                       "a generator takes 1..16 bands and 1..256 channels of noise, not %d and %d",
                       c->n_colors, c->n_noise);
    if (c->narrow < 1 || c->width < c->narrow || c->width > 1024)
        return err_set(e, ERR_USAGE, "a generator is 1..1024 channels wide and narrows upwards, not %d to %d",
                       c->width, c->narrow);
    if (c->n_blocks < 1 || c->n_blocks > MAX_BLOCKS)
        return err_set(e, ERR_USAGE, "a generator has 1..%d residual blocks, not %d", MAX_BLOCKS,
                       c->n_blocks);
    return true;
}

int lagnet_width(const struct lagnet_config *c, int stage)
{
    return c->width >> stage > c->narrow ? c->width >> stage : c->narrow;
}

/* ---- tensors ---- */

struct list {
    struct unet_tensor *tensor;
    double *gain; /* NULL: not asked for */
    size_t at;
    int n;
};

/* Kernel and bias of a 3x3 convolution; slope: of what follows. */
static void add_conv(struct list *l, const char *name, int c, int k, double slope)
{
    assert(l->n + 2 <= LAGNET_MAX_TENSORS);
    struct unet_tensor *t = &l->tensor[l->n];
    t[0] = (struct unet_tensor){
        .n_dims = 4, .dims = {3, 3, c, k}, .start = l->at, .count = (size_t)9 * c * k, .limit = 1};
    t[1] = (struct unet_tensor){.n_dims = 1, .dims = {k}, .start = l->at + t[0].count, .count = (size_t)k};
    snprintf(t[0].name, sizeof t[0].name, "%s.kernel", name);
    snprintf(t[1].name, sizeof t[1].name, "%s.bias", name);
    if (l->gain) {
        l->gain[l->n] = sqrt(2 / ((1 + slope * slope) * 9 * c));
        l->gain[l->n + 1] = 1;
    }
    l->at += t[0].count + t[1].count;
    l->n += 2;
}

static void list_generator_stage(const struct lagnet_config *c, int s, struct list *l)
{
    char name[32];
    snprintf(name, sizeof name, "stage%d.conv1", s);
    add_conv(l, name, lagnet_width(c, s - 1), lagnet_width(c, s), LAGNET_SLOPE);
    snprintf(name, sizeof name, "stage%d.conv2", s);
    add_conv(l, name, lagnet_width(c, s), lagnet_width(c, s), LAGNET_SLOPE);
    snprintf(name, sizeof name, "stage%d.colors", s);
    add_conv(l, name, lagnet_width(c, s), c->n_colors, 1);
}

static void list_critic_stage(const struct lagnet_config *c, int s, struct list *l)
{
    char name[32];
    snprintf(name, sizeof name, "stage%d.colors", s);
    add_conv(l, name, c->n_colors, lagnet_width(c, s), LAGNET_SLOPE);
    snprintf(name, sizeof name, "stage%d.conv1", s);
    add_conv(l, name, lagnet_width(c, s), lagnet_width(c, s), LAGNET_SLOPE);
    snprintf(name, sizeof name, "stage%d.conv2", s);
    add_conv(l, name, 4 * lagnet_width(c, s), lagnet_width(c, s - 1), LAGNET_SLOPE);
}

/* Tensors of the layers at y's resolution: the first of each block. */
static void list_base(const struct lagnet_config *c, enum lagnet_kind kind, struct list *l)
{
    char name[32];
    if (kind == LAGNET_GENERATOR)
        add_conv(l, "first", c->n_colors + c->n_noise, c->width, 1);
    for (int i = 0; i < c->n_blocks; i++) {
        if (kind == LAGNET_GENERATOR) {
            snprintf(name, sizeof name, "block%d.conv1", i);
            add_conv(l, name, c->width, c->width, 0);
            snprintf(name, sizeof name, "block%d.conv2", i);
            add_conv(l, name, c->width, c->width, 1);
        } else {
            snprintf(name, sizeof name, "block%d.conv", i);
            add_conv(l, name, c->width + (i == 0 ? c->n_colors : 0), c->width, LAGNET_SLOPE);
        }
    }
}

static void list_all(const struct lagnet_config *c, enum lagnet_kind kind, int stage, struct list *l,
                     size_t first[LAGNET_MAX_STAGES + 2])
{
    list_base(c, kind, l);
    first[0] = first[1] = 0;
    for (int s = 1; s <= stage; s++) {
        if (kind == LAGNET_GENERATOR)
            list_generator_stage(c, s, l);
        else
            list_critic_stage(c, s, l);
        first[s + 1] = l->at;
    }
}

int lagnet_list(const struct lagnet_config *c, enum lagnet_kind kind, int stage, struct unet_tensor *tensor,
                size_t first[LAGNET_MAX_STAGES + 2])
{
    struct list l = {.tensor = tensor};
    if (!lagnet_config_check(c, NULL) || stage < 1 || stage > c->n_stages)
        return 0;
    list_all(c, kind, stage, &l, first);
    return l.n;
}

bool lagnet_init(const struct lagnet_config *c, enum lagnet_kind kind, uint64_t seed, unet_real *values,
                 struct err *e)
{
    struct unet_tensor *t = mem_array(LAGNET_MAX_TENSORS, sizeof *t, "the list of tensors", e);
    size_t first[LAGNET_MAX_STAGES + 2];
    const int n = t ? lagnet_list(c, kind, c->n_stages, t, first) : 0;
    for (int i = 0; i < n; i++) {
        struct rng r;
        rng_init(&r, seed, RNG_INIT, (uint64_t)kind << 32 | (uint64_t)i);
        for (size_t k = 0; k < t[i].count; k++)
            values[t[i].start + k] = (unet_real)(t[i].limit > 0 ? rng_normal(&r) : 0);
    }
    free(t);
    return t;
}

/* ---- layers ---- */

static int layer_add(struct unet *u, struct unet_node o)
{
    assert(u->n_nodes < MAX_NODES);
    u->nodes[u->n_nodes] = o;
    return u->n_nodes++;
}

static int layer_input(struct unet *u, int size, int c)
{
    return layer_add(
        u, (struct unet_node){
               .op = UNET_INPUT, .a = -1, .b = -1, .h = size, .w = size, .c = c, .kernel = -1, .bias = -1});
}

static int layer(struct unet *u, enum unet_op op, int a, int b, double factor)
{
    struct unet_node o = u->nodes[a];
    o = (struct unet_node){.op = op,
                           .a = a,
                           .b = b,
                           .h = o.h,
                           .w = o.w,
                           .c = o.c,
                           .factor = (unet_real)factor,
                           .kernel = -1,
                           .bias = -1};
    if (op == UNET_DOWN || op == UNET_STACK)
        o.h /= 2, o.w /= 2, o.c *= op == UNET_STACK ? 4 : 1;
    else if (op == UNET_UP)
        o.h *= 2, o.w *= 2;
    else if (op == UNET_CONCAT)
        o.c += u->nodes[b].c;
    if (op == UNET_LEAKY || op == UNET_RESIDUE)
        o.aux_count = unet_node_size(&o);
    return layer_add(u, o);
}

/* slope 1: no activation. */
static int layer_conv(struct unet *u, const char *prefix, const char *name, int a, double slope)
{
    char full[48];
    int kernel = 0;
    snprintf(full, sizeof full, "%s%s.kernel", prefix, name);
    while (kernel < u->n_tensors && strcmp(u->tensors[kernel].name, full) != 0)
        kernel++;
    assert(kernel < u->n_tensors && u->tensors[kernel].dims[2] == u->nodes[a].c);
    struct unet_node o = u->nodes[a];
    a = layer_add(u, (struct unet_node){.op = UNET_CONV,
                                        .a = a,
                                        .b = -1,
                                        .h = o.h,
                                        .w = o.w,
                                        .c = u->tensors[kernel].dims[3],
                                        .ksize = 3,
                                        .kernel = kernel,
                                        .bias = kernel + 1});
    return slope < 1 ? layer(u, UNET_LEAKY, a, -1, slope) : a;
}

static void build_generator(struct lagnet *n, int stage)
{
    const struct lagnet_config *c = &n->config;
    struct unet *u = n->u;
    char prefix[32];
    int image = -1;
    n->image = layer_input(u, c->size, c->n_colors + c->n_noise);
    int h = layer_conv(u, "", "first", n->image, 1);
    for (int i = 0; i < c->n_blocks; i++) {
        snprintf(prefix, sizeof prefix, "block%d.", i);
        h = layer(u, UNET_BLEND, h, layer_conv(u, prefix, "conv2", layer_conv(u, prefix, "conv1", h, 0), 1),
                  1.0 / c->n_blocks);
    }
    for (int s = 1; s <= stage; s++) {
        snprintf(prefix, sizeof prefix, "stage%d.", s);
        h = layer_conv(u, prefix, "conv1", layer(u, UNET_UP, h, -1, 0), LAGNET_SLOPE);
        h = layer_conv(u, prefix, "conv2", h, LAGNET_SLOPE);
        const int colors = layer_conv(u, prefix, "colors", h, 1);
        image = image < 0 ? colors : layer(u, UNET_BLEND, layer(u, UNET_UP, image, -1, 0), colors, 1);
        if (s == stage && s > 1)
            n->blend = image;
    }
}

static void build_critic(struct lagnet *n, int stage)
{
    const struct lagnet_config *c = &n->config;
    struct unet *u = n->u;
    char prefix[32];
    int image[LAGNET_MAX_STAGES + 1], h = -1;
    n->image = image[stage] = layer_input(u, c->size << stage, c->n_colors);
    n->told = layer_input(u, c->size, c->n_colors);
    for (int s = stage; s > 0; s--)
        image[s - 1] = layer(u, UNET_DOWN, image[s], -1, 0);
    for (int s = stage; s > 0; s--) {
        snprintf(prefix, sizeof prefix, "stage%d.", s);
        const int colors = layer_conv(u, prefix, "colors", image[s], LAGNET_SLOPE);
        h = h < 0 ? colors : layer(u, UNET_BLEND, colors, h, 1);
        if (s == stage - 1)
            n->blend = h;
        h = layer_conv(u, prefix, "conv1", h, LAGNET_SLOPE);
        h = layer_conv(u, prefix, "conv2", layer(u, UNET_STACK, h, -1, 0), LAGNET_SLOPE);
    }
    h = layer(u, UNET_CONCAT, h, layer(u, UNET_RESIDUE, image[0], n->told, LAGNET_STEP), 0);
    for (int i = 0; i < c->n_blocks; i++) {
        snprintf(prefix, sizeof prefix, "block%d.", i);
        h = layer_conv(u, prefix, "conv", h, LAGNET_SLOPE);
    }
}

struct lagnet *lagnet_create(const struct lagnet_config *c, enum lagnet_kind kind, int stage, int max_batch,
                             bool train, struct err *e)
{
    struct unet *u = NULL;
    assert(max_batch > 0 && stage >= 1);
    if (!lagnet_config_check(c, e))
        return NULL;
    struct lagnet *n = mem_array(1, sizeof *n, "a network", e);
    if (!n)
        return NULL;
    *n = (struct lagnet){.config = *c, .kind = kind, .told = -1, .blend = -1};
    assert(stage <= c->n_stages);
#ifndef UNET_DOUBLE
    if (!kernels_init(e))
        goto fail;
#endif
    if (!(u = n->u = mem_array(1, sizeof *u, "a network", e)) ||
        !(u->nodes = mem_array(MAX_NODES, sizeof *u->nodes, "the list of layers", e)) ||
        !(u->tensors = mem_array(LAGNET_MAX_TENSORS, sizeof *u->tensors, "the list of tensors", e)))
        goto fail;
    struct list l = {.tensor = u->tensors, .gain = n->gain};
    size_t first[LAGNET_MAX_STAGES + 2];
    list_all(c, kind, stage, &l, first);
    u->n_tensors = l.n;
    u->n_values = l.at;
    if (kind == LAGNET_GENERATOR)
        build_generator(n, stage);
    else
        build_critic(n, stage);
    for (int i = 0; i < u->n_nodes; i++)
        u->nodes[i].needs_grad = u->nodes[i].op != UNET_INPUT;
    if (!(n->scaled = mem_array(l.at, sizeof *n->scaled, "the weights in use", e)) ||
        !(n->slopes = mem_array(l.at, sizeof *n->slopes, "the weights in use", e)))
        goto fail;
    n->u = unet_finish(u, max_batch, train, e);
    if (n->u)
        return n;
fail:
    lagnet_free(n);
    return NULL;
}

void lagnet_free(struct lagnet *n)
{
    if (!n)
        return;
    unet_free(n->u);
    free(n->scaled);
    free(n->slopes);
    free(n);
}

size_t lagnet_bytes(const struct lagnet *n)
{
    return unet_bytes(n->u) + 2 * n->u->n_values * sizeof *n->scaled;
}

/* ---- passes ---- */

void lagnet_load(struct lagnet *n, const unet_real *values)
{
    for (int i = 0; i < n->u->n_tensors; i++) {
        const struct unet_tensor *t = &n->u->tensors[i];
        for (size_t k = t->start; k < t->start + t->count; k++) {
            n->scaled[k] = (unet_real)n->gain[i] * values[k];
            n->slopes[k] = t->n_dims == 1 ? 0 : n->scaled[k];
        }
    }
}

static void fill(struct unet *u, int node, const unet_real *x, int count)
{
    memcpy(u->nodes[node].y, x, (size_t)count * unet_node_size(&u->nodes[node]) * sizeof *x);
}

const unet_real *lagnet_forward(struct lagnet *n, const unet_real *x, const unet_real *y, double alpha,
                                int count)
{
    struct unet *u = n->u;
    assert((n->kind == LAGNET_CRITIC) == (y != NULL));
    fill(u, n->image, x, count);
    if (y)
        fill(u, n->told, y, count);
    if (n->blend >= 0)
        u->nodes[n->blend].factor = (unet_real)alpha;
    u->tangent = false;
    unet_run_forward(u, n->scaled, count);
    return u->nodes[u->n_nodes - 1].y;
}

const unet_real *lagnet_tangent(struct lagnet *n, const unet_real *v)
{
    struct unet *u = n->u;
    const int count = u->last_n;
    assert(count > 0);
    fill(u, n->image, v, count);
    u->tangent = true;
    unet_run_forward(u, n->slopes, count);
    return u->nodes[u->n_nodes - 1].y;
}

void lagnet_backward(struct lagnet *n, const unet_real *dy, unet_real *grads, unet_real *dx)
{
    struct unet *u = n->u;
    struct unet_node *image = &u->nodes[n->image], *last = &u->nodes[u->n_nodes - 1];
    unet_clear_grads(u);
    memcpy(last->g, dy, (size_t)u->last_n * unet_node_size(last) * sizeof *dy);
    image->needs_grad = dx;
    unet_run_backward(u, u->tangent ? n->slopes : n->scaled, grads);
    if (dx)
        memcpy(dx, image->g, (size_t)u->last_n * unet_node_size(image) * sizeof *dx);
    for (int i = 0; i < u->n_tensors; i++) {
        const struct unet_tensor *t = &u->tensors[i];
        const bool none = u->tangent && t->n_dims == 1;
        for (size_t k = t->start; k < t->start + t->count; k++)
            grads[k] = none ? 0 : grads[k] * (unet_real)n->gain[i];
    }
}
