/* SPDX-License-Identifier: Apache-2.0
 *
 * totals.h - how many buildings of a map are damaged, per class and zone, from a blindly drawn and graded sample
 * of them (models/learn/estimate.h), with the map's own predictions to narrow the answer.
 *
 * A total is never read off the map alone. It is refused, with a reason, when the grades are no random sample
 * of the map's buildings: picked to teach a model, drawn from a part of the map, graded with gaps, unlike the
 * map in what the map says of them; and for a zone in which too few were graded.
 *
 * A building whose damage cannot be told from the images counts as the class "unknown" with a total of its own
 * and never as undamaged. Zones are estimated each from its own graded buildings, so that their totals need not
 * add up to the whole map's. */
#ifndef AM_TOTALS_H
#define AM_TOTALS_H

#include "models/base/err.h"
#include "models/base/progress.h"
#include <cJSON.h>
#include <stddef.h>
#include <stdint.h>

enum totals_method { TOTALS_EXACT, TOTALS_ASSISTED };
enum { TOTALS_UNKNOWN = 4, TOTALS_CLASSES = 5, TOTALS_MIN_SAMPLE = 10 };

/* A graded (or drawn but not yet graded) building, for callers that keep labels themselves. */
struct totals_grade {
    const char *bldg_id;
    int level;     /* 0..3; -1: looked at, cannot be told */
    bool graded;   /* false: drawn only */
    uint32_t draw; /* order of drawing, 1-based; 0: not known */
};

struct totals_options {
    const char *map_dir;
    const char
        *truth; /* "FILE:FIELD" (a table with bldg_id) or an event folder; NULL: `grade`, or only sizes */
    const char
        *sample; /* file of `aftermap sample` when the grades are elsewhere; NULL: truth is the sample */
    const struct totals_grade *grade; /* [n_grades], all of a random sample; with truth NULL */
    size_t n_grades;
    bool
        assume_random; /* the caller answers for it that a table without draw or purpose is a random sample */
    const char *zones, *zones_layer, *zone_id, *zone_name; /* zones.h; zones NULL: none */
    enum totals_method method;
    double level; /* 0.95 */
    int cut;      /* damaged from this level; 0: the map's */
    double
        half_width; /* sample size wanted for it: buildings, or a share of them when below 1; NAN: not asked */
};

struct totals_total {
    uint32_t n_sampled;
    double estimate, low, high; /* buildings; NAN when refused */
};

struct totals_area {
    char *zone_id, *zone_name; /* NULL for the whole map and for what lies outside all zones */
    bool outside;
    uint32_t n_buildings, n_sampled;
    double n_predicted; /* damaged by the map; NAN when the map cannot tell at this cut */
    char refused[256];  /* "" or why there are no totals */
    struct totals_total damaged, of_class[TOTALS_CLASSES]; /* levels 0..3, unknown */
};

struct totals_share {
    double value, low, high; /* NAN when it cannot be told */
};

struct totals_report {
    char *map_path, *run_id, *created, *model_digest, *event_digest, *event_path;
    int cut;
    double operating_point;
    enum totals_method method;
    double level;
    char *source, *stratified_by; /* NULL: a simple random sample */
    uint32_t n_drawn, n_graded, n_unknown, n_scored;
    bool has_sample;
    struct totals_area whole, *zone; /* [n_zones] */
    int n_zones;
    struct totals_share precision, recall; /* of "damaged" in the map, over buildings that can be told */
    double half_width, planned_share;      /* buildings; NAN when not asked */
    uint32_t size_exact, size_assisted, size_worst;
    char **note;
    int n_notes;
};

void totals_defaults(struct totals_options *o);

/* ERR_INPUT with one sentence when the whole map's totals are refused. The report is the caller's to free. */
bool totals_run(const struct totals_options *o, const struct progress *p, struct totals_report *r,
                struct err *e);
void totals_free(struct totals_report *r); /* accepts a zeroed one */

/* The report as JSON; counts are whole, estimates have one decimal, shares four. */
cJSON *totals_json(const struct totals_report *r);
const char *totals_method_name(enum totals_method m); /* "exact", "model-assisted" */
const char *totals_class_name(int index);             /* none .. destroyed, unknown */

#endif
