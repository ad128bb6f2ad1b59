/* SPDX-License-Identifier: Apache-2.0
 * cmd_evaluate.c - `aftermap evaluate`: what a map or a model is worth on labels it has not seen
 * (geo/evaluate.h). */
#include "app/command.h"
#include "app/console.h"
#include "geo/evaluate.h"
#include "models/data/imageset.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    KEY_TRUTH = 1,
    KEY_SPLIT,
    KEY_CUT,
    KEY_BOOTSTRAP,
    KEY_RECALL,
    KEY_POINT,
    KEY_LEVEL,
    KEY_TTA,
    KEY_LABELS
};

static const struct argp_option options[] = {
    {"truth", KEY_TRUTH, "EVENT", 0,
     "Event folder with labels, or cifar10:FILE, idx:IMAGES,LABELS, folder:DIR", 1},
    {"labels", KEY_LABELS, "FILE:FIELD", 0,
     "Events: grades from a table with a column bldg_id instead of the event's own", 1},
    {"split", KEY_SPLIT, "NAME", 0, "test, train or all; labels used in training never count (default test)",
     1},
    {"cut", KEY_CUT, "LEVEL", 0, "Damaged means this level or worse (default: the model's)", 1},
    {"operating-point", KEY_POINT, "P", 0, "Damaged from this probability (default 0.5)", 2},
    {"recall", KEY_RECALL, "R", 0, "Report the precision at this recall (default 0.8)", 2},
    {"bootstrap", KEY_BOOTSTRAP, "N", 0,
     "Bootstrap replicates over spatial blocks; 0: no intervals (default 1000)", 2},
    {"level", KEY_LEVEL, "P", 0, "Coverage of the intervals (default 0.95)", 2},
    {"tta", KEY_TTA, "N", 0, "A model as subject: views averaged per chip, 1 or 8 (default 8)", 2},
    {0}};

static void evaluate_cmd_defaults(void *options_)
{
    evaluate_defaults(options_);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct evaluate_options *o = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (o->subject)
            argp_error(state, "one map or model at a time: '%s' is a second one", arg);
        o->subject = arg;
        break;
    case ARGP_KEY_END:
        if (!o->subject || !o->truth)
            argp_error(state, "name a map folder or a model, and the labels with --truth");
        if (o->labels && imageset_is_spec(o->truth))
            argp_error(state, "--labels belongs to events; a plain set has its own");
        break;
    case KEY_TRUTH:
        o->truth = arg;
        break;
    case KEY_LABELS:
        o->labels = arg;
        break;
    case KEY_SPLIT:
        if (strcmp(arg, "test") != 0 && strcmp(arg, "train") != 0 && strcmp(arg, "all") != 0)
            argp_error(state, "--split takes test, train or all, not '%s'", arg);
        o->split = arg;
        break;
    case KEY_CUT:
        o->cut = (int)parse_int(state, "--cut", arg, 1, 3);
        break;
    case KEY_POINT:
        o->metrics.operating_point = parse_real(state, "--operating-point", arg, 0, 1);
        break;
    case KEY_RECALL:
        o->metrics.fixed_recall = parse_real(state, "--recall", arg, 0.01, 1);
        break;
    case KEY_BOOTSTRAP:
        o->metrics.n_bootstrap = (int)parse_int(state, "--bootstrap", arg, 0, 100000);
        break;
    case KEY_LEVEL:
        o->metrics.level = parse_real(state, "--level", arg, 0.5, 0.999);
        break;
    case KEY_TTA:
        o->n_views = (int)parse_int(state, "--tta", arg, 1, 8);
        if (o->n_views != 1 && o->n_views != 8)
            argp_error(state, "--tta takes 1 or 8, not '%s'", arg);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* One row of the report: a figure of the model and of the baseline. */
struct figure {
    const char *name, *label;
    size_t offset;
};

#define FIGURE(name, label)                                                                                  \
    {                                                                                                        \
#name, label, offsetof(struct metrics, name)                                                         \
    }
static const struct figure figures[] = {FIGURE(auroc, "AUROC"),
                                        FIGURE(auprc, "AUPRC"),
                                        FIGURE(f1, "F1"),
                                        FIGURE(precision, "precision"),
                                        FIGURE(recall, "recall"),
                                        FIGURE(precision_at_recall, "precision at fixed recall"),
                                        FIGURE(accuracy, "accuracy"),
                                        FIGURE(balanced_accuracy, "balanced accuracy"),
                                        FIGURE(kappa, "kappa"),
                                        FIGURE(ece, "calibration error (ECE)")};
enum { N_FIGURES = sizeof figures / sizeof *figures };

static const struct metric *figure_of(const struct metrics *m, int i)
{
    return (const struct metric *)((const char *)m + figures[i].offset);
}

static void add_number(cJSON *j, const char *name, double v)
{
    if (isfinite(v))
        cJSON_AddNumberToObject(j, name, v);
    else
        cJSON_AddNullToObject(j, name); /* JSON has no NaN */
}

static void add_figures(cJSON *j, const struct metrics *m)
{
    for (int i = 0; i < N_FIGURES; i++) {
        const struct metric *f = figure_of(m, i);
        cJSON *o = cJSON_AddObjectToObject(j, figures[i].name);
        add_number(o, "value", f->value);
        add_number(o, "low", f->low);
        add_number(o, "high", f->high);
    }
}

static cJSON *report_json(const struct evaluate_options *o, const struct evaluate_report *r)
{
    const struct metrics *m = &r->model;
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "subject", o->subject);
    cJSON_AddStringToObject(j, "truth", o->truth);
    cJSON_AddStringToObject(j, "split", o->split);
    cJSON_AddStringToObject(j, "model", r->model_digest);
    if (r->cut > 0)
        cJSON_AddNumberToObject(j, "cut", r->cut);
    cJSON_AddNumberToObject(j, "n", (double)m->n);
    cJSON_AddNumberToObject(j, "positive", (double)m->n_positive);
    cJSON_AddNumberToObject(j, "blocks", (double)m->n_blocks);
    add_number(j, "operating_point", m->operating_point);
    add_number(j, "fixed_recall", m->fixed_recall);
    cJSON_AddNumberToObject(j, "bootstrap", o->metrics.n_bootstrap);
    cJSON_AddNumberToObject(j, "level", o->metrics.level);
    add_figures(j, m);
    cJSON *classes = cJSON_AddArrayToObject(j, "classes"),
          *confusion = cJSON_AddArrayToObject(j, "confusion");
    for (int i = 0; i < m->n_classes && i < METRICS_MAX_CLASSES; i++) {
        cJSON_AddItemToArray(classes, cJSON_CreateString(r->class_name[i]));
        cJSON *row = cJSON_CreateArray();
        for (int k = 0; k < m->n_classes && k < METRICS_MAX_CLASSES; k++)
            cJSON_AddItemToArray(row, cJSON_CreateNumber((double)m->confusion[i][k]));
        cJSON_AddItemToArray(confusion, row);
    }
    add_figures(cJSON_AddObjectToObject(j, "trivial"), &r->trivial);
    return j;
}

static void print_metric(const struct metric *f)
{
    char interval[32] = "";
    if (isfinite(f->low) && isfinite(f->high))
        snprintf(interval, sizeof interval, "[%.3f, %.3f]", f->low, f->high);
    if (isfinite(f->value))
        printf("  %7.3f %-16s", f->value, interval);
    else
        printf("  %7s %-16s", "-", "");
}

static void print_classes(const struct evaluate_report *r)
{
    const struct metrics *m = &r->model;
    int n = m->n_classes < METRICS_MAX_CLASSES ? m->n_classes : METRICS_MAX_CLASSES;
    printf("\n%-20s %8s %9s %9s   predicted as\n", "class (truth)", "n", "recall", "precision");
    for (int i = 0; i < n; i++) {
        size_t row = 0, column = 0, hit = m->confusion[i][i];
        for (int k = 0; k < n; k++) {
            row += m->confusion[i][k];
            column += m->confusion[k][i];
        }
        printf("%-20s %8zu", r->class_name[i], row);
        row ? printf(" %9.3f", (double)hit / (double)row) : printf(" %9s", "-");
        column ? printf(" %9.3f  ", (double)hit / (double)column) : printf(" %9s  ", "-");
        for (int k = 0; k < n; k++)
            printf(" %6zu", m->confusion[i][k]);
        putchar('\n');
    }
}

static void print_report(const struct evaluate_options *o, const struct evaluate_report *r)
{
    const struct metrics *m = &r->model;
    if (r->cut > 0)
        printf("%s against %s, %s split: %zu buildings (%zu damaged: level %d or worse) in %zu blocks\n\n",
               o->subject, o->truth, o->split, m->n, m->n_positive, r->cut, m->n_blocks);
    else
        printf("%s against %s, %s split: %zu images\n\n", o->subject, o->truth, o->split, m->n);
    printf("%-28s  %-24s  %s\n", "", "model", "colour statistics alone");
    for (int i = 0; i < N_FIGURES; i++) {
        printf("%-28s", figures[i].label);
        print_metric(figure_of(m, i));
        print_metric(figure_of(&r->trivial, i));
        putchar('\n');
    }
    printf("\noperating point %.3g, fixed recall %.3g, %.0f %% intervals from %d block bootstraps\n",
           m->operating_point, m->fixed_recall, 100.0 * o->metrics.level, o->metrics.n_bootstrap);
    print_classes(r);
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct evaluate_options *o = options_;
    struct evaluate_report r = {0};
    o->metrics.seed = common->seed;
    if (common->dry_run)
        return err_set(e, ERR_USAGE, "evaluate writes no files, so --dry-run has no meaning here");
    if (!evaluate_run(o, progress, &r, e))
        return false;
    if (common->json)
        return print_json(report_json(o, &r), e);
    print_report(o, &r);
    return flush_stdout(e);
}

const struct command command_evaluate = {
    .name = "evaluate",
    .args_doc = "DIR|MODEL --truth EVENT|dataset",
    .summary = "Score a map or a model on labels it has not seen",
    .doc = "Reports AUROC, AUPRC, F1 and more, each with a bootstrap interval over spatial blocks, beside a "
           "logistic regression "
           "on mere colour statistics that had the same labels.\v"
           "The score is the probability of damage. Labels that training used never count.\n\n"
           "Example: aftermap evaluate map --truth event --json",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct evaluate_options),
    .defaults = evaluate_cmd_defaults,
    .run = run,
};
