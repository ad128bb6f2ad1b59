/* SPDX-License-Identifier: Apache-2.0
 *
 * tract_file.c - diffusion runs and models on disk (models/net/checkpoint.h), and sampling from a model. A file
 * holds all that its run needs to go on as if it had never stopped: networks, Adam's moments, counters of both
 * averages, updates done, phase. Settings lie in the metadata as one JSON object. */
#include "models/learn/tract_parts.h"

#include "models/base/mem.h"

#include <assert.h>
#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIND "diffusion"

/* ---- settings as JSON ---- */

/* X(name, field, lowest, highest) of whole numbers. */
#define WHOLE(X)                                                                                             \
    X("method", method, TRACT_TEACHER, TRACT_BTD)                                                            \
    X("kind", net.kind, UNET_IMAGE, UNET_POINTS)                                                             \
    X("size", net.size, 1, UNET_MAX_SIZE)                                                                    \
    X("c_in", net.c_in, 1, 64)                                                                               \
    X("c_out", net.c_out, 1, 64)                                                                             \
    X("n_classes", net.n_classes, 0, 1000)                                                                   \
    X("base", net.base, 1, 4096)                                                                             \
    X("embed", net.embed, 0, 4096)                                                                           \
    X("n_levels", net.n_levels, 0, UNET_MAX_LEVELS)                                                          \
    X("n_blocks", net.n_blocks, 1, 16)                                                                       \
    X("attention", net.attention, 0, (1 << UNET_MAX_LEVELS) - 1)                                             \
    X("groups", net.groups, 0, 4096)                                                                         \
    X("head_width", net.head_width, 0, 4096)                                                                 \
    X("n_steps", n_steps, 2, TRACT_MAX_STEPS)                                                                \
    X("n_plan", n_plan, 0, TRACT_MAX_PHASES + 1)                                                             \
    X("batch", batch, 1, 4096)                                                                               \
    X("restart_average", restart_average, 0, 1)                                                              \
    X("no_clip", no_clip, 0, 1)

#define REAL(X)                                                                                              \
    X("lr", lr)                                                                                              \
    X("clip_norm", clip_norm)                                                                                \
    X("cap", cap)                                                                                            \
    X("self_momentum", self_momentum)                                                                        \
    X("residual", residual)

static char *config_text(const struct tract_config *c, struct err *e)
{
    cJSON *j = cJSON_CreateObject(), *multiplier, *plan;
    char big[32];
#define PUT(name, field, low, high) cJSON_AddNumberToObject(j, name, (double)c->field);
    WHOLE(PUT)
#undef PUT
#define PUT(name, field) cJSON_AddNumberToObject(j, name, c->field);
    REAL(PUT)
#undef PUT
    cJSON_AddItemToObject(j, "multiplier", multiplier = cJSON_CreateArray());
    for (int i = 0; i < c->net.n_levels; i++)
        cJSON_AddItemToArray(multiplier, cJSON_CreateNumber(c->net.multiplier[i]));
    cJSON_AddItemToObject(j, "plan", plan = cJSON_CreateArray());
    for (int i = 0; i < c->n_plan; i++)
        cJSON_AddItemToArray(plan, cJSON_CreateNumber(c->plan[i]));
    snprintf(big, sizeof big, "%llu", (unsigned long long)c->n_updates);
    cJSON_AddStringToObject(j, "n_updates", big);
    snprintf(big, sizeof big, "%llu", (unsigned long long)c->seed);
    cJSON_AddStringToObject(j, "seed", big);
    char *text = cJSON_PrintUnformatted(j);
    cJSON_Delete(j);
    if (!text)
        err_set(e, ERR_RESOURCE, "out of memory for a model's settings");
    return text;
}

static bool take_whole(const cJSON *j, const char *name, double low, double high, double *value)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(j, name);
    *value = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    return *value >= low && *value <= high && *value == floor(*value);
}

static bool take_list(const cJSON *j, const char *name, int n, int *list)
{
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(j, name);
    bool ok = cJSON_IsArray(array) && cJSON_GetArraySize(array) == n;
    for (int i = 0; ok && i < n; i++) {
        const cJSON *item = cJSON_GetArrayItem(array, i);
        ok = cJSON_IsNumber(item) && item->valuedouble >= 1 && item->valuedouble <= TRACT_MAX_STEPS;
        list[i] = ok ? (int)item->valuedouble : 0;
    }
    return ok;
}

static bool take_big(const char *text, uint64_t *value)
{
    char *end = NULL;
    if (!text || *text < '0' || *text > '9')
        return false;
    *value = strtoull(text, &end, 10);
    return !*end;
}

static bool config_read(const char *text, struct tract_config *c)
{
    cJSON *j = cJSON_Parse(text);
    double v;
    bool ok = cJSON_IsObject(j);
    *c = (struct tract_config){0};
#define TAKE(name, field, low, high)                                                                         \
    if (ok && (ok = take_whole(j, name, low, high, &v)))                                                     \
        c->field = (__typeof__(c->field))v;
    WHOLE(TAKE)
#undef TAKE
#define TAKE(name, field)                                                                                    \
    if (ok && (ok = cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(j, name))))                              \
        c->field = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(j, name));
    REAL(TAKE)
#undef TAKE
    ok = ok && take_list(j, "multiplier", c->net.n_levels, c->net.multiplier) &&
         take_list(j, "plan", c->n_plan, c->plan) &&
         take_big(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "n_updates")), &c->n_updates) &&
         take_big(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "seed")), &c->seed);
    cJSON_Delete(j);
    return ok;
}

/* ---- writing ---- */

bool tract_save(const struct tract_run *r, const char *path, const struct checkpoint_meta *extra, int n_extra,
                struct err *e)
{
    enum { OWN = 8, NAME = 64 };
    struct tract_block block[TRACT_MAX_BLOCKS];
    int n_own;
    const int n_blocks = tract_blocks(r, block);
    const struct unet_tensor *own = unet_tensors(r->net, &n_own);
    const size_t n = (size_t)n_blocks * n_own;
    struct checkpoint_tensor *tensor = mem_array(n, sizeof *tensor, "the list of tensors", e);
    char(*name)[NAME] = tensor ? mem_array(n, NAME, "the list of tensors", e) : NULL;
    struct checkpoint_meta *meta =
        name ? mem_array((size_t)OWN + n_extra, sizeof *meta, "the model's description", e) : NULL;
    char *config = meta ? config_text(&r->config, e) : NULL;
    bool ok = false;
    if (!config)
        goto out;
    for (int b = 0; b < n_blocks; b++)
        for (int i = 0; i < n_own; i++) {
            struct checkpoint_tensor *t = &tensor[b * n_own + i];
            snprintf(name[b * n_own + i], NAME, "%s%s", block[b].prefix, own[i].name);
            *t = (struct checkpoint_tensor){.name = name[b * n_own + i],
                                            .dtype = CHECKPOINT_F32,
                                            .n_dims = own[i].n_dims,
                                            .data = block[b].values + own[i].start};
            for (int k = 0; k < own[i].n_dims; k++)
                t->dims[k] = own[i].dims[k];
        }
    char done[24], phase[16], average[24], self[24], loss[32];
    snprintf(done, sizeof done, "%llu", (unsigned long long)r->done);
    snprintf(phase, sizeof phase, "%d", r->phase);
    snprintf(average, sizeof average, "%llu", (unsigned long long)r->average.n);
    snprintf(self, sizeof self, "%llu", (unsigned long long)r->self_average.n);
    snprintf(loss, sizeof loss, "%.17g", r->loss);
    const struct checkpoint_meta mine[OWN] = {
        {"aftermap.version", AM_VERSION}, {"aftermap.kind", KIND},  {"diffuse.config", config},
        {"diffuse.done", done},           {"diffuse.phase", phase}, {"diffuse.average_n", average},
        {"diffuse.self_n", self},         {"diffuse.loss", loss},
    };
    memcpy(meta, mine, sizeof mine);
    for (int i = 0; i < n_extra; i++)
        meta[OWN + i] = extra[i];
    ok = checkpoint_write(path, tensor, (int)n, meta, OWN + n_extra, e);
out:
    free(config);
    free(meta);
    free(name);
    free(tensor);
    return ok;
}

/* ---- reading ---- */

static struct checkpoint *open_file(const char *path, struct tract_config *c, struct err *e)
{
    struct checkpoint *f = checkpoint_open(path, e);
    if (!f)
        return NULL;
    const char *kind = checkpoint_meta_get(f, "aftermap.kind"),
               *text = checkpoint_meta_get(f, "diffuse.config");
    bool ok = false;
    if (!kind || strcmp(kind, KIND) != 0 || !text)
        err_set(e, ERR_MODEL, "%s: is no diffusion model; make one with aftermap lab diffuse train", path);
    else if (!config_read(text, c))
        err_set(e, ERR_MODEL, "%s: its settings cannot be read; train it anew", path);
    else if (!tract_config_check(c, e)) {
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

static bool read_block(const struct checkpoint *f, const char *prefix, const struct unet *net, float *values,
                       const char *path, struct err *e)
{
    int n;
    const struct unet_tensor *t = unet_tensors(net, &n);
    char name[64];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s%s", prefix, t[i].name);
        if (!checkpoint_copy(f, name, CHECKPOINT_F32, t[i].count, values + t[i].start, e))
            return false;
    }
    for (size_t i = 0, all = unet_count(unet_get_config(net)); i < all; i++)
        if (!isfinite(values[i]))
            return err_set(e, ERR_MODEL, "%s: holds weights that are no numbers; train it anew", path);
    return true;
}

static bool read_state(const struct checkpoint *f, struct tract_run *r, const char *path, struct err *e)
{
    uint64_t phase = 0;
    const char *loss = checkpoint_meta_get(f, "diffuse.loss");
    if (!take_big(checkpoint_meta_get(f, "diffuse.done"), &r->done) || r->done > r->config.n_updates ||
        !take_big(checkpoint_meta_get(f, "diffuse.phase"), &phase) ||
        (r->config.method == TRACT_TEACHER ? phase > 0 : phase + 1 >= (uint64_t)r->config.n_plan) ||
        !take_big(checkpoint_meta_get(f, "diffuse.average_n"), &r->average.n) ||
        !take_big(checkpoint_meta_get(f, "diffuse.self_n"), &r->self_average.n) || !loss)
        return err_set(e, ERR_MODEL, "%s: does not say where its run stood; train it anew", path);
    r->phase = (int)phase;
    r->loss = strtod(loss, NULL);
    return true;
}

struct tract_run *tract_resume(const char *path, const struct tract_config *expected, struct err *e)
{
    struct tract_config c;
    struct checkpoint *f = open_file(path, &c, e);
    struct tract_run *r = NULL;
    float *zeros = NULL;
    char *mine = NULL, *theirs = NULL;
    bool ok = false;
    if (!f)
        return NULL;
    if (expected && (!(mine = config_text(expected, e)) || !(theirs = config_text(&c, e))))
        goto out;
    if (expected && strcmp(mine, theirs) != 0) {
        err_set(e, ERR_MODEL, "%s: was begun with other settings; give the same ones, or another output",
                path);
        goto out;
    }
    if (c.method != TRACT_TEACHER &&
        !(zeros = mem_array(unet_count(&c.net), sizeof *zeros, "the teacher", e)))
        goto out;
    r = tract_create(&c, zeros, e);
    struct tract_block block[TRACT_MAX_BLOCKS];
    const int n = r ? tract_blocks(r, block) : 0;
    ok = r;
    for (int i = 0; ok && i < n; i++)
        ok = read_block(f, block[i].prefix, r->net, block[i].values, path, e);
    ok = ok && read_state(f, r, path, e);
out:
    if (!ok) {
        tract_free(r);
        r = NULL;
    }
    free(zeros);
    cJSON_free(mine);
    cJSON_free(theirs);
    checkpoint_close(f);
    return r;
}

bool tract_model_open(struct tract_model *m, const char *path, struct err *e)
{
    *m = (struct tract_model){0};
    m->file = open_file(path, &m->config, e);
    struct unet *net = m->file ? unet_create(&m->config.net, 1, false, e) : NULL;
    uint64_t phase = 0;
    bool ok = net &&
              (m->weights = mem_array(unet_count(&m->config.net), sizeof *m->weights, "the weights", e)) &&
              read_block(m->file, "ema.", net, m->weights, path, e);
    if (ok && (!take_big(checkpoint_meta_get(m->file, "diffuse.phase"), &phase) ||
               (m->config.method == TRACT_TEACHER ? phase > 0 : phase + 1 >= (uint64_t)m->config.n_plan)))
        ok = err_set(e, ERR_MODEL, "%s: does not say where its run stood; train it anew", path);
    m->phase = (int)phase;
    unet_free(net);
    if (!ok)
        tract_model_close(m);
    return ok;
}

void tract_model_close(struct tract_model *m)
{
    free(m->weights);
    checkpoint_close(m->file);
    *m = (struct tract_model){0};
}

int tract_model_calls(const struct tract_model *m)
{
    if (m->config.method != TRACT_TEACHER)
        return m->config.plan[m->phase + 1];
    int n = m->config.n_steps < 64 ? m->config.n_steps : 64;
    while (m->config.n_steps % n)
        n--;
    return n;
}

/* ---- sampling ---- */

bool tract_denoiser_open(struct tract_denoiser *d, const struct unet_config *net, int n_steps, int max_batch,
                         const float *weights, struct err *e)
{
    const size_t size = (size_t)net->size * net->size * net->c_in;
    *d = (struct tract_denoiser){
        .weights = weights, .schedule = tract_schedule_make(n_steps), .max_batch = max_batch};
    if ((d->net = unet_create(net, max_batch, false, e)) &&
        (d->x = mem_array((size_t)max_batch * size, sizeof *d->x, "a batch", e)) &&
        (d->angle = mem_array((size_t)max_batch, sizeof *d->angle, "a batch", e)))
        return true;
    tract_denoiser_close(d);
    return false;
}

void tract_denoiser_close(struct tract_denoiser *d)
{
    unet_free(d->net);
    free(d->x);
    free(d->angle);
    *d = (struct tract_denoiser){0};
}

static size_t sample_size(const struct tract_denoiser *d)
{
    const struct unet_config *c = unet_get_config(d->net);
    return (size_t)c->size * c->size * c->c_in;
}

static void denoiser_predict(void *ctx, const double *x, const int *t, const int *label, int n, double *x_hat)
{
    struct tract_denoiser *d = ctx;
    const size_t size = sample_size(d);
    for (int from = 0; from < n; from += d->max_batch) {
        const int m = n - from < d->max_batch ? n - from : d->max_batch;
        for (size_t i = 0; i < m * size; i++)
            d->x[i] = (float)x[from * size + i];
        for (int i = 0; i < m; i++)
            d->angle[i] = tract_angle(&d->schedule, t[from + i]);
        const float *y = unet_forward(d->net, d->weights, d->x, d->angle, label ? label + from : NULL, m);
        for (size_t i = 0; i < m * size; i++)
            x_hat[from * size + i] = (double)y[i];
    }
}

struct tract_predictor tract_denoiser_predictor(struct tract_denoiser *d)
{
    return (struct tract_predictor){denoiser_predict, d};
}

bool tract_generate(struct tract_denoiser *d, int n_calls, bool clip, uint64_t seed, uint64_t first, int n,
                    const int *label, double *x, const struct progress *progress, struct err *e)
{
    const size_t size = sample_size(d);
    const struct tract_predictor p = tract_denoiser_predictor(d);
    double *work = mem_array((size_t)d->max_batch * size, sizeof *work, "a batch", e);
    bool ok = work;
    assert(n_calls > 0 && d->schedule.n_steps % n_calls == 0);
    for (int from = 0; ok && from < n; from += d->max_batch) {
        const int m = n - from < d->max_batch ? n - from : d->max_batch;
        if (progress_stopped(progress)) {
            ok = err_set(e, ERR_INTERRUPTED, "stopped after %d of %d samples", from, n);
            break;
        }
        for (int i = 0; i < m; i++) {
            struct rng r;
            rng_init(&r, seed, RNG_METHOD, first + (uint64_t)(from + i));
            for (size_t k = 0; k < size; k++)
                x[(from + i) * size + k] = rng_normal(&r);
        }
        tract_sample(&d->schedule, &p, n_calls, x + from * size, label ? label + from : NULL, m, size, clip,
                     work);
        progress_report(progress, "sample", from + m, n, NULL);
    }
    free(work);
    return ok;
}
