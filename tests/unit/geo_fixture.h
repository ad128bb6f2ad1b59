/* SPDX-License-Identifier: Apache-2.0
 *
 * geo_fixture.h - small rasters and footprints that the geo tests write for themselves, in a temporary
 * folder.
 *
 * Images are given as functions of the place on the ground, not of the pixel: a linear ramp stays the same
 * ramp under bilinear resampling, whatever the grid, so a test can say what a chip pixel must be without
 * resampling anything itself. */
#ifndef AM_TEST_GEO_FIXTURE_H
#define AM_TEST_GEO_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "geo/raster.h"
#include "geo/tile_parts.h"
#include "models/base/file.h"
#include <cpl_conv.h>
#include <cpl_string.h>
#include <cpl_vsi.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The corner of the test ground in UTM 15N. */
static const double east0 = 367000, north0 = 4104000;
#define UTM "EPSG:32615"

static char fx_dir[64];

static inline int fx_setup(void **state)
{
    (void)state;
    geo_init(true);
    snprintf(fx_dir, sizeof fx_dir, "/tmp/aftermap-geo-XXXXXX");
    return mkdtemp(fx_dir) ? 0 : 1;
}

static inline int fx_teardown(void **state)
{
    (void)state;
    return VSIRmdirRecursive(fx_dir);
}

/* A path in the test folder; the last 8 stay valid. */
static inline const char *fx_path(const char *name)
{
    static char path[8][256];
    static int next;
    next = (next + 1) % 8;
    snprintf(path[next], sizeof path[next], "%s/%s", fx_dir, name);
    return path[next];
}

struct fx_image {
    const char *name;
    int w, h, bands;
    GDALDataType type;
    const char *srs;                               /* NULL: none */
    double gt[6];                                  /* all zero: none */
    double (*value)(int band, double x, double y); /* x, y in the image's CRS */
    const char *nodata;                            /* set on all bands, or NULL */
    bool alpha;                                    /* one more band, alpha */
    double (*opacity)(double x, double y);         /* alpha, or the mask of an image with mask */
    bool mask;                                     /* an internal per-dataset mask */
    const char *option;                            /* one creation option or NULL */
};

static inline const char *fx_write(struct fx_image im)
{
    const char *path = fx_path(im.name);
    char **options = CSLAddString(NULL, im.option ? im.option : "TILED=NO");
    int n = im.bands + im.alpha;
    CPLSetConfigOption("GDAL_TIFF_INTERNAL_MASK", "YES");
    GDALDatasetH ds = GDALCreate(GDALGetDriverByName("GTiff"), path, im.w, im.h, n, im.type, options);
    CSLDestroy(options);
    assert_non_null(ds);
    if (im.gt[1] != 0 || im.gt[2] != 0)
        GDALSetGeoTransform(ds, im.gt);
    if (im.srs) {
        OGRSpatialReferenceH srs = geo_srs(im.srs, NULL);
        GDALSetSpatialRef(ds, srs);
        OSRDestroySpatialReference(srs);
    }
    if (im.alpha)
        GDALSetRasterColorInterpretation(GDALGetRasterBand(ds, n), GCI_AlphaBand);
    for (int b = 1; im.nodata && b <= im.bands; b++)
        GDALSetRasterNoDataValue(GDALGetRasterBand(ds, b), CPLAtof(im.nodata));
    if (im.mask)
        GDALCreateDatasetMaskBand(ds, GMF_PER_DATASET);
    float *row = malloc((size_t)im.w * sizeof *row);
    for (int b = 0; b <= im.bands; b++) /* the last round is alpha or mask */
        for (int y = 0; y < im.h; y++) {
            if (b == im.bands && !im.alpha && !im.mask)
                break;
            for (int x = 0; x < im.w; x++) {
                double u, v;
                GDALApplyGeoTransform(im.gt, x + 0.5, y + 0.5, &u, &v);
                row[x] = (float)(b < im.bands ? im.value(b, u, v) : im.opacity(u, v));
            }
            GDALRasterBandH band = b < im.bands ? GDALGetRasterBand(ds, b + 1)
                                   : im.alpha   ? GDALGetRasterBand(ds, n)
                                                : GDALGetMaskBand(GDALGetRasterBand(ds, 1));
            assert_int_equal(GDALRasterIO(band, GF_Write, 0, y, im.w, 1, row, im.w, 1, GDT_Float32, 0, 0),
                             CE_None);
        }
    free(row);
    GDALClose(ds);
    return path;
}

/* 200 at the corner, falling by 0.25 a metre to the east and 0.15 to the south; bands 10 apart. Stays
 * within 1..255 for 400 m of ground. */
static inline double fx_ramp(int band, double x, double y)
{
    return 200 - 0.25 * (x - east0) - 0.15 * (north0 - y) + 10 * band;
}

static inline double fx_flat(int band, double x, double y)
{
    (void)x;
    (void)y;
    return 50 + 40 * band;
}

/* An UTM image of the test ground: w x h pixels of gsd metres from (dx, dy) metres off its corner. */
static inline struct fx_image fx_utm(const char *name, int w, int h, double gsd, double dx, double dy)
{
    return (struct fx_image){.name = name,
                             .w = w,
                             .h = h,
                             .bands = 3,
                             .type = GDT_Float32,
                             .srs = UTM,
                             .gt = {east0 + dx, gsd, 0, north0 - dy, 0, -gsd},
                             .value = fx_ramp};
}

static inline void fx_text(const char *name, const char *text)
{
    struct err e = {0};
    if (!file_write_text(fx_path(name), text, &e))
        fail_msg("%s", e.msg);
}

/* Appends a square building of side metres, its centre dx east and dy south of the ground's corner, as a
 * GeoJSON feature in UTM coordinates. */
struct fx_features {
    char text[200000];
    size_t n;
};

static inline void fx_begin(struct fx_features *f)
{
    f->n = (size_t)snprintf(
        f->text, sizeof f->text,
        "{\"type\":\"FeatureCollection\",\"crs\":{\"type\":\"name\",\"properties\":{\"name\":"
        "\"urn:ogc:def:crs:EPSG::32615\"}},\"features\":[");
}

static inline void fx_feature(struct fx_features *f, const char *properties, const char *geometry)
{
    f->n += (size_t)snprintf(f->text + f->n, sizeof f->text - f->n,
                             "%s{\"type\":\"Feature\",\"properties\":{%s},\"geometry\":%s}",
                             f->text[f->n - 1] == '[' ? "" : ",", properties, geometry);
    assert_true(f->n < sizeof f->text);
}

static inline void fx_building(struct fx_features *f, const char *properties, double dx, double dy,
                               double side)
{
    char g[600];
    double x = east0 + dx, y = north0 - dy, h = side / 2;
    snprintf(g, sizeof g,
             "{\"type\":\"Polygon\",\"coordinates\":[[[%.3f,%.3f],[%.3f,%.3f],[%.3f,%.3f],[%.3f,%.3f],[%.3f,%"
             ".3f]]]}",
             x - h, y - h, x + h, y - h, x + h, y + h, x - h, y + h, x - h, y - h);
    fx_feature(f, properties, g);
}

static inline void fx_end(struct fx_features *f, const char *name)
{
    f->n += (size_t)snprintf(f->text + f->n, sizeof f->text - f->n, "]}");
    fx_text(name, f->text);
}

/* Fails unless e holds the code and every one of the words (NULL-terminated) occurs in the message. */
static inline void fx_assert_err(const struct err *e, enum err_code code, ...)
{
    va_list ap;
    if (e->code != code)
        fail_msg("code %s instead of %s: %s", err_name(e->code), err_name(code), e->msg);
    va_start(ap, code);
    for (const char *word; (word = va_arg(ap, const char *));)
        if (!strstr(e->msg, word))
            fail_msg("'%s' is not in: %s", word, e->msg);
    va_end(ap);
}

static inline long fx_size(const char *path)
{
    VSIStatBufL st;
    return VSIStatL(path, &st) == 0 ? (long)st.st_size : -1;
}

/* Warnings collected by a test. */
__attribute__((unused)) static char fx_warnings[8192];
static inline void fx_warn(void *ctx, const char *sentence)
{
    (void)ctx;
    size_t n = strlen(fx_warnings);
    snprintf(fx_warnings + n, sizeof fx_warnings - n, "%s\n", sentence);
}
__attribute__((unused)) static const struct progress fx_progress = {.warn = fx_warn};

#endif
