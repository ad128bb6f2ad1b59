/* SPDX-License-Identifier: Apache-2.0
 *
 * alignment_field.c - from the surfaces of single buildings to a shift for each: neighbours are asked, and
 * most of what they say counts. Declared in alignment_parts.h.
 *
 * Not the shifts of neighbours are averaged but their whole surfaces:
 *
 *   S_i(s) = c_i(s) + near * mean_j c_j(s)  [ + far * mean_k c_k(s) ]       (each c less its mean over s)
 *
 * The means weigh neighbours by a Gaussian of their distance, the second with four times the reach. Wrong
 * peaks of changed buildings fall on different shifts and drown; the right one, weak as it may be in each, adds
 * up. A building with a clear match of its own keeps it against neighbours that look different (a taller roof
 * leans further), one that was swept away is found where its neighbours are. A median of the neighbours' best
 * shifts, tried first, needs more than half of them to be right, which fails in the middle of a destroyed
 * street. The far term is asked only where the near ones leave the confidence below min_score: on whole scenes
 * it blurs what differs from street to street.
 *
 * Confidence: m = S(best) - S(next peak at least 1.5 m away), against what chance gives. For images that have
 * nothing to do with each other, m stays below chance * sqrt(1 + sum of the squared weights of the others) in
 * 95 of 100 cases (measured by matching images against other parts of themselves, chance = 0.1);
 * q = m / (m + that), so that q = 0.5 is what one in twenty reaches by chance. A best shift at the rim of the
 * search has q = 0.
 *
 * What chance gives still passes now and then, by its nature with any shift: a shift that lies over 3 m, and over
 * four median deviations, from the median of those accepted around it gives way to that median (Hampel's rule,
 * JASA 69, 1974) and is `neighbours` of the least confidence. Threads: over buildings; each sums its neighbours in one fixed order. */
#include "geo/alignment_parts.h"

#include "models/base/mem.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NEIGHBOURS_MAX = 192, VOTES_MIN = 8 };
static const double near_weight = 1.5, far_weight = 2, far_reach = 4, chance = 0.1, apart_m = 1.5,
                    agree_m = 1, outlier_m = 3;

/* ---- peaks */

/* Vertex of the parabola through (-1,a), (0,b), (1,c) when b is the highest. */
static double vertex(double a, double b, double c)
{
    double bend = a - 2 * b + c;
    return bend < 0 ? fmin(fmax(0.5 * (a - c) / bend, -0.5), 0.5) : 0;
}

struct alignment_peak alignment_find_peak(const float *s, int side, double apart_px)
{
    int best = 0, reach = side / 2;
    for (int i = 1; i < side * side; i++)
        if (s[i] > s[best])
            best = i;
    int x = best % side, y = best / side;
    struct alignment_peak peak = {.x = x - reach, .y = y - reach};
    if (x == 0 || y == 0 || x == side - 1 || y == side - 1)
        return peak;
    peak.x += vertex(s[best - 1], s[best], s[best + 1]);
    peak.y += vertex(s[best - side], s[best], s[best + side]);
    float next = 0; /* a surface has its mean at 0: lower is no peak */
    for (int v = 0; v < side; v++)
        for (int u = 0; u < side; u++)
            if ((u - x) * (u - x) + (v - y) * (v - y) >= apart_px * apart_px)
                next = fmaxf(next, s[v * side + u]);
    peak.margin = fmax((double)s[best] - (double)next, 0);
    return peak;
}

static double confidence(double margin, double noise)
{
    return margin / (margin + chance * noise);
}

/* ---- neighbours: pages sorted into square cells */

struct cells {
    double side_m, x0, y0;
    int nx, ny;
    uint32_t *start, *page; /* pages of cell c: page[start[c]..start[c+1]), ascending */
};

static const struct event_building *building(const struct alignment *a, size_t page)
{
    return &a->ev->building[a->item[page].building];
}

static int cell_of(const struct cells *c, double x, double y)
{
    int i = (int)((x - c->x0) / c->side_m), j = (int)((y - c->y0) / c->side_m);
    return j * c->nx + i;
}

static void cells_free(struct cells *c)
{
    free(c->start);
    free(c->page);
}

static bool cells_make(struct cells *c, const struct alignment *a, double side_m, struct err *e)
{
    double x1 = -HUGE_VAL, y1 = -HUGE_VAL;
    *c = (struct cells){.x0 = HUGE_VAL, .y0 = HUGE_VAL};
    for (size_t k = 0; k < a->n; k++) {
        const struct event_building *b = building(a, k);
        c->x0 = fmin(c->x0, b->x_m);
        c->y0 = fmin(c->y0, b->y_m);
        x1 = fmax(x1, b->x_m);
        y1 = fmax(y1, b->y_m);
    }
    c->side_m = fmax(side_m, fmax(x1 - c->x0, y1 - c->y0) / 2000);
    c->nx = (int)((x1 - c->x0) / c->side_m) + 1;
    c->ny = (int)((y1 - c->y0) / c->side_m) + 1;
    size_t n = (size_t)c->nx * (size_t)c->ny;
    c->start = mem_array(n + 2, sizeof *c->start, "the index of neighbours", e);
    c->page = mem_array(a->n, sizeof *c->page, "the index of neighbours", e);
    if (!c->start || !c->page) {
        cells_free(c);
        return false;
    }
    for (size_t k = 0; k < a->n; k++)
        c->start[cell_of(c, building(a, k)->x_m, building(a, k)->y_m) + 2]++;
    for (size_t i = 2; i < n + 2; i++)
        c->start[i] += c->start[i - 1];
    for (size_t k = 0; k < a->n; k++)
        c->page[c->start[cell_of(c, building(a, k)->x_m, building(a, k)->y_m) + 1]++] = (uint32_t)k;
    return true;
}

/* Adds weight * the mean surface of the neighbours of `page` to s, and returns the sum of their squared
 * weights. Of very many neighbours every n-th is asked. */
static double add_neighbours(const struct alignment *a, const struct cells *c, const float *mean, size_t page,
                             double sigma_m, double weight, float *s)
{
    const struct event_building *b = building(a, page);
    const double limit = 2.5 * sigma_m;
    const size_t n_cells = (size_t)a->side * (size_t)a->side;
    int i0 = (int)fmax((b->x_m - limit - c->x0) / c->side_m, 0),
        j0 = (int)fmax((b->y_m - limit - c->y0) / c->side_m, 0);
    int i1 = (int)fmin((b->x_m + limit - c->x0) / c->side_m, c->nx - 1);
    int j1 = (int)fmin((b->y_m + limit - c->y0) / c->side_m, c->ny - 1);
    size_t n = 0, step = 1, seen = 0;
    double total = 0.5, squares = 0; /* half a neighbour that says nothing: one alone is not trusted fully */
    for (int pass = 0; pass < 3; pass++) { /* count, sum the weights, add */
        seen = 0;
        for (int j = j0; j <= j1; j++)
            for (int i = i0; i <= i1; i++)
                for (uint32_t k = c->start[j * c->nx + i]; k < c->start[j * c->nx + i + 1]; k++) {
                    size_t other = c->page[k];
                    double d = hypot(building(a, other)->x_m - b->x_m, building(a, other)->y_m - b->y_m);
                    if (other == page || d > limit || !a->has_evidence[other])
                        continue;
                    if (pass == 0) {
                        n++;
                        continue;
                    }
                    if (seen++ % step)
                        continue;
                    double w = exp(-0.5 * d * d / (sigma_m * sigma_m));
                    if (pass == 1) {
                        total += w;
                        continue;
                    }
                    w *= weight / total;
                    squares += w * w;
                    const int16_t *from = a->correlation + other * n_cells;
                    const float f = (float)(w / 32767), level = mean[other] * 32767;
#pragma omp simd
                    for (size_t t = 0; t < n_cells; t++)
                        s[t] += f * ((float)from[t] - level);
                }
        if (pass == 0)
            step = n / NEIGHBOURS_MAX + 1;
    }
    return squares;
}

/* ---- deciding */

static void decide(const struct alignment *a, const struct cells *near, const struct cells *far,
                   const float *mean, size_t page, float *s, struct alignment_item *it)
{
    const size_t n_cells = (size_t)a->side * (size_t)a->side;
    const double gsd = a->ev->grid.gsd_m, apart_px = fmax(apart_m / gsd, 2);
    const int16_t *own = a->correlation + page * n_cells;
    for (size_t t = 0; t < n_cells; t++)
        s[t] = a->has_evidence[page] ? (float)own[t] / 32767 - mean[page] : 0;
    struct alignment_peak alone = alignment_find_peak(s, a->side, apart_px);
    double squares = a->has_evidence[page];
    it->own_x = alone.x;
    it->own_y = alone.y;
    it->own_q = a->has_evidence[page] ? confidence(alone.margin, 1) : 0;
    squares += add_neighbours(a, near, mean, page, a->o->smooth_m, near_weight, s);
    struct alignment_peak best = alignment_find_peak(s, a->side, apart_px);
    double q = squares > 0 ? confidence(best.margin, sqrt(squares)) : 0;
    if (q < a->o->min_score) {
        squares += add_neighbours(a, far, mean, page, far_reach * a->o->smooth_m, far_weight, s);
        best = alignment_find_peak(s, a->side, apart_px);
        q = squares > 0 ? confidence(best.margin, sqrt(squares)) : 0;
    }
    if (it->by == BY_HAND)
        return;
    bool agrees = a->has_evidence[page] && hypot(alone.x - best.x, alone.y - best.y) * gsd <= agree_m;
    it->q = q;
    it->by = q < a->o->min_score ? BY_SKIPPED : agrees ? BY_MEASURED : BY_NEIGHBOURS;
    it->sx = it->by == BY_SKIPPED ? 0 : best.x;
    it->sy = it->by == BY_SKIPPED ? 0 : best.y;
}

static int by_value(const void *p, const void *q)
{
    double a = *(const double *)p, b = *(const double *)q;
    return (a > b) - (a < b);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[(n - 1) / 2];
}

static bool is_accepted(const struct alignment_item *it)
{
    return it->by == BY_MEASURED || it->by == BY_NEIGHBOURS;
}

/* True when the accepted ones around `page` contradict it; their median is then in to[2]. */
static bool is_outlier(const struct alignment *a, const struct cells *c, size_t page, double to[2])
{
    enum { MAX = 512 };
    const struct event_building *b = building(a, page);
    const struct alignment_item *it = &a->item[page];
    const double limit = 2.5 * far_reach * a->o->smooth_m, gsd = a->ev->grid.gsd_m;
    double x[MAX], y[MAX], far[MAX], sx[MAX], sy[MAX];
    int i0 = (int)fmax((b->x_m - limit - c->x0) / c->side_m, 0);
    int j0 = (int)fmax((b->y_m - limit - c->y0) / c->side_m, 0);
    int i1 = (int)fmin((b->x_m + limit - c->x0) / c->side_m, c->nx - 1);
    int j1 = (int)fmin((b->y_m + limit - c->y0) / c->side_m, c->ny - 1);
    size_t n = 0, n_all = 0, step = 1, seen = 0;
    for (int pass = 0; pass < 2; pass++) { /* count, take every step-th */
        for (int j = j0; j <= j1; j++)
            for (int i = i0; i <= i1; i++)
                for (uint32_t k = c->start[j * c->nx + i]; k < c->start[j * c->nx + i + 1]; k++) {
                    size_t other = c->page[k];
                    if (other == page || !is_accepted(&a->item[other]) ||
                        hypot(building(a, other)->x_m - b->x_m, building(a, other)->y_m - b->y_m) > limit)
                        continue;
                    if (pass == 0)
                        n_all++;
                    else if (seen++ % step == 0 && n < MAX) {
                        sx[n] = x[n] = a->item[other].sx;
                        sy[n] = y[n] = a->item[other].sy;
                        n++;
                    }
                }
        step = n_all / MAX + 1;
    }
    if (n < VOTES_MIN)
        return false;
    to[0] = median(x, n);
    to[1] = median(y, n);
    for (size_t k = 0; k < n; k++)
        far[k] = hypot(sx[k] - to[0], sy[k] - to[1]);
    return hypot(it->sx - to[0], it->sy - to[1]) > fmax(outlier_m / gsd, 4 * median(far, n));
}

/* All are judged before any is changed, so that no order matters. */
static bool replace_outliers(struct alignment *a, const struct cells *c, struct err *e)
{
    double(*to)[2] = mem_array(a->n, sizeof *to, "the shifts", e);
    uint8_t *out = mem_array(a->n, 1, "the shifts", e);
    bool ok = to && out;
#pragma omp parallel for schedule(dynamic, 16) if (ok)
    for (size_t k = 0; k < a->n; k++)
        if (ok && is_accepted(&a->item[k]))
            out[k] = is_outlier(a, c, k, to[k]);
    for (size_t k = 0; ok && k < a->n; k++)
        if (out[k]) {
            a->item[k].sx = to[k][0];
            a->item[k].sy = to[k][1];
            a->item[k].q = a->o->min_score;
            a->item[k].by = BY_NEIGHBOURS;
        }
    free(to);
    free(out);
    return ok;
}

bool alignment_decide(struct alignment *a, struct err *e)
{
    const size_t n_cells = (size_t)a->side * (size_t)a->side;
    struct cells near = {0}, far = {0};
    float *mean = mem_array(a->n, sizeof *mean, "the shifts", e);
    bool ok = mean && cells_make(&near, a, 2.5 * a->o->smooth_m, e) &&
              cells_make(&far, a, 2.5 * far_reach * a->o->smooth_m, e);
    for (size_t k = 0; ok && k < a->n; k++) {
        int64_t sum = 0;
        for (size_t t = 0; t < n_cells; t++)
            sum += a->correlation[k * n_cells + t];
        mean[k] = (float)((double)sum / (double)n_cells / 32767);
    }
    bool short_of_memory = false;
#pragma omp parallel if (ok)
    {
        float *s = ok ? mem_array(n_cells, sizeof *s, "a correlation surface", NULL) : NULL;
#pragma omp for schedule(dynamic, 16)
        for (size_t k = 0; k < a->n; k++) {
            if (s)
                decide(a, &near, &far, mean, k, s, &a->item[k]);
            else
#pragma omp atomic write
                short_of_memory = true;
        }
        free(s);
    }
    if (ok && short_of_memory)
        ok = err_set(e, ERR_RESOURCE, "there is no memory for a correlation surface");
    ok = ok && replace_outliers(a, &far, e);
    cells_free(&near);
    cells_free(&far);
    free(mean);
    return ok;
}
