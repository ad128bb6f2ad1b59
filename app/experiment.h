/* SPDX-License-Identifier: Apache-2.0
 *
 * experiment.h - a grid of runs described by one file: tasks (a target, sources) x arms (a method and its
 * options) x labels per class x splits x seeds. Each cell trains and is scored by the very commands, or plays
 * a labelling campaign; its result is one file, renamed into place when complete, so that a stopped grid goes
 * on where it was. experiment_file.c reads the description, experiment_cell.c runs a cell,
 * experiment_report.c makes tables and plots of the cells there are.
 *
 * samples/experiments/README.md describes the file's format.
 *
 * Folder: cells/CELL.json (results), cells/CELL.safetensors and CELL.part.json (a cell under way) or
 * cells/CELL/ (a campaign), results.csv (a row a cell, or a round of a campaign), summary.csv (mean and
 * deviation over splits and seeds), TASK.svg. */
#ifndef AM_EXPERIMENT_H
#define AM_EXPERIMENT_H

#include "app/command.h"

enum {
    EXPERIMENT_ALL = -1, /* labels: every one */
    EXPERIMENT_MAX_SOURCES = 8,
    EXPERIMENT_MAX_LABELS = 16,
    EXPERIMENT_NAME_SIZE = 200
};

struct experiment_task {
    const char *name, *target, *source[EXPERIMENT_MAX_SOURCES];
    int n_sources;
    int most_labels; /* cells with more labels per class are not laid out; 0: all are */
};

struct experiment_arm {
    const char *name;
    cJSON *options; /* the general ones, then the arm's; owned */
    const cJSON *published;
    bool is_loop, with_sources;
    int labels[EXPERIMENT_MAX_LABELS], n_labels;
};

struct experiment_cell {
    int task, arm, labels, split;
    uint64_t seed;
    char name[EXPERIMENT_NAME_SIZE]; /* of its files */
    char *settings;                  /* JSON of all that decides its result but the data's place; owned */
};

struct experiment {
    cJSON *json; /* the file; the strings below belong to it */
    char name[64];
    const char *path, *dir, *title, *metric, *trivial_arm;
    struct experiment_task *task;
    struct experiment_arm *arm;
    struct experiment_cell *cell;
    int n_tasks, n_arms, n_cells;
    int n_checkpoints; /* whose median is reported; 1: the finished model's figure */
    double checkpoint_share;
    int n_views; /* 0: 1 for plain sets, 8 for events */
    int n_bootstrap;
    bool has_loops;
    const struct string_list *data; /* NAME=PATH of the command line */
};

/* Figures of a model, and their names in files. */
#define EXPERIMENT_FIGURES(X) X(auroc) X(auprc) X(f1) X(accuracy) X(balanced_accuracy) X(ece)

/* Reads and checks the file; the options of every cell are checked by the commands themselves. */
bool experiment_open(struct experiment *x, const char *path, const struct string_list *data, const char *dir,
                     struct err *e);
void experiment_close(struct experiment *x); /* accepts a zeroed record */

/* Where a cell's data lie: the path given for the name, {split} and {seed} replaced, the layout's steps behind
 * it. */
bool experiment_data_path(const struct experiment *x, const struct experiment_cell *c, const char *name,
                          char out[4096], struct err *e);
/* The command and its words for a cell; words[0] is who speaks. Caller frees by experiment_words_free(). */
const struct command *experiment_command(const struct experiment_arm *a);
bool experiment_words(const struct experiment *x, const struct experiment_cell *c, char ***words, int *n,
                      struct err *e);
void experiment_words_free(char **words, int n);
bool experiment_path(const struct experiment *x, const struct experiment_cell *c, const char *extension,
                     char out[4096], struct err *e);

/* Runs or goes on with a cell and writes its result. */
bool experiment_run_cell(const struct experiment *x, const struct experiment_cell *c,
                         const struct common *common, const struct progress *progress, struct err *e);
/* The cell's result if it is there; NULL without error when it is not, or was made with other settings
 * (*differs). Caller deletes. */
cJSON *experiment_result(const struct experiment *x, const struct experiment_cell *c, bool *differs);
/* The reported figure of a result's row: the median of its checkpoints; NAN when it cannot be told. */
double experiment_figure(const cJSON *row, const char *metric);

/* results.csv, summary.csv and the plots of the cells there are; the summary on stdout (common: as JSON). */
bool experiment_report(const struct experiment *x, const struct common *common, bool print, struct err *e);

#endif
