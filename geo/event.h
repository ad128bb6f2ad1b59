/* SPDX-License-Identifier: Apache-2.0
 *
 * event.h - an event on disk: the folder that `aftermap tile` makes and everything later reads.
 *
 *   EVENT/event.json   manifest: version, inputs and digests, working grid, scaling, label map, split, counts
 *   EVENT/chips.tif    multi-page BigTIFF (libtiff), a page per chip, samples in imageset.h's order
 *   EVENT/chips.gpkg   layer "buildings" (EPSG:4326), one row per footprint, kept or not
 *
 * chips.gpkg columns: fid (1-based row number), bldg_id (text, the source's id kept), page (0-based chip
 * page, -1 when no chip was kept), status (ok, excluded), reason (contract g: nodata, no_building, ... or
 * empty), dmg_class, dmg_level (-1 unknown), block, split (train, test, buffer), lon, lat, x_m, y_m (working
 * grid), area_m2 (geodesic), blank (share of the chip without data in either date). Once `aftermap align` has
 * run also shift_x, shift_y, shift_q and shift_by (geo/alignment.h), NULL where a building has no chip.
 *
 * Band samples are 8 bit after one linear scaling per date and band, computed once over the scene (never per
 * chip): the 2nd percentile maps to 32, the 98th to 223, so highlights beyond them survive. Chips over 25 %
 * blank are kept out. */
#ifndef AM_EVENT_H
#define AM_EVENT_H

#include "models/base/progress.h"
#include "models/data/imageset.h"
#include <gdal.h>
#include <ogr_api.h>

enum { EVENT_MAX_BANDS = 8, EVENT_PRE = 0, EVENT_POST = 1 };

/* The working grid: a north-up metric raster every chip and every output raster lies on. */
struct event_grid {
    char *wkt;              /* projected CRS (UTM zone of the scene unless the scene's own is metric) */
    double geotransform[6]; /* GDAL order; pixel = gsd_m, north up */
    int width, height;      /* pixels */
    double gsd_m;
};

struct event_building {
    int64_t fid;         /* 1-based row in chips.gpkg and in every output */
    const char *bldg_id; /* owned by the event */
    int64_t page;        /* chip page or -1 */
    const char *status, *reason;
    int16_t level; /* 0..3, -1 unknown */
    int32_t block;
    uint8_t split; /* enum imageset_split */
    double lon, lat, x_m, y_m, area_m2, blank;
    double shift_x, shift_y, shift_q; /* metres and 0..1 (alignment.h); NAN: never aligned */
    const char *shift_by;             /* measured, neighbours, skipped, hand; "": never aligned */
    OGRGeometryH geometry;            /* lon/lat (EPSG:4326, x = longitude), owned by the event */
};

struct event {
    char *dir;
    char *manifest;  /* event.json as text */
    char digest[65]; /* SHA-256 over manifest text: identifies the event */
    struct event_grid grid;
    struct imageset_layout layout; /* of the chips */
    double size_m;
    double scale_lo[2][EVENT_MAX_BANDS], scale_hi[2][EVENT_MAX_BANDS]; /* 2nd and 98th percentile */
    char **path[2]; /* source rasters of pre and post, n_path[d] of them, as given (absolute) */
    int n_path[2];
    size_t n;
    struct event_building *building; /* [n] in fid order */
    size_t n_chips;                  /* pages */
    struct chips *chips;             /* the open chip store (chips.h) */
};

/* Opens and checks an event folder (index in memory, chips stay on disk). NULL with a sentence naming the
 * file. A change of its files that was cut short is ended first (event_files.h). */
struct event *event_open(const char *dir, struct err *e);
void event_close(struct event *ev); /* accepts NULL */

/* Reads chips of the given pages into px [n,size,size,stored channels]. Not thread-safe on one handle. */
bool event_read_chips(struct event *ev, const int64_t *pages, size_t n, uint8_t *px, struct err *e);

/* Loads all chips that training may use as an imageset, likeness channel on: id = fid, label from the level at `cut` (binary:
 * level >= cut; cut 0: the four grades), block and split from the index. At most max_items (0: no limit) of
 * the unlabelled ones, drawn by seed. */
bool event_load_imageset(struct event *ev, int cut, size_t max_items, uint64_t seed, struct imageset *set,
                         const struct progress *p, struct err *e);

/* spec: a folder, with or without "folder:" before it and steps to another layout behind it (imageset.h): one
 * sub-folder a class, any image GDAL reads, all of one size; classes in name order. */
bool event_load_folder(struct imageset *set, const char *spec, double test_share, uint64_t seed,
                       const struct progress *p, struct err *e);

/* The damage scale (contract g). */
const char *event_level_name(int level);              /* "none".."destroyed", "unknown" for -1 */
bool event_level_parse(const char *name, int *level); /* the scale's own names and "unknown" */
bool event_reason_known(const char *reason);
const char *
event_reason_text(const char *reason); /* the same text in static storage; NULL when not known; "" is "" */

/* The same text of static storage when it says how a shift came about ("" included), else NULL. */
const char *event_shift_text(const char *by);

/* Registers just the GDAL/OGR drivers aftermap needs; call once. `all` registers every driver (command line
 * only: never in the server, where a VRT named x.tif would read any file). Installs a quiet error handler. */
void geo_init(bool all_drivers);

#endif
