/* SPDX-License-Identifier: Apache-2.0
 *
 * evaluate.h - scores a map folder, or a model, against the labels of an event or of a plain data set. Labels
 * that were used in training never count. Beside every figure stands the colour-statistics baseline's
 * (models/learn/predict.h), fitted on the same labels and scored on the same items, so that nobody is
 * impressed by little.
 *
 * A map folder keeps probabilities rounded to three decimals, so a ranking figure may differ from the model's
 * own in the third decimal through ties. */
#ifndef AM_EVALUATE_H
#define AM_EVALUATE_H

#include "models/base/progress.h"
#include "models/learn/metrics.h"

struct evaluate_options {
    const char *subject; /* DIR made by mapping_run, or MODEL.safetensors */
    const char *truth;   /* EVENT folder, or cifar10: idx: folder: spec */
    const char *labels;  /* NULL, or FILE:FIELD (answers.h): grades in the place of the event's own */
    const char *split;   /* "test", "train" or "all" */
    int cut;             /* 0: the subject's own; else the level from which "damaged" counts */
    int n_views;         /* 1 or 8; for a model only, a map was made with its own */
    double test_share;   /* plain sets: NAN takes the one stored in the model, else 0.2 */
    struct metrics_options metrics; /* operating_point NAN: the map's own; 0.5 for a model */
};

struct evaluate_report {
    struct metrics model, trivial;
    bool has_trivial; /* false: the map's model file is gone, so its baseline cannot be asked (a warning said
                         so) */
    char class_name[METRICS_MAX_CLASSES][32];
    int cut;           /* 0 for plain sets */
    size_t n_labeled;  /* labels the subject was trained on */
    size_t n_left_out; /* items of the split that were left out because the subject was trained on their
                          labels */
    char model_digest[65];
};

void evaluate_defaults(struct evaluate_options *o);
bool evaluate_run(const struct evaluate_options *o, const struct progress *p, struct evaluate_report *r,
                  struct err *e);

#endif
