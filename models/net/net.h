/* SPDX-License-Identifier: Apache-2.0
 *
 * net.h - a pre-activation wide residual network as the MixMatch family defines it (google-research/mixmatch
 * and fixmatch, `ResNet`): plan, forward, backward. WRN-28-2 is scales 3, filters 32, repeats 4.
 *
 *   y = conv3x3(x, 16)
 *   for s in 0..scales-1, f = filters << s:
 *     block(f, stride s>0 ? 2 : 1, activate_before_residual s==0), then repeats-1 times block(f, 1)
 *   y = lrelu(BN(y));  e = mean over pixels (the embedding);  z = dense(e, n_classes)
 *
 * Every convolution and the dense layer has a bias; leaky ReLU slope 0.1; TensorFlow "SAME" padding.
 * Batch-norm: running = momentum*running + (1-momentum)*batch, biased variance, mean starts 0, variance 1.
 *
 * Sizes are planned and allocated by net_create; no later call allocates. The embedding and logits of the
 * last forward stay valid until the next one. Threads: one net is used by one thread at a time; OpenMP
 * inside. */
#ifndef AM_NET_H
#define AM_NET_H

#include "models/base/err.h"
#include <stddef.h>
#include <stdint.h>

struct net_config {
    int size;      /* input height = width in pixels; multiple of 2^(scales-1) */
    int c_in;      /* input channels */
    int n_classes; /* 2..1000 */
    int scales, filters, repeats;
    float bn_eps;      /* 1e-3 for the TensorFlow family */
    float bn_momentum; /* 0.999 */
};

/* Named sizes: "wrn-28-2" (3,32,4), "wrn-37-2" (4,32,4), "lite" (4,16,2), "lite3" (3,16,2), "wrn-10-2"
 * (3,32,1). Fills scales, filters, repeats and the batch-norm constants; ERR_USAGE lists the names. */
bool net_config_preset(struct net_config *c, const char *name, struct err *e);
bool net_config_check(const struct net_config *c, struct err *e);
size_t
net_count_params(const struct net_config *c); /* trainable numbers: 1,469,642 for WRN-28-2, 10 classes */

enum net_mode { NET_INFER, NET_TRAIN }; /* INFER keeps three activation buffers, TRAIN all raw outputs */

enum net_bn {
    NET_BN_BATCH,        /* batch statistics; running ones untouched */
    NET_BN_BATCH_UPDATE, /* batch statistics, and the running ones move */
    NET_BN_RUNNING       /* evaluation */
};

struct net;
/* All values are zero at first: call net_init, or fill them through net_tensors(). */
struct net *net_create(const struct net_config *c, int max_batch, enum net_mode mode, struct err *e);
void net_free(struct net *net);
const struct net_config *net_get_config(const struct net *net);
size_t net_arena_bytes(const struct net *net);

/* Conv kernels: normal(0, sqrt(2/(k*k*f_out))); dense: Glorot normal truncated at 2 sigma, variance restored;
 * biases 0; gamma 1, beta 0. A pure function of the seed. */
void net_init(struct net *net, uint64_t seed);

/* x [n,size,size,c_in] -> logits [n,n_classes] (owned by net). n <= max_batch. Weight changes made through
 * net_tensors() must be announced with net_weights_changed(). */
const float *net_forward(struct net *net, const float *x, int n, enum net_bn bn);
const float *net_embedding(const struct net *net); /* [n, filters << (scales-1)] of the last forward */
int net_embedding_size(const struct net_config *c);

/* Gradient of a loss with respect to the logits of the last forward (NET_TRAIN; x must still be intact) ->
 * gradients of every parameter, overwritten or, with accumulate, added to. `bn` must be what forward was
 * given: with batch statistics the gradient flows through mean and variance, with running ones it does not.
 */
void net_backward(struct net *net, const float *x, const float *dlogits, int n, enum net_bn bn,
                  bool accumulate);

/* The same with what few callers need besides. */
struct net_extra {
    const float *dembedding; /* NULL, or [n, embedding]: a gradient that enters beside the logits */
    float *dx;               /* NULL, or [n,size,size,c_in]: receives the gradient by the input; not x */
};
void net_backward_extra(struct net *net, const float *x, const float *dlogits, int n, enum net_bn bn,
                        bool accumulate, const struct net_extra *extra);

enum net_role { NET_KERNEL, NET_BIAS, NET_GAMMA, NET_BETA, NET_RUNNING_MEAN, NET_RUNNING_VAR };

struct net_tensor {
    char name[48]; /* "scale0.block1.conv2.kernel" */
    enum net_role role;
    int n_dims, dims[4];
    size_t count;
    float *value; /* lives in one contiguous block with the others, in table order, trainable ones first */
    float *grad;  /* NULL for running statistics and in NET_INFER */
};

/* The table of all tensors: trainable ones first (their values and gradients contiguous), running statistics
 * last. */
const struct net_tensor *net_tensors(const struct net *net, int *n_tensors);
size_t net_trainable_count(const struct net *net); /* floats */
void net_weights_changed(struct net *net);

#endif
