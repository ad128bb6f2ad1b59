/* SPDX-License-Identifier: Apache-2.0
 *
 * raster.c - from the names a user gives to a checked set of images: what the files are, which bands are
 * used, which working coordinate system suits them and where they lie in it. Reading is warp.c's. Declared in
 * raster.h.
 *
 * A file is refused here, with a sentence, rather than read wrongly later: no CRS, no geotransform, a
 * palette, one band, an unusual sample type, or an end that is missing (the last block is read as a probe: a
 * broken download shows at once). */
#include "geo/raster.h"

#include "geo/synthetic.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include <cpl_conv.h>
#include <cpl_string.h>
#include <cpl_vsi.h>
#include <dirent.h>
#include <geodesic.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { LIST_MAX_BYTES = 1 << 20, FILES_MAX = 65536, EDGE_POINTS = 20 };

/* ---- names
 * ------------------------------------------------------------------------------------------------------------
 */

struct names {
    char **item;
    int n;
};

static void names_free(struct names *l)
{
    for (int i = 0; i < l->n; i++)
        free(l->item[i]);
    free(l->item);
    *l = (struct names){0};
}

/* Adds a copy; plain paths become absolute so that the event can be used from anywhere. */
static bool names_add(struct names *l, const char *path, struct err *e)
{
    if (l->n >= FILES_MAX)
        return err_set(e, ERR_INPUT, "more than %d images are given for one date", FILES_MAX);
    if (!mem_grow(&l->item, (size_t)l->n + 1, sizeof *l->item, "the list of images", e))
        return false;
    char *full = strncmp(path, "/vsi", 4) == 0 ? NULL : realpath(path, NULL);
    l->item[l->n] = full ? full : mem_strdup(path, e);
    if (!l->item[l->n])
        return false;
    l->n++;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Side files and tables that some driver would take for an image. */
static bool is_side_file(const char *name)
{
    static const char *const ends[] = {".ovr", ".msk", ".xml", ".txt",     ".csv",     ".json",
                                       ".md",  ".tfw", ".hdr", ".geojson", ".gpkg-wal"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n > strlen(ends[i]) && strcasecmp(name + n - strlen(ends[i]), ends[i]) == 0)
            return true;
    return name[0] == '.';
}

static bool add_folder(struct names *l, const char *dir, struct err *e)
{
    bool ok = true;
    int first = l->n;
    char path[4096];
    char **entries = VSIReadDir(dir);
    for (int i = 0; ok && entries && entries[i]; i++) {
        if (is_side_file(entries[i]))
            continue;
        VSIStatBufL st;
        ok = file_join(path, sizeof path, dir, entries[i], e);
        if (ok && VSIStatL(path, &st) == 0 && !VSI_ISDIR(st.st_mode) &&
            GDALIdentifyDriverEx(path, GDAL_OF_RASTER, NULL, NULL))
            ok = names_add(l, path, e);
    }
    CSLDestroy(entries);
    if (ok && l->n == first)
        ok = err_set(e, ERR_INPUT, "%s: the folder holds no image that GDAL can open", dir);
    if (ok)
        qsort(l->item + first, (size_t)(l->n - first), sizeof *l->item, by_name);
    return ok;
}

/* The whole of a small text file that is no image, else NULL (without an error: the caller then opens it as
 * an image). */
static char *text_list(const char *path)
{
    struct stat st;
    size_t size = 0;
    if (strncmp(path, "/vsi", 4) == 0 || stat(path, &st) != 0 || !S_ISREG(st.st_mode) ||
        st.st_size > LIST_MAX_BYTES || GDALIdentifyDriverEx(path, GDAL_OF_RASTER, NULL, NULL))
        return NULL;
    char *text = file_read(path, LIST_MAX_BYTES, &size, NULL);
    for (size_t i = 0; text && i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 32 && c != '\n' && c != '\r' && c != '\t') {
            free(text);
            return NULL;
        }
    }
    return text;
}

static bool is_dir(const char *path)
{
    VSIStatBufL st;
    return VSIStatL(path, &st) == 0 && VSI_ISDIR(st.st_mode);
}

/* One path a line; blank lines and those that start with # are skipped. A relative path is tried as it
 * stands, then beside the list. */
static bool add_list(struct names *l, const char *list, char *text, struct err *e)
{
    int first = l->n;
    char beside[4096], *line;
    while ((line = strsep(&text, "\r\n"))) {
        line += strspn(line, " \t");
        for (size_t n = strlen(line); n && (line[n - 1] == ' ' || line[n - 1] == '\t'); n--)
            line[n - 1] = '\0';
        if (*line == '\0' || *line == '#')
            continue;
        const char *path = line;
        if (line[0] != '/' && !file_exists(line)) {
            int n = snprintf(beside, sizeof beside, "%.*s%s", (int)(file_base(list) - list), list, line);
            if (n > 0 && (size_t)n < sizeof beside && file_exists(beside))
                path = beside;
        }
        if (strncmp(path, "/vsi", 4) != 0 && !file_exists(path))
            return err_set(e, ERR_NOT_FOUND,
                           "%s: it is neither an image nor a list of images: there is no file %s", list,
                           line);
        if (!(is_dir(path) ? add_folder(l, path, e) : names_add(l, path, e)))
            return false;
    }
    return l->n > first ? true : err_set(e, ERR_INPUT, "%s: the file is no image and lists none", list);
}

static bool expand(struct names *l, const char *name, struct err *e)
{
    if (is_dir(name))
        return add_folder(l, name, e);
    char *text = text_list(name);
    bool ok = text ? add_list(l, name, text, e) : names_add(l, name, e);
    free(text);
    return ok;
}

/* ---- one file
 * ---------------------------------------------------------------------------------------------------------
 */

static bool read_crs(struct raster_file *f, GDALDatasetH ds, struct err *e)
{
    OGRSpatialReferenceH srs = GDALGetSpatialRef(ds);
    if (!srs)
        return err_set(e, ERR_INPUT,
                       "%s has no coordinate system; assign one with gdal_edit.py -a_srs EPSG:CODE", f->path);
    if (!OSRIsProjected(srs) && !OSRIsGeographic(srs))
        return err_set(e, ERR_INPUT,
                       "%s has a local coordinate system that says not where on Earth it lies; assign "
                       "the true one with gdal_edit.py -a_srs EPSG:CODE",
                       f->path);
    static const char *const options[] = {"FORMAT=WKT2_2019", "MULTILINE=NO", NULL};
    char *wkt = NULL;
    if (OSRExportToWktEx(srs, &wkt, options) != OGRERR_NONE || !wkt) {
        CPLFree(wkt);
        return err_set(e, ERR_INPUT, "%s has a coordinate system that cannot be written as WKT", f->path);
    }
    f->wkt = mem_strdup(wkt, e);
    CPLFree(wkt);
    return f->wkt != NULL;
}

static bool read_geotransform(struct raster_file *f, GDALDatasetH ds, struct err *e)
{
    if (GDALGetGeoTransform(ds, f->gt) != CE_None) {
        if (GDALGetGCPCount(ds) > 0)
            return err_set(e, ERR_INPUT,
                           "%s has ground control points but no geotransform; warp it first with gdalwarp",
                           f->path);
        return err_set(e, ERR_INPUT,
                       "%s has no geotransform, so nobody knows where it lies; georeference it first "
                       "(gdal_translate -a_ullr, or keep its world file beside it)",
                       f->path);
    }
    for (int i = 0; i < 6; i++)
        if (!isfinite(f->gt[i]))
            return err_set(e, ERR_INPUT, "%s has a geotransform with values that are no numbers", f->path);
    if (!GDALInvGeoTransform(f->gt, f->inverse))
        return err_set(e, ERR_INPUT, "%s has a geotransform that cannot be inverted (pixels without area)",
                       f->path);
    return true;
}

/* Mean pixel size on the ground at the image's centre, by geodesic. */
static bool read_pixel_size(struct raster_file *f, struct err *e)
{
    double x[3], y[3], column_m, row_m;
    double cx = f->width / 2.0, cy = f->height / 2.0;
    for (int i = 0; i < 3; i++)
        GDALApplyGeoTransform(f->gt, cx + (i == 1), cy + (i == 2), &x[i], &y[i]);
    OGRCoordinateTransformationH t = geo_transform(f->wkt, "EPSG:4326", e);
    bool ok = t && OCTTransform(t, 3, x, y, NULL);
    for (int i = 0; ok && i < 3; i++)
        ok = isfinite(x[i]) && isfinite(y[i]) && fabs(y[i]) <= 90;
    OCTDestroyCoordinateTransformation(t);
    if (!ok)
        return err_set(e, ERR_INPUT,
                       "%s lies outside what its coordinate system can describe; check its geotransform",
                       f->path);
    struct geod_geodesic g;
    geod_init(&g, 6378137, 1 / 298.257223563);
    geod_inverse(&g, y[0], x[0], y[1], x[1], &column_m, NULL, NULL);
    geod_inverse(&g, y[0], x[0], y[2], x[2], &row_m, NULL, NULL);
    f->gsd_x = column_m;
    f->gsd_y = row_m;
    f->gsd_m = sqrt(column_m * row_m);
    f->lon = x[0];
    f->lat = y[0];
    return f->gsd_m > 0 ? true : err_set(e, ERR_INPUT, "%s has pixels without size on the ground", f->path);
}

static bool read_bands(struct raster_file *f, GDALDatasetH ds, struct err *e)
{
    int n = GDALGetRasterCount(ds);
    if (n < 1)
        return err_set(e, ERR_INPUT, "%s holds no image bands (name the subdataset that gdalinfo lists)",
                       f->path);
    if (GDALGetRasterColorTable(GDALGetRasterBand(ds, 1)))
        return err_set(e, ERR_INPUT, "%s is a colour-table image; expand it with gdal_translate -expand rgb",
                       f->path);
    for (int b = 1; b <= n; b++)
        if (GDALGetRasterColorInterpretation(GDALGetRasterBand(ds, b)) == GCI_AlphaBand)
            f->alpha = b;
    f->n_bands = n - (f->alpha > 0);
    f->type = GDALGetRasterDataType(GDALGetRasterBand(ds, 1));
    for (int b = 1; b <= n; b++) {
        GDALDataType type = GDALGetRasterDataType(GDALGetRasterBand(ds, b));
        if (type != GDT_Byte && type != GDT_UInt16 && type != GDT_Int16 && type != GDT_Float32)
            return err_set(e, ERR_INPUT,
                           "%s has samples of type %s; 8-bit, 16-bit and Float32 are read: convert it "
                           "with gdal_translate -ot UInt16 -scale",
                           f->path, GDALGetDataTypeName(type));
    }
    return true;
}

/* The last block of the last band lies where a broken download stops. */
static bool probe_end(struct raster_file *f, GDALDatasetH ds, struct err *e)
{
    float value;
    char why[200];
    GDALRasterBandH band = GDALGetRasterBand(ds, GDALGetRasterCount(ds));
    CPLErrorReset();
    if (GDALRasterIO(band, GF_Read, f->width - 1, f->height - 1, 1, 1, &value, 1, 1, GDT_Float32, 0, 0) !=
        CE_None)
        return err_set(e, ERR_INPUT,
                       "%s cannot be read to its end (%s); the file looks truncated or corrupt: fetch it "
                       "again",
                       f->path, geo_message(why, sizeof why));
    return true;
}

static bool check_file(struct raster_file *f, struct err *e)
{
    char why[200];
    bool ok = false;
    CPLErrorReset();
    GDALDatasetH ds =
        GDALOpenEx(f->path, GDAL_OF_RASTER | GDAL_OF_READONLY | GDAL_OF_VERBOSE_ERROR, NULL, NULL, NULL);
    if (!ds) {
        geo_message(why, sizeof why);
        if (!file_exists(f->path) && strncmp(f->path, "/vsi", 4) != 0)
            return err_set(e, ERR_NOT_FOUND, "%s: there is no such file", f->path);
        return err_set(e, ERR_INPUT,
                       "%s cannot be opened as an image (%s); it is corrupt, truncated or of a kind GDAL "
                       "does not know",
                       f->path, why);
    }
    f->width = GDALGetRasterXSize(ds);
    f->height = GDALGetRasterYSize(ds);
    const char *date = GDALGetMetadataItem(ds, "TIFFTAG_DATETIME", NULL);
    snprintf(f->date, sizeof f->date, "%s", date ? date : "");
    f->is_synthetic = synthetic_dataset_marked(ds);
    ok = read_bands(f, ds, e) && read_geotransform(f, ds, e) && read_crs(f, ds, e) && read_pixel_size(f, e) &&
         probe_end(f, ds, e);
    GDALClose(ds);
    return ok;
}

bool raster_set_open(struct raster_set *s, const char *phase, const char *const *names, int n, struct err *e)
{
    struct names list = {0};
    bool ok = true;
    *s = (struct raster_set){.phase = phase};
    if (n < 1)
        ok = err_set(e, ERR_USAGE, "no %s image is given; name one with --%s", phase, phase);
    for (int i = 0; ok && i < n; i++)
        ok = expand(&list, names[i], e);
    if (ok)
        ok = (s->file = mem_array((size_t)list.n, sizeof *s->file, "the list of images", e)) != NULL;
    for (int i = 0; ok && i < list.n; i++) {
        s->n = i + 1;
        s->file[i].path = list.item[i];
        list.item[i] = NULL;
        ok = check_file(&s->file[i], e);
    }
    names_free(&list);
    if (ok)
        return true;
    raster_set_free(s);
    return err_prefix(e, "%s", phase);
}

void raster_set_free(struct raster_set *s)
{
    for (int i = 0; i < s->n; i++) {
        free(s->file[i].path);
        free(s->file[i].wkt);
    }
    free(s->file);
    *s = (struct raster_set){0};
}

/* ---- bands
 * ------------------------------------------------------------------------------------------------------------
 */

static bool parse_bands(const char *text, int band[EVENT_MAX_BANDS], int *n, struct err *e)
{
    const char *c = text;
    *n = 0;
    do {
        char *end;
        long v = strtol(c, &end, 10);
        if (end == c || v < 1 || v > 65535 || (*end && *end != ',') || *n == EVENT_MAX_BANDS)
            return err_set(e, ERR_USAGE,
                           "bands '%s': give 1 to %d band numbers with commas between, e.g. 1,2,3", text,
                           EVENT_MAX_BANDS);
        for (int i = 0; i < *n; i++)
            if (band[i] == v)
                return err_set(e, ERR_USAGE, "bands '%s': band %ld is named twice", text, v);
        band[(*n)++] = (int)v;
        c = *end ? end + 1 : NULL;
    } while (c);
    return true;
}

/* Blank pixels: the declared nodata value in every band used; NaN for floats without one; and where a file
 * says nothing at all about blanks, zero in every band, which is how most software fills the outside of a
 * rotated or clipped image. */
static bool set_bands(struct raster_file *f, const int *band, int n, struct err *e)
{
    char why[200];
    CPLErrorReset();
    GDALDatasetH ds = GDALOpenEx(f->path, GDAL_OF_RASTER | GDAL_OF_READONLY, NULL, NULL, NULL);
    if (!ds)
        return err_set(e, ERR_INPUT, "%s can no longer be opened (%s)", f->path,
                       geo_message(why, sizeof why));
    bool declared = false;
    for (int i = 0; i < n; i++) {
        int has = 0;
        f->band[i] = band[i];
        double v = GDALGetRasterNoDataValue(GDALGetRasterBand(ds, band[i]), &has);
        if (has) {
            for (int j = declared ? i : 0; j < n; j++)
                f->nodata[j] = v;
            declared = true;
        }
    }
    bool masked = f->alpha > 0 || (GDALGetMaskFlags(GDALGetRasterBand(ds, band[0])) & GMF_PER_DATASET) != 0;
    f->has_mask = masked && !f->alpha;
    GDALClose(ds);
    f->has_nodata = declared || !masked;
    for (int i = 0; i < n && !declared; i++)
        f->nodata[i] = f->type == GDT_Float32 ? NAN : 0;
    return true;
}

static bool check_bands(const struct raster_set *s, bool listed, const int *band, int n, struct err *e)
{
    for (int i = 0; i < s->n; i++) {
        const struct raster_file *f = &s->file[i], *first = &s->file[0];
        for (int b = 0; listed && b < n; b++)
            if (band[b] > f->n_bands + (f->alpha > 0) || band[b] == f->alpha)
                return err_set(e, ERR_INPUT,
                               "%s: %s has %d image bands, so there is no band %d to use; change --bands",
                               s->phase, f->path, f->n_bands, band[b]);
        if (!listed && f->n_bands < 3)
            return err_set(e, ERR_INPUT,
                           "%s: %s has %d band%s where at least 3 are needed; give a colour image, or "
                           "name the bands to use with --bands",
                           s->phase, f->path, f->n_bands, f->n_bands == 1 ? "" : "s");
        if (!listed && f->n_bands > EVENT_MAX_BANDS)
            return err_set(e, ERR_INPUT,
                           "%s: %s has %d bands; choose up to %d of them with --bands, e.g. --bands 4,3,2",
                           s->phase, f->path, f->n_bands, EVENT_MAX_BANDS);
        if (!listed && f->n_bands != first->n_bands)
            return err_set(e, ERR_INPUT,
                           "%s: %s has %d bands and %s has %d; say which to use with --bands 1,2,3", s->phase,
                           first->path, first->n_bands, f->path, f->n_bands);
        if (f->type != first->type)
            return err_set(e, ERR_INPUT,
                           "%s: %s holds %s samples and %s holds %s; images of one date share one "
                           "scaling: convert them alike with gdal_translate -ot",
                           s->phase, first->path, GDALGetDataTypeName(first->type), f->path,
                           GDALGetDataTypeName(f->type));
    }
    return true;
}

bool raster_choose_bands(struct raster_set *pre, struct raster_set *post, const char *bands, struct err *e)
{
    int band[EVENT_MAX_BANDS] = {1, 2, 3}, n = 3;
    if (bands && !parse_bands(bands, band, &n, e))
        return false;
    struct raster_set *both[2] = {pre, post};
    for (int d = 0; d < 2; d++) {
        if (!check_bands(both[d], bands != NULL, band, n, e))
            return false;
        both[d]->n_bands = n;
        for (int i = 0; i < both[d]->n; i++)
            if (!set_bands(&both[d]->file[i], band, n, e))
                return false;
    }
    return true;
}

/* ---- where it lies
 * ---------------------------------------------------------------------------------------------------- */

static void scene_centre(const struct raster_set *pre, const struct raster_set *post, double *lon,
                         double *lat)
{
    const struct raster_set *both[2] = {pre, post};
    double base = pre->file[0].lon;
    int n = 0;
    *lon = *lat = 0;
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < both[d]->n; i++, n++) {
            *lon += remainder(both[d]->file[i].lon - base, 360);
            *lat += both[d]->file[i].lat;
        }
    *lon = remainder(base + *lon / n, 360);
    *lat /= n;
}

/* True when 500 m to the north and to the east are 500 units, to half a per cent, along +y and +x: so UTM and
 * state grids in metres pass, Web Mercator away from the equator does not. */
static bool has_true_metres(const char *wkt, double lon, double lat)
{
    struct geod_geodesic g;
    double x[3] = {lon}, y[3] = {lat};
    geod_init(&g, 6378137, 1 / 298.257223563);
    geod_direct(&g, lat, lon, 90, 500, &y[1], &x[1], NULL);
    geod_direct(&g, lat, lon, 0, 500, &y[2], &x[2], NULL);
    OGRSpatialReferenceH srs = geo_srs(wkt, NULL);
    bool ok = srs && OSRIsProjected(srs);
    OSRDestroySpatialReference(srs);
    OGRCoordinateTransformationH t = ok ? geo_transform("EPSG:4326", wkt, NULL) : NULL;
    ok = t && OCTTransform(t, 3, x, y, NULL);
    OCTDestroyCoordinateTransformation(t);
    if (!ok)
        return false;
    double east = hypot(x[1] - x[0], y[1] - y[0]) / 500, north = hypot(x[2] - x[0], y[2] - y[0]) / 500;
    return fabs(east - 1) < 0.005 && fabs(north - 1) < 0.005 && x[1] - x[0] > 350 && y[2] - y[0] > 350;
}

char *raster_pick_crs(const struct raster_set *pre, const struct raster_set *post, struct err *e)
{
    double lon, lat;
    scene_centre(pre, post, &lon, &lat);
    const struct raster_set *both[2] = {pre, post};
    const char *own = pre->file[0].wkt;
    bool shared = true;
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < both[d]->n; i++)
            shared = shared && strcmp(own, both[d]->file[i].wkt) == 0;
    if (shared && has_true_metres(own, lon, lat))
        return mem_strdup(own, e);
    int zone = (int)floor((lon + 180) / 6) % 60 + 1;
    int code = lat > 84 ? 32661 : lat < -80 ? 32761 : (lat >= 0 ? 32600 : 32700) + zone;
    char name[32], *wkt = NULL, *copy = NULL;
    snprintf(name, sizeof name, "EPSG:%d", code);
    OGRSpatialReferenceH srs = geo_srs(name, e);
    static const char *const options[] = {"FORMAT=WKT2_2019", "MULTILINE=NO", NULL};
    if (srs && OSRExportToWktEx(srs, &wkt, options) == OGRERR_NONE)
        copy = mem_strdup(wkt, e);
    CPLFree(wkt);
    OSRDestroySpatialReference(srs);
    return copy;
}

/* The file's outline in the working CRS, its edges cut finely enough to follow their curve there. */
static OGRGeometryH outline(struct raster_file *f, const char *grid_wkt, struct err *e)
{
    enum { N = 4 * EDGE_POINTS };
    double x[N], y[N];
    for (int i = 0; i < N; i++) {
        double t = (double)(i % EDGE_POINTS) / EDGE_POINTS;
        int edge = i / EDGE_POINTS;
        double u = edge == 0 ? t : edge == 1 ? 1 : edge == 2 ? 1 - t : 0;
        double v = edge == 0 ? 0 : edge == 1 ? t : edge == 2 ? 1 : 1 - t;
        GDALApplyGeoTransform(f->gt, u * f->width, v * f->height, &x[i], &y[i]);
    }
    OGRCoordinateTransformationH t = geo_transform(f->wkt, grid_wkt, e);
    if (!t) {
        err_prefix(e, "%s", f->path);
        return NULL;
    }
    bool ok = OCTTransform(t, N, x, y, NULL);
    OCTDestroyCoordinateTransformation(t);
    f->box[0] = f->box[1] = HUGE_VAL;
    f->box[2] = f->box[3] = -HUGE_VAL;
    OGRGeometryH polygon = OGR_G_CreateGeometry(wkbPolygon), ring = OGR_G_CreateGeometry(wkbLinearRing);
    for (int i = 0; i < N; i++) {
        ok = ok && isfinite(x[i]) && isfinite(y[i]);
        f->box[0] = fmin(f->box[0], x[i]);
        f->box[1] = fmin(f->box[1], y[i]);
        f->box[2] = fmax(f->box[2], x[i]);
        f->box[3] = fmax(f->box[3], y[i]);
        OGR_G_AddPoint_2D(ring, x[i], y[i]);
    }
    OGR_G_CloseRings(ring);
    OGR_G_AddGeometryDirectly(polygon, ring);
    if (!ok) {
        OGR_G_DestroyGeometry(polygon);
        err_set(e, ERR_INPUT,
                "%s cannot be placed on the working grid: the images of this event lie too far apart",
                f->path);
        return NULL;
    }
    return polygon;
}

OGRGeometryH raster_locate(struct raster_set *s, const char *grid_wkt, struct err *e)
{
    OGRGeometryH all = OGR_G_CreateGeometry(wkbMultiPolygon), whole = NULL;
    bool ok = true;
    for (int i = 0; ok && i < s->n; i++) {
        OGRGeometryH one = outline(&s->file[i], grid_wkt, e);
        ok = one && OGR_G_AddGeometryDirectly(all, one) == OGRERR_NONE;
    }
    if (ok && !(whole = OGR_G_UnionCascaded(all)))
        err_set(e, ERR_RUNTIME, "%s: the outlines of the images cannot be joined", s->phase);
    OGR_G_DestroyGeometry(all);
    return whole;
}
