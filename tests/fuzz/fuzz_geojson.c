/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_geojson.c - libFuzzer target over GeoJSON files as they are imported: as footprints with labels (geo/vector.h), as an
 * area of interest and as zones (web/zone_setting.h). Build and run as fuzz_query.c says; corpus tests/fuzz/geojson.
 * Footprints that are accepted must have a place, an area, an id of their own and a level of the scale; their geometry
 * must be writable as GeoJSON again. */
#include "geo/vector.h"
#include "web/geojson.h"
#include "web/zone_setting.h"

#include <math.h>
#include <ogr_srs_api.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static char path[64], *utm;

static void remove_file(void)
{
    unlink(path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    geo_init(false);
    OGRSpatialReferenceH srs = OSRNewSpatialReference(NULL);
    if (OSRImportFromEPSG(srs, 32633) != OGRERR_NONE || OSRExportToWkt(srs, &utm) != OGRERR_NONE)
        abort();
    OSRDestroySpatialReference(srs);
    snprintf(path, sizeof path, "/dev/shm/aftermap-fuzz-%ld.geojson", (long)getpid());
    atexit(remove_file);
    return 0;
}

static void check_footprints(const struct vector_set *s)
{
    static const struct geojson_style style = {.decimals = 7};
    char *text = NULL;
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct vector_footprint *f = &s->item[i];
        if (!f->bldg_id || !*f->bldg_id || f->level < -1 || f->level > 3 || !(f->area_m2 >= 0) ||
            !isfinite(f->area_m2) || !(fabs(f->lon) <= 360 && fabs(f->lat) <= 90) || !f->geometry)
            abort();
        FILE *out = open_memstream(&text, &n);
        if (!out)
            return;
        geojson_geometry(out, f->geometry, &style);
        fclose(out);
        if (!n)
            abort();
        free(text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    struct vector_set set = {0};
    struct vector_options o = {.path = path, .point_m = 12};
    FILE *f = size && size <= 1 << 16 ? fopen(path, "wb") : NULL;
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        return 0;
    bool ok = vector_read(&set, &o, utm, NULL, &e);
    if (!ok && (e.code == ERR_OK || !e.msg[0]))
        abort();
    if (ok)
        check_footprints(&set);
    vector_set_free(&set);
    e = (struct err){0};
    cJSON *aoi = aoi_setting_make(NULL, path, &e);
    if (!aoi && e.code == ERR_OK)
        abort();
    cJSON_Delete(aoi);
    e = (struct err){0};
    cJSON *given = cJSON_CreateObject();
    cJSON_AddStringToObject(given, "id_field", "id");
    cJSON *zones = zone_setting_make(given, path, &e);
    if (!zones && e.code == ERR_OK)
        abort();
    cJSON_Delete(zones);
    cJSON_Delete(given);
    return 0;
}
