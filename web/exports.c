/* SPDX-License-Identifier: Apache-2.0
 * exports.c - /assessments: what a map offers, and its files by byte range (RFC 9110, 14). The names are a
 * fixed list, so no request ever becomes part of a path. */
#include "web/exports.h"

#include "web/assess_routes.h"
#include "web/http.h"
#include "web/routes.h"
#include "web/table_exports.h"

#include "models/base/file.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name, *type, *title;
} exports[] = {
    {"damage.tif", "image/tiff; application=geotiff; profile=cloud-optimized", "Damage classes as GeoTIFF"},
    {"prob.tif", "image/tiff; application=geotiff; profile=cloud-optimized", "Probabilities as GeoTIFF"},
    {"damage.gpkg", "application/geopackage+sqlite3", "Buildings as GeoPackage"},
    {"damage.geojson", "application/geo+json", "Buildings as GeoJSON"},
    {"damage.csv", "text/csv; charset=utf-8", "Buildings as CSV"},
    {"run.json", "application/json", "How the map was made"},
};
enum { N_EXPORTS = sizeof exports / sizeof *exports };

void exports_describe(cJSON *doc, const struct service *s, const struct http_request *q,
                      const struct assessment *as, const char *id)
{
    char path[4096];
    cJSON *links = cJSON_AddArrayToObject(doc, "links"), *layers = cJSON_AddArrayToObject(doc, "layers");
    http_link(links, q, "self", HTTP_JSON, "This document", "/assessments/%s", id);
    if (!as) {
        cJSON_AddNullToObject(doc, "collection");
        cJSON_AddNumberToObject(doc, "buildings", 0);
        cJSON_AddNullToObject(doc, "bbox");
        cJSON_AddNullToObject(doc, "revision");
        return;
    }
    cJSON_AddStringToObject(doc, "collection", as->collection_id);
    cJSON_AddNumberToObject(doc, "buildings", (double)as->n);
    cJSON_AddItemToObject(doc, "bbox", cJSON_CreateDoubleArray(as->box, 4));
    cJSON_AddStringToObject(doc, "revision", as->revision);
    if (*as->version)
        cJSON_AddStringToObject(doc, "version", as->version);
    for (int i = 0; i < TILE_LAYERS; i++) {
        const struct tile_layer *l = &as->layer[i];
        cJSON *layer = cJSON_CreateObject();
        cJSON_AddStringToObject(layer, "id", tile_layer_names[i]);
        cJSON_AddBoolToObject(layer, "available", tile_layer_is_there(l));
        if (!tile_layer_is_there(l))
            cJSON_AddStringToObject(layer, "reason", l->why);
        if (*l->date)
            cJSON_AddStringToObject(layer, "date", l->date);
        cJSON_AddItemToArray(layers, layer);
    }
    http_link(links, q, "collection", HTTP_JSON, "The buildings", "/collections/%s", as->collection_id);
    for (int i = 0; i < TILE_LAYERS; i++)
        if (tile_layer_is_there(&as->layer[i]))
            http_link(links, q, "tilejson", HTTP_JSON, tile_layer_names[i], "/tiles/%s/%s/tilejson.json",
                      as->id, tile_layer_names[i]);
    for (int i = 0; i < N_EXPORTS && as->kind == ASSESSMENT_MAP; i++)
        if (file_join(path, sizeof path, as->dir, exports[i].name, NULL) && file_exists(path))
            http_link(links, q, "enclosure", exports[i].type, exports[i].title, "/assessments/%s/exports/%s",
                      as->id, exports[i].name);
    table_exports_link(s, q, as, links);
}

static cJSON *assessment_document(const struct service *s, const struct http_request *q,
                                  const struct assessment *as)
{
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "id", as->id);
    cJSON_AddStringToObject(doc, "title", as->title);
    cJSON_AddStringToObject(doc, "state", "predicted");
    exports_describe(doc, s, q, as, as->id);
    return doc;
}

void assessments_get(const struct service *s, const struct http_request *q, const char *const *arg,
                     struct http_reply *a)
{
    (void)arg;
    if (s->workflow) {
        assess_reply_list(s, q, a);
        return;
    }
    cJSON *doc = cJSON_CreateObject();
    http_link(cJSON_AddArrayToObject(doc, "links"), q, "self", HTTP_JSON, "This document", "/assessments");
    cJSON *list = cJSON_AddArrayToObject(doc, "assessments");
    for (int i = 0; i < s->n; i++)
        cJSON_AddItemToArray(list, assessment_document(s, q, s->assessment[i]));
    cJSON_AddBoolToObject(doc, "data_root", false);
    cJSON_AddBoolToObject(doc, "read_only", true);
    cJSON_AddNullToObject(doc, "disk_free_bytes");
    cJSON_AddStringToObject(doc, "version", AM_VERSION);
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_validate(q, a);
}

void assessment_get(const struct service *s, const struct http_request *q, const char *const *arg,
                    struct http_reply *a)
{
    if (s->workflow) {
        assess_reply_one(s, q, arg[0], a);
        return;
    }
    const struct assessment *as = service_assessment(s, q, arg[0], a);
    if (!as)
        return;
    http_reply_json(a, HTTP_JSON, assessment_document(s, q, as));
    http_reply_validate(q, a);
}

void exports_send(const struct http_request *q, struct http_reply *a, const char *path, const char *type,
                  const char *name)
{
    char etag[64];
    struct stat st;
    a->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (a->fd < 0 || fstat(a->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        http_problem(q, a, 404, NULL, "there is no file %s", file_base(path));
        return;
    }
    snprintf(etag, sizeof etag, "\"%" PRIx64 "-%" PRIx64 "-%lx\"", (uint64_t)st.st_size,
             (uint64_t)st.st_mtim.tv_sec, (unsigned long)st.st_mtim.tv_nsec);
    http_reply_header(a, "Accept-Ranges", "bytes");
    http_reply_header(a, "Cache-Control", "no-cache");
    if (http_reply_tagged(q, a, etag))
        return;
    /* A range of another version than the client has seen would splice two files: If-Range sends the whole
     * then. */
    const char *range = http_header(q, "Range"), *if_range = http_header(q, "If-Range");
    if (if_range && strcmp(if_range, etag) != 0)
        range = NULL;
    uint64_t size = (uint64_t)st.st_size;
    enum http_range kind = http_range_parse(range, size, &a->offset, &a->length);
    if (kind == HTTP_RANGE_UNSATISFIABLE) {
        http_problem(q, a, 416, NULL, "%s has %" PRIu64 " bytes; the range lies outside", file_base(path),
                     size);
        http_reply_header(a, "Content-Range", "bytes */%" PRIu64, size);
        return;
    }
    a->status = kind == HTTP_RANGE_PART ? 206 : 200;
    a->type = type;
    if (kind == HTTP_RANGE_PART)
        http_reply_header(a, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, a->offset,
                          a->offset + a->length - 1, size);
    http_reply_header(a, "Content-Disposition", "attachment; filename=\"%s\"", name);
}

void export_get(const struct service *s, const struct http_request *q, const char *const *arg,
                struct http_reply *a)
{
    char path[4096], name[160];
    int i = 0;
    const struct assessment *as = service_assessment(s, q, arg[0], a);
    if (!as || table_exports_reply(s, q, as, arg[1], a))
        return;
    if (as->kind != ASSESSMENT_MAP) {
        http_problem(q, a, 404, NULL, "nothing was predicted yet, so there are no files");
        return;
    }
    while (i < N_EXPORTS && strcmp(exports[i].name, arg[1]) != 0)
        i++;
    if (i == N_EXPORTS || !file_join(path, sizeof path, as->dir, exports[i].name, NULL)) {
        http_problem(q, a, 404, NULL, "this map has no such file");
        return;
    }
    snprintf(name, sizeof name, "%.100s-%s", as->id, exports[i].name);
    exports_send(q, a, path, exports[i].type, name);
}
