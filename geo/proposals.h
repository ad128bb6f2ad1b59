/* SPDX-License-Identifier: Apache-2.0
 *
 * proposals.h - buildings that a model rejects, as a map layer for an analyst to name: a GeoPackage with the layer
 * "candidates". It holds proposals, never grades: no column that training, estimating or a map reads is in it, and
 * "name" is empty until a person fills it in. */
#ifndef AM_PROPOSALS_H
#define AM_PROPOSALS_H

#include "geo/event.h"

/* One rejected building. */
struct proposal {
    size_t building;             /* index in event.building */
    int group;                   /* from 1; 0: it belongs to none */
    const char *group_name;      /* "unreviewed group 1", "" */
    const char *called;          /* what the model would have called it */
    const char *flag;            /* what the group goes along with that is no damage, "" */
    bool is_accepted;            /* the group was found learnable */
    int rank;                    /* from 1: place in its group, nearest to the centre first; 0: none */
    double f1;                   /* learnability of its group; NAN: none */
    double confidence, distance; /* of the model; from the known classes, 1 is the threshold */
};

/* Writes path (not there yet). metadata: n_pairs of key and value for the layer. created: ISO 8601, the time of the
 * run. ERR_RESOURCE or ERR_RUNTIME names the file. */
bool proposals_write(const char *path, const struct event *ev, const struct proposal *p, size_t n,
                     const char *const (*metadata)[2], int n_pairs, const char *created, struct err *e);

#endif
