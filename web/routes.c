/* SPDX-License-Identifier: Apache-2.0
 * routes.c - the route table and the matching of requests against it (routes.h). */
#include "web/routes.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define PARAM(var, text, about, shape) static const struct route_param var = {text, about, shape}

PARAM(format_param, "f", "Media type by name, instead of the Accept header.", "{\"type\":\"string\"}");
PARAM(limit_param, "limit", "Features on one page.",
      "{\"type\":\"integer\",\"minimum\":1,\"maximum\":10000,\"default\":1000}");
PARAM(bbox_param, "bbox",
      "minx,miny,maxx,maxy in degrees (or six numbers with heights, which are ignored); minx above maxx "
      "crosses the "
      "180th meridian.",
      "{\"type\":\"array\",\"items\":{\"type\":\"number\"},\"minItems\":4,\"maxItems\":6}");
PARAM(datetime_param, "datetime",
      "RFC 3339 instant or interval with .. for an open end, compared with `updated`; features without it "
      "always match.",
      "{\"type\":\"string\"}");
PARAM(after_param, "after", "Position to go on from; only ever taken from a next link.",
      "{\"type\":\"string\"}");
PARAM(bldg_id_param, "bldg_id", "Only the building with this id.", "{\"type\":\"string\"}");
PARAM(dmg_class_param, "dmg_class", "Only buildings of this damage class.", "{\"type\":\"string\"}");
PARAM(dmg_level_param, "dmg_level", "Only buildings of this damage level (0 to 3, -1 unknown).",
      "{\"type\":\"integer\"}");
PARAM(status_param, "status", "Only buildings with this status.", "{\"type\":\"string\"}");
PARAM(reason_param, "reason", "Only buildings unknown for this reason.", "{\"type\":\"string\"}");
PARAM(min_p_param, "min_p", "Only buildings whose p_dmg is at least this.",
      "{\"type\":\"number\",\"minimum\":0,\"maximum\":1}");
PARAM(max_p_param, "max_p", "Only buildings whose p_dmg is at most this.",
      "{\"type\":\"number\",\"minimum\":0,\"maximum\":1}");
PARAM(rev_param, "rev", "Any text; its presence lets the tile be cached for good.", "{\"type\":\"string\"}");

static const struct route_param *const items_params[] = {
    &limit_param,     &bbox_param,   &datetime_param, &after_param, &bldg_id_param, &dmg_class_param,
    &dmg_level_param, &status_param, &reason_param,   &min_p_param, &max_p_param,   NULL};
static const struct route_param *const tile_params[] = {&rev_param, NULL};

static const struct route_param variables[] = {
    {"collectionId", "Id of a collection, from /collections.", "{\"type\":\"string\"}"},
    {"featureId", "Number of a feature.", "{\"type\":\"integer\",\"minimum\":0}"},
    {"assessmentId", "Id of an assessment, from /assessments.", "{\"type\":\"string\"}"},
    {"file", "Name of a file.", "{\"type\":\"string\"}"},
    {"layer", "Picture layer.", "{\"type\":\"string\",\"enum\":[\"pre\",\"post\",\"damage\"]}"},
    {"z", "Zoom level of the Web Mercator pyramid.", "{\"type\":\"integer\",\"minimum\":0,\"maximum\":24}"},
    {"x", "Column, from the west.", "{\"type\":\"integer\",\"minimum\":0}"},
    {"y", "Row, from the north.", "{\"type\":\"integer\",\"minimum\":0}"},
};

#define JSON_ONLY                                                                                            \
    {HTTP_JSON},                                                                                             \
    {                                                                                                        \
        "json"                                                                                               \
    }
#define FEATURES                                                                                             \
    {HTTP_GEOJSON, HTTP_JSON},                                                                               \
    {                                                                                                        \
        "geojson", "json"                                                                                    \
    }

static const struct route table[] = {
    {"GET",
     "/",
     landing_get,
     "getLandingPage",
     "Entry point with links; the map page for browsers",
     "service",
     NULL,
     {HTTP_JSON, HTTP_HTML},
     {"json", "html"},
     false},
    {"GET",
     "/api",
     openapi_get,
     "getApi",
     "This description as OpenAPI 3.0",
     "service",
     NULL,
     {HTTP_OPENAPI, HTTP_JSON},
     {"openapi", "json"},
     false},
    {"GET",
     "/api.html",
     openapi_html_get,
     "getApiHtml",
     "This description to read",
     "service",
     NULL,
     {HTTP_HTML},
     {"html"},
     false},
    {"GET", "/conformance", conformance_get, "getConformance", "Conformance classes kept", "service", NULL,
     JSON_ONLY, false},
    {"GET", "/healthz", health_get, "getHealth", "Whether the server answers", "service", NULL, JSON_ONLY,
     false},
    {"GET", "/readyz", ready_get, "getReadiness", "Whether every map folder can still be read", "service",
     NULL, JSON_ONLY, false},
    {"GET",
     "/ui/{file}",
     asset_get,
     "getPageFile",
     "Script and style of the map page",
     "service",
     NULL,
     {NULL},
     {NULL},
     false},
    {"GET", "/collections", collections_get, "getCollections", "All feature collections", "features", NULL,
     JSON_ONLY, false},
    {"GET", "/collections/{collectionId}", collection_get, "getCollection", "One feature collection",
     "features", NULL, JSON_ONLY, true},
    {"GET",
     "/collections/{collectionId}/schema",
     schema_get,
     "getSchema",
     "JSON schema of the properties",
     "features",
     NULL,
     {HTTP_SCHEMA, HTTP_JSON},
     {"schema", "json"},
     true},
    {"GET",
     "/collections/{collectionId}/queryables",
     queryables_get,
     "getQueryables",
     "Properties that can be filtered",
     "features",
     NULL,
     {HTTP_SCHEMA, HTTP_JSON},
     {"schema", "json"},
     true},
    {"GET", "/collections/{collectionId}/items", items_get, "getItems", "Buildings, page by page", "features",
     items_params, FEATURES, true},
    {"GET", "/collections/{collectionId}/items/{featureId}", item_get, "getItem", "One building", "features",
     NULL, FEATURES, true},
    {"GET", "/assessments", assessments_get, "getAssessments", "All maps with their layers and files",
     "assessments", NULL, JSON_ONLY, false},
    {"GET", "/assessments/{assessmentId}", assessment_get, "getAssessment",
     "One map with its layers and files", "assessments", NULL, JSON_ONLY, false},
    {"GET",
     "/assessments/{assessmentId}/exports/{file}",
     export_get,
     "getExport",
     "A file of the map, whole or by byte range",
     "assessments",
     NULL,
     {NULL},
     {NULL},
     false},
    {"GET", "/tiles/{assessmentId}/{layer}/tilejson.json", tilejson_get, "getTileJson",
     "TileJSON of a picture layer", "tiles", NULL, JSON_ONLY, false},
    {"GET",
     "/tiles/{assessmentId}/{layer}/{z}/{x}/{y}.png",
     tile_get,
     "getTile",
     "A 256 pixel Web Mercator tile; 204 where the layer is empty",
     "tiles",
     tile_params,
     {"image/png"},
     {"png"},
     false},
};

const struct route *routes_table(int *n)
{
    *n = (int)(sizeof table / sizeof *table);
    return table;
}

const struct route_param *routes_variable(const char *name)
{
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        if (strcmp(variables[i].name, name) == 0)
            return &variables[i];
    return NULL;
}

/* Compares one pattern segment ("items", "{z}", "{y}.png") with a decoded path segment; for a variable, sets
 * the length of the part it stands for. */
static bool segment_fits(const char *pattern, size_t n, const char *part, size_t *captured)
{
    size_t part_size = strlen(part);
    *captured = 0;
    if (*pattern != '{')
        return part_size == n && memcmp(pattern, part, n) == 0;
    const char *end = memchr(pattern, '}', n);
    assert(end);
    size_t suffix = n - (size_t)(end + 1 - pattern);
    if (part_size <= suffix || memcmp(part + part_size - suffix, end + 1, suffix) != 0)
        return false;
    *captured = part_size - suffix;
    return true;
}

static bool pattern_fits(const char *pattern, const struct http_request *q, size_t captured[HTTP_MAX_PARTS])
{
    int i = 0;
    for (const char *p = pattern + 1; *p; i++) {
        size_t n = strcspn(p, "/");
        if (i == q->n_parts || !segment_fits(p, n, q->part[i], &captured[i]))
            return false;
        p += n + (p[n] == '/');
    }
    return i == q->n_parts;
}

static bool knows_param(const struct route *r, const char *name)
{
    if (r->types[0] && strcmp(name, format_param.name) == 0)
        return true;
    for (int i = 0; r->params && r->params[i]; i++)
        if (strcmp(r->params[i]->name, name) == 0)
            return true;
    return false;
}

const struct route *routes_match(const char *method, struct http_request *q, const char *arg[ROUTE_MAX_ARGS],
                                 struct http_reply *a)
{
    size_t captured[HTTP_MAX_PARTS];
    const struct route *found = NULL;
    char allow[64] = "";
    for (size_t i = 0; i < sizeof table / sizeof *table && !found; i++) {
        if (!pattern_fits(table[i].pattern, q, captured))
            continue;
        if (strcmp(method, table[i].method) == 0)
            found = &table[i];
        size_t used = strlen(allow);
        snprintf(allow + used, sizeof allow - used, "%s%s%s", used ? ", " : "", table[i].method,
                 strcmp(table[i].method, "GET") == 0 ? ", HEAD" : "");
    }
    if (!found && *allow) {
        http_problem(q, a, 405, NULL, "this resource answers only to %s", allow);
        http_reply_header(a, "Allow", "%s", allow);
        return NULL;
    }
    if (!found) {
        http_problem(q, a, 404, NULL, "nothing is here; /api lists what is");
        return NULL;
    }
    for (int i = 0; i < q->n_params; i++) {
        if (!knows_param(found, q->param[i].name)) {
            http_problem(q, a, 400, q->param[i].name,
                         "'%.60s' is not a parameter of this resource; /api lists them", q->param[i].name);
            return NULL;
        }
    }
    for (int i = 0, n = 0; i < q->n_parts; i++) {
        if (captured[i]) {
            assert(n < ROUTE_MAX_ARGS);
            q->part[i][captured[i]] = '\0';
            arg[n++] = q->part[i];
        }
    }
    return found;
}

bool routes_negotiate(const struct route *r, struct http_request *q, struct http_reply *a)
{
    int n = 0;
    while (n < ROUTE_MAX_TYPES && r->types[n])
        n++;
    int best = n ? http_negotiate(q, r->types, r->formats, n, a) : -1;
    q->type = best < 0 ? NULL : r->types[best];
    return n == 0 || best >= 0;
}
