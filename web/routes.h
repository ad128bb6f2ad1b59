/* SPDX-License-Identifier: Apache-2.0
 *
 * routes.h - the one list of what the server answers. Dispatch, 405 with Allow, the check for unknown
 * parameters, the OpenAPI document and its readable twin all derive from it: a new operation is one handler
 * and one row. */
#ifndef AM_ROUTES_H
#define AM_ROUTES_H

#include "web/http.h"

struct service;

enum {
    ROUTE_MAX_ARGS = 5,
    ROUTE_MAX_TYPES = 4,
    ROUTE_NO_BODY_BYTES = 64 << 10 /* read past, to keep the connection */
};

enum route_flag {
    ROUTE_PER_COLLECTION =
        1,              /* the OpenAPI document repeats it for each collection's own path: GDAL looks there */
    ROUTE_WORKFLOW = 2, /* needs a data root */
    ROUTE_STREAM = 4    /* answers with events */
};

/* A query parameter: its JSON schema is text, so that the table stays a table. */
struct route_param {
    const char *name, *summary, *schema;
};

/* Media types of a 200, and their names in f=; more than one: negotiated with f= or Accept. None: the handler's. */
struct route_types {
    const char *type[ROUTE_MAX_TYPES], *format[ROUTE_MAX_TYPES];
};

struct route_body {
    size_t max_bytes; /* more: 413 */
    const char *type[ROUTE_MAX_TYPES];
    const char *schema; /* of the first type */
};

typedef void route_handler(const struct service *s, const struct http_request *q, const char *const *arg,
                           struct http_reply *a);

struct route {
    const char *method;     /* GET stands for HEAD too */
    const char *pattern;    /* "/tiles/{assessmentId}/{layer}/{z}/{x}/{y}.png" */
    route_handler *handler; /* fills the reply; arg[] are the decoded pattern variables in order */
    const char *id, *summary, *tag;
    const struct route_param *const *params; /* NULL-ended list, or NULL */
    const struct route_types *types;         /* NULL: the handler's own, and no f= */
    const struct route_body *body;           /* NULL: takes none */
    enum auth_role role;                     /* the least that may */
    unsigned flags;                          /* enum route_flag */
};

const struct route *routes_table(int *n); /* routes_table.c */

/* Finds the row for the request. NULL when the reply is already complete: 404 or 405 with Allow. Rows of the workflow
 * fit only where there is one. */
const struct route *routes_match(const char *method, struct http_request *q, bool has_workflow,
                                 const char *arg[ROUTE_MAX_ARGS], struct http_reply *a);

/* False when the reply is a 400 for a parameter that the row does not know. */
bool routes_check_params(const struct route *r, const struct http_request *q, struct http_reply *a);

/* Sets the request's media type from what the row offers; false when the reply is already complete (400,
 * 406). */
bool routes_negotiate(const struct route *r, struct http_request *q, struct http_reply *a);

/* What a pattern variable means: summary and JSON schema. */
const struct route_param *routes_variable(const char *name);

/* Handlers, by file. */
route_handler landing_get, conformance_get, health_get, ready_get, metrics_get, asset_get; /* landing.c */
route_handler session_get, session_post, session_delete;                                   /* session.c */
route_handler openapi_get, openapi_html_get;                                               /* openapi.c */
route_handler collections_get, collection_get, schema_get, queryables_get;                 /* collections.c */
route_handler items_get, item_get;                                                         /* features.c */
route_handler assessments_get, assessment_get, export_get;                                 /* exports.c */
route_handler tile_get, tilejson_get;                                                      /* tiles.c */
route_handler tile_sets_get, tile_set_get, map_tile_sets_get, map_tile_set_get, map_tile_get,
    wmts_get;                                                                    /* ogc_tiles.c */
route_handler assessments_post, assessment_patch, assessment_delete;             /* assess_routes.c */
route_handler files_get, file_info_get, thumbnail_get;                           /* files.c */
route_handler uploads_get, upload_post, upload_get, upload_patch, upload_delete; /* uploads.c */
route_handler checks_get;                                                        /* checks.c */
route_handler building_get, chip_get;                                            /* buildings.c */
route_handler review_get;                                                        /* review.c */
route_handler queue_get;                                                         /* queue.c */
route_handler labels_get, labels_post, labels_history_get, label_get, label_put, label_delete; /* labels.c */
route_handler learning_get;                             /* learning.c */
route_handler models_get, model_get, model_weights_get; /* model_files.c */
route_handler estimate_get, report_get;                 /* report_routes.c */
route_handler processes_get, process_get, execution_post, jobs_route_get, jobs_events_get, job_get,
    job_delete, job_results_get, job_events_get; /* process_routes.c */

#endif
