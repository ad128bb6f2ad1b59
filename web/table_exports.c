/* SPDX-License-Identifier: Apache-2.0
 * table_exports.c - labels, zones, scenes and area of interest as GeoPackage, GeoJSON or CSV (table_exports.h), written in
 * memory by OGR from the same rows as the collections. The CSV carries the outline as WKT. */
#include "web/table_exports.h"

#include "web/tables.h"

#include <cpl_string.h>
#include <cpl_vsi.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *ending, *driver, *type, *option;
} formats[] = {
    {"gpkg", "GPKG", "application/geopackage+sqlite3", NULL},
    {"geojson", "GeoJSON", "application/geo+json", "RFC7946=YES"},
    {"csv", "CSV", "text/csv; charset=utf-8", "GEOMETRY=AS_WKT"},
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

/* The rows in a format, as bytes of the heap; NULL with an error. */
static char *write_table(const struct service *s, const struct assessment *as, enum table_kind kind, int f,
                         size_t *size, struct err *e)
{
    static atomic_ullong count;
    char name[100], *body = NULL;
    vsi_l_offset n = 0;
    snprintf(name, sizeof name, "/vsimem/aftermap-table-%llu.%s", atomic_fetch_add(&count, 1),
             formats[f].ending);
    GDALDatasetH from = tables_make(s, as, kind, e);
    if (!from)
        return NULL;
    GDALDatasetH to = GDALCreate(GDALGetDriverByName(formats[f].driver), name, 0, 0, 0, GDT_Unknown, NULL);
    char **options = formats[f].option ? CSLAddString(NULL, formats[f].option) : NULL;
    bool ok = to && GDALDatasetCopyLayer(to, GDALDatasetGetLayer(from, 0), table_names[kind], options);
    CSLDestroy(options);
    GDALClose(from);
    if (to)
        GDALClose(to); /* this is what writes the end of the file */
    GByte *bytes = ok ? VSIGetMemFileBuffer(name, &n, FALSE) : NULL;
    body = bytes && n ? malloc((size_t)n) : NULL;
    if (body)
        memcpy(body, bytes, (size_t)n);
    else
        err_set(e, ERR_RESOURCE, "%s.%s cannot be written", table_names[kind], formats[f].ending);
    VSIUnlink(name);
    *size = (size_t)n;
    return body;
}

static bool parse(const char *name, enum table_kind *kind, int *format)
{
    for (int k = 0; k < TABLE_KINDS; k++) {
        size_t n = strlen(table_names[k]);
        if (strncmp(name, table_names[k], n) != 0 || name[n] != '.')
            continue;
        for (int f = 0; f < N_FORMATS; f++)
            if (strcmp(name + n + 1, formats[f].ending) == 0) {
                *kind = (enum table_kind)k;
                *format = f;
                return true;
            }
    }
    return false;
}

bool table_exports_reply(const struct service *s, const struct http_request *q, const struct assessment *as,
                         const char *name, struct http_reply *a)
{
    enum table_kind kind;
    int f;
    size_t size = 0;
    struct err e = {0};
    if (!parse(name, &kind, &f) || !tables_has(s, as, kind))
        return false;
    char *body = write_table(s, as, kind, f, &size, &e);
    if (!body) {
        http_problem_err(q, a, 422, &e);
        return true;
    }
    http_reply_body(a, 200, formats[f].type, body, size);
    http_reply_header(a, "Cache-Control", "no-store");
    http_reply_header(a, "Content-Disposition", "attachment; filename=\"%s-%s\"", as->id, name);
    return true;
}

void table_exports_link(const struct service *s, const struct http_request *q, const struct assessment *as,
                        cJSON *links)
{
    char title[100];
    for (int k = 0; k < TABLE_KINDS; k++) {
        if (!tables_has(s, as, (enum table_kind)k))
            continue;
        for (int f = 0; f < N_FORMATS; f++) {
            snprintf(title, sizeof title, "%s as %s", table_names[k], formats[f].driver);
            http_link(links, q, "enclosure", formats[f].type, title, "/assessments/%s/exports/%s.%s", as->id,
                      table_names[k], formats[f].ending);
        }
    }
}
