/* SPDX-License-Identifier: Apache-2.0
 * landing.c - the entry point, the page's files, conformance and health. */
#include "web/encode.h"
#include "web/http.h"
#include "web/page.h"
#include "web/routes.h"
#include "web/service.h"
#include "web/watch.h"
#include "web/workflow.h"

#include "models/base/file.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char no_page[] =
    "<!DOCTYPE html><html lang=\"en\"><head><meta "
    "charset=\"utf-8\"><title>aftermap</title></head><body><main>"
    "<h1>aftermap</h1><p>This program was built without its map page (AM_UI=OFF). "
    "The data is here: <a href=\"/api.html\">interface</a>, <a href=\"/collections\">collections</a>, "
    "<a href=\"/assessments\">maps and downloads</a>.</p></main></body></html>\n";

/* gzip where the client takes it, else inflated; 304 by the digest of the embedded bytes. */
static void page_reply(const struct http_request *q, struct http_reply *a, const char *name)
{
    const struct page_file *file = page_find(name);
    if (!file && strcmp(name, "index.html") == 0) {
        a->status = 200;
        a->type = HTTP_HTML;
        a->fixed = no_page;
        a->size = sizeof no_page - 1;
        http_reply_validate(q, a);
        return;
    }
    if (!file) {
        http_problem(q, a, 404, NULL, "the page has no such file");
        return;
    }
    bool is_gzip = encode_is_wanted(http_header(q, "Accept-Encoding"));
    if (is_gzip) {
        a->status = 200;
        a->type = file->type;
        a->fixed = file->gzip;
        a->size = (size_t)(file->end - file->gzip);
    } else {
        size_t size = 0;
        char *text = page_inflate(file, &size);
        http_reply_body(a, 200, file->type, text, size);
    }
    http_reply_validate(q, a);
    if (is_gzip && a->status == 200)
        http_reply_header(a, "Content-Encoding", "gzip");
    http_reply_header(a, "Vary", "Accept, Accept-Encoding");
}

void asset_get(const struct service *s, const struct http_request *q, const char *const *arg,
               struct http_reply *a)
{
    (void)s;
    page_reply(q, a, arg[0]);
}

void landing_get(const struct service *s, const struct http_request *q, const char *const *arg,
                 struct http_reply *a)
{
    (void)arg;
    if (strcmp(q->type, HTTP_HTML) == 0) {
        page_reply(q, a, "index.html");
        return;
    }
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "title", "aftermap");
    cJSON_AddStringToObject(doc, "description",
                            "Damage maps from pairs of images before and after a disaster.");
    cJSON *links = cJSON_AddArrayToObject(doc, "links");
    http_link(links, q, "self", HTTP_JSON, "This document", "/");
    http_link(links, q, "alternate", "text/html", "The map page", "/?f=html");
    http_link(links, q, "service-desc", HTTP_OPENAPI, "The interface as OpenAPI 3.0", "/api");
    http_link(links, q, "service-doc", "text/html", "The interface to read", "/api.html");
    http_link(links, q, "conformance", HTTP_JSON, "Conformance classes", "/conformance");
    http_link(links, q, "data", HTTP_JSON, "Feature collections", "/collections");
    http_link(links, q, "related", HTTP_JSON, "Maps with layers and files", "/assessments");
    if (s->workflow) {
        http_link(links, q, "http://www.opengis.net/def/rel/ogc/1.0/processes", HTTP_JSON, "Processes",
                  "/processes");
        http_link(links, q, "http://www.opengis.net/def/rel/ogc/1.0/job-list", HTTP_JSON, "Jobs", "/jobs");
    }
    http_link(links, q, "http://www.opengis.net/def/rel/ogc/1.0/tiling-schemes", HTTP_JSON,
              "Tile matrix sets", "/tileMatrixSets");
    http_link(links, q, "related", "application/xml", "Picture layers as WMTS", "/wmts/WMTSCapabilities.xml");
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_validate(q, a);
    http_reply_header(a, "Vary", "Accept, Accept-Encoding");
}

/* Only what holds: the tests of tests/http walk each of these. */
void conformance_get(const struct service *s, const struct http_request *q, const char *const *arg,
                     struct http_reply *a)
{
    static const char *const classes[] = {
        "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/core",
        "http://www.opengis.net/spec/ogcapi-common-2/1.0/conf/collections",
        "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
        "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
        "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/oas30",
        "http://www.opengis.net/spec/ogcapi-features-2/1.0/conf/crs",
        "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/queryables",
        "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/queryables-query-parameters",
        "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/core",
        "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/tileset",
        "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/tilesets-list",
        "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/geodata-tilesets",
        "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/png",
    };
    static const char *const with_jobs[] = {
        "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/core",
        "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/ogc-process-description",
        "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/json",
        "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/oas30",
        "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/job-list",
        "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/dismiss",
    };
    (void)arg;
    cJSON *doc = cJSON_CreateObject();
    cJSON *list = cJSON_CreateStringArray(classes, sizeof classes / sizeof *classes);
    for (size_t i = 0; s->workflow && i < sizeof with_jobs / sizeof *with_jobs; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(with_jobs[i]));
    cJSON_AddItemToObject(doc, "conformsTo", list);
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_validate(q, a);
}

void health_get(const struct service *s, const struct http_request *q, const char *const *arg,
                struct http_reply *a)
{
    static const char ok[] = "{\"status\":\"ok\"}";
    (void)s;
    (void)q;
    (void)arg;
    a->status = 200;
    a->type = HTTP_JSON;
    a->fixed = ok;
    a->size = sizeof ok - 1;
    http_reply_header(a, "Cache-Control", "no-store");
}

void ready_get(const struct service *s, const struct http_request *q, const char *const *arg,
               struct http_reply *a)
{
    static const char *const needed[] = {"damage.tif", "damage.gpkg"};
    char path[4096];
    struct err e = {0};
    if (s->workflow && !store_ping(s->workflow->store, &e)) {
        http_problem(q, a, 503, NULL, "labels cannot be kept now: %s", e.msg);
        http_reply_header(a, "Retry-After", "30");
        return;
    }
    for (int i = 0; i < s->n; i++) {
        for (int k = 0; k < 2 && s->assessment[i]->kind == ASSESSMENT_MAP; k++) {
            if (!file_join(path, sizeof path, s->assessment[i]->dir, needed[k], NULL) || !file_exists(path)) {
                http_problem(q, a, 503, NULL, "map %s has lost its %s", s->assessment[i]->id, needed[k]);
                http_reply_header(a, "Retry-After", "30");
                return;
            }
        }
    }
    health_get(s, q, arg, a);
}

void metrics_get(const struct service *s, const struct http_request *q, const char *const *arg,
                 struct http_reply *a)
{
    char *body = NULL;
    size_t size = 0;
    long n_open, n_slow;
    FILE *out = open_memstream(&body, &size);
    (void)q;
    (void)arg;
    if (out) {
        telemetry_write((struct telemetry *)(uintptr_t)&s->telemetry, out);
        watch_counts(s->watch, &n_open, &n_slow);
        fprintf(out,
                "# HELP aftermap_connections Open connections.\n# TYPE aftermap_connections gauge\n"
                "aftermap_connections %ld\n"
                "# HELP aftermap_slow_connections_total Connections ended for being too slow.\n"
                "# TYPE aftermap_slow_connections_total counter\naftermap_slow_connections_total %ld\n"
                "# HELP aftermap_maps Maps shown.\n# TYPE aftermap_maps gauge\naftermap_maps %d\n",
                n_open, n_slow, s->n);
        if (s->workflow)
            fprintf(
                out,
                "# HELP aftermap_jobs_active Jobs accepted or running.\n# TYPE aftermap_jobs_active gauge\n"
                "aftermap_jobs_active %zu\n",
                jobs_active(s->workflow->jobs, NULL));
        bool is_short = ferror(out) != 0;
        if (fclose(out) != 0 || is_short) {
            free(body);
            body = NULL;
        }
    }
    http_reply_body(a, 200, "text/plain; version=0.0.4; charset=utf-8", body, size);
    http_reply_header(a, "Cache-Control", "no-store");
}
