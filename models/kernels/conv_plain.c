/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_plain.c - the convolution written down: the oracle of the fast bodies, and what runs where none of
 * them fits.
 *
 * Any channel counts, kernel 1 or 3, stride 1 or 2, odd sizes. One image at a time: its activations are
 * formed into a zero-padded copy, then the sum over taps is taken literally. Single precision inside a pixel,
 * double for channel sums.
 *
 * Threads: OpenMP over shards of images (conv.h). Scratch per thread: padded activations, their gradient, the
 * output's gradient; per shard: one weight gradient. */
#include "models/kernels/conv.h"

#include <omp.h>
#include <string.h>

static bool takes(const struct conv_shape *s)
{
    return s->n > 0;
}

static size_t prepared_size(const struct conv_shape *s)
{
    return (size_t)s->ksize * s->ksize * s->c * s->k;
}

static void prepare(const struct conv_shape *s, const float *w, float *prepared)
{
    memcpy(prepared, w, prepared_size(s) * sizeof *w);
}

static size_t padded_floats(const struct conv_shape *s)
{
    return (size_t)conv_padded(s->h, s->ksize, s->stride) * conv_padded(s->w, s->ksize, s->stride) * s->c;
}

static struct conv_need need(const struct conv_shape *s, bool backward)
{
    struct conv_need r = {.thread_floats = padded_floats(s), .shared_floats = 0};
    if (backward) {
        r.thread_floats =
            2 * padded_floats(s) + (size_t)conv_out(s->h, s->stride) * conv_out(s->w, s->stride) * s->k;
        r.shared_floats = prepared_size(s) * CONV_SHARDS;
    }
    return r;
}

static float activate(float x, struct conv_act act, int c)
{
    if (!act.scale)
        return x;
    float z = act.scale[c] * x + act.shift[c];
    return z > 0 ? z : CONV_LRELU_SLOPE * z;
}

/* One image of activations with its zero border. */
static void pad_image(const struct conv_shape *s, const float *x, struct conv_act act, float *padded)
{
    int top = conv_pad_before(s->h, s->ksize, s->stride), left = conv_pad_before(s->w, s->ksize, s->stride);
    int width = conv_padded(s->w, s->ksize, s->stride);
    memset(padded, 0, padded_floats(s) * sizeof *padded);
    for (int i = 0; i < s->h; i++)
        for (int j = 0; j < s->w; j++) {
            const float *in = x + ((size_t)i * s->w + j) * s->c;
            float *out = padded + ((size_t)(i + top) * width + j + left) * s->c;
            for (int c = 0; c < s->c; c++)
                out[c] = activate(in[c], act, c);
        }
}

static void forward_image(const struct conv_shape *s, const struct conv_forward_args *a, const float *padded,
                          size_t first, double *sums, size_t row)
{
    int oh = conv_out(s->h, s->stride), ow = conv_out(s->w, s->stride);
    int width = conv_padded(s->w, s->ksize, s->stride);
    for (int i = 0; i < oh; i++)
        for (int j = 0; j < ow; j++) {
            size_t at = first + ((size_t)i * ow + j) * s->k;
            float acc[CONV_MAX_CHANNELS];
            memcpy(acc, a->bias, s->k * sizeof *acc);
            for (int t = 0; t < s->ksize * s->ksize; t++) {
                int row_in = i * s->stride + t / s->ksize, col_in = j * s->stride + t % s->ksize;
                const float *in = padded + ((size_t)row_in * width + col_in) * s->c;
                const float *w = a->prepared + (size_t)t * s->c * s->k;
                for (int c = 0; c < s->c; c++)
                    for (int k = 0; k < s->k; k++)
                        acc[k] += in[c] * w[(size_t)c * s->k + k];
            }
            for (int k = 0; k < s->k; k++) {
                float v = acc[k] + (a->residual ? a->residual[at + k] : 0);
                a->y[at + k] = v;
                sums[k] += v;
                sums[row + k] += (double)v * v;
            }
        }
}

static void forward(const struct conv_shape *s, const struct conv_forward_args *a,
                    struct conv_scratch *scratch)
{
    int shards = conv_shards(s->n);
    size_t in_floats = (size_t)s->h * s->w * s->c;
    size_t out_floats = (size_t)conv_out(s->h, s->stride) * conv_out(s->w, s->stride) * s->k;
#pragma omp parallel for schedule(dynamic, 1) num_threads(conv_threads(scratch))
    for (int shard = 0; shard < shards; shard++) {
        float *padded = conv_thread_buffer(scratch, omp_get_thread_num());
        double *sums = conv_shard_sums(scratch, shard);
        memset(sums, 0, 2 * scratch->channels * sizeof *sums);
        for (int n = conv_shard_start(s->n, shards, shard); n < conv_shard_start(s->n, shards, shard + 1);
             n++) {
            pad_image(s, a->x + n * in_floats, a->act, padded);
            forward_image(s, a, padded, n * out_floats, sums, scratch->channels);
        }
    }
    if (a->sums) {
        conv_add_sums(a->sums, scratch, 0, s->k, shards);
        conv_add_sums(a->sums + s->k, scratch, 1, s->k, shards);
    }
}

/* Image n of the output's gradient, kept in `out` and where the caller wants it; bias gradient on the way. */
static void form_gradient(const struct conv_shape *s, const struct conv_grad *g, int n, float *out,
                          double *bias_sums)
{
    const int oh = conv_out(s->h, s->stride), ow = conv_out(s->w, s->stride);
    const size_t count = (size_t)oh * ow * s->k;
    for (size_t i = 0; i < count; i++) {
        size_t at = n * count + i;
        int k = (int)(i % s->k), row = (int)(i / s->k) / ow, col = (int)(i / s->k) % ow;
        float v = g->dz ? g->a[k] * g->dz[at] + (g->b[k] * g->raw[at] + g->c0[k]) : 0;
        if (g->add)
            v += g->add[at];
        if (g->thin && row % 2 == 0 && col % 2 == 0)
            v += g->thin[(((size_t)n * ((oh + 1) / 2) + row / 2) * ((ow + 1) / 2) + col / 2) * s->k + k];
        if (g->store)
            g->store[at] = v;
        out[i] = v;
        bias_sums[k] += v;
    }
}

/* Weight gradient (added) and, where wanted, the gradient of the padded activations of one image. */
static void spread_gradient(const struct conv_shape *s, const float *padded, const float *g, const float *w,
                            float *dw, float *dpadded)
{
    int oh = conv_out(s->h, s->stride), ow = conv_out(s->w, s->stride);
    int width = conv_padded(s->w, s->ksize, s->stride);
    if (dpadded)
        memset(dpadded, 0, padded_floats(s) * sizeof *dpadded);
    for (int i = 0; i < oh; i++)
        for (int j = 0; j < ow; j++, g += s->k)
            for (int t = 0; t < s->ksize * s->ksize; t++) {
                int row = i * s->stride + t / s->ksize, col = j * s->stride + t % s->ksize;
                size_t at = ((size_t)row * width + col) * s->c;
                for (int c = 0; c < s->c; c++) {
                    size_t tap = ((size_t)t * s->c + c) * s->k;
                    float v = padded[at + c], sum = 0;
                    for (int k = 0; k < s->k; k++) {
                        dw[tap + k] += v * g[k];
                        sum += w[tap + k] * g[k];
                    }
                    if (dpadded)
                        dpadded[at + c] += sum;
                }
            }
}

/* The inner part of dpadded becomes dx: extra added, times the slope of the activation, summed per channel.
 */
static void finish_dx(const struct conv_shape *s, const struct conv_backward_args *a, const float *dpadded,
                      size_t first, double *sums, size_t row)
{
    int top = conv_pad_before(s->h, s->ksize, s->stride), left = conv_pad_before(s->w, s->ksize, s->stride);
    int width = conv_padded(s->w, s->ksize, s->stride);
    for (int i = 0; i < s->h; i++)
        for (int j = 0; j < s->w; j++) {
            size_t at = first + ((size_t)i * s->w + j) * s->c;
            const float *in = dpadded + ((size_t)(i + top) * width + j + left) * s->c;
            for (int c = 0; c < s->c; c++) {
                float x = a->x[at + c], v = in[c] + (a->extra ? a->extra[at + c] : 0);
                if (a->act.scale && !(a->act.scale[c] * x + a->act.shift[c] > 0))
                    v *= CONV_LRELU_SLOPE;
                a->dx[at + c] = v;
                sums[c] += v;
                sums[row + c] += (double)v * x;
            }
        }
}

/* A thin dx of image n: the pixels that were read. */
static void finish_thin(const struct conv_shape *s, const struct conv_backward_args *a, const float *dpadded,
                        int n)
{
    const int oh = conv_out(s->h, 2), ow = conv_out(s->w, 2), width = conv_padded(s->w, 1, 2);
    for (int i = 0; i < oh; i++)
        for (int j = 0; j < ow; j++)
            for (int c = 0; c < s->c; c++) {
                const size_t at = (((size_t)n * oh + i) * ow + j) * s->c + c;
                a->dx[at] =
                    dpadded[((size_t)2 * i * width + 2 * j) * s->c + c] + (a->extra ? a->extra[at] : 0);
            }
}

static void backward(const struct conv_shape *s, const struct conv_backward_args *a,
                     struct conv_scratch *scratch)
{
    int shards = conv_shards(s->n);
    size_t in_floats = (size_t)s->h * s->w * s->c, n_weights = prepared_size(s);
#pragma omp parallel for schedule(dynamic, 1) num_threads(conv_threads(scratch))
    for (int shard = 0; shard < shards; shard++) {
        float *padded = conv_thread_buffer(scratch, omp_get_thread_num());
        float *dpadded = a->dx ? padded + padded_floats(s) : NULL, *g = padded + 2 * padded_floats(s);
        float *dw = scratch->shared + shard * n_weights;
        double *sums = conv_shard_sums(scratch, shard);
        memset(sums, 0, 3 * scratch->channels * sizeof *sums);
        memset(dw, 0, n_weights * sizeof *dw);
        for (int n = conv_shard_start(s->n, shards, shard); n < conv_shard_start(s->n, shards, shard + 1);
             n++) {
            pad_image(s, a->x + n * in_floats, a->act, padded);
            form_gradient(s, a->g, n, g, sums + 2 * scratch->channels);
            spread_gradient(s, padded, g, a->w, dw, dpadded);
            if (a->dx && a->g->is_thin)
                finish_thin(s, a, dpadded, n);
            else if (a->dx)
                finish_dx(s, a, dpadded, n * in_floats, sums, scratch->channels);
        }
    }
    conv_add_shards(a->dw, scratch->shared, n_weights, n_weights, shards, a->accumulate);
    conv_add_bias(a->dbias, scratch, s->k, shards, a->accumulate);
    if (a->dx && a->sums && a->act.scale) {
        conv_add_sums(a->sums, scratch, 0, s->c, shards);
        conv_add_sums(a->sums + s->c, scratch, 1, s->c, shards);
    }
}

const struct conv_body conv_plain = {"plain", takes, prepared_size, prepare, need, forward, backward};
