/* SPDX-License-Identifier: Apache-2.0
 *
 * mapping.h - from an event and a model to the map: predict every chip, write what analysts and tools open.
 *
 *   damage.tif    COG, 8 bit, colour table: 0 no building, 1-4 level+1, 254 unknown, 255 nodata (no imagery)
 *   prob.tif      COG, float32: band 1 p(damaged), then one band per class; nodata NaN
 *   damage.gpkg   layer "buildings" with an embedded QGIS style; damage.geojson (RFC 7946); damage.csv
 *   run.json      program version, model digest, inputs and digests, settings, seed, counts, timings
 *
 * Columns (<= 10 characters): bldg_id dmg_class dmg_level p_none p_minor p_major p_destr p_dmg entropy status reason lbl_src
 * area_m2 split block model_id run_id updated.
 * A binary model (cut C) names its classes "undamaged" and "damaged" and sets dmg_level to 0 and C; its p_none..p_destr are
 * null. status: ok, abstain (p_dmg inside the abstain band), unknown (no chip; reason says why). */
#ifndef AM_MAPPING_H
#define AM_MAPPING_H

#include "geo/event.h"
#include "models/learn/metrics.h"
#include "models/learn/predict.h"

struct mapping_options {
    const char *event_dir, *model_path, *out_dir;
    int n_views;      /* 1 or 8 */
    double abstain;   /* half-width of the abstain band around the operating point: 0.1 */
    double operating_point; /* 0.5 */
    bool overwrite, dry_run;
    uint64_t seed;
};

struct mapping_report {
    size_t n_buildings, n_predicted, n_abstain, n_unknown, n_damaged;
    double seconds_predict, seconds_write;
};

void mapping_defaults(struct mapping_options *o);
/* Everything under temporary names first, renamed when all is complete: an earlier map in out_dir survives any failure. */
bool mapping_run(const struct mapping_options *o, const struct progress *p, struct mapping_report *r, struct err *e);

/* Scores a map folder, or a model, against the labels of an event or a plain data set. split: "test", "train" or "all".
 * Labels used in training never count. `trivial` is the colour-statistics baseline on the same items. */
struct evaluate_options {
    const char *subject; /* DIR made by mapping_run, or MODEL.safetensors */
    const char *truth;   /* EVENT folder, or cifar10: idx: folder: spec */
    const char *split;
    int cut;             /* 0: the model's own; else the level from which "damaged" counts */
    int n_views;
    struct metrics_options metrics;
};

struct evaluate_report {
    struct metrics model, trivial;
    char class_name[METRICS_MAX_CLASSES][32];
    int cut;              /* 0 for plain sets */
    char model_digest[65];
};

void evaluate_defaults(struct evaluate_options *o);
bool evaluate_run(const struct evaluate_options *o, const struct progress *p, struct evaluate_report *r, struct err *e);

#endif
