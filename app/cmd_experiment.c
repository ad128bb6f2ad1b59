/* SPDX-License-Identifier: Apache-2.0
 * cmd_experiment.c - `aftermap experiment`: a described grid of runs, its table and its plots
 * (app/experiment.h). */
#include "app/command.h"
#include "app/console.h"
#include "app/experiment.h"
#include "app/loop.h"
#include "models/base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEY_DATA = 1, KEY_SHARD };

static const struct argp_option options[] = {
    {"data", KEY_DATA, "NAME=PATH", 0,
     "Where a data set that the file names is: an event folder, cifar10:FILE, idx:IMAGES,LABELS or "
     "folder:DIR; "
     "{split} and {seed} in it become a cell's. Once for each name",
     1},
    {"shard", KEY_SHARD, "I/N", 0, "Run every N-th cell only, from the I-th on; the others belong to others",
     1},
    {"output", 'o', "DIR", 0, "Folder for results; cells that are there already are not run again", 1},
    {0}};

struct experiment_cmd {
    const char *file, *out;
    struct string_list data;
    int shard, n_shards;
};

static void experiment_cmd_defaults(void *options_)
{
    struct experiment_cmd *c = options_;
    c->shard = c->n_shards = 1;
}

static void parse_shard(const char *arg, struct argp_state *state, struct experiment_cmd *c)
{
    char *end, *last;
    long i = strtol(arg, &end, 10);
    long n = *end == '/' ? strtol(end + 1, &last, 10) : 0;
    if (end == arg || *end != '/' || last == end + 1 || *last || n < 1 || n > 10000 || i < 1 || i > n)
        argp_error(state, "--shard takes I/N with I from 1 to N, such as 2/4, not '%s'", arg);
    c->shard = (int)i;
    c->n_shards = (int)n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct experiment_cmd *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->file)
            argp_error(state, "one experiment at a time: '%s' is a second one", arg);
        c->file = arg;
        break;
    case ARGP_KEY_END:
        if (!c->file)
            argp_error(state, "name the file that describes the experiment");
        if (!c->out)
            argp_error(state, "name the folder for results with -o DIR");
        break;
    case KEY_DATA:
        if (*arg == '=' || !strchr(arg, '='))
            argp_error(state, "--data takes NAME=PATH, not '%s'", arg);
        list_add(&c->data, arg);
        break;
    case KEY_SHARD:
        parse_shard(arg, state, c);
        break;
    case 'o':
        c->out = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static bool is_ours(const struct experiment_cmd *c, int cell)
{
    return cell % c->n_shards == c->shard - 1;
}

/* Whether a cell has to be run. A result of other settings is an error unless it may be replaced. */
static bool wanted(const struct experiment *x, int i, bool overwrite, bool *want, struct err *e)
{
    bool differs;
    cJSON *j = experiment_result(x, &x->cell[i], &differs);
    *want = !j || overwrite;
    cJSON_Delete(j);
    return !differs || overwrite ||
           err_set(e, ERR_USAGE,
                   "%s/cells/%s.json was made with other settings than %s has now; take another folder, or "
                   "--overwrite",
                   x->dir, x->cell[i].name, x->path);
}

/* With --overwrite what an earlier grid left of the cell goes first; of a campaign its models as well, which
 * it would take for its own. */
static bool clear_cell(const struct experiment *x, const struct experiment_cell *c, struct err *e)
{
    static const char *const kinds[] = {".json", ".part.json", ".safetensors", "/loop.json"};
    char path[4096], name[40];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!experiment_path(x, c, kinds[i], path, e))
            return false;
        unlink(path);
    }
    for (int k = 0; x->arm[c->arm].is_loop && k < LOOP_MAX_ROUNDS; k++) {
        snprintf(name, sizeof name, "/round-%02d.safetensors", k);
        if (!experiment_path(x, c, name, path, e))
            return false;
        unlink(path);
    }
    return true;
}

static void say_cell(const struct experiment *x, int i)
{
    bool differs;
    cJSON *j = experiment_result(x, &x->cell[i], &differs);
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(j, "rows");
    const int n = cJSON_GetArraySize(rows);
    if (n > 0)
        console_say("%s: %s %.4f after %.0f s", x->cell[i].name, x->metric,
                    experiment_figure(cJSON_GetArrayItem(rows, n - 1), x->metric),
                    cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(j, "seconds")));
    cJSON_Delete(j);
}

/* One cell that its data or its settings do not allow does not end the others; everything else does. */
static bool run_one(const struct experiment *x, int i, const struct common *common,
                    const struct progress *progress, int *n_failed, struct err *first, struct err *e)
{
    if (experiment_run_cell(x, &x->cell[i], common, progress, e)) {
        say_cell(x, i);
        return experiment_report(x, common, false, e);
    }
    if (e->code != ERR_INPUT && e->code != ERR_RUNTIME)
        return false;
    console_say("%s: left out: %s", x->cell[i].name, e->msg);
    if (++*n_failed == 1)
        *first = *e;
    err_clear(e);
    return true;
}

static bool run_cells(const struct experiment_cmd *c, const struct experiment *x, const struct common *common,
                      const struct progress *progress, struct err *e)
{
    int n_ours = 0, n_left = 0, n_failed = 0, at = 0;
    struct err first = {0};
    bool ok = true, want;
    for (int i = 0; ok && i < x->n_cells; i++) {
        ok = wanted(x, i, common->overwrite, &want, e);
        n_ours += is_ours(c, i);
        n_left += is_ours(c, i) && want;
    }
    if (ok)
        console_say("%s: %d cells, %d of this call, %d of them to run", x->title, x->n_cells, n_ours, n_left);
    for (int i = 0; ok && common->dry_run && i < x->n_cells; i++) {
        ok = wanted(x, i, common->overwrite, &want, e);
        if (ok && is_ours(c, i))
            printf("%s%s\n", x->cell[i].name, want ? "" : " (done)");
    }
    for (int i = 0; ok && !common->dry_run && i < x->n_cells; i++) {
        ok = wanted(x, i, common->overwrite, &want, e);
        if (!ok || !is_ours(c, i) || !want)
            continue;
        console_say("[%d/%d] %s", ++at, n_left, x->cell[i].name);
        ok = (!common->overwrite || clear_cell(x, &x->cell[i], e)) &&
             run_one(x, i, common, progress, &n_failed, &first, e);
    }
    if (ok && n_failed) {
        *e = first;
        return err_prefix(e, "%d of %d cells could not be run; the first", n_failed, n_left);
    }
    return ok;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    const struct experiment_cmd *c = options_;
    struct experiment x;
    char path[4096];
    struct err why;
    if (!experiment_open(&x, c->file, &c->data, c->out, e))
        return false;
    bool ok =
        common->dry_run || (file_join(path, sizeof path, c->out, "cells", e) && file_make_dirs(path, e));
    if (ok) {
        ok = run_cells(c, &x, common, progress, e);
        if (common->dry_run)
            ok = ok && flush_stdout(e);
        else if (!experiment_report(&x, common, true, ok ? e : &why))
            ok = false;
    }
    experiment_close(&x);
    return ok;
}

const struct command command_experiment = {
    .name = "experiment",
    .args_doc = "FILE.json --data NAME=PATH... -o DIR",
    .summary = "Run a described grid of trainings and draw what it found",
    .doc =
        "Runs every cell of a grid - tasks, methods and their options, labels per class, splits, seeds - by "
        "the very commands train, evaluate and loop, and writes one table, one summary and one plot a task, "
        "with what the paper found beside it.\v"
        "A cell's result is one file; a grid that was stopped goes on where it was when called again, and "
        "several calls may share a folder by --shard. Figures are the median over a run's last checkpoints "
        "where the file asks for it, always of the averaged weights, with mean and deviation over splits and "
        "seeds.\n\n"
        "Example: aftermap experiment samples/experiments/digits.json --data mnist=idx:IMAGES,LABELS "
        "--data usps=idx:IMAGES,LABELS --data mnist-m=idx:IMAGES,LABELS -o digits",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct experiment_cmd),
    .defaults = experiment_cmd_defaults,
    .run = run,
};
