/* SPDX-License-Identifier: Apache-2.0
 * collections.c - /collections, one collection, its schema and queryables (OGC API - Common Part 2, Features
 * Parts 1, 3). */
#include "web/crs.h"
#include "web/http.h"
#include "web/routes.h"
#include "web/service.h"
#include "web/tables.h"

#include <stdio.h>
#include <string.h>

/* What all collections say about themselves; the caller adds further links. */
static cJSON *describe(const struct http_request *q, const struct assessment *as, const char *id,
                       const char *name, const char *description, cJSON **links)
{
    cJSON *doc = cJSON_CreateObject();
    char title[300];
    snprintf(title, sizeof title, "%.200s: %s", as->title, name);
    cJSON_AddStringToObject(doc, "id", id);
    cJSON_AddStringToObject(doc, "title", title);
    cJSON_AddStringToObject(doc, "description", description);
    cJSON *spatial = cJSON_AddObjectToObject(cJSON_AddObjectToObject(doc, "extent"), "spatial");
    cJSON_AddItemToArray(cJSON_AddArrayToObject(spatial, "bbox"), cJSON_CreateDoubleArray(as->box, 4));
    cJSON_AddStringToObject(spatial, "crs", CRS_84);
    cJSON_AddStringToObject(doc, "itemType", "feature");
    cJSON_AddItemToObject(doc, "crs", crs_list(as->epsg));
    cJSON_AddStringToObject(doc, "storageCrs", CRS_84);
    *links = cJSON_AddArrayToObject(doc, "links");
    http_link(*links, q, "self", HTTP_JSON, "This document", "/collections/%s", id);
    http_link(*links, q, "items", HTTP_GEOJSON, "Features as GeoJSON", "/collections/%s/items", id);
    http_link(*links, q, "items", HTTP_CSV, "Features as CSV", "/collections/%s/items?f=csv", id);
    http_link(*links, q, "describedby", HTTP_SCHEMA, "Schema", "/collections/%s/schema", id);
    http_link(*links, q, "http://www.opengis.net/def/rel/ogc/1.0/queryables", HTTP_SCHEMA, "Queryables",
              "/collections/%s/queryables", id);
    http_link(*links, q, "related", HTTP_JSON, "The assessment with its layers and files", "/assessments/%s",
              as->id);
    return doc;
}

static cJSON *buildings_collection(const struct http_request *q, const struct assessment *as)
{
    cJSON *links, *doc = describe(q, as, as->collection_id, "buildings",
                                  "Buildings with the damage read from a pair of images.", &links);
    if (as->layer[TILE_DAMAGE].n)
        http_link(links, q, "http://www.opengis.net/def/rel/ogc/1.0/tilesets-map", HTTP_JSON, "Map tiles",
                  "/collections/%s/map/tiles", as->collection_id);
    if (as->kind == ASSESSMENT_MAP)
        http_link(links, q, "enclosure", "application/geopackage+sqlite3", "All buildings as GeoPackage",
                  "/assessments/%s/exports/damage.gpkg", as->id);
    return doc;
}

/* Described without being made: that waits until somebody asks for features. */
static cJSON *table_collection(const struct http_request *q, const struct assessment *as,
                               enum table_kind kind)
{
    cJSON *links;
    char id[400];
    snprintf(id, sizeof id, "%s.%s", as->id, table_names[kind]);
    return describe(q, as, id, table_names[kind], table_titles[kind], &links);
}

void collections_get(const struct service *s, const struct http_request *q, const char *const *arg,
                     struct http_reply *a)
{
    (void)arg;
    cJSON *doc = cJSON_CreateObject();
    http_link(cJSON_AddArrayToObject(doc, "links"), q, "self", HTTP_JSON, "This document", "/collections");
    cJSON *list = cJSON_AddArrayToObject(doc, "collections");
    for (int i = 0; i < s->n; i++) {
        const struct assessment *as = s->assessment[i];
        cJSON_AddItemToArray(list, buildings_collection(q, as));
        for (int k = 0; k < TABLE_KINDS; k++)
            if (tables_has(s, as, (enum table_kind)k))
                cJSON_AddItemToArray(list, table_collection(q, as, (enum table_kind)k));
    }
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_validate(q, a);
}

void collection_get(const struct service *s, const struct http_request *q, const char *const *arg,
                    struct http_reply *a)
{
    enum table_kind kind;
    const struct assessment *of = tables_parse(s, arg[0], &kind);
    const struct assessment *as = of ? of : service_collection(s, q, arg[0], a);
    if (!as)
        return;
    http_reply_json(a, HTTP_JSON, of ? table_collection(q, of, kind) : buildings_collection(q, as));
    http_reply_validate(q, a);
}

static const char *json_type(OGRFieldType type)
{
    switch (type) {
    case OFTInteger:
    case OFTInteger64:
        return "integer";
    case OFTReal:
        return "number";
    default:
        return "string";
    }
}

static bool is_queryable(const char *name)
{
    for (int k = 0; k < EQUAL_COUNT; k++)
        if (strcmp(name, assessment_equal_names[k]) == 0)
            return true;
    return false;
}

static cJSON *schema_document(const struct http_request *q, const struct assessment *as, bool only_queryable)
{
    cJSON *doc = cJSON_CreateObject();
    char id[512];
    snprintf(id, sizeof id, "%s/collections/%s/%s", q->base, as->collection_id,
             only_queryable ? "queryables" : "schema");
    cJSON_AddStringToObject(doc, "$schema", "https://json-schema.org/draft/2020-12/schema");
    cJSON_AddStringToObject(doc, "$id", id);
    cJSON_AddStringToObject(doc, "type", "object");
    cJSON_AddStringToObject(doc, "title", as->title);
    cJSON *properties = cJSON_AddObjectToObject(doc, "properties");
    if (!only_queryable) {
        cJSON *g = cJSON_AddObjectToObject(properties, "geometry");
        cJSON_AddStringToObject(g, "x-ogc-role", "primary-geometry");
        cJSON_AddStringToObject(g, "format", "geometry-any");
    }
    for (int i = 0; i < as->n_fields; i++) {
        const struct assessment_field *field = &as->field[i];
        if (only_queryable && !is_queryable(field->name))
            continue;
        cJSON *p = cJSON_AddObjectToObject(properties, field->name);
        cJSON_AddStringToObject(p, "title", field->name);
        cJSON_AddStringToObject(p, "type", json_type(field->type));
        if (field->type == OFTDateTime)
            cJSON_AddStringToObject(p, "format", "date-time");
        if (field->type == OFTDate)
            cJSON_AddStringToObject(p, "format", "date");
        if (field->n_values && is_queryable(field->name))
            cJSON_AddItemToObject(p, "enum", cJSON_CreateStringArray(field->value, field->n_values));
    }
    cJSON_AddBoolToObject(doc, "additionalProperties", false);
    return doc;
}

static void schema_reply(const struct service *s, const struct http_request *q, const char *id,
                         bool only_queryable, struct http_reply *a)
{
    const struct assessment *as = service_collection(s, q, id, a);
    if (!as)
        return;
    http_reply_json(a, q->type, schema_document(q, as, only_queryable));
    http_reply_validate(q, a);
}

void schema_get(const struct service *s, const struct http_request *q, const char *const *arg,
                struct http_reply *a)
{
    schema_reply(s, q, arg[0], false, a);
}

void queryables_get(const struct service *s, const struct http_request *q, const char *const *arg,
                    struct http_reply *a)
{
    schema_reply(s, q, arg[0], true, a);
}
