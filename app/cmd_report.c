/* SPDX-License-Identifier: Apache-2.0
 * cmd_report.c - `aftermap report`: the printable page of a map and its totals (geo/report.h). */
#include "app/command.h"
#include "app/console.h"
#include "app/estimate_options.h"
#include "geo/report.h"
#include "models/base/file.h"

#include <math.h>
#include <string.h>

enum { KEY_LANG = 1, KEY_PAPER, KEY_TITLE, KEY_ORG, KEY_REVIEWED, KEY_PICTURE };

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0, "HTML file to write (required, unless --json)", 1},
    TOTALS_ARGP_OPTIONS,
    {"lang", KEY_LANG, "CODE", 0, "en, fr, es or ar (default en)", 4},
    {"paper", KEY_PAPER, "SIZE", 0, "a4 or letter (default a4)", 4},
    {"title", KEY_TITLE, "TEXT", 0, "Title of the report", 4},
    {"org", KEY_ORG, "TEXT", 0, "Organisation that issues it", 4},
    {"reviewed-by", KEY_REVIEWED, "NAME", 0, "Who answers for the grades", 4},
    {"picture-px", KEY_PICTURE, "PX", 0, "Longest side of the map's picture; 0: none (default 1000)", 4},
    {0}};

struct report_cmd {
    struct totals_options totals;
    struct report_options report;
    const char *out;
};

static void report_cmd_defaults(void *options_)
{
    struct report_cmd *c = options_;
    totals_defaults(&c->totals);
    report_defaults(&c->report);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct invocation *in = state->input;
    struct report_cmd *c = in->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->totals.map_dir)
            argp_error(state, "one map at a time: '%s' is a second one", arg);
        c->totals.map_dir = c->report.map_dir = arg;
        break;
    case ARGP_KEY_END:
        if (!c->totals.map_dir || !c->totals.truth)
            argp_error(state, "name the map folder, and the graded sample with --truth");
        if (!c->out && !in->common.json)
            argp_error(state, "name the file to write with -o");
        if (c->totals.zones && !c->totals.zone_id)
            argp_error(state, "say which field of %s names the zones with --zone-id", c->totals.zones);
        break;
    case 'o':
        c->out = arg;
        break;
    case KEY_LANG:
        if (!report_lang_parse(arg, &c->report.lang))
            argp_error(state, "--lang takes en, fr, es or ar, not '%s'", arg);
        break;
    case KEY_PAPER:
        if (strcmp(arg, "a4") != 0 && strcmp(arg, "letter") != 0)
            argp_error(state, "--paper takes a4 or letter, not '%s'", arg);
        c->report.letter = *arg == 'l';
        break;
    case KEY_TITLE:
        c->report.title = arg;
        break;
    case KEY_ORG:
        c->report.organisation = arg;
        break;
    case KEY_REVIEWED:
        c->report.reviewed_by = arg;
        break;
    case KEY_PICTURE:
        c->report.picture_px = (int)parse_int(state, "--picture-px", arg, 0, 4000);
        break;
    default:
        return totals_parse(key, arg, state, &c->totals);
    }
    return 0;
}

static bool write_html(const struct report_cmd *c, struct err *e)
{
    struct file_out *out = file_out_open(c->out, e);
    if (!out)
        return false;
    if (report_html(file_out_stream(out), &c->report, e))
        return file_out_commit(out, e);
    file_out_abort(out);
    return false;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct report_cmd *c = options_;
    struct totals_report r = {0};
    if (c->out && file_exists(c->out) && !common->overwrite)
        return err_set(e, ERR_USAGE, "%s exists already; choose another name or add --overwrite", c->out);
    if (!totals_run(&c->totals, progress, &r, e))
        return false;
    c->report.totals = &r;
    bool ok = !c->out || common->dry_run || write_html(c, e);
    if (ok && common->json) {
        cJSON *j = report_json(&c->report, e);
        ok = j && print_json(j, e);
    } else if (ok && !common->dry_run)
        console_say("wrote %s", c->out);
    totals_free(&r);
    return ok;
}

const struct command command_report = {
    .name = "report",
    .args_doc = "MAP --truth SAMPLE:FIELD -o FILE",
    .summary = "A printable page: totals, intervals, map, method and limits",
    .doc =
        "Writes one self-contained HTML file (no scripts, nothing loaded from elsewhere) to be printed or "
        "sent: what 'aftermap estimate' says, the map over the image after the event, what the map is worth, "
        "imagery and dates, damage scale, method, known limits and digests.\v"
        "With --json the same content is printed as JSON, and -o may be left out.\n\n"
        "Example: aftermap report map --truth sample.csv:grade --lang fr -o report.html",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct report_cmd),
    .defaults = report_cmd_defaults,
    .run = run,
};
