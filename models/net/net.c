/* SPDX-License-Identifier: Apache-2.0
 *
 * net.c - configuration, life and initial weights of the network declared in net.h. Architecture: Zagoruyko &
 * Komodakis, "Wide Residual Networks", BMVC 2016, in the variant of Berthelot et al., "MixMatch", NeurIPS
 * 2019, code: stem of 16 channels, biases everywhere, leaky ReLU, first block's shortcut behind the
 * activation. */
#include "models/net/net_plan.h"

#include "models/base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int scales, filters, repeats;
} presets[] = {
    {"wrn-28-2", 3, 32, 4}, {"wrn-37-2", 4, 32, 4}, {"lite", 4, 16, 2},
    {"lite3", 3, 16, 2},    {"wrn-10-2", 3, 32, 1},
};

enum { MAX_CHANNELS = 4096 }; /* what the kernels take */

bool net_config_preset(struct net_config *c, const char *name, struct err *e)
{
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        if (strcmp(presets[i].name, name) != 0)
            continue;
        c->scales = presets[i].scales;
        c->filters = presets[i].filters;
        c->repeats = presets[i].repeats;
        c->bn_eps = 1e-3f;
        c->bn_momentum = 0.999f;
        return true;
    }
    return err_set(e, ERR_USAGE,
                   "no network is called \"%s\"; choose wrn-28-2, wrn-37-2, lite, lite3 or wrn-10-2", name);
}

/* The caps keep every product below far from overflow; they also bound what a hostile model file can ask for.
 */
bool net_config_check(const struct net_config *c, struct err *e)
{
    if (c->scales < 1 || c->scales > 6)
        return err_set(e, ERR_INPUT, "a network has 1 to 6 scales, not %d", c->scales);
    if (c->filters < 1 || c->filters > 512)
        return err_set(e, ERR_INPUT, "a network has 1 to 512 base filters, not %d", c->filters);
    if (net_embedding_size(c) > MAX_CHANNELS)
        return err_set(e, ERR_INPUT, "%d base filters over %d scales make more than %d channels; use fewer",
                       c->filters, c->scales, MAX_CHANNELS);
    if (c->repeats < 1 || c->repeats > 16)
        return err_set(e, ERR_INPUT, "a network has 1 to 16 blocks a scale, not %d", c->repeats);
    if (c->c_in < 1 || c->c_in > 64)
        return err_set(e, ERR_INPUT, "a network takes 1 to 64 input channels, not %d", c->c_in);
    if (c->n_classes < 2 || c->n_classes > 1000)
        return err_set(e, ERR_INPUT, "a network tells 2 to 1000 classes apart, not %d", c->n_classes);
    int step = 1 << (c->scales - 1);
    if (c->size < step || c->size > 1024 || c->size % step != 0)
        return err_set(e, ERR_INPUT,
                       "images must be a multiple of %d pixels wide, at most 1024, for %d scales, not %d",
                       step, c->scales, c->size);
    if (!(c->bn_eps > 0 && c->bn_eps < 1))
        return err_set(e, ERR_INPUT, "the batch-norm epsilon must lie between 0 and 1, not %g",
                       (double)c->bn_eps);
    if (!(c->bn_momentum >= 0 && c->bn_momentum < 1))
        return err_set(e, ERR_INPUT, "the batch-norm momentum must be 0 or more and below 1, not %g",
                       (double)c->bn_momentum);
    return true;
}

/* Written as the sum one would do by hand; net_plan.c checks its own table against it. */
size_t net_count_params(const struct net_config *c)
{
    size_t count = (size_t)9 * c->c_in * NET_STEM + NET_STEM;
    size_t in = NET_STEM, out = 0;
    for (int s = 0; s < c->scales; s++) {
        out = (size_t)c->filters << s;
        for (int r = 0; r < c->repeats; r++) {
            count += 2 * in + 9 * in * out + out;   /* norm1, conv1 */
            count += 2 * out + 9 * out * out + out; /* norm2, conv2 */
            if (in != out)
                count += in * out + out;
            in = out;
        }
    }
    return count + 2 * out + out * c->n_classes + c->n_classes;
}

int net_embedding_size(const struct net_config *c)
{
    return c->filters << (c->scales - 1);
}

struct net *net_create(const struct net_config *c, int max_batch, enum net_mode mode, struct err *e)
{
    if (!net_config_check(c, e) || !kernels_init(e))
        return NULL;
    if (max_batch < 1) {
        err_set(e, ERR_INPUT, "a batch holds at least one image, not %d", max_batch);
        return NULL;
    }
    struct net *net = mem_array(1, sizeof *net, "the network", e);
    if (!net)
        return NULL;
    net->config = *c;
    net->max_batch = max_batch;
    net->mode = mode;
    net->n_blocks = c->scales * c->repeats;
    net->is_stale = true;
    net->blocks = mem_array((size_t)net->n_blocks, sizeof *net->blocks, "the network's layers", e);
    if (!net->blocks)
        goto fail;
    net_layout(net);
    if (!net_plan(net, e))
        goto fail;
    return net;
fail:
    net_free(net);
    return NULL;
}

void net_free(struct net *net)
{
    if (!net)
        return;
    conv_scratch_free(net->scratch);
    arena_close(&net->arena);
    free(net->blocks);
    free(net);
}

const struct net_config *net_get_config(const struct net *net)
{
    return &net->config;
}

size_t net_arena_bytes(const struct net *net)
{
    return net->arena.size_bytes + conv_scratch_bytes(net->scratch);
}

const float *net_embedding(const struct net *net)
{
    assert(net->last_n > 0);
    return net->embedding;
}

const struct net_tensor *net_tensors(const struct net *net, int *n_tensors)
{
    if (n_tensors)
        *n_tensors = net->n_tensors;
    return net->tensors;
}

size_t net_trainable_count(const struct net *net)
{
    return net->n_trainable;
}

void net_weights_changed(struct net *net)
{
    net->is_stale = true;
}

/* Normal variates beyond two sigma are drawn again; the rest has 0.8796 of the variance's root, which is
 * given back. */
static double truncated_normal(struct rng *r)
{
    static const double shrink = 0.87962566103423978;
    for (;;) {
        double z = rng_normal(r);
        if (fabs(z) <= 2.0)
            return z / shrink;
    }
}

static void tensor_init(const struct net_tensor *t, uint64_t seed, int index)
{
    struct rng r;
    double sd;
    rng_init(&r, seed, RNG_INIT, (uint64_t)index);
    switch (t->role) {
    case NET_KERNEL:
        if (t->n_dims == 4) { /* kh, kw, c, k: fan-out */
            sd = sqrt(2.0 / ((double)t->dims[0] * t->dims[1] * t->dims[3]));
            for (size_t i = 0; i < t->count; i++)
                t->value[i] = (float)(sd * rng_normal(&r));
        } else {
            sd = sqrt(2.0 / ((double)t->dims[0] + t->dims[1]));
            for (size_t i = 0; i < t->count; i++)
                t->value[i] = (float)(sd * truncated_normal(&r));
        }
        break;
    case NET_GAMMA:
    case NET_RUNNING_VAR:
        for (size_t i = 0; i < t->count; i++)
            t->value[i] = 1.0f;
        break;
    case NET_BIAS:
    case NET_BETA:
    case NET_RUNNING_MEAN:
        memset(t->value, 0, t->count * sizeof *t->value);
        break;
    }
}

void net_init(struct net *net, uint64_t seed)
{
    /* Each tensor has its own counter, so the order of the threads cannot matter. */
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < net->n_tensors; i++)
        tensor_init(&net->tensors[i], seed, i);
    net_weights_changed(net);
}
