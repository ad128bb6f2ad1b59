/* SPDX-License-Identifier: Apache-2.0
 * cmd_serve.c - `aftermap serve`: map folders over HTTP on this machine (web/serve.h). */
#include "app/command.h"
#include "app/console.h"
#include "web/serve.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    KEY_PORT = 1,
    KEY_BIND,
    KEY_BASE_URL,
    KEY_TOKENS,
    KEY_CERT,
    KEY_KEY,
    KEY_INSECURE,
    KEY_CORS,
    KEY_RATE,
    KEY_ROOT,
    KEY_STORE,
    KEY_MAX_UPLOAD
};

static const struct argp_option options[] = {
    {"port", KEY_PORT, "PORT", 0, "Port to listen on; 0 takes a free one (default 8080)", 1},
    {"bind", KEY_BIND, "ADDRESS", 0,
     "Address to listen on (default 127.0.0.1); one that other machines can reach needs --token-file", 1},
    {"base-url", KEY_BASE_URL, "URL", 0,
     "Prefix of the links in answers (default: the address that the client asked for)", 1},
    {"token-file", KEY_TOKENS, "FILE", 0,
     "Ask for a token; FILE (mode 600) has one a line: ROLE NAME TOKEN, ROLE being reader, editor or admin",
     2},
    {"tls-cert", KEY_CERT, "FILE", 0, "Certificate (PEM) for HTTPS; needs --tls-key", 2},
    {"tls-key", KEY_KEY, "FILE", 0, "Its private key (PEM)", 2},
    {"insecure", KEY_INSECURE, NULL, 0,
     "Listen beyond this machine without tokens: everybody there may do everything", 2},
    {"cors", KEY_CORS, "ORIGIN", 0, "Let pages of this origin read from here (repeatable; default: none)", 2},
    {"rate", KEY_RATE, "N", 0,
     "Requests a second that one address may make, 0 for any number (default 200, on loopback any number)",
     2},
    {"data-root", KEY_ROOT, "ROOT", 0,
     "Folder of assessments to label, train and map in the browser; images and footprints below it can be "
     "chosen there",
     3},
    {"store", KEY_STORE, "postgresql:CONN", 0,
     "Keep labels and jobs in a PostgreSQL database (default: a GeoPackage in each assessment's folder)", 3},
    {"max-upload", KEY_MAX_UPLOAD, "GIB", 0, "Largest file that may be uploaded, in GiB (default 20)", 3},
    {0}};

struct serve_cmd {
    struct serve_options serve;
    struct string_list dirs, origins;
};

static void serve_cmd_defaults(void *options_)
{
    struct serve_cmd *c = options_;
    c->serve.bind = "127.0.0.1";
    c->serve.port = 8080;
    c->serve.rate = -1;
    c->serve.max_upload_bytes = (uint64_t)20 << 30;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct serve_cmd *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        list_add(&c->dirs, arg);
        break;
    case ARGP_KEY_END:
        if (c->dirs.n == 0 && !c->serve.data_root)
            argp_error(state, "name at least one folder made by `aftermap assess`, or a --data-root");
        if (c->serve.store_spec && !c->serve.data_root)
            argp_error(state, "--store goes with --data-root");
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
    case KEY_TOKENS:
        c->serve.token_file = arg;
        break;
    case KEY_CERT:
        c->serve.tls_cert = arg;
        break;
    case KEY_KEY:
        c->serve.tls_key = arg;
        break;
    case KEY_INSECURE:
        c->serve.is_insecure = true;
        break;
    case KEY_CORS:
        list_add(&c->origins, arg);
        break;
    case KEY_ROOT:
        c->serve.data_root = arg;
        break;
    case KEY_STORE:
        c->serve.store_spec = arg;
        break;
    case KEY_MAX_UPLOAD:
        c->serve.max_upload_bytes =
            (uint64_t)(parse_real(state, "--max-upload", arg, 0.001, 1e5) * (1 << 30));
        break;
    case KEY_RATE:
        c->serve.rate = parse_real(state, "--rate", arg, 0, 1e6);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static bool has_command(const char *name)
{
    return command_find(name) != NULL;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct serve_cmd *c = options_;
    c->serve.dirs = c->dirs.item;
    c->serve.n_dirs = c->dirs.n;
    c->serve.origins = c->origins.item;
    c->serve.n_origins = c->origins.n;
    c->serve.has_command = has_command;
    struct serve *s = serve_start(&c->serve, e);
    if (!s)
        return false;
    if (common->dry_run) {
        console_say("dry run: the folders can be served");
        serve_stop(s);
        return true;
    }
    bool is_ipv6 = strchr(c->serve.bind, ':'); /* an IPv6 address stands in brackets in a URL */
    printf("http%s://%s%s%s:%u/\n", c->serve.tls_cert ? "s" : "", is_ipv6 ? "[" : "", c->serve.bind,
           is_ipv6 ? "]" : "", (unsigned)serve_port(s));
    bool ok = flush_stdout(e);
    if (ok && c->serve.data_root)
        console_say("serving the assessments of %s; Ctrl-C ends it", c->serve.data_root);
    else if (ok)
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
    .args_doc = "[DIR...]",
    .summary = "Show maps in a browser and to QGIS",
    .doc = "Serves folders made by `aftermap assess`: a page with a swipe map, OGC API Features for QGIS and "
           "ogr2ogr, the files "
           "with Range requests, and map tiles.\v"
           "Prints its address on standard output. Nothing outside this machine is contacted, and nothing "
           "outside it is "
           "answered unless --bind says so, which needs tokens; give a certificate then, or tokens travel in "
           "the clear.\n\n"
           "With --data-root the page also makes assessments, labels, trains and maps; without it nothing on "
           "the disk is changed.\n\n"
           "Examples:\n  aftermap serve map --port 8080\n  aftermap serve --data-root /srv/events",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct serve_cmd),
    .defaults = serve_cmd_defaults,
    .run = run,
    .few_drivers = true,
};
