/* SPDX-License-Identifier: Apache-2.0
 *
 * net_quant.h - a network's forward pass on 8-bit integers: an approximation of net_forward(...,
 * NET_BN_RUNNING) that a caller chooses for its speed and answers for; nothing falls into it by itself.
 *
 * Create, show it representative images (fp32 forward passes that note the range of every activation),
 * freeze, then run. Convolution weights get one scale per output channel, activations one scale and zero
 * point per tensor (Jacob et al., "Quantization and Training of Neural Networks for Efficient
 * Integer-Arithmetic-Only Inference", CVPR 2018). The first convolution, the residual sums and the last layer
 * stay in fp32, and so do whole images whose two best classes lie closer together than 8 bits can tell apart:
 * their results are net_forward()'s own.
 *
 * Ownership: borrows the net, whose weights must not change and whose buffers it uses. Threads: one user at a
 * time; OpenMP inside, one image a thread, so results do not depend on the thread count. */
#ifndef AM_NET_QUANT_H
#define AM_NET_QUANT_H

#include "models/net/net.h"

struct net_quant;
/* net: NET_INFER with its final weights. ERR_USAGE when channel counts are no multiple of 16. */
struct net_quant *net_quant_create(struct net *net, struct err *e);
void net_quant_free(struct net_quant *q); /* accepts NULL */
/* x [n,size,size,c_in], n <= the net's max_batch; any number of times before the freeze. */
void net_quant_observe(struct net_quant *q, const float *x, int n);
/* Quantizes; at least one image must have been observed. Allocates nothing. */
void net_quant_freeze(struct net_quant *q);
/* As net_forward() and net_embedding(); results are the net's buffers. */
const float *net_quant_forward(struct net_quant *q, const float *x, int n);

#endif
