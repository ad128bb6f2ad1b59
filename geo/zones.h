/* SPDX-License-Identifier: Apache-2.0
 *
 * zones.h - areas to add buildings up by: any polygon layer OGR reads whose features carry an id (an
 * administrative P-code, a district's name, a work cell). Features with the same id are one zone. A building
 * belongs to the zone that holds its representative point (a point inside the footprint, so that one that
 * straddles a border is counted once). */
#ifndef AM_ZONES_H
#define AM_ZONES_H

#include "models/base/err.h"
#include <ogr_api.h>
#include <stddef.h>

struct zones;

/* layer NULL: the first one with polygons. name_field NULL: no names. ERR_INPUT names the file and the mend: no
 * such field (lists those there are), no id on a feature, no coordinate system, no polygon. */
struct zones *zones_open(const char *path, const char *layer, const char *id_field, const char *name_field,
                         struct err *e);
void zones_close(struct zones *z); /* accepts NULL */
int zones_count(const struct zones *z);
const char *zones_id(const struct zones *z, int i);   /* in the order of the layer */
const char *zones_name(const struct zones *z, int i); /* "" without one */

/* The zone at a point in longitude / latitude, -1 outside all. Where zones overlap the first of the layer. Not
 * thread-safe on one handle. */
int zones_at(struct zones *z, double lon, double lat);

/* A point inside a footprint (longitude / latitude); false when GEOS finds none. */
bool zones_point_of(OGRGeometryH footprint, double *lon, double *lat);

#endif
