/* SPDX-License-Identifier: Apache-2.0
 *
 * sampling.c - draws the blind sample of sampling.h and writes it as a table to be graded. The order within a
 * stratum depends on the seed and the stratum's name alone, so a larger sample of the same seed begins with the
 * smaller one; strata take turns in proportion, so that grading may stop anywhere. */
#include "geo/sampling.h"

#include "geo/mapping_parts.h"
#include "geo/raster.h"
#include "geo/totals_parts.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/learn/estimate.h"
#include <cpl_error.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdlib.h>
#include <string.h>

struct draw {
    const struct totals_building *b;
    double turn; /* where in the order: (k + 1/2) / n of its stratum */
    int stratum;
};

/* Shares n among the strata by size, at least `least` (or all) each; largest remainders get what is over. */
static bool allocate(const struct totals_map *m, size_t n, uint32_t *share, struct err *e)
{
    size_t given = 0, needed = 0;
    for (int k = 0; k < m->n_strata; k++) {
        const uint32_t N = m->stratum_size[k];
        uint32_t least = N < TOTALS_MIN_SAMPLE ? N : TOTALS_MIN_SAMPLE;
        if (m->n_strata == 1)
            least = 0;
        needed += least;
        share[k] = (uint32_t)((double)n * N / (double)m->n);
        share[k] = share[k] < least ? least : share[k];
        given += share[k];
    }
    if (needed > n)
        return err_set(
            e, ERR_USAGE,
            "%d strata need %zu buildings, %d each, and %zu are asked for; draw more, or make fewer strata",
            m->n_strata, needed, TOTALS_MIN_SAMPLE, n);
    while (given != n) { /* to where the share is furthest from fair */
        const bool more = given < n;
        int best = -1;
        double worst = 0;
        for (int k = 0; k < m->n_strata; k++) {
            const uint32_t N = m->stratum_size[k];
            const uint32_t least = N < TOTALS_MIN_SAMPLE ? N : TOTALS_MIN_SAMPLE;
            if (more ? share[k] == N : share[k] <= least)
                continue;
            const double off = (more ? 1 : -1) * ((double)n * N / (double)m->n - share[k]);
            if (best < 0 || off > worst) {
                best = k;
                worst = off;
            }
        }
        if (best < 0)
            return err_set(e, ERR_USAGE, "the strata cannot share %zu buildings; draw another number", n);
        share[best] += more ? 1u : -1u;
        given = more ? given + 1 : given - 1;
    }
    return true;
}

static int by_turn(const void *a, const void *b)
{
    const struct draw *x = a, *y = b;
    if (x->turn != y->turn)
        return x->turn < y->turn ? -1 : 1;
    return (x->stratum > y->stratum) - (x->stratum < y->stratum);
}

/* A number for the stratum's random stream that does not depend on the order in which strata were met. */
static uint32_t stratum_key(const char *name)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

static bool draw_all(const struct totals_map *m, const uint32_t *share, uint64_t seed, struct draw *out,
                     struct err *e)
{
    size_t done = 0;
    bool ok = true;
    for (int k = 0; ok && k < m->n_strata; k++) {
        const uint32_t N = m->stratum_size[k];
        uint32_t *pick = mem_array(share[k], sizeof *pick, "the sample", e), at = 0;
        const struct totals_building **member = pick ? mem_array(N, sizeof *member, "the sample", e) : NULL;
        ok = member &&
             estimate_draw(seed, m->strata_field ? stratum_key(m->stratum[k]) : 0, N, share[k], pick, e);
        for (size_t i = 0; ok && i < m->n; i++)
            if (m->building[i].stratum == k)
                member[at++] = &m->building[i];
        for (uint32_t i = 0; ok && i < share[k]; i++)
            out[done++] = (struct draw){member[pick[i]], (i + 0.5) / share[k], k};
        free(member);
        free(pick);
    }
    if (ok && m->n_strata > 1)
        qsort(out, done, sizeof *out, by_turn);
    return ok;
}

/* ---- the file */

static OGRLayerH make_layer(GDALDatasetH ds, bool csv)
{
    static const struct {
        const char *name;
        OGRFieldType type;
    } columns[] = {{"draw", OFTInteger},   {"bldg_id", OFTString},    {"fid", OFTInteger64},
                   {"lon", OFTReal},       {"lat", OFTReal},          {"purpose", OFTString},
                   {"stratum", OFTString}, {"n_stratum", OFTInteger}, {"zone_id", OFTString},
                   {"grade", OFTString}};
    char *options[] = {(char *)(uintptr_t) "STRING_QUOTING=IF_NEEDED", NULL};
    struct err ignored;
    OGRSpatialReferenceH srs = csv ? NULL : geo_srs("EPSG:4326", &ignored);
    OGRLayerH layer =
        GDALDatasetCreateLayer(ds, "sample", srs, csv ? wkbNone : wkbPoint, csv ? options : NULL);
    OSRDestroySpatialReference(srs);
    for (size_t k = 0; layer && k < sizeof columns / sizeof *columns; k++) {
        OGRFieldDefnH field = OGR_Fld_Create(columns[k].name, columns[k].type);
        if (csv && columns[k].type == OFTReal) {
            OGR_Fld_SetWidth(field, 12);
            OGR_Fld_SetPrecision(field, 7);
        }
        const bool ok = OGR_L_CreateField(layer, field, FALSE) == OGRERR_NONE;
        OGR_Fld_Destroy(field);
        if (!ok)
            return NULL;
    }
    return layer;
}

static bool write_row(OGRLayerH layer, const struct draw *d, int number, const struct totals_map *m,
                      struct zones *zones, bool csv)
{
    OGRFeatureH f = OGR_F_Create(OGR_L_GetLayerDefn(layer));
    OGR_F_SetFieldInteger(f, 0, number);
    OGR_F_SetFieldString(f, 1, d->b->bldg_id);
    OGR_F_SetFieldInteger64(f, 2, d->b->fid);
    OGR_F_SetFieldDouble(f, 3, round(d->b->lon * 1e7) / 1e7);
    OGR_F_SetFieldDouble(f, 4, round(d->b->lat * 1e7) / 1e7);
    OGR_F_SetFieldString(f, 5, "validate");
    if (m->strata_field)
        OGR_F_SetFieldString(f, 6, m->stratum[d->stratum]);
    OGR_F_SetFieldInteger(f, 7, (int)m->stratum_size[d->stratum]);
    if (zones && d->b->zone >= 0)
        OGR_F_SetFieldString(f, 8, zones_id(zones, d->b->zone));
    if (!csv) {
        OGR_F_SetFID(f, d->b->fid); /* the column fid is GeoPackage's own */
        OGRGeometryH point = OGR_G_CreateGeometry(wkbPoint);
        OGR_G_SetPoint_2D(point, 0, d->b->lon, d->b->lat);
        OGR_F_SetGeometryDirectly(f, point);
    }
    const bool ok = OGR_L_CreateFeature(layer, f) == OGRERR_NONE;
    OGR_F_Destroy(f);
    return ok;
}

static bool write_file(const char *path, const struct draw *draw, size_t n, const struct totals_map *m,
                       struct zones *zones, bool csv, struct err *e)
{
    char temp[4096];
    if (!file_temp_name(path, temp, sizeof temp, e))
        return false;
    GDALDriverH driver = GDALGetDriverByName(csv ? "CSV" : "GPKG");
    CPLErrorReset();
    GDALDatasetH ds = driver ? GDALCreate(driver, temp, 0, 0, 0, GDT_Unknown, NULL) : NULL;
    OGRLayerH layer = ds ? make_layer(ds, csv) : NULL;
    bool ok = layer && (csv || GDALDatasetStartTransaction(ds, FALSE) == OGRERR_NONE);
    for (size_t i = 0; ok && i < n; i++)
        ok = write_row(layer, &draw[i], (int)i + 1, m, zones, csv);
    ok = ok && (csv || GDALDatasetCommitTransaction(ds) == OGRERR_NONE);
    CPLErrorReset();
    if (ds)
        GDALClose(ds);
    ok = ok && CPLGetLastErrorType() < CE_Failure;
    if (!ok)
        mapping_gdal_failed(path, e);
    ok = ok && file_rename(temp, path, e);
    if (!ok)
        remove(temp);
    return ok;
}

static bool ends_in(const char *path, const char *end)
{
    const size_t n = strlen(path), k = strlen(end);
    return n > k && strcasecmp(path + n - k, end) == 0;
}

bool sampling_draw(const struct sampling_options *o, const struct progress *p, struct sampling_report *r,
                   struct err *e)
{
    struct totals_map m = {0};
    struct zones *zones = NULL;
    struct draw *draw = NULL;
    uint32_t *share = NULL;
    bool ok = false;
    const bool csv = ends_in(o->out_path, ".csv");
    *r = (struct sampling_report){0};
    if (!csv && !ends_in(o->out_path, ".gpkg"))
        return err_set(e, ERR_USAGE, "%s: a sample is written as .csv or .gpkg", o->out_path);
    if (file_exists(o->out_path) && !o->overwrite)
        return err_set(e, ERR_USAGE, "%s exists already; choose another name or add --overwrite",
                       o->out_path);
    if (o->zones && !o->zone_id)
        return err_set(e, ERR_USAGE, "say which field of %s names the zones with --zone-id", o->zones);
    if ((o->zones && !(zones = zones_open(o->zones, o->zones_layer, o->zone_id, NULL, e))) ||
        !totals_map_open(&m, o->source, zones, o->strata, p, e))
        goto out;
    r->n_buildings = m.n;
    r->n = o->n;
    r->n_strata = (size_t)m.n_strata;
    if (o->n == 0 || o->n > m.n) {
        err_set(e, ERR_USAGE, "%s holds %zu buildings, so 1 to %zu can be drawn, not %zu", o->source, m.n,
                m.n, o->n);
        goto out;
    }
    if (!(share = mem_array((size_t)m.n_strata, sizeof *share, "the sample", e)) ||
        !(draw = mem_array(o->n, sizeof *draw, "the sample", e)) || !allocate(&m, o->n, share, e) ||
        !draw_all(&m, share, o->seed, draw, e))
        goto out;
    ok = o->dry_run || write_file(o->out_path, draw, o->n, &m, zones, csv, e);
out:
    free(draw);
    free(share);
    totals_map_close(&m);
    zones_close(zones);
    return ok;
}

bool sampling_order(const struct event *ev, uint64_t seed, size_t n, uint32_t *index, struct err *e)
{
    return estimate_draw(seed, 0, (uint32_t)ev->n, (uint32_t)n, index, e);
}
