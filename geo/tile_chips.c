/* SPDX-License-Identifier: Apache-2.0
 *
 * tile_chips.c - cutting chips. Declared in tile_parts.h.
 *
 * Candidates are sorted by the square window of the working grid that their corner lies in. Of each window only the
 * pixels of its chips are read, from both dates, scaled to bytes on the way; ground without footprints is never read.
 * A window with very many chips is cut into several of at most CHIPS_PER_JOB. Memory holds one window a thread.
 *
 * Windows are taken in strips of STRIP windows from north to south, so that what two of them share is still in GDAL's
 * block cache when the second one comes, however wide the scene.
 *
 * Threads: a window is one thread's work; its chips are compressed and appended when all windows before it have had
 * theirs (an ordered loop), so that a thread runs at most one window ahead and the store's bytes do not depend on how
 * many there are. They share the files' handles (raster_reader_twin): while one reads, others resample or compress. */
#include "geo/tile_parts.h"

#include "models/base/mem.h"
#include <gdal_alg.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { CHIPS_PER_JOB = 512, WORKERS_MAX = 16, STRIP = 8 };

struct job {
    size_t first, n; /* into the sorted order */
};

struct worker {
    struct raster_reader *reader[2];
    OGRCoordinateTransformationH to_grid;
    GDALDatasetH mask; /* one chip, 8 bit */
    uint8_t *mask_px;  /* [size,size] */
    uint8_t *px[2];    /* [bands,h,w] of the window */
    uint8_t *valid[2]; /* [h,w] */
    uint8_t *need;     /* [h,w] 1 where a chip lies */
    size_t room;       /* pixels px, valid and need have room for */
    uint8_t *chips;    /* [n,size,size,channels] of the job */
    size_t chips_room;
    struct err err;
};

struct place {
    uint32_t item;
    int x, y, strip, window_x, window_y;
};

static int by_window(const void *a, const void *b)
{
    const struct place *p = a, *q = b;
    if (p->strip != q->strip)
        return p->strip < q->strip ? -1 : 1;
    if (p->window_y != q->window_y)
        return p->window_y < q->window_y ? -1 : 1;
    if (p->window_x != q->window_x)
        return p->window_x < q->window_x ? -1 : 1;
    if (p->y != q->y)
        return p->y < q->y ? -1 : 1;
    if (p->x != q->x)
        return p->x < q->x ? -1 : 1;
    return p->item < q->item ? -1 : p->item > q->item;
}

static void worker_close(struct worker *w)
{
    for (int d = 0; d < 2; d++) {
        raster_reader_close(w->reader[d]);
        free(w->px[d]);
        free(w->valid[d]);
    }
    OCTDestroyCoordinateTransformation(w->to_grid);
    if (w->mask)
        GDALClose(w->mask);
    free(w->mask_px);
    free(w->need);
    free(w->chips);
}

/* first: the worker whose files this one shares; itself NULL. */
static bool worker_open(struct worker *w, struct tiling *t, const struct worker *first, struct err *e)
{
    int size = t->layout.size;
    for (int d = 0; d < 2; d++)
        if (!(w->reader[d] = first ? raster_reader_twin(first->reader[d], e)
                                   : raster_reader_open(&t->set[d], &t->grid, e)))
            return false;
    if (!(w->to_grid = geo_transform("EPSG:4326", t->grid.wkt, e)) ||
        !(w->mask_px = mem_array((size_t)size * (size_t)size, 1, "a footprint mask", e)))
        return false;
    w->mask = GDALCreate(GDALGetDriverByName("MEM"), "", size, size, 1, GDT_Byte, NULL);
    return w->mask ? true : err_set(e, ERR_RESOURCE, "there is no memory for a footprint mask");
}

/* Burns the footprint into mask_px: pixels whose centre is inside, or all it touches when it holds no centre.
 */
static bool draw_mask(struct worker *w, const struct tiling *t, size_t item, struct err *e)
{
    const struct tile_chip *c = &t->chip[item];
    int size = t->layout.size, band = 1;
    double gt[6], burn = 255;
    char *touched[] = {(char *)"ALL_TOUCHED=TRUE", NULL};
    memcpy(gt, t->grid.geotransform, sizeof gt);
    gt[0] += c->x * t->grid.gsd_m;
    gt[3] -= c->y * t->grid.gsd_m;
    GDALSetGeoTransform(w->mask, gt);
    OGRGeometryH g = OGR_G_Clone(t->v.item[item].geometry);
    bool ok = OGR_G_Transform(g, w->to_grid) == OGRERR_NONE, any = false;
    for (int pass = 0; ok && !any && pass < 2; pass++) {
        ok = GDALFillRaster(GDALGetRasterBand(w->mask, 1), 0, 0) == CE_None &&
             GDALRasterizeGeometries(w->mask, 1, &band, 1, &g, NULL, NULL, &burn, pass ? touched : NULL, NULL,
                                     NULL) == CE_None &&
             GDALRasterIO(GDALGetRasterBand(w->mask, 1), GF_Read, 0, 0, size, size, w->mask_px, size, size,
                          GDT_Byte, 0, 0) == CE_None;
        for (size_t i = 0; ok && !any && i < (size_t)size * (size_t)size; i++)
            any = w->mask_px[i] != 0;
    }
    OGR_G_DestroyGeometry(g);
    char why[200];
    return ok ? true
              : err_set(e, ERR_RUNTIME, "building %s cannot be drawn on its chip: %s",
                        t->v.item[item].bldg_id, geo_message(why, sizeof why));
}

/* Copies one chip out of the window whose corner is (x0, y0) and size w_px x h_px; returns its blank share. */
static double copy_chip(const struct worker *w, const struct tiling *t, size_t item, int x0, int y0, int w_px,
                        int h_px, uint8_t *out)
{
    const struct tile_chip *c = &t->chip[item];
    const int size = t->layout.size, n_bands = t->layout.n_bands,
              channels = imageset_stored_channels(&t->layout);
    const size_t plane = (size_t)w_px * (size_t)h_px;
    size_t n_blank = 0;
    for (int y = 0; y < size; y++, out += size * channels) {
        const size_t at = (size_t)(c->y - y0 + y) * (size_t)w_px + (size_t)(c->x - x0);
        const uint8_t *pre = w->valid[0] + at, *post = w->valid[1] + at;
        const uint8_t *mask = w->mask_px + (size_t)y * (size_t)size;
        for (int b = 0; b < 2 * n_bands; b++) { /* blank pixels are 0 already */
            const uint8_t *from = w->px[b / n_bands] + (size_t)(b % n_bands) * plane + at;
            for (int x = 0; x < size; x++)
                out[x * channels + b] = from[x];
        }
        for (int x = 0; x < size; x++) {
            out[x * channels + 2 * n_bands] = (uint8_t)(pre[x] | post[x] << 1);
            out[x * channels + 2 * n_bands + 1] = mask[x];
            n_blank += !pre[x] || !post[x];
        }
    }
    return (double)n_blank / ((double)size * size);
}

static bool worker_reserve(struct worker *w, const struct tiling *t, size_t n_px, size_t n_chips,
                           struct err *e)
{
    const size_t chip =
        (size_t)t->layout.size * (size_t)t->layout.size * (size_t)imageset_stored_channels(&t->layout);
    if (n_px > w->room) {
        if (!mem_grow(&w->need, n_px, 1, "an image window", e))
            return false;
        for (int d = 0; d < 2; d++)
            if (!mem_grow(&w->px[d], n_px, (size_t)t->layout.n_bands, "an image window", e) ||
                !mem_grow(&w->valid[d], n_px, 1, "an image window", e))
                return false;
        w->room = n_px;
    }
    if (n_chips > w->chips_room) {
        if (!mem_grow(&w->chips, n_chips, chip, "a window's chips", e))
            return false;
        w->chips_room = n_chips;
    }
    return true;
}

static bool run_job(struct worker *w, struct tiling *t, const struct job *job, const struct place *order,
                    struct err *e)
{
    const int size = t->layout.size;
    const size_t chip = (size_t)size * (size_t)size * (size_t)imageset_stored_channels(&t->layout);
    int x0 = order[job->first].x, y0 = order[job->first].y, x1 = x0, y1 = y0;
    for (size_t i = job->first; i < job->first + job->n; i++) {
        x0 = order[i].x < x0 ? order[i].x : x0;
        y0 = order[i].y < y0 ? order[i].y : y0;
        x1 = order[i].x > x1 ? order[i].x : x1;
        y1 = order[i].y > y1 ? order[i].y : y1;
    }
    int w_px = x1 - x0 + size, h_px = y1 - y0 + size;
    if (!worker_reserve(w, t, (size_t)w_px * (size_t)h_px, job->n, e))
        return false;
    memset(w->need, 0, (size_t)w_px * (size_t)h_px);
    for (size_t i = job->first; i < job->first + job->n; i++)
        for (int y = 0; y < size; y++)
            memset(w->need + (size_t)(order[i].y - y0 + y) * (size_t)w_px + (order[i].x - x0), 1,
                   (size_t)size);
    for (int d = 0; d < 2; d++)
        if (!raster_read_bytes(w->reader[d], x0, y0, w_px, h_px, w->need, t->lo[d], t->hi[d], w->px[d],
                               w->valid[d], e))
            return false;
    for (size_t i = 0; i < job->n; i++) {
        size_t item = order[job->first + i].item;
        if (!draw_mask(w, t, item, e))
            return false;
        t->chip[item].blank = copy_chip(w, t, item, x0, y0, w_px, h_px, w->chips + i * chip);
    }
    return true;
}

/* Sorted candidates and the jobs over them. */
static bool plan_jobs(const struct tiling *t, struct place **order_out, size_t *n_out, struct job **jobs_out,
                      size_t *n_jobs, struct err *e)
{
    size_t n = 0, k = 0;
    for (size_t i = 0; i < t->v.n; i++)
        n += t->chip[i].candidate;
    struct place *order = mem_array(n, sizeof *order, "the order of chips", e);
    struct job *jobs = order ? mem_array(n, sizeof *jobs, "the reading plan", e) : NULL;
    if (!jobs) {
        free(order);
        return false;
    }
    for (size_t i = 0; i < t->v.n; i++)
        if (t->chip[i].candidate)
            order[k++] = (struct place){(uint32_t)i,
                                        t->chip[i].x,
                                        t->chip[i].y,
                                        t->chip[i].x / t->window_px / STRIP,
                                        t->chip[i].x / t->window_px,
                                        t->chip[i].y / t->window_px};
    qsort(order, n, sizeof *order, by_window);
    *n_jobs = 0;
    for (size_t i = 0; i < n; i++) {
        const struct place *last = i ? &order[i - 1] : NULL;
        if (!last || last->window_x != order[i].window_x || last->window_y != order[i].window_y ||
            jobs[*n_jobs - 1].n == CHIPS_PER_JOB)
            jobs[(*n_jobs)++] = (struct job){.first = i};
        jobs[*n_jobs - 1].n++;
    }
    *order_out = order;
    *n_out = n;
    *jobs_out = jobs;
    return true;
}

/* Keeps or leaves out the chips of a finished job, in order. */
static bool keep_chips(struct tiling *t, const struct worker *w, const struct job *job,
                       const struct place *order, struct chips_writer *out, struct err *e)
{
    const size_t chip =
        (size_t)t->layout.size * (size_t)t->layout.size * (size_t)imageset_stored_channels(&t->layout);
    for (size_t i = 0; i < job->n; i++) {
        struct tile_chip *c = &t->chip[order[job->first + i].item];
        if (c->blank > t->o->max_blank)
            continue;
        if (out && !chips_append(out, w->chips + i * chip, e))
            return false;
        c->page = (int64_t)t->n_pages++;
    }
    return true;
}

bool tile_cut_chips(struct tiling *t, struct chips_writer *out, struct err *e)
{
    struct place *order = NULL;
    struct job *jobs = NULL;
    size_t n = 0, n_jobs = 0;
    struct worker worker[WORKERS_MAX] = {0};
    if (!plan_jobs(t, &order, &n, &jobs, &n_jobs, e))
        return false;
    int n_workers = omp_get_max_threads() < WORKERS_MAX ? omp_get_max_threads() : WORKERS_MAX;
    if ((size_t)n_workers > n_jobs)
        n_workers = (int)n_jobs;
    bool ok = true;
    for (int k = 0; ok && k < n_workers; k++)
        ok = worker_open(&worker[k], t, k ? &worker[0] : NULL, e);
    if (ok) {
#pragma omp parallel for ordered num_threads(n_workers) schedule(dynamic, 1)
        for (size_t at = 0; at < n_jobs; at++) {
            struct worker *w = &worker[omp_get_thread_num()];
            bool go_on, done;
#pragma omp atomic read
            go_on = ok;
            done = go_on && run_job(w, t, &jobs[at], order, &w->err);
#pragma omp ordered
            if (ok) { /* only here is it written, in job order: the first failure is the one that is told */
                done = done && keep_chips(t, w, &jobs[at], order, out, &w->err);
                if (done && progress_stopped(t->p))
                    done = err_set(&w->err, ERR_INTERRUPTED, "interrupted");
                progress_report(t->p, "chips", (double)(jobs[at].first + jobs[at].n), (double)n, NULL);
                if (!done) {
                    if (e)
                        *e = w->err;
#pragma omp atomic write
                    ok = false;
                }
            }
        }
    }
    for (int k = 0; k < WORKERS_MAX; k++)
        worker_close(&worker[k]);
    free(order);
    free(jobs);
    return ok;
}
