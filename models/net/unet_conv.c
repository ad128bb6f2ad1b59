/* SPDX-License-Identifier: Apache-2.0
 *
 * unet_conv.c - a denoiser's convolutions: the program's go through the kernels of models/kernels, the double
 * build's are three loops, there to be looked at. Weights change with every call of unet_forward (student,
 * average, teacher), so they are brought into the kernel's form each time: under a hundredth of the work for
 * any batch worth running.
 *
 * A dense layer is a 1x1 convolution of n images of one pixel. A full batch is seen as 16 images of n/16 pixels
 * where that divides, which lets the kernels use a loaded weight more than once. */
#include "models/net/unet_parts.h"

#ifdef UNET_DOUBLE

bool unet_conv_open(struct unet *u, struct err *e)
{
    (void)u, (void)e;
    return true;
}

void unet_conv_close(struct unet *u)
{
    (void)u;
}

/* Calls at each pair of an output pixel and an input pixel that meet under one place of the kernel. */
#define FOR_EACH_PAIR(o, n)                                                                                  \
    for (int i = 0; i < (n); i++)                                                                            \
        for (int r = 0; r < (o)->h; r++)                                                                     \
            for (int s = 0; s < (o)->w; s++)                                                                 \
                for (int dr = 0; dr < (o)->ksize; dr++)                                                      \
                    for (int ds = 0; ds < (o)->ksize; ds++)                                                  \
                        if (r + dr - (o)->ksize / 2 >= 0 && r + dr - (o)->ksize / 2 < (o)->h &&              \
                            s + ds - (o)->ksize / 2 >= 0 && s + ds - (o)->ksize / 2 < (o)->w)

void unet_conv_forward(struct unet *u, const struct unet_node *o, const unet_real *values, int n)
{
    const struct unet_node *in = &u->nodes[o->a];
    const unet_real *w = values + u->tensors[o->kernel].start, *bias = values + u->tensors[o->bias].start;
    for (size_t p = 0; p < (size_t)n * o->h * o->w; p++)
        for (int k = 0; k < o->c; k++)
            o->y[p * o->c + k] = bias[k];
    FOR_EACH_PAIR(o, n)
    {
        const size_t to = (((size_t)i * o->h + r) * o->w + s) * o->c;
        const size_t at = (((size_t)i * o->h + r + dr - o->ksize / 2) * o->w + s + ds - o->ksize / 2) * in->c;
        const unet_real *tap = w + (size_t)(dr * o->ksize + ds) * in->c * o->c;
        for (int c = 0; c < in->c; c++)
            for (int k = 0; k < o->c; k++)
                o->y[to + k] += in->y[at + c] * tap[c * o->c + k];
    }
}

void unet_conv_backward(struct unet *u, const struct unet_node *o, const unet_real *values, unet_real *grads,
                        int n)
{
    const struct unet_node *in = &u->nodes[o->a];
    const unet_real *w = values + u->tensors[o->kernel].start;
    unet_real *dw = grads + u->tensors[o->kernel].start, *dbias = grads + u->tensors[o->bias].start;
    for (size_t i = 0; i < u->tensors[o->kernel].count; i++)
        dw[i] = 0;
    for (int k = 0; k < o->c; k++)
        dbias[k] = 0;
    for (size_t p = 0; p < (size_t)n * o->h * o->w; p++)
        for (int k = 0; k < o->c; k++)
            dbias[k] += o->g[p * o->c + k];
    FOR_EACH_PAIR(o, n)
    {
        const size_t to = (((size_t)i * o->h + r) * o->w + s) * o->c;
        const size_t at = (((size_t)i * o->h + r + dr - o->ksize / 2) * o->w + s + ds - o->ksize / 2) * in->c;
        const size_t tap = (size_t)(dr * o->ksize + ds) * in->c * o->c;
        for (int c = 0; c < in->c; c++)
            for (int k = 0; k < o->c; k++) {
                dw[tap + c * o->c + k] += in->y[at + c] * o->g[to + k];
                if (in->needs_grad)
                    in->g[at + c] += w[tap + c * o->c + k] * o->g[to + k];
            }
    }
}

#else

#include "models/kernels/kernels.h"

#include <stdlib.h>

enum { FOLDED = 16 }; /* images that a full batch of dense rows is seen as */

static struct conv_shape shape_of(const struct unet *u, const struct unet_node *o, int n)
{
    struct conv_shape s = {n, o->h, o->w, u->nodes[o->a].c, o->c, o->ksize, 1};
    if (o->h == 1 && o->w == 1 && n == u->max_batch && n % FOLDED == 0) {
        s.n = FOLDED;
        s.w = n / FOLDED;
    }
    return s;
}

bool unet_conv_open(struct unet *u, struct err *e)
{
    struct conv_shape *shapes =
        mem_array(2 * (size_t)u->n_nodes, sizeof *shapes, "the list of convolutions", e);
    int n = 0;
    if (!shapes || !kernels_init(e)) {
        free(shapes);
        return false;
    }
    for (int i = 0; i < u->n_nodes; i++)
        if (u->nodes[i].op == UNET_CONV) {
            shapes[n++] = shape_of(u, &u->nodes[i], u->max_batch);
            shapes[n++] = shape_of(u, &u->nodes[i], u->max_batch > 1 ? u->max_batch - 1 : 1);
        }
    u->scratch = conv_scratch_create(shapes, n, u->train, e);
    free(shapes);
    return u->scratch;
}

void unet_conv_close(struct unet *u)
{
    conv_scratch_free(u->scratch);
}

void unet_conv_forward(struct unet *u, const struct unet_node *o, const unet_real *values, int n)
{
    const struct conv_shape s = shape_of(u, o, n);
    conv_prepare(&s, values + u->tensors[o->kernel].start, u->prepared);
    conv_forward(&s, u->nodes[o->a].y, (struct conv_act){NULL, NULL}, u->prepared,
                 values + u->tensors[o->bias].start, NULL, o->y, NULL, u->scratch);
}

void unet_conv_backward(struct unet *u, const struct unet_node *o, const unet_real *values, unet_real *grads,
                        int n)
{
    const struct conv_shape s = shape_of(u, o, n);
    const struct unet_node *in = &u->nodes[o->a];
    const struct conv_grad g = {.add = o->g};
    conv_backward(&s, &g, in->y, (struct conv_act){NULL, NULL}, values + u->tensors[o->kernel].start,
                  grads + u->tensors[o->kernel].start, grads + u->tensors[o->bias].start, false,
                  in->needs_grad ? in->g : NULL, in->g, NULL, u->scratch);
}

#endif
