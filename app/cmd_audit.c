/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_audit.c - `aftermap audit`: what an outsider could rebuild of a model of one's own by asking it, and which
 * settings of the service that answers lower that. Each combination of a number of queries, a setting and a way to
 * learn is tried out: a copy is trained on the answers (models/learn/extraction_learn.h) and compared with the model
 * on held-out images. Only model files are asked, never another's service. */
#include "app/command.h"
#include "app/console.h"
#include "app/model_set.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    KEY_IMAGES = 1,
    KEY_QUERIES,
    KEY_ANSWERS,
    KEY_METHOD,
    KEY_PRESET,
    KEY_STEPS,
    KEY_BUDGET,
    KEY_BATCH,
    KEY_RATE,
    KEY_MAX_ITEMS,
    KEY_MAX_QUERIES,
    KEY_NO_MIRROR
};

enum { MAX_LIST = 8, MAX_CELLS = MAX_LIST * MAX_LIST * MAX_LIST };

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "What the outsider has", 1},
    {"images", KEY_IMAGES, "EVENT|SET", 0,
     "Images like the model's own, whose labels the outsider does not know: an event folder or a plain set",
     1},
    {"queries", KEY_QUERIES, "N[,N...]", 0, "Images asked about (default 250)", 1},
    {"max-queries", KEY_MAX_QUERIES, "N", 0, "Let the whole audit ask no more than N times", 1},
    {"method", KEY_METHOD, "NAME[,NAME]", 0, "Learns the copy: mixmatch (the default), supervised, fixmatch",
     1},
    {"preset", KEY_PRESET, "NET", 0,
     "Network of the copy (default: the model's own, the outsider's best case)", 1},
    {"steps", KEY_STEPS, "N", 0, "Updates of each copy", 1},
    {"budget", KEY_BUDGET, "TIME", 0, "Or time for each copy: 90s, 5m (default 1m)", 1},
    {"batch", KEY_BATCH, "B", 0, "Asked images a step", 1},
    {"no-mirror", KEY_NO_MIRROR, NULL, 0, "Plain images: no mirror images (digits)", 1},
    {NULL, 0, NULL, 0, "Settings of the service", 2},
    {"answers", KEY_ANSWERS, "HOW[,HOW...]", 0,
     "full (probabilities as they are), a number of decimals such as 3, or label (top-1 only); default "
     "full,3,label. The others are compared with the first",
     2},
    {"rate", KEY_RATE, "N", 0, "Queries a minute that the service allows one client (default 60)", 2},
    {"max-items", KEY_MAX_ITEMS, "N", 0, "Events: hold at most N unlabelled chips in memory (default 20000)",
     3},
    {0}};

struct audit_cmd {
    const char *model, *images, *preset;
    long long queries[MAX_LIST];
    struct extraction_exposure exposure[MAX_LIST];
    char method[MAX_LIST][16];
    int n_queries, n_exposures, n_methods, batch;
    int64_t steps, max_queries;
    double budget_s, rate;
    size_t max_items;
    bool no_mirror;
};

static void audit_defaults(void *options_)
{
    struct audit_cmd *c = options_;
    c->rate = 60;
    c->max_items = 20000;
}

/* Calls take() for each part of a list. */
static void each(struct audit_cmd *c, const char *option, const char *arg, struct argp_state *state, int *n,
                 void (*take)(struct audit_cmd *, int, const char *, struct argp_state *))
{
    char one[32];
    *n = 0;
    for (const char *at = arg; at; ++*n) {
        const size_t length = strcspn(at, ",");
        if (*n == MAX_LIST || length == 0 || length >= sizeof one)
            argp_error(state, "%s takes one to %d words separated by commas, not '%s'", option, MAX_LIST,
                       arg);
        snprintf(one, sizeof one, "%.*s", (int)length, at);
        take(c, *n, one, state);
        at = at[length] ? at + length + 1 : NULL;
    }
}

static void take_queries(struct audit_cmd *c, int i, const char *one, struct argp_state *state)
{
    c->queries[i] = parse_int(state, "--queries", one, 1, 100000000);
}

static void take_answers(struct audit_cmd *c, int i, const char *one, struct argp_state *state)
{
    c->exposure[i] = (struct extraction_exposure){.decimals = -1};
    if (strcmp(one, "label") == 0)
        c->exposure[i].label_only = true;
    else if (strcmp(one, "full") != 0)
        c->exposure[i].decimals = (int)parse_int(state, "--answers (full, label or decimals)", one, 1, 9);
}

static void take_method(struct audit_cmd *c, int i, const char *one, struct argp_state *state)
{
    if (strcmp(one, "mixmatch") != 0 && strcmp(one, "supervised") != 0 && strcmp(one, "fixmatch") != 0)
        argp_error(state, "--method takes mixmatch, supervised or fixmatch, not '%s'", one);
    snprintf(c->method[i], sizeof c->method[i], "%s", one);
}

static void parse_end(struct audit_cmd *c, struct argp_state *state)
{
    if (!c->model)
        argp_error(state, "name the model to audit");
    if (strstr(c->model, "://"))
        argp_error(
            state,
            "'%s' is an address; audit asks a model file of yours, with --answers as its service gives them. "
            "aftermap serve predicts no single images, so there is nothing there to ask",
            c->model);
    if (!c->images)
        argp_error(state, "name images to ask about with --images");
    if (c->steps > 0 && c->budget_s > 0)
        argp_error(state, "--steps and --budget exclude each other");
    if (c->n_queries == 0)
        each(c, "--queries", "250", state, &c->n_queries, take_queries);
    if (c->n_exposures == 0)
        each(c, "--answers", "full,3,label", state, &c->n_exposures, take_answers);
    if (c->n_methods == 0)
        each(c, "--method", "mixmatch", state, &c->n_methods, take_method);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct audit_cmd *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->model)
            argp_error(state, "one model at a time: '%s' is a second one", arg);
        c->model = arg;
        break;
    case ARGP_KEY_END:
        parse_end(c, state);
        break;
    case KEY_IMAGES:
        c->images = arg;
        break;
    case KEY_QUERIES:
        each(c, "--queries", arg, state, &c->n_queries, take_queries);
        break;
    case KEY_ANSWERS:
        each(c, "--answers", arg, state, &c->n_exposures, take_answers);
        break;
    case KEY_METHOD:
        each(c, "--method", arg, state, &c->n_methods, take_method);
        break;
    case KEY_MAX_QUERIES:
        c->max_queries = parse_int(state, "--max-queries", arg, 1, 1000000000);
        break;
    case KEY_PRESET:
        c->preset = arg;
        break;
    case KEY_STEPS:
        c->steps = parse_int(state, "--steps", arg, 1, 100000000);
        break;
    case KEY_BUDGET:
        c->budget_s = parse_duration(state, "--budget", arg);
        break;
    case KEY_BATCH:
        c->batch = (int)parse_int(state, "--batch", arg, 2, 4096);
        break;
    case KEY_RATE:
        c->rate = parse_real(state, "--rate", arg, 1e-3, 1e6);
        break;
    case KEY_MAX_ITEMS:
        c->max_items = (size_t)parse_int(state, "--max-items", arg, 1, 100000000);
        break;
    case KEY_NO_MIRROR:
        c->no_mirror = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- the audit ---- */

struct cell {
    int queries, exposure, method; /* indices in the lists */
    struct extraction_score score;
    double seconds;
    int64_t steps;
};

struct audit {
    const struct audit_cmd *c;
    struct model_set m;
    float *answers, *copy;   /* [n_test,n_classes]: the model's own, a copy's */
    double constant, colour; /* fidelity of always saying one label, and of the colour baseline */
    double accuracy;         /* of the model itself */
    struct cell cell[MAX_CELLS];
    int n_cells;
};

static const char *exposure_name(const struct extraction_exposure *x, char out[24])
{
    if (x->label_only)
        return "label only";
    if (x->decimals < 0)
        return "full";
    snprintf(out, 24, "%d decimals", x->decimals);
    return out;
}

/* What needs no query at all: the floor that a copy has to be measured against. */
static bool measure_floor(struct audit *a, struct err *e)
{
    const size_t k = (size_t)a->m.set.n_classes, side = (size_t)a->m.set.layout.size,
                 image = side * side * (size_t)imageset_stored_channels(&a->m.set.layout);
    size_t count[METHOD_MAX_CLASSES] = {0}, most = 0;
    a->answers = mem_array(a->m.n_test, k * sizeof *a->answers, "the answers", e);
    a->copy = a->answers ? mem_array(a->m.n_test, k * sizeof *a->copy, "the answers", e) : NULL;
    double ms;
    if (!a->copy || !model_set_predict(&a->m, a->c->model, 1, a->answers, &ms, NULL, e))
        return false;
    for (size_t i = 0; i < a->m.n_test; i++) {
        count[extraction_label(a->answers + i * k, (int)k)]++;
        model_trivial(a->m.model, a->m.set.px + (size_t)a->m.test[i] * image, a->copy + i * k);
    }
    for (size_t i = 0; i < k; i++)
        most = count[i] > most ? count[i] : most;
    a->constant = (double)most / (double)a->m.n_test;
    a->colour = extraction_score(a->copy, a->answers, a->m.truth, a->m.n_test, (int)k).fidelity;
    a->accuracy = extraction_score(a->answers, a->answers, a->m.truth, a->m.n_test, (int)k).accuracy;
    return true;
}

static bool settle(const struct audit *a, const struct cell *cell, const struct common *common,
                   struct extraction_learn_options *o, struct err *e)
{
    const struct audit_cmd *c = a->c;
    struct net_config net = {0};
    const char *own = model_meta(a->m.model, "net.preset"), *preset = c->preset ? c->preset
                                                                      : own     ? own
                                                                                : "lite";
    struct train_config *t = &o->config;
    if (!train_defaults(t, c->method[cell->method], a->m.ev == NULL, e) ||
        !net_config_preset(&net, preset, e))
        return false;
    net.size = a->m.set.layout.size;
    net.c_in = imageset_input_channels(&a->m.set.layout);
    net.n_classes = a->m.set.n_classes;
    if (!net_config_check(&net, e))
        return err_prefix(e, "%s on %s", preset, c->images);
    t->preset = preset;
    t->seed = common->seed;
    t->steps = c->steps;
    t->budget_s = c->steps > 0 ? 0 : c->budget_s > 0 ? c->budget_s : 60;
    t->batch = c->batch > 0 ? c->batch : t->batch;
    t->mirror = t->mirror && !c->no_mirror;
    o->n_queries = (size_t)c->queries[cell->queries];
    o->exposure = c->exposure[cell->exposure];
    return true;
}

static bool run_cell(struct audit *a, struct cell *cell, struct extraction_box *box, const char *path,
                     const struct common *common, const struct progress *progress, struct err *e)
{
    struct extraction_learn_options o = {.resume = false};
    struct train_report r = {0};
    char name[24];
    double ms;
    bool ok = settle(a, cell, common, &o, e) &&
              extraction_learn(&a->m.set, box, &o, path, NULL, 0, progress, &r, e) &&
              model_set_predict(&a->m, path, 1, a->copy, &ms, NULL, e);
    unlink(path); /* a copy is a means to a figure */
    if (!ok) {
        if (e->code == ERR_INTERRUPTED)
            return err_set(e, ERR_INTERRUPTED, "stopped; an audit keeps no copy, so it starts anew");
        return err_prefix(e, "%lld queries, %s, %s", a->c->queries[cell->queries],
                          exposure_name(&o.exposure, name), a->c->method[cell->method]);
    }
    cell->score = extraction_score(a->copy, a->answers, a->m.truth, a->m.n_test, a->m.set.n_classes);
    cell->seconds = r.seconds;
    cell->steps = r.steps;
    console_say("%lld queries, %s, %s: fidelity %.3f after %.0f s", a->c->queries[cell->queries],
                exposure_name(&o.exposure, name), a->c->method[cell->method], cell->score.fidelity,
                r.seconds);
    return true;
}

/* ---- what it means ---- */

static double minutes(const struct audit *a, int queries)
{
    return (double)a->c->queries[queries] / a->c->rate;
}

/* Best fidelity over methods; NAN where there is none. */
static double best(const struct audit *a, int queries, int exposure)
{
    double top = NAN;
    for (int i = 0; i < a->n_cells; i++)
        if (a->cell[i].queries == queries && a->cell[i].exposure == exposure)
            top = fmax(top, a->cell[i].score.fidelity);
    return top;
}

/* How much of what lies between the floor and a perfect copy an outsider gets. */
static double stolen(const struct audit *a, double fidelity)
{
    const double floor = fmax(a->constant, a->colour);
    return floor < 1 ? fmax(0, (fidelity - floor) / (1 - floor)) : 0;
}

/* Of a difference of two fidelities, were the held-out images independent. */
static double deviation(const struct audit *a, double fidelity)
{
    return sqrt(2 * fidelity * (1 - fidelity) / (double)a->m.n_test);
}

static const char direct_text[] = "Direct recovery of the weights does not apply: there are convolutions and "
                                  "batch norm before the last layer, and "
                                  "inputs are 8-bit samples. That is no proof of safety.";

static const char advice_text[] = "Answer with the class and probabilities of at most three decimals, never "
                                  "with logits or unrounded numbers; "
                                  "allow each key as few queries as its work takes, and log them.";

static void setting_json(const struct audit *a, cJSON *list, int q, int x)
{
    char name[24];
    cJSON *j = cJSON_CreateObject();
    cJSON_AddNumberToObject(j, "queries", (double)a->c->queries[q]);
    cJSON_AddStringToObject(j, "answers", exposure_name(&a->c->exposure[x], name));
    cJSON_AddNumberToObject(j, "fidelity", best(a, q, x));
    cJSON_AddNumberToObject(j, "stolen", stolen(a, best(a, q, x)));
    cJSON_AddNumberToObject(j, "lowers_fidelity_by", best(a, q, 0) - best(a, q, x));
    cJSON_AddNumberToObject(j, "deviation", deviation(a, best(a, q, 0)));
    cJSON_AddNumberToObject(j, "minutes_at_rate", minutes(a, q));
    cJSON_AddItemToArray(list, j);
}

static cJSON *audit_json(const struct audit *a, const struct extraction_box *box)
{
    char name[24];
    cJSON *j = cJSON_CreateObject(), *rows, *settings;
    cJSON_AddStringToObject(j, "kind", "extraction audit");
    cJSON_AddStringToObject(j, "model", a->c->model);
    cJSON_AddStringToObject(j, "digest", model_digest(a->m.model));
    cJSON_AddStringToObject(j, "images", a->c->images);
    cJSON_AddNumberToObject(j, "tested", (double)a->m.n_test);
    cJSON_AddNumberToObject(j, "asked", (double)box->n_asked);
    if (isfinite(a->accuracy))
        cJSON_AddNumberToObject(j, "model_accuracy", a->accuracy);
    cJSON_AddNumberToObject(j, "fidelity_of_one_label", a->constant);
    cJSON_AddNumberToObject(j, "fidelity_of_colours", a->colour);
    cJSON_AddNumberToObject(j, "rate_per_minute", a->c->rate);
    rows = cJSON_AddArrayToObject(j, "copies");
    for (int i = 0; i < a->n_cells; i++) {
        const struct cell *cell = &a->cell[i];
        cJSON *row = cJSON_CreateObject();
        cJSON_AddNumberToObject(row, "queries", (double)a->c->queries[cell->queries]);
        cJSON_AddStringToObject(row, "answers", exposure_name(&a->c->exposure[cell->exposure], name));
        cJSON_AddStringToObject(row, "method", a->c->method[cell->method]);
        cJSON_AddNumberToObject(row, "fidelity", cell->score.fidelity);
        if (isfinite(cell->score.accuracy))
            cJSON_AddNumberToObject(row, "accuracy", cell->score.accuracy);
        cJSON_AddNumberToObject(row, "steps", (double)cell->steps);
        cJSON_AddNumberToObject(row, "seconds", cell->seconds);
        cJSON_AddItemToArray(rows, row);
    }
    settings = cJSON_AddArrayToObject(j, "settings");
    for (int q = 0; q < a->c->n_queries; q++)
        for (int x = 0; x < a->c->n_exposures; x++)
            setting_json(a, settings, q, x);
    cJSON_AddStringToObject(j, "direct", direct_text);
    cJSON_AddStringToObject(j, "advice", advice_text);
    return j;
}

static bool print_audit(const struct audit *a, struct err *e)
{
    char name[24];
    printf("%s on %s, %zu held-out images", a->c->model, a->c->images, a->m.n_test);
    if (isfinite(a->accuracy))
        printf("; its own accuracy is %.3f", a->accuracy);
    printf("\nWithout one query: always the same label agrees on %.3f, colours alone on %.3f.\n\n",
           a->constant, a->colour);
    printf("%8s  %-12s %-11s %8s %8s\n", "queries", "answers", "copied by", "fidelity", "accuracy");
    for (int i = 0; i < a->n_cells; i++) {
        const struct cell *cell = &a->cell[i];
        printf("%8lld  %-12s %-11s %8.3f", a->c->queries[cell->queries],
               exposure_name(&a->c->exposure[cell->exposure], name), a->c->method[cell->method],
               cell->score.fidelity);
        if (isfinite(cell->score.accuracy))
            printf(" %8.3f", cell->score.accuracy);
        putchar('\n');
    }
    putchar('\n');
    for (int q = 0; q < a->c->n_queries; q++) {
        printf("%lld queries take an outsider %.3g minutes at %g a minute", a->c->queries[q], minutes(a, q),
               a->c->rate);
        printf(" and give %.0f %% of what there is to copy.\n", 100 * stolen(a, best(a, q, 0)));
        for (int x = 1; x < a->c->n_exposures; x++) {
            const double less = best(a, q, 0) - best(a, q, x), doubt = 2 * deviation(a, best(a, q, 0));
            printf("  %s", exposure_name(&a->c->exposure[x], name));
            printf(" instead of %s", exposure_name(&a->c->exposure[0], name));
            if (less > fmax(0.01, doubt))
                printf(": fidelity falls by %.3f.\n", less);
            else
                printf(": no protection that shows (fidelity falls by %.3f, +-%.3f).\n", less, doubt);
        }
    }
    printf("\n%s\n%s\n", direct_text, advice_text);
    return flush_stdout(e);
}

static bool plan(struct audit *a, struct err *e)
{
    const struct audit_cmd *c = a->c;
    size_t n_train = 0;
    for (size_t i = 0; i < a->m.set.n; i++)
        n_train += a->m.set.split[i] == IMAGESET_TRAIN;
    for (int q = 0; q < c->n_queries; q++) {
        if ((size_t)c->queries[q] > n_train)
            return err_set(
                e, ERR_INPUT,
                "%s: %lld queries are wanted, but its training split has %zu images; ask for fewer",
                c->images, c->queries[q], n_train);
        for (int x = 0; x < c->n_exposures; x++)
            for (int m = 0; m < c->n_methods; m++)
                a->cell[a->n_cells++] = (struct cell){.queries = q, .exposure = x, .method = m};
    }
    return true;
}

/* A name of this process's own in the temporary folder. */
static bool temp_path(char path[4096], struct err *e)
{
    const char *folder = getenv("TMPDIR");
    char plain[4096];
    return file_join(plain, sizeof plain, folder && *folder ? folder : P_tmpdir, "aftermap-audit.safetensors",
                     e) &&
           file_temp_name(plain, path, 4096, e);
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    const struct audit_cmd *c = options_;
    struct audit *a = mem_array(1, sizeof *a, "the audit", e);
    struct extraction_box *box = NULL;
    char path[4096] = "";
    bool ok = false;
    if (!a)
        return false;
    a->c = c;
    if (!model_set_open(&a->m, c->model, c->images, c->max_items, common->seed, progress, e) || !plan(a, e))
        goto out;
    if (common->dry_run) {
        console_say("dry run: %d copies would be trained and compared on %zu images", a->n_cells,
                    a->m.n_test);
        ok = true;
        goto out;
    }
    box = extraction_box_model(a->m.model, 1, e);
    if (!box || !measure_floor(a, e) || !temp_path(path, e))
        goto out;
    box->max_queries = c->max_queries;
    ok = true;
    for (int i = 0; ok && i < a->n_cells; i++)
        ok = run_cell(a, &a->cell[i], box, path, common, progress, e);
    if (ok)
        ok = common->json ? print_json(audit_json(a, box), e) : print_audit(a, e);
out:
    if (*path)
        unlink(path);
    extraction_box_free(box);
    model_set_close(&a->m);
    free(a->answers);
    free(a->copy);
    free(a);
    return ok;
}

const struct command command_audit = {
    .name = "audit",
    .args_doc = "MODEL --images EVENT|cifar10:FILE|idx:IMAGES,LABELS|folder:DIR",
    .summary = "Find out what an outsider could copy of a model by asking it",
    .doc = "Asks a model of your own about a limited number of images, as an outsider would, trains copies "
           "on the answers "
           "and tells how often they say what the model says (fidelity) and how often they are right "
           "(accuracy) on "
           "held-out images; for each number of queries, each setting of the service and each way to learn.\v"
           "Fidelity has a floor that takes no query (always one label; colours alone), printed beside it. A "
           "copy may be "
           "more accurate than the model and yet less faithful. A setting that lowers fidelity costs the "
           "outsider queries, "
           "not the model its secret; a rate limit turns queries into time. Figures hold for the outsider "
           "described: images "
           "like the model's own, its network unless --preset says another. The model file is asked, never a "
           "service.\n\n"
           "Source: Jagielski, Carlini, Berthelot, Kurakin, Papernot 2020 (accuracy and fidelity, extraction "
           "with MixMatch, "
           "section 4); Carlini, Jagielski, Mironov 2020 (why unrounded answers give weights away). For "
           "networks of one "
           "ReLU layer see `aftermap lab extract`.\n\n"
           "Example: aftermap audit model.safetensors --images event --queries 50,250,1000 --method "
           "mixmatch,supervised",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct audit_cmd),
    .defaults = audit_defaults,
    .run = run,
};
