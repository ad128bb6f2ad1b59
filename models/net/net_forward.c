/* SPDX-License-Identifier: Apache-2.0
 *
 * net_forward.c - images to logits. Convolutions add the shortcut and gather the channel sums that the next
 * batch norm needs in their epilogue, so a block is two calls (three with a 1x1 shortcut) and no pass over
 * the data of its own.
 *
 * Block (pre-activation; He et al., "Identity mappings in deep residual networks", ECCV 2016):
 *   out = conv2(act2(conv1(act1(x)))) + shortcut,  shortcut = x | act1(x) | conv1x1(x) | conv1x1(act1(x)). */
#include "models/net/net_plan.h"

#include <assert.h>
#include <math.h>

static void prepare_weights(struct net *net)
{
    if (!net->is_stale)
        return;
    conv_prepare(&net->stem.shape, net->stem.kernel, net->stem.prepared);
    for (int i = 0; i < net->n_blocks; i++) {
        struct net_block *b = &net->blocks[i];
        conv_prepare(&b->conv1.shape, b->conv1.kernel, b->conv1.prepared);
        conv_prepare(&b->conv2.shape, b->conv2.kernel, b->conv2.prepared);
        if (b->has_shortcut)
            conv_prepare(&b->shortcut.shape, b->shortcut.kernel, b->shortcut.prepared);
    }
    net->is_stale = false;
}

static void run_conv(struct net *net, const struct net_conv *conv, int n, const float *x, struct conv_act act,
                     const float *residual, float *y, double *sums)
{
    struct conv_shape s = conv->shape;
    s.n = n;
    conv_forward(&s, x, act, conv->prepared, conv->bias, residual, y, sums, net->scratch);
}

/* Scale and shift of one batch norm: from the sums a convolution left over `count` values a channel, or from
 * the running statistics when sums is NULL. The variance is the biased one. */
static struct conv_act norm_forward(const struct net *net, struct net_norm *norm, const double *sums,
                                    size_t count, bool update)
{
    double momentum = (double)net->config.bn_momentum, eps = (double)net->config.bn_eps;
    for (int i = 0; i < norm->c; i++) {
        double mean = (double)norm->running_mean[i], var = (double)norm->running_var[i];
        if (sums) {
            mean = sums[i] / (double)count;
            var = fmax(sums[norm->c + i] / (double)count - mean * mean, 0.0);
        }
        if (update) {
            norm->running_mean[i] =
                (float)(momentum * (double)norm->running_mean[i] + (1.0 - momentum) * mean);
            norm->running_var[i] = (float)(momentum * (double)norm->running_var[i] + (1.0 - momentum) * var);
        }
        double inv = 1.0 / sqrt(var + eps), scale = (double)norm->gamma[i] * inv;
        norm->mean[i] = mean;
        norm->inv[i] = inv;
        norm->scale[i] = (float)scale;
        norm->shift[i] = (float)((double)norm->beta[i] - mean * scale);
    }
    return (struct conv_act){norm->scale, norm->shift};
}

/* max(u, slope u): the same number as the definition by cases, in a form that vectorises. */
static inline float leaky(float u)
{
    float v = CONV_LRELU_SLOPE * u;
    return u > v ? u : v;
}

/* `omp simd` is what makes gcc vectorise at -O2; each element is computed alone, so bits stay the same. */
void net_activate(const struct net_norm *norm, const float *x, float *y, size_t n_pixels)
{
    int c = norm->c;
    const float *scale = norm->scale, *shift = norm->shift;
#pragma omp parallel for schedule(static)
    for (size_t p = 0; p < n_pixels; p++) {
        const float *in = x + p * c;
        float *out = y + p * c;
#pragma omp simd
        for (int i = 0; i < c; i++)
            out[i] = leaky(scale[i] * in[i] + shift[i]);
    }
}

void net_head(const struct net *net, const float *x, float *e, float *z)
{
    int c = net->norm.c, n_classes = net->config.n_classes, side = net_last_size(&net->config),
        area = side * side;
    const float *scale = net->norm.scale, *shift = net->norm.shift;
    for (int j = 0; j < c; j++)
        e[j] = 0.0f;
    for (int p = 0; p < area; p++, x += c) {
#pragma omp simd
        for (int j = 0; j < c; j++)
            e[j] += leaky(scale[j] * x[j] + shift[j]);
    }
    for (int j = 0; j < c; j++)
        e[j] /= (float)area;
    for (int k = 0; k < n_classes; k++)
        z[k] = net->dense_bias[k];
    for (int j = 0; j < c; j++)
        for (int k = 0; k < n_classes; k++)
            z[k] += e[j] * net->dense_kernel[(size_t)j * n_classes + k];
}

static void head_forward(struct net *net, const float *x, int n)
{
    int c = net->norm.c, n_classes = net->config.n_classes, side = net_last_size(&net->config);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++)
        net_head(net, x + (size_t)i * side * side * c, net->embedding + (size_t)i * c,
                 net->logits + (size_t)i * n_classes);
}

static void show(const struct net *net, const struct net_norm *norm, const float *raw, size_t n_pixels)
{
    if (net->observe)
        net->observe(net->observe_ctx, norm, raw, n_pixels);
}

const float *net_forward(struct net *net, const float *x, int n, enum net_bn bn)
{
    assert(n >= 1 && n <= net->max_batch);
    const struct conv_act none = {NULL, NULL};
    bool update = bn == NET_BN_BATCH_UPDATE, is_train = net->mode == NET_TRAIN;
    double *sums = bn == NET_BN_RUNNING ? NULL : net->sums;
    float *now = is_train ? net->stem_out : net->buffer[0], *spare = net->buffer[2];
    size_t pixels = (size_t)n * net->config.size * net->config.size;

    prepare_weights(net);
    run_conv(net, &net->stem, n, x, none, NULL, now, sums);
    for (int i = 0; i < net->n_blocks; i++) {
        struct net_block *b = &net->blocks[i];
        bool is_identity = !b->has_shortcut && !b->activated;
        int stride = b->conv1.shape.stride;
        float *h = is_train ? b->h : net->buffer[1];
        float *out = is_train ? b->out : is_identity ? now : spare; /* in place: residual may equal y */
        struct conv_act act1 = norm_forward(net, &b->norm1, sums, pixels, update);
        show(net, &b->norm1, now, pixels);
        if (b->has_shortcut)
            run_conv(net, &b->shortcut, n, now, b->activated ? act1 : none, NULL, out, NULL);
        else if (b->activated)
            net_activate(&b->norm1, now, out, pixels);
        run_conv(net, &b->conv1, n, now, act1, NULL, h, sums);
        pixels /= (size_t)(stride * stride);
        struct conv_act act2 = norm_forward(net, &b->norm2, sums, pixels, update);
        show(net, &b->norm2, h, pixels);
        run_conv(net, &b->conv2, n, h, act2, is_identity ? now : out, out, sums);
        if (out == spare)
            spare = now;
        now = out;
    }
    norm_forward(net, &net->norm, sums, pixels, update);
    head_forward(net, now, n);
    net->last_n = n;
    net->last_bn = bn;
    return net->logits;
}
