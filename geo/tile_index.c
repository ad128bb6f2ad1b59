/* SPDX-License-Identifier: Apache-2.0
 *
 * tile_index.c - the two descriptions of an event: chips.gpkg, one row per footprint, and event.json, what it
 * was made from and how. Declared in tile_parts.h; their form is event.h's.
 *
 * Neither holds a time of day: the same inputs, options and seed give the same bytes, so the manifest's
 * digest names the event. The manifest holds the digests of both other files. */
#include "geo/tile_parts.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include <cJSON.h>
#include <cpl_conv.h>
#include <cpl_string.h>
#include <cpl_vsi.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- chips.gpkg
 * ------------------------------------------------------------------------------------------------------- */

enum column {
    BLDG_ID,
    PAGE,
    STATUS,
    REASON,
    DMG_CLASS,
    DMG_LEVEL,
    BLOCK,
    SPLIT,
    LON,
    LAT,
    X_M,
    Y_M,
    AREA_M2,
    BLANK,
    N_COLUMNS
};

static const struct {
    const char *name;
    OGRFieldType type;
} column[N_COLUMNS] = {
    [BLDG_ID] = {"bldg_id", OFTString},
    [PAGE] = {"page", OFTInteger64},
    [STATUS] = {"status", OFTString},
    [REASON] = {"reason", OFTString},
    [DMG_CLASS] = {"dmg_class", OFTString},
    [DMG_LEVEL] = {"dmg_level", OFTInteger},
    [BLOCK] = {"block", OFTInteger},
    [SPLIT] = {"split", OFTString},
    [LON] = {"lon", OFTReal},
    [LAT] = {"lat", OFTReal},
    [X_M] = {"x_m", OFTReal},
    [Y_M] = {"y_m", OFTReal},
    [AREA_M2] = {"area_m2", OFTReal},
    [BLANK] = {"blank", OFTReal},
};

static bool write_row(OGRLayerH layer, const struct tiling *t, size_t i, bool multi)
{
    static const char *const split_name[] = {"train", "test", "buffer"};
    const struct vector_footprint *f = &t->v.item[i];
    const struct tile_chip *c = &t->chip[i];
    OGRFeatureH row = OGR_F_Create(OGR_L_GetLayerDefn(layer));
    OGR_F_SetFID(row, (GIntBig)i + 1);
    OGR_F_SetFieldString(row, BLDG_ID, f->bldg_id);
    OGR_F_SetFieldInteger64(row, PAGE, c->page);
    OGR_F_SetFieldString(row, STATUS, c->page >= 0 ? "ok" : "excluded");
    OGR_F_SetFieldString(row, REASON, c->page >= 0 ? "" : "nodata");
    OGR_F_SetFieldString(row, DMG_CLASS, event_level_name(f->level));
    OGR_F_SetFieldInteger(row, DMG_LEVEL, f->level);
    OGR_F_SetFieldInteger(row, BLOCK, c->block);
    OGR_F_SetFieldString(row, SPLIT, split_name[c->split]);
    OGR_F_SetFieldDouble(row, LON, f->lon);
    OGR_F_SetFieldDouble(row, LAT, f->lat);
    OGR_F_SetFieldDouble(row, X_M, f->x_m);
    OGR_F_SetFieldDouble(row, Y_M, f->y_m);
    OGR_F_SetFieldDouble(row, AREA_M2, f->area_m2);
    OGR_F_SetFieldDouble(row, BLANK, c->blank);
    OGRGeometryH g = OGR_G_Clone(f->geometry);
    if (multi)
        g = OGR_G_ForceToMultiPolygon(g);
    bool ok =
        OGR_F_SetGeometryDirectly(row, g) == OGRERR_NONE && OGR_L_CreateFeature(layer, row) == OGRERR_NONE;
    OGR_F_Destroy(row);
    return ok;
}

static bool write_layer(GDALDatasetH ds, const struct tiling *t)
{
    bool multi = false, ok = true;
    for (size_t i = 0; i < t->v.n && !multi; i++)
        multi = wkbFlatten(OGR_G_GetGeometryType(t->v.item[i].geometry)) != wkbPolygon;
    OGRSpatialReferenceH wgs84 = geo_srs("EPSG:4326", NULL);
    OGRLayerH layer =
        GDALDatasetCreateLayer(ds, "buildings", wgs84, multi ? wkbMultiPolygon : wkbPolygon, NULL);
    OSRDestroySpatialReference(wgs84);
    if (!layer || GDALDatasetStartTransaction(ds, FALSE) != OGRERR_NONE)
        return false;
    for (int k = 0; ok && k < N_COLUMNS; k++) {
        OGRFieldDefnH field = OGR_Fld_Create(column[k].name, column[k].type);
        ok = OGR_L_CreateField(layer, field, TRUE) == OGRERR_NONE;
        OGR_Fld_Destroy(field);
    }
    for (size_t i = 0; ok && i < t->v.n; i++)
        ok = write_row(layer, t, i, multi);
    return ok && GDALDatasetCommitTransaction(ds) == OGRERR_NONE;
}

bool tile_write_index(const struct tiling *t, const char *path, struct err *e)
{
    char why[200];
    CPLErrorReset();
    CPLSetThreadLocalConfigOption("OGR_CURRENT_DATE", "1970-01-01T00:00:00.000Z");
    GDALDatasetH ds = GDALCreate(GDALGetDriverByName("GPKG"), path, 0, 0, 0, GDT_Unknown, NULL);
    bool ok = ds && write_layer(ds, t);
    if (ds) {
        GDALFlushCache(ds);
        GDALClose(ds); /* writes the spatial index and the extent */
    }
    CPLSetThreadLocalConfigOption("OGR_CURRENT_DATE", NULL);
    if (ok && CPLGetLastErrorType() < CE_Failure)
        return true;
    geo_message(why, sizeof why);
    bool full = strstr(why, "is full") || strstr(why, "disk I/O error");
    return err_set(e, full ? ERR_RESOURCE : ERR_RUNTIME, "%s cannot be written (%s)", path, why);
}

/* ---- event.json
 * ------------------------------------------------------------------------------------------------------- */

static bool is_regular(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static void *digest_images(void *arg)
{
    struct tiling *t = arg;
    struct tile_digests *g = &t->digests;
    g->ok = true;
    for (int d = 0; d < 2; d++)
        for (int i = 0; g->ok && i < t->set[d].n; i++) {
            const char *path = t->set[d].file[i].path;
            if (progress_stopped(t->p))
                g->ok = err_set(&g->err, ERR_INTERRUPTED, "interrupted");
            else if (is_regular(path))
                g->ok = file_sha256(path, g->hex[d][i], &g->err);
        }
    return NULL;
}

bool tile_digests_start(struct tiling *t, struct err *e)
{
    struct tile_digests *g = &t->digests;
    for (int d = 0; d < 2; d++)
        if (!(g->hex[d] = mem_array((size_t)t->set[d].n, sizeof *g->hex[d], "the digests of the images", e)))
            return false;
    int why = pthread_create(&g->thread, NULL, digest_images, t);
    g->is_running = why == 0;
    return why == 0 ? true : err_errno(e, ERR_RESOURCE, why, "no thread can be started");
}

bool tile_digests_end(struct tiling *t, struct err *e)
{
    struct tile_digests *g = &t->digests;
    progress_report(t->p, "digest", 0, 1, NULL);
    if (g->is_running)
        pthread_join(g->thread, NULL);
    g->is_running = false;
    if (g->ok && progress_stopped(t->p))
        g->ok = err_set(&g->err, ERR_INTERRUPTED, "interrupted");
    if (!g->ok && e)
        *e = g->err;
    return g->ok;
}

void tile_digests_free(struct tiling *t)
{
    free(t->digests.hex[0]);
    free(t->digests.hex[1]);
}

/* Path and identity of a file: its digest (known: computed already, or NULL), or for /vsi names what the file system
 * tells. */
static cJSON *describe_file(const char *path, const char *known, struct err *e)
{
    char hex[65];
    struct stat st;
    VSIStatBufL vst;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "path", path);
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
        if (!(known && *known) && !file_sha256(path, hex, e)) {
            cJSON_Delete(o);
            return NULL;
        }
        cJSON_AddNumberToObject(o, "bytes", (double)st.st_size);
        cJSON_AddStringToObject(o, "sha256", known && *known ? known : hex);
    } else if (VSIStatL(path, &vst) == 0) {
        cJSON_AddNumberToObject(o, "bytes", (double)vst.st_size);
        cJSON_AddNumberToObject(o, "modified", (double)vst.st_mtime);
    }
    return o;
}

static cJSON *describe_rasters(const struct tiling *t, int date, struct err *e)
{
    const struct raster_set *s = &t->set[date];
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < s->n; i++) {
        const struct raster_file *f = &s->file[i];
        cJSON *o = describe_file(f->path, t->digests.hex[date] ? t->digests.hex[date][i] : NULL, e);
        if (!o) {
            cJSON_Delete(list);
            return NULL;
        }
        cJSON_AddNumberToObject(o, "width", f->width);
        cJSON_AddNumberToObject(o, "height", f->height);
        cJSON_AddNumberToObject(o, "bands", f->n_bands);
        cJSON_AddStringToObject(o, "type", GDALGetDataTypeName(f->type));
        cJSON_AddNumberToObject(o, "gsd_m", f->gsd_m);
        cJSON_AddStringToObject(o, "crs", f->wkt);
        if (*f->date)
            cJSON_AddStringToObject(o, "date", f->date);
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

static cJSON *describe_footprints(const struct tiling *t, struct err *e)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < t->v.n_paths; i++) {
        cJSON *o = describe_file(t->v.path[i], NULL, e);
        if (!o) {
            cJSON_Delete(list);
            return NULL;
        }
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

static void add_text(cJSON *o, const char *key, const char *text)
{
    if (text)
        cJSON_AddStringToObject(o, key, text);
    else
        cJSON_AddNullToObject(o, key);
}

static void add_options(cJSON *root, const struct tiling *t)
{
    const struct tile_options *o = t->o;
    cJSON *j = cJSON_AddObjectToObject(root, "options");
    cJSON_AddNumberToObject(j, "gsd_m", o->gsd_m);
    cJSON_AddNumberToObject(j, "size_m", o->size_m);
    cJSON_AddNumberToObject(j, "grid_m", o->grid_m);
    cJSON *bands = cJSON_AddArrayToObject(j, "bands");
    for (int b = 0; b < t->layout.n_bands; b++)
        cJSON_AddItemToArray(bands, cJSON_CreateNumber(t->set[0].file[0].band[b]));
    add_text(j, "layer", o->layer);
    add_text(j, "id_field", o->id_field);
    add_text(j, "label_field", o->label_field);
    add_text(j, "label_map", o->label_map);
    cJSON_AddNumberToObject(j, "max_blank", o->max_blank);
}

static void add_grid(cJSON *root, const struct tiling *t)
{
    cJSON *j = cJSON_AddObjectToObject(root, "grid");
    cJSON_AddStringToObject(j, "wkt", t->grid.wkt);
    cJSON_AddItemToObject(j, "geotransform", cJSON_CreateDoubleArray(t->grid.geotransform, 6));
    cJSON_AddNumberToObject(j, "width", t->grid.width);
    cJSON_AddNumberToObject(j, "height", t->grid.height);
    cJSON_AddNumberToObject(j, "gsd_m", t->grid.gsd_m);
    j = cJSON_AddObjectToObject(root, "layout");
    cJSON_AddNumberToObject(j, "size", t->layout.size);
    cJSON_AddNumberToObject(j, "dates", t->layout.n_dates);
    cJSON_AddNumberToObject(j, "bands", t->layout.n_bands);
    cJSON_AddBoolToObject(j, "masks", t->layout.has_masks);
    cJSON_AddBoolToObject(j, "footprint", t->layout.use_footprint);
    j = cJSON_AddObjectToObject(root, "scaling");
    for (int d = 0; d < 2; d++) {
        cJSON *list = cJSON_AddArrayToObject(j, t->set[d].phase);
        for (int b = 0; b < t->layout.n_bands; b++)
            cJSON_AddItemToArray(list, cJSON_CreateDoubleArray((double[]){t->lo[d][b], t->hi[d][b]}, 2));
    }
}

static void add_split(cJSON *root, const struct tiling *t)
{
    cJSON *j = cJSON_AddObjectToObject(root, "split");
    cJSON_AddStringToObject(j, "method",
                            t->split.random              ? "random"
                            : t->split_report.components ? "components"
                                                         : "grid");
    cJSON_AddNumberToObject(j, "link_m", t->split.link_m);
    cJSON_AddNumberToObject(j, "block_m", t->split.block_m);
    cJSON_AddNumberToObject(j, "buffer_m", t->split.buffer_m);
    cJSON_AddNumberToObject(j, "test_share", t->split.test_share);
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)t->split.seed);
    cJSON_AddStringToObject(j, "seed", seed); /* text: 64 bits do not fit a JSON number */
    cJSON_AddNumberToObject(j, "blocks", t->split_report.n_blocks);
    cJSON_AddNumberToObject(j, "test_blocks", t->split_report.n_test_blocks);
}

static void add_counts(cJSON *root, const struct tiling *t, const struct tile_report *r)
{
    cJSON *j = cJSON_AddObjectToObject(root, "counts");
    cJSON_AddNumberToObject(j, "footprints", (double)r->n_footprints);
    cJSON_AddNumberToObject(j, "chips", (double)r->n_chips);
    cJSON_AddNumberToObject(j, "excluded", (double)r->n_excluded);
    cJSON_AddNumberToObject(j, "repaired", (double)r->n_repaired);
    cJSON_AddNumberToObject(j, "without_outline", (double)t->v.n_dropped);
    cJSON_AddNumberToObject(j, "renamed_ids", (double)t->v.n_renamed);
    cJSON_AddNumberToObject(j, "points", (double)t->v.n_points);
    cJSON_AddNumberToObject(j, "labeled", (double)r->n_labeled);
    for (int k = 0; k < 4; k++)
        cJSON_AddNumberToObject(j, event_level_name(k), (double)r->n_level[k]);
    cJSON_AddNumberToObject(j, "train", (double)r->n_train);
    cJSON_AddNumberToObject(j, "test", (double)r->n_test);
    cJSON_AddNumberToObject(j, "buffer", (double)r->n_buffer);
}

static bool add_part(cJSON *root, const char *key, const char *dir, const char *name, const char *count,
                     size_t n, struct err *e)
{
    char path[4096], hex[65];
    struct stat st;
    if (!file_join(path, sizeof path, dir, name, e) || !file_sha256(path, hex, e) || stat(path, &st) != 0)
        return false;
    cJSON *j = cJSON_AddObjectToObject(root, key);
    cJSON_AddStringToObject(j, "file", name);
    cJSON_AddNumberToObject(j, count, (double)n);
    cJSON_AddNumberToObject(j, "bytes", (double)st.st_size);
    cJSON_AddStringToObject(j, "sha256", hex);
    return true;
}

bool tile_write_manifest(const struct tiling *t, const char *dir, const struct tile_report *r, struct err *e)
{
    char path[4096], *text = NULL;
    cJSON *root = cJSON_CreateObject(), *inputs = cJSON_AddObjectToObject(root, "inputs");
    cJSON_AddStringToObject(root, "kind", "aftermap event");
    cJSON_AddNumberToObject(root, "format", 1);
    cJSON_AddStringToObject(root, "program", AM_VERSION);
    for (int d = 0, any = 0; d < 2 && !any; d++)
        for (int i = 0; i < t->set[d].n && !any; i++)
            if (t->set[d].file[i].is_synthetic)
                any = cJSON_AddTrueToObject(root, "synthetic") != NULL; /* synthetic.h */
    cJSON *part[3] = {0};
    bool ok = (part[0] = describe_rasters(t, 0, e)) && (part[1] = describe_rasters(t, 1, e)) &&
              (part[2] = describe_footprints(t, e));
    for (int i = 0; i < 3; i++)
        if (part[i])
            cJSON_AddItemToObject(inputs, (const char *[]){"pre", "post", "footprints"}[i], part[i]);
    add_options(root, t);
    add_grid(root, t);
    add_split(root, t);
    add_counts(root, t, r);
    ok = ok && add_part(root, "chips", dir, "chips.tif", "pages", t->n_pages, e) &&
         add_part(root, "index", dir, "chips.gpkg", "rows", t->v.n, e) &&
         file_join(path, sizeof path, dir, "event.json", e);
    if (ok && !(text = cJSON_Print(root)))
        ok = err_set(e, ERR_RESOURCE, "there is no memory for the event's manifest");
    ok = ok && file_write_text(path, text, e);
    cJSON_free(text);
    cJSON_Delete(root);
    return ok;
}
