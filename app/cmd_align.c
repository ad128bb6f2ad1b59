/* SPDX-License-Identifier: Apache-2.0
 * cmd_align.c - `aftermap align`: moves the post-event chips of an event onto the pre-event ones
 * (geo/alignment.h). */
#include "app/command.h"
#include "app/console.h"
#include "geo/alignment.h"

#include <stdio.h>
#include <stdlib.h>

enum { KEY_SEARCH = 1, KEY_SMOOTH, KEY_MIN_SCORE, KEY_HAND, KEY_RESET, KEY_EXPORT };

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Measuring", 1},
    {"search-m", KEY_SEARCH, "METRES", 0, "Longest shift looked for along each axis (default 5)", 1},
    {"smooth-m", KEY_SMOOTH, "METRES", 0,
     "Reach of the neighbours whose evidence is added (default 40; the standard deviation of a Gaussian)", 1},
    {"min-score", KEY_MIN_SCORE, "Q", 0,
     "Leave buildings of less confidence than this unshifted; 0.5 is what one in twenty reaches by chance "
     "(default 0.5)",
     1},
    {NULL, 0, NULL, 0, "By hand", 2},
    {"hand", KEY_HAND, "FILE", 0,
     "Shifts to set: any table with columns bldg_id, shift_x, shift_y (metres east and north). On an aligned "
     "event "
     "nothing else changes",
     2},
    {"reset", KEY_RESET, NULL, 0, "Take all shifts away: chips as `aftermap tile` cut them", 2},
    {NULL, 0, NULL, 0, "Output", 3},
    {"export", KEY_EXPORT, "FILE", 0, "Also write the shifts as a GeoPackage of arrows", 3},
    {0}};

struct align_cmd {
    struct alignment_options align;
    const char *event, *hand;
};

static void align_defaults(void *options_)
{
    struct align_cmd *c = options_;
    alignment_defaults(&c->align);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct align_cmd *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->event)
            argp_error(state, "unexpected argument '%s'", arg);
        c->event = arg;
        break;
    case ARGP_KEY_END:
        if (!c->event)
            argp_error(state, "name the event folder");
        if (c->align.reset && c->hand)
            argp_error(state, "--reset and --hand exclude each other");
        break;
    case KEY_SEARCH:
        c->align.search_m = parse_real(state, "--search-m", arg, 0.1, 50);
        break;
    case KEY_SMOOTH:
        c->align.smooth_m = parse_real(state, "--smooth-m", arg, 1, 10000);
        break;
    case KEY_MIN_SCORE:
        c->align.min_score = parse_real(state, "--min-score", arg, 0, 1);
        break;
    case KEY_HAND:
        c->hand = arg;
        break;
    case KEY_RESET:
        c->align.reset = true;
        break;
    case KEY_EXPORT:
        c->align.export_path = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static bool read_hand(const struct align_cmd *c, struct alignment_hand **hand, size_t *n, struct err *e)
{
    struct event *ev = event_open(c->event, e);
    bool ok = ev && alignment_read_hand(ev, c->hand, hand, n, e);
    event_close(ev);
    return ok;
}

static bool report(const struct align_cmd *c, const struct common *common, const struct alignment_report *r,
                   cJSON *summary, struct err *e)
{
    size_t n = r->n_measured + r->n_neighbours + r->n_skipped + r->n_hand;
    if (n == 0)
        console_say("%zu chips are as they were cut", r->n_chips);
    else
        console_say("%zu chips: %zu measured, %zu by their neighbours, %zu by hand, %zu skipped for want of "
                    "evidence; "
                    "half are shifted by more than %.2f m, one in twenty by more than %.2f m",
                    r->n_chips, r->n_measured, r->n_neighbours, r->n_hand, r->n_skipped, r->median_m,
                    r->p95_m);
    if (common->json) {
        cJSON *settings = cJSON_CreateObject();
        cJSON_AddStringToObject(summary, "event", c->event);
        cJSON_AddNumberToObject(settings, "search_m", c->align.search_m);
        cJSON_AddNumberToObject(settings, "smooth_m", c->align.smooth_m);
        cJSON_AddNumberToObject(settings, "min_score", c->align.min_score);
        cJSON_AddItemToObject(summary, "settings", settings);
        return print_json(summary, e);
    }
    cJSON_Delete(summary);
    if (common->dry_run) {
        console_say("dry run: nothing was written");
        return true;
    }
    puts(c->event);
    return flush_stdout(e);
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct align_cmd *c = options_;
    struct alignment_report r;
    struct alignment_hand *hand = NULL;
    cJSON *summary = NULL;
    c->align.overwrite = common->overwrite;
    c->align.dry_run = common->dry_run;
    bool ok = !c->hand || read_hand(c, &hand, &c->align.n_hand, e);
    c->align.hand = hand;
    ok = ok && alignment_run(c->event, &c->align, progress, &r, &summary, e);
    free(hand);
    return ok && report(c, common, &r, summary, e);
}

const struct command command_align = {
    .name = "align",
    .args_doc = "EVENT",
    .summary = "Move post-event chips onto pre-event ones, building by building",
    .doc =
        "Finds out how far the two dates lie apart at each building, cuts the post-event half of its chip "
        "from "
        "there, and keeps the shift with the building.\v"
        "Each building's own match is weighed together with those of its neighbours, so that buildings which "
        "the disaster has changed are placed by the ones around them. Where there is too little evidence the "
        "chip stays as it is and is counted as skipped. shift_x and shift_y are metres east and north from "
        "where "
        "the pre image shows a thing to where the post image shows it. The source images must still be "
        "there.\n\n"
        "Example: aftermap align event --export shifts.gpkg",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct align_cmd),
    .defaults = align_defaults,
    .run = run,
};
