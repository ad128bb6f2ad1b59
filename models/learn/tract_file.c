/* SPDX-License-Identifier: Apache-2.0
 *
 * tract_file.c - diffusion runs and models on disk (models/net/unet_file.h), and sampling from a model. A file
 * holds all that its run needs to go on as if it had never stopped: networks, Adam's moments, counters of both
 * averages, updates done, phase. Settings lie in the metadata as one JSON object. */
#include "models/learn/tract_parts.h"

#include "models/base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- settings as JSON ---- */

#define WHOLE(name, field, low, high) UNET_FILE_SETTING(tract_config, name, field, low, high)
#define REAL(field) UNET_FILE_SETTING(tract_config, #field, field, 0, 0)
static const struct unet_file_setting settings[] = {
    WHOLE("method", method, TRACT_TEACHER, TRACT_BTD),
    WHOLE("kind", net.kind, UNET_IMAGE, UNET_POINTS),
    WHOLE("size", net.size, 1, UNET_MAX_SIZE),
    WHOLE("c_in", net.c_in, 1, 64),
    WHOLE("c_out", net.c_out, 1, 64),
    WHOLE("n_classes", net.n_classes, 0, 1000),
    WHOLE("base", net.base, 1, 4096),
    WHOLE("embed", net.embed, 0, 4096),
    WHOLE("n_levels", net.n_levels, 0, UNET_MAX_LEVELS),
    WHOLE("n_blocks", net.n_blocks, 1, 16),
    WHOLE("attention", net.attention, 0, (1 << UNET_MAX_LEVELS) - 1),
    WHOLE("groups", net.groups, 0, 4096),
    WHOLE("head_width", net.head_width, 0, 4096),
    WHOLE("n_steps", n_steps, 2, TRACT_MAX_STEPS),
    WHOLE("n_plan", n_plan, 0, TRACT_MAX_PHASES + 1),
    WHOLE("batch", batch, 1, 4096),
    WHOLE("restart_average", restart_average, 0, 1),
    WHOLE("no_clip", no_clip, 0, 1),
    REAL(lr),
    REAL(clip_norm),
    REAL(cap),
    REAL(self_momentum),
    REAL(residual),
};
#undef WHOLE
#undef REAL

static void put_list(cJSON *j, const char *name, const int *list, int n)
{
    cJSON *array = cJSON_CreateArray();
    for (int i = 0; i < n; i++)
        cJSON_AddItemToArray(array, cJSON_CreateNumber(list[i]));
    cJSON_AddItemToObject(j, name, array);
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

static void config_put(const void *config, cJSON *j)
{
    const struct tract_config *c = config;
    put_list(j, "multiplier", c->net.multiplier, c->net.n_levels);
    put_list(j, "plan", c->plan, c->n_plan);
    unet_file_put_big(j, "n_updates", c->n_updates);
    unet_file_put_big(j, "seed", c->seed);
}

static bool config_take(const cJSON *j, void *config)
{
    struct tract_config *c = config;
    return take_list(j, "multiplier", c->net.n_levels, c->net.multiplier) &&
           take_list(j, "plan", c->n_plan, c->plan) && unet_file_take_big(j, "n_updates", &c->n_updates) &&
           unet_file_take_big(j, "seed", &c->seed);
}

static bool config_check(const void *config, struct err *e)
{
    return tract_config_check(config, e);
}

static const struct unet_file_kind kind = {.name = "diffusion",
                                           .key = "diffuse.config",
                                           .what = "diffusion model",
                                           .maker = "aftermap lab diffuse train",
                                           .config_size = sizeof(struct tract_config),
                                           .setting = settings,
                                           .n_settings = sizeof settings / sizeof *settings,
                                           .put = config_put,
                                           .take = config_take,
                                           .check = config_check};

/* ---- writing ---- */

bool tract_save(const struct tract_run *r, const char *path, const struct checkpoint_meta *extra, int n_extra,
                struct err *e)
{
    struct unet_file_block block[TRACT_MAX_BLOCKS];
    const int n_blocks = tract_blocks(r, block);
    char done[24], phase[16], average[24], self[24], loss[32];
    snprintf(done, sizeof done, "%llu", (unsigned long long)r->done);
    snprintf(phase, sizeof phase, "%d", r->phase);
    snprintf(average, sizeof average, "%llu", (unsigned long long)r->average.n);
    snprintf(self, sizeof self, "%llu", (unsigned long long)r->self_average.n);
    snprintf(loss, sizeof loss, "%.17g", r->loss);
    const struct checkpoint_meta own[] = {{"diffuse.done", done},
                                          {"diffuse.phase", phase},
                                          {"diffuse.average_n", average},
                                          {"diffuse.self_n", self},
                                          {"diffuse.loss", loss}};
    return unet_file_save(&kind, path, &r->config, block, n_blocks, own, sizeof own / sizeof *own, extra,
                          n_extra, e);
}

/* ---- reading ---- */

static bool read_count(const struct checkpoint *f, const char *key, uint64_t *value)
{
    return unet_file_number(checkpoint_meta_get(f, key), '\0', value, NULL);
}

/* The phase a file stands in: one that its plan has. */
static bool read_phase(const struct checkpoint *f, const struct tract_config *c, int *phase)
{
    uint64_t value;
    if (!read_count(f, "diffuse.phase", &value) ||
        (c->method == TRACT_TEACHER ? value > 0 : value + 1 >= (uint64_t)c->n_plan))
        return false;
    *phase = (int)value;
    return true;
}

static bool read_state(const struct checkpoint *f, struct tract_run *r, const char *path, struct err *e)
{
    const char *loss = checkpoint_meta_get(f, "diffuse.loss");
    if (!read_count(f, "diffuse.done", &r->done) || r->done > r->config.n_updates ||
        !read_phase(f, &r->config, &r->phase) || !read_count(f, "diffuse.average_n", &r->average.n) ||
        !read_count(f, "diffuse.self_n", &r->self_average.n) || !loss)
        return err_set(e, ERR_MODEL, "%s: does not say where its run stood; train it anew", path);
    r->loss = strtod(loss, NULL);
    return true;
}

struct tract_run *tract_resume(const char *path, const struct tract_config *expected, struct err *e)
{
    struct tract_config c;
    struct unet_file_block block[TRACT_MAX_BLOCKS];
    struct checkpoint *f = unet_file_open(&kind, path, &c, e);
    struct tract_run *r = NULL;
    float *zeros = NULL;
    if (!f || (expected && !unet_file_same(&kind, path, &c, expected, e)))
        goto out;
    if (c.method != TRACT_TEACHER &&
        !(zeros = mem_array(unet_count(&c.net), sizeof *zeros, "the teacher", e)))
        goto out;
    r = tract_create(&c, zeros, e);
    if (r && (!unet_file_read(f, path, block, tract_blocks(r, block), e) || !read_state(f, r, path, e))) {
        tract_free(r);
        r = NULL;
    }
out:
    free(zeros);
    checkpoint_close(f);
    return r;
}

bool tract_model_open(struct tract_model *m, const char *path, struct err *e)
{
    struct unet_file_block block = {.prefix = "ema."};
    *m = (struct tract_model){0};
    m->file = unet_file_open(&kind, path, &m->config, e);
    struct unet *net = m->file ? unet_create(&m->config.net, 1, false, e) : NULL;
    bool ok =
        net && (m->weights = mem_array(unet_count(&m->config.net), sizeof *m->weights, "the weights", e));
    if (ok) {
        block.tensor = unet_tensors(net, &block.n_tensors);
        block.values = m->weights;
        ok = unet_file_read(m->file, path, &block, 1, e);
    }
    if (ok && !read_phase(m->file, &m->config, &m->phase))
        ok = err_set(e, ERR_MODEL, "%s: does not say where its run stood; train it anew", path);
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
