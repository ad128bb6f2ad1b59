/* SPDX-License-Identifier: Apache-2.0
 *
 * raster.h - the images of one date as one set of files, and reading any window of them on the working grid.
 *
 * raster.c checks each file once and remembers what it found; warp.c reads. A set is immutable once located
 * and may be shared by threads; a reader belongs to one thread. Reading needs memory for one window and GDAL's
 * block cache (bounded by geo_init), whatever the size of the files. */
#ifndef AM_RASTER_H
#define AM_RASTER_H

#include "geo/event.h"

struct raster_file {
    char *path; /* absolute, or the /vsi name as given */
    int width, height;
    int n_bands;               /* without alpha */
    int alpha;                 /* alpha band (1-based) or 0 */
    int band[EVENT_MAX_BANDS]; /* the bands used, 1-based */
    GDALDataType type;
    double gt[6], inverse[6]; /* pixel -> CRS and back */
    char *wkt;
    double nodata[EVENT_MAX_BANDS];
    bool has_nodata;     /* a pixel is blank when every band used equals its nodata value */
    bool has_mask;       /* a mask band of the whole file says what is blank; no alpha band */
    double gsd_x, gsd_y; /* ground size of a column and of a row at the image centre, metres */
    double gsd_m;        /* their geometric mean */
    double lon, lat;     /* image centre */
    char date[32];       /* TIFFTAG_DATETIME or "" */
    bool is_synthetic;   /* a model made it up (synthetic.h) */
    double box[4];       /* min x, min y, max x, max y in the working CRS: set by raster_locate */
};

struct raster_set {
    const char *phase; /* "pre" or "post", for messages */
    struct raster_file *file;
    int n;
    int n_bands; /* bands used */
};

/* Files, folders (every raster GDAL recognises in it, by name) and text files of paths become a checked set.
 * Each fault is one sentence naming the file and the mend. */
bool raster_set_open(struct raster_set *s, const char *phase, const char *const *names, int n, struct err *e);
void raster_set_free(struct raster_set *s); /* accepts a zeroed set */

/* Chooses the bands of both dates: the list "1,2,3" or, when NULL, the first three. Files of one date must
 * agree in their number of bands (unless listed) and in their sample type, since they share one scaling. */
bool raster_choose_bands(struct raster_set *pre, struct raster_set *post, const char *bands, struct err *e);

/* The working CRS as WKT (caller frees): the images' own when all files share one whose metre is true to half
 * a per cent here, else the UTM zone (UPS near the poles) of the scene's centre. */
char *raster_pick_crs(const struct raster_set *pre, const struct raster_set *post, struct err *e);

/* Sets every file's box and returns the union of the files' outlines in the working CRS
 * (OGR_G_DestroyGeometry). */
OGRGeometryH raster_locate(struct raster_set *s, const char *grid_wkt, struct err *e);

struct raster_reader;

/* `s` and `grid` must outlive the reader. */
struct raster_reader *raster_reader_open(const struct raster_set *s, const struct event_grid *grid,
                                         struct err *e);
void raster_reader_close(struct raster_reader *r); /* accepts NULL */

/* Another reader of the same open files, for another thread. Each is closed by itself, in any order. */
struct raster_reader *raster_reader_twin(const struct raster_reader *of, struct err *e);

/* Window (x, y, w, h) in pixels of the working grid, which may reach beyond it. px [bands,h,w] gets the
 * values in the source's units, 0 where blank; valid [h,w] gets 1 where a file has data. The first file with
 * data wins. Bilinear, with a wider kernel when the source is finer than the grid. */
bool raster_read(struct raster_reader *r, int x, int y, int w, int h, float *px, uint8_t *valid,
                 struct err *e);

/* The same as stored bytes (scale_apply with lo and hi [bands]), of only those pixels whose need [h,w] is not 0 (NULL:
 * all): px [bands,h,w] of the others is left as it is and their valid is 0. Of the files only the blocks under pixels
 * needed are read. */
bool raster_read_bytes(struct raster_reader *r, int x, int y, int w, int h, const uint8_t *need,
                       const double *lo, const double *hi, uint8_t *px, uint8_t *valid, struct err *e);

/* Percentiles lo and hi (0.02, 0.98) of every band of both dates over ground that has data in both, from a
 * bounded lattice of windows (scale.c). overlap: polygon in the working CRS. At least one valid pixel is
 * required: else ERR_INPUT. */
bool scale_measure(struct raster_reader *pre, struct raster_reader *post, OGRGeometryH overlap,
                   const struct event_grid *grid, int n_bands, double lo[2][EVENT_MAX_BANDS],
                   double hi[2][EVENT_MAX_BANDS], const struct progress *p, struct err *e);

/* Source value -> stored byte: lo -> 32, hi -> 223, linear, clamped. */
uint8_t scale_apply(float value, double lo, double hi);
void scale_run(const float *value, int n, double lo, double hi,
               uint8_t *out); /* the same for n values, none a NaN */

/* GDAL's last message of this thread as one line, in `out`. */
const char *geo_message(char *out, size_t size);

/* A spatial reference in x = longitude / easting order from any user text ("EPSG:4326", WKT).
 * OSRDestroySpatialReference. */
OGRSpatialReferenceH geo_srs(const char *text, struct err *e);
OGRCoordinateTransformationH geo_transform(const char *from, const char *to,
                                           struct err *e); /* OCTDestroy... */

#endif
