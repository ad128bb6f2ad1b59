/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_phase.c - 3x3 stride-2 convolution, forward and backward, with 81 multiplications where the direct sum
 * takes 144. Even sizes in multiples of 8, channels in multiples of 16. Compiled once per level.
 *
 * Along one axis y[i] = g0 x[2i] + g1 x[2i+1] + g2 x[2i+2]: two taps over the even pixels and one over the
 * odd ones. Two taps for four outputs take five multiplications in the form of Winograd (S. Winograd,
 * "Arithmetic Complexity of Computations", 1980; F(4,2) at the points 0, 1, -1, 2 and infinity), one tap
 * takes four: nine for four outputs instead of twelve. With e = even pixels, o = odd ones:
 *
 *   y = A' [ (G g) . (B' e) ] + g1 o        A' [4x5], B' [5x5], G [5x2]
 *
 * In two dimensions a tile of 4x4 outputs has 9x9 positions, each axis either one of five frequencies or one
 * of four odd pixels. The odd pixels of an axis share their weight, so there are 6x6 different matrices of
 * weights. An image is cut into strips of four output rows; a pass takes some strips through three stages:
 * input -> V [81][channel block][tile][16] with the activation on the way; then, for each panel of output
 * channels, M = V U [81][tile][panel] and M -> y with bias, residual and channel sums. A panel's M and the
 * pass's V stay in the second-level cache.
 *
 * Backward. An even pixel of dx is two taps over dy, dx[2i] = g0 dy[i] + g2 dy[i-1], an odd one the middle tap,
 * dx[2i+1] = g1 dy[i]: the same nine products with the kernel turned and its channels exchanged, over five
 * pixels of dy of which the first is the tile's neighbour, so that tiles of dx never overlap. The weights'
 * gradient is the transpose of the forward form, dg = G' [ (A dy) (B' e)' ], summed over the positions that
 * share a matrix. Its 36 matrices outgrow the cache where channels are many: there the direct sum's 9 win.
 *
 * Rounding: relative rms 1e-6 against double. */
#include "models/kernels/conv.h"
#include "models/kernels/conv_grad.h"
#include "models/kernels/conv_tile.h"

#include <omp.h>
#include <string.h>

enum {
    SIDE = 9, /* positions of a tile along one axis: FREQS_1D frequencies, 4 odd pixels */
    POSITIONS = SIDE * SIDE,
    FREQS_1D = 5,
    MATRICES_1D = 6,
    MATRICES = MATRICES_1D * MATRICES_1D,
    PASS_TILES = 16,
    SMALL_WEIGHTS = 32 * 32, /* c*k up to which one weight gradient a shard costs little; else LARGE_SHARDS */
    LARGE_SHARDS = 8,
    MOST_WEIGHTS = 64 * 64 /* c*k from which on the weights' gradient is conv_direct.c's */
};

struct plan {
    int tiles_x, strips; /* of an image */
    int pass_strips, shards;
    size_t rows;          /* of V and M: tiles of a pass, rounded up */
    size_t v_block, v_at; /* floats between channel blocks, between positions; no power of two */
    size_t m_at;
};

static struct plan plan_make(const struct conv_shape *s)
{
    struct plan p = {.tiles_x = s->w / 8, .strips = s->h / 8};
    p.pass_strips = PASS_TILES / p.tiles_x > 1 ? PASS_TILES / p.tiles_x : 1;
    p.shards = conv_shards(s->n * p.strips);
    p.rows = (size_t)(p.pass_strips * p.tiles_x + ROWS_STEP - 1) / ROWS_STEP * ROWS_STEP;
    p.v_block = p.rows * BLOCK;
    p.v_at = p.v_block * (s->c / BLOCK) + 16;
    p.m_at = p.rows * tile_width(s->k) + 16;
    return p;
}

extern const struct conv_body LEVEL(conv_direct);

static bool takes(const struct conv_shape *s)
{
    return s->ksize == 3 && s->stride == 2 && s->c % BLOCK == 0 && s->k % BLOCK == 0 && s->h % 8 == 0 &&
           s->w % 8 == 0;
}

/* The shape whose forward form is the data gradient: over dy's channels to x's, same tiles. */
static struct conv_shape turned_shape(const struct conv_shape *s)
{
    struct conv_shape t = *s;
    t.c = s->k;
    t.k = s->c;
    return t;
}

static bool weights_here(const struct conv_shape *s)
{
    return s->c * s->k < MOST_WEIGHTS;
}

static int back_shards(const struct conv_shape *s)
{
    const int shards = conv_shards(s->n);
    return s->c * s->k > SMALL_WEIGHTS && shards > LARGE_SHARDS ? LARGE_SHARDS : shards;
}

static size_t n_transformed(const struct conv_shape *s)
{
    return (size_t)MATRICES * s->c * s->k;
}

static struct conv_need need(const struct conv_shape *s, bool backward)
{
    const struct conv_shape turned = turned_shape(s);
    const struct plan p = plan_make(s), q = plan_make(&turned);
    struct conv_need n = {POSITIONS * (p.v_at + p.m_at), 0}, direct = {0, 0};
    if (!backward)
        return n;
    const size_t floats = POSITIONS * (p.v_at + 2 * q.v_at + q.m_at);
    n.thread_floats = n.thread_floats > floats ? n.thread_floats : floats;
    n.shared_floats = n_transformed(s) * (1 + (weights_here(s) ? back_shards(s) : 0));
    if (!weights_here(s))
        direct = LEVEL(conv_direct).need(s, true);
    n.thread_floats = n.thread_floats > direct.thread_floats ? n.thread_floats : direct.thread_floats;
    n.shared_floats = n.shared_floats > direct.shared_floats ? n.shared_floats : direct.shared_floats;
    return n;
}

/* ---- the transforms of one axis; results are `step` vectors apart */

/* B' on five pixels */
INLINE void pixels_b(vf e0, vf e1, vf e2, vf e3, vf e4, vf *o, const int step)
{
    const vf a = e3 - e1;
    o[0] = a + 2.0f * (e0 - e2);
    o[step] = a - (e1 + e2);
    o[2 * step] = a + 3.0f * (e1 - e2);
    o[3 * step] = a;
    o[4 * step] = (e4 - e2) - 2.0f * a;
}

/* B' on the even of nine pixels, the odd ones as they are */
INLINE void phase_input(const vf d[SIDE], vf *o, const int step)
{
    pixels_b(d[0], d[2], d[4], d[6], d[8], o, step);
    UNROLL for (int i = 0; i < 4; i++) o[(FREQS_1D + i) * step] = d[2 * i + 1];
}

/* The data gradient's input: B' on the pixel before a tile and its four, then these as they are */
INLINE void phase_turned_input(const vf d[5], vf *o, const int step)
{
    pixels_b(d[0], d[1], d[2], d[3], d[4], o, step);
    UNROLL for (int i = 0; i < 4; i++) o[(FREQS_1D + i) * step] = d[i + 1];
}

/* A on four pixels, then these as they are */
INLINE void phase_gradient(const vf y[4], vf *o, const int step)
{
    const vf p = y[0] + y[2], q = y[1] + y[3];
    o[0] = y[0];
    o[step] = p + q;
    o[2 * step] = p - q;
    o[3 * step] = (y[0] + 4.0f * y[2]) + (2.0f * y[1] + 8.0f * y[3]);
    o[4 * step] = y[3];
    UNROLL for (int i = 0; i < 4; i++) o[(FREQS_1D + i) * step] = y[i];
}

/* G on the outer taps, the middle one as it is */
INLINE void phase_weight(const vf g[3], vf *o, const int step)
{
    o[0] = 0.5f * g[0];
    o[step] = -0.5f * (g[0] + g[2]);
    o[2 * step] = (-1.0f / 6) * (g[0] - g[2]);
    o[3 * step] = (1.0f / 6) * g[0] + (1.0f / 3) * g[2];
    o[4 * step] = g[2];
    o[5 * step] = g[1];
}

/* A' on the frequencies, plus the odd pixels' products */
INLINE void phase_output(const vf m[SIDE], vf *o, const int step)
{
    const vf p = m[1] + m[2], q = m[1] - m[2];
    o[0] = m[0] + p + (m[3] + m[5]);
    o[step] = q + 2.0f * m[3] + m[6];
    o[2 * step] = p + 4.0f * m[3] + m[7];
    o[3 * step] = q + 8.0f * m[3] + (m[4] + m[8]);
}

/* The data gradient's output: A' on the frequencies are the even pixels, the products after them the odd ones */
INLINE void phase_turned_output(const vf m[SIDE], vf *o, const int step)
{
    const vf p = m[1] + m[2], q = m[1] - m[2];
    o[0] = m[0] + p + m[3];
    o[2 * step] = q + 2.0f * m[3];
    o[4 * step] = p + 4.0f * m[3];
    o[6 * step] = q + 8.0f * m[3] + m[4];
    UNROLL for (int i = 0; i < 4; i++) o[(2 * i + 1) * step] = m[FREQS_1D + i];
}

/* G' */
INLINE void weight_gradient(const vf u[MATRICES_1D], vf *o, const int step)
{
    o[0] = 0.5f * (u[0] - u[1]) + (1.0f / 6) * (u[3] - u[2]);
    o[step] = u[5];
    o[2 * step] = (u[4] - 0.5f * u[1]) + ((1.0f / 6) * u[2] + (1.0f / 3) * u[3]);
}

/* ---- weights: [matrix][k/width][c][width] */

static size_t prepared_size(const struct conv_shape *s)
{
    return n_transformed(s);
}

/* One vector of transformed weights, input channel c of n_c, output channels from k on of n_k. */
INLINE void transform_weight(const vf g[9], float *u, int c, int k, int n_c, int n_k)
{
    const int width = tile_width(n_k);
    float *out = u + ((size_t)(k / width) * n_c + c) * width + k % width;
    vf rows[MATRICES_1D][3], o[MATRICES_1D];
    for (int j = 0; j < 3; j++) {
        const vf column[3] = {g[j], g[3 + j], g[6 + j]};
        phase_weight(column, &rows[0][j], 3);
    }
    for (int i = 0; i < MATRICES_1D; i++) {
        phase_weight(rows[i], o, 1);
        for (int j = 0; j < MATRICES_1D; j++)
            vec_store(out + (size_t)(i * MATRICES_1D + j) * n_c * n_k, o[j]);
    }
}

#include "models/kernels/conv_weights.h"

/* ---- input */

/* A column of nine pixels, the last of them in the strip below, which the image's last strip lacks. */
INLINE void column_in(const float *x, size_t row, bool below, const struct act_vec *a, vf *out,
                      const bool has_act)
{
    vf d[SIDE];
    UNROLL for (int i = 0; i < 8; i++) d[i] = act_apply(a, vec_load(x + i * row), has_act);
    d[8] = below ? act_apply(a, vec_load(x + 8 * row), has_act) : (vf){0};
    phase_input(d, out, SIDE);
}

INLINE void input_strip(const struct conv_shape *s, const struct plan *p, const float *x, struct conv_act act,
                        int unit, float *v, const bool has_act)
{
    const size_t row = (size_t)s->w * s->c;
    const bool below = unit % p->strips + 1 < p->strips;
    x += (size_t)unit * 8 * row;
    for (int c = 0; c < s->c; c += VW) {
        const struct act_vec a = act_load(act, c, has_act);
        float *out = v + c / BLOCK * p->v_block + c % BLOCK;
        vf held[SIDE][SIDE];
        column_in(x + c, row, below, &a, &held[0][0], has_act);
        for (int t = 0; t < p->tiles_x; t++, out += BLOCK) {
            const float *in = x + (size_t)8 * t * s->c + c;
            for (int j = 1; j < 8; j++)
                column_in(in + (size_t)j * s->c, row, below, &a, &held[0][j], has_act);
            if (t + 1 < p->tiles_x)
                column_in(in + (size_t)8 * s->c, row, below, &a, &held[0][8], has_act);
            else
                for (int i = 0; i < SIDE; i++)
                    held[i][8] = (vf){0};
            for (int i = 0; i < SIDE; i++) {
                vf o[SIDE];
                phase_input(held[i], o, 1);
                UNROLL for (int j = 0; j < SIDE; j++) vec_store(out + (i * SIDE + j) * p->v_at, o[j]);
                held[i][0] = held[i][8];
            }
        }
    }
}

/* The gradient of a strip's output rows: d for the weights and, where dx is wanted, e for the data. Strips of
 * an image come in order: the row above has then been stored already, and `add`, which may be the same array,
 * is gone. d or e may be NULL. */
INLINE void gradient_strip(const struct conv_shape *s, const struct plan *q, const struct conv_grad *g,
                           int unit, float *d, float *e, double *bias_sums, const int kind)
{
    const int ow = s->w / 2;
    const size_t row = (size_t)ow * s->k, first = (size_t)unit * 4 * row;
    const bool above = unit % q->strips > 0;
    for (int k = 0; k < s->k; k += VW) {
        const struct grad_vec coef = grad_load(g, k, kind);
        const size_t out = k / BLOCK * q->v_block + k % BLOCK;
        vf held_d[SIDE][4], held_e[SIDE][5], bias = {0};
        for (int i = 0; i < SIDE; i++)
            held_e[i][4] = (vf){0};
        for (int t = 0; t < q->tiles_x; t++) {
            for (int i = 0; i < SIDE; i++)
                held_e[i][0] = held_e[i][4];
            for (int j = 0; j < 4; j++) {
                const size_t at = first + (size_t)(4 * t + j) * s->k + k;
                vf y[5] = {{0}};
                UNROLL for (int i = 0; i < 4; i++)
                {
                    y[i + 1] = grad_form(g, &coef, at + i * row, kind);
                    if (kind & GRAD_STORE)
                        vec_store(g->store + at + i * row, y[i + 1]);
                }
                bias += (y[1] + y[2]) + (y[3] + y[4]);
                phase_gradient(y + 1, &held_d[0][j], 4);
                if (above)
                    y[0] = kind & GRAD_STORE ? vec_load(g->store + at - row)
                                             : grad_form(g, &coef, at - row, kind);
                phase_turned_input(y, &held_e[0][j + 1], 5);
            }
            for (int i = 0; i < SIDE; i++) {
                const size_t to = out + (size_t)t * BLOCK + i * SIDE * q->v_at;
                vf o[SIDE];
                if (d) {
                    phase_gradient(held_d[i], o, 1);
                    UNROLL for (int j = 0; j < SIDE; j++) vec_store(d + to + j * q->v_at, o[j]);
                }
                if (e) {
                    phase_turned_input(held_e[i], o, 1);
                    UNROLL for (int j = 0; j < SIDE; j++) vec_store(e + to + j * q->v_at, o[j]);
                }
            }
        }
        vec_add_double(bias_sums + k, bias);
    }
}

static void transform_gradient(const struct conv_shape *s, const struct plan *q, const struct conv_grad *g,
                               int unit, float *d, float *e, double *bias_sums)
{
#define KIND(n)                                                                                              \
    case n:                                                                                                  \
        gradient_strip(s, q, g, unit, d, e, bias_sums, n);                                                   \
        break;
    switch (grad_kind(g)) {
        KIND(GRAD_DZ)
        KIND(GRAD_ADD)
        KIND(GRAD_DZ | GRAD_ADD)
        KIND(GRAD_DZ | GRAD_STORE)
        KIND(GRAD_ADD | GRAD_STORE)
        KIND(GRAD_DZ | GRAD_ADD | GRAD_STORE)
    }
#undef KIND
}

/* ---- products */

INLINE void multiply_rows(const float *v, size_t v_block, const float *panel, float *m, int tiles, int n_in,
                          const int rows, const int vectors)
{
    for (int t = 0; t < tiles; t += rows) {
        struct tile_sum sum;
        const float *next = panel;
        tile_zero(&sum, rows, vectors);
        for (int b = 0; b < n_in / BLOCK; b++)
            next =
                tile_multiply(&sum, v + b * v_block + (size_t)t * BLOCK, BLOCK, BLOCK, next, rows, vectors);
        tile_store(&sum, m + (size_t)t * vectors * VW, vectors * VW, rows, vectors);
    }
}

/* A matrix of weights by all positions that share it. Rows beyond `tiles` are computed from whatever the
 * scratch holds and unused. */
static __attribute__((noinline)) void multiply(const struct plan *p, const float *v, int matrix,
                                               const float *panel, float *m, int tiles, int n_in, int vectors)
{
    const int y = matrix / MATRICES_1D, x = matrix % MATRICES_1D;
    for (int i = y; i < (y < FREQS_1D ? y + 1 : SIDE); i++)
        for (int j = x; j < (x < FREQS_1D ? x + 1 : SIDE); j++) {
            const size_t at = (size_t)i * SIDE + j;
            if (vectors == 2)
                multiply_rows(v + at * p->v_at, p->v_block, panel, m + at * p->m_at, tiles, n_in, ROWS_2, 2);
            else
                multiply_rows(v + at * p->v_at, p->v_block, panel, m + at * p->m_at, tiles, n_in, ROWS_1, 1);
        }
}

INLINE void outer_panel(const struct conv_shape *s, const struct plan *p, const struct plan *q,
                        const float *v, const float *d, int matrix, float *du, int tiles, bool first,
                        const int channels, const int vectors)
{
    const int y = matrix / MATRICES_1D, x = matrix % MATRICES_1D;
    const int y_end = y < FREQS_1D ? y + 1 : SIDE, x_end = x < FREQS_1D ? x + 1 : SIDE;
    for (int k = 0; k < s->k; k += vectors * VW)
        for (int c = 0; c < s->c; c += channels) {
            struct tile_sum sum;
            float *out = du + (size_t)c * s->k + k;
            if (first)
                tile_zero(&sum, channels, vectors);
            else
                tile_load(&sum, out, s->k, channels, vectors);
            for (int i = y; i < y_end; i++)
                for (int j = x; j < x_end; j++) {
                    const size_t at = (size_t)i * SIDE + j;
                    tile_outer(&sum, v + at * p->v_at + c / BLOCK * p->v_block + c % BLOCK, BLOCK,
                               d + at * q->v_at + k / BLOCK * q->v_block + k % BLOCK, q->v_block, tiles,
                               channels, vectors);
                }
            tile_store(&sum, out, s->k, channels, vectors);
        }
}

/* dU of one matrix += V' D over the positions that share it, or overwritten when first. */
static __attribute__((noinline)) void outer(const struct conv_shape *s, const struct plan *p,
                                            const struct plan *q, const float *v, const float *d, int matrix,
                                            float *du, int tiles, bool first)
{
    if (tile_vectors(s->k) == 2)
        outer_panel(s, p, q, v, d, matrix, du, tiles, first, CHANNELS_2, 2);
    else
        outer_panel(s, p, q, v, d, matrix, du, tiles, first, CHANNELS_1, 1);
}

/* ---- output */

INLINE void output_strip(const struct conv_shape *s, const struct plan *p, const struct conv_forward_args *a,
                         int unit, const float *m, int k, int width, double *sums, size_t second,
                         const bool has_residual, const bool has_sums)
{
    const size_t row = (size_t)s->w / 2 * s->k, first = (size_t)unit * 4 * row;
    for (int v = 0; v < width; v += VW) {
        const vf bias = vec_load(a->bias + k + v);
        const float *in = m + v;
        vf sum = {0}, squares = {0};
        for (int t = 0; t < p->tiles_x; t++, in += width) {
            vf rows[4][SIDE];
            for (int j = 0; j < SIDE; j++) {
                vf column[SIDE];
                UNROLL for (int i = 0; i < SIDE; i++) column[i] = vec_load(in + (i * SIDE + j) * p->m_at);
                phase_output(column, &rows[0][j], SIDE);
            }
            for (int i = 0; i < 4; i++) {
                vf y[4];
                phase_output(rows[i], y, 1);
                UNROLL for (int j = 0; j < 4; j++)
                {
                    const size_t at = first + i * row + (size_t)(4 * t + j) * s->k + k + v;
                    vf o = y[j] + bias;
                    if (has_residual)
                        o += vec_load(a->residual + at);
                    vec_store(a->y + at, o);
                    if (has_sums) {
                        sum += o;
                        squares += o * o;
                    }
                }
            }
        }
        if (has_sums) {
            vec_add_double(sums + k + v, sum);
            vec_add_double(sums + second + k + v, squares);
        }
    }
}

static void write_output(const struct conv_shape *s, const struct plan *p, const struct conv_forward_args *a,
                         int unit, const float *m, int k, double *sums, size_t second)
{
    const int width = tile_width(s->k);
    if (a->residual && a->sums)
        output_strip(s, p, a, unit, m, k, width, sums, second, true, true);
    else if (a->residual)
        output_strip(s, p, a, unit, m, k, width, sums, second, true, false);
    else if (a->sums)
        output_strip(s, p, a, unit, m, k, width, sums, second, false, true);
    else
        output_strip(s, p, a, unit, m, k, width, sums, second, false, false);
}

/* A panel of dx: `width` channels from c on. */
INLINE void dx_strip(const struct conv_shape *s, const struct plan *q, const struct conv_backward_args *a,
                     int unit, const float *m, int c, int width, double *sums, size_t second,
                     const bool has_act, const bool has_extra)
{
    const size_t row = (size_t)s->w * s->c, first = (size_t)unit * 8 * row;
    for (int v = 0; v < width; v += VW) {
        const struct act_vec act = act_load(a->act, c + v, has_act);
        const float *in = m + v;
        vf sum = {0}, with_x = {0};
        for (int t = 0; t < q->tiles_x; t++, in += width) {
            vf rows[8][SIDE];
            for (int j = 0; j < SIDE; j++) {
                vf column[SIDE];
                UNROLL for (int i = 0; i < SIDE; i++) column[i] = vec_load(in + (i * SIDE + j) * q->m_at);
                phase_turned_output(column, &rows[0][j], SIDE);
            }
            for (int i = 0; i < 8; i++) {
                vf y[8];
                phase_turned_output(rows[i], y, 1);
                UNROLL for (int j = 0; j < 8; j++)
                {
                    const size_t at = first + i * row + (size_t)(8 * t + j) * s->c + c + v;
                    vf o = y[j];
                    if (has_extra)
                        o += vec_load(a->extra + at);
                    if (has_act) {
                        const vf x = vec_load(a->x + at);
                        o *= vec_lrelu_slope(act.scale * x + act.shift);
                        sum += o;
                        with_x += o * x;
                    }
                    vec_store(a->dx + at, o);
                }
            }
        }
        if (has_act) {
            vec_add_double(sums + c + v, sum);
            vec_add_double(sums + second + c + v, with_x);
        }
    }
}

static void write_dx(const struct conv_shape *s, const struct plan *q, const struct conv_backward_args *a,
                     int unit, const float *m, int c, double *sums, size_t second)
{
    const int width = tile_width(s->c);
    if (a->act.scale && a->extra)
        dx_strip(s, q, a, unit, m, c, width, sums, second, true, true);
    else if (a->act.scale)
        dx_strip(s, q, a, unit, m, c, width, sums, second, true, false);
    else if (a->extra)
        dx_strip(s, q, a, unit, m, c, width, sums, second, false, true);
    else
        dx_strip(s, q, a, unit, m, c, width, sums, second, false, false);
}

/* ---- forward; a unit is a strip, numbered through the batch */

/* The n strips from unit u on; up to `more` follow in this shard. */
static void forward_pass(const struct conv_shape *s, const struct plan *p, const struct conv_forward_args *a,
                         int u, int n, int more, float *v, float *m, double *sums, size_t second)
{
    const int width = tile_width(s->k), panels = s->k / width;
    const size_t in_strip = (size_t)8 * s->w * s->c, out_strip = (size_t)2 * s->w * s->k;
    for (int i = 0; i < n; i++) {
        float *to = v + (size_t)i * p->tiles_x * BLOCK;
        if (a->act.scale)
            input_strip(s, p, a->x, a->act, u + i, to, true);
        else
            input_strip(s, p, a->x, a->act, u + i, to, false);
    }
    struct ahead ahead = {.n_parts = panels * MATRICES};
    ahead_add(&ahead, a->x, (u + n) * in_strip, more * in_strip);
    ahead_add(&ahead, a->y, (u + n) * out_strip, more * out_strip);
    ahead_add(&ahead, a->residual != a->y ? a->residual : NULL, (u + n) * out_strip, more * out_strip);
    for (int panel = 0; panel < panels; panel++) {
        for (int f = 0; f < MATRICES; f++) {
            ahead_fetch(&ahead, panel * MATRICES + f);
            multiply(p, v, f, a->prepared + ((size_t)f * panels + panel) * s->c * width, m, n * p->tiles_x,
                     s->c, width / VW);
        }
        for (int i = 0; i < n; i++)
            write_output(s, p, a, u + i, m + (size_t)i * p->tiles_x * width, panel * width, sums, second);
    }
}

static void forward(const struct conv_shape *s, const struct conv_forward_args *a,
                    struct conv_scratch *scratch)
{
    struct plan p = plan_make(s);
    const int units = s->n * p.strips;
    p.shards = conv_forward_shards(scratch, units, a->sums);
#pragma omp parallel for schedule(dynamic, 1) num_threads(conv_threads(scratch))
    for (int shard = 0; shard < p.shards; shard++) {
        float *v = conv_thread_buffer(scratch, omp_get_thread_num()), *m = v + POSITIONS * p.v_at;
        double *sums = conv_shard_sums(scratch, shard);
        memset(sums, 0, 2 * scratch->channels * sizeof *sums);
        const int end = conv_shard_start(units, p.shards, shard + 1);
        for (int u = conv_shard_start(units, p.shards, shard), n; u < end; u += n) {
            n = end - u < p.pass_strips ? end - u : p.pass_strips;
            const int rest = end - u - n, more = rest < p.pass_strips ? rest : p.pass_strips;
            forward_pass(s, &p, a, u, n, more, v, m, sums, scratch->channels);
        }
    }
    if (a->sums) {
        conv_add_sums(a->sums, scratch, 0, s->k, p.shards);
        conv_add_sums(a->sums + s->k, scratch, 1, s->k, p.shards);
    }
}

/* ---- backward */

/* What the passes of a backward call share; p is the plan of the input, q that of the output's gradient. */
struct back {
    struct plan p, q;
    const float *turned;
    float *v, *d, *e, *m; /* d is NULL where the weights are not wanted, e where dx is not */
};

/* The n strips from unit u on; up to `more` follow in this shard. */
static void backward_pass(const struct conv_shape *s, const struct back *b,
                          const struct conv_backward_args *a, int u, int n, int more, float *du, bool first,
                          double *sums, size_t second)
{
    const int width = tile_width(s->c), panels = s->c / width, tiles = n * b->p.tiles_x;
    const size_t in_strip = (size_t)8 * s->w * s->c, out_strip = (size_t)2 * s->w * s->k;
    for (int i = 0; i < n; i++) {
        const size_t at = (size_t)i * b->p.tiles_x * BLOCK;
        if (b->d && a->act.scale)
            input_strip(s, &b->p, a->x, a->act, u + i, b->v + at, true);
        else if (b->d)
            input_strip(s, &b->p, a->x, a->act, u + i, b->v + at, false);
        transform_gradient(s, &b->q, a->g, u + i, b->d ? b->d + at : NULL, b->e ? b->e + at : NULL,
                           sums + 2 * second);
    }
    struct ahead ahead = {.n_parts = MATRICES};
    ahead_add(&ahead, b->d ? a->x : NULL, (u + n) * in_strip, more * in_strip);
    ahead_add_grad(&ahead, a->g, (u + n) * out_strip, more * out_strip);
    ahead_add(&ahead, a->dx, u * in_strip, n * in_strip);
    ahead_add(&ahead, a->extra != a->dx ? a->extra : NULL, u * in_strip, n * in_strip);
    for (int f = 0; f < MATRICES; f++) {
        ahead_fetch(&ahead, f);
        if (b->d)
            outer(s, &b->p, &b->q, b->v, b->d, f, du + (size_t)f * s->c * s->k, tiles, first);
    }
    for (int panel = 0; b->e && panel < panels; panel++) {
        for (int f = 0; f < MATRICES; f++)
            multiply(&b->q, b->e, f, b->turned + ((size_t)f * panels + panel) * s->k * width, b->m, tiles,
                     s->k, width / VW);
        for (int i = 0; i < n; i++)
            write_dx(s, &b->q, a, u + i, b->m + (size_t)i * b->q.tiles_x * width, panel * width, sums,
                     second);
    }
}

static void backward_passes(const struct conv_shape *s, const struct conv_backward_args *a,
                            const struct back *common, float *du, int shards, struct conv_scratch *scratch)
{
    const struct plan *p = &common->p;
#pragma omp parallel for schedule(dynamic, 1) num_threads(conv_threads(scratch))
    for (int shard = 0; shard < shards; shard++) {
        struct back b = *common;
        b.v = conv_thread_buffer(scratch, omp_get_thread_num());
        b.d = du ? b.v + POSITIONS * p->v_at : NULL;
        b.e = a->dx ? b.v + POSITIONS * (p->v_at + b.q.v_at) : NULL;
        b.m = b.v + POSITIONS * (p->v_at + 2 * b.q.v_at);
        double *sums = conv_shard_sums(scratch, shard);
        memset(sums, 0, 3 * scratch->channels * sizeof *sums);
        const int start = conv_shard_start(s->n, shards, shard) * p->strips;
        const int end = conv_shard_start(s->n, shards, shard + 1) * p->strips;
        for (int u = start, n; u < end; u += n) {
            n = end - u < p->pass_strips ? end - u : p->pass_strips;
            const int rest = end - u - n, more = rest < p->pass_strips ? rest : p->pass_strips;
            backward_pass(s, &b, a, u, n, more, du ? du + shard * n_transformed(s) : NULL, u == start, sums,
                          scratch->channels);
        }
    }
}

static void backward(const struct conv_shape *s, const struct conv_backward_args *a,
                     struct conv_scratch *scratch)
{
    const struct conv_shape turned = turned_shape(s);
    const struct back b = {.p = plan_make(s), .q = plan_make(&turned), .turned = scratch->shared};
    const int shards = back_shards(s);
    float *du = scratch->shared + n_transformed(s);
    if (!weights_here(s)) {
        struct conv_backward_args weights = *a;
        weights.dx = NULL;
        LEVEL(conv_direct).backward(s, &weights, scratch);
        du = NULL;
    }
    if (a->dx)
        prepare_turned(s, a->w, scratch->shared);
    if (du) {
        backward_passes(s, a, &b, du, shards, scratch);
        finish_weights(s, du, shards, a->dw, a->accumulate);
        conv_add_bias(a->dbias, scratch, s->k, shards, a->accumulate);
    } else if (a->dx) {
        struct conv_backward_args data = *a;
        const struct conv_grad stored = {.add = a->g->store};
        data.g = a->g->store ? &stored : a->g;
        backward_passes(s, &data, &b, NULL, shards, scratch);
    }
    if (a->dx && a->sums && a->act.scale) {
        conv_add_sums(a->sums, scratch, 0, s->c, shards);
        conv_add_sums(a->sums + s->c, scratch, 1, s->c, shards);
    }
}

const struct conv_body LEVEL(conv_phase) = {"phase", takes, prepared_size, prepare, need, forward, backward};
