/* SPDX-License-Identifier: Apache-2.0
 * main.c - the command line of aftermap: the table of commands, what surrounds each of them, and the exit
 * status.
 *
 * Exit statuses: 0 done, 1 runtime failure, 2 wrong use, 3 input rejected, 4 done with notes under --strict,
 * 5 out of memory, disk or time, 6 bad model, 7 cannot serve, 130/143 interrupted after saving what can be
 * resumed. */
#include "app/command.h"
#include "app/console.h"
#include "geo/event.h"
#include "models/base/mem.h"
#include "models/kernels/kernels.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct command *const commands[] = {
    &command_tile,       &command_align,    &command_train,  &command_assess,     &command_evaluate,
    &command_sample,     &command_estimate, &command_report, &command_label,      &command_loop,
    &command_experiment, &command_discover, &command_distil, &command_audit,      &command_lab,
    &command_serve,      &command_info,     &command_help,   &command_completion, NULL};

const struct command *command_find(const char *name)
{
    for (const struct command *const *c = commands; *c; c++) {
        if (strcmp((*c)->name, name) == 0)
            return *c;
        for (const struct command *const *sub = (*c)->subcommands; sub && *sub; sub++)
            if (strcmp((*sub)->name, name) == 0)
                return *sub;
    }
    return NULL;
}

static const struct argp_child common_child[] = {{&common_argp, 0, "Common options", 80}, {0}};

/* argp keeps the parser stateless, so the command travels beside its options. */
struct parse_input {
    const struct command *command;
    struct invocation *invocation;
};

static error_t parse_command(int key, char *arg, struct argp_state *state)
{
    struct parse_input *in = state->input;
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = &in->invocation->common;
        return 0;
    }
    if (!in->command->parse)
        return ARGP_ERR_UNKNOWN;
    state->input = in->invocation;
    error_t result = in->command->parse(key, arg, state);
    state->input = in;
    return result;
}

static struct argp command_argp(const struct command *c)
{
    return (struct argp){.options = c->options,
                         .parser = parse_command,
                         .args_doc = c->args_doc,
                         .doc = c->doc,
                         .children = common_child};
}

void command_print_help(const struct command *c)
{
    char name[64];
    struct argp argp = command_argp(c);
    snprintf(name, sizeof name, "aftermap %s", c->name);
    if (c->subcommands) {
        printf("Usage: %s %s\n%s\n\n", name, c->args_doc, c->doc);
        for (const struct command *const *sub = c->subcommands; *sub; sub++)
            printf("  %-12s %s\n", (*sub)->name, (*sub)->summary);
        printf("\n`%s NAME --help` says more.\n", name);
        return;
    }
    argp_help(&argp, stdout, ARGP_HELP_STD_HELP & ~(ARGP_HELP_EXIT_OK | ARGP_HELP_EXIT_ERR), name);
}

/* Two libraries read their settings when they load, so what they get wrong can only be mended by starting
 * again; once, and never against a choice of the user's.
 * - OpenMP's threads spin while they wait. On a busy laptop the spinning one keeps the processor from the one
 * waited for: with both cores shared, a training step took more than twice as long as with waiting threads
 * asleep.
 * - OpenBLAS takes processors newer than itself for ones of twenty years ago (kernels_blas_advice). */
static void mend_environment(char **argv)
{
    static const char mark[] = "AFTERMAP_STARTED_AGAIN";
    const char *advice = kernels_blas_advice();
    const char *core = advice ? strstr(advice, "OPENBLAS_CORETYPE=") : NULL;
    bool set_core = core && !getenv("OPENBLAS_CORETYPE"), set_wait = !getenv("OMP_WAIT_POLICY");
    if (getenv(mark)) {
        unsetenv(mark); /* programs started from here decide for themselves */
        return;
    }
    if (!set_core && !set_wait)
        return;
    if (set_core) {
        char value[32];
        core += strlen("OPENBLAS_CORETYPE=");
        snprintf(value, sizeof value, "%.*s", (int)strcspn(core, " .,;)\""), core);
        setenv("OPENBLAS_CORETYPE", value, 1);
    }
    if (set_wait)
        setenv("OMP_WAIT_POLICY", "passive", 1);
    setenv(mark, "1", 1);
    execv("/proc/self/exe", argv); /* on failure we go on, only slower */
    unsetenv(mark);
}

static int finish(bool ok, const struct common *common, struct err *e)
{
    console_close();
    if (!ok) {
        console_error(e);
        if (e->code == ERR_INTERRUPTED && console_signal())
            return 128 + console_signal();
        return err_exit_status(e->code ? e->code : ERR_RUNTIME);
    }
    return common->strict && console_warnings() ? err_exit_status(ERR_STRICT) : 0;
}

bool command_options(const struct command *c, struct invocation *in, struct err *e)
{
    *in = (struct invocation){.common = {.seed = 1}};
    in->options = mem_array(1, c->options_size ? c->options_size : 1, "the options", e);
    if (in->options && c->defaults)
        c->defaults(in->options);
    return in->options;
}

void command_parse(const struct command *c, int n_words, char **words, struct invocation *in)
{
    struct argp argp = command_argp(c);
    struct parse_input input = {c, in};
    argp_err_exit_status = err_exit_status(ERR_USAGE);
    error_t bad = argp_parse(&argp, n_words, words, ARGP_IN_ORDER, NULL, &input);
    if (bad) {
        fprintf(stderr, "%s: %s\n", words[0], strerror(bad));
        exit(err_exit_status(ERR_USAGE));
    }
}

static int run_command(const struct command *c, int argc, char **argv)
{
    struct err e = {0};
    struct invocation in;
    char **words = NULL;
    int n_words = 0;
    if (!command_options(c, &in, &e) || !command_argv(c, argc, argv, &n_words, &words, &e)) {
        console_error(&e);
        return err_exit_status(e.code);
    }
    char name[64];
    snprintf(name, sizeof name, "aftermap %s", c->name);
    words[0] = name;
    command_parse(c, n_words, words, &in);
    if (in.common.threads)
        omp_set_num_threads(in.common.threads);
    const struct progress *progress = console_open(&in.common);
    bool ok = kernels_init(&e);
    if (ok) {
        /* a server's jobs see no more formats than the server does */
        const char *drivers = getenv("AFTERMAP_DRIVERS");
        geo_init(!c->few_drivers && !(drivers && strcmp(drivers, "few") == 0));
        ok = c->run(in.options, &in.common, progress, &e);
    }
    int status = finish(ok, &in.common, &e);
    free(in.options);
    return status;
}

static int usage(FILE *out)
{
    fprintf(out, "Usage: aftermap COMMAND [OPTION...]\n\n"
                 "From a pre- and a post-disaster image and building footprints to a damage map.\n\n");
    for (const struct command *const *c = commands; *c; c++)
        fprintf(out, "  %-12s %s\n", (*c)->name, (*c)->summary);
    fprintf(out, "\n`aftermap help COMMAND` or `aftermap COMMAND --help` says more; `aftermap --version` "
                 "tells the version.\n");
    return fflush(out) == 0 ? 0 : err_exit_status(ERR_RUNTIME);
}

/* The member of a group that the second word names, or NULL when the status to end with is known already. */
static const struct command *choose_member(const struct command *group, const char *word, int *status)
{
    char name[64];
    if (word && (strcmp(word, "--help") == 0 || strcmp(word, "-?") == 0)) {
        command_print_help(group);
        *status = fflush(stdout) == 0 ? 0 : err_exit_status(ERR_RUNTIME);
        return NULL;
    }
    snprintf(name, sizeof name, "%s %.40s", group->name, word ? word : "");
    const struct command *c = word ? command_find(name) : NULL;
    if (!c)
        fprintf(stderr, "aftermap: %s%s%s; `aftermap help %s` lists them\n",
                word ? "there is no command '" : "name a command of the group ", word ? name : group->name,
                word ? "'" : "", group->name);
    *status = err_exit_status(ERR_USAGE);
    return c;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return err_exit_status(ERR_USAGE);
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("aftermap %s\n", AM_VERSION);
        return fflush(stdout) == 0 ? 0 : err_exit_status(ERR_RUNTIME);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "-?") == 0)
        return usage(stdout);
    const struct command *c = command_find(argv[1]);
    if (!c) {
        fprintf(stderr, "aftermap: there is no command '%s'; `aftermap help` lists them\n", argv[1]);
        return err_exit_status(ERR_USAGE);
    }
    const int n_words = c->subcommands ? 2 : 1;
    int status;
    if (c->subcommands && !(c = choose_member(c, argv[2], &status)))
        return status;
    mend_environment(argv);
    return run_command(c, argc - n_words, argv + n_words);
}
