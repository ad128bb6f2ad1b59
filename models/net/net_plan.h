/* SPDX-License-Identifier: Apache-2.0
 *
 * net_plan.h - the inside of a network, shared by net.c (configuration, table), net_plan.c (sizes, arena),
 * net_forward.c and net_backward.c; nobody else includes it.
 *
 * Invariants
 *  1. Values of all tensors form one block in table order, trainable ones first; gradients mirror that part.
 *  2. A batch norm and the leaky ReLU behind it are two vectors (scale, shift); their result is not stored.
 *  3. NET_TRAIN keeps every raw convolution output (stem, h and out of each block) until the next forward.
 *     NET_INFER rotates three buffers: the running activation, h, and the output of a block whose shortcut
 *     is not the identity. Under running statistics each thread may take a part of them through the whole
 *     network with few images at a time; the rest of a buffer is then never touched.
 *  4. The gradient at a block's input is implicit in the conv_grad its backward returns; the convolution
 *     below stores it in `g` on the way, because that block's shortcut needs it again.
 *
 * Ownership: everything but the block list, the struct and the kernels' scratch lies in the arena. */
#ifndef AM_NET_PLAN_H
#define AM_NET_PLAN_H

#include "models/base/mem.h"
#include "models/kernels/kernels.h"
#include "models/net/net.h"

enum {
    NET_STEM = 16,       /* channels of the first convolution, whatever the width */
    NET_HEAD_SHARDS = 16 /* slices of the batch whose channel sums are added in order */
};

struct net_conv {
    struct conv_shape shape; /* n = max_batch; a call with fewer images copies it */
    float *kernel, *bias, *dkernel, *dbias;
    float *prepared; /* NET_INFER */
};

struct net_norm {
    int c;
    float *gamma, *beta, *dgamma, *dbeta, *running_mean, *running_var;
    float *scale, *shift; /* [c] of the last forward */
    double *mean, *inv;   /* [c] mean and 1/sqrt(var+eps) of the last forward */
    float *a, *b, *c0;    /* [c] backward coefficients, NET_TRAIN */
};

struct net_block {
    struct net_norm norm1, norm2;
    struct net_conv conv1, conv2, shortcut;
    bool has_shortcut;  /* a 1x1 convolution, because the channels differ */
    bool activated;     /* the shortcut starts behind norm1 + leaky ReLU, not at x */
    float *x, *h, *out; /* raw activations, NET_TRAIN */
};

struct net {
    struct net_config config;
    enum net_mode mode;
    int max_batch, n_blocks;
    struct net_conv stem;
    struct net_block *blocks; /* [n_blocks] */
    struct net_norm norm;     /* before the pooling */
    float *dense_kernel, *dense_bias, *dense_dkernel, *dense_dbias;

    int n_tensors;
    size_t n_trainable, n_values; /* floats */
    struct net_tensor *tensors;
    float *values, *grads;

    float *buffer[3];    /* NET_INFER, [max_batch, image_floats] */
    size_t image_floats; /* NET_INFER */
    int group;           /* NET_INFER: images that go through the network together on one thread */
    float *stem_out;     /* NET_TRAIN */
    float *g, *z1, *z2;  /* NET_TRAIN: gradients in flight */
    float
        *entry; /* NET_TRAIN: input of the first block's 1x1 shortcut, made again; before that the gradient */
                /* of one with stride, at the pixels it read */
    float *embedding, *logits, *dembedding;
    double *sums;       /* [2*widest] channel sums on their way from a convolution to a batch norm */
    double *shard_sums; /* [NET_HEAD_SHARDS, 2*embedding] */

    struct arena arena;
    struct conv_scratch *scratch;
    float *prepared; /* NET_TRAIN: the weights of the convolution at work; they change with every step */
    bool is_stale;   /* NET_INFER: weights changed since the kernels prepared them */
    int last_n;      /* of the last forward; 0 before it */
    enum net_bn last_bn;

    /* Sees the raw input of each block's two activations as the forward pass goes by; NULL for nobody. */
    void (*observe)(void *ctx, const struct net_norm *norm, const float *raw, size_t n_pixels);
    void *observe_ctx;
};

/* Sizes of the last stage: pixels per side and channels. */
int net_last_size(const struct net_config *c);

/* Fills shapes of every layer from the configuration; blocks must be allocated. */
void net_layout(struct net *net);
/* Plans the arena, opens it, hands out every buffer and builds the table of tensors. */
bool net_plan(struct net *net, struct err *e);
/* y = leaky(scale*x + shift), for the one block whose shortcut starts behind its activation. */
void net_activate(const struct net_norm *norm, const float *x, float *y, size_t n_pixels);
/* The last activation of one image -> its embedding (mean over pixels) and logits. */
void net_head(const struct net *net, const float *x, float *embedding, float *logits);

#endif
