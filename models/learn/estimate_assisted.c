/* SPDX-License-Identifier: Apache-2.0
 *
 * estimate_assisted.c - the model-assisted interval of estimate.h and the groups it stands on.
 *
 * For a total T the unknown split of T over the groups is replaced by the likeliest one (binomial likelihood,
 * a Lagrange multiplier found by bisection), rounded to whole buildings. The estimate's distribution under it
 * is the convolution of the groups' hypergeometric ones, each weighted N_g / n_g, held on a grid of at least
 * eight steps to the smallest weight where MAX_GRID steps allow it; steps within the grid's rounding of the
 * observed value count as ties, which mid-p halves. */
#include "models/learn/estimate_parts.h"

#include "models/base/mem.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_GRID = 8192 };

struct total_test {
    const struct estimate_cell *cell;
    int n;
    double seen;                       /* the estimate that was observed */
    uint32_t hits[ESTIMATE_MAX_CELLS]; /* the likeliest split of the total under test */
    double *grid, *next;               /* [MAX_GRID + 1] */
    double *pmf;                       /* [largest sample + 1] */
};

/* ---- the likeliest split */

/* Hits in a cell for a multiplier mu: the root in [0, 1] of mu N p^2 - (n + mu N) p + x, times N, within what
 * the sample leaves possible. Falls as mu rises. */
static double cell_hits(const struct estimate_cell *c, double mu)
{
    const double N = c->n_population, n = c->n_sample, x = c->n_hit, a = mu * N, s = n + a;
    const double root = sqrt(fmax(0, s * s - 4 * a * x));
    const double p = s > 0 ? 2 * x / (s + root) : (root - s) / (-2 * a);
    return fmin(fmax(N * p, x), N - (n - x));
}

static double sum_hits(const struct total_test *t, double mu)
{
    double sum = 0;
    for (int c = 0; c < t->n; c++)
        sum += cell_hits(&t->cell[c], mu);
    return sum;
}

static void split_total(struct total_test *t, uint32_t total)
{
    double a = -1, b = 1, part[ESTIMATE_MAX_CELLS];
    while (sum_hits(t, a) < total && a > -1e15)
        a *= 4;
    while (sum_hits(t, b) > total && b < 1e15)
        b *= 4;
    for (int i = 0; i < 80; i++) {
        const double mu = (a + b) / 2;
        if (sum_hits(t, mu) > total)
            a = mu;
        else
            b = mu;
    }
    int64_t missing = total;
    for (int c = 0; c < t->n; c++) {
        const double hits = cell_hits(&t->cell[c], (a + b) / 2);
        t->hits[c] = (uint32_t)hits;
        part[c] = hits - t->hits[c];
        missing -= t->hits[c];
    }
    while (missing != 0) { /* largest remainders first */
        const int step = missing > 0 ? 1 : -1;
        int best = -1;
        for (int c = 0; c < t->n; c++) {
            const struct estimate_cell *k = &t->cell[c];
            const bool room =
                step > 0 ? t->hits[c] < k->n_population - (k->n_sample - k->n_hit) : t->hits[c] > k->n_hit;
            if (room && (best < 0 || step * part[c] > step * part[best]))
                best = c;
        }
        assert(best >= 0); /* the total lies between what the samples leave possible */
        t->hits[best] += (uint32_t)step;
        part[best] -= step;
        missing -= step;
    }
}

/* ---- the estimate's distribution under that split */

/* The counts of a cell that matter, *first and how many, with their probabilities in t->pmf. */
static uint32_t cell_pmf(struct total_test *t, int c, uint32_t *first)
{
    const uint32_t N = t->cell[c].n_population, n = t->cell[c].n_sample, K = t->hits[c];
    const uint32_t low = estimate_hits_min(N, K, n), last = K < n ? K : n;
    uint32_t mode = (uint32_t)(((double)n + 1) * ((double)K + 1) / ((double)N + 2)), a, b;
    mode = mode < low ? low : mode > last ? last : mode;
    const double rest = (double)N - K - n, top = estimate_pmf(N, K, n, mode);
    t->pmf[mode] = top;
    for (a = mode; a > low && t->pmf[a] > top * 1e-11; a--)
        t->pmf[a - 1] = t->pmf[a] * a * (rest + a) / (((double)K - a + 1) * ((double)n - a + 1));
    for (b = mode; b < last && t->pmf[b] > top * 1e-11; b++)
        t->pmf[b + 1] = t->pmf[b] * ((double)K - b) * ((double)n - b) / ((b + 1.0) * (rest + b + 1));
    *first = a;
    return b - a + 1;
}

/* Mid-p tails of the observed estimate when the population holds `total`. */
static void tails(struct total_test *t, uint32_t total, double *below, double *above)
{
    double base = 0, range = 0, smallest = INFINITY;
    int open = 0;
    split_total(t, total);
    for (int c = 0; c < t->n; c++) { /* how far the sum reaches */
        uint32_t first, count = cell_pmf(t, c, &first);
        const double w = (double)t->cell[c].n_population / t->cell[c].n_sample;
        base += w * first;
        range += w * (count - 1);
        if (count > 1) {
            open++;
            smallest = fmin(smallest, w);
        }
    }
    const double step = open ? fmax(smallest / 8, range / (MAX_GRID - ESTIMATE_MAX_CELLS)) : 1;
    size_t length = 1;
    t->grid[0] = 1;
    for (int c = 0; c < t->n; c++) {
        uint32_t first, count = cell_pmf(t, c, &first);
        const double w = (double)t->cell[c].n_population / t->cell[c].n_sample / step;
        if (count == 1)
            continue;
        const size_t longer = length + (size_t)(w * (count - 1) + 0.5);
        assert(longer <= MAX_GRID + 1);
        memset(t->next, 0, longer * sizeof *t->next);
        for (uint32_t k = 0; k < count; k++) {
            const double p = t->pmf[first + k];
            double *to = t->next + (size_t)(w * k + 0.5);
            for (size_t i = 0; i < length; i++)
                to[i] += p * t->grid[i];
        }
        double *swap = t->grid;
        t->grid = t->next;
        t->next = swap;
        length = longer;
    }
    const double at = (t->seen - base) / step, tie = (open < 8 ? 0.5 * open : 4) + 1e-6;
    double equal = 0;
    *below = *above = 0;
    for (size_t i = 0; i < length; i++) {
        const double d = (double)i - at;
        *(d < -tie ? below : d > tie ? above : &equal) += t->grid[i];
    }
    const double all = *below + *above + equal;
    *below = (*below + equal / 2) / all;
    *above = (*above + equal / 2) / all;
}

bool estimate_assisted(const struct estimate_cell *cell, int n_cells, double level, struct estimate *out,
                       struct err *e)
{
    struct total_test t = {.cell = cell, .n = n_cells};
    uint32_t least = 0, most = 0, largest = 0, low, high;
    double below, above, tail = (1 - level) / 2;
    assert(n_cells > 0 && n_cells <= ESTIMATE_MAX_CELLS && level > 0 && level < 1);
    for (int c = 0; c < n_cells; c++) {
        assert(cell[c].n_sample > 0 && cell[c].n_hit <= cell[c].n_sample &&
               cell[c].n_sample <= cell[c].n_population);
        t.seen += (double)cell[c].n_population * cell[c].n_hit / cell[c].n_sample;
        least += cell[c].n_hit;
        most += cell[c].n_population - (cell[c].n_sample - cell[c].n_hit);
        largest = cell[c].n_sample > largest ? cell[c].n_sample : largest;
    }
    if (n_cells == 1) {
        estimate_one_cell(cell, tail, true, &low, &high);
        *out = (struct estimate){t.seen, fmin(low, floor(t.seen)), fmax(high, ceil(t.seen))};
        return true;
    }
    t.grid = mem_array(MAX_GRID + 1, sizeof *t.grid, "the interval", e);
    t.next = mem_array(MAX_GRID + 1, sizeof *t.next, "the interval", e);
    t.pmf = mem_array((size_t)largest + 1, sizeof *t.pmf, "the interval", e);
    const bool ok = t.grid && t.next && t.pmf;
    if (ok) {
        uint32_t a = least, b = (uint32_t)fmin(most, ceil(t.seen));
        while (a < b) {
            const uint32_t T = a + (b - a) / 2;
            tails(&t, T, &below, &above);
            if (above > tail)
                b = T;
            else
                a = T + 1;
        }
        low = a;
        a = (uint32_t)fmax(least, floor(t.seen));
        b = most;
        while (a < b) {
            const uint32_t T = b - (b - a) / 2;
            tails(&t, T, &below, &above);
            if (below > tail)
                a = T;
            else
                b = T - 1;
        }
        high = a;
        *out = (struct estimate){t.seen, fmin(low, floor(t.seen)), fmax(high, ceil(t.seen))};
    }
    free(t.grid);
    free(t.next);
    free(t.pmf);
    return ok;
}

/* ---- groups */

struct axis {
    double n[ESTIMATE_BINS + 1], p[ESTIMATE_BINS + 1],
        sample[ESTIMATE_BINS + 1]; /* sums of all bins before */
    double min_population, min_sample;
};

/* Expected variance, but for a factor, of a group of bins [a, b): N p (1 - p). */
static double group_cost(const struct axis *x, int a, int b)
{
    const double n = x->n[b] - x->n[a], p = x->p[b] - x->p[a];
    if (x->sample[b] - x->sample[a] < x->min_sample || n < x->min_population)
        return INFINITY;
    return n > 0 ? p - p * p / n : 0;
}

int estimate_groups(const uint32_t *population, const uint32_t *sample, uint32_t min_sample, int *first_bin)
{
    struct axis x = {.min_sample = min_sample};
    double best[ESTIMATE_MAX_GROUPS + 1][ESTIMATE_BINS + 1];
    int from[ESTIMATE_MAX_GROUPS + 1][ESTIMATE_BINS + 1];
    for (int b = 0; b < ESTIMATE_BINS; b++) {
        x.n[b + 1] = x.n[b] + population[b];
        x.p[b + 1] = x.p[b] + population[b] * (b + 0.5) / ESTIMATE_BINS;
        x.sample[b + 1] = x.sample[b] + sample[b];
    }
    const double all = x.sample[ESTIMATE_BINS];
    x.min_population = all > 0 ? min_sample * x.n[ESTIMATE_BINS] / all : INFINITY;
    int groups = 1;
    for (int b = 0; b <= ESTIMATE_BINS; b++) {
        best[1][b] = group_cost(&x, 0, b);
        from[1][b] = 0;
    }
    const double n = x.n[ESTIMATE_BINS], p = x.p[ESTIMATE_BINS];
    double cost = n > 0 ? p - p * p / n : 0;
    for (int g = 2; g <= ESTIMATE_MAX_GROUPS; g++) {
        for (int b = 0; b <= ESTIMATE_BINS; b++) {
            best[g][b] = INFINITY;
            from[g][b] = 0;
            for (int a = 1; a < b; a++) {
                const double c = best[g - 1][a] + group_cost(&x, a, b);
                if (c < best[g][b]) {
                    best[g][b] = c;
                    from[g][b] = a;
                }
            }
        }
        if (!(best[g][ESTIMATE_BINS] < 0.97 * cost))
            break;
        cost = best[g][ESTIMATE_BINS];
        groups = g;
    }
    for (int g = groups, b = ESTIMATE_BINS; g >= 1; g--) {
        first_bin[g - 1] = g == 1 ? 0 : from[g][b];
        b = from[g][b];
    }
    return groups;
}
