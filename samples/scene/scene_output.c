/* SPDX-License-Identifier: Apache-2.0
 *
 * scene_output.c - writes pre.tif, post.tif, footprints.gpkg and truth.json, each whole or not at all.
 *
 * The town lies in the open Atlantic (UTM zone 26 north, 41 degrees) so that nobody takes it for a real
 * place; every file carries SYNTHETIC=YES. The pre image is on a UTM grid, the post image on a grid of square
 * degrees. Images are painted a strip of tiles at a time, the tiles of a strip in parallel, so memory is
 * bounded by one strip; a tile depends only on the scene, so bytes do not depend on the thread count.
 * GeoPackage time stamps are pinned for the same reason. */
#include "models/base/file.h"
#include "models/base/mem.h"
#include "samples/scene/scene_sensor.h"

#include <cJSON.h>
#include <cpl_conv.h>
#include <cpl_string.h>
#include <gdal.h>
#include <math.h>
#include <ogr_api.h>
#include <ogr_srs_api.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double ORIGIN_E = 380000, ORIGIN_N = 4560000; /* north-west corner of the pre image */
enum { EPSG_PRE = 32626, EPSG_POST = 4326, PATH_MAX_BYTES = 4096 };

static const char *const level_name[] = {"none", "minor", "major", "destroyed"};
static const char *const note_name[] = {"standing", "new", "gone_before", "site", "reroofed"};
static const char *const event_name[] = {"tornado", "wildfire", "mixed"};
static const char *const mark = "SYNTHETIC: made by aftermap-scene; no real place, no real damage";

static OGRSpatialReferenceH crs_of(int epsg)
{
    OGRSpatialReferenceH crs = OSRNewSpatialReference(NULL);
    OSRImportFromEPSG(crs, epsg);
    OSRSetAxisMappingStrategy(crs, OAMS_TRADITIONAL_GIS_ORDER);
    return crs;
}

/* Grid of an image (GDAL geotransform, size) and the lattice that ties it to scene metres. */
static bool frame_open(const struct scene *s, int date, struct frame *f, double gt[6], struct err *e)
{
    OGRSpatialReferenceH utm = crs_of(EPSG_PRE), geo = crs_of(EPSG_POST);
    OGRCoordinateTransformationH to_geo = OCTNewCoordinateTransformation(utm, geo),
                                 to_utm = OCTNewCoordinateTransformation(geo, utm);
    bool ok = to_geo && to_utm;
    memset(f, 0, sizeof *f);
    if (!ok) {
        err_set(e, ERR_RUNTIME, "PROJ cannot transform between EPSG:%d and EPSG:%d; is proj.db installed?",
                EPSG_PRE, EPSG_POST);
        goto done;
    }
    if (date == PRE) {
        f->width = s->o.size_px[0];
        f->height = s->o.size_px[1];
        double g[6] = {ORIGIN_E, s->o.gsd[PRE], 0, ORIGIN_N, 0, -s->o.gsd[PRE]};
        memcpy(gt, g, sizeof g);
    } else { /* bounding box in degrees; its corners beyond the turned scene square stay blank */
        double w = s->o.size_m[0], h = s->o.size_m[1];
        double x[4] = {ORIGIN_E, ORIGIN_E + w, ORIGIN_E, ORIGIN_E + w},
               y[4] = {ORIGIN_N, ORIGIN_N, ORIGIN_N - h, ORIGIN_N - h};
        OCTTransform(to_geo, 4, x, y, NULL);
        double west = fmin(x[0], x[2]), east = fmax(x[1], x[3]), north = fmax(y[0], y[1]),
               south = fmin(y[2], y[3]);
        double deg = s->o.gsd[POST] / (111195.0 * sqrt(cos(0.5 * (north + south) * 0.017453292519943295)));
        deg = round(deg * 1e8) / 1e8;
        f->width = (int)ceil((east - west) / deg);
        f->height = (int)ceil((north - south) / deg);
        double g[6] = {west, deg, 0, north, 0, -deg};
        memcpy(gt, g, sizeof g);
    }
    int nx = (f->width + CANVAS_TILE - 1) / CANVAS_TILE + 1,
        ny = (f->height + CANVAS_TILE - 1) / CANVAS_TILE + 1;
    f->lattice_nx = nx;
    if (!(f->lattice = mem_array((size_t)nx * ny * 2, sizeof(double), "image lattice", e))) {
        ok = false;
        goto done;
    }
    for (int k = 0; k < nx * ny; k++) {
        double x = gt[0] + gt[1] * (k % nx) * CANVAS_TILE, y = gt[3] + gt[5] * (k / nx) * CANVAS_TILE;
        if (date == POST)
            OCTTransform(to_utm, 1, &x, &y, NULL);
        f->lattice[2 * k] = x - ORIGIN_E;
        f->lattice[2 * k + 1] = ORIGIN_N - y;
    }
done:
    OCTDestroyCoordinateTransformation(to_geo);
    OCTDestroyCoordinateTransformation(to_utm);
    OSRDestroySpatialReference(utm);
    OSRDestroySpatialReference(geo);
    return ok;
}

static GDALDatasetH image_create(const struct scene *s, int date, const char *path, const struct frame *f,
                                 double gt[6], struct err *e)
{
    static const char *const band_name[] = {"red", "green", "blue", "near infrared"};
    char **co = NULL;
    co = CSLSetNameValue(co, "TILED", "YES");
    co = CSLSetNameValue(co, "BLOCKXSIZE", "256");
    co = CSLSetNameValue(co, "BLOCKYSIZE", "256");
    co = CSLSetNameValue(co, "COMPRESS", "DEFLATE");
    co = CSLSetNameValue(co, "ZLEVEL", "1");
    co = CSLSetNameValue(co, "PREDICTOR", "2");
    co = CSLSetNameValue(co, "INTERLEAVE", "PIXEL");
    co = CSLSetNameValue(co, "PHOTOMETRIC", "RGB");
    co = CSLSetNameValue(co, "ALPHA", "NO");
    co = CSLSetNameValue(co, "BIGTIFF", "IF_SAFER");
    GDALDatasetH ds = GDALCreate(GDALGetDriverByName("GTiff"), path, f->width, f->height, s->o.bands,
                                 s->o.bits == 8 ? GDT_Byte : GDT_UInt16, co);
    CSLDestroy(co);
    if (!ds) {
        err_set(e, ERR_RUNTIME, "%s: cannot create: %s", path, CPLGetLastErrorMsg());
        return NULL;
    }
    OGRSpatialReferenceH crs = crs_of(date == PRE ? EPSG_PRE : EPSG_POST);
    GDALSetGeoTransform(ds, gt);
    GDALSetSpatialRef(ds, crs);
    OSRDestroySpatialReference(crs);
    GDALSetMetadataItem(ds, "SYNTHETIC", "YES", NULL);
    GDALSetMetadataItem(ds, "TIFFTAG_IMAGEDESCRIPTION", mark, NULL);
    GDALSetMetadataItem(ds, "TIFFTAG_SOFTWARE", "aftermap-scene " AM_VERSION, NULL);
    GDALSetMetadataItem(ds, "PHASE", date == PRE ? "pre" : "post", NULL);
    for (int b = 0; b < s->o.bands; b++) {
        GDALRasterBandH band = GDALGetRasterBand(ds, b + 1);
        GDALSetRasterNoDataValue(band, 0);
        GDALSetDescription(band, band_name[b]);
    }
    return ds;
}

struct painters { /* one canvas and one sensor a thread */
    struct canvas *canvas;
    struct sensor **sensor;
    int n;
};

static void painters_close(struct painters *p)
{
    for (int k = 0; k < p->n; k++) {
        canvas_close(&p->canvas[k]);
        sensor_close(p->sensor[k]);
    }
    free(p->canvas);
    free(p->sensor);
}

static bool painters_open(struct painters *p, int n, struct err *e)
{
    p->n = 0;
    p->canvas = mem_array((size_t)n, sizeof *p->canvas, "canvases", e);
    p->sensor = mem_array((size_t)n, sizeof *p->sensor, "sensors", e);
    bool ok = p->canvas && p->sensor;
    for (p->n = 0; ok && p->n < n; p->n++)
        ok = canvas_open(&p->canvas[p->n], e) && (p->sensor[p->n] = sensor_open(e));
    if (!ok)
        painters_close(p);
    return ok;
}

static void say_progress(const struct scene *s, const char *what, int done, int total)
{
    if (!s->o.quiet && isatty(STDERR_FILENO))
        fprintf(stderr, "\r%s %3d %%%s", what, 100 * done / total, done == total ? "\n" : "");
}

static bool paint_strips(const struct scene *s, int date, const struct frame *f, GDALDatasetH ds,
                         const char *path, struct err *e)
{
    struct painters p;
    size_t bytes = s->o.bits / 8, pitch = (size_t)f->width * s->o.bands;
    char *strip = mem_array(pitch * CANVAS_TILE, bytes, "image strip", e);
    if (!strip || !painters_open(&p, s->o.threads, e)) {
        free(strip);
        return false;
    }
    int tiles_x = (f->width + CANVAS_TILE - 1) / CANVAS_TILE,
        tiles_y = (f->height + CANVAS_TILE - 1) / CANVAS_TILE;
    bool ok = true;
    for (int ty = 0; ok && ty < tiles_y; ty++) {
        int rows = f->height - ty * CANVAS_TILE < CANVAS_TILE ? f->height - ty * CANVAS_TILE : CANVAS_TILE;
#pragma omp parallel for num_threads(s->o.threads) schedule(dynamic)
        for (int tx = 0; tx < tiles_x; tx++) {
            int me = omp_get_thread_num();
            int cols = f->width - tx * CANVAS_TILE < CANVAS_TILE ? f->width - tx * CANVAS_TILE : CANVAS_TILE;
            canvas_aim(&p.canvas[me], s, f, date, tx, ty);
            canvas_paint(&p.canvas[me]);
            sensor_take(p.sensor[me], &p.canvas[me], cols, rows,
                        strip + (size_t)tx * CANVAS_TILE * s->o.bands * bytes, pitch);
        }
        CPLErr wrote = GDALDatasetRasterIO(ds, GF_Write, 0, ty * CANVAS_TILE, f->width, rows, strip, f->width,
                                           rows, s->o.bits == 8 ? GDT_Byte : GDT_UInt16, s->o.bands, NULL,
                                           (int)(bytes * s->o.bands), (int)(pitch * bytes), (int)bytes);
        if (wrote != CE_None)
            ok = err_set(e, ERR_RESOURCE, "%s: cannot write: %s", path, CPLGetLastErrorMsg());
        say_progress(s, date == PRE ? "pre.tif " : "post.tif", ty + 1, tiles_y);
    }
    painters_close(&p);
    free(strip);
    return ok;
}

static bool write_image(const struct scene *s, int date, const char *path, struct err *e)
{
    char temp[PATH_MAX_BYTES];
    struct frame f;
    double gt[6];
    GDALDatasetH ds = NULL;
    bool ok = file_temp_name(path, temp, sizeof temp, e) && frame_open(s, date, &f, gt, e);
    if (!ok)
        return false;
    CPLErrorReset();
    ok = (ds = image_create(s, date, temp, &f, gt, e)) && paint_strips(s, date, &f, ds, path, e);
    if (ds) { /* the last blocks are written on closing: a full disk may show only now */
        GDALClose(ds);
        if (ok && CPLGetLastErrorType() >= CE_Failure)
            ok = err_set(e, ERR_RESOURCE, "%s: cannot finish: %s", path, CPLGetLastErrorMsg());
        ok = ok && file_rename(temp, path, e);
        if (!ok)
            unlink(temp);
    }
    free(f.lattice);
    return ok;
}

/* Outline of the roof as someone digitises it on the pre image: displaced by relief, corners off by a few
 * decimetres. */
static OGRGeometryH outline(const struct scene *s, const struct house *h, uint64_t index)
{
    struct rng r;
    rng_init(&r, s->o.seed, STREAM_OUTLINES, index);
    float z = h->present[PRE] ? house_top(h) : 0;
    OGRGeometryH whole = NULL;
    for (int q = 0; q < h->n_parts; q++) {
        const struct part *p = &h->part[q];
        OGRGeometryH ring = OGR_G_CreateGeometry(wkbLinearRing), poly = OGR_G_CreateGeometry(wkbPolygon);
        static const float corner[5][2] = {{-1, -1}, {1, -1}, {1, 1}, {-1, 1}, {-1, -1}};
        for (int k = 0; k < 5; k++) {
            float lx = p->cx + corner[k][0] * p->hw, ly = p->cy + corner[k][1] * p->hd;
            double x = h->x + z * s->date[PRE].lean[0] + lx * h->cs - ly * h->sn,
                   y = h->y + z * s->date[PRE].lean[1] + lx * h->sn + ly * h->cs;
            OGR_G_AddPoint_2D(ring, ORIGIN_E + x, ORIGIN_N - y);
        }
        OGR_G_AddGeometryDirectly(poly, ring);
        OGRGeometryH both = whole ? OGR_G_Union(whole, poly) : poly;
        if (whole) {
            OGR_G_DestroyGeometry(poly);
            OGR_G_DestroyGeometry(whole);
        }
        whole = both;
    }
    OGRGeometryH exact = whole ? OGR_G_Clone(whole) : NULL;
    OGRGeometryH ring = whole && wkbFlatten(OGR_G_GetGeometryType(whole)) == wkbPolygon
                            ? OGR_G_GetGeometryRef(whole, 0)
                            : NULL;
    int n = ring ? OGR_G_GetPointCount(ring) : 0;
    for (int k = 0; k + 1 < n; k++) {
        double x = OGR_G_GetX(ring, k) + 0.2 * rng_normal(&r), y = OGR_G_GetY(ring, k) + 0.2 * rng_normal(&r);
        OGR_G_SetPoint_2D(ring, k, round(x * 100) / 100, round(y * 100) / 100);
    }
    if (n > 1)
        OGR_G_SetPoint_2D(ring, n - 1, OGR_G_GetX(ring, 0), OGR_G_GetY(ring, 0));
    if (exact && !OGR_G_IsValid(whole)) { /* a notch narrower than the hand's tremor */
        OGR_G_DestroyGeometry(whole);
        return exact;
    }
    OGR_G_DestroyGeometry(exact);
    return whole;
}

struct verdict { /* what an analyst with both images would write down */
    const char *damage, *reason;
    double dx, dy; /* post roof - pre roof, metres east and north */
};

static struct verdict judge(const struct scene *s, const struct house *h)
{
    float z = house_top(h), at[2], shade;
    float pre[2] = {h->x + z * s->date[PRE].lean[0], h->y + z * s->date[PRE].lean[1]};
    float lift = h->level == LEVEL_DESTROYED ? 0 : z; /* rubble lies on the ground */
    if (!h->present[PRE])
        pre[0] = h->x, pre[1] = h->y; /* digitised on the bare lot */
    scene_seen_at(s, h->x + lift * s->date[POST].lean[0], h->y + lift * s->date[POST].lean[1], at);
    struct verdict v = {level_name[h->level], NULL, at[0] - pre[0], pre[1] - at[1]};
    if (h->note == NOTE_GONE)
        v.reason = "no_building";
    else if (scene_blank(s, POST, at[0], at[1]))
        v.reason = "nodata";
    else if (scene_cloud(s, POST, at[0], at[1], &shade) > 0.6f)
        v.reason = "cloud";
    if (v.reason)
        v.damage = "unknown";
    return v;
}

struct counts {
    int damage[5], level[4], note[5];
};

static int damage_index(const char *name)
{
    for (int k = 0; k < 4; k++)
        if (!strcmp(name, level_name[k]))
            return k;
    return 4;
}

static OGRLayerH layer_create(GDALDatasetH ds)
{
    OGRSpatialReferenceH crs = crs_of(EPSG_PRE);
    OGRLayerH layer = GDALDatasetCreateLayer(ds, "footprints", crs, wkbPolygon, NULL);
    OSRDestroySpatialReference(crs);
    static const struct {
        const char *name;
        OGRFieldType type;
    } fields[] = {{"bldg_id", OFTString},     {"damage", OFTString},   {"reason", OFTString},
                  {"true_level", OFTInteger}, {"true_dx", OFTReal},    {"true_dy", OFTReal},
                  {"note", OFTString},        {"synthetic", OFTString}};
    for (size_t k = 0; layer && k < sizeof fields / sizeof *fields; k++) {
        OGRFieldDefnH def = OGR_Fld_Create(fields[k].name, fields[k].type);
        bool made = OGR_L_CreateField(layer, def, TRUE) == OGRERR_NONE;
        OGR_Fld_Destroy(def);
        if (!made)
            return NULL;
    }
    return layer;
}

static bool add_footprint(const struct scene *s, OGRLayerH layer, size_t k, struct counts *n)
{
    const struct house *h = &s->house[k];
    struct verdict v = judge(s, h);
    char id[24];
    snprintf(id, sizeof id, "B%06zu", k + 1);
    OGRFeatureH row = OGR_F_Create(OGR_L_GetLayerDefn(layer));
    OGR_F_SetFieldString(row, 0, id);
    OGR_F_SetFieldString(row, 1, v.damage);
    if (v.reason)
        OGR_F_SetFieldString(row, 2, v.reason);
    OGR_F_SetFieldInteger(row, 3, h->level);
    OGR_F_SetFieldDouble(row, 4, round(v.dx * 100) / 100);
    OGR_F_SetFieldDouble(row, 5, round(v.dy * 100) / 100);
    OGR_F_SetFieldString(row, 6, note_name[h->note]);
    OGR_F_SetFieldString(row, 7, "YES");
    OGR_F_SetGeometryDirectly(row, outline(s, h, k));
    bool ok = OGR_L_CreateFeature(layer, row) == OGRERR_NONE;
    OGR_F_Destroy(row);
    n->damage[damage_index(v.damage)]++;
    n->level[h->level]++;
    n->note[h->note]++;
    return ok;
}

static bool write_footprints(const struct scene *s, const char *path, struct counts *n, struct err *e)
{
    char temp[PATH_MAX_BYTES];
    if (!file_temp_name(path, temp, sizeof temp, e))
        return false;
    CPLSetConfigOption("OGR_CURRENT_DATE", "2000-01-01T00:00:00.000Z");
    CPLErrorReset();
    GDALDatasetH ds = GDALCreate(GDALGetDriverByName("GPKG"), temp, 0, 0, 0, GDT_Unknown, NULL);
    OGRLayerH layer = ds ? layer_create(ds) : NULL;
    bool ok = layer && GDALDatasetStartTransaction(ds, FALSE) == OGRERR_NONE;
    for (size_t k = 0; ok && k < s->n_houses; k++)
        ok = add_footprint(s, layer, k, n);
    ok = ok && GDALDatasetCommitTransaction(ds) == OGRERR_NONE;
    if (ok) {
        GDALSetMetadataItem(layer, "SYNTHETIC", "YES", NULL);
        GDALSetMetadataItem(layer, "DESCRIPTION", mark, NULL);
    }
    if (ds)
        GDALClose(ds);
    if (!ok || CPLGetLastErrorType() >= CE_Failure) {
        unlink(temp);
        return err_set(e, ERR_RUNTIME, "%s: cannot write: %s", path, CPLGetLastErrorMsg());
    }
    return file_rename(temp, path, e);
}

static void json_counts(cJSON *to, const char *key, const int *n, const char *const *names, int size)
{
    cJSON *o = cJSON_AddObjectToObject(to, key);
    for (int k = 0; k < size; k++)
        cJSON_AddNumberToObject(o, names[k], n[k]);
}

static void json_pair(cJSON *to, const char *key, double a, double b)
{
    double v[2] = {a, b};
    cJSON_AddItemToObject(to, key, cJSON_CreateDoubleArray(v, 2));
}

static bool write_truth(const struct scene *s, const char *path, const struct counts *n, struct err *e)
{
    static const char *const damage_names[] = {"none", "minor", "major", "destroyed", "unknown"};
    cJSON *j = cJSON_CreateObject();
    cJSON_AddBoolToObject(j, "synthetic", true);
    cJSON_AddStringToObject(j, "about", mark);
    cJSON_AddStringToObject(j, "program", "aftermap-scene " AM_VERSION);
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)s->o.seed);
    cJSON_AddRawToObject(j, "seed", seed);
    cJSON_AddStringToObject(j, "event", event_name[s->o.event]);
    json_pair(j, "size_px", s->o.size_px[0], s->o.size_px[1]);
    json_pair(j, "size_m", s->o.size_m[0], s->o.size_m[1]);
    json_pair(j, "gsd_m", s->o.gsd[PRE], s->o.gsd[POST]);
    cJSON_AddNumberToObject(j, "bits", s->o.bits);
    cJSON_AddNumberToObject(j, "bands", s->o.bands);
    cJSON_AddNumberToObject(j, "buildings", (double)s->n_houses);
    json_counts(j, "damage", n->damage, damage_names, 5);
    json_counts(j, "true_level", n->level, level_name, 4);
    json_counts(j, "note", n->note, note_name, 5);
    cJSON_AddNumberToObject(j, "clouds", s->n_clouds);
    static const char *const date_name[] = {"pre", "post"};
    for (int d = 0; d < 2; d++) {
        const struct scene_date *t = &s->date[d];
        cJSON *o = cJSON_AddObjectToObject(j, date_name[d]);
        cJSON_AddNumberToObject(o, "epsg", d == PRE ? EPSG_PRE : EPSG_POST);
        double az = atan2(t->sun[0], -t->sun[1]) * 57.29577951308232;
        cJSON_AddNumberToObject(o, "sun_azimuth_deg", round(fmod(az + 360, 360) * 10) / 10);
        cJSON_AddNumberToObject(o, "sun_elevation_deg", round(asin(t->sun[2]) * 572.9577951308232) / 10);
        cJSON_AddNumberToObject(o, "off_nadir_deg",
                                round(atan(hypot(t->lean[0], t->lean[1])) * 572.9577951308232) / 10);
    }
    char *text = cJSON_Print(j);
    bool ok = text ? file_write_text(path, text, e) : err_set(e, ERR_RESOURCE, "%s: out of memory", path);
    cJSON_free(text);
    cJSON_Delete(j);
    return ok;
}

bool scene_write(const struct scene *s, struct err *e)
{
    char pre[PATH_MAX_BYTES], post[PATH_MAX_BYTES], gpkg[PATH_MAX_BYTES], truth[PATH_MAX_BYTES];
    struct counts n = {0};
    const char *dir = s->o.out;
    bool ok = file_make_dirs(dir, e) && file_join(pre, sizeof pre, dir, "pre.tif", e) &&
              file_join(post, sizeof post, dir, "post.tif", e) &&
              file_join(gpkg, sizeof gpkg, dir, "footprints.gpkg", e) &&
              file_join(truth, sizeof truth, dir, "truth.json", e);
    ok = ok && write_image(s, PRE, pre, e) && write_image(s, POST, post, e) &&
         write_footprints(s, gpkg, &n, e) && write_truth(s, truth, &n, e);
    if (ok && !s->o.quiet)
        printf("%s: %zu buildings (none %d, minor %d, major %d, destroyed %d, unknown %d)\n", dir,
               s->n_houses, n.damage[0], n.damage[1], n.damage[2], n.damage[3], n.damage[4]);
    return ok;
}
