/* SPDX-License-Identifier: Apache-2.0
 *
 * scale.c - the one linear scaling of each date and band. Declared in raster.h.
 *
 * The 2nd and 98th percentile are taken over ground that has data in both dates, so that a cloud-free strip
 * or a nodata edge of one date does not shift it against the other. Ground is sampled by a lattice of small
 * windows spread over every part of the overlap in proportion to its extent: at most some hundred windows are
 * read however large the scene, and a small scene is covered whole. Percentile p of n sorted values is value
 * number round(p (n-1)). */
#include "geo/raster.h"

#include "models/base/mem.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 64, WINDOWS = 256, STRIDE = 2 };

static const float low_u8 = 32, span_u8 = 191; /* 223 - 32 */

struct samples {
    float *value[2][EVENT_MAX_BANDS];
    size_t n, room;
};

uint8_t scale_apply(float value, double lo, double hi)
{
    double v = floor(low_u8 + (value - lo) / (hi - lo) * span_u8 + 0.5);
    return (uint8_t)fmin(fmax(v, 0), 255);
}

/* Truncation of what lies in [0, 256) is floor(), without a call for each value. */
void scale_run(const float *value, int n, double lo, double hi, uint8_t *out)
{
    for (int i = 0; i < n; i++) {
        double v = low_u8 + (value[i] - lo) / (hi - lo) * span_u8 + 0.5;
        v = v > 0 ? v : 0;
        out[i] = (uint8_t)(int)(v < 255 ? v : 255);
    }
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static bool take(struct samples *s, const float *px[2], const uint8_t *valid[2], int n_bands, int w, int h,
                 struct err *e)
{
    size_t plane = (size_t)w * (size_t)h, need = s->n + plane;
    if (need > s->room) {
        s->room = need * 2;
        for (int d = 0; d < 2; d++)
            for (int b = 0; b < n_bands; b++)
                if (!mem_grow(&s->value[d][b], s->room, sizeof(float), "samples for the scaling", e))
                    return false;
    }
    for (int y = 0; y < h; y += STRIDE)
        for (int x = 0; x < w; x += STRIDE) {
            size_t i = (size_t)y * (size_t)w + (size_t)x;
            if (!valid[0][i] || !valid[1][i])
                continue;
            for (int d = 0; d < 2; d++)
                for (int b = 0; b < n_bands; b++)
                    s->value[d][b][s->n] = px[d][(size_t)b * plane + i];
            s->n++;
        }
    return true;
}

/* The windows of one part of the overlap: k x k over its envelope, laid edge to edge when the part is small.
 */
static bool sample_part(struct samples *s, struct raster_reader *reader[2], OGRGeometryH part, double share,
                        const struct event_grid *g, int n_bands, const struct progress *p, struct err *e)
{
    OGREnvelope v;
    OGR_G_GetEnvelope(part, &v);
    double x0 = floor((v.MinX - g->geotransform[0]) / g->gsd_m),
           y0 = floor((g->geotransform[3] - v.MaxY) / g->gsd_m);
    double w = ceil((v.MaxX - v.MinX) / g->gsd_m) + 1, h = ceil((v.MaxY - v.MinY) / g->gsd_m) + 1;
    int k = (int)fmin(fmax(ceil(sqrt(WINDOWS * share)), 2), 16);
    double step_x = fmax(w / k, 1), step_y = fmax(h / k, 1);
    int ww = (int)fmin(ceil(step_x), WINDOW), wh = (int)fmin(ceil(step_y), WINDOW);
    const size_t plane = (size_t)ww * (size_t)wh;
    float *px[2] = {mem_array(plane * (size_t)n_bands, sizeof(float), "an image window", e),
                    mem_array(plane * (size_t)n_bands, sizeof(float), "an image window", e)};
    uint8_t *valid[2] = {mem_array(plane, 1, "an image window", e),
                         mem_array(plane, 1, "an image window", e)};
    bool ok = px[0] && px[1] && valid[0] && valid[1];
    for (int i = 0; ok && i < k * k; i++) {
        int x = (int)(x0 + (i % k + 0.5) * step_x - ww / 2.0),
            y = (int)(y0 + (i / k + 0.5) * step_y - wh / 2.0);
        if (progress_stopped(p))
            ok = err_set(e, ERR_INTERRUPTED, "interrupted");
        for (int d = 0; ok && d < 2; d++)
            ok = raster_read(reader[d], x, y, ww, wh, px[d], valid[d], e);
        if (ok)
            ok = take(s, (const float *[]){px[0], px[1]}, (const uint8_t *[]){valid[0], valid[1]}, n_bands,
                      ww, wh, e);
    }
    for (int d = 0; d < 2; d++) {
        free(px[d]);
        free(valid[d]);
    }
    return ok;
}

static OGRGeometryH part_of(OGRGeometryH g, int i)
{
    return OGR_GT_IsSubClassOf(OGR_G_GetGeometryType(g), wkbGeometryCollection) ? OGR_G_GetGeometryRef(g, i)
                                                                                : g;
}

static double extent(OGRGeometryH g)
{
    OGREnvelope v;
    OGR_G_GetEnvelope(g, &v);
    return (v.MaxX - v.MinX) * (v.MaxY - v.MinY);
}

bool scale_measure(struct raster_reader *pre, struct raster_reader *post, OGRGeometryH overlap,
                   const struct event_grid *grid, int n_bands, double lo[2][EVENT_MAX_BANDS],
                   double hi[2][EVENT_MAX_BANDS], const struct progress *p, struct err *e)
{
    struct raster_reader *reader[2] = {pre, post};
    struct samples s = {0};
    bool many = OGR_GT_IsSubClassOf(OGR_G_GetGeometryType(overlap), wkbGeometryCollection), ok = true;
    int n_parts = many ? OGR_G_GetGeometryCount(overlap) : 1;
    double total = 0;
    for (int i = 0; i < n_parts; i++)
        total += extent(part_of(overlap, i));
    for (int i = 0; ok && i < n_parts; i++) {
        progress_report(p, "scale", i, n_parts, NULL);
        double own = extent(part_of(overlap, i));
        if (own > 0)
            ok = sample_part(&s, reader, part_of(overlap, i), own / total, grid, n_bands, p, e);
    }
    if (ok && s.n == 0)
        ok = err_set(e, ERR_INPUT,
                     "the pre and post images have no ground in common that has data in both (all of it is "
                     "nodata or transparent in one of them)");
    for (int d = 0; ok && d < 2; d++)
        for (int b = 0; b < n_bands; b++) {
            qsort(s.value[d][b], s.n, sizeof(float), by_value);
            lo[d][b] = s.value[d][b][(size_t)floor(0.02 * (double)(s.n - 1) + 0.5)];
            hi[d][b] = s.value[d][b][(size_t)floor(0.98 * (double)(s.n - 1) + 0.5)];
            if (hi[d][b] <= lo[d][b]) /* a flat band: any slope will do */
                hi[d][b] = lo[d][b] + 1;
        }
    for (int d = 0; d < 2; d++)
        for (int b = 0; b < n_bands; b++)
            free(s.value[d][b]);
    return ok;
}
