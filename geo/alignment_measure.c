/* SPDX-License-Identifier: Apache-2.0
 *
 * alignment_measure.c - what each building by itself says about its shift: a correlation surface over all
 * whole-pixel shifts up to the search length. Declared in alignment_parts.h.
 *
 * What is correlated are gradients of the smoothed grey image, as two-component vectors:
 *
 *   c(s) = sum w(x) p(x) . q(x+s) / sqrt( sum w(x) |p(x)|^2  *  sum w(x) |q(x+s)|^2 )
 *
 * p: pre, q: post, w: 1 on the footprint and a metre around it. (Normalised cross-correlation of grey values,
 * Lewis, "Fast normalized cross-correlation", Vision Interface 1995, on the vector field of Argyriou and
 * Vlachos' gradient correlation, Electronics Letters 39(10), 2003.) Gradients need no means taken out, ignore a
 * change of brightness, and keep their sign: a lit slope does not match a shaded one. On scenes with known
 * shifts they left half the error of grey values and of gradient magnitudes. The narrow window matters as
 * much: the ground around a roof moves by another amount when the dates look from different sides, and half a
 * chip of it misled the match by more than a metre where roofs were 4 m high.
 *
 * Direct sums: a few hundred pixels times some hundred shifts are less work than a transform, and any
 * footprint shape will do. Threads: one job a thread at a time; a surface depends on its own pixels only. */
#include "geo/alignment_parts.h"

#include "models/base/mem.h"
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { SUPPORT_PX = 3, PIXELS_MIN = 24, PAD = 8, WORKERS_MAX = 16 };
static const double ring_m = 1;

/* ---- gradients */

/* Binomial smoothing (1 4 6 4 1)/16 both ways, then Sobel differences. */
void alignment_gradient(float *grey, const uint8_t *valid, int w, int h, float *gx, float *gy, float *scratch)
{
    const size_t row = (size_t)w, n = row * (size_t)h;
    memset(gx, 0, n * sizeof *gx);
    memset(gy, 0, n * sizeof *gy);
    if (w <= 2 * SUPPORT_PX || h <= 2 * SUPPORT_PX)
        return;
    memset(scratch, 0, n * sizeof *scratch);
    for (int y = 0; y < h; y++)
        for (int x = 2; x < w - 2; x++) {
            const float *p = grey + (size_t)y * row + x;
            scratch[(size_t)y * row + x] = (p[-2] + p[2]) * 0.0625F + (p[-1] + p[1]) * 0.25F + p[0] * 0.375F;
        }
    for (int y = 2; y < h - 2; y++)
        for (int x = 2; x < w - 2; x++) {
            const float *p = scratch + (size_t)y * row + x;
            grey[(size_t)y * row + x] = (p[-2 * (ptrdiff_t)row] + p[2 * row]) * 0.0625F +
                                        (p[-(ptrdiff_t)row] + p[row]) * 0.25F + p[0] * 0.375F;
        }
    for (int y = SUPPORT_PX; y < h - SUPPORT_PX; y++)
        for (int x = SUPPORT_PX; x < w - SUPPORT_PX; x++) {
            const float *up = grey + (size_t)(y - 1) * row + x, *on = up + row, *down = on + row;
            size_t at = (size_t)y * row + x;
            gx[at] = (up[1] - up[-1] + 2 * (on[1] - on[-1]) + down[1] - down[-1]) * 0.125F;
            gy[at] = (down[-1] - up[-1] + 2 * (down[0] - up[0]) + down[1] - up[1]) * 0.125F;
        }
    /* A gradient that a blank pixel had a part in is none. */
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            if (valid[(size_t)y * row + x])
                continue;
            for (int v = y - SUPPORT_PX; v <= y + SUPPORT_PX; v++)
                for (int u = x - SUPPORT_PX; u <= x + SUPPORT_PX; u++)
                    if (u >= 0 && v >= 0 && u < w && v < h)
                        gx[(size_t)v * row + u] = gy[(size_t)v * row + u] = 0;
        }
}

/* ---- correlation */

bool alignment_correlate(const float *px, const float *py, const uint8_t *weight, int size, const float *qx,
                         const float *qy, const float *energy, size_t stride, int reach, float *sums,
                         float *surface)
{
    const int side = 2 * reach + 1, row = side + PAD;
    float *dot = sums, *power = sums + side * row;
    double own = 0;
    int n_px = 0;
    memset(sums, 0, 2 * (size_t)side * (size_t)row * sizeof *sums);
    memset(surface, 0, (size_t)side * (size_t)side * sizeof *surface);
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            float ax = px[y * size + x], ay = py[y * size + x];
            if (!weight[y * size + x])
                continue;
            n_px++;
            own += ax * ax + ay * ay;
            for (int v = 0; v < side; v++) {
                const size_t at = (size_t)(y + v) * stride + (size_t)x;
                const float *bx = qx + at, *by = qy + at, *be = energy + at;
                float *to = dot + v * row, *into = power + v * row;
#pragma omp simd
                for (int u = 0; u < side; u++) {
                    to[u] += ax * bx[u] + ay * by[u];
                    into[u] += be[u];
                }
            }
        }
    if (n_px < PIXELS_MIN || !(own > 1e-6 * n_px)) /* flat to the last bit */
        return false;
    bool any = false;
    for (int v = 0; v < side; v++)
        for (int u = 0; u < side; u++) {
            double other = power[v * row + u];
            if (!(other > 1e-6 * n_px))
                continue;
            surface[v * side + u] = (float)(dot[v * row + u] / sqrt(own * other));
            any = true;
        }
    return any;
}

/* Footprint grown by ring_px and kept to pixels that have a gradient. */
static void weight_of(const uint8_t *chip, int size, int channels, int ring_px, uint8_t *weight)
{
    memset(weight, 0, (size_t)size * (size_t)size);
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            if (!chip[(y * size + x) * channels + channels - 1])
                continue;
            for (int v = -ring_px; v <= ring_px; v++)
                for (int u = -ring_px; u <= ring_px; u++)
                    if (u * u + v * v <= ring_px * ring_px && x + u >= SUPPORT_PX && y + v >= SUPPORT_PX &&
                        x + u < size - SUPPORT_PX && y + v < size - SUPPORT_PX)
                        weight[(y + v) * size + x + u] = 1;
        }
}

/* ---- workers */

struct worker {
    struct alignment_window window;
    struct chips *chips;
    float *grey, *scratch, *qx, *qy; /* [h,w] of the window; scratch then holds the energy */
    size_t room;
    uint8_t *chip; /* [size,size,channels] */
    uint8_t *valid, *weight;
    float *plane; /* [4,size,size]: grey, scratch, px, py */
    float *sums, *surface;
};

static void worker_close(struct worker *w)
{
    alignment_window_close(&w->window);
    chips_close(w->chips);
    free(w->grey);
    free(w->scratch);
    free(w->qx);
    free(w->qy);
    free(w->chip);
    free(w->valid);
    free(w->weight);
    free(w->plane);
    free(w->sums);
    free(w->surface);
}

static bool worker_open(struct worker *w, const struct alignment *a, const char *chips_path, struct err *e)
{
    const struct event *ev = a->ev;
    const size_t n = (size_t)ev->layout.size * (size_t)ev->layout.size, side = (size_t)a->side;
    return alignment_window_open(&w->window, &a->set[1], &ev->grid, e) &&
           (w->chips = chips_open(chips_path, &ev->layout, ev->n_chips, e)) &&
           (w->chip = mem_array(n, (size_t)imageset_stored_channels(&ev->layout), "a chip", e)) &&
           (w->valid = mem_array(n, 1, "a chip", e)) && (w->weight = mem_array(n, 1, "a chip", e)) &&
           (w->plane = mem_array(n, 4 * sizeof *w->plane, "a chip", e)) &&
           (w->sums = mem_array(2 * side * (side + PAD), sizeof *w->sums, "a correlation surface", e)) &&
           (w->surface = mem_array(side * side, sizeof *w->surface, "a correlation surface", e));
}

/* Grey and gradients of the window that was read. */
static bool prepare_window(struct worker *w, const struct event *ev, struct err *e)
{
    const size_t n = (size_t)w->window.w * (size_t)w->window.h;
    const int n_bands = ev->layout.n_bands;
    if (n > w->room) {
        if (!mem_grow(&w->grey, n, sizeof *w->grey, "an image window", e) ||
            !mem_grow(&w->scratch, n, sizeof *w->scratch, "an image window", e) ||
            !mem_grow(&w->qx, n, sizeof *w->qx, "an image window", e) ||
            !mem_grow(&w->qy, n, sizeof *w->qy, "an image window", e))
            return false;
        w->room = n;
    }
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (int b = 0; w->window.valid[i] && b < n_bands; b++) /* as chips store it, before rounding */
            sum +=
                fminf(fmaxf((w->window.px[(size_t)b * n + i] - (float)ev->scale_lo[EVENT_POST][b]) /
                                    (float)(ev->scale_hi[EVENT_POST][b] - ev->scale_lo[EVENT_POST][b]) * 191 +
                                32,
                            0),
                      255);
        w->grey[i] = sum / (float)n_bands;
    }
    alignment_gradient(w->grey, w->window.valid, w->window.w, w->window.h, w->qx, w->qy, w->scratch);
    for (size_t i = 0; i < n; i++)
        w->scratch[i] = w->qx[i] * w->qx[i] + w->qy[i] * w->qy[i];
    return true;
}

static bool measure_chip(struct worker *w, struct alignment *a, size_t page, struct err *e)
{
    const struct event *ev = a->ev;
    const int size = ev->layout.size, n_bands = ev->layout.n_bands,
              channels = imageset_stored_channels(&ev->layout);
    const size_t n = (size_t)size * (size_t)size;
    const struct alignment_item *it = &a->item[page];
    float *grey = w->plane, *scratch = grey + n, *px = scratch + n, *py = px + n;
    if (!chips_read(w->chips, &(int64_t){(int64_t)page}, 1, w->chip, e))
        return false;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = w->chip + i * (size_t)channels;
        float sum = 0;
        for (int b = 0; b < n_bands; b++)
            sum += p[b];
        grey[i] = sum / (float)n_bands;
        w->valid[i] = p[channels - 2] & 1;
    }
    alignment_gradient(grey, w->valid, size, size, px, py, scratch);
    weight_of(w->chip, size, channels, (int)floor(ring_m / ev->grid.gsd_m + 0.5), w->weight);
    size_t at = (size_t)(it->y - a->reach_px - w->window.y) * (size_t)w->window.w +
                (size_t)(it->x - a->reach_px - w->window.x);
    a->has_evidence[page] =
        alignment_correlate(px, py, w->weight, size, w->qx + at, w->qy + at, w->scratch + at,
                            (size_t)w->window.w, a->reach_px, w->sums, w->surface);
    const size_t cells = (size_t)a->side * (size_t)a->side;
    for (size_t i = 0; i < cells; i++)
        a->correlation[page * cells + i] = (int16_t)lrintf(w->surface[i] * 32767);
    return true;
}

static bool measure_job(struct worker *w, struct alignment *a, const struct alignment_job *j, struct err *e)
{
    if (progress_stopped(a->p))
        return err_set(e, ERR_INTERRUPTED, "interrupted");
    if (!alignment_window_read(&w->window, a->ev->layout.n_bands, j->x0, j->y0, j->x1, j->y1,
                               a->ev->layout.size, a->reach_px + SUPPORT_PX + 1, e) ||
        !prepare_window(w, a->ev, e))
        return false;
    for (size_t k = j->first; k < j->first + j->n; k++)
        if (!measure_chip(w, a, k, e))
            return false;
    return true;
}

bool alignment_measure(struct alignment *a, struct err *e)
{
    struct worker worker[WORKERS_MAX] = {0};
    struct err job_err[WORKERS_MAX];
    bool done[WORKERS_MAX], ok = true;
    char path[4096];
    const size_t cells = (size_t)a->side * (size_t)a->side;
    int n_workers = omp_get_max_threads() < WORKERS_MAX ? omp_get_max_threads() : WORKERS_MAX;
    if ((size_t)n_workers > a->n_jobs)
        n_workers = (int)a->n_jobs;
    int n = snprintf(path, sizeof path, "%s/chips.tif", a->ev->dir);
    if (n < 0 || (size_t)n >= sizeof path)
        return err_set(e, ERR_INPUT, "%s: the path is too long", a->ev->dir);
    if (!(a->correlation = mem_array(a->n, cells * sizeof *a->correlation, "the correlation surfaces", e)) ||
        !(a->has_evidence = mem_array(a->n, 1, "the correlation surfaces", e)))
        return false;
    for (int k = 0; ok && k < n_workers; k++)
        ok = worker_open(&worker[k], a, path, e);
    for (size_t at = 0; ok && at < a->n_jobs; at += (size_t)n_workers) {
        int batch = a->n_jobs - at < (size_t)n_workers ? (int)(a->n_jobs - at) : n_workers;
        progress_report(a->p, "measure", (double)a->job[at].first, (double)a->n, NULL);
#pragma omp parallel for num_threads(batch) schedule(static, 1)
        for (int k = 0; k < batch; k++) {
            job_err[k] = (struct err){0};
            done[k] = measure_job(&worker[k], a, &a->job[at + (size_t)k], &job_err[k]);
        }
        for (int k = 0; ok && k < batch; k++)
            if (!(ok = done[k]) && e)
                *e = job_err[k];
    }
    for (int k = 0; k < WORKERS_MAX; k++)
        worker_close(&worker[k]);
    if (ok)
        progress_report(a->p, "measure", (double)a->n, (double)a->n, NULL);
    return ok;
}
