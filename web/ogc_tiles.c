/* SPDX-License-Identifier: Apache-2.0
 * ogc_tiles.c - the same tiles under the names of two standards: OGC API - Tiles Part 1 (20-057), where the row comes
 * before the column, and WMTS 1.0.0 (07-057r7) as a capabilities document over the XYZ addresses, which ArcGIS and QGIS
 * read. The one tile matrix set is WebMercatorQuad of OGC 17-083r4. */
#include "web/http.h"
#include "web/routes.h"
#include "web/service.h"
#include "web/tiles_reply.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TMS_URI "http://www.opengis.net/def/tilematrixset/OGC/1.0/WebMercatorQuad"
#define CRS_URI "http://www.opengis.net/def/crs/EPSG/0/3857"
#define EARTH_HALF_M 20037508.342789244
#define DAMAGE_LAYER "damage"

enum { TILE_SIDE_PX = 256 };
static const double pixel_m = 0.28e-3; /* the standard's pixel, which scale denominators are said in */

static double cell_size(int z)
{
    return 2 * EARTH_HALF_M / TILE_SIDE_PX / ldexp(1.0, z);
}

void tile_sets_get(const struct service *s, const struct http_request *q, const char *const *arg,
                   struct http_reply *a)
{
    (void)s;
    (void)arg;
    cJSON *doc = cJSON_CreateObject(), *set = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(doc, "tileMatrixSets"), set);
    cJSON_AddStringToObject(set, "id", "WebMercatorQuad");
    cJSON_AddStringToObject(set, "uri", TMS_URI);
    cJSON_AddStringToObject(set, "crs", CRS_URI);
    http_link(cJSON_AddArrayToObject(set, "links"), q, "self", HTTP_JSON, "WebMercatorQuad",
              "/tileMatrixSets/WebMercatorQuad");
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_validate(q, a);
}

void tile_set_get(const struct service *s, const struct http_request *q, const char *const *arg,
                  struct http_reply *a)
{
    const double corner[2] = {-EARTH_HALF_M, EARTH_HALF_M};
    (void)s;
    (void)arg;
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "id", "WebMercatorQuad");
    cJSON_AddStringToObject(doc, "title", "Web Mercator");
    cJSON_AddStringToObject(doc, "uri", TMS_URI);
    cJSON_AddStringToObject(doc, "crs", CRS_URI);
    cJSON_AddItemToObject(doc, "orderedAxes", cJSON_CreateStringArray((const char *const[]){"X", "Y"}, 2));
    cJSON_AddStringToObject(doc, "wellKnownScaleSet",
                            "http://www.opengis.net/def/wkss/OGC/1.0/GoogleMapsCompatible");
    cJSON *list = cJSON_AddArrayToObject(doc, "tileMatrices");
    for (int z = 0; z <= TILES_MAX_ZOOM; z++) {
        char id[8];
        cJSON *m = cJSON_CreateObject();
        snprintf(id, sizeof id, "%d", z);
        cJSON_AddStringToObject(m, "id", id);
        cJSON_AddNumberToObject(m, "scaleDenominator", cell_size(z) / pixel_m);
        cJSON_AddNumberToObject(m, "cellSize", cell_size(z));
        cJSON_AddStringToObject(m, "cornerOfOrigin", "topLeft");
        cJSON_AddItemToObject(m, "pointOfOrigin", cJSON_CreateDoubleArray(corner, 2));
        cJSON_AddNumberToObject(m, "tileWidth", TILE_SIDE_PX);
        cJSON_AddNumberToObject(m, "tileHeight", TILE_SIDE_PX);
        cJSON_AddNumberToObject(m, "matrixWidth", ldexp(1.0, z));
        cJSON_AddNumberToObject(m, "matrixHeight", ldexp(1.0, z));
        cJSON_AddItemToArray(list, m);
    }
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_validate(q, a);
}

/* ---- tile sets of a collection
 * ----------------------------------------------------------------------------------------- */

static cJSON *tile_set_document(const struct http_request *q, const struct assessment *as)
{
    char url[1024];
    const struct tile_layer *layer = &as->layer[TILE_DAMAGE];
    const char *id = as->collection_id;
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "title", as->title);
    cJSON_AddStringToObject(doc, "dataType", "map");
    cJSON_AddStringToObject(doc, "crs", CRS_URI);
    cJSON_AddStringToObject(doc, "tileMatrixSetURI", TMS_URI);
    cJSON *box = cJSON_AddObjectToObject(doc, "boundingBox");
    cJSON_AddItemToObject(box, "lowerLeft", cJSON_CreateDoubleArray(layer->bounds, 2));
    cJSON_AddItemToObject(box, "upperRight", cJSON_CreateDoubleArray(layer->bounds + 2, 2));
    cJSON *links = cJSON_AddArrayToObject(doc, "links");
    http_link(links, q, "self", HTTP_JSON, "This tile set", "/collections/%s/map/tiles/WebMercatorQuad", id);
    http_link(links, q, "http://www.opengis.net/def/rel/ogc/1.0/tiling-scheme", HTTP_JSON, "Tile matrix set",
              "/tileMatrixSets/WebMercatorQuad");
    snprintf(url, sizeof url, "%s/collections/%s/map/tiles/WebMercatorQuad/{tileMatrix}/{tileRow}/{tileCol}",
             q->base, id);
    cJSON *item = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "rel", "item");
    cJSON_AddStringToObject(item, "type", "image/png");
    cJSON_AddStringToObject(item, "title", "Tiles");
    cJSON_AddStringToObject(item, "href", url);
    cJSON_AddBoolToObject(item, "templated", true);
    cJSON_AddItemToArray(links, item);
    return doc;
}

static const struct assessment *find_map(const struct service *s, const struct http_request *q,
                                         const char *id, struct http_reply *a)
{
    const struct assessment *as = service_collection(s, q, id, a);
    if (!as || as->layer[TILE_DAMAGE].n)
        return as;
    http_problem(q, a, 404, NULL, "the damage layer of %s cannot be shown: %s", as->id,
                 as->layer[TILE_DAMAGE].why);
    return NULL;
}

void map_tile_sets_get(const struct service *s, const struct http_request *q, const char *const *arg,
                       struct http_reply *a)
{
    const struct assessment *as = find_map(s, q, arg[0], a);
    if (!as)
        return;
    cJSON *doc = cJSON_CreateObject();
    http_link(cJSON_AddArrayToObject(doc, "links"), q, "self", HTTP_JSON, "This document",
              "/collections/%s/map/tiles", as->collection_id);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(doc, "tilesets"), tile_set_document(q, as));
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_validate(q, a);
}

void map_tile_set_get(const struct service *s, const struct http_request *q, const char *const *arg,
                      struct http_reply *a)
{
    const struct assessment *as = find_map(s, q, arg[0], a);
    if (!as)
        return;
    http_reply_json(a, HTTP_JSON, tile_set_document(q, as));
    http_reply_validate(q, a);
}

void map_tile_get(const struct service *s, const struct http_request *q, const char *const *arg,
                  struct http_reply *a)
{
    const struct assessment *as = service_collection(s, q, arg[0], a);
    if (as)
        tiles_reply(s, q, as, DAMAGE_LAYER, arg[1], arg[3], arg[2], a);
}

/* ---- WMTS
 * ------------------------------------------------------------------------------------------------------------ */

static void write_escaped(FILE *f, const char *s)
{
    for (; *s; s++) {
        if (*s == '<')
            fputs("&lt;", f);
        else if (*s == '&')
            fputs("&amp;", f);
        else if (*s == '>')
            fputs("&gt;", f);
        else
            fputc(*s, f);
    }
}

static void write_layer(FILE *f, const struct http_request *q, const struct assessment *as, int i)
{
    const struct tile_layer *layer = &as->layer[i];
    const char *name = tile_layer_names[i];
    fputs("<Layer><ows:Title>", f);
    write_escaped(f, as->title);
    fprintf(
        f,
        ": %s</ows:Title><ows:WGS84BoundingBox><ows:LowerCorner>%.7f %.7f</ows:LowerCorner>"
        "<ows:UpperCorner>%.7f "
        "%.7f</ows:UpperCorner></ows:WGS84BoundingBox><ows:Identifier>%s.%s</ows:Identifier>"
        "<Style isDefault=\"true\"><ows:Identifier>default</ows:Identifier></Style><Format>image/png</Format>"
        "<TileMatrixSetLink><TileMatrixSet>WebMercatorQuad</TileMatrixSet></TileMatrixSetLink>"
        "<ResourceURL format=\"image/png\" resourceType=\"tile\" template=\"",
        name, layer->bounds[0], layer->bounds[1], layer->bounds[2], layer->bounds[3], as->id, name);
    write_escaped(f, q->base);
    fprintf(f, "/tiles/%s/%s/{TileMatrix}/{TileCol}/{TileRow}.png\"/></Layer>\n", as->id, name);
}

static void write_capabilities(FILE *f, const struct service *s, const struct http_request *q)
{
    fputs(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Capabilities xmlns=\"http://www.opengis.net/wmts/1.0\" "
        "xmlns:ows=\"http://www.opengis.net/ows/1.1\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" "
        "version=\"1.0.0\">\n"
        "<ows:ServiceIdentification><ows:Title>aftermap</ows:Title><ows:ServiceType>OGC "
        "WMTS</ows:ServiceType>"
        "<ows:ServiceTypeVersion>1.0.0</ows:ServiceTypeVersion></ows:ServiceIdentification>\n<Contents>\n",
        f);
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < TILE_LAYERS; k++)
            if (tile_layer_is_there(&s->assessment[i]->layer[k]))
                write_layer(f, q, s->assessment[i], k);
    fputs("<TileMatrixSet><ows:Identifier>WebMercatorQuad</ows:Identifier>"
          "<ows:SupportedCRS>urn:ogc:def:crs:EPSG::3857</ows:SupportedCRS>"
          "<WellKnownScaleSet>urn:ogc:def:wkss:OGC:1.0:GoogleMapsCompatible</WellKnownScaleSet>\n",
          f);
    for (int z = 0; z <= TILES_MAX_ZOOM; z++)
        fprintf(f,
                "<TileMatrix><ows:Identifier>%d</ows:Identifier><ScaleDenominator>%.10f</ScaleDenominator>"
                "<TopLeftCorner>%.6f %.6f</TopLeftCorner><TileWidth>%d</TileWidth><TileHeight>%d</TileHeight>"
                "<MatrixWidth>%ld</MatrixWidth><MatrixHeight>%ld</MatrixHeight></TileMatrix>\n",
                z, cell_size(z) / pixel_m, -EARTH_HALF_M, EARTH_HALF_M, TILE_SIDE_PX, TILE_SIDE_PX, 1L << z,
                1L << z);
    fputs("</TileMatrixSet>\n</Contents>\n<ServiceMetadataURL xlink:href=\"", f);
    write_escaped(f, q->base);
    fputs("/wmts/WMTSCapabilities.xml\"/>\n</Capabilities>\n", f);
}

void wmts_get(const struct service *s, const struct http_request *q, const char *const *arg,
              struct http_reply *a)
{
    char *body = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&body, &size);
    (void)arg;
    if (f) {
        write_capabilities(f, s, q);
        bool is_short = ferror(f) != 0;
        if (fclose(f) != 0 || is_short) {
            free(body);
            body = NULL;
        }
    }
    http_reply_body(a, 200, "application/xml", body, size);
    http_reply_validate(q, a);
}
