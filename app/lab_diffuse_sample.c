/* SPDX-License-Identifier: Apache-2.0
 * lab_diffuse_sample.c - `aftermap lab diffuse sample`: images that a model makes up, one marked GeoTIFF each, a
 * sheet of them to look at, and a list of what was made how. */
#include "app/console.h"
#include "app/lab_diffuse.h"
#include "geo/synthetic.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 32, SHEET_COLUMNS = 16, SHEET_ROWS = 4, SHEET_TILE = 48, GAP = 2, NAME_SIZE = 40 };

struct sampling {
    const struct lab_diffuse *c;
    struct tract_model model;
    struct tract_denoiser denoiser;
    int n_calls, n_dates, n_bands, size;
    char name[DIFFUSE_MAX_CLASSES][NAME_SIZE]; /* of files: letters and digits */
    int class[DIFFUSE_MAX_CLASSES], n_classes; /* asked for; -1: of no class */
    uint64_t seed;
    cJSON *files;
    int zoom, columns, rows, cell_w, cell_h; /* the sheet: rows of one class */
    uint8_t *sheet;
};

static bool read_dates(struct sampling *s, struct err *e)
{
    const char *text = checkpoint_meta_get(s->model.file, "layout.n_dates");
    s->n_dates = text && strcmp(text, "2") == 0 ? 2 : 1;
    if (s->model.config.net.kind != UNET_IMAGE || !text || s->model.config.net.c_out % s->n_dates)
        return err_set(e, ERR_MODEL, "%s: does not say what its bands are; train it anew", s->c->model);
    s->n_bands = s->model.config.net.c_out;
    s->size = s->model.config.net.size;
    return true;
}

/* The classes to draw, from the model's list of names. */
static bool read_classes(struct sampling *s, struct err *e)
{
    const char *list = checkpoint_meta_get(s->model.file, "classes");
    const int n = s->model.config.net.n_classes;
    if (n == 0) {
        if (s->c->class_name)
            return err_set(e, ERR_USAGE, "%s: was taught without classes; leave --class out", s->c->model);
        snprintf(s->name[0], NAME_SIZE, "image");
        s->class[0] = -1;
        s->n_classes = 1;
        return true;
    }
    for (int i = 0; list && i < n && i < DIFFUSE_MAX_CLASSES; i++) {
        const size_t length = strcspn(list, ",");
        if (!s->c->class_name ||
            (strlen(s->c->class_name) == length && strncmp(list, s->c->class_name, length) == 0)) {
            char *name = s->name[s->n_classes];
            for (size_t k = 0; k < length && k < NAME_SIZE - 1; k++)
                name[k] = isalnum((unsigned char)list[k]) ? list[k] : '_';
            if (length == 0)
                snprintf(name, NAME_SIZE, "class%d", i);
            s->class[s->n_classes++] = i;
        }
        list = list[length] ? list + length + 1 : NULL;
    }
    if (s->n_classes == 0)
        return err_set(e, ERR_USAGE, "%s: knows no class '%s'; it knows %s", s->c->model,
                       s->c->class_name ? s->c->class_name : "",
                       checkpoint_meta_get(s->model.file, "classes"));
    return true;
}

static bool choose_calls(struct sampling *s, struct err *e)
{
    const struct tract_config *t = &s->model.config;
    s->n_calls = s->c->n_calls > 0 ? s->c->n_calls : tract_model_calls(&s->model);
    if (s->n_calls > t->n_steps || t->n_steps % s->n_calls)
        return err_set(e, ERR_USAGE, "--calls %d: does not divide the model's %d steps", s->n_calls,
                       t->n_steps);
    return true;
}

static bool open_sheet(struct sampling *s, struct err *e)
{
    s->zoom = SHEET_TILE / s->size > 0 ? SHEET_TILE / s->size : 1;
    s->columns = s->c->n_count < SHEET_COLUMNS ? s->c->n_count : SHEET_COLUMNS;
    s->rows = (s->c->n_count + s->columns - 1) / s->columns;
    s->rows = s->rows < SHEET_ROWS ? s->rows : SHEET_ROWS;
    s->cell_w = s->n_dates * s->size * s->zoom + GAP;
    s->cell_h = s->size * s->zoom + GAP;
    s->sheet =
        mem_array((size_t)s->columns * s->cell_w * s->rows * s->n_classes * s->cell_h, 3, "the sheet", e);
    return s->sheet;
}

/* Image number i of class number k, its dates side by side, first three bands (one: grey). */
static void paste(struct sampling *s, int k, int i, const uint8_t *px)
{
    if (i >= s->columns * s->rows)
        return;
    const int bands = s->n_bands / s->n_dates, width = s->columns * s->cell_w;
    const int left = i % s->columns * s->cell_w, top = (k * s->rows + i / s->columns) * s->cell_h;
    for (int date = 0; date < s->n_dates; date++)
        for (int y = 0; y < s->size * s->zoom; y++)
            for (int x = 0; x < s->size * s->zoom; x++)
                for (int b = 0; b < 3; b++)
                    s->sheet[((size_t)(top + y) * width + left + date * s->size * s->zoom + x) * 3 + b] =
                        px[((size_t)(y / s->zoom) * s->size + x / s->zoom) * s->n_bands + date * bands +
                           (bands >= 3 ? b : 0)];
}

static bool write_one(struct sampling *s, int k, int i, const double *x, uint8_t *px, struct err *e)
{
    char name[NAME_SIZE + 40], path[4096];
    const size_t d = (size_t)s->size * s->size * s->n_bands;
    const struct synthetic_mark mark = {"diffusion", checkpoint_digest(s->model.file), s->seed,
                                        s->class[k] < 0 ? NULL : s->name[k]};
    for (size_t j = 0; j < d; j++)
        px[j] = (uint8_t)lround(127.5 * (fmax(-1, fmin(1, x[j])) + 1));
    paste(s, k, i, px);
    snprintf(name, sizeof name, SYNTHETIC_PREFIX "%s-%05d.tif", s->name[k], i + 1);
    cJSON *file = cJSON_CreateObject();
    cJSON_AddStringToObject(file, "file", name);
    cJSON_AddStringToObject(file, "class", s->class[k] < 0 ? "" : s->name[k]);
    cJSON_AddBoolToObject(file, "synthetic", true);
    cJSON_AddItemToArray(s->files, file);
    return file_join(path, sizeof path, s->c->out, name, e) &&
           synthetic_write_tiff(path, px, s->size, s->size, s->n_bands, &mark, e);
}

/* Sample i of a class has the number class * 2^32 + i: asking for more of them changes none. */
static bool make_class(struct sampling *s, int k, const struct progress *progress, struct err *e)
{
    const size_t d = (size_t)s->size * s->size * s->n_bands;
    double *x = mem_array((size_t)BATCH * d, sizeof *x, "the samples", e);
    uint8_t *px = x ? mem_array(d, 1, "a sample", e) : NULL;
    int label[BATCH];
    bool ok = px;
    for (int i = 0; i < BATCH; i++)
        label[i] = s->class[k];
    for (int from = 0; ok && from < s->c->n_count; from += BATCH) {
        const int n = s->c->n_count - from < BATCH ? s->c->n_count - from : BATCH;
        const uint64_t first = ((uint64_t)(s->class[k] + 1) << 32) + (uint64_t)from;
        if (progress_stopped(progress))
            ok = err_set(e, ERR_INTERRUPTED, "stopped after %d images of %s", from, s->name[k]);
        ok = ok && tract_generate(&s->denoiser, s->n_calls, !s->model.config.no_clip, s->seed, first, n,
                                  label, x, NULL, e);
        for (int i = 0; ok && i < n; i++)
            ok = write_one(s, k, from + i, x + i * d, px, e);
        progress_report(progress, "sample", (double)k * s->c->n_count + from + n,
                        (double)s->n_classes * s->c->n_count, s->name[k]);
    }
    free(px);
    free(x);
    return ok;
}

static const char *known(const struct sampling *s, const char *key)
{
    const char *value = checkpoint_meta_get(s->model.file, key);
    return value ? value : "";
}

static cJSON *describe(const struct sampling *s)
{
    cJSON *j = cJSON_CreateObject();
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)s->seed);
    cJSON_AddBoolToObject(j, "synthetic", true);
    cJSON_AddStringToObject(j, "algorithm", "diffusion");
    cJSON_AddStringToObject(j, "method", tract_method_name(s->model.config.method));
    cJSON_AddStringToObject(j, "model", s->c->model);
    cJSON_AddStringToObject(j, "model_digest", checkpoint_digest(s->model.file));
    cJSON_AddStringToObject(j, "seed", seed);
    cJSON *from = cJSON_AddObjectToObject(j, "learnt_from");
    cJSON_AddStringToObject(from, "source", known(s, "source"));
    cJSON_AddStringToObject(from, "digest", known(s, "source.digest"));
    cJSON_AddStringToObject(from, "split", known(s, "source.split"));
    cJSON_AddNumberToObject(j, "calls", s->n_calls);
    cJSON_AddNumberToObject(j, "size_px", s->size);
    cJSON_AddNumberToObject(j, "dates", s->n_dates);
    cJSON_AddNumberToObject(j, "bands", s->n_bands);
    return j;
}

static bool write_sheet(const struct sampling *s, struct err *e)
{
    char path[4096];
    const struct synthetic_mark mark = {"diffusion", checkpoint_digest(s->model.file), s->seed, NULL};
    return file_join(path, sizeof path, s->c->out, SYNTHETIC_PREFIX "sheet.png", e) &&
           synthetic_write_png(path, s->sheet, s->columns * s->cell_w, s->rows * s->n_classes * s->cell_h,
                               &mark, e);
}

static bool finish(struct sampling *s, const struct common *common, const char *list, struct err *e)
{
    cJSON *j = describe(s);
    cJSON_AddItemReferenceToObject(j, "files", s->files);
    char *text = cJSON_Print(j);
    bool ok = text ? file_write_text(list, text, e) : err_set(e, ERR_RESOURCE, "out of memory for %s", list);
    cJSON_free(text);
    if (!ok || common->json) {
        if (ok)
            return print_json(j, e);
        cJSON_Delete(j);
        return false;
    }
    cJSON_Delete(j);
    puts(s->c->out);
    return flush_stdout(e);
}

bool diffuse_sample(const struct lab_diffuse *c, const struct common *common, const struct progress *progress,
                    struct err *e)
{
    struct sampling *s = mem_array(1, sizeof *s, "the sampling", e);
    char list[4096];
    if (!s)
        return false;
    s->c = c;
    s->seed = common->seed;
    bool ok = file_join(list, sizeof list, c->out, SYNTHETIC_LIST, e);
    if (ok && !common->overwrite && !common->dry_run && file_exists(list))
        ok = err_set(e, ERR_USAGE, "%s exists already; add --overwrite to replace what it lists", list);
    ok = ok && tract_model_open(&s->model, c->model, e) && read_dates(s, e) && read_classes(s, e) &&
         choose_calls(s, e);
    if (ok && common->dry_run) {
        console_say("dry run: %d images of %d classes in %d calls each; nothing was made",
                    c->n_count * s->n_classes, s->n_classes, s->n_calls);
    } else if (ok) {
        s->files = cJSON_CreateArray();
        ok = s->files && open_sheet(s, e) && file_make_dirs(c->out, e) &&
             tract_denoiser_open(&s->denoiser, &s->model.config.net, s->model.config.n_steps, BATCH,
                                 s->model.weights, e);
        for (int k = 0; ok && k < s->n_classes; k++)
            ok = make_class(s, k, progress, e);
        ok = ok && write_sheet(s, e) && finish(s, common, list, e);
    }
    cJSON_Delete(s->files);
    free(s->sheet);
    tract_denoiser_close(&s->denoiser);
    tract_model_close(&s->model);
    free(s);
    return ok;
}
