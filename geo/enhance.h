/* SPDX-License-Identifier: Apache-2.0
 *
 * enhance.h - plausible detail for a georeferenced image by a Latent Adversarial Generator (models/learn/lag.h):
 * several versions of it on a grid as much finer as the model enlarges, marked as made up (synthetic.h).
 *
 * A generator has learnt images of one size, edges and all. A larger one is worked through in windows of that size, half
 * overlapping, and versions are blended by a tent: a mean of images that agree with the small one agrees as well.
 * Noise belongs to a place (lag_noise), so overlapping windows of a version imagine much the same.
 *
 * Values reach the model as its training's did: an event's chips, and images for a model taught by an event, stretched
 * (2nd percentile -> 32, 98th -> 223 of 255), 8-bit images for a model of plain images as they are. Versions go back to
 * the image's own units. Blank pixels stay blank.
 *
 * Memory: the image as floats, and one row of windows of all versions. One thread's, OpenMP inside the network. */
#ifndef AM_ENHANCE_H
#define AM_ENHANCE_H

#include "geo/event.h"
#include "models/learn/lag.h"

enum { ENHANCE_MAX_PIXELS = 1 << 24, ENHANCE_MAX_BANDS = 16, ENHANCE_MAX_VERSIONS = 64 };

struct enhance_image {
    int width, height, n_bands;
    float *px;      /* [height,width,n_bands] as the model sees it, 0 where blank; owned */
    uint8_t *blank; /* [height,width]; owned */
    bool has_blank;
    double nodata; /* what blank pixels become */
    double lo[ENHANCE_MAX_BANDS],
        hi[ENHANCE_MAX_BANDS]; /* own values of what the model sees as 32 and 223 of 255 */
    GDALDataType type;
    bool has_place;
    double geotransform[6];
    char *wkt;    /* owned */
    double gsd_m; /* metres a pixel; 0: not known */
};

/* The first n_bands bands of an image; stretch: by its own percentiles. false: ERR_NOT_FOUND, ERR_INPUT, ERR_USAGE. */
bool enhance_open(struct enhance_image *im, const char *path, int n_bands, bool stretch, struct err *e);
/* One date of a building's chip (which has one: page >= 0). */
bool enhance_open_chip(struct enhance_image *im, struct event *ev, size_t building, int date, struct err *e);
void enhance_close(struct enhance_image *im); /* accepts a zeroed record */

struct enhance_report {
    double off; /* rms of the image less the shrunk versions, grey levels of 255 as the model sees them */
    double sd;  /* of a pixel over the versions, root mean square, likewise */
};

/* Writes DIR/synthetic-STEM-{centre,1..n,sd}.tif and DIR/synthetic-STEM-sheet.png, which shows up to 96 pixels a side
 * around the middle: the image, the centre, up to six versions, sd (white: 64 grey levels). ERR_INPUT when the image
 * has fewer pixels a side than the model's windows. On failure none of these files is there but those finished before. */
bool enhance_write(const struct enhance_image *im, const struct lag_model *m, const char *dir,
                   const char *stem, int n_versions, uint64_t seed, const struct progress *p,
                   struct enhance_report *report, struct err *e);

#endif
