/* SPDX-License-Identifier: Apache-2.0
 *
 * enhance_image.c - what enhance.c enlarges: an image file, or one date of a building's chip, as the model sees it. */
#include "geo/alignment_parts.h"
#include "geo/enhance.h"
#include "geo/raster.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <cpl_error.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE_MAX = 1 << 20 };

void enhance_close(struct enhance_image *im)
{
    free(im->px);
    free(im->blank);
    free(im->wkt);
    *im = (struct enhance_image){0};
}

static bool allocate(struct enhance_image *im, struct err *e)
{
    const size_t n = (size_t)im->width * im->height;
    return (im->px = mem_array(n * im->n_bands, sizeof *im->px, "the image", e)) &&
           (im->blank = mem_array(n, 1, "the image", e));
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The 2nd and 98th percentile of a band's pixels that are not blank, of at most SAMPLE_MAX taken evenly. */
static bool measure(struct enhance_image *im, int band, struct err *e)
{
    const size_t all = (size_t)im->width * im->height, step = all / SAMPLE_MAX + 1;
    float *v = mem_array(all / step + 1, sizeof *v, "a sample of the image", e);
    size_t n = 0;
    if (!v)
        return false;
    for (size_t i = 0; i < all; i += step)
        if (!im->blank[i] && isfinite(im->px[i * im->n_bands + band]))
            v[n++] = im->px[i * im->n_bands + band];
    qsort(v, n, sizeof *v, by_value);
    if (n > 0) {
        im->lo[band] = (double)v[(size_t)(0.02 * (double)(n - 1))];
        im->hi[band] = (double)v[(size_t)(0.98 * (double)(n - 1))];
    }
    if (n > 0 && !(im->hi[band] > im->lo[band]))
        im->hi[band] = im->lo[band] + 1;
    free(v);
    return n > 0 || err_set(e, ERR_INPUT, "band %d has no pixel with data", band + 1);
}

/* Own values -> what the model sees. */
static bool convert(struct enhance_image *im, bool stretch, struct err *e)
{
    for (int b = 0; b < im->n_bands; b++) {
        im->lo[b] = 32;
        im->hi[b] = 223;
        if (stretch && !measure(im, b, e))
            return false;
    }
    for (size_t i = 0; i < (size_t)im->width * im->height; i++)
        for (int b = 0; b < im->n_bands; b++) {
            float *v = &im->px[i * im->n_bands + b];
            const double byte = 32 + ((double)*v - im->lo[b]) * 191 / (im->hi[b] - im->lo[b]);
            *v = im->blank[i] || !isfinite(byte) ? 0 : (float)(fmax(0, fmin(255, byte)) / 127.5 - 1);
        }
    return true;
}

static bool read_blank(struct enhance_image *im, GDALDatasetH ds, struct err *e)
{
    GDALRasterBandH band = GDALGetRasterBand(ds, 1);
    const size_t n = (size_t)im->width * im->height;
    int has_nodata = 0;
    if (GDALGetMaskFlags(band) & GMF_ALL_VALID)
        return true;
    im->nodata = GDALGetRasterNoDataValue(band, &has_nodata);
    if (!has_nodata)
        im->nodata = 0;
    if (GDALRasterIO(GDALGetMaskBand(band), GF_Read, 0, 0, im->width, im->height, im->blank, im->width,
                     im->height, GDT_Byte, 0, 0) != CE_None)
        return err_set(e, ERR_INPUT, "its mask cannot be read");
    for (size_t i = 0; i < n; i++) {
        im->blank[i] = im->blank[i] == 0;
        im->has_blank = im->has_blank || im->blank[i];
    }
    return true;
}

/* Place and metres a pixel; an image without a place is enlarged all the same. */
static bool read_place(struct enhance_image *im, GDALDatasetH ds, struct err *e)
{
    const char *wkt = GDALGetProjectionRef(ds);
    if (!wkt || !*wkt || GDALGetGeoTransform(ds, im->geotransform) != CE_None)
        return true;
    if (!(im->wkt = mem_strdup(wkt, e)))
        return false;
    im->has_place = true;
    OGRSpatialReferenceH srs = OSRNewSpatialReference(wkt);
    if (srs && OSRIsProjected(srs))
        im->gsd_m = hypot(im->geotransform[1], im->geotransform[4]) * OSRGetLinearUnits(srs, NULL);
    else if (srs)
        im->gsd_m = fabs(im->geotransform[5]) * 111320; /* degrees of latitude */
    if (srs)
        OSRDestroySpatialReference(srs);
    return true;
}

static bool read_image(struct enhance_image *im, GDALDatasetH ds, int n_bands, bool stretch, struct err *e)
{
    int n = GDALGetRasterCount(ds);
    char why[200];
    while (n > 0 && GDALGetRasterColorInterpretation(GDALGetRasterBand(ds, n)) == GCI_AlphaBand)
        n--;
    if (n < n_bands)
        return err_set(e, ERR_INPUT, "has %d bands, the model enlarges images of %d", n, n_bands);
    im->width = GDALGetRasterXSize(ds);
    im->height = GDALGetRasterYSize(ds);
    im->n_bands = n_bands;
    im->type = GDALGetRasterDataType(GDALGetRasterBand(ds, 1));
    if (im->type != GDT_Byte && im->type != GDT_UInt16 && im->type != GDT_Int16 && im->type != GDT_Float32)
        return err_set(e, ERR_INPUT, "has samples of type %s; 8-bit, 16-bit and Float32 are read",
                       GDALGetDataTypeName(im->type));
    if ((double)im->width * im->height > ENHANCE_MAX_PIXELS)
        return err_set(e, ERR_INPUT,
                       "has %d x %d pixels, more than the %d allowed; cut it with gdal_translate -srcwin",
                       im->width, im->height, ENHANCE_MAX_PIXELS);
    if (!allocate(im, e))
        return false;
    CPLErrorReset();
    if (GDALDatasetRasterIO(ds, GF_Read, 0, 0, im->width, im->height, im->px, im->width, im->height,
                            GDT_Float32, n_bands, NULL, n_bands * (int)sizeof *im->px,
                            im->width * n_bands * (int)sizeof *im->px, (int)sizeof *im->px) != CE_None)
        return err_set(e, ERR_INPUT, "cannot be read: %s", geo_message(why, sizeof why));
    return read_blank(im, ds, e) && read_place(im, ds, e) && convert(im, stretch || im->type != GDT_Byte, e);
}

bool enhance_open(struct enhance_image *im, const char *path, int n_bands, bool stretch, struct err *e)
{
    char why[200];
    *im = (struct enhance_image){0};
    CPLErrorReset();
    GDALDatasetH ds =
        GDALOpenEx(path, GDAL_OF_RASTER | GDAL_OF_READONLY | GDAL_OF_VERBOSE_ERROR, NULL, NULL, NULL);
    if (!ds && !file_exists(path))
        return err_set(e, ERR_NOT_FOUND, "%s: there is no such file", path);
    if (!ds)
        return err_set(e, ERR_INPUT, "%s: cannot be opened as an image (%s)", path,
                       geo_message(why, sizeof why));
    const bool ok = read_image(im, ds, n_bands, stretch, e);
    GDALClose(ds);
    if (ok)
        return true;
    enhance_close(im);
    return err_prefix(e, "%s", path);
}

bool enhance_open_chip(struct enhance_image *im, struct event *ev, size_t building, int date, struct err *e)
{
    const struct imageset_layout *l = &ev->layout;
    const int stored = imageset_stored_channels(l);
    const size_t n = (size_t)l->size * l->size;
    uint8_t *px = mem_array(n * stored, 1, "a chip", e);
    int x, y;
    *im = (struct enhance_image){.width = l->size,
                                 .height = l->size,
                                 .n_bands = l->n_bands,
                                 .type = GDT_Byte,
                                 .gsd_m = ev->grid.gsd_m};
    bool ok = px && allocate(im, e) && event_read_chips(ev, &ev->building[building].page, 1, px, e) &&
              (im->wkt = mem_strdup(ev->grid.wkt, e));
    if (ok) {
        alignment_corner(ev, building, &x, &y);
        memcpy(im->geotransform, ev->grid.geotransform, sizeof im->geotransform);
        im->geotransform[0] += x * ev->grid.gsd_m;
        im->geotransform[3] -= y * ev->grid.gsd_m;
        im->has_place = true;
        for (size_t i = 0; i < n; i++) {
            im->blank[i] = l->has_masks && !(px[i * stored + (size_t)l->n_dates * l->n_bands] >> date & 1);
            im->has_blank = im->has_blank || im->blank[i];
            for (int b = 0; b < l->n_bands; b++)
                im->px[i * l->n_bands + b] = px[i * stored + (size_t)date * l->n_bands + b];
        }
        ok = convert(im, false, e);
    }
    free(px);
    if (!ok)
        enhance_close(im);
    return ok;
}
