/* SPDX-License-Identifier: Apache-2.0
 *
 * net_backward.c - gradients of every parameter from the gradient of the logits.
 *
 * Notation: dz is the gradient at a batch norm's output (before its leaky ReLU). A convolution's backward
 * yields dz of the batch norm it read through, with its two channel sums; from them follow dgamma, dbeta and
 * the three coefficients by which the convolution below forms the gradient of its own raw output while it
 * gathers (kernels.h, conv_grad):
 *
 *   batch statistics    dx = a dz + b x + c0    the gradient also flows through mean and variance
 *   running statistics  dx = a dz               they are constants
 *
 * Buffers in flight: z1 holds dz of norm1 (or of the last norm), z2 dz of norm2, g the gradient at a block's
 * output. The first block's shortcut leaves its gradient in z1, which is free between the two convolutions; one
 * with stride leaves that of the pixels it read in `entry`, from where the convolution below takes it. Forward's
 * activations stay as they are: several gradients may be taken from one forward pass. */
#include "models/net/net_plan.h"

#include <assert.h>
#include <string.h>

static float store(float old, double value, bool accumulate)
{
    return (float)(accumulate ? (double)old + value : value);
}

/* sums: per channel sum dz and sum dz*x over `count` values. */
static void norm_backward(struct net_norm *norm, const double *sums, size_t count, enum net_bn bn,
                          bool accumulate)
{
    for (int i = 0; i < norm->c; i++) {
        double mean = norm->mean[i], inv = norm->inv[i];
        double s1 = sums[i], s2 = inv * (sums[norm->c + i] - mean * s1);
        double a = (double)norm->gamma[i] * inv, b = 0.0, c0 = 0.0;
        norm->dgamma[i] = store(norm->dgamma[i], s2, accumulate);
        norm->dbeta[i] = store(norm->dbeta[i], s1, accumulate);
        if (bn != NET_BN_RUNNING) {
            b = -a * inv * s2 / (double)count;
            c0 = -a * s1 / (double)count - b * mean;
        }
        norm->a[i] = (float)a;
        norm->b[i] = (float)b;
        norm->c0[i] = (float)c0;
    }
}

/* The gradient below `norm`, left implicit; with statistics as constants the kernels need not read x. */
static struct conv_grad below(const struct net_norm *norm, const float *dz, const float *raw)
{
    return (struct conv_grad){.dz = dz, .raw = raw, .a = norm->a, .b = norm->b, .c0 = norm->c0};
}

static void conv_back(struct net *net, const struct net_conv *conv, int n, const struct conv_grad *g,
                      const float *x, struct conv_act act, bool accumulate, float *dx, const float *extra)
{
    struct conv_shape s = conv->shape;
    s.n = n;
    conv_backward(&s, g, x, act, conv->kernel, conv->dkernel, conv->dbias, accumulate, dx, extra, net->sums,
                  net->scratch);
}

static void dense_backward(struct net *net, const float *dlogits, int n, bool accumulate)
{
    int c = net->norm.c, n_classes = net->config.n_classes;
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int j = 0; j < c;
             j++) { /* one row of the kernel is one piece: its sum over images keeps their order */
            float *dw = net->dense_dkernel + (size_t)j * n_classes;
            if (!accumulate)
                memset(dw, 0, (size_t)n_classes * sizeof *dw);
            for (int i = 0; i < n; i++)
                for (int k = 0; k < n_classes; k++)
                    dw[k] += net->embedding[(size_t)i * c + j] * dlogits[(size_t)i * n_classes + k];
        }
#pragma omp for schedule(static)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < c; j++) {
                const float *w = net->dense_kernel + (size_t)j * n_classes,
                            *dz = dlogits + (size_t)i * n_classes;
                float sum = 0.0f;
                for (int k = 0; k < n_classes; k++)
                    sum += w[k] * dz[k];
                net->dembedding[(size_t)i * c + j] = sum;
            }
    }
    for (int k = 0; k < n_classes; k++) {
        double sum = 0.0;
        for (int i = 0; i < n; i++)
            sum += (double)dlogits[(size_t)i * n_classes + k];
        net->dense_dbias[k] = store(net->dense_dbias[k], sum, accumulate);
    }
}

enum { POOL_CHANNELS = 8 }; /* whose sums stay in registers while a row of pixels goes by */

typedef float pool_floats __attribute__((vector_size(4 * POOL_CHANNELS), aligned(4), may_alias));
typedef int pool_ints __attribute__((vector_size(4 * POOL_CHANNELS)));

/* A row of pixels, c channels apart: z = dz through the slope at scale x + shift. Sums of a row are float,
 * those of rows double. Vectors, because GCC branches over such a choice. */
static void pool_row(const float *scale, const float *shift, const float *dz, const float *x, float *z, int c,
                     int side, double *sums)
{
    const pool_floats factor = *(const pool_floats *)scale, offset = *(const pool_floats *)shift;
    const pool_floats whole = *(const pool_floats *)dz, leaked = CONV_LRELU_SLOPE * whole;
    pool_floats sum = {0}, with_x = {0};
    for (int p = 0; p < side; p++, x += c, z += c) {
        pool_floats raw = *(const pool_floats *)x;
        pool_ints above = factor * raw + offset > 0;
        pool_floats v = (pool_floats)(((pool_ints)whole & above) | ((pool_ints)leaked & ~above));
        *(pool_floats *)z = v;
        sum += v;
        with_x += v * raw;
    }
    for (int j = 0; j < POOL_CHANNELS; j++) {
        sums[j] += (double)sum[j];
        sums[c + j] += (double)with_x[j];
    }
}

/* The same for one channel. */
static void pool_channel(float scale, float shift, float dz, const float *x, float *z, int c, int side,
                         double *sums)
{
    float leaked = CONV_LRELU_SLOPE * dz;
    for (int p = 0; p < side; p++, x += c, z += c) {
        *z = scale * *x + shift > 0 ? dz : leaked;
        sums[0] += (double)*z;
        sums[c] += (double)*z * (double)*x;
    }
}

/* Spreads the embedding's gradient over the pixels, through the last leaky ReLU, into z1; leaves the norm's
 * sums. */
static void pool_backward(struct net *net, const float *x, int n)
{
    int c = net->norm.c, side = net_last_size(&net->config), area = side * side;
    const float *scale = net->norm.scale, *shift = net->norm.shift;
#pragma omp parallel for schedule(static)
    for (int shard = 0; shard < NET_HEAD_SHARDS; shard++) {
        double *sums = net->shard_sums + (size_t)shard * 2 * c;
        memset(sums, 0, (size_t)(2 * c) * sizeof *sums);
        int from = (int)((int64_t)n * shard / NET_HEAD_SHARDS),
            to = (int)((int64_t)n * (shard + 1) / NET_HEAD_SHARDS);
        for (int i = from; i < to; i++)
            for (int row = 0; row < side; row++) {
                size_t first = ((size_t)i * area + (size_t)row * side) * c;
                const float *in = x + first, *de = net->dembedding + (size_t)i * c;
                float *z = net->z1 + first, dz[POOL_CHANNELS];
                int j = 0;
                for (; j + POOL_CHANNELS <= c; j += POOL_CHANNELS) {
                    for (int k = 0; k < POOL_CHANNELS; k++)
                        dz[k] = de[j + k] / (float)area;
                    pool_row(scale + j, shift + j, dz, in + j, z + j, c, side, sums + j);
                }
                for (; j < c; j++)
                    pool_channel(scale[j], shift[j], de[j] / (float)area, in + j, z + j, c, side, sums + j);
            }
    }
    memset(net->sums, 0, (size_t)(2 * c) * sizeof *net->sums);
    for (int shard = 0; shard < NET_HEAD_SHARDS; shard++)
        for (int j = 0; j < 2 * c; j++)
            net->sums[j] += net->shard_sums[(size_t)shard * 2 * c + j];
}

/* Takes the gradient at the block's output and returns the one at its input; it reads z1 before it overwrites
 * it. */
static struct conv_grad block_backward(struct net *net, struct net_block *b, struct conv_grad g, int n,
                                       bool accumulate)
{
    const struct conv_act none = {NULL, NULL};
    struct conv_act act1 = {b->norm1.scale, b->norm1.shift}, act2 = {b->norm2.scale, b->norm2.shift};
    const struct conv_shape *s = &b->conv1.shape;
    size_t pixels_in = (size_t)n * s->h * s->w, pixels_out = pixels_in / (size_t)(s->stride * s->stride);
    enum net_bn bn = net->last_bn;

    g.store = net->g; /* needed again by the shortcut */
    conv_back(net, &b->conv2, n, &g, b->h, act2, accumulate, net->z2, NULL);
    norm_backward(&b->norm2, net->sums, pixels_out, bn, accumulate);

    const float *extra = b->activated ? net->g : NULL;
    if (b->has_shortcut && b->activated) { /* what the shortcut read was never stored */
        const struct conv_grad at_out = {.add = net->g};
        net_activate(&b->norm1, b->x, net->entry, pixels_in);
        extra = net->z1;
        conv_back(net, &b->shortcut, n, &at_out, net->entry, none, accumulate, net->z1, NULL);
    } else if (b->has_shortcut) { /* that joins in at x */
        const struct conv_grad at_out = {.add = net->g, .is_thin = true};
        assert(s->stride == 2);
        conv_back(net, &b->shortcut, n, &at_out, b->x, none, accumulate, net->entry, NULL);
    }
    struct conv_grad at_h = below(&b->norm2, net->z2, b->h);
    conv_back(net, &b->conv1, n, &at_h, b->x, act1, accumulate, net->z1, extra);
    norm_backward(&b->norm1, net->sums, pixels_in, bn, accumulate);

    struct conv_grad at_x = below(&b->norm1, net->z1, b->x);
    if (b->has_shortcut && !b->activated)
        at_x.thin = net->entry;
    else if (!b->activated)
        at_x.add = net->g;
    return at_x;
}

void net_backward(struct net *net, const float *x, const float *dlogits, int n, enum net_bn bn,
                  bool accumulate)
{
    net_backward_extra(net, x, dlogits, n, bn, accumulate, &(struct net_extra){0});
}

void net_backward_extra(struct net *net, const float *x, const float *dlogits, int n, enum net_bn bn,
                        bool accumulate, const struct net_extra *extra)
{
    assert(net->mode == NET_TRAIN && n == net->last_n);
    assert((bn == NET_BN_RUNNING) == (net->last_bn == NET_BN_RUNNING));
    (void)bn;
    int side = net_last_size(&net->config);
    struct net_block *top = &net->blocks[net->n_blocks - 1];
    dense_backward(net, dlogits, n, accumulate);
    for (size_t i = 0; extra->dembedding && i < (size_t)n * (size_t)net->norm.c; i++)
        net->dembedding[i] += extra->dembedding[i];
    pool_backward(net, top->out, n);
    norm_backward(&net->norm, net->sums, (size_t)n * side * side, net->last_bn, accumulate);
    struct conv_grad g = below(&net->norm, net->z1, top->out);
    for (int i = net->n_blocks - 1; i >= 0; i--)
        g = block_backward(net, &net->blocks[i], g, n, accumulate);
    conv_back(net, &net->stem, n, &g, x, (struct conv_act){NULL, NULL}, accumulate, extra->dx, NULL);
}
