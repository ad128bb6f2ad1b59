/* SPDX-License-Identifier: Apache-2.0
 *
 * enhance.c - versions of an image, window by window (enhance.h). Version 0 is the centre. A row of windows is summed
 * with its weights; the rows of pixels that no later window touches are then written and the rest moves up. */
#include "geo/enhance.h"

#include "geo/raster.h"
#include "geo/synthetic.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHEET_PIXELS = 96, SHEET_VERSIONS = 6, GAP = 2 };
#define GREY 127.5

struct writing {
    const struct enhance_image *im;
    struct lag_maker maker;
    int side, scale, n;          /* of a window of the image; n: versions and the centre */
    int wide;                    /* pixels of an output row */
    float *y, *z;                /* [n] windows */
    double *weight;              /* [side*scale, wide] */
    float *sum;                  /* [n, side*scale, wide, n_bands] */
    float *row;                  /* [wide] of one band */
    struct synthetic_tiff *tiff; /* [n + 1]: centre, versions, sd */
    uint64_t seed;
    double off, square; /* sums for the report */
    size_t n_off, n_square;
    struct {
        int x, y, size, zoom, columns; /* middle of the output, pixels */
        uint8_t *px;
    } sheet;
};

static double own_value(const struct enhance_image *im, int band, double seen)
{
    return im->lo[band] + ((seen + 1) * GREY - 32) * (im->hi[band] - im->lo[band]) / 191;
}

/* Where window number i of a row or column begins. */
static int window_at(int i, int total, int side)
{
    const int at = i * (side / 2);
    return at < total - side ? at : total - side;
}

static int window_count(int total, int side)
{
    const int step = side / 2;
    return 1 + (total - side + step - 1) / step;
}

static void add_window(struct writing *w, int row, int column)
{
    const struct enhance_image *im = w->im;
    const int side = w->side, bands = im->n_bands, noise = w->maker.model->config.net.n_noise;
    const size_t small = (size_t)side * side * bands, latent = (size_t)side * side * noise;
    const int large = side * w->scale;
    for (int r = 0; r < side; r++)
        memcpy(w->y + (size_t)r * side * bands, im->px + ((size_t)(row + r) * im->width + column) * bands,
               (size_t)side * bands * sizeof *w->y);
    for (int v = 1; v < w->n; v++) {
        memcpy(w->y + v * small, w->y, small * sizeof *w->y);
        for (int r = 0; r < side; r++)
            for (int s = 0; s < side; s++)
                lag_noise(w->seed, (uint32_t)v, (uint32_t)(row + r), (uint32_t)(column + s), noise,
                          w->z + v * latent + ((size_t)r * side + s) * noise);
    }
    const float *made = lag_make(&w->maker, w->y, w->z, w->n);
    for (int r = 0; r < large; r++)
        for (int s = 0; s < large; s++) {
            const double share = fmin(r + 0.5, large - r - 0.5) * fmin(s + 0.5, large - s - 0.5);
            const size_t to = (size_t)r * w->wide + (size_t)column * w->scale + s;
            w->weight[to] += share;
            for (int v = 0; v < w->n; v++)
                for (int b = 0; b < bands; b++)
                    w->sum[((size_t)v * large * w->wide + to) * bands + b] +=
                        (float)share * made[(((size_t)v * large + r) * large + s) * bands + b];
        }
}

static void paste(struct writing *w, int column, int row, int at, const double seen[3])
{
    const int x = at - w->sheet.x, y = row - w->sheet.y;
    if (x < 0 || y < 0 || x >= w->sheet.size || y >= w->sheet.size)
        return;
    const int cell = w->sheet.size * w->sheet.zoom + GAP;
    for (int r = 0; r < w->sheet.zoom; r++)
        for (int s = 0; s < w->sheet.zoom; s++)
            for (int b = 0; b < 3; b++)
                w->sheet.px[((size_t)(y * w->sheet.zoom + r) * w->sheet.columns * cell + column * cell +
                             x * w->sheet.zoom + s) *
                                3 +
                            b] = (uint8_t)lround(GREY * (fmax(-1, fmin(1, seen[b])) + 1));
}

/* One pixel of the output on the sheet: the image's own, the versions, their spread. */
static void paste_pixel(struct writing *w, const float *mean, const double *sd, int row, int at)
{
    const int bands = w->im->n_bands, large = w->side * w->scale;
    double seen[3];
    for (int b = 0; b < 3; b++)
        seen[b] = (double)w->im->px[((size_t)(row / w->scale) * w->im->width + at / w->scale) * bands +
                                    (bands >= 3 ? b : 0)];
    paste(w, 0, row, at, seen);
    for (int v = 0; v < w->sheet.columns - 2; v++) {
        for (int b = 0; b < 3; b++)
            seen[b] = (double)mean[(size_t)v * large * w->wide * bands + (bands >= 3 ? b : 0)];
        paste(w, 1 + v, row, at, seen);
    }
    for (int b = 0; b < 3; b++)
        seen[b] = sd[bands >= 3 ? b : 0] * GREY / 32 - 1;
    paste(w, w->sheet.columns - 1, row, at, seen);
}

/* Sums of row r of the strip become means; spread [wide, n_bands] their standard deviation over the versions. */
static void settle_row(struct writing *w, int r, int row, double *spread)
{
    const int bands = w->im->n_bands, large = w->side * w->scale;
    for (int s = 0; s < w->wide; s++) {
        float *mean = w->sum + ((size_t)r * w->wide + s) * bands;
        const bool blank = w->im->blank[(size_t)(row / w->scale) * w->im->width + s / w->scale];
        for (int b = 0; b < bands; b++) {
            double sum = 0, square = 0;
            for (int v = 0; v < w->n; v++) {
                float *at = mean + (size_t)v * large * w->wide * bands + b;
                *at = (float)((double)*at / w->weight[(size_t)r * w->wide + s]);
                sum += v ? (double)*at : 0;
            }
            for (int v = 1; v < w->n; v++)
                square += pow((double)mean[(size_t)v * large * w->wide * bands + b] - sum / (w->n - 1), 2);
            spread[(size_t)s * bands + b] = blank ? 0 : sqrt(square / (w->n - 2));
            w->square += blank ? 0 : square / (w->n - 2);
            w->n_square += !blank;
        }
        paste_pixel(w, mean, spread + (size_t)s * bands, row, s);
    }
}

static bool write_row(struct writing *w, int r, int row, const double *spread, struct err *e)
{
    const struct enhance_image *im = w->im;
    const int bands = im->n_bands, large = w->side * w->scale;
    char why[256];
    for (int v = 0; v <= w->n; v++)
        for (int b = 0; b < bands; b++) {
            for (int s = 0; s < w->wide; s++) {
                const bool blank = im->blank[(size_t)(row / w->scale) * im->width + s / w->scale];
                const size_t at = ((size_t)r * w->wide + s) * bands + b;
                double value =
                    v < w->n ? own_value(im, b, (double)w->sum[(size_t)v * large * w->wide * bands + at])
                             : spread[(size_t)s * bands + b] * GREY * (im->hi[b] - im->lo[b]) / 191;
                w->row[s] = (float)(blank ? im->nodata : value);
            }
            if (GDALRasterIO(GDALGetRasterBand(w->tiff[v].ds, b + 1), GF_Write, 0, row, w->wide, 1, w->row,
                             w->wide, 1, GDT_Float32, 0, 0) != CE_None)
                return err_set(e, ERR_RESOURCE, "%s: cannot be written: %s", w->tiff[v].path,
                               geo_message(why, sizeof why));
        }
    return true;
}

/* How far the shrunk versions are off the image, over one row of it that begins at row r of the strip. */
static void compare_row(struct writing *w, int r, int row)
{
    const struct enhance_image *im = w->im;
    const int bands = im->n_bands, large = w->side * w->scale, area = w->scale * w->scale;
    for (int v = 0; v < w->n; v++)
        for (int s = 0; s < im->width; s++)
            for (int b = 0; b < bands && !im->blank[(size_t)row * im->width + s]; b++) {
                double sum = 0;
                for (int d = 0; d < area; d++)
                    sum += (double)w->sum[(((size_t)v * large + r + d / w->scale) * w->wide +
                                           (size_t)s * w->scale + d % w->scale) *
                                              bands +
                                          b];
                const double off = sum / area - (double)im->px[((size_t)row * im->width + s) * bands + b];
                w->off += off * off;
                w->n_off++;
            }
}

/* Rows row..end of the image are complete: writes them and moves the strip up. */
static bool finish_rows(struct writing *w, int row, int end, double *spread, struct err *e)
{
    const int large = w->side * w->scale, n = (end - row) * w->scale;
    const size_t line = (size_t)w->wide * w->im->n_bands;
    for (int r = 0; r < n; r++) {
        settle_row(w, r, row * w->scale + r, spread);
        if (!write_row(w, r, row * w->scale + r, spread, e))
            return false;
    }
    for (int r = 0; r < end - row; r++)
        compare_row(w, r * w->scale, row + r);
    for (int v = 0; v < w->n; v++) {
        float *sum = w->sum + (size_t)v * large * line;
        memmove(sum, sum + n * line, (large - n) * line * sizeof *sum);
        memset(sum + (large - n) * line, 0, n * line * sizeof *sum);
    }
    memmove(w->weight, w->weight + (size_t)n * w->wide, (size_t)(large - n) * w->wide * sizeof *w->weight);
    memset(w->weight + (size_t)(large - n) * w->wide, 0, (size_t)n * w->wide * sizeof *w->weight);
    return true;
}

static bool work_through(struct writing *w, double *spread, const struct progress *p, struct err *e)
{
    const struct enhance_image *im = w->im;
    const int rows = window_count(im->height, w->side), columns = window_count(im->width, w->side);
    for (int i = 0; i < rows; i++) {
        const int row = window_at(i, im->height, w->side);
        for (int j = 0; j < columns; j++) {
            if (progress_stopped(p))
                return err_set(e, ERR_INTERRUPTED, "stopped after %d of %d rows", row, im->height);
            add_window(w, row, window_at(j, im->width, w->side));
            progress_report(p, "enhance", (double)i * columns + j + 1, (double)rows * columns, NULL);
        }
        if (!finish_rows(w, row, i + 1 < rows ? window_at(i + 1, im->height, w->side) : im->height, spread,
                         e))
            return false;
    }
    return true;
}

static bool open_files(struct writing *w, const char *dir, const char *stem,
                       const struct synthetic_mark *mark, struct err *e)
{
    const struct enhance_image *im = w->im;
    double gt[6];
    char name[256], path[4096];
    memcpy(gt, im->geotransform, sizeof gt);
    gt[1] /= w->scale;
    gt[2] /= w->scale;
    gt[4] /= w->scale;
    gt[5] /= w->scale;
    for (int v = 0; v <= w->n; v++) {
        struct synthetic_mark own = *mark;
        const struct synthetic_form form = {.width = w->wide,
                                            .height = im->height * w->scale,
                                            .n_bands = im->n_bands,
                                            .type = v < w->n ? im->type : GDT_Float32,
                                            .geotransform = im->has_place ? gt : NULL,
                                            .wkt = im->has_place ? im->wkt : NULL};
        if (v == 0)
            snprintf(name, sizeof name, SYNTHETIC_PREFIX "%s-centre.tif", stem);
        else if (v < w->n)
            snprintf(name, sizeof name, SYNTHETIC_PREFIX "%s-%d.tif", stem, v);
        else
            snprintf(name, sizeof name, SYNTHETIC_PREFIX "%s-sd.tif", stem);
        own.shows = v == 0     ? "synthetic detail, the centre"
                    : v < w->n ? "synthetic detail, one version of several"
                               : "standard deviation of a pixel over the versions";
        if (!file_join(path, sizeof path, dir, name, e) ||
            !synthetic_tiff_open(&w->tiff[v], path, &form, &own, e))
            return false;
        for (int b = 1; im->has_blank && b <= im->n_bands; b++)
            GDALSetRasterNoDataValue(GDALGetRasterBand(w->tiff[v].ds, b), im->nodata);
    }
    return true;
}

static bool write_sheet(struct writing *w, const char *dir, const char *stem,
                        const struct synthetic_mark *mark, struct err *e)
{
    char name[256], path[4096];
    const int cell = w->sheet.size * w->sheet.zoom + GAP;
    snprintf(name, sizeof name, SYNTHETIC_PREFIX "%s-sheet.png", stem);
    return file_join(path, sizeof path, dir, name, e) &&
           synthetic_write_png(path, w->sheet.px, w->sheet.columns * cell, cell, mark, e);
}

static void plan_sheet(struct writing *w)
{
    const int high = w->im->height * w->scale, least = w->wide < high ? w->wide : high;
    w->sheet.size = least < SHEET_PIXELS ? least : SHEET_PIXELS;
    w->sheet.zoom = 2 * SHEET_PIXELS / w->sheet.size > 1 ? 2 * SHEET_PIXELS / w->sheet.size : 1;
    w->sheet.x = (w->wide - w->sheet.size) / 2;
    w->sheet.y = (high - w->sheet.size) / 2;
    w->sheet.columns = 3 + (w->n - 1 < SHEET_VERSIONS ? w->n - 1 : SHEET_VERSIONS);
}

bool enhance_write(const struct enhance_image *im, const struct lag_model *m, const char *dir,
                   const char *stem, int n_versions, uint64_t seed, const struct progress *p,
                   struct enhance_report *report, struct err *e)
{
    const struct lagnet_config *c = &m->config.net;
    struct writing w = {
        .im = im, .side = c->size, .scale = 1 << c->n_stages, .n = n_versions + 1, .seed = seed};
    const struct synthetic_mark mark = {"lag", checkpoint_digest(m->file), seed,
                                        "synthetic detail, versions"};
    assert(n_versions > 1 && n_versions <= ENHANCE_MAX_VERSIONS && im->n_bands == c->n_colors);
    if (im->width < w.side || im->height < w.side)
        return err_set(e, ERR_INPUT, "%s: %d x %d pixels are too few; the model works on %d x %d at a time",
                       stem, im->width, im->height, w.side, w.side);
    w.wide = im->width * w.scale;
    plan_sheet(&w);
    const size_t window = (size_t)w.side * w.side, strip = (size_t)w.side * w.scale * w.wide;
    const int cell = w.sheet.size * w.sheet.zoom + GAP;
    double *spread = mem_array((size_t)w.wide * im->n_bands, sizeof *spread, "a row", e);
    bool ok = spread && (w.y = mem_array(w.n * window * im->n_bands, sizeof *w.y, "a window", e)) &&
              (w.z = mem_array(w.n * window * c->n_noise, sizeof *w.z, "the noise", e)) &&
              (w.weight = mem_array(strip, sizeof *w.weight, "a row of windows", e)) &&
              (w.sum = mem_array(w.n * strip * im->n_bands, sizeof *w.sum, "a row of windows", e)) &&
              (w.row = mem_array((size_t)w.wide, sizeof *w.row, "a row", e)) &&
              (w.tiff = mem_array((size_t)w.n + 1, sizeof *w.tiff, "the files", e)) &&
              (w.sheet.px = mem_array((size_t)w.sheet.columns * cell * cell, 3, "the sheet", e)) &&
              lag_maker_open(&w.maker, m, w.n, false, e) && open_files(&w, dir, stem, &mark, e) &&
              work_through(&w, spread, p, e);
    for (int v = 0; w.tiff && v <= w.n; v++)
        ok = synthetic_tiff_close(&w.tiff[v], ok, ok ? e : NULL) && ok;
    ok = ok && write_sheet(&w, dir, stem, &mark, e);
    report->off = GREY * sqrt(w.n_off ? w.off / (double)w.n_off : 0);
    report->sd = GREY * sqrt(w.n_square ? w.square / (double)w.n_square : 0);
    lag_maker_close(&w.maker);
    free(spread);
    free(w.y);
    free(w.z);
    free(w.weight);
    free(w.sum);
    free(w.row);
    free(w.tiff);
    free(w.sheet.px);
    return ok;
}
