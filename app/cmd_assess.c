/* SPDX-License-Identifier: Apache-2.0
 * cmd_assess.c - `aftermap assess`: an event and a model -> the damage map (geo/mapping.h). */
#include "app/command.h"
#include "app/console.h"
#include "geo/mapping.h"

#include <stdio.h>
#include <string.h>

enum { KEY_MODEL = 1, KEY_TTA, KEY_ABSTAIN, KEY_POINT, KEY_PRECISION, KEY_ALLOW_SYNTHETIC };

static const struct argp_option options[] = {
    {"model", KEY_MODEL, "MODEL", 0, "Model file made by `aftermap train`", 1},
    {"output", 'o', "DIR", 0, "Folder for damage.tif prob.tif damage.gpkg damage.geojson damage.csv run.json",
     1},
    {"tta", KEY_TTA, "N", 0,
     "Average over N views of each chip: 1, or 8 turned and mirrored ones (default 8)", 2},
    {"operating-point", KEY_POINT, "P", 0, "Call a building damaged from this probability (default 0.5)", 2},
    {"abstain", KEY_ABSTAIN, "WIDTH", 0, "Say 'cannot tell' this near to the operating point (default 0.1)",
     2},
    {"precision", KEY_PRECISION, "P", 0,
     "Arithmetic of the network: fp32 (default), or int8, faster and slightly different (CPUs with VNNI)", 2},
    {"allow-synthetic", KEY_ALLOW_SYNTHETIC, NULL, 0,
     "Map an event of made-up images too; the map says so (default: refused)", 2},
    {0}};

static void assess_defaults(void *options_)
{
    mapping_defaults(options_);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct mapping_options *o = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (o->event_dir)
            argp_error(state, "one event at a time: '%s' is a second one", arg);
        o->event_dir = arg;
        break;
    case ARGP_KEY_END:
        if (!o->event_dir || !o->model_path || !o->out_dir)
            argp_error(state,
                       "name the event folder, the model (--model FILE) and the folder to make (-o DIR)");
        break;
    case KEY_MODEL:
        o->model_path = arg;
        break;
    case 'o':
        o->out_dir = arg;
        break;
    case KEY_TTA:
        o->n_views = (int)parse_int(state, "--tta", arg, 1, 8);
        if (o->n_views != 1 && o->n_views != 8)
            argp_error(state, "--tta takes 1 or 8, not '%s'", arg);
        break;
    case KEY_ABSTAIN:
        o->abstain = parse_real(state, "--abstain", arg, 0, 0.5);
        break;
    case KEY_POINT:
        o->operating_point = parse_real(state, "--operating-point", arg, 0, 1);
        break;
    case KEY_ALLOW_SYNTHETIC:
        o->allow_synthetic = true;
        break;
    case KEY_PRECISION:
        o->is_int8 = strcmp(arg, "int8") == 0;
        if (!o->is_int8 && strcmp(arg, "fp32") != 0)
            argp_error(state, "--precision takes fp32 or int8, not '%s'", arg);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct mapping_options *o = options_;
    struct mapping_report r = {0};
    o->overwrite = common->overwrite;
    o->dry_run = common->dry_run;
    o->seed = common->seed;
    if (!mapping_run(o, progress, &r, e))
        return false;
    if (common->dry_run)
        console_say("dry run: event and model fit; nothing was written");
    else
        console_say("%zu buildings: %zu damaged, %zu undecided, %zu without usable imagery; predicted in "
                    "%.1f s, written in %.1f s",
                    r.n_buildings, r.n_damaged, r.n_abstain, r.n_unknown, r.seconds_predict, r.seconds_write);
    if (!common->json) {
        if (!common->dry_run)
            puts(o->out_dir);
        return flush_stdout(e);
    }
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "map", o->out_dir);
    cJSON_AddNumberToObject(j, "buildings", (double)r.n_buildings);
    cJSON_AddNumberToObject(j, "predicted", (double)r.n_predicted);
    cJSON_AddNumberToObject(j, "damaged", (double)r.n_damaged);
    cJSON_AddNumberToObject(j, "abstained", (double)r.n_abstain);
    cJSON_AddNumberToObject(j, "unknown", (double)r.n_unknown);
    cJSON_AddNumberToObject(j, "seconds_predict", r.seconds_predict);
    cJSON_AddNumberToObject(j, "seconds_write", r.seconds_write);
    return print_json(j, e);
}

const struct command command_assess = {
    .name = "assess",
    .args_doc = "EVENT --model MODEL.safetensors -o DIR",
    .summary = "Map the damage of every building of an event",
    .doc = "Predicts every building and writes the map as GeoTIFF, GeoPackage, GeoJSON and CSV, with a "
           "run.json that says how it "
           "came about.\v"
           "A building near the operating point gets the status 'abstain', one without usable imagery "
           "'unknown' with a reason.\n\n"
           "Example: aftermap assess event --model model.safetensors -o map",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct mapping_options),
    .defaults = assess_defaults,
    .run = run,
};
