/* SPDX-License-Identifier: Apache-2.0
 * scores.c - predictions kept beside their model (scores.h). */
#include "web/scores.h"

#include "geo/mapping.h"

#include "models/base/file.h"
#include "models/base/mem.h"

#include <cJSON.h>
#include <errno.h>
#include <gdal.h>
#include <limits.h>
#include <math.h>
#include <ogr_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "m-7" of the model that made the map; "" when it is none of the assessment's own. */
static bool model_of(const char *map, char name[32], struct err *e)
{
    *name = '\0';
    cJSON *run = mapping_run_read(map, e);
    if (!run)
        return false;
    const char *model = cJSON_GetStringValue(
                   cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(run, "model"), "path")),
               *base = model ? file_base(model) : "";
    size_t digits = strncmp(base, "m-", 2) == 0 ? strspn(base + 2, "0123456789") : 0;
    if (digits > 0 && digits < 19 && strcmp(base + 2 + digits, ".safetensors") == 0)
        snprintf(name, 32, "m-%.*s", (int)digits, base + 2);
    cJSON_Delete(run);
    return true;
}

/* The rows of the map's table, as long as the map is `model`'s to the end: a new one may take its place meanwhile, which
 * is shown, and kept, in its turn. */
static bool write_rows(const char *map, const char *model, const char *path, struct err *e)
{
    char from[PATH_MAX], now[32];
    const char *const drivers[] = {"GPKG", NULL};
    if (!file_join(from, sizeof from, map, "damage.gpkg", e))
        return false;
    GDALDatasetH ds = GDALOpenEx(from, GDAL_OF_VECTOR | GDAL_OF_READONLY, drivers, NULL, NULL);
    OGRLayerH layer = ds ? GDALDatasetGetLayer(ds, 0) : NULL;
    OGRFeatureDefnH defn = layer ? OGR_L_GetLayerDefn(layer) : NULL;
    const int id = defn ? OGR_FD_GetFieldIndex(defn, "bldg_id") : -1,
              p = defn ? OGR_FD_GetFieldIndex(defn, "p_dmg") : -1,
              level = defn ? OGR_FD_GetFieldIndex(defn, "dmg_level") : -1;
    struct file_out *out = NULL;
    bool ok = true;
    if (id < 0 || p < 0 || level < 0)
        ok = err_set(e, ERR_INPUT, "%s has no readable table of predictions; predict again", from);
    ok = ok && (out = file_out_open(path, e)) != NULL;
    for (OGRFeatureH f; ok && (f = OGR_L_GetNextFeature(layer)); OGR_F_Destroy(f)) {
        const char *name = OGR_F_GetFieldAsString(f, id);
        if (OGR_F_IsFieldSetAndNotNull(f, p) && OGR_F_IsFieldSetAndNotNull(f, level) && *name &&
            !strchr(name, '\n'))
            fprintf(file_out_stream(out), "%.7g %d %s\n", OGR_F_GetFieldAsDouble(f, p),
                    OGR_F_GetFieldAsInteger(f, level), name);
    }
    if (ds)
        GDALClose(ds);
    ok = ok && model_of(map, now, e);
    if (ok && strcmp(now, model) == 0)
        return file_out_commit(out, e);
    file_out_abort(out);
    return ok;
}

bool scores_keep(const char *map, const char *models, struct err *e)
{
    char model[32], name[48], path[PATH_MAX];
    if (!model_of(map, model, e))
        return false;
    snprintf(name, sizeof name, "%s.scores", model);
    return !*model || (file_join(path, sizeof path, models, name, e) && write_rows(map, model, path, e));
}

/* False: the line is none of ours. */
static bool read_line(char *line, const struct event_loan *l, struct scores *s)
{
    char *end, *id;
    float p = strtof(line, &end);
    if (end == line || *end != ' ' || !(p >= 0 && p <= 1))
        return false;
    long level = strtol(end + 1, &id, 10);
    if (id == end + 1 || *id != ' ' || level < -1 || level > 3)
        return false;
    id++;
    id[strcspn(id, "\n")] = '\0';
    size_t at = event_loan_find(l, id);
    if (at < event_loan_event(l)->n) {
        s->p[at] = p;
        s->level[at] = (int8_t)level;
    }
    return true;
}

bool scores_read(const char *path, const struct event_loan *l, struct scores *s, struct err *e)
{
    const size_t n = event_loan_event(l)->n;
    char *line = NULL;
    size_t room = 0;
    *s = (struct scores){.p = mem_array(n, sizeof *s->p, "the scores", e)};
    s->level = s->p ? mem_array(n, sizeof *s->level, "the scores", e) : NULL;
    FILE *in = s->level ? fopen(path, "re") : NULL;
    bool ok = in != NULL;
    if (s->level && !in)
        err_errno(e, ERR_INPUT, errno, "%s cannot be read", path);
    for (size_t i = 0; ok && i < n; i++) {
        s->p[i] = NAN;
        s->level[i] = -1;
    }
    while (ok && getline(&line, &room, in) > 0)
        ok = read_line(line, l, s) ||
             err_set(e, ERR_INPUT, "%s holds a line that is no score; predict with its model again", path);
    if (ok && ferror(in))
        ok = err_errno(e, ERR_INPUT, EIO, "%s cannot be read", path);
    if (in)
        fclose(in);
    free(line);
    if (!ok)
        scores_free(s);
    return ok;
}

void scores_free(struct scores *s)
{
    free(s->p);
    free(s->level);
    *s = (struct scores){0};
}
