/* SPDX-License-Identifier: Apache-2.0
 * cmd_serve.c - `aftermap serve`: map folders over HTTP on this machine (web/serve.h). */
#include "app/command.h"
#include "app/console.h"
#include "web/serve.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { KEY_PORT = 1, KEY_BIND, KEY_BASE_URL };

static const struct argp_option options[] = {
    {"port", KEY_PORT, "PORT", 0, "Port to listen on; 0 takes a free one (default 8080)", 1},
    {"bind", KEY_BIND, "ADDRESS", 0, "Loopback address to listen on (default 127.0.0.1)", 1},
    {"base-url", KEY_BASE_URL, "URL", 0, "Prefix of the links in answers (default http://ADDRESS:PORT)", 1},
    {0}};

struct serve_cmd {
    struct serve_options serve;
    struct string_list dirs;
};

static void serve_cmd_defaults(void *options_)
{
    struct serve_cmd *c = options_;
    c->serve.bind = "127.0.0.1";
    c->serve.port = 8080;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct serve_cmd *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        list_add(&c->dirs, arg);
        break;
    case ARGP_KEY_END:
        if (c->dirs.n == 0)
            argp_error(state, "name at least one folder made by `aftermap assess`");
        break;
    case KEY_PORT:
        c->serve.port = (uint16_t)parse_int(state, "--port", arg, 0, 65535);
        break;
    case KEY_BIND:
        c->serve.bind = arg;
        break;
    case KEY_BASE_URL:
        c->serve.base_url = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct serve_cmd *c = options_;
    c->serve.dirs = c->dirs.item;
    c->serve.n_dirs = c->dirs.n;
    struct serve *s = serve_start(&c->serve, e);
    if (!s)
        return false;
    if (common->dry_run) {
        console_say("dry run: the folders can be served");
        serve_stop(s);
        return true;
    }
    bool is_ipv6 = strchr(c->serve.bind, ':'); /* an IPv6 address stands in brackets in a URL */
    printf("http://%s%s%s:%u/\n", is_ipv6 ? "[" : "", c->serve.bind, is_ipv6 ? "]" : "",
           (unsigned)serve_port(s));
    bool ok = flush_stdout(e);
    if (ok)
        console_say("serving %d map%s; Ctrl-C ends it", c->dirs.n, c->dirs.n == 1 ? "" : "s");
    while (ok && !progress_stopped(progress)) {
        struct timespec pause = {.tv_nsec = 100000000};
        nanosleep(&pause, NULL); /* a signal cuts the pause short */
    }
    serve_stop(s);
    return ok; /* being told to stop is how serving ends, not a failure */
}

const struct command command_serve = {
    .name = "serve",
    .args_doc = "DIR...",
    .summary = "Show maps in a browser and to QGIS, on this machine only",
    .doc = "Serves folders made by `aftermap assess`: a page with a swipe map, OGC API Features for QGIS and "
           "ogr2ogr, the files "
           "with Range requests, and map tiles.\v"
           "Prints its address on standard output. Nothing outside this machine is contacted.\n\n"
           "Example: aftermap serve map --port 8080",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct serve_cmd),
    .defaults = serve_cmd_defaults,
    .run = run,
    .few_drivers = true,
};
