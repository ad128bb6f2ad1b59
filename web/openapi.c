/* SPDX-License-Identifier: Apache-2.0
 * openapi.c - the route table told as OpenAPI 3.0 (/api) and as a page to read (/api.html). Paths below a
 * collection appear twice, as a template and for each collection by name: GDAL finds the properties it may
 * filter by only under the latter. */
#include "models/base/markup.h"
#include "web/http.h"
#include "web/routes.h"
#include "web/service.h"
#include "web/tables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cJSON *parameter(const struct route_param *p, const char *in)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", p->name);
    cJSON_AddStringToObject(o, "in", in);
    cJSON_AddStringToObject(o, "description", p->summary);
    cJSON_AddBoolToObject(o, "required", strcmp(in, "path") == 0);
    cJSON_AddItemToObject(o, "schema", cJSON_Parse(p->schema));
    if (strcmp(p->name, "bbox") == 0) {
        cJSON_AddStringToObject(o, "style", "form");
        cJSON_AddBoolToObject(o, "explode", false);
    }
    return o;
}

static cJSON *format_parameter(const struct route *r)
{
    cJSON *o = cJSON_CreateObject(), *schema = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", "f");
    cJSON_AddStringToObject(o, "in", "query");
    cJSON_AddStringToObject(o, "description", "Media type by name, instead of the Accept header.");
    cJSON_AddBoolToObject(o, "required", false);
    cJSON_AddStringToObject(schema, "type", "string");
    cJSON *names = cJSON_AddArrayToObject(schema, "enum");
    for (int i = 0; i < ROUTE_MAX_TYPES && r->types->type[i]; i++)
        cJSON_AddItemToArray(names, cJSON_CreateString(r->types->format[i]));
    cJSON_AddItemToObject(o, "schema", schema);
    return o;
}

/* Calls back for every variable of a pattern. */
static void add_path_parameters(cJSON *list, const char *pattern)
{
    for (const char *p = pattern; (p = strchr(p, '{')) != NULL; p++) {
        char name[40];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(p + 1, "}"), p + 1);
        const struct route_param *v = routes_variable(name);
        if (v)
            cJSON_AddItemToArray(list, parameter(v, "path"));
    }
}

static void add_body(cJSON *operation, const struct route_body *b)
{
    cJSON *body = cJSON_AddObjectToObject(operation, "requestBody");
    cJSON_AddBoolToObject(body, "required", true);
    cJSON *content = cJSON_AddObjectToObject(body, "content");
    for (int i = 0; i < ROUTE_MAX_TYPES && b->type[i]; i++) {
        cJSON *media = cJSON_AddObjectToObject(content, b->type[i]);
        if (i == 0 && b->schema)
            cJSON_AddItemToObject(media, "schema", cJSON_Parse(b->schema));
    }
}

static cJSON *operation(const struct route *r, const char *path, const char *id)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "operationId", id);
    cJSON_AddStringToObject(o, "summary", r->summary);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(o, "tags"), cJSON_CreateString(r->tag));
    cJSON *params = cJSON_AddArrayToObject(o, "parameters");
    add_path_parameters(params, path);
    for (int i = 0; r->params && r->params[i]; i++)
        cJSON_AddItemToArray(params, parameter(r->params[i], "query"));
    if (r->types)
        cJSON_AddItemToArray(params, format_parameter(r));
    if (r->body)
        add_body(o, r->body);
    cJSON *responses = cJSON_AddObjectToObject(o, "responses");
    cJSON *ok = cJSON_AddObjectToObject(responses, strcmp(r->method, "DELETE") == 0 ? "204" : "200");
    cJSON_AddStringToObject(ok, "description", r->summary);
    cJSON *content = cJSON_AddObjectToObject(ok, "content");
    for (int i = 0; i < ROUTE_MAX_TYPES && r->types && r->types->type[i]; i++)
        cJSON_AddObjectToObject(content, r->types->type[i]);
    if (!r->types)
        cJSON_AddObjectToObject(content,
                                r->flags & ROUTE_STREAM ? "text/event-stream" : "application/octet-stream");
    cJSON *other = cJSON_AddObjectToObject(responses, "default");
    cJSON_AddStringToObject(other, "description", "A problem document (RFC 9457)");
    cJSON_AddObjectToObject(cJSON_AddObjectToObject(other, "content"), HTTP_PROBLEM);
    if (r->role != AUTH_NOBODY) {
        /* An empty one beside it: where the server has no tokens, none is needed. */
        cJSON *security = cJSON_AddArrayToObject(o, "security"), *bearer = cJSON_CreateObject();
        cJSON_AddArrayToObject(bearer, "bearer");
        cJSON_AddItemToArray(security, bearer);
        cJSON_AddItemToArray(security, cJSON_CreateObject());
        cJSON_AddStringToObject(o, "x-role", auth_role_name(r->role));
    }
    return o;
}

/* "/collections/{collectionId}/items" for one collection; false when the pattern has no such variable. */
static bool path_of_collection(const char *pattern, const char *collection, char *out, size_t size)
{
    static const char variable[] = "{collectionId}";
    const char *at = strstr(pattern, variable);
    if (!at)
        return false;
    int n =
        snprintf(out, size, "%.*s%s%s", (int)(at - pattern), pattern, collection, at + sizeof variable - 1);
    return n > 0 && (size_t)n < size;
}

static void add_path(cJSON *paths, const struct route *r, const char *path, const char *id)
{
    cJSON *item = cJSON_GetObjectItemCaseSensitive(paths, path);
    char method[12];
    size_t n = 0;
    for (; r->method[n] && n + 1 < sizeof method; n++)
        method[n] = (char)(r->method[n] | 0x20);
    method[n] = '\0';
    if (!item)
        item = cJSON_AddObjectToObject(paths, path);
    cJSON_AddItemToObject(item, method, operation(r, path, id));
}

/* The operations that are repeated for a collection. */
static void add_collection(cJSON *paths, const struct route *table, int n, const char *collection)
{
    char path[512], id[400];
    for (int i = 0; i < n; i++) {
        if (!(table[i].flags & ROUTE_PER_COLLECTION))
            continue;
        snprintf(id, sizeof id, "%s.%.300s", table[i].id, collection);
        if (path_of_collection(table[i].pattern, collection, path, sizeof path))
            add_path(paths, &table[i], path, id);
    }
}

static bool is_here(const struct service *s, const struct route *r)
{
    return s->workflow || !(r->flags & ROUTE_WORKFLOW);
}

void openapi_get(const struct service *s, const struct http_request *q, const char *const *arg,
                 struct http_reply *a)
{
    int n;
    const struct route *table = routes_table(&n);
    (void)arg;
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "openapi", "3.0.3");
    cJSON *info = cJSON_AddObjectToObject(doc, "info");
    cJSON_AddStringToObject(info, "title", "aftermap");
    cJSON_AddStringToObject(info, "version", AM_VERSION);
    cJSON_AddStringToObject(info, "description",
                            "Damage maps from pairs of images before and after a disaster.");
    cJSON *license = cJSON_AddObjectToObject(info, "license");
    cJSON_AddStringToObject(license, "name", "Apache-2.0");
    cJSON *server = cJSON_CreateObject();
    cJSON_AddStringToObject(server, "url", q->base);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(doc, "servers"), server);
    cJSON *scheme = cJSON_AddObjectToObject(
        cJSON_AddObjectToObject(cJSON_AddObjectToObject(doc, "components"), "securitySchemes"), "bearer");
    cJSON_AddStringToObject(scheme, "type", "http");
    cJSON_AddStringToObject(scheme, "scheme", "bearer");
    cJSON *paths = cJSON_AddObjectToObject(doc, "paths");
    for (int i = 0; i < n; i++)
        if (is_here(s, &table[i]))
            add_path(paths, &table[i], table[i].pattern, table[i].id);
    for (int k = 0; k < s->n; k++) {
        const struct assessment *as = s->assessment[k];
        add_collection(paths, table, n, as->collection_id);
        for (int i = 0; i < TABLE_KINDS; i++) {
            char collection[400];
            snprintf(collection, sizeof collection, "%.300s.%s", as->id, table_names[i]);
            if (tables_has(s, as, (enum table_kind)i))
                add_collection(paths, table, n, collection);
        }
    }
    http_reply_json(a, q->type, doc);
    http_reply_validate(q, a);
}

static void write_param_row(FILE *f, const struct route_param *p, const char *kind)
{
    fprintf(f, "<tr><td><code>%s</code></td><td>%s</td><td>", p->name, kind);
    markup_write_text(f, p->summary);
    fputs("</td><td><code>", f);
    markup_write_text(f, p->schema);
    fputs("</code></td></tr>\n", f);
}

static void write_route(FILE *f, const struct route *r)
{
    fprintf(f, "<section><h2><code>%s ", r->method);
    markup_write_text(f, r->pattern);
    fputs("</code></h2>\n<p>", f);
    markup_write_text(f, r->summary);
    fputs(".</p>\n", f);
    if (r->types) {
        fputs("<p>Answers: ", f);
        for (int i = 0; i < ROUTE_MAX_TYPES && r->types->type[i]; i++)
            fprintf(f, "%s<code>%s</code> (f=%s)", i ? ", " : "", r->types->type[i], r->types->format[i]);
        fputs("</p>\n", f);
    }
    if (r->body) {
        fputs("<p>Takes ", f);
        for (int i = 0; i < ROUTE_MAX_TYPES && r->body->type[i]; i++)
            fprintf(f, "%s<code>%s</code>", i ? ", " : "", r->body->type[i]);
        fprintf(f, ", at most %zu KiB", r->body->max_bytes >> 10);
        if (r->body->schema) {
            fputs(": <code>", f);
            markup_write_text(f, r->body->schema);
            fputs("</code>", f);
        }
        fputs("</p>\n", f);
    }
    if (r->role > AUTH_READER)
        fprintf(f, "<p>Role: %s, where the server has tokens.</p>\n", auth_role_name(r->role));
    if (r->params || strchr(r->pattern, '{')) {
        fputs("<table><tr><th>Name</th><th>In</th><th>Meaning</th><th>Schema</th></tr>\n", f);
        for (const char *p = r->pattern; (p = strchr(p, '{')) != NULL; p++) {
            char name[40];
            snprintf(name, sizeof name, "%.*s", (int)strcspn(p + 1, "}"), p + 1);
            const struct route_param *v = routes_variable(name);
            if (v)
                write_param_row(f, v, "path");
        }
        for (int i = 0; r->params && r->params[i]; i++)
            write_param_row(f, r->params[i], "query");
        fputs("</table>\n", f);
    }
    fputs("</section>\n", f);
}

void openapi_html_get(const struct service *s, const struct http_request *q, const char *const *arg,
                      struct http_reply *a)
{
    int n;
    char *body = NULL;
    size_t size = 0;
    const struct route *table = routes_table(&n);
    FILE *f = open_memstream(&body, &size);
    (void)arg;
    if (f) {
        fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>aftermap: "
              "interface</title></head>"
              "<body><main><h1>aftermap: interface</h1>\n<p>As <a href=\"/api\">OpenAPI 3.0</a>. Every GET "
              "answers HEAD "
              "too; errors are problem documents (RFC 9457).</p>\n",
              f);
        for (int i = 0; i < n; i++)
            if (is_here(s, &table[i]))
                write_route(f, &table[i]);
        fputs("</main></body></html>\n", f);
        bool is_short = ferror(f) != 0;
        if (fclose(f) != 0 || is_short) {
            free(body);
            body = NULL;
        }
    }
    http_reply_body(a, 200, HTTP_HTML, body, size);
    http_reply_validate(q, a);
}
