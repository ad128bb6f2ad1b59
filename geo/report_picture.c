/* SPDX-License-Identifier: Apache-2.0
 *
 * report_picture.c - the map of the report: the image after the event, warped onto the map's grid at print size
 * (GDAL's warper, which reads from overviews where there are some), a linear stretch per band between the 2nd
 * and 98th percentile, half faded to grey so that the classes stand out, and over it damage.tif. Where a building
 * would shrink to less than four pixels it is drawn as a dot at its place. Memory: a few buffers of the picture's
 * size, whatever the scene's. */
#include "geo/report_parts.h"

#include "geo/mapping_parts.h"
#include "geo/raster.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include <cpl_conv.h>
#include <cpl_error.h>
#include <cpl_string.h>
#include <cpl_vsi.h>
#include <gdal_utils.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES_MAX = 40000, PATH_SIZE = 4096 };
static const double building_m = 10, dot_px = 4;

struct picture {
    int w, h;
    double gt[6];
    const char *wkt;
    double pixel_m;
    uint8_t *rgb; /* [3,h,w] */
};

static bool read_grid(struct picture *p, const cJSON *run, int max_px, const char *dir, struct err *e)
{
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(run, "event"),
                *grid = cJSON_GetObjectItemCaseSensitive(event, "grid"),
                *gt = cJSON_GetObjectItemCaseSensitive(grid, "geotransform");
    const double w = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(grid, "width")),
                 h = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(grid, "height"));
    p->wkt = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(grid, "wkt"));
    bool ok = p->wkt && cJSON_GetArraySize(gt) == 6 && w >= 1 && h >= 1 && w < 1e8 && h < 1e8;
    for (int i = 0; ok && i < 6; i++)
        ok = isfinite(p->gt[i] = cJSON_GetNumberValue(cJSON_GetArrayItem(gt, i)));
    if (!ok || !(p->gt[1] > 0) || !(p->gt[5] < 0))
        return err_set(e, ERR_INPUT, "%s/run.json says no usable grid; assess the event again", dir);
    const double shrink = fmax(1, fmax(w, h) / max_px);
    p->w = (int)fmax(1, w / shrink);
    p->h = (int)fmax(1, h / shrink);
    p->gt[1] *= w / p->w;
    p->gt[5] *= h / p->h;
    p->pixel_m = p->gt[1];
    return true;
}

/* ---- the image after the event */

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The 2nd and 98th percentile of the valid pixels, from at most SAMPLES_MAX of them. */
static bool percentiles(const float *v, const uint8_t *valid, size_t n, float *sample, float *low,
                        float *high)
{
    size_t all = 0, taken = 0, seen = 0;
    for (size_t i = 0; i < n; i++)
        all += valid[i] && isfinite(v[i]);
    const size_t every = all / SAMPLES_MAX + 1;
    for (size_t i = 0; i < n; i++)
        if (valid[i] && isfinite(v[i]) && seen++ % every == 0)
            sample[taken++] = v[i];
    if (taken == 0)
        return false;
    qsort(sample, taken, sizeof *sample, by_value);
    *low = sample[taken / 50];
    *high = sample[taken - 1 - taken / 50];
    if (!(*high > *low))
        *high = *low + 1;
    return true;
}

static bool paint_bands(struct picture *p, GDALDatasetH warped, struct err *e)
{
    const size_t n = (size_t)p->w * (size_t)p->h;
    const int bands = GDALGetRasterCount(warped) - 1; /* the last is alpha */
    float *v = mem_array(n, sizeof *v, "the picture", e),
          *sample = v ? mem_array(SAMPLES_MAX + 1, sizeof *sample, "the picture", e) : NULL;
    uint8_t *valid = sample ? mem_array(n, 1, "the picture", e) : NULL;
    bool ok = valid && bands >= 1 &&
              GDALRasterIO(GDALGetRasterBand(warped, bands + 1), GF_Read, 0, 0, p->w, p->h, valid, p->w, p->h,
                           GDT_Byte, 0, 0) == CE_None;
    for (int b = 0; ok && b < 3; b++) {
        float low, high;
        const int from = bands >= 3 ? b + 1 : 1;
        ok = GDALRasterIO(GDALGetRasterBand(warped, from), GF_Read, 0, 0, p->w, p->h, v, p->w, p->h,
                          GDT_Float32, 0, 0) == CE_None;
        if (!ok || !percentiles(v, valid, n, sample, &low, &high))
            continue;
        for (size_t i = 0; i < n; i++)
            if (valid[i])
                p->rgb[(size_t)b * n + i] = (uint8_t)fminf(fmaxf((v[i] - low) / (high - low) * 255, 0), 255);
    }
    for (size_t i = 0; ok && i < n; i++) { /* half way to a light grey */
        if (!valid[i])
            continue;
        const double grey = 0.3 * p->rgb[i] + 0.59 * p->rgb[n + i] + 0.11 * p->rgb[2 * n + i];
        for (int b = 0; b < 3; b++) {
            uint8_t *c = &p->rgb[(size_t)b * n + i];
            *c = (uint8_t)(0.75 * (0.4 * *c + 0.6 * grey) + 0.25 * 255);
        }
    }
    free(v);
    free(sample);
    free(valid);
    return ok;
}

/* Warps what can still be opened of the images onto the picture. */
static bool paint_image(struct picture *p, const cJSON *run, struct err *e)
{
    const cJSON *list =
                    cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(run, "inputs"), "post"),
                *item;
    GDALDatasetH *source = mem_array((size_t)cJSON_GetArraySize(list) + 1, sizeof *source, "the picture", e),
                 warped = NULL;
    int n = 0;
    cJSON_ArrayForEach(item, list)
    {
        const char *path = cJSON_GetStringValue(item);
        GDALDatasetH ds =
            source && path ? GDALOpenEx(path, GDAL_OF_RASTER | GDAL_OF_READONLY, NULL, NULL, NULL) : NULL;
        if (ds)
            source[n++] = ds;
    }
    char **args = NULL;
    const double x1 = p->gt[0] + p->gt[1] * p->w, y0 = p->gt[3] + p->gt[5] * p->h;
    args = CSLAddString(CSLAddString(args, "-of"), "MEM");
    args = CSLAddString(CSLAddString(args, "-t_srs"), p->wkt);
    args = CSLAddString(args, "-te");
    args = CSLAddString(args, CPLSPrintf("%.9g", p->gt[0]));
    args = CSLAddString(args, CPLSPrintf("%.9g", y0));
    args = CSLAddString(args, CPLSPrintf("%.9g", x1));
    args = CSLAddString(args, CPLSPrintf("%.9g", p->gt[3]));
    args = CSLAddString(args, "-ts");
    args = CSLAddString(args, CPLSPrintf("%d", p->w));
    args = CSLAddString(args, CPLSPrintf("%d", p->h));
    args = CSLAddString(CSLAddString(args, "-r"), "average");
    args = CSLAddString(CSLAddString(args, "-wm"), "64");
    args = CSLAddString(args, "-dstalpha");
    GDALWarpAppOptions *options = n ? GDALWarpAppOptionsNew(args, NULL) : NULL;
    if (options)
        warped = GDALWarp("", NULL, n, source, options, NULL);
    GDALWarpAppOptionsFree(options);
    CSLDestroy(args);
    const bool ok = warped && paint_bands(p, warped, e);
    if (warped)
        GDALClose(warped);
    for (int i = 0; i < n; i++)
        GDALClose(source[i]);
    free(source);
    return ok;
}

/* ---- the damage */

static void paint(struct picture *p, int x, int y, int level)
{
    const size_t n = (size_t)p->w * (size_t)p->h, at = (size_t)y * (size_t)p->w + (size_t)x;
    if (x < 0 || y < 0 || x >= p->w || y >= p->h)
        return;
    const unsigned long rgb = strtoul(mapping_level_color(level) + 1, NULL, 16);
    for (int b = 0; b < 3; b++)
        p->rgb[(size_t)b * n + at] = (uint8_t)(rgb >> (16 - 8 * b));
}

static bool paint_raster(struct picture *p, const char *dir, struct err *e)
{
    char path[PATH_SIZE], why[300];
    static const char *const drivers[] = {"GTiff", "COG", NULL};
    if (!file_join(path, sizeof path, dir, "damage.tif", e))
        return false;
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_RASTER | GDAL_OF_READONLY, drivers, NULL, NULL);
    uint8_t *v = ds ? mem_array((size_t)p->w * (size_t)p->h, 1, "the picture", e) : NULL;
    bool ok = v && GDALRasterIO(GDALGetRasterBand(ds, 1), GF_Read, 0, 0, GDALGetRasterXSize(ds),
                                GDALGetRasterYSize(ds), v, p->w, p->h, GDT_Byte, 0, 0) == CE_None;
    if (!ok)
        err_set(e, ERR_INPUT, "%s cannot be read: %s", path, geo_message(why, sizeof why));
    for (int y = 0; ok && y < p->h; y++)
        for (int x = 0; x < p->w; x++) {
            const int c = v[(size_t)y * (size_t)p->w + (size_t)x];
            if ((c >= 1 && c <= 4) || c == MAPPING_UNKNOWN)
                paint(p, x, y, c == MAPPING_UNKNOWN ? -1 : c - 1);
        }
    free(v);
    if (ds)
        GDALClose(ds);
    return ok;
}

/* A dot a building, the worst class last so that it lies on top. */
static bool paint_dots(struct picture *p, const char *dir, struct err *e)
{
    char path[PATH_SIZE];
    static const char *const drivers[] = {"GPKG", NULL};
    OGRCoordinateTransformationH t = geo_transform("EPSG:4326", p->wkt, e);
    GDALDatasetH ds = NULL;
    if (t && file_join(path, sizeof path, dir, "damage.gpkg", e))
        ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY, drivers, NULL, NULL);
    OGRLayerH layer = ds ? GDALDatasetGetLayerByName(ds, "buildings") : NULL;
    bool ok = layer || (t && err_set(e, ERR_INPUT, "%s/damage.gpkg cannot be read", dir));
    const int field = layer ? OGR_FD_GetFieldIndex(OGR_L_GetLayerDefn(layer), "dmg_level") : -1;
    for (int level = -1; ok && level <= 3; level++) {
        OGR_L_ResetReading(layer);
        for (OGRFeatureH f; (f = OGR_L_GetNextFeature(layer)); OGR_F_Destroy(f)) {
            OGREnvelope box;
            const bool told = field >= 0 && OGR_F_IsFieldSetAndNotNull(f, field);
            if ((told ? OGR_F_GetFieldAsInteger(f, field) : -1) != level || !OGR_F_GetGeometryRef(f))
                continue;
            OGR_G_GetEnvelope(OGR_F_GetGeometryRef(f), &box);
            double x = (box.MinX + box.MaxX) / 2, y = (box.MinY + box.MaxY) / 2;
            if (!OCTTransform(t, 1, &x, &y, NULL))
                continue;
            const int px = (int)floor((x - p->gt[0]) / p->gt[1]), py = (int)floor((y - p->gt[3]) / p->gt[5]);
            for (int d = 0; d < 9; d++)
                paint(p, px + d % 3 - 1, py + d / 3 - 1, level);
        }
    }
    if (ds)
        GDALClose(ds);
    if (t)
        OCTDestroyCoordinateTransformation(t);
    return ok;
}

/* ---- the file */

static char *encode(struct picture *p, struct err *e)
{
    static atomic_uint next;
    char name[64], *text = NULL, *out = NULL;
    const size_t n = (size_t)p->w * (size_t)p->h;
    vsi_l_offset size = 0;
    snprintf(name, sizeof name, "/vsimem/aftermap-report-%u.jpg", atomic_fetch_add(&next, 1));
    GDALDatasetH mem = GDALCreate(GDALGetDriverByName("MEM"), "", p->w, p->h, 3, GDT_Byte, NULL), jpeg = NULL;
    char **options = CSLSetNameValue(NULL, "QUALITY", "82");
    bool ok = mem && GDALDatasetRasterIO(mem, GF_Write, 0, 0, p->w, p->h, p->rgb, p->w, p->h, GDT_Byte, 3,
                                         NULL, 1, p->w, (int)n) == CE_None;
    if (ok)
        jpeg = GDALCreateCopy(GDALGetDriverByName("JPEG"), name, mem, FALSE, options, NULL, NULL);
    CSLDestroy(options);
    if (jpeg)
        GDALClose(jpeg);
    if (mem)
        GDALClose(mem);
    GByte *data = jpeg ? VSIGetMemFileBuffer(name, &size, FALSE) : NULL;
    if (data && size < (1u << 28))
        text = CPLBase64Encode((int)size, data);
    if (text)
        out = mem_strdup(text, e);
    else
        err_set(e, ERR_RUNTIME, "the map cannot be written as JPEG");
    CPLFree(text);
    VSIUnlink(name);
    return out;
}

char *report_picture(const char *map_dir, const cJSON *run, int max_px, int *width, int *height,
                     bool *has_image, struct err *e)
{
    struct picture p = {0};
    struct err ignored;
    char *out = NULL;
    if (!read_grid(&p, run, max_px, map_dir, e))
        return NULL;
    const size_t n = (size_t)p.w * (size_t)p.h;
    if (!(p.rgb = mem_array(3 * n, 1, "the picture", e)))
        return NULL;
    memset(p.rgb, 255, 3 * n);
    /* the image may be gone or changed since: then the caption says so */
    *has_image = paint_image(&p, run, &ignored);
    if (!*has_image)
        memset(p.rgb, 225, 3 * n);
    if (building_m / p.pixel_m >= dot_px ? paint_raster(&p, map_dir, e) : paint_dots(&p, map_dir, e))
        out = encode(&p, e);
    *width = p.w;
    *height = p.h;
    free(p.rgb);
    return out;
}
