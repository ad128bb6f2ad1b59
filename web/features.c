/* SPDX-License-Identifier: Apache-2.0
 * features.c - /collections/{id}/items: filters, paging and single buildings, after OGC API - Features Part 1
 * (17-069r4).
 *
 * 1. Features come in rising id; `after` holds the id of the last one sent, so a page is found by bisection
 * and a client walks all of them exactly once.
 * 2. A next link keeps every parameter of the request but `after`.
 * 3. With sortby, `after` holds the sorted value beside the id; features without the value come last.
 * 4. p_dmg is compared as it is shown, in thousandths: a filter reveals no more than the answer does. */
#include "models/base/mem.h"
#include "web/crs.h"
#include "web/http.h"
#include "web/items_csv.h"
#include "web/routes.h"
#include "web/service.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LIMIT_DEFAULT = 1000, LIMIT_MAX = 10000, TEXT_MAX = 24 };

enum sort_key { SORT_FID, SORT_P_DMG, SORT_ENTROPY };

struct filter {
    size_t limit;
    int64_t after; /* number of the last feature sent */
    int after_key; /* and what it was sorted by */
    bool has_after;
    enum sort_key sort;
    bool is_falling;
    struct crs crs;    /* of the answer */
    double rect[2][4]; /* one box, or two when it crosses the 180th meridian */
    int n_rects;       /* 0: everywhere */
    OGRGeometryH rect_geometry[2];
    const char *equal[EQUAL_COUNT];
    int min_p, max_p; /* thousandths */
    bool has_p, has_time;
    time_t from, to;
};

static bool parse_double(const char **p, double *v)
{
    char *end;
    if (**p == ' ' || **p == '\0')
        return false;
    *v = strtod(*p, &end);
    bool ok = end != *p && isfinite(*v);
    *p = end;
    return ok;
}

static bool parse_bbox(const char *text, const struct crs *crs, struct filter *f)
{
    double v[6];
    int n = 0;
    for (const char *p = text;; p++) {
        if (n == 6 || !parse_double(&p, &v[n++]))
            return false;
        if (*p == '\0')
            break;
        if (*p != ',')
            return false;
    }
    if (n == 6) { /* heights in the middle */
        v[2] = v[3];
        v[3] = v[4];
    } else if (n != 4) {
        return false;
    }
    if (!crs_box(crs, v) || v[1] > v[3])
        return false;
    if (v[0] <= v[2]) {
        memcpy(f->rect[f->n_rects++], v, sizeof f->rect[0]);
    } else {
        memcpy(f->rect[f->n_rects++], (double[4]){v[0], v[1], 180, v[3]}, sizeof f->rect[0]);
        memcpy(f->rect[f->n_rects++], (double[4]){-180, v[1], v[2], v[3]}, sizeof f->rect[0]);
    }
    return true;
}

/* An RFC 3339 instant ("2024-05-06T07:08:09Z", with an offset, or a plain date). */
static bool parse_instant(const char *s, size_t n, time_t *t, bool is_end)
{
    char text[40];
    struct tm tm = {0};
    if (n >= sizeof text)
        return false;
    memcpy(text, s, n);
    text[n] = '\0';
    const char *p = strptime(text, "%Y-%m-%d", &tm);
    if (!p)
        return false;
    if (*p == '\0') {
        *t = timegm(&tm) + (is_end ? 86399 : 0);
        return true;
    }
    if (*p != 'T' && *p != 't')
        return false;
    p = strptime(p + 1, "%H:%M:%S", &tm);
    if (!p)
        return false;
    if (*p == '.')
        p += 1 + strspn(p + 1, "0123456789");
    *t = timegm(&tm);
    if (strcmp(p, "Z") == 0 || strcmp(p, "z") == 0)
        return true;
    int h, m, used = 0;
    if ((*p != '+' && *p != '-') || sscanf(p + 1, "%2d:%2d%n", &h, &m, &used) != 2 || p[1 + used])
        return false;
    *t -= (*p == '+' ? 1 : -1) * (h * 3600 + m * 60);
    return true;
}

static bool parse_datetime(const char *s, struct filter *f)
{
    const char *slash = strchr(s, '/');
    bool is_open_start, is_open_end;
    f->has_time = true;
    f->from = 0;
    if (!slash)
        return parse_instant(s, strlen(s), &f->from, false) && parse_instant(s, strlen(s), &f->to, true);
    is_open_start = slash == s || (slash == s + 2 && memcmp(s, "..", 2) == 0);
    is_open_end = slash[1] == '\0' || strcmp(slash + 1, "..") == 0;
    if (is_open_start && is_open_end)
        return false;
    f->from = is_open_start ? -1 : f->from; /* nothing here is older than 1970 */
    f->to = (time_t)INT64_MAX;
    return (is_open_start || parse_instant(s, (size_t)(slash - s), &f->from, false)) &&
           (is_open_end || parse_instant(slash + 1, strlen(slash + 1), &f->to, true)) && f->from <= f->to;
}

static bool parse_thousandths(const char *s, int *v, bool is_min)
{
    double d;
    const char *p = s;
    if (!parse_double(&p, &d) || *p || d < 0 || d > 1)
        return false;
    *v = (int)(is_min ? ceil(d * 1000 - 1e-9) : floor(d * 1000 + 1e-9));
    return true;
}

static bool parse_limit(const char *s, size_t *limit)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    if (*s < '0' || *s > '9' || *end || v == 0)
        return false;
    /* The standard asks that more than the maximum means the maximum. */
    *limit = errno || v > LIMIT_MAX ? LIMIT_MAX : (size_t)v;
    return true;
}

/* "f" and the number; sorted: "s", the key, ".", the number; all hexadecimal. */
static bool parse_after(const char *s, struct filter *f)
{
    static const char digits[] = "0123456789abcdef";
    char *end;
    errno = 0;
    f->has_after = true;
    if (f->sort != SORT_FID) {
        size_t n = *s == 's' ? strspn(s + 1, digits) : 0;
        if (n == 0 || n > 4 || s[1 + n] != '.')
            return false;
        f->after_key = (int)strtoul(s + 1, NULL, 16);
        s += n + 1;
    } else if (*s != 'f') {
        return false;
    }
    if (strspn(s + 1, digits) != strlen(s + 1) || !s[1] || strlen(s) > 17)
        return false;
    f->after = (int64_t)strtoull(s + 1, &end, 16);
    return errno == 0;
}

static bool parse_sort(const char *s, struct filter *f)
{
    f->is_falling = *s == '-';
    s += *s == '-' || *s == '+' || *s == ' '; /* a bare plus in a query is a space */
    f->sort = strcmp(s, "p_dmg") == 0 ? SORT_P_DMG : strcmp(s, "entropy") == 0 ? SORT_ENTROPY : SORT_FID;
    return f->sort != SORT_FID;
}

/* crs and bbox-crs; false when the reply is a 400. */
static bool choose_crs(const struct http_request *q, const struct assessment *as, const char *name,
                       struct crs *c, struct http_reply *a)
{
    const char *text = http_param(q, name);
    if (crs_find(text ? text : CRS_84, as->epsg, c))
        return true;
    http_problem(q, a, 400, name,
                 "%s is not one of the collection's coordinate systems; /collections/%s lists them", name,
                 as->collection_id);
    return false;
}

/* False when the reply is complete: a 400 that names the parameter. */
static bool parse_filter(const struct http_request *q, const struct assessment *as, struct filter *f,
                         struct http_reply *a)
{
    const char *s;
    struct crs bbox_crs;
    *f = (struct filter){.limit = LIMIT_DEFAULT, .max_p = 1000};
    if (!choose_crs(q, as, "crs", &f->crs, a) || !choose_crs(q, as, "bbox-crs", &bbox_crs, a))
        return false;
    if ((s = http_param(q, "sortby")) && !parse_sort(s, f)) {
        http_problem(q, a, 400, "sortby",
                     "sortby must be p_dmg or entropy, with - before it for the largest first");
        return false;
    }
    if ((s = http_param(q, "limit")) && !parse_limit(s, &f->limit)) {
        http_problem(q, a, 400, "limit", "limit must be a whole number from 1 to %d", LIMIT_MAX);
        return false;
    }
    if ((s = http_param(q, "after")) && !parse_after(s, f)) {
        http_problem(q, a, 400, "after", "after must be taken from a next link");
        return false;
    }
    if ((s = http_param(q, "bbox")) && !parse_bbox(s, &bbox_crs, f)) {
        http_problem(q, a, 400, "bbox",
                     "bbox must be four (or six) finite numbers minx,miny,maxx,maxy with miny <= maxy");
        return false;
    }
    if ((s = http_param(q, "datetime")) && !parse_datetime(s, f)) {
        http_problem(q, a, 400, "datetime", "datetime must be an RFC 3339 instant or an interval such as %s",
                     "2024-05-01T00:00:00Z/..");
        return false;
    }
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "max_p" : "min_p";
        if (!(s = http_param(q, name)))
            continue;
        f->has_p = true;
        if (!parse_thousandths(s, i ? &f->max_p : &f->min_p, i == 0)) {
            http_problem(q, a, 400, name, "%s must be a number from 0 to 1", name);
            return false;
        }
    }
    for (int k = 0; k < EQUAL_COUNT; k++)
        f->equal[k] = http_param(q, assessment_equal_names[k]);
    if (f->equal[EQUAL_DMG_LEVEL]) {
        char *end;
        strtol(f->equal[EQUAL_DMG_LEVEL], &end, 10);
        if (end == f->equal[EQUAL_DMG_LEVEL] || *end) {
            http_problem(q, a, 400, "dmg_level", "dmg_level must be a whole number");
            return false;
        }
    }
    return true;
}

/* By box first; only a geometry that straddles the edge is cut exactly. */
static bool meets_rects(const struct building *b, struct filter *f)
{
    for (int i = 0; i < f->n_rects; i++) {
        const double *r = f->rect[i], *box = b->box;
        if (box[0] > box[2] || box[0] > r[2] || box[2] < r[0] || box[1] > r[3] || box[3] < r[1])
            continue;
        if (box[0] >= r[0] && box[2] <= r[2] && box[1] >= r[1] && box[3] <= r[3])
            return true;
        if (!f->rect_geometry[i]) {
            char wkt[400];
            char *p = wkt;
            snprintf(wkt, sizeof wkt,
                     "POLYGON((%.17g %.17g,%.17g %.17g,%.17g %.17g,%.17g %.17g,%.17g %.17g))", r[0], r[1],
                     r[2], r[1], r[2], r[3], r[0], r[3], r[0], r[1]);
            OGR_G_CreateFromWkt(&p, NULL, &f->rect_geometry[i]);
        }
        /* A box without area is no polygon to GEOS; its neighbourhood decides then. */
        if (r[0] == r[2] || r[1] == r[3] || !f->rect_geometry[i] ||
            OGR_G_Intersects(f->rect_geometry[i], b->geometry))
            return true;
    }
    return false;
}

static bool matches(const struct assessment *as, const struct building *b, struct filter *f)
{
    for (int k = 0; k < EQUAL_COUNT; k++) {
        if (!f->equal[k])
            continue;
        if (!b->equal[k])
            return false;
        const char *value = as->names + b->equal[k];
        if (k == EQUAL_DMG_LEVEL ? strtol(value, NULL, 10) != strtol(f->equal[k], NULL, 10)
                                 : strcmp(value, f->equal[k]) != 0)
            return false;
    }
    if (f->has_p && (b->p_mille == ASSESSMENT_NO_P || b->p_mille < f->min_p || b->p_mille > f->max_p))
        return false;
    if (f->has_time && b->updated != (time_t)-1 &&
        (b->updated + as->updated_seconds < f->from || b->updated > f->to))
        return false;
    return f->n_rects == 0 || meets_rects(b, f);
}

/* What a feature is sorted by, as a number that rises along the list and fits four hexadecimal digits. */
static int sort_value(const struct building *b, const struct filter *f)
{
    int v = f->sort == SORT_P_DMG ? b->p_mille : b->entropy_mille;
    return v == ASSESSMENT_NO_P ? 0xffff : f->is_falling ? 0x8000 - v : v;
}

static void print_time(char *out, size_t size)
{
    time_t now = time(NULL);
    struct tm tm;
    strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
}

/* The request's own query, encoded again, without `after`. */
static void print_query(const struct http_request *q, char *out, size_t size)
{
    char value[3 * HTTP_MAX_TARGET + 1];
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < q->n_params; i++) {
        if (strcmp(q->param[i].name, "after") == 0)
            continue;
        http_encode(q->param[i].value, value, sizeof value);
        int n = snprintf(out + used, size - used, "%s%s=%s", used ? "&" : "", q->param[i].name, value);
        used += n > 0 && (size_t)n < size - used ? (size_t)n : 0;
    }
}

/* The rest of a next link's query: what was the last feature sent. */
static void print_after(const struct filter *f, const struct building *last, char *out, size_t size)
{
    if (f->sort == SORT_FID)
        snprintf(out, size, "after=f%" PRIx64, (uint64_t)last->fid);
    else
        snprintf(out, size, "after=s%x.%" PRIx64, (unsigned)sort_value(last, f), (uint64_t)last->fid);
}

static void write_links(FILE *out, const struct http_request *q, const struct assessment *as,
                        const struct filter *f, const struct building *last)
{
    char query[4 * HTTP_MAX_TARGET - 200], position[60];
    const char *after = http_param(q, "after"), *cid = as->collection_id;
    print_query(q, query, sizeof query);
    cJSON *links = cJSON_CreateArray();
    http_link(links, q, "self", q->type, "This page", "/collections/%s/items%s%s%s%s", cid,
              q->n_params ? "?" : "", query, after ? (*query ? "&after=" : "after=") : "",
              after ? after : "");
    http_link(links, q, "collection", HTTP_JSON, "The collection", "/collections/%s", cid);
    if (last) {
        print_after(f, last, position, sizeof position);
        http_link(links, q, "next", q->type, "The next page", "/collections/%s/items?%s%s%s", cid, query,
                  *query ? "&" : "", position);
    }
    char *text = cJSON_PrintUnformatted(links);
    fputs(text ? text : "[]", out);
    free(text);
    cJSON_Delete(links);
}

/* The feature as it is kept, or with its geometry in another coordinate system. */
static void write_feature(FILE *out, const struct assessment *as, const struct building *b,
                          const struct filter *f, OGRCoordinateTransformationH t)
{
    if (f->crs.epsg == 0) {
        fwrite(as->text + b->text, 1, b->text_size, out);
        return;
    }
    fprintf(out, "{\"type\":\"Feature\",\"id\":%" PRId64 ",\"geometry\":", b->fid);
    crs_write(out, b->geometry, &f->crs, t);
    fputs(",\"properties\":", out);
    fwrite(as->text + b->properties, 1, b->text + b->text_size - b->properties, out);
}

/* ---- choosing a page
 * ---------------------------------------------------------------------------------------------- */

struct page {
    const struct building **row; /* [n] */
    size_t n, matched;
    bool has_more;
};

static int compare_rows(const void *x, const void *y, void *ctx)
{
    const struct building *a = *(const struct building *const *)x, *b = *(const struct building *const *)y;
    int u = sort_value(a, ctx), v = sort_value(b, ctx);
    return u != v ? (u < v ? -1 : 1) : (a->fid > b->fid) - (a->fid < b->fid);
}

static bool is_past(const struct building *b, const struct filter *f)
{
    int key = f->sort == SORT_FID ? 0 : sort_value(b, f);
    return !f->has_after || key > f->after_key || (key == f->after_key && b->fid > f->after);
}

static bool choose_page(const struct assessment *as, struct filter *f, struct page *p, struct err *e)
{
    *p = (struct page){0};
    /* Unsorted, the rows come in order, and what lies beyond the page need only be counted. */
    size_t room = f->sort == SORT_FID && f->limit < as->n ? f->limit : as->n;
    p->row = mem_array(room, sizeof *p->row, "a page", e);
    if (!p->row)
        return false;
    for (size_t i = 0; i < as->n; i++) {
        const struct building *b = &as->building[i];
        if (!matches(as, b, f))
            continue;
        p->matched++;
        if (!is_past(b, f))
            continue;
        if (p->n == room)
            p->has_more = true;
        else
            p->row[p->n++] = b;
    }
    if (f->sort != SORT_FID) {
        qsort_r(p->row, p->n, sizeof *p->row, compare_rows, f);
        p->has_more = p->n > f->limit;
        if (p->has_more)
            p->n = f->limit;
    }
    return true;
}

static void write_collection(FILE *out, const struct http_request *q, const struct assessment *as,
                             const struct filter *f, const struct page *p, OGRCoordinateTransformationH t)
{
    char now[TEXT_MAX];
    fputs("{\"type\":\"FeatureCollection\",\"features\":[", out);
    for (size_t i = 0; i < p->n; i++) {
        if (i)
            fputc(',', out);
        write_feature(out, as, p->row[i], f, t);
    }
    print_time(now, sizeof now);
    fprintf(out, "],\"numberMatched\":%zu,\"numberReturned\":%zu,\"timeStamp\":\"%s\",\"links\":", p->matched,
            p->n, now);
    write_links(out, q, as, f, p->has_more ? p->row[p->n - 1] : NULL);
    fputc('}', out);
}

/* A table has no place for links but the header. */
static void link_table(const struct http_request *q, const struct assessment *as, const struct filter *f,
                       const struct page *p, struct http_reply *a)
{
    char query[4 * HTTP_MAX_TARGET - 200], position[60];
    if (!p->has_more)
        return;
    print_query(q, query, sizeof query);
    print_after(f, p->row[p->n - 1], position, sizeof position);
    if (strlen(q->base) + strlen(query) + strlen(as->collection_id) < 260)
        http_reply_header(a, "Link", "<%s/collections/%s/items?%s%s%s>; rel=\"next\"", q->base,
                          as->collection_id, query, *query ? "&" : "", position);
}

void items_get(const struct service *s, const struct http_request *q, const char *const *arg,
               struct http_reply *a)
{
    struct filter f;
    struct page p = {0};
    struct err e = {0};
    char *body = NULL;
    size_t size = 0;
    bool ok = true;
    const struct assessment *as = service_collection(s, q, arg[0], a);
    if (!as || !parse_filter(q, as, &f, a))
        return;
    OGRCoordinateTransformationH t = crs_transform(&f.crs, false, &ok);
    FILE *out = ok && choose_page(as, &f, &p, &e) ? open_memstream(&body, &size) : NULL;
    if (out) {
        if (strcmp(q->type, HTTP_CSV) == 0)
            items_csv_write(out, as, p.row, p.n, &f.crs, t);
        else
            write_collection(out, q, as, &f, &p, t);
        bool is_short = ferror(out) != 0;
        if (fclose(out) != 0 || is_short) {
            free(body);
            body = NULL;
        }
    }
    http_reply_body(a, 200, q->type, body, size);
    http_reply_header(a, "Content-Crs", "<%s>", f.crs.uri);
    if (a->status == 200 && strcmp(q->type, HTTP_CSV) == 0)
        link_table(q, as, &f, &p, a);
    for (int i = 0; i < 2; i++)
        OGR_G_DestroyGeometry(f.rect_geometry[i]);
    if (t)
        OCTDestroyCoordinateTransformation(t);
    free(p.row);
}

void item_get(const struct service *s, const struct http_request *q, const char *const *arg,
              struct http_reply *a)
{
    char *end, *text = NULL, *body = NULL;
    size_t size = 0;
    bool ok;
    struct filter f = {0};
    const struct assessment *as = service_collection(s, q, arg[0], a);
    if (!as || !choose_crs(q, as, "crs", &f.crs, a))
        return;
    errno = 0;
    int64_t fid = strtoll(arg[1], &end, 10);
    size_t i = errno || *end || end == arg[1] ? as->n : assessment_find(as, fid);
    if (i == as->n || as->building[i].fid != fid) {
        http_problem(q, a, 404, NULL, "collection %s has no feature '%.40s'", as->collection_id, arg[1]);
        return;
    }
    cJSON *links = cJSON_CreateArray();
    http_link(links, q, "self", q->type, "This building", "/collections/%s/items/%" PRId64, as->collection_id,
              fid);
    http_link(links, q, "collection", HTTP_JSON, "The collection", "/collections/%s", as->collection_id);
    text = cJSON_PrintUnformatted(links);
    cJSON_Delete(links);
    OGRCoordinateTransformationH t = crs_transform(&f.crs, false, &ok);
    FILE *out = text && ok ? open_memstream(&body, &size) : NULL;
    if (out) {
        write_feature(out, as, &as->building[i], &f, t);
        bool is_short = fflush(out) != 0;
        /* The links go before the brace that ends the feature. */
        is_short |= fseeko(out, -1, SEEK_CUR) != 0 || fprintf(out, ",\"links\":%s}", text) < 0;
        if (fclose(out) != 0 || is_short) {
            free(body);
            body = NULL;
        }
    }
    free(text);
    if (t)
        OCTDestroyCoordinateTransformation(t);
    http_reply_body(a, 200, q->type, body, size);
    http_reply_header(a, "Content-Crs", "<%s>", f.crs.uri);
    http_reply_validate(q, a);
}
