/* SPDX-License-Identifier: Apache-2.0
 *
 * synthetic.c - GeoTIFF and PNG of made-up images, through GDAL (synthetic.h). */
#include "geo/synthetic.h"

#include "geo/raster.h"
#include "models/base/file.h"

#include <assert.h>
#include <cJSON.h>
#include <cpl_conv.h>
#include <cpl_string.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MARK "SYNTHETIC (aftermap "
#define BAND "synthetic"

enum { MANIFEST_MAX = 64 << 20 };

/* Only asserted: a build without assertions does not use it. */
__attribute__((unused)) static bool has_prefix(const char *path)
{
    return strncmp(file_base(path), SYNTHETIC_PREFIX, strlen(SYNTHETIC_PREFIX)) == 0;
}

/* tag: the name of the item that describes an image, which TIFF and PNG do not share. */
static bool describe(GDALDatasetH ds, const struct synthetic_mark *mark, const char *tag)
{
    char text[256];
    snprintf(text, sizeof text, MARK "%s %.16s seed %llu)%s%s", mark->algorithm, mark->model,
             (unsigned long long)mark->seed, mark->shows ? " asked to show: " : "",
             mark->shows ? mark->shows : "");
    return GDALSetMetadataItem(ds, tag, text, NULL) == CE_None &&
           GDALSetMetadataItem(ds, "SYNTHETIC", "YES", NULL) == CE_None;
}

static bool fill_band(GDALDatasetH ds, int number)
{
    GDALRasterBandH band = GDALGetRasterBand(ds, number);
    GDALSetDescription(band, BAND);
    return GDALFillRaster(band, 1, 0) == CE_None;
}

/* The image in memory with its marks. */
static GDALDatasetH make(const uint8_t *px, int w, int h, int n_bands, bool mask_band,
                         const struct synthetic_mark *mark, const char *tag)
{
    GDALDatasetH ds = GDALCreate(GDALGetDriverByName("MEM"), "", w, h, n_bands + mask_band, GDT_Byte, NULL);
    if (!ds)
        return NULL;
    bool ok = true;
    for (int b = 0; ok && b < n_bands; b++)
        ok = GDALRasterIO(GDALGetRasterBand(ds, b + 1), GF_Write, 0, 0, w, h, (void *)(px + b), w, h,
                          GDT_Byte, n_bands, n_bands * w) == CE_None;
    ok = ok && (!mask_band || fill_band(ds, n_bands + 1)) && describe(ds, mark, tag);
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
    assert(has_prefix(path));
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
    assert(has_prefix(path));
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

bool synthetic_tiff_open(struct synthetic_tiff *t, const char *path, const struct synthetic_form *form,
                         const struct synthetic_mark *mark, struct err *e)
{
    char why[256];
    assert(has_prefix(path) && !form->geotransform == !form->wkt);
    *t = (struct synthetic_tiff){0};
    if (!file_temp_name(path, t->temp, sizeof t->temp, e))
        return false;
    snprintf(t->path, sizeof t->path, "%s", path);
    char **options = CSLSetNameValue(NULL, "COMPRESS", "DEFLATE");
    options = CSLSetNameValue(options, "TILED", "YES");
    options = CSLSetNameValue(options, "BIGTIFF", "IF_SAFER");
    options = CSLSetNameValue(options, "PHOTOMETRIC", form->n_bands == 3 ? "RGB" : "MINISBLACK");
    options = CSLSetNameValue(options, "ALPHA", "NO");
    CPLErrorReset();
    t->ds = GDALCreate(GDALGetDriverByName("GTiff"), t->temp, form->width, form->height, form->n_bands + 1,
                       form->type, options);
    CSLDestroy(options);
    bool ok = t->ds && describe(t->ds, mark, "TIFFTAG_IMAGEDESCRIPTION");
    if (ok && form->wkt)
        ok = GDALSetGeoTransform(t->ds, (double *)form->geotransform) == CE_None &&
             GDALSetProjection(t->ds, form->wkt) == CE_None;
    ok = ok && fill_band(t->ds, form->n_bands + 1);
    if (!ok) {
        err_set(e, ERR_RUNTIME, "%s: cannot be written: %s", path, geo_message(why, sizeof why));
        synthetic_tiff_close(t, false, NULL);
    }
    return ok;
}

bool synthetic_tiff_close(struct synthetic_tiff *t, bool keep, struct err *e)
{
    char why[256];
    bool ok = true;
    CPLErrorReset();
    if (t->ds)
        GDALClose(t->ds);
    if (t->ds && keep && CPLGetLastErrorType() >= CE_Failure)
        ok = err_set(e, ERR_RESOURCE, "%s: cannot be written: %s", t->path, geo_message(why, sizeof why));
    if (t->ds && keep && ok)
        ok = file_rename(t->temp, t->path, e);
    else if (*t->temp)
        unlink(t->temp);
    *t = (struct synthetic_tiff){0};
    return ok;
}

/* ---- the check ---- */

bool synthetic_dataset_marked(GDALDatasetH ds)
{
    static const char *const tags[] = {"TIFFTAG_IMAGEDESCRIPTION", "Description"};
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        const char *text = GDALGetMetadataItem(ds, tags[i], NULL);
        if (text && strncmp(text, MARK, strlen(MARK)) == 0)
            return true;
    }
    for (int b = 1; b <= GDALGetRasterCount(ds); b++)
        if (strcmp(GDALGetDescription(GDALGetRasterBand(ds, b)), BAND) == 0)
            return true;
    return false;
}

static bool manifest_marked(const char *text)
{
    cJSON *j = cJSON_Parse(text);
    const bool marked = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "synthetic"));
    cJSON_Delete(j);
    return marked;
}

bool synthetic_event_marked(const struct event *ev)
{
    return manifest_marked(ev->manifest);
}

static bool folder_marked(const char *dir)
{
    static const char *const lists[] = {"event.json", SYNTHETIC_LIST};
    char path[4096];
    bool marked = false;
    for (size_t i = 0; i < sizeof lists / sizeof *lists && !marked; i++) {
        char *text = file_join(path, sizeof path, dir, lists[i], NULL)
                         ? file_read(path, MANIFEST_MAX, NULL, NULL)
                         : NULL;
        marked = text && manifest_marked(text);
        free(text);
    }
    return marked;
}

bool synthetic_path_marked(const char *path)
{
    if (file_is_dir(path))
        return folder_marked(path);
    CPLPushErrorHandler(CPLQuietErrorHandler);
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_RASTER | GDAL_OF_READONLY, NULL, NULL, NULL);
    CPLPopErrorHandler();
    const bool marked = ds && synthetic_dataset_marked(ds);
    if (ds)
        GDALClose(ds);
    CPLErrorReset();
    return marked;
}
