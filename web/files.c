/* SPDX-License-Identifier: Apache-2.0
 * files.c - /files: what lies under the data root, what a file is, and how it looks. Paths are refs.h's; rasters are
 * opened with the short list of drivers and the limits of tiles.h, vectors with a short list of their own. */
#include "models/base/file.h"
#include "models/base/mem.h"
#include "web/picture.h"
#include "web/refs.h"
#include "web/routes.h"
#include "web/tile_render.h"
#include "web/workflow.h"

#include <cpl_conv.h>
#include <cpl_error.h>
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

enum {
    MAX_ENTRIES = 5000,
    MAX_LAYERS = 50,
    THUMB_DEFAULT = 256,
    THUMB_MAX = 1024,
    MAX_BANDS = 64,
    TEXT_MAX_BYTES = 128 << 20
};
static const double DRAW_MAX_BYTES = 1e10; /* unpacked for one small picture */

static const char *const vector_drivers[] = {"GPKG", "GeoJSON", "FlatGeobuf", "ESRI Shapefile", "CSV", NULL};

static bool ends_in(const char *name, const char *const *endings)
{
    size_t n = strlen(name);
    for (; *endings; endings++) {
        size_t k = strlen(*endings);
        if (n > k && strcasecmp(name + n - k, *endings) == 0)
            return true;
    }
    return false;
}

static bool is_vector_name(const char *name)
{
    return ends_in(name, (const char *const[]){".gpkg", ".geojson", ".json", ".fgb", ".shp", ".csv", NULL});
}

static const char *kind_of(const char *name)
{
    if (ends_in(name, (const char *const[]){".tif", ".tiff", ".png", ".jpg", ".jpeg", NULL}))
        return "raster";
    return is_vector_name(name) ? "vector" : "other";
}

/* ---- listing
 * ------------------------------------------------------------------------------------------------------- */

static cJSON *entry(const char *dir, const char *prefix, const char *name)
{
    char path[REFS_PATH_SIZE], ref[REFS_PATH_SIZE], store[REFS_PATH_SIZE], when[24];
    struct stat st;
    struct tm tm;
    if (*name == '.' || !file_join(path, sizeof path, dir, name, NULL) || stat(path, &st) != 0 ||
        !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        return NULL;
    bool is_dir = S_ISDIR(st.st_mode);
    /* An assessment's own folder is no place to take images from. */
    if (is_dir && file_join(store, sizeof store, path, "store.gpkg", NULL) && file_exists(store))
        return NULL;
    if (snprintf(ref, sizeof ref, "%s%s%s", prefix, *prefix ? "/" : "", name) >= (int)sizeof ref)
        return NULL;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&st.st_mtime, &tm));
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", name);
    cJSON_AddStringToObject(o, "ref", ref);
    cJSON_AddStringToObject(o, "kind", is_dir ? "dir" : kind_of(name));
    cJSON_AddItemToObject(o, "bytes", is_dir ? cJSON_CreateNull() : cJSON_CreateNumber((double)st.st_size));
    cJSON_AddStringToObject(o, "modified", when);
    return o;
}

void files_get(const struct service *s, const struct http_request *q, const char *const *arg,
               struct http_reply *a)
{
    char dir[REFS_PATH_SIZE];
    struct err e = {0};
    struct dirent **names = NULL;
    const char *folder = http_param(q, "path") ? http_param(q, "path") : "";
    (void)arg;
    if (!refs_resolve_folder(store_root(s->workflow->store), folder, dir, &e)) {
        http_problem(q, a, 404, "path", "%s", e.msg);
        return;
    }
    int n = scandir(dir, &names, NULL, alphasort);
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "path", folder);
    cJSON *list = cJSON_AddArrayToObject(doc, "entries");
    for (int i = 0; i < n; i++) {
        cJSON *o = i < MAX_ENTRIES ? entry(dir, folder, names[i]->d_name) : NULL;
        if (o)
            cJSON_AddItemToArray(list, o);
        free(names[i]);
    }
    free(names);
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_header(a, "Cache-Control", "no-store");
}

/* ---- what a file is
 * ------------------------------------------------------------------------------------------------- */

static void add_crs(cJSON *doc, OGRSpatialReferenceH srs)
{
    char text[300];
    const char *code = srs ? OSRGetAuthorityCode(srs, NULL) : NULL, *name = srs ? OSRGetName(srs) : NULL;
    snprintf(text, sizeof text, "%s%s", code ? "EPSG:" : "", code ? code : name ? name : "");
    cJSON_AddItemToObject(doc, "crs", *text ? cJSON_CreateString(text) : cJSON_CreateNull());
}

/* A box of srs in degrees, as [w,s,e,n]; null where there is no way. */
static cJSON *lonlat_box(OGRSpatialReferenceH srs, const double box[4])
{
    double out[4];
    OGRSpatialReferenceH to = OSRNewSpatialReference(NULL), from = srs ? OSRClone(srs) : NULL;
    OGRCoordinateTransformationH t = NULL;
    OSRImportFromEPSG(to, 4326);
    OSRSetAxisMappingStrategy(to, OAMS_TRADITIONAL_GIS_ORDER);
    if (from) {
        OSRSetAxisMappingStrategy(from, OAMS_TRADITIONAL_GIS_ORDER);
        t = OCTNewCoordinateTransformation(from, to);
    }
    bool ok = t &&
              OCTTransformBounds(t, box[0], box[1], box[2], box[3], &out[0], &out[1], &out[2], &out[3], 21) &&
              isfinite(out[0] + out[1] + out[2] + out[3]);
    if (t)
        OCTDestroyCoordinateTransformation(t);
    OSRDestroySpatialReference(from);
    OSRDestroySpatialReference(to);
    return ok ? cJSON_CreateDoubleArray(out, 4) : cJSON_CreateNull();
}

static void describe_raster(cJSON *doc, GDALDatasetH ds)
{
    double gt[6];
    int has_nodata;
    GDALRasterBandH band = GDALGetRasterBand(ds, 1);
    OGRSpatialReferenceH srs = GDALGetSpatialRef(ds);
    const char *date = GDALGetMetadataItem(ds, "TIFFTAG_DATETIME", NULL);
    const int w = GDALGetRasterXSize(ds), h = GDALGetRasterYSize(ds);
    bool has_place = GDALGetGeoTransform(ds, gt) == CE_None;
    double nodata = band ? GDALGetRasterNoDataValue(band, &has_nodata) : 0;
    cJSON_AddStringToObject(doc, "driver", GDALGetDriverShortName(GDALGetDatasetDriver(ds)));
    add_crs(doc, srs);
    cJSON_AddNumberToObject(doc, "width", w);
    cJSON_AddNumberToObject(doc, "height", h);
    cJSON_AddNumberToObject(doc, "bands", GDALGetRasterCount(ds));
    cJSON_AddNumberToObject(doc, "bit_depth",
                            band ? GDALGetDataTypeSizeBits(GDALGetRasterDataType(band)) : 0);
    cJSON_AddItemToObject(doc, "nodata",
                          band && has_nodata ? cJSON_CreateNumber(nodata) : cJSON_CreateNull());
    cJSON_AddItemToObject(doc, "date", date ? cJSON_CreateString(date) : cJSON_CreateNull());
    cJSON *box = cJSON_CreateNull();
    double gsd = NAN;
    if (has_place && srs) {
        double x[2] = {gt[0], gt[0] + w * gt[1] + h * gt[2]}, y[2] = {gt[3], gt[3] + w * gt[4] + h * gt[5]};
        cJSON_Delete(box);
        box = lonlat_box(srs,
                         (double[]){fmin(x[0], x[1]), fmin(y[0], y[1]), fmax(x[0], x[1]), fmax(y[0], y[1])});
        gsd = sqrt(fabs(gt[1] * gt[5] - gt[2] * gt[4]));
        const cJSON *south = cJSON_GetArrayItem(box, 1);
        if (OSRIsGeographic(srs))
            gsd *= 111320 * sqrt(fabs(cos((south ? south->valuedouble : 0) * M_PI / 180)));
        else
            gsd *= OSRGetLinearUnits(srs, NULL);
    }
    cJSON_AddItemToObject(doc, "gsd_m",
                          isfinite(gsd) ? cJSON_CreateNumber(round(gsd * 1000) / 1000) : cJSON_CreateNull());
    cJSON_AddItemToObject(doc, "bbox", box);
    const char *problem = !has_place || !srs ? "it has no coordinate system or no place in it"
                          : GDALGetRasterCount(ds) > MAX_BANDS ? "it has too many bands"
                                                               : NULL;
    cJSON_AddItemToObject(doc, "problem", problem ? cJSON_CreateString(problem) : cJSON_CreateNull());
}

static cJSON *layer_document(OGRLayerH layer)
{
    static const char *const ids[] = {"bldg_id", "id", "uid", "osm_id", "fid"};
    OGRFeatureDefnH defn = OGR_L_GetLayerDefn(layer);
    cJSON *o = cJSON_CreateObject(), *fields = cJSON_CreateArray();
    const char *suggested = NULL;
    for (int i = 0; i < OGR_FD_GetFieldCount(defn) && i < 200; i++) {
        OGRFieldDefnH fd = OGR_FD_GetFieldDefn(defn, i);
        cJSON *f = cJSON_CreateObject();
        cJSON_AddStringToObject(f, "name", OGR_Fld_GetNameRef(fd));
        cJSON_AddStringToObject(f, "type", OGR_GetFieldTypeName(OGR_Fld_GetType(fd)));
        cJSON_AddItemToArray(fields, f);
    }
    for (size_t k = 0; k < sizeof ids / sizeof *ids && !suggested; k++)
        if (OGR_FD_GetFieldIndex(defn, ids[k]) >= 0)
            suggested = ids[k];
    cJSON_AddStringToObject(o, "name", OGR_L_GetName(layer));
    cJSON_AddNumberToObject(o, "n", (double)OGR_L_GetFeatureCount(layer, TRUE));
    cJSON_AddStringToObject(o, "geometry", OGRGeometryTypeToName(OGR_L_GetGeomType(layer)));
    cJSON_AddItemToObject(o, "fields", fields);
    cJSON_AddItemToObject(o, "suggested_id_field",
                          suggested ? cJSON_CreateString(suggested) : cJSON_CreateNull());
    return o;
}

static void describe_vector(cJSON *doc, GDALDatasetH ds)
{
    OGREnvelope box;
    int n = GDALDatasetGetLayerCount(ds);
    OGRLayerH first = n > 0 ? GDALDatasetGetLayer(ds, 0) : NULL;
    cJSON_AddStringToObject(doc, "driver", GDALGetDriverShortName(GDALGetDatasetDriver(ds)));
    cJSON *layers = cJSON_AddArrayToObject(doc, "layers");
    for (int i = 0; i < n && i < MAX_LAYERS; i++)
        cJSON_AddItemToArray(layers, layer_document(GDALDatasetGetLayer(ds, i)));
    OGRSpatialReferenceH srs = first ? OGR_L_GetSpatialRef(first) : NULL;
    add_crs(doc, srs);
    bool has_box = first && OGR_L_GetExtent(first, &box, TRUE) == OGRERR_NONE;
    cJSON_AddItemToObject(doc, "bbox",
                          has_box ? lonlat_box(srs, (double[]){box.MinX, box.MinY, box.MaxX, box.MaxY})
                                  : cJSON_CreateNull());
    cJSON_AddItemToObject(doc, "problem",
                          has_box ? cJSON_CreateNull() : cJSON_CreateString("it holds no geometries"));
}

/* The path of ref=; false: the reply is complete. */
static bool read_ref(const struct service *s, const struct http_request *q, char path[REFS_PATH_SIZE],
                     struct http_reply *a)
{
    struct err e = {0};
    const char *ref = http_param(q, "ref");
    if (!ref)
        http_problem(q, a, 400, "ref", "ref must name a file: an upload's id, or a path below the data root");
    else if (!refs_resolve(store_root(s->workflow->store), ref, path, &e))
        http_problem(q, a, 404, "ref", "%s", e.msg);
    else
        return true;
    return false;
}

/* Text formats are read whole to be looked at, and no request may take minutes. */
static bool is_small_enough(const char *path, struct err *e)
{
    struct stat st;
    if (!ends_in(path, (const char *const[]){".geojson", ".json", ".csv", NULL}))
        return true;
    return (stat(path, &st) == 0 && st.st_size <= TEXT_MAX_BYTES) ||
           err_set(e, ERR_INPUT, "it is too large to be looked at as text; convert it to GeoPackage");
}

static void CPL_STDCALL note_large(CPLErr kind, CPLErrorNum number, const char *text)
{
    (void)kind;
    (void)number;
    if (strstr(text, "too complex/large"))
        *(bool *)CPLGetErrorHandlerUserData() = true;
}

/* A feature above the size that serve.c sets for GeoJSON (OGR_GEOJSON_MAX_OBJ_SIZE) is given up while it is read: it
 * would take twenty times its text in memory. */
static GDALDatasetH open_vector(const char *path, struct err *e)
{
    bool is_large = false;
    CPLPushErrorHandlerEx(note_large, &is_large);
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY, vector_drivers, NULL, NULL);
    CPLPopErrorHandler();
    if (!ds)
        err_set(e, ERR_INPUT,
                is_large ? "one of its features is too large to be read as text; convert it to GeoPackage"
                         : "it cannot be opened as a vector file");
    return ds;
}

void file_info_get(const struct service *s, const struct http_request *q, const char *const *arg,
                   struct http_reply *a)
{
    char path[REFS_PATH_SIZE];
    struct err e = {0};
    (void)arg;
    if (!read_ref(s, q, path, a))
        return;
    bool is_vector = is_vector_name(path);
    GDALDatasetH ds = NULL;
    if (!is_vector)
        ds = tile_raster_open(path, &e);
    else if (is_small_enough(path, &e))
        ds = open_vector(path, &e);
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "ref", http_param(q, "ref"));
    cJSON_AddStringToObject(doc, "kind", is_vector ? "vector" : "raster");
    if (!ds)
        cJSON_AddStringToObject(doc, "problem", e.msg);
    else if (is_vector)
        describe_vector(doc, ds);
    else
        describe_raster(doc, ds);
    if (ds)
        GDALClose(ds);
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_header(a, "Cache-Control", "no-store");
}

/* ---- how it looks
 * --------------------------------------------------------------------------------------------------- */

/* "3,2,1" or one number; false: no such bands. */
static bool parse_bands(const char *text, int n_bands, int band[3], int *n)
{
    char *end;
    for (*n = 0; *n < 3; ++*n) {
        long v = strtol(text, &end, 10);
        if (end == text || v < 1 || v > n_bands)
            return false;
        band[*n] = (int)v;
        text = end + (*end == ',');
        if (!*end)
            return ++*n == 1 || *n == 3;
        if (*end != ',')
            return false;
    }
    return false;
}

static int compare_float(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Between the 2nd and the 98th percentile of what is shown. */
static void stretch(const float *v, const uint8_t *valid, size_t n, int channels, int c, uint8_t *out,
                    float *sorted)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (valid[i] && isfinite(v[i]))
            sorted[k++] = v[i];
    if (!k)
        return;
    qsort(sorted, k, sizeof *sorted, compare_float);
    double low = (double)sorted[(k - 1) * 2 / 100], high = (double)sorted[(k - 1) * 98 / 100];
    for (size_t i = 0; i < n; i++) {
        double x = valid[i] && isfinite(v[i]) ? ((double)v[i] - low) / fmax(high - low, 1e-9) : 0;
        out[i * (size_t)channels + (size_t)c] = (uint8_t)lround(255 * fmin(fmax(x, 0), 1));
    }
}

/* Bytes that are unpacked to read the band into w x h pixels: every block that is touched, of the smallest overview that
 * is large enough. */
static double reading_bytes(GDALRasterBandH band, int w, int h)
{
    GDALRasterBandH best = band;
    int block_w, block_h;
    for (int i = 0; i < GDALGetOverviewCount(band); i++) {
        GDALRasterBandH o = GDALGetOverview(band, i);
        if (o && GDALGetRasterBandXSize(o) >= w && GDALGetRasterBandYSize(o) >= h &&
            GDALGetRasterBandXSize(o) < GDALGetRasterBandXSize(best))
            best = o;
    }
    GDALGetBlockSize(best, &block_w, &block_h);
    double across = ceil((double)GDALGetRasterBandXSize(best) / block_w),
           down = ceil((double)GDALGetRasterBandYSize(best) / block_h);
    return fmin(across, w) * fmin(down, h) * block_w * block_h *
           GDALGetDataTypeSizeBytes(GDALGetRasterDataType(best));
}

static bool draw(GDALDatasetH ds, const int *band, int n_bands, int px, char **png, size_t *size,
                 struct err *e)
{
    const int w = GDALGetRasterXSize(ds), h = GDALGetRasterYSize(ds);
    const int pw = w >= h ? px : (int)fmax(1, (double)px * w / h),
              ph = h >= w ? px : (int)fmax(1, (double)px * h / w);
    const size_t n = (size_t)pw * (size_t)ph;
    const int channels = n_bands == 3 ? 4 : 1;
    float *v = mem_array(2 * n, sizeof *v, "a picture", e);
    uint8_t *valid = mem_array(n, 1, "a picture", e), *out = mem_array(n, (size_t)channels, "a picture", e);
    bool ok = v && valid && out;
    double bytes = 0;
    for (int c = 0; c < n_bands; c++)
        bytes += reading_bytes(GDALGetRasterBand(ds, band[c]), pw, ph);
    if (ok && bytes > DRAW_MAX_BYTES)
        ok = err_set(e, ERR_INPUT,
                     "it is too large to be drawn small without overviews; make some with gdaladdo -ro");
    for (int c = 0; ok && c < n_bands; c++) {
        GDALRasterBandH b = GDALGetRasterBand(ds, band[c]);
        ok = GDALRasterIO(b, GF_Read, 0, 0, w, h, v, pw, ph, GDT_Float32, 0, 0) == CE_None &&
             GDALRasterIO(GDALGetMaskBand(b), GF_Read, 0, 0, w, h, valid, pw, ph, GDT_Byte, 0, 0) == CE_None;
        if (!ok)
            err_set(e, ERR_INPUT, "the image cannot be read");
        else
            stretch(v, valid, n, channels, c, out, v + n);
    }
    for (size_t i = 0; ok && channels == 4 && i < n; i++)
        out[4 * i + 3] = valid[i];
    ok = ok && picture_png(out, pw, ph, channels, png, size, e);
    free(out);
    free(valid);
    free(v);
    return ok;
}

void thumbnail_get(const struct service *s, const struct http_request *q, const char *const *arg,
                   struct http_reply *a)
{
    char path[REFS_PATH_SIZE], *png = NULL;
    size_t size = 0;
    struct err e = {0};
    long px = THUMB_DEFAULT;
    int band[3] = {1, 2, 3}, n;
    const char *bands = http_param(q, "bands");
    (void)arg;
    if (!read_ref(s, q, path, a) || !http_param_int(q, a, "px", 16, THUMB_MAX, &px))
        return;
    GDALDatasetH ds = tile_raster_open(path, &e);
    if (!ds) {
        http_problem_err(q, a, 422, &e);
        return;
    }
    n = GDALGetRasterCount(ds) >= 3 ? 3 : 1;
    if (bands && !parse_bands(bands, GDALGetRasterCount(ds), band, &n)) {
        http_problem(q, a, 400, "bands",
                     "bands must be one or three of the file's band numbers, such as 3,2,1");
    } else if (draw(ds, band, n, (int)px, &png, &size, &e)) {
        http_reply_body(a, 200, "image/png", png, size);
        http_reply_validate(q, a);
    } else {
        http_problem_err(q, a, 422, &e);
    }
    GDALClose(ds);
}
