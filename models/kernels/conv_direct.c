/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_direct.c - the convolution by its own sum, in register tiles: the stem, stride 2, 1x1, image sizes
 * Winograd cannot cut into 4x4 tiles, and everything under AFTERMAP_CONV=direct. Any input channels, output
 * channels a multiple of 16, kernel 1 or 3, stride 1 or 2, any size. Compiled once per level; the tiles are
 * in conv_tile.h.
 *
 * One image at a time, per thread: the activated input goes into a zero-padded blocked copy xp
 * [block][row][column][16], the output's gradient into gp likewise with a border of one. Then forward a tile
 * of pixels of one output row x a panel of channels, summed over taps and input channels; data gradient the
 * same over gp, one output parity at a time: with stride 2 each pixel of dx sees only the taps of its parity,
 * so no product with an inserted zero is ever made; weight gradient  per tap, a tile of input channels x a
 * panel of output channels, summed over some rows of pixels. A 1x1 kernel keeps only the pixels it reads, so
 * that its stride is 1 from then on. */
#include "models/kernels/conv.h"
#include "models/kernels/conv_grad.h"
#include "models/kernels/conv_tile.h"

#include <omp.h>
#include <string.h>

enum {
    PIXELS_2 = VW == 16 ? 8 : 4, /* pixels of a forward tile two vectors wide: divisors of usual widths */
    PIXELS_1 = VW == 16 ? 16 : 4,
    PIXELS_SMALL = 4,
    OUTER_PIXELS = 128,     /* pixels of a weight-gradient sum between two loads of its tile */
    SHARD_FLOATS = 2 << 20, /* aim for the weight gradients of all shards together */
    SHARDS_MIN = 4
};

struct geometry {
    int oh, ow, top, left;   /* output size, zero rows and columns before the image */
    int rows, columns, step; /* of xp; distance in columns between the pixels two neighbouring outputs read */
    int blocks_c, blocks_k;
    size_t x_block, g_block; /* floats of a block of xp, gp */
};

static struct geometry geometry_make(const struct conv_shape *s)
{
    struct geometry g = {.oh = conv_out(s->h, s->stride), .ow = conv_out(s->w, s->stride)};
    g.top = conv_pad_before(s->h, s->ksize, s->stride);
    g.left = conv_pad_before(s->w, s->ksize, s->stride);
    g.step = s->ksize == 1 ? 1 : s->stride;
    g.rows = s->ksize == 1 ? g.oh : conv_padded(s->h, s->ksize, s->stride);
    g.columns = s->ksize == 1 ? g.ow : conv_padded(s->w, s->ksize, s->stride);
    g.blocks_c = (s->c + BLOCK - 1) / BLOCK;
    g.blocks_k = s->k / BLOCK;
    g.x_block = (size_t)g.rows * g.columns * BLOCK + 16; /* + 16: no power of two between blocks */
    g.g_block = (size_t)(g.oh + 2) * (g.ow + 2) * BLOCK + 16;
    return g;
}

static size_t n_weights(const struct conv_shape *s)
{
    return (size_t)s->ksize * s->ksize * s->c * s->k;
}

static size_t shard_weights(const struct conv_shape *s, const struct geometry *g)
{
    return (size_t)s->ksize * s->ksize * g->blocks_c * BLOCK * s->k;
}

static int weight_shards(const struct conv_shape *s, const struct geometry *g)
{
    size_t fit = SHARD_FLOATS / shard_weights(s, g);
    int most = fit > CONV_SHARDS ? CONV_SHARDS : fit < SHARDS_MIN ? SHARDS_MIN : (int)fit;
    return s->n < most ? s->n : most;
}

static bool takes(const struct conv_shape *s)
{
    return s->k % BLOCK == 0;
}

static struct conv_need need(const struct conv_shape *s, bool backward)
{
    struct geometry g = geometry_make(s);
    struct conv_need n = {g.blocks_c * g.x_block, 0};
    if (!backward)
        return n;
    n.thread_floats += g.blocks_k * g.g_block;
    n.shared_floats = n_weights(s) + CONV_SHARDS * shard_weights(s, &g);
    if (s->c % BLOCK) { /* dx of such shapes is the plain body's */
        struct conv_need plain = conv_plain.need(s, true);
        n.thread_floats = n.thread_floats > plain.thread_floats ? n.thread_floats : plain.thread_floats;
        n.shared_floats = n.shared_floats > plain.shared_floats ? n.shared_floats : plain.shared_floats;
    }
    return n;
}

/* ---- weights: panels [k/width][tap][c][width] */

static size_t prepared_size(const struct conv_shape *s)
{
    return n_weights(s);
}

static void prepare(const struct conv_shape *s, const float *w, float *prepared)
{
    const int width = tile_width(s->k), taps = s->ksize * s->ksize;
    for (int k = 0; k < s->k; k += width)
        for (int i = 0; i < taps * s->c; i++, prepared += width)
            memcpy(prepared, w + (size_t)i * s->k + k, width * sizeof *w);
}

/* For the data gradient: panels [c/width][tap][k][width]. */
static void prepare_turned(const struct conv_shape *s, const float *w, float *out)
{
    const int width = tile_width(s->c), taps = s->ksize * s->ksize;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < taps; t++)
        for (int c = 0; c < s->c; c++)
            for (int k = 0; k < s->k; k++)
                out[(((size_t)(c / width) * taps + t) * s->k + k) * width + c % width] =
                    w[((size_t)t * s->c + c) * s->k + k];
}

/* ---- gathers */

INLINE void gather_blocks(const struct conv_shape *s, const struct geometry *g, const float *x,
                          struct conv_act act, float *xp, const bool has_act)
{
    const int pick = s->ksize == 1 ? s->stride : 1, rows = s->ksize == 1 ? g->oh : s->h;
    const int columns = s->ksize == 1 ? g->ow : s->w;
    for (int c = 0; c < s->c; c += VW) {
        const struct act_vec a = act_load(act, c, has_act);
        float *out =
            xp + c / BLOCK * g->x_block + c % BLOCK + ((size_t)g->top * g->columns + g->left) * BLOCK;
        for (int i = 0; i < rows; i++) {
            const float *in = x + (size_t)i * pick * s->w * s->c + c;
            for (int j = 0; j < columns; j++)
                vec_store(out + ((size_t)i * g->columns + j) * BLOCK,
                          act_apply(&a, vec_load(in + (size_t)j * pick * s->c), has_act));
        }
    }
}

/* Channel counts that fill no block, such as the stem's. */
static void gather_few(const struct conv_shape *s, const struct geometry *g, const float *x,
                       struct conv_act act, float *xp)
{
    const int pick = s->ksize == 1 ? s->stride : 1, rows = s->ksize == 1 ? g->oh : s->h;
    const int columns = s->ksize == 1 ? g->ow : s->w;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            const float *in = x + ((size_t)i * s->w + j) * pick * s->c;
            float *out = xp + ((size_t)(i + g->top) * g->columns + j + g->left) * BLOCK;
            for (int c = 0; c < s->c; c++) {
                float z = act.scale ? act.scale[c] * in[c] + act.shift[c] : in[c];
                out[c / BLOCK * g->x_block + c % BLOCK] = act.scale && z < 0 ? CONV_LRELU_SLOPE * z : z;
            }
        }
}

/* The copies' borders stay zero through a call: zeroed whole once, then only the inside is written. */
static void gather_input(const struct conv_shape *s, const struct geometry *g, const float *x,
                         struct conv_act act, float *xp)
{
    if (s->c % BLOCK)
        gather_few(s, g, x, act, xp);
    else if (act.scale)
        gather_blocks(s, g, x, act, xp, true);
    else
        gather_blocks(s, g, x, act, xp, false);
}

INLINE void gather_gradient(const struct conv_shape *s, const struct geometry *g,
                            const struct conv_grad *grad, size_t first, float *gp, double *bias_sums,
                            const int kind)
{
    for (int k = 0; k < s->k; k += VW) {
        const struct grad_vec coef = grad_load(grad, k, kind);
        float *out = gp + k / BLOCK * g->g_block + k % BLOCK + (size_t)(g->ow + 3) * BLOCK;
        for (int i = 0; i < g->oh; i++) {
            vf bias = {0};
            for (int j = 0; j < g->ow; j++) {
                size_t at = first + ((size_t)i * g->ow + j) * s->k + k;
                vf v = grad_form(grad, &coef, at, kind);
                if (kind & GRAD_STORE)
                    vec_store(grad->store + at, v);
                vec_store(out + ((size_t)i * (g->ow + 2) + j) * BLOCK, v);
                bias += v;
            }
            vec_add_double(bias_sums + k, bias);
        }
    }
}

static void gather_grad(const struct conv_shape *s, const struct geometry *g, const struct conv_grad *grad,
                        size_t first, float *gp, double *bias_sums)
{
#define KIND(n)                                                                                              \
    case n:                                                                                                  \
        gather_gradient(s, g, grad, first, gp, bias_sums, n);                                                \
        break;
    switch (grad_kind(grad)) {
        KIND(GRAD_DZ)
        KIND(GRAD_ADD)
        KIND(GRAD_DZ | GRAD_ADD)
        KIND(GRAD_DZ | GRAD_STORE)
        KIND(GRAD_ADD | GRAD_STORE)
        KIND(GRAD_DZ | GRAD_ADD | GRAD_STORE)
    }
#undef KIND
}

/* ---- forward */

struct channel_sums {
    vf sum[2], second[2];
};

/* Pixels j .. j+pixels of output row i, channels from k. */
INLINE void forward_tile(const struct conv_shape *s, const struct geometry *g,
                         const struct conv_forward_args *a, const float *xp, size_t first, int k, int i,
                         int j, struct channel_sums *t, const int step, const int pixels, const int vectors)
{
    struct tile_sum sum;
    const float *panel = a->prepared + (size_t)k * s->ksize * s->ksize * s->c;
    tile_zero(&sum, pixels, vectors);
    for (int ky = 0; ky < s->ksize; ky++)
        for (int kx = 0; kx < s->ksize; kx++) {
            const float *in = xp + ((size_t)(i * step + ky) * g->columns + j * step + kx) * BLOCK;
            for (int c = 0; c < s->c; c += BLOCK, in += g->x_block)
                panel = tile_multiply(&sum, in, step * BLOCK, s->c - c < BLOCK ? s->c - c : BLOCK, panel,
                                      pixels, vectors);
        }
    const size_t at = first + ((size_t)i * g->ow + j) * s->k + k;
    UNROLL for (int v = 0; v < vectors; v++)
    {
        const vf bias = vec_load(a->bias + k + v * VW);
        UNROLL for (int p = 0; p < pixels; p++)
        {
            vf y = sum.v[p][v] + bias;
            if (a->residual)
                y += vec_load(a->residual + at + (size_t)p * s->k + v * VW);
            vec_store(a->y + at + (size_t)p * s->k + v * VW, y);
            t->sum[v] += y;
            t->second[v] += y * y;
        }
    }
}

INLINE void forward_image(const struct conv_shape *s, const struct geometry *g,
                          const struct conv_forward_args *a, const float *xp, size_t first, double *sums,
                          size_t second, const int step, const int pixels, const int vectors)
{
    for (int k = 0; k < s->k; k += vectors * VW)
        for (int i = 0; i < g->oh; i++) {
            struct channel_sums t = {{{0}}, {{0}}};
            int j = 0;
            for (; j + pixels <= g->ow; j += pixels)
                forward_tile(s, g, a, xp, first, k, i, j, &t, step, pixels, vectors);
            for (; j + PIXELS_SMALL <= g->ow; j += PIXELS_SMALL)
                forward_tile(s, g, a, xp, first, k, i, j, &t, step, PIXELS_SMALL, vectors);
            for (; j < g->ow; j++)
                forward_tile(s, g, a, xp, first, k, i, j, &t, step, 1, vectors);
            for (int v = 0; v < vectors; v++) {
                vec_add_double(sums + k + v * VW, t.sum[v]);
                vec_add_double(sums + second + k + v * VW, t.second[v]);
            }
        }
}

static void forward_one(const struct conv_shape *s, const struct geometry *g,
                        const struct conv_forward_args *a, const float *xp, size_t first, double *sums,
                        size_t second)
{
    if (tile_vectors(s->k) == 2) {
        if (g->step == 1)
            forward_image(s, g, a, xp, first, sums, second, 1, PIXELS_2, 2);
        else
            forward_image(s, g, a, xp, first, sums, second, 2, PIXELS_2, 2);
    } else {
        if (g->step == 1)
            forward_image(s, g, a, xp, first, sums, second, 1, PIXELS_1, 1);
        else
            forward_image(s, g, a, xp, first, sums, second, 2, PIXELS_1, 1);
    }
}

static void forward(const struct conv_shape *s, const struct conv_forward_args *a,
                    struct conv_scratch *scratch)
{
    const struct geometry g = geometry_make(s);
    const int shards = conv_shards(s->n);
    const size_t in_floats = (size_t)s->h * s->w * s->c, out_floats = (size_t)g.oh * g.ow * s->k;
#pragma omp parallel num_threads(conv_threads(scratch))
    {
        float *xp = conv_thread_buffer(scratch, omp_get_thread_num());
        memset(xp, 0, g.blocks_c * g.x_block * sizeof *xp);
#pragma omp for schedule(dynamic, 1)
        for (int shard = 0; shard < shards; shard++) {
            double *sums = conv_shard_sums(scratch, shard);
            memset(sums, 0, 2 * scratch->channels * sizeof *sums);
            for (int n = conv_shard_start(s->n, shards, shard); n < conv_shard_start(s->n, shards, shard + 1);
                 n++) {
                gather_input(s, &g, a->x + n * in_floats, a->act, xp);
                forward_one(s, &g, a, xp, n * out_floats, sums, scratch->channels);
            }
        }
    }
    if (a->sums) {
        conv_add_sums(a->sums, scratch, 0, s->k, shards);
        conv_add_sums(a->sums + s->k, scratch, 1, s->k, shards);
    }
}

/* ---- weight gradient */

INLINE void weights_image(const struct conv_shape *s, const struct geometry *g, const float *xp,
                          const float *gp, float *dw, const int step, const int channels, const int vectors)
{
    const int taps = s->ksize * s->ksize, band = OUTER_PIXELS / g->ow > 1 ? OUTER_PIXELS / g->ow : 1;
    for (int i0 = 0; i0 < g->oh; i0 += band)
        for (int k = 0; k < s->k; k += vectors * VW)
            for (int t = 0; t < taps; t++)
                for (int c = 0; c < s->c; c += channels) {
                    struct tile_sum sum;
                    float *out = dw + ((size_t)t * g->blocks_c * BLOCK + c) * s->k + k;
                    tile_load(&sum, out, s->k, channels, vectors);
                    for (int i = i0; i < i0 + band && i < g->oh; i++) {
                        const float *x = xp + c / BLOCK * g->x_block + c % BLOCK;
                        x += ((size_t)(i * step + t / s->ksize) * g->columns + t % s->ksize) * BLOCK;
                        const float *d = gp + k / BLOCK * g->g_block + k % BLOCK;
                        d += ((size_t)(i + 1) * (g->ow + 2) + 1) * BLOCK;
                        tile_outer(&sum, x, step * BLOCK, d, g->g_block, g->ow, channels, vectors);
                    }
                    tile_store(&sum, out, s->k, channels, vectors);
                }
}

static void weights_one(const struct conv_shape *s, const struct geometry *g, const float *xp,
                        const float *gp, float *dw)
{
    if (tile_vectors(s->k) == 2) {
        if (g->step == 1)
            weights_image(s, g, xp, gp, dw, 1, CHANNELS_2, 2);
        else
            weights_image(s, g, xp, gp, dw, 2, CHANNELS_2, 2);
    } else {
        if (g->step == 1)
            weights_image(s, g, xp, gp, dw, 1, CHANNELS_1, 1);
        else
            weights_image(s, g, xp, gp, dw, 2, CHANNELS_1, 1);
    }
}

/* ---- data gradient */

/* The taps a pixel of one parity sees along one axis, and where in g (relative to the pixel's index among its
 * parity). */
struct parity {
    int n, tap[3], offset[3];
};

static struct parity parity_make(int parity, int before, int ksize, int stride)
{
    struct parity p = {0};
    for (int k = 0; k < ksize; k++) {
        int at = parity + before - k;
        if (at % stride == 0) {
            p.tap[p.n] = k;
            p.offset[p.n++] = at / stride;
        }
    }
    return p;
}

/* Pixels j .. j+pixels (counted within the parity) of row i, channels from c; first is dx's pixel of i = j =
 * 0. */
INLINE void dx_tile(const struct conv_shape *s, const struct geometry *g, const struct conv_backward_args *a,
                    const float *gp, const float *turned, const struct parity *py, const struct parity *px,
                    size_t first, int c, int i, int j, struct channel_sums *t, const int pixels,
                    const int vectors)
{
    struct tile_sum sum;
    const int taps = s->ksize * s->ksize;
    tile_zero(&sum, pixels, vectors);
    for (int m = 0; m < py->n; m++)
        for (int n = 0; n < px->n; n++) {
            const int tap = py->tap[m] * s->ksize + px->tap[n];
            const float *panel = turned + ((size_t)c * taps + (size_t)tap * vectors * VW) * s->k;
            const float *in =
                gp + ((size_t)(i + py->offset[m] + 1) * (g->ow + 2) + j + px->offset[n] + 1) * BLOCK;
            for (int b = 0; b < g->blocks_k; b++, in += g->g_block)
                panel = tile_multiply(&sum, in, BLOCK, BLOCK, panel, pixels, vectors);
        }
    const size_t at = first + ((size_t)i * s->w + j) * s->stride * s->c + c, step = (size_t)s->stride * s->c;
    UNROLL for (int v = 0; v < vectors; v++)
    {
        const struct act_vec act = act_load(a->act, c + v * VW, a->act.scale);
        UNROLL for (int p = 0; p < pixels; p++)
        {
            const size_t here = at + p * step + v * VW;
            vf d = sum.v[p][v];
            if (a->extra)
                d += vec_load(a->extra + here);
            if (a->act.scale) {
                vf x = vec_load(a->x + here);
                d *= vec_lrelu_slope(act.scale * x + act.shift);
                t->sum[v] += d;
                t->second[v] += d * x;
            }
            vec_store(a->dx + here, d);
        }
    }
}

INLINE void dx_image(const struct conv_shape *s, const struct geometry *g, const struct conv_backward_args *a,
                     const float *gp, const float *turned, size_t first, double *sums, size_t second,
                     const int pixels, const int vectors)
{
    for (int part = 0; part < s->stride * s->stride; part++) {
        const int y = part / s->stride, x = part % s->stride;
        const struct parity py = parity_make(y, g->top, s->ksize, s->stride);
        const struct parity px = parity_make(x, g->left, s->ksize, s->stride);
        const int rows = (s->h - y + s->stride - 1) / s->stride,
                  columns = (s->w - x + s->stride - 1) / s->stride;
        const size_t at = first + ((size_t)y * s->w + x) * s->c;
        for (int c = 0; c < s->c; c += vectors * VW)
            for (int i = 0; i < rows; i++) {
                struct channel_sums t = {{{0}}, {{0}}};
                int j = 0;
                for (; j + pixels <= columns; j += pixels)
                    dx_tile(s, g, a, gp, turned, &py, &px, at, c, i, j, &t, pixels, vectors);
                for (; j + PIXELS_SMALL <= columns; j += PIXELS_SMALL)
                    dx_tile(s, g, a, gp, turned, &py, &px, at, c, i, j, &t, PIXELS_SMALL, vectors);
                for (; j < columns; j++)
                    dx_tile(s, g, a, gp, turned, &py, &px, at, c, i, j, &t, 1, vectors);
                for (int v = 0; v < vectors; v++) {
                    vec_add_double(sums + c + v * VW, t.sum[v]);
                    vec_add_double(sums + second + c + v * VW, t.second[v]);
                }
            }
    }
}

static void dx_one(const struct conv_shape *s, const struct geometry *g, const struct conv_backward_args *a,
                   const float *gp, const float *turned, size_t first, double *sums, size_t second)
{
    if (tile_vectors(s->c) == 2)
        dx_image(s, g, a, gp, turned, first, sums, second, PIXELS_2, 2);
    else
        dx_image(s, g, a, gp, turned, first, sums, second, PIXELS_1, 1);
}

/* ---- backward */

/* The shards' gradients carry zero channels up to a whole block. */
static void finish_weights(const struct conv_shape *s, const struct geometry *g, const float *part,
                           int shards, float *dw, bool add_to)
{
    for (int t = 0; t < s->ksize * s->ksize; t++)
        conv_add_shards(dw + (size_t)t * s->c * s->k, part + (size_t)t * g->blocks_c * BLOCK * s->k,
                        shard_weights(s, g), (size_t)s->c * s->k, shards, add_to);
}

static void backward(const struct conv_shape *s, const struct conv_backward_args *a,
                     struct conv_scratch *scratch)
{
    if (a->dx && s->c % BLOCK) {
        conv_plain.backward(s, a, scratch);
        return;
    }
    const struct geometry g = geometry_make(s);
    const int shards = weight_shards(s, &g);
    const size_t in_floats = (size_t)s->h * s->w * s->c, out_floats = (size_t)g.oh * g.ow * s->k;
    const size_t partial = shard_weights(s, &g);
    float *turned = scratch->shared, *parts = turned + n_weights(s);
    if (a->dx)
        prepare_turned(s, a->w, turned);
#pragma omp parallel num_threads(conv_threads(scratch))
    {
        float *xp = conv_thread_buffer(scratch, omp_get_thread_num()), *gp = xp + g.blocks_c * g.x_block;
        memset(xp, 0, (g.blocks_c * g.x_block + g.blocks_k * g.g_block) * sizeof *xp);
#pragma omp for schedule(dynamic, 1)
        for (int shard = 0; shard < shards; shard++) {
            double *sums = conv_shard_sums(scratch, shard);
            float *dw = parts + shard * partial;
            memset(sums, 0, 3 * scratch->channels * sizeof *sums);
            memset(dw, 0, partial * sizeof *dw);
            for (int n = conv_shard_start(s->n, shards, shard); n < conv_shard_start(s->n, shards, shard + 1);
                 n++) {
                gather_input(s, &g, a->x + n * in_floats, a->act, xp);
                gather_grad(s, &g, a->g, n * out_floats, gp, sums + 2 * scratch->channels);
                weights_one(s, &g, xp, gp, dw);
                if (a->dx)
                    dx_one(s, &g, a, gp, turned, n * in_floats, sums, scratch->channels);
            }
        }
    }
    finish_weights(s, &g, parts, shards, a->dw, a->accumulate);
    conv_add_bias(a->dbias, scratch, s->k, shards, a->accumulate);
    if (a->dx && a->sums && a->act.scale) {
        conv_add_sums(a->sums, scratch, 0, s->c, shards);
        conv_add_sums(a->sums + s->c, scratch, 1, s->c, shards);
    }
}

const struct conv_body LEVEL(conv_direct) = {"direct", takes,   prepared_size, prepare,
                                             need,     forward, backward};
