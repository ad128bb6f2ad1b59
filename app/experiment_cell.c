/* SPDX-License-Identifier: Apache-2.0
 *
 * experiment_cell.c - runs one cell of a grid (experiment.h). A trained cell goes through `train` and is
 * scored as `evaluate` scores, on the test split: at the last few checkpoints (where the file asks for them)
 * and at the end, averaged weights always. A campaign goes through `loop`. The result is a list of rows, one
 * for a trained cell, one a round for a campaign.
 *
 * What was seen of a cell under way is kept beside its model (CELL.part.json: figures of the checkpoints so
 * far, seconds spent), so an interrupted cell goes on from its checkpoint and ends with the same figures. */
#include "app/cmd_train.h"
#include "app/console.h"
#include "app/experiment.h"
#include "app/loop.h"
#include "geo/evaluate.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/learn/predict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RESULT_MAX = 16 << 20, MAX_CHECKPOINTS = 100 };

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const cJSON *get(const cJSON *j, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(j, key);
}

static void add_number(cJSON *j, const char *name, double v)
{
    if (isfinite(v))
        cJSON_AddNumberToObject(j, name, v);
    else
        cJSON_AddNullToObject(j, name);
}

static cJSON *read_json(const char *path, struct err *e)
{
    char *text = file_read(path, RESULT_MAX, NULL, e);
    cJSON *j = text ? cJSON_Parse(text) : NULL;
    if (text && !j)
        err_set(e, ERR_INPUT, "%s: is no JSON; remove it, and the cell runs again", path);
    free(text);
    return j;
}

static bool write_json(const char *path, const cJSON *j, struct err *e)
{
    char *text = cJSON_Print(j);
    bool ok = text ? file_write_text(path, text, e)
                   : err_set(e, ERR_RESOURCE, "not enough memory for the result of a cell");
    cJSON_free(text);
    return ok;
}

static bool same_settings(const cJSON *j, const struct experiment_cell *c)
{
    char *text = cJSON_PrintUnformatted(get(j, "settings"));
    bool same = text && strcmp(text, c->settings) == 0;
    cJSON_free(text);
    return same;
}

cJSON *experiment_result(const struct experiment *x, const struct experiment_cell *c, bool *differs)
{
    char path[4096];
    struct err ignored;
    *differs = false;
    if (!experiment_path(x, c, ".json", path, &ignored) || !file_exists(path))
        return NULL;
    cJSON *j = read_json(path, &ignored);
    if (j && same_settings(j, c))
        return j;
    cJSON_Delete(j);
    *differs = true;
    return NULL;
}

/* ---- figures ---- */

static double number_of(const cJSON *j)
{
    return cJSON_IsNumber(j) ? j->valuedouble : NAN;
}

/* A figure of one look at a model: {"auroc": {value, low, high}, ...}; error is 1 - accuracy. */
static double figure_in(const cJSON *figures, const char *metric)
{
    if (strcmp(metric, "error") == 0)
        return 1 - number_of(get(get(figures, "accuracy"), "value"));
    return number_of(get(get(figures, metric), "value"));
}

static int compare_real(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double experiment_figure(const cJSON *row, const char *metric)
{
    double v[MAX_CHECKPOINTS + 1];
    int n = 0;
    v[n++] = figure_in(get(row, "figures"), metric);
    for (const cJSON *i = get(row, "checkpoints") ? get(row, "checkpoints")->child : NULL; i; i = i->next)
        if (n <= MAX_CHECKPOINTS)
            v[n++] = figure_in(get(i, "figures"), metric);
    for (int i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return NAN;
    qsort(v, (size_t)n, sizeof *v, compare_real);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

static cJSON *figures_json(const struct metrics *m)
{
    cJSON *j = cJSON_CreateObject();
#define ROW(name)                                                                                            \
    {                                                                                                        \
        cJSON *o = cJSON_AddObjectToObject(j, #name);                                                        \
        add_number(o, "value", m->name.value);                                                               \
        add_number(o, "low", m->name.low);                                                                   \
        add_number(o, "high", m->name.high);                                                                 \
    }
    EXPERIMENT_FIGURES(ROW)
#undef ROW
    return j;
}

/* ---- a trained cell ---- */

struct cell_run {
    const struct experiment *x;
    const struct experiment_cell *c;
    const struct common *common;
    const struct progress *progress;
    char target[4096], model[4096], part[4096];
    cJSON *seen;     /* [{step, figures}] */
    double before_s; /* spent before this call */
    double begun_s;
};

static bool is_plain(const struct cell_run *r)
{
    return imageset_is_spec(r->target);
}

static bool evaluate(const struct cell_run *r, const char *model, int n_bootstrap,
                     struct evaluate_report *report, struct err *e)
{
    struct evaluate_options o;
    evaluate_defaults(&o);
    o.subject = model;
    o.truth = r->target;
    o.n_views = r->x->n_views ? r->x->n_views : is_plain(r) ? 1 : 8;
    o.metrics.n_bootstrap = n_bootstrap;
    o.metrics.seed = r->c->seed;
    return evaluate_run(&o, r->progress, report, e);
}

static bool save_part(const struct cell_run *r, struct err *e)
{
    cJSON *j = cJSON_CreateObject(), *settings = cJSON_Parse(r->c->settings);
    cJSON_AddItemToObject(j, "settings", settings);
    cJSON_AddNumberToObject(j, "seconds", r->before_s + now_s() - r->begun_s);
    cJSON_AddItemToObject(j, "checkpoints", cJSON_Duplicate(r->seen, true));
    bool ok = write_json(r->part, j, e);
    cJSON_Delete(j);
    return ok;
}

/* What an earlier call saw of this cell; of a cell with other settings nothing, and its model goes. */
static bool load_part(struct cell_run *r, struct err *e)
{
    struct err ignored;
    cJSON *j = file_exists(r->part) ? read_json(r->part, &ignored) : NULL;
    r->seen = cJSON_CreateArray();
    if (j && same_settings(j, r->c)) {
        cJSON_Delete(r->seen);
        r->seen = cJSON_DetachItemFromObjectCaseSensitive(j, "checkpoints");
        r->before_s = number_of(get(j, "seconds"));
        r->before_s = isfinite(r->before_s) ? r->before_s : 0;
    } else
        unlink(r->model);
    cJSON_Delete(j);
    return r->seen || err_set(e, ERR_RESOURCE, "not enough memory for the cell");
}

static bool saw(void *ctx, const char *path, int64_t step, struct err *e)
{
    struct cell_run *r = ctx;
    struct evaluate_report *report = mem_array(1, sizeof *report, "the figures", e);
    bool ok = report && evaluate(r, path, 0, report, e);
    for (int i = cJSON_GetArraySize(r->seen) - 1; ok && i >= 0; i--) /* seen before an interruption */
        if (number_of(get(cJSON_GetArrayItem(r->seen, i), "step")) == (double)step)
            cJSON_DeleteItemFromArray(r->seen, i);
    if (ok) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "step", (double)step);
        cJSON_AddItemToObject(o, "figures", figures_json(&report->model));
        cJSON_AddItemToArray(r->seen, o);
        ok = save_part(r, e);
    }
    free(report);
    return ok;
}

static bool train(struct cell_run *r, struct train_report *report, struct err *e)
{
    const struct train_watch watch = {
        .n = r->x->n_checkpoints, .share = r->x->checkpoint_share, .seen = saw, .ctx = r};
    struct invocation in = {0};
    char **words = NULL;
    int n = 0;
    bool ok = command_options(&command_train, &in, e) && experiment_words(r->x, r->c, &words, &n, e);
    if (ok) {
        command_parse(&command_train, n, words, &in);
        in.common.quiet = r->common->quiet;
        in.common.progress = r->common->progress;
        ok = train_command_run(in.options, &in.common, &watch, r->progress, report, e);
    }
    if (!ok && e->code == ERR_INTERRUPTED) {
        struct err ignored;
        save_part(r, &ignored); /* the seconds spent so far, no more */
    }
    experiment_words_free(words, n);
    free(in.options);
    return ok;
}

static cJSON *trained_row(struct cell_run *r, const struct train_report *t, const struct evaluate_report *v)
{
    cJSON *row = cJSON_CreateObject();
    cJSON_AddNumberToObject(row, "labels", (double)(t->n_labeled));
    cJSON_AddNumberToObject(row, "source_labels", (double)t->n_source);
    cJSON_AddNumberToObject(row, "unlabeled", (double)t->n_unlabeled);
    cJSON_AddNumberToObject(row, "tested", (double)v->model.n);
    cJSON_AddNumberToObject(row, "steps", (double)t->steps);
    add_number(row, "loss", t->final_loss);
    cJSON_AddItemToObject(row, "figures", figures_json(&v->model));
    cJSON_AddItemToObject(row, "trivial", figures_json(&v->trivial));
    cJSON_AddItemToObject(row, "checkpoints", cJSON_Duplicate(r->seen, true));
    return row;
}

static bool write_result(const struct experiment *x, const struct experiment_cell *c, cJSON *rows,
                         double seconds, const char *digest, struct err *e)
{
    char path[4096];
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "kind", "experiment cell");
    cJSON_AddStringToObject(j, "experiment", x->name);
    cJSON_AddStringToObject(j, "task", x->task[c->task].name);
    cJSON_AddStringToObject(j, "arm", x->arm[c->arm].name);
    cJSON_AddItemToObject(j, "settings", cJSON_Parse(c->settings));
    cJSON_AddStringToObject(j, "version", AM_VERSION);
    cJSON_AddStringToObject(j, "digest", digest);
    cJSON_AddNumberToObject(j, "seconds", seconds);
    cJSON_AddItemToObject(j, "rows", rows);
    bool ok = experiment_path(x, c, ".json", path, e) && write_json(path, j, e);
    cJSON_Delete(j);
    return ok;
}

static bool run_trained(struct cell_run *r, struct err *e)
{
    struct train_report t = {0};
    struct evaluate_report *v = mem_array(1, sizeof *v, "the figures", e);
    bool ok = v && experiment_path(r->x, r->c, ".safetensors", r->model, e) &&
              experiment_path(r->x, r->c, ".part.json", r->part, e) && load_part(r, e) && save_part(r, e) &&
              train(r, &t, e) && evaluate(r, r->model, r->x->n_bootstrap, v, e);
    if (ok) {
        cJSON *rows = cJSON_CreateArray();
        cJSON_AddItemToArray(rows, trained_row(r, &t, v));
        ok = write_result(r->x, r->c, rows, r->before_s + now_s() - r->begun_s, v->model_digest, e);
    }
    if (ok) { /* the result has all that is reported; models are many and large */
        unlink(r->part);
        unlink(r->model);
    }
    cJSON_Delete(r->seen);
    free(v);
    return ok;
}

/* ---- a campaign ---- */

static void move_figure(cJSON *to, const cJSON *from, const char *name, const char *as)
{
    const cJSON *v = get(from, name);
    if (v)
        cJSON_AddItemToObject(to, as, cJSON_Duplicate(v, true));
}

static cJSON *campaign_rows(const cJSON *loop, double *seconds)
{
    cJSON *rows = cJSON_CreateArray();
    *seconds = 0;
    for (const cJSON *i = get(loop, "rounds") ? get(loop, "rounds")->child : NULL; i; i = i->next) {
        cJSON *row = cJSON_CreateObject(), *figures = cJSON_AddObjectToObject(row, "figures");
        move_figure(row, i, "round", "round");
        move_figure(row, i, "labels", "labels");
        move_figure(row, i, "trained", "trained");
        move_figure(row, i, "steps", "steps");
#define ROW(name) move_figure(figures, i, #name, #name);
        LOOP_FIGURES(ROW)
#undef ROW
        move_figure(cJSON_AddObjectToObject(row, "trivial"), i, "trivial_auroc", "auroc");
        cJSON_AddItemToArray(rows, row);
        *seconds += number_of(get(i, "seconds"));
    }
    return rows;
}

static bool run_campaign(struct cell_run *r, struct err *e)
{
    struct invocation in = {0};
    char **words = NULL, path[4096];
    int n = 0;
    bool ok = command_options(&command_loop, &in, e) && experiment_words(r->x, r->c, &words, &n, e);
    if (ok) {
        command_parse(&command_loop, n, words, &in);
        struct loop_options *o = in.options;
        o->silent = true;
        in.common.quiet = r->common->quiet;
        in.common.progress = r->common->progress;
        ok = command_loop.run(o, &in.common, r->progress, e) &&
             experiment_path(r->x, r->c, "/loop.json", path, e);
    }
    cJSON *loop = ok ? read_json(path, e) : NULL;
    if (loop) {
        double seconds;
        char digest[65];
        cJSON *rows = campaign_rows(loop, &seconds);
        ok = file_sha256(path, digest, e) && write_result(r->x, r->c, rows, seconds, digest, e);
    } else
        ok = false;
    cJSON_Delete(loop);
    experiment_words_free(words, n);
    free(in.options);
    return ok;
}

bool experiment_run_cell(const struct experiment *x, const struct experiment_cell *c,
                         const struct common *common, const struct progress *progress, struct err *e)
{
    struct cell_run r = {.x = x, .c = c, .common = common, .progress = progress, .begun_s = now_s()};
    if (!experiment_data_path(x, c, x->task[c->task].target, r.target, e))
        return false;
    return x->arm[c->arm].is_loop ? run_campaign(&r, e) : run_trained(&r, e);
}
