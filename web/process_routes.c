/* SPDX-License-Identifier: Apache-2.0
 * process_routes.c - /processes and /jobs after OGC API - Processes Part 1 (18-062r2), and jobs as server-sent events
 * (WHATWG HTML, 9.2). The work itself is web/jobs.h's. Every execution is asynchronous. */
#include "models/base/mem.h"
#include "web/exports.h"
#include "web/routes.h"
#include "web/workflow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_READY "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/result-not-ready"
#define NO_SUCH_JOB "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/no-such-job"
#define NO_SUCH_PROCESS "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/no-such-process"

enum { KEEP_ALIVE_MS = 15000 };

/* The standard's own types of problems. */
static void set_type(struct http_reply *a, const char *type)
{
    int status = a->status;
    cJSON *doc = a->body ? cJSON_ParseWithLength(a->body, a->size) : NULL;
    if (!doc)
        return;
    cJSON_ReplaceItemInObjectCaseSensitive(doc, "type", cJSON_CreateString(type));
    http_reply_json(a, HTTP_PROBLEM, doc);
    if (a->status == 200)
        a->status = status;
}

/* ---- processes
 * ----------------------------------------------------------------------------------------------------- */

static cJSON *process_document(const struct http_request *q, const struct jobs_process_info *p, bool is_whole)
{
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "id", p->id);
    cJSON_AddStringToObject(doc, "title", p->title);
    cJSON_AddStringToObject(doc, "description", p->description);
    cJSON_AddStringToObject(doc, "version", AM_VERSION);
    cJSON_AddItemToObject(doc, "jobControlOptions",
                          cJSON_CreateStringArray((const char *const[]){"async-execute", "dismiss"}, 2));
    cJSON_AddItemToObject(doc, "outputTransmission",
                          cJSON_CreateStringArray((const char *const[]){"value"}, 1));
    cJSON *links = cJSON_AddArrayToObject(doc, "links");
    http_link(links, q, "self", HTTP_JSON, "This process", "/processes/%s", p->id);
    http_link(links, q, "http://www.opengis.net/def/rel/ogc/1.0/execute", HTTP_JSON, "Execute",
              "/processes/%s/execution", p->id);
    if (!is_whole)
        return doc;
    cJSON *inputs = p->inputs_schema ? cJSON_Parse(p->inputs_schema) : NULL;
    if (!cJSON_IsObject(inputs)) {
        cJSON_Delete(inputs);
        inputs = cJSON_CreateObject();
    }
    cJSON_AddItemToObject(
        inputs, "assessment",
        cJSON_Parse("{\"title\":\"Id of the assessment\",\"minOccurs\":1,\"schema\":{\"type\":\"string\"}}"));
    cJSON_AddItemToObject(doc, "inputs", inputs);
    cJSON_AddItemToObject(
        cJSON_AddObjectToObject(doc, "outputs"), "result",
        cJSON_Parse("{\"title\":\"What the work says of itself\",\"schema\":{\"type\":\"object\"}}"));
    return doc;
}

static const struct jobs_process_info *find_process(const struct service *s, const struct http_request *q,
                                                    const char *id, struct http_reply *a)
{
    size_t n;
    const struct jobs_process_info *p = jobs_processes(s->workflow->jobs, &n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(p[i].id, id) == 0)
            return &p[i];
    http_problem(q, a, 404, NULL, "there is no process '%.60s'; /processes lists them", id);
    set_type(a, NO_SUCH_PROCESS);
    return NULL;
}

void processes_get(const struct service *s, const struct http_request *q, const char *const *arg,
                   struct http_reply *a)
{
    size_t n;
    const struct jobs_process_info *p = jobs_processes(s->workflow->jobs, &n);
    (void)arg;
    cJSON *doc = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(doc, "processes");
    for (size_t i = 0; i < n; i++)
        cJSON_AddItemToArray(list, process_document(q, &p[i], false));
    http_link(cJSON_AddArrayToObject(doc, "links"), q, "self", HTTP_JSON, "This document", "/processes");
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_validate(q, a);
}

void process_get(const struct service *s, const struct http_request *q, const char *const *arg,
                 struct http_reply *a)
{
    const struct jobs_process_info *p = find_process(s, q, arg[0], a);
    if (!p)
        return;
    http_reply_json(a, HTTP_JSON, process_document(q, p, true));
    http_reply_validate(q, a);
}

/* ---- jobs
 * ---------------------------------------------------------------------------------------------------------- */

static void add_text(cJSON *doc, const char *name, const char *text)
{
    if (text && *text)
        cJSON_AddStringToObject(doc, name, text);
    else
        cJSON_AddNullToObject(doc, name);
}

cJSON *exports_job(const struct http_request *q, const struct jobs_info *i)
{
    const struct store_job *j = &i->job;
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "jobID", j->jid);
    cJSON_AddStringToObject(doc, "type", "process");
    cJSON_AddStringToObject(doc, "processID", j->process);
    cJSON_AddStringToObject(doc, "assessment", j->aid);
    cJSON_AddStringToObject(doc, "status", store_job_status_name(j->status));
    cJSON_AddNumberToObject(doc, "progress", j->progress);
    cJSON_AddStringToObject(doc, "message", j->message ? j->message : "");
    if (i->eta_s >= 0 && j->status == JOB_RUNNING)
        cJSON_AddNumberToObject(doc, "eta_s", (double)(int64_t)i->eta_s);
    else
        cJSON_AddNullToObject(doc, "eta_s");
    cJSON_AddBoolToObject(doc, "cancelled", i->is_cancelled);
    cJSON_AddNumberToObject(doc, "queue_position", (double)i->queue_position);
    add_text(doc, "created", j->created);
    add_text(doc, "started", j->started);
    add_text(doc, "finished", j->finished);
    add_text(doc, "updated", i->updated);
    cJSON *links = cJSON_AddArrayToObject(doc, "links");
    http_link(links, q, "self", HTTP_JSON, "This job", "/jobs/%s", j->jid);
    http_link(links, q, "monitor", "text/event-stream", "Its changes", "/jobs/%s/events", j->jid);
    if (j->status == JOB_SUCCESSFUL)
        http_link(links, q, "http://www.opengis.net/def/rel/ogc/1.0/results", HTTP_JSON, "Results",
                  "/jobs/%s/results", j->jid);
    return doc;
}

static bool find_job(const struct service *s, const struct http_request *q, const char *jid,
                     struct jobs_info *i, struct http_reply *a)
{
    struct err e = {0};
    *i = (struct jobs_info){0};
    if (jobs_get(s->workflow->jobs, jid, i, &e))
        return true;
    http_problem_err(q, a, 404, &e);
    if (a->status == 404)
        set_type(a, NO_SUCH_JOB);
    return false;
}

void execution_post(const struct service *s, const struct http_request *q, const char *const *arg,
                    struct http_reply *a)
{
    struct jobs_info job = {0};
    struct err e = {0};
    const char *prefer = http_header(q, "Prefer");
    if (!find_process(s, q, arg[0], a))
        return;
    cJSON *doc = http_body_json(q, a);
    if (!doc)
        return;
    cJSON *inputs = cJSON_GetObjectItemCaseSensitive(doc, "inputs");
    cJSON *aid = cJSON_DetachItemFromObjectCaseSensitive(inputs, "assessment");
    if (!cJSON_IsString(aid))
        http_problem(q, a, 400, "/inputs/assessment", "inputs must name the assessment");
    else if (!store_is_aid(aid->valuestring))
        http_problem(q, a, 404, "/inputs/assessment", "there is no such assessment");
    else if (!jobs_submit(s->workflow->jobs, aid->valuestring, arg[0], inputs, &job, &e)) {
        http_problem_err(q, a, 400, &e);
        if (e.code == ERR_RESOURCE) {
            http_problem(q, a, 503, NULL, "%s", e.msg);
            http_reply_header(a, "Retry-After", "30");
        }
    } else {
        http_reply_json(a, HTTP_JSON, exports_job(q, &job));
        a->status = a->status == 200 ? 201 : a->status;
        http_reply_header(a, "Location", "%s/jobs/%s", q->base, job.job.jid);
        if (prefer && strstr(prefer, "respond-async"))
            http_reply_header(a, "Preference-Applied", "respond-async");
    }
    jobs_info_free(&job);
    cJSON_Delete(aid);
    cJSON_Delete(doc);
}

void jobs_route_get(const struct service *s, const struct http_request *q, const char *const *arg,
                    struct http_reply *a)
{
    struct jobs_list l = {0};
    struct err e = {0};
    enum store_job_status status = JOB_STATUS_COUNT;
    const char *wanted = http_param(q, "status");
    (void)arg;
    if (wanted && !store_job_status_parse(wanted, &status)) {
        http_problem(q, a, 400, "status",
                     "status must be accepted, running, successful, failed or dismissed");
        return;
    }
    if (!jobs_list(s->workflow->jobs, http_param(q, "assessment"), 0, &l, &e)) {
        http_problem_err(q, a, 400, &e);
        return;
    }
    cJSON *doc = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(doc, "jobs");
    for (size_t i = 0; i < l.n; i++)
        if (!wanted || l.item[i].job.status == status)
            cJSON_AddItemToArray(list, exports_job(q, &l.item[i]));
    http_link(cJSON_AddArrayToObject(doc, "links"), q, "self", HTTP_JSON, "This document", "/jobs");
    jobs_list_free(&l);
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_header(a, "Cache-Control", "no-store");
}

void job_get(const struct service *s, const struct http_request *q, const char *const *arg,
             struct http_reply *a)
{
    struct jobs_info i;
    if (!find_job(s, q, arg[0], &i, a))
        return;
    http_reply_json(a, HTTP_JSON, exports_job(q, &i));
    http_reply_header(a, "Cache-Control", "no-store");
    jobs_info_free(&i);
}

void job_results_get(const struct service *s, const struct http_request *q, const char *const *arg,
                     struct http_reply *a)
{
    struct jobs_info i;
    if (!find_job(s, q, arg[0], &i, a))
        return;
    if (i.job.status == JOB_SUCCESSFUL) {
        cJSON *result = i.job.result && *i.job.result ? cJSON_Parse(i.job.result) : NULL;
        cJSON *doc = cJSON_CreateObject();
        cJSON_AddItemToObject(doc, "result", result ? result : cJSON_CreateObject());
        http_reply_json(a, HTTP_JSON, doc);
        http_reply_validate(q, a);
    } else if (i.job.status == JOB_FAILED) {
        http_problem(q, a, 409, NULL, "the job has failed: %s", i.job.message ? i.job.message : "");
    } else if (i.job.status == JOB_DISMISSED) {
        http_problem(q, a, 410, NULL, "the job was dismissed");
    } else {
        http_problem(q, a, 404, NULL, "the job is %s; its results come later",
                     store_job_status_name(i.job.status));
        set_type(a, NOT_READY);
    }
    jobs_info_free(&i);
}

void job_delete(const struct service *s, const struct http_request *q, const char *const *arg,
                struct http_reply *a)
{
    struct jobs_info i = {0};
    struct err e = {0};
    if (jobs_cancel(s->workflow->jobs, arg[0], &i, &e) || e.code == ERR_CONFLICT) {
        http_reply_json(a, HTTP_JSON, exports_job(q, &i));
    } else {
        http_problem_err(q, a, 404, &e);
        if (a->status == 404)
            set_type(a, NO_SUCH_JOB);
    }
    jobs_info_free(&i);
}

/* ---- events
 * -------------------------------------------------------------------------------------------------------- */

/* One listener. What has changed since `seen` is made into text, which goes out in as many pieces as it takes. */
struct listener {
    struct jobs *jobs;
    char aid[STORE_AID_MAX + 1]; /* "": all */
    char jid[STORE_JOB_ID_SIZE]; /* "": all of them */
    char base[320];
    uint64_t seen;
    bool is_first, is_last;
    int64_t sent_ms;
    char *text; /* [size], sent up to at */
    size_t size, at;
};

static void write_event(FILE *f, const struct listener *l, const struct jobs_info *i)
{
    struct http_request q = {0};
    snprintf(q.base, sizeof q.base, "%s", l->base);
    cJSON *doc = exports_job(&q, i);
    char *text = cJSON_PrintUnformatted(doc);
    fprintf(f, "event: status\nid: %" PRIu64 "\ndata: %s\n\n", i->seq, text ? text : "{}");
    free(text);
    cJSON_Delete(doc);
}

static bool is_over(enum store_job_status s)
{
    return s == JOB_SUCCESSFUL || s == JOB_FAILED || s == JOB_DISMISSED;
}

/* Puts what is new into l->text. */
static void gather(struct listener *l)
{
    struct jobs_list changed = {0};
    struct jobs_info one = {0};
    struct err e = {0};
    uint64_t now = jobs_seq(l->jobs);
    bool is_news = l->is_first || now != l->seen;
    if (!is_news && watch_now_ms() - l->sent_ms < KEEP_ALIVE_MS)
        return;
    free(l->text);
    l->text = NULL;
    l->size = l->at = 0;
    FILE *f = open_memstream(&l->text, &l->size);
    if (!f)
        return;
    if (!is_news) {
        fputs(": keep-alive\n\n", f);
    } else if (*l->jid) {
        if (jobs_get(l->jobs, l->jid, &one, &e) && (one.seq > l->seen || l->is_first)) {
            write_event(f, l, &one);
            l->is_last = is_over(one.job.status);
        }
        l->seen = now;
    } else if (jobs_list(l->jobs, *l->aid ? l->aid : NULL, l->is_first ? 0 : l->seen, &changed, &e)) {
        for (size_t i = 0; i < changed.n; i++)
            if (!l->is_first || !is_over(changed.item[i].job.status))
                write_event(f, l, &changed.item[i]);
        l->seen = changed.seq;
    }
    if (l->is_first)
        fputs("retry: 3000\n\n", f);
    l->is_first = false;
    l->sent_ms = watch_now_ms();
    jobs_list_free(&changed);
    jobs_info_free(&one);
    if (fclose(f) != 0)
        l->size = 0;
}

static int64_t listener_read(void *ctx, char *out, size_t size)
{
    struct listener *l = ctx;
    if (l->at == l->size) {
        if (l->is_last)
            return -1;
        gather(l);
    }
    size_t n = l->size - l->at < size ? l->size - l->at : size;
    if (n)
        memcpy(out, l->text + l->at, n);
    l->at += n;
    return (int64_t)n;
}

static void listener_close(void *ctx)
{
    struct listener *l = ctx;
    free(l->text);
    free(l);
}

static void listen_to(const struct service *s, const struct http_request *q, const char *aid, const char *jid,
                      struct http_reply *a)
{
    struct err e = {0};
    struct listener *l = mem_array(1, sizeof *l, "a listener", &e);
    if (!l) {
        http_problem_err(q, a, 500, &e);
        return;
    }
    l->jobs = s->workflow->jobs;
    l->is_first = true;
    snprintf(l->aid, sizeof l->aid, "%s", aid ? aid : "");
    snprintf(l->jid, sizeof l->jid, "%s", jid ? jid : "");
    snprintf(l->base, sizeof l->base, "%s", q->base);
    a->status = 200;
    a->type = "text/event-stream";
    a->stream = (struct http_stream){listener_read, listener_close, l};
    http_reply_header(a, "Cache-Control", "no-store");
    http_reply_header(a, "X-Accel-Buffering", "no"); /* a proxy in front must not collect events */
}

void job_events_get(const struct service *s, const struct http_request *q, const char *const *arg,
                    struct http_reply *a)
{
    struct jobs_info i;
    if (!find_job(s, q, arg[0], &i, a))
        return;
    jobs_info_free(&i);
    listen_to(s, q, NULL, arg[0], a);
}

void jobs_events_get(const struct service *s, const struct http_request *q, const char *const *arg,
                     struct http_reply *a)
{
    const char *aid = http_param(q, "assessment");
    (void)arg;
    if (aid && !store_is_aid(aid))
        http_problem(q, a, 400, "assessment", "this is no id of an assessment");
    else
        listen_to(s, q, aid, NULL, a);
}
