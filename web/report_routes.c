/* SPDX-License-Identifier: Apache-2.0
 * report_routes.c - /assessments/{id}/estimate, /sample and /report.{html,json}: totals from the blind sample
 * (geo/totals.h) over the assessment's map. What cannot be told honestly is a 409 with the reason. */
#include "geo/report.h"
#include "geo/totals.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include "web/routes.h"
#include "web/workflow.h"
#include "web/zone_setting.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct work {
    struct totals_options o;
    struct totals_report r;
    struct store_labels labels;
    struct totals_grade *grade;
    char map_dir[4096];
    struct zone_setting zones;
};

static void work_free(struct work *w)
{
    totals_free(&w->r);
    store_labels_free(&w->labels);
    free(w->grade);
}

static bool read_options(const struct http_request *q, struct totals_options *o, struct http_reply *a)
{
    const char *method = http_param(q, "method"), *half = http_param(q, "half_width");
    long cut = o->cut;
    char *end;
    if (method && strcmp(method, "exact") != 0 && strcmp(method, "model-assisted") != 0) {
        http_problem(q, a, 400, "method", "method must be exact or model-assisted");
        return false;
    }
    if (method)
        o->method = strcmp(method, "exact") == 0 ? TOTALS_EXACT : TOTALS_ASSISTED;
    if (half) {
        o->half_width = strtod(half, &end);
        if (end == half || *end || !(o->half_width > 0 && o->half_width < 1e9)) {
            http_problem(q, a, 400, "half_width",
                         "half_width must be a number above 0: a share below 1, or buildings");
            return false;
        }
    }
    if (!http_param_int(q, a, "cut", 1, 3, &cut))
        return false;
    o->cut = (int)cut;
    return true;
}

/* Runs totals_run over the validation labels. False: the reply is complete. */
static bool estimate(const struct service *s, const struct http_request *q, const char *aid, struct work *w,
                     struct http_reply *a)
{
    struct store_assessment settings;
    struct err e = {0};
    *w = (struct work){0};
    if (!workflow_assessment(s, q, aid, &settings, a))
        return false;
    totals_defaults(&w->o);
    w->o.cut = settings.cut;
    cJSON *inputs = cJSON_Parse(settings.inputs);
    bool has_zones = zone_setting_read(inputs, &w->zones);
    cJSON_Delete(inputs);
    store_assessment_free(&settings);
    if (!read_options(q, &w->o, a))
        return false;
    if (has_zones && !(http_param(q, "zones") && strcmp(http_param(q, "zones"), "false") == 0)) {
        w->o.zones = w->zones.path;
        w->o.zone_id = w->zones.id_field;
        w->o.zone_name = *w->zones.name_field ? w->zones.name_field : NULL;
    }
    bool ok = store_path(s->workflow->store, aid, "map", w->map_dir, sizeof w->map_dir, &e);
    if (ok && !file_is_dir(w->map_dir)) {
        http_problem(q, a, 409, NULL, "there is no map yet; train and predict first");
        return false;
    }
    ok = ok && store_labels_read(s->workflow->store, aid, STORE_VALIDATE, NULL, NULL, &w->labels, &e) &&
         (w->grade = mem_array(w->labels.n, sizeof *w->grade, "the sample", &e)) != NULL;
    for (size_t i = 0; ok && i < w->labels.n; i++) {
        const struct store_label *l = &w->labels.item[i];
        if (l->draw > 0)
            w->grade[w->o.n_grades++] = (struct totals_grade){
                .bldg_id = l->bldg_id, .level = l->level, .graded = true, .draw = (uint32_t)l->draw};
    }
    w->o.map_dir = w->map_dir;
    w->o.grade = w->grade;
    ok = ok && totals_run(&w->o, NULL, &w->r, &e);
    if (!ok)
        http_problem_err(q, a, 409, &e);
    return ok;
}

void estimate_get(const struct service *s, const struct http_request *q, const char *const *arg,
                  struct http_reply *a)
{
    struct work w;
    if (estimate(s, q, arg[0], &w, a)) {
        http_reply_json(a, HTTP_JSON, totals_json(&w.r));
        http_reply_validate(q, a);
    }
    work_free(&w);
}

static void reply_html(const struct http_request *q, const struct report_options *o, struct http_reply *a)
{
    struct err e = {0};
    char *body = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&body, &size);
    bool ok = f && report_html(f, o, &e);
    bool is_short = f && ferror(f);
    if (f && (fclose(f) != 0 || is_short)) {
        free(body);
        body = NULL;
    }
    if (f && !ok) {
        free(body);
        http_problem_err(q, a, 409, &e);
        return;
    }
    http_reply_body(a, 200, HTTP_HTML, body, size);
    /* The page carries its own style; nothing else may run or load in it. */
    http_reply_header(
        a, "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'");
    http_reply_validate(q, a);
}

void report_get(const struct service *s, const struct http_request *q, const char *const *arg,
                struct http_reply *a)
{
    struct work w;
    struct report_options o;
    struct err e = {0};
    const char *lang = http_param(q, "lang"), *paper = http_param(q, "paper");
    bool is_html = strcmp(q->part[q->n_parts - 1], "report.html") == 0;
    report_defaults(&o);
    if (lang && !report_lang_parse(lang, &o.lang)) {
        http_problem(q, a, 400, "lang", "lang must be en, fr, es or ar");
        return;
    }
    if (paper && strcmp(paper, "a4") != 0 && strcmp(paper, "letter") != 0) {
        http_problem(q, a, 400, "paper", "paper must be a4 or letter");
        return;
    }
    if (estimate(s, q, arg[0], &w, a)) {
        o.map_dir = w.map_dir;
        o.totals = &w.r;
        o.letter = paper && strcmp(paper, "letter") == 0;
        o.title = http_param(q, "title");
        o.organisation = http_param(q, "org");
        o.reviewed_by = http_param(q, "reviewed_by");
        if (is_html) {
            reply_html(q, &o, a);
        } else {
            cJSON *doc = report_json(&o, &e);
            if (doc)
                http_reply_json(a, HTTP_JSON, doc);
            else
                http_problem_err(q, a, 409, &e);
        }
    }
    work_free(&w);
}
