/* SPDX-License-Identifier: Apache-2.0
 *
 * discovery.c - the loop of discovery.h.
 *
 * Where the paper's heuristic is unknown and several readings are possible, this one was taken:
 *   - Clusters are cut where the known classes are round (rows of root^-1 x), so that a direction in which known
 *     classes vary much counts little.
 *   - Halves of a candidate are drawn item by item from (seed, round, item): merged candidates keep them.
 *   - The null for tau cuts each known class in two like a pool, three times from different starts, and takes the mean
 *     F1 of the two sides.
 *   - An item's class is the largest sum of both views' log posteriors; whether it has one is view A's distance.
 *   - Accepted items whose label teaches are never rejected again; all others are looked at anew each round.
 *
 * Steps work on columns of n entries in one struct loop; a round allocates its own. */
#include "models/learn/discovery.h"

#include "models/base/mem.h"
#include "models/base/rng.h"
#include "models/learn/active.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CLUSTERS = 2 * DISCOVERY_MAX_GUESS + 2, NULL_CUTS = 3 };

/* Low bits of a round's random index. */
enum { DRAW_HALVES, DRAW_NULL_HALVES, DRAW_ASIDE, DRAW_CLUSTERS = 16 };

struct loop {
    const struct discovery_data *data;
    const struct discovery_options *o;
    struct discovery_result *r;
    const struct progress *progress;
    int round, n_classes;
    int16_t *teach;     /* [n] class that teaches now, -1 none */
    int16_t *candidate; /* [n] candidate of this round, -1 none */
    uint8_t *half;      /* [n] 1: the candidate's half that is held out */
    uint8_t *is_out;    /* [n] rejected this round */
    float *white;       /* [n,d0] view A where known classes are round */
    float *centre;      /* [n] distance to the nearest class */
    int n_candidates;
    int16_t *label, *said; /* [n] scratch of the learners */
};

void discovery_defaults(struct discovery_options *o)
{
    *o = (struct discovery_options){.guess = 5,
                                    .quantile = 0.95,
                                    .min_confidence = 0,
                                    .merge = 0.3,
                                    .min_f1 = 0.6,
                                    .max_harm = 0.05,
                                    .min_items = 30,
                                    .core = 0.7,
                                    .rounds = 5,
                                    .restarts = 5,
                                    .seed = 1};
}

void discovery_free(struct discovery_result *r)
{
    free(r->assigned);
    free(r->closed);
    free(r->member);
    free(r->distance);
    free(r->to_centre);
    free(r->was_rejected);
    free(r->x[0]);
    free(r->x[1]);
    free(r->first);
    *r = (struct discovery_result){0};
}

void discovery_keep_aside(const int16_t *label, uint8_t *role, size_t n, double share, uint64_t seed)
{
    struct {
        double want;
        size_t n, taken;
    } of[DISCOVERY_MAX_CLASSES] = {0};
    for (size_t i = 0; i < n; i++)
        if (role[i] == DISCOVERY_TEACH)
            of[label[i]].n++;
    for (int c = 0; c < DISCOVERY_MAX_CLASSES; c++)
        of[c].want = nearbyint(share * (double)of[c].n);
    /* selection sampling (Knuth, algorithm S): exactly want of n, each equally likely */
    for (size_t i = 0; i < n; i++) {
        struct rng draw;
        if (role[i] != DISCOVERY_TEACH)
            continue;
        rng_init(&draw, seed, RNG_METHOD, (uint64_t)i << 8 | DRAW_ASIDE);
        const int c = label[i];
        if (rng_uniform(&draw) * (double)of[c].n < of[c].want - (double)of[c].taken) {
            role[i] = DISCOVERY_VALIDATE;
            of[c].taken++;
        }
        of[c].n--;
    }
}

static bool keep_going(const struct loop *l, const char *note, double done, struct err *e)
{
    progress_report(l->progress, "discover", l->round + done, l->o->rounds, note);
    return progress_stopped(l->progress) ? err_set(e, ERR_INTERRUPTED, "interrupted; nothing was written")
                                         : true;
}

/* ---- step 1: views ---- */

static void standardise(float *x, size_t n, int d)
{
    for (int j = 0; j < d; j++) {
        double sum = 0, square = 0;
        for (size_t i = 0; i < n; i++)
            sum += (double)x[i * (size_t)d + (size_t)j];
        sum /= (double)n;
        for (size_t i = 0; i < n; i++) {
            const double v = (double)x[i * (size_t)d + (size_t)j] - sum;
            square += v * v;
        }
        const double scale = square > 0 ? 1 / sqrt(square / (double)n) : 0;
        for (size_t i = 0; i < n; i++)
            x[i * (size_t)d + (size_t)j] = (float)(((double)x[i * (size_t)d + (size_t)j] - sum) * scale);
    }
}

static bool look(struct loop *l, struct err *e)
{
    const struct discovery_state s = {
        .round = l->round, .n_classes = l->n_classes, .label = l->teach, .is_gated = l->is_out};
    float *x[2] = {NULL, NULL};
    int d[2] = {0, 0};
    bool is_same = false;
    if (!l->data->views(l->data->ctx, &s, x, d, &is_same, e)) {
        free(x[0]);
        free(x[1]);
        return false;
    }
    assert(!is_same || l->round > 0);
    for (int v = 0; v < 2 && !is_same; v++) {
        free(l->r->x[v]);
        l->r->x[v] = x[v];
        l->r->d[v] = d[v];
        standardise(x[v], l->r->n, d[v]);
    }
    return true;
}

/* ---- step 2: rejects ---- */

static double squared(const float *a, const float *b, int d)
{
    double sum = 0;
    for (int j = 0; j < d; j++)
        sum += ((double)a[j] - (double)b[j]) * ((double)a[j] - (double)b[j]);
    return sum;
}

/* white and, into l->centre, each item's distance to the nearest class; *threshold from the validation items. */
static bool measure(struct loop *l, double *threshold, struct err *e)
{
    const size_t n = l->r->n, d = (size_t)l->r->d[0];
    const float *x = l->r->x[0];
    struct discovery_linear fit = {0};
    float *mean = NULL, *white;
    double *kept = NULL;
    bool ok = false;
    free(l->white);
    l->white = white = mem_array(n * d, sizeof *white, "the distances", e);
    if (!white || !discovery_linear_fit(&fit, x, n, (int)d, l->teach, l->n_classes, e) ||
        !(mean = mem_array((size_t)l->n_classes * d, sizeof *mean, "the distances", e)) ||
        !(kept = mem_array(n, sizeof *kept, "the distances", e)))
        goto out;
    for (int c = 0; c < l->n_classes; c++) { /* in place: fit.mean is ours */
        double *m = fit.mean + (size_t)c * d;
        for (size_t j = 0; j < d; j++)
            mean[(size_t)c * d + j] = (float)m[j];
        discovery_linear_whiten(&fit, mean + (size_t)c * d, m);
        for (size_t j = 0; j < d; j++)
            mean[(size_t)c * d + j] = (float)m[j];
    }
#pragma omp parallel
    {
        double *row = malloc(d * sizeof *row);
#pragma omp for schedule(static)
        for (size_t i = 0; i < n; i++) {
            double least = INFINITY;
            if (!row) {
                l->centre[i] = NAN;
                continue;
            }
            discovery_linear_whiten(&fit, x + i * d, row);
            for (size_t j = 0; j < d; j++)
                white[i * d + j] = (float)row[j];
            for (int c = 0; c < l->n_classes; c++)
                least = fit.b[c] > -INFINITY
                            ? fmin(least, squared(white + i * d, mean + (size_t)c * d, (int)d))
                            : least;
            l->centre[i] = (float)sqrt(least);
        }
        free(row);
    }
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(l->centre[i])) {
            err_set(e, ERR_RESOURCE, "not enough memory for the distances");
            goto out;
        }
        if (l->data->role[i] == DISCOVERY_VALIDATE)
            kept[m++] = (double)l->centre[i];
    }
    *threshold = discovery_quantile(kept, m, l->o->quantile);
    ok = true;
out:
    discovery_linear_free(&fit);
    free(mean);
    free(kept);
    return ok;
}

static bool unsure(const struct loop *l, size_t i)
{
    return l->data->confidence && l->data->confidence[i] < l->o->min_confidence;
}

/* Marks is_out; returns how many pool items are rejected. */
static size_t reject(struct loop *l, double threshold)
{
    size_t n_out = 0;
    for (size_t i = 0; i < l->r->n; i++) {
        const bool is_far = (double)l->centre[i] > threshold;
        l->is_out[i] = l->data->role[i] == DISCOVERY_POOL && l->teach[i] < 0 && (is_far || unsure(l, i));
        n_out += l->is_out[i];
        if (l->round == 0) {
            l->r->distance[i] = threshold > 0 ? (float)((double)l->centre[i] / threshold) : l->centre[i];
            l->r->was_rejected[i] = l->is_out[i];
            l->r->n_unsure += l->is_out[i] && !is_far;
        }
    }
    if (l->round == 0) {
        l->r->n_rejected = n_out;
        l->r->threshold = threshold;
    }
    return n_out;
}

/* ---- step 3: clusters ---- */

static double inertia(const float *x, size_t n, int d, const int *cluster, int k, double *mean, size_t *count)
{
    double sum = 0;
    memset(mean, 0, (size_t)k * (size_t)d * sizeof *mean);
    memset(count, 0, (size_t)k * sizeof *count);
    for (size_t i = 0; i < n; i++) {
        count[cluster[i]]++;
        for (int j = 0; j < d; j++)
            mean[(size_t)cluster[i] * (size_t)d + (size_t)j] += (double)x[i * (size_t)d + (size_t)j];
    }
    for (size_t i = 0; i < n; i++)
        for (int j = 0; j < d; j++) {
            const double v = (double)x[i * (size_t)d + (size_t)j] -
                             mean[(size_t)cluster[i] * (size_t)d + (size_t)j] / (double)count[cluster[i]];
            sum += v * v;
        }
    return sum;
}

/* The items listed, cut into k: cluster [m]. The best of the restarts. */
static bool cut(struct loop *l, const uint32_t *item, size_t m, int k, int restarts, uint64_t index,
                int *cluster, struct err *e)
{
    const size_t d = (size_t)l->r->d[0];
    float *x = mem_array(m * d, sizeof *x, "the clusters", e);
    double *mean = x ? mem_array((size_t)k * d, sizeof *mean, "the clusters", e) : NULL;
    int *try = mean ? mem_array(m, sizeof *try, "the clusters", e) : NULL;
    size_t count[MAX_CLUSTERS];
    double best = INFINITY;
    bool ok = try;
    for (size_t i = 0; ok && i < m; i++)
        memcpy(x + i * d, l->white + item[i] * d, d * sizeof *x);
    for (int t = 0; ok && t < restarts; t++) {
        ok = active_kmeans(x, m, (int)d, k, l->o->seed, index + (uint64_t)t, try, e);
        const double now = ok ? inertia(x, m, (int)d, try, k, mean, count) : 0;
        if (ok && now < best) {
            best = now;
            memcpy(cluster, try, m * sizeof *cluster);
        }
    }
    free(x);
    free(mean);
    free(try);
    return ok;
}

static uint64_t index_of(const struct loop *l, uint64_t what)
{
    return (uint64_t)l->round << 24 | what << 8;
}

static bool is_held(const struct loop *l, size_t i, uint64_t draw)
{
    struct rng r;
    rng_init(&r, l->o->seed, RNG_METHOD, (uint64_t)i << 16 | (uint64_t)l->round << 8 | draw);
    return rng_uniform(&r) < 0.5;
}

static bool cluster(struct loop *l, size_t n_out, struct err *e)
{
    const int most = n_out / 4 < MAX_CLUSTERS ? (int)(n_out / 4) : MAX_CLUSTERS;
    const int want = 2 * l->o->guess + 2, k = want < most ? want : most < 1 ? 1 : most;
    uint32_t *item = mem_array(n_out, sizeof *item, "the clusters", e);
    int *of = item ? mem_array(n_out, sizeof *of, "the clusters", e) : NULL;
    size_t m = 0;
    for (size_t i = 0; of && i < l->r->n; i++) {
        l->candidate[i] = -1;
        if (l->is_out[i])
            item[m++] = (uint32_t)i;
    }
    const bool ok = of && cut(l, item, m, k, l->o->restarts, index_of(l, DRAW_CLUSTERS), of, e);
    for (size_t i = 0; ok && i < m; i++) {
        l->candidate[item[i]] = (int16_t)of[i];
        l->half[item[i]] = is_held(l, item[i], DRAW_HALVES);
    }
    l->n_candidates = k;
    free(item);
    free(of);
    return ok;
}

/* ---- steps 4 and 5: what a learner in the other view makes of them ---- */

/* Fits view B on l->label and fills l->said with what it calls every item. */
static bool learn(struct loop *l, int n_classes, struct err *e)
{
    const size_t d = (size_t)l->r->d[1];
    struct discovery_linear fit = {0};
    const bool ok = discovery_linear_fit(&fit, l->r->x[1], l->r->n, (int)d, l->label, n_classes, e);
#pragma omp parallel for schedule(static) if (ok)
    for (size_t i = 0; i < (ok ? l->r->n : 0); i++) {
        double score[DISCOVERY_MAX_CLASSES];
        l->said[i] = (int16_t)discovery_linear_score(&fit, l->r->x[1] + i * d, score);
    }
    discovery_linear_free(&fit);
    return ok;
}

static void label_taught(struct loop *l)
{
    memcpy(l->label, l->teach, l->r->n * sizeof *l->label);
}

/* Number of classes once the learner knows all candidates; DISCOVERY_MAX_CLASSES bounds it (run() checked). */
static bool merge(struct loop *l, int *n_clusters, struct err *e)
{
    const size_t n = l->r->n;
    for (int c = 0; c < l->n_candidates; c++)
        n_clusters[c] = 1;
    while (l->n_candidates > 1) {
        const int k = l->n_candidates;
        size_t all[MAX_CLUSTERS] = {0},
               (*count)[MAX_CLUSTERS] = mem_array(MAX_CLUSTERS, sizeof *count, "the candidates", e);
        double worst = 0;
        int a = -1, b = -1;
        label_taught(l);
        for (size_t i = 0; i < n; i++)
            if (l->candidate[i] >= 0 && !l->half[i])
                l->label[i] = (int16_t)(l->n_classes + l->candidate[i]);
        if (!count || !learn(l, l->n_classes + k, e)) {
            free(count);
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            if (l->candidate[i] < 0 || !l->half[i])
                continue;
            all[l->candidate[i]]++;
            if (l->said[i] >= l->n_classes)
                count[l->candidate[i]][l->said[i] - l->n_classes]++;
        }
        for (int i = 0; i < k; i++)
            for (int j = i + 1; j < k; j++) {
                const double c = (all[i] ? (double)count[i][j] / (double)all[i] : 0) +
                                 (all[j] ? (double)count[j][i] / (double)all[j] : 0);
                if (c > worst) {
                    worst = c;
                    a = i;
                    b = j;
                }
            }
        free(count);
        if (worst < l->o->merge)
            break;
        for (size_t i = 0; i < n; i++) /* b joins a, the last one takes b's number */
            l->candidate[i] = (int16_t)(l->candidate[i] == b       ? a
                                        : l->candidate[i] == k - 1 ? b
                                                                   : l->candidate[i]);
        n_clusters[a] += n_clusters[b];
        n_clusters[b] = n_clusters[k - 1];
        l->n_candidates--;
    }
    return true;
}

/* The F1 that a cut through a class with nothing new in it reaches: *tau. */
static bool null_f1(struct loop *l, double *out, struct err *e)
{
    const size_t n = l->r->n;
    double *f1 = mem_array((size_t)l->data->n_known * NULL_CUTS, sizeof *f1, "the null", e);
    uint32_t *item = f1 ? mem_array(n, sizeof *item, "the null", e) : NULL;
    int *of = item ? mem_array(n, sizeof *of, "the null", e) : NULL;
    size_t n_f1 = 0;
    bool ok = of;
    for (int c = 0; ok && c < l->data->n_known; c++) {
        size_t m = 0;
        for (size_t i = 0; i < n; i++)
            if (l->data->role[i] <= DISCOVERY_VALIDATE && l->data->label[i] == c)
                item[m++] = (uint32_t)i;
        for (int t = 0; ok && m >= l->o->min_items && t < NULL_CUTS; t++) {
            int16_t side[2] = {0, 0};
            double sum = 0;
            if (!(ok = cut(l, item, m, 2, 1, index_of(l, (uint64_t)(256 + c * NULL_CUTS + t)), of, e)))
                break;
            for (size_t i = 0; i < n; i++)
                l->label[i] = -1;
            for (size_t i = 0; i < m; i++)
                if (!is_held(l, item[i], DRAW_NULL_HALVES)) {
                    l->label[item[i]] = (int16_t)of[i];
                    side[of[i]]++;
                }
            if (!side[0] || !side[1] || !(ok = learn(l, 2, e)))
                continue;
            for (size_t i = 0; i < n; i++)
                l->label[i] = -1;
            for (size_t i = 0; i < m; i++)
                if (is_held(l, item[i], DRAW_NULL_HALVES))
                    l->label[item[i]] = (int16_t)of[i];
                else
                    l->said[item[i]] = -1;
            for (size_t i = 0; i < n; i++)
                l->said[i] = l->label[i] < 0 ? -1 : l->said[i];
            for (int k = 0; k < 2; k++)
                sum += discovery_f1(l->label, l->said, n, k) / 2;
            f1[n_f1++] = sum;
        }
    }
    *out = ok && n_f1 ? discovery_quantile(f1, n_f1, 0.95) : 0;
    free(f1);
    free(item);
    free(of);
    return ok;
}

/* Accuracy on the validation items' known classes, of l->said. */
static double known_accuracy(const struct loop *l)
{
    size_t hit = 0, all = 0;
    for (size_t i = 0; i < l->r->n; i++)
        if (l->data->role[i] == DISCOVERY_VALIDATE) {
            all++;
            hit += l->said[i] == l->data->label[i];
        }
    return (double)hit / (double)all;
}

/* Learnability of a candidate beside all that teaches now. */
static bool score(struct loop *l, int candidate, struct discovery_group *g, struct err *e)
{
    const size_t n = l->r->n;
    size_t taught = 0;
    label_taught(l);
    if (!learn(l, l->n_classes, e))
        return false;
    const double before = known_accuracy(l);
    g->n = 0;
    for (size_t i = 0; i < n; i++) {
        if (l->candidate[i] != candidate)
            continue;
        g->n++;
        if (!l->half[i]) {
            l->label[i] = (int16_t)l->n_classes;
            taught++;
        }
    }
    g->f1 = 0;
    g->change = 0;
    if (!taught)
        return true;
    if (!learn(l, l->n_classes + 1, e))
        return false;
    g->change = known_accuracy(l) - before;
    for (size_t i = 0; i < n; i++) { /* on what was held out, known or candidate */
        const bool held = l->candidate[i] == candidate && l->half[i];
        l->label[i] = held                                     ? (int16_t)l->n_classes
                      : l->data->role[i] == DISCOVERY_VALIDATE ? l->data->label[i]
                                                               : -1;
        l->said[i] = l->label[i] < 0 ? -1 : l->said[i];
    }
    g->f1 = discovery_f1(l->label, l->said, n, l->n_classes);
    return true;
}

static bool passes(const struct loop *l, const struct discovery_group *g)
{
    return g->f1 >= g->tau && g->change >= -l->o->max_harm && g->n >= l->o->min_items;
}

/* ---- step 6: what teaches ---- */

/* Distances of the members (member[i] == which) to their centre; core: those within that share teach `class`. */
static bool centre_of(struct loop *l, const int16_t *member, int which, float *to, double core,
                      int class_index, struct err *e)
{
    const size_t n = l->r->n, d = (size_t)l->r->d[0];
    double *mean = mem_array(d, sizeof *mean, "the centres", e);
    double *sorted = mean ? mem_array(n, sizeof *sorted, "the centres", e) : NULL;
    size_t m = 0;
    for (size_t i = 0; sorted && i < n; i++)
        if (member[i] == which) {
            m++;
            for (size_t j = 0; j < d; j++)
                mean[j] += (double)l->white[i * d + j];
        }
    size_t k = 0;
    for (size_t i = 0; sorted && m && i < n; i++)
        if (member[i] == which) {
            double sum = 0;
            for (size_t j = 0; j < d; j++) {
                const double v = (double)l->white[i * d + j] - mean[j] / (double)m;
                sum += v * v;
            }
            to[i] = (float)sqrt(sum);
            sorted[k++] = (double)to[i];
        }
    if (sorted && m && class_index >= 0) {
        const double within = discovery_quantile(sorted, m, core);
        for (size_t i = 0; i < n; i++)
            if (member[i] == which && (double)to[i] <= within)
                l->teach[i] = (int16_t)class_index;
    }
    const bool ok = sorted;
    free(mean);
    free(sorted);
    return ok;
}

static int best_of(const struct discovery_group *g, const bool *is_done, int n)
{
    int best = -1;
    for (int c = 0; c < n; c++)
        if (!is_done[c] && (best < 0 || g[c].f1 > g[best].f1))
            best = c;
    return best;
}

/* Scores all candidates, accepts what passes, best first. *n_new: accepted. */
static bool accept(struct loop *l, const int *n_clusters, double tau, int *n_new, struct err *e)
{
    struct discovery_result *r = l->r;
    struct discovery_group g[MAX_CLUSTERS] = {0};
    bool is_done[MAX_CLUSTERS] = {false};
    *n_new = 0;
    for (int c = 0; c < l->n_candidates; c++) {
        g[c] = (struct discovery_group){
            .round = l->round, .class_index = -1, .n_clusters = n_clusters[c], .tau = tau};
        if (!score(l, c, &g[c], e))
            return false;
    }
    for (int c; (c = best_of(g, is_done, l->n_candidates)) >= 0;) {
        is_done[c] = true;
        if (*n_new && !score(l, c, &g[c], e))
            return false;
        if (!passes(l, &g[c]))
            continue;
        g[c].class_index = l->n_classes;
        if (!centre_of(l, l->candidate, c, l->centre, l->o->core, l->n_classes, e))
            return false;
        l->n_classes++;
        r->group[r->n_groups++] = g[c];
        ++*n_new;
    }
    /* the others are shown if this was the last round */
    int kept = r->n_groups;
    for (int c = 0; c < l->n_candidates && *n_new == 0; c++)
        r->group[kept++] = g[c];
    return true;
}

/* ---- the end ---- */

/* Class of every item by both views, or reject. */
static bool sort_all(struct loop *l, double threshold, int16_t *to, struct err *e)
{
    struct discovery_linear fit[2] = {{0}, {0}};
    const struct discovery_result *r = l->r;
    bool ok = true;
    for (int v = 0; v < 2 && ok; v++)
        ok = discovery_linear_fit(&fit[v], r->x[v], r->n, r->d[v], l->teach, l->n_classes, e);
    for (size_t i = 0; ok && i < r->n; i++) {
        double a[DISCOVERY_MAX_CLASSES], b[DISCOVERY_MAX_CLASSES];
        int best = 0;
        discovery_linear_score(&fit[0], r->x[0] + i * (size_t)r->d[0], a);
        discovery_linear_score(&fit[1], r->x[1] + i * (size_t)r->d[1], b);
        for (int c = 1; c < l->n_classes; c++)
            best = a[c] + b[c] > a[best] + b[best] ? c : best;
        const bool is_new = best >= l->data->n_known; /* the classifier's doubts are about known classes */
        to[i] =
            (double)l->centre[i] > threshold || (!is_new && unsure(l, i)) ? DISCOVERY_REJECT : (int16_t)best;
        if (l->teach[i] >= l->data->n_known)
            to[i] = l->teach[i];
    }
    discovery_linear_free(&fit[0]);
    discovery_linear_free(&fit[1]);
    return ok;
}

/* Members of the groups: accepted ones by class, the others by candidate. */
static bool gather(struct loop *l, bool has_others, struct err *e)
{
    struct discovery_result *r = l->r;
    const int n_found = r->n_found = l->n_classes - l->data->n_known;
    const int n_others = has_others ? l->n_candidates : 0;
    for (size_t i = 0; i < r->n; i++) {
        const bool is_pool = l->data->role[i] == DISCOVERY_POOL;
        r->member[i] = -1;
        r->to_centre[i] = INFINITY;
        if (is_pool && r->assigned[i] >= l->data->n_known)
            r->member[i] = (int16_t)(r->assigned[i] - l->data->n_known);
        else if (is_pool && n_others && l->candidate[i] >= 0)
            r->member[i] = (int16_t)(n_found + l->candidate[i]);
    }
    r->n_groups = n_found + n_others;
    for (int g = 0; g < r->n_groups; g++) {
        r->group[g].n_members = 0;
        for (size_t i = 0; i < r->n; i++)
            r->group[g].n_members += r->member[i] == g;
        if (!centre_of(l, r->member, g, r->to_centre, 1, -1, e))
            return false;
    }
    return true;
}

static bool too_few(const struct loop *l, size_t n_out, struct err *e)
{
    return err_set(
        e, ERR_INPUT,
        "only %zu item%s rejected, fewer than the %zu a new class must have; lower --min-items, or reject "
        "more with --quantile or --min-confidence",
        n_out, n_out == 1 ? " is" : "s are", l->o->min_items);
}

static bool check(const struct discovery_data *data, struct err *e)
{
    size_t teach[DISCOVERY_MAX_CLASSES] = {0}, n_teach = 0, n_validate = 0;
    for (size_t i = 0; i < data->n; i++) {
        n_validate += data->role[i] == DISCOVERY_VALIDATE;
        if (data->role[i] != DISCOVERY_TEACH)
            continue;
        assert(data->label[i] >= 0 && data->label[i] < data->n_known);
        teach[data->label[i]]++;
        n_teach++;
    }
    if (n_teach < DISCOVERY_MIN_KNOWN || n_validate < DISCOVERY_MIN_KNOWN)
        return err_set(
            e, ERR_INPUT,
            "%zu items with a known class and %zu more kept aside are too few to tell what is unlike them; "
            "there must be %d of each",
            n_teach, n_validate, DISCOVERY_MIN_KNOWN);
    for (int c = 0; c < data->n_known; c++)
        if (!teach[c])
            return err_set(e, ERR_INPUT, "known class %d of %d has no item to learn from", c + 1,
                           data->n_known);
    return true;
}

static bool open_loop(struct loop *l, struct err *e)
{
    struct discovery_result *r = l->r;
    const size_t n = r->n;
    return (r->assigned = mem_array(n, sizeof *r->assigned, "the classes", e)) &&
           (r->closed = mem_array(n, sizeof *r->closed, "the classes", e)) &&
           (r->member = mem_array(n, sizeof *r->member, "the groups", e)) &&
           (r->distance = mem_array(n, sizeof *r->distance, "the distances", e)) &&
           (r->to_centre = mem_array(n, sizeof *r->to_centre, "the distances", e)) &&
           (r->was_rejected = mem_array(n, 1, "the rejects", e)) &&
           (l->teach = mem_array(n, sizeof *l->teach, "the classes", e)) &&
           (l->candidate = mem_array(n, sizeof *l->candidate, "the groups", e)) &&
           (l->half = mem_array(n, 1, "the groups", e)) && (l->is_out = mem_array(n, 1, "the rejects", e)) &&
           (l->centre = mem_array(n, sizeof *l->centre, "the distances", e)) &&
           (l->label = mem_array(n, sizeof *l->label, "the learner", e)) &&
           (l->said = mem_array(n, sizeof *l->said, "the learner", e));
}

static void close_loop(struct loop *l)
{
    free(l->teach);
    free(l->candidate);
    free(l->half);
    free(l->is_out);
    free(l->white);
    free(l->centre);
    free(l->label);
    free(l->said);
}

/* One round. *is_last: nothing more is to be found; has_others: candidates are left over to be shown. */
static bool one_round(struct loop *l, bool *is_last, bool *has_others, struct err *e)
{
    int n_clusters[MAX_CLUSTERS], n_new = 0;
    double threshold, null;
    *has_others = false;
    if (!keep_going(l, "views", 0, e) || !look(l, e) || !keep_going(l, "rejects", 0.3, e) ||
        !measure(l, &threshold, e))
        return false;
    const size_t n_out = reject(l, threshold);
    if (l->round == 0) {
        const size_t size = l->r->n * (size_t)l->r->d[0];
        if (!sort_all(l, threshold, l->r->closed, e) ||
            !(l->r->first = mem_array(size, sizeof *l->r->first, "the views", e)))
            return false;
        memcpy(l->r->first, l->white, size * sizeof *l->white);
        l->r->d_first = l->r->d[0];
        if (n_out < l->o->min_items)
            return too_few(l, n_out, e);
    }
    *is_last = n_out < l->o->min_items || l->n_classes + MAX_CLUSTERS >= DISCOVERY_MAX_CLASSES;
    if (*is_last)
        return true;
    if (!keep_going(l, "clusters", 0.4, e) || !cluster(l, n_out, e) || !keep_going(l, "merging", 0.5, e) ||
        !merge(l, n_clusters, e) || !keep_going(l, "null", 0.7, e) || !null_f1(l, &null, e) ||
        !keep_going(l, "learnability", 0.8, e) || !accept(l, n_clusters, fmax(l->o->min_f1, null), &n_new, e))
        return false;
    if (l->round == 0)
        l->r->null_f1 = null;
    *is_last = n_new == 0;
    *has_others = n_new == 0;
    return true;
}

bool discovery_run(const struct discovery_data *data, const struct discovery_options *o,
                   struct discovery_result *r, const struct progress *p, struct err *e)
{
    struct loop l = {.data = data, .o = o, .r = r, .progress = p, .n_classes = data->n_known};
    bool ok, is_last = false, has_others = false;
    double threshold;
    *r = (struct discovery_result){.n = data->n, .n_known = data->n_known};
    assert(data->n_known >= 1 && data->n_known + MAX_CLUSTERS < DISCOVERY_MAX_CLASSES);
    assert(o->guess >= 1 && o->guess <= DISCOVERY_MAX_GUESS && o->rounds >= 1 && data->n <= UINT32_MAX);
    ok = check(data, e) && open_loop(&l, e);
    for (size_t i = 0; ok && i < data->n; i++)
        l.teach[i] = data->role[i] == DISCOVERY_TEACH ? data->label[i] : -1;
    for (; ok && !is_last && l.round < o->rounds; l.round++)
        ok = one_round(&l, &is_last, &has_others, e);
    r->n_rounds = l.round;
    l.round = l.round > 0 ? l.round - 1 : 0;
    /* what the last round accepted has to be looked at once more before items are sorted */
    ok = ok && measure(&l, &threshold, e) && sort_all(&l, threshold, r->assigned, e) &&
         gather(&l, has_others, e);
    close_loop(&l);
    progress_report(p, "discover", o->rounds, o->rounds, NULL);
    return ok;
}
