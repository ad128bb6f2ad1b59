/* SPDX-License-Identifier: Apache-2.0
 * lab_extract.c - `aftermap lab extract`: direct recovery of a two-layer ReLU network from its answers
 * (models/learn/extraction.h), for a network of one's own in a file or a random one, at the precision that a service
 * would answer with; with `--answers` given several ways, the table of what precision the attack needs. */
#include "app/command.h"
#include "app/console.h"
#include "models/base/mem.h"
#include "models/learn/extraction.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_ANSWERS = 1, KEY_QUERIES, KEY_TIME, KEY_WIDTH, KEY_POINTS };
enum { MAX_ROWS = 16 };

static const struct argp_option options[] = {
    {"answers", KEY_ANSWERS, "HOW[,HOW...]", 0,
     "What is answered: logits or probs, with :float32 or :N decimals behind it, such as logits:9 (default "
     "logits, in "
     "double precision)",
     1},
    {"width", KEY_WIDTH, "known|unknown", 0,
     "Whether the outsider knows the number of units (default unknown: ends after 15 lines without a new "
     "one)",
     1},
    {"queries", KEY_QUERIES, "N", 0, "Give up after N queries (default 1000000)", 2},
    {"time", KEY_TIME, "TIME", 0, "Give up after this time: 90s, 5m (default 5m)", 2},
    {"points", KEY_POINTS, "N", 0, "Fresh inputs the copy is compared on (default 10000)", 2},
    {"output", 'o', "COPY.json", 0, "Write the copy of the last way of answering", 3},
    {0}};

struct answers {
    bool probabilities, single;
    int decimals;
    char name[24];
};

struct lab_extract {
    const char *victim, *out;
    struct answers row[MAX_ROWS];
    int n_rows, n_points;
    int64_t max_queries;
    double max_seconds;
    bool knows_width;
};

static void lab_extract_defaults(void *options_)
{
    struct lab_extract *c = options_;
    c->max_queries = 1000000;
    c->max_seconds = 300;
    c->n_points = 10000;
}

static void parse_answers(struct lab_extract *c, const char *arg, struct argp_state *state)
{
    c->n_rows = 0;
    for (const char *at = arg; at; c->n_rows++) {
        const size_t length = strcspn(at, ",");
        struct answers *r = &c->row[c->n_rows];
        if (c->n_rows == MAX_ROWS || length == 0 || length >= sizeof r->name)
            argp_error(state, "--answers takes one to %d ways separated by commas, not '%s'", MAX_ROWS, arg);
        *r = (struct answers){.decimals = -1};
        snprintf(r->name, sizeof r->name, "%.*s", (int)length, at);
        const char *how = strchr(r->name, ':');
        const size_t kind = how ? (size_t)(how - r->name) : length;
        r->probabilities = kind == 5 && strncmp(r->name, "probs", kind) == 0;
        if (!r->probabilities && !(kind == 6 && strncmp(r->name, "logits", kind) == 0))
            argp_error(state, "--answers takes logits or probs, not '%s'", r->name);
        if (how && strcmp(how, ":float32") == 0)
            r->single = true;
        else if (how)
            r->decimals = (int)parse_int(state, "--answers (decimals)", how + 1, 1, 15);
        at = at[length] ? at + length + 1 : NULL;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct lab_extract *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->victim)
            argp_error(state, "one network at a time: '%s' is a second one", arg);
        c->victim = arg;
        break;
    case ARGP_KEY_END:
        if (!c->victim)
            argp_error(state, "name the network's file, or random:INPUTS-UNITS-OUTPUTS");
        if (c->n_rows == 0)
            parse_answers(c, "logits", state);
        break;
    case KEY_ANSWERS:
        parse_answers(c, arg, state);
        break;
    case KEY_WIDTH:
        if (strcmp(arg, "known") != 0 && strcmp(arg, "unknown") != 0)
            argp_error(state, "--width takes known or unknown, not '%s'", arg);
        c->knows_width = *arg == 'k';
        break;
    case KEY_QUERIES:
        c->max_queries = parse_int(state, "--queries", arg, 1, 1000000000);
        break;
    case KEY_TIME:
        c->max_seconds = parse_duration(state, "--time", arg);
        break;
    case KEY_POINTS:
        c->n_points = (int)parse_int(state, "--points", arg, 1, 10000000);
        break;
    case 'o':
        c->out = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static bool open_victim(const struct lab_extract *c, uint64_t seed, struct extraction_net *net, struct err *e)
{
    int size[3] = {0};
    const char *at = c->victim + strlen("random:");
    if (strncmp(c->victim, "random:", strlen("random:")) != 0)
        return extraction_net_read(net, c->victim, e);
    for (int i = 0; i < 3; i++) {
        char *end;
        const long v = strtol(at, &end, 10);
        if (end == at || *end != (i < 2 ? '-' : '\0') || v < 1 || v > 4096)
            return err_set(e, ERR_USAGE,
                           "%s: wants random:INPUTS-UNITS-OUTPUTS such as random:32-16-4, each 1 to 4096",
                           c->victim);
        size[i] = (int)v;
        at = end + 1;
    }
    return extraction_net_random(net, size[0], size[1], size[2], seed, e);
}

struct row {
    bool ok;
    struct err why;
    struct extraction_likeness like;
    bool is_signed;
    int n_units;
    int64_t n_queries;
    double seconds;
};

/* One way of answering. A victim that the attack does not get is a result; an interruption is not. */
static bool attack(const struct lab_extract *c, const struct answers *how, const struct extraction_net *net,
                   uint64_t seed, bool is_last, struct row *r, const struct progress *progress, struct err *e)
{
    struct extraction_service service;
    struct extraction_copy copy = {0};
    struct extraction_options o = {.h = c->knows_width ? net->h : 0,
                                   .max_queries = c->max_queries,
                                   .max_seconds = c->max_seconds,
                                   .seed = seed};
    if (!extraction_service_open(&service, net, how->probabilities, how->single, how->decimals, e))
        return false;
    extraction_service_precision(&service, &o);
    const struct extraction_oracle oracle = extraction_service_oracle(&service);
    r->ok = extraction_run(&oracle, &o, &copy, progress, &r->why);
    r->n_units = copy.n_found;
    r->n_queries = copy.n_queries;
    r->seconds = copy.seconds;
    r->is_signed = copy.is_signed;
    const enum err_code code = r->why.code;
    const bool is_row = code == ERR_RESOURCE || code == ERR_INPUT;
    bool ok = r->ok || (is_row && c->n_rows > 1 && !(c->out && is_last));
    if (!ok)
        *e = r->why;
    if (ok && r->ok)
        ok = extraction_compare(net, &copy, c->n_points, seed, &r->like, e) &&
             (!c->out || !is_last || extraction_copy_write(&copy, c->out, e));
    extraction_copy_free(&copy);
    extraction_service_close(&service);
    return ok;
}

static cJSON *row_json(const struct answers *how, const struct row *r)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "answers", how->name);
    cJSON_AddBoolToObject(j, "extracted", r->ok);
    cJSON_AddNumberToObject(j, "units", r->n_units);
    cJSON_AddNumberToObject(j, "queries", (double)r->n_queries);
    cJSON_AddNumberToObject(j, "seconds", r->seconds);
    if (!r->ok) {
        cJSON_AddStringToObject(j, "reason", r->why.msg);
        return j;
    }
    cJSON_AddBoolToObject(j, "signed", r->is_signed);
    cJSON_AddNumberToObject(j, "max_difference", r->like.max);
    cJSON_AddNumberToObject(j, "median_difference", r->like.median);
    cJSON_AddNumberToObject(j, "agreement", r->like.agreement);
    return j;
}

static bool report(const struct lab_extract *c, const struct common *common, const struct extraction_net *net,
                   const struct row *row, struct err *e)
{
    const double n_parameters = (double)net->d * net->h + net->h + (double)net->h * net->k + net->k;
    if (common->json) {
        cJSON *j = cJSON_CreateObject(), *rows;
        cJSON_AddStringToObject(j, "kind", "direct extraction");
        cJSON_AddStringToObject(j, "victim", c->victim);
        cJSON_AddNumberToObject(j, "inputs", net->d);
        cJSON_AddNumberToObject(j, "units", net->h);
        cJSON_AddNumberToObject(j, "outputs", net->k);
        cJSON_AddNumberToObject(j, "parameters", n_parameters);
        cJSON_AddNumberToObject(j, "points", c->n_points);
        rows = cJSON_AddArrayToObject(j, "rows");
        for (int i = 0; i < c->n_rows; i++)
            cJSON_AddItemToArray(rows, row_json(&c->row[i], &row[i]));
        return print_json(j, e);
    }
    printf("%s: %d inputs, %d units, %d outputs, %.0f parameters; compared on %d inputs N(0, I)\n\n",
           c->victim, net->d, net->h, net->k, n_parameters, c->n_points);
    printf("%-16s %6s %9s %8s %9s %9s %10s %7s\n", "answers", "units", "queries", "a param.", "max diff",
           "median", "agreement", "signs");
    for (int i = 0; i < c->n_rows; i++) {
        const struct row *r = &row[i];
        printf("%-16s %6d %9lld %8.1f ", c->row[i].name, r->n_units, (long long)r->n_queries,
               (double)r->n_queries / n_parameters);
        if (r->ok)
            printf("%9.1e %9.1e %10.5f %7s\n", r->like.max, r->like.median, r->like.agreement,
                   r->is_signed ? "found" : "skip");
        else
            printf("not extracted: %s\n",
                   r->why.code == ERR_RESOURCE ? "queries or time spent" : "no unit could be confirmed");
    }
    return flush_stdout(e);
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    const struct lab_extract *c = options_;
    struct extraction_net net = {0};
    struct row *row = mem_array(MAX_ROWS, sizeof *row, "the table", e);
    bool ok = row && open_victim(c, common->seed, &net, e);
    if (ok && common->dry_run)
        console_say("dry run: %d inputs, %d units, %d outputs; nothing was asked", net.d, net.h, net.k);
    else {
        for (int i = 0; ok && i < c->n_rows; i++)
            ok = attack(c, &c->row[i], &net, common->seed, i == c->n_rows - 1, &row[i], progress, e);
        ok = ok && report(c, common, &net, row, e);
    }
    extraction_net_free(&net);
    free(row);
    return ok;
}

const struct command command_lab_extract = {
    .name = "lab extract",
    .args_doc = "NET.json|random:INPUTS-UNITS-OUTPUTS",
    .summary = "Recover a two-layer ReLU network from its answers alone",
    .doc = "Recovers every weight of a network with one layer of ReLU units, in double precision, by asking "
           "it at inputs of "
           "the outsider's choice; then compares the copy with the network on fresh inputs. Several "
           "--answers make the "
           "table of what rounding does to the attack.\v"
           "NET.json holds {\"activation\": \"relu\", \"a0\": [units][inputs], \"b0\": [units], \"a1\": "
           "[outputs][units], "
           "\"b1\": [outputs]}. The run is bounded: it ends with status 5 when queries or time are spent, "
           "and says so when "
           "the victim is of another kind. With more units than outputs times inputs the signs of units "
           "cannot be told; "
           "the copy then carries a linear part beside them and is as exact. Softmax is no protection, "
           "rounding is.\n\n"
           "Source: Jagielski, Carlini, Berthelot, Kurakin, Papernot 2020, section 5; Carlini, Jagielski, "
           "Mironov 2020.\n\n"
           "Example: aftermap lab extract random:32-16-4 --answers "
           "logits,probs,logits:9,logits:float32,logits:6,probs:3",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct lab_extract),
    .defaults = lab_extract_defaults,
    .run = run,
};
