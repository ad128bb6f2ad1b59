/* SPDX-License-Identifier: Apache-2.0
 *
 * service.h - what handlers may see of the running server: the maps and the tile store. Immutable while it
 * serves, except for the tile store, which locks itself. */
#ifndef AM_SERVICE_H
#define AM_SERVICE_H

#include "web/assessment.h"
#include "web/http.h"

struct tile_store; /* rendered tiles and open rasters (tiles.c) */

struct service {
    struct assessment **assessment; /* [n] */
    int n;
    struct tile_store *tiles;
};

struct tile_store *tile_store_create(struct err *e);
void tile_store_free(struct tile_store *t);

/* NULL when there is none; the reply is a 404 then. */
const struct assessment *service_assessment(const struct service *s, const struct http_request *q,
                                            const char *id, struct http_reply *a);
const struct assessment *service_collection(const struct service *s, const struct http_request *q,
                                            const char *id, struct http_reply *a);

#endif
