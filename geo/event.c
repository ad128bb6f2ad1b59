/* SPDX-License-Identifier: Apache-2.0
 *
 * event.c - opening an event folder and reading from it. Declared in event.h.
 *
 * An event may come from anywhere (a download, another user's disk), so nothing in it is believed: every
 * value of the manifest has its range, the three files must agree with each other in size and number, the
 * index must hold each row and each page exactly once, and only the GeoPackage driver is let near chips.gpkg.
 * A folder that fails gets one sentence. */
#include "geo/event.h"

#include "geo/chips.h"
#include "geo/event_files.h"
#include "geo/raster.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/base/rng.h"
#include <cJSON.h>
#include <errno.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum {
    SIDE_MIN = 4,
    SIDE_MAX = 512,
    GRID_SIDE_MAX = 1 << 22,
    PATHS_MAX = 65536,
    ID_MAX = 1024,
    READ_BATCH = 1024,
    SHIFT_MAX_M = 1000
};
static const size_t manifest_max_bytes = (size_t)64 << 20;
static const double rows_max = 1 << 30;

/* ---- event.json
 * ------------------------------------------------------------------------------------------------------- */

/* The manifest while it is read; the first fault is kept in *e, and every getter then returns something
 * harmless. */
struct manifest {
    const char *path;
    struct err *e;
    bool ok;
};

static void fault(struct manifest *m, const char *what)
{
    if (m->ok)
        err_set(m->e, ERR_INPUT, "%s is no sound event manifest: %s; make the event again with aftermap tile",
                m->path, what);
    m->ok = false;
}

static const cJSON *member(struct manifest *m, const cJSON *o, const char *key)
{
    char what[96];
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!v) {
        snprintf(what, sizeof what, "'%s' is missing", key);
        fault(m, what);
    }
    return v;
}

static double number(struct manifest *m, const cJSON *v, const char *key, double low, double high)
{
    char what[128];
    if (cJSON_IsNumber(v) && v->valuedouble >= low && v->valuedouble <= high)
        return v->valuedouble;
    snprintf(what, sizeof what, "'%s' is no number from %g to %g", key, low, high);
    fault(m, what);
    return low;
}

static double get_number(struct manifest *m, const cJSON *o, const char *key, double low, double high)
{
    return number(m, member(m, o, key), key, low, high);
}

static int get_int(struct manifest *m, const cJSON *o, const char *key, int low, int high)
{
    double v = get_number(m, o, key, low, high);
    if (v != floor(v))
        fault(m, "a whole number is expected where there is a fraction");
    return (int)v;
}

static const char *get_text(struct manifest *m, const cJSON *o, const char *key)
{
    const char *text = cJSON_GetStringValue(member(m, o, key));
    if (!text) {
        fault(m, "a text is expected where there is something else");
        return "";
    }
    return text;
}

static void read_grid(struct manifest *m, const cJSON *root, struct event_grid *g)
{
    const cJSON *o = member(m, root, "grid"), *gt = member(m, o, "geotransform");
    g->width = get_int(m, o, "width", 1, GRID_SIDE_MAX);
    g->height = get_int(m, o, "height", 1, GRID_SIDE_MAX);
    g->gsd_m = get_number(m, o, "gsd_m", 1e-3, 1e4);
    if (cJSON_GetArraySize(gt) != 6)
        fault(m, "'geotransform' does not have six numbers");
    for (int i = 0; i < 6 && m->ok; i++)
        g->geotransform[i] = number(m, cJSON_GetArrayItem(gt, i), "geotransform", -1e9, 1e9);
    if (m->ok && (g->geotransform[1] != g->gsd_m || g->geotransform[5] != -g->gsd_m ||
                  g->geotransform[2] != 0 || g->geotransform[4] != 0))
        fault(m, "the grid is not north up in pixels of gsd_m");
    const char *wkt = get_text(m, o, "wkt");
    OGRSpatialReferenceH srs = m->ok ? geo_srs(wkt, NULL) : NULL;
    if (m->ok && (!srs || !OSRIsProjected(srs)))
        fault(m, "the grid's coordinate system is not a projected one");
    OSRDestroySpatialReference(srs);
    if (m->ok && !(g->wkt = mem_strdup(wkt, m->e)))
        m->ok = false;
}

static void read_scaling(struct manifest *m, const cJSON *root, struct event *ev)
{
    static const char *const phase[2] = {"pre", "post"};
    const cJSON *o = member(m, root, "scaling");
    for (int d = 0; d < 2 && m->ok; d++) {
        const cJSON *list = member(m, o, phase[d]);
        if (cJSON_GetArraySize(list) != ev->layout.n_bands)
            fault(m, "'scaling' has not one pair a band");
        for (int b = 0; b < ev->layout.n_bands && m->ok; b++) {
            const cJSON *pair = cJSON_GetArrayItem(list, b);
            ev->scale_lo[d][b] = number(m, cJSON_GetArrayItem(pair, 0), "scaling", -1e30, 1e30);
            ev->scale_hi[d][b] = number(m, cJSON_GetArrayItem(pair, 1), "scaling", -1e30, 1e30);
            if (m->ok && !(ev->scale_hi[d][b] > ev->scale_lo[d][b]))
                fault(m, "a scaling does not rise");
        }
    }
}

static void read_paths(struct manifest *m, const cJSON *root, struct event *ev)
{
    static const char *const phase[2] = {"pre", "post"};
    const cJSON *inputs = member(m, root, "inputs");
    for (int d = 0; d < 2 && m->ok; d++) {
        const cJSON *list = member(m, inputs, phase[d]), *file;
        int n = cJSON_GetArraySize(list);
        if (!cJSON_IsArray(list) || n < 1 || n > PATHS_MAX) {
            fault(m, "'inputs' names no images");
            return;
        }
        if (!(ev->path[d] = mem_array((size_t)n, sizeof *ev->path[d], "the list of images", m->e)))
            m->ok = false;
        cJSON_ArrayForEach(file, list)
        {
            const char *path = get_text(m, file, "path");
            if (m->ok && !(ev->path[d][ev->n_path[d]] = mem_strdup(path, m->e)))
                m->ok = false;
            if (!m->ok)
                return;
            ev->n_path[d]++;
        }
    }
}

/* The size of a file of the event must be what the manifest says: a copy that broke off shows here. */
static void check_part(struct manifest *m, const cJSON *part, const char *path)
{
    struct stat st;
    double bytes = get_number(m, part, "bytes", 0, 9e15);
    if (!m->ok)
        return;
    if (stat(path, &st) != 0)
        m->ok = err_errno(m->e, ERR_INPUT, errno, "%s cannot be read", path);
    else if (!S_ISREG(st.st_mode) || (double)st.st_size != bytes)
        m->ok = err_set(m->e, ERR_INPUT,
                        "%s has %lld bytes where its event lists %.0f: it is truncated or was changed; copy "
                        "the event again",
                        path, (long long)st.st_size, bytes);
}

static bool read_manifest(struct event *ev, const char *path, const char *chips_path, const char *index_path,
                          struct err *e)
{
    struct manifest m = {path, e, true};
    cJSON *root = cJSON_Parse(ev->manifest);
    const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "kind"));
    if (!root)
        fault(&m, "it is not JSON");
    else if (!kind || strcmp(kind, "aftermap event") != 0)
        fault(&m, "it is not an event's");
    else if (get_int(&m, root, "format", 0, INT32_MAX) != 1 && m.ok)
        fault(&m, "it has a format that this version of aftermap does not know");
    if (m.ok) {
        const cJSON *o = member(&m, root, "layout");
        ev->layout.size = get_int(&m, o, "size", SIDE_MIN, SIDE_MAX);
        ev->layout.n_dates = get_int(&m, o, "dates", 2, 2);
        ev->layout.n_bands = get_int(&m, o, "bands", 1, EVENT_MAX_BANDS);
        ev->layout.has_masks = cJSON_IsTrue(member(&m, o, "masks"));
        ev->layout.use_footprint = cJSON_IsTrue(member(&m, o, "footprint"));
        if (ev->layout.size % 4 || !ev->layout.has_masks)
            fault(&m, "its chips have a form that events do not have");
        read_grid(&m, root, &ev->grid);
        read_scaling(&m, root, ev);
        read_paths(&m, root, ev);
        ev->size_m = ev->layout.size * ev->grid.gsd_m;
        const cJSON *chips = member(&m, root, "chips"), *index = member(&m, root, "index");
        ev->n = (size_t)get_int(&m, index, "rows", 1, (int)rows_max);
        ev->n_chips = (size_t)get_int(&m, chips, "pages", 1, (int)rows_max);
        if (ev->n_chips > ev->n)
            fault(&m, "it lists more chips than buildings");
        check_part(&m, chips, chips_path);
        check_part(&m, index, index_path);
    }
    cJSON_Delete(root);
    return m.ok;
}

/* ---- chips.gpkg
 * ------------------------------------------------------------------------------------------------------- */

enum {
    BLDG_ID,
    PAGE,
    STATUS,
    REASON,
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

/* There only once the event was aligned. */
enum { SHIFT_X, SHIFT_Y, SHIFT_Q, SHIFT_BY, N_SHIFT_COLUMNS };

struct index_reader {
    const char *path;
    int field[N_COLUMNS];
    int shift[N_SHIFT_COLUMNS]; /* -1: an event that was never aligned */
    uint8_t *seen;              /* [n_chips] pages that have their row */
    size_t n_pages;
};

static bool row_fault(const struct index_reader *r, size_t i, const char *what, struct err *e)
{
    return err_set(e, ERR_INPUT, "%s: row %zu %s; make the event again with aftermap tile", r->path, i + 1,
                   what);
}

static bool find_columns(struct index_reader *r, OGRLayerH layer, struct err *e)
{
    static const char *const name[N_COLUMNS] = {"bldg_id", "page",    "status", "reason", "dmg_level",
                                                "block",   "split",   "lon",    "lat",    "x_m",
                                                "y_m",     "area_m2", "blank"};
    OGRFeatureDefnH defn = OGR_L_GetLayerDefn(layer);
    for (int k = 0; k < N_COLUMNS; k++)
        if ((r->field[k] = OGR_FD_GetFieldIndex(defn, name[k])) < 0)
            return err_set(e, ERR_INPUT, "%s has no column %s; make the event again with aftermap tile",
                           r->path, name[k]);
    static const char *const shift_name[N_SHIFT_COLUMNS] = {"shift_x", "shift_y", "shift_q", "shift_by"};
    for (int k = 0; k < N_SHIFT_COLUMNS; k++)
        r->shift[k] = OGR_FD_GetFieldIndex(defn, shift_name[k]);
    return true;
}

const char *event_shift_text(const char *by)
{
    static const char *const known[] = {"", "measured", "neighbours", "skipped", "hand"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(by, known[i]) == 0)
            return known[i];
    return NULL;
}

static bool read_shift(const struct index_reader *r, OGRFeatureH row, struct event_building *b)
{
    double *const to[] = {&b->shift_x, &b->shift_y, &b->shift_q};
    bool known = true;
    for (int k = 0; k < N_SHIFT_COLUMNS; k++)
        known = known && r->shift[k] >= 0 && OGR_F_IsFieldSetAndNotNull(row, r->shift[k]);
    b->shift_by = event_shift_text(known ? OGR_F_GetFieldAsString(row, r->shift[SHIFT_BY]) : "");
    for (int k = 0; k < 3; k++)
        *to[k] = known ? OGR_F_GetFieldAsDouble(row, r->shift[k]) : NAN;
    return !known || (b->shift_by && *b->shift_by && fabs(b->shift_x) <= SHIFT_MAX_M &&
                      fabs(b->shift_y) <= SHIFT_MAX_M && b->shift_q >= 0 && b->shift_q <= 1);
}

static bool read_numbers(const struct index_reader *r, OGRFeatureH row, struct event_building *b)
{
    double *const to[] = {&b->lon, &b->lat, &b->x_m, &b->y_m, &b->area_m2, &b->blank};
    for (int k = 0; k < 6; k++) {
        *to[k] = OGR_F_GetFieldAsDouble(row, r->field[LON + k]);
        if (!OGR_F_IsFieldSetAndNotNull(row, r->field[LON + k]) || !isfinite(*to[k]))
            return false;
    }
    return fabs(b->lon) <= 360 && fabs(b->lat) <= 90 && b->area_m2 >= 0 && b->blank >= 0 && b->blank <= 1;
}

static bool read_row(struct index_reader *r, struct event *ev, size_t i, OGRFeatureH row, struct err *e)
{
    static const char *const split_name[] = {"train", "test", "buffer"};
    struct event_building *b = &ev->building[i];
    const char *id = OGR_F_GetFieldAsString(row, r->field[BLDG_ID]);
    const char *status = OGR_F_GetFieldAsString(row, r->field[STATUS]);
    const char *split = OGR_F_GetFieldAsString(row, r->field[SPLIT]);
    b->fid = OGR_F_GetFID(row);
    if (b->fid != (int64_t)i + 1)
        return row_fault(r, i, "is missing or out of order", e);
    if (!*id || strlen(id) > ID_MAX)
        return row_fault(r, i, "has no usable id", e);
    if (!(b->bldg_id = mem_strdup(id, e)))
        return false;
    b->page = OGR_F_GetFieldAsInteger64(row, r->field[PAGE]);
    b->status = strcmp(status, "ok") == 0 ? "ok" : strcmp(status, "excluded") == 0 ? "excluded" : NULL;
    b->reason = event_reason_text(OGR_F_GetFieldAsString(row, r->field[REASON]));
    if (!b->status || !b->reason || (b->status[0] == 'o') != (b->page >= 0) || b->page < -1)
        return row_fault(r, i, "has a status, reason and page that do not agree", e);
    if (b->page >= 0 && ((size_t)b->page >= ev->n_chips || r->seen[b->page]))
        return row_fault(r, i, "names a chip that is not there or is another's", e);
    if (b->page >= 0) {
        r->seen[b->page] = 1;
        r->n_pages++;
    }
    int level = OGR_F_GetFieldAsInteger(row, r->field[DMG_LEVEL]);
    if (!OGR_F_IsFieldSetAndNotNull(row, r->field[DMG_LEVEL]) || level < -1 || level > 3)
        return row_fault(r, i, "has a level that is not on the damage scale", e);
    b->level = (int16_t)level;
    b->block = OGR_F_GetFieldAsInteger(row, r->field[BLOCK]);
    if (b->block < -1 || (b->page >= 0 && b->block < 0))
        return row_fault(r, i, "has no spatial block", e);
    for (b->split = 0; b->split < 3 && strcmp(split, split_name[b->split]) != 0; b->split++)
        ;
    if (b->split == 3)
        return row_fault(r, i, "belongs to no known set (train, test or buffer)", e);
    if (!read_numbers(r, row, b))
        return row_fault(r, i, "has a place, area or blank share that cannot be", e);
    if (!read_shift(r, row, b))
        return row_fault(r, i, "has a shift that cannot be", e);
    OGRGeometryH g = OGR_F_GetGeometryRef(row);
    OGRwkbGeometryType type = g ? wkbFlatten(OGR_G_GetGeometryType(g)) : wkbUnknown;
    if (type != wkbPolygon && type != wkbMultiPolygon)
        return row_fault(r, i, "has no outline", e);
    b->geometry = OGR_G_Clone(g);
    OGR_G_AssignSpatialReference(b->geometry, NULL); /* the layer's goes away with the file */
    return true;
}

static bool read_index(struct event *ev, const char *path, struct err *e)
{
    static const char *const drivers[] = {"GPKG", NULL};
    char why[200];
    struct index_reader r = {.path = path};
    OGRFeatureH row;
    size_t i = 0;
    CPLErrorReset();
    GDALDatasetH ds =
        GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY | GDAL_OF_VERBOSE_ERROR, drivers, NULL, NULL);
    OGRLayerH layer = ds ? GDALDatasetGetLayerByName(ds, "buildings") : NULL;
    bool ok = layer != NULL;
    if (!ok)
        err_set(e, ERR_INPUT,
                "%s has no readable layer 'buildings' (%s); make the event again with aftermap tile", path,
                geo_message(why, sizeof why));
    ok = ok && find_columns(&r, layer, e);
    if (ok && OGR_L_GetFeatureCount(layer, TRUE) != (GIntBig)ev->n)
        ok = err_set(e, ERR_INPUT, "%s does not hold the %zu rows its event lists; copy the event again",
                     path, ev->n);
    ok = ok && (ev->building = mem_array(ev->n, sizeof *ev->building, "the buildings", e)) &&
         (r.seen = mem_array(ev->n_chips, 1, "the buildings", e));
    while (ok && i < ev->n && (row = OGR_L_GetNextFeature(layer))) {
        ok = read_row(&r, ev, i++, row, e);
        OGR_F_Destroy(row);
    }
    if (ok && (i != ev->n || r.n_pages != ev->n_chips))
        ok = err_set(e, ERR_INPUT,
                     "%s lists %zu chips in %zu rows where its event has %zu in %zu; copy the event again",
                     path, r.n_pages, i, ev->n_chips, ev->n);
    free(r.seen);
    if (ds)
        GDALClose(ds);
    return ok;
}

/* ---- the event
 * -------------------------------------------------------------------------------------------------------- */

struct event *event_open(const char *dir, struct err *e)
{
    char path[4096], chips_path[4096], index_path[4096];
    size_t size = 0;
    struct event *ev = NULL;
    if (!file_exists(dir)) {
        err_set(e, ERR_NOT_FOUND, "%s: there is no such event folder; make one with aftermap tile", dir);
        return NULL;
    }
    if (!file_join(path, sizeof path, dir, "event.json", e) ||
        !file_join(chips_path, sizeof chips_path, dir, "chips.tif", e) ||
        !file_join(index_path, sizeof index_path, dir, "chips.gpkg", e) || !event_files_finish(dir, e))
        return NULL;
    if (!file_exists(path)) {
        err_set(e, ERR_INPUT, "%s is no event folder (it holds no event.json); make one with aftermap tile",
                dir);
        return NULL;
    }
    if (!(ev = mem_array(1, sizeof *ev, "an event", e)))
        return NULL;
    bool ok =
        (ev->manifest = file_read(path, manifest_max_bytes, &size, e)) && (ev->dir = mem_strdup(dir, e));
    if (ok)
        file_sha256_buffer(ev->manifest, size, ev->digest);
    ok = ok && read_manifest(ev, path, chips_path, index_path, e) && read_index(ev, index_path, e) &&
         (ev->chips = chips_open(chips_path, &ev->layout, ev->n_chips, e));
    if (ok)
        return ev;
    event_close(ev);
    return NULL;
}

void event_close(struct event *ev)
{
    if (!ev)
        return;
    for (size_t i = 0; ev->building && i < ev->n; i++) {
        free((char *)ev->building[i].bldg_id);
        OGR_G_DestroyGeometry(ev->building[i].geometry);
    }
    for (int d = 0; d < 2; d++) {
        for (int i = 0; i < ev->n_path[d]; i++)
            free(ev->path[d][i]);
        free(ev->path[d]);
    }
    chips_close(ev->chips);
    free(ev->building);
    free(ev->grid.wkt);
    free(ev->manifest);
    free(ev->dir);
    free(ev);
}

bool event_read_chips(struct event *ev, const int64_t *pages, size_t n, uint8_t *px, struct err *e)
{
    return chips_read(ev->chips, pages, n, px, e);
}

/* ---- as a training set
 * ------------------------------------------------------------------------------------------------ */

/* The rows to load, in fid order: all labelled ones, and all or max_items of the others. */
static uint32_t *choose_rows(const struct event *ev, size_t max_items, uint64_t seed, size_t *n_out,
                             struct err *e)
{
    uint32_t *row = mem_array(ev->n, sizeof *row, "the training rows", e);
    uint32_t *open = row ? mem_array(ev->n, sizeof *open, "the training rows", e) : NULL;
    uint32_t *order = open ? mem_array(ev->n, sizeof *order, "the training rows", e) : NULL;
    uint8_t *take = order ? mem_array(ev->n, 1, "the training rows", e) : NULL;
    size_t n_open = 0, n = 0;
    if (take) {
        for (uint32_t i = 0; i < ev->n; i++) {
            if (ev->building[i].page < 0)
                continue;
            take[i] = 1;
            if (ev->building[i].level < 0)
                open[n_open++] = i;
        }
        if (max_items && n_open > max_items) {
            struct rng r;
            rng_init(&r, seed, RNG_SHUFFLE, 0);
            rng_permutation(&r, order, (uint32_t)n_open);
            for (size_t k = max_items; k < n_open; k++)
                take[open[order[k]]] = 0;
        }
        for (uint32_t i = 0; i < ev->n; i++)
            if (take[i])
                row[n++] = i;
        *n_out = n;
    }
    bool ok = take != NULL;
    free(open);
    free(order);
    free(take);
    if (ok)
        return row;
    free(row);
    return NULL;
}

bool event_load_imageset(struct event *ev, int cut, size_t max_items, uint64_t seed, struct imageset *set,
                         const struct progress *p, struct err *e)
{
    int64_t pages[READ_BATCH];
    size_t n = 0;
    *set = (struct imageset){0};
    if (cut < 0 || cut > 3)
        return err_set(
            e, ERR_USAGE,
            "a cut of %d is no level from which damage counts; choose 1, 2 or 3, or 0 for all four "
            "grades",
            cut);
    uint32_t *row = choose_rows(ev, max_items, seed, &n, e);
    if (!row || !imageset_alloc(set, n, &ev->layout, e)) {
        free(row);
        return false;
    }
    set->layout.use_match = true;
    set->n_classes = cut ? 2 : 4;
    for (int k = 0; k < set->n_classes; k++)
        snprintf(set->class_name[k], sizeof set->class_name[k], "%s",
                 cut ? (k ? "damaged" : "undamaged") : event_level_name(k));
    snprintf(set->source, sizeof set->source, "%s", ev->dir);
    memcpy(set->digest, ev->digest, sizeof set->digest);
    const size_t chip =
        (size_t)ev->layout.size * (size_t)ev->layout.size * (size_t)imageset_stored_channels(&ev->layout);
    bool ok = true;
    for (size_t at = 0; ok && at < n; at += READ_BATCH) {
        size_t m = n - at < READ_BATCH ? n - at : READ_BATCH;
        for (size_t k = 0; k < m; k++) {
            const struct event_building *b = &ev->building[row[at + k]];
            pages[k] = b->page;
            set->id[at + k] = b->fid;
            set->block[at + k] = b->block;
            set->split[at + k] = b->split;
            set->label[at + k] = b->level < 0 ? IMAGESET_NO_LABEL : cut ? b->level >= cut : b->level;
        }
        if (progress_stopped(p))
            ok = err_set(e, ERR_INTERRUPTED, "interrupted");
        ok = ok && event_read_chips(ev, pages, m, set->px + at * chip, e);
        progress_report(p, "read", (double)(at + m), (double)n, NULL);
    }
    free(row);
    if (!ok)
        imageset_free(set);
    return ok;
}
