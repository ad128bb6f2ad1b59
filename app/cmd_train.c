/* SPDX-License-Identifier: Apache-2.0
 * cmd_train.c - `aftermap train`: an event or a plain image set -> a model (models/learn/train.h). */
#include "app/cmd_train.h"
#include "app/command.h"
#include "app/console.h"
#include "app/model_meta.h"
#include "app/train_synthetic.h"
#include "geo/answers.h"
#include "geo/event.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/learn/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_METHOD = 1,
    KEY_LABELS,
    KEY_CUT,
    KEY_STEPS,
    KEY_BUDGET,
    KEY_RESUME,
    KEY_PRESET,
    KEY_BATCH,
    KEY_MU,
    KEY_TAU,
    KEY_LAMBDA,
    KEY_LR,
    KEY_DECAY,
    KEY_EMA,
    KEY_BALANCE,
    KEY_NO_MIRROR,
    KEY_NO_CUTOUT,
    KEY_NO_FOOTPRINT,
    KEY_TEST_SHARE,
    KEY_MAX_ITEMS,
    KEY_SOURCE,
    KEY_AUGMENT,
    KEY_GUESSES,
    KEY_SHARPEN,
    KEY_MIXUP,
    KEY_RAMP,
    KEY_ROTATION,
    KEY_ALIGN,
    KEY_TRANSDUCTIVE,
    KEY_TEACHER,
    KEY_WITHOUT, /* below 32: above, argp would make letters of them */
    KEY_TSA = 0x100,
    KEY_ANSWERS,
    KEY_SYNTHETIC
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "What to learn", 1},
    {"method", KEY_METHOD, "NAME", 0,
     "supervised, pseudolabel, pimodel, meanteacher, vat, uda, mixmatch, remixmatch, fixmatch (the default) "
     "or adamatch",
     1},
    {"labels-per-class", KEY_LABELS, "N", 0,
     "Use N labels of each class, drawn by --seed (default: all); 0 uses none, a source has to teach", 1},
    {"labels", KEY_ANSWERS, "FILE:FIELD", 0,
     "Events: grades from a table with a column bldg_id instead of the event's own; rows whose column "
     "purpose "
     "says validate are never trained on",
     1},
    {"source", KEY_SOURCE, "EVENT|SET", 0,
     "Learn from the labels of another event or image set, too; may be repeated. adamatch carries them over; "
     "other "
     "methods take them for labels of the target",
     1},
    {"synthetic", KEY_SYNTHETIC, "DIR|FILE", 0,
     "Let images that `lab diffuse sample` made up teach beside observed ones; may be repeated. The model "
     "says so "
     "for ever; judge it on observed images alone",
     1},
    {"cut", KEY_CUT, "LEVEL", 0,
     "Damaged means this level or worse: 1 minor, 2 major, 3 destroyed; 0 learns the four grades (default 2)",
     1},
    {"test-share", KEY_TEST_SHARE, "SHARE", 0, "Plain image sets: share held out for testing (default 0.2)",
     1},
    {"transductive", KEY_TRANSDUCTIVE, NULL, 0,
     "Learn from the images, never the labels, of the held-out blocks as well; figures on those blocks then "
     "say nothing about new ground",
     1},
    {"max-items", KEY_MAX_ITEMS, "N", 0, "Events: hold at most N unlabelled chips in memory (default 20000)",
     1},
    {NULL, 0, NULL, 0, "How long", 2},
    {"steps", KEY_STEPS, "N", 0, "Number of updates", 2},
    {"budget", KEY_BUDGET, "TIME", 0, "Or as many as fit in this time: 90s, 5m, 1h (default 5m)", 2},
    {"resume", KEY_RESUME, NULL, 0, "Go on from the output file's last checkpoint", 2},
    {NULL, 0, NULL, 0, "Settings, each with the method's published default where it has one", 3},
    {"preset", KEY_PRESET, "NET", 0, "Network: lite, lite3, wrn-10-2, wrn-28-2, wrn-37-2", 3},
    {"batch", KEY_BATCH, "B", 0, "Labelled images a step", 3},
    {"mu", KEY_MU, "RATIO", 0, "Unlabelled images per labelled one", 3},
    {"tau", KEY_TAU, "P[,P...]", 0,
     "Confidence from which a guess counts; fixmatch, uda, adamatch: one for each class, such as 0.95,0.8",
     3},
    {"lambda-u", KEY_LAMBDA, "W", 0, "Weight of the unlabelled loss", 3},
    {"lr", KEY_LR, "RATE", 0, "Learning rate", 3},
    {"weight-decay", KEY_DECAY, "WD", 0, "Weight decay of kernels", 3},
    {"ema", KEY_EMA, "D", 0, "Decay of the moving average of the weights", 3},
    {"balance", KEY_BALANCE, "YES|NO", 0, "Draw labelled batches class-balanced", 3},
    {"augment", KEY_AUGMENT, "rand|cta", 0,
     "Strong views by RandAugment, or by CTAugment, which learns from the labels", 3},
    {"guesses", KEY_GUESSES, "K", 0, "mixmatch, remixmatch: views of an unlabelled image", 3},
    {"sharpen", KEY_SHARPEN, "T", 0, "mixmatch, remixmatch, uda: temperature of guesses", 3},
    {"mixup", KEY_MIXUP, "ALPHA", 0, "mixmatch, remixmatch: how evenly images are mixed; 0 mixes none", 3},
    {"ramp", KEY_RAMP, "SHARE", 0, "Share of the run over which the unlabelled weight rises", 3},
    {"rotation", KEY_ROTATION, "W", 0, "remixmatch: weight of telling how an image was turned", 3},
    {"align", KEY_ALIGN, "TO", 0,
     "remixmatch, adamatch, fixmatch: push guesses to shares of classes: off, labels (as published), sample "
     "(this "
     "run's labels are a random sample of the area) or the share of damage, such as 0.02. Events start with "
     "off",
     3},
    {"tsa", KEY_TSA, "HOW", 0,
     "uda: anneal the training signal, labels stop teaching once learnt: linear, exp or log", 3},
    {"teacher", KEY_TEACHER, "WHO", 0,
     "fixmatch: who guesses: self, ema (the averaged weights on the batch) or ema-eval (on running "
     "statistics)",
     3},
    {"without", KEY_WITHOUT, "WHAT", 0,
     "Leave out a part; may be repeated. Events: match (the channel that compares both dates), hiding (views "
     "without bands), still (pairs of one date as undamaged samples); adamatch: interpolation, relative-tau; "
     "fixmatch: strong (views)",
     3},
    {"no-mirror", KEY_NO_MIRROR, NULL, 0, "Plain images: no mirror images (digits)", 3},
    {"no-cutout", KEY_NO_CUTOUT, NULL, 0, "Strong views without cutout", 3},
    {"no-footprint", KEY_NO_FOOTPRINT, NULL, 0, "Events: do not show the network the building's outline", 3},
    {NULL, 0, NULL, 0, "Output", 4},
    {"output", 'o', "MODEL", 0, "Model file (.safetensors)", 4},
    {0}};

struct train_cmd {
    const char *data, *out, *method, *answers;
    struct train_config set; /* fields the user set; the masks below say which */
    unsigned given;
    int cut;
    double test_share;
    size_t max_items;
    bool resume, no_footprint, no_interpolation, no_relative_tau, no_strong, no_match, no_hiding, no_still;
    struct string_list sources, synthetic;
    size_t n_synthetic; /* images added */
};

static void train_cmd_defaults(void *options_)
{
    struct train_cmd *c = options_;
    c->method = "fixmatch";
    c->cut = 2;
    c->test_share = 0.2;
    c->max_items = 20000;
}

static bool given(const struct train_cmd *c, int key)
{
    return c->given & 1u << key;
}

static void parse_align(const char *arg, struct argp_state *state, struct train_cmd *c)
{
    static const char *const words[] = {
        [METHOD_ALIGN_OFF] = "off", [METHOD_ALIGN_LABELS] = "labels", [METHOD_ALIGN_SAMPLE] = "sample"};
    for (int i = 0; i < (int)(sizeof words / sizeof *words); i++)
        if (words[i] && strcmp(arg, words[i]) == 0) {
            c->set.align = i;
            return;
        }
    c->set.align = METHOD_ALIGN_PRIOR;
    c->set.prior = parse_real(state, "--align (off, labels, sample or a share)", arg, 1e-6, 1 - 1e-6);
}

/* One threshold, or one a class. */
static void parse_tau(const char *arg, struct argp_state *state, struct train_cmd *c)
{
    char one[32];
    int n = 0;
    for (const char *at = arg; at; n++) {
        const size_t length = strcspn(at, ",");
        if (n == METHOD_MAX_TAUS || length >= sizeof one)
            argp_error(state, "--tau takes at most %d numbers separated by commas, not '%s'", METHOD_MAX_TAUS,
                       arg);
        snprintf(one, sizeof one, "%.*s", (int)length, at);
        c->set.class_tau[n] = parse_real(state, "--tau", one, 0, 2);
        at = at[length] ? at + length + 1 : NULL;
    }
    c->set.tau = c->set.class_tau[0];
    c->set.n_class_tau = n > 1 ? n : 0;
}

static void parse_tsa(const char *arg, struct argp_state *state, struct train_cmd *c)
{
    static const char *const words[] = {
        [METHOD_TSA_LINEAR] = "linear", [METHOD_TSA_EXP] = "exp", [METHOD_TSA_LOG] = "log"};
    for (int i = METHOD_TSA_LINEAR; i <= METHOD_TSA_LOG; i++)
        if (strcmp(arg, words[i]) == 0) {
            c->set.tsa = i;
            return;
        }
    argp_error(state, "--tsa takes linear, exp or log, not '%s'", arg);
}

static void parse_teacher(const char *arg, struct argp_state *state, struct train_cmd *c)
{
    static const char *const words[] = {
        [METHOD_TEACHER_SELF] = "self", [METHOD_TEACHER_EMA] = "ema", [METHOD_TEACHER_EMA_EVAL] = "ema-eval"};
    for (int i = 0; i < (int)(sizeof words / sizeof *words); i++)
        if (strcmp(arg, words[i]) == 0) {
            c->set.teacher = i;
            return;
        }
    argp_error(state, "--teacher takes self, ema or ema-eval, not '%s'", arg);
}

/* Settings that only some methods take; train_run() refuses the others'. */
static error_t parse_special(int key, char *arg, struct argp_state *state, struct train_cmd *c)
{
    switch (key) {
    case KEY_AUGMENT:
        if (strcmp(arg, "rand") != 0 && strcmp(arg, "cta") != 0)
            argp_error(state, "--augment takes rand or cta, not '%s'", arg);
        c->set.cta = *arg == 'c';
        break;
    case KEY_GUESSES:
        c->set.n_guesses = (int)parse_int(state, "--guesses", arg, 1, 12);
        break;
    case KEY_SHARPEN:
        c->set.sharpen = parse_real(state, "--sharpen", arg, 1e-3, 100);
        break;
    case KEY_MIXUP:
        c->set.mixup = parse_real(state, "--mixup", arg, 0, 100);
        break;
    case KEY_RAMP:
        c->set.ramp = parse_real(state, "--ramp", arg, 0, 1);
        break;
    case KEY_ROTATION:
        c->set.lambda_rotation = parse_real(state, "--rotation", arg, 0, 1000);
        break;
    case KEY_ALIGN:
        parse_align(arg, state, c);
        break;
    case KEY_TEACHER:
        parse_teacher(arg, state, c);
        break;
    case KEY_TSA:
        parse_tsa(arg, state, c);
        break;
    case KEY_WITHOUT:
        if (strcmp(arg, "interpolation") == 0)
            c->no_interpolation = true;
        else if (strcmp(arg, "relative-tau") == 0)
            c->no_relative_tau = true;
        else if (strcmp(arg, "strong") == 0)
            c->no_strong = true;
        else if (strcmp(arg, "match") == 0)
            c->no_match = true;
        else if (strcmp(arg, "hiding") == 0)
            c->no_hiding = true;
        else if (strcmp(arg, "still") == 0)
            c->no_still = true;
        else
            argp_error(
                state,
                "--without takes match, hiding, still, interpolation, relative-tau or strong, not '%s'", arg);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static error_t parse_setting(int key, char *arg, struct argp_state *state, struct train_cmd *c)
{
    switch (key) {
    case KEY_PRESET:
        c->set.preset = arg;
        break;
    case KEY_BATCH:
        c->set.batch = (int)parse_int(state, "--batch", arg, 2, 4096);
        break;
    case KEY_MU:
        c->set.mu = (int)parse_int(state, "--mu", arg, 1, 64);
        break;
    case KEY_TAU:
        parse_tau(arg, state, c);
        break;
    case KEY_LAMBDA:
        c->set.lambda_u = parse_real(state, "--lambda-u", arg, 0, 1000);
        break;
    case KEY_LR:
        c->set.optim.lr = (float)parse_real(state, "--lr", arg, 1e-7, 10);
        break;
    case KEY_DECAY:
        c->set.optim.weight_decay = (float)parse_real(state, "--weight-decay", arg, 0, 1);
        break;
    case KEY_EMA:
        c->set.optim.ema_decay = (float)parse_real(state, "--ema", arg, 0, 0.99999);
        break;
    case KEY_BALANCE:
        if (strcmp(arg, "yes") != 0 && strcmp(arg, "no") != 0)
            argp_error(state, "--balance takes yes or no, not '%s'", arg);
        c->set.balance = *arg == 'y';
        break;
    case KEY_NO_MIRROR:
    case KEY_NO_CUTOUT:
        break;
    default:
        return parse_special(key, arg, state, c);
    }
    return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct train_cmd *c = ((struct invocation *)state->input)->options;
    if (key > 0 && key < 32)
        c->given |= 1u << key;
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->data)
            argp_error(state, "one data set at a time: '%s' is a second one", arg);
        c->data = arg;
        break;
    case ARGP_KEY_END:
        if (!c->data)
            argp_error(state, "name an event folder, cifar10:FILE, idx:IMAGES,LABELS or folder:DIR");
        if (!c->out)
            argp_error(state, "name the model file with -o MODEL.safetensors");
        if (given(c, KEY_LABELS) && c->set.labels_per_class < 0 && c->sources.n == 0)
            argp_error(state, "without a label and without --source there is nothing to learn from");
        if ((c->no_interpolation || c->no_relative_tau) && strcmp(c->method, "adamatch") != 0)
            argp_error(state, "interpolation and relative-tau are parts of adamatch, not of %s", c->method);
        if (c->data && c->answers && imageset_is_spec(c->data))
            argp_error(state, "--labels belongs to events; a plain set has its own");
        if (given(c, KEY_STEPS) && given(c, KEY_BUDGET))
            argp_error(state, "--steps and --budget exclude each other");
        break;
    case KEY_METHOD:
        c->method = arg;
        break;
    case KEY_LABELS:
        c->set.labels_per_class = (int)parse_int(state, "--labels-per-class", arg, 0, 1000000);
        if (c->set.labels_per_class == 0)
            c->set.labels_per_class = -1;
        break;
    case KEY_ANSWERS:
        c->answers = arg;
        break;
    case KEY_SOURCE:
        list_add(&c->sources, arg);
        break;
    case KEY_SYNTHETIC:
        list_add(&c->synthetic, arg);
        break;
    case KEY_CUT:
        c->cut = (int)parse_int(state, "--cut", arg, 0, 3);
        break;
    case KEY_TEST_SHARE:
        c->test_share = parse_real(state, "--test-share", arg, 0, 0.9);
        break;
    case KEY_MAX_ITEMS:
        c->max_items = (size_t)parse_int(state, "--max-items", arg, 1, 100000000);
        break;
    case KEY_STEPS:
        c->set.steps = parse_int(state, "--steps", arg, 1, 100000000);
        break;
    case KEY_BUDGET:
        c->set.budget_s = parse_duration(state, "--budget", arg);
        break;
    case KEY_RESUME:
        c->resume = true;
        break;
    case KEY_TRANSDUCTIVE:
        c->set.transductive = true;
        break;
    case KEY_NO_FOOTPRINT:
        c->no_footprint = true;
        break;
    case 'o':
        c->out = arg;
        break;
    default:
        return parse_setting(key, arg, state, c);
    }
    return 0;
}

/* The method's defaults, then what the user set. */
static bool settle_config(const struct train_cmd *c, const struct common *common, bool plain,
                          struct train_config *t, struct err *e)
{
    if (!train_defaults(t, c->method, plain, e))
        return false;
    t->labels_per_class = c->set.labels_per_class;
    t->seed = common->seed;
    t->steps = c->set.steps;
    t->budget_s = t->steps ? 0 : given(c, KEY_BUDGET) ? c->set.budget_s : 300;
    if (given(c, KEY_PRESET))
        t->preset = c->set.preset;
    if (given(c, KEY_BATCH))
        t->batch = c->set.batch;
    if (given(c, KEY_MU))
        t->mu = c->set.mu;
    if (given(c, KEY_TAU) && c->set.n_class_tau == 0)
        t->tau = c->set.tau;
    t->n_class_tau = c->set.n_class_tau;
    memcpy(t->class_tau, c->set.class_tau, sizeof t->class_tau);
    t->tsa = c->set.tsa;
    if (given(c, KEY_LAMBDA))
        t->lambda_u = c->set.lambda_u;
    if (given(c, KEY_LR))
        t->optim.lr = c->set.optim.lr;
    if (given(c, KEY_DECAY))
        t->optim.weight_decay = c->set.optim.weight_decay;
    if (given(c, KEY_EMA))
        t->optim.ema_decay = c->set.optim.ema_decay;
    if (given(c, KEY_BALANCE))
        t->balance = c->set.balance;
    if (given(c, KEY_AUGMENT))
        t->cta = c->set.cta;
    if (given(c, KEY_GUESSES))
        t->n_guesses = c->set.n_guesses;
    if (given(c, KEY_SHARPEN))
        t->sharpen = c->set.sharpen;
    if (given(c, KEY_MIXUP))
        t->mixup = c->set.mixup;
    if (given(c, KEY_RAMP))
        t->ramp = c->set.ramp;
    if (given(c, KEY_ROTATION))
        t->lambda_rotation = c->set.lambda_rotation;
    if (given(c, KEY_ALIGN)) {
        t->align = c->set.align;
        t->prior = c->set.prior;
    }
    if (given(c, KEY_TEACHER))
        t->teacher = c->set.teacher;
    if (c->no_hiding)
        t->hide_bands = false;
    if (c->no_still)
        t->still_share = 0;
    if (c->no_strong)
        t->weak_only = 1;
    if (c->no_interpolation)
        t->interpolate = 0;
    if (c->no_relative_tau)
        t->relative_tau = 0;
    if (given(c, KEY_NO_MIRROR))
        t->mirror = false;
    if (given(c, KEY_NO_CUTOUT))
        t->cutout = false;
    t->transductive = c->set.transductive;
    return true;
}

static bool load_plain(const struct train_cmd *c, const char *data, const struct common *common,
                       struct imageset *set, const struct progress *progress, struct err *e)
{
    if (strncmp(data, "folder:", 7) == 0)
        return event_load_folder(set, data + 7, c->test_share, common->seed, progress, e);
    return imageset_open(set, data, c->test_share, common->seed, e);
}

static bool load_source(const struct train_cmd *c, const char *data, const struct common *common,
                        struct imageset *set, const struct progress *progress, struct err *e)
{
    if (imageset_is_spec(data))
        return load_plain(c, data, common, set, progress, e);
    struct event *ev = event_open(data, e);
    bool ok = ev && train_synthetic_refuse(ev, e) &&
              event_load_imageset(ev, c->cut, 1, common->seed, set, progress, e);
    event_close(ev);
    return ok;
}

/* What the model remembers: of the target, then of the sources. */
struct facts {
    struct checkpoint_meta pair[10 + TRAIN_SYNTHETIC_META];
    int n;
    char *sources; /* names, separated by commas */
    char sources_digest[65];
};

/* Joins every --source to the set; the model remembers their names and one digest of all of theirs. */
static bool add_sources(const struct train_cmd *c, const struct common *common, struct imageset *set,
                        struct facts *m, const struct progress *progress, struct err *e)
{
    size_t length = 1;
    if (c->sources.n == 0)
        return true;
    for (int i = 0; i < c->sources.n; i++)
        length += strlen(file_base(c->sources.item[i])) + 1;
    m->sources = mem_array(length, 1, "the sources' names", e);
    char *digests = m->sources ? mem_array((size_t)c->sources.n, 64, "the sources' digests", e) : NULL;
    bool ok = digests;
    for (int i = 0, at = 0; ok && i < c->sources.n; i++) {
        struct imageset source = {0};
        at += snprintf(m->sources + at, length - (size_t)at, "%s%s", i ? "," : "",
                       file_base(c->sources.item[i]));
        ok = load_source(c, c->sources.item[i], common, &source, progress, e);
        if (ok && c->no_footprint)
            source.layout.use_footprint = false;
        if (ok && c->no_match)
            source.layout.use_match = false;
        ok = ok && train_add_source(set, &source, e);
        memcpy(digests + (size_t)i * 64, source.digest, 64);
        imageset_free(&source);
    }
    if (ok) {
        file_sha256_buffer(digests, (size_t)c->sources.n * 64, m->sources_digest);
        m->pair[m->n++] = (struct checkpoint_meta){"sources", m->sources};
        m->pair[m->n++] = (struct checkpoint_meta){"sources.digest", m->sources_digest};
    }
    free(digests);
    return ok;
}

static bool report(const struct train_cmd *c, const struct common *common, const struct train_report *r,
                   struct err *e)
{
    char source[128] = "";
    const size_t n_source = r->n_source - c->n_synthetic;
    if (n_source > 0)
        snprintf(source, sizeof source, ", %zu of other places", n_source);
    if (c->n_synthetic > 0)
        snprintf(source + strlen(source), sizeof source - strlen(source), ", %zu made up", c->n_synthetic);
    console_say("%lld steps in %.0f s on %zu labelled and %zu unlabelled images%s; loss %.4f",
                (long long)r->steps, r->seconds, r->n_labeled, r->n_unlabeled, source, r->final_loss);
    if (!common->json) {
        puts(c->out);
        return flush_stdout(e);
    }
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "model", c->out);
    cJSON_AddStringToObject(j, "method", c->method);
    cJSON_AddNumberToObject(j, "steps", (double)r->steps);
    cJSON_AddNumberToObject(j, "seconds", r->seconds);
    cJSON_AddNumberToObject(j, "labeled", (double)r->n_labeled);
    cJSON_AddNumberToObject(j, "unlabeled", (double)r->n_unlabeled);
    if (n_source > 0)
        cJSON_AddNumberToObject(j, "source", (double)n_source);
    if (c->n_synthetic > 0)
        cJSON_AddNumberToObject(j, "made_up", (double)c->n_synthetic);
    cJSON_AddNumberToObject(j, "loss", r->final_loss);
    cJSON_AddNumberToObject(j, "temperature", r->temperature);
    cJSON_AddBoolToObject(j, "calibrated", r->calibrated);
    return print_json(j, e);
}

/* Grades of a table in the place of the event's own. */
static bool take_answers(struct event *ev, const char *spec, struct err *e)
{
    size_t n_matched, n_kept_out;
    if (!answers_apply_training(ev, spec, &n_matched, &n_kept_out, e))
        return false;
    console_say("%zu grades from %s%s", n_matched, spec,
                n_kept_out ? "; its buildings with the purpose validate are left out" : "");
    return true;
}

bool train_command_run(void *options_, const struct common *common, const struct train_watch *watch,
                       const struct progress *progress, struct train_report *r, struct err *e)
{
    struct train_cmd *c = options_;
    struct imageset set = {0};
    struct train_config t = {0};
    struct model_meta meta = {0};
    struct facts facts = {0};
    struct train_synthetic made = {0};
    char test_share[32];
    struct event *ev = NULL;
    bool plain = imageset_is_spec(c->data), ok = false;

    *r = (struct train_report){0};
    if (!settle_config(c, common, plain, &t, e))
        return false;
    t.watch = watch;
    if (!c->resume && !common->overwrite && !common->dry_run && file_exists(c->out))
        return err_set(e, ERR_USAGE,
                       "%s exists already; add --resume to go on with it or --overwrite to replace it",
                       c->out);
    if (plain) {
        ok = load_plain(c, c->data, common, &set, progress, e);
        snprintf(test_share, sizeof test_share, "%.17g", c->test_share); /* evaluate splits likewise */
        meta.pair[meta.n++] = (struct checkpoint_meta){"test_share", test_share};
    } else {
        ev = event_open(c->data, e);
        ok = ev && train_synthetic_refuse(ev, e) && (!c->answers || take_answers(ev, c->answers, e)) &&
             event_load_imageset(ev, c->cut, c->max_items, common->seed, &set, progress, e) &&
             model_meta_fill(&meta, ev, c->cut, e);
    }
    if (ok && c->no_footprint)
        set.layout.use_footprint = false;
    if (ok && c->no_match)
        set.layout.use_match = false;
    memcpy(facts.pair, meta.pair, (size_t)meta.n * sizeof *meta.pair);
    facts.n = meta.n;
    ok = ok && add_sources(c, common, &set, &facts, progress, e);
    if (ok && c->synthetic.n > 0) {
        const struct train_synthetic_run like = {plain ? -1 : c->cut, t.labels_per_class, c->test_share,
                                                 common->seed};
        ok = train_synthetic_add(&set, &c->synthetic, &like, &made, progress, e);
        c->n_synthetic = made.n;
        facts.n += ok ? train_synthetic_meta(&made, facts.pair + facts.n) : 0;
    }
    if (ok && common->dry_run)
        console_say("dry run: %zu images of %d classes, method %s; nothing was trained", set.n, set.n_classes,
                    c->method);
    else
        ok = ok && train_run(&set, &t, c->out, c->resume, facts.pair, facts.n, progress, r, e);
    free(facts.sources);
    train_synthetic_free(&made);
    model_meta_free(&meta);
    event_close(ev);
    imageset_free(&set);
    return ok;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct train_report r;
    return train_command_run(options_, common, NULL, progress, &r, e) &&
           (common->dry_run || report(options_, common, &r, e));
}

const struct command command_train = {
    .name = "train",
    .args_doc = "EVENT|cifar10:FILE|idx:IMAGES,LABELS|folder:DIR -o MODEL.safetensors",
    .summary = "Learn from a few labels and many unlabelled chips",
    .doc =
        "Trains a network on an event's training blocks, or on a plain image set, and writes one file that "
        "predicts and that "
        "training can go on from.\v"
        "fixmatch (Sohn et al. 2020) also learns from chips without a label: a confident guess on a lightly "
        "changed view is the "
        "target for a strongly changed one. mixmatch (Berthelot et al. 2019) averages guesses over several "
        "views and mixes them with the labelled chips; remixmatch (2020) adds strong views, learnt "
        "augmentation and "
        "alignment. adamatch (Berthelot et al. 2022) carries the labels of past events (--source) over to "
        "this one, "
        "with or without labels of its own. pseudolabel, pimodel, meanteacher, vat and uda are "
        "the "
        "baselines of these papers. supervised uses the labelled chips alone.\n\n"
        "Interrupting writes a checkpoint; --resume goes on and ends in the same bits as an unbroken run.\n\n"
        "Examples: aftermap train event --labels-per-class 10 --budget 5m -o model.safetensors\n"
        "aftermap train event --method adamatch --source past-event --labels-per-class 0 -o "
        "model.safetensors",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct train_cmd),
    .defaults = train_cmd_defaults,
    .run = run,
};
