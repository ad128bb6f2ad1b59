/* SPDX-License-Identifier: Apache-2.0
 *
 * int8_vnni.c - int8.h on the CPU's four-way dot product (vpdpbusd): compiled once for AVX512-VNNI (VW = 16)
 * and once for AVX-VNNI (VW = 8).
 *
 * A tile is some pixels of an output row x one panel of output channels, held in registers. The three columns
 * that a 3x3 kernel reads in one row lie side by side in memory, so a tile's sum is three runs over
 * contiguous bytes: per four of them one broadcast a pixel, one load of weights a vector, and
 * pixels x vectors dot products. A panel's weights stay in the first-level cache while it sweeps the image.
 * Unlike Winograd there is nothing to transform, and no float but in the epilogue.
 *
 * The sum and the epilogue are functions of their own: together they need more registers than there are. */
#include "models/kernels/int8.h"
#include "models/kernels/vec.h"

#include <immintrin.h>
#include <string.h>

enum {
    PANEL = 32,
    WIDE = PANEL / VW, /* vectors of a full panel */
    THIN = 16 / VW,    /* vectors of a half one */
    PIXELS_WIDE = VW == 16 ? 8 : 4,
    PARTS = VW == 16 ? 1 : 2, /* a full panel's sum in so many runs: 16 registers hold no more */
    PIXELS_THIN = VW == 16 ? 16 : 4,
    PIXELS_MAX = 16
};

typedef int vi_unaligned __attribute__((vector_size(VW * 4), aligned(1), may_alias));
typedef int any_int __attribute__((aligned(1), may_alias));

INLINE vi dot4(vi sum, vi bytes, vi weights)
{
#if VW == 16
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)bytes, (__m512i)weights);
#else
    return (vi)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)bytes, (__m256i)weights);
#endif
}

INLINE vf fused(vf a, vf b, vf c)
{
#if VW == 16
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#endif
}

INLINE vf larger(vf a, vf b)
{
#if VW == 16
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#endif
}

INLINE vf smaller(vf a, vf b)
{
#if VW == 16
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#else
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#endif
}

INLINE vf leaky_relu(vf z)
{
    return larger(z, z * vec_splat(CONV_LRELU_SLOPE));
}

/* Bytes of n vectors of activations side by side: trunc(clamp(z + offset, 0, 255)). The conversion makes
 * what lies below every int the least int, and the narrowing steps clamp at both ends; only what lies above
 * every int needs a clamp before. */
INLINE vi to_int(vf z, vf offset)
{
    return __builtin_convertvector(smaller(vec_splat(255.0f), z + offset), vi);
}

INLINE void store_bytes(uint8_t *q, const vf *z, vf offset, const int n)
{
#if VW == 16
    const __m512i none = _mm512_setzero_si512();
    for (int v = 0; v < n; v++)
        _mm_storeu_si128((__m128i *)(q + v * VW),
                         _mm512_cvtusepi32_epi8(_mm512_max_epi32((__m512i)to_int(z[v], offset), none)));
#else
    /* the narrowing steps work within halves of 128 bits: a permutation brings the channels back in order */
    int v = 0;
    for (; v + 4 <= n; v += 4) {
        __m256i a = _mm256_packs_epi32((__m256i)to_int(z[v], offset), (__m256i)to_int(z[v + 1], offset));
        __m256i b = _mm256_packs_epi32((__m256i)to_int(z[v + 2], offset), (__m256i)to_int(z[v + 3], offset));
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256((__m256i *)(q + v * VW),
                            _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), order));
    }
    for (; v < n; v++) {
        __m256i a = (__m256i)to_int(z[v], offset);
        __m128i b = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
        _mm_storel_epi64((__m128i *)(q + v * VW), _mm_packus_epi16(b, b));
    }
#endif
}

/* ---- the sum */

struct run {
    const uint8_t *in; /* first byte of the tile's first pixel */
    size_t row_bytes;  /* between the kernel's rows */
    int rows, quads;   /* the kernel's rows, and groups of four bytes in each */
    const int8_t *panel;
};

INLINE void sum_tile(const struct run *r, const size_t step, const int width, int *out, const int pixels,
                     const int vectors)
{
    vi sum[PIXELS_MAX][WIDE];
    const int8_t *panel = r->panel;
    UNROLL for (int p = 0; p < pixels; p++) UNROLL for (int v = 0; v < vectors; v++) sum[p][v] = (vi){0};
    for (int row = 0; row < r->rows; row++) {
        const uint8_t *in = r->in + row * r->row_bytes;
        NO_UNROLL for (int q = 0; q < r->quads; q++)
        {
            vi w[WIDE];
            UNROLL for (int v = 0; v < vectors; v++) w[v] = *(const vi_unaligned *)(panel + v * VW * 4);
            UNROLL for (int p = 0; p < pixels; p++)
            {
                vi bytes = (vi){0} + *(const any_int *)(in + p * step);
                UNROLL for (int v = 0; v < vectors; v++) sum[p][v] = dot4(sum[p][v], bytes, w[v]);
            }
            in += 4;
            panel += width * 4;
        }
    }
    UNROLL for (int p = 0; p < pixels; p++) UNROLL for (int v = 0; v < vectors; v++) *
        (vi_unaligned *)(out + p * PANEL + v * VW) = sum[p][v];
}

/* Constant steps give the pixels' addresses to the instruction instead of to registers. */
INLINE void sum_steps(const struct run *r, size_t step, const int width, int *out, const int pixels,
                      const int vectors)
{
    switch (step) {
    case 16:
        sum_tile(r, 16, width, out, pixels, vectors);
        break;
    case 32:
        sum_tile(r, 32, width, out, pixels, vectors);
        break;
    case 64:
        sum_tile(r, 64, width, out, pixels, vectors);
        break;
    case 128:
        sum_tile(r, 128, width, out, pixels, vectors);
        break;
    case 256:
        sum_tile(r, 256, width, out, pixels, vectors);
        break;
    default:
        sum_tile(r, step, width, out, pixels, vectors);
    }
}

static __attribute__((noinline)) void sum_wide(const struct run *r, size_t step, int *out)
{
    struct run part = *r;
    for (int i = 0; i < PARTS; i++) {
        sum_steps(&part, step, PANEL, out + i * PANEL / PARTS, PIXELS_WIDE, WIDE / PARTS);
        part.panel += 4 * PANEL / PARTS;
    }
}

static __attribute__((noinline)) void sum_thin(const struct run *r, size_t step, int *out)
{
    sum_steps(r, step, PANEL / 2, out, PIXELS_THIN, THIN);
}

static __attribute__((noinline)) void sum_one(const struct run *r, int *out, int vectors)
{
    if (vectors == WIDE)
        sum_tile(r, 0, PANEL, out, 1, WIDE);
    else
        sum_tile(r, 0, PANEL / 2, out, 1, THIN);
}

/* ---- the epilogue */

struct place {
    size_t flat;   /* of the tile's first pixel and channel in [oh,ow,k] */
    size_t padded; /* the same in [oh+2][ow+2][k] */
    int k, pixels;
};

INLINE void finish_tile(const struct int8_epilogue *e, const int *tile, const struct place *at, int stride,
                        const int vectors, const bool has_residual, const bool has_out, const bool has_q,
                        const bool has_scale)
{
    const vf offset = vec_splat(e->zero + 0.5f);
    vf mul[WIDE], add[WIDE], scale[WIDE], shift[WIDE];
    UNROLL for (int v = 0; v < vectors; v++)
    {
        const int k = at->k + v * VW;
        mul[v] = vec_load(e->mul + k);
        add[v] = vec_load(e->add + k);
        scale[v] = has_scale ? vec_load(e->scale + k) : (vf){0};
        shift[v] = has_scale ? vec_load(e->shift + k) : (vf){0};
    }
    for (int p = 0; p < at->pixels; p++) {
        const size_t flat = at->flat + (size_t)p * stride;
        vf z[WIDE];
        UNROLL for (int v = 0; v < vectors; v++)
        {
            vi sum = *(const vi_unaligned *)(tile + p * PANEL + v * VW);
            vf y = fused(__builtin_convertvector(sum, vf), mul[v], add[v]);
            if (has_residual)
                y += vec_load(e->residual + flat + v * VW);
            if (has_out)
                vec_store(e->out + flat + v * VW, y);
            z[v] = leaky_relu(has_scale ? fused(y, scale[v], shift[v]) : y);
        }
        if (has_q)
            store_bytes(e->q + at->padded + (size_t)p * stride, z, offset, vectors);
    }
}

/* The combinations a network uses get a body each. */
static __attribute__((noinline)) void finish(const struct int8_epilogue *e, const int *tile,
                                             const struct place *at, int stride, int vectors)
{
#define FINISH(residual_, out_, q_, scale_)                                                                  \
    do {                                                                                                     \
        if (vectors == WIDE)                                                                                 \
            finish_tile(e, tile, at, stride, WIDE, residual_, out_, q_, scale_);                             \
        else                                                                                                 \
            finish_tile(e, tile, at, stride, THIN, residual_, out_, q_, scale_);                             \
        return;                                                                                              \
    } while (0)
    if (!e->residual && !e->out && e->q && !e->scale)
        FINISH(false, false, true, false);
    if (e->residual && e->out && e->q && e->scale)
        FINISH(true, true, true, true);
    if (!e->residual && e->out && !e->q)
        FINISH(false, true, false, false);
    FINISH(e->residual != NULL, e->out != NULL, e->q != NULL, e->scale != NULL);
#undef FINISH
}

/* ---- the passes */

static void fill_border(uint8_t *q, int h, int w, int c, float zero)
{
    const size_t row = (size_t)(w + 2) * c;
    memset(q, (int)zero, row);
    memset(q + (size_t)(h + 1) * row, (int)zero, row);
    for (int i = 1; i <= h; i++) {
        memset(q + i * row, (int)zero, c);
        memset(q + (i + 1) * row - c, (int)zero, c);
    }
}

static void conv(const struct int8_shape *s, const uint8_t *x, const int8_t *packed,
                 const struct int8_epilogue *e)
{
    const int oh = s->h / s->stride, ow = s->w / s->stride;
    const size_t row = (size_t)(s->w + 2) * s->c, step = (size_t)s->stride * s->c;
    const int first = s->ksize == 1 || s->stride == 2 ? 1 : 0;
    int tile[PIXELS_MAX * PANEL] __attribute__((aligned(64)));
    if (e->q)
        fill_border(e->q, oh, ow, s->k, e->zero);
    for (int k = 0; k < s->k; k += PANEL) {
        const bool is_wide = s->k - k >= PANEL;
        const int vectors = is_wide ? WIDE : THIN, full = is_wide ? PIXELS_WIDE : PIXELS_THIN;
        struct run r = {.row_bytes = row,
                        .rows = s->ksize,
                        .quads = s->ksize * s->c / 4,
                        .panel = packed + (size_t)k * s->ksize * s->ksize * s->c};
        for (int i = 0; i < oh; i++)
            for (int j = 0, pixels; j < ow; j += pixels) {
                pixels = ow - j >= full ? full : 1;
                r.in = x + (size_t)(i * s->stride + first) * row + (size_t)(j * s->stride + first) * s->c;
                if (pixels == 1)
                    sum_one(&r, tile, vectors);
                else if (is_wide)
                    sum_wide(&r, step, tile);
                else
                    sum_thin(&r, step, tile);
                const struct place at = {((size_t)i * ow + j) * s->k + k,
                                         ((size_t)(i + 1) * (ow + 2) + j + 1) * s->k + k, k, pixels};
                finish(e, tile, &at, s->k, vectors);
            }
    }
}

static void quantize(const float *x, int h, int w, int c, int pick, const float *scale, const float *shift,
                     bool leaky, float zero, uint8_t *q)
{
    const int oh = h / pick, ow = w / pick, even = c / VW * VW;
    if (even != c) {
        int8_plain.quantize(x, h, w, c, pick, scale, shift, leaky, zero, q);
        return;
    }
    const vf offset = vec_splat(zero + 0.5f);
    fill_border(q, oh, ow, c, zero);
    for (int i = 0; i < oh; i++)
        for (int j = 0; j < ow; j++) {
            const float *in = x + ((size_t)i * w + j) * pick * c;
            uint8_t *out = q + ((size_t)(i + 1) * (ow + 2) + j + 1) * c;
            for (int k = 0; k < c; k += VW) {
                vf z = fused(vec_load(in + k), vec_load(scale + k), vec_load(shift + k));
                z = leaky ? leaky_relu(z) : z;
                store_bytes(out + k, &z, offset, 1);
            }
        }
}

const struct int8_body LEVEL(int8) = {conv, quantize};
