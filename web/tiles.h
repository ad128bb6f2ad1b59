/* SPDX-License-Identifier: Apache-2.0
 *
 * tiles.h - picture layers of a map as 256 pixel PNG tiles of the Web Mercator pyramid, warped by GDAL on
 * demand.
 *
 * A layer is one or more rasters in any coordinate systems (pre and post as given to `tile`, or damage.tif).
 * A tile reads from each raster it touches just the window it needs, reduced through overviews, makes RGBA of
 * it, and warps that into place. The layer of shifts has no raster; its arrows are drawn. Samples wider than 8 bits are stretched between the 2nd and 98th percentile,
 * taken over the layer, never per tile.
 *
 * Safety: names come from run.json, so they are believed only when they are plain absolute paths; they are
 * opened with a short list of drivers, and rasters with absurd block sizes are refused before anything is
 * read. Threads: a raster is opened when first needed and read under its own lock; at most TILES_MAX_OPEN
 * stay open. */
#ifndef AM_TILES_H
#define AM_TILES_H

#include "models/base/err.h"
#include <cJSON.h>
#include <gdal.h>
#include <pthread.h>
#include <stdint.h>

enum { TILE_PRE, TILE_POST, TILE_DAMAGE, TILE_PROB, TILE_UNCERTAINTY, TILE_SHIFT, TILE_LAYERS };
enum { TILES_MAX_OPEN = 32, TILES_MAX_SOURCES = 4096, TILES_MAX_ZOOM = 24 };

struct tile_source {
    char *path;
    double box[4]; /* in EPSG:3857 metres */
    double geotransform[6], inverse[6];
    char *wkt;
    int width, height;
    int band[3], n_bands; /* 1 or 3 shown */
    int n_all_bands;
    char date[32];        /* as the file says it, YYYY-MM-DD; "" unknown */
    double resolution;    /* metres per pixel in EPSG:3857 */
    pthread_mutex_t lock; /* guards dataset */
    GDALDatasetH dataset; /* NULL: closed */
    uint64_t last_used;   /* guarded by the list of open sources */
};

enum tile_style {
    TILE_STYLE_IMAGE,
    TILE_STYLE_CLASSES,     /* pixel codes of the damage scale */
    TILE_STYLE_PROBABILITY, /* band 1 is p(damaged), 0..1: from pale to dark red */
    TILE_STYLE_UNCERTAINTY, /* of the same band, its binary entropy in bits: from pale to dark violet */
    TILE_STYLE_ARROWS       /* no raster: an arrow for each building */
};

/* How far the later image is shifted against the earlier one at a building (geo/alignment.h). */
struct tile_arrow {
    double x, y;   /* EPSG:3857 metres */
    float dx, dy;  /* metres on the ground, east and north */
    float quality; /* 0..1 */
};

struct tile_layer {
    struct tile_source *source; /* [n] */
    int n;
    char why[256];            /* nothing to show: why */
    struct tile_arrow *arrow; /* [n_arrows] */
    size_t n_arrows;
    enum tile_style style;
    bool is_byte;           /* samples are shown as they are */
    double low[3], high[3]; /* else: the stretch */
    double bounds[4];       /* degrees */
    int min_zoom, max_zoom;
    char date[32]; /* of the first raster, when it says; else "" */
};

extern const char *const tile_layer_names[TILE_LAYERS];

/* Looks at the rasters; never fails as a whole: what cannot be shown is left out, and `why` says so when
 * nothing remains. */
void tile_layer_open(struct tile_layer *layer, const char *const *paths, int n, enum tile_style style);
/* A layer of arrows, which become the layer's; none: `why` says so. */
void tile_layer_arrows(struct tile_layer *layer, struct tile_arrow *arrow, size_t n);
static inline bool tile_layer_is_there(const struct tile_layer *layer)
{
    return layer->n > 0 || layer->n_arrows > 0;
}
/* Longitude and latitude as EPSG:3857 metres. */
void tile_mercator(double lon, double lat, double *x, double *y);
void tile_layer_close(struct tile_layer *layer);

#endif
