/* SPDX-License-Identifier: Apache-2.0
 * review.c - /assessments/{id}/review: lists for a second look. Buildings of the blind draw are never on them: seeing what
 * the model says would open the analyst's eyes.
 *   uncertain      p(damaged) nearest one half, not yet labelled
 *   large          the largest by area, whatever is said of them
 *   disagreement   label and map are on different sides of the cut, the surest mistake first
 *   contradiction  the map says otherwise than most of the neighbours within 60 m
 *   alignment      the shift that is least to be trusted */
#include "models/base/mem.h"
#include "web/buildings.h"
#include "web/routes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_DEFAULT = 50, N_MAX = 200, LEAST_NEIGHBOURS = 4 };
static const double neighbour_m = 60;

enum list { LIST_UNCERTAIN, LIST_LARGE, LIST_DISAGREEMENT, LIST_CONTRADICTION, LIST_ALIGNMENT, N_LISTS };
static const char *const list_names[N_LISTS] = {"uncertain", "large", "disagreement", "contradiction",
                                                "alignment"};

struct entry {
    size_t index;
    double rank, value; /* the highest rank comes first; value is shown */
};

static int compare_entries(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    if (a->rank != b->rank)
        return a->rank > b->rank ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

/* NAN: not on the list. */
static double rank_one(const struct buildings *b, size_t i, enum list list, int cut, double *value)
{
    const struct event_building *v = &b->ev->building[i];
    const struct building *p = buildings_prediction(b, i);
    const struct store_label *l = buildings_label(b, v->bldg_id);
    *value = p ? p->p_mille / 1000.0 : NAN;
    switch (list) {
    case LIST_UNCERTAIN:
        return p && !l ? -fabs(*value - 0.5) : NAN;
    case LIST_LARGE:
        return *value = v->area_m2;
    case LIST_DISAGREEMENT:
        return p && l && l->level >= 0 && (l->level >= cut) != (p->p_mille >= 500) ? fabs(*value - 0.5) : NAN;
    default:
        *value = v->shift_q;
        return isfinite(v->shift_q) ? -v->shift_q : NAN;
    }
}

static int compare_x(const void *x, const void *y, void *ctx)
{
    const struct event *ev = ctx;
    double u = ev->building[*(const uint32_t *)x].x_m, v = ev->building[*(const uint32_t *)y].x_m;
    return (u > v) - (u < v);
}

/* How far a building's p lies from its neighbours' mean, for those on the other side of one half; rank [n]. Sorted by x,
 * the neighbours of each are a short run. */
static bool rank_contradictions(const struct buildings *b, double *rank, struct err *e)
{
    const struct event *ev = b->ev;
    uint32_t *order = mem_array(ev->n, sizeof *order, "the list", e);
    if (!order)
        return false;
    for (size_t i = 0; i < ev->n; i++)
        order[i] = (uint32_t)i;
    qsort_r(order, ev->n, sizeof *order, compare_x, (void *)(uintptr_t)ev);
    for (size_t k = 0, from = 0; k < ev->n; k++) {
        const struct event_building *v = &ev->building[order[k]];
        const struct building *own = buildings_prediction(b, order[k]);
        double sum = 0;
        int n = 0;
        rank[order[k]] = NAN;
        while (ev->building[order[from]].x_m < v->x_m - neighbour_m)
            from++;
        for (size_t j = from; own && j < ev->n && ev->building[order[j]].x_m <= v->x_m + neighbour_m; j++) {
            const struct event_building *w = &ev->building[order[j]];
            const struct building *p = buildings_prediction(b, order[j]);
            if (j == k || !p || hypot(w->x_m - v->x_m, w->y_m - v->y_m) > neighbour_m)
                continue;
            sum += p->p_mille / 1000.0;
            n++;
        }
        if (n >= LEAST_NEIGHBOURS && (sum / n >= 0.5) != (own->p_mille >= 500))
            rank[order[k]] = fabs(sum / n - own->p_mille / 1000.0);
    }
    free(order);
    return true;
}

static const char *text_of(enum list list)
{
    static const char *const texts[N_LISTS] = {
        "the model is unsure", "among the largest", "label and map disagree",
        "the map says otherwise than for its neighbours", "its alignment is least to be trusted"};
    return texts[list];
}

static bool choose(const struct buildings *b, const struct store_sample *drawn, const struct event_loan *l,
                   enum list list, int cut, struct entry *entry, size_t *n, struct err *e)
{
    double *rank = mem_array(b->ev->n, sizeof *rank, "the list", e);
    uint8_t *is_blind = rank ? mem_array(b->ev->n, 1, "the list", e) : NULL;
    bool ok = is_blind && (list != LIST_CONTRADICTION || rank_contradictions(b, rank, e));
    for (size_t i = 0; ok && i < drawn->n; i++) {
        size_t at = event_loan_find(l, drawn->item[i].bldg_id);
        if (at < b->ev->n)
            is_blind[at] = 1;
    }
    *n = 0;
    for (size_t i = 0; ok && i < b->ev->n; i++) {
        double value = NAN, r = rank_one(b, i, list == LIST_CONTRADICTION ? LIST_LARGE : list, cut, &value);
        if (list == LIST_CONTRADICTION) {
            const struct building *p = buildings_prediction(b, i);
            r = rank[i];
            value = p ? p->p_mille / 1000.0 : NAN;
        }
        if (isfinite(r) && !is_blind[i])
            entry[(*n)++] = (struct entry){i, r, value};
    }
    if (ok)
        qsort(entry, *n, sizeof *entry, compare_entries);
    free(is_blind);
    free(rank);
    return ok;
}

static void reply_list(const struct buildings *b, enum list list, const struct entry *entry, size_t n,
                       struct http_reply *a)
{
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "list", list_names[list]);
    cJSON *items = cJSON_AddArrayToObject(doc, "items");
    for (size_t i = 0; i < n; i++) {
        cJSON *item = buildings_document(b, entry[i].index, false),
              *why = cJSON_AddObjectToObject(item, "why");
        cJSON_AddStringToObject(why, "code", list_names[list]);
        cJSON_AddStringToObject(why, "text", text_of(list));
        cJSON_AddItemToObject(why, "value",
                              isfinite(entry[i].value)
                                  ? cJSON_CreateNumber(round(entry[i].value * 1000) / 1000)
                                  : cJSON_CreateNull());
        cJSON_AddStringToObject(item, "purpose", "train");
        cJSON_AddItemToArray(items, item);
    }
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_header(a, "Cache-Control", "no-store");
}

void review_get(const struct service *s, const struct http_request *q, const char *const *arg,
                struct http_reply *a)
{
    struct buildings b = {0};
    struct store_assessment settings = {0};
    struct store_sample drawn = {0};
    struct err e = {0};
    const char *name = http_param(q, "list");
    long limit = N_DEFAULT;
    size_t n;
    int list = 0;
    pthread_rwlock_t *maps = (pthread_rwlock_t *)(uintptr_t)&s->maps_lock;
    while (list < N_LISTS && (!name || strcmp(name, list_names[list]) != 0))
        list++;
    if (list == N_LISTS) {
        http_problem(q, a, 400, "list",
                     "list must be uncertain, large, disagreement, contradiction or alignment");
        return;
    }
    if (!http_param_int(q, a, "n", 1, N_MAX, &limit))
        return;
    struct event_loan *l = workflow_event(s, q, arg[0], a);
    if (!l || !workflow_assessment(s, q, arg[0], &settings, a))
        goto out;
    pthread_rwlock_rdlock(maps);
    if (buildings_open(&b, s, q, arg[0], event_loan_event(l), a)) {
        struct entry *entry = mem_array(b.ev->n, sizeof *entry, "the list", &e);
        if (entry && store_sample_read(s->workflow->store, arg[0], &drawn, &e) &&
            choose(&b, &drawn, l, (enum list)list, settings.cut, entry, &n, &e))
            reply_list(&b, (enum list)list, entry, n < (size_t)limit ? n : (size_t)limit, a);
        else
            http_problem_err(q, a, 500, &e);
        free(entry);
        buildings_close(&b);
    }
    pthread_rwlock_unlock(maps);
out:
    store_sample_free(&drawn);
    store_assessment_free(&settings);
    event_cache_give(s->workflow->events, l);
}
