/* SPDX-License-Identifier: Apache-2.0
 *
 * estimate_coverage.c - do the intervals of `aftermap estimate` hold, and how wide are they? Draws synthetic
 * events (town sizes, shares of damage, models from useless to sharp, each calibrated or off), one random
 * sample of each, and counts how often four intervals hold the true number of damaged buildings:
 *
 *   exact       models/learn/estimate.h
 *   assisted    models/learn/estimate.h, with the program's own groups
 *   wald        N p +- z sqrt(p (1 - p) / n (N - n) / (N - 1)): what other tools print
 *   difference  N mean(f) + N mean_s(y - f) +- t sd_s(y - f): the textbook prediction-powered interval
 *
 * Prints CSV, one row a share, sample size and method: coverage, mean width in per cent of the buildings, how
 * often it reaches below 0 or above N, how often it has no width at all. With --json the same as JSON.
 *
 * Usage: aftermap-estimate-coverage [--json] [--events N] [--seed S] */
#include "models/base/mem.h"
#include "models/base/rng.h"
#include "models/learn/estimate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXACT, ASSISTED, WALD, DIFFERENCE, N_METHODS, MIN_GROUP = 8 };
static const char *const method_name[N_METHODS] = {"exact", "assisted", "wald", "difference"};
static const double level = 0.95, z = 1.959963984540054;

struct score {
    size_t n, n_covered, n_outside, n_flat;
    double width;
};

struct town {
    uint32_t N, K;
    uint8_t *hit;   /* [N] */
    double *p;      /* [N] the model's p(damaged), three decimals */
    uint32_t *pick; /* [n] */
};

/* Student's t quantile at 1 - (1 - level) / 2 from the normal one (Cornish & Fisher; good beyond 5 degrees). */
static double student(double v)
{
    const double z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
    return z + (z3 + z) / (4 * v) + (5 * z5 + 16 * z3 + 3 * z) / (96 * v * v) +
           (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * v * v * v);
}

static void make_town(struct town *t, double share, struct rng *r)
{
    static const double sharpness[4] = {0, 1, 2, 3}; /* AUROC 0.50, 0.76, 0.92, 0.98 */
    const double d = sharpness[rng_below(r, 4)], shift = rng_below(r, 2) ? 0 : rng_normal(r),
                 stretch = rng_below(r, 2) ? 1 : 0.5 + 1.5 * rng_uniform(r),
                 prior = fmin(fmax(share, 0.01), 0.99);
    t->K = (uint32_t)(share * t->N + 0.5);
    for (uint32_t i = 0; i < t->N; i++) {
        t->hit[i] = i < t->K;
        const double x = rng_normal(r) + d * t->hit[i];
        const double logit = (d * x - d * d / 2 + log(prior / (1 - prior))) * stretch + shift;
        t->p[i] = round(1000 / (1 + exp(-logit))) / 1000;
    }
}

static void count(struct score *s, const struct town *t, double low, double high)
{
    s->n++;
    s->n_covered += low <= t->K && t->K <= high;
    s->n_outside += low < 0 || high > t->N;
    s->n_flat += high - low <= 0;
    s->width += (high - low) / t->N;
}

static bool try_town(const struct town *t, uint32_t n, struct score s[N_METHODS], struct err *e)
{
    uint32_t bins[2][ESTIMATE_BINS] = {{0}}, x = 0;
    int first[ESTIMATE_MAX_GROUPS];
    struct estimate_cell all = {t->N, n, 0}, cell[ESTIMATE_MAX_GROUPS] = {{0}};
    struct estimate out;
    double mean_f = 0, d1 = 0, d2 = 0;
    for (uint32_t i = 0; i < t->N; i++) {
        bins[0][(int)fmin(t->p[i] * ESTIMATE_BINS, ESTIMATE_BINS - 1)]++;
        mean_f += t->p[i] / t->N;
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t k = t->pick[i];
        const double d = t->hit[k] - t->p[k];
        bins[1][(int)fmin(t->p[k] * ESTIMATE_BINS, ESTIMATE_BINS - 1)]++;
        x += t->hit[k];
        d1 += d / n;
        d2 += d * d / n;
    }
    all.n_hit = x;
    estimate_exact(&all, 1, level, &out);
    count(&s[EXACT], t, out.low, out.high);

    const int groups = estimate_groups(bins[0], bins[1], MIN_GROUP, first);
    for (int g = 0; g < groups; g++) {
        const int end = g + 1 < groups ? first[g + 1] : ESTIMATE_BINS;
        for (int b = first[g]; b < end; b++) {
            cell[g].n_population += bins[0][b];
            cell[g].n_sample += bins[1][b];
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        const int b = (int)fmin(t->p[t->pick[i]] * ESTIMATE_BINS, ESTIMATE_BINS - 1);
        int g = groups - 1;
        while (b < first[g])
            g--;
        cell[g].n_hit += t->hit[t->pick[i]];
    }
    if (!estimate_assisted(cell, groups, level, &out, e))
        return false;
    count(&s[ASSISTED], t, out.low, out.high);

    const double N = t->N, share = (double)x / n, se = sqrt(share * (1 - share) / n * (N - n) / (N - 1));
    count(&s[WALD], t, N * (share - z * se), N * (share + z * se));
    const double sd = sqrt(fmax(0, d2 - d1 * d1) * n / (n - 1.0)),
                 half = student(n - 1.0) * N * sd * sqrt((1 - n / N) / n), at = N * (mean_f + d1);
    count(&s[DIFFERENCE], t, at - half, at + half);
    return true;
}

static void print_rows(const struct score s[N_METHODS], double share, uint32_t n, bool json, bool *first)
{
    for (int m = 0; m < N_METHODS; m++) {
        const double k = (double)s[m].n, covered = 100.0 * (double)s[m].n_covered / k,
                     width = 100 * s[m].width / k, outside = 100.0 * (double)s[m].n_outside / k,
                     flat = 100.0 * (double)s[m].n_flat / k;
        if (json)
            printf(
                "%s\n  {\"share\": %g, \"n\": %u, \"method\": \"%s\", \"events\": %zu, \"coverage\": %.2f, "
                "\"width\": %.3f, \"impossible\": %.2f, \"flat\": %.2f}",
                *first ? "[" : ",", share, n, method_name[m], s[m].n, covered, width, outside, flat);
        else
            printf("%g,%u,%s,%zu,%.2f,%.3f,%.2f,%.2f\n", share, n, method_name[m], s[m].n, covered, width,
                   outside, flat);
        *first = false;
    }
}

int main(int argc, char **argv)
{
    /* -1: each event draws its share anew, most of them small, as shares of damage are */
    static const double shares[] = {0, 0.002, 0.01, 0.05, 0.2, 0.5, 0.9, 0.99, 1, -1};
    static const uint32_t sizes[] = {50, 100, 200, 400};
    enum { LARGEST = 20000 };
    uint32_t n_events = 2000;
    uint64_t seed = 1;
    bool json = false, first = true, ok = true;
    struct err e = {0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--events") == 0 && i + 1 < argc)
            n_events = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else {
            fprintf(stderr, "Usage: %s [--json] [--events N] [--seed S]\n", argv[0]);
            return 2;
        }
    }
    struct town t = {0};
    t.hit = mem_array(LARGEST, 1, "a town", &e);
    t.p = mem_array(LARGEST, sizeof *t.p, "a town", &e);
    t.pick = mem_array(LARGEST, sizeof *t.pick, "a town", &e);
    ok = t.hit && t.p && t.pick;
    if (!json)
        puts("share,n,method,events,coverage_pct,width_pct_of_buildings,impossible_pct,flat_pct");
    for (size_t a = 0; ok && a < sizeof shares / sizeof *shares; a++)
        for (size_t b = 0; ok && b < sizeof sizes / sizeof *sizes; b++) {
            struct score s[N_METHODS] = {{0}};
            for (uint32_t event = 0; ok && event < n_events; event++) {
                struct rng r;
                const uint64_t index = ((uint64_t)a * 16 + b) << 32 | event;
                rng_init(&r, seed, RNG_SCENE, index);
                t.N = (uint32_t)(600 * exp(rng_uniform(&r) * log(LARGEST / 600.0)));
                const double share = shares[a] >= 0 ? shares[a] : rng_beta(&r, 0.5, 1.5);
                make_town(&t, share, &r);
                ok = estimate_draw(seed + index * 7919, 0, t.N, sizes[b], t.pick, &e) &&
                     try_town(&t, sizes[b], s, &e);
            }
            if (ok)
                print_rows(s, shares[a], sizes[b], json, &first);
            fflush(stdout);
        }
    if (json)
        puts("\n]");
    if (!ok)
        fprintf(stderr, "estimate_coverage: %s\n", e.msg);
    free(t.hit);
    free(t.p);
    free(t.pick);
    return ok ? 0 : 1;
}
