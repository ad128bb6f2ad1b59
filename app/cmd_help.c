/* SPDX-License-Identifier: Apache-2.0
 * cmd_help.c - `aftermap help`, the man page and the shell completions: all made from the table of commands
 * and their argp options, so that none of them can tell another story than the program. */
#include "app/command.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { KEY_MAN = 1 };

struct help_cmd {
    char topic[64]; /* one word, or two for a member of a group */
    bool man;
};

static const struct argp_option help_options[] = {
    {"man", KEY_MAN, NULL, 0, "Print the man page's source (mdoc) instead", 1}, {0}};

static error_t parse_help(int key, char *arg, struct argp_state *state)
{
    struct help_cmd *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->topic[0] && !(command_find(c->topic) && command_find(c->topic)->subcommands))
            argp_error(state, "one command at a time");
        snprintf(c->topic + strlen(c->topic), sizeof c->topic - strlen(c->topic), "%s%s",
                 c->topic[0] ? " " : "", arg);
        return 0;
    case KEY_MAN:
        c->man = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* mdoc text: a leading dot or quote and every backslash would be taken for a request. */
static void mdoc_text(const char *s)
{
    bool line_start = true;
    for (; *s; s++) {
        if (*s == '\v' || *s == '\n') {
            puts(line_start ? ".Pp" : "\n.Pp");
            while (s[1] == '\n' || s[1] == '\v')
                s++;
            line_start = true;
            continue;
        }
        if (line_start && (*s == '.' || *s == '\''))
            fputs("\\&", stdout);
        fputs(*s == '\\' ? "\\e" : *s == '-' ? "\\-" : (char[]){*s, '\0'}, stdout);
        line_start = false;
    }
    if (!line_start)
        putchar('\n');
}

static void mdoc_options(const struct argp_option *o)
{
    puts(".Bl -tag -width Ds");
    for (; o && (o->name || o->key || o->doc); o++) {
        if (!o->name)
            continue;
        printf(".It Fl \\-%s", o->name);
        if (o->arg)
            printf(" Ns = Ns Ar %s", o->arg);
        if (o->key > 32 && o->key < 127)
            printf(" , Fl %c", o->key);
        putchar('\n');
        mdoc_text(o->doc);
    }
    puts(".El");
}

static void mdoc_commands(const struct command *const *c)
{
    for (; c && *c; c++) {
        printf(".Ss aftermap %s\n", (*c)->name);
        mdoc_text((*c)->doc);
        if ((*c)->options)
            mdoc_options((*c)->options);
        mdoc_commands((*c)->subcommands);
    }
}

static void print_man(void)
{
    puts(".\\\" Made by `aftermap help --man` from the program's option tables.\n.Dd $Mdocdate$\n.Dt "
         "AFTERMAP 1\n.Os\n.Sh NAME\n"
         ".Nm aftermap\n.Nd damage maps from pre\\- and post\\-disaster imagery\n.Sh SYNOPSIS");
    for (const struct command *const *c = commands; *c; c++)
        printf(".Nm aftermap\n.Cm %s\n.Op Ar options\n.Ar %s\n", (*c)->name,
               (*c)->args_doc && *(*c)->args_doc ? (*c)->args_doc : "...");
    puts(".Sh DESCRIPTION\n.Nm\nturns a pre\\- and a post\\-disaster image and building footprints into a "
         "damage map, from a few "
         "labels, without a network or a GPU.\nData go to standard output, progress and notes to standard "
         "error.\n"
         ".Sh COMMANDS");
    mdoc_commands(commands);
    puts(".Ss Options of every command");
    mdoc_options(common_argp.options);
    puts(".Sh ENVIRONMENT\nEvery long option may be given as\n.Ev AFTERMAP_ Ns Ar OPTION\n(capitals, "
         "underscores for dashes).\n"
         ".Bl -tag -width Ds\n.It Ev AFTERMAP_KERNELS\nplain, baseline, avx2 or avx512: the instruction set "
         "to use.\n"
         ".It Ev AFTERMAP_CONV\nwinograd or direct: how 3x3 convolutions are computed.\n"
         ".It Ev AFTERMAP_DRIVERS\nfew: read the formats that\n.Ic serve\nreads, and no others.\n.El\n.Sh "
         "FILES\n"
         ".Bl -tag -width Ds\n.It Pa $XDG_CONFIG_HOME/aftermap/config\nLines of\n.Ql option = value ;\na "
         "line\n.Ql [command]\nstarts what holds "
         "for one command. The command line wins over the environment, and that over the file.\n.El\n.Sh "
         "EXIT STATUS\n"
         ".Bl -tag -width Ds");
#define ROW(name, text, status, http)                                                                        \
    if (strcmp(#name, "NOT_FOUND") != 0 && strcmp(#name, "CONFLICT") != 0)                                   \
        printf(".It %d\n%s\n", status, text);
    ERR_TABLE(ROW)
#undef ROW
    puts(".It 143\nterminated\n.El");
}

static bool run_help(void *options_, const struct common *common, const struct progress *progress,
                     struct err *e)
{
    struct help_cmd *c = options_;
    (void)common;
    (void)progress;
    if (c->man) {
        print_man();
        return flush_stdout(e);
    }
    if (c->topic[0]) {
        const struct command *topic = command_find(c->topic);
        if (!topic)
            return err_set(e, ERR_USAGE, "there is no command '%s'; `aftermap help` lists them", c->topic);
        command_print_help(topic);
        return flush_stdout(e);
    }
    puts("Usage: aftermap COMMAND [OPTION...]\n\nCommands:");
    for (const struct command *const *k = commands; *k; k++)
        printf("  %-12s %s\n", (*k)->name, (*k)->summary);
    puts("\n`aftermap help COMMAND` says more. The usual course: tile, train, assess, evaluate, serve.");
    return flush_stdout(e);
}

const struct command command_help = {
    .name = "help",
    .args_doc = "[COMMAND]",
    .summary = "Explain a command",
    .doc = "Lists the commands, or explains one.",
    .options = help_options,
    .parse = parse_help,
    .options_size = sizeof(struct help_cmd),
    .run = run_help,
};

/* ---- completions */

struct completion_cmd {
    const char *shell;
};

static error_t parse_completion(int key, char *arg, struct argp_state *state)
{
    struct completion_cmd *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->shell || (strcmp(arg, "bash") && strcmp(arg, "zsh") && strcmp(arg, "fish")))
            argp_error(state, "name one shell: bash, zsh or fish");
        c->shell = arg;
        return 0;
    case ARGP_KEY_END:
        if (!c->shell)
            argp_error(state, "name the shell: bash, zsh or fish");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void print_option_words(const struct argp_option *o)
{
    for (; o && (o->name || o->key || o->doc); o++)
        if (o->name)
            printf(" --%s%s", o->name, o->arg ? "=" : "");
}

/* The second word of a member's name, which holds both. */
static const char *member_name(const struct command *c)
{
    const char *space = strchr(c->name, ' ');
    assert(space);
    return space + 1;
}

static void print_bash_words(const struct command *c)
{
    fputs("words='--help", stdout);
    print_option_words(c->options);
    print_option_words(common_argp.options);
    fputs("'", stdout);
}

static void print_bash_group(const struct command *group)
{
    printf("      %s) case ${COMP_WORDS[2]} in\n", group->name);
    for (const struct command *const *c = group->subcommands; *c; c++) {
        printf("          %s) ", member_name(*c));
        print_bash_words(*c);
        puts(" ;;");
    }
    puts("        esac");
    fputs("        if [ \"$COMP_CWORD\" -eq 2 ]; then names=1; words='--help", stdout);
    for (const struct command *const *c = group->subcommands; *c; c++)
        printf(" %s", member_name(*c));
    puts("'; fi ;;");
}

static void print_bash(void)
{
    puts("# bash completion for aftermap, made from its option tables\n_aftermap() {\n  local "
         "cur=${COMP_WORDS[COMP_CWORD]} words names=''");
    puts("  if [ \"$COMP_CWORD\" -eq 1 ]; then");
    fputs("    words='--help --version", stdout);
    for (const struct command *const *c = commands; *c; c++)
        printf(" %s", (*c)->name);
    puts("'\n  else\n    case ${COMP_WORDS[1]} in");
    for (const struct command *const *c = commands; *c; c++) {
        if ((*c)->subcommands) {
            print_bash_group(*c);
            continue;
        }
        printf("      %s) ", (*c)->name);
        print_bash_words(*c);
        puts(" ;;");
    }
    puts("    esac\n  fi\n  if [[ $cur == -* || $COMP_CWORD -eq 1 || -n $names ]]; then\n    mapfile -t "
         "COMPREPLY < "
         "<(compgen -W \"$words\" -- \"$cur\")\n"
         "    [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace\n  else\n    mapfile -t COMPREPLY < "
         "<(compgen -f -- \"$cur\")\n  fi\n}\n"
         "complete -o filenames -F _aftermap aftermap");
}

/* zsh and fish quote with single quotes; the tables' texts may hold them. */
static void print_quoted(const char *s, bool zsh)
{
    for (; *s; s++) {
        if (*s == '\'')
            fputs(zsh ? "'\\''" : "\\'", stdout);
        else if (zsh && strchr("[]:", *s))
            printf("\\%c", *s);
        else
            putchar(*s);
    }
}

static void print_zsh_options(const struct argp_option *o)
{
    for (; o && (o->name || o->key || o->doc); o++) {
        if (!o->name)
            continue;
        printf(" \\\n      '--%s%s[", o->name, o->arg ? "=" : "");
        print_quoted(o->doc, true);
        printf("]%s'", o->arg ? ":value:_files" : "");
    }
}

static void print_zsh_arguments(const struct command *c)
{
    printf(" _arguments");
    if (c->options)
        print_zsh_options(c->options);
    print_zsh_options(common_argp.options);
    puts(" \\\n      '*:file:_files' ;;");
}

static void print_zsh_group(const struct command *group)
{
    fputs(" if (( CURRENT == 2 )); then compadd", stdout);
    for (const struct command *const *c = group->subcommands; *c; c++)
        printf(" %s", member_name(*c));
    puts("; return; fi\n      cmd=$words[2]; shift words; (( CURRENT-- ))\n      case $cmd in");
    for (const struct command *const *c = group->subcommands; *c; c++) {
        printf("        %s)", member_name(*c));
        print_zsh_arguments(*c);
    }
    puts("      esac ;;");
}

static void print_zsh(void)
{
    puts("#compdef aftermap\n# zsh completion for aftermap, made from its option tables\n_aftermap() {\n  "
         "local -a list\n  list=(");
    for (const struct command *const *c = commands; *c; c++) {
        printf("    '%s:", (*c)->name);
        print_quoted((*c)->summary, true);
        puts("'");
    }
    puts("  )\n  if (( CURRENT == 2 )); then _describe command list; return; fi\n  local cmd=$words[2]\n  "
         "shift words; (( CURRENT-- ))\n"
         "  case $cmd in");
    for (const struct command *const *c = commands; *c; c++) {
        printf("    %s)", (*c)->name);
        if ((*c)->subcommands)
            print_zsh_group(*c);
        else
            print_zsh_arguments(*c);
    }
    puts("  esac\n}\n_aftermap \"$@\"");
}

/* group: the first word when `command` is the second, or NULL. */
static void print_fish_options(const struct argp_option *o, const char *group, const char *command)
{
    for (; o && (o->name || o->key || o->doc); o++) {
        if (!o->name)
            continue;
        printf("complete -c aftermap -n '%s%s%s__fish_seen_subcommand_from %s' -l %s%s -d '",
               group ? "__fish_seen_subcommand_from " : "", group ? group : "", group ? "; and " : "",
               command, o->name, o->arg ? " -r" : "");
        print_quoted(o->doc, false);
        puts("'");
    }
}

static void print_fish(void)
{
    puts("# fish completion for aftermap, made from its option tables");
    for (const struct command *const *c = commands; *c; c++) {
        printf("complete -c aftermap -n __fish_use_subcommand -a %s -d '", (*c)->name);
        print_quoted((*c)->summary, false);
        puts("'");
        print_fish_options((*c)->options, NULL, (*c)->name);
        print_fish_options(common_argp.options, NULL, (*c)->name);
        for (const struct command *const *sub = (*c)->subcommands; sub && *sub; sub++) {
            printf("complete -c aftermap -n '__fish_seen_subcommand_from %s' -a %s -d '", (*c)->name,
                   member_name(*sub));
            print_quoted((*sub)->summary, false);
            puts("'");
            print_fish_options((*sub)->options, (*c)->name, member_name(*sub));
        }
    }
}

static bool run_completion(void *options_, const struct common *common, const struct progress *progress,
                           struct err *e)
{
    struct completion_cmd *c = options_;
    (void)common;
    (void)progress;
    if (strcmp(c->shell, "bash") == 0)
        print_bash();
    else if (strcmp(c->shell, "zsh") == 0)
        print_zsh();
    else
        print_fish();
    return flush_stdout(e);
}

const struct command command_completion = {
    .name = "completion",
    .args_doc = "bash|zsh|fish",
    .summary = "Print a shell's completion script",
    .doc = "Prints a completion script for bash, zsh or fish.\vExample: aftermap completion bash > "
           "~/.local/share/bash-completion/completions/aftermap",
    .parse = parse_completion,
    .options_size = sizeof(struct completion_cmd),
    .run = run_completion,
};
