/* SPDX-License-Identifier: Apache-2.0
 *
 * mapping_vector.c - the verdicts as GeoPackage, GeoJSON and CSV: one field table, one function that fills a
 * row, three drivers. Rows are in fid order in all three; the feature id is the event's fid.
 *
 *   GeoPackage  geometry as given (polygons promoted to one type when mixed), spatial index, provenance as
 * layer metadata (gpkg_metadata), and QGIS's layer_styles table with useAsDefault = 1, so that the layer
 * opens coloured GeoJSON     RFC 7946: 7 decimals, right-hand winding, ids, bbox, and one foreign member
 * "aftermap" with the provenance CSV         the same fields, then lon and lat of the building
 *
 * layer_styles holds names of more than ten characters, which QGIS fixes: convert to Shapefile by naming the
 * layer (ogr2ogr out.shp damage.gpkg buildings). Rows go through one at a time; one thread. */
#include "geo/mapping_parts.h"

#include "geo/raster.h"
#include <cpl_conv.h>
#include <cpl_error.h>
#include <cpl_string.h>
#include <cpl_vsi.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum field_id {
    F_BLDG_ID,
    F_CLASS,
    F_LEVEL,
    F_P_NONE,
    F_P_MINOR,
    F_P_MAJOR,
    F_P_DESTR,
    F_P_DMG,
    F_ENTROPY,
    F_STATUS,
    F_REASON,
    F_LBL_SRC,
    F_SHIFT_X,
    F_SHIFT_Y,
    F_SHIFT_Q,
    F_AREA,
    F_SPLIT,
    F_BLOCK,
    F_MODEL,
    F_RUN,
    F_UPDATED,
    F_COUNT
};

static const struct {
    const char *name;
    OGRFieldType type;
} fields[F_COUNT] = {
    [F_BLDG_ID] = {"bldg_id", OFTString},  [F_CLASS] = {"dmg_class", OFTString},
    [F_LEVEL] = {"dmg_level", OFTInteger}, [F_P_NONE] = {"p_none", OFTReal},
    [F_P_MINOR] = {"p_minor", OFTReal},    [F_P_MAJOR] = {"p_major", OFTReal},
    [F_P_DESTR] = {"p_destr", OFTReal},    [F_P_DMG] = {"p_dmg", OFTReal},
    [F_ENTROPY] = {"entropy", OFTReal},    [F_STATUS] = {"status", OFTString},
    [F_REASON] = {"reason", OFTString},    [F_LBL_SRC] = {"lbl_src", OFTString},
    [F_SHIFT_X] = {"shift_x", OFTReal},    [F_SHIFT_Y] = {"shift_y", OFTReal},
    [F_SHIFT_Q] = {"shift_q", OFTReal},    [F_AREA] = {"area_m2", OFTReal},
    [F_SPLIT] = {"split", OFTString},      [F_BLOCK] = {"block", OFTInteger},
    [F_MODEL] = {"model_id", OFTString},   [F_RUN] = {"run_id", OFTString},
    [F_UPDATED] = {"updated", OFTDate},
};

/* ---- one layer */

enum shape { SHAPE_POINT, SHAPE_POLYGON, SHAPE_MULTI, SHAPE_ANY, SHAPE_NONE };

/* One geometry type for the layer where the footprints allow it: many readers expect one. */
static enum shape shape_of(const struct event *ev)
{
    size_t points = 0, polygons = 0, multi = 0, known = 0;
    for (size_t i = 0; i < ev->n; i++) {
        if (!ev->building[i].geometry)
            continue;
        OGRwkbGeometryType t = OGR_GT_Flatten(OGR_G_GetGeometryType(ev->building[i].geometry));
        known++;
        points += t == wkbPoint;
        polygons += t == wkbPolygon;
        multi += t == wkbMultiPolygon;
    }
    if (known && points == known)
        return SHAPE_POINT;
    if (multi == 0 && polygons == known)
        return SHAPE_POLYGON;
    return polygons + multi == known ? SHAPE_MULTI : SHAPE_ANY;
}

static OGRwkbGeometryType shape_type(enum shape s)
{
    static const OGRwkbGeometryType type[] = {wkbPoint, wkbPolygon, wkbMultiPolygon, wkbUnknown, wkbNone};
    return type[s];
}

static bool add_fields(OGRLayerH layer, bool lonlat)
{
    bool ok = true;
    for (int f = 0; f < F_COUNT + (lonlat ? 2 : 0); f++) {
        const char *name = f < F_COUNT ? fields[f].name : f == F_COUNT ? "lon" : "lat";
        OGRFieldType type = f >= F_COUNT                          ? OFTReal
                            : lonlat && fields[f].type == OFTDate ? OFTString
                                                                  : fields[f].type;
        OGRFieldDefnH d = OGR_Fld_Create(name, type);
        ok = OGR_L_CreateField(layer, d, TRUE) == OGRERR_NONE && ok;
        OGR_Fld_Destroy(d);
    }
    return ok;
}

static void set_text(OGRFeatureH f, int field, const char *text)
{
    if (text && *text)
        OGR_F_SetFieldString(f, field, text);
    else
        OGR_F_SetFieldNull(f, field);
}

static void set_p(OGRFeatureH f, int field, double v, bool known)
{
    if (known)
        OGR_F_SetFieldDouble(f, field, v);
    else
        OGR_F_SetFieldNull(f, field);
}

static void fill_row(const struct mapping_map *m, size_t i, OGRFeatureH f)
{
    static const char *const status[] = {"ok", "abstain", "unknown"};
    static const char *const split[] = {"train", "test", "buffer"};
    const struct event_building *b = &m->ev->building[i];
    const struct mapping_item *it = &m->item[i];
    bool known = it->status != MAPPING_NO_CHIP, grades = known && m->n_classes == 4;
    bool aligned = b->shift_by && *b->shift_by;
    char date[11];

    OGR_F_SetFID(f, b->fid);
    set_text(f, F_BLDG_ID, b->bldg_id);
    set_text(f, F_CLASS, mapping_class_name(m, it->level));
    if (known)
        OGR_F_SetFieldInteger(f, F_LEVEL, it->level);
    else
        OGR_F_SetFieldNull(f, F_LEVEL);
    for (int k = 0; k < 4; k++)
        set_p(f, F_P_NONE + k, it->shown[k], grades);
    set_p(f, F_P_DMG, it->p_dmg, known);
    set_p(f, F_ENTROPY, it->entropy, known);
    set_text(f, F_STATUS, status[it->status]);
    set_text(f, F_REASON, it->reason);
    set_text(f, F_LBL_SRC, it->trained ? "train" : known ? "model" : "");
    set_p(f, F_SHIFT_X, b->shift_x, aligned); /* as stored in the event (alignment.h) */
    set_p(f, F_SHIFT_Y, b->shift_y, aligned);
    set_p(f, F_SHIFT_Q, b->shift_q, aligned);
    set_p(f, F_AREA, round(b->area_m2 * 10) / 10, isfinite(b->area_m2));
    set_text(f, F_SPLIT, b->split <= 2 ? split[b->split] : "");
    OGR_F_SetFieldInteger(f, F_BLOCK, b->block);
    set_text(f, F_MODEL, m->model_id);
    set_text(f, F_RUN, m->run_id);
    snprintf(date, sizeof date, "%.10s", m->created);
    OGR_F_SetFieldString(f, F_UPDATED,
                         date); /* OGR parses it where the field is a date; CSV keeps ISO 8601 */
}

static bool write_rows(const struct mapping_map *m, OGRLayerH layer, enum shape shape, const char *stage,
                       const struct progress *p, const char *path, struct err *e)
{
    bool ok = true;
    for (size_t i = 0; ok && i < m->ev->n; i++) {
        if (i % 1024 == 0) {
            progress_report(p, stage, (double)i, (double)m->ev->n, NULL);
            if (progress_stopped(p))
                return err_set(e, ERR_INTERRUPTED, "interrupted while writing %s; nothing was changed",
                               stage);
        }
        const struct event_building *b = &m->ev->building[i];
        OGRFeatureH f = OGR_F_Create(OGR_L_GetLayerDefn(layer));
        fill_row(m, i, f);
        if (shape == SHAPE_NONE) {
            OGR_F_SetFieldDouble(f, F_COUNT, round(b->lon * 1e7) / 1e7);
            OGR_F_SetFieldDouble(f, F_COUNT + 1, round(b->lat * 1e7) / 1e7);
        } else if (b->geometry) {
            OGRGeometryH g = OGR_G_Clone(b->geometry);
            OGR_G_FlattenTo2D(g);
            if (shape == SHAPE_MULTI)
                g = OGR_G_ForceToMultiPolygon(g);
            OGR_F_SetGeometryDirectly(f, g);
        }
        if (OGR_L_CreateFeature(layer, f) != OGRERR_NONE)
            ok = mapping_gdal_failed(path, e);
        OGR_F_Destroy(f);
    }
    progress_report(p, stage, (double)m->ev->n, (double)m->ev->n, NULL);
    return ok;
}

static GDALDatasetH create(const char *driver_name, const char *path, struct err *e)
{
    GDALDriverH driver = GDALGetDriverByName(driver_name);
    if (!driver) {
        err_set(e, ERR_RUNTIME, "%s: GDAL has no %s driver; install a complete GDAL", path, driver_name);
        return NULL;
    }
    CPLErrorReset();
    GDALDatasetH ds = GDALCreate(driver, path, 0, 0, 0, GDT_Unknown, NULL);
    if (!ds)
        mapping_gdal_failed(path, e);
    return ds;
}

/* GDALClose() returns nothing in GDAL 3.6, so what went wrong in it is read from the error state. */
static bool close_checked(GDALDatasetH ds, bool ok, const char *path, struct err *e)
{
    if (!ds)
        return false;
    if (ok)
        CPLErrorReset();
    GDALClose(ds);
    return ok && CPLGetLastErrorType() >= CE_Failure ? mapping_gdal_failed(path, e) : ok;
}

/* GDAL's GeoJSON and CSV writers do not look at what their writes return, so a disk that was full for a
 * moment would go unnoticed: the file must end as a whole one does. */
static bool ends_with(const char *path, const char *end, struct err *e)
{
    char tail[8] = "";
    size_t n = strlen(end);
    VSILFILE *f = VSIFOpenL(path, "rb");
    bool ok = f && VSIFSeekL(f, 0, SEEK_END) == 0 && VSIFTellL(f) >= n &&
              VSIFSeekL(f, VSIFTellL(f) - n, SEEK_SET) == 0 && VSIFReadL(tail, 1, n, f) == n &&
              memcmp(tail, end, n) == 0;
    if (f)
        VSIFCloseL(f);
    if (!ok)
        CPLError(CE_Failure, CPLE_FileIO, "its end is missing");
    return ok ? true : mapping_gdal_failed(path, e);
}

/* ---- GeoPackage */

/* QGIS's own table; created as a layer without geometry, so that it is registered as an attributes table. */
static bool write_style(const struct mapping_map *m, GDALDatasetH ds, bool points, const char *path,
                        struct err *e)
{
    static const struct {
        const char *name;
        OGRFieldType type;
        int width;
    } columns[] = {{"f_table_catalog", OFTString, 256},
                   {"f_table_schema", OFTString, 256},
                   {"f_table_name", OFTString, 256},
                   {"f_geometry_column", OFTString, 256},
                   {"styleName", OFTString, 30},
                   {"styleQML", OFTString, 0},
                   {"styleSLD", OFTString, 0},
                   {"useAsDefault", OFTInteger, 0},
                   {"description", OFTString, 0},
                   {"owner", OFTString, 30},
                   {"ui", OFTString, 30},
                   {"update_time", OFTDateTime, 0}};
    int year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0;
    char *options[] = {(char *)(uintptr_t) "FID=id", NULL};
    char *qml = mapping_style_qml(m, points, e);
    if (!qml)
        return false;
    OGRLayerH layer = GDALDatasetCreateLayer(ds, "layer_styles", NULL, wkbNone, options);
    bool ok = layer != NULL;
    for (size_t c = 0; ok && c < sizeof columns / sizeof *columns; c++) {
        OGRFieldDefnH d = OGR_Fld_Create(columns[c].name, columns[c].type);
        OGR_Fld_SetWidth(d, columns[c].width);
        if (strcmp(columns[c].name, "useAsDefault") == 0)
            OGR_Fld_SetSubType(d, OFSTBoolean);
        ok = OGR_L_CreateField(layer, d, TRUE) == OGRERR_NONE;
        OGR_Fld_Destroy(d);
    }
    if (ok) {
        OGRFeatureH f = OGR_F_Create(OGR_L_GetLayerDefn(layer));
        OGR_F_SetFieldString(f, 0, "");
        OGR_F_SetFieldString(f, 1, "");
        OGR_F_SetFieldString(f, 2, "buildings");
        OGR_F_SetFieldString(f, 3, "geom");
        OGR_F_SetFieldString(f, 4, "damage");
        OGR_F_SetFieldString(f, 5, qml);
        OGR_F_SetFieldString(f, 6, "");
        OGR_F_SetFieldInteger(f, 7, 1);
        OGR_F_SetFieldString(f, 8, "Damage classes, dark is worse; patterns survive a photocopy");
        OGR_F_SetFieldString(f, 9, "");
        sscanf(m->created, "%d-%d-%dT%d:%d:%d", &year, &month, &day, &hour, &minute, &second);
        OGR_F_SetFieldDateTime(f, 11, year, month, day, hour, minute, second, 100);
        ok = OGR_L_CreateFeature(layer, f) == OGRERR_NONE;
        OGR_F_Destroy(f);
    }
    free(qml);
    return ok ? true : mapping_gdal_failed(path, e);
}

bool mapping_write_gpkg(const struct mapping_map *m, const char *path, const struct progress *p,
                        struct err *e)
{
    char *options[] = {(char *)(uintptr_t) "FID=fid", (char *)(uintptr_t) "GEOMETRY_NAME=geom",
                       (char *)(uintptr_t) "IDENTIFIER=buildings",
                       (char *)(uintptr_t) "DESCRIPTION=Building damage assessed by aftermap", NULL};
    enum shape shape = shape_of(m->ev);
    cJSON *pairs = mapping_provenance(m, e);
    if (!pairs)
        return false;
    /* The temporary file is synced as a whole before it is renamed: SQLite need not sync every step. The
     * table's dates are the run's own, so that equal runs make equal files. */
    CPLSetThreadLocalConfigOption("OGR_SQLITE_SYNCHRONOUS", "OFF");
    CPLSetThreadLocalConfigOption("OGR_CURRENT_DATE", m->created);
    GDALDatasetH ds = create("GPKG", path, e);
    bool ok = ds != NULL;
    if (ok) {
        OGRSpatialReferenceH s = geo_srs("EPSG:4326", e);
        OGRLayerH layer = s ? GDALDatasetCreateLayer(ds, "buildings", s, shape_type(shape), options) : NULL;
        OSRDestroySpatialReference(s);
        if (!layer || !add_fields(layer, false) || GDALDatasetStartTransaction(ds, FALSE) != OGRERR_NONE)
            ok = mapping_gdal_failed(path, e);
        ok = ok && write_rows(m, layer, shape, "gpkg", p, path, e);
        for (const cJSON *j = pairs->child; ok && j; j = j->next)
            GDALSetMetadataItem(layer, j->string, j->valuestring, NULL);
        ok = ok && write_style(m, ds, shape == SHAPE_POINT, path, e);
        if (ok && GDALDatasetCommitTransaction(ds) != OGRERR_NONE)
            ok = mapping_gdal_failed(path, e);
    }
    ok = close_checked(ds, ok, path, e);
    CPLSetThreadLocalConfigOption("OGR_SQLITE_SYNCHRONOUS", NULL);
    CPLSetThreadLocalConfigOption("OGR_CURRENT_DATE", NULL);
    cJSON_Delete(pairs);
    return ok;
}

/* ---- GeoJSON */

/* {"type":"FeatureCollection","aftermap":{...}}: GDAL copies unknown members of this text into the
 * collection. */
static char *foreign_member(const struct mapping_map *m, struct err *e)
{
    cJSON *pairs = mapping_provenance(m, e), *root = cJSON_CreateObject(), *member;
    char *text = NULL;
    if (pairs && root && cJSON_AddStringToObject(root, "type", "FeatureCollection") &&
        (member = cJSON_AddObjectToObject(root, "aftermap"))) {
        for (const cJSON *j = pairs->child; j; j = j->next) {
            char key[64];
            size_t k = 0;
            for (const char *s = j->string + strlen("AFTERMAP_"); *s && k + 1 < sizeof key; s++)
                key[k++] = *s >= 'A' && *s <= 'Z' ? (char)(*s - 'A' + 'a') : *s;
            key[k] = '\0';
            if (strcmp(key, "settings") == 0)
                cJSON_AddItemToObject(member, key, cJSON_Duplicate(m->settings, true));
            else if (strcmp(key, "cut") == 0 || strcmp(key, "seed") == 0)
                cJSON_AddRawToObject(member, key, j->valuestring);
            else
                cJSON_AddStringToObject(member, key, j->valuestring);
        }
        text = cJSON_PrintUnformatted(root);
    }
    if (pairs && !text)
        err_set(e, ERR_RESOURCE, "not enough memory for the map's description");
    cJSON_Delete(pairs);
    cJSON_Delete(root);
    return text;
}

bool mapping_write_geojson(const struct mapping_map *m, const char *path, const struct progress *p,
                           struct err *e)
{
    char *member = foreign_member(m, e), **options = NULL;
    if (!member)
        return false;
    options = CSLSetNameValue(options, "RFC7946", "YES");
    options = CSLSetNameValue(options, "COORDINATE_PRECISION", "7");
    options = CSLSetNameValue(options, "WRITE_BBOX", "YES");
    options = CSLSetNameValue(options, "DESCRIPTION", "Building damage assessed by aftermap");
    options = CSLSetNameValue(options, "NATIVE_DATA", member);
    options = CSLSetNameValue(options, "NATIVE_MEDIA_TYPE", "application/vnd.geo+json");
    GDALDatasetH ds = create("GeoJSON", path, e);
    bool ok = ds != NULL;
    if (ok) {
        OGRSpatialReferenceH s = geo_srs("EPSG:4326", e);
        enum shape shape = shape_of(m->ev);
        OGRLayerH layer = s ? GDALDatasetCreateLayer(ds, "buildings", s, shape_type(shape), options) : NULL;
        OSRDestroySpatialReference(s);
        if (!layer || !add_fields(layer, false))
            ok = mapping_gdal_failed(path, e);
        ok = ok && write_rows(m, layer, shape, "geojson", p, path, e);
    }
    ok = close_checked(ds, ok, path, e) && ends_with(path, "\n]\n}\n", e);
    CSLDestroy(options);
    cJSON_free(member);
    return ok;
}

/* ---- CSV */

bool mapping_write_csv(const struct mapping_map *m, const char *path, const struct progress *p, struct err *e)
{
    GDALDatasetH ds = create("CSV", path, e);
    bool ok = ds != NULL;
    if (ok) {
        char *options[] = {(char *)(uintptr_t) "STRING_QUOTING=IF_NEEDED", NULL};
        OGRLayerH layer = GDALDatasetCreateLayer(ds, "damage", NULL, wkbNone, options);
        if (!layer || !add_fields(layer, true))
            ok = mapping_gdal_failed(path, e);
        ok = ok && write_rows(m, layer, SHAPE_NONE, "csv", p, path, e);
    }
    return close_checked(ds, ok, path, e) && ends_with(path, "\n", e);
}
