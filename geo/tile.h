/* SPDX-License-Identifier: Apache-2.0
 *
 * tile.h - from rasters and footprints to an event folder (event.h): one working grid in metres per pixel,
 * windowed reads, per-scene scaling, chips with masks, imported labels, spatial split. Memory is bounded by
 * the window, not by the scene. */
#ifndef AM_TILE_H
#define AM_TILE_H

#include "geo/alignment.h"
#include "geo/event.h"
#include "models/data/split.h"

struct tile_options {
    const char **pre, **post; /* files, folders or text files of paths; /vsi names allowed */
    int n_pre, n_post;
    const char *footprints;  /* OGR source, folder of sources, or NULL with grid_m > 0 */
    const char *layer;       /* NULL: the only or first one */
    double grid_m;           /* cells of this size instead of footprints */
    const char *id_field;    /* NULL: bldg_id, id, uid, fid in this order */
    const char *label_field; /* NULL: no labels */
    const char *label_map;   /* "value=level,..."; NULL: the scale's own names (and levels 0..3, -1) */
    double gsd_m, size_m;    /* 0.5, 32 */
    const char *bands;       /* "1,2,3": NULL: the first 3 (or all when fewer are shared) */
    double max_blank;        /* 0.25 */
    struct split_options split;
    const struct alignment_options
        *align;           /* NULL: chips as the images lie; else aligned before they appear */
    bool allow_synthetic; /* images that a model made up are taken, and the event says "synthetic": true */
    bool overwrite, dry_run;
    const char *out; /* event folder */
};

struct tile_report {
    size_t n_footprints, n_chips, n_excluded, n_labeled, n_repaired;
    size_t n_level[4];
    int grid_width, grid_height, n_blocks;
    size_t n_train, n_test, n_buffer;
    struct alignment_report alignment; /* zeros unless aligned */
};

void tile_defaults(struct tile_options *o);
/* Writes o->out (made whole under a temporary name, then renamed). With dry_run checks everything and writes
 * nothing. */
bool tile_run(const struct tile_options *o, const struct progress *p, struct tile_report *r, struct err *e);

#endif
