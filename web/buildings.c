/* SPDX-License-Identifier: Apache-2.0
 * buildings.c - buildings and their chips for the page (buildings.h). */
#include "web/buildings.h"

#include "geo/raster.h"
#include "models/base/mem.h"
#include "web/labels.h"
#include "web/picture.h"
#include "web/routes.h"

#include <math.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PX_DEFAULT = 256, PX_MAX = 1024 };

static double rounded(double v, double step)
{
    return round(v / step) * step;
}

bool buildings_open(struct buildings *b, const struct service *s, const struct http_request *q,
                    const char *aid, const struct event *ev, struct http_reply *a)
{
    struct err e = {0};
    *b = (struct buildings){.ev = ev};
    b->grid = geo_transform("EPSG:4326", ev->grid.wkt, &e);
    bool ok =
        b->grid && store_labels_read(s->workflow->store, aid, STORE_ANY_PURPOSE, NULL, NULL, &b->labels, &e);
    for (int i = 0; ok && i < s->n; i++)
        if (strcmp(s->assessment[i]->id, aid) == 0 && s->assessment[i]->kind == ASSESSMENT_MAP)
            b->map = s->assessment[i];
    if (!ok) {
        buildings_close(b);
        http_problem_err(q, a, 500, &e);
    }
    return ok;
}

void buildings_close(struct buildings *b)
{
    if (b->grid)
        OCTDestroyCoordinateTransformation(b->grid);
    store_labels_free(&b->labels);
    *b = (struct buildings){0};
}

const struct store_label *buildings_label(const struct buildings *b, const char *bldg_id)
{
    size_t lo = 0, hi = b->labels.n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(b->labels.item[mid].bldg_id, bldg_id);
        if (order == 0)
            return &b->labels.item[mid];
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

const struct building *buildings_prediction(const struct buildings *b, size_t index)
{
    if (!b->map)
        return NULL;
    int64_t fid = b->ev->building[index].fid;
    size_t i = assessment_find(b->map, fid);
    bool fits =
        i < b->map->n && b->map->building[i].fid == fid && b->map->building[i].p_mille != ASSESSMENT_NO_P;
    return fits ? &b->map->building[i] : NULL;
}

/* ---- documents
 * ----------------------------------------------------------------------------------------------------- */

static void add_rings(cJSON *list, OGRGeometryH polygon, double x0, double y0)
{
    for (int k = 0; k < OGR_G_GetGeometryCount(polygon); k++) {
        OGRGeometryH ring = OGR_G_GetGeometryRef(polygon, k);
        cJSON *points = cJSON_CreateArray();
        for (int i = 0; i < OGR_G_GetPointCount(ring); i++) {
            const double p[2] = {rounded(OGR_G_GetX(ring, i) - x0, 0.01),
                                 rounded(OGR_G_GetY(ring, i) - y0, 0.01)};
            cJSON_AddItemToArray(points, cJSON_CreateDoubleArray(p, 2));
        }
        cJSON_AddItemToArray(list, points);
    }
}

static cJSON *outline(const struct buildings *b, const struct event_building *v)
{
    cJSON *list = cJSON_CreateArray();
    OGRGeometryH g = v->geometry ? OGR_G_Clone(v->geometry) : NULL;
    if (g && OGR_G_Transform(g, b->grid) == OGRERR_NONE) {
        if (OGR_GT_Flatten(OGR_G_GetGeometryType(g)) == wkbPolygon)
            add_rings(list, g, v->x_m, v->y_m);
        else if (OGR_GT_Flatten(OGR_G_GetGeometryType(g)) == wkbMultiPolygon)
            for (int i = 0; i < OGR_G_GetGeometryCount(g); i++)
                add_rings(list, OGR_G_GetGeometryRef(g, i), v->x_m, v->y_m);
    }
    OGR_G_DestroyGeometry(g);
    return list;
}

static cJSON *shift_document(const struct event_building *v)
{
    if (!isfinite(v->shift_x) || !isfinite(v->shift_y))
        return cJSON_CreateNull();
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddNumberToObject(doc, "x", rounded(v->shift_x, 0.01));
    cJSON_AddNumberToObject(doc, "y", rounded(v->shift_y, 0.01));
    cJSON_AddNumberToObject(doc, "q", isfinite(v->shift_q) ? rounded(v->shift_q, 0.001) : 0);
    cJSON_AddStringToObject(doc, "by", v->shift_by ? v->shift_by : "");
    return doc;
}

static cJSON *prediction_document(const struct buildings *b, size_t index)
{
    const struct building *p = buildings_prediction(b, index);
    if (!p)
        return cJSON_CreateNull();
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddNumberToObject(doc, "p_dmg", p->p_mille / 1000.0);
    cJSON_AddStringToObject(
        doc, "dmg_class", p->equal[EQUAL_DMG_CLASS] ? b->map->names + p->equal[EQUAL_DMG_CLASS] : "unknown");
    if (p->entropy_mille != ASSESSMENT_NO_P)
        cJSON_AddNumberToObject(doc, "entropy", p->entropy_mille / 1000.0);
    else
        cJSON_AddNullToObject(doc, "entropy");
    return doc;
}

cJSON *buildings_document(const struct buildings *b, size_t index, bool blind)
{
    static const char *const splits[] = {"train", "test", "buffer", "source"};
    const struct event_building *v = &b->ev->building[index];
    const struct store_label *label = buildings_label(b, v->bldg_id);
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "bldg_id", v->bldg_id);
    cJSON_AddNumberToObject(doc, "fid", (double)v->fid);
    cJSON_AddNumberToObject(doc, "lon", rounded(v->lon, 1e-7));
    cJSON_AddNumberToObject(doc, "lat", rounded(v->lat, 1e-7));
    cJSON_AddNumberToObject(doc, "area_m2", rounded(v->area_m2, 0.1));
    cJSON_AddNumberToObject(doc, "page", (double)v->page);
    cJSON_AddStringToObject(doc, "status", v->status);
    cJSON_AddStringToObject(doc, "reason", v->reason);
    cJSON_AddStringToObject(doc, "split", splits[v->split & 3]);
    cJSON_AddNumberToObject(doc, "size_m", b->ev->size_m);
    cJSON_AddNumberToObject(doc, "gsd_m", b->ev->grid.gsd_m);
    cJSON_AddItemToObject(doc, "outline", outline(b, v));
    cJSON_AddItemToObject(doc, "shift", shift_document(v));
    cJSON_AddItemToObject(doc, "label", label ? labels_document(label) : cJSON_CreateNull());
    cJSON_AddItemToObject(doc, "prediction", blind ? cJSON_CreateNull() : prediction_document(b, index));
    return doc;
}

void building_get(const struct service *s, const struct http_request *q, const char *const *arg,
                  struct http_reply *a)
{
    struct buildings b;
    size_t index;
    struct event_loan *l = workflow_event(s, q, arg[0], a);
    if (l && workflow_building(q, l, arg[1], &index, a)) {
        pthread_rwlock_rdlock((pthread_rwlock_t *)(uintptr_t)&s->maps_lock);
        if (buildings_open(&b, s, q, arg[0], event_loan_event(l), a)) {
            http_reply_json(a, HTTP_JSON, buildings_document(&b, index, false));
            buildings_close(&b);
        }
        pthread_rwlock_unlock((pthread_rwlock_t *)(uintptr_t)&s->maps_lock);
        http_reply_validate(q, a);
    }
    event_cache_give(s->workflow->events, l);
}

/* ---- chips
 * --------------------------------------------------------------------------------------------------------- */

/* Pixel `to` [4] of the picture from the bands and the validity of one date. */
static void shade(const uint8_t *band, int n_bands, bool is_valid, uint8_t to[4])
{
    to[0] = band[0];
    to[1] = n_bands >= 3 ? band[1] : band[0];
    to[2] = n_bands >= 3 ? band[2] : band[0];
    to[3] = is_valid ? 255 : 0;
}

/* The date's half of the chip as [size,size,4]; NULL with an error. */
static uint8_t *chip_picture(struct event_loan *l, size_t index, int date, bool unshifted, struct err *e)
{
    const struct event *ev = event_loan_event(l);
    const struct imageset_layout *y = &ev->layout;
    const size_t n = (size_t)y->size * (size_t)y->size;
    const int channels = imageset_stored_channels(y), bands = y->n_bands;
    uint8_t *out = mem_array(n, 4, "a chip", e), *px = NULL, *valid = NULL;
    bool ok = out != NULL;
    if (ok && unshifted) {
        px = mem_array(n, (size_t)bands, "a chip", e);
        valid = px ? mem_array(n, 1, "a chip", e) : NULL;
        ok = valid && event_loan_unshifted(l, index, px, valid, e);
        for (size_t i = 0; ok && i < n; i++)
            shade(px + i * (size_t)bands, bands, valid[i], out + 4 * i);
    } else if (ok) {
        px = event_loan_chip(l, ev->building[index].page, e);
        ok = px != NULL;
        for (size_t i = 0; ok && i < n; i++) {
            const uint8_t *p = px + i * (size_t)channels;
            bool is_valid = !y->has_masks || (p[y->n_dates * bands] >> date & 1);
            shade(p + date * bands, bands, is_valid, out + 4 * i);
        }
    }
    free(valid);
    free(px);
    if (!ok) {
        free(out);
        out = NULL;
    }
    return out;
}

/* Drops the alpha of px [n,4] where all of it is visible; returns the channels left. */
static int drop_alpha(uint8_t *px, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (px[4 * i + 3] != 255)
            return 4;
    for (size_t i = 1; i < n; i++)
        memmove(px + 3 * i, px + 4 * i, 3);
    return 3;
}

/* False: the reply is a 400. */
static bool read_size(const struct http_request *q, double most, double *size_m, struct http_reply *a)
{
    const char *text = http_param(q, "size_m");
    char *end;
    *size_m = most;
    if (!text)
        return true;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= 1 && v <= 1000)) {
        http_problem(q, a, 400, "size_m", "size_m must be a number of metres from 1 to 1000");
        return false;
    }
    *size_m = fmin(v, most);
    return true;
}

static void reply_chip(const struct http_request *q, struct event_loan *l, size_t index, int date,
                       struct http_reply *a)
{
    const struct event *ev = event_loan_event(l);
    const char *shift = http_param(q, "shift");
    const struct event_building *v = &ev->building[index];
    struct err e = {0};
    long px = PX_DEFAULT;
    double size_m;
    char *png = NULL;
    size_t png_size = 0;
    if (shift && strcmp(shift, "auto") != 0 && strcmp(shift, "none") != 0) {
        http_problem(q, a, 400, "shift", "shift must be auto or none");
        return;
    }
    if (!http_param_int(q, a, "px", 16, PX_MAX, &px) || !read_size(q, ev->size_m, &size_m, a))
        return;
    if (v->page < 0) {
        http_problem(q, a, 404, NULL, "this building has no chip: %s",
                     *v->reason ? v->reason : "it was left out");
        return;
    }
    bool unshifted = shift && strcmp(shift, "none") == 0 && date == EVENT_POST && isfinite(v->shift_x) &&
                     (v->shift_x != 0 || v->shift_y != 0);
    const size_t n = (size_t)px * (size_t)px;
    const double side = ev->layout.size * size_m / ev->size_m, from = (ev->layout.size - side) / 2;
    uint8_t *whole = chip_picture(l, index, date, unshifted, &e);
    uint8_t *out = whole ? mem_array(n, 4, "a picture", &e) : NULL;
    if (out && picture_resize(whole, ev->layout.size, 4, from, from, side, out, (int)px, &e) &&
        picture_png(out, (int)px, (int)px, drop_alpha(out, n), &png, &png_size, &e)) {
        http_reply_body(a, 200, "image/png", png, png_size);
        if (http_param(q, "rev"))
            http_reply_header(a, "Cache-Control", "public, max-age=31536000, immutable");
        else
            http_reply_validate(q, a);
    } else {
        http_problem_err(q, a, 409, &e);
    }
    free(out);
    free(whole);
}

void chip_get(const struct service *s, const struct http_request *q, const char *const *arg,
              struct http_reply *a)
{
    size_t index;
    int date = strcmp(arg[2], "pre") == 0 ? EVENT_PRE : strcmp(arg[2], "post") == 0 ? EVENT_POST : -1;
    if (date < 0) {
        http_problem(q, a, 404, NULL, "there are pre.png and post.png");
        return;
    }
    struct event_loan *l = workflow_event(s, q, arg[0], a);
    if (l && workflow_building(q, l, arg[1], &index, a))
        reply_chip(q, l, index, date, a);
    event_cache_give(s->workflow->events, l);
}
