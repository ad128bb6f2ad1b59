/* SPDX-License-Identifier: Apache-2.0
 * workflow.c - opening the data root and keeping what is shown up to date (workflow.h). */
#include "web/workflow.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include "web/scores.h"
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MS = 250 };

/* The event's shifts as the map's layer of arrows. */
static void add_shifts(struct workflow *w, const char *event, struct assessment *as)
{
    struct err e = {0};
    struct event_loan *l = event_cache_take(w->events, event, &e);
    const struct event *ev = l ? event_loan_event(l) : NULL;
    struct tile_arrow *arrow = ev ? mem_array(ev->n + 1, sizeof *arrow, "arrows", &e) : NULL;
    size_t n = 0;
    for (size_t i = 0; arrow && i < ev->n; i++) {
        const struct event_building *b = &ev->building[i];
        if (!isfinite(b->shift_x) || !isfinite(b->shift_y) || fabs(b->lat) > 85)
            continue;
        arrow[n] = (struct tile_arrow){.dx = (float)b->shift_x,
                                       .dy = (float)b->shift_y,
                                       .quality = isfinite(b->shift_q) ? (float)b->shift_q : 0};
        tile_mercator(b->lon, b->lat, &arrow[n].x, &arrow[n].y);
        n++;
    }
    event_cache_give(w->events, l);
    if (n) {
        tile_layer_arrows(&as->layer[TILE_SHIFT], arrow, n);
    } else {
        free(arrow);
        tile_layer_arrows(&as->layer[TILE_SHIFT], NULL, 0);
    }
}

/* Keeps what the map's model said of each building. A failure costs a point of the learning curve, not the map, and the
 * next start tries again. */
static void keep_scores(struct workflow *w, const char *aid, const char *map)
{
    char models[4096];
    struct err e = {0};
    if (store_path(w->store, aid, "models", models, sizeof models, &e) && file_is_dir(models))
        scores_keep(map, models, &e);
}

/* Shows the map of an assessment, or its event as long as there is no map. */
static void show(struct workflow *w, const char *aid)
{
    char map[4096], event[4096], run[4096], manifest[4096];
    struct store_assessment a = {0};
    struct err e = {0};
    if (!store_assessment_get(w->store, aid, &a, &e) ||
        !store_path(w->store, aid, "map", map, sizeof map, &e) ||
        !store_path(w->store, aid, "event", event, sizeof event, &e) ||
        !file_join(run, sizeof run, map, "run.json", &e) ||
        !file_join(manifest, sizeof manifest, event, "event.json", &e))
        goto out;
    struct assessment *as = NULL;
    const char *title = a.title && *a.title ? a.title : aid;
    if (file_exists(run)) {
        keep_scores(w, aid, map);
        as = assessment_open_as(map, ASSESSMENT_MAP, aid, title, &e);
    }
    if (!as && file_exists(manifest))
        as = assessment_open_as(event, ASSESSMENT_EVENT, aid, title, &e);
    if (as) {
        add_shifts(w, event, as);
        service_show(w->service, as, &e);
    }
out:
    store_assessment_free(&a);
}

static void show_all(struct workflow *w)
{
    char(*ids)[STORE_AID_MAX + 1] = NULL;
    size_t n = 0;
    struct err e = {0};
    if (store_assessment_list(w->store, &ids, &n, &e))
        for (size_t i = 0; i < n; i++)
            show(w, ids[i]);
    free(ids);
}

static void *follow(void *ctx)
{
    struct workflow *w = ctx;
    uint64_t seen = jobs_seq(w->jobs);
    show_all(w);
    while (!atomic_load(&w->is_stopping)) {
        struct jobs_list changed = {0};
        struct err e = {0};
        if (jobs_wait(w->jobs, seen, WAIT_MS) == seen)
            continue;
        if (!jobs_list(w->jobs, NULL, seen, &changed, &e))
            continue;
        for (size_t i = 0; i < changed.n; i++) {
            const struct store_job *j = &changed.item[i].job;
            if (j->status == JOB_SUCCESSFUL &&
                (strcmp(j->process, "import") == 0 || strcmp(j->process, "align") == 0 ||
                 strcmp(j->process, "predict") == 0))
                show(w, j->aid);
        }
        seen = changed.seq;
        jobs_list_free(&changed);
    }
    return NULL;
}

struct workflow *workflow_open(const struct workflow_options *o, struct service *s, struct err *e)
{
    struct workflow *w = mem_array(1, sizeof *w, "the workflow", e);
    struct jobs_options jobs;
    if (!w)
        return NULL;
    pthread_mutex_init(&w->upload_lock, NULL);
    pthread_mutex_init(&w->handout_lock, NULL);
    pthread_mutex_init(&w->figures_lock, NULL);
    w->service = s;
    w->max_upload_bytes = o->max_upload_bytes;
    w->store = store_open(o->root, o->store_spec, STORE_SERVE, e);
    w->events = w->store ? event_cache_create(e) : NULL;
    if (w->events) {
        jobs_defaults(&jobs);
        jobs.store = w->store;
        jobs.has_command = o->has_command;
        w->jobs = jobs_start(&jobs, e);
    }
    if (!w->jobs)
        goto fail;
    int failed = pthread_create(&w->thread, NULL, follow, w);
    w->has_thread = !failed;
    if (!failed)
        return w;
    err_errno(e, ERR_RESOURCE, failed, "the thread that shows maps cannot be started");
fail:
    workflow_close(w);
    return NULL;
}

void workflow_close(struct workflow *w)
{
    if (!w)
        return;
    atomic_store(&w->is_stopping, true);
    if (w->has_thread) /* first, for it looks at jobs */
        pthread_join(w->thread, NULL);
    jobs_stop(w->jobs);
    event_cache_free(w->events);
    store_close(w->store);
    pthread_mutex_destroy(&w->upload_lock);
    pthread_mutex_destroy(&w->handout_lock);
    pthread_mutex_destroy(&w->figures_lock);
    free(w);
}

/* ---- for handlers
 * -------------------------------------------------------------------------------------------------- */

bool workflow_assessment(const struct service *s, const struct http_request *q, const char *aid,
                         struct store_assessment *a, struct http_reply *reply)
{
    struct err e = {0};
    *a = (struct store_assessment){0};
    if (store_is_aid(aid) && store_assessment_get(s->workflow->store, aid, a, &e))
        return true;
    if (!store_is_aid(aid) || e.code == ERR_NOT_FOUND)
        http_problem(q, reply, 404, NULL, "there is no assessment '%.60s'; /assessments lists them", aid);
    else
        http_problem_err(q, reply, 500, &e);
    return false;
}

struct event_loan *workflow_event(const struct service *s, const struct http_request *q, const char *aid,
                                  struct http_reply *reply)
{
    char dir[4096];
    struct store_assessment a;
    struct err e = {0};
    if (!workflow_assessment(s, q, aid, &a, reply))
        return NULL;
    store_assessment_free(&a);
    struct event_loan *l = store_path(s->workflow->store, aid, "event", dir, sizeof dir, &e)
                               ? event_cache_take(s->workflow->events, dir, &e)
                               : NULL;
    if (!l && e.code == ERR_NOT_FOUND)
        http_problem(q, reply, 409, NULL, "%s", e.msg);
    else if (!l)
        http_problem_err(q, reply, 500, &e);
    return l;
}

bool workflow_building(const struct http_request *q, const struct event_loan *l, const char *bldg_id,
                       size_t *index, struct http_reply *reply)
{
    *index = event_loan_find(l, bldg_id);
    if (*index < event_loan_event(l)->n)
        return true;
    http_problem(q, reply, 404, NULL, "there is no building '%.100s'", bldg_id);
    return false;
}
