/* SPDX-License-Identifier: Apache-2.0
 *
 * lab_run.h - what `lab diffuse` and `lab lag` do alike with a resumable run of theirs: keep an output that is there,
 * train to the end and save on the way, say what was made. */
#ifndef AM_LAB_RUN_H
#define AM_LAB_RUN_H

#include "app/command.h"
#include "models/net/checkpoint.h"

/* A run as its command sees it; all borrowed. */
struct lab_run {
    void *run, *data;
    bool (*finished)(const void *run);
    bool (*train)(void *run, void *data, uint64_t at_most, const struct progress *progress, struct err *e);
    bool (*save)(const void *run, const char *path, const struct checkpoint_meta *meta, int n_meta,
                 struct err *e);
};

/* ERR_USAGE when out is there and neither resume, --overwrite nor --dry-run says what to do with it. */
bool lab_run_may_write(const char *out, bool resume, const struct common *common, struct err *e);
/* Trains until the run is finished; saves to out at the end, every minute, and when it is interrupted, which is
 * ERR_INTERRUPTED all the same. seconds: how long it took. */
bool lab_run_through(const struct lab_run *r, const char *out, const struct checkpoint_meta *meta, int n_meta,
                     double *seconds, const struct progress *progress, struct err *e);
/* On stdout: with --json j, else the output's name. Frees j. */
bool lab_run_print(const struct common *common, const char *out, cJSON *j, struct err *e);

/* Refuses (argp_error) the first of the options given (bit k: key k, 1..31) that stands in none of the verb's groups
 * (bit g: group g). command: "lab lag". */
void lab_run_refuse(const struct argp_state *state, const struct argp_option *options, unsigned given,
                    unsigned groups, const char *command, const char *verb);

#endif
