/* SPDX-License-Identifier: Apache-2.0
 *
 * buildings.h - one building of an event as the page draws it: outline in metres around the chip's centre, shift, label,
 * prediction. */
#ifndef AM_BUILDINGS_H
#define AM_BUILDINGS_H

#include "web/workflow.h"

/* What the documents of one request share. */
struct buildings {
    const struct event *ev;
    struct store_labels labels;        /* current ones, by id */
    OGRCoordinateTransformationH grid; /* longitude/latitude -> the working grid */
    const struct assessment *map;      /* with predictions, or NULL; valid while the maps' lock is held */
};

/* False: the reply is an error. The caller holds the reading side of the maps' lock. */
bool buildings_open(struct buildings *b, const struct service *s, const struct http_request *q,
                    const char *aid, const struct event *ev, struct http_reply *a);
void buildings_close(struct buildings *b);

const struct store_label *buildings_label(const struct buildings *b, const char *bldg_id); /* NULL: none */
const struct building *buildings_prediction(const struct buildings *b, size_t index);      /* NULL: none */
/* blind: without what the model says. */
cJSON *buildings_document(const struct buildings *b, size_t index, bool blind);

#endif
