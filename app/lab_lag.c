/* SPDX-License-Identifier: Apache-2.0
 * lab_lag.c - `aftermap lab lag train|measure|enhance`: a Latent Adversarial Generator of an event's chips or of plain
 * images (models/learn/lag.h), what it keeps of its paper's claims, and plausible detail for coarse images, marked as
 * made up (geo/synthetic.h). */
#include "app/lab_lag.h"
#include "app/console.h"
#include "app/lab_run.h"
#include "geo/event.h"
#include "models/base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_SCALE = 1,
    KEY_SIZE,
    KEY_WIDTH,
    KEY_BLOCKS,
    KEY_NOISE,
    KEY_UPDATES,
    KEY_BATCH,
    KEY_LR,
    KEY_LAST,
    KEY_NO_MIRROR,
    KEY_RESUME,
    KEY_MODEL,
    KEY_BUILDING
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "train: how it is learnt", 1},
    {"scale", KEY_SCALE, "S", 0, "Enlarges S times a side: 2, 4, 8, 16 or 32 (default 4)", 1},
    {"size", KEY_SIZE, "PIXELS", 0,
     "Side of the large images; divides the chips', is a multiple of S (default: the largest divisor up to "
     "32)",
     1},
    {"width", KEY_WIDTH, "C", 0, "Channels at the small image's resolution (default 64; the paper 256)", 1},
    {"blocks", KEY_BLOCKS, "N", 0, "Residual blocks (default 2; the paper 8)", 1},
    {"noise", KEY_NOISE, "N", 0, "Channels of noise z (default 8; the paper 64)", 1},
    {"updates", KEY_UPDATES, "N", 0, "Number of updates in all (default 4000)", 1},
    {"batch", KEY_BATCH, "B", 0, "Images an update (default 16)", 1},
    {"lr", KEY_LR, "RATE", 0, "Learning rate of Adam (default 0.001)", 1},
    {"last", KEY_LAST, "N", 0, "Length of the last phase in those of the others (default 2; the paper 1)", 1},
    {"no-mirror", KEY_NO_MIRROR, NULL, 0, "No mirror images (digits)", 1},
    {"resume", KEY_RESUME, NULL, 0, "Go on from the output file's last state", 1},
    {NULL, 0, NULL, 0, "measure and enhance", 2},
    {"model", KEY_MODEL, "MODEL", 0, "Model file made by `lab lag train`", 2},
    {"versions", 'n', "K", 0, "Versions drawn, beside the centre (default 4)", 2},
    {NULL, 0, NULL, 0, "enhance", 3},
    {"building", KEY_BUILDING, "ID,...", 0, "Only these buildings of an event", 3},
    {NULL, 0, NULL, 0, "Output", 4},
    {"output", 'o', "MODEL|DIR", 0, "Model file (.safetensors), or folder for images", 4},
    {0}};

enum { ARG_TRAIN, ARG_MEASURE, ARG_ENHANCE };
static const char *const verbs[] = {"train", "measure", "enhance"};
/* The groups of options that belong to each. */
static const unsigned verb_groups[] = {1 << 1 | 1 << 4, 1 << 2 | 1 << 4, 1 << 2 | 1 << 3 | 1 << 4};

static void lag_defaults(void *options_)
{
    struct lab_lag *c = options_;
    c->verb = -1;
    c->scale = 4;
    c->n_count = 4;
    lag_config_defaults(&c->set);
    c->set.net.width = 64;
    c->set.net.n_blocks = 2;
    c->set.net.n_noise = 8;
    c->set.n_updates = 4000;
    c->set.last = 2;
}

static void parse_argument(const char *arg, struct argp_state *state, struct lab_lag *c)
{
    if (c->verb < 0) {
        for (int i = 0; i < 3; i++)
            if (strcmp(arg, verbs[i]) == 0)
                c->verb = i;
        if (c->verb < 0)
            argp_error(state, "say train, measure or enhance, not '%s'", arg);
    } else if (!c->data) {
        c->data = arg;
    } else {
        argp_error(state, "'%s' is one name too many", arg);
    }
}

static void parse_end(struct argp_state *state, struct lab_lag *c)
{
    if (c->verb < 0)
        argp_error(state, "say train, measure or enhance");
    if (!c->data)
        argp_error(state, c->verb == ARG_ENHANCE
                              ? "name an image or an event folder"
                              : "name an event folder, cifar10:FILE, idx:IMAGES,LABELS or folder:DIR");
    if (c->verb != ARG_TRAIN && !c->model)
        argp_error(state, "name the model with --model");
    if (!c->out)
        argp_error(state, "name the %s with -o",
                   c->verb == ARG_TRAIN ? "model file" : "folder for the images");
    lab_run_refuse(state, options, c->given, verb_groups[c->verb], "lab lag", verbs[c->verb]);
    if (c->verb == ARG_TRAIN && c->given & 1u << 31)
        argp_error(state, "-n is no option of `lab lag train`");
}

static error_t parse_network(int key, char *arg, struct argp_state *state, struct lab_lag *c)
{
    switch (key) {
    case KEY_SCALE:
        c->scale = (int)parse_int(state, "--scale", arg, 2, 1 << LAGNET_MAX_STAGES);
        if (c->scale & (c->scale - 1))
            argp_error(state, "--scale takes 2, 4, 8, 16 or 32, not %d", c->scale);
        break;
    case KEY_SIZE:
        c->size = (int)parse_int(state, "--size", arg, 4, 1024);
        break;
    case KEY_WIDTH:
        c->set.net.width = (int)parse_int(state, "--width", arg, 8, 1024);
        if (c->set.net.width % 8)
            argp_error(state, "--width takes multiples of 8, not %d", c->set.net.width);
        break;
    case KEY_BLOCKS:
        c->set.net.n_blocks = (int)parse_int(state, "--blocks", arg, 1, 16);
        break;
    case KEY_NOISE:
        c->set.net.n_noise = (int)parse_int(state, "--noise", arg, 1, 256);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct lab_lag *c = ((struct invocation *)state->input)->options;
    if (key > 0 && key < 31)
        c->given |= 1u << key;
    switch (key) {
    case ARGP_KEY_ARG:
        parse_argument(arg, state, c);
        break;
    case ARGP_KEY_END:
        parse_end(state, c);
        break;
    case KEY_UPDATES:
        c->set.n_updates = (uint64_t)parse_int(state, "--updates", arg, 1, 1000000000);
        break;
    case KEY_BATCH:
        c->set.batch = (int)parse_int(state, "--batch", arg, 1, 1024);
        break;
    case KEY_LR:
        c->set.lr = parse_real(state, "--lr", arg, 1e-7, 0.5);
        break;
    case KEY_LAST:
        c->set.last = (int)parse_int(state, "--last", arg, 1, 100);
        break;
    case KEY_NO_MIRROR:
        c->no_mirror = true;
        break;
    case KEY_RESUME:
        c->resume = true;
        break;
    case KEY_MODEL:
        c->model = arg;
        break;
    case KEY_BUILDING:
        c->buildings = arg;
        break;
    case 'n':
        c->n_count = (int)parse_int(state, "-n", arg, 2, 64);
        c->given |= 1u << 31;
        break;
    case 'o':
        c->out = arg;
        break;
    default:
        return parse_network(key, arg, state, c);
    }
    return 0;
}

/* ---- images ---- */

bool lag_images_load(struct lag_images *d, const struct lab_lag *c, int size, bool held_out, uint64_t seed,
                     const struct progress *progress, struct err *e)
{
    const struct lab_diffuse as = {.data = c->data, .no_mirror = c->no_mirror, .held_out = held_out};
    *d = (struct lag_images){0};
    if (!diffuse_images_load(&d->all, &as, size, seed, progress, e)) {
        lag_images_free(d);
        return false;
    }
    d->n_bands = d->all.n_channels / d->all.n_dates;
    d->n = d->all.n * (size_t)d->all.n_dates;
    return true;
}

void lag_images_free(struct lag_images *d)
{
    diffuse_images_free(&d->all);
}

void lag_images_take(const struct lag_images *d, size_t i, bool flip, float *x)
{
    const int size = d->all.size, all = d->all.n_channels, bands = d->n_bands;
    const size_t date = i % (size_t)d->all.n_dates;
    const uint8_t *px = d->all.px + i / (size_t)d->all.n_dates * size * size * all + date * bands;
    for (int r = 0; r < size; r++)
        for (int s = 0; s < size; s++)
            for (int b = 0; b < bands; b++)
                x[((size_t)r * size + s) * bands + b] =
                    (float)px[((size_t)r * size + (flip ? size - 1 - s : s)) * all + b] / 127.5f - 1;
}

static void draw(void *ctx, uint64_t seed, uint64_t index, float *x)
{
    const struct lag_images *d = ctx;
    struct rng r;
    rng_init(&r, seed, RNG_SHUFFLE, index);
    const size_t i = rng_below(&r, (uint32_t)d->n);
    lag_images_take(d, i, d->all.mirror && rng_below(&r, 2), x);
}

/* ---- training ---- */

static bool settle(const struct lab_lag *c, const struct lag_images *images, struct lag_config *t,
                   struct err *e)
{
    const int size = images->all.size;
    if (size % c->scale || size / c->scale < 2)
        return err_set(
            e, ERR_USAGE,
            "%s: images of %d pixels a side are no multiple of the scale %d with 2 pixels and more left; "
            "give another --scale, --size, or a plain set @size=N",
            c->data, size, c->scale);
    t->net.size = size / c->scale;
    for (t->net.n_stages = 0; 1 << t->net.n_stages < c->scale;)
        t->net.n_stages++;
    t->net.n_colors = images->n_bands;
    t->net.narrow = t->net.width / 4 > 8 ? t->net.width / 4 : 8;
    return lag_config_check(t, e);
}

static bool run_finished(const void *run)
{
    return lag_updates_done(run) >= lag_get_config(run)->n_updates;
}

static bool run_train(void *run, void *data, uint64_t at_most, const struct progress *progress, struct err *e)
{
    return lag_train(run, data, at_most, progress, e);
}

static bool run_save(const void *run, const char *path, const struct checkpoint_meta *meta, int n_meta,
                     struct err *e)
{
    return lag_save(run, path, meta, n_meta, e);
}

static bool say_trained(const struct lab_lag *c, const struct common *common, const struct lag_run *r,
                        const struct lag_images *images, double seconds, struct err *e)
{
    const struct lag_config *t = lag_get_config(r);
    const struct lag_losses *l = lag_losses_of(r);
    const int size = t->net.size << t->net.n_stages;
    console_say("%d to %d pixels: %llu updates of %d images in %.0f s; critic's gap %.3g, gradient %.2f, "
                "centre %.3g; "
                "%zu weights",
                t->net.size, size, (unsigned long long)t->n_updates, t->batch, seconds, l->real - l->fake,
                l->norm, l->latent, lag_weights(r));
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "model", c->out);
    cJSON_AddNumberToObject(j, "updates", (double)t->n_updates);
    cJSON_AddNumberToObject(j, "images", (double)images->n);
    cJSON_AddNumberToObject(j, "weights", (double)lag_weights(r));
    cJSON_AddNumberToObject(j, "size_px", size);
    cJSON_AddNumberToObject(j, "scale", c->scale);
    cJSON_AddNumberToObject(j, "bands", t->net.n_colors);
    cJSON_AddNumberToObject(j, "gap", l->real - l->fake);
    cJSON_AddNumberToObject(j, "gradient", l->norm);
    cJSON_AddNumberToObject(j, "centre", l->latent);
    cJSON_AddNumberToObject(j, "seconds", seconds);
    return lab_run_print(common, c->out, j, e);
}

/* Metres a pixel of the large images; 0: a plain set, which has none. */
static bool find_gsd(const struct lab_lag *c, const struct lag_images *images, double *gsd_m, struct err *e)
{
    *gsd_m = 0;
    if (imageset_is_spec(c->data))
        return true;
    struct event *ev = event_open(c->data, e);
    if (ev)
        *gsd_m = ev->grid.gsd_m * ev->layout.size / images->all.size;
    event_close(ev);
    return ev;
}

/* What a run would be and need: networks of the last stage, and six numbers for each weight. */
static bool say_plan(const struct lag_config *t, const struct lag_images *images, struct err *e)
{
    struct lag_step s = {0};
    struct lag_run *r = lag_create(t, e);
    const bool ok = r && lag_step_open(&s, &t->net, t->net.n_stages, t->batch, e);
    if (ok)
        console_say(
            "dry run: %zu images of %d pixels and %d bands, from %d pixels; %zu weights, %.0f MB at the last "
            "stage; nothing was trained",
            images->n, images->all.size, images->n_bands, t->net.size, lag_weights(r),
            (double)(lag_step_bytes(&s) + 6 * sizeof(float) * lag_weights(r)) / 1e6);
    lag_step_close(&s);
    lag_free(r);
    return ok;
}

static bool run_training(struct lab_lag *c, const struct common *common, const struct progress *progress,
                         struct err *e)
{
    struct lag_images images = {0};
    struct lag_config t = c->set;
    struct lag_run *r = NULL;
    struct checkpoint_meta meta[DIFFUSE_META + 1];
    double seconds = 0;
    char gsd[32];
    double gsd_m = 0;
    int n_meta = 0;

    if (!lab_run_may_write(c->out, c->resume, common, e))
        return false;
    t.seed = common->seed;
    bool ok = lag_images_load(&images, c, c->size, false, common->seed, progress, e) &&
              settle(c, &images, &t, e) && find_gsd(c, &images, &gsd_m, e);
    if (ok) {
        n_meta = diffuse_images_meta(&images.all, NULL, meta);
        snprintf(gsd, sizeof gsd, "%.9g", gsd_m);
        meta[n_meta++] = (struct checkpoint_meta){"gsd_m", gsd};
    }
    if (ok && common->dry_run) {
        ok = say_plan(&t, &images, e);
    } else if (ok) {
        r = c->resume ? lag_resume(c->out, &t, e) : lag_create(&t, e);
        struct lag_data data = {draw, &images};
        const struct lab_run job = {r, &data, run_finished, run_train, run_save};
        ok = r && lab_run_through(&job, c->out, meta, n_meta, &seconds, progress, e);
        ok = ok && say_trained(c, common, r, &images, seconds, e);
    }
    lag_free(r);
    lag_images_free(&images);
    return ok;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct lab_lag *c = options_;
    return c->verb == ARG_TRAIN     ? run_training(c, common, progress, e)
           : c->verb == ARG_MEASURE ? lag_run_measure(c, common, progress, e)
                                    : lag_run_enhance(c, common, progress, e);
}

const struct command command_lab_lag = {
    .name = "lab lag",
    .args_doc = "train EVENT|SET -o MODEL\n"
                "measure EVENT|SET --model MODEL -o DIR\n"
                "enhance IMAGE|EVENT --model MODEL -n K -o DIR",
    .summary = "Several plausible large images of one coarse image",
    .doc = "train teaches a generator to enlarge chips of an event's training blocks, each date by itself, "
           "or plain "
           "images; measure says on held-out ones how far its versions agree with the small image, differ "
           "from each "
           "other and lie around its centre, and draws a sheet; enhance makes versions of an image or of an "
           "event's "
           "chips.\v"
           "The method is the Latent Adversarial Generator (Berthelot, Milanfar, Goodfellow 2020, arXiv "
           "2003.02365): "
           "adversarial training in which closeness is measured by the critic's own features, and noise 0 "
           "gives the "
           "centre of what is plausible.\n\n"
           "Detail made so is invented. It cannot show whether a building stands: look at several versions "
           "side by "
           "side and at the spread, never at one. Names begin with \"synthetic-\", descriptions say "
           "SYNTHETIC and by "
           "which model, one band more is all ones; tile and assess refuse such images unless told "
           "--allow-synthetic.\n\n"
           "enhance writes for each image: centre, 1 to K, the standard deviation of a pixel over the K "
           "(sd), and a "
           "sheet. Versions keep place and coordinate system on the finer grid.\n\n"
           "Interrupting train writes the state; --resume goes on and ends in the same bits as an unbroken "
           "run. Memory "
           "for a batch of 16 at the last stage: 43 MB at 16 pixels, 129 MB at 32; of the paper's widths at "
           "32 pixels 1.2 "
           "GB (--dry-run says it). An update at 28 pixels and --width 32 takes a tenth of a second of one "
           "core.\n\n"
           "Examples: aftermap lab lag train event --size 32 --scale 4 -o lag.safetensors\n"
           "aftermap lab lag measure event --model lag.safetensors -n 16 -o claims\n"
           "aftermap lab lag enhance coarse.tif --model lag.safetensors -n 6 -o versions",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct lab_lag),
    .defaults = lag_defaults,
    .run = run,
};
