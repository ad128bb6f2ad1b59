/* SPDX-License-Identifier: Apache-2.0
 *
 * totals_parts.h - what the files of totals share: the map's buildings in memory (totals_map.c) and the graded
 * sample laid over them (totals_sample.c). */
#ifndef AM_TOTALS_PARTS_H
#define AM_TOTALS_PARTS_H

#include "geo/totals.h"
#include "geo/zones.h"

enum { TOTALS_NOT_DRAWN, TOTALS_DRAWN, TOTALS_GRADED };

struct totals_building {
    char *bldg_id;
    int64_t fid;
    double lon, lat; /* of the representative point */
    double p_dmg;    /* NAN without a chip */
    int level;       /* the map's; -1 unknown */
    bool trained, in_train_split;
    int zone, stratum; /* -1: outside all zones; stratum 0 when there are none */
    uint8_t state;     /* TOTALS_* */
    uint8_t truth;     /* graded: 0..3 or TOTALS_UNKNOWN */
    uint32_t draw;
};

struct totals_map {
    char *dir, *run_id, *created, *model_digest, *event_digest,
        *event_path; /* "" where the source has none */
    int cut;
    bool binary, is_event; /* is_event: no predictions in it */
    double operating_point;
    size_t n;
    struct totals_building *building; /* [n] in fid order */
    struct totals_building **by_id;   /* [n] sorted */
    char *strata_field;               /* NULL: one stratum */
    char **stratum;                   /* [n_strata] names, "FIELD=VALUE" */
    uint32_t *stratum_size;           /* [n_strata] buildings */
    int n_strata;
};

/* Reads the map (or event) in dir; zones may be NULL; strata_field NULL, "zone" or a column. */
bool totals_map_open(struct totals_map *m, const char *dir, struct zones *zones, const char *strata_field,
                     const struct progress *p, struct err *e);
void totals_map_close(struct totals_map *m);
struct totals_building *totals_map_find(const struct totals_map *m, const char *bldg_id);
int totals_map_stratum(const struct totals_map *m, const char *name); /* -1: none of that name */

/* One row of a sample file. */
struct totals_row {
    char *bldg_id, *stratum;
    uint32_t draw, n_stratum;
    bool graded;
    int level;
};
struct totals_sample {
    struct totals_row *row;
    size_t n;
    bool has_draw;
    char *strata_field; /* NULL: simple random */
};

/* Reads the rows of the sample that o names; no map needed yet. */
bool totals_sample_read(struct totals_sample *s, const struct totals_options *o, struct err *e);
void totals_sample_free(struct totals_sample *s);
/* Lays it over the map, and refuses what is no random sample of it. */
bool totals_sample_apply(const struct totals_sample *s, const struct totals_options *o, struct totals_map *m,
                         struct totals_report *r, struct err *e);

bool totals_note(struct totals_report *r, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
