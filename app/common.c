/* SPDX-License-Identifier: Apache-2.0
 * common.c - the options every command has, strict value parsing, and where defaults come from:
 * command line > AFTERMAP_* environment > configuration file ($XDG_CONFIG_HOME/aftermap/config or --config
 * FILE). */
#include "app/command.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_JSON = 0x1000,
    KEY_DRY_RUN,
    KEY_OVERWRITE,
    KEY_STRICT,
    KEY_PROGRESS,
    KEY_SEED,
    KEY_THREADS,
    KEY_CONFIG
};

static const struct argp_option common_options[] = {
    {"quiet", 'q', NULL, 0, "Print nothing but errors and the data asked for", 90},
    {"json", KEY_JSON, NULL, 0, "Print the result as JSON on standard output", 90},
    {"dry-run", KEY_DRY_RUN, NULL, 0, "Check everything, write nothing", 90},
    {"overwrite", KEY_OVERWRITE, NULL, 0, "Replace an earlier output", 90},
    {"strict", KEY_STRICT, NULL, 0, "Exit with status 4 when there was anything to note", 90},
    {"progress", KEY_PROGRESS, "STYLE", 0, "auto (a bar on a terminal, lines elsewhere), plain, json or none",
     90},
    {"seed", KEY_SEED, "N", 0, "Seed of everything random (default 1)", 90},
    {"threads", KEY_THREADS, "N", 0, "Threads to use (default: all cores); results do not depend on it", 90},
    {"config", KEY_CONFIG, "FILE", 0, "Read defaults from FILE: lines of option = value", 90},
    {0}};

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
    struct common *c = state->input;
    switch (key) {
    case 'q':
        c->quiet = true;
        break;
    case KEY_JSON:
        c->json = true;
        break;
    case KEY_DRY_RUN:
        c->dry_run = true;
        break;
    case KEY_OVERWRITE:
        c->overwrite = true;
        break;
    case KEY_STRICT:
        c->strict = true;
        break;
    case KEY_PROGRESS:
        if (strcmp(arg, "auto") && strcmp(arg, "plain") && strcmp(arg, "json") && strcmp(arg, "none"))
            argp_error(state, "--progress takes auto, plain, json or none, not '%s'", arg);
        c->progress = arg;
        break;
    case KEY_SEED:
        c->seed = (uint64_t)parse_int(state, "--seed", arg, 0, INT64_MAX);
        break;
    case KEY_THREADS:
        c->threads = (int)parse_int(state, "--threads", arg, 1, 1024);
        break;
    case KEY_CONFIG: /* read by command_argv() before parsing */
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

const struct argp common_argp = {.options = common_options, .parser = parse_common};

long long parse_int(struct argp_state *state, const char *option, const char *arg, long long low,
                    long long high)
{
    char *end;
    errno = 0;
    long long v = strtoll(arg, &end, 10);
    if (end == arg || *end || errno || v < low || v > high)
        argp_error(state, "%s takes a whole number from %lld to %lld, not '%s'", option, low, high, arg);
    return v;
}

double parse_real(struct argp_state *state, const char *option, const char *arg, double low, double high)
{
    char *end;
    errno = 0;
    double v = strtod(arg, &end);
    if (end == arg || *end || errno || !isfinite(v) || v < low || v > high)
        argp_error(state, "%s takes a number from %g to %g, not '%s'", option, low, high, arg);
    return v;
}

double parse_duration(struct argp_state *state, const char *option, const char *arg)
{
    char *end;
    errno = 0;
    double v = strtod(arg, &end);
    double unit = strcmp(end, "h") == 0 ? 3600.0 : strcmp(end, "m") == 0 ? 60.0 : 1.0;
    bool known = *end == '\0' || strcmp(end, "s") == 0 || unit > 1.0;
    if (end == arg || !known || errno || !(v > 0) || v * unit > 30 * 86400.0)
        argp_error(state, "%s takes a time such as 90s, 5m or 1h, not '%s'", option, arg);
    return v * unit;
}

void list_add(struct string_list *l, const char *s)
{
    struct err e;
    if (!mem_grow(&l->item, (size_t)l->n + 1, sizeof *l->item, "the argument list", &e)) {
        fprintf(stderr, "aftermap: %s\n", e.msg);
        exit(err_exit_status(e.code));
    }
    l->item[l->n++] = s;
}

bool flush_stdout(struct err *e)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        return err_errno(e, ERR_RUNTIME, errno, "standard output");
    return true;
}

bool print_json(cJSON *json, struct err *e)
{
    char *text = json ? cJSON_Print(json) : NULL;
    cJSON_Delete(json);
    if (!text)
        return err_set(e, ERR_RESOURCE, "not enough memory for the JSON result");
    puts(text);
    cJSON_free(text);
    return flush_stdout(e);
}

/* ---- defaults from the environment and the configuration file, spliced before the command line's own words
 */

struct words {
    char **item;
    int n;
};

static bool words_add(struct words *w, char *s, struct err *e)
{
    if (!s || !mem_grow(&w->item, (size_t)w->n + 2, sizeof *w->item, "the argument list", e))
        return false;
    w->item[w->n++] = s;
    w->item[w->n] = NULL;
    return true;
}

static const struct argp_option *option_find(const struct command *c, const char *name)
{
    const struct argp_option *lists[2] = {c->options, common_options};
    for (int l = 0; l < 2; l++)
        for (const struct argp_option *o = lists[l]; o && (o->name || o->key || o->doc); o++)
            if (o->name && strcmp(o->name, name) == 0)
                return o;
    return NULL;
}

static bool add_default(struct words *w, const struct argp_option *o, const char *value, const char *where,
                        struct err *e)
{
    char *word = NULL;
    int n;
    if (o->arg)
        n = asprintf(&word, "--%s=%s", o->name, value);
    else if (strcmp(value, "1") == 0 || strcasecmp(value, "true") == 0 || strcasecmp(value, "yes") == 0)
        n = asprintf(&word, "--%s", o->name);
    else if (strcmp(value, "0") == 0 || strcasecmp(value, "false") == 0 || strcasecmp(value, "no") == 0)
        return true;
    else
        return err_set(e, ERR_USAGE, "%s: %s takes yes or no, not '%s'", where, o->name, value);
    if (n < 0)
        return err_set(e, ERR_RESOURCE, "not enough memory for the argument list");
    return words_add(w, word, e);
}

static bool add_environment(struct words *w, const struct command *c, struct err *e)
{
    const struct argp_option *lists[2] = {c->options, common_options};
    for (int l = 0; l < 2; l++)
        for (const struct argp_option *o = lists[l]; o && (o->name || o->key || o->doc); o++) {
            char variable[80] = "AFTERMAP_";
            if (!o->name || strcmp(o->name, "config") == 0)
                continue;
            size_t k = strlen(variable);
            for (const char *s = o->name; *s && k + 1 < sizeof variable; s++)
                variable[k++] = *s == '-' ? '_' : (char)toupper((unsigned char)*s);
            variable[k] = '\0';
            const char *value = getenv(variable);
            if (value && !add_default(w, o, value, variable, e))
                return false;
        }
    return true;
}

static char *trim(char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1]))
        s[--n] = '\0';
    return s;
}

/* Lines of `option = value`; `[command]` opens a section that holds for one command only; # starts a comment.
 */
static bool add_config(struct words *w, const struct command *c, const char *path, struct err *e)
{
    char *text = file_read(path, 1 << 20, NULL, e);
    if (!text)
        return false;
    bool ours = true, ok = true;
    int number = 0;
    for (char *rest = text, *line; ok && (line = strsep(&rest, "\n"));) {
        number++;
        line = trim(line);
        if (*line == '\0' || *line == '#')
            continue;
        size_t n = strlen(line);
        if (*line == '[' && line[n - 1] == ']') {
            line[n - 1] = '\0';
            ours = strcmp(line + 1, c->name) == 0;
            if (!command_find(line + 1))
                ok = err_set(e, ERR_USAGE, "%s:%d: there is no command '%s'", path, number, line + 1);
            continue;
        }
        char *equals = strchr(line, '=');
        if (!equals) {
            ok = err_set(e, ERR_USAGE, "%s:%d: expected 'option = value'", path, number);
            continue;
        }
        *equals = '\0';
        const struct argp_option *o = option_find(c, trim(line));
        if (ours && o)
            ok = add_default(w, o, trim(equals + 1), path, e);
    }
    free(text);
    return ok;
}

bool command_argv(const struct command *c, int argc, char **argv, int *n_out, char ***out, struct err *e)
{
    struct words w = {0};
    const char *config = NULL;
    char path[4096];
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0)
            config = argv[i] + 9;
        else if (strcmp(argv[i], "--config") == 0 && i + 1 < argc)
            config = argv[i + 1];
    }
    if (!config) {
        const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
        int n = base && *base ? snprintf(path, sizeof path, "%s/aftermap/config", base)
                              : snprintf(path, sizeof path, "%s/.config/aftermap/config", home ? home : "");
        if (n > 0 && (size_t)n < sizeof path && file_exists(path))
            config = path;
    }
    if (!words_add(&w, argv[0], e) || (config && !add_config(&w, c, config, e)) || !add_environment(&w, c, e))
        return false;
    for (int i = 1; i < argc; i++)
        if (!words_add(&w, argv[i], e))
            return false;
    *n_out = w.n;
    *out = w.item;
    return true;
}
