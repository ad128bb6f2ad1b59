/* SPDX-License-Identifier: Apache-2.0
 *
 * alignment.h - how far the two dates of an event lie apart at each building, and moving the post-event chip
 * onto the pre-event one. (models/learn/align.h is another thing: aligning class distributions.)
 *
 * Sign, for every shift in this program: (shift_x, shift_y) in metres on the working grid, x east, y NORTH.
 * What the pre image shows at (x, y), the post image shows at (x + shift_x, y + shift_y). A chip's post half
 * is sampled there and so comes to lie on its pre half.
 *
 * Why locally: registration errors, relief and roofs seen from another side differ from house to house, so no
 * one shift serves a scene. Each building is matched by itself, but most of what its neighbours say is added
 * to what it says: a building that the disaster has changed is found where the ones around it are found
 * (alignment_field.c). A building about which even its neighbours say too little stays where it is.
 *
 * Kept in chips.gpkg: shift_x, shift_y (whole centimetres), shift_q (confidence, 0..1) and shift_by:
 *   measured    the building's own images agree with the shift
 *   neighbours  they do not, or say little: the shift is what the buildings around it say
 *   skipped     confidence below min_score (or the shifted chip would be blank): shift 0, chip as cut
 *   hand        given by a person
 * All are null where a building has no chip. Chips keep their pages, ids, blocks and sets. */
#ifndef AM_ALIGNMENT_H
#define AM_ALIGNMENT_H

#include "geo/event.h"
#include <cJSON.h>

/* A shift that a person has set: metres, at most ALIGNMENT_HAND_MAX_M a side. */
struct alignment_hand {
    int64_t fid;
    double shift_x, shift_y;
};
enum { ALIGNMENT_HAND_MAX_M = 100 };

struct alignment_options {
    double search_m;  /* longest shift looked for, along x and along y; 5 */
    double smooth_m;  /* standard deviation of the Gaussian that weighs neighbours by distance; 40 */
    double min_score; /* shift_q below which a building stays unshifted; 0.5 */
    const struct alignment_hand *hand;
    size_t n_hand;
    const char *export_path; /* GeoPackage of arrows, or NULL */
    bool reset;              /* chips as `tile` cut them; needs nothing else */
    bool overwrite;          /* measure anew an event that is aligned; replace export_path */
    bool dry_run;            /* measure and report, write nothing */
};

struct alignment_report {
    size_t n_chips, n_measured, n_neighbours, n_skipped, n_hand;
    double median_m, p95_m; /* length of the shifts of all buildings not skipped */
};

void alignment_defaults(struct alignment_options *o);

/* Aligns the event folder `dir`, in place: chips.tif, chips.gpkg and event.json are made under temporary names
 * and exchanged together; on any failure the event stays as it was. The event's digest changes. Whoever has
 * the event open must open it again.
 *   not yet aligned, or overwrite   every building is measured; shifts set by hand before stay
 *   aligned, hand given             only those buildings change
 *   aligned, neither                ERR_USAGE
 * The post-event images must be those that the event was made from (size and digest): else ERR_INPUT.
 * summary: NULL, or takes alignment_summary() of the outcome (cJSON_Delete), also with dry_run. */
bool alignment_run(const char *dir, const struct alignment_options *o, const struct progress *p,
                   struct alignment_report *r, cJSON **summary, struct err *e);

/* What an open event's shifts amount to, for a page of checks: counts, share accepted, medians, histograms of
 * length and of confidence, a verdict, up to 400 arrows (means over cells of a lattice) and the n_worst
 * buildings of lowest confidence. {"aligned": false, "chips": n} when the event was never aligned. NULL only
 * when memory is short. */
cJSON *alignment_summary(const struct event *ev, int n_worst);

/* Shifts by hand from any table OGR reads: columns bldg_id, shift_x, shift_y. *out [n] is the caller's to
 * free. ERR_INPUT when an id is not in the event, is given twice, or a shift is no number in range. */
bool alignment_read_hand(const struct event *ev, const char *path, struct alignment_hand **out, size_t *n,
                         struct err *e);

/* Post-event chips under any shift, from the source images: for previews, and to see a chip unshifted. One
 * thread a handle; the event must outlive it. */
struct alignment_cutter;
struct alignment_cutter *alignment_cutter_open(const struct event *ev, struct err *e);
/* building: index into ev->building (any, kept or not). px [size,size,bands] stored bytes, 0 where blank;
 * valid [size,size] 1 where the post image has data. */
bool alignment_cutter_read(struct alignment_cutter *c, size_t building, double shift_x, double shift_y,
                           uint8_t *px, uint8_t *valid, struct err *e);
void alignment_cutter_close(struct alignment_cutter *c); /* accepts NULL */

#endif
