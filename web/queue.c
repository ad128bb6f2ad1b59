/* SPDX-License-Identifier: Apache-2.0
 * queue.c - /assessments/{id}/queue: which buildings to look at next, and why (models/learn/active.h).
 *
 * 1. One in five is the next of the blind draw (geo/totals.h's order: a function of the assessment's seed), recorded in
 *    the store before anybody sees it, so that it is never trained on; it comes without the model's opinion.
 * 2. The others teach. With a map: those the model is least sure of, apart from each other. Without: spread over the
 *    scene, farthest point first.
 *    The part of the draw still to come is kept out, too: whoever learns what the model thinks of a building, or teaches
 *    it, can no longer judge it blindly, and a label that arrives minutes after the draw would have changed sides.
 * 3. What another user was given in the last ten minutes comes last. */
#include "models/base/mem.h"
#include "models/learn/active.h"
#include "models/learn/estimate.h"
#include "web/buildings.h"
#include "web/routes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_DEFAULT = 20, N_MAX = 200, VALIDATE_EVERY = 5, HANDOUT_MS = 600000, RESERVED_MAX = 4096 };
static const double apart_m = 25;

enum mode { MODE_BOTH, MODE_TRAIN, MODE_VALIDATE };
enum why { WHY_SEED, WHY_UNCERTAIN, WHY_RANDOM, WHY_VALIDATE };

struct pick {
    size_t index;
    enum why why;
    int64_t draw; /* 0: none */
};

struct queue {
    struct buildings b;
    struct workflow *w;
    const char *aid, *user;
    int64_t seed;
    struct store_sample sample;
    uint8_t *is_drawn; /* [ev->n] drawn, or so soon to be that it must not teach */
    long n;
    enum mode mode;
    enum active_score score;
    bool is_spread;
    char strategy[32];
    struct pick pick[N_MAX];
    size_t n_picks, n_remaining;
};

static bool read_request(const struct http_request *q, struct queue *u, struct http_reply *a)
{
    const char *mode = http_param(q, "mode"), *strategy = http_param(q, "strategy");
    static const char *const modes[] = {"both", "train", "validate"};
    static const char *const strategies[] = {"auto", "random", "margin", "diff2", "entropy", "spread"};
    int m = 0, k = 0;
    u->n = N_DEFAULT;
    u->user = *q->user.name ? q->user.name : http_param(q, "user");
    if (!http_param_int(q, a, "n", 1, N_MAX, &u->n))
        return false;
    while (mode && m < 3 && strcmp(mode, modes[m]) != 0)
        m++;
    while (strategy && k < 6 && strcmp(strategy, strategies[k]) != 0)
        k++;
    if (m == 3 || k == 6) {
        http_problem(q, a, 400, m == 3 ? "mode" : "strategy",
                     m == 3 ? "mode must be both, train or validate"
                            : "strategy must be auto, random, margin, diff2, entropy or spread");
        return false;
    }
    u->mode = (enum mode)m;
    u->score = k == 1 ? ACTIVE_RANDOM : k == 4 ? ACTIVE_ENTROPY : ACTIVE_DIFF2;
    u->is_spread = k == 5 || (!u->b.map && k != 1);
    snprintf(u->strategy, sizeof u->strategy, "%s",
             u->is_spread                 ? "spread"
             : u->score == ACTIVE_RANDOM  ? "random"
             : u->score == ACTIVE_ENTROPY ? "entropy"
                                          : "diff2");
    return true;
}

/* ---- what was handed out
 * ----------------------------------------------------------------------------------------------- */

static uint64_t hash_text(uint64_t h, const char *s)
{
    for (; s && *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211u;
    return (h ^ 0xff) * 1099511628211u;
}

static uint64_t key_of(const struct queue *u, size_t index)
{
    return hash_text(hash_text(14695981039346656037u, u->aid), u->b.ev->building[index].bldg_id);
}

static bool is_others(const struct queue *u, size_t index)
{
    if (!u->user)
        return false;
    uint64_t key = key_of(u, index), user = hash_text(14695981039346656037u, u->user);
    const struct workflow_handout *h = &u->w->handout[key % WORKFLOW_HANDOUTS];
    return h->key == key && h->user != user && watch_now_ms() - h->at_ms < HANDOUT_MS;
}

static void remember(struct queue *u)
{
    for (size_t i = 0; u->user && i < u->n_picks; i++) {
        uint64_t key = key_of(u, u->pick[i].index);
        u->w->handout[key % WORKFLOW_HANDOUTS] =
            (struct workflow_handout){key, hash_text(14695981039346656037u, u->user), watch_now_ms()};
    }
}

/* ---- the blind sample
 * --------------------------------------------------------------------------------------------------- */

static bool is_graded_blind(const struct queue *u, size_t index)
{
    const struct store_label *l = buildings_label(&u->b, u->b.ev->building[index].bldg_id);
    return l && l->purpose == STORE_VALIDATE;
}

/* The next `n` of the draw that nobody has graded, recorded. */
static bool pick_validate(struct queue *u, size_t n, struct pick *out, size_t *n_out, struct err *e)
{
    const struct event *ev = u->b.ev;
    size_t n_graded = 0, k;
    *n_out = 0;
    for (size_t i = 0; i < u->b.labels.n; i++)
        n_graded += u->b.labels.item[i].purpose == STORE_VALIDATE;
    k = n_graded + 2 * n; /* some may be in other hands */
    k = k < ev->n ? k : ev->n;
    uint32_t *order = mem_array(k, sizeof *order, "the draw", e);
    struct store_drawn *drawn = order ? mem_array(n, sizeof *drawn, "the draw", e) : NULL;
    bool ok =
        drawn && (k == 0 || estimate_draw((uint64_t)u->seed, 0, (uint32_t)ev->n, (uint32_t)k, order, e));
    for (int pass = 0; ok && pass < 2; pass++) /* first what nobody else is at */
        for (size_t i = 0; i < k && *n_out < n; i++)
            if (!is_graded_blind(u, order[i]) && is_others(u, order[i]) == (pass == 1)) {
                drawn[*n_out] =
                    (struct store_drawn){.bldg_id = (char *)(uintptr_t)ev->building[order[i]].bldg_id,
                                         .draw = (int64_t)i + 1,
                                         .seed = u->seed};
                out[(*n_out)++] = (struct pick){order[i], WHY_VALIDATE, (int64_t)i + 1};
            }
    ok = ok && (*n_out == 0 || store_sample_add(u->w->store, u->aid, drawn, *n_out, e));
    free(drawn);
    free(order);
    return ok;
}

/* ---- what teaches
 * ------------------------------------------------------------------------------------------------------- */

static bool may_teach(const struct queue *u, size_t i)
{
    const struct event_building *v = &u->b.ev->building[i];
    return v->page >= 0 && v->split == IMAGESET_TRAIN && !u->is_drawn[i] &&
           !buildings_label(&u->b, v->bldg_id);
}

/* From the farthest-point order of all buildings, those that are still open. */
static bool pick_spread(struct queue *u, const uint32_t *candidate, size_t n_candidates, size_t n,
                        struct pick *out, size_t *n_out, struct err *e)
{
    const struct event *ev = u->b.ev;
    double *x = mem_array(n_candidates, sizeof *x, "the queue", e),
           *y = mem_array(n_candidates, sizeof *y, "the queue", e);
    size_t k = n_candidates < n ? n_candidates : n;
    uint32_t *order = x && y ? mem_array(k, sizeof *order, "the queue", e) : NULL;
    for (size_t i = 0; order && i < n_candidates; i++) {
        x[i] = ev->building[candidate[i]].x_m;
        y[i] = ev->building[candidate[i]].y_m;
    }
    bool ok = order && active_spread(x, y, n_candidates, k, (uint64_t)u->seed + u->b.labels.n, order, e);
    for (size_t i = 0; ok && i < k; i++)
        out[(*n_out)++] = (struct pick){candidate[order[i]], WHY_SEED, 0};
    free(order);
    free(x);
    free(y);
    return ok;
}

static double confidence_of(const struct queue *u, size_t index)
{
    const struct building *p = buildings_prediction(&u->b, index);
    if (!p)
        return 1;
    if (u->score == ACTIVE_ENTROPY)
        return p->entropy_mille == ASSESSMENT_NO_P ? 0 : -p->entropy_mille / 1000.0;
    return fabs(2 * p->p_mille / 1000.0 - 1);
}

static bool pick_doubtful(struct queue *u, const uint32_t *candidate, size_t n_candidates, size_t n,
                          struct pick *out, size_t *n_out, struct err *e)
{
    const struct event *ev = u->b.ev;
    struct active_options o;
    double *v = mem_array(3 * n_candidates, sizeof *v, "the queue", e);
    struct active_pick *picks = v ? mem_array(n, sizeof *picks, "the queue", e) : NULL;
    struct active_pool pool = {.n = n_candidates, .confidence = v};
    size_t n_picks = 0;
    active_defaults(&o);
    o.strategy = (struct active_strategy){.score = u->score, .selection = ACTIVE_DIRECT};
    o.n = n;
    o.validate_share = 0;
    o.buffer_m = apart_m;
    o.seed = (uint64_t)u->seed;
    o.round = (uint64_t)u->b.labels.seq;
    if (picks) {
        pool.x = v + n_candidates;
        pool.y = v + 2 * n_candidates;
        for (size_t i = 0; i < n_candidates; i++) {
            v[i] = confidence_of(u, candidate[i]);
            v[n_candidates + i] = ev->building[candidate[i]].x_m;
            v[2 * n_candidates + i] = ev->building[candidate[i]].y_m;
        }
    }
    bool ok = picks && active_choose(&pool, &o, picks, &n_picks, NULL, e);
    for (size_t i = 0; ok && i < n_picks; i++)
        out[(*n_out)++] = (struct pick){candidate[picks[i].index],
                                        u->score == ACTIVE_RANDOM ? WHY_RANDOM : WHY_UNCERTAIN, 0};
    free(picks);
    free(v);
    return ok;
}

static bool pick_train(struct queue *u, size_t n, struct pick *out, size_t *n_out, struct err *e)
{
    const size_t n_buildings = u->b.ev->n;
    uint32_t *candidate = mem_array(n_buildings, sizeof *candidate, "the queue", e);
    bool ok = candidate != NULL;
    *n_out = u->n_remaining = 0;
    for (int pass = 0; ok && pass < 2 && *n_out < n; pass++) {
        size_t n_candidates = 0;
        for (size_t i = 0; i < n_buildings; i++)
            if (may_teach(u, i)) {
                u->n_remaining += pass == 0;
                if (is_others(u, i) == (pass == 1))
                    candidate[n_candidates++] = (uint32_t)i;
            }
        size_t wanted = n - *n_out < n_candidates ? n - *n_out : n_candidates;
        if (wanted == 0)
            continue;
        ok = u->is_spread ? pick_spread(u, candidate, n_candidates, wanted, out, n_out, e)
                          : pick_doubtful(u, candidate, n_candidates, wanted, out, n_out, e);
    }
    free(candidate);
    return ok;
}

/* ---- the answer
 * ---------------------------------------------------------------------------------------------------- */

static bool choose(struct queue *u, struct err *e)
{
    struct pick train[N_MAX], validate[N_MAX];
    size_t n_train = 0, n_validate = 0, at_train = 0, at_validate = 0, wanted = 0;
    for (long i = 0; i < u->n;
         i++) /* counted over all labels, so that asking for one at a time is no different */
        wanted +=
            u->mode == MODE_VALIDATE ||
            (u->mode == MODE_BOTH && (u->b.labels.n + (size_t)i) % VALIDATE_EVERY == VALIDATE_EVERY - 1);
    if (!pick_validate(u, wanted, validate, &n_validate, e))
        return false;
    for (size_t i = 0; i < n_validate; i++)
        u->is_drawn[validate[i].index] = 1;
    if (u->mode != MODE_VALIDATE && !pick_train(u, (size_t)u->n - n_validate, train, &n_train, e))
        return false;
    if (u->mode == MODE_VALIDATE) {
        u->n_remaining = u->b.ev->n;
        for (size_t i = 0; i < u->b.labels.n; i++)
            u->n_remaining -= u->b.labels.item[i].purpose == STORE_VALIDATE;
    }
    while (at_train < n_train || at_validate < n_validate) {
        bool is_turn = (u->b.labels.n + u->n_picks) % VALIDATE_EVERY == VALIDATE_EVERY - 1;
        bool take = at_validate < n_validate && (is_turn || at_train == n_train);
        u->pick[u->n_picks++] = take ? validate[at_validate++] : train[at_train++];
    }
    return true;
}

static cJSON *why_document(const struct queue *u, const struct pick *p)
{
    static const char *const codes[] = {"seed", "uncertain", "random", "validate"};
    const struct building *b = buildings_prediction(&u->b, p->index);
    char text[120];
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "code", codes[p->why]);
    if (p->why == WHY_UNCERTAIN && b) {
        snprintf(text, sizeof text, "the model is unsure: it gives %.3f for damaged", b->p_mille / 1000.0);
        cJSON_AddNumberToObject(doc, "value", b->p_mille / 1000.0);
    } else {
        snprintf(text, sizeof text, "%s",
                 p->why == WHY_SEED       ? "spread over the scene, so that the first labels show all of it"
                 : p->why == WHY_RANDOM   ? "drawn at random"
                 : p->why == WHY_VALIDATE ? "drawn blindly, to judge the map; never trained on"
                                          : "nothing was predicted for it");
        cJSON_AddNullToObject(doc, "value");
    }
    cJSON_AddStringToObject(doc, "text", text);
    return doc;
}

static void reply_queue(const struct queue *u, struct http_reply *a)
{
    static const char *const modes[] = {"both", "train", "validate"};
    cJSON *doc = cJSON_CreateObject(), *items = cJSON_AddArrayToObject(doc, "items");
    for (size_t i = 0; i < u->n_picks; i++) {
        const struct pick *p = &u->pick[i];
        bool is_blind = p->why == WHY_VALIDATE;
        cJSON *item = buildings_document(&u->b, p->index, is_blind);
        cJSON_AddItemToObject(item, "why", why_document(u, p));
        cJSON_AddStringToObject(item, "purpose", is_blind ? "validate" : "train");
        if (p->draw)
            cJSON_AddNumberToObject(item, "draw", (double)p->draw);
        else
            cJSON_AddNullToObject(item, "draw");
        cJSON_AddItemToArray(items, item);
    }
    cJSON_AddNumberToObject(doc, "remaining", (double)u->n_remaining);
    cJSON_AddStringToObject(doc, "strategy", u->strategy);
    cJSON_AddStringToObject(doc, "mode", modes[u->mode]);
    if (u->b.map)
        cJSON_AddStringToObject(doc, "model", u->b.map->revision);
    else
        cJSON_AddNullToObject(doc, "model");
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_header(a, "Cache-Control", "no-store");
}

/* Marks the head of the draw: the share of all buildings that will be blind when one in VALIDATE_EVERY is. */
static bool reserve(struct queue *u, struct err *e)
{
    size_t k = u->b.ev->n / VALIDATE_EVERY;
    k = k < RESERVED_MAX ? k : RESERVED_MAX;
    if (k == 0)
        return true;
    uint32_t *order = mem_array(k, sizeof *order, "the draw", e);
    bool ok = order && estimate_draw((uint64_t)u->seed, 0, (uint32_t)u->b.ev->n, (uint32_t)k, order, e);
    for (size_t i = 0; ok && i < k; i++)
        u->is_drawn[order[i]] = 1;
    free(order);
    return ok;
}

static bool mark_drawn(struct queue *u, const struct event_loan *l, struct err *e)
{
    u->is_drawn = mem_array(u->b.ev->n, 1, "the draw", e);
    if (!u->is_drawn || !store_sample_read(u->w->store, u->aid, &u->sample, e))
        return false;
    for (size_t i = 0; i < u->sample.n; i++) {
        size_t at = event_loan_find(l, u->sample.item[i].bldg_id);
        if (at < u->b.ev->n)
            u->is_drawn[at] = 1;
    }
    return reserve(u, e);
}

void queue_get(const struct service *s, const struct http_request *q, const char *const *arg,
               struct http_reply *a)
{
    struct err e = {0};
    struct store_assessment settings;
    struct queue *u = mem_array(1, sizeof *u, "the queue", &e);
    struct event_loan *l = u ? workflow_event(s, q, arg[0], a) : NULL;
    pthread_rwlock_t *maps = (pthread_rwlock_t *)(uintptr_t)&s->maps_lock;
    if (!u)
        http_problem_err(q, a, 500, &e);
    if (l && workflow_assessment(s, q, arg[0], &settings, a)) {
        u->w = s->workflow;
        u->aid = arg[0];
        u->seed = settings.sample_seed;
        pthread_rwlock_rdlock(maps);
        if (buildings_open(&u->b, s, q, arg[0], event_loan_event(l), a)) {
            pthread_mutex_lock(&u->w->handout_lock);
            if (read_request(q, u, a)) {
                if (mark_drawn(u, l, &e) && choose(u, &e)) {
                    remember(u);
                    reply_queue(u, a);
                } else {
                    http_problem_err(q, a, 409, &e);
                }
            }
            pthread_mutex_unlock(&u->w->handout_lock);
            buildings_close(&u->b);
        }
        pthread_rwlock_unlock(maps);
        store_assessment_free(&settings);
    }
    event_cache_give(s->workflow->events, l);
    if (u) {
        store_sample_free(&u->sample);
        free(u->is_drawn);
    }
    free(u);
}
