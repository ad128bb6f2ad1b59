/* SPDX-License-Identifier: Apache-2.0
 * crs.c - coordinate systems of answers (crs.h). */
#include "web/crs.h"

#include <math.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CRS_EPSG "http://www.opengis.net/def/crs/EPSG/0/"

static bool look_up(int epsg, struct crs *c)
{
    *c = (struct crs){.epsg = epsg, .is_degrees = epsg == 0};
    if (epsg == 0) {
        snprintf(c->uri, sizeof c->uri, "%s", CRS_84);
        return true;
    }
    snprintf(c->uri, sizeof c->uri, CRS_EPSG "%d", epsg);
    OGRSpatialReferenceH srs = OSRNewSpatialReference(NULL);
    bool ok = OSRImportFromEPSG(srs, epsg) == OGRERR_NONE;
    if (ok) {
        c->is_degrees = OSRIsGeographic(srs);
        c->is_swapped = OSREPSGTreatsAsLatLong(srs) || OSREPSGTreatsAsNorthingEasting(srs);
    }
    OSRDestroySpatialReference(srs);
    return ok;
}

bool crs_find(const char *text, int own_epsg, struct crs *c)
{
    static const char curie[] = "[EPSG:";
    int epsg = -1;
    if (strcmp(text, CRS_84) == 0 || strcmp(text, "[OGC:CRS84]") == 0)
        epsg = 0;
    else if (strncmp(text, CRS_EPSG, sizeof CRS_EPSG - 1) == 0)
        epsg = (int)strtol(text + sizeof CRS_EPSG - 1, NULL, 10);
    else if (strncmp(text, curie, sizeof curie - 1) == 0)
        epsg = (int)strtol(text + sizeof curie - 1, NULL, 10);
    if (epsg != 0 && epsg != 4326 && epsg != 3857 && (epsg <= 0 || epsg != own_epsg))
        return false;
    if (!look_up(epsg, c))
        return false;
    return *text == '[' || strcmp(text, c->uri) == 0; /* nothing after the number */
}

cJSON *crs_list(int own_epsg)
{
    const int codes[] = {0, 4326, 3857, own_epsg};
    cJSON *list = cJSON_CreateArray();
    struct crs c;
    for (int i = 0; i < 4; i++)
        if ((i < 3 || (own_epsg > 0 && own_epsg != 4326 && own_epsg != 3857)) && look_up(codes[i], &c))
            cJSON_AddItemToArray(list, cJSON_CreateString(c.uri));
    return list;
}

OGRCoordinateTransformationH crs_transform(const struct crs *c, bool is_inverse, bool *ok)
{
    OGRCoordinateTransformationH t = NULL;
    *ok = true;
    if (c->epsg == 0 || c->epsg == 4326)
        return NULL;
    OGRSpatialReferenceH lonlat = OSRNewSpatialReference(NULL), other = OSRNewSpatialReference(NULL);
    OSRSetAxisMappingStrategy(lonlat, OAMS_TRADITIONAL_GIS_ORDER);
    OSRSetAxisMappingStrategy(other, OAMS_TRADITIONAL_GIS_ORDER);
    if (OSRImportFromEPSG(lonlat, 4326) == OGRERR_NONE && OSRImportFromEPSG(other, c->epsg) == OGRERR_NONE)
        t = is_inverse ? OCTNewCoordinateTransformation(other, lonlat)
                       : OCTNewCoordinateTransformation(lonlat, other);
    OSRDestroySpatialReference(lonlat);
    OSRDestroySpatialReference(other);
    *ok = t != NULL;
    return t;
}

bool crs_box(const struct crs *c, double box[4])
{
    bool ok;
    if (c->is_swapped) {
        const double y0 = box[0], y1 = box[2];
        box[0] = box[1];
        box[1] = y0;
        box[2] = box[3];
        box[3] = y1;
    }
    OGRCoordinateTransformationH t = crs_transform(c, true, &ok);
    if (!t)
        return ok;
    double out[4];
    ok = box[0] <= box[2] && box[1] <= box[3] &&
         OCTTransformBounds(t, box[0], box[1], box[2], box[3], &out[0], &out[1], &out[2], &out[3], 21) &&
         isfinite(out[0] + out[1] + out[2] + out[3]);
    if (ok)
        memcpy(box, out, sizeof out);
    OCTDestroyCoordinateTransformation(t);
    return ok;
}

void crs_write(FILE *f, OGRGeometryH g, const struct crs *c, OGRCoordinateTransformationH t)
{
    const struct geojson_style style = {.decimals = c->is_degrees ? 7 : 3, .is_swapped = c->is_swapped};
    OGRGeometryH copy = g && t ? OGR_G_Clone(g) : NULL;
    if (copy && OGR_G_Transform(copy, t) != OGRERR_NONE) {
        OGR_G_DestroyGeometry(copy);
        copy = NULL;
        g = NULL;
    }
    geojson_geometry(f, copy ? copy : t && g ? NULL : g, &style);
    OGR_G_DestroyGeometry(copy);
}
