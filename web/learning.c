/* SPDX-License-Identifier: Apache-2.0
 * learning.c - /assessments/{id}/metrics: how the labels grow, what each training took, and what the present
 * map is worth on the blind sample - the only labels that can tell, for nobody trained on them. */
#include "models/base/mem.h"
#include "web/buildings.h"
#include "web/curve.h"
#include "web/routes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PR_STEPS = 20, LEAST_FOR_PR = 20 };

/* ---- the blind sample against the map
 * ------------------------------------------------------------------------------- */

struct judged {
    size_t n, n_positive;
    struct verdict {
        int p_mille;
        bool is_damaged;
    } * item; /* [n] */
};

static bool judge(const struct buildings *b, const struct event_loan *l, int cut, struct judged *j,
                  struct err *e)
{
    *j = (struct judged){.item = mem_array(b->labels.n, sizeof *j->item, "the sample", e)};
    for (size_t i = 0; j->item && i < b->labels.n; i++) {
        const struct store_label *v = &b->labels.item[i];
        size_t at = event_loan_find(l, v->bldg_id);
        if (v->purpose != STORE_VALIDATE || v->level < 0 || at == b->ev->n)
            continue;
        const struct building *p = buildings_prediction(b, at);
        if (!p)
            continue;
        j->item[j->n++] = (struct verdict){p->p_mille, v->level >= cut};
        j->n_positive += v->level >= cut;
    }
    return j->item != NULL;
}

static void count(const struct judged *j, int threshold, size_t *hits, size_t *shown)
{
    *hits = *shown = 0;
    for (size_t i = 0; i < j->n; i++)
        if (j->item[i].p_mille >= threshold) {
            ++*shown;
            *hits += j->item[i].is_damaged;
        }
}

static cJSON *share(size_t part, size_t whole)
{
    return whole ? cJSON_CreateNumber(round(1000.0 * (double)part / (double)whole) / 1000)
                 : cJSON_CreateNull();
}

static void add_quality(cJSON *doc, const struct judged *j)
{
    size_t hits, shown;
    cJSON *quality = cJSON_AddObjectToObject(doc, "validation"), *pr = cJSON_AddArrayToObject(doc, "pr");
    count(j, 500, &hits, &shown);
    cJSON_AddNumberToObject(quality, "n", (double)j->n);
    cJSON_AddNumberToObject(quality, "n_damaged", (double)j->n_positive);
    cJSON_AddItemToObject(quality, "precision", share(hits, shown));
    cJSON_AddItemToObject(quality, "recall", share(hits, j->n_positive));
    cJSON_AddItemToObject(quality, "f1", share(2 * hits, shown + j->n_positive));
    cJSON_AddItemToObject(quality, "accuracy", share(j->n - shown - j->n_positive + 2 * hits, j->n));
    for (int i = 1; j->n >= LEAST_FOR_PR && i < PR_STEPS; i++) {
        cJSON *point = cJSON_CreateObject();
        count(j, 1000 * i / PR_STEPS, &hits, &shown);
        cJSON_AddNumberToObject(point, "threshold", (double)i / PR_STEPS);
        cJSON_AddItemToObject(point, "precision", share(hits, shown));
        cJSON_AddItemToObject(point, "recall", share(hits, j->n_positive));
        cJSON_AddItemToArray(pr, point);
    }
}

/* ---- labels and trainings
 * ------------------------------------------------------------------------------------------- */

static void add_counts(cJSON *doc, const struct store_counts *c)
{
    cJSON *labels = cJSON_AddObjectToObject(doc, "labels");
    for (int p = 0; p < 2; p++) {
        cJSON *of = cJSON_AddObjectToObject(labels, store_purpose_name((enum store_purpose)p));
        for (int k = 0; k < 5; k++)
            cJSON_AddNumberToObject(of, event_level_name(k - 1), (double)c->n[p][k]);
    }
    cJSON_AddNumberToObject(doc, "n_train", (double)c->n_train);
    cJSON_AddNumberToObject(doc, "n_validate", (double)c->n_validate);
}

static cJSON *training_document(const struct jobs_info *i)
{
    char model[40];
    cJSON *doc = cJSON_CreateObject(),
          *result = cJSON_Parse(i->job.result && *i->job.result ? i->job.result : "{}");
    static const char *const copied[][2] = {
        {"n_labels", "labeled"}, {"seconds", "seconds"}, {"loss", "loss"}, {"steps", "steps"}};
    snprintf(model, sizeof model, "m-%lld", (long long)i->job.number);
    cJSON_AddStringToObject(doc, "model", model);
    for (int k = 0; k < 4; k++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(result, copied[k][1]);
        cJSON_AddItemToObject(doc, copied[k][0],
                              cJSON_IsNumber(v) ? cJSON_CreateNumber(v->valuedouble) : cJSON_CreateNull());
    }
    cJSON_AddStringToObject(doc, "time", i->job.finished);
    cJSON_Delete(result);
    return doc;
}

/* Oldest training first; *last receives what the newest one learnt from, *seconds how long it took. */
static cJSON *curve(const struct service *s, const char *aid, double *last, double *seconds)
{
    struct jobs_list l = {0};
    struct err e = {0};
    cJSON *list = cJSON_CreateArray();
    *last = 0;
    *seconds = NAN;
    if (jobs_list(s->workflow->jobs, aid, 0, &l, &e))
        for (size_t i = l.n; i-- > 0;) {
            if (strcmp(l.item[i].job.process, "train") != 0 || l.item[i].job.status != JOB_SUCCESSFUL)
                continue;
            cJSON *doc = training_document(&l.item[i]);
            const cJSON *n = cJSON_GetObjectItemCaseSensitive(doc, "n_labels"),
                        *took = cJSON_GetObjectItemCaseSensitive(doc, "seconds");
            *last = cJSON_IsNumber(n) ? n->valuedouble : *last;
            *seconds = cJSON_IsNumber(took) ? took->valuedouble : *seconds;
            cJSON_AddItemToArray(list, doc);
        }
    jobs_list_free(&l);
    return list;
}

static void reply_metrics(const struct service *s, const struct http_request *q, const char *aid, int cut,
                          const struct event_loan *l, struct http_reply *a)
{
    struct buildings b;
    struct store_counts counts;
    struct judged j = {0};
    struct err e = {0};
    double last, seconds;
    if (!buildings_open(&b, s, q, aid, event_loan_event(l), a))
        return;
    if (!store_labels_count(s->workflow->store, aid, &counts, &e) || !judge(&b, l, cut, &j, &e)) {
        http_problem_err(q, a, 500, &e);
    } else {
        cJSON *doc = cJSON_CreateObject();
        add_counts(doc, &counts);
        cJSON *list = curve(s, aid, &last, &seconds);
        cJSON_AddItemToObject(doc, "curve", list);
        curve_judge(s, aid, cut, &b, l, list, doc);
        double next = last + WORKFLOW_RETRAIN_EVERY - (double)counts.n_train;
        cJSON_AddNumberToObject(doc, "retrain_every", WORKFLOW_RETRAIN_EVERY);
        cJSON_AddNumberToObject(doc, "next_train_at", fmax(next, 0));
        cJSON_AddItemToObject(doc, "seconds_per_model",
                              isfinite(seconds) ? cJSON_CreateNumber(seconds) : cJSON_CreateNull());
        cJSON_AddItemToObject(doc, "model", b.map ? cJSON_CreateString(b.map->revision) : cJSON_CreateNull());
        add_quality(doc, &j);
        http_reply_json(a, HTTP_JSON, doc);
        http_reply_header(a, "Cache-Control", "no-store");
    }
    free(j.item);
    buildings_close(&b);
}

void learning_get(const struct service *s, const struct http_request *q, const char *const *arg,
                  struct http_reply *a)
{
    struct store_assessment settings;
    pthread_rwlock_t *maps = (pthread_rwlock_t *)(uintptr_t)&s->maps_lock;
    struct event_loan *l = workflow_event(s, q, arg[0], a);
    if (l && workflow_assessment(s, q, arg[0], &settings, a)) {
        pthread_rwlock_rdlock(maps);
        reply_metrics(s, q, arg[0], settings.cut, l, a);
        pthread_rwlock_unlock(maps);
        store_assessment_free(&settings);
    }
    event_cache_give(s->workflow->events, l);
}
