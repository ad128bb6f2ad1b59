/* SPDX-License-Identifier: Apache-2.0
 *
 * items_csv.h - a page of buildings as CSV (RFC 4180): the columns in the collection's order, then x and y of the
 * centroid, named lon and lat where they are degrees. */
#ifndef AM_ITEMS_CSV_H
#define AM_ITEMS_CSV_H

#include "web/assessment.h"
#include "web/crs.h"

/* t from crs_transform. */
void items_csv_write(FILE *out, const struct assessment *as, const struct building *const *row, size_t n,
                     const struct crs *c, OGRCoordinateTransformationH t);

#endif
