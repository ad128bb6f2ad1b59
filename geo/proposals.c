/* SPDX-License-Identifier: Apache-2.0
 *
 * proposals.c - the layer of proposals.h, row by row through OGR's GeoPackage driver; footprints as the event has them
 * (EPSG:4326), of any geometry type. One thread. */
#include "geo/proposals.h"

#include "geo/mapping_parts.h"
#include "geo/raster.h"
#include <cpl_conv.h>
#include <cpl_error.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <string.h>

enum field_id {
    F_BLDG_ID,
    F_GROUP_NO,
    F_GROUP,
    F_RANK,
    F_ACCEPTED,
    F_F1,
    F_DISTANCE,
    F_CONFIDENCE,
    F_CALLED,
    F_FLAG,
    F_NAME,
    F_COUNT
};

static const struct {
    const char *name;
    OGRFieldType type;
} fields[F_COUNT] = {
    [F_BLDG_ID] = {"bldg_id", OFTString},     [F_GROUP_NO] = {"group_no", OFTInteger},
    [F_GROUP] = {"group_name", OFTString},    [F_RANK] = {"rank", OFTInteger},
    [F_ACCEPTED] = {"learnable", OFTInteger}, [F_F1] = {"f1", OFTReal},
    [F_DISTANCE] = {"distance", OFTReal},     [F_CONFIDENCE] = {"conf", OFTReal},
    [F_CALLED] = {"called", OFTString},       [F_FLAG] = {"flag", OFTString},
    [F_NAME] = {"name", OFTString},
};

static void set_text(OGRFeatureH f, int field, const char *text)
{
    if (text && *text)
        OGR_F_SetFieldString(f, field, text);
    else
        OGR_F_SetFieldNull(f, field);
}

static void set_real(OGRFeatureH f, int field, double v)
{
    if (isfinite(v))
        OGR_F_SetFieldDouble(f, field, round(v * 1000) / 1000);
    else
        OGR_F_SetFieldNull(f, field);
}

static bool write_row(OGRLayerH layer, const struct event *ev, const struct proposal *p)
{
    const struct event_building *b = &ev->building[p->building];
    OGRFeatureH f = OGR_F_Create(OGR_L_GetLayerDefn(layer));
    OGR_F_SetFID(f, b->fid);
    set_text(f, F_BLDG_ID, b->bldg_id);
    if (p->group) {
        OGR_F_SetFieldInteger(f, F_GROUP_NO, p->group);
        OGR_F_SetFieldInteger(f, F_RANK, p->rank);
        OGR_F_SetFieldInteger(f, F_ACCEPTED, p->is_accepted);
    }
    set_text(f, F_GROUP, p->group_name);
    set_real(f, F_F1, p->f1);
    set_real(f, F_DISTANCE, p->distance);
    set_real(f, F_CONFIDENCE, p->confidence);
    set_text(f, F_CALLED, p->called);
    set_text(f, F_FLAG, p->flag);
    OGR_F_SetFieldNull(f, F_NAME);
    if (b->geometry) {
        OGRGeometryH g = OGR_G_Clone(b->geometry);
        OGR_G_FlattenTo2D(g);
        OGR_F_SetGeometryDirectly(f, g);
    }
    const bool ok = OGR_L_CreateFeature(layer, f) == OGRERR_NONE;
    OGR_F_Destroy(f);
    return ok;
}

static OGRLayerH create_layer(GDALDatasetH ds, struct err *e)
{
    char fid[] = "FID=fid", geom[] = "GEOMETRY_NAME=geom", id[] = "IDENTIFIER=candidates",
         what[] = "DESCRIPTION=Unreviewed groups of buildings that a model rejects; proposals, not grades";
    char *options[] = {fid, geom, id, what, NULL};
    OGRSpatialReferenceH s = geo_srs("EPSG:4326", e);
    OGRLayerH layer = s ? GDALDatasetCreateLayer(ds, "candidates", s, wkbUnknown, options) : NULL;
    OSRDestroySpatialReference(s);
    for (int k = 0; layer && k < F_COUNT; k++) {
        OGRFieldDefnH d = OGR_Fld_Create(fields[k].name, fields[k].type);
        if (k == F_ACCEPTED)
            OGR_Fld_SetSubType(d, OFSTBoolean);
        if (OGR_L_CreateField(layer, d, TRUE) != OGRERR_NONE)
            layer = NULL;
        OGR_Fld_Destroy(d);
    }
    return layer;
}

bool proposals_write(const char *path, const struct event *ev, const struct proposal *p, size_t n,
                     const char *const (*metadata)[2], int n_pairs, const char *created, struct err *e)
{
    GDALDriverH driver = GDALGetDriverByName("GPKG");
    if (!driver)
        return err_set(e, ERR_RUNTIME, "%s: GDAL has no GPKG driver; install a complete GDAL", path);
    CPLErrorReset();
    CPLSetThreadLocalConfigOption("OGR_CURRENT_DATE", created); /* equal runs make equal files */
    GDALDatasetH ds = GDALCreate(driver, path, 0, 0, 0, GDT_Unknown, NULL);
    OGRLayerH layer = ds ? create_layer(ds, e) : NULL;
    bool ok = layer && GDALDatasetStartTransaction(ds, FALSE) == OGRERR_NONE;
    for (size_t i = 0; ok && i < n; i++)
        ok = write_row(layer, ev, &p[i]);
    for (int k = 0; ok && k < n_pairs; k++)
        GDALSetMetadataItem(layer, metadata[k][0], metadata[k][1], NULL);
    ok = ok && GDALDatasetCommitTransaction(ds) == OGRERR_NONE;
    if (!ok)
        mapping_gdal_failed(path, e);
    if (ok)
        CPLErrorReset();
    if (ds)
        GDALClose(ds); /* returns nothing in GDAL 3.6: the error state tells */
    if (ok && CPLGetLastErrorType() >= CE_Failure)
        ok = mapping_gdal_failed(path, e);
    CPLSetThreadLocalConfigOption("OGR_CURRENT_DATE", NULL);
    return ok;
}
