/* SPDX-License-Identifier: Apache-2.0
 *
 * discovery_score.c - the figures of discovery.h: the best one-to-one naming of discovered classes, Dataset
 * Reconstruction Accuracy under it, association between categories, and the baselines a discovery is held against.
 *
 * The assignment is the Hungarian method (Kuhn 1955) with row and column potentials and one shortest augmenting path
 * a row, O(rows^2 columns). */
#include "models/learn/discovery.h"

#include "models/base/mem.h"
#include "models/base/rng.h"
#include "models/learn/active.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Least-cost assignment of all n rows to different ones of m >= n columns; cost [n,m]. owner [m+1]: 1-based row of
 * each 1-based column, 0 none. scratch [2 (m+1) + n+1] doubles, way and used [m+1]. */
static void assign_rows(const double *cost, int n, int m, double *scratch, int *owner, int *way, bool *used)
{
    double *v = scratch, *least = scratch + m + 1, *u = scratch + 2 * (m + 1);
    for (int row = 1; row <= n; row++) {
        int column = 0;
        owner[0] = row;
        for (int j = 0; j <= m; j++) {
            least[j] = INFINITY;
            used[j] = false;
        }
        while (owner[column]) { /* Dijkstra over reduced costs until a free column is reached */
            const int i = owner[column];
            double step = INFINITY;
            int next = 0;
            used[column] = true;
            for (int j = 1; j <= m; j++) {
                if (used[j])
                    continue;
                const double reduced = cost[(size_t)(i - 1) * (size_t)m + (size_t)(j - 1)] - u[i] - v[j];
                if (reduced < least[j]) {
                    least[j] = reduced;
                    way[j] = column;
                }
                if (least[j] < step) {
                    step = least[j];
                    next = j;
                }
            }
            for (int j = 0; j <= m; j++) {
                if (used[j]) {
                    u[owner[j]] += step;
                    v[j] -= step;
                } else
                    least[j] -= step;
            }
            column = next;
        }
        for (; column; column = way[column]) /* flip the path */
            owner[column] = owner[way[column]];
    }
}

bool discovery_match(const size_t *count, int n_rows, int n_columns, int *match, struct err *e)
{
    /* as many spare columns as rows, each worth nothing: staying unmatched is always possible */
    const int m = n_columns + n_rows;
    double *cost = mem_array((size_t)n_rows * (size_t)m, sizeof *cost, "the matching", e);
    double *scratch =
        cost ? mem_array(2 * (size_t)(m + 1) + (size_t)n_rows + 1, sizeof *scratch, "the matching", e) : NULL;
    int *owner = scratch ? mem_array(2 * (size_t)(m + 1), sizeof *owner, "the matching", e) : NULL;
    bool *used = owner ? mem_array((size_t)m + 1, sizeof *used, "the matching", e) : NULL;
    for (int i = 0; used && i < n_rows; i++) {
        match[i] = -1;
        for (int j = 0; j < n_columns; j++)
            cost[(size_t)i * (size_t)m + (size_t)j] =
                -(double)count[(size_t)i * (size_t)n_columns + (size_t)j];
    }
    if (used)
        assign_rows(cost, n_rows, m, scratch, owner, owner + m + 1, used);
    for (int j = 1; used && j <= n_columns; j++)
        if (owner[j] && count[(size_t)(owner[j] - 1) * (size_t)n_columns + (size_t)(j - 1)])
            match[owner[j] - 1] = j - 1;
    free(cost);
    free(scratch);
    free(owner);
    free(used);
    return used;
}

static double share(size_t part, size_t whole)
{
    return whole ? (double)part / (double)whole : NAN;
}

bool discovery_score(const int16_t *assigned, const int16_t *truth, size_t n, int n_known, int n_found,
                     int n_novel, struct discovery_accuracy *a, struct err *e)
{
    const int all = n_known + n_novel;
    size_t n_k = 0, n_v = 0, hit_k = 0, hit_v = 0, lenient = 0, rejected = 0;
    assert(n_found >= 0 && n_found <= DISCOVERY_MAX_CLASSES && all <= 2 * DISCOVERY_MAX_CLASSES);
    *a = (struct discovery_accuracy){.n_found = n_found, .n_novel = n_novel};
    size_t *novel = mem_array((size_t)n_found * (size_t)n_novel, sizeof *novel, "the counts", e);
    size_t *any = novel ? mem_array((size_t)n_found * (size_t)all, sizeof *any, "the counts", e) : NULL;
    for (size_t i = 0; any && i < n; i++) {
        const int found = assigned[i] - n_known;
        if (truth[i] < 0 || found < 0)
            continue;
        assert(found < n_found && truth[i] < all);
        any[found * all + truth[i]]++;
        if (truth[i] >= n_known)
            novel[found * n_novel + truth[i] - n_known]++;
    }
    bool ok = any && discovery_match(novel, n_found, n_novel, a->match, e);
    for (int j = 0; ok && j < n_found; j++) {
        size_t most = 0;
        for (int c = 0; c < all; c++)
            most = any[j * all + c] > most ? any[j * all + c] : most;
        lenient += most;
        a->match[j] = a->match[j] < 0 ? -1 : a->match[j] + n_known;
    }
    for (size_t i = 0; ok && i < n; i++) {
        if (truth[i] < 0)
            continue;
        const bool is_known = truth[i] < n_known;
        const int named = assigned[i] < n_known ? assigned[i] : a->match[assigned[i] - n_known];
        a->n++;
        rejected += assigned[i] == DISCOVERY_REJECT;
        n_k += is_known;
        n_v += !is_known;
        hit_k += is_known && named == truth[i];
        hit_v += !is_known && named == truth[i];
        lenient += assigned[i] >= 0 && assigned[i] < n_known && assigned[i] == truth[i];
    }
    a->dra = share(hit_k + hit_v, a->n);
    a->known = share(hit_k, n_k);
    a->novel = share(hit_v, n_v);
    a->lenient = share(lenient, a->n);
    a->rejected = share(rejected, a->n);
    free(novel);
    free(any);
    return ok;
}

double discovery_cramers_v(const int *a, int n_a, const int *b, int n_b, size_t n)
{
    double chi2 = 0;
    int used_a = 0, used_b = 0;
    size_t in_a[64] = {0}, in_b[64] = {0};
    assert(n_a <= 64 && n_b <= 64);
    for (size_t i = 0; i < n; i++) {
        in_a[a[i]]++;
        in_b[b[i]]++;
    }
    for (int j = 0; j < n_a; j++)
        used_a += in_a[j] > 0;
    for (int k = 0; k < n_b; k++)
        used_b += in_b[k] > 0;
    if (used_a < 2 || used_b < 2)
        return NAN;
    for (int j = 0; j < n_a; j++)
        for (int k = 0; k < n_b; k++) {
            size_t both = 0;
            if (!in_a[j] || !in_b[k])
                continue;
            for (size_t i = 0; i < n; i++)
                both += a[i] == j && b[i] == k;
            const double want = (double)in_a[j] * (double)in_b[k] / (double)n, off = (double)both - want;
            chi2 += off * off / want;
        }
    return sqrt(chi2 / ((double)n * ((used_a < used_b ? used_a : used_b) - 1)));
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double discovery_quantile(double *x, size_t n, double q)
{
    assert(n >= 1 && q >= 0 && q <= 1);
    qsort(x, n, sizeof *x, by_size);
    const double at = q * (double)(n - 1);
    const size_t low = (size_t)at, high = low + 1 < n ? low + 1 : low;
    return x[low] + (at - (double)low) * (x[high] - x[low]);
}

/* ---- baselines ---- */

/* Both views of an item side by side: out [n, d0+d1]. */
static float *side_by_side(const struct discovery_result *r, int *d, struct err *e)
{
    const size_t a = (size_t)r->d[0], b = (size_t)r->d[1];
    float *out = mem_array(r->n * (a + b), sizeof *out, "the views", e);
    for (size_t i = 0; out && i < r->n; i++) {
        memcpy(out + i * (a + b), r->x[0] + i * a, a * sizeof *out);
        memcpy(out + i * (a + b) + a, r->x[1] + i * b, b * sizeof *out);
    }
    *d = (int)(a + b);
    return out;
}

/* Share of items with judge[i] >= 0 that a learner of `label` calls judge[i] (through match for found classes). */
static bool learnt(const float *x, size_t n, int d, const int16_t *label, int n_classes, const int16_t *judge,
                   int n_known, const int *match, double *out, struct err *e)
{
    struct discovery_linear l = {0};
    double score[DISCOVERY_MAX_CLASSES];
    size_t hit = 0, all = 0;
    const bool ok = discovery_linear_fit(&l, x, n, d, label, n_classes, e);
    for (size_t i = 0; ok && i < n; i++) {
        if (judge[i] < 0)
            continue;
        int c = discovery_linear_score(&l, x + i * (size_t)d, score);
        c = match && c >= n_known ? match[c - n_known] : c;
        hit += c == judge[i];
        all++;
    }
    *out = share(hit, all);
    discovery_linear_free(&l);
    return ok;
}

/* The first rejects in n_novel clusters, as if their number were known. */
static bool oracle(const struct discovery_data *data, const struct discovery_result *r, const int16_t *pool,
                   int n_novel, uint64_t seed, struct discovery_baselines *b, struct err *e)
{
    const size_t d = (size_t)r->d_first;
    size_t n = 0;
    float *x = mem_array(r->n_rejected * d, sizeof *x, "the rejects", e);
    int *cluster = x ? mem_array(r->n_rejected, sizeof *cluster, "the rejects", e) : NULL;
    int16_t *to = cluster ? mem_array(r->n, sizeof *to, "the rejects", e) : NULL;
    bool ok = to;
    for (size_t i = 0; ok && i < r->n; i++)
        if (r->was_rejected[i])
            memcpy(x + n++ * d, r->first + i * d, d * sizeof *x);
    const int k = (size_t)n_novel < n ? n_novel : (int)n;
    ok = ok && (k == 0 || active_kmeans(x, n, (int)d, k, seed, 0x6f7261, cluster, e));
    n = 0;
    for (size_t i = 0; ok && i < r->n; i++)
        to[i] = r->was_rejected[i] ? (int16_t)(r->n_known + cluster[n++]) : r->closed[i];
    ok = ok && discovery_score(to, pool, r->n, data->n_known, k, n_novel, &b->kmeans, e);
    free(x);
    free(cluster);
    free(to);
    return ok;
}

bool discovery_compare(const struct discovery_data *data, const struct discovery_result *r,
                       const int16_t *truth, int n_novel, uint64_t seed, struct discovery_baselines *b,
                       struct err *e)
{
    const size_t n = r->n;
    const int all = data->n_known + n_novel;
    int d;
    size_t taught = 0, aside = 0, given[2 * DISCOVERY_MAX_CLASSES] = {0};
    struct rng draw;
    *b = (struct discovery_baselines){.second = NAN, .second_supervised = NAN};
    int16_t *column = mem_array(4 * n, sizeof *column, "the truth", e);
    uint32_t *order = column ? mem_array(n, sizeof *order, "the truth", e) : NULL;
    float *x = order ? side_by_side(r, &d, e) : NULL;
    bool ok = x;
    /* pool: truth of what was sorted; rest: of it what the supervised learner has not seen */
    int16_t *pool = column, *label = column + n, *rest = column + 2 * n, *test = column + 3 * n;
    for (size_t i = 0; ok && i < n; i++) {
        pool[i] = data->role[i] == DISCOVERY_POOL ? truth[i] : -1;
        rest[i] = pool[i];
        test[i] = data->role[i] == DISCOVERY_ASIDE ? truth[i] : -1;
        label[i] = data->role[i] == DISCOVERY_TEACH ? data->label[i] : -1;
        taught += label[i] >= 0;
        aside += test[i] >= 0;
    }
    ok = ok && discovery_score(r->assigned, pool, n, data->n_known, r->n_found, n_novel, &b->found, e) &&
         discovery_score(r->closed, pool, n, data->n_known, 0, n_novel, &b->none, e) &&
         oracle(data, r, pool, n_novel, seed, b, e);
    if (ok) {
        rng_init(&draw, seed, RNG_METHOD, 0x73757065);
        rng_permutation(&draw, order, (uint32_t)n);
    }
    for (size_t k = 0; ok && k < n; k++) {
        const uint32_t i = order[k];
        if (pool[i] < data->n_known || given[pool[i]] * (size_t)data->n_known >= taught)
            continue;
        given[pool[i]]++;
        label[i] = pool[i];
        rest[i] = -1;
    }
    ok = ok && learnt(x, n, d, label, all, rest, data->n_known, NULL, &b->supervised, e);
    for (size_t i = 0; ok && i < n; i++) /* the pool as it was reconstructed, and as it is */
        label[i] = data->role[i] == DISCOVERY_POOL ? r->assigned[i] : -1;
    if (ok && aside) {
        bool any = false;
        for (size_t i = 0; i < n; i++)
            any = any || label[i] >= 0;
        ok = (!any || learnt(x, n, d, label, data->n_known + r->n_found, test, data->n_known, b->found.match,
                             &b->second, e)) &&
             learnt(x, n, d, pool, all, test, data->n_known, NULL, &b->second_supervised, e);
    }
    free(column);
    free(order);
    free(x);
    return ok;
}
