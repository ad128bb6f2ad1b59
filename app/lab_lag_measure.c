/* SPDX-License-Identifier: Apache-2.0
 * lab_lag_measure.c - `aftermap lab lag measure`: the paper's claims of a model on images it has not seen, as numbers
 * (models/learn/lag.h) and as a sheet: the small image, the truth, the centre, versions. */
#include "app/console.h"
#include "app/lab_lag.h"
#include "geo/synthetic.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_IMAGES = 64, SHEET_ROWS = 12, SHEET_DRAWS = 8, SHEET_TILE = 56, GAP = 2 };

struct sheet {
    int columns, rows, zoom, side, n_bands, cell;
    uint8_t *px;
};

/* x [side / shrunk] of the sheet's bands (first three; one: grey) into a cell. */
static void paste(struct sheet *s, int row, int column, const float *x, int shrunk)
{
    const int width = s->columns * s->cell, side = s->side / shrunk;
    for (int r = 0; r < s->side * s->zoom; r++)
        for (int q = 0; q < s->side * s->zoom; q++)
            for (int b = 0; b < 3; b++) {
                const size_t at = ((size_t)(r / s->zoom / shrunk) * side + q / s->zoom / shrunk) * s->n_bands;
                const double v = (double)x[at + (s->n_bands >= 3 ? b : 0)];
                s->px[((size_t)(row * s->cell + r) * width + column * s->cell + q) * 3 + b] =
                    (uint8_t)lround(127.5 * (fmax(-1, fmin(1, v)) + 1));
            }
}

static void draw_row(struct sheet *s, struct lag_maker *k, int row, const float *x, float *work, int n_draws,
                     uint64_t seed, float *y, float *z)
{
    const struct lagnet_config *c = &k->model->config.net;
    const size_t pixels = (size_t)c->size * c->size, small = pixels * c->n_colors;
    memcpy(work, x, (size_t)s->side * s->side * c->n_colors * sizeof *x);
    for (int stage = c->n_stages; stage > 0; stage--)
        lag_halve(work, c->size << stage, c->n_colors, work);
    for (int d = 0; d < n_draws; d++) {
        memcpy(y + d * small, work, small * sizeof *y);
        for (size_t p = 0; p < pixels; p++)
            lag_noise(seed, (uint32_t)d + 1, (uint32_t)row, (uint32_t)p, c->n_noise,
                      z + (d * pixels + p) * c->n_noise);
    }
    paste(s, row, 0, y, 1 << c->n_stages);
    paste(s, row, 1, x, 1);
    paste(s, row, 2, lag_make(k, y, NULL, 1), 1);
    const float *made = lag_make(k, y, z, n_draws);
    for (int d = 0; d < n_draws; d++)
        paste(s, row, 3 + d, made + (size_t)d * s->side * s->side * c->n_colors, 1);
}

static bool write_sheet(const struct lab_lag *c, struct lag_maker *k, const float *x, size_t n, uint64_t seed,
                        struct err *e)
{
    const struct lagnet_config *net = &k->model->config.net;
    const int draws = c->n_count < SHEET_DRAWS ? c->n_count : SHEET_DRAWS;
    const size_t pixels = (size_t)net->size * net->size;
    struct sheet s = {.columns = 3 + draws,
                      .rows = n < SHEET_ROWS ? (int)n : SHEET_ROWS,
                      .side = net->size << net->n_stages,
                      .n_bands = net->n_colors};
    s.zoom = SHEET_TILE / s.side > 0 ? SHEET_TILE / s.side : 1;
    s.cell = s.side * s.zoom + GAP;
    const size_t image = (size_t)s.side * s.side * net->n_colors;
    char path[4096];
    float *work = mem_array(image, sizeof *work, "an image", e),
          *y = mem_array((size_t)draws * pixels * net->n_colors, sizeof *y, "the small images", e),
          *z = mem_array((size_t)draws * pixels * net->n_noise, sizeof *z, "the noise", e);
    s.px = mem_array((size_t)s.columns * s.cell * s.rows * s.cell, 3, "the sheet", e);
    bool ok = work && y && z && s.px;
    for (int row = 0; ok && row < s.rows; row++)
        draw_row(&s, k, row, x + row * image, work, draws, seed, y, z);
    const struct synthetic_mark mark = {"lag", checkpoint_digest(k->model->file), seed, NULL};
    ok = ok && file_join(path, sizeof path, c->out, SYNTHETIC_PREFIX "sheet.png", e) &&
         synthetic_write_png(path, s.px, s.columns * s.cell, s.rows * s.cell, &mark, e);
    free(s.px);
    free(work);
    free(y);
    free(z);
    return ok;
}

static bool report(const struct lab_lag *c, const struct common *common, const struct lag_model *m,
                   const struct lag_measures *r, struct err *e)
{
    console_say(
        "%zu held-out images, %d versions each: a pixel's standard deviation over them %.2f of 255; off the "
        "small image by %.2f (centre) and %.2f (versions); centre to the versions' mean over their spread "
        "%.2f "
        "in features, %.2f in pixels; error %.1f (centre), %.1f (versions), %.1f (enlarged pixels)",
        r->n_images, r->n_draws, r->sd, r->off_centre, r->off_draws, r->rho, r->rho_pixels, r->error_centre,
        r->error_draws, r->error_plain);
    cJSON *j = cJSON_CreateObject();
    cJSON_AddBoolToObject(j, "synthetic", true);
    cJSON_AddStringToObject(j, "algorithm", "lag");
    cJSON_AddStringToObject(j, "model", c->model);
    cJSON_AddStringToObject(j, "model_digest", checkpoint_digest(m->file));
    cJSON_AddNumberToObject(j, "images", (double)r->n_images);
    cJSON_AddNumberToObject(j, "versions", r->n_draws);
    cJSON_AddNumberToObject(j, "sd", r->sd);
    cJSON_AddNumberToObject(j, "off_centre", r->off_centre);
    cJSON_AddNumberToObject(j, "off_versions", r->off_draws);
    cJSON_AddNumberToObject(j, "rho", r->rho);
    cJSON_AddNumberToObject(j, "rho_pixels", r->rho_pixels);
    cJSON_AddNumberToObject(j, "nearest", r->nearest);
    cJSON_AddNumberToObject(j, "nearest_pixels", r->nearest_pixels);
    cJSON_AddNumberToObject(j, "error_centre", r->error_centre);
    cJSON_AddNumberToObject(j, "error_versions", r->error_draws);
    cJSON_AddNumberToObject(j, "error_plain", r->error_plain);
    char path[4096], *text = cJSON_Print(j);
    bool ok = text ? file_join(path, sizeof path, c->out, SYNTHETIC_LIST, e) && file_write_text(path, text, e)
                   : err_set(e, ERR_RESOURCE, "out of memory for the report");
    cJSON_free(text);
    if (ok && common->json)
        return print_json(j, e);
    cJSON_Delete(j);
    if (ok) {
        puts(c->out);
        ok = flush_stdout(e);
    }
    return ok;
}

bool lag_run_measure(const struct lab_lag *c, const struct common *common, const struct progress *progress,
                     struct err *e)
{
    struct lag_model m = {0};
    struct lag_maker k = {0};
    struct lag_images images = {0};
    struct lag_measures r;
    float *x = NULL;
    char path[4096];
    size_t n = 0;
    bool ok = file_join(path, sizeof path, c->out, SYNTHETIC_LIST, e);
    if (ok && !common->overwrite && !common->dry_run && file_exists(path))
        ok = err_set(e, ERR_USAGE, "%s exists already; add --overwrite to replace it", path);
    ok = ok && lag_model_open(&m, c->model, e);
    const struct lagnet_config *net = &m.config.net;
    ok = ok && lag_images_load(&images, c, net->size << net->n_stages, true, m.config.seed, progress, e);
    if (ok && images.n_bands != net->n_colors)
        ok = err_set(e, ERR_INPUT, "%s: enlarges images of %d bands, those of %s have %d", c->model,
                     net->n_colors, c->data, images.n_bands);
    if (ok) {
        const size_t image = (size_t)images.all.size * images.all.size * images.n_bands;
        n = images.n < MAX_IMAGES ? images.n : MAX_IMAGES;
        ok = (x = mem_array(n * image, sizeof *x, "the held-out images", e));
        for (size_t i = 0; ok && i < n; i++) /* evenly from all */
            lag_images_take(&images, i * images.n / n, false, x + i * image);
    }
    if (ok && common->dry_run)
        console_say("dry run: %zu held-out images; nothing was measured", n);
    else
        ok = ok && file_make_dirs(c->out, e) && lag_maker_open(&k, &m, c->n_count, true, e) &&
             lag_measure(&k, x, n, c->n_count, common->seed, &r, progress, e) &&
             write_sheet(c, &k, x, n, common->seed, e) && report(c, common, &m, &r, e);
    free(x);
    lag_maker_close(&k);
    lag_images_free(&images);
    lag_model_close(&m);
    return ok;
}
