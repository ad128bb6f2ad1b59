/* SPDX-License-Identifier: Apache-2.0
 *
 * active.c - the queries of active.h: what a strategy's name means, how sure a prediction is, and which of a
 * pool to take.
 *
 * Order of a query: 1. the validate picks, uniform over the whole pool; 2. the others are ranked (by
 * confidence, or by uncertainty times density) with ties in a random order, so that a saturated model does
 * not ask along the rows of the source; 3. they are taken from the top, by quota for kmeans, each at its
 * distance from all taken so far; 4. while there are too few, the distance is halved and what is left is
 * looked at again.
 *
 * Information density (Settles & Craven 2008) is uncertainty times mean similarity to the pool. The mean
 * cosine of item i to all others is u_i . mean(u) with unit vectors u, so the pool needs no matrix of pairs
 * and no sampling. Uncertainty is 1 - confidence for max and diff2 and the entropy for entropy; std has none
 * and is refused.
 *
 * k-means is Lloyd's on the whole pool from k-means++ seeds, where the released code takes mini-batches of
 * 80: at these sizes the whole pool costs less than a second, and needs no reassignment rule. Features are
 * the pooled embeddings, not the flattened maps, which for centred buildings would cluster by position. */
#include "models/learn/active.h"

#include "models/base/mem.h"
#include "models/data/augment.h"
#include "models/learn/method.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const score_names[] = {"max", "diff2", "entropy", "std", "random"};
static const char *const selection_names[] = {"direct", "kmeans", "density", "outlier"};
enum { HALVINGS = 6, KMEANS_ROUNDS = 50, BATCH = 64 };

/* Low bits of a query's random index; the round stands above. */
enum { DRAW_VALIDATE, DRAW_TIES, DRAW_QUOTA, DRAW_KMEANS, DRAW_SPREAD };

/* ---- names ---- */

static int find_name(const char *const *names, int n, const char *text, size_t length)
{
    for (int i = 0; i < n; i++)
        if (strlen(names[i]) == length && strncmp(names[i], text, length) == 0)
            return i;
    return -1;
}

bool active_parse(const char *text, struct active_strategy *s, struct err *e)
{
    const size_t score_end = strcspn(text, ".+");
    const char *rest = text + score_end;
    int score = find_name(score_names, 5, text, score_end), selection = ACTIVE_DIRECT;
    s->augmented = strncmp(rest, ".aug", 4) == 0;
    if (s->augmented)
        rest += 4;
    if (*rest == '+')
        selection = find_name(selection_names, 4, rest + 1, strlen(rest + 1));
    else if (*rest)
        selection = -1;
    if (score < 0 || selection < 0)
        return err_set(
            e, ERR_USAGE,
            "'%s' is no strategy; write SCORE[.aug][+SELECTION] with a score of max, diff2, entropy, "
            "std or random and a selection of direct, kmeans, density or outlier, such as "
            "diff2.aug+kmeans",
            text);
    if (selection >= ACTIVE_DENSITY && score >= ACTIVE_STD)
        return err_set(e, ERR_USAGE,
                       "'%s': %s needs an uncertainty, which %s does not give; take max, diff2 or entropy",
                       text, selection_names[selection], score_names[score]);
    if (score == ACTIVE_RANDOM && (s->augmented || selection != ACTIVE_DIRECT))
        return err_set(e, ERR_USAGE, "'%s': random looks at no prediction, so it takes nothing after it",
                       text);
    s->score = (enum active_score)score;
    s->selection = (enum active_selection)selection;
    return true;
}

void active_text(const struct active_strategy *s, char out[ACTIVE_TEXT_SIZE])
{
    snprintf(out, ACTIVE_TEXT_SIZE, "%s%s%s%s", score_names[s->score], s->augmented ? ".aug" : "",
             s->selection == ACTIVE_DIRECT ? "" : "+",
             s->selection == ACTIVE_DIRECT ? "" : selection_names[s->selection]);
}

/* ---- scores ---- */

double active_confidence(enum active_score score, const float *p, int n_classes)
{
    double first = -1, second = -1, sum = 0, square = 0, neg_entropy = 0;
    for (int c = 0; c < n_classes; c++) {
        const double v = (double)p[c];
        if (v > first) {
            second = first;
            first = v;
        } else if (v > second)
            second = v;
        sum += v;
        neg_entropy += v > 0 ? v * log(v) : 0;
    }
    const double mean = sum / n_classes;
    for (int c = 0; c < n_classes; c++)
        square += ((double)p[c] - mean) * ((double)p[c] - mean);
    switch (score) {
    case ACTIVE_MAX:
        return first;
    case ACTIVE_DIFF2:
        return first - second;
    case ACTIVE_ENTROPY:
        return neg_entropy;
    case ACTIVE_STD:
        return sqrt(square / n_classes);
    case ACTIVE_RANDOM:
        break;
    }
    return 0;
}

/* ---- ranking ---- */

/* rank: low first. */
struct ranked {
    double rank;
    uint32_t tie, index;
};

static int by_rank(const void *pa, const void *pb)
{
    const struct ranked *a = pa, *b = pb;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (a->tie != b->tie)
        return a->tie < b->tie ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

/* Mean cosine to the pool, never below 0: an item unlike everything is not made worse by being uncertain. */
static bool similarities(const struct active_pool *pool, double *out, struct err *e)
{
    const size_t d = (size_t)pool->d;
    double *mean = mem_array(d, sizeof *mean, "the mean embedding", e);
    if (!mean)
        return false;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < pool->n; i++) {
            const float *v = pool->embedding + i * d;
            double length = 0, dot = 0;
            for (size_t k = 0; k < d; k++)
                length += (double)v[k] * (double)v[k];
            length = length > 0 ? sqrt(length) : 1;
            for (size_t k = 0; k < d && pass == 0; k++)
                mean[k] += (double)v[k] / length / (double)pool->n;
            for (size_t k = 0; k < d && pass == 1; k++)
                dot += (double)v[k] / length * mean[k];
            out[i] = fmin(fmax(dot, 0), 1);
        }
    free(mean);
    return true;
}

/* What a pick is ranked by, as it is reported: a confidence (low first) or a density score (high first). */
static bool scores(const struct active_pool *pool, const struct active_options *o, double *score,
                   struct err *e)
{
    const enum active_selection how = o->strategy.selection;
    if (o->strategy.score == ACTIVE_RANDOM)
        return true; /* zeros: the tie decides */
    if (how < ACTIVE_DENSITY) {
        memcpy(score, pool->confidence, pool->n * sizeof *score);
        return true;
    }
    if (!similarities(pool, score, e))
        return false;
    for (size_t i = 0; i < pool->n; i++) {
        const double conf = pool->confidence[i];
        const double uncertainty = o->strategy.score == ACTIVE_ENTROPY ? -conf : 1 - conf;
        score[i] = uncertainty * (how == ACTIVE_DENSITY ? score[i] : 1 - score[i]);
    }
    return true;
}

/* ---- clusters ---- */

void active_quotas(const size_t *size, int n_clusters, size_t n, struct rng *r, size_t *quota)
{
    size_t total = 0, sum = 0;
    for (int c = 0; c < n_clusters; c++)
        total += size[c];
    assert(n <= total);
    for (int c = 0; c < n_clusters; c++) {
        quota[c] = total ? (size_t)nearbyint((double)n * (double)size[c] / (double)total) : 0;
        sum += quota[c];
    }
    for (; sum < n; sum++) {
        int open = 0, c = 0;
        for (int k = 0; k < n_clusters; k++)
            open += quota[k] < size[k];
        int nth = (int)rng_below(r, (uint32_t)open);
        while (quota[c] >= size[c] || nth-- > 0)
            c++;
        quota[c]++;
    }
    for (; sum > n; sum--) {
        int most = 0;
        for (int c = 1; c < n_clusters; c++)
            if (quota[c] > quota[most])
                most = c;
        quota[most]--;
    }
}

static double distance2(const float *a, const double *b, int d)
{
    double sum = 0;
    for (int k = 0; k < d; k++)
        sum += ((double)a[k] - b[k]) * ((double)a[k] - b[k]);
    return sum;
}

/* k-means++ (Arthur & Vassilvitskii 2007): each further centre is an item drawn in proportion to its squared
 * distance from the centres so far; equal items all around: any of them. */
static void seed_centres(const float *x, size_t n, int d, int k, struct rng *r, double *centre, double *near)
{
    size_t at = rng_below(r, (uint32_t)n);
    for (int c = 0; c < k; c++) {
        double sum = 0;
        for (int j = 0; j < d; j++)
            centre[(size_t)c * d + j] = (double)x[at * (size_t)d + j];
        for (size_t i = 0; i < n; i++) {
            const double far = distance2(x + i * (size_t)d, centre + (size_t)c * d, d);
            near[i] = c == 0 || far < near[i] ? far : near[i];
            sum += near[i];
        }
        double left = rng_uniform(r) * sum;
        at = rng_below(r, (uint32_t)n);
        for (size_t i = 0; i < n && sum > 0; i++) {
            if (near[i] > 0)
                at = i;
            if ((left -= near[i]) < 0 && near[i] > 0)
                break;
        }
    }
}

/* True when an item changed its cluster. */
static bool assign(const float *x, size_t n, int d, int k, const double *centre, int *cluster)
{
    int changed = 0;
#pragma omp parallel for schedule(static) reduction(| : changed)
    for (size_t i = 0; i < n; i++) {
        int best = 0;
        double least = INFINITY;
        for (int c = 0; c < k; c++) {
            const double far = distance2(x + i * (size_t)d, centre + (size_t)c * d, d);
            if (far < least) {
                least = far;
                best = c;
            }
        }
        changed |= cluster[i] != best;
        cluster[i] = best;
    }
    return changed;
}

bool active_kmeans(const float *x, size_t n, int d, int k, uint64_t seed, uint64_t index, int *cluster,
                   struct err *e)
{
    struct rng r;
    double *centre = mem_array((size_t)k * (size_t)d, sizeof *centre, "the clusters", e);
    double *near = centre ? mem_array(n > (size_t)k ? n : (size_t)k, sizeof *near, "the clusters", e) : NULL;
    bool ok = near;
    assert(k >= 1 && (size_t)k <= n && d >= 1);
    if (ok) {
        rng_init(&r, seed, RNG_QUERY, index << 8 | DRAW_KMEANS);
        seed_centres(x, n, d, k, &r, centre, near);
        for (size_t i = 0; i < n; i++)
            cluster[i] = -1;
    }
    for (int round = 0; ok && round < KMEANS_ROUNDS && assign(x, n, d, k, centre, cluster); round++) {
        double *count = near; /* no longer needed */
        memset(count, 0, (size_t)k * sizeof *count);
        for (size_t i = 0; i < n; i++)
            count[cluster[i]]++;
        for (int c = 0; c < k; c++) /* a cluster without items keeps its centre */
            for (int j = 0; j < d && count[c] > 0; j++)
                centre[(size_t)c * d + j] = 0;
        for (size_t i = 0; i < n; i++)
            for (int j = 0; j < d; j++)
                centre[(size_t)cluster[i] * d + j] += (double)x[i * (size_t)d + j] / count[cluster[i]];
    }
    free(centre);
    free(near);
    return ok;
}

bool active_spread(const double *x, const double *y, size_t n, size_t k, uint64_t seed, uint32_t *out,
                   struct err *e)
{
    struct rng r;
    assert(k <= n && n <= UINT32_MAX);
    double *near = mem_array(n, sizeof *near, "the first labels", e); /* squared distance to the chosen */
    uint32_t *perm = near ? mem_array(n, sizeof *perm, "the first labels", e) : NULL;
    bool ok = perm;
    if (ok) {
        rng_init(&r, seed, RNG_QUERY, DRAW_SPREAD);
        rng_permutation(&r, perm, (uint32_t)n); /* ties, and all there is without coordinates */
        for (size_t i = 0; i < n; i++)
            near[i] = INFINITY;
    }
    for (size_t c = 0; ok && c < k; c++) {
        size_t best = c; /* position in perm */
        for (size_t j = c; j < n && x; j++)
            if (near[perm[j]] > near[perm[best]])
                best = j;
        const uint32_t at = perm[best];
        perm[best] = perm[c];
        perm[c] = at;
        out[c] = at;
        for (size_t i = 0; i < n && x; i++) {
            const double dx = x[i] - x[at], dy = y[i] - y[at], far = dx * dx + dy * dy;
            near[i] = far < near[i] ? far : near[i];
        }
    }
    free(near);
    free(perm);
    return ok;
}

/* ---- taking ---- */

struct query {
    const struct active_pool *pool;
    const struct active_options *o;
    struct ranked *order; /* [n] all items, best first */
    double *score;        /* [n] */
    bool *taken;          /* [n] */
    int *cluster;         /* [n] or NULL */
    size_t *quota;        /* [ACTIVE_CLUSTERS] */
    struct active_pick *picks;
    size_t n_picks;
    double buffer_m;
};

static bool far_enough(const struct query *q, size_t i)
{
    if (!q->pool->x || q->buffer_m <= 0)
        return true;
    for (size_t k = 0; k < q->n_picks; k++) {
        const size_t j = q->picks[k].index;
        if (hypot(q->pool->x[i] - q->pool->x[j], q->pool->y[i] - q->pool->y[j]) < q->buffer_m)
            return false;
    }
    return true;
}

static void take(struct query *q, size_t i, bool validate, bool filled)
{
    q->picks[q->n_picks++] = (struct active_pick){.index = i,
                                                  .score = validate ? 0 : q->score[i],
                                                  .cluster = q->cluster && !validate ? q->cluster[i] : -1,
                                                  .validate = validate,
                                                  .filled = filled};
    q->taken[i] = true;
}

/* From the best down, until there are `want` picks. by_quota: only where the cluster's quota is not used up.
 */
static void take_ranked(struct query *q, size_t want, bool by_quota)
{
    for (size_t r = 0; r < q->pool->n && q->n_picks < want; r++) {
        const size_t i = q->order[r].index;
        if (q->taken[i] || (by_quota && q->quota[q->cluster[i]] == 0) || !far_enough(q, i))
            continue;
        if (by_quota)
            q->quota[q->cluster[i]]--;
        take(q, i, false, q->cluster && !by_quota);
    }
}

/* Clusters of the whole pool, no more than there are picks to spread over them, and their quotas of n among
 * what the validate picks have left. */
static bool make_clusters(struct query *q, size_t n, struct err *e)
{
    const struct active_pool *pool = q->pool;
    const size_t left = pool->n - q->n_picks;
    const size_t most = n < left ? n : left;
    const int k = most < ACTIVE_CLUSTERS ? (int)most : ACTIVE_CLUSTERS;
    size_t size[ACTIVE_CLUSTERS] = {0};
    struct rng r;
    q->cluster = mem_array(pool->n, sizeof *q->cluster, "the clusters", e);
    q->quota = q->cluster ? mem_array(ACTIVE_CLUSTERS, sizeof *q->quota, "the clusters", e) : NULL;
    if (!q->quota)
        return false;
    if (k == 0)
        return true;
    if (!active_kmeans(pool->embedding, pool->n, pool->d, k, q->o->seed, q->o->round, q->cluster, e))
        return false;
    for (size_t i = 0; i < pool->n; i++)
        size[q->cluster[i]] += !q->taken[i];
    rng_init(&r, q->o->seed, RNG_QUERY, q->o->round << 8 | DRAW_QUOTA);
    active_quotas(size, k, n, &r, q->quota);
    return true;
}

/* Spreads the validate picks, which stand at the front, evenly through the list. */
static void interleave(struct active_pick *picks, size_t n, size_t n_validate, struct active_pick *copy)
{
    size_t v = 0, t = n_validate;
    memcpy(copy, picks, n * sizeof *picks);
    for (size_t i = 0; i < n; i++) {
        const bool validate = (i + 1) * n_validate / n > i * n_validate / n;
        picks[i] = copy[validate ? v++ : t++];
    }
}

void active_defaults(struct active_options *o)
{
    *o = (struct active_options){.strategy = {ACTIVE_DIFF2, ACTIVE_KMEANS, true},
                                 .n = 50,
                                 .validate_share = 0.2,
                                 .buffer_m = 25,
                                 .seed = 1};
}

static bool fill_order(struct query *q, struct err *e)
{
    const bool falling = q->o->strategy.selection >= ACTIVE_DENSITY;
    struct rng r;
    if (!scores(q->pool, q->o, q->score, e))
        return false;
    rng_init(&r, q->o->seed, RNG_QUERY, q->o->round << 8 | DRAW_TIES);
    for (size_t i = 0; i < q->pool->n; i++)
        q->order[i] = (struct ranked){
            .rank = falling ? -q->score[i] : q->score[i], .tie = rng_u32(&r), .index = (uint32_t)i};
    qsort(q->order, q->pool->n, sizeof *q->order, by_rank);
    return true;
}

bool active_choose(const struct active_pool *pool, const struct active_options *o, struct active_pick *picks,
                   size_t *n_picks, double *buffer_m, struct err *e)
{
    const size_t n = o->n < pool->n ? o->n : pool->n;
    const size_t n_validate = (size_t)(o->validate_share * (double)n + 0.5);
    struct query q = {.pool = pool, .o = o, .picks = picks, .buffer_m = o->buffer_m};
    struct active_pick *copy = NULL;
    uint32_t *perm = NULL;
    bool ok = false;
    assert(pool->n <= UINT32_MAX && o->validate_share >= 0 && o->validate_share <= 1);
    *n_picks = 0;
    if (o->strategy.score == ACTIVE_RANDOM)
        q.buffer_m = 0;
    if (!(q.order = mem_array(pool->n, sizeof *q.order, "the ranking", e)) ||
        !(q.score = mem_array(pool->n, sizeof *q.score, "the ranking", e)) ||
        !(q.taken = mem_array(pool->n, sizeof *q.taken, "the ranking", e)) ||
        !(perm = mem_array(pool->n, sizeof *perm, "the ranking", e)) ||
        !(copy = mem_array(n, sizeof *copy, "the picks", e)) || !fill_order(&q, e))
        goto out;
    struct rng r;
    rng_init(&r, o->seed, RNG_QUERY, o->round << 8 | DRAW_VALIDATE);
    rng_permutation(&r, perm, (uint32_t)pool->n);
    for (size_t i = 0; i < n_validate; i++)
        take(&q, perm[i], true, false);
    if (o->strategy.selection == ACTIVE_KMEANS) {
        if (!make_clusters(&q, n - n_validate, e))
            goto out;
        take_ranked(&q, n, true);
    }
    take_ranked(&q, n, false);
    for (int k = 0; q.n_picks < n; k++) {
        q.buffer_m = k < HALVINGS ? q.buffer_m / 2 : 0;
        take_ranked(&q, n, false);
    }
    interleave(picks, n, n_validate, copy);
    *n_picks = n;
    if (buffer_m)
        *buffer_m = q.buffer_m;
    ok = true;
out:
    free(q.order);
    free(q.score);
    free(q.taken);
    free(q.cluster);
    free(q.quota);
    free(perm);
    free(copy);
    return ok;
}

/* ---- predictions ---- */

/* Row i of x: view v of item i, or the image as it is. */
static void make_inputs(const struct imageset *set, const uint32_t *items, int n, int v, bool augmented,
                        uint64_t seed, uint64_t round, float *x)
{
    const struct imageset_layout *l = &set->layout;
    const struct augment_config c = {.layout = *l, .mirror = false, .cutout = false};
    const size_t side2 = (size_t)l->size * (size_t)l->size;
    const size_t image = side2 * (size_t)imageset_stored_channels(l),
                 row = side2 * (size_t)imageset_input_channels(l);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++) {
        struct rng r;
        rng_init(&r, seed, RNG_WEAK,
                 ((uint64_t)items[i] * ACTIVE_VIEWS + (uint64_t)v) << 24 | (round & 0xFFFFFF));
        augment_view(&c, augmented ? AUGMENT_WEAK : AUGMENT_NONE, set->px + items[i] * image, &r,
                     x + (size_t)i * row, NULL);
    }
}

bool active_predict(const struct model *m, const struct imageset *set, const uint32_t *items, size_t n,
                    bool augmented, uint64_t seed, uint64_t round, float *probs, float *embedding,
                    const struct progress *progress, struct err *e)
{
    const struct imageset_layout *l = model_layout(m);
    const int n_views = augmented ? ACTIVE_VIEWS : 1;
    const size_t k = (size_t)model_net(m)->n_classes, d = (size_t)net_embedding_size(model_net(m));
    const size_t row = (size_t)l->size * (size_t)l->size * (size_t)imageset_input_channels(l);
    /* the model says whether it sees the outline and the likeness of the dates */
    struct imageset seen = *set;
    seen.layout.use_footprint = l->use_footprint;
    seen.layout.use_match = l->use_match;
    assert(imageset_input_channels(&seen.layout) == imageset_input_channels(l) &&
           seen.layout.size == l->size);
    struct predictor *p = predictor_create(m, BATCH, 1, e);
    float *x = p ? mem_array(BATCH, row * sizeof *x, "the views", e) : NULL;
    float *q = x ? mem_array(BATCH, k * sizeof *q, "the views", e) : NULL;
    float *v = q ? mem_array(BATCH, d * sizeof *v, "the views", e) : NULL;
    bool ok = v;
    for (size_t at = 0; ok && at < n; at += BATCH) {
        const size_t m_batch = n - at < BATCH ? n - at : BATCH;
        if (progress_stopped(progress)) {
            ok = err_set(e, ERR_INTERRUPTED, "interrupted after %zu of %zu images", at, n);
            break;
        }
        memset(probs + at * k, 0, m_batch * k * sizeof *probs);
        if (embedding)
            memset(embedding + at * d, 0, m_batch * d * sizeof *embedding);
        for (int view = 0; view < n_views; view++) {
            make_inputs(&seen, items + at, (int)m_batch, view, augmented, seed, round, x);
            predictor_run_inputs(p, x, (int)m_batch, q, v);
            for (size_t i = 0; i < m_batch * k; i++)
                probs[at * k + i] += q[i] / (float)n_views;
            for (size_t i = 0; embedding && i < m_batch * d; i++)
                embedding[at * d + i] += v[i] / (float)n_views;
        }
        progress_report(progress, "ask", (double)(at + m_batch), (double)n, NULL);
    }
    predictor_free(p);
    free(x);
    free(q);
    free(v);
    return ok;
}

bool active_query(const struct model *m, const struct imageset *set, const uint32_t *candidates,
                  size_t n_candidates, const double *x, const double *y, const struct active_options *o,
                  struct active_pick *picks, size_t *n_picks, double *buffer_m,
                  const struct progress *progress, struct err *e)
{
    const struct active_strategy *s = &o->strategy;
    const int k = model_net(m)->n_classes, d = net_embedding_size(model_net(m));
    const bool asks_model = s->score != ACTIVE_RANDOM, embeds = s->selection != ACTIVE_DIRECT;
    double *confidence = mem_array(n_candidates, sizeof *confidence, "the scores", e);
    double *px = confidence && x ? mem_array(2 * n_candidates, sizeof *px, "the places", e) : NULL;
    float *probs = NULL, *embedding = NULL;
    bool ok = confidence && (!x || px);
    if (ok && asks_model)
        ok = (probs = mem_array(n_candidates, (size_t)k * sizeof *probs, "the predictions", e)) &&
             (!embeds ||
              (embedding = mem_array(n_candidates, (size_t)d * sizeof *embedding, "the embeddings", e)));
    ok = ok && (!asks_model || active_predict(m, set, candidates, n_candidates, s->augmented, o->seed,
                                              o->round, probs, embedding, progress, e));
    for (size_t i = 0; ok && i < n_candidates; i++) {
        if (asks_model)
            confidence[i] = active_confidence(s->score, probs + i * (size_t)k, k);
        if (px) {
            px[i] = x[candidates[i]];
            px[n_candidates + i] = y[candidates[i]];
        }
    }
    const struct active_pool pool = {.n = n_candidates,
                                     .confidence = confidence,
                                     .embedding = embedding,
                                     .d = d,
                                     .x = px,
                                     .y = px ? px + n_candidates : NULL};
    ok = ok && active_choose(&pool, o, picks, n_picks, buffer_m, e);
    free(confidence);
    free(px);
    free(probs);
    free(embedding);
    return ok;
}
