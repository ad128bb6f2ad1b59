/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_winograd.c - 3x3 stride-1 convolution, forward and backward, as Winograd F(4x4,3x3): 36
 * multiplications where the direct sum takes 144. The matrices are in conv_transform.h, the register tiles in
 * conv_tile.h. Compiled once per level.
 *
 * An image is cut into strips of four rows, a strip into 4x4 output tiles. A pass takes some strips through
 * three stages:
 *
 * 1. transform: input (and output gradient) -> V, D, E [36][channel block][tile][16], activation on the way;
 * 2. multiply, per frequency f: M[f] = V[f] U[f]; backward: dU[f] += V[f]' D[f], then M[f] = E[f] U'[f],
 * which is laid over V[f];
 * 3. output: M -> y or dx, with bias, residual, slope of the activation and channel sums.
 *
 * Vertical transforms are made once per column of a strip and shared by the tiles to its left and right.
 * Nothing padded or activated is ever stored outside a pass.
 *
 * Two ways to share the work:
 *
 * - solo: each thread takes whole passes of few tiles that stay near its core; weight gradients per shard,
 *   added at the end. Forward, and backward up to 64x64 channels.
 * - team: all threads work on one large pass, stage by stage, split by frequency in stage 2, so that one
 * weight gradient serves all where one per shard would be tens of megabytes. Its barriers and the traffic
 * between cores suffer beside other work (64 channels: level when quiet, 1.4 times slower on a busy machine).
 *
 * The distance between frequencies is padded by a cache line: 36 streams at a power of two apart would fight
 * for the same L1 sets (20-50 % measured). Rounding: relative rms 1e-6 to 1e-5 against double, about five
 * times the direct sum's. */
#include "models/kernels/conv.h"
#include "models/kernels/conv_grad.h"
#include "models/kernels/conv_tile.h"
#include "models/kernels/conv_transform.h"

#include <omp.h>
#include <string.h>

enum {
    FREQS = 36,
    SEGMENT = 8,               /* tiles of a strip whose columns are held at a time: 13 KiB at VW 16 */
    COLUMNS = 4 * SEGMENT + 2, /* with one column of halo on each side */
    SMALL_WEIGHTS = 32 * 32,   /* c*k up to which one weight gradient a shard costs little */
    SOLO_WEIGHTS = 64 * 64,    /* c*k up to which a backward pass is solo */
    SOLO_SHARDS = 8,     /* shards of a solo backward pass above SMALL_WEIGHTS, and tiles of its passes: */
    SOLO_TILES = 64,     /* the gradient is read and written once a pass */
    SMALL_TILES = 32,    /* tiles of all other solo passes */
    TEAM_FLOATS = 16384, /* tiles * channels of a team pass, */
    TEAM_IMAGES = 4,     /* but at least so many images, for threads to share */
    OUTER_TILES = 128    /* tiles of a weight-gradient panel that stay in L1 */
};

/* [FREQS][blocks][rows][BLOCK]; distances in floats. */
struct freq_buf {
    float *p;
    size_t freq, block;
};

struct plan {
    bool team;
    int shards;
    int tiles_x, strips;  /* of an image */
    int pass_strips;      /* strips of a pass; whole images in a team's */
    struct freq_buf c, k; /* shapes of a buffer of input and of output channels */
};

static struct freq_buf buf_shape(int tiles, int channels)
{
    size_t rows = (size_t)(tiles + ROWS_STEP - 1) / ROWS_STEP * ROWS_STEP;
    return (struct freq_buf){NULL, rows * BLOCK * (channels / BLOCK) + 16, rows * BLOCK};
}

static struct freq_buf buf_at(float **p, struct freq_buf shape)
{
    shape.p = *p;
    *p += FREQS * shape.freq;
    return shape;
}

static size_t n_transformed(const struct conv_shape *s)
{
    return (size_t)FREQS * s->c * s->k;
}

static struct plan plan_make(const struct conv_shape *s, bool backward)
{
    const int weights = s->c * s->k;
    struct plan p = {.tiles_x = s->w / 4, .strips = s->h / 4};
    p.team = backward && weights > SOLO_WEIGHTS;
    p.shards = conv_shards(backward ? s->n : s->n * p.strips);
    if (p.team) {
        int wide = s->c > s->k ? s->c : s->k, images = TEAM_FLOATS / wide / (p.tiles_x * p.strips);
        images = images > TEAM_IMAGES ? images : TEAM_IMAGES;
        p.pass_strips = (images < s->n ? images : s->n) * p.strips;
    } else {
        const bool large = backward && weights > SMALL_WEIGHTS;
        const int tiles = large ? SOLO_TILES : SMALL_TILES;
        p.pass_strips = tiles / p.tiles_x > 1 ? tiles / p.tiles_x : 1;
        p.shards = large && p.shards > SOLO_SHARDS ? SOLO_SHARDS : p.shards;
    }
    p.c = buf_shape(p.pass_strips * p.tiles_x, s->c);
    p.k = buf_shape(p.pass_strips * p.tiles_x, s->k);
    return p;
}

static bool takes(const struct conv_shape *s)
{
    return s->ksize == 3 && s->stride == 1 && s->c % BLOCK == 0 && s->k % BLOCK == 0 && s->h % 4 == 0 &&
           s->w % 4 == 0;
}

static struct conv_need need(const struct conv_shape *s, bool backward)
{
    const struct plan f = plan_make(s, false), b = plan_make(s, true);
    const size_t forward_floats = FREQS * (f.c.freq + f.k.freq),
                 backward_floats = FREQS * (b.c.freq + 2 * b.k.freq);
    struct conv_need n = {forward_floats, 0};
    if (backward && b.team)
        n.shared_floats = backward_floats;
    else if (backward)
        n.thread_floats = forward_floats > backward_floats ? forward_floats : backward_floats;
    if (backward)
        n.shared_floats += n_transformed(s) * (1 + (b.team ? 1 : b.shards));
    return n;
}

/* ---- weights */

static size_t prepared_size(const struct conv_shape *s)
{
    return n_transformed(s);
}

/* One vector of transformed weights, input channel c, output channels from k, into panels
 * [f][k/width][c][width]. */
INLINE void transform_weight(const vf g[9], float *u, int c, int k, int n_c, int n_k)
{
    int width = tile_width(n_k);
    float *out = u + ((size_t)(k / width) * n_c + c) * width + k % width;
    vf rows[6][3];
    UNROLL for (int j = 0; j < 3; j++)
    {
        const vf column[3] = {g[j], g[3 + j], g[6 + j]};
        wino_g(column, &rows[0][j], 3);
    }
    UNROLL for (int i = 0; i < 6; i++)
    {
        vf o[6];
        wino_g(rows[i], o, 1);
        UNROLL for (int j = 0; j < 6; j++) vec_store(out + (size_t)(i * 6 + j) * n_c * n_k, o[j]);
    }
}

INLINE void weight_gradient(const vf u[6], vf *o, const int step)
{
    wino_gt(u, o, step);
}

#include "models/kernels/conv_weights.h"

/* ---- stage 1 */

/* Where a strip's rows lie: 4 of its own, one of halo above and below unless the image ends. */
struct strip {
    size_t row;   /* floats of a row */
    size_t first; /* float index of the strip's own first row in the tensor */
    bool above, below;
};

static struct strip strip_at(const struct conv_shape *s, int channels, int unit)
{
    int strips = s->h / 4, y = unit % strips;
    size_t row = (size_t)s->w * channels;
    return (struct strip){row, (size_t)unit * 4 * row, y > 0, y + 1 < strips};
}

/* Second half of the transform, along rows, for tiles t0..t1 whose columns are in `held`. */
INLINE void transform_rows_b(const vf held[6][COLUMNS], int n_tiles, float *out, size_t freq)
{
    for (int t = 0; t < n_tiles; t++, out += BLOCK)
        UNROLL for (int i = 0; i < 6; i++)
        {
            vf o[6];
            wino_b(&held[i][4 * t], o, 1);
            UNROLL for (int j = 0; j < 6; j++) vec_store(out + (i * 6 + j) * freq, o[j]);
        }
}

INLINE void transform_rows_a(const vf held[6][COLUMNS], int n_tiles, float *out, size_t freq)
{
    for (int t = 0; t < n_tiles; t++, out += BLOCK)
        UNROLL for (int i = 0; i < 6; i++)
        {
            vf o[6];
            wino_a(&held[i][4 * t + 1], o, 1);
            UNROLL for (int j = 0; j < 6; j++) vec_store(out + (i * 6 + j) * freq, o[j]);
        }
}

/* The last two columns of a segment are the first two of the next. */
INLINE void carry_columns(vf held[6][COLUMNS], bool first)
{
    for (int i = 0; i < 6; i++) {
        held[i][0] = first ? (vf){0} : held[i][4 * SEGMENT];
        held[i][1] = held[i][4 * SEGMENT + 1];
    }
}

INLINE void zero_column(vf held[6][COLUMNS], int at)
{
    for (int i = 0; i < 6; i++)
        held[i][at] = (vf){0};
}

INLINE void input_strip(const struct conv_shape *s, const float *x, struct conv_act act, int unit,
                        struct freq_buf v, int tile, const bool has_act)
{
    const struct strip p = strip_at(s, s->c, unit);
    const int tiles_x = s->w / 4;
    const float *own = x + p.first, *above = p.above ? own - p.row : own,
                *below = p.below ? own + 4 * p.row : own;
    const vi keep_above = (vi){0} - (int)p.above, keep_below = (vi){0} - (int)p.below;
    for (int c = 0; c < s->c; c += VW) {
        const struct act_vec a = act_load(act, c, has_act);
        vf held[6][COLUMNS];
        for (int t0 = 0; t0 < tiles_x; t0 += SEGMENT) {
            int n_tiles = tiles_x - t0 < SEGMENT ? tiles_x - t0 : SEGMENT, end = 4 * (t0 + n_tiles) + 1;
            carry_columns(held, t0 == 0);
            for (int col = t0 ? 4 * t0 + 1 : 0; col < (end < s->w ? end : s->w); col++) {
                const size_t at = (size_t)col * s->c + c;
                vf d[6];
                d[0] = (vf)((vi)act_apply(&a, vec_load(above + at), has_act) & keep_above);
                UNROLL for (int i = 0; i < 4; i++) d[i + 1] =
                    act_apply(&a, vec_load(own + i * p.row + at), has_act);
                d[5] = (vf)((vi)act_apply(&a, vec_load(below + at), has_act) & keep_below);
                wino_b(d, &held[0][col - 4 * t0 + 1], COLUMNS);
            }
            if (end > s->w)
                zero_column(held, 4 * n_tiles + 1);
            transform_rows_b(held, n_tiles,
                             v.p + c / BLOCK * v.block + (size_t)(tile + t0) * BLOCK + c % BLOCK, v.freq);
        }
    }
}

static void transform_input(const struct conv_shape *s, const float *x, struct conv_act act, int unit,
                            struct freq_buf v, int tile)
{
    if (act.scale)
        input_strip(s, x, act, unit, v, tile, true);
    else
        input_strip(s, x, act, unit, v, tile, false);
}

/* The gradient of the output: d = A g A' for the weights and, where dx is wanted, e = B' g B for the data.
 * Strips of an image come in order: the row above has then been stored already, and `add`, which may be the
 * same array, is gone. */
INLINE void gradient_strip(const struct conv_shape *s, const struct conv_grad *g, int unit, struct freq_buf d,
                           struct freq_buf e, int tile, double *bias_sums, bool has_dx, const int kind)
{
    const struct strip p = strip_at(s, s->k, unit);
    const int tiles_x = s->w / 4;
    const size_t thin_row = p.row / 2; /* a strip has two such rows */
    for (int k = 0; k < s->k; k += VW) {
        const struct grad_vec coef = grad_load(g, k, kind);
        vf held_d[6][COLUMNS], held_e[6][COLUMNS], bias = {0};
        for (int t0 = 0; t0 < tiles_x; t0 += SEGMENT) {
            int n_tiles = tiles_x - t0 < SEGMENT ? tiles_x - t0 : SEGMENT, end = 4 * (t0 + n_tiles) + 1;
            carry_columns(held_d, t0 == 0);
            if (has_dx)
                carry_columns(held_e, t0 == 0);
            for (int col = t0 ? 4 * t0 + 1 : 0; col < (end < s->w ? end : s->w); col++) {
                const size_t at = p.first + (size_t)col * s->k + k;
                const int slot = col - 4 * t0 + 1;
                const bool has_thin = kind & GRAD_THIN && col % 2 == 0;
                const float *thin =
                    has_thin ? g->thin + (size_t)unit * 2 * thin_row + (size_t)(col / 2) * s->k + k : NULL;
                vf y[6] = {{0}};
                UNROLL for (int i = 0; i < 4; i++)
                {
                    y[i + 1] = grad_form(g, &coef, at + i * p.row, kind);
                    if (has_thin && i % 2 == 0)
                        y[i + 1] += vec_load(thin + i / 2 * thin_row);
                    if (kind & GRAD_STORE)
                        vec_store(g->store + at + i * p.row, y[i + 1]);
                }
                bias += (y[1] + y[2]) + (y[3] + y[4]);
                wino_a(y + 1, &held_d[0][slot], COLUMNS);
                if (has_dx) {
                    if (p.above)
                        y[0] = kind & GRAD_STORE ? vec_load(g->store + at - p.row)
                                                 : grad_form(g, &coef, at - p.row, kind);
                    if (p.below)
                        y[5] = grad_form(g, &coef, at + 4 * p.row, kind);
                    if (p.below && has_thin)
                        y[5] += vec_load(thin + 2 * thin_row);
                    wino_b(y, &held_e[0][slot], COLUMNS);
                }
            }
            const size_t out = k / BLOCK * d.block + (size_t)(tile + t0) * BLOCK + k % BLOCK;
            transform_rows_a(held_d, n_tiles, d.p + out, d.freq);
            if (has_dx) {
                if (end > s->w)
                    zero_column(held_e, 4 * n_tiles + 1);
                transform_rows_b(held_e, n_tiles, e.p + out, e.freq);
            }
        }
        vec_add_double(bias_sums + k, bias);
    }
}

static void transform_gradient(const struct conv_shape *s, const struct conv_grad *g, int unit,
                               struct freq_buf d, struct freq_buf e, int tile, double *bias_sums, bool has_dx)
{
#define KIND(n)                                                                                              \
    case n:                                                                                                  \
        gradient_strip(s, g, unit, d, e, tile, bias_sums, has_dx, n);                                        \
        break;
    switch (grad_kind(g)) {
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

/* ---- stage 2 */

INLINE void multiply_freq(const float *v, size_t v_block, const float *u, float *m, size_t m_block, int tiles,
                          int n_in, int n_out, const int rows, const int vectors)
{
    for (int k = 0; k < n_out; k += vectors * VW, u += (size_t)n_in * vectors * VW)
        for (int t = 0; t < tiles; t += rows) {
            struct tile_sum sum;
            const float *panel = u;
            float *out = m + k / BLOCK * m_block + k % BLOCK + (size_t)t * BLOCK;
            tile_zero(&sum, rows, vectors);
            for (int b = 0; b < n_in / BLOCK; b++)
                panel = tile_multiply(&sum, v + b * v_block + (size_t)t * BLOCK, BLOCK, BLOCK, panel, rows,
                                      vectors);
            UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++)
                vec_store(out + i * BLOCK + tile_vector_at(j, m_block), sum.v[i][j]);
        }
}

/* m[f] = v[f] u[f]: n_in to n_out channels. Rows beyond `tiles` are computed from whatever the scratch holds
 * and unused. */
static void multiply(struct freq_buf v, const float *u, struct freq_buf m, int f, int tiles, int n_in,
                     int n_out)
{
    const float *in = v.p + f * v.freq, *panels = u + (size_t)f * n_in * n_out;
    if (tile_vectors(n_out) == 2)
        multiply_freq(in, v.block, panels, m.p + f * m.freq, m.block, tiles, n_in, n_out, ROWS_2, 2);
    else
        multiply_freq(in, v.block, panels, m.p + f * m.freq, m.block, tiles, n_in, n_out, ROWS_1, 1);
}

INLINE void outer_freq(const float *v, size_t v_block, const float *d, size_t d_block, float *du, int tiles,
                       int n_c, int n_k, bool first, const int channels, const int vectors)
{
    for (int t = 0; t < tiles; t += OUTER_TILES, first = false) {
        int n = tiles - t < OUTER_TILES ? tiles - t : OUTER_TILES;
        for (int k = 0; k < n_k; k += vectors * VW)
            for (int c = 0; c < n_c; c += channels) {
                struct tile_sum sum;
                float *out = du + (size_t)c * n_k + k;
                if (first)
                    tile_zero(&sum, channels, vectors);
                else
                    tile_load(&sum, out, n_k, channels, vectors);
                tile_outer(&sum, v + c / BLOCK * v_block + c % BLOCK + (size_t)t * BLOCK, BLOCK,
                           d + k / BLOCK * d_block + k % BLOCK + (size_t)t * BLOCK, d_block, n, channels,
                           vectors);
                tile_store(&sum, out, n_k, channels, vectors);
            }
    }
}

/* du[f] += v[f]' d[f], or overwritten when first. */
static void outer(const struct conv_shape *s, struct freq_buf v, struct freq_buf d, float *du, int f,
                  int tiles, bool first)
{
    const float *a = v.p + f * v.freq, *b = d.p + f * d.freq;
    float *out = du + (size_t)f * s->c * s->k;
    if (tile_vectors(s->k) == 2)
        outer_freq(a, v.block, b, d.block, out, tiles, s->c, s->k, first, CHANNELS_2, 2);
    else
        outer_freq(a, v.block, b, d.block, out, tiles, s->c, s->k, first, CHANNELS_1, 1);
}

/* ---- stage 3 */

INLINE void output_tile(const float *m, size_t freq, vf y[4][4])
{
    vf rows[4][6];
    UNROLL for (int j = 0; j < 6; j++)
    {
        vf column[6];
        UNROLL for (int i = 0; i < 6; i++) column[i] = vec_load(m + (i * 6 + j) * freq);
        wino_at(column, &rows[0][j], 6);
    }
    UNROLL for (int i = 0; i < 4; i++) wino_at(rows[i], y[i], 1);
}

INLINE void output_strip(const struct conv_shape *s, const struct conv_forward_args *a, int unit,
                         struct freq_buf m, int tile, double *sums, size_t second, const bool has_residual,
                         const bool has_sums)
{
    const struct strip p = strip_at(s, s->k, unit);
    for (int k = 0; k < s->k; k += VW) {
        const vf bias = vec_load(a->bias + k);
        const float *in = m.p + k / BLOCK * m.block + k % BLOCK + (size_t)tile * BLOCK;
        vf sum = {0}, squares = {0};
        for (int t = 0; t < s->w / 4; t++, in += BLOCK) {
            vf y[4][4];
            output_tile(in, m.freq, y);
            UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++)
            {
                size_t at = p.first + i * p.row + (size_t)(4 * t + j) * s->k + k;
                vf v = y[i][j] + bias;
                if (has_residual)
                    v += vec_load(a->residual + at);
                vec_store(a->y + at, v);
                if (has_sums) {
                    sum += v;
                    squares += v * v;
                }
            }
        }
        if (has_sums) {
            vec_add_double(sums + k, sum);
            vec_add_double(sums + second + k, squares);
        }
    }
}

static void write_output(const struct conv_shape *s, const struct conv_forward_args *a, int unit,
                         struct freq_buf m, int tile, double *sums, size_t second)
{
    if (a->residual && a->sums)
        output_strip(s, a, unit, m, tile, sums, second, true, true);
    else if (a->residual)
        output_strip(s, a, unit, m, tile, sums, second, true, false);
    else if (a->sums)
        output_strip(s, a, unit, m, tile, sums, second, false, true);
    else
        output_strip(s, a, unit, m, tile, sums, second, false, false);
}

INLINE void dx_strip(const struct conv_shape *s, const struct conv_backward_args *a, int unit,
                     struct freq_buf m, int tile, double *sums, size_t second, const bool has_act,
                     const bool has_extra)
{
    const struct strip p = strip_at(s, s->c, unit);
    for (int c = 0; c < s->c; c += VW) {
        const struct act_vec act = act_load(a->act, c, has_act);
        const float *in = m.p + c / BLOCK * m.block + c % BLOCK + (size_t)tile * BLOCK;
        vf sum = {0}, with_x = {0};
        for (int t = 0; t < s->w / 4; t++, in += BLOCK) {
            vf y[4][4];
            output_tile(in, m.freq, y);
            UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++)
            {
                size_t at = p.first + i * p.row + (size_t)(4 * t + j) * s->c + c;
                vf v = y[i][j];
                if (has_extra)
                    v += vec_load(a->extra + at);
                if (has_act) {
                    vf x = vec_load(a->x + at);
                    v *= vec_lrelu_slope(act.scale * x + act.shift);
                    sum += v;
                    with_x += v * x;
                }
                vec_store(a->dx + at, v);
            }
        }
        if (has_act) {
            vec_add_double(sums + c, sum);
            vec_add_double(sums + second + c, with_x);
        }
    }
}

static void write_dx(const struct conv_shape *s, const struct conv_backward_args *a, int unit,
                     struct freq_buf m, int tile, double *sums, size_t second)
{
    if (a->act.scale && a->extra)
        dx_strip(s, a, unit, m, tile, sums, second, true, true);
    else if (a->act.scale)
        dx_strip(s, a, unit, m, tile, sums, second, true, false);
    else if (a->extra)
        dx_strip(s, a, unit, m, tile, sums, second, false, true);
    else
        dx_strip(s, a, unit, m, tile, sums, second, false, false);
}

/* ---- the two ways through the stages; a unit is a strip, numbered through the batch */

static void forward_passes(const struct conv_shape *s, const struct conv_forward_args *a,
                           const struct plan *p, struct conv_scratch *scratch)
{
    const int units = s->n * p->strips;
    const size_t in_strip = (size_t)4 * s->w * s->c, out_strip = (size_t)4 * s->w * s->k;
#pragma omp parallel for schedule(dynamic, 1) num_threads(conv_threads(scratch))
    for (int shard = 0; shard < p->shards; shard++) {
        float *next = conv_thread_buffer(scratch, omp_get_thread_num());
        struct freq_buf v = buf_at(&next, p->c), m = buf_at(&next, p->k);
        double *sums = conv_shard_sums(scratch, shard);
        const int end = conv_shard_start(units, p->shards, shard + 1);
        for (int u = conv_shard_start(units, p->shards, shard); u < end; u += p->pass_strips) {
            int n = end - u < p->pass_strips ? end - u : p->pass_strips;
            for (int i = 0; i < n; i++)
                transform_input(s, a->x, a->act, u + i, v, i * p->tiles_x);
            const int more = end - u - n < p->pass_strips ? end - u - n : p->pass_strips;
            struct ahead ahead = {.n_parts = FREQS};
            ahead_add(&ahead, a->x, (u + n) * in_strip, more * in_strip);
            ahead_add(&ahead, a->y, u * out_strip, n * out_strip);
            ahead_add(&ahead, a->residual, u * out_strip, n * out_strip);
            for (int f = 0; f < FREQS; f++) {
                ahead_fetch(&ahead, f);
                multiply(v, a->prepared, m, f, n * p->tiles_x, s->c, s->k);
            }
            for (int i = 0; i < n; i++)
                write_output(s, a, u + i, m, i * p->tiles_x, sums, scratch->channels);
        }
    }
}

static void zero_sums(const struct conv_scratch *scratch, int shards)
{
    memset(scratch->sums, 0, shards * 3 * scratch->channels * sizeof *scratch->sums);
}

static void forward(const struct conv_shape *s, const struct conv_forward_args *a,
                    struct conv_scratch *scratch)
{
    struct plan p = plan_make(s, false);
    p.shards = conv_forward_shards(scratch, s->n * p.strips, a->sums);
    zero_sums(scratch, p.shards);
    forward_passes(s, a, &p, scratch);
    if (a->sums) {
        conv_add_sums(a->sums, scratch, 0, s->k, p.shards);
        conv_add_sums(a->sums + s->k, scratch, 1, s->k, p.shards);
    }
}

/* What both backward ways share: turned weights and weight gradients behind the team's buffers. */
struct back {
    struct freq_buf v, d, e;
    const float *turned;
    float *du;
};

static void multiply_back(const struct conv_shape *s, const struct conv_backward_args *a,
                          const struct back *b, float *du, int f, int tiles, bool first)
{
    outer(s, b->v, b->d, du, f, tiles, first);
    if (a->dx)
        multiply(b->e, b->turned, b->v, f, tiles, s->k, s->c);
}

static void backward_solo(const struct conv_shape *s, const struct conv_backward_args *a,
                          const struct plan *p, const struct back *common, struct conv_scratch *scratch)
{
    const size_t in_strip = (size_t)4 * s->w * s->c, out_strip = (size_t)4 * s->w * s->k;
#pragma omp parallel for schedule(dynamic, 1) num_threads(conv_threads(scratch))
    for (int shard = 0; shard < p->shards; shard++) {
        float *next = conv_thread_buffer(scratch, omp_get_thread_num()),
              *du = common->du + shard * n_transformed(s);
        struct back b = *common;
        b.v = buf_at(&next, p->c);
        b.d = buf_at(&next, p->k);
        b.e = buf_at(&next, p->k);
        double *sums = conv_shard_sums(scratch, shard);
        const int start = conv_shard_start(s->n, p->shards, shard) * p->strips;
        const int end = conv_shard_start(s->n, p->shards, shard + 1) * p->strips;
        for (int u = start; u < end; u += p->pass_strips) {
            int n = end - u < p->pass_strips ? end - u : p->pass_strips;
            for (int i = 0; i < n; i++) {
                transform_input(s, a->x, a->act, u + i, b.v, i * p->tiles_x);
                transform_gradient(s, a->g, u + i, b.d, b.e, i * p->tiles_x, sums + 2 * scratch->channels,
                                   a->dx);
            }
            const int more = end - u - n < p->pass_strips ? end - u - n : p->pass_strips;
            struct ahead ahead = {.n_parts = FREQS};
            ahead_add(&ahead, a->x, (u + n) * in_strip, more * in_strip);
            ahead_add_grad(&ahead, a->g, (u + n) * out_strip, more * out_strip);
            ahead_add(&ahead, a->dx, u * in_strip, n * in_strip);
            ahead_add(&ahead, a->extra != a->dx ? a->extra : NULL, u * in_strip, n * in_strip);
            for (int f = 0; f < FREQS; f++) {
                ahead_fetch(&ahead, f);
                multiply_back(s, a, &b, du, f, n * p->tiles_x, u == start);
            }
            for (int i = 0; a->dx && i < n; i++)
                write_dx(s, a, u + i, b.v, i * p->tiles_x, sums, scratch->channels);
        }
    }
}

static void backward_team(const struct conv_shape *s, const struct conv_backward_args *a,
                          const struct plan *p, const struct back *b, struct conv_scratch *scratch)
{
    const int pass_images = p->pass_strips / p->strips;
#pragma omp parallel num_threads(conv_threads(scratch))
    for (int image = 0; image < s->n; image += pass_images) {
        const int n = s->n - image < pass_images ? s->n - image : pass_images, u = image * p->strips;
#pragma omp for schedule(static)
        for (int shard = 0; shard < p->shards; shard++) {
            int end = conv_shard_start(n, p->shards, shard + 1) * p->strips;
            for (int i = conv_shard_start(n, p->shards, shard) * p->strips; i < end; i++) {
                transform_input(s, a->x, a->act, u + i, b->v, i * p->tiles_x);
                transform_gradient(s, a->g, u + i, b->d, b->e, i * p->tiles_x,
                                   conv_shard_sums(scratch, shard) + 2 * scratch->channels, a->dx);
            }
        }
#pragma omp for schedule(static)
        for (int f = 0; f < FREQS; f++)
            multiply_back(s, a, b, b->du, f, n * p->strips * p->tiles_x, image == 0);
#pragma omp for schedule(static)
        for (int shard = 0; shard < p->shards; shard++) {
            int end = conv_shard_start(n, p->shards, shard + 1) * p->strips;
            for (int i = conv_shard_start(n, p->shards, shard) * p->strips; a->dx && i < end; i++)
                write_dx(s, a, u + i, b->v, i * p->tiles_x, conv_shard_sums(scratch, shard),
                         scratch->channels);
        }
    }
}

static void backward(const struct conv_shape *s, const struct conv_backward_args *a,
                     struct conv_scratch *scratch)
{
    const struct plan p = plan_make(s, true);
    const int shards = p.shards;
    float *next = scratch->shared;
    struct back b = {.v = p.c, .d = p.k, .e = p.k};
    if (p.team) {
        b.v = buf_at(&next, p.c);
        b.d = buf_at(&next, p.k);
        b.e = buf_at(&next, p.k);
    }
    b.turned = next;
    b.du = next + n_transformed(s);
    if (a->dx)
        prepare_turned(s, a->w, next);
    zero_sums(scratch, shards);
    (p.team ? backward_team : backward_solo)(s, a, &p, &b, scratch);
    finish_weights(s, b.du, p.team ? 1 : shards, a->dw, a->accumulate);
    conv_add_bias(a->dbias, scratch, s->k, shards, a->accumulate);
    if (a->dx && a->sums && a->act.scale) {
        conv_add_sums(a->sums, scratch, 0, s->c, shards);
        conv_add_sums(a->sums + s->c, scratch, 1, s->c, shards);
    }
}

const struct conv_body LEVEL(conv_winograd) = {"winograd", takes,   prepared_size, prepare,
                                               need,       forward, backward};
