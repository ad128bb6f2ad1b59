/* SPDX-License-Identifier: Apache-2.0
 *
 * unet_parts.h - the inside of a denoiser, shared by unet.c (memory, passes), unet_build.c (which layers),
 * unet_ops.c, unet_conv.c and unet_attention.c (what they compute), and by lagnet.c, which makes other networks
 * of the same layers; nobody else includes it.
 *
 * A network is a list of nodes; node i reads nodes before it. Forward walks it up, backward down. A node's
 * gradient is the sum over its readers: every backward adds to the gradient of its inputs, which starts as
 * zero. Each tensor belongs to one node, so its gradient is written once.
 *
 * Sizes of values: y and g [n,h,w,c]; NORM keeps mean and 1/sd of each group in aux [n,2*groups] and the sums
 * of its backward in part [n,2*c]; ATTEND keeps its softmax in aux [n,heads,L,L] and its gradient in part of
 * the same size, L = h*w. LEAKY and RESIDUE keep their slopes in aux, of the size of y.
 *
 * Networks of CONV, LEAKY, RESIDUE and linear layers alone are piecewise linear, and so have a tangent pass: with
 * `tangent` set, LEAKY and RESIDUE multiply by the slopes of the last forward instead of forming new ones. It
 * leaves tangents in y, and a backward after it gives the derivative of the tangent by the weights. */
#ifndef AM_UNET_PARTS_H
#define AM_UNET_PARTS_H

#include "models/base/mem.h"
#include "models/net/unet.h"

#define UNET_NORM_EPS 1e-5

enum unet_op {
    UNET_INPUT,
    UNET_TIME,  /* sines and cosines of the time */
    UNET_CLASS, /* a row of a table, plus bias */
    UNET_CONV,  /* 3x3 or 1x1, stride 1; a dense layer is a 1x1 on one pixel */
    UNET_NORM,  /* group norm; b: scale and shift [n,1,1,2c] or -1; then swish if told */
    UNET_SWISH,
    UNET_DOWN,   /* 2x2 mean */
    UNET_UP,     /* nearest neighbour, twice as large */
    UNET_CONCAT, /* channels of a, then of b */
    UNET_ADD,    /* a + b, of one size */
    UNET_ATTEND, /* softmax(q k' / sqrt(d)) v of a's channels (q, k, v) */
    UNET_LEAKY,  /* a, times factor where negative; factor 0: ReLU */
    UNET_BLEND,  /* a + factor b, of one size */
    UNET_STACK,  /* 2x2 pixels become channels: c -> 4c + 2dy + dx */
    UNET_RESIDUE /* |b - a| in steps of factor, as if there were no steps for the gradient; none goes to b */
};

struct unet_node {
    enum unet_op op;
    int a, b; /* nodes read; -1: none */
    int h, w, c;
    int ksize, heads;
    bool swish, needs_grad;
    unet_real factor;
    int kernel, bias;             /* tensors; -1: none */
    size_t aux_count, part_count; /* an image */
    unet_real *y, *g, *aux, *part;
};

struct conv_scratch;

struct unet {
    struct unet_config config;
    int max_batch, last_n;
    bool train, tangent;
    int n_nodes, n_tensors, room_nodes, room_tensors;
    struct unet_node *nodes;
    struct unet_tensor *tensors;
    size_t n_values;
    struct arena arena;
    float *prepared; /* weights of the convolution at work, in the form its kernel reads */
    struct conv_scratch *scratch;
    double *angle; /* [max_batch] of the last forward */
    int *label;    /* [max_batch] */
};

/* unet_build.c: fills nodes and tensors (no memory for values yet). */
bool unet_build(struct unet *u, struct err *e);

/* unet.c: memory for the nodes of u, which is taken over and freed on failure; the passes over all nodes but
 * inputs, whose y is filled and whose needs_grad is set before. In the backward pass the last node's g is set and
 * every other one zero; unet_clear_grads() makes them so. */
struct unet *unet_finish(struct unet *u, int max_batch, bool train, struct err *e);
void unet_run_forward(struct unet *u, const unet_real *values, int n);
void unet_clear_grads(struct unet *u);
void unet_run_backward(struct unet *u, const unet_real *values, unet_real *grads);

/* unet_conv.c: what a build's convolutions need besides, and the convolutions. */
bool unet_conv_open(struct unet *u, struct err *e);
void unet_conv_close(struct unet *u);
void unet_conv_forward(struct unet *u, const struct unet_node *o, const unet_real *values, int n);
void unet_conv_backward(struct unet *u, const struct unet_node *o, const unet_real *values, unet_real *grads,
                        int n);

/* unet_attention.c */
void unet_attend_forward(const struct unet *u, const struct unet_node *o, int n);
void unet_attend_backward(const struct unet *u, const struct unet_node *o, int n);

/* unet_ops.c: all other nodes but UNET_INPUT. */
void unet_op_forward(const struct unet *u, const struct unet_node *o, const unet_real *values, int n);
void unet_op_backward(const struct unet *u, const struct unet_node *o, const unet_real *values,
                      unet_real *grads, int n);

static inline size_t unet_node_size(const struct unet_node *o)
{
    return (size_t)o->h * o->w * o->c;
}

#endif
