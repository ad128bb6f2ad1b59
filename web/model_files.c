/* SPDX-License-Identifier: Apache-2.0
 * model_files.c - /assessments/{id}/models: the models an assessment has trained, the card of one (what its file says of
 * itself, models/net/checkpoint.h), and its weights by byte range. Whoever may only read does not get weights: with them
 * anybody can ask a model as often as they like. */
#include "models/base/file.h"
#include "models/net/checkpoint.h"
#include "web/exports.h"
#include "web/routes.h"
#include "web/workflow.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static const char ending[] = ".safetensors";

/* The number in "m-7"; -1: no name of a model. */
static long long model_number(const char *name)
{
    size_t n = strncmp(name, "m-", 2) == 0 ? strspn(name + 2, "0123456789") : 0;
    return n && n < 19 && !name[2 + n] && name[2] != '0' ? strtoll(name + 2, NULL, 10) : -1;
}

static cJSON *model_document(const struct http_request *q, const char *aid, long long number,
                             const struct stat *st)
{
    char name[40], when[24];
    struct tm tm;
    cJSON *doc = cJSON_CreateObject();
    snprintf(name, sizeof name, "m-%lld", number);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&st->st_mtime, &tm));
    cJSON_AddStringToObject(doc, "id", name);
    cJSON_AddNumberToObject(doc, "bytes", (double)st->st_size);
    cJSON_AddStringToObject(doc, "modified", when);
    cJSON *links = cJSON_AddArrayToObject(doc, "links");
    http_link(links, q, "self", HTTP_JSON, "This model", "/assessments/%s/models/%s", aid, name);
    http_link(links, q, "enclosure", "application/octet-stream", "Its weights",
              "/assessments/%s/models/%s/weights.safetensors", aid, name);
    return doc;
}

static int compare_number(const void *a, const void *b)
{
    long long x = *(const long long *)a, y = *(const long long *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The path of a model; false: the reply is a 404. */
static bool find_model(const struct service *s, const struct http_request *q, const char *aid,
                       const char *name, char path[4096], struct stat *st, struct http_reply *a)
{
    char part[80];
    struct store_assessment settings;
    struct err e = {0};
    if (!workflow_assessment(s, q, aid, &settings, a))
        return false;
    store_assessment_free(&settings);
    long long number = model_number(name);
    snprintf(part, sizeof part, "models/m-%lld%s", number, ending);
    if (number >= 0 && store_path(s->workflow->store, aid, part, path, 4096, &e) && lstat(path, st) == 0 &&
        S_ISREG(st->st_mode))
        return true;
    http_problem(q, a, 404, NULL, "there is no model '%.40s'; /assessments/%.60s/models lists them", name,
                 aid);
    return false;
}

void models_get(const struct service *s, const struct http_request *q, const char *const *arg,
                struct http_reply *a)
{
    enum { MOST = 10000 };
    static const size_t n_ending = sizeof ending - 1;
    char dir[4096], name[64];
    struct store_assessment settings;
    struct err e = {0};
    struct dirent *d;
    size_t n = 0;
    if (!workflow_assessment(s, q, arg[0], &settings, a))
        return;
    store_assessment_free(&settings);
    long long *number = calloc(MOST, sizeof *number);
    if (!number || !store_path(s->workflow->store, arg[0], "models", dir, sizeof dir, &e)) {
        free(number);
        http_problem(q, a, 507, NULL, "memory ran out");
        return;
    }
    DIR *folder = opendir(dir); /* NULL: none was trained yet */
    while (folder && n < MOST && (d = readdir(folder)) != NULL) {
        size_t k = strlen(d->d_name);
        if (k <= n_ending || k - n_ending >= sizeof name || strcmp(d->d_name + k - n_ending, ending) != 0)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(k - n_ending), d->d_name);
        if (model_number(name) >= 0)
            number[n++] = model_number(name);
    }
    if (folder)
        closedir(folder);
    qsort(number, n, sizeof *number, compare_number);
    cJSON *doc = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(doc, "models");
    for (size_t i = 0; i < n; i++) {
        char path[4200];
        struct stat st;
        snprintf(path, sizeof path, "%s/m-%lld%s", dir, number[i], ending);
        if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
            cJSON_AddItemToArray(list, model_document(q, arg[0], number[i], &st));
    }
    free(number);
    http_link(cJSON_AddArrayToObject(doc, "links"), q, "self", HTTP_JSON, "This document",
              "/assessments/%s/models", arg[0]);
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_header(a, "Cache-Control", "no-store");
}

void model_get(const struct service *s, const struct http_request *q, const char *const *arg,
               struct http_reply *a)
{
    char path[4096];
    struct stat st;
    struct err e = {0};
    if (!find_model(s, q, arg[0], arg[1], path, &st, a))
        return;
    struct checkpoint *c = checkpoint_open(path, &e);
    if (!c) {
        http_problem(q, a, 500, NULL, "this model's file is damaged");
        return;
    }
    cJSON *doc = model_document(q, arg[0], model_number(arg[1]), &st),
          *card = cJSON_AddObjectToObject(doc, "card");
    double n_values = 0;
    for (int i = 0; i < checkpoint_meta_count(c); i++) {
        struct checkpoint_meta m = checkpoint_meta_at(c, i);
        cJSON *value = m.value[0] == '{' || m.value[0] == '[' ? cJSON_Parse(m.value) : NULL;
        cJSON_AddItemToObject(card, m.key, value ? value : cJSON_CreateString(m.value));
    }
    for (int i = 0; i < checkpoint_count(c); i++) {
        const struct checkpoint_tensor *t = checkpoint_at(c, i);
        double count = 1;
        if (strncmp(t->name, "ema.", 4) != 0)
            continue;
        for (int k = 0; k < t->n_dims; k++)
            count *= (double)t->dims[k];
        n_values += count;
    }
    cJSON_AddNumberToObject(doc, "parameters", n_values);
    cJSON_AddStringToObject(doc, "sha256", checkpoint_digest(c));
    checkpoint_close(c);
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_validate(q, a);
}

void model_weights_get(const struct service *s, const struct http_request *q, const char *const *arg,
                       struct http_reply *a)
{
    char path[4096], name[160];
    struct stat st;
    if (!find_model(s, q, arg[0], arg[1], path, &st, a))
        return;
    snprintf(name, sizeof name, "%.60s-%.40s%s", arg[0], arg[1], ending);
    exports_send(q, a, path, "application/octet-stream", name);
}
