/* SPDX-License-Identifier: Apache-2.0
 *
 * estimate.c - distributions, the exact interval, the blind draw and sample sizes of estimate.h. The assisted
 * interval is in estimate_assisted.c. Plain arithmetic on the caller's storage; no state, any thread. */
#include "models/learn/estimate_parts.h"

#include "models/base/mem.h"
#include "models/base/rng.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double log_choose(double n, double k)
{
    int sign;
    return lgamma_r(n + 1, &sign) - lgamma_r(k + 1, &sign) - lgamma_r(n - k + 1, &sign);
}

uint32_t estimate_hits_min(uint32_t N, uint32_t K, uint32_t n)
{
    return (uint64_t)n + K > N ? (uint32_t)((uint64_t)n + K - N) : 0;
}

double estimate_pmf(uint32_t N, uint32_t K, uint32_t n, uint32_t x)
{
    if (x < estimate_hits_min(N, K, n) || x > (K < n ? K : n))
        return 0;
    return exp(log_choose(K, x) + log_choose((double)N - K, (double)n - x) - log_choose(N, n));
}

/* Sums the side of x that lies away from the mean, where terms fall off, by the ratio of neighbours. */
static double sum_down(uint32_t N, uint32_t K, uint32_t n, uint32_t x)
{
    const double rest = (double)N - K - n; /* may be below 0: then the last term is at its negative */
    double term = estimate_pmf(N, K, n, x), sum = term;
    for (uint32_t k = x; k > estimate_hits_min(N, K, n) && term > sum * 1e-17; k--) {
        term *= k * (rest + k) / (((double)K - k + 1) * ((double)n - k + 1));
        sum += term;
    }
    return fmin(sum, 1);
}

static double sum_up(uint32_t N, uint32_t K, uint32_t n, uint32_t x)
{
    const double rest = (double)N - K - n;
    const uint32_t last = K < n ? K : n;
    double term = estimate_pmf(N, K, n, x), sum = term;
    for (uint32_t k = x; k < last && term > sum * 1e-17; k++) {
        term *= ((double)K - k) * ((double)n - k) / ((k + 1.0) * (rest + k + 1));
        sum += term;
    }
    return fmin(sum, 1);
}

double estimate_lower_tail(uint32_t N, uint32_t K, uint32_t n, uint32_t x)
{
    const uint32_t first = estimate_hits_min(N, K, n), last = K < n ? K : n;
    if (x < first)
        return 0;
    if (x >= last)
        return 1;
    return x <= (double)n * K / N ? sum_down(N, K, n, x) : fmax(0, 1 - sum_up(N, K, n, x + 1));
}

double estimate_upper_tail(uint32_t N, uint32_t K, uint32_t n, uint32_t x)
{
    const uint32_t first = estimate_hits_min(N, K, n), last = K < n ? K : n;
    if (x > last)
        return 0;
    if (x <= first)
        return 1;
    return x >= (double)n * K / N ? sum_up(N, K, n, x) : fmax(0, 1 - sum_down(N, K, n, x - 1));
}

void estimate_one_cell(const struct estimate_cell *c, double tail, bool mid_p, uint32_t *low, uint32_t *high)
{
    const uint32_t N = c->n_population, n = c->n_sample, x = c->n_hit;
    const double half = mid_p ? 0.5 : 0;
    assert(x <= n && n <= N && n > 0);
    /* The upper tail rises with K, the lower falls: each bound is where a bisection over whole K ends. */
    uint32_t a = x, b = N - (n - x);
    while (a < b) {
        const uint32_t K = a + (b - a) / 2;
        if (estimate_upper_tail(N, K, n, x) - half * estimate_pmf(N, K, n, x) > tail)
            b = K;
        else
            a = K + 1;
    }
    *low = a;
    b = N - (n - x);
    while (a < b) {
        const uint32_t K = b - (b - a) / 2;
        if (estimate_lower_tail(N, K, n, x) - half * estimate_pmf(N, K, n, x) > tail)
            a = K;
        else
            b = K - 1;
    }
    *high = a;
}

void estimate_exact(const struct estimate_cell *cell, int n_cells, double level, struct estimate *out)
{
    int open = 0;
    assert(n_cells > 0 && n_cells <= ESTIMATE_MAX_CELLS && level > 0 && level < 1);
    *out = (struct estimate){0};
    for (int c = 0; c < n_cells; c++)
        open += cell[c].n_sample < cell[c].n_population;
    const double side = (1 - level) / 2, tail = open > 1 ? -expm1(log1p(-side) / open) : side;
    for (int c = 0; c < n_cells; c++) {
        uint32_t low, high;
        estimate_one_cell(&cell[c], tail, false, &low, &high);
        out->total += (double)cell[c].n_population * cell[c].n_hit / cell[c].n_sample;
        out->low += low;
        out->high += high;
    }
}

/* ---- binomial */

/* P(X >= x), X binomial (n, p), 0 < x <= n: the terms from x up by their ratio, or 1 less those below. */
static double binomial_upper(uint32_t n, double p, uint32_t x)
{
    if (p <= 0 || p >= 1)
        return p >= 1;
    const bool up = x >= n * p;
    uint32_t k = up ? x : x - 1;
    double term = exp(log_choose(n, k) + k * log(p) + ((double)n - k) * log1p(-p)), sum = term;
    if (up)
        for (; k < n && term > sum * 1e-17; k++)
            sum += term *= ((double)n - k) / (k + 1.0) * p / (1 - p);
    else
        for (; k > 0 && term > sum * 1e-17; k--)
            sum += term *= k / ((double)n - k + 1) * (1 - p) / p;
    return up ? fmin(sum, 1) : fmax(0, 1 - sum);
}

/* The p at which P(X >= x) is `tail`; the function rises with p. */
static double binomial_bound(uint32_t n, uint32_t x, double tail)
{
    double a = 0, b = 1;
    for (int i = 0; i < 60; i++) {
        const double p = (a + b) / 2;
        if (binomial_upper(n, p, x) > tail)
            b = p;
        else
            a = p;
    }
    return (a + b) / 2;
}

void estimate_binomial(uint32_t n, uint32_t x, double level, double *low, double *high)
{
    assert(n > 0 && x <= n && level > 0 && level < 1);
    *low = x == 0 ? 0 : binomial_bound(n, x, (1 - level) / 2);
    *high = x == n ? 1 : binomial_bound(n, x + 1, (1 + level) / 2);
}

/* ---- drawing */

bool estimate_draw(uint64_t seed, uint32_t stratum, uint32_t n_population, uint32_t n, uint32_t *out,
                   struct err *e)
{
    struct rng r;
    assert(n <= n_population);
    uint32_t *order = mem_array(n_population, sizeof *order, "the draw", e);
    if (!order)
        return false;
    rng_init(&r, seed, RNG_VALIDATE, stratum);
    rng_permutation(&r, order, n_population);
    if (n)
        memcpy(out, order, n * sizeof *out);
    free(order);
    return true;
}

/* ---- sample sizes */

static double half_width_exact(uint32_t N, double share, uint32_t n, double level)
{
    uint32_t low, high;
    const struct estimate_cell c = {N, n, (uint32_t)(n * share + 0.5)};
    estimate_one_cell(&c, (1 - level) / 2, false, &low, &high);
    return ((double)high - low) / 2;
}

uint32_t estimate_size_exact(uint32_t n_population, double share, double half_width, double level)
{
    uint32_t a = 1, b = n_population;
    assert(n_population > 0 && share >= 0 && share <= 1 && half_width >= 0);
    while (a < b) {
        const uint32_t n = a + (b - a) / 2;
        if (half_width_exact(n_population, share, n, level) <= half_width)
            b = n;
        else
            a = n + 1;
    }
    return a;
}

bool estimate_size_assisted(const uint32_t *n_population, const double *share, int n_groups,
                            double half_width, double level, uint32_t *n_out, struct err *e)
{
    struct estimate_cell cell[ESTIMATE_MAX_CELLS];
    uint32_t total = 0;
    assert(n_groups > 0 && n_groups <= ESTIMATE_MAX_CELLS);
    for (int g = 0; g < n_groups; g++)
        total += n_population[g];
    uint32_t a = 1, b = total;
    while (a < b) {
        const uint32_t n = a + (b - a) / 2;
        struct estimate out;
        for (int g = 0; g < n_groups; g++) {
            const uint32_t N = n_population[g];
            uint32_t part = (uint32_t)((double)n * N / total + 0.5);
            part = part < 1 ? 1 : part > N ? N : part;
            cell[g] = (struct estimate_cell){N, part, (uint32_t)(part * share[g] + 0.5)};
        }
        if (!estimate_assisted(cell, n_groups, level, &out, e))
            return false;
        if ((out.high - out.low) / 2 <= half_width)
            b = n;
        else
            a = n + 1;
    }
    *n_out = a;
    return true;
}
