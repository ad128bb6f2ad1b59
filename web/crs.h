/* SPDX-License-Identifier: Apache-2.0
 *
 * crs.h - the coordinate systems a collection is offered in (OGC API - Features Part 2: crs=, bbox-crs,
 * Content-Crs), each with the order of axes that its URI demands. */
#ifndef AM_CRS_H
#define AM_CRS_H

#include "web/geojson.h"
#include <cJSON.h>
#include <stddef.h>

#define CRS_84 "http://www.opengis.net/def/crs/OGC/1.3/CRS84"

struct crs {
    char uri[80];
    int epsg; /* 0: CRS84 */
    bool is_degrees, is_swapped;
};

/* Finds an offered system by URI (or "EPSG:n" in square brackets, the safe CURIE); own_epsg is the assessment's. */
bool crs_find(const char *text, int own_epsg, struct crs *c);
cJSON *crs_list(int own_epsg); /* all URIs, CRS84 first */

/* From longitude/latitude into c (or back with is_inverse), x first; NULL where nothing has to be done. One use at a
 * time; OCTDestroyCoordinateTransformation. *ok false: there is no way. */
OGRCoordinateTransformationH crs_transform(const struct crs *c, bool is_inverse, bool *ok);

/* A box of c in its own order of axes, as longitude/latitude with minx above maxx where it crosses the 180th meridian.
 * False: it lies where the system does not reach. */
bool crs_box(const struct crs *c, double box[4]);

/* A geometry in longitude/latitude written in c; t from crs_transform. */
void crs_write(FILE *f, OGRGeometryH g, const struct crs *c, OGRCoordinateTransformationH t);

#endif
