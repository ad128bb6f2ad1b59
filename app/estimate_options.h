/* SPDX-License-Identifier: Apache-2.0
 *
 * estimate_options.h - the options that `estimate` and `report` share: which sample, which zones, which interval. */
#ifndef AM_ESTIMATE_OPTIONS_H
#define AM_ESTIMATE_OPTIONS_H

#include "app/command.h"
#include "geo/totals.h"

enum {
    KEY_TOTALS_TRUTH = 0x100,
    KEY_TOTALS_SAMPLE,
    KEY_TOTALS_RANDOM,
    KEY_TOTALS_ZONES,
    KEY_TOTALS_LAYER,
    KEY_TOTALS_ZONE_ID,
    KEY_TOTALS_ZONE_NAME,
    KEY_TOTALS_METHOD,
    KEY_TOTALS_LEVEL,
    KEY_TOTALS_CUT,
    KEY_TOTALS_HALF_WIDTH
};

#define ZONES_ARGP_OPTIONS                                                                                   \
    {"zones", KEY_TOTALS_ZONES, "FILE", 0, "Polygons to add up by: districts, work cells", 2},               \
        {"zones-layer",                                                                                      \
         KEY_TOTALS_LAYER,                                                                                   \
         "NAME",                                                                                             \
         0,                                                                                                  \
         "Layer of that file (default: the first of polygons)",                                              \
         2},                                                                                                 \
    {                                                                                                        \
        "zone-id", KEY_TOTALS_ZONE_ID, "FIELD", 0, "Field with the zones' ids, such as ADM2_PCODE", 2        \
    }

#define TOTALS_ARGP_OPTIONS                                                                                  \
    {"truth",                                                                                                \
     KEY_TOTALS_TRUTH,                                                                                       \
     "FILE:FIELD|EVENT",                                                                                     \
     0,                                                                                                      \
     "Grades of the sample: a table with bldg_id and the grade in FIELD, or an event's labels",              \
     1},                                                                                                     \
        {"sample",                                                                                           \
         KEY_TOTALS_SAMPLE,                                                                                  \
         "FILE",                                                                                             \
         0,                                                                                                  \
         "What 'aftermap sample' drew, when the grades are in another table",                                \
         1},                                                                                                 \
        {"assume-random",                                                                                    \
         KEY_TOTALS_RANDOM,                                                                                  \
         NULL,                                                                                               \
         0,                                                                                                  \
         "You answer for it that a table without the columns draw and purpose is a blind random draw",       \
         1},                                                                                                 \
        ZONES_ARGP_OPTIONS,                                                                                  \
        {"zone-name", KEY_TOTALS_ZONE_NAME, "FIELD", 0, "Field with the zones' names", 2},                   \
        {"method",                                                                                           \
         KEY_TOTALS_METHOD,                                                                                  \
         "METHOD",                                                                                           \
         0,                                                                                                  \
         "model-assisted (default: the map narrows the intervals, which hold on average) or exact (wider, "  \
         "guaranteed)",                                                                                      \
         3},                                                                                                 \
        {"level", KEY_TOTALS_LEVEL, "P", 0, "Coverage of the intervals (default 0.95)", 3},                  \
    {                                                                                                        \
        "cut", KEY_TOTALS_CUT, "LEVEL", 0, "Damaged means this level or worse (default: the map's)", 3       \
    }

/* Handles a shared key; ARGP_ERR_UNKNOWN for any other. */
error_t totals_parse(int key, char *arg, struct argp_state *state, struct totals_options *o);

/* "200" buildings or "2%" of them, as totals_options.half_width has it. */
double half_width_parse(struct argp_state *state, const char *arg);

#endif
