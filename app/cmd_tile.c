/* SPDX-License-Identifier: Apache-2.0
 * cmd_tile.c - `aftermap tile`: rasters and footprints -> an event folder (geo/tile.h). */
#include "app/command.h"
#include "app/console.h"
#include "geo/tile.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEY_PRE = 1,
    KEY_POST,
    KEY_FOOTPRINTS,
    KEY_LAYER,
    KEY_GRID,
    KEY_ID_FIELD,
    KEY_LABEL_FIELD,
    KEY_LABEL_MAP,
    KEY_GSD,
    KEY_SIZE,
    KEY_BANDS,
    KEY_MAX_BLANK,
    KEY_TEST_SHARE,
    KEY_SPLIT_SEED,
    KEY_BLOCK,
    KEY_LINK,
    KEY_BUFFER,
    KEY_RANDOM_SPLIT,
    KEY_ALIGN,
    KEY_ALLOW_SYNTHETIC
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Input", 1},
    {"pre", KEY_PRE, "RASTER...", 0, "Imagery before the event: files, a folder, or a text file of paths", 1},
    {"post", KEY_POST, "RASTER...", 0, "Imagery after the event, likewise", 1},
    {"footprints", KEY_FOOTPRINTS, "FILE", 0,
     "Building polygons or points: any vector file GDAL reads, or a folder of them", 1},
    {"layer", KEY_LAYER, "NAME", 0, "Layer of the footprints file (default: the first)", 1},
    {"grid", KEY_GRID, "METRES", 0, "Assess square cells of this size instead of buildings", 1},
    {"id-field", KEY_ID_FIELD, "NAME", 0,
     "Attribute that identifies a building (default: bldg_id, id, uid or fid)", 1},
    {"bands", KEY_BANDS, "LIST", 0, "Bands to use, e.g. 1,2,3 (default: the first three)", 1},
    {"allow-synthetic", KEY_ALLOW_SYNTHETIC, NULL, 0,
     "Take images that a model made up; the event says so (default: refused)", 1},
    {NULL, 0, NULL, 0, "Labels", 2},
    {"label-field", KEY_LABEL_FIELD, "NAME", 0, "Attribute that holds the damage grade", 2},
    {"label-map", KEY_LABEL_MAP, "MAP", 0,
     "Its values in terms of the scale none, minor, major, destroyed, unknown: "
     "'no-damage=none,collapsed=destroyed'",
     2},
    {NULL, 0, NULL, 0, "Chips", 3},
    {"gsd", KEY_GSD, "METRES", 0, "Metres per pixel of the working grid (default 0.5)", 3},
    {"size-m", KEY_SIZE, "METRES", 0, "Side of a chip (default 32)", 3},
    {"max-blank", KEY_MAX_BLANK, "SHARE", 0,
     "Keep out chips with more than this share without data (default 0.25)", 3},
    {"align", KEY_ALIGN, NULL, 0,
     "Move the post-event half of each chip onto the pre-event half, as `aftermap align` does", 3},
    {NULL, 0, NULL, 0, "Train and test sets that share no ground", 4},
    {"test-share", KEY_TEST_SHARE, "SHARE", 0, "Share of the buildings held out for testing (default 0.3)",
     4},
    {"split-seed", KEY_SPLIT_SEED, "N", 0, "Seed that chooses the test blocks (default: --seed)", 4},
    {"link-m", KEY_LINK, "METRES", 0, "Buildings nearer than this belong to one block (default 77)", 4},
    {"block-m", KEY_BLOCK, "METRES", 0, "Side of a block where the town is contiguous (default 100)", 4},
    {"buffer-m", KEY_BUFFER, "METRES", 0,
     "No training building nearer than this to a test building (default: the chip's diagonal)", 4},
    {"random-split", KEY_RANDOM_SPLIT, NULL, 0,
     "Split at random: leaks ground between the sets, figures come out too good", 4},
    {NULL, 0, NULL, 0, "Output", 5},
    {"output", 'o', "EVENT", 0, "Event folder to make", 5},
    {0}};

struct tile_cmd {
    struct tile_options tile;
    struct alignment_options align;
    struct string_list pre, post, *open_list;
    bool has_split_seed;
};

static void tile_cmd_defaults(void *options_)
{
    struct tile_cmd *c = options_;
    tile_defaults(&c->tile);
    alignment_defaults(&c->align);
}

static void check_complete(struct tile_cmd *c, struct argp_state *state)
{
    if (c->pre.n == 0 || c->post.n == 0)
        argp_error(state, "give the imagery before and after the event with --pre and --post");
    if (!c->tile.footprints && !(c->tile.grid_m > 0))
        argp_error(state, "give the buildings with --footprints FILE, or --grid METRES where there are none");
    if (c->tile.footprints && c->tile.grid_m > 0)
        argp_error(state, "--footprints and --grid exclude each other");
    if (!c->tile.out)
        argp_error(state, "name the event folder to make with -o EVENT");
    if (c->tile.label_map && !c->tile.label_field)
        argp_error(state, "--label-map needs --label-field NAME");
}

static error_t parse_split(int key, char *arg, struct argp_state *state, struct split_options *split)
{
    switch (key) {
    case KEY_TEST_SHARE:
        split->test_share = parse_real(state, "--test-share", arg, 0.05, 0.9);
        break;
    case KEY_BLOCK:
        split->block_m = parse_real(state, "--block-m", arg, 5, 100000);
        break;
    case KEY_LINK:
        split->link_m = parse_real(state, "--link-m", arg, 1, 100000);
        break;
    case KEY_BUFFER:
        split->buffer_m = parse_real(state, "--buffer-m", arg, 0, 100000);
        break;
    case KEY_RANDOM_SPLIT:
        split->random = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct tile_cmd *c = ((struct invocation *)state->input)->options;
    struct tile_options *t = &c->tile;
    if (key == ARGP_KEY_ARG) { /* --pre and --post take as many paths as follow */
        if (!c->open_list)
            argp_error(state, "unexpected argument '%s'", arg);
        list_add(c->open_list, arg);
        return 0;
    }
    if (key == ARGP_KEY_END) {
        check_complete(c, state);
        return 0;
    }
    if (key < 0x1000 && key > 0)
        c->open_list = NULL;
    switch (key) {
    case KEY_PRE:
    case KEY_POST:
        c->open_list = key == KEY_PRE ? &c->pre : &c->post;
        list_add(c->open_list, arg);
        break;
    case KEY_FOOTPRINTS:
        t->footprints = arg;
        break;
    case KEY_LAYER:
        t->layer = arg;
        break;
    case KEY_GRID:
        t->grid_m = parse_real(state, "--grid", arg, 1, 10000);
        break;
    case KEY_ID_FIELD:
        t->id_field = arg;
        break;
    case KEY_BANDS:
        t->bands = arg;
        break;
    case KEY_LABEL_FIELD:
        t->label_field = arg;
        break;
    case KEY_LABEL_MAP:
        t->label_map = arg;
        break;
    case KEY_GSD:
        t->gsd_m = parse_real(state, "--gsd", arg, 0.05, 100);
        break;
    case KEY_SIZE:
        t->size_m = parse_real(state, "--size-m", arg, 1, 10000);
        break;
    case KEY_MAX_BLANK:
        t->max_blank = parse_real(state, "--max-blank", arg, 0, 1);
        break;
    case KEY_SPLIT_SEED:
        t->split.seed = (uint64_t)parse_int(state, "--split-seed", arg, 0, INT64_MAX);
        c->has_split_seed = true;
        break;
    case KEY_ALIGN:
        t->align = &c->align;
        break;
    case KEY_ALLOW_SYNTHETIC:
        t->allow_synthetic = true;
        break;
    case 'o':
        t->out = arg;
        break;
    default:
        return parse_split(key, arg, state, &t->split);
    }
    return 0;
}

static cJSON *report_json(const struct tile_cmd *c, const struct tile_report *r)
{
    cJSON *j = cJSON_CreateObject(), *levels = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "event", c->tile.out);
    cJSON_AddNumberToObject(j, "footprints", (double)r->n_footprints);
    cJSON_AddNumberToObject(j, "chips", (double)r->n_chips);
    cJSON_AddNumberToObject(j, "excluded", (double)r->n_excluded);
    cJSON_AddNumberToObject(j, "repaired", (double)r->n_repaired);
    cJSON_AddNumberToObject(j, "labeled", (double)r->n_labeled);
    for (int i = 0; i < 4; i++)
        cJSON_AddNumberToObject(levels, event_level_name(i), (double)r->n_level[i]);
    cJSON_AddItemToObject(j, "levels", levels);
    cJSON_AddNumberToObject(j, "blocks", r->n_blocks);
    cJSON_AddNumberToObject(j, "train", (double)r->n_train);
    cJSON_AddNumberToObject(j, "test", (double)r->n_test);
    cJSON_AddNumberToObject(j, "buffer", (double)r->n_buffer);
    if (c->tile.align) {
        cJSON *a = cJSON_AddObjectToObject(j, "alignment");
        cJSON_AddNumberToObject(a, "measured", (double)r->alignment.n_measured);
        cJSON_AddNumberToObject(a, "neighbours", (double)r->alignment.n_neighbours);
        cJSON_AddNumberToObject(a, "skipped", (double)r->alignment.n_skipped);
        cJSON_AddNumberToObject(a, "median_m", r->alignment.median_m);
        cJSON_AddNumberToObject(a, "p95_m", r->alignment.p95_m);
    }
    cJSON_AddNumberToObject(j, "grid_width", r->grid_width);
    cJSON_AddNumberToObject(j, "grid_height", r->grid_height);
    return j;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct tile_cmd *c = options_;
    struct tile_report r = {0};
    c->tile.pre = c->pre.item;
    c->tile.n_pre = c->pre.n;
    c->tile.post = c->post.item;
    c->tile.n_post = c->post.n;
    c->tile.overwrite = common->overwrite;
    c->tile.dry_run = common->dry_run;
    if (!c->has_split_seed)
        c->tile.split.seed = common->seed;
    if (!tile_run(&c->tile, progress, &r, e))
        return false;
    console_say("%zu of %zu buildings have a chip (%zu kept out), %zu with a label: %zu none, %zu minor, %zu "
                "major, %zu destroyed",
                r.n_chips, r.n_footprints, r.n_excluded, r.n_labeled, r.n_level[0], r.n_level[1],
                r.n_level[2], r.n_level[3]);
    console_say("split over %d blocks: %zu train, %zu test, %zu in the buffer between them", r.n_blocks,
                r.n_train, r.n_test, r.n_buffer);
    if (c->tile.align && !common->dry_run)
        console_say(
            "aligned: %zu measured, %zu by their neighbours, %zu skipped for want of evidence; half are "
            "shifted by more than %.2f m, one in twenty by more than %.2f m",
            r.alignment.n_measured, r.alignment.n_neighbours, r.alignment.n_skipped, r.alignment.median_m,
            r.alignment.p95_m);
    if (common->json)
        return print_json(report_json(c, &r), e);
    if (common->dry_run) {
        console_say("dry run: nothing was written");
        return true;
    }
    puts(c->tile.out);
    return flush_stdout(e);
}

const struct command command_tile = {
    .name = "tile",
    .args_doc = "--pre RASTER... --post RASTER... --footprints FILE -o EVENT",
    .summary = "Cut an image pair into chips, one per building",
    .doc = "Puts pre- and post-event imagery on one grid, cuts a chip around every building and keeps them, "
           "with the labels "
           "found, in an event folder.\v"
           "Coordinate systems, resolutions, bit depths and numbers of files may differ between the dates. "
           "Buildings without "
           "enough imagery are kept out with a reason, never called undamaged.\n\n"
           "Example: aftermap tile --pre before.tif --post after.tif --footprints buildings.gpkg "
           "--label-field damage -o event",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct tile_cmd),
    .defaults = tile_cmd_defaults,
    .run = run,
};
