/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_tile.h - the register tiles under both fast bodies: the only loops that matter for arithmetic. Private
 * to kernels/.
 *
 * Blocked layout. Operands are scratch copies in blocks of 16 channels, [channel block][row][16], where a row
 * is a pixel or a Winograd tile: the distance between rows is then a constant, so that one address register
 * and fixed displacements reach all rows of a tile whatever the channel count, and a tile's rows lie in
 * consecutive cache lines.
 *
 * Sizes. avx512 has 32 registers: 8 rows x 2 vectors, or 16 x 1 where the output channels are an odd multiple
 * of 16; avx2 and baseline have 16: 6 x 2, 4 x 2. Two FMA pipes with four cycles of latency need eight sums
 * in flight; larger tiles only save loads. Unrolling the channel loop by hand makes GCC spill and costs a
 * third. */
#ifndef AM_CONV_TILE_H
#define AM_CONV_TILE_H

#include "models/kernels/vec.h"

enum {
    BLOCK = 16, /* channels a block */
#if VW == 16
    ROWS_2 = 8,  /* rows of a tile two vectors wide */
    ROWS_1 = 16, /* rows of a tile one vector wide */
    CHANNELS_2 = 8,
    CHANNELS_1 = 16, /* input channels of a weight-gradient tile */
#elif VW == 8
    ROWS_2 = 6,
    ROWS_1 = 6,
    CHANNELS_2 = 4,
    CHANNELS_1 = 8,
#else
    ROWS_2 = 4,
    ROWS_1 = 4,
    CHANNELS_2 = 4,
    CHANNELS_1 = 8,
#endif
    ROWS_MAX = 16,
    ROWS_STEP = VW == 16 ? 16 : ROWS_2 /* scratch rows come in multiples of this */
};

/* Vectors across a tile for k output channels (a multiple of BLOCK), and the width of a packed weight panel.
 */
INLINE int tile_vectors(int k)
{
    return k % (2 * VW) == 0 ? 2 : 1;
}

INLINE int tile_width(int k)
{
    return tile_vectors(k) * VW;
}

/* Offset of the j-th vector of a panel in a blocked array whose blocks are `block` floats apart. */
INLINE size_t tile_vector_at(int j, size_t block)
{
    return (size_t)(j * VW / BLOCK) * block + (size_t)(j * VW % BLOCK);
}

struct tile_sum {
    vf v[ROWS_MAX][2];
};

INLINE void tile_zero(struct tile_sum *s, const int rows, const int vectors)
{
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) s->v[i][j] = (vf){0};
}

/* s[i][:] += sum over c < channels of a[i*row_step + c] * panel[c][:]. Returns the panel's end. */
INLINE const float *tile_multiply(struct tile_sum *s, const float *a, const int row_step, int channels,
                                  const float *panel, const int rows, const int vectors)
{
    NO_UNROLL for (int c = 0; c < channels; c++)
    {
        vf w[2];
        UNROLL for (int j = 0; j < vectors; j++) w[j] = vec_load(panel + j * VW);
        panel += vectors * VW;
        UNROLL for (int i = 0; i < rows; i++)
        {
            float x = a[i * row_step + c];
            UNROLL for (int j = 0; j < vectors; j++) s->v[i][j] += w[j] * x;
        }
    }
    return panel;
}

/* Weight gradient: dw[i][:] (rows ldw apart) += sum over rows r of x[r*x_step + i] * g[r*BLOCK ...][:]. */
INLINE void tile_outer(struct tile_sum *s, const float *x, const int x_step, const float *g, size_t g_block,
                       int n_rows, const int channels, const int vectors)
{
    NO_UNROLL for (int r = 0; r < n_rows; r++)
    {
        vf v[2];
        UNROLL for (int j = 0; j < vectors; j++) v[j] = vec_load(g + tile_vector_at(j, g_block));
        UNROLL for (int i = 0; i < channels; i++)
        {
            float f = x[i];
            UNROLL for (int j = 0; j < vectors; j++) s->v[i][j] += v[j] * f;
        }
        x += x_step;
        g += BLOCK;
    }
}

INLINE void tile_load(struct tile_sum *s, const float *p, size_t step, const int rows, const int vectors)
{
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) s->v[i][j] =
        vec_load(p + i * step + j * VW);
}

INLINE void tile_store(const struct tile_sum *s, float *p, size_t step, const int rows, const int vectors)
{
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++)
        vec_store(p + i * step + j * VW, s->v[i][j]);
}

#endif
