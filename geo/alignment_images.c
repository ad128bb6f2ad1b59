/* SPDX-License-Identifier: Apache-2.0
 *
 * alignment_images.c - the post-event images of an event that is already on disk: opening them as `tile` did,
 * which windows to read, and cutting a chip at a fraction of a pixel. Declared in alignment_parts.h and
 * alignment.h.
 *
 * Only the post date is read again: the pre half of a chip and its footprint are in chips.tif. Pages follow
 * the order in which `tile` walked the scene, so consecutive pages are neighbours; a job takes pages as long
 * as their box stays small. Any other order is still right, only slower.
 *
 * Fractions of a pixel: cubic convolution with a = -1/2 (Keys, "Cubic convolution interpolation for digital
 * image processing", IEEE Trans. ASSP 29(6), 1981, eq. 15), which passes through the samples, so that a whole
 * number of pixels is a copy. Blank samples get no weight and the rest is scaled up; a pixel is valid when
 * its bilinear neighbours with data carry at least half of their weight, the rule of warp.c. */
#include "geo/alignment_parts.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BOX_PX = 640 };

/* ---- the images */

/* False when a file is no longer the one that the manifest describes. */
static bool check_file(const cJSON *file, bool verify, struct err *e)
{
    const char *path = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(file, "path"));
    const char *sha = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(file, "sha256"));
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(file, "bytes");
    struct stat st;
    char hex[65];
    if (!verify || !path || !sha || !cJSON_IsNumber(bytes)) /* /vsi names have no digest */
        return true;
    if (stat(path, &st) != 0)
        return err_set(e, ERR_INPUT,
                       "%s, which the event was made from, is not there; put it back to align the event",
                       path);
    if ((double)st.st_size == bytes->valuedouble && !file_sha256(path, hex, e))
        return false;
    if ((double)st.st_size != bytes->valuedouble || strcmp(hex, sha) != 0)
        return err_set(
            e, ERR_INPUT,
            "%s is not the image that the event was made from (its digest differs); make the event "
            "again with aftermap tile",
            path);
    return true;
}

static bool read_options(struct alignment *a, const cJSON *root, char *bands, size_t size, struct err *e)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(root, "options");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, "bands"), *band;
    const cJSON *blank = cJSON_GetObjectItemCaseSensitive(o, "max_blank");
    size_t k = 0;
    bands[0] = '\0';
    cJSON_ArrayForEach(band, list) if (cJSON_IsNumber(band) && k + 8 < size) k +=
        (size_t)snprintf(bands + k, size - k, "%s%d", k ? "," : "", band->valueint);
    if (cJSON_GetArraySize(list) != a->ev->layout.n_bands || !cJSON_IsNumber(blank))
        return err_set(e, ERR_INPUT,
                       "%s/event.json does not say how the event was made ('options'); make the event again "
                       "with aftermap tile",
                       a->ev->dir);
    a->max_blank = blank->valuedouble;
    return true;
}

static bool open_images(const struct event *ev, const char *bands, struct raster_set set[2], struct err *e)
{
    static const char *const phase[2] = {"pre", "post"};
    for (int d = 0; d < 2; d++)
        if (!raster_set_open(&set[d], phase[d], (const char *const *)ev->path[d], ev->n_path[d], e))
            return false;
    if (!raster_choose_bands(&set[0], &set[1], bands, e))
        return false;
    OGRGeometryH outline = raster_locate(&set[1], ev->grid.wkt, e);
    bool ok = outline != NULL;
    OGR_G_DestroyGeometry(outline);
    return ok;
}

bool alignment_open_images(struct alignment *a, bool verify, struct err *e)
{
    char bands[EVENT_MAX_BANDS * 12];
    cJSON *root = cJSON_Parse(a->ev->manifest);
    const cJSON *inputs = cJSON_GetObjectItemCaseSensitive(root, "inputs"), *file;
    const cJSON *post = cJSON_GetObjectItemCaseSensitive(inputs, "post");
    bool ok = read_options(a, root, bands, sizeof bands, e);
    int i = 0;
    cJSON_ArrayForEach(file, post)
    {
        progress_report(a->p, "check", i++, cJSON_GetArraySize(post), NULL);
        if (ok && progress_stopped(a->p))
            ok = err_set(e, ERR_INTERRUPTED, "interrupted");
        ok = ok && check_file(file, verify, e);
    }
    cJSON_Delete(root);
    return ok && open_images(a->ev, bands, a->set, e);
}

/* ---- what to read */

/* As tile.c places chips: counted on the endless grid, so that rounding falls the same way. */
void alignment_corner(const struct event *ev, size_t building, int *x, int *y)
{
    const struct event_building *b = &ev->building[building];
    const struct event_grid *g = &ev->grid;
    double half = ev->layout.size / 2.0;
    *x = (int)(floor(b->x_m / g->gsd_m - half + 0.5) - floor(g->geotransform[0] / g->gsd_m + 0.5));
    *y = (int)(floor(-b->y_m / g->gsd_m - half + 0.5) - floor(-g->geotransform[3] / g->gsd_m + 0.5));
}

bool alignment_plan(struct alignment *a, struct err *e)
{
    const struct event *ev = a->ev;
    a->n = ev->n_chips;
    a->item = mem_array(a->n, sizeof *a->item, "the shifts", e);
    a->job = a->item ? mem_array(a->n, sizeof *a->job, "the reading plan", e) : NULL;
    if (!a->job)
        return false;
    for (size_t i = 0; i < ev->n; i++)
        if (ev->building[i].page >= 0) {
            struct alignment_item *it = &a->item[ev->building[i].page];
            it->building = (uint32_t)i;
            alignment_corner(ev, i, &it->x, &it->y);
            if (it->x < 0 || it->y < 0 || it->x + ev->layout.size > ev->grid.width ||
                it->y + ev->layout.size > ev->grid.height)
                return err_set(
                    e, ERR_INPUT,
                    "%s/chips.gpkg places building %s outside the event's grid; make the event again "
                    "with aftermap tile",
                    ev->dir, ev->building[i].bldg_id);
        }
    for (size_t k = 0; k < a->n; k++) {
        const struct alignment_item *it = &a->item[k];
        struct alignment_job *j = a->n_jobs ? &a->job[a->n_jobs - 1] : NULL;
        if (j && (abs(it->x - j->x0) > BOX_PX || abs(it->x - j->x1) > BOX_PX || abs(it->y - j->y0) > BOX_PX ||
                  abs(it->y - j->y1) > BOX_PX))
            j = NULL;
        if (!j) {
            j = &a->job[a->n_jobs++];
            *j = (struct alignment_job){k, 0, it->x, it->y, it->x, it->y};
        }
        j->n++;
        j->x0 = it->x < j->x0 ? it->x : j->x0;
        j->y0 = it->y < j->y0 ? it->y : j->y0;
        j->x1 = it->x > j->x1 ? it->x : j->x1;
        j->y1 = it->y > j->y1 ? it->y : j->y1;
    }
    return true;
}

bool alignment_window_open(struct alignment_window *w, const struct raster_set *post,
                           const struct event_grid *grid, struct err *e)
{
    *w = (struct alignment_window){.reader = raster_reader_open(post, grid, e)};
    return w->reader != NULL;
}

void alignment_window_close(struct alignment_window *w)
{
    raster_reader_close(w->reader);
    free(w->px);
    free(w->valid);
    *w = (struct alignment_window){0};
}

bool alignment_window_read(struct alignment_window *w, int n_bands, int x0, int y0, int x1, int y1, int size,
                           int margin, struct err *e)
{
    w->x = x0 - margin;
    w->y = y0 - margin;
    w->w = x1 - x0 + size + 2 * margin;
    w->h = y1 - y0 + size + 2 * margin;
    size_t n = (size_t)w->w * (size_t)w->h;
    if (n > w->room) {
        if (!mem_grow(&w->px, n * (size_t)n_bands, sizeof *w->px, "an image window", e) ||
            !mem_grow(&w->valid, n, 1, "an image window", e))
            return false;
        w->room = n;
    }
    return raster_read(w->reader, w->x, w->y, w->w, w->h, w->px, w->valid, e);
}

/* ---- cutting */

/* Weights of the samples at -1, 0, 1, 2 for a place t of 0..1 behind sample 0. */
static void cubic_weights(double t, double weight[4])
{
    double t2 = t * t, t3 = t2 * t;
    weight[0] = 0.5 * (-t3 + 2 * t2 - t);
    weight[1] = 0.5 * (3 * t3 - 5 * t2 + 2);
    weight[2] = 0.5 * (-3 * t3 + 4 * t2 + t);
    weight[3] = 0.5 * (t3 - t2);
}

void alignment_cut(const struct alignment_window *w, const struct event *ev, int x, int y, double sx,
                   double sy, uint8_t *px, size_t px_stride, uint8_t *valid, size_t valid_stride)
{
    const int size = ev->layout.size, n_bands = ev->layout.n_bands;
    const size_t plane = (size_t)w->w * (size_t)w->h;
    double fx = floor(sx), fy = floor(sy), wx[4], wy[4];
    int left = x - w->x + (int)fx - 1, top = y - w->y + (int)fy - 1;
    cubic_weights(sx - fx, wx);
    cubic_weights(sy - fy, wy);
    const double near_x[4] = {0, 1 - (sx - fx), sx - fx, 0}, near_y[4] = {0, 1 - (sy - fy), sy - fy, 0};
    assert(left >= 0 && top >= 0 && left + size + 3 <= w->w && top + size + 3 <= w->h);
    for (int r = 0; r < size; r++)
        for (int c = 0; c < size; c++, px += px_stride, valid += valid_stride) {
            double sum[EVENT_MAX_BANDS] = {0}, total = 0, data = 0;
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) {
                    double weight = wy[i] * wx[j];
                    size_t at = (size_t)(top + r + i) * (size_t)w->w + (size_t)(left + c + j);
                    if (weight == 0 || !w->valid[at])
                        continue;
                    total += weight;
                    data += near_y[i] * near_x[j];
                    for (int b = 0; b < n_bands; b++)
                        sum[b] += weight * w->px[(size_t)b * plane + at];
                }
            *valid = data >= 0.5 && total > 0.25;
            for (int b = 0; b < n_bands; b++)
                px[b] = *valid ? scale_apply((float)(sum[b] / total), ev->scale_lo[EVENT_POST][b],
                                             ev->scale_hi[EVENT_POST][b])
                               : 0;
        }
}

struct alignment_cutter {
    const struct event *ev;
    struct alignment images; /* only its sets are used */
    struct alignment_window window;
};

struct alignment_cutter *alignment_cutter_open(const struct event *ev, struct err *e)
{
    struct alignment_cutter *c = mem_array(1, sizeof *c, "a reader of chips", e);
    if (!c)
        return NULL;
    c->ev = ev;
    c->images.ev = (struct event *)(uintptr_t)ev; /* read only */
    if (alignment_open_images(&c->images, false, e) &&
        alignment_window_open(&c->window, &c->images.set[1], &ev->grid, e))
        return c;
    alignment_cutter_close(c);
    return NULL;
}

bool alignment_cutter_read(struct alignment_cutter *c, size_t building, double shift_x, double shift_y,
                           uint8_t *px, uint8_t *valid, struct err *e)
{
    const struct event *ev = c->ev;
    double sx = shift_x / ev->grid.gsd_m, sy = -shift_y / ev->grid.gsd_m;
    int x, y;
    if (!(fabs(shift_x) <= ALIGNMENT_HAND_MAX_M && fabs(shift_y) <= ALIGNMENT_HAND_MAX_M))
        return err_set(e, ERR_INPUT, "a shift of %g, %g m is out of range", shift_x, shift_y);
    alignment_corner(ev, building, &x, &y);
    int dx = (int)floor(sx), dy = (int)floor(sy);
    if (!alignment_window_read(&c->window, ev->layout.n_bands, x + dx, y + dy, x + dx, y + dy,
                               ev->layout.size, 3, e))
        return false;
    alignment_cut(&c->window, ev, x, y, sx, sy, px, (size_t)ev->layout.n_bands, valid, 1);
    return true;
}

void alignment_cutter_close(struct alignment_cutter *c)
{
    if (!c)
        return;
    alignment_window_close(&c->window);
    raster_set_free(&c->images.set[0]);
    raster_set_free(&c->images.set[1]);
    free(c);
}
