/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_phase.c - 3x3 stride-2 convolution, forward, with 81 multiplications where the direct sum takes 144.
 * Even sizes in multiples of 8, channels in multiples of 16. Backward is conv_direct.c's. Compiled once per
 * level.
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
    PASS_TILES = 16
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

static struct conv_need need(const struct conv_shape *s, bool backward)
{
    const struct plan p = plan_make(s);
    const size_t floats = POSITIONS * (p.v_at + p.m_at);
    struct conv_need n = {0, 0};
    if (backward)
        n = LEVEL(conv_direct).need(s, true);
    n.thread_floats = n.thread_floats > floats ? n.thread_floats : floats;
    return n;
}

/* ---- the transforms of one axis; results are `step` vectors apart */

/* B' on the even of nine pixels, the odd ones as they are */
INLINE void phase_input(const vf d[SIDE], vf *o, const int step)
{
    const vf e0 = d[0], e1 = d[2], e2 = d[4], e3 = d[6], e4 = d[8], a = e3 - e1;
    o[0] = a + 2.0f * (e0 - e2);
    o[step] = a - (e1 + e2);
    o[2 * step] = a + 3.0f * (e1 - e2);
    o[3 * step] = a;
    o[4 * step] = (e4 - e2) - 2.0f * a;
    UNROLL for (int i = 0; i < 4; i++) o[(FREQS_1D + i) * step] = d[2 * i + 1];
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

/* ---- weights: [matrix][k/width][c][width] */

static size_t prepared_size(const struct conv_shape *s)
{
    return (size_t)MATRICES * s->c * s->k;
}

static void prepare(const struct conv_shape *s, const float *w, float *prepared)
{
    const int width = tile_width(s->k);
#pragma omp parallel for schedule(static)
    for (int c = 0; c < s->c; c++)
        for (int k = 0; k < s->k; k += VW) {
            float *out = prepared + ((size_t)(k / width) * s->c + c) * width + k % width;
            vf rows[MATRICES_1D][3], o[MATRICES_1D];
            for (int j = 0; j < 3; j++) {
                vf column[3];
                for (int i = 0; i < 3; i++)
                    column[i] = vec_load(w + ((size_t)(i * 3 + j) * s->c + c) * s->k + k);
                phase_weight(column, &rows[0][j], 3);
            }
            for (int i = 0; i < MATRICES_1D; i++) {
                phase_weight(rows[i], o, 1);
                for (int j = 0; j < MATRICES_1D; j++)
                    vec_store(out + (size_t)(i * MATRICES_1D + j) * s->c * s->k, o[j]);
            }
        }
}

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
    const struct plan p = plan_make(s);
    const int units = s->n * p.strips;
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

static void backward(const struct conv_shape *s, const struct conv_backward_args *a,
                     struct conv_scratch *scratch)
{
    LEVEL(conv_direct).backward(s, a, scratch);
}

const struct conv_body LEVEL(conv_phase) = {"phase", takes, prepared_size, prepare, need, forward, backward};
