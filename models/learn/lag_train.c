/* SPDX-License-Identifier: Apache-2.0
 *
 * lag_train.c - a run of the Latent Adversarial Generator (lag.h): batches, both networks' Adam, the average, growth.
 * Networks are made anew when a stage is entered; nothing is allocated in between. */
#include "models/learn/lag_parts.h"

#include "models/base/mem.h"
#include "models/base/rng.h"
#include "models/learn/tract.h"
#include "models/net/optim.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 8192 };

void lag_config_defaults(struct lag_config *c)
{
    *c = (struct lag_config){.batch = 16, .last = 1, .lr = 1e-3, .ttur = 4, .momentum = 0.999, .seed = 1};
    lagnet_config_defaults(&c->net);
}

static uint64_t n_parts(const struct lag_config *c)
{
    return 2 * ((uint64_t)c->net.n_stages - 1) + (uint64_t)c->last;
}

bool lag_config_check(const struct lag_config *c, struct err *e)
{
    if (!lagnet_config_check(&c->net, e))
        return false;
    if (c->batch < 1 || c->batch > 1024)
        return err_set(e, ERR_USAGE, "a batch has 1..1024 images, not %d", c->batch);
    if (c->last < 1 || c->last > 100 || c->n_updates < n_parts(c) || c->n_updates > (uint64_t)1 << 40)
        return err_set(e, ERR_USAGE, "%llu updates do not suffice for %llu phases",
                       (unsigned long long)c->n_updates, (unsigned long long)n_parts(c));
    if (!(c->lr > 0 && c->lr < 1) || !(c->ttur > 0 && c->ttur <= 1000) ||
        !(c->momentum >= 0 && c->momentum < 1))
        return err_set(e, ERR_USAGE,
                       "the learning rate lies in (0,1), ttur in (0,1000], the momentum in [0,1)");
    return true;
}

struct lag_place lag_place_at(const struct lag_config *c, uint64_t done)
{
    const double at = (double)done * (double)n_parts(c) / (double)c->n_updates;
    const int part = (int)at;
    if (part >= 2 * (c->net.n_stages - 1))
        return (struct lag_place){c->net.n_stages, 1};
    return part % 2 ? (struct lag_place){part / 2 + 2, at - part} : (struct lag_place){part / 2 + 1, 1};
}

void lag_blocks(const struct lag_run *r, struct unet_file_block block[LAG_BLOCKS])
{
    const struct unet_tensor *g = r->tensor[LAGNET_GENERATOR], *d = r->tensor[LAGNET_CRITIC];
    const int n_g = r->n_tensors[LAGNET_GENERATOR], n_d = r->n_tensors[LAGNET_CRITIC];
    block[0] = (struct unet_file_block){"net.g.", g, n_g, r->values[LAGNET_GENERATOR]};
    block[1] = (struct unet_file_block){"net.d.", d, n_d, r->values[LAGNET_CRITIC]};
    block[2] = (struct unet_file_block){"ema.g.", g, n_g, r->ema};
    block[3] = (struct unet_file_block){"opt.g.", g, n_g, r->square[LAGNET_GENERATOR]};
    block[4] = (struct unet_file_block){"opt.d.", d, n_d, r->square[LAGNET_CRITIC]};
}

static bool allocate(struct lag_run *r, struct err *e)
{
    const struct lagnet_config *c = &r->config.net;
    const size_t batch = (size_t)r->config.batch, pixels = (size_t)c->size * c->size;
    for (int k = 0; k < 2; k++) {
        if (!(r->tensor[k] = mem_array(LAGNET_MAX_TENSORS, sizeof *r->tensor[k], "the list of tensors", e)))
            return false;
        r->n_tensors[k] = lagnet_list(c, (enum lagnet_kind)k, c->n_stages, r->tensor[k], r->first[k]);
        const size_t n = r->first[k][c->n_stages + 1];
        if (!(r->values[k] = mem_array(n, sizeof(float), "the weights", e)) ||
            !(r->grads[k] = mem_array(n, sizeof(float), "the gradients", e)) ||
            !(r->slot[k] = mem_array(n, sizeof(float), "Adam's means", e)) ||
            !(r->square[k] = mem_array(n, sizeof(float), "Adam's squares", e)))
            return false;
    }
    return (r->ema = mem_array(r->first[0][c->n_stages + 1], sizeof *r->ema, "the averaged weights", e)) &&
           (r->full = mem_array(batch * lag_full_size(c), sizeof *r->full, "a batch", e)) &&
           (r->x = mem_array(batch * lag_full_size(c), sizeof *r->x, "a batch", e)) &&
           (r->y = mem_array(batch * pixels * c->n_colors, sizeof *r->y, "a batch", e)) &&
           (r->z = mem_array(batch * pixels * c->n_noise, sizeof *r->z, "a batch", e)) &&
           (r->u = mem_array(batch, sizeof *r->u, "a batch", e));
}

struct lag_run *lag_create(const struct lag_config *c, struct err *e)
{
    if (!lag_config_check(c, e))
        return NULL;
    struct lag_run *r = mem_array(1, sizeof *r, "a run", e);
    if (!r)
        return NULL;
    r->config = *c;
    if (!allocate(r, e) || !lagnet_init(&c->net, LAGNET_GENERATOR, c->seed, r->values[0], e) ||
        !lagnet_init(&c->net, LAGNET_CRITIC, c->seed, r->values[1], e)) {
        lag_free(r);
        return NULL;
    }
    memcpy(r->ema, r->values[0], r->first[0][c->net.n_stages + 1] * sizeof *r->ema);
    return r;
}

void lag_free(struct lag_run *r)
{
    if (!r)
        return;
    lag_step_close(&r->step);
    for (int k = 0; k < 2; k++) {
        free(r->tensor[k]);
        free(r->values[k]);
        free(r->grads[k]);
        free(r->slot[k]);
        free(r->square[k]);
    }
    float *const floats[] = {r->ema, r->full, r->x, r->y, r->z, r->u};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        free(floats[i]);
    free(r);
}

const struct lag_config *lag_get_config(const struct lag_run *r)
{
    return &r->config;
}

uint64_t lag_updates_done(const struct lag_run *r)
{
    return r->done;
}

const struct lag_losses *lag_losses_of(const struct lag_run *r)
{
    return &r->losses;
}

size_t lag_weights(const struct lag_run *r)
{
    const int last = r->config.net.n_stages + 1;
    return r->first[0][last] + r->first[1][last];
}

/* ---- one update ---- */

/* Image, y, noise and mixing share of one row of the batch. */
static void draw_row(struct lag_run *r, const struct lag_data *data, const struct lag_place *at, int i)
{
    const struct lagnet_config *c = &r->config.net;
    const uint64_t index = r->done * (uint64_t)r->config.batch + (uint64_t)i;
    const struct lag_step *s = &r->step;
    float *full = r->full + i * lag_full_size(c), *x = r->x + i * s->image;
    struct rng rng;
    data->draw(data->ctx, r->config.seed, index, full);
    for (int stage = c->n_stages; stage > at->stage; stage--)
        lag_halve(full, c->size << stage, c->n_colors, full);
    memcpy(x, full, s->image * sizeof *x);
    if (at->alpha < 1)
        lag_fade(x, c->size << at->stage, c->n_colors, at->alpha, full);
    memcpy(full, x, s->image * sizeof *x);
    for (int stage = at->stage; stage > 0; stage--)
        lag_halve(full, c->size << stage, c->n_colors, full);
    memcpy(r->y + i * s->small, full, s->small * sizeof *x);
    rng_init(&rng, r->config.seed, RNG_METHOD, index);
    r->u[i] = (float)rng_uniform(&rng);
    for (size_t k = 0; k < s->latent; k++)
        r->z[i * s->latent + k] = (float)rng_normal(&rng);
}

static bool enter_stage(struct lag_run *r, int stage, struct err *e)
{
    if (r->step.stage == stage)
        return true;
    lag_step_close(&r->step);
    return lag_step_open(&r->step, &r->config.net, stage, r->config.batch, e);
}

static void learn(struct lag_run *r, int stage)
{
    const struct optim_config adam = {
        .kind = OPTIM_ADAM, .lr = (float)r->config.lr, .beta1 = 0, .beta2 = 0.99f, .epsilon = 1e-8f};
    for (int g = 1; g <= stage; g++) {
        struct tract_average average = {r->config.momentum, r->steps[g]};
        const float share = (float)tract_average_share(&average);
        for (int k = 0; k < 2; k++) {
            const size_t begin = r->first[k][g], end = r->first[k][g + 1];
#pragma omp parallel for schedule(static)
            for (size_t at = begin; at < end; at += PIECE) {
                const size_t n = end - at < PIECE ? end - at : PIECE;
                optim_apply(&adam, r->steps[g] + 1, r->config.lr, false, n, r->grads[k] + at,
                            r->values[k] + at, r->slot[k] + at, r->square[k] + at);
                for (size_t i = at; i < at + n && k == 0; i++)
                    r->ema[i] += share * (r->values[0][i] - r->ema[i]);
            }
        }
        r->steps[g]++;
    }
}

static void follow(struct lag_run *r, const struct lag_losses *now)
{
    double *mean = &r->losses.real;
    const double *value = &now->real, share = r->done < 100 ? 1.0 / ((double)r->done + 1) : 0.01;
    for (size_t i = 0; i < sizeof r->losses / sizeof *mean; i++)
        mean[i] += share * (value[i] - mean[i]);
}

static bool update(struct lag_run *r, const struct lag_data *data, struct err *e)
{
    const struct lag_place at = lag_place_at(&r->config, r->done);
    struct lag_losses now;
    if (!enter_stage(r, at.stage, e))
        return false;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < r->config.batch; i++)
        draw_row(r, data, &at, i);
    lag_step_run(&r->step, r->values[0], r->values[1], r->x, r->y, r->z, r->u, at.alpha, r->config.ttur,
                 r->grads[0], r->grads[1], &now);
    if (!isfinite(now.real + now.fake + now.penalty + now.latent))
        return err_set(e, ERR_RUNTIME,
                       "the loss is no number any more after %llu updates; take a lower learning rate",
                       (unsigned long long)r->done);
    learn(r, at.stage);
    follow(r, &now);
    r->done++;
    return true;
}

bool lag_train(struct lag_run *r, const struct lag_data *data, uint64_t at_most,
               const struct progress *progress, struct err *e)
{
    char note[96];
    const uint64_t end =
        at_most > 0 && r->config.n_updates - r->done > at_most ? r->done + at_most : r->config.n_updates;
    while (r->done < end) {
        const struct lag_place at = lag_place_at(&r->config, r->done);
        if (progress_stopped(progress))
            return err_set(e, ERR_INTERRUPTED, "stopped after %llu of %llu updates",
                           (unsigned long long)r->done, (unsigned long long)r->config.n_updates);
        if (!update(r, data, e))
            return false;
        snprintf(note, sizeof note, "%d pixels%s, gap %.3g, gradient %.2f, centre %.3g",
                 r->config.net.size << at.stage, at.alpha < 1 ? " fading in" : "",
                 r->losses.real - r->losses.fake, r->losses.norm, r->losses.latent);
        progress_report(progress, "train", (double)r->done, (double)r->config.n_updates, note);
    }
    return true;
}
