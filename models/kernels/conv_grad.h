/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_grad.h - what the fast bodies do to a vector of channels as they read it: activation of the input, the
 * gradient of struct conv_grad, the epilogue of dx. Private to kernels/. */
#ifndef AM_CONV_GRAD_H
#define AM_CONV_GRAD_H

#include "models/kernels/vec.h"

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
enum { GRAD_DZ = 1, GRAD_ADD = 2, GRAD_STORE = 4, GRAD_KINDS = 8 };

INLINE int grad_kind(const struct conv_grad *g)
{
    return (g->dz ? GRAD_DZ : 0) | (g->add ? GRAD_ADD : 0) | (g->store ? GRAD_STORE : 0);
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
