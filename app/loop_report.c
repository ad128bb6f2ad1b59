/* SPDX-License-Identifier: Apache-2.0
 *
 * loop_report.c - what a campaign leaves behind (loop.h): loop.json, which a resumed campaign reads back, the
 * two tables and the plot, each whole or not at all. Figures that cannot be told are null in JSON and empty
 * in CSV. */
#include "app/loop.h"

#include "app/plot.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool loop_path(const struct loop *l, const char *name, char path[4096], struct err *e)
{
    return file_join(path, 4096, l->o->out, name, e);
}

/* ---- loop.json ---- */

static void add_number(cJSON *j, const char *name, double v)
{
    if (isfinite(v))
        cJSON_AddNumberToObject(j, name, v);
    else
        cJSON_AddNullToObject(j, name);
}

static void add_metric(cJSON *j, const char *name, const struct metric *m)
{
    cJSON *o = cJSON_AddObjectToObject(j, name);
    add_number(o, "value", m->value);
    add_number(o, "low", m->low);
    add_number(o, "high", m->high);
}

/* What a resumed campaign must agree with; the number of rounds may grow. */
static cJSON *settings_json(const struct loop *l)
{
    const struct loop_options *o = l->o;
    char seed[32];
    cJSON *j = cJSON_CreateObject();
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)l->common->seed);
    cJSON_AddStringToObject(j, "event", l->data.ev->digest);
    cJSON_AddStringToObject(j, "oracle", o->oracle);
    cJSON_AddStringToObject(j, "strategy", l->strategy);
    cJSON_AddStringToObject(j, "method", o->method);
    cJSON_AddStringToObject(j, "preset", o->preset ? o->preset : "");
    cJSON_AddStringToObject(j, "seed", seed);
    cJSON_AddNumberToObject(j, "per_round", o->per_round);
    cJSON_AddNumberToObject(j, "seeds", o->seeds);
    cJSON_AddNumberToObject(j, "validate_share", o->active.validate_share);
    cJSON_AddNumberToObject(j, "buffer_m", o->active.buffer_m);
    cJSON_AddNumberToObject(j, "cut", o->cut);
    cJSON_AddNumberToObject(j, "max_items", (double)o->max_items);
    cJSON_AddNumberToObject(j, "views", o->n_views);
    cJSON_AddNumberToObject(j, "steps", (double)o->steps);
    cJSON_AddNumberToObject(j, "budget_s", o->budget_s);
    cJSON_AddNumberToObject(j, "batch", o->batch);
    cJSON_AddNumberToObject(j, "mu", o->mu);
    cJSON_AddBoolToObject(j, "footprint", !o->no_footprint);
    return j;
}

static cJSON *round_json(const struct loop_round *r, int k)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddNumberToObject(j, "round", k);
    cJSON_AddNumberToObject(j, "labels", (double)r->n_asked);
    cJSON_AddNumberToObject(j, "trained", (double)r->n_trained);
    cJSON_AddNumberToObject(j, "validate", (double)r->n_validate);
    cJSON_AddNumberToObject(j, "validate_positive", (double)r->n_validate_positive);
#define ROW(name) add_metric(j, #name, &r->name);
    LOOP_FIGURES(ROW)
#undef ROW
    add_metric(j, "trivial_auroc", &r->trivial_auroc);
    add_number(j, "validate_auroc", r->validate_auroc);
    add_number(j, "changed", r->changed);
    cJSON_AddNumberToObject(j, "steps", (double)r->steps);
    cJSON_AddNumberToObject(j, "seconds", r->seconds);
    return j;
}

static cJSON *ask_json(const struct loop *l, const struct loop_ask *a)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddNumberToObject(j, "round", a->round);
    cJSON_AddNumberToObject(j, "fid", (double)l->data.set.id[a->item]);
    cJSON_AddNumberToObject(j, "score", a->score);
    cJSON_AddStringToObject(j, "why", a->why);
    cJSON_AddBoolToObject(j, "validate", a->validate);
    return j;
}

static cJSON *loop_json(const struct loop *l)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "kind", "labelling campaign");
    cJSON_AddStringToObject(j, "version", AM_VERSION);
    cJSON_AddItemToObject(j, "settings", settings_json(l));
    if (l->stopped[0])
        cJSON_AddStringToObject(j, "stopped", l->stopped);
    else
        cJSON_AddNullToObject(j, "stopped");
    cJSON *rounds = cJSON_AddArrayToObject(j, "rounds");
    for (int k = 0; k < l->n_rounds; k++)
        cJSON_AddItemToArray(rounds, round_json(&l->round[k], k));
    cJSON *asks = cJSON_AddArrayToObject(j, "questions");
    for (size_t i = 0; i < l->n_ask; i++)
        cJSON_AddItemToArray(asks, ask_json(l, &l->ask[i]));
    return j;
}

static bool save_json(const struct loop *l, struct err *e)
{
    char path[4096];
    cJSON *j = loop_json(l);
    char *text = cJSON_Print(j);
    cJSON_Delete(j);
    bool ok = text ? loop_path(l, "loop.json", path, e) && file_write_text(path, text, e)
                   : err_set(e, ERR_RESOURCE, "not enough memory for the campaign's state");
    cJSON_free(text);
    return ok;
}

/* ---- reading it back ---- */

static double number(const cJSON *j, const char *name)
{
    return cJSON_GetNumberValue(
        cJSON_GetObjectItemCaseSensitive(j, name)); /* NAN when it is null or absent */
}

static size_t count(const cJSON *j, const char *name)
{
    const double v = number(j, name);
    return v >= 0 && v < 1e9 ? (size_t)v : 0;
}

static struct metric read_metric(const cJSON *j, const char *name)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(j, name);
    return (struct metric){number(o, "value"), number(o, "low"), number(o, "high")};
}

static bool read_round(struct loop *l, const cJSON *j, struct err *e)
{
    if (!mem_grow(&l->round, (size_t)l->n_rounds + 1, sizeof *l->round, "the rounds", e))
        return false;
    struct loop_round *r = &l->round[l->n_rounds++];
    *r = (struct loop_round){.n_asked = count(j, "labels"),
                             .n_trained = count(j, "trained"),
                             .n_validate = count(j, "validate"),
                             .n_validate_positive = count(j, "validate_positive"),
#define ROW(name) .name = read_metric(j, #name),
                             LOOP_FIGURES(ROW)
#undef ROW
                                 .trivial_auroc = read_metric(j, "trivial_auroc"),
                             .validate_auroc = number(j, "validate_auroc"),
                             .changed = number(j, "changed"),
                             .steps = (int64_t)count(j, "steps"),
                             .seconds = number(j, "seconds")};
    return true;
}

static bool find_item(const struct loop *l, double fid, size_t *item)
{
    size_t low = 0, high = l->data.set.n; /* ids ascend */
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if ((double)l->data.set.id[mid] < fid)
            low = mid + 1;
        else
            high = mid;
    }
    *item = low;
    return low < l->data.set.n && (double)l->data.set.id[low] == fid;
}

static bool read_ask(struct loop *l, const cJSON *j, const char *path, struct err *e)
{
    struct loop_ask a = {.round = (int)count(j, "round"),
                         .score = number(j, "score"),
                         .validate = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "validate"))};
    const char *why = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "why"));
    snprintf(a.why, sizeof a.why, "%s", why ? why : "");
    if (!find_item(l, number(j, "fid"), &a.item) || l->asked[a.item] || !isfinite(a.score) ||
        l->data.set.split[a.item] != IMAGESET_TRAIN || l->data.set.label[a.item] == IMAGESET_NO_LABEL)
        return err_set(e, ERR_INPUT,
                       "%s: its question %zu fits no building of %s; begin anew with --overwrite", path,
                       l->n_ask + 1, l->o->event);
    if (!mem_grow(&l->ask, l->n_ask + 1, sizeof *l->ask, "the questions", e))
        return false;
    l->ask[l->n_ask++] = a;
    l->asked[a.item] = true;
    return true;
}

bool loop_load(struct loop *l, struct err *e)
{
    char path[4096];
    const cJSON *item;
    if (!loop_path(l, "loop.json", path, e))
        return false;
    char *text = file_read(path, (size_t)64 << 20, NULL, e);
    if (!text)
        return false;
    cJSON *j = cJSON_Parse(text), *own = settings_json(l);
    const cJSON *settings = cJSON_GetObjectItemCaseSensitive(j, "settings");
    bool ok = true;
    free(text);
    if (!settings)
        ok = err_set(e, ERR_INPUT, "%s is no state of a campaign; begin anew with --overwrite", path);
    for (const cJSON *s = own->child; ok && s; s = s->next)
        if (!cJSON_Compare(s, cJSON_GetObjectItemCaseSensitive(settings, s->string), true))
            ok = err_set(e, ERR_USAGE,
                         "%s was begun with another %s; give the same options, or --overwrite to begin anew",
                         path, s->string);
    const cJSON *rounds = cJSON_GetObjectItemCaseSensitive(j, "rounds");
    const cJSON *questions = cJSON_GetObjectItemCaseSensitive(j, "questions");
    for (item = rounds ? rounds->child : NULL; ok && item; item = item->next)
        ok = read_round(l, item, e);
    for (item = questions ? questions->child : NULL; ok && item; item = item->next)
        ok = read_ask(l, item, path, e);
    if (ok && l->n_rounds > 0 && l->round[l->n_rounds - 1].n_asked != l->n_ask)
        ok = err_set(e, ERR_INPUT, "%s: its rounds and questions do not agree; begin anew with --overwrite",
                     path);
    cJSON_Delete(j);
    cJSON_Delete(own);
    return ok;
}

/* ---- tables and plot ---- */

static void csv_number(FILE *f, double v)
{
    putc(',', f);
    if (isfinite(v))
        fprintf(f, "%.6g", v);
}

static void csv_metric(FILE *f, const struct metric *m)
{
    csv_number(f, m->value);
    csv_number(f, m->low);
    csv_number(f, m->high);
}

static bool save_curve(const struct loop *l, struct err *e)
{
    char path[4096];
    struct file_out *out = loop_path(l, "curve.csv", path, e) ? file_out_open(path, e) : NULL;
    if (!out)
        return false;
    FILE *f = file_out_stream(out);
    fputs("strategy,method,seed,round,labels,trained,validate,validate_positive", f);
#define ROW(name) fputs("," #name "," #name "_low," #name "_high", f);
    LOOP_FIGURES(ROW)
#undef ROW
    fputs(",trivial_auroc,trivial_auroc_low,trivial_auroc_high,validate_auroc,changed,steps,seconds\n", f);
    for (int k = 0; k < l->n_rounds; k++) {
        const struct loop_round *r = &l->round[k];
        fprintf(f, "%s,%s,%llu,%d,%zu,%zu,%zu,%zu", l->strategy, l->o->method,
                (unsigned long long)l->common->seed, k, r->n_asked, r->n_trained, r->n_validate,
                r->n_validate_positive);
#define ROW(name) csv_metric(f, &r->name);
        LOOP_FIGURES(ROW)
#undef ROW
        csv_metric(f, &r->trivial_auroc);
        csv_number(f, r->validate_auroc);
        csv_number(f, r->changed);
        fprintf(f, ",%lld,%.1f\n", (long long)r->steps, r->seconds);
    }
    return file_out_commit(out, e);
}

static bool save_questions(const struct loop *l, struct err *e)
{
    char path[4096];
    struct file_out *out = loop_path(l, "questions.csv", path, e) ? file_out_open(path, e) : NULL;
    if (!out)
        return false;
    FILE *f = file_out_stream(out);
    fputs("round,bldg_id,fid,score,why,purpose,answer\n", f);
    for (size_t i = 0; i < l->n_ask; i++) {
        const struct loop_ask *a = &l->ask[i];
        const struct event_building *b = query_building(&l->data, a->item);
        const bool scored = a->round > 0 && !a->validate && l->o->active.strategy.score != ACTIVE_RANDOM;
        fprintf(f, "%d,", a->round);
        query_csv_field(f, b->bldg_id ? b->bldg_id : "");
        fprintf(f, ",%lld,", (long long)b->fid);
        if (scored)
            fprintf(f, "%.6f", a->score);
        fprintf(f, ",%s,%s,%s\n", a->why, a->validate ? "validate" : "train", event_level_name(b->level));
    }
    return file_out_commit(out, e);
}

static bool save_plot(const struct loop *l, struct err *e)
{
    const size_t n = (size_t)l->n_rounds;
    char path[4096], title[256];
    double *v = mem_array(6 * n, sizeof *v, "the plot", e);
    if (!v)
        return false;
    double *labels = v, *y = v + n, *low = v + 2 * n, *high = v + 3 * n, *trivial = v + 4 * n;
    for (size_t k = 0; k < n; k++) {
        const struct loop_round *r = &l->round[k];
        labels[k] = (double)r->n_asked;
        y[k] = r->auroc.value;
        low[k] = r->auroc.low;
        high[k] = r->auroc.high;
        trivial[k] = r->trivial_auroc.value;
    }
    const struct plot_series series[2] = {
        {.name = l->strategy, .n = l->n_rounds, .x = labels, .y = y, .low = low, .high = high},
        {.name = "colour statistics alone", .n = l->n_rounds, .x = labels, .y = trivial, .dashed = true}};
    const struct plot p = {.title = title,
                           .x_label = "graded buildings",
                           .y_label = "AUROC on held-out blocks",
                           .series = series,
                           .n_series = 2};
    snprintf(title, sizeof title, "%s: %s, %d a round", file_base(l->o->event), l->o->method,
             l->o->per_round);
    bool any = false;
    for (size_t k = 0; k < n; k++)
        any |= isfinite(y[k]);
    bool ok = !any || (loop_path(l, "curve.svg", path, e) && plot_write_svg(path, &p, e));
    free(v);
    return ok;
}

bool loop_save(const struct loop *l, struct err *e)
{
    return save_curve(l, e) && save_questions(l, e) && save_plot(l, e) &&
           save_json(l, e); /* last: it is what says that the round is complete */
}

bool loop_print(const struct loop *l, const char *model_path, struct err *e)
{
    if (l->common->json) {
        cJSON *j = loop_json(l);
        cJSON_AddStringToObject(j, "model", model_path);
        return print_json(j, e);
    }
    printf("%5s %7s %6s  %-22s %-8s %s\n", "round", "labels", "blind", "AUROC", "colours", "changed");
    for (int k = 0; k < l->n_rounds; k++) {
        const struct loop_round *r = &l->round[k];
        char changed[16] = "-";
        if (isfinite(r->changed))
            snprintf(changed, sizeof changed, "%.1f %%", 100 * r->changed);
        printf("%5d %7zu %6zu  %.3f [%.3f, %.3f]   %.3f    %s\n", k, r->n_asked, r->n_validate,
               r->auroc.value, r->auroc.low, r->auroc.high, r->trivial_auroc.value, changed);
    }
    printf("%s\n", model_path);
    return flush_stdout(e);
}
