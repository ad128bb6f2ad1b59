/* SPDX-License-Identifier: Apache-2.0
 *
 * query.h - what `label` and `loop` share: an event's chips with the places of its buildings, and queries put
 * into words. */
#ifndef AM_QUERY_H
#define AM_QUERY_H

#include "geo/event.h"
#include "models/learn/active.h"
#include <stdio.h>

struct query_data {
    struct event *ev;
    struct imageset set; /* id = fid, as event_load_imageset() has it */
    double *x, *y;       /* [set.n] metres on the working grid */
};

/* answers: "labels" for the event's own grades, else FILE:FIELD (geo/answers.h). */
bool query_open(struct query_data *q, const char *event_dir, const char *answers, int cut, size_t max_items,
                uint64_t seed, const struct progress *p, struct err *e);
void query_close(struct query_data *q); /* accepts a zeroed record */

const struct event_building *query_building(const struct query_data *q, size_t item);

/* Why a pick was made, in a few words. */
void query_why(const struct active_options *o, const struct active_pick *pick, char out[64]);

/* A CSV field: quoted when it must be. */
void query_csv_field(FILE *f, const char *s);

#endif
