/* SPDX-License-Identifier: Apache-2.0
 *
 * match.h - how alike the two dates of a pair are, place by place, whatever their light: one more channel of
 * the network's input (imageset_layout.use_match).
 *
 * It is the normalised cross-correlation of both dates' grey values in a window around each place, at the
 * shift of the later date that makes the whole patch most alike: gain, offset, haze and tint of a date cancel,
 * a registration error of a few pixels is searched for, a building that stands as it stood correlates and
 * rubble does not. From ten labels a class a network does not learn to make this comparison: it takes a
 * colour instead, and guesses on unlabelled images make it surer of that. (Zero-normalised cross-correlation:
 * Lewis, "Fast Template Matching", Vision Interface 1995.) */
#ifndef AM_MATCH_H
#define AM_MATCH_H

#include "models/data/imageset.h"

/* x [size,size,input channels], its other channels filled in: writes the last one, MATCH_GAIN times the
 * correlation, 0 where a window has no contrast or no data and, where the footprint is an input, outside the
 * building. Only with l->use_match and two dates. A function of x alone; no heap; any number of threads. */
enum { MATCH_GAIN = 3 };
void match_fill(const struct imageset_layout *l, float *x);

#endif
