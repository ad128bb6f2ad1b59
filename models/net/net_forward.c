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
#include <omp.h>

static void prepare_weights(struct net *net)
{
    if (!net->is_stale || net->mode == NET_TRAIN)
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

/* How one walk through the blocks goes: over which images, and where it keeps what it makes. */
struct walk {
    int n; /* images */
    float *buffer[3];
    struct conv_scratch *scratch;
    double *sums; /* NULL: every batch norm has its scale and shift already */
    bool update;
};

/* In training, weights are prepared for one use each, which finds them in the cache. */
static void run_conv(const struct net *net, const struct net_conv *conv, const struct walk *w, const float *x,
                     struct conv_act act, const float *residual, float *y, double *sums)
{
    struct conv_shape s = conv->shape;
    s.n = w->n;
    if (!conv->prepared)
        conv_prepare(&s, conv->kernel, net->prepared);
    conv_forward(&s, x, act, conv->prepared ? conv->prepared : net->prepared, conv->bias, residual, y, sums,
                 w->scratch);
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

static void running_norms(struct net *net)
{
    for (int i = 0; i < net->n_blocks; i++) {
        norm_forward(net, &net->blocks[i].norm1, NULL, 1, false);
        norm_forward(net, &net->blocks[i].norm2, NULL, 1, false);
    }
    norm_forward(net, &net->norm, NULL, 1, false);
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

static void show(const struct net *net, const struct net_norm *norm, const float *raw, size_t n_pixels)
{
    if (net->observe)
        net->observe(net->observe_ctx, norm, raw, n_pixels);
}

static struct conv_act act_of(const struct net *net, struct net_norm *norm, const struct walk *w,
                              size_t count)
{
    if (w->sums)
        return norm_forward(net, norm, w->sums, count, w->update);
    return (struct conv_act){norm->scale, norm->shift};
}

/* Images to the last raw activation. */
static const float *walk_blocks(struct net *net, const struct walk *w, const float *x)
{
    const struct conv_act none = {NULL, NULL};
    const bool is_train = net->mode == NET_TRAIN;
    float *now = is_train ? net->stem_out : w->buffer[0], *spare = w->buffer[2];
    size_t pixels = (size_t)w->n * net->config.size * net->config.size;

    run_conv(net, &net->stem, w, x, none, NULL, now, w->sums);
    for (int i = 0; i < net->n_blocks; i++) {
        struct net_block *b = &net->blocks[i];
        bool is_identity = !b->has_shortcut && !b->activated;
        int stride = b->conv1.shape.stride;
        float *h = is_train ? b->h : w->buffer[1];
        float *out = is_train ? b->out : is_identity ? now : spare; /* in place: residual may equal y */
        struct conv_act act1 = act_of(net, &b->norm1, w, pixels);
        show(net, &b->norm1, now, pixels);
        if (b->has_shortcut)
            run_conv(net, &b->shortcut, w, now, b->activated ? act1 : none, NULL, out, NULL);
        else if (b->activated)
            net_activate(&b->norm1, now, out, pixels);
        run_conv(net, &b->conv1, w, now, act1, NULL, h, w->sums);
        pixels /= (size_t)(stride * stride);
        struct conv_act act2 = act_of(net, &b->norm2, w, pixels);
        show(net, &b->norm2, h, pixels);
        run_conv(net, &b->conv2, w, h, act2, is_identity ? now : out, out, w->sums);
        if (out == spare)
            spare = now;
        now = out;
    }
    act_of(net, &net->norm, w, pixels);
    return now;
}

static void head_forward(const struct net *net, const float *x, int image)
{
    const int c = net->norm.c;
    net_head(net, x, net->embedding + (size_t)image * c, net->logits + (size_t)image * net->config.n_classes);
}

/* All images through one layer after the other, all threads in each. */
static void forward_layers(struct net *net, const float *x, int n, enum net_bn bn)
{
    const struct walk w = {.n = n,
                           .buffer = {net->buffer[0], net->buffer[1], net->buffer[2]},
                           .scratch = net->scratch,
                           .sums = bn == NET_BN_RUNNING ? NULL : net->sums,
                           .update = bn == NET_BN_BATCH_UPDATE};
    const float *last = walk_blocks(net, &w, x);
    const int side = net_last_size(&net->config);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++)
        head_forward(net, last + (size_t)i * side * side * net->norm.c, i);
}

/* Few images at a time through the whole network, each thread its own: what one layer leaves for the next is
 * still in a cache near the core, and no thread waits for another between layers. Only where images do not
 * depend on each other. Groups and threads change nothing about an image's own arithmetic. */
static void forward_groups(struct net *net, const float *x, int n, int n_groups, int threads)
{
    const struct net_config *c = &net->config;
    const size_t image = (size_t)c->size * c->size * c->c_in;
    const size_t last_image = (size_t)net_last_size(c) * net_last_size(c) * net->norm.c;
    const int room =
        (n + n_groups - 1) / n_groups; /* images of the largest group; threads * room <= max_batch */
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int i = 0; i < n_groups; i++) {
        const int lane = omp_get_thread_num(), from = (int)((int64_t)n * i / n_groups);
        const int to = (int)((int64_t)n * (i + 1) / n_groups);
        struct walk w = {.n = to - from, .scratch = conv_scratch_lane(net->scratch, lane)};
        for (int b = 0; b < 3; b++)
            w.buffer[b] = net->buffer[b] + (size_t)lane * room * net->image_floats;
        const float *last = walk_blocks(net, &w, x + from * image);
        for (int k = from; k < to; k++)
            head_forward(net, last + (k - from) * last_image, k);
    }
}

/* Groups to cut n images into, a multiple of the threads so that they end together; 0 where whole layers are
 * the better way: few images, or images that depend on each other. */
static int count_groups(const struct net *net, int n, enum net_bn bn, int threads)
{
    if (net->mode == NET_TRAIN || bn != NET_BN_RUNNING || net->observe || n < 2 * threads * net->group)
        return 0;
    return n / (threads * net->group) * threads;
}

const float *net_forward(struct net *net, const float *x, int n, enum net_bn bn)
{
    assert(n >= 1 && n <= net->max_batch);
    const int lanes = conv_scratch_lanes(net->scratch), most = omp_get_max_threads();
    const int threads = lanes < most ? lanes : most, n_groups = count_groups(net, n, bn, threads);
    prepare_weights(net);
    if (bn == NET_BN_RUNNING)
        running_norms(net);
    if (n_groups)
        forward_groups(net, x, n, n_groups, threads);
    else
        forward_layers(net, x, n, bn);
    net->last_n = n;
    net->last_bn = bn;
    return net->logits;
}
