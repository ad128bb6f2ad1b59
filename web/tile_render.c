/* SPDX-License-Identifier: Apache-2.0
 * tile_render.c - drawing one tile (tile_render.h).
 *
 * For each raster that touches the tile: where the tile's corners and a grid between them fall in the raster
 * gives the window; RasterIO reads it reduced to the tile's scale (through overviews where there are any);
 * the samples become 8-bit RGBA; GDAL's warper puts that into the tile, over what earlier rasters left there.
 * Reading a reduced window first keeps the cost of a tile the same at every zoom, which warping the raster
 * itself would not. */
#include "web/tile_render.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include <assert.h>
#include <cpl_conv.h>
#include <cpl_error.h>
#include <cpl_vsi.h>
#include <gdal_alg.h>
#include <gdalwarper.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EARTH_HALF_M 20037508.342789244

enum {
    GRID = 17, /* points a side that carry the tile into a raster */
    BUFFER_MAX_PX = 1024,
    AVERAGE_MAX_PX = 16 << 20 /* windows above this, without overviews, are thinned instead of averaged */
};

struct tile_pool {
    pthread_mutex_t lock; /* guards the rest and every source's last_used */
    struct tile_source *open[TILES_MAX_OPEN];
    int n_open;
    uint64_t clock;
    uint64_t n_names; /* of in-memory files */
    char *mercator;   /* WKT of EPSG:3857 */
};

struct tile_pool *tile_pool_create(struct err *e)
{
    struct tile_pool *p = mem_array(1, sizeof *p, "the list of open rasters", e);
    if (!p)
        return NULL;
    OGRSpatialReferenceH srs = OSRNewSpatialReference(NULL);
    if (OSRImportFromEPSG(srs, 3857) != OGRERR_NONE || OSRExportToWkt(srs, &p->mercator) != OGRERR_NONE) {
        err_set(e, ERR_RUNTIME,
                "PROJ does not know EPSG:3857; its data files (package proj-data) may be missing");
        free(p);
        p = NULL;
    } else {
        pthread_mutex_init(&p->lock, NULL);
    }
    OSRDestroySpatialReference(srs);
    return p;
}

void tile_pool_free(struct tile_pool *p)
{
    if (!p)
        return;
    pthread_mutex_destroy(&p->lock);
    CPLFree(p->mercator);
    free(p);
}

void tile_pool_forget(struct tile_pool *p, const struct tile_layer *layer)
{
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < p->n_open;) {
        bool is_its = p->open[i] >= layer->source && p->open[i] < layer->source + layer->n;
        if (is_its)
            p->open[i] = p->open[--p->n_open];
        else
            i++;
    }
    pthread_mutex_unlock(&p->lock);
}

/* The raster, open, with the source's lock held by the caller. Closes the longest unused one when too many
 * are open: never one in use, for its lock cannot be had then. Locks are taken in the order source, pool, and
 * only tried for a victim. */
static GDALDatasetH pool_open(struct tile_pool *pool, struct tile_source *s, struct err *e)
{
    bool is_new = s->dataset == NULL;
    if (is_new)
        s->dataset = tile_raster_open(s->path, e);
    if (!s->dataset)
        return NULL;
    pthread_mutex_lock(&pool->lock);
    s->last_used = ++pool->clock;
    while (is_new && pool->n_open == TILES_MAX_OPEN) {
        int victim = -1;
        for (int i = 0; i < pool->n_open; i++) {
            if (victim >= 0 && pool->open[i]->last_used >= pool->open[victim]->last_used)
                continue;
            if (pthread_mutex_trylock(&pool->open[i]->lock) != 0)
                continue;
            if (victim >= 0)
                pthread_mutex_unlock(&pool->open[victim]->lock);
            victim = i;
        }
        assert(victim >= 0); /* there are more slots than threads, so one is not in use */
        struct tile_source *old = pool->open[victim];
        GDALClose(old->dataset);
        old->dataset = NULL;
        pthread_mutex_unlock(&old->lock);
        pool->open[victim] = pool->open[--pool->n_open];
    }
    if (is_new)
        pool->open[pool->n_open++] = s;
    pthread_mutex_unlock(&pool->lock);
    return s->dataset;
}

static OGRCoordinateTransformationH transform_to(const char *from_wkt, const char *to_wkt)
{
    OGRSpatialReferenceH from = OSRNewSpatialReference(from_wkt), to = OSRNewSpatialReference(to_wkt);
    OSRSetAxisMappingStrategy(from, OAMS_TRADITIONAL_GIS_ORDER);
    OSRSetAxisMappingStrategy(to, OAMS_TRADITIONAL_GIS_ORDER);
    OGRCoordinateTransformationH t = OCTNewCoordinateTransformation(from, to);
    OSRDestroySpatialReference(from);
    OSRDestroySpatialReference(to);
    return t;
}

struct window {
    int x, y, w, h;         /* in the raster */
    int buffer_w, buffer_h; /* as read */
};

/* Where the tile lies in the raster; false when they do not meet. */
static bool find_window(const struct tile_pool *pool, const struct tile_source *s, const double tile[4],
                        struct window *win)
{
    double x[GRID * GRID], y[GRID * GRID], z[GRID * GRID] = {0};
    double minx = HUGE_VAL, miny = HUGE_VAL, maxx = -HUGE_VAL, maxy = -HUGE_VAL;
    int ok[GRID * GRID];
    for (int i = 0; i < GRID * GRID; i++) {
        x[i] = tile[0] + (tile[2] - tile[0]) * (i % GRID) / (GRID - 1);
        y[i] = tile[1] + (tile[3] - tile[1]) * (i / GRID) / (GRID - 1);
    }
    OGRCoordinateTransformationH t = transform_to(pool->mercator, s->wkt);
    if (!t)
        return false;
    OCTTransformEx(t, GRID * GRID, x, y, z, ok);
    OCTDestroyCoordinateTransformation(t);
    double step = HUGE_VAL; /* raster pixels from grid point to grid point, the least */
    double px = 0, py = 0;
    bool has_last = false;
    for (int i = 0; i < GRID * GRID; i++) {
        if (!ok[i] || !isfinite(x[i]) || !isfinite(y[i])) {
            has_last = false;
            continue;
        }
        double u, v;
        GDALApplyGeoTransform((double *)s->inverse, x[i], y[i], &u, &v);
        if (has_last && i % GRID)
            step = fmin(step, hypot(u - px, v - py));
        px = u;
        py = v;
        has_last = true;
        minx = fmin(minx, u);
        miny = fmin(miny, v);
        maxx = fmax(maxx, u);
        maxy = fmax(maxy, v);
    }
    if (minx > maxx || !isfinite(step))
        return false;
    double reduction = fmax(1, step * (GRID - 1) / TILE_PX);
    double margin = 2 * reduction + 1;
    minx = fmax(0, floor(minx - margin));
    miny = fmax(0, floor(miny - margin));
    maxx = fmin(s->width, ceil(maxx + margin));
    maxy = fmin(s->height, ceil(maxy + margin));
    if (minx >= maxx || miny >= maxy)
        return false;
    win->x = (int)minx;
    win->y = (int)miny;
    win->w = (int)(maxx - minx);
    win->h = (int)(maxy - miny);
    win->buffer_w = (int)fmin(BUFFER_MAX_PX, fmax(1, ceil(win->w / reduction)));
    win->buffer_h = (int)fmin(BUFFER_MAX_PX, fmax(1, ceil(win->h / reduction)));
    return true;
}

/* Colours of contract g's damage scale; codes as mapping.h writes them. */
static void color_class(uint8_t code, uint8_t *rgba, size_t plane)
{
    static const uint8_t palette[5][3] = {
        {0xf7, 0xf7, 0xf7}, {0xfd, 0xcc, 0x8a}, {0xe3, 0x4a, 0x33}, {0x7a, 0x00, 0x00}, {0x80, 0x80, 0x80}};
    int i = code >= 1 && code <= 4 ? code - 1 : code == 254 ? 4 : -1;
    for (int k = 0; k < 3; k++)
        rgba[(size_t)k * plane] = i < 0 ? 0 : palette[i][k];
    rgba[3 * plane] = i < 0 ? 0 : 255;
}

/* A share of 0..1, or how undecided it is, on a ramp in steps of 1/32: no tile gives more of the model away than a table
 * does. Not finite: nothing there. */
static void color_share(enum tile_style style, double p, uint8_t *rgba, size_t plane)
{
    static const uint8_t ramp[2][3][3] = {{{0xff, 0xf5, 0xeb}, {0xf1, 0x69, 0x13}, {0x7f, 0x00, 0x00}},
                                          {{0xfc, 0xfb, 0xfd}, {0x9e, 0x9a, 0xc8}, {0x3f, 0x00, 0x7d}}};
    bool is_uncertainty = style == TILE_STYLE_UNCERTAINTY;
    double v = fmin(fmax(p, 0), 1);
    if (is_uncertainty)
        v = v <= 0 || v >= 1 ? 0 : -(v * log2(v) + (1 - v) * log2(1 - v));
    v = round(v * 32) / 32;
    int half = v >= 0.5; /* of the ramp's two */
    double t = isfinite(p) ? 2 * v - half : 0;
    for (int k = 0; k < 3; k++) {
        double from = ramp[is_uncertainty][half][k], to = ramp[is_uncertainty][half + 1][k];
        rgba[(size_t)k * plane] = isfinite(p) ? (uint8_t)lround(from + t * (to - from)) : 0;
    }
    rgba[3 * plane] = isfinite(p) ? 255 : 0;
}

/* Samples to RGBA planes [4][buffer_h][buffer_w]; px [n_bands][...], mask [...]. */
static void color(const struct tile_layer *layer, int n_bands, const float *px, const uint8_t *mask,
                  size_t plane, uint8_t *rgba)
{
    for (size_t i = 0; i < plane; i++) {
        if (layer->style == TILE_STYLE_CLASSES) {
            color_class((uint8_t)fmaxf(0, fminf(255, px[i])), rgba + i, plane);
            continue;
        }
        if (layer->style != TILE_STYLE_IMAGE) {
            color_share(layer->style, mask[i] ? (double)px[i] : NAN, rgba + i, plane);
            continue;
        }
        for (size_t k = 0; k < 3; k++) {
            size_t band = n_bands == 3 ? k : 0;
            double v = (double)px[band * plane + i];
            if (!layer->is_byte)
                v = 255 * (v - layer->low[band]) / (layer->high[band] - layer->low[band]);
            rgba[k * plane + i] = (uint8_t)lround(v > 0 ? fmin(255, v) : 0); /* NaN becomes 0 */
        }
        rgba[3 * plane + i] = mask[i] ? 255 : 0;
    }
}

/* Reads the window; the source's lock is held. more: scratch of the mask's size. */
static bool read_window(GDALDatasetH ds, const struct tile_layer *layer, const struct tile_source *s,
                        const struct window *win, float *px, uint8_t *mask, uint8_t *more, struct err *e)
{
    size_t plane = (size_t)win->buffer_w * (size_t)win->buffer_h;
    for (int k = 0; k < s->n_bands; k++) {
        GDALRasterBandH band = GDALGetRasterBand(ds, s->band[k]);
        GDALRasterIOExtraArg extra;
        INIT_RASTERIO_EXTRA_ARG(extra);
        bool is_reduced = win->buffer_w < win->w || win->buffer_h < win->h;
        bool is_cheap = GDALGetOverviewCount(band) > 0 || (double)win->w * win->h <= AVERAGE_MAX_PX;
        if (is_reduced && is_cheap && layer->style == TILE_STYLE_IMAGE)
            extra.eResampleAlg = GRIORA_Average;
        if (GDALRasterIOEx(band, GF_Read, win->x, win->y, win->w, win->h, px + (size_t)k * plane,
                           win->buffer_w, win->buffer_h, GDT_Float32, 0, 0, &extra) != CE_None)
            return err_set(e, ERR_RUNTIME, "%s cannot be read here", file_base(s->path));
    }
    /* A pixel is there when any band has it: zero as "no data" must not punch holes into dark colours. */
    for (int k = 0; k < s->n_bands; k++) {
        GDALRasterBandH band = GDALGetRasterBand(ds, s->band[k]);
        if (k && !(GDALGetMaskFlags(band) & GMF_NODATA))
            break; /* one mask for all bands */
        if (GDALRasterIO(GDALGetMaskBand(band), GF_Read, win->x, win->y, win->w, win->h, k ? more : mask,
                         win->buffer_w, win->buffer_h, GDT_Byte, 0, 0) != CE_None)
            return err_set(e, ERR_RUNTIME, "%s cannot be read here", file_base(s->path));
        for (size_t i = 0; k && i < plane; i++)
            mask[i] |= more[i];
    }
    return true;
}

static GDALDatasetH memory_raster(int w, int h, const double geotransform[6], const char *wkt)
{
    GDALDatasetH ds = GDALCreate(GDALGetDriverByName("MEM"), "", w, h, 4, GDT_Byte, NULL);
    if (!ds)
        return NULL;
    GDALSetGeoTransform(ds, (double *)geotransform);
    GDALSetProjection(ds, wkt);
    for (int k = 0; k < 4; k++)
        GDALSetRasterColorInterpretation(GDALGetRasterBand(ds, k + 1), (GDALColorInterp)(GCI_RedBand + k));
    return ds;
}

static bool warp(GDALDatasetH from, GDALDatasetH to, bool is_nearest, struct err *e)
{
    GDALWarpOptions *o = GDALCreateWarpOptions();
    GDALWarpOperationH op = NULL;
    bool ok = false;
    void *image = GDALCreateGenImgProjTransformer2(from, to, NULL);
    void *approx = image ? GDALCreateApproxTransformer(GDALGenImgProjTransform, image, 0.125) : NULL;
    if (approx) {
        o->hSrcDS = from;
        o->hDstDS = to;
        o->nBandCount = 3;
        o->panSrcBands = CPLMalloc(3 * sizeof(int));
        o->panDstBands = CPLMalloc(3 * sizeof(int));
        for (int k = 0; k < 3; k++)
            o->panSrcBands[k] = o->panDstBands[k] = k + 1;
        o->nSrcAlphaBand = o->nDstAlphaBand = 4;
        o->eResampleAlg = is_nearest ? GRA_NearestNeighbour : GRA_Bilinear;
        o->pfnTransformer = GDALApproxTransform;
        o->pTransformerArg = approx;
        op = GDALCreateWarpOperation(o);
        ok = op && GDALChunkAndWarpImage(op, 0, 0, TILE_PX, TILE_PX) == CE_None;
    }
    if (!ok)
        err_set(e, ERR_RUNTIME, "the tile cannot be warped: %.200s", CPLGetLastErrorMsg());
    if (op)
        GDALDestroyWarpOperation(op);
    GDALDestroyApproxTransformer(approx);
    if (image)
        GDALDestroyGenImgProjTransformer(image);
    GDALDestroyWarpOptions(o);
    return ok;
}

/* Draws one raster into the tile; nothing to do is success. */
static bool draw(struct tile_pool *pool, const struct tile_layer *layer, struct tile_source *s,
                 const double tile[4], GDALDatasetH to, struct err *e)
{
    struct window win;
    float *px = NULL;
    uint8_t *mask = NULL, *rgba = NULL;
    GDALDatasetH from = NULL;
    bool ok = false;
    if (!find_window(pool, s, tile, &win))
        return true;
    size_t plane = (size_t)win.buffer_w * (size_t)win.buffer_h;
    px = mem_array(plane * (size_t)s->n_bands, sizeof *px, "a tile's samples", e);
    mask = mem_array(plane, 1, "a tile's mask", e);
    rgba = mem_array(plane, 4, "a tile's colours", e);
    if (!px || !mask || !rgba)
        goto out;
    pthread_mutex_lock(&s->lock);
    GDALDatasetH ds = pool_open(pool, s, e);
    ok = ds && read_window(ds, layer, s, &win, px, mask, rgba, e);
    pthread_mutex_unlock(&s->lock);
    if (!ok)
        goto out;
    ok = false;
    color(layer, s->n_bands, px, mask, plane, rgba);
    double gt[6] = {0}, sx = (double)win.w / win.buffer_w, sy = (double)win.h / win.buffer_h;
    GDALApplyGeoTransform(s->geotransform, win.x, win.y, &gt[0], &gt[3]);
    gt[1] = s->geotransform[1] * sx;
    gt[2] = s->geotransform[2] * sy;
    gt[4] = s->geotransform[4] * sx;
    gt[5] = s->geotransform[5] * sy;
    from = memory_raster(win.buffer_w, win.buffer_h, gt, s->wkt);
    if (!from || GDALDatasetRasterIO(from, GF_Write, 0, 0, win.buffer_w, win.buffer_h, rgba, win.buffer_w,
                                     win.buffer_h, GDT_Byte, 4, NULL, 0, 0, 0) != CE_None) {
        err_set(e, ERR_RESOURCE, "memory ran out while a tile was drawn");
        goto out;
    }
    ok = warp(from, to, layer->style != TILE_STYLE_IMAGE, e);
out:
    if (from)
        GDALClose(from);
    free(px);
    free(mask);
    free(rgba);
    return ok;
}

static bool is_empty(GDALDatasetH tile)
{
    uint8_t alpha[TILE_PX * TILE_PX];
    if (GDALRasterIO(GDALGetRasterBand(tile, 4), GF_Read, 0, 0, TILE_PX, TILE_PX, alpha, TILE_PX, TILE_PX,
                     GDT_Byte, 0, 0) != CE_None)
        return false;
    for (size_t i = 0; i < sizeof alpha; i++)
        if (alpha[i])
            return false;
    return true;
}

static bool encode(struct tile_pool *pool, GDALDatasetH tile, char **png, size_t *size, struct err *e)
{
    char name[64];
    char *options[] = {(char[]){"ZLEVEL=4"}, NULL};
    pthread_mutex_lock(&pool->lock);
    snprintf(name, sizeof name, "/vsimem/aftermap-tile-%llu.png", (unsigned long long)++pool->n_names);
    pthread_mutex_unlock(&pool->lock);
    GDALDatasetH copy = GDALCreateCopy(GDALGetDriverByName("PNG"), name, tile, FALSE, options, NULL, NULL);
    if (copy)
        GDALClose(copy);
    vsi_l_offset n = 0;
    GByte *bytes = copy ? VSIGetMemFileBuffer(name, &n, FALSE) : NULL;
    *png = bytes && n ? malloc((size_t)n) : NULL;
    if (*png) {
        memcpy(*png, bytes, (size_t)n);
        *size = (size_t)n;
    } else {
        err_set(e, ERR_RESOURCE, "the tile cannot be written as PNG");
    }
    VSIUnlink(name);
    return *png != NULL;
}

bool tile_render(struct tile_pool *pool, const struct tile_layer *layer, uint32_t z, uint32_t x, uint32_t y,
                 char **png, size_t *size, struct err *e)
{
    double side = 2 * EARTH_HALF_M / (double)(1u << z);
    double box[4] = {-EARTH_HALF_M + x * side, EARTH_HALF_M - (y + 1.0) * side,
                     -EARTH_HALF_M + (x + 1.0) * side, EARTH_HALF_M - y * side};
    double gt[6] = {box[0], side / TILE_PX, 0, box[3], 0, -side / TILE_PX};
    GDALDatasetH tile = NULL;
    bool ok = true, is_drawn = false;
    *png = NULL;
    *size = 0;
    if (layer->n_arrows) {
        tile = memory_raster(TILE_PX, TILE_PX, gt, pool->mercator);
        if (!tile)
            return err_set(e, ERR_RESOURCE, "memory ran out while a tile was drawn");
        ok = tile_arrows_draw(layer, box, tile, &is_drawn, e);
    }
    for (int i = 0; i < layer->n && ok; i++) {
        struct tile_source *s = &layer->source[i];
        if (s->box[0] >= box[2] || s->box[2] <= box[0] || s->box[1] >= box[3] || s->box[3] <= box[1])
            continue;
        if (!tile)
            tile = memory_raster(TILE_PX, TILE_PX, gt, pool->mercator);
        if (!tile)
            return err_set(e, ERR_RESOURCE, "memory ran out while a tile was drawn");
        ok = draw(pool, layer, s, box, tile, e);
        is_drawn = true;
    }
    if (ok && is_drawn && !is_empty(tile))
        ok = encode(pool, tile, png, size, e);
    if (tile)
        GDALClose(tile);
    return ok;
}
