/* SPDX-License-Identifier: Apache-2.0
 * features.c - /collections/{id}/items: filters, paging and single buildings, after OGC API - Features Part 1
 * (17-069r4).
 *
 * 1. Features come in rising id; `after` holds the id of the last one sent, so a page is found by bisection
 * and a client walks all of them exactly once.
 * 2. A next link keeps every parameter of the request but `after`.
 * 3. p_dmg is compared as it is shown, in thousandths: a filter reveals no more than the answer does. */
#include "web/http.h"
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

struct filter {
    size_t limit;
    int64_t after; /* INT64_MIN: from the start */
    bool has_after;
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

static bool parse_bbox(const char *text, struct filter *f)
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
    if (v[1] > v[3])
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

static bool parse_after(const char *s, struct filter *f)
{
    char *end;
    errno = 0;
    if (s[0] != 'f' || strspn(s + 1, "0123456789abcdef") != strlen(s + 1) || !s[1] || strlen(s) > 17)
        return false;
    f->after = (int64_t)strtoull(s + 1, &end, 16);
    f->has_after = true;
    return errno == 0;
}

/* False when the reply is complete: a 400 that names the parameter. */
static bool parse_filter(const struct http_request *q, struct filter *f, struct http_reply *a)
{
    const char *s;
    *f = (struct filter){.limit = LIMIT_DEFAULT, .max_p = 1000};
    if ((s = http_param(q, "limit")) && !parse_limit(s, &f->limit)) {
        http_problem(q, a, 400, "limit", "limit must be a whole number from 1 to %d", LIMIT_MAX);
        return false;
    }
    if ((s = http_param(q, "after")) && !parse_after(s, f)) {
        http_problem(q, a, 400, "after", "after must be taken from a next link");
        return false;
    }
    if ((s = http_param(q, "bbox")) && !parse_bbox(s, f)) {
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

static void write_links(FILE *out, const struct http_request *q, const struct assessment *as,
                        const char *type, const struct building *last)
{
    char query[4 * HTTP_MAX_TARGET - 200];
    const char *after = http_param(q, "after"), *cid = as->collection_id;
    print_query(q, query, sizeof query);
    cJSON *links = cJSON_CreateArray();
    http_link(links, q, "self", type, "This page", "/collections/%s/items%s%s%s%s", cid,
              q->n_params ? "?" : "", query, after ? (*query ? "&after=" : "after=") : "",
              after ? after : "");
    http_link(links, q, "collection", HTTP_JSON, "The collection", "/collections/%s", cid);
    if (last)
        http_link(links, q, "next", type, "The next page", "/collections/%s/items?%s%safter=f%" PRIx64, cid,
                  query, *query ? "&" : "", (uint64_t)last->fid);
    char *text = cJSON_PrintUnformatted(links);
    fputs(text ? text : "[]", out);
    free(text);
    cJSON_Delete(links);
}

void items_get(const struct service *s, const struct http_request *q, const char *const *arg,
               struct http_reply *a)
{
    struct filter f;
    char now[TEXT_MAX], *body = NULL;
    size_t size = 0, matched = 0, returned = 0;
    const struct building *last = NULL;
    bool has_more = false;
    const struct assessment *as = service_collection(s, q, arg[0], a);
    if (!as || !parse_filter(q, &f, a))
        return;
    FILE *out = open_memstream(&body, &size);
    if (!out) {
        http_problem(q, a, 507, NULL, "memory ran out");
        return;
    }
    fputs("{\"type\":\"FeatureCollection\",\"features\":[", out);
    for (size_t i = 0; i < as->n; i++) {
        const struct building *b = &as->building[i];
        if (!matches(as, b, &f))
            continue;
        matched++;
        if (f.has_after && b->fid <= f.after)
            continue;
        if (returned == f.limit) {
            has_more = true;
            continue;
        }
        if (returned++)
            fputc(',', out);
        fwrite(as->text + b->text, 1, b->text_size, out);
        last = b;
    }
    print_time(now, sizeof now);
    fprintf(out, "],\"numberMatched\":%zu,\"numberReturned\":%zu,\"timeStamp\":\"%s\",\"links\":", matched,
            returned, now);
    write_links(out, q, as, q->type, has_more ? last : NULL);
    fputc('}', out);
    for (int i = 0; i < 2; i++)
        OGR_G_DestroyGeometry(f.rect_geometry[i]);
    bool is_short = ferror(out) != 0;
    if (fclose(out) != 0 || is_short) {
        free(body);
        body = NULL;
    }
    http_reply_body(a, 200, q->type, body, size);
    http_reply_header(a, "Content-Crs", "<http://www.opengis.net/def/crs/OGC/1.3/CRS84>");
}

void item_get(const struct service *s, const struct http_request *q, const char *const *arg,
              struct http_reply *a)
{
    char *end, *text = NULL, *body = NULL;
    const struct assessment *as = service_collection(s, q, arg[0], a);
    if (!as)
        return;
    errno = 0;
    int64_t fid = strtoll(arg[1], &end, 10);
    size_t i = errno || *end || end == arg[1] ? as->n : assessment_find(as, fid);
    if (i == as->n || as->building[i].fid != fid) {
        http_problem(q, a, 404, NULL, "collection %s has no feature '%.40s'", as->collection_id, arg[1]);
        return;
    }
    const struct building *b = &as->building[i];
    cJSON *links = cJSON_CreateArray();
    http_link(links, q, "self", q->type, "This building", "/collections/%s/items/%" PRId64, as->collection_id,
              fid);
    http_link(links, q, "collection", HTTP_JSON, "The collection", "/collections/%s", as->collection_id);
    text = cJSON_PrintUnformatted(links);
    cJSON_Delete(links);
    /* The stored text ends with the feature's brace: the links go before it. */
    int n =
        text ? asprintf(&body, "%.*s,\"links\":%s}", (int)b->text_size - 1, as->text + b->text, text) : -1;
    free(text);
    http_reply_body(a, 200, q->type, n < 0 ? NULL : body, n < 0 ? 0 : (size_t)n);
    http_reply_header(a, "Content-Crs", "<http://www.opengis.net/def/crs/OGC/1.3/CRS84>");
    http_reply_validate(q, a);
}
