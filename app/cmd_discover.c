/* SPDX-License-Identifier: Apache-2.0
 * cmd_discover.c - `aftermap discover`: groups that may be classes of their own, among what a classifier rejects. An
 * event gives proposals to name (discover_event.c), a labelled set with classes hidden gives Dataset Reconstruction
 * Accuracy (discover_benchmark.c). Here are the options and what both share. */
#include "app/discover.h"

#include "geo/contactsheet.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    KEY_MODEL = 1,
    KEY_SECOND,
    KEY_ANSWERS,
    KEY_MAX_ITEMS,
    KEY_SHEET,
    KEY_GUESS,
    KEY_QUANTILE,
    KEY_CONFIDENCE,
    KEY_MIN_ITEMS,
    KEY_MIN_F1,
    KEY_MERGE,
    KEY_HARM,
    KEY_CORE,
    KEY_ROUNDS,
    KEY_HOLD_OUT,
    KEY_LABELS,
    KEY_PRESET,
    KEY_STEPS,
    KEY_RETRAIN,
    KEY_METHOD,
    KEY_NO_MIRROR,
    KEY_TEST_SHARE,
    KEY_BY
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Events", 1},
    {"model", KEY_MODEL, "MODEL", 0, "The model that rejects", 1},
    {"second-model", KEY_SECOND, "MODEL", 0,
     "Another model of the same grades, trained from another seed: what the first one groups, this one must "
     "be able to "
     "learn (default: the ground around each building)",
     1},
    {"reject-by", KEY_BY, "WHAT", 0,
     "model (default): what its embedding has not seen before; ground: buildings on unusual ground, which "
     "the model must "
     "be able to learn. A model of damage may be blind to a flood",
     1},
    {"labels", KEY_ANSWERS, "FILE:FIELD", 0,
     "Grades from a table with a column bldg_id instead of the event's own", 1},
    {"max-items", KEY_MAX_ITEMS, "N", 0, "Hold at most N ungraded chips in memory (default 20000)", 1},
    {NULL, 0, NULL, 0, "What is rejected, what is a group", 2},
    {"groups", KEY_GUESS, "N", 0, "How many new classes there may be; 2 N + 2 clusters are cut (default 5)",
     2},
    {"quantile", KEY_QUANTILE, "P", 0,
     "Reject what is further from the known classes than this share of known items kept aside (default 0.95)",
     2},
    {"min-confidence", KEY_CONFIDENCE, "P", 0,
     "Reject what the model is less sure of, too (default: events 0.6, as assess abstains; sets 0)", 2},
    {"min-items", KEY_MIN_ITEMS, "N", 0, "Least size of a group (default 30)", 2},
    {"min-f1", KEY_MIN_F1, "F1", 0,
     "Learnability that a group must reach at least; more where known classes cut in two reach more (default "
     "0.6)",
     2},
    {"merge", KEY_MERGE, "C", 0, "Merge two groups from this confusion on (default 0.3)", 2},
    {"max-harm", KEY_HARM, "A", 0, "Accuracy that known classes may lose to a group (default 0.05)", 2},
    {"core", KEY_CORE, "SHARE", 0,
     "Share of a group, nearest its centre, that teaches the next round (default 0.7)", 2},
    {"rounds", KEY_ROUNDS, "N", 0, "At most N rounds (default 5)", 2},
    {NULL, 0, NULL, 0, "Benchmark: hide classes of a labelled set and find them again", 3},
    {"hold-out", KEY_HOLD_OUT, "CLASSES", 0, "Names or numbers of the classes to hide, such as 5,6,7,8,9", 3},
    {"labels-per-class", KEY_LABELS, "N", 0, "Labels given of each known class (default 200)", 3},
    {"preset", KEY_PRESET, "NET", 0, "Network of the two views (default lite3)", 3},
    {"steps", KEY_STEPS, "N", 0, "Updates of each network (default 300)", 3},
    {"retrain", KEY_RETRAIN, NULL, 0,
     "Train the networks anew each round, on what was found and the pool without what is rejected", 3},
    {"method", KEY_METHOD, "NAME", 0, "Method of --retrain (default fixmatch)", 3},
    {"no-mirror", KEY_NO_MIRROR, NULL, 0, "Plain images: no mirror images (digits)", 3},
    {"test-share", KEY_TEST_SHARE, "SHARE", 0,
     "Plain sets: share that only judges a fresh learner (default 0.2)", 3},
    {NULL, 0, NULL, 0, "Output", 4},
    {"sheet", KEY_SHEET, "N", 0,
     "Images on a group's contact sheet, nearest to its centre; 0: none (default 24)", 4},
    {"output", 'o', "DIR", 0, "Folder for the results", 4},
    {0}};

static void discover_defaults(void *options_)
{
    struct discover_cmd *c = options_;
    discovery_defaults(&c->loop);
    c->min_confidence = -1;
    c->max_items = 20000;
    c->sheet_tiles = 24;
    c->method = "fixmatch";
    c->preset = "lite3";
    c->labels_per_class = 200;
    c->steps = 300;
    c->test_share = 0.2;
}

static error_t parse_loop(int key, char *arg, struct argp_state *state, struct discover_cmd *c)
{
    switch (key) {
    case KEY_GUESS:
        c->loop.guess = (int)parse_int(state, "--groups", arg, 1, DISCOVERY_MAX_GUESS);
        break;
    case KEY_QUANTILE:
        c->loop.quantile = parse_real(state, "--quantile", arg, 0, 1);
        break;
    case KEY_CONFIDENCE:
        c->min_confidence = parse_real(state, "--min-confidence", arg, 0, 1);
        break;
    case KEY_MIN_ITEMS:
        c->loop.min_items = (size_t)parse_int(state, "--min-items", arg, 4, 1000000);
        break;
    case KEY_MIN_F1:
        c->loop.min_f1 = parse_real(state, "--min-f1", arg, 0, 1);
        break;
    case KEY_MERGE:
        c->loop.merge = parse_real(state, "--merge", arg, 0.01, 2);
        break;
    case KEY_HARM:
        c->loop.max_harm = parse_real(state, "--max-harm", arg, 0, 1);
        break;
    case KEY_CORE:
        c->loop.core = parse_real(state, "--core", arg, 0.05, 1);
        break;
    case KEY_ROUNDS:
        c->loop.rounds = (int)parse_int(state, "--rounds", arg, 1, 50);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void check_mode(struct argp_state *state, const struct discover_cmd *c)
{
    if (!c->data)
        argp_error(state, "name an event folder, cifar10:FILE, idx:IMAGES,LABELS or folder:DIR");
    if (!c->out)
        argp_error(state, "name the folder for the results with -o DIR");
    if (c->hold_out && (c->model || c->second || c->answers || c->min_confidence >= 0))
        argp_error(
            state,
            "--hold-out trains its own networks: --model, --second-model, --labels and --min-confidence "
            "have no meaning beside it");
    if (!c->hold_out && imageset_is_spec(c->data))
        argp_error(state, "a plain set is a benchmark: say which classes to hide with --hold-out");
    if (c->is_by_ground && (c->second || c->hold_out))
        argp_error(
            state,
            "--reject-by ground needs the ground as a view: it excludes --second-model and --hold-out");
    if (!c->hold_out && !c->model)
        argp_error(state, "name the model that rejects with --model, or hide grades with --hold-out");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct discover_cmd *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->data)
            argp_error(state, "one event or set at a time: '%s' is a second one", arg);
        c->data = arg;
        break;
    case ARGP_KEY_END:
        check_mode(state, c);
        break;
    case KEY_MODEL:
        c->model = arg;
        break;
    case KEY_SECOND:
        c->second = arg;
        break;
    case KEY_BY:
        if (strcmp(arg, "model") != 0 && strcmp(arg, "ground") != 0)
            argp_error(state, "--reject-by takes model or ground, not '%s'", arg);
        c->is_by_ground = *arg == 'g';
        break;
    case KEY_ANSWERS:
        c->answers = arg;
        break;
    case KEY_MAX_ITEMS:
        c->max_items = (size_t)parse_int(state, "--max-items", arg, 1, 100000000);
        break;
    case KEY_SHEET:
        c->sheet_tiles = (int)parse_int(state, "--sheet", arg, 0, CONTACTSHEET_MAX_TILES);
        break;
    case KEY_HOLD_OUT:
        c->hold_out = arg;
        break;
    case KEY_LABELS:
        c->labels_per_class = (int)parse_int(state, "--labels-per-class", arg, 10, 1000000);
        break;
    case KEY_PRESET:
        c->preset = arg;
        break;
    case KEY_STEPS:
        c->steps = parse_int(state, "--steps", arg, 1, 100000000);
        break;
    case KEY_RETRAIN:
        c->retrain = true;
        break;
    case KEY_METHOD:
        c->method = arg;
        break;
    case KEY_NO_MIRROR:
        c->no_mirror = true;
        break;
    case KEY_TEST_SHARE:
        c->test_share = parse_real(state, "--test-share", arg, 0, 0.9);
        break;
    case 'o':
        c->out = arg;
        break;
    default:
        return parse_loop(key, arg, state, c);
    }
    return 0;
}

/* ---- the folder of results ---- */

bool discover_check_out(const char *out, bool overwrite, struct err *e)
{
    char path[DISCOVER_PATH];
    if (file_exists(out) && !file_is_dir(out))
        return err_set(e, ERR_USAGE, "%s is a file; name a folder for the results", out);
    if (!file_join(path, sizeof path, out, "discover.json", e))
        return false;
    if (file_exists(path) && !overwrite)
        return err_set(e, ERR_USAGE, "%s holds a discovery already; choose another folder or add --overwrite",
                       out);
    return true;
}

bool discover_stage_open(struct discover_stage *s, const char *out, struct err *e)
{
    char name[64];
    *s = (struct discover_stage){.out = out, .made_out = !file_exists(out)};
    snprintf(name, sizeof name, ".discover.tmp-%ld", (long)getpid());
    if (!file_make_dirs(out, e) || !file_join(s->dir, sizeof s->dir, out, name, e))
        return false;
    if (mkdir(s->dir, 0777) != 0)
        return err_errno(e, ERR_RUNTIME, errno, "%s cannot be written", out);
    s->made_dir = true;
    return true;
}

bool discover_stage_path(const struct discover_stage *s, const char *name, char path[DISCOVER_PATH],
                         struct err *e)
{
    return file_join(path, DISCOVER_PATH, s->dir, name, e);
}

static bool is_sheet(const char *name)
{
    int number, length = 0;
    return sscanf(name, "group-%d.png%n", &number, &length) == 1 && length && !name[length];
}

/* Calls for every file of a folder, in no order. which: 0 all, 1 contact sheets. False: take() failed. */
static bool each_file(const char *dir, bool only_sheets,
                      bool (*take)(void *ctx, const char *name, struct err *e), void *ctx, struct err *e)
{
    DIR *d = opendir(dir);
    bool ok = true;
    if (!d)
        return err_errno(e, ERR_RUNTIME, errno, "%s", dir);
    for (struct dirent *f; ok && (f = readdir(d));)
        if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0 &&
            (!only_sheets || is_sheet(f->d_name)))
            ok = take(ctx, f->d_name, e);
    closedir(d);
    return ok;
}

static bool move_out(void *ctx, const char *name, struct err *e)
{
    const struct discover_stage *s = ctx;
    char from[DISCOVER_PATH], to[DISCOVER_PATH];
    if (strcmp(name, "discover.json") == 0)
        return true; /* the last one */
    return discover_stage_path(s, name, from, e) && file_join(to, sizeof to, s->out, name, e) &&
           file_rename(from, to, e);
}

static bool remove_old_sheet(void *ctx, const char *name, struct err *e)
{
    const struct discover_stage *s = ctx;
    char mine[DISCOVER_PATH], path[DISCOVER_PATH];
    if (!discover_stage_path(s, name, mine, e) || !file_join(path, sizeof path, s->out, name, e))
        return false;
    return file_exists(mine) || unlink(path) == 0 || err_errno(e, ERR_RUNTIME, errno, "%s", path);
}

static bool remove_staged(void *ctx, const char *name, struct err *e)
{
    const struct discover_stage *s = ctx;
    char path[DISCOVER_PATH];
    return discover_stage_path(s, name, path, e) && unlink(path) == 0;
}

bool discover_stage_commit(struct discover_stage *s, struct err *e)
{
    char from[DISCOVER_PATH], to[DISCOVER_PATH];
    return each_file(s->out, true, remove_old_sheet, s, e) && each_file(s->dir, false, move_out, s, e) &&
           discover_stage_path(s, "discover.json", from, e) &&
           file_join(to, sizeof to, s->out, "discover.json", e) && file_rename(from, to, e);
}

void discover_stage_close(struct discover_stage *s)
{
    struct err ignored;
    if (s->made_dir) {
        each_file(s->dir, false, remove_staged, s, &ignored);
        rmdir(s->dir);
    }
    if (s->made_out)
        rmdir(s->out); /* only when empty: then we made it and left nothing */
}

/* ---- what both tell ---- */

void discover_group_name(int number, char out[32])
{
    snprintf(out, 32, "unreviewed group %d", number);
}

cJSON *discover_settings(const struct discovery_options *o)
{
    cJSON *s = cJSON_CreateObject();
    cJSON_AddNumberToObject(s, "groups", o->guess);
    cJSON_AddNumberToObject(s, "quantile", o->quantile);
    cJSON_AddNumberToObject(s, "min_confidence", o->min_confidence);
    cJSON_AddNumberToObject(s, "merge", o->merge);
    cJSON_AddNumberToObject(s, "min_f1", o->min_f1);
    cJSON_AddNumberToObject(s, "max_harm", o->max_harm);
    cJSON_AddNumberToObject(s, "min_items", (double)o->min_items);
    cJSON_AddNumberToObject(s, "core", o->core);
    cJSON_AddNumberToObject(s, "rounds", o->rounds);
    cJSON_AddNumberToObject(s, "seed", (double)o->seed);
    return s;
}

cJSON *discover_group_json(const struct discovery_group *g, int number)
{
    cJSON *o = cJSON_CreateObject();
    char name[32];
    discover_group_name(number, name);
    cJSON_AddNumberToObject(o, "group_no", number);
    cJSON_AddStringToObject(o, "group_name", name);
    cJSON_AddBoolToObject(o, "learnable", g->class_index >= 0);
    cJSON_AddNumberToObject(o, "round", g->round + 1);
    cJSON_AddNumberToObject(o, "n", (double)g->n_members);
    cJSON_AddNumberToObject(o, "n_when_scored", (double)g->n);
    cJSON_AddNumberToObject(o, "n_clusters", g->n_clusters);
    cJSON_AddNumberToObject(o, "f1", round(g->f1 * 1000) / 1000);
    cJSON_AddNumberToObject(o, "f1_needed", round(g->tau * 1000) / 1000);
    cJSON_AddNumberToObject(o, "change_of_known", round(g->change * 10000) / 10000);
    return o;
}

struct nearest {
    float far;
    uint32_t row;
};

static int by_distance(const void *a, const void *b)
{
    const struct nearest *x = a, *y = b;
    return x->far != y->far ? (x->far < y->far ? -1 : 1) : (x->row > y->row) - (x->row < y->row);
}

int discover_sheet(const struct discover_stage *s, const struct imageset *set,
                   const struct discovery_result *r, int g, const uint32_t *item_of_row, int tiles,
                   uint32_t *order, struct err *e)
{
    char name[40], title[32], path[DISCOVER_PATH];
    struct nearest *all = mem_array(r->n, sizeof *all, "the contact sheet", e);
    int n = 0;
    for (size_t i = 0; all && i < r->n; i++)
        if (r->member[i] == g)
            all[n++] = (struct nearest){r->to_centre[i], (uint32_t)i};
    if (all)
        qsort(all, (size_t)n, sizeof *all, by_distance);
    n = n < tiles ? n : tiles;
    for (int k = 0; k < n; k++)
        order[k] = item_of_row[all[k].row];
    snprintf(name, sizeof name, "group-%02d.png", g + 1);
    discover_group_name(g + 1, title);
    const bool ok =
        all &&
        (n == 0 || (discover_stage_path(s, name, path, e) &&
                    contactsheet_write(path, set, order, n, set->layout.n_dates == 2 ? 4 : 8, title, e)));
    free(all);
    return ok ? n : -1;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    const struct discover_cmd *c = options_;
    return discover_check_out(c->out, common->overwrite, e) &&
           (c->hold_out ? discover_benchmark(c, common, progress, e)
                        : discover_event(c, common, progress, e));
}

const struct command command_discover = {
    .name = "discover",
    .args_doc = "EVENT --model MODEL -o DIR\nSET --hold-out CLASSES -o DIR",
    .summary = "Propose groups among buildings that a model rejects",
    .doc =
        "Groups the buildings that a model rejects - unlike anything graded, or too unsure to call - and "
        "tests which "
        "groups are classes of their own: floods, fire scars, building sites, clouds. Writes contact sheets "
        "(group-NN.png; before and after side by side), groups.csv, discover.json, and candidates.gpkg with "
        "a column "
        "'name' for whoever looks at them.\v"
        "A group is called learnable when half of it teaches a second view of the buildings to find the "
        "other half "
        "(F1), better than known classes that are cut in two the same way. Groups of haze, of one image or "
        "of one corner "
        "of the scene are learnable, too: a note says what a group goes along with (Cramer's V above 0.5). "
        "Nothing is "
        "ever written as a grade; until named they are 'unreviewed group N'. Needs 40 graded buildings, some "
        "of each "
        "class.\n\n"
        "With --hold-out, classes of a labelled set are hidden and found again: Dataset Reconstruction "
        "Accuracy beside "
        "what nothing discovered, k-means with the true number of classes, and true labels give. An "
        "interrupted "
        "benchmark goes on with the networks it has; an event takes about as long as assess and starts "
        "anew.\n\n"
        "Source: Nixon, Liu and Berthelot, Semi-Supervised Class Discovery, 2020 (arXiv 2002.03480); its "
        "definitions "
        "were not published, the ones used here are our own.\n\n"
        "Examples: aftermap discover event --model model.safetensors -o groups\n"
        "aftermap discover idx:IMAGES,LABELS --hold-out 5,6,7,8,9 --no-mirror -o digits",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct discover_cmd),
    .defaults = discover_defaults,
    .run = run,
};
