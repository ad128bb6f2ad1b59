/* SPDX-License-Identifier: Apache-2.0
 * table_exports.c - labels, zones, scenes and area of interest in the formats of OGR (table_exports.h), written in memory
 * from the same rows as the collections; and the map's buildings, in those formats that mapping_run makes no file of, from
 * damage.gpkg. The CSV carries the outline as WKT, the spreadsheet none; the zip holds a shapefile. */
#include "web/table_exports.h"

#include "models/base/file.h"
#include "web/tables.h"

#include <cpl_string.h>
#include <cpl_vsi.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *ending, *driver, *title, *type, *option;
    const char *file_ending; /* what the driver wants to see */
    int max_rows;            /* more take too much time and memory for one answer */
    bool has_own_file;       /* for the buildings: mapping_run writes it */
} formats[] = {
    {"gpkg", "GPKG", "GeoPackage", "application/geopackage+sqlite3", NULL, "gpkg", 1000000, true},
    {"geojson", "GeoJSON", "GeoJSON", "application/geo+json", "RFC7946=YES", "geojson", 1000000, true},
    {"csv", "CSV", "CSV", "text/csv; charset=utf-8", "GEOMETRY=AS_WKT", "csv", 1000000, true},
    {"fgb", "FlatGeobuf", "FlatGeobuf", "application/flatgeobuf", NULL, "fgb", 500000, false},
    {"zip", "ESRI Shapefile", "shapefile in a zip", "application/zip", "ENCODING=UTF-8", "shz", 500000,
     false},
    {"xlsx", "XLSX", "spreadsheet", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", NULL,
     "xlsx", 50000, false},
};
enum { N_FORMATS = sizeof formats / sizeof *formats };
static const char buildings_name[] = "damage";
enum { BUILDINGS = TABLE_KINDS }; /* beside the kinds of tables.h */

static const char *name_of(int kind)
{
    return kind == BUILDINGS ? buildings_name : table_names[kind];
}

static GDALDatasetH open_rows(const struct service *s, const struct assessment *as, int kind, struct err *e)
{
    static const char *const drivers[] = {"GPKG", NULL};
    char path[4096];
    if (kind != BUILDINGS)
        return tables_make(s, as, (enum table_kind)kind, e);
    if (!file_join(path, sizeof path, as->dir, "damage.gpkg", e))
        return NULL;
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY, drivers, NULL, NULL);
    if (!ds)
        err_set(e, ERR_RUNTIME, "damage.gpkg cannot be read");
    return ds;
}

/* The rows in a format, as bytes of the heap; NULL with an error. */
static char *write_rows(const struct service *s, const struct assessment *as, int kind, int f, size_t *size,
                        struct err *e)
{
    static atomic_ullong count;
    char dir[60], name[100], *body = NULL;
    vsi_l_offset n = 0;
    snprintf(dir, sizeof dir, "/vsimem/aftermap-table-%llu", atomic_fetch_add(&count, 1));
    /* A shapefile is called within its zip as the zip is. */
    snprintf(name, sizeof name, "%s/%s.%s", dir, name_of(kind), formats[f].file_ending);
    GDALDatasetH from = open_rows(s, as, kind, e);
    if (!from)
        return NULL;
    OGRLayerH layer = GDALDatasetGetLayer(from, 0);
    if (layer && OGR_L_GetFeatureCount(layer, TRUE) > formats[f].max_rows) {
        err_set(e, ERR_INPUT, "it has more rows than the %d that go into a %s here; take the GeoPackage",
                formats[f].max_rows, formats[f].title);
        GDALClose(from);
        return NULL;
    }
    VSIMkdir(dir, 0700);
    GDALDatasetH to =
        layer ? GDALCreate(GDALGetDriverByName(formats[f].driver), name, 0, 0, 0, GDT_Unknown, NULL) : NULL;
    char **options = formats[f].option ? CSLAddString(NULL, formats[f].option) : NULL;
    bool ok = to && GDALDatasetCopyLayer(to, layer, name_of(kind), options);
    CSLDestroy(options);
    GDALClose(from);
    if (to)
        GDALClose(to); /* this is what writes the end of the file */
    GByte *bytes = ok ? VSIGetMemFileBuffer(name, &n, FALSE) : NULL;
    body = bytes && n ? malloc((size_t)n) : NULL;
    if (body)
        memcpy(body, bytes, (size_t)n);
    else
        err_set(e, ERR_RESOURCE, "%s.%s cannot be written", name_of(kind), formats[f].ending);
    VSIUnlink(name);
    VSIRmdir(dir);
    *size = (size_t)n;
    return body;
}

static bool has_rows(const struct service *s, const struct assessment *as, int kind, int format)
{
    return kind == BUILDINGS ? as->kind == ASSESSMENT_MAP && !formats[format].has_own_file
                             : tables_has(s, as, (enum table_kind)kind);
}

static bool parse(const char *name, int *kind, int *format)
{
    for (int k = 0; k <= BUILDINGS; k++) {
        size_t n = strlen(name_of(k));
        if (strncmp(name, name_of(k), n) != 0 || name[n] != '.')
            continue;
        for (int f = 0; f < N_FORMATS; f++)
            if (strcmp(name + n + 1, formats[f].ending) == 0) {
                *kind = k;
                *format = f;
                return true;
            }
    }
    return false;
}

bool table_exports_reply(const struct service *s, const struct http_request *q, const struct assessment *as,
                         const char *name, struct http_reply *a)
{
    int kind, f;
    size_t size = 0;
    struct err e = {0};
    if (!parse(name, &kind, &f) || !has_rows(s, as, kind, f))
        return false;
    char *body = write_rows(s, as, kind, f, &size, &e);
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
    for (int k = 0; k <= BUILDINGS; k++)
        for (int f = 0; f < N_FORMATS; f++) {
            if (!has_rows(s, as, k, f))
                continue;
            snprintf(title, sizeof title, "%s as %s", k == BUILDINGS ? "Buildings" : name_of(k),
                     formats[f].title);
            /* Pages list enclosures; what few ask for need not stand among them. */
            http_link(links, q, formats[f].has_own_file ? "enclosure" : "alternate", formats[f].type, title,
                      "/assessments/%s/exports/%s.%s", as->id, name_of(k), formats[f].ending);
        }
}
