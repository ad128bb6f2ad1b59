/* SPDX-License-Identifier: Apache-2.0
 *
 * loop.h - a scripted labelling campaign: seeds, then rounds of training, asking and scoring, with known
 * grades in the place of an analyst. loop.c plays it, loop_report.c keeps its state and draws it.
 *
 * Folder: loop.json (everything: settings, rounds, questions; the one file a resumed campaign reads),
 * curve.csv (one row a round), questions.csv (one row a graded building), curve.svg, and the models of the
 * last two rounds. */
#ifndef AM_LOOP_H
#define AM_LOOP_H

#include "app/command.h"
#include "app/query.h"
#include "models/learn/metrics.h"
#include "models/learn/train.h"

enum { LOOP_MAX_ROUNDS = 1000 };

struct loop_options {
    const char *event, *oracle, *out, *strategy;
    const char *method, *preset; /* preset NULL: the method's */
    struct active_options active;
    int rounds, per_round, seeds; /* seeds 0: as many as per_round */
    double stop_change;           /* 0: play all rounds */
    int cut, n_views;
    size_t max_items;
    int64_t steps;
    double budget_s;
    int batch, mu; /* 0: the method's */
    bool no_footprint, resume;
    bool silent; /* nothing on stdout */
};

/* One building that was asked about. */
struct loop_ask {
    int round;
    size_t item; /* in the set */
    double score;
    char why[64];
    bool validate;
};

/* What a round's model was worth. */
#define LOOP_FIGURES(X) X(auroc) X(auprc) X(f1) X(balanced_accuracy) X(ece)
struct loop_round {
    size_t n_asked, n_trained, n_validate, n_validate_positive;
#define ROW(name) struct metric name;
    LOOP_FIGURES(ROW)
#undef ROW
    struct metric trivial_auroc;
    double validate_auroc; /* on the blindly drawn buildings; NAN while they are of one class */
    double
        changed; /* share of training-split predictions that differ from the round before; NAN in round 0 */
    int64_t steps;
    double seconds;
};

struct loop {
    const struct loop_options *o;
    const struct common *common;
    const struct progress *progress;
    char strategy[ACTIVE_TEXT_SIZE];
    struct query_data data;
    struct imageset masked; /* shares the pixels of data.set; only labels that may be trained on */
    uint32_t *train, *test; /* training-split items; test items with a grade */
    size_t n_train, n_test;
    bool *asked;        /* [set.n] */
    int *seen, *before; /* [n_train] predicted classes of this round and of the one before */
    struct loop_ask *ask;
    size_t n_ask;
    struct loop_round *round;
    int n_rounds;
    char stopped[160]; /* why there will be no further round; "" while there may be */
};

bool loop_run(const struct loop_options *o, const struct common *common, const struct progress *progress,
              struct err *e);

/* loop_report.c */
bool loop_path(const struct loop *l, const char *name, char path[4096], struct err *e);
/* Settings, rounds and questions from loop.json; ERR_USAGE when the settings are others. */
bool loop_load(struct loop *l, struct err *e);
bool loop_save(const struct loop *l, struct err *e); /* all four files */
bool loop_print(const struct loop *l, const char *model_path, struct err *e);

#endif
