/* SPDX-License-Identifier: Apache-2.0
 *
 * scores.h - what each model said of each building, kept beside it when its map is shown, so that a model of the
 * past can still be judged on labels of today: models/m-N.scores, one line a building, "P_DMG DMG_LEVEL BLDG_ID".
 * Buildings without a prediction are left out. Written whole or not at all (models/base/file.h); written anew
 * when the model predicts again. */
#ifndef AM_SCORES_H
#define AM_SCORES_H

#include "web/event_cache.h"

/* Reads damage.gpkg and run.json of a map folder and writes the file of the model that made it into the folder
 * `models`. True with nothing written when that model is none of the assessment's (m-N). ERR_INPUT when the map
 * cannot be read. */
bool scores_keep(const char *map, const char *models, struct err *e);

/* One model's scores in the event's order; NAN and -1 where it said nothing. */
struct scores {
    float *p;      /* [n] p(damaged) */
    int8_t *level; /* [n] class given, 0..3 */
};
/* Buildings the event no longer has are passed over. ERR_INPUT when the file is not such a file. */
bool scores_read(const char *path, const struct event_loan *l, struct scores *s, struct err *e);
void scores_free(struct scores *s); /* members only; accepts a zeroed one */

#endif
