/* SPDX-License-Identifier: Apache-2.0
 *
 * conv.h - what the convolution bodies share among themselves; private to kernels/.
 *
 * A body is one algorithm at one instruction-set level. kernels.c keeps, per rung, an ordered list of bodies
 * that ends in the plain one, and gives each shape to the first that takes it. A choice depends on the
 * shape's c, k, ksize, stride, h and w, never on n: weights prepared once serve every batch size.
 *
 * Determinism: a call is cut into conv_shards(n) ranges of images. Each shard is worked by one thread, adds
 * its channel sums and weight gradients to its own buffers, and these are added in shard order at the end.
 * Channel sums are double across tiles: a batch has up to a million addends per channel. */
#ifndef AM_CONV_H
#define AM_CONV_H

#include "models/base/mem.h"
#include "models/kernels/kernels.h"

enum { CONV_SHARDS = 16, CONV_MAX_CHANNELS = 4096 };

struct conv_scratch {
    struct arena arena;
    int n_threads;
    size_t thread_floats, shared_floats, channels;
    float *threads; /* [n_threads][thread_floats] */
    float *shared;  /* [shared_floats]: shard partials, packed transposed weights */
    double *sums;   /* [CONV_SHARDS][3*channels]: sum, sum of squares (or dx*x), bias gradient */
    struct conv_scratch
        *lanes; /* [n_threads] views of one thread's part each; NULL where backward is wanted */
};

/* What a body asks of the scratch for one shape; the maxima over all shapes are what is allocated. */
struct conv_need {
    size_t thread_floats, shared_floats;
};

struct conv_forward_args {
    const float *x;
    struct conv_act act;
    const float *prepared, *bias, *residual;
    float *y;
    double *sums;
};

struct conv_backward_args {
    const struct conv_grad *g;
    const float *x;
    struct conv_act act;
    const float *w;
    float *dw, *dbias;
    bool accumulate;
    float *dx;
    const float *extra;
    double *sums;
};

struct conv_body {
    const char *name;
    bool (*takes)(const struct conv_shape *s);
    size_t (*prepared_size)(const struct conv_shape *s);
    void (*prepare)(const struct conv_shape *s, const float *w, float *prepared);
    struct conv_need (*need)(const struct conv_shape *s, bool backward);
    void (*forward)(const struct conv_shape *s, const struct conv_forward_args *a,
                    struct conv_scratch *scratch);
    void (*backward)(const struct conv_shape *s, const struct conv_backward_args *a,
                     struct conv_scratch *scratch);
};

extern const struct conv_body conv_plain;

/* Lists end with NULL. Those of a level the build lacks are not declared by kernels.c. */
extern const struct conv_body *const conv_bodies_baseline[], *const conv_bodies_avx2[],
                                                                 *const conv_bodies_avx512[];

/* Output extent and the zero pixels before the first row or column ("SAME"). */
static inline int conv_out(int in, int stride)
{
    return (in + stride - 1) / stride;
}

static inline int conv_pad_before(int in, int ksize, int stride)
{
    int total = (conv_out(in, stride) - 1) * stride + ksize - in;
    return total > 0 ? total / 2 : 0;
}

/* Rows (or columns) of the padded image that the kernel touches. */
static inline int conv_padded(int in, int ksize, int stride)
{
    int touched = (conv_out(in, stride) - 1) * stride + ksize, pad = conv_pad_before(in, ksize, stride);
    return touched > in + pad ? touched : in + pad;
}

static inline int conv_shards(int n)
{
    return n < CONV_SHARDS ? n : CONV_SHARDS;
}

/* First image of shard i of n_shards; shard i ends where i + 1 begins. */
static inline int conv_shard_start(int n, int n_shards, int i)
{
    return (int)((long)n * i / n_shards);
}

/* Shards of a forward call. Without channel sums they are only what threads share, and one thread takes all
 * units in one go: its passes are then as large as their scratch, and weights are read once for each. */
static inline int conv_forward_shards(const struct conv_scratch *s, int units, bool has_sums)
{
    return s->n_threads == 1 && !has_sums ? 1 : conv_shards(units);
}

static inline float *conv_thread_buffer(const struct conv_scratch *s, int thread)
{
    return s->threads + (size_t)thread * s->thread_floats;
}

static inline double *conv_shard_sums(const struct conv_scratch *s, int shard)
{
    return s->sums + (size_t)shard * 3 * s->channels;
}

/* Threads to ask OpenMP for: never more than the scratch has buffers. */
int conv_threads(const struct conv_scratch *s);

/* out[i] = (add_to ? out[i] : 0) + sum over shards of part[shard*stride + i], in shard order. */
void conv_add_shards(float *out, const float *part, size_t stride, size_t n, int n_shards, bool add_to);
/* The same for the double sums: row 0, 1 or 2 of each shard's block, n channels. */
void conv_add_sums(double *out, const struct conv_scratch *s, int row, int n, int n_shards);
void conv_add_bias(float *dbias, const struct conv_scratch *s, int k, int n_shards, bool add_to);

#endif
