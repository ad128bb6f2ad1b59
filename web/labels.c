/* SPDX-License-Identifier: Apache-2.0
 * labels.c - /assessments/{id}/labels: what people say about buildings, each change named by the row it was made on (the
 * entity tag is the row's number), the history of all of them, and whole tables at once. */
#include "web/labels.h"

#include "models/base/mem.h"
#include "web/label_import.h"
#include "web/routes.h"
#include "web/workflow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HISTORY_DEFAULT = 1000, HISTORY_MAX = 10000, REFUSED_SHOWN = 100 };

cJSON *labels_document(const struct store_label *l)
{
    char tag[32];
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "bldg_id", l->bldg_id);
    cJSON_AddStringToObject(doc, "dmg_class", event_level_name(l->level));
    cJSON_AddNumberToObject(doc, "dmg_level", l->level);
    cJSON_AddStringToObject(doc, "reason", l->reason);
    cJSON_AddBoolToObject(doc, "sure", l->is_sure);
    cJSON_AddStringToObject(doc, "note", l->note ? l->note : "");
    if (l->has_shift)
        cJSON_AddItemToObject(doc, "shift", cJSON_CreateDoubleArray((double[]){l->shift_x, l->shift_y}, 2));
    else
        cJSON_AddNullToObject(doc, "shift");
    cJSON_AddStringToObject(doc, "by", l->by ? l->by : "");
    cJSON_AddStringToObject(doc, "purpose", store_purpose_name(l->purpose));
    if (l->draw > 0)
        cJSON_AddNumberToObject(doc, "draw", (double)l->draw);
    else
        cJSON_AddNullToObject(doc, "draw");
    cJSON_AddStringToObject(doc, "updated", l->time);
    cJSON_AddNumberToObject(doc, "seq", (double)l->seq);
    snprintf(tag, sizeof tag, "\"%" PRId64 "\"", l->seq);
    cJSON_AddStringToObject(doc, "etag", tag);
    return doc;
}

/* The current label of one building; *l zeroed when there is none. False: the reply is an error. */
static bool read_one(const struct service *s, const struct http_request *q, const char *aid,
                     const char *bldg_id, struct store_labels *l, struct http_reply *a)
{
    struct err e = {0};
    *l = (struct store_labels){0};
    if (store_labels_read(s->workflow->store, aid, STORE_ANY_PURPOSE, bldg_id, NULL, l, &e))
        return true;
    http_problem_err(q, a, 422, &e);
    return false;
}

static void reply_label(struct http_reply *a, int status, const struct store_label *l)
{
    http_reply_json(a, HTTP_JSON, labels_document(l));
    a->status = a->status == 200 ? status : a->status;
    http_reply_header(a, "ETag", "\"%" PRId64 "\"", l->seq);
    http_reply_header(a, "Cache-Control", "no-cache");
}

/* ---- reading
 * ------------------------------------------------------------------------------------------------------- */

void labels_get(const struct service *s, const struct http_request *q, const char *const *arg,
                struct http_reply *a)
{
    struct store_assessment settings;
    struct store_labels l = {0};
    struct err e = {0};
    enum store_purpose purpose = STORE_ANY_PURPOSE;
    const char *wanted = http_param(q, "purpose"), *by = http_param(q, "by"),
               *class = http_param(q, "dmg_class");
    int level = -2;
    if (wanted && !store_purpose_parse(wanted, &purpose)) {
        http_problem(q, a, 400, "purpose", "purpose must be train or validate");
        return;
    }
    if (class && !event_level_parse(class, &level)) {
        http_problem(q, a, 400, "dmg_class", "dmg_class must be none, minor, major, destroyed or unknown");
        return;
    }
    if (!workflow_assessment(s, q, arg[0], &settings, a))
        return;
    store_assessment_free(&settings);
    if (!store_labels_read(s->workflow->store, arg[0], purpose, NULL, by, &l, &e)) {
        http_problem_err(q, a, 422, &e);
        return;
    }
    size_t n = 0;
    cJSON *doc = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(doc, "labels");
    for (size_t i = 0; i < l.n; i++) {
        if (class && l.item[i].level != level)
            continue;
        cJSON_AddItemToArray(list, labels_document(&l.item[i]));
        n++;
    }
    cJSON_AddNumberToObject(doc, "count", (double)n);
    cJSON_AddNumberToObject(doc, "seq", (double)l.seq);
    store_labels_free(&l);
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_validate(q, a);
}

void label_get(const struct service *s, const struct http_request *q, const char *const *arg,
               struct http_reply *a)
{
    struct store_assessment settings;
    struct store_labels l;
    if (!workflow_assessment(s, q, arg[0], &settings, a))
        return;
    store_assessment_free(&settings);
    if (!read_one(s, q, arg[0], arg[1], &l, a))
        return;
    if (l.n)
        reply_label(a, 200, &l.item[0]);
    else
        http_problem(q, a, 404, NULL, "building '%.100s' has no label", arg[1]);
    store_labels_free(&l);
}

void labels_history_get(const struct service *s, const struct http_request *q, const char *const *arg,
                        struct http_reply *a)
{
    struct store_assessment settings;
    struct store_labels l = {0};
    struct err e = {0};
    long after = 0, limit = HISTORY_DEFAULT;
    if (!http_param_int(q, a, "after", 0, INT32_MAX, &after) ||
        !http_param_int(q, a, "limit", 1, HISTORY_MAX, &limit) ||
        !workflow_assessment(s, q, arg[0], &settings, a))
        return;
    store_assessment_free(&settings);
    if (!store_labels_history(s->workflow->store, arg[0], after, http_param(q, "bldg_id"), (size_t)limit, &l,
                              &e)) {
        http_problem_err(q, a, 422, &e);
        return;
    }
    cJSON *doc = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(doc, "entries");
    for (size_t i = 0; i < l.n; i++) {
        cJSON *entry = labels_document(&l.item[i]);
        cJSON_AddStringToObject(entry, "action", l.item[i].is_clear ? "clear" : "set");
        if (l.item[i].previous > 0)
            cJSON_AddNumberToObject(entry, "previous", (double)l.item[i].previous);
        else
            cJSON_AddNullToObject(entry, "previous");
        cJSON_AddItemToArray(list, entry);
    }
    cJSON_AddNumberToObject(doc, "seq", (double)l.seq);
    store_labels_free(&l);
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_validate(q, a);
}

/* ---- writing
 * ------------------------------------------------------------------------------------------------------- */

/* The row that the request says it has seen. False: the header makes no sense, and the reply says so. */
static bool read_expectation(const struct http_request *q, int64_t *expect, bool *is_given,
                             struct http_reply *a)
{
    const char *match = http_header(q, "If-Match"), *none = http_header(q, "If-None-Match");
    char *end;
    *expect = STORE_EXPECT_NONE;
    *is_given = match || none;
    if (!match) {
        if (!none || strcmp(none, "*") == 0)
            return true;
        http_problem(q, a, 400, NULL, "If-None-Match can only be * here");
        return false;
    }
    if (strcmp(match, "*") == 0) {
        *expect = STORE_EXPECT_ANY;
        return true;
    }
    *expect = *match == '"' ? strtoll(match + 1, &end, 10) : 0;
    if (*expect > 0 && (strcmp(end, "\"") == 0 || strcmp(end, "-gz\"") == 0))
        return true;
    http_problem(q, a, 412, NULL, "If-Match does not hold a tag of this label");
    return false;
}

static void fill_write(struct store_write *w, const struct http_request *q, const struct label_row *row)
{
    *w = (struct store_write){.bldg_id = row->bldg_id,
                              .level = row->level,
                              .reason = row->reason,
                              .note = row->note,
                              .by = *q->user.name ? q->user.name : row->by,
                              .is_sure = row->is_sure,
                              .has_shift = row->has_shift,
                              .shift_x = row->shift_x,
                              .shift_y = row->shift_y,
                              .purpose = row->purpose,
                              .draw = row->draw};
}

static void reply_conflict(const struct service *s, const struct http_request *q, const char *aid,
                           const char *bldg_id, bool had_precondition, struct http_reply *a)
{
    struct store_labels now;
    if (!read_one(s, q, aid, bldg_id, &now, a))
        return;
    http_problem(q, a, had_precondition ? 412 : 409, NULL,
                 now.n ? "the label was changed since; 'current' is what is there now"
                       : "the label is not there any more");
    if (now.n) {
        http_problem_member(a, "current", labels_document(&now.item[0]));
        http_reply_header(a, "ETag", "\"%" PRId64 "\"", now.item[0].seq);
    }
    store_labels_free(&now);
}

static void write_label(const struct service *s, const struct http_request *q, const char *aid,
                        struct store_write *w, bool had_precondition, struct http_reply *a)
{
    struct err e = {0};
    struct store_labels now;
    if (!store_label_write(s->workflow->store, aid, w, &e)) {
        if (e.code == ERR_CONFLICT)
            reply_conflict(s, q, aid, w->bldg_id, had_precondition, a);
        else
            http_problem_err(q, a, 422, &e);
        return;
    }
    jobs_labels_changed(s->workflow->jobs, aid, WORKFLOW_RETRAIN_EVERY);
    if (w->is_clear) {
        a->status = 204;
        return;
    }
    if (!read_one(s, q, aid, w->bldg_id, &now, a))
        return;
    if (now.n)
        reply_label(a, w->outcome == STORE_CREATED ? 201 : 200, &now.item[0]);
    else /* somebody took it back in this very moment: it was written all the same */
        a->status = 204;
    store_labels_free(&now);
}

static bool knows_building(const struct service *s, const struct http_request *q, const char *aid,
                           const char *bldg_id, struct http_reply *a)
{
    size_t index;
    struct event_loan *l = workflow_event(s, q, aid, a);
    bool ok = l && workflow_building(q, l, bldg_id, &index, a);
    event_cache_give(s->workflow->events, l);
    return ok;
}

void label_put(const struct service *s, const struct http_request *q, const char *const *arg,
               struct http_reply *a)
{
    struct label_row row = {0};
    struct store_write w;
    struct err e = {0};
    int64_t expect;
    bool is_given;
    cJSON *doc = http_body_json(q, a);
    if (!doc)
        return;
    if (!label_import_object(doc, &row, &e))
        http_problem_err(q, a, 422, &e);
    else if (*row.problem)
        http_problem(q, a, 422, row.pointer, "%s", row.problem);
    else if (read_expectation(q, &expect, &is_given, a) && knows_building(s, q, arg[0], arg[1], a)) {
        fill_write(&w, q, &row);
        w.bldg_id = arg[1];
        w.expect = expect;
        write_label(s, q, arg[0], &w, is_given, a);
    }
    label_row_free(&row);
    cJSON_Delete(doc);
}

void label_delete(const struct service *s, const struct http_request *q, const char *const *arg,
                  struct http_reply *a)
{
    int64_t expect;
    bool is_given;
    if (!read_expectation(q, &expect, &is_given, a) || !knows_building(s, q, arg[0], arg[1], a))
        return;
    if (!http_header(q, "If-Match")) {
        http_problem(q, a, 428, NULL, "send If-Match with the label's tag, so that nobody's change is lost");
        return;
    }
    struct store_write w = {.bldg_id = arg[1], .is_clear = true, .by = q->user.name, .expect = expect};
    write_label(s, q, arg[0], &w, true, a);
}

/* ---- whole tables
 * --------------------------------------------------------------------------------------------------- */

static bool read_rows(const struct http_request *q, struct label_rows *r, struct http_reply *a)
{
    struct err e = {0};
    bool ok = false;
    const char *body = q->body ? q->body : "";
    *r = (struct label_rows){0};
    if (http_body_is(q, HTTP_JSON))
        ok = label_import_json(body, q->body_size, r, &e);
    else if (http_body_is(q, HTTP_GEOJSON))
        ok = label_import_geojson(body, q->body_size, r, &e);
    else if (http_body_is(q, "text/csv"))
        ok = label_import_csv(body, q->body_size, r, &e);
    else
        http_problem(q, a, 415, NULL, "labels come as application/json, application/geo+json or text/csv");
    if (e.code)
        http_problem_err(q, a, 400, &e);
    return ok;
}

static void refuse(cJSON *list, size_t row, const char *bldg_id, const char *why)
{
    if (cJSON_GetArraySize(list) >= REFUSED_SHOWN)
        return;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "row", (double)row + 1);
    cJSON_AddStringToObject(o, "bldg_id", bldg_id);
    cJSON_AddStringToObject(o, "detail", why);
    cJSON_AddItemToArray(list, o);
}

/* Rows that can be written, in w; where they came from, in from. */
static size_t choose_rows(const struct event_loan *l, const struct http_request *q,
                          const struct label_rows *r, int64_t expect, struct store_write *w, size_t *from,
                          cJSON *refused, size_t *n_refused)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        const struct label_row *row = &r->item[i];
        const char *why = *row->problem ? row->problem
                          : event_loan_find(l, row->bldg_id) == event_loan_event(l)->n
                              ? "there is no such building"
                              : NULL;
        if (why) {
            refuse(refused, i, row->bldg_id, why);
            ++*n_refused;
            continue;
        }
        fill_write(&w[n], q, row);
        w[n].expect = expect;
        from[n++] = i;
    }
    return n;
}

static void write_rows(const struct service *s, const struct http_request *q, const char *aid,
                       const struct event_loan *l, const struct label_rows *r, bool overwrite,
                       struct http_reply *a)
{
    struct err e = {0};
    size_t n_refused = 0, count[STORE_CONFLICTED + 1] = {0};
    struct store_write *w = mem_array(r->n, sizeof *w, "the labels", &e);
    size_t *from = w ? mem_array(r->n, sizeof *from, "the labels", &e) : NULL;
    cJSON *doc = cJSON_CreateObject(), *refused = cJSON_CreateArray();
    size_t n = from ? choose_rows(l, q, r, overwrite ? STORE_EXPECT_ANY : STORE_EXPECT_NOT_OTHERS, w, from,
                                  refused, &n_refused)
                    : 0;
    bool ok = from && (n == 0 || store_labels_write(s->workflow->store, aid, w, n, &e));
    for (size_t i = 0; ok && i < n; i++) {
        count[w[i].outcome]++;
        if (w[i].outcome != STORE_CONFLICTED)
            continue;
        n_refused++;
        refuse(refused, from[i], w[i].bldg_id, "somebody else has labelled it; overwrite=true replaces that");
    }
    cJSON_AddNumberToObject(doc, "created", (double)count[STORE_CREATED]);
    cJSON_AddNumberToObject(doc, "changed", (double)count[STORE_CHANGED]);
    cJSON_AddNumberToObject(doc, "unchanged", (double)count[STORE_UNCHANGED]);
    cJSON_AddNumberToObject(doc, "n_refused", (double)n_refused);
    cJSON_AddItemToObject(doc, "refused", refused);
    if (ok) {
        jobs_labels_changed(s->workflow->jobs, aid, WORKFLOW_RETRAIN_EVERY);
        http_reply_json(a, HTTP_JSON, doc);
    } else {
        cJSON_Delete(doc);
        http_problem_err(q, a, 422, &e);
    }
    free(from);
    free(w);
}

void labels_post(const struct service *s, const struct http_request *q, const char *const *arg,
                 struct http_reply *a)
{
    struct label_rows r;
    const char *overwrite = http_param(q, "overwrite");
    if (overwrite && strcmp(overwrite, "true") != 0 && strcmp(overwrite, "false") != 0) {
        http_problem(q, a, 400, "overwrite", "overwrite must be true or false");
        return;
    }
    if (!read_rows(q, &r, a))
        return;
    struct event_loan *l = workflow_event(s, q, arg[0], a);
    if (l)
        write_rows(s, q, arg[0], l, &r, overwrite && strcmp(overwrite, "true") == 0, a);
    event_cache_give(s->workflow->events, l);
    label_rows_free(&r);
}
