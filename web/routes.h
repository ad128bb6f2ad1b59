/* SPDX-License-Identifier: Apache-2.0
 *
 * routes.h - the one list of what the server answers. Dispatch, 405 with Allow, the check for unknown
 * parameters, the OpenAPI document and its readable twin all derive from it: a new operation is one handler
 * and one row. */
#ifndef AM_ROUTES_H
#define AM_ROUTES_H

#include "web/http.h"

struct service;

enum { ROUTE_MAX_ARGS = 5, ROUTE_MAX_PARAMS = 16, ROUTE_MAX_TYPES = 3 };

/* A query parameter: its JSON schema is text, so that the table stays a table. */
struct route_param {
    const char *name, *summary, *schema;
};

struct route {
    const char *method;  /* GET stands for HEAD too */
    const char *pattern; /* "/tiles/{assessmentId}/{layer}/{z}/{x}/{y}.png" */
    /* Fills the reply; arg[] are the decoded pattern variables in order. */
    void (*handler)(const struct service *s, const struct http_request *q, const char *const *arg,
                    struct http_reply *a);
    const char *id, *summary, *tag;
    const struct route_param *const *params; /* NULL-ended list, or NULL */
    const char
        *types[ROUTE_MAX_TYPES]; /* media types of a 200; more than one: negotiated with f= or Accept */
    const char *formats[ROUTE_MAX_TYPES]; /* their names in f= */
    bool is_per_collection; /* the OpenAPI document repeats it for each collection's own path: GDAL looks only
                               there */
};

const struct route *routes_table(int *n);

/* Finds the row for the request. NULL when the reply is already complete: 404, 405 or 400 for an unknown
 * parameter. */
const struct route *routes_match(const char *method, struct http_request *q, const char *arg[ROUTE_MAX_ARGS],
                                 struct http_reply *a);

/* Sets the request's media type from what the row offers; false when the reply is already complete (400,
 * 406). */
bool routes_negotiate(const struct route *r, struct http_request *q, struct http_reply *a);

/* What a pattern variable means: summary and JSON schema. */
const struct route_param *routes_variable(const char *name);

/* Handlers, by file. */
typedef void route_handler(const struct service *s, const struct http_request *q, const char *const *arg,
                           struct http_reply *a);
route_handler landing_get, conformance_get, health_get, ready_get, asset_get; /* landing.c */
route_handler openapi_get, openapi_html_get;                                  /* openapi.c */
route_handler collections_get, collection_get, schema_get, queryables_get;    /* collections.c */
route_handler items_get, item_get;                                            /* features.c */
route_handler assessments_get, assessment_get, export_get;                    /* exports.c */
route_handler tile_get, tilejson_get;                                         /* tiles.c */

#endif
