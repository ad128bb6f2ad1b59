/* SPDX-License-Identifier: Apache-2.0
 *
 * unet_build.c - which layers a denoiser has (unet.h), as a list of nodes (unet_parts.h). The U-Net is that of
 * TRACT's official code: three things beyond the textbook are that resampling happens inside a residual block,
 * on both branches; that the way up has one block more a level than the way down, because the output of each
 * down block is handed over as well; and that the last convolution of each branch starts at (almost) zero, so
 * that an untrained network is the identity along its skips. */
#include "models/net/unet_parts.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { POINT_OCTAVES = 8 };
#define QUIET 1e-10 /* variance scale of a branch that starts silent */

struct builder {
    struct unet *u;
    struct err *e;
    bool failed;
    int time;        /* node of swish(embedding) */
    char prefix[40]; /* "down5.attention15.", with room for any two numbers */
};

static int add_node(struct builder *b, struct unet_node o)
{
    struct unet *u = b->u;
    if (u->n_nodes == u->room_nodes) {
        const int room = u->room_nodes ? 2 * u->room_nodes : 64;
        if (b->failed || !mem_grow(&u->nodes, room, sizeof *u->nodes, "the list of layers", b->e)) {
            b->failed = true;
            return 0;
        }
        u->room_nodes = room;
    }
    u->nodes[u->n_nodes] = o;
    return u->n_nodes++;
}

static int add_tensor(struct builder *b, const char *name, int n_dims, const int dims[4], double limit,
                      double fill)
{
    struct unet *u = b->u;
    if (u->n_tensors == u->room_tensors) {
        const int room = u->room_tensors ? 2 * u->room_tensors : 128;
        if (b->failed || !mem_grow(&u->tensors, room, sizeof *u->tensors, "the list of tensors", b->e)) {
            b->failed = true;
            return 0;
        }
        u->room_tensors = room;
    }
    struct unet_tensor *t = &u->tensors[u->n_tensors];
    *t = (struct unet_tensor){
        .n_dims = n_dims, .start = u->n_values, .count = 1, .limit = limit, .fill = fill};
    snprintf(t->name, sizeof t->name, "%s%s", b->prefix, name);
    for (int i = 0; i < n_dims; i++) {
        t->dims[i] = dims[i];
        t->count *= (size_t)dims[i];
    }
    u->n_values += t->count;
    return u->n_tensors++;
}

static int channels(const struct builder *b, int node)
{
    return b->u->nodes[node].c;
}

static int simple(struct builder *b, enum unet_op op, int a, int second)
{
    struct unet_node o = b->u->nodes[a];
    o = (struct unet_node){
        .op = op, .a = a, .b = second, .h = o.h, .w = o.w, .c = o.c, .kernel = -1, .bias = -1};
    if (op == UNET_DOWN)
        o.h /= 2, o.w /= 2;
    else if (op == UNET_UP)
        o.h *= 2, o.w *= 2;
    else if (op == UNET_CONCAT)
        o.c += channels(b, second);
    return add_node(b, o);
}

static int conv(struct builder *b, const char *name, int a, int k, int ksize, double scale)
{
    char full[32];
    struct unet_node o = b->u->nodes[a];
    const double fan = 0.5 * ksize * ksize * (o.c + k);
    snprintf(full, sizeof full, "%s.kernel", name);
    const int kernel = add_tensor(b, full, 4, (int[4]){ksize, ksize, o.c, k}, sqrt(3 * scale / fan), 0);
    snprintf(full, sizeof full, "%s.bias", name);
    const int bias = add_tensor(b, full, 1, (int[4]){k}, 0, 0);
    return add_node(b, (struct unet_node){.op = UNET_CONV,
                                          .a = a,
                                          .b = -1,
                                          .h = o.h,
                                          .w = o.w,
                                          .c = k,
                                          .ksize = ksize,
                                          .kernel = kernel,
                                          .bias = bias});
}

static int norm(struct builder *b, const char *name, int a, int modulation, bool swish)
{
    char full[32];
    struct unet_node o = b->u->nodes[a];
    snprintf(full, sizeof full, "%s.gamma", name);
    const int gamma = add_tensor(b, full, 1, (int[4]){o.c}, 0, 1);
    snprintf(full, sizeof full, "%s.beta", name);
    const int beta = add_tensor(b, full, 1, (int[4]){o.c}, 0, 0);
    return add_node(b, (struct unet_node){.op = UNET_NORM,
                                          .a = a,
                                          .b = modulation,
                                          .h = o.h,
                                          .w = o.w,
                                          .c = o.c,
                                          .swish = swish,
                                          .kernel = gamma,
                                          .bias = beta,
                                          .aux_count = 2 * (size_t)b->u->config.groups,
                                          .part_count = 2 * (size_t)o.c});
}

/* resample: UNET_DOWN, UNET_UP, or UNET_INPUT for neither. */
static int residual(struct builder *b, int x, int k, enum unet_op resample)
{
    int h = norm(b, "norm1", x, -1, true);
    if (resample != UNET_INPUT) {
        h = simple(b, resample, h, -1);
        x = simple(b, resample, x, -1);
    }
    h = conv(b, "conv1", h, k, 3, 1);
    h = norm(b, "norm2", h, conv(b, "time", b->time, 2 * k, 1, QUIET), true);
    h = conv(b, "conv2", h, k, 3, QUIET);
    if (channels(b, x) != k)
        x = conv(b, "shortcut", x, k, 1, 1);
    return simple(b, UNET_ADD, x, h);
}

static int attention(struct builder *b, int x)
{
    const struct unet_node o = b->u->nodes[x];
    const int width = b->u->config.head_width ? b->u->config.head_width : o.c;
    const int qkv = conv(b, "qkv", norm(b, "norm", x, -1, false), 3 * o.c, 1, 1);
    const size_t square = (size_t)o.h * o.w * o.h * o.w * (o.c / width);
    const int seen = add_node(b, (struct unet_node){.op = UNET_ATTEND,
                                                    .a = qkv,
                                                    .b = -1,
                                                    .h = o.h,
                                                    .w = o.w,
                                                    .c = o.c,
                                                    .heads = o.c / width,
                                                    .kernel = -1,
                                                    .bias = -1,
                                                    .aux_count = square,
                                                    .part_count = square});
    return simple(b, UNET_ADD, x, conv(b, "out", seen, o.c, 1, QUIET));
}

static int time_features(struct builder *b, int c)
{
    return add_node(b,
                    (struct unet_node){
                        .op = UNET_TIME, .a = -1, .b = -1, .h = 1, .w = 1, .c = c, .kernel = -1, .bias = -1});
}

static int class_features(struct builder *b, int c)
{
    const int n = b->u->config.n_classes;
    const int table = add_tensor(b, "class.kernel", 2, (int[4]){n, c}, sqrt(3 / (0.5 * (n + c))), 0);
    const int bias = add_tensor(b, "class.bias", 1, (int[4]){c}, 0, 0);
    return add_node(
        b, (struct unet_node){
               .op = UNET_CLASS, .a = -1, .b = -1, .h = 1, .w = 1, .c = c, .kernel = table, .bias = bias});
}

static int input(struct builder *b)
{
    const struct unet_config *c = &b->u->config;
    return add_node(b, (struct unet_node){.op = UNET_INPUT,
                                          .a = -1,
                                          .b = -1,
                                          .h = c->size,
                                          .w = c->size,
                                          .c = c->c_in,
                                          .kernel = -1,
                                          .bias = -1});
}

static void build_points(struct builder *b)
{
    const struct unet_config *c = &b->u->config;
    int x = simple(b, UNET_CONCAT, input(b), time_features(b, 2 * POINT_OCTAVES));
    if (c->n_classes > 0)
        x = simple(b, UNET_CONCAT, x, class_features(b, c->base));
    for (int i = 0; i < c->n_blocks; i++) {
        snprintf(b->prefix, sizeof b->prefix, "layer%d.", i);
        x = simple(b, UNET_SWISH, conv(b, "dense", x, c->base, 1, 1), -1);
    }
    snprintf(b->prefix, sizeof b->prefix, "last.");
    conv(b, "dense", x, c->c_out, 1, 1);
}

static void build_time(struct builder *b)
{
    const struct unet_config *c = &b->u->config;
    snprintf(b->prefix, sizeof b->prefix, "time.");
    int t = conv(b, "dense1", time_features(b, c->base), c->embed, 1, 1);
    t = conv(b, "dense2", simple(b, UNET_SWISH, t, -1), c->embed, 1, 1);
    b->prefix[0] = '\0';
    if (c->n_classes > 0)
        t = simple(b, UNET_ADD, t, class_features(b, c->embed));
    b->time = simple(b, UNET_SWISH, t, -1);
}

static void name_part(struct builder *b, const char *way, int level, const char *what, int i)
{
    snprintf(b->prefix, sizeof b->prefix, "%s%d.%s%d.", way, level, what, i);
}

static void build_image(struct builder *b)
{
    const struct unet_config *c = &b->u->config;
    int skip[UNET_MAX_LEVELS * 17 + 1], n_skips = 0;
    build_time(b);
    snprintf(b->prefix, sizeof b->prefix, "first.");
    int x = skip[n_skips++] = conv(b, "conv", input(b), c->base, 3, 1);
    for (int l = 0; l < c->n_levels; l++) {
        const int k = c->base * c->multiplier[l];
        for (int i = 0; i < c->n_blocks; i++) {
            name_part(b, "down", l, "block", i);
            x = residual(b, x, k, UNET_INPUT);
            name_part(b, "down", l, "attention", i);
            if (c->attention & 1u << l)
                x = attention(b, x);
            skip[n_skips++] = x;
        }
        name_part(b, "down", l, "resample", 0);
        if (l + 1 < c->n_levels)
            x = skip[n_skips++] = residual(b, x, k, UNET_DOWN);
    }
    name_part(b, "middle", 0, "block", 0);
    x = residual(b, x, channels(b, x), UNET_INPUT);
    name_part(b, "middle", 0, "attention", 0);
    x = attention(b, x);
    name_part(b, "middle", 0, "block", 1);
    x = residual(b, x, channels(b, x), UNET_INPUT);
    for (int l = c->n_levels - 1; l >= 0; l--) {
        const int k = c->base * c->multiplier[l];
        for (int i = 0; i <= c->n_blocks; i++) {
            name_part(b, "up", l, "block", i);
            x = residual(b, simple(b, UNET_CONCAT, x, skip[--n_skips]), k, UNET_INPUT);
            name_part(b, "up", l, "attention", i);
            if (c->attention & 1u << l)
                x = attention(b, x);
        }
        name_part(b, "up", l, "resample", 0);
        if (l > 0)
            x = residual(b, x, k, UNET_UP);
    }
    assert(n_skips == 0 || b->failed);
    snprintf(b->prefix, sizeof b->prefix, "last.");
    conv(b, "conv", norm(b, "norm", x, -1, true), c->c_out, 3, QUIET);
}

bool unet_build(struct unet *u, struct err *e)
{
    struct builder b = {.u = u, .e = e};
    /* One node exists from the start, so that a list that cannot grow still has something to point at. */
    u->nodes = mem_array(64, sizeof *u->nodes, "the list of layers", e);
    u->tensors = u->nodes ? mem_array(128, sizeof *u->tensors, "the list of tensors", e) : NULL;
    if (!u->tensors)
        return false;
    u->room_nodes = 64;
    u->room_tensors = 128;
    if (u->config.kind == UNET_POINTS)
        build_points(&b);
    else
        build_image(&b);
    for (int i = 0; i < u->n_nodes && !b.failed; i++) {
        struct unet_node *o = &u->nodes[i];
        o->needs_grad = o->kernel >= 0 || o->op == UNET_INPUT || (o->a >= 0 && u->nodes[o->a].needs_grad) ||
                        (o->b >= 0 && u->nodes[o->b].needs_grad);
    }
    return !b.failed;
}
