/* SPDX-License-Identifier: Apache-2.0
 * checks.c - /assessments/{id}/checks: what an analyst should know of images, footprints and alignment before labelling,
 * each with a verdict in words. All of it is read off the event folder; nothing is computed anew. */
#include "geo/alignment.h"
#include "models/base/mem.h"
#include "web/routes.h"
#include "web/workflow.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORST = 20 };

struct tally {
    size_t n, n_kept, n_nodata;
    double blank;
};

static cJSON *reasons_document(const struct event *ev, struct tally *t)
{
    cJSON *doc = cJSON_CreateObject();
    *t = (struct tally){.n = ev->n};
    for (size_t i = 0; i < ev->n; i++) {
        const struct event_building *b = &ev->building[i];
        if (b->page >= 0) {
            t->n_kept++;
            t->blank += b->blank;
            continue;
        }
        const char *reason = *b->reason ? b->reason : "unclear";
        t->n_nodata += strcmp(reason, "nodata") == 0;
        cJSON *count = cJSON_GetObjectItemCaseSensitive(doc, reason);
        if (count)
            cJSON_SetNumberValue(count, count->valuedouble + 1);
        else
            cJSON_AddNumberToObject(doc, reason, 1);
    }
    return doc;
}

/* The images of one date as event.json describes them. *gsd receives their mean ground size. */
static cJSON *images_document(const cJSON *list, double *gsd, const char **date)
{
    const cJSON *file;
    double sum = 0, bands = 0;
    int n = 0;
    *date = NULL;
    cJSON *doc = cJSON_CreateObject();
    cJSON_ArrayForEach(file, list)
    {
        const cJSON *g = cJSON_GetObjectItemCaseSensitive(file, "gsd_m");
        const char *own = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(file, "date"));
        sum += cJSON_IsNumber(g) ? g->valuedouble : 0;
        bands = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(file, "bands"));
        if (own && !*date)
            *date = own;
        n++;
    }
    *gsd = n ? sum / n : NAN;
    cJSON_AddNumberToObject(doc, "files", n);
    cJSON_AddNumberToObject(doc, "gsd_m", round(*gsd * 1000) / 1000);
    cJSON_AddNumberToObject(doc, "bands", bands);
    cJSON_AddItemToObject(doc, "date", *date ? cJSON_CreateString(*date) : cJSON_CreateNull());
    return doc;
}

static void judge(cJSON *list, const char *check, const char *verdict, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void judge(cJSON *list, const char *check, const char *verdict, const char *fmt, ...)
{
    char text[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "check", check);
    cJSON_AddStringToObject(o, "verdict", verdict);
    cJSON_AddStringToObject(o, "detail", text);
    cJSON_AddItemToArray(list, o);
}

static const char *grade(double v, double pass, double warn)
{
    return v >= pass ? "pass" : v >= warn ? "warn" : "fail";
}

static void judge_all(cJSON *list, const struct tally *t, const double gsd[2], const char *const date[2],
                      double grid_m, const cJSON *alignment)
{
    double kept = t->n ? (double)t->n_kept / (double)t->n : 0,
           seen = t->n ? 1 - (double)t->n_nodata / (double)t->n : 0;
    double blank = t->n_kept ? t->blank / (double)t->n_kept : 0;
    const cJSON *accepted = cJSON_GetObjectItemCaseSensitive(alignment, "accepted_share");
    judge(list, "overlap", grade(seen, 0.95, 0.7),
          "%.1f %% of the footprints lie where both dates have an image", 100 * seen);
    judge(list, "coverage", grade(kept, 0.9, 0.6), "%zu of %zu buildings have a chip", t->n_kept, t->n);
    judge(list, "blank", grade(1 - blank, 0.98, 0.9), "%.1f %% of the chips' area is without data",
          100 * blank);
    judge(list, "gsd",
          fmax(gsd[0], gsd[1]) <= 1.2 * grid_m ? "pass"
          : fmax(gsd[0], gsd[1]) <= 2 * grid_m ? "warn"
                                               : "fail",
          "the images have pixels of %.2f m and %.2f m, the chips of %.2f m", gsd[0], gsd[1], grid_m);
    if (date[0] && date[1])
        judge(list, "dates", strcmp(date[0], date[1]) < 0 ? "pass" : "fail", "taken %s and %s", date[0],
              date[1]);
    else
        judge(list, "dates", "unknown", "the images do not say when they were taken");
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(alignment, "aligned"))) {
        const char *verdict = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(alignment, "verdict"));
        judge(list, "alignment", verdict ? verdict : "unknown",
              "a shift was found for %.1f %% of the buildings",
              100 * (cJSON_IsNumber(accepted) ? accepted->valuedouble : 0));
    } else {
        judge(list, "alignment", "unknown", "the two dates were not aligned yet");
    }
}

void checks_get(const struct service *s, const struct http_request *q, const char *const *arg,
                struct http_reply *a)
{
    struct tally t;
    double gsd[2];
    const char *date[2];
    struct event_loan *l = workflow_event(s, q, arg[0], a);
    if (!l)
        return;
    const struct event *ev = event_loan_event(l);
    cJSON *manifest = cJSON_Parse(ev->manifest), *alignment = alignment_summary(ev, WORST);
    const cJSON *inputs = cJSON_GetObjectItemCaseSensitive(manifest, "inputs");
    cJSON *doc = cJSON_CreateObject(), *reasons = reasons_document(ev, &t);
    cJSON *footprints = cJSON_AddObjectToObject(doc, "footprints");
    cJSON_AddNumberToObject(footprints, "n", (double)t.n);
    cJSON_AddNumberToObject(footprints, "kept", (double)t.n_kept);
    cJSON_AddNumberToObject(footprints, "inside_both", (double)(t.n - t.n_nodata));
    cJSON_AddItemToObject(footprints, "reasons", reasons);
    cJSON_AddNumberToObject(doc, "overlap_share",
                            t.n ? round(1000.0 * (double)(t.n - t.n_nodata) / (double)t.n) / 1000 : 0);
    cJSON_AddNumberToObject(doc, "blank_share",
                            t.n_kept ? round(1000 * t.blank / (double)t.n_kept) / 1000 : 0);
    cJSON *images = cJSON_AddObjectToObject(doc, "images");
    cJSON_AddItemToObject(
        images, "pre", images_document(cJSON_GetObjectItemCaseSensitive(inputs, "pre"), &gsd[0], &date[0]));
    cJSON_AddItemToObject(
        images, "post", images_document(cJSON_GetObjectItemCaseSensitive(inputs, "post"), &gsd[1], &date[1]));
    judge_all(cJSON_AddArrayToObject(doc, "verdicts"), &t, gsd, date, ev->grid.gsd_m, alignment);
    cJSON_AddItemToObject(doc, "alignment", alignment ? alignment : cJSON_CreateNull());
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_validate(q, a);
    cJSON_Delete(manifest);
    event_cache_give(s->workflow->events, l);
}
