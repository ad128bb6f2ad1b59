/* SPDX-License-Identifier: Apache-2.0
 *
 * mapping.h - from an event and a model to the map: predict every chip, write what analysts and tools open.
 *
 *   damage.tif          COG, 8 bit, colour table: 0 no building, 1-4 level+1, 254 unknown,
 *                       255 nodata (outside the extent of the imagery of one of the dates)
 *   damage.tif.aux.xml  the classes' names and attribute table, where GDAL 3.6 keeps them
 *   prob.tif            COG, float32: band 1 p(damaged), then one band per class; nodata NaN
 *   damage.gpkg         layer "buildings" with an embedded QGIS style
 *   damage.geojson      RFC 7946
 *   damage.csv          the same columns, lon and lat at the end
 *   run.json            program version, model digest, inputs and digests, settings, seed, counts, timings,
 *                       digests of the above
 *
 * Columns (<= 10 characters), the same and in the same order in all three: bldg_id dmg_class dmg_level p_none
 * p_minor p_major p_destr p_dmg entropy status reason lbl_src shift_x shift_y shift_q area_m2 split block model_id run_id updated.
 *
 *   status    ok; abstain (p_dmg strictly inside the abstain band; the class is still given); unknown (no
 *             chip: reason says why, dmg_class is "unknown", dmg_level and the figures are null)
 *   classes   p_dmg >= operating point decides "damaged"; the class is the most likely one on that side of
 *             the cut, so that dmg_level >= cut holds just when p_dmg >= operating point. A binary model
 *             (cut C) names its classes "undamaged" and "damaged" and sets dmg_level to 0 and C; its
 *             p_none..p_destr are null. A four-grade model has cut 2
 *   entropy   of the class probabilities, natural logarithm
 *   lbl_src   "model": the class is the model's and it never saw this building's label; "train": the model
 *             was trained on it
 *   updated   day of the run in UTC (a date, so that Shapefile keeps it whole); run_id and run.json carry
 *             the time
 *
 * Probabilities and entropy are rounded to three decimals in every table, and damaged and abstain are decided
 * on the rounded values, so that a filter on the table gives the counts of run.json. Rounding is also what
 * keeps a published map from giving the model away (exact probabilities let a head be extracted). prob.tif
 * keeps float32: share it with that in mind. */
#ifndef AM_MAPPING_H
#define AM_MAPPING_H

#include "models/base/err.h"
#include "models/base/progress.h"
#include <cJSON.h>
#include <stddef.h>
#include <stdint.h>

struct mapping_options {
    const char *event_dir, *model_path, *out_dir;
    int n_views;            /* 1, or 8 (default): averages over the square's symmetries */
    double abstain;         /* half-width of the abstain band around the operating point: 0.1 */
    double operating_point; /* 0.5 */
    bool allow_synthetic;   /* an event of made-up images is mapped, and every output says so */
    bool is_int8;           /* 8-bit inference, scaled on up to 256 chips of this event; false */
    bool overwrite, dry_run;
    uint64_t seed; /* recorded; prediction itself draws nothing at random */
};

struct mapping_report {
    size_t n_buildings, n_predicted, n_abstain, n_unknown,
        n_damaged; /* n_damaged: p_dmg >= operating point */
    double seconds_predict, seconds_write;
};

void mapping_defaults(struct mapping_options *o);
/* Everything is written in a temporary folder inside out_dir and renamed when all is complete: an earlier map
 * in out_dir survives any failure and Ctrl-C. An existing map is an error unless overwrite is set. */
bool mapping_run(const struct mapping_options *o, const struct progress *p, struct mapping_report *r,
                 struct err *e);

/* DIR/run.json of a map, parsed and known to hold what readers of a map count on: kind, cut, binary and
 * settings.operating_point. The caller deletes it. NULL with a sentence otherwise. */
cJSON *mapping_run_read(const char *dir, struct err *e);

#endif
