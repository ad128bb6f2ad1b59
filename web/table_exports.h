/* SPDX-License-Identifier: Apache-2.0
 * table_exports.h - the smaller collections (tables.h) as files: labels.gpkg, zones.geojson, scenes.csv and so on. */
#ifndef AM_TABLE_EXPORTS_H
#define AM_TABLE_EXPORTS_H

#include "web/service.h"

/* True when the name is one of these files; the reply is then complete. The caller holds the reading side of the maps'
 * lock. */
bool table_exports_reply(const struct service *s, const struct http_request *q, const struct assessment *as,
                         const char *name, struct http_reply *a);
/* Links to those there are, added to an array. */
void table_exports_link(const struct service *s, const struct http_request *q, const struct assessment *as,
                        cJSON *links);

#endif
