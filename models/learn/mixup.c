/* SPDX-License-Identifier: Apache-2.0
 *
 * mixup.c - rows of a step mixed and interleaved in place (Zhang, Cisse, Dauphin, Lopez-Paz: "mixup", ICLR
 * 2018, in MixMatch's form, Berthelot et al. 2019, section 3.3).
 *
 *   x'_i = l'_i x_i + (1 - l'_i) x_perm(i),  same for targets;  l' = max(l, 1-l), one l ~ Beta(alpha, alpha)
 * an item
 *
 * In place. Along a cycle of the permutation every row is read by its predecessor only, so a walk needs a
 * copy of the cycle's first row and nothing else. Rows are cut into slabs of floats; each slab is walked
 * alone, so any thread may take any slab and the bits do not depend on their number. The random numbers of
 * step t are stream RNG_MIXUP, index t: first the permutation, then the shares in row order.
 *
 * Interleaving spreads labelled rows over all passes, so that the batch statistics of each pass see both
 * kinds (section 1.5 of the family's published code, `interleave`). */
#include "models/learn/method.h"

#include <assert.h>

enum { SLAB = 1024 };
static const uint32_t SEEN = UINT32_C(1) << 31;

static void swap_rows(float *a, float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float t = a[i];
        a[i] = b[i];
        b[i] = t;
    }
}

/* Floats from..to of every row. perm and share are relative to the first row. */
static void mix_slab(float *rows, size_t stride, size_t from, size_t to, int n, const uint32_t *perm,
                     const uint32_t *walk, const float *share)
{
    float kept[SLAB];
    uint32_t start = 0;
    for (int k = 0; k < n; k++) {
        uint32_t i = walk[k], partner = perm[i];
        float *x = rows + (size_t)i * stride + from;
        if (k == 0 || perm[walk[k - 1]] == start) { /* the cycle before has closed */
            start = i;
            for (size_t j = 0; j < to - from; j++)
                kept[j] = x[j];
        }
        const float *other = partner == start ? kept : rows + (size_t)partner * stride + from;
        float l = share[i], rest = 1.0f - l;
        for (size_t j = 0; j < to - from; j++)
            x[j] = l * x[j] + rest * other[j];
    }
}

static void mix_all(float *rows, size_t stride, int n, const uint32_t *perm, const uint32_t *walk,
                    const float *share)
{
    int n_slabs = (int)((stride + SLAB - 1) / SLAB);
#pragma omp parallel for schedule(static)
    for (int slab = 0; slab < n_slabs; slab++) {
        size_t from = (size_t)slab * SLAB, to = from + SLAB < stride ? from + SLAB : stride;
        mix_slab(rows, stride, from, to, n, perm, walk, share);
    }
}

void mixup_rows(struct method_step *s, int first, int n, double alpha)
{
    struct rng r;
    uint32_t *perm = s->order, *walk = s->order + s->n_rows;
    if (!(alpha > 0))
        return;
    assert(first >= 0 && first + n <= s->n_rows);
    rng_init(&r, s->seed, RNG_MIXUP, (uint64_t)s->step);
    rng_permutation(&r, perm, (uint32_t)n);
    for (int i = 0; i < n; i++) {
        float l = (float)rng_beta(&r, alpha, alpha);
        s->share[i] = l > 0.5f ? l : 1.0f - l;
    }
    for (int i = 0, k = 0; i < n; i++)
        for (uint32_t at = (uint32_t)i; !(perm[at] & SEEN); at = perm[at] & ~SEEN) {
            walk[k++] = at;
            perm[at] |= SEEN;
        }
    for (int i = 0; i < n; i++)
        perm[i] &= ~SEEN;
    mix_all(s->x + (size_t)first * s->x_stride, s->x_stride, n, perm, walk, s->share);
    mix_all(s->target + (size_t)first * (size_t)s->n_classes, (size_t)s->n_classes, n, perm, walk, s->share);
}

int mixup_group(int n, int n_lists, int g)
{
    int small = n / n_lists, larger = n % n_lists, late = g - (n_lists - larger);
    return g * small + (late > 0 ? late : 0);
}

void mixup_interleave(struct method_step *s, int first, int n_lists, int n)
{
    for (int i = 1; i < n_lists; i++)
        for (int j = mixup_group(n, n_lists, i); j < mixup_group(n, n_lists, i + 1); j++) {
            size_t a = (size_t)(first + j), b = (size_t)(first + i * n + j), classes = (size_t)s->n_classes;
            swap_rows(s->x + a * s->x_stride, s->x + b * s->x_stride, s->x_stride);
            swap_rows(s->target + a * classes, s->target + b * classes, classes);
        }
}

bool mixup_is_first(int n, int n_lists, int list, int i)
{
    return i >= mixup_group(n, n_lists, list) && i < mixup_group(n, n_lists, list + 1);
}
