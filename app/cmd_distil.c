/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_distil.c - `aftermap distil`: a large model teaches a small one, for laptops in the field. Every training image,
 * labelled or not, gets the teacher's probabilities as its soft label (models/learn/extraction_learn.h); the student is
 * an ordinary model file that names its teacher. Agreement is told class by class, for a student that agrees on 97 of
 * 100 chips may have lost most of a rare class. */
#include "app/command.h"
#include "app/console.h"
#include "app/model_set.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_PRESET = 1, KEY_STEPS, KEY_BUDGET, KEY_BATCH, KEY_LR, KEY_MAX_ITEMS, KEY_VIEWS, KEY_RESUME };

static const struct argp_option options[] = {
    {"preset", KEY_PRESET, "NET", 0,
     "Student's network: lite3 (the default), lite, wrn-10-2, wrn-28-2, wrn-37-2", 1},
    {"steps", KEY_STEPS, "N", 0, "Number of updates", 1},
    {"budget", KEY_BUDGET, "TIME", 0, "Or as many as fit in this time: 90s, 5m, 1h (default 5m)", 1},
    {"resume", KEY_RESUME, NULL, 0, "Go on from the output file's last checkpoint", 1},
    {"batch", KEY_BATCH, "B", 0, "Images a step (default 64)", 2},
    {"lr", KEY_LR, "RATE", 0, "Learning rate", 2},
    {"views", KEY_VIEWS, "1|8", 0,
     "The teacher's answers are averaged over the square's symmetries (8, the default for events) or not (1)",
     2},
    {"max-items", KEY_MAX_ITEMS, "N", 0, "Events: hold at most N unlabelled chips in memory (default 20000)",
     2},
    {"output", 'o', "MODEL", 0, "Student's model file (.safetensors)", 3},
    {0}};

struct distil_cmd {
    const char *teacher, *data, *out, *preset;
    int64_t steps;
    double budget_s, lr;
    int batch, n_views;
    size_t max_items;
    bool resume;
};

static void distil_defaults(void *options_)
{
    struct distil_cmd *c = options_;
    c->preset = "lite3";
    c->max_items = 20000;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct distil_cmd *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->data)
            argp_error(state, "one teacher and one set of images: '%s' is a third word", arg);
        *(c->teacher ? &c->data : &c->teacher) = arg;
        break;
    case ARGP_KEY_END:
        if (!c->data)
            argp_error(state,
                       "name the teacher's model and an event folder, cifar10:FILE, idx:IMAGES,LABELS or "
                       "folder:DIR");
        if (!c->out)
            argp_error(state, "name the student's file with -o MODEL.safetensors");
        if (c->steps > 0 && c->budget_s > 0)
            argp_error(state, "--steps and --budget exclude each other");
        break;
    case KEY_PRESET:
        c->preset = arg;
        break;
    case KEY_STEPS:
        c->steps = parse_int(state, "--steps", arg, 1, 100000000);
        break;
    case KEY_BUDGET:
        c->budget_s = parse_duration(state, "--budget", arg);
        break;
    case KEY_BATCH:
        c->batch = (int)parse_int(state, "--batch", arg, 2, 4096);
        break;
    case KEY_LR:
        c->lr = parse_real(state, "--lr", arg, 1e-7, 10);
        break;
    case KEY_VIEWS:
        c->n_views = (int)parse_int(state, "--views", arg, 1, 8);
        if (c->n_views != 1 && c->n_views != 8)
            argp_error(state, "--views takes 1 or 8, not '%s'", arg);
        break;
    case KEY_MAX_ITEMS:
        c->max_items = (size_t)parse_int(state, "--max-items", arg, 1, 100000000);
        break;
    case KEY_RESUME:
        c->resume = true;
        break;
    case 'o':
        c->out = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* What is told of teacher and student. */
struct side {
    const char *path, *preset;
    size_t n_weights;
    double ms_per_image, accuracy;
    struct metric auroc;
};

struct outcome {
    struct train_report train;
    struct side teacher, student;
    double agreement;
    size_t n_test, n_class[METRICS_MAX_CLASSES], n_agree[METRICS_MAX_CLASSES]; /* by the teacher's label */
};

static cJSON *side_json(const struct side *s)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "model", s->path);
    cJSON_AddStringToObject(j, "preset", s->preset);
    cJSON_AddNumberToObject(j, "weights", (double)s->n_weights);
    cJSON_AddNumberToObject(j, "ms_per_image", s->ms_per_image);
    if (isfinite(s->accuracy))
        cJSON_AddNumberToObject(j, "accuracy", s->accuracy);
    if (isfinite(s->auroc.value)) {
        const double interval[2] = {s->auroc.low, s->auroc.high};
        cJSON_AddNumberToObject(j, "auroc", s->auroc.value);
        if (isfinite(interval[0]) && isfinite(interval[1]))
            cJSON_AddItemToObject(j, "auroc_interval", cJSON_CreateDoubleArray(interval, 2));
    }
    return j;
}

static void say_side(const char *who, const struct side *s)
{
    printf("%-8s %-9s %9zu weights %8.2f ms/image", who, s->preset, s->n_weights, s->ms_per_image);
    if (isfinite(s->auroc.value))
        printf("   AUROC %.3f", s->auroc.value);
    if (isfinite(s->auroc.low) && isfinite(s->auroc.high))
        printf(" (%.3f to %.3f)", s->auroc.low, s->auroc.high);
    if (isfinite(s->accuracy))
        printf("   accuracy %.3f", s->accuracy);
    putchar('\n');
}

static bool report(const struct distil_cmd *c, const struct common *common, const struct model_set *m,
                   const struct outcome *o, struct err *e)
{
    const int k = m->set.n_classes < METRICS_MAX_CLASSES ? m->set.n_classes : METRICS_MAX_CLASSES;
    console_say("%lld steps in %.0f s on %zu answers of %s; loss %.4f", (long long)o->train.steps,
                o->train.seconds, o->train.n_labeled, c->teacher, o->train.final_loss);
    if (!common->json) {
        say_side("teacher", &o->teacher);
        say_side("student", &o->student);
        printf("agreement on %zu held-out images: %.3f\n", o->n_test, o->agreement);
        for (int i = 0; i < k; i++)
            if (o->n_class[i] > 0)
                printf("  %-16s %6zu of %6zu (%.3f)\n", model_class(m->model, i), o->n_agree[i],
                       o->n_class[i], (double)o->n_agree[i] / (double)o->n_class[i]);
        return flush_stdout(e);
    }
    cJSON *j = cJSON_CreateObject(), *classes;
    cJSON_AddStringToObject(j, "kind", "distillation");
    cJSON_AddItemToObject(j, "teacher", side_json(&o->teacher));
    cJSON_AddItemToObject(j, "student", side_json(&o->student));
    cJSON_AddNumberToObject(j, "answers", (double)o->train.n_labeled);
    cJSON_AddNumberToObject(j, "steps", (double)o->train.steps);
    cJSON_AddNumberToObject(j, "seconds", o->train.seconds);
    cJSON_AddNumberToObject(j, "tested", (double)o->n_test);
    cJSON_AddNumberToObject(j, "agreement", o->agreement);
    classes = cJSON_AddArrayToObject(j, "classes");
    for (int i = 0; i < k; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "class", model_class(m->model, i));
        cJSON_AddNumberToObject(row, "teacher_says", (double)o->n_class[i]);
        cJSON_AddNumberToObject(row, "student_agrees", (double)o->n_agree[i]);
        cJSON_AddItemToArray(classes, row);
    }
    return print_json(j, e);
}

/* Teacher and student side by side on the held-out images. */
static bool compare(const struct distil_cmd *c, const struct model_set *m, int n_views, struct outcome *o,
                    const struct progress *progress, struct err *e)
{
    const size_t k = (size_t)m->set.n_classes;
    float *theirs = mem_array(m->n_test, k * sizeof *theirs, "the answers", e);
    float *ours = theirs ? mem_array(m->n_test, k * sizeof *ours, "the answers", e) : NULL;
    bool ok =
        ours && model_set_predict(m, c->teacher, n_views, theirs, &o->teacher.ms_per_image, progress, e) &&
        model_set_predict(m, c->out, n_views, ours, &o->student.ms_per_image, progress, e) &&
        model_set_auroc(m, theirs, &o->teacher.auroc, e) && model_set_auroc(m, ours, &o->student.auroc, e);
    if (ok) {
        const struct extraction_score s = extraction_score(ours, theirs, m->truth, m->n_test, (int)k);
        o->agreement = s.fidelity;
        o->student.accuracy = s.accuracy;
        o->teacher.accuracy = extraction_score(theirs, theirs, m->truth, m->n_test, (int)k).accuracy;
        o->n_test = m->n_test;
    }
    for (size_t i = 0; ok && i < m->n_test; i++) {
        const int says = extraction_label(theirs + i * k, (int)k);
        if (says < METRICS_MAX_CLASSES) {
            o->n_class[says]++;
            o->n_agree[says] += extraction_label(ours + i * k, (int)k) == says;
        }
    }
    free(theirs);
    free(ours);
    return ok;
}

/* Where a person's label taught the teacher: these items stay "trained on" for whoever reads the student. */
static uint8_t *taught_items(const struct model_set *m, struct err *e)
{
    size_t n;
    const int64_t *id = model_labeled_ids(m->model, &n);
    const char *source = model_meta(m->model, "source.digest");
    const char *own = m->ev ? m->ev->digest : m->set.digest;
    uint8_t *taught = mem_array(m->set.n, 1, "the teacher's labels", e);
    for (size_t i = 0; taught && source && strcmp(source, own) == 0 && i < m->set.n; i++)
        for (size_t j = 0; j < n && !taught[i]; j++)
            taught[i] = id[j] == m->set.id[i];
    return taught;
}

static bool settle(const struct distil_cmd *c, const struct common *common, const struct model_set *m,
                   struct train_config *t, struct err *e)
{
    struct net_config net = {0};
    if (!train_defaults(t, "supervised", !m->ev, e) || !net_config_preset(&net, c->preset, e))
        return false;
    net.size = m->set.layout.size;
    net.c_in = imageset_input_channels(&m->set.layout);
    net.n_classes = m->set.n_classes;
    if (!net_config_check(&net, e))
        return err_prefix(e, "%s on %s", c->preset, c->data);
    t->preset = c->preset;
    t->seed = common->seed;
    t->steps = c->steps;
    t->budget_s = c->steps > 0 ? 0 : c->budget_s > 0 ? c->budget_s : 300;
    t->batch = c->batch > 0 ? c->batch : t->batch;
    t->optim.lr = c->lr > 0 ? (float)c->lr : t->optim.lr;
    return true;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    const struct distil_cmd *c = options_;
    struct model_set m;
    struct outcome *o = mem_array(1, sizeof *o, "the figures", e);
    struct extraction_learn_options learn = {.exposure = {.decimals = -1}, .resume = c->resume};
    struct extraction_box *box = NULL;
    struct checkpoint_meta facts[12];
    struct net_config student = {0};
    uint8_t *taught = NULL;
    bool ok = false;
    if (!o)
        return false;
    if (!c->resume && !common->overwrite && !common->dry_run && file_exists(c->out)) {
        free(o);
        return err_set(e, ERR_USAGE,
                       "%s exists already; add --resume to go on with it or --overwrite to replace it",
                       c->out);
    }
    if (!model_set_open(&m, c->teacher, c->data, c->max_items, common->seed, progress, e) ||
        !settle(c, common, &m, &learn.config, e))
        goto out;
    const int n_views = c->n_views > 0 ? c->n_views : m.ev ? 8 : 1;
    int n_facts = model_set_facts(&m, facts);
    facts[n_facts++] = (struct checkpoint_meta){"teacher", file_base(c->teacher)};
    facts[n_facts++] = (struct checkpoint_meta){"teacher.digest", model_digest(m.model)};
    if (common->dry_run) {
        console_say(
            "dry run: %s would answer the training images of %zu for a %s student; nothing was trained",
            c->teacher, m.set.n, c->preset);
        ok = true;
        goto out;
    }
    taught = taught_items(&m, e);
    learn.taught = taught;
    box = taught ? extraction_box_model(m.model, n_views, e) : NULL;
    if (!box || !extraction_learn(&m.set, box, &learn, c->out, facts, n_facts, progress, &o->train, e) ||
        !net_config_preset(&student, c->preset, e) || !compare(c, &m, n_views, o, progress, e))
        goto out;
    student.size = m.set.layout.size;
    student.c_in = imageset_input_channels(&m.set.layout);
    student.n_classes = m.set.n_classes;
    const char *preset = model_meta(m.model, "net.preset");
    o->teacher.path = c->teacher;
    o->teacher.preset = preset ? preset : "";
    o->teacher.n_weights = net_count_params(model_net(m.model));
    o->student.path = c->out;
    o->student.preset = c->preset;
    o->student.n_weights = net_count_params(&student);
    ok = report(c, common, &m, o, e);
out:
    extraction_box_free(box);
    free(taught);
    free(o);
    model_set_close(&m);
    return ok;
}

const struct command command_distil = {
    .name = "distil",
    .args_doc = "TEACHER EVENT|cifar10:FILE|idx:IMAGES,LABELS|folder:DIR -o SMALL.safetensors",
    .summary = "Make a small model that answers like a large one",
    .doc = "Asks a trained model about every training image, labelled or not, and trains a smaller network "
           "on its "
           "probabilities; then compares both on held-out images: agreement over all and for each class, "
           "AUROC beside the "
           "teacher's, weights and time an image.\v"
           "A student that agrees on nearly all images may have lost most of a rare class: read the "
           "agreement by class. "
           "Its probabilities are as well calibrated as the teacher's. The file is an ordinary model; it "
           "names its "
           "teacher and the teacher's digest. Interrupting writes a checkpoint; --resume goes on.\n\n"
           "Source: Hinton, Vinyals, Dean 2015 (distillation); Jagielski et al. 2020, section 4, of which "
           "this is the case "
           "of unlimited queries.\n\n"
           "Example: aftermap distil model.safetensors event --preset lite3 --budget 5m -o small.safetensors",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct distil_cmd),
    .defaults = distil_defaults,
    .run = run,
};
