/* SPDX-License-Identifier: Apache-2.0
 *
 * tables.h - the smaller collections beside an assessment's buildings, each an ordinary collection with pages, filters
 * and coordinate systems of its own:
 *
 *   AID.labels  current labels at their buildings' outlines; feature number and columns are the building's and the label's
 *   AID.zones   the polygons that totals are told for, with how many buildings of each class the map counts in them
 *   AID.scenes  the outline of every image, with phase, date, size and ground sample distance
 *   AID.aoi     the area of interest, where one was given
 *
 * They are made when first asked for and made again when what they show has changed (a label's row, the map, the zones'
 * file). A request borrows one until its answer is sent; what was replaced meanwhile lives that long.
 *
 * Threads: everything here locks itself. The caller holds the reading side of the maps' lock. */
#ifndef AM_TABLES_H
#define AM_TABLES_H

#include "web/service.h"

enum table_kind { TABLE_LABELS, TABLE_ZONES, TABLE_SCENES, TABLE_AOI, TABLE_KINDS };
extern const char *const table_names[TABLE_KINDS];
extern const char *const table_titles[TABLE_KINDS];

struct tables; /* the ones in memory */
struct tables *tables_create(struct err *e);
void tables_free(struct tables *t); /* nothing is borrowed any more; accepts NULL */

/* Whether an assessment that is shown has such a collection. */
bool tables_has(const struct service *s, const struct assessment *as, enum table_kind kind);
/* Which assessment and kind an id such as "demo.labels" names; NULL: none that is shown. */
const struct assessment *tables_parse(const struct service *s, const char *collection_id,
                                      enum table_kind *kind);
/* The collection, for as long as the request lasts (one a request). NULL: the reply is complete. */
const struct assessment *tables_borrow(const struct service *s, const struct http_request *q,
                                       const struct assessment *as, enum table_kind kind,
                                       struct http_reply *a);

/* tables_layer.c: the rows of such a collection as a layer in memory (GDALClose the data set). NULL on error;
 * ERR_NOT_FOUND: there is none. */
GDALDatasetH tables_make(const struct service *s, const struct assessment *as, enum table_kind kind,
                         struct err *e);

#endif
