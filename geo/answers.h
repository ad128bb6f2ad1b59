/* SPDX-License-Identifier: Apache-2.0
 *
 * answers.h - damage grades from a table beside an event (an analyst's list, a survey, an oracle for
 * rehearsals), joined by the buildings' own ids. */
#ifndef AM_ANSWERS_H
#define AM_ANSWERS_H

#include "geo/event.h"

/* spec "FILE:FIELD": any table OGR reads, with a column bldg_id and the grade in FIELD (a name of the scale,
 * or -1 to 3). The grades of the open event in memory become those of the table; buildings it does not name
 * become unknown. Nothing on disk changes. *n_matched: buildings that got a grade. ERR_INPUT when there is
 * none, when a grade is not of the scale, or when one id has two different grades. */
bool answers_apply(struct event *ev, const char *spec, size_t *n_matched, struct err *e);

/* The same for training: where the table has a column "purpose" (train or validate, empty is train),
 * buildings that any row calls validate stay unknown, so that nothing is ever trained on what judges.
 * *n_kept_out: how many those are. ERR_INPUT for another purpose, or when no building is left to train on. */
bool answers_apply_training(struct event *ev, const char *spec, size_t *n_matched, size_t *n_kept_out,
                            struct err *e);

#endif
