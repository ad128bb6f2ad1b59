/* SPDX-License-Identifier: Apache-2.0
 *
 * net_plan.c - from a configuration to layers, one arena and the table of tensors. The same walk runs twice:
 * on an arena without a base it only counts, so that running out of memory is said before anything starts;
 * then it hands out pieces. */
#include "models/net/net_plan.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { GROUP_SHARE = 12, GROUP_MOST = 32 };

int net_last_size(const struct net_config *c)
{
    return c->size >> (c->scales - 1);
}

static void conv_layout(struct net_conv *conv, int n, int size, int c, int k, int ksize, int stride)
{
    conv->shape =
        (struct conv_shape){.n = n, .h = size, .w = size, .c = c, .k = k, .ksize = ksize, .stride = stride};
}

void net_layout(struct net *net)
{
    const struct net_config *c = &net->config;
    int size = c->size, channels = NET_STEM, n = net->max_batch;
    conv_layout(&net->stem, n, size, c->c_in, NET_STEM, 3, 1);
    for (int i = 0; i < net->n_blocks; i++) {
        struct net_block *b = &net->blocks[i];
        int scale = i / c->repeats, filters = c->filters << scale;
        bool is_first = i % c->repeats == 0;
        int stride = is_first && scale > 0 ? 2 : 1;
        b->activated = i == 0;
        b->has_shortcut = channels != filters;
        b->norm1.c = channels;
        b->norm2.c = filters;
        conv_layout(&b->conv1, n, size, channels, filters, 3, stride);
        conv_layout(&b->shortcut, n, size, channels, filters, 1, stride);
        size /= stride;
        conv_layout(&b->conv2, n, size, filters, filters, 3, 1);
        channels = filters;
    }
    net->norm.c = channels;
}

static size_t conv_floats_out(const struct net_conv *conv)
{
    const struct conv_shape *s = &conv->shape;
    return (size_t)s->n * (s->h / s->stride) * (s->w / s->stride) * s->k;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Returns the size of the prepared weights. */
static size_t take_conv(struct arena *a, struct net_conv *conv, enum net_mode mode)
{
    const size_t n = conv_prepared_size(&conv->shape);
    conv->prepared = mode == NET_INFER ? arena_take(a, n, sizeof(float)) : NULL;
    return n;
}

static void take_norm(struct arena *a, struct net_norm *norm, enum net_mode mode)
{
    size_t c = (size_t)norm->c;
    norm->scale = arena_take(a, c, sizeof(float));
    norm->shift = arena_take(a, c, sizeof(float));
    norm->mean = arena_take(a, c, sizeof(double));
    norm->inv = arena_take(a, c, sizeof(double));
    if (mode != NET_TRAIN)
        return;
    norm->a = arena_take(a, c, sizeof(float));
    norm->b = arena_take(a, c, sizeof(float));
    norm->c0 = arena_take(a, c, sizeof(float));
}

/* Raw activations, and the gradient buffers that the backward pass passes from block to block. */
static void take_train(struct net *net, struct arena *a)
{
    size_t widest = conv_floats_out(&net->stem); /* gradients live at a block's x, h or out */
    size_t entry = 0;
    net->stem_out = arena_take(a, widest, sizeof(float));
    float *x = net->stem_out;
    for (int i = 0; i < net->n_blocks; i++) {
        struct net_block *b = &net->blocks[i];
        size_t n_h = conv_floats_out(&b->conv1), n_out = conv_floats_out(&b->conv2);
        b->x = x;
        b->h = arena_take(a, n_h, sizeof(float));
        b->out = arena_take(a, n_out, sizeof(float));
        x = b->out;
        widest = larger(widest, larger(n_h, n_out));
        const struct conv_shape *s = &b->shortcut.shape;
        if (b->has_shortcut) /* whole, or the pixels it reads */
            entry = larger(entry, (size_t)s->n * (s->h / s->stride) * (s->w / s->stride) * s->c);
    }
    net->g = arena_take(a, widest, sizeof(float));
    net->z1 = arena_take(a, widest, sizeof(float));
    net->z2 = arena_take(a, widest, sizeof(float));
    net->entry = arena_take(a, entry, sizeof(float));
    net->grads = arena_take(a, net->n_trainable, sizeof(float));
}

/* A group passes its activations from layer to layer in the cache, but reads all weights once more: what it
 * holds is to be a fixed share of the weights. Measured on two Zen 5 cores: best are 1 image for WRN-10-2 at
 * 64 pixels (a share of 1/11), 2 to 8 for lite, 16 for WRN-28-2 at 32 pixels (1/12). */
static int group_size(const struct net *net)
{
    size_t weights = 0, images;
    for (int i = 0; i < net->n_blocks; i++)
        weights +=
            conv_prepared_size(&net->blocks[i].conv1.shape) + conv_prepared_size(&net->blocks[i].conv2.shape);
    images = (weights / GROUP_SHARE + net->image_floats - 1) / net->image_floats;
    return images < GROUP_MOST ? (int)images : GROUP_MOST;
}

static void take_infer(struct net *net, struct arena *a)
{
    size_t widest = conv_floats_out(&net->stem);
    for (int i = 0; i < net->n_blocks; i++)
        widest = larger(
            widest, larger(conv_floats_out(&net->blocks[i].conv1), conv_floats_out(&net->blocks[i].conv2)));
    net->image_floats = widest / (size_t)net->max_batch;
    net->group = group_size(net);
    for (int i = 0; i < 3; i++)
        net->buffer[i] = arena_take(a, widest, sizeof(float));
}

static void take_all(struct net *net, struct arena *a)
{
    const struct net_config *c = &net->config;
    size_t embedding = (size_t)net_embedding_size(c), batch = (size_t)net->max_batch;
    size_t widest = larger(NET_STEM, embedding);
    net->tensors = arena_take(a, (size_t)net->n_tensors, sizeof *net->tensors);
    net->values = arena_take(a, net->n_values, sizeof(float));
    size_t prepared = take_conv(a, &net->stem, net->mode);
    for (int i = 0; i < net->n_blocks; i++) {
        struct net_block *b = &net->blocks[i];
        take_norm(a, &b->norm1, net->mode);
        take_norm(a, &b->norm2, net->mode);
        prepared = larger(prepared, take_conv(a, &b->conv1, net->mode));
        prepared = larger(prepared, take_conv(a, &b->conv2, net->mode));
        if (b->has_shortcut)
            prepared = larger(prepared, take_conv(a, &b->shortcut, net->mode));
    }
    if (net->mode == NET_TRAIN)
        net->prepared = arena_take(a, prepared, sizeof(float));
    take_norm(a, &net->norm, net->mode);
    net->embedding = arena_take(a, batch * embedding, sizeof(float));
    net->dembedding = arena_take(a, batch * embedding, sizeof(float));
    net->logits = arena_take(a, batch * c->n_classes, sizeof(float));
    net->sums = arena_take(a, 2 * widest, sizeof(double));
    net->shard_sums = arena_take(a, NET_HEAD_SHARDS * 2 * embedding, sizeof(double));
    if (net->mode == NET_TRAIN)
        take_train(net, a);
    else
        take_infer(net, a);
}

struct table {
    struct net *net;
    int n;
    size_t offset; /* floats */
};

static float *add_tensor(struct table *t, float **grad, enum net_role role, int n_dims, const int dims[4],
                         const char *fmt, ...) __attribute__((format(printf, 6, 7)));

static float *add_tensor(struct table *t, float **grad, enum net_role role, int n_dims, const int dims[4],
                         const char *fmt, ...)
{
    struct net *net = t->net;
    assert(t->n < net->n_tensors);
    struct net_tensor *tensor = &net->tensors[t->n++];
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(tensor->name, sizeof tensor->name, fmt, args);
    va_end(args);
    assert(length > 0 && (size_t)length < sizeof tensor->name);
    (void)length;
    tensor->role = role;
    tensor->n_dims = n_dims;
    tensor->count = 1;
    for (int i = 0; i < 4; i++) {
        tensor->dims[i] = i < n_dims ? dims[i] : 1;
        tensor->count *= (size_t)tensor->dims[i];
    }
    tensor->value = net->values + t->offset;
    bool is_trainable = role != NET_RUNNING_MEAN && role != NET_RUNNING_VAR;
    tensor->grad = is_trainable && net->grads ? net->grads + t->offset : NULL;
    if (grad)
        *grad = tensor->grad;
    t->offset += tensor->count;
    return tensor->value;
}

static void add_conv(struct table *t, struct net_conv *conv, const char *prefix, const char *name)
{
    const struct conv_shape *s = &conv->shape;
    int kernel[4] = {s->ksize, s->ksize, s->c, s->k}, bias[4] = {s->k, 1, 1, 1};
    conv->kernel = add_tensor(t, &conv->dkernel, NET_KERNEL, 4, kernel, "%s%s.kernel", prefix, name);
    conv->bias = add_tensor(t, &conv->dbias, NET_BIAS, 1, bias, "%s%s.bias", prefix, name);
}

static void add_norm(struct table *t, struct net_norm *norm, const char *prefix, const char *name,
                     bool running)
{
    int dims[4] = {norm->c, 1, 1, 1};
    if (running) {
        norm->running_mean =
            add_tensor(t, NULL, NET_RUNNING_MEAN, 1, dims, "%s%s.running_mean", prefix, name);
        norm->running_var = add_tensor(t, NULL, NET_RUNNING_VAR, 1, dims, "%s%s.running_var", prefix, name);
    } else {
        norm->gamma = add_tensor(t, &norm->dgamma, NET_GAMMA, 1, dims, "%s%s.gamma", prefix, name);
        norm->beta = add_tensor(t, &norm->dbeta, NET_BETA, 1, dims, "%s%s.beta", prefix, name);
    }
}

static void build_table(struct net *net)
{
    struct table t = {.net = net};
    char prefix[48];
    for (int running = 0; running < 2; running++) {
        if (!running)
            add_conv(&t, &net->stem, "", "stem");
        for (int i = 0; i < net->n_blocks; i++) {
            struct net_block *b = &net->blocks[i];
            snprintf(prefix, sizeof prefix, "scale%d.block%d.", i / net->config.repeats,
                     i % net->config.repeats);
            add_norm(&t, &b->norm1, prefix, "bn1", running);
            if (!running)
                add_conv(&t, &b->conv1, prefix, "conv1");
            add_norm(&t, &b->norm2, prefix, "bn2", running);
            if (!running)
                add_conv(&t, &b->conv2, prefix, "conv2");
            if (!running && b->has_shortcut)
                add_conv(&t, &b->shortcut, prefix, "shortcut");
        }
        add_norm(&t, &net->norm, "", "bn", running);
        if (!running) {
            int kernel[4] = {net_embedding_size(&net->config), net->config.n_classes, 1, 1};
            int bias[4] = {net->config.n_classes, 1, 1, 1};
            net->dense_kernel = add_tensor(&t, &net->dense_dkernel, NET_KERNEL, 2, kernel, "dense.kernel");
            net->dense_bias = add_tensor(&t, &net->dense_dbias, NET_BIAS, 1, bias, "dense.bias");
            assert(t.offset == net->n_trainable);
        }
    }
    assert(t.n == net->n_tensors && t.offset == net->n_values);
}

static bool open_scratch(struct net *net, struct err *e)
{
    int n = 0;
    struct conv_shape *shapes =
        mem_array((size_t)(1 + 3 * net->n_blocks), sizeof *shapes, "the network's shapes", e);
    if (!shapes)
        return false;
    shapes[n++] = net->stem.shape;
    for (int i = 0; i < net->n_blocks; i++) {
        shapes[n++] = net->blocks[i].conv1.shape;
        shapes[n++] = net->blocks[i].conv2.shape;
        if (net->blocks[i].has_shortcut)
            shapes[n++] = net->blocks[i].shortcut.shape;
    }
    net->scratch = conv_scratch_create(shapes, n, net->mode == NET_TRAIN, e);
    free(shapes);
    return net->scratch != NULL;
}

bool net_plan(struct net *net, struct err *e)
{
    struct arena plan = {0};
    net->n_trainable = net_count_params(&net->config);
    net->n_values = net->n_trainable + 2 * (size_t)net->norm.c;
    net->n_tensors = 2 + 4 + 2; /* stem, last norm, dense */
    for (int i = 0; i < net->n_blocks; i++) {
        net->n_values += 2 * (size_t)(net->blocks[i].norm1.c + net->blocks[i].norm2.c);
        net->n_tensors += net->blocks[i].has_shortcut ? 14 : 12;
    }
    take_all(net, &plan);
    if (!arena_open(&net->arena, plan.used_bytes, e))
        return err_prefix(e, "network");
    take_all(net, &net->arena);
    build_table(net);
    return open_scratch(net, e);
}
