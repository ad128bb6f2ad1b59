/* SPDX-License-Identifier: Apache-2.0
 *
 * lag_file.c - runs and models of the Latent Adversarial Generator on disk (models/net/checkpoint.h), and images of
 * a finished model. A file holds all that its run needs to go on as if it had never stopped; settings lie in the
 * metadata as one JSON object. */
#include "models/learn/lag_parts.h"

#include "models/base/mem.h"
#include "models/base/rng.h"

#include <assert.h>
#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIND "lag"

/* X(name, field, lowest, highest) of whole numbers, X(name, field) of others. */
#define WHOLE(X)                                                                                             \
    X("size", net.size, 1, 1024)                                                                             \
    X("n_stages", net.n_stages, 1, LAGNET_MAX_STAGES)                                                        \
    X("n_colors", net.n_colors, 1, 16)                                                                       \
    X("n_noise", net.n_noise, 1, 256)                                                                        \
    X("width", net.width, 1, 1024)                                                                           \
    X("narrow", net.narrow, 1, 1024)                                                                         \
    X("n_blocks", net.n_blocks, 1, 16)                                                                       \
    X("n_updates", n_updates, 1, 1099511627776.0)                                                            \
    X("batch", batch, 1, 1024)                                                                               \
    X("last", last, 1, 100)
#define REAL(X)                                                                                              \
    X("lr", lr)                                                                                              \
    X("ttur", ttur)                                                                                          \
    X("momentum", momentum)

static char *config_text(const struct lag_config *c, struct err *e)
{
    cJSON *j = cJSON_CreateObject();
    char big[32];
#define PUT(name, field, low, high) cJSON_AddNumberToObject(j, name, (double)c->field);
    WHOLE(PUT)
#undef PUT
#define PUT(name, field) cJSON_AddNumberToObject(j, name, c->field);
    REAL(PUT)
#undef PUT
    snprintf(big, sizeof big, "%llu", (unsigned long long)c->seed);
    cJSON_AddStringToObject(j, "seed", big);
    char *text = cJSON_PrintUnformatted(j);
    cJSON_Delete(j);
    if (!text)
        err_set(e, ERR_RESOURCE, "out of memory for a model's settings");
    return text;
}

static bool take_big(const char *text, char end_at, uint64_t *value, const char **rest)
{
    char *end = NULL;
    if (!text || *text < '0' || *text > '9')
        return false;
    *value = strtoull(text, &end, 10);
    if (rest)
        *rest = *end ? end + 1 : end;
    return *end == end_at || !*end;
}

static bool config_read(const char *text, struct lag_config *c)
{
    cJSON *j = cJSON_Parse(text);
    bool ok = cJSON_IsObject(j);
    *c = (struct lag_config){0};
#define TAKE(name, field, low, high)                                                                         \
    {                                                                                                        \
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(j, name);                                       \
        const double v = cJSON_IsNumber(item) ? item->valuedouble : NAN;                                     \
        ok = ok && v >= low && v <= high && v == floor(v);                                                   \
        if (ok)                                                                                              \
            c->field = (__typeof__(c->field))v;                                                              \
    }
    WHOLE(TAKE)
#undef TAKE
#define TAKE(name, field)                                                                                    \
    if (ok && (ok = cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(j, name))))                              \
        c->field = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(j, name));
    REAL(TAKE)
#undef TAKE
    ok = ok &&
         take_big(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "seed")), '\0', &c->seed, NULL);
    cJSON_Delete(j);
    return ok;
}

/* ---- writing ---- */

bool lag_save(const struct lag_run *r, const char *path, const struct checkpoint_meta *extra, int n_extra,
              struct err *e)
{
    enum { OWN = 5, NAME = 64 };
    struct lag_block block[LAG_BLOCKS];
    lag_blocks(r, block);
    size_t n = 0;
    for (int b = 0; b < LAG_BLOCKS; b++)
        n += (size_t)r->n_tensors[block[b].kind];
    struct checkpoint_tensor *tensor = mem_array(n, sizeof *tensor, "the list of tensors", e);
    char(*name)[NAME] = tensor ? mem_array(n, NAME, "the list of tensors", e) : NULL;
    struct checkpoint_meta *meta =
        name ? mem_array((size_t)OWN + n_extra, sizeof *meta, "the model's description", e) : NULL;
    char *config = meta ? config_text(&r->config, e) : NULL;
    bool ok = false;
    if (!config)
        goto out;
    n = 0;
    for (int b = 0; b < LAG_BLOCKS; b++)
        for (int i = 0; i < r->n_tensors[block[b].kind]; i++, n++) {
            const struct unet_tensor *own = &r->tensor[block[b].kind][i];
            snprintf(name[n], NAME, "%s%s", block[b].prefix, own->name);
            tensor[n] = (struct checkpoint_tensor){.name = name[n],
                                                   .dtype = CHECKPOINT_F32,
                                                   .n_dims = own->n_dims,
                                                   .data = block[b].values + own->start};
            for (int k = 0; k < own->n_dims; k++)
                tensor[n].dims[k] = own->dims[k];
        }
    char done[24], steps[LAGNET_MAX_STAGES * 24] = "";
    snprintf(done, sizeof done, "%llu", (unsigned long long)r->done);
    for (int g = 1, at = 0; g <= r->config.net.n_stages; g++)
        at += snprintf(steps + at, sizeof steps - at, "%s%llu", g > 1 ? "," : "",
                       (unsigned long long)r->steps[g]);
    const struct checkpoint_meta mine[OWN] = {{"aftermap.version", AM_VERSION},
                                              {"aftermap.kind", KIND},
                                              {"lag.config", config},
                                              {"lag.done", done},
                                              {"lag.steps", steps}};
    memcpy(meta, mine, sizeof mine);
    for (int i = 0; i < n_extra; i++)
        meta[OWN + i] = extra[i];
    ok = checkpoint_write(path, tensor, (int)n, meta, OWN + n_extra, e);
out:
    cJSON_free(config);
    free(meta);
    free(name);
    free(tensor);
    return ok;
}

/* ---- reading ---- */

static struct checkpoint *open_file(const char *path, struct lag_config *c, struct err *e)
{
    struct checkpoint *f = checkpoint_open(path, e);
    if (!f)
        return NULL;
    const char *kind = checkpoint_meta_get(f, "aftermap.kind"), *text = checkpoint_meta_get(f, "lag.config");
    bool ok = false;
    if (!kind || strcmp(kind, KIND) != 0 || !text)
        err_set(e, ERR_MODEL, "%s: is no latent adversarial generator; make one with aftermap lab lag train",
                path);
    else if (!config_read(text, c))
        err_set(e, ERR_MODEL, "%s: its settings cannot be read; train it anew", path);
    else if (!lag_config_check(c, e)) {
        if (e)
            e->code = ERR_MODEL;
        err_prefix(e, "%s", path);
    } else {
        ok = true;
    }
    if (!ok) {
        checkpoint_close(f);
        return NULL;
    }
    return f;
}

static bool read_block(const struct checkpoint *f, const char *prefix, const struct unet_tensor *t, int n,
                       float *values, const char *path, struct err *e)
{
    char name[64];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s%s", prefix, t[i].name);
        if (!checkpoint_copy(f, name, CHECKPOINT_F32, t[i].count, values + t[i].start, e))
            return false;
        for (size_t k = t[i].start; k < t[i].start + t[i].count; k++)
            if (!isfinite(values[k]))
                return err_set(e, ERR_MODEL, "%s: holds weights that are no numbers; train it anew", path);
    }
    return true;
}

static bool read_state(const struct checkpoint *f, struct lag_run *r, const char *path, struct err *e)
{
    const char *at = checkpoint_meta_get(f, "lag.steps");
    bool ok =
        take_big(checkpoint_meta_get(f, "lag.done"), '\0', &r->done, NULL) && r->done <= r->config.n_updates;
    for (int g = 1; ok && g <= r->config.net.n_stages; g++)
        ok = take_big(at, g < r->config.net.n_stages ? ',' : '\0', &r->steps[g], &at) &&
             r->steps[g] <= r->done;
    return ok || err_set(e, ERR_MODEL, "%s: does not say where its run stood; train it anew", path);
}

struct lag_run *lag_resume(const char *path, const struct lag_config *expected, struct err *e)
{
    struct lag_config c;
    struct checkpoint *f = open_file(path, &c, e);
    struct lag_run *r = NULL;
    char *mine = NULL, *theirs = NULL;
    bool ok = false;
    if (!f)
        return NULL;
    if (!(mine = config_text(expected, e)) || !(theirs = config_text(&c, e)))
        goto out;
    if (strcmp(mine, theirs) != 0) {
        err_set(e, ERR_MODEL, "%s: was begun with other settings; give the same ones, or another output",
                path);
        goto out;
    }
    ok = (r = lag_create(&c, e)) != NULL;
    struct lag_block block[LAG_BLOCKS];
    if (ok)
        lag_blocks(r, block);
    for (int b = 0; ok && b < LAG_BLOCKS; b++)
        ok = read_block(f, block[b].prefix, r->tensor[block[b].kind], r->n_tensors[block[b].kind],
                        block[b].values, path, e);
    ok = ok && read_state(f, r, path, e);
out:
    if (!ok) {
        lag_free(r);
        r = NULL;
    }
    cJSON_free(mine);
    cJSON_free(theirs);
    checkpoint_close(f);
    return r;
}

bool lag_model_open(struct lag_model *m, const char *path, struct err *e)
{
    uint64_t done = 0;
    *m = (struct lag_model){0};
    struct unet_tensor *t = mem_array(LAGNET_MAX_TENSORS, sizeof *t, "the list of tensors", e);
    m->file = t ? open_file(path, &m->config, e) : NULL;
    bool ok = m->file;
    if (ok && (!take_big(checkpoint_meta_get(m->file, "lag.done"), '\0', &done, NULL) ||
               done < m->config.n_updates))
        ok = err_set(e, ERR_MODEL, "%s: its training is not finished; go on with lab lag train --resume",
                     path);
    for (int k = 0; ok && k < 2; k++) {
        size_t first[LAGNET_MAX_STAGES + 2];
        const int stages = m->config.net.n_stages,
                  n = lagnet_list(&m->config.net, (enum lagnet_kind)k, stages, t, first);
        ok = (m->weights[k] = mem_array(first[stages + 1], sizeof *m->weights[k], "the weights", e)) &&
             read_block(m->file, k ? "net.d." : "ema.g.", t, n, m->weights[k], path, e);
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
