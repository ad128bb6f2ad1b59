/* SPDX-License-Identifier: Apache-2.0
 * assess_routes.c - /assessments where there is a data root: making, changing and removing them. What is shown of their
 * maps (layers, files) is exports.c's. */
#include "web/assess_routes.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include "web/exports.h"
#include "web/refs.h"
#include "web/routes.h"
#include "web/zone_setting.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum { MAX_REFS = 4096 };

static const struct assessment *shown(const struct service *s, const char *aid)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->assessment[i]->id, aid) == 0)
            return s->assessment[i];
    return NULL;
}

/* ---- documents
 * ----------------------------------------------------------------------------------------------------- */

static void add_inputs(cJSON *doc, const char *inputs)
{
    static const char *const names[] = {"pre", "post", "footprints"};
    cJSON *in = cJSON_Parse(inputs), *refs = cJSON_GetObjectItemCaseSensitive(in, "refs");
    cJSON *zones = cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(in, "zones"), true);
    cJSON *aoi = cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(in, "aoi"), true);
    cJSON_DeleteItemFromObjectCaseSensitive(zones, "path");
    cJSON_AddItemToObject(doc, "zones", zones ? zones : cJSON_CreateNull());
    cJSON_AddItemToObject(doc, "aoi", aoi ? aoi : cJSON_CreateNull());
    for (int i = 0; i < 3; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(refs, names[i]);
        cJSON_AddItemToObject(doc, names[i], item ? cJSON_Duplicate(item, true) : cJSON_CreateNull());
    }
    cJSON_Delete(in);
}

static const char *state_of(const struct service *s, const struct assessment *as, const char *aid)
{
    struct jobs_list jobs = {0};
    struct err e = {0};
    if (as)
        return as->kind == ASSESSMENT_MAP ? "predicted" : "ready";
    const char *state = "new";
    if (jobs_list(s->workflow->jobs, aid, 0, &jobs, &e)) /* newest first */
        for (size_t i = 0; i < jobs.n; i++) {
            enum store_job_status status = jobs.item[i].job.status;
            if (strcmp(jobs.item[i].job.process, "import") != 0)
                continue;
            state = status == JOB_ACCEPTED || status == JOB_RUNNING || status == JOB_SUCCESSFUL ? "importing"
                                                                                                : "failed";
            break;
        }
    jobs_list_free(&jobs);
    return state;
}

static void etag_of(const struct store_assessment *a, char out[48])
{
    snprintf(out, 48, "\"a%" PRId64 "\"", a->version);
}

cJSON *assess_document(const struct service *s, const struct http_request *q,
                       const struct store_assessment *a)
{
    struct store_counts counts = {0};
    struct err e = {0};
    char tag[48];
    const struct assessment *as = shown(s, a->aid);
    cJSON *doc = cJSON_CreateObject();
    store_labels_count(s->workflow->store, a->aid, &counts, &e);
    etag_of(a, tag);
    cJSON_AddStringToObject(doc, "id", a->aid);
    cJSON_AddStringToObject(doc, "title", a->title);
    cJSON *event = cJSON_AddObjectToObject(doc, "event");
    cJSON_AddStringToObject(event, "type", a->event_type);
    cJSON_AddStringToObject(event, "date", a->event_date);
    cJSON_AddNumberToObject(doc, "cut", a->cut);
    cJSON_AddStringToObject(doc, "scale", a->scale);
    cJSON_AddStringToObject(doc, "state", state_of(s, as, a->aid));
    cJSON_AddStringToObject(doc, "etag", tag);
    cJSON_AddStringToObject(doc, "created", a->created);
    cJSON_AddStringToObject(doc, "updated", a->updated);
    add_inputs(doc, a->inputs);
    cJSON *labels = cJSON_AddObjectToObject(doc, "n_labels");
    cJSON_AddNumberToObject(labels, "train", (double)counts.n_train);
    cJSON_AddNumberToObject(labels, "validate", (double)counts.n_validate);
    cJSON_AddNumberToObject(doc, "seq", (double)a->seq);
    cJSON_AddNumberToObject(cJSON_AddObjectToObject(doc, "jobs"), "active",
                            (double)jobs_active(s->workflow->jobs, a->aid));
    exports_describe(doc, s, q, as, a->aid);
    return doc;
}

void assess_reply_list(const struct service *s, const struct http_request *q, struct http_reply *a)
{
    char(*ids)[STORE_AID_MAX + 1] = NULL;
    size_t n = 0;
    struct err e = {0};
    struct statvfs v;
    if (!store_assessment_list(s->workflow->store, &ids, &n, &e)) {
        http_problem_err(q, a, 500, &e);
        return;
    }
    cJSON *doc = cJSON_CreateObject();
    http_link(cJSON_AddArrayToObject(doc, "links"), q, "self", HTTP_JSON, "This document", "/assessments");
    cJSON *list = cJSON_AddArrayToObject(doc, "assessments");
    for (size_t i = 0; i < n; i++) {
        struct store_assessment settings = {0};
        if (store_assessment_get(s->workflow->store, ids[i], &settings, &e))
            cJSON_AddItemToArray(list, assess_document(s, q, &settings));
        store_assessment_free(&settings);
    }
    free(ids);
    cJSON_AddBoolToObject(doc, "data_root", true);
    cJSON_AddBoolToObject(doc, "read_only", q->user.role < AUTH_EDITOR);
    if (statvfs(store_root(s->workflow->store), &v) == 0)
        cJSON_AddNumberToObject(doc, "disk_free_bytes", (double)v.f_bavail * (double)v.f_frsize);
    else
        cJSON_AddNullToObject(doc, "disk_free_bytes");
    cJSON_AddStringToObject(doc, "version", AM_VERSION);
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_header(a, "Cache-Control", "no-cache");
}

static void reply_document(const struct service *s, const struct http_request *q,
                           const struct store_assessment *settings, struct http_reply *a)
{
    char tag[48];
    etag_of(settings, tag);
    http_reply_json(a, HTTP_JSON, assess_document(s, q, settings));
    http_reply_header(a, "ETag", "%s", tag);
    http_reply_header(a, "Cache-Control", "no-cache");
}

bool assess_reply_one(const struct service *s, const struct http_request *q, const char *aid,
                      struct http_reply *a)
{
    struct store_assessment settings;
    if (!workflow_assessment(s, q, aid, &settings, a))
        return false;
    reply_document(s, q, &settings, a);
    store_assessment_free(&settings);
    return true;
}

/* ---- making one
 * ------------------------------------------------------------------------------------------------------ */

static const char *text_of(const cJSON *o, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
}

/* A ref as the path that jobs take; NULL: the reply is a 422 that points at it. */
static cJSON *resolve(const struct service *s, const struct http_request *q, const cJSON *ref,
                      const char *pointer, struct http_reply *a)
{
    char path[REFS_PATH_SIZE];
    struct err e = {0};
    const char *text = cJSON_GetStringValue(ref);
    if (!text)
        http_problem(q, a, 422, pointer,
                     "a file is named by a text: an upload's id, or a path below the data root");
    else if (!refs_resolve(store_root(s->workflow->store), text, path, &e))
        http_problem(q, a, 422, pointer, "%s", e.msg);
    else
        return cJSON_CreateString(path);
    return NULL;
}

static bool resolve_list(const struct service *s, const struct http_request *q, const cJSON *doc,
                         const char *name, cJSON *inputs, cJSON *refs, struct http_reply *a)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(doc, name), *item;
    char pointer[40];
    int i = 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) < 1 || cJSON_GetArraySize(list) > MAX_REFS) {
        snprintf(pointer, sizeof pointer, "/%s", name);
        http_problem(q, a, 422, pointer, "%s must be an array of files, at least one", name);
        return false;
    }
    cJSON *out = cJSON_AddArrayToObject(inputs, name);
    cJSON_ArrayForEach(item, list)
    {
        snprintf(pointer, sizeof pointer, "/%s/%d", name, i++);
        cJSON *path = resolve(s, q, item, pointer, a);
        if (!path)
            return false;
        cJSON_AddItemToArray(out, path);
    }
    cJSON_AddItemToObject(refs, name, cJSON_Duplicate(list, true));
    return true;
}

/* doc.zones into inputs (null takes them away). False: the reply is a 422. */
static bool set_zones(const struct service *s, const struct http_request *q, const cJSON *doc, cJSON *inputs,
                      struct http_reply *a)
{
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(doc, "zones");
    char path[REFS_PATH_SIZE];
    struct err e = {0};
    cJSON *made = NULL;
    if (!given)
        return true;
    if (cJSON_IsObject(given)) {
        const char *ref = text_of(given, "ref");
        made = refs_resolve(store_root(s->workflow->store), ref ? ref : "", path, &e)
                   ? zone_setting_make(given, path, &e)
                   : NULL;
    } else if (!cJSON_IsNull(given)) {
        err_set(&e, ERR_INPUT, "zones must be {\"ref\", \"id_field\", \"name_field\"} or null");
    }
    if (e.code) {
        http_problem(q, a, 422, "/zones", "%s", e.msg);
        return false;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(inputs, "zones");
    if (made)
        cJSON_AddItemToObject(inputs, "zones", made);
    return true;
}

/* doc.aoi into inputs. False: the reply is a 422. */
static bool set_aoi(const struct service *s, const struct http_request *q, const cJSON *doc, cJSON *inputs,
                    struct http_reply *a)
{
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(doc, "aoi");
    const char *ref = cJSON_GetStringValue(given);
    char path[REFS_PATH_SIZE];
    struct err e = {0};
    if (!given || cJSON_IsNull(given))
        return true;
    cJSON *made = ref && !refs_resolve(store_root(s->workflow->store), ref, path, &e)
                      ? NULL
                      : aoi_setting_make(given, ref ? path : NULL, &e);
    if (!made) {
        http_problem(q, a, 422, "/aoi", "%s", e.msg);
        return false;
    }
    cJSON_AddItemToObject(inputs, "aoi", made);
    return true;
}

/* What import needs, and under "refs" what the client called it. NULL: the reply is complete. */
static cJSON *read_inputs(const struct service *s, const struct http_request *q, const cJSON *doc,
                          struct http_reply *a)
{
    static const char *const texts[] = {"layer", "id_field", "label_field", "label_map"};
    static const char *const numbers[] = {"gsd_m", "size_m"};
    cJSON *inputs = cJSON_CreateObject(), *refs = cJSON_AddObjectToObject(inputs, "refs");
    const cJSON *footprints = cJSON_GetObjectItemCaseSensitive(doc, "footprints");
    cJSON *path = NULL;
    bool ok = resolve_list(s, q, doc, "pre", inputs, refs, a) &&
              resolve_list(s, q, doc, "post", inputs, refs, a) &&
              (path = resolve(s, q, footprints, "/footprints", a)) != NULL;
    if (ok) {
        cJSON_AddItemToObject(inputs, "footprints", path);
        cJSON_AddItemToObject(refs, "footprints", cJSON_Duplicate(footprints, true));
    }
    for (size_t i = 0; ok && i < sizeof texts / sizeof *texts; i++)
        if (text_of(doc, texts[i]))
            cJSON_AddStringToObject(inputs, texts[i], text_of(doc, texts[i]));
    for (size_t i = 0; ok && i < sizeof numbers / sizeof *numbers; i++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(doc, numbers[i]);
        if (cJSON_IsNumber(v) && isfinite(v->valuedouble) && v->valuedouble > 0)
            cJSON_AddNumberToObject(inputs, numbers[i], v->valuedouble);
    }
    if (!ok || !set_zones(s, q, doc, inputs, a) || !set_aoi(s, q, doc, inputs, a)) {
        cJSON_Delete(inputs);
        inputs = NULL;
    }
    return inputs;
}

/* An id of the title's letters, or of the time where nothing of it remains. */
static void make_id(const char *title, char out[STORE_AID_MAX + 1])
{
    char now[STORE_TIME_SIZE];
    size_t n = 0;
    for (; *title && n < STORE_AID_MAX - 8; title++) {
        char c = *title >= 'A' && *title <= 'Z' ? (char)(*title + 32) : *title;
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (is_plain)
            out[n++] = c;
        else if (n && out[n - 1] != '-')
            out[n++] = '-';
    }
    while (n && out[n - 1] == '-')
        n--;
    out[n] = '\0';
    store_time_now(now);
    if (!n) /* "2026-11-24T10:00:00.000Z" */
        snprintf(out, STORE_AID_MAX + 1, "event-%.10s-%.2s%.2s%.2s", now, now + 11, now + 14, now + 17);
}

static bool read_event(const struct http_request *q, const cJSON *doc, struct store_assessment *a,
                       struct http_reply *reply)
{
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(doc, "event");
    const char *title = text_of(doc, "title"), *date = text_of(event, "date");
    a->title = (char *)(uintptr_t)title;
    a->event_type = (char *)(uintptr_t)text_of(event, "type");
    a->event_date = (char *)(uintptr_t)date;
    if (title && (!*title || strlen(title) > STORE_TITLE_MAX)) {
        http_problem(q, reply, 422, "/title", "title must be a text of 1 to %d bytes", STORE_TITLE_MAX);
        return false;
    }
    if (date && *date) {
        int y, m, d, used = 0;
        if (sscanf(date, "%4d-%2d-%2d%n", &y, &m, &d, &used) != 3 || date[used] || used != 10) {
            http_problem(q, reply, 422, "/event/date", "date must be written 2026-11-24");
            return false;
        }
    }
    return true;
}

/* Takes the inputs. */
static void create(const struct service *s, const struct http_request *q, struct store_assessment *new,
                   cJSON *inputs, struct http_reply *a)
{
    struct err e = {0};
    struct jobs_info job = {0};
    struct store_assessment made = {0};
    char *text = cJSON_PrintUnformatted(inputs);
    new->inputs = text;
    cJSON_Delete(inputs);
    if (!text || !store_assessment_create(s->workflow->store, new, &e)) {
        http_problem_err(q, a, 422, &e);
    } else if (!store_assessment_get(s->workflow->store, new->aid, &made, &e)) {
        http_problem_err(q, a, 500, &e);
    } else {
        bool has_job = jobs_submit(s->workflow->jobs, new->aid, "import", NULL, &job, &e);
        cJSON *doc = assess_document(s, q, &made);
        cJSON_AddItemToObject(doc, "job", has_job ? exports_job(q, &job) : cJSON_CreateNull());
        if (!has_job)
            cJSON_AddStringToObject(doc, "problem", e.msg);
        http_reply_json(a, HTTP_JSON, doc);
        a->status = a->status == 200 ? 201 : a->status;
        http_reply_header(a, "Location", "%s/assessments/%s", q->base, new->aid);
    }
    jobs_info_free(&job);
    store_assessment_free(&made);
    free(text);
}

void assessments_post(const struct service *s, const struct http_request *q, const char *const *arg,
                      struct http_reply *a)
{
    struct store_assessment new = {.scale = (char[]){"jds"}, .cut = 2};
    pthread_rwlock_t *maps = (pthread_rwlock_t *)(uintptr_t)&s->maps_lock;
    (void)arg;
    cJSON *doc = http_body_json(q, a);
    if (!doc)
        return;
    const cJSON *cut = cJSON_GetObjectItemCaseSensitive(doc, "cut");
    const char *id = text_of(doc, "id");
    if (cJSON_IsNumber(cut))
        new.cut = cut->valueint;
    if (!text_of(doc, "title")) {
        http_problem(q, a, 422, "/title", "a title is needed");
    } else if (!read_event(q, doc, &new, a)) {
    } else if (new.cut < 1 || new.cut > 3) {
        http_problem(q, a, 422, "/cut", "cut must be 1, 2 or 3");
    } else if (id && !store_is_aid(id)) {
        http_problem(q, a, 422, "/id", "an id has 1 to %d small letters, digits, '-' and '_'", STORE_AID_MAX);
    } else {
        if (id)
            snprintf(new.aid, sizeof new.aid, "%s", id);
        else
            make_id(new.title, new.aid);
        cJSON *inputs = read_inputs(s, q, doc, a);
        if (inputs) {
            pthread_rwlock_rdlock(maps);
            create(s, q, &new, inputs, a);
            pthread_rwlock_unlock(maps);
        }
    }
    cJSON_Delete(doc);
}

/* ---- changing and removing
 * --------------------------------------------------------------------------------------------- */

static bool may_change(const struct http_request *q, const struct store_assessment *now, struct http_reply *a)
{
    char tag[48];
    etag_of(now, tag);
    return http_precondition(q, a, tag, true) == 0;
}

void assessment_patch(const struct service *s, const struct http_request *q, const char *const *arg,
                      struct http_reply *a)
{
    struct store_assessment now, new = {0};
    struct err e = {0};
    int64_t version;
    pthread_rwlock_t *maps = (pthread_rwlock_t *)(uintptr_t)&s->maps_lock;
    cJSON *doc = http_body_json(q, a);
    if (!doc)
        return;
    if (workflow_assessment(s, q, arg[0], &now, a)) {
        cJSON *inputs = cJSON_Parse(now.inputs);
        bool has_zones = cJSON_GetObjectItemCaseSensitive(doc, "zones") != NULL;
        if (may_change(q, &now, a) && read_event(q, doc, &new, a) && set_zones(s, q, doc, inputs, a)) {
            char *text = has_zones ? cJSON_PrintUnformatted(inputs) : NULL;
            new.inputs = text;
            bool ok = store_assessment_edit(s->workflow->store, arg[0], &new, now.version, &version, &e);
            store_assessment_free(&now);
            pthread_rwlock_rdlock(maps);
            if (!ok)
                http_problem_err(q, a, 422, &e);
            else
                assess_reply_one(s, q, arg[0], a);
            pthread_rwlock_unlock(maps);
            free(text);
        } else {
            store_assessment_free(&now);
        }
        cJSON_Delete(inputs);
    }
    cJSON_Delete(doc);
}

void assessment_delete(const struct service *s, const struct http_request *q, const char *const *arg,
                       struct http_reply *a)
{
    struct store_assessment now;
    struct err e = {0};
    if (!workflow_assessment(s, q, arg[0], &now, a))
        return;
    if (may_change(q, &now, a)) {
        if (store_assessment_remove(s->workflow->store, arg[0], now.version, &e)) {
            jobs_forget(s->workflow->jobs, arg[0]);
            service_hide((struct service *)(uintptr_t)s, arg[0]);
            a->status = 204;
        } else {
            http_problem_err(q, a, 409, &e);
        }
    }
    store_assessment_free(&now);
}
