/* SPDX-License-Identifier: Apache-2.0
 *
 * train_synthetic.h - `train --synthetic`: made-up images join the labelled ones because the user asked for it, and
 * the model says so for ever. They teach only: they are never in the unlabelled pool, among the labels that are drawn
 * and counted, calibrated on or tested. Without the option, data that a model made up are refused. */
#ifndef AM_TRAIN_SYNTHETIC_H
#define AM_TRAIN_SYNTHETIC_H

#include "app/command.h"
#include "geo/event.h"
#include "models/net/checkpoint.h"

enum { TRAIN_SYNTHETIC_META = 5 };

struct train_synthetic {
    size_t n;       /* images */
    char *names;    /* of what was given, separated by commas */
    char *of_class; /* JSON: {"destroyed": {"observed": 10, "made_up": 64}, ...} */
    char digest[65], models[256], n_text[24];
};

/* What the run it joins is like. */
struct train_synthetic_run {
    int cut;              /* -1: a plain set */
    int labels_per_class; /* as train_config has it */
    double test_share;    /* plain sets */
    uint64_t seed;
};

/* Adds the images of each path to set. ERR_INPUT: not made up, of other bands or classes, or no observed label beside
 * them; ERR_USAGE: their maker has seen what this run holds out. s is to be freed whatever the outcome. */
bool train_synthetic_add(struct imageset *set, const struct string_list *paths,
                         const struct train_synthetic_run *run, struct train_synthetic *s,
                         const struct progress *p, struct err *e);
void train_synthetic_free(struct train_synthetic *s); /* accepts a zeroed record */
/* Facts for the model; they point into s. Returns their number, 0 where nothing was added. */
int train_synthetic_meta(const struct train_synthetic *s, struct checkpoint_meta pair[TRAIN_SYNTHETIC_META]);

/* ERR_INPUT when an event was cut from made-up images: no command that learns or labels takes it. */
bool train_synthetic_refuse(const struct event *ev, struct err *e);

#endif
