/* SPDX-License-Identifier: Apache-2.0
 *
 * alignment.c - `aftermap align`: the run. Declared in alignment.h.
 *
 *   event -> post images (alignment_images.c) -> a correlation surface per building (alignment_measure.c)
 *         -> shifts (alignment_field.c) -> shifts by hand -> chips, index, manifest (alignment_write.c)
 *
 * Shifts are rounded to whole centimetres before anything is cut, so what is stored is what was done, and
 * doing it again gives the same bytes. Measuring always starts from the images as they are, never from chips
 * that were moved already. Memory: one window a thread, and two bytes per building and shift tried: 18 MB for
 * 20,000 buildings and 5 m at half a metre. */
#include "geo/alignment_parts.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include <math.h>
#include <ogr_api.h>
#include <stdlib.h>
#include <string.h>

static const double search_max_m = 50, surfaces_max_bytes = 2e9;

void alignment_defaults(struct alignment_options *o)
{
    *o = (struct alignment_options){.search_m = 5, .smooth_m = 40, .min_score = 0.5};
}

/* ---- checks */

static bool check_options(const struct alignment_options *o, struct err *e)
{
    if (!(o->search_m > 0 && o->search_m <= search_max_m))
        return err_set(e, ERR_USAGE, "a search of %g m is out of range; --search-m takes up to %g metres",
                       o->search_m, search_max_m);
    if (!(o->smooth_m >= 1 && o->smooth_m <= 10000))
        return err_set(e, ERR_USAGE,
                       "neighbours within %g m is out of range; --smooth-m takes 1 to 10000 metres",
                       o->smooth_m);
    if (!(o->min_score >= 0 && o->min_score <= 1))
        return err_set(e, ERR_USAGE, "a confidence lies from 0 to 1, not at %g", o->min_score);
    if (o->reset && o->n_hand)
        return err_set(e, ERR_USAGE, "shifts cannot be set by hand and taken away in one go");
    if (o->export_path && !o->overwrite && file_exists(o->export_path))
        return err_set(e, ERR_USAGE, "%s exists already; give --overwrite to replace it", o->export_path);
    return true;
}

static bool is_aligned(const struct event *ev)
{
    for (size_t i = 0; i < ev->n; i++)
        if (*ev->building[i].shift_by)
            return true;
    return false;
}

static bool check_size(struct alignment *a, struct err *e)
{
    const struct event_grid *g = &a->ev->grid;
    a->reach_px = (int)ceil(a->o->search_m / g->gsd_m - 1e-9);
    if (a->reach_px < 3)
        a->reach_px = 3; /* less leaves no room around a peak */
    a->side = 2 * a->reach_px + 1;
    double bytes = 2.0 * (double)a->ev->n_chips * a->side * a->side;
    if (bytes > surfaces_max_bytes)
        return err_set(
            e, ERR_RESOURCE,
            "shifts of up to %g m for %zu buildings would need %.0f MB; choose a smaller --search-m",
            a->o->search_m, a->ev->n_chips, bytes / 1e6);
    return true;
}

/* ---- shifts */

/* Item for item what the event has stored. */
static void take_stored(struct alignment *a)
{
    static const char *const name[] = {"", "measured", "neighbours", "skipped", "hand"};
    for (size_t k = 0; k < a->n; k++) {
        struct alignment_item *it = &a->item[k];
        const struct event_building *b = &a->ev->building[it->building];
        for (int i = 1; i < 5; i++)
            if (strcmp(b->shift_by, name[i]) == 0) {
                it->by = (uint8_t)i;
                it->sx = b->shift_x / a->ev->grid.gsd_m;
                it->sy = -b->shift_y / a->ev->grid.gsd_m;
                it->q = b->shift_q;
            }
    }
}

static bool apply_hand(struct alignment *a, struct err *e)
{
    for (size_t k = 0; k < a->o->n_hand; k++) {
        const struct alignment_hand *h = &a->o->hand[k];
        if (h->fid < 1 || (size_t)h->fid > a->ev->n)
            return err_set(e, ERR_INPUT, "there is no building %lld in %s", (long long)h->fid, a->ev->dir);
        const struct event_building *b = &a->ev->building[h->fid - 1];
        if (!(fabs(h->shift_x) <= ALIGNMENT_HAND_MAX_M && fabs(h->shift_y) <= ALIGNMENT_HAND_MAX_M))
            return err_set(e, ERR_INPUT,
                           "building %s: a shift of %g, %g m is out of range (at most %d m a side)",
                           b->bldg_id, h->shift_x, h->shift_y, ALIGNMENT_HAND_MAX_M);
        if (b->page < 0)
            return err_set(e, ERR_INPUT, "building %s has no chip (%s), so there is nothing to shift",
                           b->bldg_id, b->reason);
        struct alignment_item *it = &a->item[b->page];
        it->sx = h->shift_x / a->ev->grid.gsd_m;
        it->sy = -h->shift_y / a->ev->grid.gsd_m;
        it->q = 1;
        it->by = BY_HAND;
    }
    return true;
}

/* To whole centimetres and thousandths, as they are stored; + 0 so that none is written -0. */
static void settle(struct alignment *a)
{
    const double gsd = a->ev->grid.gsd_m;
    for (size_t k = 0; k < a->n; k++) {
        struct alignment_item *it = &a->item[k];
        it->sx = round(it->sx * gsd * 100) / 100 / gsd + 0.0;
        it->sy = round(it->sy * gsd * 100) / 100 / gsd + 0.0;
        it->q = round(it->q * 1000) / 1000;
    }
}

static bool find_shifts(struct alignment *a, bool aligned, struct err *e)
{
    const struct alignment_options *o = a->o;
    if (o->reset)
        return true;
    if (aligned)
        take_stored(a);
    bool measure = !aligned || o->overwrite;
    for (size_t k = 0; measure && k < a->n; k++)
        if (a->item[k].by != BY_HAND)
            a->item[k].by = BY_NOBODY;
    if (!apply_hand(a, e))
        return false;
    return !measure || (check_size(a, e) && alignment_measure(a, e) && alignment_decide(a, e));
}

/* ---- the run */

static void alignment_free(struct alignment *a)
{
    raster_set_free(&a->set[0]);
    raster_set_free(&a->set[1]);
    free(a->item);
    free(a->job);
    free(a->correlation);
    free(a->has_evidence);
    event_close(a->ev);
}

static int by_length(const void *p, const void *q)
{
    double a = *(const double *)p, b = *(const double *)q;
    return (a > b) - (a < b);
}

static bool fill_report(const struct alignment *a, struct alignment_report *r, struct err *e)
{
    double *length = mem_array(a->n, sizeof *length, "the report", e);
    size_t n = 0;
    if (!length)
        return false;
    *r = (struct alignment_report){.n_chips = a->n};
    for (size_t k = 0; k < a->n; k++) {
        const struct alignment_item *it = &a->item[k];
        r->n_measured += it->by == BY_MEASURED;
        r->n_neighbours += it->by == BY_NEIGHBOURS;
        r->n_skipped += it->by == BY_SKIPPED;
        r->n_hand += it->by == BY_HAND;
        if (it->by != BY_SKIPPED && it->by != BY_NOBODY)
            length[n++] = hypot(it->sx, it->sy) * a->ev->grid.gsd_m;
    }
    qsort(length, n, sizeof *length, by_length);
    if (n) {
        r->median_m = length[(n - 1) / 2];
        r->p95_m = length[(size_t)floor(0.95 * (double)(n - 1) + 0.5)];
    }
    free(length);
    return true;
}

static bool run(const char *dir, bool verify, const struct alignment_options *o, const struct progress *p,
                struct alignment_report *r, cJSON **summary, struct err *e)
{
    struct alignment a = {.o = o, .p = p};
    struct alignment_report report = {0};
    if (summary)
        *summary = NULL;
    if (!check_options(o, e) || !(a.ev = event_open(dir, e)))
        return false;
    bool aligned = is_aligned(a.ev), ok = true;
    if (aligned && !o->overwrite && !o->reset && !o->n_hand)
        ok = err_set(e, ERR_USAGE, "%s is aligned already; give --overwrite to measure it anew", dir);
    ok = ok && alignment_open_images(&a, verify, e) && alignment_plan(&a, e) && find_shifts(&a, aligned, e);
    if (ok) {
        settle(&a);
        ok = alignment_write(&a, e) && fill_report(&a, &report, e);
    }
    if (ok && o->export_path && !o->dry_run)
        ok = alignment_export(&a, e);
    if (ok && summary && !(*summary = alignment_summary(a.ev, 20)))
        ok = err_set(e, ERR_RESOURCE, "there is no memory for the report");
    if (ok && r)
        *r = report;
    alignment_free(&a);
    return ok;
}

bool alignment_run(const char *dir, const struct alignment_options *o, const struct progress *p,
                   struct alignment_report *r, cJSON **summary, struct err *e)
{
    return run(dir, true, o, p, r, summary, e);
}

bool alignment_run_fresh(const char *dir, const struct alignment_options *o, const struct progress *p,
                         struct alignment_report *r, cJSON **summary, struct err *e)
{
    return run(dir, false, o, p, r, summary, e);
}

/* ---- shifts by hand */

struct id_row {
    const char *id;
    int64_t fid;
};

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct id_row *)a)->id, ((const struct id_row *)b)->id);
}

/* A whole number text; NAN when it is not. */
static double parse_shift(const char *text)
{
    char *end;
    double v = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(v) ? v : NAN;
}

static bool read_rows(const struct event *ev, const char *path, OGRLayerH layer, struct id_row *row,
                      struct alignment_hand **out, size_t *n, struct err *e)
{
    OGRFeatureDefnH defn = OGR_L_GetLayerDefn(layer);
    int field[3];
    static const char *const name[3] = {"bldg_id", "shift_x", "shift_y"};
    for (int k = 0; k < 3; k++)
        if ((field[k] = OGR_FD_GetFieldIndex(defn, name[k])) < 0)
            return err_set(e, ERR_INPUT, "%s has no column %s; it takes bldg_id, shift_x, shift_y", path,
                           name[k]);
    for (size_t i = 0; i < ev->n; i++)
        row[i] = (struct id_row){ev->building[i].bldg_id, ev->building[i].fid};
    qsort(row, ev->n, sizeof *row, by_id);
    bool ok = true;
    OGRFeatureH f;
    while (ok && (f = OGR_L_GetNextFeature(layer))) {
        char id[256];
        snprintf(id, sizeof id, "%s", OGR_F_GetFieldAsString(f, field[0]));
        struct alignment_hand h = {0, parse_shift(OGR_F_GetFieldAsString(f, field[1])),
                                   parse_shift(OGR_F_GetFieldAsString(f, field[2]))};
        const struct id_row *found = bsearch(&(struct id_row){id, 0}, row, ev->n, sizeof *row, by_id);
        if (!found)
            ok = err_set(e, ERR_INPUT, "%s: there is no building '%s' in the event", path, id);
        else if (!(fabs(h.shift_x) <= ALIGNMENT_HAND_MAX_M && fabs(h.shift_y) <= ALIGNMENT_HAND_MAX_M))
            ok = err_set(e, ERR_INPUT, "%s: the shift of building '%s' is no pair of metres up to %d", path,
                         id, ALIGNMENT_HAND_MAX_M);
        for (size_t k = 0; ok && k < *n; k++)
            if ((*out)[k].fid == found->fid)
                ok = err_set(e, ERR_INPUT, "%s names building '%s' twice", path, id);
        if (ok && (*n & (*n - 1)) == 0)
            ok = mem_grow(out, *n ? 2 * *n : 1, sizeof **out, "the shifts by hand", e);
        if (ok) {
            h.fid = found->fid;
            (*out)[(*n)++] = h;
        }
        OGR_F_Destroy(f);
    }
    return ok && *n == 0 ? err_set(e, ERR_INPUT, "%s has no rows", path) : ok;
}

bool alignment_read_hand(const struct event *ev, const char *path, struct alignment_hand **out, size_t *n,
                         struct err *e)
{
    char why[200];
    *out = NULL;
    *n = 0;
    struct id_row *row = mem_array(ev->n, sizeof *row, "the buildings' ids", e);
    if (!row)
        return false;
    CPLErrorReset();
    GDALDatasetH ds =
        GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY | GDAL_OF_VERBOSE_ERROR, NULL, NULL, NULL);
    OGRLayerH layer = ds ? GDALDatasetGetLayer(ds, 0) : NULL;
    bool ok = layer ? read_rows(ev, path, layer, row, out, n, e)
                    : err_set(e, ERR_INPUT, "%s cannot be read as a table (%s)", path,
                              geo_message(why, sizeof why));
    if (ds)
        GDALClose(ds);
    free(row);
    if (!ok) {
        free(*out);
        *out = NULL;
        *n = 0;
    }
    return ok;
}
