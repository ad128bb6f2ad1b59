/* SPDX-License-Identifier: Apache-2.0
 * cmd_loop.c - `aftermap loop`: a labelling campaign played against known grades (app/loop.h). */
#include "app/command.h"
#include "app/loop.h"

#include <stdio.h>
#include <string.h>

enum {
    KEY_ORACLE = 1,
    KEY_ROUNDS,
    KEY_PER_ROUND,
    KEY_SEEDS,
    KEY_STRATEGY,
    KEY_SHARE,
    KEY_BUFFER,
    KEY_STOP,
    KEY_CUT,
    KEY_TTA,
    KEY_METHOD,
    KEY_PRESET,
    KEY_STEPS,
    KEY_BUDGET,
    KEY_BATCH,
    KEY_MU,
    KEY_NO_FOOTPRINT,
    KEY_MAX_ITEMS,
    KEY_RESUME
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "The campaign", 1},
    {"oracle", KEY_ORACLE, "WHO", 0,
     "Who answers: labels (the event's own grades) or FILE:FIELD, a table with a column bldg_id", 1},
    {"rounds", KEY_ROUNDS, "R", 0, "Rounds of questions after the first labels (default 10)", 1},
    {"per-round", KEY_PER_ROUND, "N", 0, "Questions a round (default 20)", 1},
    {"seeds", KEY_SEEDS, "N", 0, "First labels, spread over the scene (default: as many as a round asks)", 1},
    {"strategy", KEY_STRATEGY, "S", 0,
     "What to ask, as for `label next` (default diff2.aug+kmeans); random to compare", 1},
    {"validate-share", KEY_SHARE, "SHARE", 0,
     "Share of each round that is drawn blindly and never trained on (default 0.2)", 1},
    {"buffer-m", KEY_BUFFER, "METRES", 0, "Distance between the questions of a round (default 25)", 1},
    {"stop-change", KEY_STOP, "SHARE", 0,
     "Stop when fewer of the predictions than this change in each of three rounds; 0: never (default 0.01)",
     1},
    {NULL, 0, NULL, 0, "Each round's training and scoring", 2},
    {"method", KEY_METHOD, "NAME", 0, "As for `train` (default fixmatch)", 2},
    {"cut", KEY_CUT, "LEVEL", 0,
     "Damaged means this level or worse: 1 minor, 2 major, 3 destroyed; 0 learns the four grades (default 2)",
     2},
    {"steps", KEY_STEPS, "N", 0, "Updates a round", 2},
    {"budget", KEY_BUDGET, "TIME", 0, "Or as many as fit in this time: 90s, 5m, 1h (default 2m)", 2},
    {"preset", KEY_PRESET, "NET", 0, "Network, as for `train`", 2},
    {"batch", KEY_BATCH, "B", 0, "Labelled images a step", 2},
    {"mu", KEY_MU, "RATIO", 0, "Unlabelled images per labelled one", 2},
    {"no-footprint", KEY_NO_FOOTPRINT, NULL, 0, "Do not show the network the building's outline", 2},
    {"tta", KEY_TTA, "N", 0, "Views averaged per chip when scoring, 1 or 8 (default 8)", 2},
    {"max-items", KEY_MAX_ITEMS, "N", 0, "Hold at most N ungraded chips in memory (default 20000)", 2},
    {NULL, 0, NULL, 0, "Output", 3},
    {"output", 'o', "DIR", 0, "Folder for the log, the learning curve and the last models", 3},
    {"resume", KEY_RESUME, NULL, 0, "Go on with the campaign in that folder", 3},
    {0}};

static void loop_cmd_defaults(void *options_)
{
    struct loop_options *o = options_;
    active_defaults(&o->active);
    o->rounds = 10;
    o->per_round = 20;
    o->method = "fixmatch";
    o->stop_change = 0.01;
    o->cut = 2;
    o->n_views = 8;
    o->max_items = 20000;
    o->budget_s = 120;
}

static error_t parse_training(int key, char *arg, struct argp_state *state, struct loop_options *o)
{
    switch (key) {
    case KEY_METHOD:
        o->method = arg;
        break;
    case KEY_CUT:
        o->cut = (int)parse_int(state, "--cut", arg, 0, 3);
        break;
    case KEY_STEPS:
        o->steps = parse_int(state, "--steps", arg, 1, 100000000);
        break;
    case KEY_BUDGET:
        o->budget_s = parse_duration(state, "--budget", arg);
        break;
    case KEY_PRESET:
        o->preset = arg;
        break;
    case KEY_BATCH:
        o->batch = (int)parse_int(state, "--batch", arg, 2, 4096);
        break;
    case KEY_MU:
        o->mu = (int)parse_int(state, "--mu", arg, 1, 64);
        break;
    case KEY_NO_FOOTPRINT:
        o->no_footprint = true;
        break;
    case KEY_TTA:
        o->n_views = (int)parse_int(state, "--tta", arg, 1, 8);
        if (o->n_views != 1 && o->n_views != 8)
            argp_error(state, "--tta takes 1 or 8, not '%s'", arg);
        break;
    case KEY_MAX_ITEMS:
        o->max_items = (size_t)parse_int(state, "--max-items", arg, 1, 100000000);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct loop_options *o = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (o->event)
            argp_error(state, "one event at a time: '%s' is a second one", arg);
        o->event = arg;
        break;
    case ARGP_KEY_END:
        if (!o->event)
            argp_error(state, "name an event folder");
        if (!o->oracle)
            argp_error(state, "say who answers with --oracle: labels, or FILE:FIELD");
        if (!o->out)
            argp_error(state, "name the output folder with -o DIR");
        break;
    case KEY_ORACLE:
        o->oracle = arg;
        break;
    case KEY_ROUNDS:
        o->rounds = (int)parse_int(state, "--rounds", arg, 0, 999);
        break;
    case KEY_PER_ROUND:
        o->per_round = (int)parse_int(state, "--per-round", arg, 1, 1000000);
        break;
    case KEY_SEEDS:
        o->seeds = (int)parse_int(state, "--seeds", arg, 2, 1000000);
        break;
    case KEY_STRATEGY:
        o->strategy = arg;
        break;
    case KEY_SHARE:
        o->active.validate_share = parse_real(state, "--validate-share", arg, 0, 0.9);
        break;
    case KEY_BUFFER:
        o->active.buffer_m = parse_real(state, "--buffer-m", arg, 0, 100000);
        break;
    case KEY_STOP:
        o->stop_change = parse_real(state, "--stop-change", arg, 0, 1);
        break;
    case KEY_RESUME:
        o->resume = true;
        break;
    case 'o':
        o->out = arg;
        break;
    default:
        return parse_training(key, arg, state, o);
    }
    return 0;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct loop_options *o = options_;
    if (o->strategy && !active_parse(o->strategy, &o->active.strategy, e))
        return false;
    if (o->resume && common->overwrite)
        return err_set(e, ERR_USAGE,
                       "--resume goes on with a campaign and --overwrite replaces it; give one of them");
    return loop_run(o, common, progress, e);
}

const struct command command_loop = {
    .name = "loop",
    .args_doc = "EVENT --oracle labels|FILE:FIELD -o DIR",
    .summary = "Rehearse a labelling campaign and draw its learning curve",
    .doc = "Plays a labelling campaign on an event whose grades are known: a few first labels, then rounds "
           "of training, "
           "asking what helps most, and scoring on the event's held-out blocks. Shows how many labels buy "
           "how much "
           "accuracy, and whether a strategy beats random questions.\v"
           "DIR holds curve.csv (one row a round: labels against AUROC with intervals), curve.svg, "
           "questions.csv (every "
           "question with its score, reason, purpose and answer), loop.json, and the last two models. "
           "Answers with the "
           "purpose 'validate' were drawn blindly and are never trained on.\n\n"
           "The campaign stops after its rounds, when there is nobody left to ask about, or when the "
           "predictions no "
           "longer change, and says which. Interrupted, it goes on with --resume; with --steps it then ends "
           "as an "
           "unbroken one does. --resume with more --rounds prolongs a finished one.\n\n"
           "Example: aftermap loop event --oracle labels --rounds 8 --per-round 10 --budget 1m -o campaign",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct loop_options),
    .defaults = loop_cmd_defaults,
    .run = run,
};
