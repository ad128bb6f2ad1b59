/* SPDX-License-Identifier: Apache-2.0
 * cmd_sample.c - `aftermap sample`: draws the blind random sample that totals are estimated from
 * (geo/sampling.h). */
#include "app/command.h"
#include "app/console.h"
#include "app/estimate_options.h"
#include "geo/sampling.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { KEY_N = 1, KEY_STRATA };

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0, "Table to be graded, .csv or .gpkg (required)", 1},
    {"n", KEY_N, "N", 0, "Number of buildings", 1},
    {"half-width", KEY_TOTALS_HALF_WIDTH, "W", 0,
     "As many as make the total known to +-W: buildings, or a share of them such as 2%", 1},
    {"strata", KEY_STRATA, "FIELD", 0,
     "Give each value of FIELD its share, 10 at least: zone, dmg_class, status or split", 1},
    ZONES_ARGP_OPTIONS,
    {0}};

struct sample_cmd {
    struct sampling_options sampling;
    double half_width;
};

static void sample_defaults(void *options_)
{
    ((struct sample_cmd *)options_)->half_width = NAN;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct sample_cmd *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->sampling.source)
            argp_error(state, "one map or event at a time: '%s' is a second one", arg);
        c->sampling.source = arg;
        break;
    case ARGP_KEY_END:
        if (!c->sampling.source || !c->sampling.out_path)
            argp_error(state, "name the map or event, and the table to write with -o");
        if ((c->sampling.n > 0) == isfinite(c->half_width))
            argp_error(state, "say how many buildings to draw, with --n or with --half-width");
        if (c->sampling.zones && !c->sampling.zone_id)
            argp_error(state, "say which field of %s names the zones with --zone-id", c->sampling.zones);
        break;
    case 'o':
        c->sampling.out_path = arg;
        break;
    case KEY_N:
        c->sampling.n = (size_t)parse_int(state, "--n", arg, 1, 100000000);
        break;
    case KEY_STRATA:
        if (strcmp(arg, "zone") && strcmp(arg, "dmg_class") && strcmp(arg, "status") && strcmp(arg, "split"))
            argp_error(state, "--strata takes zone, dmg_class, status or split, not '%s'", arg);
        c->sampling.strata = arg;
        break;
    case KEY_TOTALS_HALF_WIDTH:
        c->half_width = half_width_parse(state, arg);
        break;
    case KEY_TOTALS_ZONES:
        c->sampling.zones = arg;
        break;
    case KEY_TOTALS_LAYER:
        c->sampling.zones_layer = arg;
        break;
    case KEY_TOTALS_ZONE_ID:
        c->sampling.zone_id = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* The exact method's size, so that the answer holds whichever method is used later. */
static bool size_for(struct sample_cmd *c, const struct progress *progress, struct err *e)
{
    struct totals_options o;
    struct totals_report r;
    totals_defaults(&o);
    o.map_dir = c->sampling.source;
    o.method = TOTALS_EXACT;
    o.half_width = c->half_width;
    if (!totals_run(&o, progress, &r, e))
        return false;
    c->sampling.n = r.size_exact;
    totals_free(&r);
    return true;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct sample_cmd *c = options_;
    struct sampling_report r;
    c->sampling.seed = common->seed;
    c->sampling.overwrite = common->overwrite;
    c->sampling.dry_run = common->dry_run;
    if ((isfinite(c->half_width) && !size_for(c, progress, e)) ||
        !sampling_draw(&c->sampling, progress, &r, e))
        return false;
    if (common->json) {
        cJSON *j = cJSON_CreateObject();
        cJSON_AddStringToObject(j, "source", c->sampling.source);
        cJSON_AddStringToObject(j, "output", c->sampling.out_path);
        cJSON_AddNumberToObject(j, "buildings", (double)r.n_buildings);
        cJSON_AddNumberToObject(j, "drawn", (double)r.n);
        cJSON_AddNumberToObject(j, "strata", (double)r.n_strata);
        cJSON_AddNumberToObject(j, "seed", (double)common->seed);
        return print_json(j, e);
    }
    console_say("%s %zu of %zu buildings%s", common->dry_run ? "would draw" : "drew", r.n, r.n_buildings,
                common->dry_run ? "" : "; grade them in this order, as 'unknown' where it cannot be told");
    return true;
}

const struct command command_sample = {
    .name = "sample",
    .args_doc = "MAP|EVENT --n N -o FILE",
    .summary = "Draw a blind random sample of buildings to grade",
    .doc =
        "Writes the buildings whose grades 'aftermap estimate' needs, in the order in which to grade them: "
        "draw, bldg_id, fid, lon, lat, purpose, stratum, n_stratum, zone_id and the empty column grade.\v"
        "Every building of the map or event may be drawn, whatever the map says of it; nothing of that is "
        "in the table. A larger sample of the same seed begins with the smaller one. Grades may stop "
        "anywhere in the order, but none may be skipped. Never train on them.\n\n"
        "Example: aftermap sample map --n 200 -o sample.csv",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct sample_cmd),
    .defaults = sample_defaults,
    .run = run,
};
