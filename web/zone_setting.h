/* SPDX-License-Identifier: Apache-2.0
 *
 * zone_setting.h - what an assessment says about the areas its totals are told for, and about its area of interest: the
 * members "zones" and "aoi" of its settings (store_assessment.inputs). */
#ifndef AM_ZONE_SETTING_H
#define AM_ZONE_SETTING_H

#include "models/base/err.h"
#include <cJSON.h>
#include <ogr_api.h>

struct zone_setting {
    char path[4096];                     /* of the polygon layer */
    char id_field[128], name_field[128]; /* name_field "": none */
};

/* False: the settings name no zones. */
bool zone_setting_read(const cJSON *inputs, struct zone_setting *z);

/* "zones" as a client gives it, {"ref","id_field","name_field"?}, with `path` for its file: checked by opening it. The
 * member for the settings, or NULL with ERR_INPUT. */
cJSON *zone_setting_make(const cJSON *given, const char *path, struct err *e);

/* "aoi" as a client gives it: a GeoJSON geometry, or (path not NULL) a file of polygons, whose union it is. The member
 * for the settings, a GeoJSON geometry in longitude/latitude; NULL with ERR_INPUT. */
cJSON *aoi_setting_make(const cJSON *given, const char *path, struct err *e);
/* The area of the settings (OGR_G_DestroyGeometry); NULL: none. */
OGRGeometryH aoi_setting_read(const cJSON *inputs);

/* Copies the footprints that touch the area into a GeoPackage, layer "footprints", numbers and columns kept. ERR_INPUT when none
 * does. */
bool aoi_cut(const char *footprints, const char *layer, OGRGeometryH aoi, const char *out, struct err *e);

#endif
