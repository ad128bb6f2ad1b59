/* SPDX-License-Identifier: Apache-2.0
 *
 * vec.h - VW floats at once in GNU C vector extensions; the including file is compiled once per
 * instruction-set level with VW = 4 (baseline), 8 (avx2) or 16 (avx512) and KERNEL_LEVEL = the level's name.
 * Private to kernels/.
 *
 * Everything here is inlined by force: a function that passes vectors by value must not cross two levels. */
#ifndef AM_VEC_H
#define AM_VEC_H

#include "models/kernels/kernels.h"

#if !defined VW || !defined KERNEL_LEVEL
#error "compile with -DVW=... -DKERNEL_LEVEL=..."
#endif

/* LEVEL(name) is name_avx512 and so on: each level's objects carry their own symbols. */
#define LEVEL_PASTE(name, level) name##_##level
#define LEVEL_EXPAND(name, level) LEVEL_PASTE(name, level)
#define LEVEL(name) LEVEL_EXPAND(name, KERNEL_LEVEL)

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#define NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#define NO_UNROLL _Pragma("GCC unroll 1")
#endif

typedef float vf __attribute__((vector_size(VW * 4), may_alias));
typedef int vi __attribute__((vector_size(VW * 4), may_alias));
typedef float vf_unaligned __attribute__((vector_size(VW * 4), aligned(4), may_alias));

INLINE vf vec_load(const float *p)
{
    return *(const vf_unaligned *)p;
}

INLINE void vec_store(float *p, vf v)
{
    *(vf_unaligned *)p = v;
}

INLINE vf vec_splat(float x)
{
    return (vf){0} + x;
}

/* v where v is not negative, CONV_LRELU_SLOPE * v elsewhere: the sign bit picks the factor. */
INLINE vf vec_lrelu(vf v)
{
    const vi one = (vi)vec_splat(1.0f), slope = (vi)vec_splat(CONV_LRELU_SLOPE);
    return v * (vf)((((vi)v >> 31) & (one ^ slope)) ^ one);
}

/* Derivative at z, slope at zero included as TensorFlow has it. */
INLINE vf vec_lrelu_slope(vf z)
{
    const vi one = (vi)vec_splat(1.0f), slope = (vi)vec_splat(CONV_LRELU_SLOPE);
    return (vf)(((z > 0.0f) & (one ^ slope)) ^ slope);
}

/* sums[i] += v[i] in double. */
INLINE void vec_add_double(double *sums, vf v)
{
    float lanes[VW];
    vec_store(lanes, v);
    for (int i = 0; i < VW; i++)
        sums[i] += (double)lanes[i];
}

#endif
