/* SPDX-License-Identifier: Apache-2.0
 *
 * alignment_report.c - what the shifts of an event amount to: the summary for a page of checks, and the layer
 * of arrows. Declared in alignment.h and alignment_parts.h. */
#include "geo/alignment_parts.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include <cpl_conv.h>
#include <math.h>
#include <ogr_api.h>
#include <ogr_srs_api.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BINS = 10, LENGTH_BINS_MAX = 64, ARROW_CELLS = 20 };
static const double pass_share = 0.9, warn_share = 0.6, step_m = 0.25;

void alignment_to_event(struct alignment *a)
{
    static const char *const name[] = {"", "measured", "neighbours", "skipped", "hand"};
    const double gsd = a->ev->grid.gsd_m;
    for (size_t k = 0; k < a->n; k++) {
        const struct alignment_item *it = &a->item[k];
        struct event_building *b = &a->ev->building[it->building];
        bool known = it->by != BY_NOBODY;
        b->shift_x = known ? round(it->sx * gsd * 100) / 100 + 0.0 : NAN;
        b->shift_y = known ? round(-it->sy * gsd * 100) / 100 + 0.0 : NAN;
        b->shift_q = known ? it->q : NAN;
        b->shift_by = event_shift_text(name[it->by]);
    }
}

/* ---- summary */

static int by_value(const void *p, const void *q)
{
    double a = *(const double *)p, b = *(const double *)q;
    return (a > b) - (a < b);
}

static double quantile(const double *sorted, size_t n, double p)
{
    return n ? sorted[(size_t)floor(p * (double)(n - 1) + 0.5)] : 0;
}

static double cents(double v)
{
    return round(v * 100) / 100 + 0.0;
}

static void add_histogram(cJSON *root, const char *key, const char *step_key, double step, const int *count,
                          int n)
{
    cJSON *o = cJSON_AddObjectToObject(root, key);
    cJSON_AddNumberToObject(o, step_key, step);
    cJSON_AddItemToObject(o, "count", cJSON_CreateIntArray(count, n));
}

static bool is_accepted(const struct event_building *b)
{
    return *b->shift_by && strcmp(b->shift_by, "skipped") != 0;
}

/* value [4][n]: x, y, length of the accepted ones. */
static void add_figures(cJSON *root, const struct event *ev, double *value)
{
    double *x = value, *y = value + ev->n, *length = value + 2 * ev->n;
    int bins[LENGTH_BINS_MAX] = {0}, quality[BINS] = {0}, n_bins = 1;
    size_t n = 0;
    for (size_t i = 0; i < ev->n; i++) {
        const struct event_building *b = &ev->building[i];
        if (*b->shift_by)
            quality[(int)fmin(b->shift_q * BINS, BINS - 1)]++;
        if (!is_accepted(b))
            continue;
        x[n] = b->shift_x;
        y[n] = b->shift_y;
        length[n] = hypot(b->shift_x, b->shift_y);
        int bin = (int)fmin(length[n++] / step_m, LENGTH_BINS_MAX - 1);
        bins[bin]++;
        n_bins = bin >= n_bins ? bin + 1 : n_bins;
    }
    qsort(x, n, sizeof *x, by_value);
    qsort(y, n, sizeof *y, by_value);
    qsort(length, n, sizeof *length, by_value);
    cJSON_AddNumberToObject(root, "median_x_m", cents(quantile(x, n, 0.5)));
    cJSON_AddNumberToObject(root, "median_y_m", cents(quantile(y, n, 0.5)));
    cJSON_AddNumberToObject(root, "median_m", cents(quantile(length, n, 0.5)));
    cJSON_AddNumberToObject(root, "p95_m", cents(quantile(length, n, 0.95)));
    cJSON_AddNumberToObject(root, "max_m", cents(quantile(length, n, 1)));
    cJSON_AddNumberToObject(root, "gsd_m", ev->grid.gsd_m);
    add_histogram(root, "histogram", "step_m", step_m, bins, n_bins);
    add_histogram(root, "quality", "step", 1.0 / BINS, quality, BINS);
}

struct arrow {
    double lon, lat, x, y, q;
    int n;
};

static void add_arrows(cJSON *root, const struct event *ev, struct arrow *cell)
{
    const double cell_m = fmax(ev->grid.width, ev->grid.height) * ev->grid.gsd_m / ARROW_CELLS;
    for (size_t i = 0; i < ev->n; i++) {
        const struct event_building *b = &ev->building[i];
        int column = (int)((b->x_m - ev->grid.geotransform[0]) / cell_m),
            row = (int)((ev->grid.geotransform[3] - b->y_m) / cell_m);
        if (!is_accepted(b) || column < 0 || row < 0 || column >= ARROW_CELLS || row >= ARROW_CELLS)
            continue;
        struct arrow *a = &cell[row * ARROW_CELLS + column];
        a->lon += b->lon;
        a->lat += b->lat;
        a->x += b->shift_x;
        a->y += b->shift_y;
        a->q += b->shift_q;
        a->n++;
    }
    cJSON *list = cJSON_AddArrayToObject(root, "arrows");
    for (int k = 0; k < ARROW_CELLS * ARROW_CELLS; k++) {
        const struct arrow *a = &cell[k];
        if (!a->n)
            continue;
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "lon", round(a->lon / a->n * 1e7) / 1e7);
        cJSON_AddNumberToObject(o, "lat", round(a->lat / a->n * 1e7) / 1e7);
        cJSON_AddNumberToObject(o, "shift_x", cents(a->x / a->n));
        cJSON_AddNumberToObject(o, "shift_y", cents(a->y / a->n));
        cJSON_AddNumberToObject(o, "shift_q", cents(a->q / a->n));
        cJSON_AddNumberToObject(o, "n", a->n);
        cJSON_AddItemToArray(list, o);
    }
}

static int by_confidence(const void *p, const void *q)
{
    const struct event_building *a = *(const struct event_building *const *)p,
                                *b = *(const struct event_building *const *)q;
    if (a->shift_q != b->shift_q)
        return a->shift_q < b->shift_q ? -1 : 1;
    return (a->fid > b->fid) - (a->fid < b->fid);
}

static void add_worst(cJSON *root, const struct event *ev, const struct event_building **order, int n_worst)
{
    size_t n = 0;
    for (size_t i = 0; i < ev->n; i++)
        if (*ev->building[i].shift_by)
            order[n++] = &ev->building[i];
    qsort(order, n, sizeof *order, by_confidence);
    cJSON *list = cJSON_AddArrayToObject(root, "worst");
    for (size_t k = 0; k < n && (int)k < n_worst; k++) {
        const struct event_building *b = order[k];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "fid", (double)b->fid);
        cJSON_AddStringToObject(o, "bldg_id", b->bldg_id);
        cJSON_AddNumberToObject(o, "shift_x", b->shift_x);
        cJSON_AddNumberToObject(o, "shift_y", b->shift_y);
        cJSON_AddNumberToObject(o, "shift_q", b->shift_q);
        cJSON_AddStringToObject(o, "shift_by", b->shift_by);
        cJSON_AddNumberToObject(o, "lon", round(b->lon * 1e7) / 1e7);
        cJSON_AddNumberToObject(o, "lat", round(b->lat * 1e7) / 1e7);
        cJSON_AddItemToArray(list, o);
    }
}

cJSON *alignment_summary(const struct event *ev, int n_worst)
{
    static const char *const name[] = {"measured", "neighbours", "skipped", "hand"};
    size_t count[4] = {0}, n = 0;
    cJSON *root = cJSON_CreateObject();
    double *value = mem_array(ev->n, 3 * sizeof *value, "the report", NULL);
    struct arrow *cell = mem_array(ARROW_CELLS * ARROW_CELLS, sizeof *cell, "the report", NULL);
    const struct event_building **order = mem_array(ev->n, sizeof *order, "the report", NULL);
    if (!root || !value || !cell || !order) {
        cJSON_Delete(root);
        root = NULL;
        goto done;
    }
    for (size_t i = 0; i < ev->n; i++)
        for (int k = 0; k < 4; k++)
            if (strcmp(ev->building[i].shift_by, name[k]) == 0) {
                count[k]++;
                n++;
            }
    cJSON_AddBoolToObject(root, "aligned", n > 0);
    cJSON_AddNumberToObject(root, "chips", (double)ev->n_chips);
    if (n == 0)
        goto done;
    for (int k = 0; k < 4; k++)
        cJSON_AddNumberToObject(root, name[k], (double)count[k]);
    double share = 1 - (double)count[2] / (double)n;
    cJSON_AddNumberToObject(root, "accepted_share", round(share * 1000) / 1000);
    cJSON_AddStringToObject(root, "verdict",
                            share >= pass_share   ? "pass"
                            : share >= warn_share ? "warn"
                                                  : "fail");
    add_figures(root, ev, value);
    add_arrows(root, ev, cell);
    add_worst(root, ev, order, n_worst);
done:
    free(value);
    free(cell);
    free(order);
    return root;
}

/* ---- arrows as a layer */

static const char *const arrow_field[] = {"bldg_id",  "shift_x", "shift_y", "shift_q", "shift_by",
                                          "length_m", "own_x",   "own_y",   "own_q"};
enum { N_ARROW_FIELDS = sizeof arrow_field / sizeof *arrow_field };

static bool write_arrow(OGRLayerH layer, const struct alignment *a, const struct alignment_item *it,
                        OGRCoordinateTransformationH to_lonlat)
{
    const struct event_building *b = &a->ev->building[it->building];
    const double gsd = a->ev->grid.gsd_m;
    OGRFeatureH f = OGR_F_Create(OGR_L_GetLayerDefn(layer));
    OGRGeometryH line = OGR_G_CreateGeometry(wkbLineString);
    OGR_G_AddPoint_2D(line, b->x_m, b->y_m);
    OGR_G_AddPoint_2D(line, b->x_m + b->shift_x, b->y_m + b->shift_y);
    bool ok = OGR_G_Transform(line, to_lonlat) == OGRERR_NONE;
    OGR_G_AssignSpatialReference(line, NULL);
    OGR_F_SetFID(f, b->fid);
    OGR_F_SetFieldString(f, 0, b->bldg_id);
    OGR_F_SetFieldDouble(f, 1, b->shift_x);
    OGR_F_SetFieldDouble(f, 2, b->shift_y);
    OGR_F_SetFieldDouble(f, 3, b->shift_q);
    OGR_F_SetFieldString(f, 4, b->shift_by);
    OGR_F_SetFieldDouble(f, 5, cents(hypot(b->shift_x, b->shift_y)));
    if (a->correlation && a->has_evidence[b->page]) { /* what it says by itself, as far as that was asked */
        OGR_F_SetFieldDouble(f, 6, cents(it->own_x * gsd));
        OGR_F_SetFieldDouble(f, 7, cents(-it->own_y * gsd));
        OGR_F_SetFieldDouble(f, 8, round(it->own_q * 1000) / 1000);
    }
    ok = OGR_F_SetGeometryDirectly(f, line) == OGRERR_NONE && ok &&
         OGR_L_CreateFeature(layer, f) == OGRERR_NONE;
    OGR_F_Destroy(f);
    return ok;
}

static bool write_arrows(GDALDatasetH ds, const struct alignment *a, OGRCoordinateTransformationH to_lonlat)
{
    OGRSpatialReferenceH wgs84 = geo_srs("EPSG:4326", NULL);
    OGRLayerH layer = GDALDatasetCreateLayer(ds, "shifts", wgs84, wkbLineString, NULL);
    OSRDestroySpatialReference(wgs84);
    bool ok = layer && GDALDatasetStartTransaction(ds, FALSE) == OGRERR_NONE;
    for (int k = 0; ok && k < N_ARROW_FIELDS; k++) {
        OGRFieldDefnH d = OGR_Fld_Create(arrow_field[k], k == 0 || k == 4 ? OFTString : OFTReal);
        ok = OGR_L_CreateField(layer, d, TRUE) == OGRERR_NONE;
        OGR_Fld_Destroy(d);
    }
    for (size_t k = 0; ok && k < a->n; k++)
        if (a->item[k].by != BY_NOBODY)
            ok = write_arrow(layer, a, &a->item[k], to_lonlat);
    return ok && GDALDatasetCommitTransaction(ds) == OGRERR_NONE;
}

bool alignment_export(const struct alignment *a, struct err *e)
{
    char temp[4096], why[200];
    const char *path = a->o->export_path;
    OGRCoordinateTransformationH to_lonlat = geo_transform(a->ev->grid.wkt, "EPSG:4326", e);
    if (!to_lonlat || !file_temp_name(path, temp, sizeof temp, e)) {
        OCTDestroyCoordinateTransformation(to_lonlat);
        return false;
    }
    CPLErrorReset();
    CPLSetThreadLocalConfigOption("OGR_CURRENT_DATE", "1970-01-01T00:00:00.000Z");
    GDALDatasetH ds = GDALCreate(GDALGetDriverByName("GPKG"), temp, 0, 0, 0, GDT_Unknown, NULL);
    bool ok = ds && write_arrows(ds, a, to_lonlat);
    if (ds)
        GDALClose(ds);
    CPLSetThreadLocalConfigOption("OGR_CURRENT_DATE", NULL);
    OCTDestroyCoordinateTransformation(to_lonlat);
    if (!ok || CPLGetLastErrorType() >= CE_Failure) {
        geo_message(why, sizeof why);
        unlink(temp);
        return err_set(e, ERR_RUNTIME, "%s cannot be written (%s)", path, why);
    }
    return file_rename(temp, path, e);
}
