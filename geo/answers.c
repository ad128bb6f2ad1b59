/* SPDX-License-Identifier: Apache-2.0
 * answers.c - reads the table of answers.h and lays its grades over an open event. */
#include "geo/answers.h"

#include "geo/raster.h"
#include "geo/vector.h"
#include "models/base/mem.h"

#include <cpl_error.h>
#include <stdlib.h>
#include <string.h>

struct by_id {
    const char *id;
    size_t index;
};

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct by_id *)a)->id, ((const struct by_id *)b)->id);
}

static bool split_spec(const char *spec, char *path, size_t path_size, const char **field, struct err *e)
{
    const char *colon = strrchr(spec, ':');
    if (!colon || colon == spec || !colon[1] || (size_t)(colon - spec) >= path_size)
        return err_set(e, ERR_USAGE,
                       "'%s' is no table of answers; write FILE:FIELD, such as survey.csv:damage", spec);
    memcpy(path, spec, (size_t)(colon - spec));
    path[colon - spec] = '\0';
    *field = colon + 1;
    return true;
}

/* Whether a row judges instead of teaching. */
static bool read_purpose(OGRFeatureH f, int column, const char *path, const char *id, bool *validate,
                         struct err *e)
{
    const char *word = column < 0 ? "" : OGR_F_GetFieldAsString(f, column);
    *validate = strcmp(word, "validate") == 0;
    return *validate || !*word || strcmp(word, "train") == 0 ||
           err_set(e, ERR_INPUT, "%s: the purpose of building %.60s is train or validate, not '%.60s'", path,
                   id, word);
}

/* validate [ev->n]: NULL when purposes do not matter. */
static bool read_rows(struct event *ev, OGRLayerH layer, const char *path, const char *field,
                      const struct by_id *index, bool *validate, size_t *n_matched, struct err *e)
{
    OGRFeatureDefnH defn = OGR_L_GetLayerDefn(layer);
    const int id = OGR_FD_GetFieldIndex(defn, "bldg_id"), grade = OGR_FD_GetFieldIndex(defn, field),
              purpose = validate ? OGR_FD_GetFieldIndex(defn, "purpose") : -1;
    const struct label_map scale = {0};
    bool ok = true;
    if (id < 0 || grade < 0)
        return err_set(e, ERR_INPUT, "%s: has no column %s", path, id < 0 ? "bldg_id" : field);
    OGR_L_ResetReading(layer);
    for (OGRFeatureH f; ok && (f = OGR_L_GetNextFeature(layer)); OGR_F_Destroy(f)) {
        const struct by_id key = {.id = OGR_F_GetFieldAsString(f, id)};
        const struct by_id *at = bsearch(&key, index, ev->n, sizeof *index, compare);
        int level = -1;
        bool judges = false;
        if (at && !read_purpose(f, purpose, path, key.id, &judges, e)) {
            ok = false;
            continue;
        }
        if (judges)
            validate[at->index] = true;
        if (!at || !OGR_F_IsFieldSetAndNotNull(f, grade) || !*OGR_F_GetFieldAsString(f, grade))
            continue;
        if (!label_map_find(&scale, OGR_F_GetFieldAsString(f, grade), &level)) {
            ok = err_set(e, ERR_INPUT,
                         "%s: '%.60s' of building %.60s is no grade; write none, minor, major, destroyed "
                         "or unknown, or 0 to 3",
                         path, OGR_F_GetFieldAsString(f, grade), key.id);
            continue;
        }
        int16_t *own = &ev->building[at->index].level;
        if (level >= 0 && *own >= 0 && *own != level)
            ok = err_set(e, ERR_INPUT, "%s: grades building %.60s twice, as %s and as %s; keep one of them",
                         path, key.id, event_level_name(*own), event_level_name(level));
        *n_matched += level >= 0 && *own < 0;
        *own = level >= 0 ? (int16_t)level : *own;
    }
    return ok;
}

static bool apply(struct event *ev, const char *spec, bool *validate, size_t *n_matched, struct err *e)
{
    char path[4096], why[300];
    const char *field = "";
    *n_matched = 0;
    if (!split_spec(spec, path, sizeof path, &field, e))
        return false;
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY, NULL, NULL, NULL);
    OGRLayerH layer = ds ? GDALDatasetGetLayer(ds, 0) : NULL;
    struct by_id *index = layer ? mem_array(ev->n, sizeof *index, "the index of buildings", e) : NULL;
    bool ok = index;
    if (!layer)
        err_set(e, ERR_INPUT, "%s: is no table that can be read: %s", path, geo_message(why, sizeof why));
    for (size_t i = 0; ok && i < ev->n; i++) {
        index[i] = (struct by_id){ev->building[i].bldg_id ? ev->building[i].bldg_id : "", i};
        ev->building[i].level = -1;
    }
    if (ok) {
        qsort(index, ev->n, sizeof *index, compare);
        ok = read_rows(ev, layer, path, field, index, validate, n_matched, e);
    }
    if (ok && *n_matched == 0)
        ok = err_set(e, ERR_INPUT, "%s: none of its bldg_id belongs to a building of %s", path, ev->dir);
    free(index);
    if (ds)
        GDALClose(ds);
    return ok;
}

bool answers_apply(struct event *ev, const char *spec, size_t *n_matched, struct err *e)
{
    return apply(ev, spec, NULL, n_matched, e);
}

bool answers_apply_training(struct event *ev, const char *spec, size_t *n_matched, size_t *n_kept_out,
                            struct err *e)
{
    bool *validate = mem_array(ev->n, sizeof *validate, "the purposes of answers", e);
    bool ok = validate && apply(ev, spec, validate, n_matched, e);
    *n_kept_out = 0;
    for (size_t i = 0; ok && i < ev->n; i++) {
        if (!validate[i])
            continue;
        *n_matched -= ev->building[i].level >= 0;
        ev->building[i].level = -1;
        ++*n_kept_out;
    }
    if (ok && *n_matched == 0)
        ok = err_set(e, ERR_INPUT, "%s: all of its grades have the purpose validate; none may be trained on",
                     spec);
    free(validate);
    return ok;
}
