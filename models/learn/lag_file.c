/* SPDX-License-Identifier: Apache-2.0
 *
 * lag_file.c - runs and models of the Latent Adversarial Generator on disk (models/net/unet_file.h), and images of
 * a finished model. A file holds all that its run needs to go on as if it had never stopped; settings lie in the
 * metadata as one JSON object. */
#include "models/learn/lag_parts.h"

#include "models/base/mem.h"
#include "models/base/rng.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE(name, field, low, high) UNET_FILE_SETTING(lag_config, name, field, low, high)
#define REAL(field) UNET_FILE_SETTING(lag_config, #field, field, 0, 0)
static const struct unet_file_setting settings[] = {
    WHOLE("size", net.size, 1, 1024),
    WHOLE("n_stages", net.n_stages, 1, LAGNET_MAX_STAGES),
    WHOLE("n_colors", net.n_colors, 1, 16),
    WHOLE("n_noise", net.n_noise, 1, 256),
    WHOLE("width", net.width, 1, 1024),
    WHOLE("narrow", net.narrow, 1, 1024),
    WHOLE("n_blocks", net.n_blocks, 1, 16),
    WHOLE("n_updates", n_updates, 1, 1099511627776.0),
    WHOLE("batch", batch, 1, 1024),
    WHOLE("last", last, 1, 100),
    REAL(lr),
    REAL(ttur),
    REAL(momentum),
};
#undef WHOLE
#undef REAL

static void config_put(const void *config, cJSON *j)
{
    const struct lag_config *c = config;
    unet_file_put_big(j, "seed", c->seed);
}

static bool config_take(const cJSON *j, void *config)
{
    struct lag_config *c = config;
    return unet_file_take_big(j, "seed", &c->seed);
}

static bool config_check(const void *config, struct err *e)
{
    return lag_config_check(config, e);
}

static const struct unet_file_kind kind = {.name = "lag",
                                           .key = "lag.config",
                                           .what = "latent adversarial generator",
                                           .maker = "aftermap lab lag train",
                                           .config_size = sizeof(struct lag_config),
                                           .setting = settings,
                                           .n_settings = sizeof settings / sizeof *settings,
                                           .put = config_put,
                                           .take = config_take,
                                           .check = config_check};

bool lag_save(const struct lag_run *r, const char *path, const struct checkpoint_meta *extra, int n_extra,
              struct err *e)
{
    struct unet_file_block block[LAG_BLOCKS];
    char done[24], steps[LAGNET_MAX_STAGES * 24] = "";
    lag_blocks(r, block);
    snprintf(done, sizeof done, "%llu", (unsigned long long)r->done);
    for (int g = 1, at = 0; g <= r->config.net.n_stages; g++)
        at += snprintf(steps + at, sizeof steps - at, "%s%llu", g > 1 ? "," : "",
                       (unsigned long long)r->steps[g]);
    const struct checkpoint_meta own[] = {{"lag.done", done}, {"lag.steps", steps}};
    return unet_file_save(&kind, path, &r->config, block, LAG_BLOCKS, own, sizeof own / sizeof *own, extra,
                          n_extra, e);
}

static bool read_state(const struct checkpoint *f, struct lag_run *r, const char *path, struct err *e)
{
    const char *at = checkpoint_meta_get(f, "lag.steps");
    bool ok = unet_file_number(checkpoint_meta_get(f, "lag.done"), '\0', &r->done, NULL) &&
              r->done <= r->config.n_updates;
    for (int g = 1; ok && g <= r->config.net.n_stages; g++)
        ok = unet_file_number(at, g < r->config.net.n_stages ? ',' : '\0', &r->steps[g], &at) &&
             r->steps[g] <= r->done;
    return ok || err_set(e, ERR_MODEL, "%s: does not say where its run stood; train it anew", path);
}

struct lag_run *lag_resume(const char *path, const struct lag_config *expected, struct err *e)
{
    struct lag_config c;
    struct unet_file_block block[LAG_BLOCKS];
    struct checkpoint *f = unet_file_open(&kind, path, &c, e);
    struct lag_run *r = f && unet_file_same(&kind, path, &c, expected, e) ? lag_create(&c, e) : NULL;
    if (r) {
        lag_blocks(r, block);
        if (!unet_file_read(f, path, block, LAG_BLOCKS, e) || !read_state(f, r, path, e)) {
            lag_free(r);
            r = NULL;
        }
    }
    checkpoint_close(f);
    return r;
}

bool lag_model_open(struct lag_model *m, const char *path, struct err *e)
{
    uint64_t done = 0;
    *m = (struct lag_model){0};
    struct unet_tensor *t = mem_array(LAGNET_MAX_TENSORS, sizeof *t, "the list of tensors", e);
    m->file = t ? unet_file_open(&kind, path, &m->config, e) : NULL;
    bool ok = m->file;
    if (ok && (!unet_file_number(checkpoint_meta_get(m->file, "lag.done"), '\0', &done, NULL) ||
               done < m->config.n_updates))
        ok = err_set(e, ERR_MODEL, "%s: its training is not finished; go on with lab lag train --resume",
                     path);
    for (int k = 0; ok && k < 2; k++) {
        size_t first[LAGNET_MAX_STAGES + 2];
        const int stages = m->config.net.n_stages,
                  n = lagnet_list(&m->config.net, (enum lagnet_kind)k, stages, t, first);
        ok = (m->weights[k] = mem_array(first[stages + 1], sizeof *m->weights[k], "the weights", e));
        const struct unet_file_block block = {k ? "net.d." : "ema.g.", t, n, m->weights[k]};
        ok = ok && unet_file_read(m->file, path, &block, 1, e);
    }
    free(t);
    if (!ok)
        lag_model_close(m);
    return ok;
}

void lag_model_close(struct lag_model *m)
{
    free(m->weights[0]);
    free(m->weights[1]);
    checkpoint_close(m->file);
    *m = (struct lag_model){0};
}

/* ---- images ---- */

bool lag_maker_open(struct lag_maker *k, const struct lag_model *m, int max_batch, bool features,
                    struct err *e)
{
    const struct lagnet_config *c = &m->config.net;
    const size_t pixels = (size_t)c->size * c->size;
    *k = (struct lag_maker){.model = m, .max_batch = max_batch};
    if (!(k->g = lagnet_create(c, LAGNET_GENERATOR, c->n_stages, max_batch, false, e)) ||
        (features && !(k->d = lagnet_create(c, LAGNET_CRITIC, c->n_stages, max_batch, false, e))) ||
        !(k->input = mem_array((size_t)max_batch * pixels * (c->n_colors + c->n_noise), sizeof *k->input,
                               "a batch", e))) {
        lag_maker_close(k);
        return false;
    }
    lagnet_load(k->g, m->weights[0]);
    if (k->d)
        lagnet_load(k->d, m->weights[1]);
    return true;
}

void lag_maker_close(struct lag_maker *k)
{
    lagnet_free(k->g);
    lagnet_free(k->d);
    free(k->input);
    *k = (struct lag_maker){0};
}

const float *lag_make(struct lag_maker *k, const float *y, const float *z, int n)
{
    const struct lagnet_config *c = &k->model->config.net;
    const size_t pixels = (size_t)n * c->size * c->size, colors = c->n_colors, noise = c->n_noise;
    assert(n > 0 && n <= k->max_batch);
    for (size_t p = 0; p < pixels; p++) {
        float *to = k->input + p * (colors + noise);
        memcpy(to, y + p * colors, colors * sizeof *to);
        for (size_t i = 0; i < noise; i++)
            to[colors + i] = z ? z[p * noise + i] : 0;
    }
    return lagnet_forward(k->g, k->input, NULL, 1, n);
}

const float *lag_features(struct lag_maker *k, const float *x, const float *y, int n)
{
    assert(k->d && n > 0 && n <= k->max_batch);
    return lagnet_forward(k->d, x, y, 1, n);
}

void lag_noise(uint64_t seed, uint32_t version, uint32_t row, uint32_t column, int n_noise, float *z)
{
    struct rng r;
    assert(row < 1u << 24 && column < 1u << 24 && version < 1u << 15);
    /* the top bit keeps apart from a run's own draws, which count updates */
    rng_init(&r, seed, RNG_METHOD,
             (uint64_t)1 << 63 | (uint64_t)version << 48 | (uint64_t)row << 24 | column);
    for (int i = 0; i < n_noise; i++)
        z[i] = (float)rng_normal(&r);
}
