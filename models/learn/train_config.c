/* SPDX-License-Identifier: Apache-2.0
 *
 * train_config.c - settings of a run: defaults, limits, and the one text form that a model file stores and a
 * resumed run is compared with.
 *
 * Defaults are FixMatch's (Sohn et al. 2020, table 4: SGD with Nesterov momentum 0.9, rate 0.03 falling as
 * cos(7 pi k/16), L2 0.0005, average 0.999); pairs of chips get the small network and batch that two
 * processor cores can train. */
#include "models/learn/trainer.h"

#include <cJSON.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Settings that not every method has: a model file names them only where they are not 0. */
static const struct setting {
    const char *name, *words;
    const char *also; /* methods that take it although they start without */
    size_t offset;
    bool is_int;
    double low, high;
} settings[] = {
/* clang-format off */
#define SETTING(field, words, also, is_int, low, high) \
    {#field, words, also, offsetof(struct train_config, field), is_int, low, high}
#define REAL(field, low, high, also, words) SETTING(field, words, also, false, low, high)
#define WHOLE(field, low, high, also, words) SETTING(field, words, also, true, low, high)
    WHOLE(n_guesses, 0, 12, NULL, "the number of views that are guessed"),
    REAL(sharpen, 0, 100, NULL, "the temperature of guesses"),
    REAL(mixup, 0, 100, " mixmatch ", "MixUp's alpha"),
    REAL(ramp, 0, 1, " mixmatch remixmatch adamatch ", "the share of the run over which the unlabelled weight rises"),
    REAL(vat_radius, 0, 1e3, NULL, "the adversarial radius"),
    REAL(vat_probe, 0, 1e3, NULL, "the adversarial probe"),
    REAL(lambda_entropy, 0, 1e4, " uda ", "the weight of the entropy"),
    WHOLE(weak_only, 0, 1, " fixmatch ", "the second weak view"),
    WHOLE(teacher, 0, 2, " fixmatch ", "the teacher"),
    WHOLE(interpolate, 0, 1, NULL, "the interpolation of logits"),
    WHOLE(relative_tau, 0, 1, NULL, "the relative threshold"),
    WHOLE(cta, 0, 1, " fixmatch uda remixmatch adamatch ", "CTAugment"),
    REAL(lambda_strong, 0, 1e4, " remixmatch ", "the weight of the unmixed strong view"),
    REAL(lambda_rotation, 0, 1e4, " remixmatch ", "the weight of the rotation"),
    WHOLE(align, 0, 3, " fixmatch remixmatch adamatch ", "the alignment"),
    WHOLE(tsa, 0, 3, " uda ", "the annealing of the training signal"),
    WHOLE(n_class_tau, 0, METHOD_MAX_TAUS, " fixmatch uda adamatch ", "the thresholds by class"),
    REAL(prior, 0, 1, " fixmatch remixmatch adamatch ", "the prior"),
#undef REAL
#undef WHOLE
#undef SETTING
    /* clang-format on */
};

enum { N_SETTINGS = sizeof settings / sizeof *settings };

static double setting_value(const struct train_config *c, const struct setting *s)
{
    const char *at = (const char *)c + s->offset;
    double real;
    int whole;
    if (s->is_int) {
        memcpy(&whole, at, sizeof whole);
        return whole;
    }
    memcpy(&real, at, sizeof real);
    return real;
}

bool train_defaults(struct train_config *c, const char *method, bool plain_images, struct err *e)
{
    const struct method *m = method_find(method, e);
    if (!m)
        return false;
    *c = (struct train_config){
        .method = m->name,
        .preset = plain_images ? "wrn-28-2" : "lite",
        .labels_per_class = 0,
        .seed = 1,
        .steps = 0,
        .budget_s = 300,
        .batch = 64,
        .mu = 0,
        .tau = 0.95,
        .lambda_u = 1.0,
        .balance = !plain_images, /* damage is rare or is nearly all there is; batches of 16 must hold both */
        .mirror = true,
        .cutout = true,
        .hide_bands = !plain_images,
        .still_share = plain_images ? 0 : 0.5,
        .optim = {.kind = OPTIM_SGD,
                  .decay = OPTIM_DECAY_L2,
                  .schedule = OPTIM_COS_7_16,
                  .nesterov = true,
                  .lr = 0.03f,
                  .momentum = 0.9f,
                  .beta1 = 0.9f,
                  .beta2 = 0.999f,
                  .epsilon = 1e-8f,
                  .weight_decay = 5e-4f,
                  .ema_decay = 0.999f},
        .checkpoint_every_s = 60,
        .calibrate_share = 0.2,
    };
    m->defaults(c, plain_images);
    return true;
}

static bool within(double v, double low, double high, const char *name, struct err *e)
{
    if (v >= low && v <= high) /* false for NAN */
        return true;
    return err_set(e, ERR_USAGE, "%s must lie between %g and %g, not %g", name, low, high, v);
}

/* In range, and none that the method would not look at: its own default is not 0, or it is said to take it.
 */
static bool check_settings(const struct train_config *c, struct err *e)
{
    struct train_config own;
    char name[64];
    snprintf(name, sizeof name, " %s ", c->method);
    if (!train_defaults(&own, c->method, true, e))
        return false;
    for (int i = 0; i < N_SETTINGS; i++) {
        const struct setting *s = &settings[i];
        if (!within(setting_value(c, s), s->low, s->high, s->words, e))
            return false;
        if (setting_value(c, s) != 0 && setting_value(&own, s) == 0 && !(s->also && strstr(s->also, name)))
            return err_set(e, ERR_USAGE, "%s takes no %s (%s); leave it out or choose another method",
                           c->method, s->name, s->words);
    }
    return true;
}

bool trainer_check_config(const struct train_config *c, struct err *e)
{
    if (!method_find(c->method, e))
        return false;
    if (c->steps > 0 && c->budget_s > 0)
        return err_set(e, ERR_USAGE, "a run has either a number of steps or a time budget; give one of them");
    if (c->steps <= 0 && !(c->budget_s > 0))
        return err_set(e, ERR_USAGE, "a run needs a number of steps or a time budget, both above 0");
    if (!check_settings(c, e))
        return false;
    const struct method *m = method_find(c->method, e);
    if (m->check && !m->check(c, e))
        return false;
    for (int i = 0; i < c->n_class_tau; i++)
        if (!within(c->class_tau[i], 0, 2, "the confidence threshold of a class", e))
            return false;
    return within((double)c->steps, 0, 1e9, "the number of steps", e) &&
           within(c->budget_s, 0, 1e7, "the time budget in seconds", e) &&
           within(c->labels_per_class, -1, 1e6, "the number of labels per class", e) &&
           within(c->batch, 1, 4096, "the batch", e) && within(c->mu, 0, 64, "the unlabelled ratio mu", e) &&
           within(c->tau, 0, 2, "the confidence threshold tau", e) &&
           within(c->lambda_u, 0, 1e4, "the unlabelled weight", e) &&
           within(c->label_smoothing, 0, 1, "label smoothing", e) &&
           within(c->calibrate_share, 0, 0.5, "the share of labels held out for calibration", e) &&
           within((double)c->optim.lr, 1e-8, 100, "the learning rate", e) &&
           within((double)c->optim.momentum, 0, 0.9999, "the momentum", e) &&
           within((double)c->optim.weight_decay, 0, 10, "the weight decay", e) &&
           within((double)c->optim.ema_decay, 0, 0.999999, "the moving average's decay", e);
}

/* Floats are stored with the nine digits that bring them back exactly, not as the double beside them. */
static void add_float(cJSON *j, const char *name, float v)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)v);
    cJSON_AddRawToObject(j, name, text);
}

char *trainer_config_text(const struct train_config *c, struct err *e)
{
    char seed[32], *text = NULL;
    const struct optim_config *o = &c->optim;
    cJSON *j = cJSON_CreateObject();
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)c->seed);
    cJSON_AddStringToObject(j, "method", c->method);
    cJSON_AddStringToObject(j, "preset", c->preset);
    cJSON_AddNumberToObject(j, "labels_per_class", c->labels_per_class);
    cJSON_AddStringToObject(j, "seed", seed); /* 64 bits do not fit JSON's doubles */
    cJSON_AddNumberToObject(j, "batch", c->batch);
    cJSON_AddNumberToObject(j, "mu", c->mu);
    cJSON_AddNumberToObject(j, "tau", c->tau);
    cJSON_AddNumberToObject(j, "lambda_u", c->lambda_u);
    cJSON_AddNumberToObject(j, "label_smoothing", c->label_smoothing);
    cJSON_AddBoolToObject(j, "balance", c->balance);
    cJSON_AddBoolToObject(j, "mirror", c->mirror);
    cJSON_AddBoolToObject(j, "cutout", c->cutout);
    cJSON_AddBoolToObject(j, "hide_bands", c->hide_bands);
    cJSON_AddNumberToObject(j, "still_share", c->still_share);
    if (c->transductive)
        cJSON_AddTrueToObject(j, "transductive");
    cJSON_AddNumberToObject(j, "calibrate_share", c->calibrate_share);
    for (int i = 0; i < N_SETTINGS; i++)
        if (setting_value(c, &settings[i]) != 0)
            cJSON_AddNumberToObject(j, settings[i].name, setting_value(c, &settings[i]));
    if (c->n_class_tau > 0)
        cJSON_AddItemToObject(j, "class_tau", cJSON_CreateDoubleArray(c->class_tau, c->n_class_tau));
    cJSON *p = cJSON_AddObjectToObject(j, "optim");
    cJSON_AddStringToObject(p, "kind", o->kind == OPTIM_SGD ? "sgd" : "adam");
    cJSON_AddStringToObject(p, "decay", o->decay == OPTIM_DECAY_L2 ? "l2" : "decoupled");
    cJSON_AddStringToObject(p, "schedule",
                            o->schedule == OPTIM_CONSTANT   ? "constant"
                            : o->schedule == OPTIM_COS_7_16 ? "cos-7/16"
                                                            : "cos-quarter");
    cJSON_AddBoolToObject(p, "nesterov", o->nesterov);
    add_float(p, "lr", o->lr);
    add_float(p, "momentum", o->momentum);
    add_float(p, "beta1", o->beta1);
    add_float(p, "beta2", o->beta2);
    add_float(p, "epsilon", o->epsilon);
    add_float(p, "weight_decay", o->weight_decay);
    add_float(p, "ema_decay", o->ema_decay);
    cJSON_AddBoolToObject(p, "ema_running_stats", o->ema_running_stats);
    if (p)
        text = cJSON_PrintUnformatted(j);
    cJSON_Delete(j);
    if (!text)
        err_set(e, ERR_RESOURCE, "not enough memory for the settings of the run");
    return text;
}
