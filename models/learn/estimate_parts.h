/* SPDX-License-Identifier: Apache-2.0
 *
 * estimate_parts.h - what estimate.c and estimate_assisted.c share: the hypergeometric distribution and the
 * interval of one cell. Names as in estimate.h. */
#ifndef AM_ESTIMATE_PARTS_H
#define AM_ESTIMATE_PARTS_H

#include "models/learn/estimate.h"

uint32_t estimate_hits_min(uint32_t N, uint32_t K, uint32_t n); /* fewest hits n draws can hold */
double estimate_pmf(uint32_t N, uint32_t K, uint32_t n, uint32_t x);

/* Smallest and largest K that keep both tails above `tail`; mid_p counts half of P(X = x). */
void estimate_one_cell(const struct estimate_cell *c, double tail, bool mid_p, uint32_t *low, uint32_t *high);

#endif
