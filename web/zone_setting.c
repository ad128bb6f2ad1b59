/* SPDX-License-Identifier: Apache-2.0
 * zone_setting.c - zones and area of interest in an assessment's settings (zone_setting.h). */
#include "web/zone_setting.h"

#include "geo/zones.h"
#include "models/base/file.h"
#include <cpl_conv.h>
#include <cpl_error.h>
#include <gdal.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const drivers[] = {"GPKG", "GeoJSON", "FlatGeobuf", "ESRI Shapefile", "CSV", NULL};

enum { AOI_MAX_POINTS = 200000 };

static const char *text_of(const cJSON *o, const char *name)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
    return s ? s : "";
}

/* ---- zones
 * --------------------------------------------------------------------------------------------------------- */

bool zone_setting_read(const cJSON *inputs, struct zone_setting *z)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(inputs, "zones");
    if (!cJSON_IsObject(o) || !*text_of(o, "path") || !*text_of(o, "id_field"))
        return false;
    snprintf(z->path, sizeof z->path, "%s", text_of(o, "path"));
    snprintf(z->id_field, sizeof z->id_field, "%s", text_of(o, "id_field"));
    snprintf(z->name_field, sizeof z->name_field, "%s", text_of(o, "name_field"));
    return true;
}

cJSON *zone_setting_make(const cJSON *given, const char *path, struct err *e)
{
    struct zone_setting set = {0};
    const char *id = text_of(given, "id_field"), *name = text_of(given, "name_field");
    if (!*id || strlen(id) >= sizeof set.id_field || strlen(name) >= sizeof set.name_field) {
        err_set(e, ERR_INPUT, "zones need id_field, the column with their ids");
        return NULL;
    }
    struct zones *z = zones_open(path, NULL, id, *name ? name : NULL, e);
    if (!z)
        return NULL;
    zones_close(z);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "ref", text_of(given, "ref"));
    cJSON_AddStringToObject(o, "path", path);
    cJSON_AddStringToObject(o, "id_field", id);
    if (*name)
        cJSON_AddStringToObject(o, "name_field", name);
    return o;
}

/* ---- the area of interest
 * ------------------------------------------------------------------------------------------- */

static OGRCoordinateTransformationH transform(OGRSpatialReferenceH srs, bool to_srs)
{
    OGRSpatialReferenceH lonlat = OSRNewSpatialReference(NULL), other = srs ? OSRClone(srs) : NULL;
    OSRImportFromEPSG(lonlat, 4326);
    OSRSetAxisMappingStrategy(lonlat, OAMS_TRADITIONAL_GIS_ORDER);
    OGRCoordinateTransformationH t = NULL;
    if (other) {
        OSRSetAxisMappingStrategy(other, OAMS_TRADITIONAL_GIS_ORDER);
        t = to_srs ? OCTNewCoordinateTransformation(lonlat, other)
                   : OCTNewCoordinateTransformation(other, lonlat);
    }
    OSRDestroySpatialReference(lonlat);
    OSRDestroySpatialReference(other);
    return t;
}

/* Polygons of the first layer as one geometry in degrees; NULL with an error. */
static OGRGeometryH read_area(const char *path, struct err *e)
{
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY, drivers, NULL, NULL);
    OGRLayerH layer = ds && GDALDatasetGetLayerCount(ds) > 0 ? GDALDatasetGetLayer(ds, 0) : NULL;
    OGRCoordinateTransformationH t = layer ? transform(OGR_L_GetSpatialRef(layer), false) : NULL;
    OGRGeometryH all = OGR_G_CreateGeometry(wkbMultiPolygon), joined = NULL;
    OGRFeatureH f;
    int n_points = 0;
    while (t && n_points <= AOI_MAX_POINTS && (f = OGR_L_GetNextFeature(layer)) != NULL) {
        OGRGeometryH g = OGR_F_StealGeometry(f);
        OGRwkbGeometryType type = g ? OGR_GT_Flatten(OGR_G_GetGeometryType(g)) : wkbNone;
        bool is_area = type == wkbPolygon || type == wkbMultiPolygon;
        g = is_area ? OGR_G_ForceToMultiPolygon(g) : g;
        if (is_area && OGR_G_Transform(g, t) == OGRERR_NONE)
            for (int i = 0; i < OGR_G_GetGeometryCount(g); i++) {
                OGRGeometryH part = OGR_G_GetGeometryRef(g, i);
                for (int k = 0; k < OGR_G_GetGeometryCount(part); k++)
                    n_points += OGR_G_GetPointCount(OGR_G_GetGeometryRef(part, k));
                OGR_G_AddGeometry(all, part);
            }
        OGR_G_DestroyGeometry(g);
        OGR_F_Destroy(f);
    }
    if (!t)
        err_set(e, ERR_INPUT, "%s holds no layer with a coordinate system", file_base(path));
    else if (n_points > AOI_MAX_POINTS)
        err_set(e, ERR_INPUT, "%s has more than %d points; simplify it", file_base(path), AOI_MAX_POINTS);
    else if (OGR_G_IsEmpty(all) || !(joined = OGR_G_UnionCascaded(all)))
        err_set(e, ERR_INPUT, "%s holds no polygon", file_base(path));
    OGR_G_DestroyGeometry(all);
    if (t)
        OCTDestroyCoordinateTransformation(t);
    if (ds)
        GDALClose(ds);
    return joined;
}

static bool check_area(OGRGeometryH g, struct err *e)
{
    OGREnvelope box;
    OGRwkbGeometryType type = OGR_GT_Flatten(OGR_G_GetGeometryType(g));
    if ((type != wkbPolygon && type != wkbMultiPolygon) || OGR_G_IsEmpty(g))
        return err_set(e, ERR_INPUT, "the area of interest must be a Polygon or MultiPolygon");
    OGR_G_GetEnvelope(g, &box);
    if (!(box.MinX >= -180 && box.MaxX <= 180 && box.MinY >= -90 && box.MaxY <= 90))
        return err_set(e, ERR_INPUT,
                       "the area of interest must lie within longitude -180..180 and latitude "
                       "-90..90, longitude first");
    CPLPushErrorHandler(CPLQuietErrorHandler);
    bool is_valid = OGR_G_IsValid(g);
    CPLPopErrorHandler();
    return is_valid || err_set(e, ERR_INPUT, "the area of interest crosses itself");
}

cJSON *aoi_setting_make(const cJSON *given, const char *path, struct err *e)
{
    OGRGeometryH g = NULL;
    cJSON *out = NULL;
    if (path) {
        g = read_area(path, e);
    } else {
        char *text = cJSON_IsObject(given) ? cJSON_PrintUnformatted(given) : NULL;
        g = text ? OGR_G_CreateGeometryFromJson(text) : NULL;
        free(text);
        if (!g)
            err_set(e, ERR_INPUT, "aoi must be a GeoJSON Polygon or MultiPolygon, or the name of a file");
    }
    if (g && check_area(g, e)) {
        OGR_G_FlattenTo2D(g);
        char *text = OGR_G_ExportToJson(g);
        out = text ? cJSON_Parse(text) : NULL;
        CPLFree(text);
        if (!out)
            err_set(e, ERR_RESOURCE, "memory ran out for the area of interest");
    }
    OGR_G_DestroyGeometry(g);
    return out;
}

OGRGeometryH aoi_setting_read(const cJSON *inputs)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(inputs, "aoi");
    char *text = cJSON_IsObject(o) ? cJSON_PrintUnformatted(o) : NULL;
    OGRGeometryH g = text ? OGR_G_CreateGeometryFromJson(text) : NULL;
    free(text);
    return g;
}

static bool copy_rows(OGRLayerH from, OGRLayerH to, GDALDatasetH out, OGRGeometryH area, struct err *e)
{
    OGRFeatureDefnH defn = OGR_L_GetLayerDefn(from);
    OGRPreparedGeometryH prepared = OGRCreatePreparedGeometry(area);
    OGRFeatureH f;
    size_t n = 0;
    bool ok = prepared != NULL;
    for (int i = 0; ok && i < OGR_FD_GetFieldCount(defn); i++)
        ok = OGR_L_CreateField(to, OGR_FD_GetFieldDefn(defn, i), TRUE) == OGRERR_NONE;
    ok = ok && GDALDatasetStartTransaction(out, FALSE) == OGRERR_NONE;
    while (ok && (f = OGR_L_GetNextFeature(from)) != NULL) {
        OGRGeometryH g = OGR_F_GetGeometryRef(f);
        if (g && OGRPreparedGeometryIntersects(prepared, g)) {
            OGRFeatureH row = OGR_F_Create(OGR_L_GetLayerDefn(to));
            ok = OGR_F_SetFrom(row, f, TRUE) == OGRERR_NONE;
            OGR_F_SetFID(row, OGR_F_GetFID(f));
            ok = ok && OGR_L_CreateFeature(to, row) == OGRERR_NONE;
            OGR_F_Destroy(row);
            n++;
        }
        OGR_F_Destroy(f);
    }
    ok = ok && GDALDatasetCommitTransaction(out) == OGRERR_NONE;
    OGRDestroyPreparedGeometry(prepared);
    if (!ok)
        return err_set(e, ERR_RESOURCE, "the footprints of the area of interest cannot be written");
    return n > 0 || err_set(e, ERR_INPUT, "no footprint touches the area of interest");
}

bool aoi_cut(const char *footprints, const char *layer, OGRGeometryH aoi, const char *out, struct err *e)
{
    GDALDatasetH from = GDALOpenEx(footprints, GDAL_OF_VECTOR | GDAL_OF_READONLY, drivers, NULL, NULL),
                 to = NULL;
    OGRLayerH source = !from             ? NULL
                       : layer && *layer ? GDALDatasetGetLayerByName(from, layer)
                                         : GDALDatasetGetLayer(from, 0);
    OGRSpatialReferenceH srs = source ? OGR_L_GetSpatialRef(source) : NULL;
    OGRCoordinateTransformationH t = transform(srs, true);
    OGRGeometryH area = t ? OGR_G_Clone(aoi) : NULL;
    bool ok = false;
    if (!source || !area || OGR_G_Transform(area, t) != OGRERR_NONE) {
        err_set(e, ERR_INPUT, "%s holds no such layer with a coordinate system", file_base(footprints));
        goto out;
    }
    OGR_L_SetSpatialFilter(source, area);
    unlink(out);
    to = GDALCreate(GDALGetDriverByName("GPKG"), out, 0, 0, 0, GDT_Unknown, NULL);
    OGRLayerH target =
        to ? GDALDatasetCreateLayer(to, "footprints", srs, OGR_L_GetGeomType(source), NULL) : NULL;
    ok = target ? copy_rows(source, target, to, area, e)
                : err_set(e, ERR_RESOURCE, "the footprints of the area of interest cannot be written");
out:
    if (to)
        GDALClose(to);
    if (from)
        GDALClose(from);
    if (t)
        OCTDestroyCoordinateTransformation(t);
    OGR_G_DestroyGeometry(area);
    return ok;
}
