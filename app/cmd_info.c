/* SPDX-License-Identifier: Apache-2.0
 * cmd_info.c - `aftermap info`: what the program understands of a raster, a vector file, an event, a map or a
 * model. Each kind fills one JSON object; the text form is that object, a line a member. */
#include "app/command.h"
#include "app/console.h"
#include "geo/event.h"
#include "models/base/file.h"
#include "models/learn/predict.h"
#include "models/net/checkpoint.h"

#include <cpl_conv.h>
#include <cpl_error.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct info_cmd {
    struct string_list files;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct info_cmd *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        list_add(&c->files, arg);
        return 0;
    case ARGP_KEY_END:
        if (c->files.n == 0)
            argp_error(state, "name at least one file or folder");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void add_crs(cJSON *j, OGRSpatialReferenceH srs)
{
    if (!srs) {
        cJSON_AddNullToObject(j, "crs");
        return;
    }
    const char *authority = OSRGetAuthorityName(srs, NULL), *code = OSRGetAuthorityCode(srs, NULL),
               *name = OSRGetName(srs);
    char text[256];
    snprintf(text, sizeof text, "%s%s%s%s%s", authority ? authority : "", authority ? ":" : "",
             authority && code ? code : "", authority ? " " : "", name ? name : "");
    cJSON_AddStringToObject(j, "crs", text);
}

static bool raster_info(const char *path, GDALDatasetH ds, cJSON *j, struct err *e)
{
    double gt[6];
    cJSON_AddStringToObject(j, "kind", "raster");
    cJSON_AddNumberToObject(j, "width", GDALGetRasterXSize(ds));
    cJSON_AddNumberToObject(j, "height", GDALGetRasterYSize(ds));
    cJSON_AddNumberToObject(j, "bands", GDALGetRasterCount(ds));
    GDALRasterBandH band = GDALGetRasterBand(ds, 1);
    cJSON_AddStringToObject(j, "type", GDALGetDataTypeName(GDALGetRasterDataType(band)));
    add_crs(j, GDALGetSpatialRef(ds));
    if (GDALGetGeoTransform(ds, gt) == CE_None)
        cJSON_AddItemToObject(j, "geotransform", cJSON_CreateDoubleArray(gt, 6));
    int has_nodata = 0;
    double nodata = GDALGetRasterNoDataValue(band, &has_nodata);
    if (has_nodata)
        cJSON_AddNumberToObject(j, "nodata", nodata);
    if (GDALGetMetadataItem(ds, "SYNTHETIC", NULL))
        cJSON_AddBoolToObject(j, "synthetic", true);
    if (!GDALGetSpatialRef(ds))
        return err_set(e, ERR_INPUT,
                       "%s: has no coordinate system; assign one, e.g. gdal_edit.py -a_srs EPSG:... %s", path,
                       path);
    if (GDALGetGeoTransform(ds, gt) != CE_None)
        return err_set(e, ERR_INPUT, "%s: has no geotransform; georeference it first", path);
    return true;
}

static void vector_info(GDALDatasetH ds, cJSON *j)
{
    cJSON_AddStringToObject(j, "kind", "vector");
    cJSON *layers = cJSON_AddArrayToObject(j, "layers");
    for (int i = 0; i < GDALDatasetGetLayerCount(ds); i++) {
        OGRLayerH layer = GDALDatasetGetLayer(ds, i);
        OGRFeatureDefnH defn = OGR_L_GetLayerDefn(layer);
        cJSON *o = cJSON_CreateObject(), *fields = cJSON_CreateArray();
        cJSON_AddStringToObject(o, "name", OGR_L_GetName(layer));
        cJSON_AddNumberToObject(o, "features", (double)OGR_L_GetFeatureCount(layer, TRUE));
        cJSON_AddStringToObject(o, "geometry", OGRGeometryTypeToName(OGR_L_GetGeomType(layer)));
        add_crs(o, OGR_L_GetSpatialRef(layer));
        for (int f = 0; f < OGR_FD_GetFieldCount(defn); f++)
            cJSON_AddItemToArray(fields,
                                 cJSON_CreateString(OGR_Fld_GetNameRef(OGR_FD_GetFieldDefn(defn, f))));
        cJSON_AddItemToObject(o, "fields", fields);
        cJSON_AddItemToArray(layers, o);
    }
}

static bool gdal_info(const char *path, cJSON *j, struct err *e)
{
    CPLErrorReset();
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_READONLY | GDAL_OF_RASTER | GDAL_OF_VECTOR, NULL, NULL, NULL);
    if (!ds) {
        const char *why = CPLGetLastErrorMsg();
        return err_set(e, ERR_INPUT, "%s: no raster, vector file, event, map or model that can be read%s%s",
                       path, why && *why ? ": " : "", why ? why : "");
    }
    bool ok = true;
    cJSON_AddStringToObject(j, "driver", GDALGetDriverShortName(GDALGetDatasetDriver(ds)));
    if (GDALGetRasterCount(ds) > 0)
        ok = raster_info(path, ds, j, e);
    else
        vector_info(ds, j);
    GDALClose(ds);
    return ok;
}

static bool event_info(const char *path, cJSON *j, struct err *e)
{
    struct event *ev = event_open(path, e);
    if (!ev)
        return false;
    size_t level[5] = {0};
    for (size_t i = 0; i < ev->n; i++)
        level[ev->building[i].level + 1]++;
    cJSON_AddStringToObject(j, "kind", "event");
    cJSON_AddStringToObject(j, "digest", ev->digest);
    cJSON_AddNumberToObject(j, "buildings", (double)ev->n);
    cJSON_AddNumberToObject(j, "chips", (double)ev->n_chips);
    cJSON_AddNumberToObject(j, "chip_px", ev->layout.size);
    cJSON_AddNumberToObject(j, "bands", ev->layout.n_bands);
    cJSON_AddNumberToObject(j, "gsd_m", ev->grid.gsd_m);
    cJSON *labels = cJSON_AddObjectToObject(j, "labels");
    for (int i = -1; i < 4; i++)
        cJSON_AddNumberToObject(labels, event_level_name(i), (double)level[i + 1]);
    event_close(ev);
    return true;
}

/* A model that makes images up: no classifier, so nothing of a classifier is told. */
static void generator_info(const struct checkpoint *c, const char *kind, cJSON *j)
{
    char text[160];
    snprintf(text, sizeof text, "%.32s model", kind);
    cJSON_AddStringToObject(j, "kind", text);
    cJSON_AddStringToObject(j, "use", "makes images up (aftermap lab); tells no damage");
    cJSON_AddStringToObject(j, "digest", checkpoint_digest(c));
}

static bool classifier_info(const char *path, cJSON *j, struct err *e)
{
    struct model *m = model_load(path, e);
    size_t n_labeled;
    if (!m)
        return false;
    cJSON_AddStringToObject(j, "kind", "model");
    cJSON_AddStringToObject(j, "digest", model_digest(m));
    cJSON_AddNumberToObject(j, "parameters", (double)net_count_params(model_net(m)));
    model_labeled_ids(m, &n_labeled);
    cJSON_AddNumberToObject(j, "labels_used", (double)n_labeled);
    model_free(m);
    return true;
}

static bool model_info(const char *path, cJSON *j, struct err *e)
{
    struct checkpoint *c = checkpoint_open(path, e);
    const char *kind = c ? checkpoint_meta_get(c, "aftermap.kind") : NULL;
    bool ok = c;
    if (kind)
        generator_info(c, kind, j);
    else
        ok = ok && classifier_info(path, j, e);
    if (ok) {
        cJSON *meta = cJSON_AddObjectToObject(j, "metadata");
        for (int i = 0; i < checkpoint_meta_count(c); i++)
            cJSON_AddStringToObject(meta, checkpoint_meta_at(c, i).key, checkpoint_meta_at(c, i).value);
    }
    checkpoint_close(c);
    return ok;
}

static bool map_info(const char *run_json, cJSON *j, struct err *e)
{
    char *text = file_read(run_json, 64 << 20, NULL, e);
    if (!text)
        return false;
    cJSON *run = cJSON_Parse(text);
    free(text);
    if (!run)
        return err_set(e, ERR_INPUT, "%s: is not valid JSON; make the map again with `aftermap assess`",
                       run_json);
    cJSON_AddStringToObject(j, "kind", "map");
    cJSON_AddItemToObject(j, "run", run);
    return true;
}

static bool describe(const char *path, cJSON *j, struct err *e)
{
    char inner[4096];
    size_t n = strlen(path);
    cJSON_AddStringToObject(j, "file", path);
    if (file_is_dir(path)) {
        if (!file_join(inner, sizeof inner, path, "event.json", e))
            return false;
        if (file_exists(inner))
            return event_info(path, j, e);
        if (!file_join(inner, sizeof inner, path, "run.json", e))
            return false;
        if (file_exists(inner))
            return map_info(inner, j, e);
    } else if (n > 12 && strcmp(path + n - 12, ".safetensors") == 0) {
        return model_info(path, j, e);
    }
    return gdal_info(path, j, e);
}

static void print_text(const cJSON *j, int depth)
{
    for (const cJSON *o = j->child; o; o = o->next) {
        if (cJSON_IsObject(o) || (cJSON_IsArray(o) && o->child && cJSON_IsObject(o->child))) {
            printf("%*s%s\n", 2 * depth, "", o->string ? o->string : "-");
            print_text(o, depth + 1);
            continue;
        }
        char *value = cJSON_IsString(o) ? NULL : cJSON_PrintUnformatted(o);
        printf("%*s%-*s %s\n", 2 * depth, "", 24 - 2 * depth, o->string ? o->string : "-",
               cJSON_IsString(o) ? o->valuestring
               : value           ? value
                                 : "");
        cJSON_free(value);
    }
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct info_cmd *c = options_;
    cJSON *all = cJSON_CreateArray();
    bool ok = true;
    (void)progress;
    for (int i = 0; i < c->files.n; i++) { /* every file is described; the first failure is the command's */
        struct err one = {0};
        cJSON *j = cJSON_CreateObject();
        if (!describe(c->files.item[i], j, &one)) {
            cJSON_AddStringToObject(j, "error", one.msg);
            if (ok)
                *e = one;
            ok = false;
        }
        if (!common->json) {
            print_text(j, 0);
            if (i + 1 < c->files.n)
                putchar('\n');
        }
        cJSON_AddItemToArray(all, j);
    }
    if (!common->json) {
        cJSON_Delete(all);
        return flush_stdout(ok ? e : NULL) && ok;
    }
    return print_json(all, ok ? e : NULL) && ok;
}

const struct command command_info = {
    .name = "info",
    .args_doc = "FILE...",
    .summary = "Tell what a file is and whether it can be used",
    .doc = "Describes rasters, vector files, event folders, map folders and models.\v"
           "Exits with 3 when one of them cannot be used, and says why.",
    .parse = parse,
    .options_size = sizeof(struct info_cmd),
    .run = run,
};
