/* SPDX-License-Identifier: Apache-2.0
 *
 * experiment_report.c - what a grid has found so far (experiment.h): a tidy table, means and sample standard
 * deviations over splits and seeds, and a plot a task with what the paper found as hollow diamonds. Cells
 * that are not there yet are simply absent. */
#include "app/experiment.h"

#include "app/plot.h"
#include "app/query.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One row of a result. */
struct row {
    const struct experiment_cell *cell;
    const cJSON *result, *json;
    int labels; /* what a summary groups by: per class, or graded buildings of a campaign */
    double value;
    double trivial;
};

struct rows {
    cJSON **result; /* owned */
    int n_results;
    struct row *row;
    int n;
};

/* Mean over splits and seeds. arm < 0: the colour statistics. */
struct group {
    int task, arm, labels, n;
    double mean, deviation, published, published_deviation, seconds;
};

struct summary {
    struct group *group;
    int n;
};

static const cJSON *get(const cJSON *j, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(j, key);
}

static double number_of(const cJSON *j)
{
    return cJSON_IsNumber(j) ? j->valuedouble : NAN;
}

/* ---- gathering ---- */

static double trivial_of(const cJSON *row, const char *metric)
{
    const cJSON *f = get(row, "trivial");
    if (strcmp(metric, "error") == 0)
        return 1 - number_of(get(get(f, "accuracy"), "value"));
    return number_of(get(get(f, metric), "value"));
}

static bool gather(const struct experiment *x, struct rows *r, struct err *e)
{
    *r = (struct rows){.result = mem_array((size_t)x->n_cells, sizeof *r->result, "the results", e)};
    for (int i = 0; r->result && i < x->n_cells; i++) {
        bool differs;
        const struct experiment_cell *c = &x->cell[i];
        cJSON *j = experiment_result(x, c, &differs);
        if (!j)
            continue;
        r->result[r->n_results++] = j;
        for (const cJSON *k = get(j, "rows") ? get(j, "rows")->child : NULL; k; k = k->next) {
            if (!mem_grow(&r->row, (size_t)r->n + 1, sizeof *r->row, "the results", e))
                return false;
            const double total = number_of(get(k, "labels"));
            r->row[r->n++] = (struct row){.cell = c,
                                          .result = j,
                                          .json = k,
                                          .labels = x->has_loops ? (int)total : c->labels,
                                          .value = experiment_figure(k, x->metric),
                                          .trivial = trivial_of(k, x->metric)};
        }
    }
    return r->result;
}

static void rows_free(struct rows *r)
{
    for (int i = 0; i < r->n_results; i++)
        cJSON_Delete(r->result[i]);
    free(r->result);
    free(r->row);
}

/* What the paper found: entries {labels, value, deviation, task} of the arm; without a task they hold for
 * every one. */
static double published(const struct experiment *x, int task, int arm, int labels, double *deviation)
{
    const cJSON *list = x->arm[arm].published;
    *deviation = NAN;
    for (const cJSON *i = list ? list->child : NULL; i; i = i->next) {
        const char *name = cJSON_GetStringValue(get(i, "task")),
                   *word = cJSON_GetStringValue(get(i, "labels"));
        const double n = word ? EXPERIMENT_ALL : number_of(get(i, "labels"));
        if ((name && strcmp(name, x->task[task].name) != 0) || n != (double)labels)
            continue;
        *deviation = number_of(get(i, "deviation"));
        return number_of(get(i, "value"));
    }
    return NAN;
}

static void group_rows(const struct experiment *x, const struct rows *r, struct group *g)
{
    double sum = 0, squares = 0;
    g->n = 0;
    g->seconds = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < r->n; i++) {
            const struct row *w = &r->row[i];
            const char *arm = x->arm[w->cell->arm].name;
            const bool ours =
                g->arm >= 0 ? w->cell->arm == g->arm : x->trivial_arm && strcmp(arm, x->trivial_arm) == 0;
            const double v = g->arm >= 0 ? w->value : w->trivial;
            if (!ours || w->cell->task != g->task || w->labels != g->labels || !isfinite(v))
                continue;
            if (pass == 0) {
                sum += v;
                g->n++;
                g->seconds += number_of(get(w->result, "seconds"));
            } else
                squares += (v - sum / g->n) * (v - sum / g->n);
        }
    g->mean = g->n ? sum / g->n : NAN;
    g->deviation = g->n > 1 ? sqrt(squares / (g->n - 1)) : NAN;
    g->seconds = g->n ? g->seconds / g->n : NAN;
    g->published = g->arm >= 0 ? published(x, g->task, g->arm, g->labels, &g->published_deviation) : NAN;
    if (g->arm < 0)
        g->published_deviation = NAN;
}

static int compare_groups(const void *a, const void *b)
{
    const struct group *p = a, *q = b;
    if (p->task != q->task)
        return p->task - q->task;
    if (p->arm != q->arm)
        return p->arm - q->arm;
    const unsigned low = (unsigned)p->labels, high = (unsigned)q->labels; /* all = -1 comes last */
    return low < high ? -1 : low > high;
}

static bool summarise(const struct experiment *x, const struct rows *r, struct summary *s, struct err *e)
{
    *s = (struct summary){0};
    for (int i = 0; i < r->n; i++)
        for (int trivial = 0; trivial < 2; trivial++) {
            struct group g = {.task = r->row[i].cell->task,
                              .arm = trivial ? -1 : r->row[i].cell->arm,
                              .labels = r->row[i].labels};
            bool there = false;
            for (int k = 0; k < s->n && !there; k++)
                there = compare_groups(&s->group[k], &g) == 0;
            if (there)
                continue;
            group_rows(x, r, &g);
            if (g.n == 0)
                continue;
            if (!mem_grow(&s->group, (size_t)s->n + 1, sizeof *s->group, "the summary", e))
                return false;
            s->group[s->n++] = g;
        }
    if (s->n)
        qsort(s->group, (size_t)s->n, sizeof *s->group, compare_groups);
    return true;
}

static const char *arm_name(const struct experiment *x, int arm)
{
    return arm < 0 ? "colour statistics" : x->arm[arm].name;
}

static void labels_text(int labels, char out[16])
{
    labels == EXPERIMENT_ALL ? snprintf(out, 16, "all") : snprintf(out, 16, "%d", labels);
}

/* ---- tables ---- */

static void csv_number(FILE *f, double v)
{
    putc(',', f);
    if (isfinite(v))
        fprintf(f, "%.6g", v);
}

static void csv_text(FILE *f, const char *s)
{
    putc(',', f);
    query_csv_field(f, s ? s : "");
}

/* "tau=0.95 without=strong": the arm's own options and the general ones. */
static char *options_text(const cJSON *options)
{
    char *text = cJSON_PrintUnformatted(options);
    return text;
}

static void csv_sources(FILE *f, const struct experiment *x, const struct experiment_cell *c)
{
    char all[512] = "";
    const struct experiment_task *t = &x->task[c->task];
    size_t at = 0;
    for (int i = 0; x->arm[c->arm].with_sources && i < t->n_sources && at < sizeof all; i++)
        at += (size_t)snprintf(all + at, sizeof all - at, "%s%s", i ? " " : "", t->source[i]);
    csv_text(f, all);
}

static bool csv_row(FILE *f, const struct experiment *x, const struct row *w, struct err *e)
{
    const struct experiment_cell *c = w->cell;
    const struct experiment_arm *a = &x->arm[c->arm];
    const char *method = cJSON_GetStringValue(get(a->options, "method"));
    char labels[16], *options = options_text(a->options);
    double deviation, paper = published(x, c->task, c->arm, w->labels, &deviation);
    if (!options)
        return err_set(e, ERR_RESOURCE, "not enough memory for the results");
    labels_text(c->labels, labels);
    query_csv_field(f, x->name);
    csv_text(f, x->task[c->task].name);
    csv_text(f, a->name);
    csv_text(f, method ? method : "fixmatch");
    csv_text(f, x->task[c->task].target);
    csv_sources(f, x, c);
    csv_text(f, options);
    cJSON_free(options);
    csv_text(f, a->is_loop ? "" : labels);
    csv_number(f, number_of(get(w->json, "labels")));
    fprintf(f, ",%d,%llu", c->split, (unsigned long long)c->seed);
    csv_number(f, number_of(get(w->json, "round")));
    csv_number(f, number_of(get(w->json, "steps")));
    csv_text(f, x->metric);
    csv_number(f, w->value);
    fprintf(f, ",%d", cJSON_GetArraySize(get(w->json, "checkpoints")) + 1);
#define ROW(name)                                                                                            \
    {                                                                                                        \
        const cJSON *m = get(get(w->json, "figures"), #name);                                                \
        csv_number(f, number_of(get(m, "value")));                                                           \
        csv_number(f, number_of(get(m, "low")));                                                             \
        csv_number(f, number_of(get(m, "high")));                                                            \
    }
    EXPERIMENT_FIGURES(ROW)
#undef ROW
    csv_number(f, w->trivial);
    csv_number(f, paper);
    csv_number(f, deviation);
    csv_number(f, number_of(get(w->result, "seconds")));
    csv_text(f, cJSON_GetStringValue(get(w->result, "version")));
    csv_text(f, cJSON_GetStringValue(get(w->result, "digest")));
    putc('\n', f);
    return true;
}

static struct file_out *open_file(const struct experiment *x, const char *name, struct err *e)
{
    char path[4096];
    return file_join(path, sizeof path, x->dir, name, e) ? file_out_open(path, e) : NULL;
}

static bool save_results(const struct experiment *x, const struct rows *r, struct err *e)
{
    struct file_out *out = open_file(x, "results.csv", e);
    if (!out)
        return false;
    FILE *f = file_out_stream(out);
    fputs("experiment,task,arm,method,target,sources,options,labels_per_class,labels,split,seed,round,steps,"
          "metric,value,checkpoints",
          f);
#define ROW(name) fputs("," #name "," #name "_low," #name "_high", f);
    EXPERIMENT_FIGURES(ROW)
#undef ROW
    fputs(",trivial,published,published_deviation,seconds,version,digest\n", f);
    for (int i = 0; i < r->n; i++)
        if (!csv_row(f, x, &r->row[i], e)) {
            file_out_abort(out);
            return false;
        }
    return file_out_commit(out, e);
}

static bool save_summary(const struct experiment *x, const struct summary *s, struct err *e)
{
    struct file_out *out = open_file(x, "summary.csv", e);
    if (!out)
        return false;
    FILE *f = file_out_stream(out);
    fputs("experiment,task,arm,labels,metric,n,mean,deviation,published,published_deviation,seconds\n", f);
    for (int i = 0; i < s->n; i++) {
        const struct group *g = &s->group[i];
        char labels[16];
        labels_text(g->labels, labels);
        query_csv_field(f, x->name);
        csv_text(f, x->task[g->task].name);
        csv_text(f, arm_name(x, g->arm));
        fprintf(f, ",%s,%s,%d", labels, x->metric, g->n);
        csv_number(f, g->mean);
        csv_number(f, g->deviation);
        csv_number(f, g->published);
        csv_number(f, g->published_deviation);
        csv_number(f, g->seconds);
        putc('\n', f);
    }
    return file_out_commit(out, e);
}

/* ---- plots ---- */

struct drawing {
    const struct experiment *x;
    const struct summary *s;
    int task;
    double low, high; /* label counts of the task */
    bool one_count;   /* a single one: arms side by side instead of lines */
    bool has_none, has_marks;
    double *v; /* pool of numbers */
    size_t used;
    struct plot_series series[PLOT_MAX_SERIES];
    int n;
};

static void find_range(struct drawing *d)
{
    d->low = INFINITY;
    d->high = -INFINITY;
    for (int i = 0; i < d->s->n; i++) {
        const struct group *g = &d->s->group[i];
        if (g->task != d->task)
            continue;
        d->has_marks |= isfinite(g->published);
        if (g->labels == EXPERIMENT_ALL)
            continue;
        d->has_none |= g->labels == 0;
        d->low = fmin(d->low, g->labels);
        d->high = fmax(d->high, g->labels);
    }
    d->one_count = !(d->high > d->low);
}

/* Points of an arm; all labels alone become a level line over the whole range. */
static void add_series(struct drawing *d, int arm)
{
    const int first = d->n, column = first + 1;
    int n = 0;
    double *x = d->v + d->used, *y = x + d->s->n + 1, *low = y + d->s->n + 1, *high = low + d->s->n + 1,
           *mark = high + d->s->n + 1;
    bool is_level = false;
    for (int i = 0; i < d->s->n; i++) {
        const struct group *g = &d->s->group[i];
        if (g->task != d->task || g->arm != arm)
            continue;
        if (g->labels == EXPERIMENT_ALL && !d->one_count && n > 0)
            continue; /* beside the counts there is no place for it on this axis */
        is_level = g->labels == EXPERIMENT_ALL && !d->one_count;
        for (int k = 0; k < (is_level ? 2 : 1); k++, n++) {
            x[n] = d->one_count ? column : is_level ? (k ? d->high : d->low) : g->labels;
            y[n] = g->mean;
            low[n] = g->mean - g->deviation;
            high[n] = g->mean + g->deviation;
            mark[n] = g->published;
        }
    }
    if (n == 0 || d->n == PLOT_MAX_SERIES)
        return;
    d->used += 5 * ((size_t)d->s->n + 1);
    d->series[d->n++] = (struct plot_series){.name = arm_name(d->x, arm),
                                             .n = n,
                                             .x = x,
                                             .y = y,
                                             .low = low,
                                             .high = high,
                                             .mark = mark,
                                             .dashed = is_level || arm < 0};
}

static bool save_plot(const struct experiment *x, const struct summary *s, int task, struct err *e)
{
    struct drawing d = {.x = x, .s = s, .task = task};
    char path[4096], name[300], title[300], y_label[100];
    find_range(&d);
    d.v = mem_array(((size_t)s->n + 1) * 5 * ((size_t)x->n_arms + 1), sizeof *d.v, "the plot", e);
    if (!d.v)
        return false;
    for (int a = 0; a < x->n_arms; a++)
        add_series(&d, a);
    add_series(&d, -1);
    snprintf(title, sizeof title, "%s: %s", x->title, x->task[task].name);
    snprintf(y_label, sizeof y_label, "%s on held-out %s", x->metric,
             strcmp(x->metric, "auroc") == 0 ? "blocks" : "items");
    const struct plot p = {.title = x->n_tasks > 1 ? title : x->title,
                           .x_label = d.one_count    ? "arm, in the legend's order"
                                      : x->has_loops ? "graded buildings"
                                                     : "labels per class",
                           .y_label = y_label,
                           .mark_label = d.has_marks ? "published" : NULL,
                           .log_x = !d.one_count && !d.has_none && d.low > 0 && d.high >= 4 * d.low,
                           .series = d.series,
                           .n_series = d.n};
    bool any = false;
    for (int i = 0; i < s->n; i++)
        any |= s->group[i].task == task && isfinite(s->group[i].mean);
    snprintf(name, sizeof name, "%.200s.svg", x->task[task].name);
    for (char *c = name; *c; c++)
        if (*c == '/' || (unsigned char)*c <= ' ')
            *c = '-';
    bool ok = !any || (file_join(path, sizeof path, x->dir, name, e) && plot_write_svg(path, &p, e));
    free(d.v);
    return ok;
}

/* ---- the summary in words ---- */

static cJSON *summary_json(const struct experiment *x, const struct summary *s)
{
    cJSON *j = cJSON_CreateObject(), *list;
    cJSON_AddStringToObject(j, "experiment", x->name);
    cJSON_AddStringToObject(j, "title", x->title);
    cJSON_AddStringToObject(j, "metric", x->metric);
    list = cJSON_AddArrayToObject(j, "summary");
    for (int i = 0; i < s->n; i++) {
        const struct group *g = &s->group[i];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "task", x->task[g->task].name);
        cJSON_AddStringToObject(o, "arm", arm_name(x, g->arm));
        if (g->labels == EXPERIMENT_ALL)
            cJSON_AddStringToObject(o, "labels", "all");
        else
            cJSON_AddNumberToObject(o, "labels", g->labels);
        cJSON_AddNumberToObject(o, "n", g->n);
        const double v[] = {g->mean, g->deviation, g->published, g->published_deviation, g->seconds};
        static const char *const names[] = {"mean", "deviation", "published", "published_deviation",
                                            "seconds"};
        for (size_t k = 0; k < sizeof v / sizeof *v; k++)
            isfinite(v[k]) ? cJSON_AddNumberToObject(o, names[k], v[k]) : cJSON_AddNullToObject(o, names[k]);
        cJSON_AddItemToArray(list, o);
    }
    return j;
}

static void print_pair(double mean, double deviation)
{
    char text[40] = "-";
    if (isfinite(mean) && isfinite(deviation))
        snprintf(text, sizeof text, "%.4f (%.4f)", mean, deviation);
    else if (isfinite(mean))
        snprintf(text, sizeof text, "%.4f", mean);
    printf("  %-17s", text);
}

static void print_summary(const struct experiment *x, const struct summary *s)
{
    for (int i = 0; i < s->n; i++) {
        const struct group *g = &s->group[i];
        char labels[16];
        if (i == 0 || s->group[i - 1].task != g->task)
            printf("%s%s\n%-28s %7s %3s  %-17s  %-17s %s\n", i ? "\n" : "", x->task[g->task].name, "arm",
                   "labels", "n", x->metric, "published", "seconds");
        labels_text(g->labels, labels);
        printf("%-28s %7s %3d", arm_name(x, g->arm), labels, g->n);
        print_pair(g->mean, g->deviation);
        print_pair(g->published, g->published_deviation);
        printf(" %.0f\n", g->seconds);
    }
}

bool experiment_report(const struct experiment *x, const struct common *common, bool print, struct err *e)
{
    struct rows r;
    struct summary s = {0};
    bool ok = gather(x, &r, e) && summarise(x, &r, &s, e) && save_results(x, &r, e) && save_summary(x, &s, e);
    for (int t = 0; ok && t < x->n_tasks; t++)
        ok = save_plot(x, &s, t, e);
    if (ok && print && common->json)
        ok = print_json(summary_json(x, &s), e);
    else if (ok && print) {
        print_summary(x, &s);
        ok = flush_stdout(e);
    }
    free(s.group);
    rows_free(&r);
    return ok;
}
