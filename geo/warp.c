/* SPDX-License-Identifier: Apache-2.0
 *
 * warp.c - any window of a date's images on the working grid, through GDAL's warper into memory. Declared in
 * raster.h.
 *
 * Where a grid pixel lies in a source is computed exactly (PROJ, then the inverse geotransform, which may be
 * rotated) at the nodes of a lattice that is fixed to the grid, every LATTICE pixels, and bilinearly between
 * them. At 32 pixels of half a metre the error is below 1e-3 source pixels, the cost of PROJ vanishes, and,
 * unlike GDAL's own approximation along each scan line, the value of a pixel does not depend on the window it
 * is read in.
 *
 * Blank source pixels (nodata, alpha, mask) get no weight; a grid pixel counts as valid when at least half of
 * the kernel's weight had data (the warper's destination alpha). A read that fails is an error and never
 * turns into zeros. */
#include "geo/raster.h"

#include "models/base/mem.h"
#include <assert.h>
#include <cpl_string.h>
#include <gdalwarper.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdlib.h>
#include <string.h>

enum { LATTICE = 32, HANDLES = 8, MARGIN = 4 };

struct handle {
    GDALDatasetH ds;
    OGRCoordinateTransformationH to_source;
    int file; /* index in the set, -1 when unused */
    unsigned long used;
};

struct raster_reader {
    const struct raster_set *set;
    const struct event_grid *grid;
    struct handle handle[HANDLES]; /* the most recently used files stay open */
    unsigned long clock;
    float *plane; /* scratch [h,w] of the largest window so far */
    uint8_t *alpha;
    size_t n_plane;
};

struct raster_reader *raster_reader_open(const struct raster_set *s, const struct event_grid *grid,
                                         struct err *e)
{
    struct raster_reader *r = mem_array(1, sizeof *r, "an image reader", e);
    if (!r)
        return NULL;
    r->set = s;
    r->grid = grid;
    for (int i = 0; i < HANDLES; i++)
        r->handle[i].file = -1;
    return r;
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
    for (int i = 0; i < HANDLES; i++)
        handle_close(&r->handle[i]);
    free(r->plane);
    free(r->alpha);
    free(r);
}

static struct handle *handle_get(struct raster_reader *r, int file, struct err *e)
{
    struct handle *h = &r->handle[0];
    char why[200];
    for (int i = 0; i < HANDLES; i++) {
        if (r->handle[i].file == file) {
            r->handle[i].used = ++r->clock;
            return &r->handle[i];
        }
        if (r->handle[i].used < h->used)
            h = &r->handle[i];
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
    h->file = file;
    h->used = ++r->clock;
    return h;
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

static bool lattice_make(struct lattice *l, const struct handle *h, const struct raster_file *f,
                         const struct event_grid *grid, int x, int y, int w, int h_px, struct err *e)
{
    *l = (struct lattice){.signature = "aftermap lattice", .x0 = x, .y0 = y, .gsd_m = grid->gsd_m};
    l->first_x = floor_to(x - MARGIN, LATTICE);
    l->first_y = floor_to(y - MARGIN, LATTICE);
    l->nx = (x + w + MARGIN - l->first_x) / LATTICE + 2;
    l->ny = (y + h_px + MARGIN - l->first_y) / LATTICE + 2;
    size_t n = (size_t)l->nx * (size_t)l->ny;
    l->sx = mem_array(n, sizeof *l->sx, "the pixel lattice", e);
    l->sy = mem_array(n, sizeof *l->sy, "the pixel lattice", e);
    int *good = mem_array(n, sizeof *good, "the pixel lattice", e);
    if (!l->sx || !l->sy || !good) {
        free(good);
        lattice_free(l);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        l->sx[i] = grid->geotransform[0] + grid->gsd_m * (l->first_x + (int)(i % (size_t)l->nx) * LATTICE);
        l->sy[i] = grid->geotransform[3] - grid->gsd_m * (l->first_y + (int)(i / (size_t)l->nx) * LATTICE);
    }
    OCTTransformEx(h->to_source, (int)n, l->sx, l->sy, NULL, good);
    for (size_t i = 0; i < n; i++) {
        double cx = l->sx[i], cy = l->sy[i];
        if (good[i] && isfinite(cx) && isfinite(cy))
            GDALApplyGeoTransform((double *)f->inverse, cx, cy, &l->sx[i], &l->sy[i]);
        else
            l->sx[i] = l->sy[i] = HUGE_VAL;
    }
    free(good);
    return true;
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

/* ---- reading
 * -----------------------------------------------------------------------------------------------------------
 */

/* Grid pixels per source pixel along one axis, as the warper's kernel is to know it. Left alone, GDAL derives
 * it from the window it happens to work on, and a pixel's value would depend on that. A source at most half
 * again as fine as the grid is sampled with the plain kernel. */
static char **set_scale(char **options, const char *key, double source_m, double grid_m)
{
    char text[32];
    double scale = source_m / grid_m;
    snprintf(text, sizeof text, "%.6f", scale > 0.66 ? 1 : scale);
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
    o->papszWarpOptions = set_scale(o->papszWarpOptions, "XSCALE", f->gsd_x, l->gsd_m);
    o->papszWarpOptions = set_scale(o->papszWarpOptions, "YSCALE", f->gsd_y, l->gsd_m);
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

/* A rectangle of the working grid, in pixels. */
struct window {
    int x, y, w, h;
};

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

/* Puts what `file` has in `part` into those pixels of `win` that are still blank, and counts them off. */
static bool add_file(struct raster_reader *r, int file, struct window win, struct window part, float *px,
                     uint8_t *valid, size_t *n_blank, struct err *e)
{
    const struct raster_file *f = &r->set->file[file];
    const size_t plane = (size_t)win.w * (size_t)win.h, n = (size_t)part.w * (size_t)part.h;
    const int n_bands = r->set->n_bands;
    char why[200];
    struct lattice l;
    struct handle *h = handle_get(r, file, e);
    if (!h || !lattice_make(&l, h, f, r->grid, part.x, part.y, part.w, part.h, e))
        return false;
    CPLErrorReset();
    GDALDatasetH warped = warp_window(h, f, n_bands, &l, part.w, part.h);
    lattice_free(&l);
    bool ok = warped != NULL;
    for (int b = n_bands; ok && b >= 0; b--) { /* the alpha band first: it says which pixels to take */
        GDALRasterBandH band = GDALGetRasterBand(warped, b + 1);
        ok = GDALRasterIO(band, GF_Read, 0, 0, part.w, part.h, r->plane, part.w, part.h, GDT_Float32, 0, 0) ==
             CE_None;
        for (size_t i = 0; ok && i < n; i++) {
            size_t at = (size_t)(part.y - win.y + (int)(i / (size_t)part.w)) * (size_t)win.w +
                        (size_t)(part.x - win.x + (int)(i % (size_t)part.w));
            if (b == n_bands)
                r->alpha[i] = !valid[at] && r->plane[i] >= 127.5F;
            else if (!isfinite(r->plane[i]))
                r->alpha[i] = 0;
            else if (r->alpha[i])
                px[(size_t)b * plane + at] = r->plane[i];
            if (b == 0 && r->alpha[i]) {
                valid[at] = 1;
                --*n_blank;
            }
        }
    }
    if (warped)
        GDALClose(warped);
    return ok ? true
              : err_set(e, ERR_INPUT,
                        "%s: %s cannot be read (%s); the file looks truncated or corrupt: fetch it again",
                        r->set->phase, f->path, geo_message(why, sizeof why));
}

bool raster_read(struct raster_reader *r, int x, int y, int w, int h, float *px, uint8_t *valid,
                 struct err *e)
{
    const size_t n = (size_t)w * (size_t)h;
    struct window win = {x, y, w, h}, part;
    assert(w > 0 && h > 0);
    if (n > r->n_plane) {
        if (!mem_grow(&r->plane, n, sizeof *r->plane, "an image window", e) ||
            !mem_grow(&r->alpha, n, 1, "an image window", e))
            return false;
        r->n_plane = n;
    }
    memset(px, 0, n * (size_t)r->set->n_bands * sizeof *px);
    memset(valid, 0, n);
    size_t n_blank = n;
    for (int i = 0; i < r->set->n && n_blank > 0; i++)
        if (clip_to_file(r->grid, r->set->file[i].box, win, &part) &&
            !add_file(r, i, win, part, px, valid, &n_blank, e))
            return false;
    /* A band that is no number leaves its pixel blank; other bands of it may have been written. */
    for (size_t i = 0; n_blank > 0 && i < n; i++)
        for (int b = 0; !valid[i] && b < r->set->n_bands; b++)
            px[(size_t)b * n + i] = 0;
    return true;
}
