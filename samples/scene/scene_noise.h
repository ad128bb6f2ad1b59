/* SPDX-License-Identifier: Apache-2.0
 *
 * scene_noise.h - the textures' arithmetic: integer hashing and value noise, as inline functions because
 * every pixel of a scene calls them several times.
 *
 * A texture is a pure function of place and salt; a salt is drawn once from models/base/rng.h, so a scene
 * depends on its seed alone and any tile can be computed by any thread. Philox itself would cost some 30 ns
 * per lattice point, ten times what the multiply-and-shift mixer here does, and nothing statistical hangs on
 * these numbers.
 *
 * Value noise: a random number at each point of the integer lattice, blended with 3t^2-2t^3, range [0,1). */
#ifndef AM_SCENE_NOISE_H
#define AM_SCENE_NOISE_H

#include <math.h>
#include <stdint.h>

static inline uint32_t noise_mix(uint32_t h)
{
    h ^= h >> 16;
    h *= 0x7feb352du;
    h ^= h >> 15;
    h *= 0x846ca68bu;
    return h ^ (h >> 16);
}

static inline uint32_t noise_hash(int32_t x, int32_t y, uint32_t salt)
{
    return noise_mix((uint32_t)x * 0x9e3779b1u ^ noise_mix((uint32_t)y * 0x85ebca77u ^ salt));
}

static inline float noise_unit(uint32_t h)
{
    return (float)(h >> 8) * 0x1p-24f;
}

static inline float noise_clamp(float t)
{
    return t < 0.0f ? 0.0f : t > 1.0f ? 1.0f : t;
}

/* 0 below a, 1 above b, smooth between. */
static inline float noise_step(float a, float b, float t)
{
    t = noise_clamp((t - a) / (b - a));
    return t * t * (3.0f - 2.0f * t);
}

static inline float noise_value(float x, float y, uint32_t salt)
{
    int32_t ix = (int32_t)x, iy = (int32_t)y; /* floor by hand: plain x86-64 has it only as a call */
    ix -= x < (float)ix;
    iy -= y < (float)iy;
    float tx = x - (float)ix, ty = y - (float)iy;
    tx = tx * tx * (3.0f - 2.0f * tx);
    ty = ty * ty * (3.0f - 2.0f * ty);
    float a = noise_unit(noise_hash(ix, iy, salt)), b = noise_unit(noise_hash(ix + 1, iy, salt));
    float c = noise_unit(noise_hash(ix, iy + 1, salt)), d = noise_unit(noise_hash(ix + 1, iy + 1, salt));
    float top = a + (b - a) * tx, bottom = c + (d - c) * tx;
    return top + (bottom - top) * ty;
}

/* Sum of n octaves, each of half the size and half the strength; still in [0,1). */
static inline float noise_octaves(float x, float y, int n, uint32_t salt)
{
    float sum = 0.0f, weight = 0.0f, k = 1.0f;
    for (int i = 0; i < n; i++) {
        sum += k * noise_value(x, y, salt + (uint32_t)i * 0x632be5abu);
        weight += k;
        k *= 0.5f;
        x = x * 2.03f + 17.3f;
        y = y * 2.03f - 9.1f;
    }
    return sum / weight;
}

#endif
