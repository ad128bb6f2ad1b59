/* SPDX-License-Identifier: Apache-2.0
 *
 * experiment_file.c - reads an experiment's description (experiment.h) and lays out its cells. Every key is
 * known or refused, and every option is put before the command that will take it, so that a mistyped file
 * fails before its first hour. */
#include "app/experiment.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/data/imageset.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 20, MAX_CELLS = 100000, MAX_LIST = 1000 };

/* ---- JSON with sentences ---- */

static const cJSON *get(const cJSON *j, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(j, key);
}

static bool known_keys(const cJSON *j, const char *where, const char *keys, struct err *e)
{
    char word[80];
    if (!cJSON_IsObject(j))
        return err_set(e, ERR_INPUT, "%s: must be an object", where);
    for (const cJSON *i = j->child; i; i = i->next) {
        snprintf(word, sizeof word, " %.70s ", i->string);
        if (!strstr(keys, word))
            return err_set(e, ERR_INPUT, "%s: has an unknown key \"%.70s\"; known are%.*s", where, i->string,
                           (int)strlen(keys) - 1, keys);
    }
    return true;
}

static bool get_text(const cJSON *j, const char *key, const char **out, const char *where, struct err *e)
{
    const char *s = cJSON_GetStringValue(get(j, key));
    if (!s || !*s)
        return err_set(e, ERR_INPUT, "%s: needs a text \"%s\"", where, key);
    *out = s;
    return true;
}

static bool get_int(const cJSON *j, const char *key, int low, int high, int *out, const char *where,
                    struct err *e)
{
    const cJSON *v = get(j, key);
    if (!v)
        return true;
    if (!cJSON_IsNumber(v) || v->valuedouble != v->valueint || v->valueint < low || v->valueint > high)
        return err_set(e, ERR_INPUT, "%s: \"%s\" must be a whole number from %d to %d", where, key, low,
                       high);
    *out = v->valueint;
    return true;
}

/* [1, 2, 3]; without the key, {fallback}. Caller frees. */
static int *get_list(const cJSON *j, const char *key, int fallback, int *n, const char *where, struct err *e)
{
    const cJSON *v = get(j, key);
    *n = v ? cJSON_GetArraySize(v) : 1;
    if (v && (!cJSON_IsArray(v) || *n < 1 || *n > MAX_LIST)) {
        err_set(e, ERR_INPUT, "%s: \"%s\" must be a list of whole numbers", where, key);
        return NULL;
    }
    int *out = mem_array((size_t)*n, sizeof *out, "the experiment", e);
    for (int i = 0; out && i < *n; i++) {
        const cJSON *item = v ? cJSON_GetArrayItem(v, i) : NULL;
        out[i] = item ? item->valueint : fallback;
        if (item && (!cJSON_IsNumber(item) || item->valuedouble != item->valueint || item->valueint < 0)) {
            err_set(e, ERR_INPUT, "%s: \"%s\" must be a list of whole numbers from 0 on", where, key);
            free(out);
            out = NULL;
        }
    }
    return out;
}

static bool get_labels(struct experiment_arm *a, const cJSON *v, const char *where, struct err *e)
{
    if (!v) {
        a->labels[0] = EXPERIMENT_ALL;
        a->n_labels = 1;
        return true;
    }
    a->n_labels = cJSON_GetArraySize(v);
    bool ok = cJSON_IsArray(v) && a->n_labels >= 1 && a->n_labels <= EXPERIMENT_MAX_LABELS;
    for (int i = 0; ok && i < a->n_labels; i++) {
        const cJSON *item = cJSON_GetArrayItem(v, i);
        const char *word = cJSON_GetStringValue(item);
        ok = word ? strcmp(word, "all") == 0
                  : cJSON_IsNumber(item) && item->valueint >= 0 && item->valuedouble == item->valueint;
        a->labels[i] = word ? EXPERIMENT_ALL : ok ? item->valueint : 0;
    }
    return ok ||
           err_set(e, ERR_INPUT,
                   "%s: \"labels\" must be a list of at most %d numbers of labels per class, or \"all\"",
                   where, EXPERIMENT_MAX_LABELS);
}

/* ---- data ---- */

static const char *data_given(const struct experiment *x, const char *name)
{
    const size_t n = strlen(name);
    for (int i = 0; i < x->data->n; i++)
        if (strncmp(x->data->item[i], name, n) == 0 && x->data->item[i][n] == '=')
            return x->data->item[i] + n + 1;
    return NULL;
}

static const cJSON *data_of(const struct experiment *x, const char *name)
{
    return get(get(x->json, "data"), name);
}

/* path with every {split} and {seed} replaced by the cell's. */
static bool fill_in(const char *path, const struct experiment_cell *c, char out[4096])
{
    size_t n = 0;
    while (*path && n < 4000) {
        const bool split = strncmp(path, "{split}", 7) == 0, seed = strncmp(path, "{seed}", 6) == 0;
        if (split || seed) {
            n += (size_t)snprintf(out + n, 4096 - n, "%llu",
                                  split ? (unsigned long long)c->split : (unsigned long long)c->seed);
            path += split ? 7 : 6;
        } else
            out[n++] = *path++;
    }
    out[n] = '\0';
    return !*path;
}

bool experiment_data_path(const struct experiment *x, const struct experiment_cell *c, const char *name,
                          char out[4096], struct err *e)
{
    const char *layout = cJSON_GetStringValue(get(data_of(x, name), "layout"));
    char path[4096];
    int n =
        fill_in(data_given(x, name), c, path) ? snprintf(out, 4096, "%s%s", path, layout ? layout : "") : -1;
    return (n > 0 && n < 4096) || err_set(e, ERR_USAGE, "the path of %s is too long", name);
}

static bool check_data(const struct experiment *x, struct err *e)
{
    char where[400];
    const cJSON *all = get(x->json, "data");
    if (!cJSON_IsObject(all) || !all->child)
        return err_set(e, ERR_INPUT, "%s: needs \"data\": the names of its data sets, each {\"is\": TEXT}",
                       x->path);
    for (const cJSON *i = all->child; i; i = i->next) {
        const char *is = "", *layout = cJSON_GetStringValue(get(i, "layout"));
        snprintf(where, sizeof where, "%.200s: data %.80s", x->path, i->string);
        if (!known_keys(i, where, " is layout ", e) || !get_text(i, "is", &is, where, e))
            return false;
        char behind[400];
        snprintf(behind, sizeof behind, "x%.390s", layout ? layout : "");
        if (get(i, "layout") && imageset_spec_length(behind) != 1)
            return err_set(e, ERR_INPUT, "%s: \"layout\" must be steps such as @crop=20@size=16", where);
        const char *given = data_given(x, i->string);
        if (!given || !*given)
            return err_set(e, ERR_USAGE, "say where %s is with --data %s=PATH: %s", i->string, i->string, is);
        if (layout && !imageset_is_spec(given))
            return err_set(e, ERR_USAGE, "%s takes cifar10:FILE, idx:IMAGES,LABELS or folder:DIR, not %s: %s",
                           i->string, given, is);
    }
    for (int i = 0; i < x->data->n; i++) {
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(x->data->item[i], "="), x->data->item[i]);
        if (!get(all, name))
            return err_set(e, ERR_USAGE, "%s knows no data called '%s'", x->path, name);
    }
    return true;
}

/* ---- tasks and arms ---- */

static bool read_task(struct experiment *x, struct experiment_task *t, const cJSON *j, struct err *e)
{
    char where[300];
    snprintf(where, sizeof where, "%.250s: a task", x->path);
    const cJSON *sources = get(j, "sources");
    if (!known_keys(j, where, " name target sources most_labels ", e) ||
        !get_text(j, "name", &t->name, where, e) || !get_text(j, "target", &t->target, where, e) ||
        !get_int(j, "most_labels", 0, 1000000, &t->most_labels, where, e))
        return false;
    t->n_sources = sources ? cJSON_GetArraySize(sources) : 0;
    bool ok = data_of(x, t->target) && t->n_sources <= EXPERIMENT_MAX_SOURCES &&
              (!sources || cJSON_IsArray(sources));
    for (int i = 0; ok && i < t->n_sources; i++) {
        t->source[i] = cJSON_GetStringValue(cJSON_GetArrayItem(sources, i));
        ok = t->source[i] && data_of(x, t->source[i]);
    }
    return ok || err_set(e, ERR_INPUT,
                         "%s: the task %s must name its target and at most %d sources as \"data\" does",
                         x->path, t->name, EXPERIMENT_MAX_SOURCES);
}

/* The general options, then the arm's; false takes an option away. */
static cJSON *merge_options(const cJSON *general, const cJSON *own, struct err *e)
{
    cJSON *out = general ? cJSON_Duplicate(general, true) : cJSON_CreateObject();
    for (const cJSON *i = own ? own->child : NULL; out && i; i = i->next) {
        cJSON_DeleteItemFromObjectCaseSensitive(out, i->string);
        if (!cJSON_IsFalse(i))
            cJSON_AddItemToObject(out, i->string, cJSON_Duplicate(i, true));
    }
    if (!out)
        err_set(e, ERR_RESOURCE, "not enough memory for the experiment");
    return out;
}

static bool read_arm(struct experiment *x, struct experiment_arm *a, const cJSON *j, struct err *e)
{
    char where[400];
    snprintf(where, sizeof where, "%.250s: an arm", x->path);
    if (!known_keys(j, where, " name train loop labels sources published note ", e) ||
        !get_text(j, "name", &a->name, where, e))
        return false;
    snprintf(where, sizeof where, "%.250s: arm %.100s", x->path, a->name);
    const cJSON *loop = get(j, "loop"), *sources = get(j, "sources"), *labels = get(j, "labels");
    a->is_loop = loop;
    a->with_sources = !cJSON_IsFalse(sources);
    a->published = get(j, "published");
    x->has_loops |= a->is_loop;
    if (sources && !cJSON_IsBool(sources))
        return err_set(e, ERR_INPUT, "%s: \"sources\" is false for an arm that does without them", where);
    a->options = merge_options(get(x->json, loop ? "loop" : "train"), get(j, loop ? "loop" : "train"), e);
    return a->options && get_labels(a, loop ? NULL : labels ? labels : get(x->json, "labels"), where, e);
}

static bool read_lists(struct experiment *x, struct err *e)
{
    const cJSON *tasks = get(x->json, "tasks"), *arms = get(x->json, "arms");
    x->n_tasks = cJSON_GetArraySize(tasks);
    x->n_arms = cJSON_GetArraySize(arms);
    if (!cJSON_IsArray(tasks) || !cJSON_IsArray(arms) || x->n_tasks < 1 || x->n_arms < 1)
        return err_set(e, ERR_INPUT, "%s: needs lists of \"tasks\" and \"arms\"", x->path);
    x->task = mem_array((size_t)x->n_tasks, sizeof *x->task, "the experiment", e);
    x->arm = x->task ? mem_array((size_t)x->n_arms, sizeof *x->arm, "the experiment", e) : NULL;
    bool ok = x->arm;
    for (int i = 0; ok && i < x->n_tasks; i++)
        ok = read_task(x, &x->task[i], cJSON_GetArrayItem(tasks, i), e);
    for (int i = 0; ok && i < x->n_arms; i++)
        ok = read_arm(x, &x->arm[i], cJSON_GetArrayItem(arms, i), e);
    return ok;
}

static bool read_head(struct experiment *x, struct err *e)
{
    static const char keys[] = " title source note minutes data metric trivial seeds splits labels "
                               "checkpoints views bootstrap train loop tasks arms ";
    static const char figures[] = " error auroc auprc f1 accuracy balanced_accuracy ece ";
    char word[80];
    x->n_checkpoints = 1;
    x->checkpoint_share = 0.1;
    x->n_bootstrap = 1000;
    if (!known_keys(x->json, x->path, keys, e) || !get_text(x->json, "title", &x->title, x->path, e) ||
        !get_text(x->json, "metric", &x->metric, x->path, e) ||
        !get_int(x->json, "checkpoints", 1, 100, &x->n_checkpoints, x->path, e) ||
        !get_int(x->json, "views", 1, 8, &x->n_views, x->path, e) ||
        !get_int(x->json, "bootstrap", 0, 100000, &x->n_bootstrap, x->path, e))
        return false;
    if (x->n_views != 0 && x->n_views != 1 && x->n_views != 8)
        return err_set(e, ERR_INPUT, "%s: \"views\" is 1 or 8", x->path);
    snprintf(word, sizeof word, " %.70s ", x->metric);
    if (!strstr(figures, word))
        return err_set(e, ERR_INPUT, "%s: \"metric\" must be one of%.*s", x->path, (int)sizeof figures - 2,
                       figures);
    x->trivial_arm = cJSON_GetStringValue(get(x->json, "trivial"));
    return check_data(x, e);
}

/* ---- cells ---- */

static void add_slug(char *out, size_t size, const char *s)
{
    size_t n = strlen(out);
    for (bool gap = false; *s && n + 2 < size; s++) {
        if (isalnum((unsigned char)*s) || *s == '.') {
            if (gap && n > 0 && out[n - 1] != '-')
                out[n++] = '-';
            out[n++] = (char)tolower((unsigned char)*s);
            gap = false;
        } else
            gap = true;
        out[n] = '\0';
    }
}

static void name_cell(const struct experiment *x, struct experiment_cell *c, bool has_splits)
{
    char task[48] = "", arm[64] = "", labels[32] = "", split[24] = "";
    add_slug(task, sizeof task, x->task[c->task].name);
    add_slug(arm, sizeof arm, x->arm[c->arm].name);
    if (!x->arm[c->arm].is_loop)
        c->labels == EXPERIMENT_ALL ? snprintf(labels, sizeof labels, ".labels-all")
                                    : snprintf(labels, sizeof labels, ".labels-%d", c->labels);
    if (has_splits)
        snprintf(split, sizeof split, ".split-%d", c->split);
    snprintf(c->name, sizeof c->name, "%s.%s%s%s.seed-%llu", task, arm, labels, split,
             (unsigned long long)c->seed);
}

static bool settle_cell(const struct experiment *x, struct experiment_cell *c, struct err *e)
{
    const struct experiment_task *t = &x->task[c->task];
    const struct experiment_arm *a = &x->arm[c->arm];
    cJSON *j = cJSON_CreateObject(), *data = cJSON_AddArrayToObject(j, "data");
    for (int i = -1; i < (a->with_sources ? t->n_sources : 0); i++) {
        const char *name = i < 0 ? t->target : t->source[i],
                   *layout = cJSON_GetStringValue(get(data_of(x, name), "layout"));
        char both[400];
        snprintf(both, sizeof both, "%.200s%.190s", name, layout ? layout : "");
        cJSON_AddItemToArray(data, cJSON_CreateString(both));
    }
    cJSON_AddItemToObject(j, a->is_loop ? "loop" : "train", cJSON_Duplicate(a->options, true));
    cJSON_AddNumberToObject(j, "labels", c->labels);
    cJSON_AddNumberToObject(j, "split", c->split);
    cJSON_AddNumberToObject(j, "seed", (double)c->seed);
    cJSON_AddNumberToObject(j, "checkpoints", x->n_checkpoints);
    cJSON_AddNumberToObject(j, "views", x->n_views);
    cJSON_AddNumberToObject(j, "bootstrap", x->n_bootstrap);
    c->settings = cJSON_PrintUnformatted(j);
    cJSON_Delete(j);
    return c->settings || err_set(e, ERR_RESOURCE, "not enough memory for the experiment");
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool check_names(const struct experiment *x, struct err *e)
{
    const char **name = mem_array((size_t)x->n_cells, sizeof *name, "the experiment", e);
    bool ok = name;
    for (int i = 0; ok && i < x->n_cells; i++)
        name[i] = x->cell[i].name;
    if (ok)
        qsort(name, (size_t)x->n_cells, sizeof *name, compare_names);
    for (int i = 1; ok && i < x->n_cells; i++)
        if (strcmp(name[i - 1], name[i]) == 0)
            ok = err_set(e, ERR_INPUT, "%s: two cells are called %s; give their arms or tasks other names",
                         x->path, name[i]);
    free(name);
    return ok;
}

/* Seeds outermost: a grid that is stopped early has few seeds of everything, not everything of few arms. */
static bool lay_out(struct experiment *x, struct err *e)
{
    int n_seeds, n_splits = 0;
    int *seeds = get_list(x->json, "seeds", 1, &n_seeds, x->path, e);
    int *splits = seeds ? get_list(x->json, "splits", 0, &n_splits, x->path, e) : NULL;
    bool ok = splits;
    size_t per = 0;
    for (int a = 0; a < x->n_arms; a++)
        per += (size_t)x->arm[a].n_labels;
    per *= (size_t)x->n_tasks * (size_t)n_seeds * (size_t)n_splits;
    if (ok && per > MAX_CELLS)
        ok = err_set(e, ERR_INPUT, "%s: describes %zu cells; %d are the most", x->path, per, MAX_CELLS);
    ok = ok && (x->cell = mem_array(per, sizeof *x->cell, "the experiment", e));
    for (int s = 0; ok && s < n_seeds; s++)
        for (int p = 0; ok && p < n_splits; p++)
            for (int t = 0; ok && t < x->n_tasks; t++)
                for (int a = 0; ok && a < x->n_arms; a++)
                    for (int l = 0; ok && l < x->arm[a].n_labels; l++) {
                        if (x->task[t].most_labels && x->arm[a].labels[l] > x->task[t].most_labels)
                            continue; /* the task has not that many */
                        struct experiment_cell *c = &x->cell[x->n_cells++];
                        c->task = t;
                        c->arm = a;
                        c->labels = x->arm[a].labels[l];
                        c->split = splits[p];
                        c->seed = (uint64_t)seeds[s];
                        name_cell(x, c, get(x->json, "splits"));
                        ok = settle_cell(x, c, e);
                    }
    free(seeds);
    free(splits);
    return ok && check_names(x, e);
}

/* ---- a cell as a command line ---- */

const struct command *experiment_command(const struct experiment_arm *a)
{
    return a->is_loop ? &command_loop : &command_train;
}

bool experiment_path(const struct experiment *x, const struct experiment_cell *c, const char *extension,
                     char out[4096], struct err *e)
{
    int n = snprintf(out, 4096, "%s/cells/%s%s", x->dir, c->name, extension);
    return (n > 0 && n < 4096) || err_set(e, ERR_USAGE, "%s: the path is too long", x->dir);
}

struct words {
    char **item;
    int n;
};

static bool add_word(struct words *w, const char *a, const char *b, const char *c, struct err *e)
{
    char *word = mem_array(strlen(a) + strlen(b) + strlen(c) + 1, 1, "the words of a cell", e);
    if (!word || !mem_grow(&w->item, (size_t)w->n + 2, sizeof *w->item, "the words of a cell", e)) {
        free(word);
        return false;
    }
    size_t na = strlen(a), nb = strlen(b);
    memcpy(word, a, na);
    memcpy(word + na, b, nb);
    memcpy(word + na + nb, c, strlen(c) + 1);
    w->item[w->n++] = word;
    w->item[w->n] = NULL;
    return true;
}

static const struct argp_option *find_option(const struct command *c, const char *name)
{
    static const char *const ours[] = {"labels-per-class", "source", "resume", "output"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp(ours[i], name) == 0)
            return NULL;
    for (const struct argp_option *o = c->options; o->name || o->key || o->doc; o++)
        if (o->name && strcmp(o->name, name) == 0)
            return o;
    return NULL;
}

/* One value of an option: text, number or true. */
static bool add_value(struct words *w, const struct experiment *x, const struct experiment_arm *a,
                      const char *name, const cJSON *v, struct err *e)
{
    const struct argp_option *o = find_option(experiment_command(a), name);
    char number[32];
    if (!o)
        return err_set(e, ERR_INPUT, "%s: arm %s: `aftermap %s` takes no option --%s here", x->path, a->name,
                       experiment_command(a)->name, name);
    if (!o->arg)
        return cJSON_IsTrue(v)
                   ? add_word(w, "--", name, "", e)
                   : err_set(e, ERR_INPUT, "%s: arm %s: \"%s\" is true or false", x->path, a->name, name);
    if (!cJSON_IsString(v) && !cJSON_IsNumber(v))
        return err_set(e, ERR_INPUT, "%s: arm %s: \"%s\" must be a text or a number", x->path, a->name, name);
    if (cJSON_IsNumber(v))
        snprintf(number, sizeof number, "%.15g", v->valuedouble);
    char head[80];
    snprintf(head, sizeof head, "--%.70s=", name);
    return add_word(w, head, cJSON_IsNumber(v) ? number : v->valuestring, "", e);
}

static bool add_options(struct words *w, const struct experiment *x, const struct experiment_arm *a,
                        struct err *e)
{
    for (const cJSON *i = a->options->child; i; i = i->next) {
        if (!cJSON_IsArray(i)) {
            if (!add_value(w, x, a, i->string, i, e))
                return false;
            continue;
        }
        for (const cJSON *v = i->child; v; v = v->next)
            if (!add_value(w, x, a, i->string, v, e))
                return false;
    }
    return true;
}

bool experiment_words(const struct experiment *x, const struct experiment_cell *c, char ***words, int *n,
                      struct err *e)
{
    const struct experiment_task *t = &x->task[c->task];
    const struct experiment_arm *a = &x->arm[c->arm];
    struct words w = {0};
    char path[4096], number[32];
    bool ok = add_word(&w, x->name, ": ", a->name, e) && experiment_data_path(x, c, t->target, path, e) &&
              add_word(&w, path, "", "", e);
    for (int i = 0; ok && !a->is_loop && a->with_sources && i < t->n_sources; i++)
        ok = experiment_data_path(x, c, t->source[i], path, e) && add_word(&w, "--source=", path, "", e);
    ok = ok && add_options(&w, x, a, e);
    if (ok && a->is_loop && !get(a->options, "oracle"))
        ok = add_word(&w, "--oracle=labels", "", "", e);
    if (ok && !a->is_loop && c->labels != EXPERIMENT_ALL) {
        snprintf(number, sizeof number, "%d", c->labels);
        ok = add_word(&w, "--labels-per-class=", number, "", e);
    }
    snprintf(number, sizeof number, "%llu", (unsigned long long)c->seed);
    ok = ok && add_word(&w, "--seed=", number, "", e) && add_word(&w, "--resume", "", "", e) &&
         experiment_path(x, c, a->is_loop ? "" : ".safetensors", path, e) &&
         add_word(&w, "--output=", path, "", e);
    if (!ok) {
        experiment_words_free(w.item, w.n);
        return false;
    }
    *words = w.item;
    *n = w.n;
    return true;
}

void experiment_words_free(char **words, int n)
{
    for (int i = 0; i < n; i++)
        free(words[i]);
    free(words);
}

/* The commands look at the options of every cell; nonsense ends the process here. */
static bool check_cells(const struct experiment *x, struct err *e)
{
    bool ok = true;
    for (int i = 0; ok && i < x->n_cells; i++) {
        const struct command *command = experiment_command(&x->arm[x->cell[i].arm]);
        struct invocation in;
        char **words = NULL;
        int n = 0;
        ok = command_options(command, &in, e) && experiment_words(x, &x->cell[i], &words, &n, e);
        if (ok)
            command_parse(command, n, words, &in);
        experiment_words_free(words, n);
        free(in.options);
    }
    return ok;
}

bool experiment_open(struct experiment *x, const char *path, const struct string_list *data, const char *dir,
                     struct err *e)
{
    *x = (struct experiment){.path = path, .dir = dir, .data = data};
    char *text = file_read(path, FILE_MAX, NULL, e);
    if (!text)
        return false;
    const char *bad = NULL;
    x->json = cJSON_ParseWithOpts(text, &bad, true);
    if (!x->json) {
        int line = 1;
        for (const char *s = text; bad && s < bad; s++)
            line += *s == '\n';
        err_set(e, ERR_INPUT, "%s:%d: is no JSON; mend it there", path, line);
    }
    free(text);
    snprintf(x->name, sizeof x->name, "%s", file_base(path));
    char *dot = strrchr(x->name, '.');
    if (dot && dot > x->name)
        *dot = '\0';
    if (x->json && read_head(x, e) && read_lists(x, e) && lay_out(x, e) && check_cells(x, e))
        return true;
    experiment_close(x);
    return false;
}

void experiment_close(struct experiment *x)
{
    for (int i = 0; x->arm && i < x->n_arms; i++)
        cJSON_Delete(x->arm[i].options);
    for (int i = 0; i < x->n_cells; i++)
        cJSON_free(x->cell[i].settings);
    free(x->task);
    free(x->arm);
    free(x->cell);
    cJSON_Delete(x->json);
    memset(x, 0, sizeof *x);
}
