/* SPDX-License-Identifier: Apache-2.0
 *
 * alignment_write.c - an event's files made anew with the post halves of its chips moved, and put in place
 * together. Declared in alignment_parts.h.
 *
 * A chip whose shift stays what it was keeps its bytes. Of the others the pre half, the footprint and the pre
 * validity bit are copied, the post half is cut from the images. chips.gpkg is copied and its shift columns
 * and blank shares are updated; event.json gets "align" and the sizes and digests of the other two.
 *
 * All three are complete under temporary names before the first takes its place; event_files.h lets them change
 * together, also when the process is killed. Threads: as tile_chips.c, a batch of windows at once, chips appended
 * in order. */
#include "geo/alignment_parts.h"

#include "geo/event_files.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include <cpl_conv.h>
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WORKERS_MAX = 16, JOB_MAX = 256 };

struct output {
    char path[4096], temp[4096];
};

/* ---- chips */

struct worker {
    struct alignment_window window;
    struct chips *chips;
    uint8_t *px;   /* [JOB_MAX,size,size,channels] */
    double *blank; /* [JOB_MAX] share of the chip as it is now */
    struct err err;
    bool ok;
};

static void worker_close(struct worker *w)
{
    alignment_window_close(&w->window);
    chips_close(w->chips);
    free(w->px);
    free(w->blank);
}

static bool worker_open(struct worker *w, const struct alignment *a, const char *chips_path, struct err *e)
{
    const struct event *ev = a->ev;
    const size_t chip =
        (size_t)ev->layout.size * (size_t)ev->layout.size * (size_t)imageset_stored_channels(&ev->layout);
    return alignment_window_open(&w->window, &a->set[1], &ev->grid, e) &&
           (w->chips = chips_open(chips_path, &ev->layout, ev->n_chips, e)) &&
           (w->px = mem_array(JOB_MAX, chip, "a window's chips", e)) &&
           (w->blank = mem_array(JOB_MAX, sizeof *w->blank, "a window's chips", e));
}

/* The shift that a chip in chips.tif has now, in px. */
static void stored_shift(const struct alignment *a, const struct alignment_item *it, double *sx, double *sy)
{
    const struct event_building *b = &a->ev->building[it->building];
    bool shifted = *b->shift_by != '\0';
    *sx = shifted ? b->shift_x / a->ev->grid.gsd_m : 0;
    *sy = shifted ? -b->shift_y / a->ev->grid.gsd_m : 0;
}

static bool must_cut(const struct alignment *a, const struct alignment_item *it)
{
    double sx, sy;
    stored_shift(a, it, &sx, &sy);
    return sx != it->sx || sy != it->sy;
}

/* Replaces the post half of a stored chip; returns the share without data in either date. */
static double cut_into(const struct worker *w, const struct alignment *a, const struct alignment_item *it,
                       double sx, double sy, uint8_t *chip, uint8_t *valid)
{
    const struct event *ev = a->ev;
    const int channels = imageset_stored_channels(&ev->layout), n_bands = ev->layout.n_bands;
    const size_t n = (size_t)ev->layout.size * (size_t)ev->layout.size;
    size_t n_blank = 0;
    alignment_cut(&w->window, ev, it->x, it->y, sx, sy, chip + n_bands, (size_t)channels, valid, 1);
    for (size_t i = 0; i < n; i++) {
        uint8_t *bits = chip + i * (size_t)channels + channels - 2;
        *bits = (uint8_t)((*bits & ~2) | valid[i] << 1);
        n_blank += (*bits & 3) != 3;
    }
    return (double)n_blank / (double)n;
}

static bool run_job(struct worker *w, struct alignment *a, size_t first, size_t n, struct err *e)
{
    const struct event *ev = a->ev;
    const size_t px = (size_t)ev->layout.size * (size_t)ev->layout.size,
                 chip = px * (size_t)imageset_stored_channels(&ev->layout);
    int64_t pages[JOB_MAX];
    int x0 = 0, y0 = 0, x1 = 0, y1 = 0;
    double far = 0;
    bool any = false;
    for (size_t k = 0; k < n; k++) {
        const struct alignment_item *it = &a->item[first + k];
        pages[k] = (int64_t)(first + k);
        w->blank[k] = ev->building[it->building].blank;
        if (!must_cut(a, it))
            continue;
        x0 = any && x0 < it->x ? x0 : it->x;
        y0 = any && y0 < it->y ? y0 : it->y;
        x1 = any && x1 > it->x ? x1 : it->x;
        y1 = any && y1 > it->y ? y1 : it->y;
        far = fmax(far, fmax(fabs(it->sx), fabs(it->sy)));
        any = true;
    }
    if (!chips_read(w->chips, pages, n, w->px, e))
        return false;
    if (!any)
        return true;
    uint8_t *valid = mem_array(px, 1, "a chip", e);
    bool ok = valid && alignment_window_read(&w->window, ev->layout.n_bands, x0, y0, x1, y1, ev->layout.size,
                                             (int)ceil(far) + 3, e);
    for (size_t k = 0; ok && k < n; k++) {
        struct alignment_item *it = &a->item[first + k];
        if (!must_cut(a, it))
            continue;
        double blank = cut_into(w, a, it, it->sx, it->sy, w->px + k * chip, valid);
        if (blank > a->max_blank && (it->sx != 0 || it->sy != 0)) {
            it->sx = it->sy = 0;
            it->by = BY_SKIPPED;
            blank = cut_into(w, a, it, 0, 0, w->px + k * chip, valid);
        }
        w->blank[k] = blank;
    }
    free(valid);
    return ok;
}

/* Jobs of at most JOB_MAX pages. */
static size_t next_piece(const struct alignment *a, size_t *job, size_t *at, size_t *first)
{
    const struct alignment_job *j = &a->job[*job];
    size_t n = j->n - *at < JOB_MAX ? j->n - *at : JOB_MAX;
    *first = j->first + *at;
    *at += n;
    if (*at == j->n) {
        ++*job;
        *at = 0;
    }
    return n;
}

static bool write_chips(struct alignment *a, const char *from, struct chips_writer *out, struct err *e)
{
    struct worker worker[WORKERS_MAX] = {0};
    const struct event *ev = a->ev;
    const size_t chip =
        (size_t)ev->layout.size * (size_t)ev->layout.size * (size_t)imageset_stored_channels(&ev->layout);
    int n_workers = omp_get_max_threads() < WORKERS_MAX ? omp_get_max_threads() : WORKERS_MAX;
    size_t job = 0, at = 0, first[WORKERS_MAX], n[WORKERS_MAX];
    bool ok = true;
    for (int k = 0; ok && k < n_workers; k++)
        ok = worker_open(&worker[k], a, from, e);
    while (ok && job < a->n_jobs) {
        int batch = 0;
        while (batch < n_workers && job < a->n_jobs) {
            n[batch] = next_piece(a, &job, &at, &first[batch]);
            batch++;
        }
        progress_report(a->p, "chips", (double)first[0], (double)a->n, NULL);
#pragma omp parallel for num_threads(batch) schedule(static, 1)
        for (int k = 0; k < batch; k++)
            worker[k].ok = run_job(&worker[k], a, first[k], n[k], &worker[k].err);
        for (int k = 0; ok && k < batch; k++) {
            if (!worker[k].ok) {
                if (e)
                    *e = worker[k].err;
                ok = false;
            }
            for (size_t i = 0; ok && i < n[k]; i++) {
                ev->building[a->item[first[k] + i].building].blank = worker[k].blank[i];
                ok = !out || chips_append(out, worker[k].px + i * chip, e);
            }
        }
        if (ok && progress_stopped(a->p))
            ok = err_set(e, ERR_INTERRUPTED, "interrupted");
    }
    for (int k = 0; k < WORKERS_MAX; k++)
        worker_close(&worker[k]);
    return ok;
}

/* ---- index */

static bool add_columns(OGRLayerH layer)
{
    static const char *const name[] = {"shift_x", "shift_y", "shift_q", "shift_by"};
    bool ok = true;
    for (int k = 0; ok && k < 4; k++) {
        if (OGR_FD_GetFieldIndex(OGR_L_GetLayerDefn(layer), name[k]) >= 0)
            continue;
        OGRFieldDefnH field = OGR_Fld_Create(name[k], k < 3 ? OFTReal : OFTString);
        ok = OGR_L_CreateField(layer, field, TRUE) == OGRERR_NONE;
        OGR_Fld_Destroy(field);
    }
    return ok;
}

static bool update_rows(GDALDatasetH ds, const struct event *ev)
{
    char sql[320];
    for (size_t i = 0; i < ev->n; i++) {
        const struct event_building *b = &ev->building[i];
        if (*b->shift_by)
            snprintf(sql, sizeof sql,
                     "UPDATE buildings SET shift_x = %.2f, shift_y = %.2f, shift_q = %.3f, shift_by = '%s', "
                     "blank = %.17g WHERE fid = %lld",
                     b->shift_x, b->shift_y, b->shift_q, b->shift_by, b->blank, (long long)b->fid);
        else
            snprintf(sql, sizeof sql,
                     "UPDATE buildings SET shift_x = NULL, shift_y = NULL, shift_q = NULL, shift_by = NULL, "
                     "blank = %.17g WHERE fid = %lld",
                     b->blank, (long long)b->fid);
        CPLErrorReset();
        GDALDatasetReleaseResultSet(ds, GDALDatasetExecuteSQL(ds, sql, NULL, NULL));
        if (CPLGetLastErrorType() >= CE_Failure)
            return false;
    }
    return true;
}

static bool write_index(const struct event *ev, const char *from, const char *to, struct err *e)
{
    static const char *const drivers[] = {"GPKG", NULL};
    char why[200];
    CPLErrorReset();
    /* The file is synced as a whole below; equal inputs must give equal bytes, so no time of day. */
    CPLSetThreadLocalConfigOption("OGR_SQLITE_SYNCHRONOUS", "OFF");
    CPLSetThreadLocalConfigOption("OGR_CURRENT_DATE", "1970-01-01T00:00:00.000Z");
    bool ok = CPLCopyFile(to, from) == 0;
    GDALDatasetH ds = ok ? GDALOpenEx(to, GDAL_OF_VECTOR | GDAL_OF_UPDATE, drivers, NULL, NULL) : NULL;
    OGRLayerH layer = ds ? GDALDatasetGetLayerByName(ds, "buildings") : NULL;
    ok = layer && add_columns(layer) && GDALDatasetStartTransaction(ds, FALSE) == OGRERR_NONE &&
         update_rows(ds, ev) && GDALDatasetCommitTransaction(ds) == OGRERR_NONE;
    geo_message(why, sizeof why);
    if (ds) {
        CPLErrorReset();
        GDALClose(ds);
        if (ok && CPLGetLastErrorType() >= CE_Failure) {
            geo_message(why, sizeof why);
            ok = false;
        }
    }
    CPLSetThreadLocalConfigOption("OGR_CURRENT_DATE", NULL);
    CPLSetThreadLocalConfigOption("OGR_SQLITE_SYNCHRONOUS", NULL);
    bool full = strstr(why, "is full") || strstr(why, "disk I/O error");
    return ok ? true : err_set(e, full ? ERR_RESOURCE : ERR_RUNTIME, "%s cannot be written (%s)", to, why);
}

/* ---- manifest */

static bool set_part(cJSON *root, const char *key, const char *path, struct err *e)
{
    char hex[65];
    struct stat st;
    cJSON *part = cJSON_GetObjectItemCaseSensitive(root, key);
    if (!file_sha256(path, hex, e))
        return false;
    if (stat(path, &st) != 0)
        return err_errno(e, ERR_RUNTIME, errno, "%s cannot be read", path);
    return (cJSON_ReplaceItemInObjectCaseSensitive(part, "bytes", cJSON_CreateNumber((double)st.st_size)) &&
            cJSON_ReplaceItemInObjectCaseSensitive(part, "sha256", cJSON_CreateString(hex)))
               ? true
               : err_set(e, ERR_INPUT,
                         "event.json does not describe its %s; make the event again with aftermap tile", key);
}

static void describe_alignment(cJSON *root, const struct alignment *a)
{
    size_t count[5] = {0};
    const cJSON *before = cJSON_GetObjectItemCaseSensitive(root, "align");
    bool measured = a->correlation != NULL;
    for (size_t k = 0; k < a->n; k++)
        count[a->item[k].by]++;
    cJSON *j = cJSON_CreateObject();
    static const char *const key[] = {"search_m", "smooth_m", "min_score"};
    const double now[] = {a->o->search_m, a->o->smooth_m, a->o->min_score};
    for (int k = 0; k < 3; k++) { /* shifts by hand leave the settings of the measurement as they were */
        const cJSON *old = cJSON_GetObjectItemCaseSensitive(before, key[k]);
        cJSON_AddNumberToObject(j, key[k], measured || !cJSON_IsNumber(old) ? now[k] : old->valuedouble);
    }
    cJSON_AddNumberToObject(j, "measured", (double)count[BY_MEASURED]);
    cJSON_AddNumberToObject(j, "neighbours", (double)count[BY_NEIGHBOURS]);
    cJSON_AddNumberToObject(j, "skipped", (double)count[BY_SKIPPED]);
    cJSON_AddNumberToObject(j, "hand", (double)count[BY_HAND]);
    cJSON_DeleteItemFromObjectCaseSensitive(root, "align");
    cJSON_AddItemToObject(root, "align", j);
}

static bool write_manifest(const struct alignment *a, struct output out[EVENT_N_FILES], struct err *e)
{
    cJSON *root = cJSON_Parse(a->ev->manifest);
    char *text = NULL;
    bool ok = set_part(root, "chips", out[EVENT_CHIPS].temp, e) &&
              set_part(root, "index", out[EVENT_INDEX].temp, e);
    if (ok && a->o->reset)
        cJSON_DeleteItemFromObjectCaseSensitive(root, "align");
    else if (ok)
        describe_alignment(root, a);
    if (ok && !(text = cJSON_Print(root)))
        ok = err_set(e, ERR_RESOURCE, "there is no memory for the event's manifest");
    ok = ok && file_write_text(out[EVENT_MANIFEST].temp, text, e);
    cJSON_free(text);
    cJSON_Delete(root);
    return ok;
}

/* ---- all of it */

static bool make_files(struct alignment *a, struct output out[EVENT_N_FILES], struct err *e)
{
    struct chips_writer *chips = chips_create(out[EVENT_CHIPS].temp, &a->ev->layout, e);
    if (!chips || !write_chips(a, out[EVENT_CHIPS].path, chips, e)) {
        chips_abort(chips);
        return false;
    }
    if (!chips_finish(chips, e))
        return false;
    alignment_to_event(a);
    progress_report(a->p, "index", 0, 1, NULL);
    return write_index(a->ev, out[EVENT_INDEX].path, out[EVENT_INDEX].temp, e) && write_manifest(a, out, e);
}

bool alignment_write(struct alignment *a, struct err *e)
{
    struct output out[EVENT_N_FILES] = {0};
    for (int k = 0; k < EVENT_N_FILES; k++)
        if (!file_join(out[k].path, sizeof out[k].path, a->ev->dir, event_files_name[k], e) ||
            !file_temp_name(out[k].path, out[k].temp, sizeof out[k].temp, e))
            return false;
    if (a->o->dry_run) {
        bool ok = write_chips(a, out[EVENT_CHIPS].path, NULL, e);
        if (ok)
            alignment_to_event(a);
        return ok;
    }
    bool ok = make_files(a, out, e);
    if (ok && progress_stopped(a->p))
        ok = err_set(e, ERR_INTERRUPTED, "interrupted");
    const char *from[EVENT_N_FILES] = {out[0].temp, out[1].temp, out[2].temp};
    ok = ok && event_files_replace(a->ev->dir, from, e);
    for (int k = 0; !ok && k < EVENT_N_FILES; k++) /* what a failure left */
        unlink(out[k].temp);
    if (ok)
        progress_report(a->p, "index", 1, 1, NULL);
    return ok;
}
