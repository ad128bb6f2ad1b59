/* SPDX-License-Identifier: Apache-2.0
 *
 * assessment.h - one map folder (geo/mapping.h) as the server holds it: every building in memory, ready to
 * send.
 *
 * damage.gpkg is read once at start. Each feature is kept as finished GeoJSON text (RFC 7946: longitude
 * first, exterior rings counter-clockwise, 7 decimals; numbers of properties with 3 decimals, so that answers
 * never carry a model's full precision), beside what filters need: box, geometry, the equality properties and
 * p_dmg in thousandths. A page is then a copy. A filter looks at all rows: 200,000 of them take about a
 * millisecond, so an index would buy nothing.
 *
 * Ownership: the assessment owns all. Threads: immutable once opened, so any number may read. */
#ifndef AM_ASSESSMENT_H
#define AM_ASSESSMENT_H

#include "models/base/err.h"
#include "web/tiles.h"
#include <ogr_api.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Properties that may be compared for equality in a query. */
enum {
    EQUAL_BLDG_ID,
    EQUAL_DMG_CLASS,
    EQUAL_DMG_LEVEL,
    EQUAL_STATUS,
    EQUAL_REASON,
    EQUAL_ZONE_ID,
    EQUAL_LBL_SRC,
    EQUAL_COUNT
};
extern const char *const assessment_equal_names[EQUAL_COUNT];

enum { ASSESSMENT_MAX_FIELDS = 40, ASSESSMENT_MAX_VALUES = 32, ASSESSMENT_NO_P = INT16_MIN };

struct building {
    int64_t fid;
    size_t text, text_size; /* the feature in assessment.text */
    size_t properties; /* where in assessment.text its properties begin; its last byte closes the feature */
    double box[4];     /* minx miny maxx maxy in degrees */
    OGRGeometryH geometry;          /* NULL: none */
    uint32_t equal[EQUAL_COUNT];    /* offsets into assessment.names; 0: null */
    int16_t p_mille, entropy_mille; /* p_dmg and entropy in thousandths, ASSESSMENT_NO_P: null */
    time_t updated;                 /* (time_t)-1: null */
};

struct assessment_field {
    char name[64];
    OGRFieldType type;
    const char *value[ASSESSMENT_MAX_VALUES]; /* distinct values of a text field with few of them */
    int n_values;                             /* 0: many, or not text */
};

enum assessment_kind {
    ASSESSMENT_MAP,   /* made by mapping_run */
    ASSESSMENT_EVENT, /* made by tile: footprints and images, nothing predicted yet */
    ASSESSMENT_TABLE  /* a further collection of one of those (tables.h): rows only, no folder, no layers */
};

struct assessment {
    enum assessment_kind kind;
    char *dir, *id, *collection_id, *title;
    struct building *building; /* [n] in rising fid */
    size_t n;
    char *text;  /* the features */
    char *names; /* NUL-ended values; offset 0 is unused */
    struct assessment_field field[ASSESSMENT_MAX_FIELDS];
    int n_fields;
    int updated_seconds; /* how long after building.updated its value still lasts: a date is a whole day */
    int epsg;            /* of the working grid, from run.json; 0 unknown */
    double box[4];       /* of all buildings; empty collection: the world */
    char version[64];    /* of the program that made the map, from run.json; "" unknown */
    char revision[33];   /* changes with the files: part of the tiles' tags */
    struct tile_layer layer[TILE_LAYERS];
};

/* Reads a map folder; NULL with ERR_INPUT naming the file that is missing or wrong. Layers whose rasters cannot
 * be shown stay without sources and say why. */
struct assessment *assessment_open(const char *dir, struct err *e);
/* The same for a map or an event folder, under an id and a title of the caller's. */
struct assessment *assessment_open_as(const char *dir, enum assessment_kind kind, const char *id,
                                      const char *title, struct err *e);
/* Any layer as a collection beside that of `of`, whose id and working grid it has. Columns with the names of buildings'
 * columns (assessment_equal_names, p_dmg, updated) can be filtered in the same way. */
struct assessment *assessment_open_layer(OGRLayerH layer, const struct assessment *of,
                                         const char *collection_id, const char *title, struct err *e);
void assessment_close(struct assessment *as); /* accepts NULL */

/* First building whose fid is at least `fid`, n when there is none. */
size_t assessment_find(const struct assessment *as, int64_t fid);

#endif
