/* SPDX-License-Identifier: Apache-2.0
 *
 * synthetic.h - images that a model made up, written so that nobody can take them for observations: the file's
 * name begins with "synthetic-", its description says SYNTHETIC, by what and from which model, its metadata says
 * SYNTHETIC=YES (which `aftermap info` repeats), and a GeoTIFF has one more band than the image, all ones and
 * called "synthetic". Images invented altogether have no place on earth; those that add detail to a real image
 * (lab lag enhance) lie where that image lies. None has a date.
 *
 * The same marks are what keeps them out of the assessment: synthetic_dataset_marked() and its sisters are asked
 * before anything is taken for an observation. They look at what GDAL's programs carry along (description, band
 * name), not at the file's name. A scene drawn by aftermap-scene is SYNTHETIC=YES as well but not made up by a
 * model: it is practice ground, its truth is known, and it counts as unmarked here.
 *
 * An event that was cut from marked images says "synthetic": true in its event.json.
 *
 * Ownership: nothing is kept but the open file of a struct synthetic_tiff. Threads: as GDAL, one a dataset. */
#ifndef AM_SYNTHETIC_H
#define AM_SYNTHETIC_H

#include "geo/event.h"
#include "models/base/err.h"
#include <gdal.h>
#include <stdint.h>

struct synthetic_mark {
    const char *algorithm; /* "diffusion" */
    const char *model;     /* digest of the model's weights */
    uint64_t seed;
    const char *shows; /* what the image was asked to show; NULL: nothing in particular */
};

#define SYNTHETIC_PREFIX "synthetic-"

/* px [h,w,n_bands] -> GeoTIFF of n_bands + 1 bands. path must carry the prefix (asserted). Atomic. */
bool synthetic_write_tiff(const char *path, const uint8_t *px, int w, int h, int n_bands,
                          const struct synthetic_mark *mark, struct err *e);
/* px [h,w,3] -> PNG. The same rules. */
bool synthetic_write_png(const char *path, const uint8_t *px, int w, int h, const struct synthetic_mark *mark,
                         struct err *e);

/* A GeoTIFF of any size, written piece by piece: samples of `type`, at geotransform (GDAL's order) in the
 * coordinate system wkt, both or neither NULL. */
struct synthetic_form {
    int width, height, n_bands;
    GDALDataType type;
    const double *geotransform;
    const char *wkt;
};
struct synthetic_tiff {
    GDALDatasetH ds; /* bands 1..n_bands are the caller's to write; the band of ones is there already */
    char path[4096], temp[4096];
};
/* path must carry the prefix (asserted). false: nothing is open and nothing is left behind. */
bool synthetic_tiff_open(struct synthetic_tiff *t, const char *path, const struct synthetic_form *form,
                         const struct synthetic_mark *mark, struct err *e);
/* Ends the file: keep renames it to its name, otherwise it is removed. Accepts a zeroed record. */
bool synthetic_tiff_close(struct synthetic_tiff *t, bool keep, struct err *e);

/* Whether a model made it up: the description begins "SYNTHETIC (aftermap ", or a band is called "synthetic". */
bool synthetic_dataset_marked(GDALDatasetH ds);
/* The same of a file, or of a folder: an event that says so, or one with a list of made-up images
 * (SYNTHETIC_LIST). What cannot be opened is not marked: whoever reads it next says what is wrong with it. */
bool synthetic_path_marked(const char *path);
bool synthetic_event_marked(const struct event *ev);

#define SYNTHETIC_LIST SYNTHETIC_PREFIX "list.json"

#endif
