/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_grad.h - what the fast bodies do to a vector of channels as they read it: activation of the input, the
 * gradient of struct conv_grad, the epilogue of dx. Private to kernels/. */
#ifndef AM_CONV_GRAD_H
#define AM_CONV_GRAD_H

#include "models/kernels/vec.h"

#include <stddef.h>

/* Stretches of memory the next stage will read or write. The bodies move memory in one stage and compute in
 * the next; asking for the next stage's memory a little at a time while computing hides its latency. Measured
 * on 112 images of 64x64x16, two Zen 5 cores: 3.7 to 2.7 ms forward, 8.1 to 6.2 ms backward. Inlined by
 * force: GCC drops a call without visible effect. */
struct ahead {
    int n_parts, n;
    struct {
        const float *p;
        size_t floats, step;
    } stretch[8];
};

INLINE void ahead_add(struct ahead *a, const float *p, size_t at, size_t floats)
{
    const size_t line = 16, parts = a->n_parts;
    if (!p || !floats)
        return;
    a->stretch[a->n].p = p + at;
    a->stretch[a->n].floats = floats;
    a->stretch[a->n++].step = (floats / line + parts - 1) / parts * line;
}

/* What the gradient of struct conv_grad is formed from and stored to. */
INLINE void ahead_add_grad(struct ahead *a, const struct conv_grad *g, size_t at, size_t floats)
{
    ahead_add(a, g->dz, at, floats);
    ahead_add(a, g->dz ? g->raw : NULL, at, floats);
    ahead_add(a, g->add, at, floats);
    ahead_add(a, g->thin, at / 4, floats / 4);
    ahead_add(a, g->store != g->add ? g->store : NULL, at, floats);
}

/* Asks for one part of each stretch. */
INLINE void ahead_fetch(const struct ahead *a, int part)
{
    for (int s = 0; s < a->n; s++) {
        const size_t from = part * a->stretch[s].step, n = a->stretch[s].floats;
        for (size_t i = from; i < from + a->stretch[s].step && i < n; i += 16)
            __builtin_prefetch(a->stretch[s].p + i, 0, 2);
    }
}

/* Scale and shift of VW channels; has_act false means the input is taken as it is. */
struct act_vec {
    vf scale, shift;
};

INLINE struct act_vec act_load(struct conv_act act, int c, const bool has_act)
{
    struct act_vec a = {{0}, {0}};
    if (has_act)
        a = (struct act_vec){vec_load(act.scale + c), vec_load(act.shift + c)};
    return a;
}

INLINE vf act_apply(const struct act_vec *a, vf x, const bool has_act)
{
    return has_act ? vec_lrelu(a->scale * x + a->shift) : x;
}

/* Which terms of struct conv_grad are present; the loops are compiled once for each combination. */
enum { GRAD_DZ = 1, GRAD_ADD = 2, GRAD_STORE = 4, GRAD_THIN = 8 };

INLINE int grad_kind(const struct conv_grad *g)
{
    return (g->dz ? GRAD_DZ : 0) | (g->add ? GRAD_ADD : 0) | (g->store ? GRAD_STORE : 0) |
           (g->thin ? GRAD_THIN : 0);
}

struct grad_vec {
    vf a, b, c0;
};

INLINE struct grad_vec grad_load(const struct conv_grad *g, int k, const int kind)
{
    struct grad_vec v = {{0}, {0}, {0}};
    if (kind & GRAD_DZ)
        v = (struct grad_vec){vec_load(g->a + k), vec_load(g->b + k), vec_load(g->c0 + k)};
    return v;
}

INLINE vf grad_form(const struct conv_grad *g, const struct grad_vec *v, size_t at, const int kind)
{
    vf out = {0};
    if (kind & GRAD_DZ)
        out = v->a * vec_load(g->dz + at) + (v->b * vec_load(g->raw + at) + v->c0);
    if (kind & GRAD_ADD)
        out += vec_load(g->add + at);
    return out;
}

#endif
