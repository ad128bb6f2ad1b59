/* SPDX-License-Identifier: Apache-2.0
 *
 * report.h - the page an analyst signs and hands on: one self-contained HTML document (no scripts, nothing from
 * elsewhere; the map is an embedded JPEG, the intervals are inline SVG) that prints on A4 or letter, in English,
 * French, Spanish or Arabic (right to left). Totals per class and zone with intervals, what the map is worth,
 * imagery and its dates where they are known, damage scale and cut, method and known limits, versions and digests.
 *
 * Every text that comes from a file or a user is escaped, and no folder of this machine is named in it. */
#ifndef AM_REPORT_H
#define AM_REPORT_H

#include "geo/totals.h"
#include <stdio.h>

enum report_lang { REPORT_EN, REPORT_FR, REPORT_ES, REPORT_AR, REPORT_LANGS };

struct report_options {
    const char *map_dir;
    const struct totals_report *totals; /* of this map, with a sample */
    enum report_lang lang;
    bool letter;                                    /* paper: US letter, else A4 */
    const char *title, *organisation, *reviewed_by; /* NULL: left out; a title is made of the map */
    int picture_px;                                 /* longest side of the map, 1000; 0: no map */
};

void report_defaults(struct report_options *o);
bool report_lang_parse(const char *text, enum report_lang *lang); /* en, fr, es, ar */

/* Writes the document; the caller owns f and checks it. */
bool report_html(FILE *f, const struct report_options *o, struct err *e);
/* The same content as JSON (member "estimate": totals_json). cJSON_Delete; NULL on an error. */
cJSON *report_json(const struct report_options *o, struct err *e);

#endif
