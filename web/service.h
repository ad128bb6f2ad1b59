/* SPDX-License-Identifier: Apache-2.0
 *
 * service.h - what handlers may see of the running server: the maps, the tile store, and the workflow where there
 * is one.
 *
 * Maps are immutable; the list of them is replaced under maps_lock, whose reading side a request holds while its
 * handler runs, except on routes of the workflow, which take it themselves. Tile store, telemetry and workflow look
 * after their own threads. */
#ifndef AM_SERVICE_H
#define AM_SERVICE_H

#include "web/assessment.h"
#include "web/http.h"
#include "web/telemetry.h"
#include <pthread.h>

struct tile_store; /* rendered tiles and open rasters (tiles.c) */
struct workflow;   /* store, jobs and uploads under a data root */
struct watch;
struct tables; /* the smaller collections (tables.c) */

struct service {
    struct assessment **assessment; /* [n], guarded by maps_lock */
    int n;
    pthread_rwlock_t maps_lock;
    struct tile_store *tiles;
    struct tables *tables;
    struct workflow *workflow; /* NULL: maps are only shown */
    const struct auth *auth;   /* NULL: no tokens */
    struct watch *watch;
    bool is_tls;
    struct telemetry telemetry;
};

struct tile_store *tile_store_create(struct err *e);
void tile_store_free(struct tile_store *t);
void tile_store_forget(struct tile_store *t, const struct assessment *as); /* before it is closed */

/* Shows an assessment, in place of one with the same id (which is closed); it becomes the service's. */
bool service_show(struct service *s, struct assessment *as, struct err *e);
void service_hide(struct service *s, const char *id); /* closes it, if it is shown */

/* NULL when there is none; the reply is a 404 then. */
const struct assessment *service_assessment(const struct service *s, const struct http_request *q,
                                            const char *id, struct http_reply *a);
/* Also a smaller collection (tables.h), which is then borrowed for the request. */
const struct assessment *service_collection(const struct service *s, const struct http_request *q,
                                            const char *id, struct http_reply *a);

#endif
