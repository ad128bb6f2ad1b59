/* SPDX-License-Identifier: Apache-2.0
 *
 * optim.h - optimisers, decay, schedules and the moving average of the weights (algorithm table: SGD with
 * momentum in TensorFlow's Nesterov form m = mu m + g, w -= lr (g + mu m); Adam of Kingma & Ba 2015; decay on
 * kernels only, either as L2 in the loss or decoupled, w *= 1 - wd*lr). Order of one step: optimiser, decay,
 * moving average. */
#ifndef AM_OPTIM_H
#define AM_OPTIM_H

#include "models/net/net.h"

enum optim_kind { OPTIM_SGD, OPTIM_ADAM };
enum optim_decay { OPTIM_DECAY_L2, OPTIM_DECAY_DECOUPLED };
enum optim_schedule {
    OPTIM_CONSTANT,
    OPTIM_COS_7_16 /* FixMatch: cos(7 pi k/16) */,
    OPTIM_COS_QUARTER /* AdaMatch: cos(acos(.25) k) */
};

struct optim_config {
    enum optim_kind kind;
    enum optim_decay decay;
    enum optim_schedule schedule;
    bool nesterov;
    float lr, momentum, beta1, beta2, epsilon, weight_decay, ema_decay;
    bool ema_running_stats; /* AdaMatch: the moving average also covers running mean and variance */
};

struct optim;
/* The net must outlive it. The moving average starts as a copy of the weights: create after net_init or after
 * loading. */
struct optim *optim_create(struct net *net, const struct optim_config *c, struct err *e);
void optim_free(struct optim *o);
double optim_lr(const struct optim_config *c, double fraction_done); /* the rate at t/T in [0,1] */
/* One update from the net's gradients; announces the change to the net. */
void optim_step(struct optim *o, double lr);
/* The same update, without average, of n weights that are no part of a net; step counts from 1, slots start
 * at 0, slot1 is Adam's. */
void optim_apply(const struct optim_config *c, uint64_t step, double lr, bool decays, size_t n,
                 const float *g, float *w, float *slot0, float *slot1);
/* Sum of 0.5*||kernel||^2 over decaying tensors (for the reported loss). */
double optim_l2(const struct optim *o);
/* Moving-average values in the order of net_tensors(), same count; running statistics included. */
const float *optim_ema(const struct optim *o);
size_t optim_state_count(const struct optim *o); /* floats per slot = trainable count */
int optim_slots(const struct optim *o);          /* 1 (momentum) or 2 (Adam m, v) */
float *optim_slot(struct optim *o, int slot);    /* writable: checkpoints load into it */
float *optim_ema_writable(struct optim *o);
uint64_t optim_steps_taken(const struct optim *o);
void optim_set_steps_taken(struct optim *o, uint64_t steps);

#endif
