/* SPDX-License-Identifier: Apache-2.0
 *
 * curve.h - the learning curve: what each model so far is worth on the blind labels of today, how much of the map each
 * round still changed, and whether going on is worth the analyst's time. */
#ifndef AM_CURVE_H
#define AM_CURVE_H

#include "web/buildings.h"
#include <cJSON.h>

/* Adds to each model of `curve` (array of objects with "model":"m-N", oldest first): f1, f1_low, f1_high, ap, auroc on the
 * n_judged buildings with a blind label and a prediction, and changed_share against the last model before it that has
 * predictions; null where it cannot be told. To `doc`: stop_suggested and stop_reason, by Bloodgood & Vijay-Shanker's (2009)
 * idea that learning is over when its predictions stop moving: less than 1 % in each of three rounds. */
void curve_judge(const struct service *s, const char *aid, int cut, const struct buildings *b,
                 const struct event_loan *l, cJSON *curve, cJSON *doc);

#endif
