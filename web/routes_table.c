/* SPDX-License-Identifier: Apache-2.0
 * routes_table.c - the one list of what the server answers (routes.h): a new operation is a handler and a row. */
#include "web/routes.h"

#include <string.h>

#define PARAM(var, text, about, shape) static const struct route_param var = {text, about, shape}

PARAM(limit_param, "limit", "Features on one page.",
      "{\"type\":\"integer\",\"minimum\":1,\"maximum\":10000,\"default\":1000}");
PARAM(bbox_param, "bbox",
      "minx,miny,maxx,maxy in bbox-crs, degrees without it (or six numbers with heights, which are ignored); "
      "minx "
      "above maxx crosses the 180th meridian.",
      "{\"type\":\"array\",\"items\":{\"type\":\"number\"},\"minItems\":4,\"maxItems\":6}");
PARAM(bbox_crs_param, "bbox-crs", "Coordinate system of bbox, in the order of axes that its URI demands.",
      "{\"type\":\"string\",\"format\":\"uri\"}");
PARAM(crs_param, "crs", "Coordinate system of the answer, in the order of axes that its URI demands.",
      "{\"type\":\"string\",\"format\":\"uri\"}");
PARAM(datetime_param, "datetime",
      "RFC 3339 instant or interval with .. for an open end, compared with `updated`; features without it "
      "always match.",
      "{\"type\":\"string\"}");
PARAM(after_param, "after", "Position to go on from; only ever taken from a next link.",
      "{\"type\":\"string\"}");
PARAM(
    sortby_param, "sortby",
    "Order of the features: a column, with - before it the largest first; ties by number.",
    "{\"type\":\"string\",\"enum\":[\"p_dmg\",\"+p_dmg\",\"-p_dmg\",\"entropy\",\"+entropy\",\"-entropy\"]}");
PARAM(bldg_id_param, "bldg_id", "Only the building with this id.", "{\"type\":\"string\"}");
PARAM(dmg_class_param, "dmg_class", "Only buildings of this damage class.", "{\"type\":\"string\"}");
PARAM(dmg_level_param, "dmg_level", "Only buildings of this damage level (0 to 3, -1 unknown).",
      "{\"type\":\"integer\"}");
PARAM(status_param, "status", "Only buildings with this status.", "{\"type\":\"string\"}");
PARAM(reason_param, "reason", "Only buildings unknown for this reason.", "{\"type\":\"string\"}");
PARAM(zone_id_param, "zone_id", "Only buildings of this zone.", "{\"type\":\"string\"}");
PARAM(lbl_src_param, "lbl_src", "Only buildings whose class comes from here.", "{\"type\":\"string\"}");
PARAM(min_p_param, "min_p", "Only buildings whose p_dmg is at least this.",
      "{\"type\":\"number\",\"minimum\":0,\"maximum\":1}");
PARAM(max_p_param, "max_p", "Only buildings whose p_dmg is at most this.",
      "{\"type\":\"number\",\"minimum\":0,\"maximum\":1}");
PARAM(rev_param, "rev", "Any text; its presence lets the tile be cached for good.", "{\"type\":\"string\"}");

static const struct route_param *const items_params[] = {
    &limit_param,  &bbox_param,   &bbox_crs_param, &crs_param,       &datetime_param,
    &after_param,  &sortby_param, &bldg_id_param,  &dmg_class_param, &dmg_level_param,
    &status_param, &reason_param, &zone_id_param,  &lbl_src_param,   &min_p_param,
    &max_p_param,  NULL};
static const struct route_param *const item_params[] = {&crs_param, NULL};
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
    {"tileMatrix", "Zoom level of the tile matrix set.",
     "{\"type\":\"integer\",\"minimum\":0,\"maximum\":24}"},
    {"tileRow", "Row, from the north.", "{\"type\":\"integer\",\"minimum\":0}"},
    {"tileCol", "Column, from the west.", "{\"type\":\"integer\",\"minimum\":0}"},
};

/* ---- what answers and bodies are
 * ----------------------------------------------------------------------------------- */

static const struct route_types json_types = {{HTTP_JSON}, {"json"}};
static const struct route_types page_types = {{HTTP_JSON, HTTP_HTML}, {"json", "html"}};
static const struct route_types openapi_types = {{HTTP_OPENAPI, HTTP_JSON}, {"openapi", "json"}};
static const struct route_types html_types = {{HTTP_HTML}, {"html"}};
static const struct route_types schema_types = {{HTTP_SCHEMA, HTTP_JSON}, {"schema", "json"}};
static const struct route_types items_types = {{HTTP_GEOJSON, HTTP_JSON, HTTP_CSV},
                                               {"geojson", "json", "csv"}};
static const struct route_types item_types = {{HTTP_GEOJSON, HTTP_JSON}, {"geojson", "json"}};
static const struct route_types png_types = {{"image/png"}, {"png"}};

static const struct route_body session_body = {
    4096,
    {HTTP_JSON},
    "{\"type\":\"object\",\"required\":[\"token\"],\"properties\":{\"token\":{\"type\":\"string\"}}}"};

static const struct route table[] = {
    {"GET", "/", landing_get, "getLandingPage", "Entry point with links; the map page for browsers",
     "service", NULL, &page_types, NULL, AUTH_NOBODY, 0},
    {"GET", "/api", openapi_get, "getApi", "This description as OpenAPI 3.0", "service", NULL, &openapi_types,
     NULL, AUTH_NOBODY, 0},
    {"GET", "/api.html", openapi_html_get, "getApiHtml", "This description to read", "service", NULL,
     &html_types, NULL, AUTH_NOBODY, 0},
    {"GET", "/conformance", conformance_get, "getConformance", "Conformance classes kept", "service", NULL,
     &json_types, NULL, AUTH_NOBODY, 0},
    {"GET", "/healthz", health_get, "getHealth", "Whether the server answers", "service", NULL, &json_types,
     NULL, AUTH_NOBODY, 0},
    {"GET", "/readyz", ready_get, "getReadiness", "Whether every map folder can still be read", "service",
     NULL, &json_types, NULL, AUTH_NOBODY, 0},
    {"GET", "/metrics", metrics_get, "getMetrics", "Counters in Prometheus' text format", "service", NULL,
     NULL, NULL, AUTH_READER, 0},
    {"GET", "/ui/{file}", asset_get, "getPageFile", "Script and style of the map page", "service", NULL, NULL,
     NULL, AUTH_NOBODY, 0},
    {"GET", "/session", session_get, "getSession", "Who asks, and what they may", "service", NULL,
     &json_types, NULL, AUTH_NOBODY, 0},
    {"POST", "/session", session_post, "signIn", "Trade a token for a cookie", "service", NULL, &json_types,
     &session_body, AUTH_NOBODY, 0},
    {"DELETE", "/session", session_delete, "signOut", "Give the cookie back", "service", NULL, NULL, NULL,
     AUTH_NOBODY, 0},
    {"GET", "/collections", collections_get, "getCollections", "All feature collections", "features", NULL,
     &json_types, NULL, AUTH_READER, 0},
    {"GET", "/collections/{collectionId}", collection_get, "getCollection", "One feature collection",
     "features", NULL, &json_types, NULL, AUTH_READER, ROUTE_PER_COLLECTION},
    {"GET", "/collections/{collectionId}/schema", schema_get, "getSchema", "JSON schema of the properties",
     "features", NULL, &schema_types, NULL, AUTH_READER, ROUTE_PER_COLLECTION},
    {"GET", "/collections/{collectionId}/queryables", queryables_get, "getQueryables",
     "Properties that can be filtered", "features", NULL, &schema_types, NULL, AUTH_READER,
     ROUTE_PER_COLLECTION},
    {"GET", "/collections/{collectionId}/items", items_get, "getItems", "Buildings, page by page", "features",
     items_params, &items_types, NULL, AUTH_READER, ROUTE_PER_COLLECTION},
    {"GET", "/collections/{collectionId}/items/{featureId}", item_get, "getItem", "One building", "features",
     item_params, &item_types, NULL, AUTH_READER, ROUTE_PER_COLLECTION},
    {"GET", "/collections/{collectionId}/map/tiles", map_tile_sets_get, "getMapTileSets",
     "Tile sets of the damage layer", "tiles", NULL, &json_types, NULL, AUTH_READER, 0},
    {"GET", "/collections/{collectionId}/map/tiles/WebMercatorQuad", map_tile_set_get, "getMapTileSet",
     "The damage layer's tile set", "tiles", NULL, &json_types, NULL, AUTH_READER, 0},
    {"GET", "/collections/{collectionId}/map/tiles/WebMercatorQuad/{tileMatrix}/{tileRow}/{tileCol}",
     map_tile_get, "getMapTile", "A tile of the damage layer, row before column; 204 where it is empty",
     "tiles", NULL, &png_types, NULL, AUTH_READER, 0},
    {"GET", "/tileMatrixSets", tile_sets_get, "getTileMatrixSets", "Tile matrix sets", "tiles", NULL,
     &json_types, NULL, AUTH_READER, 0},
    {"GET", "/tileMatrixSets/WebMercatorQuad", tile_set_get, "getTileMatrixSet",
     "The Web Mercator pyramid as OGC tile matrix set", "tiles", NULL, &json_types, NULL, AUTH_READER, 0},
    {"GET", "/wmts/WMTSCapabilities.xml", wmts_get, "getWmtsCapabilities", "All picture layers as WMTS 1.0.0",
     "tiles", NULL, NULL, NULL, AUTH_READER, 0},
    {"GET", "/assessments", assessments_get, "getAssessments", "All maps with their layers and files",
     "assessments", NULL, &json_types, NULL, AUTH_READER, 0},
    {"GET", "/assessments/{assessmentId}", assessment_get, "getAssessment",
     "One map with its layers and files", "assessments", NULL, &json_types, NULL, AUTH_READER, 0},
    {"GET", "/assessments/{assessmentId}/exports/{file}", export_get, "getExport",
     "A file of the map, whole or by byte range", "assessments", NULL, NULL, NULL, AUTH_READER, 0},
    {"GET", "/tiles/{assessmentId}/{layer}/tilejson.json", tilejson_get, "getTileJson",
     "TileJSON of a picture layer", "tiles", NULL, &json_types, NULL, AUTH_READER, 0},
    {"GET", "/tiles/{assessmentId}/{layer}/{z}/{x}/{y}.png", tile_get, "getTile",
     "A 256 pixel Web Mercator tile; 204 where the layer is empty", "tiles", tile_params, &png_types, NULL,
     AUTH_READER, 0},
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
