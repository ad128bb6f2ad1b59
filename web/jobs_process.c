/* SPDX-License-Identifier: Apache-2.0
 *
 * jobs_process.c - the table of processes: which command each runs, and how its words are made of an assessment and of
 * what a client asked for. A new process is a row here; its command has to exist in the program.
 *
 * Clients choose numbers within limits, words of a list, and models by their names; no text of theirs becomes a path
 * or an option. The files an assessment is made of were checked when it was created; they are checked again here,
 * because a file may have become a link since.
 *
 * Labels go to a command as a table written when the job starts (models/m-N.labels.csv): a run that is resumed
 * later finds the labels it began with, whatever people have changed since, and every model has beside it what it
 * learnt from. Only the store's training labels go there (store.h, promise 4). */
#include "models/base/file.h"
#include "models/base/mem.h"
#include "web/jobs_parts.h"
#include "web/zone_setting.h"

#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- words
 * --------------------------------------------------------------------------------------------------------------- */

bool jobs_words_add(struct jobs_words *w, struct err *e, const char *fmt, ...)
{
    char *word = NULL;
    va_list ap;
    if (w->n >= JOBS_MAX_WORDS)
        return err_set(e, ERR_INPUT,
                       "an assessment of so many files does not fit on a command line; give a folder");
    if (!mem_grow(&w->item, w->n + 2, sizeof *w->item, "a command line", e))
        return false;
    va_start(ap, fmt);
    int n = vasprintf(&word, fmt, ap);
    va_end(ap);
    if (n < 0)
        return err_set(e, ERR_RESOURCE, "not enough memory for a command line");
    w->item[w->n++] = word;
    w->item[w->n] = NULL;
    return true;
}

void jobs_words_free(struct jobs_words *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->item[i]);
    free(w->item);
    *w = (struct jobs_words){0};
}

/* ---- what builders share
 * ------------------------------------------------------------------------------------------------- */

/* ROOT/AID/part */
static bool own_path(const struct jobs_context *c, const char *part, char path[PATH_MAX], struct err *e)
{
    return store_path(c->store, c->job->aid, part, path, PATH_MAX, e);
}

static bool make_folder(const struct jobs_context *c, const char *part, struct err *e)
{
    char path[PATH_MAX];
    return own_path(c, part, path, e) && file_make_dirs(path, e);
}

/* Writes the labels of a purpose beside the job's outputs. */
static bool write_labels(struct jobs_context *c, enum store_purpose purpose, const char *part, struct err *e)
{
    char path[PATH_MAX];
    struct store_labels l = {0};
    if (!own_path(c, part, path, e) || !store_labels_read(c->store, c->job->aid, purpose, NULL, NULL, &l, e))
        return false;
    bool ok = store_labels_csv(&l, path, e);
    c->labels_seq = l.seq;
    c->n_labels = l.n;
    store_labels_free(&l);
    return ok;
}

static bool is_model_name(const char *name)
{
    const char *digits = strncmp(name, "m-", 2) == 0 ? name + 2 : "";
    size_t n = strspn(digits, "0123456789");
    return n > 0 && n < 19 && digits[n] == '\0';
}

/* The newest model of an assessment into name; false when it has none. */
static bool newest_model(const struct store *s, const char *aid, char *name, size_t size)
{
    char path[PATH_MAX];
    long long best = -1;
    DIR *dir = store_path(s, aid, "models", path, sizeof path, NULL) ? opendir(path) : NULL;
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char stem[64];
        const char *end = strstr(d->d_name, ".safetensors");
        if (!end || strcmp(end, ".safetensors") != 0 || (size_t)(end - d->d_name) >= sizeof stem)
            continue;
        snprintf(stem, sizeof stem, "%.*s", (int)(end - d->d_name), d->d_name);
        long long number = is_model_name(stem) ? strtoll(stem + 2, NULL, 10) : -1;
        if (number > best) {
            best = number;
            snprintf(name, size, "%s", stem);
        }
    }
    if (dir)
        closedir(dir);
    return best >= 0;
}

/* The model that the inputs name, or the newest. */
static bool chosen_model(const struct jobs_context *c, char name[64], struct err *e)
{
    char path[PATH_MAX], part[128];
    const char *given = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c->inputs, "model"));
    if (given)
        snprintf(name, 64, "%.63s", given);
    else if (!newest_model(c->store, c->job->aid, name, 64))
        return err_set(e, ERR_INPUT, "there is no model yet; train one first");
    snprintf(part, sizeof part, "models/%s.safetensors", name);
    return own_path(c, part, path, e) &&
           (file_exists(path) || err_set(e, ERR_INPUT, "there is no model '%s'", name));
}

static const char *text_of(const cJSON *o, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
}

/* ---- import
 * -------------------------------------------------------------------------------------------------------------- */

/* The real path of a file of the assessment, which has to lie below the root. */
static bool add_file(const struct jobs_context *c, const char *option, const cJSON *item,
                     struct jobs_words *w, struct err *e)
{
    const char *name = cJSON_GetStringValue(item), *root = store_root(c->store);
    char joined[PATH_MAX];
    if (!name || !*name)
        return err_set(e, ERR_INPUT, "%s of the assessment names no file", option);
    if (strncmp(name, "/vsi", 4) == 0 || *name == '<' || strstr(name, "://"))
        return err_set(e, ERR_INPUT, "'%.80s' is no plain file", name);
    int n =
        snprintf(joined, sizeof joined, "%s%s%s", *name == '/' ? "" : root, *name == '/' ? "" : "/", name);
    char *real = n > 0 && (size_t)n < sizeof joined ? realpath(joined, NULL) : NULL;
    const size_t length = strlen(root);
    bool ok = real && strncmp(real, root, length) == 0 && real[length] == '/' && !strpbrk(real, "\n\r");
    ok = ok ? jobs_words_add(w, e, "--%s=%s", option, real)
            : err_set(e, ERR_INPUT, "'%.80s' is no file below the data root", name);
    free(real);
    return ok;
}

/* The footprints, or only those that touch the area of interest. */
static bool add_footprints(const struct jobs_context *c, struct jobs_words *w, struct err *e)
{
    char part[64], path[PATH_MAX];
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(c->settings, "footprints");
    OGRGeometryH aoi = aoi_setting_read(c->settings);
    if (!aoi)
        return add_file(c, "footprints", item, w, e) &&
               (!text_of(c->settings, "layer") || !*text_of(c->settings, "layer") ||
                jobs_words_add(w, e, "--layer=%s", text_of(c->settings, "layer")));
    struct jobs_words found = {0};
    snprintf(part, sizeof part, "jobs/%lld.footprints.gpkg", (long long)c->job->number);
    bool ok = add_file(c, "footprints", item, &found, e) && make_folder(c, "jobs", e) &&
              own_path(c, part, path, e) &&
              aoi_cut(found.item[0] + strlen("--footprints="), text_of(c->settings, "layer"), aoi, path, e) &&
              jobs_words_add(w, e, "--footprints=%s", part);
    jobs_words_free(&found);
    OGR_G_DestroyGeometry(aoi);
    return ok;
}

static bool build_import(struct jobs_context *c, struct jobs_words *w, struct err *e)
{
    static const char *const phase[2] = {"pre", "post"};
    static const char *const text[][2] = {
        {"id_field", "id-field"}, {"label_field", "label-field"}, {"label_map", "label-map"}};
    static const char *const number[][2] = {{"gsd_m", "gsd"}, {"size_m", "size-m"}};
    for (int d = 0; d < 2; d++) {
        const cJSON *list = cJSON_GetObjectItemCaseSensitive(c->settings, phase[d]), *item;
        if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) < 1)
            return err_set(e, ERR_INPUT, "the assessment names no %s images", phase[d]);
        cJSON_ArrayForEach(item, list) if (!add_file(c, phase[d], item, w, e)) return false;
    }
    if (!add_footprints(c, w, e))
        return false;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        const char *value = text_of(c->settings, text[i][0]);
        if (value && *value && !jobs_words_add(w, e, "--%s=%s", text[i][1], value))
            return false;
    }
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(c->settings, number[i][0]);
        if (cJSON_IsNumber(value) && !jobs_words_add(w, e, "--%s=%.17g", number[i][1], value->valuedouble))
            return false;
    }
    return jobs_words_add(w, e, "--output=event") && jobs_words_add(w, e, "--overwrite");
}

/* ---- align
 * --------------------------------------------------------------------------------------------------------------- */

/* Shifts that people set with their labels go along, whatever the labels are for. */
static bool write_hand(const struct jobs_context *c, const char *part, bool *any, struct err *e)
{
    char path[PATH_MAX];
    struct store_labels l = {0}, shifted = {0};
    if (!own_path(c, part, path, e) ||
        !store_labels_read(c->store, c->job->aid, STORE_ANY_PURPOSE, NULL, NULL, &l, e))
        return false;
    shifted.item = mem_array(l.n, sizeof *shifted.item, "the shifts", e);
    for (size_t i = 0; shifted.item && i < l.n; i++)
        if (l.item[i].has_shift)
            shifted.item[shifted.n++] = l.item[i]; /* texts stay with l */
    *any = shifted.n > 0;
    bool ok = shifted.item && (!*any || store_labels_csv(&shifted, path, e));
    free(shifted.item);
    store_labels_free(&l);
    return ok;
}

static bool build_align(struct jobs_context *c, struct jobs_words *w, struct err *e)
{
    const char *action = text_of(c->inputs, "action");
    char part[64];
    bool any = false;
    if (action && strcmp(action, "reset") == 0)
        return jobs_words_add(w, e, "event") && jobs_words_add(w, e, "--reset");
    snprintf(part, sizeof part, "jobs/%lld.shifts.csv", (long long)c->job->number);
    if (!make_folder(c, "jobs", e) || !write_hand(c, part, &any, e) || !jobs_words_add(w, e, "event"))
        return false;
    if (action && strcmp(action, "hand") == 0 && !any)
        return err_set(e, ERR_INPUT, "no label carries a shift set by hand");
    if (any && !jobs_words_add(w, e, "--hand=%s", part))
        return false;
    return (action && strcmp(action, "hand") == 0) || jobs_words_add(w, e, "--overwrite");
}

/* ---- train, predict, evaluate
 * ------------------------------------------------------------------------------------------- */

static bool build_train(struct jobs_context *c, struct jobs_words *w, struct err *e)
{
    char part[64], path[PATH_MAX];
    const long long number = c->job->number;
    snprintf(part, sizeof part, "models/m-%lld.labels.csv", number);
    if (!make_folder(c, "models", e) || !own_path(c, part, path, e))
        return false;
    if ((!c->is_resumed || !file_exists(path)) && !write_labels(c, STORE_TRAIN, part, e))
        return false;
    return jobs_words_add(w, e, "event") && jobs_words_add(w, e, "--labels=%s:dmg_class", part) &&
           jobs_words_add(w, e, "--cut=%d", c->assessment->cut) &&
           jobs_words_add(w, e, "--output=models/m-%lld.safetensors", number) &&
           jobs_words_add(w, e, c->is_resumed ? "--resume" : "--overwrite");
}

static bool build_predict(struct jobs_context *c, struct jobs_words *w, struct err *e)
{
    char model[64];
    return chosen_model(c, model, e) && jobs_words_add(w, e, "event") &&
           jobs_words_add(w, e, "--model=models/%s.safetensors", model) &&
           jobs_words_add(w, e, "--output=map") && jobs_words_add(w, e, "--overwrite");
}

static bool build_evaluate(struct jobs_context *c, struct jobs_words *w, struct err *e)
{
    char model[64], part[64];
    snprintf(part, sizeof part, "jobs/%lld.validate.csv", (long long)c->job->number);
    if (!chosen_model(c, model, e) || !make_folder(c, "jobs", e) || !write_labels(c, STORE_VALIDATE, part, e))
        return false;
    if (!c->n_labels)
        return err_set(e, ERR_INPUT, "no building has a label for validation yet");
    return jobs_words_add(w, e, "models/%s.safetensors", model) && jobs_words_add(w, e, "--truth=event") &&
           jobs_words_add(w, e, "--labels=%s:dmg_class", part) && jobs_words_add(w, e, "--split=all");
}

/* ---- estimate, report
 * ----------------------------------------------------------------------------------------------------- */

static bool add_zones(const struct jobs_context *c, struct jobs_words *w, struct err *e)
{
    struct zone_setting z;
    if (!zone_setting_read(c->settings, &z))
        return true;
    cJSON *path = cJSON_CreateString(z.path);
    bool ok = add_file(c, "zones", path, w, e) && jobs_words_add(w, e, "--zone-id=%s", z.id_field) &&
              (!*z.name_field || jobs_words_add(w, e, "--zone-name=%s", z.name_field));
    cJSON_Delete(path);
    return ok;
}

static bool add_sample(struct jobs_context *c, struct jobs_words *w, struct err *e)
{
    char part[64];
    snprintf(part, sizeof part, "jobs/%lld.validate.csv", (long long)c->job->number);
    if (!make_folder(c, "jobs", e) || !write_labels(c, STORE_VALIDATE, part, e))
        return false;
    if (!c->n_labels)
        return err_set(e, ERR_INPUT, "no building has a label for validation yet");
    return jobs_words_add(w, e, "map") && jobs_words_add(w, e, "--truth=%s:dmg_class", part) &&
           add_zones(c, w, e);
}

static bool build_estimate(struct jobs_context *c, struct jobs_words *w, struct err *e)
{
    return add_sample(c, w, e);
}

static bool build_report(struct jobs_context *c, struct jobs_words *w, struct err *e)
{
    return add_sample(c, w, e) && jobs_words_add(w, e, "--output=map/report.html") &&
           jobs_words_add(w, e, "--overwrite") &&
           (!*c->assessment->title || jobs_words_add(w, e, "--title=%s", c->assessment->title));
}

/* ---- the table
 * ----------------------------------------------------------------------------------------------------------- */

static const struct jobs_input no_inputs[] = {{0}};
static const struct jobs_input align_inputs[] = {
    {.name = "action",
     .title = "measure shifts, set only those given by hand, or take all away",
     .kind = JOBS_CHOICE,
     .choices = "measure,hand,reset"},
    {.name = "search_m",
     .title = "Longest shift looked for, metres",
     .option = "search-m",
     .kind = JOBS_NUMBER,
     .low = 0.5,
     .high = 50},
    {0}};
static const struct jobs_input train_inputs[] = {
    {.name = "method",
     .title = "How to learn",
     .option = "method",
     .kind = JOBS_CHOICE,
     .choices = "fixmatch,supervised,pseudolabel,pimodel,meanteacher,vat,uda,mixmatch,remixmatch,adamatch"},
    {.name = "budget_s",
     .title = "Time for training, seconds",
     .option = "budget",
     .kind = JOBS_NUMBER,
     .low = 1,
     .high = 86400,
     .fallback = "120",
     .unit = "s"},
    {.name = "steps",
     .title = "Updates, instead of a time",
     .option = "steps",
     .kind = JOBS_INTEGER,
     .low = 1,
     .high = 1e7},
    {.name = "preset",
     .title = "Network",
     .option = "preset",
     .kind = JOBS_CHOICE,
     .choices = "lite,lite3,wrn-10-2,wrn-28-2,wrn-37-2"},
    {.name = "batch",
     .title = "Labelled images a step",
     .option = "batch",
     .kind = JOBS_INTEGER,
     .low = 2,
     .high = 512},
    {.name = "max_items",
     .title = "Unlabelled chips held in memory",
     .option = "max-items",
     .kind = JOBS_INTEGER,
     .low = 1,
     .high = 1e6},
    {.name = "seed",
     .title = "Seed of everything random",
     .option = "seed",
     .kind = JOBS_INTEGER,
     .low = 0,
     .high = 1e15},
    {0}};
static const struct jobs_input predict_inputs[] = {
    {.name = "model", .title = "Model to use (default: the newest)", .kind = JOBS_MODEL},
    {.name = "operating_point",
     .title = "Damaged from this probability",
     .option = "operating-point",
     .kind = JOBS_NUMBER,
     .low = 0,
     .high = 1},
    {.name = "tta", .title = "Views of each chip", .option = "tta", .kind = JOBS_CHOICE, .choices = "1,8"},
    {0}};
static const struct jobs_input evaluate_inputs[] = {
    {.name = "model", .title = "Model to look at (default: the newest)", .kind = JOBS_MODEL}, {0}};
static const struct jobs_input estimate_inputs[] = {{.name = "method",
                                                     .title = "How the totals are estimated",
                                                     .option = "method",
                                                     .kind = JOBS_CHOICE,
                                                     .choices = "model-assisted,exact"},
                                                    {.name = "level",
                                                     .title = "Coverage of the intervals",
                                                     .option = "level",
                                                     .kind = JOBS_NUMBER,
                                                     .low = 0.5,
                                                     .high = 0.999},
                                                    {0}};
static const struct jobs_input report_inputs[] = {
    {.name = "lang", .title = "Language", .option = "lang", .kind = JOBS_CHOICE, .choices = "en,fr,es,ar"},
    {.name = "paper", .title = "Paper", .option = "paper", .kind = JOBS_CHOICE, .choices = "a4,letter"},
    {0}};

const struct jobs_process jobs_process_table[] = {
    {.id = "import",
     .command = "tile",
     .title = "Import",
     .description = "Cuts the assessment's images into one chip a building",
     .inputs = no_inputs,
     .stage = {{"check", 0, 1},
               {"footprints", 1, 4},
               {"scale", 4, 15},
               {"chips", 15, 95},
               {"digest", 95, 98},
               {"index", 98, 100}},
     .build = build_import},
    {.id = "align",
     .command = "align",
     .title = "Align",
     .description = "Finds how far the later image is shifted against the earlier one at each building",
     .needs_event = true,
     .inputs = align_inputs,
     .stage = {{"check", 0, 2}, {"measure", 2, 60}, {"chips", 60, 96}, {"index", 96, 100}},
     .build = build_align},
    {.id = "train",
     .command = "train",
     .title = "Train",
     .description = "Learns from the labels for training and from all chips of the training blocks",
     .is_resumable = true,
     .needs_event = true,
     .inputs = train_inputs,
     .stage = {{"read", 0, 3}, {"train", 3, 99}},
     .build = build_train},
    {.id = "predict",
     .command = "assess",
     .title = "Predict",
     .description = "Makes the damage map of all buildings",
     .needs_event = true,
     .inputs = predict_inputs,
     .stage = {{"read", 0, 2}, {"predict", 2, 85}, {"vector", 85, 92}, {"raster", 92, 100}},
     .build = build_predict},
    {.id = "evaluate",
     .command = "evaluate",
     .title = "Evaluate",
     .description = "Scores a model on the labels for validation",
     .needs_event = true,
     .inputs = evaluate_inputs,
     .stage = {{"predict", 0, 90}, {"score", 90, 100}},
     .build = build_evaluate},
    {.id = "estimate",
     .command = "estimate",
     .title = "Estimate",
     .description = "Totals with intervals from the map and the labels for validation",
     .needs_event = true,
     .needs_map = true,
     .inputs = estimate_inputs,
     .stage = {{"read", 0, 50}, {"zones", 50, 100}},
     .build = build_estimate},
    {.id = "report",
     .command = "report",
     .title = "Report",
     .description = "The printable report of the map and its totals",
     .needs_event = true,
     .needs_map = true,
     .inputs = report_inputs,
     .stage = {{"read", 0, 50}, {"zones", 50, 100}},
     .build = build_report},
    {0}};

const struct jobs_process *jobs_process_find(const char *id)
{
    for (const struct jobs_process *p = jobs_process_table; p->id; p++)
        if (strcmp(p->id, id) == 0)
            return p;
    return NULL;
}

/* ---- inputs
 * -------------------------------------------------------------------------------------------------------------- */

static bool in_list(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; n && (at = strstr(at, word)); at++)
        if ((at == list || at[-1] == ',') && (at[n] == ',' || at[n] == '\0'))
            return true;
    return false;
}

static bool check_input(const struct jobs_input *in, const cJSON *v, struct err *e)
{
    const char *text = cJSON_GetStringValue(v);
    char number[32];
    switch (in->kind) {
    case JOBS_INTEGER:
    case JOBS_NUMBER:
        if (cJSON_IsNumber(v) && v->valuedouble >= in->low && v->valuedouble <= in->high &&
            (in->kind == JOBS_NUMBER || v->valuedouble == floor(v->valuedouble)))
            return true;
        return err_set(e, ERR_INPUT, "input '%s' takes a%s number from %.10g to %.10g", in->name,
                       in->kind == JOBS_INTEGER ? " whole" : "", in->low, in->high);
    case JOBS_CHOICE:
        if (cJSON_IsNumber(v)) {
            snprintf(number, sizeof number, "%.10g", v->valuedouble);
            text = number;
        }
        return (text && in_list(in->choices, text)) ||
               err_set(e, ERR_INPUT, "input '%s' takes one of %s", in->name, in->choices);
    case JOBS_MODEL:
        return (text && is_model_name(text)) ||
               err_set(e, ERR_INPUT, "input '%s' takes the name of a model, such as m-3", in->name);
    }
    return false;
}

static bool check_parts(const struct jobs_process *p, const struct store *s, const char *aid, struct err *e)
{
    char path[PATH_MAX];
    if (p->needs_event && (!store_path(s, aid, "event/event.json", path, sizeof path, e) ||
                           (!file_exists(path) && !err_set(e, ERR_INPUT, "the images are not imported yet"))))
        return false;
    if (p->needs_map &&
        (!store_path(s, aid, "map/run.json", path, sizeof path, e) ||
         (!file_exists(path) && !err_set(e, ERR_INPUT, "there is no map yet; predict first"))))
        return false;
    return true;
}

bool jobs_process_check(const struct jobs_process *p, const struct store *s, const char *aid,
                        const cJSON *inputs, struct err *e)
{
    const cJSON *v;
    char model[64];
    if (inputs && !cJSON_IsObject(inputs))
        return err_set(e, ERR_INPUT, "the inputs are no JSON object");
    cJSON_ArrayForEach(v, inputs)
    {
        const struct jobs_input *in = p->inputs;
        while (in->name && strcmp(in->name, v->string) != 0)
            in++;
        if (!in->name)
            return err_set(e, ERR_INPUT, "process %s knows no input '%.60s'", p->id, v->string);
        if (!check_input(in, v, e))
            return false;
    }
    if (cJSON_GetObjectItemCaseSensitive(inputs, "steps") &&
        cJSON_GetObjectItemCaseSensitive(inputs, "budget_s"))
        return err_set(e, ERR_INPUT, "inputs 'steps' and 'budget_s' exclude each other");
    if (!check_parts(p, s, aid, e))
        return false;
    for (const struct jobs_input *in = p->inputs; in->name; in++)
        if (in->kind == JOBS_MODEL && !cJSON_GetObjectItemCaseSensitive(inputs, in->name) &&
            !newest_model(s, aid, model, sizeof model))
            return err_set(e, ERR_INPUT, "there is no model yet; train one first");
    return true;
}

char *jobs_process_schema(const struct jobs_process *p)
{
    cJSON *all = cJSON_CreateObject();
    for (const struct jobs_input *in = p->inputs; in->name; in++) {
        cJSON *o = cJSON_AddObjectToObject(all, in->name);
        cJSON_AddStringToObject(o, "title", in->title);
        cJSON_AddNumberToObject(o, "minOccurs", 0);
        cJSON *schema = cJSON_AddObjectToObject(o, "schema");
        cJSON_AddStringToObject(schema, "type",
                                in->kind == JOBS_INTEGER  ? "integer"
                                : in->kind == JOBS_NUMBER ? "number"
                                                          : "string");
        if (in->kind == JOBS_INTEGER || in->kind == JOBS_NUMBER) {
            cJSON_AddNumberToObject(schema, "minimum", in->low);
            cJSON_AddNumberToObject(schema, "maximum", in->high);
        }
        if (in->fallback)
            cJSON_AddNumberToObject(schema, "default", strtod(in->fallback, NULL));
        cJSON *list = in->choices ? cJSON_AddArrayToObject(schema, "enum") : NULL;
        for (const char *at = in->choices; list && *at;) {
            char word[32];
            size_t n = strcspn(at, ",");
            snprintf(word, sizeof word, "%.*s", (int)n, at);
            cJSON_AddItemToArray(list, cJSON_CreateString(word));
            at += n + (at[n] == ',');
        }
    }
    char *text = all ? cJSON_PrintUnformatted(all) : NULL;
    cJSON_Delete(all);
    return text;
}

static bool add_options(const struct jobs_process *p, const struct jobs_context *c, struct jobs_words *w,
                        struct err *e)
{
    const bool has_steps = cJSON_GetObjectItemCaseSensitive(c->inputs, "steps");
    for (const struct jobs_input *in = p->inputs; in->name; in++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(c->inputs, in->name);
        const char *unit = in->unit ? in->unit : "";
        bool ok = true;
        if (!in->option)
            continue;
        if (cJSON_IsNumber(v))
            ok = jobs_words_add(w, e, "--%s=%.15g%s", in->option, v->valuedouble, unit);
        else if (cJSON_IsString(v))
            ok = jobs_words_add(w, e, "--%s=%s", in->option, v->valuestring);
        else if (in->fallback && !has_steps)
            ok = jobs_words_add(w, e, "--%s=%s%s", in->option, in->fallback, unit);
        if (!ok)
            return false;
    }
    return true;
}

bool jobs_process_words(const struct jobs_process *p, struct jobs_context *c, struct jobs_words *w,
                        struct err *e)
{
    c->labels_seq = -1;
    return jobs_words_add(w, e, "aftermap") && jobs_words_add(w, e, "%s", p->command) && p->build(c, w, e) &&
           add_options(p, c, w, e) && jobs_words_add(w, e, "--progress=json") &&
           jobs_words_add(w, e, "--json");
}
