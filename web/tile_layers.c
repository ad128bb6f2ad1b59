/* SPDX-License-Identifier: Apache-2.0
 * tile_layers.c - the first look at a layer's rasters: where they lie, which bands to show, how to stretch
 * them (tiles.h). */
#include "web/tile_render.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include <cpl_error.h>
#include <cpl_string.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const tile_layer_names[TILE_LAYERS] = {"pre", "post", "damage", "prob", "uncertainty", "shift"};

#define EARTH_HALF_M 20037508.342789244 /* half the width of the Web Mercator square */

/* Samples for the stretch: small windows spread over each raster, so that a scene without overviews is not
 * read whole. */
enum { SAMPLE_WINDOWS = 5, SAMPLE_PX = 32, SAMPLE_MAX = 1 << 20 };

enum { BLOCK_MAX_BYTES = 256 << 20 };

GDALDatasetH tile_raster_open(const char *path, struct err *e)
{
    static const char *const drivers[] = {"GTiff", "PNG", "JPEG", "JP2OpenJPEG", NULL};
    if (path[0] != '/' || strncmp(path, "/vsi", 4) == 0 || strstr(path, "://") || strchr(path, '<')) {
        err_set(e, ERR_INPUT, "'%.200s' is no plain absolute path, and the server opens nothing else", path);
        return NULL;
    }
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_RASTER | GDAL_OF_READONLY, drivers, NULL, NULL);
    if (!ds) {
        err_set(e, ERR_INPUT, "%s cannot be opened as a raster; convert it to GeoTIFF", file_base(path));
        return NULL;
    }
    for (int i = 1; i <= GDALGetRasterCount(ds) && i <= 4; i++) {
        int w, h;
        GDALRasterBandH band = GDALGetRasterBand(ds, i);
        GDALGetBlockSize(band, &w, &h);
        if ((double)w * h * GDALGetDataTypeSizeBytes(GDALGetRasterDataType(band)) > BLOCK_MAX_BYTES) {
            err_set(e, ERR_INPUT,
                    "%s keeps its pixels in blocks too large to serve; tile it with gdal_translate -co "
                    "TILED=YES",
                    file_base(path));
            GDALClose(ds);
            return NULL;
        }
    }
    return ds;
}

/* Red, green, blue where the file names them; else the first three; else one band as grey. */
static void choose_bands(struct tile_source *s, GDALDatasetH ds, enum tile_style style)
{
    int n = GDALGetRasterCount(ds), plain = 0;
    int by_name[3] = {0}, by_order[3] = {0};
    for (int i = 1; i <= n; i++) {
        GDALColorInterp meaning = GDALGetRasterColorInterpretation(GDALGetRasterBand(ds, i));
        if (meaning >= GCI_RedBand && meaning <= GCI_BlueBand && !by_name[meaning - GCI_RedBand])
            by_name[meaning - GCI_RedBand] = i;
        if (meaning != GCI_AlphaBand && plain < 3)
            by_order[plain++] = i;
    }
    s->n_bands = plain == 3 && style == TILE_STYLE_IMAGE ? 3 : 1;
    bool is_named = by_name[0] && by_name[1] && by_name[2];
    memcpy(s->band, is_named && s->n_bands == 3 ? by_name : by_order, sizeof s->band);
}

static bool place(struct tile_source *s, GDALDatasetH ds, struct err *e)
{
    OGRSpatialReferenceH mercator = OSRNewSpatialReference(NULL), srs = GDALGetSpatialRef(ds);
    OGRCoordinateTransformationH t = NULL;
    const char *name = file_base(s->path);
    bool ok = false;
    s->width = GDALGetRasterXSize(ds);
    s->height = GDALGetRasterYSize(ds);
    if (!srs || GDALGetGeoTransform(ds, s->geotransform) != CE_None ||
        !GDALInvGeoTransform(s->geotransform, s->inverse)) {
        err_set(e, ERR_INPUT, "%s has no coordinate system or no place in it", name);
        goto out;
    }
    s->wkt = NULL;
    if (OSRExportToWkt(srs, &s->wkt) != OGRERR_NONE) {
        err_set(e, ERR_INPUT, "%s has an unreadable coordinate system", name);
        goto out;
    }
    OSRImportFromEPSG(mercator, 3857);
    OSRSetAxisMappingStrategy(mercator, OAMS_TRADITIONAL_GIS_ORDER);
    OGRSpatialReferenceH from = OSRClone(srs);
    OSRSetAxisMappingStrategy(from, OAMS_TRADITIONAL_GIS_ORDER);
    t = OCTNewCoordinateTransformation(from, mercator);
    OSRDestroySpatialReference(from);
    double minx = HUGE_VAL, miny = HUGE_VAL, maxx = -HUGE_VAL, maxy = -HUGE_VAL;
    for (int i = 0; i < 4; i++) {
        double x, y;
        GDALApplyGeoTransform(s->geotransform, i & 1 ? s->width : 0, i & 2 ? s->height : 0, &x, &y);
        minx = fmin(minx, x);
        miny = fmin(miny, y);
        maxx = fmax(maxx, x);
        maxy = fmax(maxy, y);
    }
    if (!t ||
        !OCTTransformBounds(t, minx, miny, maxx, maxy, &s->box[0], &s->box[1], &s->box[2], &s->box[3], 21) ||
        !isfinite(s->box[0] + s->box[1] + s->box[2] + s->box[3]) || s->box[0] >= s->box[2] ||
        s->box[1] >= s->box[3]) {
        err_set(e, ERR_INPUT, "%s cannot be placed on a Web Mercator map", name);
        goto out;
    }
    s->resolution = hypot(s->box[2] - s->box[0], s->box[3] - s->box[1]) / hypot(s->width, s->height);
    ok = true;
out:
    if (t)
        OCTDestroyCoordinateTransformation(t);
    OSRDestroySpatialReference(mercator);
    return ok;
}

/* Adds samples of one raster to value[3][SAMPLE_MAX]. */
static void sample(const struct tile_source *s, GDALDatasetH ds, float *value, size_t n[3])
{
    float px[SAMPLE_PX * SAMPLE_PX];
    uint8_t mask[SAMPLE_PX * SAMPLE_PX];
    int w = s->width < SAMPLE_PX ? s->width : SAMPLE_PX, h = s->height < SAMPLE_PX ? s->height : SAMPLE_PX;
    for (int k = 0; k < s->n_bands; k++) {
        GDALRasterBandH band = GDALGetRasterBand(ds, s->band[k]);
        for (int j = 0; j < SAMPLE_WINDOWS * SAMPLE_WINDOWS; j++) {
            int x = (s->width - w) * (j % SAMPLE_WINDOWS) / (SAMPLE_WINDOWS - 1);
            int y = (s->height - h) * (j / SAMPLE_WINDOWS) / (SAMPLE_WINDOWS - 1);
            if (GDALRasterIO(band, GF_Read, x, y, w, h, px, w, h, GDT_Float32, 0, 0) != CE_None ||
                GDALRasterIO(GDALGetMaskBand(band), GF_Read, x, y, w, h, mask, w, h, GDT_Byte, 0, 0) !=
                    CE_None)
                continue;
            for (int i = 0; i < w * h && n[k] < SAMPLE_MAX; i++)
                if (mask[i] && isfinite(px[i]))
                    value[(size_t)k * SAMPLE_MAX + n[k]++] = px[i];
        }
    }
}

static int compare_float(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void stretch(struct tile_layer *layer, float *value, const size_t n[3])
{
    for (int k = 0; k < 3; k++) {
        float *v = value + (size_t)k * SAMPLE_MAX;
        layer->low[k] = 0;
        layer->high[k] = 1;
        if (n[k] == 0)
            continue;
        qsort(v, n[k], sizeof *v, compare_float);
        layer->low[k] = (double)v[(n[k] - 1) * 2 / 100];
        layer->high[k] = (double)v[(n[k] - 1) * 98 / 100];
        if (layer->high[k] <= layer->low[k]) { /* one value only: middle grey */
            layer->low[k] -= 1;
            layer->high[k] += 1;
        }
    }
}

static double to_longitude(double x)
{
    return x / EARTH_HALF_M * 180.0;
}

static double to_latitude(double y)
{
    return atan(sinh(y / EARTH_HALF_M * M_PI)) * 180.0 / M_PI;
}

static void bound(struct tile_layer *layer)
{
    double box[4] = {HUGE_VAL, HUGE_VAL, -HUGE_VAL, -HUGE_VAL}, finest = HUGE_VAL;
    for (int i = 0; i < layer->n; i++) {
        const struct tile_source *s = &layer->source[i];
        box[0] = fmin(box[0], s->box[0]);
        box[1] = fmin(box[1], s->box[1]);
        box[2] = fmax(box[2], s->box[2]);
        box[3] = fmax(box[3], s->box[3]);
        finest = fmin(finest, s->resolution);
    }
    layer->bounds[0] = to_longitude(box[0]);
    layer->bounds[1] = to_latitude(box[1]);
    layer->bounds[2] = to_longitude(box[2]);
    layer->bounds[3] = to_latitude(box[3]);
    double whole = 2 * EARTH_HALF_M;
    int max = (int)ceil(log2(whole / TILE_PX / finest) - 0.1);
    int min = (int)floor(log2(whole / fmax(box[2] - box[0], box[3] - box[1])));
    layer->max_zoom = max < 0 ? 0 : max > TILES_MAX_ZOOM ? TILES_MAX_ZOOM : max;
    layer->min_zoom = min < 0 ? 0 : min > layer->max_zoom ? layer->max_zoom : min;
}

/* "2024:05:06 07:08:09" of TIFF, as a date; anything else is left out. */
static void read_date(struct tile_source *t, GDALDatasetH ds)
{
    const char *s = GDALGetMetadataItem(ds, "TIFFTAG_DATETIME", NULL);
    int y, m, d;
    if (s && sscanf(s, "%4d:%2d:%2d", &y, &m, &d) == 3 && y > 1900 && m > 0 && m < 13 && d > 0 && d < 32)
        snprintf(t->date, sizeof t->date, "%04d-%02d-%02d", y, m, d);
}

/* value NULL: this raster gives no samples. */
static bool add_source(struct tile_layer *layer, const char *path, float *value, size_t n_samples[3],
                       struct err *e)
{
    struct tile_source *s = &layer->source[layer->n];
    GDALDatasetH ds = tile_raster_open(path, e);
    if (!ds)
        return false;
    *s = (struct tile_source){.path = mem_strdup(path, e)};
    choose_bands(s, ds, layer->style);
    if (!s->path || !place(s, ds, e)) {
        free(s->path);
        CPLFree(s->wkt);
        GDALClose(ds);
        return false;
    }
    pthread_mutex_init(&s->lock, NULL);
    s->n_all_bands = GDALGetRasterCount(ds);
    read_date(s, ds);
    if (layer->n == 0)
        memcpy(layer->date, s->date, sizeof layer->date);
    for (int k = 0; k < s->n_bands; k++)
        if (GDALGetRasterDataType(GDALGetRasterBand(ds, s->band[k])) != GDT_Byte)
            layer->is_byte = false;
    if (value && layer->style == TILE_STYLE_IMAGE)
        sample(s, ds, value, n_samples);
    GDALClose(ds);
    layer->n++;
    return true;
}

void tile_layer_open(struct tile_layer *layer, const char *const *paths, int n, enum tile_style style)
{
    struct err e = {0};
    size_t n_samples[3] = {0};
    /* So many rasters fill the samples evenly. */
    int stride = 1 + n / (SAMPLE_MAX / (SAMPLE_WINDOWS * SAMPLE_WINDOWS * SAMPLE_PX * SAMPLE_PX));
    *layer = (struct tile_layer){.style = style, .is_byte = true};
    snprintf(layer->why, sizeof layer->why, "run.json names no raster for it");
    if (n <= 0)
        return;
    float *value = mem_array((size_t)3 * SAMPLE_MAX, sizeof *value, "pixel samples", &e);
    layer->source = mem_array((size_t)n, sizeof *layer->source, "the layer's rasters", &e);
    if (value && layer->source)
        for (int i = 0; i < n; i++)
            add_source(layer, paths[i], i % stride ? NULL : value, n_samples, &e);
    if (layer->n) {
        stretch(layer, value, n_samples);
        bound(layer);
        layer->why[0] = '\0';
    } else {
        snprintf(layer->why, sizeof layer->why, "%.250s", e.msg);
    }
    free(value);
}

void tile_mercator(double lon, double lat, double *x, double *y)
{
    *x = lon / 180 * EARTH_HALF_M;
    *y = asinh(tan(lat * M_PI / 180)) / M_PI * EARTH_HALF_M;
}

void tile_layer_arrows(struct tile_layer *layer, struct tile_arrow *arrow, size_t n)
{
    double box[4] = {HUGE_VAL, HUGE_VAL, -HUGE_VAL, -HUGE_VAL};
    *layer = (struct tile_layer){.style = TILE_STYLE_ARROWS, .arrow = arrow, .n_arrows = n};
    if (!n) {
        snprintf(layer->why, sizeof layer->why, "no shift was measured yet");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        box[0] = fmin(box[0], arrow[i].x);
        box[1] = fmin(box[1], arrow[i].y);
        box[2] = fmax(box[2], arrow[i].x);
        box[3] = fmax(box[3], arrow[i].y);
    }
    for (int i = 0; i < 4; i++)
        layer->bounds[i] = i % 2 ? to_latitude(box[i]) : to_longitude(box[i]);
    layer->max_zoom = 20;
}

void tile_layer_close(struct tile_layer *layer)
{
    free(layer->arrow);
    layer->arrow = NULL;
    layer->n_arrows = 0;
    for (int i = 0; i < layer->n; i++) {
        struct tile_source *s = &layer->source[i];
        if (s->dataset)
            GDALClose(s->dataset);
        pthread_mutex_destroy(&s->lock);
        free(s->path);
        CPLFree(s->wkt);
    }
    free(layer->source);
    layer->source = NULL;
    layer->n = 0;
}
