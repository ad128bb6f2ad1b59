/* SPDX-License-Identifier: Apache-2.0
 *
 * sampling.h - the blind draw behind totals.h: which buildings a person grades so that totals can be told. A
 * simple random draw depends on the seed alone, not on how many are wanted: draw k of a seed is always the same
 * building, and a map's buildings are its event's, in the same order. */
#ifndef AM_SAMPLING_H
#define AM_SAMPLING_H

#include "geo/event.h"

/* Draws 1 to n of the seed, as indices into ev->building [ev->n]; index [n], n <= ev->n. Every building of the
 * event may be drawn: those without a chip, of test blocks and with a label as well. */
bool sampling_order(const struct event *ev, uint64_t seed, size_t n, uint32_t *index, struct err *e);

struct sampling_options {
    const char *source;   /* map or event folder */
    const char *out_path; /* .csv or .gpkg */
    size_t n;
    const char *strata; /* NULL, "zone", or a column of the map: dmg_class, status, split */
    const char *zones, *zones_layer, *zone_id; /* zones.h; zones NULL: none */
    uint64_t seed;
    bool overwrite, dry_run;
};
struct sampling_report {
    size_t n_buildings, n, n_strata;
};
/* Writes a sample to be graded. Columns: draw (the order in which to grade), bldg_id, fid, lon, lat, purpose
 * (validate), stratum ("FIELD=VALUE" or empty), n_stratum (buildings in it), zone_id, grade (empty, to be filled
 * in). Nothing the map says is in it, so that whoever grades stays blind. Strata share the sample by their sizes,
 * at least TOTALS_MIN_SAMPLE each. */
bool sampling_draw(const struct sampling_options *o, const struct progress *p, struct sampling_report *r,
                   struct err *e);

#endif
