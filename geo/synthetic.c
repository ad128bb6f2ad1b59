/* SPDX-License-Identifier: Apache-2.0
 *
 * synthetic.c - GeoTIFF and PNG of made-up images, through GDAL (synthetic.h). */
#include "geo/synthetic.h"

#include "geo/raster.h"
#include "models/base/file.h"

#include <assert.h>
#include <cpl_conv.h>
#include <cpl_string.h>
#include <gdal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool is_marked(const char *path)
{
    return strncmp(file_base(path), SYNTHETIC_PREFIX, strlen(SYNTHETIC_PREFIX)) == 0;
}

/* The image in memory with its marks; tags: names of the items that describe it (TIFF's differ from PNG's). */
static GDALDatasetH make(const uint8_t *px, int w, int h, int n_bands, bool mask_band,
                         const struct synthetic_mark *mark, const char *tag)
{
    char text[256];
    GDALDatasetH ds = GDALCreate(GDALGetDriverByName("MEM"), "", w, h, n_bands + mask_band, GDT_Byte, NULL);
    if (!ds)
        return NULL;
    bool ok = true;
    for (int b = 0; ok && b < n_bands; b++)
        ok = GDALRasterIO(GDALGetRasterBand(ds, b + 1), GF_Write, 0, 0, w, h, (void *)(px + b), w, h,
                          GDT_Byte, n_bands, n_bands * w) == CE_None;
    if (mask_band) {
        GDALRasterBandH band = GDALGetRasterBand(ds, n_bands + 1);
        ok = ok && GDALFillRaster(band, 1, 0) == CE_None;
        GDALSetDescription(band, "synthetic");
    }
    snprintf(text, sizeof text, "SYNTHETIC (aftermap %s %.16s seed %llu)%s%s", mark->algorithm, mark->model,
             (unsigned long long)mark->seed, mark->shows ? " asked to show: " : "",
             mark->shows ? mark->shows : "");
    GDALSetMetadataItem(ds, tag, text, NULL);
    GDALSetMetadataItem(ds, "SYNTHETIC", "YES", NULL);
    if (!ok) {
        GDALClose(ds);
        return NULL;
    }
    return ds;
}

static bool write_as(const char *driver, const char *path, GDALDatasetH ds, char **options, struct err *e)
{
    char temp[4096], why[256];
    if (!ds)
        return err_set(e, ERR_RESOURCE, "%s: out of memory for the image", path);
    if (!file_temp_name(path, temp, sizeof temp, e))
        return false;
    GDALDatasetH copy = GDALCreateCopy(GDALGetDriverByName(driver), temp, ds, FALSE, options, NULL, NULL);
    if (!copy)
        return err_set(e, ERR_RUNTIME, "%s: cannot be written: %s", path, geo_message(why, sizeof why));
    CPLErrorReset();
    GDALClose(copy);
    if (CPLGetLastErrorType() >= CE_Failure) {
        unlink(temp);
        return err_set(e, ERR_RESOURCE, "%s: cannot be written: %s", path, geo_message(why, sizeof why));
    }
    return file_rename(temp, path, e);
}

bool synthetic_write_tiff(const char *path, const uint8_t *px, int w, int h, int n_bands,
                          const struct synthetic_mark *mark, struct err *e)
{
    assert(is_marked(path));
    char **options = CSLSetNameValue(NULL, "COMPRESS", "DEFLATE");
    options = CSLSetNameValue(options, "PHOTOMETRIC", "MINISBLACK");
    options = CSLSetNameValue(options, "ALPHA", "NO");
    GDALDatasetH ds = make(px, w, h, n_bands, true, mark, "TIFFTAG_IMAGEDESCRIPTION");
    const bool ok = write_as("GTiff", path, ds, options, e);
    if (ds)
        GDALClose(ds);
    CSLDestroy(options);
    return ok;
}

bool synthetic_write_png(const char *path, const uint8_t *px, int w, int h, const struct synthetic_mark *mark,
                         struct err *e)
{
    assert(is_marked(path));
    char **options = CSLSetNameValue(NULL, "WRITE_METADATA_AS_TEXT", "YES");
    CPLSetThreadLocalConfigOption("GDAL_PAM_ENABLED", "NO"); /* no side file beside it */
    GDALDatasetH ds = make(px, w, h, 3, false, mark, "Description");
    const bool ok = write_as("PNG", path, ds, options, e);
    CPLSetThreadLocalConfigOption("GDAL_PAM_ENABLED", NULL);
    if (ds)
        GDALClose(ds);
    CSLDestroy(options);
    return ok;
}
