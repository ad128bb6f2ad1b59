/* SPDX-License-Identifier: Apache-2.0
 *
 * command.h - how a command of `aftermap` is declared: once, as a row of the table in main.c with its argp
 * options. Help, man page, shell completion, environment variables and configuration keys all derive from
 * that row.
 *
 * Only app/ reads argv, prints, or ends the process. Data goes to stdout, talk to stderr. */
#ifndef AM_COMMAND_H
#define AM_COMMAND_H

#include "models/base/err.h"
#include "models/base/progress.h"
#include <argp.h>
#include <cJSON.h>
#include <stdint.h>

/* Options that every command has (common.c). */
struct common {
    bool quiet, json, dry_run, overwrite, strict;
    const char *progress; /* auto, plain, json, none */
    uint64_t seed;
    int threads; /* 0: what OpenMP finds */
};

struct command {
    const char *name, *args_doc, *summary, *doc;
    const struct argp_option *options;                              /* NULL: only the common ones */
    error_t (*parse)(int key, char *arg, struct argp_state *state); /* state->input: struct invocation */
    size_t options_size;             /* size of the command's own option struct, zeroed before parse */
    void (*defaults)(void *options); /* NULL: zeros are right */
    bool (*run)(void *options, const struct common *common, const struct progress *progress, struct err *e);
    bool few_drivers; /* true: only GeoTIFF, GeoPackage, ... are registered */
    /* Ended by NULL: a group, which does nothing itself; its members are named by two words, "lab pate". */
    const struct command *const *subcommands;
};

struct invocation {
    void *options;
    struct common common;
};

/* The table, ended by NULL. */
extern const struct command *const commands[];
extern const struct argp common_argp;
const struct command *command_find(const char *name); /* of members of groups both words */

/* Fills in->options (of in's command, defaults set) and in->common from words (words[0]: who speaks in a
 * message). On nonsense argp says what was expected and ends the process with 2. */
void command_parse(const struct command *c, int n_words, char **words, struct invocation *in);
/* in->options allocated with the command's defaults; caller frees. */
bool command_options(const struct command *c, struct invocation *in, struct err *e);

extern const struct command command_tile, command_train, command_assess, command_evaluate, command_serve,
    command_info, command_help, command_completion, command_label, command_loop, command_experiment,
    command_sample, command_estimate, command_report, command_align, command_discover, command_lab,
    command_lab_pate, command_audit, command_distil, command_lab_extract, command_lab_diffuse,
    command_lab_lag;

/* Strict parsing of option values: on nonsense argp_error() says what was expected and exits 2. */
long long parse_int(struct argp_state *state, const char *option, const char *arg, long long low,
                    long long high);
double parse_real(struct argp_state *state, const char *option, const char *arg, double low, double high);
double parse_duration(struct argp_state *state, const char *option,
                      const char *arg); /* "90", "90s", "5m", "1h" in s */

/* A growing list of strings of argv (not copied). */
struct string_list {
    const char **item;
    int n;
};
void list_add(struct string_list *l, const char *s);

/* Prints a JSON document on stdout and frees it; ERR_RUNTIME when stdout does not take it. */
bool print_json(cJSON *json, struct err *e);
bool flush_stdout(struct err *e);

/* Prints argp's help for a command on stdout. */
void command_print_help(const struct command *c);
/* argv = defaults from the configuration file and AFTERMAP_* variables, then the command line (common.c). */
bool command_argv(const struct command *c, int argc, char **argv, int *n_out, char ***out, struct err *e);

#endif
