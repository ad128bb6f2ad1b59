/* SPDX-License-Identifier: Apache-2.0
 *
 * model_meta.h - what a model must remember of the event it was learnt from, so that it can read other ones.
 */
#ifndef AM_MODEL_META_H
#define AM_MODEL_META_H

#include "geo/event.h"
#include "models/net/checkpoint.h"

struct model_meta {
    char cut[8], gsd[32], size[32], *scaling;
    struct checkpoint_meta pair[6]; /* points into this record: do not copy it */
    int n;
};

bool model_meta_fill(struct model_meta *m, const struct event *ev, int cut, struct err *e);
void model_meta_free(struct model_meta *m); /* accepts a zeroed record */

#endif
