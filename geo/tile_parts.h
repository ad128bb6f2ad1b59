/* SPDX-License-Identifier: Apache-2.0
 *
 * tile_parts.h - what the files of `aftermap tile` share: tile.c checks and plans, tile_chips.c reads windows
 * and cuts chips, tile_index.c writes the index and the manifest. */
#ifndef AM_TILE_PARTS_H
#define AM_TILE_PARTS_H

#include "geo/chips.h"
#include "geo/raster.h"
#include "geo/tile.h"
#include "geo/vector.h"
#include <pthread.h>

/* The plan and fate of one footprint's chip; same index as the footprint. */
struct tile_chip {
    int x, y;       /* north-west pixel on the working grid */
    bool candidate; /* its square touches ground that both dates show */
    double blank;   /* share without data in either date; 1 when no candidate */
    int64_t page;   /* -1 when left out */
    int32_t block;  /* -1 when left out */
    uint8_t split;  /* enum imageset_split */
};

/* The SHA-256 of the input images, computed beside the cutting. */
struct tile_digests {
    pthread_t thread;
    bool is_running, ok;
    struct err err;
    char (*hex[2])[65]; /* [n files] of each date, "" where there is no file to read (/vsi names) */
};

struct tiling {
    const struct tile_options *o;
    const struct progress *p;
    int window_px;
    struct raster_set set[2];
    struct vector_set v;
    OGRGeometryH overlap; /* ground that both dates show, working CRS */
    struct event_grid grid;
    struct imageset_layout layout;
    double lo[2][EVENT_MAX_BANDS], hi[2][EVENT_MAX_BANDS];
    struct tile_chip *chip; /* [v.n] */
    size_t n_pages;
    struct tile_digests digests;
    struct split_options split; /* as used: distances at least a chip's diagonal */
    struct split_report split_report;
};

/* tile_run with the side of a reading window given (default TILE_WINDOW_PX): results do not depend on it. */
enum { TILE_WINDOW_PX = 1024 };
bool tile_run_window(const struct tile_options *o, int window_px, const struct progress *p,
                     struct tile_report *r, struct err *e);

/* Reads every window that holds a candidate, fills blank and page, appends kept chips to `out` (NULL: only
 * counts). */
bool tile_cut_chips(struct tiling *t, struct chips_writer *out, struct err *e);

/* Starts the digests of t's images on another thread; tile_digests_end waits for it (when it runs) and, with e not
 * NULL, says how it went. The results stay until tile_digests_free. */
bool tile_digests_start(struct tiling *t, struct err *e);
bool tile_digests_end(struct tiling *t, struct err *e);
void tile_digests_free(struct tiling *t);

bool tile_write_index(const struct tiling *t, const char *path, struct err *e);
/* dir: the folder being made, with chips.tif and chips.gpkg complete. */
bool tile_write_manifest(const struct tiling *t, const char *dir, const struct tile_report *r, struct err *e);

#endif
