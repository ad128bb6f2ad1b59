/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_direct.c - the convolution by its own sum, in register tiles: the stem, stride 2, 1x1, image sizes
 * that Winograd cannot cut into 4x4 tiles, and everything under AFTERMAP_CONV=direct. Any input channels,
 * output channels a multiple of 16, kernel 1 or 3, stride 1 or 2, any size. Compiled once per level; the
 * tiles are in conv_tile.h.
 *
 * One image at a time, per thread. The activated input goes into a zero-padded blocked copy `xp`
 * [block][row][column][16], the output's gradient into `gp` likewise, with a border of one. Then
 *
 * - forward: a tile of pixels of one output row x a panel of channels, summed over taps and input channels;
 * - data gradient: the same over gp, one parity of dx at a time. With stride 2 each pixel of dx sees only the
 *   taps of its parity, so no product with an inserted zero is ever made;
 * - weight gradient: per tap, a tile of input channels x a panel of output channels, summed over some rows.
 *
 * A 1x1 kernel keeps only the pixels it reads, so that its stride is 1 from then on. A stem of few channels
 * keeps `xp` as [row][column][c]: the three columns a kernel row reads are then one run of 3 c floats.
 * Relative rms error against double: below 1e-6. */
#include "models/kernels/conv.h"
#include "models/kernels/conv_grad.h"
#include "models/kernels/conv_tile.h"

#include <assert.h>
#include <omp.h>
#include <string.h>

enum {
    PIXELS_2 = VW == 16 ? 8 : 4, /* pixels of a forward tile two vectors wide: divisors of usual widths */
    PIXELS_1 = VW == 16 ? 16 : 4,
    PIXELS_SMALL = 4,
    FEW_CHANNELS = 8,   /* up to so many input channels a stem has a way of its own */
    TILE_STEP = 2 * VW, /* floats between the pixels of a finished tile */
    OUTER_PIXELS =
        64, /* pixels of a weight-gradient sum between two loads of its tile: its operands stay in L1 */
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

static bool is_stem(const struct conv_shape *s)
{
    return s->ksize == 3 && s->stride == 1 && s->c <= FEW_CHANNELS && s->k == BLOCK;
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
#pragma omp parallel for schedule(static) collapse(2)
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

/* Channel counts that fill no block; in blocks, or packed for a stem. */
static void gather_few(const struct conv_shape *s, const struct geometry *g, const float *x,
                       struct conv_act act, float *xp, bool packed)
{
    const int pick = s->ksize == 1 ? s->stride : 1, rows = s->ksize == 1 ? g->oh : s->h;
    const int columns = s->ksize == 1 ? g->ow : s->w;
    const size_t step = packed ? (size_t)s->c : BLOCK;
    for (int i = 0; i < rows; i++) {
        float *row = xp + ((size_t)(i + g->top) * g->columns + g->left) * step;
        if (packed && !act.scale) {
            memcpy(row, x + (size_t)i * s->w * s->c, (size_t)s->w * s->c * sizeof *row);
            continue;
        }
        for (int j = 0; j < columns; j++) {
            const float *in = x + ((size_t)i * s->w + j) * pick * s->c;
            float *out = row + j * step;
            for (int c = 0; c < s->c; c++) {
                float z = act.scale ? act.scale[c] * in[c] + act.shift[c] : in[c];
                out[packed ? (size_t)c : c / BLOCK * g->x_block + c % BLOCK] =
                    act.scale && z < 0 ? CONV_LRELU_SLOPE * z : z;
            }
        }
    }
}

/* Zeroes what of a copy no gather writes: a border, and channels that only fill up a block. A 1x1 kernel over
 * whole blocks has neither. */
static void clear_input(const struct conv_shape *s, const struct geometry *g, float *xp, bool packed)
{
    if (packed)
        memset(xp, 0, (size_t)g->rows * g->columns * s->c * sizeof *xp);
    else if (s->ksize == 3 || s->c % BLOCK)
        memset(xp, 0, g->blocks_c * g->x_block * sizeof *xp);
}

/* Image n of the batch. The copy's border stays zero through a call: only the inside is written. */
static void gather_input(const struct conv_shape *s, const struct geometry *g, const float *x, int n,
                         struct conv_act act, float *xp, bool packed)
{
    x += n * (size_t)s->h * s->w * s->c;
    if (s->c % BLOCK)
        gather_few(s, g, x, act, xp, packed);
    else if (act.scale)
        gather_blocks(s, g, x, act, xp, true);
    else
        gather_blocks(s, g, x, act, xp, false);
}

/* Image n of the batch. */
INLINE void gather_gradient(const struct conv_shape *s, const struct geometry *g,
                            const struct conv_grad *grad, int n, float *gp, double *bias_sums, const int kind)
{
    const size_t first = (size_t)n * g->oh * g->ow * s->k;
    const int thin_rows = (g->oh + 1) / 2, thin_columns = (g->ow + 1) / 2;
    for (int k = 0; k < s->k; k += VW) {
        const struct grad_vec coef = grad_load(grad, k, kind);
        float *out = gp + k / BLOCK * g->g_block + k % BLOCK + (size_t)(g->ow + 3) * BLOCK;
        for (int i = 0; i < g->oh; i++) {
            vf bias = {0};
            for (int j = 0; j < g->ow; j++) {
                size_t at = first + ((size_t)i * g->ow + j) * s->k + k;
                vf v = grad_form(grad, &coef, at, kind);
                if (kind & GRAD_THIN && i % 2 == 0 && j % 2 == 0)
                    v += vec_load(grad->thin + k +
                                  (((size_t)n * thin_rows + i / 2) * thin_columns + j / 2) * s->k);
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
                        int image, float *gp, double *bias_sums)
{
#define KIND(n)                                                                                              \
    case n:                                                                                                  \
        gather_gradient(s, g, grad, image, gp, bias_sums, n);                                                \
        break;
    switch (grad_kind(grad)) {
        KIND(GRAD_DZ)
        KIND(GRAD_ADD)
        KIND(GRAD_DZ | GRAD_ADD)
        KIND(GRAD_DZ | GRAD_STORE)
        KIND(GRAD_ADD | GRAD_STORE)
        KIND(GRAD_DZ | GRAD_ADD | GRAD_STORE)
        KIND(GRAD_DZ | GRAD_THIN | GRAD_STORE)
    }
#undef KIND
}

/* ---- the sum over taps */

/* The taps of a tile: where each reads, relative to the tile's first pixel, and where its panel begins. */
struct taps {
    int n;
    size_t in[9], panel[9];
};

INLINE void convolve(const struct taps *taps, const float *in, size_t block, const int step, int channels,
                     const float *panels, float *out, const int pixels, const int vectors)
{
    struct tile_sum sum;
    tile_zero(&sum, pixels, vectors);
    for (int t = 0; t < taps->n; t++) {
        const float *from = in + taps->in[t], *panel = panels + taps->panel[t];
        for (int c = 0; c < channels; c += BLOCK, from += block)
            panel = tile_multiply(&sum, from, step * BLOCK, channels - c < BLOCK ? channels - c : BLOCK,
                                  panel, pixels, vectors);
    }
    tile_store(&sum, out, TILE_STEP, pixels, vectors);
}

/* out[pixel][channel] (TILE_STEP apart) = sum over taps and channels. A function of its own, not inlined:
 * beside an epilogue GCC runs out of registers and spills inside the loop. */
static __attribute__((noinline)) void convolve_tile(const struct taps *taps, const float *in, size_t block,
                                                    int step, int channels, const float *panels, float *out,
                                                    int pixels, int vectors)
{
#define TILE(p, v)                                                                                           \
    if (pixels == (p) && vectors == (v)) {                                                                   \
        if (step == 1)                                                                                       \
            convolve(taps, in, block, 1, channels, panels, out, (p), (v));                                   \
        else                                                                                                 \
            convolve(taps, in, block, 2, channels, panels, out, (p), (v));                                   \
        return;                                                                                              \
    }
    TILE(PIXELS_2, 2)
    TILE(1, 2)
#if VW == 16
    TILE(PIXELS_1, 1)
    TILE(PIXELS_SMALL, 2)
    TILE(PIXELS_SMALL, 1)
    TILE(1, 1)
#endif
#undef TILE
    assert(false); /* a tile shape without a body */
}

/* Pixels of the next tile when `left` remain in the row. */
static int tile_pixels(int left, int vectors)
{
    int pixels = vectors == 2 ? PIXELS_2 : PIXELS_1;
    return left >= pixels ? pixels : left >= PIXELS_SMALL ? PIXELS_SMALL : 1;
}

/* ---- forward */

struct channel_sums {
    vf sum[2], second[2];
};

INLINE void forward_epilogue(const struct conv_shape *s, const struct conv_forward_args *a, const float *tile,
                             size_t at, int k, int pixels, struct channel_sums *t, const int vectors)
{
    UNROLL for (int v = 0; v < vectors; v++)
    {
        const vf bias = vec_load(a->bias + k + v * VW);
        for (int p = 0; p < pixels; p++) {
            const size_t here = at + (size_t)p * s->k + v * VW;
            vf y = vec_load(tile + p * TILE_STEP + v * VW) + bias;
            if (a->residual)
                y += vec_load(a->residual + here);
            vec_store(a->y + here, y);
            t->sum[v] += y;
            t->second[v] += y * y;
        }
    }
}

INLINE void forward_image(const struct conv_shape *s, const struct geometry *g,
                          const struct conv_forward_args *a, const float *xp, size_t first, double *sums,
                          size_t second, const struct ahead *ahead, const int vectors)
{
    const int n_taps = s->ksize * s->ksize;
    float tile[ROWS_MAX * TILE_STEP];
    struct taps taps = {.n = n_taps};
    int part = 0;
    for (int t = 0; t < n_taps; t++) {
        taps.in[t] = ((size_t)(t / s->ksize) * g->columns + t % s->ksize) * BLOCK;
        taps.panel[t] = (size_t)t * s->c * vectors * VW;
    }
    for (int k = 0; k < s->k; k += vectors * VW)
        for (int i = 0; i < g->oh; i++) {
            struct channel_sums t = {{{0}}, {{0}}};
            for (int j = 0, pixels; j < g->ow; j += pixels) {
                ahead_fetch(ahead, part++);
                pixels = tile_pixels(g->ow - j, vectors);
                convolve_tile(&taps, xp + ((size_t)i * g->columns + j) * g->step * BLOCK, g->x_block, g->step,
                              s->c, a->prepared + (size_t)k * n_taps * s->c, tile, pixels, vectors);
                forward_epilogue(s, a, tile, first + ((size_t)i * g->ow + j) * s->k + k, k, pixels, &t,
                                 vectors);
            }
            for (int v = 0; v < vectors && a->sums; v++) {
                vec_add_double(sums + k + v * VW, t.sum[v]);
                vec_add_double(sums + second + k + v * VW, t.second[v]);
            }
        }
}

/* A stem's tile: a run of 3 c floats from each of three rows. */
INLINE void convolve_stem(const float *in, size_t row, const float *panel, float *out, const int channels,
                          const int pixels)
{
    struct tile_sum sum;
    tile_zero(&sum, pixels, BLOCK > VW ? 2 : 1);
    for (int y = 0; y < 3; y++)
        panel = tile_multiply(&sum, in + y * row, channels, 3 * channels, panel, pixels, BLOCK > VW ? 2 : 1);
    tile_store(&sum, out, TILE_STEP, pixels, BLOCK > VW ? 2 : 1);
}

static __attribute__((noinline)) void convolve_stem_tile(const float *in, size_t row, const float *panel,
                                                         float *out, int channels, int pixels)
{
    const int full = BLOCK > VW ? PIXELS_2 : PIXELS_1;
#define STEM(c)                                                                                              \
    case c:                                                                                                  \
        if (pixels == full)                                                                                  \
            convolve_stem(in, row, panel, out, c, full);                                                     \
        else if (pixels == PIXELS_SMALL)                                                                     \
            convolve_stem(in, row, panel, out, c, PIXELS_SMALL);                                             \
        else                                                                                                 \
            convolve_stem(in, row, panel, out, c, 1);                                                        \
        return;
    switch (channels) {
        STEM(1) STEM(2) STEM(3) STEM(4) STEM(5) STEM(6) STEM(7) STEM(8)
    }
#undef STEM
}

/* One image of a stem from its packed copy; at 4 floats a vector a panel is half of the channels. */
INLINE void forward_stem(const struct conv_shape *s, const struct geometry *g,
                         const struct conv_forward_args *a, const float *xp, size_t first, double *sums,
                         size_t second, const struct ahead *ahead, const int vectors)
{
    const size_t row = (size_t)g->columns * s->c;
    float tile[ROWS_MAX * TILE_STEP];
    int part = 0;
    for (int k = 0; k < BLOCK; k += vectors * VW)
        for (int i = 0; i < g->oh; i++) {
            struct channel_sums t = {{{0}}, {{0}}};
            for (int j = 0, pixels; j < g->ow; j += pixels) {
                ahead_fetch(ahead, part++);
                pixels = tile_pixels(g->ow - j, vectors);
                convolve_stem_tile(xp + i * row + (size_t)j * s->c, row, a->prepared + (size_t)k * 9 * s->c,
                                   tile, s->c, pixels);
                forward_epilogue(s, a, tile, first + ((size_t)i * g->ow + j) * BLOCK + k, k, pixels, &t,
                                 vectors);
            }
            for (int v = 0; v < vectors && a->sums; v++) {
                vec_add_double(sums + k + v * VW, t.sum[v]);
                vec_add_double(sums + second + k + v * VW, t.second[v]);
            }
        }
}

/* Image n; the shard goes on to `end`. */
static void forward_one(const struct conv_shape *s, const struct geometry *g,
                        const struct conv_forward_args *a, const float *xp, int n, int end, double *sums,
                        size_t second)
{
    const int vectors = tile_vectors(s->k), pixels = vectors == 2 ? PIXELS_2 : PIXELS_1;
    const size_t in = (size_t)s->h * s->w * s->c, out = (size_t)g->oh * g->ow * s->k;
    struct ahead ahead = {.n_parts = s->k / (vectors * VW) * g->oh * ((g->ow + pixels - 1) / pixels)};
    if (n + 1 < end) {
        ahead_add(&ahead, s->ksize == 3 ? a->x : NULL, (n + 1) * in, in);
        ahead_add(&ahead, a->y, (n + 1) * out, out);
        ahead_add(&ahead, a->residual != a->y ? a->residual : NULL, (n + 1) * out, out);
    }
    if (is_stem(s))
        forward_stem(s, g, a, xp, n * out, sums, second, &ahead, BLOCK > VW ? 2 : 1);
    else if (vectors == 2)
        forward_image(s, g, a, xp, n * out, sums, second, &ahead, 2);
    else
        forward_image(s, g, a, xp, n * out, sums, second, &ahead, 1);
}

static void forward(const struct conv_shape *s, const struct conv_forward_args *a,
                    struct conv_scratch *scratch)
{
    const struct geometry g = geometry_make(s);
    const int shards = conv_forward_shards(scratch, s->n, a->sums);
#pragma omp parallel num_threads(conv_threads(scratch))
    {
        float *xp = conv_thread_buffer(scratch, omp_get_thread_num());
        clear_input(s, &g, xp, is_stem(s));
#pragma omp for schedule(dynamic, 1)
        for (int shard = 0; shard < shards; shard++) {
            double *sums = conv_shard_sums(scratch, shard);
            memset(sums, 0, 2 * scratch->channels * sizeof *sums);
            const int end = conv_shard_start(s->n, shards, shard + 1);
            for (int n = conv_shard_start(s->n, shards, shard); n < end; n++) {
                gather_input(s, &g, a->x, n, a->act, xp, is_stem(s));
                forward_one(s, &g, a, xp, n, end, sums, scratch->channels);
            }
        }
    }
    if (a->sums) {
        conv_add_sums(a->sums, scratch, 0, s->k, shards);
        conv_add_sums(a->sums + s->k, scratch, 1, s->k, shards);
    }
}

/* ---- weight gradient */

/* Output rows summed between two loads of a tile. */
static int weights_band(const struct geometry *g)
{
    return OUTER_PIXELS / g->ow > 1 ? OUTER_PIXELS / g->ow : 1;
}

INLINE void weights_image(const struct conv_shape *s, const struct geometry *g, const float *xp,
                          const float *gp, float *dw, const struct ahead *ahead, const int step,
                          const int channels, const int vectors)
{
    const int taps = s->ksize * s->ksize, band = weights_band(g);
    int part = 0;
    for (int i0 = 0; i0 < g->oh; i0 += band)
        for (int k = 0; k < s->k; k += vectors * VW)
            for (int b = 0; b < taps * g->blocks_c; b++) {
                ahead_fetch(ahead, part++);
                for (int c = b / taps * BLOCK; c < (b / taps + 1) * BLOCK && c < s->c; c += channels) {
                    const int t = b % taps;
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
}

#if VW == 16
/* Up to eight input channels, the stem: a tile is the three taps of a kernel row x all channels, so that it
 * has enough sums. */
INLINE void weights_few(const struct conv_shape *s, const struct geometry *g, const float *xp,
                        const float *gp, float *dw, const struct ahead *ahead, const int channels)
{
    int part = 0;
    for (int k = 0; k < s->k; k += VW)
        for (int i = 0; i < g->oh; i++)
            for (int ky = 0; ky < 3; ky++) {
                ahead_fetch(ahead, part++);
                float *out = dw + (size_t)ky * 3 * BLOCK * s->k + k;
                const float *x = xp + (size_t)(i + ky) * g->columns * channels;
                const float *d = gp + k / BLOCK * g->g_block + ((size_t)(i + 1) * (g->ow + 2) + 1) * BLOCK;
                vf sum[3][8];
                UNROLL for (int kx = 0; kx < 3; kx++) UNROLL for (int c = 0; c < channels; c++) sum[kx][c] =
                    vec_load(out + (size_t)(kx * BLOCK + c) * s->k);
                NO_UNROLL for (int j = 0; j < g->ow; j++, x += channels, d += BLOCK)
                {
                    const vf v = vec_load(d);
                    UNROLL for (int kx = 0; kx < 3; kx++) UNROLL for (int c = 0; c < channels; c++)
                        sum[kx][c] += v * x[kx * channels + c];
                }
                UNROLL for (int kx = 0; kx < 3; kx++) UNROLL for (int c = 0; c < channels; c++)
                    vec_store(out + (size_t)(kx * BLOCK + c) * s->k, sum[kx][c]);
            }
}

#endif

static void weights_stem(const struct conv_shape *s, const struct geometry *g, const float *xp,
                         const float *gp, float *dw, const struct ahead *ahead)
{
#if VW == 16 /* sixteen registers hold no such tile */
#define FEW(n)                                                                                               \
    case n:                                                                                                  \
        weights_few(s, g, xp, gp, dw, ahead, n);                                                             \
        break;
    switch (s->c) {
        FEW(1) FEW(2) FEW(3) FEW(4) FEW(5) FEW(6) FEW(7) FEW(8)
    }
#undef FEW
#else
    (void)s, (void)g, (void)xp, (void)gp, (void)dw, (void)ahead;
#endif
}

/* Of image n, whose shard goes on to `end`. */
static void weights_one(const struct conv_shape *s, const struct geometry *g,
                        const struct conv_backward_args *a, const float *xp, const float *gp, float *dw,
                        int n, int end)
{
    const int vectors = tile_vectors(s->k), band = weights_band(g), bands = (g->oh + band - 1) / band;
    const size_t in = (size_t)s->h * s->w * s->c, out = (size_t)g->oh * g->ow * s->k;
    const bool stem = VW == 16 && is_stem(s);
    struct ahead ahead = {.n_parts = bands * (s->k / (vectors * VW)) * s->ksize * s->ksize * g->blocks_c};
    if (stem)
        ahead.n_parts = s->k / VW * g->oh * 3;
    if (n + 1 < end) {
        ahead_add(&ahead, s->ksize == 3 ? a->x : NULL, (n + 1) * in, in);
        ahead_add_grad(&ahead, a->g, (n + 1) * out, out);
    }
    const size_t dx = a->g->is_thin ? (size_t)g->oh * g->ow * s->c : in;
    ahead_add(&ahead, a->dx, n * dx, dx);
    ahead_add(&ahead, a->extra != a->dx ? a->extra : NULL, n * dx, dx);
    if (stem)
        weights_stem(s, g, xp, gp, dw, &ahead);
    else if (vectors == 2 && g->step == 1)
        weights_image(s, g, xp, gp, dw, &ahead, 1, CHANNELS_2, 2);
    else if (vectors == 2)
        weights_image(s, g, xp, gp, dw, &ahead, 2, CHANNELS_2, 2);
    else if (g->step == 1)
        weights_image(s, g, xp, gp, dw, &ahead, 1, CHANNELS_1, 1);
    else
        weights_image(s, g, xp, gp, dw, &ahead, 2, CHANNELS_1, 1);
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

INLINE void dx_epilogue(const struct conv_shape *s, const struct conv_backward_args *a, const float *tile,
                        size_t at, int c, int pixels, struct channel_sums *t, const int vectors,
                        const bool has_act)
{
    const size_t step = (size_t)s->stride * s->c;
    UNROLL for (int v = 0; v < vectors; v++)
    {
        const struct act_vec act = act_load(a->act, c + v * VW, has_act);
        for (int p = 0; p < pixels; p++) {
            const size_t here = at + p * step + v * VW;
            vf d = vec_load(tile + p * TILE_STEP + v * VW);
            if (a->extra)
                d += vec_load(a->extra + here);
            if (has_act) {
                vf x = vec_load(a->x + here);
                d *= vec_lrelu_slope(act.scale * x + act.shift);
                t->sum[v] += d;
                t->second[v] += d * x;
            }
            vec_store(a->dx + here, d);
        }
    }
}

/* The pixels of dx of one parity (y, x) of one image, whose first float is `first`. */
INLINE void dx_parity(const struct conv_shape *s, const struct geometry *g,
                      const struct conv_backward_args *a, const float *gp, const float *turned, size_t first,
                      int y, int x, double *sums, size_t second, const int vectors, const bool has_act)
{
    const struct parity py = parity_make(y, g->top, s->ksize, s->stride);
    const struct parity px = parity_make(x, g->left, s->ksize, s->stride);
    const int rows = (s->h - y + s->stride - 1) / s->stride, columns = (s->w - x + s->stride - 1) / s->stride;
    float tile[ROWS_MAX * TILE_STEP];
    struct taps taps = {.n = py.n * px.n};
    for (int t = 0; t < taps.n; t++) {
        const int m = t / px.n, n = t % px.n;
        taps.in[t] = ((size_t)(py.offset[m] + 1) * (g->ow + 2) + px.offset[n] + 1) * BLOCK;
        taps.panel[t] = (size_t)(py.tap[m] * s->ksize + px.tap[n]) * vectors * VW * s->k;
    }
    for (int c = 0; c < s->c; c += vectors * VW)
        for (int i = 0; i < rows; i++) {
            struct channel_sums t = {{{0}}, {{0}}};
            for (int j = 0, pixels; j < columns; j += pixels) {
                const size_t at = first + ((size_t)(i * s->stride + y) * s->w + j * s->stride + x) * s->c + c;
                pixels = tile_pixels(columns - j, vectors);
                convolve_tile(&taps, gp + ((size_t)i * (g->ow + 2) + j) * BLOCK, g->g_block, 1, s->k,
                              turned + (size_t)c * s->ksize * s->ksize * s->k, tile, pixels, vectors);
                dx_epilogue(s, a, tile, at, c, pixels, &t, vectors, has_act);
            }
            for (int v = 0; v < vectors && has_act; v++) {
                vec_add_double(sums + c + v * VW, t.sum[v]);
                vec_add_double(sums + second + c + v * VW, t.second[v]);
            }
        }
}

static void dx_one(const struct conv_shape *s, const struct geometry *g, const struct conv_backward_args *a,
                   const float *gp, const float *turned, size_t first, double *sums, size_t second)
{
    for (int part = 0; part < s->stride * s->stride; part++) {
        const int y = part / s->stride, x = part % s->stride;
        if (tile_vectors(s->c) == 2 && a->act.scale)
            dx_parity(s, g, a, gp, turned, first, y, x, sums, second, 2, true);
        else if (tile_vectors(s->c) == 2)
            dx_parity(s, g, a, gp, turned, first, y, x, sums, second, 2, false);
        else if (a->act.scale)
            dx_parity(s, g, a, gp, turned, first, y, x, sums, second, 1, true);
        else
            dx_parity(s, g, a, gp, turned, first, y, x, sums, second, 1, false);
    }
}

/* ---- backward */

/* The shards' gradients carry zero channels up to a whole block. */
static void finish_weights(const struct conv_shape *s, const struct geometry *g, const float *part,
                           int shards, float *dw, bool add_to)
{
    if (s->c % BLOCK == 0)
        conv_add_shards(dw, part, shard_weights(s, g), n_weights(s), shards, add_to);
    for (int t = 0; s->c % BLOCK && t < s->ksize * s->ksize; t++)
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
    struct conv_shape of_dx = *s; /* a thin dx is that of the pixels read, at stride 1 */
    if (a->g->is_thin)
        of_dx = (struct conv_shape){
            .n = s->n, .h = g.oh, .w = g.ow, .c = s->c, .k = s->k, .ksize = 1, .stride = 1};
    const size_t dx_floats = (size_t)of_dx.h * of_dx.w * s->c;
    const size_t partial = shard_weights(s, &g);
    float *turned = scratch->shared, *parts = turned + n_weights(s);
    if (a->dx)
        prepare_turned(s, a->w, turned);
#pragma omp parallel num_threads(conv_threads(scratch))
    {
        float *xp = conv_thread_buffer(scratch, omp_get_thread_num()), *gp = xp + g.blocks_c * g.x_block;
        clear_input(s, &g, xp, VW == 16 && is_stem(s));
        memset(gp, 0, g.blocks_k * g.g_block * sizeof *gp);
#pragma omp for schedule(dynamic, 1)
        for (int shard = 0; shard < shards; shard++) {
            double *sums = conv_shard_sums(scratch, shard);
            float *dw = parts + shard * partial;
            memset(sums, 0, 3 * scratch->channels * sizeof *sums);
            memset(dw, 0, partial * sizeof *dw);
            const int end = conv_shard_start(s->n, shards, shard + 1);
            for (int n = conv_shard_start(s->n, shards, shard); n < end; n++) {
                gather_input(s, &g, a->x, n, a->act, xp, VW == 16 && is_stem(s));
                gather_grad(s, &g, a->g, n, gp, sums + 2 * scratch->channels);
                weights_one(s, &g, a, xp, gp, dw, n, end);
                if (a->dx)
                    dx_one(&of_dx, &g, a, gp, turned, n * dx_floats, sums, scratch->channels);
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
