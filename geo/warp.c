/* SPDX-License-Identifier: Apache-2.0
 *
 * warp.c - any window of a date's images on the working grid, in memory. Declared in raster.h.
 *
 * Where a grid pixel lies in a source is computed exactly (PROJ, then the inverse geotransform, which may be
 * rotated) at the nodes of a lattice that is fixed to the grid, every LATTICE pixels, and bilinearly between
 * them. At 32 pixels of half a metre the error is below 1e-3 source pixels, the cost of PROJ vanishes, and,
 * unlike GDAL's own approximation along each scan line, the value of a pixel does not depend on the window it
 * is read in.
 *
 *   pixels wanted -> cells of the lattice that hold some -> their nodes -> the source blocks under them -> a patch of
 *   the source in memory (each block read once, the others not at all) -> rows of pixels (resample.c)
 *
 * Blank source pixels (nodata, alpha, mask) get no weight; a grid pixel has data when the source pixel it falls into
 * has. A read that fails is an error and never turns into zeros. What resample.c does not know (an alpha band that is
 * not 8 bit, bands of different types in one file, sources over a hundred times as fine as the grid) goes through
 * GDAL's own warper, which is also the oracle that the tests hold the rest to: about fifteen times slower.
 *
 * Threads: readers of one `source` share its open files and take turns at them; the rest of their work runs at once.
 * GDAL's block cache is then one, and no block is decoded twice because two threads need it. */
#include "geo/raster.h"

#include "geo/raster_parts.h"
#include "geo/resample.h"
#include "models/base/mem.h"
#include <assert.h>
#include <cpl_string.h>
#include <gdalwarper.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { LATTICE = 32, HANDLES = 8, MARGIN = 4, PATCH_MAX_BYTES = 32 << 20 };

/* Sources finer than the grid by more than this are averaged over a wider kernel. */
static const double fine_scale = 0.66;

struct handle {
    GDALDatasetH ds;
    OGRCoordinateTransformationH to_source;
    int file; /* index in the set, -1 when unused */
    unsigned long used;
    int block_w, block_h;
    bool is_plain; /* resample.c reads it */
};

/* The open files of a set: the most recently used ones. */
struct source {
    pthread_mutex_t lock; /* guards all of it and every use of the handles */
    struct handle handle[HANDLES];
    unsigned long clock;
    int n_readers;
};

/* A rectangle of the working grid or of a source, in pixels. */
struct window {
    int x, y, w, h;
};

/* What a call of raster_read*() wants and has so far. */
struct target {
    struct window win;
    float *px;      /* [bands,h,w] or NULL */
    uint8_t *bytes; /* the same, scaled by lo and hi, or NULL */
    const double *lo, *hi;
    uint8_t *valid;  /* [h,w] */
    uint8_t *wanted; /* [h,w] wanted and still blank */
    size_t n_wanted;
};

/* The pixels of one cell of the lattice that are still to do: [x0,x1) x [y0,y1) of the grid. */
struct cell {
    int x0, y0, x1, y1;
};

struct raster_reader {
    const struct raster_set *set;
    const struct event_grid *grid;
    struct source *source;
    bool only_warper;
    /* scratch, grown as needed */
    uint8_t *wanted;
    float *row; /* [bands + 1, width] */
    uint8_t *has, *scaled, *state, *touched;
    struct cell *cell;
    char *patch;
    size_t n_wanted, n_row, n_state, n_touched, n_cell, n_patch;
};

/* ---- open files
 * ------------------------------------------------------------------------------------------------------- */

static struct raster_reader *reader_new(const struct raster_set *s, const struct event_grid *grid,
                                        struct err *e)
{
    struct raster_reader *r = mem_array(1, sizeof *r, "an image reader", e);
    if (r) {
        r->set = s;
        r->grid = grid;
    }
    return r;
}

struct raster_reader *raster_reader_open(const struct raster_set *s, const struct event_grid *grid,
                                         struct err *e)
{
    struct raster_reader *r = reader_new(s, grid, e);
    struct source *source = r ? mem_array(1, sizeof *source, "an image reader", e) : NULL;
    if (!source) {
        free(r);
        return NULL;
    }
    for (int i = 0; i < HANDLES; i++)
        source->handle[i].file = -1;
    pthread_mutex_init(&source->lock, NULL);
    source->n_readers = 1;
    r->source = source;
    return r;
}

struct raster_reader *raster_reader_twin(const struct raster_reader *of, struct err *e)
{
    struct raster_reader *r = reader_new(of->set, of->grid, e);
    if (!r)
        return NULL;
    r->source = of->source;
    r->only_warper = of->only_warper;
    pthread_mutex_lock(&r->source->lock);
    r->source->n_readers++;
    pthread_mutex_unlock(&r->source->lock);
    return r;
}

void raster_reader_only_warper(struct raster_reader *r)
{
    r->only_warper = true;
}

static void handle_close(struct handle *h)
{
    if (h->ds)
        GDALClose(h->ds);
    OCTDestroyCoordinateTransformation(h->to_source);
    *h = (struct handle){.file = -1};
}

void raster_reader_close(struct raster_reader *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->source->lock);
    int left = --r->source->n_readers;
    pthread_mutex_unlock(&r->source->lock);
    if (left == 0) {
        for (int i = 0; i < HANDLES; i++)
            handle_close(&r->source->handle[i]);
        pthread_mutex_destroy(&r->source->lock);
        free(r->source);
    }
    free(r->wanted);
    free(r->row);
    free(r->has);
    free(r->scaled);
    free(r->state);
    free(r->touched);
    free(r->cell);
    free(r->patch);
    free(r);
}

/* Whether resample.c knows what the file holds. */
static bool check_plain(const struct raster_file *f, int n_bands, GDALDatasetH ds)
{
    for (int b = 0; b < n_bands; b++)
        if (GDALGetRasterDataType(GDALGetRasterBand(ds, f->band[b])) != f->type)
            return false;
    return !f->alpha || GDALGetRasterDataType(GDALGetRasterBand(ds, f->alpha)) == GDT_Byte;
}

static struct handle *handle_get(struct raster_reader *r, int file, struct err *e)
{
    struct source *s = r->source;
    struct handle *h = &s->handle[0];
    char why[200];
    for (int i = 0; i < HANDLES; i++) {
        if (s->handle[i].file == file) {
            s->handle[i].used = ++s->clock;
            return &s->handle[i];
        }
        if (s->handle[i].used < h->used)
            h = &s->handle[i];
    }
    handle_close(h);
    const struct raster_file *f = &r->set->file[file];
    CPLErrorReset();
    h->ds = GDALOpenEx(f->path, GDAL_OF_RASTER | GDAL_OF_READONLY, NULL, NULL, NULL);
    if (!h->ds)
        err_set(e, ERR_INPUT, "%s: %s can no longer be opened (%s)", r->set->phase, f->path,
                geo_message(why, sizeof why));
    else
        h->to_source = geo_transform(r->grid->wkt, f->wkt, e);
    if (!h->ds || !h->to_source) {
        handle_close(h);
        return NULL;
    }
    GDALGetBlockSize(GDALGetRasterBand(h->ds, f->band[0]), &h->block_w, &h->block_h);
    h->is_plain = check_plain(f, r->set->n_bands, h->ds);
    h->file = file;
    h->used = ++s->clock;
    return h;
}

static bool read_failed(const struct raster_reader *r, const struct raster_file *f, struct err *e)
{
    char why[200];
    return err_set(e, ERR_INPUT,
                   "%s: %s cannot be read (%s); the file looks truncated or corrupt: fetch it again",
                   r->set->phase, f->path, geo_message(why, sizeof why));
}

/* ---- what is done
 * ------------------------------------------------------------------------------------------------------- */

/* Takes the n pixels from (x, y) of the grid eastwards that have data: out [bands,n], has [n]. */
static void target_store(struct raster_reader *r, struct target *t, int x, int y, int n, const float *out,
                         const uint8_t *has)
{
    const size_t plane = (size_t)t->win.w * (size_t)t->win.h;
    const size_t at = (size_t)(y - t->win.y) * (size_t)t->win.w + (size_t)(x - t->win.x);
    for (int b = 0; b < r->set->n_bands; b++) {
        const float *from = out + (size_t)b * (size_t)n;
        if (t->bytes)
            scale_run(from, n, t->lo[b], t->hi[b], r->scaled);
        for (int i = 0; i < n; i++) {
            size_t k = (size_t)b * plane + at + (size_t)i;
            if (!has[i] || !t->wanted[at + (size_t)i])
                continue;
            if (t->bytes)
                t->bytes[k] = r->scaled[i];
            else
                t->px[k] = from[i];
        }
    }
    for (int i = 0; i < n; i++)
        if (has[i] && t->wanted[at + (size_t)i]) {
            t->wanted[at + (size_t)i] = 0;
            t->valid[at + (size_t)i] = 1;
            t->n_wanted--;
        }
}

static bool row_reserve(struct raster_reader *r, int n, struct err *e)
{
    if ((size_t)n <= r->n_row)
        return true;
    if (!mem_grow(&r->row, (size_t)n * (size_t)(r->set->n_bands + 1), sizeof *r->row, "an image row", e) ||
        !mem_grow(&r->has, (size_t)n, 1, "an image row", e) ||
        !mem_grow(&r->scaled, (size_t)n, 1, "an image row", e))
        return false;
    r->n_row = (size_t)n;
    return true;
}

/* ---- where a pixel lies in the source
 * ---------------------------------------------------------------------------------- */

/* GDAL peeks at the first bytes of a transformer for a signature of its own; `signature` is there to differ
 * from it. */
struct lattice {
    char signature[32];
    int x0, y0;           /* the window's corner on the grid */
    int nx, ny;           /* nodes */
    int first_x, first_y; /* grid position of node 0, multiples of LATTICE */
    double gsd_m;
    double *sx, *sy; /* [ny,nx] source pixel of each node, HUGE_VAL where there is none */
};

static int floor_to(int v, int step)
{
    return (v >= 0 ? v / step : -((-v + step - 1) / step)) * step;
}

static void lattice_free(struct lattice *l)
{
    free(l->sx);
    free(l->sy);
}

/* Its extent over `part`; the nodes come with lattice_fill. */
static struct lattice lattice_over(const struct event_grid *grid, struct window part)
{
    struct lattice l = {.signature = "aftermap lattice", .x0 = part.x, .y0 = part.y, .gsd_m = grid->gsd_m};
    l.first_x = floor_to(part.x - MARGIN, LATTICE);
    l.first_y = floor_to(part.y - MARGIN, LATTICE);
    l.nx = (part.x + part.w + MARGIN - l.first_x) / LATTICE + 2;
    l.ny = (part.y + part.h + MARGIN - l.first_y) / LATTICE + 2;
    return l;
}

static int lattice_cells(const struct lattice *l)
{
    return (l->nx - 1) * (l->ny - 1);
}

/* Computes the nodes: those of the cells that have pixels to do, or all when cell is NULL. */
static bool lattice_fill(struct lattice *l, const struct handle *h, const struct raster_file *f,
                         const struct event_grid *grid, const struct cell *cell, struct err *e)
{
    const size_t n = (size_t)l->nx * (size_t)l->ny;
    double *x = mem_array(n, sizeof *x, "the pixel lattice", e),
           *y = mem_array(n, sizeof *y, "the pixel lattice", e);
    int *good = mem_array(n, sizeof *good, "the pixel lattice", e), k = 0;
    size_t *node = mem_array(n, sizeof *node, "the pixel lattice", e);
    uint8_t *wanted = mem_array(n, 1, "the pixel lattice", e);
    l->sx = mem_array(n, sizeof *l->sx, "the pixel lattice", e);
    l->sy = mem_array(n, sizeof *l->sy, "the pixel lattice", e);
    bool ok = x && y && good && node && wanted && l->sx && l->sy;
    for (int i = 0; ok && i < lattice_cells(l); i++) {
        size_t at = (size_t)(i / (l->nx - 1)) * (size_t)l->nx + (size_t)(i % (l->nx - 1));
        if (!cell || cell[i].x0 < cell[i].x1)
            wanted[at] = wanted[at + 1] = wanted[at + (size_t)l->nx] = wanted[at + (size_t)l->nx + 1] = 1;
    }
    for (size_t i = 0; ok && i < n; i++) {
        l->sx[i] = l->sy[i] = HUGE_VAL;
        if (!wanted[i])
            continue;
        x[k] = grid->geotransform[0] + grid->gsd_m * (l->first_x + (int)(i % (size_t)l->nx) * LATTICE);
        y[k] = grid->geotransform[3] - grid->gsd_m * (l->first_y + (int)(i / (size_t)l->nx) * LATTICE);
        node[k++] = i;
    }
    if (ok)
        OCTTransformEx(h->to_source, k, x, y, NULL, good);
    for (int i = 0; ok && i < k; i++)
        if (good[i] && isfinite(x[i]) && isfinite(y[i]))
            GDALApplyGeoTransform((double *)f->inverse, x[i], y[i], &l->sx[node[i]], &l->sy[node[i]]);
    free(x);
    free(y);
    free(good);
    free(node);
    free(wanted);
    if (!ok)
        lattice_free(l);
    return ok;
}

/* A GDALTransformerFunc: window pixel -> source pixel. The warper asks only in this direction. */
static int lattice_map(void *arg, int to_source, int n, double *x, double *y, double *z, int *good)
{
    const struct lattice *l = arg;
    (void)z;
    for (int i = 0; i < n; i++) {
        double u = (x[i] + l->x0 - l->first_x) / LATTICE, v = (y[i] + l->y0 - l->first_y) / LATTICE;
        good[i] = to_source && u >= 0 && v >= 0 && u <= l->nx - 1 && v <= l->ny - 1;
        if (!good[i])
            continue;
        int c = (int)fmin(floor(u), l->nx - 2), r = (int)fmin(floor(v), l->ny - 2);
        size_t k = (size_t)r * (size_t)l->nx + (size_t)c, down = k + (size_t)l->nx;
        u -= c;
        v -= r;
        x[i] = (1 - v) * ((1 - u) * l->sx[k] + u * l->sx[k + 1]) +
               v * ((1 - u) * l->sx[down] + u * l->sx[down + 1]);
        y[i] = (1 - v) * ((1 - u) * l->sy[k] + u * l->sy[k + 1]) +
               v * ((1 - u) * l->sy[down] + u * l->sy[down + 1]);
        good[i] = isfinite(x[i]) && isfinite(y[i]);
    }
    return TRUE;
}

/* The places in the source of row y of the grid within the cell at node k: where its western and its eastern edge
 * lie; between them places move in equal steps. */
struct edge {
    double x[2], y[2];
};

static struct edge lattice_row(const struct lattice *l, size_t k, double v)
{
    const size_t down = k + (size_t)l->nx;
    return (struct edge){
        {(1 - v) * l->sx[k] + v * l->sx[down], (1 - v) * l->sx[k + 1] + v * l->sx[down + 1]},
        {(1 - v) * l->sy[k] + v * l->sy[down], (1 - v) * l->sy[k + 1] + v * l->sy[down + 1]}};
}

/* ---- GDAL's warper
 * ------------------------------------------------------------------------------------------------------ */

/* Source pixels per grid pixel along one axis, as the kernel is to know it, inverted. Left alone, GDAL derives
 * it from the window it happens to work on, and a pixel's value would depend on that. A source at most half
 * again as fine as the grid is sampled with the plain kernel. */
static double kernel_scale(double source_m, double grid_m)
{
    double scale = source_m / grid_m;
    return scale > fine_scale ? 1 : scale;
}

static char **set_scale(char **options, const char *key, double scale)
{
    char text[32];
    snprintf(text, sizeof text, "%.6f", scale);
    return CSLSetNameValue(options, key, text);
}

static GDALWarpOptions *warp_options(const struct raster_file *f, int n_bands, GDALDatasetH src,
                                     GDALDatasetH dst, struct lattice *l)
{
    GDALWarpOptions *o = GDALCreateWarpOptions();
    o->hSrcDS = src;
    o->hDstDS = dst;
    o->eResampleAlg = GRA_Bilinear;
    o->eWorkingDataType = GDT_Float32;
    o->dfWarpMemoryLimit = 64 << 20;
    o->nBandCount = n_bands;
    o->panSrcBands = CPLMalloc((size_t)n_bands * sizeof(int));
    o->panDstBands = CPLMalloc((size_t)n_bands * sizeof(int));
    for (int b = 0; b < n_bands; b++) {
        o->panSrcBands[b] = f->band[b];
        o->panDstBands[b] = b + 1;
    }
    o->nSrcAlphaBand = f->alpha;
    o->nDstAlphaBand = n_bands + 1;
    if (f->has_nodata) {
        o->padfSrcNoDataReal = CPLMalloc((size_t)n_bands * sizeof(double));
        memcpy(o->padfSrcNoDataReal, f->nodata, (size_t)n_bands * sizeof(double));
        /* Blank only when all bands say so: a dark red roof with blue 0 is no hole. */
        o->papszWarpOptions = CSLSetNameValue(o->papszWarpOptions, "UNIFIED_SRC_NODATA", "YES");
    }
    o->papszWarpOptions = CSLSetNameValue(o->papszWarpOptions, "INIT_DEST", "0");
    o->papszWarpOptions = set_scale(o->papszWarpOptions, "XSCALE", kernel_scale(f->gsd_x, l->gsd_m));
    o->papszWarpOptions = set_scale(o->papszWarpOptions, "YSCALE", kernel_scale(f->gsd_y, l->gsd_m));
    o->pfnTransformer = lattice_map;
    o->pTransformerArg = l;
    return o;
}

static GDALDatasetH warp_window(const struct handle *h, const struct raster_file *f, int n_bands,
                                struct lattice *l, int w, int h_px)
{
    GDALDatasetH dst = GDALCreate(GDALGetDriverByName("MEM"), "", w, h_px, n_bands + 1, GDT_Float32, NULL);
    if (!dst)
        return NULL;
    GDALSetRasterColorInterpretation(GDALGetRasterBand(dst, n_bands + 1), GCI_AlphaBand);
    GDALWarpOptions *o = warp_options(f, n_bands, h->ds, dst, l);
    GDALWarpOperationH op = GDALCreateWarpOperation(o);
    bool ok = op && GDALChunkAndWarpImage(op, 0, 0, w, h_px) == CE_None;
    GDALDestroyWarpOperation(op);
    GDALDestroyWarpOptions(o);
    if (!ok) {
        GDALClose(dst);
        return NULL;
    }
    return dst;
}

/* Puts what the file has in `part` into the pixels that are still to do. The source's lock is held. */
static bool warp_part(struct raster_reader *r, const struct handle *h, struct window part, struct target *t,
                      struct err *e)
{
    const struct raster_file *f = &r->set->file[h->file];
    const int n_bands = r->set->n_bands;
    struct lattice l = lattice_over(r->grid, part);
    if (!row_reserve(r, part.w, e) || !lattice_fill(&l, h, f, r->grid, NULL, e))
        return false;
    CPLErrorReset();
    GDALDatasetH warped = warp_window(h, f, n_bands, &l, part.w, part.h);
    lattice_free(&l);
    bool ok = warped != NULL;
    for (int y = 0; ok && y < part.h; y++) {
        ok = GDALDatasetRasterIO(warped, GF_Read, 0, y, part.w, 1, r->row, part.w, 1, GDT_Float32,
                                 n_bands + 1, NULL, 0, 0, 0) == CE_None;
        const float *opacity = r->row + (size_t)n_bands * (size_t)part.w;
        for (int i = 0; ok && i < part.w; i++) {
            r->has[i] = opacity[i] >= 127.5F;
            for (int b = 0; b < n_bands; b++)
                r->has[i] = r->has[i] && isfinite(r->row[(size_t)b * (size_t)part.w + (size_t)i]);
        }
        if (ok)
            target_store(r, t, part.x, part.y + y, part.w, r->row, r->has);
    }
    if (warped)
        GDALClose(warped);
    return ok ? true : read_failed(r, f, e);
}

/* ---- a patch of the source
 * ---------------------------------------------------------------------------------------------- */

/* Which pixels of each cell are to do; returns whether any is. */
static bool survey(const struct target *t, const struct lattice *l, struct window part, struct cell *cell)
{
    bool any = false;
    for (int i = 0; i < lattice_cells(l); i++) {
        const int x0 = l->first_x + i % (l->nx - 1) * LATTICE, y0 = l->first_y + i / (l->nx - 1) * LATTICE;
        const int x1 = x0 + LATTICE < part.x + part.w ? x0 + LATTICE : part.x + part.w;
        const int y1 = y0 + LATTICE < part.y + part.h ? y0 + LATTICE : part.y + part.h;
        struct cell c = {x1, y1, 0, 0};
        bool found = false;
        for (int y = y0 > part.y ? y0 : part.y; y < y1; y++) {
            const uint8_t *wanted = t->wanted + (size_t)(y - t->win.y) * (size_t)t->win.w - t->win.x;
            int a = x0 > part.x ? x0 : part.x, z = x1;
            while (a < z && !wanted[a])
                a++;
            while (a < z && !wanted[z - 1])
                z--;
            if (a == z)
                continue;
            c.x0 = a < c.x0 ? a : c.x0;
            c.x1 = found && c.x1 > z ? c.x1 : z;
            c.y0 = found ? c.y0 : y;
            c.y1 = y + 1;
            found = any = true;
        }
        cell[i] = found ? c : (struct cell){0};
    }
    return any;
}

/* The source pixels that the pixels to do of cell i need; empty when none of the image. */
static bool cell_source(const struct lattice *l, int i, const struct cell *c, const struct raster_file *f,
                        const struct resample_kernel *k, struct window *out)
{
    const size_t node = (size_t)(i / (l->nx - 1)) * (size_t)l->nx + (size_t)(i % (l->nx - 1));
    double x0 = HUGE_VAL, x1 = -HUGE_VAL, y0 = HUGE_VAL, y1 = -HUGE_VAL;
    if (c->x0 >= c->x1)
        return false;
    for (int corner = 0; corner < 4; corner++) {
        double u = ((corner & 1 ? c->x1 - 1 : c->x0) + 0.5 - l->first_x) / LATTICE - i % (l->nx - 1);
        double v = ((corner & 2 ? c->y1 - 1 : c->y0) + 0.5 - l->first_y) / LATTICE - i / (l->nx - 1);
        struct edge row = lattice_row(l, node, v);
        double x = (1 - u) * row.x[0] + u * row.x[1], y = (1 - u) * row.y[0] + u * row.y[1];
        if (!isfinite(x) || !isfinite(y))
            return false;
        x0 = fmin(x0, x);
        x1 = fmax(x1, x);
        y0 = fmin(y0, y);
        y1 = fmax(y1, y);
    }
    const double slack = 1e-6, rx = ceil(k->reach_x), ry = ceil(k->reach_y);
    x0 = fmax(floor(x0 - 0.5 - slack) - rx + 1, 0);
    y0 = fmax(floor(y0 - 0.5 - slack) - ry + 1, 0);
    x1 = fmin(floor(x1 - 0.5 + slack) + rx + 1, f->width);
    y1 = fmin(floor(y1 - 0.5 + slack) + ry + 1, f->height);
    if (!(x0 < x1 && y0 < y1))
        return false;
    *out = (struct window){(int)x0, (int)y0, (int)(x1 - x0), (int)(y1 - y0)};
    return true;
}

/* The smallest rectangle around what all cells need; cells that need nothing of the file are emptied. */
static struct window patch_extent(const struct lattice *l, struct cell *cell, const struct raster_file *f,
                                  const struct resample_kernel *k)
{
    struct window one;
    int x0 = INT32_MAX, y0 = INT32_MAX, x1 = 0, y1 = 0;
    for (int i = 0; i < lattice_cells(l); i++) {
        if (!cell_source(l, i, &cell[i], f, k, &one)) {
            cell[i] = (struct cell){0};
            continue;
        }
        x0 = one.x < x0 ? one.x : x0;
        y0 = one.y < y0 ? one.y : y0;
        x1 = one.x + one.w > x1 ? one.x + one.w : x1;
        y1 = one.y + one.h > y1 ? one.y + one.h : y1;
    }
    return x1 ? (struct window){x0, y0, x1 - x0, y1 - y0} : (struct window){0};
}

/* The blocks of the file under a patch, and which of them are touched. */
struct blocks {
    int w, h;         /* of a block, pixels */
    int x0, y0;       /* of the first, in blocks */
    int nx, ny;       /* blocks */
    uint8_t *touched; /* [ny,nx] */
};

/* The part of the patch under blocks [bx, bx1) of row by. */
static struct window blocks_part(const struct blocks *b, struct window patch, int bx, int bx1, int by)
{
    int x0 = (b->x0 + bx) * b->w, x1 = (b->x0 + bx1) * b->w, y0 = (b->y0 + by) * b->h, y1 = y0 + b->h;
    x0 = x0 > patch.x ? x0 : patch.x;
    y0 = y0 > patch.y ? y0 : patch.y;
    x1 = x1 < patch.x + patch.w ? x1 : patch.x + patch.w;
    y1 = y1 < patch.y + patch.h ? y1 : patch.y + patch.h;
    return (struct window){x0, y0, x1 - x0, y1 - y0};
}

/* The next run of touched blocks from *at on, by rows; false at the end. */
static bool blocks_next(const struct blocks *b, struct window patch, int *at, struct window *part)
{
    const int n = b->nx * b->ny;
    int i = *at;
    while (i < n && !b->touched[i])
        i++;
    if (i == n)
        return false;
    int end = i + 1;
    while (end < n && end % b->nx && b->touched[end])
        end++;
    *at = end;
    *part = blocks_part(b, patch, i % b->nx, (end - 1) % b->nx + 1, i / b->nx);
    return true;
}

static bool blocks_touch(struct raster_reader *r, const struct lattice *l, const struct handle *h,
                         const struct resample_kernel *k, struct window patch, struct blocks *b,
                         struct err *e)
{
    const struct raster_file *f = &r->set->file[h->file];
    *b = (struct blocks){
        .w = h->block_w, .h = h->block_h, .x0 = patch.x / h->block_w, .y0 = patch.y / h->block_h};
    b->nx = (patch.x + patch.w - 1) / b->w - b->x0 + 1;
    b->ny = (patch.y + patch.h - 1) / b->h - b->y0 + 1;
    size_t n = (size_t)b->nx * (size_t)b->ny;
    if (n > r->n_touched && !mem_grow(&r->touched, n, 1, "the image's blocks", e))
        return false;
    r->n_touched = n > r->n_touched ? n : r->n_touched;
    b->touched = r->touched;
    memset(b->touched, 0, n);
    struct window one;
    for (int i = 0; i < lattice_cells(l); i++)
        if (cell_source(l, i, &r->cell[i], f, k, &one))
            for (int y = one.y / b->h - b->y0; y <= (one.y + one.h - 1) / b->h - b->y0; y++)
                for (int x = one.x / b->w - b->x0; x <= (one.x + one.w - 1) / b->w - b->x0; x++)
                    b->touched[y * b->nx + x] = 1;
    return true;
}

/* Reads the touched blocks into the reader's patch, opacity into its state. The source's lock is held. */
static bool patch_read(struct raster_reader *r, const struct handle *h, struct window patch,
                       const struct blocks *b, struct err *e)
{
    const struct raster_file *f = &r->set->file[h->file];
    const int size = GDALGetDataTypeSizeBytes(f->type), n_bands = r->set->n_bands;
    const size_t plane = (size_t)patch.w * (size_t)patch.h;
    if (plane > r->n_patch / ((size_t)n_bands * (size_t)size)) {
        if (!mem_grow(&r->patch, plane * (size_t)n_bands, (size_t)size, "an image window", e))
            return false;
        r->n_patch = plane * (size_t)n_bands * (size_t)size;
    }
    if (plane > r->n_state) {
        if (!mem_grow(&r->state, plane, 1, "an image window", e))
            return false;
        r->n_state = plane;
    }
    GDALRasterBandH opacity = f->alpha      ? GDALGetRasterBand(h->ds, f->alpha)
                              : f->has_mask ? GDALGetMaskBand(GDALGetRasterBand(h->ds, f->band[0]))
                                            : NULL;
    struct window p;
    bool ok = true;
    CPLErrorReset();
    for (int at = 0; ok && blocks_next(b, patch, &at, &p);) {
        const size_t first = (size_t)(p.y - patch.y) * (size_t)patch.w + (size_t)(p.x - patch.x);
        ok = GDALDatasetRasterIO(h->ds, GF_Read, p.x, p.y, p.w, p.h, r->patch + first * (size_t)size, p.w,
                                 p.h, f->type, n_bands, (int *)(uintptr_t)f->band, size, patch.w * size,
                                 (int)plane * size) == CE_None;
        ok = ok && (!opacity || GDALRasterIO(opacity, GF_Read, p.x, p.y, p.w, p.h, r->state + first, p.w, p.h,
                                             GDT_Byte, 1, patch.w) == CE_None);
    }
    return ok ? true : read_failed(r, f, e);
}

/* Turns opacity and nodata into the patch's state; returns whether any pixel read is less than data. */
static bool patch_mark(struct raster_reader *r, const struct raster_file *f, struct window patch,
                       const struct blocks *b)
{
    const int size = GDALGetDataTypeSizeBytes(f->type);
    const bool faint = f->alpha > 0, masked = faint || f->has_mask;
    struct window p;
    bool any = false;
    if (!masked && !f->has_nodata)
        return false;
    for (int at = 0; blocks_next(b, patch, &at, &p);)
        for (int y = p.y; y < p.y + p.h; y++) {
            const size_t first = (size_t)(y - patch.y) * (size_t)patch.w + (size_t)(p.x - patch.x);
            uint8_t *state = r->state + first;
            for (int i = 0; masked && i < p.w; i++) {
                state[i] = state[i] == 0             ? RESAMPLE_BLANK
                           : faint && state[i] < 128 ? RESAMPLE_FAINT
                                                     : RESAMPLE_DATA;
                any = any || state[i] != RESAMPLE_DATA;
            }
            if (!masked)
                memset(state, RESAMPLE_DATA, (size_t)p.w);
            if (f->has_nodata &&
                resample_mark_blank(r->patch + first * (size_t)size, f->type, r->set->n_bands,
                                    (size_t)patch.w * (size_t)patch.h, (size_t)p.w, f->nodata, state))
                any = true;
        }
    return any;
}

/* The pixels to do of cell i, row by row. */
static void resample_cell(struct raster_reader *r, struct target *t, const struct lattice *l, int i,
                          const struct resample_patch *patch, const struct resample_kernel *k)
{
    const size_t node = (size_t)(i / (l->nx - 1)) * (size_t)l->nx + (size_t)(i % (l->nx - 1));
    const int cx = l->first_x + i % (l->nx - 1) * LATTICE, cy = l->first_y + i / (l->nx - 1) * LATTICE;
    const struct cell *c = &r->cell[i];
    for (int y = c->y0; y < c->y1; y++) {
        const uint8_t *wanted = t->wanted + (size_t)(y - t->win.y) * (size_t)t->win.w - t->win.x;
        struct edge row = lattice_row(l, node, (y + 0.5 - cy) / LATTICE);
        const double dx = (row.x[1] - row.x[0]) / LATTICE, dy = (row.y[1] - row.y[0]) / LATTICE;
        for (int x = c->x0, end; x < c->x1; x = end) {
            for (end = x + 1; end < c->x1 && wanted[end] == wanted[x]; end++)
                ;
            if (!wanted[x])
                continue;
            const double u = x + 0.5 - cx;
            resample_run(patch, k, row.x[0] + u * dx, dx, row.y[0] + u * dy, dy, end - x, r->row, r->has);
            target_store(r, t, x, y, end - x, r->row, r->has);
        }
    }
}

/* ---- reading
 * -----------------------------------------------------------------------------------------------------------
 */

/* The part of `win` that can hold pixels of the file: in a mosaic of many files most of a window is other
 * files'. */
static bool clip_to_file(const struct event_grid *g, const double box[4], struct window win,
                         struct window *out)
{
    double x0 = fmax(win.x, floor((box[0] - g->geotransform[0]) / g->gsd_m) - 1);
    double x1 = fmin(win.x + win.w, ceil((box[2] - g->geotransform[0]) / g->gsd_m) + 1);
    double y0 = fmax(win.y, floor((g->geotransform[3] - box[3]) / g->gsd_m) - 1);
    double y1 = fmin(win.y + win.h, ceil((g->geotransform[3] - box[1]) / g->gsd_m) + 1);
    if (!(x0 < x1 && y0 < y1))
        return false;
    *out = (struct window){(int)x0, (int)y0, (int)(x1 - x0), (int)(y1 - y0)};
    return true;
}

static bool add_file(struct raster_reader *r, int file, struct window part, struct target *t, struct err *e);

/* A part whose source is too large for one patch, in two. Pixels keep their values: they depend on no window. */
static bool add_halves(struct raster_reader *r, int file, struct window part, struct target *t, struct err *e)
{
    struct window a = part, b = part;
    if (part.w >= part.h) {
        a.w = part.w / 2;
        b.x += a.w;
        b.w -= a.w;
    } else {
        a.h = part.h / 2;
        b.y += a.h;
        b.h -= a.h;
    }
    return add_file(r, file, a, t, e) && add_file(r, file, b, t, e);
}

/* Puts what `file` has in `part` into the pixels that are still to do. */
static bool add_file(struct raster_reader *r, int file, struct window part, struct target *t, struct err *e)
{
    const struct raster_file *f = &r->set->file[file];
    const struct resample_kernel k = {1 / kernel_scale(f->gsd_x, r->grid->gsd_m),
                                      1 / kernel_scale(f->gsd_y, r->grid->gsd_m)};
    struct lattice l = lattice_over(r->grid, part);
    const size_t n_cells = (size_t)lattice_cells(&l);
    if (n_cells > r->n_cell) {
        if (!mem_grow(&r->cell, n_cells, sizeof *r->cell, "the pixel lattice", e))
            return false;
        r->n_cell = n_cells;
    }
    if (!survey(t, &l, part, r->cell))
        return true;
    struct window extent = {0};
    struct blocks blocks;
    bool is_plain = !r->only_warper && fmax(k.reach_x, k.reach_y) < RESAMPLE_MAX_TAPS / 2 - 1;
    pthread_mutex_lock(&r->source->lock);
    const struct handle *h = handle_get(r, file, e);
    is_plain = is_plain && h && h->is_plain;
    bool ok = h && (is_plain ? row_reserve(r, LATTICE, e) && lattice_fill(&l, h, f, r->grid, r->cell, e)
                             : warp_part(r, h, part, t, e));
    if (ok && is_plain)
        extent = patch_extent(&l, r->cell, f, &k);
    const bool large =
        (double)extent.w * extent.h * (r->set->n_bands * GDALGetDataTypeSizeBytes(f->type) + 1) >
            PATCH_MAX_BYTES &&
        (part.w > LATTICE || part.h > LATTICE);
    if (extent.w && !large)
        ok = blocks_touch(r, &l, h, &k, extent, &blocks, e) && patch_read(r, h, extent, &blocks, e);
    pthread_mutex_unlock(&r->source->lock);
    if (ok && extent.w && large) {
        ok = add_halves(r, file, part, t, e);
    } else if (ok && extent.w) {
        struct resample_patch patch = {extent.x,  extent.y,        extent.w, extent.h, f->width,
                                       f->height, r->set->n_bands, f->type,  r->patch, r->state};
        if (!patch_mark(r, f, extent, &blocks))
            patch.state = NULL;
        for (int i = 0; i < lattice_cells(&l); i++)
            resample_cell(r, t, &l, i, &patch, &k);
    }
    lattice_free(&l);
    return ok;
}

static bool read_target(struct raster_reader *r, struct target *t, const uint8_t *need, struct err *e)
{
    const size_t n = (size_t)t->win.w * (size_t)t->win.h;
    struct window part;
    assert(t->win.w > 0 && t->win.h > 0);
    if (n > r->n_wanted) {
        if (!mem_grow(&r->wanted, n, 1, "an image window", e))
            return false;
        r->n_wanted = n;
    }
    t->wanted = r->wanted;
    t->n_wanted = n;
    memset(t->valid, 0, n);
    if (need) {
        t->n_wanted = 0;
        for (size_t i = 0; i < n; i++)
            t->n_wanted += t->wanted[i] = need[i] != 0;
    } else {
        memset(t->wanted, 1, n);
    }
    for (int i = 0; i < r->set->n && t->n_wanted > 0; i++)
        if (clip_to_file(r->grid, r->set->file[i].box, t->win, &part) && !add_file(r, i, part, t, e))
            return false;
    for (size_t i = 0; t->n_wanted > 0 && i < n; i++)
        for (int b = 0; t->wanted[i] && b < r->set->n_bands; b++) {
            if (t->bytes)
                t->bytes[(size_t)b * n + i] = 0;
            else
                t->px[(size_t)b * n + i] = 0;
        }
    return true;
}

bool raster_read(struct raster_reader *r, int x, int y, int w, int h, float *px, uint8_t *valid,
                 struct err *e)
{
    struct target t = {.win = {x, y, w, h}, .px = px, .valid = valid};
    return read_target(r, &t, NULL, e);
}

bool raster_read_bytes(struct raster_reader *r, int x, int y, int w, int h, const uint8_t *need,
                       const double *lo, const double *hi, uint8_t *px, uint8_t *valid, struct err *e)
{
    struct target t = {.win = {x, y, w, h}, .bytes = px, .lo = lo, .hi = hi, .valid = valid};
    return read_target(r, &t, need, e);
}
