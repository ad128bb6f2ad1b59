/* SPDX-License-Identifier: Apache-2.0
 * lab_diffuse.c - `aftermap lab diffuse train|distill|sample`: a diffusion model of an event's chips or of plain
 * images, its distillation to a few network calls (models/learn/tract.h), and images that it makes up, marked as
 * such (geo/synthetic.h). */
#include "app/lab_diffuse.h"
#include "app/command.h"
#include "app/console.h"
#include "app/lab_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_SIZE = 1,
    KEY_WIDTH,
    KEY_NOISE_STEPS,
    KEY_NO_MIRROR,
    KEY_METHOD,
    KEY_PLAN,
    KEY_SELF,
    KEY_RESIDUAL,
    KEY_RESTART,
    KEY_UPDATES,
    KEY_BATCH,
    KEY_LR,
    KEY_CAP,
    KEY_RESUME,
    KEY_COUNT,
    KEY_CALLS,
    KEY_CLASS,
    KEY_CLASSIFIER
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "train: a teacher of many steps", 1},
    {"size", KEY_SIZE, "PIXELS", 0,
     "Side of the images it learns and makes; divides the chips' (default: the largest divisor up to 32)", 1},
    {"width", KEY_WIDTH, "C", 0, "Channels of the finest level of the network, in eights (default 16)", 1},
    {"noise-steps", KEY_NOISE_STEPS, "T", 0, "Steps from noise to image (default 256)", 1},
    {NULL, 0, NULL, 0, "distill: a student of few steps", 2},
    {"method", KEY_METHOD, "NAME", 0,
     "tract (the default), or btd, which halves the number of steps phase by phase", 2},
    {"plan", KEY_PLAN, "N,N,...", 0,
     "Steps of the teacher, then after each phase (default: tract T,16,1; btd T,T/2,...,1)", 2},
    {"self-momentum", KEY_SELF, "D", 0, "tract: momentum of the self-teacher (default 0.5)", 2},
    {"restart-average", KEY_RESTART, NULL, 0, "The judged average forgets the phase before at once", 2},
    {NULL, 0, NULL, 0, "train and distill", 3},
    {"updates", KEY_UPDATES, "N", 0, "Number of updates in all (default 2000)", 3},
    {"batch", KEY_BATCH, "B", 0, "Images an update (default 64)", 3},
    {"lr", KEY_LR, "RATE", 0,
     "Learning rate of Adam (default 0.001; the paper's for its large networks 0.0002)", 3},
    {"cap", KEY_CAP, "W", 0, "Upper limit of an example's weight; 0, the paper's: none (default 1000)", 3},
    {"residual", KEY_RESIDUAL, "R", 0,
     "What the judged average keeps of a phase's start at its end (default 0.001)", 3},
    {"no-mirror", KEY_NO_MIRROR, NULL, 0, "No mirror images (digits)", 3},
    {"resume", KEY_RESUME, NULL, 0, "Go on from the output file's last state", 3},
    {NULL, 0, NULL, 0, "sample: made-up images", 4},
    {"count", KEY_COUNT, "N", 0, "Images to make of each class (default 16)", 4},
    {"calls", KEY_CALLS, "N", 0,
     "Network calls an image, a divisor of T (default: what the model has learnt; of a teacher up to 64)", 4},
    {"class", KEY_CLASS, "NAME", 0, "Only images of this class", 4},
    {NULL, 0, NULL, 0, "compare: folders of samples with real images", 5},
    {"classifier", KEY_CLASSIFIER, "MODEL", 0,
     "Model of aftermap train whose activations are the features; it should not have learnt from made-up "
     "images",
     5},
    {NULL, 0, NULL, 0, "Output", 6},
    {"output", 'o', "MODEL|DIR", 0, "Model file (.safetensors), or folder for samples", 6},
    {0}};

enum { ARG_TRAIN, ARG_DISTILL, ARG_SAMPLE, ARG_COMPARE, N_VERBS };
static const char *const verbs[N_VERBS] = {"train", "distill", "sample", "compare"};

/* The groups of options that belong to each. */
static const unsigned verb_groups[N_VERBS] = {1 << 1 | 1 << 3 | 1 << 6, 1 << 2 | 1 << 3 | 1 << 6,
                                              1 << 4 | 1 << 6, 1 << 5 | 1 << 6};

static void diffuse_defaults(void *options_)
{
    struct lab_diffuse *c = options_;
    c->verb = -1;
    c->width = 16;
    c->n_count = 16;
    tract_config_defaults(&c->set, TRACT_TEACHER);
    c->set.n_steps = 256;
    c->set.n_updates = 2000;
    c->set.lr = 1e-3;
    c->set.cap = 1000;
}

static void parse_argument(const char *arg, struct argp_state *state, struct lab_diffuse *c)
{
    if (c->verb < 0) {
        for (int i = 0; i < N_VERBS; i++)
            if (strcmp(arg, verbs[i]) == 0)
                c->verb = i;
        if (c->verb < 0)
            argp_error(state, "say train, distill, sample or compare, not '%s'", arg);
    } else if ((c->verb == ARG_DISTILL || c->verb == ARG_SAMPLE) && !c->model) {
        c->model = arg;
    } else if (c->verb != ARG_SAMPLE && !c->data) {
        c->data = arg;
    } else if (c->verb == ARG_COMPARE) {
        list_add(&c->made, arg);
    } else {
        argp_error(state, "'%s' is one name too many", arg);
    }
}

static void parse_end(struct argp_state *state, struct lab_diffuse *c)
{
    struct err e;
    if (c->verb < 0)
        argp_error(state, "say train, distill, sample or compare");
    if ((c->verb == ARG_DISTILL || c->verb == ARG_SAMPLE) && !c->model)
        argp_error(state, "name the model to %s", c->verb == ARG_DISTILL ? "distill" : "sample from");
    if (c->verb != ARG_SAMPLE && !c->data)
        argp_error(state, "name an event folder, cifar10:FILE, idx:IMAGES,LABELS or folder:DIR");
    if (c->verb == ARG_COMPARE && (c->made.n == 0 || !c->classifier))
        argp_error(state, c->made.n == 0 ? "name at least one folder of samples behind the real images"
                                         : "name the model whose features are compared with --classifier");
    if (c->verb == ARG_COMPARE && c->out)
        argp_error(state, "compare writes no file; its table goes to standard output");
    if (!c->out && c->verb != ARG_COMPARE)
        argp_error(state, "name the %s with -o",
                   c->verb == ARG_SAMPLE ? "folder for the images" : "model file");
    lab_run_refuse(state, options, c->given, verb_groups[c->verb], "lab diffuse", verbs[c->verb]);
    if (c->plan && !tract_plan_parse(&c->set, c->plan, &e))
        argp_error(state, "--plan: %s", e.msg);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct lab_diffuse *c = ((struct invocation *)state->input)->options;
    if (key > 0 && key < 32)
        c->given |= 1u << key;
    switch (key) {
    case ARGP_KEY_ARG:
        parse_argument(arg, state, c);
        break;
    case ARGP_KEY_END:
        parse_end(state, c);
        break;
    case KEY_SIZE:
        c->size = (int)parse_int(state, "--size", arg, 2, UNET_MAX_SIZE);
        break;
    case KEY_WIDTH:
        c->width = (int)parse_int(state, "--width", arg, 8, 512);
        if (c->width % 8)
            argp_error(state, "--width takes multiples of 8, not %d", c->width);
        break;
    case KEY_NOISE_STEPS:
        c->set.n_steps = (int)parse_int(state, "--noise-steps", arg, 2, TRACT_MAX_STEPS);
        break;
    case KEY_NO_MIRROR:
        c->no_mirror = true;
        break;
    case KEY_METHOD:
        if (strcmp(arg, "tract") != 0 && strcmp(arg, "btd") != 0)
            argp_error(state, "--method takes tract or btd, not '%s'", arg);
        c->is_btd = *arg == 'b';
        break;
    case KEY_PLAN:
        c->plan = arg;
        break;
    case KEY_SELF:
        c->set.self_momentum = parse_real(state, "--self-momentum", arg, 0, 0.9999);
        break;
    case KEY_RESIDUAL:
        c->set.residual = parse_real(state, "--residual", arg, 1e-9, 0.99);
        break;
    case KEY_RESTART:
        c->set.restart_average = true;
        break;
    case KEY_UPDATES:
        c->set.n_updates = (uint64_t)parse_int(state, "--updates", arg, 1, 1000000000);
        break;
    case KEY_BATCH:
        c->set.batch = (int)parse_int(state, "--batch", arg, 1, 4096);
        break;
    case KEY_LR:
        c->set.lr = parse_real(state, "--lr", arg, 1e-7, 0.5);
        break;
    case KEY_CAP:
        c->set.cap = parse_real(state, "--cap", arg, 0, 1e9);
        break;
    case KEY_RESUME:
        c->resume = true;
        break;
    case KEY_COUNT:
        c->n_count = (int)parse_int(state, "--count", arg, 1, 100000);
        break;
    case KEY_CALLS:
        c->n_calls = (int)parse_int(state, "--calls", arg, 1, TRACT_MAX_STEPS);
        break;
    case KEY_CLASS:
        c->class_name = arg;
        break;
    case KEY_CLASSIFIER:
        c->classifier = arg;
        break;
    case 'o':
        c->out = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- training and distilling ---- */

/* The network for images of this size: levels down to 8 pixels (or as far as the size halves), attention at the
 * last, as the specification's networks for patches have it. */
static struct unet_config network(const struct lab_diffuse *c, int size, int n_channels, int n_classes)
{
    struct unet_config n = {.kind = UNET_IMAGE,
                            .size = size,
                            .c_in = n_channels,
                            .c_out = n_channels,
                            .n_classes = n_classes,
                            .base = c->width,
                            .embed = 4 * c->width,
                            .n_blocks = 1,
                            .groups = 8,
                            .n_levels = 1,
                            .multiplier = {1}};
    while (size > 8 && size % 2 == 0 && n.n_levels < UNET_MAX_LEVELS) {
        n.multiplier[n.n_levels++] = 2;
        size /= 2;
    }
    n.attention = 1u << (n.n_levels - 1);
    return n;
}

/* Distilling: what the teacher fixes, then the plan. */
static bool settle_student(const struct lab_diffuse *c, const struct tract_model *teacher,
                           struct tract_config *t, struct err *e)
{
    if (teacher->config.method != TRACT_TEACHER)
        return err_set(e, ERR_USAGE, "%s: was distilled already; distill its teacher instead", c->model);
    t->net = teacher->config.net;
    t->n_steps = teacher->config.n_steps;
    t->method = c->is_btd ? TRACT_BTD : TRACT_DISTILL;
    if (c->plan)
        return true;
    t->n_plan = 0;
    if (c->is_btd) {
        for (int n = t->n_steps; n >= 1 && t->n_plan <= TRACT_MAX_PHASES; n = n % 2 ? 0 : n / 2)
            t->plan[t->n_plan++] = n;
    } else {
        t->plan[t->n_plan++] = t->n_steps;
        if (t->n_steps > 16 && t->n_steps % 16 == 0)
            t->plan[t->n_plan++] = 16;
        t->plan[t->n_plan++] = 1;
    }
    return true;
}

static bool run_finished(const void *run)
{
    return tract_updates_done(run) >= tract_get_config(run)->n_updates;
}

static bool run_train(void *run, void *data, uint64_t at_most, const struct progress *progress, struct err *e)
{
    return tract_train(run, data, at_most, progress, e);
}

static bool run_save(const void *run, const char *path, const struct checkpoint_meta *meta, int n_meta,
                     struct err *e)
{
    return tract_save(run, path, meta, n_meta, e);
}

static bool say_trained(const struct lab_diffuse *c, const struct common *common, const struct tract_run *r,
                        const struct diffuse_images *images, double seconds, struct err *e)
{
    const struct tract_config *t = tract_get_config(r);
    const char *name = tract_method_name(t->method);
    console_say("%s: %llu updates of %d images in %.0f s; weighted loss %.4f; %zu weights", name,
                (unsigned long long)t->n_updates, t->batch, seconds, tract_loss(r), unet_count(&t->net));
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "model", c->out);
    cJSON_AddStringToObject(j, "method", name);
    cJSON_AddNumberToObject(j, "updates", (double)t->n_updates);
    cJSON_AddNumberToObject(j, "images", (double)images->n);
    cJSON_AddNumberToObject(j, "weights", (double)unet_count(&t->net));
    cJSON_AddNumberToObject(j, "size_px", t->net.size);
    cJSON_AddNumberToObject(j, "classes", t->net.n_classes);
    cJSON_AddNumberToObject(j, "loss", tract_loss(r));
    cJSON_AddNumberToObject(j, "seconds", seconds);
    return lab_run_print(common, c->out, j, e);
}

static bool run_training(struct lab_diffuse *c, const struct common *common, const struct progress *progress,
                         struct err *e)
{
    struct diffuse_images images = {0};
    struct tract_model teacher = {0};
    struct tract_config t = c->set;
    struct tract_run *r = NULL;
    struct checkpoint_meta meta[DIFFUSE_META];
    double seconds = 0;
    int n_meta = 0;
    const bool student = c->verb == ARG_DISTILL;

    if (!lab_run_may_write(c->out, c->resume, common, e))
        return false;
    t.seed = common->seed;
    bool ok = !student || (tract_model_open(&teacher, c->model, e) && settle_student(c, &teacher, &t, e));
    ok = ok && diffuse_images_load(&images, c, student ? teacher.config.net.size : c->size, common->seed,
                                   progress, e);
    if (ok && !student)
        t.net = network(c, images.size, images.n_channels, images.n_classes);
    ok = ok && (!student || diffuse_images_match(&images, &teacher, c, e)) && tract_config_check(&t, e);
    if (ok)
        n_meta = diffuse_images_meta(&images, student ? &teacher : NULL, meta);
    if (ok && common->dry_run) {
        console_say(
            "dry run: %zu images of %d pixels and %d bands, %d classes, %zu weights; nothing was trained",
            images.n, images.size, images.n_channels, images.n_classes, unet_count(&t.net));
    } else if (ok) {
        r = c->resume ? tract_resume(c->out, &t, e) : tract_create(&t, teacher.weights, e);
        struct tract_data data = {diffuse_images_draw, &images};
        const struct lab_run job = {r, &data, run_finished, run_train, run_save};
        ok = r && lab_run_through(&job, c->out, meta, n_meta, &seconds, progress, e);
        ok = ok && say_trained(c, common, r, &images, seconds, e);
    }
    tract_free(r);
    tract_model_close(&teacher);
    diffuse_images_free(&images);
    return ok;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct lab_diffuse *c = options_;
    if (c->verb == ARG_COMPARE)
        return diffuse_compare(c, common, progress, e);
    return c->verb == ARG_SAMPLE ? diffuse_sample(c, common, progress, e)
                                 : run_training(c, common, progress, e);
}

const struct command command_lab_diffuse = {
    .name = "lab diffuse",
    .args_doc = "train EVENT|SET -o MODEL\n"
                "distill MODEL EVENT|SET -o STUDENT\n"
                "sample MODEL|STUDENT -o DIR\n"
                "compare EVENT|SET DIR... --classifier MODEL",
    .summary = "Learn to make up images, in one or two network calls",
    .doc =
        "train teaches a diffusion model to draw chips of an event's training blocks (both dates), or plain "
        "images, told their class; distill turns it into a student that needs one call where its teacher "
        "needs "
        "many; sample makes images; compare tells how far such images are from real ones.\v"
        "Distillation is TRACT (Berthelot, Autef, Lin, Yap, Zhai, Hu, Zheng, Talbott, Gu 2023), or binary "
        "time "
        "distillation (Salimans & Ho 2022), which TRACT contains. The network is the U-Net of TRACT's code, "
        "smaller.\n\n"
        "Images made are no observations: they cannot show damage that nobody has seen. Their names begin "
        "with "
        "\"synthetic-\", their description says SYNTHETIC and by which model, they have no place and no "
        "date, and "
        "one more band of ones; nothing puts them into an event or a label store. `train --synthetic` lets "
        "them teach "
        "beside observed chips, and the model says so.\n\n"
        "compare takes as many real images of the training split as made-up ones of each class. FCD: Frechet "
        "distance "
        "in the classifier's features (FCD* corrected for few images; ten images a feature are wanted), KCD: "
        "kernel "
        "distance there, SWD: sliced Wasserstein distance of patches, precision: share of the made-up among "
        "the real, "
        "recall: of the real among the made-up, memory: how near to images learnt from over how near to "
        "held-out ones "
        "(below 0.9: copies). Their floor is real against real. None compares with published figures.\n\n"
        "Interrupting writes the state; --resume goes on and ends in the same bits as an unbroken run. "
        "Memory for "
        "each image of a batch: 2.6 MB at 16 pixels, 9 MB at 32 pixels; twice that with --width 32.\n\n"
        "Examples: aftermap lab diffuse train event --size 16 --updates 3000 -o teacher.safetensors\n"
        "aftermap lab diffuse distill teacher.safetensors event -o student.safetensors\n"
        "aftermap lab diffuse sample student.safetensors --class destroyed -o samples",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct lab_diffuse),
    .defaults = diffuse_defaults,
    .run = run,
};
