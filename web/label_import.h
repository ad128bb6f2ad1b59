/* SPDX-License-Identifier: Apache-2.0
 *
 * label_import.h - labels as they come in: one as JSON, many as JSON, CSV (RFC 4180) or GeoJSON, all into the same rows.
 *
 * CSV: the first line names the columns; bldg_id and one of grade or dmg_class are needed, reason, note, by, purpose, draw
 * and sure may be there, others are ignored. GeoJSON: the same names as properties; geometries are not looked at.
 *
 * Ownership: rows own their text. Hostile input ends in an error or in rows marked with what is wrong with them. */
#ifndef AM_LABEL_IMPORT_H
#define AM_LABEL_IMPORT_H

#include "geo/store.h"
#include <cJSON.h>

enum { LABEL_IMPORT_MAX_ROWS = 200000 };

struct label_row {
    char *bldg_id, *note, *by; /* heap; "" where nothing is said */
    int level;                 /* 0..3, -1 cannot tell */
    const char *reason;        /* static text */
    bool is_sure, has_shift;
    double shift_x, shift_y;
    enum store_purpose purpose;
    int64_t draw;
    char problem[160]; /* "" : a label */
    char pointer[16];  /* member at fault, "/dmg_class" */
};

struct label_rows {
    struct label_row *item; /* [n] */
    size_t n;
};
void label_row_free(struct label_row *row); /* members only */
void label_rows_free(struct label_rows *r); /* accepts zeroed rows */

/* One object; a row with a problem is still true. False: memory. */
bool label_import_object(const cJSON *object, struct label_row *row, struct err *e);
/* Whole bodies; ERR_INPUT when it is no such document at all. */
bool label_import_json(const char *text, size_t size, struct label_rows *r,
                       struct err *e); /* {"labels": [...]} */
bool label_import_geojson(const char *text, size_t size, struct label_rows *r,
                          struct err *e); /* FeatureCollection */
bool label_import_csv(const char *text, size_t size, struct label_rows *r, struct err *e);

#endif
