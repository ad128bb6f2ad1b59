/* SPDX-License-Identifier: Apache-2.0
 *
 * zones.c - reads the layer of zones.h and answers which zone a point lies in. Polygons are brought to longitude
 * / latitude and prepared (GEOS) once; their boxes are tried first. */
#include "geo/zones.h"

#include "geo/raster.h"
#include "models/base/mem.h"
#include <cpl_error.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ZONES_MAX = 100000 };

struct polygon {
    OGRGeometryH geometry;
    OGRPreparedGeometryH prepared;
    OGREnvelope box;
    int zone;
};

struct zones {
    char **id, **name;
    int n, n_polygons;
    struct polygon *polygon;
    OGRGeometryH point;
};

void zones_close(struct zones *z)
{
    if (!z)
        return;
    for (int i = 0; i < z->n_polygons; i++) {
        OGRDestroyPreparedGeometry(z->polygon[i].prepared);
        OGR_G_DestroyGeometry(z->polygon[i].geometry);
    }
    for (int i = 0; i < z->n; i++) {
        free(z->id[i]);
        free(z->name[i]);
    }
    OGR_G_DestroyGeometry(z->point);
    free(z->id);
    free(z->name);
    free(z->polygon);
    free(z);
}

int zones_count(const struct zones *z)
{
    return z->n;
}

const char *zones_id(const struct zones *z, int i)
{
    return z->id[i];
}

const char *zones_name(const struct zones *z, int i)
{
    return z->name[i];
}

static bool is_area(OGRwkbGeometryType type)
{
    type = wkbFlatten(type);
    return type == wkbPolygon || type == wkbMultiPolygon || type == wkbCurvePolygon ||
           type == wkbMultiSurface;
}

static OGRLayerH pick_layer(GDALDatasetH ds, const char *path, const char *name, struct err *e)
{
    if (name) {
        OGRLayerH layer = GDALDatasetGetLayerByName(ds, name);
        if (!layer)
            err_set(e, ERR_INPUT, "%s has no layer '%s'; `ogrinfo %s` lists them", path, name, path);
        return layer;
    }
    for (int i = 0; i < GDALDatasetGetLayerCount(ds); i++) {
        OGRLayerH layer = GDALDatasetGetLayer(ds, i);
        const OGRwkbGeometryType type = OGR_L_GetGeomType(layer);
        if (is_area(type) || wkbFlatten(type) == wkbUnknown)
            return layer;
    }
    err_set(e, ERR_INPUT, "%s holds no layer of polygons, so it cannot say what lies in which zone", path);
    return NULL;
}

static bool find_field(OGRLayerH layer, const char *path, const char *name, int *field, struct err *e)
{
    char list[300] = "";
    size_t used = 0;
    OGRFeatureDefnH defn = OGR_L_GetLayerDefn(layer);
    *field = name ? OGR_FD_GetFieldIndex(defn, name) : -1;
    if (!name || *field >= 0)
        return true;
    for (int i = 0; i < OGR_FD_GetFieldCount(defn) && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "",
                                 OGR_Fld_GetNameRef(OGR_FD_GetFieldDefn(defn, i)));
    return err_set(e, ERR_INPUT, "%s has no field '%s'; its fields are: %s", path, name, list);
}

/* Index of the zone with this id, a new one when there is none yet. Ids are few, so they are searched from the
 * last, which parts of one zone mostly follow. */
static int zone_of_id(struct zones *z, const char *id, const char *name, struct err *e)
{
    for (int i = z->n - 1; i >= 0; i--)
        if (strcmp(z->id[i], id) == 0)
            return i;
    if (!mem_grow(&z->id, (size_t)z->n + 1, sizeof *z->id, "the zones", e) ||
        !mem_grow(&z->name, (size_t)z->n + 1, sizeof *z->name, "the zones", e))
        return -1;
    char *a = mem_strdup(id, e), *b = a ? mem_strdup(name, e) : NULL;
    if (!b) {
        free(a);
        return -1;
    }
    z->id[z->n] = a;
    z->name[z->n] = b;
    return z->n++;
}

static bool add_zone(struct zones *z, OGRFeatureH f, const char *path, int id_field, int name_field,
                     OGRCoordinateTransformationH to_lonlat, struct err *e)
{
    OGRGeometryH source = OGR_F_GetGeometryRef(f);
    if (!source || OGR_G_IsEmpty(source))
        return true;
    if (!is_area(OGR_G_GetGeometryType(source)))
        return err_set(e, ERR_INPUT, "%s: feature %lld is no polygon; zones are areas", path,
                       (long long)OGR_F_GetFID(f));
    if (!OGR_F_IsFieldSetAndNotNull(f, id_field) || !*OGR_F_GetFieldAsString(f, id_field))
        return err_set(e, ERR_INPUT, "%s: feature %lld has no id; give every zone one", path,
                       (long long)OGR_F_GetFID(f));
    if (z->n_polygons == ZONES_MAX)
        return err_set(e, ERR_INPUT, "%s has more than %d polygons, which are no zones to add up by", path,
                       ZONES_MAX);
    const char *name = name_field >= 0 && OGR_F_IsFieldSetAndNotNull(f, name_field)
                           ? OGR_F_GetFieldAsString(f, name_field)
                           : "";
    char *id = mem_strdup(OGR_F_GetFieldAsString(f, id_field), e), *copy = id ? mem_strdup(name, e) : NULL;
    const int zone = copy ? zone_of_id(z, id, copy, e) : -1;
    free(id);
    free(copy);
    if (zone < 0 || !mem_grow(&z->polygon, (size_t)z->n_polygons + 1, sizeof *z->polygon, "the zones", e))
        return false;
    OGRGeometryH linear = OGR_G_GetLinearGeometry(source, 0, NULL);
    if (linear && !OGR_G_IsValid(linear)) {
        OGRGeometryH valid = OGR_G_MakeValid(linear);
        OGR_G_DestroyGeometry(linear);
        linear = valid;
    }
    if (!linear || OGR_G_Transform(linear, to_lonlat) != OGRERR_NONE) {
        OGR_G_DestroyGeometry(linear);
        return err_set(e, ERR_INPUT, "%s: zone %.60s cannot be placed in longitude and latitude; mend it",
                       path, z->id[zone]);
    }
    struct polygon *p = &z->polygon[z->n_polygons];
    *p = (struct polygon){.geometry = linear, .zone = zone};
    OGR_G_GetEnvelope(linear, &p->box);
    p->prepared = OGRCreatePreparedGeometry(linear);
    z->n_polygons++;
    return p->prepared || err_set(e, ERR_RESOURCE, "not enough memory for the zones of %s", path);
}

static bool read_layer(struct zones *z, OGRLayerH layer, const char *path, const char *id_field,
                       const char *name_field, struct err *e)
{
    int id, name;
    if (!find_field(layer, path, id_field, &id, e) || !find_field(layer, path, name_field, &name, e))
        return false;
    OGRSpatialReferenceH own = OGR_L_GetSpatialRef(layer), copy = own ? OSRClone(own) : NULL;
    if (!copy)
        return err_set(e, ERR_INPUT, "%s has no coordinate system; assign one with ogr2ogr -a_srs", path);
    OGRSpatialReferenceH lonlat = geo_srs("EPSG:4326", e);
    OSRSetAxisMappingStrategy(copy, OAMS_TRADITIONAL_GIS_ORDER);
    OGRCoordinateTransformationH t = lonlat ? OCTNewCoordinateTransformation(copy, lonlat) : NULL;
    bool ok =
        t || err_set(e, ERR_INPUT, "%s: its coordinate system cannot be related to longitude/latitude", path);
    if (ok)
        OGR_L_ResetReading(layer);
    for (OGRFeatureH f; ok && (f = OGR_L_GetNextFeature(layer)); OGR_F_Destroy(f))
        ok = add_zone(z, f, path, id, name, t, e);
    if (ok && z->n == 0)
        ok = err_set(e, ERR_INPUT, "%s holds no zone", path);
    if (t)
        OCTDestroyCoordinateTransformation(t);
    OSRDestroySpatialReference(lonlat);
    OSRDestroySpatialReference(copy);
    return ok;
}

struct zones *zones_open(const char *path, const char *layer_name, const char *id_field,
                         const char *name_field, struct err *e)
{
    char why[200];
    struct zones *z = mem_array(1, sizeof *z, "the zones", e);
    if (!z)
        return NULL;
    CPLErrorReset();
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY, NULL, NULL, NULL);
    bool ok = ds || err_set(e, ERR_INPUT, "%s is no vector file that can be read: %s", path,
                            geo_message(why, sizeof why));
    OGRLayerH layer = ok ? pick_layer(ds, path, layer_name, e) : NULL;
    ok = layer && read_layer(z, layer, path, id_field, name_field, e);
    if (ok && !(z->point = OGR_G_CreateGeometry(wkbPoint)))
        ok = err_set(e, ERR_RESOURCE, "not enough memory for the zones");
    if (ds)
        GDALClose(ds);
    if (ok)
        return z;
    zones_close(z);
    return NULL;
}

static bool holds(struct zones *z, int i, double lon, double lat)
{
    const struct polygon *p = &z->polygon[i];
    return lon >= p->box.MinX && lon <= p->box.MaxX && lat >= p->box.MinY && lat <= p->box.MaxY &&
           OGRPreparedGeometryIntersects(p->prepared, z->point);
}

int zones_at(struct zones *z, double lon, double lat)
{
    OGR_G_SetPoint_2D(z->point, 0, lon, lat);
    for (int i = 0; i < z->n_polygons; i++)
        if (holds(z, i, lon, lat))
            return z->polygon[i].zone;
    return -1;
}

bool zones_point_of(OGRGeometryH footprint, double *lon, double *lat)
{
    OGRGeometryH point = footprint ? OGR_G_PointOnSurface(footprint) : NULL;
    if (!point || OGR_G_IsEmpty(point)) {
        OGR_G_DestroyGeometry(point);
        return false;
    }
    *lon = OGR_G_GetX(point, 0);
    *lat = OGR_G_GetY(point, 0);
    OGR_G_DestroyGeometry(point);
    return true;
}
