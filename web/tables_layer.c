/* SPDX-License-Identifier: Apache-2.0
 *
 * tables_layer.c - the rows of labels, zones, scenes and the area of interest as layers in memory (tables.h), in
 * longitude/latitude. Column names have at most ten letters, so that a Shapefile keeps them. */
#include "geo/zones.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include "web/tables.h"
#include "web/workflow.h"
#include "web/zone_setting.h"

#include <cpl_conv.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct column {
    const char *name;
    OGRFieldType type;
};

/* An empty layer in degrees; NULL with an error. */
static GDALDatasetH make_layer(const char *name, OGRwkbGeometryType type, const struct column *column, int n,
                               OGRLayerH *layer, struct err *e)
{
    OGRSpatialReferenceH srs = OSRNewSpatialReference(NULL);
    GDALDatasetH ds = GDALCreate(GDALGetDriverByName("Memory"), "", 0, 0, 0, GDT_Unknown, NULL);
    bool ok = OSRImportFromEPSG(srs, 4326) == OGRERR_NONE && ds;
    OSRSetAxisMappingStrategy(srs, OAMS_TRADITIONAL_GIS_ORDER);
    *layer = ok ? GDALDatasetCreateLayer(ds, name, srs, type, NULL) : NULL;
    ok = *layer != NULL;
    for (int i = 0; ok && i < n; i++) {
        OGRFieldDefnH field = OGR_Fld_Create(column[i].name, column[i].type);
        ok = OGR_L_CreateField(*layer, field, TRUE) == OGRERR_NONE;
        OGR_Fld_Destroy(field);
    }
    OSRDestroySpatialReference(srs);
    if (ok)
        return ds;
    if (ds)
        GDALClose(ds);
    err_set(e, ERR_RESOURCE, "a table cannot be made in memory");
    return NULL;
}

static bool add_row(OGRLayerH layer, OGRFeatureH row, struct err *e)
{
    bool ok = OGR_L_CreateFeature(layer, row) == OGRERR_NONE;
    OGR_F_Destroy(row);
    return ok || err_set(e, ERR_RESOURCE, "memory ran out for a table");
}

/* ---- labels
 * -------------------------------------------------------------------------------------------------------- */

enum {
    L_ID,
    L_CLASS,
    L_LEVEL,
    L_REASON,
    L_SURE,
    L_NOTE,
    L_BY,
    L_PURPOSE,
    L_DRAW,
    L_X,
    L_Y,
    L_SEQ,
    L_UPDATED
};
static const struct column label_columns[] = {
    {"bldg_id", OFTString},  {"dmg_class", OFTString}, {"dmg_level", OFTInteger}, {"reason", OFTString},
    {"sure", OFTInteger},    {"note", OFTString},      {"lbl_by", OFTString},     {"purpose", OFTString},
    {"draw", OFTInteger64},  {"shift_x", OFTReal},     {"shift_y", OFTReal},      {"seq", OFTInteger64},
    {"updated", OFTDateTime}};

static int compare_ids(const void *x, const void *y, void *ctx)
{
    const struct assessment *as = ctx;
    return strcmp(as->names + as->building[*(const uint32_t *)x].equal[EQUAL_BLDG_ID],
                  as->names + as->building[*(const uint32_t *)y].equal[EQUAL_BLDG_ID]);
}

/* The label's building; both lists are in the order of ids, so *at only ever goes up. */
static const struct building *match(const struct assessment *as, const uint32_t *order, size_t *at,
                                    const char *bldg_id)
{
    while (*at < as->n && strcmp(as->names + as->building[order[*at]].equal[EQUAL_BLDG_ID], bldg_id) < 0)
        ++*at;
    const struct building *b = *at < as->n ? &as->building[order[*at]] : NULL;
    return b && strcmp(as->names + b->equal[EQUAL_BLDG_ID], bldg_id) == 0 ? b : NULL;
}

static OGRFeatureH label_row(OGRLayerH layer, const struct store_label *l, const struct building *b)
{
    OGRFeatureH row = OGR_F_Create(OGR_L_GetLayerDefn(layer));
    int y, mo, d, h, mi, s;
    OGR_F_SetFID(row, b->fid);
    OGR_F_SetFieldString(row, L_ID, l->bldg_id);
    OGR_F_SetFieldString(row, L_CLASS, event_level_name(l->level));
    OGR_F_SetFieldInteger(row, L_LEVEL, l->level);
    OGR_F_SetFieldString(row, L_REASON, l->reason);
    OGR_F_SetFieldInteger(row, L_SURE, l->is_sure);
    OGR_F_SetFieldString(row, L_NOTE, l->note ? l->note : "");
    OGR_F_SetFieldString(row, L_BY, l->by ? l->by : "");
    OGR_F_SetFieldString(row, L_PURPOSE, store_purpose_name(l->purpose));
    if (l->draw > 0)
        OGR_F_SetFieldInteger64(row, L_DRAW, l->draw);
    if (l->has_shift) {
        OGR_F_SetFieldDouble(row, L_X, l->shift_x);
        OGR_F_SetFieldDouble(row, L_Y, l->shift_y);
    }
    OGR_F_SetFieldInteger64(row, L_SEQ, l->seq);
    if (sscanf(l->time, "%4d-%2d-%2dT%2d:%2d:%2d", &y, &mo, &d, &h, &mi, &s) == 6)
        OGR_F_SetFieldDateTime(row, L_UPDATED, y, mo, d, h, mi, s, 100);
    if (b->geometry)
        OGR_F_SetGeometry(row, b->geometry);
    return row;
}

static GDALDatasetH make_labels(const struct service *s, const struct assessment *as, struct err *e)
{
    struct store_labels l = {0};
    OGRLayerH layer;
    size_t at = 0;
    GDALDatasetH ds = NULL;
    uint32_t *order = mem_array(as->n, sizeof *order, "the buildings' ids", e);
    bool ok = order && store_labels_read(s->workflow->store, as->id, STORE_ANY_PURPOSE, NULL, NULL, &l, e) &&
              (ds = make_layer("labels", wkbUnknown, label_columns,
                               (int)(sizeof label_columns / sizeof *label_columns), &layer, e)) != NULL;
    for (size_t i = 0; ok && i < as->n; i++)
        order[i] = (uint32_t)i;
    if (ok && as->n)
        qsort_r(order, as->n, sizeof *order, compare_ids, (void *)(uintptr_t)as);
    for (size_t i = 0; ok && i < l.n; i++) {
        const struct building *b = match(as, order, &at, l.item[i].bldg_id);
        ok = !b || add_row(layer, label_row(layer, &l.item[i], b), e);
    }
    store_labels_free(&l);
    free(order);
    if (ok)
        return ds;
    if (ds)
        GDALClose(ds);
    return NULL;
}

/* ---- zones
 * --------------------------------------------------------------------------------------------------------- */

enum { Z_ID, Z_NAME, Z_N, Z_CLASS };
static const struct column zone_columns[] = {
    {"zone_id", OFTString},  {"zone_name", OFTString}, {"n_bldg", OFTInteger},  {"n_none", OFTInteger},
    {"n_minor", OFTInteger}, {"n_major", OFTInteger},  {"n_destr", OFTInteger}, {"n_unknown", OFTInteger}};

/* Buildings of each level in each zone: count [zones][5], unknown last. */
static void count_levels(const struct assessment *as, struct zones *z, uint32_t *count)
{
    for (size_t i = 0; i < as->n; i++) {
        const struct building *b = &as->building[i];
        double lon, lat;
        int zone = b->geometry && zones_point_of(b->geometry, &lon, &lat) ? zones_at(z, lon, lat) : -1;
        const char *text = as->names + b->equal[EQUAL_DMG_LEVEL];
        long level = b->equal[EQUAL_DMG_LEVEL] ? strtol(text, NULL, 10) : -1;
        if (zone >= 0)
            count[5 * zone + (level >= 0 && level <= 3 ? level : 4)]++;
    }
}

/* All parts of a zone in degrees; NULL: none. */
static OGRGeometryH zone_outline(OGRLayerH source, int field, const char *id)
{
    OGRGeometryH all = OGR_G_CreateGeometry(wkbMultiPolygon);
    OGRSpatialReferenceH from = OGR_L_GetSpatialRef(source), to = OSRNewSpatialReference(NULL);
    OGRCoordinateTransformationH t = NULL;
    OGRFeatureH f;
    OSRImportFromEPSG(to, 4326);
    OSRSetAxisMappingStrategy(to, OAMS_TRADITIONAL_GIS_ORDER);
    if (from) {
        OSRSetAxisMappingStrategy(from, OAMS_TRADITIONAL_GIS_ORDER);
        t = OCTNewCoordinateTransformation(from, to);
    }
    OGR_L_ResetReading(source);
    while ((f = OGR_L_GetNextFeature(source)) != NULL) {
        OGRGeometryH g = strcmp(OGR_F_GetFieldAsString(f, field), id) == 0
                             ? OGR_G_ForceToMultiPolygon(OGR_F_StealGeometry(f))
                             : NULL;
        if (g && t && OGR_G_Transform(g, t) == OGRERR_NONE)
            for (int i = 0; i < OGR_G_GetGeometryCount(g); i++)
                OGR_G_AddGeometry(all, OGR_G_GetGeometryRef(g, i));
        OGR_G_DestroyGeometry(g);
        OGR_F_Destroy(f);
    }
    if (t)
        OCTDestroyCoordinateTransformation(t);
    OSRDestroySpatialReference(to);
    if (!OGR_G_IsEmpty(all))
        return all;
    OGR_G_DestroyGeometry(all);
    return NULL;
}

/* The layer of a zones' file that has the field. */
static OGRLayerH layer_with(GDALDatasetH ds, const char *field, int *index)
{
    for (int i = 0; ds && i < GDALDatasetGetLayerCount(ds); i++) {
        OGRLayerH layer = GDALDatasetGetLayer(ds, i);
        *index = OGR_FD_GetFieldIndex(OGR_L_GetLayerDefn(layer), field);
        if (*index >= 0 && OGR_GT_Flatten(OGR_L_GetGeomType(layer)) != wkbNone)
            return layer;
    }
    return NULL;
}

static bool fill_zones(OGRLayerH layer, const struct assessment *as, struct zones *z, OGRLayerH source,
                       int field, struct err *e)
{
    const int n = zones_count(z);
    uint32_t *count = mem_array((size_t)n, 5 * sizeof *count, "the zones", e);
    bool ok = count != NULL;
    if (ok)
        count_levels(as, z, count);
    for (int i = 0; ok && i < n; i++) {
        OGRFeatureH row = OGR_F_Create(OGR_L_GetLayerDefn(layer));
        OGRGeometryH g = zone_outline(source, field, zones_id(z, i));
        const uint32_t *c = count + 5 * i;
        OGR_F_SetFID(row, i + 1);
        OGR_F_SetFieldString(row, Z_ID, zones_id(z, i));
        OGR_F_SetFieldString(row, Z_NAME, zones_name(z, i));
        OGR_F_SetFieldInteger(row, Z_N, (int)(c[0] + c[1] + c[2] + c[3] + c[4]));
        for (int k = 0; k < 5; k++)
            OGR_F_SetFieldInteger(row, Z_CLASS + k, (int)c[k]);
        if (g)
            OGR_F_SetGeometryDirectly(row, g);
        ok = add_row(layer, row, e);
    }
    free(count);
    return ok;
}

static cJSON *settings_of(const struct service *s, const char *aid, struct err *e)
{
    struct store_assessment a = {0};
    cJSON *inputs = store_assessment_get(s->workflow->store, aid, &a, e) ? cJSON_Parse(a.inputs) : NULL;
    store_assessment_free(&a);
    return inputs;
}

static GDALDatasetH make_zones(const struct service *s, const struct assessment *as, struct err *e)
{
    static const char *const drivers[] = {"GPKG", "GeoJSON", "FlatGeobuf", "ESRI Shapefile", "CSV", NULL};
    struct zone_setting set;
    struct zones *z = NULL;
    OGRLayerH layer;
    GDALDatasetH ds = NULL, from = NULL;
    int field = -1;
    cJSON *inputs = settings_of(s, as->id, e);
    bool ok = zone_setting_read(inputs, &set) ||
              err_set(e, ERR_NOT_FOUND, "this assessment has no zones; PATCH it with a member zones");
    cJSON_Delete(inputs);
    if (ok) {
        z = zones_open(set.path, NULL, set.id_field, *set.name_field ? set.name_field : NULL, e);
        from = z ? GDALOpenEx(set.path, GDAL_OF_VECTOR | GDAL_OF_READONLY, drivers, NULL, NULL) : NULL;
        OGRLayerH source = layer_with(from, set.id_field, &field);
        ok = z && (source || err_set(e, ERR_INPUT, "%s cannot be read any more", file_base(set.path))) &&
             (ds = make_layer("zones", wkbMultiPolygon, zone_columns,
                              (int)(sizeof zone_columns / sizeof *zone_columns), &layer, e)) != NULL &&
             fill_zones(layer, as, z, source, field, e);
    }
    zones_close(z);
    if (from)
        GDALClose(from);
    if (ok)
        return ds;
    if (ds)
        GDALClose(ds);
    return NULL;
}

/* ---- scenes
 * -------------------------------------------------------------------------------------------------------- */

enum { S_NAME, S_PHASE, S_DATE, S_WIDTH, S_HEIGHT, S_BANDS, S_GSD };
static const struct column scene_columns[] = {
    {"name", OFTString},    {"phase", OFTString},  {"img_date", OFTString}, {"width", OFTInteger},
    {"height", OFTInteger}, {"bands", OFTInteger}, {"gsd_m", OFTReal}};

/* The raster's edge in degrees, with points between the corners, for edges bend between coordinate systems. */
static OGRGeometryH scene_outline(const struct tile_source *t)
{
    enum { STEPS = 8 };
    OGRSpatialReferenceH from = OSRNewSpatialReference(t->wkt), to = OSRNewSpatialReference(NULL);
    OGRGeometryH polygon = OGR_G_CreateGeometry(wkbPolygon), ring = OGR_G_CreateGeometry(wkbLinearRing);
    OSRImportFromEPSG(to, 4326);
    OSRSetAxisMappingStrategy(from, OAMS_TRADITIONAL_GIS_ORDER);
    OSRSetAxisMappingStrategy(to, OAMS_TRADITIONAL_GIS_ORDER);
    OGRCoordinateTransformationH c = OCTNewCoordinateTransformation(from, to);
    for (int i = 0; i <= 4 * STEPS; i++) {
        double k = (double)(i % STEPS) / STEPS, u = 0, v = 0, x, y;
        switch (i / STEPS % 4) {
        case 0:
            u = k;
            break;
        case 1:
            u = 1, v = k;
            break;
        case 2:
            u = 1 - k, v = 1;
            break;
        default:
            v = 1 - k;
        }
        GDALApplyGeoTransform((double *)(uintptr_t)t->geotransform, u * t->width, v * t->height, &x, &y);
        OGR_G_AddPoint_2D(ring, x, y);
    }
    OGR_G_AddGeometryDirectly(polygon, ring);
    bool ok = c && OGR_G_Transform(polygon, c) == OGRERR_NONE;
    if (c)
        OCTDestroyCoordinateTransformation(c);
    OSRDestroySpatialReference(from);
    OSRDestroySpatialReference(to);
    if (ok)
        return polygon;
    OGR_G_DestroyGeometry(polygon);
    return NULL;
}

static GDALDatasetH make_scenes(const struct assessment *as, struct err *e)
{
    OGRLayerH layer;
    GDALDatasetH ds = make_layer("scenes", wkbPolygon, scene_columns,
                                 (int)(sizeof scene_columns / sizeof *scene_columns), &layer, e);
    bool ok = ds != NULL;
    int number = 0;
    for (int d = TILE_PRE; d <= TILE_POST; d++) {
        for (int i = 0; ok && i < as->layer[d].n; i++) {
            const struct tile_source *t = &as->layer[d].source[i];
            OGRFeatureH row = OGR_F_Create(OGR_L_GetLayerDefn(layer));
            OGRGeometryH g = scene_outline(t);
            double mid = as->layer[d].bounds[1] + as->layer[d].bounds[3];
            OGR_F_SetFID(row, ++number);
            OGR_F_SetFieldString(row, S_NAME, file_base(t->path));
            OGR_F_SetFieldString(row, S_PHASE, tile_layer_names[d]);
            if (*t->date)
                OGR_F_SetFieldString(row, S_DATE, t->date);
            OGR_F_SetFieldInteger(row, S_WIDTH, t->width);
            OGR_F_SetFieldInteger(row, S_HEIGHT, t->height);
            OGR_F_SetFieldInteger(row, S_BANDS, t->n_all_bands);
            /* A Web Mercator metre is longer than one on the ground by the secant of the latitude. */
            OGR_F_SetFieldDouble(row, S_GSD, t->resolution * cos(mid / 2 * M_PI / 180));
            if (g)
                OGR_F_SetGeometryDirectly(row, g);
            ok = add_row(layer, row, e);
        }
    }
    if (ok)
        return ds;
    if (ds)
        GDALClose(ds);
    return NULL;
}

/* ---- the area of interest
 * ------------------------------------------------------------------------------------------- */

static GDALDatasetH make_aoi(const struct service *s, const struct assessment *as, struct err *e)
{
    static const struct column columns[] = {{"name", OFTString}};
    OGRLayerH layer;
    cJSON *inputs = settings_of(s, as->id, e);
    OGRGeometryH g = aoi_setting_read(inputs);
    GDALDatasetH ds = g ? make_layer("aoi", wkbUnknown, columns, 1, &layer, e) : NULL;
    cJSON_Delete(inputs);
    if (!g) {
        err_set(e, ERR_NOT_FOUND, "this assessment has no area of interest");
        return NULL;
    }
    OGRFeatureH row = ds ? OGR_F_Create(OGR_L_GetLayerDefn(layer)) : NULL;
    if (!row) {
        OGR_G_DestroyGeometry(g);
        return NULL;
    }
    OGR_F_SetFID(row, 1);
    OGR_F_SetFieldString(row, 0, as->title);
    OGR_F_SetGeometryDirectly(row, g);
    if (add_row(layer, row, e))
        return ds;
    GDALClose(ds);
    return NULL;
}

GDALDatasetH tables_make(const struct service *s, const struct assessment *as, enum table_kind kind,
                         struct err *e)
{
    switch (kind) {
    case TABLE_LABELS:
        return make_labels(s, as, e);
    case TABLE_ZONES:
        return make_zones(s, as, e);
    case TABLE_SCENES:
        return make_scenes(as, e);
    default:
        return make_aoi(s, as, e);
    }
}
