/* SPDX-License-Identifier: Apache-2.0
 *
 * totals_map.c - the buildings of a map (damage.gpkg and run.json) or of an event that has no map yet, with the
 * zone and the stratum of each. Declared in totals_parts.h. Memory grows by one record a building. */
#include "geo/mapping.h"
#include "geo/totals_parts.h"

#include "geo/raster.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include <cpl_error.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 4096, STRATA_MAX = 512 };

void totals_map_close(struct totals_map *m)
{
    for (size_t i = 0; i < m->n; i++)
        free(m->building[i].bldg_id);
    for (int i = 0; i < m->n_strata; i++)
        free(m->stratum[i]);
    free(m->building);
    free(m->by_id);
    free(m->stratum);
    free(m->stratum_size);
    free(m->strata_field);
    free(m->dir);
    free(m->run_id);
    free(m->created);
    free(m->model_digest);
    free(m->event_digest);
    free(m->event_path);
    *m = (struct totals_map){0};
}

int totals_map_stratum(const struct totals_map *m, const char *name)
{
    for (int i = 0; i < m->n_strata; i++)
        if (strcmp(m->stratum[i], name) == 0)
            return i;
    return -1;
}

/* Counts a building into the stratum "FIELD=VALUE"; its index, or -1 on an error. */
static int join_stratum(struct totals_map *m, const char *value, struct err *e)
{
    char name[300];
    snprintf(name, sizeof name, "%s=%s", m->strata_field, value);
    int k = totals_map_stratum(m, name);
    if (k < 0) {
        if (m->n_strata == STRATA_MAX) {
            err_set(e, ERR_INPUT,
                    "%s has more than %d different values of %s; choose a coarser one for strata", m->dir,
                    STRATA_MAX, m->strata_field);
            return -1;
        }
        if (!mem_grow(&m->stratum, (size_t)m->n_strata + 1, sizeof *m->stratum, "the strata", e) ||
            !mem_grow(&m->stratum_size, (size_t)m->n_strata + 1, sizeof *m->stratum_size, "the strata", e) ||
            !(m->stratum[m->n_strata] = mem_strdup(name, e)))
            return -1;
        m->stratum_size[m->n_strata] = 0;
        k = m->n_strata++;
    }
    m->stratum_size[k]++;
    return k;
}

static bool add(struct totals_map *m, size_t *room, const struct totals_building *b, const char *bldg_id,
                const char *stratum, struct zones *zones, struct err *e)
{
    if (m->n == *room) {
        *room = *room ? *room * 2 : 4096;
        if (!mem_grow(&m->building, *room, sizeof *m->building, "the buildings", e))
            return false;
    }
    struct totals_building *to = &m->building[m->n];
    *to = *b;
    if (!(to->bldg_id = mem_strdup(bldg_id, e)))
        return false;
    m->n++;
    to->zone = zones ? zones_at(zones, b->lon, b->lat) : -1;
    if (!m->strata_field)
        return true;
    const char *value = strcmp(m->strata_field, "zone") != 0 ? stratum
                        : to->zone >= 0                      ? zones_id(zones, to->zone)
                                                             : "";
    return (to->stratum = join_stratum(m, value, e)) >= 0;
}

/* ---- a map */

static const char *text_at(const cJSON *j, const char *a, const char *b)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(j, a);
    const char *s = cJSON_GetStringValue(b ? cJSON_GetObjectItemCaseSensitive(o, b) : o);
    return s ? s : "";
}

static bool read_run(struct totals_map *m, struct err *e)
{
    cJSON *run = mapping_run_read(m->dir, e);
    if (!run)
        return false;
    m->cut = (int)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(run, "cut"));
    m->operating_point = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(run, "settings"), "operating_point"));
    m->binary = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(run, "binary"));
    const bool ok = (m->run_id = mem_strdup(text_at(run, "run_id", NULL), e)) &&
                    (m->created = mem_strdup(text_at(run, "created", NULL), e)) &&
                    (m->model_digest = mem_strdup(text_at(run, "model", "digest"), e)) &&
                    (m->event_digest = mem_strdup(text_at(run, "event", "digest"), e)) &&
                    (m->event_path = mem_strdup(text_at(run, "event", "path"), e));
    cJSON_Delete(run);
    return ok;
}

static bool read_row(struct totals_map *m, size_t *room, OGRFeatureH f, const int field[5], int strata,
                     struct zones *zones, struct err *e)
{
    struct totals_building b = {.fid = OGR_F_GetFID(f), .level = -1, .p_dmg = NAN};
    const char *id = OGR_F_GetFieldAsString(f, field[0]);
    if (!zones_point_of(OGR_F_GetGeometryRef(f), &b.lon, &b.lat))
        return err_set(e, ERR_INPUT,
                       "%s/damage.gpkg: building %.60s has no footprint; assess the event again", m->dir, id);
    if (OGR_F_IsFieldSetAndNotNull(f, field[1]))
        b.level = OGR_F_GetFieldAsInteger(f, field[1]);
    if (OGR_F_IsFieldSetAndNotNull(f, field[2]))
        b.p_dmg = OGR_F_GetFieldAsDouble(f, field[2]);
    b.trained = strcmp(OGR_F_GetFieldAsString(f, field[3]), "train") == 0;
    b.in_train_split = strcmp(OGR_F_GetFieldAsString(f, field[4]), "train") == 0;
    return add(m, room, &b, id, strata >= 0 ? OGR_F_GetFieldAsString(f, strata) : "", zones, e);
}

static bool read_map(struct totals_map *m, struct zones *zones, const struct progress *p, struct err *e)
{
    static const char *const names[5] = {"bldg_id", "dmg_level", "p_dmg", "lbl_src", "split"};
    static const char *const drivers[] = {"GPKG", NULL};
    char path[PATH_SIZE], why[300];
    int field[5], strata = -1;
    size_t room = 0;
    if (!file_join(path, sizeof path, m->dir, "damage.gpkg", e))
        return false;
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY, drivers, NULL, NULL);
    OGRLayerH layer = ds ? GDALDatasetGetLayerByName(ds, "buildings") : NULL;
    bool ok = layer != NULL;
    for (int k = 0; ok && k < 5; k++)
        ok = (field[k] = OGR_FD_GetFieldIndex(OGR_L_GetLayerDefn(layer), names[k])) >= 0;
    if (!ok)
        err_set(e, ERR_INPUT, "%s is no GeoPackage of a damage map: %s", path, geo_message(why, sizeof why));
    if (ok && m->strata_field && strcmp(m->strata_field, "zone") != 0 &&
        (strata = OGR_FD_GetFieldIndex(OGR_L_GetLayerDefn(layer), m->strata_field)) < 0)
        ok = err_set(e, ERR_INPUT, "%s has no column '%s' to make strata of", path, m->strata_field);
    if (ok)
        OGR_L_ResetReading(layer);
    for (OGRFeatureH f; ok && (f = OGR_L_GetNextFeature(layer)); OGR_F_Destroy(f)) {
        ok = read_row(m, &room, f, field, strata, zones, e);
        if (ok && m->n % 4096 == 0) {
            progress_report(p, "read", (double)m->n, (double)OGR_L_GetFeatureCount(layer, FALSE), NULL);
            if (progress_stopped(p))
                ok = err_set(e, ERR_INTERRUPTED, "interrupted; nothing was changed");
        }
    }
    if (ds)
        GDALClose(ds);
    return ok;
}

/* ---- an event without a map */

static bool read_event(struct totals_map *m, struct zones *zones, struct err *e)
{
    size_t room = 0;
    const char *field = m->strata_field;
    if (field && strcmp(field, "zone") != 0 && strcmp(field, "split") != 0 && strcmp(field, "status") != 0)
        return err_set(
            e, ERR_INPUT,
            "%s is an event, which has no column '%s'; make strata of a map, or of zone, split or status",
            m->dir, field);
    struct event *ev = event_open(m->dir, e);
    bool ok = ev != NULL;
    m->is_event = true;
    m->event_digest = ok ? mem_strdup(ev->digest, e) : NULL;
    ok = ok && m->event_digest;
    for (size_t i = 0; ok && i < ev->n; i++) {
        static const char *const split[] = {"train", "test", "buffer"};
        const struct event_building *b = &ev->building[i];
        struct totals_building to = {.fid = b->fid, .lon = b->lon, .lat = b->lat, .level = -1, .p_dmg = NAN};
        if (b->geometry)
            zones_point_of(b->geometry, &to.lon, &to.lat);
        to.in_train_split = b->split == IMAGESET_TRAIN;
        const char *value = field && strcmp(field, "status") == 0 ? b->status
                            : b->split < 3                        ? split[b->split]
                                                                  : "";
        ok = add(m, &room, &to, b->bldg_id ? b->bldg_id : "", value, zones, e);
    }
    event_close(ev);
    return ok;
}

/* ---- both */

static int by_id(const void *a, const void *b)
{
    return strcmp((*(struct totals_building *const *)a)->bldg_id,
                  (*(struct totals_building *const *)b)->bldg_id);
}

struct totals_building *totals_map_find(const struct totals_map *m, const char *bldg_id)
{
    struct totals_building key = {.bldg_id = (char *)(uintptr_t)bldg_id}, *k = &key;
    struct totals_building **at = bsearch(&k, m->by_id, m->n, sizeof(struct totals_building *), by_id);
    return at ? *at : NULL;
}

bool totals_map_open(struct totals_map *m, const char *dir, struct zones *zones, const char *strata_field,
                     const struct progress *p, struct err *e)
{
    char run[PATH_SIZE], manifest[PATH_SIZE];
    *m = (struct totals_map){0};
    if (strata_field && strcmp(strata_field, "zone") == 0 && !zones)
        return err_set(e, ERR_USAGE, "strata by zone need the zones: name their file with --zones");
    if (!file_join(run, sizeof run, dir, "run.json", e) ||
        !file_join(manifest, sizeof manifest, dir, "event.json", e))
        return false;
    bool ok =
        (m->dir = mem_strdup(dir, e)) && (!strata_field || (m->strata_field = mem_strdup(strata_field, e)));
    if (ok && file_exists(run))
        ok = read_run(m, e) && read_map(m, zones, p, e);
    else if (ok && file_exists(manifest))
        ok = read_event(m, zones, e);
    else if (ok)
        ok = err_set(e, ERR_NOT_FOUND, "%s is neither a damage map nor an event folder", dir);
    if (ok && m->n == 0)
        ok = err_set(e, ERR_INPUT, "%s holds no building", dir);
    if (ok && m->n > UINT32_MAX / 4)
        ok = err_set(e, ERR_INPUT, "%s holds more buildings than can be counted", dir);
    ok = ok && (m->by_id = mem_array(m->n, sizeof *m->by_id, "the index of buildings", e));
    for (size_t i = 0; ok && i < m->n; i++)
        m->by_id[i] = &m->building[i];
    if (ok)
        qsort(m->by_id, m->n, sizeof *m->by_id, by_id);
    if (ok && !m->strata_field) {
        m->stratum_size = mem_array(1, sizeof *m->stratum_size, "the strata", e);
        m->stratum = m->stratum_size ? mem_array(1, sizeof *m->stratum, "the strata", e) : NULL;
        ok = m->stratum && (m->stratum[0] = mem_strdup("", e));
        if (ok) {
            m->n_strata = 1;
            m->stratum_size[0] = (uint32_t)m->n;
        }
    }
    if (!ok)
        totals_map_close(m);
    return ok;
}
