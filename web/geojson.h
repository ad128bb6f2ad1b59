/* SPDX-License-Identifier: Apache-2.0
 *
 * geojson.h - values and geometries as GeoJSON text (RFC 7946): exterior rings counter-clockwise, no more decimals
 * than asked for, nothing that is not finite. */
#ifndef AM_GEOJSON_H
#define AM_GEOJSON_H

#include <ogr_api.h>
#include <ogr_srs_api.h>
#include <stdbool.h>
#include <stdio.h>

struct geojson_style {
    int decimals;    /* of coordinates: 7 for degrees, 3 for metres */
    bool is_swapped; /* y before x, as some coordinate systems demand */
};

void geojson_number(FILE *f, double v, int decimals); /* null where it is not finite */
void geojson_string(FILE *f, const char *s);          /* quoted; what is no UTF-8 becomes '?' */
void geojson_geometry(FILE *f, OGRGeometryH g, const struct geojson_style *style); /* null: none or empty */

#endif
