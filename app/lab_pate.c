/* SPDX-License-Identifier: Apache-2.0
 * lab_pate.c - `aftermap lab pate`: private sets, teachers, noisy votes and a student that may be published
 * (models/learn/pate.h), scored on public items that neither teachers nor students have seen, with a curve of
 * accuracy over epsilon. */
#include "app/command.h"
#include "app/console.h"
#include "app/model_meta.h"
#include "app/plot.h"
#include "geo/event.h"
#include "geo/mapping_parts.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/learn/metrics.h"
#include "models/learn/pate.h"
#include "models/learn/predict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_PUBLIC = 1,
    KEY_PUBLIC_SHARE,
    KEY_SCORE_SHARE,
    KEY_TEACHERS,
    KEY_UNIT,
    KEY_MECHANISM,
    KEY_THRESHOLD,
    KEY_SIGMA_THRESHOLD,
    KEY_SIGMA,
    KEY_DELTA,
    KEY_QUERIES,
    KEY_MAX_EPSILON,
    KEY_DATA_DEPENDENT,
    KEY_SEEDED_NOISE,
    KEY_STUDENT,
    KEY_PRESET,
    KEY_TEACHER_STEPS,
    KEY_TEACHER_BATCH,
    KEY_STEPS,
    KEY_BATCH,
    KEY_LAMBDA,
    KEY_LR,
    KEY_DECAY,
    KEY_NO_MIRROR,
    KEY_CUT,
    KEY_MAX_ITEMS
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Data", 1},
    {"public", KEY_PUBLIC, "EVENT|SET", 0,
     "Public images that the student learns from and is scored on (default: the held-out part of the private "
     "set)",
     1},
    {"public-share", KEY_PUBLIC_SHARE, "SHARE", 0,
     "Without --public, plain sets: share of the set that is public (default 0.2); of an event, its test "
     "blocks "
     "are",
     1},
    {"score-share", KEY_SCORE_SHARE, "SHARE", 0,
     "Share of the public items kept for scoring (default 0.3); an event given with --public keeps its own "
     "test "
     "blocks",
     1},
    {"unit", KEY_UNIT, "item|block", 0,
     "What is protected: one item, or all items of one spatial block (default item)", 1},
    {"cut", KEY_CUT, "LEVEL", 0,
     "Events: damaged means this level or worse; 0 learns the four grades (default 2)", 1},
    {"max-items", KEY_MAX_ITEMS, "N", 0, "Events: hold at most N unlabelled chips in memory (default 20000)",
     1},
    {NULL, 0, NULL, 0, "Privacy", 2},
    {"teachers", KEY_TEACHERS, "N", 0, "Teachers, each on a shard of its own (default 100)", 2},
    {"mechanism", KEY_MECHANISM, "NAME", 0,
     "lnmax (Laplace noise on the votes), gnmax (Gaussian) or confident-gnmax (answers only where a noisy "
     "majority passes a threshold; the default)",
     2},
    {"sigma", KEY_SIGMA, "VOTES", 0,
     "Deviation of the noise on the votes (default 0.16 of the teachers); of lnmax its scale", 2},
    {"threshold", KEY_THRESHOLD, "VOTES", 0, "confident-gnmax: the threshold (default 0.8 of the teachers)",
     2},
    {"sigma-threshold", KEY_SIGMA_THRESHOLD, "VOTES", 0,
     "confident-gnmax: deviation of the noise that the threshold is met with (default 0.6 of the teachers)",
     2},
    {"queries", KEY_QUERIES, "N[,N...]", 0,
     "Ask about so many public items; students are trained after each of these numbers (default 100)", 2},
    {"delta", KEY_DELTA, "D", 0,
     "The delta of (epsilon, delta) (default 1e-5); below 1 over the private units", 2},
    {"max-epsilon", KEY_MAX_EPSILON, "E", 0, "Refuse queries that would cost more than this in all", 2},
    {"data-dependent", KEY_DATA_DEPENDENT, NULL, 0,
     "Write the data-dependent epsilon into what is published as well. It is computed from private votes and "
     "is "
     "itself private; without this it stays in the private folder",
     2},
    {"seeded-noise", KEY_SEEDED_NOISE, NULL, 0,
     "Noise from --seed in the place of a secret key: the same every time, and no protection", 2},
    {NULL, 0, NULL, 0, "Training", 3},
    {"student", KEY_STUDENT, "METHOD[,METHOD]", 0,
     "How students learn: mixmatch (the default), supervised, or any other method of train; several share "
     "the "
     "answers and cost no more",
     3},
    {"preset", KEY_PRESET, "NET", 0, "Network of teachers and students (default lite3)", 3},
    {"teacher-steps", KEY_TEACHER_STEPS, "N", 0, "Updates of a teacher (default 200)", 3},
    {"teacher-batch", KEY_TEACHER_BATCH, "B", 0, "Images a step of a teacher (default 16)", 3},
    {"steps", KEY_STEPS, "N", 0, "Updates of a student (default 1000)", 3},
    {"batch", KEY_BATCH, "B", 0, "Labelled images a step of a student", 3},
    {"lambda-u", KEY_LAMBDA, "W", 0, "mixmatch: weight of the unlabelled loss", 3},
    {"lr", KEY_LR, "RATE", 0, "Learning rate of students", 3},
    {"weight-decay", KEY_DECAY, "WD", 0, "Weight decay of students", 3},
    {"no-mirror", KEY_NO_MIRROR, NULL, 0, "Plain images: no mirror images (digits)", 3},
    {NULL, 0, NULL, 0, "Output", 4},
    {"output", 'o', "DIR", 0, "Folder; DIR/private is never to be published", 4},
    {0}};

struct lab_pate {
    const char *data, *public_data, *preset;
    char student[PATE_MAX_STUDENTS][32];
    struct pate_options o;
    bool has_threshold, has_sigma_threshold, has_sigma, no_mirror;
    double public_share, score_share, lambda_u, lr, decay; /* NAN: the method's */
    int cut, teacher_batch, batch;
    int64_t teacher_steps, steps;
    size_t max_items;
};

static void lab_pate_defaults(void *options_)
{
    struct lab_pate *c = options_;
    c->preset = "lite3";
    c->public_share = 0.2;
    c->score_share = 0.3;
    c->cut = 2;
    c->max_items = 20000;
    c->teacher_steps = 200;
    c->teacher_batch = 16;
    c->steps = 1000;
    c->lambda_u = c->lr = c->decay = NAN;
    c->o.n_teachers = 100;
    c->o.mechanism.kind = PATE_CONFIDENT;
    c->o.delta = 1e-5;
    c->o.prefix[0] = 100;
    c->o.n_prefixes = 1;
    c->o.n_students = 1;
    snprintf(c->student[0], sizeof c->student[0], "mixmatch");
}

/* Calls take() with each part of a list separated by commas. */
static void parse_list(const char *arg, struct argp_state *state, const char *option, int most,
                       void (*take)(struct lab_pate *, int, const char *, struct argp_state *))
{
    struct lab_pate *c = ((struct invocation *)state->input)->options;
    char one[32];
    int n = 0;
    for (const char *at = arg; at; n++) {
        const size_t length = strcspn(at, ",");
        if (n == most || length == 0 || length >= sizeof one)
            argp_error(state, "%s takes 1 to %d values separated by commas, not '%s'", option, most, arg);
        snprintf(one, sizeof one, "%.*s", (int)length, at);
        take(c, n, one, state);
        at = at[length] ? at + length + 1 : NULL;
    }
}

static void take_queries(struct lab_pate *c, int i, const char *one, struct argp_state *state)
{
    c->o.prefix[i] = (size_t)parse_int(state, "--queries", one, 1, 100000000);
    if (i > 0 && c->o.prefix[i] <= c->o.prefix[i - 1])
        argp_error(state, "--queries takes rising numbers: %zu does not follow %zu", c->o.prefix[i],
                   c->o.prefix[i - 1]);
    c->o.n_prefixes = i + 1;
}

static void take_student(struct lab_pate *c, int i, const char *one, struct argp_state *state)
{
    for (int k = 0; k < i; k++)
        if (strcmp(c->student[k], one) == 0)
            argp_error(state, "--student names %s twice", one);
    snprintf(c->student[i], sizeof c->student[i], "%s", one);
    c->o.n_students = i + 1;
}

static void parse_mechanism(const char *arg, struct argp_state *state, struct lab_pate *c)
{
    for (int k = PATE_LNMAX; k <= PATE_CONFIDENT; k++)
        if (strcmp(arg, pate_kind_name(k)) == 0) {
            c->o.mechanism.kind = k;
            return;
        }
    argp_error(state, "--mechanism takes lnmax, gnmax or confident-gnmax, not '%s'", arg);
}

static error_t parse_privacy(int key, char *arg, struct argp_state *state, struct lab_pate *c)
{
    char *end;
    switch (key) {
    case KEY_TEACHERS:
        c->o.n_teachers = (int)parse_int(state, "--teachers", arg, 2, PATE_MAX_TEACHERS);
        break;
    case KEY_UNIT:
        if (strcmp(arg, "item") != 0 && strcmp(arg, "block") != 0)
            argp_error(state, "--unit takes item or block, not '%s'", arg);
        c->o.unit = *arg == 'b' ? PATE_UNIT_BLOCK : PATE_UNIT_ITEM;
        break;
    case KEY_MECHANISM:
        parse_mechanism(arg, state, c);
        break;
    case KEY_THRESHOLD:
        c->o.mechanism.threshold = parse_real(state, "--threshold", arg, 0, 1e6);
        c->has_threshold = true;
        break;
    case KEY_SIGMA_THRESHOLD:
        c->o.mechanism.sigma_threshold = parse_real(state, "--sigma-threshold", arg, 1e-3, 1e6);
        c->has_sigma_threshold = true;
        break;
    case KEY_SIGMA:
        c->o.mechanism.sigma = parse_real(state, "--sigma", arg, 1e-3, 1e6);
        c->has_sigma = true;
        break;
    case KEY_DELTA:
        c->o.delta = strtod(arg, &end);
        if (end == arg || *end || !(c->o.delta > 0 && c->o.delta < 1))
            argp_error(state, "--delta takes a number between 0 and 1, both excluded, not '%s'", arg);
        break;
    case KEY_QUERIES:
        parse_list(arg, state, "--queries", PATE_MAX_PREFIXES, take_queries);
        break;
    case KEY_MAX_EPSILON:
        c->o.max_epsilon = parse_real(state, "--max-epsilon", arg, 1e-6, 1e6);
        break;
    case KEY_DATA_DEPENDENT:
        c->o.data_dependent = true;
        break;
    case KEY_SEEDED_NOISE:
        c->o.seeded_noise = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static error_t parse_training(int key, char *arg, struct argp_state *state, struct lab_pate *c)
{
    switch (key) {
    case KEY_STUDENT:
        parse_list(arg, state, "--student", PATE_MAX_STUDENTS, take_student);
        break;
    case KEY_PRESET:
        c->preset = arg;
        break;
    case KEY_TEACHER_STEPS:
        c->teacher_steps = parse_int(state, "--teacher-steps", arg, 1, 100000000);
        break;
    case KEY_TEACHER_BATCH:
        c->teacher_batch = (int)parse_int(state, "--teacher-batch", arg, 2, 4096);
        break;
    case KEY_STEPS:
        c->steps = parse_int(state, "--steps", arg, 1, 100000000);
        break;
    case KEY_BATCH:
        c->batch = (int)parse_int(state, "--batch", arg, 2, 4096);
        break;
    case KEY_LAMBDA:
        c->lambda_u = parse_real(state, "--lambda-u", arg, 0, 1000);
        break;
    case KEY_LR:
        c->lr = parse_real(state, "--lr", arg, 1e-7, 10);
        break;
    case KEY_DECAY:
        c->decay = parse_real(state, "--weight-decay", arg, 0, 1);
        break;
    case KEY_NO_MIRROR:
        c->no_mirror = true;
        break;
    default:
        return parse_privacy(key, arg, state, c);
    }
    return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct lab_pate *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->data)
            argp_error(state, "one private set at a time: '%s' is a second one", arg);
        c->data = arg;
        break;
    case ARGP_KEY_END:
        if (!c->data)
            argp_error(
                state,
                "name the private set: an event folder, cifar10:FILE, idx:IMAGES,LABELS or folder:DIR");
        if (!c->o.dir)
            argp_error(state, "name the folder for results with -o DIR");
        if (c->public_data && imageset_is_spec(c->data) != imageset_is_spec(c->public_data))
            argp_error(state, "the private and the public set must both be events or both plain sets");
        break;
    case KEY_PUBLIC:
        c->public_data = arg;
        break;
    case KEY_PUBLIC_SHARE:
        c->public_share = parse_real(state, "--public-share", arg, 0.01, 0.9);
        break;
    case KEY_SCORE_SHARE:
        c->score_share = parse_real(state, "--score-share", arg, 0, 0.9);
        break;
    case KEY_CUT:
        c->cut = (int)parse_int(state, "--cut", arg, 0, 3);
        break;
    case KEY_MAX_ITEMS:
        c->max_items = (size_t)parse_int(state, "--max-items", arg, 1, 100000000);
        break;
    case 'o':
        c->o.dir = arg;
        break;
    default:
        return parse_training(key, arg, state, c);
    }
    return 0;
}

/* ---- data ---- */

struct lab_data {
    struct imageset private_set, public_set;
    struct model_meta meta; /* events: what a student's file says of the public one */
    bool plain;
};

static bool load(const struct lab_pate *c, const char *data, double share, const struct common *common,
                 struct imageset *set, struct model_meta *meta, const struct progress *progress,
                 struct err *e)
{
    if (strncmp(data, "folder:", 7) == 0)
        return event_load_folder(set, data + 7, share, common->seed, progress, e);
    if (imageset_is_spec(data))
        return imageset_open(set, data, share, common->seed, e);
    struct event *ev = event_open(data, e);
    bool ok = ev && event_load_imageset(ev, c->cut, c->max_items, common->seed, set, progress, e) &&
              (!meta || model_meta_fill(meta, ev, c->cut, e));
    if (ok && meta) { /* the event's folder goes away, the names stay with the set */
        meta->n = 4;  /* cut, gsd_m, size_m, scaling; source and digest are the set's own */
        snprintf(set->source, sizeof set->source, "%s", file_base(data));
    }
    event_close(ev);
    return ok;
}

/* Whole blocks (items of plain sets), drawn by seed, until the share is scoring items. */
static bool carve_scores(struct imageset *set, double share, uint64_t seed, struct err *e)
{
    uint32_t *order = mem_array(set->n, sizeof *order, "the public items", e);
    size_t n_scored = 0;
    struct rng r;
    if (!order)
        return false;
    rng_init(&r, seed, RNG_SPLIT, 1);
    rng_permutation(&r, order, (uint32_t)set->n);
    for (size_t i = 0; i < set->n; i++)
        set->split[i] = IMAGESET_TRAIN;
    for (size_t k = 0; k < set->n && (double)n_scored < share * (double)set->n; k++)
        if (set->split[order[k]] == IMAGESET_TRAIN)
            for (size_t i = 0; i < set->n; i++)
                if (set->block[i] == set->block[order[k]]) {
                    set->split[i] = IMAGESET_TEST;
                    n_scored++;
                }
    free(order);
    return true;
}

/* The test split of one set becomes a set of its own, whose digest knows nothing of the rest. */
static bool take_public(struct lab_data *d, struct err *e)
{
    const struct imageset *from = &d->private_set;
    struct imageset *to = &d->public_set;
    const struct imageset_layout *l = &from->layout;
    const size_t image = (size_t)l->size * (size_t)l->size * (size_t)imageset_stored_channels(l);
    size_t n = 0;
    for (size_t i = 0; i < from->n; i++)
        n += from->split[i] == IMAGESET_TEST;
    if (n == 0)
        return err_set(e, ERR_INPUT,
                       "%s: has no held-out item that could be public; name a set with --public",
                       from->source);
    if (!imageset_alloc(to, n, l, e))
        return false;
    to->n_classes = from->n_classes;
    memcpy(to->class_name, from->class_name, sizeof to->class_name);
    snprintf(to->source, sizeof to->source, "%s", from->source);
    for (size_t i = 0, k = 0; i < from->n; i++)
        if (from->split[i] == IMAGESET_TEST) {
            memcpy(to->px + k * image, from->px + i * image, image);
            to->label[k] = from->label[i];
            to->id[k] = from->id[i];
            to->block[k++] = from->block[i];
        }
    file_sha256_buffer(to->px, n * image, to->digest);
    return true;
}

static bool load_data(const struct lab_pate *c, const struct common *common, struct lab_data *d,
                      const struct progress *progress, struct err *e)
{
    d->plain = imageset_is_spec(c->data);
    if (c->public_data)
        return load(c, c->data, 0, common, &d->private_set, NULL, progress, e) &&
               load(c, c->public_data, c->score_share, common, &d->public_set, d->plain ? NULL : &d->meta,
                    progress, e);
    if (!load(c, c->data, c->public_share, common, &d->private_set, d->plain ? NULL : &d->meta, progress,
              e) ||
        !take_public(d, e))
        return false;
    if (!d->plain)
        progress_warn(progress,
                      "public and scored blocks lie side by side, so scores are a little flattering; "
                      "--public with another event is stricter");
    return carve_scores(&d->public_set, c->score_share, common->seed, e);
}

/* ---- settings ---- */

static bool settle(struct lab_pate *c, const struct common *common, struct lab_data *d, struct err *e)
{
    struct pate_options *o = &c->o;
    struct pate_mechanism *m = &o->mechanism;
    m->threshold = c->has_threshold ? m->threshold : 0.8 * o->n_teachers;
    m->sigma_threshold = c->has_sigma_threshold ? m->sigma_threshold : 0.6 * o->n_teachers;
    m->sigma = c->has_sigma ? m->sigma : 0.16 * o->n_teachers;
    o->seed = common->seed;
    o->overwrite = common->overwrite;
    o->dry_run = common->dry_run;
    o->extra = d->meta.pair;
    o->n_extra = d->meta.n;
    if (!train_defaults(&o->teacher, "supervised", d->plain, e))
        return false;
    o->teacher.batch = c->teacher_batch;
    o->teacher.steps = c->teacher_steps;
    for (int i = 0; i <= o->n_students; i++) {
        struct train_config *t = i < o->n_students ? &o->student[i] : &o->teacher;
        if (i < o->n_students) {
            if (!train_defaults(t, c->student[i], d->plain, e))
                return false;
            t->steps = c->steps;
            t->batch = c->batch ? c->batch : t->batch;
            t->optim.lr = isnan(c->lr) ? t->optim.lr : (float)c->lr;
            t->optim.weight_decay = isnan(c->decay) ? t->optim.weight_decay : (float)c->decay;
            if (!isnan(c->lambda_u) && strcmp(c->student[i], "supervised") != 0)
                t->lambda_u = c->lambda_u;
        }
        t->budget_s = 0;
        t->preset = c->preset;
        t->mirror = t->mirror && !c->no_mirror;
    }
    return true;
}

/* ---- scoring ---- */

struct scored {
    struct metric accuracy, auroc;
    size_t n;
};

static bool predict_all(const struct imageset *set, const uint32_t *item, size_t n, const char *path,
                        float *probs, const struct progress *progress, struct err *e)
{
    enum { BATCH = 128 };
    const size_t image =
        (size_t)set->layout.size * (size_t)set->layout.size * (size_t)imageset_stored_channels(&set->layout);
    struct model *m = model_load(path, e);
    uint8_t *px = m ? mem_array(BATCH, image, "a batch of chips", e) : NULL;
    struct predictor *p = px ? predictor_create(m, BATCH, 1, e) : NULL;
    bool ok = p;
    for (size_t at = 0; ok && at < n; at += BATCH) {
        const size_t here = n - at < BATCH ? n - at : BATCH;
        if (progress_stopped(progress)) {
            ok = err_set(e, ERR_INTERRUPTED, "interrupted while scoring; the same command goes on");
            break;
        }
        for (size_t i = 0; i < here; i++)
            memcpy(px + i * image, set->px + item[at + i] * image, image);
        predictor_run(p, px, (int)here, probs + at * (size_t)set->n_classes, NULL);
        progress_report(progress, "score", (double)(at + here), (double)n, NULL);
    }
    predictor_free(p);
    free(px);
    model_free(m);
    return ok;
}

static bool score(const struct lab_pate *c, const struct lab_data *d, const char *path, struct scored *out,
                  const struct progress *progress, struct err *e)
{
    const struct imageset *set = &d->public_set;
    const size_t k = (size_t)set->n_classes;
    const struct metrics_options mo = {
        .operating_point = 0.5, .fixed_recall = 0.8, .level = 0.95, .n_bootstrap = 1000, .seed = c->o.seed};
    uint32_t *item = mem_array(set->n, sizeof *item, "the scores", e);
    float *probs = item ? mem_array(set->n, k * sizeof *probs, "the scores", e) : NULL;
    float *damaged = probs ? mem_array(set->n, sizeof *damaged, "the scores", e) : NULL;
    int16_t *truth = damaged ? mem_array(set->n, sizeof *truth, "the scores", e) : NULL;
    int32_t *block = truth ? mem_array(set->n, sizeof *block, "the scores", e) : NULL;
    uint8_t *positive = block ? mem_array(set->n, 1, "the scores", e) : NULL;
    struct metrics *m = positive ? mem_array(1, sizeof *m, "the scores", e) : NULL;
    size_t n = 0;
    *out = (struct scored){.accuracy = {NAN, NAN, NAN}, .auroc = {NAN, NAN, NAN}};
    for (size_t i = 0; m && i < set->n; i++)
        if (set->split[i] == IMAGESET_TEST && set->label[i] != IMAGESET_NO_LABEL)
            item[n++] = (uint32_t)i;
    bool ok = m && (n == 0 || predict_all(set, item, n, path, probs, progress, e));
    for (size_t i = 0; ok && i < n; i++) {
        truth[i] = set->label[item[i]];
        block[i] = set->block[item[i]];
        positive[i] = truth[i] >= (c->cut > 0 ? 1 : 2);
        damaged[i] = d->plain ? 0 : (float)mapping_p_damaged(probs + i * k, (int)k, c->cut > 0 ? c->cut : 2);
    }
    if (ok && n > 0 && k <= METRICS_MAX_CLASSES) {
        ok = metrics_compute(probs, (int)k, truth, d->plain ? NULL : positive, d->plain ? NULL : damaged,
                             block, n, &mo, m, e);
        if (ok)
            *out = (struct scored){.accuracy = m->accuracy, .auroc = m->auroc, .n = n};
    }
    free(item);
    free(probs);
    free(damaged);
    free(truth);
    free(block);
    free(positive);
    free(m);
    return ok;
}

/* ---- report ---- */

static void print_share(FILE *f, double v)
{
    if (isfinite(v))
        fprintf(f, ",%.6g", v);
    else
        fputc(',', f);
}

static bool write_curve(const struct lab_pate *c, const struct pate_outcome *out, const struct scored *s,
                        struct err *e)
{
    char path[4096];
    struct file_out *f =
        file_join(path, sizeof path, c->o.dir, "curve.csv", e) ? file_out_open(path, e) : NULL;
    if (!f)
        return false;
    FILE *to = file_out_stream(f);
    fputs("method,queries,answered,right,of_known,delta,epsilon,epsilon_classic,accuracy,accuracy_low,"
          "accuracy_high,"
          "auroc,auroc_low,auroc_high,scored\n",
          to);
    for (int i = 0; i < out->n_results; i++) {
        const struct pate_result *r = &out->result[i];
        fprintf(to, "%s,%zu,%zu,%zu,%zu,%g,%.6g,%.6g", r->method, r->asked, r->answered, r->right, r->known,
                c->o.delta, r->epsilon, r->epsilon_classic);
        print_share(to, s[i].accuracy.value);
        print_share(to, s[i].accuracy.low);
        print_share(to, s[i].accuracy.high);
        print_share(to, s[i].auroc.value);
        print_share(to, s[i].auroc.low);
        print_share(to, s[i].auroc.high);
        fprintf(to, ",%zu\n", s[i].n);
    }
    return file_out_commit(f, e);
}

static bool write_plot(const struct lab_pate *c, const struct pate_outcome *out, const struct scored *s,
                       struct err *e)
{
    const size_t n = (size_t)c->o.n_prefixes, students = (size_t)c->o.n_students;
    struct plot_series series[PATE_MAX_STUDENTS] = {0};
    char path[4096], title[256], label[64];
    double *v = mem_array(4 * n * students, sizeof *v, "the plot", e);
    bool any = false;
    if (!v)
        return false;
    for (size_t k = 0; k < students; k++) {
        double *x = v + 4 * n * k, *y = x + n, *low = y + n, *high = low + n;
        for (size_t p = 0; p < n; p++) {
            const size_t i = p * students + k;
            x[p] = out->result[i].epsilon;
            y[p] = s[i].accuracy.value;
            low[p] = s[i].accuracy.low;
            high[p] = s[i].accuracy.high;
            any |= isfinite(y[p]);
        }
        series[k] = (struct plot_series){.name = c->student[k],
                                         .n = c->o.n_prefixes,
                                         .x = x,
                                         .y = y,
                                         .low = low,
                                         .high = high,
                                         .dashed = strcmp(c->student[k], "supervised") == 0};
    }
    snprintf(title, sizeof title, "%d teachers, %s", c->o.n_teachers, pate_kind_name(c->o.mechanism.kind));
    snprintf(label, sizeof label, "epsilon (data-independent) at delta %g", c->o.delta);
    const struct plot p = {.title = title,
                           .x_label = label,
                           .y_label = "accuracy on public items",
                           .series = series,
                           .n_series = (int)students};
    bool ok = !any || (file_join(path, sizeof path, c->o.dir, "curve.svg", e) && plot_write_svg(path, &p, e));
    free(v);
    return ok;
}

static void add_metric(cJSON *j, const char *name, const struct metric *m)
{
    if (!isfinite(m->value)) {
        cJSON_AddNullToObject(j, name);
        return;
    }
    cJSON *o = cJSON_AddObjectToObject(j, name);
    cJSON_AddNumberToObject(o, "value", m->value);
    cJSON_AddNumberToObject(o, "low", m->low);
    cJSON_AddNumberToObject(o, "high", m->high);
}

static cJSON *results_json(const struct lab_pate *c, const struct pate_outcome *out, const struct scored *s)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "kind", "pate");
    cJSON_AddStringToObject(j, "folder", c->o.dir);
    cJSON_AddStringToObject(j, "mechanism", pate_kind_name(c->o.mechanism.kind));
    cJSON_AddNumberToObject(j, "teachers", c->o.n_teachers);
    cJSON_AddNumberToObject(j, "private_units", (double)out->n_units);
    cJSON_AddNumberToObject(j, "public_items", (double)out->n_public);
    cJSON_AddNumberToObject(j, "delta", c->o.delta);
    cJSON_AddStringToObject(j, "epsilon_kind", "data-independent");
    cJSON *list = cJSON_AddArrayToObject(j, "students");
    for (int i = 0; i < out->n_results; i++) {
        const struct pate_result *r = &out->result[i];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "method", r->method);
        cJSON_AddNumberToObject(o, "queries", (double)r->asked);
        cJSON_AddNumberToObject(o, "answered", (double)r->answered);
        cJSON_AddNumberToObject(o, "epsilon", r->epsilon);
        cJSON_AddNumberToObject(o, "epsilon_classic", r->epsilon_classic);
        if (c->o.data_dependent)
            cJSON_AddNumberToObject(o, "epsilon_data_dependent_private", r->epsilon_data);
        if (r->trained)
            cJSON_AddStringToObject(o, "model", r->path);
        else
            cJSON_AddStringToObject(o, "left_out", r->why);
        add_metric(o, "accuracy", &s[i].accuracy);
        add_metric(o, "auroc", &s[i].auroc);
        cJSON_AddItemToArray(list, o);
    }
    return j;
}

static bool print_results(const struct lab_pate *c, const struct common *common,
                          const struct pate_outcome *out, const struct scored *s, struct err *e)
{
    if (common->json)
        return print_json(results_json(c, out, s), e);
    printf("%-12s %8s %8s %8s %10s  %s\n", "student", "queries", "answered", "epsilon", "accuracy", "model");
    for (int i = 0; i < out->n_results; i++) {
        const struct pate_result *r = &out->result[i];
        char accuracy[32] = "-";
        if (isfinite(s[i].accuracy.value))
            snprintf(accuracy, sizeof accuracy, "%.4f", s[i].accuracy.value);
        printf("%-12s %8zu %8zu %8.3f %10s  %s\n", r->method, r->asked, r->answered, r->epsilon, accuracy,
               r->trained ? r->path : "none could be trained");
    }
    return flush_stdout(e);
}

static void say(const struct lab_pate *c, const struct pate_outcome *out)
{
    const struct pate_result *last = &out->result[out->n_results - 1];
    console_say(
        "epsilon is data-independent, at delta %g: it may be published with the student. It holds for one "
        "private %s among %zu, exchanged",
        c->o.delta, c->o.unit == PATE_UNIT_BLOCK ? "block" : "item", out->n_units);
    if (c->o.data_dependent)
        console_say(
            "data-dependent epsilon after %zu queries: %.4f. It is computed from private votes and itself "
            "private, yet --data-dependent wrote it into the students and ledger.json",
            last->asked, last->epsilon_data);
    else
        console_say("the data-dependent epsilon is private and stays in %s/private", c->o.dir);
    if (out->n_silent > 0)
        console_say("%zu of %d shards hold one class alone; their teachers always vote for it", out->n_silent,
                    c->o.n_teachers);
    if (isfinite(out->vote_accuracy))
        console_say(
            "single teachers are right about %.1f %% of the queries (a private figure); of the released "
            "answers %zu of %zu are",
            100 * out->vote_accuracy, last->right, last->known);
}

/* What the queries would cost if every one were answered. */
static bool print_plan(const struct lab_pate *c, const struct common *common, const struct pate_outcome *out,
                       struct err *e)
{
    struct pate_ledger *l = mem_array(1, sizeof *l, "the plan", e);
    if (!l)
        return false;
    pate_ledger_init(l, &c->o.mechanism, c->o.n_teachers);
    cJSON *j = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(j, "plan");
    if (!common->json)
        printf("%8s %8s\n", "queries", "epsilon at most");
    for (int p = 0; p < c->o.n_prefixes; p++) {
        l->asked = l->answered = (int64_t)c->o.prefix[p];
        const double epsilon = pate_ledger_epsilon(l, c->o.delta, true, false).epsilon;
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "queries", (double)c->o.prefix[p]);
        cJSON_AddNumberToObject(o, "epsilon_at_most", epsilon);
        cJSON_AddItemToArray(list, o);
        if (!common->json)
            printf("%8zu %8.3f\n", c->o.prefix[p], epsilon);
    }
    console_say(
        "dry run: %zu private units for %d teachers, %zu public items for students; nothing was trained",
        out->n_units, c->o.n_teachers, out->n_public);
    free(l);
    if (common->json)
        return print_json(j, e);
    cJSON_Delete(j);
    return flush_stdout(e);
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct lab_pate *c = options_;
    struct lab_data *d = mem_array(1, sizeof *d, "the sets", e);
    struct pate_outcome *out = d ? mem_array(1, sizeof *out, "the results", e) : NULL;
    struct scored *s =
        out ? mem_array(PATE_MAX_STUDENTS * PATE_MAX_PREFIXES, sizeof *s, "the results", e) : NULL;
    bool ok = s && load_data(c, common, d, progress, e) && settle(c, common, d, e) &&
              pate_study_run(&d->private_set, &d->public_set, &c->o, progress, out, e);
    if (ok && common->dry_run)
        ok = print_plan(c, common, out, e);
    else if (ok) {
        for (int i = 0; ok && i < out->n_results; i++) {
            s[i].accuracy = s[i].auroc = (struct metric){NAN, NAN, NAN};
            if (out->result[i].trained)
                ok = score(c, d, out->result[i].path, &s[i], progress, e);
            else
                console_say("%s after %zu queries: %s", out->result[i].method, out->result[i].asked,
                            out->result[i].why);
        }
        ok = ok && write_curve(c, out, s, e) && write_plot(c, out, s, e);
        if (ok)
            say(c, out);
        ok = ok && print_results(c, common, out, s, e);
    }
    if (d) {
        imageset_free(&d->private_set);
        imageset_free(&d->public_set);
        model_meta_free(&d->meta);
    }
    free(d);
    free(out);
    free(s);
    return ok;
}

const struct command command_lab_pate = {
    .name = "lab pate",
    .args_doc = "EVENT|cifar10:FILE|idx:IMAGES,LABELS|folder:DIR [--public EVENT|SET] -o DIR",
    .summary = "Teach a student from private data that its file does not betray",
    .doc =
        "Cuts the private set into disjoint shards, teaches a teacher on each, lets the teachers vote on "
        "public "
        "items, adds noise to the votes, and trains a student on the released answers and the other public "
        "items. "
        "The student's file says what it costs in privacy.\v"
        "PATE (Papernot et al. 2017; GNMax and Confident-GNMax: Papernot et al. 2018) with a MixMatch "
        "student "
        "(Berthelot et al. 2019), accounted by Renyi differential privacy (Mironov 2017). Published is the "
        "data-independent epsilon, unless --data-dependent says otherwise: the data-dependent one depends on "
        "the "
        "private votes and is itself private. Everything in DIR/private (teachers, votes, the key of the "
        "noise) "
        "must stay where it is.\n\n"
        "Epsilon counts every query, answered or not, and covers the answers alone: settings chosen by "
        "looking at "
        "private labels are not covered. With fewer than some 50 teachers it grows beyond meaning. Stopped, "
        "the "
        "same command goes on; --dry-run prints what the queries would cost; --overwrite trains students "
        "anew and, "
        "where settings of the noise or of the teachers differ, starts those anew as well.\n\n"
        "Examples: aftermap lab pate past-event --public event --unit block --teachers 60 --queries 100 -o "
        "private\n"
        "aftermap lab pate idx:IMAGES,LABELS@size=16 --no-mirror --teachers 250 --queries 100,250,500 "
        "--student mixmatch,supervised -o digits",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct lab_pate),
    .defaults = lab_pate_defaults,
    .run = run,
};
